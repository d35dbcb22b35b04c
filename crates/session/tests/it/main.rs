//! The pieces against naive models of them.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod aliases;
mod deadlines;
mod flow;
mod handshakes;
mod ids;
mod limits;
mod message;
mod phases;
mod pools;
#[cfg(feature = "serde")]
mod stored;
mod transmit;
mod windows;
