//! Two brokers joined by interest and forwarding deliver as one.

use damselfly_broker::{Output, ShardId};
use damselfly_codec::{AckType, SubscriptionOptions};
use proptest::prelude::*;

use crate::world::{As, World, delivery, qos, v3, v5};

/// Two brokers; clients are placed by hand.
struct Pair([World; 2]);

impl Pair {
    fn new() -> Self {
        let mut pair = Self([0, 1].map(|_| World::with(|config| config.announce_interest = true)));
        for (at, world) in pair.0.iter_mut().enumerate() {
            world.broker.handle_shard_joined(world.now, ShardId(1 - u16::try_from(at).unwrap()));
        }
        pair
    }

    /// Carries what the brokers have to say to each other.
    fn exchange(&mut self) {
        loop {
            let mut was_quiet = true;
            for at in 0..2 {
                self.0[at].settle();
                let outputs = std::mem::take(&mut self.0[at].forwarded);
                was_quiet &= outputs.is_empty();
                let from = ShardId(u16::try_from(at).unwrap());
                let other = &mut self.0[1 - at];
                for output in outputs {
                    match output {
                        Output::Interest { interest, .. } => other.broker.handle_interest(other.now, from, &interest),
                        Output::Forward { forward, .. } => other.broker.handle_forward(other.now, &forward),
                        other => panic!("not for a shard: {other:?}"),
                    }
                }
                other.settle();
            }
            if was_quiet {
                return;
            }
        }
    }
}

#[test]
fn a_message_reaches_subscribers_of_both_at_each_qos() {
    let mut pair = Pair::new();
    let alice = pair.0[0].connect(v5("alice"));
    let near = pair.0[0].connect(v3("near"));
    let far = pair.0[1].connect(v5("far"));
    pair.0[0].subscribe(near, &[("a/#", 1)]);
    pair.0[1].subscribe(far, &[("a/+", 2), ("a/b", 0)]);
    pair.exchange();
    for level in 0..3 {
        pair.0[0].publish(alice, "a/b", &level.to_string(), level, 1 + u16::from(level));
    }
    pair.0[0].publish(alice, "b", "nobody", 1, 9);
    pair.exchange();
    assert_eq!(pair.0[0].received(alice), ["PUBACK #2", "PUBREC #3", "PUBACK #9 10"]);
    assert_eq!(pair.0[0].work_off(near).len(), 3);
    assert_eq!(
        pair.0[1].work_off(far),
        ["PUBLISH q0 a/b=0", "PUBLISH q1 #1 a/b=1", "PUBLISH q2 #2 a/b=2"],
        "one delivery for overlapping subscriptions"
    );
}

#[test]
fn interest_ends_with_the_last_subscription() {
    let mut pair = Pair::new();
    let alice = pair.0[0].connect(v5("alice"));
    let [far, farther] = ["far", "farther"].map(|name| pair.0[1].connect(v5(name)));
    for client in [far, farther] {
        pair.0[1].subscribe(client, &[("a", 0)]);
    }
    pair.0[1].unsubscribe(far, &["a"]);
    pair.exchange();
    pair.0[0].publish(alice, "a", "x", 1, 1);
    pair.0[1].cut(farther);
    pair.exchange();
    pair.0[0].publish(alice, "a", "x", 1, 2);
    assert_eq!(pair.0[0].received(alice), ["PUBACK #1", "PUBACK #2 10"]);
    assert!(pair.0[0].forwarded.is_empty());
}

#[test]
fn retained_messages_are_known_to_both() {
    let mut pair = Pair::new();
    let alice = pair.0[0].connect(v5("alice"));
    pair.0[0].publish_with(alice, "a", "x", delivery(1, 1, false), true, &[]);
    pair.0[0].retain(alice, "b", "y");
    pair.exchange();
    pair.0[0].retain(alice, "b", "");
    pair.exchange();
    let far = pair.0[1].connect(v5("far"));
    pair.0[1].subscribe(far, &[("#", 1)]);
    assert_eq!(pair.0[1].received(far), ["PUBLISH q1 #1 retain a=x"]);
}

