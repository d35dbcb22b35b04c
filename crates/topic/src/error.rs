//! Why a text is refused.

/// Why a text is no Topic Name, Topic Filter or ShareName.
///
/// One byte, so that a `Result` of a checked text costs no more than the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Topic Names and Topic Filters are at least one character long.
    #[error("a topic must be at least one character long")]
    Empty,
    /// More than 65,535 bytes.
    #[error("a topic must not be longer than 65,535 bytes")]
    TooLong,
    /// Ill-formed UTF-8, an encoded surrogate (U+D800 to U+DFFF) included.
    #[error("the text must be well-formed UTF-8")]
    NotUtf8,
    /// The text contains U+0000.
    #[error("the text must not contain U+0000")]
    NullCharacter,
    /// A wildcard in a Topic Name.
    #[error("a topic name must not contain the wildcard characters '+' and '#'")]
    WildcardInName,
    /// A '#' that is not the whole last level.
    #[error("'#' must be the last level and stand alone in it")]
    MultiLevelWildcard,
    /// A '+' that does not occupy an entire level.
    #[error("'+' must occupy an entire level")]
    SingleLevelWildcard,
    /// `$share` with nothing behind it: the ShareName and the Topic Filter are missing.
    #[error("'$share' must be followed by '/' and a share name")]
    ShareNameMissing,
    /// `$share/` or `$share//filter`: the ShareName has no character.
    #[error("a share name must be at least one character long")]
    ShareNameEmpty,
    /// A '+' or '#' in a ShareName.
    #[error("a share name must not contain the wildcard characters '+' and '#'")]
    ShareNameWildcard,
    /// A '/' in a ShareName that was given on its own.
    #[error("a share name must not contain '/'")]
    ShareNameSeparator,
    /// `$share/name`: no '/' and no Topic Filter follow the ShareName.
    #[error("a share name must be followed by '/' and a topic filter")]
    SharedFilterMissing,
    /// `$share/name/`: the Topic Filter behind the ShareName has no character.
    #[error("the topic filter of a shared subscription must be at least one character long")]
    SharedFilterEmpty,
}

impl TopicError {
    /// The statement of MQTT 5.0 that the text breaks.
    ///
    /// ```
    /// use damselfly_topic::{TopicError, TopicFilter};
    ///
    /// assert_eq!(TopicFilter::new("a#"), Err(TopicError::MultiLevelWildcard));
    /// assert_eq!(TopicError::MultiLevelWildcard.statement(), "MQTT-4.7.1-1");
    /// assert_eq!(TopicError::MultiLevelWildcard.statement_3_1_1(), "MQTT3-4.7.1-2");
    /// ```
    pub const fn statement(self) -> &'static str {
        match self {
            Self::Empty => "MQTT-4.7.3-1",
            Self::TooLong => "MQTT-4.7.3-3",
            Self::NotUtf8 => "MQTT-1.5.4-1",
            Self::NullCharacter => "MQTT-1.5.4-2",
            Self::WildcardInName => "MQTT-4.7.0-1",
            Self::MultiLevelWildcard => "MQTT-4.7.1-1",
            Self::SingleLevelWildcard => "MQTT-4.7.1-2",
            Self::ShareNameMissing | Self::ShareNameEmpty => "MQTT-4.8.2-1",
            Self::ShareNameWildcard
            | Self::ShareNameSeparator
            | Self::SharedFilterMissing
            | Self::SharedFilterEmpty => "MQTT-4.8.2-2",
        }
    }

    /// The statement of MQTT 3.1.1 that the text breaks.
    ///
    /// Shared Subscriptions came with 5.0; a broker that grants them to 3.1.1 clients applies the rules of 5.0, so those
    /// keep their number.
    pub const fn statement_3_1_1(self) -> &'static str {
        match self {
            Self::Empty => "MQTT3-4.7.3-1",
            Self::TooLong => "MQTT3-4.7.3-3",
            Self::NotUtf8 => "MQTT3-1.5.3-1",
            Self::NullCharacter => "MQTT3-1.5.3-2",
            Self::WildcardInName => "MQTT3-4.7.1-1",
            Self::MultiLevelWildcard => "MQTT3-4.7.1-2",
            Self::SingleLevelWildcard => "MQTT3-4.7.1-3",
            Self::ShareNameMissing
            | Self::ShareNameEmpty
            | Self::ShareNameWildcard
            | Self::ShareNameSeparator
            | Self::SharedFilterMissing
            | Self::SharedFilterEmpty => self.statement(),
        }
    }
}

const _: () = assert!(size_of::<TopicError>() == 1, "every checked text pays for it");
