//! PUBLISH. [MQTT-3.3]

use alloc::vec::Vec;

use damselfly_topic::{TopicError, TopicName};

use crate::properties::{allowed, name_rule, properties};
use crate::wire::{
    Broken, error_at, frame_len, put_variable_integer, remaining_length, variable_integer, variable_len,
};
use crate::{
    DecodeError, Delivery, EncodeError, FixedHeader, Foreign, PacketId, PacketType, Properties, Rule, Version,
};

/// Carries an Application Message. [MQTT-3.3]
///
/// ```
/// use damselfly_codec::{Delivery, Foreign, Packet, PacketId, Properties, Publish, Version};
/// use damselfly_topic::TopicName;
///
/// let publish = Publish {
///     delivery: Delivery::AtLeastOnce { id: PacketId::new(7).unwrap(), dup: false },
///     retain: false,
///     topic: TopicName::new("pond/7/depth").ok(),
///     properties: Properties::EMPTY,
///     payload: b"1.2",
/// };
/// let mut frame = Vec::new();
/// publish.encode(Version::V3_1_1, Foreign::Reject, &mut frame)?;
/// assert_eq!(Packet::decode(Version::V3_1_1, &frame), Ok(Packet::Publish(publish)));
/// # Ok::<(), damselfly_codec::EncodeError>(())
/// ```
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

impl<'a> Publish<'a> {
    /// Decodes the body of a PUBLISH whose fixed header `peek` has answered.
    ///
    /// `body` is what follows the fixed header: [`FixedHeader::remaining_length`] bytes.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a call and a copy of the packet fewer for each message, 30 instructions")]
    pub fn decode(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.check_for(version)?;
        let fail = |rule, at: &[u8]| Err(Broken { rule, left: at.len() }.at(version, header, body));

        let Some((length, rest)) = body.split_first_chunk() else { return fail(Rule::TopicNameCut, body) };
        let Some((name, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            return fail(Rule::TopicNameCut, body);
        };
        let topic = match TopicName::from_bytes(name) {
            Ok(topic) => Some(topic),
            Err(TopicError::Empty) if version.has_properties() => None,
            Err(error) => return fail(topic_rule(error), body),
        };

        let (delivery, rest) = match header.flags() & 0b0110 {
            0 => (Delivery::AtMostOnce, rest),
            qos => {
                let Some((id, behind)) = rest.split_first_chunk() else { return fail(Rule::CutShort, rest) };
                let Some(id) = PacketId::new(u16::from_be_bytes(*id)) else { return fail(Rule::PacketIdZero, rest) };
                let dup = header.flags() & 0b1000 != 0;
                let delivery =
                    if qos == 0b0010 { Delivery::AtLeastOnce { id, dup } } else { Delivery::ExactlyOnce { id, dup } };
                (delivery, behind)
            }
        };

        let (payload, properties) = match (version, rest) {
            (Version::V3_1 | Version::V3_1_1, rest) | (Version::V5_0, [0, rest @ ..]) => (rest, Properties::EMPTY),
            (Version::V5_0, rest) => match properties(rest, allowed::PUBLISH, allowed::REPEATED_IN_PUBLISH) {
                Ok(parsed) => parsed,
                Err(error) => return Err(error_at(&error, version, header, body)),
            },
        };
        if topic.is_none() && properties.topic_alias().is_none() {
            return fail(Rule::TopicNameMissing, body);
        }
        Ok(Self { delivery, retain: header.flags() & 1 != 0, topic, properties, payload })
    }

    /// The Property Length that the body of a PUBLISH states, read without the properties behind it: to refuse very many
    /// of them before they cost anything. `None` if the body ends before it or the version has none. [MQTT-3.3.2.3.1]
    ///
    /// ```
    /// use damselfly_codec::{FrameLimits, Publish, Version, peek};
    ///
    /// let frame = b"\x30\x0B\x00\x01t\x05\x02\x00\x00\x00\x3Chi";
    /// let header = peek(frame, &FrameLimits::default())?.expect("a whole header");
    /// assert_eq!(Publish::property_length(Version::V5_0, header, &frame[2..]), Some(5));
    /// # Ok::<(), damselfly_codec::DecodeError>(())
    /// ```
    pub fn property_length(version: Version, header: FixedHeader, body: &[u8]) -> Option<u32> {
        if !version.has_properties() {
            return None;
        }
        let (length, rest) = body.split_first_chunk()?;
        let id_len = if header.flags() & 0b0110 == 0 { 0 } else { 2 };
        let rest = rest.get(usize::from(u16::from_be_bytes(*length)) + id_len..)?;
        variable_integer(rest).ok().map(|(_, length)| length)
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version.
    #[inline]
    pub fn encoded_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        let topic = self.topic.map_or(&[][..], TopicName::as_bytes);
        frame_len(self.body_len(topic, self.properties_len(version, policy)?))
    }

    /// Appends the packet to `out`; on an error nothing is written.
    #[inline]
    pub fn encode(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        // Most messages have a Topic Name and no properties: nothing about them depends on the policy.
        let (Some(topic), true) = (self.topic, self.properties.is_empty()) else {
            return self.encode_long(version, policy, out);
        };
        let properties_len = usize::from(version.has_properties());
        let body = self.body_len(topic.as_bytes(), properties_len);
        put_head(out, first_byte(self.delivery, self.retain), body, topic.as_bytes())?;
        if let Some(id) = self.delivery.packet_id() {
            out.extend_from_slice(&id.get().to_be_bytes());
        }
        if properties_len > 0 {
            out.push(0);
        }
        out.extend_from_slice(self.payload);
        Ok(())
    }

    #[inline(never)]
    fn encode_long(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version.has_properties() && !self.properties.may_be_in_publish() {
            return Err(self.properties.not_encodable(allowed::PUBLISH));
        }
        self.encode_checked(version, policy, out)
    }

    /// Appends a packet whose properties are known to be those of a PUBLISH: it was decoded, or encoded before.
    ///
    /// For a proxy or bridge that passes messages on. [`encode`](Self::encode) looks at each property once more; here they
    /// are copied as they are, so that other properties make a packet that a receiver will refuse.
    ///
    /// ```
    /// use damselfly_codec::{Foreign, Packet, Version};
    ///
    /// let frame = b"\x30\x0B\x00\x01t\x05\x02\x00\x00\x00\x3Chi";
    /// let Ok(Packet::Publish(publish)) = Packet::decode(Version::V5_0, frame) else { panic!("a PUBLISH") };
    /// let mut out = Vec::new();
    /// publish.encode_checked(Version::V5_0, Foreign::Reject, &mut out)?;
    /// assert_eq!(out, frame);
    /// # Ok::<(), damselfly_codec::EncodeError>(())
    /// ```
    #[inline]
    pub fn encode_checked(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let properties_len = self.checked_properties_len(version, policy)?;
        let topic = self.topic.map_or(&[][..], TopicName::as_bytes);
        put_head(out, first_byte(self.delivery, self.retain), self.body_len(topic, properties_len), topic)?;
        if let Some(id) = self.delivery.packet_id() {
            out.extend_from_slice(&id.get().to_be_bytes());
        }
        if properties_len > 0 {
            self.properties.put(out);
        }
        out.extend_from_slice(self.payload);
        Ok(())
    }

    /// Bytes of the properties on the wire, once it is known that the packet can be written at all.
    fn properties_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        if version.has_properties() && !self.properties.may_be_in_publish() {
            return Err(self.properties.not_encodable(allowed::PUBLISH));
        }
        self.checked_properties_len(version, policy)
    }

