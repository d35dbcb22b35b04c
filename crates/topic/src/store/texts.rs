//! Texts packed into chunks.

use alloc::vec::Vec;

use super::heap_bytes;
use crate::num::{to_u32, to_usize};

/// Many short texts in few allocations, each with the id of its owner.
///
/// A text is appended to the open chunk, behind its owner and its length (six bytes), and found by its place. A removed
/// text leaves a gap. Once the gaps outweigh the texts, a few steps at each removal move what is left in the emptiest chunk
/// to the open one, and the chunk is given back: memory follows the texts, and no single call pays for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    chunks: Vec<Chunk>,
    /// Chunks without memory, to be opened again.
    unused: Vec<u32>,
    open: u32,
    /// Bytes of texts and of gaps, heads included.
    live: usize,
    dead: usize,
    /// The chunk that is being cleared, and how far.
    clearing: Option<(u32, usize)>,
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    live: usize,
}

/// Holds the longest text twice, so that an open chunk never wastes more than half.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 17;
/// One less than places have numbers for: some numbers are never places. Few in unit tests, which fill them.
const MAX_CHUNKS: usize = if cfg!(test) { 3 } else { (1 << (32 - CHUNK_BITS)) - 1 };
const HEAD: usize = 6;
const _: () = assert!((MAX_CHUNKS << CHUNK_BITS) < to_usize(super::NONE), "the two highest numbers are no places");
/// The owner of a gap.
const NOBODY: u32 = u32::MAX;
/// Gaps of this size are not worth moving anything.
const SLACK: usize = 4_096;
/// Texts looked at in one step of clearing.
const STEP: usize = 16;

impl Texts {
    /// Keeps a text of at most 65,535 bytes; `None` if all places are taken (4 GiB).
    pub(crate) fn insert(&mut self, owner: u32, text: &[u8]) -> Option<u32> {
        let len = u16::try_from(text.len()).ok()?;
        let size = HEAD + text.len();
        if self.chunks.get(to_usize(self.open)).is_none_or(|chunk| chunk.bytes.len() + size > CHUNK) {
            self.open = self.open_chunk()?;
        }
        let chunk = self.chunks.get_mut(to_usize(self.open))?;
        let at = chunk.bytes.len();
        if chunk.bytes.capacity() - at < size {
            chunk.bytes.reserve_exact((at / 2).max(size).max(128).min(CHUNK - at));
        }
        chunk.bytes.extend_from_slice(&owner.to_le_bytes());
        chunk.bytes.extend_from_slice(&len.to_le_bytes());
        chunk.bytes.extend_from_slice(text);
        chunk.live += size;
        self.live += size;
        Some((self.open << CHUNK_BITS) | to_u32(at))
    }

    fn open_chunk(&mut self) -> Option<u32> {
        if let Some(id) = self.unused.pop() {
            return Some(id);
        }
        if self.chunks.len() >= MAX_CHUNKS {
            return None;
        }
        self.chunks.push(Chunk::default());
        Some(to_u32(self.chunks.len() - 1))
    }

    /// The text at a place.
    #[inline]
    pub(crate) fn get(&self, place: u32) -> &[u8] {
        self.record(place).map_or(&[], |(_, text)| text)
    }

    #[inline]
    fn record(&self, place: u32) -> Option<(u32, &[u8])> {
        let chunk = self.chunks.get(to_usize(place >> CHUNK_BITS))?;
        let record = chunk.bytes.get(offset(place)..)?;
        let (head, rest) = record.split_first_chunk::<HEAD>()?;
        let [a, b, c, d, len_low, len_high] = *head;
        let text = rest.get(..usize::from(u16::from_le_bytes([len_low, len_high])))?;
        Some((u32::from_le_bytes([a, b, c, d]), text))
    }

    /// Gives a text to another owner.
    pub(crate) fn set_owner(&mut self, place: u32, owner: u32) {
        let chunk = self.chunks.get_mut(to_usize(place >> CHUNK_BITS));
        if let Some(head) = chunk.and_then(|chunk| chunk.bytes.get_mut(offset(place)..)?.first_chunk_mut()) {
            *head = owner.to_le_bytes();
        }
    }

