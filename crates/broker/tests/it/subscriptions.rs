//! SUBSCRIBE, UNSUBSCRIBE and what is delivered because of them. [MQTT-3.8] [MQTT-3.10]

use damselfly_codec::{AckType, Property, ReasonCode, SubscriptionId, SubscriptionOptions};

use super::world::{As, World, delivery, qos, v3, v5};

fn id(value: u32) -> Property<'static> {
    Property::SubscriptionIdentifier(SubscriptionId::new(value).unwrap())
}

#[test]
fn suback_answers_each_filter_in_order_under_the_same_id() {
    // [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-2.2.1-6]
    // [MQTT3-3.8.4-1] [MQTT3-3.8.4-2] [MQTT3-3.8.4-4] [MQTT3-3.8.4-5] [MQTT3-3.9.3-1] [MQTT3-2.3.1-7]
    let mut world = World::with(|config| config.max_topic_levels = 3);
    let options = |level| SubscriptionOptions { qos: qos(level), ..SubscriptionOptions::default() };
    let filters = [("a", options(2)), ("a/b/c/d", options(1)), ("a/+/c", options(0)), ("$share/g/a", options(1))];
    for (client, expected) in [(v5("bob"), "SUBACK #999 02 8F 00 01"), (v3("bob"), "SUBACK #999 02 80 00 01")] {
        let bob = world.connect(client);
        world.subscribe_with(bob, &filters, &[]);
        assert_eq!(world.received(bob), [expected]);
    }
}

#[test]
fn subscribing_again_replaces_the_subscription() {
    // [MQTT-3.8.4-3] [MQTT3-3.8.4-3]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.subscribe(bob, &[("a", 2)]);
    world.subscribe(bob, &[("a", 0)]);
    world.publish(alice, "a", "x", 2, 1);
    assert_eq!(world.received(bob), ["PUBLISH q0 a=x"]);
    assert_eq!(world.subscriptions("bob").count(), 1);
}

#[test]
fn subscribing_again_brings_the_retained_message_again_and_loses_nothing() {
    // [MQTT-3.8.4-4] [MQTT3-3.8.4-3]
    for client in [v5("bob"), v3("bob")] {
        let mut world = World::with(|config| config.max_inflight = 1);
        let [alice, bob] = [world.connect(v5("alice")), world.connect(client)];
        world.retain(alice, "a", "retained");
        world.subscribe(bob, &[("a", 1)]);
        assert_eq!(world.received(bob), ["PUBLISH q0 retain a=retained"]);
        for n in 1..=3 {
            world.publish(alice, "a", &n.to_string(), 1, n);
        }
        world.subscribe_with(bob, &[("a", SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() })], &[]);
        world.publish(alice, "a", "4", 1, 4);
        let seen = world.work_off(bob);
        let payloads: Vec<_> = seen.iter().map(|line| line.rsplit_once('=').unwrap().1).collect();
        assert_eq!(payloads, ["1", "2", "3", "retained", "4"], "{seen:?}");
    }
}

#[test]
fn the_same_filter_twice_in_one_packet_acts_like_two_packets() {
    // [MQTT-3.8.4-5] [MQTT3-3.8.4-4]
    for client in [v5("bob"), v3("bob")] {
        let mut world = World::new();
        let [alice, bob] = [world.connect(v5("alice")), world.connect(client)];
        let options = |level| SubscriptionOptions { qos: qos(level), ..SubscriptionOptions::default() };
        world.subscribe_with(bob, &[("a", options(2)), ("a", options(0))], &[]);
        assert_eq!(world.received(bob), ["SUBACK #999 02 00"]);
        world.publish(alice, "a", "x", 2, 1);
        assert_eq!(world.received(bob), ["PUBLISH q0 a=x"], "the later one replaces the earlier");
    }
}

#[test]
fn overlapping_subscriptions_give_one_message_with_all_identifiers() {
    // [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    let options = |level| SubscriptionOptions { qos: qos(level), ..SubscriptionOptions::default() };
    world.subscribe_with(bob, &[("a/b", options(0))], &[id(3)]);
    world.subscribe_with(bob, &[("a/#", options(2))], &[id(268_435_455)]);
    world.subscribe_with(bob, &[("#", options(1))], &[]);
    world.received(bob);
    world.publish(alice, "a/b", "x", 2, 1);
    let seen = world.received(bob);
    assert_eq!(seen.len(), 1);
    assert!(seen[0].starts_with("PUBLISH q2 #1 a/b=x"));
    assert!(seen[0].contains("SubscriptionId(3)") && seen[0].contains("SubscriptionId(268435455)"), "{seen:?}");
}

