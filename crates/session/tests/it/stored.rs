//! What is stored comes back the same, and what was tampered with does not come back.

use core::num::NonZeroU16;

use damselfly_codec::{Delivery, PacketId, PropertiesBuf, Property, Publish, Version};
use damselfly_session::{
    Message, PacketIds, ReceiveInput, ReceivedIds, SendState, SessionExpiry, Snapshot, Stored, StoredExchange,
    StoredSession, StoredWill, Timestamp,
};
use damselfly_topic::TopicName;
use proptest::prelude::*;
use serde::{Deserialize, Deserializer, Serialize};

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

/// Something whose form has changed: the second can be read, the first cannot.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pond {
    depth: u32,
}

impl Stored for Pond {
    const VERSION: u16 = 3;
    const NAME: &'static str = "pond";

    fn read_earlier<'de, D: Deserializer<'de>>(version: u16, deserializer: D) -> Result<Self, D::Error> {
        if version < 2 {
            return Err(serde::de::Error::custom("too old"));
        }
        u32::deserialize(deserializer).map(|depth| Self { depth })
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Puddle(u32);

impl Stored for Puddle {
    const VERSION: u16 = 2;
    const NAME: &'static str = "puddle";
}

#[test]
fn form_of_an_earlier_version_is_read_as_its_type_says() {
    let pond = |text| serde_json::from_str::<Snapshot<Pond>>(text).map_err(|error| error.to_string());
    assert_eq!(pond(r#"{"version":3,"value":{"depth":7}}"#), Ok(Snapshot(Pond { depth: 7 })));
    assert_eq!(pond(r#"{"version":2,"value":7}"#), Ok(Snapshot(Pond { depth: 7 })));
    assert!(pond(r#"{"version":3,"value":7}"#).is_err());
    assert!(pond(r#"{"version":2,"value":{"depth":7}}"#).is_err());
    assert!(pond(r#"{"version":1,"value":7}"#).expect_err("too old").starts_with("too old"));
    assert!(pond(r#"{"version":4,"value":7}"#).expect_err("not known").starts_with("pond has version 4"));
    assert_eq!(serde_json::to_string(&Snapshot(Puddle(7))).expect("can be written"), r#"{"version":2,"value":7}"#);
    let earlier = serde_json::from_str::<Snapshot<Puddle>>(r#"{"version":1,"value":7}"#).expect_err("not known");
    assert!(earlier.to_string().starts_with("puddle has version 1, which cannot be read"), "{earlier}");
}

#[test]
fn what_was_expected_is_said() {
    let error = serde_json::from_str::<Snapshot<StoredSession>>("7").expect_err("no snapshot").to_string();
    assert!(error.contains("expected a session with its version in front"), "{error}");
    let error = read(&written().replacen("[1,2,65535]", "7", 1)).expect_err("no list");
    assert!(error.contains("expected packet identifiers, each once"), "{error}");
    let error = serde_json::from_str::<Message>(&message_with("true")).expect_err("no payload").to_string();
    assert!(error.contains("expected bytes"), "{error}");
}

fn message_with(payload: &str) -> String {
    format!(r#"{{"topic":"a","qos":0,"retain":false,"expires_at":null,"properties":[],"payload":{payload}}}"#)
}

#[test]
fn payload_is_read_from_bytes_and_from_numbers() {
    for payload in [r#""abc""#, "[97,98,99]"] {
        let message: Message = serde_json::from_str(&message_with(payload)).expect("a payload");
        assert_eq!(message.payload(), b"abc");
    }
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
