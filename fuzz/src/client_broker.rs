//! Client cores and a broker core in a world of the simulator, and each alone with hostile bytes.

use std::fmt::{self, Write};
use std::time::Duration;

use damselfly_broker::{Answer, Config as BrokerConfig, Grant, Output as BrokerOutput, Peer, Question};
use damselfly_client::{Config, ConnectParameters, OutboxConfig, Output, TransportLost};
use damselfly_codec::{Properties, QoS, SubscriptionOptions, Version};
use damselfly_session::{Message, SessionExpiry, Timestamp};
use damselfly_sim::Scenario;
use damselfly_sim::flight::{RecordedBroker, RecordedClient, Recording, Tape};
use damselfly_topic::{TopicFilter, TopicName};

use crate::bytes::Bytes;

/// More would make one run slow and find little that fewer do not.
const MOST_STEPS: usize = 60;
const MOST_HOSTILE: usize = 512;
const START: Timestamp = Timestamp::from_secs(1_000_000_000);

/// The first bytes of `data` are a world of the simulator: what its links are like, its clients, and what they and
/// misfortune do to each other. In it holds what has to hold in every world. The rest is a stream for a broker that is alone
/// with it, and for a client.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let script = script(&mut bytes);
    let scenario: Scenario = script.parse().unwrap_or_else(|error| panic!("{error}:\n{script}"));
    if let Err(failure) = scenario.run() {
        panic!("{failure}\n{script}");
    }
    let hostile = &bytes.0[..bytes.0.len().min(MOST_HOSTILE)];
    if !hostile.is_empty() {
        broker_alone_with(hostile);
        client_alone_with(hostile);
    }
}

/// What not every world has. Each keeps the others out: when a will is due, or what is retained, is not known where the
/// broker waits for its store or drops what does not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Theme {
    Plain,
    SlowBroker,
    ShortQueue,
    Retained,
}

fn script(bytes: &mut Bytes<'_>) -> String {
    let mut script = format!("seed {}\n", bytes.byte());
    let [link, store] = [bytes.one_of(&[5, 50, 400]), bytes.one_of(&[1, 20, 200])];
    let (piece, capacity) = (bytes.one_of(&[1, 8, 64, 4_096]), bytes.one_of(&[300, 2_000, 65_536]));
    let window = bytes.one_of(&[1, 2, 10, 1_024]);
    // Writing to a string cannot fail.
    let _ = write!(script, "latency {link} {store}\nlink {piece} {capacity}\nwindow {window}\n");
    let theme = bytes.one_of(&[Theme::Plain, Theme::Plain, Theme::SlowBroker, Theme::ShortQueue, Theme::Retained]);
    let _ = match theme {
        Theme::SlowBroker => {
            writeln!(script, "broker {} {}", bytes.one_of(&[5, 50, 300]), bytes.one_of(&[5, 50, 300]))
        }
        Theme::ShortQueue => writeln!(script, "queue {}", bytes.one_of(&[3, 10])),
        Theme::Plain | Theme::Retained => Ok(()),
    };
    let has_wills = matches!(theme, Theme::Plain | Theme::Retained);
    let clients: Vec<Plan> = (0..2 + bytes.below(5)).map(|at| plan(bytes, at, has_wills)).collect();
    for plan in &clients {
        let _ = writeln!(script, "{plan}");
    }
    let mut at = 0_u64;
    for _ in 0..bytes.below(MOST_STEPS + 1) {
        at += bytes.one_of(&[0, 1, 7, 60, 400, 2_500, 30_000]);
        let client = bytes.below(clients.len());
        let _ = writeln!(script, "{at} {client} {}", what(bytes, &clients[client], theme));
    }
    for client in 0..clients.len() {
        let _ = writeln!(script, "{} {client} heal", at + 1);
    }
    script
}

struct Plan {
    version: Version,
    window: u16,
    has_outbox: bool,
    will: Option<u32>,
    is_manual: bool,
    queue: Option<u32>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.version == Version::V5_0 { "5.0" } else { "3.1.1" };
        write!(f, "client {version} {}{}", self.window, if self.has_outbox { " outbox" } else { "" })?;
        self.will.map_or(Ok(()), |delay| write!(f, " will {delay}"))?;
        f.write_str(if self.is_manual { " manual" } else { "" })?;
        self.queue.map_or(Ok(()), |queue| write!(f, " queue {queue}"))
    }
}

