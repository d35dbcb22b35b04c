//! What is kept for later gives its memory back.

use alloc::vec::Vec;

use crate::tests::{NOW, broker, connect, publish, settle, subscribe, take};

#[test]
fn a_connection_keeps_room_for_few_acknowledgements() {
    let mut broker = broker(|config| config.receive_maximum = 500);
    let alice = connect(&mut broker, "alice");
    let room = |broker: &mut crate::Broker| broker.connections.get(alice).unwrap().acks.capacity();
    let mut bytes = Vec::new();
    for packet_id in 1..=200 {
        bytes.extend([0x32, 6, 0, 1, b'a', 0, packet_id, b'x']);
    }
    let intake = broker.handle_input(NOW, alice, &bytes);
    assert_eq!(intake.consumed, bytes.len());
    assert!(room(&mut broker) >= 200, "each waits for the commit");
    settle(&mut broker, false);
    assert_eq!(take(&mut broker, alice), 200 * 4);
    assert!((1..=64).contains(&room(&mut broker)), "as many as stand in a row");
    subscribe(&mut broker, alice, 0);
    assert_eq!(room(&mut broker), 0, "most who subscribe acknowledge nothing more");
    publish(&mut broker, alice, 1, 1);
    assert!(room(&mut broker) > 0, "and who publishes keeps it");
}
