//! What the broker says when it accepts, refuses and ends: which packet, of which size, and what comes behind it.

use std::time::Duration;

use damselfly_broker::{Answer, Config};
use damselfly_codec::{AckType, Auth, Packet, Property, ReasonCode, SubscriptionOptions};

use crate::world::{As, World, properties, qos, v3, v5};

const NOTHING: [&str; 0] = [];
const METHOD: Property<'static> = Property::AuthenticationMethod("M");

/// CONNACK has nothing to say beyond its code.
fn terse(config: &mut Config) {
    config.topic_alias_maximum = 0;
    config.receive_maximum = u16::MAX;
    config.max_packet_size = 268_435_460;
    config.max_topic_levels = 3;
}

/// The largest packet the broker may send.
fn at_most(size: u32) -> Property<'static> {
    Property::MaximumPacketSize(size.try_into().unwrap())
}

#[test]
fn answers_reach_a_client_that_takes_no_byte_more_than_their_codes() {
    // [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3]
    // [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2]
    // [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
    let smallest = [at_most(6)];
    let mut world = World::with(terse);
    let alice = world.connect(v5("alice"));
    let bob = world.begin(v5("bob").with(&smallest));
    assert_eq!(world.received_bytes(bob), b"\x20\x03\x00\x00\x00");
    world.publish(bob, "a/b/c/d", "x", 1, 1);
    world.publish(bob, "a/b/c/d", "x", 2, 2);
    world.publish(bob, "a", "x", 2, 3);
    world.ack(bob, AckType::Pubrel, 3);
    world.ack(bob, AckType::Pubrel, 4);
    world.ack(bob, AckType::Pubrec, 5);
    world.subscribe_with(bob, &[("a/b/c/d", SubscriptionOptions::default())], &[]);
    world.unsubscribe(bob, &["none"]);
    let answers: [&[u8]; 8] = [
        b"\x40\x03\x00\x01\x90",
        b"\x50\x03\x00\x02\x90",
        b"\x50\x03\x00\x03\x10",
        b"\x70\x02\x00\x03",
        b"\x70\x03\x00\x04\x92",
        b"\x62\x03\x00\x05\x92",
        b"\x90\x04\x03\xe7\x00\x8f",
        b"\xb0\x04\x03\xe6\x00\x11",
    ];
    assert!(answers.iter().all(|answer| answer.len() <= 6));
    assert_eq!(world.received_bytes(bob), answers.concat());
    world.send_bytes(bob, b"\xd0\x00");
    assert_eq!(world.received_bytes(bob), b"\xe0\x01\x82");

    world.holds_questions = true;
    let carol = world.begin(v5("carol").with(&smallest));
    world.answer(Answer::Deny(ReasonCode::Banned));
    assert_eq!(world.received_bytes(carol), b"\x20\x03\x00\x8a\x00");
    assert_eq!(world.received(alice), NOTHING);
}

#[test]
fn auth_reaches_a_client_that_takes_no_byte_more_than_its_method() {
    // [MQTT-3.15.2-2] [MQTT-3.15.2-3]
    let mut world = World::with(terse);
    world.holds_questions = true;
    let list = [at_most(9), METHOD];
    let bob = world.begin(v5("bob").with(&list));
    world.answer(Answer::Continue(None));
    assert_eq!(world.received_bytes(bob), b"\xf0\x06\x18\x04\x15\x00\x01M");
    let step = properties(&[METHOD]);
    let auth = |reason_code| Packet::Auth(Auth { reason_code, properties: step.as_properties() });
    world.send(bob, auth(ReasonCode::ContinueAuthentication));
    world.answer(Answer::allow());
    assert_eq!(world.received_bytes(bob), b"\x20\x07\x00\x00\x04\x15\x00\x01M");
    world.send(bob, auth(ReasonCode::ReAuthenticate));
    world.answer(Answer::allow());
    assert_eq!(world.received_bytes(bob), b"\xf0\x06\x00\x04\x15\x00\x01M");
}

