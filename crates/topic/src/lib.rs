//! MQTT topic names and topic filters, checked once and then trusted.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod filter;
mod name;

pub use filter::TopicFilter;
pub use name::{TopicError, TopicName};
