//! Requests with a deadline, their responses, and the other side of it.

use core::time::Duration;

use damselfly_client::{
    Acknowledgement, Config, DropReason, Event, InboundMessage, OutboxConfig, Outcome, OverflowPolicy, Refusal,
    SessionExpiry, Ticket, UnansweredReason, UsageError,
};
use damselfly_codec::{AckType, Packet, Property, QoS, ReasonCode, Unsuback, Version};
use damselfly_topic::TopicName;

use crate::peer::{EMPTY, Peer, message, message_with, options, packet_id, properties, publish};

/// A request with a deadline in so many seconds.
fn request(peer: &mut Peer, qos: QoS, payload: &str, seconds: u64) -> u64 {
    let deadline = peer.now.saturating_add(Duration::from_secs(seconds));
    let ticket = peer.client.request(peer.now, message(qos, "lamp/get", payload), deadline).expect("it is taken");
    peer.poll();
    ticket.get()
}

/// The broker delivers a response.
fn respond(peer: &mut Peer, topic: &str, data: &[u8], payload: &str) {
    let says = properties(&[Property::CorrelationData(data)]);
    peer.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, topic, payload, says.as_properties())));
}

/// Connected, and the Response Topic is granted.
fn ready() -> (Peer, u64) {
    ready_with(|_| ())
}

fn ready_with(change: impl FnOnce(&mut Config)) -> (Peer, u64) {
    let mut peer = Peer::connected(Version::V5_0, change);
    let ticket = request(&mut peer, QoS::AtMostOnce, "1", 9);
    peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    peer.sent.clear();
    (peer, ticket)
}

/// Ticket and outcome, a response by its payload.
fn answers(peer: &mut Peer) -> Vec<(u64, String)> {
    let in_words = |(ticket, outcome)| match outcome {
        Outcome::Response(inbound) => (ticket, String::from_utf8_lossy(inbound.message.payload()).into_owned()),
        other => (ticket, other.to_string()),
    };
    peer.take_outcomes().into_iter().map(in_words).collect()
}

/// [MQTT-4.10]
#[test]
fn request_is_published_once_its_response_topic_is_subscribed_and_its_response_is_the_outcome() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let one = request(&mut peer, QoS::AtLeastOnce, "1", 9);
    let two = request(&mut peer, QoS::AtMostOnce, "2", 9);
    assert_eq!(peer.take_sent(), ["SUBSCRIBE #1 response/heron:1"], "no response can be missed");
    peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    assert_eq!(
        peer.take_sent(),
        ["PUBLISH q1 #2 lamp/get 1 answer to response/heron", "PUBLISH q0 lamp/get 2 answer to response/heron",]
    );
    peer.receive_ack(AckType::Puback, 2);
    assert_eq!(peer.take_outcomes(), [], "that it arrived is no answer");

    let data = peer.correlation_data.clone();
    assert_ne!(data[0], data[1]);
    respond(&mut peer, "response/heron", &data[1], "second");
    respond(&mut peer, "response/heron", &data[0], "first");
    assert_eq!(answers(&mut peer), [(two, "second".to_owned()), (one, "first".to_owned())]);
    assert_eq!(peer.take_messages(), [""; 0]);

    request(&mut peer, QoS::AtMostOnce, "3", 9);
    assert_eq!(peer.take_sent(), ["PUBLISH q0 lamp/get 3 answer to response/heron"], "one subscription serves all");
}

#[test]
fn request_without_a_response_ends_at_its_deadline_and_a_late_response_is_a_message() {
    let (mut peer, ticket) = ready();
    assert_eq!(peer.client.poll_timeout(), Some(peer.now.saturating_add(Duration::from_secs(9))));
    peer.pass(8);
    assert_eq!(peer.take_outcomes(), []);
    peer.pass(1);
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Unanswered(UnansweredReason::Deadline))]);

    let data = peer.correlation_data.clone();
    respond(&mut peer, "response/heron", &data[0], "late");
    assert_eq!(peer.take_messages(), ["response/heron late"]);
    assert_eq!(peer.take_outcomes(), []);
}

