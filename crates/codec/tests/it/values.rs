//! What packets and their parts say about themselves: equality, texts for logs, lengths and limits.

use bytes::Bytes;
use damselfly_codec::{
    Ack, AckType, Addition, Connect, ConnectView, DecodeError, Delivery, EncodeError, FixedHeader, Foreign, Frame,
    FrameLimits, PROTOCOL_MAXIMUM_PACKET_SIZE, Packet, PacketId, PacketType, Properties, PropertiesBuf, Property,
    PropertyId, Publish, PublishFrame, PublishTemplate, QoS, ReasonCode, RetainHandling, Rule, Suback, Subscribe,
    SubscriptionId, SubscriptionOptions, TopicAlias, Unsuback, Unsubscribe, Version, peek,
};
use damselfly_topic::{TopicFilter, TopicName};

const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5_0];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("tests use no zero")
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::new(text).expect("a name")
}

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).expect("a filter")
}

fn user(value: &str) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::UserProperty("n", value)).expect("valid");
    properties
}

fn header_of(remaining_length: usize) -> Vec<u8> {
    let mut header = vec![0x30];
    let mut rest = remaining_length;
    loop {
        let low = u8::try_from(rest % 128).expect("seven bits");
        rest /= 128;
        if rest == 0 {
            header.push(low);
            return header;
        }
        header.push(low | 0x80);
    }
}

/// [MQTT-2.1.4]
#[test]
fn the_longest_packet_has_five_bytes_before_what_four_can_count() {
    assert_eq!(PROTOCOL_MAXIMUM_PACKET_SIZE, 268_435_460);
}

/// [MQTT-3.1.2-24] [MQTT-3.2.2-15]
#[test]
fn each_length_is_allowed_up_to_the_limit_and_not_beyond() {
    let lengths = (0..300).chain(16_300..16_500).chain([2_097_151, 2_097_152, 268_435_455]);
    for length in lengths {
        let header = header_of(length);
        let size = u32::try_from(header.len() + length).expect("at most 268,435,460");
        for (max_packet_size, is_allowed) in [(size, true), (size - 1, false), (size / 2, false), (u32::MAX, true)] {
            let found = peek(&header, &FrameLimits { max_packet_size });
            let found = found.map(|header| header.map(FixedHeader::frame_len)).map_err(DecodeError::rule);
            let expected = if is_allowed { Ok(Some(header.len() + length)) } else { Err(Rule::PacketTooLarge) };
            assert_eq!(found, expected, "{length} with a limit of {max_packet_size}");
        }
    }
}

#[test]
fn a_short_acknowledgement_is_split_off_and_nothing_else_is() {
    let types = [
        (0x40, AckType::Puback, PacketType::Puback),
        (0x50, AckType::Pubrec, PacketType::Pubrec),
        (0x62, AckType::Pubrel, PacketType::Pubrel),
        (0x70, AckType::Pubcomp, PacketType::Pubcomp),
    ];
    for (first, ack_type, packet_type) in types {
        assert_eq!(ack_type.packet_type(), packet_type);
        assert_eq!(Ack::split_short(&[first, 2, 1, 7, 9, 9]), Some((ack_type, id(263), &[9, 9][..])));
        for other in [&[first, 2, 0, 0][..], &[first, 3, 0, 7, 0], &[first, 2, 0], &[first + 1, 2, 0, 7], &[]] {
            assert_eq!(Ack::split_short(other), None, "{other:02X?}");
        }
    }
    for other in [0x30, 0x60, 0x80, 0x90, 0xC0] {
        assert_eq!(Ack::split_short(&[other, 2, 0, 7]), None, "{other:02X}");
    }
}

