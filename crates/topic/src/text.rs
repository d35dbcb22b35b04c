//! UTF-8 Encoded Strings: the check that every text of MQTT passes. (1.5.4; 1.5.3 in MQTT 3.1.1)
//!
//! One pass over the bytes, eight at a time, looks for everything that makes a text unusual: bytes beyond ASCII, U+0000
//! and, for topics, the two wildcards. A text without any of them is done; the others are looked at closely. A byte order
//! mark is an ordinary character, kept as it is. [MQTT-1.5.4-3]

use crate::TopicError;
use crate::num::{load_u32, load_u64, to_usize};

/// The most bytes that a UTF-8 Encoded String can hold: its length travels in two bytes.
pub const MAX_LEN: usize = 65_535;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Checks that bytes are a UTF-8 Encoded String: well-formed UTF-8 without U+0000, at most 65,535 bytes. May be empty.
///
/// For a text that is kept as bytes. [`to_str`] gives the text too and costs a second look at each byte.
///
/// ```
/// use damselfly_topic::{TopicError, text};
///
/// assert_eq!(text::check("Grüße".as_bytes()), Ok(()));
/// assert_eq!(text::check(b"a\0b"), Err(TopicError::NullCharacter));
/// assert_eq!(text::check(b"\xed\xa0\x80"), Err(TopicError::NotUtf8));
/// ```
///
/// # Errors
///
/// [`TopicError::NotUtf8`] [MQTT-1.5.4-1], [`TopicError::NullCharacter`] [MQTT-1.5.4-2], [`TopicError::TooLong`].
#[inline]
pub fn check(bytes: &[u8]) -> Result<(), TopicError> {
    if bytes.len() > MAX_LEN {
        return Err(TopicError::TooLong);
    }
    if is_plain::<false>(bytes) {
        return Ok(());
    }
    check_unusual(bytes)
}

/// Checks that bytes are a UTF-8 Encoded String, and returns its text.
///
/// # Errors
///
/// As [`check`].
#[inline]
pub fn to_str(bytes: &[u8]) -> Result<&str, TopicError> {
    if bytes.len() > MAX_LEN {
        return Err(TopicError::TooLong);
    }
    let text = core::str::from_utf8(bytes).map_err(|_| TopicError::NotUtf8)?;
    if is_plain::<false>(bytes) || !bytes.contains(&0) {
        return Ok(text);
    }
    Err(TopicError::NullCharacter)
}

/// The close look of [`check`], from the first byte that is not ASCII.
#[cold]
#[inline(never)]
pub(crate) fn check_unusual(bytes: &[u8]) -> Result<(), TopicError> {
    let first = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(bytes.len());
    let (_, rest) = bytes.split_at(first);
    if core::str::from_utf8(rest).is_err() {
        return Err(TopicError::NotUtf8);
    }
    if bytes.contains(&0) { Err(TopicError::NullCharacter) } else { Ok(()) }
}

/// The text of bytes that were checked before; the longest well-formed part should the caller be wrong.
#[inline]
pub(crate) const fn checked(bytes: &[u8]) -> &str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => match core::str::from_utf8(bytes.split_at(error.valid_up_to()).0) {
            Ok(text) => text,
            Err(_) => "",
        },
    }
}

/// The number of bytes at the front in which two texts agree.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let shorter = a.len().min(b.len());
    let mut at = 0;
    while at + 8 <= shorter {
        let difference = load_u64(a, at) ^ load_u64(b, at);
        if difference != 0 {
            return at + to_usize(difference.trailing_zeros() / 8);
        }
        at += 8;
    }
    while at < shorter && a.get(at) == b.get(at) {
        at += 1;
    }
    at
}

/// Whether all bytes are ASCII, none is zero and, if `WILDCARDS`, none is '+' or '#'.
#[inline]
pub(crate) fn is_plain<const WILDCARDS: bool>(bytes: &[u8]) -> bool {
    let len = bytes.len();
    if len < 8 {
        return unusual::<WILDCARDS>(short_word(bytes)) == 0;
    }
    let mut found = unusual::<WILDCARDS>(load_u64(bytes, len - 8));
    for chunk in bytes.chunks_exact(8) {
        found |= unusual::<WILDCARDS>(load_u64(chunk, 0));
    }
    found == 0
}

/// Fewer than eight bytes as a word, the first in the lowest bits, filled up with ordinary characters.
#[inline]
pub(crate) fn padded_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(ONES << 4, |word, &byte| (word << 8) | u64::from(byte))
}

/// The highest bit of each byte that is '+' or '#'.
#[inline]
pub(crate) const fn wildcards(word: u64) -> u64 {
    let zero_where_found = (word | (ONES * 0x08)) ^ (ONES * 0x2b);
    // No carry leaves a byte, so that every bit is right.
    !(((zero_where_found & !HIGH) + !HIGH) | zero_where_found) & HIGH
}

/// Fewer than eight bytes as a word, in any order, some of them twice; filled up with ordinary characters.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if len >= 4 {
        return u64::from(load_u32(bytes, 0)) | (u64::from(load_u32(bytes, len - 4)) << 32);
    }
    let mut word = ONES << 4;
    for &byte in bytes {
        word = (word << 8) | u64::from(byte);
    }
    word
}

/// Not zero if a byte of the word is beyond ASCII, zero or, if `WILDCARDS`, a wildcard.
///
/// For an ASCII byte, `byte - 1` has its highest bit set only if the byte is zero (or the byte below was and borrowed, which
/// is a find just the same). '+' and '#' differ in one bit, so that one comparison finds both.
#[inline]
pub(crate) const fn unusual<const WILDCARDS: bool>(word: u64) -> u64 {
    let mut found = word | word.wrapping_sub(ONES);
    if WILDCARDS {
        let wildcard = (word | (ONES * 0x08)) ^ (ONES * 0x2b);
        found |= wildcard.wrapping_sub(ONES);
    }
    found & HIGH
}
