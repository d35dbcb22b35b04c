//! Thin adapters between the sans-IO cores of Damselfly and the world: sockets, clock, signals. No protocol rule lives here.

pub mod broker;
pub mod client;
pub mod conformance;
pub mod diagram;
pub mod guard;
pub mod home;
pub mod inspect;
pub mod scram;
pub mod web;

/// The guide's examples are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/client.md")]
pub struct ClientGuide;

/// Likewise.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/simulate.md")]
pub struct SimulationGuide;

mod calendar;
mod clock;
mod command_line;
mod descriptors;
mod excerpt;
mod packets;
mod recording;
mod transport;

pub use calendar::civil_from_days;
pub use clock::Clock;
pub use command_line::{mistake, unknown_flag};
pub use descriptors::raise_descriptor_limit;
pub use excerpt::Excerpt;
pub use packets::packet_in_words;
pub use recording::tape;
