//! What promises something leaves after it is stored.

use core::time::Duration;

use damselfly_client::{
    Acknowledgement, Config, DropReason, Event, Misfit, Operation, OperationError, OutboxConfig, Outcome,
    OverflowPolicy, RestoreError, SessionExpiry, Ticket, UsageError,
};
use damselfly_codec::{AckType, Packet, Property, QoS, ReasonCode, Unsuback, Version};
use proptest::prelude::*;

use crate::peer::{EMPTY, Peer, filter, message, packet_id, publish};

pub(crate) const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5_0];

pub(crate) fn durable(config: &mut Config) {
    config.session_expiry = SessionExpiry::Never;
    config.outbox = Some(OutboxConfig::default());
}

/// Connected, and nothing is stored unless the test says so.
pub(crate) fn waiting(version: Version) -> Peer {
    waiting_with(version, |_| {})
}

pub(crate) fn waiting_with(version: Version, change: impl FnOnce(&mut Config)) -> Peer {
    let mut peer = Peer::connected(version, |config| {
        durable(config);
        change(config);
    });
    peer.is_storing = false;
    peer
}

/// Events in words.
pub(crate) fn told(peer: &mut Peer) -> Vec<String> {
    core::mem::take(&mut peer.events)
        .into_iter()
        .map(|event| match event {
            Event::Stored { ticket } => format!("stored {}", ticket.get()),
            Event::Completed { ticket, outcome } => format!("{} {outcome}", ticket.get()),
            Event::Message(inbound) => format!("message {}", String::from_utf8_lossy(inbound.message.payload())),
            Event::Connected(connected) => format!("connected {}", connected.session),
            Event::Closed => "closed".to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}

pub(crate) fn kinds(operations: &[Operation]) -> Vec<&'static str> {
    let kind = |operation: &Operation| match operation {
        Operation::Tickets { .. } => "tickets",
        Operation::Session { .. } => "session",
        Operation::Publish { .. } => "publish",
        Operation::Send { .. } => "send",
        Operation::Release { .. } => "release",
        Operation::Requeue { .. } => "requeue",
        Operation::Finish { .. } => "finish",
        Operation::Receive { .. } => "receive",
        Operation::Forget { .. } => "forget",
        Operation::Subscribe { .. } => "subscribe",
        Operation::Unsubscribe { .. } => "unsubscribe",
        Operation::ResponseTopic { .. } => "response topic",
    };
    operations.iter().map(kind).collect()
}

#[test]
fn message_and_its_identifier_are_stored_before_publish_leaves() {
    for version in BOTH {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut peer = waiting(version);
            peer.publish(qos, "a", "1");
            assert!(peer.sent.is_empty() && peer.events.is_empty(), "nothing is promised yet");
            assert_eq!(kinds(&peer.unstored[0].1), ["publish", "send"], "in one group");

            peer.commit();
            assert_eq!(peer.take_sent(), [format!("PUBLISH q{qos} #1 a 1")]);
            assert_eq!(told(&mut peer), ["stored 1"]);
        }
    }
}

#[test]
fn qos0_is_not_stored_and_keeps_its_place_behind_what_is() {
    let mut peer = waiting(Version::V5_0);
    peer.publish(QoS::AtMostOnce, "a", "0");
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.publish(QoS::AtMostOnce, "a", "2");
    assert_eq!(peer.take_sent(), ["PUBLISH q0 a 0"]);
    peer.commit();
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #1 a 1", "PUBLISH q0 a 2"]);
    assert_eq!(kinds(&peer.store[2..]), ["publish", "send"]);
}

#[test]
fn one_commit_covers_all_that_was_asked_for_since_the_last() {
    let mut peer = waiting(Version::V5_0);
    for payload in ["1", "2", "3"] {
        peer.client.publish(peer.now, message(QoS::ExactlyOnce, "a", payload)).unwrap();
    }
    peer.poll();
    assert_eq!(peer.unstored.len(), 1, "one group");
    peer.publish(QoS::ExactlyOnce, "a", "4");
    assert_eq!(peer.unstored.len(), 2);

    let first = peer.unstored[0].0;
    peer.client.handle_committed(peer.now, first);
    peer.poll();
    assert_eq!(peer.take_sent(), ["PUBLISH q2 #1 a 1", "PUBLISH q2 #2 a 2", "PUBLISH q2 #3 a 3"]);
    peer.commit();
    assert_eq!(peer.take_sent(), ["PUBLISH q2 #4 a 4"]);
}

