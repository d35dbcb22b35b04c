//! The 27 properties: their numbers, values, and the packets they may appear in. [MQTT-2.2.2.2]

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};

use damselfly_topic::TopicName;

use crate::types::OutOfRange;
use crate::{QoS, SubscriptionId, TopicAlias};

/// How the value of a property is encoded. [MQTT-1.5]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Byte,
    TwoBytes,
    FourBytes,
    VariableInteger,
    Text,
    Binary,
    TextPair,
}

/// One table for all properties: name, number, encoding, value.
macro_rules! properties {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal, $kind:ident, ($($value:ty),+);)+) => {
        /// The identifier of a property. [MQTT-2.2.2.2]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $($(#[doc = $doc])+ $name = $id,)+
        }

        impl PropertyId {
            /// All 27, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            pub(crate) const fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind::$kind,)+
                }
            }
        }

        impl TryFrom<u8> for PropertyId {
            type Error = OutOfRange;

            fn try_from(id: u8) -> Result<Self, OutOfRange> {
                match id {
                    $($id => Ok(Self::$name),)+
                    _ => Err(OutOfRange),
                }
            }
        }

        /// One property of a packet, with its value. [MQTT-2.2.2.2]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Property<'a> {
            $($(#[doc = $doc])+ $name($($value),+),)+
        }

        impl Property<'_> {
            /// Which property it is.
            pub const fn id(&self) -> PropertyId {
                match self {
                    $(Self::$name(..) => PropertyId::$name,)+
                }
            }
        }
    };
}

