//! Packets to bytes and back, for the clients of a history.

use std::collections::BTreeMap;

use damselfly_codec::{
    Ack, Connect as ConnectPacket, Delivery, Disconnect, Foreign, Packet, PacketId, Properties, PropertiesBuf,
    Property, Publish as PublishPacket, QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionId,
    SubscriptionOptions, TopicAlias, Unsubscribe, Version, Will as WillPacket,
};
use damselfly_topic::{TopicFilter, TopicName};

use super::{
    observed::{Seen, Sent},
    reference::{Answer, Content},
    script::Connect,
};

/// Answers a refusal with this code: Quota exceeded.
const REFUSAL: ReasonCode = ReasonCode::QuotaExceeded;

/// What one connection takes: its version, and what it has been told of Topic Aliases.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    is_v5: bool,
    /// Topic Alias Maximum of the CONNECT.
    alias_maximum: u16,
    aliases: BTreeMap<u16, String>,
    /// A topic came as an alias alone.
    pub(crate) has_read_alias: bool,
    /// An alias came to stand for another topic.
    pub(crate) has_replaced_alias: bool,
}

const fn version(is_v5: bool) -> Version {
    if is_v5 { Version::V5_0 } else { Version::V3_1_1 }
}

fn qos(level: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(level)]
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn properties<const N: usize>(list: [Option<Property<'_>>; N]) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    for property in list.into_iter().flatten() {
        properties.push(property).unwrap();
    }
    properties
}

/// CONNECT as bytes.
pub(crate) fn encode_connect(name: &str, connect: &Connect) -> Vec<u8> {
    let list = properties([
        connect.expiry.map(Property::SessionExpiryInterval),
        connect.receive.map(|maximum| Property::ReceiveMaximum(maximum.try_into().unwrap())),
        connect.aliases.map(Property::TopicAliasMaximum),
        connect.packet.map(|size| Property::MaximumPacketSize(size.try_into().unwrap())),
    ]);
    let will = connect.will.clone().unwrap_or_default();
    let will_list = properties([
        (will.delay > 0).then_some(Property::WillDelayInterval(will.delay)),
        will.publish.expiry.map(Property::MessageExpiryInterval),
    ]);
    let will = connect.will.as_ref().map(|_| WillPacket {
        qos: qos(will.publish.qos),
        retain: will.publish.retain,
        topic: TopicName::new(&will.publish.topic).unwrap(),
        payload: will.publish.payload.as_bytes(),
        properties: if connect.is_v5 { will_list.as_properties() } else { Properties::EMPTY },
    });
    let packet = ConnectPacket {
        clean_start: connect.clean,
        will,
        properties: if connect.is_v5 { list.as_properties() } else { Properties::EMPTY },
        ..ConnectPacket::new(version(connect.is_v5), name)
    };
    let mut frame = Vec::new();
    packet.encode(Foreign::Reject, &mut frame).unwrap();
    frame
}

