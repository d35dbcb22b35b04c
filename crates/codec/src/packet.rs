//! The fifteen MQTT Control Packets as borrowed views. [MQTT-3]

use damselfly_topic::TopicName;

use crate::{Delivery, PacketId, QoS, ReasonCode};

/// The type of an MQTT Control Packet: the upper four bits of its first byte. [MQTT-2.1.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the standard's table 2-1")]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

/// One MQTT Control Packet, borrowed from its frame. A packet is also what one builds to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant carries the struct of its name")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// The Properties of one packet: a checked raw slice. Empty on a 3.1.1 connection. [MQTT-2.2.2]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a>(&'a [u8]);

/// Opens a Network Connection's session. [MQTT-3.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Connect<'a> {
    pub clean_start: bool,
    pub keep_alive: u16,
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub properties: Properties<'a>,
}

/// The message a broker publishes when the connection ends otherwise than by DISCONNECT. [MQTT-3.1.2.5]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub topic: TopicName<'a>,
    pub payload: &'a [u8],
    pub properties: Properties<'a>,
}

/// Answers CONNECT. [MQTT-3.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Connack<'a> {
    pub session_present: bool,
    pub reason_code: ReasonCode,
    pub properties: Properties<'a>,
}

/// Carries an Application Message. [MQTT-3.3]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// QoS, Packet Identifier and DUP.
    pub delivery: Delivery,
    /// The RETAIN flag.
    pub retain: bool,
    /// `None` is the zero-length Topic Name that 5.0 allows beside a Topic Alias. [MQTT-3.3.2.1]
    pub topic: Option<TopicName<'a>>,
    /// Empty on a 3.1.1 connection.
    pub properties: Properties<'a>,
    /// The Application Message.
    pub payload: &'a [u8],
}

/// The body of PUBACK, PUBREC, PUBREL and PUBCOMP. [MQTT-3.4] to [MQTT-3.7]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    pub reason_code: ReasonCode,
    pub properties: Properties<'a>,
}

/// What is done with retained messages when a subscription is made. [MQTT-3.8.3.1]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: sent at each subscribe.
    #[default]
    SendAtSubscribe = 0,
    /// 1: sent if the subscription did not exist.
    SendIfNew = 1,
    /// 2: not sent.
    DoNotSend = 2,
}

/// The Subscription Options of one Topic Filter. In 3.1.1 only `qos` travels. [MQTT-3.8.3.1]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct SubscriptionOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// Asks for subscriptions. [MQTT-3.8]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Identifies the SUBACK.
    pub packet_id: PacketId,
    /// Empty on a 3.1.1 connection.
    pub properties: Properties<'a>,
    payload: &'a [u8],
}

/// Answers SUBSCRIBE, one Reason Code per Topic Filter. [MQTT-3.9]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suback<'a> {
    /// Of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Empty on a 3.1.1 connection.
    pub properties: Properties<'a>,
    reason_codes: &'a [u8],
}

/// Ends subscriptions. [MQTT-3.10]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Identifies the UNSUBACK.
    pub packet_id: PacketId,
    /// Empty on a 3.1.1 connection.
    pub properties: Properties<'a>,
    payload: &'a [u8],
}

/// Answers UNSUBSCRIBE. [MQTT-3.11]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsuback<'a> {
    /// Of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Empty on a 3.1.1 connection.
    pub properties: Properties<'a>,
    reason_codes: &'a [u8],
}

/// The last packet of a connection. [MQTT-3.14]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Disconnect<'a> {
    pub reason_code: ReasonCode,
    pub properties: Properties<'a>,
}

/// A step of enhanced authentication, 5.0 only. [MQTT-3.15]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Auth<'a> {
    pub reason_code: ReasonCode,
    pub properties: Properties<'a>,
}
