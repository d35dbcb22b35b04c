//! What the files say, as one value: who there is and who may do what.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use damselfly_broker::{Access, Permission};

use super::access::{AccessRules, Refused, refuse};
use super::mistake::{WrongFile, WrongLine, read};
use super::users::{User, Users};

/// Where users and rules come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sources {
    /// The password file: without one nobody is asked for a password.
    pub password_file: Option<PathBuf>,
    /// The file of access rules: without one everything is permitted.
    pub access_file: Option<PathBuf>,
    /// What nobody may do, whatever the file says.
    pub refused: Vec<Refused>,
    /// Clients have names without a password file too: those of their certificates.
    pub has_other_names: bool,
}

/// By name; `None` is an anonymous client, and everything.
type Compiled = HashMap<Option<Arc<str>>, Option<Arc<Access>>>;

/// Users and rules as they were when they were read.
#[derive(Debug, Default)]
pub struct Policy {
    users: Option<Users>,
    rules: Option<AccessRules>,
    refused: Vec<Refused>,
    /// What was compiled, by name, where it does not depend on the Client Identifier.
    compiled: Mutex<Compiled>,
}

impl Policy {
    /// Reads the files. Everything that is wrong with them is told.
    pub fn load(sources: &Sources) -> Result<Self, Vec<WrongFile>> {
        let mut mistakes = Vec::new();
        let mut wrong = |file: &PathBuf, lines: Vec<WrongLine>| {
            mistakes.extend(lines.into_iter().map(|mistake| WrongFile { file: file.clone(), mistake }));
        };
        let users = sources.password_file.as_ref().and_then(|file| {
            let users = read(file).map_err(|mistake| vec![mistake]).and_then(|text| Users::parse(&text));
            users.map_err(|lines| wrong(file, lines)).ok()
        });
        let rules = sources.access_file.as_ref().and_then(|file| {
            let rules = read(file).map_err(|mistake| vec![mistake]).and_then(|text| AccessRules::parse(&text));
            rules.and_then(|rules| check_names(sources, rules)).map_err(|lines| wrong(file, lines)).ok()
        });
        if mistakes.is_empty() {
            Ok(Self { users, rules, refused: sources.refused.clone(), compiled: Mutex::default() })
        } else {
            Err(mistakes)
        }
    }

    /// Who there is, if there is a password file.
    pub fn users(&self) -> Option<&Users> {
        self.users.as_ref()
    }

    /// The user of this name with the hash it has.
    pub(super) fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.as_ref()?.find(name)
    }

    /// Whether anybody is asked for anything, or may do less than everything because of a file.
    pub(super) fn is_by_file(&self) -> bool {
        self.users.is_some() || self.rules.is_some()
    }

    /// What a client may do; `None` is everything.
    pub fn access(&self, name: Option<&Arc<str>>, client_id: &str) -> Option<Arc<Access>> {
        if let Some(ready) = self.ready_access(name) {
            return ready;
        }
        let access = match &self.rules {
            Some(rules) => Some(rules.compile(name.map(|name| &**name), client_id, &self.refused)),
            None if self.refused.is_empty() => None,
            // Whoever named the filters checked them. Should one be none after all, nothing is allowed.
            None => Some(
                refuse(Access::new(Permission::Allow), &self.refused).unwrap_or_else(|_| Access::new(Permission::Deny)),
            ),
        };
        let access = access.map(Arc::new);
        if self.is_by_name() {
            let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have been faster: all sessions of a name share one.
            return compiled.entry(name.cloned()).or_insert(access).clone();
        }
        access
    }

    /// The same without any work, if it is there.
    #[expect(clippy::option_option, reason = "whether it is known, and whether it is everything")]
    pub(super) fn ready_access(&self, name: Option<&Arc<str>>) -> Option<Option<Arc<Access>>> {
        if self.rules.is_none() && self.refused.is_empty() {
            return Some(None);
        }
        if !self.is_by_name() {
            return None;
        }
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(&name.cloned()).cloned()
    }

    fn is_by_name(&self) -> bool {
        self.rules.as_ref().is_none_or(|rules| !rules.depend_on_client_id())
    }
}

/// Rules for users are worth nothing where anybody can take any name.
fn check_names(sources: &Sources, rules: AccessRules) -> Result<AccessRules, Vec<WrongLine>> {
    match rules.named_at() {
        Some(line) if sources.password_file.is_none() && !sources.has_other_names => {
            let text = "this line is about users, and no client is asked who it is. Name a password file too \
                        (password_file), or leave rules with user and %u out";
            Err(vec![WrongLine { line, text: text.to_owned() }])
        }
        _ => Ok(rules),
    }
}
