//! Topic Filters. (4.7)

use crate::checked::topic_text;
use crate::num::{load_u64, to_usize};
use crate::share::{self, SharedFilter};
use crate::text;
use crate::{TopicError, TopicFilterBuf, TopicName, relation};

/// A checked Topic Filter: what is subscribed to.
///
/// 1 to 65,535 bytes of UTF-8 without U+0000; '+' stands for one whole level, '#' for the rest, the level above included.
/// (4.7) A filter whose first level is `$share` is a Shared Subscription's: its parts are checked as well, and
/// [`shared`](Self::shared) takes them apart. (4.8.2)
///
/// It borrows bytes, like [`TopicName`] and for the same reason.
///
/// ```
/// use damselfly_topic::{TopicError, TopicFilter, TopicName};
///
/// let filter = TopicFilter::new("home/+/lamp")?;
/// assert!(filter.matches(TopicName::new("home/kitchen/lamp")?));
/// assert_eq!(TopicFilter::new("home/#/lamp"), Err(TopicError::MultiLevelWildcard));
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a [u8]);

impl<'a> TopicFilter<'a> {
    /// Checks a text.
    ///
    /// # Errors
    ///
    /// As [`from_bytes`](Self::from_bytes), except that a `str` is UTF-8 already.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        Self::from_bytes(text.as_bytes())
    }

    /// Checks bytes from the wire.
    ///
    /// # Errors
    ///
    /// [`TopicError::Empty`], [`TooLong`](TopicError::TooLong), [`NotUtf8`](TopicError::NotUtf8),
    /// [`NullCharacter`](TopicError::NullCharacter); then, if the first level is `$share`, the errors of the ShareName and
    /// of a missing filter behind it; then a wildcard at the wrong place.
    #[inline]
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, TopicError> {
        Self::check_bytes(bytes, true)
    }

    /// Checks a text to which `$share` means nothing, as in MQTT 3.1.1 by the letter.
    ///
    /// Only a malformed Shared Subscription makes a difference: `$share/` is a filter here. A well-formed one is still
    /// seen by [`shared`](Self::shared).
    ///
    /// # Errors
    ///
    /// As [`from_bytes`](Self::from_bytes) without those of Shared Subscriptions.
    pub fn plain(text: &'a str) -> Result<Self, TopicError> {
        Self::plain_from_bytes(text.as_bytes())
    }

    /// Checks bytes from the wire as [`plain`](Self::plain) checks a text.
    ///
    /// # Errors
    ///
    /// As [`plain`](Self::plain), and [`TopicError::NotUtf8`].
    pub fn plain_from_bytes(bytes: &'a [u8]) -> Result<Self, TopicError> {
        Self::check_bytes(bytes, false)
    }

    #[inline]
    fn check_bytes(bytes: &'a [u8], shares: bool) -> Result<Self, TopicError> {
        let may_share = shares && bytes.first() == Some(&b'$');
        if may_share || bytes.len().wrapping_sub(1) >= text::MAX_LEN || !is_ordinary(bytes) {
            check_closely(bytes, shares)?;
        }
        Ok(Self(bytes))
    }

    /// Whether a wildcard is in the filter.
    pub fn has_wildcards(self) -> bool {
        self.0.iter().any(|byte| matches!(byte, b'+' | b'#'))
    }

    /// The parts of a Shared Subscription's filter, `None` for an ordinary one.
    ///
    /// ```
    /// use damselfly_topic::TopicFilter;
    ///
    /// let shared = TopicFilter::new("$share/workers/jobs/+")?.shared().expect("a shared subscription");
    /// assert_eq!(shared.share_name().as_str(), "workers");
    /// assert_eq!(shared.filter().as_str(), "jobs/+");
    /// # Ok::<(), damselfly_topic::TopicError>(())
    /// ```
    #[inline]
    pub fn shared(self) -> Option<SharedFilter<'a>> {
        share::split(self.0)
    }

    /// The filter that messages are matched with: the one inside a Shared Subscription's, otherwise the filter itself.
    #[inline]
    #[must_use = "the filter itself does not change"]
    pub fn unshared(self) -> Self {
        match self.shared() {
            Some(shared) => shared.filter(),
            None => self,
        }
    }

    /// Whether a name matches. (4.7.1, 4.7.2)
    ///
    /// A filter that starts with a wildcard matches no name that starts with '$'. [MQTT-4.7.2-1] Of a Shared Subscription
    /// the filter inside is asked. No allocation; one pass over both texts.
    pub fn matches(self, name: TopicName<'_>) -> bool {
        relation::matches(self.unshared().0, name.as_bytes())
    }

    /// Whether every name that `other` matches is matched by this filter too.
    ///
    /// ```
    /// use damselfly_topic::TopicFilter;
    ///
    /// let allowed = TopicFilter::new("home/#")?;
    /// assert!(allowed.covers(TopicFilter::new("home/+/lamp")?));
    /// // `$SYS/broker` is matched by the second filter only.
    /// assert!(!TopicFilter::new("#")?.covers(TopicFilter::new("$SYS/#")?));
    /// # Ok::<(), damselfly_topic::TopicError>(())
    /// ```
    ///
    /// Of Shared Subscriptions the filters inside are compared, so that an access rule holds for them as well. That a name
    /// has at most 65,535 bytes is left out of account.
    pub fn covers(self, other: TopicFilter<'_>) -> bool {
        relation::covers(self.unshared().0, other.unshared().0)
    }

    /// Whether some name is matched by both filters.
    ///
    /// ```
    /// use damselfly_topic::TopicFilter;
    ///
    /// let filter = TopicFilter::new("home/+/lamp")?;
    /// assert!(filter.overlaps(TopicFilter::new("+/kitchen/#")?));
    /// assert!(!filter.overlaps(TopicFilter::new("+/kitchen")?));
    /// # Ok::<(), damselfly_topic::TopicError>(())
    /// ```
    ///
    /// Of Shared Subscriptions the filters inside are compared. That a name has at most 65,535 bytes is left out of account.
    pub fn overlaps(self, other: TopicFilter<'_>) -> bool {
        relation::overlaps(self.unshared().0, other.unshared().0)
    }

    /// A copy that owns its text.
    pub fn to_buf(self) -> TopicFilterBuf {
        self.into()
    }
}

