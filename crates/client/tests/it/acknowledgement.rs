//! Received messages and when they are acknowledged.

use damselfly_client::{AckToken, Acknowledgement, Event, UsageError};
use damselfly_codec::{AckType, Packet, Property, QoS, ReasonCode, SubscriptionId, TopicAlias, Version};
use damselfly_session::SessionExpiry;

use crate::peer::{EMPTY, Peer, properties, publish};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5_0];

fn manual(version: Version) -> Peer {
    Peer::connected(version, |config| {
        config.acknowledgement = Acknowledgement::Manual;
        config.session_expiry = SessionExpiry::Never;
    })
}

fn tokens(peer: &Peer) -> Vec<AckToken> {
    let token = |event: &Event| match event {
        Event::Message(inbound) => inbound.ack,
        _ => None,
    };
    peer.events.iter().filter_map(token).collect()
}

fn acknowledge(peer: &mut Peer, token: AckToken, reason_code: ReasonCode) -> Result<(), UsageError> {
    let result = peer.client.acknowledge(peer.now, token, reason_code);
    peer.poll();
    result
}

/// [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT-3.3.4-1] [MQTT-4.5.0-2] [MQTT3-3.3.4-1] [MQTT3-4.3.2-2] [MQTT3-4.3.3-2] [MQTT3-4.5.0-2]
#[test]
fn messages_are_acknowledged_by_themselves_according_to_their_qos() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |_| ());
        peer.receive_publish(QoS::AtMostOnce, 0, "a", "0");
        peer.receive_publish(QoS::AtLeastOnce, 7, "a", "1");
        peer.receive_publish(QoS::ExactlyOnce, 8, "a", "2");
        peer.receive_ack(AckType::Pubrel, 8);
        assert_eq!(peer.take_sent(), ["PUBACK #7", "PUBREC #8", "PUBCOMP #8"]);
        assert_eq!(tokens(&peer), []);
        assert_eq!(peer.take_messages(), ["a 0", "a 1", "a 2"]);
    }
}

/// [MQTT-4.3.3-10] [MQTT3-4.3.3-2]
#[test]
fn qos2_duplicate_is_acknowledged_and_not_delivered_again() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |config| config.session_expiry = SessionExpiry::Never);
        peer.receive_publish(QoS::ExactlyOnce, 8, "a", "1");
        peer.reconnect(true);
        peer.receive(&Packet::Publish(publish(QoS::ExactlyOnce, 8, true, "a", "1", EMPTY)));
        assert_eq!(peer.take_sent()[1..], ["PUBREC #8"]);
        assert_eq!(peer.take_messages(), [""; 0]);
    }
}

/// [MQTT-4.3.2-5] [MQTT-4.3.3-12] [MQTT3-4.3.2-2] [MQTT3-4.3.3-2]
#[test]
fn identifier_of_a_finished_exchange_is_a_new_message_whatever_dup_says() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |_| ());
        for (payload, dup) in [("1", false), ("2", true)] {
            peer.receive(&Packet::Publish(publish(QoS::AtLeastOnce, 7, dup, "a", payload, EMPTY)));
            peer.receive(&Packet::Publish(publish(QoS::ExactlyOnce, 8, dup, "a", payload, EMPTY)));
            peer.receive_ack(AckType::Pubrel, 8);
        }
        assert_eq!(peer.take_messages(), ["a 1", "a 1", "a 2", "a 2"]);
    }
}

#[test]
fn unknown_pubrel_is_answered_with_not_found_and_the_connection_lives() {
    for (version, answer) in [(Version::V3_1_1, "PUBCOMP #9"), (Version::V5_0, "PUBCOMP #9 0x92")] {
        let mut peer = Peer::connected(version, |_| ());
        peer.receive_ack(AckType::Pubrel, 9);
        assert_eq!(peer.take_sent(), [answer]);
        assert!(peer.client.is_connected());
    }
}

/// [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT3-4.6.0-2] [MQTT3-4.6.0-3]
#[test]
fn acknowledgements_given_in_any_order_leave_in_the_order_of_arrival() {
    for version in BOTH {
        let mut peer = manual(version);
        for id in [1, 2, 3] {
            peer.receive_publish(QoS::AtLeastOnce, id, "a", "x");
            peer.receive_publish(QoS::ExactlyOnce, id + 10, "a", "x");
        }
        assert_eq!(peer.take_sent(), [""; 0]);
        let tokens = tokens(&peer);
        for index in [5, 4, 3, 2] {
            acknowledge(&mut peer, tokens[index], ReasonCode::Success).unwrap();
        }
        assert_eq!(peer.take_sent(), [""; 0], "the first of each kind is not acknowledged");
        acknowledge(&mut peer, tokens[0], ReasonCode::Success).unwrap();
        assert_eq!(peer.take_sent(), ["PUBACK #1", "PUBACK #2", "PUBACK #3"]);
        acknowledge(&mut peer, tokens[1], ReasonCode::Success).unwrap();
        assert_eq!(peer.take_sent(), ["PUBREC #11", "PUBREC #12", "PUBREC #13"]);
    }
}

