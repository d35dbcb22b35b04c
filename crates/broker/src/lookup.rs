//! Looking up who gets a message: at once if that is little work, else over several calls.
//!
//! Peers choose the Topic Filters in the index, so they choose how many of its nodes a Topic Name passes: very many, if
//! they mean to. What takes more steps than one lookup may becomes a [`Lookup`], which `handle_timeout` carries on.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::ops::Bound;

use damselfly_codec::{QoS, SubscriptionId};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{MatchCursor, TopicName};

use crate::{
    Broker, DropReason,
    deliver::Outgoing,
    held::held_weight,
    publish::Tally,
    route::{GROUP, PackedOptions, ReceiverKey, Route},
    sessions::SessionKey,
};

/// Names a [`Lookup`]; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LookupId(u64);

/// Everything that is looked up over several calls.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    running: BTreeMap<LookupId, Lookup>,
    /// Messages without a session whose held messages could order them, one after the other.
    lane: VecDeque<Orphan>,
    next: u64,
    /// The one that had its turn last.
    turn: u64,
    /// What the running ones and those of the lane count for against the memory budget.
    pub(crate) bytes: usize,
}

/// A message on its way to more receivers, or past more nodes of the index, than one call should handle.
#[derive(Debug)]
struct Lookup {
    message: Message,
    publisher: Option<SessionKey>,
    origin: Origin,
    cursor: MatchCursor<ReceiverKey>,
    found: BTreeMap<ReceiverKey, Found>,
    tally: Tally,
    /// Why it was not retained.
    kept: Result<(), DropReason>,
    bytes: usize,
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From a client, a local participant or a will of this broker.
    Here,
    /// From another broker, which has chosen the members of share groups.
    Shard,
}

/// One receiver with its overlapping subscriptions.
#[derive(Debug)]
struct Found {
    /// Of the session, or the number of the share group: the slot may be another's when the message is delivered.
    generation: u32,
    qos: QoS,
    retain_as_published: bool,
    ids: Vec<SubscriptionId>,
}

impl Found {
    fn bytes(&self) -> usize {
        size_of::<(ReceiverKey, Self)>() + self.ids.len() * size_of::<SubscriptionId>()
    }
}

#[derive(Debug)]
enum Orphan {
    /// Those behind it wait for this one.
    Running(LookupId),
    Waiting(Message, Origin),
}

impl Lookups {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.lane.is_empty()
    }

    /// The next one in turn.
    fn next_in_turn(&mut self) -> Option<LookupId> {
        let behind = (Bound::Excluded(LookupId(self.turn)), Bound::Unbounded);
        let next = self.running.range(behind).next().or_else(|| self.running.first_key_value());
        let id = *next?.0;
        self.turn = id.0;
        Some(id)
    }

    /// Takes a session out of what was found for topics that it may not receive any more.
    pub(crate) fn withhold(&mut self, slot: u32, is_permitted: impl Fn(TopicName<'_>) -> bool) {
        for lookup in self.running.values_mut() {
            if !is_permitted(lookup.message.topic()) {
                if let Some(found) = lookup.found.remove(&slot) {
                    lookup.bytes -= found.bytes();
                    self.bytes -= found.bytes();
                }
            }
        }
    }

    /// What the bytes should be.
    pub(crate) fn count_bytes(&self) -> usize {
        let waiting = self.lane.iter().map(|orphan| match orphan {
            Orphan::Running(_) => 0,
            Orphan::Waiting(message, _) => held_weight(message),
        });
        let running = self.running.values().map(|lookup| {
            let found = lookup.found.values().map(Found::bytes).sum::<usize>();
            size_of::<Lookup>() + held_weight(&lookup.message) + found
        });
        running.chain(waiting).sum()
    }
}

impl Broker {
    /// Steps of one lookup in one call.
    pub(crate) fn lookup_steps(&self) -> usize {
        crate::slab::index(self.config.steps_per_call / 4).max(1)
    }

    /// Whether this call has taken its steps: what can wait does.
    #[inline]
    pub(crate) fn is_tired(&self) -> bool {
        self.steps >= crate::slab::index(self.config.steps_per_call)
    }

