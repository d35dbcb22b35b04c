//! The broker as sender and as receiver of QoS 1 and 2, in both versions: identifiers, states, what comes again.
//! [MQTT-4.3.2] [MQTT-4.3.3]

use std::sync::Arc;

use damselfly_broker::{Access, Action, Answer, Grant, Permission};
use damselfly_codec::{AckType, Property};

use super::world::{As, Client, World, delivery, v3, v5};

const NOTHING: [&str; 0] = [];

/// Clients whose session stays, of each version.
fn lasting() -> [As<'static>; 2] {
    [v5("bob").lasting(1_000), v3("bob").lasting(0)]
}

/// Bob is subscribed to `a` at QoS 2, alice publishes to it.
fn subscribed(bob: As<'_>) -> (World, Client, Client) {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(bob)];
    world.subscribe(bob, &[("a", 2)]);
    (world, alice, bob)
}

/// The connection of a client breaks and it comes back: what it is sent behind CONNACK.
fn come_back(world: &mut World, bob: &mut Client, client: As<'_>) -> Vec<String> {
    world.cut(*bob);
    *bob = world.begin(client);
    assert!(world.first(*bob).contains("present"));
    world.received(*bob)
}

#[test]
fn a_new_delivery_takes_an_identifier_that_no_open_one_has() {
    // [MQTT-2.2.1-4] [MQTT3-2.3.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
    for client in lasting() {
        let (mut world, alice, bob) = subscribed(client);
        for qos in [1, 2, 1] {
            world.publish(alice, "a", "open", qos, 1);
            world.ack(alice, AckType::Pubrel, 1);
        }
        assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=open", "PUBLISH q2 #2 a=open", "PUBLISH q1 #3 a=open"]);
        world.ack(bob, AckType::Puback, 1);
        for _ in 0..200 {
            world.publish(alice, "a", "new", 1, 1);
            let seen = world.received(bob).concat();
            let id = seen.split(['#', ' ']).nth(3).unwrap().parse().unwrap();
            assert!(![0, 2, 3].contains(&id), "{seen}");
            world.ack(bob, AckType::Puback, id);
        }
    }
}

#[test]
fn a_qos_1_delivery_is_open_until_puback() {
    // [MQTT-4.3.2-2] [MQTT-4.3.2-3] [MQTT3-4.3.2-1] [MQTT-3.3.1-1] [MQTT3-3.3.1-1]
    for client in lasting() {
        let (mut world, alice, mut bob) = subscribed(client);
        world.publish(alice, "a", "x", 1, 7);
        assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=x"]);
        assert_eq!(come_back(&mut world, &mut bob, client), ["PUBLISH q1 #1 dup a=x"]);
        assert_eq!(come_back(&mut world, &mut bob, client), ["PUBLISH q1 #1 dup a=x"]);
        world.ack(bob, AckType::Puback, 1);
        assert_eq!(come_back(&mut world, &mut bob, client), NOTHING);
    }
}

#[test]
fn a_qos_2_delivery_is_open_until_pubrec_and_then_until_pubcomp() {
    // [MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT3-4.3.3-1] [MQTT3-4.4.0-1]
    for client in lasting() {
        let (mut world, alice, mut bob) = subscribed(client);
        world.publish(alice, "a", "x", 2, 7);
        assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=x"]);
        assert_eq!(come_back(&mut world, &mut bob, client), ["PUBLISH q2 #1 dup a=x"]);
        world.ack(bob, AckType::Pubrec, 1);
        assert_eq!(world.received(bob), ["PUBREL #1"]);
        world.pass_secs(100);
        assert_eq!(world.received(bob), NOTHING, "only a new connection has anything sent again");
        assert_eq!(come_back(&mut world, &mut bob, client), ["PUBREL #1"]);
        world.ack(bob, AckType::Pubcomp, 1);
        assert_eq!(come_back(&mut world, &mut bob, client), NOTHING);
    }
}

#[test]
fn a_delivery_that_was_sent_does_not_expire() {
    // [MQTT-4.3.3-7]
    let client = v5("bob").lasting(1_000);
    let (mut world, alice, mut bob) = subscribed(client);
    world.publish_with(alice, "a", "x", delivery(2, 1, false), false, &[Property::MessageExpiryInterval(5)]);
    assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=x {MessageExpiryInterval(5)}"]);
    world.cut(bob);
    world.pass_secs(6);
    let seen = come_back(&mut world, &mut bob, client);
    assert!(seen.len() == 1 && seen[0].starts_with("PUBLISH q2 #1 dup a=x"), "{seen:?}");
    world.ack(bob, AckType::Pubrec, 1);
    assert_eq!(world.received(bob), ["PUBREL #1"]);
}

#[test]
fn an_acknowledgement_that_does_not_fit_the_exchange_ends_the_connection() {
    // [MQTT-2.2.1-5] [MQTT3-2.3.1-6]
    for client in lasting() {
        for (qos, wrong) in [(1, AckType::Pubrec), (1, AckType::Pubcomp), (2, AckType::Puback), (2, AckType::Pubcomp)] {
            let (mut world, alice, bob) = subscribed(client);
            world.publish(alice, "a", "x", qos, 7);
            world.received(bob);
            world.ack(bob, wrong, 1);
            assert!(world.is_closed(bob), "{wrong:?} for QoS {qos}");
            let told = if world.speaks_v5(bob) { &["DISCONNECT 82"][..] } else { &[] };
            assert_eq!(world.received(bob), told);
        }
    }
}

