//! When something is short - room, time, a reader - clients are slowed, and go on when it is there again.

use std::{sync::Arc, time::Duration};

use damselfly_broker::{Access, Answer, Config, DropReason, Event, Grant, Permission, Why};
use damselfly_codec::{AckType, Packet, Properties, Property, ReasonCode, SubscriptionOptions};
use damselfly_session::{Message, PeerError};
use damselfly_topic::TopicFilter;

use crate::world::{As, Client, World, beside, delivery, exactly, qos, topic, v3, v5};

fn with_access(access: Access) -> Answer {
    let mut grant = Grant::default();
    grant.access = Some(Arc::new(access));
    Answer::Allow(grant)
}

/// Bob reads topic `a` and has no room for more than one message in his queue, which is taken.
fn full(change: impl FnOnce(&mut Config)) -> (World, Client) {
    let mut world = World::with(|config| {
        config.max_queued_messages = 1;
        config.max_inflight = 1;
        config.pause_limit = Duration::from_secs(2);
        change(config);
    });
    let [feeder, bob] = ["feeder", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("a", 1), ("$SYS/#", 1)]);
    world.publish(feeder, "a", "1", 1, 1);
    world.publish(feeder, "a", "2", 1, 2);
    assert_eq!(world.received(feeder), ["PUBACK #1", "PUBACK #2"]);
    (world, bob)
}

#[test]
fn a_message_that_waits_for_room_needs_its_permission_all_the_same() {
    for (permission, answer) in [(Permission::Deny, None), (Permission::Ask, Some(ReasonCode::NotAuthorized))] {
        let (mut world, bob) = full(|_| {});
        world.holds_questions = true;
        let mallory = world.begin(v5("mallory"));
        world.answer(with_access(Access::new(permission)));
        world.first(mallory);
        world.publish(mallory, "a", "forged", 1, 1);
        if let Some(code) = answer {
            world.answer(Answer::Deny(code));
        }
        assert_eq!(world.received(mallory), ["PUBACK #1 87"], "{permission:?}");
        let seen = world.work_off(bob);
        world.pass_secs(5);
        assert!(seen.iter().chain(&world.work_off(bob)).all(|line| !line.contains("forged")), "{seen:?}");
    }
    let mut world = World::with(|config| config.max_memory = exactly("mallory"));
    let mallory = world.connect(v5("mallory"));
    world.publish(mallory, "$SYS/broker/version", "0", 1, 1);
    assert_eq!(world.received(mallory), ["PUBACK #1 87"]);
}

#[test]
fn publishers_that_keep_coming_do_not_put_off_those_who_wait() {
    let mut world = World::with(|config| {
        config.max_memory = beside(102, 150);
        config.pause_limit = Duration::from_secs(2);
    });
    let [feeder, away] = [world.connect(v5("feeder")), world.connect(v5("away").lasting(100))];
    world.subscribe(away, &[("queued", 1)]);
    world.cut(away);
    let writers: Vec<_> = (0..100).map(|n| world.connect(v5(&format!("writer{n}")))).collect();
    world.publish(feeder, "queued", &"x".repeat(60_000), 1, 1);
    for writer in &writers {
        world.publish(*writer, "a", "x", 1, 1);
        world.pass(Duration::from_millis(40));
    }
    assert_eq!(world.received(writers[0]), ["PUBACK #1 97"], "its time was up two seconds ago");
}

#[test]
fn keep_alive_runs_again_when_a_client_is_read_again() {
    // [MQTT-3.1.2-22]
    let mut world = World::with(|config| config.receive_maximum = 1);
    world.holds_questions = true;
    let bob = world.begin(As { keep_alive: 10, ..v5("bob") });
    world.answer(with_access(Access::new(Permission::Ask)));
    for _ in 0..65 {
        world.publish(bob, "a", "x", 0, 0);
    }
    assert_eq!(world.questions.len(), 65);
    let answered_at = |world: &mut World| {
        for _ in 0..65 {
            world.answer(Answer::allow());
        }
    };
    // Its deadline passes while the client is not read.
    world.pass_secs(9);
    answered_at(&mut world);
    let again = 65;
    for _ in 0..again {
        world.publish(bob, "a", "x", 0, 0);
    }
    world.pass_secs(9);
    answered_at(&mut world);
    assert!(!world.is_closed(bob));
    world.pass_secs(60);
    assert!(world.is_closed(bob), "silent for a minute");
}

