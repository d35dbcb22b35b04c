//! No call takes more than its steps, whatever clients subscribe to: what is left is done in later calls, in order.

use damselfly_broker::{Access, Event, Forward, Interest, LocalId, Output, Permission, Published, ShardId};
use damselfly_codec::{AckType, Packet, Properties, Publish, SubscriptionOptions};
use damselfly_session::Message;

use crate::world::{As, World, delivery, filter, qos, topic, v3, v5};

/// Levels of the topic that the bomb is for.
const LEVELS: u32 = 8;
pub(crate) const TARGET: &str = "a/a/a/a/a/a/a/a";
/// Nodes on the way of the topic: the root, and two below each.
const NODES: usize = (1 << (LEVELS + 1)) - 1;

const STEPS: usize = 128;
/// What a call may add to its steps, because it ends what it began: one lookup with its receivers.
const SLACK: usize = STEPS / 2;

fn world() -> World {
    World::with(|config| config.steps_per_call = u32::try_from(STEPS).unwrap())
}

/// Every filter of '+' and "a", so that the topic passes every node there is.
pub(crate) fn bomb() -> impl Iterator<Item = String> {
    (0..1_u32 << LEVELS).map(|bits| {
        let level = |at: u32| if bits & (1 << at) == 0 { "a" } else { "+" };
        (0..LEVELS).map(level).collect::<Vec<_>>().join("/")
    })
}

/// A local participant with all of them; none matches the topic with one more level, which passes as many nodes.
fn plant(world: &mut World) -> LocalId {
    let local = world.broker.open_local(world.now, "bomber", 5.try_into().unwrap()).unwrap();
    for text in bomb() {
        subscribe(world, local, &text);
    }
    world.settle();
    local
}

fn subscribe(world: &mut World, local: LocalId, text: &str) {
    let options = SubscriptionOptions { qos: qos(2), ..SubscriptionOptions::default() };
    world.broker.local_subscribe(world.now, local, filter(text), options, None);
}

fn local(world: &mut World, name: &str, filters: &[&str]) -> LocalId {
    let local = world.broker.open_local(world.now, name, 100.try_into().unwrap()).unwrap();
    for text in filters {
        subscribe(world, local, text);
    }
    local
}

fn publish_locally(world: &mut World, from: LocalId, name: &str, payload: &str, level: u8) -> Published {
    let message = Message::compose(topic(name), payload.as_bytes(), qos(level), false, Properties::EMPTY, world.now);
    world.broker.local_publish(world.now, from, message)
}

/// What local participants were given, by whom and payload.
fn delivered(world: &World) -> Vec<(LocalId, String)> {
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    world.delivered.iter().map(|(to, delivery)| (*to, text(delivery.message.payload()))).collect()
}

fn assert_bounded(world: &World) {
    let most = world.broker.counters().most_steps;
    assert!(most <= STEPS + SLACK, "{most} steps in one call");
    world.audit();
}

#[test]
fn a_wildcard_bomb_is_walked_over_many_calls_and_delivered_once() {
    let mut world = world();
    let bomber = plant(&mut world);
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("#", 1)]);
    let before = world.turns;

    world.publish(alice, TARGET, "x", 1, 7);

    assert_eq!(world.received(alice), ["PUBACK #7"]);
    assert_eq!(world.received(bob), [format!("PUBLISH q1 #1 {TARGET}=x")]);
    assert_eq!(delivered(&world), [(bomber, "x".into())]);
    assert!(world.turns - before >= NODES / (STEPS / 4), "{} turns", world.turns - before);
    assert_bounded(&world);
}

#[test]
fn steps_per_call() {
    // One lookup takes a quarter of them: here eight, and each receiver found is one.
    let mut world = World::with(|config| config.steps_per_call = 32);
    let alice = local(&mut world, "alice", &[]);
    for n in 0..8 {
        local(&mut world, &format!("bob {n}"), &["a"]);
    }
    assert_eq!(publish_locally(&mut world, alice, "a", "1", 0).receivers, 8);
    local(&mut world, "bob 8", &["a"]);
    assert_eq!(publish_locally(&mut world, alice, "a", "2", 0).receivers, 0);
    world.settle();
    assert_eq!(world.delivered.len(), 8 + 9);
}