/// [MQTT-3.3.2.3.1]
#[test]
fn property_length_is_read_behind_topic_and_packet_id() {
    for (first, len) in [(0x30, 0), (0x31, 5), (0x32, 127), (0x34, 128), (0x3A, 300)] {
        let mut body = vec![0, 3, b'a', b'/', b'b'];
        if first & 0x06 != 0 {
            body.extend([0, 7]);
        }
        let length_at = body.len();
        body.extend(&header_of(len)[1..]);
        let behind = body.len();
        body.resize(behind + len, 0x26);
        let mut frame = header_of(body.len());
        frame[0] = first;
        let header = peek(&frame, &FrameLimits::default()).expect("valid").expect("whole");
        let of = |version, body: &[u8]| Publish::property_length(version, header, body);
        assert_eq!(of(Version::V5_0, &body), u32::try_from(len).ok(), "{first:02X}");
        assert_eq!(of(Version::V5_0, &body[..behind]), u32::try_from(len).ok(), "the properties need not be there");
        for cut in 0..behind {
            assert_eq!(of(Version::V5_0, &body[..cut]), None, "{cut} of {length_at}");
        }
        assert_eq!(of(Version::V3_1_1, &body), None);
    }
}

fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, Foreign::Reject, &mut out).expect("valid");
    out
}

#[test]
fn a_publish_is_sent_on_as_it_came_but_for_what_a_receiver_has_of_its_own() {
    let payload = [7; 200];
    for version in VERSIONS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for payload in [&payload[..3], &payload] {
                let properties = Properties::EMPTY;
                let publish =
                    |delivery, retain| Publish { delivery, retain, topic: Some(name("pond")), properties, payload };
                let came = publish(Delivery::first(qos, id(7)), true);
                let frame = encoded(&Packet::Publish(came), version);
                let header = peek(&frame, &FrameLimits::default()).expect("valid").expect("whole");
                let copy = PublishFrame::new(header, &frame, &came).expect("nothing to take out");
                assert_eq!((copy.qos(), copy.encoded_len()), (qos, frame.len()));
                for (dup, retain) in [(false, false), (false, true), (true, false), (true, true)] {
                    let id = id(0xFFFE);
                    let delivery = match qos {
                        QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
                        _ => Delivery::AtLeastOnce { id, dup },
                    };
                    let mut out = vec![0xEE];
                    copy.write(id, dup, retain, &mut out);
                    assert_eq!(out[1..], encoded(&Packet::Publish(publish(delivery, retain)), version));
                }
            }
        }
    }
}

#[test]
fn a_publish_with_something_to_take_out_is_no_copy() {
    let properties = user("v");
    let delivery = Delivery::first(QoS::AtLeastOnce, id(7));
    let plain =
        Publish { delivery, retain: false, topic: Some(name("a")), properties: Properties::EMPTY, payload: b"" };
    let frame = encoded(&Packet::Publish(plain), Version::V5_0);
    let header = peek(&frame, &FrameLimits::default()).expect("valid").expect("whole");
    assert!(PublishFrame::new(header, &frame, &plain).is_some());
    for other in [
        Publish { delivery: Delivery::AtMostOnce, ..plain },
        Publish { properties: properties.as_properties(), ..plain },
        Publish { topic: None, ..plain },
    ] {
        assert!(PublishFrame::new(header, &frame, &other).is_none(), "{other:?}");
    }
}

#[test]
fn a_template_holds_its_packet_and_is_empty_after_a_refusal() {
    let addition = Addition::default();
    let mut refused = PropertiesBuf::new();
    refused.push(Property::ReasonString("no")).expect("valid");
    let mut template = PublishTemplate::default();
    assert_eq!(template.heap_bytes(), 0);
    let none = Properties::EMPTY;
    let mut fill = |payload_len: usize, properties: Properties<'_>| {
        let filled = template.reset_head(Version::V5_0, QoS::AtMostOnce, false, name("pond"), properties, payload_len);
        let mut out = Vec::new();
        assert_eq!(template.write(&addition, &mut out), Ok(()));
        assert!(template.heap_bytes() >= out.len());
        (filled, template.encoded_len(&addition), out.len())
    };
    // Two bytes and the topic, and the Property Length.
    let head = 2 + 4 + 1;
    assert_eq!(fill(3, none), (Ok(()), Ok(2 + head + 3), 2 + head));
    let not_allowed = EncodeError::PropertyNotAllowed(PropertyId::ReasonString);
    assert_eq!(fill(3, refused.as_properties()), (Err(not_allowed), Ok(0), 0));
    assert_eq!(fill(268_435_455 - head, none), (Ok(()), Ok(268_435_460), 5 + head));
    assert_eq!(fill(268_435_456 - head, none), (Err(EncodeError::PacketTooLarge), Ok(0), 0));

    assert_eq!(fill(3, none).0, Ok(()));
    let memory = template.heap_bytes();
    template.clear();
    assert_eq!((template.encoded_len(&addition), template.heap_bytes()), (Ok(0), memory));
    assert!(memory > 0);
}

