//! New rules for a session that exists: by re-authentication, by another CONNECT, by command. [MQTT-4.12.1]

use std::sync::Arc;

use damselfly_broker::{Access, Action, Answer, DropReason, Event, Grant, Permission};
use damselfly_codec::{Auth, Packet, Property, ReasonCode, SubscriptionOptions};

use crate::world::{As, Client, World, delivery, properties, qos, v3, v5};

const METHOD: [Property<'_>; 1] = [Property::AuthenticationMethod("TOKEN")];

fn but(action: Action, denied: &str) -> Access {
    Access::new(Permission::Allow).rule(action, denied, Permission::Deny).unwrap()
}

fn grant(access: Option<Access>) -> Answer {
    let mut grant = Grant::default();
    grant.access = access.map(Arc::new);
    Answer::Allow(grant)
}

/// A client that may do everything, or what `access` says.
fn connect(world: &mut World, client: As<'_>, access: Option<Access>) -> Client {
    world.holds_questions = true;
    let connection = world.begin(client);
    world.answer(grant(access));
    let seen = world.first(connection);
    assert!(seen.starts_with("CONNACK 00"), "{seen}");
    world.holds_questions = false;
    connection
}

/// The client authenticates again and gets other rules.
fn reauthenticate(world: &mut World, client: Client, access: Option<Access>) {
    world.holds_questions = true;
    let step = properties(&METHOD);
    let auth = Auth { reason_code: ReasonCode::ReAuthenticate, properties: step.as_properties() };
    world.send(client, Packet::Auth(auth));
    world.answer(grant(access));
    world.holds_questions = false;
}

fn after_auth(world: &mut World, client: Client) -> Vec<String> {
    let seen = world.received(client);
    let at = seen.iter().position(|line| line.starts_with("AUTH 00")).expect("AUTH");
    seen[at + 1..].to_vec()
}

#[test]
fn a_subscription_that_new_rules_deny_delivers_nothing_more() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = connect(&mut world, v5("bob").with(&METHOD), None);
    world.subscribe(bob, &[("secret/a", 1), ("secret/+", 0), ("open/#", 1)]);
    for _ in 0..3 {
        world.publish(alice, "secret/a", "before", 0, 0);
    }
    world.received(bob);

    reauthenticate(&mut world, bob, Some(but(Action::Subscribe, "secret/#")));
    for level in 0..3 {
        world.publish(alice, "secret/a", "after", level, 1 + u16::from(level));
        world.publish(alice, "open/a", "x", level, 11 + u16::from(level));
    }
    let seen = after_auth(&mut world, bob);
    assert_eq!(seen, ["PUBLISH q0 open/a=x", "PUBLISH q1 #1 open/a=x", "PUBLISH q1 #2 open/a=x"]);
    let left: Vec<_> = world.broker.subscriptions("bob").map(|view| view.filter).collect();
    assert_eq!(left, ["open/#"]);
    let ended = world.events.iter().filter(|event| matches!(event, Event::Unsubscribed { .. })).count();
    assert_eq!(ended, 2);
    world.subscribe_with(bob, &[("secret/a", SubscriptionOptions::default())], &[]);
    assert_eq!(world.received(bob), ["SUBACK #999 87"]);

    reauthenticate(&mut world, bob, None);
    world.publish(alice, "secret/a", "again", 0, 0);
    assert!(after_auth(&mut world, bob).is_empty(), "what ended has to be subscribed again");
    world.subscribe(bob, &[("secret/a", 0)]);
    world.audit();
}

#[test]
fn queued_messages_that_new_rules_deny_are_dropped_and_counted() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let one = [METHOD[0], Property::ReceiveMaximum(1.try_into().unwrap())];
    let bob = connect(&mut world, v5("bob").with(&one), None);
    world.subscribe(bob, &[("#", 1)]);
    for (id, name) in [(1, "secret/a"), (2, "secret/a"), (3, "open/a"), (4, "secret/b"), (5, "open/b")] {
        world.publish(alice, name, "x", 1, id);
    }
    reauthenticate(&mut world, bob, Some(but(Action::Any, "secret/#")));
    let seen = world.received(bob);
    assert_eq!(seen[0], "PUBLISH q1 #1 secret/a=x", "sent before");
    world.ack(bob, damselfly_codec::AckType::Puback, 1);
    assert_eq!(world.work_off(bob), ["PUBLISH q1 #2 open/a=x", "PUBLISH q1 #3 open/b=x"]);
    assert_eq!(world.dropped(DropReason::NotAuthorized), 2);
    world.audit();
}

#[test]
fn a_replay_of_retained_messages_stops_where_it_is() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for n in 0..300 {
        world.publish_with(alice, &format!("secret/{n}"), "x", delivery(1, n + 1, false), true, &[]);
    }
    world.publish_with(alice, "open/a", "x", delivery(1, 1_000, false), true, &[]);
    let three = [METHOD[0], Property::ReceiveMaximum(3.try_into().unwrap())];
    let bob = connect(&mut world, v5("bob").with(&three), None);
    world.subscribe(bob, &[("secret/#", 1), ("open/#", 1)]);
    reauthenticate(&mut world, bob, Some(but(Action::Subscribe, "secret/#")));
    let seen = world.received(bob);
    assert_eq!(seen.len(), 4, "three in flight, and AUTH: {seen:?}");
    for id in 1..=3 {
        world.ack(bob, damselfly_codec::AckType::Puback, id);
    }
    assert_eq!(world.work_off(bob), ["PUBLISH q1 #4 retain open/a=x"]);
    world.audit();
}

