//! Both cores together: what a publisher is told, what a subscriber gets, and the same again from the same seed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod conformance;
mod delivery;
mod determinism;
mod faults;
mod flight;
mod flight_calls;
mod lost_sessions;
mod model;
mod outbox;
mod requests;
mod scenario;
mod wills;
