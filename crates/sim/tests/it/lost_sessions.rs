//! Sessions that the broker forgets while their client is away: every ticket still has one outcome, and subscriptions
//! come back.

use core::time::Duration;
use std::collections::BTreeMap;

use damselfly_client::{Config, Event, LostSession, Outcome, SessionStatus};
use damselfly_codec::{QoS, Version};
use damselfly_session::SessionExpiry;
use damselfly_sim::{Sim, World};
use damselfly_topic::{TopicFilter, TopicName};

fn world() -> World {
    let mut world = World::default();
    world.cut_within = Some(Duration::from_secs(6));
    world.latency = (Duration::from_millis(1), Duration::from_millis(400));
    world
}

fn forgetful(name: &str, version: Version, lost_session: LostSession) -> Config {
    let mut config = Config::new(name);
    config.version = version;
    // Before 5.0 nothing between "with the connection" and "for ever" can be asked for.
    config.session_expiry = match version {
        Version::V5_0 => SessionExpiry::from_wire(Some(1)),
        Version::V3_1 | Version::V3_1_1 => SessionExpiry::OnClose,
    };
    config.lost_session = lost_session;
    config.topic_alias_maximum = 2;
    config
}

/// Runs one world and returns how many sessions were lost or new in it.
fn run(seed: u64, version: Version, lost_session: LostSession) -> usize {
    let mut sim = Sim::new(world(), seed).unwrap();
    let members = ["a", "b", "c"].map(|name| sim.add(forgetful(name, version, lost_session)));
    for member in members {
        sim.subscribe(member, TopicFilter::new("t/#").unwrap(), QoS::ExactlyOnce).unwrap();
    }
    let mut outcomes: BTreeMap<(usize, u64), Vec<Outcome>> = BTreeMap::new();
    let mut tickets = Vec::new();
    let mut sessions = 0;
    // Waits between attempts grow to a minute, so the calm lasts longer than that.
    for round in 0..260_usize {
        if round == 60 {
            sim.calm_down();
        } else if round < 60 {
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][round % 3];
            let topic = format!("t/{}", round % 5);
            let at = round % members.len();
            let ticket = sim.publish(members[at], TopicName::new(&topic).unwrap(), b"x", qos).unwrap();
            tickets.push((at, ticket.get(), qos));
        }
        sim.run_for(Duration::from_millis(500));
        for (at, member) in members.into_iter().enumerate() {
            for event in sim.take_events(member) {
                match event {
                    Event::Completed { ticket, outcome } => {
                        outcomes.entry((at, ticket.get())).or_default().push(outcome);
                    }
                    Event::Connected(connected) if connected.session != SessionStatus::Resumed => sessions += 1,
                    _ => {}
                }
            }
        }
    }
    for (at, ticket, qos) in tickets {
        let outcomes = outcomes.get(&(at, ticket)).map_or(&[][..], Vec::as_slice);
        let fits = match outcomes {
            [Outcome::Transmitted] => qos == QoS::AtMostOnce,
            [Outcome::Acknowledged { .. }] => qos != QoS::AtMostOnce,
            [Outcome::Indeterminate(_)] => qos != QoS::AtLeastOnce || lost_session == LostSession::Report,
            _ => false,
        };
        assert!(fits, "seed {seed}: client {at} ticket {ticket} {qos:?}: {outcomes:?}");
    }
    sim.publish(members[0], TopicName::new("t/last").unwrap(), b"last", QoS::ExactlyOnce).unwrap();
    sim.run_for(Duration::from_secs(10));
    for member in members {
        let is_last = |event: &Event| matches!(event, Event::Message(inbound) if inbound.message.payload() == b"last");
        assert_eq!(sim.take_events(member).iter().filter(|event| is_last(event)).count(), 1, "seed {seed}");
    }
    sessions
}

/// [MQTT-3.2.2-5]
#[test]
fn every_ticket_has_one_outcome_and_every_subscription_is_restored() {
    let mut sessions = 0;
    // 938: a connection is cut between CONNACK of a new session and the SUBSCRIBE that restores it.
    for seed in (0..24).chain([938]) {
        let version = if seed % 2 == 0 { Version::V5_0 } else { Version::V3_1_1 };
        let lost_session = if seed % 4 < 2 { LostSession::Report } else { LostSession::RepublishAtLeastOnce };
        sessions += run(seed, version, lost_session);
    }
    assert!(sessions > 24 * 6, "the test is about sessions that are lost: {sessions}");
}
