//! What the outbox stores, one operation at a time, and the bytes of each.

use alloc::{boxed::Box, vec::Vec};

use damselfly_codec::{
    DecodeError, Delivery, EncodeError, Foreign, Packet, PacketId, PropertiesBuf, ReasonCode, Subscribe,
    SubscriptionOptions, Unsubscribe, Version,
};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicFilterBuf};

use crate::Ticket;

/// One change of what a client with an [outbox](crate::OutboxConfig) keeps on disk.
///
/// The operations between two [`Output::Commit`](crate::Output::Commit) are one group: all of them are stored, or none.
/// Read back in their order they are the image that [`Client::restore`](crate::Client::restore) takes.
///
/// # Bytes
///
/// [`encode`](Self::encode) writes one operation without a length of its own: a store has records already. Numbers are
/// in network order. The first byte is the form, 1; the second says which operation it is.
///
/// | | operation | what follows |
/// |---|---|---|
/// | 1 | `Tickets` | `last`: 8 bytes |
/// | 2 | `Session` | 1 byte of flags (1: `is_new`, 2: there is an `until`), `until`: 8, the Client Identifier: the rest |
/// | 3 | `Publish` | `ticket`: 8, 1 byte of flags (1: there is a `wait_until`, 2: the message expires), `wait_until`: 8, the message's expiry: 8, an MQTT 5.0 PUBLISH whose Packet Identifier means nothing |
/// | 4 | `Send` | `ticket`: 8, `packet_id`: 2 |
/// | 5 | `Release` | `ticket`: 8, `packet_id`: 2, `reason_code`: 1 |
/// | 6 | `Requeue` | `ticket`: 8, 1 byte of flags (1: there is a `wait_until`), `wait_until`: 8 |
/// | 7 | `Finish` | `ticket`: 8 |
/// | 8 | `Receive` | `packet_id`: 2 |
/// | 9 | `Forget` | `packet_id`: 2 |
/// | 10 | `Subscribe` | an MQTT 5.0 SUBSCRIBE with one Topic Filter, whose Packet Identifier means nothing |
/// | 11 | `Unsubscribe` | an MQTT 5.0 UNSUBSCRIBE, likewise |
/// | 12 | `ResponseTopic` | the same as for `Unsubscribe` |
///
/// Points in time are microseconds of [`Timestamp`]. What a peer or an application wrote is kept in packets because those
/// are decoded with every check there is: nothing that could not be sent comes back from a disk.
///
/// ```
/// use damselfly_client::{Operation, OperationError};
///
/// let mut bytes = Vec::new();
/// let operation = Operation::Receive { packet_id: 7.try_into()? };
/// operation.encode(&mut bytes)?;
/// assert_eq!(bytes, [1, 8, 0, 7]);
/// assert_eq!(Operation::decode(&bytes)?, operation);
/// assert_eq!(Operation::decode(&[2, 8, 0, 7]), Err(OperationError::UnknownForm(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Tickets up to this one may have been given out, stored or not: later ones are higher. A process begins with it.
    Tickets {
        /// The last one.
        last: Ticket,
    },
    /// What is known of the session at the broker.
    Session {
        /// The name of the session: the configured one, or the one that the broker assigned.
        client_id: Box<str>,
        /// How long the broker keeps it; [`Timestamp::MAX`] also while a connection is open. `None`: there is none.
        until: Option<Timestamp>,
        /// Another one before it is over, and with it its `Receive` operations; its subscriptions are to be made again.
        is_new: bool,
    },
    /// A message was taken, QoS 1 or 2. It waits for its turn behind the messages taken before.
    Publish {
        /// Its ticket, higher than those before.
        ticket: Ticket,
        /// When it is given up if it was not sent by then: its Message Expiry Interval or the queue's `max_wait`.
        wait_until: Option<Timestamp>,
        /// The message.
        message: Message,
    },
    /// It was its turn: from here on its PUBLISH may have been sent.
    Send {
        /// Whose turn it was.
        ticket: Ticket,
        /// The identifier it is sent with, each time.
        packet_id: PacketId,
    },
    /// PUBREC came, or the broker does not allow that the message is sent again: PUBLISH never is, PUBREL is. The message is not needed any more. In a
    /// [snapshot](crate::Client::snapshot) nothing of the message comes before it.
    Release {
        /// Whose PUBREC it was.
        ticket: Ticket,
        /// The identifier of the exchange.
        packet_id: PacketId,
        /// What PUBREC said; 0x80 or above if there was none, and then why the message must not be sent again.
        reason_code: ReasonCode,
    },
    /// The session in which it was sent is gone: it waits for its turn again, by its ticket.
    Requeue {
        /// Which one.
        ticket: Ticket,
        /// When it is given up if it was not sent by then.
        wait_until: Option<Timestamp>,
    },
    /// The message has its outcome: nothing of it is kept.
    Finish {
        /// Whose outcome.
        ticket: Ticket,
    },
    /// A QoS 2 message of the broker was taken: if it comes again, before PUBREL, it is not delivered again.
    Receive {
        /// Its identifier.
        packet_id: PacketId,
    },
    /// PUBREL came.
    Forget {
        /// For this identifier.
        packet_id: PacketId,
    },
    /// The broker granted a subscription. It is made again when a new session begins, and is said again once it is granted
    /// there.
    Subscribe {
        /// Its Topic Filter; an earlier subscription to the same is replaced.
        filter: TopicFilterBuf,
        /// Its options.
        options: SubscriptionOptions,
        /// The properties of its SUBSCRIBE: a Subscription Identifier, User Properties.
        properties: PropertiesBuf,
    },
    /// The subscription is not made again.
    Unsubscribe {
        /// Its Topic Filter.
        filter: TopicFilterBuf,
    },
    /// A subscription, granted before, is that to the Response Topic of requests: a process with another Response Topic
    /// ends it.
    ResponseTopic {
        /// Its Topic Filter.
        filter: TopicFilterBuf,
    },
}

