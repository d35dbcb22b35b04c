//! The levels of a text as the trie compares them.

use crate::KeyedState;
use crate::num::load_u64;

/// A level: up to seven bytes as they are, a longer one by its hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    /// The bytes, the first in the lowest bits, and their number in the highest byte; or the hash.
    pub(crate) key: u64,
    start: u16,
    len: u16,
}

/// The most bytes that a key holds as they are.
pub(crate) const SHORT: usize = 7;

impl Level {
    #[inline]
    pub(crate) fn is_short(self) -> bool {
        usize::from(self.len) <= SHORT
    }

    /// The bytes of the level, given the text it was cut from.
    #[inline]
    pub(crate) fn text(self, text: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        text.get(start..start + usize::from(self.len)).unwrap_or_default()
    }
}

/// Cuts a text of at most 65,535 bytes into levels.
pub(crate) struct Cut<'a> {
    text: &'a [u8],
    next: usize,
}

impl<'a> Cut<'a> {
    #[inline]
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, next: 0 }
    }

    /// Whether a level is left.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.next <= self.text.len()
    }

    #[inline]
    pub(crate) fn next(&mut self, hash: &KeyedState) -> Option<Level> {
        if !self.has_more() {
            return None;
        }
        let start = self.next;
        let word = word_at(self.text, start);
        let left = self.text.len() - start;
        let mut len = first_separator(word).min(left);
        if len == 8 {
            let rest = self.text.get(start + 8..).unwrap_or_default();
            len = 8 + rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        }
        self.next = start + len + 1;
        let key = if len <= SHORT {
            short_key(word, len)
        } else {
            hash.hash_bytes(self.text.get(start..start + len).unwrap_or_default())
        };
        Some(Level { key, start: u16::try_from(start).ok()?, len: u16::try_from(len).ok()? })
    }
}

/// The lowest `len` bytes of a word and their number, at most [`SHORT`].
#[inline]
fn short_key(word: u64, len: usize) -> u64 {
    let len = u64::try_from(len).unwrap_or(0);
    (word & ((1 << (len * 8)) - 1)) | (len << 56)
}

/// The eight bytes from `start` on, zeros where the text has ended.
#[inline]
fn word_at(text: &[u8], start: usize) -> u64 {
    let left = text.len() - start;
    if left >= 8 {
        return load_u64(text, start);
    }
    if left == 0 {
        return 0;
    }
    if text.len() >= 8 {
        return load_u64(text, text.len() - 8) >> (8 * (8 - left));
    }
    text.get(start..).unwrap_or_default().iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte))
}

/// The number of bytes before the first '/', eight if there is none.
#[inline]
fn first_separator(word: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero_where_found = word ^ (ONES * 0x2f);
    // Bits above the first find may be wrong; nobody looks at them.
    let found = zero_where_found.wrapping_sub(ONES) & !zero_where_found & (ONES << 7);
    usize::try_from(found.trailing_zeros() / 8).unwrap_or(8)
}
