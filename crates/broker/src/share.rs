//! Shared Subscriptions: a message goes to one member of each group. [MQTT-4.8.2]

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use damselfly_codec::SubscriptionId;
use damselfly_session::{SendState, Timestamp};
use damselfly_topic::{KeyedState, TopicFilter};
use hashbrown::HashMap;

use crate::{
    Broker, ShardId,
    broker::owned,
    budget::subscription_weight,
    deliver::{Fate, Outgoing, Terms},
    members::{Members, Readiness, Rings},
    route::PackedOptions,
    sessions::{Entry, NO_GROUP, Queued, SessionKey, Sink},
    slab::Slab,
};

/// The members of one ShareName and Topic Filter.
#[derive(Debug)]
pub(crate) struct Group {
    /// `$share/{ShareName}/{filter}`.
    pub(crate) filter: Box<str>,
    rings: Rings,
    /// Other brokers with members.
    remote: Vec<Remote>,
    /// Whose turn it is: of those who are ready here, then of other brokers' members.
    turn: usize,
    /// Never another group's: what queued messages remember, whatever becomes of the slot.
    number: u32,
}

/// Another broker's members of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) shard: ShardId,
    pub(crate) members: u32,
    /// Those who have a connection.
    pub(crate) connected: u32,
}

/// All share groups.
#[derive(Debug)]
pub(crate) struct ShareGroups {
    groups: Slab<Group>,
    members: Members,
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
            members: Members::new(seed),
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
        let group = Group { filter: owned(filter), rings: Rings::EMPTY, remote: Vec::new(), turn: 0, number };
        let (slot, _) = self.groups.insert(group);
        self.by_number.insert(number, slot);
        self.by_filter.insert(owned(filter), slot);
        (slot, true)
    }

    pub(crate) fn join(&mut self, filter: TopicFilter<'_>, session: u32, options: PackedOptions) -> Joined {
        let (slot, is_new_group) = self.open(filter.as_str());
        let group = self.groups.get_mut(slot);
        let is_new_member = group.is_some_and(|group| self.members.join(&mut group.rings, slot, session, options));
        Joined { group: slot, is_new_group, is_new_member }
    }

    pub(crate) fn leave(&mut self, filter: &str, session: u32) -> Left {
        let Some(slot) = self.by_filter.get(filter).copied() else { return Left { was_member: false, emptied: None } };
        let Some(group) = self.groups.get_mut(slot) else { return Left { was_member: false, emptied: None } };
        let was_member = self.members.leave(&mut group.rings, slot, session);
        Left { was_member, emptied: self.drop_if_empty(slot) }
    }

    /// Members of another broker. Answers with the group if it is new, or if it is empty.
    pub(crate) fn set_remote(&mut self, filter: &str, remote: Remote) -> (u32, bool, Option<u32>) {
        let (slot, is_new) = self.open(filter);
        if let Some(group) = self.groups.get_mut(slot) {
            // In its place: whose turn it is does not change with what becomes of members.
            let at = group.remote.iter().position(|known| known.shard == remote.shard);
            match at.and_then(|at| group.remote.get_mut(at)) {
                Some(known) => *known = remote,
                None => group.remote.push(remote),
            }
            group.remote.retain(|known| known.members > 0);
        }
        (slot, is_new, self.drop_if_empty(slot))
    }

    fn drop_if_empty(&mut self, slot: u32) -> Option<u32> {
        let group = self.groups.get(slot)?;
        if !group.rings.is_empty() || !group.remote.is_empty() {
            return None;
        }
        let group = self.groups.remove(slot)?;
        self.by_filter.remove(&group.filter);
        self.by_number.remove(&group.number);
        Some(slot)
    }

    pub(crate) fn options(&self, filter: &str, session: u32) -> Option<PackedOptions> {
        self.members.find(*self.by_filter.get(filter)?, session).map(|member| member.options)
    }

    pub(crate) fn find(&self, filter: &str) -> Option<u32> {
        self.by_filter.get(filter).copied()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Group> {
        self.groups.get(slot)
    }

    /// Whose turn it is in a ring of a group: the member, its session and options.
    fn first(&self, slot: u32, of: Readiness, but: Option<u32>) -> Option<(u32, u32, PackedOptions)> {
        let group = self.groups.get(slot)?;
        self.members.first(&group.rings, of, but).map(|(at, member)| (at, member.session, member.options))
    }

    /// What tells a group from every other there ever was.
    pub(crate) fn number(&self, slot: u32) -> Option<u32> {
        self.groups.get(slot).map(|group| group.number)
    }

    pub(crate) const fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let filters = self.groups.iter().map(|(_, group)| 2 * group.filter.len()).sum::<usize>();
        self.groups.heap_bytes() + self.by_filter.allocation_size() + self.members.heap_bytes() + filters
    }
}

