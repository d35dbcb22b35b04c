//! Plays a scenario.

use core::num::NonZeroU16;
use core::time::Duration;

use damselfly_client::{Config, ConnectParameters, OutboxConfig, Will};
use damselfly_codec::{Properties, PropertiesBuf, Property, QoS};
use damselfly_session::{Message, SessionExpiry, Timestamp};
use damselfly_topic::{TopicFilter, TopicName, TopicNameBuf};

use crate::{
    Failure, MemberId, Report, Scenario, Sim, World,
    scenario::{FILTERS, Plan, TOPICS, What, ledger::Ledger},
};

/// For subscribing, before anything goes wrong.
const BEFORE: Duration = Duration::from_secs(60);
/// For everything to come to its end when nothing goes wrong any more.
const AFTER: Duration = Duration::from_secs(700);
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
    members: Vec<MemberId>,
    ledger: Ledger,
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
        world.is_traced = is_traced;
        let sim = Sim::new(world, scenario.seed).map_err(|error| Failure(error.to_string()))?;
        let (start, memory) = (sim.now(), sim.broker().memory().counted);
        let ledger = Ledger::new(scenario.clients.len());
        let mut run = Self { scenario, sim, members: Vec::new(), ledger, start, memory };
        for (index, plan) in scenario.clients.iter().enumerate() {
            let member = run.sim.add_with(config(index, plan), parameters(index, plan)?);
            run.sim.number_wills(member);
            run.members.push(member);
        }
        Ok(run)
    }

    fn play(&mut self) -> Result<Report, Failure> {
        for (member, filters) in self.members.clone().into_iter().zip(FILTERS) {
            for (filter, qos) in filters {
                let filter = TopicFilter::new(filter).map_err(|error| Failure(error.to_string()))?;
                self.sim.subscribe(member, filter, *qos).map_err(|error| Failure(error.to_string()))?;
            }
        }
        self.sim.run_for(BEFORE);
        self.check()?;
        for step in &self.scenario.steps {
            let at = self.start.saturating_add(BEFORE + Duration::from_millis(step.at));
            self.sim.run_for(at.saturating_since(self.sim.now()));
            self.check()?;
            let Some(member) = self.members.get(step.client).copied() else { continue };
            self.take(step.client, member, step.what)?;
        }
        self.sim.heal(&self.members);
        let hour = self.start.saturating_add(HOUR);
        self.sim.run_for(AFTER.max(hour.saturating_since(self.sim.now())));
        self.check()?;
        self.ledger.check_end(&self.sim, &self.members)?;
        self.leave()?;
        let mut report = Report { faults: self.sim.faults().collect(), ..Report::default() };
        report.duration = self.sim.now().saturating_since(self.start);
        self.ledger.report(&mut report);
        Ok(report)
    }

    fn take(&mut self, index: usize, member: MemberId, what: What) -> Result<(), Failure> {
        let sim = &mut self.sim;
        match what {
            What::Publish { topic, qos, expiry, len } => return self.publish(index, member, topic, qos, expiry, len),
            What::Subscribe | What::Unsubscribe if !sim.is_up(member) => {}
            What::Subscribe | What::Unsubscribe => {
                let filter = TopicFilter::new("extra/+").map_err(|error| Failure(error.to_string()))?;
                let ticket = if what == What::Subscribe {
                    sim.subscribe(member, filter, QoS::AtLeastOnce)
                } else {
                    sim.act(member, |client, now| client.unsubscribe(now, &[filter], Properties::EMPTY))
                };
                self.ledger.request(index, ticket.map_err(|error| Failure(error.to_string()))?);
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
        Ok(())
    }

    fn check(&mut self) -> Result<(), Failure> {
        if let Some(violation) = self.sim.violation() {
            return Err(Failure(violation.to_owned()));
        }
        for (index, member) in self.members.clone().into_iter().enumerate() {
            if let Some(error) = self.sim.start_error(member) {
                return Err(Failure(format!("client {index} does not start: {error}")));
            }
            for event in self.sim.take_events(member) {
                self.ledger.note(index, event)?;
            }
        }
        self.sim.broker().audit().map_err(|drift| Failure(drift.to_string()))
    }

    /// All clients go for good, and nothing is left of them.
    fn leave(&mut self) -> Result<(), Failure> {
        for (index, member) in self.members.clone().into_iter().enumerate() {
            self.sim.act(member, |client, now| client.close(now, now.saturating_add(Duration::from_secs(5))));
            self.sim.run_for(Duration::from_secs(10));
            self.sim.remove_session(&name(index));
        }
        self.sim.run_for(Duration::from_secs(30));
        self.check()?;
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