    /// Removes a text. Some others may move: `moved` is told their owners and new places.
    pub(crate) fn remove(&mut self, place: u32, moved: impl FnMut(u32, u32)) {
        self.leave_gap(place);
        if self.live == 0 {
            *self = Self::default();
            return;
        }
        if self.clearing.is_none() && self.dead > self.live + SLACK {
            self.clearing = self.emptiest().map(|chunk| (chunk, 0));
        }
        self.clear_some(moved);
    }

    fn leave_gap(&mut self, place: u32) {
        let size = HEAD + self.get(place).len();
        self.set_owner(place, NOBODY);
        self.live -= size;
        self.dead += size;
        let id = place >> CHUNK_BITS;
        let Some(chunk) = self.chunks.get_mut(to_usize(id)) else { return };
        chunk.live -= size;
        // Nothing to move: the chunk is free, unless a text is about to be appended or it is being cleared anyway.
        if chunk.live == 0 && self.clearing.is_none_or(|(clearing, _)| clearing != id) {
            self.dead -= chunk.bytes.len();
            chunk.bytes.clear();
            if id != self.open {
                chunk.bytes = Vec::new();
                self.unused.push(id);
            }
        }
    }

    fn emptiest(&mut self) -> Option<u32> {
        let gaps = |chunk: &Chunk| chunk.bytes.len() - chunk.live;
        let (id, _) = self.chunks.iter().enumerate().max_by_key(|(_, chunk)| gaps(chunk))?;
        let id = to_u32(id);
        if id == self.open {
            self.open = self.open_chunk()?;
        }
        Some(id)
    }

    fn clear_some(&mut self, mut moved: impl FnMut(u32, u32)) {
        let Some((id, mut at)) = self.clearing else { return };
        // Taken out, so that texts can be appended elsewhere meanwhile.
        let Some(mut chunk) = self.chunks.get_mut(to_usize(id)).map(core::mem::take) else { return };
        for _ in 0..STEP {
            let Some((head, rest)) = chunk.bytes.get_mut(at..).and_then(<[u8]>::split_first_chunk_mut::<HEAD>) else {
                break;
            };
            let [a, b, c, d, len_low, len_high] = *head;
            let len = usize::from(u16::from_le_bytes([len_low, len_high]));
            let owner = u32::from_le_bytes([a, b, c, d]);
            if owner != NOBODY {
                let Some(place) = rest.get(..len).and_then(|text| self.insert(owner, text)) else { break };
                moved(owner, place);
                // A gap from here on; `insert` has counted the text once more.
                *head = [0xff, 0xff, 0xff, 0xff, len_low, len_high];
                chunk.live -= HEAD + len;
                self.live -= HEAD + len;
                self.dead += HEAD + len;
            }
            at += HEAD + len;
        }
        if chunk.live == 0 {
            self.dead -= chunk.bytes.len();
            self.clearing = None;
            self.unused.push(id);
        } else {
            self.clearing = Some((id, at));
            if let Some(place) = self.chunks.get_mut(to_usize(id)) {
                *place = chunk;
            }
        }
    }

    /// The bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| heap_bytes(&chunk.bytes)).sum();
        chunks + heap_bytes(&self.chunks) + heap_bytes(&self.unused)
    }
}

