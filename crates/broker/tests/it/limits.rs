//! Every limit, at it and one past it. `docs/limits.md` names these tests.

use std::time::Duration;

use damselfly_broker::{Broker, Config, DropReason, Event, Peer, WhenFull, Why};
use damselfly_codec::{Packet, Property, ReasonCode, SubscriptionOptions};

use crate::world::{As, World, beside, delivery, qos, v3, v5};

#[test]
fn max_connections() {
    let mut world = World::with(|config| config.max_connections = 3);
    let open: Vec<_> = (0..3).map(|_| world.open()).collect();
    assert!(world.broker.handle_connection(world.now, Peer::default()).is_err());
    world.cut(open[1]);
    world.open();
    assert_eq!(world.broker.counters().connections_refused, 1);
}

#[test]
fn max_sessions() {
    let mut world = World::with(|config| config.max_sessions = 2);
    let [alice, bob] = [v5("alice").lasting(100), v3("bob").lasting(100)].map(|client| world.connect(client));
    world.cut(alice);
    for (client, answer) in [(v5("carol"), "CONNACK 97"), (v3("carol"), "CONNACK 03")] {
        let carol = world.begin(client);
        assert_eq!(world.first(carol), answer);
        assert!(world.is_closed(carol));
        let refused =
            Event::Disconnected { connection: carol.id, client_id: None, why: Why::Refused(ReasonCode::QuotaExceeded) };
        assert_eq!(world.events.last(), Some(&refused));
    }
    assert_eq!(world.broker.counters().connects_accepted, 2);
    world.connect(v3("bob").lasting(100));
    assert!(world.is_closed(bob), "whoever has a session takes it over as ever");
    let alice = world.connect(v5("alice"));
    world.cut(alice);
    world.connect(v5("carol"));
}

#[test]
fn connect_timeout() {
    let mut world = World::with(|config| config.connect_timeout = Duration::from_secs(3));
    let quick = world.open();
    let slow = world.open();
    world.pass(Duration::from_micros(2_999_999));
    world.send_bytes(quick, &v3("quick").encode());
    world.pass(Duration::from_micros(1));
    assert!(!world.is_closed(quick) && world.is_closed(slow));
}

#[test]
fn max_connect_packet_size() {
    let mut world = World::with(|config| config.max_connect_packet_size = 100);
    let connect = |size: usize| v3(&"x".repeat(size - 14)).encode();
    assert_eq!((connect(100).len(), connect(101).len()), (100, 101));
    for (size, is_refused) in [(100, false), (101, true)] {
        let client = world.open();
        world.send_bytes(client, &connect(size)[..5]);
        assert_eq!(world.is_closed(client), is_refused, "{size} bytes, refused before they are all there");
    }
}

#[test]
fn max_packet_size() {
    // [MQTT-3.2.2-15]
    let mut world = World::with(|config| config.max_packet_size = 127);
    let bob = world.begin(v5("bob"));
    assert!(world.first(bob).contains("MaximumPacketSize(127)"));
    world.publish(bob, "a", &"x".repeat(127 - 6), 0, 0);
    assert!(!world.is_closed(bob));
    world.publish(bob, "a", &"x".repeat(128 - 6), 0, 0);
    assert_eq!(world.received(bob), ["DISCONNECT 95"]);
    let carol = world.connect(v3("carol"));
    world.send_bytes(carol, b"\x30\xff\xff\xff\x7f");
    assert!(world.is_closed(carol), "256 MiB announced and not sent");
}

#[test]
fn receive_maximum() {
    // [MQTT-3.3.4-7] [MQTT-3.3.4-8]
    let mut world = World::with(|config| config.receive_maximum = 3);
    let bob = world.begin(v5("bob"));
    assert!(world.first(bob).contains("ReceiveMaximum(3)"));
    world.holds_commits = true;
    for n in 1..=3 {
        world.publish(bob, "a", "x", 1, n);
    }
    world.send(bob, Packet::Pingreq);
    assert_eq!(world.received(bob), ["PINGRESP"]);
    world.publish(bob, "a", "x", 1, 4);
    assert_eq!(world.received(bob), ["DISCONNECT 93"]);
}

