//! Reads scripts: cases, and the steps of each.

use std::time::Duration;

use damselfly_codec::{PacketType, QoS, Version};

use super::authentication;
use super::bytes::bytes;
use super::names::{Features, Names, version_of};
use super::packet;
use super::pattern::{Pattern, close_codes, packet_type};
use super::token::{Token, tokens};
use super::{Case, Setup};

/// Where a script is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ScriptError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// One thing a case does or waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// As it stands in the script.
    pub(super) text: String,
    /// Whose line it is; empty for `wait`.
    pub(super) connection: String,
    pub(super) action: Action,
    /// What is waited for must not come before this.
    pub(super) after: Duration,
    /// It must have come by then, if not in the time a case waits for anything.
    pub(super) by: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A packet, as often as `times` says.
    Send {
        packet: Vec<Token>,
        times: Option<String>,
    },
    /// Bytes as they are.
    SendBytes(String),
    /// One of these has to come; a PUBLISH before all others that came unless any may.
    Expect {
        patterns: Vec<Pattern>,
        in_any_order: bool,
    },
    /// The connection ends, in 5.0 perhaps behind a CONNACK that says no.
    Refused(Vec<u8>),
    /// Nothing comes, and the connection stays open.
    Quiet(Duration),
    /// From here on packets of this type are not looked at.
    Ignore(PacketType),
    /// The transport is closed without a word.
    Cut,
    Wait(Duration),
}

/// What a case needs of a broker that CONNACK may rule out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    QoS(QoS),
    Retain,
    Wildcards,
    Shared,
    SubscriptionIds,
    /// Topic Aliases up to this.
    Aliases(u16),
    /// That there is a Topic Alias it does not take.
    AliasLimit,
    /// A Receive Maximum that can be reached in a short time.
    ReceiveLimit,
    /// That there is a packet it does not take.
    PacketLimit,
    /// Packets of 32 KiB.
    LargePackets,
    SessionExpiry,
    ClientKeepAlive,
    /// A Server Keep Alive that ends in a short time.
    ShortKeepAlive,
    /// Clients that can authenticate in several steps.
    Authentication,
    /// That clients need no user name: the case writes a CONNECT in bytes.
    Anonymous,
    /// That clients of both versions are served.
    BothVersions,
}

impl Need {
    const WORDS: [(&'static str, Self); 18] = [
        ("qos1", Self::QoS(QoS::AtLeastOnce)),
        ("qos2", Self::QoS(QoS::ExactlyOnce)),
        ("retain", Self::Retain),
        ("wildcards", Self::Wildcards),
        ("shared", Self::Shared),
        ("subscription_ids", Self::SubscriptionIds),
        ("alias", Self::Aliases(1)),
        ("aliases", Self::Aliases(2)),
        ("alias_limit", Self::AliasLimit),
        ("receive_limit", Self::ReceiveLimit),
        ("packet_limit", Self::PacketLimit),
        ("large_packets", Self::LargePackets),
        ("session_expiry", Self::SessionExpiry),
        ("client_keep_alive", Self::ClientKeepAlive),
        ("short_keep_alive", Self::ShortKeepAlive),
        ("authentication", Self::Authentication),
        ("anonymous", Self::Anonymous),
        ("both_versions", Self::BothVersions),
    ];

    /// As the script says it.
    pub(super) fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, need)| *need == self).map_or("", |(word, _)| word)
    }

    pub(super) fn is_met_by(self, setup: &Setup) -> bool {
        let features = &setup.features;
        match self {
            Self::Anonymous => setup.user_name.is_none(),
            Self::BothVersions => setup.both_versions,
            Self::QoS(qos) => features.maximum_qos >= qos,
            Self::Retain => features.retain,
            Self::Wildcards => features.wildcards,
            Self::Shared => features.shared,
            Self::SubscriptionIds => features.subscription_ids,
            Self::Aliases(count) => features.topic_alias_maximum >= count,
            Self::AliasLimit => features.topic_alias_maximum < u16::MAX,
            Self::ReceiveLimit => features.receive_maximum <= 2_000,
            Self::PacketLimit => features.maximum_packet_size < 0x0FFF_FFFF,
            Self::LargePackets => features.maximum_packet_size >= 32 * 1024,
            Self::SessionExpiry => features.session_expiry,
            Self::ClientKeepAlive => features.server_keep_alive.is_none(),
            Self::ShortKeepAlive => features.server_keep_alive.is_some_and(|seconds| (1..=3).contains(&seconds)),
            Self::Authentication => setup.authentication.is_some(),
        }
    }
}