#[test]
fn a_group_with_members_in_both_gets_each_message_once() {
    let mut pair = Pair::new();
    let alice = pair.0[0].connect(v5("alice"));
    let near = pair.0[0].connect(v5("near"));
    let [far, farther] = ["far", "farther"].map(|name| pair.0[1].connect(v5(name)));
    pair.0[0].subscribe(near, &[("$share/g/a", 1)]);
    pair.0[1].subscribe(far, &[("$share/g/a", 1)]);
    pair.0[1].subscribe(farther, &[("$share/g/a", 1)]);
    pair.exchange();
    for n in 1..=9 {
        pair.0[0].publish(alice, "a", &n.to_string(), 1, n);
    }
    pair.exchange();
    let near_got = pair.0[0].work_off(near).len();
    let (far_got, farther_got) = (pair.0[1].work_off(far).len(), pair.0[1].work_off(farther).len());
    assert_eq!((near_got, far_got + farther_got), (3, 6));
    pair.0[0].unsubscribe(near, &["$share/g/a"]);
    pair.0[0].publish(alice, "a", "x", 1, 10);
    pair.exchange();
    assert_eq!(pair.0[1].work_off(far).len() + pair.0[1].work_off(farther).len(), 1);
}

#[test]
fn a_broker_that_joins_late_is_told_what_there_is_and_one_that_left_gets_nothing() {
    let mut world = World::with(|config| config.announce_interest = true);
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("a", 0), ("$share/g/b", 0)]);
    world.forwarded.clear();
    world.broker.handle_shard_joined(world.now, ShardId(7));
    world.settle();
    let told: Vec<_> = world
        .forwarded
        .drain(..)
        .map(|output| match output {
            Output::Interest { to: Some(ShardId(7)), interest } => (interest.filter.into_string(), interest.members),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [("$share/g/b".into(), 1), ("a".into(), 1)]);

    let interest = damselfly_broker::Interest { filter: "c".into(), members: 1 };
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

/// Performs a step for a client of a world, and tells by what it is answered or delivered.
fn play(world: &mut World, links: &mut [damselfly_broker::ConnectionId], place: usize, step: &Step, id: u16) {
    let link = links[place];
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
        Step::Return(who) => {
            world.cut(link);
            links[place] = world.connect(v5(CLIENTS[*who]).lasting(100));
        }
    }
}

/// Deliveries of a client without what the brokers may choose: identifiers, and who of a group gets a message.
fn deliveries(who: usize, lines: &[String]) -> Vec<String> {
    let words = |line: &String| line.split(' ').filter(|word| !word.starts_with('#')).collect::<Vec<_>>().join(" ");
    let with_client = |line: String| if line.contains(" a/b=") { line } else { format!("{who} {line}") };
    lines.iter().map(words).map(with_client).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn two_joined_brokers_deliver_what_one_does(steps in proptest::collection::vec(step(), 1..50)) {
        let mut one = World::new();
        let mut pair = Pair::new();
        let mut alone: Vec<_> = CLIENTS.iter().map(|name| one.connect(v5(name).lasting(100))).collect();
        let mut near = vec![pair.0[0].connect(v5("ann").lasting(100)), pair.0[0].connect(v5("cleo").lasting(100))];
        let mut far = vec![pair.0[1].connect(v5("ben").lasting(100))];
        for (id, step) in (1..).zip(&steps) {
            let (Step::Publish { who, .. } | Step::Subscribe { who, .. } | Step::Unsubscribe { who, .. } | Step::Return(who)) = step;
            play(&mut one, &mut alone, *who, step, id);
            match who {
                1 => play(&mut pair.0[1], &mut far, 0, step, id),
                who => play(&mut pair.0[0], &mut near, who / 2, step, id),
            }
            pair.exchange();
            let mut of_one = Vec::new();
            let mut of_pair = Vec::new();
            for (who, client) in alone.iter().enumerate() {
                of_one.extend(deliveries(who, &one.work_off(*client)));
                let lines = match who {
                    1 => pair.0[1].work_off(far[0]),
                    who => pair.0[0].work_off(near[who / 2]),
                };
                of_pair.extend(deliveries(who, &lines));
            }
            of_one.sort();
            of_pair.sort();
            prop_assert_eq!(of_one, of_pair, "after {:?}", step);
        }
    }
}
