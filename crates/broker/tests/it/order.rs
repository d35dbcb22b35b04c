//! The order of effects: any two things a client may ask for, whatever each waits for, in whatever order it comes.
//! Acknowledgements of one type leave in the order of arrival, none before its commit, and none is forgotten.

use std::sync::Arc;

use damselfly_broker::{Access, Action, Answer, Grant, Permission, ProblemInformation};
use damselfly_codec::{AckType, ReasonCode, SubscriptionOptions};

use super::world::{Client, World, v5};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Qos1,
    Qos1Asked,
    Qos2,
    Qos2Asked,
    Pubrel,
    Subscribe,
    SubscribeAsked,
    Unsubscribe,
}

const KINDS: [Kind; 8] = [
    Kind::Qos1,
    Kind::Qos1Asked,
    Kind::Qos2,
    Kind::Qos2Asked,
    Kind::Pubrel,
    Kind::Subscribe,
    Kind::SubscribeAsked,
    Kind::Unsubscribe,
];

impl Kind {
    fn is_asked(self) -> bool {
        matches!(self, Self::Qos1Asked | Self::Qos2Asked | Self::SubscribeAsked)
    }

    fn ask(self, world: &mut World, client: Client, id: u16) {
        match self {
            Self::Qos1 => world.publish(client, "free", "x", 1, id),
            Self::Qos1Asked => world.publish(client, "asked", "x", 1, id),
            Self::Qos2 => world.publish(client, "free", "x", 2, id),
            Self::Qos2Asked => world.publish(client, "asked", "x", 2, id),
            Self::Pubrel => world.ack(client, AckType::Pubrel, id + 100),
            Self::Subscribe => world.subscribe_with(client, &[("free", SubscriptionOptions::default())], &[]),
            Self::SubscribeAsked => world.subscribe_with(client, &[("asked", SubscriptionOptions::default())], &[]),
            Self::Unsubscribe => world.unsubscribe(client, &["none"]),
        }
    }

    /// The type of the answer, with its identifier where that tells two of them apart.
    fn answered_by(self, id: u16) -> String {
        match self {
            Self::Qos1 | Self::Qos1Asked => format!("PUBACK #{id}"),
            Self::Qos2 | Self::Qos2Asked => format!("PUBREC #{id}"),
            Self::Pubrel => format!("PUBCOMP #{}", id + 100),
            Self::Subscribe | Self::SubscribeAsked => "SUBACK #999".into(),
            Self::Unsubscribe => "UNSUBACK #998".into(),
        }
    }
}

/// A client whose questions and commits are held, with two QoS 2 exchanges that wait for their PUBREL.
fn prepared() -> (World, Client) {
    let mut world = World::new();
    world.holds_questions = true;
    let client = world.begin(v5("client").lasting(1_000));
    let mut grant = Grant::default();
    let access = Access::new(Permission::Allow).rule(Action::Any, "asked", Permission::Ask).unwrap();
    grant.access = Some(Arc::new(access));
    world.answer(Answer::Allow(grant));
    world.publish(client, "free", "x", 2, 101);
    world.publish(client, "free", "x", 2, 102);
    world.received(client);
    world.holds_commits = true;
    (world, client)
}

/// What sets something free.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The answer to the question asked first or second.
    Answer(usize),
    /// Whatever waits for a commit gets it.
    Commit,
}

fn orders(questions: usize) -> Vec<Vec<Event>> {
    use Event::{Answer, Commit};
    match questions {
        0 => vec![vec![Commit]],
        1 => vec![vec![Answer(0), Commit], vec![Commit, Answer(0), Commit]],
        _ => vec![
            vec![Answer(0), Answer(0), Commit],
            vec![Answer(1), Answer(0), Commit],
            vec![Answer(0), Commit, Answer(0), Commit],
            vec![Answer(1), Commit, Answer(0), Commit],
            vec![Commit, Answer(1), Commit, Answer(0), Commit],
        ],
    }
}

fn apply(world: &mut World, event: Event) {
    match event {
        Event::Answer(at) => {
            world.answer_at(at, Answer::allow(), ProblemInformation::new());
        }
        Event::Commit => {
            // An answer may have opened the next group.
            while !world.commits.is_empty() {
                world.commit();
            }
        }
    }
}

fn find(seen: &[String], kind: Kind, id: u16, nth: usize) -> Option<usize> {
    let prefix = kind.answered_by(id);
    let is_it = |line: &String| line.split(' ').take(2).eq(prefix.split(' '));
    seen.iter().enumerate().filter(|(_, line)| is_it(line)).map(|(at, _)| at).nth(nth)
}

