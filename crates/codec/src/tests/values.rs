//! The small values, their numbers and their tables.

use core::num::{NonZeroU16, NonZeroU32};

use super::*;

#[test]
fn numbers_convert_both_ways_and_others_are_refused() {
    for number in 0..=u8::MAX {
        if let Ok(qos) = QoS::try_from(number) {
            assert_eq!(u8::from(qos), number);
        }
        if let Ok(version) = Version::try_from(number) {
            assert_eq!(u8::from(version), number);
        }
        if let Ok(packet_type) = PacketType::try_from(number) {
            assert_eq!(packet_type.number(), number);
        }
        if let Ok(code) = ReasonCode::try_from(number) {
            assert_eq!(u8::from(code), number);
        }
        if let Ok(id) = PropertyId::try_from(number) {
            assert_eq!(u8::from(id), number);
        }
    }
    let count = |is: fn(u8) -> bool| (0..=u8::MAX).filter(|number| is(*number)).count();
    assert_eq!(count(|number| QoS::try_from(number).is_ok()), 3);
    assert_eq!(count(|number| Version::try_from(number).is_ok()), 3);
    assert_eq!(count(|number| PacketType::try_from(number).is_ok()), 15);
    assert_eq!(count(|number| PropertyId::try_from(number).is_ok()), 27);
    assert_eq!(count(|number| ReasonCode::try_from(number).is_ok()), 43);
    assert_eq!(ReasonCode::ALL.len(), 43);
}

#[test]
fn checked_numbers_end_where_the_standard_says() {
    assert_eq!(PacketId::try_from(0), Err(OutOfRange));
    assert_eq!(PacketId::try_from(65_535).map(u16::from), Ok(65_535));
    assert_eq!(TopicAlias::new(0), None);
    assert_eq!(SubscriptionId::new(0), None);
    assert_eq!(SubscriptionId::new(268_435_455).map(u32::from), Some(268_435_455));
    assert_eq!(SubscriptionId::new(268_435_456), None);
}

#[test]
fn texts_for_logs_are_those_of_the_standard() {
    assert_eq!(format!("{}", ReasonCode::NotAuthorized), "Not authorized (0x87)");
    assert_eq!(format!("{} {} {}", Version::V3_1_1, QoS::ExactlyOnce, PacketType::Pubrel), "3.1.1 2 PUBREL");
    assert_eq!(format!("{} {}", PacketId::new(7).unwrap(), PropertyId::TopicAlias), "7 TopicAlias");
    assert_eq!(format!("{}", EncodeError::Empty), "at least one topic filter or reason code is needed");
}

/// Each rule can be answered on the connection where it is broken. [MQTT-3.14.2-1] [MQTT-3.2.2-8]
#[test]
fn each_rule_has_a_text_a_statement_and_a_reason_code_to_answer_with() {
    for rule in Rule::ALL {
        assert!(rule.reason_code().is_error());
        let is_answer = rule.reason_code().is_allowed_in(PacketType::Disconnect)
            || rule.reason_code().is_allowed_in(PacketType::Connack);
        assert!(is_answer, "{rule}");
        assert!(rule.statement(Version::V5_0).starts_with("MQTT-"), "{rule}");
        assert!(rule.statement(Version::V3_1_1).starts_with("MQTT"), "{rule}");
        assert!(!format!("{rule}").starts_with(' '));
    }
}

#[test]
fn delivery_holds_what_its_level_has() {
    let id = PacketId::new(7).unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let delivery = Delivery::first(qos, id);
        assert_eq!((delivery.qos(), delivery.is_dup()), (qos, false));
        assert_eq!(delivery.packet_id(), (qos != QoS::AtMostOnce).then_some(id));
    }
}

