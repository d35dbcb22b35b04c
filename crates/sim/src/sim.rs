//! The simulation: one broker, clients, links between them, one clock.

use core::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, binary_heap::PeekMut};
use std::time::Duration;

use damselfly_broker::{Broker, CommitId as BrokerCommitId, ConfigError, QuestionId};
use damselfly_client::{Client, CommitId, Config, ConnectParameters, Event, Refused, Ticket, UsageError};
use damselfly_codec::{Properties, QoS, SubscriptionOptions};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{KeyedState, TopicFilter, TopicName};

use crate::{
    Fault, Feature, StartError, World,
    client_core::ClientCore,
    flight::{Memory, RecordedBroker, RecordedClient, Tape},
    link::{Link, Piece, Way},
    numbered::{Number, Numbered},
    random::{Random, micros},
    store::Store,
    trace::Trace,
    watch::Watch,
};

/// A client of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub(crate) usize);

/// One broker core and its clients in a world of its own: time passes only when it is told to, and everything that
/// happens follows from the seed.
///
/// ```
/// use core::time::Duration;
/// use damselfly_client::{Config, Event};
/// use damselfly_codec::QoS;
/// use damselfly_sim::{Sim, World};
/// use damselfly_topic::{TopicFilter, TopicName};
///
/// let mut sim = Sim::new(World::default(), 7)?;
/// let alice = sim.add(Config::new("alice"));
/// let bob = sim.add(Config::new("bob"));
/// sim.subscribe(bob, TopicFilter::new("home/+")?, QoS::ExactlyOnce)?;
/// sim.run_for(Duration::from_secs(1));
///
/// sim.publish(alice, TopicName::new("home/lamp")?, b"on", QoS::ExactlyOnce)?;
/// sim.run_for(Duration::from_secs(1));
///
/// let messages = sim.take_events(bob).into_iter().filter(|event| matches!(event, Event::Message(_)));
/// assert_eq!(messages.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sim {
    pub(crate) world: World,
    pub(crate) random: Random,
    pub(crate) now: Timestamp,
    pub(crate) broker: RecordedBroker,
    broker_recording: Option<Memory>,
    pub(crate) members: Vec<Member>,
    pub(crate) links: Numbered<Link>,
    pub(crate) agenda: BinaryHeap<Entry>,
    /// Of links and of entries in the agenda: never used twice.
    pub(crate) last_number: u64,
    pub(crate) trace: Trace,
    pub(crate) watch: Option<Watch>,
    /// When the first of the clients wants to be told the time, as of when all were quiet; the end of time is never.
    pub(crate) client_timeout: Timestamp,
    /// Since somebody last asked, a client told its application something.
    pub(crate) has_events: bool,
    /// For bytes on their way from a core to its link.
    pub(crate) scratch: Vec<u8>,
    /// That of the world, in microseconds.
    pub(crate) latency: (u64, u64),
    pub(crate) faults: BTreeMap<Fault, u64>,
    pub(crate) features: BTreeMap<Feature, u64>,
    /// When the last journal group of the broker is stored.
    pub(crate) last_commit: Timestamp,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the client's part of the world")]
pub(crate) struct Member {
    pub(crate) name: Box<str>,
    pub(crate) config: Config,
    pub(crate) client: ClientCore,
    /// Of the process that runs.
    pub(crate) recording: Option<Memory>,
    pub(crate) parameters: ConnectParameters,
    /// The link the client believes in.
    pub(crate) link: Option<Number>,
    pub(crate) events: Vec<Event>,
    /// Processes before this one: what was planned for them does not happen.
    pub(crate) crashes: u32,
    pub(crate) is_down: bool,
    pub(crate) is_partitioned: bool,
    /// It connects when it wakes.
    pub(crate) is_asleep: bool,
    /// `None` without an outbox.
    pub(crate) store: Option<Store>,
    /// When the last group that was written is synced.
    pub(crate) last_sync: Timestamp,
    pub(crate) untold_messages: usize,
    /// The payload of the will says which connection it is of.
    pub(crate) has_numbered_wills: bool,
    pub(crate) start_error: Option<StartError>,
}

/// A client's first process, or one of a client without a store, and its recording if there is one.
pub(crate) fn start(config: Config, seed: u64, is_recorded: bool) -> (RecordedClient, Option<Memory>) {
    if !is_recorded {
        return (Client::new(config, seed).into(), None);
    }
    let (tape, recording) = Tape::in_memory();
    (RecordedClient::new(config, seed, tape), Some(recording))
}