#[test]
fn response_to_nobody_is_a_message_and_a_second_one_too() {
    let (mut peer, ticket) = ready();
    let data = peer.correlation_data[0].clone();
    let mut guessed = data.clone();
    guessed[15] ^= 1;
    respond(&mut peer, "response/heron", &guessed, "guessed");
    respond(&mut peer, "response/heron", &data[..8], "short");
    respond(&mut peer, "lamp/get", &data, "elsewhere");
    assert_eq!(peer.take_messages(), ["response/heron guessed", "response/heron short", "lamp/get elsewhere"]);
    assert_eq!(peer.take_outcomes(), []);

    respond(&mut peer, "response/heron", &data, "right");
    respond(&mut peer, "response/heron", &data, "again");
    assert_eq!(answers(&mut peer), [(ticket, "right".to_owned())]);
    assert_eq!(peer.take_messages(), ["response/heron again"]);
}

#[test]
fn response_information_of_the_broker_names_the_response_topic() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::ResponseInformation("tree/7/")], |config| {
        config.response_topic = Some(TopicName::new("mine").unwrap().to_buf());
    });
    request(&mut peer, QoS::AtMostOnce, "1", 9);
    assert_eq!(peer.take_sent(), ["SUBSCRIBE #1 tree/7/response:1"]);

    // What is no Topic Name is not used.
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::ResponseInformation("tree/#")], |config| {
        config.response_topic = Some(TopicName::new("mine").unwrap().to_buf());
    });
    request(&mut peer, QoS::AtMostOnce, "1", 9);
    assert_eq!(peer.take_sent(), ["SUBSCRIBE #1 mine:1"]);
}

#[test]
fn request_made_offline_asks_for_its_response_topic_once_connected() {
    let mut peer = Peer::new(Version::V5_0, |config| config.client_id = "".into());
    let ticket = request(&mut peer, QoS::AtMostOnce, "1", 9);
    peer.connect(false, &[Property::AssignedClientIdentifier("made-up")]);
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #1 response/made-up:1"]);
    peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    let data = peer.correlation_data[0].clone();
    respond(&mut peer, "response/made-up", &data, "yes");
    assert_eq!(answers(&mut peer), [(ticket, "yes".to_owned())]);

    let mut peer = Peer::new(Version::V5_0, |_| ());
    let ticket = request(&mut peer, QoS::AtMostOnce, "1", 9);
    peer.pass(9);
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Unanswered(UnansweredReason::Deadline))]);
    peer.connect(false, &[]);
    assert_eq!(peer.take_sent().len(), 1, "nobody waits for it");
}

#[test]
fn refused_response_topic_fails_the_requests_and_the_next_one_asks_again() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let ticket = request(&mut peer, QoS::AtMostOnce, "1", 9);
    peer.receive_suback(1, &[ReasonCode::NotAuthorized]);
    let refusal = Refusal::ByServer { reason_code: ReasonCode::NotAuthorized, reason_string: None };
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Refused(refusal))]);
    request(&mut peer, QoS::AtMostOnce, "2", 9);
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #2 response/heron:1"]);
}

#[test]
fn request_that_reaches_nobody_ends_at_once() {
    let (mut peer, _) = ready();
    let ticket = request(&mut peer, QoS::AtLeastOnce, "2", 9);
    peer.receive_refusal(AckType::Puback, 2, ReasonCode::NoMatchingSubscribers);
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Unanswered(UnansweredReason::NoSubscribers))]);
    let ticket = request(&mut peer, QoS::AtLeastOnce, "3", 9);
    peer.receive_refusal(AckType::Puback, 3, ReasonCode::NotAuthorized);
    let refusal = Refusal::ByServer { reason_code: ReasonCode::NotAuthorized, reason_string: None };
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Refused(refusal))]);
}

#[test]
fn request_that_waits_in_the_queue_expires_there() {
    let (mut peer, first) = ready();
    peer.is_flushing = false;
    peer.lose();
    peer.take_outcomes();
    let ticket = request(&mut peer, QoS::AtLeastOnce, "2", 5);
    peer.pass(5);
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Expired)]);
    peer.pass(4);
    assert_eq!(peer.take_outcomes(), [(first, Outcome::Unanswered(UnansweredReason::Deadline))]);
}

