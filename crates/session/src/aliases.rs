//! Topic Aliases of one Network Connection, one table per direction. [MQTT-3.3.2.3.4]

use alloc::{string::String, vec::Vec};
use core::mem::size_of;

use damselfly_codec::TopicAlias;
use damselfly_topic::{TopicName, TopicNameBuf};

use crate::PeerError;

/// The aliases the other side has set on this connection. They end with it. [MQTT-3.3.2-7]
///
/// Set an alias as soon as its PUBLISH is decoded, even if that PUBLISH is then refused: the other side goes on with the
/// alias. Memory is bounded by the maximum announced and by a number of bytes, texts and table together.
///
/// ```
/// use damselfly_codec::TopicAlias;
/// use damselfly_session::{InboundAliases, PeerError};
/// use damselfly_topic::TopicName;
///
/// let mut aliases = InboundAliases::new(3, 4_096);
/// let three = TopicAlias::new(3);
/// let topic = TopicName::new("home/kitchen/lamp")?;
/// assert_eq!(aliases.resolve(Some(topic), three)?, topic);
/// assert_eq!(aliases.resolve(None, three)?, topic);
/// assert_eq!(aliases.resolve(None, TopicAlias::new(4)), Err(PeerError::TopicAliasInvalid));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct InboundAliases {
    /// Indexed by alias - 1; as long as the greatest alias set.
    topics: Vec<Option<TopicNameBuf>>,
    text_bytes: usize,
    max_bytes: usize,
    maximum: u16,
}

impl InboundAliases {
    /// An empty table: `maximum` is the Topic Alias Maximum we announced, 0 for none; `max_bytes` bounds the memory.
    pub const fn new(maximum: u16, max_bytes: usize) -> Self {
        Self { topics: Vec::new(), text_bytes: 0, max_bytes, maximum }
    }

    /// The Topic Name that a PUBLISH means, from its Topic Name, `None` if empty, and its Topic Alias; sets the alias
    /// if there are both.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set) and [`get`](Self::get); with neither name nor alias [`PeerError::TopicAliasUnknown`].
    pub fn resolve<'a>(
        &'a mut self,
        topic: Option<TopicName<'a>>,
        alias: Option<TopicAlias>,
    ) -> Result<TopicName<'a>, PeerError> {
        match (topic, alias) {
            (Some(topic), None) => Ok(topic),
            (Some(topic), Some(alias)) => self.set(alias, topic).map(|()| topic),
            (None, Some(alias)) => self.get(alias),
            (None, None) => Err(PeerError::TopicAliasUnknown),
        }
    }

    /// Sets or replaces an alias.
    ///
    /// # Errors
    ///
    /// [`PeerError::TopicAliasInvalid`] above the maximum, [`PeerError::QuotaExceeded`] if the memory would exceed its
    /// bound. Nothing is changed then.
    pub fn set(&mut self, alias: TopicAlias, topic: TopicName<'_>) -> Result<(), PeerError> {
        let at = self.position(alias)?;
        let new = topic.as_bytes();
        let old = self.topics.get(at).and_then(Option::as_ref).map_or(&b""[..], |topic| topic.as_str().as_bytes());
        if old == new {
            return Ok(());
        }
        let text_bytes = self.text_bytes - old.len() + new.len();
        let places = self.topics.len().max(at + 1);
        if text_bytes + places * size_of::<Option<TopicNameBuf>>() > self.max_bytes {
            return Err(PeerError::QuotaExceeded);
        }
        if at >= self.topics.len() {
            self.topics.reserve_exact(places - self.topics.len());
            self.topics.resize_with(places, || None);
        }
        if let Some(place) = self.topics.get_mut(at) {
            *place = Some(topic.to_buf());
            self.text_bytes = text_bytes;
        }
        Ok(())
    }

    /// What an alias stands for.
    ///
    /// # Errors
    ///
    /// [`PeerError::TopicAliasInvalid`] above the maximum, [`PeerError::TopicAliasUnknown`] if it was never set.
    pub fn get(&self, alias: TopicAlias) -> Result<TopicName<'_>, PeerError> {
        let at = self.position(alias)?;
        let topic = self.topics.get(at).and_then(Option::as_ref).ok_or(PeerError::TopicAliasUnknown)?;
        Ok(topic.as_name())
    }

    /// The Topic Alias Maximum we announced.
    pub const fn maximum(&self) -> u16 {
        self.maximum
    }

    /// Heap memory held, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.topics.capacity() * size_of::<Option<TopicNameBuf>>() + self.text_bytes
    }

    fn position(&self, alias: TopicAlias) -> Result<usize, PeerError> {
        if alias.get() > self.maximum {
            return Err(PeerError::TopicAliasInvalid);
        }
        Ok(usize::from(alias.get()) - 1)
    }
}

