//! What outlives a connection: replay, the broker's memory, and its loss.

use damselfly_client::{
    CleanStart, ConnectionEnd, Event, IndeterminateReason, LostSession, Outcome, SessionStatus, TransportLost,
};
use damselfly_codec::{AckType, Connack, Packet, Property, QoS, ReasonCode, Version};
use damselfly_session::SessionExpiry;

use crate::peer::{EMPTY, Peer, properties};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5_0];

fn persistent(version: Version) -> Peer {
    Peer::connected(version, |config| config.session_expiry = SessionExpiry::Never)
}

fn status(peer: &Peer) -> SessionStatus {
    let connected = peer.events.iter().find_map(|event| match event {
        Event::Connected(connected) => Some(connected.session),
        _ => None,
    });
    connected.expect("connected")
}

/// [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-3.3.1-1] [MQTT-3.3.1-3] [MQTT3-4.6.0-1] [MQTT3-4.4.0-1] [MQTT3-3.3.1-1] [MQTT3-2.3.1-3] [MQTT3-4.1.0-1]
#[test]
fn unacknowledged_messages_are_sent_again_in_their_order_with_dup() {
    for version in BOTH {
        let mut peer = persistent(version);
        peer.publish(QoS::AtLeastOnce, "a", "1");
        peer.publish(QoS::ExactlyOnce, "a", "2");
        peer.publish(QoS::AtLeastOnce, "a", "3");
        peer.receive_ack(AckType::Puback, 1);

        peer.reconnect(true);

        assert_eq!(peer.take_sent(), ["CONNECT heron resume 60", "PUBLISH q2 #2 dup a 2", "PUBLISH q1 #3 dup a 3"]);
        peer.receive_ack(AckType::Pubrec, 2);
        peer.receive_ack(AckType::Pubcomp, 2);
        peer.receive_ack(AckType::Puback, 3);
        assert_eq!(peer.take_outcomes().len(), 2);
    }
}

/// [MQTT-4.3.3-6] [MQTT-4.4.0-1] [MQTT3-4.3.3-1] [MQTT3-4.4.0-1]
#[test]
fn after_pubrec_pubrel_is_sent_again_and_publish_never() {
    for version in BOTH {
        let mut peer = persistent(version);
        let ticket = peer.publish(QoS::ExactlyOnce, "a", "1");
        peer.receive_ack(AckType::Pubrec, 1);
        peer.reconnect(true);
        assert_eq!(peer.take_sent(), ["CONNECT heron resume 60", "PUBREL #1"]);
        peer.receive_ack(AckType::Pubcomp, 1);
        let reason_code = ReasonCode::Success;
        assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Acknowledged { reason_code })]);
    }
}

/// [MQTT-4.6.0-4] [MQTT3-4.6.0-4]
#[test]
fn pubrels_are_sent_and_sent_again_in_the_order_of_their_pubrecs() {
    for version in BOTH {
        let mut peer = persistent(version);
        for payload in ["1", "2", "3", "4"] {
            peer.publish(QoS::ExactlyOnce, "a", payload);
        }
        peer.forget();
        for id in [3, 1, 4, 3] {
            peer.receive_ack(AckType::Pubrec, id);
        }
        assert_eq!(peer.take_sent(), ["PUBREL #3", "PUBREL #1", "PUBREL #4", "PUBREL #3"]);
        peer.reconnect(true);
        assert_eq!(peer.take_sent()[1..], ["PUBREL #3", "PUBREL #1", "PUBREL #4", "PUBLISH q2 #2 dup a 2"]);
        peer.receive_ack(AckType::Pubrec, 2);
        peer.reconnect(true);
        assert_eq!(peer.take_sent()[1..], ["PUBREL #3", "PUBREL #1", "PUBREL #4", "PUBREL #2"]);
    }
}