properties! {
    /// Whether the payload is UTF-8 text (`true`) or unspecified bytes. [MQTT-3.3.2.3.2]
    PayloadFormatIndicator = 0x01, Byte, (bool);
    /// Lifetime of the message in seconds. [MQTT-3.3.2.3.3]
    MessageExpiryInterval = 0x02, FourBytes, (u32);
    /// What the payload is, in words of the application. [MQTT-3.3.2.3.9]
    ContentType = 0x03, Text, (&'a str);
    /// Where a response is wanted. [MQTT-3.3.2.3.5]
    ResponseTopic = 0x08, Text, (TopicName<'a>);
    /// Tells a requester which request is answered. [MQTT-3.3.2.3.6]
    CorrelationData = 0x09, Binary, (&'a [u8]);
    /// Names the subscription. [MQTT-3.8.2.1.2]
    SubscriptionIdentifier = 0x0B, VariableInteger, (SubscriptionId);
    /// Seconds the session outlives the connection; 4,294,967,295 is for ever. [MQTT-3.1.2.11.2]
    SessionExpiryInterval = 0x11, FourBytes, (u32);
    /// The Client Identifier the server chose. [MQTT-3.2.2.3.7]
    AssignedClientIdentifier = 0x12, Text, (&'a str);
    /// The keep alive in seconds the server wants instead. [MQTT-3.2.2.3.14]
    ServerKeepAlive = 0x13, TwoBytes, (u16);
    /// The method of enhanced authentication. [MQTT-3.1.2.11.9]
    AuthenticationMethod = 0x15, Text, (&'a str);
    /// What the authentication method says. [MQTT-3.1.2.11.10]
    AuthenticationData = 0x16, Binary, (&'a [u8]);
    /// Whether Reason String and User Properties are wanted. [MQTT-3.1.2.11.7]
    RequestProblemInformation = 0x17, Byte, (bool);
    /// Seconds between the end of the connection and the will. [MQTT-3.1.3.2.2]
    WillDelayInterval = 0x18, FourBytes, (u32);
    /// Whether Response Information is wanted. [MQTT-3.1.2.11.6]
    RequestResponseInformation = 0x19, Byte, (bool);
    /// The basis of a Response Topic. [MQTT-3.2.2.3.15]
    ResponseInformation = 0x1A, Text, (&'a str);
    /// Another server to use. [MQTT-3.2.2.3.16]
    ServerReference = 0x1C, Text, (&'a str);
    /// A text for people about the Reason Code. [MQTT-3.2.2.3.9]
    ReasonString = 0x1F, Text, (&'a str);
    /// How many QoS 1 and 2 messages may be unacknowledged. [MQTT-3.1.2.11.3]
    ReceiveMaximum = 0x21, TwoBytes, (NonZeroU16);
    /// The greatest accepted Topic Alias; 0 is none. [MQTT-3.1.2.11.5]
    TopicAliasMaximum = 0x22, TwoBytes, (u16);
    /// Stands for a Topic Name. [MQTT-3.3.2.3.4]
    TopicAlias = 0x23, TwoBytes, (TopicAlias);
    /// The greatest supported QoS: 0 or 1. [MQTT-3.2.2.3.4]
    MaximumQoS = 0x24, Byte, (QoS);
    /// Whether retained messages are supported. [MQTT-3.2.2.3.5]
    RetainAvailable = 0x25, Byte, (bool);
    /// A name and a value; may appear more than once, order matters. [MQTT-3.1.2.11.8]
    UserProperty = 0x26, TextPair, (&'a str, &'a str);
    /// The largest accepted packet in bytes. [MQTT-3.1.2.11.4]
    MaximumPacketSize = 0x27, FourBytes, (NonZeroU32);
    /// Whether wildcard subscriptions are supported. [MQTT-3.2.2.3.11]
    WildcardSubscriptionAvailable = 0x28, Byte, (bool);
    /// Whether Subscription Identifiers are supported. [MQTT-3.2.2.3.12]
    SubscriptionIdentifierAvailable = 0x29, Byte, (bool);
    /// Whether shared subscriptions are supported. [MQTT-3.2.2.3.13]
    SharedSubscriptionAvailable = 0x2A, Byte, (bool);
}

impl PropertyId {
    /// The number on the wire.
    #[expect(clippy::as_conversions, reason = "the discriminants are the numbers on the wire")]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// A bit of its own in a set of properties.
    pub(crate) const fn bit(self) -> u64 {
        1 << self.number()
    }
}

impl From<PropertyId> for u8 {
    fn from(id: PropertyId) -> Self {
        id.number()
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A set of properties, one bit per number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PropertySet(u64);

impl PropertySet {
    const fn of(ids: &[PropertyId]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < ids.len() {
            bits |= ids[index].bit();
            index += 1;
        }
        Self(bits)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const EMPTY: Self = Self(0);

    /// The bit of a number from the wire if it is in the set, otherwise 0.
    #[inline]
    pub(crate) const fn bit(self, number: u8) -> u64 {
        if number < 64 { self.0 & (1 << (number & 0x3F)) } else { 0 }
    }

    pub(crate) const fn contains(self, id: PropertyId) -> bool {
        self.0 & id.bit() != 0
    }

    #[inline]
    pub(crate) const fn with_bit(self, bit: u64) -> Self {
        Self(self.0 | bit)
    }

    /// Without the bit, unless `kept` has it.
    #[inline]
    pub(crate) const fn without_bit(self, bit: u64, kept: Self) -> Self {
        Self(self.0 & !(bit & !kept.0))
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Authentication Data belongs to an Authentication Method. [MQTT-3.1.2.11.10]
    pub(crate) const fn has_authentication_data_alone(self) -> bool {
        self.contains(PropertyId::AuthenticationData) && !self.contains(PropertyId::AuthenticationMethod)
    }
}

/// Which properties a packet may carry: the columns of table 2-4. [MQTT-2.2.2.2]
pub(crate) mod allowed {
    use super::PropertyId as P;
    use super::PropertySet as Set;

    const ANY: Set = Set::of(&[P::UserProperty]);
    const MESSAGE: Set = ANY.and(Set::of(&[
        P::PayloadFormatIndicator,
        P::MessageExpiryInterval,
        P::ContentType,
        P::ResponseTopic,
        P::CorrelationData,
    ]));
    const BOTH_ENDS: Set = ANY.and(Set::of(&[
        P::SessionExpiryInterval,
        P::AuthenticationMethod,
        P::AuthenticationData,
        P::ReceiveMaximum,
        P::TopicAliasMaximum,
        P::MaximumPacketSize,
    ]));

    pub(crate) const CONNECT: Set =
        BOTH_ENDS.and(Set::of(&[P::RequestProblemInformation, P::RequestResponseInformation]));
    pub(crate) const WILL: Set = MESSAGE.and(Set::of(&[P::WillDelayInterval]));
    pub(crate) const CONNACK: Set = BOTH_ENDS.and(Set::of(&[
        P::AssignedClientIdentifier,
        P::ServerKeepAlive,
        P::ResponseInformation,
        P::ServerReference,
        P::ReasonString,
        P::MaximumQoS,
        P::RetainAvailable,
        P::WildcardSubscriptionAvailable,
        P::SubscriptionIdentifierAvailable,
        P::SharedSubscriptionAvailable,
    ]));
    pub(crate) const PUBLISH: Set = MESSAGE.and(Set::of(&[P::SubscriptionIdentifier, P::TopicAlias]));
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    pub(crate) const ACKNOWLEDGEMENT: Set = ANY.and(Set::of(&[P::ReasonString]));
    pub(crate) const SUBSCRIBE: Set = ANY.and(Set::of(&[P::SubscriptionIdentifier]));
    pub(crate) const UNSUBSCRIBE: Set = ANY;
    pub(crate) const DISCONNECT: Set =
        ANY.and(Set::of(&[P::SessionExpiryInterval, P::ServerReference, P::ReasonString]));
    pub(crate) const AUTH: Set = ANY.and(Set::of(&[P::AuthenticationMethod, P::AuthenticationData, P::ReasonString]));
    /// What may repeat in a PUBLISH, and in a set whose packet is not known yet. [MQTT-3.3.2.3.8]
    pub(crate) const REPEATED_IN_PUBLISH: Set = Set::of(&[P::UserProperty, P::SubscriptionIdentifier]);
    /// What may repeat everywhere else.
    pub(crate) const REPEATED: Set = ANY;
    /// What a set whose packet is not known yet may carry.
    #[cfg(feature = "serde")]
    pub(crate) const ALL: Set = Set::of(P::ALL);
}