#[test]
fn what_is_to_be_sent_again_goes_on_when_the_transport_does() {
    // [MQTT-4.4.0-1]
    let mut world = World::with(|config| config.max_transmit_bytes = 40);
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v3("bob").lasting(0));
    world.subscribe(bob, &[("a", 1)]);
    for n in 1..=6 {
        world.publish(alice, "a", &format!("{n}{}", "x".repeat(20)), 1, n);
    }
    assert_eq!(world.received(bob).len(), 6);
    world.cut(bob);
    let bob = world.begin(v3("bob").lasting(0));
    assert_eq!(world.received(bob).len(), 7, "CONNACK and all six, without an acknowledgement in between");
}

#[test]
fn an_acknowledgement_before_anything_was_sent_again_takes_its_message_out_of_the_line() {
    let mut world = World::with(|config| config.max_transmit_bytes = 1);
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v3("bob").lasting(0));
    world.subscribe(bob, &[("a", 1)]);
    for n in 1..=3 {
        world.publish(alice, "a", &n.to_string(), 1, n);
    }
    assert_eq!(world.received(bob).len(), 3);
    world.cut(bob);
    world.is_stalled = true;
    let bob = world.begin(v3("bob").lasting(0));
    world.ack(bob, AckType::Puback, 1);
    world.unstall();
    let seen = world.received(bob);
    assert_eq!(seen[1..], ["PUBLISH q1 #2 dup a=2", "PUBLISH q1 #3 dup a=3"]);
}

#[test]
fn a_message_that_expires_while_it_waits_for_its_commit_is_not_delivered() {
    // [MQTT-3.3.2-5]
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("#", 2)]);
    world.holds_commits = true;
    let expiry = [Property::MessageExpiryInterval(2)];
    world.publish_with(alice, "a", "x", delivery(2, 1, false), false, &expiry);
    world.pass_secs(3);
    world.commit();
    world.commit();
    assert!(world.received(bob).is_empty());
    assert_eq!(world.received(alice), ["PUBREC #1"], "there is a subscriber");
    assert_eq!(world.dropped(DropReason::Expired), 1);
}

#[test]
fn expired_retained_messages_make_room_however_many_others_come() {
    let mut world = World::with(|config| config.max_retained_messages = 3);
    let alice = world.connect(v5("alice"));
    for name in ["old/1", "old/2"] {
        let expiry = [Property::MessageExpiryInterval(1)];
        world.publish_with(alice, name, "x", delivery(0, 1, false), true, &expiry);
    }
    for _ in 0..20 {
        world.pass(Duration::from_millis(500));
        world.retain(alice, "new", "x");
    }
    assert_eq!(world.broker.retained_len(), 1);
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_either() {
    let mut world = World::with(|config| {
        config.max_transmit_bytes = 1_000;
        config.max_packet_size = 1_000;
    });
    let bob = world.connect(As { keep_alive: 10, ..v5("bob") });
    world.retain(bob, "r", "retained");
    world.is_stalled = true;
    let mut flood = Vec::new();
    for n in 1..=20_000_u16 {
        flood.extend_from_slice(&[0xC0, 0x00]);
        let [high, low] = n.to_be_bytes();
        flood.extend_from_slice(&[0x82, 7, high, low, 0, 0, 1, b'r', 0]);
    }
    world.send_bytes(bob, &flood);
    assert!(world.is_paused(bob));
    assert!(world.broker.transmit_len(bob.id) < 100_000, "{} bytes wait", world.broker.transmit_len(bob.id));
    world.unstall();
    assert!(!world.is_paused(bob));
    let seen = world.received(bob);
    assert_eq!(seen.iter().filter(|line| *line == "PINGRESP").count(), 20_000, "all is answered in the end");
    assert_eq!(seen.iter().filter(|line| line.starts_with("SUBACK")).count(), 20_000);

    world.is_stalled = true;
    world.send_bytes(bob, &flood);
    world.pass_secs(60);
    let silent =
        |event: &Event| matches!(event, Event::Disconnected { why: Why::PeerError(PeerError::KeepAliveTimeout), .. });
    assert!(world.events.iter().any(silent), "who takes nothing for so long is gone");
}

#[test]
fn subscriptions_that_wait_for_answers_count_as_subscriptions() {
    let mut world = World::with(|config| config.max_subscriptions = 3);
    world.holds_questions = true;
    let bob = world.begin(v5("bob"));
    world.answer(with_access(Access::new(Permission::Ask)));
    world.first(bob);
    let names: Vec<String> = (0..9).map(|n| format!("a/{n}")).collect();
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), SubscriptionOptions::default())).collect();
    world.subscribe_with(bob, &filters, &[]);
    world.subscribe_with(bob, &filters, &[]);
    assert_eq!(world.questions.len(), 3);
    for _ in 0..3 {
        world.answer(Answer::allow());
    }
    let seen = world.received(bob);
    assert_eq!(seen[0], "SUBACK #999 00 00 00 97 97 97 97 97 97");
}