#[test]
fn pubrel_leaves_after_its_step_is_stored_and_in_the_order_of_the_pubrecs() {
    let mut peer = waiting(Version::V5_0);
    peer.publish(QoS::ExactlyOnce, "a", "1");
    peer.publish(QoS::ExactlyOnce, "a", "2");
    peer.commit();
    peer.forget();

    peer.receive_ack(AckType::Pubrec, 2);
    peer.receive_ack(AckType::Pubrec, 1);
    // Nothing is to be stored for this one, and still it waits for its turn.
    peer.receive_ack(AckType::Pubrec, 9);
    assert!(peer.sent.is_empty());
    assert_eq!(kinds(&peer.unstored[0].1), ["release"]);
    peer.commit();
    assert_eq!(peer.take_sent(), ["PUBREL #2", "PUBREL #1", "PUBREL #9 0x92"]);
}

#[test]
fn outcome_is_told_after_the_message_is_removed_from_the_store() {
    let mut peer = waiting(Version::V5_0);
    let ticket = peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.commit();
    peer.forget();

    peer.receive_ack(AckType::Puback, 1);
    assert!(peer.events.is_empty());
    assert_eq!(kinds(&peer.unstored[0].1), ["finish"]);
    peer.commit();
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Acknowledged { reason_code: ReasonCode::Success })]);
    assert_eq!(peer.client.stored_tickets().count(), 0);
}

#[test]
fn inbound_qos2_identifier_is_stored_before_delivery_and_pubrec() {
    for version in BOTH {
        let mut peer = waiting(version);
        peer.receive_publish(QoS::ExactlyOnce, 7, "a", "1");
        peer.receive_publish(QoS::AtLeastOnce, 8, "a", "2");
        assert_eq!(told(&mut peer), ["message 2"], "QoS 1 waits for nothing");
        assert_eq!(peer.take_sent(), ["PUBACK #8"]);
        peer.commit();
        assert_eq!(told(&mut peer), ["message 1"]);
        assert_eq!(peer.take_sent(), ["PUBREC #7"]);

        peer.receive_ack(AckType::Pubrel, 7);
        assert!(peer.sent.is_empty(), "the identifier is new again only once that is stored");
        peer.commit();
        assert_eq!(peer.take_sent(), ["PUBCOMP #7"]);
        assert_eq!(kinds(&peer.store[2..]), ["receive", "forget"]);
    }
}

#[test]
fn inbound_qos2_identifiers_survive_the_process() {
    for version in BOTH {
        let mut peer = Peer::connected(version, durable);
        peer.receive_publish(QoS::ExactlyOnce, 7, "a", "once");
        assert_eq!(peer.take_messages(), ["a once"]);

        let mut peer = peer.restart();
        peer.connect(true, &[]);
        peer.forget();
        let again = publish(QoS::ExactlyOnce, 7, true, "a", "once", EMPTY);
        peer.receive(&Packet::Publish(again));
        assert_eq!(peer.take_messages(), [""; 0]);
        assert_eq!(peer.take_sent(), ["PUBREC #7"]);
        peer.receive_ack(AckType::Pubrel, 7);
        peer.receive_publish(QoS::ExactlyOnce, 7, "a", "another");
        assert_eq!(peer.take_messages(), ["a another"]);
    }
}

#[test]
fn message_that_the_application_acknowledges_is_stored_as_received_then() {
    let mut peer = waiting_with(Version::V5_0, |config| config.acknowledgement = Acknowledgement::Manual);
    peer.receive_publish(QoS::ExactlyOnce, 7, "a", "1");
    let Some(Event::Message(inbound)) = peer.events.pop() else { panic!("it is delivered at once") };
    assert!(peer.unstored.is_empty(), "a process that ends here gets it again");

    peer.client.acknowledge(peer.now, inbound.ack.unwrap(), ReasonCode::Success).unwrap();
    peer.poll();
    assert!(peer.sent.is_empty());
    peer.commit();
    assert_eq!(peer.take_sent(), ["PUBREC #7"]);
}

