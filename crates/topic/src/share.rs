//! Shared Subscriptions: `$share/{ShareName}/{filter}`. (4.8.2)

use core::fmt;

use crate::checked::shown_text;
use crate::text;
use crate::{ShareNameBuf, SharedFilterBuf, TopicError, TopicFilter};

const PREFIX: &[u8] = b"$share/";

/// The name of a group of Sessions that share a subscription. (4.8.2)
///
/// At least one character, and no '/', '+', '#' or U+0000. [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName<'a>(&'a [u8]);

impl<'a> ShareName<'a> {
    /// Checks a text.
    ///
    /// # Errors
    ///
    /// [`TopicError::ShareNameEmpty`], [`ShareNameSeparator`](TopicError::ShareNameSeparator),
    /// [`ShareNameWildcard`](TopicError::ShareNameWildcard), [`NullCharacter`](TopicError::NullCharacter),
    /// [`TooLong`](TopicError::TooLong).
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        Self::from_bytes(text.as_bytes())
    }

    /// Checks bytes.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`TopicError::NotUtf8`].
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, TopicError> {
        text::check(bytes)?;
        check_name(bytes)?;
        Ok(Self(bytes))
    }

    /// Takes bytes that were a ShareName before; nothing is checked.
    #[inline]
    pub const fn from_checked_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The text. Looks at each byte once more; see [`TopicName`](crate::TopicName).
    pub const fn as_str(self) -> &'a str {
        text::checked(self.0)
    }

    /// The bytes of the text, as they travel.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// A copy that owns its text.
    pub fn to_buf(self) -> ShareNameBuf {
        self.into()
    }
}

/// A Shared Subscription's Topic Filter, taken apart. (4.8.2)
///
/// Equal if both parts are equal; ordered by ShareName first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedFilter<'a> {
    share_name: ShareName<'a>,
    filter: TopicFilter<'a>,
}

impl<'a> SharedFilter<'a> {
    /// Checks a text of the form `$share/{ShareName}/{filter}`.
    ///
    /// # Errors
    ///
    /// As [`TopicFilter::new`], and [`TopicError::ShareNameMissing`] for a filter that does not start with `$share/`.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        Self::try_from(TopicFilter::new(text)?)
    }

    /// Puts the parts together.
    pub const fn from_parts(share_name: ShareName<'a>, filter: TopicFilter<'a>) -> Self {
        Self { share_name, filter }
    }

    /// The group.
    pub const fn share_name(self) -> ShareName<'a> {
        self.share_name
    }

    /// What messages are matched with.
    ///
    /// It is taken by the letter: that of `$share/a/$share/b/c` is about Topic Names under `$share/b`.
    pub const fn filter(self) -> TopicFilter<'a> {
        self.filter
    }

    /// A copy that owns its text.
    ///
    /// # Errors
    ///
    /// [`TopicError::TooLong`] if the parts do not fit into one Topic Filter.
    pub fn to_buf(self) -> Result<SharedFilterBuf, TopicError> {
        self.try_into()
    }
}

/// Checks `$share/{ShareName}/` at the front of a text, if the first level says that it is there.
#[inline]
pub(crate) fn check(bytes: &[u8]) -> Result<(), TopicError> {
    let Some(after) = bytes.strip_prefix(b"$share") else { return Ok(()) };
    let rest = match after.split_first() {
        None => return Err(TopicError::ShareNameMissing),
        Some((b'/', rest)) => rest,
        Some(_) => return Ok(()),
    };
    let Some(end) = rest.iter().position(|&byte| byte == b'/') else {
        check_name(rest)?;
        return Err(TopicError::SharedFilterMissing);
    };
    check_name(rest.get(..end).unwrap_or_default())?;
    if end + 1 == rest.len() { Err(TopicError::SharedFilterEmpty) } else { Ok(()) }
}

/// Takes a checked filter apart.
#[inline]
pub(crate) fn split(bytes: &[u8]) -> Option<SharedFilter<'_>> {
    let rest = bytes.strip_prefix(PREFIX)?;
    let end = rest.iter().position(|&byte| byte == b'/')?;
    let (name, filter) = (rest.get(..end)?, rest.get(end + 1..)?);
    if filter.is_empty() || check_name(name).is_err() {
        return None;
    }
    Some(SharedFilter { share_name: ShareName(name), filter: TopicFilter::from_checked_bytes(filter) })
}

fn check_name(bytes: &[u8]) -> Result<(), TopicError> {
    if bytes.is_empty() {
        return Err(TopicError::ShareNameEmpty);
    }
    for byte in bytes {
        match byte {
            b'/' => return Err(TopicError::ShareNameSeparator),
            b'+' | b'#' => return Err(TopicError::ShareNameWildcard),
            _ => {}
        }
    }
    Ok(())
}

shown_text!(ShareName);

impl fmt::Display for SharedFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$share/{}/{}", self.share_name, self.filter)
    }
}

impl<'a> TryFrom<TopicFilter<'a>> for SharedFilter<'a> {
    type Error = TopicError;

    fn try_from(filter: TopicFilter<'a>) -> Result<Self, TopicError> {
        filter.shared().ok_or(TopicError::ShareNameMissing)
    }
}
