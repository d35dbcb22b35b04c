#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod checked;
mod error;
mod filter;
mod hash;
mod index;
mod level;
mod map;
mod name;
mod num;
mod owned;
mod relation;
#[cfg(feature = "serde")]
mod serde;
mod share;
mod store;
#[cfg(test)]
mod tests;
pub mod text;

pub use error::TopicError;
pub use filter::TopicFilter;
pub use hash::{KeyedHasher, KeyedState};
pub use index::{IndexError, MAX_LEVELS, MatchCursor, SubscriptionIndex};
pub use level::Levels;
pub use map::{TopicCursor, TopicMap};
pub use name::TopicName;
pub use owned::{ShareNameBuf, SharedFilterBuf, TopicFilterBuf, TopicNameBuf};
pub use share::{ShareName, SharedFilter};
