//! QoS 0, 1 and 2 to the broker, and the outcome of each ticket.

use damselfly_client::{IndeterminateReason, Message, Outcome, OverflowPolicy, Refusal, Unfinished, UsageError};
use damselfly_codec::{AckType, Property, QoS, ReasonCode, Version};

use damselfly_session::SessionExpiry;

use crate::peer::{EMPTY, Peer, message};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5_0];

fn acknowledged(reason_code: ReasonCode) -> Outcome {
    Outcome::Acknowledged { reason_code }
}

/// [MQTT-4.3.1-1] [MQTT3-4.3.1-1]
#[test]
fn qos0_is_transmitted_when_its_last_byte_is_flushed() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |_| ());
        peer.is_flushing = false;
        let ticket = peer.publish(QoS::AtMostOnce, "a/b", "x");

        let mut chunks = [&[][..]; 1];
        peer.client.transmit(&mut chunks);
        let len = chunks[0].len();
        peer.client.handle_transmitted(peer.now, len - 1);
        peer.poll();
        assert_eq!(peer.take_outcomes(), []);
        peer.client.handle_transmitted(peer.now, 1);
        peer.poll();
        assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Transmitted)]);
    }
}

/// [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.2-3] [MQTT3-4.3.2-1] [MQTT3-2.3.1-6]
#[test]
fn qos1_is_acknowledged_by_puback() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |_| ());
        let ticket = peer.publish(QoS::AtLeastOnce, "a/b", "x");
        assert_eq!(peer.take_sent(), ["PUBLISH q1 #1 a/b x"]);
        assert_eq!(peer.take_outcomes(), []);

        peer.receive_ack(AckType::Puback, 1);

        assert_eq!(peer.take_outcomes(), [(ticket, acknowledged(ReasonCode::Success))]);
        assert_eq!(peer.client.unfinished(), Unfinished::default());
    }
}

/// [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT3-4.3.3-1]
#[test]
fn qos2_is_acknowledged_by_pubcomp() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |_| ());
        let ticket = peer.publish(QoS::ExactlyOnce, "a/b", "x");
        assert_eq!(peer.take_sent(), ["PUBLISH q2 #1 a/b x"]);

        peer.receive_ack(AckType::Pubrec, 1);
        assert_eq!(peer.take_sent(), ["PUBREL #1"]);
        assert_eq!(peer.take_outcomes(), []);
        peer.receive_ack(AckType::Pubcomp, 1);

        assert_eq!(peer.take_outcomes(), [(ticket, acknowledged(ReasonCode::Success))]);
    }
}

#[test]
fn outcome_of_qos2_has_the_reason_code_of_pubrec() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let ticket = peer.publish(QoS::ExactlyOnce, "a/b", "x");
    peer.receive_refusal(AckType::Pubrec, 1, ReasonCode::NoMatchingSubscribers);
    peer.receive_ack(AckType::Pubcomp, 1);
    assert_eq!(peer.take_outcomes(), [(ticket, acknowledged(ReasonCode::NoMatchingSubscribers))]);
}

/// [MQTT-4.4.0-2]
#[test]
fn refusal_ends_the_exchange_and_tells_the_reason() {
    for (qos, ack_type) in [(QoS::AtLeastOnce, AckType::Puback), (QoS::ExactlyOnce, AckType::Pubrec)] {
        let mut peer = Peer::connected(Version::V5_0, |config| config.session_expiry = SessionExpiry::Never);
        let ticket = peer.publish(qos, "a/b", "x");
        peer.forget();

        peer.receive_refusal(ack_type, 1, ReasonCode::QuotaExceeded);

        let refused = Refusal::ByServer { reason_code: ReasonCode::QuotaExceeded, reason_string: None };
        assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Refused(refused))]);
        assert_eq!(peer.take_sent(), [""; 0], "no PUBREL after a refusal");
        peer.reconnect(true);
        assert_eq!(peer.take_sent(), ["CONNECT heron resume 60"], "it is not sent again");
    }
}

