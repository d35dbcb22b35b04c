//! The beginning and the end of connections, broken rules, authentication, closing.

use damselfly_client::{
    ConnectParameters, ConnectionEnd, DropReason, Event, IndeterminateReason, Outcome, TransportLost, UsageError, Will,
};
use damselfly_codec::{
    AckType, Auth, Connack, Disconnect, Foreign, Packet, PropertiesBuf, Property, QoS, ReasonCode, Version,
};
use damselfly_topic::TopicNameBuf;
use proptest::prelude::*;

use crate::peer::{EMPTY, Peer, message, properties, publish};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5_0];

fn last_end(peer: &Peer) -> ConnectionEnd {
    let end = peer.events.iter().rev().find_map(|event| match event {
        Event::Disconnected(end) => Some(end.clone()),
        _ => None,
    });
    end.expect("a connection ended")
}

/// [MQTT-3.1.0-1] [MQTT3-3.1.0-1]
#[test]
fn connect_is_the_first_packet_and_nothing_follows_before_connack() {
    for version in BOTH {
        let mut peer = Peer::new(version, |_| ());
        peer.publish(QoS::AtMostOnce, "a", "x");
        peer.subscribe(&[("a", QoS::AtMostOnce)]);
        peer.transport_up();
        assert_eq!(peer.take_sent(), ["CONNECT heron clean 60"]);
    }
}

#[test]
fn connect_carries_credentials_will_and_properties() {
    let mut peer = Peer::new(Version::V5_0, |config| {
        config.receive_maximum = core::num::NonZeroU16::new(3).unwrap();
        config.maximum_packet_size = 127;
        config.topic_alias_maximum = 5;
    });
    peer.is_flushing = false;
    let mut parameters = ConnectParameters::default();
    parameters.user_name = Some("alice".into());
    parameters.password = Some("secret".into());
    parameters.properties = properties(&[Property::UserProperty("k", "v")]);
    let mut will = Will::new(TopicNameBuf::new("gone").unwrap(), "bye");
    will.qos = QoS::AtLeastOnce;
    will.retain = true;
    will.properties = properties(&[Property::WillDelayInterval(9)]);
    parameters.will = Some(will);

    peer.transport_up_with(&parameters);

    let mut chunks = [&[][..]; 1];
    assert_eq!(peer.client.transmit(&mut chunks), 1);
    let Ok(Packet::Connect(connect)) = Packet::decode(Version::V5_0, chunks[0]) else { panic!("a CONNECT") };
    let connect = connect.fields();
    assert_eq!((connect.user_name, connect.password), (Some("alice"), Some(&b"secret"[..])));
    let will = connect.will.unwrap();
    assert_eq!(
        (will.topic.as_str(), will.payload, will.qos, will.retain),
        ("gone", &b"bye"[..], QoS::AtLeastOnce, true)
    );
    assert_eq!(will.properties.will_delay_interval(), Some(9));
    assert_eq!(connect.properties.receive_maximum().map(core::num::NonZeroU16::get), Some(3));
    assert_eq!(connect.properties.maximum_packet_size().map(core::num::NonZeroU32::get), Some(127));
    assert_eq!(connect.properties.topic_alias_maximum(), Some(5));
    assert_eq!(connect.properties.user_properties().collect::<Vec<_>>(), [("k", "v")]);
}

#[test]
fn parameters_that_only_5_0_knows_end_the_attempt() {
    let mut peer = Peer::new(Version::V3_1_1, |_| ());
    let mut parameters = ConnectParameters::default();
    parameters.properties = properties(&[Property::UserProperty("k", "v")]);
    peer.transport_up_with(&parameters);
    assert!(peer.is_closed);
    assert_eq!(peer.take_sent(), [""; 0]);
    peer.lose();
    assert_eq!(last_end(&peer), ConnectionEnd::BadParameters(UsageError::NeedsVersion5));
}

#[test]
fn debug_output_shows_no_password() {
    let mut parameters = ConnectParameters::default();
    parameters.password = Some("secret".into());
    assert!(!format!("{parameters:?}").contains("secret"));
}

