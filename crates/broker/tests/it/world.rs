//! A broker, its clients as byte streams, and virtual time: what every test here plays with.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use damselfly_broker::{
    Answer, Broker, CommitId, Config, ConnectionId, Event, LocalDelivery, LocalId, Memory, Output, Peer,
    ProblemInformation, Question, QuestionId,
};
use damselfly_codec::{
    Ack, AckType, Connect, Delivery, Disconnect, Foreign, FrameLimits, Packet, PacketId, Properties, PropertiesBuf,
    Property, Publish, QoS, ReasonCode, Subscribe, SubscriptionOptions, Unsubscribe, Version, Will, split_frame,
};
use damselfly_session::Timestamp;
use damselfly_topic::{TopicFilter, TopicName};

/// What is handed in at once, unless a packet is longer.
const READ: usize = 32 * 1024;

/// Everything around one broker.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) now: Timestamp,
    links: BTreeMap<ConnectionId, Link>,
    /// While set, commits pile up in `commits`.
    pub(crate) holds_commits: bool,
    pub(crate) commits: Vec<CommitId>,
    /// While set, questions pile up in `questions`; else all are allowed.
    pub(crate) holds_questions: bool,
    pub(crate) questions: Vec<(QuestionId, Question)>,
    /// While set, nothing is taken out of the transmit buffers.
    pub(crate) is_stalled: bool,
    /// While set, what one call leaves for later ones is left.
    pub(crate) holds_work: bool,
    /// Calls for what was left.
    pub(crate) turns: usize,
    pub(crate) events: Vec<Event>,
    pub(crate) delivered: Vec<(LocalId, LocalDelivery)>,
    pub(crate) forwarded: Vec<Output>,
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

pub(crate) fn topic(text: &str) -> TopicName<'_> {
    TopicName::new(text).unwrap()
}

pub(crate) fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).unwrap()
}

pub(crate) fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

pub(crate) fn delivery(qos: u8, id: u16, dup: bool) -> Delivery {
    match qos {
        0 => Delivery::AtMostOnce,
        1 => Delivery::AtLeastOnce { id: packet_id(id), dup },
        _ => Delivery::ExactlyOnce { id: packet_id(id), dup },
    }
}

pub(crate) fn qos(level: u8) -> QoS {
    delivery(level, 1, false).qos()
}

pub(crate) fn properties(list: &[Property<'_>]) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    for property in list {
        properties.push(*property).unwrap();
    }
    properties
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

/// How a client connects.
#[derive(Clone, Copy)]
pub(crate) struct As<'a> {
    pub(crate) version: Version,
    pub(crate) client_id: &'a str,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive: u16,
    pub(crate) expiry: Option<u32>,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) properties: &'a [Property<'a>],
    pub(crate) user_name: Option<&'a str>,
    /// Topic, payload, QoS, retain, delay.
    pub(crate) will: Option<(&'a str, &'a str, u8, bool, u32)>,
}

pub(crate) fn v5(client_id: &str) -> As<'_> {
    As {
        version: Version::V5_0,
        client_id,
        clean_start: true,
        keep_alive: 0,
        expiry: None,
        receive_maximum: None,
        properties: &[],
        user_name: None,
        will: None,
    }
}

pub(crate) fn v3(client_id: &str) -> As<'_> {
    As { version: Version::V3_1_1, ..v5(client_id) }
}

impl<'a> As<'a> {
    /// A session that stays: 5.0 for `seconds`, 3.1.1 for ever.
    pub(crate) fn lasting(self, seconds: u32) -> Self {
        if self.version == Version::V5_0 {
            Self { clean_start: false, expiry: Some(seconds), ..self }
        } else {
            Self { clean_start: false, ..self }
        }
    }

