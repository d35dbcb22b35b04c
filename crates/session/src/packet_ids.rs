//! Which Packet Identifiers are in use in one direction of a session. [MQTT-2.2.1]

use damselfly_codec::PacketId;

use crate::id_set::IdSet;

/// The Packet Identifiers one side of a session has in use: for PUBLISH, SUBSCRIBE and UNSUBSCRIBE together.
///
/// Each side allocates its own; the two directions never mix. Identifiers are handed out in rising order and wrap, so a
/// released one comes back only after the other free ones: a late acknowledgement of the peer cannot hit a new packet.
///
/// While the identifiers in use lie in two blocks of 128, as with usual windows, there is no heap memory; beyond that
/// it is 24 bytes for each block in use, freed with its last identifier. Typical cost of each call is constant.
///
/// ```
/// use damselfly_session::PacketIds;
///
/// let mut ids = PacketIds::new();
/// let first = ids.allocate().expect("all are free");
/// let second = ids.allocate().expect("nearly all are free");
/// assert!(ids.release(first));
/// assert_ne!(ids.allocate(), Some(first), "not at once");
/// assert!(ids.contains(second));
/// assert_eq!(ids.heap_bytes(), 0);
/// ```
#[derive(Clone, Debug)]
pub struct PacketIds(
    /// Its tag is where the next search starts.
    pub(crate) IdSet,
);

impl PacketIds {
    /// All identifiers are free.
    pub const fn new() -> Self {
        Self(IdSet::new(1))
    }

    /// Takes a currently unused identifier, `None` if all 65,535 are in use. [MQTT-2.2.1-3] [MQTT-2.2.1-4]
    #[must_use = "the identifier stays in use until it is released"]
    #[inline]
    pub fn allocate(&mut self) -> Option<PacketId> {
        let id = match PacketId::new(self.0.tag) {
            // The usual case: what comes next is free.
            Some(id) if self.0.insert(id) => id,
            _ => {
                let id = self.0.first_absent(self.0.tag)?;
                self.0.insert(id);
                id
            }
        };
        self.0.tag = id.get().wrapping_add(1);
        Some(id)
    }

    /// Takes this very identifier: `false` if it is in use already. For what is restored with its identifier.
    #[must_use = "a `false` says that the identifier belongs to something else"]
    pub fn reserve(&mut self, id: PacketId) -> bool {
        self.0.insert(id)
    }

    /// Gives an identifier back, when the last packet of its exchange was received: `false` if it was not in use.
    /// [MQTT3-2.3.1-3]
    #[inline]
    pub fn release(&mut self, id: PacketId) -> bool {
        self.0.remove(id)
    }

    /// Is the identifier in use?
    pub fn contains(&self, id: PacketId) -> bool {
        self.0.contains(id)
    }

    /// How many are in use: 0 to 65,535.
    pub const fn len(&self) -> u16 {
        self.0.len()
    }

    /// Is none in use?
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Are all of them in use? Then [`allocate`](Self::allocate) has none to give.
    pub const fn is_exhausted(&self) -> bool {
        self.len() == u16::MAX
    }

    /// Gives all of them back. The next allocation still goes on where the last one ended.
    pub fn clear(&mut self) {
        self.0 = IdSet::new(self.0.tag);
    }

    /// Those in use, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> + '_ {
        self.0.iter()
    }

    /// Heap memory held, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

impl Default for PacketIds {
    fn default() -> Self {
        Self::new()
    }
}