/// [MQTT-3.3.1-13]
#[test]
fn retain_is_set_if_the_message_or_the_receiver_says_so() {
    let ids = [SubscriptionId::new(7).expect("not zero")];
    for qos in QOS {
        for (of_message, of_receiver) in [(false, false), (false, true), (true, false), (true, true)] {
            let template = PublishTemplate::new(Version::V5_0, qos, of_message, name("pond"), Properties::EMPTY, b"1")
                .expect("valid");
            for (subscription_ids, dup) in [(&ids[..0], false), (&ids, false), (&ids[..0], true), (&ids, true)] {
                let addition = Addition {
                    packet_id: Some(id(9)),
                    dup,
                    retain: of_receiver,
                    subscription_ids,
                    ..Addition::default()
                };
                let mut out = Vec::new();
                template.write(&addition, &mut out).expect("valid");
                let Ok(Packet::Publish(publish)) = Packet::decode(Version::V5_0, &out) else { panic!("a PUBLISH") };
                assert_eq!(publish.retain, of_message || of_receiver);
                assert_eq!(publish.delivery.qos(), qos);
                assert_eq!(publish.delivery.is_dup(), dup && qos != QoS::AtMostOnce);
                assert_eq!(publish.properties.subscription_ids().count(), subscription_ids.len());
            }
        }
    }
}

/// [MQTT-1.5.5]
#[test]
fn additions_count_towards_the_longest_packet() {
    let mut template = PublishTemplate::default();
    let head = 2 + 4 + 1;
    let reset =
        template.reset_head(Version::V5_0, QoS::AtMostOnce, false, name("pond"), Properties::EMPTY, 268_435_455 - head);
    assert_eq!(reset, Ok(()));
    let alias = TopicAlias::new(1).expect("not zero");
    // The alias takes three bytes more, the Topic Name four less.
    for (with_topic, expected) in [(true, Err(EncodeError::PacketTooLarge)), (false, Ok(268_435_459))] {
        let addition = Addition { topic_alias: Some((alias, with_topic)), ..Addition::default() };
        assert_eq!(template.encoded_len(&addition), expected);
        let mut out = Vec::new();
        assert_eq!(template.write_head(&addition, &mut out).err(), expected.err());
    }
}

#[test]
fn encoding_asks_for_the_packets_memory_once() {
    let payload = [7; 400];
    for len in [0, 10, 300] {
        let properties = user("v");
        for properties in [Properties::EMPTY, properties.as_properties()] {
            let publish = Publish {
                delivery: Delivery::AtMostOnce,
                retain: false,
                topic: Some(name("pond/7/depth")),
                properties,
                payload: &payload[..len],
            };
            let connect = Connect { password: Some(&payload[..len]), ..Connect::new(Version::V5_0, "heron") };
            for packet in [Packet::Publish(publish), Packet::Connect(ConnectView::from(&connect))] {
                let mut out = Vec::new();
                packet.encode(Version::V5_0, Foreign::Reject, &mut out).expect("valid");
                assert!(out.capacity() <= out.len() + 5, "{} for {}", out.capacity(), out.len());
            }
        }
    }
}

#[test]
fn a_frame_lends_and_gives_its_bytes() {
    let bytes = b"\x40\x02\x00\x07";
    let frame = Frame::new(Bytes::from_static(bytes), &FrameLimits::default()).expect("a frame");
    assert_eq!(frame.as_bytes().as_ptr(), bytes.as_ptr());
    assert_eq!((frame.as_bytes(), frame.as_ref(), &*frame), (&Bytes::from_static(bytes), &bytes[..], &bytes[..]));
    assert_eq!(Bytes::from(frame.clone()), &bytes[..]);
    assert_eq!(frame.into_bytes().as_ptr(), bytes.as_ptr());
}

