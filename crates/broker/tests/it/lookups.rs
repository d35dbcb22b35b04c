//! What is looked up over several calls ends as if it had been looked up in one: the same receivers, order and numbers.

use damselfly_broker::{Forward, LocalId, ShardId};
use damselfly_codec::{Properties, Property, SubscriptionId, SubscriptionOptions};
use damselfly_session::Message;

use crate::{
    steps::{TARGET, bomb},
    world::{AnyWorld, As, World, delivery, filter, qos, topic, v5},
};

fn world<const JOINED: bool>() -> AnyWorld<JOINED> {
    let mut world = AnyWorld::with(|config| config.steps_per_call = 128);
    world.put(0, &["alice", "bob", "carol", "dave"]);
    world
}

/// A local participant of a broker whose filters make the lookup of the topic long.
fn plant<const JOINED: bool>(world: &mut AnyWorld<JOINED>, at: usize) -> LocalId {
    let now = world.now;
    let broker = world.at(at);
    let local = broker.open_local(now, "bomber", 5.try_into().unwrap()).unwrap();
    for text in bomb() {
        broker.local_subscribe(now, local, filter(&text), SubscriptionOptions::default(), None);
    }
    world.settle();
    local
}

fn id(value: u32) -> [Property<'static>; 1] {
    [Property::SubscriptionIdentifier(SubscriptionId::new(value).unwrap())]
}

fn options(level: u8, no_local: bool, retain_as_published: bool) -> SubscriptionOptions {
    SubscriptionOptions { qos: qos(level), no_local, retain_as_published, ..SubscriptionOptions::default() }
}

#[test]
fn no_local_identifiers_the_retain_flag_and_groups_are_as_in_one_call() {
    // [MQTT-3.8.3-3] [MQTT-3.3.4-2] [MQTT-3.3.4-4] [MQTT-3.3.1-13]
    let mut world: World = world();
    world.audits = true;
    plant(&mut world, 0);
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| world.connect(v5(name)));
    world.subscribe_with(alice, &[("#", options(2, true, true))], &[]);
    world.subscribe_with(bob, &[("#", options(0, false, true))], &id(5));
    world.subscribe_with(bob, &[("a/#", options(1, false, false))], &id(7));
    world.subscribe_with(bob, &[("+/a/#", options(0, false, false))], &id(9));
    world.subscribe_with(carol, &[("a/#", options(1, true, false))], &[]);
    world.subscribe_with(dave, &[("$share/g/#", options(1, false, true))], &id(3));
    for client in [alice, bob, carol, dave] {
        world.received(client);
    }
    let before = world.broker.counters().deliveries;

    world.publish_with(alice, TARGET, "x", delivery(1, 9, false), true, &[]);

    assert_eq!(world.received(alice), ["PUBACK #9"]);
    let seen = world.received(bob);
    assert!(seen.len() == 1 && seen[0].starts_with(&format!("PUBLISH q1 #1 retain {TARGET}=x ")), "{seen:?}");
    for id in ["SubscriptionId(5)", "SubscriptionId(7)", "SubscriptionId(9)"] {
        assert_eq!(seen[0].matches(id).count(), 1, "{seen:?}");
    }
    assert_eq!(world.received(carol), [format!("PUBLISH q1 #1 {TARGET}=x")]);
    let seen = world.received(dave);
    assert!(seen.len() == 1 && seen[0].starts_with(&format!("PUBLISH q1 #1 retain {TARGET}=x ")), "{seen:?}");
    assert!(seen[0].contains("SubscriptionId(3)"));
    assert_eq!(world.broker.counters().deliveries - before, 4, "three clients and the local participant");
}

#[test]
fn very_many_receivers_are_served_over_many_calls_and_given_back() {
    let mut world: World = world();
    world.audits = true;
    plant(&mut world, 0);
    let now = world.now;
    for n in 0..100 {
        let local = world.broker.open_local(now, &format!("house {n}"), 5.try_into().unwrap()).unwrap();
        for (text, id) in [("a/#", 1), ("#", 2)] {
            world.broker.local_subscribe(now, local, filter(text), options(1, false, false), SubscriptionId::new(id));
        }
    }
    let alice = world.connect(v5("alice"));
    let idle = world.broker.memory();

    world.holds_work = true;
    world.publish(alice, TARGET, &"x".repeat(10_000), 1, 7);
    let begun = world.broker.memory();
    // With its publisher, who is told later, and with the lookup.
    let more = begun.messages - idle.messages;
    assert!((20_000..25_000).contains(&more), "{more}");
    let mut most = 0;
    while world.received(alice).is_empty() {
        world.broker.handle_timeout(now);
        world.settle();
        most = most.max(world.broker.memory().messages);
    }
    assert!(most - begun.messages >= 100 * 8, "receivers that were found count too");
    assert_eq!(world.delivered.len(), 101);
    assert_eq!(world.broker.counters().deliveries, 101);
}