/// The aliases we have set on this connection: the least recently used one is given to a new topic.
///
/// To be asked when a PUBLISH is written into the transmit buffer and not before: an alias in a queued or stored
/// message could be sent on another connection, or after it came to mean another topic. And only when that packet surely
/// leaves, its size with [`ALIAS_LEN`](Self::ALIAS_LEN) more bytes checked: the other side must see what is set.
///
/// ```
/// use damselfly_session::OutboundAliases;
/// use damselfly_topic::TopicName;
///
/// let mut aliases = OutboundAliases::new(1, 4_096);
/// let [lamp, door] = [TopicName::new("home/lamp")?, TopicName::new("home/door")?];
/// let first = aliases.assign(lamp).expect("there is one");
/// assert!(first.send_topic, "the other side does not know it");
/// assert!(!aliases.assign(lamp).expect("there is one").send_topic);
/// let second = aliases.assign(door).expect("there is one");
/// assert_eq!((second.alias, second.send_topic), (first.alias, true));
/// # Ok::<(), damselfly_topic::TopicError>(())
/// ```
#[derive(Clone, Debug)]
pub struct OutboundAliases {
    /// Indexed by alias - 1.
    slots: Vec<Slot>,
    /// Slots in the order of their topics.
    by_topic: Vec<u16>,
    /// Most and least recently used slot. Meaningless while there are none.
    newest: u16,
    oldest: u16,
    maximum: u16,
    text_bytes: usize,
    max_bytes: usize,
}

/// What to write for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the other side has to be told, or its table differs from ours"]
pub struct AssignedAlias {
    /// The alias to send.
    pub alias: TopicAlias,
    /// Send the Topic Name too, because the other side does not know the alias or knows it for another topic.
    pub send_topic: bool,
}

#[derive(Clone, Debug)]
struct Slot {
    topic: String,
    /// Towards the most recently used.
    newer: u16,
    /// Towards the least recently used.
    older: u16,
}

/// The property: its identifier and the alias.
const PROPERTY_LEN: usize = 3;
/// A topic that is no longer than the property gains nothing.
const MIN_TOPIC_LEN: usize = PROPERTY_LEN + 1;

impl OutboundAliases {
    /// Bytes that an alias adds, at most, to a packet that carries its topic too: the property, and one byte more in each
    /// of the two lengths around it.
    pub const ALIAS_LEN: usize = PROPERTY_LEN + 2;

    /// An empty table. `maximum` is the smaller of what the other side announced, 0 if it did not, and our own limit;
    /// `max_bytes` bounds the topics remembered. [MQTT-3.3.2-9] [MQTT-3.3.2-11]
    pub const fn new(maximum: u16, max_bytes: usize) -> Self {
        Self { slots: Vec::new(), by_topic: Vec::new(), newest: 0, oldest: 0, maximum, text_bytes: 0, max_bytes }
    }

    /// The alias for a PUBLISH that is written right now; `None`: send the topic without an alias.
    pub fn assign(&mut self, topic: TopicName<'_>) -> Option<AssignedAlias> {
        let text = topic.as_bytes();
        if self.maximum == 0 || text.len() < MIN_TOPIC_LEN {
            return None;
        }
        let (slot, send_topic) = match self.find(text) {
            Ok(at) => (*self.by_topic.get(at)?, false),
            Err(_) => (self.place(topic.as_str())?, true),
        };
        self.touch(slot);
        let alias = TopicAlias::new(slot.checked_add(1)?)?;
        Some(AssignedAlias { alias, send_topic })
    }

    /// Aliases set.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Is none set?
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The greatest alias that is ever sent.
    pub const fn maximum(&self) -> u16 {
        self.maximum
    }

    /// Heap memory held, in bytes.
    pub fn heap_bytes(&self) -> usize {
        let texts: usize = self.slots.iter().map(|slot| slot.topic.capacity()).sum();
        texts + self.slots.capacity() * size_of::<Slot>() + self.by_topic.capacity() * size_of::<u16>()
    }

    /// The position of a topic in `by_topic`, or where it belongs.
    fn find(&self, text: &[u8]) -> Result<usize, usize> {
        self.by_topic.binary_search_by(|slot| self.text(*slot).cmp(text))
    }

