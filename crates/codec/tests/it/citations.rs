//! Every statement about bytes has a vector that shows it.

use std::collections::BTreeSet;

use damselfly_codec::Version;

use crate::vectors::all;

/// The statements of 5.0 that concern the codec.
const FIVE: [&str; 57] = [
    "[MQTT-1.5.4-1]",
    "[MQTT-1.5.4-2]",
    "[MQTT-1.5.4-3]",
    "[MQTT-1.5.5-1]",
    "[MQTT-1.5.7-1]",
    "[MQTT-2.1.3-1]",
    "[MQTT-2.2.1-2]",
    "[MQTT-2.2.2-1]",
    "[MQTT-3.1.2-3]",
    "[MQTT-3.1.2-9]",
    "[MQTT-3.1.2-11]",
    "[MQTT-3.1.2-12]",
    "[MQTT-3.1.2-13]",
    "[MQTT-3.1.2-16]",
    "[MQTT-3.1.2-17]",
    "[MQTT-3.1.2-18]",
    "[MQTT-3.1.2-19]",
    "[MQTT-3.1.3-1]",
    "[MQTT-3.1.3-3]",
    "[MQTT-3.1.3-4]",
    "[MQTT-3.1.3-11]",
    "[MQTT-3.1.3-12]",
    "[MQTT-3.2.2-1]",
    "[MQTT-3.2.2-8]",
    "[MQTT-3.3.1-2]",
    "[MQTT-3.3.1-4]",
    "[MQTT-3.3.2-1]",
    "[MQTT-3.3.2-2]",
    "[MQTT-3.3.2-13]",
    "[MQTT-3.3.2-14]",
    "[MQTT-3.3.2-19]",
    "[MQTT-3.4.2-1]",
    "[MQTT-3.5.2-1]",
    "[MQTT-3.6.1-1]",
    "[MQTT-3.6.2-1]",
    "[MQTT-3.7.2-1]",
    "[MQTT-3.8.1-1]",
    "[MQTT-3.8.3-1]",
    "[MQTT-3.8.3-2]",
    "[MQTT-3.8.3-5]",
    "[MQTT-3.9.3-2]",
    "[MQTT-3.10.1-1]",
    "[MQTT-3.10.3-1]",
    "[MQTT-3.10.3-2]",
    "[MQTT-3.11.3-2]",
    "[MQTT-3.14.1-1]",
    "[MQTT-3.14.2-1]",
    "[MQTT-3.15.1-1]",
    "[MQTT-3.15.2-1]",
    "[MQTT-4.7.0-1]",
    "[MQTT-4.7.1-1]",
    "[MQTT-4.7.1-2]",
    "[MQTT-4.7.3-1]",
    "[MQTT-4.7.3-2]",
    "[MQTT-4.7.3-3]",
    "[MQTT-4.8.2-1]",
    "[MQTT-4.8.2-2]",
];

/// The statements of 3.1.1 that concern the codec.
const THREE: [&str; 43] = [
    "[MQTT3-1.5.3-1]",
    "[MQTT3-1.5.3-2]",
    "[MQTT3-1.5.3-3]",
    "[MQTT3-2.2.2-1]",
    "[MQTT3-2.2.2-2]",
    "[MQTT3-2.3.1-1]",
    "[MQTT3-2.3.1-5]",
    "[MQTT3-3.1.2-3]",
    "[MQTT3-3.1.2-9]",
    "[MQTT3-3.1.2-11]",
    "[MQTT3-3.1.2-13]",
    "[MQTT3-3.1.2-14]",
    "[MQTT3-3.1.2-15]",
    "[MQTT3-3.1.2-18]",
    "[MQTT3-3.1.2-19]",
    "[MQTT3-3.1.2-20]",
    "[MQTT3-3.1.2-21]",
    "[MQTT3-3.1.2-22]",
    "[MQTT3-3.1.3-1]",
    "[MQTT3-3.1.3-3]",
    "[MQTT3-3.1.3-4]",
    "[MQTT3-3.1.3-10]",
    "[MQTT3-3.1.3-11]",
    "[MQTT3-3.3.1-2]",
    "[MQTT3-3.3.1-4]",
    "[MQTT3-3.3.2-1]",
    "[MQTT3-3.3.2-2]",
    "[MQTT3-3.6.1-1]",
    "[MQTT3-3.8.1-1]",
    "[MQTT3-3.8.3-1]",
    "[MQTT3-3.8.3-3]",
    "[MQTT3-3.8.3-4]",
    "[MQTT3-3.9.3-2]",
    "[MQTT3-3.10.1-1]",
    "[MQTT3-3.10.3-1]",
    "[MQTT3-3.10.3-2]",
    "[MQTT3-3.14.1-1]",
    "[MQTT3-4.7.1-1]",
    "[MQTT3-4.7.1-2]",
    "[MQTT3-4.7.1-3]",
    "[MQTT3-4.7.3-1]",
    "[MQTT3-4.7.3-2]",
    "[MQTT3-4.7.3-3]",
];

#[test]
fn statements_about_bytes_have_a_vector_each() {
    let mut shown = BTreeSet::new();
    for vector in all() {
        let is_five = vector.version == Version::V5_0;
        for statement in vector.statements {
            assert_eq!(statement.starts_with("MQTT-"), is_five, "{}: {statement}", vector.name);
            shown.insert(format!("[{statement}]"));
        }
    }
    let missing: Vec<_> = FIVE.iter().chain(&THREE).filter(|statement| !shown.contains(**statement)).collect();
    assert!(missing.is_empty(), "no vector shows {missing:?}");
}