#[test]
fn messages_that_wait_for_an_answer_or_a_commit_count_against_max_memory() {
    let mut world = World::with(|config| {
        config.max_memory = beside(2, 100_000);
        config.route_cache_entries = 0;
    });
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("b", 1)]);
    world.holds_commits = true;
    for n in 1..=300 {
        world.publish(alice, &format!("a/{n}"), &"x".repeat(10_000), 2, n);
    }
    assert!(world.is_paused(alice), "no memory for more");
    assert!(world.broker.memory().messages < 400_000, "{:?}", world.broker.memory());
    world.holds_commits = false;
    for _ in 0..400 {
        world.commit();
    }
    assert!(!world.is_paused(alice));
    let seen = world.received(alice);
    assert_eq!(seen.len(), 300);
    assert!(seen.iter().all(|line| line.starts_with("PUBREC")), "{seen:?}");
}

#[test]
fn a_local_participant_that_ends_with_a_full_queue_slows_nobody() {
    let mut world = World::with(|config| config.max_queued_messages = 1);
    let alice = world.connect(v5("alice"));
    let local = world.broker.open_local(world.now, "sink", 1.try_into().unwrap()).unwrap();
    let options = SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() };
    world.broker.local_subscribe(world.now, local, TopicFilter::new("a").unwrap(), options, None);
    for n in 1..=2 {
        world.publish(alice, "a", "x", 1, n);
    }
    world.broker.close_local(world.now, local);
    world.settle();
    world.audit();
}

#[test]
fn no_local_holds_for_messages_that_waited_for_their_commit() {
    // [MQTT-3.8.3-3]
    let mut world = World::new();
    let local = world.broker.open_local(world.now, "echo", 5.try_into().unwrap()).unwrap();
    let options = SubscriptionOptions { qos: qos(2), no_local: true, ..SubscriptionOptions::default() };
    world.broker.local_subscribe(world.now, local, TopicFilter::new("#").unwrap(), options, None);
    let message = Message::compose(topic("a"), b"x", qos(2), false, Properties::EMPTY, world.now);
    let _published = world.broker.local_publish(world.now, local, message);
    world.settle();
    assert!(world.delivered.is_empty());

    let no_local = SubscriptionOptions { no_local: true, qos: qos(2), ..SubscriptionOptions::default() };
    let will = Some(("w", "gone", 2, false, 0));
    let bob = world.connect(As { will, ..v5("bob").lasting(100) });
    world.subscribe_with(bob, &[("w", no_local)], &[]);
    world.cut(bob);
    let bob = world.begin(v5("bob").lasting(100));
    assert_eq!(world.received(bob).len(), 1, "CONNACK alone");
    world.send(bob, Packet::Pingreq);
}

/// No delivery of a message published at QoS 2 precedes its commit, however it came to wait.
#[test]
fn a_qos_2_message_that_waited_for_room_is_seen_by_nobody_before_its_commit() {
    let (mut world, bob) = full(|_| {});
    let alice = world.connect(v5("alice"));
    world.holds_commits = true;
    world.publish(alice, "a", "3", 2, 1);
    assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=1"]);
    world.ack(bob, AckType::Puback, 1);
    assert_eq!(world.received(bob), ["PUBLISH q1 #2 a=2"]);
    world.ack(bob, AckType::Puback, 2);
    world.pass(Duration::from_millis(100));
    assert!(world.received(bob).is_empty() && world.received(alice).is_empty(), "there is room and no commit");
    world.commit();
    assert_eq!(world.received(bob), ["PUBLISH q1 #3 a=3"]);
    assert_eq!(world.received(alice), ["PUBREC #1"]);
    world.audit();
}

#[test]
fn qos_2_messages_for_a_full_queue_wait_one_after_the_other_for_room() {
    let (mut world, bob) = full(|_| {});
    let alice = world.connect(v5("alice"));
    for n in 1..=4 {
        world.publish(alice, "a", &format!("late {n}"), 2, n);
    }
    assert!(world.received(alice).is_empty(), "all wait");
    let seen = world.work_off(bob);
    assert_eq!(seen, ["PUBLISH q1 #1 a=1", "PUBLISH q1 #2 a=2"]);
    let mut late = Vec::new();
    for _ in 0..4 {
        world.pass(Duration::from_millis(60));
        late.extend(world.work_off(bob));
    }
    let payloads: Vec<_> = late.iter().filter_map(|line| line.rsplit('=').next()).collect();
    assert_eq!(payloads, ["late 1", "late 2", "late 3", "late 4"]);
    assert_eq!(world.received(alice), ["PUBREC #1", "PUBREC #2", "PUBREC #3", "PUBREC #4"]);
}