#[inline]
fn offset(place: u32) -> usize {
    to_usize(place) & (CHUNK - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn a_text_that_does_not_fit_is_refused_and_fits_after_others_are_gone() {
        let mut texts = Texts::default();
        let longest = vec![b'x'; 65_535];
        let mut places = Vec::new();
        while let Some(place) = texts.insert(0, &longest) {
            places.push(place);
        }

        assert_eq!(places.len(), MAX_CHUNKS);
        assert_eq!(texts.insert(0, &vec![b'x'; 65_536]), None);
        texts.remove(places[1], |_, _| {});
        let place = texts.insert(7, &longest).unwrap();
        assert_eq!(texts.record(place), Some((7, &longest[..])));
    }

    #[test]
    fn an_unknown_place_holds_no_text() {
        let mut texts = Texts::default();
        assert_eq!(texts.get(0), b"");
        let place = texts.insert(1, b"a").unwrap();
        assert_eq!(texts.get(place + 100), b"");
        assert_eq!(texts.get(u32::MAX), b"");
    }

    const TEXT: [u8; 94] = [b'x'; 94];

    #[test]
    fn a_chunk_grows_by_half_up_to_its_size() {
        let mut texts = Texts::default();
        let mut capacities = Vec::new();
        for count in 1.. {
            texts.insert(0, &TEXT).unwrap();
            if texts.chunks.len() > 1 {
                break;
            }
            let capacity = texts.chunks[0].bytes.capacity();
            assert!(capacity <= (count * 150).clamp(128, CHUNK), "{capacity} for {count}");
            if capacities.last() != Some(&capacity) {
                capacities.push(capacity);
            }
        }
        assert_eq!(capacities.last(), Some(&CHUNK));
        assert!(capacities.len() < 20, "{capacities:?}");
        let held = CHUNK + 128 + heap_bytes(&texts.chunks);
        assert_eq!(texts.heap_bytes(), held, "the next one begins small");
    }

    #[test]
    fn texts_are_moved_when_gaps_outweigh_them_by_4_kib_and_16_at_a_time() {
        let mut texts = Texts::default();
        let mut places: Vec<u32> = (0..200).map(|owner| texts.insert(owner, &TEXT).unwrap()).collect();
        let mut moved = Vec::new();
        // From the back: 121 of 200 texts are 12,100 bytes of gaps beside 7,900 of texts.
        for owner in (75..200).rev() {
            let mut now = 0;
            texts.remove(places[owner], |owner, place| {
                places[to_usize(owner)] = place;
                now += 1;
            });
            moved.push(now);
        }
        assert_eq!(moved[..120], [0; 120]);
        assert_eq!(moved[120..], [16, 16, 16, 16, 11], "and so many are left");
        assert_eq!((texts.live, texts.dead), (75 * 100, 0));
        assert!((0..75).all(|owner| texts.record(places[to_usize(owner)]) == Some((owner, &TEXT[..]))));
    }

    #[test]
    fn a_chunk_is_filled_to_the_last_byte() {
        for (len, chunks) in [(65_525, 1), (65_526, 2)] {
            let mut texts = Texts::default();
            let places = [65_535, len].map(|len| texts.insert(3, &vec![b'x'; len]).unwrap());
            assert_eq!(texts.chunks.len(), chunks, "{len}");
            assert_eq!(places.map(|place| texts.get(place).len()), [65_535, len]);
        }
    }

    #[test]
    fn gaps_that_outweigh_the_texts_by_just_4_kib_stay() {
        for (len, stays) in [(SLACK - HEAD, true), (SLACK + 1 - HEAD, false)] {
            let mut texts = Texts::default();
            let [gap, same, _last] = [len, 94, 94].map(|len| texts.insert(0, &vec![b'x'; len]).unwrap());
            texts.remove(gap, |_, _| panic!("{len}"));
            let mut moved = 0;
            texts.remove(same, |_, _| moved += 1);
            assert_eq!(moved == 0, stays, "{len}");
        }
    }

    /// Two full chunks with gaps; the later one has more of them.
    #[test]
    fn the_chunk_with_the_most_gaps_is_cleared_first() {
        let mut texts = Texts::default();
        let mut places: Vec<u32> = (0..2 * 1_310).map(|owner| texts.insert(owner, &TEXT).unwrap()).collect();
        assert_eq!(texts.chunks.len(), 2);
        let mut moved = Vec::new();
        for owner in (0..400).chain(1_310..2_400) {
            texts.remove(places[owner], |owner, place| {
                places[to_usize(owner)] = place;
                moved.push(owner);
            });
        }
        assert!(!moved.is_empty() && moved.iter().all(|owner| *owner >= 1_310), "{moved:?}");
    }

    /// What is empty goes back at once, be another chunk just being cleared or not; that one only when its end is reached.
    #[test]
    fn an_empty_chunk_gives_its_memory_back_at_once() {
        let mut texts = Texts::default();
        let half = vec![b'x'; CHUNK / 2 - HEAD];
        let full = [0, 1].map(|owner| [0, 1].map(|_| texts.insert(owner, &half).unwrap()));
        let held = |texts: &Texts| texts.chunks.iter().map(|chunk| chunk.bytes.capacity()).collect::<Vec<_>>();
        let all = held(&texts);
        for place in full[0] {
            texts.remove(place, |_, _| {});
        }
        assert_eq!((held(&texts), &texts.unused[..]), (vec![0, all[1]], &[0][..]));
        let [chunks, unused] = [heap_bytes(&texts.chunks), heap_bytes(&texts.unused)];
        assert!(chunks > 0 && unused > 0);
        assert_eq!(texts.heap_bytes(), all[1] + chunks + unused);

        // The open one keeps its memory for what comes next.
        let small = texts.insert(2, b"a").unwrap();
        assert_eq!(small >> CHUNK_BITS, 0);
        let kept = held(&texts);
        texts.remove(small, |_, _| {});
        assert_eq!((held(&texts), texts.chunks[0].bytes.len(), texts.unused.len()), (kept, 0, 0));
    }

    /// Small texts in the first chunk, two large ones in the second: the first is cleared in many steps, while the second
    /// becomes empty with one removal.
    #[test]
    fn chunks_that_become_empty_while_one_is_cleared_are_free_once() {
        let mut texts = Texts::default();
        let mut places: Vec<u32> = (0..1_310).map(|owner| texts.insert(owner, &TEXT).unwrap()).collect();
        let half = vec![b'x'; CHUNK / 2 - HEAD];
        places.extend([1_310, 1_311].map(|owner| texts.insert(owner, &half).unwrap()));
        let mut there = vec![true; places.len()];
        let mut remove = |texts: &mut Texts, find: &dyn Fn(u32) -> bool| {
            let owner = (0..places.len()).rfind(|owner| there[*owner] && find(places[*owner])).unwrap();
            there[owner] = false;
            texts.remove(places[owner], |owner, place| places[to_usize(owner)] = place);
        };
        let is_in = |chunk: u32| move |place: u32| place >> CHUNK_BITS == chunk;

        remove(&mut texts, &is_in(1));
        while texts.clearing.is_none() {
            remove(&mut texts, &is_in(0));
        }
        assert_eq!(texts.clearing.map(|(id, _)| id), Some(0));
        remove(&mut texts, &is_in(1));
        assert_eq!((texts.chunks[1].bytes.capacity(), &texts.unused[..]), (0, &[1][..]));

        // One removal there takes seventeen texts out, one elsewhere sixteen: the last is to be removed itself.
        for _ in 0..(texts.chunks[0].live / 100 - 1) % 16 {
            remove(&mut texts, &is_in(0));
        }
        while texts.chunks[0].live > 100 {
            remove(&mut texts, &is_in(2));
        }
        assert_eq!((texts.chunks[0].live, texts.clearing.is_some()), (100, true));
        remove(&mut texts, &is_in(0));
        assert_eq!((texts.clearing, &texts.unused[..]), (None, &[1, 0][..]));
        assert_eq!(texts.live + texts.dead, texts.chunks[2].bytes.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        /// Long texts, so that chunks fill up, are cleared in steps and are opened again.
        #[test]
        fn texts_outlive_the_clearing_of_their_chunks(
            steps in prop::collection::vec((prop::bool::weighted(0.52), 0..64_u32, 0..3_000_usize), 100..1_500),
        ) {
            let mut texts = Texts::default();
            let mut model: BTreeMap<u32, (u32, usize)> = BTreeMap::new();
            for (insert, owner, len) in steps {
                let byte = u8::try_from(owner).unwrap();
                if let Some((place, len)) = model.remove(&owner) {
                    prop_assert_eq!(texts.record(place), Some((owner, &vec![byte; len][..])));
                    texts.remove(place, |owner, place| model.get_mut(&owner).unwrap().0 = place);
                }
                if insert {
                    let place = texts.insert(owner, &vec![byte; len]).unwrap();
                    model.insert(owner, (place, len));
                }
                let live: usize = model.values().map(|(_, len)| len + HEAD).sum();
                prop_assert_eq!(texts.live, live);
                let used: usize = texts.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
                prop_assert_eq!(texts.live + texts.dead, used);
                prop_assert!(texts.heap_bytes() <= 2 * live + 2 * CHUNK, "{} for {}", texts.heap_bytes(), live);
            }
            for (owner, (place, len)) in model.clone() {
                let place = model.get(&owner).map_or(place, |(place, _)| *place);
                prop_assert_eq!(texts.get(place).len(), len);
                texts.remove(place, |owner, place| model.get_mut(&owner).unwrap().0 = place);
            }
            prop_assert_eq!(texts.heap_bytes(), 0);
        }
    }
}
