//! Questions to the broker without side effects: who is there, what is stored, what was dropped.

use alloc::vec::Vec;

use damselfly_codec::{QoS, SubscriptionId, Version};
use damselfly_session::{Message, SessionExpiry, Timestamp};
use damselfly_topic::{TopicCursor, TopicFilter, TopicName};

use crate::{
    Broker, ConnectionId, DropReason,
    sessions::{Session, Sink},
};

/// One session as [`Broker::sessions`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionView<'a> {
    /// The Client Identifier.
    pub client_id: &'a str,
    /// Who made it.
    pub principal: Option<&'a str>,
    /// Its connection, while there is one.
    pub connection: Option<ConnectionId>,
    /// Whether the embedding program is its client.
    pub is_local: bool,
    /// The protocol version of the connection.
    pub version: Option<Version>,
    /// How long it outlives a connection.
    pub expiry: SessionExpiry,
    /// When it ends, if its client stays away.
    pub ends_at: Option<Timestamp>,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Messages that wait to be sent for the first time.
    pub queued: u32,
    /// Bytes of these messages.
    pub queued_bytes: u64,
    /// QoS 1 and 2 messages that were sent and are not done.
    pub in_flight: usize,
    /// Messages dropped since the session began.
    pub dropped: u64,
}

/// One subscription as [`Broker::subscriptions`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionView<'a> {
    /// The Topic Filter, a shared one with its `$share/{ShareName}/`.
    pub filter: &'a str,
    /// The granted QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// The Subscription Identifier.
    pub id: Option<SubscriptionId>,
}

/// What happened so far, in numbers that only grow, but for the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections refused at [`Config::max_connections`](crate::Config::max_connections).
    pub connections_refused: u64,
    /// CONNECTs accepted.
    pub connects_accepted: u64,
    /// PUBLISH packets received.
    pub publishes_received: u64,
    /// Deliveries begun, to sessions and to other brokers.
    pub deliveries: u64,
    /// Dropped messages by reason: see [`Counters::dropped`].
    dropped: [u64; REASONS.len()],
    /// The most steps that one call has taken: see [`Config::steps_per_call`](crate::Config::steps_per_call).
    pub most_steps: usize,
    /// Bytes of all route caches at present.
    pub route_cache_bytes: usize,
}

const REASONS: [DropReason; 11] = [
    DropReason::QueueFull,
    DropReason::SlowReader,
    DropReason::PacketTooLarge,
    DropReason::Expired,
    DropReason::Memory,
    DropReason::NotAuthorized,
    DropReason::RetainedFull,
    DropReason::TooManyLevels,
    DropReason::Offline,
    DropReason::PayloadTooLarge,
    DropReason::PayloadFormatInvalid,
];

impl Counters {
    /// Messages dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        REASONS.iter().position(|known| *known == reason).and_then(|at| self.dropped.get(at)).copied().unwrap_or(0)
    }

    pub(crate) fn note_drop(&mut self, reason: DropReason) {
        let at = REASONS.iter().position(|known| *known == reason);
        if let Some(count) = at.and_then(|at| self.dropped.get_mut(at)) {
            *count += 1;
        }
    }
}

/// Bytes by what holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Messages queued, in flight, or waiting for an answer, a commit or room, each counted once, with a few bytes for
    /// each session that holds it and with its lists of Subscription Identifiers.
    pub messages: u64,
    /// Retained messages with their index.
    pub retained: u64,
    /// The subscription index and share groups.
    pub subscriptions: u64,
    /// Sessions without what the other fields count.
    pub sessions: u64,
    /// Connections, bytes on their way out among them.
    pub connections: u64,
    /// Route caches.
    pub route_caches: u64,
    /// What counts against [`Config::max_memory`](crate::Config::max_memory): kept up to date by estimates, unfinished
    /// packets in the adapter's hands among it.
    pub counted: u64,
}

