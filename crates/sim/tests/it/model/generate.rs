//! Histories by chance, and the smallest part of one that still fails.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::script::{Action, Connect, Kind, Late, Limits, Options, Publish, Script, Step, WhenFull, Will};

const NAMES: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];
const TOPICS: [&str; 8] = ["a/b", "a/b", "a/ccc", "a", "b", "$s/a", "a/ccc", "a/q"];
/// The shared ones are last.
const FILTERS: [&str; 13] = [
    "a/b",
    "a/+",
    "a/#",
    "#",
    "+/b",
    "b",
    "$s/#",
    "$share/g/a/+",
    "$share/g/a/+",
    "$share/g/#",
    "$share/g/#",
    "$share/g/#",
    "$share/h/a/b",
];

/// The later ones of a handshake are due less often.
const KINDS: [Kind; 8] = [
    Kind::Puback,
    Kind::Pubrec,
    Kind::Pubrec,
    Kind::Pubrel,
    Kind::Pubcomp,
    Kind::Pubcomp,
    Kind::Pubcomp,
    Kind::Pubcomp,
];

fn chance(percent: u32) -> impl Strategy<Value = bool> {
    prop::bool::weighted(f64::from(percent) / 100.0)
}

/// What a history is about, beside what all are about.
#[derive(Clone, Copy, Debug)]
struct Theme {
    /// Clients come back with another version.
    mixes_versions: bool,
    /// Commits and answers come late.
    is_late: bool,
    shares: Shares,
}

/// How many subscriptions are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shares {
    /// None: then it is known whose queue is full.
    None,
    Some,
    /// Hardly anything is subscribed to besides, by 5.0 clients.
    Most,
}

fn theme() -> impl Strategy<Value = (Theme, Option<Limits>)> {
    let queue = option::weighted(0.7, 1..=4_u32);
    let bytes = option::weighted(0.4, select(&[4_000_u64, 8_000, 12_000][..]));
    let policy = select(&WhenFull::ALL[..]).prop_map(|(policy, _)| policy);
    let limits = (queue, bytes, policy).prop_map(|(queue, bytes, when_full)| Limits { queue, bytes, when_full });
    (chance(20), chance(40), chance(90), chance(15), option::weighted(0.4, limits)).prop_map(
        |(mixes_versions, is_late, has_shares, is_about_shares, limits)| {
            let closes = limits.as_ref().is_some_and(|limits| limits.when_full == WhenFull::CloseLegacyPublisher);
            // Before 5.0 there are no identifiers that tell for which group a message is.
            let has_shares = has_shares && !mixes_versions && !closes;
            let shares = match (has_shares, is_about_shares) {
                (false, _) => Shares::None,
                (true, false) => Shares::Some,
                (true, true) => Shares::Most,
            };
            (Theme { mixes_versions, is_late, shares }, limits)
        },
    )
}

fn publish() -> impl Strategy<Value = Publish> {
    let empty = (chance(30), chance(20)).prop_map(|(retain, is_empty)| (retain, retain && is_empty));
    (0..=2_u8, empty, option::weighted(0.25, 1..=6_u32), select(&TOPICS[..])).prop_map(
        |(qos, (retain, is_empty), expiry, topic)| {
            let payload = if is_empty { "" } else { "m" };
            Publish { qos, retain, expiry, topic: topic.into(), payload: payload.into(), ..Publish::default() }
        },
    )
}

fn will() -> impl Strategy<Value = Will> {
    (publish(), select(&[0_u32, 2, 6][..])).prop_map(|(publish, delay)| Will { publish, delay })
}

fn connect(is_v5: bool) -> impl Strategy<Value = Connect> {
    let expiry = select(&[Some(4), Some(30), Some(u32::MAX), Some(12), None][..]);
    let receive = prop_oneof![4 => (1..=5_u16).prop_map(Some), 1 => Just(None)];
    let told = (option::weighted(0.5, select(&[1_u16, 1, 1, 2, 3][..])), option::weighted(0.15, 24..=60_u32));
    (chance(20), expiry, receive, told, chance(65), option::weighted(0.4, will())).prop_map(
        move |(clean, expiry, receive, (aliases, packet), manual, will)| {
            let strip = |will: Will| Will { delay: 0, publish: Publish { expiry: None, ..will.publish } };
            let will = if is_v5 { will } else { will.map(strip) };
            let connect = Connect { is_v5, clean, expiry, receive, aliases, packet, manual, will };
            if is_v5 {
                connect
            } else {
                Connect { expiry: None, receive: None, aliases: None, packet: None, ..connect }
            }
        },
    )
}

fn options(is_v5: bool) -> impl Strategy<Value = Options> {
    let id = option::weighted(0.4, 1..=9_u32);
    (0..=2_u8, chance(25), chance(40), 0..=2_u8, id).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling, id)| {
            let options = Options { qos, no_local, retain_as_published, retain_handling, id };
            if is_v5 { options } else { Options { qos, ..Options::default() } }
        },
    )
}