/// The cases of a script.
pub(super) fn parse(script: &'static str) -> Result<Vec<Case>, ScriptError> {
    let mut cases: Vec<Case> = Vec::new();
    let mut lines = script.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'));
    let mut bodies: Vec<Vec<(&str, usize)>> = Vec::new();
    for (line, number) in lines.by_ref() {
        let error = |what: String| ScriptError { line: number, what };
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        if word == "case" {
            cases.push(Case::new(rest));
            bodies.push(Vec::new());
            continue;
        }
        let (Some(case), Some(body)) = (cases.last_mut(), bodies.last_mut()) else {
            return Err(error("a case begins with its name".to_owned()));
        };
        match word {
            "about" => case.about = rest,
            "shows" => case.statements.extend(rest.split_whitespace()),
            "needs" => case.needs.extend(needs(rest).map_err(error)?),
            "lacks" => case.lacks.extend(needs(rest).map_err(error)?),
            _ => body.push((line.trim(), number)),
        }
    }
    for (case, body) in cases.iter_mut().zip(bodies) {
        for version in case.versions_of_statements() {
            let steps = steps(&body, version)?;
            case.scripts.push((version, steps));
        }
    }
    Ok(cases)
}

/// What the words behind `needs` or `lacks` name.
fn needs(words: &str) -> Result<Vec<Need>, String> {
    let need = |word: &str| {
        let found = Need::WORDS.iter().find(|(name, _)| *name == word);
        found.map(|(_, need)| *need).ok_or_else(|| format!("nobody can need {word}"))
    };
    words.split_whitespace().map(need).collect()
}

fn steps(body: &[(&str, usize)], version: Version) -> Result<Vec<Step>, ScriptError> {
    let mut all = Vec::new();
    let mut next_id = 60_000;
    for (line, number) in body {
        let (only, text) = match line.split_once(": ") {
            Some(("5.0", rest)) => (Some(Version::V5_0), rest),
            Some(("3.1.1", rest)) => (Some(Version::V3_1_1), rest),
            _ => (None, *line),
        };
        if only.is_none_or(|only| only == version) {
            let error = |what| ScriptError { line: *number, what };
            next_id += 1;
            let steps = line_steps(text.trim(), version, next_id).map_err(error)?;
            steps.iter().try_for_each(|step| check(step, version)).map_err(error)?;
            all.extend(steps);
        }
    }
    Ok(all)
}

fn line_steps(text: &str, version: Version, next_id: u16) -> Result<Vec<Step>, String> {
    let (connection, rest) = text.split_once(' ').ok_or("a line has at least two words")?;
    let version = version_of(connection, version);
    let step = |action| Step {
        text: text.to_owned(),
        connection: connection.to_owned(),
        action,
        after: Duration::ZERO,
        by: None,
    };
    if connection == "wait" {
        return Ok(vec![Step { connection: String::new(), ..step(Action::Wait(duration(rest)?)) }]);
    }
    let (verb, object) = rest.split_once(' ').unwrap_or((rest, ""));
    let send = |packet: &str| Ok::<_, String>(step(Action::Send { packet: tokens(packet)?, times: None }));
    let expect = |pattern: &str| expectation(step(Action::Cut), pattern, version, false);
    Ok(match verb {
        ">" => vec![send(object)?],
        ">>" => vec![step(Action::SendBytes(object.to_owned()))],
        ">each" => {
            let (times, packet) = object.split_once(' ').ok_or("a packet is missing")?;
            vec![step(Action::Send { packet: tokens(packet)?, times: Some(times.to_owned()) })]
        }
        "<" => vec![expect(object)?],
        "<any" => vec![expectation(step(Action::Cut), object, version, true)?],
        "closed" => vec![expect(rest)?],
        "malformed" if version == Version::V5_0 => vec![step(Action::Refused(close_codes(&tokens(object)?)?))],
        "malformed" => vec![expect("closed")?],
        "refused" => vec![step(Action::Refused(close_codes(&tokens(object)?)?))],
        "quiet" if object.is_empty() => vec![step(Action::Quiet(Duration::from_millis(400)))],
        "quiet" => vec![step(Action::Quiet(duration(object)?))],
        "alive" => vec![send("PINGREQ")?, expect("PINGRESP")?],
        "cut" => vec![step(Action::Cut)],
        "ignores" => vec![step(Action::Ignore(packet_type(object)?))],
        "connects" => {
            let (words, connack) = match object.strip_suffix("present") {
                Some(words) => (words, "CONNACK 00 present"),
                None => (object, "CONNACK 00"),
            };
            vec![send(&format!("CONNECT {words}"))?, expect(connack)?]
        }
        "subscribes" => {
            let granted: Vec<_> = object.split(',').map(granted).collect();
            let subscribe = send(&format!("SUBSCRIBE #{next_id} {object}"))?;
            vec![subscribe, expect(&format!("SUBACK #{next_id} {}", granted.join(" ")))?]
        }
        "disconnects" => vec![send(&format!("DISCONNECT {object}"))?, expect("closed")?],
        other => return Err(format!("nobody can do {other}")),
    })
}

