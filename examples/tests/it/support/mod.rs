//! What the tests of the programs share: a broker in a process of its own, and a client that knows bytes only, and
//! words for the client driver.

mod certificates;
mod client;
mod mosquitto;
mod place;
mod process;
mod proxy;
mod rumqttd;
mod running;
mod settings_file;
pub(crate) mod websocket;
mod wire;

pub(crate) use certificates::{Authority, Issued, Terms};
pub(crate) use client::{
    endpoint, message, next_payload, options, outcome_of_subscribing, payload_of, run, stream, subscribe,
};
pub(crate) use mosquitto::Mosquitto;
pub(crate) use place::Place;
pub(crate) use process::{BrokerProcess, LIMIT, eventually, run_broker};
pub(crate) use proxy::Proxy;
pub(crate) use rumqttd::Rumqttd;
pub(crate) use running::Running;
pub(crate) use settings_file::SettingsFile;
pub(crate) use wire::{Wire, frame, publish_frame, string};
