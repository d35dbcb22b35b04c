//! One message for many subscribers: encoded once, copied with what differs. [MQTT-3.3]

use alloc::vec::Vec;

use damselfly_topic::TopicName;

use crate::properties::{InPublish, split_property};
use crate::publish::put_head;
use crate::wire::{frame_len, put_fixed_header, put_variable_integer, to_usize, variable_len};
use crate::{
    EncodeError, FixedHeader, PacketId, Properties, PropertyId, Publish, QoS, SubscriptionId, TopicAlias, Version,
};

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
    topic_at: u32,
    /// Where the topic ends and the Packet Identifier, if any, begins.
    topic_end: u32,
    /// Where the first property begins.
    properties_at: u32,
    /// Where the value of the Message Expiry Interval is, 0 if the message has none.
    expiry_at: u32,
    payload_at: u32,
    payload_len: usize,
}

/// What one subscriber's copy of a message has of its own.
///
/// At QoS 0 `packet_id` and `dup` are not used. Before 5.0 only those two and `retain` are. [MQTT-3.3.1-2] [MQTT-2.2.1-2]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addition<'a> {
    /// Needed at QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// An earlier attempt may have arrived.
    pub dup: bool,
    /// Sets RETAIN, if the template does not: a subscriber may have asked for it as published. [MQTT-3.3.1-13]
    pub retain: bool,
    /// Of all subscriptions that match. [MQTT-3.3.4-3]
    pub subscription_ids: &'a [SubscriptionId],
    /// The alias, and whether the Topic Name travels beside it and so sets it. [MQTT-3.3.2.3.4]
    pub topic_alias: Option<(TopicAlias, bool)>,
    /// The lifetime left, in seconds; replaces that of the message. [MQTT-3.3.2-6]
    pub message_expiry_interval: Option<u32>,
}

