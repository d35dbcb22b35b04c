//! Bounds met exactly and missed by one, and numbers that follow each step.

use std::num::NonZeroU32;

use damselfly_broker::{Answer, DropReason, Event, LocalId, Published, Why};
use damselfly_codec::{AckType, Properties, Property, ReasonCode, SubscriptionId, SubscriptionOptions};
use damselfly_session::Message;

use crate::world::{As, Client, World, delivery, filter, qos, topic, v3, v5};

/// Bytes of a QoS 1 PUBLISH to a 3.1.1 receiver with a Topic Name of five bytes and a payload of one.
const PACKET: u32 = 12;

fn participant(world: &mut World, name: &str) -> LocalId {
    world.broker.open_local(world.now, name, 1.try_into().unwrap()).unwrap()
}

fn publish(world: &mut World, from: LocalId, name: &str, payload: &str, level: u8) -> Published {
    let message = Message::compose(topic(name), payload.as_bytes(), qos(level), false, Properties::EMPTY, world.now);
    let published = world.broker.local_publish(world.now, from, message);
    world.settle();
    published
}

/// The Packet Identifier of a PUBLISH.
fn id_of(line: &str) -> u16 {
    line.split(' ').nth(2).unwrap().trim_start_matches('#').parse().unwrap()
}

#[test]
fn a_message_waits_once_max_transmit_bytes_wait_for_its_receiver() {
    for (limit, sent) in [(PACKET, 1), (PACKET + 1, 2)] {
        let mut world = World::with(|config| config.max_transmit_bytes = limit);
        let house = participant(&mut world, "house");
        let bob = world.connect(v3("bob"));
        world.subscribe(bob, &[("r/000", 1)]);
        world.is_stalled = true;
        for _ in 0..3 {
            assert_eq!(publish(&mut world, house, "r/000", "x", 1).receivers, 1);
        }
        assert_eq!(world.broker.transmit_len(bob.id), sent * 12, "limit {limit}");
        assert_eq!(world.session("bob").unwrap().queued, 3 - u32::try_from(sent).unwrap());
        world.unstall();
        assert_eq!(world.received(bob).len(), 3);
    }
}

/// Retained messages of QoS 1, more than one step of a walk looks at.
fn retain_100(world: &mut World) -> Client {
    let alice = world.connect(v5("alice"));
    for n in 0..100 {
        world.publish_with(alice, &format!("r/{n:03}"), "x", delivery(1, 1, false), true, &[]);
    }
    world.received(alice);
    alice
}

#[test]
fn a_qos_0_message_behind_a_walk_waits_for_the_transport_and_then_for_nobody() {
    let mut world = World::with(|config| {
        config.max_transmit_bytes = PACKET;
        config.max_inflight = 1;
    });
    let alice = retain_100(&mut world);
    let bob = world.connect(v3("bob"));
    world.subscribe(bob, &[("r/#", 1)]);
    world.publish(alice, "r/new", "y", 0, 0);
    let mut seen = world.received(bob);
    while seen.len() < 99 {
        world.ack(bob, AckType::Puback, id_of(seen.last().unwrap()));
        seen.extend(world.received(bob));
    }
    world.is_stalled = true;
    world.ack(bob, AckType::Puback, id_of(seen.last().unwrap()));
    let view = world.session("bob").unwrap();
    assert_eq!((view.queued, view.in_flight), (1, 1), "the last retained one is on its way");
    assert_eq!(world.broker.transmit_len(bob.id), 12);
    world.unstall();
    let last = world.received(bob);
    assert_eq!((last.len(), last[1].as_str()), (2, "PUBLISH q0 r/new=y"));
    let view = world.session("bob").unwrap();
    assert_eq!((view.queued, view.in_flight), (0, 1), "nobody acknowledges QoS 0");
    world.audit();
}

#[test]
fn a_local_participant_acknowledges_retained_messages_of_qos_1_and_no_qos_0_behind_them() {
    let mut world = World::new();
    let alice = retain_100(&mut world);
    let house = participant(&mut world, "house");
    let options = SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() };
    world.broker.local_subscribe(world.now, house, filter("r/#"), options, None);
    world.settle();
    world.publish(alice, "r/new", "y", 0, 0);
    let mut seen = 0;
    let acknowledge = |world: &mut World| {
        let (_, delivery) = world.delivered.remove(0);
        assert!(delivery.retain && delivery.message.topic().as_str() != "r/new");
        world.broker.local_acknowledge(world.now, delivery.token.unwrap());
        world.settle();
    };
    while world.delivered.len() == 1 && seen < 100 {
        acknowledge(&mut world);
        seen += 1;
    }
    assert_eq!(seen, 99, "one at a time: its window is one");
    let left: Vec<_> = world.delivered.iter().map(|(_, delivery)| delivery.message.topic().as_str()).collect();
    assert_eq!(left[1..], ["r/new"]);
    assert!(world.delivered[1].1.token.is_none());
    assert_eq!(world.session("house").unwrap().in_flight, 1);
    acknowledge(&mut world);
    assert_eq!(world.session("house").unwrap().in_flight, 0);
}