#[test]
fn no_local_keeps_a_clients_own_messages_away_on_any_of_its_connections() {
    // [MQTT-3.8.3-3]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice").lasting(100)), world.connect(v5("bob"))];
    let no_local = SubscriptionOptions { no_local: true, ..SubscriptionOptions::default() };
    for client in [alice, bob] {
        world.subscribe_with(client, &[("a", no_local)], &[]);
        world.received(client);
    }
    world.publish(alice, "a", "x", 0, 0);
    world.publish(alice, "a", "y", 0, 0);
    assert_eq!(world.received(bob), ["PUBLISH q0 a=x", "PUBLISH q0 a=y"]);
    assert!(world.received(alice).is_empty());
}

#[test]
fn unsubscribe_compares_character_by_character_and_says_what_existed() {
    // [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1]
    // [MQTT3-3.10.4-1] [MQTT3-3.10.4-2] [MQTT3-3.10.4-4] [MQTT3-3.10.4-5] [MQTT3-3.10.4-6]
    let mut world = World::new();
    let [alice, bob, carol] = [world.connect(v5("alice")), world.connect(v5("bob")), world.connect(v3("carol"))];
    world.subscribe(bob, &[("a/+", 1), ("a/b", 1), ("$share/g/x", 1)]);
    world.subscribe(carol, &[("a/b", 0)]);

    world.unsubscribe(bob, &["a/#", "a/+", "$share/h/x", "$share/g/x", "A/b"]);
    world.unsubscribe(carol, &["nothing", "a/b"]);

    assert_eq!(world.received(bob), ["UNSUBACK #998 11 00 11 00 11"]);
    assert_eq!(world.received_bytes(carol), b"\xb0\x02\x03\xe6");
    for client in [bob, carol] {
        world.unsubscribe(client, &["nothing"]);
    }
    assert_eq!(world.received(bob), ["UNSUBACK #998 11"]);
    assert_eq!(world.received_bytes(carol), b"\xb0\x02\x03\xe6");
    world.publish(alice, "a/b", "still", 0, 0);
    world.publish(alice, "a/c", "gone", 0, 0);
    assert_eq!(world.received(bob), ["PUBLISH q0 a/b=still"]);
    assert!(world.received(carol).is_empty());
}

#[test]
fn what_was_sent_before_an_unsubscribe_is_completed() {
    // [MQTT-3.10.4-3] [MQTT3-3.10.4-3]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob").lasting(100))];
    world.subscribe(bob, &[("a", 2)]);
    world.publish(alice, "a", "x", 2, 1);
    world.unsubscribe(bob, &["a"]);
    world.cut(bob);
    let bob = world.begin(v5("bob").lasting(100));
    assert_eq!(world.received(bob)[1..], ["PUBLISH q2 #1 dup a=x"]);
    world.ack(bob, AckType::Pubrec, 1);
    assert_eq!(world.received(bob), ["PUBREL #1"]);
}

#[test]
fn features_that_are_switched_off_are_told_and_refused() {
    let mut world = World::with(|config| {
        config.wildcard_subscription_available = false;
        config.shared_subscription_available = false;
        config.subscription_ids_available = false;
        config.maximum_qos = qos(1);
    });
    let bob = world.begin(v5("bob"));
    let connack = world.first(bob);
    for property in ["WildcardSubscriptionAvailable", "SubscriptionIdentifierAvailable", "SharedSubscriptionAvailable"]
    {
        assert!(connack.contains(&format!("{property}(false)")), "{connack}");
    }
    let options = SubscriptionOptions { qos: qos(2), ..SubscriptionOptions::default() };
    let filters = [("a/+", options), ("$share/g/a", options), ("a", options)];
    world.subscribe_with(bob, &filters, &[]);
    world.subscribe_with(bob, &[("b", options)], &[id(1)]);
    assert_eq!(world.received(bob), ["SUBACK #999 A2 9E 01", "SUBACK #999 A1"]);
    let carol = world.connect(v3("carol"));
    world.subscribe_with(carol, &filters, &[]);
    assert_eq!(world.received(carol), ["SUBACK #999 80 80 01"]);
}

