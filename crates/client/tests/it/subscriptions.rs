//! SUBSCRIBE, UNSUBSCRIBE and the registry that restores subscriptions.

use damselfly_client::{Event, Outcome, UsageError};
use damselfly_codec::{Packet, Property, QoS, ReasonCode, SubscriptionId, SubscriptionOptions, Unsuback, Version};
use damselfly_session::SessionExpiry;

use crate::peer::{EMPTY, Peer, filter, options, packet_id, properties};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5_0];

#[test]
fn each_filter_has_its_result() {
    for (version, refusal) in
        [(Version::V3_1_1, ReasonCode::UnspecifiedError), (Version::V5_0, ReasonCode::NotAuthorized)]
    {
        let mut peer = Peer::connected(version, |_| ());
        let ticket = peer.subscribe(&[("a", QoS::AtMostOnce), ("b/#", QoS::ExactlyOnce), ("c", QoS::AtLeastOnce)]);
        assert_eq!(peer.take_sent(), ["SUBSCRIBE #1 a:0 b/#:2 c:1"]);
        peer.receive_suback(1, &[ReasonCode::Success, ReasonCode::GrantedQoS1, refusal]);
        let results = vec![Ok(QoS::AtMostOnce), Ok(QoS::AtLeastOnce), Err(refusal)];
        assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Subscribed(results))]);
        let [Event::SubscriptionRefused { ticket: of, filter, reason_code }] = &peer.events[..] else {
            panic!("the refused one is named: {:?}", peer.events)
        };
        assert_eq!((of.get(), filter.as_str(), *reason_code), (ticket, "c", refusal));
    }
}

#[test]
fn unsubscribe_has_a_result_per_filter() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let ticket = peer.client.unsubscribe(peer.now, &[filter("a"), filter("b")], EMPTY).unwrap();
    peer.poll();
    assert_eq!(peer.take_sent(), ["UNSUBSCRIBE #1 a b"]);
    let codes = [ReasonCode::NoSubscriptionExisted, ReasonCode::NotAuthorized];
    peer.receive(&Packet::Unsuback(Unsuback::new(packet_id(1), EMPTY, &codes)));
    let results = vec![Ok(()), Err(ReasonCode::NotAuthorized)];
    assert_eq!(peer.take_outcomes(), [(ticket.get(), Outcome::Unsubscribed(results))]);
}

#[test]
fn unsuback_of_3_1_1_says_that_all_went_well() {
    let mut peer = Peer::connected(Version::V3_1_1, |_| ());
    let ticket = peer.client.unsubscribe(peer.now, &[filter("a"), filter("b")], EMPTY).unwrap();
    peer.poll();
    assert_eq!(peer.receive_bytes(&[0xB0, 0x02, 0x00, 0x01]).consumed, 4);
    assert_eq!(peer.take_outcomes(), [(ticket.get(), Outcome::Unsubscribed(vec![Ok(()), Ok(())]))]);
}

#[test]
fn subscriptions_are_restored_on_a_new_session_before_anything_else() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |config| config.session_expiry = SessionExpiry::Never);
        peer.subscribe(&[("b", QoS::AtLeastOnce), ("a", QoS::AtMostOnce), ("no", QoS::AtMostOnce)]);
        peer.receive_suback(1, &[ReasonCode::GrantedQoS1, ReasonCode::Success, ReasonCode::UnspecifiedError]);
        peer.lose();
        peer.publish(QoS::AtLeastOnce, "t", "x");
        peer.forget();

        peer.connect(false, &[]);

        assert_eq!(
            peer.take_sent(),
            ["CONNECT heron resume 60", "SUBSCRIBE #2 a:0 b:1", "PUBLISH q1 #3 t x"],
            "refused ones are not asked for again"
        );
        peer.receive_suback(2, &[ReasonCode::Success, ReasonCode::GrantedQoS1]);
        assert_eq!(peer.take_outcomes(), [], "nobody asked");
    }
}

#[test]
fn subscriptions_are_left_alone_when_the_session_is_present() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.session_expiry = SessionExpiry::Never);
    peer.subscribe(&[("a", QoS::AtMostOnce)]);
    peer.receive_suback(1, &[ReasonCode::Success]);
    peer.reconnect(true);
    assert_eq!(peer.take_sent(), ["CONNECT heron resume 60"]);
}

#[test]
fn unsubscribed_filter_is_not_restored() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.subscribe(&[("a", QoS::AtMostOnce), ("b", QoS::AtMostOnce)]);
    peer.receive_suback(1, &[ReasonCode::Success, ReasonCode::Success]);
    peer.client.unsubscribe(peer.now, &[filter("a")], EMPTY).unwrap();
    peer.poll();
    peer.receive(&Packet::Unsuback(Unsuback::new(packet_id(2), EMPTY, &[ReasonCode::Success])));
    peer.reconnect(false);
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #3 b:0"]);
}

/// The broker made the new session and never saw the SUBSCRIBE: on the next connection it has a session without it.
#[test]
fn restore_that_was_cut_off_is_sent_again_in_the_resumed_session() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.session_expiry = SessionExpiry::Never);
    peer.subscribe(&[("a", QoS::AtMostOnce)]);
    peer.receive_suback(1, &[ReasonCode::Success]);
    peer.reconnect(false);
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #2 a:0"]);
    peer.reconnect(true);
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #3 a:0"]);
    peer.reconnect(false);
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #4 a:0"], "once, not twice");
    peer.receive_suback(4, &[ReasonCode::Success]);
    peer.reconnect(true);
    assert_eq!(peer.take_sent()[1..], [""; 0]);
}