/// The first one has to get every will, the second one has an outbox.
fn plan(bytes: &mut Bytes<'_>, at: usize, has_wills: bool) -> Plan {
    let version = match at {
        0 => Version::V5_0,
        1 => Version::V3_1_1,
        _ => bytes.one_of(&[Version::V5_0, Version::V3_1_1]),
    };
    let delays = if version == Version::V5_0 { &[None, Some(0), Some(20)][..] } else { &[None, Some(0)] };
    let has_outbox = at == 1 || (at > 1 && bytes.chance(50));
    Plan {
        version,
        window: bytes.one_of(&[1, 3, 65_535]),
        has_outbox,
        will: bytes.one_of(delays).filter(|_| has_wills),
        // What a crash leaves of these is not foreseen.
        is_manual: bytes.chance(33) && !has_outbox,
        queue: bytes.maybe(25, |bytes| bytes.one_of(&[2, 5])).filter(|_| !has_outbox),
    }
}

fn what(bytes: &mut Bytes<'_>, plan: &Plan, theme: Theme) -> String {
    let kind = bytes.below(20);
    match kind {
        0 => "subscribe".to_owned(),
        1 => "unsubscribe".to_owned(),
        2 | 3 => "cut".to_owned(),
        4 => format!("half-open {}", bytes.one_of(&["broker", "client"])),
        5 => format!("stall {} {}", bytes.one_of(&["broker", "client"]), 100 + 78 * u32::from(bytes.byte())),
        6 => "partition".to_owned(),
        7 => "heal".to_owned(),
        8 => "again".to_owned(),
        // Without an outbox a client that crashes forgets what it promised.
        9 if plan.has_outbox => format!("crash {}", 10 + 39 * u32::from(bytes.byte())),
        10 if theme == Theme::Retained => "look".to_owned(),
        11..14 if theme == Theme::Retained => {
            format!("keep qos{} len {}", bytes.below(3), bytes.one_of(&[0, 20, 300]))
        }
        _ => {
            let (topic, qos, len) = (bytes.below(4), bytes.below(3), bytes.one_of(&[0, 0, 20, 300]));
            let is_new = plan.version == Version::V5_0;
            let expiry = bytes.maybe(if is_new { 17 } else { 0 }, |bytes| bytes.one_of(&[2, 30, 4_000]));
            let expiry = expiry.map(|seconds| format!(" expiry {seconds}")).unwrap_or_default();
            format!("publish {topic} qos{qos} len {len}{expiry}")
        }
    }
}

/// Whatever comes, the broker agrees with itself, and all it was told and said plays again.
fn broker_alone_with(hostile: &[u8]) {
    let (tape, memory) = Tape::in_memory();
    let mut config = BrokerConfig::default();
    config.receive_maximum = 3;
    config.max_packet_size = 1_000;
    config.max_connect_packet_size = 500;
    config.max_queued_messages = 5;
    config.max_retained_messages = 3;
    config.max_subscriptions = 4;
    let mut broker = RecordedBroker::new(config, 7, tape).expect("a config that can be");
    let mut now = START;
    // Each piece is of a connection of its own, and one that was refused comes again.
    let mut wires = Vec::new();
    for (at, piece) in hostile.chunks(usize::from(hostile[0]) + 1).enumerate() {
        if wires.len() < 3 {
            wires.extend(broker.handle_connection(now, Peer::default()).ok().map(|id| (id, Vec::new())));
        }
        let count = wires.len();
        if let Some((id, left)) = wires.get_mut(at % 3 % count.max(1)) {
            left.extend_from_slice(piece);
            let intake = broker.handle_input(now, *id, left);
            assert!(intake.consumed <= left.len(), "more than there was");
            left.drain(..intake.consumed);
        }
        let mut closed = Vec::new();
        while let Some(output) = broker.poll_output() {
            match output {
                BrokerOutput::Ask { id, question } => {
                    let answer = match *question {
                        Question::Connect { authentication: Some(_), .. } => Answer::Continue(Some([1, 2, 3].into())),
                        Question::Authenticate { .. } => Answer::Allow(Grant::default()),
                        _ => Answer::allow(),
                    };
                    broker.handle_answer(now, id, answer);
                }
                BrokerOutput::Commit(id) => broker.handle_committed(now, id),
                BrokerOutput::Transmit(id) => broker.handle_transmitted(now, id, broker.transmit_len(id)),
                BrokerOutput::Close(id) => {
                    broker.handle_connection_lost(now, id);
                    closed.push(id);
                }
                BrokerOutput::Resume(id) => {
                    if let Some((_, left)) = wires.iter_mut().find(|(known, _)| *known == id) {
                        let intake = broker.handle_input(now, id, left);
                        left.drain(..intake.consumed);
                    }
                }
                BrokerOutput::Deliver { .. }
                | BrokerOutput::Event(_)
                | BrokerOutput::Interest { .. }
                | BrokerOutput::Forward { .. } => {}
            }
        }
        wires.retain(|(id, _)| !closed.contains(id));
        broker.audit().unwrap_or_else(|drift| panic!("{drift}"));
        now = now.saturating_add(Duration::from_millis(700));
        broker.handle_timeout(now);
    }
    drop(broker);
    plays_again(&memory.text());
}

