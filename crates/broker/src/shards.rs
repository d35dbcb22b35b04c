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
    sessions::{SessionKey, Sink},
    share::Remote,
    slab::index,
};

/// What this broker knows of the others.
#[derive(Debug)]
pub(crate) struct Shards {
    joined: Vec<ShardId>,
    /// Who has subscribers for what; shared filters are with their groups.
    interest: SubscriptionIndex<ShardId, ()>,
    /// Local subscriptions per filter: what the others were told.
    told: BTreeMap<Box<str>, Told>,
    scratch: Vec<(ShardId, ())>,
}

/// Local subscriptions for one filter.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    members: u32,
    /// Those whose session has a connection, counted for shared filters only.
    connected: u32,
}

impl Told {
    fn count(&mut self, is_new: bool, is_connected: bool) {
        self.members = step(self.members, is_new);
        if is_connected {
            self.connected = step(self.connected, is_new);
        }
    }

    fn interest(self, filter: &str) -> Interest {
        let members = if filter.starts_with(SHARE) { self.members } else { self.members.min(1) };
        Interest { filter: owned(filter), members, connected: self.connected }
    }
}

/// What Shared Subscriptions begin with. [MQTT-4.8.2]
pub(crate) const SHARE: &str = "$share/";

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

    /// Members of share groups, and those who are connected, as the others were told.
    pub(crate) fn members_told(&self) -> (usize, usize) {
        let shared = self.told.iter().filter(|(filter, _)| filter.starts_with(SHARE)).map(|(_, told)| told);
        let sum = |of: fn(&Told) -> u32| shared.clone().map(|told| index(of(told))).sum();
        (sum(|told| told.members), sum(|told| told.connected))
    }
}