/// [MQTT-3.14.4-1] [MQTT-3.14.4-2]
#[test]
fn packets_only_clients_send_are_a_protocol_error() {
    let subscribe = [(crate::peer::filter("a"), crate::peer::options(QoS::AtMostOnce))];
    let id = crate::peer::packet_id(1);
    let connect = damselfly_codec::Connect::new(Version::V5_0, "x");
    let packets = [
        Packet::Connect((&connect).into()),
        Packet::Subscribe(damselfly_codec::Subscribe::new(id, EMPTY, &subscribe)),
        Packet::Pingreq,
    ];
    for packet in packets {
        let mut peer = Peer::connected(Version::V5_0, |_| ());
        peer.receive(&packet);
        assert_eq!(peer.take_sent(), ["DISCONNECT 0x82"]);
        assert!(peer.is_closed);
        peer.publish(QoS::AtMostOnce, "a", "x");
        peer.flush();
        assert_eq!(peer.take_sent(), [""; 0], "nothing after DISCONNECT");
    }
}

/// [MQTT-3.2.0-1] [MQTT-3.2.0-2]
#[test]
fn packet_before_connack_and_second_connack_are_protocol_errors() {
    let connack =
        Packet::Connack(Connack { session_present: false, reason_code: ReasonCode::Success, properties: EMPTY });
    let mut peer = Peer::new(Version::V5_0, |_| ());
    peer.transport_up();
    peer.receive_publish(QoS::AtMostOnce, 0, "a", "x");
    assert!(peer.is_closed);
    assert_eq!(peer.take_messages(), [""; 0]);

    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.receive(&connack);
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x82"]);
}

/// [MQTT3-4.8.0-1]
#[test]
fn malformed_packet_is_answered_with_its_reason_code_and_names_its_statement() {
    for (version, sent) in [(Version::V5_0, &["DISCONNECT 0x81"][..]), (Version::V3_1_1, &[])] {
        let mut peer = Peer::connected(version, |_| ());
        assert_eq!(peer.receive_bytes(&[0x36, 0x00]).consumed, 2, "what follows is void");
        assert_eq!(peer.take_sent(), sent);
        peer.lose();
        let end = ConnectionEnd::PeerError { reason_code: ReasonCode::MalformedPacket, statement: "MQTT-3.3.1-4" };
        assert_eq!(last_end(&peer), end);
    }
}

/// What 3.1.1 cannot tell a broker to leave out is an error of ours. [MQTT3-4.8.0-2]
#[test]
fn packet_above_our_maximum_size_is_refused_before_it_is_buffered() {
    for (version, head, answer) in [(Version::V5_0, 6, &["DISCONNECT 0x95"][..]), (Version::V3_1_1, 5, &[])] {
        let mut peer = Peer::connected(version, |config| config.maximum_packet_size = 127);
        let payload = "x".repeat(127 - head);
        peer.receive_publish(QoS::AtMostOnce, 0, "a", &payload);
        assert!(peer.client.is_connected());
        let intake = peer.receive_bytes(&[0x30, 126]);
        assert_eq!(intake.wanted, 0);
        assert_eq!(peer.take_sent(), answer);
        assert!(peer.is_closed && !peer.client.is_connected());
    }
}

/// Bytes as the standard draws them, both ways. [MQTT3-7.0.0-2]
#[test]
fn a_broker_that_knows_nothing_but_the_standard_is_enough() {
    let mut peer = Peer::new(Version::V3_1_1, |_| ());
    peer.is_flushing = false;
    let sent = |peer: &mut Peer| {
        let mut chunks = [&[][..]; 4];
        let count = peer.client.transmit(&mut chunks);
        let bytes = chunks[..count].concat();
        peer.client.handle_transmitted(peer.now, bytes.len());
        bytes
    };
    let receive = |peer: &mut Peer, bytes: &[u8]| assert_eq!(peer.receive_bytes(bytes).consumed, bytes.len());
    peer.transport_up();
    assert_eq!(sent(&mut peer), b"\x10\x11\0\x04MQTT\x04\x02\0\x3C\0\x05heron");
    receive(&mut peer, &[0x20, 2, 0, 0]);
    peer.subscribe(&[("a", QoS::AtLeastOnce)]);
    assert_eq!(sent(&mut peer), b"\x82\x06\0\x01\0\x01a\x01");
    receive(&mut peer, &[0x90, 3, 0, 1, 1]);
    peer.publish(QoS::ExactlyOnce, "a", "x");
    assert_eq!(sent(&mut peer), b"\x34\x06\0\x01a\0\x02x");
    receive(&mut peer, &[0x50, 2, 0, 2]);
    assert_eq!(sent(&mut peer), [0x62, 2, 0, 2]);
    receive(&mut peer, &[0x70, 2, 0, 2]);
    receive(&mut peer, b"\x32\x06\0\x01a\0\x09y");
    assert_eq!(peer.take_messages(), ["a y"]);
    assert_eq!(sent(&mut peer), [0x40, 2, 0, 9]);
    assert_eq!(peer.take_outcomes().len(), 2, "subscribed and published");
}