/// [MQTT-4.6.0-4]
#[test]
fn pubrec_during_the_replay_is_answered_once_and_in_its_turn() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.session_expiry = SessionExpiry::Never;
        config.max_transmit_bytes = 1;
    });
    for payload in ["1", "2", "3"] {
        peer.publish(QoS::ExactlyOnce, "a", payload);
    }
    peer.receive_ack(AckType::Pubrec, 1);
    peer.receive_ack(AckType::Pubrec, 2);
    peer.lose();
    peer.forget();
    peer.transport_up();
    peer.is_flushing = false;
    peer.receive(&Packet::Connack(Connack {
        session_present: true,
        reason_code: ReasonCode::Success,
        properties: EMPTY,
    }));
    peer.receive_ack(AckType::Pubrec, 3);
    peer.is_flushing = true;
    peer.flush();
    peer.poll();
    let sent = peer.take_sent();
    let pubrels: Vec<_> = sent.iter().filter(|line| line.starts_with("PUBREL")).collect();
    assert_eq!(pubrels, ["PUBREL #1", "PUBREL #2", "PUBREL #3"], "{sent:?}");
}

/// [MQTT-3.3.4-7]
#[test]
fn replay_keeps_within_the_window_of_the_new_connection() {
    let two = core::num::NonZeroU16::new(2).unwrap();
    let mut peer = persistent(Version::V5_0);
    for payload in ["1", "2", "3", "4"] {
        peer.publish(QoS::AtLeastOnce, "a", payload);
    }
    peer.lose();
    peer.publish(QoS::AtLeastOnce, "a", "5");
    peer.forget();

    peer.connect(true, &[Property::ReceiveMaximum(two)]);
    peer.publish(QoS::AtLeastOnce, "a", "6");

    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #1 dup a 1", "PUBLISH q1 #2 dup a 2"]);
    peer.receive_ack(AckType::Puback, 1);
    peer.receive_ack(AckType::Puback, 2);
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #3 dup a 3", "PUBLISH q1 #4 dup a 4"]);
    peer.receive_ack(AckType::Puback, 3);
    peer.receive_ack(AckType::Puback, 4);
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #5 a 5", "PUBLISH q1 #6 a 6"], "replay, then the queue, then new");
}

/// A PUBREL that is sent again took no slot, so its PUBCOMP gives none back. [MQTT-4.9.0-2]
#[test]
fn pubcomp_of_an_earlier_connection_frees_no_slot() {
    let one = core::num::NonZeroU16::MIN;
    let mut peer = persistent(Version::V5_0);
    peer.publish(QoS::ExactlyOnce, "a", "1");
    peer.receive_ack(AckType::Pubrec, 1);
    peer.publish(QoS::AtLeastOnce, "a", "2");
    peer.publish(QoS::AtLeastOnce, "a", "3");
    peer.lose();
    peer.forget();
    peer.connect(true, &[Property::ReceiveMaximum(one)]);
    assert_eq!(peer.take_sent()[1..], ["PUBREL #1", "PUBLISH q1 #2 dup a 2"]);

    peer.receive_ack(AckType::Pubcomp, 1);

    assert_eq!(peer.take_sent(), [""; 0], "2 is still in flight");
    peer.receive_ack(AckType::Puback, 2);
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #3 dup a 3"]);
}

/// [MQTT-3.2.2-5]
#[test]
fn messages_in_flight_are_indeterminate_when_the_broker_lost_the_session() {
    for version in BOTH {
        let mut peer = persistent(version);
        let first = peer.publish(QoS::AtLeastOnce, "a", "1");
        let second = peer.publish(QoS::ExactlyOnce, "a", "2");
        peer.reconnect(false);
        let lost = Outcome::Indeterminate(IndeterminateReason::SessionLost);
        assert_eq!(peer.take_outcomes(), [(first, lost.clone()), (second, lost)]);
        assert_eq!(peer.take_sent(), ["CONNECT heron resume 60"]);
        assert_eq!(status(&peer), SessionStatus::Lost);
    }
}

