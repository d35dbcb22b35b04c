//! What the broker announced not to take is refused before anything is sent.

use core::num::{NonZeroU16, NonZeroU32};

use damselfly_client::{ConnectionEnd, Event, IndeterminateReason, Outcome, Refusal, UsageError};
use damselfly_codec::{
    AckType, Property, QoS, ReasonCode, RetainHandling, SubscriptionId, SubscriptionOptions, Version,
};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::TopicName;

use crate::{
    outbox::durable,
    peer::{EMPTY, Peer, filter, message, message_with, options, properties, publish},
};

fn retained() -> Message {
    retained_at(QoS::AtMostOnce)
}

fn retained_at(qos: QoS) -> Message {
    let publish = damselfly_codec::Publish { retain: true, ..publish(qos, 1, false, "a", "x", EMPTY) };
    Message::new(&publish, TopicName::new("a").expect("tests use names"), Timestamp::ZERO)
}

fn packet_size(size: u32) -> Property<'static> {
    Property::MaximumPacketSize(NonZeroU32::new(size).expect("tests use no zero"))
}

/// [MQTT-3.2.2-11]
#[test]
fn qos_above_the_maximum_is_refused() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::MaximumQoS(QoS::AtLeastOnce)], |_| ());
    let refused = peer.client.publish(peer.now, message(QoS::ExactlyOnce, "a", "x")).unwrap_err();
    assert_eq!(refused.why, UsageError::QoSNotSupported { maximum: QoS::AtLeastOnce });
    peer.publish(QoS::AtLeastOnce, "a", "x");
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #1 a x"]);
}

/// [MQTT-3.2.2-14]
#[test]
fn retained_message_is_refused_where_there_are_none() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::RetainAvailable(false)], |_| ());
    let refused = peer.client.publish(peer.now, retained()).unwrap_err();
    assert_eq!(refused.why, UsageError::RetainNotSupported);
}

/// [MQTT-3.2.2-15]
#[test]
fn packet_at_the_maximum_size_is_sent_and_one_byte_more_is_refused() {
    // Fixed header 2, topic 3, packet identifier 2, property length 1.
    for (qos, head) in [(QoS::AtMostOnce, 6), (QoS::AtLeastOnce, 8), (QoS::ExactlyOnce, 8)] {
        let mut peer = Peer::connected_to(Version::V5_0, &[packet_size(100)], |_| ());
        peer.publish(qos, "a", &"x".repeat(100 - head));
        assert_eq!(peer.take_sent().len(), 1);

        let refused = peer.client.publish(peer.now, message(qos, "a", &"x".repeat(101 - head))).unwrap_err();

        assert_eq!(refused.why, UsageError::PacketTooLarge { size: 101, maximum: 100 });
        peer.poll();
        assert!(peer.client.is_connected());
    }
}

#[test]
fn queued_message_that_the_broker_does_not_take_fails_its_own_ticket() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    let first = peer.publish(QoS::AtLeastOnce, "a", &"x".repeat(200));
    let second = peer.publish(QoS::ExactlyOnce, "a", "y");
    peer.publish(QoS::AtLeastOnce, "a", "z");
    peer.connect(false, &[packet_size(100), Property::MaximumQoS(QoS::AtLeastOnce)]);
    let by_limit = |error| Outcome::Refused(Refusal::ByLimit(error));
    assert_eq!(
        peer.take_outcomes(),
        [
            (first, by_limit(UsageError::PacketTooLarge { size: 209, maximum: 100 })),
            (second, by_limit(UsageError::QoSNotSupported { maximum: QoS::AtLeastOnce })),
        ]
    );
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #2 a z"]);
}

