//! Shared Subscriptions: a message goes to one member of each group. [MQTT-4.8.2]

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use damselfly_codec::{QoS, SubscriptionId};
use damselfly_session::{SendState, Timestamp};
use damselfly_topic::{KeyedState, SharedFilter, TopicFilter};
use hashbrown::HashMap;

use crate::{
    Broker, ShardId,
    broker::owned,
    deliver::{Fate, Outgoing, Terms},
    route::PackedOptions,
    sessions::{Entry, NO_GROUP, Queued, SessionKey, Sink},
    slab::Slab,
};

/// The members of one ShareName and Topic Filter.
#[derive(Debug)]
pub(crate) struct Group {
    /// `$share/{ShareName}/{filter}`.
    pub(crate) filter: Box<str>,
    members: Vec<(u32, PackedOptions)>,
    /// Other brokers with members, and how many.
    remote: Vec<(ShardId, u32)>,
    /// Whose turn it is.
    turn: usize,
    /// Never another group's: what queued messages remember, whatever becomes of the slot.
    number: u32,
}

/// All share groups.
#[derive(Debug)]
pub(crate) struct ShareGroups {
    groups: Slab<Group>,
    by_filter: HashMap<Box<str>, u32, KeyedState>,
    by_number: BTreeMap<u32, u32>,
    next_number: u32,
}

pub(crate) struct Joined {
    pub(crate) group: u32,
    pub(crate) is_new_group: bool,
    pub(crate) is_new_member: bool,
}

pub(crate) struct Left {
    pub(crate) was_member: bool,
    /// The group, if nobody is left in it.
    pub(crate) emptied: Option<u32>,
}

impl ShareGroups {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            groups: Slab::new(),
            by_filter: HashMap::with_hasher(KeyedState::new(seed)),
            by_number: BTreeMap::new(),
            next_number: 0,
        }
    }

    fn open(&mut self, filter: &str) -> (u32, bool) {
        if let Some(group) = self.by_filter.get(filter) {
            return (*group, false);
        }
        let number = self.next_number;
        self.next_number = (number + 1) % NO_GROUP;
        let group = Group { filter: owned(filter), members: Vec::new(), remote: Vec::new(), turn: 0, number };
        let (slot, _) = self.groups.insert(group);
        self.by_number.insert(number, slot);
        self.by_filter.insert(owned(filter), slot);
        (slot, true)
    }

    pub(crate) fn join(&mut self, filter: TopicFilter<'_>, session: u32, options: PackedOptions) -> Joined {
        let (slot, is_new_group) = self.open(filter.as_str());
        let mut is_new_member = true;
        if let Some(group) = self.groups.get_mut(slot) {
            match group.members.iter_mut().find(|(member, _)| *member == session) {
                Some((_, old)) => {
                    *old = options;
                    is_new_member = false;
                }
                None => group.members.push((session, options)),
            }
        }
        Joined { group: slot, is_new_group, is_new_member }
    }

    pub(crate) fn leave(&mut self, filter: &str, session: u32) -> Left {
        let Some(slot) = self.by_filter.get(filter).copied() else { return Left { was_member: false, emptied: None } };
        let Some(group) = self.groups.get_mut(slot) else { return Left { was_member: false, emptied: None } };
        let before = group.members.len();
        group.members.retain(|(member, _)| *member != session);
        let was_member = group.members.len() < before;
        Left { was_member, emptied: self.drop_if_empty(slot) }
    }

    /// Members of another broker. Answers with the group if it is new, or if it is empty.
    pub(crate) fn set_remote(&mut self, filter: &str, shard: ShardId, members: u32) -> (u32, bool, Option<u32>) {
        let (slot, is_new) = self.open(filter);
        if let Some(group) = self.groups.get_mut(slot) {
            group.remote.retain(|(known, _)| *known != shard);
            if members > 0 {
                group.remote.push((shard, members));
            }
        }
        (slot, is_new, self.drop_if_empty(slot))
    }

    fn drop_if_empty(&mut self, slot: u32) -> Option<u32> {
        let group = self.groups.get(slot)?;
        if !group.members.is_empty() || !group.remote.is_empty() {
            return None;
        }
        let group = self.groups.remove(slot)?;
        self.by_filter.remove(&group.filter);
        self.by_number.remove(&group.number);
        Some(slot)
    }

    pub(crate) fn options(&self, filter: &str, session: u32) -> Option<PackedOptions> {
        let group = self.groups.get(*self.by_filter.get(filter)?)?;
        group.members.iter().find(|(member, _)| *member == session).map(|(_, options)| *options)
    }

    pub(crate) fn find(&self, filter: &str) -> Option<u32> {
        self.by_filter.get(filter).copied()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Group> {
        self.groups.get(slot)
    }

    /// What tells a group from every other there ever was.
    pub(crate) fn number(&self, slot: u32) -> Option<u32> {
        self.groups.get(slot).map(|group| group.number)
    }

    pub(crate) const fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let members = self
            .groups
            .iter()
            .map(|(_, group)| group.members.capacity() * size_of::<(u32, PackedOptions)>() + 2 * group.filter.len());
        self.groups.heap_bytes() + self.by_filter.allocation_size() + members.sum::<usize>()
    }
}