/// All 27 properties, each with a value that is easy to mistake for another's.
const ALL: [Property<'static>; 27] = [
    Property::PayloadFormatIndicator(true),
    Property::MessageExpiryInterval(0x0102_0304),
    Property::ContentType("type"),
    Property::ResponseTopic(TopicName::from_checked_bytes(b"re/ply")),
    Property::CorrelationData(b"\x00\xFF"),
    Property::SubscriptionIdentifier(SubscriptionId::new(16_384).unwrap()),
    Property::SessionExpiryInterval(u32::MAX),
    Property::AssignedClientIdentifier("auto"),
    Property::ServerKeepAlive(0),
    Property::AuthenticationMethod(""),
    Property::AuthenticationData(b""),
    Property::RequestProblemInformation(false),
    Property::WillDelayInterval(0),
    Property::RequestResponseInformation(true),
    Property::ResponseInformation("info"),
    Property::ServerReference("other"),
    Property::ReasonString("\u{FEFF}why"),
    Property::ReceiveMaximum(NonZeroU16::new(3).unwrap()),
    Property::TopicAliasMaximum(0),
    Property::TopicAlias(TopicAlias::new(0x0102).unwrap()),
    Property::MaximumQoS(QoS::AtLeastOnce),
    Property::RetainAvailable(false),
    Property::UserProperty("", "b"),
    Property::MaximumPacketSize(NonZeroU32::new(127).unwrap()),
    Property::WildcardSubscriptionAvailable(true),
    Property::SubscriptionIdentifierAvailable(false),
    Property::SharedSubscriptionAvailable(true),
];

#[test]
fn each_property_comes_out_as_it_went_in_and_in_order() {
    let mut buf = PropertiesBuf::new();
    for (property, id) in ALL.iter().zip(PropertyId::ALL) {
        assert_eq!(property.id(), *id);
        buf.push(*property).unwrap();
        assert_eq!(buf.as_properties().get(*id), Some(*property));
    }

    let properties = buf.as_properties();

    assert!(properties.iter().eq(ALL));
    let ids = properties.iter_encoded().map(|(id, _)| id);
    assert!(ids.eq(PropertyId::ALL.iter().copied()));
    let encoded: Vec<u8> = properties.iter_encoded().flat_map(|(_, bytes)| bytes.to_vec()).collect();
    assert_eq!(encoded, properties.as_bytes());
}

#[test]
fn each_getter_finds_its_property_among_all_and_none_among_none() {
    let mut buf = PropertiesBuf::new();
    for property in ALL.iter().rev() {
        buf.push(*property).unwrap();
    }
    for (p, is_there) in [(buf.as_properties(), true), (Properties::EMPTY, false)] {
        let when = |value| is_there.then_some(value);
        assert_eq!(p.payload_format_indicator(), when(true));
        assert_eq!(p.message_expiry_interval(), is_there.then_some(0x0102_0304));
        assert_eq!(p.content_type(), is_there.then_some("type"));
        assert_eq!(p.response_topic(), TopicName::new("re/ply").ok().filter(|_| is_there));
        assert_eq!(p.correlation_data(), is_there.then_some(&[0x00, 0xFF][..]));
        assert!(p.subscription_ids().map(SubscriptionId::get).eq(is_there.then_some(16_384)));
        assert_eq!(p.session_expiry_interval(), is_there.then_some(u32::MAX));
        assert_eq!(p.assigned_client_identifier(), is_there.then_some("auto"));
        assert_eq!(p.server_keep_alive(), is_there.then_some(0));
        assert_eq!(p.authentication_method(), is_there.then_some(""));
        assert_eq!(p.authentication_data(), is_there.then_some(&[][..]));
        assert_eq!(p.request_problem_information(), when(false));
        assert_eq!(p.will_delay_interval(), is_there.then_some(0));
        assert_eq!(p.request_response_information(), when(true));
        assert_eq!(p.response_information(), is_there.then_some("info"));
        assert_eq!(p.server_reference(), is_there.then_some("other"));
        assert_eq!(p.reason_string(), is_there.then_some("\u{FEFF}why"));
        assert_eq!(p.receive_maximum(), NonZeroU16::new(3).filter(|_| is_there));
        assert_eq!(p.topic_alias_maximum(), is_there.then_some(0));
        assert_eq!(p.topic_alias(), TopicAlias::new(0x0102).filter(|_| is_there));
        assert_eq!(p.maximum_qos(), is_there.then_some(QoS::AtLeastOnce));
        assert_eq!(p.retain_available(), when(false));
        assert!(p.user_properties().eq(is_there.then_some(("", "b"))));
        assert_eq!(p.maximum_packet_size(), NonZeroU32::new(127).filter(|_| is_there));
        assert_eq!(p.wildcard_subscription_available(), when(true));
        assert_eq!(p.subscription_identifier_available(), when(false));
        assert_eq!(p.shared_subscription_available(), when(true));
    }
}

