//! The named scenarios and what each of them measures.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use damselfly_benches::process::Running;
use damselfly_codec::Version;

use crate::{
    check::Faults,
    client::Client,
    fill,
    frame::Outcome,
    number::{float, per_second, percentile},
    traffic::{self, Engine, Shape, Stretch, Traffic},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// Recorded, not compared.
    Neither,
}

#[derive(Clone, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
    pub better: Better,
}

#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub figures: Vec<Figure>,
    pub faults: Faults,
}

impl Measured {
    pub fn push(&mut self, name: &'static str, better: Better, value: Option<f64>) {
        self.figures.extend(value.map(|value| Figure { name, value, better }));
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Closed(Traffic),
    Latency(Traffic),
    Stalled(Traffic),
    Storm(usize),
    Idle(usize),
    Subscriptions(usize),
    Retained(usize),
    Queued(usize),
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    kind: Kind,
}

/// How long and how large.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub connections: usize,
    pub subscriptions: usize,
    pub retained: usize,
    pub queued: usize,
}

const DRAIN: Duration = Duration::from_secs(30);
const WARM_UP: Duration = Duration::from_millis(500);

fn closed(name: &str, shape: Shape, ends: (usize, usize), qos: u8, window: u64, payload: usize) -> Scenario {
    let (publishers, subscribers) = ends;
    let traffic = Traffic { shape, publishers, subscribers, qos, window, payload, pace: None };
    Scenario { name: format!("{name}-q{qos}"), kind: Kind::Closed(traffic) }
}

/// All scenarios in the order of the tables of `docs/performance.md`.
pub fn all(scale: &Scale) -> Vec<Scenario> {
    let mut list = Vec::new();
    list.extend((0..=2).map(|qos| closed("pairs-100", Shape::Pairs, (100, 100), qos, 32, 64)));
    list.extend((0..=1).map(|qos| closed("fan-in-100", Shape::FanIn, (100, 1), qos, 32, 64)));
    list.extend((0..=1).map(|qos| closed("fan-out-100", Shape::FanOut, (1, 100), qos, 64, 64)));
    list.extend((0..=1).map(|qos| closed("fan-out-1000", Shape::FanOut, (1, 1000), qos, 64, 64)));
    list.push(closed("shared-100-to-5", Shape::Shared, (100, 5), 1, 32, 64));
    list.extend((0..=1).map(|qos| closed("window-1-pairs", Shape::Pairs, (100, 100), qos, 1, 64)));
    list.extend((0..=1).map(|qos| closed("pairs-16k", Shape::Pairs, (100, 100), qos, 32, 16 * 1024)));
    let pairs = |publishers, qos, pace| Traffic {
        shape: Shape::Pairs,
        publishers,
        subscribers: publishers,
        qos,
        window: 32,
        payload: 64,
        pace,
    };
    let mut push = |name: String, kind| list.push(Scenario { name, kind });
    push("latency-q0".to_owned(), Kind::Latency(pairs(50, 0, Some(2_000))));
    push("latency-q1".to_owned(), Kind::Latency(pairs(50, 1, Some(2_000))));
    push("stalled-reader-q0".to_owned(), Kind::Stalled(pairs(50, 0, None)));
    push("stalled-reader-q1".to_owned(), Kind::Stalled(pairs(50, 1, None)));
    push("storm".to_owned(), Kind::Storm(scale.connections));
    push("memory-connection".to_owned(), Kind::Idle(scale.connections));
    push("memory-subscription".to_owned(), Kind::Subscriptions(scale.subscriptions));
    push("memory-retained".to_owned(), Kind::Retained(scale.retained));
    push("memory-queued".to_owned(), Kind::Queued(scale.queued));
    list
}

impl Scenario {
    /// Whether a relay that knows nothing of sessions, groups and QoS 2 can take part.
    pub fn suits_relay(&self) -> bool {
        match &self.kind {
            Kind::Closed(traffic) | Kind::Latency(traffic) => traffic.qos < 2 && traffic.shape != Shape::Shared,
            Kind::Storm(_) => true,
            Kind::Stalled(_) | Kind::Idle(_) | Kind::Subscriptions(_) | Kind::Retained(_) | Kind::Queued(_) => false,
        }
    }

