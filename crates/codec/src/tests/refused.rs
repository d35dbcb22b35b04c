//! What an encoder refuses: nothing that a receiver would have to refuse leaves it.

use super::*;

fn id() -> PacketId {
    PacketId::new(7).unwrap()
}

fn of(properties: &[Property<'_>]) -> PropertiesBuf {
    let mut buf = PropertiesBuf::new();
    for property in properties {
        buf.push(*property).unwrap();
    }
    buf
}

/// The answer of an encoder, which has written nothing and counted nothing.
fn refusal(packet: Packet<'_>, version: Version) -> EncodeError {
    let mut out = Vec::new();
    let error = packet.encode(version, Foreign::Reject, &mut out).unwrap_err();
    assert!(out.is_empty());
    assert_eq!(packet.encoded_len(version, Foreign::Reject), Err(error));
    error
}

#[test]
fn properties_of_5_0_are_refused_or_stripped_before_it() {
    with_each_packet(Version::V5_0, |packet| {
        let mut out = Vec::new();
        let packet_type = packet.packet_type();
        let version = Version::V3_1_1;
        match packet.encode(version, Foreign::Reject, &mut out) {
            Ok(()) => assert_eq!(Packet::decode(version, &out), Ok(packet), "nothing is lost under Reject"),
            Err(EncodeError::NotInVersion(reported)) => assert_eq!(reported, packet_type),
            Err(error) => panic!("{packet_type}: {error}"),
        }
        let mut out = Vec::new();
        match packet.encode(version, Foreign::Strip, &mut out) {
            Ok(()) => assert_eq!(packet.encoded_len(version, Foreign::Strip), Ok(out.len())),
            Err(error) => assert_eq!((packet_type, error), (PacketType::Auth, EncodeError::NotInVersion(packet_type))),
        }
    });
}

#[test]
fn stripping_keeps_the_message_and_the_granted_qos() {
    let properties = of(&[Property::ContentType("text/plain")]);
    let topic = TopicName::new("pond").ok();
    let delivery = Delivery::ExactlyOnce { id: id(), dup: true };
    let full = Publish { delivery, retain: true, topic, properties: properties.as_properties(), payload: b"x" };
    let mut out = Vec::new();
    full.encode(Version::V3_1_1, Foreign::Strip, &mut out).unwrap();
    let expected = Publish { properties: Properties::EMPTY, ..full };
    assert_eq!(Packet::decode(Version::V3_1_1, &out), Ok(Packet::Publish(expected)));

    out.clear();
    let codes = [ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized, ReasonCode::QuotaExceeded];
    Suback::new(id(), Properties::EMPTY, &codes).encode(Version::V3_1_1, Foreign::Strip, &mut out).unwrap();
    assert_eq!(out, [0x90, 0x05, 0x00, 0x07, 0x01, 0x80, 0x80]);

    out.clear();
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, no_local: true, ..SubscriptionOptions::default() };
    let filters = [(TopicFilter::new("a").unwrap(), options)];
    Subscribe::new(id(), Properties::EMPTY, &filters).encode(Version::V3_1, Foreign::Strip, &mut out).unwrap();
    assert_eq!(out, *b"\x82\x06\x00\x07\x00\x01a\x01");
}

/// [MQTT3-3.2.2-6], here of 3.1.1: without a return code there is no CONNACK.
#[test]
fn connack_maps_to_the_six_return_codes_or_is_refused() {
    for (reason_code, expected) in [
        (ReasonCode::Success, Some(0)),
        (ReasonCode::UnsupportedProtocolVersion, Some(1)),
        (ReasonCode::ClientIdentifierNotValid, Some(2)),
        (ReasonCode::ServerUnavailable, Some(3)),
        (ReasonCode::ServerBusy, Some(3)),
        (ReasonCode::BadUserNameOrPassword, Some(4)),
        (ReasonCode::NotAuthorized, Some(5)),
        (ReasonCode::Banned, Some(5)),
        (ReasonCode::MalformedPacket, None),
        (ReasonCode::PacketTooLarge, None),
    ] {
        let mut out = Vec::new();

        let result = Connack::refusal(reason_code).encode(Version::V3_1_1, Foreign::Strip, &mut out);

        match expected {
            Some(code) => assert_eq!(out, [0x20, 0x02, 0x00, code]),
            None => assert_eq!(result, Err(EncodeError::NoReturnCode(reason_code))),
        }
    }
}