#[test]
fn receive_maximum_is_held_by_qos_2_until_pubcomp() {
    let mut world = World::with(|config| config.receive_maximum = 3);
    let bob = world.connect(v5("bob"));
    for n in 1..=3 {
        world.publish(bob, "a", "x", 2, n);
    }
    world.ack(bob, damselfly_codec::AckType::Pubrel, 2);
    world.publish(bob, "a", "x", 2, 4);
    assert!(!world.is_closed(bob));
    world.publish(bob, "a", "x", 2, 5);
    assert!(world.is_closed(bob));
}

#[test]
fn max_inflight() {
    let mut world = World::with(|config| config.max_inflight = 3);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v3("bob"))];
    world.subscribe(bob, &[("a", 1)]);
    for n in 1..=4 {
        world.publish(alice, "a", "x", 1, n);
    }
    assert_eq!(world.received(bob).len(), 3);
    world.ack(bob, damselfly_codec::AckType::Puback, 1);
    assert_eq!(world.received(bob).len(), 1);
}

#[test]
fn topic_alias_maximum() {
    let mut world = World::with(|config| config.topic_alias_maximum = 5);
    let bob = world.begin(v5("bob"));
    assert!(world.first(bob).contains("TopicAliasMaximum(5)"));
    let alias = |n| [Property::TopicAlias(damselfly_codec::TopicAlias::new(n).unwrap())];
    world.publish_with(bob, "a", "x", delivery(0, 1, false), false, &alias(5));
    assert!(!world.is_closed(bob));
    world.publish_with(bob, "a", "x", delivery(0, 1, false), false, &alias(6));
    assert_eq!(world.received(bob), ["DISCONNECT 94"]);
}

#[test]
fn max_outbound_topic_aliases() {
    let mut world = World::with(|config| config.max_outbound_topic_aliases = 1);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob").with(&[Property::TopicAliasMaximum(9)]))];
    world.subscribe(bob, &[("#", 0)]);
    for name in ["topic/one", "topic/two", "topic/one"] {
        world.publish(alice, name, "x", 0, 0);
    }
    let seen = world.received(bob);
    assert!(
        seen.iter().all(|line| line.contains("TopicAlias(1)")
            || line.contains("NonZero(1)")
            || line.contains("TopicAlias(TopicAlias(1))")),
        "{seen:?}"
    );
    assert!(seen.iter().all(|line| line.contains("topic/")), "each takes the place of the one before");
}

#[test]
fn max_alias_bytes() {
    let place = size_of::<Option<damselfly_topic::TopicNameBuf>>();
    let alias = |n| [Property::TopicAlias(damselfly_codec::TopicAlias::new(n).unwrap())];
    for (len, answer) in [(100, &[][..]), (101, &["DISCONNECT 97"][..])] {
        let limit = u32::try_from(2 * place + 110).unwrap();
        let mut world = World::with(|config| config.max_alias_bytes = limit);
        let bob = world.connect(v5("bob"));
        world.publish_with(bob, &"x".repeat(10), "", delivery(0, 1, false), false, &alias(1));
        world.publish_with(bob, &"y".repeat(len), "", delivery(0, 1, false), false, &alias(2));
        assert_eq!(world.received(bob), answer, "{len}");
    }
}

#[test]
fn max_alias_bytes_bounds_what_we_set_too() {
    for (limit, is_set) in [(1_000, true), (10, false)] {
        let mut world = World::with(|config| config.max_alias_bytes = limit);
        let [alice, bob] =
            [world.connect(v5("alice")), world.connect(v5("bob").with(&[Property::TopicAliasMaximum(9)]))];
        world.subscribe(bob, &[("#", 0)]);
        world.publish(alice, "a/topic/of/20/bytes/", "x", 0, 0);
        let seen = world.received(bob);
        assert_eq!(seen[0].contains("Alias"), is_set, "{seen:?}");
    }
}

/// Bob is away; alice gets the answers to three messages of which two find room.
fn full_queue(change: impl FnOnce(&mut Config)) -> (World, Vec<String>, Vec<String>) {
    let mut world = World::with(change);
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("a", 1)]);
    world.cut(bob);
    for n in 1..=3 {
        world.publish(alice, "a", &n.to_string(), 1, n);
    }
    let bob = world.begin(v5("bob").lasting(100));
    world.first(bob);
    let (told, got) = (world.received(alice), world.work_off(bob));
    (world, told, got)
}

