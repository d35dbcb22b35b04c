//! What may be said to a client, and when: sizes, codes, stages.

use std::{sync::Arc, time::Duration};

use damselfly_broker::{Access, Action, Answer, DropReason, Grant, Permission};
use damselfly_codec::{AckType, Auth, Packet, Property, ReasonCode, SubscriptionOptions};

use crate::world::{As, Client, World, delivery, properties, v3, v5};

const METHOD: Property<'static> = Property::AuthenticationMethod("SCRAM");

fn auth(world: &mut World, client: Client, reason_code: ReasonCode) {
    let list = properties(&[METHOD]);
    world.send(client, Packet::Auth(Auth { reason_code, properties: list.as_properties() }));
}

fn with_access(access: Access) -> Answer {
    let mut grant = Grant::default();
    grant.access = Some(Arc::new(access));
    Answer::Allow(grant)
}

#[test]
fn no_answer_is_larger_than_the_client_takes() {
    // [MQTT-3.1.2-24]
    let small = [Property::MaximumPacketSize(30.try_into().unwrap()), METHOD];
    let mut world = World::new();
    let bob = world.connect(v5("bob").with(&small));
    let filters = vec![("a", SubscriptionOptions::default()); 25];
    world.subscribe_with(bob, &filters, &[]);
    assert_eq!(world.first(bob).len(), "SUBACK #999".len() + 25 * 3, "30 bytes");
    let filters = vec![("a", SubscriptionOptions::default()); 26];
    world.subscribe_with(bob, &filters, &[]);
    assert_eq!(world.received(bob), ["DISCONNECT 95"], "SUBACK would have 31 bytes");

    let bob = world.connect(v5("bob").with(&small));
    world.unsubscribe(bob, &["a"; 26]);
    assert_eq!(world.received(bob), ["DISCONNECT 95"], "UNSUBACK too");

    world.holds_questions = true;
    let long = || Answer::Continue(Some(vec![0; 30].into()));
    let carol = world.begin(v5("carol").with(&small));
    world.answer(long());
    assert_eq!(world.received(carol), ["CONNACK 95"], "AUTH does not fit");
    assert!(world.is_closed(carol));
    let carol = world.begin(v5("carol").with(&small));
    world.answer(Answer::allow());
    world.first(carol);
    auth(&mut world, carol, ReasonCode::ReAuthenticate);
    world.answer(long());
    assert_eq!(world.received(carol), ["DISCONNECT 95"]);

    let dave = world.begin(v5("dave").with(&small));
    let elsewhere = "a-very-long-name-of-another-server:1883".into();
    world.answer(Answer::Redirect { permanent: false, server_reference: elsewhere });
    assert_eq!(world.received(dave), ["CONNACK 9C"], "the code at least");
}

#[test]
fn a_handshake_whose_next_auth_never_comes_ends() {
    let mut world = World::with(|config| {
        config.connect_timeout = Duration::from_secs(5);
        config.question_timeout = Duration::from_secs(10);
    });
    world.holds_questions = true;
    let slow = world.begin(v5("slow").with(&[METHOD]));
    world.pass_secs(7);
    assert!(!world.is_closed(slow), "the embedding program takes its time, not the client");
    world.answer(Answer::Continue(None));
    world.received(slow);
    world.pass(Duration::from_micros(4_999_999));
    assert!(!world.is_closed(slow));
    world.pass(Duration::from_micros(1));
    assert_eq!(world.received(slow), ["CONNACK 87"]);
    assert!(world.is_closed(slow));
    world.assert_empty();
}

#[test]
fn disconnect_ends_a_handshake_with_or_without_an_expiry() {
    for list in [&[][..], &[Property::SessionExpiryInterval(5)]] {
        let mut world = World::new();
        world.holds_questions = true;
        let bob = world.begin(v5("bob").lasting(9).with(&[METHOD]));
        world.answer(Answer::Continue(None));
        world.disconnect(bob, ReasonCode::Success, list);
        assert!(world.is_closed(bob), "{list:?}");
        world.assert_empty();
    }
}

