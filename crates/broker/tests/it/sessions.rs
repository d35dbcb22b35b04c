//! CONNECT, sessions that last or end, takeover, keep alive. [MQTT-3.1] [MQTT-4.1]

use std::time::Duration;

use damselfly_broker::{Answer, Event, ProblemInformation, Why};
use damselfly_codec::{AckType, Packet, Property, ReasonCode, Version};
use damselfly_session::PeerError;

use super::world::{As, World, v3, v5};

#[test]
fn a_session_lasts_as_long_as_its_expiry_to_the_second() {
    // [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23] [MQTT-3.2.2-3] [MQTT-4.1.0-2]
    let mut world = World::new();
    for (away, present) in [(Duration::from_micros(9_999_999), true), (Duration::from_secs(10), false)] {
        let bob = world.connect(v5("bob").lasting(10));
        world.cut(bob);
        world.pass(away);
        let bob = world.begin(v5("bob").lasting(10));
        assert_eq!(world.first(bob).contains("present"), present, "away for {away:?}");
        world.cut(bob);
        world.pass_secs(11);
    }
}

#[test]
fn a_clean_start_discards_what_was_there() {
    // [MQTT-3.1.2-4] [MQTT-3.2.2-2]
    let mut world = World::new();
    let bob = world.connect(v5("bob").lasting(10));
    world.subscribe(bob, &[("a", 1)]);
    world.cut(bob);

    let bob = world.begin(v5("bob"));

    assert!(!world.first(bob).contains("present"));
    let alice = world.connect(v5("alice"));
    world.publish(alice, "a", "x", 1, 1);
    assert_eq!(world.received(alice), ["PUBACK #1 10"]);
    assert!(world.received(bob).is_empty());
}

#[test]
fn a_3_1_1_session_without_clean_session_lasts_and_stores_qos_1_and_2_only() {
    // [MQTT3-3.1.2-4] [MQTT3-3.1.2-5] [MQTT3-3.2.2-2] [MQTT3-3.2.2-3]
    let mut world = World::new();
    let bob = world.begin(v3("bob").lasting(0));
    assert_eq!(world.received(bob), ["CONNACK 00"]);
    world.subscribe(bob, &[("a", 2)]);
    world.cut(bob);
    let alice = world.connect(v3("alice"));
    for qos in 0..3 {
        world.publish(alice, "a", &qos.to_string(), qos, 1 + u16::from(qos));
    }
    world.pass_secs(1_000_000);

    let bob = world.begin(v3("bob").lasting(0));

    assert_eq!(world.received(bob), ["CONNACK 00 present", "PUBLISH q1 #1 a=1", "PUBLISH q2 #2 a=2"]);
}

#[test]
fn the_later_of_two_clients_with_one_id_wins_and_the_earlier_is_told() {
    // [MQTT-3.1.4-3] [MQTT3-3.1.4-2] [MQTT-3.14.2-2]
    let mut world = World::new();
    let first = world.connect(v5("bob").lasting(100));
    let second = world.begin(v5("bob").lasting(100));
    assert_eq!(world.received(first), ["DISCONNECT 8E"]);
    assert!(world.is_closed(first));
    assert_eq!(world.first(second).split(' ').take(3).collect::<Vec<_>>(), ["CONNACK", "00", "present"]);

    let legacy = world.connect(v3("carol"));
    world.connect(v3("carol"));
    assert!(world.received(legacy).is_empty());
    assert!(world.is_closed(legacy));
}

#[test]
fn of_two_pending_connects_the_later_wins_whichever_is_answered_first() {
    for answered_first in [0, 1] {
        let mut world = World::new();
        world.holds_questions = true;
        let older = world.begin(v5("bob"));
        let newer = world.begin(v5("bob"));
        world.answer_at(answered_first, Answer::allow(), ProblemInformation::new());
        world.answer(Answer::allow());
        assert!(world.is_closed(older), "answered first: {answered_first}");
        assert!(world.first(newer).starts_with("CONNACK 00"));
        assert!(!world.is_closed(newer));
    }
}

