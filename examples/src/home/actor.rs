//! What a device does, without a socket or a clock: what it hears goes in, what it wants comes out.

use damselfly_codec::QoS;
use damselfly_session::Timestamp;

use super::house::Device;
use super::value::{Payload, Value};
use super::world::World;

/// What an actor wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A message. What is a value gets its number, if its QoS asks for one, and the name of its publisher.
    Publish {
        /// Where to.
        topic: String,
        /// What.
        body: Body,
        /// How surely.
        qos: QoS,
        /// Whether those see it who come later.
        retain: bool,
    },
    /// To disconnect as soon as all is acknowledged, and to be left alone until [`Effect::Wake`].
    Sleep,
    /// To connect.
    Wake,
}

impl Effect {
    /// A value, retained.
    pub fn state(topic: &str, value: Value, qos: QoS) -> Self {
        Self::Publish { topic: topic.to_owned(), body: Body::Value(value), qos, retain: true }
    }

    /// A value that asks somebody to do something.
    pub fn command(topic: &str, value: Value, qos: QoS) -> Self {
        Self::Publish { topic: topic.to_owned(), body: Body::Value(value), qos, retain: false }
    }

    /// Whether the device is there.
    pub fn status(device: &Device, word: &str) -> Self {
        Self::state(&device.status_topic(), Value::text(word), QoS::AtLeastOnce)
    }
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// As JSON.
    Value(Value),
    /// As it is.
    Bytes(Vec<u8>),
}

/// What an actor has around it while it is asked.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time.
    pub now: Timestamp,
    /// Which device it is.
    pub device: &'a Device,
    /// What it can sense.
    pub world: &'a mut World,
    /// What it wants, in order.
    pub effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    /// Wants something.
    pub fn want(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

/// A device, or whatever else is a client in the house. Every method may be called at any time, in any order.
pub trait Actor: Send {
    /// Its connection is open; for a device that sleeps, it is awake.
    fn handle_connected(&mut self, _context: &mut Context<'_>) {}

    /// A message came. One that was retained before the subscription says so.
    fn handle_message(&mut self, _context: &mut Context<'_>, _topic: &str, _payload: &Payload, _is_old: bool) {}

    /// The world has moved on.
    fn handle_step(&mut self, _context: &mut Context<'_>) {}

    /// The time asked for has come.
    fn handle_timeout(&mut self, _context: &mut Context<'_>) {}

    /// When it wants [`handle_timeout`](Self::handle_timeout).
    fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// To sleep until then whatever happens, for those that sleep at all.
    fn oversleep(&mut self, _context: &mut Context<'_>, _until: Timestamp) {}
}