/// Where a session ends while a lookup has found it, its place may be another's before the lookup has.
#[test]
fn a_session_in_the_place_of_one_that_was_found_gets_what_it_subscribed_to_and_no_more() {
    for calls in 0..40 {
        let mut world: World = world();
        world.audits = true;
        plant(&mut world, 0);
        let alice = world.connect(v5("alice"));
        let bob = world.connect(v5("bob"));
        let filters = ["#", "a/#", "+/a/#", "a/a/a/#", "+/+/+/+/#", "a/a/a/a/a/#", "+/a/a/a/a/a/a/#", TARGET];
        for (number, text) in (1..).zip(filters) {
            world.subscribe_with(bob, &[(text, options(1, false, false))], &id(number));
        }
        world.received(bob);
        world.holds_work = true;
        world.publish(alice, TARGET, "x", 1, 7);
        for _ in 0..calls {
            world.broker.handle_timeout(world.now);
            world.settle();
        }
        world.cut(bob);
        // A call takes it out of the index; this may be another step of the lookup.
        world.broker.handle_timeout(world.now);
        let carol = world.connect(v5("carol"));
        for (number, text) in (11..).zip(filters) {
            world.subscribe_with(carol, &[(text, options(1, false, false))], &id(number));
        }
        world.holds_work = false;
        world.settle();
        let seen = world.received(carol);
        let got: Vec<_> = seen.iter().filter(|line| line.starts_with("PUBLISH")).collect();
        assert!(got.len() <= 1, "{calls}: {seen:?}");
        assert!(got.iter().all(|line| (1..=8).all(|id| !line.contains(&format!("SubscriptionId({id})")))), "{got:?}");
    }
}

/// So it is where a group ends.
#[test]
fn a_group_in_the_place_of_one_that_was_found_gets_nothing_for_it() {
    for calls in 0..40 {
        let mut world: World = world();
        world.audits = true;
        plant(&mut world, 0);
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.connect(v5(name)));
        world.subscribe(bob, &[("$share/g/#", 1)]);
        world.holds_work = true;
        world.publish(alice, TARGET, "x", 1, 7);
        for _ in 0..calls {
            world.broker.handle_timeout(world.now);
            world.settle();
        }
        world.unsubscribe(bob, &["$share/g/#"]);
        world.subscribe(carol, &[("$share/g/b", 1)]);
        world.holds_work = false;
        world.settle();
        assert!(world.received(carol).is_empty(), "after {calls} calls");
    }
}

/// Each has a message that takes many calls: these are carried on in turn.
#[test]
fn what_two_publishers_have_looked_up_at_once_reaches_everybody() {
    let mut world: World = world();
    world.audits = true;
    plant(&mut world, 0);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.connect(v5(name)));
    world.subscribe(carol, &[("#", 0)]);
    world.holds_work = true;
    world.publish(alice, TARGET, "of alice", 1, 7);
    world.publish(bob, TARGET, "of bob", 1, 9);
    assert_eq!(world.received(carol).len(), 0, "both are under way");
    world.holds_work = false;
    world.settle();
    assert_eq!([alice, bob].map(|client| world.received(client).join(" ")), ["PUBACK #7", "PUBACK #9"]);
    let mut seen = world.received(carol);
    seen.sort();
    assert_eq!(seen, ["alice", "bob"].map(|name| format!("PUBLISH q0 {TARGET}=of {name}")));
}

#[test]
fn brokers_that_are_joined_hand_over_what_was_looked_up_once_and_never_back() {
    for long_at in [0, 1] {
        let mut pair: AnyWorld<true> = world();
        pair.audits = true;
        pair.put(1, &["far"]);
        plant(&mut pair, long_at);
        let [alice, bob, far] = ["alice", "bob", "far"].map(|name| pair.connect(v5(name)));
        pair.subscribe(bob, &[("#", 1)]);
        pair.subscribe(far, &[("#", 1), ("$share/g/#", 1)]);
        let before = pair.broker.counters().deliveries;

        pair.publish(alice, TARGET, "x", 1, 7);

        assert_eq!(pair.received(alice), ["PUBACK #7"]);
        assert_eq!(pair.received(bob), [format!("PUBLISH q1 #1 {TARGET}=x")], "long at {long_at}");
        assert_eq!(pair.received(far).len(), 2, "one for itself and one for its group");
        // Bob, the other broker, its group, and the local participant where it is here.
        let expected = if long_at == 0 { 4 } else { 3 };
        assert_eq!(pair.broker.counters().deliveries - before, expected, "long at {long_at}");
    }
}

