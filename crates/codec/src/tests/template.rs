//! A template writes what encoding the whole packet would write.

use std::vec::Vec;

use super::*;

const PAYLOAD: &[u8] = &[7; 200];

/// The packet a template with this addition stands for, encoded field by field.
fn expected(version: Version, qos: QoS, kept: &[Property<'_>], addition: &Addition<'_>) -> Vec<u8> {
    let mut properties = PropertiesBuf::new();
    if version.has_properties() {
        if let Some((alias, _)) = addition.topic_alias {
            properties.push(Property::TopicAlias(alias)).unwrap();
        }
        for id in addition.subscription_ids {
            properties.push(Property::SubscriptionIdentifier(*id)).unwrap();
        }
        let own_expiry = kept.iter().any(|property| property.id() == PropertyId::MessageExpiryInterval);
        if let Some(seconds) = addition.message_expiry_interval.filter(|_| !own_expiry) {
            properties.push(Property::MessageExpiryInterval(seconds)).unwrap();
        }
        for property in kept {
            match (property, addition.message_expiry_interval) {
                (Property::MessageExpiryInterval(_), Some(seconds)) => {
                    properties.push(Property::MessageExpiryInterval(seconds)).unwrap();
                }
                (property, _) => properties.push(*property).unwrap(),
            }
        }
    }
    let delivery = match (qos, addition.packet_id) {
        (QoS::AtLeastOnce, Some(id)) => Delivery::AtLeastOnce { id, dup: addition.dup },
        (QoS::ExactlyOnce, Some(id)) => Delivery::ExactlyOnce { id, dup: addition.dup },
        _ => Delivery::AtMostOnce,
    };
    let topic = TopicName::new("pond/7/depth").ok();
    let topic = topic.filter(|_| addition.topic_alias.is_none_or(|(_, with)| with || !version.has_properties()));
    let mut frame = Vec::new();
    Publish { delivery, retain: addition.retain, topic, properties: properties.as_properties(), payload: PAYLOAD }
        .encode(version, Foreign::Reject, &mut frame)
        .unwrap();
    frame
}

fn with_each_addition(mut test: impl FnMut(&Addition<'_>)) {
    let ids = [1, 200, 268_435_455].map(|id| SubscriptionId::new(id).unwrap());
    let alias = TopicAlias::new(300).unwrap();
    for topic_alias in [None, Some((alias, true)), Some((alias, false))] {
        for subscription_ids in [&ids[..0], &ids[..1], &ids[..]] {
            for message_expiry_interval in [None, Some(0), Some(90)] {
                for (dup, retain) in [(false, true), (true, true), (true, false), (false, false)] {
                    let packet_id = PacketId::new(0xFFFE);
                    test(&Addition { packet_id, dup, retain, subscription_ids, topic_alias, message_expiry_interval });
                }
            }
        }
    }
}

/// [MQTT-3.3.4-3] [MQTT-3.3.2-6] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.1-2]
#[test]
fn a_template_writes_what_the_packet_would_for_each_addition() {
    let topic = TopicName::new("pond/7/depth").unwrap();
    let user = [Property::UserProperty("a", "1"), Property::UserProperty("a", "0")];
    let expiry = [user[0], Property::MessageExpiryInterval(100), Property::ContentType("text/plain"), user[1]];
    let mut template = PublishTemplate::default();
    for version in VERSIONS {
        for kept in [&[][..], &user, &expiry] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut properties = PropertiesBuf::new();
                // Neither belongs to the message, so neither reaches a subscriber.
                properties.push(Property::SubscriptionIdentifier(SubscriptionId::new(77).unwrap())).unwrap();
                for property in kept {
                    properties.push(*property).unwrap();
                }
                properties.push(Property::TopicAlias(TopicAlias::new(5).unwrap())).unwrap();
                template.reset(version, qos, false, topic, properties.as_properties(), PAYLOAD).unwrap();

                with_each_addition(|addition| {
                    let expected = expected(version, qos, kept, addition);
                    let mut out = vec![0xAA];
                    template.write(addition, &mut out).unwrap();
                    assert_eq!(out[1..], expected, "{version} {qos} {addition:?}");
                    assert_eq!(template.encoded_len(addition), Ok(expected.len()));

                    let mut head = vec![0xAA];
                    template.write_head(addition, &mut head).unwrap();
                    assert_eq!(head[1..], expected[..expected.len() - PAYLOAD.len()]);
                });
            }
        }
    }
}