#[test]
fn qos1_messages_of_a_lost_session_are_published_anew_if_asked_for() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.session_expiry = SessionExpiry::Never;
        config.lost_session = LostSession::RepublishAtLeastOnce;
    });
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.publish(QoS::ExactlyOnce, "a", "2");
    peer.publish(QoS::AtLeastOnce, "a", "3");
    peer.lose();
    peer.publish(QoS::AtLeastOnce, "a", "4");
    peer.forget();

    peer.connect(false, &[]);

    let lost = Outcome::Indeterminate(IndeterminateReason::SessionLost);
    assert_eq!(peer.take_outcomes(), [(2, lost)]);
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #4 a 1", "PUBLISH q1 #5 a 3", "PUBLISH q1 #6 a 4"]);
}

/// [MQTT-3.2.2-4]
#[test]
fn session_that_is_not_ours_closes_the_connection() {
    let mut peer = Peer::new(Version::V5_0, |config| config.clean_start = CleanStart::Never);
    peer.connect(true, &[]);
    assert_eq!(peer.take_sent(), ["CONNECT heron resume 60", "DISCONNECT 0x82"]);
    assert!(peer.is_closed);
}

#[test]
fn session_of_an_earlier_run_is_adopted_if_the_application_vouches_for_it() {
    let mut peer = Peer::new(Version::V5_0, |config| config.adopt_session = true);
    peer.connect(true, &[]);
    assert!(peer.client.is_connected());
    assert_eq!(status(&peer), SessionStatus::Resumed);
    assert_eq!(peer.take_sent(), ["CONNECT heron resume 60"]);
}

/// [MQTT-3.1.2-4] [MQTT-3.2.2-2]
#[test]
fn session_present_after_a_clean_start_closes_the_connection() {
    for version in BOTH {
        let mut peer = Peer::new(version, |_| ());
        peer.connect(true, &[]);
        assert!(peer.is_closed);
        assert!(!peer.client.is_connected());
    }
}

/// [MQTT-3.1.2-23]
#[test]
fn session_ends_with_its_expiry() {
    let expiry = SessionExpiry::from_wire(Some(5));
    for (seconds, connect) in [(5, "CONNECT heron resume 60"), (6, "CONNECT heron clean 60")] {
        let mut peer = Peer::connected(Version::V5_0, |config| config.session_expiry = expiry);
        peer.lose();
        peer.forget();
        peer.pass(seconds);
        peer.transport_up();
        assert_eq!(peer.take_sent(), [connect]);
    }
}

#[test]
fn session_expiry_of_the_broker_wins() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::SessionExpiryInterval(0)], |config| {
        config.session_expiry = SessionExpiry::Never;
    });
    peer.lose();
    peer.forget();
    peer.transport_up();
    assert_eq!(peer.take_sent(), ["CONNECT heron clean 60"]);
}

/// [MQTT3-3.1.2-4] [MQTT3-3.1.2-6]
#[test]
fn clean_session_of_3_1_1_follows_from_the_session_expiry() {
    for (expiry, connect) in
        [(SessionExpiry::OnClose, "CONNECT heron clean 60"), (SessionExpiry::Never, "CONNECT heron resume 60")]
    {
        let mut peer = Peer::new(Version::V3_1_1, |config| config.session_expiry = expiry);
        peer.transport_up();
        assert_eq!(peer.take_sent(), [connect]);
    }
}

/// [MQTT-3.2.2-16]
#[test]
fn assigned_client_identifier_is_used_from_then_on() {
    let mut peer = Peer::new(Version::V5_0, |config| {
        config.client_id = "".into();
        config.session_expiry = SessionExpiry::Never;
    });
    peer.connect(false, &[Property::AssignedClientIdentifier("auto-1")]);
    assert_eq!(peer.take_sent(), ["CONNECT  clean 60"]);
    peer.reconnect(true);
    assert_eq!(peer.take_sent(), ["CONNECT auto-1 resume 60"]);
}

#[test]
fn refused_connection_tells_the_reason_and_where_to_go() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    peer.transport_up();
    let says = properties(&[Property::ServerReference("other:1883"), Property::ReasonString("moving")]);
    peer.receive(&Packet::Connack(Connack {
        session_present: false,
        reason_code: ReasonCode::UseAnotherServer,
        properties: says.as_properties(),
    }));
    assert!(peer.is_closed);
    peer.needs.clear();
    peer.lose();

    let end = ConnectionEnd::Refused {
        reason_code: ReasonCode::UseAnotherServer,
        reason_string: Some("moving".into()),
        server_reference: Some("other:1883".into()),
    };
    assert!(peer.events.iter().any(|event| matches!(event, Event::Disconnected(why) if *why == end)));
    assert_eq!(peer.needs[0].server_reference.as_deref(), Some("other:1883"));
}