/// Its outcome comes while it is being taken, and is no other than that.
#[test]
fn request_that_is_dropped_or_expires_as_it_is_taken_says_so_at_once() {
    let (mut peer, _) = ready_with(|config| {
        config.queue.max_messages = 0;
        config.queue.overflow = OverflowPolicy::DropNewest;
    });
    peer.lose();
    peer.take_outcomes();
    let dropped = request(&mut peer, QoS::AtLeastOnce, "2", 5);
    assert_eq!(peer.take_outcomes(), [(dropped, Outcome::Dropped(DropReason::Newest))]);

    let (mut peer, _) = ready_with(|config| {
        config.session_expiry = SessionExpiry::Never;
        config.outbox = Some(OutboxConfig::default());
    });
    let expired = message(QoS::AtLeastOnce, "lamp/get", "2").with_expiry(Some(peer.now));
    let ticket = peer.client.request(peer.now, expired, peer.now.saturating_add(Duration::from_secs(5))).unwrap();
    peer.poll();
    assert_eq!(peer.take_outcomes(), [(ticket.get(), Outcome::Expired)]);
    peer.pass(5);
    assert_eq!(peer.take_outcomes(), []);
}

#[test]
fn request_waits_on_over_a_lost_connection_and_the_subscription_is_restored() {
    let (mut peer, ticket) = ready();
    peer.reconnect(false);
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #2 response/heron:1"]);
    let data = peer.correlation_data[0].clone();
    respond(&mut peer, "response/heron", &data, "yes");
    assert_eq!(answers(&mut peer), [(ticket, "yes".to_owned())]);
}

#[test]
fn requests_are_bounded_and_close_settles_them() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.max_awaited_responses = 3);
    for payload in ["1", "2", "3"] {
        request(&mut peer, QoS::AtMostOnce, payload, 9);
    }
    let deadline = peer.now.saturating_add(Duration::from_secs(9));
    let refused = peer.client.request(peer.now, message(QoS::AtMostOnce, "a", "4"), deadline).unwrap_err();
    assert_eq!((refused.why, refused.message.payload()), (UsageError::TooManyRequests, &b"4"[..]));

    peer.client.close(peer.now, peer.now);
    peer.poll();
    let outcomes = answers(&mut peer);
    assert_eq!(outcomes.len(), 3, "one for each request and none for what served them");
    assert!(outcomes.iter().all(|(_, outcome)| outcome == "dropped: the client was closed"), "{outcomes:?}");
}

#[test]
fn request_that_cannot_be_is_refused() {
    let mut peer = Peer::connected(Version::V3_1_1, |_| ());
    let deadline = peer.now.saturating_add(Duration::from_secs(9));
    let refused = peer.client.request(peer.now, message(QoS::AtMostOnce, "a", ""), deadline).unwrap_err();
    assert_eq!(refused.why, UsageError::NeedsVersion5);
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    for property in
        [Property::CorrelationData(b"x"), Property::ResponseTopic(TopicName::new("mine").expect("it is a name"))]
    {
        let own = message_with(QoS::AtMostOnce, "a", "", &[property], peer.now);
        assert_eq!(peer.client.request(peer.now, own, deadline).unwrap_err().why, UsageError::HasResponseTopic);
    }
    peer.poll();
    assert!(peer.sent.is_empty());
}

#[test]
fn request_ends_with_its_process_and_its_response_is_then_a_message() {
    let durable = |config: &mut Config| {
        config.session_expiry = SessionExpiry::Never;
        config.outbox = Some(OutboxConfig::default());
    };
    let mut peer = Peer::connected(Version::V5_0, durable);
    request(&mut peer, QoS::AtLeastOnce, "1", 9);
    peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    assert!(!peer.events.iter().any(|event| matches!(event, Event::Stored { .. })));
    assert_eq!(peer.client.stored_tickets().count(), 0, "the application knows one ticket, and it is not stored");
    let data = peer.correlation_data[0].clone();

    let mut peer = peer.restart();
    assert_eq!(peer.client.stored_tickets().count(), 1, "its PUBLISH is a message like any other");
    peer.connect(true, &[]);
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #2 dup lamp/get 1 answer to response/heron"]);
    respond(&mut peer, "response/heron", &data, "late");
    assert_eq!(peer.take_messages(), ["response/heron late"]);
}