#[test]
fn a_session_resumed_under_narrower_rules_gets_only_what_they_permit() {
    for client in [v5("bob").lasting(100), v3("bob").lasting(0)] {
        let mut world = World::new();
        let alice = world.connect(v5("alice"));
        let bob = connect(&mut world, client, None);
        world.subscribe(bob, &[("secret/a", 1), ("open/a", 1), ("$share/g/secret/s", 1)]);
        world.cut(bob);
        for (id, name) in [(1, "secret/a"), (2, "open/a"), (3, "secret/s")] {
            world.publish(alice, name, "x", 1, id);
        }
        let carol = world.connect(v5("carol").lasting(100));
        world.subscribe(carol, &[("$share/g/secret/s", 1)]);
        let bob = connect(&mut world, client, Some(but(Action::Any, "secret/#")));
        world.publish(alice, "secret/a", "y", 1, 4);
        assert_eq!(world.work_off(bob), ["PUBLISH q1 #1 open/a=x"]);
        assert_eq!(world.work_off(carol), ["PUBLISH q1 #1 secret/s=x"], "the share group has another member");
        assert_eq!(world.dropped(DropReason::NotAuthorized), 1);
        world.audit();
    }
}

#[test]
fn what_was_answered_stays_while_the_rules_ask_and_ends_where_they_begin_to_ask() {
    let asking = |extra: &str| {
        let access = Access::new(Permission::Allow).rule(Action::Subscribe, "ask/#", Permission::Ask).unwrap();
        Some(access.rule(Action::Subscribe, extra, Permission::Ask).unwrap())
    };
    let mut world = World::new();
    let bob = connect(&mut world, v5("bob").with(&METHOD), asking("x"));
    world.subscribe(bob, &[("ask/a", 0), ("new/a", 0)]);
    reauthenticate(&mut world, bob, asking("new/#"));
    let left: Vec<_> = world.broker.subscriptions("bob").map(|view| view.filter).collect();
    assert_eq!(left, ["ask/a"]);
}

#[test]
fn an_answer_of_yes_does_not_outdo_rules_that_came_meanwhile() {
    let mut world = World::new();
    let asking = Some(Access::new(Permission::Ask));
    let bob = connect(&mut world, v5("bob"), asking);
    world.holds_questions = true;
    world.subscribe_with(bob, &[("a", SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() })], &[]);
    world.publish(bob, "a", "x", 1, 1);
    world.publish(bob, "a", "x", 2, 2);
    let deny = Some(Arc::new(Access::new(Permission::Deny)));
    assert!(world.broker.set_access(world.now, "bob", deny));
    for _ in 0..3 {
        world.answer(Answer::allow());
    }
    assert_eq!(world.received(bob), ["SUBACK #999 87", "PUBACK #1 87", "PUBREC #2 87"]);
    world.audit();
}

#[test]
fn a_command_gives_rules_to_whoever_has_a_session_but_not_to_local_participants() {
    let mut world = World::new();
    let local = world.broker.open_local(world.now, "house", 1.try_into().unwrap()).unwrap();
    let will = Some(("secret/w", "gone", 0, false, 0));
    let bob = world.connect(As { will, ..v5("bob").lasting(100) });
    let alice = world.connect(v5("alice"));
    world.subscribe(alice, &[("secret/#", 0)]);
    world.subscribe(bob, &[("secret/#", 1)]);
    for _ in 0..3 {
        world.publish(bob, "secret/a", "x", 0, 0);
    }
    world.received(alice);
    world.received(bob);
    let deny = Arc::new(but(Action::Any, "secret/#"));
    assert!(world.broker.set_access(world.now, "bob", Some(Arc::clone(&deny))));
    assert!(!world.broker.set_access(world.now, "house", Some(Arc::clone(&deny))));
    assert!(!world.broker.set_access(world.now, "nobody", Some(deny)));
    world.settle();
    world.publish(bob, "secret/a", "x", 0, 0);
    world.publish(alice, "secret/a", "y", 0, 0);
    assert!(world.received(bob).is_empty());
    assert_eq!(world.received(alice), ["PUBLISH q0 secret/a=y"], "a route that is remembered has the old rules");
    world.cut(bob);
    assert!(world.received(alice).is_empty(), "the will needs permission when it is published");
    world.broker.close_local(world.now, local);
    world.audit();
}

#[test]
fn a_route_that_is_remembered_loses_its_permission_though_no_subscription_ends() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    for id in 1..=3 {
        world.publish(bob, "secret/a", "x", 1, id);
    }
    assert_eq!(world.received(bob), ["PUBACK #1 10", "PUBACK #2 10", "PUBACK #3 10"]);
    assert!(world.broker.counters().route_cache_bytes > 0);
    assert!(world.broker.set_access(world.now, "bob", Some(Arc::new(but(Action::Publish, "secret/#")))));
    world.settle();
    assert_eq!(world.broker.counters().route_cache_bytes, 0);
    world.publish(bob, "secret/a", "x", 1, 4);
    assert_eq!(world.received(bob), ["PUBACK #4 87"]);
    world.audit();
}

#[test]
fn subscriptions_that_new_rules_end_are_recorded_and_nothing_is_where_none_ends() {
    let mut world = World::new();
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("secret/a", 1), ("open/a", 1)]);
    world.holds_commits = true;
    for (action, groups) in [(Action::Publish, 0), (Action::Subscribe, 1)] {
        assert!(world.broker.set_access(world.now, "bob", Some(Arc::new(but(action, "secret/#")))));
        world.settle();
        assert_eq!(world.commits.len(), groups, "{action:?}");
    }
}
