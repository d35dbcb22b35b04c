//! Brokers joined to each other: each tells which filters have subscribers, messages follow the interest.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use damselfly_session::{Message, Timestamp};
use damselfly_topic::{SubscriptionIndex, TopicFilter};

use crate::{
    Broker, DropReason, Forward, Interest, Output, ShardId,
    broker::owned,
    deliver::Outgoing,
    lookup::Origin,
    publish::Tally,
    route::{GROUP, PackedOptions, Route},
};

/// What this broker knows of the others.
#[derive(Debug)]
pub(crate) struct Shards {
    joined: Vec<ShardId>,
    /// Who has subscribers for what; shared filters are with their groups.
    interest: SubscriptionIndex<ShardId, ()>,
    /// Local subscriptions per filter: what the others were told.
    told: BTreeMap<Box<str>, u32>,
    scratch: Vec<(ShardId, ())>,
}

impl Shards {
    pub(crate) fn new(seed: u64, levels: usize) -> Self {
        Self {
            joined: Vec::new(),
            interest: SubscriptionIndex::new(seed).with_max_levels(levels),
            told: BTreeMap::new(),
            scratch: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }
}

impl Broker {
    /// Joins another broker: it is told all that has subscribers here, and gets every retained message from now on.
    /// Needs [`Config::announce_interest`](crate::Config::announce_interest) from the beginning.
    pub fn handle_shard_joined(&mut self, _now: Timestamp, shard: ShardId) {
        if self.shards.joined.contains(&shard) {
            return;
        }
        self.shards.joined.push(shard);
        for (filter, members) in &self.shards.told {
            let members = if is_shared(filter) { *members } else { 1 };
            let interest = Interest { filter: filter.clone(), members };
            self.outputs.push_back(Output::Interest { to: Some(shard), interest });
        }
    }

    /// Another broker is gone: nothing is forwarded to it any more.
    pub fn handle_shard_left(&mut self, _now: Timestamp, shard: ShardId, interests: &[Interest]) {
        self.shards.joined.retain(|known| *known != shard);
        for interest in interests {
            self.set_interest(shard, &interest.filter, 0);
        }
    }

    /// Another broker told which of its filters have subscribers.
    pub fn handle_interest(&mut self, _now: Timestamp, from: ShardId, interest: &Interest) {
        self.set_interest(from, &interest.filter, interest.members);
    }

    fn set_interest(&mut self, shard: ShardId, filter: &str, members: u32) {
        let Ok(filter) = TopicFilter::new(filter) else { return };
        match filter.shared() {
            None if members == 0 => {
                self.shards.interest.remove(filter, shard);
            }
            None => {
                // A filter with too many levels matches nothing that may be published here.
                let _too_deep = self.shards.interest.insert(filter, shard, ()).is_err();
            }
            Some(inner) => {
                let (group, is_new, emptied) = self.groups.set_remote(filter.as_str(), shard, members);
                if let Some(group) = emptied {
                    self.index.remove(inner.filter(), GROUP | group);
                } else if is_new {
                    let _too_deep = self.index.insert(inner.filter(), GROUP | group, PackedOptions::default()).is_err();
                }
            }
        }
    }

    /// A message from another broker: for the subscribers here, and not for any third broker.
    pub fn handle_forward(&mut self, now: Timestamp, forward: &Forward) {
        let message = &forward.message;
        if forward.retain {
            // What cannot be retained is counted there.
            let _full = self.retain(message).is_err();
        }
        if !forward.deliver {
            return;
        }
        if let Some(filter) = &forward.shared_filter {
            if let Some(group) = self.groups.find(filter) {
                let mut out = Outgoing::of_message(message, now);
                self.deliver_within(now, &mut out, group, false, None);
                self.finish(out);
            }
        } else if !self.lookups.is_empty() && self.has_no_memory() {
            self.note_drop(None, message.topic(), DropReason::Memory);
        } else {
            self.route_orphan(now, message.clone(), Origin::Shard);
        }
        self.close_group();
    }

    /// Delivers a message of another broker to the subscribers here. `None`, with nothing done, if looking them up takes
    /// too many steps.
    pub(crate) fn route_forwarded(&mut self, now: Timestamp, message: &Message) -> Option<Tally> {
        let mut route = core::mem::take(&mut self.scratch.route);
        let is_found = self.look_up(message.topic(), None, &mut route);
        if is_found {
            let mut out = Outgoing::of_message(message, now);
            self.steps += route.receivers.len();
            self.deliver_plain(now, &mut out, &route);
            self.finish(out);
        }
        self.scratch.route = route;
        is_found.then(Tally::default)
    }

    fn deliver_plain(&mut self, now: Timestamp, out: &mut Outgoing<'_>, route: &Route) {
        for receiver in route.receivers.iter().filter(|receiver| receiver.key & GROUP == 0) {
            let retain = receiver.retain_as_published && out.retain;
            let terms = crate::deliver::plain_terms(receiver.qos, retain, route.ids(receiver));
            self.deliver(now, out, receiver.key, terms);
        }
    }

    /// Hands a message to every broker that has subscribers for it; a retained one to all, so that each has it. A topic
    /// that takes too many steps to look up goes to all of them too: each looks up its own subscribers anyway.
    pub(crate) fn forward(&mut self, now: Timestamp, out: &mut Outgoing<'_>) -> u32 {
        let limit = self.lookup_steps();
        let mut interested = core::mem::take(&mut self.shards.scratch);
        interested.clear();
        let is_known = self.shards.interest.matches_within(out.topic, limit, &mut interested).is_some();
        interested.sort_unstable();
        interested.dedup();
        let mut count = 0;
        for shard in &self.shards.joined {
            let deliver = !out.is_expired && (!is_known || interested.binary_search(&(*shard, ())).is_ok());
            if deliver || out.retain {
                let message = out.message(now);
                let forward = Forward { message, shared_filter: None, retain: out.retain, deliver };
                self.outputs.push_back(Output::Forward { to: *shard, forward: Box::new(forward) });
                count += u32::from(deliver);
            }
        }
        self.shards.scratch = interested;
        count
    }

    pub(crate) fn forward_to_group(
        &mut self,
        now: Timestamp,
        out: &mut Outgoing<'_>,
        shard: ShardId,
        shared_filter: Option<Box<str>>,
    ) {
        let forward = Forward { message: out.message(now), shared_filter, retain: false, deliver: true };
        self.outputs.push_back(Output::Forward { to: shard, forward: Box::new(forward) });
    }

    /// A subscription came or went: the others are told when the first comes and the last goes, of shared ones always.
    pub(crate) fn interest_changed(&mut self, filter: TopicFilter<'_>, is_new: bool) {
        if !self.config.announce_interest {
            return;
        }
        let text = filter.as_str();
        let count = self.shards.told.entry(owned(text)).or_insert(0);
        *count = if is_new { *count + 1 } else { count.saturating_sub(1) };
        let members = *count;
        if members == 0 {
            self.shards.told.remove(text);
        }
        if filter.shared().is_none() && members > 1 || (filter.shared().is_none() && members == 1 && !is_new) {
            return;
        }
        self.outputs.push_back(Output::Interest { to: None, interest: Interest { filter: owned(text), members } });
    }
}

fn is_shared(filter: &str) -> bool {
    TopicFilter::new(filter).is_ok_and(|filter| filter.shared().is_some())
}
