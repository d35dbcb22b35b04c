//! Two brokers joined by interest and forwarding deliver as one.

use damselfly_broker::{Forward, Interest, Output, ShardId};
use damselfly_codec::{AckType, Properties, SubscriptionOptions};
use damselfly_session::Message;
use proptest::prelude::*;

use crate::world::{AnyWorld, As, Client, World, beside, delivery, filter, qos, topic, v3, v5};

/// Clients of two brokers; those named here are at the second.
fn joined(second: &[&str]) -> AnyWorld<true> {
    let mut pair = AnyWorld::new();
    pair.put(0, &["alice", "near"]);
    pair.put(1, second);
    pair
}

#[test]
fn a_message_reaches_subscribers_of_both_at_each_qos() {
    let mut pair = joined(&["far"]);
    let alice = pair.connect(v5("alice"));
    let near = pair.connect(v3("near"));
    let far = pair.connect(v5("far"));
    assert_eq!([alice, near, far].map(|client| client.at), [0, 0, 1]);
    pair.subscribe(near, &[("a/#", 1)]);
    pair.subscribe(far, &[("a/+", 2), ("a/b", 0)]);
    for level in 0..3 {
        pair.publish(alice, "a/b", &level.to_string(), level, 1 + u16::from(level));
    }
    pair.publish(alice, "b", "nobody", 1, 9);
    assert_eq!(pair.received(alice), ["PUBACK #2", "PUBREC #3", "PUBACK #9 10"]);
    assert_eq!(pair.work_off(near).len(), 3);
    assert_eq!(
        pair.work_off(far),
        ["PUBLISH q0 a/b=0", "PUBLISH q1 #1 a/b=1", "PUBLISH q2 #2 a/b=2"],
        "one delivery for overlapping subscriptions"
    );
}

#[test]
fn interest_ends_with_the_last_subscription() {
    let mut pair = joined(&["far", "farther"]);
    let alice = pair.connect(v5("alice"));
    let [far, farther] = ["far", "farther"].map(|name| pair.connect(v5(name)));
    for client in [far, farther] {
        pair.subscribe(client, &[("a", 0)]);
    }
    pair.unsubscribe(far, &["a"]);
    pair.publish(alice, "a", "x", 1, 1);
    assert_eq!(pair.received(alice), ["PUBACK #1"]);
    pair.cut(farther);
    pair.holds_forwards = true;
    pair.publish(alice, "a", "x", 1, 2);
    assert!(matches!(pair.forwarded[0], (0, Output::Commit(_))), "nothing is forwarded");
    pair.hand_over(0);
    pair.settle();
    assert_eq!(pair.received(alice), ["PUBACK #2 10"]);
}

#[test]
fn retained_messages_are_known_to_both() {
    let mut pair = joined(&["far"]);
    let alice = pair.connect(v5("alice"));
    pair.publish_with(alice, "a", "x", delivery(1, 1, false), true, &[]);
    pair.retain(alice, "b", "y");
    pair.retain(alice, "b", "");
    let far = pair.connect(v5("far"));
    pair.subscribe(far, &[("#", 1)]);
    assert_eq!(pair.received(far), ["PUBLISH q1 #1 retain a=x"]);
}

/// Its look at the retained messages leaves out what came later, and the other broker has not heard of it yet.
#[test]
fn a_retained_message_that_crosses_a_subscribe_on_its_way_is_delivered() {
    let mut pair = joined(&["far"]);
    let [alice, far] = ["alice", "far"].map(|name| pair.connect(v5(name)));
    pair.retain(alice, "b", "there");
    pair.holds_forwards = true;
    pair.subscribe_with(far, &[("#", SubscriptionOptions::default())], &[]);
    pair.retain(alice, "a", "x");
    pair.carry_all();
    let mut seen = pair.received(far);
    seen.sort();
    assert_eq!(seen, ["PUBLISH q0 a=x", "PUBLISH q0 retain b=there", "SUBACK #999 00"]);
}

