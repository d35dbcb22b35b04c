//! One seed, one trace.

use core::time::Duration;

use damselfly_client::Config;
use damselfly_codec::{QoS, Version};
use damselfly_session::SessionExpiry;
use damselfly_sim::{Sim, World};
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
