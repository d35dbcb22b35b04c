//! The commit gate: what promises something waits for the journal, in order. Nothing else waits.

use damselfly_broker::Answer;
use damselfly_codec::{AckType, Packet};

use super::world::{Client, World, delivery, v3, v5};

/// Alice publishes, bob is subscribed, and from here on nothing commits by itself.
fn held() -> (World, Client, Client) {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("#", 2)]);
    world.holds_commits = true;
    (world, alice, bob)
}

#[test]
fn no_acknowledgement_leaves_before_its_commit() {
    let (mut world, alice, bob) = held();
    world.publish(alice, "a", "x", 1, 1);
    world.publish(alice, "b", "y", 2, 2);
    world.subscribe_with(alice, &[("z", damselfly_codec::SubscriptionOptions::default())], &[]);
    world.unsubscribe(alice, &["none"]);
    assert!(world.received(alice).is_empty());
    assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=x"], "QoS 1 is delivered at once, QoS 2 is not");

    world.commit();

    assert_eq!(world.received(alice), ["PUBACK #1", "PUBREC #2", "SUBACK #999 00", "UNSUBACK #998 11"]);
    assert_eq!(world.received(bob), ["PUBLISH q2 #2 b=y"]);
}

#[test]
fn pings_and_qos_0_wait_for_nothing() {
    let (mut world, alice, bob) = held();
    world.publish(alice, "a", "x", 1, 1);
    world.publish(alice, "a", "y", 0, 0);
    world.send(alice, Packet::Pingreq);
    assert_eq!(world.received(alice), ["PINGRESP"]);
    assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=x", "PUBLISH q0 a=y"]);
}

#[test]
fn a_later_message_of_the_same_topic_does_not_overtake_one_that_is_not_committed() {
    // [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT3-4.6.0-5] [MQTT3-4.6.0-6]
    let (mut world, alice, bob) = held();
    world.publish(alice, "a", "1", 2, 1);
    world.publish(alice, "a", "2", 1, 2);
    world.publish(alice, "a", "3", 0, 0);
    world.publish(alice, "b", "4", 0, 0);
    assert_eq!(world.received(bob), ["PUBLISH q0 b=4"]);
    world.commit();
    assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=1", "PUBLISH q1 #2 a=2", "PUBLISH q0 a=3"]);
    world.commit();
    assert_eq!(world.received(alice), ["PUBREC #1", "PUBACK #2"]);
}

#[test]
fn pubrel_and_pubcomp_wait_for_what_they_record() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("#", 2)]);
    world.publish(alice, "a", "x", 2, 1);
    world.received(alice);
    world.received(bob);
    world.holds_commits = true;
    world.ack(alice, AckType::Pubrel, 1);
    world.ack(bob, AckType::Pubrec, 1);
    assert!(world.received(alice).is_empty() && world.received(bob).is_empty());
    world.commit();
    assert_eq!(world.received(alice), ["PUBCOMP #1"]);
    assert_eq!(world.received(bob), ["PUBREL #1"]);
}

#[test]
fn connack_of_a_lasting_session_waits_and_what_is_published_meanwhile_waits_for_it() {
    // [MQTT-3.2.0-1] [MQTT3-3.2.0-1]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("a", 1)]);
    world.cut(bob);
    world.holds_commits = true;
    let bob = world.begin(v5("bob").lasting(100));
    world.publish(alice, "a", "x", 1, 1);
    assert!(world.received(bob).is_empty());
    world.commit();
    let seen = world.received(bob);
    assert!(seen[0].starts_with("CONNACK 00 present"));
    assert_eq!(seen[1..], ["PUBLISH q1 #1 a=x"]);

    let carol = world.begin(v5("carol"));
    assert!(world.first(carol).starts_with("CONNACK 00"), "a session that ends with its connection promises nothing");
}

#[test]
fn a_message_published_at_qos_2_survives_its_publisher() {
    let (mut world, alice, bob) = held();
    world.publish(alice, "a", "x", 2, 1);
    world.cut(alice);
    world.commit();
    assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=x"]);
}

#[test]
fn a_repeat_before_the_commit_is_answered_once_and_delivered_once() {
    let mut world = World::new();
    let alice = world.connect(v5("alice").lasting(100));
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 2)]);
    world.holds_commits = true;
    world.publish(alice, "a", "x", 2, 1);
    world.cut(alice);
    let alice = world.begin(v5("alice").lasting(100));
    world.commit();
    world.publish_with(alice, "a", "x", delivery(2, 1, true), false, &[]);
    world.commit();
    assert_eq!(world.received(alice)[1..], ["PUBREC #1"]);
    assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=x"]);
}

