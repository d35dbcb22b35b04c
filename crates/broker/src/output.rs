//! What the core tells the world.

use alloc::boxed::Box;
use core::{fmt, net::SocketAddr};

use damselfly_codec::{QoS, ReasonCode, SubscriptionId, Version};
use damselfly_session::{Message, PeerError};

use crate::Question;

/// One Network Connection. Never used again once its connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// A small number that is unique among the connections open at one time, for an adapter's own tables.
    pub const fn slot(self) -> u32 {
        self.slot
    }
}

/// A local participant: a session of the embedding program itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(pub(crate) crate::sessions::SessionKey);

/// A question to the embedding program; answered with [`Broker::handle_answer`](crate::Broker::handle_answer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub(crate) u64);

/// A journal group. Once it is durable: [`Broker::handle_committed`](crate::Broker::handle_committed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub(crate) u64);

/// Another broker this one is joined with: another core of the machine or another machine. The adapter's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// Acknowledges a QoS 1 or 2 message delivered to a local participant. It belongs to that participant and can be used
/// once; dropped, it leaves the message unacknowledged, and a place of the window taken, for the rest of the session.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "without the acknowledgement the message keeps its place in the window"]
pub struct AckToken {
    pub(crate) session: crate::sessions::SessionKey,
    pub(crate) id: damselfly_codec::PacketId,
}

/// Where a connection comes from, as far as the adapter knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The remote address.
    pub address: Option<SocketAddr>,
}

impl Peer {
    /// A peer on an address.
    pub const fn at(address: SocketAddr) -> Self {
        Self { address: Some(address) }
    }
}

/// How much of the input was used, and what to do next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "bytes that were not consumed must be handed in again"]
pub struct Intake {
    /// Bytes used, always whole packets. The rest belongs in front of what is read next.
    pub consumed: usize,
    /// Bytes of the next packet as soon as its length is known, else 0: announced, not sent. A buffer for it grows as
    /// bytes arrive, by leave of [`Broker::handle_progress`](crate::Broker::handle_progress).
    pub wanted: usize,
    /// Stop reading until [`Output::Resume`]; then hand in again what was not consumed.
    pub paused: bool,
}

/// One thing the adapter has to do. Not `#[non_exhaustive]`: an adapter that misses a case must fail to compile.
#[derive(Debug)]
pub enum Output {
    /// [`Broker::transmit`](crate::Broker::transmit) has bytes. Said once until all of them were taken.
    Transmit(ConnectionId),
    /// Write what `transmit` still has, for a bounded time, close, then call
    /// [`Broker::handle_connection_lost`](crate::Broker::handle_connection_lost).
    Close(ConnectionId),
    /// Reading may go on after [`Intake::paused`].
    Resume(ConnectionId),
    /// Answer with [`Broker::handle_answer`](crate::Broker::handle_answer). Unanswered for too long means no.
    Ask {
        /// Names the question in the answer.
        id: QuestionId,
        /// What is asked.
        question: Box<Question>,
    },
    /// Make everything up to here durable, then call [`Broker::handle_committed`](crate::Broker::handle_committed). A
    /// broker in memory does so at once.
    Commit(CommitId),
    /// Tell the other brokers (`to`: only this one) which filters have subscribers here.
    Interest {
        /// `None`: every broker this one is joined with.
        to: Option<ShardId>,
        /// What changed.
        interest: Interest,
    },
    /// Hand a message to another broker: [`Broker::handle_forward`](crate::Broker::handle_forward).
    Forward {
        /// The receiving broker.
        to: ShardId,
        /// The message with its destination there.
        forward: Box<Forward>,
    },
    /// A message for a local participant.
    Deliver {
        /// Who gets it.
        local: LocalId,
        /// What it gets.
        delivery: Box<LocalDelivery>,
    },
    /// Something happened that the embedding program may want to know.
    Event(Event),
}

/// Subscribers for a filter appeared at, or left, a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The Topic Filter, a Shared Subscription's with its `$share/{ShareName}/`.
    pub filter: Box<str>,
    /// Members now: 0 ends the interest. For filters that are not shared 1 stands for any number.
    pub members: u32,
    /// How many of them have a connection: a member that is away gets a message only if no broker has one that is there.
    /// Means nothing for filters that are not shared.
    pub connected: u32,
}

/// A message on its way to another broker.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The message.
    pub message: Message,
    /// `None`: every subscription that is not shared. `Some`: one member of this shared filter.
    pub shared_filter: Option<Box<str>>,
    /// The receiver keeps it as retained message too. With an empty payload it removes the retained message.
    pub retain: bool,
    /// Whether the receiver delivers it at all, or only retains it because it has expired.
    pub deliver: bool,
}

/// A message for a local participant.
#[derive(Debug)]
pub struct LocalDelivery {
    /// The message.
    pub message: Message,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The RETAIN flag as a client would see it.
    pub retain: bool,
    /// The Subscription Identifiers of the matching subscriptions.
    pub subscription_ids: Box<[SubscriptionId]>,
    /// For QoS 1 and 2: give it back to [`Broker::local_acknowledge`](crate::Broker::local_acknowledge).
    pub token: Option<AckToken>,
}