/// The form that this release writes. It changes with the layout, not with the release.
const FORM: u8 = 1;
/// In place of an identifier that means nothing.
const NO_ID: PacketId = PacketId::MIN;

mod kind {
    pub(super) const TICKETS: u8 = 1;
    pub(super) const SESSION: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const SEND: u8 = 4;
    pub(super) const RELEASE: u8 = 5;
    pub(super) const REQUEUE: u8 = 6;
    pub(super) const FINISH: u8 = 7;
    pub(super) const RECEIVE: u8 = 8;
    pub(super) const FORGET: u8 = 9;
    pub(super) const SUBSCRIBE: u8 = 10;
    pub(super) const UNSUBSCRIBE: u8 = 11;
    pub(super) const RESPONSE_TOPIC: u8 = 12;
}

/// Why bytes are no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// A newer release wrote it, or it is something else.
    #[error("the operation has form {0}, and only form 1 is known")]
    UnknownForm(u8),
    /// No operation has this number.
    #[error("no operation has number {0}")]
    UnknownKind(u8),
    /// It ends too early.
    #[error("the operation is cut short")]
    Short,
    /// It goes on where it should end.
    #[error("bytes follow the operation")]
    Long,
    /// A flag that means nothing is set, or a number that means nothing is there.
    #[error("a field of the operation holds what it cannot hold")]
    Field,
    /// The packet inside is none.
    #[error("the packet in the operation: {0}")]
    Packet(#[from] DecodeError),
    /// The packet inside is a different one, or has not what the operation needs.
    #[error("the packet in the operation is not the one that belongs there")]
    OtherPacket,
}

