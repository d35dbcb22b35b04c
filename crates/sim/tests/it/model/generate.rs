//! Histories by chance, and the smallest part of one that still fails.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::script::{Action, Connect, Kind, Options, Publish, Script, Step, Will};

const NAMES: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];
const TOPICS: [&str; 6] = ["a/b", "a/b", "a/c", "a", "b", "$s/a"];
const FILTERS: [&str; 11] =
    ["a/b", "a/+", "a/#", "#", "+/b", "b", "$s/#", "$share/g/a/+", "$share/g/#", "$share/g/#", "$share/h/a/b"];

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

fn publish() -> impl Strategy<Value = Publish> {
    let empty = (chance(30), chance(20)).prop_map(|(retain, is_empty)| (retain, retain && is_empty));
    (0..=2_u8, empty, option::weighted(0.25, 1..=6_u32), select(&TOPICS[..])).prop_map(
        |(qos, (retain, is_empty), expiry, topic)| {
            let payload = if is_empty { "" } else { "m" };
            Publish { qos, retain, expiry, topic: topic.into(), payload: payload.into() }
        },
    )
}

fn will() -> impl Strategy<Value = Will> {
    (publish(), select(&[0_u32, 2, 6][..])).prop_map(|(publish, delay)| Will { publish, delay })
}

fn connect(is_v5: bool) -> impl Strategy<Value = Connect> {
    let expiry = select(&[Some(4), Some(30), Some(u32::MAX), Some(12), None][..]);
    let receive = prop_oneof![4 => (1..=5_u16).prop_map(Some), 1 => Just(None)];
    (chance(20), expiry, receive, chance(65), option::weighted(0.4, will())).prop_map(
        move |(clean, expiry, receive, manual, will)| {
            let strip = |will: Will| Will { delay: 0, publish: Publish { expiry: None, ..will.publish } };
            let will = if is_v5 { will } else { will.map(strip) };
            let (expiry, receive) = if is_v5 { (expiry, receive) } else { (None, None) };
            Connect { is_v5, clean, expiry, receive, manual, will }
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

fn filter(is_v5: bool) -> impl Strategy<Value = String> {
    let plain = FILTERS.len() - 4;
    select(if is_v5 { &FILTERS[..] } else { &FILTERS[..plain] }).prop_map(String::from)
}

fn action(is_v5: bool) -> BoxedStrategy<Action> {
    let subscribe = (filter(is_v5), options(is_v5)).prop_map(move |(filter, options)| {
        let is_shared = filter.starts_with("$share/");
        let no_local = options.no_local && !is_shared;
        // An identifier of its own tells for which group a message is, where several groups get it.
        let own = FILTERS.iter().zip(11..).find(|(known, _)| **known == filter).map(|(_, id)| id);
        let id = if is_shared { own } else { options.id };
        Action::Subscribe { filter, options: Options { no_local, id, ..options } }
    });
    let publish = publish()
        .prop_map(move |publish| Action::Publish(Publish { expiry: publish.expiry.filter(|_| is_v5), ..publish }));
    let kind = option::weighted(0.7, select(&KINDS[..]));
    let ack = (kind, select(&[1_usize, 1, 2, 5][..])).prop_map(|(kind, count)| Action::Ack { kind, count });
    let new_expiry = option::weighted(0.4, select(&[0_u32, 3, 20][..]));
    let disconnect = (chance(30), new_expiry).prop_map(move |(with_will, expiry)| Action::Disconnect {
        with_will: with_will && is_v5,
        expiry: expiry.filter(|_| is_v5),
    });
    prop_oneof![
        14 => connect(is_v5).prop_map(Action::Connect),
        16 => subscribe,
        3 => filter(is_v5).prop_map(|filter| Action::Unsubscribe { filter }),
        40 => publish,
        16 => ack,
        2 => Just(Action::Refuse),
        2 => Just(Action::Deaf),
        6 => Just(Action::Cut),
        3 => disconnect,
    ]
    .boxed()
}

fn step(versions: Vec<bool>) -> impl Strategy<Value = Step> {
    let of_client = (0..versions.len()).prop_flat_map(move |at| {
        let cut = (0..100_u8, 0..60_usize);
        (action(versions[at]), cut).prop_map(move |(action, (percent, cut))| {
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
    prop_oneof![12 => of_client, 1 => wait]
}

/// Every history there is.
pub(crate) fn histories() -> BoxedStrategy<Script> {
    let versions = vec(any::<bool>(), 1..=4).prop_map(|more| [vec![true, false], more].concat());
    versions
        .prop_flat_map(|versions| {
            // Everybody is there at first, most of the time.
            let arrivals: Vec<_> = versions.iter().map(|is_v5| connect(*is_v5)).collect();
            (arrivals, vec(step(versions), 24..=194))
        })
        .prop_map(|(arrivals, steps)| {
            let arrivals = NAMES.iter().zip(arrivals).map(|(name, connect)| Step::Client {
                name: (*name).into(),
                action: Action::Connect(connect),
                cut: None,
            });
            let mut steps: Vec<_> = arrivals.chain(steps).collect();
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
    let Step::Client { name, action, cut } = step else { return Vec::new() };
    let with = |action: Action| Step::Client { name: name.clone(), action, cut: *cut };
    let mut all = Vec::new();
    if cut.is_some_and(|cut| cut > 0) {
        all.push(Step::Client { name: name.clone(), action: action.clone(), cut: Some(0) });
    }
    match action {
        Action::Connect(connect) => {
            all.push(with(Action::Connect(Connect { will: None, ..connect.clone() })));
            all.push(with(Action::Connect(Connect { receive: None, ..connect.clone() })));
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
