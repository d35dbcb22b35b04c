//! Whatever clients send, in whatever order: the broker answers, others go on, and nothing is left in the end.

use std::time::Duration;

use damselfly_broker::{Access, Action, Answer, Event, Grant, LocalId, Permission, Why};
use damselfly_codec::{AckType, Packet, Properties, Property, ReasonCode, SubscriptionId, SubscriptionOptions};
use damselfly_session::Message;
use proptest::prelude::*;

use crate::world::{As, Client, World, beside, delivery, filter, qos, topic, v3, v5};

const NAMES: [&str; 4] = ["a", "a/b", "a/b/c", "$x"];
const FILTERS: [&str; 6] = ["#", "a/+", "a/b", "$share/g/a/#", "$share/g/#", "+/b/#"];
const IDS: [&str; 3] = ["ann", "ben", "cleo"];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Connect { who: usize, version5: bool, lasting: bool, window: u16, will: u8 },
    Cut(usize),
    Disconnect(usize),
    Publish { who: usize, name: usize, qos: u8, id: u16, retain: bool, expiry: bool, dup: bool },
    Subscribe { who: usize, filter: usize, qos: u8, no_local: bool, id: u32 },
    Unsubscribe { who: usize, filter: usize },
    Ack { who: usize, kind: usize, id: u16, refuse: bool },
    WorkOff(usize),
    Ping(usize),
    Bytes { who: usize, bytes: Vec<u8> },
    Pass(u64),
    HoldCommits(bool),
    Answer(bool),
    Rules { who: usize, filter: usize, asks: bool },
    Remove(usize),
    Stall(bool),
    LocalAck,
    LocalPublish(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..IDS.len();
    prop_oneof![
        4 => (who.clone(), any::<bool>(), any::<bool>(), 1..4_u16, 0..4_u8)
            .prop_map(|(who, version5, lasting, window, will)| Step::Connect { who, version5, lasting, window, will }),
        2 => who.clone().prop_map(Step::Cut),
        1 => who.clone().prop_map(Step::Disconnect),
        8 => (who.clone(), 0..NAMES.len(), 0..3_u8, 1..5_u16, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(who, name, qos, id, retain, expiry, dup)| {
                Step::Publish { who, name, qos, id, retain, expiry, dup }
            }),
        4 => (who.clone(), 0..FILTERS.len(), 0..3_u8, any::<bool>(), 0..3_u32)
            .prop_map(|(who, filter, qos, no_local, id)| Step::Subscribe { who, filter, qos, no_local, id }),
        2 => (who.clone(), 0..FILTERS.len()).prop_map(|(who, filter)| Step::Unsubscribe { who, filter }),
        4 => (who.clone(), 0..4_usize, 1..5_u16, any::<bool>())
            .prop_map(|(who, kind, id, refuse)| Step::Ack { who, kind, id, refuse }),
        3 => who.clone().prop_map(Step::WorkOff),
        1 => who.clone().prop_map(Step::Ping),
        1 => who.clone().prop_map(Step::Remove),
        1 => (who.clone(), 0..=FILTERS.len(), any::<bool>())
            .prop_map(|(who, filter, asks)| Step::Rules { who, filter, asks }),
        2 => any::<bool>().prop_map(Step::Stall),
        2 => Just(Step::LocalAck),
        1 => any::<u8>().prop_map(Step::LocalPublish),
        1 => (who, proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(who, bytes)| Step::Bytes { who, bytes }),
        2 => (0..8_u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::HoldCommits),
        2 => any::<bool>().prop_map(Step::Answer),
    ]
}

struct Players {
    world: World,
    links: [Option<Client>; 3],
    /// A local participant that is subscribed to everything.
    local: LocalId,
    asks: bool,
}

impl Players {
    /// Of a broker that asks and whose limits are small, or not.
    fn new(asks: bool, small: bool, steps_per_call: u32) -> Self {
        let mut world = World::with(|config| {
            config.steps_per_call = steps_per_call;
            if small {
                config.max_queued_messages = 3;
                config.max_inflight = 2;
                config.receive_maximum = 3;
                config.max_memory = beside(8, 700);
                config.max_transmit_bytes = 60;
                config.max_subscriptions = 4;
                config.max_retained_messages = 2;
            }
        });
        world.holds_questions = asks;
        let local = world.broker.open_local(world.now, "local", 2.try_into().unwrap()).unwrap();
        let options = SubscriptionOptions { qos: qos(2), ..SubscriptionOptions::default() };
        world.broker.local_subscribe(world.now, local, filter("#"), options, None);
        Self { world, links: [None; 3], local, asks }
    }

