//! A large payload is in memory once, however many get it; a small one is copied behind what waits for each.

use damselfly_broker::{Config, DropReason};
use damselfly_codec::{Foreign, Frame, FrameLimits, Packet, Properties, Property, Publish, Version};

use crate::world::{Client, World, beside, delivery, qos, topic, v3, v5};

/// The first length that is shared.
const LARGE: usize = 4_096;

fn encode(version: Version, packet: Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, Foreign::Reject, &mut bytes).unwrap();
    bytes
}

/// A PUBLISH to "a" in a buffer of its own.
fn frame(version: Version, level: u8, payload: &[u8]) -> Frame {
    let topic = Some(topic("a"));
    let publish =
        Publish { delivery: delivery(level, 1, false), retain: false, topic, properties: Properties::EMPTY, payload };
    Frame::new(encode(version, Packet::Publish(publish)).into(), &FrameLimits::default()).unwrap()
}

/// Where the last of the bytes that wait for a client are.
fn last_chunk(world: &World, client: Client) -> (*const u8, usize) {
    let mut chunks = [&[][..]; 8];
    let count = world.broker.transmit(client.id, &mut chunks);
    let last = chunks[..count].last().unwrap();
    (last.as_ptr(), last.len())
}

#[test]
fn a_large_payload_that_came_in_a_buffer_of_its_own_leaves_from_there() {
    for (len, is_shared) in [(LARGE - 1, false), (LARGE, true)] {
        for (level, receivers) in [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)] {
            let mut world = World::new();
            let alice = world.connect(v3("alice"));
            let readers: Vec<_> = (0..receivers).map(|n| world.connect(v5(&format!("bob {n}")))).collect();
            for reader in &readers {
                world.subscribe(*reader, &[("a", 2)]);
            }
            world.is_stalled = true;
            let frame = frame(Version::V3_1_1, level, &vec![b'x'; len]);
            let payload = &frame.as_bytes()[frame.len() - len..];
            let intake = world.broker.handle_frame(world.now, alice.id, &frame);
            assert_eq!((intake.consumed, intake.paused), (frame.len(), false));
            world.settle();
            for reader in &readers {
                let is_there = last_chunk(&world, *reader) == (payload.as_ptr(), len);
                assert_eq!(is_there, is_shared, "{len} bytes at QoS {level} to {receivers}");
            }
            world.unstall();
            for reader in &readers {
                let bytes = world.received_bytes(*reader);
                assert!(bytes.ends_with(payload) && bytes.len() < len + 20);
            }
        }
    }
}

#[test]
fn a_large_payload_is_in_memory_once_for_all_receivers() {
    for (len, is_shared) in [(LARGE - 1, false), (LARGE, true)] {
        let mut world = World::new();
        let [alice, bob, carol] = [v5("alice"), v5("bob"), v3("carol")].map(|client| world.connect(client));
        for reader in [bob, carol] {
            world.subscribe(reader, &[("a", 2)]);
        }
        for level in 0..3 {
            world.is_stalled = true;
            world.publish(alice, "a", &"x".repeat(len), level, 1);
            let [left, right] = [bob, carol].map(|reader| last_chunk(&world, reader));
            assert_eq!(left == right, is_shared, "{len} bytes at QoS {level}");
            world.unstall();
            for reader in [bob, carol] {
                let seen = world.received(reader);
                assert_eq!(seen.len(), 1);
                assert!(seen[0].ends_with(&format!("a=<{len} bytes>")), "{seen:?}");
            }
        }
    }
}

#[test]
fn the_only_receiver_gets_a_payload_of_any_length() {
    for len in [0, LARGE - 1, LARGE, 10 * LARGE] {
        for reader in [v3("bob"), v5("bob")] {
            let mut world = World::new();
            let [alice, bob] = [world.connect(v5("alice")), world.connect(reader)];
            world.subscribe(bob, &[("a", 0)]);
            let payload: String = (0..len).map(|n| char::from(b'a' + u8::try_from(n % 23).unwrap())).collect();
            for _ in 0..4 {
                world.publish(alice, "a", &payload, 0, 0);
                assert!(world.received_bytes(bob).ends_with(payload.as_bytes()), "{len} bytes");
            }
        }
    }
}

