//! Messages that wait with their publisher: for a commit, an answer, room or their turn.

use std::{sync::Arc, time::Duration};

use damselfly_broker::{Access, Action, Answer, Event, Output, Permission};
use damselfly_codec::{AckType, ReasonCode};

use crate::world::{Client, World, delivery, v5};

const NOTHING: [&str; 0] = [];

/// Everything is allowed but for this, which is asked about.
fn ask(world: &mut World, client_id: &str, filter: &str) {
    let access = Access::new(Permission::Allow).rule(Action::Publish, filter, Permission::Ask).unwrap();
    assert!(world.broker.set_access(world.now, client_id, Some(Arc::new(access))));
}

/// Bob has one message and another fills his queue: what is published to "a/#" waits for room, the rest does not.
fn full() -> (World, [Client; 3]) {
    let mut world = World::with(|config| {
        config.max_queued_messages = 1;
        config.max_inflight = 1;
        config.pause_limit = Duration::from_secs(2);
    });
    let [alice, bob, carol] = [v5("alice").lasting(100), v5("bob"), v5("carol")].map(|client| world.connect(client));
    world.subscribe(bob, &[("a/#", 2)]);
    world.subscribe(carol, &[("free", 0)]);
    for n in 1..=2 {
        world.publish(carol, "a/0", &n.to_string(), 1, n);
    }
    assert_eq!(world.received(carol), ["PUBACK #1", "PUBACK #2"]);
    assert_eq!(world.received(bob), ["PUBLISH q1 #1 a/0=1"]);
    (world, [alice, bob, carol])
}

/// Each look at a message asks all its receivers.
#[test]
fn after_sixteen_messages_without_room_the_rest_waits_for_the_next_look() {
    for (without_room, seen) in [(15, &["PUBLISH q0 free=x"][..]), (16, &[])] {
        let (mut world, [alice, _, carol]) = full();
        world.holds_commits = true;
        for n in 1..=without_room {
            world.publish(alice, &format!("a/{n}"), "x", 2, n);
        }
        world.publish(alice, "free", "x", 2, 99);
        world.commit();
        assert_eq!(world.received(carol), seen, "behind {without_room} without room");
        world.holds_commits = false;
        world.commit();
        world.pass_secs(5);
        assert_eq!(world.received(alice).len(), usize::from(without_room) + 1);
        world.audit();
    }
}

#[test]
fn a_message_whose_time_is_up_goes_on_behind_one_that_waits_for_an_answer() {
    let (mut world, [alice, bob, carol]) = full();
    ask(&mut world, "alice", "ask");
    world.holds_questions = true;
    world.publish(alice, "ask", "x", 1, 1);
    world.publish(alice, "a/1", "x", 1, 2);
    world.publish(alice, "a/2", "x", 1, 3);
    assert_eq!(world.questions.len(), 1);
    assert_eq!(world.received(alice), NOTHING);
    world.pass_secs(3);
    assert_eq!(world.received(alice), NOTHING, "the first answer is first");
    world.answer(Answer::allow());
    assert_eq!(world.received(alice), ["PUBACK #1 10", "PUBACK #2 97", "PUBACK #3 97"]);
    assert_eq!(world.work_off(bob), NOTHING, "what he had is looked away");
    world.cut(carol);
    world.audit();
}

#[test]
fn a_qos_2_message_that_was_asked_about_is_seen_after_its_commit() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("a", 2)]);
    ask(&mut world, "alice", "a");
    (world.holds_questions, world.holds_commits) = (true, true);
    world.publish(alice, "a", "x", 2, 1);
    world.answer(Answer::allow());
    assert_eq!((world.received(alice), world.received(bob)), (vec![], vec![]));
    world.holds_commits = false;
    world.commit();
    assert_eq!(world.received(alice), ["PUBREC #1"]);
    assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=x"]);
}

/// The identifier of a refused message is free.
#[test]
fn a_qos_2_message_that_found_no_room_is_a_new_one_when_it_is_published_again() {
    let mut world = World::with(|config| {
        config.max_queued_messages = 1;
        config.pause_limit = Duration::ZERO;
    });
    let [alice, away] = [world.connect(v5("alice")), world.connect(v5("away").lasting(100))];
    world.subscribe(away, &[("a", 2)]);
    world.cut(away);
    world.publish(alice, "a", "1", 2, 1);
    world.publish(alice, "a", "2", 2, 2);
    assert_eq!(world.received(alice), ["PUBREC #1", "PUBREC #2 97"]);
    let away = world.connect(v5("away").lasting(100));
    assert_eq!(world.work_off(away), ["PUBLISH q2 #1 a=1"]);
    world.publish(alice, "a", "3", 2, 2);
    assert_eq!(world.received(alice), ["PUBREC #2"]);
    assert_eq!(world.work_off(away), ["PUBLISH q2 #2 a=3"]);
}

