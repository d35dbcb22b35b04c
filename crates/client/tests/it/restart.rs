//! What the next process goes on with, from what the last one stored.

use core::time::Duration;

use damselfly_client::{Acknowledgement, Event, Outcome, Ticket};
use damselfly_codec::{AckType, Packet, Property, QoS, ReasonCode, Version};
use damselfly_session::Timestamp;

use crate::{
    outbox::{BOTH, durable, waiting, waiting_with},
    peer::{EMPTY, Peer, filter, message_with, publish},
};

#[test]
fn ticket_survives_the_process_with_the_order_and_the_identifiers() {
    for version in BOTH {
        let mut peer = Peer::new(version, durable);
        for payload in ["1", "2", "3", "4"] {
            peer.publish(QoS::ExactlyOnce, "a", payload);
        }
        peer.connect(false, &[]);
        peer.receive_ack(AckType::Pubrec, 1);
        peer.receive_ack(AckType::Pubrec, 2);
        peer.receive_ack(AckType::Pubcomp, 1);
        peer.lose();
        peer.publish(QoS::AtLeastOnce, "a", "5");

        let mut peer = peer.restart();
        assert_eq!(peer.client.stored_tickets().map(Ticket::get).collect::<Vec<_>>(), [2, 3, 4, 5]);
        peer.connect(true, &[]);
        assert_eq!(peer.sent[0], "CONNECT heron resume 60");
        assert_eq!(
            peer.take_sent()[1..],
            ["PUBREL #2", "PUBLISH q2 #3 dup a 3", "PUBLISH q2 #4 dup a 4", "PUBLISH q1 #1 a 5"]
        );
        peer.receive_ack(AckType::Pubcomp, 2);
        peer.receive_ack(AckType::Puback, 1);
        let success = Outcome::Acknowledged { reason_code: ReasonCode::Success };
        assert_eq!(peer.take_outcomes(), [(2, success.clone()), (5, success)]);
    }
}

#[test]
fn what_was_not_stored_is_gone_and_was_not_promised() {
    let mut peer = waiting(Version::V5_0);
    peer.publish(QoS::AtLeastOnce, "a", "1");
    assert!(peer.sent.is_empty() && peer.events.is_empty());
    let peer = peer.restart();
    assert_eq!(peer.client.stored_tickets().count(), 0);
}

#[test]
fn no_ticket_is_given_out_twice_stored_or_not() {
    let mut peer = Peer::new(Version::V5_0, durable);
    let mut last = 0;
    for _ in 0..3 {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtMostOnce] {
            let ticket = peer.publish(qos, "a", "");
            assert!(ticket > last, "{ticket} after {last}");
            last = ticket;
        }
        peer = peer.restart();
    }
}

#[test]
fn no_ticket_is_given_out_twice_by_processes_that_store_no_message() {
    let mut peer = Peer::new(Version::V5_0, durable);
    let mut last = 0;
    for _ in 0..3 {
        let ticket = peer.publish(QoS::AtMostOnce, "a", "");
        assert!(ticket > last, "{ticket} after {last}");
        last = ticket;
        peer = peer.restart();
    }
}

/// `docs/decisions/0006-told-once.md` says why.
#[test]
fn qos2_message_is_lost_between_its_commit_and_the_poll_and_nowhere_else() {
    for version in BOTH {
        for (is_stored, is_polled, told_then) in [(false, false, 1), (true, false, 0), (true, true, 0)] {
            let mut peer = waiting(version);
            peer.receive_publish(QoS::ExactlyOnce, 7, "a", "1");
            assert_eq!((peer.take_messages(), peer.take_sent()), (vec![], vec![]), "neither told nor acknowledged");
            if is_stored {
                let (commit, group) = peer.unstored.pop().expect("its identifier is to be stored");
                peer.store.extend(group);
                peer.client.handle_committed(peer.now, commit);
            }
            if is_polled {
                peer.poll();
                assert_eq!(peer.take_messages(), ["a 1"]);
            }
            let mut peer = peer.restart();
            peer.connect(true, &[]);
            peer.forget();
            for _ in 0..2 {
                peer.receive(&Packet::Publish(publish(QoS::ExactlyOnce, 7, true, "a", "1", EMPTY)));
            }
            assert_eq!(peer.take_messages().len(), told_then, "{version:?} {is_stored} {is_polled}");
            assert_eq!(peer.take_sent()[0], "PUBREC #7");
        }
    }
}

#[test]
fn qos2_message_that_the_application_did_not_acknowledge_is_told_again() {
    for version in BOTH {
        let mut peer = waiting_with(version, |config| config.acknowledgement = Acknowledgement::Manual);
        let again = publish(QoS::ExactlyOnce, 7, true, "a", "1", EMPTY);
        for _ in 0..2 {
            peer.receive(&Packet::Publish(again));
            assert_eq!(peer.take_messages(), ["a 1"]);
            peer = peer.restart();
            peer.connect(true, &[]);
        }
        peer.receive(&Packet::Publish(again));
        let Some(Event::Message(inbound)) = peer.events.pop() else { panic!("it is told again") };
        peer.client.acknowledge(peer.now, inbound.ack.unwrap(), ReasonCode::Success).unwrap();
        peer.poll();
        let mut peer = peer.restart();
        peer.connect(true, &[]);
        peer.receive(&Packet::Publish(again));
        assert_eq!(peer.take_messages(), [""; 0], "it was acknowledged, and that is stored");
    }
}

