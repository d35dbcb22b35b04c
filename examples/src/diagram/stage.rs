//! A broker core and client cores that talk at once, and what they say, packet by packet.

use std::time::Duration;

use damselfly_broker::{Answer, Broker, Config as BrokerConfig, ConnectionId, Event, Output, Peer};
use damselfly_client::{Client, Config, ConnectParameters, Output as ClientOutput, TransportLost};
use damselfly_codec::{FrameLimits, Packet, Properties, QoS, SubscriptionOptions, Version, split_frame};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicName};

use super::DiagramError;
use super::sequence::{Lane, Sequence};
use crate::packet_in_words;

/// So many rounds of outputs in a row mean that something goes round in circles.
const ROUNDS: usize = 1_000;

/// One broker and its clients. Each packet arrives as soon as it is sent.
pub(super) struct Stage {
    broker: Broker,
    clients: Vec<Member>,
    now: Timestamp,
    sequence: Sequence,
}

struct Member {
    core: Client,
    version: Version,
    parameters: ConnectParameters,
    connection: Option<ConnectionId>,
    /// It may connect.
    is_reachable: bool,
}

impl Stage {
    pub(super) fn new() -> Result<Self, DiagramError> {
        let broker = Broker::new(BrokerConfig::default(), 7)?;
        Ok(Self { broker, clients: Vec::new(), now: Timestamp::from_secs(1), sequence: Sequence::new("broker") })
    }

    /// One more client, which connects at the next [`run`](Self::run).
    pub(super) fn add(&mut self, name: &str, config: Config, parameters: ConnectParameters) -> Lane {
        let version = config.version;
        let core = Client::new(config, 7);
        self.clients.push(Member { core, version, parameters, connection: None, is_reachable: true });
        self.sequence.lane(name)
    }

    /// Forgets what was said so far: the picture begins here.
    pub(super) fn begin(&mut self) {
        self.sequence.steps.clear();
    }

    pub(super) fn note(&mut self, lane: Lane, text: &str) {
        self.sequence.note(lane, text);
    }

    pub(super) fn subscribe(&mut self, lane: Lane, filter: &str, qos: QoS) -> Result<(), DiagramError> {
        let filter = (TopicFilter::new(filter)?, SubscriptionOptions { qos, ..SubscriptionOptions::default() });
        let now = self.now;
        if let Some(member) = self.member(lane) {
            member.core.subscribe(now, &[filter], Properties::EMPTY)?;
        }
        self.run()
    }

    pub(super) fn publish(&mut self, lane: Lane, topic: &str, payload: &[u8], qos: QoS) -> Result<(), DiagramError> {
        let (topic, now) = (TopicName::new(topic)?, self.now);
        let message = Message::compose(topic, payload, qos, false, Properties::EMPTY, now);
        if let Some(member) = self.member(lane) {
            member.core.publish(now, message).map_err(|refused| refused.why)?;
        }
        self.run()
    }

    /// The client is gone without a word, which a connection that stands does not tell.
    pub(super) fn vanish(&mut self, lane: Lane) {
        if let Some(member) = self.member(lane) {
            member.is_reachable = false;
        }
    }

    /// What both sides do as time goes by.
    pub(super) fn wait(&mut self, time: Duration) -> Result<(), DiagramError> {
        let end = self.now.saturating_add(time);
        for _ in 0..ROUNDS {
            let connected = self.clients.iter().filter(|member| member.is_reachable);
            let next =
                connected.filter_map(|member| member.core.poll_timeout()).chain(self.broker.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return Ok(());
            };
            self.now = self.now.max(next);
            self.broker.handle_timeout(self.now);
            for member in self.clients.iter_mut().filter(|member| member.is_reachable) {
                member.core.handle_timeout(self.now);
            }
            self.run()?;
        }
        Err(DiagramError::Endless)
    }

    pub(super) fn finish(self) -> Sequence {
        self.sequence
    }

    fn member(&mut self, lane: Lane) -> Option<&mut Member> {
        self.clients.get_mut(lane.client()?)
    }

    /// Until nobody has anything to say.
    pub(super) fn run(&mut self) -> Result<(), DiagramError> {
        for _ in 0..ROUNDS {
            let mut is_quiet = true;
            while let Some(output) = self.broker.poll_output() {
                is_quiet = false;
                self.perform(&output);
            }
            for index in 0..self.clients.len() {
                while let Some(output) = self.poll_client(index) {
                    is_quiet = false;
                    self.perform_of_client(index, &output);
                }
            }
            if is_quiet {
                return Ok(());
            }
        }
        Err(DiagramError::Endless)
    }

