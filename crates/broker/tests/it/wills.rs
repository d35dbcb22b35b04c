//! Wills: published once, when they have to be, and never when they must not. [MQTT-3.1.2.5]

use damselfly_codec::{Property, ReasonCode};

use super::world::{As, Client, World, v3, v5};

fn watched() -> (World, Client) {
    let mut world = World::new();
    let watcher = world.connect(v5("watcher"));
    world.subscribe(watcher, &[("will/#", 2)]);
    (world, watcher)
}

fn with_will(client: As<'_>, qos: u8, delay: u32) -> As<'_> {
    As { will: Some(("will/x", "gone", qos, false, delay)), ..client }
}

#[test]
fn a_lost_connection_publishes_the_will_once() {
    // [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.2-14] [MQTT3-3.1.2-8] [MQTT3-3.1.2-16]
    for client in [v5("bob"), v3("bob"), v5("bob").lasting(50), v3("bob").lasting(0)] {
        for qos in 0..3 {
            let (mut world, watcher) = watched();
            let bob = world.connect(with_will(client, qos, 0));
            world.cut(bob);
            world.pass_secs(1_000);
            let seen = world.work_off(watcher);
            assert_eq!(seen.len(), 1, "{:?} q{qos}", client.version);
            assert!(seen[0].starts_with(&format!("PUBLISH q{qos} ")) && !seen[0].contains("retain"), "{seen:?}");
            assert_eq!(world.broker.retained_len(), 0);
            let again = world.connect(As { clean_start: false, ..client });
            world.cut(again);
            world.pass_secs(1_000);
            assert!(world.received(watcher).is_empty(), "it was published, so the session has it no longer");
        }
    }
}

#[test]
fn a_normal_disconnect_takes_the_will_along() {
    // [MQTT-3.14.4-3] [MQTT3-3.14.4-3] [MQTT3-3.1.2-10]
    for (client, delay) in [(v5("bob"), 5), (v3("bob"), 0), (v5("bob").lasting(50), 5)] {
        let (mut world, watcher) = watched();
        let bob = world.connect(with_will(client, 1, delay));
        world.disconnect(bob, ReasonCode::Success, &[]);
        world.pass_secs(100);
        assert!(world.received(watcher).is_empty());
    }
}

#[test]
fn disconnect_with_will_and_protocol_errors_publish_it() {
    let (mut world, watcher) = watched();
    let bob = world.connect(with_will(v5("bob"), 0, 0));
    world.disconnect(bob, ReasonCode::DisconnectWithWillMessage, &[]);
    let carol = world.connect(with_will(v3("carol"), 0, 0));
    world.send_bytes(carol, b"\xd0\x00");
    assert_eq!(world.received(watcher), ["PUBLISH q0 will/x=gone", "PUBLISH q0 will/x=gone"]);
}

#[test]
fn a_delayed_will_waits_and_a_return_cancels_it() {
    // [MQTT-3.1.3-9] [MQTT-3.1.2-8]
    let (mut world, watcher) = watched();
    let bob = world.connect(with_will(v5("bob").lasting(100), 1, 5));
    world.cut(bob);
    world.pass(std::time::Duration::from_micros(4_999_999));
    assert!(world.received(watcher).is_empty());
    let bob = world.connect(with_will(v5("bob").lasting(100), 1, 5));
    world.pass_secs(10);
    assert!(world.received(watcher).is_empty());
    world.cut(bob);
    world.pass_secs(5);
    assert_eq!(world.received(watcher), ["PUBLISH q1 #1 will/x=gone"]);
    world.pass_secs(200);
    assert!(world.received(watcher).is_empty());

    let bob = world.connect(with_will(v5("bob").lasting(100), 1, 5));
    world.cut(bob);
    let bob = world.connect(v5("bob").lasting(100));
    world.cut(bob);
    world.pass_secs(200);
    assert!(world.received(watcher).is_empty(), "nor does it wait for a connection that has none");
}

#[test]
fn the_end_of_the_session_publishes_a_will_that_still_waits() {
    // [MQTT-3.1.2-8] [MQTT-4.1.0-2]
    let (mut world, watcher) = watched();
    let bob = world.connect(with_will(v5("bob").lasting(3), 0, 60));
    world.cut(bob);
    world.pass_secs(3);
    assert_eq!(world.received(watcher), ["PUBLISH q0 will/x=gone"]);

    let bob = world.connect(with_will(v5("bob").lasting(30), 0, 60));
    world.cut(bob);
    world.connect(v5("bob"));
    assert_eq!(world.received(watcher), ["PUBLISH q0 will/x=gone"], "a clean start ends the session");
}

#[test]
fn takeover_publishes_an_undelayed_will_and_spares_a_delayed_one() {
    let (mut world, watcher) = watched();
    world.connect(with_will(v5("bob").lasting(30), 0, 0));
    world.connect(with_will(v5("bob").lasting(30), 0, 9));
    assert_eq!(world.received(watcher), ["PUBLISH q0 will/x=gone"]);
    world.connect(v5("bob").lasting(30));
    world.pass_secs(20);
    assert!(world.received(watcher).is_empty());
}

#[test]
fn a_retained_will_is_retained() {
    // [MQTT-3.1.2-15] [MQTT3-3.1.2-17]
    let mut world = World::new();
    let bob = world.connect(As { will: Some(("will/x", "gone", 1, true, 0)), ..v5("bob") });
    world.cut(bob);
    let watcher = world.connect(v5("watcher"));
    world.subscribe(watcher, &[("will/x", 1)]);
    assert_eq!(world.received(watcher), ["PUBLISH q1 #1 retain will/x=gone"]);
}

#[test]
fn a_keep_alive_timeout_publishes_the_will() {
    let (mut world, watcher) = watched();
    world.connect(As { keep_alive: 10, ..with_will(v3("bob"), 0, 0) });
    world.pass_secs(15);
    assert_eq!(world.received(watcher), ["PUBLISH q0 will/x=gone"]);
}

#[test]
fn a_will_the_broker_cannot_keep_refuses_the_connection() {
    // [MQTT-3.2.2-12] [MQTT-3.2.2-13] [MQTT-3.2.2-9]
    let mut world = World::with(|config| {
        config.maximum_qos = super::world::qos(1);
        config.retain_available = false;
    });
    let bob = world.begin(with_will(v5("bob"), 2, 0));
    assert_eq!(world.received(bob), ["CONNACK 9B"]);
    assert!(world.is_closed(bob));
    let bob = world.begin(As { will: Some(("will/x", "gone", 1, true, 0)), ..v5("bob") });
    assert_eq!(world.received(bob), ["CONNACK 9A"]);
    assert!(world.is_closed(bob));
    let bob = world.begin(with_will(v5("bob"), 1, 0));
    assert!(world.first(bob).contains("MaximumQoS(AtLeastOnce), RetainAvailable(false)"));
}

#[test]
fn a_client_that_never_was_accepted_leaves_no_will() {
    let (mut world, watcher) = watched();
    world.holds_questions = true;
    let bob = world.begin(with_will(v5("bob"), 0, 0));
    world.cut(bob);
    let carol = world.begin(with_will(v5("carol"), 0, 0));
    world.questions.remove(0);
    world.answer(damselfly_broker::Answer::Deny(ReasonCode::BadUserNameOrPassword));
    assert_eq!(world.received(carol), ["CONNACK 86"]);
    assert!(world.received(watcher).is_empty());
}

#[test]
fn properties_of_a_will_reach_the_subscriber_without_those_of_connect() {
    // [MQTT-3.1.3-10]
    use damselfly_codec::{Connect, Foreign, Version, Will};
    let (mut world, watcher) = watched();
    let properties = super::world::properties(&[
        Property::UserProperty("b", "1"),
        Property::WillDelayInterval(3),
        Property::UserProperty("a", "2"),
        Property::MessageExpiryInterval(60),
    ]);
    let will = Will {
        qos: super::world::qos(1),
        retain: false,
        topic: super::world::topic("will/x"),
        payload: b"gone",
        properties: properties.as_properties(),
    };
    let session = super::world::properties(&[Property::SessionExpiryInterval(100)]);
    let connect =
        Connect { will: Some(will), properties: session.as_properties(), ..Connect::new(Version::V5_0, "bob") };
    let mut frame = Vec::new();
    connect.encode(Foreign::Reject, &mut frame).unwrap();
    let bob = world.open();
    world.send_bytes(bob, &frame);
    world.pass_secs(50);
    world.cut(bob);
    world.pass_secs(3);
    let seen = world.received(watcher).concat();
    assert!(seen.contains("MessageExpiryInterval(60)"), "its expiry begins when it is published: {seen}");
    assert!(seen.contains(r#"UserProperty("b", "1"), UserProperty("a", "2")"#), "{seen}");
    assert!(!seen.contains("WillDelay"), "{seen}");
}
