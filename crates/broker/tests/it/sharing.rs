//! Who of a share group gets a message, here or at another broker, and at what cost that is found out.

use damselfly_broker::{Forward, Interest, Output, ShardId};
use damselfly_codec::{Properties, SubscriptionOptions};
use damselfly_session::Message;

use crate::world::{AnyWorld, As, World, delivery, qos, topic, v5};

fn announcing() -> World {
    World::with(|config| config.announce_interest = true)
}

fn tell(world: &mut World, shard: u16, text: &str, members: u32, connected: u32) -> Interest {
    let interest = Interest { filter: text.into(), members, connected };
    world.broker.handle_interest(world.now, ShardId(shard), &interest);
    interest
}

/// To whom something was forwarded: the broker, whether for a group, whether to be retained and to be delivered.
fn forwards(world: &mut World) -> Vec<(u16, bool, bool, bool)> {
    let outputs = std::mem::take(&mut world.forwarded);
    let shown = outputs.into_iter().filter_map(|(_, output)| match output {
        Output::Forward { to, forward } => {
            Some((to.0, forward.shared_filter.is_some(), forward.retain, forward.deliver))
        }
        _ => None,
    });
    shown.collect()
}

#[test]
fn other_brokers_have_their_turns_by_the_members_that_are_connected() {
    let mut world = announcing();
    for shard in [1, 2, 3] {
        world.broker.handle_shard_joined(world.now, ShardId(shard));
    }
    tell(&mut world, 1, "$share/g/a", 2, 2);
    tell(&mut world, 2, "$share/g/a", 5, 0);
    tell(&mut world, 3, "$share/g/a", 3, 3);
    let alice = world.connect(v5("alice"));
    for _ in 0..10 {
        world.publish(alice, "a", "x", 0, 0);
    }
    let to: Vec<_> = forwards(&mut world).into_iter().map(|(to, ..)| to).collect();
    assert_eq!(to, [1, 1, 3, 3, 3, 1, 1, 3, 3, 3]);
}

#[test]
fn members_here_have_as_many_turns_as_there_are_of_them() {
    let mut pair = AnyWorld::<true>::new();
    pair.put(0, &["alice", "near", "nearer"]);
    pair.put(1, &["far"]);
    let alice = pair.connect(v5("alice"));
    let members = ["near", "nearer", "far"].map(|name| {
        let member = pair.connect(v5(name));
        pair.subscribe(member, &[("$share/g/a", 0)]);
        member
    });
    for _ in 0..9 {
        pair.publish(alice, "a", "x", 0, 0);
    }
    assert_eq!(members.map(|member| pair.received(member).len()), [3, 3, 3]);
}

#[test]
fn a_member_that_is_away_here_comes_before_those_who_are_away_elsewhere() {
    let mut world = announcing();
    world.broker.handle_shard_joined(world.now, ShardId(1));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("$share/g/a", 1)]);
    world.cut(bob);
    tell(&mut world, 1, "$share/g/a", 1, 0);
    let alice = world.connect(v5("alice"));
    world.forwarded.clear();
    world.publish(alice, "a", "x", 1, 1);
    assert_eq!(world.session("bob").unwrap().queued, 1);
    assert!(forwards(&mut world).is_empty());
    tell(&mut world, 1, "$share/g/a", 1, 1);
    world.publish(alice, "a", "x", 1, 2);
    assert_eq!(forwards(&mut world), [(1, true, false, true)]);
}

#[test]
fn a_broker_that_left_has_no_turn_any_more_and_the_others_have_theirs() {
    let mut world = announcing();
    for shard in [1, 2] {
        world.broker.handle_shard_joined(world.now, ShardId(shard));
    }
    let mut told = Vec::new();
    for text in ["$share/g/a", "b"] {
        told.push(tell(&mut world, 1, text, 1, 1));
        tell(&mut world, 2, text, 1, 1);
    }
    let alice = world.connect(v5("alice"));
    world.broker.handle_shard_left(world.now, ShardId(1), &told);
    world.forwarded.clear();
    for _ in 0..3 {
        world.publish(alice, "a", "x", 0, 0);
    }
    world.publish(alice, "b", "x", 0, 0);
    assert_eq!(
        forwards(&mut world),
        [(2, true, false, true), (2, true, false, true), (2, true, false, true), (2, false, false, true)]
    );
}

