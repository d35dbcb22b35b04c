//! One budget for everything: what stands counts, at the limit and one past it.

use std::time::Duration;

use damselfly_broker::{Answer, Config, Memory, Peer};
use damselfly_codec::{Auth, Packet, Property, ReasonCode, SubscriptionOptions, Version};

use crate::world::{As, Client, World, beside, exactly, properties, qos, v3, v5};

/// A PUBLISH of QoS 0 announced with `length` bytes behind its fixed header, and the first `sent` of these.
fn unfinished(length: usize, sent: usize) -> Vec<u8> {
    let byte = |shift: usize, more: usize| u8::try_from((length >> shift) & 0x7F | more).unwrap();
    let mut bytes = vec![0x30, byte(0, 0x80), byte(7, 0x80), byte(14, 0)];
    // Without properties, should it be of 5.0.
    bytes.extend([0, 1, b'a', 0]);
    bytes.resize(4 + sent, b'x');
    bytes
}

#[test]
fn a_connection_counts_before_it_says_anything() {
    let two = u64::try_from(2 * Memory::PER_CONNECTION).unwrap();
    for (limit, is_refused) in [(two, false), (two - 1, true)] {
        let mut world = World::with(|config| config.max_memory = limit);
        let first = world.open();
        assert_eq!(world.broker.handle_connection(world.now, Peer::default()).is_err(), is_refused);
        assert_eq!(world.broker.counters().connections_refused, u64::from(is_refused));
        world.cut(first);
        world.open();
        world.audit();
    }
}

#[test]
fn a_session_counts_and_one_past_the_budget_is_refused() {
    for (short, answers) in [(0, ["CONNACK 00", "CONNACK 00"]), (1, ["CONNACK 97", "CONNACK 03"])] {
        for (client, answer) in [v5("carol"), v3("carol")].into_iter().zip(answers) {
            let mut world = World::with(|config| config.max_memory = exactly("carol") - short);
            let carol = world.begin(client);
            assert!(world.first(carol).starts_with(answer), "{short} bytes short");
            assert_eq!(world.is_closed(carol), short > 0);
            assert_eq!(world.broker.memory().counted == exactly("carol"), short == 0);
            world.audit();
        }
    }
}

#[test]
fn a_will_counts_while_it_is_kept() {
    let will = "x".repeat(1_000);
    let carol = As { will: Some(("w", &will, 0, false, 0)), ..v5("carol").lasting(100) };
    let mut free = World::new();
    free.connect(carol);
    let needed = free.broker.memory().counted;
    assert!(needed > exactly("carol") + 1_000);
    for (limit, answer) in [(needed, "CONNACK 00"), (needed - 1, "CONNACK 97")] {
        let mut world = World::with(|config| config.max_memory = limit);
        let link = world.begin(carol);
        assert!(world.first(link).starts_with(answer));
    }
    // Replaced by none, published, discarded.
    let next = u64::try_from(Memory::PER_CONNECTION + Memory::PER_SESSION).unwrap();
    let mut world = World::with(|config| config.max_memory = needed + next);
    let first = world.connect(carol);
    world.cut(first);
    assert!(world.broker.memory().counted < 1_000, "published");
    world.connect(carol);
    let second = world.connect(v5("carol").lasting(100));
    assert_eq!(world.broker.memory().counted, exactly("carol"), "taken over without a will");
    world.cut(second);
    let third = world.connect(carol);
    world.disconnect(third, ReasonCode::Success, &[]);
    world.audit();
    assert!(world.broker.memory().counted < 1_000, "discarded");
}

#[test]
fn a_subscription_counts_and_one_past_the_budget_is_refused() {
    let one = u64::try_from(Memory::PER_SUBSCRIPTION + 2 * "a/b/c".len()).unwrap();
    for (short, codes) in [(0, "00 00"), (1, "00 97")] {
        let mut world = World::with(|config| config.max_memory = exactly("bob") + 2 * one - short);
        let bob = world.connect(v5("bob"));
        let options = SubscriptionOptions::default();
        world.subscribe_with(bob, &[("a/b/c", options), ("a/b/d", options)], &[]);
        assert_eq!(world.received(bob), [format!("SUBACK #999 {codes}")]);
        world.unsubscribe(bob, &["a/b/c"]);
        world.received(bob);
        world.subscribe_with(bob, &[("a/b/e", options)], &[]);
        assert_eq!(world.received(bob), ["SUBACK #999 00"], "there is room again");
        world.audit();
        world.cut(bob);
        assert_eq!(world.broker.memory().counted, 0);
    }
}

