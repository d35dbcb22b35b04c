//! Who is read again, who ends, and what counts for how much when memory is short.

use std::time::Duration;

use damselfly_broker::{Answer, Event, Grant, Memory, Why};
use damselfly_codec::{Connect, Foreign, Frame, FrameLimits, Properties, Property, ReasonCode, Version, Will};

use crate::world::{As, Client, World, beside, exactly, properties, qos, topic, v3, v5};

const PAUSE: Duration = Duration::from_secs(2);
/// How often those who found no room are looked after.
const RETRY: Duration = Duration::from_millis(50);

/// A PUBLISH of 3.1.1 announced with a million bytes, and the first `sent` of it.
fn unfinished(sent: usize) -> Vec<u8> {
    let mut bytes = vec![0x30, 0xC0, 0x84, 0x3D, 0, 1, b'a'];
    bytes.resize(sent, b'x');
    bytes
}

/// A broker with this much room beside its clients, whose pause limit is [`PAUSE`].
fn world(clients: usize, bytes: usize) -> World {
    World::with(|config| {
        config.max_memory = beside(clients, bytes);
        config.pause_limit = PAUSE;
        config.route_cache_entries = 0;
    })
}

/// Clients that begin a packet, one after the other, and go on no more.
fn stall<const N: usize>(world: &mut World, all: [(&str, usize); N]) -> [Client; N] {
    let clients = all.map(|(name, sent)| (world.connect(v3(name)), sent));
    clients.map(|(client, sent)| {
        world.send_bytes(client, &unfinished(sent));
        client
    })
}

#[test]
fn those_who_wait_for_memory_are_read_again_as_far_as_it_suffices() {
    // Each is expected to add 64 KiB at once.
    for (freed, read_again) in [(60_000, 0), (70_000, 1), (140_000, 2), (200_000, 3)] {
        let mut world = world(5, 1_000_000);
        let [_, goes, waiting @ ..] = stall(
            &mut world,
            [("stays", 1_000_000 - freed), ("goes", freed + 5_000), ("a", 1_100), ("b", 1_100), ("c", 1_100)],
        );
        assert!(world.is_paused(goes));
        assert!(waiting.iter().all(|client| world.is_paused(*client)));
        world.cut(goes);
        world.pass(RETRY);
        let count = waiting.iter().filter(|client| !world.is_paused(**client)).count();
        assert_eq!(count, read_again, "{freed} bytes were freed");
        assert!(waiting[..count].iter().all(|client| !world.is_paused(*client)), "in the order in which they came");
        world.audit();
    }
}

#[test]
fn one_that_left_while_it_waited_for_memory_takes_nobodys_turn() {
    let mut world = world(4, 1_000_000);
    let all = [("stays", 930_000), ("goes", 75_000), ("gone", 1_100), ("waits", 1_100)];
    let [_, goes, gone, waits] = stall(&mut world, all);
    world.cut(gone);
    world.cut(goes);
    assert!(world.is_paused(waits));
    world.pass(RETRY);
    assert!(!world.is_paused(waits));
}

#[test]
fn an_unfinished_packet_makes_room_in_time_though_nobody_asks_twice() {
    let mut world = World::with(|config| {
        config.max_memory = exactly("silent") + 30_000;
        config.pause_limit = PAUSE;
    });
    let [silent] = stall(&mut world, [("silent", 30_000)]);
    assert!(!world.is_paused(silent));
    assert!(world.try_begin(v5("busy")).is_err(), "there is no room");
    world.pass(PAUSE + 2 * RETRY);
    assert!(world.is_closed(silent));
    world.connect(v5("busy"));
}