/// Else each process whose broker names another one would leave a subscription behind.
#[test]
fn response_topic_of_an_earlier_process_is_unsubscribed_unless_it_is_still_the_one() {
    let durable = |config: &mut Config| {
        config.session_expiry = SessionExpiry::Never;
        config.outbox = Some(OutboxConfig::default());
    };
    let information = |text| [Property::ResponseInformation(text)];
    let mut peer = Peer::connected_to(Version::V5_0, &information("tree/1"), durable);
    request(&mut peer, QoS::AtMostOnce, "1", 9);
    peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    // In one process the topic stays, whatever the broker says later.
    peer.lose();
    peer.forget();
    peer.connect(true, &information("tree/2"));
    assert_eq!(peer.take_sent().len(), 1);

    // The same again: it is kept.
    let mut peer = peer.restart();
    peer.connect(true, &information("tree/1"));
    assert_eq!(peer.take_sent().len(), 1);

    // Another one: the old one ends, also if the first connection does before the answer, and for good.
    let mut peer = peer.restart();
    for id in [1, 2] {
        peer.connect(true, &information("tree/2"));
        assert_eq!(peer.take_sent()[1..], [format!("UNSUBSCRIBE #{id} tree/1/response")]);
        peer.lose();
    }
    let image = peer.client.snapshot();
    let mut peer = peer.restart_with(image).unwrap();
    peer.connect(true, &information("tree/2"));
    assert_eq!(peer.take_sent()[1..], ["UNSUBSCRIBE #1 tree/1/response"], "a snapshot knows it too");
    peer.receive(&Packet::Unsuback(Unsuback::new(packet_id(1), EMPTY, &[ReasonCode::Success])));
    let mut peer = peer.restart();
    peer.connect(true, &information("tree/2"));
    assert_eq!(peer.take_sent().len(), 1);

    // A session without it is not given it again; the own one is.
    request(&mut peer, QoS::AtMostOnce, "1", 9);
    peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    peer.lose();
    peer.forget();
    peer.connect(false, &information("tree/3"));
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #2 tree/2/response:1"]);
    let mut peer = peer.restart();
    peer.connect(false, &information("tree/3"));
    assert_eq!(peer.take_sent().len(), 1);
}

#[test]
fn response_is_acknowledged_by_the_application_if_it_acknowledges() {
    let mut peer = Peer::connected(Version::V5_0, |config| config.acknowledgement = Acknowledgement::Manual);
    request(&mut peer, QoS::AtMostOnce, "1", 9);
    peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    peer.forget();
    let data = peer.correlation_data[0].clone();
    let says = properties(&[Property::CorrelationData(&data)]);
    peer.receive(&Packet::Publish(publish(QoS::AtLeastOnce, 7, false, "response/heron", "x", says.as_properties())));
    assert!(peer.sent.is_empty());
    let Some((_, Outcome::Response(inbound))) = peer.take_outcomes().pop() else { panic!("it is the response") };
    peer.client.acknowledge(peer.now, inbound.ack.unwrap(), ReasonCode::Success).unwrap();
    peer.poll();
    assert_eq!(peer.take_sent(), ["PUBACK #7"]);
}

/// [MQTT-4.10]
#[test]
fn reply_goes_to_the_response_topic_with_the_correlation_data_and_qos_of_the_request() {
    let mut peer = Peer::connected(Version::V5_0, |_| ());
    let asks = properties(&[
        Property::ResponseTopic(TopicName::new("to/them").unwrap()),
        Property::CorrelationData(b"\x00\xFFdata"),
        Property::ContentType("question"),
    ]);
    peer.receive(&Packet::Publish(publish(QoS::AtLeastOnce, 7, false, "a", "?", asks.as_properties())));
    peer.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, "a", "!", EMPTY)));
    let inbound: Vec<InboundMessage> = core::mem::take(&mut peer.events)
        .into_iter()
        .filter_map(|event| if let Event::Message(inbound) = event { Some(inbound) } else { None })
        .collect();
    peer.sent.clear();

    let says = properties(&[Property::ContentType("answer")]);
    let reply = inbound[0].reply(peer.now, b"42", says.as_properties()).unwrap();
    assert_eq!(reply.properties().content_type(), Some("answer"));
    peer.client.publish(peer.now, reply).unwrap();
    peer.poll();
    assert_eq!(peer.take_sent(), ["PUBLISH q1 #1 to/them 42"]);
    assert_eq!(peer.correlation_data, [b"\x00\xFFdata"]);

    let taken = properties(&[Property::CorrelationData(b"mine")]);
    assert_eq!(inbound[0].reply(peer.now, b"", taken.as_properties()).err(), Some(UsageError::NotEncodable));
    assert_eq!(inbound[1].reply(peer.now, b"", EMPTY).err(), Some(UsageError::NoResponseTopic));
}

#[test]
fn unsubscribed_response_topic_is_asked_for_again() {
    let (mut peer, _) = ready();
    let topic = damselfly_topic::TopicFilter::new("response/heron").unwrap();
    peer.client.unsubscribe(peer.now, &[topic], EMPTY).unwrap();
    peer.poll();
    peer.forget();
    request(&mut peer, QoS::AtMostOnce, "2", 9);
    assert_eq!(peer.take_sent(), ["SUBSCRIBE #3 response/heron:1"]);
}

