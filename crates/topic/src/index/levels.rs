//! The levels of a text as the trie compares them.

use crate::KeyedState;
use crate::num::{load_u64, to_u32, to_usize};

/// A level: up to eight bytes as they are, a longer one by its hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    /// The bytes, the first in the lowest bits and zeros behind the last; or the hash. No topic contains U+0000, so the
    /// length need not be told.
    pub(crate) key: u64,
    start: u32,
    len: u32,
}

/// The most bytes that a key holds as they are.
const SHORT: u32 = 8;

impl Level {
    #[inline]
    pub(crate) fn is_short(self) -> bool {
        self.len <= SHORT
    }

    /// The bytes of the level, given the text it was cut from.
    #[inline]
    pub(crate) fn text(self, text: &[u8]) -> &[u8] {
        let start = to_usize(self.start);
        text.get(start..start + to_usize(self.len)).unwrap_or_default()
    }
}

/// Cuts a text into levels.
#[derive(Clone, Debug)]
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
        let rest = self.text.get(self.next..)?;
        let is_near_end = rest.len() < 8;
        let word = if is_near_end { last_word(self.text, rest) } else { load_u64(rest, 0) };
        let found = separators(word);
        if found == 0 && !is_near_end {
            return Some(self.next_long(rest, hash));
        }
        // All bits below the first separator, or all.
        let below = ((found & found.wrapping_neg()) >> 7).wrapping_sub(1);
        let len = if found == 0 { to_u32(rest.len()) } else { found.trailing_zeros() / 8 };
        let level = Level { key: word & below, start: to_u32(self.next), len };
        self.next += to_usize(len) + 1;
        Some(level)
    }

    /// A level of eight bytes and more.
    #[cold]
    #[inline(never)]
    fn next_long(&mut self, rest: &[u8], hash: &KeyedState) -> Level {
        let len = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        let key = if len <= to_usize(SHORT) {
            load_u64(rest, 0)
        } else {
            hash.hash_bytes(rest.get(..len).unwrap_or_default())
        };
        let level = Level { key, start: to_u32(self.next), len: to_u32(len) };
        self.next += len + 1;
        level
    }
}

/// The last bytes of a text, fewer than eight, as a word.
#[inline]
fn last_word(text: &[u8], rest: &[u8]) -> u64 {
    match rest.len() {
        0 => 0,
        left if text.len() >= 8 => load_u64(text, text.len() - 8) >> (8 * (8 - left)),
        _ => rest.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte)),
    }
}

/// The highest bit of each byte that is '/'; of bytes behind the first it may be set without reason.
#[inline]
const fn separators(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero_where_found = word ^ (ONES * 0x2f);
    zero_where_found.wrapping_sub(ONES) & !zero_where_found & (ONES << 7)
}
