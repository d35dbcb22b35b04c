//! Retained messages that are kept, replaced and walked over, and what waits behind a walk.

use std::sync::Arc;

use damselfly_broker::{Access, Action, Answer, DropReason, Event, Permission, ProblemInformation};
use damselfly_codec::{AckType, Property, ReasonCode, SubscriptionId, SubscriptionOptions};

use crate::world::{As, Client, World, delivery, filter, qos, v3, v5};

fn options(level: u8) -> SubscriptionOptions {
    SubscriptionOptions { qos: qos(level), ..SubscriptionOptions::default() }
}

fn payloads(seen: &[String]) -> Vec<&str> {
    seen.iter().filter_map(|line| line.rsplit_once('=')).map(|(_, payload)| payload).collect()
}

#[test]
fn a_walk_keeps_its_order_through_a_narrow_window_and_counts_what_it_delivers() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for n in 1..=5 {
        world.publish_with(alice, &format!("a/{n}"), &n.to_string(), delivery(1, n, false), true, &[]);
    }
    for level in [0, 1] {
        let bob = world.connect(As { receive_maximum: Some(1), ..v5("bob") });
        let before = world.broker.counters().deliveries;
        world.subscribe(bob, &[("a/#", level)]);
        let seen = world.work_off(bob);
        assert_eq!(payloads(&seen), ["1", "2", "3", "4", "5"], "QoS {level}");
        assert_eq!(world.broker.counters().deliveries - before, 5);
        assert_eq!(world.session("bob").unwrap().in_flight, 0);
        world.cut(bob);
    }
}

#[test]
fn a_walk_at_qos_0_needs_no_place_in_a_queue() {
    let mut world = World::with(|config| config.max_queued_messages = 3);
    let alice = world.connect(v5("alice"));
    for n in 1..=10 {
        world.publish_with(alice, &format!("a/{n}"), "x", delivery(1, n, false), true, &[]);
    }
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("a/#", 0)]);
    assert_eq!(world.received(bob).len(), 10);
    assert_eq!(world.session("bob").unwrap().dropped, 0);
    let house = world.broker.open_local(world.now, "house", 20.try_into().unwrap()).unwrap();
    world.broker.local_subscribe(world.now, house, filter("a/#"), options(0), None);
    world.settle();
    assert_eq!(world.delivered.len(), 10);
    assert!(world.delivered.drain(..).all(|(_, delivery)| delivery.token.is_none() && delivery.retain));
}

#[test]
fn a_local_participant_acknowledges_retained_messages_of_qos_1_and_no_others() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    world.publish_with(alice, "a", "1", delivery(1, 1, false), true, &[]);
    world.publish_with(alice, "b", "0", delivery(0, 1, false), true, &[]);
    let house = world.broker.open_local(world.now, "house", 20.try_into().unwrap()).unwrap();
    world.broker.local_subscribe(world.now, house, filter("#"), options(1), None);
    world.settle();
    let seen: Vec<_> = world.delivered.iter().map(|(_, got)| (got.qos, got.token.is_some())).collect();
    assert_eq!(seen, [(qos(0), false), (qos(1), true)]);
    assert_eq!(world.session("house").unwrap().in_flight, 1);
}

/// Whether messages to "a" and "b", as often as said, are all retained within a limit.
fn all_fit(limit: u64, count: usize, times: usize) -> bool {
    let mut world = World::with(|config| config.max_retained_bytes = limit);
    let alice = world.connect(v5("alice"));
    for name in &["a", "b"][..count] {
        for _ in 0..times {
            world.retain(alice, name, "x");
        }
    }
    world.dropped(DropReason::RetainedFull) == 0 && world.broker.retained_len() == count
}

#[test]
fn max_retained_bytes_is_reached_to_the_byte_and_not_by_replacing() {
    let one = (1..2_000).find(|limit| all_fit(*limit, 1, 1)).unwrap();
    assert!(all_fit(one, 1, 3), "replaced within the same room");
    assert!(all_fit(2 * one, 2, 1) && !all_fit(2 * one - 1, 2, 1));
    assert!(all_fit(2 * one, 2, 2) && !all_fit(2 * one - 1, 2, 2));
}

#[test]
fn a_message_that_was_replaced_does_not_take_the_new_one_along_when_it_expires() {
    for (first, second, left) in
        [(Some(10), None, 1), (Some(10), Some(30), 1), (Some(10), Some(10), 0), (None, Some(10), 0)]
    {
        let mut world = World::new();
        let alice = world.connect(v5("alice"));
        for expiry in [first, second] {
            let list = expiry.map(Property::MessageExpiryInterval);
            world.publish_with(alice, "a", "x", delivery(0, 1, false), true, list.as_slice());
        }
        world.pass_secs(20);
        assert_eq!(world.broker.retained_len(), left, "{first:?}, then {second:?}");
    }
}

