//! Retained messages. [MQTT-3.3.1.3]

use damselfly_broker::{DropReason, LocalId};
use damselfly_codec::{AckType, Properties, Property, RetainHandling, SubscriptionOptions};
use damselfly_session::Message;

use super::world::{As, Client, World, delivery, qos, topic, v3, v5};

fn options(level: u8, retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions { qos: qos(level), retain_handling, ..SubscriptionOptions::default() }
}

#[test]
fn the_last_retained_message_comes_with_a_new_subscription_and_live_ones_without_the_flag() {
    // [MQTT-3.3.1-5] [MQTT-3.3.1-9] [MQTT-3.3.1-12] [MQTT3-3.3.1-5] [MQTT3-3.3.1-6] [MQTT3-3.3.1-8] [MQTT3-3.3.1-9]
    for client in [v5("bob"), v3("bob")] {
        let mut world = World::new();
        let alice = world.connect(v5("alice"));
        world.retain(alice, "a", "old");
        world.publish_with(alice, "a", "new", delivery(1, 1, false), true, &[]);
        let bob = world.connect(client);
        world.subscribe(bob, &[("#", 2)]);
        assert_eq!(world.received(bob), ["PUBLISH q1 #1 retain a=new"], "with the QoS it was published at");
        world.retain(alice, "a", "live");
        assert_eq!(world.received(bob), ["PUBLISH q0 a=live"]);
    }
}

#[test]
fn an_empty_payload_removes_and_is_delivered_but_not_kept() {
    // [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] [MQTT3-3.3.1-10] [MQTT3-3.3.1-11] [MQTT3-3.3.1-12]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.subscribe(bob, &[("a", 0)]);
    world.retain(alice, "a", "x");
    world.publish(alice, "a", "not retained", 0, 0);
    let carol = world.connect(v3("carol"));
    world.subscribe(carol, &[("a", 0)]);
    assert_eq!(world.received(carol), ["PUBLISH q0 retain a=x"], "what is not retained leaves it alone");
    world.retain(alice, "a", "");
    assert_eq!(world.received(bob), ["PUBLISH q0 a=x", "PUBLISH q0 a=not retained", "PUBLISH q0 a="]);
    assert_eq!(world.broker.retained_len(), 0);
    world.subscribe(bob, &[("a", 0)]);
    assert!(world.received(bob).is_empty());
}

#[test]
fn retain_handling_decides_when_they_come() {
    // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.retain(alice, "a", "x");
    let mut ask = |handling, expected: &[&str]| {
        world.subscribe_with(bob, &[("a", options(0, handling))], &[]);
        assert_eq!(world.received(bob)[1..], *expected, "{handling:?}");
    };
    ask(RetainHandling::DoNotSend, &[]);
    ask(RetainHandling::SendIfNew, &[]);
    ask(RetainHandling::SendAtSubscribe, &["PUBLISH q0 retain a=x"]);
    world.unsubscribe(bob, &["a"]);
    world.received(bob);
    world.subscribe_with(bob, &[("a", options(0, RetainHandling::SendIfNew))], &[]);
    assert_eq!(world.received(bob)[1..], ["PUBLISH q0 retain a=x"]);
}

#[test]
fn retain_as_published_keeps_the_flag_on_live_messages() {
    // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    let keeps = SubscriptionOptions { retain_as_published: true, ..SubscriptionOptions::default() };
    world.subscribe_with(bob, &[("a", keeps)], &[]);
    world.received(bob);
    world.retain(alice, "a", "x");
    world.publish(alice, "a", "y", 0, 0);
    assert_eq!(world.received(bob), ["PUBLISH q0 retain a=x", "PUBLISH q0 a=y"]);
}

#[test]
fn many_retained_messages_come_within_the_window_and_before_later_live_ones() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for n in 0..300 {
        world.publish_with(alice, &format!("r/{n:03}"), "old", delivery(1, 1, false), true, &[]);
    }
    let bob = world.connect(As { receive_maximum: Some(3), ..v5("bob") });
    world.subscribe(bob, &[("r/#", 1)]);
    world.publish(alice, "r/live", "new", 1, 1);
    world.publish_with(alice, "r/299", "newer", delivery(1, 1, false), true, &[]);

    let all = world.work_off(bob);

    let names: std::collections::BTreeSet<_> = all.iter().map(|line| line.split(' ').next_back().unwrap()).collect();
    assert_eq!(names.len(), all.len(), "no message twice");
    assert_eq!(all.len(), 301, "r/299 came live, so its replay is left out");
    assert!(all[299].ends_with("r/live=new") && all[300].ends_with("r/299=newer"));
    assert!(all[..299].iter().all(|line| line.contains(" retain ")));
}