#[test]
fn max_queued_messages() {
    let (world, told, got) = full_queue(|config| config.max_queued_messages = 2);
    assert_eq!(told, ["PUBACK #1", "PUBACK #2", "PUBACK #3 97"], "nobody is told success for what is dropped");
    assert_eq!(got, ["PUBLISH q1 #1 a=1", "PUBLISH q1 #2 a=2"]);
    assert_eq!(world.dropped(DropReason::QueueFull), 1);
    let dropped = world.events.iter().any(|event| {
        matches!(event, Event::Dropped { client_id: Some(id), topic, reason: DropReason::QueueFull, count: 1 }
            if &**id == "bob" && &**topic == "a")
    });
    assert!(dropped, "{:?}", world.events);
}

#[test]
fn max_queued_bytes() {
    let (_, told, got) = full_queue(|config| config.max_queued_bytes = 150);
    assert!(told[2].ends_with("97") && got.len() < 3, "{told:?} {got:?}");
    let (_, told, got) = full_queue(|config| config.max_queued_bytes = 1_000);
    assert!(told[2] == "PUBACK #3" && got.len() == 3);
}

#[test]
fn when_full() {
    let (world, told, got) = full_queue(|config| {
        config.max_queued_messages = 2;
        config.when_full = WhenFull::DropOldest;
    });
    assert_eq!(told, ["PUBACK #1", "PUBACK #2", "PUBACK #3"]);
    assert_eq!(got, ["PUBLISH q1 #1 a=2", "PUBLISH q1 #2 a=3"]);
    assert_eq!(world.dropped(DropReason::QueueFull), 1);

    for (policy, is_closed) in [(WhenFull::DropNewest, false), (WhenFull::CloseLegacyPublisher, true)] {
        let mut world = World::with(|config| {
            config.max_queued_messages = 1;
            config.when_full = policy;
        });
        let alice = world.connect(v3("alice"));
        let bob = world.connect(v5("bob").lasting(100));
        world.subscribe(bob, &[("a", 1)]);
        world.cut(bob);
        world.publish(alice, "a", "1", 1, 1);
        world.publish(alice, "a", "2", 1, 2);
        assert_eq!(world.is_closed(alice), is_closed, "{policy:?}");
        assert_eq!(world.received(alice).len(), if is_closed { 1 } else { 2 });
    }
}

#[test]
fn a_message_that_an_empty_queue_would_not_take_drives_nothing_out() {
    let mut world = World::with(|config| {
        config.max_queued_bytes = 1_000;
        config.when_full = WhenFull::DropOldest;
    });
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("a", 1)]);
    world.cut(bob);
    world.received(alice);
    world.publish(alice, "a", "1", 1, 1);
    world.publish(alice, "a", &"x".repeat(1_000), 1, 2);
    assert_eq!(world.received(alice), ["PUBACK #1", "PUBACK #2 97"]);
    let bob = world.connect(v5("bob").lasting(100));
    assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=1"]);
}

#[test]
fn the_publisher_of_a_connected_client_whose_queue_is_full_is_slowed_and_then_told() {
    let mut world = World::with(|config| {
        config.max_queued_messages = 2;
        config.max_inflight = 1;
    });
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("a", 1)]);
    world.subscribe(carol, &[("a", 0)]);
    for n in 1..=5 {
        world.publish(alice, "a", &n.to_string(), 1, n);
    }
    assert_eq!(world.received(alice), ["PUBACK #1", "PUBACK #2", "PUBACK #3"]);
    world.ack(bob, damselfly_codec::AckType::Puback, 1);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.received(alice), ["PUBACK #4"], "room came in time");
    world.pass_secs(5);
    assert_eq!(world.received(alice), ["PUBACK #5 97"]);
    world.publish(alice, "a", "6", 1, 6);
    assert_eq!(world.received(alice), ["PUBACK #6 97"], "one stall costs one pause");
    assert_eq!(world.received(carol).len(), 6, "everybody else gets all");
}

#[test]
fn max_transmit_bytes() {
    let mut world = World::with(|config| config.max_transmit_bytes = 500);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v3("bob"))];
    world.subscribe(bob, &[("#", 1)]);
    world.is_stalled = true;
    for n in 1..=20 {
        world.publish(alice, "a", &"x".repeat(95), 0, 0);
        world.publish(alice, "b", &n.to_string(), 1, n);
    }
    assert!(world.dropped(DropReason::SlowReader) > 10);
    let reader = world.broker.sessions().find(|session| session.client_id == "bob").unwrap();
    assert!(world.broker.transmit_len(reader.connection.unwrap()) <= 700);
    world.unstall();
    let qos1 = world.work_off(bob).into_iter().filter(|line| line.contains(" q1 ")).count();
    assert_eq!(qos1, 20, "QoS 1 waits");
}