    /// Looks up the receivers of a topic. False if that takes more steps than one lookup may; the route is then empty.
    #[inline]
    pub(crate) fn look_up(&mut self, topic: TopicName<'_>, publisher: Option<u32>, route: &mut Route) -> bool {
        let limit = self.lookup_steps();
        let left = route.resolve(&self.index, topic, publisher, limit, &mut self.scratch.matches);
        self.steps += limit - left.unwrap_or(0);
        left.is_some()
    }

    /// Looks up and routes: for wills, released messages and whatever else comes from no cache. `None`, with nothing
    /// done, if it takes too many steps.
    pub(crate) fn route_at_once(&mut self, now: Timestamp, message: &Message, publisher: Option<u32>) -> Option<Tally> {
        let mut route = core::mem::take(&mut self.scratch.route);
        let tally =
            self.look_up(message.topic(), publisher, &mut route).then(|| self.route_message(now, message, &route));
        self.scratch.route = route;
        tally
    }

    /// Routes a message that may be routed, at once or later: behind what its publisher published to the topic before.
    pub(crate) fn route_in_order(
        &mut self,
        now: Timestamp,
        message: Message,
        publisher: Option<SessionKey>,
    ) -> Option<Tally> {
        // Its slot may be another session's by now.
        let publisher = publisher.filter(|key| self.sessions.get(*key).is_some_and(|session| !session.is_ended));
        match publisher {
            Some(key) => self.route_behind_held(now, key, message),
            None => self.route_orphan(now, message, Origin::Here),
        }
    }

    /// Routes a message without a session, behind the others of this kind that wait.
    pub(crate) fn route_orphan(&mut self, now: Timestamp, message: Message, origin: Origin) -> Option<Tally> {
        if self.lookups.lane.is_empty() && !self.is_tired() {
            let tally = match origin {
                Origin::Here => self.route_at_once(now, &message, None),
                Origin::Shard => self.route_forwarded(now, &message),
            };
            if tally.is_some() {
                return tally;
            }
            let id = self.begin_lookup(message, None, origin);
            self.lookups.lane.push_back(Orphan::Running(id));
            return None;
        }
        self.lookups.bytes += held_weight(&message);
        self.lookups.lane.push_back(Orphan::Waiting(message, origin));
        None
    }

    /// The session of a lookup ends: what has no session waits behind it.
    pub(crate) fn orphan_lookup(&mut self, id: LookupId) {
        self.lookups.lane.push_back(Orphan::Running(id));
    }

    /// Begins to look up the receivers of a message, and retains it if it asks for that: whoever subscribes meanwhile
    /// gets it at least so.
    pub(crate) fn begin_lookup(&mut self, message: Message, publisher: Option<SessionKey>, origin: Origin) -> LookupId {
        let kept = if message.retain() && origin == Origin::Here { self.retain(&message) } else { Ok(()) };
        let bytes = size_of::<Lookup>() + held_weight(&message);
        self.lookups.bytes += bytes;
        self.lookups.next += 1;
        let id = LookupId(self.lookups.next);
        let lookup = Lookup {
            message,
            publisher,
            origin,
            cursor: MatchCursor::new(),
            found: BTreeMap::new(),
            tally: Tally::default(),
            kept,
            bytes,
        };
        self.lookups.running.insert(id, lookup);
        id
    }

    /// Carries on what is looked up over several calls, each in turn.
    pub(crate) fn serve_lookups(&mut self, now: Timestamp) {
        let until = self.steps + self.lookup_steps();
        while self.steps < until {
            let Some(id) = self.lookups.next_in_turn() else { break };
            self.step_lookup(now, id);
        }
        while self.steps < until {
            match self.lookups.lane.front() {
                None => return,
                Some(Orphan::Running(id)) => {
                    debug_assert!(
                        !self.lookups.running.contains_key(id),
                        "while one is running no steps are left here"
                    );
                    self.lookups.lane.pop_front();
                }
                Some(Orphan::Waiting(..)) => self.serve_lane(now),
            }
        }
    }

    fn serve_lane(&mut self, now: Timestamp) {
        let Some(Orphan::Waiting(message, origin)) = self.lookups.lane.pop_front() else { return };
        self.lookups.bytes -= held_weight(&message);
        let tally = match origin {
            Origin::Here => self.route_at_once(now, &message, None),
            Origin::Shard => self.route_forwarded(now, &message),
        };
        if tally.is_none() {
            let id = self.begin_lookup(message, None, origin);
            self.lookups.lane.push_front(Orphan::Running(id));
        }
    }

