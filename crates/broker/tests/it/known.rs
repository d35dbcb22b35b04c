//! Messages whose way is known already are treated as the first one was, and large ones are shared.

use damselfly_broker::DropReason;
use damselfly_codec::{AckType, Foreign, Frame, Packet, Properties, Property, Publish, SubscriptionOptions, Version};

use crate::world::{As, Client, World, delivery, topic, v3, v5};

const NOTHING: [&str; 0] = [];

/// A subscriber of everything and a publisher whose way to "a" is known.
fn warm(mut world: World, publisher: As<'_>, subscriber: As<'_>) -> (World, Client, Client) {
    let [alice, bob] = [world.connect(publisher), world.connect(subscriber)];
    world.subscribe(bob, &[("#", 1)]);
    for _ in 0..3 {
        world.publish(alice, "a", "x", 0, 0);
    }
    world.received(bob);
    (world, alice, bob)
}

#[test]
fn nothing_overtakes_a_message_that_is_not_committed() {
    // [MQTT-4.6.0-6]
    for list in [&[][..], &[Property::UserProperty("name", "value")]] {
        let (mut world, alice, bob) = warm(World::new(), v5("alice"), v5("bob"));
        world.holds_commits = true;
        world.publish(alice, "a", "1", 2, 1);
        world.publish_with(alice, "a", "2", delivery(0, 1, false), false, list);
        world.publish_with(alice, "a", "3", delivery(1, 2, false), false, list);
        world.publish(alice, "b", "other", 0, 0);
        assert_eq!(world.received(bob), ["PUBLISH q0 b=other"]);
        world.holds_commits = false;
        world.commit();
        let seen = world.received(bob);
        let payloads: Vec<_> =
            seen.iter().map(|line| line.split_once("a=").unwrap().1.chars().next().unwrap()).collect();
        assert_eq!(payloads, ['1', '2', '3'], "{list:?}");
    }
}

#[test]
fn an_identifier_of_a_qos_2_exchange_is_no_other_messages() {
    // [MQTT-2.2.1-4]
    let (mut world, alice, bob) = warm(World::new(), v5("alice"), v5("bob"));
    world.publish(alice, "b", "2", 2, 5);
    world.received(bob);
    world.publish(alice, "a", "1", 1, 5);
    assert_eq!(world.received(alice), ["PUBREC #5", "PUBACK #5 91"]);
    assert_eq!(world.received(bob), NOTHING);
    world.ack(alice, AckType::Pubrel, 5);
    world.publish(alice, "a", "1", 1, 5);
    assert_eq!(world.received(alice), ["PUBCOMP #5", "PUBACK #5"]);
}

#[test]
fn maximum_qos_and_retain_available_hold_for_topics_that_are_known() {
    // [MQTT-3.2.2-12] [MQTT-3.2.2-14]
    let none = World::with(|config| config.maximum_qos = damselfly_codec::QoS::AtMostOnce);
    let (mut world, alice, bob) = warm(none, v5("alice"), v5("bob"));
    world.publish(alice, "a", "x", 1, 1);
    assert_eq!((world.received(alice), world.received(bob).len()), (vec!["DISCONNECT 9B".to_owned()], 0));
    let one = World::with(|config| config.maximum_qos = damselfly_codec::QoS::AtLeastOnce);
    let (mut world, alice, bob) = warm(one, v5("alice"), v5("bob"));
    world.publish(alice, "a", "x", 1, 1);
    assert_eq!((world.received(alice), world.received(bob).len()), (vec!["PUBACK #1".to_owned()], 1));
}

#[test]
fn a_message_to_a_known_topic_is_retained_if_it_asks_for_that() {
    for level in 0..3 {
        let (mut world, alice, _) = warm(World::new(), v5("alice"), v5("bob"));
        world.publish_with(alice, "a", "x", delivery(level, 1, false), true, &[]);
        assert_eq!(world.broker.retained_len(), 1, "QoS {level}");
    }
}

