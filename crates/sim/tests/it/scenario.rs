//! Worlds with faults of every kind, one from each seed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use damselfly_sim::{Fault, Feature, Scenario, ScriptError};

/// How many seeds: `DAMSELFLY_SEEDS`, else 2,000.
fn seeds() -> u64 {
    std::env::var("DAMSELFLY_SEEDS").map_or(2_000, |seeds| seeds.parse().unwrap())
}

/// What happened in the worlds of some seeds.
#[derive(Default)]
struct Played {
    faults: BTreeSet<Fault>,
    features: BTreeSet<Feature>,
    /// The first one that did not hold, and why.
    failed: Option<(u64, String)>,
}

/// Plays one seed after the other until none is left, or one does not hold.
fn play(next: &AtomicU64, seeds: u64) -> Played {
    let mut played = Played::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds {
            return played;
        }
        let report = match Scenario::from_seed(seed).run() {
            Ok(report) => report,
            Err(failure) => {
                next.store(seeds, Ordering::Relaxed);
                played.failed = Some((seed, failure.to_string()));
                return played;
            }
        };
        assert!(report.duration.as_secs() >= 3_600, "seed {seed}: {:?}", report.duration);
        assert!(report.deliveries > report.messages && report.messages > 150, "seed {seed}: {report:?}");
        played.faults.extend(report.faults.keys());
        played.features.extend(report.features.keys());
    }
}

/// [MQTT-3.1.2-8] [MQTT-3.3.1-1] [MQTT-3.3.2-6] [MQTT-4.3.2-3] [MQTT-4.3.3-10] [MQTT-4.4.0-1] [MQTT-4.6.0-1]
/// [MQTT-4.7.2-1] [MQTT-4.9.0-2]
#[test]
fn what_is_promised_holds_in_the_world_of_each_seed_and_every_kind_of_fault_occurs() {
    let (next, seeds) = (AtomicU64::new(0), seeds());
    let played: Vec<Played> = thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(|| play(&next, seeds))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    if let Some((seed, failure)) = played.iter().filter_map(|played| played.failed.as_ref()).min() {
        panic!("seed {seed}: {failure}\n{}", Scenario::from_seed(*seed).shrink());
    }
    let happened = |fault: &Fault| played.iter().any(|played| played.faults.contains(fault));
    let missing: Vec<_> = Fault::ALL.into_iter().filter(|fault| !happened(fault)).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
    let occurred = |feature: &Feature| played.iter().any(|played| played.features.contains(feature));
    let missing: Vec<_> = Feature::ALL.into_iter().filter(|feature| !occurred(feature)).collect();
    assert!(missing.is_empty(), "never occurred: {missing:?}");
}

#[test]
fn plan_of_each_seed_has_four_clients_of_both_versions_two_hundred_messages_and_five_faults() {
    for seed in 0..500 {
        let text = Scenario::from_seed(seed).to_string();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert!(count("client 5.0") >= 1 && count("client 3.1.1") >= 1, "{text}");
        assert!((4..=6).contains(&text.lines().filter(|line| line.starts_with("client")).count()), "{text}");
        assert_eq!(count(" publish "), 200, "{text}");
        let faults = [" cut", " half-open", " stall", " partition", " again", " crash"].map(count);
        assert!(faults.into_iter().sum::<usize>() >= 5, "{text}");
    }
}

#[test]
fn scenario_comes_back_from_its_text_and_happens_in_the_same_way() {
    for seed in 0..5 {
        let scenario = Scenario::from_seed(seed);
        let again: Scenario = scenario.to_string().parse().unwrap();
        assert_eq!(again, scenario);
        let trace = scenario.trace();
        assert!(trace.lines().count() > 2_000, "all of it is told");
        assert!(again.trace() == trace, "seed {seed}");
    }
}

#[test]
fn line_that_is_none_of_a_scenario_is_named() {
    let broken = |text: &str| text.parse::<Scenario>().unwrap_err();
    assert_eq!(broken("seed 1\nclient 5.0 3\n100 0 cut\n100 0 jump"), ScriptError(4));
    assert_eq!(broken("seed 1\nclient 3.1.1 3 will 20"), ScriptError(2), "a delay needs 5.0");
    assert_eq!(broken("client 5.0 0"), ScriptError(1), "a Receive Maximum of 0");
    assert_eq!(broken("client 5.0 3\n100 0 publish 4 qos1 len 0"), ScriptError(2), "there are four topics");
    assert_eq!(broken("client 5.0 3\n100 1 cut"), ScriptError(0), "there is one client");
    assert_eq!(broken(""), ScriptError(0), "and here is none");
    let seven = "client 5.0 3\n".repeat(7);
    assert_eq!(broken(&seven), ScriptError(7));
}

#[test]
fn scenario_is_cut_down_to_the_steps_that_matter() {
    let scenario = Scenario::from_seed(3);
    let matters = |scenario: &Scenario| {
        let text = scenario.to_string();
        text.contains(" qos2") && text.contains(" crash")
    };
    let short = scenario.shrink_while(matters).to_string();
    let steps: Vec<_> = short.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).collect();
    assert!(matters(&scenario) && steps.len() == 2, "{short}");
}

/// Client 1 sends 1.1, 1.2 and 1.3, and after its crash all of them again; client 0 gets 1.1, 1.3, then 1.1, 1.2 and 1.3, for
/// its full queue dropped the first copy of 1.2.
#[test]
fn message_whose_first_copy_was_dropped_comes_where_its_publisher_sent_it_again() {
    let script = "seed 27557
latency 400 200
link 16 300
window 2
queue 10
client 5.0 1 queue 5
client 3.1.1 1 outbox
client 5.0 65535
client 3.1.1 3 manual
client 3.1.1 1 manual
46537 4 publish 2 qos2 len 0
407482 1 publish 0 qos0 len 0
407634 2 publish 3 qos2 len 0
408001 0 half-open broker
408457 4 publish 3 qos0 len 0
408573 4 publish 0 qos0 len 20
408654 2 publish 0 qos0 len 300
446255 3 publish 2 qos2 len 20
867563 4 publish 0 qos2 len 0
867698 3 publish 2 qos1 len 0
1181959 3 publish 0 qos2 len 0
1182010 1 publish 0 qos1 len 300
1182213 4 publish 1 qos2 len 0
1182227 1 publish 1 qos1 len 20
1182285 1 publish 1 qos1 len 20
1182421 3 publish 1 qos1 len 0
1182430 3 publish 1 qos2 len 0
1182745 3 publish 2 qos2 len 300
1182774 0 publish 0 qos2 len 0
1182787 2 publish 2 qos1 len 0
1182906 1 crash 9184
1182972 3 publish 0 qos2 len 300
1183068 2 publish 2 qos2 len 20
1183117 0 publish 0 qos1 len 0
1183136 4 publish 1 qos2 len 0
1183169 2 publish 1 qos1 len 300 expiry 30
1183201 3 publish 2 qos1 len 0
";
    script.parse::<Scenario>().unwrap().run().unwrap();
}
