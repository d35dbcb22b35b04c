//! The conformance cases against our own core, in virtual time.

use std::collections::BTreeSet;

use damselfly_broker::{Config, ConfigError};
use damselfly_codec::{QoS, Version};
use damselfly_session::Timestamp;
use damselfly_sim::conformance::{Case, Outcome, Output, Run, Setup, VirtualBroker, cases};

/// What went wrong, readable; nothing if all is well.
fn complaint(case: &Case, version: Version, outcome: &Outcome) -> Option<String> {
    let what = match outcome {
        Outcome::Passed { remarks } if remarks.is_empty() => return None,
        Outcome::Passed { remarks } => remarks.join("\n  "),
        Outcome::Skipped(why) if is_about_others(why) => return None,
        Outcome::Skipped(why) => format!("skipped: {why}"),
        Outcome::Failed(failure) => {
            format!("{}\n  expected: {}\n  came: {}", failure.transcript.join("\n  "), failure.expected, failure.came)
        }
    };
    Some(format!("{} ({version}): {}\n  {what}", case.name(), case.about()))
}

/// Whether a case is skipped because the broker has everything; a test of its own shows that such a case is run somewhere.
fn is_about_others(why: &str) -> bool {
    why.starts_with("is about a broker without ") || why == "needs short_keep_alive"
}

fn runs(cases: &[Case]) -> Vec<(&Case, Version)> {
    cases.iter().flat_map(|case| case.versions().map(move |version| (case, version))).collect()
}

