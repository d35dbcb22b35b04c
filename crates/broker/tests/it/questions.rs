//! Who may connect, publish and subscribe: asked of the embedding program, or decided by its rules.

use std::{sync::Arc, time::Duration};

use damselfly_broker::{Access, Action, Answer, DropReason, Grant, Permission, Question, Secret};
use damselfly_codec::{Auth, Packet, Property, ReasonCode, SubscriptionOptions};

use crate::world::{As, Client, World, qos, v3, v5};

fn grant(principal: &str, access: Option<Access>) -> Answer {
    let mut grant = Grant::default();
    grant.principal = Some(principal.into());
    grant.access = access.map(Arc::new);
    Answer::Allow(grant)
}

fn asking(client: As<'_>, answer: Answer) -> (World, Client) {
    let mut world = World::new();
    world.holds_questions = true;
    let connection = world.begin(client);
    world.answer(answer);
    (world, connection)
}

#[test]
fn the_question_tells_who_asks_and_a_no_is_answered_in_the_words_of_the_version() {
    // [MQTT-3.1.4-2] [MQTT-3.2.2-7] [MQTT3-3.2.2-5]
    for (client, code, said) in [
        (v5("bob"), ReasonCode::BadUserNameOrPassword, vec!["CONNACK 86"]),
        (v3("bob"), ReasonCode::BadUserNameOrPassword, vec!["CONNACK 04"]),
        (v3("bob"), ReasonCode::NotAuthorized, vec!["CONNACK 05"]),
        (v5("bob"), ReasonCode::Banned, vec!["CONNACK 8A"]),
    ] {
        let mut world = World::new();
        world.holds_questions = true;
        let bob = world.begin(As { user_name: Some("robert"), ..client });
        let Question::Connect { client_id, user_name, version, .. } = &world.questions[0].1 else { panic!() };
        assert_eq!((&**client_id, user_name.as_deref(), *version), ("bob", Some("robert"), client.version));
        world.answer(Answer::Deny(code));
        assert_eq!(world.received(bob), said);
        assert!(world.is_closed(bob));
        world.assert_empty();
    }
}

#[test]
fn an_unanswered_question_means_no() {
    let mut world = World::with(|config| config.question_timeout = Duration::from_secs(3));
    world.holds_questions = true;
    let bob = world.begin(v5("bob"));
    world.pass_secs(3);
    assert_eq!(world.received(bob), ["CONNACK 87"]);
    world.answer(Answer::allow());
    assert_eq!(world.broker.sessions_len(), 0, "a late answer is nobody's");
}

#[test]
fn a_session_belongs_to_the_principal_that_made_it() {
    for clean_start in [false, true] {
        let (mut world, owner) = asking(v5("bob").lasting(100), grant("robert", None));
        world.received(owner);
        let thief = world.begin(As { clean_start, ..v5("bob").lasting(100) });
        world.answer(grant("mallory", None));
        assert_eq!(world.received(thief), ["CONNACK 87"]);
        assert!(!world.is_closed(owner), "before takeover or deletion");
        let anonymous = world.begin(As { clean_start, ..v3("bob") });
        world.answer(Answer::allow());
        assert_eq!(world.received(anonymous), ["CONNACK 05"]);
        let again = world.begin(v5("bob").lasting(100));
        world.answer(grant("robert", None));
        assert!(world.first(again).starts_with("CONNACK 00 present"));
        assert!(world.is_closed(owner));
    }
}