/// [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-3.3.4-7]
#[test]
fn window_holds_the_fourth_message_at_a_receive_maximum_of_three() {
    let three = core::num::NonZeroU16::new(3).unwrap();
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::ReceiveMaximum(three)], |_| ());
    for payload in ["1", "2", "3", "4", "5"] {
        peer.publish(QoS::AtLeastOnce, "a", payload);
    }
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #1 a 1", "PUBLISH q1 #2 a 2", "PUBLISH q1 #3 a 3"]);

    peer.receive_ack(AckType::Puback, 2);
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #4 a 4"]);
    peer.receive_refusal(AckType::Puback, 1, ReasonCode::UnspecifiedError);
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #5 a 5"], "a refusal gives the slot back too");
}

/// [MQTT-4.9.0-2]
#[test]
fn qos2_holds_its_slot_until_pubcomp() {
    let one = core::num::NonZeroU16::MIN;
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::ReceiveMaximum(one)], |_| ());
    peer.publish(QoS::ExactlyOnce, "a", "1");
    peer.publish(QoS::ExactlyOnce, "a", "2");
    peer.receive_ack(AckType::Pubrec, 1);
    assert_eq!(peer.take_sent(), ["PUBLISH q2 #1 a 1", "PUBREL #1"]);
    peer.receive_ack(AckType::Pubcomp, 1);
    assert_eq!(peer.take_sent(), ["PUBLISH q2 #2 a 2"]);
}

/// [MQTT-3.3.4-8] [MQTT-4.9.0-3]
#[test]
fn full_window_delays_nothing_but_publishes() {
    let one = core::num::NonZeroU16::MIN;
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::ReceiveMaximum(one)], |_| ());
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.publish(QoS::AtLeastOnce, "a", "2");
    peer.forget();

    peer.subscribe(&[("b", QoS::AtLeastOnce)]);
    peer.receive_publish(QoS::AtLeastOnce, 9, "b", "x");

    assert_eq!(peer.take_sent(), ["SUBSCRIBE #2 b:1", "PUBACK #9"]);
}

/// [MQTT-2.2.1-3] [MQTT3-2.3.1-2]
#[test]
fn publish_subscribe_and_unsubscribe_share_one_set_of_identifiers() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |_| ());
        peer.publish(QoS::AtLeastOnce, "a", "1");
        peer.subscribe(&[("b", QoS::AtMostOnce)]);
        let filter = crate::peer::filter("b");
        peer.client.unsubscribe(peer.now, &[filter], crate::peer::EMPTY).unwrap();
        peer.publish(QoS::ExactlyOnce, "a", "2");
        peer.poll();
        assert_eq!(
            peer.take_sent(),
            ["PUBLISH q1 #1 a 1", "SUBSCRIBE #2 b:0", "UNSUBSCRIBE #3 b", "PUBLISH q2 #4 a 2"]
        );
    }
}

#[test]
fn pubrec_for_an_unknown_identifier_is_answered_with_not_found() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.receive_ack(AckType::Pubrec, 33);
    assert_eq!(peer.take_sent(), ["PUBREL #33 0x92"]);
}

/// [MQTT-2.2.1-5]
#[test]
fn acknowledgement_of_the_wrong_kind_is_a_protocol_error() {
    for ack_type in [AckType::Pubrec, AckType::Pubcomp] {
        let mut peer = Peer::connected(Version::V5_0, |_| ());
        peer.publish(QoS::AtLeastOnce, "a", "1");
        peer.forget();
        peer.receive_ack(ack_type, 1);
        assert_eq!(peer.take_sent(), ["DISCONNECT 0x82"]);
        assert!(peer.is_closed);
    }
}