/// An alias makes a packet larger when it is set: the limit holds all the same. [MQTT-3.2.2-15]
#[test]
fn alias_is_left_out_where_it_would_exceed_the_maximum_size() {
    let says = [packet_size(100), Property::TopicAliasMaximum(9)];
    let mut peer = Peer::connected_to(Version::V5_0, &says, |config| config.outbound_topic_aliases = 9);
    peer.publish(QoS::AtMostOnce, "abcd", &"x".repeat(100 - 9));
    peer.publish(QoS::AtMostOnce, "abcd", "y");
    let sent = peer.take_sent();
    assert!(!sent[0].contains("alias"));
    assert_eq!(sent[1], "PUBLISH q0 abcd y alias 1", "the table knows that nothing was set");
}

#[test]
fn subscriptions_the_broker_has_not_are_refused() {
    let cases = [
        (Property::WildcardSubscriptionAvailable(false), "a/+", UsageError::WildcardSubscriptionsNotSupported),
        (Property::SharedSubscriptionAvailable(false), "$share/g/a", UsageError::SharedSubscriptionsNotSupported),
    ];
    for (property, text, error) in cases {
        let mut peer = Peer::connected_to(Version::V5_0, &[property], |_| ());
        let request = [(filter(text), options(QoS::AtMostOnce))];
        assert_eq!(peer.client.subscribe(peer.now, &request, EMPTY), Err(error));
        peer.subscribe(&[("a", QoS::AtMostOnce)]);
        assert_eq!(peer.take_sent(), ["SUBSCRIBE #1 a:0"]);
    }
}

#[test]
fn subscription_identifier_is_refused_where_there_are_none() {
    let says = [Property::SubscriptionIdentifierAvailable(false)];
    let mut peer = Peer::connected_to(Version::V5_0, &says, |_| ());
    let seven = properties(&[Property::SubscriptionIdentifier(SubscriptionId::new(7).unwrap())]);
    let request = [(filter("a"), options(QoS::AtMostOnce))];
    let result = peer.client.subscribe(peer.now, &request, seven.as_properties());
    assert_eq!(result, Err(UsageError::SubscriptionIdentifiersNotSupported));
}

#[test]
fn subscription_made_offline_and_not_allowed_fails_its_ticket() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    let ticket = peer.subscribe(&[("a/#", QoS::AtMostOnce)]);
    peer.connect(false, &[Property::WildcardSubscriptionAvailable(false)]);
    let refused = Refusal::ByLimit(UsageError::WildcardSubscriptionsNotSupported);
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Refused(refused))]);
}

#[test]
fn what_only_5_0_can_say_is_refused_before() {
    let mut peer = Peer::connected(Version::V3_1_1, |_| ());
    let says = [Property::ContentType("text/plain")];
    let with_property = message_with(QoS::AtMostOnce, "a", "x", &says, peer.now);
    assert_eq!(peer.client.publish(peer.now, with_property).unwrap_err().why, UsageError::NeedsVersion5);

    let retain_handling = RetainHandling::DoNotSend;
    let request = [(filter("a"), SubscriptionOptions { retain_handling, ..Default::default() })];
    assert_eq!(peer.client.subscribe(peer.now, &request, EMPTY), Err(UsageError::NeedsVersion5));

    let user = properties(&[Property::UserProperty("k", "v")]);
    let request = [(filter("a"), options(QoS::AtMostOnce))];
    let result = peer.client.subscribe(peer.now, &request, user.as_properties());
    assert_eq!(result, Err(UsageError::NeedsVersion5));
    peer.poll();
    assert_eq!(peer.take_sent(), [""; 0]);
}

/// [MQTT-3.3.2-6]
#[test]
fn message_expiry_interval_is_what_is_left_of_it() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    let expiring = message_with(QoS::AtLeastOnce, "a", "x", &[Property::MessageExpiryInterval(10)], peer.now);
    peer.client.publish(peer.now, expiring).unwrap();
    peer.pass(4);
    peer.connect(false, &[]);
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #1 a x expiry 6"]);
}