#[test]
fn a_publisher_is_left_unread_until_its_message_is_delivered_and_keeps_its_order() {
    // [MQTT-4.6.0-6]
    let mut world = world();
    plant(&mut world);
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("#", 0)]);

    world.holds_work = true;
    world.publish(alice, TARGET, "1", 0, 0);
    world.publish(alice, "quick", "2", 0, 0);
    world.publish(alice, TARGET, "3", 0, 0);
    assert!(world.is_paused(alice));
    assert!(world.received(bob).is_empty());
    world.send(bob, Packet::Pingreq);
    assert_eq!(world.received(bob), ["PINGRESP"], "others go on");

    world.holds_work = false;
    world.settle();
    assert!(!world.is_paused(alice));
    let seen = [format!("PUBLISH q0 {TARGET}=1"), "PUBLISH q0 quick=2".into(), format!("PUBLISH q0 {TARGET}=3")];
    assert_eq!(world.received(bob), seen);
    assert_bounded(&world);
}

#[test]
fn keep_alive_stands_still_while_a_lookup_goes_on() {
    let mut world = world();
    plant(&mut world);
    let alice = world.connect(As { keep_alive: 10, ..v5("alice") });
    world.holds_work = true;
    world.publish(alice, TARGET, "x", 0, 0);
    world.now = world.now.saturating_add(std::time::Duration::from_secs(100));
    world.holds_work = false;
    world.settle();
    assert!(!world.is_closed(alice));
    world.pass_secs(15);
    assert!(world.is_closed(alice), "from then on it runs again");
}

#[test]
fn a_lookup_goes_on_without_its_publisher_and_before_its_will() {
    for lasting in [false, true] {
        let mut world = world();
        plant(&mut world);
        let bob = world.connect(v5("bob"));
        world.subscribe(bob, &[("#", 1)]);
        let alice = As { will: Some((TARGET, "will", 1, false, 0)), ..v5("alice") };
        let alice = world.connect(if lasting { alice.lasting(100) } else { alice });

        world.holds_work = true;
        world.publish(alice, TARGET, "last words", 1, 7);
        world.cut(alice);
        assert!(world.received(bob).is_empty());
        world.holds_work = false;
        world.settle();

        let seen = [format!("PUBLISH q1 #1 {TARGET}=last words"), format!("PUBLISH q1 #2 {TARGET}=will")];
        assert_eq!(world.received(bob), seen, "lasting: {lasting}");
        assert_bounded(&world);
    }
}

#[test]
fn a_qos_1_message_whose_publisher_left_is_acknowledged_to_nobody() {
    let mut world = world();
    plant(&mut world);
    let alice = world.connect(v5("alice").lasting(100));
    world.holds_work = true;
    world.publish(alice, TARGET, "x", 1, 7);
    world.cut(alice);
    let alice = world.connect(v5("alice").lasting(100));
    world.publish_with(alice, TARGET, "x", delivery(1, 7, true), false, &[]);
    let mut answer = world.received(alice);
    while answer.is_empty() {
        world.broker.handle_timeout(world.now);
        world.settle();
        answer = world.received(alice);
    }
    assert_eq!(answer, ["PUBACK #7"]);
    assert_eq!(world.delivered.len(), 2, "for what was sent on this connection");
}

