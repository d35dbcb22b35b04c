//! Thin adapters between the sans-IO cores of Damselfly and the world: sockets, clock, signals. No protocol rule lives here.

pub mod client;