#[test]
fn a_replay_goes_on_after_a_reconnect() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for n in 0..100 {
        world.publish_with(alice, &format!("r/{n:03}"), "x", delivery(1, 1, false), true, &[]);
    }
    let slow = As { receive_maximum: Some(3), ..v5("bob").lasting(100) };
    let bob = world.connect(slow);
    world.subscribe(bob, &[("r/#", 1)]);
    world.cut(bob);
    let bob = world.begin(slow);
    world.first(bob);
    let all = world.work_off(bob);
    assert_eq!(all.len(), 100);
}

#[test]
fn each_subscription_gets_its_replay_with_its_identifier() {
    // [MQTT-3.3.4-3] [MQTT-3.3.4-5]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.retain(alice, "a/b", "x");
    let id = damselfly_codec::SubscriptionId::new(9).unwrap();
    let filters = [("a/#", SubscriptionOptions::default()), ("+/b", SubscriptionOptions::default())];
    world.subscribe_with(bob, &filters, &[Property::SubscriptionIdentifier(id)]);
    let line = format!("PUBLISH q0 retain a/b=x {{{:?}}}", Property::SubscriptionIdentifier(id));
    assert_eq!(world.received(bob)[1..], [line.clone(), line]);
}

#[test]
fn a_retained_message_expires_and_tells_the_time_left() {
    // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.publish_with(alice, "a", "x", delivery(0, 1, false), true, &[Property::MessageExpiryInterval(10)]);
    world.pass_secs(4);
    world.subscribe(bob, &[("a", 0)]);
    assert_eq!(world.received(bob), ["PUBLISH q0 retain a=x {MessageExpiryInterval(6)}"]);
    world.pass_secs(6);
    world.subscribe(bob, &[("a", 0)]);
    assert!(world.received(bob).is_empty());
    world.pass_secs(2);
    assert_eq!(world.broker.retained_len(), 0, "its memory is given back");
}

#[test]
fn retained_messages_outlive_sessions_and_respect_the_dollar_rule() {
    // [MQTT3-3.1.2-7] [MQTT-4.7.2-1] [MQTT3-4.7.2-1]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    world.retain(alice, "$x/a", "hidden");
    world.retain(alice, "x/a", "seen");
    world.cut(alice);
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 0), ("+/a", 0), ("$x/#", 0)]);
    assert_eq!(
        world.received(bob),
        ["PUBLISH q0 retain x/a=seen", "PUBLISH q0 retain x/a=seen", "PUBLISH q0 retain $x/a=hidden"]
    );
}

#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.retain(alice, "a", "x");
    world.subscribe(bob, &[("$share/g/a", 0)]);
    assert!(world.received(bob).is_empty());
}

#[test]
fn a_filter_repeated_gets_each_retained_message_once_more_and_no_walk_for_each() {
    // [MQTT-3.8.4-3] [MQTT-3.8.4-5]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    for n in 0..100 {
        world.publish_with(alice, &format!("r/{n}"), "x", delivery(1, 1, false), true, &[]);
    }
    let at = |level| options(level, RetainHandling::SendAtSubscribe);
    world.subscribe_with(bob, &[("#", at(1)), ("#", at(1)), ("#", at(0))], &[]);
    let all = world.received(bob);
    assert_eq!(all.len(), 1 + 100, "the last takes the place of those before it");
    assert!(all[1..].iter().all(|line| line.starts_with("PUBLISH q0 retain")));
    world.subscribe(bob, &[("#", 0)]);
    assert_eq!(world.received(bob).len(), 100, "and one that comes later sends them again");
}

#[test]
fn a_walk_that_is_replaced_loses_nothing() {
    // [MQTT-3.8.4-3] [MQTT-3.8.4-4]
    for (handling, rest) in [
        (RetainHandling::SendAtSubscribe, 100),
        (RetainHandling::SendIfNew, 100 - 3),
        (RetainHandling::DoNotSend, 100 - 3),
    ] {
        let mut world = World::new();
        let alice = world.connect(v5("alice"));
        let bob = world.connect(As { receive_maximum: Some(3), ..v5("bob") });
        for n in 0..100 {
            world.publish_with(alice, &format!("r/{n}"), "x", delivery(1, 1, false), true, &[]);
        }
        world.subscribe(bob, &[("r/#", 1)]);
        let first = world.received(bob);
        assert_eq!(first.len(), 3);
        world.subscribe_with(bob, &[("r/#", options(1, handling))], &[]);
        assert!(world.first(bob).starts_with("SUBACK"));
        for id in 1..=3 {
            world.ack(bob, AckType::Puback, id);
        }
        // What the first walk had found already is sent whatever comes after it.
        let seen = world.work_off(bob);
        let topics: std::collections::BTreeSet<_> =
            seen.iter().chain(&first).map(|line| &line[line.find("r/").unwrap()..]).collect();
        assert_eq!(topics.len(), 100, "{handling:?}");
        assert!(seen.len() >= rest && seen.len() <= rest + 64, "{handling:?}: {}", seen.len());
        world.audit();
    }
}

