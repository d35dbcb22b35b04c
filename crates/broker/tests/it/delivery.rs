//! QoS 0, 1 and 2 from a publisher to its subscribers. [MQTT-4.3]

use damselfly_broker::DropReason;
use damselfly_codec::{AckType, Properties, Property, ReasonCode};
use damselfly_session::Message;

use super::world::{World, qos, topic, v3, v5};

#[test]
fn a_message_that_finds_no_free_packet_identifier_waits_for_one() {
    // [MQTT-2.2.1-3] [MQTT-4.4.0-1]
    let mut world = World::with(|config| {
        config.max_inflight = u16::MAX;
        config.max_transmit_bytes = 4 * 1024 * 1024;
    });
    let local = world.broker.open_local(world.now, "house", 1.try_into().unwrap()).unwrap();
    let bob = world.connect(v3("bob").lasting(0));
    world.subscribe(bob, &[("a", 2)]);
    let publish = |world: &mut World, level: u8, payload: &str| {
        let message = Message::compose(topic("a"), payload.as_bytes(), qos(level), false, Properties::EMPTY, world.now);
        let published = world.broker.local_publish(world.now, local, message);
        assert!(!published.reason_code.is_error());
    };
    for _ in 0..65_535 {
        publish(&mut world, 2, "");
    }
    world.settle();
    let pubrecs: Vec<u8> = (1..=u16::MAX).flat_map(|id| [0x50, 2, id.to_be_bytes()[0], id.to_be_bytes()[1]]).collect();
    world.send_bytes(bob, &pubrecs);
    world.cut(bob);

    // PUBREL is repeated outside the window: that has room, and all identifiers are in use.
    let bob = world.connect(v3("bob").lasting(0));
    publish(&mut world, 1, "one");
    publish(&mut world, 2, "two");
    world.settle();
    assert!(world.received(bob).iter().all(|line| line.starts_with("PUBREL")));
    assert_eq!(world.session("bob").unwrap().queued, 2);
    world.ack(bob, AckType::Pubcomp, 40_000);
    assert_eq!(world.received(bob), ["PUBLISH q1 #40000 a=one"]);
    world.ack(bob, AckType::Pubcomp, 30_000);
    assert_eq!(world.received(bob), ["PUBLISH q2 #30000 a=two"]);
    assert_eq!(world.dropped(DropReason::QueueFull), 0);
}

#[test]
fn a_message_goes_from_any_version_to_any_version_at_the_lower_qos() {
    // [MQTT-3.3.4-2] [MQTT-3.8.4-8] [MQTT3-3.8.4-6] [MQTT3-4.5.0-1]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v3("bob"));
    world.subscribe(alice, &[("to/alice/#", 1)]);
    world.subscribe(bob, &[("to/bob/+", 2)]);

    world.publish(bob, "to/alice/x", "one", 2, 7);
    world.publish(alice, "to/bob/x", "two", 1, 8);
    world.publish(alice, "to/bob/y", "three", 0, 0);

    assert_eq!(world.received(alice), ["PUBLISH q1 #1 to/alice/x=one", "PUBACK #8"]);
    assert_eq!(world.received(bob), ["PUBREC #7", "PUBLISH q1 #1 to/bob/x=two", "PUBLISH q0 to/bob/y=three"]);
}

#[test]
fn qos2_duplicate_is_acked_but_not_routed_again() {
    // [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12] [MQTT3-4.3.3-2]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("a", 2)]);

    world.publish(alice, "a", "once", 2, 5);
    world.publish_with(alice, "a", "once", super::world::delivery(2, 5, true), false, &[]);
    assert_eq!(world.received(alice), ["PUBREC #5", "PUBREC #5"]);
    world.ack(alice, AckType::Pubrel, 5);
    assert_eq!(world.received(alice), ["PUBCOMP #5"]);
    world.publish(alice, "a", "again", 2, 5);

    assert_eq!(world.work_off(bob), ["PUBLISH q2 #1 a=once", "PUBLISH q2 #2 a=again"]);
}

#[test]
fn the_slot_of_a_qos2_message_is_held_until_pubcomp() {
    // [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(super::world::As { receive_maximum: Some(1), ..v5("bob") });
    world.subscribe(bob, &[("a", 2)]);
    world.publish(alice, "a", "1", 2, 1);
    world.publish(alice, "a", "2", 1, 2);
    assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=1"]);

    world.ack(bob, AckType::Pubrec, 1);
    assert_eq!(world.received(bob), ["PUBREL #1"]);
    world.send(bob, damselfly_codec::Packet::Pingreq);
    assert_eq!(world.received(bob), ["PINGRESP"]);
    world.ack(bob, AckType::Pubcomp, 1);

    assert_eq!(world.received(bob), ["PUBLISH q1 #2 a=2"]);
}

