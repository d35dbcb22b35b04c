//! Laws of the encoders that go beyond the round trip: 5.0 data before 5.0, and templates. Shared with the fuzz targets.

use damselfly_codec::{
    Addition, EncodeError, Foreign, Packet, PacketId, PublishTemplate, SubscriptionId, TopicAlias, Version,
};

use crate::build::with_packet;
use crate::dice::Dice;
use crate::reference::{ConnectModel, Model, PropertyModel, Value, WillModel, encode};

const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const TOPIC_ALIAS: u8 = 0x23;

/// A packet of 5.0 on an earlier connection: `Strip` leaves out what has no place there, `Reject` refuses to.
pub(crate) fn foreign_data_is_stripped_or_rejected(model: &Model, version: Version) {
    let stripped = stripped(model, version);
    with_packet(model, version, |packet| {
        let under = |policy| encoded(&packet, version, policy);
        let Some(stripped) = &stripped else {
            assert!(under(Foreign::Strip).is_err(), "{packet:?} has no form before 5.0");
            assert!(under(Foreign::Reject).is_err(), "{packet:?} has no form before 5.0");
            return;
        };
        let bytes = encode(stripped, version);
        assert_eq!(under(Foreign::Strip).as_deref(), Ok(&bytes[..]), "{packet:?}");
        let rejected = under(Foreign::Reject);
        match model {
            // The error codes of before 5.0 are fewer, and Session Present is not in 3.1: no data is lost by that.
            Model::Suback { properties, .. } | Model::Connack { properties, .. } if properties.is_empty() => {
                assert_eq!(rejected, Ok(bytes), "{packet:?}");
            }
            whole if whole == stripped => assert_eq!(rejected, Ok(bytes), "{packet:?}"),
            _ => assert_eq!(rejected, Err(EncodeError::NotInVersion(packet.packet_type())), "{packet:?}"),
        }
    });
}

/// The packet and its length, which have to agree about whether there is one.
fn encoded(packet: &Packet<'_>, version: Version, policy: Foreign) -> Result<Vec<u8>, EncodeError> {
    let mut out = vec![0xEE];
    let outcome = packet.encode(version, policy, &mut out);
    assert_eq!(packet.encoded_len(version, policy), outcome.map(|()| out.len() - 1), "{packet:?}");
    if outcome.is_err() {
        assert_eq!(out, [0xEE], "nothing is written on an error: {packet:?}");
    }
    assert_eq!(out.remove(0), 0xEE);
    if let Packet::Publish(publish) = packet {
        let mut passed_on = Vec::new();
        assert_eq!(publish.encode_checked(version, policy, &mut passed_on), outcome, "{packet:?}");
        assert_eq!(passed_on, out, "{packet:?}");
    }
    outcome.map(|()| out)
}

/// What is left of a packet before 5.0; `None` where there is no such packet.
fn stripped(model: &Model, version: Version) -> Option<Model> {
    let properties = Vec::new();
    Some(match model.clone() {
        // Only 5.0 knows a password without a user name. [MQTT3-3.1.2-22]
        Model::Connect(connect) if connect.password.is_some() && connect.user_name.is_none() => return None,
        Model::Connect(connect) => {
            let will = connect.will.map(|will| WillModel { properties: Vec::new(), ..will });
            Model::Connect(ConnectModel { will, properties, ..connect })
        }
        Model::Connack { session_present, code, .. } => {
            let code = match code {
                0x00 | 0x84 | 0x85 | 0x86 => code,
                0x88 | 0x89 | 0x97 | 0x9F => 0x88,
                0x87 | 0x8A => 0x87,
                _ => return None,
            };
            let session_present = session_present && version != Version::V3_1;
            Model::Connack { session_present, code, properties }
        }
        Model::Publish { topic, .. } if topic.is_empty() => return None,
        Model::Publish { qos, id, dup, retain, topic, payload, .. } => {
            Model::Publish { qos, id, dup, retain, topic, properties, payload }
        }
        Model::Ack { packet_type, id, .. } => Model::Ack { packet_type, id, code: 0, properties },
        Model::Subscribe { id, filters, .. } => {
            let filters = filters.into_iter().map(|(filter, options)| (filter, options & 0x03)).collect();
            Model::Subscribe { id, properties, filters }
        }
        Model::Suback { id, codes, .. } => {
            let codes = codes.into_iter().map(|code| code.min(0x80)).collect();
            Model::Suback { id, properties, codes }
        }
        Model::Unsubscribe { id, filters, .. } => Model::Unsubscribe { id, properties, filters },
        Model::Unsuback { id, .. } => Model::Unsuback { id, properties, codes: Vec::new() },
        Model::Disconnect { .. } => Model::Disconnect { code: 0, properties },
        Model::Auth { .. } => return None,
        same @ (Model::Pingreq | Model::Pingresp) => same,
    })
}

