//! Which Packet Identifiers are in use in one direction of a session. [MQTT-2.2.1]

use alloc::vec::Vec;
use core::mem::size_of;

use damselfly_codec::PacketId;

/// The Packet Identifiers one side of a session has in use: for PUBLISH, SUBSCRIBE and UNSUBSCRIBE together.
///
/// Each side allocates its own; the two directions never mix. Identifiers are handed out in rising order and wrap, so a
/// released one comes back only after the other free ones: a late acknowledgement of the peer cannot hit a new packet.
///
/// Sixteen bytes of bits per 128 identifiers. Two such blocks live inside the value, enough for the windows that are
/// usual; more are allocated when identifiers in use spread over more, and freed when the last of them is released.
/// Typical cost of each call is constant; the worst case, with tens of thousands in use, is a search over 512 blocks.
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
pub struct PacketIds {
    /// Where the next search starts. Zero only before the first allocation.
    next: u16,
    len: u16,
    near: [Block; 2],
    /// Sorted by `number`, none of them empty.
    far: Vec<Block>,
}

impl PacketIds {
    /// All identifiers are free.
    pub const fn new() -> Self {
        Self { next: 1, len: 0, near: [Block::EMPTY; 2], far: Vec::new() }
    }

    /// Takes a currently unused identifier, `None` if all 65,535 are in use. [MQTT-2.2.1-3] [MQTT-2.2.1-4]
    #[must_use = "the identifier stays in use until it is released"]
    pub fn allocate(&mut self) -> Option<PacketId> {
        if self.len == u16::MAX {
            return None;
        }
        let (mut number, mut from) = split(self.next);
        // One turn around all blocks, and the first one again from its start.
        for _ in 0..=BLOCKS {
            let free = match self.block_mut(number) {
                Some(block) => block.first_free(from),
                None => Some(if number == 0 { from.max(1) } else { from }),
            };
            if let Some(id) = free.and_then(|bit| PacketId::new(join(number, bit))) {
                self.insert(id);
                self.next = id.get().checked_add(1).unwrap_or(1);
                return Some(id);
            }
            number = (number + 1) % BLOCKS;
            from = 0;
        }
        None
    }

    /// Takes this very identifier: `false` if it is in use already. For what is restored with its identifier.
    #[must_use = "a `false` says that the identifier belongs to something else"]
    pub fn reserve(&mut self, id: PacketId) -> bool {
        !self.contains(id) && {
            self.insert(id);
            true
        }
    }

    /// Gives an identifier back: `false` if it was not in use. [MQTT3-2.3.1-3]
    pub fn release(&mut self, id: PacketId) -> bool {
        let (number, bit) = split(id.get());
        if let Some(block) = self.near.iter_mut().find(|block| block.is(number)) {
            let released = block.clear(bit);
            self.len -= u16::from(released);
            return released;
        }
        let Ok(at) = self.far.binary_search_by_key(&number, |block| block.number) else { return false };
        let released = self.far.get_mut(at).is_some_and(|block| block.clear(bit));
        self.len -= u16::from(released);
        if self.far.get(at).is_some_and(|block| block.used == 0) {
            self.far.remove(at);
            if self.far.is_empty() {
                self.far = Vec::new();
            }
        }
        released
    }

    /// Is the identifier in use?
    pub fn contains(&self, id: PacketId) -> bool {
        let (number, bit) = split(id.get());
        self.block(number).is_some_and(|block| block.contains(bit))
    }

    /// How many are in use: 0 to 65,535.
    pub const fn len(&self) -> u16 {
        self.len
    }

