//! The file of access rules: who may publish and subscribe to what.

use std::collections::HashMap;

use damselfly_broker::{Access, Action, Permission};
use damselfly_topic::{TopicError, TopicFilter};

use super::mistake::{Mistakes, WrongLine, lines};
use super::users::check_name;
use crate::Excerpt;

/// What stands for the User Name in a pattern.
const USER: &str = "%u";
/// What stands for the Client Identifier in a pattern.
const CLIENT: &str = "%c";

/// The rules of a file, in the form that mosquitto made known:
///
/// ```text
/// topic read $SYS/#               # no comments behind a rule: this line is a mistake
///
/// user heron
/// topic readwrite home/#
/// topic deny home/safe/#
///
/// pattern write device/%c/state
/// ```
///
/// `topic [read|write|readwrite|deny] FILTER` lines are for anonymous clients before the first `user NAME`, then for that
/// user; `pattern` lines are for everybody, wherever they stand. What no line permits is denied, and what a `deny` line
/// fits is denied whatever else fits: an empty file denies all. `#` and `+` at the beginning of a filter say nothing of
/// topics that begin with `$`. [MQTT-4.7.2-1]
///
/// In a pattern `%u` stands for the User Name and `%c` for the Client Identifier. A value never makes a pattern wider than
/// it looks: one that is empty, that has `+`, `#` or `/` in it, or `$` at its beginning, gets nothing from a pattern that it
/// would stand in, and nothing at all if that pattern denies. Anonymous clients have no `%u`, so that nothing with it is
/// about them. (`/` is among them because a client that calls itself
/// `victim/private` would otherwise have a part of what the client `victim` has.)
#[derive(Debug, Default)]
pub struct AccessRules {
    anonymous: Vec<Rule>,
    users: HashMap<Box<str>, Vec<Rule>>,
    patterns: Vec<Rule>,
    /// The first line that is about a user.
    named_at: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    action: Action,
    permission: Permission,
    filter: Box<str>,
}

impl AccessRules {
    /// Reads the text of a file. Everything that is wrong with it is told.
    pub fn parse(text: &str) -> Result<Self, Vec<WrongLine>> {
        let mut rules = Self::default();
        let mut mistakes = Mistakes::default();
        let mut section: Option<Box<str>> = None;
        for (line, text) in lines(text) {
            let (keyword, rest) = text.split_once([' ', '\t']).map_or((text, ""), |(word, rest)| (word, rest.trim()));
            let read = match keyword {
                "user" => check_name(rest).map_err(|error| error.to_string()).map(|()| {
                    rules.users.entry(rest.into()).or_default();
                    section = Some(rest.into());
                    rules.named_at.get_or_insert(line);
                }),
                "topic" => rule(keyword, rest, Rule::check).map(|rule| match &section {
                    None => rules.anonymous.push(rule),
                    Some(name) => rules.users.entry(name.clone()).or_default().push(rule),
                }),
                "pattern" => rule(keyword, rest, Rule::check_pattern).map(|rule| {
                    if rule.filter.contains(USER) {
                        rules.named_at.get_or_insert(line);
                    }
                    rules.patterns.push(rule);
                }),
                _ => Err(format!(
                    "{} is none of what a line can begin with: user NAME, topic [read|write|readwrite|deny] FILTER, \
                     pattern [read|write|readwrite|deny] FILTER",
                    Excerpt(keyword)
                )),
            };
            if let Err(text) = read {
                mistakes.add(line, text);
            }
        }
        mistakes.end().map(|()| rules)
    }

    /// What a client of this name, `None` is an anonymous one, and this Client Identifier may do; `refused` comes first.
    ///
    /// ```
    /// use damselfly_broker::{Permission, TopicName};
    /// use damselfly_examples::guard::AccessRules;
    ///
    /// let rules = AccessRules::parse("user heron\ntopic read home/#\npattern write device/%c/state\n").unwrap();
    /// let access = rules.compile(Some("heron"), "lamp", &[]);
    /// assert_eq!(access.receive(TopicName::new("home/hall")?), Permission::Allow);
    /// assert_eq!(access.publish(TopicName::new("home/hall")?), Permission::Deny);
    /// assert_eq!(access.publish(TopicName::new("device/lamp/state")?), Permission::Allow);
    /// assert_eq!(access.publish(TopicName::new("device/door/state")?), Permission::Deny);
    /// # Ok::<(), damselfly_topic::TopicError>(())
    /// ```
    pub fn compile(&self, user: Option<&str>, client_id: &str, refused: &[Refused]) -> Access {
        let own = match user {
            None => &self.anonymous[..],
            Some(name) => self.users.get(name).map_or(&[][..], Vec::as_slice),
        };
        let nothing = || Access::new(Permission::Deny);
        let mut allowed = Vec::new();
        let mut access = refuse(nothing(), refused);
        let own = own.iter().map(|rule| (rule, Some(rule.filter.to_string())));
        // Who has no name is nobody that a pattern with `%u` is about.
        let patterns = self.patterns.iter().filter(|rule| user.is_some() || !rule.filter.contains(USER));
        let patterns = patterns.map(|rule| (rule, fill_in(&rule.filter, user.unwrap_or_default(), client_id)));
        for (rule, filter) in own.chain(patterns) {
            match (filter, rule.permission) {
                (Some(filter), Permission::Deny) => {
                    access = access.and_then(|access| access.rule(rule.action, &filter, Permission::Deny));
                }
                (Some(filter), _) => allowed.push((rule.action, filter)),
                // Nobody escapes a denial by the name he gives himself.
                (None, Permission::Deny) => return nothing(),
                (None, _) => {}
            }
        }
        for (action, filter) in allowed {
            // One that grew too long by what was filled in permits nothing.
            if TopicFilter::new(&filter).is_ok() {
                access = access.and_then(|access| access.rule(action, &filter, Permission::Allow));
            }
        }
        access.unwrap_or_else(|_| nothing())
    }

