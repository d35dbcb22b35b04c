//! Topic Names. (4.7)

use crate::checked::topic_text;
use crate::text;
use crate::{TopicError, TopicNameBuf};

/// A checked Topic Name: what a message is published to.
///
/// 1 to 65,535 bytes of UTF-8 without U+0000 and without wildcards. (4.7) Compared byte by byte and never normalised:
/// case and spaces count, and `/a`, `a` and `a/` are three names. [MQTT-4.7.3-4]
///
/// It borrows bytes, not a `str`: safe Rust has no way from checked bytes to a `str` but to check them again. Whoever needs
/// the text pays for that in [`as_str`](Self::as_str); decoding, hashing, comparing and matching do not.
///
/// ```
/// use damselfly_topic::{TopicError, TopicName};
///
/// let name = TopicName::new("home/kitchen/lamp")?;
/// assert_eq!(name.levels().count(), 3);
/// assert_eq!(TopicName::new("home/+/lamp"), Err(TopicError::WildcardInName));
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a [u8]);

impl<'a> TopicName<'a> {
    /// Checks a text.
    ///
    /// # Errors
    ///
    /// As [`from_bytes`](Self::from_bytes), except that a `str` is UTF-8 already.
    #[inline]
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        Self::from_bytes(text.as_bytes())
    }

    /// Checks bytes from the wire, in one pass.
    ///
    /// # Errors
    ///
    /// [`TopicError::Empty`], [`TooLong`](TopicError::TooLong), [`NotUtf8`](TopicError::NotUtf8),
    /// [`NullCharacter`](TopicError::NullCharacter), [`WildcardInName`](TopicError::WildcardInName); the first that holds.
    #[inline]
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, TopicError> {
        // One comparison for both ends: an empty text wraps around.
        if bytes.len().wrapping_sub(1) < text::MAX_LEN && text::is_plain::<true>(bytes) {
            return Ok(Self(bytes));
        }
        check_unusual(bytes)?;
        Ok(Self(bytes))
    }

    /// A copy that owns its text.
    pub fn to_buf(self) -> TopicNameBuf {
        self.into()
    }
}

/// The close look at a text that is not plain.
#[cold]
#[inline(never)]
fn check_unusual(bytes: &[u8]) -> Result<(), TopicError> {
    if bytes.is_empty() {
        return Err(TopicError::Empty);
    }
    text::check(bytes)?;
    if bytes.iter().any(|byte| matches!(byte, b'+' | b'#')) {
        return Err(TopicError::WildcardInName);
    }
    Ok(())
}

topic_text!(TopicName, "The topic levels, in order.");

const _: () = assert!(
    size_of::<Result<TopicName<'_>, TopicError>>() == size_of::<&[u8]>(),
    "a checked name travels in two registers"
);