#[test]
fn a_takeover_while_connack_waits_ends_the_first() {
    let mut world = World::new();
    world.holds_commits = true;
    let first = world.begin(v3("bob").lasting(0));
    let second = world.begin(v3("bob").lasting(0));
    world.commit();
    assert!(world.is_closed(first));
    assert!(world.received(first).is_empty());
    assert!(world.received(second)[0].starts_with("CONNACK 00"));
    assert_eq!(world.sessions_len(), 1);
}

#[test]
fn a_will_at_qos_2_is_seen_after_its_commit() {
    let mut world = World::new();
    let watcher = world.connect(v5("watcher"));
    world.subscribe(watcher, &[("w", 2)]);
    let bob = world.connect(super::world::As { will: Some(("w", "gone", 2, false, 0)), ..v5("bob") });
    world.holds_commits = true;
    world.cut(bob);
    assert!(world.received(watcher).is_empty());
    world.commit();
    assert_eq!(world.received(watcher), ["PUBLISH q2 #1 w=gone"]);
}

#[test]
fn acknowledgements_of_one_type_leave_in_the_order_of_arrival_whatever_they_wait_for() {
    // [MQTT-4.6.0-2] [MQTT-4.6.0-3]
    use damselfly_broker::{Access, Action, Grant, Permission};
    let mut world = World::new();
    world.holds_questions = true;
    let alice = world.begin(v5("alice"));
    let mut grant = Grant::default();
    let access = Access::new(Permission::Allow).rule(Action::Publish, "asked/#", Permission::Ask).unwrap();
    grant.access = Some(std::sync::Arc::new(access));
    world.answer(Answer::Allow(grant));
    world.received(alice);
    world.publish(alice, "asked/a", "1", 1, 1);
    world.publish(alice, "free", "2", 1, 2);
    world.publish(alice, "free", "3", 2, 3);
    assert_eq!(world.received(alice), ["PUBREC #3 10"]);
    world.answer(Answer::allow());
    assert_eq!(world.received(alice), ["PUBACK #1 10", "PUBACK #2 10"]);
}

/// Once is once for whoever got it, whatever became of the others. [MQTT-4.3.3-10]
#[test]
fn a_qos_2_message_that_somebody_got_is_not_taken_for_a_new_one_when_its_publisher_comes_back() {
    let mut world = World::with(|config| {
        config.max_queued_messages = 1;
        config.pause_limit = core::time::Duration::ZERO;
    });
    let [bob, carol] = ["bob", "carol"].map(|name| world.connect(v5(name).lasting(100)));
    world.subscribe(bob, &[("#", 2)]);
    world.subscribe(carol, &[("#", 2)]);
    world.cut(carol);
    let alice = world.connect(v5("alice").lasting(100));
    world.publish(alice, "a", "1", 1, 1);
    world.received(bob);

    world.holds_commits = true;
    world.publish(alice, "a", "2", 2, 2);
    world.cut(alice);
    world.holds_commits = false;
    world.commit();
    assert_eq!(world.received(bob), ["PUBLISH q2 #2 a=2"], "the queue of carol is full");

    let alice = world.connect(v5("alice").lasting(100));
    world.received(alice);
    world.send(alice, Packet::Publish(again("a", "2", 2)));
    assert_eq!(world.received(alice), ["PUBREC #2"]);
    assert!(world.received(bob).is_empty(), "delivered twice");
}

fn again<'a>(name: &'a str, payload: &'a str, id: u16) -> damselfly_codec::Publish<'a> {
    damselfly_codec::Publish {
        delivery: delivery(2, id, true),
        retain: false,
        topic: Some(crate::world::topic(name)),
        properties: damselfly_codec::Properties::EMPTY,
        payload: payload.as_bytes(),
    }
}

/// What expires before it has an effect was taken all the same.
#[test]
fn a_qos_2_message_that_expired_before_its_commit_is_not_taken_for_a_new_one() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 2)]);
    let alice = world.connect(v5("alice").lasting(100));
    let list = crate::world::properties(&[damselfly_codec::Property::MessageExpiryInterval(1)]);
    world.holds_commits = true;
    let first = damselfly_codec::Publish { properties: list.as_properties(), ..again("a", "2", 2) };
    world.send(alice, Packet::Publish(damselfly_codec::Publish { delivery: delivery(2, 2, false), ..first }));
    world.cut(alice);
    world.pass_secs(2);
    world.holds_commits = false;
    world.commit();
    let alice = world.connect(v5("alice").lasting(100));
    world.received(alice);
    world.send(alice, Packet::Publish(first));
    assert_eq!(world.received(alice), ["PUBREC #2"]);
    assert!(world.received(bob).is_empty(), "the time of it is over");
}