#[test]
fn our_broker_passes_every_case_without_a_remark() {
    let cases = cases().unwrap();
    let complaints: Vec<_> = runs(&cases)
        .into_iter()
        .filter_map(|(case, version)| {
            let outcome = VirtualBroker::new(Config::default()).unwrap().run(case, version);
            complaint(case, version, &outcome)
        })
        .collect();
    assert!(complaints.is_empty(), "{} cases:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn cases_do_not_disturb_each_other_and_leave_nothing_behind() {
    let cases = cases().unwrap();
    let runs = runs(&cases);
    let mut broker = VirtualBroker::new(Config::default()).unwrap();
    let outcomes = broker.run_together(&runs);
    let complaints: Vec<_> = runs
        .iter()
        .zip(&outcomes)
        .filter_map(|((case, version), outcome)| complaint(case, *version, outcome))
        .collect();
    assert!(complaints.is_empty(), "{} cases:\n{}", complaints.len(), complaints.join("\n"));
    assert_nothing_left(&broker);
}

fn assert_nothing_left(broker: &VirtualBroker) {
    for broker in broker.brokers() {
        assert_eq!(broker.connections_len(), 0, "connections");
        assert_eq!(broker.sessions_len(), 0, "sessions");
        assert_eq!(broker.subscriptions_len(), 0, "subscriptions");
        assert_eq!(broker.messages_len(), 0, "retained and queued messages");
    }
}

/// No case is left out: what a client sees is the same.
#[test]
fn two_joined_brokers_pass_every_case_wherever_its_clients_are() {
    let cases = cases().unwrap();
    let runs = runs(&cases);
    // By placement; the first client is always at the first broker.
    let mut pairs: Vec<_> = (0..8).map(|n| VirtualBroker::joined(Config::default(), n << 1).unwrap()).collect();
    let mut complaints = Vec::new();
    let mut apart = 0;
    for (case, version) in &runs {
        let (mut n, mut placements) = (0, 1);
        while n < placements {
            let outcome = pairs[n].run(case, *version);
            complaints.extend(complaint(case, *version, &outcome).map(|what| format!("placement {n}: {what}")));
            placements = 1 << pairs[n].most_clients().saturating_sub(1);
            apart += usize::from(n > 0);
            n += 1;
        }
    }
    assert!(complaints.is_empty(), "{} cases:\n{}", complaints.len(), complaints.join("\n"));
    assert!(apart >= 200, "{apart} runs with clients of both");
    pairs.iter().for_each(assert_nothing_left);
}

/// Brokers that each lack something, and between them everything that a case can be about.
fn brokers_that_lack_something() -> Vec<(&'static str, Config)> {
    type Lack = fn(&mut Config);
    let lacking: [(&str, Lack); 9] = [
        ("QoS 2", |config| config.maximum_qos = QoS::AtLeastOnce),
        ("QoS 1 and 2", |config| config.maximum_qos = QoS::AtMostOnce),
        ("retained messages", |config| config.retain_available = false),
        ("wildcard subscriptions", |config| config.wildcard_subscription_available = false),
        ("Shared Subscriptions", |config| config.shared_subscription_available = false),
        ("Subscription Identifiers", |config| config.subscription_ids_available = false),
        ("Topic Aliases", |config| config.topic_alias_maximum = 0),
        ("empty Client Identifiers and much patience", |config| {
            config.allow_empty_client_id = false;
            config.max_keep_alive = 40;
            config.max_session_expiry = Some(1_800);
        }),
        ("room", |config| {
            config.receive_maximum = 3;
            config.max_packet_size = 20_000;
            config.max_inflight = 3;
        }),
    ];
    lacking
        .into_iter()
        .map(|(what, lack)| {
            let mut config = Config::default();
            lack(&mut config);
            (what, config)
        })
        .collect()
}

/// Every other client of a case is at the second of two brokers.
const ALTERNATING: u32 = 0b1010;

#[test]
fn a_broker_that_lacks_something_passes_what_is_left_and_every_case_is_run_somewhere() {
    is_passed_where_it_is_about(VirtualBroker::new);
}

#[test]
fn two_joined_brokers_that_lack_something_do_too() {
    is_passed_where_it_is_about(|config| VirtualBroker::joined(config, ALTERNATING));
}

/// Runs all cases against brokers made with one configuration after the other.
fn is_passed_where_it_is_about(broker: impl Fn(Config) -> Result<VirtualBroker, ConfigError>) {
    let cases = cases().unwrap();
    let runs = runs(&cases);
    let (mut passed, mut complaints) = (BTreeSet::new(), Vec::new());
    let everything = ("nothing", Config::default());
    for (what, config) in std::iter::once(everything).chain(brokers_that_lack_something()) {
        let mut broker = broker(config).unwrap();
        for (number, ((case, version), outcome)) in runs.iter().zip(broker.run_together(&runs)).enumerate() {
            match outcome {
                Outcome::Passed { ref remarks } if remarks.is_empty() => drop(passed.insert(number)),
                Outcome::Skipped(_) => {}
                outcome => {
                    complaints.extend(complaint(case, *version, &outcome).map(|it| format!("without {what}: {it}")));
                }
            }
        }
    }
    // Cases that take longer than a few seconds are about no broker as impatient as this one.
    let mut config = Config::default();
    config.max_keep_alive = 2;
    let mut broker = broker(config).unwrap();
    for (number, (case, version)) in runs.iter().enumerate() {
        if case.name().starts_with("limited/server-keep-alive") {
            match broker.run(case, *version) {
                Outcome::Passed { remarks } if remarks.is_empty() => drop(passed.insert(number)),
                outcome => complaints.extend(complaint(case, *version, &outcome)),
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let nowhere = runs.iter().enumerate().filter(|(number, _)| !passed.contains(number));
    let nowhere: Vec<_> = nowhere.map(|(_, (case, version))| format!("{} ({version})", case.name())).collect();
    assert!(nowhere.is_empty(), "run nowhere: {nowhere:#?}");
}

#[test]
fn every_case_has_a_name_of_its_own_a_sentence_and_a_statement() {
    let cases = cases().unwrap();
    let names: BTreeSet<_> = cases.iter().map(Case::name).collect();
    assert_eq!(names.len(), cases.len(), "names are unique");
    for case in &cases {
        assert!(case.about().ends_with('.') && case.about().len() <= 130, "{}: {}", case.name(), case.about());
        assert!(case.versions().next().is_some(), "{} shows nothing", case.name());
    }
    assert!(runs(&cases).len() >= 200, "{} runs", runs(&cases).len());
}

/// A case with a broker played by hand, which answers each thing sent with what `answer` says.
fn played(case: &str, version: Version, mut answer: impl FnMut(&[u8]) -> Vec<u8>) -> Outcome {
    let cases = cases().unwrap();
    let case = cases.iter().find(|other| other.name() == case).unwrap();
    let mut now = Timestamp::from_secs(1);
    let mut run = Run::new(now, case, version, 1, Setup::new("hand"));
    while !run.is_over() {
        match run.poll_output() {
            Some(Output::Send(link, bytes)) => {
                let bytes = answer(&bytes);
                if bytes == b"end" {
                    run.handle_end(now, link);
                } else {
                    run.handle_input(now, link, &bytes);
                }
            }
            Some(Output::Open(_) | Output::Close(_)) => {}
            None => {
                now = now.max(run.poll_timeout().unwrap());
                run.handle_timeout(now);
            }
        }
    }
    run.outcome().unwrap().clone()
}

fn failure(case: &str, version: Version, answer: impl FnMut(&[u8]) -> Vec<u8>) -> (Vec<&'static str>, String) {
    match played(case, version, answer) {
        Outcome::Failed(failure) => (failure.statements, failure.came),
        other => panic!("{case}: {other:?}"),
    }
}

const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];

#[test]
fn a_broker_that_says_nothing_fails_after_a_while() {
    let (statements, came) = failure("connect/accepted", Version::V3_1_1, |_| Vec::new());
    assert_eq!(statements, ["MQTT3-3.1.4-4", "MQTT3-3.2.2-1", "MQTT3-3.12.4-1"]);
    assert_eq!(came, "nothing");
    let (_, came) = failure("connect/accepted", Version::V3_1_1, |_| b"end".to_vec());
    assert_eq!(came, "the end of the connection");
}

#[test]
fn rules_of_every_connection_are_seen_broken_in_any_case() {
    let broken = |answer: &[u8]| failure("connect/accepted", Version::V5_0, |_| answer.to_vec());
    assert_eq!(broken(&[0xD0, 0]).0, ["MQTT-3.2.0-1"]);
    assert_eq!(broken(&[0xE0, 1, 0x80]).0, ["MQTT-3.14.0-1"]);
    assert_eq!(broken(&[CONNACK, CONNACK].concat()).0, ["MQTT-3.2.0-2"]);
    assert_eq!(broken(&[CONNACK, &[0xE0, 1, 0x8B, 0xD0, 0]].concat()).0, ["MQTT-3.14.4-1"]);
    assert_eq!(broken(&[0x20, 3, 1, 0x80, 0]).0, ["MQTT-3.2.2-6"]);
    assert_eq!(broken(&[CONNACK, &[0xF0, 0]].concat()).0, ["MQTT-4.12.0-6"]);
    assert_eq!(broken(&[CONNACK, &[0x36, 5, 0, 1, b't', 0, 1]].concat()).0, ["MQTT-3.3.1-4"]);
    assert_eq!(broken(&[CONNACK, b"\x30\x08\0\x01t\x03\x23\0\x01x"].concat()).0, ["MQTT-3.1.2-26"]);
    assert_eq!(broken(&[CONNACK, &[0x82, 7, 0, 1, 0, 0, 1, b't', 0]].concat()).1, "SUBSCRIBE");
}

#[test]
fn limits_of_the_client_are_seen_broken() {
    let too_many =
        [CONNACK, b"\x32\x06\0\x01t\0\x01\0", b"\x32\x06\0\x01t\0\x02\0", b"\x32\x06\0\x01t\0\x03\0"].concat();
    let (statements, _) = failure("flow/exactly-receive-maximum", Version::V5_0, |_| too_many.clone());
    assert_eq!(statements, ["MQTT-3.3.4-9"]);
    let (statements, _) = failure("connect/maximum-packet-size-of-four", Version::V5_0, |_| CONNACK.to_vec());
    assert_eq!(statements, ["MQTT-3.1.2-24"]);
}

#[test]
fn what_should_be_is_remarked_and_what_must_be_fails() {
    let refused = |code: u8| {
        let mut has_connack = false;
        played("connect/twice", Version::V5_0, move |sent| {
            let is_first = !std::mem::replace(&mut has_connack, true);
            match sent {
                [0x10, ..] if is_first => CONNACK.to_vec(),
                [0x10, ..] if code == 0 => b"end".to_vec(),
                [0x10, ..] => vec![0xE0, 1, code],
                _ => Vec::new(),
            }
        })
    };
    let Outcome::Passed { remarks } = refused(0) else { panic!("the end is enough") };
    assert_eq!(remarks, ["a closed 82: closed without DISCONNECT 82"]);
    let Outcome::Failed(failure) = refused(0x82) else { panic!("DISCONNECT alone does not close") };
    assert_eq!(failure.came, "DISCONNECT 82, then nothing");
}

#[test]
fn a_case_that_needs_what_the_broker_does_not_have_is_skipped() {
    let cases = cases().unwrap();
    let mut config = Config::default();
    config.retain_available = false;
    config.maximum_qos = QoS::AtMostOnce;
    config.shared_subscription_available = false;
    let mut broker = VirtualBroker::new(config).unwrap();
    let runs = runs(&cases);
    for ((case, version), outcome) in runs.iter().zip(broker.run_together(&runs)) {
        assert!(!matches!(outcome, Outcome::Failed(_)), "{:?}", complaint(case, *version, &outcome));
    }
    let in_bytes = cases.iter().find(|case| case.name() == "connect/in-pieces").unwrap();
    let mut setup = Setup::new("user");
    setup.user_name = Some("u".to_owned());
    let run = Run::new(Timestamp::from_secs(1), in_bytes, Version::V5_0, 1, setup);
    assert_eq!(run.outcome(), Some(&Outcome::Skipped("needs anonymous".to_owned())));
    let shared = cases.iter().find(|case| case.name() == "shared/no-local").unwrap();
    assert_eq!(broker.run(shared, Version::V5_0), Outcome::Skipped("needs shared".to_owned()));
    // Nobody said how to authenticate.
    let steps = cases.iter().find(|case| case.name() == "auth/several-steps").unwrap();
    let run = Run::new(Timestamp::from_secs(1), steps, Version::V5_0, 1, Setup::new("none"));
    assert_eq!(run.outcome(), Some(&Outcome::Skipped("needs authentication".to_owned())));
}

#[test]
fn a_case_about_a_broker_without_something_is_skipped_where_it_is_there() {
    let cases = cases().unwrap();
    let publish = cases.iter().find(|case| case.name() == "limited/retain-in-publish").unwrap();
    let why = "is about a broker without retain".to_owned();
    let mut broker = VirtualBroker::new(Config::default()).unwrap();
    assert_eq!(broker.run(publish, Version::V5_0), Outcome::Skipped(why));
    let mut config = Config::default();
    config.retain_available = false;
    let mut broker = VirtualBroker::new(config).unwrap();
    assert_eq!(broker.run(publish, Version::V5_0), Outcome::Passed { remarks: Vec::new() });
}