#[test]
fn answer_to_a_subscribe_is_told_once_the_registry_is_stored() {
    let mut peer = waiting(Version::V5_0);
    peer.subscribe(&[("a", QoS::AtMostOnce)]);
    peer.receive_suback(1, &[ReasonCode::Success]);
    assert!(peer.events.is_empty());
    peer.commit();
    assert_eq!(told(&mut peer), ["1 1 of 1 subscriptions granted"]);

    peer.client.unsubscribe(peer.now, &[filter("a")], EMPTY).unwrap();
    peer.poll();
    peer.receive(&Packet::Unsuback(Unsuback::new(packet_id(2), EMPTY, &[ReasonCode::Success])));
    assert!(peer.events.is_empty());
    peer.commit();
    assert_eq!(told(&mut peer), ["2 1 of 1 subscriptions ended"]);
}

#[test]
fn connection_that_ends_before_the_commit_loses_nothing() {
    let mut peer = waiting(Version::V5_0);
    peer.publish(QoS::ExactlyOnce, "a", "1");
    peer.receive_publish(QoS::ExactlyOnce, 7, "a", "in");
    peer.lose();
    peer.commit();
    assert_eq!(told(&mut peer)[1..], ["stored 1", "message in"]);
    peer.connect(true, &[]);
    // It was never sent, so this is no repetition.
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q2 #1 a 1"]);
    peer.receive(&Packet::Publish(publish(QoS::ExactlyOnce, 7, true, "a", "in", EMPTY)));
    assert_eq!(peer.take_sent(), ["PUBREC #7"]);
    assert_eq!(told(&mut peer), ["connected resumed"]);

    peer.receive_ack(AckType::Pubrec, 1);
    peer.lose();
    peer.connect(true, &[]);
    assert_eq!(peer.take_sent().len(), 1, "PUBREL waits for its commit on the next connection too");
    peer.commit();
    assert_eq!(peer.take_sent(), ["PUBREL #1"]);
}

#[test]
fn replay_waits_for_the_commit_of_what_the_last_connection_prepared() {
    let mut peer = waiting(Version::V5_0);
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.commit();
    peer.publish(QoS::AtLeastOnce, "a", "2");
    peer.lose();
    peer.forget();
    peer.connect(true, &[]);
    peer.publish(QoS::AtLeastOnce, "a", "3");
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #1 dup a 1"]);
    peer.commit();
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #2 a 2"]);
    peer.commit();
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #3 a 3"]);
}

#[test]
fn window_holds_for_stored_messages_and_the_next_are_prepared_as_it_opens() {
    let mut peer = Peer::new(Version::V5_0, durable);
    peer.connect(false, &[Property::ReceiveMaximum(3.try_into().unwrap())]);
    peer.forget();
    for payload in ["1", "2", "3", "4"] {
        peer.publish(QoS::AtLeastOnce, "a", payload);
    }
    assert_eq!(peer.take_sent().len(), 3);
    peer.receive_ack(AckType::Puback, 2);
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #4 a 4"]);
}

