//! What the core tells the world.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{fmt, mem::size_of};

use damselfly_codec::{PropertiesBuf, QoS, ReasonCode, SubscriptionId};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::TopicFilterBuf;

use crate::{ConnectionEnd, ServerLimits};

/// The application's name for one request: a publish, a subscribe or an unsubscribe. Never used twice by one client, and
/// answered by exactly one [`Outcome`]. With an [outbox](crate::OutboxConfig) later processes do not use it either, unless
/// this one ended before its first group was committed: then nothing of it was stored, and its tickets are given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Ticket(pub(crate) u64);

impl Ticket {
    /// A number that grows with each request: for logs.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What the application acknowledges a received message with. See [`Client::acknowledge`](crate::Client::acknowledge).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckToken(pub(crate) u64);

/// What the driver has to do, in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Open a connection to the broker, then call [`Client::handle_transport_up`](crate::Client::handle_transport_up);
    /// if that fails, [`Client::handle_transport_lost`](crate::Client::handle_transport_lost).
    NeedTransport(NeedTransport),
    /// [`Client::transmit`](crate::Client::transmit) has bytes. Said once until all of them are reported by
    /// [`Client::handle_transmitted`](crate::Client::handle_transmitted).
    Transmit,
    /// Write what [`Client::transmit`](crate::Client::transmit) still has, for a bounded time, then close the
    /// connection and call [`Client::handle_transport_lost`](crate::Client::handle_transport_lost).
    Close,
    /// Input is taken again: hand in the bytes that were not consumed, then read on.
    Resume,
    /// Append this operation to the journal group that the next [`Output::Commit`] ends. Only said with an
    /// [outbox](crate::OutboxConfig).
    Journal(crate::Operation),
    /// Store the operations since the last one of these, all or none, then call
    /// [`Client::handle_committed`](crate::Client::handle_committed). One sync may serve any number of groups: a commit
    /// takes the earlier ones along.
    Commit(crate::CommitId),
    /// Something for the application.
    Event(Event),
}

/// A connection is wanted. Each one asks anew, so that credentials and addresses can change between attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeedTransport {
    /// Counts from 1; starts again after a connection that was stable.
    pub attempt: u32,
    /// Do not connect earlier than this.
    pub not_before: Timestamp,
    /// Where the broker sent us, if it did: the Server Reference of a CONNACK or DISCONNECT with "use another server"
    /// or "server moved". [MQTT-4.13]
    pub server_reference: Option<Box<str>>,
}

/// Something for the application.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// CONNACK accepted the connection.
    Connected(Connected),
    /// A message arrived.
    Message(InboundMessage),
    /// A QoS 1 or 2 message is stored: it and its ticket survive this process. Only said with an
    /// [outbox](crate::OutboxConfig).
    Stored {
        /// The message's.
        ticket: Ticket,
    },
    /// The answer to a request: exactly one for each ticket.
    Completed {
        /// The request.
        ticket: Ticket,
        /// What became of it.
        outcome: Outcome,
    },
    /// The broker refused a subscription. The outcome of the request follows, with the results of all its Topic Filters.
    SubscriptionRefused {
        /// The request.
        ticket: Ticket,
        /// The Topic Filter.
        filter: TopicFilterBuf,
        /// The broker's reason.
        reason_code: ReasonCode,
    },
    /// A subscription could not be restored on a new session: the broker refused it this time.
    SubscriptionLost {
        /// The Topic Filter, which is not tried again.
        filter: TopicFilterBuf,
        /// The broker's reason.
        reason_code: ReasonCode,
    },
    /// The broker asks for the next step of enhanced authentication; answer with
    /// [`Client::authenticate`](crate::Client::authenticate). [MQTT-4.12]
    AuthenticationStep {
        /// The properties of the AUTH, Authentication Data among them.
        properties: PropertiesBuf,
    },
    /// Re-authentication succeeded. [MQTT-4.12.1]
    Reauthenticated {
        /// The properties of the AUTH.
        properties: PropertiesBuf,
    },
    /// The offline queue has room again after a [`publish`](crate::Client::publish) was refused because it was full.
    QueueHasRoom,
    /// The connection ended, or an attempt failed. Unless the client is closing, an
    /// [`Output::NeedTransport`] follows.
    Disconnected(ConnectionEnd),
    /// [`Client::close`](crate::Client::close) has finished: every ticket has its outcome, nothing follows. That method
    /// says what an outbox changes about it.
    Closed,
}