#[test]
fn a_retained_message_goes_to_all_and_counts_where_somebody_is_interested() {
    let mut world = announcing();
    for shard in [1, 2] {
        world.broker.handle_shard_joined(world.now, ShardId(shard));
    }
    tell(&mut world, 2, "b", 1, 0);
    let alice = world.connect(v5("alice"));
    world.forwarded.clear();
    for (id, name, retain, told, expected) in [
        (1, "a", true, "PUBACK #1 10", &[(1, false, true, true), (2, false, true, true)][..]),
        (2, "b", true, "PUBACK #2", &[(1, false, true, true), (2, false, true, true)]),
        (3, "b", false, "PUBACK #3", &[(2, false, false, true)]),
        (4, "a", false, "PUBACK #4 10", &[]),
    ] {
        let before = world.broker.counters().deliveries;
        world.publish_with(alice, name, "x", delivery(1, id, false), retain, &[]);
        assert_eq!(forwards(&mut world), expected, "{name} {retain}");
        world.settle();
        assert_eq!(world.received(alice), [told]);
        assert_eq!(world.broker.counters().deliveries - before, u64::from(name == "b"), "{name} {retain}");
    }
}

#[test]
fn what_expired_before_its_commit_is_retained_elsewhere_and_delivered_nowhere() {
    let mut world = announcing();
    world.broker.handle_shard_joined(world.now, ShardId(1));
    tell(&mut world, 1, "a", 1, 0);
    let alice = world.connect(v5("alice"));
    world.forwarded.clear();
    let expiry = [damselfly_codec::Property::MessageExpiryInterval(5)];
    world.holds_commits = true;
    world.publish_with(alice, "a", "x", delivery(2, 1, false), true, &expiry);
    world.now = world.now.saturating_add(std::time::Duration::from_secs(6));
    assert!(forwards(&mut world).is_empty());
    world.commit();
    assert_eq!(forwards(&mut world), [(1, false, true, false)]);
}

#[test]
fn a_message_for_a_group_that_nobody_has_reaches_no_other() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("$share/g/a", 0)]);
    for (text, got) in [("$share/h/a", 0), ("$share/g/a", 1)] {
        let message = Message::compose(topic("a"), b"x", qos(0), false, Properties::EMPTY, world.now);
        let forward = Forward { message, shared_filter: Some(text.into()), retain: false, deliver: true };
        world.broker.handle_forward(world.now, &forward);
        world.settle();
        assert_eq!(world.received(bob).len(), got, "{text}");
    }
}

#[test]
fn members_that_go_are_told_whatever_else_they_subscribed_to() {
    let mut world = announcing();
    world.broker.handle_shard_joined(world.now, ShardId(1));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("#", 0), ("$share/g/a", 0), ("$share/h/b", 0), ("z", 0)]);
    world.forwarded.clear();
    world.cut(bob);
    let told: Vec<_> = std::mem::take(&mut world.forwarded)
        .into_iter()
        .filter_map(|(_, output)| match output {
            Output::Interest { interest, .. } => {
                Some((interest.filter.into_string(), interest.members, interest.connected))
            }
            _ => None,
        })
        .collect();
    assert_eq!(told, [("$share/g/a".into(), 1, 0), ("$share/h/b".into(), 1, 0)]);
}

#[test]
fn a_shared_subscription_keeps_the_retain_flag_if_it_asks_for_that() {
    // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    for (retain_as_published, retain, expected) in
        [(true, true, "retain "), (true, false, ""), (false, true, ""), (false, false, "")]
    {
        let mut world = World::new();
        let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
        let options = SubscriptionOptions { retain_as_published, ..SubscriptionOptions::default() };
        world.subscribe_with(bob, &[("$share/g/a", options)], &[]);
        world.received(bob);
        world.publish_with(alice, "a", "x", delivery(0, 1, false), retain, &[]);
        assert_eq!(world.received(bob), [format!("PUBLISH q0 {expected}a=x")]);
    }
}

