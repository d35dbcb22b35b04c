//! The broker core against the reference model of the simulator's tests.

#[path = "../../crates/sim/tests/it/model/client.rs"]
mod client;
#[path = "../../crates/sim/tests/it/model/compare.rs"]
mod compare;
#[path = "../../crates/sim/tests/it/model/held.rs"]
mod held;
#[path = "../../crates/sim/tests/it/model/observed.rs"]
mod observed;
#[path = "../../crates/sim/tests/it/model/reference.rs"]
mod reference;
#[path = "../../crates/sim/tests/it/model/room.rs"]
mod room;
#[path = "../../crates/sim/tests/it/model/routing.rs"]
mod routing;
#[path = "../../crates/sim/tests/it/model/run.rs"]
mod run;
#[path = "../../crates/sim/tests/it/model/script.rs"]
mod script;
#[path = "../../crates/sim/tests/it/model/wire.rs"]
mod wire;

use crate::bytes::Bytes;
use script::{Action, Connect, Kind, Late, Limits, Options, Publish, Script, Step, WhenFull, Will};

/// More would make one run slow and find little that fewer do not.
const MOST_STEPS: usize = 120;
const NAMES: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];
const TOPICS: [&str; 7] = ["a/b", "a/ccc", "a", "b", "$s/a", "a/q", "a/b"];
const FILTERS: [&str; 7] = ["a/b", "a/+", "a/#", "#", "+/b", "b", "$s/#"];
const SHARED: [&str; 3] = ["$share/g/a/+", "$share/g/#", "$share/h/a/b"];

/// `data` is a history: what a broker's queues hold, its clients, and what they do. The broker has to do in it what the model
/// does. The bounds are those of the histories that `cargo test` makes.
pub fn run(data: &[u8]) {
    let script = history(&mut Bytes(data));
    if let Err(error) = run::play(&script) {
        let aloud = run::play_aloud(&script).err().unwrap_or(error);
        panic!("the broker and the model disagree:\n{aloud}\n\nthe script:\n{script}");
    }
}

/// What a history is about, beside what all are about.
struct Theme {
    mixes_versions: bool,
    is_late: bool,
    has_shares: bool,
}

fn history(bytes: &mut Bytes<'_>) -> Script {
    let limits = bytes.maybe(40, |bytes| Limits {
        queue: bytes.maybe(70, |bytes| bytes.one_of(&[1, 2, 3, 4])),
        bytes: bytes.maybe(40, |bytes| bytes.one_of(&[4_000, 8_000, 12_000])),
        when_full: bytes.one_of(&WhenFull::ALL).0,
    });
    let mixes_versions = bytes.chance(20);
    let closes = limits.as_ref().is_some_and(|limits| limits.when_full == WhenFull::CloseLegacyPublisher);
    // Before 5.0 there are no identifiers that tell for which group a message is.
    let has_shares = !mixes_versions && !closes && bytes.chance(80);
    let theme = Theme { mixes_versions, is_late: bytes.chance(40), has_shares };
    // One of the other version is always there.
    let mut versions = vec![true, false];
    versions.extend((0..1 + bytes.below(4)).map(|_| bytes.chance(50)));
    let mut steps: Vec<Step> = limits.map(Step::Limits).into_iter().collect();
    for (name, is_v5) in NAMES.iter().zip(&versions) {
        let action = Action::Connect(connect(bytes, *is_v5));
        steps.push(Step::Client { name: (*name).into(), action, cut: None });
    }
    // Else the last bytes would be steps of zeros.
    while !bytes.0.is_empty() && steps.len() < MOST_STEPS {
        steps.push(step(bytes, &versions, &theme));
    }
    name_payloads(&mut steps);
    Script(steps)
}

fn step(bytes: &mut Bytes<'_>, versions: &[bool], theme: &Theme) -> Step {
    match bytes.below(if theme.is_late { 31 } else { 26 }) {
        0..24 => {
            let at = bytes.below(versions.len());
            let action = action(bytes, versions[at], theme);
            let likely = match action {
                Action::Cut | Action::Deaf | Action::Disconnect { .. } => 0,
                Action::Ack { kind: Some(Kind::Pubcomp), .. } => 70,
                Action::Ack { .. } => 15,
                _ => 4,
            };
            let cut = if likely > 0 { bytes.maybe(likely, |bytes| bytes.below(60)) } else { None };
            Step::Client { name: NAMES[at].into(), action, cut }
        }
        24 | 25 => Step::Wait(bytes.one_of(&[1, 2, 3, 1, 2, 8, 14])),
        _ => match bytes.below(7) {
            0 => Step::Hold(Late::Commits),
            1 => Step::Hold(Late::Questions),
            2 | 3 => Step::Commit(bytes.one_of(&[Some(1), Some(2), Some(3), None])),
            4 | 5 => Step::Answer(Some((bytes.chance(75), bytes.below(4)))),
            _ => Step::Answer(None),
        },
    }
}

