//! Tests of the whole way through the codec; what the bytes may be is tested packet by packet.

extern crate std;

use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use damselfly_topic::{TopicFilter, TopicName};

use crate::*;

mod framing;
mod refused;
#[cfg(feature = "serde")]
mod serde;
mod template;
mod values;

const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5_0];

/// Every packet that one version can say, as full as it gets.
fn with_each_packet(version: Version, mut test: impl FnMut(Packet<'_>)) {
    let id = PacketId::new(0x1234).unwrap();
    let is_v5 = version.has_properties();
    let property = |properties: &[Property<'_>]| {
        let mut buf = PropertiesBuf::new();
        for property in properties.iter().filter(|_| is_v5) {
            buf.push(*property).unwrap();
        }
        buf
    };
    let topic = TopicName::new("pond/7/depth").unwrap();
    let user = Property::UserProperty("colour", "teal");

    let connect_properties = property(&[Property::SessionExpiryInterval(7), user]);
    let will_properties = property(&[Property::WillDelayInterval(5), Property::ResponseTopic(topic), user, user]);
    let connect = Connect {
        clean_start: false,
        keep_alive: 61,
        will: Some(Will {
            qos: QoS::ExactlyOnce,
            retain: true,
            topic,
            payload: b"gone",
            properties: will_properties.as_properties(),
        }),
        user_name: Some("heron"),
        password: Some(b"\x00secret"),
        properties: connect_properties.as_properties(),
        ..Connect::new(version, "h1")
    };
    test(Packet::Connect(ConnectView::from(&connect)));
    test(Packet::Connect(ConnectView::from(&Connect::new(version, ""))));

    let connack_properties = property(&[Property::AssignedClientIdentifier("auto-1"), Property::ServerKeepAlive(9)]);
    for session_present in [false, version != Version::V3_1] {
        let properties = connack_properties.as_properties();
        test(Packet::Connack(Connack { session_present, reason_code: ReasonCode::Success, properties }));
    }
    test(Packet::Connack(Connack::refusal(ReasonCode::NotAuthorized)));

    let publish_properties = property(&[
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(60),
        Property::SubscriptionIdentifier(SubscriptionId::new(200).unwrap()),
        Property::SubscriptionIdentifier(SubscriptionId::new(268_435_455).unwrap()),
        user,
    ]);
    for delivery in [
        Delivery::AtMostOnce,
        Delivery::AtLeastOnce { id, dup: false },
        Delivery::AtLeastOnce { id, dup: true },
        Delivery::ExactlyOnce { id, dup: true },
    ] {
        let properties = publish_properties.as_properties();
        test(Packet::Publish(Publish { delivery, retain: true, topic: Some(topic), properties, payload: &[9; 300] }));
        let properties = Properties::EMPTY;
        test(Packet::Publish(Publish { delivery, retain: false, topic: Some(topic), properties, payload: b"" }));
    }

    let reason_string = property(&[Property::ReasonString("no such frog"), user]);
    let failed = if is_v5 { ReasonCode::PacketIdentifierNotFound } else { ReasonCode::Success };
    let refused = if is_v5 { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
    for properties in [Properties::EMPTY, reason_string.as_properties()] {
        test(Packet::Puback(Ack { packet_id: id, reason_code: ReasonCode::Success, properties }));
        test(Packet::Puback(Ack { packet_id: id, reason_code: refused, properties }));
        test(Packet::Pubrec(Ack { packet_id: id, reason_code: refused, properties }));
        test(Packet::Pubrel(Ack { packet_id: id, reason_code: failed, properties }));
        test(Packet::Pubcomp(Ack { packet_id: id, reason_code: failed, properties }));
        test(Packet::Suback(Suback::new(
            id,
            properties,
            &[ReasonCode::Success, ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError],
        )));
        let codes = [ReasonCode::NoSubscriptionExisted];
        test(Packet::Unsuback(Unsuback::new(id, properties, if is_v5 { &codes } else { &[] })));
        test(Packet::Disconnect(Disconnect { reason_code: ReasonCode::Success, properties }));
    }

    let filters = [TopicFilter::new("pond/+/depth").unwrap(), TopicFilter::new("#").unwrap()];
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
    let full = SubscriptionOptions {
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
        ..options
    };
    let requests = [(filters[0], options), (filters[1], if is_v5 { full } else { options })];
    let subscription_id = property(&[Property::SubscriptionIdentifier(SubscriptionId::new(1).unwrap()), user]);
    test(Packet::Subscribe(Subscribe::new(id, subscription_id.as_properties(), &requests)));
    test(Packet::Unsubscribe(Unsubscribe::new(id, property(&[user]).as_properties(), &filters)));
    test(Packet::Pingreq);
    test(Packet::Pingresp);
    if is_v5 {
        test(Packet::Disconnect(Disconnect::with_reason(ReasonCode::ServerShuttingDown)));
        test(Packet::Auth(Auth { reason_code: ReasonCode::Success, properties: Properties::EMPTY }));
        let properties = property(&[Property::AuthenticationMethod("m"), Property::AuthenticationData(b"\x00"), user]);
        let properties = properties.as_properties();
        test(Packet::Auth(Auth { reason_code: ReasonCode::ContinueAuthentication, properties }));
    }
}

#[test]
fn every_packet_survives_encoding_and_decoding() {
    for version in VERSIONS {
        let mut seen = 0_u32;
        with_each_packet(version, |packet| {
            let mut frame = vec![0xAA];
            packet.encode(version, Foreign::Reject, &mut frame).unwrap();
            let frame = &frame[1..];

            assert_eq!(packet.encoded_len(version, Foreign::Reject), Ok(frame.len()), "{packet:?}");
            assert_eq!(Packet::decode(version, frame), Ok(packet));
            seen |= 1 << packet.packet_type().number();
        });
        let all = if version.has_properties() { 0xFFFE } else { 0x7FFE };
        assert_eq!(seen, all, "a packet type is not tested in {version}");
    }
}

/// A body parser never says "not yet" and never reads beyond the frame: each shorter frame with a true length is an
/// error or a shorter packet, never a panic.
#[test]
fn every_cut_packet_is_refused_or_is_a_shorter_packet() {
    for version in VERSIONS {
        with_each_packet(version, |packet| {
            let mut frame = Vec::new();
            packet.encode(version, Foreign::Reject, &mut frame).unwrap();
            let header = peek(&frame, &FrameLimits::default()).unwrap().unwrap();
            let body = &frame[usize::from(header.header_len())..];
            for len in 0..body.len().min(120) {
                let mut cut = vec![frame[0], u8::try_from(len).unwrap()];
                cut.extend_from_slice(&body[..len]);
                if let Ok(shorter) = Packet::decode(version, &cut) {
                    assert_ne!(shorter, packet);
                    let mut again = Vec::new();
                    shorter.encode(version, Foreign::Reject, &mut again).unwrap();
                    assert_eq!(Packet::decode(version, &again), Ok(shorter));
                }
            }
        });
    }
}

#[test]
fn an_error_says_where_what_and_why_in_one_line() {
    let error = Packet::decode(Version::V3_1_1, &[0x62, 0x02, 0x00, 0x00]).unwrap_err();

    let text: String = format!("{error}");

    assert_eq!(text, "the packet identifier is 0 at byte 2 [MQTT3-2.3.1-1]");
}
