//! The house on real sockets, in real time: each device a client of its own, all by the access point.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use damselfly_client::{CleanStart, ConnectionEnd, DropReason, Event, Outcome};
use damselfly_codec::{Properties, ReasonCode, SubscriptionOptions};
use futures::stream::{FuturesUnordered, SelectAll};
use futures::{Stream, StreamExt};
use tokio::sync::watch;

use super::access_point::Station;
use super::broker::HouseBroker;
use super::faults::Breakage;
use super::house::{Device, Kind};
use super::ledger::ClientIndex;
use super::member;
use super::rules_file::RulesFile;
use super::state::{Command, Home, Settings};
use crate::Clock;
use crate::broker::Network;
use crate::client::{Client, Completion, Drain, Endpoint, Events, Options};

/// How many messages the display takes while it does not read.
const DISPLAY_INBOX: usize = 64;
/// How long clients may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(300);

/// The house while it runs.
pub struct Running {
    /// Its state.
    pub home: Home,
    clock: Clock,
    broker: SocketAddr,
    network: Network,
    lines: Vec<Line>,
    events: SelectAll<Tap>,
    outcomes: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// Clients that are there for a fault alone.
    extras: HashMap<(ClientIndex, Role), Line>,
    wanted: Vec<(ClientIndex, Role)>,
    rules: Option<RulesFile>,
    is_cut: bool,
}

/// One client and its way to the broker.
struct Line {
    client: Client,
    station: Station,
    gate: Gate,
    valve: Arc<Valve>,
}

/// Why a client may not connect.
struct Gate {
    told: watch::Sender<bool>,
    is_asleep: bool,
    is_dead: bool,
}

impl Gate {
    fn set(&self) {
        self.told.send_replace(!self.is_asleep && !self.is_dead);
    }
}

/// What a request came to.
enum Done {
    Published(ClientIndex, u64, Outcome),
    Subscribed(ClientIndex, Outcome),
}

/// Whose events they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Device,
    Twin,
    Intruder,
}

/// The events of a client, unless nobody looks at the moment.
struct Tap {
    client: ClientIndex,
    role: Role,
    events: Events,
    valve: Arc<Valve>,
}

#[derive(Default)]
struct Valve(Mutex<(bool, Option<Waker>)>);

impl Valve {
    fn close(&self, is_closed: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = is_closed;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }

    fn is_closed(&self, context: &TaskContext<'_>) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = Some(context.waker().clone());
        state.0
    }
}

impl Stream for Tap {
    type Item = (ClientIndex, Role, Event);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.valve.is_closed(context) {
            return Poll::Pending;
        }
        let (client, role) = (self.client, self.role);
        let next = Pin::new(&mut self.events).poll_next(context);
        next.map(|event| event.map(|event| (client, role, event)))
    }
}

impl Running {
    /// Starts the clients of the house at its broker, and reads the rules file if there is one.
    pub async fn start(settings: Settings, broker: &HouseBroker, rules: Option<RulesFile>) -> io::Result<Self> {
        let clock = Clock::start();
        let home = Home::new(settings, clock.now());
        let mut running = Self {
            home,
            clock,
            broker: broker.devices,
            network: broker.network.clone(),
            lines: Vec::new(),
            events: SelectAll::new(),
            outcomes: FuturesUnordered::new(),
            extras: HashMap::new(),
            wanted: Vec::new(),
            rules,
            is_cut: false,
        };
        for (client, device) in running.home.devices().to_vec().iter().enumerate() {
            let line = running.open(client, device, Role::Device).await?;
            let filters = member::subscriptions(device);
            if !filters.is_empty() {
                let options = |qos| SubscriptionOptions { qos, ..SubscriptionOptions::default() };
                let filters: Vec<_> = filters.iter().map(|(filter, qos)| (filter.as_filter(), options(*qos))).collect();
                let asked = line.client.subscribe_to_events(&filters, Properties::EMPTY).map_err(io::Error::other)?;
                running.outcomes.push(Box::pin(async move { Done::Subscribed(client, asked.await) }));
            }
            running.lines.push(line);
        }
        running.look_at_rules();
        running.perform();
        Ok(running)
    }