#[test]
fn a_publish_above_what_the_broker_offers_ends_the_connection() {
    // [MQTT-3.2.2-11] [MQTT-3.2.2-14]
    let mut world = World::with(|config| {
        config.maximum_qos = qos(1);
        config.retain_available = false;
    });
    let bob = world.connect(v5("bob"));
    world.publish(bob, "a", "x", 2, 1);
    assert_eq!(world.received(bob), ["DISCONNECT 9B"]);
    let bob = world.connect(v5("bob"));
    world.retain(bob, "a", "x");
    assert_eq!(world.received(bob), ["DISCONNECT 9A"]);
}

#[test]
fn a_group_shares_the_messages_among_its_members() {
    // [MQTT-4.8.2-3]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let members = ["bob", "carol", "dave"].map(|name| {
        let member = world.connect(v5(name));
        world.subscribe(member, &[("$share/g/a/+", 1)]);
        member
    });
    let outsider = world.connect(v5("eve"));
    world.subscribe(outsider, &[("a/b", 0), ("$share/other/a/b", 0)]);
    for n in 1..=9 {
        world.publish(alice, "a/b", &n.to_string(), 2, n);
    }
    for member in members {
        let seen = world.work_off(member);
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert!(seen.iter().all(|line| line.starts_with("PUBLISH q1")));
    }
    assert_eq!(world.received(outsider).len(), 18, "another group and a plain subscription get their own copies");
}

#[test]
fn what_was_never_sent_moves_to_another_member_and_what_was_sent_stays() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let narrow = As { receive_maximum: Some(1), ..v5("bob").lasting(100) };
    let bob = world.connect(narrow);
    world.subscribe(bob, &[("$share/g/a", 1)]);
    for n in 1..=3 {
        world.publish(alice, "a", &n.to_string(), 1, n);
    }
    let carol = world.connect(v5("carol"));
    world.subscribe(carol, &[("$share/g/a", 1)]);
    world.cut(bob);
    assert_eq!(world.received(carol), ["PUBLISH q1 #1 a=2", "PUBLISH q1 #2 a=3"]);
    let bob = world.begin(narrow);
    assert_eq!(world.received(bob)[1..], ["PUBLISH q1 #1 dup a=1"]);
}

#[test]
fn when_a_session_ends_qos_1_moves_and_qos_2_that_was_sent_does_not() {
    // [MQTT-4.8.2-5]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(10));
    world.subscribe(bob, &[("$share/g/a", 2)]);
    world.publish(alice, "a", "one", 1, 1);
    world.publish(alice, "a", "two", 2, 2);
    world.cut(bob);
    let carol = world.connect(v5("carol"));
    world.subscribe(carol, &[("$share/g/a", 2)]);
    world.pass_secs(10);
    assert_eq!(world.received(carol), ["PUBLISH q1 #1 a=one"]);
}

#[test]
fn a_refused_shared_message_is_dropped() {
    // [MQTT-4.8.2-6]
    for (level, ack) in [(1, AckType::Puback), (2, AckType::Pubrec)] {
        let mut world = World::new();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.connect(v5(name)));
        world.subscribe(bob, &[("$share/g/a", 2)]);
        world.publish(alice, "a", "x", level, 1);
        world.subscribe(carol, &[("$share/g/a", 2)]);
        world.ack_with(bob, ack, 1, ReasonCode::ImplementationSpecificError);
        world.cut(bob);
        assert!(world.received(carol).is_empty(), "QoS {level}");
    }
}