#[test]
fn messages_published_offline_leave_in_order_once_connected() {
    for version in BOTH {
        let mut peer = Peer::new(version, |_| ());
        let tickets = ["1", "2", "3"].map(|payload| peer.publish(QoS::AtLeastOnce, "a", payload));
        assert_eq!(tickets, [1, 2, 3]);
        peer.connect(false, &[]);
        assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #1 a 1", "PUBLISH q1 #2 a 2", "PUBLISH q1 #3 a 3"]);
    }
}

#[test]
fn full_queue_gives_the_message_back_and_tells_when_there_is_room() {
    let mut peer = Peer::new(Version::V5_0, |config| config.queue.max_messages = 2);
    peer.publish(QoS::AtLeastOnce, "a", "1");
    peer.publish(QoS::AtLeastOnce, "a", "2");

    let refused = peer.client.publish(peer.now, message(QoS::AtLeastOnce, "a", "3")).unwrap_err();

    assert_eq!(refused.why, UsageError::QueueFull);
    assert_eq!(refused.message.payload(), b"3");
    peer.connect(false, &[]);
    assert!(peer.events.iter().any(|event| matches!(event, damselfly_client::Event::QueueHasRoom)));
}

#[test]
fn full_queue_drops_the_oldest_or_the_newest_if_asked_to() {
    use damselfly_client::DropReason;
    for (overflow, dropped, kept) in [
        (OverflowPolicy::DropOldest, (1, DropReason::Oldest), ["2", "3"]),
        (OverflowPolicy::DropNewest, (3, DropReason::Newest), ["1", "2"]),
    ] {
        let mut peer = Peer::new(Version::V5_0, |config| {
            config.queue.max_messages = 2;
            config.queue.overflow = overflow;
        });
        for payload in ["1", "2", "3"] {
            peer.publish(QoS::AtLeastOnce, "a", payload);
        }
        assert_eq!(peer.take_outcomes(), [(dropped.0, Outcome::Dropped(dropped.1))]);
        peer.connect(false, &[]);
        let sent = peer.take_sent();
        assert_eq!(sent[1..], [format!("PUBLISH q1 #1 a {}", kept[0]), format!("PUBLISH q1 #2 a {}", kept[1])]);
    }
}

#[test]
fn queue_is_bounded_in_bytes() {
    let large = "x".repeat(500);
    let mut peer = Peer::new(Version::V5_0, |config| config.queue.max_bytes = 1_200);
    peer.publish(QoS::AtLeastOnce, "a", &large);
    peer.publish(QoS::AtLeastOnce, "a", &large);
    let refused = peer.client.publish(peer.now, message(QoS::AtLeastOnce, "a", &large)).unwrap_err();
    assert_eq!(refused.why, UsageError::QueueFull);
}

#[test]
fn transport_that_takes_nothing_leaves_messages_in_the_queue() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.max_transmit_bytes = 20);
    peer.is_flushing = false;
    for _ in 0..5 {
        peer.publish(QoS::AtMostOnce, "a/b/c", "0123456789");
    }
    assert_eq!(peer.client.unfinished().queued, 4);
    peer.flush();
    peer.poll();
    assert_eq!(peer.client.unfinished().queued, 0);
    assert_eq!(peer.take_sent().len(), 5);
}

#[test]
fn qos0_whose_bytes_were_under_way_is_indeterminate_when_the_connection_is_lost() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.is_flushing = false;
    let ticket = peer.publish(QoS::AtMostOnce, "a", "x");
    peer.lose();
    let outcome = Outcome::Indeterminate(IndeterminateReason::ConnectionLost);
    assert_eq!(peer.take_outcomes(), [(ticket, outcome)]);
}

#[test]
fn large_payload_arrives_whole_between_small_packets() {
    let large = "y".repeat(10_000);
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.is_flushing = false;
    peer.publish(QoS::AtMostOnce, "a", "1");
    peer.publish(QoS::AtLeastOnce, "a", &large);
    peer.publish(QoS::AtMostOnce, "a", "2");
    peer.flush();
    assert_eq!(peer.take_sent(), ["PUBLISH q0 a 1", &format!("PUBLISH q1 #1 a {large}"), "PUBLISH q0 a 2"]);
}