#[test]
fn full_outbox_gives_the_message_back_or_drops_by_policy() {
    let limited = |overflow| {
        move |config: &mut Config| {
            durable(config);
            config.queue.overflow = overflow;
            if let Some(outbox) = &mut config.outbox {
                outbox.max_messages = 3;
            }
        }
    };
    let mut peer = Peer::connected(Version::V5_0, limited(OverflowPolicy::Reject));
    for payload in ["1", "2", "3"] {
        peer.publish(QoS::AtLeastOnce, "a", payload);
    }
    let refused = peer.client.publish(peer.now, message(QoS::AtLeastOnce, "a", "4")).unwrap_err();
    assert_eq!((refused.why, refused.message.payload()), (UsageError::OutboxFull, &b"4"[..]));
    peer.publish(QoS::AtMostOnce, "a", "QoS 0 is not in the outbox");
    peer.forget();
    peer.receive_ack(AckType::Puback, 1);
    assert!(peer.events.iter().any(|event| matches!(event, Event::QueueHasRoom)));
    peer.publish(QoS::AtLeastOnce, "a", "4");

    let mut peer = Peer::new(Version::V5_0, limited(OverflowPolicy::DropOldest));
    for payload in ["1", "2", "3", "4"] {
        peer.publish(QoS::AtLeastOnce, "a", payload);
    }
    assert_eq!(peer.client.stored_tickets().map(Ticket::get).collect::<Vec<_>>(), [2, 3, 4]);
    let mut peer = Peer::new(Version::V5_0, limited(OverflowPolicy::DropNewest));
    for payload in ["1", "2", "3", "4"] {
        peer.publish(QoS::AtLeastOnce, "a", payload);
    }
    assert_eq!(peer.client.stored_tickets().map(Ticket::get).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn no_message_goes_for_one_that_the_queue_could_not_hold() {
    let mut peer = Peer::new(Version::V5_0, |config| {
        durable(config);
        config.queue.overflow = OverflowPolicy::DropOldest;
        config.queue.max_bytes = 1_000;
        if let Some(outbox) = &mut config.outbox {
            outbox.max_messages = 1;
        }
    });
    peer.publish(QoS::AtLeastOnce, "a", "small");
    peer.forget();
    let large = peer.publish(QoS::AtLeastOnce, "a", &"x".repeat(1_000));
    assert_eq!(peer.take_outcomes(), [(large, Outcome::Dropped(DropReason::Newest))]);
}

#[test]
fn outbox_is_bounded_in_bytes() {
    let mut peer = Peer::new(Version::V5_0, durable);
    peer.publish(QoS::AtLeastOnce, "a", "0123456789");
    let one = peer.client.unfinished().queued_bytes;
    let limited = |max_bytes| {
        move |config: &mut Config| {
            durable(config);
            if let Some(outbox) = &mut config.outbox {
                outbox.max_bytes = max_bytes;
            }
        }
    };
    let mut peer = Peer::new(Version::V5_0, limited(2 * one));
    peer.publish(QoS::AtLeastOnce, "a", "0123456789");
    peer.publish(QoS::AtLeastOnce, "a", "0123456789");
    let refused = peer.client.publish(peer.now, message(QoS::AtLeastOnce, "a", "")).unwrap_err();
    assert_eq!(refused.why, UsageError::OutboxFull);
    peer.connect(false, &[]);
    peer.receive_ack(AckType::Puback, 1);
    peer.publish(QoS::AtLeastOnce, "a", "9876543210");

    let image = peer.store.clone();
    let smaller = Peer::new(Version::V5_0, limited(2 * one - 1));
    assert_eq!(
        smaller.restart_with(image).err(),
        Some(RestoreError::TooManyBytes { stored: 2 * one, maximum: 2 * one - 1 })
    );
}

#[test]
fn close_leaves_stored_messages_to_the_next_process() {
    let mut peer = Peer::connected(Version::V5_0, durable);
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.lose();
    peer.publish(QoS::AtLeastOnce, "a", "2");
    peer.publish(QoS::AtMostOnce, "a", "3");
    peer.forget();
    peer.client.close(peer.now, peer.now);
    peer.poll();
    assert_eq!(told(&mut peer), ["3 dropped: the client was closed", "closed"]);
    assert_eq!(peer.client.poll_timeout(), None);

    let image = peer.client.snapshot();
    for image in [peer.store.clone(), image] {
        let other = Peer::new(Version::V5_0, durable);
        let mut next = other.restart_with(image).unwrap();
        next.connect(true, &[]);
        assert_eq!(next.take_sent()[1..], ["PUBLISH q1 #1 dup a 1", "PUBLISH q1 #2 a 2"]);
    }
}

#[test]
fn close_waits_for_the_commit_of_the_last_outcome() {
    let mut peer = waiting(Version::V5_0);
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.commit();
    peer.client.close(peer.now, peer.now.saturating_add(Duration::from_secs(9)));
    peer.poll();
    peer.forget();
    peer.receive_ack(AckType::Puback, 1);
    assert!(peer.events.is_empty());
    peer.commit();
    assert_eq!(told(&mut peer), ["1 acknowledged: Success (0x00)", "closed"]);
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x00"]);
}

#[test]
fn outcome_and_message_whose_commit_misses_the_deadline_of_close_follow_it() {
    let mut peer = waiting(Version::V5_0);
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.commit();
    peer.receive_ack(AckType::Puback, 1);
    peer.receive_publish(QoS::ExactlyOnce, 7, "a", "2");
    peer.forget();
    peer.client.close(peer.now, peer.now);
    peer.poll();
    assert_eq!(told(&mut peer), ["closed"]);
    assert_eq!(peer.client.stored_tickets().count(), 0);
    peer.commit();
    assert_eq!(told(&mut peer), ["1 acknowledged: Success (0x00)", "message 2"]);
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x00"], "and no PUBREC behind it");
}

#[test]
fn client_without_an_outbox_says_no_journal() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.session_expiry = SessionExpiry::Never);
    peer.publish(QoS::ExactlyOnce, "a", "1");
    peer.receive_publish(QoS::ExactlyOnce, 7, "a", "1");
    peer.lose();
    assert!(peer.store.is_empty() && peer.client.snapshot().is_empty());
    let config = Config::new("heron");
    assert_eq!(damselfly_client::Client::restore(config, 7, []).err(), Some(RestoreError::NoOutbox));
}

