//! Topic Aliases: what they add to a packet, and the memory they take.

use damselfly_codec::{Delivery, Foreign, Properties, PropertiesBuf, Property, Publish, TopicAlias, Version};
use damselfly_session::{InboundAliases, OutboundAliases};
use damselfly_topic::{TopicName, TopicNameBuf};

fn topic(text: &str) -> TopicName<'_> {
    TopicName::new(text).expect("a name")
}

fn alias(value: u16) -> TopicAlias {
    TopicAlias::new(value).expect("tests use no zero")
}

fn len_with(properties: Properties<'_>, payload: &[u8]) -> usize {
    let publish =
        Publish { delivery: Delivery::AtMostOnce, retain: false, topic: Some(topic("home/lamp")), properties, payload };
    publish.encoded_len(Version::V5_0, Foreign::Reject).expect("it fits")
}

#[test]
fn alias_adds_at_most_what_is_said_to_a_packet() {
    let payload = vec![0; 16_400];
    let mut most = 0;
    for text in ["x".repeat(118), "x".repeat(119), "x".repeat(120), "x".repeat(122), "x".repeat(123)] {
        let mut without = PropertiesBuf::new();
        without.push(Property::UserProperty("", &text)).expect("valid");
        let mut with = without.clone();
        with.push(Property::TopicAlias(alias(65_535))).expect("valid");
        // Around the Remaining Length that takes one byte more, 16,384.
        for len in 16_200..payload.len() {
            let payload = &payload[..len];
            most = most.max(len_with(with.as_properties(), payload) - len_with(without.as_properties(), payload));
        }
    }
    assert_eq!(most, OutboundAliases::ALIAS_LEN);
}

#[test]
fn maximum_of_a_table_is_what_it_was_made_with() {
    for maximum in [0, 3, 65_535] {
        assert_eq!(InboundAliases::new(maximum, 1_000).maximum(), maximum);
        assert_eq!(OutboundAliases::new(maximum, 1_000).maximum(), maximum);
    }
}

#[test]
fn inbound_table_is_as_long_as_the_greatest_alias_and_no_longer() {
    let place = size_of::<Option<TopicNameBuf>>();
    let mut aliases = InboundAliases::new(10, 1_000);
    assert_eq!(aliases.heap_bytes(), 0);
    for (value, places, texts) in [(1, 1, 5), (3, 3, 10), (2, 3, 15), (7, 7, 20)] {
        aliases.set(alias(value), topic("a/b/c")).expect("it fits");
        assert_eq!(aliases.heap_bytes(), places * place + texts, "alias {value}");
    }
}

#[test]
fn outbound_table_pays_for_its_topics_and_34_bytes_for_each() {
    let mut aliases = OutboundAliases::new(64, 10_000);
    assert!(aliases.is_empty());
    assert_eq!(aliases.heap_bytes(), 0);
    for index in 0..64 {
        assert!(aliases.assign(topic(&format!("ten/byte{index:02}"))).is_some_and(|assigned| assigned.send_topic));
        assert!(!aliases.is_empty());
    }
    // A power of two fills the tables, which double.
    assert_eq!((aliases.len(), aliases.heap_bytes()), (64, 64 * (10 + 32 + 2)));
}

#[test]
fn topic_that_fills_the_bytes_takes_the_place_of_another() {
    let mut aliases = OutboundAliases::new(1, 10);
    for (text, is_assigned) in [("four", true), ("eleven byte", false), ("ten bytes.", true), ("four", true)] {
        assert_eq!(aliases.assign(topic(text)).is_some(), is_assigned, "{text}");
    }
}

#[test]
fn short_topic_gives_back_what_a_long_one_took_but_for_as_much_again() {
    let table = |len: usize, text: &str| {
        let mut aliases = OutboundAliases::new(1, 10_000);
        assert!(aliases.assign(topic(&"x".repeat(len))).is_some());
        let before = aliases.heap_bytes();
        assert!(aliases.assign(topic(text)).is_some());
        before - aliases.heap_bytes()
    };
    assert_eq!(table(1_000, "ten bytes."), 1_000 - 20);
    assert_eq!(table(20, "ten bytes."), 0, "this much may stay");
    assert_eq!(table(21, "ten bytes."), 1);
}
