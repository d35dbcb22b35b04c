//! The keyed hasher of all tables whose keys a peer chooses.

use core::hash::{BuildHasher, Hasher};

use crate::num::{fold, load_u32, load_u64};

/// A fast keyed hash for tables in memory: a [`BuildHasher`] made from a seed.
///
/// Peers choose the keys of many tables (client identifiers, topics), and who knows the hash function can choose keys that
/// collide. So the seed must be secret and random; the same seed gives the same hashes in every run. Words of eight bytes
/// go through a 64 by 64 bit multiplication whose halves are folded together. It is **not** a cryptographic function: do
/// not show hashes to peers, and do not use them as signatures or in files.
///
/// ```
/// use core::hash::BuildHasher;
/// use damselfly_topic::KeyedState;
///
/// let state = KeyedState::new(7);
/// assert_eq!(state.hash_one("home/kitchen"), state.hash_one("home/kitchen"));
/// assert_ne!(state.hash_one("home/kitchen"), KeyedState::new(8).hash_one("home/kitchen"));
/// ```
#[derive(Clone)]
pub struct KeyedState {
    start: u64,
    key: u64,
    last: u64,
}

impl KeyedState {
    /// Derives the keys from a seed.
    pub const fn new(seed: u64) -> Self {
        let start = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let key = mix(start.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let last = mix(key.wrapping_add(0x9e37_79b9_7f4a_7c15));
        // An odd multiplier loses nothing of the lower half.
        Self { start, key: key | 1, last: last | 1 }
    }

    /// Hashes one run of bytes. Not the same value as hashing a `str` or slice through [`BuildHasher`].
    #[inline]
    pub fn hash_bytes(&self, bytes: &[u8]) -> u64 {
        fold(absorb(self.start, self.key, bytes), self.last)
    }

    /// Hashes one word. Not the same value as hashing a `u64` through [`BuildHasher`].
    #[inline]
    pub const fn hash_word(&self, word: u64) -> u64 {
        fold(fold(self.start ^ word, self.key), self.last)
    }

    /// Hashes two words, one of which is small.
    #[inline]
    pub(crate) const fn hash_pair(&self, word: u64, small: u64) -> u64 {
        fold(self.start ^ word, self.key ^ small)
    }

    /// Two runs of sixteen bytes with the same hash. Only who knows the seed can find them.
    #[cfg(test)]
    pub(crate) fn twins(&self) -> [[u8; 16]; 2] {
        // Whatever is multiplied by a first half that takes the state back to zero.
        let low = self.start.wrapping_add(16).rotate_left(29).to_le_bytes();
        [0x61, 0x62].map(|last| core::array::from_fn(|at| low.get(at).copied().unwrap_or(last)))
    }
}

/// Shows no key.
impl core::fmt::Debug for KeyedState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeyedState").finish_non_exhaustive()
    }
}

impl BuildHasher for KeyedState {
    type Hasher = KeyedHasher;

    #[inline]
    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { state: self.start, key: self.key, last: self.last }
    }
}

/// The [`Hasher`] of [`KeyedState`].
#[derive(Clone)]
pub struct KeyedHasher {
    state: u64,
    key: u64,
    last: u64,
}

impl KeyedHasher {
    #[inline]
    fn word(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key);
    }
}

/// Shows neither key nor state.
impl core::fmt::Debug for KeyedHasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeyedHasher").finish_non_exhaustive()
    }
}

impl Hasher for KeyedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.state = absorb(self.state, self.key, bytes);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.word(u64::try_from(value).unwrap_or(u64::MAX));
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.state, self.last)
    }
}

/// Takes in a run of bytes and its length, so that neither zeros at the end nor another cut gives the same state.
#[inline]
fn absorb(state: u64, key: u64, bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let mut state = state.wrapping_add(u64::try_from(len).unwrap_or(u64::MAX)).rotate_left(29);
    if len > 16 {
        for chunk in bytes.chunks_exact(16) {
            state = fold(load_u64(chunk, 0) ^ state, load_u64(chunk, 8) ^ key);
        }
        return fold(load_u64(bytes, len - 16) ^ state, load_u64(bytes, len - 8) ^ key);
    }
    let (low, high) = if len >= 8 {
        (load_u64(bytes, 0), load_u64(bytes, len - 8))
    } else if len >= 4 {
        (u64::from(load_u32(bytes, 0)), u64::from(load_u32(bytes, len - 4)))
    } else {
        (bytes.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte)), 0)
    };
    fold(low ^ state, high ^ key)
}

/// Spreads a seed over all bits.
const fn mix(seed: u64) -> u64 {
    let a = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}