#[test]
fn what_expires_at_the_moment_of_the_look_goes_with_it() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let expiry = [Property::MessageExpiryInterval(10)];
    world.publish_with(alice, "a", "x", delivery(0, 1, false), true, &expiry);
    world.pass_secs(1);
    world.publish_with(alice, "b", "x", delivery(0, 1, false), true, &expiry);
    world.pass_secs(1);
    world.publish_with(alice, "c", "x", delivery(0, 1, false), true, &expiry);
    world.pass_secs(9);
    assert_eq!(world.broker.retained_len(), 1, "of the third a second is left");
}

fn waiting(world: &World, client: Client) -> usize {
    let mut chunks = [&[][..]; 64];
    let count = world.broker.transmit(client.id, &mut chunks);
    chunks[..count].iter().map(|chunk| chunk.len()).sum()
}

/// A client that does not read, behind whose walk something waits.
fn stalled(retained: usize, max_transmit_bytes: u32) -> (World, Client, Client) {
    let mut world = World::with(|config| config.max_transmit_bytes = max_transmit_bytes);
    let alice = world.connect(v5("alice"));
    for n in 0..retained {
        world.retain(alice, &format!("r/{n:04}"), &"x".repeat(200));
    }
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("live", 1), ("zero", 0)]);
    world.is_stalled = true;
    world.subscribe_with(bob, &[("r/#", options(0))], &[]);
    (world, alice, bob)
}

#[test]
fn a_walk_pauses_while_64_kib_wait_for_its_client() {
    let (mut world, _, bob) = stalled(1_000, 1 << 20);
    // 64 messages at a time.
    let waits = waiting(&world, bob);
    assert!((64 * 1_024..64 * 1_024 + 64 * 220).contains(&waits), "{waits}");
    world.unstall();
    assert_eq!(world.received(bob).len(), 1 + 1_000);
}

#[test]
fn what_waits_behind_a_walk_goes_on_when_its_subscription_ends() {
    let (mut world, alice, bob) = stalled(1_000, 1 << 20);
    world.publish(alice, "live", "x", 1, 1);
    let counts = |world: &World| world.session("bob").map(|view| (view.queued, view.in_flight)).unwrap();
    assert_eq!(counts(&world), (1, 0));
    world.unsubscribe(bob, &["r/#"]);
    assert_eq!(counts(&world), (0, 1), "although its client does not read");
}

#[test]
fn messages_of_qos_0_stay_in_order_behind_a_walk_that_ended_and_take_no_identifier() {
    let (mut world, alice, bob) = stalled(1_000, 66_000);
    assert!(waiting(&world, bob) > 66_000);
    world.publish(alice, "zero", "1", 0, 0);
    world.unsubscribe(bob, &["r/#"]);
    let counts = |world: &World| world.session("bob").map(|view| (view.queued, view.in_flight)).unwrap();
    assert_eq!(counts(&world), (1, 0), "the transport is behind");
    world.publish(alice, "zero", "2", 0, 0);
    assert_eq!(counts(&world), (2, 0));
    world.unstall();
    let seen = world.received(bob);
    assert_eq!(payloads(&seen[seen.len() - 2..]), ["1", "2"]);
    assert_eq!((world.dropped(DropReason::SlowReader), counts(&world)), (0, (0, 0)));
}

#[test]
fn new_rules_are_recorded_where_a_subscription_ends_and_drop_only_what_they_deny() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(As { receive_maximum: Some(1), ..v5("bob").lasting(100) });
    world.subscribe(bob, &[("a", 1), ("b", 1)]);
    for (name, id) in [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5)] {
        world.publish(alice, name, &id.to_string(), 1, id);
    }
    world.holds_commits = true;
    let no_writing = Access::new(Permission::Allow).rule(Action::Publish, "#", Permission::Deny).unwrap();
    assert!(world.broker.set_access(world.now, "bob", Some(Arc::new(no_writing))));
    world.settle();
    assert_eq!((world.commits.len(), world.subscriptions("bob").count()), (0, 2));
    let no_a = Access::new(Permission::Allow).rule(Action::Any, "a", Permission::Deny).unwrap();
    assert!(world.broker.set_access(world.now, "bob", Some(Arc::new(no_a))));
    world.settle();
    assert_eq!((world.commits.len(), world.subscriptions("bob").count()), (1, 1));
    assert_eq!((world.session("bob").unwrap().queued, world.dropped(DropReason::NotAuthorized)), (2, 2));
    world.holds_commits = false;
    world.commit();
    let seen = world.work_off(bob);
    assert_eq!(payloads(&seen), ["1", "3", "5"]);
}

fn asked(world: &mut World, client: As<'_>) -> Client {
    world.holds_questions = true;
    let opened = world.begin(client);
    let mut grant = damselfly_broker::Grant::default();
    grant.access = Some(Arc::new(Access::new(Permission::Ask)));
    world.answer(Answer::Allow(grant));
    world.received(opened);
    opened
}