#[test]
fn incomplete_packet_tells_how_long_it_will_be() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let intake = peer.receive_bytes(&[0x30, 100, 0, 1]);
    assert_eq!((intake.consumed, intake.wanted, intake.paused), (0, 102, false));
}

/// [MQTT-4.13.2-1]
#[test]
fn disconnect_of_the_broker_is_told_with_its_reason() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let says = properties(&[Property::ReasonString("maintenance")]);
    peer.receive(&Packet::Disconnect(Disconnect {
        reason_code: ReasonCode::ServerShuttingDown,
        properties: says.as_properties(),
    }));
    assert!(peer.is_closed);
    peer.lose();
    assert_eq!(
        last_end(&peer),
        ConnectionEnd::ByServer {
            reason_code: ReasonCode::ServerShuttingDown,
            reason_string: Some("maintenance".into()),
            server_reference: None,
        }
    );
    assert_eq!(peer.take_sent(), [""; 0]);
}

/// [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-3.1.2-30]
#[test]
fn enhanced_authentication_asks_the_application_for_each_step() {
    let mut peer = authenticating();
    peer.publish(QoS::AtMostOnce, "a", "x");
    let challenge = auth("SCRAM", "challenge");
    peer.receive(&Packet::Auth(Auth {
        reason_code: ReasonCode::ContinueAuthentication,
        properties: challenge.as_properties(),
    }));
    assert!(peer.events.iter().any(|event| matches!(
        event,
        Event::AuthenticationStep { properties } if properties.as_properties().authentication_data() == Some(b"challenge")
    )));
    let answer = properties(&[Property::AuthenticationData(b"proof")]);
    peer.client.authenticate(answer.as_properties()).unwrap();
    peer.poll();
    assert_eq!(peer.take_sent(), ["CONNECT heron clean 60", "AUTH 0x18 SCRAM proof"]);

    accept(&mut peer, &auth("SCRAM", "ok"));
    assert!(peer.client.is_connected());
    assert_eq!(peer.take_sent(), ["PUBLISH q0 a x"]);
}

/// [MQTT-4.12.1-1]
#[test]
fn reauthentication_uses_the_method_of_the_connect() {
    let mut peer = authenticating();
    accept(&mut peer, &auth("SCRAM", "ok"));
    peer.forget();
    let data = properties(&[Property::AuthenticationData(b"again")]);
    peer.client.reauthenticate(data.as_properties()).unwrap();
    peer.poll();
    assert_eq!(peer.take_sent(), ["AUTH 0x19 SCRAM again"]);
    assert_eq!(peer.client.reauthenticate(EMPTY), Err(UsageError::NoAuthentication), "one is under way");
    let last = auth("SCRAM", "ok");
    peer.receive(&Packet::Auth(Auth { reason_code: ReasonCode::Success, properties: last.as_properties() }));
    assert!(peer.events.iter().any(|event| matches!(event, Event::Reauthenticated { .. })));
}

/// [MQTT-4.12.1-2]
#[test]
fn failed_reauthentication_ends_the_connection() {
    let mut peer = authenticating();
    accept(&mut peer, &auth("SCRAM", "ok"));
    peer.client.reauthenticate(EMPTY).unwrap();
    peer.receive(&Packet::Disconnect(Disconnect::with_reason(ReasonCode::NotAuthorized)));
    assert!(peer.is_closed && !peer.client.is_connected());
}

/// [MQTT-3.15.2-2] [MQTT-3.15.2-3]
#[test]
fn authentication_step_that_is_too_large_is_refused_and_may_be_made_smaller() {
    let mut peer = authenticating();
    let mut last = auth("SCRAM", "ok");
    last.push(Property::MaximumPacketSize(core::num::NonZeroU32::new(40).unwrap())).unwrap();
    accept(&mut peer, &last);
    peer.forget();
    let long = "x".repeat(40);
    let large = properties(&[Property::UserProperty("k", &long)]);
    let refused = peer.client.reauthenticate(large.as_properties());
    assert!(matches!(refused, Err(UsageError::PacketTooLarge { maximum: 40, .. })), "{refused:?}");
    peer.client.reauthenticate(EMPTY).unwrap();
    peer.poll();
    assert_eq!(peer.take_sent(), ["AUTH 0x19 SCRAM "]);
}

