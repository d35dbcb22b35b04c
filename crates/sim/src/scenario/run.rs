//! Plays a scenario.

use core::num::NonZeroU16;
use core::time::Duration;
use std::rc::Rc;

use damselfly_broker::{DropReason, WhenFull};
use damselfly_client::{
    AckToken, Acknowledgement, Config, ConnectParameters, Event, OutboxConfig, OverflowPolicy, ReasonCode, Will,
};
use damselfly_codec::{Properties, PropertiesBuf, Property, QoS};
use damselfly_session::{Message, SessionExpiry, Timestamp};
use damselfly_topic::{TopicFilter, TopicName, TopicNameBuf};

use crate::{
    Failure, Feature, MemberId, Report, Scenario, Sim, World,
    random::Random,
    scenario::{FILTERS, Plan, TOPICS, What, keep::Kept, ledger::Ledger},
};

/// For subscribing, before anything goes wrong.
const BEFORE: Duration = Duration::from_secs(60);
/// For everything to come to its end when nothing goes wrong any more.
const AFTER: Duration = Duration::from_secs(700);
/// For every client to be given what is retained.
const LOOK: Duration = Duration::from_secs(120);
/// Between two looks of an application at what came, at most, if nothing came the last time and if something did.
const PAUSE: Duration = Duration::from_secs(4);
const SOON: Duration = Duration::from_millis(300);
/// What applications decide draws from a row of numbers of its own.
const APART: u64 = 0x6163_6b73;
/// No world is shorter.
const HOUR: Duration = Duration::from_secs(3_600);

impl Scenario {
    /// Plays it, and tells what happened, or the first thing that does not hold.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn run(&self) -> Result<Report, Failure> {
        Run::new(self, false)?.play()
    }

    /// Plays it, and tells all that happened, a line each.
    pub fn trace(&self) -> String {
        match Run::new(self, true) {
            Ok(mut run) => {
                let end = run.play().err().map(|failure| format!("{failure}\n")).unwrap_or_default();
                run.sim.trace().to_owned() + &end
            }
            Err(failure) => failure.to_string(),
        }
    }
}

