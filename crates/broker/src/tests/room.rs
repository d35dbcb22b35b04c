//! What is kept for later gives its memory back.

use alloc::{format, vec::Vec};
use core::num::NonZeroU16;

use damselfly_codec::SubscriptionOptions;
use damselfly_topic::TopicFilter;

use crate::{
    broker::WORK_PER_CALL,
    tests::{NOW, broker, connect, publish, settle, subscribe, take},
};

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

/// They leave the index in several calls.
#[test]
fn a_session_that_ended_with_very_many_subscriptions_gives_its_place_back() {
    let mut broker = broker(|_| {});
    let house = broker.open_local(NOW, "house", NonZeroU16::MIN).unwrap();
    for n in 0..=WORK_PER_CALL {
        let text = format!("{n}");
        let filter = TopicFilter::new(&text).unwrap();
        broker.local_subscribe(NOW, house, filter, SubscriptionOptions::default(), None);
    }
    broker.close_local(NOW, house);
    assert_eq!((broker.sessions_len(), broker.sessions.all().count()), (0, 1), "one subscription is left");
    broker.handle_timeout(NOW);
    assert_eq!((broker.sessions_len(), broker.sessions.all().count()), (0, 0));
    assert_eq!(broker.poll_timeout(), None);
}