    pub fn run(&self, broker: &Running, version: Version, span: Duration) -> Outcome<Measured> {
        let address = broker.address;
        match &self.kind {
            Kind::Closed(traffic) => closed_loop(traffic, broker, version, span),
            Kind::Latency(traffic) => latency(traffic, broker, version, span),
            Kind::Stalled(traffic) => stalled(traffic, broker, version, span),
            Kind::Storm(count) => storm(*count, address, broker, version),
            Kind::Idle(count) => fill::idle(*count, broker, version),
            Kind::Subscriptions(count) => fill::subscriptions(*count, broker, version),
            Kind::Retained(count) => fill::retained(*count, broker, version),
            Kind::Queued(count) => fill::queued(*count, broker, version),
        }
    }
}

fn rates(measured: &mut Measured, stretch: &Stretch) {
    let count = float(stretch.deliveries);
    let per_cpu = stretch.cpu_seconds.filter(|&cpu| cpu > 0.0).map(|cpu| count / cpu);
    measured.push("per CPU second", Better::Higher, per_cpu);
    measured.push("per second", Better::Neither, Some(count / stretch.seconds));
    measured.push("busy share", Better::Neither, stretch.cpu_seconds.map(|cpu| cpu / stretch.seconds));
}

fn closed_loop(traffic: &Traffic, broker: &Running, version: Version, span: Duration) -> Outcome<Measured> {
    let mut engine = Engine::new(broker.address, version, traffic)?;
    engine.run(WARM_UP, broker)?;
    let stretch = engine.run(span, broker)?;
    let mut measured = Measured { faults: engine.finish(DRAIN)?, ..Measured::default() };
    rates(&mut measured, &stretch);
    measured.push("resident MiB", Better::Neither, broker.resident().map(|bytes| float(bytes) / 1_048_576.0));
    Ok(measured)
}

fn latency(traffic: &Traffic, broker: &Running, version: Version, span: Duration) -> Outcome<Measured> {
    let mut engine = Engine::new(broker.address, version, traffic)?;
    engine.run(WARM_UP, broker)?;
    engine.latencies.clear();
    engine.run(span, broker)?;
    let mut measured = Measured { faults: engine.finish(DRAIN)?, ..Measured::default() };
    measured.push("p50 us", Better::Lower, percentile(&mut engine.latencies, 50));
    measured.push("p99 us", Better::Lower, percentile(&mut engine.latencies, 99));
    Ok(measured)
}

/// Pairs at full speed, then the same with one more subscriber to one of the topics, which never reads.
fn stalled(traffic: &Traffic, broker: &Running, version: Version, span: Duration) -> Outcome<Measured> {
    let mut engine = Engine::new(broker.address, version, traffic)?;
    engine.run(WARM_UP, broker)?;
    let before = engine.run(span, broker)?;
    let resident = broker.resident();
    let mut silent = Client::connect(broker.address, version, "stalled", true)?;
    silent.subscribe(&[traffic::topic(0)], traffic.qos)?;
    // Long enough that its socket is full when the second measurement begins.
    engine.run(span, broker)?;
    let after = engine.run(span, broker)?;
    let growth = match (resident, broker.resident()) {
        (Some(before), Some(after)) => Some(float(after.saturating_sub(before)) / 1_048_576.0),
        _ => None,
    };
    let mut measured = Measured { faults: engine.finish(DRAIN)?, ..Measured::default() };
    let rate = |stretch: &Stretch| float(stretch.deliveries) / stretch.seconds;
    measured.push("rate held", Better::Higher, Some(rate(&after) / rate(&before)));
    let per_cpu = |stretch: &Stretch| Some(float(stretch.deliveries) / stretch.cpu_seconds?);
    let held = per_cpu(&before).and_then(|before| Some(per_cpu(&after)? / before));
    measured.push("rate per CPU second held", Better::Neither, held);
    measured.push("growth MiB", Better::Lower, growth);
    Ok(measured)
}

/// Connections opened one after another, CONNECT sent at once, CONNACKs awaited in groups of 128.
fn storm(count: usize, address: SocketAddr, broker: &Running, version: Version) -> Outcome<Measured> {
    const GROUP: usize = 128;
    let (start, cpu) = (Instant::now(), broker.cpu_time());
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let group = GROUP.min(count - open.len());
        let from = open.len();
        for index in from..from + group {
            open.push(Client::begin(address, version, &format!("storm-{index}"), true)?);
        }
        for client in &mut open[from..] {
            client.finish_connecting()?;
        }
    }
    let elapsed = start.elapsed();
    let mut measured = Measured::default();
    let count = u64::try_from(count)?;
    let used = cpu.and_then(|before| Some(broker.cpu_time()?.saturating_sub(before)));
    measured.push("per CPU second", Better::Higher, used.and_then(|used| per_second(count, used)));
    measured.push("per second", Better::Neither, per_second(count, elapsed));
    Ok(measured)
}
