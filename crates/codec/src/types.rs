//! The small values every packet is made of.

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};

/// A number has no meaning in the type it was converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the number is out of range")]
pub struct OutOfRange;

/// The protocol version of a Network Connection: an argument of decoding and encoding. Only CONNECT carries it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(into = "u8", try_from = "u8"))]
pub enum Version {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3; otherwise the rules of 3.1.1.
    V3_1,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V3_1_1,
    /// MQTT 5.0: protocol name `MQTT`, version 5.
    V5_0,
}

impl Version {
    /// The Protocol Version byte of CONNECT (3.1.1: protocol level): 3, 4 or 5. [MQTT-3.1.2.2]
    pub const fn protocol_version(self) -> u8 {
        match self {
            Self::V3_1 => 3,
            Self::V3_1_1 => 4,
            Self::V5_0 => 5,
        }
    }

    /// The Protocol Name of CONNECT. [MQTT-3.1.2.1]
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V3_1 => "MQIsdp",
            Self::V3_1_1 | Self::V5_0 => "MQTT",
        }
    }

    /// Packets carry Properties, acknowledgements a Reason Code: 5.0 only. [MQTT-2.2.2]
    pub const fn has_properties(self) -> bool {
        matches!(self, Self::V5_0)
    }
}

impl From<Version> for u8 {
    fn from(version: Version) -> Self {
        version.protocol_version()
    }
}

/// From the Protocol Version byte: 3, 4 or 5.
impl TryFrom<u8> for Version {
    type Error = OutOfRange;

    fn try_from(value: u8) -> Result<Self, OutOfRange> {
        match value {
            3 => Ok(Self::V3_1),
            4 => Ok(Self::V3_1_1),
            5 => Ok(Self::V5_0),
            _ => Err(OutOfRange),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3_1 => "3.1",
            Self::V3_1_1 => "3.1.1",
            Self::V5_0 => "5.0",
        })
    }
}

/// Quality of Service. [MQTT-4.3]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(into = "u8", try_from = "u8"))]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    #[default]
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl QoS {
    /// The number on the wire: 0, 1 or 2.
    #[expect(clippy::as_conversions, reason = "the discriminants are the numbers on the wire")]
    pub const fn level(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for QoS {
    type Error = OutOfRange;

    fn try_from(level: u8) -> Result<Self, OutOfRange> {
        match level {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err(OutOfRange),
        }
    }
}

impl From<QoS> for u8 {
    fn from(qos: QoS) -> Self {
        qos.level()
    }
}

/// The number: `0`, `1` or `2`.
impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.level().fmt(f)
    }
}

/// A Packet Identifier: 1 to 65,535. [MQTT-2.2.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(into = "u16", try_from = "u16"))]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// 1, the smallest one.
    pub const MIN: Self = Self(NonZeroU16::MIN);

    /// `None` for 0. [MQTT-2.2.1-3]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// 1 to 65,535.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// A Subscription Identifier: 1 to 268,435,455. [MQTT-3.8.2.1.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(into = "u32", try_from = "u32"))]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// `None` for 0 and above 268,435,455.
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(id) if value <= 268_435_455 => Some(Self(id)),
            _ => None,
        }
    }

    /// 1 to 268,435,455.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// A Topic Alias: 1 to 65,535. [MQTT-3.3.2.3.4]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(into = "u16", try_from = "u16"))]
pub struct TopicAlias(NonZeroU16);

impl TopicAlias {
    /// `None` for 0. [MQTT-3.3.2-8]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// 1 to 65,535.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// The QoS of a PUBLISH together with what only that level has. [MQTT-3.3.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Delivery {
    /// QoS 0: no Packet Identifier, DUP 0. [MQTT-3.3.1-2]
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// The Packet Identifier.
        id: PacketId,
        /// DUP: an earlier attempt may have arrived.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// The Packet Identifier.
        id: PacketId,
        /// DUP: an earlier attempt may have arrived.
        dup: bool,
    },
}

impl Delivery {
    /// A first attempt at this level; at QoS 0 the Packet Identifier is not used.
    pub const fn first(qos: QoS, id: PacketId) -> Self {
        match qos {
            QoS::AtMostOnce => Self::AtMostOnce,
            QoS::AtLeastOnce => Self::AtLeastOnce { id, dup: false },
            QoS::ExactlyOnce => Self::ExactlyOnce { id, dup: false },
        }
    }

    /// The level alone.
    pub const fn qos(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce { .. } => QoS::AtLeastOnce,
            Self::ExactlyOnce { .. } => QoS::ExactlyOnce,
        }
    }

    /// The Packet Identifier of QoS 1 and 2.
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { id, .. } | Self::ExactlyOnce { id, .. } => Some(id),
        }
    }

    /// The DUP flag.
    pub const fn is_dup(self) -> bool {
        match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce { dup, .. } | Self::ExactlyOnce { dup, .. } => dup,
        }
    }
}

/// Conversions from and to the plain number, and its text, for the three checked numbers.
macro_rules! checked_number {
    ($($name:ident: $number:ty;)+) => {$(
        impl TryFrom<$number> for $name {
            type Error = OutOfRange;

            fn try_from(value: $number) -> Result<Self, OutOfRange> {
                Self::new(value).ok_or(OutOfRange)
            }
        }

        impl From<$name> for $number {
            fn from(value: $name) -> Self {
                value.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }
    )+};
}

checked_number! {
    PacketId: u16;
    TopicAlias: u16;
    SubscriptionId: u32;
}
