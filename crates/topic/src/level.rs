//! Topic levels: what stands between the separators.

use core::iter::FusedIterator;

/// The levels of a Topic Name or Topic Filter, in order; a level can be empty. (4.7.1.1)
///
/// ```
/// use damselfly_topic::TopicName;
///
/// let name = TopicName::new("/home//lamp")?;
/// assert!(name.levels().eq(["", "home", "", "lamp"]));
/// # Ok::<(), damselfly_topic::TopicError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Levels<'a>(core::str::Split<'a, char>);

impl<'a> Levels<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self(text.split('/'))
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }
}

impl DoubleEndedIterator for Levels<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back()
    }
}

impl FusedIterator for Levels<'_> {}

/// The number of levels of a text.
#[inline]
pub(crate) fn count(text: &[u8]) -> usize {
    let mut count = 1;
    for &byte in text {
        count += usize::from(byte == b'/');
    }
    count
}
