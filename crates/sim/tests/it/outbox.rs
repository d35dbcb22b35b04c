//! A client with an outbox whose process ends at any moment, against the broker core: nothing that was stored is lost,
//! nothing at QoS 2 comes twice, in either direction.

use std::collections::VecDeque;

use damselfly_broker::{Answer, Broker, Config as BrokerConfig, ConnectionId, Output as BrokerOutput, Peer};
use damselfly_client::{
    Client, CommitId, Config, ConnectParameters, Event, Operation, OutboxConfig, Output, SessionExpiry,
};
use damselfly_codec::{Properties, QoS, SubscriptionOptions};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicName};

/// Messages in each direction, of QoS 1 and 2 in turn.
const MESSAGES: usize = 8;

/// A durable client, a broker, and a partner of the client that never crashes.
struct Trial {
    random: u64,
    now: Timestamp,
    broker: Broker,
    client: Client,
    connection: Option<ConnectionId>,
    partner: Client,
    partner_connection: ConnectionId,
    to_broker: VecDeque<Vec<u8>>,
    to_client: VecDeque<Vec<u8>>,
    store: Vec<Operation>,
    group: Vec<Operation>,
    unstored: VecDeque<(CommitId, Vec<Operation>)>,
    published: usize,
    stored: Vec<u64>,
    completed: Vec<u64>,
    /// What the client got, and what the partner got.
    heard: [Vec<String>; 2],
}

fn config() -> Config {
    let mut config = Config::new("durable");
    config.session_expiry = SessionExpiry::Never;
    config.outbox = Some(OutboxConfig::default());
    config
}

fn subscribe(client: &mut Client, now: Timestamp, filter: &str) {
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
    client.subscribe(now, &[(TopicFilter::new(filter).unwrap(), options)], Properties::EMPTY).unwrap();
}

fn message(topic: &str, number: usize, now: Timestamp) -> Message {
    let qos = if number % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
    let payload = number.to_string();
    Message::compose(TopicName::new(topic).unwrap(), payload.as_bytes(), qos, false, Properties::EMPTY, now)
}

