//! Deterministic simulation of MQTT brokers and clients: the real cores, a virtual clock, one seed, one trace.
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod conformance;
mod link;
mod random;
mod sim;
mod world;

pub use sim::{MemberId, Sim};
pub use world::World;
