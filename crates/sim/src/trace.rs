//! What happened, a line each.

use core::fmt::{Arguments, Write};

use damselfly_session::Timestamp;

#[derive(Debug)]
pub(crate) struct Trace {
    text: String,
    is_written: bool,
}

impl Trace {
    pub(crate) const fn new(is_written: bool) -> Self {
        Self { text: String::new(), is_written }
    }

    pub(crate) fn note(&mut self, now: Timestamp, what: Arguments<'_>) {
        if self.is_written {
            // Writing to a string cannot fail.
            let _ = writeln!(self.text, "{now} {what}");
        }
    }

    /// For whoever would spend time on a line that nobody writes.
    pub(crate) const fn is_written(&self) -> bool {
        self.is_written
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