#[test]
fn a_view_of_a_connect_knows_its_version_on_both_ways() {
    for version in VERSIONS {
        let connect = Connect::new(version, "heron");
        let built = ConnectView::from(&connect);
        let frame = encoded(&Packet::Connect(built), version);
        let Ok(Packet::Connect(read)) = Packet::decode(Version::V5_0, &frame) else { panic!("a CONNECT") };
        assert_eq!((built.version(), read.version()), (version, version));
        assert_eq!(built, read);
        let other = Connect { clean_start: false, ..connect };
        assert_ne!(read, ConnectView::from(&other));
        for shown in [format!("{built:?}"), format!("{read:?}")] {
            assert!(shown.contains("heron"), "{shown}");
        }
    }
}

/// Packets with lists are compared by what they hold, and shown so; the last of each list is the others' odd one out.
#[test]
fn packets_with_lists_differ_in_each_part() {
    let (one, two) = (user("1"), user("2"));
    let (one, two) = (one.as_properties(), two.as_properties());
    let options = SubscriptionOptions::default();
    let requests = [(filter("a/+"), options), (filter("b"), options)];
    let other_options = [(filter("a/+"), options), (filter("b"), SubscriptionOptions { no_local: true, ..options })];
    let subscribe = Subscribe::new(id(7), one, &requests);
    assert_eq!(subscribe, Subscribe::new(id(7), one, &requests.clone()));
    for other in [
        Subscribe::new(id(8), one, &requests),
        Subscribe::new(id(7), two, &requests),
        Subscribe::new(id(7), one, &requests[..1]),
        Subscribe::new(id(7), one, &other_options),
    ] {
        assert_ne!(subscribe, other);
    }
    let filters = [filter("a/+"), filter("b")];
    let unsubscribe = Unsubscribe::new(id(7), one, &filters);
    assert_eq!(unsubscribe, Unsubscribe::new(id(7), one, &filters.clone()));
    for other in [
        Unsubscribe::new(id(8), one, &filters),
        Unsubscribe::new(id(7), two, &filters),
        Unsubscribe::new(id(7), one, &filters[1..]),
    ] {
        assert_ne!(unsubscribe, other);
    }
    let codes = [ReasonCode::Success, ReasonCode::NotAuthorized];
    let (suback, unsuback) = (Suback::new(id(7), one, &codes), Unsuback::new(id(7), one, &codes));
    for (packet_id, properties, codes) in [(8, one, &codes[..]), (7, two, &codes), (7, one, &codes[..1])] {
        assert_ne!(suback, Suback::new(id(packet_id), properties, codes));
        assert_ne!(unsuback, Unsuback::new(id(packet_id), properties, codes));
    }
    for shown in [format!("{subscribe:?}"), format!("{unsubscribe:?}"), format!("{suback:?}"), format!("{unsuback:?}")]
    {
        assert!(shown.contains("PacketId(7)") && shown.contains("UserProperty(\"n\", \"1\")"), "{shown}");
        assert!(shown.contains("a/+") || shown.contains("NotAuthorized"), "{shown}");
    }
}

/// [MQTT3-3.9.3-2]
#[test]
fn before_5_0_suback_has_a_code_for_each_granted_qos_and_one_for_every_error() {
    for code in ReasonCode::ALL {
        let expected = match code.code() {
            granted @ 0..=2 => Some(granted),
            0x80.. => Some(0x80),
            _ => None,
        };
        assert_eq!(code.suback_return_code(), expected, "{code:?}");
    }
    let known = (0..=u8::MAX).filter(|byte| ReasonCode::from_suback_return_code(*byte).is_some());
    assert_eq!(known.collect::<Vec<_>>(), [0, 1, 2, 0x80]);
}