#[test]
fn message_that_expires_in_the_queue_is_never_sent() {
    for version in [Version::V3_1_1, Version::V5_0] {
        let mut peer = Peer::new(version, |_| ());
        let expiring = message_with(QoS::AtLeastOnce, "a", "x", &[Property::MessageExpiryInterval(10)], peer.now);
        let ticket = peer.client.publish(peer.now, expiring).unwrap();
        peer.publish(QoS::AtLeastOnce, "a", "y");
        peer.pass(9);
        assert_eq!(peer.take_outcomes(), []);
        assert_eq!(peer.client.poll_timeout(), Some(Timestamp::from_secs(1_010)));
        peer.pass(1);
        assert_eq!(peer.take_outcomes(), [(ticket.get(), Outcome::Expired)]);
        peer.connect(false, &[]);
        assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #1 a y"]);
    }
}

#[test]
fn queue_has_an_expiry_of_its_own_for_both_versions() {
    let mut peer = Peer::new(Version::V3_1_1, |config| {
        config.queue.max_wait = Some(core::time::Duration::from_secs(3));
    });
    let ticket = peer.publish(QoS::AtMostOnce, "a", "x");
    peer.pass(3);
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Expired)]);
}

/// [MQTT-4.3.3-7]
#[test]
fn message_that_was_sent_does_not_expire() {
    let mut peer =
        Peer::connected(Version::V5_0, |config| config.session_expiry = damselfly_session::SessionExpiry::Never);
    let expiring = message_with(QoS::ExactlyOnce, "a", "x", &[Property::MessageExpiryInterval(10)], peer.now);
    peer.client.publish(peer.now, expiring).unwrap();
    peer.pass(20);
    peer.reconnect(true);
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q2 #1 dup a x expiry 1"]);
}

/// Its place in the window goes to the next one. [MQTT-4.3.3-7]
#[test]
fn message_that_expires_before_it_may_leave_the_outbox_is_never_sent() {
    for (qos, is_cut) in [(QoS::AtLeastOnce, false), (QoS::ExactlyOnce, false), (QoS::ExactlyOnce, true)] {
        let one = [Property::ReceiveMaximum(NonZeroU16::MIN)];
        let mut peer = Peer::connected_to(Version::V5_0, &one, durable);
        peer.is_storing = false;
        let expiring = message_with(qos, "a", "x", &[Property::MessageExpiryInterval(10)], peer.now);
        let ticket = peer.client.publish(peer.now, expiring).unwrap();
        peer.poll();
        peer.publish(QoS::AtLeastOnce, "a", "y");

        peer.pass(10);
        if is_cut {
            peer.lose();
            peer.connect(true, &one);
            peer.forget();
        }
        peer.is_storing = true;
        peer.commit();

        assert_eq!(peer.take_sent(), ["PUBLISH q1 #2 a y"]);
        assert_eq!(peer.take_outcomes(), [(ticket.get(), Outcome::Expired)]);
        let stored: Vec<_> = peer.restart().client.stored_tickets().collect();
        assert!(!stored.contains(&ticket), "nor by the next process");
    }
}

#[test]
fn resent_message_that_the_new_broker_does_not_take_fails_its_own_ticket() {
    let mut peer =
        Peer::connected(Version::V5_0, |config| config.session_expiry = damselfly_session::SessionExpiry::Never);
    let ticket = peer.client.publish(peer.now, retained_at(QoS::AtLeastOnce)).unwrap().get();
    peer.poll();
    peer.publish(QoS::AtLeastOnce, "a", "y");
    peer.lose();
    peer.forget();
    peer.connect(true, &[Property::RetainAvailable(false)]);
    let outcome = Outcome::Indeterminate(IndeterminateReason::NotAllowedAgain);
    assert_eq!(peer.take_outcomes(), [(ticket, outcome)], "it may have arrived");
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #2 dup a y"]);
}