#[test]
fn authentication_method_that_changes_is_a_protocol_error() {
    let mut peer = authenticating();
    let other = auth("PLAIN", "x");
    peer.receive(&Packet::Auth(Auth {
        reason_code: ReasonCode::ContinueAuthentication,
        properties: other.as_properties(),
    }));
    assert_eq!(peer.take_sent()[1..], ["DISCONNECT 0x82"]);
}

/// [MQTT-4.12.0-6] [MQTT-4.12.0-7]
#[test]
fn no_auth_without_an_authentication_method() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    assert_eq!(peer.client.authenticate(EMPTY), Err(UsageError::NoAuthentication));
    assert_eq!(peer.client.reauthenticate(EMPTY), Err(UsageError::NoAuthentication));
    let challenge = auth("SCRAM", "x");
    peer.receive(&Packet::Auth(Auth {
        reason_code: ReasonCode::ContinueAuthentication,
        properties: challenge.as_properties(),
    }));
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x82"]);
}

fn authenticating() -> Peer {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    let mut parameters = ConnectParameters::default();
    parameters.properties = auth("SCRAM", "first");
    peer.transport_up_with(&parameters);
    peer
}

/// CONNACK accepts, with these properties.
fn accept(peer: &mut Peer, says: &PropertiesBuf) {
    let properties = says.as_properties();
    peer.receive(&Packet::Connack(Connack { session_present: false, reason_code: ReasonCode::Success, properties }));
}

fn auth(method: &str, data: &str) -> PropertiesBuf {
    properties(&[Property::AuthenticationMethod(method), Property::AuthenticationData(data.as_bytes())])
}

/// [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT3-3.14.4-1] [MQTT3-3.14.4-2]
#[test]
fn close_waits_for_what_is_under_way_and_says_disconnect() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |_| ());
        let ticket = peer.publish(QoS::AtLeastOnce, "a", "1");
        peer.client.close(peer.now, peer.now.saturating_add(core::time::Duration::from_secs(9)));
        peer.poll();
        assert!(!peer.is_closed);
        let refused = peer.client.publish(peer.now, message(QoS::AtLeastOnce, "a", "2")).unwrap_err();
        assert_eq!(refused.why, UsageError::Closed);
        peer.forget();

        peer.receive_ack(AckType::Puback, 1);

        assert_eq!(peer.take_sent(), ["DISCONNECT 0x00"]);
        assert!(peer.is_closed);
        assert_eq!(peer.take_outcomes().first().map(|(ticket, _)| *ticket), Some(ticket));
        assert!(matches!(peer.events[..], [Event::Closed]));
        peer.receive_publish(QoS::AtLeastOnce, 9, "a", "late");
        peer.pass(1_000);
        assert_eq!(peer.take_sent(), [""; 0], "nothing after DISCONNECT");
        peer.lose();
        assert!(peer.needs.is_empty(), "no other attempt");
    }
}

/// A device that sleeps. [MQTT-3.14.4-1] [MQTT3-3.14.4-1]
#[test]
fn disconnect_keeps_the_session_and_the_queue_and_connects_again_without_a_wait() {
    for version in BOTH {
        let mut peer =
            Peer::connected(version, |config| config.session_expiry = damselfly_client::SessionExpiry::Never);
        let sent = peer.publish(QoS::AtLeastOnce, "a", "1");
        peer.forget();
        for _ in 0..3 {
            peer.client.disconnect(peer.now);
            peer.client.disconnect(peer.now);
            peer.poll();
            assert_eq!(peer.take_sent(), ["DISCONNECT 0x00"], "once");
            peer.needs.clear();
            peer.lose();
            let need = peer.needs.pop().unwrap();
            assert_eq!((need.attempt, need.not_before <= peer.now), (1, true), "however short the connection was");
            peer.client.disconnect(peer.now);
            peer.poll();
            assert_eq!(peer.take_sent(), [""; 0], "there is nobody to say it to");
            peer.reconnect(true);
            assert!(peer.take_sent().iter().any(|packet| packet.starts_with("PUBLISH") && packet.contains("a 1")));
        }
        assert_eq!(peer.take_outcomes(), []);
        peer.receive_ack(AckType::Puback, 1);
        assert_eq!(peer.take_outcomes().first().map(|(ticket, _)| *ticket), Some(sent));
        assert!(!peer.is_closed);
    }
}