#[test]
fn versions_local_participants_and_who_is_away_are_served_as_the_first_time() {
    for [publisher, other] in [[v3("alice"), v5("other")], [v5("alice"), v3("other")]] {
        let (mut world, alice, bob) = warm(World::new(), publisher, As { client_id: "bob", ..publisher });
        let other = world.connect(other);
        let away = world.connect(v5("away").lasting(100));
        let house = world.broker.open_local(world.now, "house", 5.try_into().unwrap()).unwrap();
        let all = SubscriptionOptions::default();
        world.broker.local_subscribe(world.now, house, crate::world::filter("a"), all, None);
        world.subscribe(other, &[("a", 0)]);
        world.subscribe(away, &[("a", 0)]);
        world.cut(away);
        for round in 1..=4 {
            let before = world.broker.counters().deliveries;
            world.publish(alice, "a", "y", 0, 0);
            assert_eq!(world.received(bob), ["PUBLISH q0 a=y"]);
            assert_eq!(world.received(other), ["PUBLISH q0 a=y"]);
            assert_eq!(world.delivered.len(), round);
            assert_eq!(world.broker.counters().deliveries - before, 3, "round {round}");
        }
        assert_eq!(world.session("away").unwrap().queued, 0);
    }
}

/// The bytes that wait for a client in one piece each, with the places where they are.
fn pieces(world: &World, client: Client) -> Vec<(*const u8, usize)> {
    let mut chunks = [&[][..]; 8];
    let count = world.broker.transmit(client.id, &mut chunks);
    chunks[..count].iter().map(|chunk| (chunk.as_ptr(), chunk.len())).collect()
}

#[test]
fn a_large_payload_is_shared_where_it_is_needed_more_than_once_and_else_copied() {
    const LARGE: usize = 4_096;
    for (level, receivers, len, is_shared) in [
        (0, 1, LARGE, false),
        (0, 2, LARGE - 1, false),
        (0, 2, LARGE, true),
        (0, 3, LARGE + 1, true),
        (1, 1, LARGE - 1, false),
        (1, 1, LARGE, true),
        (1, 2, LARGE, true),
    ] {
        for is_known in [false, true] {
            let mut world = World::new();
            let alice = world.connect(v3("alice"));
            let names: Vec<_> = (0..receivers).map(|n| format!("bob {n}")).collect();
            let clients: Vec<_> = names.iter().map(|name| world.connect(v3(name))).collect();
            for client in &clients {
                world.subscribe(*client, &[("a", 1)]);
            }
            for _ in 0..if is_known { 3 } else { 0 } {
                world.publish(alice, "a", "x", 0, 0);
            }
            world.is_stalled = true;
            world.publish(alice, "a", &"x".repeat(len), level, 1);
            let of_all: Vec<_> = clients.iter().map(|client| pieces(&world, *client)).collect();
            for pieces in &of_all {
                let last = pieces.last().unwrap();
                assert_eq!(
                    pieces.len() == 2 && last.1 == len,
                    is_shared,
                    "QoS {level}, {len} to {receivers}: {pieces:?}"
                );
                let is_same = last.0 == of_all[0].last().unwrap().0;
                assert!(!is_shared || is_same, "one piece of memory for all");
            }
        }
    }
}

#[test]
fn a_large_packet_of_the_adapters_memory_is_sent_from_there() {
    for (version, level) in [(v3("alice"), 0), (v3("alice"), 1), (v5("alice"), 1)] {
        let mut world = World::new();
        let [alice, bob] = [world.connect(version), world.connect(As { client_id: "bob", ..version })];
        world.subscribe(bob, &[("a", 1)]);
        world.is_stalled = true;
        let payload = vec![b'x'; 10_000];
        let publish = Publish {
            delivery: delivery(level, 1, false),
            retain: false,
            topic: Some(topic("a")),
            properties: Properties::EMPTY,
            payload: &payload,
        };
        let mut bytes = Vec::new();
        let version: Version = version.version;
        Packet::Publish(publish).encode(version, Foreign::Reject, &mut bytes).unwrap();
        let limits = damselfly_codec::FrameLimits::default();
        let frame = Frame::new(bytes.into(), &limits).unwrap();
        assert_eq!(world.broker.handle_frame(world.now, alice.id, &frame).consumed, frame.len());
        world.settle();
        let pieces = pieces(&world, bob);
        let inside = frame.as_bytes().as_ptr_range();
        assert!(pieces.len() == 2 && pieces[1].1 == 10_000, "{pieces:?}");
        assert!(inside.contains(&pieces[1].0), "QoS {level}");
    }
}