#[test]
fn rules_decide_publish_and_subscribe_without_a_question() {
    // [MQTT3-3.3.5-2]
    let access = || {
        Access::new(Permission::Deny)
            .rule(Action::Publish, "out/#", Permission::Allow)
            .unwrap()
            .rule(Action::Subscribe, "in/#", Permission::Allow)
            .unwrap()
    };
    for (client, denied) in [(v5("bob"), ["PUBACK #1 87", "PUBREC #2 87"]), (v3("bob"), ["PUBACK #1", "PUBREC #2"])] {
        let (mut world, bob) = asking(client, grant("bob", Some(access())));
        world.received(bob);
        world.publish(bob, "in/x", "no", 1, 1);
        world.publish(bob, "in/x", "no", 2, 2);
        world.publish(bob, "in/x", "no", 0, 0);
        assert_eq!(world.received(bob), denied);
        let filters = ["in/#", "#", "$share/g/in/+", "$share/g/out"].map(|f| (f, SubscriptionOptions::default()));
        world.subscribe_with(bob, &filters, &[]);
        let refused = if client.version == damselfly_codec::Version::V5_0 { "87" } else { "80" };
        assert_eq!(world.received(bob), [format!("SUBACK #999 00 {refused} 00 {refused}")]);
        assert_eq!(world.dropped(DropReason::NotAuthorized), 3);
        assert!(world.questions.is_empty());
    }
}

#[test]
fn a_will_needs_the_permission_to_publish_when_it_is_published() {
    let access = Access::new(Permission::Deny);
    let client = As { will: Some(("w", "gone", 1, false, 0)), ..v5("bob") };
    let (mut world, bob) = asking(client, grant("bob", Some(access)));
    let watcher = world.begin(v5("watcher"));
    world.answer(Answer::allow());
    world.first(watcher);
    world.subscribe(watcher, &[("#", 0)]);
    world.received(watcher);
    world.cut(bob);
    assert!(world.received(watcher).is_empty());
    assert_eq!(world.dropped(DropReason::NotAuthorized), 1);
}

#[test]
fn a_rule_may_ask_each_time() {
    let access = Access::new(Permission::Ask);
    let (mut world, bob) = asking(v5("bob"), grant("bob", Some(access)));
    world.received(bob);
    let options = SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() };
    world.subscribe_with(bob, &[("a", options), ("b", options)], &[]);
    assert_eq!(world.questions.len(), 2);
    world.answer(Answer::allow());
    assert!(world.received(bob).is_empty(), "one filter is still open");
    world.answer(Answer::Deny(ReasonCode::QuotaExceeded));
    assert_eq!(world.received(bob), ["SUBACK #999 01 97"]);

    world.publish(bob, "a", "1", 0, 0);
    world.publish(bob, "a", "2", 1, 2);
    world.publish(bob, "a", "3", 2, 3);
    assert!(world.received(bob).is_empty());
    world.answer(Answer::allow());
    world.answer(Answer::Deny(ReasonCode::NotAuthorized));
    world.answer(Answer::allow());
    assert_eq!(world.received(bob), ["PUBLISH q0 a=1", "PUBACK #2 87", "PUBLISH q1 #1 a=3", "PUBREC #3"]);
}

#[test]
fn answers_that_come_in_another_order_do_not_reorder_a_topic() {
    let access = Access::new(Permission::Allow).rule(Action::Publish, "a", Permission::Ask).unwrap();
    let (mut world, bob) = asking(v5("bob"), grant("bob", Some(access)));
    world.first(bob);
    world.subscribe(bob, &[("a", 1)]);
    world.publish(bob, "a", "1", 1, 1);
    world.publish(bob, "a", "2", 1, 2);
    world.questions.reverse();
    world.answer(Answer::allow());
    assert!(world.received(bob).is_empty());
    world.answer(Answer::allow());
    let seen = world.received(bob);
    assert_eq!(seen, ["PUBLISH q1 #1 a=1", "PUBLISH q1 #2 a=2", "PUBACK #1", "PUBACK #2"]);
}

