//! A scenario as text, a line each:
//!
//! ```text
//! seed 17                    what all chance is drawn from
//! latency 400 20             the longest of a link and of a store, in milliseconds
//! link 64 2000               the largest piece, and how many bytes a link holds
//! window 10                  the Receive Maximum of the broker
//! queue 5                    how many messages wait for one client, at most; none of this line is many
//! broker 300 50              the longest of the broker's store and of an answer, in milliseconds; else no time
//! client 5.0 3 outbox will 20
//! client 3.1.1 65535 manual queue 4
//! 2000 0 publish 1 qos2 len 20 expiry 30
//! 2100 1 cut
//! ```
//!
//! A step says its time in milliseconds and its client, counted from 0; then `publish` with the number of a topic,
//! `keep` (a retained message to a topic of its own), `look` (subscribes to those), `subscribe`, `unsubscribe`, `cut`, `half-open` with the end that notices, `stall` with the reader and milliseconds,
//! `partition` of it and the next client, `heal`, `again`, `crash` with milliseconds.

use core::{fmt, str::FromStr};

use damselfly_codec::{QoS, Version};

use crate::{
    End, Scenario,
    scenario::{FILTERS, Plan, Step, TOPICS, What},
};

/// A line that is none of a scenario, counted from 1; 0 if one is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not one of a scenario")]
pub struct ScriptError(pub usize);

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        let [link, store] = self.latency;
        writeln!(f, "latency {link} {store}")?;
        writeln!(f, "link {} {}", self.max_piece, self.capacity)?;
        writeln!(f, "window {}", self.receive_maximum)?;
        if let Some(queue) = self.queue {
            writeln!(f, "queue {queue}")?;
        }
        if self.broker != [0, 0] {
            writeln!(f, "broker {} {}", self.broker[0], self.broker[1])?;
        }
        for plan in &self.clients {
            let version = if plan.version == Version::V5_0 { "5.0" } else { "3.1.1" };
            write!(f, "client {version} {}", plan.receive_maximum)?;
            if plan.has_outbox {
                write!(f, " outbox")?;
            }
            if let Some(delay) = plan.will_delay {
                write!(f, " will {delay}")?;
            }
            if plan.is_manual {
                write!(f, " manual")?;
            }
            if let Some(queue) = plan.queue {
                write!(f, " queue {queue}")?;
            }
            writeln!(f)?;
        }
        for step in &self.steps {
            writeln!(f, "{} {} {}", step.at, step.client, step.what)?;
        }
        Ok(())
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish { topic, qos, expiry, len } => {
                write!(f, "publish {topic} qos{} len {len}", qos.level())?;
                expiry.map_or(Ok(()), |seconds| write!(f, " expiry {seconds}"))
            }
            Self::Keep(qos, len) => write!(f, "keep qos{} len {len}", qos.level()),
            Self::Look => f.write_str("look"),
            Self::Subscribe => f.write_str("subscribe"),
            Self::Unsubscribe => f.write_str("unsubscribe"),
            Self::Cut => f.write_str("cut"),
            Self::HalfOpen(end) => write!(f, "half-open {}", name(*end)),
            Self::Stall(end, duration) => write!(f, "stall {} {duration}", name(*end)),
            Self::Partition => f.write_str("partition"),
            Self::Heal => f.write_str("heal"),
            Self::Again => f.write_str("again"),
            Self::Crash(duration) => write!(f, "crash {duration}"),
        }
    }
}

const fn name(end: End) -> &'static str {
    match end {
        End::Broker => "broker",
        End::Client => "client",
    }
}

impl FromStr for Scenario {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut scenario = Self {
            seed: 0,
            latency: [5, 1],
            max_piece: 64,
            capacity: 65_536,
            receive_maximum: 1_024,
            queue: None,
            broker: [0, 0],
            clients: Vec::new(),
            steps: Vec::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            let words: Vec<_> = line.split_whitespace().collect();
            scenario.read(&words).ok_or(ScriptError(number))?;
        }
        let is_known = |step: &Step| step.client < scenario.clients.len();
        let is_whole = !scenario.clients.is_empty() && scenario.steps.iter().all(is_known);
        if is_whole { Ok(scenario) } else { Err(ScriptError(0)) }
    }
}

