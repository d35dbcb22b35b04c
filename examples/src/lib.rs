//! Thin adapters between the sans-IO cores of Damselfly and the world: sockets, clock, signals. No protocol rule lives here.

pub mod broker;

mod clock;
mod descriptors;

pub use clock::Clock;
pub use descriptors::raise_descriptor_limit;
