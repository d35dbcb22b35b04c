//! What is stored, and what the broker keeps of the session: the two may differ.

use core::time::Duration;

use damselfly_client::{CleanStart, LostSession, Operation, SessionExpiry};
use damselfly_codec::{AckType, Property, QoS, ReasonCode, Version};

use crate::{
    outbox::{BOTH, durable, kinds, told, waiting, waiting_with},
    peer::{Peer, packet_id},
};

#[test]
fn messages_in_flight_of_a_lost_session_have_their_outcome_once() {
    let mut peer = Peer::connected(Version::V5_0, durable);
    peer.publish(QoS::ExactlyOnce, "a", "1");
    peer.receive_publish(QoS::ExactlyOnce, 7, "a", "in");
    let mut peer = peer.restart();
    peer.connect(false, &[]);
    assert_eq!(told(&mut peer), ["connected lost", "1 nobody knows whether it arrived: the broker forgot the session"]);
    let mut peer = peer.restart();
    assert_eq!(peer.client.stored_tickets().count(), 0);
    peer.connect(true, &[]);
    peer.receive_publish(QoS::ExactlyOnce, 7, "a", "another");
    assert_eq!(peer.take_messages(), ["a another"], "the identifiers of the lost session mean nothing");
}

#[test]
fn qos1_messages_of_a_lost_session_wait_again_also_in_the_next_process() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        durable(config);
        config.lost_session = LostSession::RepublishAtLeastOnce;
    });
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.publish(QoS::AtLeastOnce, "a", "2");
    peer.receive_ack(AckType::Puback, 1);
    peer.lose();
    peer.connect(false, &[]);
    let mut peer = peer.restart();
    peer.connect(true, &[]);
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #3 dup a 2"], "under the identifier of the new session");
}

#[test]
fn identifiers_of_a_lost_session_are_free_in_the_next_process() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        durable(config);
        config.lost_session = LostSession::RepublishAtLeastOnce;
    });
    peer.publish(QoS::AtLeastOnce, "a", "1");
    let mut image = peer.store.clone();
    let Some(Operation::Publish { ticket, .. }) =
        image.iter().find(|stored| kinds(&[(*stored).clone()]) == ["publish"])
    else {
        panic!("it is stored")
    };
    let ticket = *ticket;
    image.push(Operation::Requeue { ticket, wait_until: None });
    image.push(Operation::Send { ticket, packet_id: packet_id(1) });
    let mut peer = peer.restart_with(image).unwrap();
    peer.connect(true, &[]);
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #1 dup a 1"]);
}

#[test]
fn message_that_never_left_waits_again_when_the_session_is_lost() {
    let mut peer = waiting(Version::V5_0);
    peer.publish(QoS::ExactlyOnce, "a", "1");
    peer.lose();
    peer.forget();
    peer.connect(false, &[]);
    peer.commit();
    assert_eq!(told(&mut peer), ["connected lost", "stored 1"]);
    peer.commit();
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q2 #2 a 1"]);
}

/// Before 5.0 a QoS 1 PUBLISH under the identifier of an unfinished QoS 2 message says that the broker forgot that one.
#[test]
fn identifier_that_the_broker_uses_for_something_else_is_forgotten_on_disk_too() {
    let mut peer = Peer::connected(Version::V3_1_1, durable);
    peer.receive_publish(QoS::ExactlyOnce, 7, "a", "1");
    peer.receive_publish(QoS::AtLeastOnce, 7, "a", "2");
    let mut peer = peer.restart();
    peer.connect(true, &[]);
    peer.receive_publish(QoS::ExactlyOnce, 7, "a", "3");
    assert_eq!(peer.take_messages(), ["a 3"]);
}

/// Else the next process could take a message of the new session for one of the old one, and not deliver it.
#[test]
fn nothing_leaves_in_a_new_session_until_it_is_stored_that_the_received_identifiers_are_gone() {
    for version in BOTH {
        let mut peer = waiting(version);
        peer.subscribe(&[("a", QoS::ExactlyOnce)]);
        peer.receive_suback(1, &[ReasonCode::GrantedQoS2]);
        peer.receive_publish(QoS::ExactlyOnce, 7, "a", "1");
        peer.commit();
        peer.reconnect(false);
        peer.commit();
        assert_eq!(
            peer.take_sent()[1..],
            ["SUBSCRIBE #2 a:2"],
            "{version:?}: CONNACK of a lost session, then its commit"
        );
        peer.receive_suback(2, &[ReasonCode::GrantedQoS2]);

        peer.receive_publish(QoS::ExactlyOnce, 7, "a", "2");
        peer.commit();
        peer.reconnect(false);
        assert_eq!(peer.take_sent().len(), 1, "{version:?}: CONNECT alone");
        peer.forget();
        let mut next = peer.restart();
        next.connect(true, &[]);
        assert_eq!(next.take_sent().len(), 1, "no subscription was made that the process knows nothing of");
    }
}

#[test]
fn connect_that_ends_a_session_waits_until_that_is_stored() {
    let mut peer = waiting_with(Version::V5_0, |config| config.clean_start = CleanStart::Always);
    peer.publish(QoS::ExactlyOnce, "a", "1");
    peer.commit();
    peer.lose();
    peer.forget();
    peer.transport_up();
    assert!(peer.sent.is_empty(), "a process that ends here still has the old session");
    peer.commit();
    assert_eq!(peer.take_sent(), ["CONNECT heron clean 60"]);
    assert_eq!(told(&mut peer), ["1 nobody knows whether it arrived: the broker forgot the session"]);
}

#[test]
fn assigned_client_identifier_survives_the_process() {
    let mut peer = Peer::new(Version::V5_0, |config| {
        durable(config);
        config.client_id = "".into();
    });
    peer.connect(false, &[Property::AssignedClientIdentifier("made-up")]);
    let mut peer = peer.restart();
    peer.transport_up();
    assert_eq!(peer.take_sent(), ["CONNECT made-up resume 60"]);
}

#[test]
fn session_that_expired_while_no_process_ran_is_not_asked_for() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        durable(config);
        config.session_expiry = SessionExpiry::After(50.try_into().unwrap());
    });
    peer.lose();
    peer.now = peer.now.saturating_add(Duration::from_secs(51));
    let mut peer = peer.restart();
    peer.transport_up();
    assert_eq!(peer.take_sent(), ["CONNECT heron clean 60"]);
    peer.forget();
}