fn action(bytes: &mut Bytes<'_>, is_v5: bool, theme: &Theme) -> Action {
    match bytes.byte() % 100 {
        0..40 => Action::Publish(published(bytes, is_v5)),
        40..51 => {
            let is_other = theme.mixes_versions && bytes.chance(35);
            Action::Connect(connect(bytes, is_v5 != is_other))
        }
        51..67 => subscribe(bytes, is_v5, theme),
        67..70 => Action::Unsubscribe { filter: filter(bytes, is_v5, theme).into() },
        70..87 => {
            let kinds = [Kind::Puback, Kind::Pubrec, Kind::Pubrec, Kind::Pubrel, Kind::Pubcomp, Kind::Pubcomp];
            let kind = bytes.maybe(70, |bytes| bytes.one_of(&kinds));
            Action::Ack { kind, count: bytes.one_of(&[1, 1, 2, 5]) }
        }
        87..91 => Action::Refuse,
        91..93 => Action::Deaf,
        93..97 => Action::Cut,
        _ => {
            let with_will = bytes.chance(30) && is_v5;
            let expiry = bytes.maybe(40, |bytes| bytes.one_of(&[0, 3, 20])).filter(|_| is_v5);
            Action::Disconnect { with_will, expiry }
        }
    }
}

fn filter(bytes: &mut Bytes<'_>, is_v5: bool, theme: &Theme) -> &'static str {
    if is_v5 && theme.has_shares && bytes.chance(45) { bytes.one_of(&SHARED) } else { bytes.one_of(&FILTERS) }
}

fn subscribe(bytes: &mut Bytes<'_>, is_v5: bool, theme: &Theme) -> Action {
    let filter = filter(bytes, is_v5, theme);
    let qos = choose_qos(bytes);
    let mut options = Options { qos, ..Options::default() };
    if is_v5 {
        // An identifier of its own tells for which group a message is, where several groups get it.
        let own = SHARED.iter().zip(11..).find(|(known, _)| **known == filter).map(|(_, id)| id);
        options.no_local = bytes.chance(25) && own.is_none();
        options.retain_as_published = bytes.chance(40);
        options.retain_handling = bytes.one_of(&[0, 1, 2]);
        options.id = own.or_else(|| bytes.maybe(40, |bytes| bytes.one_of(&[1, 2, 3, 4, 5, 6, 7, 8, 9])));
    }
    Action::Subscribe { filter: filter.into(), options }
}

fn choose_qos(bytes: &mut Bytes<'_>) -> u8 {
    bytes.one_of(&[0, 1, 2])
}

fn publish(bytes: &mut Bytes<'_>) -> Publish {
    let (qos, retain) = (choose_qos(bytes), bytes.chance(30));
    let payload = if retain && bytes.chance(20) { "" } else { "m" };
    let expiry = bytes.maybe(25, |bytes| bytes.one_of(&[1, 2, 3, 4, 5, 6]));
    Publish { qos, retain, expiry, topic: bytes.one_of(&TOPICS).into(), payload: payload.into(), ..Publish::default() }
}

fn published(bytes: &mut Bytes<'_>, is_v5: bool) -> Publish {
    let publish = publish(bytes);
    let alias = bytes.maybe(30, |bytes| (bytes.one_of(&[1, 1, 2, 2, 3, 3, 3, 4]), bytes.chance(6)));
    // One above the maximum ends the connection: it is rarely meant.
    let alias = alias.filter(|(alias, is_blind)| is_v5 && (*alias < 4 || *is_blind));
    let size = bytes.maybe(15, |bytes| bytes.one_of(&[40, 3_000, 3_000, 5_000]));
    Publish {
        expiry: publish.expiry.filter(|_| is_v5),
        alias: alias.map(|(alias, _)| alias),
        is_blind: alias.is_some_and(|(_, is_blind)| is_blind),
        size: size.filter(|_| !publish.payload.is_empty()),
        ..publish
    }
}

fn connect(bytes: &mut Bytes<'_>, is_v5: bool) -> Connect {
    let (clean, manual) = (bytes.chance(20), bytes.chance(65));
    let mut will = bytes.maybe(40, |bytes| Will { publish: publish(bytes), delay: bytes.one_of(&[0, 2, 6]) });
    if !is_v5 {
        if let Some(will) = &mut will {
            (will.delay, will.publish.expiry) = (0, None);
        }
        return Connect { is_v5, clean, manual, will, ..Connect::default() };
    }
    Connect {
        is_v5,
        clean,
        expiry: bytes.one_of(&[Some(4), Some(30), Some(u32::MAX), Some(12), None]),
        receive: bytes.one_of(&[Some(1), Some(2), Some(3), Some(4), Some(5), None]),
        aliases: bytes.maybe(50, |bytes| bytes.one_of(&[1, 1, 1, 2, 3])),
        packet: bytes.maybe(15, |bytes| 24 + u32::from(bytes.byte() % 37)),
        manual,
        will,
    }
}

/// Each message has a payload of its own, so that no two are mistaken for each other.
fn name_payloads(steps: &mut [Step]) {
    for (at, step) in steps.iter_mut().enumerate() {
        let Step::Client { action, .. } = step else { continue };
        let (payload, letter) = match action {
            Action::Publish(publish) => (&mut publish.payload, 'm'),
            Action::Connect(Connect { will: Some(will), .. }) => (&mut will.publish.payload, 'w'),
            _ => continue,
        };
        if !payload.is_empty() {
            *payload = format!("{letter}{at}");
        }
    }
}