#[test]
fn a_client_that_wants_no_problem_information_gets_codes_alone() {
    // [MQTT-3.1.2-29]
    let mut world = World::with(terse);
    let list = [Property::RequestProblemInformation(false)];
    let bob = world.connect(v5("bob").with(&list));
    world.publish(bob, "a/b/c/d", "x", 1, 1);
    world.publish(bob, "a/b/c/d", "x", 2, 2);
    world.ack(bob, AckType::Pubrel, 4);
    world.ack(bob, AckType::Pubrec, 5);
    world.subscribe_with(bob, &[("a/b/c/d", SubscriptionOptions::default())], &[]);
    world.unsubscribe(bob, &["none"]);
    let mut expected = b"\x40\x03\x00\x01\x90\x50\x03\x00\x02\x90\x70\x03\x00\x04\x92\x62\x03\x00\x05\x92".to_vec();
    expected.extend_from_slice(b"\x90\x04\x03\xe7\x00\x8f\xb0\x04\x03\xe6\x00\x11");
    assert_eq!(world.received_bytes(bob), expected);
}

#[test]
fn a_client_id_that_is_refused_is_answered_and_the_connection_ends() {
    // [MQTT3-3.1.3-9] [MQTT-3.1.3-8]
    for (client, told) in [(v3("bob"), "CONNACK 02"), (v5("bob"), "CONNACK 85")] {
        let mut world = World::new();
        world.holds_questions = true;
        let bob = world.begin(client);
        world.answer(Answer::Deny(ReasonCode::ClientIdentifierNotValid));
        assert_eq!(world.received(bob), [told]);
        assert!(world.is_closed(bob));
    }
}

#[test]
fn a_refusal_that_3_1_1_has_no_code_for_is_said_by_closing() {
    // [MQTT3-3.2.2-6]
    let mut world = World::with(|config| {
        config.maximum_qos = qos(1);
        config.retain_available = false;
    });
    for (qos, retain) in [(2, false), (1, true)] {
        let bob = world.begin(As { will: Some(("w", "gone", qos, retain, 0)), ..v3("bob") });
        assert_eq!(world.received(bob), NOTHING, "QoS {qos}, retain {retain}");
        assert!(world.is_closed(bob));
    }
    world.assert_empty();
}

#[test]
fn another_protocol_is_not_served() {
    // [MQTT-3.1.2-1] [MQTT3-3.1.2-1]
    for bytes in
        [&b"\x10\x0d\x00\x04MQTX\x04\x02\x00\x3c\x00\x01b"[..], b"\x10\x0e\x00\x04mqtt\x05\x02\x00\x3c\x00\x00\x01b"]
    {
        let mut world = World::new();
        let bob = world.open();
        world.send_bytes(bob, bytes);
        assert!(world.is_closed(bob), "{bytes:02x?}");
        let told = world.received_bytes(bob);
        assert!(told.is_empty() || told == b"\x20\x03\x00\x84\x00" || told == b"\x20\x02\x00\x01", "{told:02x?}");
        world.assert_empty();
    }
}

#[test]
fn an_authentication_that_fails_ends_the_connection_with_its_code() {
    // [MQTT-4.12.0-1] [MQTT-4.12.0-4] [MQTT-4.13.2-1]
    for is_first in [true, false] {
        for code in [ReasonCode::BadAuthenticationMethod, ReasonCode::NotAuthorized] {
            let mut world = World::new();
            world.holds_questions = true;
            let list = [METHOD];
            let bob = world.begin(v5("bob").with(&list));
            if !is_first {
                world.answer(Answer::Continue(None));
                world.received(bob);
                let step = properties(&[METHOD]);
                let reason_code = ReasonCode::ContinueAuthentication;
                world.send(bob, Packet::Auth(Auth { reason_code, properties: step.as_properties() }));
            }
            world.answer(Answer::Deny(code));
            assert_eq!(world.received(bob), [format!("CONNACK {:02X}", code.code())]);
            assert!(world.is_closed(bob));
            world.assert_empty();
        }
    }
}

