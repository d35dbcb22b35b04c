//! Whose turn it is in a share group, at one broker: and very many members cost no more than a few.

use damselfly_broker::{Event, LocalId};
use damselfly_codec::{AckType, Properties, Property, ReasonCode, SubscriptionOptions};
use damselfly_session::Message;

use crate::world::{As, World, filter, qos, topic, v5};

const MANY: usize = 100_000;
const SHARED: &str = "$share/g/a";

fn join(world: &mut World, name: &str, window: u16) -> LocalId {
    let local = world.broker.open_local(world.now, name, window.try_into().unwrap()).unwrap();
    let options = SubscriptionOptions { qos: qos(2), ..SubscriptionOptions::default() };
    world.broker.local_subscribe(world.now, local, filter(SHARED), options, None);
    local
}

fn publish(world: &mut World, level: u8) {
    let message = Message::compose(topic("a"), b"x", qos(level), false, Properties::EMPTY, world.now);
    let from = world.broker.open_local(world.now, "publisher", 1.try_into().unwrap()).unwrap();
    assert_eq!(world.broker.local_publish(world.now, from, message).receivers, 1);
    world.broker.close_local(world.now, from);
    world.settle();
}

/// Who got the messages, in order.
fn takers(world: &mut World) -> Vec<LocalId> {
    std::mem::take(&mut world.delivered).into_iter().map(|(to, _)| to).collect()
}

#[test]
fn a_member_that_can_take_no_more_is_passed_over() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let slow = world.connect(As { receive_maximum: Some(1), ..v5("slow") });
    let quick = world.connect(v5("quick"));
    world.subscribe(slow, &[("$share/g/a", 1)]);
    world.subscribe(quick, &[("$share/g/a", 1)]);
    for n in 1..=5 {
        world.publish(alice, "a", &n.to_string(), 1, n);
    }
    assert_eq!(world.received(slow).len(), 1);
    assert_eq!(world.received(quick).len(), 4);
}

#[test]
fn joining_choosing_and_leaving_take_few_steps_however_many_members_there_are() {
    // [MQTT-4.8.2-4]
    let mut world = World::new();
    let all: Vec<_> = (0..MANY).map(|n| join(&mut world, &format!("member {n}"), 1)).collect();
    // The first of them have no room after the first round.
    for _ in 0..100 {
        publish(&mut world, 1);
    }
    assert_eq!(takers(&mut world), all[..100], "in turn");
    for gone in &all[100..200] {
        world.broker.close_local(world.now, *gone);
        world.settle();
    }
    for _ in 0..100 {
        publish(&mut world, 0);
    }
    assert_eq!(takers(&mut world), all[200..300]);
    let most = world.broker.counters().most_steps;
    assert!(most <= 8, "{most} steps in one call");
}

#[test]
fn who_has_no_room_or_no_connection_is_passed_over_in_few_steps() {
    // [MQTT-4.8.2-6]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let names: Vec<_> = (0..500).map(|n| format!("{n:03}")).collect();
    let members: Vec<_> = names
        .iter()
        .map(|name| {
            let member = world.connect(As { receive_maximum: Some(1), ..v5(name).lasting(100) });
            world.subscribe(member, &[(SHARED, 1)]);
            member
        })
        .collect();
    world.audit();
    // One has room for all.
    let roomy = world.connect(v5("roomy"));
    world.subscribe(roomy, &[(SHARED, 1)]);
    for _ in 0..501 {
        world.publish(alice, "a", "x", 1, 1);
    }
    for member in &members {
        assert_eq!(world.received(*member).len(), 1);
    }
    assert_eq!(world.received(roomy).len(), 1);
    for _ in 0..10 {
        world.publish(alice, "a", "x", 1, 1);
    }
    assert_eq!(world.received(roomy).len(), 10, "the only one with room");
    // One after the other goes; a message passes them over as they go.
    for (n, member) in members[..250].iter().enumerate() {
        world.cut(*member);
        world.publish(alice, "a", "x", 1, 1);
        assert_eq!(world.received(roomy).len(), 1, "after {n}");
    }
    // Whoever acknowledges has room again.
    for member in &members[250..] {
        world.ack(*member, AckType::Puback, 1);
        world.publish(alice, "a", "x", 1, 1);
    }
    let taken: Vec<_> = members[250..].iter().map(|member| world.received(*member).len()).collect();
    assert_eq!(taken[..200], [1; 200], "those with room take turns");
    assert_eq!(taken.iter().sum::<usize>() + world.received(roomy).len(), 250);
    let most = world.broker.counters().most_steps;
    // Subscribing is 32.
    assert!(most <= 40, "{most} steps in one call");
    world.cut(roomy);
    // Without anybody with room, whoever is connected.
    let before = world.events.len();
    for _ in 0..250 {
        world.publish(alice, "a", "x", 1, 1);
    }
    assert!(!world.events[before..].iter().any(|event| matches!(event, Event::Dropped { .. })));
    assert_eq!(world.session("000").unwrap().queued, 0, "nothing waits for who is away");
    world.audit();
}

#[test]
fn a_member_that_is_back_takes_a_step_for_each_group_that_missed_it() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    let names: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    for name in &names {
        world.subscribe(bob, &[(&format!("$share/g/{name}"), 0)]);
    }
    world.cut(bob);
    for name in &names {
        world.publish(alice, name, "x", 0, 0);
    }
    let before = world.broker.counters().most_steps;
    assert!(before < 100, "{before} steps in one call");
    let bob = world.connect(v5("bob").lasting(100));
    let most = world.broker.counters().most_steps;
    assert!((200..300).contains(&most), "{most} steps in one call");
    world.publish(alice, &names[0], "x", 0, 0);
    assert_eq!(world.received(bob).len(), 1);
}

/// Its subscriptions go in several calls; until then it is a member that takes nothing.
#[test]
fn a_member_whose_session_ended_with_very_many_subscriptions_gets_nothing_in_place_of_another() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let [bob, carol] = ["bob", "carol"].map(|name| world.connect(v5(name).lasting(100)));
    let names: Vec<String> = (0..5_000).map(|n| format!("$share/g/{n:04}")).collect();
    for some in names.chunks(500) {
        let filters: Vec<_> = some.iter().map(|name| (name.as_str(), 1)).collect();
        world.subscribe(bob, &filters);
    }
    world.subscribe(carol, &[("$share/g/4999", 1)]);
    world.cut(carol);
    world.holds_work = true;
    world.disconnect(bob, ReasonCode::Success, &[Property::SessionExpiryInterval(0)]);
    world.publish(alice, "4999", "x", 1, 1);
    assert_eq!(world.received(alice), ["PUBACK #1"]);
    assert_eq!(world.session("carol").unwrap().queued, 1);
    world.audit();
    world.publish(alice, "4998", "x", 1, 2);
    assert_eq!(world.received(alice), ["PUBACK #2 10"], "nobody is left in that group");
    world.audit();
    world.holds_work = false;
    world.settle();
    assert_eq!(world.broker.subscriptions_len(), 1);
    world.audit();
}