#[test]
fn each_publish_is_answered_as_its_qos_asks_and_under_its_own_identifier() {
    // [MQTT-3.3.4-1] [MQTT3-3.3.4-1] [MQTT-2.2.1-5] [MQTT3-2.3.1-6] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11]
    for client in lasting() {
        let (mut world, _, bob) = subscribed(client);
        world.publish(bob, "b", "x", 0, 0);
        assert_eq!(world.received(bob), NOTHING);
        let code = if world.speaks_v5(bob) { " 10" } else { "" };
        for id in [7, 300, 65_535] {
            world.publish(bob, "b", "x", 1, id);
            assert_eq!(world.received(bob), [format!("PUBACK #{id}{code}")]);
            world.publish(bob, "b", "x", 2, id);
            assert_eq!(world.received(bob), [format!("PUBREC #{id}{code}")]);
        }
        for id in [300, 65_535, 7] {
            world.ack(bob, AckType::Pubrel, id);
            assert_eq!(world.received(bob), [format!("PUBCOMP #{id}")]);
        }
    }
}

#[test]
fn after_puback_an_identifier_stands_for_a_new_message_whatever_dup_says() {
    // [MQTT-4.3.2-5] [MQTT3-4.3.2-2]
    for client in lasting() {
        let (mut world, alice, bob) = subscribed(client);
        for (payload, dup) in [("one", false), ("two", true), ("three", false)] {
            world.publish_with(alice, "a", payload, delivery(1, 7, dup), false, &[]);
            assert_eq!(world.received(alice), ["PUBACK #7"]);
        }
        assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=one", "PUBLISH q1 #2 a=two", "PUBLISH q1 #3 a=three"]);
    }
}

#[test]
fn after_a_refusing_pubrec_an_identifier_stands_for_a_new_message() {
    // [MQTT-4.3.3-9]
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 0)]);
    world.holds_questions = true;
    let alice = world.begin(v5("alice"));
    let mut grant = Grant::default();
    let access = Access::new(Permission::Allow).rule(Action::Publish, "no", Permission::Deny).unwrap();
    grant.access = Some(Arc::new(access));
    world.answer(Answer::Allow(grant));
    world.first(alice);

    world.publish(alice, "no", "refused", 2, 7);
    world.publish(alice, "yes", "new", 2, 7);
    world.publish_with(alice, "yes", "new", delivery(2, 7, true), false, &[]);
    world.ack(alice, AckType::Pubrel, 7);

    assert_eq!(world.received(alice), ["PUBREC #7 87", "PUBREC #7", "PUBREC #7", "PUBCOMP #7"]);
    assert_eq!(world.received(bob), ["PUBLISH q0 yes=new"]);
}

#[test]
fn a_shared_qos_2_delivery_is_completed_with_the_member_it_began_with() {
    // [MQTT-4.8.2-4]
    let client = v5("bob").lasting(1_000);
    let mut world = World::new();
    let [alice, mut bob] = [world.connect(v5("alice")), world.connect(client)];
    world.subscribe(bob, &[("$share/g/a", 2)]);
    world.publish(alice, "a", "x", 2, 1);
    assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=x"]);
    world.cut(bob);
    let carol = world.connect(v5("carol"));
    world.subscribe(carol, &[("$share/g/a", 2)]);

    assert_eq!(come_back(&mut world, &mut bob, client), ["PUBLISH q2 #1 dup a=x"]);
    world.ack(bob, AckType::Pubrec, 1);
    assert_eq!(world.received(bob), ["PUBREL #1"]);
    assert_eq!(come_back(&mut world, &mut bob, client), ["PUBREL #1"]);
    world.ack(bob, AckType::Pubcomp, 1);
    assert_eq!(come_back(&mut world, &mut bob, client), NOTHING);
    assert_eq!(world.received(carol), NOTHING);
}

/// Our Receive Maximum counts what has no final answer yet.
#[test]
fn the_place_of_a_message_is_free_with_its_last_acknowledgement_and_not_before() {
    let mut world = World::with(|config| {
        config.receive_maximum = 3;
        config.max_topic_levels = 3;
    });
    let alice = world.connect(v5("alice"));
    for n in 1..=10 {
        world.publish(alice, "a", "x", 1, n);
        world.publish(alice, "a/b/c/d", "x", 2, 10 + n);
        assert_eq!(world.received(alice), [format!("PUBACK #{n} 10"), format!("PUBREC #{} 90", 10 + n)]);
        world.publish(alice, "a", "x", 2, 20 + n);
        world.ack(alice, AckType::Pubrel, 20 + n);
        assert_eq!(world.received(alice), [format!("PUBREC #{} 10", 20 + n), format!("PUBCOMP #{}", 20 + n)]);
    }
    for n in 1..=3 {
        world.publish(alice, "a", "x", 2, n);
    }
    assert_eq!(world.received(alice).len(), 3, "PUBREC ends nothing");
    world.publish(alice, "a", "x", 1, 4);
    assert_eq!(world.received(alice), ["DISCONNECT 93"]);
}
