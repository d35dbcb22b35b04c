//! Memory from one static array, given out once.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Enough for what `main` does, which gives nothing back.
const SIZE: usize = 1 << 20;

/// A bump allocator.
pub(crate) struct Heap {
    memory: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

// SAFETY: each byte of `memory` is given out once at most, because `used` only grows.
unsafe impl Sync for Heap {}

impl Heap {
    pub(crate) const fn new() -> Self {
        Self { memory: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }

    /// Bytes given out since the start.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

// SAFETY: the memory given out is aligned, inside of the array, not given out again, and never freed.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.memory.get().cast::<u8>();
        let place = |used: usize| {
            let padding = (start as usize + used).wrapping_neg() % layout.align();
            let end = used.checked_add(padding)?.checked_add(layout.size())?;
            (end <= SIZE).then_some((used + padding, end))
        };
        let reserve = |used| place(used).map(|(_, end)| end);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve) {
            // SAFETY: `place` said yes to `used`, so its offset is inside of the array.
            Ok(used) => place(used).map_or(ptr::null_mut(), |(offset, _)| unsafe { start.add(offset) }),
            Err(_) => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