#[test]
fn a_group_with_members_in_both_gets_each_message_once() {
    let mut pair = joined(&["far", "farther"]);
    let alice = pair.connect(v5("alice"));
    let [near, far, farther] = ["near", "far", "farther"].map(|name| {
        let member = pair.connect(v5(name));
        pair.subscribe(member, &[("$share/g/a", 1)]);
        member
    });
    for n in 1..=9 {
        pair.publish(alice, "a", &n.to_string(), 1, n);
    }
    let near_got = pair.work_off(near).len();
    let (far_got, farther_got) = (pair.work_off(far).len(), pair.work_off(farther).len());
    assert_eq!((near_got, far_got + farther_got), (3, 6));
    pair.unsubscribe(near, &["$share/g/a"]);
    pair.publish(alice, "a", "x", 1, 10);
    assert_eq!(pair.work_off(far).len() + pair.work_off(farther).len(), 1);
}

#[test]
fn a_member_that_is_away_gets_nothing_while_the_other_broker_has_one_that_is_there() {
    for [away, there] in [["far", "near"], ["near", "far"]] {
        let mut pair = joined(&["far"]);
        let alice = pair.connect(v5("alice"));
        let [away, there] = [away, there].map(|name| {
            let member = pair.connect(v5(name).lasting(100));
            pair.subscribe(member, &[("$share/g/a", 1)]);
            member
        });
        pair.publish(alice, "a", "1", 1, 1);
        pair.publish(alice, "a", "2", 1, 2);
        assert_eq!([pair.work_off(away).len(), pair.work_off(there).len()], [1, 1]);
        pair.cut(away);
        for n in 3..=6 {
            pair.publish(alice, "a", &n.to_string(), 1, n);
        }
        assert_eq!(pair.work_off(there).len(), 4);
    }
}

#[test]
fn a_broker_has_as_many_turns_as_connected_members() {
    let mut pair = joined(&["far", "farther", "farthest"]);
    let alice = pair.connect(v5("alice"));
    let [near, far, farther, farthest] = ["near", "far", "farther", "farthest"].map(|name| {
        let member = pair.connect(v5(name).lasting(100));
        pair.subscribe(member, &[("$share/g/a", 1)]);
        member
    });
    pair.cut(farther);
    pair.cut(farthest);
    for n in 1..=6 {
        pair.publish(alice, "a", &n.to_string(), 1, n);
    }
    assert_eq!([near, far].map(|member| pair.work_off(member).len()), [3, 3]);
}

/// Its subscriptions go in several calls, it goes in one.
#[test]
fn a_member_that_ends_with_very_many_subscriptions_is_not_there_any_more() {
    let mut world = World::with(|config| config.announce_interest = true);
    let local = world.broker.open_local(world.now, "house", 1.try_into().unwrap()).unwrap();
    for n in 0..5_000 {
        let text = format!("$share/g/{n}");
        world.broker.local_subscribe(world.now, local, filter(&text), SubscriptionOptions::default(), None);
    }
    world.audit();
    world.broker.close_local(world.now, local);
    assert!(world.broker.poll_timeout().is_some(), "some subscriptions are left");
    world.audit();
    world.settle();
    world.audit();
}

#[test]
fn a_group_whose_members_are_all_away_keeps_each_message_for_one_of_them() {
    let mut pair = joined(&["far", "farther"]);
    let alice = pair.connect(v5("alice"));
    for name in ["far", "farther"] {
        let member = pair.connect(v5(name).lasting(100));
        pair.subscribe(member, &[("$share/g/a", 1)]);
        pair.cut(member);
    }
    pair.publish(alice, "a", "x", 1, 1);
    assert_eq!(pair.received(alice), ["PUBACK #1"]);
    let queued = ["far", "farther"].map(|name| pair.session(name).unwrap().queued);
    assert_eq!(queued.into_iter().map(u64::from).sum::<u64>(), 1);
}

