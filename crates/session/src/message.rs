//! What is routed, queued and retained.

use alloc::{boxed::Box, sync::Arc};
use core::{fmt, iter::repeat_n, mem::size_of, ops::Range};

use bytes::Bytes;
use damselfly_codec::{Delivery, Frame, Properties, PropertyId, Publish, QoS, Will};
use damselfly_topic::TopicName;

use crate::{
    MessagePool, Timestamp, message_expires_at,
    message_pool::{COUNTS, Spare},
    remaining_expiry,
};

/// An Application Message without anything of the packet or the connection it came in: no Packet Identifier, no DUP, no
/// Topic Alias, no Subscription Identifier. [MQTT-3.3]
///
/// Two words; a clone is one reference count more. All of it lies in one allocation of 32 bytes, topic, properties and
/// payload, made of a PUBLISH that was decoded, so nothing is checked again. A large payload can share the memory of
/// its frame instead: [`Message::shared`].
///
/// The Message Expiry Interval is kept as the point in time it stands for; what is written when the message is sent on is
/// [`remaining_expiry`](Message::remaining_expiry). The other properties keep their values and their order.
/// [MQTT-3.3.2-6] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
///
/// ```
/// use damselfly_codec::{Delivery, Properties, PropertiesBuf, Property, Publish};
/// use damselfly_session::{Message, Timestamp};
/// use damselfly_topic::TopicName;
///
/// let mut properties = PropertiesBuf::new();
/// properties.push(Property::MessageExpiryInterval(60))?;
/// properties.push(Property::ContentType("text/plain"))?;
/// let topic = TopicName::new("pond/7/depth")?;
/// let publish = Publish {
///     delivery: Delivery::AtMostOnce,
///     retain: false,
///     topic: Some(topic),
///     properties: properties.as_properties(),
///     payload: b"1.2",
/// };
/// let message = Message::new(&publish, topic, Timestamp::from_secs(100));
/// assert_eq!(message.payload(), b"1.2");
/// assert_eq!(message.properties().content_type(), Some("text/plain"));
/// assert_eq!(message.remaining_expiry(Timestamp::from_secs(130)), Some(30));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Message(Repr);

#[derive(Clone)]
enum Repr {
    /// Head, topic, properties, payload.
    Whole(Arc<[u8]>),
    Shared(Arc<SharedMessage>),
}

struct SharedMessage {
    /// Head, topic, properties.
    record: Box<[u8]>,
    payload: Bytes,
}

const _: () = assert!(size_of::<Message>() == 16, "each place in a queue pays for it");

impl Message {
    /// Copies what a PUBLISH carries into one allocation. `topic` is its Topic Name, or what its Topic Alias stands for;
    /// an expiry counts from `now`.
    pub fn new(publish: &Publish<'_>, topic: TopicName<'_>, now: Timestamp) -> Self {
        let Publish { delivery, retain, properties, payload, .. } = *publish;
        Self::compose(topic, payload, delivery.qos(), retain, properties, now)
    }

    /// A message that came in no packet, so that there is no Packet Identifier to make up. Of the properties a Topic Alias
    /// and Subscription Identifiers are left out; a Message Expiry Interval counts from `now`.
    ///
    /// ```
    /// use damselfly_codec::{Properties, QoS};
    /// use damselfly_session::{Message, Timestamp};
    /// use damselfly_topic::TopicName;
    ///
    /// let topic = TopicName::new("pond/7/depth")?;
    /// let now = Timestamp::from_secs(100);
    /// let message = Message::compose(topic, b"1.2", QoS::AtLeastOnce, true, Properties::EMPTY, now);
    /// assert_eq!((message.topic(), message.qos(), message.retain()), (topic, QoS::AtLeastOnce, true));
    /// # Ok::<(), damselfly_topic::TopicError>(())
    /// ```
    pub fn compose(
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: Properties<'_>,
        now: Timestamp,
    ) -> Self {
        let kept = Kept::of(properties);
        let head = Head { qos, retain, expires_at: kept.expires_at(now) };
        Self::build(&head, topic, &kept, payload)
    }