#[test]
fn auth_out_of_turn_is_a_protocol_error() {
    // [MQTT-4.12.1-1]
    let mut world = World::new();
    let bob = world.connect(v5("bob").with(&[METHOD]));
    auth(&mut world, bob, ReasonCode::ContinueAuthentication);
    assert_eq!(world.received(bob), ["DISCONNECT 82"], "nothing to continue");

    let bob = world.connect(v5("bob").with(&[METHOD]));
    world.holds_questions = true;
    auth(&mut world, bob, ReasonCode::ReAuthenticate);
    auth(&mut world, bob, ReasonCode::ContinueAuthentication);
    assert_eq!(world.received(bob), ["DISCONNECT 82"], "it is our turn");
    assert_eq!(world.broker.questions_len(), 0);
    world.questions.clear();

    world.holds_questions = false;
    let bob = world.connect(v5("bob").with(&[METHOD]));
    world.holds_questions = true;
    auth(&mut world, bob, ReasonCode::ReAuthenticate);
    world.answer(Answer::Continue(None));
    auth(&mut world, bob, ReasonCode::ContinueAuthentication);
    world.answer(Answer::allow());
    assert_eq!(world.received(bob).len(), 2, "AUTH 18, AUTH 00");
}

#[test]
fn a_code_that_does_not_fit_its_packet_is_said_as_not_authorized() {
    let mut world = World::new();
    world.holds_questions = true;
    let bob = world.begin(v5("bob"));
    world.answer(Answer::Deny(ReasonCode::AdministrativeAction));
    assert_eq!(world.received(bob), ["CONNACK 87"]);
    let bob = world.begin(v5("bob"));
    world.answer(with_access(Access::new(Permission::Ask)));
    world.first(bob);
    world.publish(bob, "a", "x", 1, 1);
    world.answer(Answer::Deny(ReasonCode::Banned));
    world.publish(bob, "a", "x", 2, 2);
    world.answer(Answer::Deny(ReasonCode::ServerBusy));
    assert_eq!(world.received(bob), ["PUBACK #1 87", "PUBREC #2 87"]);
}

#[test]
fn connack_answers_a_connect_and_nothing_else() {
    // [MQTT-3.2.0-1]
    for end in [0, 1] {
        let mut world = World::new();
        let silent = world.open();
        match end {
            0 => world.broker.shutdown(world.now),
            _ => world.broker.disconnect(world.now, silent.id, ReasonCode::ServerBusy),
        }
        world.settle();
        assert!(world.is_closed(silent));
        assert!(world.received_bytes(silent).is_empty());
    }
}

#[test]
fn a_3_1_1_exchange_that_cannot_be_refused_is_completed() {
    // [MQTT3-3.3.5-2] [MQTT-4.3.3-10]
    let mut world = World::with(|config| config.max_topic_levels = 3);
    world.holds_questions = true;
    let bob = world.begin(v3("bob"));
    world.answer(with_access(Access::new(Permission::Allow).rule(Action::Publish, "no", Permission::Deny).unwrap()));
    world.first(bob);
    for (id, name, reason) in [(1, "no", DropReason::NotAuthorized), (2, "a/b/c/d", DropReason::TooManyLevels)] {
        world.publish(bob, name, "x", 2, id);
        world.publish_with(bob, name, "x", delivery(2, id, true), false, &[]);
        world.ack(bob, AckType::Pubrel, id);
        let told = world.received(bob);
        assert_eq!(told, [format!("PUBREC #{id}"), format!("PUBREC #{id}"), format!("PUBCOMP #{id}")]);
        assert_eq!(world.dropped(reason), 1, "the repeat is known as one");
    }
}

#[test]
fn a_name_with_too_many_levels_is_refused_at_every_qos() {
    let mut world = World::with(|config| config.max_topic_levels = 3);
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("#", 2)]);
    world.publish(bob, "a/b/c/d", "x", 2, 1);
    assert_eq!(world.received(bob), ["PUBREC #1 90"]);
    let will = Some(("a/b/c/d", "gone", 1, false, 0));
    let carol = world.begin(As { will, ..v5("carol") });
    world.cut(carol);
    assert!(world.received(bob).is_empty());
}