    fn text(&self, slot: u16) -> &[u8] {
        self.slots.get(usize::from(slot)).map_or(b"", |slot| slot.topic.as_bytes())
    }

    /// A slot with this new topic: a fresh one, or the least recently used.
    fn place(&mut self, topic: &str) -> Option<u16> {
        let count = u16::try_from(self.slots.len()).ok()?;
        if count < self.maximum && self.text_bytes + topic.len() <= self.max_bytes {
            let at = self.find(topic.as_bytes()).err()?;
            self.by_topic.insert(at, count);
            self.text_bytes += topic.len();
            // Linked in as its own neighbour; `touch` puts it in front.
            self.slots.push(Slot { topic: topic.into(), newer: count, older: count });
            self.link_first(count);
            return Some(count);
        }
        let oldest = self.oldest;
        let text_bytes = (self.text_bytes + topic.len()).checked_sub(self.text(oldest).len())?;
        if self.slots.is_empty() || text_bytes > self.max_bytes {
            return None;
        }
        let at = self.find(self.text(oldest)).ok()?;
        self.by_topic.remove(at);
        let at = self.find(topic.as_bytes()).err()?;
        self.by_topic.insert(at, oldest);
        let slot = self.slots.get_mut(usize::from(oldest))?;
        slot.topic.clear();
        slot.topic.push_str(topic);
        slot.topic.shrink_to(2 * topic.len());
        self.text_bytes = text_bytes;
        Some(oldest)
    }

    /// Makes a slot the most recently used.
    fn touch(&mut self, slot: u16) {
        if slot == self.newest {
            return;
        }
        let Some(Slot { newer, older, .. }) = self.slots.get(usize::from(slot)) else { return };
        let (newer, older) = (*newer, *older);
        if slot == self.oldest {
            self.oldest = newer;
        } else if let Some(neighbour) = self.slots.get_mut(usize::from(older)) {
            neighbour.newer = newer;
        }
        if let Some(neighbour) = self.slots.get_mut(usize::from(newer)) {
            neighbour.older = older;
        }
        self.link_first(slot);
    }

    /// Links a slot that is in no list in front of the list.
    fn link_first(&mut self, slot: u16) {
        if self.slots.len() == 1 {
            self.oldest = slot;
        } else {
            let newest = self.newest;
            if let Some(neighbour) = self.slots.get_mut(usize::from(newest)) {
                neighbour.newer = slot;
            }
            if let Some(place) = self.slots.get_mut(usize::from(slot)) {
                place.older = newest;
            }
        }
        self.newest = slot;
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn alias(value: u16) -> TopicAlias {
        TopicAlias::new(value).expect("tests use no zero")
    }

    fn topic(text: &str) -> TopicName<'_> {
        TopicName::new(text).expect("a name")
    }

    /// [MQTT-3.3.2-9] [MQTT-3.3.2-10] [MQTT-3.3.2-12]
    #[test]
    fn every_alias_up_to_the_maximum_is_accepted_and_the_next_is_invalid() {
        let mut aliases = InboundAliases::new(3, 1_000);
        for value in 1..=3 {
            assert_eq!(aliases.resolve(Some(topic("a/b")), Some(alias(value))), Ok(topic("a/b")));
        }
        assert_eq!(aliases.set(alias(4), topic("a/b")), Err(PeerError::TopicAliasInvalid));
        assert_eq!(aliases.get(alias(4)), Err(PeerError::TopicAliasInvalid));
    }

    /// [MQTT-3.2.2-17] [MQTT-3.2.2-18]
    #[test]
    fn maximum_of_zero_allows_no_alias() {
        let mut aliases = InboundAliases::new(0, 1_000);
        assert_eq!(aliases.resolve(Some(topic("a")), Some(alias(1))), Err(PeerError::TopicAliasInvalid));
        assert_eq!(aliases.resolve(Some(topic("a")), None), Ok(topic("a")));
    }

    #[test]
    fn alias_can_be_set_anew_and_an_unset_one_is_unknown() {
        let mut aliases = InboundAliases::new(3, 1_000);
        assert_eq!(aliases.resolve(None, Some(alias(2))), Err(PeerError::TopicAliasUnknown));
        aliases.set(alias(3), topic("first")).expect("it fits");
        assert_eq!(aliases.resolve(None, Some(alias(2))), Err(PeerError::TopicAliasUnknown), "below a set one");
        aliases.set(alias(3), topic("second")).expect("it fits");
        assert_eq!(aliases.get(alias(3)), Ok(topic("second")));
        assert_eq!(aliases.resolve(None, None), Err(PeerError::TopicAliasUnknown));
    }