#[test]
fn walks_of_subscriptions_that_ended_are_passed_over() {
    // [MQTT-3.10.4-2]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(As { receive_maximum: Some(1), ..v5("bob") });
    world.retain(alice, "a/1", "x");
    world.subscribe(bob, &[("b", 1)]);
    world.publish(alice, "b", "1", 1, 1);
    world.publish(alice, "b", "2", 1, 2);
    assert_eq!(world.received(bob).len(), 1);
    // Nothing is walked over behind a message that waits for the window.
    world.subscribe(bob, &[("a/+", 0), ("a/1", 0), ("+/1", 0)]);
    world.unsubscribe(bob, &["a/1"]);
    world.unsubscribe(bob, &["a/+"]);
    assert_eq!(world.received(bob), ["UNSUBACK #998 00", "UNSUBACK #998 00"]);
    world.subscribe(bob, &[("a/1", 0)]);
    world.audit();
    world.received(bob);
    world.ack(bob, AckType::Puback, 1);
    let retained = "PUBLISH q0 retain a/1=x";
    assert_eq!(world.received(bob), ["PUBLISH q1 #2 b=2", retained, retained], "for +/1 and the second a/1");
    world.audit();
}

/// The walk begins once SUBACK is out; the publisher's connection knows by then who gets its messages.
#[test]
fn a_live_message_that_is_known_does_not_overtake_a_walk_that_waits() {
    let mut world = World::with(|config| config.max_inflight = 1);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob").lasting(100))];
    for n in 0..200 {
        world.publish_with(alice, &format!("a/{n}"), "old", delivery(1, 1, false), true, &[]);
    }
    world.holds_commits = true;
    let options = SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() };
    world.subscribe_with(bob, &[("a/#", options)], &[]);
    for _ in 0..4 {
        world.publish(alice, "a/live", "early", 0, 0);
    }
    assert_eq!(world.received(bob), ["PUBLISH q0 a/live=early"; 4]);
    world.holds_commits = false;
    world.commit();
    world.publish(alice, "a/live", "late", 0, 0);
    world.audit();
    let seen = world.work_off(bob);
    assert_eq!(seen.len(), 201);
    assert_eq!(seen[200], "PUBLISH q0 a/live=late");
    // And with nothing before it, it goes at once.
    world.publish(alice, "a/live", "later", 0, 0);
    assert_eq!(world.received(bob), ["PUBLISH q0 a/live=later"]);
}

fn participant(world: &mut World) -> LocalId {
    world.broker.open_local(world.now, "house", 1.try_into().unwrap()).unwrap()
}

fn compose(world: &World, name: &str, payload: &str) -> Message {
    Message::compose(topic(name), payload.as_bytes(), qos(0), true, Properties::EMPTY, world.now)
}

fn retain(world: &mut World, local: LocalId, name: &str, payload: &str) {
    let message = compose(world, name, payload);
    let _published = world.broker.local_publish(world.now, local, message);
    world.settle();
}

/// What a retained message counts for: its place with its number, its content, its name once more.
fn weight(message: &Message) -> u64 {
    let bytes = 48 + size_of::<(Message, u64)>() + message.heap_bytes() + message.topic().as_str().len();
    u64::try_from(bytes).unwrap()
}

#[test]
fn a_retained_message_counts_for_itself_and_not_for_the_one_it_replaced() {
    let mut world = World::new();
    let house = participant(&mut world);
    let before = world.broker.memory().counted;
    for payload in ["short", &*"x".repeat(200), "short"] {
        retain(&mut world, house, "a/b", payload);
        let expected = weight(&compose(&world, "a/b", payload));
        assert_eq!(world.broker.memory().counted - before, expected);
    }
    retain(&mut world, house, "a/b", "");
    assert_eq!(world.broker.memory().counted, before);
}

