//! Retained messages, and their replay to new subscriptions. [MQTT-3.3.1.3]

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};

use damselfly_codec::{Delivery, QoS, SubscriptionId};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicCursor, TopicFilter, TopicMap, TopicName};

use crate::{
    Broker, ConnectionId, DropReason, LocalId,
    acks::Pumped,
    broker::{Timer, WORK_PER_CALL, owned},
    deliver::{Fate, Outgoing, Terms, plain_terms},
    sessions::{Entry, Replay, SessionKey, Sink},
};

/// A retained message and when it came among the others.
#[derive(Debug)]
pub(crate) struct Retained {
    pub(crate) message: Message,
    pub(crate) number: u64,
}

/// All retained messages.
#[derive(Debug)]
pub(crate) struct RetainedStore {
    map: TopicMap<Retained>,
    /// Those that expire, soonest first.
    expiring: BTreeSet<(Timestamp, Box<str>)>,
    /// Retained messages set so far.
    number: u64,
    /// Walks begun so far.
    walks: u64,
    bytes: u64,
}

/// What an entry takes beside its message: its place in the map with the topic's text.
const OVERHEAD: usize = 48;

fn weight(message: &Message) -> u64 {
    u64::try_from(OVERHEAD + size_of::<Retained>() + message.heap_bytes() + message.topic().as_bytes().len())
        .unwrap_or(u64::MAX)
}

