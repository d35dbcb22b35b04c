//! Vectors that come of crossing small tables: every flag nibble, property and Reason Code with every packet.

use damselfly_codec::{Packet, Version};

use crate::render::{binary, describe};
use crate::table::decode_whole;
use crate::vectors::{bytes_of, hex, rows};

struct Carrier {
    name: &'static str,
    with_properties: &'static str,
    with_code: &'static str,
}

fn carriers() -> Vec<Carrier> {
    rows(include_str!("../../testdata/carriers.tsv"))
        .map(|row| Carrier { name: row[0], with_properties: row[1], with_code: row[2] })
        .collect()
}

impl Carrier {
    fn bytes_with(&self, property: &str, inserted: &str) -> Vec<u8> {
        let own = if property == "authentication_method" { "" } else { r#"15 {"m"}"# };
        let text = self.with_properties.replace(r#"15 {"m"}"#, own).replace('@', inserted);
        bytes_of(self.name, &text)
    }
}

/// A cell of `properties.tsv`: bytes, and what becomes of them.
fn values(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    cell.split("; ").filter(|value| *value != "-").map(|value| value.split_once('=').expect("bytes=outcome"))
}

fn decode(bytes: &[u8]) -> Result<Packet<'_>, u8> {
    decode_whole(bytes, Version::V5_0).map_err(|error| u8::from(error.reason_code()))
}

#[test]
fn properties_are_read_in_the_packets_of_table_2_4() {
    for row in rows(include_str!("../../testdata/properties.tsv")) {
        let [property, allowed, _, homes] = *row else { panic!("four columns: {row:?}") };
        for carrier in carriers() {
            let home = homes.split(' ').find(|home| home.trim_end_matches('*') == carrier.name);
            for (text, value) in values(allowed) {
                let bytes = carrier.bytes_with(property, text);
                let place = format!("{property} in {}: {text}", carrier.name);
                match (home, decode(&bytes)) {
                    (Some(_), Ok(packet)) => {
                        let description = describe(&packet, Version::V5_0);
                        let wanted = format!("{property}={value}");
                        assert!(description.contains(&wanted), "{place}: {wanted} is not in {description}");
                    }
                    // Not valid for this packet type: malformed, section 2.2.2.2.
                    (None, Err(code)) => assert_eq!(code, 0x81, "{place}"),
                    (Some(_), Err(code)) => panic!("{place}: refused with {code:02X}"),
                    (None, Ok(packet)) => panic!("{place}: accepted as {packet:?}"),
                }
            }
        }
    }
}

#[test]
fn properties_out_of_range_are_refused_where_they_are_allowed() {
    for row in rows(include_str!("../../testdata/properties.tsv")) {
        let [property, _, refused, homes] = *row else { panic!("four columns: {row:?}") };
        for carrier in carriers().iter().filter(|carrier| is_home(homes, carrier.name)) {
            for (text, code) in values(refused) {
                let outcome = decode_code(&carrier.bytes_with(property, text));
                assert_eq!(outcome, Err(hex(code)), "{property} in {}: {text}", carrier.name);
            }
        }
    }
}

#[test]
fn properties_appear_twice_only_where_they_may() {
    for row in rows(include_str!("../../testdata/properties.tsv")) {
        let [property, allowed, _, homes] = *row else { panic!("four columns: {row:?}") };
        let (text, _) = values(allowed).last().expect("a value");
        for carrier in carriers().iter().filter(|carrier| is_home(homes, carrier.name)) {
            let repeats = homes.split(' ').any(|home| home.strip_suffix('*') == Some(carrier.name));
            for between in ["", r#"26 {"k"} {"v"}"#] {
                let outcome = decode_code(&carrier.bytes_with(property, &format!("{text} {between} {text}")));
                let wanted = if repeats { Ok(()) } else { Err(0x82) };
                assert_eq!(outcome, wanted, "{property} twice in {}", carrier.name);
            }
        }
    }
}

#[test]
fn properties_cut_anywhere_are_refused() {
    for row in rows(include_str!("../../testdata/properties.tsv")) {
        let [property, allowed, _, homes] = *row else { panic!("four columns: {row:?}") };
        for carrier in carriers().iter().filter(|carrier| is_home(homes, carrier.name)) {
            for (text, _) in values(allowed) {
                let whole = bytes_of(property, text);
                for cut in 1..whole.len() {
                    let short = binary(&whole[..cut]);
                    let outcome = decode_code(&carrier.bytes_with(property, &short));
                    assert_eq!(outcome, Err(0x81), "{property} in {}: {text} cut to {cut} bytes", carrier.name);
                }
            }
        }
    }
}

#[test]
fn unknown_property_identifiers_are_malformed_in_every_packet() {
    let known: Vec<u8> = rows(include_str!("../../testdata/properties.tsv")).map(|row| hex(&row[1][..2])).collect();
    assert_eq!(known.len(), 27);
    for carrier in carriers() {
        for id in (0..0x80).filter(|id| !known.contains(id)) {
            let outcome = decode_code(&carrier.bytes_with("", &format!("{id:02X} 00000001")));
            assert_eq!(outcome, Err(0x81), "identifier {id:02X} in {}", carrier.name);
        }
    }
}

/// [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2]
/// [MQTT-3.14.2-1] [MQTT-3.15.2-1]
#[test]
fn reason_codes_are_those_of_the_packet() {
    for row in rows(include_str!("../../testdata/reason_codes.tsv")) {
        let [name, statement, codes] = *row else { panic!("three columns: {row:?}") };
        let listed: Vec<u8> = codes.split(' ').map(hex).collect();
        let carriers = carriers();
        let carrier = carriers.iter().find(|carrier| carrier.name == name).expect("a carrier");
        for code in 0..=u8::MAX {
            let bytes = bytes_of(name, &carrier.with_code.replace('?', &format!("{code:02X}")));
            match decode_whole(&bytes, Version::V5_0) {
                Ok(packet) => {
                    assert!(listed.contains(&code), "{name} accepts {code:02X}");
                    let description = describe(&packet, Version::V5_0);
                    assert!(description.contains(&format!("{code:02X}")), "{code:02X} became {description}");
                }
                Err(error) => {
                    assert!(!listed.contains(&code), "{name} refuses {code:02X}: {error}");
                    assert_eq!(
                        (u8::from(error.reason_code()), error.statement()),
                        (0x82, statement),
                        "{name} {code:02X}"
                    );
                }
            }
        }
    }
}

/// Each value of the lower four bits of the first byte, for each packet type. [MQTT-2.1.3-1] [MQTT3-2.2.2-1]
/// [MQTT3-2.2.2-2]
#[test]
fn fixed_header_flags_are_those_of_the_packet_type() {
    for carrier in carriers().iter().filter(|carrier| carrier.name != "PUBLISH") {
        let bytes = carrier.bytes_with("", "");
        for nibble in (0..16).filter(|nibble| bytes[0] & 0x0F != *nibble) {
            let mut wrong = bytes.clone();
            wrong[0] = bytes[0] & 0xF0 | nibble;
            assert_eq!(decode_code(&wrong), Err(0x81), "{} with flags {nibble:04b}", carrier.name);
        }
    }
}

fn is_home(homes: &str, carrier: &str) -> bool {
    homes.split(' ').any(|home| home.trim_end_matches('*') == carrier)
}

fn decode_code(bytes: &[u8]) -> Result<(), u8> {
    decode(bytes).map(|_| ())
}