/// What is planned, the next one first.
#[derive(Debug)]
pub(crate) struct Entry {
    at: Timestamp,
    number: u64,
    pub(crate) action: Action,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // A heap gives its greatest entry.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// What happens at a point in time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Connect {
        member: MemberId,
        crashes: u32,
    },
    /// The first of the pieces under way arrives.
    Arrive {
        link: Number,
        way: Way,
    },
    /// This end of the link learns that it is gone.
    Notice {
        link: Number,
        way: Way,
    },
    Cut {
        link: Number,
    },
    /// A partition is over.
    LetGo {
        link: Number,
    },
    /// This end of the link reads again.
    Read {
        link: Number,
        way: Way,
    },
    Synced {
        member: MemberId,
        crashes: u32,
        commit: CommitId,
    },
    Start(MemberId),
    /// Of the broker.
    Committed(BrokerCommitId),
    Answered {
        question: QuestionId,
        is_welcome: bool,
    },
}

impl Member {
    pub(crate) fn has_to_send(&self) -> bool {
        self.client.get().transmit(&mut [&[]]) > 0
    }
}

impl Sim {
    /// A world with a broker and no clients, one second after the epoch.
    ///
    /// # Errors
    ///
    /// What the broker says about its config.
    pub fn new(world: World, seed: u64) -> Result<Self, ConfigError> {
        let mut random = Random::new(seed);
        let (config, broker_seed) = (world.broker.clone(), random.next());
        let (broker, broker_recording) = if world.is_recorded {
            let (tape, recording) = Tape::in_memory();
            (RecordedBroker::new(config, broker_seed, tape)?, Some(recording))
        } else {
            (Broker::new(config, broker_seed)?.into(), None)
        };
        let trace = Trace::new(world.is_traced);
        let latency = (micros(world.latency.0), micros(world.latency.1));
        let watch = world.is_watched.then(Watch::default);
        Ok(Self {
            world,
            random,
            now: Timestamp::from_secs(1),
            broker,
            broker_recording,
            members: Vec::new(),
            links: Numbered::new(),
            agenda: BinaryHeap::new(),
            last_number: 0,
            trace,
            watch,
            client_timeout: Timestamp::MAX,
            has_events: false,
            scratch: Vec::new(),
            latency,
            faults: BTreeMap::new(),
            features: BTreeMap::new(),
            last_commit: Timestamp::ZERO,
        })
    }

    /// Adds an anonymous client, which begins to connect.
    pub fn add(&mut self, config: Config) -> MemberId {
        self.add_with(config, ConnectParameters::default())
    }

    /// Adds a client that connects with these parameters each time.
    pub fn add_with(&mut self, config: Config, parameters: ConnectParameters) -> MemberId {
        let member = MemberId(self.members.len());
        let name = config.client_id.clone();
        let store = config.outbox.map(|_| Store::default());
        let seed = self.random.next();
        let (client, recording) = start(config.clone(), seed, self.world.is_recorded);
        self.members.push(Member {
            name,
            config,
            client: ClientCore::new(client),
            recording,
            parameters,
            link: None,
            events: Vec::new(),
            crashes: 0,
            is_down: false,
            is_partitioned: false,
            is_asleep: false,
            store,
            last_sync: self.now,
            untold_messages: 0,
            has_numbered_wills: false,
            start_error: None,
        });
        self.settle();
        member
    }

    /// The time.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// A client.
    ///
    /// # Panics
    ///
    /// If the client belongs to another simulation.
    #[expect(clippy::indexing_slicing, reason = "members are never removed")]
    pub fn client(&self, member: MemberId) -> &Client {
        self.members[member.0].client.get()
    }

    /// What the client connects with from its next connection on.
    pub fn set_parameters(&mut self, member: MemberId, parameters: ConnectParameters) {
        if let Some(member) = self.members.get_mut(member.0) {
            member.parameters = parameters;
        }
    }

    /// Lets a client do something, then performs what it asks for. What a client is asked whose process is
    /// [down](Self::is_up) is lost with it.
    ///
    /// # Panics
    ///
    /// If the client belongs to another simulation.
    #[expect(clippy::indexing_slicing, reason = "members are never removed")]
    pub fn act<T>(&mut self, member: MemberId, work: impl FnOnce(&mut RecordedClient, Timestamp) -> T) -> T {
        let result = work(self.members[member.0].client.touch(), self.now);
        self.settle();
        result
    }

