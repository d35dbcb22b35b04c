//! What the broker says beyond its codes: Reason Strings, User Properties, Server References.

use std::sync::Arc;

use damselfly_broker::{Access, Answer, Config, Event, Grant, Permission, ProblemInformation, Why};
use damselfly_codec::{Auth, Packet, Property, ReasonCode, SubscriptionOptions};

use crate::world::{As, Client, World, properties, v3, v5};

const NOTHING: [&str; 0] = [];
const METHOD: Property<'static> = Property::AuthenticationMethod("M");
const QUIET: Property<'static> = Property::RequestProblemInformation(false);

fn why() -> ProblemInformation {
    ProblemInformation::new().reason_string("why").unwrap().user_property("k", "v").unwrap()
}

/// As it shows behind a packet.
const WHY: &str = r#"{ReasonString("why"), UserProperty("k", "v")}"#;

/// Has the broker say more in one packet; how that packet begins.
type Tell = fn(&mut World, Client) -> &'static str;

fn at_most(size: u32) -> Property<'static> {
    Property::MaximumPacketSize(size.try_into().unwrap())
}

/// CONNACK has nothing to say beyond its code.
fn terse(config: &mut Config) {
    config.topic_alias_maximum = 0;
    config.receive_maximum = u16::MAX;
    config.max_packet_size = 268_435_460;
    config.reason_strings = false;
}

fn asks_everything() -> Answer {
    let mut grant = Grant::default();
    grant.access = Some(Arc::new(Access::new(Permission::Ask)));
    Answer::Allow(grant)
}

/// A client that is asked about whatever it publishes and subscribes.
fn bob(client: As<'_>) -> (World, Client) {
    let mut world = World::with(terse);
    world.holds_questions = true;
    let bob = world.begin(client);
    world.answer(asks_everything());
    assert!(world.first(bob).starts_with("CONNACK 00"));
    (world, bob)
}

fn reauthenticate(world: &mut World, client: Client) {
    let step = properties(&[METHOD]);
    let auth = Auth { reason_code: ReasonCode::ReAuthenticate, properties: step.as_properties() };
    world.send(client, Packet::Auth(auth));
}

#[test]
fn an_embedder_says_more_in_every_packet_that_answers() {
    // [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.15.2-2] [MQTT-3.15.2-3]
    let mut world = World::with(terse);
    world.holds_questions = true;
    for (answer, code) in [(Answer::allow(), "00"), (Answer::Deny(ReasonCode::Banned), "8A")] {
        let bob = world.begin(v5("bob"));
        world.answer_with(answer, why());
        assert_eq!(world.received(bob), [format!("CONNACK {code} {WHY}")]);
    }
    let list = [METHOD];
    let bob = world.begin(v5("bob").with(&list));
    world.answer_with(Answer::Continue(None), why());
    let with_method = r#"{AuthenticationMethod("M"), ReasonString("why"), UserProperty("k", "v")}"#;
    assert_eq!(world.received(bob), [format!("AUTH 18 {with_method}")]);
    let step = properties(&list);
    let auth = Auth { reason_code: ReasonCode::ContinueAuthentication, properties: step.as_properties() };
    world.send(bob, Packet::Auth(auth));
    world.answer_with(asks_everything(), why());
    assert_eq!(world.received(bob), [format!("CONNACK 00 {with_method}")]);
    reauthenticate(&mut world, bob);
    world.answer_with(asks_everything(), why());
    assert_eq!(world.received(bob), [format!("AUTH 00 {with_method}")]);

    world.publish(bob, "a", "x", 1, 1);
    world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
    world.publish(bob, "a", "x", 2, 2);
    world.answer_with(Answer::Deny(ReasonCode::QuotaExceeded), why());
    world.publish(bob, "a", "x", 1, 3);
    world.answer_with(Answer::allow(), why());
    world.publish(bob, "a", "x", 2, 4);
    world.answer_with(Answer::allow(), why());
    let acks = ["PUBACK #1 87", "PUBREC #2 97", "PUBACK #3 10", "PUBREC #4 10"].map(|ack| format!("{ack} {WHY}"));
    assert_eq!(world.received(bob), acks);

    reauthenticate(&mut world, bob);
    world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
    assert_eq!(world.received(bob), [format!("DISCONNECT 87 {WHY}")]);
    assert!(world.is_closed(bob));
}

#[test]
fn a_suback_has_the_first_reason_and_the_user_properties_of_all_its_filters() {
    // [MQTT-3.9.2-1] [MQTT-3.9.2-2]
    let (mut world, bob) = bob(v5("bob"));
    world.subscribe_with(bob, &["a", "b", "c"].map(|filter| (filter, SubscriptionOptions::default())), &[]);
    world.answer(Answer::allow());
    world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
    assert_eq!(world.received(bob), NOTHING, "not before the last");
    let other = ProblemInformation::new().reason_string("late").unwrap().user_property("l", "w").unwrap();
    world.answer_with(Answer::allow(), other);
    let told = r#"{ReasonString("why"), UserProperty("k", "v"), UserProperty("l", "w")}"#;
    assert_eq!(world.received(bob), [format!("SUBACK #999 00 87 00 {told}")]);
}

