//! What is wrong with a file, in lines.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::Excerpt;

/// Mistakes of one file that are told; how many more there are is told too.
const MAX_MISTAKES: usize = 100;

/// Bytes of a password file or a file of access rules.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// What is wrong with a line of a file, and what would be right. Lines count from 1; 0 is the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongLine {
    /// Which line.
    pub line: usize,
    /// In words, without a secret.
    pub text: String,
}

/// The same with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongFile {
    /// Which file, as it was named.
    pub file: PathBuf,
    /// Which line, and what is wrong.
    pub mistake: WrongLine,
}

impl fmt::Display for WrongFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.to_string_lossy();
        match &self.mistake {
            WrongLine { line: 0, text } => write!(f, "{}: {text}", Excerpt(&file)),
            WrongLine { line, text } => write!(f, "{}:{line}: {text}", Excerpt(&file)),
        }
    }
}

/// Collects mistakes.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    told: Vec<WrongLine>,
    more: usize,
}

impl Mistakes {
    pub(super) fn add(&mut self, line: usize, text: String) {
        if self.told.len() < MAX_MISTAKES {
            self.told.push(WrongLine { line, text });
        } else {
            self.more += 1;
        }
    }

    /// An error if there were any.
    pub(super) fn end(mut self) -> Result<(), Vec<WrongLine>> {
        if self.told.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            self.told.push(WrongLine { line: 0, text: format!("and {} more lines with mistakes", self.more) });
        }
        Err(self.told)
    }
}

/// The lines that say something, with their numbers and without blanks around them.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.split('\n').map(|line| line.trim_matches([' ', '\t', '\r'])).enumerate();
    lines.map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, WrongLine> {
    let whole = |text: String| WrongLine { line: 0, text };
    let unreadable = |error| whole(format!("the file cannot be read: {error}"));
    let len = std::fs::metadata(path).map_err(unreadable)?.len();
    if len > MAX_FILE_BYTES {
        return Err(whole(format!("the file has {len} bytes, and may have {MAX_FILE_BYTES} at most")));
    }
    String::from_utf8(std::fs::read(path).map_err(unreadable)?).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
        WrongLine { line, text: "this line is not UTF-8, which the whole file must be".to_owned() }
    })
}