#[test]
fn receivers_are_steps_each() {
    const RECEIVERS: usize = 200;
    for list in [&[][..], &[Property::UserProperty("name", "value")]] {
        let mut world = World::new();
        let alice = world.connect(v5("alice"));
        for n in 0..RECEIVERS {
            let bob = world.connect(v5(&format!("bob {n}")));
            world.subscribe(bob, &[("a", 0)]);
        }
        for _ in 0..4 {
            world.publish_with(alice, "a", "x", delivery(0, 1, false), false, list);
        }
        let most = world.broker.counters().most_steps;
        assert!((RECEIVERS..5 * RECEIVERS).contains(&most), "{most}");
    }
}

#[test]
fn a_repeat_is_answered_once_for_each_time_and_for_no_other_message() {
    // [MQTT-4.3.3-10]
    let (mut world, alice, _) = warm(World::new(), v5("alice"), v5("bob"));
    world.publish(alice, "b", "1", 2, 1);
    assert_eq!(world.received(alice), ["PUBREC #1"]);
    world.holds_commits = true;
    world.publish(alice, "c", "2", 2, 2);
    world.publish_with(alice, "c", "2", delivery(2, 2, true), false, &[]);
    world.publish_with(alice, "b", "1", delivery(2, 1, true), false, &[]);
    world.publish(alice, "d", "3", 1, 3);
    assert_eq!(world.received(alice), NOTHING);
    world.holds_commits = false;
    world.commit();
    assert_eq!(world.received(alice), ["PUBREC #2", "PUBREC #1", "PUBACK #3"]);
}

#[test]
fn maximum_packet_size_holds_to_the_byte_whichever_way_a_packet_is_written() {
    // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
    // Two bytes, the topic in three, the identifier in two, no properties in one.
    for (receivers, publisher, level, len) in [
        (1, v3("alice"), 0, 16),
        (1, v3("alice"), 1, 18),
        (2, v3("alice"), 0, 16),
        (2, v3("alice"), 1, 18),
        (1, v5("alice"), 1, 18),
        (2, v5("alice"), 0, 16),
    ] {
        for more in 0..=2 {
            let mut world = World::new();
            let alice = world.connect(publisher);
            let size = [Property::MaximumPacketSize(len.try_into().unwrap())];
            let names: Vec<_> = (0..receivers).map(|n| format!("bob {n}")).collect();
            let clients: Vec<_> = names.iter().map(|name| world.connect(v5(name).with(&size))).collect();
            for client in &clients {
                world.subscribe(*client, &[("a", 1)]);
            }
            for round in 1..=3_u16 {
                world.publish(alice, "a", &"x".repeat(10 + more), level, round);
                for client in &clients {
                    let seen = world.work_off(*client);
                    assert_eq!(seen.len(), usize::from(more == 0), "{receivers} at QoS {level}, {more} more: {seen:?}");
                }
            }
            let dropped = if more == 0 { 0 } else { 3 * receivers };
            assert_eq!(world.dropped(DropReason::PacketTooLarge), dropped);
        }
    }
}

#[test]
fn an_alias_is_set_where_the_packet_has_room_for_it() {
    // [MQTT-3.1.2-24]
    // A packet of 26 bytes, and five for an alias with what it may add to the lengths.
    for (size, has_alias) in [(30, false), (31, true), (32, true)] {
        let mut world = World::with(|config| config.max_outbound_topic_aliases = 3);
        let alice = world.connect(v5("alice"));
        let list = [Property::MaximumPacketSize(size.try_into().unwrap()), Property::TopicAliasMaximum(3)];
        let bob = world.connect(v5("bob").with(&list));
        world.subscribe(bob, &[("#", 0)]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            world.publish(alice, "pond/depth", "12345678901", 0, 0);
            seen.extend(world.received(bob));
        }
        assert_eq!(seen.len(), 3);
        assert_eq!(seen.iter().any(|line| line.contains("TopicAlias")), has_alias, "{size}: {seen:?}");
    }
}
