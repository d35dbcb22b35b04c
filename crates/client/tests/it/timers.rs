//! Keep alive, timeouts and pauses: time is an input.

use core::time::Duration;

use damselfly_client::{ConnectionEnd, Event, Output};
use damselfly_codec::{Packet, Property, QoS, Version};
use damselfly_session::{SessionExpiry, Timestamp};

use crate::peer::Peer;

fn ends(peer: &Peer) -> Vec<ConnectionEnd> {
    let end = |event: &Event| match event {
        Event::Disconnected(end) => Some(end.clone()),
        _ => None,
    };
    peer.events.iter().filter_map(end).collect()
}

/// [MQTT-3.1.2-20] [MQTT3-3.1.2-23]
#[test]
fn pingreq_is_sent_after_a_keep_alive_period_without_other_packets() {
    for version in [Version::V3_1_1, Version::V5_0] {
        let mut peer = Peer::connected(version, |config| config.keep_alive = 10);
        peer.pass(9);
        peer.publish(QoS::AtMostOnce, "a", "x");
        peer.forget();
        assert_eq!(peer.client.poll_timeout(), Some(Timestamp::from_secs(1_019)));
        peer.pass(9);
        assert_eq!(peer.take_sent(), [""; 0]);
        peer.pass(1);
        assert_eq!(peer.take_sent(), ["PINGREQ"]);
    }
}

#[test]
fn idle_is_measured_from_flushed_bytes() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.keep_alive = 10);
    peer.is_flushing = false;
    peer.publish(QoS::AtMostOnce, "a", "x");
    peer.pass(10);
    peer.flush();
    assert_eq!(peer.take_sent(), ["PUBLISH q0 a x", "PINGREQ"], "the network took nothing for a whole period");
}

/// [MQTT-3.1.2-21] [MQTT-3.2.2-21]
#[test]
fn server_keep_alive_wins() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::ServerKeepAlive(3)], |config| config.keep_alive = 10);
    peer.pass(2);
    assert_eq!(peer.take_sent(), [""; 0]);
    peer.pass(1);
    assert_eq!(peer.take_sent(), ["PINGREQ"]);
}

#[test]
fn keep_alive_of_zero_sends_no_pingreq() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.keep_alive = 0);
    assert_eq!(peer.client.poll_timeout(), None);
    peer.pass(100_000);
    assert_eq!(peer.take_sent(), [""; 0]);
}

#[test]
fn broker_that_does_not_answer_pingreq_is_given_up() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.keep_alive = 10;
        config.ping_timeout = Duration::from_secs(4);
    });
    peer.pass(10);
    peer.pass(3);
    assert!(peer.client.is_connected());
    peer.pass(1);
    assert!(peer.is_closed);
    peer.lose();
    assert_eq!(ends(&peer), [ConnectionEnd::PingTimeout]);
}

#[test]
fn any_byte_from_the_broker_is_life() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.keep_alive = 10;
        config.ping_timeout = Duration::from_secs(4);
    });
    peer.pass(10);
    peer.pass(3);
    assert_eq!(peer.receive_bytes(&[0x30]).consumed, 0, "not even a whole packet");
    peer.pass(3);
    assert!(peer.client.is_connected());
    assert_eq!(peer.receive_bytes(&[0x30, 0x04, 0x00, 0x01, b'a', 0x00]).consumed, 6);
    peer.receive(&Packet::Pingresp);
    peer.pass(8);
    assert!(peer.client.is_connected());
}

#[test]
fn year_of_keep_alives_passes_without_an_end() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.keep_alive = 600);
    let mut pings = 0;
    while let Some(at) = peer.client.poll_timeout().filter(|at| *at < Timestamp::from_secs(365 * 86_400)) {
        peer.now = at;
        peer.pass(0);
        assert_eq!(peer.take_sent(), ["PINGREQ"]);
        peer.receive(&Packet::Pingresp);
        pings += 1;
    }
    assert!(peer.client.is_connected());
    assert_eq!(pings, (365 * 86_400 - 1_000 - 1) / 600);
}

#[test]
fn missing_connack_ends_the_attempt() {
    let mut peer = Peer::new(Version::V5_0, |config| config.connect_timeout = Duration::from_secs(7));
    peer.transport_up();
    assert_eq!(peer.client.poll_timeout(), Some(Timestamp::from_secs(1_007)));
    peer.pass(6);
    assert!(!peer.is_closed);
    peer.pass(1);
    assert!(peer.is_closed);
    peer.lose();
    assert_eq!(ends(&peer), [ConnectionEnd::ConnectTimeout]);
}

