//! The password file: who there is.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::mistake::{Mistakes, WrongLine, lines};
use super::password::PasswordHash;
use crate::Excerpt;

/// One user of a password file.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// The User Name, which is the principal of the sessions too.
    pub name: Arc<str>,
    /// What is known of the password.
    pub hash: PasswordHash,
}

/// Everybody in a password file: lines of a name, `:` and a hash; blank lines and lines that begin with `#` say nothing.
#[derive(Debug, Default)]
pub struct Users {
    by_name: HashMap<Arc<str>, Arc<User>>,
    all: Vec<Arc<User>>,
    /// Whose hash stands in for that of a user who is not there: always the same for a name, and nobody can foresee it.
    decoys: RandomState,
}

/// Why a name cannot be that of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("the user's name is missing: a line is NAME:HASH")]
    Empty,
    /// Ends the name in the file.
    #[error("a user's name cannot have a ':' in it, because a line of the file is NAME:HASH")]
    Colon,
    /// Steers terminals and logs, or ends the line.
    #[error("a user's name cannot have control characters in it, such as a line feed")]
    Control,
    /// Would be a comment.
    #[error("a user's name cannot begin with '#', because such a line of the file is a comment")]
    Comment,
    /// Nobody would see it.
    #[error("a user's name cannot begin or end with a blank, because nobody would see it")]
    Blank,
    /// CONNECT cannot carry it.
    #[error("a user's name has at most 65535 bytes")]
    Long,
}

/// Whether it can be the name of a user.
pub fn check_name(name: &str) -> Result<(), NameError> {
    match name {
        "" => Err(NameError::Empty),
        _ if name.contains(':') => Err(NameError::Colon),
        _ if name.contains(char::is_control) => Err(NameError::Control),
        _ if name.starts_with('#') => Err(NameError::Comment),
        _ if name.trim() != name => Err(NameError::Blank),
        _ if name.len() > 65_535 => Err(NameError::Long),
        _ => Ok(()),
    }
}

impl Users {
    /// Reads the text of a file. Everything that is wrong with it is told.
    pub fn parse(text: &str) -> Result<Self, Vec<WrongLine>> {
        let mut users = Self::default();
        let mut seen = HashMap::new();
        let mut mistakes = Mistakes::default();
        for (line, text) in lines(text) {
            match user(text) {
                Ok(user) => {
                    if let Some(first) = seen.get(&user.name) {
                        let name = Excerpt(&user.name);
                        let text =
                            format!("the user {name} stands in line {first} already. Remove one of the two lines");
                        mistakes.add(line, text);
                        continue;
                    }
                    seen.insert(user.name.clone(), line);
                    let user = Arc::new(user);
                    users.by_name.insert(user.name.clone(), user.clone());
                    users.all.push(user);
                }
                Err(text) => mistakes.add(line, text),
            }
        }
        mistakes.end().map(|()| users)
    }

