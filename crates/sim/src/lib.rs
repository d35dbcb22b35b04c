//! Deterministic simulation of MQTT brokers and clients: the real cores, a virtual clock, one seed, one trace.
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client_core;
pub mod conformance;
mod drive;
mod fault;
mod feature;
pub mod flight;
mod identifiers;
mod link;
mod numbered;
mod random;
mod scenario;
mod sim;
mod store;
mod trace;
mod watch;
mod world;

pub use fault::{End, Fault, StartError};
pub use feature::Feature;
pub use scenario::{Failure, Report, Scenario, ScriptError};
pub use sim::{MemberId, Sim};
pub use world::World;