impl RetainedStore {
    pub(crate) fn new(seed: u64) -> Self {
        Self { map: TopicMap::new(seed), expiring: BTreeSet::new(), number: 0, walks: 0, bytes: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, topic: TopicName<'_>) -> Option<&Message> {
        self.map.get(topic).map(|retained| &retained.message)
    }

    /// A number for a walk that no other has.
    pub(crate) const fn next_walk(&mut self) -> u64 {
        self.walks += 1;
        self.walks
    }

    /// The number the next retained message gets.
    pub(crate) const fn next_number(&self) -> u64 {
        self.number
    }

    fn remove(&mut self, topic: TopicName<'_>) -> bool {
        let Some(old) = self.map.remove(topic) else { return false };
        self.forget(&old.message);
        true
    }

    fn forget(&mut self, message: &Message) {
        self.bytes -= weight(message);
        if let Some(at) = message.expires_at() {
            self.expiring.remove(&(at, owned(message.topic().as_str())));
        }
    }

    /// False if the map has no room for another name.
    fn insert(&mut self, message: &Message) -> bool {
        let topic = message.topic();
        let retained = Retained { message: message.clone(), number: self.number };
        let Ok(old) = self.map.insert(topic, retained) else { return false };
        self.number += 1;
        self.bytes += weight(message);
        if let Some(at) = message.expires_at() {
            self.expiring.insert((at, owned(topic.as_str())));
        }
        if let Some(old) = old {
            self.forget_replaced(&old.message, message.expires_at());
        }
        true
    }

    fn forget_replaced(&mut self, old: &Message, new_expiry: Option<Timestamp>) {
        self.bytes -= weight(old);
        if let Some(at) = old.expires_at().filter(|at| Some(*at) != new_expiry) {
            self.expiring.remove(&(at, owned(old.topic().as_str())));
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.map.heap_bytes()
    }

    /// Walks over the messages a filter matches; true at the end.
    pub(crate) fn query(
        &self,
        filter: TopicFilter<'_>,
        cursor: &mut TopicCursor,
        budget: usize,
        mut visit: impl FnMut(&Retained),
    ) -> bool {
        self.map.query(filter, cursor, budget, |_, retained| visit(retained))
    }
}

impl Broker {
    /// Sets, replaces or removes the retained message of a topic. [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7]
    pub(crate) fn retain(&mut self, message: &Message) -> Result<(), DropReason> {
        let topic = message.topic();
        if message.payload().is_empty() {
            self.retained.remove(topic);
            return Ok(());
        }
        let old = self.retained.get(topic).map_or(0, weight);
        let is_new = old == 0;
        let count_limit = crate::slab::index(self.config.max_retained_messages);
        let is_full = (is_new && self.retained.len() >= count_limit)
            || self.retained.bytes() - old + weight(message) > self.config.max_retained_bytes
            || self.has_no_memory();
        if is_full || !self.retained.insert(message) {
            // The message it would have replaced is not the last one any more.
            self.retained.remove(topic);
            self.note_drop(None, topic, DropReason::RetainedFull);
            return Err(DropReason::RetainedFull);
        }
        self.arm_retained();
        Ok(())
    }

    /// Not put off by what is retained meanwhile.
    fn arm_retained(&mut self) {
        if let Some((at, _)) = self.retained.expiring.first() {
            // A second late is soon enough to free memory; delivery looks at the time itself.
            self.deadlines.arm(Timer::Retained, at.saturating_add(core::time::Duration::from_secs(1)));
        }
    }

    pub(crate) fn expire_retained(&mut self, now: Timestamp) {
        for _ in 0..WORK_PER_CALL {
            let Some((at, _)) = self.retained.expiring.first() else { return };
            if *at > now {
                self.arm_retained();
                return;
            }
            let Some((_, topic)) = self.retained.expiring.pop_first() else { return };
            if let Ok(topic) = TopicName::new(&topic) {
                self.retained.remove(topic);
            }
        }
        // The rest has its turn soon.
        self.deadlines.arm(Timer::Retained, now.saturating_add(core::time::Duration::from_millis(1)));
    }

    /// SUBACK is out: the retained messages follow, in the order of the Topic Filters.
    pub(crate) fn begin_replays(&mut self, now: Timestamp, id: ConnectionId, replays: Vec<Replay>) {
        let Some(key) = self.connections.get(id).map(|connection| connection.session) else { return };
        self.queue_replays(now, key, replays);
    }

    pub(crate) fn queue_replays(&mut self, now: Timestamp, key: SessionKey, replays: Vec<Replay>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if replays.is_empty() {
            return;
        }
        for replay in replays {
            session.outbound.queue.push_back(Entry::Replay(Box::new(replay)));
        }
        self.pump(now, key);
    }

    /// Walks ended with their subscriptions: what waits behind one goes on.
    pub(crate) fn drop_ended_replays(&mut self, now: Timestamp, key: SessionKey) {
        let Some(outbound) = self.sessions.get(key).map(|session| &session.outbound) else { return };
        if matches!(outbound.queue.front(), Some(Entry::Replay(replay)) if !outbound.is_walking(replay)) {
            self.pump(now, key);
        }
    }

    /// Sends some of the retained messages a subscription asked for. The walk goes on where it stopped; what was
    /// retained since the SUBSCRIBE came live and is left out.
    pub(crate) fn pump_replay(&mut self, now: Timestamp, key: SessionKey, sink: Sink) -> Pumped {
        let Some(outbound) = self.sessions.get(key).map(|session| &session.outbound) else { return Pumped::Blocked };
        let is_ended = matches!(outbound.queue.front(), Some(Entry::Replay(replay)) if !outbound.is_walking(replay));
        if !is_ended && !self.sink_takes_replay(sink) {
            return Pumped::Blocked;
        }
        let front = self.sessions.get_mut(key).and_then(|session| session.outbound.queue.pop_front());
        let Some(Entry::Replay(mut replay)) = front else { return Pumped::Blocked };
        if is_ended {
            self.end_replay(key, *replay);
            return Pumped::Sent;
        }
        let mut found = core::mem::take(&mut self.scratch.replayed);
        self.steps += REPLAY_STEP;
        let is_done = match TopicFilter::new(&replay.filter) {
            Ok(filter) => self.retained.query(filter, &mut replay.cursor, REPLAY_STEP, |retained| {
                if retained.number < replay.before && !retained.message.is_expired(now) {
                    found.push(retained.message.clone());
                }
            }),
            Err(_) => true,
        };
        let mut single: Option<SubscriptionId> = None;
        let ids: Vec<SubscriptionId> = self.messages.ids(&replay.ids, &mut single).into();
        let qos = replay.qos;
        if is_done {
            self.end_replay(key, *replay);
        } else if let Some(session) = self.sessions.get_mut(key) {
            session.outbound.queue.push_front(Entry::Replay(replay));
        }
        let mut place = 0;
        for message in found.drain(..) {
            self.replay_one(now, key, sink, &message, plain_terms(qos, true, &ids), &mut place);
        }
        self.scratch.replayed = found;
        Pumped::Sent
    }

    /// Gives back what a walk held that is at its end, or was ended early.
    pub(crate) fn end_replay(&mut self, key: SessionKey, replay: Replay) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.outbound.replays -= 1;
            if session.outbound.is_walking(&replay) {
                session.outbound.end_walk(&replay.filter);
            }
        }
        self.messages.release_ids(replay.ids);
    }