/// What is given again stands for nothing that was stored.
#[test]
fn tickets_of_a_process_whose_first_group_was_not_stored_are_given_again() {
    let mut peer = Peer::new(Version::V5_0, durable);
    let kept = peer.publish(QoS::AtLeastOnce, "a", "");
    let mut again = Vec::new();
    for _ in 0..2 {
        let image = peer.store.clone();
        peer = peer.restart_with(image.clone()).unwrap();
        again.push((peer.publish(QoS::AtMostOnce, "a", ""), peer.client.stored_tickets().map(Ticket::get).collect()));
        peer.store = image;
    }
    assert_eq!(again[0], again[1]);
    assert_eq!((again[0].0 > kept, &again[0].1), (true, &vec![kept]));
}

#[test]
fn reason_code_of_pubrec_survives_the_process() {
    let mut peer = Peer::connected(Version::V5_0, durable);
    let ticket = peer.publish(QoS::ExactlyOnce, "a", "1");
    peer.receive_refusal(AckType::Pubrec, 1, ReasonCode::NoMatchingSubscribers);
    let mut peer = peer.restart();
    peer.connect(true, &[]);
    peer.receive_ack(AckType::Pubcomp, 1);
    let expected = Outcome::Acknowledged { reason_code: ReasonCode::NoMatchingSubscribers };
    assert_eq!(peer.take_outcomes(), [(ticket, expected)]);
}

#[test]
fn expiry_and_local_expiry_count_on_while_no_process_runs() {
    let mut peer = Peer::new(Version::V5_0, |config| {
        durable(config);
        config.queue.max_wait = Some(Duration::from_secs(100));
    });
    let minute = [Property::MessageExpiryInterval(60)];
    for (payload, says) in [("expires", &minute[..]), ("waits", &[]), ("expires", &minute)] {
        let message = message_with(QoS::AtLeastOnce, "a", payload, says, peer.now);
        peer.client.publish(peer.now, message).unwrap();
    }
    peer.poll();
    peer.now = peer.now.saturating_add(Duration::from_secs(20));

    let mut peer = peer.restart();
    assert_eq!(peer.client.poll_timeout(), Some(Timestamp::from_secs(1_060)));
    peer.pass(40);
    assert_eq!(peer.take_outcomes(), [(1, Outcome::Expired), (3, Outcome::Expired)]);

    let mut peer = peer.restart();
    peer.pass(39);
    assert_eq!(peer.take_outcomes(), []);
    peer.pass(1);
    assert_eq!(peer.take_outcomes(), [(2, Outcome::Expired)]);
}

#[test]
fn interval_that_is_sent_is_what_is_left_after_a_restart() {
    let mut peer = Peer::new(Version::V5_0, durable);
    let message = message_with(QoS::AtLeastOnce, "a", "1", &[Property::MessageExpiryInterval(60)], peer.now);
    peer.client.publish(peer.now, message).unwrap();
    peer.poll();
    peer.now = peer.now.saturating_add(Duration::from_secs(20));
    let mut peer = peer.restart();
    peer.connect(false, &[]);
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #1 a 1 expiry 40"]);
}

#[test]
fn subscriptions_are_restored_by_the_next_process_when_the_session_is_gone() {
    for version in BOTH {
        let mut peer = Peer::connected(version, durable);
        peer.subscribe(&[("a/+", QoS::AtLeastOnce), ("b", QoS::AtMostOnce), ("c", QoS::AtMostOnce)]);
        peer.receive_suback(1, &[ReasonCode::GrantedQoS1, ReasonCode::Success, ReasonCode::UnspecifiedError]);
        peer.client.unsubscribe(peer.now, &[filter("b")], EMPTY).unwrap();
        peer.poll();

        let mut peer = peer.restart();
        peer.connect(true, &[]);
        assert_eq!(peer.take_sent().len(), 1, "CONNECT alone: the broker has them");
        let mut peer = peer.restart();
        peer.connect(false, &[]);
        assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #1 a/+:1"]);
        peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    }
}

/// The broker keeps the new session, and it is the next process that goes on with it.
#[test]
fn subscriptions_that_a_new_session_has_not_seen_are_restored_by_the_next_process() {
    for version in BOTH {
        for with_snapshot in [false, true] {
            let mut peer = Peer::connected(version, |config| {
                durable(config);
                config.filters_per_subscribe = 1.try_into().unwrap();
            });
            peer.subscribe(&[("a", QoS::AtLeastOnce), ("b", QoS::AtLeastOnce)]);
            peer.receive_suback(1, &[ReasonCode::GrantedQoS1, ReasonCode::GrantedQoS1]);
            peer.reconnect(false);
            assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #2 a:1", "SUBSCRIBE #3 b:1"]);
            peer.receive_suback(2, &[ReasonCode::GrantedQoS1]);

            let image = if with_snapshot { peer.client.snapshot() } else { peer.store.clone() };
            let mut peer = peer.restart_with(image).unwrap();
            peer.connect(true, &[]);
            assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #1 b:1"]);
            peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);

            let image = if with_snapshot { peer.client.snapshot() } else { peer.store.clone() };
            let mut peer = peer.restart_with(image).unwrap();
            peer.connect(true, &[]);
            assert_eq!(peer.take_sent().len(), 1, "CONNECT alone: the broker has them");
        }
    }
}
