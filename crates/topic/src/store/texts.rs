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
const HEAD: usize = 6;
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
        // One less, so that some numbers are never places.
        if self.chunks.len() >= (1 << (32 - CHUNK_BITS)) - 1 {
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