#[test]
fn what_is_said_beside_a_code_never_makes_a_packet_too_large() {
    // [MQTT-3.1.2-24] [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3]
    // [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
    // A Reason String of 6 bytes and a User Property of 7.
    let without_reason = r#" {UserProperty("k", "v")}"#;
    let all = format!(" {WHY}");
    let packets: [(u32, Tell); 4] = [
        (5, |world, bob| {
            world.publish(bob, "a", "x", 1, 1);
            world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
            "PUBACK #1 87"
        }),
        (5, |world, bob| {
            world.publish(bob, "a", "x", 2, 2);
            world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
            "PUBREC #2 87"
        }),
        (6, |world, bob| {
            world.subscribe_with(bob, &[("a", SubscriptionOptions::default())], &[]);
            world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
            "SUBACK #999 87"
        }),
        (3, |world, bob| {
            world.broker.disconnect_with(world.now, bob.id, ReasonCode::AdministrativeAction, &why());
            world.settle();
            "DISCONNECT 98"
        }),
    ];
    for (bare, tell) in packets {
        // Without properties PUBACK, PUBREC and DISCONNECT have no byte for their length.
        let length = u32::from(bare != 6);
        for (size, more) in [(13, &*all), (12, without_reason), (7, without_reason), (6, "")] {
            let list = [at_most((bare + size + length).max(6))];
            let (mut world, bob) = bob(v5("bob").with(&list));
            let packet = tell(&mut world, bob);
            assert_eq!(world.received(bob), [format!("{packet}{more}")], "{size} bytes beside {bare}");
        }
    }
    for (size, more) in [(18, &*all), (17, without_reason), (12, without_reason), (11, "")] {
        let mut world = World::with(terse);
        world.holds_questions = true;
        let list = [at_most(size)];
        let carol = world.begin(v5("carol").with(&list));
        world.answer_with(Answer::allow(), why());
        assert_eq!(world.received(carol), [format!("CONNACK 00{more}")], "{size} bytes");
    }
}