fn filter(is_v5: bool, theme: Theme) -> impl Strategy<Value = String> {
    let shared = FILTERS.len() - 6;
    let filters = match theme.shares {
        Shares::Some if is_v5 => &FILTERS[..],
        Shares::Most if is_v5 => &FILTERS[shared - 1..],
        Shares::None | Shares::Some | Shares::Most => &FILTERS[..shared],
    };
    select(filters).prop_map(String::from)
}

fn published(is_v5: bool) -> impl Strategy<Value = Publish> {
    let alias = option::weighted(0.3, (select(&[1_u16, 1, 2, 2, 3, 3, 3, 4][..]), chance(6)));
    let size = option::weighted(0.15, select(&[40_usize, 3_000, 3_000, 5_000][..]));
    (publish(), alias, size).prop_map(move |(publish, alias, size)| {
        // One above the maximum ends the connection: it is rarely meant.
        let alias = alias.filter(|(alias, is_blind)| is_v5 && (*alias < 4 || *is_blind));
        Publish {
            expiry: publish.expiry.filter(|_| is_v5),
            alias: alias.map(|(alias, _)| alias),
            is_blind: alias.is_some_and(|(_, is_blind)| is_blind),
            size: size.filter(|_| !publish.payload.is_empty()),
            ..publish
        }
    })
}

fn action(is_v5: bool, theme: Theme) -> BoxedStrategy<Action> {
    let connect =
        chance(if theme.mixes_versions { 35 } else { 0 }).prop_flat_map(move |is_other| connect(is_v5 != is_other));
    let subscribe = (filter(is_v5, theme), options(is_v5)).prop_map(move |(filter, options)| {
        let is_shared = filter.starts_with("$share/");
        let no_local = options.no_local && !is_shared;
        // An identifier of its own tells for which group a message is, where several groups get it.
        let own = FILTERS.iter().zip(11..).find(|(known, _)| **known == filter).map(|(_, id)| id);
        let id = if is_shared { own } else { options.id };
        Action::Subscribe { filter, options: Options { no_local, id, ..options } }
    });
    let publish = published(is_v5).prop_map(Action::Publish);
    let kind = option::weighted(0.7, select(&KINDS[..]));
    let ack = (kind, select(&[1_usize, 1, 2, 5][..])).prop_map(|(kind, count)| Action::Ack { kind, count });
    let new_expiry = option::weighted(0.4, select(&[0_u32, 3, 20][..]));
    let disconnect = (chance(30), new_expiry).prop_map(move |(with_will, expiry)| Action::Disconnect {
        with_will: with_will && is_v5,
        expiry: expiry.filter(|_| is_v5),
    });
    prop_oneof![
        11 => connect.prop_map(Action::Connect),
        16 => subscribe,
        3 => filter(is_v5, theme).prop_map(|filter| Action::Unsubscribe { filter }),
        43 => publish,
        17 => ack,
        5 => Just(Action::Refuse),
        2 => Just(Action::Deaf),
        5 => Just(Action::Cut),
        3 => disconnect,
    ]
    .boxed()
}

/// Commits and answers that are held, and those that come then.
fn late() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Hold(Late::Commits)),
        3 => Just(Step::Hold(Late::Questions)),
        8 => (1..=3_usize).prop_map(|count| Step::Commit(Some(count))),
        2 => Just(Step::Commit(None)),
        8 => (chance(75), 0..4_usize).prop_map(|answer| Step::Answer(Some(answer))),
        3 => Just(Step::Answer(None)),
    ]
}

fn step(versions: Vec<bool>, theme: Theme) -> impl Strategy<Value = Step> {
    let of_client = (0..versions.len()).prop_flat_map(move |at| {
        let cut = (0..100_u8, 0..60_usize);
        (action(versions[at], theme), cut).prop_map(move |(action, (percent, cut))| {
            let likely = match action {
                Action::Cut | Action::Deaf | Action::Disconnect { .. } => 0,
                Action::Ack { kind: Some(Kind::Pubcomp), .. } => 70,
                Action::Ack { .. } => 15,
                _ => 4,
            };
            Step::Client { name: NAMES[at].into(), action, cut: (percent < likely).then_some(cut) }
        })
    });
    let wait = prop_oneof![5 => 1..=3_u64, 1 => 4..=14_u64].prop_map(Step::Wait);
    let late = if theme.is_late { late().boxed() } else { Just(Step::Wait(1)).boxed() };
    prop_oneof![24 => of_client, 2 => wait, if theme.is_late { 5 } else { 1 } => late]
}

