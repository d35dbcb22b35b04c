//! Both cores without sockets: a client publishes, the broker routes, another client receives, all acknowledgements
//! included.

use std::hint::black_box;

use damselfly_broker::{Answer, Broker, Config as BrokerConfig, ConnectionId, Output as BrokerOutput, Peer};
use damselfly_client::{
    Client, Config, ConnectParameters, Event, Outcome, Output, Properties, QoS, SubscriptionOptions, Timestamp,
    TopicFilter, TopicName, Version,
};

const TOPIC: &str = "bench/both/00001";
const PAYLOAD: [u8; 64] = [b'x'; 64];
/// Small messages are one slice however many there are.
const CHUNKS: usize = 4;

/// A publisher, a broker and a subscriber.
pub struct Both {
    broker: Broker,
    /// Publisher and subscriber.
    members: [Member; 2],
    now: Timestamp,
    qos: QoS,
    /// Messages that are published before anybody else has a turn.
    window: usize,
    topic: TopicName<'static>,
    written: Vec<u8>,
    delivered: u64,
    completed: u64,
}

struct Member {
    client: Client,
    connection: ConnectionId,
    has_output: bool,
}

impl Both {
    /// Connects and subscribes.
    pub fn new(version: Version, qos: QoS, window: usize) -> Result<Self, String> {
        let topic = TopicName::new(TOPIC).map_err(|error| error.to_string())?;
        let mut broker = Broker::new(BrokerConfig::default(), 0x5eed).map_err(|error| error.to_string())?;
        let now = Timestamp::from_secs(1);
        let mut member = |name: &str, seed| -> Result<Member, String> {
            let mut config = Config::new(name);
            config.version = version;
            config.outbound_topic_aliases = 0;
            let mut client = Client::new(config, seed);
            let connection = broker.handle_connection(now, Peer::default()).map_err(|error| format!("{error:?}"))?;
            client.handle_transport_up(now, &ConnectParameters::default());
            Ok(Member { client, connection, has_output: true })
        };
        let members = [member("publisher", 1)?, member("subscriber", 2)?];
        let written = Vec::new();
        let mut both = Self { broker, members, now, qos, window, topic, written, delivered: 0, completed: 0 };
        both.pump();
        let filter = TopicFilter::new(TOPIC).map_err(|error| error.to_string())?;
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let subscriber = &mut both.members[1];
        subscriber.client.subscribe(now, &[(filter, options)], Properties::EMPTY).map_err(|error| error.to_string())?;
        subscriber.has_output = true;
        both.pump();
        Ok(both)
    }

    /// A window of messages, and all that follows from it. Gives the messages that arrived and had their outcome.
    pub fn turn(&mut self) -> u64 {
        (self.delivered, self.completed) = (0, 0);
        let publisher = &mut self.members[0];
        for _ in 0..self.window {
            let payload = black_box(&PAYLOAD);
            let client = &mut publisher.client;
            let message = client.compose(self.now, self.topic, payload, self.qos, false, Properties::EMPTY);
            let _ = black_box(client.publish(self.now, message));
        }
        publisher.has_output = true;
        self.pump();
        self.delivered.min(self.completed)
    }

    /// Messages of one turn.
    pub fn expected(&self) -> u64 {
        u64::try_from(self.window).unwrap_or(u64::MAX)
    }

    fn pump(&mut self) {
        loop {
            let mut is_idle = true;
            for number in 0..self.members.len() {
                if std::mem::take(&mut self.members[number].has_output) {
                    is_idle = false;
                    self.poll_client(number);
                }
            }
            while let Some(output) = self.broker.poll_output() {
                is_idle = false;
                match output {
                    BrokerOutput::Transmit(id) => self.carry_to_client(id),
                    BrokerOutput::Commit(id) => self.broker.handle_committed(self.now, id),
                    BrokerOutput::Ask { id, .. } => self.broker.handle_answer(self.now, id, Answer::allow()),
                    BrokerOutput::Close(_)
                    | BrokerOutput::Resume(_)
                    | BrokerOutput::Interest { .. }
                    | BrokerOutput::Forward { .. }
                    | BrokerOutput::Deliver { .. }
                    | BrokerOutput::Event(_) => {}
                }
            }
            if is_idle {
                return;
            }
        }
    }

    fn poll_client(&mut self, number: usize) {
        let member = &mut self.members[number];
        let mut is_transmitting = false;
        while let Some(output) = member.client.poll_output() {
            match output {
                Output::Transmit => is_transmitting = true,
                Output::Event(Event::Message(inbound)) => {
                    let message = black_box(inbound).message;
                    self.delivered += u64::from(message.payload().len() == PAYLOAD.len());
                    member.client.give_back(message);
                }
                Output::Event(Event::Completed { outcome, .. }) => {
                    let is_good = matches!(outcome, Outcome::Transmitted | Outcome::Acknowledged { .. });
                    self.completed += u64::from(is_good);
                }
                Output::Event(_)
                | Output::NeedTransport(_)
                | Output::Close
                | Output::Resume
                | Output::Journal(_)
                | Output::Commit(_) => {}
            }
        }
        if is_transmitting {
            self.carry_to_broker(number);
        }
    }

    /// What a client wrote arrives at the broker: in one piece, as a socket would hand it over.
    fn carry_to_broker(&mut self, number: usize) {
        let member = &mut self.members[number];
        let mut chunks: [&[u8]; CHUNKS] = [&[]; CHUNKS];
        let count = member.client.transmit(&mut chunks);
        let bytes = joined(&chunks[..count], &mut self.written);
        let len = self.broker.handle_input(self.now, member.connection, bytes).consumed;
        member.client.handle_transmitted(self.now, len);
        member.has_output = true;
    }

    /// And the other way.
    fn carry_to_client(&mut self, id: ConnectionId) {
        let Some(member) = self.members.iter_mut().find(|member| member.connection == id) else { return };
        let mut chunks: [&[u8]; CHUNKS] = [&[]; CHUNKS];
        let count = self.broker.transmit(id, &mut chunks);
        let bytes = joined(&chunks[..count], &mut self.written);
        let len = member.client.handle_input(self.now, bytes).consumed;
        self.broker.handle_transmitted(self.now, id, len);
        member.has_output = true;
    }
}

/// One slice is handed on as it is: a copy would be that of the socket.
fn joined<'a>(chunks: &[&'a [u8]], place: &'a mut Vec<u8>) -> &'a [u8] {
    if let [whole] = chunks {
        return whole;
    }
    place.clear();
    for chunk in chunks {
        place.extend_from_slice(chunk);
    }
    place
}
