//! The pieces against naive models of them.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod flow;
mod handshakes;
mod limits;
mod message;
mod phases;
#[cfg(feature = "serde")]
mod stored;
mod transmit;