#[test]
fn qos_2_messages_are_looked_up_over_many_calls_after_their_commit() {
    let mut world = world();
    let bomber = plant(&mut world);
    let alice = world.connect(v5("alice"));
    world.holds_commits = true;
    world.publish(alice, TARGET, "1", 2, 1);
    world.publish(alice, TARGET, "2", 2, 2);
    assert!(world.delivered.is_empty());
    world.holds_commits = false;
    world.commit();
    assert_eq!(world.received(alice), ["PUBREC #1", "PUBREC #2"]);
    assert_eq!(delivered(&world), [(bomber, "1".into()), (bomber, "2".into())]);
    world.ack(alice, AckType::Pubrel, 1);
    assert_eq!(world.received(alice), ["PUBCOMP #1"]);
    assert_bounded(&world);
}

#[test]
fn local_participants_keep_their_order_too() {
    let mut world = world();
    let bomber = plant(&mut world);
    let alice = local(&mut world, "alice", &[]);
    for (payload, level) in [("1", 0), ("2", 2), ("3", 0), ("4", 2)] {
        let published = publish_locally(&mut world, alice, TARGET, payload, level);
        assert_eq!(published.receivers, 0);
    }
    world.settle();
    let by_level = |even: bool| {
        let mut seen = delivered(&world);
        seen.retain(|(_, payload)| (payload.as_bytes()[0] % 2 == 0) == even);
        seen
    };
    assert_eq!(by_level(false), [(bomber, "1".into()), (bomber, "3".into())]);
    assert_eq!(by_level(true), [(bomber, "2".into()), (bomber, "4".into())]);
    assert_bounded(&world);
}

#[test]
fn what_other_brokers_forward_is_looked_up_over_many_calls_in_order() {
    let mut world = World::with(|config| {
        config.steps_per_call = u32::try_from(STEPS).unwrap();
        config.announce_interest = true;
    });
    let bomber = plant(&mut world);
    let quick = local(&mut world, "quick", &["quick"]);
    for (name, payload) in [(TARGET, "1"), ("quick", "2"), (TARGET, "3")] {
        let publish = Publish {
            delivery: delivery(0, 1, false),
            retain: false,
            topic: Some(topic(name)),
            properties: Properties::EMPTY,
            payload: payload.as_bytes(),
        };
        let message = Message::new(&publish, topic(name), world.now);
        let forward = Forward { message, shared_filter: None, retain: false, deliver: true };
        world.broker.handle_forward(world.now, &forward);
    }
    world.settle();
    assert_eq!(delivered(&world), [(bomber, "1".into()), (quick, "2".into()), (bomber, "3".into())]);
    assert_bounded(&world);
}

#[test]
fn a_topic_whose_interest_takes_too_many_steps_goes_to_every_broker() {
    let mut world = World::with(|config| {
        config.steps_per_call = u32::try_from(STEPS).unwrap();
        config.announce_interest = true;
    });
    for shard in [1, 2] {
        world.broker.handle_shard_joined(world.now, ShardId(shard));
    }
    for text in bomb() {
        world.broker.handle_interest(
            world.now,
            ShardId(1),
            &Interest { filter: text.into(), members: 1, connected: 0 },
        );
    }
    let alice = world.connect(v5("alice"));
    world.forwarded.clear();
    world.publish(alice, TARGET, "x", 0, 0);
    world.publish(alice, "a/b", "x", 0, 0);
    let to: Vec<_> = world
        .forwarded
        .iter()
        .filter_map(|(_, output)| match output {
            Output::Forward { to, .. } => Some(to.0),
            _ => None,
        })
        .collect();
    assert_eq!(to, [1, 2], "both for the one, neither for the other");
}