impl Operation {
    /// Appends the bytes of this operation.
    ///
    /// # Errors
    ///
    /// That a text or a list is too long for a packet: never for an operation that a client said, or that was decoded.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut head = |kind: u8| out.extend_from_slice(&[FORM, kind]);
        match self {
            Self::Tickets { last } => {
                head(kind::TICKETS);
                put_u64(out, last.0);
            }
            Self::Session { client_id, until, is_new } => {
                head(kind::SESSION);
                out.push(u8::from(*is_new) | u8::from(until.is_some()) << 1);
                put_time(out, *until);
                out.extend_from_slice(client_id.as_bytes());
            }
            Self::Publish { ticket, wait_until, message } => {
                head(kind::PUBLISH);
                let expires_at = message.expires_at();
                put_u64(out, ticket.0);
                out.push(u8::from(wait_until.is_some()) | u8::from(expires_at.is_some()) << 1);
                put_time(out, *wait_until);
                put_time(out, expires_at);
                let publish = message.to_publish(Delivery::first(message.qos(), NO_ID), message.retain());
                publish.encode_checked(Version::V5_0, Foreign::Reject, out)?;
            }
            Self::Send { ticket, packet_id } => {
                head(kind::SEND);
                put_u64(out, ticket.0);
                out.extend_from_slice(&packet_id.get().to_be_bytes());
            }
            Self::Release { ticket, packet_id, reason_code } => {
                head(kind::RELEASE);
                put_u64(out, ticket.0);
                out.extend_from_slice(&packet_id.get().to_be_bytes());
                out.push(reason_code.code());
            }
            Self::Requeue { ticket, wait_until } => {
                head(kind::REQUEUE);
                put_u64(out, ticket.0);
                out.push(u8::from(wait_until.is_some()));
                put_time(out, *wait_until);
            }
            Self::Finish { ticket } => {
                head(kind::FINISH);
                put_u64(out, ticket.0);
            }
            Self::Receive { packet_id } => {
                head(kind::RECEIVE);
                out.extend_from_slice(&packet_id.get().to_be_bytes());
            }
            Self::Forget { packet_id } => {
                head(kind::FORGET);
                out.extend_from_slice(&packet_id.get().to_be_bytes());
            }
            Self::Subscribe { filter, options, properties } => {
                head(kind::SUBSCRIBE);
                let filters = [(filter.as_filter(), *options)];
                let subscribe = Subscribe::new(NO_ID, properties.as_properties(), &filters);
                subscribe.encode(Version::V5_0, Foreign::Reject, out)?;
            }
            Self::Unsubscribe { filter } => {
                head(kind::UNSUBSCRIBE);
                put_filter(out, filter)?;
            }
            Self::ResponseTopic { filter } => {
                head(kind::RESPONSE_TOPIC);
                put_filter(out, filter)?;
            }
        }
        Ok(())
    }

    /// Reads one operation that is all of `bytes`. Nothing is believed that was not checked.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, OperationError> {
        let mut rest = Rest(bytes);
        let [form] = rest.take()?;
        if form != FORM {
            return Err(OperationError::UnknownForm(form));
        }
        let [number] = rest.take()?;
        let operation = match number {
            kind::TICKETS => Self::Tickets { last: rest.ticket()? },
            kind::SESSION => {
                let [is_new, has_until] = rest.flags()?;
                let until = rest.time(has_until)?;
                let client_id = core::str::from_utf8(rest.all()).map_err(|_| OperationError::Field)?;
                if client_id.len() > usize::from(u16::MAX) || client_id.contains('\0') {
                    return Err(OperationError::Field);
                }
                Self::Session { client_id: client_id.into(), until, is_new }
            }
            kind::PUBLISH => rest.publish()?,
            kind::SEND => Self::Send { ticket: rest.ticket()?, packet_id: rest.packet_id()? },
            kind::RELEASE => {
                let (ticket, packet_id, [code]) = (rest.ticket()?, rest.packet_id()?, rest.take()?);
                let reason_code = ReasonCode::try_from(code).map_err(|_| OperationError::Field)?;
                Self::Release { ticket, packet_id, reason_code }
            }
            kind::REQUEUE => {
                let ticket = rest.ticket()?;
                let [has_wait, false] = rest.flags()? else { return Err(OperationError::Field) };
                Self::Requeue { ticket, wait_until: rest.time(has_wait)? }
            }
            kind::FINISH => Self::Finish { ticket: rest.ticket()? },
            kind::RECEIVE => Self::Receive { packet_id: rest.packet_id()? },
            kind::FORGET => Self::Forget { packet_id: rest.packet_id()? },
            kind::SUBSCRIBE => rest.subscribe()?,
            kind::UNSUBSCRIBE => Self::Unsubscribe { filter: rest.filter()? },
            kind::RESPONSE_TOPIC => Self::ResponseTopic { filter: rest.filter()? },
            unknown => return Err(OperationError::UnknownKind(unknown)),
        };
        if rest.0.is_empty() { Ok(operation) } else { Err(OperationError::Long) }
    }
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_filter(out: &mut Vec<u8>, filter: &TopicFilterBuf) -> Result<(), EncodeError> {
    let filters: [TopicFilter<'_>; 1] = [filter.as_filter()];
    Unsubscribe::new(NO_ID, damselfly_codec::Properties::EMPTY, &filters).encode(Version::V5_0, Foreign::Reject, out)
}

fn put_time(out: &mut Vec<u8>, at: Option<Timestamp>) {
    put_u64(out, at.map_or(0, Timestamp::as_micros));
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], OperationError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(OperationError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    const fn all(&mut self) -> &'a [u8] {
        let all = self.0;
        self.0 = &[];
        all
    }

    fn ticket(&mut self) -> Result<Ticket, OperationError> {
        Ok(Ticket(u64::from_be_bytes(self.take()?)))
    }

    fn packet_id(&mut self) -> Result<PacketId, OperationError> {
        PacketId::new(u16::from_be_bytes(self.take()?)).ok_or(OperationError::Field)
    }

    fn flags(&mut self) -> Result<[bool; 2], OperationError> {
        let [flags] = self.take()?;
        if flags > 3 {
            return Err(OperationError::Field);
        }
        Ok([flags & 1 != 0, flags & 2 != 0])
    }

    fn time(&mut self, is_there: bool) -> Result<Option<Timestamp>, OperationError> {
        let micros = u64::from_be_bytes(self.take()?);
        match (is_there, micros) {
            (true, micros) => Ok(Some(Timestamp::from_micros(micros))),
            (false, 0) => Ok(None),
            (false, _) => Err(OperationError::Field),
        }
    }

    fn publish(&mut self) -> Result<Operation, OperationError> {
        let ticket = self.ticket()?;
        let [has_wait, expires] = self.flags()?;
        let (wait_until, expires_at) = (self.time(has_wait)?, self.time(expires)?);
        let Packet::Publish(publish) = Packet::decode(Version::V5_0, self.all())? else {
            return Err(OperationError::OtherPacket);
        };
        let topic = publish.topic.filter(|_| publish.delivery.packet_id().is_some());
        let topic = topic.ok_or(OperationError::OtherPacket)?;
        let message = Message::new(&publish, topic, Timestamp::ZERO).with_expiry(expires_at);
        Ok(Operation::Publish { ticket, wait_until, message })
    }

    fn subscribe(&mut self) -> Result<Operation, OperationError> {
        let Packet::Subscribe(subscribe) = Packet::decode(Version::V5_0, self.all())? else {
            return Err(OperationError::OtherPacket);
        };
        let mut filters = subscribe.filters();
        let (Some((filter, options)), None) = (filters.next(), filters.next()) else {
            return Err(OperationError::OtherPacket);
        };
        Ok(Operation::Subscribe { filter: filter.to_buf(), options, properties: subscribe.properties.into() })
    }

    fn filter(&mut self) -> Result<TopicFilterBuf, OperationError> {
        let Packet::Unsubscribe(unsubscribe) = Packet::decode(Version::V5_0, self.all())? else {
            return Err(OperationError::OtherPacket);
        };
        let mut filters = unsubscribe.filters();
        let (Some(filter), None) = (filters.next(), filters.next()) else { return Err(OperationError::OtherPacket) };
        Ok(filter.to_buf())
    }
}