#[test]
fn tickets_of_requests_and_of_all_else_are_one_row() {
    let (mut peer, first) = ready();
    let mut tickets = vec![first];
    tickets.push(request(&mut peer, QoS::AtMostOnce, "2", 9));
    tickets.push(peer.publish(QoS::AtMostOnce, "a", ""));
    let other = damselfly_topic::TopicFilter::new("b").unwrap();
    let ticket = peer.client.subscribe(peer.now, &[(other, options(QoS::AtMostOnce))], EMPTY).map(Ticket::get);
    tickets.push(ticket.unwrap());
    assert!(tickets.windows(2).all(|pair| pair[0] < pair[1]), "{tickets:?}");
}

#[test]
fn request_too_large_for_the_broker_is_given_back_and_its_ticket_is_free() {
    let size = |size: u32| [Property::MaximumPacketSize(size.try_into().unwrap())];
    let mut peer = Peer::connected_to(Version::V5_0, &size(60), |_| ());
    request(&mut peer, QoS::AtMostOnce, "", 9);
    peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    peer.forget();
    let deadline = peer.now.saturating_add(Duration::from_secs(9));
    let large = message(QoS::AtMostOnce, "lamp/get", "0123456789ab");
    let refused = peer.client.request(peer.now, large, deadline).unwrap_err();
    assert!(matches!(refused.why, UsageError::PacketTooLarge { maximum: 60, .. }), "{:?}", refused.why);
    let ticket = peer.publish(QoS::AtMostOnce, "a", "");
    assert_eq!(peer.take_outcomes(), [(ticket, Outcome::Transmitted)]);

    // Not even its subscription fits.
    let mut peer = Peer::connected_to(Version::V5_0, &size(20), |_| ());
    let ticket = request(&mut peer, QoS::AtMostOnce, "", 9);
    let outcome = peer.take_outcomes().pop();
    assert!(
        matches!(&outcome, Some((of, Outcome::Refused(Refusal::ByLimit(UsageError::PacketTooLarge { .. })))) if *of == ticket),
        "{outcome:?}"
    );
    peer.reconnect(false);
    request(&mut peer, QoS::AtMostOnce, "", 9);
    assert_eq!(peer.take_sent()[1..], ["SUBSCRIBE #2 response/heron:1"]);
}

#[test]
fn request_keeps_its_message_expiry() {
    let (mut peer, _) = ready();
    let message = message_with(QoS::AtMostOnce, "lamp/get", "2", &[Property::MessageExpiryInterval(60)], peer.now);
    let deadline = peer.now.saturating_add(Duration::from_secs(9));
    peer.client.request(peer.now, message, deadline).unwrap();
    peer.poll();
    assert_eq!(peer.take_sent(), ["PUBLISH q0 lamp/get 2 expiry 60 answer to response/heron"]);
}

#[test]
fn request_that_waits_for_its_response_topic_is_still_made_while_closing() {
    for is_asked in [false, true] {
        let mut peer = Peer::connected(Version::V5_0, |_| ());
        if !is_asked {
            peer.lose();
            peer.forget();
        }
        let ticket = request(&mut peer, QoS::AtMostOnce, "1", 30);
        peer.client.close(peer.now, peer.now.saturating_add(Duration::from_secs(20)));
        peer.poll();
        if !is_asked {
            peer.connect(false, &[]);
        }
        peer.receive_suback(1, &[ReasonCode::GrantedQoS1]);
        assert_eq!(peer.take_outcomes(), []);
        let data = peer.correlation_data[0].clone();
        respond(&mut peer, "response/heron", &data, "yes");
        assert_eq!(answers(&mut peer), [(ticket, "yes".to_owned())]);
        assert!(peer.events.iter().any(|event| matches!(event, Event::Closed)));
    }
}

#[test]
fn close_waits_for_responses() {
    let (mut peer, ticket) = ready();
    peer.client.close(peer.now, peer.now.saturating_add(Duration::from_secs(20)));
    peer.poll();
    assert!(peer.sent.is_empty());
    let data = peer.correlation_data[0].clone();
    respond(&mut peer, "response/heron", &data, "yes");
    assert_eq!(answers(&mut peer), [(ticket, "yes".to_owned())]);
    assert_eq!(peer.take_sent(), ["DISCONNECT 0x00"]);
}