/// One that never got an answer is published again, and must not have had its effect before.
#[test]
fn what_waits_behind_a_question_goes_with_its_connection() {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice").lasting(100)), world.connect(v5("bob"))];
    world.subscribe(bob, &[("a", 1)]);
    ask(&mut world, "alice", "a");
    world.holds_questions = true;
    world.publish(alice, "a", "1", 1, 1);
    assert!(world.broker.set_access(world.now, "alice", None));
    world.publish(alice, "a", "2", 1, 2);
    world.cut(alice);
    assert_eq!(world.received(bob), NOTHING);
    world.holds_questions = false;
    let alice = world.connect(v5("alice").lasting(100));
    for (payload, id) in [("1", 1), ("2", 2)] {
        world.publish_with(alice, "a", payload, delivery(1, id, true), false, &[]);
    }
    assert_eq!(world.work_off(bob), ["PUBLISH q1 #1 a=1", "PUBLISH q1 #2 a=2"]);
    assert_eq!(world.received(alice), ["PUBACK #1", "PUBACK #2"]);
    world.audit();
}

#[test]
fn very_many_held_messages_have_their_effect_over_many_calls() {
    let mut world = World::with(|config| config.steps_per_call = 128);
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("a/#", 0)]);
    world.holds_commits = true;
    for n in 1..=300 {
        world.publish(alice, &format!("a/{n}"), &n.to_string(), 2, n);
    }
    let before = world.turns;
    world.holds_commits = false;
    let last = world.commits.drain(..).next_back().unwrap();
    world.broker.handle_committed(world.now, last.1);
    world.settle();
    let expected: Vec<_> = (1..=300).map(|n| format!("PUBLISH q0 a/{n}={n}")).collect();
    assert_eq!(world.received(bob), expected);
    let expected: Vec<_> = (1..=300).map(|n| format!("PUBREC #{n}")).collect();
    assert_eq!(world.received(alice), expected);
    assert!(world.turns - before >= 2 && world.broker.counters().most_steps < 200);
    world.audit();
}

#[test]
fn nothing_is_announced_for_a_client_whose_acknowledgements_all_wait() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    ask(&mut world, "alice", "ask");
    (world.holds_questions, world.holds_commits) = (true, true);
    world.publish(alice, "ask", "x", 1, 1);
    world.publish(alice, "a", "x", 1, 2);
    let (_, commit) = world.commits.remove(0);
    world.broker.handle_committed(world.now, commit);
    let outputs: Vec<_> = std::iter::from_fn(|| world.broker.poll_output()).collect();
    let is_announced = outputs.iter().any(|output| matches!(output, Output::Transmit(_)));
    assert!(!is_announced, "the second answer waits for the first: {outputs:?}");
    world.answer(Answer::Deny(ReasonCode::NotAuthorized));
    world.commit();
    assert_eq!(world.received(alice), ["PUBACK #1 87", "PUBACK #2 10"]);
}

#[test]
fn the_end_of_a_session_says_how_many_messages_went_with_it() {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob").lasting(10))];
    world.subscribe(bob, &[("a", 1)]);
    world.publish(alice, "a", "sent", 1, 1);
    world.cut(bob);
    for n in 2..=4 {
        world.publish(alice, "a", "queued", 1, n);
    }
    world.pass_secs(10);
    let ended = |event: &Event| match event {
        Event::SessionEnded { client_id, discarded } if **client_id == *"bob" => Some(*discarded),
        _ => None,
    };
    assert_eq!(world.events.iter().find_map(ended), Some(4));
}

#[test]
fn a_full_queue_that_goes_with_its_client_slows_nobody() {
    for (lasting, code) in [(0, " 10"), (100, " 97")] {
        let (mut world, [alice, bob, _]) = full();
        if lasting > 0 {
            world.ack(bob, AckType::Puback, 1);
            world.cut(bob);
            let bob = world.connect(v5("bob").lasting(lasting));
            world.subscribe(bob, &[("a/#", 2)]);
            for n in 1..=2 {
                world.publish(alice, "a/0", "x", 1, n);
            }
            world.received(alice);
            world.audit();
            world.cut(bob);
        } else {
            world.cut(bob);
        }
        world.audit();
        world.publish(alice, "a/1", "x", 1, 9);
        assert_eq!(world.received(alice), [format!("PUBACK #9{code}")], "at once");
    }
}