#[test]
fn a_client_that_does_not_take_its_answers_is_left_unread_until_it_does() {
    let mut world = World::with(|config| config.max_transmit_bytes = 500);
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(As { keep_alive: 10, ..v3(name) }));
    world.is_stalled = true;
    let pings = [0xC0, 0x00].repeat(50_000);
    let most = 500 + 64 * 1024;
    for client in [alice, bob] {
        world.send_bytes(client, &pings);
        assert!(world.is_paused(client));
        let waiting = world.broker.transmit_len(client.id);
        assert!((most + 1..=most + 2).contains(&waiting), "{waiting} bytes");
    }
    for _ in 0..3 {
        world.pass_secs(14);
        world.broker.handle_transmitted(world.now, alice.id, 2);
    }
    assert!(world.is_closed(bob), "it took nothing for one and a half Keep Alive periods");
    assert!(!world.is_closed(alice), "what it takes shows that it is there");
    assert!(world.is_paused(alice));
    world.unstall();
    assert!(!world.is_paused(alice));
    assert_eq!(world.received(alice).len(), 50_000 - 3, "nothing is lost but what this test took");
}

/// One packet cannot keep the broker busy with filters that no session has room for.
#[test]
fn filters_of_one_subscribe_beyond_the_limit_are_refused() {
    let mut world = World::with(|config| config.max_subscriptions = 3);
    let bob = world.connect(v5("bob"));
    let again = [("a", SubscriptionOptions::default()); 4];
    world.subscribe_with(bob, &again, &[]);
    assert_eq!(world.received(bob), ["SUBACK #999 00 00 00 97"]);
}

#[test]
fn max_subscriptions() {
    let mut world = World::with(|config| config.max_subscriptions = 3);
    for (client, refused) in [(v5("bob"), "97"), (v3("carol"), "80")] {
        let connection = world.connect(client);
        world.subscribe(connection, &[("a", 0), ("b", 0), ("$share/g/c", 0)]);
        let ask = |filter| [(filter, SubscriptionOptions::default())];
        world.subscribe_with(connection, &ask("d"), &[]);
        world.subscribe_with(connection, &ask("a"), &[]);
        assert_eq!(world.received(connection), [format!("SUBACK #999 {refused}"), "SUBACK #999 00".into()]);
    }
}

#[test]
fn max_subscription_bytes() {
    let mut world = World::with(|config| config.max_subscription_bytes = 10);
    for (client, refused) in [(v5("bob"), "97"), (v3("carol"), "80")] {
        let connection = world.connect(client);
        world.subscribe(connection, &[("a/b", 0), ("c/d/e/f", 0)]);
        // What is there already needs no room.
        for (filter, code) in [("g", refused), ("a/b", "00")] {
            world.subscribe_with(connection, &[(filter, SubscriptionOptions::default())], &[]);
            assert_eq!(world.received(connection), [format!("SUBACK #999 {code}")], "{filter}");
        }
        world.unsubscribe(connection, &["a/b"]);
        world.received(connection);
        for (filter, code) in [("g/hi", refused), ("g/h", "00")] {
            world.subscribe_with(connection, &[(filter, SubscriptionOptions::default())], &[]);
            assert_eq!(world.received(connection), [format!("SUBACK #999 {code}")], "{filter}");
        }
    }
}

#[test]
fn max_topic_levels() {
    let mut world = World::with(|config| config.max_topic_levels = 3);
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 0), ("a/+/c", 0)]);
    world.publish(bob, "a/b/c", "x", 1, 1);
    world.publish(bob, "a/b/c/d", "x", 1, 2);
    world.publish(bob, "a/b/c/d", "x", 0, 0);
    assert_eq!(world.received(bob), ["PUBLISH q0 a/b/c=x", "PUBACK #1", "PUBACK #2 90"]);
    assert_eq!(world.dropped(DropReason::TooManyLevels), 2);
    let carol = world.connect(v3("carol"));
    world.publish(carol, "a/b/c/d", "x", 1, 3);
    assert_eq!(world.received(carol), ["PUBACK #3"]);
}