/// The broker may know the identifier of a QoS 2 message, and would take another message under it for a repeat: it stays
/// in use until PUBCOMP, also in the next process. [MQTT-2.2.1-3] [MQTT-3.2.2-11]
#[test]
fn identifier_of_a_message_that_must_not_be_sent_again_stays_in_use_until_pubcomp() {
    let at_most_1 = [Property::MaximumQoS(QoS::AtLeastOnce), Property::ReceiveMaximum(NonZeroU16::MIN)];
    let no_such = ReasonCode::PacketIdentifierNotFound;
    let refused = Refusal::ByServer { reason_code: ReasonCode::QoSNotSupported, reason_string: None };
    for (answer, outcome) in [
        (ReasonCode::Success, Outcome::Indeterminate(IndeterminateReason::NotAllowedAgain)),
        (no_such, Outcome::Refused(refused)),
    ] {
        for restarts in [false, true] {
            let mut peer = Peer::connected(Version::V5_0, durable);
            let ticket = peer.publish(QoS::ExactlyOnce, "a", "x");
            peer.lose();
            peer.forget();
            peer.connect(true, &at_most_1);
            assert_eq!(peer.take_sent()[1..], ["PUBREL #1"], "whether it arrived or not, its exchange ends");
            if restarts {
                peer = peer.restart();
                peer.connect(true, &at_most_1);
                assert_eq!(peer.take_sent()[1..], ["PUBREL #1"]);
            }
            peer.publish(QoS::AtLeastOnce, "a", "y");
            assert_eq!(peer.take_sent(), ["PUBLISH q1 #2 a y"], "another identifier, and it holds no slot");
            assert_eq!(peer.take_outcomes(), []);
            peer.receive_refusal(AckType::Pubcomp, 1, answer);
            assert_eq!(peer.take_outcomes(), [(ticket, outcome.clone())]);
        }
    }
}

/// Identifiers are given out in a circle, so that is seen once it has gone round. [MQTT-2.2.1-3]
#[test]
fn identifier_without_its_pubcomp_is_left_out_when_the_others_were_used_up() {
    let mut peer =
        Peer::connected(Version::V5_0, |config| config.session_expiry = damselfly_session::SessionExpiry::Never);
    peer.publish(QoS::ExactlyOnce, "a", "x");
    peer.lose();
    peer.connect(true, &[Property::MaximumQoS(QoS::AtLeastOnce)]);
    for (first, expected) in [(2, "PUBLISH q1 #2 a y"), (3, "PUBLISH q1 #1 a y")] {
        for id in first..=u16::MAX {
            peer.publish(QoS::AtLeastOnce, "a", "");
            peer.receive_ack(AckType::Puback, id);
        }
        peer.forget();
        peer.publish(QoS::AtLeastOnce, "a", "y");
        assert_eq!(peer.take_sent(), [expected]);
        peer.receive_ack(AckType::Pubcomp, 1);
    }
}

#[test]
fn broker_that_sends_and_never_reads_is_ended_at_a_limit() {
    for version in [Version::V3_1_1, Version::V5_0] {
        // An acknowledgement has four bytes.
        let mut peer = Peer::connected(version, |config| config.max_owed_bytes = 40);
        for round in 0..3 {
            peer.is_flushing = false;
            for id in 1..=10 {
                peer.receive_publish(QoS::AtLeastOnce, id, "a", "");
            }
            assert!(!peer.is_closed, "at the limit in round {round}");
            peer.flush();
            assert_eq!(peer.take_sent().len(), 10, "what was read is owed no more");
        }
        for id in 1..=10 {
            peer.receive_publish(QoS::AtLeastOnce, id, "a", "");
        }
        assert!(!peer.is_closed, "at the limit");
        peer.receive_publish(QoS::AtLeastOnce, 11, "a", "");
        assert!(peer.is_closed);
        let sent = peer.take_sent();
        assert_eq!(sent.len(), if version == Version::V5_0 { 12 } else { 11 });
        assert_eq!(sent.last().is_some_and(|last| last == "DISCONNECT 0x97"), version == Version::V5_0);
        peer.lose();
        assert!(matches!(peer.events.pop(), Some(Event::Disconnected(ConnectionEnd::NotRead))));
    }
}