    fn link(&self, who: usize) -> Option<Client> {
        self.links[who].filter(|link| !self.world.is_closed(*link))
    }

    fn play(&mut self, step: &Step) {
        let world = &mut self.world;
        match *step {
            Step::Connect { who, version5, lasting, window, will } => {
                let client = if version5 { v5(IDS[who]) } else { v3(IDS[who]) };
                let client = if lasting { client.lasting(5) } else { client };
                let delay = if version5 { u32::from(will) } else { 0 };
                let will = (will > 0).then(|| ("a/b", "will", will - 1, will == 2, delay));
                let receive_maximum = version5.then_some(window);
                // Where there is no memory for it, the connection of before goes on.
                if let Ok(link) = world.try_begin(As { receive_maximum, will, ..client }) {
                    self.links[who] = Some(link);
                }
            }
            Step::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
            Step::HoldCommits(holds) => {
                world.holds_commits = holds;
                if !holds {
                    world.commit();
                }
            }
            Step::Answer(yes) => self.answer(yes),
            Step::Remove(who) => {
                world.broker.remove_session(world.now, IDS[who]);
                world.settle();
            }
            Step::Rules { who, filter, asks } => self.give_rules(IDS[who], FILTERS.get(filter).copied(), asks),
            Step::Stall(true) => world.is_stalled = true,
            Step::Stall(false) => world.unstall(),
            Step::LocalAck => {
                let token = world.delivered.iter_mut().find_map(|(_, delivery)| delivery.token.take());
                if let Some(token) = token {
                    world.broker.local_acknowledge(world.now, token);
                    world.settle();
                }
            }
            Step::LocalPublish(level) => {
                let message = Message::compose(topic("a/b"), b"x", qos(level % 3), false, Properties::EMPTY, world.now);
                let _published = world.broker.local_publish(world.now, self.local, message);
                world.settle();
            }
            Step::Cut(who)
            | Step::Disconnect(who)
            | Step::WorkOff(who)
            | Step::Ping(who)
            | Step::Publish { who, .. }
            | Step::Subscribe { who, .. }
            | Step::Unsubscribe { who, .. }
            | Step::Ack { who, .. }
            | Step::Bytes { who, .. } => {
                if let Some(link) = self.link(who) {
                    self.act(link, step);
                }
            }
        }
    }

    fn answer(&mut self, yes: bool) {
        if self.world.questions.is_empty() {
            return;
        }
        let mut grant = Grant::default();
        if self.asks {
            let access = Access::new(Permission::Allow)
                .rule(Action::Publish, "a/b", Permission::Ask)
                .unwrap()
                .rule(Action::Subscribe, "a/+", Permission::Ask)
                .unwrap();
            grant.access = Some(std::sync::Arc::new(access));
        }
        self.world.answer(if yes { Answer::Allow(grant) } else { Answer::Deny(ReasonCode::NotAuthorized) });
    }

    /// Other rules for a client: all but one filter, or everything.
    fn give_rules(&mut self, who: &str, but: Option<&str>, asks: bool) {
        let world = &mut self.world;
        let permission = if asks { Permission::Ask } else { Permission::Deny };
        let access = but.map(|but| Access::new(Permission::Allow).rule(Action::Any, but, permission).unwrap());
        world.broker.set_access(world.now, who, access.clone().map(std::sync::Arc::new));
        if let Some(access) = access {
            let denied = |text: &str| access.subscribe(filter(text)) == Permission::Deny;
            assert!(world.broker.subscriptions(who).all(|view| !denied(view.filter)));
        }
        world.settle();
    }