#[test]
fn a_client_that_wants_no_problem_information_and_one_of_3_1_1_get_none() {
    // [MQTT-3.1.2-29]
    let list = [QUIET, METHOD];
    let (mut world, bob) = bob(v5("bob").with(&list));
    world.publish(bob, "a", "x", 1, 1);
    world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
    world.publish(bob, "a", "x", 2, 2);
    world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
    world.subscribe_with(bob, &[("a", SubscriptionOptions::default())], &[]);
    world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
    reauthenticate(&mut world, bob);
    world.answer_with(asks_everything(), why());
    world.broker.disconnect_with(world.now, bob.id, ReasonCode::AdministrativeAction, &why());
    world.settle();
    let told = ["PUBACK #1 87", "PUBREC #2 87", "SUBACK #999 87", r#"AUTH 00 {AuthenticationMethod("M")}"#];
    assert_eq!(world.received(bob), [&told[..], &["DISCONNECT 98"]].concat());
    let refused = world.begin(v5("carol").with(&list));
    world.answer_with(Answer::Deny(ReasonCode::Banned), why());
    assert_eq!(world.received(refused), ["CONNACK 8A"]);

    let (mut world, dave) = self::bob(v3("dave"));
    world.publish(dave, "a", "x", 1, 1);
    world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
    world.subscribe_with(dave, &[("a", SubscriptionOptions::default())], &[]);
    world.answer_with(Answer::Deny(ReasonCode::NotAuthorized), why());
    assert_eq!(world.received(dave), ["PUBACK #1", "SUBACK #999 80"]);
    world.broker.disconnect_with(world.now, dave.id, ReasonCode::AdministrativeAction, &why());
    world.settle();
    assert!(world.received_bytes(dave).is_empty() && world.is_closed(dave));
}

#[test]
fn a_broken_rule_is_told_in_words_unless_the_client_or_the_configuration_wants_none() {
    // [MQTT-4.13.1-1] [MQTT-3.14.2-3] [MQTT-3.1.2-29]
    let told = r#"DISCONNECT 82 {ReasonString("a client must not send PINGRESP")}"#;
    let quiet = [QUIET];
    // The words take 34 bytes behind a DISCONNECT of 4.
    for (is_on, list, expected) in [
        (true, &[][..], told),
        (true, &[at_most(38)], told),
        (true, &[at_most(37)], "DISCONNECT 82"),
        (true, &quiet, "DISCONNECT 82"),
        (false, &[], "DISCONNECT 82"),
    ] {
        let mut world = World::with(|config| {
            terse(config);
            config.reason_strings = is_on;
        });
        let bob = world.connect(v5("bob").with(list));
        world.send_bytes(bob, b"\xd0\x00");
        assert_eq!(world.received(bob), [expected], "{list:?}");
    }
    let mut world = World::with(|config| config.reason_strings = true);
    let bob = world.connect(v5("bob"));
    world.send_bytes(bob, b"\x36\x00");
    assert_eq!(
        world.received(bob),
        [r#"DISCONNECT 81 {ReasonString("a PUBLISH has both QoS bits set at byte 0 [MQTT-3.3.1-4]")}"#]
    );
    let carol = world.open();
    world.send_bytes(carol, b"\x10\x0e\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01c");
    let told = r#"CONNACK 81 {ReasonString("the reserved connect flag is set at byte 9 [MQTT-3.1.2-3]")}"#;
    assert_eq!(world.received(carol), [told]);
    let dave = world.connect(v3("dave"));
    world.send_bytes(dave, b"\x36\x00");
    assert!(world.received_bytes(dave).is_empty(), "3.1.1 has no DISCONNECT from a server");
}

#[test]
fn an_accepted_client_is_sent_elsewhere_by_command() {
    // [MQTT-4.13.2-1]
    for (permanent, code) in [(false, "9C"), (true, "9D")] {
        let mut world = World::with(terse);
        let will = Some(("w", "gone", 0, false, 0));
        let alice = world.connect(v5("alice"));
        world.subscribe(alice, &[("w", 0)]);
        let bob = world.connect(As { will, ..v5("bob").lasting(100) });
        world.broker.redirect(world.now, bob.id, permanent, "other:1883", &why());
        world.settle();
        let told = r#"{ServerReference("other:1883"), ReasonString("why"), UserProperty("k", "v")}"#;
        assert_eq!(world.received(bob), [format!("DISCONNECT {code} {told}")]);
        assert!(world.is_closed(bob));
        assert_eq!(world.received(alice), ["PUBLISH q0 w=gone"]);
        let again = world.begin(v5("bob").lasting(100));
        assert_eq!(world.received(again), ["CONNACK 00 present"], "its session stayed");

        let dave = world.connect(v3("dave"));
        world.broker.redirect(world.now, dave.id, permanent, "other:1883", &why());
        world.settle();
        assert!(world.received_bytes(dave).is_empty() && world.is_closed(dave));
        let reason_code = if permanent { ReasonCode::ServerMoved } else { ReasonCode::UseAnotherServer };
        let is_told =
            |event: &Event| matches!(event, Event::Disconnected { why, .. } if *why == Why::ByBroker(reason_code));
        assert_eq!(world.events.iter().filter(|event| is_told(event)).count(), 2);
    }
}

#[test]
fn a_redirect_says_what_its_stage_and_the_clients_packet_size_allow() {
    // [MQTT-3.1.2-24] [MQTT-3.2.0-1]
    let reference = "a:1";
    // DISCONNECT and CONNACK with the reference have 10 and 11 bytes.
    for (size, told) in [(10, r#"DISCONNECT 9C {ServerReference("a:1")}"#), (9, "DISCONNECT 9C")] {
        let mut world = World::with(terse);
        let list = [at_most(size)];
        let bob = world.connect(v5("bob").with(&list));
        world.broker.redirect(world.now, bob.id, false, reference, &why());
        world.settle();
        assert_eq!(world.received(bob), [told]);
    }
    for (size, told) in [(11, r#"CONNACK 9C {ServerReference("a:1")}"#), (10, "CONNACK 9C")] {
        let mut world = World::with(terse);
        world.holds_questions = true;
        let list = [at_most(size)];
        let bob = world.begin(v5("bob").with(&list));
        world.broker.redirect(world.now, bob.id, false, reference, &ProblemInformation::new());
        world.settle();
        assert_eq!(world.received(bob), [told], "while its question is open");
        assert!(world.is_closed(bob) && world.broker.questions_len() == 0);
    }
    let mut world = World::with(terse);
    world.holds_questions = true;
    let dave = world.begin(v3("dave"));
    let silent = world.open();
    for client in [dave, silent] {
        world.broker.redirect(world.now, client.id, true, reference, &why());
    }
    world.settle();
    assert_eq!(world.received(dave), ["CONNACK 03"]);
    assert!(world.received_bytes(silent).is_empty() && world.is_closed(silent), "nothing before CONNECT");

    world.questions.clear();
    let bob = world.begin(v5("bob"));
    world.answer(Answer::Redirect { permanent: true, server_reference: "\0".into() });
    assert_eq!(world.received(bob), ["CONNACK 9D"], "no string has U+0000");
    world.assert_empty();
}

#[test]
fn a_re_authentication_may_send_a_client_elsewhere() {
    // [MQTT-4.12.1-2]
    let list = [METHOD];
    let (mut world, bob) = bob(v5("bob").with(&list));
    reauthenticate(&mut world, bob);
    world.answer(Answer::Redirect { permanent: false, server_reference: "a:1".into() });
    assert_eq!(world.received(bob), [r#"DISCONNECT 9C {ServerReference("a:1")}"#]);
    assert!(world.is_closed(bob));
}

#[test]
fn there_is_something_to_say_with_a_reason_alone_and_with_a_user_property_alone() {
    let nothing = ProblemInformation::new;
    assert!(nothing().is_empty());
    assert!(!nothing().reason_string("x").unwrap().is_empty());
    assert!(!nothing().user_property("a", "b").unwrap().is_empty());
}
