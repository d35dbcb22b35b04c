//! What is stored comes back the same, and what was tampered with does not come back.

use core::num::NonZeroU16;

use damselfly_codec::{Delivery, PacketId, PropertiesBuf, Property, Publish, Version};
use damselfly_session::{
    Message, PacketIds, ReceiveInput, ReceivedIds, SendState, SessionExpiry, Snapshot, StoredExchange, StoredSession,
    StoredWill, Timestamp,
};
use damselfly_topic::TopicName;
use proptest::prelude::*;

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("tests use no zero")
}

fn message(text: &str) -> Message {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::MessageExpiryInterval(60)).expect("valid");
    properties.push(Property::UserProperty("a", "b")).expect("valid");
    let topic = TopicName::new(text).expect("a name");
    let publish = Publish {
        delivery: Delivery::ExactlyOnce { id: id(9), dup: false },
        retain: true,
        topic: Some(topic),
        properties: properties.as_properties(),
        payload: b"\x00\xFFpayload",
    };
    Message::new(&publish, topic, Timestamp::from_secs(100))
}

fn session() -> StoredSession {
    let mut ids = PacketIds::new();
    for value in [2, 1, 65_535, 7] {
        assert!(ids.reserve(id(value)), "7 is that of a SUBSCRIBE");
    }
    let mut received = ReceivedIds::new(NonZeroU16::new(3).expect("not zero"));
    for value in [5, 300] {
        received.handle(Version::V5_0, id(value), ReceiveInput::PublishQos2).expect("below the limit");
    }
    let exchanges = [
        StoredExchange::new(id(2), SendState::AwaitPuback, Some(message("b"))),
        StoredExchange::new(id(1), SendState::AwaitPubrec, Some(message("a/\u{1F41F}"))),
        StoredExchange::new(id(65_535), SendState::AwaitPubcomp, None),
    ];
    StoredSession::new(SessionExpiry::from_wire(Some(30)), exchanges, &ids, &received)
}

fn written() -> String {
    serde_json::to_string(&Snapshot(session())).expect("can be written")
}

fn read(text: &str) -> Result<StoredSession, String> {
    serde_json::from_str::<Snapshot<StoredSession>>(text).map(|snapshot| snapshot.0).map_err(|error| error.to_string())
}

/// [MQTT-3.1.2-23] [MQTT-4.1.0-1] [MQTT3-3.1.2-4]
#[test]
fn session_comes_back_as_it_was_stored() {
    let restored = read(&written()).expect("just written");
    assert_eq!(restored, session());
    assert_eq!(restored.exchanges.iter().map(|exchange| exchange.packet_id.get()).collect::<Vec<_>>(), [2, 1, 65_535]);
    assert!(!restored.packet_ids.contains(id(7)), "a SUBSCRIBE does not outlive its connection");
    assert!(restored.received.contains(id(300)));
    assert_eq!(restored.exchanges[1].message.as_ref().map(Message::payload), Some(&b"\x00\xFFpayload"[..]));
}

#[test]
fn packet_ids_go_on_where_they_stopped() {
    let mut ids = PacketIds::new();
    for _ in 0..5 {
        let given = ids.allocate().expect("one is free");
        assert!(ids.release(given));
    }
    let text = serde_json::to_string(&ids).expect("can be written");
    let mut restored: PacketIds = serde_json::from_str(&text).expect("just written");
    assert_eq!(restored.allocate(), Some(id(6)), "a late acknowledgement cannot hit a new packet");
}

#[test]
fn newer_version_is_refused_and_both_numbers_are_named() {
    let newer = written().replacen("\"version\":1", "\"version\":2", 1);
    let error = read(&newer).expect_err("not known");
    assert!(error.starts_with("session has version 2, and versions up to 1 are known"), "{error}");
    let zero = written().replacen("\"version\":1", "\"version\":0", 1);
    let error = read(&zero).expect_err("never written");
    assert!(error.starts_with("session has version 0, and versions up to 1 are known"), "{error}");
}