/// [MQTT-3.2.2-17] [MQTT-3.3.2-9]
#[test]
fn topic_aliases_are_used_as_far_as_the_broker_allows() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::TopicAliasMaximum(2)], |config| {
        config.outbound_topic_aliases = 64;
    });
    for topic in ["home/one", "home/one", "home/two", "home/three", "home/two"] {
        peer.publish(QoS::AtMostOnce, topic, "x");
    }
    assert_eq!(
        peer.take_sent(),
        [
            "PUBLISH q0 home/one x alias 1",
            "PUBLISH q0  x alias 1",
            "PUBLISH q0 home/two x alias 2",
            "PUBLISH q0 home/three x alias 1",
            "PUBLISH q0  x alias 2",
        ]
    );
}

/// [MQTT-3.2.2-18] [MQTT-3.3.2-7]
#[test]
fn topic_aliases_end_with_their_connection() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::TopicAliasMaximum(2)], |config| {
        config.outbound_topic_aliases = 64;
    });
    peer.publish(QoS::AtMostOnce, "home/one", "x");
    peer.reconnect(false);
    peer.forget();
    peer.publish(QoS::AtMostOnce, "home/one", "x");
    assert_eq!(peer.take_sent(), ["PUBLISH q0 home/one x"], "the new broker allows none");
}

/// However a message is put together, alias, expiry and its own properties travel side by side.
#[test]
fn topic_alias_goes_with_properties_expiry_and_large_payloads() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::TopicAliasMaximum(2)], |config| {
        config.outbound_topic_aliases = 64;
    });
    let large = "z".repeat(5_000);
    let says = [Property::UserProperty("k", "v"), Property::MessageExpiryInterval(9)];
    for (payload, says) in [("1", &says[..1]), ("2", &says[1..]), ("3", &says[..]), (large.as_str(), &says[..])] {
        let message = crate::peer::message_with(QoS::AtLeastOnce, "home/one", payload, says, peer.now);
        peer.client.publish(peer.now, message).unwrap();
    }
    peer.poll();
    assert_eq!(
        peer.take_sent(),
        [
            "PUBLISH q1 #1 home/one 1 alias 1",
            "PUBLISH q1 #2  2 alias 1 expiry 9",
            "PUBLISH q1 #3  3 alias 1 expiry 9",
            &format!("PUBLISH q1 #4  {large} alias 1 expiry 9"),
        ]
    );
}

#[test]
fn message_composed_in_used_memory_is_the_message() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let topic = damselfly_topic::TopicName::new("home/a").unwrap();
    for (qos, payload) in [(QoS::AtMostOnce, "one"), (QoS::AtLeastOnce, "four"), (QoS::ExactlyOnce, "")] {
        let message = peer.client.compose(peer.now, topic, payload.as_bytes(), qos, true, EMPTY);
        let expected = Message::compose(topic, payload.as_bytes(), qos, true, EMPTY, peer.now);
        assert_eq!(message, expected);
        peer.client.publish(peer.now, message).unwrap();
        peer.poll();
    }
    assert_eq!(
        peer.take_sent(),
        ["PUBLISH q0 retain home/a one", "PUBLISH q1 #1 retain home/a four", "PUBLISH q2 #2 retain home/a "]
    );
    peer.receive_ack(AckType::Puback, 1);
    peer.receive_ack(AckType::Pubrec, 2);
    let given_back = Message::compose(topic, b"xxxx", QoS::AtMostOnce, false, EMPTY, peer.now);
    let held = given_back.clone();
    peer.client.give_back(given_back);
    let message = peer.client.compose(peer.now, topic, b"5", QoS::AtMostOnce, false, EMPTY);
    assert_eq!((message.payload(), held.payload()), (&b"5"[..], &b"xxxx"[..]));
}
