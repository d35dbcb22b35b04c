//! SUBSCRIBE and UNSUBSCRIBE. [MQTT-3.8] [MQTT-3.10]

use core::fmt;

use alloc::vec::Vec;

use damselfly_topic::{TopicError, TopicFilter};

use crate::encode::properties_len;
use crate::properties::{allowed, properties};
use crate::wire::{
    Parsed, binary, broken, byte, each, field_len, frame_len, packet_id, put_field, put_fixed_header, text_rule, whole,
};
use crate::{DecodeError, EncodeError, FixedHeader, Foreign, PacketId, PacketType, Properties, QoS, Rule, Version};

/// What is done with retained messages when a subscription is made. [MQTT-3.8.3.1]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct SubscriptionOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// The byte on the wire. [MQTT-3.8.3.1]
    pub const fn to_byte(self) -> u8 {
        let retain_handling = match self.retain_handling {
            RetainHandling::SendAtSubscribe => 0,
            RetainHandling::SendIfNew => 0x10,
            RetainHandling::DoNotSend => 0x20,
        };
        let no_local = if self.no_local { 0x04 } else { 0 };
        let retain_as_published = if self.retain_as_published { 0x08 } else { 0 };
        self.qos.level() | no_local | retain_as_published | retain_handling
    }

    /// What the byte means in 5.0; before, bits 2 to 7 are reserved. [MQTT-3.8.3-5] [MQTT3-3.8.3-4]
    const fn from_byte(byte: u8, version: Version) -> Result<Self, Rule> {
        let reserved = if version.has_properties() { 0xC0 } else { 0xFC };
        if byte & reserved != 0 {
            return Err(Rule::SubscriptionOptionsReserved);
        }
        let qos = match byte & 0x03 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            _ => return Err(Rule::SubscriptionQoSInvalid),
        };
        let retain_handling = match byte & 0x30 {
            0x00 => RetainHandling::SendAtSubscribe,
            0x10 => RetainHandling::SendIfNew,
            0x20 => RetainHandling::DoNotSend,
            _ => return Err(Rule::RetainHandlingInvalid),
        };
        Ok(Self { qos, no_local: byte & 0x04 != 0, retain_as_published: byte & 0x08 != 0, retain_handling })
    }

    /// Says more than a QoS.
    const fn is_foreign_before_5(self) -> bool {
        self.to_byte() > 0x03
    }
}

/// Asks for subscriptions. [MQTT-3.8]
///
/// ```
/// use damselfly_codec::{Foreign, PacketId, Properties, QoS, Subscribe, SubscriptionOptions, Version};
/// use damselfly_topic::TopicFilter;
///
/// let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
/// let filters = [(TopicFilter::new("pond/+/depth")?, options)];
/// let subscribe = Subscribe::new(PacketId::new(1).unwrap(), Properties::EMPTY, &filters);
///
/// let mut frame = Vec::new();
/// subscribe.encode(Version::V3_1_1, Foreign::Reject, &mut frame)?;
/// assert_eq!(subscribe.filters().count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Subscribe<'a> {
    /// Identifies the SUBACK.
    pub packet_id: PacketId,
    /// Empty on a 3.1.1 connection.
    pub properties: Properties<'a>,
    filters: Requests<'a>,
}

/// Topic Filters with options, from the wire or from a caller.
#[derive(Clone, Copy)]
enum Requests<'a> {
    Wire(&'a [u8]),
    Built(&'a [(TopicFilter<'a>, SubscriptionOptions)]),
}

