//! What the tests of the programs share: a broker in a process of its own, and a client that knows bytes only.

mod process;
mod settings_file;
mod wire;

pub(crate) use process::{BrokerProcess, LIMIT, eventually, run_broker};
pub(crate) use settings_file::SettingsFile;
pub(crate) use wire::{Wire, publish_frame, string};