/// Who of a group gets a message.
enum Choice {
    Member(u32, PackedOptions),
    Remote(ShardId),
    Nobody,
}

impl Broker {
    /// Delivers to one member: in turn, whoever can take it at once before whoever cannot.
    pub(crate) fn deliver_to_group(&mut self, now: Timestamp, out: &mut Outgoing<'_>, group: u32) -> Fate {
        self.deliver_within(now, out, group, true, None)
    }

    /// As [`Broker::deliver_to_group`], with or without the members of other brokers, and not to `but`.
    pub(crate) fn deliver_within(
        &mut self,
        now: Timestamp,
        out: &mut Outgoing<'_>,
        group: u32,
        with_remote: bool,
        but: Option<u32>,
    ) -> Fate {
        match self.choose(group, with_remote, but) {
            Choice::Member(session, options) => {
                let id: Option<SubscriptionId> = options.id();
                let terms = Terms {
                    qos: options.qos(),
                    retain: options.retain_as_published() && out.retain,
                    ids: id.as_slice(),
                    group: self.groups.get(group).map_or(NO_GROUP, |group| group.number),
                };
                self.deliver(now, out, session, terms)
            }
            Choice::Remote(shard) => {
                let filter = self.groups.get(group).map(|group| group.filter.clone());
                self.forward_to_group(now, out, shard, filter);
                Fate::Accepted
            }
            Choice::Nobody => Fate::Nobody,
        }
    }

    fn choose(&mut self, slot: u32, with_remote: bool, but: Option<u32>) -> Choice {
        let Some(group) = self.groups.groups.get(slot) else { return Choice::Nobody };
        let local = group.members.len();
        let remote: usize =
            if with_remote { group.remote.iter().map(|(_, members)| crate::slab::index(*members)).sum() } else { 0 };
        let places = local + remote;
        if places == 0 {
            return Choice::Nobody;
        }
        let start = group.turn % places;
        let mut fallback: Option<(Readiness, usize, u32, PackedOptions)> = None;
        let mut chosen = None;
        for step in 0..places {
            let at = (start + step) % places;
            let Some((session, options)) = group.members.get(at).copied() else {
                chosen = remote_at(&group.remote, at - local).map(|shard| (at, Choice::Remote(shard)));
                break;
            };
            if Some(session) == but {
                continue;
            }
            match self.readiness(session) {
                Readiness::Ready => {
                    chosen = Some((at, Choice::Member(session, options)));
                    break;
                }
                readiness => {
                    if fallback.as_ref().is_none_or(|(best, ..)| readiness < *best) {
                        fallback = Some((readiness, at, session, options));
                    }
                }
            }
        }
        let (at, choice) = match (chosen, fallback) {
            (Some(chosen), _) => chosen,
            (None, Some((_, at, session, options))) => (at, Choice::Member(session, options)),
            (None, None) => return Choice::Nobody,
        };
        if let Some(group) = self.groups.groups.get_mut(slot) {
            group.turn = at + 1;
        }
        choice
    }

