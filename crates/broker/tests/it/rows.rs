//! What comes many at a time is handled as one by one.

use damselfly_codec::AckType;

use super::world::{World, v3, v5};

/// Acknowledgements of four bytes.
fn row(first: u8, ids: impl IntoIterator<Item = u16>) -> Vec<u8> {
    ids.into_iter().flat_map(|id| [first, 2, id.to_be_bytes()[0], id.to_be_bytes()[1]]).collect()
}

#[test]
fn a_row_of_pubrels_is_left_unread_at_the_limit_and_none_is_lost() {
    // Receive Maximum and 64 more.
    for (unknown, is_paused) in [(66, false), (67, true)] {
        let mut world = World::with(|config| config.receive_maximum = 3);
        let alice = world.connect(v3("alice"));
        world.publish(alice, "a", "x", 2, 1);
        world.received(alice);
        world.holds_commits = true;
        world.send_bytes(alice, &row(0x62, 1..=1 + unknown));
        assert_eq!(world.is_paused(alice), is_paused, "{unknown} behind one that waits");
        assert_eq!(world.received(alice), [""; 0], "each behind the first");
        world.commit();
        assert!(!world.is_paused(alice));
        assert_eq!(world.received_bytes(alice), row(0x70, 1..=1 + unknown));
    }
}

#[test]
fn acknowledgements_in_a_row_free_as_many_places() {
    let mut world = World::with(|config| config.max_inflight = 3);
    let [alice, bob] = [world.connect(v3("alice")), world.connect(v3("bob"))];
    world.subscribe(bob, &[("a", 2)]);
    for id in 1..=7 {
        world.publish(alice, "a", "x", 2, id);
        world.ack(alice, AckType::Pubrel, id);
    }
    assert_eq!(world.received(bob).len(), 3);
    world.send_bytes(bob, &row(0x50, 1..=3));
    assert_eq!(world.received_bytes(bob), row(0x62, 1..=3), "in the order of the PUBRECs");
    world.send_bytes(bob, &row(0x70, [2, 1, 3, 9]));
    assert_eq!(world.received(bob).len(), 3);
}

#[test]
fn a_row_ends_where_an_acknowledgement_breaks_the_rules() {
    let mut world = World::new();
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.subscribe(bob, &[("a", 1)]);
    for id in 1..=3 {
        world.publish(alice, "a", "x", 1, id);
    }
    world.received(bob);
    let mut acks = row(0x40, [1]);
    acks.extend(row(0x50, [2]));
    acks.extend(row(0x40, [3]));
    world.send_bytes(bob, &acks);
    assert_eq!(world.received(bob), ["DISCONNECT 82"], "PUBREC does not answer a QoS 1 message");
    assert!(world.is_closed(bob));
}

#[test]
fn a_packet_id_of_zero_in_a_row_is_a_protocol_error() {
    let mut world = World::new();
    let bob = world.connect(v5("bob"));
    world.send_bytes(bob, &row(0x40, [1, 0, 2]));
    assert_eq!(world.received(bob), ["DISCONNECT 82"]);
}

#[test]
fn a_packet_that_goes_on_as_it_came_has_the_receivers_id_and_flags() {
    for (alice, bob, frame, expected) in [
        (v3("alice"), v3("bob"), &b"\x3a\x06\x00\x01a\x00\x091"[..], &b"\x32\x06\x00\x01a\x00\x041"[..]),
        (v5("alice"), v5("bob"), b"\x3a\x07\x00\x01a\x00\x09\x001", b"\x32\x07\x00\x01a\x00\x04\x001"),
        (v5("alice"), v3("bob"), b"\x3a\x07\x00\x01a\x00\x09\x001", b"\x32\x06\x00\x01a\x00\x041"),
        (v3("alice"), v5("bob"), b"\x3a\x06\x00\x01a\x00\x091", b"\x32\x07\x00\x01a\x00\x04\x001"),
    ] {
        let mut world = World::new();
        let [alice, bob] = [world.connect(alice), world.connect(bob)];
        world.subscribe(bob, &[("a", 1)]);
        // From the third on the receivers are known.
        for _ in 0..4 {
            world.received_bytes(bob);
            world.send_bytes(alice, frame);
        }
        assert_eq!(world.received_bytes(bob), expected);
        assert_eq!(world.received_bytes(alice).len(), 16, "four PUBACKs");
    }
}