#[test]
fn a_packet_of_exactly_the_maximum_packet_size_is_sent_and_no_larger_one() {
    const LIMIT: usize = 40;
    let maximum = [Property::MaximumPacketSize(NonZeroU32::new(40).unwrap())];
    for (publisher, level, with_id, others) in
        [(v3("alice"), 0, false, 0), (v3("alice"), 1, false, 0), (v3("alice"), 1, true, 0), (v3("alice"), 1, false, 1)]
            .into_iter()
            .chain([(v5("alice"), 1, false, 0), (v5("alice"), 1, true, 0), (v5("alice"), 0, true, 1)])
    {
        let mut world = World::new();
        let (alice, bob) = (world.connect(publisher), world.connect(v5("bob").with(&maximum)));
        let id = [Property::SubscriptionIdentifier(SubscriptionId::new(9).unwrap())];
        let options = SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() };
        world.subscribe_with(bob, &[("a", options)], if with_id { &id } else { &[] });
        for n in 0..others {
            let other = world.connect(v5(&format!("other{n}")).with(&maximum));
            world.subscribe_with(other, &[("a", options)], if with_id { &id } else { &[] });
        }
        world.received(bob);
        // Fixed header, Topic Name, Packet Identifier, Properties.
        let head = 2 + 3 + 2 * usize::from(level) + 1 + 2 * usize::from(with_id);
        // The second time from what the publisher's connection remembers.
        for id in [1, 2] {
            for (len, fits) in [(LIMIT, true), (LIMIT + 1, false), (LIMIT + 2, false)] {
                world.publish(alice, "a", &"x".repeat(len - head), level, id);
                let got = world.received_bytes(bob).len();
                assert_eq!(got, if fits { len } else { 0 }, "QoS {level}, {with_id}, {others} others");
            }
        }
        assert_eq!(world.dropped(DropReason::PacketTooLarge), 4 * (1 + others));
        world.audit();
    }
}

#[test]
fn a_topic_alias_is_set_by_a_packet_that_has_room_for_it() {
    let properties = [Property::MaximumPacketSize(NonZeroU32::new(40).unwrap()), Property::TopicAliasMaximum(5)];
    // What an alias may add: the property, and a byte more in each of two lengths.
    for (len, has_alias) in [(35, true), (36, false), (40, false)] {
        let mut world = World::new();
        let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob").with(&properties))];
        world.subscribe(bob, &[("pond/depth", 0)]);
        world.publish(alice, "pond/depth", &"x".repeat(len - 15), 0, 0);
        assert_eq!(world.received_bytes(bob).len(), len + if has_alias { 3 } else { 0 });
        world.publish(alice, "pond/depth", "y", 0, 0);
        let empty = world.received(bob)[0].starts_with("PUBLISH q0 =");
        assert_eq!(empty, has_alias, "the alias stands for the Topic Name from then on");
    }
}

#[test]
fn a_message_too_large_for_the_next_connection_gives_its_place_back() {
    let mut world = World::with(|config| config.max_inflight_bytes = 10_000);
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("a", 1)]);
    for (id, payload) in [(1, "small"), (2, &*"x".repeat(500)), (3, &*"y".repeat(500))] {
        world.publish(alice, "a", payload, 1, id);
    }
    world.cut(bob);
    let maximum = [Property::MaximumPacketSize(NonZeroU32::new(60).unwrap())];
    let bob = world.connect(v5("bob").lasting(100).with(&maximum));
    assert_eq!(world.received(bob), ["PUBLISH q1 #1 dup a=small"]);
    assert_eq!(world.session("bob").unwrap().in_flight, 1);
    assert_eq!(world.dropped(DropReason::PacketTooLarge), 2);
    world.audit();
}

#[test]
fn connections_open_at_one_time_have_different_small_numbers() {
    let mut world = World::new();
    let clients = ["alice", "bob", "carol"].map(|name| world.connect(v5(name)));
    let mut slots = clients.map(|client| client.id.slot());
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2]);
    assert_eq!(world.broker.counters().connects_accepted, 3);
    world.cut(clients[1]);
    let dave = world.connect(v5("dave"));
    assert_eq!(dave.id.slot(), clients[1].id.slot(), "small, because they are used again");
    assert_ne!(dave.id, clients[1].id);
    assert_eq!(world.broker.counters().connects_accepted, 4);
}

#[test]
fn an_ended_session_says_how_many_messages_go_with_it() {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(As { receive_maximum: Some(1), ..v5("bob") })];
    world.subscribe(bob, &[("a", 1)]);
    for id in 1..=3 {
        world.publish(alice, "a", "x", 1, id);
    }
    world.cut(bob);
    let ended = Event::SessionEnded { client_id: "bob".into(), discarded: 3 };
    assert!(world.events.contains(&ended), "{:?}", world.events);
}

#[test]
fn a_refused_connect_is_told_from_a_connection_that_was_ended() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    world.broker.disconnect(world.now, bob.id, ReasonCode::AdministrativeAction);
    world.settle();
    assert!(world.is_closed(bob));
    world.holds_questions = true;
    world.begin(v5("mallory"));
    world.answer(Answer::Deny(ReasonCode::Banned));
    let mut whys = world.events.iter().filter_map(|event| match event {
        Event::Disconnected { why, .. } => Some(*why),
        _ => None,
    });
    assert_eq!(whys.next(), Some(Why::ByBroker(ReasonCode::AdministrativeAction)));
    assert_eq!(whys.next(), Some(Why::Refused(ReasonCode::Banned)));
}

#[test]
fn a_subscription_to_a_group_says_its_options() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    let id = SubscriptionId::new(9).unwrap();
    let options = SubscriptionOptions { qos: qos(2), retain_as_published: true, ..SubscriptionOptions::default() };
    world.subscribe_with(bob, &[("$share/g/a", options)], &[Property::SubscriptionIdentifier(id)]);
    let views: Vec<_> = world.subscriptions("bob").collect();
    assert_eq!(views.len(), 1);
    let view = views[0];
    assert_eq!(
        (view.filter, view.qos, view.no_local, view.retain_as_published, view.id),
        ("$share/g/a", qos(2), false, true, Some(id))
    );
}
