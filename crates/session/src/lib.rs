//! What an MQTT client and an MQTT broker share, each rule written once. Pure pieces: no clock, no randomness, no I/O.
#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod deadlines;
mod error;
mod expiry;
mod packet_ids;
mod time;
mod transmit;
mod window;

pub use deadlines::Deadlines;
pub use error::PeerError;
pub use expiry::{SessionExpiry, message_expires_at, remaining_expiry};
pub use packet_ids::PacketIds;
pub use time::Timestamp;
pub use transmit::{BufferPool, BufferPoolLimits, TransmitBuffer};
pub use window::{ReceiveWindow, Window};
