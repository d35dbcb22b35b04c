//! The few conversions between integers that cannot fail but that the language calls casts.

/// A length or position that fits because the caller has bounded it; saturates otherwise.
#[inline]
pub(crate) fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Widens an index.
#[inline]
#[expect(clippy::as_conversions, reason = "u32 fits usize on every target with enough memory for an index")]
pub(crate) const fn to_usize(value: u32) -> usize {
    value as usize
}

/// Both halves of a 64 by 64 bit product, folded into one word.
#[inline]
#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "takes the two halves apart")]
pub(crate) const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The upper half of a word.
#[inline]
#[expect(clippy::as_conversions, reason = "takes the upper half")]
pub(crate) const fn upper(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The eight bytes at `at`, the first in the lowest bits; the caller keeps `at + 8` within the text.
#[inline]
pub(crate) fn load_u64(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => 0,
    }
}

/// The four bytes at `at`, the first in the lowest bits; the caller keeps `at + 4` within the text.
#[inline]
pub(crate) fn load_u32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(chunk) => u32::from_le_bytes(*chunk),
        None => 0,
    }
}
