//! Payloads that the broker does not take, and how many bytes of them are in flight.

use damselfly_broker::{Config, DropReason};
use damselfly_codec::{AckType, Connect, Foreign, Properties, Property, Will};

use crate::world::{As, World, delivery, properties, qos, topic, v3, v5};

const NOTHING: [&str; 0] = [];
const TEXT: Property<'static> = Property::PayloadFormatIndicator(true);
const BYTES: Property<'static> = Property::PayloadFormatIndicator(false);

/// CONNECT with a will of these bytes.
fn with_will(client: As<'_>, payload: &[u8], list: Properties<'_>) -> Vec<u8> {
    let will = Will { qos: qos(1), retain: false, topic: topic("w"), payload, properties: list };
    let mut frame = Vec::new();
    let connect = Connect { will: Some(will), ..Connect::new(client.version, client.client_id) };
    connect.encode(Foreign::Reject, &mut frame).unwrap();
    frame
}

/// PUBLISH of 5.0 to "a" with these bytes.
fn publish(qos: u8, id: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1, b'a'];
    if qos > 0 {
        body.extend([0, id]);
    }
    body.push(properties.len().try_into().unwrap());
    body.extend([properties, payload].concat());
    [&[0x30 | qos << 1, body.len().try_into().unwrap()], &body[..]].concat()
}

#[test]
fn max_payload_size() {
    let five = |config: &mut Config| config.max_payload_size = 5;
    for (client, refused) in [
        (v5("bob"), ["PUBACK #1 97", "PUBREC #2 97", "PUBACK #3 97"]),
        (v3("bob"), ["PUBACK #1", "PUBREC #2", "PUBACK #3"]),
    ] {
        let mut world = World::with(five);
        let [alice, bob] = [world.connect(v3("alice")), world.connect(client)];
        world.subscribe(alice, &[("a", 0)]);
        for round in 0..3 {
            // The receivers are known from the second time on.
            world.publish(bob, "a", "12345", 0, 0);
            world.publish(bob, "a", "12345", 1, 9);
            assert_eq!(world.received(alice), ["PUBLISH q0 a=12345"; 2], "round {round}");
            assert_eq!(world.received(bob), ["PUBACK #9"]);
            world.publish(bob, "a", "123456", 0, 0);
            world.publish(bob, "a", "123456", 1, 1);
            world.publish(bob, "a", "123456", 2, 2);
            world.publish_with(bob, "a", "123456", delivery(1, 3, false), true, &[]);
            assert_eq!(world.received(alice), NOTHING, "round {round}");
            assert_eq!(world.received(bob), refused);
            world.ack(bob, AckType::Pubrel, 2);
            world.received(bob);
            assert_eq!(world.dropped(DropReason::PayloadTooLarge), 4 * (round + 1));
        }
        assert_eq!(world.broker.retained_len(), 0);
    }
    let long = [Property::UserProperty("name", "of a longer value")];
    let mut world = World::with(five);
    let bob = world.connect(v5("bob"));
    world.publish_with(bob, "a", "12345", delivery(1, 1, false), false, &long);
    assert_eq!(world.received(bob), ["PUBACK #1 10"], "properties are no payload");
    for (client, told) in [(v5("carol"), "CONNACK 97"), (v3("carol"), "CONNACK 03")] {
        for (payload, told) in [(&b"12345"[..], "CONNACK 00"), (b"123456", told)] {
            let carol = world.begin_raw(client.version, &with_will(client, payload, Properties::EMPTY));
            assert!(world.first(carol).starts_with(told));
            assert_eq!(world.is_closed(carol), told != "CONNACK 00");
        }
    }
    world.audit();
}

#[test]
fn a_payload_of_no_byte_is_taken_where_no_other_is() {
    let mut world = World::with(|config| config.max_payload_size = 0);
    let bob = world.connect(v5("bob"));
    world.publish(bob, "a", "", 1, 1);
    world.publish(bob, "a", "x", 1, 2);
    assert_eq!(world.received(bob), ["PUBACK #1 10", "PUBACK #2 97"]);
}

#[test]
fn check_payload_format() {
    // The statement of section 3.3.2.3.2 is a "MAY": who configures it gets it.
    let (good, bad) = ("grün".as_bytes(), &b"gr\xfcn"[..]);
    let (text, bytes): (&[u8], &[u8]) = (&[1, 1], &[1, 0]);
    for (is_checked, properties, payload, is_taken) in [
        (true, text, good, true),
        (true, text, b"", true),
        (true, text, b"\0", true),
        (true, text, bad, false),
        (true, text, b"cut \xe2\x82", false),
        (true, text, b"\xed\xa0\x80", false),
        (true, bytes, bad, true),
        (true, b"", bad, true),
        (false, text, bad, true),
    ] {
        let mut world = World::with(|config| config.check_payload_format = is_checked);
        let [alice, bob] = [world.connect(v3("alice")), world.connect(v5("bob"))];
        world.subscribe(alice, &[("a", 0)]);
        for round in 0..3 {
            world.send_bytes(bob, &publish(0, 0, properties, payload));
            world.send_bytes(bob, &publish(1, 1, properties, payload));
            world.send_bytes(bob, &publish(2, 2, properties, payload));
            let (code, delivered) = if is_taken { ("", 3) } else { (" 99", 0) };
            assert_eq!(world.received(bob), [format!("PUBACK #1{code}"), format!("PUBREC #2{code}")], "{round}");
            assert_eq!(world.received(alice).len(), delivered, "{payload:?}");
            world.ack(bob, AckType::Pubrel, 2);
            world.received(bob);
        }
        let dropped = if is_taken { 0 } else { 9 };
        assert_eq!(world.dropped(DropReason::PayloadFormatInvalid), dropped);
    }
}

