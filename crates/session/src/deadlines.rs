//! What is due next, for very many keys whose deadlines move all the time.

use alloc::{
    collections::{BTreeMap, BinaryHeap},
    vec::Vec,
};
use core::{cmp::Reverse, mem::size_of};

use crate::Timestamp;

/// At most one deadline per key, popped in the order of time, then key.
///
/// Moving a deadline to a later time, what keep alive does with every packet, touches no queue: the key's entry stays
/// where it is and is put back, with the new time, when its old time comes. The owner of a keep alive can go further
/// and not even call [`Deadlines::arm`] per packet: arm once, and when the key is popped ask the
/// [`KeepAlive`](crate::KeepAlive) and arm again if its deadline moved. Then an idle or busy connection costs one pop
/// per keep alive period and nothing per packet.
///
/// Deadlines that moved earlier and those disarmed leave entries behind. There are never more of them than keys with a
/// deadline, plus 64: then the queue is rebuilt without them. So memory is bounded by the keys armed, whatever their
/// history. `arm` and `pop_due` cost O(log n) amortised.
///
/// ```
/// use damselfly_session::{Deadlines, Timestamp};
///
/// let at = Timestamp::from_secs;
/// let mut deadlines = Deadlines::new();
/// deadlines.arm(7_u32, at(10));
/// deadlines.arm(8, at(20));
/// deadlines.arm(7, at(30));
/// assert_eq!(deadlines.pop_due(at(19)), None, "that of 7 has moved");
/// assert_eq!(deadlines.next(), Some(at(20)));
/// assert_eq!(deadlines.pop_due(at(35)), Some(8));
/// assert_eq!(deadlines.pop_due(at(35)), Some(7));
/// assert_eq!(deadlines.pop_due(at(35)), None);
/// ```
#[derive(Clone, Debug)]
pub struct Deadlines<K> {
    armed: BTreeMap<K, Armed>,
    queue: BinaryHeap<Reverse<(Timestamp, K)>>,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    at: Timestamp,
    /// The time of the key's valid entry in the queue; never after `at`.
    queued: Timestamp,
}

/// Entries without meaning that are tolerated beside as many as there are keys.
const SLACK: usize = 64;

impl<K: Copy + Ord> Deadlines<K> {
    /// No deadline.
    pub const fn new() -> Self {
        Self { armed: BTreeMap::new(), queue: BinaryHeap::new() }
    }

    /// Sets the key's deadline, replacing the one it has.
    pub fn arm(&mut self, key: K, at: Timestamp) {
        if let Some(armed) = self.armed.get_mut(&key) {
            armed.at = at;
            if armed.queued <= at {
                return;
            }
            armed.queued = at;
        } else {
            self.armed.insert(key, Armed { at, queued: at });
        }
        self.queue.push(Reverse((at, key)));
        self.drop_stale_entries();
    }

    /// Takes the key's deadline away: `false` if it had none.
    pub fn disarm(&mut self, key: K) -> bool {
        let had_one = self.armed.remove(&key).is_some();
        self.drop_stale_entries();
        had_one
    }

    /// The key's deadline.
    pub fn deadline(&self, key: K) -> Option<Timestamp> {
        Some(self.armed.get(&key)?.at)
    }

    /// When to call [`Deadlines::pop_due`] next: never later than the earliest deadline, earlier if that one was moved
    /// or disarmed meanwhile. A pop at that time then finds nothing and the next answer is later.
    pub fn next(&self) -> Option<Timestamp> {
        if self.armed.is_empty() {
            return None;
        }
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one key whose deadline is at or before `now`; the earliest, and of several the smallest key.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<K> {
        loop {
            let Reverse((at, key)) = *self.queue.peek().filter(|Reverse((at, _))| *at <= now)?;
            match self.armed.get_mut(&key) {
                Some(armed) if armed.queued == at && armed.at == at => {
                    self.queue.pop();
                    self.armed.remove(&key);
                    self.drop_stale_entries();
                    return Some(key);
                }
                // Put back even if due by now, so that keys leave in the order of their deadlines.
                Some(armed) if armed.queued == at => {
                    armed.queued = armed.at;
                    let moved = Reverse((armed.at, key));
                    if let Some(mut top) = self.queue.peek_mut() {
                        *top = moved;
                    }
                }
                _ => {
                    self.queue.pop();
                }
            }
        }
    }

    /// Keys with a deadline.
    pub fn len(&self) -> usize {
        self.armed.len()
    }

    /// Has no key a deadline?
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// Heap memory held, in bytes. That of the tree of keys is not known exactly: its nodes count as two thirds full.
    pub fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<(Timestamp, K)>() + self.armed.len() * size_of::<(K, Armed)>() * 3 / 2
    }

