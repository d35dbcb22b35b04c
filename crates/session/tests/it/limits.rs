//! What was announced binds the other side, at the limit and one past it.

use core::num::{NonZeroU16, NonZeroU32};

use damselfly_codec::{PacketType, Properties, PropertiesBuf, QoS, ReasonCode, TopicAlias, Version};
use damselfly_session::{Accepts, PeerError, Role};

/// [MQTT-3.2.2-11] [MQTT-3.2.2-14]
#[test]
fn publish_above_what_was_announced_is_refused() {
    let mut accepts = Accepts::default();
    assert_eq!(accepts.check_publish(QoS::ExactlyOnce, true), Ok(()), "nothing announced, all allowed");
    accepts.maximum_qos = QoS::AtLeastOnce;
    accepts.retain = false;
    assert_eq!(accepts.check_publish(QoS::AtLeastOnce, false), Ok(()));
    assert_eq!(accepts.check_publish(QoS::ExactlyOnce, false), Err(PeerError::QoSNotSupported));
    assert_eq!(accepts.check_publish(QoS::AtMostOnce, true), Err(PeerError::RetainNotSupported));
}

/// [MQTT-3.2.2-17] [MQTT-3.2.2-18] [MQTT-3.3.2-9] [MQTT-3.3.2-11]
#[test]
fn alias_above_the_maximum_is_refused_and_absent_means_none() {
    let alias = |value| TopicAlias::new(value).expect("tests use no zero");
    let mut accepts = Accepts::default();
    assert_eq!(accepts.check_alias(alias(1)), Err(PeerError::TopicAliasInvalid));
    accepts.topic_alias_maximum = 3;
    assert_eq!(accepts.check_alias(alias(3)), Ok(()));
    assert_eq!(accepts.check_alias(alias(4)), Err(PeerError::TopicAliasInvalid));
}

#[test]
fn subscription_that_needs_a_missing_feature_is_refused_with_its_name() {
    let all = Accepts::default();
    assert_eq!(all.check_subscription(true, true, true), Ok(()));
    let mut none = all;
    none.shared_subscriptions = false;
    none.wildcard_subscriptions = false;
    none.subscription_identifiers = false;
    assert_eq!(none.check_subscription(false, false, false), Ok(()));
    for (shared, wildcard, identifier, expected) in [
        (true, false, false, PeerError::SharedSubscriptionsNotSupported),
        (false, true, false, PeerError::WildcardSubscriptionsNotSupported),
        (false, false, true, PeerError::SubscriptionIdentifiersNotSupported),
    ] {
        assert_eq!(none.check_subscription(shared, wildcard, identifier), Err(expected));
    }
}

/// [MQTT-3.1.2-24] [MQTT-3.2.2-15]
#[test]
fn packet_of_exactly_the_maximum_size_passes() {
    let mut accepts = Accepts::default();
    assert!(!accepts.is_too_large(268_435_460));
    assert!(accepts.is_too_large(usize::MAX));
    accepts.maximum_packet_size = NonZeroU32::new(127).expect("tests use no zero");
    assert!(!accepts.is_too_large(127));
    assert!(accepts.is_too_large(128));
}