/// What was read in part is owed in part, also where other packets are in between.
#[test]
fn owed_bytes_are_those_that_were_not_read() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.max_owed_bytes = 40);
    peer.is_flushing = false;
    for id in 1..=5 {
        peer.receive_publish(QoS::AtLeastOnce, id, "a", "");
    }
    peer.publish(QoS::AtMostOnce, "a", "x");
    for id in 6..=10 {
        peer.receive_publish(QoS::AtLeastOnce, id, "a", "");
    }
    // Four PUBACKs and one byte of the fifth: nine bytes of PUBACKs are left, and so is the PUBLISH between them.
    peer.client.handle_transmitted(peer.now, 17);
    for id in 1..=4 {
        peer.receive_publish(QoS::AtLeastOnce, id, "a", "");
    }
    assert!(peer.client.is_connected());
    // The rest of the fifth, and all of the PUBLISH but its last byte: three bytes are owed less.
    peer.client.handle_transmitted(peer.now, 8);
    peer.receive_publish(QoS::AtLeastOnce, 5, "a", "");
    assert!(peer.client.is_connected(), "forty bytes");
    let one_more = b"\x32\x06\x00\x01a\x00\x0B\x00";
    let _ = peer.client.handle_input(peer.now, one_more);
    assert!(!peer.client.is_connected(), "and one too many");
}

/// The same holds for what waits until it is stored.
#[test]
fn acknowledgements_that_wait_for_their_commit_are_owed_too() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        durable(config);
        config.max_owed_bytes = 40;
    });
    peer.is_storing = false;
    peer.receive_publish(QoS::ExactlyOnce, 1, "a", "");
    for id in 2..=10 {
        peer.receive_ack(AckType::Pubrel, id);
    }
    assert_eq!(peer.take_sent(), [""; 0]);
    assert!(!peer.is_closed, "at the limit");
    peer.receive_ack(AckType::Pubrel, 11);
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x97"]);
    assert!(peer.is_closed);
}

/// [MQTT-3.3.4-6]
#[test]
fn publish_has_no_subscription_identifier() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.is_flushing = false;
    let says = [Property::SubscriptionIdentifier(SubscriptionId::new(7).unwrap()), Property::ContentType("text/plain")];
    let message = message_with(QoS::AtMostOnce, "a", "x", &says, peer.now);
    peer.client.publish(peer.now, message).unwrap();
    let mut chunks = [&[][..]; 1];
    peer.client.transmit(&mut chunks);
    let Ok(damselfly_codec::Packet::Publish(publish)) = damselfly_codec::Packet::decode(Version::V5_0, chunks[0])
    else {
        panic!("a PUBLISH")
    };
    assert_eq!(publish.properties.subscription_ids().count(), 0);
    assert_eq!(publish.properties.content_type(), Some("text/plain"));
}

/// Neither Reason Strings nor User Properties make an answer larger than the broker takes. [MQTT-3.4.2-2] [MQTT-3.4.2-3]
/// [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.14.2-3]
/// [MQTT-3.14.2-4]
#[test]
fn answers_fit_the_smallest_packet_size_that_can_carry_a_reason_code() {
    let mut peer = Peer::connected_to(Version::V5_0, &[packet_size(5)], |_| ());
    peer.receive_publish(QoS::AtLeastOnce, 7, "a", "1");
    peer.receive_publish(QoS::ExactlyOnce, 8, "a", "2");
    peer.receive_ack(AckType::Pubrel, 9);
    peer.receive_ack(AckType::Pubrec, 10);
    let _ = peer.receive_bytes(&[0x36, 0x00]);
    assert_eq!(peer.take_sent(), ["PUBACK #7", "PUBREC #8", "PUBCOMP #9 0x92", "PUBREL #10 0x92", "DISCONNECT 0x81"]);
}