/// A group of its own takes far more than one subscription more.
#[test]
fn a_shared_subscription_counts_for_its_group_and_one_past_the_budget_is_refused() {
    let one = u64::try_from(Memory::PER_SHARED_SUBSCRIPTION + 4 * "$share/g/a".len()).unwrap();
    for (short, codes) in [(0, "00 00"), (1, "00 97")] {
        let mut world = World::with(|config| config.max_memory = exactly("bob") + 2 * one - short);
        let bob = world.connect(v5("bob"));
        let options = SubscriptionOptions::default();
        world.subscribe_with(bob, &[("$share/g/a", options), ("$share/h/a", options)], &[]);
        assert_eq!(world.received(bob), [format!("SUBACK #999 {codes}")]);
        world.unsubscribe(bob, &["$share/g/a"]);
        world.received(bob);
        world.subscribe_with(bob, &[("$share/i/b", options)], &[]);
        assert_eq!(world.received(bob), ["SUBACK #999 00"], "there is room again");
        world.audit();
        world.cut(bob);
        assert_eq!(world.broker.memory().counted, 0);
    }
}

#[test]
fn share_groups_take_no_more_than_they_count_for() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    let before = world.broker.memory();
    for n in 0..1_000 {
        world.subscribe(bob, &[(&format!("$share/group-{n}/pond/{n}/depth"), 0)]);
    }
    let after = world.broker.memory();
    let taken = after.subscriptions + after.sessions - before.subscriptions - before.sessions;
    assert!(taken <= after.counted - before.counted, "{taken} bytes");
}

/// Else nobody could come and take what fills the budget.
#[test]
fn messages_leave_an_eighth_of_the_budget_for_those_who_come_back() {
    let mut world = World::with(|config| config.max_memory = 80_000);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob").lasting(1_000))];
    world.subscribe(bob, &[("a", 1)]);
    world.cut(bob);
    for n in 1..=100 {
        world.publish(alice, "a", &"x".repeat(1_000), 1, n);
    }
    assert!(world.received(alice).len() < 70, "the others wait");
    let bob = world.begin(v5("bob").lasting(1_000));
    assert!(world.first(bob).starts_with("CONNACK 00"));
    assert!(world.work_off(bob).len() > 50);
}

#[test]
fn an_unfinished_packet_counts_as_it_grows_and_not_as_it_is_announced() {
    for (past, is_paused) in [(0, false), (1, true)] {
        let mut world = World::with(|config| config.max_memory = exactly("mallory") + 10_000);
        let mallory = world.connect(v5("mallory"));
        world.send_bytes(mallory, &unfinished(1_000_000, 10_000 - 4 + past));
        assert_eq!(world.is_paused(mallory), is_paused, "{past} bytes past the budget");
        world.audit();
        world.cut(mallory);
        assert_eq!(world.broker.memory().counted, 0);
    }
}

#[test]
fn a_buffer_of_the_adapters_counts_with_what_it_says() {
    for (kept, is_paused) in [(10_000, false), (10_001, true)] {
        let mut world = World::with(|config| config.max_memory = exactly("mallory") + 10_000);
        let mallory = world.connect(v5("mallory"));
        world.send_bytes(mallory, &unfinished(1_000_000, 5_000));
        assert_eq!(world.progress(mallory, kept), is_paused);
        world.audit();
    }
}

/// "Internal buffer full" is what 4.8 calls a Transient Error. [MQTT3-4.8.0-2]
#[test]
fn one_that_waits_for_memory_is_told_after_the_pause_limit() {
    for (client, answer) in [(v5("mallory"), &["DISCONNECT 97"][..]), (v3("mallory"), &[])] {
        let mut world = World::with(|config| {
            config.max_memory = beside(1, 10_000);
            config.pause_limit = Duration::from_secs(2);
        });
        let mallory = world.connect(client);
        world.send_bytes(mallory, &unfinished(1_000_000, 20_000));
        assert!(world.is_paused(mallory));
        world.pass(Duration::from_micros(1_999_999));
        assert!(!world.is_closed(mallory));
        world.pass(Duration::from_millis(60));
        assert!(world.is_closed(mallory));
        assert_eq!(world.received(mallory), answer);
        assert!(world.broker.memory().counted < 5_000);
        world.audit();
    }
}

