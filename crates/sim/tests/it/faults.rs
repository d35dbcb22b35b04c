//! What can go wrong, one thing at a time, and what the cores make of it.

use core::time::Duration;
use std::collections::BTreeMap;

use damselfly_client::{Config, ConnectionEnd, Event, OutboxConfig, Outcome};
use damselfly_codec::{QoS, Version};
use damselfly_session::SessionExpiry;
use damselfly_sim::{End, MemberId, Sim, World};
use damselfly_topic::{TopicFilter, TopicName};

const SECOND: Duration = Duration::from_secs(1);

fn persistent(name: &str, version: Version) -> Config {
    let mut config = Config::new(name);
    config.version = version;
    config.session_expiry = SessionExpiry::Never;
    config
}

/// A publisher and a subscriber of everything, both connected.
fn pair(world: World, seed: u64, version: Version) -> (Sim, [MemberId; 2]) {
    let mut sim = Sim::new(world, seed).unwrap();
    let [publisher, subscriber] = ["publisher", "subscriber"].map(|name| sim.add(persistent(name, version)));
    sim.subscribe(subscriber, TopicFilter::new("#").unwrap(), QoS::ExactlyOnce).unwrap();
    sim.run_for(SECOND);
    (sim, [publisher, subscriber])
}

fn publish(sim: &mut Sim, member: MemberId, payload: &str, qos: QoS) {
    sim.publish(member, TopicName::new("t").unwrap(), payload.as_bytes(), qos).unwrap();
}

fn payloads(events: &[Event]) -> Vec<String> {
    let payload = |event: &Event| match event {
        Event::Message(inbound) => Some(String::from_utf8_lossy(inbound.message.payload()).into_owned()),
        _ => None,
    };
    events.iter().filter_map(payload).collect()
}

