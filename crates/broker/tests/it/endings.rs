//! How wills, sessions and retained messages end, where one broker alone has to be looked at: its journal, its deadlines.

use std::sync::Arc;

use damselfly_broker::{Access, Answer, DropReason, Grant, Permission};
use damselfly_codec::{Property, ReasonCode};

use crate::world::{As, Client, World, delivery, v5};

fn with_will(client: As<'_>, qos: u8, delay: u32) -> As<'_> {
    As { will: Some(("will/x", "gone", qos, false, delay)), ..client }
}

#[test]
fn a_will_that_had_to_be_asked_about_and_one_below_sys_are_dropped_and_counted() {
    for (name, permission) in [("will/x", Permission::Ask), ("$SYS/x", Permission::Allow)] {
        let mut world = World::new();
        let watcher = world.connect(v5("watcher"));
        world.subscribe(watcher, &[("will/#", 2), ("$SYS/#", 0)]);
        world.holds_questions = true;
        let bob = world.begin(As { will: Some((name, "gone", 1, false, 0)), ..v5("bob") });
        let mut grant = Grant::default();
        grant.access = Some(Arc::new(Access::new(permission)));
        world.answer(Answer::Allow(grant));
        world.cut(bob);
        assert!(world.questions.is_empty() && world.received(watcher).is_empty(), "{name}");
        assert_eq!(world.broker.counters().dropped(DropReason::NotAuthorized), 1, "{name}");
    }
}

/// How many journal groups a client leaves behind when its connection ends and a while has passed.
fn groups(world: &mut World, bob: Client, seconds: u64) -> [usize; 2] {
    world.holds_commits = true;
    world.cut(bob);
    let at_once = world.commits.len();
    world.commit();
    world.pass_secs(seconds);
    let later = world.commits.len();
    world.commit();
    world.holds_commits = false;
    [at_once, later]
}

#[test]
fn what_was_stored_ends_in_the_journal_too() {
    let lasting = v5("bob").lasting(9);
    for (client, expected) in [
        (v5("bob"), [0, 0]),
        (with_will(v5("bob"), 0, 0), [1, 0]),
        (lasting, [0, 1]),
        (with_will(lasting, 0, 0), [1, 1]),
        // Will and session end at the same time, in one group.
        (with_will(lasting, 0, 9), [0, 1]),
        (with_will(v5("bob").lasting(90), 0, 9), [0, 1]),
    ] {
        let mut world = World::new();
        let bob = world.connect(client);
        assert_eq!(groups(&mut world, bob, 9), expected, "{:?} {:?}", client.expiry, client.will);
    }
}

#[test]
fn a_client_that_came_back_has_no_deadline_left() {
    let mut world = World::new();
    for _ in 0..2 {
        let bob = world.connect(with_will(v5("bob").lasting(9), 0, 5));
        assert_eq!(world.broker.poll_timeout(), None);
        world.cut(bob);
        assert!(world.broker.poll_timeout().is_some());
    }
}

#[test]
fn a_changed_expiry_and_the_end_by_a_clean_start_are_recorded() {
    let mut world = World::new();
    let bob = world.connect(v5("bob").lasting(10));
    world.holds_commits = true;
    world.disconnect(bob, ReasonCode::Success, &[Property::SessionExpiryInterval(100)]);
    assert_eq!(world.commits.len(), 1, "a restart has to know it");
    world.commit();

    // The new session is none to store, but the old one was.
    let bob = world.begin(v5("bob"));
    assert!(world.received(bob).is_empty(), "CONNACK waits until the old session is gone for good");
    world.commit();
    assert!(world.first(bob).starts_with("CONNACK 00"));
}

#[test]
fn a_message_that_replaces_one_with_the_same_end_is_given_up_at_that_end() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for payload in ["x", "y"] {
        world.publish_with(alice, "a", payload, delivery(0, 1, false), true, &[Property::MessageExpiryInterval(10)]);
    }
    world.pass_secs(12);
    assert_eq!(world.broker.retained_len(), 0);
}

#[test]
fn each_retained_message_is_given_up_at_its_own_end() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for (name, seconds) in [("a", 10), ("b", 20)] {
        world.publish_with(alice, name, "x", delivery(0, 1, false), true, &[Property::MessageExpiryInterval(seconds)]);
    }
    for (seconds, left) in [(12, 1), (10, 0)] {
        world.pass_secs(seconds);
        assert_eq!(world.broker.retained_len(), left);
    }
}
