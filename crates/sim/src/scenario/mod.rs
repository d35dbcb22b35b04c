//! Whole worlds from one number: clients, messages and faults, and what must hold in each of them.

mod generate;
mod keep;
mod ledger;
mod order;
mod run;
mod script;
mod shrink;

use core::time::Duration;
use std::collections::BTreeMap;

use damselfly_codec::{QoS, Version};

use crate::{End, Fault, Feature};

pub use script::ScriptError;

/// A world with its clients and all that happens to them, as a short text or from a seed.
///
/// What must hold is checked while it runs and at its end: a QoS 1 message that was acknowledged, or stored, arrives at
/// least once with every subscriber and a QoS 2 message exactly once; messages of one publisher, topic and QoS keep their
/// order, except that one of QoS 1 that was sent again, and whose first copy was dropped, comes where it was sent again;
/// nobody gets what no filter of theirs matches, least of all what begins with `$`; each ticket has one outcome; each will
/// is published exactly when it is due; on no link is there a [violation](crate::Sim::violation); the broker's audit
/// agrees; a new subscription is given the retained message of each topic, the last one that was promised or a later one;
/// what a full queue dropped is all that is missing; and when all have left, the broker's memory is back at its start.
///
/// ```
/// use damselfly_sim::Scenario;
///
/// let report = Scenario::from_seed(7).run()?;
/// assert!(report.messages >= 200);
///
/// // The same from its text.
/// let again: Scenario = Scenario::from_seed(7).to_string().parse()?;
/// assert_eq!(again.run()?, report);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    seed: u64,
    /// Longest latency of a link and of a store, in milliseconds.
    latency: [u64; 2],
    max_piece: usize,
    capacity: usize,
    receive_maximum: u16,
    /// How many messages the broker's queue for a client holds; the oldest one makes room. `None` is many.
    queue: Option<u32>,
    /// Longest time of the broker's store and of an answer to its questions, in milliseconds.
    broker: [u64; 2],
    clients: Vec<Plan>,
    steps: Vec<Step>,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    version: Version,
    receive_maximum: u16,
    has_outbox: bool,
    /// The Will Delay Interval in seconds; before 5.0 it must be 0.
    will_delay: Option<u32>,
    /// The application acknowledges, in any order.
    is_manual: bool,
    /// How many messages the offline queue holds; the oldest one makes room. `None` is many.
    queue: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Milliseconds after the start.
    at: u64,
    client: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Publish {
        topic: usize,
        qos: QoS,
        expiry: Option<u32>,
        len: usize,
    },
    /// A retained message to a topic of the client's own.
    Keep(QoS, usize),
    /// Subscribes to all retained messages.
    Look,
    Subscribe,
    Unsubscribe,
    Cut,
    HalfOpen(End),
    Stall(End, u64),
    /// With the next client.
    Partition,
    Heal,
    Again,
    Crash(u64),
}

const TOPICS: [&str; 4] = ["t/0", "t/1", "t/2", "$app/x"];
/// The filters of each client, which it subscribes to before anything goes wrong.
const FILTERS: [&[(&str, QoS)]; 6] = [
    &[("t/#", QoS::ExactlyOnce), ("will/#", QoS::ExactlyOnce)],
    &[("#", QoS::AtLeastOnce)],
    &[("t/+", QoS::AtLeastOnce), ("t/1", QoS::ExactlyOnce)],
    &[("t/0", QoS::ExactlyOnce), ("$app/#", QoS::AtLeastOnce)],
    &[("+/+", QoS::AtMostOnce), ("t/2", QoS::ExactlyOnce)],
    &[("t/#", QoS::AtLeastOnce)],
];

/// What happened in a world in which everything held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages that clients published.
    pub messages: u64,
    /// Messages that clients got, repeats and wills among them.
    pub deliveries: u64,
    /// Wills among them, as the one client got them that has to get all.
    pub wills: u64,
    /// What happened beside faults.
    pub features: BTreeMap<Feature, u64>,
    /// Faults that took effect.
    pub faults: BTreeMap<Fault, u64>,
    /// How long it was, in the time of that world.
    pub duration: Duration,
}

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub(crate) String);