/// What was queued for a member moves to the other broker when its connection ends, if somebody is there.
#[test]
fn what_was_never_sent_moves_to_a_member_of_the_other_broker() {
    let mut pair = joined(&["far"]);
    let alice = pair.connect(v5("alice"));
    let far = pair.connect(As { receive_maximum: Some(1), ..v5("far").lasting(100) });
    pair.subscribe(far, &[("$share/g/a", 1)]);
    for n in 1..=3 {
        pair.publish(alice, "a", &n.to_string(), 1, n);
    }
    let near = pair.connect(v5("near").lasting(100));
    pair.subscribe(near, &[("$share/g/a", 1)]);
    pair.cut(near);
    pair.cut(far);
    assert_eq!(pair.session("far").unwrap().queued, 2, "nobody else is there");
    let far = pair.connect(As { receive_maximum: Some(1), ..v5("far").lasting(100) });
    let near = pair.connect(v5("near").lasting(100));
    pair.cut(far);
    assert_eq!(pair.received(near), ["PUBLISH q1 #1 a=2", "PUBLISH q1 #2 a=3"]);
}

/// Of another broker's members it is known whether they are connected, not whether they have room.
#[test]
fn a_member_without_room_keeps_its_share_of_what_the_other_broker_forwards() {
    let mut pair = joined(&["slow"]);
    let alice = pair.connect(v5("alice"));
    let slow = pair.connect(As { receive_maximum: Some(1), ..v5("slow") });
    let near = pair.connect(v5("near"));
    for member in [slow, near] {
        pair.subscribe(member, &[("$share/g/a", 1)]);
    }
    for n in 1..=6 {
        pair.publish(alice, "a", &n.to_string(), 1, n);
    }
    assert_eq!(pair.received(near).len(), 3);
    assert_eq!(pair.session("slow").unwrap().queued, 2);
    assert_eq!(pair.work_off(slow).len(), 3);
}

#[test]
fn a_message_on_its_way_to_a_member_that_left_goes_back_to_the_group() {
    for unsubscribes in [true, false] {
        let mut pair = joined(&["far"]);
        let [alice, near] = ["alice", "near"].map(|name| pair.connect(v5(name)));
        let far = pair.connect(v5("far").lasting(100));
        for member in [near, far] {
            pair.subscribe(member, &[("$share/g/a", 1)]);
        }
        pair.holds_forwards = true;
        pair.publish(alice, "a", "1", 1, 1);
        pair.publish(alice, "a", "2", 1, 2);
        if unsubscribes {
            pair.unsubscribe(far, &["$share/g/a"]);
        } else {
            pair.cut(far);
        }
        assert_eq!(pair.work_off(near), ["PUBLISH q1 #1 a=1"], "the other one is on its way");
        pair.carry_all();
        assert_eq!(pair.work_off(near), ["PUBLISH q1 #2 a=2"], "unsubscribes: {unsubscribes}");
    }
}