impl<'a> Subscribe<'a> {
    /// A packet to encode.
    pub const fn new(
        packet_id: PacketId,
        properties: Properties<'a>,
        filters: &'a [(TopicFilter<'a>, SubscriptionOptions)],
    ) -> Self {
        Self { packet_id, properties, filters: Requests::Built(filters) }
    }

    /// Each Topic Filter with its options, in the order of the packet; at least one in a decoded packet.
    pub fn filters(&self) -> impl Iterator<Item = (TopicFilter<'a>, SubscriptionOptions)> + Clone + 'a {
        let (mut wire, built): (&[u8], &[_]) = match self.filters {
            Requests::Wire(wire) => (wire, &[]),
            Requests::Built(built) => (&[], built),
        };
        let decoded = core::iter::from_fn(move || {
            let filter = known_filter(&mut wire)?;
            let (rest, byte) = byte(wire).ok()?;
            wire = rest;
            Some((filter, SubscriptionOptions::from_byte(byte, Version::V5_0).ok()?))
        });
        decoded.chain(built.iter().copied())
    }

    /// Decodes the body of the SUBSCRIBE whose fixed header `peek` has answered.
    pub fn decode(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.check_for(version)?;
        whole(version, header, body, |body| {
            let (rest, packet_id) = packet_id(body)?;
            let (wire, properties) = if version.has_properties() {
                properties(rest, allowed::SUBSCRIBE, allowed::REPEATED)?
            } else {
                (rest, Properties::EMPTY)
            };
            if wire.is_empty() {
                return broken(Rule::SubscribeEmpty, wire);
            }
            each(wire, |input| request(input, version))?;
            Ok((&[], Self { packet_id, properties, filters: Requests::Wire(wire) }))
        })
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version.
    pub fn encoded_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        frame_len(self.body_len(version, policy)?)
    }

    /// Appends the packet to `out`; on an error nothing is written.
    pub fn encode(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_fixed_header(out, 0x82, self.body_len(version, policy)?)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        if version.has_properties() {
            self.properties.put(out);
        }
        for (filter, options) in self.filters() {
            put_field(out, filter.as_bytes());
            out.push(if version.has_properties() { options.to_byte() } else { options.qos.level() });
        }
        Ok(())
    }

    fn body_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        let packet_type = PacketType::Subscribe;
        let mut body = 2 + properties_len(self.properties, version, policy, packet_type, allowed::SUBSCRIBE)?;
        let head = body;
        for (filter, options) in self.filters() {
            if options.no_local && filter.shared().is_some() {
                return Err(EncodeError::NoLocalOnShared);
            }
            if !version.has_properties() {
                policy.allow(options.is_foreign_before_5(), packet_type)?;
            }
            body += field_len(filter.as_bytes())? + 1;
        }
        if body == head { Err(EncodeError::Empty) } else { Ok(body) }
    }
}

impl PartialEq for Subscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_id == other.packet_id && self.properties == other.properties && self.filters().eq(other.filters())
    }
}

impl Eq for Subscribe<'_> {}

impl fmt::Debug for Subscribe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("packet_id", &self.packet_id)
            .field("properties", &self.properties)
            .field("filters", &self.filters().collect::<Vec<_>>())
            .finish()
    }
}

/// One Topic Filter with its options. [MQTT-3.8.3]
fn request(input: &[u8], version: Version) -> Parsed<'_, (TopicFilter<'_>, SubscriptionOptions)> {
    let (rest, filter) = filter(input, version)?;
    let (behind, byte) = byte(rest)?;
    match SubscriptionOptions::from_byte(byte, version) {
        Ok(options) if options.no_local && filter.shared().is_some() => broken(Rule::NoLocalOnShared, rest),
        Ok(options) => Ok((behind, (filter, options))),
        Err(rule) => broken(rule, rest),
    }
}

/// A Topic Filter; before 5.0 `$share` means nothing in it. [MQTT-3.8.3-1] [MQTT-3.10.3-1]
fn filter(input: &[u8], version: Version) -> Parsed<'_, TopicFilter<'_>> {
    let (rest, bytes) = binary(input)?;
    let filter =
        if version.has_properties() { TopicFilter::from_bytes(bytes) } else { TopicFilter::plain_from_bytes(bytes) };
    match filter {
        Ok(filter) => Ok((rest, filter)),
        Err(error) => broken(filter_rule(error), input),
    }
}

