//! The small values every packet is made of.

use core::num::NonZeroU16;

/// The protocol version of a Network Connection: an argument of decoding and encoding, never a field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3; otherwise the rules of 3.1.1.
    V3_1,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V3_1_1,
    /// MQTT 5.0: protocol name `MQTT`, version 5.
    V5_0,
}

/// Quality of Service. [MQTT-4.3]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A Packet Identifier: 1 to 65,535. [MQTT-2.2.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
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
pub struct SubscriptionId(core::num::NonZeroU32);

impl SubscriptionId {
    /// `None` for 0 and above 268,435,455.
    pub const fn new(value: u32) -> Option<Self> {
        match core::num::NonZeroU32::new(value) {
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
