//! What one packet may hold, and how long one that is full of small things keeps the broker.

use std::sync::Arc;

use damselfly_broker::{Access, Answer, Permission};
use damselfly_codec::{
    Connect, Foreign, Frame, FrameLimits, Packet, Properties, PropertiesBuf, Property, Publish, ReasonCode, Subscribe,
    SubscriptionOptions, Unsubscribe, Version, Will,
};

use crate::world::{World, delivery, filter, packet_id, qos, topic, v3, v5};

/// A SUBSCRIBE of that many bytes to one Topic Filter; it takes 8 without the filter, 7 before 5.0.
fn subscribe_of(size: usize, version: Version) -> Vec<u8> {
    let text = "x".repeat(size - if version == Version::V5_0 { 8 } else { 7 });
    let filters = [(filter(&text), SubscriptionOptions::default())];
    let subscribe = Subscribe::new(packet_id(1), Properties::EMPTY, &filters);
    let mut frame = Vec::new();
    subscribe.encode(version, Foreign::Reject, &mut frame).unwrap();
    assert_eq!(frame.len(), size);
    frame
}

#[test]
fn max_other_packet_size() {
    let mut world = World::with(|config| config.max_other_packet_size = 101);
    for version in [Version::V5_0, Version::V3_1_1] {
        let client = if version == Version::V5_0 { v5("bob") } else { v3("bob") };
        let answer: &[&str] = if version == Version::V5_0 { &["DISCONNECT 97"] } else { &[] };
        let bob = world.connect(client);
        world.send_bytes(bob, &subscribe_of(101, version));
        assert_eq!(world.first(bob), "SUBACK #1 00");
        let one_more = subscribe_of(102, version);
        world.send_bytes(bob, &one_more[..2]);
        assert_eq!(world.received(bob), answer, "refused before it is all there");
        assert!(world.is_closed(bob));

        let bob = world.connect(client);
        world.send_bytes(bob, &one_more);
        assert_eq!(world.received(bob), answer, "and when it comes at once");
        let bob = world.connect(client);
        world.publish(bob, "a", &"x".repeat(200), 0, 0);
        assert!(!world.is_closed(bob), "a PUBLISH is not meant");
    }
    world.connect(v5(&"x".repeat(200)));
}

fn user_properties(count: usize) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    for _ in 0..count {
        list.push(Property::UserProperty("a", "b")).unwrap();
    }
    list
}

#[test]
fn max_property_bytes() {
    // Each User Property of the test is of seven bytes.
    let mut world = World::with(|config| config.max_property_bytes = 140);
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("a", 0)]);
    for (count, is_refused) in [(20, false), (21, true)] {
        for level in [0, 1] {
            let list = user_properties(count);
            let publish = Publish {
                delivery: delivery(level, 1, false),
                retain: false,
                topic: Some(topic("a")),
                properties: list.as_properties(),
                payload: &[0; 200],
            };
            let alice = if is_refused { world.connect(v5("carol")) } else { alice };
            world.send(alice, Packet::Publish(publish));
            assert_eq!(world.is_closed(alice), is_refused, "{count} at QoS {level}");
            assert_eq!(world.received(bob).len(), usize::from(!is_refused));
            if is_refused {
                assert_eq!(world.received(alice), ["DISCONNECT 97"]);
            }
        }
    }
    for (count, answer) in [(20, "CONNACK 00"), (21, "CONNACK 97")] {
        let list = user_properties(count);
        let will =
            Will { qos: qos(0), retain: false, topic: topic("a"), payload: b"x", properties: list.as_properties() };
        let mut frame = Vec::new();
        Connect { will: Some(will), ..Connect::new(Version::V5_0, "will") }
            .encode(Foreign::Reject, &mut frame)
            .unwrap();
        let client = world.open();
        world.send_bytes(client, &frame);
        assert!(world.first(client).starts_with(answer));
    }
    let old = world.connect(v3("old"));
    world.publish(old, "a", &"x".repeat(200), 0, 0);
    assert!(!world.is_closed(old), "no properties in 3.1.1");
}

/// Steps of a call in these tests: four Topic Filters.
const STEPS: usize = 128;