/// The same identifiers are in use; where the next search starts does not matter.
impl PartialEq for PacketIds {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for PacketIds {}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).expect("tests use no zero")
    }

    /// [MQTT-2.2.1-3] [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT3-2.3.1-2] [MQTT3-2.3.1-4]
    #[test]
    fn all_65535_identifiers_are_handed_out_once_and_then_none() {
        let mut ids = PacketIds::new();
        let mut seen = BTreeSet::new();
        for _ in 0..65_535 {
            assert!(seen.insert(ids.allocate().expect("one is free")));
        }
        assert_eq!(ids.allocate(), None);
        assert_eq!(ids.len(), 65_535);
        assert!(ids.is_exhausted());

        assert!(ids.release(id(40_000)));
        assert!(!ids.is_exhausted());
        assert_eq!(ids.allocate(), Some(id(40_000)));
        assert_eq!(ids.allocate(), None);
    }

    #[test]
    fn identifiers_rise_from_one_and_wrap_past_zero() {
        let mut ids = PacketIds::new();
        assert_eq!(ids.allocate(), Some(id(1)));
        ids.0.tag = u16::MAX;
        assert_eq!(ids.allocate(), Some(id(65_535)));
        assert_eq!(ids.allocate(), Some(id(2)), "0 is no identifier and 1 is in use");
    }

    #[test]
    fn search_for_a_free_identifier_goes_on_past_the_used_ones_and_past_zero() {
        let mut ids = PacketIds::new();
        for value in [60, 61, 62, 63, 65_535] {
            assert!(ids.reserve(id(value)));
        }
        ids.0.tag = 60;
        assert_eq!(ids.allocate(), Some(id(64)));
        ids.0.tag = 65_535;
        assert_eq!(ids.allocate(), Some(id(1)));
    }

    #[test]
    fn cleared_identifiers_come_back_last_too() {
        let mut ids = PacketIds::new();
        assert_eq!(ids.allocate(), Some(id(1)));
        ids.clear();
        assert!(ids.is_empty());
        assert_eq!(ids.allocate(), Some(id(2)));
    }

    #[test]
    fn released_identifier_comes_back_last() {
        let mut ids = PacketIds::new();
        for expected in 1..=65_535 {
            let given = ids.allocate().expect("one is free");
            assert_eq!(given, id(expected));
            assert!(ids.release(given));
        }
        assert_eq!(ids.allocate(), Some(id(1)));
    }

    #[test]
    fn reserved_identifier_is_skipped_and_reserved_once() {
        let mut ids = PacketIds::new();
        assert!(ids.reserve(id(2)));
        assert!(!ids.reserve(id(2)));
        assert_eq!(ids.allocate(), Some(id(1)));
        assert_eq!(ids.allocate(), Some(id(3)));
        assert!(ids.release(id(2)));
        assert!(!ids.release(id(2)), "released once");
        assert!(!ids.release(id(9_999)), "never in use");
    }

    #[test]
    fn memory_is_freed_when_idle_and_none_is_used_for_a_small_window() {
        let mut ids = PacketIds::new();
        for value in [1, 1_000, 20_000, 65_535] {
            assert!(ids.reserve(id(value)));
        }
        assert!(ids.heap_bytes() > 0);
        for value in [1, 1_000, 20_000, 65_535] {
            assert!(ids.release(id(value)));
        }
        assert_eq!(ids.heap_bytes(), 0);

        let mut window = alloc::collections::VecDeque::new();
        for _ in 0..70_000 {
            window.push_back(ids.allocate().expect("one is free"));
            if window.len() > 100 {
                assert!(ids.release(window.pop_front().expect("the window is full")));
            }
            assert_eq!(ids.heap_bytes(), 0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_history_agrees_with_a_set(
            steps in proptest::collection::vec((0..4_u8, 1..600_u16), 1..400),
            start in 1..=u16::MAX,
        ) {
            let mut ids = PacketIds::new();
            ids.0.tag = start;
            let mut model = BTreeSet::new();
            for (step, value) in steps {
                // Odd multiples spread the values over all blocks.
                let value = id(value.wrapping_mul(337).max(1));
                match step {
                    0 | 1 => prop_assert!(model.insert(ids.allocate().expect("few are in use"))),
                    2 => prop_assert_eq!(ids.reserve(value), model.insert(value)),
                    _ => {
                        let victim = model.range(value..).next().copied().unwrap_or(value);
                        prop_assert_eq!(ids.release(victim), model.remove(&victim));
                    }
                }
                prop_assert_eq!(usize::from(ids.len()), model.len());
                prop_assert_eq!(ids.contains(value), model.contains(&value));
            }
            prop_assert!(ids.iter().eq(model.iter().copied()));
            ids.clear();
            prop_assert!(ids.is_empty() && ids.iter().next().is_none());
            prop_assert_eq!(ids.heap_bytes(), 0);
        }
    }
}