#[test]
fn one_that_waits_for_memory_goes_on_when_there_is_some_and_its_keep_alive_stands_still() {
    let mut world = World::with(|config| {
        config.max_memory = beside(2, 30_000);
        config.pause_limit = Duration::from_secs(60);
    });
    let bob = world.connect(v5("bob"));
    world.send_bytes(bob, &unfinished(100_000, 29_000));
    let alice = world.connect(As { keep_alive: 10, ..v5("alice") });
    let whole = unfinished(20_000, 20_000);
    world.send_bytes(alice, &whole[..5_000]);
    assert!(!world.is_paused(bob) && world.is_paused(alice));
    world.pass_secs(30);
    assert!(world.is_paused(alice) && !world.is_closed(alice));
    world.cut(bob);
    world.pass(Duration::from_millis(50));
    assert!(!world.is_paused(alice));
    world.send_bytes(alice, &whole[5_000..]);
    world.send(alice, Packet::Pingreq);
    assert_eq!(world.received(alice), ["PINGRESP"]);
    world.pass(Duration::from_micros(14_999_999));
    assert!(!world.is_closed(alice));
    world.pass(Duration::from_micros(1));
    assert!(world.is_closed(alice), "its keep alive runs again");
}

#[test]
fn unfinished_packets_that_do_not_grow_make_room_for_others() {
    let mut world = World::with(|config| {
        config.max_memory = beside(3, 30_000);
        config.pause_limit = Duration::from_secs(2);
    });
    let [silent, busy] = ["silent", "busy"].map(|name| world.connect(v5(name)));
    world.send_bytes(silent, &unfinished(100_000, 28_000));
    world.send_bytes(busy, &unfinished(100_000, 1_500));
    world.pass_secs(60);
    assert!(!world.is_closed(silent), "as long as nobody needs the room");
    world.send_bytes(busy, &[b'x'; 5_000]);
    assert!(world.is_paused(busy));
    world.pass(Duration::from_millis(50));
    assert_eq!(world.received(silent), ["DISCONNECT 97"]);
    world.pass(Duration::from_millis(50));
    assert!(!world.is_paused(busy) && !world.is_closed(busy));
}

/// Every client has the beginning of some packet at times.
#[test]
fn a_small_beginning_of_a_packet_never_waits() {
    for (kept, is_paused) in [(1_024, false), (1_025, true)] {
        let mut world = World::with(|config| config.max_memory = exactly("mallory") + 5_000);
        let [mallory, alice] = ["mallory", "al"].map(|name| world.connect(v5(name)));
        world.send_bytes(mallory, &unfinished(100_000, 20_000));
        world.send_bytes(alice, &unfinished(100_000, kept - 4));
        assert_eq!(world.is_paused(alice), is_paused, "{kept} bytes");
    }
}

/// One small message in very many queues is much memory.
#[test]
fn each_session_that_holds_a_message_counts() {
    let held_by = |sessions: usize| {
        let mut world = World::new();
        let alice = world.connect(v5("alice"));
        for n in 0..sessions {
            let away = world.connect(v5(&format!("away{n}")).lasting(100));
            world.subscribe(away, &[("a", 1)]);
            world.cut(away);
        }
        world.publish(alice, "a", "x", 1, 1);
        world.audit();
        world.broker.memory().messages
    };
    assert!(held_by(11) - held_by(1) >= 10 * 24, "an entry in a queue takes at least this");
}

/// A client whose subscriptions overlap gets one message with all their identifiers.
fn overlapping(count: u32, change: impl FnOnce(&mut Config)) -> (World, Client) {
    let mut world = World::with(change);
    let [alice, away] = [world.connect(v5("alice")), world.connect(v5("away").lasting(100))];
    for n in 0..count {
        // All match `b/b/b/b/b/b`.
        let levels: Vec<_> = (0..6).map(|bit| if n & (1 << bit) == 0 { "+" } else { "b" }).collect();
        let id = [Property::SubscriptionIdentifier((n + 1).try_into().unwrap())];
        let options = SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() };
        world.subscribe_with(away, &[(&levels.join("/"), options)], &id);
    }
    world.cut(away);
    (world, alice)
}

#[test]
fn the_identifiers_of_a_delivery_count() {
    let (mut world, alice) = overlapping(64, |_| {});
    let before = world.broker.memory().counted;
    world.publish(alice, "b/b/b/b/b/b", "x", 1, 1);
    assert!(world.broker.memory().counted - before >= 64 * 4);
    world.audit();

    // Those of one client are bounded by its queue's limit, at it and one past.
    let queued_with = |limit: u64| {
        let (mut world, alice) = overlapping(64, |config| config.max_queued_bytes = limit);
        world.publish(alice, "b/b/b/b/b/b", "x", 1, 1);
        world.audit();
        world.first(alice)
    };
    let needed = (256..512).find(|limit| queued_with(*limit) == "PUBACK #1");
    assert!(needed.is_some_and(|needed| queued_with(needed - 1) == "PUBACK #1 97"), "{needed:?}");
}