impl Scenario {
    fn read(&mut self, words: &[&str]) -> Option<()> {
        match words {
            [] => {}
            ["seed", seed] => self.seed = seed.parse().ok()?,
            ["latency", link, store] => self.latency = [link.parse().ok()?, store.parse().ok()?],
            ["link", piece, capacity] => {
                self.max_piece = piece.parse().ok()?;
                self.capacity = capacity.parse().ok()?;
            }
            ["window", maximum] => self.receive_maximum = above_zero(maximum)?,
            ["queue", queue] => self.queue = Some(queue.parse().ok()?),
            ["broker", commit, answer] => self.broker = [commit.parse().ok()?, answer.parse().ok()?],
            ["client", version, maximum, rest @ ..] if self.clients.len() < FILTERS.len() => {
                self.clients.push(read_client(version, maximum, rest)?);
            }
            [at, client, what @ ..] => {
                let step = Step { at: at.parse().ok()?, client: client.parse().ok()?, what: read_what(what)? };
                self.steps.push(step);
            }
            _ => return None,
        }
        Some(())
    }
}

fn above_zero(text: &str) -> Option<u16> {
    text.parse().ok().filter(|maximum| *maximum > 0)
}

fn read_client(version: &str, maximum: &str, rest: &[&str]) -> Option<Plan> {
    let version = match version {
        "5.0" => Version::V5_0,
        "3.1.1" => Version::V3_1_1,
        _ => return None,
    };
    let (has_outbox, rest) = match rest {
        ["outbox", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (will_delay, rest) = match rest {
        ["will", delay, rest @ ..] => (Some(delay.parse().ok()?), rest),
        rest => (None, rest),
    };
    let (is_manual, rest) = match rest {
        ["manual", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let queue = match rest {
        [] => None,
        ["queue", queue] => Some(queue.parse().ok()?),
        _ => return None,
    };
    // What a crash leaves of these is not foreseen.
    if has_outbox && (is_manual || queue.is_some()) {
        return None;
    }
    if will_delay.is_some_and(|delay| delay > 0) && version != Version::V5_0 {
        return None;
    }
    Some(Plan { version, receive_maximum: above_zero(maximum)?, has_outbox, will_delay, is_manual, queue })
}

fn read_what(words: &[&str]) -> Option<What> {
    Some(match words {
        ["publish", topic, qos, "len", len, rest @ ..] => {
            let qos = read_qos(qos)?;
            let expiry = match rest {
                [] => None,
                ["expiry", seconds] => Some(seconds.parse().ok()?),
                _ => return None,
            };
            let topic = topic.parse().ok().filter(|topic| *topic < TOPICS.len())?;
            What::Publish { topic, qos, expiry, len: len.parse().ok()? }
        }
        ["keep", qos, "len", len] => What::Keep(read_qos(qos)?, len.parse().ok()?),
        ["look"] => What::Look,
        ["subscribe"] => What::Subscribe,
        ["unsubscribe"] => What::Unsubscribe,
        ["cut"] => What::Cut,
        ["half-open", end] => What::HalfOpen(read_end(end)?),
        ["stall", end, duration] => What::Stall(read_end(end)?, duration.parse().ok()?),
        ["partition"] => What::Partition,
        ["heal"] => What::Heal,
        ["again"] => What::Again,
        ["crash", duration] => What::Crash(duration.parse().ok()?),
        _ => return None,
    })
}

fn read_qos(text: &str) -> Option<QoS> {
    match text {
        "qos0" => Some(QoS::AtMostOnce),
        "qos1" => Some(QoS::AtLeastOnce),
        "qos2" => Some(QoS::ExactlyOnce),
        _ => None,
    }
}

fn read_end(text: &str) -> Option<End> {
    match text {
        "broker" => Some(End::Broker),
        "client" => Some(End::Client),
        _ => None,
    }
}