    /// A client on a station of its own.
    async fn open(&mut self, client: ClientIndex, device: &Device, role: Role) -> io::Result<Line> {
        let seed = self.home.settings().seed.wrapping_add(u64::try_from(client).unwrap_or(0));
        let station = Station::open(self.broker, seed).await?;
        station.cut(self.is_cut);
        let endpoint = Endpoint::new(station.address().ip().to_string(), station.address().port());
        let mut config = member::config(device, self.home.settings().keep_alive);
        let mut parameters = member::parameters(device, self.home.settings().secret);
        match role {
            Role::Device => {}
            Role::Twin => (config.adopt_session, config.clean_start) = (true, CleanStart::Never),
            Role::Intruder => parameters.password = Some("let me in".into()),
        }
        let (told, gate) = watch::channel(true);
        let mut options = Options::asking(config, move |_| {
            let (mut gate, endpoint, parameters) = (gate.clone(), endpoint.clone(), parameters.clone());
            async move {
                // An error says that the house is gone.
                gate.wait_for(|is_open| *is_open).await.map_err(io::Error::other)?;
                Ok((endpoint, parameters))
            }
        });
        if device.kind == Kind::Display {
            options.max_waiting_messages = DISPLAY_INBOX;
        }
        let (handle, events) = Client::connect(options);
        let valve = Arc::new(Valve::default());
        self.events.push(Tap { client, role, events, valve: Arc::clone(&valve) });
        Ok(Line { client: handle, station, gate: Gate { told, is_asleep: false, is_dead: false }, valve })
    }

    /// Runs until the condition holds, which is looked at after everything that happens.
    pub async fn run_until(&mut self, mut is_done: impl FnMut(&mut Home) -> bool) {
        while !is_done(&mut self.home) {
            self.turn().await;
        }
    }

