//! From a Topic Name to the sessions that get the message.

use alloc::{boxed::Box, vec::Vec};
use core::hash::BuildHasher;

use damselfly_codec::{QoS, SubscriptionId, SubscriptionOptions};
use damselfly_topic::{KeyedState, SubscriptionIndex, TopicName};

use crate::access::Permission;

/// A receiver in the index: a session's slot, or a share group's with the highest bit set.
pub(crate) type ReceiverKey = u32;

/// Marks the slot of a share group.
pub(crate) const GROUP: u32 = 1 << 31;

/// The index of all subscriptions of a broker.
pub(crate) type Index = SubscriptionIndex<ReceiverKey, PackedOptions>;

/// What a delivery needs to know of a subscription, in four bytes: QoS, No Local, Retain As Published and the
/// Subscription Identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackedOptions(u32);

const QOS: u32 = 0b11;
const NO_LOCAL: u32 = 0b100;
const RETAIN_AS_PUBLISHED: u32 = 0b1000;
const ID_SHIFT: u32 = 4;

impl PackedOptions {
    pub(crate) fn new(options: SubscriptionOptions, id: Option<SubscriptionId>) -> Self {
        let qos = match options.qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        };
        let no_local = if options.no_local { NO_LOCAL } else { 0 };
        let retain = if options.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        Self(qos | no_local | retain | id.map_or(0, SubscriptionId::get) << ID_SHIFT)
    }

    pub(crate) const fn qos(self) -> QoS {
        match self.0 & QOS {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    pub(crate) const fn no_local(self) -> bool {
        self.0 & NO_LOCAL != 0
    }

    pub(crate) const fn retain_as_published(self) -> bool {
        self.0 & RETAIN_AS_PUBLISHED != 0
    }

    pub(crate) const fn id(self) -> Option<SubscriptionId> {
        SubscriptionId::new(self.0 >> ID_SHIFT)
    }
}

/// One receiver of a message: its overlapping subscriptions merged into one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receiver {
    pub(crate) key: ReceiverKey,
    /// First of its Subscription Identifiers in [`Route::ids`].
    ids_at: u32,
    pub(crate) ids_len: u32,
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
}

/// Everybody who gets the messages of one topic from one publisher.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    pub(crate) receivers: Vec<Receiver>,
    ids: Vec<SubscriptionId>,
    /// No share group and no identifier: what a receiver gets differs only by its connection.
    pub(crate) is_plain: bool,
}

impl Route {
    /// Fills the route anew. `publisher`: the slot whose own No Local subscriptions do not count. [MQTT-3.8.3-3] Says how
    /// many of the steps were left; `None`, and an empty route, if it takes more.
    pub(crate) fn resolve(
        &mut self,
        index: &Index,
        topic: TopicName<'_>,
        publisher: Option<u32>,
        steps: usize,
        scratch: &mut Vec<(ReceiverKey, PackedOptions)>,
    ) -> Option<usize> {
        scratch.clear();
        self.clear();
        let left = index.matches_within(topic, steps, scratch)?;
        // Sorted, so that the subscriptions of a session stand together and no order comes from a hash.
        if scratch.len() > 1 && !scratch.is_sorted_by_key(|(key, options)| (*key, options.0)) {
            scratch.sort_unstable_by_key(|(key, options)| (*key, options.0));
        }
        for (key, options) in scratch.iter() {
            if options.no_local() && Some(*key) == publisher {
                continue;
            }
            self.merge(*key, *options);
        }
        self.is_plain = self.receivers.iter().all(|receiver| receiver.key & GROUP == 0 && receiver.ids_len == 0);
        Some(left)
    }

    pub(crate) fn clear(&mut self) {
        self.receivers.clear();
        self.ids.clear();
        self.is_plain = false;
    }

    /// One receiver more, whose subscriptions are merged already.
    pub(crate) fn add(&mut self, key: ReceiverKey, qos: QoS, retain_as_published: bool, ids: &[SubscriptionId]) {
        let narrow = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let (ids_at, ids_len) = (narrow(self.ids.len()), narrow(ids.len()));
        self.ids.extend_from_slice(ids);
        self.receivers.push(Receiver { key, ids_at, ids_len, qos, retain_as_published });
    }

