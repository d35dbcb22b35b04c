//! What ends a connection from our side, and what a client is told: situation by situation.

use damselfly_broker::{Answer, Event, Grant, ProblemInformation, Why};
use damselfly_codec::{Auth, Packet, PacketType, Property, ReasonCode, SubscriptionOptions, TopicAlias};

use crate::world::{As, Client, World, delivery, properties, qos, v3, v5};

/// Brings a connected client into a situation that ends its connection.
type Situation = fn(&mut World, Client);

const METHOD: Property<'static> = Property::AuthenticationMethod("M");

/// Small odd limits, one for each row that needs one.
fn world() -> World {
    let mut world = World::with(|config| {
        config.receive_maximum = 3;
        config.max_packet_size = 127;
        config.topic_alias_maximum = 5;
        config.max_alias_bytes = 100;
        config.maximum_qos = qos(1);
        config.retain_available = false;
    });
    world.holds_questions = true;
    world
}

fn alias(number: u16) -> [Property<'static>; 1] {
    [Property::TopicAlias(TopicAlias::new(number).unwrap())]
}

fn reauthenticate(world: &mut World, client: Client, reason_code: ReasonCode) {
    let step = properties(&[METHOD]);
    world.send(client, Packet::Auth(Auth { reason_code, properties: step.as_properties() }));
}

/// What both versions know.
const SITUATIONS: [(&str, &str, Situation); 12] = [
    ("a packet with reserved flags", "81", |world, bob| world.send_bytes(bob, b"\xc1\x00")),
    ("a packet that only a server sends", "82", |world, bob| world.send_bytes(bob, b"\xd0\x00")),
    ("a second CONNECT", "82", |world, bob| {
        let client = if world.speaks_v5(bob) { v5("bob") } else { v3("bob") };
        world.send_bytes(bob, &client.encode());
    }),
    ("a CONNECT with its Client Identifier elsewhere", "8E", |world, _| {
        let again = world.begin(v5("bob").lasting(9));
        world.answer(Answer::allow());
        assert!(!world.is_closed(again));
    }),
    ("silence of one and a half keep alive periods", "8D", |world, bob| {
        world.pass_secs(89);
        assert!(!world.is_closed(bob));
        world.pass_secs(1);
    }),
    ("a packet above the maximum size", "95", |world, bob| world.send_bytes(bob, b"\x30\x7e")),
    ("a message with RETAIN", "9A", |world, bob| {
        world.publish_with(bob, "a", "x", delivery(1, 1, false), true, &[]);
    }),
    ("a message above the maximum QoS", "9B", |world, bob| world.publish(bob, "a", "x", 2, 1)),
    ("the end of the broker", "8B", |world, _| world.broker.shutdown(world.now)),
    ("a session removed by command", "98", |world, _| assert!(world.broker.remove_session(world.now, "bob"))),
    ("a redirect for now", "9C", |world, bob| {
        world.broker.redirect(world.now, bob.id, false, "\0", &ProblemInformation::new());
    }),
    ("a redirect for good", "9D", |world, bob| {
        world.broker.redirect(world.now, bob.id, true, "\0", &ProblemInformation::new());
    }),
];

/// What only 5.0 has.
const SITUATIONS_OF_5_0: [(&str, &str, Situation); 9] = [
    ("one message more than the receive maximum", "93", |world, bob| {
        world.holds_commits = true;
        for id in 1..=4 {
            assert!(!world.is_closed(bob), "{id}");
            world.publish(bob, "a", "x", 1, id);
        }
    }),
    ("a topic alias above the maximum", "94", |world, bob| {
        world.publish_with(bob, "a", "x", delivery(0, 1, false), false, &alias(5));
        assert!(!world.is_closed(bob));
        world.publish_with(bob, "a", "x", delivery(0, 1, false), false, &alias(6));
    }),
    ("a topic alias that was never set", "82", |world, bob| {
        world.publish_with(bob, "", "x", delivery(0, 1, false), false, &alias(1));
    }),
    ("topic aliases for too many bytes", "97", |world, bob| {
        world.publish_with(bob, &"a".repeat(101), "x", delivery(0, 1, false), false, &alias(1));
    }),
    ("an answer above the client's maximum size", "95", |world, bob| {
        world.subscribe_with(bob, &[("a", SubscriptionOptions::default()); 60], &[]);
    }),
    ("a session expiry raised from zero", "82", |world, bob| {
        world.disconnect(bob, ReasonCode::Success, &[Property::SessionExpiryInterval(1)]);
    }),
    ("a step of an authentication that nobody began", "82", |world, bob| {
        reauthenticate(world, bob, ReasonCode::ContinueAuthentication);
    }),
    ("a re-authentication that fails", "87", |world, bob| {
        reauthenticate(world, bob, ReasonCode::ReAuthenticate);
        world.answer(Answer::Deny(ReasonCode::NotAuthorized));
    }),
    ("a re-authentication as somebody else", "87", |world, bob| {
        reauthenticate(world, bob, ReasonCode::ReAuthenticate);
        let mut grant = Grant::default();
        grant.principal = Some("eve".into());
        world.answer(Answer::Allow(grant));
    }),
];

