//! One message for many subscribers: encoded once, copied with what differs. [MQTT-3.3]

use alloc::vec::Vec;

use damselfly_topic::TopicName;

use crate::properties::RawIter;
use crate::property::allowed;
use crate::wire::{frame_len, put_field, put_fixed_header, put_variable_integer, to_usize, variable_len};
use crate::{EncodeError, PacketId, Properties, PropertyId, QoS, SubscriptionId, TopicAlias, Version};

/// A PUBLISH encoded once per version, QoS and RETAIN flag; each subscriber's copy differs in a few bytes only.
///
/// A copy without additions is one `memcpy`, at QoS 1 and 2 with the Packet Identifier patched in. On a 3.1 or 3.1.1
/// connection properties do not travel: those of the message and of the additions are left out.
///
/// A template is meant to be kept and filled again: [`PublishTemplate::reset`] reuses its memory.
///
/// ```
/// use damselfly_codec::{Addition, PacketId, Properties, PublishTemplate, QoS, Version};
/// use damselfly_topic::TopicName;
///
/// let topic = TopicName::new("pond/7/depth")?;
/// let template =
///     PublishTemplate::new(Version::V3_1_1, QoS::AtLeastOnce, false, topic, Properties::EMPTY, b"1.2")?;
///
/// let mut out = Vec::new();
/// for id in [7, 8] {
///     template.write(&Addition { packet_id: PacketId::new(id), ..Addition::default() }, &mut out)?;
/// }
/// let (first, second) = out.split_at(out.len() / 2);
/// assert_eq!(first[16..], *b"\x00\x071.2");
/// assert_eq!(second[16..], *b"\x00\x081.2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    version: Version,
    qos: QoS,
    /// The whole packet without additions, Packet Identifier 0; without payload after [`PublishTemplate::reset_head`].
    frame: Vec<u8>,
    /// Where the topic's length begins: behind the fixed header.
    topic_at: usize,
    /// Where the topic ends and the Packet Identifier, if any, begins.
    topic_end: usize,
    /// Where the first property begins.
    properties_at: usize,
    /// Where the value of the Message Expiry Interval is, if the message has one.
    expiry_at: Option<usize>,
    payload_at: usize,
    payload_len: usize,
}

/// What one subscriber's copy of a message has of its own.
///
/// At QoS 0 `packet_id` and `dup` are not used. Before 5.0 only those two are. [MQTT-3.3.1-2] [MQTT-2.2.1-2]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addition<'a> {
    /// Needed at QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// An earlier attempt may have arrived.
    pub dup: bool,
    /// Of all subscriptions that match. [MQTT-3.3.4-3]
    pub subscription_ids: &'a [SubscriptionId],
    /// The alias, and whether the Topic Name travels beside it and so sets it. [MQTT-3.3.2.3.4]
    pub topic_alias: Option<(TopicAlias, bool)>,
    /// The lifetime left, in seconds; replaces that of the message. [MQTT-3.3.2-6]
    pub message_expiry_interval: Option<u32>,
}

impl Addition<'_> {
    /// An alias may stand alone for a Topic Name that was sent before.
    fn sends_topic(&self) -> bool {
        self.topic_alias.is_none_or(|(_, with_topic)| with_topic)
    }
}

impl Default for PublishTemplate {
    /// An empty template that owns no memory and writes nothing, to be filled with [`PublishTemplate::reset`].
    fn default() -> Self {
        Self {
            // A version without additions, so that nothing is added to nothing.
            version: Version::V3_1_1,
            qos: QoS::AtMostOnce,
            frame: Vec::new(),
            topic_at: 0,
            topic_end: 0,
            properties_at: 0,
            expiry_at: None,
            payload_at: 0,
            payload_len: 0,
        }
    }
}

impl PublishTemplate {
    /// Encodes the part that all subscribers share.
    ///
    /// Topic Alias and Subscription Identifiers among `properties` belong to another connection and are left out.
    pub fn new(
        version: Version,
        qos: QoS,
        retain: bool,
        topic: TopicName<'_>,
        properties: Properties<'_>,
        payload: &[u8],
    ) -> Result<Self, EncodeError> {
        let mut template = Self::default();
        template.reset(version, qos, retain, topic, properties, payload)?;
        Ok(template)
    }

