//! A broker, its clients as byte streams, and virtual time: what every test here plays with.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use damselfly_broker::{
    Answer, Broker, CommitId, Config, ConnectionId, DropReason, Event, LocalDelivery, LocalId, Memory, Output, Peer,
    ProblemInformation, Question, QuestionId, Refused, SessionView, ShardId, SubscriptionView,
};
use damselfly_codec::{
    Ack, AckType, Delivery, Disconnect, Foreign, FrameLimits, Packet, Properties, Property, Publish, ReasonCode,
    Subscribe, SubscriptionOptions, Unsubscribe, Version, split_frame,
};
use damselfly_session::Timestamp;

pub(crate) use crate::packets::*;

/// What is handed in at once, unless a packet is longer.
const READ: usize = 32 * 1024;

/// One connection of a client: of the first broker, if it is not said of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client {
    /// The place of its broker.
    pub(crate) at: usize,
    pub(crate) id: ConnectionId,
}

/// Clients of one broker.
pub(crate) type World = AnyWorld<false>;

/// Everything around one broker, or two that are joined.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct AnyWorld<const JOINED: bool> {
    /// The only broker or the first.
    pub(crate) broker: Broker,
    /// What it is joined with, and where every other client is.
    pub(crate) second: Option<Broker>,
    /// Where clients are, by their identifiers.
    places: BTreeMap<String, usize>,
    pub(crate) now: Timestamp,
    links: BTreeMap<Client, Link>,
    /// While set, commits pile up in `commits`.
    pub(crate) holds_commits: bool,
    pub(crate) commits: Vec<(usize, CommitId)>,
    /// While set, questions pile up in `questions`; else all are allowed.
    pub(crate) holds_questions: bool,
    pub(crate) questions: Vec<(QuestionId, Question, usize)>,
    /// While set, what joined brokers have to say to each other piles up in `forwarded`, and commits behind it.
    pub(crate) holds_forwards: bool,
    /// While set, nothing is taken out of the transmit buffers.
    pub(crate) is_stalled: bool,
    /// While set, what one call leaves for later ones is left.
    pub(crate) holds_work: bool,
    /// Calls for what was left.
    pub(crate) turns: usize,
    /// Whether what is counted is compared with what is kept after each of them too, not only at the end.
    pub(crate) audits: bool,
    pub(crate) events: Vec<Event>,
    pub(crate) delivered: Vec<(LocalId, LocalDelivery)>,
    /// What there is to say to other brokers, and who says it.
    pub(crate) forwarded: VecDeque<(usize, Output)>,
}

#[derive(Default)]
struct Link {
    version: Option<Version>,
    /// Bytes sent by the client and not consumed.
    unread: Vec<u8>,
    is_paused: bool,
    /// Bytes from the broker not looked at yet.
    inbox: Vec<u8>,
    is_closed: bool,
}

/// A memory budget of `bytes` beside what so many clients take, each with a subscription.
pub(crate) fn beside(clients: usize, bytes: usize) -> u64 {
    let client = Memory::PER_CONNECTION + Memory::PER_SESSION + Memory::PER_SUBSCRIPTION + 32;
    u64::try_from(clients * client + bytes).unwrap()
}

/// The memory budget that one client without a subscription uses up.
pub(crate) fn exactly(client_id: &str) -> u64 {
    u64::try_from(Memory::PER_CONNECTION + Memory::PER_SESSION + 2 * client_id.len()).unwrap()
}

