//! What the simulated world is like.

use core::time::Duration;
use std::collections::BTreeMap;

/// What the world between the cores is like. The default is a good network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct World {
    /// Of the broker core.
    pub broker: damselfly_broker::Config,
    /// The users that the broker knows, with their passwords: a client with a User Name has to be one of them, others may
    /// connect all the same. Default: none, and any User Name will do.
    pub users: BTreeMap<String, String>,
    /// How long a piece of bytes travels, from and to. Pieces of one direction never overtake each other. Default:
    /// 0.1 to 5 ms.
    pub latency: (Duration, Duration),
    /// The largest piece that travels as one, in bytes; the sizes are drawn from 1 to this. Default: 64.
    pub max_piece: usize,
    /// How many bytes of one direction a link holds: sent, and not read by the other end. A sender that has more waits.
    /// Default: 65,536.
    pub capacity: usize,
    /// Each connection is cut at a time drawn from zero to this; `None` leaves them alone. Default: `None`.
    pub cut_within: Option<Duration>,
    /// How long an end may take to notice that its connection was cut: it draws from zero to this, so the broker may
    /// still hold the old connection when the client comes back. Default: 1 s.
    pub notice_within: Duration,
    /// How long the store of a client with an outbox takes for a group, from and to. Default: 0.1 to 5 ms.
    pub store_latency: (Duration, Duration),
    /// How long the broker's store takes for a journal group, from and to; groups are stored in their order. Default: no
    /// time.
    pub commit_latency: (Duration, Duration),
    /// How long the answer to a question of the broker takes, from and to; each takes its own time. Default: no time.
    pub answer_latency: (Duration, Duration),
    /// Whether [`Sim::trace`](crate::Sim::trace) is written. It takes more time than all the rest. Default: true.
    pub is_traced: bool,
    /// Whether all packets are held against the rules that can be seen from packets alone:
    /// [`Sim::violation`](crate::Sim::violation). Default: true.
    pub is_watched: bool,
    /// Whether the inputs of all cores are recorded, in memory: [`Sim::broker_recording`](crate::Sim::broker_recording) and
    /// [`Sim::client_recording`](crate::Sim::client_recording). Default: false.
    pub is_recorded: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            broker: damselfly_broker::Config::default(),
            users: BTreeMap::new(),
            latency: (Duration::from_micros(100), Duration::from_millis(5)),
            max_piece: 64,
            capacity: 65_536,
            cut_within: None,
            notice_within: Duration::from_secs(1),
            store_latency: (Duration::from_micros(100), Duration::from_millis(5)),
            commit_latency: (Duration::ZERO, Duration::ZERO),
            answer_latency: (Duration::ZERO, Duration::ZERO),
            is_traced: true,
            is_watched: true,
            is_recorded: false,
        }
    }
}