/// CONNACK accepted the connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connected {
    /// Whether the broker went on with our session.
    pub session: SessionStatus,
    /// The Client Identifier in force: ours, or the one the broker assigned.
    pub client_id: Box<str>,
    /// What the broker allows.
    pub server: ServerLimits,
    /// All properties of the CONNACK, in their order.
    pub properties: PropertiesBuf,
}

/// What the broker did with our session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// A new one, as asked or for the first time.
    New,
    /// It went on with the one we had.
    Resumed,
    /// We had one, the broker had none: what was in flight got its outcome, subscriptions are being restored.
    Lost,
}

/// A message from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboundMessage {
    /// Topic, payload, properties, QoS and RETAIN.
    pub message: Message,
    /// The broker had tried to send it before. [MQTT-3.3.1.1]
    pub dup: bool,
    /// The identifiers of the subscriptions it matched, if they have any. [MQTT-3.3.2.3.8]
    pub subscription_ids: Vec<SubscriptionId>,
    /// To acknowledge it with, if the application does that itself and the QoS asks for it.
    pub ack: Option<AckToken>,
}

impl InboundMessage {
    /// The memory it holds, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.message.heap_bytes() + self.subscription_ids.capacity() * size_of::<SubscriptionId>()
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// QoS 0: all bytes of it were handed to the transport. Nobody knows more.
    Transmitted,
    /// QoS 1 and 2: the broker took it. The Reason Code may say that nobody subscribes. [MQTT-3.4.2.1]
    Acknowledged {
        /// Success or [`ReasonCode::NoMatchingSubscribers`].
        reason_code: ReasonCode,
    },
    /// The broker said no, or would have: the client checks what the broker announced.
    Refused(Refusal),
    /// Its time passed before it could be sent.
    Expired,
    /// The offline queue was full, and by [`OverflowPolicy`](crate::OverflowPolicy) this message had to go; or the
    /// client was closed before it was sent.
    Dropped(DropReason),
    /// Sent, perhaps more than once, and nobody will ever say whether it arrived.
    Indeterminate(IndeterminateReason),
    /// The response to a [request](crate::Client::request).
    Response(Box<InboundMessage>),
    /// No response to a request came, or will come.
    Unanswered(UnansweredReason),
    /// One result per Topic Filter, in the order of the request: the granted QoS or the broker's reason.
    Subscribed(Vec<Result<QoS, ReasonCode>>),
    /// One result per Topic Filter, in the order of the request.
    Unsubscribed(Vec<Result<(), ReasonCode>>),
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The broker answered with this Reason Code, 0x80 or above.
    ByServer {
        /// Why.
        reason_code: ReasonCode,
        /// The Reason String, if there was one. For people.
        reason_string: Option<String>,
    },
    /// The broker of this connection does not allow it, as its CONNACK says: it was not sent.
    ByLimit(crate::UsageError),
}

/// Why a message was dropped unsent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// The oldest of a full queue made room, by [`OverflowPolicy::DropOldest`](crate::OverflowPolicy::DropOldest).
    Oldest,
    /// It met a full queue, with [`OverflowPolicy::DropNewest`](crate::OverflowPolicy::DropNewest).
    Newest,
    /// The client was closed.
    Closed,
}

/// Why a request has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnansweredReason {
    /// The deadline passed.
    Deadline,
    /// Nobody subscribes to the topic of the request. [MQTT-3.4.2.1]
    NoSubscribers,
}

/// Why nobody knows what became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndeterminateReason {
    /// QoS 0: the connection ended while its bytes were under way.
    ConnectionLost,
    /// The broker forgot the session in which it was under way. [MQTT-3.2.2-5]
    SessionLost,
    /// It was sent on an earlier connection, and the broker of this one does not allow that it is sent again.
    NotAllowedAgain,
    /// The client was closed before the acknowledgement came.
    Closed,
}