/// It was told nothing of a message that was dropped then, so it publishes it again and is not told that all is well.
#[test]
fn a_qos_2_message_dropped_while_its_client_was_away_is_a_new_one_when_it_comes_again() {
    let mut world = World::with(|config| {
        config.max_memory = beside(3, 18_000);
        config.pause_limit = Duration::from_secs(2);
    });
    let [alice, away] = [world.connect(v5("alice").lasting(100)), world.connect(v5("away").lasting(100))];
    world.subscribe(away, &[("#", 2)]);
    world.cut(away);
    world.publish(alice, "a", &"x".repeat(20_000), 1, 1);
    world.received(alice);
    world.publish(alice, "b", "y", 2, 2);
    assert!(world.received(alice).is_empty(), "it waits for room");
    world.cut(alice);
    world.pass_secs(3);
    assert_eq!(world.dropped(DropReason::Memory), 1);
    let alice = world.begin(v5("alice").lasting(100));
    world.first(alice);
    world.publish_with(alice, "b", "y", delivery(2, 2, true), false, &[]);
    world.pass_secs(3);
    assert_eq!(world.received(alice), ["PUBREC #2 97"]);
    world.audit();
}

/// Nobody is told success for a message that is then dropped, though another receiver gives another reason.
#[test]
fn a_full_queue_is_told_whoever_else_does_not_get_the_message() {
    let small = [Property::MaximumPacketSize(core::num::NonZeroU32::new(30).unwrap())];
    for order in [["bob", "carol"], ["carol", "bob"]] {
        let mut world = World::with(|config| {
            config.max_queued_messages = 1;
            config.pause_limit = Duration::ZERO;
        });
        // One is away and has a full queue, the other takes no large packets.
        for name in order {
            let list = if name == "carol" { &small[..] } else { &[] };
            let client = world.connect(v5(name).lasting(100).with(list));
            world.subscribe(client, &[("#", 1)]);
            if name == "bob" {
                world.cut(client);
            }
        }
        let alice = world.connect(v5("alice"));
        world.received(alice);
        world.publish(alice, "a", "1", 1, 1);
        world.publish(alice, "a", &"x".repeat(40), 1, 2);
        assert_eq!(world.received(alice), ["PUBACK #1", "PUBACK #2 97"], "{order:?}");
    }
}

#[test]
fn a_message_for_others_waits_for_no_full_queue() {
    let (mut world, bob) = full(|_| {});
    let [alice, carol] = ["alice", "carol"].map(|name| world.connect(v5(name)));
    world.subscribe(carol, &[("other", 2)]);
    world.publish(alice, "other", "x", 2, 1);
    assert_eq!(world.received(alice), ["PUBREC #1"]);
    assert_eq!(world.received(carol), ["PUBLISH q2 #1 other=x"]);
    world.publish(alice, "a", "3", 2, 2);
    assert!(world.received(alice).is_empty(), "this one has to wait");
    assert_eq!(world.work_off(bob).len(), 2);
}

#[test]
fn a_publisher_is_slowed_until_a_queue_has_been_full_for_pause_limit_and_no_longer() {
    for (time, answer) in [(Duration::from_micros(1_999_999), &[][..]), (Duration::from_secs(2), &["PUBACK #1 97"])] {
        let (mut world, _) = full(|_| {});
        let alice = world.connect(v5("alice"));
        world.pass(time);
        world.holds_work = true;
        world.publish(alice, "a", "3", 1, 1);
        assert_eq!(world.received(alice), answer, "{time:?}");
    }
}

/// Its client was told nothing of it, and there is no session that could be asked to take it again.
#[test]
fn a_qos_1_message_that_waits_for_room_ends_with_its_session() {
    let (mut world, bob) = full(|_| {});
    let alice = world.connect(v5("alice"));
    world.publish(alice, "a", "3", 1, 1);
    assert!(world.received(alice).is_empty(), "it waits");
    world.cut(alice);
    assert_eq!(world.dropped(DropReason::QueueFull), 0);
    assert_eq!(world.work_off(bob).len(), 2);
    world.pass_secs(3);
    assert!(world.work_off(bob).is_empty());
    world.audit();
}