impl Broker {
    /// All sessions, in an order that depends on nothing but the history.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView<'_>> {
        self.sessions.iter().map(|(_, session)| self.view(session))
    }

    /// One session by its Client Identifier.
    pub fn session(&self, client_id: &str) -> Option<SessionView<'_>> {
        self.sessions.get(self.sessions.find(client_id)?).map(|session| self.view(session))
    }

    fn view<'a>(&'a self, session: &'a Session) -> SessionView<'a> {
        let connection = match session.sink {
            Sink::Connection(connection) => Some(connection),
            Sink::Offline | Sink::Local => None,
        };
        SessionView {
            client_id: &session.client_id,
            principal: session.principal.as_deref(),
            connection,
            is_local: session.sink == Sink::Local,
            version: connection.and_then(|id| self.connections.get(id)).map(|connection| connection.version),
            expiry: session.expiry,
            ends_at: session.ends_at,
            subscriptions: session.subscriptions.len(),
            queued: session.outbound.messages,
            queued_bytes: session.outbound.bytes,
            in_flight: session.outbound.inflight.len(),
            dropped: session.drops,
        }
    }

    /// The subscriptions of a session, in the order of their filters.
    pub fn subscriptions(&self, client_id: &str) -> impl Iterator<Item = SubscriptionView<'_>> {
        let session = self.sessions.find(client_id).and_then(|key| Some((key, self.sessions.get(key)?)));
        session.into_iter().flat_map(move |(key, session)| {
            session.subscriptions.iter().filter_map(move |text| {
                let filter = TopicFilter::new(text).ok()?;
                let options = match filter.shared() {
                    None => self.index.get(filter, key.slot)?,
                    Some(_) => self.groups.options(text, key.slot)?,
                };
                Some(SubscriptionView {
                    filter: text,
                    qos: options.qos(),
                    no_local: options.no_local(),
                    retain_as_published: options.retain_as_published(),
                    id: options.id(),
                })
            })
        })
    }

    /// The retained messages a filter matches: at most `limit` of them.
    pub fn retained(&self, filter: TopicFilter<'_>, limit: usize) -> Vec<Message> {
        let mut found = Vec::new();
        let mut cursor = TopicCursor::default();
        let mut is_done = false;
        while !is_done && found.len() < limit {
            is_done = self.retained.query(filter, &mut cursor, limit - found.len(), |retained| {
                found.push(retained.message.clone());
            });
        }
        found
    }

    /// The retained message of one topic.
    pub fn retained_message(&self, topic: TopicName<'_>) -> Option<&Message> {
        self.retained.get(topic)
    }

    /// How many retained messages there are.
    pub fn retained_len(&self) -> usize {
        self.retained.len()
    }

    /// Connections, accepted or not.
    pub fn connections_len(&self) -> usize {
        self.connections.len()
    }

    /// Sessions, connected or not.
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Subscriptions, each share group counted once.
    pub fn subscriptions_len(&self) -> usize {
        self.index.len()
    }

    /// Messages queued or in flight, each counted once.
    pub fn messages_len(&self) -> usize {
        self.messages.len()
    }

    /// Questions that are not answered yet.
    pub fn questions_len(&self) -> usize {
        self.questions.len()
    }

    /// Journal groups that are not durable yet.
    pub fn commits_waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// The counters.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes of the heap, counted anew: walks over all sessions and connections.
    pub fn memory(&self) -> Memory {
        let wide = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let sessions = self.sessions.iter().map(|(_, session)| {
            2 * session.client_id.len()
                + session.subscriptions.iter().map(|filter| filter.len() + size_of::<usize>() * 3).sum::<usize>()
                + session.outbound.queue.capacity() * size_of::<crate::sessions::Entry>()
                + session.outbound.inflight.capacity() * size_of::<crate::sessions::Inflight>()
                + session.outbound.ids.heap_bytes()
                + session.received.heap_bytes()
        });
        Memory {
            messages: self.messages.bytes() + wide(self.messages.heap_bytes() + self.held_bytes + self.lookups.bytes),
            retained: self.retained.bytes() + wide(self.retained.heap_bytes()),
            subscriptions: wide(self.index.heap_bytes() + self.groups.heap_bytes()),
            sessions: wide(self.sessions.heap_bytes() + sessions.sum::<usize>()),
            connections: wide(self.connections.heap_bytes() + self.pool.heap_bytes() + self.waiting_bytes),
            route_caches: wide(self.counters.route_cache_bytes),
            counted: self.memory_counted(),
        }
    }
}