    /// A client says DISCONNECT and connects no more until [`Sim::wake`], as a device that sleeps: its session and what
    /// waits in the client stay.
    pub fn sleep(&mut self, member: MemberId) {
        let Some(sleeper) = self.members.get_mut(member.0) else { return };
        sleeper.is_asleep = true;
        self.trace.note(self.now, format_args!("{} falls asleep", sleeper.name));
        self.act(member, RecordedClient::disconnect);
    }

    /// A client that sleeps connects again, at once.
    pub fn wake(&mut self, member: MemberId) {
        let Some(sleeper) = self.members.get_mut(member.0).filter(|member| member.is_asleep) else { return };
        sleeper.is_asleep = false;
        self.trace.note(self.now, format_args!("{} wakes", sleeper.name));
        let crashes = sleeper.crashes;
        self.plan(self.now, Action::Connect { member, crashes });
    }

    /// A client publishes a message without properties, not retained.
    ///
    /// # Errors
    ///
    /// As [`Client::publish`].
    pub fn publish(
        &mut self,
        member: MemberId,
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
    ) -> Result<Ticket, Box<Refused>> {
        let message = Message::compose(topic, payload, qos, false, Properties::EMPTY, self.now);
        self.act(member, |client, now| client.publish(now, message)).map_err(Box::new)
    }