#[test]
fn wait_for_pingresp_stands_still_while_the_application_pauses_and_pingreq_is_sent() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.keep_alive = 10;
        config.ping_timeout = Duration::from_secs(4);
    });
    peer.client.pause(peer.now);
    assert_eq!(peer.receive_bytes(&[0xD0, 0x00]).consumed, 0);
    for _ in 0..5 {
        peer.pass(10);
        assert_eq!(peer.take_sent(), ["PINGREQ"]);
    }
    assert!(peer.client.is_connected());

    peer.client.resume(peer.now);
    peer.poll();
    assert_eq!(peer.resumes, 1);
    peer.pass(3);
    assert!(peer.client.is_connected());
    peer.pass(1);
    assert!(peer.is_closed, "now the silence is the broker's");
}

#[test]
fn connection_opens_during_a_pause_and_what_follows_connack_waits() {
    let of_3_1_1: [&[u8]; 2] = [&[0x20, 0x02, 0x01, 0x00], &[0x30, 0x03, 0x00, 0x01, b'a']];
    let of_5_0: [&[u8]; 2] = [&[0x20, 0x03, 0x01, 0x00, 0x00], &[0x30, 0x04, 0x00, 0x01, b'a', 0x00]];
    for (version, [connack, publish]) in [(Version::V3_1_1, of_3_1_1), (Version::V5_0, of_5_0)] {
        let mut peer = Peer::connected(version, |config| config.session_expiry = SessionExpiry::Never);
        peer.client.pause(peer.now);
        peer.lose();
        peer.transport_up();

        let intake = peer.receive_bytes(&[connack, publish].concat());

        assert_eq!((intake.consumed, intake.paused), (connack.len(), true));
        assert!(peer.client.is_connected());
        peer.client.resume(peer.now);
        assert_eq!(peer.receive_bytes(publish).consumed, publish.len());
    }
}

#[test]
fn messages_that_nobody_takes_pause_the_input() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.max_waiting_messages = 3);
    let one = [0x30, 0x04, 0x00, 0x01, b'a', 0x00];
    let many: Vec<u8> = one.repeat(5);

    let intake = peer.client.handle_input(peer.now, &many);

    assert!(intake.paused);
    assert_eq!(intake.consumed, 3 * one.len());
    peer.poll();
    assert_eq!(peer.take_messages().len(), 3);
    assert_eq!(peer.resumes, 1);
    let rest = peer.client.handle_input(peer.now, &many[intake.consumed..]);
    assert_eq!((rest.consumed, rest.paused), (2 * one.len(), false));
}

#[test]
fn bytes_that_nobody_takes_pause_the_input() {
    // A message of 4 bytes with a topic of 1 takes as much as the next of its size.
    let one = [0x30, 0x08, 0x00, 0x01, b'a', 0x00, b'b', b'c', b'd', b'e'];
    let many: Vec<u8> = one.repeat(9);
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let _ = peer.client.handle_input(peer.now, &one);
    let Some(Output::Event(Event::Message(inbound))) = peer.client.poll_output() else { panic!("a message") };
    let bytes = inbound.message.heap_bytes();

    for (max, taken) in [(3 * bytes, 3), (3 * bytes + 1, 4)] {
        let mut peer = Peer::connected(Version::V5_0, |config| config.max_waiting_bytes = max);
        let intake = peer.client.handle_input(peer.now, &many);
        assert_eq!((intake.consumed, intake.paused), (taken * one.len(), true));
    }

    // Reading goes on not at the first free place, but at half of them.
    let mut peer = Peer::connected(Version::V5_0, |config| config.max_waiting_bytes = 3 * bytes);
    assert!(peer.client.handle_input(peer.now, &many).paused);
    assert!(matches!(peer.client.poll_output(), Some(Output::Event(Event::Message(_)))));
    assert_eq!(peer.client.handle_input(peer.now, &one).consumed, one.len());
    let rest: Vec<bool> =
        core::iter::from_fn(|| peer.client.poll_output()).map(|output| matches!(output, Output::Resume)).collect();
    assert_eq!(rest, [false, false, false, true]);
}

#[test]
fn early_and_late_timeouts_are_harmless() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    peer.pass(0);
    peer.connect(false, &[]);
    peer.forget();
    for _ in 0..3 {
        peer.pass(0);
    }
    assert_eq!(peer.take_sent(), [""; 0]);
}
