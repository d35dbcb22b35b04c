//! The load: publishers with a window each, or at a fixed pace, and receivers that check every message.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use damselfly_benches::process::Running;
use damselfly_codec::Version;
use rustix::event::Timespec;

use crate::{
    check::{Check, Faults},
    client::Client,
    frame::{self, Outcome, Stamp, Template},
    link::{Link, Poller},
};

/// Who gets what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each publisher has a subscriber of its own.
    Pairs,
    /// One subscriber with a wildcard hears all publishers.
    FanIn,
    /// All subscribers hear the one publisher.
    FanOut,
    /// One share group hears all publishers.
    Shared,
}

#[derive(Clone, Debug)]
pub struct Traffic {
    pub shape: Shape,
    pub publishers: usize,
    pub subscribers: usize,
    pub qos: u8,
    /// Messages of one publisher that are under way at most.
    pub window: u64,
    pub payload: usize,
    /// Messages per second of all publishers together instead of as many as the window lets through.
    pub pace: Option<u32>,
}

pub fn topic(publisher: usize) -> String {
    format!("bench/p/{publisher:08}")
}

/// One stretch of time, measured.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    pub seconds: f64,
    pub cpu_seconds: Option<f64>,
    pub deliveries: u64,
}

struct Publisher {
    template: Template,
    sent: u64,
    /// Arrived at every receiver that should get it.
    delivered: u64,
    /// Acknowledged to the publisher as far as its QoS goes.
    acknowledged: u64,
    waiting: bool,
}

pub struct Engine {
    traffic: Traffic,
    version: Version,
    began: Instant,
    poller: Poller,
    links: Vec<Link>,
    publishers: Vec<Publisher>,
    check: Check,
    /// Fan-out: how many receivers have message n, at n modulo its length.
    arrivals: Vec<usize>,
    refill: Vec<usize>,
    dirty: Vec<usize>,
    ready: Vec<(usize, bool, bool)>,
    input: Vec<u8>,
    publishing: bool,
    next_paced: (Instant, usize),
    pub deliveries: u64,
    /// Microseconds from publisher to subscriber, when paced.
    pub latencies: Vec<u32>,
}

const INPUT: usize = 512 * 1024;

impl Engine {
    /// Connects and subscribes everybody.
    pub fn new(address: SocketAddr, version: Version, traffic: &Traffic) -> Outcome<Self> {
        let total = traffic.publishers + traffic.subscribers;
        let poller = Poller::new(total)?;
        let mut links = Vec::with_capacity(total);
        for index in 0..total {
            let mut client = Client::connect(address, version, &format!("load-{index}"), true)?;
            if let Some(subscriber) = index.checked_sub(traffic.publishers) {
                client.subscribe(&[filter(traffic.shape, subscriber)], traffic.qos)?;
            }
            let link = Link::new(client.into_stream())?;
            poller.add(index, link.stream())?;
            links.push(link);
        }
        let publishers = (0..traffic.publishers)
            .map(|publisher| {
                let template = Template::new(version, &topic(publisher), traffic.qos, false, traffic.payload);
                Publisher { template, sent: 0, delivered: 0, acknowledged: 0, waiting: false }
            })
            .collect();
        let now = Instant::now();
        Ok(Self {
            version,
            began: now,
            poller,
            links,
            publishers,
            check: Check::new(traffic.publishers, traffic.subscribers, traffic.shape == Shape::Shared),
            arrivals: vec![0; usize::try_from(traffic.window)?.next_power_of_two() * 2],
            refill: Vec::new(),
            dirty: Vec::new(),
            ready: Vec::with_capacity(total),
            input: vec![0; INPUT],
            publishing: false,
            next_paced: (now, 0),
            deliveries: 0,
            latencies: Vec::new(),
            traffic: traffic.clone(),
        })
    }