/// A handshake with everything a client may say in it: `length` bytes of each.
struct Words {
    text: String,
    bytes: Vec<u8>,
}

impl Words {
    fn new(length: usize) -> Self {
        Self { text: "x".repeat(length), bytes: vec![b'x'; length] }
    }

    /// CONNECT, with a question open about it.
    fn begin(&self, world: &mut World, version: Version) -> Client {
        let words = [Property::AuthenticationMethod(&self.text), Property::AuthenticationData(&self.bytes)];
        let client = As {
            user_name: Some(&self.text),
            will: Some(("w", &self.text, 0, false, 0)),
            properties: if version == Version::V5_0 { &words } else { &[] },
            version,
            ..v5("carol")
        };
        world.holds_questions = true;
        world.begin(client)
    }

    /// AUTH, with so much data that it takes more than CONNECT did.
    fn go_on(&self, world: &mut World, connection: Client) {
        let data = self.bytes.repeat(3);
        let step = properties(&[Property::AuthenticationMethod(&self.text), Property::AuthenticationData(&data)]);
        let reason_code = ReasonCode::ContinueAuthentication;
        world.send(connection, Packet::Auth(Auth { reason_code, properties: step.as_properties() }));
    }
}

/// Strangers can say much while a program thinks about each of them.
#[test]
fn a_connect_counts_while_its_question_is_open_and_one_past_the_budget_is_refused() {
    let words = Words::new(1_000);
    for (version, said, answer) in [(Version::V5_0, 5_000, "CONNACK 97"), (Version::V3_1_1, 2_000, "CONNACK 03")] {
        let mut free = World::new();
        words.begin(&mut free, version);
        let needed = free.broker.memory().counted;
        assert!(needed > u64::try_from(Memory::PER_CONNECTION + said).unwrap(), "{needed}");
        for (limit, is_refused) in [(needed, false), (needed - 1, true)] {
            let mut world = World::with(|config| config.max_memory = limit);
            let carol = words.begin(&mut world, version);
            assert_eq!(world.questions.len(), usize::from(!is_refused));
            assert_eq!(world.received(carol), if is_refused { vec![answer] } else { vec![] });
            assert_eq!(world.is_closed(carol), is_refused);
            world.audit();
            world.cut(carol);
            assert_eq!(world.broker.memory().counted, 0);
        }
    }
}

#[test]
fn an_auth_before_connack_counts_and_one_past_the_budget_is_refused() {
    let words = Words::new(1_000);
    let handshake = |limit: u64| {
        let mut world = World::with(|config| config.max_memory = limit);
        let carol = words.begin(&mut world, Version::V5_0);
        let asked = world.broker.memory().counted;
        world.answer(Answer::Continue(None));
        world.received(carol);
        assert!(world.broker.memory().counted < asked - 2_000, "the question is answered");
        world.audit();
        words.go_on(&mut world, carol);
        world.audit();
        (world, carol)
    };
    let needed = handshake(u64::MAX).0.broker.memory().counted;
    for (limit, answer) in [(needed, "CONNACK 00"), (needed - 1, "CONNACK 97")] {
        let (mut world, carol) = handshake(limit);
        if !world.questions.is_empty() {
            world.answer(Answer::allow());
        }
        assert!(world.first(carol).starts_with(answer));
        world.audit();
        world.cut(carol);
        assert_eq!(world.broker.memory().counted, 0);
    }
}

#[test]
fn a_handshake_counts_no_more_once_it_ended() {
    let words = Words::new(1_000);
    let will = u64::try_from(words.text.len()).unwrap();
    let answers = [
        (Answer::allow(), true),
        (Answer::Deny(ReasonCode::NotAuthorized), false),
        (Answer::Redirect { permanent: true, server_reference: "b".into() }, false),
    ];
    for (answer, stays) in answers {
        let mut world = World::new();
        let carol = words.begin(&mut world, Version::V5_0);
        world.answer(answer);
        world.received(carol);
        world.audit();
        let counted = world.broker.memory().counted;
        // The will of a session has some bytes beside its payload.
        let most = if stays { exactly("carol") + will + 200 } else { 0 };
        assert!(counted <= most, "{counted}");
    }
    // Until the commit of a session that stays.
    let mut world = World::new();
    world.holds_commits = true;
    let carol = world.begin(v5("carol").lasting(100));
    assert!(world.broker.memory().counted > exactly("carol"));
    world.audit();
    world.commit();
    assert!(world.first(carol).starts_with("CONNACK 00"));
    assert_eq!(world.broker.memory().counted, exactly("carol"));
}