/// The next of the Topic Filters that were checked when the packet was decoded.
fn known_filter<'a>(wire: &mut &'a [u8]) -> Option<TopicFilter<'a>> {
    let (rest, bytes) = binary(wire).ok()?;
    *wire = rest;
    Some(TopicFilter::from_checked_bytes(bytes))
}

#[cold]
fn filter_rule(error: TopicError) -> Rule {
    match error {
        TopicError::Empty => Rule::TopicFilterEmpty,
        TopicError::MultiLevelWildcard => Rule::MultiLevelWildcard,
        TopicError::SingleLevelWildcard => Rule::SingleLevelWildcard,
        TopicError::ShareNameMissing | TopicError::ShareNameEmpty => Rule::ShareNameMissing,
        TopicError::ShareNameWildcard | TopicError::SharedFilterMissing | TopicError::SharedFilterEmpty => {
            Rule::SharedFilterInvalid
        }
        error => text_rule(error),
    }
}

/// Ends subscriptions. [MQTT-3.10]
#[derive(Clone, Copy)]
pub struct Unsubscribe<'a> {
    /// Identifies the UNSUBACK.
    pub packet_id: PacketId,
    /// Empty on a 3.1.1 connection.
    pub properties: Properties<'a>,
    filters: Filters<'a>,
}

/// Topic Filters, from the wire or from a caller.
#[derive(Clone, Copy)]
enum Filters<'a> {
    Wire(&'a [u8]),
    Built(&'a [TopicFilter<'a>]),
}

impl<'a> Unsubscribe<'a> {
    /// A packet to encode.
    pub const fn new(packet_id: PacketId, properties: Properties<'a>, filters: &'a [TopicFilter<'a>]) -> Self {
        Self { packet_id, properties, filters: Filters::Built(filters) }
    }

    /// Each Topic Filter in the order of the packet; at least one in a decoded packet.
    pub fn filters(&self) -> impl Iterator<Item = TopicFilter<'a>> + Clone + 'a {
        let (mut wire, built): (&[u8], &[_]) = match self.filters {
            Filters::Wire(wire) => (wire, &[]),
            Filters::Built(built) => (&[], built),
        };
        core::iter::from_fn(move || known_filter(&mut wire)).chain(built.iter().copied())
    }

    /// Decodes the body of the UNSUBSCRIBE whose fixed header `peek` has answered.
    pub fn decode(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.check_for(version)?;
        whole(version, header, body, |body| {
            let (rest, packet_id) = packet_id(body)?;
            let (wire, properties) = if version.has_properties() {
                properties(rest, allowed::UNSUBSCRIBE, allowed::REPEATED)?
            } else {
                (rest, Properties::EMPTY)
            };
            if wire.is_empty() {
                return broken(Rule::UnsubscribeEmpty, wire);
            }
            each(wire, |input| filter(input, version))?;
            Ok((&[], Self { packet_id, properties, filters: Filters::Wire(wire) }))
        })
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version.
    pub fn encoded_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        frame_len(self.body_len(version, policy)?)
    }

    /// Appends the packet to `out`; on an error nothing is written.
    pub fn encode(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_fixed_header(out, 0xA2, self.body_len(version, policy)?)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        if version.has_properties() {
            self.properties.put(out);
        }
        for filter in self.filters() {
            put_field(out, filter.as_bytes());
        }
        Ok(())
    }

    fn body_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        let packet_type = PacketType::Unsubscribe;
        let mut body = 2 + properties_len(self.properties, version, policy, packet_type, allowed::UNSUBSCRIBE)?;
        let head = body;
        for filter in self.filters() {
            body += field_len(filter.as_bytes())?;
        }
        if body == head { Err(EncodeError::Empty) } else { Ok(body) }
    }
}

impl PartialEq for Unsubscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_id == other.packet_id && self.properties == other.properties && self.filters().eq(other.filters())
    }
}

impl Eq for Unsubscribe<'_> {}

impl fmt::Debug for Unsubscribe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsubscribe")
            .field("packet_id", &self.packet_id)
            .field("properties", &self.properties)
            .field("filters", &self.filters().collect::<Vec<_>>())
            .finish()
    }
}