#[test]
fn a_builder_refuses_second_and_impossible_properties_and_stays_as_it_was() {
    let mut buf = PropertiesBuf::new();
    let repeatable = [PropertyId::UserProperty, PropertyId::SubscriptionIdentifier];
    for property in ALL {
        buf.push(property).unwrap();
        let before = buf.clone();
        let second = buf.push(property);
        if repeatable.contains(&property.id()) {
            assert_eq!(second, Ok(()));
        } else {
            assert_eq!(second, Err(EncodeError::PropertyTwice(property.id())));
            assert_eq!(buf, before);
        }
    }
    let mut buf = PropertiesBuf::new();
    let refused = EncodeError::PropertyValue(PropertyId::MaximumQoS);
    assert_eq!(buf.push(Property::MaximumQoS(QoS::ExactlyOnce)), Err(refused));
}

#[test]
fn extending_adds_all_properties_or_none() {
    let mut buf = PropertiesBuf::new();
    buf.push(Property::ReasonString("r")).unwrap();
    let mut other = PropertiesBuf::new();
    other.push(Property::UserProperty("a", "b")).unwrap();
    buf.extend(other.as_properties()).unwrap();
    other.push(Property::ReasonString("s")).unwrap();
    let before = buf.clone();

    let result = buf.extend(other.as_properties());

    assert_eq!(result, Err(EncodeError::PropertyTwice(PropertyId::ReasonString)));
    assert_eq!(buf, before);
    assert_eq!(PropertiesBuf::from(buf.as_properties()), buf);
}

/// Bytes that nobody checked end early; they never panic, loop or reach beyond their end.
#[test]
fn unchecked_bytes_as_properties_are_harmless() {
    for bytes in [&[0x26, 0xFF, 0xFF][..], &[0x00; 9], &[0x0B, 0x80], &[0x02, 0x01], &[0xFF], &[0x26, 0, 9, b'a']] {
        let properties = Properties::from_checked_bytes(bytes);
        assert!(properties.iter().count() <= bytes.len());
        assert!(properties.iter_encoded().count() <= bytes.len());
        let publish = Publish {
            delivery: Delivery::AtMostOnce,
            retain: false,
            topic: TopicName::new("t").ok(),
            properties,
            payload: b"",
        };
        let mut out = Vec::new();
        let _ = publish.encode(Version::V5_0, Foreign::Reject, &mut out);
        let _ = PublishTemplate::new(Version::V5_0, QoS::AtMostOnce, false, publish.topic.unwrap(), properties, b"");
    }
}

#[test]
fn debug_of_a_connect_does_not_show_the_password() {
    let connect = Connect { user_name: Some("heron"), password: Some(b"s3cret"), ..Connect::new(Version::V5_0, "h") };
    let mut frame = Vec::new();
    assert_eq!(connect.encode(Foreign::Reject, &mut frame), Ok(()));
    let shown = format!("{connect:?} {:?}", Packet::decode(Version::V5_0, &frame));
    assert!(shown.contains("hidden") && shown.contains("heron"));
    assert!(!shown.contains("s3cret") && !shown.contains("115, 51"));
}
