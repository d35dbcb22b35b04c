//! What a message keeps of its PUBLISH, and what it leaves behind.

use bytes::Bytes;
use damselfly_codec::{
    Delivery, Foreign, Frame, FrameLimits, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS,
    SubscriptionId, TopicAlias, Version, Will,
};
use damselfly_session::{Message, StoredWill, Timestamp};
use damselfly_topic::TopicName;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn topic(text: &str) -> TopicName<'_> {
    TopicName::new(text).expect("a name")
}

fn properties(list: &[Property<'_>]) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    for property in list {
        properties.push(*property).expect("a valid property");
    }
    properties
}

fn publish<'a>(topic: TopicName<'a>, properties: Properties<'a>, payload: &'a [u8]) -> Publish<'a> {
    let id = PacketId::new(7).expect("not zero");
    Publish { delivery: Delivery::AtLeastOnce { id, dup: true }, retain: true, topic: Some(topic), properties, payload }
}

fn all_properties() -> PropertiesBuf {
    properties(&[
        Property::PayloadFormatIndicator(true),
        Property::UserProperty("first", "1"),
        Property::TopicAlias(TopicAlias::new(3).expect("not zero")),
        Property::MessageExpiryInterval(60),
        Property::ResponseTopic(topic("answers/here")),
        Property::UserProperty("first", "2"),
        Property::SubscriptionIdentifier(SubscriptionId::new(300).expect("in range")),
        Property::CorrelationData(b"\x00\xFF"),
        Property::SubscriptionIdentifier(SubscriptionId::new(1).expect("in range")),
        Property::ContentType("text/plain"),
        Property::UserProperty("", ""),
    ])
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
#[test]
fn properties_of_the_message_are_kept_in_order_and_those_of_the_packet_are_not() {
    let all = all_properties();
    let message = Message::new(&publish(topic("a/b"), all.as_properties(), b"payload"), topic("a/b"), NOW);

    let expected = [
        Property::PayloadFormatIndicator(true),
        Property::UserProperty("first", "1"),
        Property::ResponseTopic(topic("answers/here")),
        Property::UserProperty("first", "2"),
        Property::CorrelationData(b"\x00\xFF"),
        Property::ContentType("text/plain"),
        Property::UserProperty("", ""),
    ];
    assert!(message.properties().iter().eq(expected));
    assert_eq!(message.topic(), topic("a/b"));
    assert_eq!(message.payload(), b"payload");
    assert_eq!(message.qos(), QoS::AtLeastOnce);
    assert!(message.retain());
}

/// [MQTT-3.3.2-18]
#[test]
fn order_is_kept_however_many_subscription_identifiers_stand_between() {
    let texts = ["1", "2", "3", "4", "5", "6", "7"];
    let between = Property::SubscriptionIdentifier(SubscriptionId::new(9).expect("in range"));
    let list: Vec<_> = texts.iter().flat_map(|text| [Property::UserProperty("n", text), between]).collect();
    let all = properties(&list);
    let message = Message::new(&publish(topic("a"), all.as_properties(), b"payload"), topic("a"), NOW);
    assert!(message.properties().user_properties().eq(texts.map(|text| ("n", text))));
    assert_eq!(message.properties().iter().count(), 7);
    assert_eq!(message.payload(), b"payload");
}

#[test]
fn a_message_that_came_in_no_packet_is_that_of_a_publish_that_says_the_same() {
    let all = all_properties();
    let id = PacketId::new(9).expect("not zero");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for retain in [false, true] {
            let delivery = Delivery::first(qos, id);
            let said = Publish { delivery, retain, ..publish(topic("a/b"), all.as_properties(), b"payload") };
            let composed = Message::compose(topic("a/b"), b"payload", qos, retain, all.as_properties(), NOW);
            assert_eq!(composed, Message::new(&said, topic("a/b"), NOW));
            assert_eq!((composed.qos(), composed.retain()), (qos, retain));
        }
    }
}

