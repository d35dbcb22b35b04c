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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Settings;

    #[test]
    fn changed_file_is_read_and_one_with_a_mistake_leaves_the_rules_as_they_are() {
        let path = std::env::temp_dir().join(format!("damselfly-rules-{}", std::process::id()));
        let now = Timestamp::from_secs(100);
        let mut home = Home::new(Settings::new(7), now);
        let mut file = RulesFile::new(&path);
        let mut names = |text: Option<&str>, seconds: u64| {
            match text {
                Some(text) => fs::write(&path, text).unwrap(),
                None => drop(fs::remove_file(&path)),
            }
            file.look(now.saturating_add(Duration::from_secs(seconds)), &mut home);
            let names: Vec<String> = home.engine.rules().map(|rule| rule.name.to_owned()).collect();
            (names.join(" "), home.rules_error.clone().unwrap_or_default())
        };
        let one = "one: when home/+/motion is true then home/{1}/lamp/set true";
        let (default, _) = names(None, 0);
        assert!(default.contains("evening"), "there is no such file yet: {default}");
        assert_eq!(names(Some(one), 1), ("one".to_owned(), String::new()));
        let (kept, error) = names(Some("one: when\ntwo: when home/+/motion"), 2);
        assert_eq!((kept.as_str(), error.starts_with("line 1, column 10: here the topic")), ("one", true), "{error}");
        let longer = "two: when home/+/motion is true then home/{1}/lamp/set true, home/{1}/plug/set true";
        assert_eq!(names(Some(longer), 2).0, "one", "it is looked at once a second");
        assert_eq!(names(Some(longer), 3), ("two".to_owned(), String::new()));
        assert_eq!(names(Some(&" ".repeat(MAX_FILE_BYTES + 1)), 4).0, "two");
        assert_eq!(names(None, 5).0, "two");
    }
}