    fn poll_client(&mut self, index: usize) -> Option<ClientOutput> {
        self.clients.get_mut(index).filter(|member| member.is_reachable)?.core.poll_output()
    }

    fn perform(&mut self, output: &Output) {
        let now = self.now;
        match *output {
            Output::Transmit(id) => self.broker_sends(id),
            Output::Close(id) => {
                self.broker_sends(id);
                let is_there = |member: &Member| member.connection == Some(id) && member.is_reachable;
                if let Some(index) = self.clients.iter().position(is_there) {
                    self.sequence.note(Lane::of_client(index), "connection closed by the broker");
                }
                self.end_connection(id, TransportLost::Closed);
            }
            Output::Ask { id, .. } => self.broker.handle_answer(now, id, Answer::allow()),
            Output::Commit(id) => {
                self.sequence.note(Lane::BROKER, "what came is kept");
                self.broker.handle_committed(now, id);
            }
            Output::Event(Event::Disconnected { ref why, .. }) => self.sequence.note(Lane::BROKER, &why.to_string()),
            // All that is read is handed in at once, and there is one broker.
            Output::Resume(_)
            | Output::Interest { .. }
            | Output::Forward { .. }
            | Output::Deliver { .. }
            | Output::Event(_) => {}
        }
    }

    fn broker_sends(&mut self, id: ConnectionId) {
        let mut bytes = Vec::new();
        loop {
            let mut chunk = [&[][..]];
            if self.broker.transmit(id, &mut chunk) == 0 {
                break;
            }
            let [chunk] = chunk;
            bytes.extend_from_slice(chunk);
            let len = chunk.len();
            self.broker.handle_transmitted(self.now, id, len);
        }
        let Some(index) = self.clients.iter().position(|member| member.connection == Some(id)) else { return };
        let Some(member) = self.clients.get_mut(index) else { return };
        let mut words = words(member.version, &bytes);
        if !member.is_reachable {
            for packet in &mut words {
                packet.push_str(" (lost)");
            }
        }
        self.sequence.packets(Lane::BROKER, Lane::of_client(index), &words);
        if !member.is_reachable {
            return;
        }
        // Whole packets, far from every limit: all of it is consumed.
        let _ = member.core.handle_input(self.now, &bytes);
    }

    fn perform_of_client(&mut self, index: usize, output: &ClientOutput) {
        let now = self.now;
        let Some(member) = self.clients.get_mut(index) else { return };
        match *output {
            ClientOutput::NeedTransport(_) => {
                // As many connections as there are clients: the broker refuses none.
                if let Ok(id) = self.broker.handle_connection(now, Peer::default()) {
                    member.connection = Some(id);
                    member.core.handle_transport_up(now, &member.parameters);
                }
            }
            ClientOutput::Transmit => self.client_sends(index),
            ClientOutput::Close => {
                self.client_sends(index);
                if let Some(id) = self.clients.get(index).and_then(|member| member.connection) {
                    self.end_connection(id, TransportLost::Closed);
                }
            }
            ClientOutput::Resume | ClientOutput::Journal(_) | ClientOutput::Event(_) => {}
            ClientOutput::Commit(id) => member.core.handle_committed(now, id),
        }
    }

    fn client_sends(&mut self, index: usize) {
        let now = self.now;
        let Some(member) = self.clients.get_mut(index) else { return };
        let mut bytes = Vec::new();
        loop {
            let mut chunk = [&[][..]];
            if member.core.transmit(&mut chunk) == 0 {
                break;
            }
            let [chunk] = chunk;
            bytes.extend_from_slice(chunk);
            let len = chunk.len();
            member.core.handle_transmitted(now, len);
        }
        let Some(id) = member.connection else { return };
        let words = words(member.version, &bytes);
        self.sequence.packets(Lane::of_client(index), Lane::BROKER, &words);
        let _ = self.broker.handle_input(now, id, &bytes);
    }

    fn end_connection(&mut self, id: ConnectionId, why: TransportLost) {
        self.broker.handle_connection_lost(self.now, id);
        if let Some(member) = self.clients.iter_mut().find(|member| member.connection == Some(id)) {
            member.connection = None;
            if !member.is_reachable {
                return;
            }
            member.core.handle_transport_lost(self.now, why);
        }
    }
}

/// One line for each packet.
fn words(version: Version, mut bytes: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    while let Ok(Some(frame)) = split_frame(bytes, &FrameLimits::default()) {
        words.extend(Packet::decode(version, frame).ok().map(|packet| packet_in_words(&packet)));
        bytes = bytes.get(frame.len()..).unwrap_or_default();
    }
    words
}