    /// The user of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// Whose hash to verify a password against for this name: one that is not known costs as much as one that is.
    pub(super) fn decoy(&self, name: &str) -> Option<&Arc<User>> {
        let all = u64::try_from(self.all.len()).ok().filter(|all| *all > 0)?;
        let at = self.decoys.hash_one(name) % all;
        usize::try_from(at).ok().and_then(|at| self.all.get(at))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn user(line: &str) -> Result<User, String> {
    let (name, hash) = line.split_once(':').ok_or_else(|| {
        "there is no ':' in this line, which must be NAME:HASH; mqtt passwd FILE USER writes such a line".to_owned()
    })?;
    check_name(name).map_err(|error| error.to_string())?;
    let hash = hash.parse().map_err(|error| format!("user {}: {error}", Excerpt(name)))?;
    Ok(User { name: name.into(), hash })
}

/// The text of a file with another hash for a user, or without that user. Everything else stays as it is, comments and
/// mistakes among it. `None`: the user to remove is not there.
pub(super) fn edited(text: &str, name: &str, hash: Option<&PasswordHash>) -> Option<String> {
    let is_of_user = |line: &str| {
        let line = line.trim_start_matches(['\u{feff}', ' ', '\t']);
        line.split_once(':').is_some_and(|(found, _)| found == name)
    };
    let mut edited = String::with_capacity(text.len() + 256);
    let mut is_found = false;
    for line in text.split_inclusive('\n') {
        if !is_of_user(line) {
            edited.push_str(line);
            continue;
        }
        // A user who stands there twice is there once afterwards.
        if let Some(hash) = hash.filter(|_| !is_found) {
            edited.extend([name, ":", &hash.to_string(), "\n"]);
        }
        is_found = true;
    }
    match hash {
        None => return is_found.then_some(edited),
        Some(hash) if !is_found => {
            if !edited.is_empty() && !edited.ends_with('\n') {
                edited.push('\n');
            }
            edited.extend([name, ":", &hash.to_string(), "\n"]);
        }
        Some(_) => {}
    }
    Some(edited)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn mistakes(text: &str) -> Vec<(usize, String)> {
        Users::parse(text).unwrap_err().into_iter().map(|mistake| (mistake.line, mistake.text)).collect()
    }

    #[test]
    fn names_and_hashes_are_read_and_comments_passed_over() {
        let users = Users::parse(&format!("# who may\r\n\n  \nheron:{HASH}\r\nanna / #+ m\u{fc}:{HASH}")).unwrap();
        assert_eq!(users.len(), 2);
        assert!(users.find("heron").is_some_and(|user| user.hash.verify(b"password")));
        assert!(users.find("anna / #+ m\u{fc}").is_some());
        assert!(users.find("Heron").is_none() && users.find("# who may").is_none());
        assert!(Users::parse("").unwrap().is_empty());
    }

    #[test]
    fn each_wrong_line_is_told_without_a_word_of_its_secret() {
        let text = format!("heron\n:{HASH}\nheron:{HASH}\nanna:plainly\nheron:{HASH}\na\u{7}b:{HASH}\nc :{HASH}\n");
        let found = mistakes(&text);
        let expected = [
            (1, "there is no ':'"),
            (2, "the user's name is missing"),
            (4, "user anna: this is no hash"),
            (5, "the user heron stands in line 3 already"),
            (6, "control characters"),
            (7, "begin or end with a blank"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((line, text), (at, part)) in found.iter().zip(expected) {
            assert!(*line == at && text.contains(part), "{line}: {text}");
            assert!(!text.contains("plainly") && !text.contains("c29tZXNhbHQ"), "{text}");
        }
    }

    #[test]
    fn a_file_with_very_many_mistakes_is_cut_short() {
        let text = "x\n".repeat(1_000);
        let found = mistakes(&text);
        assert_eq!(found.len(), 101);
        assert!(found[100].1.contains("900 more"), "{}", found[100].1);
    }

    #[test]
    fn who_is_not_there_has_one_and_the_same_stand_in() {
        let text = (0..50).map(|n| format!("user{n}:{HASH}")).collect::<Vec<_>>().join("\n");
        let users = Users::parse(&text).unwrap();
        let decoys: Vec<_> = (0..50).map(|n| users.decoy(&format!("nobody{n}")).unwrap().name.clone()).collect();
        assert!(decoys.iter().any(|name| *name != decoys[0]), "{decoys:?}");
        assert_eq!(users.decoy("nobody7").unwrap().name, decoys[7]);
        assert!(Users::default().decoy("nobody").is_none());
    }

    #[test]
    fn editing_leaves_everything_else_as_it_is() {
        let [old, new] = [b"old", b"new"].map(|password| PasswordHash::new(password).unwrap());
        let text = format!("# mine\nanna:{old}\n\nno line at all\r\nheron:{old}\n# end");
        assert_eq!(edited(&text, "anna", Some(&new)).unwrap(), text.replacen(&old.to_string(), &new.to_string(), 1));
        assert_eq!(edited(&text, "dora", Some(&new)).unwrap(), format!("{text}\ndora:{new}\n"));
        assert_eq!(edited(&text, "heron", None).unwrap(), text.replace(&format!("heron:{old}\n"), ""));
        assert_eq!(edited(&text, "# mine", None), None);
        assert_eq!(edited("", "dora", Some(&new)).unwrap(), format!("dora:{new}\n"));
        let twice = format!("a:{old}\nb:{old}\na:{old}\n");
        assert_eq!(edited(&twice, "a", Some(&new)).unwrap(), format!("a:{new}\nb:{old}\n"));
    }

    #[test]
    fn a_name_that_a_line_cannot_hold_is_refused_with_the_reason() {
        for (name, part) in [("a:b", "':'"), ("a\nb", "control"), ("", "missing"), ("#a", "comment"), (" a", "blank")] {
            assert!(check_name(name).unwrap_err().to_string().contains(part), "{name:?}");
        }
        assert!(check_name(&"x".repeat(65_535)).is_ok());
        assert_eq!(check_name(&"x".repeat(65_536)), Err(NameError::Long));
    }
}