    /// Publishes for this long and says what the broker did meanwhile.
    pub fn run(&mut self, span: Duration, broker: &Running) -> Outcome<Stretch> {
        if !self.publishing {
            self.publishing = true;
            self.next_paced.0 = Instant::now();
            for publisher in 0..self.publishers.len() {
                self.wants_refill(publisher);
            }
        }
        let (start, cpu, deliveries) = (Instant::now(), broker.cpu_time(), self.deliveries);
        while start.elapsed() < span {
            self.turn()?;
        }
        let cpu_seconds = match (cpu, broker.cpu_time()) {
            (Some(before), Some(after)) => Some(after.saturating_sub(before).as_secs_f64()),
            _ => None,
        };
        Ok(Stretch { seconds: start.elapsed().as_secs_f64(), cpu_seconds, deliveries: self.deliveries - deliveries })
    }

    /// Stops publishing, waits for what is under way, at most `limit`, and gives the verdict.
    pub fn finish(&mut self, limit: Duration) -> Outcome<Faults> {
        self.publishing = false;
        let end = Instant::now() + limit;
        while Instant::now() < end && self.publishers.iter().any(|publisher| self.under_way(publisher) > 0) {
            self.turn()?;
        }
        // One more turn finds what should not have come.
        self.turn()?;
        let copies = if self.traffic.shape == Shape::FanOut { self.traffic.subscribers } else { 1 };
        let sent: u64 = self.publishers.iter().map(|publisher| publisher.sent).sum();
        Ok(self.check.faults(sent * u64::try_from(copies)?))
    }

    fn under_way(&self, publisher: &Publisher) -> u64 {
        let done =
            if self.traffic.qos == 0 { publisher.delivered } else { publisher.delivered.min(publisher.acknowledged) };
        publisher.sent.saturating_sub(done)
    }

    fn turn(&mut self) -> Outcome<()> {
        let mut ready = std::mem::take(&mut self.ready);
        // A paced load must not oversleep its next message, so it polls.
        let nanoseconds = if self.traffic.pace.is_some() { 0 } else { 20_000_000 };
        if self.refill.is_empty() {
            self.poller.wait(Timespec { tv_sec: 0, tv_nsec: nanoseconds }, &mut ready)?;
        }
        for &(index, readable, writable) in &ready {
            if readable {
                self.read(index)?;
            }
            if writable {
                self.mark_dirty(index);
            }
        }
        ready.clear();
        self.ready = ready;
        if self.publishing && self.traffic.pace.is_some() {
            self.publish_due()?;
        }
        for publisher in std::mem::take(&mut self.refill) {
            self.publishers[publisher].waiting = false;
            while self.publishing && self.under_way(&self.publishers[publisher]) < self.traffic.window {
                self.publish(publisher, 0)?;
            }
        }
        for index in std::mem::take(&mut self.dirty) {
            let link = &mut self.links[index];
            link.dirty = false;
            link.flush(index, &self.poller)?;
        }
        Ok(())
    }

    fn publish_due(&mut self) -> Outcome<()> {
        let Some(pace) = self.traffic.pace else { return Ok(()) };
        let gap = Duration::from_secs(1) / pace;
        let now = Instant::now();
        while self.next_paced.0 <= now {
            let publisher = self.next_paced.1;
            self.next_paced = (self.next_paced.0 + gap, (publisher + 1) % self.publishers.len());
            let sent_at = u64::try_from(self.began.elapsed().as_nanos())?;
            self.publish(publisher, sent_at)?;
        }
        Ok(())
    }

    fn publish(&mut self, index: usize, sent_at: u64) -> Outcome<()> {
        let publisher = &mut self.publishers[index];
        let packet_id = u16::try_from(publisher.sent % 65_535)? + 1;
        let stamp = Stamp { publisher: u32::try_from(index)?, sequence: publisher.sent, sent_at };
        publisher.template.write(packet_id, stamp, &mut self.links[index].out);
        publisher.sent += 1;
        self.mark_dirty(index);
        Ok(())
    }