impl Addition<'_> {
    /// Nothing but what has its place in every copy.
    #[inline]
    const fn is_bare(&self) -> bool {
        self.topic_alias.is_none() && self.subscription_ids.is_empty() && self.message_expiry_interval.is_none()
    }

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
            expiry_at: 0,
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
        self.fill_head(version, qos, retain, topic, properties, payload.len())?;
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
        self.fill_head(version, qos, retain, topic, properties, payload_len)
    }

    /// Empties the template and keeps its memory.
    pub fn clear(&mut self) {
        let mut frame = core::mem::take(&mut self.frame);
        frame.clear();
        *self = Self { frame, ..Self::default() };
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "two calls fewer for every message that is routed, 30 instructions")]
    fn fill_head(
        &mut self,
        version: Version,
        qos: QoS,
        retain: bool,
        topic: TopicName<'_>,
        properties: Properties<'_>,
        payload_len: usize,
    ) -> Result<(), EncodeError> {
        let is_v5 = version.has_properties();
        let has_properties = is_v5 && !properties.is_empty();
        let found = if has_properties { properties.in_publish() } else { Ok(InPublish::default()) };
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.refuse(error),
        };
        let kept = properties.as_bytes().len() - found.of_connection;
        let topic = topic.as_bytes();
        let id_len = if qos == QoS::AtMostOnce { 0 } else { 2 };
        let properties_len = if is_v5 { variable_len(kept) + kept } else { 0 };
        let body = 2 + topic.len() + id_len + properties_len + payload_len;

        self.frame.clear();
        let first = 0x30 | qos.level() << 1 | u8::from(retain);
        if let Err(error) = put_head(&mut self.frame, first, body, topic) {
            return self.refuse(error);
        }
        self.topic_end = self.at();
        self.topic_at = self.topic_end - u32::try_from(topic.len() + 2).unwrap_or(0);
        if id_len > 0 {
            self.frame.extend_from_slice(&[0; 2]);
        }
        self.expiry_at = 0;
        if has_properties {
            put_variable_integer(&mut self.frame, u32::try_from(kept).unwrap_or(u32::MAX));
            self.properties_at = self.at();
            self.put_kept(properties, found);
        } else {
            if is_v5 {
                self.frame.push(0);
            }
            self.properties_at = self.at();
        }
        self.payload_at = self.at();
        self.payload_len = payload_len;
        self.version = version;
        self.qos = qos;
        Ok(())
    }

    /// An error leaves nothing of the message before.
    #[cold]
    fn refuse(&mut self, error: EncodeError) -> Result<(), EncodeError> {
        self.clear();
        Err(error)
    }

    /// Where the next byte goes; no packet is longer than a `u32` can say.
    fn at(&self) -> u32 {
        u32::try_from(self.frame.len()).unwrap_or(u32::MAX)
    }

    /// Heap memory of the template in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.frame.capacity()
    }

    /// Copies the properties that all subscribers share.
    #[inline(never)]
    fn put_kept(&mut self, properties: Properties<'_>, found: InPublish) {
        if found.expiry_at > 0 {
            self.expiry_at = self.at() + u32::try_from(found.expiry_at).unwrap_or(u32::MAX);
        }
        if found.of_connection == 0 {
            self.frame.extend_from_slice(properties.as_bytes());
            return;
        }
        let mut rest = properties.as_bytes();
        while let Some((number, encoded, behind)) = split_property(rest) {
            if !is_of_connection(number) {
                self.frame.extend_from_slice(encoded);
            }
            rest = behind;
        }
    }

    /// Bytes of the whole packet with this addition, payload included, or why there cannot be one.
    #[inline]
    pub fn encoded_len(&self, addition: &Addition<'_>) -> Result<usize, EncodeError> {
        if addition.is_bare() { Ok(self.copied_len()) } else { self.encoded_len_with(addition) }
    }

    #[inline(never)]
    fn encoded_len_with(&self, addition: &Addition<'_>) -> Result<usize, EncodeError> {
        if self.is_copy(addition) { Ok(self.copied_len()) } else { frame_len(self.body_len(addition)) }
    }

    /// Bytes of the whole packet without additions.
    #[inline]
    fn copied_len(&self) -> usize {
        to_usize(self.payload_at) + self.payload_len
    }

    /// Appends the packet with this addition; on an error nothing is written.
    #[inline]
    pub fn write(&self, addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if addition.is_bare() { self.copy(&self.frame, addition, out) } else { self.write_long(addition, out) }
    }

    /// Appends everything but the payload, which the caller then sends by reference; on an error nothing is written.
    pub fn write_head(&self, addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !self.is_copy(addition) {
            return self.rebuild(addition, out);
        }
        self.copy_with_expiry(self.frame.get(..to_usize(self.payload_at)).unwrap_or_default(), addition, out)
    }

    #[inline(never)]
    fn write_long(&self, addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.is_copy(addition) {
            return self.copy_with_expiry(&self.frame, addition, out);
        }
        self.rebuild(addition, out)?;
        out.extend_from_slice(self.frame.get(to_usize(self.payload_at)..).unwrap_or_default());
        Ok(())
    }

    /// The addition changes no length.
    fn is_copy(&self, addition: &Addition<'_>) -> bool {
        let has_place_for_expiry = addition.message_expiry_interval.is_none() || self.expiry_at > 0;
        let is_only_patched =
            addition.topic_alias.is_none() && addition.subscription_ids.is_empty() && has_place_for_expiry;
        is_only_patched || !self.version.has_properties()
    }

    /// Appends bytes of the packet without additions, with Packet Identifier and DUP.
    #[inline]
    fn copy(&self, bytes: &[u8], addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.qos == QoS::AtMostOnce {
            let start = out.len();
            out.extend_from_slice(bytes);
            if let Some(first) = out.get_mut(start) {
                *first |= u8::from(addition.retain);
            }
            return Ok(());
        }
        let Some(id) = addition.packet_id else { return Err(EncodeError::PacketIdMissing) };
        let Some([first, ..]) = bytes.first_chunk::<1>() else { return Ok(()) };
        let first = first | u8::from(addition.dup) << 3 | u8::from(addition.retain);
        put_copy(out, bytes, first, to_usize(self.topic_end), id);
        Ok(())
    }

    fn copy_with_expiry(&self, bytes: &[u8], addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        self.copy(bytes, addition, out)?;
        self.patch_expiry(addition, out, start + to_usize(self.expiry_at));
        Ok(())
    }

    /// Overwrites the expiry in the properties that have just been copied, if there is one.
    fn patch_expiry(&self, addition: &Addition<'_>, out: &mut [u8], at: usize) {
        if self.expiry_at == 0 {
            return;
        }
        let place = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
        if let (Some(place), Some(seconds)) = (place, addition.message_expiry_interval) {
            *place = seconds.to_be_bytes();
        }
    }

    /// Writes the head anew, with the properties of the addition in front of those of the message.
    #[inline(never)]
    fn rebuild(&self, addition: &Addition<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let [first, ..] = self.frame.as_slice() else { return Ok(()) };
        let mut first = *first | u8::from(addition.retain);
        if self.qos != QoS::AtMostOnce {
            if addition.packet_id.is_none() {
                return Err(EncodeError::PacketIdMissing);
            }
            first |= u8::from(addition.dup) << 3;
        }
        let part = |from, to| self.frame.get(to_usize(from)..to_usize(to)).unwrap_or_default();

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
        if let Some(seconds) = addition.message_expiry_interval.filter(|_| self.expiry_at == 0) {
            out.push(PropertyId::MessageExpiryInterval.number());
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        out.extend_from_slice(part(self.properties_at, self.payload_at));
        self.patch_expiry(
            addition,
            out,
            (start + to_usize(self.expiry_at)).saturating_sub(to_usize(self.properties_at)),
        );
        Ok(())
    }

    fn body_len(&self, addition: &Addition<'_>) -> usize {
        let topic = if addition.sends_topic() { to_usize(self.topic_end - self.topic_at) } else { 2 };
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let properties = self.properties_len(addition);
        topic + id + variable_len(properties) + properties + self.payload_len
    }

    fn properties_len(&self, addition: &Addition<'_>) -> usize {
        let ids = addition.subscription_ids.iter().map(|id| 1 + variable_len(to_usize(id.get())));
        let alias = if addition.topic_alias.is_some() { 3 } else { 0 };
        let is_expiry_new = addition.message_expiry_interval.is_some() && self.expiry_at == 0;
        let expiry = if is_expiry_new { 5 } else { 0 };
        to_usize(self.payload_at - self.properties_at) + alias + expiry + ids.sum::<usize>()
    }
}