    fn drop_stale_entries(&mut self) {
        if self.queue.len() > 2 * self.armed.len() + SLACK {
            self.armed.values_mut().for_each(|armed| armed.queued = armed.at);
            let entries: Vec<_> = self.armed.iter().map(|(key, armed)| Reverse((armed.at, *key))).collect();
            self.queue = BinaryHeap::from(entries);
        } else if self.queue.capacity() > 4 * self.queue.len() + 2 * SLACK {
            self.queue.shrink_to(2 * self.queue.len() + SLACK);
        }
    }
}

impl<K: Copy + Ord> Default for Deadlines<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn drain(deadlines: &mut Deadlines<u16>, now: Timestamp) -> Vec<u16> {
        core::iter::from_fn(|| deadlines.pop_due(now)).collect()
    }

    #[test]
    fn due_keys_leave_by_time_and_then_by_key() {
        let mut deadlines = Deadlines::new();
        for (key, seconds) in [(3, 5), (1, 9), (2, 5), (9, 1)] {
            deadlines.arm(key, at(seconds));
        }
        assert_eq!(drain(&mut deadlines, at(5)), vec![9, 2, 3]);
        assert_eq!(deadlines.next(), Some(at(9)));
        assert_eq!(drain(&mut deadlines, at(9)), vec![1]);
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn deadline_is_due_at_its_very_microsecond() {
        let mut deadlines = Deadlines::new();
        deadlines.arm(1, Timestamp::from_micros(100));
        assert_eq!(deadlines.pop_due(Timestamp::from_micros(99)), None);
        assert_eq!(deadlines.pop_due(Timestamp::from_micros(100)), Some(1));
    }

    #[test]
    fn moved_deadline_keeps_the_order_of_times() {
        let mut deadlines = Deadlines::new();
        deadlines.arm(1, at(5));
        deadlines.arm(2, at(7));
        deadlines.arm(1, at(10));
        assert_eq!(drain(&mut deadlines, at(20)), vec![2, 1]);
    }

    #[test]
    fn disarmed_key_is_never_popped() {
        let mut deadlines = Deadlines::new();
        deadlines.arm(1, at(5));
        assert!(deadlines.disarm(1));
        assert!(!deadlines.disarm(1));
        assert_eq!(deadlines.next(), None);
        assert_eq!(deadlines.pop_due(at(5)), None);
    }

    #[test]
    fn moving_later_for_ever_grows_nothing() {
        let mut deadlines = Deadlines::new();
        for second in 0..100_000 {
            deadlines.arm(1, at(second));
        }
        assert_eq!(deadlines.queue.len(), 1);
        assert_eq!(drain(&mut deadlines, at(99_998)), vec![]);
        assert_eq!(drain(&mut deadlines, at(99_999)), vec![1]);
    }

    #[test]
    fn stale_entries_are_bounded_by_the_keys_and_memory_returns() {
        let mut deadlines = Deadlines::new();
        for second in (0..10_000).rev() {
            deadlines.arm(1, at(second));
            assert!(deadlines.queue.len() <= 2 + SLACK);
        }
        for key in 0..10_000 {
            deadlines.arm(key, at(u64::from(key)));
            deadlines.disarm(key);
            deadlines.arm(key, at(u64::from(key)));
        }
        assert!(deadlines.queue.len() <= 2 * 10_000 + SLACK);
        assert_eq!(drain(&mut deadlines, at(10_000)).len(), 10_000);
        assert!(deadlines.heap_bytes() <= 3 * SLACK * size_of::<(Timestamp, u16)>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_history_agrees_with_a_plain_map(
            steps in proptest::collection::vec((0..4_u8, 0..12_u16, 0..40_u64), 1..300),
        ) {
            let mut deadlines = Deadlines::new();
            let mut model = BTreeMap::new();
            let mut now = 0;
            for (step, key, seconds) in steps {
                match step {
                    0 | 1 => {
                        deadlines.arm(key, at(seconds));
                        model.insert(key, at(seconds));
                    }
                    2 => prop_assert_eq!(deadlines.disarm(key), model.remove(&key).is_some()),
                    _ => {
                        now = now.max(seconds);
                        let expected = model.iter().map(|(key, at)| (*at, *key)).min().filter(|(due, _)| *due <= at(now));
                        let key = expected.map(|(_, key)| key);
                        prop_assert_eq!(deadlines.pop_due(at(now)), key);
                        key.map(|key| model.remove(&key));
                    }
                }
                prop_assert_eq!(deadlines.deadline(key), model.get(&key).copied());
                prop_assert_eq!(deadlines.len(), model.len());
                prop_assert_eq!(deadlines.next().is_some(), !model.is_empty());
                prop_assert!(deadlines.next() <= model.values().min().copied() || model.is_empty());
                prop_assert!(deadlines.queue.len() <= 2 * model.len() + SLACK);
            }
        }
    }
}
