//! The broker core against a reference model, over histories of several clients, as `docs/testing.md` describes.

mod client;
mod compare;
mod generate;
mod held;
mod observed;
mod reference;
mod room;
mod routing;
mod run;
mod script;
mod scripts;
mod wire;

use std::collections::BTreeMap;

use script::Script;

/// Histories of `cargo test`; `DAMSELFLY_HISTORIES` and `DAMSELFLY_SEED` say otherwise, and `DAMSELFLY_FIRST` where to begin.
const HISTORIES: u64 = 200;
const SEED: u64 = 1;

/// Below this number of histories a count of a rare feature says nothing.
const ENOUGH: u64 = 2_000;

/// What histories are made of: a run in which one of these is in less than 1 % of them has not tried enough.
const FEATURES: [&str; 99] = [
    "DISCONNECT changes the session expiry",
    "DISCONNECT deletes a will",
    "DISCONNECT would raise a session expiry of zero",
    "PUBACK refuses",
    "PUBREC refuses",
    "a 3.1.1 client",
    "a 3.1.1 publisher is closed because a queue is full",
    "a 5.0 client",
    "a CONNECT is refused",
    "a PUBLISH is refused",
    "a QoS 0 delivery",
    "a QoS 0 message finds its client away",
    "a QoS 0 message",
    "a QoS 1 delivery",
    "a QoS 1 message",
    "a QoS 2 delivery",
    "a QoS 2 message",
    "a SUBSCRIBE is refused",
    "a client is taken over before its CONNACK",
    "a client uses an alias above the maximum",
    "a client uses an alias it never set",
    "a client's alias comes to stand for another topic",
    "a client's alias stands for its topic",
    "a commit comes late",
    "a connection ends before its message is durable",
    "a connection ends before its message may be published",
    "a connection ends with a question that is open",
    "a connection is cut inside CONNECT",
    "a connection is cut inside PUBACK",
    "a connection is cut inside PUBCOMP",
    "a connection is cut inside PUBLISH",
    "a connection is cut inside PUBREC",
    "a connection is cut inside PUBREL",
    "a connection is cut inside SUBSCRIBE",
    "a delayed will is cancelled by a new connection",
    "a delayed will is published before its session ends",
    "a delayed will is published when its session ends",
    "a delivery at less than the QoS of the message",
    "a message expires before it has an effect",
    "a message expires while it waits",
    "a message is retained",
    "a message is sent again with DUP",
    "a message is too large for its client",
    "a message that expires",
    "a message waits behind one of its topic that is not durable",
    "a message waits for a client that is away",
    "a publisher is told that a queue is full",
    "a publisher repeats a QoS 2 message that is known",
    "a publisher repeats a message",
    "a question is answered late",
    "a question is not answered in time",
    "a queue is full",
    "a queue is full: the newest goes",
    "a queue is full: the oldest goes",
    "a retained message for a SUBSCRIBE",
    "a retained message is removed",
    "a retained message is replaced",
    "a retained will",
    "a session ends with messages that wait",
    "a session expires",
    "a session is resumed between PUBLISH and its acknowledgement",
    "a session is resumed between PUBREC and PUBCOMP",
    "a session is resumed with another version",
    "a session is resumed",
    "a share group has a choice",
    "a shared QoS 2 message that was sent ends with its session",
    "a shared delivery",
    "a shared message that was not sent moves to another member",
    "a shared message that was sent moves to another member",
    "a subscription ends",
    "a subscription identifier is delivered",
    "a subscription is replaced",
    "a takeover finds a will",
    "a takeover",
    "a will that would have to be asked about is not published",
    "a will without delay is published",
    "a window is full",
    "an alias of the broker comes to stand for another topic",
    "an alias of the broker stands for its topic",
    "an answer comes too late",
    "an answer leaves while later commits are held",
    "an expiry is decremented",
    "clean start ends a session",
    "cut before PUBACK to the broker",
    "cut before PUBCOMP to the broker",
    "cut before PUBREC to the broker",
    "cut before PUBREL to the broker",
    "messages wait for a window",
    "no local keeps a message back",
    "overlapping subscriptions make one delivery",
    "questions are answered in another order",
    "retain as published",
    "retained messages for a new subscription only: new",
    "retained messages for a new subscription only: not new",
    "retained messages for any SUBSCRIBE",
    "retained messages not wanted",
    "two subscription identifiers are delivered",
    "whether a client may publish is asked",
    "whether a client may subscribe is asked",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn the_broker_agrees_with_the_reference_over_histories() {
    let (histories, seed) = (number("DAMSELFLY_HISTORIES", HISTORIES), number("DAMSELFLY_SEED", SEED));
    let all = generate::histories();
    let first = number("DAMSELFLY_FIRST", 0);
    let mut counts: BTreeMap<&str, u64> = FEATURES.iter().map(|feature| (*feature, 0)).collect();
    for at in first..first + histories {
        let script = generate::history(&all, seed.wrapping_mul(1_000_000_007).wrapping_add(at));
        match run::play(&script) {
            Ok(features) => features.into_iter().for_each(|feature| *counts.entry(feature).or_default() += 1),
            Err(error) => {
                println!("history {at} of seed {seed} disagrees: {error}");
                assert!(number("DAMSELFLY_SHRINK", 1) > 0, "a history disagrees");
                let script = generate::shrink(script, |smaller| run::play(smaller).is_err());
                let error = run::play_aloud(&script).unwrap_err();
                panic!("history {at} of seed {seed} disagrees:\n{error}\n\nthe script:\n{script}");
            }
        }
    }
    println!("{histories} histories of seed {seed} agree; how many have");
    for (feature, count) in &counts {
        println!("{count:>8}  {feature}");
    }
    let rare: Vec<_> = FEATURES.iter().filter(|feature| counts[*feature] * 100 < histories).collect();
    assert!(histories < ENOUGH || rare.is_empty(), "in less than 1 % of the histories: {rare:?}");
}

#[test]
fn scripts_are_read_as_they_are_written() {
    let all = generate::histories();
    for seed in 0..50 {
        let script = generate::history(&all, seed);
        assert_eq!(script.to_string().parse::<Script>().unwrap(), script);
    }
    for line in [
        "hold on",
        "limits when-full=never",
        "answer maybe 1",
        "commit all",
        "alice: sing",
        "wait",
        "alice: publish qos1 \"a",
        "alice: connect 5.0 loudly",
        "alice: ack many",
    ] {
        assert!(line.parse::<Script>().is_err(), "{line}");
    }
}