    pub(crate) fn with(self, properties: &'a [Property<'a>]) -> Self {
        Self { properties, ..self }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut list = properties(self.properties);
        if let Some(expiry) = self.expiry {
            list.push(Property::SessionExpiryInterval(expiry)).unwrap();
        }
        if let Some(maximum) = self.receive_maximum {
            list.push(Property::ReceiveMaximum(maximum.try_into().unwrap())).unwrap();
        }
        let mut will_properties = PropertiesBuf::new();
        let will = self.will.map(|(name, payload, level, retain, delay)| {
            if delay > 0 {
                will_properties.push(Property::WillDelayInterval(delay)).unwrap();
            }
            (name, payload, level, retain)
        });
        let will = will.map(|(name, payload, level, retain)| Will {
            qos: qos(level),
            retain,
            topic: topic(name),
            payload: payload.as_bytes(),
            properties: will_properties.as_properties(),
        });
        let connect = Connect {
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            will,
            user_name: self.user_name,
            properties: list.as_properties(),
            ..Connect::new(self.version, self.client_id)
        };
        let mut frame = Vec::new();
        connect.encode(Foreign::Reject, &mut frame).unwrap();
        frame
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        // Most tests are about codes; `information` has the words.
        config.reason_strings = false;
        change(&mut config);
        Self {
            broker: Broker::new(config, 0x00DA_35E1).unwrap(),
            now: Timestamp::from_secs(1_000),
            links: BTreeMap::new(),
            holds_commits: false,
            commits: Vec::new(),
            holds_questions: false,
            questions: Vec::new(),
            is_stalled: false,
            holds_work: false,
            turns: 0,
            events: Vec::new(),
            delivered: Vec::new(),
            forwarded: Vec::new(),
        }
    }

    /// Performs what the broker wants, until it wants nothing more.
    pub(crate) fn settle(&mut self) {
        loop {
            let Some(output) = self.broker.poll_output() else {
                if !self.holds_work && self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.turns += 1;
                    self.broker.handle_timeout(self.now);
                    continue;
                }
                return;
            };
            match output {
                Output::Transmit(connection) => self.take(connection),
                Output::Close(connection) => {
                    self.take(connection);
                    if let Some(link) = self.links.get_mut(&connection) {
                        link.is_closed = true;
                    }
                    self.broker.handle_connection_lost(self.now, connection);
                }
                Output::Resume(connection) => {
                    if let Some(link) = self.links.get_mut(&connection) {
                        link.is_paused = false;
                    }
                    self.feed(connection);
                }
                Output::Ask { id, question } if self.holds_questions => self.questions.push((id, *question)),
                Output::Ask { id, .. } => self.broker.handle_answer(self.now, id, Answer::allow()),
                Output::Commit(id) if self.holds_commits => self.commits.push(id),
                Output::Commit(id) => self.broker.handle_committed(self.now, id),
                Output::Event(event) => self.events.push(event),
                Output::Deliver { local, delivery } => self.delivered.push((local, *delivery)),
                output @ (Output::Interest { .. } | Output::Forward { .. }) => self.forwarded.push(output),
            }
        }
    }

    fn take(&mut self, connection: ConnectionId) {
        while !self.is_stalled {
            let mut chunks = [&[][..]; 4];
            let count = self.broker.transmit(connection, &mut chunks);
            let bytes = chunks[..count].concat();
            if bytes.is_empty() {
                return;
            }
            if let Some(link) = self.links.get_mut(&connection) {
                link.inbox.extend_from_slice(&bytes);
            }
            self.broker.handle_transmitted(self.now, connection, bytes.len());
        }
    }

    /// Takes out what a stall kept in.
    pub(crate) fn unstall(&mut self) {
        self.is_stalled = false;
        let all: Vec<_> = self.links.keys().copied().collect();
        for connection in all {
            self.take(connection);
        }
        self.settle();
    }

    fn feed(&mut self, connection: ConnectionId) {
        let mut wanted = 0;
        while let Some(link) = self.links.get_mut(&connection) {
            let len = link.unread.len().min(wanted.max(READ));
            if link.is_closed || link.is_paused || len == 0 {
                return;
            }
            let intake = self.broker.handle_input(self.now, connection, &link.unread[..len]);
            link.is_paused = intake.paused;
            link.unread.drain(..intake.consumed);
            wanted = intake.wanted;
            if intake.consumed == 0 && link.unread.len() == len {
                return;
            }
        }
    }

    pub(crate) fn open(&mut self) -> ConnectionId {
        let connection = self.broker.handle_connection(self.now, Peer::default()).unwrap();
        self.links.insert(connection, Link::default());
        connection
    }

    pub(crate) fn send_bytes(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.links.get_mut(&connection).unwrap().unread.extend_from_slice(bytes);
        self.feed(connection);
        self.settle();
    }

    pub(crate) fn send(&mut self, connection: ConnectionId, packet: Packet<'_>) {
        let version = self.links[&connection].version.unwrap_or(Version::V5_0);
        let mut frame = Vec::new();
        packet.encode(version, Foreign::Reject, &mut frame).unwrap();
        self.send_bytes(connection, &frame);
    }

    /// Opens a connection and sends CONNECT; what comes back is in its inbox.
    pub(crate) fn begin(&mut self, client: As<'_>) -> ConnectionId {
        self.begin_raw(client.version, &client.encode())
    }

    pub(crate) fn begin_raw(&mut self, version: Version, connect: &[u8]) -> ConnectionId {
        let connection = self.open();
        self.links.get_mut(&connection).unwrap().version = Some(version);
        self.send_bytes(connection, connect);
        connection
    }

    /// As [`World::begin`], and CONNACK is expected and looked away.
    pub(crate) fn connect(&mut self, client: As<'_>) -> ConnectionId {
        let connection = self.begin(client);
        let seen = self.first(connection);
        assert!(seen.starts_with("CONNACK 00"), "{} was answered {seen}", client.client_id);
        connection
    }

    pub(crate) fn publish(&mut self, connection: ConnectionId, name: &str, payload: &str, qos: u8, id: u16) {
        self.publish_with(connection, name, payload, delivery(qos, id, false), false, &[]);
    }

    pub(crate) fn retain(&mut self, connection: ConnectionId, name: &str, payload: &str) {
        self.publish_with(connection, name, payload, Delivery::AtMostOnce, true, &[]);
    }

    pub(crate) fn publish_with(
        &mut self,
        connection: ConnectionId,
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
        self.send(connection, Packet::Publish(publish));
    }

    /// Subscribes and looks SUBACK away, which has to grant all.
    pub(crate) fn subscribe(&mut self, connection: ConnectionId, filters: &[(&str, u8)]) {
        let filters: Vec<_> = filters
            .iter()
            .map(|(text, level)| (*text, SubscriptionOptions { qos: qos(*level), ..SubscriptionOptions::default() }))
            .collect();
        self.subscribe_with(connection, &filters, &[]);
        let seen = self.first(connection);
        let refused = seen.split(' ').skip(2).any(|code| code.starts_with(['8', '9', 'A']));
        assert!(seen.starts_with("SUBACK") && !refused, "SUBSCRIBE was answered {seen}");
    }

    pub(crate) fn subscribe_with(
        &mut self,
        connection: ConnectionId,
        filters: &[(&str, SubscriptionOptions)],
        list: &[Property<'_>],
    ) {
        let list = properties(list);
        let filters: Vec<_> = filters.iter().map(|(text, options)| (filter(text), *options)).collect();
        let subscribe = Subscribe::new(packet_id(999), list.as_properties(), &filters);
        self.send(connection, Packet::Subscribe(subscribe));
    }

    pub(crate) fn unsubscribe(&mut self, connection: ConnectionId, filters: &[&str]) {
        let filters: Vec<_> = filters.iter().map(|text| filter(text)).collect();
        let unsubscribe = Unsubscribe::new(packet_id(998), Properties::EMPTY, &filters);
        self.send(connection, Packet::Unsubscribe(unsubscribe));
    }

    pub(crate) fn ack(&mut self, connection: ConnectionId, ack_type: AckType, id: u16) {
        self.ack_with(connection, ack_type, id, ReasonCode::Success);
    }

    pub(crate) fn ack_with(&mut self, connection: ConnectionId, ack_type: AckType, id: u16, reason_code: ReasonCode) {
        let ack = Ack::with_reason(packet_id(id), reason_code);
        self.send(
            connection,
            match ack_type {
                AckType::Puback => Packet::Puback(ack),
                AckType::Pubrec => Packet::Pubrec(ack),
                AckType::Pubrel => Packet::Pubrel(ack),
                AckType::Pubcomp => Packet::Pubcomp(ack),
            },
        );
    }

    pub(crate) fn disconnect(&mut self, connection: ConnectionId, reason_code: ReasonCode, list: &[Property<'_>]) {
        let list = properties(list);
        self.send(connection, Packet::Disconnect(Disconnect { reason_code, properties: list.as_properties() }));
    }

    /// The transport of a client breaks.
    pub(crate) fn cut(&mut self, connection: ConnectionId) {
        self.links.get_mut(&connection).unwrap().is_closed = true;
        self.broker.handle_connection_lost(self.now, connection);
        self.settle();
    }

    /// Time goes by, with every deadline on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.saturating_add(time);
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.broker.handle_timeout(self.now);
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
        for id in std::mem::take(&mut self.commits) {
            self.broker.handle_committed(self.now, id);
        }
        self.settle();
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        self.answer_with(answer, ProblemInformation::new());
    }

    pub(crate) fn answer_with(&mut self, answer: Answer, information: ProblemInformation) {
        let (id, _) = self.questions.remove(0);
        self.broker.handle_answer_with(self.now, id, answer, information);
        self.settle();
    }

    pub(crate) fn speaks_v5(&self, connection: ConnectionId) -> bool {
        self.links[&connection].version == Some(Version::V5_0)
    }

    /// Whether the broker closed a connection.
    pub(crate) fn is_closed(&self, connection: ConnectionId) -> bool {
        self.links[&connection].is_closed
    }

    /// Whether bytes of a client wait to be read.
    /// Says that so much of an unfinished packet is kept; whether reading has to wait.
    pub(crate) fn progress(&mut self, connection: ConnectionId, kept: usize) -> bool {
        let is_paused = self.broker.handle_progress(self.now, connection, kept);
        self.links.get_mut(&connection).unwrap().is_paused |= is_paused;
        self.settle();
        is_paused
    }

    pub(crate) fn is_paused(&self, connection: ConnectionId) -> bool {
        self.links[&connection].is_paused
    }

    /// What a client received since it was last looked at, one line a packet.
    pub(crate) fn received(&mut self, connection: ConnectionId) -> Vec<String> {
        let link = self.links.get_mut(&connection).unwrap();
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
    pub(crate) fn received_bytes(&mut self, connection: ConnectionId) -> Vec<u8> {
        std::mem::take(&mut self.links.get_mut(&connection).unwrap().inbox)
    }

    /// The first packet a client received; the others stay.
    pub(crate) fn first(&mut self, connection: ConnectionId) -> String {
        let link = self.links.get_mut(&connection).unwrap();
        let version = link.version.unwrap_or(Version::V5_0);
        let frame = split_frame(&link.inbox, &FrameLimits::default()).unwrap().expect("a packet").to_vec();
        link.inbox.drain(..frame.len());
        show(version, Packet::decode(version, &frame).unwrap())
    }

    /// Takes all deliveries of a client and acknowledges them to the end.
    pub(crate) fn work_off(&mut self, connection: ConnectionId) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let seen = self.received(connection);
            if seen.is_empty() {
                return all;
            }
            for line in seen {
                let mut words = line.split(' ');
                let (kind, second, id) = (words.next(), words.next(), words.next());
                let number = |word: Option<&str>| word.unwrap_or("").trim_start_matches('#').parse().unwrap();
                match (kind, second) {
                    (Some("PUBLISH"), Some("q1")) => self.ack(connection, AckType::Puback, number(id)),
                    (Some("PUBLISH"), Some("q2")) => self.ack(connection, AckType::Pubrec, number(id)),
                    (Some("PUBREL"), id) => self.ack(connection, AckType::Pubcomp, number(id)),
                    _ => {}
                }
                if kind == Some("PUBLISH") {
                    all.push(line);
                }
            }
        }
    }

    /// Nothing is left of what clients brought, apart from what a test means to stay.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.broker.sessions_len(), 0, "sessions");
        assert_eq!(self.broker.connections_len(), 0, "connections");
        assert_eq!(self.broker.messages_len(), 0, "stored messages");
        assert_eq!(self.broker.subscriptions_len(), 0, "subscriptions");
        assert_eq!(self.broker.questions_len(), 0, "questions");
    }
}

