//! Rules that take a few lines each: what CONNECT leads to, what leaves when, and what does not.

use damselfly_broker::Answer;
use damselfly_codec::{AckType, Packet, Property, QoS, ReasonCode};

use super::world::{As, World, delivery, v3, v5};

#[test]
fn a_publish_of_a_client_with_a_subscription_identifier_ends_the_connection() {
    // [MQTT-3.3.4-6]
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    let list = [Property::SubscriptionIdentifier(7_u32.try_into().unwrap())];
    world.publish_with(bob, "a", "1", delivery(0, 1, false), false, &list);
    assert_eq!(world.received(bob), ["DISCONNECT 82"]);
    assert!(world.is_closed(bob));
}

#[test]
fn a_qos_2_exchange_goes_on_although_its_message_expired() {
    // [MQTT-4.3.3-13]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = v5("bob").lasting(1_000);
    let first = world.connect(bob);
    world.subscribe(first, &[("a", 2)]);
    world.cut(first);
    world.publish_with(alice, "a", "1", delivery(2, 9, false), false, &[Property::MessageExpiryInterval(10)]);
    assert_eq!(world.received(alice), ["PUBREC #9"]);

    world.pass_secs(11);
    world.ack(alice, AckType::Pubrel, 9);

    assert_eq!(world.received(alice), ["PUBCOMP #9"]);
    let again = world.connect(bob);
    assert_eq!(world.received(again), [""; 0], "the copy that waited is gone");
}

#[test]
fn an_accepted_connect_is_answered_with_success_and_nothing_else() {
    // [MQTT-3.1.4-5] [MQTT3-3.1.4-4]
    let mut world = World::new();
    let (bob, carol) = (world.begin(v5("bob")), world.begin(v3("carol")));
    let seen = world.received(bob);
    assert!(seen.len() == 1 && seen[0].starts_with("CONNACK 00"), "{seen:?}");
    assert_eq!(world.received(carol), ["CONNACK 00"]);
    for connection in [bob, carol] {
        world.send(connection, Packet::Pingreq);
        // [MQTT-3.12.4-1] [MQTT3-3.12.4-1]
        assert_eq!(world.received(connection), ["PINGRESP"]);
    }
}

#[test]
fn a_connect_that_cannot_be_read_ends_the_connection_and_3_1_1_hears_nothing() {
    // [MQTT-3.1.4-1] [MQTT3-3.1.4-1] [MQTT-3.14.0-1]
    let mut world = World::new();
    // Reserved flag set; will QoS 3; password without its bytes.
    for flags in [0x03, 0x1E, 0x42] {
        for (level, len) in [(4, 0x0D), (5, 0x0E)] {
            let mut bytes = vec![0x10, len];
            bytes.extend_from_slice(b"\x00\x04MQTT");
            bytes.extend_from_slice(&[level, flags, 0, 60]);
            bytes.extend_from_slice(if level == 5 { b"\x00\x00\x01a" } else { b"\x00\x01a" });
            let connection = world.open();
            world.send_bytes(connection, &bytes);
            let seen = world.received_bytes(connection);
            assert!(world.is_closed(connection), "{flags:#x} {level}");
            // 5.0 leaves a CONNACK with a refusal open, never a DISCONNECT.
            assert!(seen.is_empty() || (level == 5 && seen[0] == 0x20 && seen[3] >= 0x80), "{seen:02x?}");
        }
    }
    world.assert_empty();
}

#[test]
fn nothing_behind_a_refused_connect_is_handled() {
    // [MQTT-3.1.4-6] [MQTT3-3.1.4-5] [MQTT-3.14.0-1]
    for client in [v5("mallory"), v3("mallory")] {
        let mut world = World::new();
        let alice = world.connect(v5("alice"));
        world.subscribe(alice, &[("#", 0)]);
        world.holds_questions = true;
        let mallory = world.begin(client);
        world.publish(mallory, "a", "too late", 0, 1);

        world.answer(Answer::Deny(ReasonCode::NotAuthorized));

        assert_eq!(world.received(mallory).len(), 1, "CONNACK and no DISCONNECT");
        assert!(world.is_closed(mallory));
        assert_eq!(world.received(alice), [""; 0]);
    }
}

#[test]
fn a_session_is_found_by_its_client_id_alone() {
    // [MQTT-3.1.3-2] [MQTT3-3.1.3-2] [MQTT-3.1.4-4] [MQTT3-3.1.4-3] [MQTT3-3.2.2-1] [MQTT3-3.1.2-6]
    for client in [v5("bob").lasting(100), v3("bob").lasting(100)] {
        let mut world = World::new();
        let first = world.connect(client);
        world.cut(first);
        let other = world.begin(As { client_id: "bob2", ..client });
        assert!(!world.first(other).contains("present"));
        let again = world.begin(client);
        assert!(world.first(again).contains("present"));
        world.cut(again);
        let clean = world.begin(As { clean_start: true, ..client });
        assert!(!world.first(clean).contains("present"));
    }
}

#[test]
fn client_ids_of_letters_and_digits_are_accepted_up_to_23_and_beyond() {
    // [MQTT-3.1.3-5] [MQTT3-3.1.3-5]
    let mut world = World::new();
    for id in [
        "0",
        "abcdefghijklmnopqrstuvw",
        "xyzABCDEFGHIJKLMNOPQRST",
        "UVWXYZ0123456789",
        "longer-than-twenty-three-bytes",
    ] {
        world.connect(v5(id));
        world.connect(v3(id));
    }
}