    /// Whether clients of one user may have different rules.
    pub fn depend_on_client_id(&self) -> bool {
        self.patterns.iter().any(|rule| rule.filter.contains(CLIENT))
    }

    /// The first line that speaks of users: it says nothing where nobody has a name.
    pub fn named_at(&self) -> Option<usize> {
        self.named_at
    }
}

/// What nobody may do, whatever the rules say: an action and a Topic Filter.
pub type Refused = (Action, Box<str>);

/// Denials, in front of every other rule.
pub(super) fn refuse(access: Access, refused: &[Refused]) -> Result<Access, TopicError> {
    refused.iter().try_fold(access, |access, (action, filter)| access.rule(*action, filter, Permission::Deny))
}

/// The filter of a pattern for a client; `None` if a value must not stand in it.
fn fill_in(pattern: &str, user: &str, client_id: &str) -> Option<String> {
    let mut filter = String::with_capacity(pattern.len() + client_id.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        filter.push_str(before);
        let value = match after.get(..2) {
            Some(USER) => user,
            Some(CLIENT) => client_id,
            _ => {
                filter.push('%');
                rest = &after[1..];
                continue;
            }
        };
        if value.is_empty() || value.starts_with('$') || value.contains(['+', '#', '/']) {
            return None;
        }
        filter.push_str(value);
        rest = &after[2..];
    }
    filter.push_str(rest);
    Some(filter)
}

/// What comes behind `topic` or `pattern`.
fn rule(keyword: &str, rest: &str, check: fn(&str) -> Result<(), String>) -> Result<Rule, String> {
    let (word, filter) = rest.split_once([' ', '\t']).map_or((rest, ""), |(word, filter)| (word, filter.trim()));
    let (action, permission, filter) = match (word, filter) {
        ("read", filter) => (Action::Subscribe, Permission::Allow, filter),
        ("write", filter) => (Action::Publish, Permission::Allow, filter),
        ("deny", filter) => (Action::Any, Permission::Deny, filter),
        // Without a word in front it is a whole filter, or nothing.
        ("readwrite", filter) | (filter, "") => (Action::Any, Permission::Allow, filter),
        (word, filter) => {
            return Err(format!(
                "{} is none of read, write, readwrite and deny; a filter with a blank in it needs one of them in front: \
                 {keyword} readwrite {} {}",
                Excerpt(word),
                Excerpt(word),
                Excerpt(filter)
            ));
        }
    };
    if filter.is_empty() {
        return Err(format!("the filter is missing: {keyword} [read|write|readwrite|deny] FILTER"));
    }
    check(filter)?;
    Ok(Rule { action, permission, filter: filter.into() })
}

impl Rule {
    fn check(filter: &str) -> Result<(), String> {
        let wrong = |error: TopicError| format!("{} is no Topic Filter: {error}", Excerpt(filter));
        let is_shared = TopicFilter::new(filter).map_err(wrong)?.shared().is_some();
        if is_shared {
            return Err(format!("{}: rules are about the filter inside. Leave $share/NAME/ out", Excerpt(filter)));
        }
        Ok(())
    }

    /// Right for one value is right for all, since no value has a wildcard or another level in it.
    fn check_pattern(pattern: &str) -> Result<(), String> {
        let filled = pattern.replace(USER, "user").replace(CLIENT, "client");
        Self::check(&filled).map_err(|text| text.replacen(&filled, pattern, 1))
    }
}

#[cfg(test)]
mod tests {
    use damselfly_topic::TopicName;

    use super::*;

    fn rules(text: &str) -> AccessRules {
        AccessRules::parse(text).unwrap()
    }

    /// Whether it may publish to and receive from the topic.
    fn may(access: &Access, topic: &str) -> (bool, bool) {
        let name = TopicName::new(topic).unwrap();
        (access.publish(name) == Permission::Allow, access.receive(name) == Permission::Allow)
    }

    const NEITHER: (bool, bool) = (false, false);
    const BOTH: (bool, bool) = (true, true);

