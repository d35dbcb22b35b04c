//! Properties as a checked raw slice. [MQTT-2.2.2]

mod buf;
mod check;
mod iter;
mod property;

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};

use alloc::vec::Vec;
use damselfly_topic::TopicName;

use crate::wire::{index, put_variable_integer, variable_integer, variable_len};
use crate::{EncodeError, QoS, SubscriptionId, TopicAlias};

pub use buf::PropertiesBuf;
pub(crate) use check::{listed_properties, name_rule, properties};
pub use iter::PropertiesIter;
use iter::{RawIter, behind_field, known_text, pair, pair_len, prefix, typed};
pub(crate) use iter::{split_property, value_len};
use property::Kind;
pub use property::{Property, PropertyId};
pub(crate) use property::{PropertySet, allowed};

/// The Properties of one packet: a checked raw slice, read as one looks at it. Empty on a 3.1.1 connection. [MQTT-2.2.2]
///
/// It comes from a decoded packet or from a [`PropertiesBuf`](crate::PropertiesBuf). Every value has been checked, so
/// reading cannot fail; nothing is allocated, lost or reordered when it is written again.
///
/// ```
/// use damselfly_codec::{Packet, Property, Version};
///
/// let frame = b"\x30\x0B\x00\x01t\x05\x02\x00\x00\x00\x3Chi";
/// let Ok(Packet::Publish(publish)) = Packet::decode(Version::V5_0, frame) else { panic!("a PUBLISH") };
/// assert_eq!(publish.properties.message_expiry_interval(), Some(60));
/// assert!(publish.properties.iter().eq([Property::MessageExpiryInterval(60)]));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Properties<'a>(&'a [u8]);