#[test]
fn any_two_requests_are_answered_in_order_whatever_sets_them_free_first() {
    for first in KINDS {
        for second in KINDS {
            let questions = usize::from(first.is_asked()) + usize::from(second.is_asked());
            for order in orders(questions) {
                let (mut world, client) = prepared();
                first.ask(&mut world, client, 1);
                second.ask(&mut world, client, 2);
                let early: Vec<_> =
                    world.received(client).into_iter().filter(|line| !line.starts_with("PUBLISH")).collect();
                assert!(early.is_empty(), "{first:?} {second:?}: answered before its commit");
                let mut seen = Vec::new();
                for event in &order {
                    apply(&mut world, *event);
                    seen.extend(world.received(client).into_iter().filter(|line| !line.starts_with("PUBLISH")));
                }
                let case = format!("{first:?}, {second:?}, {order:?}: {seen:?}");
                let is_same_line = first.answered_by(1) == second.answered_by(2);
                let one = find(&seen, first, 1, 0);
                let two = find(&seen, second, 2, usize::from(is_same_line));
                assert!(one.is_some() && two.is_some(), "an answer is missing: {case}");
                let is_same_type = first.answered_by(0).split(' ').next() == second.answered_by(0).split(' ').next();
                assert!(!is_same_type || one < two, "out of order: {case}");
                assert_eq!(seen.len(), 2, "{case}");
                assert_eq!((world.broker.questions_len(), world.broker.commits_waiting()), (0, 0), "{case}");
            }
        }
    }
}

#[test]
fn a_takeover_at_any_moment_cancels_answers_and_keeps_what_is_committed() {
    for first in KINDS {
        for second in KINDS {
            let questions = usize::from(first.is_asked()) + usize::from(second.is_asked());
            for order in orders(questions) {
                for moment in 0..=order.len() {
                    let (mut world, client) = prepared();
                    first.ask(&mut world, client, 1);
                    second.ask(&mut world, client, 2);
                    for event in &order[..moment] {
                        apply(&mut world, *event);
                    }
                    let case = format!("{first:?}, {second:?}, {order:?} up to {moment}");
                    world.received(client);
                    world.questions.clear();
                    world.holds_questions = false;
                    let heir = world.begin(v5("client").lasting(1_000));
                    apply(&mut world, Event::Commit);
                    assert_eq!(world.received(client), ["DISCONNECT 8E"], "{case}");
                    assert!(world.is_closed(client), "{case}");
                    let seen = world.received(heir);
                    assert!(seen[0].starts_with("CONNACK 00 present"), "{case}: {seen:?}");
                    assert_eq!(world.broker.questions_len(), 0, "{case}");

                    // The client repeats what it was not answered, and gets its answer now.
                    for (kind, id) in [(first, 1), (second, 2)] {
                        if matches!(kind, Kind::Qos2 | Kind::Qos2Asked) {
                            let name = if kind == Kind::Qos2 { "free" } else { "asked" };
                            let repeat = super::world::delivery(2, id, true);
                            world.publish_with(heir, name, "x", repeat, false, &[]);
                            apply(&mut world, Event::Commit);
                            let seen = world.received(heir).concat();
                            assert!(seen.contains(&kind.answered_by(id)), "{case}: {seen:?}");
                        }
                    }
                    assert_eq!(world.broker.commits_waiting(), 0, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_qos_2_message_has_its_effect_once_however_a_takeover_falls() {
    for asked in [false, true] {
        for moment in 0..3 {
            let (mut world, client) = prepared();
            world.holds_commits = false;
            world.holds_questions = false;
            let bob = world.connect(v5("bob"));
            world.subscribe(bob, &[("#", 0)]);
            world.holds_commits = true;
            world.holds_questions = true;
            let name = if asked { "asked" } else { "free" };
            world.publish(client, name, "once", 2, 1);
            if asked && moment > 0 {
                apply(&mut world, Event::Answer(0));
            }
            if moment > 1 {
                apply(&mut world, Event::Commit);
            }
            world.questions.clear();
            world.holds_questions = false;
            let heir = world.begin(v5("client").lasting(1_000));
            apply(&mut world, Event::Commit);
            world.publish_with(heir, name, "once", super::world::delivery(2, 1, true), false, &[]);
            apply(&mut world, Event::Commit);
            world.ack_with(heir, AckType::Pubrel, 1, ReasonCode::Success);
            apply(&mut world, Event::Commit);
            assert!(world.received(heir).concat().contains("PUBCOMP #1"));
            let count = world.received(bob).len();
            assert_eq!(count, 1, "asked {asked}, moment {moment}");
        }
    }
}