#[test]
fn disconnect_may_change_the_expiry_but_not_raise_it_from_zero() {
    // [MQTT-3.14.2.2.2]
    let mut world = World::new();
    let bob = world.connect(v5("bob").lasting(10));
    world.disconnect(bob, ReasonCode::Success, &[Property::SessionExpiryInterval(100)]);
    assert!(world.is_closed(bob));
    world.pass_secs(99);
    assert_eq!(world.sessions_len(), 1);
    world.pass_secs(1);
    assert_eq!(world.sessions_len(), 0);

    let bob = world.connect(v5("bob"));
    world.disconnect(bob, ReasonCode::Success, &[Property::SessionExpiryInterval(1)]);
    assert_eq!(world.received(bob), ["DISCONNECT 82"]);
}

#[test]
fn a_value_cut_to_a_ceiling_of_zero_makes_no_sinner_of_an_honest_client() {
    // [MQTT-3.14.2.2.2]
    for (asked, answer) in [(Some(10), &[][..]), (Some(0), &["DISCONNECT 82"][..]), (None, &["DISCONNECT 82"][..])] {
        let mut world = World::with(|config| config.max_session_expiry = Some(0));
        let bob = world.begin(As { expiry: asked, ..v5("bob") });
        assert_eq!(world.first(bob).contains("SessionExpiryInterval(0)"), asked == Some(10));
        world.disconnect(bob, ReasonCode::Success, &[Property::SessionExpiryInterval(5)]);
        assert_eq!(world.received(bob), answer, "{asked:?}");
        assert!(world.is_closed(bob));
        world.assert_empty();
    }
}

#[test]
fn the_ceiling_of_the_expiry_is_kept_and_told() {
    let mut world = World::with(|config| config.max_session_expiry = Some(7));
    let bob = world.begin(v5("bob").lasting(8));
    assert!(world.first(bob).contains("SessionExpiryInterval(7)"));
    let carol = world.begin(v5("carol").lasting(7));
    assert!(!world.first(carol).contains("SessionExpiryInterval"));
    world.cut(bob);
    world.cut(carol);
    world.pass_secs(7);
    world.assert_empty();
}

#[test]
fn a_silent_client_is_gone_after_one_and_a_half_keep_alive_periods() {
    // [MQTT-3.1.2-22] [MQTT3-3.1.2-24]
    let mut world = World::new();
    let bob = world.connect(As { keep_alive: 10, ..v5("bob") });
    world.pass(Duration::from_micros(14_999_999));
    world.send(bob, Packet::Pingreq);
    assert_eq!(world.received(bob), ["PINGRESP"]);
    world.pass(Duration::from_micros(14_999_999));
    assert!(!world.is_closed(bob));
    world.pass(Duration::from_micros(1));
    assert!(world.is_closed(bob));
    assert_eq!(world.received(bob), ["DISCONNECT 8D"]);
}

#[test]
fn keep_alive_zero_never_ends_a_connection() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    world.pass_secs(10_000_000);
    assert!(!world.is_closed(bob));
}

#[test]
fn a_server_keep_alive_replaces_the_clients_and_3_1_1_is_refused() {
    // [MQTT-3.1.2-21] [MQTT-3.2.2-22]
    let mut world = World::with(|config| config.max_keep_alive = 30);
    let bob = world.begin(As { keep_alive: 31, ..v5("bob") });
    assert!(world.first(bob).contains("ServerKeepAlive(30)"));
    let carol = world.begin(As { keep_alive: 30, ..v5("carol") });
    assert!(!world.first(carol).contains("ServerKeepAlive"));
    world.pass_secs(45);
    assert!(world.is_closed(bob) && world.is_closed(carol));

    let legacy = world.begin(As { keep_alive: 31, ..v3("dave") });
    assert_eq!(world.received(legacy), ["CONNACK 02"]);
    assert!(world.is_closed(legacy));
    let legacy = world.begin(As { keep_alive: 30, ..v3("dave") });
    assert_eq!(world.received(legacy), ["CONNACK 00"]);
}