/// Whether all bytes are ASCII, none is zero, and all wildcards are at their place: the check of most filters, in one pass.
fn is_ordinary(bytes: &[u8]) -> bool {
    let Some(last) = bytes.len().checked_sub(8) else { return is_ordinary_word(bytes, 0, text::padded_word(bytes)) };
    let mut at = 0;
    while at < last {
        if !is_ordinary_word(bytes, at, load_u64(bytes, at)) {
            return false;
        }
        at += 8;
    }
    // The last eight bytes, some of which may have been seen before.
    is_ordinary_word(bytes, last, load_u64(bytes, last))
}

#[inline]
fn is_ordinary_word(bytes: &[u8], at: usize, word: u64) -> bool {
    if text::unusual::<false>(word) != 0 {
        return false;
    }
    let mut found = text::wildcards(word);
    while found != 0 {
        if check_wildcard(bytes, at + to_usize(found.trailing_zeros() / 8)).is_err() {
            return false;
        }
        found &= found - 1;
    }
    true
}

/// The check of all others, which knows what is wrong.
#[cold]
#[inline(never)]
fn check_closely(bytes: &[u8], shares: bool) -> Result<(), TopicError> {
    if bytes.is_empty() {
        return Err(TopicError::Empty);
    }
    text::check(bytes)?;
    if shares {
        share::check(bytes)?;
    }
    (0..bytes.len()).try_for_each(|at| check_wildcard(bytes, at))
}

/// A '#' is the last level, a '+' a whole one. [MQTT-4.7.1-1] [MQTT-4.7.1-2]
#[inline]
fn check_wildcard(bytes: &[u8], at: usize) -> Result<(), TopicError> {
    let starts_level = at == 0 || bytes.get(at - 1) == Some(&b'/');
    let next = bytes.get(at + 1);
    match bytes.get(at) {
        Some(b'#') if !(starts_level && next.is_none()) => Err(TopicError::MultiLevelWildcard),
        Some(b'+') if !(starts_level && matches!(next, None | Some(b'/'))) => Err(TopicError::SingleLevelWildcard),
        _ => Ok(()),
    }
}

topic_text!(
    TopicFilter,
    "The topic levels, in order, wildcards as \"+\" and \"#\". Those of a Shared Subscription start with `$share`."
);

/// A name is the filter that matches only this name, unless its first level is `$share`.
impl<'a> TryFrom<TopicName<'a>> for TopicFilter<'a> {
    type Error = TopicError;

    fn try_from(name: TopicName<'a>) -> Result<Self, TopicError> {
        share::check(name.as_bytes())?;
        Ok(Self(name.as_bytes()))
    }
}
