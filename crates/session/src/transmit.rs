//! Bytes on their way out of one Network Connection.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::mem::size_of;

use bytes::{Buf, Bytes};

/// What a connection still has to write: small frames copied together, large payloads shared by reference, in order.
///
/// An idle connection owns no buffer: the memory comes from a [`BufferPool`] with the first byte and goes back with the
/// last one, so a connection that is written to every now and then allocates nothing either. A partial write moves an
/// offset; what was written is cut off only when it is most of the buffer, so each byte is moved at most once.
///
/// ```
/// use bytes::Bytes;
/// use damselfly_session::{BufferPool, TransmitBuffer};
///
/// let mut pool = BufferPool::default();
/// let mut out = TransmitBuffer::new();
/// out.tail(&mut pool).extend_from_slice(b"head");
/// out.push_shared(Bytes::from_static(b"large payload"), &mut pool);
/// out.tail(&mut pool).extend_from_slice(b"next");
///
/// let mut chunks = [&[][..]; 4];
/// let count = out.chunks(&mut chunks);
/// assert_eq!(chunks[..count], [&b"head"[..], b"large payload", b"next"]);
///
/// out.advance(10, &mut pool);
/// let mut chunks = [&[][..]; 4];
/// assert_eq!(out.chunks(&mut chunks), 2);
/// assert_eq!(chunks[0], b"payload");
/// out.advance(11, &mut pool);
/// assert!(out.is_empty());
/// assert_eq!(out.heap_bytes(), 0);
/// ```
#[derive(Debug, Default)]
pub struct TransmitBuffer {
    /// All that is copied; the first `head` bytes of it are written already.
    copied: Vec<u8>,
    head: usize,
    shared: Option<Box<Shared>>,
}

/// Payloads to be written between two bytes of `copied`.
#[derive(Debug, Default)]
struct Shared {
    payloads: VecDeque<Payload>,
    /// Bytes left in `payloads`.
    len: usize,
    /// What was cut off the front of `copied`, so that `Payload::after` need not be changed. It may wrap.
    cut: usize,
}

#[derive(Debug)]
struct Payload {
    /// How many copied bytes come before it, those cut off included.
    after: usize,
    bytes: Bytes,
}

/// From this much written and waiting to be cut off it may pay to move the rest.
const COMPACT_FROM: usize = 4_096;

impl TransmitBuffer {
    /// Nothing to write, no memory.
    pub const fn new() -> Self {
        Self { copied: Vec::new(), head: 0, shared: None }
    }

    /// Where to append frames. Only append: bytes in front may be on their way already.
    #[inline]
    pub fn tail(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.copied.capacity() == 0 {
            self.copied = pool.take();
        }
        &mut self.copied
    }

    /// Appends bytes by reference: for payloads of several KiB, where the copy costs more than one chunk more.
    pub fn push_shared(&mut self, bytes: Bytes, pool: &mut BufferPool) {
        if bytes.is_empty() {
            return;
        }
        let shared = self.shared.get_or_insert_with(|| pool.take_shared());
        shared.len += bytes.len();
        shared.payloads.push_back(Payload { after: self.copied.len().wrapping_add(shared.cut), bytes });
    }

    /// Fills `out` with what comes next, in order, and tells how many slices that is. Nothing is consumed.
    #[inline]
    pub fn chunks<'a>(&'a self, out: &mut [&'a [u8]]) -> usize {
        if self.shared.is_none() {
            let rest = self.copied.get(self.head..).unwrap_or_default();
            return match out.first_mut() {
                Some(place) if !rest.is_empty() => {
                    *place = rest;
                    1
                }
                _ => 0,
            };
        }
        self.chunks_in_parts(out)
    }

