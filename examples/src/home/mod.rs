//! A smart home: devices, rules, a ledger of every message, and what breaks it, on the drivers of this crate or in the
//! simulator.
//!
//! [`Home`] is the whole house without a socket or a clock. Two drivers move it: [`Running`] on real sockets in real
//! time, and [`simulate`] in virtual time. What the topics say is in docs/guide/smart-home.md.

mod access_point;
mod actor;
mod broker;
mod camera;
mod chance;
mod device;
mod doorkeeper;
mod faults;
mod feed;
mod house;
mod keep;
mod ledger;
mod member;
mod real;
pub mod rules;
mod rules_file;
mod simulate;
mod state;
mod value;
mod world;

pub use actor::{Actor, Body, Context, Effect};
pub use broker::{HouseBroker, Listen};
pub use camera::SNAPSHOT_LEN;
pub use doorkeeper::Doorkeeper;
pub use faults::{Breakage, FaultName, Times};
pub use house::{Device, Kind, ROOMS, devices};
pub use ledger::{ByQos, ClientIndex, Ledger, Totals};
pub use member::{config, parameters, password, subscriptions};
pub use real::Running;
pub use rules_file::RulesFile;
pub use simulate::{Report, SimulationError, broker_after, simulate};
pub use state::{Command, Home, Settings};
pub use value::{Payload, Value};
pub use world::World;