    /// Encodes another message in the same memory, as [`PublishTemplate::new`] does; on an error the template is empty.
    pub fn reset(
        &mut self,
        version: Version,
        qos: QoS,
        retain: bool,
        topic: TopicName<'_>,
        properties: Properties<'_>,
        payload: &[u8],
    ) -> Result<(), EncodeError> {
        self.reset_head(version, qos, retain, topic, properties, payload.len())?;
        self.frame.extend_from_slice(payload);
        Ok(())
    }

    /// The same for a payload of `payload_len` bytes that stays where it is: what is written ends before the payload.
    ///
    /// The caller sends the payload after each copy, by reference.
    pub fn reset_head(
        &mut self,
        version: Version,
        qos: QoS,
        retain: bool,
        topic: TopicName<'_>,
        properties: Properties<'_>,
        payload_len: usize,
    ) -> Result<(), EncodeError> {
        self.clear();
        let kept = if version.has_properties() { kept_len(properties)? } else { 0 };
        let topic = topic.as_bytes();
        let id = if qos == QoS::AtMostOnce { 0 } else { 2 };
        let properties_len = if version.has_properties() { variable_len(kept) + kept } else { 0 };
        let body = 2 + topic.len() + id + properties_len + payload_len;
        put_fixed_header(&mut self.frame, 0x30 | qos.level() << 1 | u8::from(retain), body)?;

        self.topic_at = self.frame.len();
        put_field(&mut self.frame, topic);
        self.topic_end = self.frame.len();
        if id > 0 {
            self.frame.extend_from_slice(&[0; 2]);
        }
        self.properties_at = self.frame.len();
        if version.has_properties() {
            put_variable_integer(&mut self.frame, u32::try_from(kept).unwrap_or(u32::MAX));
            self.properties_at = self.frame.len();
            self.put_kept(properties, kept);
        }
        self.payload_at = self.frame.len();
        self.payload_len = payload_len;
        self.version = version;
        self.qos = qos;
        Ok(())
    }

    /// Empties the template and keeps its memory.
    pub fn clear(&mut self) {
        let frame = core::mem::take(&mut self.frame);
        *self = Self::default();
        self.frame = frame;
        self.frame.clear();
    }

