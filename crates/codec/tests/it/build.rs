//! Builds the codec's packets from the owned ones of the naive encoder.

use std::num::{NonZeroU16, NonZeroU32};

use damselfly_codec::{
    Ack, Auth, Connack, Connect, Delivery, Disconnect, Packet, PacketId, PacketType, Properties, PropertiesBuf,
    Property, Publish, QoS, ReasonCode, RetainHandling, Suback, Subscribe, SubscriptionId, SubscriptionOptions,
    TopicAlias, Unsuback, Unsubscribe, Version, Will,
};
use damselfly_topic::{TopicFilter, TopicName};

use crate::reference::{ConnectModel, Model, PropertyModel, Value};

/// Calls `check` with the packet that `model` describes.
pub(crate) fn with_packet<R>(model: &Model, version: Version, check: impl FnOnce(Packet<'_>) -> R) -> R {
    match model {
        Model::Connect(connect) => with_connect(connect, version, check),
        Model::Connack { session_present, code, properties } => with_properties(properties, |properties| {
            let (session_present, reason_code) = (*session_present, reason(*code));
            check(Packet::Connack(Connack { session_present, reason_code, properties }))
        }),
        Model::Publish { qos, id, dup, retain, topic, properties, payload } => {
            with_properties(properties, |properties| {
                let delivery = match qos {
                    0 => Delivery::AtMostOnce,
                    1 => Delivery::AtLeastOnce { id: packet_id(*id), dup: *dup },
                    _ => Delivery::ExactlyOnce { id: packet_id(*id), dup: *dup },
                };
                let topic = if topic.is_empty() { None } else { Some(name(topic)) };
                check(Packet::Publish(Publish { delivery, retain: *retain, topic, properties, payload }))
            })
        }
        Model::Ack { packet_type, id, code, properties } => with_properties(properties, |properties| {
            let ack = Ack { packet_id: packet_id(*id), reason_code: reason(*code), properties };
            check(match packet_type {
                PacketType::Puback => Packet::Puback(ack),
                PacketType::Pubrec => Packet::Pubrec(ack),
                PacketType::Pubrel => Packet::Pubrel(ack),
                PacketType::Pubcomp => Packet::Pubcomp(ack),
                other => panic!("{other:?} is no acknowledgement"),
            })
        }),
        Model::Subscribe { id, properties, filters } => with_properties(properties, |properties| {
            let filters: Vec<_> = filters.iter().map(|(text, byte)| (filter(text), options(*byte))).collect();
            check(Packet::Subscribe(Subscribe::new(packet_id(*id), properties, &filters)))
        }),
        Model::Suback { id, properties, codes } => with_properties(properties, |properties| {
            let codes: Vec<_> = codes.iter().map(|code| reason(*code)).collect();
            check(Packet::Suback(Suback::new(packet_id(*id), properties, &codes)))
        }),
        Model::Unsubscribe { id, properties, filters } => with_properties(properties, |properties| {
            let filters: Vec<_> = filters.iter().map(|text| filter(text)).collect();
            check(Packet::Unsubscribe(Unsubscribe::new(packet_id(*id), properties, &filters)))
        }),
        Model::Unsuback { id, properties, codes } => with_properties(properties, |properties| {
            let codes: Vec<_> = codes.iter().map(|code| reason(*code)).collect();
            check(Packet::Unsuback(Unsuback::new(packet_id(*id), properties, &codes)))
        }),
        Model::Pingreq => check(Packet::Pingreq),
        Model::Pingresp => check(Packet::Pingresp),
        Model::Disconnect { code, properties } => with_properties(properties, |properties| {
            check(Packet::Disconnect(Disconnect { reason_code: reason(*code), properties }))
        }),
        Model::Auth { code, properties } => with_properties(properties, |properties| {
            check(Packet::Auth(Auth { reason_code: reason(*code), properties }))
        }),
    }
}

fn with_connect<R>(connect: &ConnectModel, version: Version, check: impl FnOnce(Packet<'_>) -> R) -> R {
    with_properties(&connect.properties, |properties| {
        let will_properties = connect.will.as_ref().map_or(&[][..], |will| &will.properties);
        with_properties(will_properties, |will_properties| {
            let will = connect.will.as_ref().map(|will| Will {
                qos: qos(will.qos),
                retain: will.retain,
                topic: name(&will.topic),
                payload: &will.payload,
                properties: will_properties,
            });
            let connect = Connect {
                version,
                clean_start: connect.clean_start,
                keep_alive: connect.keep_alive,
                client_id: &connect.client_id,
                will,
                user_name: connect.user_name.as_deref(),
                password: connect.password.as_deref(),
                properties,
            };
            check(Packet::Connect((&connect).into()))
        })
    })
}

fn with_properties<R>(models: &[PropertyModel], check: impl FnOnce(Properties<'_>) -> R) -> R {
    let mut properties = PropertiesBuf::new();
    for model in models {
        properties.push(property(model)).expect("a property that may be there");
    }
    check(properties.as_properties())
}

fn property(model: &PropertyModel) -> Property<'_> {
    match (model.id, &model.value) {
        (0x01, Value::Byte(byte)) => Property::PayloadFormatIndicator(*byte == 1),
        (0x02, Value::FourBytes(seconds)) => Property::MessageExpiryInterval(*seconds),
        (0x03, Value::Text(text)) => Property::ContentType(text),
        (0x08, Value::Text(text)) => Property::ResponseTopic(name(text)),
        (0x09, Value::Binary(data)) => Property::CorrelationData(data),
        (0x0B, Value::VariableInteger(id)) => {
            Property::SubscriptionIdentifier(SubscriptionId::new(*id).expect("1 to 268,435,455"))
        }
        (0x11, Value::FourBytes(seconds)) => Property::SessionExpiryInterval(*seconds),
        (0x12, Value::Text(text)) => Property::AssignedClientIdentifier(text),
        (0x13, Value::TwoBytes(seconds)) => Property::ServerKeepAlive(*seconds),
        (0x15, Value::Text(text)) => Property::AuthenticationMethod(text),
        (0x16, Value::Binary(data)) => Property::AuthenticationData(data),
        (0x17, Value::Byte(byte)) => Property::RequestProblemInformation(*byte == 1),
        (0x18, Value::FourBytes(seconds)) => Property::WillDelayInterval(*seconds),
        (0x19, Value::Byte(byte)) => Property::RequestResponseInformation(*byte == 1),
        (0x1A, Value::Text(text)) => Property::ResponseInformation(text),
        (0x1C, Value::Text(text)) => Property::ServerReference(text),
        (0x1F, Value::Text(text)) => Property::ReasonString(text),
        (0x21, Value::TwoBytes(count)) => Property::ReceiveMaximum(NonZeroU16::new(*count).expect("not 0")),
        (0x22, Value::TwoBytes(count)) => Property::TopicAliasMaximum(*count),
        (0x23, Value::TwoBytes(alias)) => Property::TopicAlias(TopicAlias::new(*alias).expect("not 0")),
        (0x24, Value::Byte(byte)) => Property::MaximumQoS(qos(*byte)),
        (0x25, Value::Byte(byte)) => Property::RetainAvailable(*byte == 1),
        (0x26, Value::Pair(name, value)) => Property::UserProperty(name, value),
        (0x27, Value::FourBytes(bytes)) => Property::MaximumPacketSize(NonZeroU32::new(*bytes).expect("not 0")),
        (0x28, Value::Byte(byte)) => Property::WildcardSubscriptionAvailable(*byte == 1),
        (0x29, Value::Byte(byte)) => Property::SubscriptionIdentifierAvailable(*byte == 1),
        (0x2A, Value::Byte(byte)) => Property::SharedSubscriptionAvailable(*byte == 1),
        (id, value) => panic!("property {id:02X} has no value {value:?}"),
    }
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("not 0")
}

fn reason(code: u8) -> ReasonCode {
    ReasonCode::try_from(code).expect("a reason code")
}

fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::new(text).expect("a topic name")
}

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).expect("a topic filter")
}

fn options(byte: u8) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: qos(byte & 0x03),
        no_local: byte & 0x04 != 0,
        retain_as_published: byte & 0x08 != 0,
        retain_handling: match byte >> 4 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
    }
}