#[test]
fn max_retained_bytes_is_met_exactly_and_replacing_takes_no_more() {
    let needed = weight(&compose(&World::new(), "a", "x"));
    for (limit, kept) in [(needed, 1), (needed - 1, 0)] {
        let mut world = World::with(|config| config.max_retained_bytes = limit);
        let house = participant(&mut world);
        for _ in 0..3 {
            retain(&mut world, house, "a", "x");
            assert_eq!(world.broker.retained_len(), kept);
        }
        let dropped = world.broker.counters().dropped(DropReason::RetainedFull);
        assert_eq!(dropped, if kept == 1 { 0 } else { 3 });
    }
}

#[test]
fn a_retained_message_that_expires_when_another_is_removed_goes_with_it() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for (name, seconds) in [("a", 10), ("b", 11), ("c", 12)] {
        let expiry = [Property::MessageExpiryInterval(seconds)];
        world.publish_with(alice, name, "x", delivery(0, 1, false), true, &expiry);
    }
    // Their memory is given back within a second.
    world.pass_secs(11);
    assert_eq!(world.broker.retained_len(), 1);
}

/// Bob, to whom nothing gets through, so that `waiting` bytes wait once SUBACK has joined them, and who has subscribed
/// `live`.
fn behind(waiting: usize) -> (World, LocalId, Client) {
    let mut world = World::new();
    let house = participant(&mut world);
    let bob = world.connect(v3("bob"));
    world.subscribe(bob, &[("fill", 0), ("live", 1)]);
    retain(&mut world, house, "r", "x");
    world.is_stalled = true;
    // SUBACK, and fixed header and Topic Name of the PUBLISH.
    let payload = "x".repeat(waiting - 5 - 10);
    let message = Message::compose(topic("fill"), payload.as_bytes(), qos(0), false, Properties::EMPTY, world.now);
    let _published = world.broker.local_publish(world.now, house, message);
    world.settle();
    assert_eq!(world.broker.transmit_len(bob.id), waiting - 5);
    (world, house, bob)
}

#[test]
fn retained_messages_wait_while_64_kib_wait_for_the_transport() {
    for (waiting, more) in [(65_535, 6), (65_536, 0)] {
        let (mut world, _, bob) = behind(waiting);
        world.subscribe_with(bob, &[("r", SubscriptionOptions::default())], &[]);
        assert_eq!(world.broker.transmit_len(bob.id), waiting + more);
        world.unstall();
        assert_eq!(world.received(bob).last().unwrap(), "PUBLISH q0 retain r=x");
    }
}

#[test]
fn what_waits_behind_retained_messages_goes_on_when_nobody_wants_them_any_more() {
    let (mut world, house, bob) = behind(65_536);
    world.subscribe_with(bob, &[("r", SubscriptionOptions::default())], &[]);
    let message = Message::compose(topic("live"), b"y", qos(1), false, Properties::EMPTY, world.now);
    assert_eq!(world.broker.local_publish(world.now, house, message).receivers, 1);
    assert_eq!(world.session("bob").unwrap().queued, 1);
    world.unsubscribe(bob, &["r"]);
    let view = world.session("bob").unwrap();
    assert_eq!((view.queued, view.in_flight), (0, 1));
    world.audit();
}

#[test]
fn retained_messages_of_qos_0_take_no_place_in_the_queue() {
    let mut world = World::with(|config| config.max_transmit_bytes = 1);
    let house = participant(&mut world);
    for name in ["a", "b", "c"] {
        retain(&mut world, house, name, "x");
    }
    let bob = world.connect(v3("bob"));
    world.is_stalled = true;
    world.subscribe_with(bob, &[("#", SubscriptionOptions::default())], &[]);
    assert_eq!(world.session("bob").unwrap().queued, 0);
    assert_eq!(world.broker.transmit_len(bob.id), 5 + 3 * 6);
}

#[test]
fn retained_messages_come_in_one_order_at_every_qos_and_are_counted() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for n in 0..20 {
        world.publish_with(alice, &format!("r/{n}"), "x", delivery(1, 1, false), true, &[]);
    }
    let [bob, carol] = [world.connect(v5("bob")), world.connect(As { receive_maximum: Some(1), ..v5("carol") })];
    let deliveries = |world: &World| world.brokers().map(|broker| broker.counters().deliveries).sum::<u64>();
    let before = deliveries(&world);
    world.subscribe(bob, &[("r/+", 0)]);
    assert_eq!(deliveries(&world), before + 20);
    world.subscribe(carol, &[("r/+", 1)]);
    let names = |lines: Vec<String>| -> Vec<_> {
        lines.iter().map(|line| line.split(' ').next_back().unwrap().to_owned()).collect()
    };
    let of_bob = names(world.received(bob));
    assert_eq!((of_bob.len(), of_bob), (20, names(world.work_off(carol))));
    assert_eq!(deliveries(&world), before + 40);
}
