//! Messages that outlive the call that brought them: stored once, however many sessions queue them.

use damselfly_codec::{Publish, SubscriptionId};
use damselfly_session::{Message, MessagePool, Timestamp};
use damselfly_topic::TopicName;

use crate::{
    sessions::{Entry, Inflight, Queued},
    slab::Slab,
};
use alloc::boxed::Box;

/// One reference to a stored message. Given back with [`Messages::release`], never just dropped.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reference that is not released keeps its message for ever"]
pub(crate) struct MessageRef(u32);

/// The Subscription Identifiers of one delivery in four bytes: none, one in place, or a list in [`Messages`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a list that is not released stays for ever"]
pub(crate) struct SubscriptionIds(u32);

const LIST: u32 = 1 << 31;

impl SubscriptionIds {
    pub(crate) const NONE: Self = Self(0);

    /// Whether they are a list of their own.
    pub(crate) const fn is_list(&self) -> bool {
        self.0 & LIST != 0
    }
}

#[derive(Debug)]
struct Stored {
    message: Message,
    references: u32,
}

/// All stored messages of a broker and the bytes they take.
#[derive(Debug)]
pub(crate) struct Messages {
    stored: Slab<Stored>,
    lists: Slab<Box<[SubscriptionId]>>,
    bytes: u64,
    pub(crate) pool: MessagePool,
}

/// What the slot of a stored message takes beside its bytes.
const OVERHEAD: usize = size_of::<Stored>() + 8;

/// What each session that holds a message takes for it: very many may hold a small one.
const REFERENCE: u64 = 32;
const _: () = assert!(size_of::<Entry>() <= 32 && size_of::<Inflight>() <= 32, "a reference is where it is held");

fn weight(message: &Message) -> u64 {
    u64::try_from(OVERHEAD + message.heap_bytes()).unwrap_or(u64::MAX)
}

/// What a list of identifiers takes: a message may match very many subscriptions of one session.
fn list_weight(ids: &[SubscriptionId]) -> u64 {
    if ids.len() < 2 {
        return 0;
    }
    u64::try_from(size_of::<Box<[SubscriptionId]>>() + size_of_val(ids) + 16).unwrap_or(u64::MAX)
}

impl Messages {
    pub(crate) fn new() -> Self {
        Self { stored: Slab::new(), lists: Slab::new(), bytes: 0, pool: MessagePool::default() }
    }

    /// Stores a message with one reference.
    pub(crate) fn store(&mut self, message: Message) -> MessageRef {
        self.bytes += weight(&message) + REFERENCE;
        MessageRef(self.stored.insert(Stored { message, references: 1 }).0)
    }

    /// Stores what a PUBLISH carries with one reference.
    #[inline]
    pub(crate) fn store_new(&mut self, publish: &Publish<'_>, topic: TopicName<'_>, now: Timestamp) -> MessageRef {
        let message = Message::new_in(&mut self.pool, publish, topic, now);
        self.store(message)
    }

    /// One more reference.
    pub(crate) fn share(&mut self, reference: &MessageRef) -> MessageRef {
        if let Some(stored) = self.stored.get_mut(reference.0) {
            stored.references += 1;
            self.bytes += REFERENCE;
        }
        MessageRef(reference.0)
    }

    #[expect(clippy::needless_pass_by_value, reason = "the reference ends here")]
    pub(crate) fn release(&mut self, reference: MessageRef) {
        let Some(stored) = self.stored.get_mut(reference.0) else { return };
        self.bytes -= REFERENCE;
        if stored.references > 1 {
            stored.references -= 1;
        } else if let Some(stored) = self.stored.remove(reference.0) {
            self.bytes -= weight(&stored.message);
            stored.message.give_back(&mut self.pool);
        }
    }

    /// Gives back what a queue entry holds.
    #[inline]
    pub(crate) fn discard(&mut self, queued: Queued) {
        self.release(queued.message);
        self.release_ids(queued.ids);
    }

    #[inline]
    pub(crate) fn get(&self, reference: &MessageRef) -> Option<&Message> {
        self.stored.get(reference.0).map(|stored| &stored.message)
    }

    /// What a message counts for in a queue that holds it, with these identifiers.
    pub(crate) fn weight_with(&self, reference: &MessageRef, ids: &[SubscriptionId]) -> u64 {
        self.get(reference).map_or(0, weight) + list_weight(ids)
    }

    /// What an entry counts for in its queue.
    #[inline]
    pub(crate) fn weight(&self, queued: &Queued) -> u64 {
        let list = if queued.ids.is_list() { list_weight(self.ids(&queued.ids, &mut None)) } else { 0 };
        self.get(&queued.message).map_or(0, weight) + list
    }

    /// What a message in flight counts for, under a limit.
    #[inline]
    pub(crate) fn weight_in_flight(&self, queued: &Queued, max_inflight_bytes: u64) -> u64 {
        if max_inflight_bytes == u64::MAX { 0 } else { self.weight_under_limit(queued) }
    }

    /// As [`Messages::weight`], out of the way of the many that have no limit.
    #[cold]
    fn weight_under_limit(&self, queued: &Queued) -> u64 {
        self.weight(queued)
    }