/// One line for a log: no payload, no credentials. Topics and reasons are as the peer or the application wrote them.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected(connected) => {
                write!(f, "connected as {}, session {}", connected.client_id, connected.session)
            }
            Self::Message(inbound) => {
                let message = &inbound.message;
                write!(f, "message on {}, QoS {}, {} bytes", message.topic(), message.qos(), message.payload().len())
            }
            Self::Stored { ticket } => write!(f, "{ticket}: stored"),
            Self::Completed { ticket, outcome } => write!(f, "{ticket}: {outcome}"),
            Self::SubscriptionRefused { ticket, filter, reason_code } => {
                write!(f, "{ticket}: subscription to {filter} refused: {reason_code}")
            }
            Self::SubscriptionLost { filter, reason_code } => write!(f, "subscription to {filter} lost: {reason_code}"),
            Self::AuthenticationStep { .. } => f.write_str("the broker asks for the next step of the authentication"),
            Self::Reauthenticated { .. } => f.write_str("authenticated anew"),
            Self::QueueHasRoom => f.write_str("there is room for messages again"),
            Self::Disconnected(end) => write!(f, "disconnected: {end}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}", self.0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transmitted => f.write_str("handed to the transport"),
            Self::Acknowledged { reason_code } => write!(f, "acknowledged: {reason_code}"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Expired => f.write_str("expired before it could be sent"),
            Self::Dropped(reason) => write!(f, "dropped: {reason}"),
            Self::Indeterminate(reason) => write!(f, "nobody knows whether it arrived: {reason}"),
            Self::Response(_) => f.write_str("answered"),
            Self::Unanswered(reason) => write!(f, "not answered: {reason}"),
            Self::Subscribed(results) => {
                let granted = results.iter().filter(|result| result.is_ok()).count();
                write!(f, "{granted} of {} subscriptions granted", results.len())
            }
            Self::Unsubscribed(results) => {
                let ended = results.iter().filter(|result| result.is_ok()).count();
                write!(f, "{ended} of {} subscriptions ended", results.len())
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByServer { reason_code, reason_string: Some(text) } => write!(f, "{reason_code} ({text})"),
            Self::ByServer { reason_code, reason_string: None } => reason_code.fmt(f),
            Self::ByLimit(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for SessionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Resumed => "resumed",
            Self::Lost => "lost",
        })
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oldest => "the oldest of a full queue",
            Self::Newest => "the queue was full",
            Self::Closed => "the client was closed",
        })
    }
}

impl fmt::Display for UnansweredReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "the deadline passed",
            Self::NoSubscribers => "nobody subscribes to the topic",
        })
    }
}

impl fmt::Display for IndeterminateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionLost => "the connection ended meanwhile",
            Self::SessionLost => "the broker forgot the session",
            Self::NotAllowedAgain => "the broker does not allow that it is sent again",
            Self::Closed => "the client was closed",
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use super::*;

    #[test]
    fn outcomes_are_said_in_words() {
        let refusal =
            Refusal::ByServer { reason_code: ReasonCode::QuotaExceeded, reason_string: Some("come back later".into()) };
        let outcomes = [
            Outcome::Refused(refusal),
            Outcome::Indeterminate(IndeterminateReason::SessionLost),
            Outcome::Subscribed(vec![Ok(QoS::AtMostOnce), Err(ReasonCode::NotAuthorized)]),
            Outcome::Unanswered(UnansweredReason::Deadline),
        ];
        assert_eq!(
            outcomes.map(|outcome| outcome.to_string()),
            [
                "refused: Quota exceeded (0x97) (come back later)",
                "nobody knows whether it arrived: the broker forgot the session",
                "1 of 2 subscriptions granted",
                "not answered: the deadline passed",
            ]
        );
    }

    #[test]
    fn events_are_said_in_words_without_payload() {
        let filter = damselfly_topic::TopicFilter::new("home/+").unwrap().to_buf();
        let topic = damselfly_topic::TopicName::new("home/lamp").unwrap();
        let message = Message::compose(
            topic,
            b"on",
            QoS::AtLeastOnce,
            false,
            damselfly_codec::Properties::EMPTY,
            Timestamp::ZERO,
        );
        let (ticket, reason_code) = (Ticket(7), ReasonCode::NotAuthorized);
        let events = [
            Event::Message(InboundMessage { message, dup: false, subscription_ids: Vec::new(), ack: None }),
            Event::Stored { ticket },
            Event::Completed { ticket, outcome: Outcome::Expired },
            Event::SubscriptionRefused { ticket, filter: filter.clone(), reason_code },
            Event::SubscriptionLost { filter, reason_code },
            Event::Disconnected(ConnectionEnd::PingTimeout),
        ];
        assert_eq!(
            events.map(|event| event.to_string()),
            [
                "message on home/lamp, QoS 1, 2 bytes",
                "request 7: stored",
                "request 7: expired before it could be sent",
                "request 7: subscription to home/+ refused: Not authorized (0x87)",
                "subscription to home/+ lost: Not authorized (0x87)",
                "disconnected: the broker did not answer PINGREQ in time",
            ]
        );
    }
}