/// [MQTT-3.3.1-13]
#[test]
fn a_copy_has_retain_if_the_template_or_the_addition_has_it() {
    let topic = TopicName::new("pond").unwrap();
    for (of_template, of_addition) in [(false, false), (true, false), (false, true), (true, true)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let template =
                PublishTemplate::new(Version::V5_0, qos, of_template, topic, Properties::EMPTY, b"x").unwrap();
            let addition = Addition { packet_id: PacketId::new(1), retain: of_addition, ..Addition::default() };
            let mut out = Vec::new();
            template.write(&addition, &mut out).unwrap();
            assert_eq!(out[0] & 1, u8::from(of_template || of_addition), "{of_template} {of_addition}");
        }
    }
}

#[test]
fn a_template_without_payload_counts_it_and_leaves_it_out() {
    let topic = TopicName::new("pond").unwrap();
    let mut template = PublishTemplate::default();
    template.reset_head(Version::V5_0, QoS::AtMostOnce, false, topic, Properties::EMPTY, 1 << 20).unwrap();

    let mut head = Vec::new();
    template.write(&Addition::default(), &mut head).unwrap();

    let header = peek(&head, &FrameLimits::default()).unwrap().unwrap();
    assert_eq!(template.encoded_len(&Addition::default()), Ok(header.frame_len()));
    assert_eq!(head.len() + (1 << 20), header.frame_len());
}

/// [MQTT-2.2.1-3]
#[test]
fn a_template_above_qos_0_needs_a_packet_id_and_writes_nothing_without() {
    let topic = TopicName::new("pond").unwrap();
    let template =
        PublishTemplate::new(Version::V5_0, QoS::AtLeastOnce, false, topic, Properties::EMPTY, b"x").unwrap();
    let with_alias = Addition { topic_alias: Some((TopicAlias::new(1).unwrap(), true)), ..Addition::default() };
    for addition in [Addition::default(), with_alias] {
        let mut out = Vec::new();

        let result = template.write(&addition, &mut out);

        assert_eq!(result, Err(EncodeError::PacketIdMissing));
        assert!(out.is_empty());
    }
}

#[test]
fn a_cleared_template_and_a_new_one_write_nothing() {
    let ids = [SubscriptionId::new(1).unwrap()];
    let addition = Addition { subscription_ids: &ids, ..Addition::default() };
    let mut out = Vec::new();

    PublishTemplate::default().write(&addition, &mut out).unwrap();

    assert!(out.is_empty());
    assert_eq!(PublishTemplate::default().encoded_len(&addition), Ok(0));
}

#[test]
fn a_template_is_refused_what_a_publish_may_not_carry() {
    let topic = TopicName::new("pond").unwrap();
    let mut properties = PropertiesBuf::new();
    properties.push(Property::ReasonString("no")).unwrap();
    let mut template = PublishTemplate::default();

    let result = template.reset(Version::V5_0, QoS::AtMostOnce, false, topic, properties.as_properties(), b"");

    assert_eq!(result, Err(EncodeError::PropertyNotAllowed(PropertyId::ReasonString)));
    assert_eq!(template.encoded_len(&Addition::default()), Ok(0));
}

#[test]
fn a_refilled_template_keeps_its_memory() {
    let topic = TopicName::new("pond").unwrap();
    let mut template = PublishTemplate::default();
    template.reset(Version::V5_0, QoS::AtMostOnce, false, topic, Properties::EMPTY, PAYLOAD).unwrap();
    let before = template.heap_bytes();

    template.reset(Version::V5_0, QoS::ExactlyOnce, true, topic, Properties::EMPTY, &PAYLOAD[..100]).unwrap();

    assert_eq!(template.heap_bytes(), before);
}