/// [MQTT-3.2.2-6]
#[test]
fn session_present_is_not_said_beside_an_error() {
    let connack = Connack { session_present: true, ..Connack::refusal(ReasonCode::ServerBusy) };

    assert_eq!(refusal(Packet::Connack(connack), Version::V5_0), EncodeError::SessionPresentWithError);
}

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.14.2-1] [MQTT-3.2.2-8] [MQTT-3.9.3-2]
/// [MQTT-3.11.3-2] [MQTT-3.15.2-1]
#[test]
fn each_packet_is_refused_the_reason_codes_of_others() {
    let refused = |packet, code| {
        assert_eq!(refusal(packet, Version::V5_0), EncodeError::ReasonCodeNotAllowed(code));
    };
    let ack = |code| Ack::with_reason(id(), code);
    let method = of(&[Property::AuthenticationMethod("m")]);
    for codes in ReasonCode::ALL.chunks(1) {
        let code = codes[0];
        for (packet, packet_type) in [
            (Packet::Puback(ack(code)), PacketType::Puback),
            (Packet::Pubrec(ack(code)), PacketType::Pubrec),
            (Packet::Pubrel(ack(code)), PacketType::Pubrel),
            (Packet::Pubcomp(ack(code)), PacketType::Pubcomp),
            (Packet::Connack(Connack::refusal(code)), PacketType::Connack),
            (Packet::Suback(Suback::new(id(), Properties::EMPTY, codes)), PacketType::Suback),
            (Packet::Unsuback(Unsuback::new(id(), Properties::EMPTY, codes)), PacketType::Unsuback),
            (Packet::Disconnect(Disconnect::with_reason(code)), PacketType::Disconnect),
            (Packet::Auth(Auth { reason_code: code, properties: method.as_properties() }), PacketType::Auth),
        ] {
            if code.is_allowed_in(packet_type) {
                let mut out = Vec::new();
                packet.encode(Version::V5_0, Foreign::Reject, &mut out).unwrap();
                assert_eq!(Packet::decode(Version::V5_0, &out), Ok(packet));
            } else {
                refused(packet, code);
            }
        }
    }
}

/// (2.2.2.2)
#[test]
fn each_packet_is_refused_the_properties_of_others() {
    let expiry = of(&[Property::MessageExpiryInterval(1)]);
    let reason = of(&[Property::ReasonString("r")]);
    let not_allowed = EncodeError::PropertyNotAllowed;
    let ack = Ack { properties: expiry.as_properties(), ..Ack::success(id()) };
    assert_eq!(refusal(Packet::Puback(ack), Version::V5_0), not_allowed(PropertyId::MessageExpiryInterval));

    let connect = Connect { properties: reason.as_properties(), ..Connect::new(Version::V5_0, "c") };
    let connect = Packet::Connect(ConnectView::from(&connect));
    assert_eq!(refusal(connect, Version::V5_0), not_allowed(PropertyId::ReasonString));

    let publish = Publish {
        delivery: Delivery::AtMostOnce,
        retain: false,
        topic: TopicName::new("t").ok(),
        properties: reason.as_properties(),
        payload: b"",
    };
    assert_eq!(refusal(Packet::Publish(publish), Version::V5_0), not_allowed(PropertyId::ReasonString));
}

/// Several Subscription Identifiers have a place in PUBLISH only. (3.3.2.3.8) (3.8.2.1.2)
#[test]
fn two_subscription_identifiers_are_refused_in_subscribe() {
    let ids = [1, 2].map(|id| Property::SubscriptionIdentifier(SubscriptionId::new(id).unwrap()));
    let properties = of(&ids);
    let filters = [(TopicFilter::new("a").unwrap(), SubscriptionOptions::default())];
    let subscribe = Packet::Subscribe(Subscribe::new(id(), properties.as_properties(), &filters));

    let error = refusal(subscribe, Version::V5_0);

    assert_eq!(error, EncodeError::PropertyTwice(PropertyId::SubscriptionIdentifier));
}

/// [MQTT-3.8.3-2] [MQTT-3.10.3-2]
#[test]
fn requests_and_their_answers_are_not_empty() {
    for packet in [
        Packet::Subscribe(Subscribe::new(id(), Properties::EMPTY, &[])),
        Packet::Unsubscribe(Unsubscribe::new(id(), Properties::EMPTY, &[])),
        Packet::Suback(Suback::new(id(), Properties::EMPTY, &[])),
        Packet::Unsuback(Unsuback::new(id(), Properties::EMPTY, &[])),
    ] {
        assert_eq!(refusal(packet, Version::V5_0), EncodeError::Empty);
    }
}

/// [MQTT-3.8.3-4]
#[test]
fn no_local_is_refused_on_a_shared_subscription() {
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::default() };
    let filters = [(TopicFilter::new("$share/g/a").unwrap(), options)];
    let subscribe = Packet::Subscribe(Subscribe::new(id(), Properties::EMPTY, &filters));

    assert_eq!(refusal(subscribe, Version::V5_0), EncodeError::NoLocalOnShared);
}