#[test]
fn what_breaks_the_rules_ends_its_connection_and_no_other() {
    // [MQTT-4.13.1-1] [MQTT3-4.8.0-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-3.14.2-2]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    // Sent by servers only, reserved flags, and a QoS that does not exist; a PINGREQ behind each.
    for (bytes, code) in [(&b"\xd0\x00\xc0\x00"[..], "82"), (b"\xc1\x00\xc0\x00", "81"), (b"\x36\x00\xc0\x00", "81")] {
        for client in [v5("bob").lasting(100), v3("bob").lasting(0)] {
            let bob = world.connect(client);
            world.subscribe(bob, &[("a", 0)]);
            world.send_bytes(bob, bytes);
            world.publish(alice, "a", "late", 0, 0);
            let told = if world.speaks_v5(bob) { vec![format!("DISCONNECT {code}")] } else { vec![] };
            assert_eq!(world.received(bob), told, "and nothing behind it: {bytes:02x?}");
            assert!(world.is_closed(bob));
        }
    }
    world.send(alice, Packet::Pingreq);
    assert_eq!(world.received(alice), ["PINGRESP"]);
}

#[test]
fn a_disconnect_of_either_side_is_the_last_word() {
    // [MQTT-4.13.2-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2]
    for code in [ReasonCode::Success, ReasonCode::UnspecifiedError, ReasonCode::MalformedPacket] {
        let mut world = World::new();
        let bob = world.connect(v5("bob"));
        world.disconnect(bob, code, &[]);
        assert!(world.is_closed(bob));
        assert_eq!(world.received(bob), NOTHING, "it is not answered");
    }
}

#[test]
fn a_connection_has_one_connack() {
    // [MQTT-3.2.0-2]
    let mut world = World::new();
    let bob = world.begin(v5("bob"));
    assert!(world.first(bob).starts_with("CONNACK 00"));
    world.send_bytes(bob, &v5("bob").encode());
    assert_eq!(world.received(bob), ["DISCONNECT 82"], "a second CONNECT has none");

    let list = [METHOD];
    let carol = world.begin(v5("carol").with(&list));
    assert!(world.first(carol).starts_with("CONNACK 00"));
    let step = properties(&[METHOD]);
    world.send(carol, Packet::Auth(Auth { reason_code: ReasonCode::ReAuthenticate, properties: step.as_properties() }));
    assert_eq!(world.received(carol), [r#"AUTH 00 {AuthenticationMethod("M")}"#], "nor has another authentication");
}

#[test]
fn session_state_is_kept_for_as_long_as_its_connection_is_open() {
    // [MQTT-4.1.0-1] [MQTT3-4.1.0-1] [MQTT3-4.1.0-2] [MQTT3-3.1.2-6]
    for (client, is_gone) in
        [(v5("bob"), true), (v5("bob").lasting(1), true), (v3("bob"), true), (v3("bob").lasting(0), false)]
    {
        let mut world = World::new();
        let bob = world.connect(client);
        world.subscribe(bob, &[("a", 2)]);
        world.pass(Duration::from_secs(100 * 365 * 86_400));
        let alice = world.connect(v5("alice"));
        world.publish(alice, "a", "x", 1, 1);
        assert_eq!(world.received(bob), ["PUBLISH q1 #1 a=x"], "{:?}", client.version);
        world.cut(bob);
        world.pass_secs(1);
        let again = world.begin(As { clean_start: false, ..client });
        let seen = world.received(again);
        let expected = if is_gone { 1 } else { 2 };
        assert_eq!(seen.len(), expected, "CONNACK, and what the session remembers: {seen:?}");
    }
}