#[test]
fn foreign_commits_are_harmless() {
    let mut early = waiting(Version::V5_0);
    early.publish(QoS::AtLeastOnce, "a", "1");
    early.publish(QoS::AtLeastOnce, "a", "2");
    let [(first, _), (second, _)] = early.unstored[..] else { panic!("two groups") };

    let mut peer = waiting(Version::V5_0);
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.client.handle_committed(peer.now, second);
    peer.poll();
    assert_eq!(peer.take_sent().len(), 1, "a number from the future commits what there is");
    peer.publish(QoS::AtLeastOnce, "a", "2");
    peer.client.handle_committed(peer.now, first);
    peer.poll();
    assert_eq!(peer.take_sent(), [""; 0], "an old one commits nothing");
}

#[test]
fn image_that_does_not_hold_together_is_an_error_that_names_the_place() {
    let ticket = |number: u64| {
        let bytes = [&[1, 7][..], &number.to_be_bytes()].concat();
        let Ok(Operation::Finish { ticket }) = Operation::decode(&bytes) else { panic!("a ticket") };
        ticket
    };
    let publish =
        |number, qos| Operation::Publish { ticket: ticket(number), wait_until: None, message: message(qos, "a", "") };
    let send = |number, id| Operation::Send { ticket: ticket(number), packet_id: packet_id(id) };
    let release = |number, id| Operation::Release {
        ticket: ticket(number),
        packet_id: packet_id(id),
        reason_code: ReasonCode::Success,
    };
    let receive = || Operation::Receive { packet_id: packet_id(1) };
    let requeue = |number| Operation::Requeue { ticket: ticket(number), wait_until: None };
    let tickets = |number| Operation::Tickets { last: ticket(number) };
    let qos1 = QoS::AtLeastOnce;
    let cases = [
        (vec![publish(2, qos1), publish(2, qos1)], 1, Misfit::TicketOrder),
        (vec![publish(2, qos1), publish(1, qos1)], 1, Misfit::TicketOrder),
        (vec![tickets(7), tickets(6)], 1, Misfit::TicketOrder),
        (vec![tickets(u64::MAX)], 0, Misfit::TicketOrder),
        (vec![publish(1, QoS::AtMostOnce)], 0, Misfit::AtMostOnce),
        (vec![send(1, 1)], 0, Misfit::UnknownTicket),
        (vec![requeue(1)], 0, Misfit::UnknownTicket),
        (vec![Operation::Finish { ticket: ticket(1) }], 0, Misfit::UnknownTicket),
        (vec![publish(1, qos1), send(1, 1), send(1, 2)], 2, Misfit::State),
        (vec![publish(1, qos1), requeue(1)], 1, Misfit::State),
        (vec![publish(1, qos1), release(1, 1)], 1, Misfit::State),
        (vec![publish(1, qos1), send(1, 1), release(1, 2)], 2, Misfit::State),
        (vec![publish(1, qos1), publish(2, qos1), send(1, 1), send(2, 1)], 3, Misfit::PacketIdInUse),
        (vec![release(1, 1), release(2, 1)], 1, Misfit::PacketIdInUse),
        (vec![receive(), receive()], 1, Misfit::Received),
        (vec![Operation::Forget { packet_id: packet_id(1) }], 0, Misfit::Received),
    ];
    for (image, index, why) in cases {
        let shown = format!("{image:?}");
        let restored = Peer::new(Version::V5_0, durable).restart_with(image);
        assert_eq!(restored.err(), Some(RestoreError::Operation { index, why }), "{shown}");
    }

    let mut peer = Peer::new(Version::V5_0, durable).restart_with(vec![release(5, 1)]).unwrap();
    assert!(peer.publish(qos1, "a", "") > 5);

    let session = Operation::Session { client_id: "egret".into(), until: None, is_new: true };
    let restored = Peer::new(Version::V5_0, durable).restart_with(vec![session]);
    assert_eq!(restored.err(), Some(RestoreError::OtherClient));
    let three = |config: &mut Config| {
        durable(config);
        if let Some(outbox) = &mut config.outbox {
            outbox.max_messages = 3;
        }
    };
    let image: Vec<_> = (1..=4).map(|number| publish(number, qos1)).collect();
    assert!(Peer::new(Version::V5_0, three).restart_with(image[..3].to_vec()).is_ok());
    let restored = Peer::new(Version::V5_0, three).restart_with(image);
    assert_eq!(restored.err(), Some(RestoreError::TooManyMessages { stored: 4, maximum: 3 }));
}