    /// One delivery per session: the highest QoS, all identifiers, RETAIN kept if any asks for it. [MQTT-3.3.4-2]
    fn merge(&mut self, key: ReceiverKey, options: PackedOptions) {
        let is_same = self.receivers.last().is_some_and(|last| last.key == key);
        if !is_same {
            let ids_at = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
            let receiver = Receiver { key, ids_at, ids_len: 0, qos: QoS::AtMostOnce, retain_as_published: false };
            self.receivers.push(receiver);
        }
        let Some(receiver) = self.receivers.last_mut() else { return };
        receiver.qos = receiver.qos.max(options.qos());
        receiver.retain_as_published |= options.retain_as_published();
        if let Some(id) = options.id() {
            self.ids.push(id);
            receiver.ids_len += 1;
        }
    }

    #[inline]
    pub(crate) fn ids(&self, receiver: &Receiver) -> &[SubscriptionId] {
        if receiver.ids_len == 0 {
            return &[];
        }
        let at = crate::slab::index(receiver.ids_at);
        self.ids.get(at..at + crate::slab::index(receiver.ids_len)).unwrap_or(&[])
    }

    fn heap_bytes(&self) -> usize {
        self.receivers.capacity() * size_of::<Receiver>() + self.ids.capacity() * size_of::<SubscriptionId>()
    }
}

/// The routes of the topics a connection published to lately. Valid for one generation of the index; bounded in topics
/// and receivers; freed when the client has nothing to say but PINGREQ.
#[derive(Debug)]
pub(crate) struct RouteCache {
    entries: Vec<Option<CachedRoute>>,
    bytes: usize,
    /// Parts of the hashes of topics seen lately: a topic is worth its memory from the second message on.
    seen: [u16; SEEN],
}

/// Topics that may become worth remembering, a power of two.
const SEEN: usize = 16;

#[derive(Debug)]
pub(crate) struct CachedRoute {
    hash: u64,
    generation: u64,
    topic: Box<[u8]>,
    pub(crate) permission: Permission,
    pub(crate) route: Route,
}

/// Bounds of one [`RouteCache`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteCacheLimits {
    pub(crate) entries: usize,
    pub(crate) receivers: usize,
}