    #[test]
    fn rules_belong_to_anonymous_clients_until_a_user_is_named() {
        let rules = rules(
            "# all\r\ntopic read open\n\n  user heron \r\n\ttopic write up\ntopic down\nuser two words\n\
             topic readwrite a b/+\nuser heron\ntopic read more",
        );
        let of = |user| rules.compile(user, "c", &[]);
        assert_eq!([may(&of(None), "open"), may(&of(None), "up")], [(false, true), NEITHER]);
        let heron = of(Some("heron"));
        assert_eq!([may(&heron, "open"), may(&heron, "up"), may(&heron, "down")], [NEITHER, (true, false), BOTH]);
        assert_eq!(may(&heron, "more"), (false, true));
        assert_eq!(may(&of(Some("two words")), "a b/c"), BOTH);
        assert_eq!(may(&of(Some("stranger")), "open"), NEITHER);
        assert_eq!(rules.named_at(), Some(4));
    }

    #[test]
    fn an_empty_file_denies_all() {
        for text in ["", "# nothing\n\n"] {
            for user in [None, Some("heron")] {
                let access = rules(text).compile(user, "c", &[]);
                assert_eq!([may(&access, "a"), may(&access, "$SYS/a")], [NEITHER; 2]);
            }
        }
    }

    #[test]
    fn a_denial_wins_wherever_it_stands() {
        let rules = rules("user heron\ntopic home/#\ntopic deny home/safe/#\npattern deny home/%u/off\npattern read #");
        let access = rules.compile(Some("heron"), "c", &[(Action::Publish, "home/hall".into())]);
        assert_eq!([may(&access, "home/lamp"), may(&access, "home/safe/door")], [BOTH, NEITHER]);
        assert_eq!([may(&access, "home/heron/off"), may(&access, "home/hall")], [NEITHER, (false, true)]);
        assert_eq!([may(&access, "other"), may(&access, "$SYS/uptime")], [(false, true), NEITHER]);
    }

    #[test]
    fn patterns_are_about_everybody_and_percent_signs_stay() {
        let rules = rules("pattern write %c/100%/%%u\npattern read u/%u/#\npattern readwrite all\n");
        assert!(rules.depend_on_client_id());
        let access = rules.compile(Some("heron"), "lamp", &[]);
        assert_eq!([may(&access, "lamp/100%/%heron"), may(&access, "u/heron/x")], [(true, false), (false, true)]);
        let anonymous = rules.compile(None, "lamp", &[]);
        assert_eq!([may(&anonymous, "all"), may(&anonymous, "u/heron/x")], [BOTH, NEITHER]);
        assert_eq!(may(&anonymous, "lamp/100%/%"), NEITHER);
    }

    #[test]
    fn no_name_makes_a_pattern_wider() {
        let hostile = ["", "+", "#", "a/b", "/", "a+", "#a", "$SYS", "$share", "a/+/#"];
        for name in hostile {
            for pattern in ["%V/#", "dev/%V/#", "dev/x%V/+", "%V/g/#"] {
                for (variable, user, client_id) in [("%u", name, "c"), ("%c", "u", name)] {
                    let pattern = pattern.replace("%V", variable);
                    let allowed = rules(&format!("pattern {pattern}\n")).compile(Some(user), client_id, &[]);
                    assert_eq!(allowed, Access::new(Permission::Deny), "{pattern} {name}");
                    // Other rules stay, unless the pattern denies.
                    let text = format!("pattern {pattern}\npattern read open\n");
                    assert_eq!(may(&rules(&text).compile(Some(user), client_id, &[]), "open"), (false, true));
                    let text = format!("pattern deny {pattern}\npattern read open\n");
                    assert_eq!(may(&rules(&text).compile(Some(user), client_id, &[]), "open"), NEITHER);
                }
            }
        }
        // Two names that together are more than a topic can be.
        let half = "x".repeat(33_000);
        let long = rules("pattern %u%c\npattern read open\n").compile(Some(&half), &half, &[]);
        assert_eq!(may(&long, "open"), (false, true));
        let denied = rules("pattern deny %u%c\npattern read open\n").compile(Some(&half), &half, &[]);
        assert_eq!(may(&denied, "open"), NEITHER);
    }

    #[test]
    fn each_wrong_line_says_what_would_be_right() {
        let text = "topic\ntopic read\ntopic reads a\ntopic a#\nuser\nusers a\npattern read %c#\ntopic $share/g/a\n\
                    pattern +%u\nuser a:b\n\u{7}\n";
        let found = AccessRules::parse(text).unwrap_err();
        let expected = [
            "the filter is missing: topic [read",
            "the filter is missing: topic [read",
            "reads is none of read, write, readwrite and deny; a filter with a blank in it needs one of them in front: \
             topic readwrite reads a",
            "a# is no Topic Filter: '#' must be",
            "the user's name is missing",
            "users is none of what a line can begin with: user NAME",
            "%c# is no Topic Filter",
            "$share/g/a: rules are about the filter inside",
            "+%u is no Topic Filter",
            "cannot have a ':'",
            "\\u{7} is none of",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (at, (mistake, expected)) in found.iter().zip(expected).enumerate() {
            assert!(mistake.line == at + 1 && mistake.text.contains(expected), "{mistake:?}");
        }
    }
}