impl Broker {
    /// Joins another broker, which is told all that has subscribers here, and gets every message that is retained from
    /// here on. Needs [`Config::announce_interest`](crate::Config::announce_interest) from the beginning, and that
    /// both join.
    ///
    /// What the outputs say to others has to arrive in its order. A commit that is answered only when the others have
    /// handled what came before it makes acknowledgements mean the same as those of one broker: SUBACK that messages of
    /// all brokers come from here on, PUBACK that all brokers have the message.
    ///
    /// ```
    /// use damselfly_broker::{
    ///     Broker, Config, Message, Output, Properties, QoS, ShardId, Timestamp, TopicFilter, TopicName,
    /// };
    ///
    /// const SHARDS: [ShardId; 2] = [ShardId(0), ShardId(1)];
    ///
    /// /// Performs what both want; how many messages were delivered.
    /// fn settle(brokers: &mut [Broker; 2], now: Timestamp) -> usize {
    ///     let mut delivered = 0;
    ///     while let Some((at, output)) = (0..2).find_map(|at| Some((at, brokers[at].poll_output()?))) {
    ///         let other = 1 - at;
    ///         match output {
    ///             Output::Interest { interest, .. } => brokers[other].handle_interest(now, SHARDS[at], &interest),
    ///             Output::Forward { forward, .. } => brokers[other].handle_forward(now, &forward),
    ///             Output::Commit(id) => brokers[at].handle_committed(now, id),
    ///             Output::Deliver { .. } => delivered += 1,
    ///             _ => {}
    ///         }
    ///     }
    ///     delivered
    /// }
    ///
    /// let now = Timestamp::from_secs(1);
    /// let mut config = Config::default();
    /// config.announce_interest = true;
    /// // Each has a seed of its own: the Client Identifiers it assigns come from that.
    /// let mut brokers = [Broker::new(config.clone(), 1)?, Broker::new(config, 2)?];
    /// brokers[0].handle_shard_joined(now, SHARDS[1]);
    /// brokers[1].handle_shard_joined(now, SHARDS[0]);
    ///
    /// let [alice, bob] = [brokers[0].open_local(now, "alice", 1.try_into()?)?, brokers[1].open_local(now, "bob", 1.try_into()?)?];
    /// brokers[1].local_subscribe(now, bob, TopicFilter::new("news/#")?, Default::default(), None);
    /// settle(&mut brokers, now);
    /// let topic = TopicName::new("news/today")?;
    /// let message = Message::compose(topic, b"hello", QoS::AtMostOnce, false, Properties::EMPTY, now);
    /// assert_eq!(brokers[0].local_publish(now, alice, message).receivers, 1);
    /// assert_eq!(settle(&mut brokers, now), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_shard_joined(&mut self, _now: Timestamp, shard: ShardId) {
        if self.shards.joined.contains(&shard) {
            return;
        }
        self.shards.joined.push(shard);
        for (filter, told) in &self.shards.told {
            let interest = told.interest(filter);
            self.outputs.push_back(Output::Interest { to: Some(shard), interest });
        }
    }

    /// Another broker is gone: nothing is forwarded to it any more.
    pub fn handle_shard_left(&mut self, _now: Timestamp, shard: ShardId, interests: &[Interest]) {
        self.shards.joined.retain(|known| *known != shard);
        for interest in interests {
            self.set_interest(shard, &Interest { members: 0, ..interest.clone() });
        }
    }

    /// Another broker told which of its filters have subscribers.
    pub fn handle_interest(&mut self, _now: Timestamp, from: ShardId, interest: &Interest) {
        self.set_interest(from, interest);
    }

    fn set_interest(&mut self, shard: ShardId, interest: &Interest) {
        let Ok(filter) = TopicFilter::new(&interest.filter) else { return };
        match filter.shared() {
            None if interest.members == 0 => {
                self.shards.interest.remove(filter, shard);
            }
            None => {
                // A filter with too many levels matches nothing that may be published here.
                let _too_deep = self.shards.interest.insert(filter, shard, ()).is_err();
            }
            Some(inner) => {
                let remote = Remote { shard, members: interest.members, connected: interest.connected };
                let (group, is_new, emptied) = self.groups.set_remote(filter.as_str(), remote);
                if let Some(group) = emptied {
                    self.index.remove(inner.filter(), GROUP | group);
                } else if is_new {
                    let _too_deep = self.index.insert(inner.filter(), GROUP | group, PackedOptions::default()).is_err();
                }
            }
        }
    }

    /// A message from another broker: for the subscribers here, and not for any third broker. One for a member of a share
    /// group goes on to where one has a connection, if none has one here any more.
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

    /// Hands a message to every broker that has subscribers for it; a retained one to all, so that each has it and
    /// delivers it to whoever subscribed there meanwhile: their look at the retained messages leaves out what is newer.
    /// A topic that takes too many steps to look up goes to all of them too: each looks up its own subscribers anyway.
    pub(crate) fn forward(&mut self, now: Timestamp, out: &mut Outgoing<'_>) -> u32 {
        let limit = self.lookup_steps();
        let mut interested = core::mem::take(&mut self.shards.scratch);
        interested.clear();
        let is_known = self.shards.interest.matches_within(out.topic, limit, &mut interested).is_some();
        interested.sort_unstable();
        interested.dedup();
        let mut count = 0;
        for shard in &self.shards.joined {
            let is_interested = !is_known || interested.binary_search(&(*shard, ())).is_ok();
            let deliver = !out.is_expired && (is_interested || out.retain);
            if deliver || out.retain {
                let message = out.message(now);
                let forward = Forward { message, shared_filter: None, retain: out.retain, deliver };
                self.outputs.push_back(Output::Forward { to: *shard, forward: Box::new(forward) });
                count += u32::from(deliver && is_interested);
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

    /// A subscription of a session came or went: the others are told when the first comes and the last goes, of shared
    /// ones always.
    pub(crate) fn interest_changed(&mut self, key: SessionKey, filter: TopicFilter<'_>, is_new: bool) {
        if !self.config.announce_interest {
            return;
        }
        let text = filter.as_str();
        let is_shared = filter.shared().is_some();
        let is_connected = is_shared && self.sessions.get(key).is_some_and(|session| session.sink != Sink::Offline);
        let told = self.shards.told.entry(owned(text)).or_default();
        told.count(is_new, is_connected);
        let told = *told;
        if told.members == 0 {
            self.shards.told.remove(text);
        }
        let is_first_or_last = told.members == u32::from(is_new);
        if is_shared || is_first_or_last {
            self.outputs.push_back(Output::Interest { to: None, interest: told.interest(text) });
        }
    }

    /// A session got a connection or lost it: the groups it is a member of have one more or one less who is there.
    pub(crate) fn presence_changed(&mut self, key: SessionKey, is_connected: bool) {
        if !self.config.announce_interest {
            return;
        }
        let Some(session) = self.sessions.get(key) else { return };
        let before = |filter: &&str| *filter < SHARE;
        for filter in session.subscriptions.iter().skip_while(before).take_while(|filter| filter.starts_with(SHARE)) {
            self.steps += 1;
            let Some(told) = self.shards.told.get_mut(filter) else { continue };
            told.connected = step(told.connected, is_connected);
            self.outputs.push_back(Output::Interest { to: None, interest: told.interest(filter) });
        }
    }
}

/// One more or one less.
const fn step(count: u32, is_more: bool) -> u32 {
    if is_more { count.saturating_add(1) } else { count.saturating_sub(1) }
}