#[test]
fn a_publish_needs_a_topic_or_in_5_0_an_alias() {
    let alias = of(&[Property::TopicAlias(TopicAlias::new(1).unwrap())]);
    let publish = Publish {
        delivery: Delivery::AtMostOnce,
        retain: false,
        topic: None,
        properties: Properties::EMPTY,
        payload: b"",
    };
    let with_alias = Publish { properties: alias.as_properties(), ..publish };

    assert_eq!(refusal(Packet::Publish(publish), Version::V5_0), EncodeError::TopicNameMissing);
    let mut out = Vec::new();
    assert_eq!(
        with_alias.encode(Version::V3_1_1, Foreign::Strip, &mut out),
        Err(EncodeError::TopicNameMissing),
        "what is stripped is not there"
    );
    with_alias.encode(Version::V5_0, Foreign::Reject, &mut out).unwrap();
    assert_eq!(Packet::decode(Version::V5_0, &out), Ok(Packet::Publish(with_alias)));
}

/// [MQTT3-3.1.2-22] (3.1.2.9)
#[test]
fn a_password_needs_a_user_name_before_5_0() {
    for version in VERSIONS {
        let connect = Connect { password: Some(b"p"), ..Connect::new(version, "c") };
        let mut out = Vec::new();

        let result = connect.encode(Foreign::Reject, &mut out);

        let expected = if version.has_properties() { Ok(()) } else { Err(EncodeError::PasswordWithoutUserName) };
        assert_eq!(result, expected, "{version}");
    }
}

#[test]
fn authentication_data_and_auth_need_a_method() {
    let data = of(&[Property::AuthenticationData(b"d")]);
    let connect = Connect { properties: data.as_properties(), ..Connect::new(Version::V5_0, "c") };
    let connect = Packet::Connect(ConnectView::from(&connect));
    assert_eq!(refusal(connect, Version::V5_0), EncodeError::AuthenticationMethodMissing);

    for (reason_code, properties) in
        [(ReasonCode::ContinueAuthentication, Properties::EMPTY), (ReasonCode::Success, data.as_properties())]
    {
        let auth = Packet::Auth(Auth { reason_code, properties });
        assert_eq!(refusal(auth, Version::V5_0), EncodeError::AuthenticationMethodMissing);
    }
}

/// [MQTT-1.5.4-2]
#[test]
fn texts_from_the_caller_are_held_to_the_rules() {
    let long = "x".repeat(65_536);
    for (text, expected) in [("a\0b", EncodeError::NullCharacter), (&long, EncodeError::FieldTooLong)] {
        let by_id = Connect::new(Version::V3_1_1, text);
        let by_user = Connect { user_name: Some(text), ..Connect::new(Version::V3_1_1, "c") };
        for connect in [by_id, by_user] {
            assert_eq!(connect.encoded_len(Foreign::Reject), Err(expected));
        }
        let mut properties = PropertiesBuf::new();
        assert_eq!(properties.push(Property::UserProperty("a", text)), Err(expected));
        assert_eq!(properties.push(Property::ReasonString(text)), Err(expected));
        assert!(properties.is_empty());
    }
    let bytes = vec![0; 65_536];
    let longest = Connect { password: Some(&bytes[1..]), user_name: Some("u"), ..Connect::new(Version::V3_1, "c") };
    assert!(longest.encoded_len(Foreign::Reject).is_ok());
    let too_long = Connect { password: Some(&bytes), ..longest };
    assert_eq!(too_long.encoded_len(Foreign::Reject), Err(EncodeError::FieldTooLong));
}

/// (2.1.4)
#[test]
fn a_packet_may_be_as_long_as_the_remaining_length_can_say() {
    let payload = vec![0; 268_435_455 - 3];
    let publish = |payload| Publish {
        delivery: Delivery::AtMostOnce,
        retain: false,
        topic: TopicName::new("t").ok(),
        properties: Properties::EMPTY,
        payload,
    };

    assert_eq!(publish(&payload).encoded_len(Version::V3_1_1, Foreign::Reject), Ok(268_435_460));
    assert_eq!(publish(&payload).encoded_len(Version::V5_0, Foreign::Reject), Err(EncodeError::PacketTooLarge));
    let mut out = Vec::new();
    assert_eq!(publish(&payload).encode(Version::V5_0, Foreign::Reject, &mut out), Err(EncodeError::PacketTooLarge));
    assert_eq!(out.capacity(), 0, "nothing is reserved for what cannot be written");
}