/// [MQTT-3.3.2-7]
#[test]
fn topic_is_what_the_alias_stands_for_and_no_alias_is_kept() {
    let alias = properties(&[Property::TopicAlias(TopicAlias::new(3).expect("not zero"))]);
    let packet = Publish { topic: None, ..publish(topic("unused"), alias.as_properties(), b"") };
    let message = Message::new(&packet, topic("real/topic"), NOW);
    assert_eq!(message.topic(), topic("real/topic"));
    assert!(message.properties().is_empty());
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[test]
fn expiry_is_a_point_in_time_and_what_is_left_of_it_is_sent_on() {
    let sixty = properties(&[Property::MessageExpiryInterval(60)]);
    let message = Message::new(&publish(topic("a"), sixty.as_properties(), b""), topic("a"), NOW);
    assert_eq!(message.expires_at(), Some(Timestamp::from_secs(1_060)));
    assert_eq!(message.remaining_expiry(NOW), Some(60));
    assert_eq!(message.remaining_expiry(Timestamp::from_secs(1_059)), Some(1));
    assert!(!message.is_expired(Timestamp::from_micros(1_059_999_999)));
    assert!(message.is_expired(Timestamp::from_secs(1_060)));
    assert_eq!(message.remaining_expiry(Timestamp::from_secs(1_060)), None);
}

#[test]
fn message_without_an_interval_never_expires_and_one_of_zero_has_expired() {
    let never = Message::new(&publish(topic("a"), Properties::EMPTY, b""), topic("a"), NOW);
    assert_eq!(never.expires_at(), None);
    assert!(!never.is_expired(Timestamp::MAX));
    let zero = properties(&[Property::MessageExpiryInterval(0)]);
    let at_once = Message::new(&publish(topic("a"), zero.as_properties(), b""), topic("a"), NOW);
    assert!(at_once.is_expired(NOW));
}

/// [MQTT-3.3.1-3]
#[test]
fn publish_made_of_a_message_carries_only_what_its_sender_decides() {
    let all = all_properties();
    let message = Message::new(&publish(topic("a/b"), all.as_properties(), b"payload"), topic("a/b"), NOW);
    let forwarded = message.to_publish(Delivery::AtMostOnce, false);
    assert_eq!(forwarded.delivery, Delivery::AtMostOnce);
    assert!(!forwarded.retain);
    assert_eq!(forwarded.topic, Some(topic("a/b")));

    let mut frame = Vec::new();
    forwarded.encode(Version::V5_0, Foreign::Reject, &mut frame).expect("valid");
    assert_eq!(Packet::decode(Version::V5_0, &frame), Ok(Packet::Publish(forwarded)));
}

fn frame_of(packet: &Publish<'_>) -> Frame {
    let mut bytes = Vec::new();
    packet.encode(Version::V5_0, Foreign::Reject, &mut bytes).expect("valid");
    Frame::new(Bytes::from(bytes), &FrameLimits::default()).expect("a frame")
}

#[test]
fn large_payload_shares_the_memory_of_its_frame() {
    let all = all_properties();
    let payload = vec![7; 5_000];
    let frame = frame_of(&publish(topic("a/b"), all.as_properties(), &payload));
    let Ok(Packet::Publish(received)) = frame.packet(Version::V5_0) else { panic!("a PUBLISH") };

    let shared = Message::shared(&frame, &received, topic("a/b"), NOW);
    assert_eq!(shared.payload().as_ptr(), received.payload.as_ptr());
    assert_eq!(shared.payload_bytes().as_ptr(), received.payload.as_ptr());
    assert!(shared.heap_bytes() > 5_000);
    assert_eq!(shared, Message::new(&received, topic("a/b"), NOW), "the same message, kept in another way");
    assert_eq!(shared.with_expiry(None).payload().as_ptr(), received.payload.as_ptr());
}

#[test]
fn payload_handle_of_a_copied_message_shares_it_and_keeps_it_alive() {
    let message = Message::new(&publish(topic("a"), Properties::EMPTY, b"payload"), topic("a"), NOW);
    let address = message.payload().as_ptr();
    let handle = message.payload_bytes();
    drop(message);
    assert_eq!(handle.as_ptr(), address);
    assert_eq!(handle, &b"payload"[..]);
}

#[test]
fn small_message_takes_32_bytes_beside_its_content() {
    let message =
        Message::new(&publish(topic("sixteen/bytes/16"), Properties::EMPTY, &[0; 64]), topic("sixteen/bytes/16"), NOW);
    assert_eq!(message.heap_bytes(), 32 + 16 + 64);
    assert_eq!(size_of::<Message>(), 16);
}

#[test]
fn shared_message_takes_what_both_parts_of_it_take() {
    let all = all_properties();
    let payload = vec![7; 5_000];
    let frame = frame_of(&publish(topic("a/b"), all.as_properties(), &payload));
    let Ok(Packet::Publish(received)) = frame.packet(Version::V5_0) else { panic!("a PUBLISH") };
    let shared = Message::shared(&frame, &received, topic("a/b"), NOW);
    let record = Message::new(&Publish { payload: b"", ..received }, topic("a/b"), NOW).heap_bytes();
    // Two handles more: of the record and of the payload.
    assert_eq!(shared.heap_bytes(), record + size_of::<Box<[u8]>>() + size_of::<Bytes>() + 5_000);

    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: topic("a/b"),
        payload: &payload,
        properties: Properties::EMPTY,
    };
    assert_eq!(StoredWill::new(&will).heap_bytes(), 32 + 3 + 5_000);
}

#[test]
fn handles_of_one_message_are_told_from_equal_messages() {
    let payload = vec![7; 5_000];
    let packet = publish(topic("a"), Properties::EMPTY, &payload);
    let frame = frame_of(&packet);
    let Ok(Packet::Publish(received)) = frame.packet(Version::V5_0) else { panic!("a PUBLISH") };
    let make: [&dyn Fn() -> Message; 2] =
        [&|| Message::new(&received, topic("a"), NOW), &|| Message::shared(&frame, &received, topic("a"), NOW)];
    for (first, make_first) in make.iter().enumerate() {
        let message = make_first();
        assert!(message.is_same(&message.clone()));
        for (second, make_second) in make.iter().enumerate() {
            let other = make_second();
            assert_eq!(message, other, "{first} {second}");
            assert!(!message.is_same(&other), "{first} {second}");
        }
    }
}