#[test]
fn a_connection_that_ends_takes_its_questions_along() {
    let access = Access::new(Permission::Ask);
    let (mut world, bob) = asking(v5("bob").lasting(5), grant("bob", Some(access)));
    world.publish(bob, "a", "x", 2, 1);
    world.subscribe_with(bob, &[("a", SubscriptionOptions::default())], &[]);
    world.cut(bob);
    assert_eq!(world.broker.questions_len(), 0);
    let bob = world.begin(v5("bob").lasting(5));
    world.questions.drain(..2);
    world.answer(grant("bob", None));
    world.received(bob);
    world.publish_with(bob, "a", "x", crate::world::delivery(2, 1, true), false, &[]);
    assert_eq!(world.received(bob), ["PUBREC #1 10"], "never decided, so it is new");
}

#[test]
fn redirecting_names_the_other_server() {
    let redirect = |permanent| Answer::Redirect { permanent, server_reference: "other:1883".into() };
    let (mut world, bob) = asking(v5("bob"), redirect(true));
    assert_eq!(world.received(bob), ["CONNACK 9D {ServerReference(\"other:1883\")}"]);
    let (mut world, bob) = asking(v5("bob"), redirect(false));
    assert_eq!(world.received(bob), ["CONNACK 9C {ServerReference(\"other:1883\")}"]);
    let (mut world, bob) = asking(v3("bob"), redirect(false));
    assert_eq!(world.received(bob), ["CONNACK 03"]);
    assert!(world.is_closed(bob));
}

#[test]
fn enhanced_authentication_goes_step_by_step() {
    // [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-4.12.1-1] [MQTT-4.12.1-2] [MQTT-3.1.2-30]
    let method = [Property::AuthenticationMethod("SCRAM"), Property::AuthenticationData(b"1")];
    let (mut world, bob) = asking(v5("bob").with(&method), Answer::Continue(Some((*b"2").into())));
    assert_eq!(world.received(bob), ["AUTH 18 {AuthenticationMethod(\"SCRAM\"), AuthenticationData([50])}"]);
    let step = crate::world::properties(&[Property::AuthenticationMethod("SCRAM"), Property::AuthenticationData(b"3")]);
    let auth = |reason_code| Packet::Auth(Auth { reason_code, properties: step.as_properties() });
    world.send(bob, auth(ReasonCode::ContinueAuthentication));
    let Question::Authenticate { step: asked, re_authentication: false, .. } = &world.questions[0].1 else { panic!() };
    assert_eq!((&*asked.method, asked.data.as_ref().map(Secret::as_bytes)), ("SCRAM", Some(&b"3"[..])));
    world.answer(grant("bob", None));
    assert!(world.first(bob).contains("AuthenticationMethod(\"SCRAM\")"));

    world.send(bob, auth(ReasonCode::ReAuthenticate));
    world.send(bob, Packet::Pingreq);
    assert_eq!(world.received(bob), ["PINGRESP"], "everything else goes on");
    world.answer(grant("bob", None));
    assert_eq!(world.received(bob), ["AUTH 00 {AuthenticationMethod(\"SCRAM\")}"]);
    world.send(bob, auth(ReasonCode::ReAuthenticate));
    world.answer(Answer::Deny(ReasonCode::NotAuthorized));
    assert_eq!(world.received(bob), ["DISCONNECT 87"]);
    assert!(world.is_closed(bob));
}

#[test]
fn a_failed_re_authentication_is_told_in_a_code_that_disconnect_has() {
    // [MQTT-4.12.1-2]
    let method = [Property::AuthenticationMethod("SCRAM")];
    let properties = crate::world::properties(&method);
    for (code, said) in [
        (ReasonCode::KeepAliveTimeout, "DISCONNECT 8D"),
        (ReasonCode::BadUserNameOrPassword, "DISCONNECT 87"),
        (ReasonCode::Success, "DISCONNECT 87"),
    ] {
        let (mut world, bob) = asking(v5("bob").with(&method), grant("bob", None));
        world.received(bob);
        let auth = Auth { reason_code: ReasonCode::ReAuthenticate, properties: properties.as_properties() };
        world.send(bob, Packet::Auth(auth));
        world.answer(Answer::Deny(code));
        assert_eq!(world.received(bob), [said]);
    }
}