#[test]
fn three_1_1_return_code_is_told_as_a_reason_code() {
    let mut peer = Peer::new(Version::V3_1_1, |_| ());
    peer.transport_up();
    peer.receive(&Packet::Connack(Connack {
        session_present: false,
        reason_code: ReasonCode::BadUserNameOrPassword,
        properties: EMPTY,
    }));
    peer.lose();
    assert!(peer.events.iter().any(|event| matches!(
        event,
        Event::Disconnected(ConnectionEnd::Refused { reason_code: ReasonCode::BadUserNameOrPassword, .. })
    )));
}

#[test]
fn attempts_count_up_and_a_stable_connection_sets_them_back() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    assert_eq!((peer.needs[0].attempt, peer.needs[0].not_before.as_micros()), (1, 0));
    for attempt in [2, 3, 4] {
        peer.needs.clear();
        peer.client.handle_transport_lost(peer.now, TransportLost::NotOpened);
        peer.poll();
        assert_eq!(peer.needs[0].attempt, attempt);
        assert!(
            peer.needs[0].not_before.saturating_since(peer.now) <= core::time::Duration::from_secs(1 << (attempt - 2))
        );
    }
    peer.connect(false, &[]);
    peer.pass(10);
    peer.needs.clear();
    peer.lose();
    assert_eq!(peer.needs[0].attempt, 2);
}

#[test]
fn connection_that_ends_at_once_goes_on_counting() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    peer.connect(false, &[]);
    peer.pass(9);
    peer.lose();
    peer.connect(false, &[]);
    peer.lose();
    assert_eq!(peer.needs.iter().map(|need| need.attempt).collect::<Vec<_>>(), [1, 2, 3]);
}

/// [MQTT3-3.1.3-7]
#[test]
fn empty_client_identifier_asks_for_a_clean_session_before_5_0() {
    let mut peer = Peer::new(Version::V3_1_1, |config| {
        config.client_id = "".into();
        config.session_expiry = SessionExpiry::Never;
    });
    peer.connect(false, &[]);
    assert_eq!(peer.take_sent(), ["CONNECT  clean 60"]);
    peer.reconnect(false);
    assert_eq!(peer.take_sent(), ["CONNECT  clean 60"]);
    assert_eq!(status(&peer), SessionStatus::New);
}

/// [MQTT-3.1.3-2] [MQTT3-3.1.3-2]
#[test]
fn every_connection_uses_the_same_client_identifier() {
    for version in BOTH {
        let mut peer = persistent(version);
        for _ in 0..3 {
            peer.reconnect(true);
            assert_eq!(peer.take_sent(), ["CONNECT heron resume 60"]);
        }
    }
}

/// [MQTT-4.1.0-1] [MQTT3-4.1.0-2]
#[test]
fn session_lasts_as_long_as_its_connection_whatever_its_expiry() {
    let expiry = SessionExpiry::from_wire(Some(5));
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.session_expiry = expiry;
        config.keep_alive = 0;
    });
    let ticket = peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.pass(1_000);
    peer.receive_ack(AckType::Puback, 1);
    let reason_code = ReasonCode::Success;
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Acknowledged { reason_code })]);
}

/// [MQTT3-3.1.2-6]
#[test]
fn clean_session_of_3_1_1_ends_with_its_connection() {
    let mut peer = Peer::new(Version::V3_1_1, |config| {
        config.session_expiry = SessionExpiry::Never;
        config.clean_start = CleanStart::Always;
    });
    peer.connect(false, &[]);
    peer.reconnect(false);
    assert_eq!(peer.take_sent(), ["CONNECT heron clean 60"]);
    assert_eq!(status(&peer), SessionStatus::New, "there was none to lose");
}
