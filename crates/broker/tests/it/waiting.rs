//! Topic Filters about which a question is open, and what comes for them meanwhile. [MQTT-3.8.4] [MQTT-3.10.4]

use std::sync::Arc;

use damselfly_broker::{Access, Action, Answer, Grant, Permission};
use damselfly_codec::{Packet, Properties, Property, ReasonCode, Subscribe, SubscriptionOptions, Unsubscribe};

use super::world::{Client, World, delivery, filter, packet_id, qos, v3, v5};

const NO: Answer = Answer::Deny(ReasonCode::NotAuthorized);

/// Bob, whose every SUBSCRIBE below `ask` is asked about.
fn bob(change: impl FnOnce(&mut damselfly_broker::Config)) -> (World, Client) {
    let mut world = World::with(change);
    world.holds_questions = true;
    let bob = world.begin(v5("bob"));
    let mut grant = Grant::default();
    let access = Access::new(Permission::Allow).rule(Action::Subscribe, "ask/#", Permission::Ask).unwrap();
    grant.access = Some(Arc::new(access));
    world.answer(Answer::Allow(grant));
    world.received(bob);
    (world, bob)
}

fn subscribe(world: &mut World, client: Client, id: u16, filters: &[(&str, u8)]) {
    let filters: Vec<_> = filters
        .iter()
        .map(|(text, level)| (filter(text), SubscriptionOptions { qos: qos(*level), ..SubscriptionOptions::default() }))
        .collect();
    world.send(client, Packet::Subscribe(Subscribe::new(packet_id(id), Properties::EMPTY, &filters)));
}

fn unsubscribe(world: &mut World, client: Client, id: u16, filters: &[&str]) {
    let filters: Vec<_> = filters.iter().map(|text| filter(text)).collect();
    world.send(client, Packet::Unsubscribe(Unsubscribe::new(packet_id(id), Properties::EMPTY, &filters)));
}

fn subscribed(world: &World) -> Vec<(String, u8)> {
    world.subscriptions("bob").map(|view| (view.filter.to_owned(), view.qos.level())).collect()
}

#[test]
fn no_subscription_survives_an_unsubscribe_that_came_after_it() {
    // [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-6] [MQTT3-3.10.4-1]
    for (answer, said) in
        [(Answer::allow(), ["SUBACK #1 01", "UNSUBACK #2 00 11 11"]), (NO, ["SUBACK #1 87", "UNSUBACK #2 11 11 11"])]
    {
        let (mut world, bob) = bob(|_| {});
        world.retain(bob, "ask/a", "old");
        subscribe(&mut world, bob, 1, &[("ask/a", 1)]);
        unsubscribe(&mut world, bob, 2, &["ask/a", "ask/a", "other"]);
        unsubscribe(&mut world, bob, 3, &["ask/a"]);
        assert!(world.received(bob).is_empty(), "what is not known cannot be told");
        world.answer(answer);
        assert_eq!(world.received(bob), [said[0], said[1], "UNSUBACK #3 11"]);
        assert!(subscribed(&world).is_empty());
        world.publish(bob, "ask/a", "new", 0, 0);
        assert!(world.received(bob).is_empty());
        world.audit();
    }
}

#[test]
fn of_two_subscribes_the_later_wins_whichever_is_answered_first() {
    // [MQTT-3.8.4-3] [MQTT-3.8.4-5] [MQTT3-3.8.4-3]
    for first in [0, 1] {
        let (mut world, bob) = bob(|_| {});
        subscribe(&mut world, bob, 1, &[("ask/a", 2)]);
        subscribe(&mut world, bob, 2, &[("ask/a", 1)]);
        world.questions.rotate_left(first);
        world.answer(Answer::allow());
        world.answer(Answer::allow());
        assert_eq!(world.received(bob), ["SUBACK #1 02", "SUBACK #2 01"], "answered first: {first}");
        assert_eq!(subscribed(&world), [("ask/a".to_owned(), 1)]);
    }
    let (mut world, bob) = bob(|_| {});
    subscribe(&mut world, bob, 1, &[("ask/a", 2), ("b", 0), ("ask/a", 1)]);
    world.questions.reverse();
    world.answer(Answer::allow());
    assert_eq!(subscribed(&world), [("b".to_owned(), 0)], "one packet is a sequence of them");
    world.answer(NO);
    assert_eq!(world.received(bob), ["SUBACK #1 87 00 01"]);
    assert_eq!(subscribed(&world), [("ask/a".to_owned(), 1), ("b".to_owned(), 0)]);
}

#[test]
fn a_subscribe_after_the_unsubscribe_is_a_new_one() {
    let (mut world, bob) = bob(|_| {});
    world.retain(bob, "ask/a", "old");
    subscribe(&mut world, bob, 1, &[("ask/a", 0)]);
    unsubscribe(&mut world, bob, 2, &["ask/a"]);
    subscribe(&mut world, bob, 3, &[("ask/a", 0)]);
    for _ in 0..2 {
        world.answer(Answer::allow());
    }
    let seen = world.received(bob);
    assert_eq!(seen, ["SUBACK #1 00", "UNSUBACK #2 00", "SUBACK #3 00", "PUBLISH q0 retain ask/a=old"]);
    world.cut(bob);
    world.audit();
}