#[test]
fn auth_without_a_method_in_connect_or_with_another_ends_the_connection() {
    // [MQTT-4.12.0-6] [MQTT-4.12.0-7]
    let mut world = World::new();
    let step = crate::world::properties(&[Property::AuthenticationMethod("OTHER")]);
    let auth = Packet::Auth(Auth { reason_code: ReasonCode::ReAuthenticate, properties: step.as_properties() });
    let bob = world.connect(v5("bob"));
    world.send(bob, auth);
    assert_eq!(world.received(bob), ["DISCONNECT 82"]);
    let carol = world.connect(v5("carol").with(&[Property::AuthenticationMethod("SCRAM")]));
    world.send(carol, auth);
    assert_eq!(world.received(carol), ["DISCONNECT 82"]);
    world.holds_questions = true;
    let dave = world.begin(v5("dave"));
    world.answer(Answer::Continue(None));
    assert_eq!(world.received(dave), ["CONNACK 8C"]);
}

/// A world whose clients have three seconds for the next AUTH, and one that was asked for it in a re-authentication.
fn halfway_through_a_re_authentication(receive_maximum: u16) -> (World, Client) {
    let mut world = World::with(|config| {
        config.connect_timeout = Duration::from_secs(3);
        config.receive_maximum = receive_maximum;
    });
    world.holds_questions = true;
    let bob = world.begin(v5("bob").with(&[Property::AuthenticationMethod("SCRAM")]));
    world.answer(grant("bob", Some(Access::new(Permission::Ask))));
    world.received(bob);
    send_auth(&mut world, bob, ReasonCode::ReAuthenticate);
    world.pass_secs(5);
    world.answer(Answer::Continue(None));
    assert_eq!(world.received(bob), ["AUTH 18 {AuthenticationMethod(\"SCRAM\")}"]);
    (world, bob)
}

fn send_auth(world: &mut World, connection: Client, reason_code: ReasonCode) {
    let step = crate::world::properties(&[Property::AuthenticationMethod("SCRAM")]);
    world.send(connection, Packet::Auth(Auth { reason_code, properties: step.as_properties() }));
}

/// Else it would keep for ever what it was granted before.
#[test]
fn a_client_that_does_not_go_on_with_its_re_authentication_is_ended() {
    let (mut world, bob) = halfway_through_a_re_authentication(10);
    world.pass(Duration::from_micros(2_999_999));
    world.send(bob, Packet::Pingreq);
    assert_eq!(world.received(bob), ["PINGRESP"]);
    world.audit();
    world.pass(Duration::from_micros(1));
    assert_eq!(world.received(bob), ["DISCONNECT 87"]);
    assert!(world.is_closed(bob));

    let (mut world, bob) = halfway_through_a_re_authentication(10);
    world.pass(Duration::from_micros(2_999_999));
    send_auth(&mut world, bob, ReasonCode::ContinueAuthentication);
    world.pass_secs(5);
    world.answer(grant("bob", None));
    assert_eq!(world.received(bob), ["AUTH 00 {AuthenticationMethod(\"SCRAM\")}"]);
    world.pass_secs(60);
    assert!(!world.is_closed(bob));
}

#[test]
fn the_time_for_the_next_auth_stands_still_while_a_client_is_not_read() {
    let (mut world, bob) = halfway_through_a_re_authentication(1);
    world.pass_secs(1);
    for _ in 0..65 {
        world.publish(bob, "a", "x", 0, 0);
    }
    assert!(world.is_paused(bob));
    world.pass_secs(9);
    world.audit();
    while !world.questions.is_empty() {
        world.answer(Answer::allow());
    }
    assert!(!world.is_paused(bob));
    world.pass(Duration::from_micros(1_999_999));
    assert!(!world.is_closed(bob));
    world.pass(Duration::from_micros(1));
    assert_eq!(world.received(bob), ["DISCONNECT 87"]);
}