const _: () = assert!(size_of::<Properties<'_>>() <= 16, "every packet pays for it, 3.1.1 too");

impl<'a> Properties<'a> {
    /// No properties. [MQTT-2.2.2-1]
    pub const EMPTY: Self = Self(&[]);

    /// Takes bytes that were properties before: those of [`as_bytes`](Self::as_bytes), or some of the parts that
    /// [`iter_encoded`](Self::iter_encoded) gives, kept somewhere and brought back.
    ///
    /// Nothing is checked. Other bytes make properties that end early or have values nobody sent, and a packet that a
    /// receiver will refuse; they cannot do more harm than that.
    #[inline]
    pub const fn from_checked_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The encoded properties, without the Property Length in front.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// There is no property.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// All properties in the order of the packet.
    #[inline]
    pub const fn iter(self) -> PropertiesIter<'a> {
        PropertiesIter(RawIter(self.0))
    }

    /// All properties in the order of the packet, each as it is encoded, identifier included: what one copies to send
    /// some of them on.
    ///
    /// ```
    /// use damselfly_codec::{PropertiesBuf, Property, PropertyId};
    ///
    /// let mut properties = PropertiesBuf::new();
    /// properties.push(Property::MessageExpiryInterval(60))?;
    /// properties.push(Property::ContentType("text"))?;
    /// let mut encoded = properties.as_properties().iter_encoded();
    /// assert_eq!(encoded.next(), Some((PropertyId::MessageExpiryInterval, &b"\x02\0\0\0\x3C"[..])));
    /// assert_eq!(encoded.next(), Some((PropertyId::ContentType, &b"\x03\0\x04text"[..])));
    /// # Ok::<(), damselfly_codec::EncodeError>(())
    /// ```
    pub fn iter_encoded(self) -> impl Iterator<Item = (PropertyId, &'a [u8])> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (number, encoded, behind) = split_property(rest)?;
            rest = behind;
            Some((PropertyId::try_from(number).ok()?, encoded))
        })
    }

    /// Which properties are there.
    pub(crate) fn set(self) -> PropertySet {
        RawIter(self.0).fold(PropertySet::EMPTY, |set, (number, _)| set.with_bit(1 << (number & 0x3F)))
    }

    /// The first property of this kind.
    pub fn get(self, id: PropertyId) -> Option<Property<'a>> {
        self.raw(id).and_then(|value| typed(id, value))
    }

    /// The value of the first property with this number.
    #[inline]
    fn raw(self, id: PropertyId) -> Option<&'a [u8]> {
        RawIter(self.0).find(|(number, _)| *number == id.number()).map(|(_, value)| value)
    }

    fn byte(self, id: PropertyId) -> Option<u8> {
        self.raw(id)?.first().copied()
    }

    fn two_bytes(self, id: PropertyId) -> Option<u16> {
        self.raw(id)?.first_chunk().map(|value| u16::from_be_bytes(*value))
    }

    fn four_bytes(self, id: PropertyId) -> Option<u32> {
        self.raw(id)?.first_chunk().map(|value| u32::from_be_bytes(*value))
    }

    fn flag(self, id: PropertyId) -> Option<bool> {
        self.byte(id).map(|value| value != 0)
    }

    fn text(self, id: PropertyId) -> Option<&'a str> {
        self.raw(id).map(known_text)
    }

    /// Whether the payload is UTF-8 text. [MQTT-3.3.2.3.2]
    pub fn payload_format_indicator(self) -> Option<bool> {
        self.flag(PropertyId::PayloadFormatIndicator)
    }

    /// Lifetime of the message in seconds. [MQTT-3.3.2.3.3]
    pub fn message_expiry_interval(self) -> Option<u32> {
        self.four_bytes(PropertyId::MessageExpiryInterval)
    }

    /// What the payload is, in words of the application. [MQTT-3.3.2.3.9]
    pub fn content_type(self) -> Option<&'a str> {
        self.text(PropertyId::ContentType)
    }

    /// Where a response is wanted. [MQTT-3.3.2.3.5]
    pub fn response_topic(self) -> Option<TopicName<'a>> {
        self.raw(PropertyId::ResponseTopic).map(TopicName::from_checked_bytes)
    }

    /// Tells a requester which request is answered. [MQTT-3.3.2.3.6]
    pub fn correlation_data(self) -> Option<&'a [u8]> {
        self.raw(PropertyId::CorrelationData)
    }

    /// All Subscription Identifiers in the order of the packet. [MQTT-3.3.2.3.8]
    pub fn subscription_ids(self) -> impl Iterator<Item = SubscriptionId> + 'a {
        RawIter(self.0)
            .filter(|(number, _)| *number == PropertyId::SubscriptionIdentifier.number())
            .filter_map(|(_, value)| variable_integer(value).ok().and_then(|(_, id)| SubscriptionId::new(id)))
    }

    /// Seconds the session outlives the connection; 4,294,967,295 is for ever. [MQTT-3.1.2.11.2]
    pub fn session_expiry_interval(self) -> Option<u32> {
        self.four_bytes(PropertyId::SessionExpiryInterval)
    }

    /// The Client Identifier the server chose. [MQTT-3.2.2.3.7]
    pub fn assigned_client_identifier(self) -> Option<&'a str> {
        self.text(PropertyId::AssignedClientIdentifier)
    }

    /// The keep alive in seconds the server wants instead. [MQTT-3.2.2.3.14]
    pub fn server_keep_alive(self) -> Option<u16> {
        self.two_bytes(PropertyId::ServerKeepAlive)
    }

    /// The method of enhanced authentication. [MQTT-3.1.2.11.9]
    pub fn authentication_method(self) -> Option<&'a str> {
        self.text(PropertyId::AuthenticationMethod)
    }

    /// What the authentication method says. [MQTT-3.1.2.11.10]
    pub fn authentication_data(self) -> Option<&'a [u8]> {
        self.raw(PropertyId::AuthenticationData)
    }

    /// Whether Reason String and User Properties are wanted; yes if absent. [MQTT-3.1.2.11.7]
    pub fn request_problem_information(self) -> Option<bool> {
        self.flag(PropertyId::RequestProblemInformation)
    }

    /// Seconds between the end of the connection and the will; 0 if absent. [MQTT-3.1.3.2.2]
    pub fn will_delay_interval(self) -> Option<u32> {
        self.four_bytes(PropertyId::WillDelayInterval)
    }

    /// Whether Response Information is wanted; no if absent. [MQTT-3.1.2.11.6]
    pub fn request_response_information(self) -> Option<bool> {
        self.flag(PropertyId::RequestResponseInformation)
    }

    /// The basis of a Response Topic. [MQTT-3.2.2.3.15]
    pub fn response_information(self) -> Option<&'a str> {
        self.text(PropertyId::ResponseInformation)
    }

    /// Another server to use. [MQTT-3.2.2.3.16]
    pub fn server_reference(self) -> Option<&'a str> {
        self.text(PropertyId::ServerReference)
    }

    /// A text for people about the Reason Code. [MQTT-3.2.2.3.9]
    pub fn reason_string(self) -> Option<&'a str> {
        self.text(PropertyId::ReasonString)
    }

    /// How many QoS 1 and 2 messages may be unacknowledged; 65,535 if absent. [MQTT-3.1.2.11.3]
    pub fn receive_maximum(self) -> Option<NonZeroU16> {
        self.two_bytes(PropertyId::ReceiveMaximum).and_then(NonZeroU16::new)
    }

    /// The greatest accepted Topic Alias; 0, no alias at all, if absent. [MQTT-3.1.2.11.5]
    pub fn topic_alias_maximum(self) -> Option<u16> {
        self.two_bytes(PropertyId::TopicAliasMaximum)
    }

    /// Stands for a Topic Name. [MQTT-3.3.2.3.4]
    pub fn topic_alias(self) -> Option<TopicAlias> {
        self.two_bytes(PropertyId::TopicAlias).and_then(TopicAlias::new)
    }

    /// The greatest supported QoS, 0 or 1; 2 if absent. [MQTT-3.2.2.3.4]
    pub fn maximum_qos(self) -> Option<QoS> {
        self.byte(PropertyId::MaximumQoS).and_then(|level| QoS::try_from(level).ok())
    }

    /// Whether retained messages are supported; yes if absent. [MQTT-3.2.2.3.5]
    pub fn retain_available(self) -> Option<bool> {
        self.flag(PropertyId::RetainAvailable)
    }

    /// All User Properties, name and value, in the order of the packet. [MQTT-3.1.2.11.8]
    pub fn user_properties(self) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        RawIter(self.0)
            .filter(|(number, _)| *number == PropertyId::UserProperty.number())
            .filter_map(|(_, value)| pair(value))
    }

    /// The largest accepted packet in bytes; no limit if absent. [MQTT-3.1.2.11.4]
    pub fn maximum_packet_size(self) -> Option<NonZeroU32> {
        self.four_bytes(PropertyId::MaximumPacketSize).and_then(NonZeroU32::new)
    }

    /// Whether wildcard subscriptions are supported; yes if absent. [MQTT-3.2.2.3.11]
    pub fn wildcard_subscription_available(self) -> Option<bool> {
        self.flag(PropertyId::WildcardSubscriptionAvailable)
    }

    /// Whether Subscription Identifiers are supported; yes if absent. [MQTT-3.2.2.3.12]
    pub fn subscription_identifier_available(self) -> Option<bool> {
        self.flag(PropertyId::SubscriptionIdentifierAvailable)
    }

    /// Whether shared subscriptions are supported; yes if absent. [MQTT-3.2.2.3.13]
    pub fn shared_subscription_available(self) -> Option<bool> {
        self.flag(PropertyId::SharedSubscriptionAvailable)
    }

    /// Bytes on the wire with the Property Length, once it is known that the packet may carry them.
    #[inline]
    pub(crate) fn encoded_len(self, allowed: PropertySet, repeated: PropertySet) -> Result<usize, EncodeError> {
        if self.0.is_empty() {
            return Ok(1);
        }
        self.check_allowed(allowed, repeated)?;
        Ok(variable_len(self.0.len()) + self.0.len())
    }

    /// Each property has been checked by itself; whether this packet may carry it has not.
    #[inline(never)]
    fn check_allowed(self, allowed: PropertySet, repeated: PropertySet) -> Result<(), EncodeError> {
        let mut unseen = allowed;
        let mut rest = self.0;
        while let [number, value @ ..] = rest {
            let bit = unseen.bit(*number);
            if bit == 0 {
                return Err(self.not_encodable(allowed));
            }
            unseen = unseen.without_bit(bit, repeated);
            rest = value.get(value_len(*number, value)..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether a PUBLISH may carry each of them.
    #[inline(never)]
    pub(crate) fn may_be_in_publish(self) -> bool {
        let mut rest = self.0;
        while let [number, behind @ ..] = rest {
            let value = match (IN_PUBLISH[usize::from(*number)], behind) {
                (Step::NotAllowed, _) => return false,
                (Step::Byte, behind) => behind.get(1..),
                (Step::Expiry, behind) => behind.get(4..),
                (Step::Text, behind) => behind_field(behind),
                (Step::TextPair, behind) => behind_field(behind).and_then(behind_field),
                (Step::OfConnection, behind) => behind.get(value_len(*number, behind)..),
            };
            rest = value.unwrap_or_default();
        }
        true
    }

    /// Looks once at each property of a PUBLISH to be: they are forwarded more often than those of all other packets.
    #[inline(never)]
    pub(crate) fn in_publish(self) -> Result<InPublish, EncodeError> {
        let mut found = InPublish::default();
        let mut rest = self.0;
        while let [number, value @ ..] = rest {
            let len = match IN_PUBLISH[usize::from(*number)] {
                Step::Text => 2 + prefix(value),
                Step::TextPair => pair_len(value),
                Step::Byte => 1,
                Step::Expiry => {
                    found.expiry_at = self.0.len() - value.len() - found.of_connection;
                    4
                }
                Step::OfConnection => {
                    let len = value_len(*number, value).min(value.len());
                    found.of_connection += 1 + len;
                    len
                }
                Step::NotAllowed => return Err(self.not_encodable(allowed::PUBLISH)),
            };
            let Some(behind) = value.get(len..) else { break };
            rest = behind;
        }
        Ok(found)
    }

    #[cold]
    pub(crate) fn not_encodable(self, allowed: PropertySet) -> EncodeError {
        let ids = || RawIter(self.0).filter_map(|(number, _)| PropertyId::try_from(number).ok());
        match ids().find(|id| !allowed.contains(*id)) {
            Some(id) => EncodeError::PropertyNotAllowed(id),
            // Of all that may repeat somewhere, only this one may not repeat everywhere.
            None => EncodeError::PropertyTwice(PropertyId::SubscriptionIdentifier),
        }
    }

    /// Writes Property Length and properties.
    #[inline]
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_variable_integer(out, u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(self.0);
    }
}

/// How [`Properties::in_publish`] gets over a property.
#[derive(Clone, Copy)]
enum Step {
    NotAllowed,
    Byte,
    Expiry,
    Text,
    TextPair,
    OfConnection,
}

static IN_PUBLISH: [Step; 256] = {
    let mut table = [Step::NotAllowed; 256];
    let mut at = 0;
    while at < PropertyId::ALL.len() {
        let id = PropertyId::ALL[at];
        table[index(id.number())] = match (id, id.kind()) {
            _ if !allowed::PUBLISH.contains(id) => Step::NotAllowed,
            (PropertyId::TopicAlias | PropertyId::SubscriptionIdentifier, _) => Step::OfConnection,
            (PropertyId::MessageExpiryInterval, _) => Step::Expiry,
            (_, Kind::Text | Kind::Binary) => Step::Text,
            (_, Kind::TextPair) => Step::TextPair,
            (_, Kind::Byte) => Step::Byte,
            // No other kind of property is part of a message.
            (_, Kind::TwoBytes | Kind::FourBytes | Kind::VariableInteger) => Step::NotAllowed,
        };
        at += 1;
    }
    table
};

/// What [`Properties::in_publish`] found.
#[derive(Clone, Copy, Default)]
pub(crate) struct InPublish {
    /// Bytes of the properties that mean something on one connection only: Topic Alias and Subscription Identifiers.
    pub(crate) of_connection: usize,
    /// Where the value of the Message Expiry Interval is among all the others, 0 if there is none.
    pub(crate) expiry_at: usize,
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertiesIter<'a>;

    fn into_iter(self) -> PropertiesIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