#[test]
fn a_will_that_is_not_the_text_it_says_refuses_the_connection() {
    let mut world = World::with(|config| config.check_payload_format = true);
    for (list, payload, told) in [
        (&[TEXT][..], &b"gone"[..], "CONNACK 00"),
        (&[TEXT], b"g\xffne", "CONNACK 99"),
        (&[BYTES], b"g\xffne", "CONNACK 00"),
        (&[], b"g\xffne", "CONNACK 00"),
    ] {
        let list = properties(list);
        let client = v5("carol");
        let carol = world.begin_raw(client.version, &with_will(client, payload, list.as_properties()));
        assert!(world.first(carol).starts_with(told), "{payload:?}");
    }
    let dave = world.begin_raw(v3("dave").version, &with_will(v3("dave"), b"g\xffne", Properties::EMPTY));
    assert_eq!(world.received(dave), ["CONNACK 00"], "3.1.1 has no word for it");
}

/// What a message to "a" with these bytes counts for.
fn weight(payload: &str) -> u64 {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v3("alice")), world.connect(v3("bob").lasting(0))];
    world.subscribe(bob, &[("a", 1)]);
    world.cut(bob);
    world.publish(alice, "a", payload, 1, 1);
    world.broker.sessions().map(|session| session.queued_bytes).sum()
}

#[test]
fn max_inflight_bytes() {
    let one = weight("x");
    for publisher in [v3("alice"), v5("alice")] {
        for (limit, at_once) in [(1, 1), (one, 1), (one + 1, 2), (3 * one, 3), (3 * one + 1, 4)] {
            let mut world = World::with(|config| config.max_inflight_bytes = limit);
            let [alice, bob] = [world.connect(publisher), world.connect(v3("bob").lasting(0))];
            world.subscribe(bob, &[("a", 2)]);
            for n in 1..=6 {
                world.publish(alice, "a", "x", 1, n);
                world.audit();
            }
            assert_eq!(world.received(bob).len(), at_once, "{limit} of {one}");
            for n in 1..=6 - u16::try_from(at_once).unwrap() {
                world.ack(bob, AckType::Puback, n);
                world.audit();
                assert_eq!(world.received(bob).len(), 1, "one place, one message");
            }
            world.cut(bob);
            let bob = world.connect(v3("bob").lasting(0));
            assert_eq!(world.received(bob).len(), at_once, "all that was in flight, and no more");
            world.audit();
        }
    }
}

#[test]
fn a_message_that_the_receiver_has_taken_over_is_not_in_flight_any_more() {
    let mut world = World::with(|config| config.max_inflight_bytes = 1);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.subscribe(bob, &[("a", 2)]);
    for n in 1..=3 {
        world.publish(alice, "a", "x", 2, n);
    }
    assert_eq!(world.received(bob), ["PUBLISH q2 #1 a=x"]);
    world.ack(bob, AckType::Pubrec, 1);
    assert_eq!(world.received(bob), ["PUBLISH q2 #2 a=x", "PUBREL #1"]);
    world.ack(bob, AckType::Pubcomp, 1);
    assert_eq!(world.received(bob), NOTHING);
    world.ack(bob, AckType::Pubrec, 2);
    assert_eq!(world.received(bob).len(), 2);
    world.audit();
}

#[test]
fn a_member_with_no_bytes_left_in_flight_is_passed_over_and_qos_0_waits_for_nobody() {
    let mut world = World::with(|config| config.max_inflight_bytes = 1);
    let alice = world.connect(v3("alice"));
    let members = [world.connect(v3("bob")), world.connect(v3("carol"))];
    for member in members {
        world.subscribe(member, &[("$share/g/a", 1), ("b", 0)]);
    }
    for n in 1..=3 {
        world.publish(alice, "a", "x", 1, n);
    }
    let first = members.map(|member| world.received(member).len());
    assert_eq!(first, [1, 1], "the third waits for either");
    world.publish(alice, "b", "y", 0, 0);
    assert_eq!(members.map(|member| world.received(member)), [["PUBLISH q0 b=y"], ["PUBLISH q0 b=y"]]);
    for member in members {
        world.ack(member, AckType::Puback, 1);
    }
    assert_eq!(members.map(|member| world.received(member).len()).iter().sum::<usize>(), 1);
    world.audit();
}