#[test]
fn what_other_brokers_forward_stays_in_order_and_counts_while_it_waits() {
    let mut world: World = world();
    world.audits = true;
    plant(&mut world, 0);
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 1)]);
    let idle = world.broker.memory().messages;
    world.holds_work = true;
    for (name, payload) in [(TARGET, "1"), (TARGET, "2"), ("quick", "3")] {
        let payload = payload.repeat(1_000);
        let message = Message::compose(topic(name), payload.as_bytes(), qos(1), false, Properties::EMPTY, world.now);
        let forward = Forward { message, shared_filter: None, retain: false, deliver: true };
        world.broker.handle_forward(world.now, &forward);
        world.settle();
    }
    let more = world.broker.memory().messages - idle;
    assert!((3_000..5_000).contains(&more), "{more}");
    assert!(world.received(bob).is_empty());
    world.holds_work = false;
    world.settle();
    let seen = world.received(bob);
    let names: Vec<_> = seen.iter().map(|line| line.split([' ', '=']).nth(3).unwrap()).collect();
    assert_eq!(names, [TARGET, TARGET, "quick"]);
}

#[test]
fn a_forwarded_message_that_is_found_at_once_does_not_wait_for_a_later_call() {
    let mut world: World = world();
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 0)]);
    world.holds_work = true;
    let message = Message::compose(topic("a"), b"x", qos(1), false, Properties::EMPTY, world.now);
    let forward = Forward { message, shared_filter: None, retain: false, deliver: true };
    world.broker.handle_forward(world.now, &forward);
    assert!(world.broker.poll_timeout().is_none(), "nothing is left to do");
    world.settle();
    assert_eq!(world.received(bob), ["PUBLISH q0 a=x"]);
}

/// Its own way is short by then, that of what was published before is not.
#[test]
fn a_will_does_not_overtake_what_its_client_published_to_the_topic_before() {
    let mut world: World = world();
    let bomber = plant(&mut world, 0);
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 1)]);
    let alice = world.connect(As { will: Some((TARGET, "will", 1, false, 0)), ..v5("alice") });
    world.holds_work = true;
    world.publish(alice, TARGET, "last words", 1, 7);
    for text in bomb() {
        world.broker.local_unsubscribe(world.now, bomber, filter(&text));
    }
    world.cut(alice);
    world.holds_work = false;
    world.settle();
    let seen = ["last words", "will"].map(|payload| format!(" {TARGET}={payload}"));
    let got = world.received(bob);
    assert!(got.len() == 2 && got[0].ends_with(&seen[0]) && got[1].ends_with(&seen[1]), "{got:?}");
}

/// Nothing is forwarded to a third broker, and what is lost for want of memory is counted.
#[test]
fn forwarded_messages_wait_for_no_more_memory_than_there_is() {
    let mut world = World::with(|config| {
        config.steps_per_call = 128;
        config.max_memory = 200_000;
    });
    plant(&mut world, 0);
    world.broker.handle_shard_joined(world.now, ShardId(1));
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 1)]);
    world.holds_work = true;
    let forward = |world: &mut World, name: &str, len: usize| {
        let payload = vec![b'x'; len];
        let message = Message::compose(topic(name), &payload, qos(0), false, Properties::EMPTY, world.now);
        let forward = Forward { message, shared_filter: None, retain: false, deliver: true };
        world.broker.handle_forward(world.now, &forward);
        world.settle();
    };
    let dropped = |world: &World| world.dropped(damselfly_broker::DropReason::Memory);
    forward(&mut world, TARGET, 10);
    forward(&mut world, "a", 200_000);
    assert_eq!(dropped(&world), 0, "the budget is exceeded by one message at most");
    forward(&mut world, "a", 10);
    assert_eq!(dropped(&world), 1, "it is used up, and something waits");
    world.holds_work = false;
    world.settle();
    assert_eq!(world.received(bob).len(), 2);
    world.is_stalled = true;
    forward(&mut world, "a", 250_000);
    forward(&mut world, "a", 10);
    assert_eq!(world.forwarded.len(), 0);
}