/// What else it asks for is refused or left out. [MQTT3-3.8.3-4]
#[test]
fn before_5_0_a_subscription_says_its_qos_and_nothing_else() {
    let bare = SubscriptionOptions::default();
    let all = [
        (bare, true),
        (SubscriptionOptions { no_local: true, ..bare }, false),
        (SubscriptionOptions { retain_as_published: true, ..bare }, false),
        (SubscriptionOptions { retain_handling: RetainHandling::SendIfNew, ..bare }, false),
        (SubscriptionOptions { retain_handling: RetainHandling::DoNotSend, ..bare }, false),
    ];
    for (version, qos) in VERSIONS[..2].iter().flat_map(|version| QOS.map(|qos| (*version, qos))) {
        for (options, is_known) in all {
            let filters = [(filter("a"), SubscriptionOptions { qos, ..options })];
            let subscribe = Subscribe::new(id(7), Properties::EMPTY, &filters);
            let encoded = |policy| {
                let mut out = Vec::new();
                subscribe.encode(version, policy, &mut out).map(|()| out)
            };
            let whole = vec![0x82, 6, 0, 7, 0, 1, b'a', qos.level()];
            let refused = Err(EncodeError::NotInVersion(PacketType::Subscribe));
            assert_eq!(encoded(Foreign::Reject), if is_known { Ok(whole.clone()) } else { refused }, "{filters:?}");
            assert_eq!(encoded(Foreign::Strip), Ok(whole), "{filters:?}");
        }
    }
}

#[test]
fn properties_can_be_emptied_and_shown() {
    let mut properties = user("v");
    assert!(!properties.is_empty());
    assert_eq!(format!("{properties:?}"), "[UserProperty(\"n\", \"v\")]");
    assert_eq!(format!("{:?}", properties.as_properties()), "[UserProperty(\"n\", \"v\")]");
    assert!(properties.as_properties().into_iter().eq([Property::UserProperty("n", "v")]));
    properties.clear();
    assert!(properties.is_empty() && properties.as_properties().is_empty());
    assert_eq!(properties, PropertiesBuf::default());
}

/// [MQTT-1.5.4] [MQTT-1.5.6]
#[test]
fn a_property_is_refused_when_its_length_does_not_fit_two_bytes() {
    let (longest, longer) = (vec![b'x'; 65_535], vec![b'x'; 65_536]);
    let (long_text, longer_text) = ("x".repeat(65_535), "x".repeat(65_536));
    for (allowed, refused) in [
        (Property::CorrelationData(&longest), Property::CorrelationData(&longer)),
        (Property::AuthenticationData(&longest), Property::AuthenticationData(&longer)),
        (Property::ContentType(&long_text), Property::ContentType(&longer_text)),
        (Property::UserProperty(&long_text, ""), Property::UserProperty(&longer_text, "")),
        (Property::UserProperty("", &long_text), Property::UserProperty("", &longer_text)),
    ] {
        let mut properties = PropertiesBuf::new();
        assert_eq!(properties.push(refused), Err(EncodeError::FieldTooLong));
        assert!(properties.is_empty());
        assert_eq!(properties.push(allowed), Ok(()));
        assert!(properties.as_properties().into_iter().eq([allowed]));
    }
}

/// Whatever comes before it. [MQTT-3.3.2.3]
#[test]
fn a_property_that_a_publish_may_not_carry_is_refused_behind_any_that_it_may() {
    let number = SubscriptionId::new(200).expect("not zero");
    for before in [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(60),
        Property::ContentType("text"),
        Property::ResponseTopic(name("answers")),
        Property::CorrelationData(b"data"),
        Property::UserProperty("name", "value"),
        Property::SubscriptionIdentifier(number),
        Property::TopicAlias(TopicAlias::new(1).expect("not zero")),
    ] {
        let mut properties = PropertiesBuf::new();
        properties.push(before).expect("valid");
        for expected in [Ok(()), Err(EncodeError::PropertyNotAllowed(PropertyId::ReasonString))] {
            let publish = Publish {
                delivery: Delivery::AtMostOnce,
                retain: false,
                topic: Some(name("pond")),
                properties: properties.as_properties(),
                payload: b"1",
            };
            let mut out = Vec::new();
            assert_eq!(publish.encode(Version::V5_0, Foreign::Reject, &mut out), expected, "{before:?}");
            let len = publish.encoded_len(Version::V5_0, Foreign::Reject);
            assert_eq!(len, expected.map(|()| out.len()), "{before:?}");
            properties.push(Property::ReasonString("no")).ok();
        }
    }
}
