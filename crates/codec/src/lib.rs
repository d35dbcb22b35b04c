#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod ack;
mod closing;
mod connack;
mod connect;
mod decoder;
mod encode;
mod error;
mod frame;
mod packet;
mod properties;
mod publish;
mod reason;
#[cfg(feature = "serde")]
mod serde;
mod suback;
mod subscribe;
mod template;
mod types;
mod wire;

pub use ack::{Ack, AckType};
pub use closing::{Auth, Disconnect};
pub use connack::Connack;
pub use connect::{Connect, ConnectView, Will};
pub use decoder::Decoder;
pub use encode::Foreign;
pub use error::{DecodeError, EncodeError, Rule};
pub use frame::{FixedHeader, Frame, FrameLimits, PROTOCOL_MAXIMUM_PACKET_SIZE, peek, split_frame};
pub use packet::{Packet, PacketType};
pub use properties::{Properties, PropertiesBuf, PropertiesIter, Property, PropertyId};
pub use publish::Publish;
pub use reason::ReasonCode;
pub use suback::{Suback, Unsuback};
pub use subscribe::{RetainHandling, Subscribe, SubscriptionOptions, Unsubscribe};
pub use template::{Addition, PublishFrame, PublishTemplate};
pub use types::{Delivery, OutOfRange, PacketId, QoS, SubscriptionId, TopicAlias, Version};

#[cfg(test)]
mod tests;