#[test]
fn a_broker_that_joins_late_is_told_what_there_is_and_one_that_left_gets_nothing() {
    let mut world = World::with(|config| config.announce_interest = true);
    let [bob, carol] = ["bob", "carol"].map(|name| world.connect(v5(name).lasting(100)));
    for client in [bob, carol] {
        world.subscribe(client, &[("a", 0), ("$share/g/b", 0)]);
    }
    world.cut(carol);
    world.forwarded.clear();
    world.broker.handle_shard_joined(world.now, ShardId(7));
    world.settle();
    let told: Vec<_> = world
        .forwarded
        .drain(..)
        .map(|(_, output)| match output {
            Output::Interest { to: Some(ShardId(7)), interest: Interest { filter, members, connected } } => {
                (filter.into_string(), members, connected)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [("$share/g/b".into(), 2, 1), ("a".into(), 1, 0)]);

    let interest = Interest { filter: "c".into(), members: 1, connected: 0 };
    world.broker.handle_interest(world.now, ShardId(7), &interest);
    world.broker.handle_shard_left(world.now, ShardId(7), &[interest]);
    world.publish(bob, "c", "x", 1, 1);
    assert_eq!(world.received(bob), ["PUBACK #1 10"]);
    assert!(world.forwarded.is_empty());
}

#[test]
fn announce_interest_is_off_by_default() {
    let mut world = World::new();
    let bob = world.connect(As { ..v5("bob") });
    world.subscribe(bob, &[("a", 0)]);
    assert!(world.forwarded.is_empty());
}

/// One thing three clients do; the second of them is at the other broker.
#[derive(Clone, Debug)]
enum Step {
    Publish { who: usize, name: usize, qos: u8, retain: bool },
    Subscribe { who: usize, filter: usize, qos: u8, no_local: bool, retain_as_published: bool },
    Unsubscribe { who: usize, filter: usize },
    Return(usize),
}

const NAMES: [&str; 4] = ["a", "a/b", "a/b/c", "$x/a"];
const FILTERS: [&str; 6] = ["#", "a/+", "a/b", "+/b/#", "$x/#", "$share/g/a/b"];
const CLIENTS: [&str; 3] = ["ann", "ben", "cleo"];

fn step() -> impl Strategy<Value = Step> {
    let who = 0..CLIENTS.len();
    prop_oneof![
        5 => (who.clone(), 0..NAMES.len(), 0..3_u8, any::<bool>())
            .prop_map(|(who, name, qos, retain)| Step::Publish { who, name, qos, retain }),
        4 => (who.clone(), 0..FILTERS.len(), 0..3_u8, any::<bool>(), any::<bool>()).prop_map(
            |(who, filter, qos, no_local, retain_as_published)| {
                Step::Subscribe { who, filter, qos, no_local, retain_as_published }
            }
        ),
        2 => (who.clone(), 0..FILTERS.len()).prop_map(|(who, filter)| Step::Unsubscribe { who, filter }),
        1 => who.prop_map(Step::Return),
    ]
}

/// Performs a step for a client of a world.
fn play<const JOINED: bool>(world: &mut AnyWorld<JOINED>, links: &mut [Client], step: &Step, id: u16) {
    let (Step::Publish { who, .. } | Step::Subscribe { who, .. } | Step::Unsubscribe { who, .. } | Step::Return(who)) =
        step;
    let link = links[*who];
    match step {
        Step::Publish { name, qos, retain, .. } => {
            world.publish_with(link, NAMES[*name], &id.to_string(), delivery(*qos, id, false), *retain, &[]);
            world.ack(link, AckType::Pubrel, id);
        }
        Step::Subscribe { filter, qos: level, no_local, retain_as_published, .. } => {
            // Members of one group ask for the same, because who gets a message is the brokers' choice.
            let is_shared = FILTERS[*filter].starts_with("$share");
            let options = SubscriptionOptions {
                qos: qos(if is_shared { 1 } else { *level }),
                no_local: *no_local && !is_shared,
                retain_as_published: *retain_as_published && !is_shared,
                ..SubscriptionOptions::default()
            };
            world.subscribe_with(link, &[(FILTERS[*filter], options)], &[]);
        }
        Step::Unsubscribe { filter, .. } => world.unsubscribe(link, &[FILTERS[*filter]]),
        Step::Return(_) => {
            world.cut(link);
            links[*who] = world.connect(v5(CLIENTS[*who]).lasting(100));
        }
    }
}

/// Deliveries of a client without what the brokers may choose: identifiers, and who of a group gets a message.
fn deliveries(who: usize, lines: &[String]) -> Vec<String> {
    let words = |line: &String| line.split(' ').filter(|word| !word.starts_with('#')).collect::<Vec<_>>().join(" ");
    let with_client = |line: String| if line.contains(" a/b=") { line } else { format!("{who} {line}") };
    lines.iter().map(words).map(with_client).collect()
}

fn all_deliveries<const JOINED: bool>(world: &mut AnyWorld<JOINED>, links: &[Client]) -> Vec<String> {
    let by_who = links.iter().enumerate().flat_map(|(who, client)| deliveries(who, &world.work_off(*client)));
    let mut all: Vec<_> = by_who.collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn two_joined_brokers_deliver_what_one_does(steps in proptest::collection::vec(step(), 1..50)) {
        let mut one = World::new();
        let mut pair = AnyWorld::<true>::new();
        let mut of_one: Vec<_> = CLIENTS.iter().map(|name| one.connect(v5(name).lasting(100))).collect();
        let mut of_pair: Vec<_> = CLIENTS.iter().map(|name| pair.connect(v5(name).lasting(100))).collect();
        for (id, step) in (1..).zip(&steps) {
            play(&mut one, &mut of_one, step, id);
            play(&mut pair, &mut of_pair, step, id);
            prop_assert_eq!(all_deliveries(&mut one, &of_one), all_deliveries(&mut pair, &of_pair), "after {:?}", step);
        }
    }
}

/// A broker that others joined, and a client of its.
fn joined_by(shards: &[u16]) -> (World, Client) {
    let mut world = World::with(|config| config.announce_interest = true);
    for shard in shards {
        world.broker.handle_shard_joined(world.now, ShardId(*shard));
    }
    let alice = world.connect(v5("alice"));
    (world, alice)
}

fn interest(text: &str) -> Interest {
    Interest { filter: text.into(), members: 1, connected: 1 }
}

/// To whom messages were forwarded, with their topics, and whether they are to be retained and delivered.
fn forwarded(world: &mut World) -> Vec<(ShardId, String, bool, bool)> {
    let outputs = std::mem::take(&mut world.forwarded);
    let forwards = outputs.into_iter().filter_map(|(_, output)| match output {
        Output::Forward { to, forward } => {
            Some((to, forward.message.topic().as_str().to_owned(), forward.retain, forward.deliver))
        }
        _ => None,
    });
    forwards.collect()
}

#[test]
fn a_broker_that_left_gets_nothing_more_and_the_others_what_they_asked_for() {
    let (mut world, alice) = joined_by(&[7, 8]);
    for (shard, text) in [(7, "c"), (7, "$share/g/s"), (8, "c"), (8, "d")] {
        world.broker.handle_interest(world.now, ShardId(shard), &interest(text));
    }
    world.broker.handle_shard_left(world.now, ShardId(7), &[interest("c"), interest("$share/g/s")]);
    for (id, name) in [(1, "c"), (2, "s"), (3, "d")] {
        world.publish(alice, name, "x", 1, id);
    }
    assert_eq!(world.received(alice), ["PUBACK #1", "PUBACK #2 10", "PUBACK #3"]);
    let to = |name: &str| (ShardId(8), name.to_owned(), false, true);
    assert_eq!(forwarded(&mut world), [to("c"), to("d")]);
}

#[test]
fn a_retained_message_goes_to_every_broker_and_counts_where_somebody_has_subscribed() {
    let (mut world, alice) = joined_by(&[7]);
    world.publish_with(alice, "a", "x", delivery(1, 1, false), true, &[]);
    assert_eq!(world.received(alice), ["PUBACK #1 10"]);
    assert_eq!(forwarded(&mut world), [(ShardId(7), "a".to_owned(), true, true)]);
    // What expired while it waited for its commit takes the place of the one before it, and is delivered to nobody.
    world.holds_commits = true;
    let expiry = [damselfly_codec::Property::MessageExpiryInterval(2)];
    world.publish_with(alice, "a", "y", delivery(2, 2, false), true, &expiry);
    world.pass_secs(3);
    world.commit();
    assert_eq!(forwarded(&mut world), [(ShardId(7), "a".to_owned(), true, false)]);
}

#[test]
fn a_forwarded_message_needs_no_memory_while_its_receiver_keeps_up() {
    let mut world = World::with(|config| {
        config.announce_interest = true;
        config.max_memory = beside(1, 20_000);
    });
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("a", 0)]);
    for n in 0..40 {
        world.retain(bob, &format!("r/{n}"), &"x".repeat(1_000));
    }
    assert!(world.broker.is_out_of_memory());
    world.received(bob);
    world.broker.handle_forward(
        world.now,
        &Forward {
            message: Message::compose(topic("a"), b"x", qos(0), false, Properties::EMPTY, world.now),
            shared_filter: None,
            retain: false,
            deliver: true,
        },
    );
    world.settle();
    assert_eq!(world.received(bob), ["PUBLISH q0 a=x"]);
}