    /// Like [`Message::new`], but the payload stays where it is, in the memory of its frame.
    ///
    /// For payloads of several KiB: a small one would keep the whole frame, and two allocations, alive.
    pub fn shared(frame: &Frame, publish: &Publish<'_>, topic: TopicName<'_>, now: Timestamp) -> Self {
        let kept = Kept::of(publish.properties);
        let head = Head { qos: publish.delivery.qos(), retain: publish.retain, expires_at: kept.expires_at(now) };
        let mut record = repeat_n(0, HEAD_LEN + topic.as_bytes().len() + kept.len).collect::<Box<[u8]>>();
        head.write(&mut record, topic, &kept);
        Self(Repr::Shared(Arc::new(SharedMessage { record, payload: frame.slice_ref(publish.payload) })))
    }

    /// The message of a will that is published at `now`: its expiry counts from there. [MQTT-3.1.3.2.4]
    pub fn from_will(will: &Will<'_>, now: Timestamp) -> Self {
        Self::compose(will.topic, will.payload, will.qos, will.retain, will.properties, now)
    }

    /// A stored message: QoS and expiry are given, the rest is in `publish`.
    #[cfg(feature = "serde")]
    pub(crate) fn from_stored(
        qos: QoS,
        expires_at: Option<Timestamp>,
        publish: &Publish<'_>,
        topic: TopicName<'_>,
    ) -> Self {
        let head = Head { qos, retain: publish.retain, expires_at };
        Self::build(&head, topic, &Kept::of(publish.properties), publish.payload)
    }

    /// The same message with another expiry, `None` for none.
    #[must_use = "the message itself is not changed"]
    pub fn with_expiry(&self, expires_at: Option<Timestamp>) -> Self {
        let kept = Kept::of(self.properties());
        let head = Head { qos: self.qos(), retain: self.retain(), expires_at };
        match &self.0 {
            Repr::Whole(_) => Self::build(&head, self.topic(), &kept, self.payload()),
            Repr::Shared(shared) => {
                let mut record = shared.record.clone();
                head.write(&mut record, self.topic(), &kept);
                Self(Repr::Shared(Arc::new(SharedMessage { record, payload: shared.payload.clone() })))
            }
        }
    }

    /// As [`Message::new`], in memory that an earlier message of about the same length gave back to `pool`.
    pub fn new_in(pool: &mut MessagePool, publish: &Publish<'_>, topic: TopicName<'_>, now: Timestamp) -> Self {
        if !publish.properties.is_empty() {
            return Self::new(publish, topic, now);
        }
        let (name, payload) = (topic.as_bytes(), publish.payload);
        let len = HEAD_LEN + name.len() + payload.len();
        let Some(Spare { mut record, pad }) = pool.take(len) else { return Self::new(publish, topic, now) };
        let place = Arc::get_mut(&mut record).and_then(|record| record.split_first_chunk_mut::<HEAD_LEN>());
        if let Some((first, rest)) = place {
            let head = Head { qos: publish.delivery.qos(), retain: publish.retain, expires_at: None };
            head.put(first, name.len(), 0, pad);
            if let Some((place, rest)) = rest.split_at_mut_checked(name.len()) {
                place.copy_from_slice(name);
                if let Some(place) = rest.get_mut(..payload.len()) {
                    place.copy_from_slice(payload);
                }
            }
        }
        Self(Repr::Whole(record))
    }

    /// Gives the memory of a message to `pool`, unless somebody else holds the message too.
    #[inline]
    pub fn give_back(self, pool: &mut MessagePool) {
        if let Repr::Whole(record) = self.0 {
            pool.give(record);
        }
    }