/// Has a client with a will come into a situation: what it and a watcher are told last.
fn come_into(client: As<'_>, situation: Situation) -> (Vec<String>, World) {
    let mut world = world();
    let watcher = world.begin(v5("watcher"));
    world.answer(Answer::allow());
    world.first(watcher);
    world.subscribe(watcher, &[("w", 0)]);
    let bob = world.begin(As { keep_alive: 60, will: Some(("w", "gone", 0, false, 0)), ..client });
    world.answer(Answer::allow());
    world.first(bob);
    situation(&mut world, bob);
    world.settle();
    assert!(world.is_closed(bob));
    if !world.is_closed(watcher) {
        assert_eq!(world.received(watcher), ["PUBLISH q0 w=gone"]);
    }
    let told = world.received(bob);
    (told.into_iter().filter(|line| !line.starts_with("PUBACK")).collect(), world)
}

#[test]
fn each_situation_that_ends_a_connection_has_its_reason() {
    // [MQTT-4.13.1-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-3.1.4-3] [MQTT-3.1.2-22] [MQTT-3.1.2-10]
    let list = [METHOD, Property::MaximumPacketSize(50.try_into().unwrap())];
    for (name, code, situation) in SITUATIONS.into_iter().chain(SITUATIONS_OF_5_0) {
        let (told, world) = come_into(v5("bob").with(&list), situation);
        assert_eq!(told, [format!("DISCONNECT {code}")], "{name}");
        let ended = world.events.iter().find_map(|event| match event {
            Event::Disconnected { client_id: Some(client_id), why, .. } if &**client_id == "bob" => Some(*why),
            _ => None,
        });
        let reason_code = match ended.unwrap() {
            Why::ByBroker(reason_code) => reason_code,
            Why::PeerError(error) => error.reason_code(),
            Why::Malformed(error) => error.reason_code(),
            why => panic!("{name}: {why}"),
        };
        assert_eq!(format!("{:02X}", reason_code.code()), code, "{name}: the program hears the same");
    }
}

#[test]
fn each_situation_ends_a_connection_of_3_1_1_without_a_word() {
    // [MQTT3-4.8.0-1] [MQTT3-3.1.4-2] [MQTT3-3.1.2-24]
    for (name, _, situation) in SITUATIONS {
        let (told, _) = come_into(v3("bob"), situation);
        assert!(told.is_empty(), "{name}: {told:?}");
    }
}

#[test]
fn a_command_says_every_reason_that_disconnect_has_and_no_other() {
    // [MQTT-4.13.2-1] [MQTT-3.14.2-2]
    let mut said = 0;
    for code in (0..=u8::MAX).filter_map(|code| ReasonCode::try_from(code).ok()) {
        let mut world = World::new();
        let bob = world.connect(v5("bob"));
        world.received(bob);
        world.broker.disconnect(world.now, bob.id, code);
        world.settle();
        let told = if code.is_allowed_in(PacketType::Disconnect) {
            said += 1;
            vec![format!("DISCONNECT {:02X}", code.code())]
        } else {
            vec![]
        };
        assert_eq!(world.received(bob), told, "{code}");
        assert!(world.is_closed(bob));
    }
    assert!(said >= 28, "{said}");
}