fn world() -> World {
    World::with(|config| config.steps_per_call = u32::try_from(STEPS).unwrap())
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("a/{n}")).collect()
}

fn assert_bounded(world: &World) {
    let most = world.broker.counters().most_steps;
    assert!(most <= STEPS + STEPS / 2, "{most} steps in one call");
    world.audit();
}

#[test]
fn very_many_filters_are_handled_over_many_calls() {
    // [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.10.4-6]
    let mut world = world();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.retain(alice, "a/3", "x");
    let names = names(50);
    let filters: Vec<_> = names.iter().map(|name| (&**name, SubscriptionOptions::default())).collect();
    let before = world.turns;
    world.subscribe_with(bob, &filters, &[]);
    world.send(bob, Packet::Pingreq);
    let codes = " 00".repeat(50);
    assert_eq!(
        world.received(bob),
        [format!("SUBACK #999{codes}"), "PUBLISH q0 retain a/3=x".into(), "PINGRESP".into()]
    );
    assert!(world.turns - before >= 50 * 32 / STEPS - 1, "{} turns", world.turns - before);
    assert_eq!(world.broker.subscriptions_len(), 50);
    assert_bounded(&world);

    let names: Vec<_> = names.iter().map(|name| &**name).collect();
    let before = world.turns;
    world.unsubscribe(bob, &names);
    assert_eq!(world.received(bob), [format!("UNSUBACK #998{codes}")]);
    assert!(world.turns - before >= 50 * 32 / STEPS - 1);
    assert_bounded(&world);
}

#[test]
fn a_whole_frame_of_very_many_filters_is_handled_over_many_calls() {
    let mut world = world();
    let bob = world.connect(v5("bob"));
    let names = names(50);
    let filters: Vec<_> = names.iter().map(|name| filter(name)).collect();
    let mut bytes = Vec::new();
    Packet::Unsubscribe(Unsubscribe::new(packet_id(1), Properties::EMPTY, &filters))
        .encode(Version::V5_0, Foreign::Reject, &mut bytes)
        .unwrap();
    let frame = Frame::new(bytes.into(), &FrameLimits::default()).unwrap();
    let mut calls = 0;
    loop {
        calls += 1;
        let intake = world.broker.handle_frame(world.now, bob.id, &frame);
        if !intake.paused {
            assert_eq!(intake.consumed, frame.len());
            break;
        }
        assert_eq!(intake.consumed, 0);
        world.settle();
    }
    world.settle();
    assert_eq!(calls, 50_usize.div_ceil(STEPS / 32));
    assert_eq!(world.received(bob), [format!("UNSUBACK #1{}", " 11".repeat(50))]);
    assert_bounded(&world);
}

#[test]
fn who_leaves_in_the_middle_of_a_subscribe_leaves_nothing_behind() {
    let mut world = world();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    for name in names(50) {
        world.retain(alice, &name, "x");
    }
    world.holds_work = true;
    let names = names(50);
    let filters: Vec<_> = names.iter().map(|name| (&**name, SubscriptionOptions::default())).collect();
    world.subscribe_with(bob, &filters, &[]);
    assert!(world.is_paused(bob));
    assert_bounded(&world);
    world.cut(bob);
    world.holds_work = false;
    world.settle();
    assert_eq!(world.broker.subscriptions_len(), 0);
    assert_bounded(&world);
}

#[test]
fn an_answer_about_a_filter_of_an_earlier_call_has_its_place() {
    let mut world = world();
    let bob = world.connect(v5("bob"));
    world.broker.set_access(world.now, "bob", Some(Arc::new(Access::new(Permission::Ask))));
    let names = names(6);
    let filters: Vec<_> = names.iter().map(|name| (&**name, SubscriptionOptions::default())).collect();
    world.holds_questions = true;
    world.holds_work = true;
    world.subscribe_with(bob, &filters, &[]);
    assert!(world.is_paused(bob), "two filters are left");
    world.answer(Answer::Deny(ReasonCode::NotAuthorized));
    world.holds_work = false;
    world.settle();
    while !world.questions.is_empty() {
        world.answer(Answer::allow());
    }
    assert_eq!(world.received(bob), ["SUBACK #999 87 00 00 00 00 00"]);
    assert_bounded(&world);
}
