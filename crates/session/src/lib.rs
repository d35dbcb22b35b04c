#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod aliases;
mod deadlines;
mod error;
mod expiry;
mod id_set;
mod keep_alive;
mod limits;
mod message;
mod message_pool;
mod packet_ids;
mod phase;
mod receiver;
mod sender;
#[cfg(feature = "serde")]
mod stored;
mod time;
mod transmit;
mod window;

pub use aliases::{AssignedAlias, InboundAliases, OutboundAliases};
pub use deadlines::Deadlines;
pub use error::PeerError;
pub use expiry::{SessionExpiry, message_expires_at, remaining_expiry};
pub use keep_alive::{KeepAlive, PingTimer};
pub use limits::Accepts;
pub use message::{Message, StoredWill};
pub use message_pool::MessagePool;
pub use packet_ids::PacketIds;
pub use phase::{Phase, Role};
pub use receiver::{ReceiveAction, ReceiveInput, ReceiveState, ReceiveStep, ReceivedIds, TooMany};
pub use sender::{SendAction, SendInput, SendState, SendStep};
#[cfg(feature = "serde")]
pub use stored::{Snapshot, Stored, StoredExchange, StoredSession, StoredSessionError};
pub use time::Timestamp;
pub use transmit::{BufferPool, BufferPoolLimits, TransmitBuffer};
pub use window::{ReceiveWindow, Window};