#[test]
fn max_retained_messages() {
    let mut world = World::with(|config| config.max_retained_messages = 2);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.subscribe(bob, &[("#", 0)]);
    for (n, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "a")] {
        world.publish_with(alice, name, "x", delivery(1, n, false), true, &[]);
    }
    assert_eq!(world.received(alice), ["PUBACK #1", "PUBACK #2", "PUBACK #3 97", "PUBACK #4"]);
    assert_eq!(world.received(bob).len(), 4, "delivered, but not retained");
    assert_eq!(world.broker.retained_len(), 2);
}

#[test]
fn max_retained_bytes() {
    let mut world = World::with(|config| config.max_retained_bytes = 1_000);
    let alice = world.connect(v5("alice"));
    world.retain(alice, "a", &"x".repeat(500));
    world.retain(alice, "b", &"x".repeat(500));
    assert_eq!(world.broker.retained_len(), 1);
    world.retain(alice, "a", &"x".repeat(5_000));
    assert_eq!(world.broker.retained_len(), 0, "the old value is not the last one any more");
    assert_eq!(world.dropped(DropReason::RetainedFull), 2);
}

#[test]
fn max_memory_and_pause_limit() {
    let mut world = World::with(|config| {
        config.max_memory = 20_000;
        config.pause_limit = Duration::from_secs(2);
        config.route_cache_entries = 0;
    });
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("a", 1)]);
    world.cut(bob);
    let payload = "x".repeat(10_000);
    for n in 1..=4 {
        world.publish(alice, "a", &payload, 1, n);
    }
    assert_eq!(world.received(alice), ["PUBACK #1", "PUBACK #2"], "the others wait for room");
    world.send(alice, Packet::Pingreq);
    assert_eq!(world.received(alice), ["PINGRESP"]);
    world.pass(Duration::from_secs(1));
    assert!(world.received(alice).is_empty());
    let bob = world.begin(v5("bob").lasting(100));
    world.first(bob);
    assert_eq!(world.work_off(bob).len(), 2);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.received(alice), ["PUBACK #3", "PUBACK #4"], "room came in time");

    world.cut(bob);
    for n in 5..=8 {
        world.publish(alice, "a", &payload, 1, n);
    }
    world.pass(Duration::from_secs(10));
    let told = world.received(alice);
    assert!(told.ends_with(&["PUBACK #8 97".into()]), "no room in time: {told:?}");
    assert!(world.broker.memory().messages < 80_000);
}

/// Each look at a publisher that waits for room costs what it has waiting, not the square of it or worse: this takes
/// minutes otherwise.
#[test]
fn many_publishers_with_many_topics_may_wait_for_room_at_once() {
    let mut world = World::with(|config| {
        config.max_memory = beside(11, 2_000);
        config.route_cache_entries = 0;
    });
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("#", 1)]);
    world.cut(bob);
    let publishers: Vec<_> = (0..10).map(|n| world.connect(v5(&format!("publisher{n}")))).collect();
    for publisher in &publishers {
        for n in 1..=1_000 {
            world.publish(*publisher, &format!("topic/{n}"), "some payload", 1, n);
        }
    }
    world.pass(Duration::from_millis(1_900));
    let told: usize = publishers.iter().map(|publisher| world.received(*publisher).len()).sum();
    assert!(told < 100, "{told} found room, the others wait");
    world.pass(Duration::from_millis(200));
    let late: Vec<_> = publishers.iter().flat_map(|publisher| world.received(*publisher)).collect();
    assert_eq!(told + late.len(), 10_000);
    assert!(late.iter().all(|line| line.ends_with(" 97")), "no room in time");
}

#[test]
fn what_waits_for_slow_readers_counts_against_max_memory() {
    let mut world = World::with(|config| config.max_memory = beside(21, 5_000));
    let alice = world.connect(v5("alice"));
    let readers: Vec<_> = (0..20).map(|n| world.connect(v3(&format!("reader{n}")))).collect();
    for reader in &readers {
        world.subscribe(*reader, &[("#", 0)]);
    }
    world.is_stalled = true;
    for _ in 0..10 {
        world.publish(alice, "a", &"x".repeat(100), 0, 0);
    }
    assert!(world.dropped(DropReason::Memory) > 100);
    world.unstall();
    for reader in &readers {
        assert!(!world.received(*reader).is_empty());
    }
    world.publish(alice, "a", "y", 0, 0);
    assert!(readers.iter().all(|reader| world.received(*reader) == ["PUBLISH q0 a=y"]));
}

