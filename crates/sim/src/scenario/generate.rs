//! A scenario from a seed.

use damselfly_codec::{QoS, Version};

use crate::{
    End, Scenario,
    random::Random,
    scenario::{FILTERS, Plan, Step, TOPICS, What},
};

const MESSAGES: u64 = 200;
/// The row of numbers for what not every world has.
const APART: u64 = 0x7261_7265;
/// Milliseconds in which everything happens; the calm after it makes it an hour.
const SPAN: u64 = 2_900_000;

impl Scenario {
    /// At least four clients of both versions, 200 messages and five faults in one hour.
    pub fn from_seed(seed: u64) -> Self {
        // The world draws from the seed itself, the plan of it from another row of numbers.
        let mut random = Random::new(!seed);
        let clients = (0..random.between(4, 6)).map(|index| plan(&mut random, index)).collect::<Vec<_>>();
        let mut scenario = Self {
            seed,
            latency: [one_of(&mut random, &[5, 50, 400]), one_of(&mut random, &[1, 20, 200])],
            max_piece: one_of(&mut random, &[16, 64, 4_096]),
            capacity: one_of(&mut random, &[300, 2_000, 65_536]),
            receive_maximum: one_of(&mut random, &[2, 10, 1_024]),
            queue: None,
            broker: [0, 0],
            clients,
            steps: Vec::new(),
        };
        scenario.add_faults(&mut random);
        scenario.add_requests(&mut random);
        scenario.add_messages(&mut random);
        scenario.add_features(&mut Random::new(!seed ^ APART));
        scenario.steps.sort_by_key(|step| step.at);
        scenario
    }

    fn any_client(&self, random: &mut Random) -> usize {
        index(random, self.clients.len())
    }

    fn add(&mut self, at: u64, client: usize, what: What) {
        self.steps.push(Step { at, client, what });
    }

    fn add_faults(&mut self, random: &mut Random) {
        let durable: Vec<_> = (0..).zip(&self.clients).filter(|(_, plan)| plan.has_outbox).map(|(at, _)| at).collect();
        for _ in 0..random.between(5, 9) {
            let at = random.between(0, SPAN);
            let client = self.any_client(random);
            let end = one_of(random, &[End::Broker, End::Client]);
            match random.between(0, 5) {
                0 => self.add(at, client, What::Cut),
                1 => self.add(at, client, What::HalfOpen(end)),
                2 => {
                    let duration = random.between(100, 20_000);
                    self.add(at, client, What::Stall(end, duration));
                }
                3 => {
                    self.add(at, client, What::Partition);
                    let duration = one_of(random, &[300, 5_000, 200_000]);
                    self.add(at + duration, client, What::Heal);
                }
                4 => self.add(at, client, What::Again),
                _ => {
                    let client = one_of(random, &durable);
                    let duration = random.between(10, 10_000);
                    self.add(at, client, What::Crash(duration));
                }
            }
        }
    }

    fn add_requests(&mut self, random: &mut Random) {
        for _ in 0..random.between(2, 8) {
            let (at, client) = (self.near_a_fault(random), self.any_client(random));
            let what = one_of(random, &[What::Subscribe, What::Unsubscribe]);
            self.add(at, client, what);
        }
    }

    fn add_messages(&mut self, random: &mut Random) {
        for _ in 0..MESSAGES {
            let at = if random.between(0, 3) == 0 { random.between(0, SPAN) } else { self.near_a_fault(random) };
            let client = self.any_client(random);
            let is_new = self.clients.get(client).is_some_and(|plan| plan.version == Version::V5_0);
            let expiry = (is_new && random.between(0, 5) == 0).then(|| one_of(random, &[2, 30, 4_000]));
            let qos = one_of(random, &[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce]);
            let len = one_of(random, &[0, 0, 20, 300]);
            self.add(at, client, What::Publish { topic: index(random, TOPICS.len()), qos, expiry, len });
        }
    }

    /// What not every world has.
    fn add_features(&mut self, random: &mut Random) {
        for plan in self.clients.iter_mut().filter(|plan| !plan.has_outbox) {
            plan.is_manual = random.between(0, 2) == 0;
            plan.queue = (random.between(0, 3) == 0).then(|| one_of(random, &[2, 5]));
        }
        match random.between(0, 5) {
            0 => self.broker = [one_of(random, &[5, 50, 300]), one_of(random, &[5, 50, 300])],
            1 => self.queue = Some(one_of(random, &[3, 10])),
            2 | 3 => self.add_retained(random),
            _ => {}
        }
        // When a will is due is not known to the millisecond where the broker waits for its store, and a short queue may
        // drop it.
        if self.broker != [0, 0] || self.queue.is_some() {
            for plan in &mut self.clients {
                plan.will_delay = None;
            }
        }
    }

    fn add_retained(&mut self, random: &mut Random) {
        for _ in 0..random.between(10, 30) {
            let (at, client) = (self.near_a_fault(random), self.any_client(random));
            let qos = one_of(random, &[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
            let len = one_of(random, &[0, 20, 300]);
            self.add(at, client, What::Keep(qos, len));
        }
        for _ in 0..random.between(3, 8) {
            let (at, client) = (self.near_a_fault(random), self.any_client(random));
            self.add(at, client, What::Look);
        }
    }

    /// Some time close to one of the steps there are.
    fn near_a_fault(&self, random: &mut Random) -> u64 {
        let at = self.steps.get(index(random, self.steps.len())).map_or(0, |step| step.at);
        (at + random.between(0, 1_500)).saturating_sub(800)
    }
}

fn plan(random: &mut Random, index: u64) -> Plan {
    let version = match index {
        0 => Version::V5_0,
        1 => Version::V3_1_1,
        _ => one_of(random, &[Version::V5_0, Version::V3_1_1]),
    };
    let delays: &[Option<u32>] = if version == Version::V5_0 { &[None, Some(0), Some(20)] } else { &[None, Some(0)] };
    Plan {
        version,
        receive_maximum: one_of(random, &[1, 3, 65_535]),
        // The first one has to get every will, the second one has an outbox so that there is one.
        has_outbox: index == 1 || (index > 1 && random.between(0, 1) == 0),
        will_delay: one_of(random, delays),
        is_manual: false,
        queue: None,
    }
}

fn index(random: &mut Random, len: usize) -> usize {
    let last = u64::try_from(len.saturating_sub(1)).unwrap_or(0);
    usize::try_from(random.between(0, last)).unwrap_or(0)
}

#[expect(clippy::indexing_slicing, reason = "an index below the length; the lists are not empty")]
fn one_of<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[index(random, all.len())]
}

const _: () = assert!(FILTERS.len() >= 6, "one list for each client there can be");