    /// One retained message, with RETAIN 1. [MQTT-3.3.1-9] What needs the window waits before the rest of the walk, at
    /// `place` of the queue.
    fn replay_one(
        &mut self,
        now: Timestamp,
        key: SessionKey,
        sink: Sink,
        message: &Message,
        terms: Terms<'_>,
        place: &mut usize,
    ) {
        let mut out = Outgoing::of_message(message, now);
        let terms = Terms { qos: terms.qos.min(message.qos()), ..terms };
        let fate = match sink {
            Sink::Connection(connection) if terms.qos == QoS::AtMostOnce => {
                match self.write(&mut out, connection, Delivery::AtMostOnce, terms) {
                    Ok(()) => Fate::Accepted,
                    Err(reason) => Fate::Dropped(reason),
                }
            }
            Sink::Local if terms.qos == QoS::AtMostOnce => {
                self.hand_over(LocalId(key), message.clone(), terms, None);
                Fate::Accepted
            }
            Sink::Connection(_) | Sink::Local | Sink::Offline => {
                self.enqueue_at(now, &mut out, key.slot, terms, *place);
                *place += 1;
                Fate::Accepted
            }
        };
        self.finish(out);
        self.counters.deliveries += 1;
        if let Fate::Dropped(reason) = fate {
            self.note_drop(Some(key.slot), message.topic(), reason);
        }
    }

    /// Whether more retained messages may be taken up: not while the transport is behind. Those that need the window wait
    /// for it before the rest of the walk.
    fn sink_takes_replay(&self, sink: Sink) -> bool {
        match sink {
            Sink::Offline => false,
            Sink::Connection(id) => {
                self.connections.get(id).is_some_and(|connection| connection.transmit.len() < REPLAY_BYTES)
            }
            Sink::Local => true,
        }
    }
}

/// Nodes of the retained tree looked at in one step.
const REPLAY_STEP: usize = 64;
/// Bytes that may wait for a connection before its replay pauses.
const REPLAY_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use damselfly_codec::Properties;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1);

    fn message(topic: &str, payload: &str) -> Message {
        let topic = TopicName::new(topic).unwrap();
        Message::compose(topic, payload.as_bytes(), QoS::AtMostOnce, true, Properties::EMPTY, NOW)
    }

    #[test]
    fn a_retained_message_weighs_its_place_its_content_and_its_name_once_more() {
        let long: String = "x".repeat(1_000);
        let small = message("a", "b");
        let place = u64::try_from(OVERHEAD + size_of::<Retained>()).unwrap();
        let content = |message: &Message| u64::try_from(message.heap_bytes()).unwrap();
        assert_eq!(weight(&small), place + content(&small) + 1);
        let (named, filled) = (message(&long, "b"), message("a", &long));
        assert_eq!(weight(&named) - content(&named), place + 1_000);
        assert_eq!(weight(&filled) - content(&filled), place + 1);
    }

    #[test]
    fn a_store_weighs_what_is_in_it_however_often_it_was_replaced() {
        let mut store = RetainedStore::new(1);
        let (small, large) = (message("a", "b"), message("a", "a longer payload"));
        for next in [&small, &large, &large, &small] {
            assert!(store.insert(next));
            assert_eq!((store.len(), store.bytes()), (1, weight(next)));
        }
        let other = message("c", "d");
        assert!(store.insert(&other));
        assert_eq!(store.bytes(), weight(&small) + weight(&other));
        assert!(store.remove(small.topic()));
        assert_eq!(store.bytes(), weight(&other));
    }
}