#[test]
fn subscriptions_that_come_and_go_during_a_lookup_are_safe() {
    let mut world = world();
    plant(&mut world);
    let alice = local(&mut world, "alice", &[]);
    let stays: Vec<_> = (0..20).map(|n| local(&mut world, &format!("stays {n}"), &["#", "a/#", TARGET])).collect();
    let goes = local(&mut world, "goes", &["#"]);

    assert_eq!(publish_locally(&mut world, alice, TARGET, "x", 1).receivers, 0);
    for turn in 0..3 {
        world.broker.handle_timeout(world.now);
        local(&mut world, &format!("comes {turn}"), &["a/+/#"]);
        world.broker.local_unsubscribe(world.now, stays[0], filter("a/#"));
        subscribe(&mut world, stays[0], "a/#");
    }
    world.broker.close_local(world.now, goes);
    let heir = local(&mut world, "heir", &["nothing"]);
    world.settle();

    let seen = delivered(&world);
    for stay in stays {
        assert_eq!(seen.iter().filter(|(to, _)| *to == stay).count(), 1, "exactly once");
    }
    assert!(seen.iter().all(|(to, _)| *to != heir && *to != goes), "its slot is another's");
    assert_bounded(&world);
}

#[test]
fn rules_that_change_during_a_lookup_hold_for_its_delivery() {
    let mut world = world();
    plant(&mut world);
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[(TARGET, 0)]);
    world.holds_work = true;
    world.publish(alice, TARGET, "x", 0, 0);
    world.broker.handle_timeout(world.now);
    let access = Access::new(Permission::Deny);
    assert!(world.broker.set_access(world.now, "bob", Some(std::sync::Arc::new(access))));
    world.holds_work = false;
    world.settle();
    assert!(world.received(bob).is_empty());
    assert_bounded(&world);
}

#[test]
fn a_retained_message_is_there_from_the_beginning_of_its_lookup() {
    let mut world = world();
    plant(&mut world);
    let alice = world.connect(v5("alice"));
    world.holds_work = true;
    world.retain(alice, TARGET, "x");
    assert_eq!(world.broker.retained_len(), 1);
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[(TARGET, 0)]);
    world.holds_work = false;
    world.settle();
    assert!(world.received(bob).contains(&format!("PUBLISH q0 retain {TARGET}=x")));
}

#[test]
fn very_many_receivers_are_served_over_many_calls_each_once() {
    let mut world = world();
    let alice = world.connect(v5("alice"));
    let all: Vec<_> = (0..STEPS * 2).map(|n| local(&mut world, &format!("bob {n}"), &["a"])).collect();
    world.publish(alice, "a", "x", 1, 1);
    let expected: Vec<_> = all.into_iter().map(|to| (to, String::from("x"))).collect();
    assert_eq!(delivered(&world), expected);
    assert_eq!(world.received(alice), ["PUBACK #1"]);
    assert_bounded(&world);
}

#[test]
fn many_messages_in_one_read_are_handled_over_many_calls() {
    let mut world = world();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("#", 0)]);
    let mut bytes = Vec::new();
    for n in 0..500_u32 {
        bytes.extend_from_slice(&[0x30, 7, 0, 4]);
        bytes.extend_from_slice(format!("{n:04}").as_bytes());
        bytes.push(0);
    }
    world.send_bytes(alice, &bytes);
    let seen = world.received(bob);
    assert!(seen.iter().enumerate().all(|(n, line)| *line == format!("PUBLISH q0 {n:04}=")));
    assert_eq!(seen.len(), 500);
    assert!(world.turns >= 500 / STEPS);
    assert_bounded(&world);
}

#[test]
fn a_replay_that_finds_nothing_takes_its_turns_too() {
    let mut world = world();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    for n in 0..1_000 {
        world.retain(alice, &format!("a/{n}"), "x");
    }
    world.subscribe(bob, &[("+/+/x", 0), ("a/7", 0)]);
    assert_eq!(world.received(bob), ["PUBLISH q0 retain a/7=x"]);
    assert_bounded(&world);
}

/// Publishers with messages that cost steps, more of them than many calls handle; what else is there is not done yet.
fn keep_busy(world: &mut World) {
    plant(world);
    let busy: Vec<_> = (0..20).map(|n| world.connect(v5(&format!("busy {n}")))).collect();
    world.holds_commits = true;
    for publisher in busy {
        for id in 1..=20 {
            world.publish(publisher, &format!("a/a/a/{id}"), "x", 2, id);
        }
    }
    world.holds_commits = false;
    world.holds_work = true;
    // All of them at once.
    let last = world.commits.drain(..).next_back().unwrap();
    world.broker.handle_committed(world.now, last.1);
    world.settle();
}