struct Run<'a> {
    scenario: &'a Scenario,
    sim: Sim,
    members: Rc<[MemberId]>,
    ledger: Ledger,
    kept: Kept,
    /// Whose turn it is among the acknowledgements.
    random: Random,
    /// Messages that each application has not acknowledged, in their order.
    unacknowledged: Vec<Vec<(AckToken, QoS)>>,
    /// Empty between two looks.
    events: Vec<Event>,
    start: Timestamp,
    memory: u64,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, is_traced: bool) -> Result<Self, Failure> {
        let mut world = World::default();
        let [link, store] = scenario.latency.map(Duration::from_millis);
        world.latency = (Duration::from_micros(100), link.max(Duration::from_millis(1)));
        world.store_latency = (Duration::from_micros(100), store.max(Duration::from_millis(1)));
        world.max_piece = scenario.max_piece;
        world.capacity = scenario.capacity;
        world.broker.receive_maximum = scenario.receive_maximum;
        world.broker.topic_alias_maximum = 2;
        if let Some(queue) = scenario.queue {
            world.broker.max_queued_messages = queue;
            world.broker.when_full = WhenFull::DropOldest;
        }
        let [commit, answer] = scenario.broker.map(Duration::from_millis);
        world.commit_latency = (Duration::ZERO, commit);
        world.answer_latency = (Duration::ZERO, answer);
        world.is_traced = is_traced;
        let sim = Sim::new(world, scenario.seed).map_err(|error| Failure(error.to_string()))?;
        let (start, memory) = (sim.now(), sim.broker().memory().counted);
        let mut run = Self {
            scenario,
            sim,
            members: Rc::default(),
            ledger: Ledger::new(scenario.clients.iter().map(|plan| plan.queue.is_some()).collect()),
            kept: Kept::default(),
            random: Random::new(scenario.seed ^ APART),
            unacknowledged: scenario.clients.iter().map(|_| Vec::new()).collect(),
            events: Vec::new(),
            start,
            memory,
        };
        let mut members = Vec::new();
        for (index, plan) in scenario.clients.iter().enumerate() {
            let member = run.sim.add_with(config(index, plan), parameters(index, plan)?);
            run.sim.number_wills(member);
            members.push(member);
        }
        run.members = members.into();
        Ok(run)
    }

    fn play(&mut self) -> Result<Report, Failure> {
        for (member, filters) in self.members.clone().iter().copied().zip(FILTERS) {
            for (filter, qos) in filters {
                let filter = TopicFilter::new(filter).map_err(|error| Failure(error.to_string()))?;
                self.sim.subscribe(member, filter, *qos).map_err(|error| Failure(error.to_string()))?;
            }
        }
        self.run_for(BEFORE)?;
        for step in &self.scenario.steps {
            let at = self.start.saturating_add(BEFORE + Duration::from_millis(step.at));
            self.run_for(at.saturating_since(self.sim.now()))?;
            let Some(member) = self.members.get(step.client).copied() else { continue };
            self.take(step.client, member, step.what)?;
        }
        self.sim.heal(&self.members);
        let hour = self.start.saturating_add(HOUR);
        self.run_for(AFTER.max(hour.saturating_since(self.sim.now())))?;
        self.look_again()?;
        self.ledger.check_end(&self.sim, &self.members)?;
        self.leave()?;
        let mut report = Report { faults: self.sim.faults().collect(), ..Report::default() };
        report.duration = self.sim.now().saturating_since(self.start);
        report.features = self.sim.features.clone();
        self.ledger.report(&mut report);
        for (feature, count) in [
            (Feature::Retained, self.kept.count),
            (Feature::DroppedByBroker, self.sim.broker().counters().dropped(DropReason::QueueFull)),
        ] {
            if count > 0 {
                report.features.insert(feature, count);
            }
        }
        Ok(report)
    }

    fn take(&mut self, index: usize, member: MemberId, what: What) -> Result<(), Failure> {
        let sim = &mut self.sim;
        match what {
            What::Publish { topic, qos, expiry, len } => return self.publish(index, member, topic, qos, expiry, len),
            What::Keep(..) | What::Look | What::Subscribe | What::Unsubscribe if !sim.is_up(member) => {}
            What::Keep(qos, len) => {
                let payload = self.kept.payload(index, qos, len);
                return self.keep(index, member, qos, payload.as_bytes());
            }
            What::Look => return self.look(index, member),
            What::Subscribe | What::Unsubscribe => {
                let filter = TopicFilter::new("extra/+").map_err(|error| Failure(error.to_string()))?;
                let ticket = if what == What::Subscribe {
                    sim.subscribe(member, filter, QoS::AtLeastOnce)
                } else {
                    sim.act(member, |client, now| client.unsubscribe(now, &[filter], Properties::EMPTY))
                };
                let ticket = ticket.map_err(|error| Failure(error.to_string()))?;
                self.ledger.request(index, ticket);
                self.kept.forget(index, ticket);
            }
            What::Cut => sim.cut(member),
            What::HalfOpen(end) => sim.half_open(member, end),
            What::Stall(end, duration) => sim.stall(member, end, Duration::from_millis(duration)),
            What::Partition => sim.partition(parted(&self.members, index)),
            What::Heal => sim.heal(parted(&self.members, index)),
            What::Again => sim.connect_again(member),
            What::Crash(duration) => sim.crash(member, Duration::from_millis(duration)),
        }
        Ok(())
    }

    fn publish(
        &mut self,
        index: usize,
        member: MemberId,
        topic: usize,
        qos: QoS,
        expiry: Option<u32>,
        len: usize,
    ) -> Result<(), Failure> {
        if !self.sim.is_up(member) {
            return Ok(());
        }
        let payload = format!("{index}.{} {}", self.ledger.published(index), ".".repeat(len));
        let name = TopicName::new(TOPICS.get(topic).copied().unwrap_or("t"));
        let name = name.map_err(|error| Failure(error.to_string()))?;
        let mut properties = PropertiesBuf::new();
        let now = self.sim.now();
        if let Some(seconds) = expiry {
            // An integer always fits.
            let _ = properties.push(Property::MessageExpiryInterval(seconds));
            self.sim.note_expiry(payload.as_bytes(), now.saturating_add(Duration::from_secs(seconds.into())));
        }
        let message = Message::compose(name, payload.as_bytes(), qos, false, properties.as_properties(), now);
        // Before the outcome can be told, which may be at once.
        let ticket = self.sim.act(member, |client, now| client.publish(now, message));
        let ticket = ticket.map_err(|refused| Failure(format!("client {index}: {refused}")))?;
        self.ledger.publish(&self.sim, index, member, ticket, topic, qos, expiry.is_some());
        self.kept.forget(index, ticket);
        Ok(())
    }

    fn keep(&mut self, index: usize, member: MemberId, qos: QoS, payload: &[u8]) -> Result<(), Failure> {
        let topic = Kept::topic(index, qos);
        let name = TopicName::new(&topic).map_err(|error| Failure(error.to_string()))?;
        let message = Message::compose(name, payload, qos, true, Properties::EMPTY, self.sim.now());
        let ticket = self.sim.act(member, |client, now| client.publish(now, message));
        let ticket = ticket.map_err(|refused| Failure(format!("client {index}: {refused}")))?;
        self.ledger.request(index, ticket);
        if payload.is_empty() {
            self.kept.forget(index, ticket);
        } else {
            self.kept.publish(index, ticket, qos);
        }
        Ok(())
    }

    fn look(&mut self, index: usize, member: MemberId) -> Result<(), Failure> {
        let filter = TopicFilter::new(Kept::FILTER).map_err(|error| Failure(error.to_string()))?;
        let ticket = self.sim.subscribe(member, filter, QoS::ExactlyOnce);
        let ticket = ticket.map_err(|error| Failure(error.to_string()))?;
        self.ledger.request(index, ticket);
        self.kept.forget(index, ticket);
        Ok(())
    }

    /// All clients look at what is retained, which is then taken away.
    fn look_again(&mut self) -> Result<(), Failure> {
        let topics: Vec<_> = self.kept.topics().collect();
        if topics.is_empty() {
            return Ok(());
        }
        self.kept.begin_last_look();
        for (index, member) in self.members.clone().iter().copied().enumerate() {
            self.look(index, member)?;
        }
        self.run_for(LOOK)?;
        self.kept.check(&self.sim, self.members.len())?;
        for (index, topic) in topics {
            let qos = if topic.ends_with('0') { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            let Some(member) = self.members.get(index).copied() else { continue };
            let name = TopicName::new(&topic).map_err(|error| Failure(error.to_string()))?;
            let message = Message::compose(name, b"", qos, true, Properties::EMPTY, self.sim.now());
            let ticket = self.sim.act(member, |client, now| client.publish(now, message));
            let ticket = ticket.map_err(|refused| Failure(format!("client {index}: {refused}")))?;
            self.ledger.request(index, ticket);
            self.kept.forget(index, ticket);
            // A short offline queue would drop one of many.
            self.run_for(PAUSE)?;
        }
        self.run_for(LOOK)?;
        match self.sim.broker().retained_len() {
            0 => Ok(()),
            len => Err(Failure(format!("{len} messages are retained when all were taken away"))),
        }
    }

    /// Lets time pass, in which applications acknowledge what they got, and looks at everything.
    fn run_for(&mut self, duration: Duration) -> Result<(), Failure> {
        if !self.scenario.clients.iter().any(|plan| plan.is_manual) {
            self.sim.run_for(duration);
            return self.check();
        }
        let until = self.sim.now().saturating_add(duration);
        while self.sim.now() < until {
            let longest = if self.has_to_acknowledge() { SOON } else { PAUSE };
            let wait = self.random.duration(Duration::from_millis(1), longest);
            self.sim.run_for(wait.min(until.saturating_since(self.sim.now())));
            self.take_events()?;
            if self.has_to_acknowledge() {
                self.acknowledge()?;
            }
        }
        self.check()
    }

    fn has_to_acknowledge(&self) -> bool {
        self.unacknowledged.iter().any(|waiting| !waiting.is_empty())
    }

    /// Each application acknowledges some of what it has.
    fn acknowledge(&mut self) -> Result<(), Failure> {
        for (index, member) in self.members.clone().iter().copied().enumerate() {
            let Some(waiting) = self.unacknowledged.get_mut(index).filter(|waiting| !waiting.is_empty()) else {
                continue;
            };
            let all = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
            for _ in 0..self.random.between(0, all) {
                let Some(last) = waiting.len().checked_sub(1) else { break };
                let at = self.random.between(0, u64::try_from(last).unwrap_or(0));
                let at = usize::try_from(at).unwrap_or(0);
                let (token, qos) = waiting.remove(at);
                let done = self.sim.act(member, |client, now| client.acknowledge(now, token, ReasonCode::Success));
                self.sim.note_feature(Feature::Acknowledged);
                if at > 0 {
                    self.sim.note_feature(Feature::AcknowledgedOutOfOrder);
                }
                // A QoS 1 message of an earlier connection comes again.
                if let Err(error) = done {
                    if qos == QoS::ExactlyOnce {
                        return Err(Failure(format!("client {index} cannot acknowledge: {error}")));
                    }
                }
            }
        }
        Ok(())
    }

    fn take_events(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.sim.has_events) {
            return Ok(());
        }
        for (index, member) in self.members.clone().iter().copied().enumerate() {
            let mut events = std::mem::take(&mut self.events);
            self.sim.swap_events(member, &mut events);
            for event in &events {
                self.note(index, member, event)?;
            }
            events.clear();
            self.events = events;
        }
        Ok(())
    }

    fn note(&mut self, index: usize, member: MemberId, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Message(inbound) => {
                if let Some(token) =
                    inbound.ack.filter(|_| self.scenario.clients.get(index).is_some_and(|plan| plan.is_manual))
                {
                    if let Some(waiting) = self.unacknowledged.get_mut(index) {
                        waiting.push((token, inbound.message.qos()));
                    }
                }
                if let Some(result) = self.kept.receive(index, inbound) {
                    return result;
                }
            }
            Event::Completed { ticket, outcome } if self.kept.complete(index, *ticket, outcome) => return Ok(()),
            Event::Stored { ticket } if self.kept.stored(index, *ticket) => return Ok(()),
            _ => {}
        }
        self.ledger.note(&self.sim, index, member, event)
    }

    fn check(&mut self) -> Result<(), Failure> {
        if let Some(violation) = self.sim.violation() {
            return Err(Failure(violation.to_owned()));
        }
        for (index, member) in self.members.clone().iter().copied().enumerate() {
            if let Some(error) = self.sim.start_error(member) {
                return Err(Failure(format!("client {index} does not start: {error}")));
            }
            if self.sim.is_up(member) {
                let audit = self.sim.client(member).audit();
                audit.map_err(|drift| Failure(format!("client {index}: {drift}")))?;
            }
        }
        self.take_events()?;
        self.sim.broker().audit().map_err(|drift| Failure(drift.to_string()))
    }

    /// All clients go for good, and nothing is left of them.
    fn leave(&mut self) -> Result<(), Failure> {
        for (index, member) in self.members.clone().iter().copied().enumerate() {
            self.sim.act(member, |client, now| client.close(now, now.saturating_add(Duration::from_secs(5))));
            self.run_for(Duration::from_secs(10))?;
            self.sim.remove_session(&name(index));
        }
        self.run_for(Duration::from_secs(30))?;
        let broker = self.sim.broker();
        let left = [
            ("connections", broker.connections_len()),
            ("sessions", broker.sessions_len()),
            ("subscriptions", broker.subscriptions_len()),
            ("messages", broker.messages_len()),
            ("commits", broker.commits_waiting()),
        ];
        if let Some((what, count)) = left.into_iter().find(|(_, count)| *count > 0) {
            return Err(Failure(format!("{count} {what} are left when all clients have gone")));
        }
        let counted = broker.memory().counted;
        if counted != self.memory {
            return Err(Failure(format!("the broker counts {counted} bytes, and {} at its start", self.memory)));
        }
        Ok(())
    }
}