#[test]
fn the_others_are_told_of_each_member_that_comes_or_goes_and_of_nothing_else() {
    let (mut world, _) = joined_by(&[]);
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("#", 0), ("$share/g/a", 1), ("$share/g/b", 1), ("z", 0)]);
    world.forwarded.clear();
    let told = |world: &mut World| {
        let outputs = std::mem::take(&mut world.forwarded);
        let told = outputs.into_iter().map(|(_, output)| match output {
            Output::Interest { to: None, interest } => {
                (interest.filter.into_string(), interest.members, interest.connected)
            }
            other => panic!("{other:?}"),
        });
        told.collect::<Vec<_>>()
    };
    world.cut(bob);
    assert_eq!(told(&mut world), [("$share/g/a".to_owned(), 1, 0), ("$share/g/b".to_owned(), 1, 0)]);
    world.connect(v5("bob").lasting(100));
    assert_eq!(told(&mut world), [("$share/g/a".to_owned(), 1, 1), ("$share/g/b".to_owned(), 1, 1)]);
}

#[test]
fn what_is_done_for_other_brokers_counts_as_steps() {
    let (mut world, _) = joined_by(&[]);
    let bob = world.connect(v5("bob").lasting(100));
    for n in 0..200 {
        world.subscribe(bob, &[(&format!("$share/g/{n}"), 0)]);
    }
    world.cut(bob);
    let before = world.broker.counters().most_steps;
    assert!((200..300).contains(&before), "{before} to say of each member that it left");

    // A message of another broker takes as many as one of our own.
    let most_steps = |is_forwarded: bool| {
        let (mut world, _) = joined_by(&[]);
        let alice = world.broker.open_local(world.now, "local", 1.try_into().unwrap()).unwrap();
        for n in 0..100 {
            let local = world.broker.open_local(world.now, &format!("bob {n}"), 1.try_into().unwrap()).unwrap();
            world.broker.local_subscribe(world.now, local, filter("a"), SubscriptionOptions::default(), None);
        }
        let message = Message::compose(topic("a"), b"x", qos(0), false, Properties::EMPTY, world.now);
        if is_forwarded {
            let forward = Forward { message, shared_filter: None, retain: false, deliver: true };
            world.broker.handle_forward(world.now, &forward);
        } else {
            let _published = world.broker.local_publish(world.now, alice, message);
        }
        world.settle();
        assert_eq!(world.delivered.len(), 100);
        world.broker.counters().most_steps
    };
    assert_eq!(most_steps(true), most_steps(false));
}

#[test]
fn all_members_of_this_broker_have_their_turns_beside_one_elsewhere() {
    let mut pair = joined(&["far"]);
    pair.put(0, &["nearer"]);
    let alice = pair.connect(v5("alice"));
    let members = ["near", "nearer", "far"].map(|name| {
        let member = pair.connect(v5(name));
        pair.subscribe(member, &[("$share/g/a", 1)]);
        member
    });
    assert_eq!(members.map(|member| member.at), [0, 0, 1]);
    for n in 1..=9 {
        pair.publish(alice, "a", &n.to_string(), 1, n);
    }
    assert_eq!(members.map(|member| pair.work_off(member).len()), [3, 3, 3]);
}
