//! Topic Names. [MQTT-4.7]

/// Why a text is no Topic Name, Topic Filter or Shared Subscription filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Topic Names and Topic Filters are at least one character long. [MQTT-4.7.3-1]
    #[error("a topic must be at least one character long")]
    Empty,
    /// More than 65,535 bytes. [MQTT-4.7.3-3]
    #[error("a topic must not be longer than 65,535 bytes")]
    TooLong,
    /// Ill-formed UTF-8. [MQTT-1.5.4-1]
    #[error("a topic must be well-formed UTF-8")]
    NotUtf8,
    /// Contains U+0000. [MQTT-4.7.3-2]
    #[error("a topic must not contain U+0000")]
    NullCharacter,
    /// A wildcard in a Topic Name. [MQTT-4.7.0-1]
    #[error("a topic name must not contain the wildcard characters '+' and '#'")]
    WildcardInName,
    /// '#' that is not the whole last level. [MQTT-4.7.1-1]
    #[error("'#' must be the last level and stand alone in it")]
    MultiLevelWildcard,
    /// '+' that does not occupy an entire level. [MQTT-4.7.1-2]
    #[error("'+' must occupy an entire level")]
    SingleLevelWildcard,
}

/// A checked Topic Name: UTF-8, 1 to 65,535 bytes, no U+0000, no wildcard. [MQTT-4.7]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks a text.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_length(text)?;
        if text.contains(['+', '#']) {
            return Err(TopicError::WildcardInName);
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

pub(crate) fn check_length(text: &str) -> Result<(), TopicError> {
    match text.len() {
        0 => Err(TopicError::Empty),
        1..=65_535 if text.contains('\0') => Err(TopicError::NullCharacter),
        1..=65_535 => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}
