//! Topic Filters. [MQTT-4.7]

use crate::name::{TopicError, check_length};

/// A checked Topic Filter. [MQTT-4.7]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Checks a text.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_length(text)?;
        for (level, is_last) in text.split('/').rev().zip(core::iter::once(true).chain(core::iter::repeat(false))) {
            match level {
                "+" => {}
                "#" if is_last => {}
                level if level.contains('#') => return Err(TopicError::MultiLevelWildcard),
                level if level.contains('+') => return Err(TopicError::SingleLevelWildcard),
                _ => {}
            }
        }
        Ok(Self(text))
    }

    /// Checks bytes from the wire.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, TopicError> {
        Self::new(core::str::from_utf8(bytes).map_err(|_| TopicError::NotUtf8)?)
    }

    /// The text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}