#[test]
fn what_is_not_shared_keeps_its_place_when_what_is_finds_nobody_else() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    world.publish_with(alice, "r/1", "retained", delivery(1, 1, false), true, &[]);
    let client = As { receive_maximum: Some(1), ..v5("bob").lasting(100) };
    let bob = world.connect(client);
    world.subscribe(bob, &[("a", 1), ("$share/g/s", 1)]);
    world.publish(alice, "a", "first", 1, 1);
    world.publish(alice, "a", "second", 1, 2);
    world.subscribe_with(bob, &[("r/#", SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() })], &[]);
    world.publish(alice, "s", "shared", 1, 3);
    world.cut(bob);
    let bob = world.connect(client);
    let seen = world.work_off(bob);
    let payloads: Vec<_> = seen.iter().map(|line| line.rsplit_once('=').unwrap().1).collect();
    assert_eq!(payloads, ["first", "second", "retained", "shared"]);
}

/// Members of a group, none of whom is connected.
fn away(count: u16, window: u16) -> (World, Vec<String>) {
    let mut world = World::new();
    let names: Vec<_> = (0..count).map(|n| format!("member {n}")).collect();
    let clients: Vec<_> = names
        .iter()
        .map(|name| {
            let member = world.connect(As { receive_maximum: Some(window), ..v5(name).lasting(100) });
            world.subscribe(member, &[("$share/g/a", 1)]);
            member
        })
        .collect();
    if window == 1 {
        let alice = world.connect(v5("alice"));
        for n in 0..count {
            world.publish(alice, "a", "x", 1, 1 + n);
        }
        world.cut(alice);
    }
    for client in clients {
        world.cut(client);
    }
    (world, names)
}

#[test]
fn each_member_that_is_looked_at_is_a_step() {
    const MEMBERS: u16 = 300;
    // In the ring of those who were ready, or were busy, when they were looked at last.
    for window in [10, 1] {
        let (mut world, _) = away(MEMBERS, window);
        let before = world.broker.counters().most_steps;
        assert!(before < 200, "{before}");
        let alice = world.connect(v5("alice"));
        world.publish(alice, "a", "x", 1, 1);
        let most = world.broker.counters().most_steps;
        assert!((usize::from(MEMBERS)..4 * usize::from(MEMBERS)).contains(&most), "{most} with a window of {window}");
    }
}

#[test]
fn each_member_that_is_asked_to_take_over_is_a_step() {
    const MEMBERS: u16 = 300;
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(As { receive_maximum: Some(1), ..v5("bob").lasting(100) });
    world.subscribe(bob, &[("$share/g/a", 1)]);
    world.publish(alice, "a", "1", 1, 1);
    world.publish(alice, "a", "2", 1, 2);
    let clients: Vec<_> = (0..MEMBERS)
        .map(|n| {
            let member = world.connect(v5(&format!("member {n}")).lasting(100));
            world.subscribe(member, &[("$share/g/a", 1)]);
            member
        })
        .collect();
    for client in clients {
        world.cut(client);
    }
    assert!(world.broker.counters().most_steps < 200);
    world.cut(bob);
    let most = world.broker.counters().most_steps;
    assert!((usize::from(MEMBERS)..4 * usize::from(MEMBERS)).contains(&most), "{most}");
    assert_eq!(world.session("bob").unwrap().queued, 1);
}

#[test]
fn each_group_that_is_told_of_a_member_is_a_step() {
    const GROUPS: usize = 300;
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let client = v5("bob").lasting(1_000);
    let bob = world.connect(client);
    for n in 0..GROUPS {
        world.subscribe(bob, &[(&format!("$share/g{n}/{n}"), 1)]);
    }
    world.cut(bob);
    for n in 0..GROUPS {
        world.publish(alice, &n.to_string(), "x", 1, 1);
    }
    assert!(world.broker.counters().most_steps < 200);
    world.connect(client);
    assert!(world.broker.counters().most_steps >= GROUPS);
}
