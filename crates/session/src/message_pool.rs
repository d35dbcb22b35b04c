//! Memory of messages, used again.

use alloc::{sync::Arc, vec::Vec};
use core::{iter::repeat_n, mem::size_of};

/// Memory of small messages that are gone, kept for those that come: most messages live for a moment.
///
/// At most 1 MiB is kept, and nothing of messages larger than half a KiB.
///
/// ```
/// use damselfly_codec::{Delivery, Properties, Publish};
/// use damselfly_session::{Message, MessagePool, Timestamp};
/// use damselfly_topic::TopicName;
///
/// let topic = TopicName::new("pond/7/depth")?;
/// let publish = |payload| {
///     let (delivery, properties) = (Delivery::AtMostOnce, Properties::EMPTY);
///     Publish { delivery, retain: false, topic: Some(topic), properties, payload }
/// };
/// let mut pool = MessagePool::default();
/// Message::new_in(&mut pool, &publish(b"1.2"), topic, Timestamp::ZERO).give_back(&mut pool);
/// assert!(pool.heap_bytes() > 0);
/// let again = Message::new_in(&mut pool, &publish(b"1.23"), topic, Timestamp::ZERO);
/// assert_eq!((again.payload(), pool.spare_bytes()), (&b"1.23"[..], 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct MessagePool {
    spare: [Vec<Arc<[u8]>>; CLASSES],
    bytes: usize,
}

/// What an `Arc` keeps in front of its value.
pub(crate) const COUNTS: usize = 2 * size_of::<usize>();

/// Lengths of records that are kept: 24, 40, and so on. With its counts and what allocators put in front, a record of
/// such a length fills its place.
const CLASSES: usize = 32;
const CLASS_LEN: usize = 16;
const FIRST_CLASS: usize = 24;
/// Bytes of records that are kept.
const SPARE_BYTES: usize = 1024 * 1024;

/// Memory for a record, and how many bytes at its end will not be used.
pub(crate) struct Spare {
    pub(crate) record: Arc<[u8]>,
    pub(crate) pad: u8,
}

impl MessagePool {
    /// Memory for a record of `len` bytes; `None` if such records are not kept here.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<Spare> {
        let class = len.saturating_sub(FIRST_CLASS).div_ceil(CLASS_LEN);
        let spare = self.spare.get_mut(class)?;
        let whole = FIRST_CLASS + class * CLASS_LEN;
        let pad = u8::try_from(whole - len).ok()?;
        let record = match spare.pop() {
            Some(record) => {
                self.bytes -= whole;
                record
            }
            None => repeat_n(0, whole).collect::<Arc<[u8]>>(),
        };
        Some(Spare { record, pad })
    }

    /// Keeps the memory of a record, unless somebody else holds it or a limit says no.
    #[inline]
    pub(crate) fn give(&mut self, record: Arc<[u8]>) {
        let len = record.len();
        let Some(above) = len.checked_sub(FIRST_CLASS) else { return };
        let fits = above % CLASS_LEN == 0 && self.bytes + len <= SPARE_BYTES;
        match self.spare.get_mut(above / CLASS_LEN) {
            Some(spare) if fits && Arc::strong_count(&record) == 1 => {
                self.bytes += len;
                spare.push(record);
            }
            _ => {}
        }
    }

    /// Bytes of records kept.
    pub const fn spare_bytes(&self) -> usize {
        self.bytes
    }

    /// Heap memory held, in bytes.
    pub fn heap_bytes(&self) -> usize {
        let lists = self.spare.iter().map(|spare| spare.capacity() * size_of::<Arc<[u8]>>() + spare.len() * COUNTS);
        self.bytes + lists.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: usize) -> Arc<[u8]> {
        repeat_n(0, len).collect()
    }

    #[test]
    fn a_record_is_kept_for_one_that_needs_no_more_and_hardly_less() {
        let mut pool = MessagePool::default();
        for (len, whole) in [(0, 24), (24, 24), (25, 40), (520, 520)] {
            let Spare { record, pad } = pool.take(len).expect("a small record");
            assert_eq!((record.len(), usize::from(pad)), (whole, whole - len));
            pool.give(record);
            assert_eq!(pool.spare_bytes(), whole);
            assert!(pool.take(whole).is_some());
            assert_eq!(pool.spare_bytes(), 0, "it was used again");
        }
        assert!(pool.take(521).is_none());
    }

    #[test]
    fn a_record_somebody_holds_and_one_of_another_length_are_not_kept() {
        let mut pool = MessagePool::default();
        let held = record(24);
        pool.give(held.clone());
        for len in [0, 8, 23, 25, 536] {
            pool.give(record(len));
        }
        assert_eq!(pool.spare_bytes(), 0);
        drop(held);
    }

    #[test]
    fn no_more_than_a_mebibyte_is_kept() {
        let mut pool = MessagePool::default();
        for _ in 0..=SPARE_BYTES / 520 {
            pool.give(record(520));
        }
        let most = SPARE_BYTES / 520 * 520;
        assert_eq!(pool.spare_bytes(), most);
        pool.give(record(24));
        assert_eq!(pool.spare_bytes(), most + 24, "there was room for a small one");
    }
}
