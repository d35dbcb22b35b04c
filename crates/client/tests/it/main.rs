//! The client core against a scripted broker.
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod acknowledgement;
mod connection;
mod delivery;
mod frames;
mod limits;
mod outbox;
mod outbox_sessions;
mod peer;
mod promises;
mod requests;
mod restart;
mod session;
mod subscriptions;
mod timers;