    fn mark_dirty(&mut self, index: usize) {
        let link = &mut self.links[index];
        if !link.dirty {
            link.dirty = true;
            self.dirty.push(index);
        }
    }

    fn wants_refill(&mut self, publisher: usize) {
        let publisher_state = &mut self.publishers[publisher];
        if !publisher_state.waiting && self.traffic.pace.is_none() {
            publisher_state.waiting = true;
            self.refill.push(publisher);
        }
    }

    fn read(&mut self, index: usize) -> Outcome<()> {
        let mut input = std::mem::take(&mut self.input);
        let filled = self.links[index].read(&mut input)?;
        let mut rest = &input[..filled];
        let mut now = None;
        while let Some(found) = frame::split(rest)? {
            self.handle(index, found.first, found.body, &mut now)?;
            rest = &rest[found.len..];
        }
        self.links[index].keep(rest);
        self.input = input;
        Ok(())
    }

    fn handle(&mut self, index: usize, first: u8, body: &[u8], now: &mut Option<u64>) -> Outcome<()> {
        let answer = match first >> 4 {
            frame::PUBLISH => {
                let publish = frame::read_publish(self.version, first, body).ok_or("a short PUBLISH")?;
                self.arrived(index, publish.payload, now)?;
                match publish.qos {
                    0 => return Ok(()),
                    1 => (frame::PUBACK, publish.packet_id),
                    _ => (frame::PUBREC, publish.packet_id),
                }
            }
            frame::PUBREC => (frame::PUBREL, frame::read_packet_id(body)),
            frame::PUBREL => (frame::PUBCOMP, frame::read_packet_id(body)),
            frame::PUBACK | frame::PUBCOMP => {
                self.publishers[index].acknowledged += 1;
                self.wants_refill(index);
                return Ok(());
            }
            other => return Err(format!("a packet of type {other} amid the traffic").into()),
        };
        frame::acknowledge(answer.0, answer.1, &mut self.links[index].out);
        self.mark_dirty(index);
        Ok(())
    }

    fn arrived(&mut self, index: usize, payload: &[u8], now: &mut Option<u64>) -> Outcome<()> {
        self.deliveries += 1;
        let receiver = index.checked_sub(self.traffic.publishers);
        let stamp = Stamp::read(payload).filter(|_| payload.len() >= self.traffic.payload);
        let (Some(receiver), Some(stamp)) = (receiver, stamp) else {
            self.check.misplaced();
            return Ok(());
        };
        let publisher = usize::try_from(stamp.publisher)?;
        let sent = self.publishers.get(publisher).map_or(0, |publisher| publisher.sent);
        if stamp.sequence >= sent || (self.traffic.shape == Shape::Pairs && publisher != receiver) {
            self.check.misplaced();
            return Ok(());
        }
        if self.traffic.pace.is_some() {
            let began = self.began;
            let now = *now.get_or_insert_with(|| u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            self.latencies.push(u32::try_from(now.saturating_sub(stamp.sent_at) / 1000)?);
        }
        if self.check.record(receiver, publisher, stamp.sequence) {
            self.count(publisher, stamp.sequence)?;
        }
        Ok(())
    }

    fn count(&mut self, publisher: usize, sequence: u64) -> Outcome<()> {
        if self.traffic.shape == Shape::FanOut {
            let slot = usize::try_from(sequence)? % self.arrivals.len();
            self.arrivals[slot] += 1;
            if self.arrivals[slot] < self.traffic.subscribers {
                return Ok(());
            }
            self.arrivals[slot] = 0;
        }
        self.publishers[publisher].delivered += 1;
        self.wants_refill(publisher);
        Ok(())
    }
}

fn filter(shape: Shape, subscriber: usize) -> String {
    match shape {
        Shape::Pairs => topic(subscriber),
        Shape::FanOut => topic(0),
        Shape::FanIn => "bench/p/+".to_owned(),
        Shape::Shared => "$share/bench/bench/p/+".to_owned(),
    }
}