#[test]
fn names_are_matched_byte_for_byte_and_dollar_topics_hide_from_wildcards() {
    // [MQTT-4.7.2-1] [MQTT-4.7.3-4] [MQTT-3.3.2-3] [MQTT3-4.7.2-1] [MQTT3-4.7.3-4] [MQTT3-3.3.2-3]
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|name| world.connect(v5(name)));
    world.subscribe(bob, &[("#", 0), ("+/info", 0), ("Caf\u{e9}", 0), ("a//b", 0)]);
    for name in ["$dollar/info", "Cafe\u{301}", "a/b", "a//b"] {
        world.publish(alice, name, "x", 0, 0);
    }
    assert_eq!(world.received(bob), ["PUBLISH q0 Cafe\u{301}=x", "PUBLISH q0 a/b=x", "PUBLISH q0 a//b=x"]);
    let carol = world.connect(v5("carol"));
    world.subscribe(carol, &[("Caf\u{e9}", 0), ("a/b/", 0)]);
    world.publish(alice, "Cafe\u{301}", "x", 0, 0);
    world.publish(alice, "a/b", "x", 0, 0);
    assert!(world.received(carol).is_empty());
}

#[test]
fn topic_aliases_work_both_ways_and_belong_to_the_connection() {
    // [MQTT-3.3.2-7] [MQTT-3.3.2-12] [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
    let mut world = World::with(|config| config.topic_alias_maximum = 2);
    let alice = world.begin(v5("alice"));
    assert!(world.first(alice).contains("TopicAliasMaximum(2)"));
    let bob = world.connect(v5("bob").with(&[Property::TopicAliasMaximum(1)]));
    let carol = world.connect(v5("carol"));
    world.subscribe(bob, &[("#", 0)]);
    world.subscribe(carol, &[("#", 0)]);
    let alias = |n| [Property::TopicAlias(damselfly_codec::TopicAlias::new(n).unwrap())];
    world.publish_with(alice, "long/topic", "1", delivery(0, 1, false), false, &alias(2));
    world.publish_with(alice, "", "2", delivery(0, 1, false), false, &alias(2));
    world.publish_with(alice, "other/topic", "3", delivery(0, 1, false), false, &[]);

    assert_eq!(
        world.received(carol),
        ["PUBLISH q0 long/topic=1", "PUBLISH q0 long/topic=2", "PUBLISH q0 other/topic=3"]
    );
    let seen = world.received(bob);
    assert!(
        seen[0].starts_with("PUBLISH q0 long/topic=1 {TopicAlias(")
            && seen[1].starts_with("PUBLISH q0 =2 {TopicAlias(")
    );
    assert!(seen[2].starts_with("PUBLISH q0 other/topic=3"), "the one alias is given anew: {seen:?}");

    world.publish_with(alice, "x", "4", delivery(0, 1, false), false, &alias(3));
    assert_eq!(world.received(alice), ["DISCONNECT 94"]);
    let alice = world.connect(v5("alice"));
    world.publish_with(alice, "", "5", delivery(0, 1, false), false, &alias(2));
    assert_eq!(world.received(alice), ["DISCONNECT 82"], "aliases do not outlive their connection");
}

#[test]
fn a_message_waiting_for_a_client_tells_the_time_left_or_expires() {
    // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob").lasting(1_000))];
    world.subscribe(bob, &[("a", 1)]);
    world.cut(bob);
    for (n, expiry) in [(1, 10), (2, 20)] {
        let list = [Property::MessageExpiryInterval(expiry)];
        world.publish_with(alice, "a", &n.to_string(), delivery(1, n, false), false, &list);
    }
    world.publish(alice, "a", "3", 1, 3);
    world.pass_secs(12);
    let bob = world.begin(v5("bob").lasting(1_000));
    assert_eq!(world.received(bob)[1..], ["PUBLISH q1 #1 a=2 {MessageExpiryInterval(8)}", "PUBLISH q1 #2 a=3"]);
}

#[test]
fn a_message_queued_for_a_group_never_moves_to_a_later_one() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let narrow = As { receive_maximum: Some(1), ..v5("bob").lasting(100) };
    let bob = world.connect(narrow);
    world.subscribe(bob, &[("$share/g/a", 1)]);
    for n in 1..=3 {
        world.publish(alice, "a", &n.to_string(), 1, n);
    }
    world.unsubscribe(bob, &["$share/g/a"]);
    let carol = world.connect(v5("carol"));
    world.subscribe(carol, &[("$share/other/a", 1)]);
    world.cut(bob);
    assert!(world.received(carol).is_empty(), "another group, though in the place of the first");
    let bob = world.begin(narrow);
    world.first(bob);
    assert_eq!(world.work_off(bob).len(), 3);
}
