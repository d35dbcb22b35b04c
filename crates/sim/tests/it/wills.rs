//! Wills of clients whose connection is cut.

use core::time::Duration;

use damselfly_client::{Config, ConnectParameters, Event, Will};
use damselfly_codec::QoS;
use damselfly_sim::{Sim, World};
use damselfly_topic::{TopicFilter, TopicNameBuf};

fn messages(sim: &mut Sim, member: damselfly_sim::MemberId) -> Vec<String> {
    let payload = |event| match event {
        Event::Message(inbound) => Some(String::from_utf8_lossy(inbound.message.payload()).into_owned()),
        _ => None,
    };
    sim.take_events(member).into_iter().filter_map(payload).collect()
}

fn world() -> (Sim, damselfly_sim::MemberId, damselfly_sim::MemberId) {
    let mut sim = Sim::new(World::default(), 7).unwrap();
    let watcher = sim.add(Config::new("watcher"));
    sim.subscribe(watcher, TopicFilter::new("gone/#").unwrap(), QoS::ExactlyOnce).unwrap();
    let mut parameters = ConnectParameters::default();
    parameters.will = Some(Will::new(TopicNameBuf::new("gone/mortal").unwrap(), "died"));
    let mortal = sim.add_with(Config::new("mortal"), parameters);
    sim.run_for(Duration::from_secs(1));
    (sim, watcher, mortal)
}

/// [MQTT-3.1.2-8]
#[test]
fn will_is_published_when_the_connection_is_cut_and_once_for_each() {
    let (mut sim, watcher, mortal) = world();
    for _ in 0..3 {
        sim.cut(mortal);
        sim.run_for(Duration::from_secs(100));
        assert_eq!(messages(&mut sim, watcher), ["died"]);
        assert!(sim.client(mortal).is_connected(), "it comes back");
    }
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-24]
#[test]
fn will_of_a_silent_client_is_due_when_the_broker_gives_it_up() {
    let (mut sim, watcher, _) = world();
    let mut config = Config::new("silent");
    (config.keep_alive, config.session_expiry) = (4, damselfly_session::SessionExpiry::Never);
    let mut parameters = ConnectParameters::default();
    parameters.will = Some(Will::new(TopicNameBuf::new("gone/silent").unwrap(), "silence"));
    let silent = sim.add_with(config, parameters);
    sim.run_for(Duration::from_secs(1));
    sim.half_open(silent, damselfly_sim::End::Client);
    sim.partition(&[silent]);
    sim.run_for(Duration::from_secs(3));
    assert_eq!(messages(&mut sim, watcher), [""; 0], "six seconds after its last word");
    // It has the same words the next time.
    for _ in 0..2 {
        sim.run_for(Duration::from_secs(6));
        assert_eq!(messages(&mut sim, watcher), ["silence"]);
        sim.heal(&[silent]);
        sim.run_for(Duration::from_secs(60));
        sim.cut(silent);
        sim.cut(watcher);
    }
    assert_eq!(sim.violation(), None);
}

/// A user that is not known, or says another password. [MQTT-3.1.4-2]
#[test]
fn client_with_a_wrong_password_is_refused() {
    let mut world = World::default();
    world.users.insert("lock".to_owned(), "secret".to_owned());
    let mut sim = Sim::new(world, 7).unwrap();
    for (user_name, password, is_welcome) in [
        (Some("lock"), Some("secret"), true),
        (Some("lock"), Some("x"), false),
        (Some("x"), None, false),
        (None, None, true),
    ] {
        let mut parameters = ConnectParameters::default();
        parameters.user_name = user_name.map(Into::into);
        parameters.password = password.map(Into::into);
        let client = sim.add_with(Config::new(""), parameters);
        let mut refused = false;
        let until = sim.now().saturating_add(Duration::from_secs(1));
        while sim.run_until_told(until) == [client] {
            let events = sim.take_events(client);
            refused |= format!("{events:?}").contains("BadUserNameOrPassword");
        }
        assert_eq!((sim.client(client).is_connected(), refused), (is_welcome, !is_welcome), "{user_name:?}");
        sim.act(client, |client, now| client.close(now, now));
        sim.run_for(Duration::from_secs(1));
        sim.take_events(client);
    }
}

/// [MQTT-3.14.4-3] [MQTT3-3.1.2-10]
#[test]
fn client_that_sleeps_leaves_no_will_and_finds_what_waited_when_it_wakes() {
    let (mut sim, watcher, _) = world();
    let mut config = Config::new("sleeper");
    config.session_expiry = damselfly_session::SessionExpiry::Never;
    let mut parameters = ConnectParameters::default();
    parameters.will = Some(Will::new(TopicNameBuf::new("gone/sleeper").unwrap(), "died"));
    let sleeper = sim.add_with(config, parameters);
    sim.subscribe(sleeper, TopicFilter::new("waits").unwrap(), QoS::AtLeastOnce).unwrap();
    sim.run_for(Duration::from_secs(1));
    for _ in 0..3 {
        sim.sleep(sleeper);
        sim.run_for(Duration::from_secs(100));
        sim.publish(watcher, damselfly_topic::TopicName::new("waits").unwrap(), b"x", QoS::AtLeastOnce).unwrap();
        sim.run_for(Duration::from_secs(100));
        assert!(!sim.client(sleeper).is_connected(), "it sleeps on");
        assert_eq!(messages(&mut sim, sleeper), [""; 0]);
        sim.wake(sleeper);
        sim.wake(sleeper);
        sim.run_for(Duration::from_secs(1));
        assert_eq!(messages(&mut sim, sleeper), ["x"]);
    }
    assert_eq!(messages(&mut sim, watcher), [""; 0]);
    assert_eq!(sim.violation(), None);
}

/// [MQTT-3.1.2-10] [MQTT-3.14.4-3]
#[test]
fn will_is_not_published_when_the_client_says_goodbye() {
    let (mut sim, watcher, mortal) = world();
    sim.act(mortal, |client, now| client.close(now, now));
    sim.run_for(Duration::from_secs(100));
    assert_eq!(messages(&mut sim, watcher), [""; 0]);
    assert!(sim.take_events(mortal).iter().any(|event| matches!(event, Event::Closed)));
}