    fn build(head: &Head, topic: TopicName<'_>, kept: &Kept<'_>, payload: &[u8]) -> Self {
        let len = HEAD_LEN + topic.as_bytes().len() + kept.len + payload.len();
        // Of a known length, so this is the one allocation.
        let mut record = repeat_n(0, len).collect::<Arc<[u8]>>();
        if let Some(place) = Arc::get_mut(&mut record) {
            let rest = head.write(place, topic, kept);
            rest.copy_from_slice(payload);
        }
        Self(Repr::Whole(record))
    }

    /// The Topic Name.
    #[inline]
    pub fn topic(&self) -> TopicName<'_> {
        let (record, parts) = self.parts();
        TopicName::from_checked_bytes(record.get(HEAD_LEN..parts.topic_end).unwrap_or_default())
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.payload_behind(&Parts::of(self.record()))
    }

    #[inline]
    fn payload_behind(&self, parts: &Parts) -> &[u8] {
        match &self.0 {
            Repr::Whole(record) => {
                let pad = record.get(PAD).copied().map_or(0, usize::from);
                record.get(parts.properties_end..record.len() - pad).unwrap_or_default()
            }
            Repr::Shared(shared) => &shared.payload,
        }
    }

    /// The payload as a handle of its own, for a transmit buffer that shares it. Nothing is copied; unless the payload
    /// shares a frame already, the handle costs an allocation.
    pub fn payload_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Whole(_) => Bytes::from_owner(PayloadOf(self.clone())),
            Repr::Shared(shared) => shared.payload.clone(),
        }
    }

    /// The properties that are sent on as they came, without the Message Expiry Interval. Empty if the message came over
    /// a connection without properties.
    #[inline]
    pub fn properties(&self) -> Properties<'_> {
        let (record, parts) = self.parts();
        Properties::from_checked_bytes(record.get(parts.properties()).unwrap_or_default())
    }

    /// The QoS it was published with. What a subscriber gets may be lower.
    #[inline]
    pub fn qos(&self) -> QoS {
        match self.flags() & QOS_BITS {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// The RETAIN flag it was published with.
    #[inline]
    pub fn retain(&self) -> bool {
        self.flags() & RETAIN_BIT != 0
    }

    /// When it expires; `None` is never.
    #[inline]
    pub fn expires_at(&self) -> Option<Timestamp> {
        if self.flags() & EXPIRY_BIT == 0 {
            return None;
        }
        let at = self.record().get(EXPIRES_AT)?.first_chunk()?;
        Some(Timestamp::from_micros(u64::from_le_bytes(*at)))
    }

    /// Has it expired? [MQTT-3.3.2-5]
    #[inline]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    /// The Message Expiry Interval to send on at `now`, in seconds; `None` if it never expires or
    /// [has expired](Self::is_expired).
    #[inline]
    pub fn remaining_expiry(&self, now: Timestamp) -> Option<u32> {
        remaining_expiry(self.expires_at()?, now)
    }

    /// The PUBLISH that carries it, without a Message Expiry Interval.
    #[inline]
    pub fn to_publish(&self, delivery: Delivery, retain: bool) -> Publish<'_> {
        let (record, parts) = self.parts();
        let topic = TopicName::from_checked_bytes(record.get(HEAD_LEN..parts.topic_end).unwrap_or_default());
        let properties = Properties::from_checked_bytes(record.get(parts.properties()).unwrap_or_default());
        Publish { delivery, retain, topic: Some(topic), properties, payload: self.payload_behind(&parts) }
    }

    /// Heap memory held, in bytes, counted once however many clones there are; a shared payload counts with its length.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Whole(record) => COUNTS + record.len(),
            Repr::Shared(shared) => COUNTS + size_of::<SharedMessage>() + shared.record.len() + shared.payload.len(),
        }
    }

    /// Are these two handles of one message?
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Whole(a), Repr::Whole(b)) => Arc::ptr_eq(a, b),
            (Repr::Shared(a), Repr::Shared(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn record(&self) -> &[u8] {
        match &self.0 {
            Repr::Whole(record) => record,
            Repr::Shared(shared) => &shared.record,
        }
    }

    fn flags(&self) -> u8 {
        self.record().first().copied().unwrap_or_default()
    }

    fn parts(&self) -> (&[u8], Parts) {
        let record = self.record();
        (record, Parts::of(record))
    }
}

/// The same content; how it is kept does not matter.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other)
            || self.topic() == other.topic()
                && self.payload() == other.payload()
                && self.properties() == other.properties()
                && self.qos() == other.qos()
                && self.retain() == other.retain()
                && self.expires_at() == other.expires_at()
    }
}

