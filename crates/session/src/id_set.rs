//! A set of Packet Identifiers that costs nothing while it is small.

use alloc::vec::Vec;
use core::mem::size_of;

use damselfly_codec::PacketId;

/// Sixteen bytes of bits per 128 identifiers. Two such blocks live inside the value; more are allocated when the members
/// spread over more, and freed when their last one is removed. The typical cost of each call is constant; the worst
/// case, with tens of thousands of members, is a search over 512 blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdSet {
    near: [Block; 2],
    /// Sorted by `number`, none of them empty, none of them also in `near`.
    far: Vec<Block>,
    len: u16,
    /// For the owner of the set: two bytes that would be padding.
    pub(crate) tag: u16,
}

impl IdSet {
    pub(crate) const fn new(tag: u16) -> Self {
        Self { near: [Block::EMPTY; 2], far: Vec::new(), len: 0, tag }
    }

    /// `false` if it was a member.
    #[inline]
    pub(crate) fn insert(&mut self, id: PacketId) -> bool {
        let (number, bit) = split(id.get());
        if self.len == 0 {
            // One message after the other: there is no block to look for.
            let [first, _] = &mut self.near;
            first.number = number;
            self.len += u16::from(first.set(bit));
            return true;
        }
        if let Some(block) = self.block_mut(number) {
            let inserted = block.set(bit);
            self.len += u16::from(inserted);
            return inserted;
        }
        self.insert_block(number, bit)
    }

    /// A member in a block that had none.
    #[inline(never)]
    fn insert_block(&mut self, number: u16, bit: u16) -> bool {
        let mut block = Block { number, ..Block::EMPTY };
        self.len += u16::from(block.set(bit));
        if let Some(place) = self.near.iter_mut().find(|block| block.used == 0) {
            *place = block;
        } else if let Err(at) = self.far.binary_search_by_key(&number, |block| block.number) {
            self.far.insert(at, block);
        }
        true
    }

    /// `false` if it was none.
    #[inline]
    pub(crate) fn remove(&mut self, id: PacketId) -> bool {
        let (number, bit) = split(id.get());
        let Some(block) = self.block_mut(number) else { return false };
        let removed = block.clear(bit);
        let is_last = removed && block.used == 0;
        self.len -= u16::from(removed);
        if is_last && !self.far.is_empty() {
            self.free_block(number);
        }
        removed
    }

    pub(crate) fn contains(&self, id: PacketId) -> bool {
        let (number, bit) = split(id.get());
        self.block(number).is_some_and(|block| block.contains(bit))
    }

    pub(crate) const fn len(&self) -> u16 {
        self.len
    }

    /// The first identifier at or above `from` that is no member, going round past 65,535.
    pub(crate) fn first_absent(&self, from: u16) -> Option<PacketId> {
        if self.len == u16::MAX {
            return None;
        }
        let (mut number, mut from) = split(from.max(1));
        // One turn around all blocks, and the first one again from its start.
        for _ in 0..=BLOCKS {
            let absent = self.block(number).map_or(Some(from), |block| block.first_absent(from));
            if let Some(bit) = absent {
                return PacketId::new(join(number, bit));
            }
            number = (number + 1) % BLOCKS;
            from = u16::from(number == 0);
        }
        None
    }

    /// In rising order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PacketId> + '_ {
        (0..BLOCKS).filter_map(|number| self.block(number)).flat_map(Block::ids)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.far.capacity() * size_of::<Block>()
    }

    fn free_block(&mut self, number: u16) {
        let Ok(at) = self.far.binary_search_by_key(&number, |block| block.number) else { return };
        if self.far.get(at).is_some_and(|block| block.used == 0) {
            self.far.remove(at);
        }
        if self.far.is_empty() {
            self.far = Vec::new();
        }
    }

    fn block(&self, number: u16) -> Option<&Block> {
        self.near.iter().find(|block| block.is(number)).or_else(|| {
            let at = self.far.binary_search_by_key(&number, |block| block.number).ok()?;
            self.far.get(at)
        })
    }

    #[inline]
    fn block_mut(&mut self, number: u16) -> Option<&mut Block> {
        if let Some(near) = self.near.iter_mut().find(|block| block.is(number)) {
            return Some(near);
        }
        let at = self.far.binary_search_by_key(&number, |block| block.number).ok()?;
        self.far.get_mut(at)
    }
}

/// Identifiers in one block.
const WIDTH: u16 = 128;
/// Blocks that hold all 65,536 numbers; 0 is no identifier, its bit is never set.
const BLOCKS: u16 = 512;

/// The bits of 128 consecutive identifiers.
#[derive(Clone, Copy, Debug, Default)]
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
        self.bits[usize::from(bit / 64 % 2)] & mask(bit) != 0
    }

    #[inline]
    fn set(&mut self, bit: u16) -> bool {
        let was_absent = !self.contains(bit);
        self.bits[usize::from(bit / 64 % 2)] |= mask(bit);
        self.used += u16::from(was_absent);
        was_absent
    }

    #[inline]
    fn clear(&mut self, bit: u16) -> bool {
        let was_present = self.contains(bit);
        self.bits[usize::from(bit / 64 % 2)] &= !mask(bit);
        self.used -= u16::from(was_present);
        was_present
    }

    fn first_absent(&self, from: u16) -> Option<u16> {
        let mut skip = !(mask(from) - 1);
        for word in from / 64..2 {
            let absent = !self.bits[usize::from(word)] & skip;
            if absent != 0 {
                return u16::try_from(absent.trailing_zeros()).ok().map(|bit| word * 64 + bit);
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

/// The members in rising order.
#[cfg(feature = "serde")]
impl serde::Serialize for IdSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;

        let mut list = serializer.serialize_seq(Some(usize::from(self.len)))?;
        self.iter().try_for_each(|id| list.serialize_element(&id))?;
        list.end()
    }
}

/// Refuses a member that comes twice, so a hostile list is no longer than the set.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for IdSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> serde::de::Visitor<'de> for ListVisitor {
            type Value = IdSet;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("packet identifiers, each once")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<IdSet, A::Error> {
                let mut set = IdSet::new(0);
                while let Some(id) = list.next_element::<PacketId>()? {
                    if !set.insert(id) {
                        return Err(serde::de::Error::custom("a packet identifier comes twice"));
                    }
                }
                Ok(set)
            }
        }

        deserializer.deserialize_seq(ListVisitor)
    }
}

const _: () = assert!(size_of::<IdSet>() <= 80, "each session pays for two, used or not");