#[test]
fn restored_subscription_that_is_refused_is_told_and_not_tried_again() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.subscribe(&[("a", QoS::AtMostOnce)]);
    peer.receive_suback(1, &[ReasonCode::Success]);
    peer.reconnect(false);
    peer.receive_suback(2, &[ReasonCode::NotAuthorized]);
    assert!(peer.events.iter().any(|event| matches!(
        event,
        Event::SubscriptionLost { filter, reason_code: ReasonCode::NotAuthorized } if filter.as_str() == "a"
    )));
    peer.reconnect(false);
    assert_eq!(peer.take_sent(), ["CONNECT heron clean 60"]);
}

#[test]
fn restore_keeps_subscription_identifiers_and_packets_of_few_filters() {
    let mut peer = Peer::connected(Version::V5_0, |config| {
        config.filters_per_subscribe = core::num::NonZeroU16::new(2).unwrap();
    });
    let seven = properties(&[Property::SubscriptionIdentifier(SubscriptionId::new(7).unwrap())]);
    let with_id = [(filter("b"), options(QoS::AtMostOnce))];
    peer.client.subscribe(peer.now, &with_id, seven.as_properties()).unwrap();
    peer.subscribe(&[("a", QoS::AtMostOnce), ("c", QoS::AtMostOnce), ("d", QoS::AtMostOnce)]);
    peer.receive_suback(1, &[ReasonCode::Success]);
    peer.receive_suback(2, &[ReasonCode::Success; 3]);
    peer.reconnect(false);
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #3 a:0 c:0", "SUBSCRIBE #4 b:0 id 7", "SUBSCRIBE #5 d:0"]);
}

#[test]
fn request_without_answer_is_sent_again_with_its_ticket() {
    for session_present in [true, false] {
        let mut peer = Peer::connected(Version::V5_0, |config| config.session_expiry = SessionExpiry::Never);
        let first = peer.subscribe(&[("a", QoS::AtMostOnce)]);
        let second = peer.subscribe(&[("b", QoS::AtMostOnce)]);
        peer.reconnect(session_present);
        assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #3 a:0", "SUBSCRIBE #4 b:0"], "in their order, with new ids");
        peer.receive_suback(4, &[ReasonCode::Success]);
        peer.receive_suback(3, &[ReasonCode::Success]);
        let granted = || Outcome::Subscribed(vec![Ok(QoS::AtMostOnce)]);
        assert_eq!(peer.take_outcomes(), [(second, granted()), (first, granted())]);
    }
}

/// [MQTT-3.8.4-6] [MQTT3-3.8.4-5]
#[test]
fn suback_with_another_number_of_codes_is_a_protocol_error() {
    for codes in [&[ReasonCode::Success][..], &[ReasonCode::Success; 3]] {
        let mut peer = Peer::connected(Version::V5_0, |_| ());
        peer.subscribe(&[("a", QoS::AtMostOnce), ("b", QoS::AtMostOnce)]);
        peer.forget();
        peer.receive_suback(1, codes);
        assert_eq!(peer.take_sent(), ["DISCONNECT 0x82"]);
        assert_eq!(peer.take_outcomes(), []);
        peer.reconnect(false);
        assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #2 a:0 b:0"], "the ticket still waits for its outcome");
    }
}

#[test]
fn suback_that_nobody_waits_for_is_a_protocol_error() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    peer.client.unsubscribe(peer.now, &[filter("a")], EMPTY).unwrap();
    peer.poll();
    peer.forget();
    peer.receive_suback(1, &[ReasonCode::Success]);
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x82"]);
}

/// [MQTT-3.8.3-2] [MQTT-3.10.3-2] [MQTT-3.8.3-4]
#[test]
fn request_that_cannot_be_is_refused_before_anything_is_sent() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let shared = [(filter("$share/g/a"), SubscriptionOptions { no_local: true, ..Default::default() })];
    assert_eq!(peer.client.subscribe(peer.now, &[], EMPTY), Err(UsageError::NoFilters));
    assert_eq!(peer.client.unsubscribe(peer.now, &[], EMPTY), Err(UsageError::NoFilters));
    assert_eq!(peer.client.subscribe(peer.now, &shared, EMPTY), Err(UsageError::NoLocalOnSharedSubscription));
    peer.poll();
    assert_eq!(peer.take_sent(), [""; 0]);
}

#[test]
fn requests_are_bounded() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.max_requests = 2);
    peer.subscribe(&[("a", QoS::AtMostOnce)]);
    peer.subscribe(&[("b", QoS::AtMostOnce)]);
    let third = [(filter("c"), options(QoS::AtMostOnce))];
    assert_eq!(peer.client.subscribe(peer.now, &third, EMPTY), Err(UsageError::TooManyRequests));
    peer.receive_suback(1, &[ReasonCode::Success]);
    assert!(peer.client.subscribe(peer.now, &third, EMPTY).is_ok());
}