/// Every history there is.
pub(crate) fn histories() -> BoxedStrategy<Script> {
    let versions = vec(any::<bool>(), 1..=4).prop_map(|more| [vec![true, false], more].concat());
    (versions, theme())
        .prop_flat_map(|(versions, (theme, limits))| {
            // One of the other version is always there.
            let is_v5 = |(at, is_v5): (usize, bool)| is_v5 || (theme.shares == Shares::Most && at != 1);
            let versions: Vec<bool> = versions.into_iter().enumerate().map(is_v5).collect();
            // Everybody is there at first, most of the time.
            let arrivals: Vec<_> = versions.iter().map(|is_v5| connect(*is_v5)).collect();
            (Just(limits), arrivals, vec(step(versions, theme), 24..=193))
        })
        .prop_map(|(limits, arrivals, steps)| {
            let arrivals = NAMES.iter().zip(arrivals).map(|(name, connect)| Step::Client {
                name: (*name).into(),
                action: Action::Connect(connect),
                cut: None,
            });
            let mut steps: Vec<_> = limits.map(Step::Limits).into_iter().chain(arrivals).chain(steps).collect();
            steps.truncate(200);
            name_payloads(&mut steps);
            Script(steps)
        })
        .boxed()
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

/// The history of a seed.
pub(crate) fn history(of: &BoxedStrategy<Script>, seed: u64) -> Script {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    of.new_tree(&mut runner).unwrap().current()
}

/// Leaves out of a failing history whatever it fails without. Works on the script, not on the choices it came from, so
/// that nothing keeps it at the length it was drawn with.
pub(crate) fn shrink(mut script: Script, fails: impl Fn(&Script) -> bool) -> Script {
    let mut size = script.0.len();
    while size > 0 {
        let mut at = 0;
        while at < script.0.len() {
            let mut smaller = script.clone();
            smaller.0.drain(at..(at + size).min(script.0.len()));
            if fails(&smaller) {
                script = smaller;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    loop {
        let candidates =
            (0..script.0.len()).flat_map(|at| simpler(&script.0[at]).into_iter().map(move |step| (at, step)));
        let smaller = candidates.map(|(at, step)| {
            let mut smaller = script.clone();
            smaller.0[at] = step;
            smaller
        });
        match smaller.filter(|smaller| *smaller != script).find(|smaller| fails(smaller)) {
            Some(smaller) => script = smaller,
            None => return script,
        }
    }
}

/// One thing less in a step.
fn simpler(step: &Step) -> Vec<Step> {
    let (name, action, cut) = match step {
        Step::Client { name, action, cut } => (name, action, cut),
        Step::Limits(limits) => {
            return vec![
                Step::Limits(Limits { queue: None, ..limits.clone() }),
                Step::Limits(Limits { bytes: None, ..limits.clone() }),
                Step::Limits(Limits { when_full: WhenFull::default(), ..limits.clone() }),
            ];
        }
        Step::Wait(_) | Step::Hold(_) | Step::Commit(_) | Step::Answer(_) => return Vec::new(),
    };
    let with = |action: Action| Step::Client { name: name.clone(), action, cut: *cut };
    let mut all = Vec::new();
    if cut.is_some_and(|cut| cut > 0) {
        all.push(Step::Client { name: name.clone(), action: action.clone(), cut: Some(0) });
    }
    match action {
        Action::Connect(connect) => {
            all.push(with(Action::Connect(Connect { will: None, ..connect.clone() })));
            all.push(with(Action::Connect(Connect { receive: None, ..connect.clone() })));
            all.push(with(Action::Connect(Connect { aliases: None, ..connect.clone() })));
            all.push(with(Action::Connect(Connect { packet: None, ..connect.clone() })));
            all.push(with(Action::Connect(Connect { manual: false, ..connect.clone() })));
            if let Some(will) = &connect.will {
                let publish = Publish { retain: false, expiry: None, ..will.publish.clone() };
                let will = Will { publish, ..will.clone() };
                all.push(with(Action::Connect(Connect { will: Some(will), ..connect.clone() })));
            }
        }
        Action::Publish(publish) => {
            all.push(with(Action::Publish(Publish { retain: false, ..publish.clone() })));
            all.push(with(Action::Publish(Publish { expiry: None, ..publish.clone() })));
            all.push(with(Action::Publish(Publish { alias: None, is_blind: false, ..publish.clone() })));
            all.push(with(Action::Publish(Publish { size: None, ..publish.clone() })));
        }
        Action::Subscribe { filter, options } => {
            for options in [
                Options { id: options.id.filter(|_| filter.starts_with("$share/")), ..options.clone() },
                Options { no_local: false, ..options.clone() },
                Options { retain_as_published: false, ..options.clone() },
                Options { retain_handling: 0, ..options.clone() },
            ] {
                all.push(with(Action::Subscribe { filter: filter.clone(), options }));
            }
        }
        Action::Ack { .. }
        | Action::Unsubscribe { .. }
        | Action::Refuse
        | Action::Deaf
        | Action::Cut
        | Action::Disconnect { .. } => {}
    }
    all
}