impl Eq for Message {}

/// All but the payload, which may be large or secret.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .field("expires_at", &self.expires_at())
            .field("properties", &self.properties())
            .field("payload_len", &self.payload().len())
            .finish()
    }
}

/// Lets a [`Bytes`] own a message and show its payload.
struct PayloadOf(Message);

impl AsRef<[u8]> for PayloadOf {
    fn as_ref(&self) -> &[u8] {
        self.0.payload()
    }
}

/// A will as a session keeps it: its message, and the two intervals that begin to run later. [MQTT-3.1.2.5]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StoredWill {
    message: Message,
    expiry: Option<u32>,
    delay: u32,
}

impl StoredWill {
    /// From the CONNECT. [MQTT-3.1.2-7]
    pub fn new(will: &Will<'_>) -> Self {
        let kept = Kept::of(will.properties);
        let head = Head { qos: will.qos, retain: will.retain, expires_at: None };
        Self {
            message: Message::build(&head, will.topic, &kept, will.payload),
            expiry: kept.expiry,
            delay: will.properties.will_delay_interval().unwrap_or(0),
        }
    }

    /// Seconds between the end of the connection and the publication; 0 before 5.0. [MQTT-3.1.3.2.2]
    pub const fn delay(&self) -> u32 {
        self.delay
    }

    /// The Topic Name it will be published to.
    pub fn topic(&self) -> TopicName<'_> {
        self.message.topic()
    }

    /// The QoS it will be published with.
    pub fn qos(&self) -> QoS {
        self.message.qos()
    }

    /// The RETAIN flag it will be published with. [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    pub fn retain(&self) -> bool {
        self.message.retain()
    }

    /// The message, published now: its Message Expiry Interval begins to run. [MQTT-3.1.3.2.4]
    pub fn publish(&self, now: Timestamp) -> Message {
        match self.expiry {
            None => self.message.clone(),
            Some(interval) => self.message.with_expiry(Some(message_expires_at(now, interval))),
        }
    }

    /// Heap memory held, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.message.heap_bytes()
    }
}

/// What stands in front of the topic: flags, how many bytes behind the payload are not used, the lengths of topic and
/// properties, the expiry.
const HEAD_LEN: usize = 16;
const PAD: usize = 1;
const TOPIC_LEN: Range<usize> = 2..4;
const PROPERTIES_LEN: Range<usize> = 4..8;
const EXPIRES_AT: Range<usize> = 8..16;

const QOS_BITS: u8 = 0b0011;
const RETAIN_BIT: u8 = 0b0100;
const EXPIRY_BIT: u8 = 0b1000;

struct Head {
    qos: QoS,
    retain: bool,
    expires_at: Option<Timestamp>,
}

