//! The simulation: one broker, clients, links between them, one clock.

use core::fmt::Write;
use std::collections::BTreeMap;
use std::time::Duration;

use damselfly_broker::{Answer, Broker, ConfigError, ConnectionId, Output as BrokerOutput, Peer};
use damselfly_client::{
    Client, Config, ConnectParameters, Event, Output as ClientOutput, Refused, Ticket, TransportLost, UsageError,
};
use damselfly_codec::{Properties, QoS, SubscriptionOptions};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicName};

use crate::{
    World,
    link::{Link, Way},
    random::Random,
};

/// A client of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(usize);

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
    world: World,
    random: Random,
    now: Timestamp,
    broker: Broker,
    members: Vec<Member>,
    links: BTreeMap<u64, Link>,
    by_connection: BTreeMap<ConnectionId, u64>,
    agenda: BTreeMap<(Timestamp, u64), Action>,
    /// Of links and of entries in the agenda: never used twice.
    last_number: u64,
    trace: String,
}

#[derive(Debug)]
struct Member {
    name: Box<str>,
    client: Client,
    parameters: ConnectParameters,
    /// The link the client believes in.
    link: Option<u64>,
    events: Vec<Event>,
}

/// What happens at a point in time.
#[derive(Debug)]
enum Action {
    Connect(MemberId),
    Arrive {
        link: u64,
        way: Way,
        bytes: Vec<u8>,
    },
    /// This end of the link learns that it is gone.
    Notice {
        link: u64,
        way: Way,
    },
    Cut {
        link: u64,
    },
}

impl Sim {
    /// A world with a broker and no clients, one second after the epoch.
    ///
    /// # Errors
    ///
    /// What the broker says about its config.
    pub fn new(world: World, seed: u64) -> Result<Self, ConfigError> {
        let mut random = Random::new(seed);
        let broker = Broker::new(world.broker.clone(), random.next())?;
        Ok(Self {
            world,
            random,
            now: Timestamp::from_secs(1),
            broker,
            members: Vec::new(),
            links: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            agenda: BTreeMap::new(),
            last_number: 0,
            trace: String::new(),
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
        let client = Client::new(config, self.random.next());
        self.members.push(Member { name, client, parameters, link: None, events: Vec::new() });
        self.settle();
        member
    }

    /// The time.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The broker.
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// A client.
    ///
    /// # Panics
    ///
    /// If the client belongs to another simulation.
    #[expect(clippy::indexing_slicing, reason = "members are never removed")]
    pub fn client(&self, member: MemberId) -> &Client {
        &self.members[member.0].client
    }

    /// Lets a client do something, then performs what it asks for.
    ///
    /// # Panics
    ///
    /// If the client belongs to another simulation.
    #[expect(clippy::indexing_slicing, reason = "members are never removed")]
    pub fn act<T>(&mut self, member: MemberId, work: impl FnOnce(&mut Client, Timestamp) -> T) -> T {
        let result = work(&mut self.members[member.0].client, self.now);
        self.settle();
        result
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

    /// Cuts a client's connection now: bytes under way are lost, and each end notices in its own time.
    pub fn cut(&mut self, member: MemberId) {
        if let Some(link) = self.members.get(member.0).and_then(|member| member.link) {
            self.cut_link(link);
            self.settle();
        }
    }

    /// From now on no connection is cut, except those that are already on the way to it.
    pub const fn calm_down(&mut self) {
        self.world.cut_within = None;
    }

    /// What happened so far, a line each: two runs with the same seed and the same calls have the same trace, byte for
    /// byte.
    pub fn trace(&self) -> &str {
        &self.trace
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now.saturating_add(duration);
        while self.next_time().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// Goes to the next point in time at which something happens, and lets it happen: false if nothing ever will.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.next_time() else { return false };
        self.now = self.now.max(at);
        if let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let action = entry.remove();
            self.perform(action);
        }
        if self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.broker.handle_timeout(self.now);
        }
        for member in &mut self.members {
            if member.client.poll_timeout().is_some_and(|at| at <= self.now) {
                member.client.handle_timeout(self.now);
            }
        }
        self.settle();
        true
    }

    fn next_time(&self) -> Option<Timestamp> {
        let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let clients = self.members.iter().filter_map(|member| member.client.poll_timeout()).min();
        [agenda, self.broker.poll_timeout(), clients].into_iter().flatten().min()
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect(member) => self.connect(member),
            Action::Arrive { link, way, bytes } => {
                let Some(pipe) = self.links.get_mut(&link).map(|link| link.pipe(way)) else { return };
                pipe.unread.extend_from_slice(&bytes);
                self.hand_in(link, way);
            }
            Action::Notice { link, way } => self.notice(link, way),
            Action::Cut { link } => self.cut_link(link),
        }
    }

