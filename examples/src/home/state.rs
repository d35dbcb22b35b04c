//! The whole house without sockets and clock: devices, rules, world, ledger, faults.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use damselfly_client::{InboundMessage, Outcome, SessionStatus};
use damselfly_codec::{Properties, QoS};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{KeyedState, TopicName};

use super::actor::{Actor, Body, Context, Effect};
use super::chance::Chance;
use super::device;
use super::faults::{Breakage, Faults, Times};
use super::feed::Feed;
use super::house::{Device, Kind, devices};
use super::ledger::{ClientIndex, Ledger, Totals};
use super::member;
use super::rules::{self, DEFAULT_RULES, Engine, RuleError};
use super::value::{Payload, Value};
use super::world::{STEP, World};

/// What a house is like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// All chance comes from it.
    pub seed: u64,
    /// The devices' passwords are made from it: nobody should be able to guess it where others can reach the broker.
    /// Default: the seed.
    pub secret: u64,
    /// How long a day takes. Default: 24 minutes.
    pub day: Duration,
    /// The Keep Alive of lamps and of the phone in seconds: half as long again without a word, and the will comes.
    /// Default: 4.
    pub keep_alive: u16,
    /// How long faults last.
    pub times: Times,
    /// How long a client has to be connected before what it does not have counts as lost. Default: 15 s.
    pub grace: Duration,
    /// How long the first fault lets wait that happens without a button, and then the longest time from one to the next;
    /// `None` leaves it to the buttons. Default: `None`.
    pub faults_within: Option<Duration>,
    /// Whether a number is kept for all that happens: [`Home::hash`]. Default: false.
    pub is_hashed: bool,
}

impl Settings {
    /// The defaults with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            secret: seed,
            day: Duration::from_secs(24 * 60),
            keep_alive: 4,
            times: Times::default(),
            grace: Duration::from_secs(15),
            faults_within: None,
            is_hashed: false,
        }
    }
}

/// What a driver has to do, in order.
#[derive(Clone, Debug)]
pub enum Command {
    /// Hand this message to the client, and tell its outcome with the number.
    Publish {
        /// Which client.
        client: ClientIndex,
        /// Its number, for QoS 1 and 2.
        number: Option<u64>,
        /// The message.
        message: Message,
    },
    /// Disconnect the client, and let it make no connection.
    Sleep(ClientIndex),
    /// Let it connect.
    Wake(ClientIndex),
    /// Break or mend something.
    Break(Breakage),
}

/// The house: every method may be called at any time; what is to be done comes out of [`poll_command`](Self::poll_command).
pub struct Home {
    pub(super) settings: Settings,
    pub(super) started: Timestamp,
    pub(super) devices: Vec<Device>,
    by_id: BTreeMap<String, ClientIndex>,
    pub(super) members: Vec<Member>,
    world: World,
    pub(super) ledger: Ledger,
    pub(super) engine: Engine,
    pub(super) rules_file: Option<String>,
    pub(super) rules_error: Option<String>,
    pub(super) faults: Faults,
    pub(super) feed: Feed,
    pub(super) commands: VecDeque<Command>,
    pub(super) chance: Chance,
    pub(super) next_step: Timestamp,
    pub(super) ticks: u64,
    pub(super) next_tick: Timestamp,
    /// When something breaks without a button.
    pub(super) next_fault: Option<Timestamp>,
    pub(super) deck: Vec<super::FaultName>,
    pub(super) sleeper_command: Option<(ClientIndex, Timestamp)>,
    /// The network goes at that time, for so long: who asked for it has his answer by then.
    pub(super) outage: Option<(Timestamp, Duration)>,
    effects: Vec<Effect>,
    hash: u64,
}

/// What is known of a client.
pub(super) struct Member {
    actor: Box<dyn Actor>,
    last_number: u64,
    in_flight: usize,
    pub(super) is_connected: bool,
    radio: Radio,
    /// Without power.
    pub(super) is_dead: bool,
}

/// Of a device on a battery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Radio {
    On,
    /// It sleeps as soon as all is acknowledged.
    Leaving,
    Off,
}

