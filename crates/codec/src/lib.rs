//! Zero-copy MQTT packets for 3.1, 3.1.1 and 5.0: one model, the version is an argument.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod packet;
mod reason;
mod types;

pub use packet::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, PacketType, Properties, Publish, RetainHandling, Suback,
    Subscribe, SubscriptionOptions, Unsuback, Unsubscribe, Will,
};
pub use reason::ReasonCode;
pub use types::{Delivery, PacketId, QoS, SubscriptionId, TopicAlias, Version};