/// One packet as a line: type, then what matters, then properties in braces.
fn show(version: Version, packet: Packet<'_>) -> String {
    let ack = |name: &str, ack: Ack<'_>| {
        let mut line = format!("{name} #{}", ack.packet_id.get());
        if ack.reason_code != ReasonCode::Success {
            write!(line, " {:02X}", ack.reason_code.code()).unwrap();
        }
        line + &braces(ack.properties)
    };
    let codes =
        |codes: Vec<ReasonCode>| codes.iter().fold(String::new(), |line, code| format!("{line} {:02X}", code.code()));
    match packet {
        Packet::Connack(connack) => {
            let code = match version {
                Version::V5_0 => connack.reason_code.code(),
                _ => connack.reason_code.connack_return_code().unwrap(),
            };
            let present = if connack.session_present { " present" } else { "" };
            format!("CONNACK {code:02X}{present}{}", braces(connack.properties))
        }
        Packet::Publish(publish) => {
            let mut line = format!("PUBLISH q{}", publish.delivery.qos().level());
            if let Some(id) = publish.delivery.packet_id() {
                write!(line, " #{}", id.get()).unwrap();
            }
            if publish.delivery.is_dup() {
                line += " dup";
            }
            if publish.retain {
                line += " retain";
            }
            let payload = match publish.payload.len() {
                0..=40 => String::from_utf8_lossy(publish.payload).into_owned(),
                len => format!("<{len} bytes>"),
            };
            let name = publish.topic.map_or("", TopicName::as_str);
            write!(line, " {name}={payload}").unwrap();
            line + &braces(publish.properties)
        }
        Packet::Puback(packet) => ack("PUBACK", packet),
        Packet::Pubrec(packet) => ack("PUBREC", packet),
        Packet::Pubrel(packet) => ack("PUBREL", packet),
        Packet::Pubcomp(packet) => ack("PUBCOMP", packet),
        Packet::Suback(suback) => {
            let codes = codes(suback.reason_codes().collect());
            format!("SUBACK #{}{codes}{}", suback.packet_id.get(), braces(suback.properties))
        }
        Packet::Unsuback(unsuback) => {
            let codes = codes(unsuback.reason_codes().collect());
            format!("UNSUBACK #{}{codes}{}", unsuback.packet_id.get(), braces(unsuback.properties))
        }
        Packet::Pingresp => "PINGRESP".into(),
        Packet::Disconnect(disconnect) => {
            format!("DISCONNECT {:02X}{}", disconnect.reason_code.code(), braces(disconnect.properties))
        }
        Packet::Auth(auth) => format!("AUTH {:02X}{}", auth.reason_code.code(), braces(auth.properties)),
        Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq => {
            panic!("a broker does not send this: {packet:?}")
        }
    }
}

fn braces(properties: Properties<'_>) -> String {
    if properties.is_empty() {
        return String::new();
    }
    let list: Vec<_> = properties.iter().map(|property| format!("{property:?}")).collect();
    format!(" {{{}}}", list.join(", "))
}