    /// Finds some receivers or, once all are found, delivers to some.
    fn step_lookup(&mut self, now: Timestamp, id: LookupId) {
        let Some(mut lookup) = self.lookups.running.remove(&id) else { return };
        let steps = (self.lookup_steps() / 4).max(1);
        self.steps += steps;
        if lookup.cursor.is_done() {
            self.deliver_some(now, &mut lookup, steps);
            if lookup.found.is_empty() {
                self.end_lookup(now, id, &lookup);
                return;
            }
        } else {
            let mut matches = core::mem::take(&mut self.scratch.matches);
            matches.clear();
            self.index.query(lookup.message.topic(), &mut lookup.cursor, steps, &mut matches);
            let before = lookup.bytes;
            for (key, options) in matches.drain(..) {
                self.note_match(&mut lookup, key, options);
            }
            self.scratch.matches = matches;
            // They may be fewer: what was found of a session that ended is forgotten.
            self.lookups.bytes = self.lookups.bytes - before + lookup.bytes;
        }
        self.lookups.running.insert(id, lookup);
    }

    /// One subscription more. [MQTT-3.3.4-2] [MQTT-3.8.3-3]
    fn note_match(&self, lookup: &mut Lookup, key: ReceiverKey, options: PackedOptions) {
        let Some(generation) = self.generation_of(key) else { return };
        let is_publisher = lookup.publisher == Some(SessionKey { slot: key, generation });
        let is_chosen_elsewhere = lookup.origin == Origin::Shard && key & GROUP != 0;
        if (is_publisher && options.no_local()) || is_chosen_elsewhere {
            return;
        }
        let new = || Found { generation, qos: QoS::AtMostOnce, retain_as_published: false, ids: Vec::new() };
        let found = lookup.found.entry(key).or_insert_with(|| {
            lookup.bytes += size_of::<(ReceiverKey, Found)>();
            new()
        });
        if found.generation != generation {
            lookup.bytes -= found.ids.len() * size_of::<SubscriptionId>();
            *found = new();
        }
        found.qos = found.qos.max(options.qos());
        found.retain_as_published |= options.retain_as_published();
        if let Some(id) = options.id() {
            found.ids.push(id);
            lookup.bytes += size_of::<SubscriptionId>();
        }
    }

    /// What tells a receiver from a later one in the same slot.
    fn generation_of(&self, key: ReceiverKey) -> Option<u32> {
        if key & GROUP == 0 {
            self.sessions.key(key).map(|session| session.generation)
        } else {
            self.groups.number(key & !GROUP)
        }
    }

    fn deliver_some(&mut self, now: Timestamp, lookup: &mut Lookup, limit: usize) {
        let mut route = core::mem::take(&mut self.scratch.route);
        route.clear();
        let before = lookup.bytes;
        for _ in 0..limit {
            let Some((key, found)) = lookup.found.pop_first() else { break };
            lookup.bytes -= found.bytes();
            if self.generation_of(key) == Some(found.generation) {
                route.add(key, found.qos, found.retain_as_published, &found.ids);
            }
        }
        self.lookups.bytes -= before - lookup.bytes;
        let mut out = Outgoing::of_message(&lookup.message, now);
        self.deliver_route(now, &mut out, &route, &mut lookup.tally);
        self.finish(out);
        self.scratch.route = route;
    }

    fn end_lookup(&mut self, now: Timestamp, id: LookupId, lookup: &Lookup) {
        self.lookups.bytes -= lookup.bytes;
        let mut tally = lookup.tally;
        if lookup.origin == Origin::Here && !self.shards.is_empty() {
            let mut out = Outgoing::of_message(&lookup.message, now);
            tally.accepted += self.forward(now, &mut out);
            self.finish(out);
        }
        self.counters.deliveries += u64::from(tally.accepted);
        if let Err(reason) = lookup.kept {
            tally.dropped = Some(reason);
        }
        if let Some(key) = lookup.publisher {
            self.lookup_ended(now, key, id, tally);
        }
    }
}