    /// Runs until something else happens.
    pub async fn run<T>(&mut self, end: impl Future<Output = T>) -> T {
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                result = &mut end => return result,
                () = self.turn() => {}
            }
        }
    }

    /// The next thing that happens.
    async fn turn(&mut self) {
        let wait = self.clock.until(self.home.poll_timeout());
        let has_outcomes = !self.outcomes.is_empty();
        tokio::select! {
            Some((client, role, event)) = self.events.next() => self.handle_event(client, role, &event),
            Some(done) = self.outcomes.next(), if has_outcomes => self.handle_done(done),
            () = tokio::time::sleep(wait) => {
                let now = self.clock.now();
                self.home.handle_timeout(now);
                self.look_at_rules();
            }
        }
        self.perform();
        for (client, role) in std::mem::take(&mut self.wanted) {
            let Some(device) = self.home.devices().get(client).cloned() else { continue };
            match self.open(client, &device, role).await {
                Ok(line) => drop(self.extras.insert((client, role), line)),
                Err(error) => self.home.note(self.clock.now(), "error", Some(&device.id), &error.to_string()),
            }
        }
    }

    /// A client that was there for a fault says goodbye.
    fn dismiss(&mut self, client: ClientIndex, role: Role) {
        if let Some(line) = self.extras.remove(&(client, role)) {
            let closing = line.client.close(Drain::at_once());
            tokio::spawn(async move {
                closing.await;
                drop(line);
            });
        }
    }

    /// All clients say goodbye, as far as that is possible at once.
    pub async fn stop(self) {
        let clients = self.lines.iter().chain(self.extras.values());
        let closing: Vec<_> = clients.map(|line| line.client.close(Drain::at_once())).collect();
        let _ = tokio::time::timeout(GOODBYE, futures::future::join_all(closing)).await;
    }

    /// Reads the rules file if it has changed.
    pub fn look_at_rules(&mut self) {
        let now = self.clock.now();
        if let Some(rules) = &mut self.rules {
            rules.look(now, &mut self.home);
        }
    }

    fn handle_event(&mut self, client: ClientIndex, role: Role, event: &Event) {
        let now = self.clock.now();
        let id = self.home.devices().get(client).map(|device| device.id.clone()).unwrap_or_default();
        match (role, event) {
            (Role::Device, Event::Connected(connected)) => self.home.handle_connected(now, client, connected.session),
            (Role::Device, Event::Disconnected(end)) => self.home.handle_disconnected(now, client, &end.to_string()),
            (Role::Device | Role::Twin, Event::Message(inbound)) => self.home.handle_message(now, client, inbound),
            (Role::Twin, Event::Connected(_)) => self.home.note(now, "connected", Some(&id), "its twin is connected"),
            (Role::Twin, Event::Disconnected(end)) => {
                self.home.note(now, "disconnected", Some(&id), &format!("its twin: {end}"));
            }
            (Role::Intruder, Event::Disconnected(end)) => {
                let is_refused = matches!(end, ConnectionEnd::Refused { reason_code, .. }
                    if *reason_code == ReasonCode::BadUserNameOrPassword);
                if is_refused {
                    self.home.note(now, "error", Some(&id), &format!("somebody with its name was sent away: {end}"));
                    self.dismiss(client, Role::Intruder);
                }
            }
            _ => {}
        }
    }

    fn handle_done(&mut self, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Published(client, number, outcome) => self.home.handle_outcome(now, client, number, &outcome),
            Done::Subscribed(client, Outcome::Subscribed(results)) if results.iter().all(Result::is_ok) => {
                self.home.handle_subscribed(now, client);
            }
            Done::Subscribed(client, outcome) => {
                let id = self.home.devices().get(client).map(|device| device.id.clone());
                self.home.note(now, "error", id.as_deref(), &format!("its subscriptions: {outcome}"));
            }
        }
    }

    /// Does what the house wants.
    fn perform(&mut self) {
        while let Some(command) = self.home.poll_command() {
            match command {
                Command::Publish { client, number, message } => {
                    let Some(line) = self.lines.get(client) else { continue };
                    let sent = line.client.publish(message).ok();
                    if let Some(number) = number {
                        self.outcomes.push(Box::pin(outcome(client, number, sent)));
                    }
                }
                Command::Sleep(client) => self.change(client, |line| {
                    line.gate.is_asleep = true;
                    line.gate.set();
                    line.client.disconnect();
                }),
                Command::Wake(client) => self.change(client, |line| {
                    line.gate.is_asleep = false;
                    line.gate.set();
                }),
                Command::Break(breakage) => self.break_it(breakage),
            }
        }
    }

    fn change(&mut self, client: ClientIndex, work: impl FnOnce(&mut Line)) {
        if let Some(line) = self.lines.get_mut(client) {
            work(line);
        }
    }

    fn break_it(&mut self, breakage: Breakage) {
        match breakage {
            Breakage::Unplug(client) => self.change(client, |line| {
                line.gate.is_dead = true;
                line.gate.set();
                line.station.lose_power();
            }),
            Breakage::PlugIn(client) => self.change(client, |line| {
                line.gate.is_dead = false;
                line.gate.set();
            }),
            Breakage::Hold(client) => self.change(client, |line| line.station.hold(true)),
            Breakage::LetGo(client) => self.change(client, |line| line.station.hold(false)),
            Breakage::StopReading(client) => self.change(client, |line| line.valve.close(true)),
            Breakage::ReadOn(client) => self.change(client, |line| line.valve.close(false)),
            Breakage::Cut(is_cut) => {
                self.is_cut = is_cut;
                // The program itself has a cable: it has to tell of it.
                let lines = self.home.devices().iter().zip(&self.lines);
                lines.filter(|(device, _)| device.kind != Kind::Feed).for_each(|(_, line)| line.station.cut(is_cut));
            }
            Breakage::AddTwin(client) => self.wanted.push((client, Role::Twin)),
            Breakage::Intrude(client) => self.wanted.push((client, Role::Intruder)),
            Breakage::RemoveTwin(client) => self.dismiss(client, Role::Twin),
            Breakage::Restart(duration) => {
                if let Err(error) = self.network.interrupt(duration) {
                    self.home.note(self.clock.now(), "error", None, &format!("the network stays: {error}"));
                }
            }
        }
    }
}

/// What became of a message, which the client may not have taken.
async fn outcome(client: ClientIndex, number: u64, sent: Option<Completion>) -> Done {
    let outcome = match sent {
        Some(completion) => completion.await,
        None => Outcome::Dropped(DropReason::Newest),
    };
    Done::Published(client, number, outcome)
}