#[test]
fn value_of_a_newer_version_is_not_even_looked_at() {
    let error = read(r#"{"version":9,"value":"in a form nobody knows"}"#).expect_err("not known");
    assert!(error.starts_with("session has version 9"), "{error}");
    let error = read(r#"{"value":{},"version":1}"#).expect_err("in the wrong order");
    assert!(error.starts_with("the version of a session has to come first"), "{error}");
}

#[test]
fn compact_formats_have_the_version_in_front_too() {
    let value = serde_json::to_string(&session()).expect("can be written");
    assert_eq!(read(&format!("[1,{value}]")), Ok(session()));
    assert!(read(&format!("[2,{value}]")).expect_err("not known").contains("version 2"));
}

#[test]
fn stored_session_that_does_not_hold_together_is_refused() {
    let text = written();
    for (from, to, complaint) in [
        ("\"packet_id\":2,", "\"packet_id\":1,", "two exchanges have one packet identifier"),
        ("\"packet_id\":2,", "\"packet_id\":3,", "the packet identifiers in use are not those of the exchanges"),
        ("\"packet_id\":2,", "\"packet_id\":0,", ""),
        ("[1,2,65535]", "[1,2,2]", "a packet identifier comes twice"),
        ("[1,2,65535]", "[1,2,65536]", ""),
        ("\"AwaitPubcomp\"", "\"AwaitPuback\"", "a message under way is missing"),
        ("\"AwaitPubcomp\"", "\"AwaitGodot\"", "unknown variant"),
        ("\"limit\":3", "\"limit\":0", ""),
        ("\"topic\":\"b\"", "\"topic\":\"b/#\"", "wildcard"),
        ("\"topic\":\"b\"", "\"topic\":\"\"", ""),
        ("\"qos\":2", "\"qos\":3", ""),
        ("\"expiry\":", "\"unknown\":1,\"expiry\":", "unknown field"),
    ] {
        let tampered = text.replacen(from, to, 1);
        assert_ne!(tampered, text, "{from} is in the stored form");
        let error = read(&tampered).expect_err(to);
        assert!(error.contains(complaint), "{from} {to}: {error}");
    }
}

/// Stored properties are checked as if they had come from the wire.
#[test]
fn message_that_could_not_be_sent_on_is_refused() {
    let stored = |properties: &str| {
        let text = format!(
            r#"{{"topic":"a","qos":0,"retain":false,"expires_at":null,"properties":{properties},"payload":[]}}"#
        );
        serde_json::from_str::<Message>(&text)
    };
    assert!(stored("[1,1]").is_ok(), "Payload Format Indicator");
    assert!(stored("[1,2]").is_err(), "no value of it");
    assert!(stored("[1]").is_err(), "cut short");
    assert!(stored("[99,0]").is_err(), "no property");
    assert!(stored("[19,0,60]").is_err(), "Server Keep Alive is none of PUBLISH");
    let message = stored("[35,0,1,1,1]").expect("Topic Alias is one of PUBLISH");
    assert_eq!(message.properties().as_bytes(), [1, 1], "and none of a message");
}

#[test]
fn will_comes_back_as_it_was_stored() {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::WillDelayInterval(30)).expect("valid");
    properties.push(Property::MessageExpiryInterval(60)).expect("valid");
    let will = StoredWill::new(&damselfly_codec::Will {
        qos: damselfly_codec::QoS::AtLeastOnce,
        retain: false,
        topic: TopicName::new("gone").expect("a name"),
        payload: b"x",
        properties: properties.as_properties(),
    });
    let text = serde_json::to_string(&will).expect("can be written");
    assert_eq!(serde_json::from_str::<StoredWill>(&text).expect("just written"), will);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_damage_to_the_stored_form_makes_reading_panic(at in 0..2_000_usize, byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = written().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(Snapshot(session)) = serde_json::from_slice::<Snapshot<StoredSession>>(&bytes) {
            let again = serde_json::to_vec(&Snapshot(session.clone())).expect("can be written");
            prop_assert_eq!(serde_json::from_slice::<Snapshot<StoredSession>>(&again).expect("just written").0, session);
        }
    }
}