/// [MQTT-4.3.3-9]
#[test]
fn refused_qos2_message_needs_no_pubrel_and_its_identifier_is_new_again() {
    let mut peer = manual(Version::V5_0);
    peer.receive_publish(QoS::ExactlyOnce, 8, "a", "1");
    let token = tokens(&peer)[0];
    acknowledge(&mut peer, token, ReasonCode::NotAuthorized).unwrap();
    assert_eq!(peer.take_sent(), ["PUBREC #8 0x87"]);
    peer.receive_publish(QoS::ExactlyOnce, 8, "a", "2");
    assert_eq!(peer.take_messages(), ["a 1", "a 2"]);
}

#[test]
fn refusal_is_a_success_before_5_0() {
    let mut peer = manual(Version::V3_1_1);
    peer.receive_publish(QoS::ExactlyOnce, 8, "a", "1");
    let token = tokens(&peer)[0];
    acknowledge(&mut peer, token, ReasonCode::NotAuthorized).unwrap();
    peer.receive_ack(AckType::Pubrel, 8);
    assert_eq!(peer.take_sent(), ["PUBREC #8", "PUBCOMP #8"]);
}

#[test]
fn token_works_once() {
    let mut peer = manual(Version::V5_0);
    peer.receive_publish(QoS::AtLeastOnce, 8, "a", "1");
    let token = tokens(&peer)[0];
    assert_eq!(acknowledge(&mut peer, token, ReasonCode::Success), Ok(()));
    assert_eq!(acknowledge(&mut peer, token, ReasonCode::Success), Err(UsageError::StaleAcknowledgement));
    assert_eq!(peer.take_sent(), ["PUBACK #8"]);
}

#[test]
fn qos1_token_ends_with_its_connection_and_the_message_comes_again() {
    let mut peer = manual(Version::V5_0);
    peer.receive_publish(QoS::AtLeastOnce, 8, "a", "1");
    let token = tokens(&peer)[0];
    peer.reconnect(true);
    assert_eq!(acknowledge(&mut peer, token, ReasonCode::Success), Err(UsageError::StaleAcknowledgement));
    peer.receive(&Packet::Publish(publish(QoS::AtLeastOnce, 8, true, "a", "1", EMPTY)));
    assert_eq!(peer.take_messages(), ["a 1"]);
}

/// The application has the message: it must not see it twice, and its token stays good. [MQTT-4.3.3-10]
#[test]
fn qos2_token_outlives_its_connection() {
    for is_early in [true, false] {
        let mut peer = manual(Version::V5_0);
        peer.receive_publish(QoS::ExactlyOnce, 8, "a", "1");
        let token = tokens(&peer)[0];
        peer.reconnect(true);
        peer.forget();
        if is_early {
            acknowledge(&mut peer, token, ReasonCode::Success).unwrap();
            assert_eq!(peer.take_sent(), [""; 0], "the broker has to send it again first");
        }
        peer.receive(&Packet::Publish(publish(QoS::ExactlyOnce, 8, true, "a", "1", EMPTY)));
        if !is_early {
            assert_eq!(peer.take_sent(), [""; 0]);
            acknowledge(&mut peer, token, ReasonCode::Success).unwrap();
        }
        assert_eq!(peer.take_sent(), ["PUBREC #8"]);
        assert_eq!(peer.take_messages(), [""; 0]);
    }
}

#[test]
fn tokens_of_a_lost_session_are_stale() {
    let mut peer = manual(Version::V5_0);
    peer.receive_publish(QoS::ExactlyOnce, 8, "a", "1");
    let token = tokens(&peer)[0];
    peer.reconnect(false);
    assert_eq!(acknowledge(&mut peer, token, ReasonCode::Success), Err(UsageError::StaleAcknowledgement));
    peer.receive_publish(QoS::ExactlyOnce, 8, "a", "2");
    assert_eq!(peer.take_messages(), ["a 2"], "the identifier means something new");
}