/// A PUBLISH of QoS 1 or 2 without properties, as it came: what a receiver of the same generation of the protocol and the
/// same QoS gets differs in the first byte and the Packet Identifier only. [MQTT-3.3]
///
/// ```
/// use damselfly_codec::{FrameLimits, Packet, PacketId, PublishFrame, Version, peek};
///
/// let frame = b"\x3B\x08\x00\x03a/b\x00\x071";
/// let header = peek(frame, &FrameLimits::default())?.expect("a whole packet");
/// let Packet::Publish(publish) = Packet::decode(Version::V3_1_1, frame)? else { unreachable!("0x3B is a PUBLISH") };
/// let mut out = Vec::new();
/// let came = PublishFrame::new(header, frame, &publish).expect("it has QoS 1 and no properties");
/// came.write(PacketId::new(0x0102).expect("not zero"), false, false, &mut out);
/// assert_eq!(out, b"\x32\x08\x00\x03a/b\x01\x021");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PublishFrame<'a> {
    bytes: &'a [u8],
    qos: QoS,
    topic_end: usize,
}

impl<'a> PublishFrame<'a> {
    /// `publish` is what `frame` was decoded to; `None` if its receivers need a frame of their own.
    #[inline]
    pub fn new(header: FixedHeader, frame: &'a [u8], publish: &Publish<'_>) -> Option<Self> {
        let (topic, qos) = (publish.topic?, publish.delivery.qos());
        if qos == QoS::AtMostOnce || !publish.properties.is_empty() {
            return None;
        }
        let topic_end = usize::from(header.header_len()) + 2 + topic.as_bytes().len();
        Some(Self { bytes: frame, qos, topic_end })
    }

    /// The QoS of the frame.
    #[inline]
    pub const fn qos(&self) -> QoS {
        self.qos
    }

    /// Bytes of the frame, with any Packet Identifier.
    #[inline]
    pub const fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the frame for a receiver.
    #[inline]
    pub fn write(&self, packet_id: PacketId, dup: bool, retain: bool, out: &mut Vec<u8>) {
        let first = 0x30 | u8::from(dup) << 3 | self.qos.level() << 1 | u8::from(retain);
        put_copy(out, self.bytes, first, self.topic_end, packet_id);
    }
}

/// Appends a frame with another first byte and another Packet Identifier, which begins at `id_at`.
#[inline]
fn put_copy(out: &mut Vec<u8>, frame: &[u8], first: u8, id_at: usize, id: PacketId) {
    let start = out.len();
    out.extend_from_slice(frame);
    let head = out.get_mut(start..).and_then(|copy| copy.get_mut(..id_at + 2));
    if let Some([first_byte, .., high, low]) = head {
        *first_byte = first;
        [*high, *low] = id.get().to_be_bytes();
    }
}

/// Topic Alias and Subscription Identifier mean something on one connection only.
fn is_of_connection(number: u8) -> bool {
    number == PropertyId::TopicAlias.number() || number == PropertyId::SubscriptionIdentifier.number()
}