/// The properties of a message and of the subscription, whatever way the message takes: to one receiver or to two, known
/// or not.
#[test]
fn a_receiver_of_5_0_gets_all_properties_and_one_of_3_1_1_none() {
    let user = Property::UserProperty("a", "b");
    let expiry = Property::MessageExpiryInterval(9);
    let id = Property::SubscriptionIdentifier(7.try_into().unwrap());
    for (list, with_id) in [(&[][..], false), (&[user], false), (&[expiry], false), (&[], true), (&[user], true)] {
        let ids: Vec<_> = with_id.then_some(id).into_iter().collect();
        for (level, receivers) in [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)] {
            let mut world = World::new();
            let alice = world.connect(v5("alice"));
            let old = world.connect(v3("old"));
            let new: Vec<_> = (0..receivers).map(|n| world.connect(v5(&format!("new {n}")))).collect();
            let options = damselfly_codec::SubscriptionOptions { qos: qos(2), ..Default::default() };
            for reader in &new {
                world.subscribe_with(*reader, &[("a", options)], &ids);
                world.received(*reader);
            }
            world.subscribe(old, &[("b", 2)]);
            for n in 1..=4 {
                world.publish_with(alice, "a", "x", delivery(level, n, false), false, list);
                world.publish_with(alice, "b", "x", delivery(level, 10 + n, false), false, list);
                let shown = |number: u16| if level == 0 { String::new() } else { format!(" #{number}") };
                let expected: Vec<_> = list.iter().chain(&ids).map(|p| format!("{p:?}")).collect();
                for reader in &new {
                    let seen = world.received(*reader);
                    let (head, tail) = seen[0].split_once(" {").unwrap_or((&seen[0], "}"));
                    assert_eq!(head, format!("PUBLISH q{level}{} a=x", shown(n)));
                    let mut found: Vec<_> = tail.trim_end_matches('}').split(", ").filter(|p| !p.is_empty()).collect();
                    found.sort_unstable();
                    let mut expected: Vec<_> = expected.iter().flat_map(|p| p.split(", ")).collect();
                    expected.sort_unstable();
                    assert_eq!(found, expected, "round {n}");
                }
                assert_eq!(world.received(old), [format!("PUBLISH q{level}{} b=x", shown(n))]);
            }
        }
    }
}

/// Bob of 3.1.1 takes nothing; messages of QoS 0 to topics of one letter take five bytes beside their payload.
fn stalled(change: impl FnOnce(&mut Config)) -> (World, Client, Client) {
    let mut world = World::with(change);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v3("bob"))];
    world.subscribe(bob, &[("#", 1)]);
    world.is_stalled = true;
    (world, alice, bob)
}

#[test]
fn qos_0_waits_for_a_slow_reader_up_to_its_limit_and_not_beyond() {
    for (second, is_dropped) in [(395, 0), (396, 1)] {
        let (mut world, alice, bob) = stalled(|config| config.max_transmit_bytes = 500);
        world.publish(alice, "a", &"x".repeat(100), 0, 0);
        assert_eq!(world.broker.transmit_len(bob.id), 105);
        world.publish(alice, "b", &"y".repeat(second), 0, 0);
        assert_eq!(world.dropped(DropReason::SlowReader), is_dropped, "{second} bytes");
    }
    let (mut world, alice, bob) = stalled(|config| config.max_transmit_bytes = 500);
    world.publish(alice, "a", &"x".repeat(600), 0, 0);
    world.unstall();
    assert_eq!(world.received(bob), ["PUBLISH q0 a=<600 bytes>"], "one that has taken all gets one that is larger");
}

#[test]
fn qos_1_is_sent_while_less_waits_than_the_limit() {
    // Such a message takes eight bytes.
    for (limit, queued) in [(8, 1), (9, 0)] {
        let (mut world, alice, bob) = stalled(|config| config.max_transmit_bytes = limit);
        world.publish(alice, "a", "x", 1, 1);
        assert_eq!(world.broker.transmit_len(bob.id), 8);
        world.publish(alice, "b", "y", 1, 2);
        assert_eq!(world.session("bob").unwrap().queued, queued, "a limit of {limit}");
    }
}

#[test]
fn one_that_keeps_up_gets_qos_0_though_memory_is_used_up() {
    let mut world = World::with(|config| config.max_memory = beside(2, 20_000));
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v3("bob"))];
    world.subscribe(bob, &[("news", 0)]);
    for n in 0..40 {
        world.retain(alice, &format!("r/{n}"), &"x".repeat(1_000));
    }
    assert!(world.broker.is_out_of_memory());
    let before = world.dropped(DropReason::Memory);
    world.publish(alice, "news", "1", 0, 0);
    assert_eq!(world.received(bob), ["PUBLISH q0 news=1"]);
    world.is_stalled = true;
    world.publish(alice, "news", "2", 0, 0);
    world.publish(alice, "news", "3", 0, 0);
    assert_eq!(world.dropped(DropReason::Memory) - before, 1, "the second of two that wait");
    world.unstall();
    assert_eq!(world.received(bob), ["PUBLISH q0 news=2"]);
}

#[test]
fn a_whole_frame_counts_as_its_message_and_not_as_one_that_is_unfinished() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let frame = frame(Version::V5_0, 0, &vec![b'x'; 20_000]);
    let before = world.broker.memory().counted;
    assert!(!world.progress(alice, 15_000));
    assert_eq!(world.broker.memory().counted, before + 15_000);
    let intake = world.broker.handle_frame(world.now, alice.id, &frame);
    assert_eq!((intake.consumed, intake.paused), (frame.len(), false));
    assert_eq!(world.broker.memory().counted, before);
    world.audit();
}

#[test]
fn a_whole_frame_that_has_its_client_wait_says_so() {
    let mut world = World::new();
    world.holds_questions = true;
    let bob = world.open();
    let frame = Frame::new(v5("bob").encode().into(), &FrameLimits::default()).unwrap();
    let intake = world.broker.handle_frame(world.now, bob.id, &frame);
    assert_eq!((intake.consumed, intake.paused), (frame.len(), true), "a question is open");
    let ping = Frame::new(encode(Version::V5_0, Packet::Pingreq).into(), &FrameLimits::default()).unwrap();
    let intake = world.broker.handle_frame(world.now, bob.id, &ping);
    assert_eq!((intake.consumed, intake.paused), (0, true));
    world.audit();
}
