//! What the embedding program sees of a broker: each field of each view, and numbers after each step.

use damselfly_broker::{Memory, SubscriptionView};
use damselfly_codec::{Property, SubscriptionId, SubscriptionOptions};

use crate::world::{As, Client, World, filter, qos, topic, v3, v5};

fn id(value: u32) -> [Property<'static>; 1] {
    [Property::SubscriptionIdentifier(SubscriptionId::new(value).unwrap())]
}

/// What a kind of memory grew by.
fn growth(world: &mut World, of: fn(Memory) -> u64, act: impl FnOnce(&mut World)) -> u64 {
    let before = of(world.broker.memory());
    act(world);
    of(world.broker.memory()) - before
}

#[test]
fn slots_of_connections_are_small_and_unique_among_those_that_are_open() {
    let mut world = World::new();
    let slots = |clients: &[Client]| clients.iter().map(|client| client.id.slot()).collect::<Vec<_>>();
    let clients = ["a", "b", "c", "d"].map(|name| world.connect(v5(name)));
    assert_eq!(slots(&clients), [0, 1, 2, 3]);
    world.cut(clients[2]);
    let next = world.connect(v5("e"));
    assert_eq!(next.id.slot(), 2);
    assert_ne!(next.id, clients[2].id);
}

#[test]
fn a_view_of_a_session_says_who_it_is_and_what_waits() {
    let mut world = World::new();
    let now = world.now;
    let house = world.broker.open_local(now, "house", 5.try_into().unwrap()).unwrap();
    world.broker.local_subscribe(now, house, filter("#"), SubscriptionOptions::default(), None);
    let bob = world.connect(As { receive_maximum: Some(1), ..v5("bob").lasting(100) });
    world.subscribe(bob, &[("a", 1), ("b", 1)]);
    let alice = world.connect(v3("alice"));
    for id in 1..=3 {
        world.publish(alice, "a", "x", 1, id);
    }
    let view = world.session("house").unwrap();
    assert_eq!((view.is_local, view.connection, view.version, view.subscriptions), (true, None, None, 1));
    let view = world.session("bob").unwrap();
    assert_eq!((view.is_local, view.connection), (false, Some(bob.id)));
    assert_eq!((view.subscriptions, view.queued, view.in_flight, view.ends_at), (2, 2, 1, None));
    assert!(view.queued_bytes > 0);
    world.cut(bob);
    let view = world.session("bob").unwrap();
    assert_eq!((view.is_local, view.connection, view.version), (false, None, None));
    assert!(view.ends_at.is_some());
    let names: Vec<_> = world.broker.sessions().map(|view| (view.client_id, view.is_local)).collect();
    assert_eq!(names, [("house", true), ("bob", false), ("alice", false)]);
    assert_eq!(world.broker.messages_len(), 3);
    assert_eq!(world.broker.sessions_len(), 3);
}

#[test]
fn a_view_of_a_subscription_has_all_its_options_shared_or_not() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    let options = |level, no_local, retain_as_published| SubscriptionOptions {
        qos: qos(level),
        no_local,
        retain_as_published,
        ..SubscriptionOptions::default()
    };
    world.subscribe_with(bob, &[("a", options(2, true, false))], &id(5));
    world.subscribe_with(bob, &[("$share/g/a", options(1, false, true))], &id(7));
    world.subscribe_with(bob, &[("$share/h/a", options(2, false, false))], &[]);
    let seen: Vec<_> = world
        .broker
        .subscriptions("bob")
        .map(|SubscriptionView { filter, qos, no_local, retain_as_published, id, .. }| {
            (filter, qos, no_local, retain_as_published, id.map_or(0, SubscriptionId::get))
        })
        .collect();
    let expected = [
        ("$share/g/a", qos(1), false, true, 7),
        ("$share/h/a", qos(2), false, false, 0),
        ("a", qos(2), true, false, 5),
    ];
    assert_eq!(seen, expected);
    assert_eq!(world.broker.subscriptions("nobody").count(), 0);
}

#[test]
fn retained_messages_are_found_up_to_the_limit_wherever_they_are() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for n in 0..20 {
        world.retain(alice, &format!("pond/{n:02}/depth"), "x");
        world.retain(alice, &format!("pond/{n:02}/other"), "x");
    }
    let found = |text: &str, limit: usize| {
        let messages = world.broker.retained(filter(text), limit);
        messages.iter().map(|message| message.topic().as_str().to_owned()).collect::<Vec<_>>()
    };
    let depths: Vec<_> = (0..20).map(|n| format!("pond/{n:02}/depth")).collect();
    for limit in [0, 1, 2, 3, 7, 19, 20, 21, 1_000] {
        assert_eq!(found("pond/+/depth", limit), depths[..limit.min(20)], "limit {limit}");
        assert_eq!(found("#", limit).len(), limit.min(40), "limit {limit}");
        assert_eq!(found("pond/07/depth", limit).len(), limit.min(1), "limit {limit}");
        assert!(found("nothing/#", limit).is_empty());
    }
    assert_eq!(world.broker.retained_len(), 40);
    assert_eq!(world.broker.retained_message(topic("pond/07/depth")).unwrap().payload(), b"x");
    assert!(world.broker.retained_message(topic("pond/20/depth")).is_none());
}

