//! Both cores without sockets: a client publishes, the broker routes, another client receives, all acknowledgements
//! included.

use std::{hint::black_box, time::Duration};

use damselfly_broker::{Answer, Broker, Config as BrokerConfig, ConnectionId, Output as BrokerOutput, Peer};
use damselfly_client::{
    Client, Config, ConnectParameters, Event, Outcome, Output, Properties, QoS, SessionExpiry, SubscriptionOptions,
    Timestamp, TopicFilter, TopicName, TransportLost, Version,
};

const TOPIC: &str = "bench/both/00001";
const PAYLOAD: [u8; 64] = [b'x'; 64];
/// Small messages are one slice however many there are.
const CHUNKS: usize = 4;
/// Longer than a client waits before it connects again.
const WAIT: Duration = Duration::from_secs(61);

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
        Self::with_expiry(version, qos, window, SessionExpiry::OnClose)
    }

    /// The same with sessions that outlive a [`cut`](Self::cut); at up to QoS 2, see [`publish_at`](Self::publish_at).
    pub fn lasting(window: usize) -> Result<Self, String> {
        Self::with_expiry(Version::V5_0, QoS::ExactlyOnce, window, SessionExpiry::Never)
    }

    fn with_expiry(version: Version, qos: QoS, window: usize, expiry: SessionExpiry) -> Result<Self, String> {
        let topic = TopicName::new(TOPIC).map_err(|error| error.to_string())?;
        let mut broker = Broker::new(BrokerConfig::default(), 0x5eed).map_err(|error| error.to_string())?;
        let now = Timestamp::from_secs(1);
        let mut member = |name: &str, seed| -> Result<Member, String> {
            let mut config = Config::new(name);
            config.version = version;
            config.outbound_topic_aliases = 0;
            config.session_expiry = expiry;
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
        self.publish();
        self.pump();
        self.delivered.min(self.completed)
    }

    /// Later turns publish at this QoS.
    pub const fn publish_at(&mut self, qos: QoS) {
        self.qos = qos;
    }

    /// Publishes a window and loses both connections after the broker had half of what the clients wrote meanwhile; they come
    /// back after the longest wait. Gives the messages that arrived and had their outcome.
    pub fn cut(&mut self) -> u64 {
        self.publish();
        for _ in 0..2 {
            self.poll_client(0);
            self.poll_client(1);
            self.poll_broker();
        }
        self.now = self.now.saturating_add(WAIT);
        for member in &mut self.members {
            member.client.handle_transport_lost(self.now, TransportLost::Failed);
            self.broker.handle_connection_lost(self.now, member.connection);
        }
        self.pump();
        self.now = self.now.saturating_add(WAIT);
        self.broker.handle_timeout(self.now);
        for member in &mut self.members {
            member.client.handle_timeout(self.now);
            if let Ok(connection) = self.broker.handle_connection(self.now, Peer::default()) {
                member.connection = connection;
                member.client.handle_transport_up(self.now, &ConnectParameters::default());
                member.has_output = true;
            }
        }
        self.pump();
        self.delivered.min(self.completed)
    }

    fn publish(&mut self) {
        (self.delivered, self.completed) = (0, 0);
        let publisher = &mut self.members[0];
        for _ in 0..self.window {
            let payload = black_box(&PAYLOAD);
            let client = &mut publisher.client;
            let message = client.compose(self.now, self.topic, payload, self.qos, false, Properties::EMPTY);
            let _ = black_box(client.publish(self.now, message));
        }
        publisher.has_output = true;
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
            is_idle &= !self.poll_broker();
            if is_idle {
                return;
            }
        }
    }

    /// True if there was something to do.
    #[inline]
    fn poll_broker(&mut self) -> bool {
        let mut is_idle = true;
        while let Some(output) = self.broker.poll_output() {
            is_idle = false;
            match output {
                BrokerOutput::Transmit(id) => self.carry_to_client(id),
                BrokerOutput::Commit(id) => self.broker.handle_committed(self.now, id),
                BrokerOutput::Ask { id, question } => {
                    drop(question);
                    self.broker.handle_answer(self.now, id, Answer::allow());
                }
                BrokerOutput::Close(_) | BrokerOutput::Resume(_) => {}
                // Each by name, so that nothing to be freed is looked for in those above.
                BrokerOutput::Interest { interest, .. } => drop(interest),
                BrokerOutput::Forward { forward, .. } => drop(forward),
                BrokerOutput::Deliver { delivery, .. } => drop(delivery),
                BrokerOutput::Event(event) => drop(event),
            }
        }
        !is_idle
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
                Output::Close | Output::Resume | Output::Commit(_) => {}
                // Each by name, so that nothing to be freed is looked for in those above.
                Output::Event(event) => drop(event),
                Output::NeedTransport(need) => drop(need),
                Output::Journal(operation) => drop(operation),
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