impl RouteCache {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), bytes: 0, seen: [0; SEEN] }
    }

    /// Whether a topic was seen not long ago; from now on it was.
    pub(crate) fn is_seen_again(&mut self, hash: u64) -> bool {
        let [a, b, c, d, ..] = hash.to_le_bytes();
        let Some(place) = self.seen.get_mut(usize::from(a) & (SEEN - 1)) else { return false };
        // Never the zero of an empty place.
        let part = u16::from_le_bytes([b ^ d, c | 1]);
        core::mem::replace(place, part) == part
    }

    /// Where the topic is or belongs: one place per hash, so that looking costs one comparison.
    #[inline]
    fn place(&self, hash: u64) -> usize {
        let [a, b, c, d, ..] = hash.to_le_bytes();
        crate::slab::index(u32::from_le_bytes([a, b, c, d])) & self.entries.len().wrapping_sub(1)
    }

    /// The route of a topic, if it is known and still true.
    #[inline]
    pub(crate) fn find(&self, hash: u64, topic: TopicName<'_>, generation: u64) -> Option<&CachedRoute> {
        let entry = self.entries.get(self.place(hash))?.as_ref()?;
        let is_it = entry.hash == hash && entry.generation == generation && *entry.topic == *topic.as_bytes();
        is_it.then_some(entry)
    }

    /// Remembers a route. One that is too wide is not remembered.
    pub(crate) fn keep(
        &mut self,
        (hash, topic, generation): (u64, TopicName<'_>, u64),
        permission: Permission,
        route: &Route,
        limits: RouteCacheLimits,
    ) {
        if limits.entries == 0 || route.receivers.len() > limits.receivers {
            return;
        }
        let place = self.make_place(hash, generation, limits.entries);
        let Some(slot) = self.entries.get_mut(place) else { return };
        match slot {
            Some(old) if old.hash == hash && *old.topic == *topic.as_bytes() => {
                self.bytes -= old.heap_bytes();
                old.generation = generation;
                old.permission = permission;
                old.route.receivers.clone_from(&route.receivers);
                old.route.ids.clone_from(&route.ids);
                old.route.is_plain = route.is_plain;
                self.bytes += old.heap_bytes();
            }
            slot => {
                self.bytes -= slot.as_ref().map_or(0, CachedRoute::heap_bytes);
                let entry =
                    CachedRoute { hash, generation, topic: topic.as_bytes().into(), permission, route: route.clone() };
                self.bytes += entry.heap_bytes();
                *slot = Some(entry);
            }
        }
    }

    /// Doubles the places while live topics would push each other out.
    fn make_place(&mut self, hash: u64, generation: u64, limit: usize) -> usize {
        if self.entries.is_empty() {
            self.entries.push(None);
        }
        loop {
            let place = self.place(hash);
            let is_taken = self
                .entries
                .get(place)
                .and_then(Option::as_ref)
                .is_some_and(|entry| entry.hash != hash && entry.generation == generation);
            if !is_taken || self.entries.len() * 2 > limit {
                return place;
            }
            let old = core::mem::take(&mut self.entries);
            self.entries.resize_with(old.len() * 2, || None);
            for entry in old.into_iter().flatten() {
                let place = self.place(entry.hash);
                if let Some(slot) = self.entries.get_mut(place) {
                    *slot = Some(entry);
                }
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Option<CachedRoute>>() + self.bytes
    }
}

impl CachedRoute {
    fn heap_bytes(&self) -> usize {
        self.topic.len() + self.route.heap_bytes()
    }
}

/// The key of a topic in a [`RouteCache`].
#[inline]
pub(crate) fn hash_topic(keys: &KeyedState, topic: TopicName<'_>) -> u64 {
    keys.hash_one(topic.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use damselfly_topic::TopicFilter;

    fn options(qos: QoS, no_local: bool, id: u32) -> PackedOptions {
        let options = SubscriptionOptions { qos, no_local, ..SubscriptionOptions::default() };
        PackedOptions::new(options, SubscriptionId::new(id))
    }

    fn index(subscriptions: &[(&str, u32, PackedOptions)]) -> Index {
        let mut index = Index::new(7);
        for (filter, key, options) in subscriptions {
            index.insert(TopicFilter::new(filter).unwrap(), *key, *options).unwrap();
        }
        index
    }

    fn resolve(index: &Index, topic: &str, publisher: Option<u32>) -> Route {
        let mut route = Route::default();
        route.resolve(index, TopicName::new(topic).unwrap(), publisher, 1_000, &mut Vec::new()).unwrap();
        route
    }

    #[test]
    fn options_survive_packing_at_their_limits() {
        for id in [0, 1, 268_435_455] {
            let packed = PackedOptions::new(
                SubscriptionOptions {
                    qos: QoS::ExactlyOnce,
                    no_local: true,
                    retain_as_published: false,
                    ..SubscriptionOptions::default()
                },
                SubscriptionId::new(id),
            );
            assert_eq!(
                (packed.qos(), packed.no_local(), packed.retain_as_published()),
                (QoS::ExactlyOnce, true, false)
            );
            assert_eq!(packed.id().map_or(0, SubscriptionId::get), id);
        }
    }

    #[test]
    fn overlapping_subscriptions_merge_into_one_delivery() {
        // [MQTT-3.3.4-2] [MQTT-3.3.4-4] [MQTT3-3.3.5-1]
        let index = index(&[
            ("a/b", 1, options(QoS::AtMostOnce, false, 5)),
            ("a/+", 1, options(QoS::ExactlyOnce, false, 0)),
            ("#", 1, options(QoS::AtLeastOnce, false, 7)),
            ("#", 2, options(QoS::AtLeastOnce, false, 0)),
        ]);
        let route = resolve(&index, "a/b", None);
        let [one, two] = &route.receivers[..] else { panic!("two receivers") };
        assert_eq!((one.key, one.qos), (1, QoS::ExactlyOnce));
        let mut ids: Vec<u32> = route.ids(one).iter().map(|id| id.get()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [5, 7]);
        assert_eq!((two.key, route.ids(two)), (2, &[][..]));
    }

    #[test]
    fn no_local_leaves_out_only_the_publisher_and_only_that_subscription() {
        // [MQTT-3.8.3-3]
        let index = index(&[
            ("a", 1, options(QoS::AtLeastOnce, true, 1)),
            ("#", 1, options(QoS::AtMostOnce, false, 2)),
            ("a", 2, options(QoS::AtLeastOnce, true, 3)),
        ]);
        let route = resolve(&index, "a", Some(1));
        let keys: Vec<_> = route.receivers.iter().map(|r| (r.key, r.qos)).collect();
        assert_eq!(keys, [(1, QoS::AtMostOnce), (2, QoS::AtLeastOnce)]);
    }

    #[test]
    fn a_cached_route_is_found_until_the_index_changes_and_never_beyond_its_limits() {
        let keys = KeyedState::new(3);
        let mut cache = RouteCache::new();
        let limits = RouteCacheLimits { entries: 4, receivers: 1 };
        let index = index(&[("#", 1, options(QoS::AtMostOnce, false, 0))]);
        let names: Vec<alloc::string::String> = (0..9).map(|n| alloc::format!("t/{n}")).collect();
        for name in &names {
            let topic = TopicName::new(name).unwrap();
            let route = resolve(&index, name, None);
            cache.keep((hash_topic(&keys, topic), topic, 1), Permission::Allow, &route, limits);
            assert!(cache.find(hash_topic(&keys, topic), topic, 1).is_some());
            assert!(cache.find(hash_topic(&keys, topic), topic, 2).is_none());
        }
        let known = |name: &&alloc::string::String| {
            let topic = TopicName::new(name).unwrap();
            cache.find(hash_topic(&keys, topic), topic, 1).is_some()
        };
        assert!(names.iter().filter(known).count() <= 4);
        // Four places; a topic of three bytes and one receiver in each that is used.
        let used = names.iter().filter(known).count();
        let places = 4 * size_of::<Option<CachedRoute>>();
        assert_eq!(cache.heap_bytes(), places + used * (3 + size_of::<Receiver>()));
    }

    #[test]
    fn a_route_that_changed_is_kept_in_place_of_the_old_one() {
        let keys = KeyedState::new(3);
        let mut cache = RouteCache::new();
        let limits = RouteCacheLimits { entries: 4, receivers: 4 };
        let topic = TopicName::new("a").unwrap();
        let hash = hash_topic(&keys, topic);
        let index = index(&[("#", 1, options(QoS::AtMostOnce, false, 5)), ("a", 2, PackedOptions::default())]);
        let route = resolve(&index, "a", None);
        // Four places; a topic of one byte, two receivers and one identifier in one of them.
        let content = 1 + 2 * size_of::<Receiver>() + size_of::<SubscriptionId>();
        let expected = 4 * size_of::<Option<CachedRoute>>() + content;
        for generation in 1..4 {
            cache.keep((hash, topic, generation), Permission::Allow, &route, limits);
            assert!(cache.find(hash, topic, generation).is_some());
            assert!(cache.find(hash, topic, generation - 1).is_none());
            assert_eq!(cache.heap_bytes(), expected, "{generation}");
        }
    }

    #[test]
    fn a_route_too_wide_is_not_remembered() {
        let keys = KeyedState::new(3);
        let mut cache = RouteCache::new();
        let index = index(&[("#", 1, options(QoS::AtMostOnce, false, 0)), ("#", 2, PackedOptions::default())]);
        let topic = TopicName::new("a").unwrap();
        let limits = RouteCacheLimits { entries: 4, receivers: 1 };
        cache.keep((hash_topic(&keys, topic), topic, 1), Permission::Allow, &resolve(&index, "a", None), limits);
        assert!(cache.find(hash_topic(&keys, topic), topic, 1).is_none());
    }

    const ONE: RouteCacheLimits = RouteCacheLimits { entries: 1, receivers: 9 };

    fn keep(cache: &mut RouteCache, hash: u64, name: &str, generation: u64, limits: RouteCacheLimits) {
        let topic = TopicName::new(name).unwrap();
        cache.keep((hash, topic, generation), Permission::Allow, &Route::default(), limits);
    }

    fn knows(cache: &RouteCache, hash: u64, name: &str, generation: u64) -> bool {
        cache.find(hash, TopicName::new(name).unwrap(), generation).is_some()
    }

    #[test]
    fn places_double_up_to_the_limit_while_live_topics_would_push_each_other_out() {
        for (limit, places) in [(1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 4), (8, 8), (9, 8)] {
            let mut cache = RouteCache::new();
            let limits = RouteCacheLimits { entries: limit, receivers: 9 };
            for hash in 0..8 {
                keep(&mut cache, hash, "a", 1, limits);
                assert!(knows(&cache, hash, "a", 1), "the last one is known");
                // Bits above the lowest do not ask for more places than there are topics.
                let needed = usize::try_from(hash + 1).unwrap().next_power_of_two();
                assert_eq!(cache.entries.len(), needed.min(places), "limit {limit}");
            }
            let known = (0..8).filter(|hash| knows(&cache, *hash, "a", 1)).count();
            assert_eq!(known, places.min(8), "limit {limit}");
        }
    }

    #[test]
    fn a_topic_that_is_known_already_or_a_stale_one_asks_for_no_more_places() {
        let mut cache = RouteCache::new();
        let limits = RouteCacheLimits { entries: 16, receivers: 9 };
        keep(&mut cache, 1, "a", 1, limits);
        keep(&mut cache, 1, "a", 1, limits);
        keep(&mut cache, 1, "a", 2, limits);
        assert_eq!(cache.entries.len(), 1, "the same topic");
        keep(&mut cache, 2, "b", 3, limits);
        assert_eq!(cache.entries.len(), 1, "the other one was of an earlier generation");
        assert!(knows(&cache, 2, "b", 3) && !knows(&cache, 1, "a", 2));
        keep(&mut cache, 3, "c", 3, limits);
        assert_eq!(cache.entries.len(), 2);
        assert!(knows(&cache, 2, "b", 3) && knows(&cache, 3, "c", 3));
    }

    #[test]
    fn topics_with_equal_hashes_are_not_taken_for_each_other() {
        let mut cache = RouteCache::new();
        keep(&mut cache, 7, "a", 1, ONE);
        keep(&mut cache, 7, "b", 1, ONE);
        assert!(knows(&cache, 7, "b", 1) && !knows(&cache, 7, "a", 1));
        keep(&mut cache, 8, "b", 1, ONE);
        assert!(knows(&cache, 8, "b", 1) && !knows(&cache, 7, "b", 1), "nor is one for the same under another hash");
    }

    #[test]
    fn a_topic_is_seen_again_if_it_was_not_long_ago_and_no_other_is() {
        // The place is one of sixteen by the lowest byte, what is kept there is of the three bytes behind it.
        let hash = |place: u8, rest: [u8; 3]| u64::from_le_bytes([place, rest[0], rest[1], rest[2], 0, 0, 0, 0]);
        let mut cache = RouteCache::new();
        for is_again in [false, true] {
            for place in 0..=15 {
                assert_eq!(cache.is_seen_again(hash(place, [0, 0, 0])), is_again, "{place}");
            }
        }
        assert!(cache.is_seen_again(hash(0xF3, [0, 0, 0])), "the place is by the lower half");
        for rest in [[0, 1, 0], [0, 2, 0], [0, 4, 0], [1, 0, 0], [2, 0, 0], [0, 0, 1], [0, 0, 2], [6, 0, 2], [2, 0, 2]]
        {
            let mut cache = RouteCache::new();
            assert!(!cache.is_seen_again(hash(5, rest)), "{rest:?} in an empty place");
            assert!(cache.is_seen_again(hash(5, rest)), "{rest:?}");
            let other = [rest[0] ^ 8, rest[1], rest[2]];
            assert!(!cache.is_seen_again(hash(5, other)), "{other:?} behind {rest:?}");
            let other = [rest[0], rest[1] ^ 8, rest[2]];
            assert!(!cache.is_seen_again(hash(5, other)));
            let other = [rest[0], rest[1], rest[2] ^ 8];
            assert!(!cache.is_seen_again(hash(5, other)));
        }
        let mut cache = RouteCache::new();
        assert!(!cache.is_seen_again(hash(5, [2, 0, 2])));
        assert!(!cache.is_seen_again(hash(5, [2, 0, 4])), "both bytes count where both are there");
        assert!(!cache.is_seen_again(hash(5, [6, 0, 4])));
    }

    #[test]
    fn a_route_is_plain_without_groups_and_identifiers() {
        let plain = PackedOptions::default();
        for (subscriptions, is_plain) in [
            (&[("a", 1, plain), ("#", 2, plain)][..], true),
            (&[("a", 1, plain), ("#", GROUP | 2, plain)], false),
            (&[("a", GROUP, plain)], false),
            (&[("a", 1, options(QoS::AtMostOnce, false, 9)), ("#", 2, plain)], false),
            (&[("a", 1, plain), ("#", 1, options(QoS::AtMostOnce, false, 9))], false),
        ] {
            assert_eq!(resolve(&index(subscriptions), "a", None).is_plain, is_plain, "{subscriptions:?}");
        }
    }
}
