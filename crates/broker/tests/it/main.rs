//! The broker core as its clients and its embedder see it: bytes, time and answers in, packets and events out.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod backlog;
mod budget;
mod delayed;
mod delivery;
mod disconnects;
mod endings;
mod exchanges;
mod gate;
mod groups;
mod hostile;
mod information;
mod joined;
mod limits;
mod local;
mod memory;
mod order;
mod packets;
mod payloads;
mod pressure;
mod questions;
mod retained;
mod rows;
mod rules;
mod sessions;
mod shards;
mod sizes;
mod small_rules;
mod steps;
mod strict;
mod subscriptions;
mod waiting;
mod wills;
mod world;