impl<const JOINED: bool> AnyWorld<JOINED> {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        // Most tests are about codes; `information` has the words.
        config.reason_strings = false;
        config.announce_interest = JOINED;
        change(&mut config);
        let now = Timestamp::from_secs(1_000);
        let mut broker = Broker::new(config.clone(), 0x00DA_35E1).unwrap();
        let mut second = JOINED.then(|| Broker::new(config, 0x00DA_35E2).unwrap());
        if let Some(second) = &mut second {
            broker.handle_shard_joined(now, ShardId(1));
            second.handle_shard_joined(now, ShardId(0));
        }
        Self {
            broker,
            second,
            places: BTreeMap::new(),
            now,
            links: BTreeMap::new(),
            holds_commits: false,
            commits: Vec::new(),
            holds_questions: false,
            questions: Vec::new(),
            holds_forwards: false,
            is_stalled: false,
            holds_work: false,
            turns: 0,
            audits: false,
            events: Vec::new(),
            delivered: Vec::new(),
            forwarded: VecDeque::new(),
        }
    }

    /// The broker at a place.
    pub(crate) fn at(&mut self, place: usize) -> &mut Broker {
        match (place, &mut self.second) {
            (1, Some(second)) => second,
            _ => &mut self.broker,
        }
    }

    /// The broker, or both.
    pub(crate) fn brokers(&self) -> impl Iterator<Item = &Broker> {
        [&self.broker].into_iter().chain(&self.second)
    }

    /// Performs what the brokers want, until they want nothing more.
    pub(crate) fn settle(&mut self) {
        loop {
            let polled = self.broker.poll_output().map(|output| (0, output));
            let second = self.second.as_mut();
            let polled = polled.or_else(|| second.and_then(Broker::poll_output).map(|output| (1, output)));
            if let Some((at, output)) = polled {
                self.perform(at, output);
                continue;
            }
            let is_due = |broker: &Broker| broker.poll_timeout().is_some_and(|at| at <= self.now);
            let due = self.brokers().position(is_due);
            if self.audits {
                self.audit();
            }
            let Some(due) = due.filter(|_| !self.holds_work) else { return };
            self.turns += 1;
            let now = self.now;
            self.at(due).handle_timeout(now);
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        let now = self.now;
        match output {
            Output::Transmit(id) => self.take(Client { at, id }),
            Output::Close(id) => {
                let client = Client { at, id };
                self.take(client);
                if let Some(link) = self.links.get_mut(&client) {
                    link.is_closed = true;
                }
                self.at(at).handle_connection_lost(now, id);
            }
            Output::Resume(id) => {
                let client = Client { at, id };
                if let Some(link) = self.links.get_mut(&client) {
                    link.is_paused = false;
                }
                self.feed(client);
            }
            Output::Ask { id, question } if self.holds_questions => self.questions.push((id, *question, at)),
            Output::Ask { id, .. } => self.at(at).handle_answer(now, id, Answer::allow()),
            Output::Commit(id) if self.holds_commits => self.commits.push((at, id)),
            Output::Event(event) => self.events.push(event),
            Output::Deliver { local, delivery } => self.delivered.push((local, *delivery)),
            Output::Commit(id) if !self.holds_forwards => self.at(at).handle_committed(now, id),
            // A commit waits until the other broker has what came before it: whoever is acknowledged may rely on that.
            output @ (Output::Interest { .. } | Output::Forward { .. } | Output::Commit(_)) => {
                self.forwarded.push_back((at, output));
                if JOINED && !self.holds_forwards {
                    self.hand_over(at);
                }
            }
        }
    }

    /// Hands over what a broker said first to the other.
    pub(crate) fn hand_over(&mut self, at: usize) {
        let Some(place) = self.forwarded.iter().position(|(from, _)| *from == at) else { return };
        let Some((_, output)) = self.forwarded.remove(place) else { return };
        let (now, other) = (self.now, 1 - at);
        match output {
            Output::Commit(id) => self.at(at).handle_committed(now, id),
            Output::Interest { interest, .. } => {
                let from = ShardId(at.try_into().unwrap());
                self.at(other).handle_interest(now, from, &interest);
            }
            Output::Forward { forward, .. } => self.at(other).handle_forward(now, &forward),
            output => panic!("not for a broker: {output:?}"),
        }
    }

    fn take(&mut self, client: Client) {
        while !self.is_stalled {
            let now = self.now;
            let broker = self.at(client.at);
            let mut chunks = [&[][..]; 4];
            let count = broker.transmit(client.id, &mut chunks);
            let bytes = chunks[..count].concat();
            if bytes.is_empty() {
                return;
            }
            broker.handle_transmitted(now, client.id, bytes.len());
            if let Some(link) = self.links.get_mut(&client) {
                link.inbox.extend_from_slice(&bytes);
            }
        }
    }

    /// Takes out what a stall kept in.
    pub(crate) fn unstall(&mut self) {
        self.is_stalled = false;
        let all: Vec<_> = self.links.keys().copied().collect();
        for client in all {
            self.take(client);
        }
        self.settle();
    }

    fn feed(&mut self, client: Client) {
        let mut wanted = 0;
        while let Some(link) = self.links.get_mut(&client) {
            let len = link.unread.len().min(wanted.max(READ));
            if link.is_closed || link.is_paused || len == 0 {
                return;
            }
            let broker = if client.at == 0 { &mut self.broker } else { self.second.as_mut().unwrap() };
            let intake = broker.handle_input(self.now, client.id, &link.unread[..len]);
            link.is_paused = intake.paused;
            link.unread.drain(..intake.consumed);
            wanted = intake.wanted;
            if intake.consumed == 0 && link.unread.len() == len {
                return;
            }
        }
    }

    pub(crate) fn open(&mut self) -> Client {
        self.open_at(0)
    }

    fn open_at(&mut self, at: usize) -> Client {
        self.try_open_at(at).unwrap()
    }

    fn try_open_at(&mut self, at: usize) -> Result<Client, Refused> {
        let now = self.now;
        let id = self.at(at).handle_connection(now, Peer::default())?;
        let client = Client { at, id };
        self.links.insert(client, Link::default());
        Ok(client)
    }

    /// Hands over all that piled up, and what comes of it.
    pub(crate) fn carry_all(&mut self) {
        while let Some((at, _)) = self.forwarded.front() {
            self.hand_over(*at);
            self.settle();
        }
    }

    /// Has clients at a broker.
    pub(crate) fn put(&mut self, at: usize, client_ids: &[&str]) {
        self.places.extend(client_ids.iter().map(|client_id| ((*client_id).to_owned(), at)));
    }

    /// Where a client is: of joined brokers every other one is at the second.
    fn place(&mut self, client_id: &str) -> usize {
        let next = self.places.len() % (1 + usize::from(JOINED));
        *self.places.entry(client_id.to_owned()).or_insert(next)
    }

    pub(crate) fn send_bytes(&mut self, client: Client, bytes: &[u8]) {
        self.links.get_mut(&client).unwrap().unread.extend_from_slice(bytes);
        self.feed(client);
        self.settle();
    }

    pub(crate) fn send(&mut self, client: Client, packet: Packet<'_>) {
        let version = self.links[&client].version.unwrap_or(Version::V5_0);
        let mut frame = Vec::new();
        packet.encode(version, Foreign::Reject, &mut frame).unwrap();
        self.send_bytes(client, &frame);
    }

    /// Opens a client and sends CONNECT; what comes back is in its inbox.
    pub(crate) fn begin(&mut self, client: As<'_>) -> Client {
        self.try_begin(client).unwrap()
    }

    /// As [`AnyWorld::begin`], where the broker may take no more connections.
    pub(crate) fn try_begin(&mut self, client: As<'_>) -> Result<Client, Refused> {
        let at = self.place(client.client_id);
        let opened = self.try_open_at(at)?;
        self.introduce(opened, client.version, &client.encode());
        Ok(opened)
    }

    pub(crate) fn begin_raw(&mut self, version: Version, connect: &[u8]) -> Client {
        let client = self.open();
        self.introduce(client, version, connect);
        client
    }

    fn introduce(&mut self, client: Client, version: Version, connect: &[u8]) {
        self.links.get_mut(&client).unwrap().version = Some(version);
        self.send_bytes(client, connect);
    }

    /// As [`AnyWorld::begin`], and CONNACK is expected and looked away.
    pub(crate) fn connect(&mut self, client: As<'_>) -> Client {
        let opened = self.begin(client);
        let seen = self.first(opened);
        assert!(seen.starts_with("CONNACK 00"), "{} was answered {seen}", client.client_id);
        opened
    }

    pub(crate) fn publish(&mut self, client: Client, name: &str, payload: &str, qos: u8, id: u16) {
        self.publish_with(client, name, payload, delivery(qos, id, false), false, &[]);
    }

    pub(crate) fn retain(&mut self, client: Client, name: &str, payload: &str) {
        self.publish_with(client, name, payload, Delivery::AtMostOnce, true, &[]);
    }

    pub(crate) fn publish_with(
        &mut self,
        client: Client,
        name: &str,
        payload: &str,
        delivery: Delivery,
        retain: bool,
        list: &[Property<'_>],
    ) {
        let list = properties(list);
        let publish = Publish {
            delivery,
            retain,
            topic: (!name.is_empty()).then(|| topic(name)),
            properties: list.as_properties(),
            payload: payload.as_bytes(),
        };
        self.send(client, Packet::Publish(publish));
    }

    /// Subscribes and looks SUBACK away, which has to grant all.
    pub(crate) fn subscribe(&mut self, client: Client, filters: &[(&str, u8)]) {
        let filters: Vec<_> = filters
            .iter()
            .map(|(text, level)| (*text, SubscriptionOptions { qos: qos(*level), ..SubscriptionOptions::default() }))
            .collect();
        self.subscribe_with(client, &filters, &[]);
        let seen = self.first(client);
        let refused = seen.split(' ').skip(2).any(|code| code.starts_with(['8', '9', 'A']));
        assert!(seen.starts_with("SUBACK") && !refused, "SUBSCRIBE was answered {seen}");
    }

    pub(crate) fn subscribe_with(
        &mut self,
        client: Client,
        filters: &[(&str, SubscriptionOptions)],
        list: &[Property<'_>],
    ) {
        let list = properties(list);
        let filters: Vec<_> = filters.iter().map(|(text, options)| (filter(text), *options)).collect();
        let subscribe = Subscribe::new(packet_id(999), list.as_properties(), &filters);
        self.send(client, Packet::Subscribe(subscribe));
    }

    pub(crate) fn unsubscribe(&mut self, client: Client, filters: &[&str]) {
        let filters: Vec<_> = filters.iter().map(|text| filter(text)).collect();
        let unsubscribe = Unsubscribe::new(packet_id(998), Properties::EMPTY, &filters);
        self.send(client, Packet::Unsubscribe(unsubscribe));
    }

    pub(crate) fn ack(&mut self, client: Client, ack_type: AckType, id: u16) {
        self.ack_with(client, ack_type, id, ReasonCode::Success);
    }

    pub(crate) fn ack_with(&mut self, client: Client, ack_type: AckType, id: u16, reason_code: ReasonCode) {
        let ack = Ack::with_reason(packet_id(id), reason_code);
        self.send(
            client,
            match ack_type {
                AckType::Puback => Packet::Puback(ack),
                AckType::Pubrec => Packet::Pubrec(ack),
                AckType::Pubrel => Packet::Pubrel(ack),
                AckType::Pubcomp => Packet::Pubcomp(ack),
            },
        );
    }

    pub(crate) fn disconnect(&mut self, client: Client, reason_code: ReasonCode, list: &[Property<'_>]) {
        let list = properties(list);
        self.send(client, Packet::Disconnect(Disconnect { reason_code, properties: list.as_properties() }));
    }

    /// The transport of a client breaks.
    pub(crate) fn cut(&mut self, client: Client) {
        self.links.get_mut(&client).unwrap().is_closed = true;
        let now = self.now;
        self.at(client.at).handle_connection_lost(now, client.id);
        self.settle();
    }

    /// Time goes by, with every deadline on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.saturating_add(time);
        loop {
            let due = self.brokers().enumerate().filter_map(|(place, broker)| Some((broker.poll_timeout()?, place)));
            let Some((at, place)) = due.min().filter(|(at, _)| *at <= until) else { break };
            self.now = self.now.max(at);
            let now = self.now;
            self.at(place).handle_timeout(now);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    pub(crate) fn pass_secs(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    /// Lets every held commit happen.
    pub(crate) fn commit(&mut self) {
        for (at, id) in std::mem::take(&mut self.commits) {
            let now = self.now;
            self.at(at).handle_committed(now, id);
        }
        self.settle();
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        self.answer_with(answer, ProblemInformation::new());
    }

    pub(crate) fn answer_with(&mut self, answer: Answer, information: ProblemInformation) {
        self.answer_at(0, answer, information);
    }

    /// Answers not the question that was asked first, but the one at a place.
    pub(crate) fn answer_at(&mut self, place: usize, answer: Answer, information: ProblemInformation) {
        let (id, _, at) = self.questions.remove(place);
        let now = self.now;
        self.at(at).handle_answer_with(now, id, answer, information);
        self.settle();
    }

    pub(crate) fn speaks_v5(&self, client: Client) -> bool {
        self.links[&client].version == Some(Version::V5_0)
    }

    /// Whether the broker closed a client.
    pub(crate) fn is_closed(&self, client: Client) -> bool {
        self.links[&client].is_closed
    }

    /// Says that so much of an unfinished packet is kept; whether reading has to wait.
    pub(crate) fn progress(&mut self, client: Client, kept: usize) -> bool {
        let now = self.now;
        let is_paused = self.at(client.at).handle_progress(now, client.id, kept);
        self.links.get_mut(&client).unwrap().is_paused |= is_paused;
        self.settle();
        is_paused
    }

    /// Whether bytes of a client wait to be read.
    pub(crate) fn is_paused(&self, client: Client) -> bool {
        self.links[&client].is_paused
    }

    /// What a client received since it was last looked at, one line a packet.
    pub(crate) fn received(&mut self, client: Client) -> Vec<String> {
        let link = self.links.get_mut(&client).unwrap();
        let version = link.version.unwrap_or(Version::V5_0);
        let inbox = std::mem::take(&mut link.inbox);
        let mut rest = &inbox[..];
        let mut seen = Vec::new();
        while let Some(frame) = split_frame(rest, &FrameLimits::default()).expect("the broker sends whole packets") {
            seen.push(show(version, Packet::decode(version, frame).expect("the broker sends valid packets")));
            rest = &rest[frame.len()..];
        }
        assert!(rest.is_empty(), "half a packet: {rest:?}");
        seen
    }

    /// The raw bytes a client received since it was last looked at.
    pub(crate) fn received_bytes(&mut self, client: Client) -> Vec<u8> {
        std::mem::take(&mut self.links.get_mut(&client).unwrap().inbox)
    }

    /// The first packet a client received; the others stay.
    pub(crate) fn first(&mut self, client: Client) -> String {
        let link = self.links.get_mut(&client).unwrap();
        let version = link.version.unwrap_or(Version::V5_0);
        let frame = split_frame(&link.inbox, &FrameLimits::default()).unwrap().expect("a packet").to_vec();
        link.inbox.drain(..frame.len());
        show(version, Packet::decode(version, &frame).unwrap())
    }

    /// Takes all deliveries of a client and acknowledges them to the end.
    pub(crate) fn work_off(&mut self, client: Client) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let seen = self.received(client);
            if seen.is_empty() {
                return all;
            }
            for line in seen {
                let mut words = line.split(' ');
                let (kind, second, id) = (words.next(), words.next(), words.next());
                let number = |word: Option<&str>| word.unwrap_or("").trim_start_matches('#').parse().unwrap();
                match (kind, second) {
                    (Some("PUBLISH"), Some("q1")) => self.ack(client, AckType::Puback, number(id)),
                    (Some("PUBLISH"), Some("q2")) => self.ack(client, AckType::Pubrec, number(id)),
                    (Some("PUBREL"), id) => self.ack(client, AckType::Pubcomp, number(id)),
                    _ => {}
                }
                if kind == Some("PUBLISH") {
                    all.push(line);
                }
            }
        }
    }

    /// The session of a client, wherever it is.
    pub(crate) fn session(&self, client_id: &str) -> Option<SessionView<'_>> {
        self.brokers().find_map(|broker| broker.session(client_id))
    }

    pub(crate) fn sessions_len(&self) -> usize {
        self.brokers().map(Broker::sessions_len).sum()
    }

    /// The subscriptions of a client, wherever it is.
    pub(crate) fn subscriptions(&self, client_id: &str) -> impl Iterator<Item = SubscriptionView<'_>> {
        self.brokers().flat_map(move |broker| broker.subscriptions(client_id))
    }

    /// Messages that were dropped for a reason.
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.brokers().map(|broker| broker.counters().dropped(reason)).sum()
    }

    /// What is kept agrees with what is counted.
    pub(crate) fn audit(&self) {
        self.brokers().for_each(|broker| broker.audit().unwrap());
    }

    /// Nothing is left of what clients brought, apart from what a test means to stay.
    pub(crate) fn assert_empty(&self) {
        for broker in self.brokers() {
            assert_eq!(broker.sessions_len(), 0, "sessions");
            assert_eq!(broker.connections_len(), 0, "connections");
            assert_eq!(broker.messages_len(), 0, "stored messages");
            assert_eq!(broker.subscriptions_len(), 0, "subscriptions");
            assert_eq!(broker.questions_len(), 0, "questions");
        }
    }
}

impl<const JOINED: bool> Drop for AnyWorld<JOINED> {
    /// Whatever a test was about: numbers that drift are a defect.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.audit();
        }
    }
}