#[test]
fn a_refused_delivery_is_done_and_frees_its_slot() {
    // [MQTT-4.4.0-2]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(super::world::As { receive_maximum: Some(1), ..v5("bob") });
    world.subscribe(bob, &[("a", 2)]);
    world.publish(alice, "a", "1", 2, 1);
    world.publish(alice, "a", "2", 2, 2);

    world.ack_with(bob, AckType::Pubrec, 1, ReasonCode::ImplementationSpecificError);

    assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=1", "PUBLISH q2 #2 a=2"]);
}

#[test]
fn what_was_not_acknowledged_comes_again_in_order_with_dup_and_before_anything_new() {
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-5] [MQTT3-4.4.0-1] [MQTT3-3.3.1-1]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("a", 2)]);
    for (n, qos) in [(1, 1), (2, 2), (3, 2), (4, 1)] {
        world.publish(alice, "a", &n.to_string(), qos, n);
    }
    world.received(bob);
    world.ack(bob, AckType::Pubrec, 2);
    world.cut(bob);
    world.publish(alice, "a", "5", 1, 5);

    let bob = world.begin(v5("bob").lasting(100));

    assert_eq!(
        world.received(bob)[1..],
        ["PUBREL #2", "PUBLISH q1 #1 dup a=1", "PUBLISH q2 #3 dup a=3", "PUBLISH q1 #4 dup a=4", "PUBLISH q1 #5 a=5"]
    );
}

#[test]
fn a_smaller_receive_maximum_on_return_bounds_what_is_sent_again() {
    // [MQTT-3.3.4-9]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let bob = world.connect(v5("bob").lasting(100));
    world.subscribe(bob, &[("a", 1)]);
    for n in 1..=4 {
        world.publish(alice, "a", &n.to_string(), 1, n);
    }
    world.cut(bob);

    let bob = world.begin(super::world::As { receive_maximum: Some(3), ..v5("bob").lasting(100) });

    let seen = world.received(bob);
    assert_eq!(seen[1..], ["PUBLISH q1 #1 dup a=1", "PUBLISH q1 #2 dup a=2", "PUBLISH q1 #3 dup a=3"]);
    world.ack(bob, AckType::Puback, 2);
    assert_eq!(world.received(bob), ["PUBLISH q1 #4 dup a=4"]);
}

#[test]
fn properties_of_a_message_are_carried_unaltered_and_in_order() {
    // [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    let [bob, carol] = [world.connect(v5("bob")), world.connect(v3("carol"))];
    world.subscribe(bob, &[("a", 1)]);
    world.subscribe(carol, &[("a", 1)]);
    let list = [
        Property::UserProperty("k", "2"),
        Property::PayloadFormatIndicator(true),
        Property::ResponseTopic(super::world::topic("re/ply")),
        Property::CorrelationData(b"\x01\x02"),
        Property::UserProperty("k", "1"),
        Property::ContentType("text"),
    ];

    world.publish_with(alice, "a", "x", super::world::delivery(1, 1, false), false, &list);

    let rendered: Vec<_> = list.iter().map(|property| format!("{property:?}")).collect();
    assert_eq!(world.received(bob), [format!("PUBLISH q1 #1 a=x {{{}}}", rendered.join(", "))]);
    assert_eq!(world.received_bytes(carol), b"\x32\x06\x00\x01a\x00\x01x", "a 3.1.1 client sees no property byte");
}

#[test]
fn after_all_have_left_nothing_is_left() {
    let mut world = World::new();
    let alice = world.connect(v5("alice").lasting(5));
    let bob = world.connect(v5("bob").lasting(5));
    world.subscribe(bob, &[("a/#", 2), ("$share/g/a/+", 1), ("+/b", 1)]);
    for n in 1..20 {
        world.publish(alice, "a/b", "x", u8::try_from(n % 3).unwrap(), n);
    }
    world.cut(bob);
    world.publish(alice, "a/b", "x", 1, 99);
    world.cut(alice);
    world.pass_secs(6);
    world.assert_empty();
}

#[test]
fn no_matching_subscribers_is_said_only_where_there_are_none() {
    // [MQTT-3.4.2.1] [MQTT-3.5.2.1]
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    world.publish(alice, "a", "x", 1, 1);
    world.publish(alice, "a", "x", 2, 2);
    assert_eq!(world.received(alice), ["PUBACK #1 10", "PUBREC #2 10"]);

    // Nobody gets it, but there is a subscriber: it is away, and takes nothing above QoS 0.
    let bob = world.connect(v5("bob").lasting(10));
    world.subscribe(bob, &[("a", 0)]);
    world.cut(bob);
    world.publish(alice, "a", "x", 1, 3);
    world.publish(alice, "a", "x", 2, 4);
    assert_eq!(world.received(alice), ["PUBACK #3", "PUBREC #4"]);

    // Another takes no packets of that size.
    let small = [Property::MaximumPacketSize(20.try_into().unwrap())];
    let carol = world.connect(v5("carol").with(&small));
    world.subscribe(carol, &[("b", 1)]);
    world.publish(alice, "b", "more than twenty bytes", 1, 5);
    assert!(world.received(carol).is_empty());
    assert_eq!(world.received(alice), ["PUBACK #5"]);
}