/// Any other packet as bytes.
pub(crate) fn encode(is_v5: bool, packet: &Sent) -> Vec<u8> {
    let ack = |id: u16, is_refusal: bool| {
        Ack::with_reason(packet_id(id), if is_refusal { REFUSAL } else { ReasonCode::Success })
    };
    match packet {
        Sent::Publish { id, dup, publish, alias, is_named } => {
            let list = properties([
                publish.expiry.map(Property::MessageExpiryInterval),
                alias.map(|alias| Property::TopicAlias(TopicAlias::new(alias).unwrap())),
            ]);
            let delivery = match publish.qos {
                0 => Delivery::AtMostOnce,
                1 => Delivery::AtLeastOnce { id: packet_id(*id), dup: *dup },
                _ => Delivery::ExactlyOnce { id: packet_id(*id), dup: *dup },
            };
            let topic = is_named.then(|| TopicName::new(&publish.topic).unwrap());
            let (properties, payload) = (list.as_properties(), publish.payload.as_bytes());
            frame(
                is_v5,
                Packet::Publish(PublishPacket { delivery, retain: publish.retain, topic, properties, payload }),
            )
        }
        Sent::Puback { id, is_refusal } => frame(is_v5, Packet::Puback(ack(*id, *is_refusal))),
        Sent::Pubrec { id, is_refusal } => frame(is_v5, Packet::Pubrec(ack(*id, *is_refusal))),
        Sent::Pubrel { id } => frame(is_v5, Packet::Pubrel(ack(*id, false))),
        Sent::Pubcomp { id } => frame(is_v5, Packet::Pubcomp(ack(*id, false))),
        Sent::Subscribe { id, filter, options } => {
            let list =
                properties([options.id.map(|id| Property::SubscriptionIdentifier(SubscriptionId::new(id).unwrap()))]);
            let handling = [RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
            let options = SubscriptionOptions {
                qos: qos(options.qos),
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                retain_handling: handling[usize::from(options.retain_handling)],
            };
            let filters = [(TopicFilter::new(filter).unwrap(), options)];
            frame(is_v5, Packet::Subscribe(Subscribe::new(packet_id(*id), list.as_properties(), &filters)))
        }
        Sent::Unsubscribe { id, filter } => {
            let filters = [TopicFilter::new(filter).unwrap()];
            frame(is_v5, Packet::Unsubscribe(Unsubscribe::new(packet_id(*id), Properties::EMPTY, &filters)))
        }
        Sent::Disconnect { with_will, expiry } => {
            let list = properties([expiry.map(Property::SessionExpiryInterval)]);
            let with_will = *with_will && is_v5;
            let reason_code = if with_will { ReasonCode::DisconnectWithWillMessage } else { ReasonCode::Success };
            let properties = if is_v5 { list.as_properties() } else { Properties::EMPTY };
            frame(is_v5, Packet::Disconnect(Disconnect { reason_code, properties }))
        }
    }
}

fn frame(is_v5: bool, packet: Packet<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    packet.encode(version(is_v5), Foreign::Reject, &mut frame).unwrap();
    frame
}

impl Reader {
    pub(crate) fn new(is_v5: bool, alias_maximum: u16) -> Self {
        Self { is_v5, alias_maximum, ..Self::default() }
    }

    /// A packet of the broker without its bytes.
    pub(crate) fn decode(&mut self, frame: &[u8]) -> Result<Seen, String> {
        let packet = Packet::decode(version(self.is_v5), frame).map_err(|error| format!("{error:?} in {frame:?}"))?;
        let ack = |ack: Ack<'_>| (ack.packet_id.get(), ack.reason_code.code());
        let codes = |codes: Vec<ReasonCode>| codes.iter().map(|code| code.code()).collect();
        let return_code = |code: ReasonCode| if self.is_v5 { Some(code.code()) } else { code.connack_return_code() };
        Ok(Seen::Answer(match packet {
            Packet::Publish(publish) => return self.decode_publish(&publish),
            Packet::Connack(connack) => Answer::Connack {
                present: connack.session_present,
                code: return_code(connack.reason_code).ok_or("no return code")?,
            },
            Packet::Puback(packet) => Answer::Puback { id: ack(packet).0, code: ack(packet).1 },
            Packet::Pubrec(packet) => Answer::Pubrec { id: ack(packet).0, code: ack(packet).1 },
            Packet::Pubrel(packet) => Answer::Pubrel { id: ack(packet).0, code: ack(packet).1 },
            Packet::Pubcomp(packet) => Answer::Pubcomp { id: ack(packet).0, code: ack(packet).1 },
            Packet::Suback(suback) => {
                Answer::Suback { id: suback.packet_id.get(), codes: codes(suback.reason_codes().collect()) }
            }
            Packet::Unsuback(unsuback) => {
                Answer::Unsuback { id: unsuback.packet_id.get(), codes: codes(unsuback.reason_codes().collect()) }
            }
            Packet::Disconnect(disconnect) => Answer::Disconnect { code: disconnect.reason_code.code() },
            packet => return Err(format!("a broker does not send this here: {packet:?}")),
        }))
    }

    fn decode_publish(&mut self, publish: &PublishPacket<'_>) -> Result<Seen, String> {
        let (mut ids, mut expiry) = (Vec::new(), None);
        for property in publish.properties {
            match property {
                Property::SubscriptionIdentifier(id) => ids.push(id.get()),
                Property::MessageExpiryInterval(seconds) => expiry = Some(seconds),
                _ => {}
            }
        }
        ids.sort_unstable();
        let alias = publish.properties.topic_alias().map(TopicAlias::get);
        let topic = self.resolve(publish.topic.map(TopicName::as_str), alias)?;
        Ok(Seen::Publish {
            id: publish.delivery.packet_id().map_or(0, PacketId::get),
            dup: publish.delivery.is_dup(),
            content: Content { qos: publish.delivery.qos().level(), retain: publish.retain, ids },
            topic,
            payload: String::from_utf8_lossy(publish.payload).into_owned(),
            expiry,
        })
    }

    /// The topic that a PUBLISH means. [MQTT-3.1.2-26] [MQTT-3.1.2-27]
    fn resolve(&mut self, topic: Option<&str>, alias: Option<u16>) -> Result<String, String> {
        if alias.is_some_and(|alias| alias > self.alias_maximum) {
            return Err(format!("the Topic Alias Maximum is {}", self.alias_maximum));
        }
        match (topic, alias) {
            (Some(topic), alias) => {
                if let Some(alias) = alias {
                    self.has_replaced_alias |= self.aliases.insert(alias, topic.into()).is_some_and(|old| old != topic);
                }
                Ok(topic.into())
            }
            (None, alias) => {
                self.has_read_alias = true;
                let known = alias.and_then(|alias| self.aliases.get(&alias));
                known.cloned().ok_or_else(|| "neither a topic nor an alias that was set".into())
            }
        }
    }
}