    /// Is none in use?
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives all of them back. The next allocation still goes on where the last one ended.
    pub fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::new() };
    }

    /// Those in use, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> + '_ {
        (0..BLOCKS).filter_map(|number| self.block(number)).flat_map(Block::ids)
    }

    /// Heap memory held, in bytes. Zero while the identifiers in use lie in two blocks of 128.
    pub fn heap_bytes(&self) -> usize {
        self.far.capacity() * size_of::<Block>()
    }

    /// Marks a free identifier as used.
    fn insert(&mut self, id: PacketId) {
        let (number, bit) = split(id.get());
        self.len += 1;
        if let Some(block) = self.block_mut(number) {
            block.set(bit);
            return;
        }
        let mut block = Block { number, ..Block::EMPTY };
        block.set(bit);
        if let Some(place) = self.near.iter_mut().find(|block| block.used == 0) {
            *place = block;
        } else if let Err(at) = self.far.binary_search_by_key(&number, |block| block.number) {
            self.far.insert(at, block);
        }
    }

    fn block(&self, number: u16) -> Option<&Block> {
        self.near.iter().find(|block| block.is(number)).or_else(|| {
            let at = self.far.binary_search_by_key(&number, |block| block.number).ok()?;
            self.far.get(at)
        })
    }

    fn block_mut(&mut self, number: u16) -> Option<&mut Block> {
        if let Some(near) = self.near.iter_mut().find(|block| block.is(number)) {
            return Some(near);
        }
        let at = self.far.binary_search_by_key(&number, |block| block.number).ok()?;
        self.far.get_mut(at)
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
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for PacketIds {}

/// Identifiers in one block.
const WIDTH: u16 = 128;
/// Blocks that hold all 65,536 numbers; 0 is no identifier and its bit is never set.
const BLOCKS: u16 = 512;

/// The bits of 128 consecutive identifiers.
#[derive(Clone, Copy, Debug)]
struct Block {
    bits: [u64; 2],
    number: u16,
    used: u16,
}

impl Block {
    const EMPTY: Self = Self { bits: [0; 2], number: 0, used: 0 };

    const fn is(&self, number: u16) -> bool {
        self.used > 0 && self.number == number
    }

    fn contains(&self, bit: u16) -> bool {
        self.bits[usize::from(bit / 64)] & mask(bit) != 0
    }

    fn set(&mut self, bit: u16) {
        self.bits[usize::from(bit / 64)] |= mask(bit);
        self.used += 1;
    }

    fn clear(&mut self, bit: u16) -> bool {
        let was_used = self.contains(bit);
        self.bits[usize::from(bit / 64)] &= !mask(bit);
        self.used -= u16::from(was_used);
        was_used
    }

    /// The lowest free bit at or above `from`.
    fn first_free(&self, from: u16) -> Option<u16> {
        let from = if self.number == 0 { from.max(1) } else { from };
        let mut skip = !(mask(from) - 1);
        for word in from / 64..2 {
            let free = !self.bits[usize::from(word)] & skip;
            if free != 0 {
                return u16::try_from(free.trailing_zeros()).ok().map(|bit| word * 64 + bit);
            }
            skip = u64::MAX;
        }
        None
    }

    fn ids(&self) -> impl Iterator<Item = PacketId> + '_ {
        (0..WIDTH).filter(|bit| self.contains(*bit)).filter_map(|bit| PacketId::new(join(self.number, bit)))
    }
}

const fn mask(bit: u16) -> u64 {
    1 << (bit % 64)
}

const fn split(id: u16) -> (u16, u16) {
    (id / WIDTH, id % WIDTH)
}

const fn join(number: u16, bit: u16) -> u16 {
    number * WIDTH + bit
}

const _: () = assert!(size_of::<PacketIds>() <= 80, "each session pays for two, used or not");

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).expect("tests use no zero")
    }

    /// [MQTT-2.2.1-3] [MQTT-2.2.1-4] [MQTT3-2.3.1-2]
    #[test]
    fn all_65535_identifiers_are_handed_out_once_and_then_none() {
        let mut ids = PacketIds::new();
        let mut seen = BTreeSet::new();
        for _ in 0..65_535 {
            assert!(seen.insert(ids.allocate().expect("one is free")));
        }
        assert_eq!(ids.allocate(), None);
        assert_eq!(ids.len(), 65_535);

        assert!(ids.release(id(40_000)));
        assert_eq!(ids.allocate(), Some(id(40_000)));
        assert_eq!(ids.allocate(), None);
    }

    #[test]
    fn identifiers_rise_from_one_and_wrap_past_zero() {
        let mut ids = PacketIds::new();
        assert_eq!(ids.allocate(), Some(id(1)));
        ids.next = u16::MAX;
        assert_eq!(ids.allocate(), Some(id(65_535)));
        assert_eq!(ids.allocate(), Some(id(2)), "0 is no identifier and 1 is in use");
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
            let mut ids = PacketIds { next: start, ..PacketIds::new() };
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