/// One call for each kind of what is left, so that each was the first to take steps.
fn a_round(world: &mut World) {
    for _ in 0..5 {
        world.broker.handle_timeout(world.now);
        world.settle();
    }
    assert_eq!(world.broker.poll_timeout(), Some(damselfly_session::Timestamp::ZERO), "the busy one is not done");
    assert_bounded(world);
}

#[test]
fn timers_have_their_turn_while_publishers_take_all_steps() {
    // [MQTT-3.1.2-22] [MQTT-3.1.2-8]
    let mut world = world();
    let silent = world.connect(As { keep_alive: 10, ..v5("silent") });
    let gone = world.connect(As { will: Some(("a/a/a", "will", 0, false, 10)), ..v5("gone").lasting(100) });
    world.cut(gone);
    keep_busy(&mut world);
    world.holds_questions = true;
    let asking = world.begin(v5("asking"));

    world.now = world.now.saturating_add(std::time::Duration::from_secs(15));
    a_round(&mut world);

    assert!(world.is_closed(silent), "keep alive");
    let is_will = |event: &Event| matches!(event, Event::WillPublished { client_id, .. } if **client_id == *"gone");
    assert!(world.events.iter().any(is_will), "a will");
    assert_eq!(world.received(asking), ["CONNACK 87"], "a question");
}

#[test]
fn receivers_have_their_turn_while_publishers_take_all_steps() {
    let mut world = world();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    for n in 0..500 {
        world.retain(alice, &format!("r/{n}"), "x");
    }
    keep_busy(&mut world);
    // Nothing is sent meanwhile that would have it go on.
    world.subscribe(bob, &[("+/+/x", 0), ("r/7", 0)]);
    assert!(world.received(bob).is_empty(), "not within this call");

    for _ in 0..5 {
        a_round(&mut world);
    }

    assert_eq!(world.received(bob), ["PUBLISH q0 retain r/7=x"]);
}

#[test]
fn a_long_queue_is_sent_over_many_calls_each_as_long_as_it_may_be() {
    let mut world = world();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v3("bob").lasting(0));
    world.subscribe(bob, &[("a", 1)]);
    world.cut(bob);
    for n in 1..=1_000 {
        world.publish(alice, "a", &n.to_string(), 1, n);
    }
    let before = world.turns;
    world.is_stalled = true;
    let bob = world.begin(v3("bob").lasting(0));
    let turns = world.turns - before;
    assert!((1_000 / STEPS - 1..=1_000 / STEPS + 2).contains(&turns), "{turns} turns");
    world.unstall();
    let expected: Vec<_> = (1..=1_000).map(|n| format!("PUBLISH q1 #{n} a={n}")).collect();
    assert_eq!(world.received(bob)[1..], expected);
    assert_bounded(&world);
}

#[test]
fn a_subscriber_that_is_gone_gets_nothing_while_its_subscriptions_are_taken_out() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let gone = world.broker.open_local(world.now, "gone", 5.try_into().unwrap()).unwrap();
    for n in 0..5_000 {
        subscribe(&mut world, gone, &format!("s/{n:04}"));
    }
    world.settle();
    world.holds_work = true;
    world.broker.close_local(world.now, gone);
    assert!((1..5_000).contains(&world.broker.subscriptions_len()), "some are left");
    for level in 0..2 {
        world.publish(alice, "s/4999", "x", level, 1);
        world.publish(alice, "s/4999", "x", 1, 2);
    }
    assert!(world.received(alice).iter().all(|line| line.ends_with(" 10")), "nobody has subscribed");
    assert_eq!(world.broker.messages_len(), 0);
    world.holds_work = false;
    world.settle();
    assert_eq!(world.broker.subscriptions_len(), 0);
    world.audit();
}
