//! The behaviour of damselfly-topic from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::allow_attributes,
    reason = "a test that fails may panic"
)]

mod hash;
mod index;
mod map;
mod memory;
mod names;
mod oracle;
mod relations;
mod texts;
