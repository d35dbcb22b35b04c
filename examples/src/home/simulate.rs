//! The house in virtual time: the same devices and rules on simulated links, with the same faults, from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use damselfly_broker::{Broker, ConfigError};
use damselfly_client::{DropReason, Event, Outcome, Ticket, UsageError};
use damselfly_codec::{Properties, SubscriptionOptions};
use damselfly_session::Timestamp;
use damselfly_sim::{End, Fault, MemberId, Sim, World};

use super::chance::Chance;
use super::faults::{Breakage, FaultName};
use super::ledger::{ClientIndex, Totals};
use super::member;
use super::state::{Command, Home, Settings};

/// The largest piece of bytes that travels as one: what a packet of a home's network carries.
const MAX_PIECE: usize = 1_460;
/// With bad Wi-Fi a connection is cut each so many milliseconds, at the least and at the most.
const CUTS: (u32, u32) = (150, 600);
/// How long a twin keeps its hands off the session.
const TWIN: (u32, u32) = (500, 1_500);
/// How long the house may take at the end until everybody has everything.
const SETTLE: Duration = Duration::from_secs(180);

/// What a simulated house came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The ledger at the end.
    pub totals: Totals,
    /// A number for all that happened.
    pub hash: u64,
    /// How often each button was pressed.
    pub faults: Vec<(FaultName, u64)>,
    /// What happened to links for it.
    pub broken: Vec<(Fault, u64)>,
    /// How often each rule fired.
    pub rules: Vec<(String, u64)>,
    /// The first packet that breaks a rule of the standard, if there is one.
    pub violation: Option<String>,
    /// How long it was, with the time at the end until everybody had everything.
    pub lasted: Duration,
}

impl Report {
    /// Whether all that must hold did.
    pub fn is_clean(&self) -> bool {
        self.totals.is_clean() && self.totals.waiting == 0 && self.violation.is_none()
    }
}

/// Why there is no house.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The broker does not take its config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A client does not take its subscriptions.
    #[error(transparent)]
    Subscription(#[from] UsageError),
}

/// Lives so long in virtual time. At the end nothing breaks any more, and the house goes on until everybody has what he
/// should have, for three minutes at most.
pub fn simulate(mut settings: Settings, duration: Duration) -> Result<Report, SimulationError> {
    settings.is_hashed = true;
    let mut house = Simulation::new(settings)?;
    let started = house.sim.now();
    let end = started.saturating_add(duration);
    house.run(end, |_| false);
    house.home.calm_down();
    house.run(end.saturating_add(SETTLE), |home| home.is_quiet() && home.totals().waiting == 0);
    Ok(Report {
        totals: house.home.totals(),
        hash: house.home.hash(),
        faults: house.home.fault_counts().collect(),
        broken: house.sim.faults().collect(),
        rules: house.home.engine.rules().map(|rule| (rule.name.to_owned(), rule.fired)).collect(),
        violation: house.sim.violation().map(str::to_owned),
        lasted: house.sim.now().saturating_since(started),
    })
}

/// What is to be seen of the broker after so long, with everybody where he is then.
pub fn broker_after<T>(
    settings: Settings,
    duration: Duration,
    look: impl FnOnce(&Broker) -> T,
) -> Result<T, SimulationError> {
    let mut house = Simulation::new(settings)?;
    let end = house.sim.now().saturating_add(duration);
    house.run(end, |_| false);
    Ok(look(house.sim.broker()))
}

struct Simulation {
    sim: Sim,
    home: Home,
    members: Vec<MemberId>,
    clients: BTreeMap<MemberId, ClientIndex>,
    tickets: BTreeMap<(ClientIndex, Ticket), Asked>,
    chance: Chance,
    /// Clients that the broker cannot be reached from: for how many reasons.
    parted: BTreeMap<ClientIndex, u32>,
    network_back_at: Option<Timestamp>,
    next_cut: Option<Timestamp>,
    twins: BTreeMap<ClientIndex, Timestamp>,
    intruders: BTreeSet<MemberId>,
}