#[test]
fn debug_of_a_message_shows_all_but_the_payload() {
    let all = properties(&[Property::ContentType("text/plain"), Property::MessageExpiryInterval(60)]);
    let shown =
        format!("{:?}", Message::new(&publish(topic("a/b"), all.as_properties(), b"s3cret"), topic("a/b"), NOW));
    for part in ["a/b", "AtLeastOnce", "true", "1060000000", "text/plain", "payload_len: 6"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("s3cret") && !shown.contains("115, 51"), "{shown}");
}

#[test]
fn messages_differ_in_each_part() {
    let five = properties(&[Property::MessageExpiryInterval(5)]);
    let typed = properties(&[Property::ContentType("x")]);
    let base = publish(topic("a"), Properties::EMPTY, b"p");
    let message = Message::new(&base, topic("a"), NOW);
    assert_eq!(message, Message::new(&base, topic("a"), NOW.saturating_add_micros(1)), "no expiry, so no time");
    assert_eq!(message, message.clone());
    for other in [
        Message::new(&base, topic("b"), NOW),
        Message::new(&Publish { payload: b"q", ..base }, topic("a"), NOW),
        Message::new(&Publish { retain: false, ..base }, topic("a"), NOW),
        Message::new(&Publish { delivery: Delivery::AtMostOnce, ..base }, topic("a"), NOW),
        Message::new(&Publish { properties: five.as_properties(), ..base }, topic("a"), NOW),
        Message::new(&Publish { properties: typed.as_properties(), ..base }, topic("a"), NOW),
    ] {
        assert_ne!(message, other);
    }
}

/// [MQTT-3.1.2-7] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
#[test]
fn expiry_of_a_will_begins_when_it_is_published_and_its_delay_is_not_sent_on() {
    let list = properties(&[
        Property::WillDelayInterval(30),
        Property::MessageExpiryInterval(60),
        Property::ContentType("text/plain"),
    ]);
    let will = Will {
        qos: QoS::ExactlyOnce,
        retain: true,
        topic: topic("pond/status"),
        payload: b"gone",
        properties: list.as_properties(),
    };
    let stored = StoredWill::new(&will);
    assert_eq!(stored.delay(), 30);
    assert_eq!((stored.topic(), stored.qos(), stored.retain()), (topic("pond/status"), QoS::ExactlyOnce, true));

    let message = stored.publish(Timestamp::from_secs(5_000));
    assert_eq!(message.expires_at(), Some(Timestamp::from_secs(5_060)));
    assert!(message.properties().iter().eq([Property::ContentType("text/plain")]));
    assert_eq!((message.qos(), message.retain(), message.payload()), (QoS::ExactlyOnce, true, &b"gone"[..]));
    assert_eq!(message, Message::from_will(&will, Timestamp::from_secs(5_000)));

    let plain = StoredWill::new(&Will { properties: Properties::EMPTY, ..will });
    assert_eq!((plain.delay(), plain.publish(NOW).expires_at()), (0, None));
    let passing = StoredWill::new(&Will { retain: false, qos: QoS::AtMostOnce, ..will });
    assert_eq!((passing.retain(), passing.qos()), (false, QoS::AtMostOnce));
    assert!(!passing.publish(NOW).retain());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_is_published_is_kept_whole(
        name in "[a-z/\u{e9}\u{1F41F}]{1,80}",
        payload in proptest::collection::vec(any::<u8>(), 0..600),
        users in proptest::collection::vec(("[a-z]{0,9}", "[a-z]{0,9}"), 0..5),
        interval in proptest::option::of(any::<u32>()),
        alias in proptest::option::of(1..=u16::MAX),
    ) {
        let mut list: Vec<_> = users.iter().map(|(name, value)| Property::UserProperty(name, value)).collect();
        let kept = properties(&list);
        list.extend(interval.map(Property::MessageExpiryInterval));
        list.extend(alias.and_then(TopicAlias::new).map(Property::TopicAlias));
        list.reverse();
        let mut expected: Vec<_> = kept.as_properties().iter().collect();
        expected.reverse();
        let all = properties(&list);
        let packet = publish(topic(&name), all.as_properties(), &payload);

        let message = Message::new(&packet, topic(&name), NOW);
        prop_assert_eq!(message.topic().as_bytes(), name.as_bytes());
        prop_assert_eq!(message.payload(), &payload[..]);
        prop_assert_eq!(message.properties().iter().collect::<Vec<_>>(), expected);
        prop_assert_eq!(message.remaining_expiry(NOW), interval.filter(|seconds| *seconds > 0));
        let frame = frame_of(&packet);
        prop_assert_eq!(&Message::shared(&frame, &packet, topic(&name), NOW), &message);
        prop_assert_eq!(message.with_expiry(Some(NOW)).with_expiry(message.expires_at()), message);
    }
}