#[test]
fn close_settles_every_ticket_at_its_deadline() {
    let three = core::num::NonZeroU16::new(1).unwrap();
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::ReceiveMaximum(three)], |_| ());
    let sent = peer.publish(QoS::AtLeastOnce, "a", "1");
    let queued = peer.publish(QoS::AtLeastOnce, "a", "2");
    let request = peer.subscribe(&[("a", QoS::AtMostOnce)]);
    peer.client.close(peer.now, peer.now.saturating_add(core::time::Duration::from_secs(9)));
    peer.pass(8);
    assert_eq!(peer.take_outcomes(), []);
    peer.pass(1);
    let indeterminate = Outcome::Indeterminate(IndeterminateReason::Closed);
    assert_eq!(
        peer.take_outcomes(),
        [(sent, indeterminate.clone()), (request, indeterminate), (queued, Outcome::Dropped(DropReason::Closed))]
    );
    assert!(peer.is_closed);
}

#[test]
fn close_waits_until_qos0_messages_are_flushed() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.is_flushing = false;
    let ticket = peer.publish(QoS::AtMostOnce, "a", "x");
    peer.client.close(peer.now, peer.now.saturating_add(core::time::Duration::from_secs(9)));
    peer.poll();
    assert!(!peer.is_closed);
    peer.flush();
    peer.poll();
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Transmitted)]);
    assert!(peer.is_closed);
    assert_eq!(peer.take_sent(), ["PUBLISH q0 a x", "DISCONNECT 0x00"]);
}

#[test]
fn close_without_a_connection_is_immediate() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    peer.client.close(peer.now, peer.now);
    peer.poll();
    assert!(matches!(peer.events[..], [Event::Closed]));
    peer.transport_up();
    assert!(peer.is_closed, "a late transport is closed at once");
    assert_eq!(peer.take_sent(), [""; 0]);
    assert_eq!(peer.client.poll_timeout(), None);
}

#[test]
fn every_call_is_legal_without_a_connection() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    assert_eq!(peer.client.handle_input(peer.now, &[1, 2, 3]).consumed, 3);
    peer.client.handle_transmitted(peer.now, 99);
    peer.client.handle_timeout(peer.now);
    peer.client.pause(peer.now);
    peer.client.resume(peer.now);
    peer.client.handle_transport_lost(peer.now, TransportLost::Closed);
    peer.client.handle_transport_lost(peer.now, TransportLost::Closed);
    peer.poll();
    assert_eq!(peer.needs.last().map(|need| need.attempt), Some(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes of the broker are split, the client does the same.
    #[test]
    fn splits_of_the_input_make_no_difference(cuts in proptest::collection::vec(1..40_usize, 1..20)) {
        let mut stream = Vec::new();
        for (qos, id) in [(QoS::AtMostOnce, 1), (QoS::AtLeastOnce, 2), (QoS::ExactlyOnce, 3), (QoS::AtLeastOnce, 4)] {
            let packet = Packet::Publish(publish(qos, id, false, "home/kitchen", "0123456789", EMPTY));
            packet.encode(Version::V5_0, Foreign::Reject, &mut stream).unwrap();
        }
        Packet::Pingresp.encode(Version::V5_0, Foreign::Reject, &mut stream).unwrap();
        let mut whole = Peer::connected(Version::V5_0, |_| ());
        prop_assert_eq!(whole.receive_bytes(&stream).consumed, stream.len());

        let mut split = Peer::connected(Version::V5_0, |_| ());
        let (mut start, mut end) = (0, 0);
        for cut in cuts.iter().cycle() {
            if start == stream.len() {
                break;
            }
            end = (end + cut).min(stream.len());
            start += split.receive_bytes(&stream[start..end]).consumed;
        }

        prop_assert_eq!(split.take_messages(), whole.take_messages());
        prop_assert_eq!(split.take_sent(), whole.take_sent());
    }

    /// Any bytes: no panic, and the client knows how to go on.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut peer = Peer::connected(Version::V5_0, |_| ());
        let _ = peer.receive_bytes(&bytes);
        peer.reconnect(false);
        prop_assert!(peer.client.is_connected());
    }
}

#[test]
fn client_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<damselfly_client::Client>();
}