#[derive(Clone, Copy)]
enum Asked {
    Subscription,
    Message(u64),
}

impl Simulation {
    fn new(settings: Settings) -> Result<Self, SimulationError> {
        let mut world = World::default();
        (world.is_traced, world.max_piece) = (false, MAX_PIECE);
        let (seed, keep_alive) = (settings.seed, settings.keep_alive);
        let devices = super::house::devices();
        world.users = devices.iter().map(|device| (device.id.clone(), member::password(seed, &device.id))).collect();
        let mut sim = Sim::new(world, seed)?;
        let home = Home::new(settings, sim.now());
        let mut tickets = BTreeMap::new();
        let mut members = Vec::new();
        for (client, device) in devices.iter().enumerate() {
            let member = sim.add_with(member::config(device, keep_alive), member::parameters(device, seed));
            members.push(member);
            let options = |qos| SubscriptionOptions { qos, ..SubscriptionOptions::default() };
            let filters = member::subscriptions(device);
            let filters: Vec<_> = filters.iter().map(|(filter, qos)| (filter.as_filter(), options(*qos))).collect();
            if !filters.is_empty() {
                let ticket = sim.act(member, |client, now| client.subscribe(now, &filters, Properties::EMPTY))?;
                tickets.insert((client, ticket), Asked::Subscription);
            }
        }
        Ok(Self {
            clients: members.iter().enumerate().map(|(client, member)| (*member, client)).collect(),
            sim,
            home,
            members,
            tickets,
            chance: Chance::new(seed ^ 0x5EED),
            parted: BTreeMap::new(),
            network_back_at: None,
            next_cut: None,
            twins: BTreeMap::new(),
            intruders: BTreeSet::new(),
        })
    }

    /// Lets time pass until then or until the house says that it is enough.
    fn run(&mut self, end: Timestamp, is_enough: impl Fn(&Home) -> bool) {
        while self.sim.now() < end && !is_enough(&self.home) {
            let own = [self.network_back_at, self.next_cut].into_iter().flatten();
            let next = own.chain(self.twins.values().copied()).fold(self.home.poll_timeout(), Timestamp::min);
            for member in self.sim.run_until_told(next.min(end)) {
                for event in self.sim.take_events(member) {
                    self.handle_event(member, event);
                }
            }
            let now = self.sim.now();
            if self.home.poll_timeout() <= now {
                self.home.handle_timeout(now);
            }
            self.go_on(now);
            while let Some(command) = self.home.poll_command() {
                self.perform(command);
            }
        }
    }

    fn handle_event(&mut self, member: MemberId, event: Event) {
        let now = self.sim.now();
        let Some(client) = self.clients.get(&member).copied() else { return self.handle_intruder(member, &event) };
        match event {
            Event::Connected(connected) => self.home.handle_connected(now, client, connected.session),
            Event::Disconnected(end) => self.home.handle_disconnected(now, client, &end.to_string()),
            Event::Message(inbound) => self.home.handle_message(now, client, &inbound),
            Event::Completed { ticket, outcome } => match self.tickets.remove(&(client, ticket)) {
                Some(Asked::Message(number)) => self.home.handle_outcome(now, client, number, &outcome),
                Some(Asked::Subscription) => self.home.handle_subscribed(now, client),
                None => {}
            },
            _ => {}
        }
    }

    fn handle_intruder(&mut self, member: MemberId, event: &Event) {
        if let Event::Disconnected(end) = event {
            let now = self.sim.now();
            self.home.note(now, "error", None, &format!("somebody was sent away: {end}"));
            self.home.trace(now, self.members.len(), &end.to_string());
            if self.intruders.remove(&member) {
                self.sim.act(member, |client, now| client.close(now, now));
            }
        }
    }

