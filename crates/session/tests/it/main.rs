//! The pieces against naive models of them.
#![expect(clippy::expect_used, reason = "helpers of tests are tests")]

mod handshakes;
mod limits;
mod message;
mod phases;
#[cfg(feature = "serde")]
mod stored;
mod transmit;
