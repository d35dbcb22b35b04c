//! Messages between clients whose connections are cut again and again: nothing acknowledged is lost, QoS 2 is delivered
//! once, the order of each publisher holds, every ticket has one outcome.

use core::time::Duration;
use std::collections::BTreeMap;

use damselfly_client::{Acknowledgement, Config, Event, Outcome, Ticket};
use damselfly_codec::{QoS, ReasonCode, Version};
use damselfly_session::SessionExpiry;
use damselfly_sim::{MemberId, Sim, World};
use damselfly_topic::{TopicFilter, TopicName};

const MESSAGES: usize = 30;

fn stormy() -> World {
    let mut world = World::default();
    world.cut_within = Some(Duration::from_secs(6));
    // Exchanges take about as long as connections last, so that many are cut in the middle.
    world.latency = (Duration::from_millis(1), Duration::from_millis(400));
    world
}

fn persistent(sim: &mut Sim, name: &str, version: Version, change: impl FnOnce(&mut Config)) -> MemberId {
    let mut config = Config::new(name);
    config.version = version;
    config.session_expiry = SessionExpiry::Never;
    change(&mut config);
    sim.add(config)
}

struct Run {
    outcomes: BTreeMap<Ticket, Vec<Outcome>>,
    tickets: Vec<(QoS, Ticket)>,
    /// What the subscriber got at each QoS, in order.
    received: BTreeMap<QoS, Vec<usize>>,
    cuts: usize,
}

/// A publisher and a subscriber, both cut at random. If the subscriber acknowledges by hand, it does so half a second
/// later and in reverse. The Receive Maximum is that of all.
fn run(seed: u64, versions: [Version; 2], receive_maximum: u16, acknowledgement: Acknowledgement) -> Run {
    let receive_maximum = core::num::NonZeroU16::new(receive_maximum).unwrap();
    let mut world = stormy();
    world.broker.receive_maximum = receive_maximum.get();
    let mut sim = Sim::new(world, seed).unwrap();
    let subscriber = persistent(&mut sim, "subscriber", versions[1], |config| {
        config.receive_maximum = receive_maximum;
        config.acknowledgement = acknowledgement;
    });
    sim.subscribe(subscriber, TopicFilter::new("t/#").unwrap(), QoS::ExactlyOnce).unwrap();
    // Until somebody subscribes there is nothing to lose.
    while !sim.trace().contains("Subscribed { client_id: \"subscriber\"") {
        assert!(sim.step());
    }
    let publisher = persistent(&mut sim, "publisher", versions[0], |_| ());
    let (mut tickets, mut tokens) = (Vec::new(), Vec::new());
    let mut received: BTreeMap<QoS, Vec<usize>> = BTreeMap::new();
    let mut outcomes: BTreeMap<Ticket, Vec<Outcome>> = BTreeMap::new();
    for round in 0..MESSAGES + 200 {
        if round < MESSAGES {
            for (qos, topic) in [(QoS::AtLeastOnce, "t/1"), (QoS::ExactlyOnce, "t/2")] {
                let payload = round.to_string();
                let ticket = sim.publish(publisher, TopicName::new(topic).unwrap(), payload.as_bytes(), qos).unwrap();
                tickets.push((qos, ticket));
            }
        } else if round == MESSAGES + 20 {
            sim.calm_down();
        }
        sim.run_for(Duration::from_millis(500));
        for event in sim.take_events(publisher) {
            if let Event::Completed { ticket, outcome } = event {
                outcomes.entry(ticket).or_default().push(outcome);
            }
        }
        let due = core::mem::take(&mut tokens);
        for event in sim.take_events(subscriber) {
            let Event::Message(inbound) = event else { continue };
            let payload = std::str::from_utf8(inbound.message.payload()).unwrap();
            received.entry(inbound.message.qos()).or_default().push(payload.parse().unwrap());
            tokens.extend(inbound.ack);
        }
        for token in due.into_iter().rev() {
            // A token of a connection that was cut meanwhile is stale: the broker sends that message again.
            let _ = sim.act(subscriber, |client, now| client.acknowledge(now, token, ReasonCode::Success));
        }
    }
    Run { outcomes, tickets, received, cuts: sim.trace().matches("is cut").count() }
}

fn check(run: &Run, seed: u64) {
    let all: Vec<usize> = (0..MESSAGES).collect();
    for (qos, ticket) in &run.tickets {
        let outcomes = run.outcomes.get(ticket).map_or(&[][..], Vec::as_slice);
        assert!(matches!(outcomes, [Outcome::Acknowledged { .. }]), "seed {seed}: {qos:?} {ticket:?} {outcomes:?}");
    }
    assert_eq!(run.received[&QoS::ExactlyOnce], all, "seed {seed}: exactly once and in order");
    // A repeat may come; without the repeats the order is that of publishing.
    let mut first_seen = Vec::new();
    for number in &run.received[&QoS::AtLeastOnce] {
        if !first_seen.contains(number) {
            first_seen.push(*number);
        }
    }
    assert_eq!(first_seen, all, "seed {seed}: at least once and in order");
}

/// [MQTT-4.3.2-3] [MQTT-4.3.3-10] [MQTT-4.4.0-1] [MQTT-4.6.0-1]
#[test]
fn messages_survive_connections_that_are_cut_at_any_byte() {
    let mut cuts = 0;
    for seed in 0..40 {
        let versions = match seed % 4 {
            0 => [Version::V5_0, Version::V5_0],
            1 => [Version::V3_1_1, Version::V5_0],
            2 => [Version::V5_0, Version::V3_1_1],
            _ => [Version::V3_1_1, Version::V3_1_1],
        };
        let run = run(seed, versions, 65_535, Acknowledgement::Automatic);
        check(&run, seed);
        cuts += run.cuts;
    }
    assert!(cuts > 200, "the test is about connections that are cut: {cuts}");
}

/// [MQTT-3.3.4-9] [MQTT-4.9.0-2]
#[test]
fn small_receive_maximum_loses_nothing() {
    for seed in 100..120 {
        let run = run(seed, [Version::V5_0; 2], 3, Acknowledgement::Automatic);
        check(&run, seed);
    }
}

/// [MQTT-4.6.0-2] [MQTT-4.6.0-3]
#[test]
fn acknowledgements_by_hand_in_reverse_lose_nothing() {
    for seed in 200..220 {
        let run = run(seed, [Version::V5_0; 2], 5, Acknowledgement::Manual);
        check(&run, seed);
    }
}