/// Whatever comes, the client goes on, and all it was told and said plays again.
fn client_alone_with(hostile: &[u8]) {
    let (tape, memory) = Tape::in_memory();
    let choice = hostile[0];
    let mut config = Config::new("alone");
    config.version = if choice % 2 == 0 { Version::V5_0 } else { Version::V3_1_1 };
    config.session_expiry = if choice % 4 < 2 { SessionExpiry::Never } else { SessionExpiry::OnClose };
    config.outbox = (choice % 8 < 4).then(OutboxConfig::default);
    config.maximum_packet_size = 1_000;
    let client = RecordedClient::new(config, 7, tape);
    let mut alone = Alone { client, now: START, choice, left: None };
    alone.settle();
    for piece in hostile.chunks(usize::from(choice / 2) + 1) {
        alone.take_in(piece);
        alone.settle();
        alone.now = alone.now.saturating_add(Duration::from_millis(700));
        alone.client.handle_timeout(alone.now);
        alone.settle();
    }
    drop(alone);
    plays_again(&memory.text());
}

/// A client without a broker.
struct Alone {
    client: RecordedClient,
    now: Timestamp,
    choice: u8,
    /// What it did not consume yet; `None` without a connection.
    left: Option<Vec<u8>>,
}

impl Alone {
    fn take_in(&mut self, piece: &[u8]) {
        let Some(left) = &mut self.left else { return };
        left.extend_from_slice(piece);
        let intake = self.client.handle_input(self.now, left);
        assert!(intake.consumed <= left.len(), "more than there was");
        left.drain(..intake.consumed);
    }

    /// Does what the client asks for.
    fn settle(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::NeedTransport(wanted) => {
                    self.now = self.now.max(wanted.not_before);
                    self.client.handle_transport_up(self.now, &ConnectParameters::default());
                    // So that what comes gets further than to the missing CONNACK.
                    self.left = Some(if self.choice < 128 { accepted(self.choice) } else { Vec::new() });
                    self.ask_for_something();
                }
                Output::Transmit => self.send_all(),
                Output::Close => {
                    self.client.handle_transport_lost(self.now, TransportLost::Closed);
                    self.left = None;
                }
                Output::Resume => self.take_in(&[]),
                Output::Commit(id) => self.client.handle_committed(self.now, id),
                Output::Journal(_) | Output::Event(_) => {}
            }
        }
    }

    fn send_all(&mut self) {
        loop {
            let mut chunks = [&[][..]; 64];
            let count = self.client.transmit(&mut chunks);
            let len = chunks[..count].iter().map(|chunk| chunk.len()).sum();
            if len == 0 {
                return;
            }
            self.client.handle_transmitted(self.now, len);
        }
    }

    /// So that there is something that what comes can answer. Whether the client takes it depends on what came before.
    fn ask_for_something(&mut self) {
        let topic = TopicName::new("a/b").expect("a topic name");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let message = Message::compose(topic, b"payload", qos, false, Properties::EMPTY, self.now);
            let _ = self.client.publish(self.now, message);
        }
        let filter = TopicFilter::new("a/#").expect("a topic filter");
        let _ = self.client.subscribe(self.now, &[(filter, SubscriptionOptions::default())], Properties::EMPTY);
    }
}

/// CONNACK of the client's version.
fn accepted(choice: u8) -> Vec<u8> {
    if choice % 2 == 0 { vec![0x20, 3, 0, 0, 0] } else { vec![0x20, 2, 0, 0] }
}

fn plays_again(text: &str) {
    let recording: Recording = text.parse().unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let replay = recording.replay().expect("the core that was recorded");
    if let Some(difference) = replay.differences.first() {
        panic!("{difference}\n{text}");
    }
}