/// A client and the next one.
fn parted(members: &[MemberId], index: usize) -> &[MemberId] {
    members.get(index..(index + 2).min(members.len())).unwrap_or_default()
}

fn name(index: usize) -> String {
    format!("client{index}")
}

fn config(index: usize, plan: &Plan) -> Config {
    let mut config = Config::new(&name(index));
    config.version = plan.version;
    config.session_expiry = SessionExpiry::Never;
    config.receive_maximum = NonZeroU16::new(plan.receive_maximum).unwrap_or(NonZeroU16::MIN);
    config.topic_alias_maximum = 2;
    config.outbox = plan.has_outbox.then(OutboxConfig::default);
    if plan.is_manual {
        config.acknowledgement = Acknowledgement::Manual;
    }
    if let Some(queue) = plan.queue {
        config.queue.max_messages = queue;
        config.queue.overflow = OverflowPolicy::DropOldest;
    }
    config
}

fn parameters(index: usize, plan: &Plan) -> Result<ConnectParameters, Failure> {
    let mut parameters = ConnectParameters::default();
    let Some(delay) = plan.will_delay else { return Ok(parameters) };
    let topic = TopicNameBuf::new(format!("will/{index}")).map_err(|error| Failure(error.to_string()))?;
    let mut will = Will::new(topic, "");
    will.qos = QoS::ExactlyOnce;
    if delay > 0 {
        // An integer always fits.
        let _ = will.properties.push(Property::WillDelayInterval(delay));
    }
    parameters.will = Some(will);
    Ok(parameters)
}