    pub(crate) fn keep_ids(&mut self, ids: &[SubscriptionId]) -> SubscriptionIds {
        match ids {
            [] => SubscriptionIds::NONE,
            [id] => SubscriptionIds(id.get()),
            ids => {
                self.bytes += list_weight(ids);
                SubscriptionIds(LIST | self.lists.insert(ids.into()).0)
            }
        }
    }

    /// The identifiers, one of them by way of `single`.
    pub(crate) fn ids<'a>(
        &'a self,
        ids: &SubscriptionIds,
        single: &'a mut Option<SubscriptionId>,
    ) -> &'a [SubscriptionId] {
        if ids.0 & LIST != 0 {
            return self.lists.get(ids.0 & !LIST).map_or(&[], |list| list);
        }
        *single = SubscriptionId::new(ids.0);
        single.as_slice()
    }

    #[expect(clippy::needless_pass_by_value, reason = "the list ends here")]
    pub(crate) fn release_ids(&mut self, ids: SubscriptionIds) {
        if ids.0 & LIST != 0 {
            let gone = self.lists.remove(ids.0 & !LIST);
            self.bytes -= gone.map_or(0, |list| list_weight(&list));
        }
    }

    /// References to stored messages that were given out and not given back.
    pub(crate) fn references(&self) -> usize {
        self.stored.iter().map(|(_, stored)| crate::slab::index(stored.references)).sum()
    }

    /// What the bytes should be.
    pub(crate) fn count_bytes(&self) -> u64 {
        let stored =
            self.stored.iter().map(|(_, stored)| weight(&stored.message) + u64::from(stored.references) * REFERENCE);
        stored.sum::<u64>() + self.lists.iter().map(|(_, list)| list_weight(list)).sum::<u64>()
    }

    /// Lists of identifiers that were not given back.
    pub(crate) const fn lists(&self) -> usize {
        self.lists.len()
    }

    /// Messages stored.
    pub(crate) const fn len(&self) -> usize {
        self.stored.len()
    }

    /// Bytes the stored messages take, with the references to them and the lists of identifiers.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.stored.heap_bytes() + self.lists.heap_bytes() + self.pool.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use damselfly_codec::{Delivery, Properties};

    use super::*;

    fn store(messages: &mut Messages) -> MessageRef {
        let topic = TopicName::new("pond/depth").unwrap();
        let (delivery, retain, properties) = (Delivery::AtMostOnce, false, Properties::EMPTY);
        let publish = Publish { delivery, retain, topic: Some(topic), properties, payload: b"7" };
        messages.store_new(&publish, topic, Timestamp::ZERO)
    }

    fn ids(count: u32) -> alloc::vec::Vec<SubscriptionId> {
        (1..=count).filter_map(SubscriptionId::new).collect()
    }

    #[test]
    fn what_is_stored_counts_for_no_less_than_it_takes() {
        let mut messages = Messages::new();
        let small = store(&mut messages);
        let content = messages.get(&small).unwrap().heap_bytes();
        assert!(messages.bytes() - REFERENCE > u64::try_from(size_of::<Stored>() + content).unwrap());
        assert_eq!((messages.len(), messages.references()), (1, 1));
        let again = messages.share(&small);
        assert_eq!((messages.len(), messages.references()), (1, 2));

        let before = messages.bytes();
        let taken = |count: u32| u64::from(count) * 4 + 16;
        for count in [2, 3, 50] {
            let list = messages.keep_ids(&ids(count));
            assert!(messages.bytes() - before >= taken(count), "{count} identifiers");
            assert_eq!(
                messages.weight_with(&small, &ids(count)),
                messages.weight_with(&small, &[]) + messages.bytes() - before
            );
            messages.release_ids(list);
            assert_eq!(messages.bytes(), before);
        }
        messages.release(small);
        messages.release(again);
        assert_eq!((messages.len(), messages.bytes()), (0, 0));
    }

    #[test]
    fn each_delivery_gives_back_its_own_identifiers_and_no_others() {
        let mut messages = Messages::new();
        let [none, one, two, three] = [0, 1, 2, 3].map(|count| messages.keep_ids(&ids(count)));
        assert_eq!([&none, &one, &two, &three].map(SubscriptionIds::is_list), [false, false, true, true]);
        messages.release_ids(none);
        messages.release_ids(one);
        assert_eq!(messages.lists(), 2, "they were no lists");
        messages.release_ids(two);
        assert_eq!(messages.ids(&three, &mut None), ids(3));
        messages.release_ids(three);
        assert_eq!((messages.lists(), messages.bytes()), (0, 0));
    }

    #[test]
    fn the_heap_holds_messages_lists_and_memory_for_later_ones() {
        let mut messages = Messages::new();
        assert_eq!(messages.heap_bytes(), 0);
        let stored = store(&mut messages);
        let with_message = messages.heap_bytes();
        assert!(with_message >= size_of::<Stored>());
        let list = messages.keep_ids(&ids(2));
        let with_list = messages.heap_bytes();
        assert!(with_list >= with_message + size_of::<Box<[SubscriptionId]>>());
        messages.release_ids(list);
        messages.release(stored);
        assert!(messages.heap_bytes() > with_list, "the memory of the message is kept for another");
    }
}