    /// The same with shared payloads.
    #[inline(never)]
    fn chunks_in_parts<'a>(&'a self, out: &mut [&'a [u8]]) -> usize {
        let mut places = out.iter_mut();
        let mut filled = 0;
        let mut push = |chunk: &'a [u8]| {
            if chunk.is_empty() {
                return true;
            }
            let Some(place) = places.next() else { return false };
            *place = chunk;
            filled += 1;
            true
        };
        let mut from = self.head;
        for payload in self.shared.iter().flat_map(|shared| &shared.payloads) {
            let to = self.position_of(payload);
            if !push(self.copied.get(from..to).unwrap_or_default()) || !push(&payload.bytes) {
                return filled;
            }
            from = to;
        }
        push(self.copied.get(from..).unwrap_or_default());
        filled
    }

    /// Takes `n` bytes off the front: they are written. More than there are empties the buffer.
    #[inline]
    pub fn advance(&mut self, n: usize, pool: &mut BufferPool) {
        if self.shared.is_some() {
            return self.advance_in_parts(n, pool);
        }
        self.head = self.head.saturating_add(n);
        if self.head < self.copied.len() {
            return self.compact();
        }
        self.head = 0;
        pool.give(core::mem::take(&mut self.copied));
    }

    /// The same with shared payloads.
    #[inline(never)]
    fn advance_in_parts(&mut self, n: usize, pool: &mut BufferPool) {
        self.advance_over_shared(n);
        if self.head >= self.copied.len() && self.shared.as_ref().is_none_or(|shared| shared.payloads.is_empty()) {
            self.clear(pool);
        } else {
            self.compact();
        }
    }

    /// Bytes to be written.
    #[inline]
    pub fn len(&self) -> usize {
        self.copied.len() - self.head + self.shared.as_ref().map_or(0, |shared| shared.len)
    }

    /// Is there nothing to be written?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops what is not written and gives the memory back to the pool.
    pub fn clear(&mut self, pool: &mut BufferPool) {
        self.head = 0;
        pool.give(core::mem::take(&mut self.copied));
        if let Some(shared) = self.shared.take() {
            pool.give_shared(shared);
        }
    }

    /// Heap memory held, in bytes; a shared payload counts with its length here and wherever else it is held.
    pub fn heap_bytes(&self) -> usize {
        self.copied.capacity() + self.shared.as_ref().map_or(0, |shared| shared.heap_bytes() + shared.len)
    }

    fn position_of(&self, payload: &Payload) -> usize {
        payload.after.wrapping_sub(self.shared.as_ref().map_or(0, |shared| shared.cut))
    }

    fn advance_over_shared(&mut self, mut n: usize) {
        let Some(shared) = self.shared.as_mut() else { return };
        while let Some(payload) = shared.payloads.front_mut() {
            let copied_before = payload.after.wrapping_sub(shared.cut) - self.head;
            let step = n.min(copied_before);
            self.head += step;
            n -= step;
            let step = n.min(payload.bytes.len());
            payload.bytes.advance(step);
            shared.len -= step;
            n -= step;
            if !payload.bytes.is_empty() {
                return;
            }
            shared.payloads.pop_front();
        }
        self.head = self.head.saturating_add(n);
    }

    /// Cuts off what is written if that is at least as much as what would be moved.
    fn compact(&mut self) {
        if self.head < COMPACT_FROM || self.head < self.copied.len() / 2 {
            return;
        }
        self.copied.drain(..self.head);
        if let Some(shared) = &mut self.shared {
            shared.cut = shared.cut.wrapping_add(self.head);
        }
        self.head = 0;
    }
}

impl Shared {
    fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.payloads.capacity() * size_of::<Payload>()
    }
}

const _: () = assert!(size_of::<TransmitBuffer>() <= 40, "each idle connection pays for it");

/// How much memory a [`BufferPool`] may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct BufferPoolLimits {
    /// Buffers kept. Default 1,024.
    pub buffers: usize,
    /// Largest buffer kept, in bytes: one that grew beyond it is freed. Default 256 KiB.
    pub buffer_bytes: usize,
    /// All buffers kept, in bytes. Default 16 MiB.
    pub total_bytes: usize,
}

impl Default for BufferPoolLimits {
    fn default() -> Self {
        Self { buffers: 1_024, buffer_bytes: 256 * 1_024, total_bytes: 16 * 1_024 * 1_024 }
    }
}

/// Buffers that no connection needs at the moment, kept within limits so that the next one allocates nothing.
#[derive(Debug, Default)]
pub struct BufferPool {
    limits: BufferPoolLimits,
    buffers: Vec<Vec<u8>>,
    buffer_bytes: usize,
    #[expect(clippy::vec_box, reason = "the box is part of what is used again")]
    shared: Vec<Box<Shared>>,
}

/// What a buffer starts with when the pool has none: a few small frames.
const FIRST_CAPACITY: usize = 512;
/// Payload lists kept, and places in each: a fan-out of large messages in one turn.
const SHARED_KEPT: usize = 64;

impl BufferPool {
    /// An empty pool.
    pub const fn new(limits: BufferPoolLimits) -> Self {
        Self { limits, buffers: Vec::new(), buffer_bytes: 0, shared: Vec::new() }
    }

    /// An empty buffer with some capacity.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        match self.buffers.pop() {
            Some(buffer) => {
                self.buffer_bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(FIRST_CAPACITY),
        }
    }

    /// Keeps the memory of a buffer, or frees it if a limit says so.
    #[inline]
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let fits = capacity <= self.limits.buffer_bytes
            && self.buffers.len() < self.limits.buffers
            && capacity <= self.limits.total_bytes.saturating_sub(self.buffer_bytes);
        if capacity > 0 && fits {
            buffer.clear();
            self.buffer_bytes += capacity;
            self.buffers.push(buffer);
        }
    }

    /// Buffers kept at the moment.
    pub fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Is none kept?
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Frees all that is kept.
    pub fn shrink(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Heap memory held, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.buffer_bytes
            + self.buffers.capacity() * size_of::<Vec<u8>>()
            + self.shared.capacity() * size_of::<Box<Shared>>()
            + self.shared.iter().map(|shared| shared.heap_bytes()).sum::<usize>()
    }

    #[expect(clippy::unnecessary_box_returns, reason = "the box is part of what is used again")]
    fn take_shared(&mut self) -> Box<Shared> {
        self.shared.pop().unwrap_or_default()
    }

    fn give_shared(&mut self, mut shared: Box<Shared>) {
        if self.shared.len() < SHARED_KEPT && shared.payloads.capacity() <= SHARED_KEPT {
            shared.payloads.clear();
            shared.len = 0;
            self.shared.push(shared);
        }
    }
}