    /// A client subscribes to one filter.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub fn subscribe(&mut self, member: MemberId, filter: TopicFilter<'_>, qos: QoS) -> Result<Ticket, UsageError> {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        self.act(member, |client, now| client.subscribe(now, &[(filter, options)], Properties::EMPTY))
    }

    /// What a client told its application since the last call.
    pub fn take_events(&mut self, member: MemberId) -> Vec<Event> {
        self.members.get_mut(member.0).map(|member| std::mem::take(&mut member.events)).unwrap_or_default()
    }

    /// The same, if there are any, into a buffer that was empty; the client goes on with that one.
    pub(crate) fn swap_events(&mut self, member: MemberId, events: &mut Vec<Event>) {
        if let Some(member) = self.members.get_mut(member.0).filter(|member| !member.events.is_empty()) {
            std::mem::swap(&mut member.events, events);
        }
    }

    /// From now on no connection is cut, except those that are already on the way to it.
    pub const fn calm_down(&mut self) {
        self.world.cut_within = None;
    }

    /// What happened so far, a line each: two runs with the same seed and the same calls have the same trace, byte for
    /// byte.
    pub fn trace(&self) -> &str {
        self.trace.text()
    }

    /// A number for the [trace](Self::trace), to compare long ones.
    pub fn trace_hash(&self) -> u64 {
        KeyedState::new(0).hash_bytes(self.trace().as_bytes())
    }

    /// The first thing on a link that breaks a rule about packets: an identifier that is live twice, more in flight than
    /// the Receive Maximum, a packet over the Maximum Packet Size, a PUBLISH after its PUBREC, a will that is not due, a
    /// Message Expiry Interval that did not count down, bytes that are no packet, an end that says the other one broke a
    /// rule. `None` if there is none, or nobody [watches](World::is_watched).
    pub fn violation(&self) -> Option<&str> {
        self.watch.as_ref().and_then(Watch::violation)
    }

    /// What the broker was told so far, in a [recorded](World::is_recorded) world: the text of a
    /// [`Recording`](crate::flight::Recording), which is empty in others.
    pub fn broker_recording(&self) -> String {
        self.broker_recording.as_ref().map(Memory::text).unwrap_or_default()
    }

    /// The same of a client: of its process that runs, or was the last to.
    pub fn client_recording(&self, member: MemberId) -> String {
        let recording = self.members.get(member.0).and_then(|member| member.recording.as_ref());
        recording.map(Memory::text).unwrap_or_default()
    }

    /// Which faults took effect so far, and how often.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        self.faults.iter().map(|(fault, count)| (*fault, *count))
    }

    /// Ends a session, as an operator would: false if there is none.
    pub fn remove_session(&mut self, client_id: &str) -> bool {
        let is_removed = self.broker.remove_session(self.now, client_id);
        self.settle();
        is_removed
    }

    /// From now on the payload of a client's will says which connection it is of.
    pub(crate) fn number_wills(&mut self, member: MemberId) {
        if let Some(member) = self.members.get_mut(member.0) {
            member.has_numbered_wills = true;
        }
    }

    /// Until when a message with this payload may be given to the broker.
    pub(crate) fn note_expiry(&mut self, payload: &[u8], expires_at: Timestamp) {
        if let Some(watch) = &mut self.watch {
            watch.published(payload, expires_at);
        }
    }

    /// The payloads of the wills that were due by now.
    pub(crate) fn due_wills(&self) -> impl Iterator<Item = &[u8]> {
        self.watch.iter().flat_map(|watch| watch.due_wills(self.now))
    }

    /// When the broker took a QoS 1 message with this payload, each time, in numbers that rise from one to the next.
    pub(crate) fn taken_at(&self, payload: &[u8]) -> &[u64] {
        self.watch.as_ref().map_or(&[], |watch| watch.taken_at(payload))
    }

    /// How many messages the broker has dropped for a client.
    pub(crate) fn dropped_for(&self, member: MemberId) -> u64 {
        let session = self.members.get(member.0).and_then(|member| self.broker.session(&member.name));
        session.map_or(0, |session| session.dropped)
    }

    /// How often the client's process ended.
    pub(crate) fn crashes(&self, member: MemberId) -> u32 {
        self.members.get(member.0).map_or(0, |member| member.crashes)
    }

    pub(crate) fn note_feature(&mut self, feature: Feature) {
        *self.features.entry(feature).or_default() += 1;
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now.saturating_add(duration);
        while self.step_until(until) {}
        self.now = until;
    }

    /// Lets time pass until then, or until a client has something to tell its application that nobody was shown: all
    /// clients that have something to tell. For applications that answer at once; [`Sim::take_events`] says what it is.
    pub fn run_until_told(&mut self, until: Timestamp) -> Vec<MemberId> {
        loop {
            if std::mem::take(&mut self.has_events) {
                let members = self.members.iter().enumerate();
                let told = members.filter(|(_, member)| !member.events.is_empty());
                let told: Vec<MemberId> = told.map(|(index, _)| MemberId(index)).collect();
                if !told.is_empty() {
                    return told;
                }
            }
            if !self.step_until(until) {
                self.now = self.now.max(until);
                return Vec::new();
            }
        }
    }

    /// Goes to the next point in time at which something happens, and lets it happen: false if nothing ever will.
    pub fn step(&mut self) -> bool {
        self.step_until(Timestamp::MAX)
    }

    fn step_until(&mut self, until: Timestamp) -> bool {
        let at = self.next_time();
        if at > until || at == Timestamp::MAX {
            return false;
        }
        self.now = self.now.max(at);
        self.perform_next();
        if self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.broker.handle_timeout(self.now);
        }
        if self.client_timeout <= self.now {
            for member in &mut self.members {
                if member.client.poll_timeout() <= self.now {
                    member.client.touch().handle_timeout(self.now);
                }
            }
        }
        self.settle();
        true
    }

    fn next_time(&self) -> Timestamp {
        let agenda = self.agenda.peek().map_or(Timestamp::MAX, |entry| entry.at);
        agenda.min(self.broker.poll_timeout().unwrap_or(Timestamp::MAX)).min(self.client_timeout)
    }

    /// What is planned for now, if anything is.
    fn perform_next(&mut self) {
        let now = self.now;
        let Some(mut entry) = self.agenda.peek_mut().filter(|entry| entry.at <= now) else { return };
        let action = entry.action;
        // Of the pieces on one way the agenda holds the first alone: it stays short.
        let next = match action {
            Action::Arrive { link, way } => self.links.get_mut(link).and_then(|link| link.pipe(way).pieces.get(1)),
            _ => None,
        };
        if let Some(next) = next {
            (entry.at, entry.number) = (next.at, next.number);
            drop(entry);
        } else {
            PeekMut::pop(entry);
        }
        self.perform(action);
    }

    pub(crate) fn plan(&mut self, at: Timestamp, action: Action) {
        self.last_number += 1;
        self.agenda.push(Entry { at, number: self.last_number, action });
    }

    /// The first of the pieces on one way.
    pub(crate) fn plan_arrival(&mut self, link: Number, way: Way, piece: &Piece) {
        self.agenda.push(Entry { at: piece.at, number: piece.number, action: Action::Arrive { link, way } });
    }
}