#[test]
fn a_connection_without_connect_is_closed_in_time() {
    let mut world = World::with(|config| config.connect_timeout = Duration::from_secs(3));
    let silent = world.open();
    world.send_bytes(silent, b"\x10\x0d\x00\x04MQTT");
    world.pass(Duration::from_micros(2_999_999));
    assert!(!world.is_closed(silent));
    world.pass(Duration::from_micros(1));
    assert!(world.is_closed(silent));
    assert!(world.received_bytes(silent).is_empty());
}

#[test]
fn a_client_without_an_id_gets_one_and_is_told() {
    // [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] [MQTT3-3.1.3-6]
    let mut world = World::new();
    let [a, b] = [world.begin(v5("")), world.begin(v5(""))];
    let (a, b) = (world.first(a), world.first(b));
    assert!(a.contains("AssignedClientIdentifier") && b.contains("AssignedClientIdentifier"));
    assert_ne!(a, b);
    let legacy = world.begin(v3(""));
    assert_eq!(world.received(legacy), ["CONNACK 00"]);
}

#[test]
fn an_empty_id_is_refused_where_it_may_not_be() {
    // [MQTT3-3.1.3-8] [MQTT3-3.2.2-4] [MQTT3-3.2.2-5] [MQTT-3.1.3-8] [MQTT-3.2.2-6] [MQTT-3.2.2-7]
    let mut world = World::new();
    let bob = world.begin(v3("").lasting(0));
    assert_eq!(world.received(bob), ["CONNACK 02"]);
    assert!(world.is_closed(bob));
    let bob = world.begin(As { version: Version::V3_1, ..v3("") });
    assert_eq!(world.received(bob), ["CONNACK 02"]);

    let mut world = World::with(|config| config.allow_empty_client_id = false);
    let bob = world.begin(v5(""));
    assert_eq!(world.received(bob), ["CONNACK 85"]);
    assert!(world.is_closed(bob));
}

#[test]
fn versions_that_nobody_speaks_are_told_so() {
    // [MQTT-3.1.2-2] [MQTT3-3.1.2-2]
    let mut world = World::new();
    let future = world.open();
    world.send_bytes(future, b"\x10\x10\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x03bob");
    assert_eq!(world.received_bytes(future), b"\x20\x03\x00\x84\x00");
    assert!(world.is_closed(future));
    let past = world.open();
    world.send_bytes(past, b"\x10\x0f\x00\x04MQTT\x02\x02\x00\x3c\x00\x03bob");
    assert_eq!(world.received_bytes(past), b"\x20\x02\x00\x01");
    assert!(world.is_closed(past));
}

#[test]
fn nothing_but_connect_may_come_first_and_only_once() {
    // [MQTT-3.1.0-1] [MQTT-3.1.0-2] [MQTT3-3.1.0-1] [MQTT3-3.1.0-2]
    let mut world = World::new();
    let eager = world.open();
    world.send_bytes(eager, b"\xc0\x00");
    assert!(world.is_closed(eager));
    assert!(world.received_bytes(eager).is_empty());
    for (client, said) in [(v5("bob"), vec!["DISCONNECT 82"]), (v3("carol"), vec![])] {
        let connection = world.connect(client);
        world.send_bytes(connection, &client.encode());
        assert_eq!(world.received(connection), said);
        assert!(world.is_closed(connection));
    }
}