    fn readiness(&self, session: u32) -> Readiness {
        let Some(session) = self.sessions.at(session) else { return Readiness::Offline };
        match session.sink {
            Sink::Offline => Readiness::Offline,
            Sink::Connection(connection)
                if session.outbound.queue.is_empty()
                    && session.outbound.inflight_bytes < self.config.max_inflight_bytes
                    && self.may_send(connection) =>
            {
                Readiness::Ready
            }
            Sink::Local if session.local_window.as_ref().is_some_and(|window| !window.is_full()) => Readiness::Ready,
            Sink::Connection(_) | Sink::Local => Readiness::Busy,
        }
    }

    /// A member's connection ended: what was never sent to it moves to another member. If its session ended, what it
    /// did not acknowledge at QoS 1 moves too; a QoS 2 message that was sent never does. [MQTT-4.8.2-4] [MQTT-4.8.2-5]
    pub(crate) fn rebalance(&mut self, now: Timestamp, key: SessionKey, has_ended: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let is_shared = |entry: &Entry| matches!(entry, Entry::Message(queued) if queued.group != NO_GROUP);
        let mut moved: Vec<Queued> = Vec::new();
        if has_ended {
            for inflight in &mut session.outbound.inflight {
                let is_movable = inflight.state == SendState::AwaitPuback
                    && inflight.queued.as_ref().is_some_and(|queued| queued.group != NO_GROUP);
                if is_movable {
                    moved.extend(inflight.queued.take());
                }
            }
        }
        let in_flight = moved.len();
        if session.outbound.queue.iter().any(is_shared) {
            let queue = core::mem::take(&mut session.outbound.queue);
            for entry in queue {
                match entry {
                    Entry::Message(queued) if queued.group != NO_GROUP => moved.push(queued),
                    kept => session.outbound.queue.push_back(kept),
                }
            }
        }
        for (at, queued) in moved.into_iter().enumerate() {
            if at >= in_flight {
                self.uncount(key.slot, &queued);
            }
            self.move_to_member(now, key, queued, has_ended);
        }
    }

    /// Finds another member; without one the message stays, or ends with its session.
    pub(crate) fn move_to_member(&mut self, now: Timestamp, key: SessionKey, queued: Queued, has_ended: bool) {
        let Some(message) = self.messages.get(&queued.message).cloned() else { return };
        let group = self.groups.by_number.get(&queued.group).copied().unwrap_or(NO_GROUP);
        let is_current = self.groups.get(group).is_some_and(|group| {
            let inside =
                TopicFilter::new(&group.filter).ok().and_then(|filter| filter.shared().map(SharedFilter::filter));
            inside.is_some_and(|filter| filter.matches(message.topic()))
        });
        let others_connected = is_current && self.has_other_connected(group, key.slot);
        if others_connected {
            let mut out = Outgoing::of_message(&message, now);
            self.deliver_within(now, &mut out, group, true, Some(key.slot));
            self.finish(out);
            self.discard(queued);
        } else if has_ended {
            if is_current && queued.qos != QoS::AtMostOnce {
                let mut out = Outgoing::of_message(&message, now);
                self.deliver_within(now, &mut out, group, true, Some(key.slot));
                self.finish(out);
            }
            self.discard(queued);
        } else {
            let weight = self.messages.weight(&queued);
            match self.sessions.get_mut(key) {
                Some(session) => {
                    session.outbound.messages += 1;
                    session.outbound.bytes += weight;
                    session.outbound.queue.push_back(Entry::Message(queued));
                }
                None => self.discard(queued),
            }
        }
    }

    fn has_other_connected(&self, group: u32, but: u32) -> bool {
        let Some(group) = self.groups.get(group) else { return false };
        let is_connected = |slot: u32| self.sessions.at(slot).is_some_and(|session| session.sink != Sink::Offline);
        !group.remote.is_empty() || group.members.iter().any(|(member, _)| *member != but && is_connected(*member))
    }
}

/// How soon a member gets a message. The sooner, the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    Ready,
    Busy,
    Offline,
}

fn remote_at(remote: &[(ShardId, u32)], at: usize) -> Option<ShardId> {
    let mut left = at;
    for (shard, members) in remote {
        let members = crate::slab::index(*members);
        if left < members {
            return Some(*shard);
        }
        left -= members;
    }
    None
}
