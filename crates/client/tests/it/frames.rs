//! Packets in a buffer of their own.

use core::time::Duration;

use bytes::Bytes;
use damselfly_client::{ConnectionEnd, Event, InboundMessage, Message};
use damselfly_codec::{Foreign, Frame, FrameLimits, Packet, Property, QoS, ReasonCode, SubscriptionId, Version};

use crate::peer::{EMPTY, Peer, properties, publish};

fn frame(version: Version, qos: QoS, payload: &str) -> Frame {
    let mut bytes = Vec::new();
    let packet = Packet::Publish(publish(qos, 7, false, "a", payload, EMPTY));
    packet.encode(version, Foreign::Reject, &mut bytes).expect("tests send what can be encoded");
    Frame::new(Bytes::from(bytes), &FrameLimits::default()).expect("it is one packet")
}

/// Each of the identifiers takes two bytes.
fn frame_with_ids(count: usize, payload: &str) -> Frame {
    let id = Property::SubscriptionIdentifier(SubscriptionId::new(7).expect("it is one"));
    let says = properties(&vec![id; count]);
    let mut bytes = Vec::new();
    let packet = Packet::Publish(publish(QoS::AtMostOnce, 0, false, "a", payload, says.as_properties()));
    packet.encode(Version::V5_0, Foreign::Reject, &mut bytes).expect("tests send what can be encoded");
    Frame::new(Bytes::from(bytes), &FrameLimits::default()).expect("it is one packet")
}

fn last_message(peer: &mut Peer) -> Message {
    match peer.events.pop() {
        Some(Event::Message(InboundMessage { message, .. })) => message,
        other => panic!("a message, not {other:?}"),
    }
}

#[test]
fn payload_of_a_large_frame_is_shared_and_that_of_a_small_one_copied() {
    for version in [Version::V3_1_1, Version::V5_0] {
        let mut peer = Peer::connected(version, |_| ());
        for (len, is_shared) in [(4_095, false), (4_096, true)] {
            let frame = frame(version, QoS::AtLeastOnce, &"x".repeat(len));
            let intake = peer.client.handle_frame(peer.now, &frame);
            peer.poll();
            assert_eq!((intake.consumed, intake.paused), (frame.len(), false));
            let message = last_message(&mut peer);
            assert_eq!(message.payload().len(), len);
            assert_eq!(frame.as_ptr_range().contains(&message.payload().as_ptr()), is_shared, "{len} bytes");
            assert_eq!(peer.take_sent(), ["PUBACK #7"]);
        }
    }
}

/// Else a message would hold memory that nobody counts: Subscription Identifiers are not kept with it.
#[test]
fn payload_that_is_less_than_half_of_its_frame_is_copied() {
    for (ids, is_shared) in [(2_040, true), (2_060, false)] {
        let mut peer = Peer::connected(Version::V5_0, |_| ());
        let frame = frame_with_ids(ids, &"x".repeat(4_096));
        assert_eq!(frame.len() <= 2 * 4_096, is_shared);
        assert_eq!(peer.client.handle_frame(peer.now, &frame).consumed, frame.len());
        peer.poll();
        let message = last_message(&mut peer);
        assert_eq!(message.payload().len(), 4_096);
        assert_eq!(frame.as_ptr_range().contains(&message.payload().as_ptr()), is_shared, "{} bytes", frame.len());
    }
}

#[test]
fn subscription_identifiers_count_among_the_bytes_that_wait() {
    for (limit, is_paused) in [(8_000, true), (40_000, false)] {
        let mut peer = Peer::connected(Version::V5_0, |config| config.max_waiting_bytes = limit);
        let frame = frame_with_ids(2_000, "");
        let bytes = [&frame[..], &frame[..]].concat();
        let intake = peer.client.handle_input(peer.now, &bytes);
        assert_eq!((intake.paused, intake.consumed == frame.len()), (is_paused, is_paused), "{limit}");
        peer.poll();
        assert_eq!(peer.resumes, usize::from(is_paused), "taken, they count no more");
    }
}

#[test]
fn frame_waits_while_input_is_paused() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.client.pause(peer.now);
    let frame = frame(Version::V5_0, QoS::AtMostOnce, "x");
    let intake = peer.client.handle_frame(peer.now, &frame);
    assert_eq!((intake.consumed, intake.paused), (0, true));
    peer.client.resume(peer.now);
    peer.poll();
    assert_eq!(peer.resumes, 1);
    assert_eq!(peer.client.handle_frame(peer.now, &frame).consumed, frame.len());
    peer.poll();
    assert_eq!(peer.take_messages(), ["a x"]);
}

#[test]
fn frame_that_is_wrong_ends_the_connection_as_bytes_would() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.maximum_packet_size = 9);
    let too_large = frame(Version::V5_0, QoS::AtMostOnce, "0123");
    assert_eq!(too_large.len(), 10);
    let intake = peer.client.handle_frame(peer.now, &too_large);
    peer.poll();
    assert_eq!((intake.consumed, peer.is_closed), (10, true));
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x95"]);
    // What comes after it is void.
    assert_eq!(peer.client.handle_frame(peer.now, &too_large).consumed, 10);
    peer.lose();
    let Some(Event::Disconnected(ConnectionEnd::PeerError { reason_code, .. })) = peer.events.pop() else {
        panic!("the broker broke a rule")
    };
    assert_eq!(reason_code, ReasonCode::PacketTooLarge);
}

#[test]
fn bytes_of_a_packet_on_its_way_are_life() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.keep_alive = 10;
        config.ping_timeout = Duration::from_secs(4);
    });
    peer.pass(10);
    assert_eq!(peer.take_sent(), ["PINGREQ"]);
    peer.pass(3);
    peer.client.handle_progress(peer.now);
    peer.pass(2);
    assert!(peer.client.is_connected(), "the broker is sending a large packet");
}