/// What SUBACK says if a filter is granted as it was asked for.
fn granted(filter: &str) -> &'static str {
    let has = |word: &str| filter.split_whitespace().any(|other| other == word);
    match (has("q1"), has("q2")) {
        (true, _) => "01",
        (_, true) => "02",
        _ => "00",
    }
}

/// `PATTERN | PATTERN after 1s by 2s`
fn expectation(mut step: Step, text: &str, version: Version, in_any_order: bool) -> Result<Step, String> {
    let mut all = tokens(text)?;
    while let [.., Token::Word(word), Token::Word(time)] = &all[..] {
        match word.as_str() {
            "after" => step.after = duration(time)?,
            "by" => step.by = Some(duration(time)?),
            _ => break,
        }
        all.truncate(all.len().saturating_sub(2));
    }
    let patterns = all.split(|token| *token == Token::Bar).map(|tokens| Pattern::parse(tokens, version));
    step.action = Action::Expect { patterns: patterns.collect::<Result<_, _>>()?, in_any_order };
    Ok(step)
}

/// `1.5s` or `300ms`
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no time: 1.5s, 300ms");
    if let Some(millis) = text.strip_suffix("ms") {
        return millis.parse().map(Duration::from_millis).map_err(|_| wrong());
    }
    let seconds: f64 = text.strip_suffix('s').and_then(|seconds| seconds.parse().ok()).ok_or_else(wrong)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Whether the packets of a step can be written.
fn check(step: &Step, version: Version) -> Result<(), String> {
    let ids = std::collections::BTreeMap::new();
    let names = Names {
        version: version_of(&step.connection, version),
        prefix: "prefix",
        client_prefix: "client",
        connection: &step.connection,
        features: Features::default(),
        user_name: None,
        password: None,
        method: "method",
        packet_ids: &ids,
        round: 1,
    };
    match &step.action {
        Action::Send { packet, times } => {
            times.as_deref().map_or(Ok(1), |times| names.number(times))?;
            // What the broker chooses is not known before it runs.
            let known = packet.iter().map(|token| if is_name(token) { placeholder() } else { token.clone() });
            let known = authentication::fill(&known.collect::<Vec<_>>(), |_| Ok(Vec::new()))?;
            packet::write(&known, &names).map(|_| ())
        }
        Action::SendBytes(text) => bytes(text, &names).map(|_| ()),
        Action::Expect { .. }
        | Action::Refused(_)
        | Action::Quiet(_)
        | Action::Ignore(_)
        | Action::Cut
        | Action::Wait(_) => Ok(()),
    }
}

fn is_name(token: &Token) -> bool {
    token.word().is_some_and(|word| word.starts_with('#') && !word.ends_with(|c: char| c.is_ascii_digit() || c == '*'))
}

fn placeholder() -> Token {
    Token::Word("#1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_a_script_for_each_version_of_its_statements() {
        let cases = parse(
            "# comment\n\ncase a/b\nabout Says something.\nshows MQTT-3.1.0-2 MQTT3-3.1.0-2\nneeds qos1 retain\nlacks qos2\n\
             a connects lasting present\n5.0: a > DISCONNECT 04 {}\n3.1.1: a cut\na closed 81/82 after 1.5s by 3s\n",
        )
        .unwrap();
        let [case] = &cases[..] else { panic!("one case: {cases:?}") };
        assert_eq!((case.name(), case.about()), ("a/b", "Says something."));
        assert_eq!(case.versions().collect::<Vec<_>>(), [Version::V3_1_1, Version::V5_0]);
        assert_eq!(case.needs, [Need::QoS(QoS::AtLeastOnce), Need::Retain]);
        assert_eq!(case.lacks, [Need::QoS(QoS::ExactlyOnce)]);
        let steps = case.steps(Version::V5_0).unwrap();
        assert_eq!(steps.len(), 4);
        let last = steps.last().unwrap();
        assert_eq!((last.after, last.by), (Duration::from_millis(1_500), Some(Duration::from_secs(3))));
        let expected = Action::Expect { patterns: vec![Pattern::Closed(vec![0x81, 0x82])], in_any_order: false };
        assert_eq!(last.action, expected);
        assert_eq!(case.steps(Version::V3_1_1).map(|steps| steps[2].action.clone()), Some(Action::Cut));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = |line: &str| {
            let script = format!("case x\nshows MQTT-3.1.0-2\n{line}\n");
            parse(Box::leak(script.into_boxed_str())).unwrap_err()
        };
        for line in [
            "needs magic",
            "lacks magic",
            "a flies high",
            "a > PUBLISH q4 t",
            "a >> 1",
            "a < NOTHING",
            "wait soon",
            "alone",
            "a > PUBLISH t {nothing=1}",
            "a closed 8x",
            "a < PUBLISH t {only, nonsense=1}",
        ] {
            assert_eq!(error(line).line, 3, "{line}");
        }
        assert_eq!(parse("a connects").unwrap_err().line, 1);
    }
}
