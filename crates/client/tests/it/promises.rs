//! What a client of MQTT is most often blamed for, as far as no other file has it. `docs/guide/client.md` lists all.

use damselfly_client::{ConnectParameters, SessionExpiry};
use damselfly_codec::{AckType, Packet, Property, QoS, Version};

use crate::peer::{EMPTY, Peer, publish};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5_0];

/// [MQTT-4.6.0-1]
#[test]
fn after_a_reconnect_comes_first_the_replay_then_the_queue_then_what_is_new() {
    let three = [Property::ReceiveMaximum(3.try_into().unwrap())];
    let mut peer = Peer::connected_to(Version::V5_0, &three, |config| config.session_expiry = SessionExpiry::Never);
    for payload in ["sent 1", "sent 2", "sent 3", "queued 4"] {
        peer.publish(QoS::AtLeastOnce, "a", payload);
    }
    peer.lose();
    peer.publish(QoS::AtLeastOnce, "a", "queued 5");
    peer.publish(QoS::AtMostOnce, "a", "queued 6");
    peer.forget();
    peer.connect(true, &[Property::ReceiveMaximum(2.try_into().unwrap())]);
    peer.publish(QoS::AtMostOnce, "a", "new 7");
    for id in 1..=5 {
        peer.receive_ack(AckType::Puback, id);
    }
    assert_eq!(
        peer.take_sent()[1..],
        [
            "PUBLISH q1 #1 dup a sent 1",
            "PUBLISH q1 #2 dup a sent 2",
            "PUBLISH q1 #3 dup a sent 3",
            "PUBLISH q1 #4 a queued 4",
            "PUBLISH q1 #5 a queued 5",
            "PUBLISH q0 a queued 6",
            "PUBLISH q0 a new 7",
        ]
    );
}

#[test]
fn message_of_a_mebibyte_needs_no_setting() {
    let payload = "x".repeat(1_024 * 1_024);
    for version in BOTH {
        let mut peer = Peer::connected(version, |_| ());
        peer.publish(QoS::AtLeastOnce, "a", &payload);
        assert_eq!(peer.take_sent(), [format!("PUBLISH q1 #1 a {payload}")]);
        peer.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, "b", &payload, EMPTY)));
        assert_eq!(peer.take_messages(), [format!("b {payload}")]);
    }
}

#[test]
fn each_attempt_asks_for_its_parameters() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    for password in ["monday", "tuesday", "wednesday"] {
        assert_eq!(peer.needs.len(), 1, "it is asked for");
        peer.forget();
        let mut parameters = ConnectParameters::default();
        parameters.user_name = Some("heron".into());
        parameters.password = Some(password.into());
        peer.is_flushing = false;
        peer.transport_up_with(&parameters);
        let mut chunks = [&[][..]; 3];
        let count = peer.client.transmit(&mut chunks);
        let connect = chunks[..count].concat();
        let Ok(Packet::Connect(connect)) = Packet::decode(Version::V5_0, &connect) else { panic!("CONNECT is first") };
        assert_eq!(connect.fields().password, Some(password.as_bytes()));
        peer.lose();
    }
}