    /// What breaks again and again, and what is over.
    fn go_on(&mut self, now: Timestamp) {
        if self.network_back_at.take_if(|at| *at <= now).is_some() {
            (0..self.members.len()).for_each(|client| self.join(client));
        }
        if self.next_cut.is_some_and(|at| at <= now) {
            let unlucky = self.chance.index(self.members.len());
            if let Some(member) = self.members.get(unlucky) {
                self.sim.cut(*member);
            }
            self.next_cut = Some(now.saturating_add(self.chance.millis(CUTS.0, CUTS.1)));
        }
        let due: Vec<ClientIndex> =
            self.twins.iter().filter(|(_, at)| **at <= now).map(|(client, _)| *client).collect();
        for client in due {
            if let Some(member) = self.members.get(client) {
                self.sim.connect_again(*member);
            }
            self.twins.insert(client, now.saturating_add(self.chance.millis(TWIN.0, TWIN.1)));
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Publish { client, number, message } => {
                let Some(member) = self.members.get(client) else { return };
                let sent = self.sim.act(*member, |core, now| core.publish(now, message));
                match (sent, number) {
                    (Ok(ticket), Some(number)) => drop(self.tickets.insert((client, ticket), Asked::Message(number))),
                    (Err(_), Some(number)) => {
                        let outcome = Outcome::Dropped(DropReason::Newest);
                        self.home.handle_outcome(self.sim.now(), client, number, &outcome);
                    }
                    (_, None) => {}
                }
            }
            Command::Sleep(client) => self.with(client, Sim::sleep),
            Command::Wake(client) => self.with(client, Sim::wake),
            Command::Break(breakage) => self.break_it(breakage),
        }
    }

    fn with(&mut self, client: ClientIndex, work: impl FnOnce(&mut Sim, MemberId)) {
        if let Some(member) = self.members.get(client) {
            work(&mut self.sim, *member);
        }
    }

    fn part(&mut self, client: ClientIndex) {
        *self.parted.entry(client).or_default() += 1;
        self.with(client, |sim, member| sim.partition(&[member]));
    }

    fn join(&mut self, client: ClientIndex) {
        let Some(reasons) = self.parted.get_mut(&client) else { return };
        *reasons = reasons.saturating_sub(1);
        if *reasons == 0 {
            self.parted.remove(&client);
            self.with(client, |sim, member| sim.heal(&[member]));
        }
    }

    fn break_it(&mut self, breakage: Breakage) {
        let now = self.sim.now();
        match breakage {
            Breakage::Unplug(client) => {
                self.with(client, |sim, member| sim.half_open(member, End::Client));
                self.part(client);
            }
            Breakage::Hold(client) => self.part(client),
            Breakage::PlugIn(client) | Breakage::LetGo(client) => self.join(client),
            Breakage::StopReading(client) => {
                self.with(client, |sim, member| sim.stall(member, End::Client, Duration::from_secs(3_600)));
            }
            Breakage::ReadOn(client) => self.with(client, |sim, member| sim.stall(member, End::Client, Duration::ZERO)),
            Breakage::Cut(is_cut) => self.next_cut = is_cut.then_some(now),
            Breakage::AddTwin(client) => drop(self.twins.insert(client, now)),
            Breakage::RemoveTwin(client) => drop(self.twins.remove(&client)),
            Breakage::Intrude(client) => {
                let Some(device) = self.home.devices().get(client) else { return };
                let mut parameters = member::parameters(device, self.home.settings().seed);
                parameters.password = Some("let me in".into());
                let member = self.sim.add_with(member::config(device, self.home.settings().keep_alive), parameters);
                self.intruders.insert(member);
            }
            Breakage::Restart(duration) => {
                for client in 0..self.members.len() {
                    self.with(client, Sim::cut);
                    self.part(client);
                }
                self.network_back_at = Some(now.saturating_add(duration));
            }
        }
    }
}