impl Trial {
    fn new(seed: u64) -> Self {
        let now = Timestamp::from_secs(1_000);
        let mut limits = BrokerConfig::default();
        limits.receive_maximum = 3.try_into().unwrap();
        let mut broker = Broker::new(limits, seed).unwrap();
        let partner_connection = broker.handle_connection(now, Peer::default()).unwrap();
        let mut partner = Client::new(Config::new("partner"), seed);
        partner.handle_transport_up(now, &ConnectParameters::default());
        subscribe(&mut partner, now, "out");
        let mut trial = Self {
            random: seed,
            now,
            broker,
            client: Client::restore(config(), seed, []).unwrap(),
            connection: None,
            partner,
            partner_connection,
            to_broker: VecDeque::new(),
            to_client: VecDeque::new(),
            store: Vec::new(),
            group: Vec::new(),
            unstored: VecDeque::new(),
            published: 0,
            stored: Vec::new(),
            completed: Vec::new(),
            heard: [Vec::new(), Vec::new()],
        };
        subscribe(&mut trial.client, now, "in");
        trial.settle();
        // The subscription stands before anything is sent to it.
        while trial.step() {}
        trial
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// Lets one thing happen of those that can: false if nothing can.
    fn step(&mut self) -> bool {
        let first = self.random(3);
        for unit in (first..first + 3).map(|unit| unit % 3) {
            let is_done = match unit {
                0 => self.to_broker.pop_front().is_some_and(|bytes| {
                    let intake = self.connection.map(|id| self.broker.handle_input(self.now, id, &bytes));
                    intake.is_some_and(|intake| intake.consumed == bytes.len())
                }),
                1 => self
                    .to_client
                    .pop_front()
                    .is_some_and(|bytes| self.client.handle_input(self.now, &bytes).consumed == bytes.len()),
                _ => self.unstored.pop_front().is_some_and(|(id, mut group)| {
                    self.store.append(&mut group);
                    self.client.handle_committed(self.now, id);
                    true
                }),
            };
            if is_done {
                self.settle();
                return true;
            }
        }
        false
    }

    /// The process ends and another one begins.
    fn crash(&mut self) {
        if let Some(id) = self.connection.take() {
            self.broker.handle_connection_lost(self.now, id);
        }
        self.to_broker.clear();
        self.to_client.clear();
        self.group.clear();
        self.unstored.clear();
        let seed = self.random(1 << 30);
        self.client = Client::restore(config(), seed, self.store.clone()).unwrap();
        self.settle();
    }

    /// The driver does all that it is asked for; bytes and syncs are under way.
    fn settle(&mut self) {
        loop {
            let mut is_idle = true;
            while let Some(output) = self.client.poll_output() {
                is_idle = false;
                self.perform(output);
            }
            while let Some(output) = self.partner.poll_output() {
                is_idle = false;
                match output {
                    Output::Transmit => {
                        let bytes = take(&mut self.partner, self.now);
                        let _ = self.broker.handle_input(self.now, self.partner_connection, &bytes);
                    }
                    Output::Event(event) => self.note(1, event),
                    _ => {}
                }
            }
            while let Some(output) = self.broker.poll_output() {
                is_idle = false;
                match output {
                    BrokerOutput::Transmit(id) => self.transmit(id),
                    BrokerOutput::Commit(id) => self.broker.handle_committed(self.now, id),
                    BrokerOutput::Ask { id, .. } => self.broker.handle_answer(self.now, id, Answer::allow()),
                    BrokerOutput::Close(id) => panic!("{id:?} is closed"),
                    _ => {}
                }
            }
            if is_idle {
                return;
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::NeedTransport(_) => {
                self.connection = Some(self.broker.handle_connection(self.now, Peer::default()).unwrap());
                self.client.handle_transport_up(self.now, &ConnectParameters::default());
            }
            Output::Transmit => self.to_broker.push_back(take(&mut self.client, self.now)),
            Output::Journal(operation) => self.group.push(operation),
            Output::Commit(id) => self.unstored.push_back((id, std::mem::take(&mut self.group))),
            Output::Event(Event::Disconnected(why)) => panic!("{why}"),
            Output::Event(event) => self.note(0, event),
            Output::Close | Output::Resume => {}
        }
    }

    fn note(&mut self, who: usize, event: Event) {
        match event {
            Event::Message(inbound) => {
                self.heard[who].push(String::from_utf8_lossy(inbound.message.payload()).into_owned());
            }
            Event::Stored { ticket } => self.stored.push(ticket.get()),
            Event::Completed { ticket, .. } if who == 0 => self.completed.push(ticket.get()),
            _ => {}
        }
    }

    fn transmit(&mut self, id: ConnectionId) {
        let mut chunks = [&[][..]; 16];
        let count = self.broker.transmit(id, &mut chunks);
        let bytes = chunks[..count].concat();
        self.broker.handle_transmitted(self.now, id, bytes.len());
        if id == self.partner_connection {
            let _ = self.partner.handle_input(self.now, &bytes);
        } else if Some(id) == self.connection {
            self.to_client.push_back(bytes);
        }
    }
}

fn take(client: &mut Client, now: Timestamp) -> Vec<u8> {
    let mut chunks = [&[][..]; 16];
    let count = client.transmit(&mut chunks);
    let bytes = chunks[..count].concat();
    client.handle_transmitted(now, bytes.len());
    bytes
}

#[test]
fn process_may_end_at_any_moment() {
    let mut crashes = 0;
    for seed in 0..400 {
        let mut trial = Trial::new(seed);
        trial.completed.clear();
        let mut sent = 0;
        while sent < MESSAGES || trial.published < MESSAGES {
            match trial.random(8) {
                0 if trial.published < MESSAGES => {
                    let message = message("out", trial.published, trial.now);
                    trial.client.publish(trial.now, message).unwrap();
                    trial.published += 1;
                }
                1 if sent < MESSAGES => {
                    let message = message("in", sent, trial.now);
                    trial.partner.publish(trial.now, message).unwrap();
                    sent += 1;
                }
                2 if trial.random(3) == 0 => {
                    crashes += 1;
                    trial.crash();
                }
                _ => {
                    trial.step();
                }
            }
            trial.settle();
        }
        while trial.step() {}

        // What was said to be stored has had its outcome, once.
        assert_eq!(trial.client.stored_tickets().count(), 0, "seed {seed}");
        let mut completed = trial.completed.clone();
        completed.sort_unstable();
        completed.dedup();
        assert_eq!(completed.len(), trial.completed.len(), "seed {seed}: no outcome twice");
        assert!(trial.stored.iter().all(|ticket| completed.binary_search(ticket).is_ok()), "seed {seed}");

        let [client, partner] = &trial.heard;
        let times = |heard: &[String], number: usize| heard.iter().filter(|text| **text == number.to_string()).count();
        for number in 0..MESSAGES {
            let expected = if number % 2 == 0 { 1..=1 } else { 1..=usize::MAX };
            assert!(expected.contains(&times(client, number)), "seed {seed}: {number} in {client:?}");
            // What was not stored when the process ended was not promised.
            assert!(times(partner, number) <= *expected.end(), "seed {seed}: {number} in {partner:?}");
        }
        assert!(partner.len() >= trial.stored.len(), "seed {seed}: {partner:?}, {} stored", trial.stored.len());
    }
    assert!(crashes > 400, "{crashes}");
}