#[test]
fn each_error_has_the_reason_code_and_the_statement_of_its_rule() {
    let publish = PacketType::Publish;
    let cases = [
        (PeerError::NotFromClient(publish), ReasonCode::ProtocolError, "MQTT-4.13.1-1", "MQTT3-4.8.0-1"),
        (PeerError::ConnectExpected(publish), ReasonCode::ProtocolError, "MQTT-3.1.0-1", "MQTT3-3.1.0-1"),
        (PeerError::SecondConnect, ReasonCode::ProtocolError, "MQTT-3.1.0-2", "MQTT3-3.1.0-2"),
        (PeerError::KeepAliveTimeout, ReasonCode::KeepAliveTimeout, "MQTT-3.1.2-22", "MQTT3-3.1.2-24"),
        (PeerError::ReceiveMaximumExceeded, ReasonCode::ReceiveMaximumExceeded, "MQTT-3.3.4-7", "MQTT3-4.8.0-1"),
        (PeerError::TopicAliasInvalid, ReasonCode::TopicAliasInvalid, "MQTT-3.3.2-9", "MQTT3-4.8.0-1"),
        (PeerError::TopicAliasUnknown, ReasonCode::ProtocolError, "MQTT-4.13.1-1", "MQTT3-4.8.0-1"),
        (PeerError::PacketTooLarge, ReasonCode::PacketTooLarge, "MQTT-3.2.2-15", "MQTT3-4.8.0-1"),
        (PeerError::UnexpectedAck(PacketType::Puback), ReasonCode::ProtocolError, "MQTT-2.2.1-5", "MQTT3-2.3.1-6"),
        (PeerError::QoSNotSupported, ReasonCode::QoSNotSupported, "MQTT-3.2.2-11", "MQTT3-4.8.0-1"),
        (PeerError::NotAuthorized, ReasonCode::NotAuthorized, "MQTT-4.13.2-1", "MQTT3-3.3.5-2"),
    ];
    for (error, reason_code, in_5_0, in_3_1_1) in cases {
        assert_eq!(error.reason_code(), reason_code, "{error}");
        assert_eq!(error.statement(Version::V5_0, Role::Client), in_5_0, "{error}");
        assert_eq!(error.statement(Version::V3_1_1, Role::Client), in_3_1_1, "{error}");
        assert_eq!(error.statement(Version::V3_1, Role::Client), in_3_1_1, "{error}");
    }
}

#[test]
fn rule_that_is_said_once_for_each_end_is_named_for_the_end_that_broke_it() {
    let cases = [
        (PeerError::ReceiveMaximumExceeded, "MQTT-3.3.4-9", "MQTT3-4.8.0-1"),
        (PeerError::TopicAliasInvalid, "MQTT-3.3.2-11", "MQTT3-4.8.0-1"),
        (PeerError::PacketTooLarge, "MQTT-3.1.2-24", "MQTT3-4.8.0-1"),
        (PeerError::PacketIdInUse, "MQTT-2.2.1-4", "MQTT3-2.3.1-4"),
        (PeerError::UnexpectedAuth, "MQTT-4.12.0-6", "MQTT3-4.8.0-1"),
        (PeerError::UnexpectedAck(PacketType::Puback), "MQTT-2.2.1-5", "MQTT3-2.3.1-6"),
    ];
    for (error, in_5_0, in_3_1_1) in cases {
        assert_eq!(error.statement(Version::V5_0, Role::Broker), in_5_0, "{error}");
        assert_eq!(error.statement(Version::V3_1_1, Role::Broker), in_3_1_1, "{error}");
    }
}

fn nothing_of_it() -> Accepts {
    let mut accepts = Accepts::default();
    accepts.receive_maximum = NonZeroU16::new(3).expect("not zero");
    accepts.maximum_packet_size = NonZeroU32::new(127).expect("not zero");
    accepts.topic_alias_maximum = 7;
    accepts.maximum_qos = QoS::AtLeastOnce;
    accepts.retain = false;
    accepts.wildcard_subscriptions = false;
    accepts.subscription_identifiers = false;
    accepts.shared_subscriptions = false;
    accepts
}

/// [MQTT-3.2.2-9] [MQTT-4.9.0-1]
#[test]
fn what_is_announced_is_what_the_other_side_reads() {
    for accepts in [Accepts::default(), nothing_of_it()] {
        let mut properties = PropertiesBuf::new();
        accepts.announce(&mut properties).expect("each once");
        assert_eq!(Accepts::from_properties(properties.as_properties()), accepts);
    }
    assert!(nothing_of_it().announce(&mut twice()).is_err(), "nothing is announced twice");
}

fn twice() -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    nothing_of_it().announce(&mut properties).expect("each once");
    properties
}

#[test]
fn no_properties_announce_no_limit() {
    assert_eq!(Accepts::from_properties(Properties::EMPTY), Accepts::ALL);
    let mut properties = PropertiesBuf::new();
    Accepts::ALL.announce(&mut properties).expect("nothing to push");
    assert!(properties.is_empty());
}