    /// Heap memory of the template in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.frame.capacity()
    }

    /// Copies the properties that all subscribers share, and notes where the expiry is.
    fn put_kept(&mut self, properties: Properties<'_>, kept: usize) {
        let is_whole = kept == properties.as_bytes().len();
        if is_whole {
            self.frame.extend_from_slice(properties.as_bytes());
        }
        let mut at = self.properties_at;
        for (number, encoded) in encoded(properties) {
            if is_of_connection(number) {
                continue;
            }
            if number == PropertyId::MessageExpiryInterval.number() {
                self.expiry_at = Some(at + 1);
            }
            if !is_whole {
                self.frame.extend_from_slice(encoded);
            }
            at += encoded.len();
        }
    }

    /// Bytes of the whole packet with this addition, payload included, or why there cannot be one.
    pub fn encoded_len(&self, addition: &Addition<'_>) -> Result<usize, EncodeError> {
        if self.is_copy(addition) {
            return Ok(self.payload_at + self.payload_len);
        }
        frame_len(self.body_len(addition))
    }

    /// Appends the packet with this addition; on an error nothing is written.
    #[inline]
    pub fn write(&self, addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.is_copy(addition) {
            return self.copy(&self.frame, addition, out);
        }
        self.rebuild(addition, out)?;
        out.extend_from_slice(self.frame.get(self.payload_at..).unwrap_or_default());
        Ok(())
    }

    /// Appends everything but the payload, which the caller then sends by reference; on an error nothing is written.
    #[inline]
    pub fn write_head(&self, addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.is_copy(addition) {
            return self.copy(self.frame.get(..self.payload_at).unwrap_or_default(), addition, out);
        }
        self.rebuild(addition, out)
    }

    /// The addition changes no length.
    #[inline]
    fn is_copy(&self, addition: &Addition<'_>) -> bool {
        let is_bare = addition.topic_alias.is_none()
            && addition.subscription_ids.is_empty()
            && (addition.message_expiry_interval.is_none() || self.expiry_at.is_some());
        is_bare || !self.version.has_properties()
    }

    /// Appends bytes of the packet without additions and patches Packet Identifier, DUP and expiry.
    #[inline]
    fn copy(&self, bytes: &[u8], addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        if self.qos == QoS::AtMostOnce {
            out.extend_from_slice(bytes);
        } else {
            let Some(id) = addition.packet_id else { return Err(EncodeError::PacketIdMissing) };
            out.extend_from_slice(bytes);
            patch(out, start + self.topic_end, id.get().to_be_bytes());
            if let Some(first) = out.get_mut(start).filter(|_| addition.dup) {
                *first |= 0x08;
            }
        }
        if let (Some(at), Some(seconds)) = (self.expiry_at, addition.message_expiry_interval) {
            patch(out, start + at, seconds.to_be_bytes());
        }
        Ok(())
    }

    /// Writes the head anew, with the properties of the addition in front of those of the message.
    #[inline(never)]
    fn rebuild(&self, addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let [first, ..] = self.frame.as_slice() else { return Ok(()) };
        let mut first = *first;
        if self.qos != QoS::AtMostOnce {
            if addition.packet_id.is_none() {
                return Err(EncodeError::PacketIdMissing);
            }
            first |= u8::from(addition.dup) << 3;
        }
        let part = |from: usize, to: usize| self.frame.get(from..to).unwrap_or_default();

        put_fixed_header(out, first, self.body_len(addition))?;
        if addition.sends_topic() {
            out.extend_from_slice(part(self.topic_at, self.topic_end));
        } else {
            out.extend_from_slice(&[0; 2]);
        }
        if let Some(id) = addition.packet_id.filter(|_| self.qos != QoS::AtMostOnce) {
            out.extend_from_slice(&id.get().to_be_bytes());
        }
        put_variable_integer(out, u32::try_from(self.properties_len(addition)).unwrap_or(u32::MAX));
        if let Some((alias, _)) = addition.topic_alias {
            let [high, low] = alias.get().to_be_bytes();
            out.extend_from_slice(&[PropertyId::TopicAlias.number(), high, low]);
        }
        for id in addition.subscription_ids {
            out.push(PropertyId::SubscriptionIdentifier.number());
            put_variable_integer(out, id.get());
        }
        let start = out.len();
        if let Some(seconds) = addition.message_expiry_interval.filter(|_| self.expiry_at.is_none()) {
            out.push(PropertyId::MessageExpiryInterval.number());
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        out.extend_from_slice(part(self.properties_at, self.payload_at));
        if let (Some(at), Some(seconds)) = (self.expiry_at, addition.message_expiry_interval) {
            patch(out, start + at - self.properties_at, seconds.to_be_bytes());
        }
        Ok(())
    }

    fn body_len(&self, addition: &Addition<'_>) -> usize {
        let topic = if addition.sends_topic() { self.topic_end - self.topic_at } else { 2 };
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let properties = self.properties_len(addition);
        topic + id + variable_len(properties) + properties + self.payload_len
    }

    fn properties_len(&self, addition: &Addition<'_>) -> usize {
        let ids = addition.subscription_ids.iter().map(|id| 1 + variable_len(to_usize(id.get())));
        let alias = if addition.topic_alias.is_some() { 3 } else { 0 };
        let is_expiry_new = addition.message_expiry_interval.is_some() && self.expiry_at.is_none();
        let expiry = if is_expiry_new { 5 } else { 0 };
        self.payload_at - self.properties_at + alias + expiry + ids.sum::<usize>()
    }
}

/// Bytes of the properties that all subscribers share, if a PUBLISH may carry them.
fn kept_len(properties: Properties<'_>) -> Result<usize, EncodeError> {
    properties.encoded_len(allowed::PUBLISH, allowed::REPEATED_IN_PUBLISH)?;
    let dropped = encoded(properties).filter(|(number, _)| is_of_connection(*number)).map(|(_, bytes)| bytes.len());
    Ok(properties.as_bytes().len() - dropped.sum::<usize>())
}

/// Topic Alias and Subscription Identifier mean something on one connection only.
fn is_of_connection(number: u8) -> bool {
    number == PropertyId::TopicAlias.number() || number == PropertyId::SubscriptionIdentifier.number()
}

/// Each property, number and value together, with its number.
fn encoded(properties: Properties<'_>) -> impl Iterator<Item = (u8, &[u8])> {
    let mut raw = RawIter(properties.as_bytes());
    core::iter::from_fn(move || {
        let before = raw.0;
        let (number, _) = raw.next()?;
        Some((number, before.get(..before.len() - raw.0.len()).unwrap_or_default()))
    })
}

/// Overwrites bytes that have just been appended.
#[inline]
fn patch<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = out.get_mut(at..at + N) {
        place.copy_from_slice(&bytes);
    }
}