impl Home {
    /// A house that begins now, with the rules it comes with.
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        let devices = devices();
        let mut chance = Chance::new(settings.seed);
        let world = World::new(chance.next(), settings.day, now);
        let member = |device: &Device| Member {
            actor: device::actor(device, now, chance.millis(0, 1_000)),
            last_number: 0,
            in_flight: 0,
            is_connected: false,
            radio: Radio::On,
            is_dead: false,
        };
        let members = devices.iter().map(member).collect();
        let by_id = devices.iter().enumerate().map(|(client, device)| (device.id.clone(), client)).collect();
        let mut home = Self {
            ledger: Ledger::new(devices.len(), settings.grace),
            faults: Faults::new(settings.times),
            next_fault: settings.faults_within.map(|within| now.saturating_add(within)),
            settings,
            started: now,
            by_id,
            devices,
            members,
            world,
            engine: Engine::default(),
            rules_file: None,
            rules_error: None,
            feed: Feed::default(),
            commands: VecDeque::new(),
            chance,
            next_step: now.saturating_add(STEP),
            ticks: 0,
            next_tick: now,
            deck: Vec::new(),
            sleeper_command: None,
            outage: None,
            effects: Vec::new(),
            hash: 0,
        };
        // The file that the program comes with has no mistake, as a test says.
        let _ = home.set_rules(now, DEFAULT_RULES, None);
        home
    }

    /// All clients, each by its place.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// What it is like.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the ledger says.
    pub fn totals(&self) -> Totals {
        self.ledger.totals()
    }

    /// The ledger.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A number for all that happened, if [`Settings::is_hashed`].
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether a client has a connection, as far as the house was told.
    pub fn is_connected(&self, client: ClientIndex) -> bool {
        self.members.get(client).is_some_and(|member| member.is_connected)
    }

    /// The place of a client among [`devices`](Self::devices).
    pub fn find(&self, client_id: &str) -> Option<ClientIndex> {
        self.by_id.get(client_id).copied()
    }

    /// Takes the rules of a file. With a mistake the rules before stay.
    pub fn set_rules(&mut self, now: Timestamp, text: &str, file: Option<&str>) -> Result<(), RuleError> {
        self.rules_file = file.map(str::to_owned);
        let parsed = rules::parse(text);
        self.rules_error = parsed.as_ref().err().map(ToString::to_string);
        let result = parsed.map(|rules| self.engine.set_rules(now, rules));
        match &self.rules_error {
            None => self.note(now, "rule", None, "the rules were read"),
            Some(error) => self.note(now, "error", Some("rules"), &format!("the rules stay as they were: {error}")),
        }
        self.tell_rules(now);
        result
    }

    /// The broker has granted a client's subscriptions.
    pub fn handle_subscribed(&mut self, now: Timestamp, client: ClientIndex) {
        let Some(device) = self.devices.get(client) else { return };
        self.ledger.subscribed(client, member::subscriptions(device));
        self.trace(now, client, "subscribed");
    }

    /// A client has a connection.
    pub fn handle_connected(&mut self, now: Timestamp, client: ClientIndex, session: SessionStatus) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.is_connected = true;
        member.radio = Radio::On;
        let is_battery = self.devices.get(client).is_some_and(Device::is_battery);
        self.ledger.connected(now, client);
        self.trace(now, client, "connected");
        let text = if is_battery { "is awake" } else { "is connected" };
        let id = self.id(client);
        self.note(now, "connected", Some(&id), text);
        if session == SessionStatus::Lost {
            self.ledger.session_lost(client);
            self.note(now, "error", Some(&id), "the broker has forgotten its session");
        }
        self.ask(now, client, |actor, context| actor.handle_connected(context));
        if self.devices.get(client).is_some_and(|device| device.kind == Kind::Feed) {
            self.tell_all(now);
        }
    }

    /// A client's connection is gone.
    pub fn handle_disconnected(&mut self, now: Timestamp, client: ClientIndex, why: &str) {
        let Some(member) = self.members.get_mut(client) else { return };
        let was_connected = std::mem::take(&mut member.is_connected);
        let is_asleep = member.radio == Radio::Off;
        self.ledger.disconnected(client);
        self.trace(now, client, why);
        let id = self.id(client);
        if is_asleep {
            self.note(now, "asleep", Some(&id), "sleeps");
        } else if was_connected {
            self.note(now, "disconnected", Some(&id), why);
        }
    }

    /// A client was given a message.
    pub fn handle_message(&mut self, now: Timestamp, client: ClientIndex, inbound: &InboundMessage) {
        let message = &inbound.message;
        let (topic, qos, is_old) = (message.topic(), message.qos(), message.retain());
        if self.settings.is_hashed {
            let hash = KeyedState::new(0).hash_bytes(message.payload());
            self.trace(now, client, &format!("{topic} {qos} {is_old} {hash}"));
        }
        let Some(device) = self.devices.get(client) else { return };
        self.feed.note_move(device, false, qos, topic.as_str());
        let kind = device.kind;
        if kind == Kind::Feed && topic.as_str().starts_with("house/break/") {
            return self.handle_request(now, client, inbound);
        }
        let payload = if message.payload().first() == Some(&b'{') { Payload::read(message.payload()) } else { None };
        let Some(payload) = payload else { return };
        let from = payload.from.as_ref().and_then(|from| self.by_id.get(from)).copied();
        if let (Some(number), Some(from), false) = (payload.number, from, is_old) {
            self.ledger.delivered(client, from, number, topic, qos);
        }
        match kind {
            Kind::Rules => {
                self.engine.handle_message(now, topic, &payload.value, is_old);
                self.keep_rules(now);
            }
            Kind::Feed => {
                if payload.value == Value::text("offline") && !is_old {
                    self.note(now, "will", payload.from.as_deref(), "its will says that it is gone");
                }
            }
            _ => self.ask(now, client, |actor, context| {
                actor.handle_message(context, topic.as_str(), &payload, is_old);
            }),
        }
    }

    /// A numbered message of a client has its outcome.
    pub fn handle_outcome(&mut self, now: Timestamp, client: ClientIndex, number: u64, outcome: &Outcome) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.in_flight = member.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Acknowledged { .. } => self.ledger.acknowledged(now, client, number),
            outcome => {
                self.ledger.given_up(client, number);
                let id = self.id(client);
                self.note(now, "error", Some(&id), &format!("message {number}: {outcome}"));
            }
        }
        self.trace(now, client, "outcome");
        self.sleep_if_possible(client);
    }

    /// Something happened that the page should show; the kinds are those of `house/events`.
    pub fn note(&mut self, now: Timestamp, kind: &str, client: Option<&str>, text: &str) {
        self.feed.note_event(now.saturating_since(self.started).as_millis(), kind, client, text);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Timestamp {
        let actors =
            self.members.iter().filter(|member| !member.is_dead).filter_map(|member| member.actor.poll_timeout());
        let others = [self.engine.poll_timeout(), self.faults.poll_timeout(), self.next_fault];
        let sleeper = self.sleeper_command.map(|(_, at)| at);
        let outage = self.outage.map(|(at, _)| at);
        let all = actors.chain(others.into_iter().flatten()).chain(sleeper).chain(outage);
        all.fold(self.next_step.min(self.next_tick), Timestamp::min)
    }

    /// The time asked for has come.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.next_step <= now {
            self.next_step = now.saturating_add(STEP);
            self.world.step(now);
            for client in 0..self.members.len() {
                self.ask(now, client, |actor, context| actor.handle_step(context));
            }
            self.ledger.sweep(now);
            self.remind(now);
        }
        for client in 0..self.members.len() {
            let due = |member: &Member| member.actor.poll_timeout().is_some_and(|at| at <= now);
            if self.members.get(client).is_some_and(due) {
                self.ask(now, client, |actor, context| actor.handle_timeout(context));
            }
        }
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
            self.keep_rules(now);
        }
        self.handle_faults(now);
        if self.next_tick <= now {
            self.tick(now);
        }
    }

    /// What a driver has to do next.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    pub(super) fn id(&self, client: ClientIndex) -> String {
        self.devices.get(client).map(|device| device.id.clone()).unwrap_or_default()
    }

    pub(super) fn trace(&mut self, now: Timestamp, client: ClientIndex, what: &str) {
        if self.settings.is_hashed {
            let line = format!("{now} {client} {what}");
            self.hash = KeyedState::new(self.hash).hash_bytes(line.as_bytes());
        }
    }

    /// Lets an actor do something, and does what it wants.
    pub(super) fn ask(
        &mut self,
        now: Timestamp,
        client: ClientIndex,
        work: impl FnOnce(&mut dyn Actor, &mut Context<'_>),
    ) {
        let (Some(member), Some(device)) = (self.members.get_mut(client), self.devices.get(client)) else { return };
        if member.is_dead {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        work(&mut *member.actor, &mut Context { now, device, world: &mut self.world, effects: &mut effects });
        for effect in effects.drain(..) {
            self.perform(now, client, effect);
        }
        self.effects = effects;
        self.sleep_if_possible(client);
    }

    fn perform(&mut self, now: Timestamp, client: ClientIndex, effect: Effect) {
        match effect {
            Effect::Publish { topic, body, qos, retain } => self.publish(now, client, &topic, body, qos, retain),
            Effect::Sleep => self.turn(client, Radio::Leaving),
            Effect::Wake => {
                self.turn(client, Radio::On);
                self.commands.push_back(Command::Wake(client));
            }
        }
    }

    fn turn(&mut self, client: ClientIndex, radio: Radio) {
        if let Some(member) = self.members.get_mut(client) {
            member.radio = radio;
        }
    }

    fn sleep_if_possible(&mut self, client: ClientIndex) {
        let Some(member) = self.members.get_mut(client) else { return };
        if member.radio == Radio::Leaving && member.in_flight == 0 {
            member.radio = Radio::Off;
            self.commands.push_back(Command::Sleep(client));
        }
    }

    /// A client says something. What nobody keeps is not said without a connection.
    pub(super) fn publish(
        &mut self,
        now: Timestamp,
        client: ClientIndex,
        topic: &str,
        body: Body,
        qos: QoS,
        retain: bool,
    ) {
        let (Some(member), Some(device)) = (self.members.get_mut(client), self.devices.get(client)) else { return };
        let Ok(name) = TopicName::new(topic) else { return };
        let is_numbered = qos != QoS::AtMostOnce;
        if !is_numbered && !member.is_connected {
            return;
        }
        let number = is_numbered.then(|| {
            member.last_number += 1;
            member.in_flight += 1;
            member.last_number
        });
        let payload = match body {
            Body::Value(value) => Payload::write(&value, number, &device.id).into_bytes(),
            Body::Bytes(bytes) => bytes,
        };
        if device.kind != Kind::Feed || is_numbered {
            self.feed.note_move(device, true, qos, topic);
        }
        if let Some(number) = number {
            self.ledger.published(client, number, name, qos);
        }
        let message = Message::compose(name, &payload, qos, retain, Properties::EMPTY, now);
        self.commands.push_back(Command::Publish { client, number, message });
    }
}