    fn connect(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(id.0) else { return };
        let number = self.last_number + 1;
        self.last_number = number;
        let Ok(connection) = self.broker.handle_connection(self.now, Peer::default()) else {
            note(&mut self.trace, self.now, format_args!("{} is not let in", member.name));
            return member.client.handle_transport_lost(self.now, TransportLost::NotOpened);
        };
        note(&mut self.trace, self.now, format_args!("{} connects as link {number}", member.name));
        self.links.insert(number, Link::new(id, connection));
        self.by_connection.insert(connection, number);
        member.link = Some(number);
        member.client.handle_transport_up(self.now, &member.parameters);
        if let Some(longest) = self.world.cut_within {
            let at = self.now.saturating_add(self.random.duration(Duration::ZERO, longest));
            self.plan(at, Action::Cut { link: number });
        }
    }

    /// Gives a receiver what has arrived for it.
    fn hand_in(&mut self, number: u64, way: Way) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let (member, connection) = (link.member, link.connection);
        let pipe = link.pipe(way);
        if pipe.is_lost || pipe.is_paused || pipe.unread.is_empty() {
            return;
        }
        let (consumed, is_paused) = match way {
            Way::ToBroker => {
                let intake = self.broker.handle_input(self.now, connection, &pipe.unread);
                (intake.consumed, intake.paused)
            }
            Way::ToClient => {
                let Some(member) = self.members.get_mut(member.0) else { return };
                let intake = member.client.handle_input(self.now, &pipe.unread);
                (intake.consumed, intake.paused)
            }
        };
        pipe.unread.drain(..consumed.min(pipe.unread.len()));
        pipe.is_paused = is_paused;
    }

    /// One end learns that its connection is gone.
    fn notice(&mut self, number: u64, way: Way) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let pipe = link.pipe(way);
        if std::mem::replace(&mut pipe.is_lost, true) {
            return;
        }
        let (member, connection, is_over) = (link.member, link.connection, link.is_over());
        match way {
            Way::ToBroker => {
                note(&mut self.trace, self.now, format_args!("broker notices the end of link {number}"));
                self.broker.handle_connection_lost(self.now, connection);
                self.by_connection.remove(&connection);
            }
            Way::ToClient => {
                if let Some(member) = self.members.get_mut(member.0).filter(|member| member.link == Some(number)) {
                    note(&mut self.trace, self.now, format_args!("{} notices the end of link {number}", member.name));
                    member.link = None;
                    member.client.handle_transport_lost(self.now, TransportLost::Failed);
                }
            }
        }
        if is_over {
            self.links.remove(&number);
        }
    }

    fn cut_link(&mut self, number: u64) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&number).filter(|link| link.cut_at.is_none()) else { return };
        link.cut_at = Some(now);
        note(&mut self.trace, now, format_args!("link {number} is cut"));
        self.agenda.retain(|_, action| !matches!(action, Action::Arrive { link, .. } if *link == number));
        for way in [Way::ToBroker, Way::ToClient] {
            let notice = self.random.duration(Duration::ZERO, self.world.notice_within);
            self.plan(now.saturating_add(notice), Action::Notice { link: number, way });
        }
    }

    /// Performs what the cores ask for until they ask for nothing more at this time.
    fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(output) = self.broker.poll_output() {
                is_quiet = false;
                self.perform_broker(output);
            }
            for index in 0..self.members.len() {
                while let Some(output) = self.members.get_mut(index).and_then(|member| member.client.poll_output()) {
                    is_quiet = false;
                    self.perform_client(MemberId(index), output);
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn perform_broker(&mut self, output: BrokerOutput) {
        match output {
            BrokerOutput::Transmit(connection) => self.send_from_broker(connection),
            BrokerOutput::Close(connection) => {
                self.send_from_broker(connection);
                if let Some(number) = self.by_connection.get(&connection).copied() {
                    self.close(number, Way::ToBroker);
                }
            }
            BrokerOutput::Resume(connection) => {
                if let Some(number) = self.by_connection.get(&connection).copied() {
                    self.resume(number, Way::ToBroker);
                }
            }
            BrokerOutput::Ask { id, .. } => self.broker.handle_answer(self.now, id, Answer::allow()),
            BrokerOutput::Commit(id) => self.broker.handle_committed(self.now, id),
            BrokerOutput::Event(event) => note(&mut self.trace, self.now, format_args!("broker: {event:?}")),
            // One broker has nobody to talk to, and no participants of its own.
            BrokerOutput::Interest { .. } | BrokerOutput::Forward { .. } | BrokerOutput::Deliver { .. } => {}
        }
    }

    fn perform_client(&mut self, id: MemberId, output: ClientOutput) {
        let Some(member) = self.members.get_mut(id.0) else { return };
        match output {
            ClientOutput::NeedTransport(need) => {
                let at = need.not_before.max(self.now);
                self.plan(at, Action::Connect(id));
            }
            ClientOutput::Transmit => self.send_from_client(id),
            ClientOutput::Close => {
                self.send_from_client(id);
                if let Some(number) = self.members.get(id.0).and_then(|member| member.link) {
                    self.close(number, Way::ToClient);
                }
            }
            ClientOutput::Resume => {
                if let Some(number) = member.link {
                    self.resume(number, Way::ToClient);
                }
            }
            // A store that never fails and never waits.
            ClientOutput::Journal(_) => {}
            ClientOutput::Commit(id) => member.client.handle_committed(self.now, id),
            ClientOutput::Event(event) => {
                note(&mut self.trace, self.now, format_args!("{}: {event:?}", member.name));
                member.events.push(event);
            }
        }
    }

    fn resume(&mut self, number: u64, way: Way) {
        if let Some(link) = self.links.get_mut(&number) {
            link.pipe(way).is_paused = false;
            self.hand_in(number, way);
        }
    }

    /// The end that receives what comes this `way` closes; the other one notices once the last bytes have arrived.
    fn close(&mut self, number: u64, way: Way) {
        let other = match way {
            Way::ToBroker => Way::ToClient,
            Way::ToClient => Way::ToBroker,
        };
        let Some(link) = self.links.get_mut(&number) else { return };
        let at = link.pipe(other).last_arrival.max(self.now);
        self.plan(at, Action::Notice { link: number, way: other });
        self.notice(number, way);
    }

    fn send_from_broker(&mut self, connection: ConnectionId) {
        loop {
            let bytes = take(|chunks| self.broker.transmit(connection, chunks));
            if bytes.is_empty() {
                return;
            }
            self.broker.handle_transmitted(self.now, connection, bytes.len());
            if let Some(number) = self.by_connection.get(&connection).copied() {
                self.send(number, Way::ToClient, &bytes);
            }
        }
    }

    fn send_from_client(&mut self, id: MemberId) {
        loop {
            let Some(member) = self.members.get_mut(id.0) else { return };
            let bytes = take(|chunks| member.client.transmit(chunks));
            if bytes.is_empty() {
                return;
            }
            member.client.handle_transmitted(self.now, bytes.len());
            if let Some(number) = member.link {
                self.send(number, Way::ToBroker, &bytes);
            }
        }
    }

    /// Sends bytes on their way, in pieces.
    fn send(&mut self, number: u64, way: Way, bytes: &[u8]) {
        let now = self.now;
        let (shortest, longest) = self.world.latency;
        let max_piece = u64::try_from(self.world.max_piece).unwrap_or(u64::MAX).max(1);
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = usize::try_from(self.random.between(1, max_piece)).unwrap_or(usize::MAX).min(rest.len());
            let (piece, tail) = rest.split_at(len);
            rest = tail;
            let latency = self.random.duration(shortest, longest);
            let Some(link) = self.links.get_mut(&number).filter(|link| link.cut_at.is_none()) else { return };
            let pipe = link.pipe(way);
            pipe.last_arrival = pipe.last_arrival.max(now.saturating_add(latency));
            let at = pipe.last_arrival;
            note(&mut self.trace, now, format_args!("link {number} {way:?} {len} bytes for {at}"));
            self.plan(at, Action::Arrive { link: number, way, bytes: piece.to_vec() });
        }
    }

    fn plan(&mut self, at: Timestamp, action: Action) {
        self.last_number += 1;
        self.agenda.insert((at, self.last_number), action);
    }
}

/// Copies what a core has to send.
fn take<'a>(transmit: impl FnOnce(&mut [&'a [u8]]) -> usize) -> Vec<u8> {
    let mut chunks = [&[][..]; 64];
    let count = transmit(&mut chunks);
    chunks.get(..count).unwrap_or_default().concat()
}

fn note(trace: &mut String, now: Timestamp, what: core::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(trace, "{now} {what}");
}