#[test]
fn packets_that_only_a_server_sends_end_the_connection() {
    let mut world = World::new();
    for bytes in [&b"\x20\x03\x00\x00\x00"[..], b"\x90\x04\x00\x01\x00\x00", b"\xb0\x04\x00\x01\x00\x00", b"\xd0\x00"] {
        let bob = world.connect(v5("bob"));
        world.send_bytes(bob, bytes);
        assert_eq!(world.received(bob), ["DISCONNECT 82"], "{bytes:02x?}");
        assert!(world.is_closed(bob));
    }
    let whys = world
        .events
        .iter()
        .filter(|event| matches!(event, Event::Disconnected { why: Why::PeerError(PeerError::NotFromClient(_)), .. }));
    assert_eq!(whys.count(), 4);
}

#[test]
fn what_a_client_sends_right_behind_connect_is_handled_after_it() {
    let mut world = World::new();
    world.holds_questions = true;
    let bob = world.open();
    let mut bytes = v3("bob").encode();
    bytes.extend_from_slice(b"\xc0\x00");
    world.send_bytes(bob, &bytes);
    assert!(world.is_paused(bob));
    world.answer(damselfly_broker::Answer::allow());
    assert_eq!(world.received_bytes(bob), b"\x20\x02\x00\x00\xd0\x00");
}

#[test]
fn shutting_down_tells_5_0_clients_and_refuses_new_ones() {
    let mut world = World::new();
    let [new, old] = [world.connect(v5("bob")), world.connect(v3("carol"))];
    for client in [new, old] {
        let now = world.now;
        world.at(client.at).shutdown(now);
    }
    world.settle();
    assert_eq!(world.received(new), ["DISCONNECT 8B"]);
    assert!(world.received(old).is_empty());
    assert!(world.is_closed(new) && world.is_closed(old));
    assert!(world.broker.handle_connection(world.now, damselfly_broker::Peer::default()).is_err());
}

#[test]
fn a_session_that_ends_with_very_many_subscriptions_goes_in_steps() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    let names: Vec<String> = (0..10_000).map(|n| format!("t/{n}")).collect();
    for some in names.chunks(500) {
        let filters: Vec<_> = some.iter().map(|name| (name.as_str(), 1)).collect();
        world.subscribe(bob, &filters);
    }
    world.broker.handle_connection_lost(world.now, bob.id);
    assert_eq!(world.sessions_len(), 0, "it is gone for everybody at once");
    assert!(world.session("bob").is_none());
    assert_eq!(world.broker.subscriptions_len(), 10_000 - 4_096);
    let alice = world.connect(v5("alice"));
    world.received(alice);
    assert_eq!(world.broker.poll_timeout(), None, "the rest went while the adapter went on");
    world.publish(alice, "t/9999", "x", 1, 1);
    assert_eq!(world.received(alice), ["PUBACK #1 10"]);
    world.cut(alice);
    world.assert_empty();
}

#[test]
fn a_pubrel_is_sent_again_whatever_waits_for_the_window() {
    // [MQTT-3.3.4-10] [MQTT-4.4.0-1]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(As { receive_maximum: Some(5), ..v5("bob").lasting(10) });
    world.subscribe(bob, &[("a", 2)]);
    world.publish(alice, "a", "one", 1, 1);
    world.publish(alice, "a", "two", 1, 2);
    world.publish(alice, "a", "three", 2, 3);
    world.ack(bob, AckType::Pubrec, 3);
    world.cut(bob);

    let bob = world.begin(As { receive_maximum: Some(1), ..v5("bob").lasting(10) });

    let seen = world.received(bob);
    assert_eq!(seen[1..], ["PUBREL #3", "PUBLISH q1 #1 dup a=one"]);
    world.ack(bob, AckType::Puback, 1);
    assert_eq!(world.received(bob), ["PUBLISH q1 #2 dup a=two"]);
    world.ack(bob, AckType::Puback, 2);
    world.ack(bob, AckType::Pubcomp, 3);
    assert!(world.brokers().all(|broker| broker.messages_len() == 0));
}
