//! What a broker knows of a client, told to whoever asks by MQTT itself.
//!
//! [`Inspector`] wraps the [`Host`] of a driver. It takes part in the broker as a local participant, and answers requests
//! (5.0, Response Topic, Correlation Data) as JSON, with a prefix of `house`:
//!
//! | request | payload | answer |
//! |---|---|---|
//! | `house/inspect` | `{"client": id}` | session, window, queue, subscriptions and the last packets of a client |
//! | `house/topology` | anything | all clients with their subscriptions, and the names of retained messages |
//!
//! Neither payloads nor passwords nor Authentication Data are kept, let alone shown. Who must not ask is for the access
//! rules to say.

mod gather;
mod log;

use std::net::SocketAddr;
use std::num::NonZeroU16;

use damselfly_broker::{Answer, ConnectionId, Event, LocalDelivery, LocalId, Message, Question, QuestionId};
use damselfly_codec::{EncodeError, PropertiesBuf, Property, QoS, SubscriptionOptions, Version};
use damselfly_session::{SessionExpiry, Timestamp};
use damselfly_sim::flight::RecordedBroker;
use damselfly_topic::{TopicFilter, TopicName};
use serde_json::{Value, json};

use crate::broker::{Entrance, Host, Waker};
use log::{Log, Way};

/// A Response Topic has to begin like this, as those of [the client core](damselfly_client::Config::response_topic) do: the
/// answer is published by the broker itself, which may publish anywhere, and whoever asks must not be able to choose where.
pub const RESPONSES: &str = "response/";
/// The client id of the local participant.
pub const CLIENT_ID: &str = "inspector";

/// Bytes of a request.
const MAX_REQUEST: usize = 1024;
/// Subscriptions of one client that an answer shows.
const MAX_SUBSCRIPTIONS: usize = 64;
/// Clients of a topology.
const MAX_CLIENTS: usize = 1000;
/// Names of retained messages of a topology.
const MAX_TOPICS: usize = 2000;
/// Requests that the broker hands over at once.
const WINDOW: NonZeroU16 = NonZeroU16::MIN.saturating_add(15);

/// A host, and beside it the one that answers.
#[derive(Debug)]
pub struct Inspector<H> {
    host: H,
    inspect: String,
    topology: String,
    local: Option<LocalId>,
    started: Timestamp,
    /// The time of the last call that had one: events have none.
    now: Timestamp,
    log: Log,
}

impl<H: Host> Inspector<H> {
    /// Beside `host`, which goes on as before; asked below `prefix/`.
    pub fn new(host: H, prefix: &str) -> Self {
        let (inspect, topology) = (format!("{prefix}/inspect"), format!("{prefix}/topology"));
        Self {
            host,
            inspect,
            topology,
            local: None,
            started: Timestamp::ZERO,
            now: Timestamp::ZERO,
            log: Log::default(),
        }
    }

    /// The host alone.
    pub fn into_inner(self) -> H {
        self.host
    }

    fn open(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        let local = match broker.open_local(now, CLIENT_ID, WINDOW) {
            Ok(local) => local,
            Err(error) => return tracing::error!(%error, "nobody can look into the broker"),
        };
        for topic in [&self.inspect, &self.topology] {
            match TopicFilter::new(topic) {
                Ok(filter) => {
                    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
                    broker.local_subscribe(now, local, filter, options, None);
                }
                Err(error) => tracing::error!(topic, %error, "nobody can look into the broker there"),
            }
        }
        self.local = Some(local);
    }

    fn reply(&self, broker: &mut RecordedBroker, now: Timestamp, local: LocalId, delivery: &LocalDelivery) {
        let request = &delivery.message;
        let Some(topic) = request.properties().response_topic().filter(|topic| topic.as_str().starts_with(RESPONSES))
        else {
            tracing::debug!("a question to the inspector without a Response Topic below {RESPONSES}");
            return;
        };
        let answer = if request.topic().as_str() == self.topology {
            topology(broker)
        } else {
            match client_of(request.payload()) {
                Ok(client_id) => self.describe(broker, now, &client_id),
                Err(error) => json!({ "error": error }),
            }
        };
        if let Err(error) =
            answer_to(request, topic, &answer, now).map(|message| broker.local_publish(now, local, message))
        {
            tracing::debug!(%error, "a question to the inspector cannot be answered");
        }
    }