/// What happened. Reported in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A client was accepted.
    Connected {
        /// Its connection.
        connection: ConnectionId,
        /// Its Client Identifier, assigned or its own.
        client_id: Box<str>,
        /// The protocol version it speaks.
        version: Version,
        /// Whether it found a session.
        session_present: bool,
    },
    /// A connection ended.
    Disconnected {
        /// The connection.
        connection: ConnectionId,
        /// The client, if it got as far as being accepted.
        client_id: Option<Box<str>>,
        /// Why.
        why: Why,
    },
    /// A session ended and everything it held is gone.
    SessionEnded {
        /// Whose session.
        client_id: Box<str>,
        /// Messages that were waiting for the client.
        discarded: u32,
    },
    /// A subscription was made or replaced.
    Subscribed {
        /// The subscriber.
        client_id: Box<str>,
        /// The Topic Filter.
        filter: Box<str>,
        /// The granted QoS.
        qos: QoS,
    },
    /// A subscription ended by UNSUBSCRIBE, or because the client's new rules do not permit it.
    Unsubscribed {
        /// The subscriber.
        client_id: Box<str>,
        /// The Topic Filter.
        filter: Box<str>,
    },
    /// Messages were dropped. Reported for the 1st, 2nd, 4th, 8th ... of a client, so that a flood of drops is no flood
    /// of events; `count` is exact.
    Dropped {
        /// Who did not get it; `None` where it concerns no client (retained messages).
        client_id: Option<Box<str>>,
        /// The topic of the last one.
        topic: Box<str>,
        /// Why the last one was dropped.
        reason: DropReason,
        /// How many were dropped for this client since its session began.
        count: u64,
    },
    /// A Will Message was published.
    WillPublished {
        /// Whose will.
        client_id: Box<str>,
        /// Its topic.
        topic: Box<str>,
    },
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// DISCONNECT by the client.
    ByClient(ReasonCode),
    /// The transport was lost or closed without DISCONNECT.
    ConnectionLost,
    /// The client sent bytes that are no valid packet.
    Malformed(damselfly_codec::DecodeError),
    /// The client broke a rule of the protocol.
    PeerError(PeerError),
    /// The answer to CONNECT was no.
    Refused(ReasonCode),
    /// Ended by us: taken over, administrative action, shutdown, quota.
    ByBroker(ReasonCode),
    /// No complete CONNECT in time.
    ConnectTimeout,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByClient(reason_code) => write!(f, "DISCONNECT by the client: {reason_code}"),
            Self::ConnectionLost => f.write_str("the connection was lost"),
            Self::Malformed(error) => write!(f, "not a valid packet: {error}"),
            Self::PeerError(error) => write!(f, "a rule was broken: {error}"),
            Self::Refused(reason_code) => write!(f, "refused: {reason_code}"),
            Self::ByBroker(reason_code) => write!(f, "ended by the broker: {reason_code}"),
            Self::ConnectTimeout => f.write_str("no complete CONNECT in time"),
        }
    }
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue of the client is full.
    QueueFull,
    /// The client reads too slowly for QoS 0.
    SlowReader,
    /// Larger than the client's Maximum Packet Size. [MQTT-3.1.2-25]
    PacketTooLarge,
    /// The Message Expiry Interval passed. [MQTT-3.3.2-5]
    Expired,
    /// The broker's memory budget is used up.
    Memory,
    /// The publisher has no permission, or the receiver has none any more.
    NotAuthorized,
    /// The limit of retained messages or their bytes.
    RetainedFull,
    /// The topic has too many levels.
    TooManyLevels,
    /// The client is offline and the message is QoS 0.
    Offline,
    /// Its payload is larger than the broker takes.
    PayloadTooLarge,
    /// Its payload is not the UTF-8 that its Payload Format Indicator says. [MQTT-3.3.2.3.2]
    PayloadFormatInvalid,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "the queue of the client is full",
            Self::SlowReader => "the client reads too slowly",
            Self::PacketTooLarge => "larger than the client's maximum packet size",
            Self::Expired => "the message expired",
            Self::Memory => "the memory budget is used up",
            Self::NotAuthorized => "not authorized",
            Self::RetainedFull => "no room for another retained message",
            Self::TooManyLevels => "the topic has too many levels",
            Self::Offline => "the client is offline",
            Self::PayloadTooLarge => "the payload is larger than the broker takes",
            Self::PayloadFormatInvalid => "the payload is not the UTF-8 it says it is",
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn reasons_are_said_in_words() {
        let whys = [
            Why::ByClient(ReasonCode::DisconnectWithWillMessage),
            Why::PeerError(PeerError::NotFromClient(damselfly_codec::PacketType::Connack)),
            Why::ByBroker(ReasonCode::SessionTakenOver),
        ];
        let said = whys.map(|why| why.to_string());
        assert_eq!(
            said,
            [
                "DISCONNECT by the client: Disconnect with Will Message (0x04)",
                "a rule was broken: a client must not send CONNACK",
                "ended by the broker: Session taken over (0x8E)",
            ]
        );
        assert_eq!(DropReason::SlowReader.to_string(), "the client reads too slowly");
    }
}