/// Who of a group gets a message.
enum Choice {
    /// The member, its session and the options of its subscription.
    Member(u32, u32, PackedOptions),
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
            Choice::Member(member, session, options) => {
                let id: Option<SubscriptionId> = options.id();
                let terms = Terms {
                    qos: options.qos(),
                    retain: options.retain_as_published() && out.retain,
                    ids: id.as_slice(),
                    group: self.groups.get(group).map_or(NO_GROUP, |group| group.number),
                };
                let fate = self.deliver(now, out, session, terms);
                // Known before its next turn, so that no message has to look at very many who were ready once.
                let readiness = self.readiness(session);
                if readiness != Readiness::Ready {
                    self.requeue(group, (member, session), readiness);
                }
                fate
            }
            Choice::Remote(shard) => {
                let filter = self.groups.get(group).map(|group| group.filter.clone());
                self.forward_to_group(now, out, shard, filter);
                Fate::Accepted
            }
            Choice::Nobody => Fate::Nobody,
        }
    }

    /// Who has room before who has none, before who is not connected; among equals, who had no turn for longest. Of other
    /// brokers' members it is known only whether they are connected: a message that came from one of those goes back only
    /// if nobody is connected here.
    fn choose(&mut self, slot: u32, with_remote: bool, but: Option<u32>) -> Choice {
        if let Some(choice) = self.choose_ready(slot, with_remote, but) {
            return choice;
        }
        let elsewhere = |broker: &Self, is_it: fn(&Remote) -> bool| {
            let mut remote = broker.groups.get(slot)?.remote.iter();
            remote.find(|remote| is_it(remote)).map(|remote| Choice::Remote(remote.shard))
        };
        self.choose_waiting(slot, Readiness::Busy, but)
            .or_else(|| elsewhere(self, |remote| remote.connected > 0))
            .or_else(|| self.choose_waiting(slot, Readiness::Offline, but))
            .or_else(|| elsewhere(self, |_| true))
            .unwrap_or(Choice::Nobody)
    }

    /// A member here that is no worse off than that.
    fn choose_waiting(&mut self, slot: u32, expected: Readiness, but: Option<u32>) -> Option<Choice> {
        while let Some((member, session, options)) = self.groups.first(slot, expected, but) {
            self.steps += 1;
            if self.drop_ended_member(slot, session) {
                continue;
            }
            let readiness = self.readiness(session);
            self.requeue(slot, (member, session), readiness);
            if readiness <= expected {
                return Some(Choice::Member(member, session, options));
            }
        }
        None
    }

    /// Takes a member out whose session has ended, but not all of its subscriptions yet: this one goes before its turn.
    fn drop_ended_member(&mut self, slot: u32, session: u32) -> bool {
        let Some(key) = self.sessions.key(session) else { return false };
        let Some(ended) = self.sessions.get_mut(key).filter(|session| session.is_ended) else { return false };
        let Some(text) = self.groups.get(slot).map(|group| group.filter.clone()) else { return false };
        ended.subscriptions.remove(&text);
        self.standing.remove(subscription_weight(&text));
        TopicFilter::new(&text).is_ok_and(|filter| self.remove_subscription(key, filter))
    }

    /// A member with room, or another broker's in its turn: as often as it has members that are connected.
    fn choose_ready(&mut self, slot: u32, with_remote: bool, but: Option<u32>) -> Option<Choice> {
        let group = self.groups.get(slot)?;
        let connected = |remote: &Remote| crate::slab::index(remote.connected);
        let remote: usize = if with_remote { group.remote.iter().map(connected).sum() } else { 0 };
        while let Some(group) = self.groups.groups.get_mut(slot) {
            let ready = group.rings.len(Readiness::Ready);
            let at = group.turn.checked_rem(ready + remote)?;
            let first = if at < ready { self.groups.members.first(&group.rings, Readiness::Ready, but) } else { None };
            let Some((member, session, options)) = first.map(|(at, first)| (at, first.session, first.options)) else {
                let shard = remote_at(&group.remote, at.saturating_sub(ready)).filter(|_| with_remote)?;
                group.turn = at + 1;
                return Some(Choice::Remote(shard));
            };
            self.steps += 1;
            let readiness = self.readiness(session);
            self.requeue(slot, (member, session), readiness);
            if readiness == Readiness::Ready {
                if let Some(group) = self.groups.groups.get_mut(slot) {
                    group.turn = at + 1;
                }
                return Some(Choice::Member(member, session, options));
            }
        }
        None
    }

    /// Puts a member behind the others that are as ready.
    fn requeue(&mut self, slot: u32, (member, session): (u32, u32), readiness: Readiness) {
        let Some(group) = self.groups.groups.get_mut(slot) else { return };
        self.groups.members.requeue(&mut group.rings, member, readiness);
        if readiness != Readiness::Ready {
            if let Some(session) = self.sessions.at_mut(session) {
                session.is_parked = true;
            }
        }
    }

    /// A session can take messages again, or is connected: groups that found it without look at it anew.
    #[cold]
    pub(crate) fn unpark(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.is_parked = false;
        for (member, group) in self.groups.members.parked(key.slot) {
            self.steps += 1;
            self.requeue(group, (member, key.slot), Readiness::Ready);
        }
    }

    /// As [`Broker::unpark`], if it has room now.
    #[cold]
    pub(crate) fn unpark_if_ready(&mut self, key: SessionKey) {
        if self.readiness(key.slot) == Readiness::Ready {
            self.unpark(key);
        }
    }

    fn readiness(&self, session: u32) -> Readiness {
        let Some(session) = self.sessions.at(session) else { return Readiness::Offline };
        let has_room = match session.sink {
            Sink::Offline => return Readiness::Offline,
            Sink::Connection(connection) => self.may_send(connection),
            Sink::Local => session.local_window.as_ref().is_some_and(|window| !window.is_full()),
        };
        let is_ready = has_room && session.outbound.is_ready(self.config.max_inflight_bytes);
        if is_ready { Readiness::Ready } else { Readiness::Busy }
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
        // Asked first: of a queue that finds nobody, as often as its client comes and goes, that is all. Of a session that
        // ended, another member may have been granted more than this one, and may be away.
        if has_ended || self.has_other_connected(group, key.slot) {
            let mut out = Outgoing::of_message(&message, now);
            self.deliver_within(now, &mut out, group, true, Some(key.slot));
            self.finish(out);
            self.discard(queued);
        } else {
            let weight = self.messages.weight(&queued);
            match self.sessions.get_mut(key) {
                Some(session) => {
                    session.outbound.count(&queued, weight);
                    session.outbound.queue.push_back(Entry::Message(queued));
                }
                None => self.discard(queued),
            }
        }
    }

    fn has_other_connected(&mut self, group: u32, but: u32) -> bool {
        let Some(found) = self.groups.get(group) else { return false };
        if found.remote.iter().any(|remote| remote.connected > 0) {
            return true;
        }
        for expected in [Readiness::Ready, Readiness::Busy] {
            while let Some((member, session, _)) = self.groups.first(group, expected, Some(but)) {
                self.steps += 1;
                if self.readiness(session) != Readiness::Offline {
                    return true;
                }
                self.requeue(group, (member, session), Readiness::Offline);
            }
        }
        false
    }

    /// Members that are parked although they have room, but for those whose turn to be looked at comes: none.
    pub(crate) fn parked_in_vain(&self) -> usize {
        let is_late = |session: &u32| {
            let key = self.sessions.key(*session);
            self.readiness(*session) == Readiness::Ready && !self.work.iter().any(|waiting| Some(*waiting) == key)
        };
        self.groups.members.parked_sessions().filter(is_late).count()
    }
}

/// Whose of the connected members of other brokers the one at a place is.
fn remote_at(remote: &[Remote], at: usize) -> Option<ShardId> {
    let mut left = at;
    for remote in remote {
        let connected = crate::slab::index(remote.connected);
        if left < connected {
            return Some(remote.shard);
        }
        left -= connected;
    }
    None
}