fn ends(events: &[Event]) -> Vec<ConnectionEnd> {
    let end = |event: &Event| if let Event::Disconnected(end) = event { Some(end.clone()) } else { None };
    events.iter().filter_map(end).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// [MQTT-3.1.2-20]
#[test]
fn client_finds_out_by_its_pings_that_its_connection_is_half_open() {
    let (mut sim, [publisher, subscriber]) = pair(World::default(), 7, Version::V5_0);
    sim.take_events(subscriber);
    sim.half_open(subscriber, End::Broker);
    publish(&mut sim, publisher, "0", QoS::ExactlyOnce);
    sim.run_for(30 * SECOND);
    assert!(sim.client(subscriber).is_connected(), "nothing has told it yet");
    assert!(sim.broker().session("subscriber").unwrap().connection.is_none());

    sim.run_for(60 * SECOND);
    let events = sim.take_events(subscriber);
    assert_eq!(ends(&events), [ConnectionEnd::PingTimeout]);
    assert_eq!(payloads(&events), ["0"]);
}

/// [MQTT-3.1.2-22] [MQTT-3.1.4-3]
#[test]
fn broker_takes_a_half_open_connection_for_open_until_its_client_is_back() {
    let (mut sim, [publisher, subscriber]) = pair(World::default(), 7, Version::V3_1_1);
    publish(&mut sim, publisher, "0", QoS::ExactlyOnce);
    sim.half_open(subscriber, End::Client);
    let before = sim.broker().session("subscriber").unwrap().connection;
    assert!(before.is_some());
    sim.run_for(10 * SECOND);
    let after = sim.broker().session("subscriber").unwrap().connection;
    assert!(after.is_some() && after != before);
    assert_eq!(payloads(&sim.take_events(subscriber)), ["0"]);
    assert_eq!(sim.broker().connections_len(), 2, "the old one is gone");
}

#[test]
fn link_to_a_reader_that_stalls_holds_no_more_than_its_capacity_and_nothing_is_lost() {
    for reader in [End::Broker, End::Client] {
        let mut world = World::default();
        world.capacity = 1_000;
        let (mut sim, [publisher, subscriber]) = pair(world, 7, Version::V5_0);
        let (stalled, name) = if reader == End::Broker { (publisher, "publisher") } else { (subscriber, "subscriber") };
        let seen = sim.trace().len();
        sim.stall(stalled, reader, 5 * SECOND);
        for number in 0..100 {
            publish(&mut sim, publisher, &format!("{number:0100}"), QoS::AtLeastOnce);
        }
        sim.run_for(4 * SECOND);
        assert_eq!(bytes_sent(&sim, name, reader, seen), 1_000, "the stalled direction is full");
        assert!(payloads(&sim.take_events(subscriber)).len() < 10);

        sim.run_for(5 * SECOND);
        let expected: Vec<_> = (0..100).map(|number| format!("{number:0100}")).collect();
        let late = payloads(&sim.take_events(subscriber));
        assert!(expected.ends_with(&late) && late.len() > 90, "{} came late", late.len());
        assert_eq!(sim.trace().matches("connects as").count(), 2, "and no connection ended");
    }
}

/// The bytes that were sent towards an end of a client's first connection since the trace had so many bytes.
fn bytes_sent(sim: &Sim, name: &str, reader: End, since: usize) -> usize {
    let connects = format!("{name} connects as ");
    let link = sim.trace().lines().find_map(|line| line.split_once(&connects)).unwrap().1;
    let sends = format!(" {link} To{reader:?} ");
    let sent = sim.trace()[since..].lines().filter_map(|line| line.split_once(&sends));
    sent.map(|(_, rest)| rest.split_whitespace().next().unwrap().parse::<usize>().unwrap()).sum()
}

#[test]
fn short_partition_of_both_delays_and_ends_no_connection() {
    let (mut sim, both) = pair(World::default(), 7, Version::V5_0);
    sim.partition(&both);
    for number in 0..5 {
        publish(&mut sim, both[0], &number.to_string(), QoS::ExactlyOnce);
    }
    sim.run_for(5 * SECOND);
    assert_eq!(payloads(&sim.take_events(both[1])), [""; 0]);
    sim.heal(&both);
    sim.run_for(SECOND);
    assert_eq!(payloads(&sim.take_events(both[1])), numbers(5));
    assert_eq!(sim.trace().matches("connects as").count(), 2);
}

#[test]
fn long_partition_of_both_ends_their_connections_at_both_ends_and_all_goes_on_after_it() {
    let (mut sim, both) = pair(World::default(), 7, Version::V5_0);
    sim.take_events(both[1]);
    sim.partition(&both);
    publish(&mut sim, both[0], "0", QoS::ExactlyOnce);
    sim.run_for(600 * SECOND);
    assert_eq!(sim.broker().connections_len(), 0);
    assert_eq!(sim.broker().sessions_len(), 2);
    assert!(both.iter().all(|member| !sim.client(*member).is_connected()));
    sim.heal(&both);
    sim.run_for(120 * SECOND);
    let events = sim.take_events(both[1]);
    assert_eq!(ends(&events)[0], ConnectionEnd::PingTimeout);
    assert_eq!(payloads(&events), ["0"]);
}

/// [MQTT-3.1.4-3] [MQTT-4.3.3-10]
#[test]
fn second_connection_takes_over_while_bytes_of_the_first_are_under_way() {
    for seed in 0..40 {
        let mut world = World::default();
        world.latency = (Duration::from_millis(1), Duration::from_millis(200));
        let (mut sim, [publisher, subscriber]) = pair(world, seed, Version::V5_0);
        sim.run_for(2 * SECOND);
        for number in 0..20 {
            publish(&mut sim, publisher, &number.to_string(), QoS::ExactlyOnce);
            sim.run_for(Duration::from_millis(90));
            let again = if number % 2 == 0 { publisher } else { subscriber };
            sim.connect_again(again);
        }
        sim.run_for(100 * SECOND);
        assert_eq!(payloads(&sim.take_events(subscriber)), numbers(20), "seed {seed}");
        assert_eq!(sim.broker().connections_len(), 2, "seed {seed}");
    }
}

/// Both crash again and again, and nothing of what was promised is lost. Tells how often a process began with a torn
/// group.
fn crashing(seed: u64, version: Version) -> usize {
    let mut world = World::default();
    world.latency = (Duration::from_millis(1), Duration::from_millis(100));
    world.store_latency = (Duration::from_millis(1), Duration::from_millis(100));
    let mut sim = Sim::new(world, seed).unwrap();
    let [publisher, subscriber] = ["publisher", "subscriber"].map(|name| {
        let mut config = persistent(name, version);
        config.outbox = Some(OutboxConfig::default());
        sim.add(config)
    });
    sim.subscribe(subscriber, TopicFilter::new("#").unwrap(), QoS::ExactlyOnce).unwrap();
    sim.run_for(3 * SECOND);
    let mut stored: BTreeMap<u64, (String, usize)> = BTreeMap::new();
    let (mut received, mut payload_of) = (Vec::new(), BTreeMap::new());
    for round in 0..150_u64 {
        if round < 30 && sim.is_up(publisher) {
            let payload = round.to_string();
            let ticket = sim.publish(publisher, TopicName::new("t").unwrap(), payload.as_bytes(), QoS::ExactlyOnce);
            payload_of.insert(ticket.unwrap().get(), payload);
        }
        sim.run_for(Duration::from_millis(130 + seed));
        for event in sim.take_events(publisher) {
            match event {
                Event::Stored { ticket } => {
                    stored.insert(ticket.get(), (payload_of[&ticket.get()].clone(), 0));
                }
                Event::Completed { ticket, outcome } => {
                    assert!(matches!(outcome, Outcome::Acknowledged { .. }), "seed {seed}: {outcome}");
                    stored.get_mut(&ticket.get()).map(|stored| stored.1 += 1).unwrap_or_default();
                }
                _ => {}
            }
        }
        received.extend(payloads(&sim.take_events(subscriber)));
        if round < 30 && (round + seed) % 5 == 0 {
            sim.crash([publisher, subscriber][usize::from(round % 2 == 0)], 2 * SECOND);
        }
    }
    for member in [publisher, subscriber] {
        assert_eq!(sim.start_error(member), None, "seed {seed}");
        assert_eq!(sim.client(member).stored_tickets().count(), 0, "seed {seed}: all is done");
    }
    let mut sorted = received.clone();
    sorted.sort_by_key(|payload| payload.parse::<u64>().unwrap());
    sorted.dedup();
    assert_eq!(received, sorted, "seed {seed}: in order and once");
    let missing = stored.values().filter(|(payload, _)| !received.contains(payload)).count();
    assert!(missing <= sim.untold_messages(subscriber), "seed {seed}: {missing} missing");
    // A process may end after its outcome is stored and before it is told; then it is told by nobody.
    assert!(stored.values().all(|(_, outcomes)| *outcomes <= 1), "seed {seed}: {stored:?}");
    sim.trace().matches("torn: true").count()
}

/// [MQTT-4.3.3-10] [MQTT-4.4.0-1]
#[test]
fn process_that_crashes_goes_on_with_what_its_store_kept() {
    let torn: usize =
        (0..40).map(|seed| crashing(seed, [Version::V5_0, Version::V3_1_1][usize::from(seed % 2 == 0)])).sum();
    assert!(torn > 10, "the test is about torn groups too: {torn}");
}

#[test]
fn client_without_an_outbox_begins_anew_after_a_crash() {
    let (mut sim, [publisher, subscriber]) = pair(World::default(), 7, Version::V5_0);
    publish(&mut sim, publisher, "0", QoS::AtLeastOnce);
    sim.crash(publisher, SECOND);
    assert!(!sim.is_up(publisher));
    sim.run_for(5 * SECOND);
    assert!(sim.is_up(publisher) && sim.client(publisher).is_connected());
    publish(&mut sim, publisher, "1", QoS::AtLeastOnce);
    sim.run_for(SECOND);
    assert_eq!(payloads(&sim.take_events(subscriber)), ["1"]);
}