/// A template of the message with additions is the packet with these additions as its first properties.
pub(crate) fn a_template_writes_the_packet(model: &Model, version: Version, dice: &mut Dice<'_>) {
    with_packet(model, version, |packet| {
        let Packet::Publish(publish) = packet else { return };
        let Some(topic) = publish.topic else { return };
        let ids: Vec<u32> = (0..dice.below(4)).map(|_| (dice.four_bytes() >> 4).max(1)).collect();
        let subscription_ids: Vec<_> = ids.iter().map(|id| SubscriptionId::new(*id).expect("28 bits")).collect();
        let alias = dice.flag().then(|| (dice.two_bytes().max(1), dice.flag()));
        let addition = Addition {
            packet_id: publish.delivery.packet_id().or(PacketId::new(1)),
            dup: publish.delivery.is_dup() || dice.flag(),
            retain: publish.retain,
            subscription_ids: &subscription_ids,
            topic_alias: alias.map(|(alias, with_topic)| (TopicAlias::new(alias).expect("not 0"), with_topic)),
            message_expiry_interval: dice.flag().then(|| dice.four_bytes()),
        };
        let wanted = encode(&with_addition(model, version, &addition, &ids, alias), version);
        let qos = publish.delivery.qos();

        let mut template = PublishTemplate::default();
        let fill = template.reset(version, qos, false, topic, publish.properties, publish.payload);
        assert_eq!(fill, Ok(()));
        let mut out = vec![0xEE];
        assert_eq!(template.write(&addition, &mut out), Ok(()));
        assert_eq!(out[1..], wanted, "{addition:?} to {publish:?}");
        assert_eq!(template.encoded_len(&addition), Ok(wanted.len()));

        let fill = template.reset_head(version, qos, publish.retain, topic, publish.properties, publish.payload.len());
        assert_eq!(fill, Ok(()));
        out.truncate(1);
        assert_eq!(template.write_head(&addition, &mut out), Ok(()));
        assert_eq!([&out[1..], publish.payload].concat(), wanted, "{addition:?} to the head of {publish:?}");
    });
}

fn with_addition(
    model: &Model,
    version: Version,
    addition: &Addition<'_>,
    subscription_ids: &[u32],
    alias: Option<(u16, bool)>,
) -> Model {
    let Model::Publish { qos, id, retain, topic, properties, payload, .. } = model.clone() else { panic!("a PUBLISH") };
    let dup = addition.dup && qos > 0;
    if version != Version::V5_0 {
        return Model::Publish { qos, id, dup, retain, topic, properties: Vec::new(), payload };
    }
    let mut all = Vec::new();
    if let Some((alias, _)) = alias {
        all.push(PropertyModel { id: TOPIC_ALIAS, value: Value::TwoBytes(alias) });
    }
    for id in subscription_ids {
        all.push(PropertyModel { id: SUBSCRIPTION_IDENTIFIER, value: Value::VariableInteger(*id) });
    }
    let has_expiry = properties.iter().any(|property| property.id == MESSAGE_EXPIRY_INTERVAL);
    if let Some(seconds) = addition.message_expiry_interval.filter(|_| !has_expiry) {
        all.push(PropertyModel { id: MESSAGE_EXPIRY_INTERVAL, value: Value::FourBytes(seconds) });
    }
    for mut property in properties {
        if let (MESSAGE_EXPIRY_INTERVAL, Some(seconds)) = (property.id, addition.message_expiry_interval) {
            property.value = Value::FourBytes(seconds);
        }
        // Those of another connection are left out.
        if ![TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER].contains(&property.id) {
            all.push(property);
        }
    }
    let topic = if alias.is_some_and(|(_, with_topic)| !with_topic) { String::new() } else { topic };
    Model::Publish { qos, id, dup, retain, topic, properties: all, payload }
}
