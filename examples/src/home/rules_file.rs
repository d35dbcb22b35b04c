//! A rules file that is read again when it changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use damselfly_session::Timestamp;

use super::rules::MAX_FILE_BYTES;
use super::state::Home;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A file of rules, and what it was when it was read last.
#[derive(Debug)]
pub struct RulesFile {
    path: PathBuf,
    read: Option<Stamp>,
    look_at: Timestamp,
}

/// What tells a file from what it was before.
type Stamp = (Option<SystemTime>, u64);

impl RulesFile {
    /// A file that is read at the first look.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read: None, look_at: Timestamp::ZERO }
    }

    /// Which file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Once a second: reads the file if it has changed. What cannot be read is told and leaves the rules as they are.
    pub fn look(&mut self, now: Timestamp, home: &mut Home) {
        if now >= self.look_at {
            self.look_at = now.saturating_add(LOOK);
            self.look_now(now, home);
        }
    }

    /// The same at once.
    pub fn look_now(&mut self, now: Timestamp, home: &mut Home) {
        let name = self.path.display().to_string();
        match self.changed() {
            Ok(None) => {}
            // A mistake in it is kept and told by the house.
            Ok(Some(text)) => drop(home.set_rules(now, &text, Some(&name))),
            Err(error) => {
                // Said once, until the file is there again.
                if self.read.replace((None, u64::MAX)) != Some((None, u64::MAX)) {
                    home.note(now, "error", Some("rules"), &format!("{name}: {error}; the rules stay as they were"));
                }
            }
        }
    }

    fn changed(&mut self) -> io::Result<Option<String>> {
        let about = fs::metadata(&self.path)?;
        let stamp = (about.modified().ok(), about.len());
        if self.read == Some(stamp) {
            return Ok(None);
        }
        if about.len() > u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX) {
            return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
        }
        let text = fs::read_to_string(&self.path)?;
        self.read = Some(stamp);
        Ok(Some(text))
    }
}