#[test]
fn a_connection_that_ends_forgets_what_waited() {
    let (mut world, bob) = bob(|_| {});
    subscribe(&mut world, bob, 1, &[("ask/a", 0), ("ask/b", 0)]);
    unsubscribe(&mut world, bob, 2, &["ask/a"]);
    world.audit();
    world.cut(bob);
    world.audit();
    world.assert_empty();
    world.answer(Answer::allow());
    world.assert_empty();
}

#[test]
fn filters_that_wait_count_against_the_limits() {
    let (mut world, bob) = bob(|config| config.max_subscription_bytes = 20);
    subscribe(&mut world, bob, 1, &[("ask/123456", 0), ("ask/12345", 0), ("ask/1", 0), ("z", 0), ("y", 0)]);
    assert_eq!(world.questions.len(), 2);
    for _ in 0..2 {
        world.answer(Answer::allow());
    }
    assert_eq!(world.received(bob), ["SUBACK #1 00 00 97 00 97"]);

    let (mut world, bob) = self::bob(|config| config.max_subscriptions = 2);
    for id in 1..=3 {
        subscribe(&mut world, bob, id, &[("ask/a", 0)]);
        unsubscribe(&mut world, bob, 10 + id, &["ask/a"]);
    }
    assert_eq!(world.questions.len(), 2);
    world.answer(Answer::allow());
    world.answer(Answer::allow());
    let seen = world.received(bob);
    assert_eq!(
        seen,
        ["SUBACK #1 00", "UNSUBACK #11 00", "SUBACK #2 00", "UNSUBACK #12 00", "SUBACK #3 97", "UNSUBACK #13 11"]
    );
}

#[test]
fn an_identifier_used_twice_does_not_let_a_suback_out_early() {
    let mut world = World::new();
    world.holds_questions = true;
    let bob = world.begin(v3("bob"));
    let mut grant = Grant::default();
    grant.access = Some(Arc::new(Access::new(Permission::Ask)));
    world.answer(Answer::Allow(grant));
    world.received(bob);
    subscribe(&mut world, bob, 5, &[("a", 1)]);
    world.publish(bob, "b", "x", 1, 5);
    world.questions.swap(0, 1);
    world.answer(Answer::allow());
    assert_eq!(world.received(bob), ["PUBACK #5"]);
    world.answer(Answer::allow());
    assert_eq!(world.received(bob), ["SUBACK #5 01"]);
}

#[test]
fn unsubscribe_ends_the_replay_of_retained_messages() {
    // [MQTT-3.10.4-2] [MQTT-3.10.4-3]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for n in 0..500 {
        world.publish_with(alice, &format!("r/{n:03}"), "x", delivery(1, n + 1, false), true, &[]);
    }
    let bob = world.connect(v5("bob").with(&[Property::ReceiveMaximum(3.try_into().unwrap())]));
    world.subscribe(bob, &[("r/+", 1), ("r/499", 1)]);
    world.unsubscribe(bob, &["r/+"]);
    let seen = world.work_off(bob);
    assert!((3..100).contains(&seen.len()), "{} of them had been taken up", seen.len());
    assert!(seen.last().unwrap().contains("r/499"), "the other subscription goes on");
    world.publish(alice, "r/499", "live", 1, 1_000);
    assert_eq!(world.work_off(bob).len(), 1);
    world.audit();

    world.holds_commits = true;
    world.subscribe_with(bob, &[("r/+", SubscriptionOptions::default())], &[]);
    world.unsubscribe(bob, &["r/+"]);
    world.commit();
    assert_eq!(world.received(bob), ["SUBACK #999 00", "UNSUBACK #998 00"], "nor does it begin behind a late SUBACK");
    world.audit();
}

#[test]
fn a_code_goes_into_the_suback_of_its_subscribe_whatever_else_waits() {
    let (mut world, bob) = bob(|_| {});
    subscribe(&mut world, bob, 1, &[("ask/a", 1)]);
    subscribe(&mut world, bob, 2, &[("ask/b", 1)]);
    world.answer_at(1, NO, damselfly_broker::ProblemInformation::new());
    world.answer(Answer::allow());
    assert_eq!(world.received(bob), ["SUBACK #1 01", "SUBACK #2 87"]);

    // Nor into one that has all its codes and waits for its commit.
    world.holds_commits = true;
    subscribe(&mut world, bob, 3, &[("ask/c", 1)]);
    world.answer(Answer::allow());
    assert!(world.received(bob).is_empty());
    subscribe(&mut world, bob, 4, &[("ask/d", 1)]);
    world.answer(NO);
    world.commit();
    world.commit();
    assert_eq!(world.received(bob), ["SUBACK #3 01", "SUBACK #4 87"]);
    world.audit();
}