#[test]
fn bytes_that_are_no_operation_are_an_error() {
    let publish = [&[1, 3][..], &[0; 8], &[0], &[0; 16]].concat();
    let cases: [(Vec<u8>, OperationError); 12] = [
        (vec![], OperationError::Short),
        (vec![2, 7], OperationError::UnknownForm(2)),
        (vec![1], OperationError::Short),
        (vec![1, 13], OperationError::UnknownKind(13)),
        (vec![1, 7, 0], OperationError::Short),
        (vec![1, 8, 0, 1, 0], OperationError::Long),
        (vec![1, 8, 0, 0], OperationError::Field),
        (vec![1, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0], OperationError::Field),
        (vec![1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1], OperationError::Field),
        (vec![1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF], OperationError::Field),
        ([&publish[..], &[0xC0, 0]].concat(), OperationError::OtherPacket),
        ([&publish[..], &[0x30, 4, 0, 1, b'a', 0]].concat(), OperationError::OtherPacket),
    ];
    for (bytes, error) in cases {
        assert_eq!(Operation::decode(&bytes), Err(error), "{bytes:?}");
    }
    assert!(matches!(Operation::decode(&publish), Err(OperationError::Packet(_))), "no packet at all");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_an_operation_or_an_error(kind in 0..13_u8, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let bytes = [&[1, kind][..], &bytes].concat();
        if let Ok(operation) = Operation::decode(&bytes) {
            let mut again = Vec::new();
            operation.encode(&mut again).unwrap();
            prop_assert_eq!(Operation::decode(&again), Ok(operation));
        }
    }

    /// Whatever happened before a crash, at any of its commits: the next process has what the store has, and a snapshot
    /// of it has the same.
    #[test]
    fn next_process_has_what_was_stored(steps in proptest::collection::vec((0..9_u8, 1..6_u16), 1..60)) {
        let mut peer = Peer::new(Version::V5_0, durable);
        for (step, id) in steps {
            match step {
                0 => { peer.publish(QoS::AtLeastOnce, "a", &id.to_string()); }
                1 => { peer.publish(QoS::ExactlyOnce, "a", &id.to_string()); }
                2 if peer.client.is_connected() => peer.receive_publish(QoS::ExactlyOnce, id, "b", "in"),
                3 if peer.client.is_connected() => peer.receive_ack(AckType::Pubrel, id),
                4 if peer.client.is_connected() => peer.receive_ack(AckType::Pubrec, id),
                5 if peer.client.is_connected() => peer.receive_ack(AckType::Puback, id),
                6 if peer.client.is_connected() => peer.receive_ack(AckType::Pubcomp, id),
                7 => { peer.lose(); peer.connect(id > 1 && peer.client.stored_tickets().next().is_some(), &[]); }
                _ => {
                    let tickets: Vec<_> = peer.client.stored_tickets().collect();
                    let snapshot = peer.client.snapshot();
                    let copy = Peer::new(Version::V5_0, durable).restart_with(snapshot.clone());
                    prop_assert_eq!(copy.unwrap().client.snapshot().len(), snapshot.len());
                    peer = peer.restart();
                    prop_assert_eq!(peer.client.stored_tickets().collect::<Vec<_>>(), tickets);
                    let mut again = peer.client.snapshot();
                    // The next process leaves a gap in the tickets.
                    again.pop();
                    prop_assert_eq!(&again[..], &snapshot[..snapshot.len() - 1]);
                }
            }
        }
    }
}
