//! Live messages at QoS 0 behind a replay of retained ones.

use damselfly_broker::{DropReason, WhenFull};
use damselfly_codec::SubscriptionOptions;

use super::world::{As, World, filter, v3, v5};

/// Live messages join the tail of what is under way, at QoS 0 too.
#[test]
fn a_live_qos_0_message_does_not_overtake_a_replay() {
    for client in [v3("bob"), v5("bob")] {
        let mut world = World::new();
        let alice = world.connect(As { client_id: "alice", ..client });
        for n in 0..300 {
            world.retain(alice, &format!("r/{n:03}"), &"old".repeat(1_000));
        }
        let bob = world.connect(client);
        // Known to the route cache before.
        world.subscribe(bob, &[("live", 0)]);
        for _ in 0..3 {
            world.publish(alice, "live", "early", 0, 0);
        }
        assert_eq!(world.received(bob).len(), 3);
        world.is_stalled = true;
        world.subscribe_with(bob, &[("r/#", SubscriptionOptions::default())], &[]);
        for n in 0..3 {
            world.publish(alice, "live", &format!("late {n}"), 0, 0);
            world.audit();
        }
        world.unstall();
        let seen = world.received(bob);
        assert_eq!(seen.len(), 1 + 300 + 3);
        assert!(seen[1..301].iter().all(|line| line.contains(" retain ")));
        assert_eq!(seen[301..], ["late 0", "late 1", "late 2"].map(|text| format!("PUBLISH q0 live={text}")));
        world.audit();

        world.publish(alice, "live", "again", 0, 0);
        assert_eq!(world.received(bob), ["PUBLISH q0 live=again"]);
        world.audit();
    }
}

/// Else a client that acknowledges nothing would get nothing at QoS 0 either.
#[test]
fn a_replay_that_finds_nothing_for_the_window_does_not_wait_for_it() {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(As { receive_maximum: Some(1), ..v5("bob") })];
    world.subscribe(bob, &[("a", 1)]);
    world.publish(alice, "a", "1", 1, 1);
    world.retain(alice, "r/0", "old");
    world.received(bob);
    world.subscribe(bob, &[("r/#", 1)]);
    world.publish(alice, "a", "live", 0, 0);
    assert_eq!(world.received(bob), ["PUBLISH q0 retain r/0=old", "PUBLISH q0 a=live"]);
    world.audit();
}

/// They wait under the limits of every queue, and push nothing out of it.
#[test]
fn qos_0_messages_behind_a_replay_are_bounded_as_others_are() {
    let mut world = World::with(|config| {
        config.max_queued_messages = 3;
        config.when_full = WhenFull::DropOldest;
    });
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob").lasting(100))];
    for n in 0..300 {
        world.retain(alice, &format!("r/{n:03}"), &"old".repeat(1_000));
    }
    world.subscribe(bob, &[("live", 1)]);
    world.is_stalled = true;
    world.subscribe_with(bob, &[("r/#", SubscriptionOptions::default())], &[]);
    for n in 1..=5 {
        world.publish(alice, "live", &format!("{n}"), u8::from(n == 1), n);
    }
    assert_eq!(world.dropped(DropReason::QueueFull), 2);
    world.audit();
    world.unstall();
    let seen = world.received(bob);
    assert_eq!(seen[301..], ["PUBLISH q1 #1 live=1", "PUBLISH q0 live=2", "PUBLISH q0 live=3"]);
    world.audit();
}

#[test]
fn qos_0_messages_behind_a_replay_survive_a_reconnect_in_their_place_or_end_with_the_session() {
    for lasts in [true, false] {
        let mut world = World::new();
        let alice = world.connect(v5("alice"));
        for n in 0..300 {
            world.retain(alice, &format!("r/{n:03}"), &"old".repeat(1_000));
        }
        let client = if lasts { v5("bob").lasting(100) } else { v5("bob") };
        let bob = world.connect(client);
        world.is_stalled = true;
        world.subscribe_with(
            bob,
            &[("r/#", SubscriptionOptions::default()), ("live", SubscriptionOptions::default())],
            &[],
        );
        world.publish(alice, "live", "1", 0, 0);
        world.cut(bob);
        world.is_stalled = false;
        world.audit();
        let bob = world.begin(client);
        world.first(bob);
        let seen = world.received(bob);
        assert_eq!(seen.last().map(String::as_str), lasts.then_some("PUBLISH q0 live=1"));
        world.audit();
    }
}

#[test]
fn a_local_participant_gets_qos_0_messages_behind_its_replay() {
    let mut world = World::with(|config| config.steps_per_call = 64);
    let alice = world.connect(v5("alice"));
    for n in 0..300 {
        world.retain(alice, &format!("r/{n:03}"), "old");
    }
    let local = world.broker.open_local(world.now, "local", 1.try_into().unwrap()).unwrap();
    world.holds_work = true;
    for text in ["live", "r/#"] {
        world.broker.local_subscribe(world.now, local, filter(text), SubscriptionOptions::default(), None);
    }
    world.publish(alice, "live", "1", 0, 0);
    world.holds_work = false;
    world.settle();
    assert_eq!(world.delivered.len(), 301);
    assert_eq!(world.delivered[300].1.message.payload(), b"1");
    world.audit();
}
