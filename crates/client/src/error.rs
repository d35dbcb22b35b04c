//! Whose fault it is: the caller's, or the other side's.

use alloc::{boxed::Box, string::String};

use damselfly_codec::{QoS, ReasonCode};
use damselfly_session::Message;

/// A request the caller should not have made. Nothing was sent, nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// [`Client::close`](crate::Client::close) was called.
    #[error("the client is closed")]
    Closed,
    /// The offline queue is full: try again after [`Event::QueueHasRoom`](crate::Event::QueueHasRoom).
    #[error("the queue is full")]
    QueueFull,
    /// The outbox is full: try again after [`Event::QueueHasRoom`](crate::Event::QueueHasRoom).
    #[error("the outbox is full")]
    OutboxFull,
    /// More subscribe and unsubscribe requests wait than [`Config::max_requests`](crate::Config::max_requests), or more
    /// requests for a response than [`Config::max_awaited_responses`](crate::Config::max_awaited_responses).
    #[error("too many requests wait for their answer")]
    TooManyRequests,
    /// A subscribe or unsubscribe request needs at least one Topic Filter. [MQTT-3.8.3-2] [MQTT-3.10.3-2]
    #[error("a subscribe or unsubscribe request needs at least one topic filter")]
    NoFilters,
    /// The broker takes messages up to this QoS only. [MQTT-3.2.2-11]
    #[error("the broker does not take messages at this QoS, the maximum is {maximum}")]
    QoSNotSupported {
        /// The Maximum QoS of the CONNACK.
        maximum: QoS,
    },
    /// The broker keeps no retained messages. [MQTT-3.2.2-14]
    #[error("the broker keeps no retained messages")]
    RetainNotSupported,
    /// The packet would be larger than the broker takes. [MQTT-3.2.2-15]
    #[error("the packet would have {size} bytes, the broker takes {maximum}")]
    PacketTooLarge {
        /// Of the whole packet, in bytes.
        size: usize,
        /// The Maximum Packet Size, in bytes.
        maximum: u32,
    },
    /// The broker has no wildcard subscriptions. [MQTT-3.2.2.3.11]
    #[error("the broker has no wildcard subscriptions")]
    WildcardSubscriptionsNotSupported,
    /// The broker has no shared subscriptions. [MQTT-3.2.2.3.13]
    #[error("the broker has no shared subscriptions")]
    SharedSubscriptionsNotSupported,
    /// The broker has no subscription identifiers. [MQTT-3.2.2.3.12]
    #[error("the broker has no subscription identifiers")]
    SubscriptionIdentifiersNotSupported,
    /// No Local on a Shared Subscription is a Protocol Error. [MQTT-3.8.3-4]
    #[error("a shared subscription cannot be No Local")]
    NoLocalOnSharedSubscription,
    /// Properties, subscription options other than the QoS and authentication steps need a 5.0 connection.
    #[error("only MQTT 5.0 can say this")]
    NeedsVersion5,
    /// The client adds Response Topic and Correlation Data to a request: the message must not have its own.
    #[error("the request has a response topic or correlation data of its own")]
    HasResponseTopic,
    /// The message asks for no response, or no Response Topic can be made from what the configuration and the broker say.
    #[error("there is no response topic")]
    NoResponseTopic,
    /// A text or a list is longer than a packet can hold.
    #[error("the request cannot be encoded: a text or a list is too long")]
    NotEncodable,
    /// The token was used before, or its connection or session is gone: the broker will send the message again.
    #[error("the message was acknowledged before, or its connection is gone")]
    StaleAcknowledgement,
    /// No authentication is under way, or the CONNECT named no Authentication Method. [MQTT-4.12.0-7]
    #[error("no authentication is under way")]
    NoAuthentication,
}

/// A message that was not taken, with the reason; the message comes back.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the message was not taken: {why}")]
pub struct Refused {
    /// Why.
    pub why: UsageError,
    /// The message, untouched.
    pub message: Message,
}

/// What the driver saw happen to the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportLost {
    /// It could not be opened.
    #[error("no connection could be made")]
    NotOpened,
    /// The other side closed it.
    #[error("the broker closed the connection")]
    Closed,
    /// Reading or writing failed.
    #[error("the connection broke")]
    Failed,
}

/// Why a connection, or an attempt to make one, ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionEnd {
    /// The application closed the client.
    #[error("closed by the application")]
    Requested,
    /// The transport was not opened, or lost.
    #[error(transparent)]
    Transport(#[from] TransportLost),
    /// The broker refused the connection in its CONNACK.
    #[error("the broker refused the connection: {reason_code}")]
    Refused {
        /// Also for 3.1.1, whose return codes have a Reason Code each.
        reason_code: ReasonCode,
        /// The Reason String, if there was one. For people.
        reason_string: Option<String>,
        /// Where to go instead, if the broker said so.
        server_reference: Option<Box<str>>,
    },
    /// The broker sent DISCONNECT. [MQTT-3.14]
    #[error("the broker ended the connection: {reason_code}")]
    ByServer {
        /// Why.
        reason_code: ReasonCode,
        /// The Reason String, if there was one. For people.
        reason_string: Option<String>,
        /// Where to go instead, if the broker said so.
        server_reference: Option<Box<str>>,
    },
    /// The broker sent what it must not send; it was told the Reason Code (5.0).
    #[error("the broker broke a rule ({statement}): {reason_code}")]
    PeerError {
        /// What it was told.
        reason_code: ReasonCode,
        /// The number of the statement it broke.
        statement: &'static str,
    },
    /// The broker sends and does not read: more acknowledgements waited for it than
    /// [`Config::max_owed_bytes`](crate::Config::max_owed_bytes). It was told 0x97 (5.0).
    #[error("the broker does not read what it is owed")]
    NotRead,
    /// No CONNACK within [`Config::connect_timeout`](crate::Config::connect_timeout).
    #[error("the broker did not answer CONNECT in time")]
    ConnectTimeout,
    /// No sign of life within [`Config::ping_timeout`](crate::Config::ping_timeout) after a PINGREQ. [MQTT-3.1.2-20]
    #[error("the broker did not answer PINGREQ in time")]
    PingTimeout,
    /// The connect parameters cannot be encoded, or need 5.0 on an older connection.
    #[error("CONNECT could not be sent: {0}")]
    BadParameters(UsageError),
}