#[test]
fn messages_that_use_up_memory_end_no_unfinished_packet() {
    let mut world = world(3, 1_000_000);
    let [slow] = stall(&mut world, [("slow", 20_000)]);
    let [alice, away] = [world.connect(v5("alice")), world.connect(v5("away").lasting(1_000))];
    world.subscribe(away, &[("a", 1)]);
    world.cut(away);
    for n in 1..=30 {
        world.publish(alice, "a", &"x".repeat(50_000), 1, n);
    }
    assert!(world.broker.is_out_of_memory());
    assert!(world.received(alice).len() < 30, "some wait for room");
    world.pass(3 * PAUSE);
    assert!(!world.is_closed(slow), "it holds little");
    assert_eq!(world.received(alice).last().map(String::as_str), Some("PUBACK #30 97"));
}

#[test]
fn nobody_is_looked_after_when_nobody_waits() {
    let mut world = world(3, 100_000);
    let [goes, slow] = stall(&mut world, [("goes", 60_000), ("slow", 50_000)]);
    assert!(world.is_paused(slow) && world.broker.poll_timeout().is_some());
    world.cut(goes);
    world.pass(2 * RETRY);
    assert!(!world.is_paused(slow));
    assert_eq!(world.broker.poll_timeout(), None, "an unfinished packet alone needs no look");

    // Nor when what stands is too much and none of it is an unfinished packet.
    let mut world = World::with(|config| config.max_memory = beside(1, 200));
    world.connect(v3("alice"));
    assert!(world.try_begin(v3("bob")).is_err());
    world.pass(2 * RETRY);
    assert_eq!(world.broker.poll_timeout(), None);
}

/// It was handed in whole, so nothing of it is left to make room.
#[test]
fn a_client_whose_large_packet_came_whole_is_not_ended_for_it() {
    let mut world = world(3, 60_000);
    let busy = world.connect(v3("busy"));
    assert!(!world.progress(busy, 30_000));
    let mut bytes = vec![0x30, 0xB0, 0xEA, 0x01, 0, 1, b'a'];
    bytes.resize(4 + 30_000, b'x');
    let frame = Frame::new(bytes.into(), &FrameLimits::default()).unwrap();
    assert_eq!(world.broker.handle_frame(world.now, busy.id, &frame).consumed, frame.len());
    let [silent, other] = stall(&mut world, [("silent", 61_000), ("other", 1_100)]);
    assert!(world.is_paused(silent) && world.is_paused(other));
    world.pass(PAUSE + 4 * RETRY);
    assert!(world.is_closed(silent) && !world.is_closed(busy));
    world.audit();
}

#[test]
fn a_session_comes_back_though_memory_is_used_up_unless_it_brings_a_will() {
    let will = "x".repeat(600);
    for (with_will, answer) in [(false, "CONNACK 00"), (true, "CONNACK 97")] {
        let mut world = world(3, 5_000);
        let [alice, away] = [world.connect(v5("alice")), world.connect(v5("away").lasting(1_000))];
        world.subscribe(away, &[("a", 1)]);
        world.cut(away);
        world.holds_questions = true;
        let client = v5("away").lasting(1_000);
        let will = with_will.then_some(("w", &*will, 0, false, 0));
        let away = world.begin(As { will, ..client });
        // Its question is open when the last room goes.
        world.publish(alice, "a", &"x".repeat(20_000), 1, 1);
        assert!(world.broker.is_out_of_memory());
        world.answer(Answer::allow());
        assert!(world.first(away).starts_with(answer));
        let why =
            |event: &Event| matches!(event, Event::Disconnected { why: Why::Refused(ReasonCode::QuotaExceeded), .. });
        assert_eq!(world.events.iter().any(why), with_will);
        world.audit();
    }
}

/// What a CONNECT says, each part of so many bytes.
#[derive(Clone, Copy)]
struct Said {
    client_id: usize,
    user_name: usize,
    password: usize,
    method: usize,
    data: usize,
    will: usize,
}