    fn describe(&self, broker: &RecordedBroker, now: Timestamp, client_id: &str) -> Value {
        let Some(view) = broker.session(client_id) else {
            return json!({ "error": "the broker has no session of this client: it ended with the connection, or never was" });
        };
        let known = self.log.client(client_id);
        let version = view.version.or(known.map(|client| client.version));
        let expiry = match view.expiry {
            SessionExpiry::Never => Value::Null,
            expiry => json!(expiry.to_wire()),
        };
        let lines = known.map(|client| client.lines.iter()).into_iter().flatten();
        let packets: Vec<_> = lines
            .map(|line| {
                let way = if line.way == Way::In { "in" } else { "out" };
                json!({ "at": millis(self.started, line.at), "way": way, "text": line.text })
            })
            .collect();
        let address = known.filter(|_| view.connection.is_some()).and_then(|client| client.address);
        json!({
            "client": client_id,
            "connected": view.connection.is_some() || view.is_local,
            "version": if view.is_local { "none: it is a part of the broker" } else { version.map_or("", words) },
            "address": address.map(|address| address.to_string()),
            "session": { "expiry_s": expiry, "since_ms": known.map(|client| millis(client.since, now)) },
            "window": {
                "in_flight": view.in_flight,
                // Before 5.0 a client does not say how much it takes.
                "receive_maximum": known.filter(|client| client.version == Version::V5_0).map(|client| client.receive_maximum),
            },
            "queue": { "messages": view.queued, "bytes": view.queued_bytes, "dropped": view.dropped },
            "subscriptions": subscriptions(broker, client_id),
            "subscriptions_len": view.subscriptions,
            "packets": packets,
        })
    }
}

fn topology(broker: &RecordedBroker) -> Value {
    let clients: Vec<_> = broker
        .sessions()
        .take(MAX_CLIENTS)
        .map(|view| {
            json!({
                "client": view.client_id,
                "connected": view.connection.is_some() || view.is_local,
                "version": view.version.map(words),
                "subscriptions": subscriptions(broker, view.client_id),
            })
        })
        .collect();
    let retained = TopicFilter::new("#").map(|all| broker.retained(all, MAX_TOPICS)).unwrap_or_default();
    let topics: Vec<_> = retained.iter().map(|message| message.topic().as_str()).collect();
    json!({ "clients": clients, "topics": topics })
}

fn subscriptions(broker: &RecordedBroker, client_id: &str) -> Vec<Value> {
    let all = broker.subscriptions(client_id).take(MAX_SUBSCRIPTIONS);
    all.map(|subscription| json!({ "filter": subscription.filter, "qos": u8::from(subscription.qos) })).collect()
}

fn answer_to(request: &Message, topic: TopicName<'_>, answer: &Value, now: Timestamp) -> Result<Message, EncodeError> {
    let mut properties = PropertiesBuf::new();
    if let Some(data) = request.properties().correlation_data() {
        properties.push(Property::CorrelationData(data))?;
    }
    let payload = answer.to_string();
    Ok(Message::compose(topic, payload.as_bytes(), QoS::AtLeastOnce, false, properties.as_properties(), now))
}

/// Whom a request is about.
fn client_of(payload: &[u8]) -> Result<String, &'static str> {
    if payload.len() > MAX_REQUEST {
        return Err("a request has at most 1,024 bytes");
    }
    let request: Value =
        serde_json::from_slice(payload).map_err(|_| "a request is JSON like {\"client\": \"phone\"}")?;
    let client_id = request.get("client").and_then(Value::as_str);
    client_id.map(str::to_owned).ok_or("a request names a client: {\"client\": \"phone\"}")
}

fn millis(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.saturating_since(from).as_millis()).unwrap_or(u64::MAX)
}

const fn words(version: Version) -> &'static str {
    match version {
        Version::V3_1 => "3.1",
        Version::V3_1_1 => "3.1.1",
        Version::V5_0 => "5.0",
    }
}

impl<H: Host> Host for Inspector<H> {
    fn attach(&mut self, waker: Waker) {
        self.host.attach(waker);
    }

    fn start(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        (self.started, self.now) = (now, now);
        self.open(broker, now);
        self.host.start(broker, now);
    }

    fn answer(&mut self, id: QuestionId, question: &Question) -> Option<Answer> {
        self.host.answer(id, question)
    }

    fn admit(&mut self, id: QuestionId, question: &Question, entrance: &Entrance) -> Option<Answer> {
        self.host.admit(id, question, entrance)
    }

    fn event(&mut self, event: &Event, address: Option<SocketAddr>) {
        match event {
            Event::Connected { connection, client_id, version, .. } => {
                self.log.connected(self.now, *connection, client_id, *version, address);
            }
            Event::SessionEnded { client_id, .. } => self.log.ended(client_id),
            _ => {}
        }
        self.host.event(event, address);
    }

    fn deliver(&mut self, broker: &mut RecordedBroker, now: Timestamp, local: LocalId, delivery: LocalDelivery) {
        if self.local != Some(local) {
            return self.host.deliver(broker, now, local, delivery);
        }
        self.reply(broker, now, local, &delivery);
        if let Some(token) = delivery.token {
            broker.local_acknowledge(now, token);
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.host.poll_timeout()
    }

    fn handle_timeout(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.host.handle_timeout(broker, now);
    }

    fn woken(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.host.woken(broker, now);
    }

    fn observes(&self) -> bool {
        true
    }

    fn heard(&mut self, now: Timestamp, connection: ConnectionId, packets: &[u8]) {
        self.now = now;
        self.log.heard(now, connection, packets);
        if self.host.observes() {
            self.host.heard(now, connection, packets);
        }
    }

    fn said(&mut self, now: Timestamp, connection: ConnectionId, bytes: &[u8]) {
        self.log.said(now, connection, bytes);
        if self.host.observes() {
            self.host.said(now, connection, bytes);
        }
    }
}