#[test]
fn an_answer_of_no_is_said_in_a_code_that_means_no() {
    for (code, told) in [
        (ReasonCode::Success, "87"),
        (ReasonCode::PacketTooLarge, "87"),
        (ReasonCode::QuotaExceeded, "97"),
        (ReasonCode::NotAuthorized, "87"),
    ] {
        let mut world = World::new();
        let bob = asked(&mut world, v5("bob"));
        world.subscribe_with(bob, &[("a", options(1))], &[]);
        world.answer(Answer::Deny(code));
        assert_eq!(world.received(bob), [format!("SUBACK #999 {told}")], "{code:?}");
        assert_eq!(world.subscriptions("bob").count(), 0);
        world.publish(bob, "a", "x", 1, 7);
        world.answer(Answer::Deny(code));
        assert_eq!(world.received(bob), [format!("PUBACK #7 {told}")], "{code:?}");
    }
}

#[test]
fn a_filter_waits_for_the_answer_about_the_same_filter_although_the_rules_permit_it_now() {
    let mut world = World::new();
    let bob = asked(&mut world, v5("bob"));
    world.subscribe_with(bob, &[("a", options(0))], &[]);
    assert!(world.broker.set_access(world.now, "bob", None));
    world.subscribe_with(bob, &[("a", options(2)), ("b", options(1))], &[]);
    world.answer_at(0, Answer::allow(), ProblemInformation::new());
    assert_eq!(world.received(bob), ["SUBACK #999 00", "SUBACK #999 02 01"]);
    let granted: Vec<_> = world.subscriptions("bob").map(|view| (view.filter, view.qos)).collect();
    assert_eq!(granted, [("a", qos(2)), ("b", qos(1))]);
}

#[test]
fn a_long_filter_counts_for_more_steps_than_a_short_one() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[(&"x".repeat(16_000), 1)]);
    let most = world.broker.counters().most_steps;
    assert!((1_000..1_200).contains(&most), "{most}");
    let id = [Property::SubscriptionIdentifier(SubscriptionId::new(3).unwrap())];
    world.subscribe_with(bob, &[("a", options(1))], &id);
    assert_eq!(world.broker.counters().most_steps, most);
}

#[test]
fn what_is_sent_again_keeps_within_the_window_of_the_new_connection() {
    // [MQTT-4.4.0-1] [MQTT-3.3.4-9]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("a", 1)]);
    for n in 1..=5 {
        world.publish(alice, "a", &n.to_string(), 1, n);
    }
    assert_eq!(world.received(bob).len(), 5);
    world.cut(bob);
    let bob = world.connect(As { receive_maximum: Some(2), ..v5("bob").lasting(100) });
    assert_eq!(world.received(bob), ["PUBLISH q1 #1 dup a=1", "PUBLISH q1 #2 dup a=2"]);
    for n in 1..=3 {
        world.ack(bob, AckType::Puback, n);
        assert_eq!(world.received(bob), [format!("PUBLISH q1 #{} dup a={}", n + 2, n + 2)]);
    }
}

#[test]
fn what_is_too_large_for_the_new_connection_gives_its_bytes_back() {
    let mut world = World::with(|config| config.max_inflight_bytes = 100_000);
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("a", 1)]);
    for (n, len) in [(1, 10), (2, 1_000), (3, 10), (4, 1_000)] {
        world.publish(alice, "a", &"x".repeat(len), 1, n);
    }
    assert_eq!(world.received(bob).len(), 4);
    world.cut(bob);
    let small = [Property::MaximumPacketSize(100.try_into().unwrap())];
    let bob = world.connect(v5("bob").lasting(100).with(&small));
    world.audit();
    assert_eq!(world.work_off(bob).len(), 2);
    assert_eq!(world.session("bob").unwrap().in_flight, 0);
    assert_eq!(world.dropped(DropReason::PacketTooLarge), 2);
}

#[test]
fn a_qos_1_message_that_waited_for_room_is_acknowledged_after_its_commit() {
    let mut world = World::with(|config| config.max_queued_messages = 1);
    let alice = world.connect(v5("alice"));
    let bob = world.connect(As { receive_maximum: Some(1), ..v5("bob") });
    world.subscribe(bob, &[("a", 1)]);
    for n in 1..=3 {
        world.publish(alice, "a", "x", 1, n);
    }
    assert_eq!(world.received(alice), ["PUBACK #1", "PUBACK #2"]);
    world.holds_commits = true;
    world.ack(bob, AckType::Puback, 1);
    world.pass_secs(1);
    assert!(world.received(alice).is_empty(), "not before it is durable");
    world.holds_commits = false;
    world.commit();
    assert_eq!(world.received(alice), ["PUBACK #3"]);
}

#[test]
fn nobody_is_told_of_subscribers_who_is_not_of_5_0() {
    let mut world = World::new();
    let alice = world.connect(v3("alice"));
    world.publish(alice, "a", "x", 1, 1);
    assert_eq!(world.received(alice), ["PUBACK #1"]);
    assert!(world.events.iter().all(|event| !matches!(event, Event::Dropped { .. })));
}