/// What counts while the question about such a CONNECT is open.
fn counted(said: Said) -> u64 {
    let [client_id, user_name, method] = [said.client_id, said.user_name, said.method].map(|len| "x".repeat(len));
    let [password, data, payload] = [said.password, said.data, said.will].map(|len| vec![b'x'; len]);
    let list = properties(&[Property::AuthenticationMethod(&method), Property::AuthenticationData(&data)]);
    let will = Will { qos: qos(0), retain: false, topic: topic("w"), payload: &payload, properties: Properties::EMPTY };
    let connect = Connect {
        will: Some(will),
        user_name: Some(&user_name),
        password: Some(&password),
        properties: list.as_properties(),
        ..Connect::new(Version::V5_0, &client_id)
    };
    let mut bytes = Vec::new();
    connect.encode(Foreign::Reject, &mut bytes).unwrap();
    let mut world = World::new();
    world.holds_questions = true;
    world.begin_raw(Version::V5_0, &bytes);
    assert_eq!(world.questions.len(), 1);
    world.audit();
    world.broker.memory().counted
}

/// Once with the broker until CONNACK, and once in the question as far as that needs it.
#[test]
fn all_that_a_connect_says_counts_as_often_as_it_is_kept() {
    let least = Said { client_id: 16, user_name: 16, password: 16, method: 16, data: 16, will: 16 };
    let base = counted(least);
    let connection = u64::try_from(Memory::PER_CONNECTION).unwrap();
    assert!((connection + 200..connection + 1_200).contains(&base), "{base}");
    for (what, said, times) in [
        ("client identifier", Said { client_id: 816, ..least }, 2),
        ("user name", Said { user_name: 816, ..least }, 1),
        ("password", Said { password: 816, ..least }, 1),
        ("method", Said { method: 816, ..least }, 2),
        ("data", Said { data: 816, ..least }, 1),
        ("will", Said { will: 816, ..least }, 1),
    ] {
        assert_eq!(counted(said) - base, 800 * times, "{what}");
    }
}

#[test]
fn what_connack_will_say_counts_until_it_leaves() {
    let counted = |len: usize| {
        let mut world = World::new();
        (world.holds_questions, world.holds_commits) = (true, true);
        let method = [Property::AuthenticationMethod("M")];
        let carol = world.begin(v5("carol").lasting(100).with(&method));
        let mut grant = Grant::default();
        grant.authentication_data = Some(vec![b'x'; len].into());
        world.answer(Answer::Allow(grant));
        let counted = world.broker.memory().counted;
        world.audit();
        world.commit();
        assert!(world.first(carol).starts_with("CONNACK 00"));
        assert!(world.broker.memory().counted < counted);
        counted
    };
    assert_eq!(counted(816) - counted(16), 800);
}

#[test]
fn everything_counts_once() {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v3("bob"))];
    world.subscribe(bob, &[("a", 0), ("b", 1)]);
    let counted = |world: &World| world.broker.memory().counted;

    let before = counted(&world);
    for _ in 0..3 {
        world.publish(alice, "a", "x", 0, 0);
    }
    let cached = u64::try_from(world.broker.counters().route_cache_bytes).unwrap();
    assert!(cached > 0);
    assert_eq!(counted(&world), before + cached, "a route that is known");

    world.is_stalled = true;
    world.publish(alice, "a", &"x".repeat(100), 0, 0);
    let waiting = u64::try_from(world.broker.transmit_len(bob.id)).unwrap();
    assert_eq!((waiting, counted(&world)), (105, before + cached + 105), "bytes on their way out");

    world.retain(alice, "r", &"x".repeat(100));
    let retained = counted(&world) - before - cached - 105;
    assert!((150..400).contains(&retained), "{retained} bytes for a retained message");

    let so_far = counted(&world);
    world.holds_commits = true;
    world.publish(alice, "c", &"x".repeat(1_000), 2, 1);
    let held = counted(&world) - so_far;
    assert!((1_000..1_300).contains(&held), "{held} bytes for a message that is held");
    world.audit();
}
