//! What the embedding program says in an answer: access rules, and information for people.

use std::sync::Arc;

use damselfly_broker::{
    Access, Action, Answer, Broker, Config, Output, Peer, Permission, ProblemInformation, ReasonCode,
};
use damselfly_codec::{Connect, Foreign, Packet, Version};
use damselfly_session::Timestamp;

use super::stream::first_bytes;
use super::text::{Line, Words};

const ACTIONS: [(&str, Action); 3] =
    [("Publish", Action::Publish), ("Subscribe", Action::Subscribe), ("Any", Action::Any)];
const PERMISSIONS: [(&str, Permission); 3] =
    [("Allow", Permission::Allow), ("Deny", Permission::Deny), ("Ask", Permission::Ask)];

/// Rules as words: what holds otherwise, how many there are, and each. `None` if they cannot be told.
///
/// Rules are made and compared, and show themselves to nobody but `Debug`: so they are taken from there, and are those only
/// if what was read makes the same again.
pub(super) fn write_access(line: Line, access: Option<&Access>) -> Option<Line> {
    let Some(access) = access else { return Some(line.word('-')) };
    let text = format!("{access:?}");
    let (rules, otherwise) = text.strip_suffix(" }")?.rsplit_once("], otherwise: ")?;
    let mut rest = rules.strip_prefix("Access { rules: [")?;
    let mut count = 0;
    let mut words = Line(String::new());
    while let Some(rule) = rest.strip_prefix("Rule { action: ") {
        let (action, rule) = rule.split_once(", filter: TopicFilterBuf(\"")?;
        let (filter, rule) = unescape(rule)?;
        let (permission, rule) = rule.strip_prefix("), permission: ")?.split_once(" }")?;
        rest = rule.strip_prefix(", ").unwrap_or(rule);
        words = words.word(action).word(permission).bytes(filter.as_bytes());
        count += 1;
    }
    let words = format!("{otherwise} {count}{}", words.0);
    let again = read_access(&mut Words::of(&words))??;
    (*again == *access).then(|| line.word(words))
}

#[expect(clippy::option_option, reason = "whether it can be read, and whether it is there")]
pub(super) fn read_access(words: &mut Words<'_>) -> Option<Option<Arc<Access>>> {
    let otherwise = match words.word()? {
        "-" => return Some(None),
        word => named(&PERMISSIONS, word)?,
    };
    let mut access = Access::new(otherwise);
    for _ in 0..words.number::<usize>()? {
        let (action, permission) = (named(&ACTIONS, words.word()?)?, named(&PERMISSIONS, words.word()?)?);
        access = access.rule(action, &words.text()?, permission).ok()?;
    }
    Some(Some(Arc::new(access)))
}

fn named<T: Copy>(names: &[(&str, T)], word: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

/// A text as `Debug` writes it, up to its quote, and what follows.
fn unescape(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((out, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                '0' => out.push('\0'),
                'u' => {
                    let digits: String =
                        chars.by_ref().skip(1).map(|(_, char)| char).take_while(|c| *c != '}').collect();
                    out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                char @ ('"' | '\\' | '\'') => out.push(char),
                _ => return None,
            },
            char => out.push(char),
        }
    }
    None
}

/// What a client is told, as a number of texts: the Reason String or nothing, then names and values. It shows itself to
/// clients only, so one is told.
pub(super) fn write_information(line: Line, information: &ProblemInformation) -> Option<Line> {
    if information.is_empty() {
        return Some(line.word('-').word(0));
    }
    let now = Timestamp::from_secs(1);
    let mut broker = Broker::new(Config::default(), 0).ok()?;
    let connection = broker.handle_connection(now, Peer::default()).ok()?;
    let mut connect = Vec::new();
    Connect::new(Version::V5_0, "reader").encode(Foreign::Reject, &mut connect).ok()?;
    let _ = broker.handle_input(now, connection, &connect);
    while let Some(output) = broker.poll_output() {
        if let Output::Ask { id, .. } = output {
            broker.handle_answer_with(now, id, Answer::Deny(ReasonCode::NotAuthorized), information.clone());
        }
    }
    let said = first_bytes(broker.transmit_len(connection), |chunks| broker.transmit(connection, chunks));
    let Ok(Packet::Connack(connack)) = Packet::decode(Version::V5_0, &said) else { return None };
    let properties = connack.properties;
    let texts: Vec<_> = properties.user_properties().collect();
    let line = line.maybe_bytes(properties.reason_string().map(str::as_bytes)).word(texts.len());
    Some(texts.iter().fold(line, |line, (name, value)| line.bytes(name.as_bytes()).bytes(value.as_bytes())))
}

pub(super) fn read_information(words: &mut Words<'_>) -> Option<ProblemInformation> {
    let mut information = ProblemInformation::new();
    if let Some(text) = words.maybe_text()? {
        information = information.reason_string(&text).ok()?;
    }
    for _ in 0..words.number::<usize>()? {
        information = information.user_property(&words.text()?, &words.text()?).ok()?;
    }
    Some(information)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_rules_come_back() {
        let one = Access::new(Permission::Deny);
        let many = Access::new(Permission::Ask)
            .rule(Action::Any, "a/+/\"b\" \\ 'c'\n\u{1}\u{e9}\u{200b}", Permission::Allow)
            .and_then(|access| access.rule(Action::Publish, "#", Permission::Ask))
            .and_then(|access| access.rule(Action::Subscribe, "$share/g/x, filter: }", Permission::Deny))
            .unwrap();
        for access in [None, Some(one), Some(many)] {
            let line = write_access(Line::new("access"), access.as_ref()).unwrap().word("end");
            let mut words = Words::of(&line.0);
            words.word();
            assert_eq!(read_access(&mut words).unwrap().as_deref(), access.as_ref());
            assert_eq!(words.word(), Some("end"), "{}", line.0);
        }
    }

    #[test]
    fn what_a_client_is_told_comes_back() {
        let some = ProblemInformation::new().reason_string("the trial ended").unwrap();
        let all = some.clone().user_property("a", "").and_then(|all| all.user_property("a", "\u{e9} x")).unwrap();
        let properties = ProblemInformation::new().user_property("k", "v").unwrap();
        for information in [ProblemInformation::new(), some, all, properties] {
            let line = write_information(Line::new("told"), &information).unwrap().word("end");
            let mut words = Words::of(&line.0);
            words.word();
            assert_eq!(read_information(&mut words).unwrap(), information);
            assert_eq!(words.word(), Some("end"), "{}", line.0);
        }
    }
}