#[test]
fn question_timeout() {
    let mut world = World::with(|config| config.question_timeout = Duration::from_secs(3));
    world.holds_questions = true;
    let bob = world.begin(v3("bob"));
    world.pass(Duration::from_micros(2_999_999));
    assert!(!world.is_closed(bob));
    world.pass(Duration::from_micros(1));
    assert_eq!(world.received(bob), ["CONNACK 05"]);
}

#[test]
fn max_session_expiry() {
    let mut world = World::with(|config| config.max_session_expiry = Some(3));
    let bob = world.connect(v3("bob").lasting(0));
    world.cut(bob);
    world.pass_secs(2);
    assert_eq!(world.broker.sessions_len(), 1);
    world.pass_secs(1);
    world.assert_empty();
}

#[test]
fn max_keep_alive() {
    let mut world = World::with(|config| config.max_keep_alive = 30);
    for (keep_alive, code) in [(30, "CONNACK 00"), (31, "CONNACK 02"), (0, "CONNACK 02")] {
        let bob = world.begin(As { keep_alive, ..v3("bob") });
        assert_eq!(world.received(bob), [code]);
    }
}

#[test]
fn maximum_qos() {
    let mut world = World::with(|config| config.maximum_qos = qos(1));
    let bob = world.connect(v5("bob"));
    world.publish(bob, "a", "x", 1, 1);
    assert!(!world.is_closed(bob));
    world.publish(bob, "a", "x", 2, 2);
    assert_eq!(world.received(bob), ["PUBACK #1 10", "DISCONNECT 9B"]);
}

#[test]
fn route_cache_entries_and_receivers() {
    let with = |entries, receivers| {
        let mut world = World::with(|config| {
            config.route_cache_entries = entries;
            config.route_cache_receivers = receivers;
        });
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.connect(v5(name)));
        world.subscribe(bob, &[("#", 0)]);
        world.subscribe(carol, &[("#", 0)]);
        for n in 0..50 {
            world.publish(alice, &format!("t/{n}"), "x", 0, 0);
            world.publish(alice, &format!("t/{n}"), "x", 0, 0);
        }
        let seen = world.received(bob).len();
        let bytes = world.broker.counters().route_cache_bytes;
        world.send(alice, Packet::Pingreq);
        assert_eq!(world.broker.counters().route_cache_bytes, 0, "an idle client has none");
        (seen, bytes)
    };
    assert_eq!(with(0, 100), (100, 0));
    assert_eq!(with(64, 1), (100, with(64, 0).1), "a route of two receivers is too wide for one");
    let (two, many) = (with(2, 100), with(64, 100));
    assert!(two.0 == 100 && two.1 > 0 && many.1 > 4 * two.1, "{two:?} {many:?}");
}

#[test]
fn the_clients_maximum_packet_size() {
    // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let small = [Property::MaximumPacketSize(30.try_into().unwrap())];
    let [bob, carol] = [world.connect(v5("bob").with(&small).lasting(100)), world.connect(v5("carol"))];
    for client in [bob, carol] {
        world.subscribe(client, &[("a", 1)]);
    }
    world.publish(alice, "a", &"x".repeat(30 - 8), 1, 1);
    world.publish(alice, "a", &"x".repeat(31 - 8), 1, 2);
    world.publish(alice, "a", "small", 1, 3);
    assert_eq!(world.work_off(bob).len(), 2, "too large for bob alone, and the queue goes on");
    assert_eq!(world.work_off(carol).len(), 3);
    assert_eq!(world.dropped(DropReason::PacketTooLarge), 1);

    let tiny = [Property::MaximumPacketSize(5.try_into().unwrap())];
    let dave = world.begin(v5("dave").with(&tiny));
    assert!(world.received_bytes(dave).is_empty(), "not even CONNACK fits");
    assert!(world.is_closed(dave));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let mut config = Config::default();
    config.receive_maximum = 0;
    assert_eq!(Broker::new(config, 1).unwrap_err().to_string(), "receive_maximum must not be 0");
}