#[test]
fn what_is_open_is_counted_until_it_is_not() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let lengths = |world: &World| (world.broker.questions_len(), world.broker.commits_waiting());
    assert_eq!(lengths(&world), (0, 0));
    world.holds_questions = true;
    world.holds_commits = true;
    world.begin(v5("bob"));
    world.begin(v5("carol"));
    assert_eq!(lengths(&world), (2, 0));
    for (id, waiting) in [(1, 1), (2, 2), (3, 3)] {
        world.publish(alice, "a", "x", 2, id);
        assert_eq!(lengths(&world), (2, waiting));
    }
    world.holds_commits = false;
    world.commit();
    assert_eq!(lengths(&world), (2, 0));
    world.questions.remove(0);
    world.answer(damselfly_broker::Answer::allow());
    assert_eq!(lengths(&world).0, 1);
}

#[test]
fn publishes_are_counted_whichever_way_they_take() {
    let mut world = World::with(|config| config.max_property_bytes = 1_000);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v3("bob"))];
    world.subscribe(bob, &[("#", 1)]);
    for (n, len) in (1..).zip([1, 1, 1, 5_000, 5_000, 1]) {
        world.publish(alice, "a", &"x".repeat(len), u8::from(n % 2 == 0), n);
        assert_eq!(world.broker.counters().publishes_received, u64::from(n));
        assert_eq!(world.broker.counters().deliveries, u64::from(n));
    }
}

#[test]
fn a_queue_and_what_is_in_flight_count_as_the_sessions() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(1_000));
    world.subscribe(bob, &[("a", 1)]);
    // A place takes tens of bytes, and at most twice as many places are kept as are needed.
    let place = 16..=96;
    let inflight = growth(
        &mut world,
        |memory| memory.sessions,
        |world| (1..=64).for_each(|id| world.publish(alice, "a", "x", 1, id)),
    );
    assert!((64 * place.start()..=2 * 64 * place.end()).contains(&inflight), "{inflight}");
    assert_eq!(world.session("bob").unwrap().in_flight, 64);
    world.cut(bob);
    let queued = growth(
        &mut world,
        |memory| memory.sessions,
        |world| (1..=1_000).for_each(|id| world.publish(alice, "a", "x", 1, id)),
    );
    assert!((1_000 * place.start()..=2 * 1_000 * place.end()).contains(&queued), "{queued}");
}

#[test]
fn what_waits_for_an_answer_counts_as_messages_and_what_is_not_sent_as_connections() {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.subscribe(bob, &[("#", 0)]);
    world.holds_commits = true;
    let text = "x".repeat(10_000);
    let held = growth(&mut world, |memory| memory.messages, |world| world.publish(alice, "a", &text, 2, 1));
    assert!((10_000..11_000).contains(&held), "{held}");
    let held = growth(&mut world, |memory| memory.messages, |world| world.publish(alice, "a", &text, 2, 2));
    assert!((10_000..11_000).contains(&held), "{held}");
    world.holds_commits = false;
    world.commit();
    world.received(bob);

    world.is_stalled = true;
    let small = "x".repeat(1_000);
    let waiting = growth(
        &mut world,
        |memory| memory.connections,
        |world| (0..20).for_each(|_| world.publish(alice, "a", &small, 0, 0)),
    );
    assert!((19_000..60_000).contains(&waiting), "{waiting}");
    world.unstall();
    assert_eq!(world.received(bob).len(), 20);
}

#[test]
fn sessions_that_come_and_go_leave_nothing() {
    let mut world = World::new();
    let mut sizes = Vec::new();
    for round in 0..6 {
        for n in 0..20 {
            let client = world.connect(v5(&format!("{round} {n:02}")));
            world.subscribe(client, &[("a", 1), ("$share/g/b", 1)]);
            world.publish(client, "a", "x", 1, 1);
        }
        let all: Vec<_> = world.broker.sessions().filter_map(|view| view.connection).collect();
        for id in all {
            world.cut(Client { at: 0, id });
        }
        world.assert_empty();
        let Memory { sessions, messages, .. } = world.broker.memory();
        sizes.push((sessions, messages));
    }
    assert!(sizes[1..].iter().all(|size| *size == sizes[1]), "{sizes:?}");
}

#[test]
fn a_route_is_remembered_from_the_second_message_on_and_forgotten_with_new_rules() {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.subscribe(bob, &[("#", 0)]);
    let bytes = |world: &World| world.broker.counters().route_cache_bytes;
    world.publish(alice, "a", "x", 0, 0);
    assert_eq!(bytes(&world), 0);
    world.publish(alice, "a", "x", 0, 0);
    let one = bytes(&world);
    assert!(one > 0);
    for n in 0..8 {
        for _ in 0..2 {
            world.publish(alice, &format!("topic {n}"), "x", 0, 0);
        }
    }
    assert!(bytes(&world) > one);
    let denied = damselfly_broker::Access::new(damselfly_broker::Permission::Deny);
    assert!(world.broker.set_access(world.now, "alice", Some(std::sync::Arc::new(denied))));
    assert_eq!(bytes(&world), 0);
    world.received(bob);
    world.publish(alice, "a", "x", 1, 7);
    assert_eq!(world.received(alice), ["PUBACK #7 87"]);
    assert!(world.received(bob).is_empty());
}