#[test]
fn a_filter_is_accepted_at_any_qos_whatever_the_maximum() {
    // [MQTT-3.2.2-9] [MQTT-3.2.2-10]
    let mut world = World::with(|config| config.maximum_qos = QoS::AtMostOnce);
    let bob = world.begin(v5("bob"));
    assert!(world.first(bob).contains("MaximumQoS(AtMostOnce)"));
    world.subscribe(bob, &[("a", 0), ("b", 1), ("c", 2)]);
}

#[test]
fn a_full_window_holds_up_nothing_but_publishes() {
    // [MQTT-3.3.4-10]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(As { receive_maximum: Some(1), ..v5("bob") });
    world.subscribe(bob, &[("a", 1)]);
    world.publish(alice, "a", "1", 1, 1);
    world.publish(alice, "a", "2", 1, 2);
    assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=1"]);

    world.publish(bob, "b", "x", 1, 5);
    world.publish(bob, "b", "y", 2, 6);
    world.ack(bob, AckType::Pubrel, 6);
    world.unsubscribe(bob, &["b"]);

    assert_eq!(world.received(bob), ["PUBACK #5 10", "PUBREC #6 10", "PUBCOMP #6", "UNSUBACK #998 11"]);
}

#[test]
fn a_message_joins_every_session_with_a_matching_subscription() {
    // [MQTT-4.5.0-1] [MQTT3-4.5.0-1]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let sleeper = v3("sleeper").lasting(0);
    let asleep = world.connect(sleeper);
    world.subscribe(asleep, &[("a/#", 1)]);
    world.cut(asleep);
    let awake = world.connect(v5("awake"));
    world.subscribe(awake, &[("+/b", 1)]);

    world.publish(alice, "a/b", "1", 1, 1);

    assert_eq!(world.received(awake), ["PUBLISH q1 #1 a/b=1"]);
    let asleep = world.connect(sleeper);
    assert_eq!(world.received(asleep), ["PUBLISH q1 #1 a/b=1"]);
}

#[test]
fn a_retained_message_of_qos_0_replaces_one_of_qos_1() {
    // [MQTT3-3.3.1-7]
    let mut world = World::new();
    let alice = world.connect(v3("alice"));
    world.publish_with(alice, "a", "old", delivery(1, 1, false), true, &[]);
    world.publish_with(alice, "a", "new", delivery(0, 1, false), true, &[]);
    let bob = world.connect(v3("bob"));
    world.subscribe(bob, &[("a", 1)]);
    assert_eq!(world.received(bob), ["PUBLISH q0 retain a=new"]);
}

#[test]
fn dup_of_the_publisher_is_not_passed_on() {
    // [MQTT-3.3.1-3] [MQTT3-3.3.1-3]
    let mut world = World::new();
    let alice = world.connect(v3("alice"));
    let bob = world.connect(v3("bob"));
    world.subscribe(bob, &[("a", 1)]);
    world.publish_with(alice, "a", "1", delivery(1, 1, true), false, &[]);
    assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=1"]);
}

#[test]
fn without_a_will_nothing_is_published_when_a_connection_ends() {
    // [MQTT3-3.1.2-12]
    let mut world = World::new();
    let alice = world.connect(v3("alice"));
    world.subscribe(alice, &[("#", 2)]);
    let bob = world.connect(v3("bob"));
    world.cut(bob);
    world.pass_secs(1_000);
    assert_eq!(world.received(alice), [""; 0]);
}

#[test]
fn wildcards_are_refused_in_3_1_1_too_where_they_are_switched_off() {
    // [MQTT3-3.8.3-2]
    let mut world = World::with(|config| config.wildcard_subscription_available = false);
    let bob = world.connect(v3("bob"));
    let options = damselfly_codec::SubscriptionOptions::default();
    world.subscribe_with(bob, &[("a/+", options), ("a", options)], &[]);
    assert_eq!(world.received(bob), ["SUBACK #999 80 00"]);
}

#[test]
fn response_information_is_given_to_nobody() {
    // [MQTT-3.1.2-28]
    let mut world = World::new();
    for list in [[Property::RequestResponseInformation(false)], [Property::RequestResponseInformation(true)]] {
        let bob = world.begin(v5("bob").with(&list));
        assert!(!world.first(bob).contains("ResponseInformation"));
    }
}

/// A refusal speaks the version that was asked for, however long the packet is.
#[test]
fn a_long_connect_that_cannot_be_read_is_answered_in_its_version() {
    for (client, answer) in [(v5("x"), &b"\x20\x03\x00\x81\x00"[..]), (v3("x"), b"")] {
        for len in [5, 200, 20_000] {
            let client_id = "x".repeat(len);
            let mut world = World::new();
            let mut connect = As { client_id: &client_id, ..client }.encode();
            // The reserved flag.
            let flags = connect.windows(4).position(|bytes| bytes == b"MQTT").unwrap() + 5;
            connect[flags] |= 1;
            let link = world.open();
            world.send_bytes(link, &connect);
            assert!(world.is_closed(link));
            assert_eq!(world.received_bytes(link), answer, "{len} bytes");
        }
    }
}