    #[test]
    fn memory_of_inbound_aliases_stays_within_its_bound() {
        let places = 3 * size_of::<Option<TopicNameBuf>>();
        let mut aliases = InboundAliases::new(1_000, places + 10);
        aliases.set(alias(3), topic("ten bytes.")).expect("exactly the bound");
        assert_eq!(aliases.heap_bytes(), places + 10);
        assert_eq!(aliases.set(alias(1), topic("x")), Err(PeerError::QuotaExceeded));
        assert_eq!(aliases.set(alias(4), topic("x")), Err(PeerError::QuotaExceeded));
        assert_eq!(aliases.get(alias(3)), Ok(topic("ten bytes.")), "nothing changed");
        aliases.set(alias(3), topic("short")).expect("a replaced text makes room");
        aliases.set(alias(1), topic("12345")).expect("room again");
    }

    fn assign(aliases: &mut OutboundAliases, text: &str) -> Option<(u16, bool)> {
        aliases.assign(topic(text)).map(|assigned| (assigned.alias.get(), assigned.send_topic))
    }

    /// [MQTT-3.1.2-26] [MQTT-3.3.2-8] [MQTT-3.3.2-11]
    #[test]
    fn least_recently_used_alias_is_given_away_and_the_maximum_is_never_exceeded() {
        let mut aliases = OutboundAliases::new(3, 1_000);
        for (text, expected) in [
            ("one/one", (1, true)),
            ("two/two", (2, true)),
            ("three/three", (3, true)),
            ("one/one", (1, false)),
            ("four/four", (2, true)),
            ("one/one", (1, false)),
            ("two/two", (3, true)),
            ("four/four", (2, false)),
            ("three/three", (1, true)),
        ] {
            assert_eq!(assign(&mut aliases, text), Some(expected), "{text}");
        }
        assert_eq!(aliases.len(), 3);
    }

    /// [MQTT-3.1.2-27]
    #[test]
    fn no_alias_is_sent_to_a_side_that_announced_none() {
        assert_eq!(assign(&mut OutboundAliases::new(0, 1_000), "home/lamp"), None);
    }

    #[test]
    fn topic_that_gains_nothing_or_does_not_fit_is_sent_in_full() {
        let mut aliases = OutboundAliases::new(3, 10);
        assert_eq!(assign(&mut aliases, "a/b"), None);
        assert_eq!(assign(&mut aliases, "eleven byte"), None);
        assert_eq!(assign(&mut aliases, "ten bytes."), Some((1, true)));
        assert_eq!(assign(&mut aliases, "four"), Some((1, true)), "the bytes make room, not the number");
        assert_eq!(assign(&mut aliases, "seven b"), Some((1, true)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// [MQTT-3.3.2-8] [MQTT-3.3.2-11] [MQTT-3.3.2-12]
        #[test]
        fn receiver_always_finds_the_topic_the_sender_meant(
            topics in proptest::collection::vec(0..12_usize, 1..120),
            maximum in 0..6_u16,
            sender_bytes in prop_oneof![0..60_usize, Just(60)],
        ) {
            let texts: Vec<_> = (0..12).map(|index| format!("t/{}", "x".repeat(index))).collect();
            let mut outbound = OutboundAliases::new(maximum, sender_bytes);
            let mut inbound = InboundAliases::new(maximum, 10_000);
            let mut recent: Vec<usize> = Vec::new();
            for index in topics {
                let meant = topic(&texts[index]);
                let assigned = outbound.assign(meant);
                let sent = (assigned.is_none_or(|assigned| assigned.send_topic)).then_some(meant);
                prop_assert_eq!(inbound.resolve(sent, assigned.map(|assigned| assigned.alias)), Ok(meant));

                if assigned.is_some() && sender_bytes >= 59 && maximum > 0 {
                    // With bytes for all of them, the topics known are exactly the last ones used.
                    let was_known = recent.contains(&index);
                    prop_assert_eq!(sent.is_none(), was_known);
                    recent.retain(|known| *known != index);
                    recent.insert(0, index);
                    recent.truncate(usize::from(maximum));
                }
                prop_assert!(outbound.len() <= usize::from(maximum));
                prop_assert!(outbound.slots.iter().map(|slot| slot.topic.len()).sum::<usize>() <= sender_bytes);
            }
        }
    }
}