/// [MQTT-3.3.4-9]
#[test]
fn broker_that_exceeds_our_receive_maximum_is_told_so() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.acknowledgement = Acknowledgement::Manual;
        config.receive_maximum = core::num::NonZeroU16::new(3).unwrap();
    });
    for id in [1, 2, 3] {
        peer.receive_publish(QoS::AtLeastOnce, id, "a", "x");
    }
    assert!(peer.client.is_connected());
    peer.receive_publish(QoS::AtLeastOnce, 4, "a", "x");
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x93"]);
    assert_eq!(peer.take_messages().len(), 3);
}

#[test]
fn acknowledged_messages_make_room_in_our_receive_maximum() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.receive_maximum = core::num::NonZeroU16::new(1).unwrap();
    });
    for id in 1..=5 {
        peer.receive_publish(QoS::AtLeastOnce, id, "a", "x");
        peer.receive_publish(QoS::ExactlyOnce, id + 10, "a", "x");
        peer.receive_ack(AckType::Pubrel, id + 10);
    }
    assert!(peer.client.is_connected());
}

/// [MQTT-3.3.2-10]
#[test]
fn topic_alias_of_the_broker_stands_for_its_topic() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.topic_alias_maximum = 3);
    let alias = properties(&[Property::TopicAlias(TopicAlias::new(3).unwrap())]);
    for (topic, payload) in [("home/a", "1"), ("", "2"), ("home/b", "3"), ("", "4")] {
        let packet = publish(QoS::AtMostOnce, 0, false, topic, payload, alias.as_properties());
        peer.receive(&Packet::Publish(packet));
    }
    assert_eq!(peer.take_messages(), ["home/a 1", "home/a 2", "home/b 3", "home/b 4"]);
}

#[test]
fn topic_alias_above_our_maximum_is_invalid() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.topic_alias_maximum = 3);
    let alias = properties(&[Property::TopicAlias(TopicAlias::new(4).unwrap())]);
    peer.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, "home/a", "1", alias.as_properties())));
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x94"]);
}

#[test]
fn topic_aliases_are_bounded_in_bytes() {
    let alias = properties(&[Property::TopicAlias(TopicAlias::new(1).unwrap())]);
    // A place for an alias takes 16 bytes, its Topic Name 6 or 7.
    for (topic, expected) in [("home/a", &[][..]), ("home/ab", &["DISCONNECT 0x97"])] {
        let mut peer = Peer::connected(Version::V5_0, |config| {
            config.topic_alias_maximum = 3;
            config.max_alias_bytes = 22;
        });
        peer.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, topic, "1", alias.as_properties())));
        assert_eq!(peer.take_sent(), expected, "{topic}");
    }

    let mut peer = Peer::connected_to(Version::V5_0, &[Property::TopicAliasMaximum(2)], |config| {
        config.outbound_topic_aliases = 64;
        config.max_alias_bytes = 0;
    });
    peer.publish(QoS::AtMostOnce, "home/a", "x");
    assert_eq!(peer.take_sent(), ["PUBLISH q0 home/a x"]);
}

/// [MQTT-3.3.2-7]
#[test]
fn topic_alias_of_an_earlier_connection_is_unknown() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.topic_alias_maximum = 3;
        config.session_expiry = SessionExpiry::Never;
    });
    let alias = properties(&[Property::TopicAlias(TopicAlias::new(3).unwrap())]);
    peer.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, "home/a", "1", alias.as_properties())));
    peer.reconnect(true);
    peer.forget();
    peer.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, "", "2", alias.as_properties())));
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x82"]);
    assert_eq!(peer.take_messages(), [""; 0]);
}

#[test]
fn message_comes_with_its_properties_and_subscription_identifiers() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let ids = [3, 5].map(|id| SubscriptionId::new(id).unwrap());
    let says = properties(&[
        Property::SubscriptionIdentifier(ids[0]),
        Property::ContentType("text/plain"),
        Property::SubscriptionIdentifier(ids[1]),
        Property::MessageExpiryInterval(9),
    ]);
    peer.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, "a", "1", says.as_properties())));
    let Some(Event::Message(inbound)) = peer.events.first() else { panic!("a message") };
    assert_eq!(inbound.subscription_ids, ids);
    assert_eq!(inbound.message.properties().content_type(), Some("text/plain"));
    assert_eq!(inbound.message.remaining_expiry(peer.now), Some(9));
}

/// [MQTT-4.3.3-13]
#[test]
fn handshake_of_an_expired_message_goes_on() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let says = properties(&[Property::MessageExpiryInterval(1)]);
    peer.receive(&Packet::Publish(publish(QoS::ExactlyOnce, 8, false, "a", "1", says.as_properties())));
    peer.pass(9);
    peer.receive_ack(AckType::Pubrel, 8);
    assert_eq!(peer.take_sent(), ["PUBREC #8", "PUBCOMP #8"]);
}