    /// The same for properties that are known to be those of a PUBLISH.
    #[inline]
    fn checked_properties_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        let is_v5 = version.has_properties();
        if self.topic.is_none() && !(is_v5 && self.properties.topic_alias().is_some()) {
            return Err(EncodeError::TopicNameMissing);
        }
        match (is_v5, self.properties.is_empty()) {
            (true, _) => {
                let len = self.properties.as_bytes().len();
                Ok(variable_len(len) + len)
            }
            (false, true) => Ok(0),
            (false, false) => policy.allow(true, PacketType::Publish).map(|()| 0),
        }
    }

    #[inline]
    fn body_len(&self, topic: &[u8], properties_len: usize) -> usize {
        let id = if self.delivery == Delivery::AtMostOnce { 0 } else { 2 };
        2 + topic.len() + id + properties_len + self.payload.len()
    }
}

/// Packet type, DUP, QoS and RETAIN. [MQTT-3.3.1]
#[inline]
pub(crate) fn first_byte(delivery: Delivery, retain: bool) -> u8 {
    0x30 | u8::from(delivery.is_dup()) << 3 | delivery.qos().level() << 1 | u8::from(retain)
}

/// Makes room for the whole packet and writes fixed header and Topic Name, the usual lengths in one go.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one call fewer for every message that is encoded, 20 instructions")]
pub(crate) fn put_head(out: &mut Vec<u8>, first: u8, body: usize, topic: &[u8]) -> Result<(), EncodeError> {
    let length = remaining_length(body)?;
    let [high, low] = u16::try_from(topic.len()).map_err(|_| EncodeError::FieldTooLong)?.to_be_bytes();
    out.reserve(5 + body);
    let [.., middle, last] = (length << 1).to_be_bytes();
    match length {
        0..0x80 => out.extend_from_slice(&[first, last >> 1, high, low]),
        // Shifted by one, the upper seven bits of the length are a byte of their own.
        0x80..0x4000 => out.extend_from_slice(&[first, last >> 1 | 0x80, middle, high, low]),
        _ => {
            out.push(first);
            put_variable_integer(out, length);
            out.extend_from_slice(&[high, low]);
        }
    }
    out.extend_from_slice(topic);
    Ok(())
}

#[cold]
fn topic_rule(error: TopicError) -> Rule {
    match error {
        TopicError::Empty => Rule::TopicNameMissing,
        TopicError::WildcardInName => Rule::TopicNameWildcard,
        error => name_rule(error),
    }
}
