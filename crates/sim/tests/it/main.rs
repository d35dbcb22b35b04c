//! Both cores together: what a publisher is told, what a subscriber gets, and the same again from the same seed.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod delivery;
mod determinism;
mod lost_sessions;
mod wills;
