//! A client as the standard wants it, which is told when to do what: it keeps what is unacknowledged over connections,
//! sends it again when its session is resumed, and answers at once or when told to.

use damselfly_broker::ConnectionId;
use damselfly_codec::{
    Ack, Connect as ConnectPacket, Delivery, Disconnect, Foreign, Packet, PacketId, Properties, PropertiesBuf,
    Property, Publish as PublishPacket, QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionId,
    SubscriptionOptions, Unsubscribe, Version, Will as WillPacket,
};
use damselfly_topic::{TopicFilter, TopicName};

use super::{
    observed::{Seen, Sent},
    reference::{Answer, Content},
    script::{Connect, Kind, Options, Publish},
};

/// Answers a refusal with this code: Quota exceeded.
const REFUSAL: ReasonCode = ReasonCode::QuotaExceeded;

/// A QoS 1 or 2 message of the client that is not acknowledged.
#[derive(Clone, Debug)]
struct Unacknowledged {
    id: u16,
    publish: Publish,
    /// PUBREC came.
    is_released: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) is_v5: bool,
    is_manual: bool,
    pub(crate) is_deaf: bool,
    last_id: u16,
    unacknowledged: Vec<Unacknowledged>,
    /// Answers that are due.
    pub(crate) due: Vec<(Kind, u16)>,
}

impl Client {
    pub(crate) fn connect(&mut self, connection: ConnectionId, connect: &Connect) {
        self.connection = Some(connection);
        self.is_v5 = connect.is_v5;
        self.is_manual = connect.manual;
        self.is_deaf = false;
        self.due.clear();
    }

    /// A Packet Identifier that is not in use. [MQTT-2.2.1-3]
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id % 100 + 1;
            if self.unacknowledged.iter().all(|sent| sent.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    pub(crate) fn publish(&mut self, publish: &Publish) -> Sent {
        let expiry = publish.expiry.filter(|_| self.is_v5);
        let publish = Publish { expiry, ..publish.clone() };
        let id = if publish.qos > 0 { self.next_id() } else { 0 };
        if publish.qos > 0 {
            self.unacknowledged.push(Unacknowledged { id, publish: publish.clone(), is_released: false });
        }
        Sent::Publish { id, dup: false, publish }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, options: &Options) -> Sent {
        let options = if self.is_v5 {
            let is_shared = filter.starts_with("$share/");
            Options { no_local: options.no_local && !is_shared, ..options.clone() }
        } else {
            Options { qos: options.qos, ..Options::default() }
        };
        Sent::Subscribe { id: self.next_id(), filter: filter.into(), options }
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) -> Sent {
        Sent::Unsubscribe { id: self.next_id(), filter: filter.into() }
    }

    /// A packet of the broker arrives; what is sent at once because of it.
    pub(crate) fn see(&mut self, packet: &Seen) -> Vec<Sent> {
        match packet {
            Seen::Publish { id, content, .. } if content.qos > 0 => {
                self.due.push((if content.qos == 1 { Kind::Puback } else { Kind::Pubrec }, *id));
            }
            Seen::Answer(Answer::Connack { present, code: 0 }) => {
                if !present {
                    self.unacknowledged.clear();
                }
                // [MQTT-4.4.0-1]
                return self.unacknowledged.iter().map(Unacknowledged::again).collect();
            }
            Seen::Answer(Answer::Pubrel { id, .. }) => self.due.push((Kind::Pubcomp, *id)),
            Seen::Answer(Answer::Pubrec { id, .. }) => {
                if let Some(sent) = self.unacknowledged.iter_mut().find(|sent| sent.id == *id) {
                    sent.is_released = true;
                }
                self.due.push((Kind::Pubrel, *id));
            }
            Seen::Answer(Answer::Puback { id, .. } | Answer::Pubcomp { id, .. }) => {
                self.unacknowledged.retain(|sent| sent.id != *id);
            }
            _ => {}
        }
        if self.is_manual { Vec::new() } else { self.answer(None, usize::MAX) }
    }

    /// The oldest answers that are due, of one kind or of any.
    pub(crate) fn answer(&mut self, kind: Option<Kind>, count: usize) -> Vec<Sent> {
        let mut answers = Vec::new();
        self.due.retain(|(due, id)| {
            let is_it = answers.len() < count && kind.is_none_or(|kind| kind == *due);
            if is_it {
                answers.push(match due {
                    Kind::Puback => Sent::Puback { id: *id, is_refusal: false },
                    Kind::Pubrec => Sent::Pubrec { id: *id, is_refusal: false },
                    Kind::Pubrel => Sent::Pubrel { id: *id },
                    Kind::Pubcomp => Sent::Pubcomp { id: *id },
                });
            }
            !is_it
        });
        answers
    }

    /// The oldest PUBLISH without an answer gets no.
    pub(crate) fn refuse(&mut self) -> Option<Sent> {
        let is_of_publish = |kind: Kind| matches!(kind, Kind::Puback | Kind::Pubrec);
        let at = self.due.iter().position(|(kind, _)| self.is_v5 && is_of_publish(*kind))?;
        let (kind, id) = self.due.remove(at);
        Some(match kind {
            Kind::Puback => Sent::Puback { id, is_refusal: true },
            _ => Sent::Pubrec { id, is_refusal: true },
        })
    }
}

impl Unacknowledged {
    fn again(&self) -> Sent {
        if self.is_released {
            Sent::Pubrel { id: self.id }
        } else {
            Sent::Publish { id: self.id, dup: true, publish: self.publish.clone() }
        }
    }
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
        Sent::Publish { id, dup, publish } => {
            let list = properties([publish.expiry.map(Property::MessageExpiryInterval)]);
            let delivery = match publish.qos {
                0 => Delivery::AtMostOnce,
                1 => Delivery::AtLeastOnce { id: packet_id(*id), dup: *dup },
                _ => Delivery::ExactlyOnce { id: packet_id(*id), dup: *dup },
            };
            let topic = Some(TopicName::new(&publish.topic).unwrap());
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

/// A packet of the broker without its bytes.
pub(crate) fn decode(is_v5: bool, frame: &[u8]) -> Result<Seen, String> {
    let packet = Packet::decode(version(is_v5), frame).map_err(|error| format!("{error:?} in {frame:?}"))?;
    let ack = |ack: Ack<'_>| (ack.packet_id.get(), ack.reason_code.code());
    let codes = |codes: Vec<ReasonCode>| codes.iter().map(|code| code.code()).collect();
    Ok(Seen::Answer(match packet {
        Packet::Publish(publish) => return Ok(decode_publish(&publish)),
        Packet::Connack(connack) => {
            Answer::Connack { present: connack.session_present, code: connack.reason_code.code() }
        }
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

fn decode_publish(publish: &PublishPacket<'_>) -> Seen {
    let (mut ids, mut expiry) = (Vec::new(), None);
    for property in publish.properties {
        match property {
            Property::SubscriptionIdentifier(id) => ids.push(id.get()),
            Property::MessageExpiryInterval(seconds) => expiry = Some(seconds),
            _ => {}
        }
    }
    ids.sort_unstable();
    Seen::Publish {
        id: publish.delivery.packet_id().map_or(0, PacketId::get),
        dup: publish.delivery.is_dup(),
        content: Content { qos: publish.delivery.qos().level(), retain: publish.retain, ids },
        topic: publish.topic.map_or("", TopicName::as_str).into(),
        payload: String::from_utf8_lossy(publish.payload).into_owned(),
        expiry,
    }
}
