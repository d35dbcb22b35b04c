//! One seed, one trace.

use core::time::Duration;

use damselfly_client::{Config, OutboxConfig};
use damselfly_codec::{QoS, Version};
use damselfly_session::SessionExpiry;
use damselfly_sim::{End, Sim, World};
use damselfly_topic::{TopicFilter, TopicName};

fn trace(seed: u64) -> String {
    let mut world = World::default();
    world.cut_within = Some(Duration::from_secs(20));
    let mut sim = Sim::new(world, seed).unwrap();
    let members = [("a", Version::V3_1_1), ("b", Version::V5_0), ("c", Version::V5_0)].map(|(name, version)| {
        let mut config = Config::new(name);
        config.version = version;
        config.session_expiry = SessionExpiry::Never;
        sim.add(config)
    });
    for member in members {
        sim.subscribe(member, TopicFilter::new("t/#").unwrap(), QoS::ExactlyOnce).unwrap();
    }
    for round in 0..40_u8 {
        let topic = format!("t/{}", round % 3);
        let member = members[usize::from(round % 3)];
        sim.publish(member, TopicName::new(&topic).unwrap(), &[round], QoS::ExactlyOnce).unwrap();
        sim.run_for(Duration::from_millis(700));
    }
    sim.run_for(Duration::from_secs(100));
    sim.trace().to_owned()
}

#[test]
fn same_seed_gives_the_same_trace_byte_for_byte() {
    for seed in 0..5 {
        let first = trace(seed);
        assert!(first.contains("is cut") && first.lines().count() > 500, "something happens");
        assert!(first == trace(seed), "seed {seed}");
    }
}

/// Every kind of fault, one after the other.
fn trace_of_faults(seed: u64) -> u64 {
    let mut world = World::default();
    world.capacity = 200;
    let mut sim = Sim::new(world, seed).unwrap();
    let members = ["a", "b", "c"].map(|name| {
        let mut config = Config::new(name);
        config.session_expiry = SessionExpiry::Never;
        config.outbox = Some(OutboxConfig::default());
        sim.add(config)
    });
    for member in members {
        sim.subscribe(member, TopicFilter::new("t/#").unwrap(), QoS::ExactlyOnce).unwrap();
    }
    for round in 0..70_u8 {
        let member = members[usize::from(round % 3)];
        match round % 7 {
            0 => sim.cut(member),
            1 => sim.half_open(member, if round % 2 == 0 { End::Broker } else { End::Client }),
            2 => sim.stall(member, End::Client, Duration::from_secs(3)),
            3 => sim.partition(&members[1..]),
            4 => sim.heal(&members),
            5 => sim.connect_again(member),
            _ => sim.crash(member, Duration::from_secs(1)),
        }
        if sim.is_up(member) {
            sim.publish(member, TopicName::new("t").unwrap(), &[round], QoS::ExactlyOnce).unwrap();
        }
        sim.run_for(Duration::from_secs(2));
    }
    sim.run_for(Duration::from_secs(100));
    assert!(sim.trace().lines().count() > 500, "something happens");
    sim.trace_hash()
}

#[expect(clippy::disallowed_methods, reason = "what runs at the same time must not matter")]
#[test]
fn same_seed_gives_the_same_trace_of_all_faults_on_any_number_of_threads() {
    let alone: Vec<u64> = (0..4).map(trace_of_faults).collect();
    let threads: Vec<_> = (0..4).map(|seed| std::thread::spawn(move || trace_of_faults(seed))).collect();
    let together: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(alone, together);
    assert!(alone.windows(2).all(|pair| pair[0] != pair[1]), "{alone:?}");
}

#[test]
fn other_seed_gives_another_trace() {
    assert_ne!(trace(1), trace(2));
}

/// [MQTT-3.1.2-20] [MQTT-3.1.2-22]
#[test]
fn weeks_of_silence_pass_with_pings_and_without_an_end() {
    let mut sim = Sim::new(World::default(), 7).unwrap();
    let member = sim.add(Config::new("quiet"));
    sim.run_for(Duration::from_secs(14 * 86_400));
    assert!(sim.client(member).is_connected());
    assert_eq!(sim.trace().matches("connects as").count(), 1);
}