impl Head {
    /// Writes head, topic and the properties that are kept; answers with the place that is left.
    fn write<'a>(&self, record: &'a mut [u8], topic: TopicName<'_>, kept: &Kept<'_>) -> &'a mut [u8] {
        let Some((head, rest)) = record.split_first_chunk_mut::<HEAD_LEN>() else { return &mut [] };
        let topic = topic.as_bytes();
        self.put(head, topic.len(), kept.len, 0);
        let (place, rest) = rest.split_at_mut(topic.len());
        place.copy_from_slice(topic);
        let (place, rest) = rest.split_at_mut(kept.len);
        kept.write(place);
        rest
    }

    #[inline]
    fn put(&self, head: &mut [u8; HEAD_LEN], topic_len: usize, properties_len: usize, pad: u8) {
        let qos = match self.qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        };
        head[0] =
            qos | if self.retain { RETAIN_BIT } else { 0 } | if self.expires_at.is_some() { EXPIRY_BIT } else { 0 };
        head[PAD] = pad;
        head[TOPIC_LEN].copy_from_slice(&u16::try_from(topic_len).unwrap_or(u16::MAX).to_le_bytes());
        head[PROPERTIES_LEN].copy_from_slice(&u32::try_from(properties_len).unwrap_or(u32::MAX).to_le_bytes());
        head[EXPIRES_AT].copy_from_slice(&self.expires_at.unwrap_or_default().as_micros().to_le_bytes());
    }
}

/// Where the parts of a record end.
struct Parts {
    topic_end: usize,
    properties_end: usize,
}

impl Parts {
    #[inline]
    fn of(record: &[u8]) -> Self {
        let Some(head) = record.first_chunk::<HEAD_LEN>() else { return Self { topic_end: 0, properties_end: 0 } };
        let topic_len = u16::from_le_bytes([head[2], head[3]]);
        let properties_len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let topic_end = HEAD_LEN + usize::from(topic_len);
        Self { topic_end, properties_end: topic_end + usize::try_from(properties_len).unwrap_or(usize::MAX) }
    }

    fn properties(&self) -> Range<usize> {
        self.topic_end..self.properties_end
    }
}

/// The properties that belong to the message and not to a packet, a connection or the moment.
struct Kept<'a> {
    all: Properties<'a>,
    /// The first runs of kept properties. A PUBLISH to a broker never has more.
    runs: [&'a [u8]; 4],
    has_more: bool,
    len: usize,
    expiry: Option<u32>,
}

impl<'a> Kept<'a> {
    const NONE: Self = Self { all: Properties::EMPTY, runs: [&[]; 4], has_more: false, len: 0, expiry: None };

    fn of(all: Properties<'a>) -> Self {
        let mut kept = Self { all, ..Self::NONE };
        if all.is_empty() {
            return kept;
        }
        let bytes = all.as_bytes();
        let mut count = 0;
        let mut end_run = |run: Range<usize>| {
            if run.is_empty() {
                return;
            }
            kept.len += run.len();
            match kept.runs.get_mut(count) {
                Some(place) => *place = bytes.get(run).unwrap_or_default(),
                None => kept.has_more = true,
            }
            count += 1;
        };
        let (mut start, mut at) = (0, 0);
        for (id, encoded) in all.iter_encoded() {
            if id == PropertyId::MessageExpiryInterval {
                kept.expiry = encoded.get(1..).and_then(<[u8]>::first_chunk).map(|value| u32::from_be_bytes(*value));
            }
            if !is_kept(id) {
                end_run(start..at);
                start = at + encoded.len();
            }
            at += encoded.len();
        }
        end_run(start..at);
        kept
    }

    fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.expiry.map(|interval| message_expires_at(now, interval))
    }

    fn write(&self, mut place: &mut [u8]) {
        if self.len == 0 {
            return;
        }
        let mut put = |part: &[u8]| {
            let (here, next) = core::mem::take(&mut place).split_at_mut(part.len());
            here.copy_from_slice(part);
            place = next;
        };
        if self.has_more {
            let kept = self.all.iter_encoded().filter(|(id, _)| is_kept(*id));
            kept.for_each(|(_, encoded)| put(encoded));
        } else {
            self.runs.iter().for_each(|run| put(run));
        }
    }
}

const fn is_kept(id: PropertyId) -> bool {
    !matches!(
        id,
        PropertyId::TopicAlias
            | PropertyId::SubscriptionIdentifier
            | PropertyId::MessageExpiryInterval
            | PropertyId::WillDelayInterval
    )
}