    fn act(&mut self, link: Client, step: &Step) {
        let world = &mut self.world;
        let is_v5 = world.speaks_v5(link);
        match step {
            Step::Cut(_) => world.cut(link),
            Step::Disconnect(_) => world.disconnect(link, ReasonCode::Success, &[]),
            Step::Publish { name, qos, id, retain, expiry, dup, .. } => {
                let list = if is_v5 && *expiry { &[Property::MessageExpiryInterval(2)][..] } else { &[] };
                let delivery = delivery(*qos, *id, *dup && *qos > 0);
                world.publish_with(link, NAMES[*name], "x", delivery, *retain, list);
            }
            Step::Subscribe { filter, qos: level, no_local, id, .. } => {
                let no_local = *no_local && is_v5 && !FILTERS[*filter].starts_with("$share");
                let options = SubscriptionOptions { qos: qos(*level), no_local, ..SubscriptionOptions::default() };
                let id = SubscriptionId::new(*id).filter(|_| is_v5).map(Property::SubscriptionIdentifier);
                world.subscribe_with(link, &[(FILTERS[*filter], options)], id.as_slice());
            }
            Step::Unsubscribe { filter, .. } => world.unsubscribe(link, &[FILTERS[*filter]]),
            Step::Ack { kind, id, refuse, .. } => {
                let kind = [AckType::Puback, AckType::Pubrec, AckType::Pubrel, AckType::Pubcomp][*kind];
                let may_refuse = is_v5 && matches!(kind, AckType::Puback | AckType::Pubrec);
                let code = if *refuse && may_refuse { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
                world.ack_with(link, kind, *id, code);
            }
            Step::WorkOff(_) => {
                world.work_off(link);
            }
            Step::Ping(_) => world.send(link, Packet::Pingreq),
            Step::Bytes { bytes, .. } => world.send_bytes(link, bytes),
            Step::Connect { .. }
            | Step::Pass(_)
            | Step::HoldCommits(_)
            | Step::Answer(_)
            | Step::Rules { .. }
            | Step::Remove(_)
            | Step::Stall(_)
            | Step::LocalAck
            | Step::LocalPublish(_) => {}
        }
    }

    /// Everybody leaves, every session ends, retained messages are removed.
    fn leave(mut self) {
        self.world.broker.close_local(self.world.now, self.local);
        self.world.unstall();
        for who in 0..IDS.len() {
            if let Some(link) = self.link(who) {
                self.world.cut(link);
            }
        }
        self.world.holds_commits = false;
        self.world.commit();
        self.world.pass_secs(1_000);
        for name in IDS {
            // 3.1.1 sessions never expire by themselves.
            self.world.broker.remove_session(self.world.now, name);
        }
        self.world.holds_questions = false;
        self.world.settle();
        let ann = self.world.connect(v5("cleaner"));
        for name in NAMES {
            self.world.retain(ann, name, "");
        }
        self.world.cut(ann);
        self.world.assert_empty();
        self.world.audit();
        assert_eq!(self.world.broker.retained_len(), 0);
        assert_eq!(self.world.broker.memory().route_caches, 0);
        assert_eq!(self.world.broker.commits_waiting(), 0);
    }
}

/// Few, unless the environment asks for more.
fn cases() -> u32 {
    if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 150 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn any_history_leaves_nothing_behind(
        steps in proptest::collection::vec(step(), 1..80),
        asks in any::<bool>(),
        small in any::<bool>(),
        steps_per_call in prop_oneof![Just(65_536), 1..60_u32],
    ) {
        let mut players = Players::new(asks, small, steps_per_call);
        for step in &steps {
            players.play(step);
            players.world.audit();
        }
        players.leave();
    }

    #[test]
    fn random_bytes_end_their_connection_or_wait_for_more(bytes in proptest::collection::vec(any::<u8>(), 1..200), cut in 0..200_usize) {
        let mut world = World::new();
        let witness = world.connect(v5("witness"));
        let link = world.open();
        let cut = cut.min(bytes.len());
        world.send_bytes(link, &bytes[..cut]);
        if !world.is_closed(link) {
            world.send_bytes(link, &bytes[cut..]);
        }
        world.pass_secs(60);
        prop_assert!(world.is_closed(link), "no CONNECT came");
        world.send(witness, Packet::Pingreq);
        prop_assert_eq!(world.received(witness), ["PINGRESP"]);
    }
}

#[test]
fn connects_that_nobody_answers_keep_others_out_until_their_questions_end() {
    let mut players = Players::new(true, true, 65_536);
    let connect = |who| Step::Connect { who, version5: true, lasting: false, window: 1, will: 1 };
    let refused = |players: &Players| players.world.broker.counters().connections_refused;
    let mut attempts = 0;
    while refused(&players) == 0 {
        players.play(&connect(attempts % IDS.len()));
        players.world.audit();
        assert_eq!(players.world.broker.connections_len(), attempts + 1 - usize::try_from(refused(&players)).unwrap());
        attempts += 1;
    }
    assert_eq!(attempts, 13, "the last of them was refused");

    players.play(&Step::Pass(9));
    players.play(&connect(0));
    assert_eq!(refused(&players), 2, "a second before the end of the questions");
    players.play(&Step::Pass(1));
    players.play(&connect(0));
    assert_eq!(refused(&players), 2);
    assert_eq!(players.world.broker.connections_len(), 1);
    players.leave();
}

#[test]
fn why_a_bad_client_was_closed_is_reported_once() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    world.send_bytes(bob, b"\xc1\x00\xc1\x00\xc1\x00");
    assert_eq!(world.received(bob), ["DISCONNECT 81"]);
    let reported =
        world.events.iter().filter(|event| matches!(event, Event::Disconnected { why: Why::Malformed(_), .. }));
    assert_eq!(reported.count(), 1);
}
