//! What a client of MQTT is most often blamed for, one test for each complaint, in the order of the table in
//! `docs/guide/client.md`. What concerns the driver is in `examples/tests/it/promises.rs`.

use core::time::Duration;
use std::collections::BTreeMap;

use damselfly_client::{
    Acknowledgement, ConnectParameters, ConnectionEnd, Event, IndeterminateReason, Outcome, OverflowPolicy, Refusal,
    SessionExpiry, Ticket, UsageError,
};
use damselfly_codec::{
    AckType, Auth, Connack, Packet, Property, QoS, ReasonCode, RetainHandling, SubscriptionOptions, Version,
};
use damselfly_session::Timestamp;

use crate::{
    outbox::durable,
    peer::{EMPTY, Peer, filter, message, message_with, options, properties, publish},
};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5_0];

fn refused(reason_code: ReasonCode) -> Outcome {
    Outcome::Refused(Refusal::ByServer { reason_code, reason_string: None })
}

fn acknowledged(reason_code: ReasonCode) -> Outcome {
    Outcome::Acknowledged { reason_code }
}

/// "Did *this* publish arrive, with which reason?"
#[test]
fn each_ticket_has_exactly_one_outcome_which_says_what_became_of_it() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::ReceiveMaximum(5.try_into().unwrap())], |config| {
        config.session_expiry = SessionExpiry::Never;
        config.queue.max_messages = 2;
        config.queue.overflow = OverflowPolicy::DropNewest;
    });
    let mut expected = BTreeMap::new();
    expected.insert(peer.publish(QoS::AtMostOnce, "a", "0"), Outcome::Transmitted);
    expected.insert(peer.publish(QoS::AtLeastOnce, "a", "1"), acknowledged(ReasonCode::Success));
    expected.insert(peer.publish(QoS::ExactlyOnce, "a", "2"), acknowledged(ReasonCode::NoMatchingSubscribers));
    expected.insert(peer.publish(QoS::AtLeastOnce, "a", "3"), refused(ReasonCode::QuotaExceeded));
    let lost = Outcome::Indeterminate(IndeterminateReason::SessionLost);
    expected.insert(peer.publish(QoS::AtLeastOnce, "a", "4"), lost.clone());
    expected.insert(peer.publish(QoS::ExactlyOnce, "a", "5"), lost);
    // The window is full from here on, and the queue after two more.
    let expiring = message_with(QoS::AtLeastOnce, "a", "6", &[Property::MessageExpiryInterval(1)], peer.now);
    expected.insert(peer.client.publish(peer.now, expiring).unwrap().get(), Outcome::Expired);
    expected.insert(peer.publish(QoS::AtLeastOnce, "a", "7"), acknowledged(ReasonCode::Success));
    let dropped = Outcome::Dropped(damselfly_client::DropReason::Newest);
    expected.insert(peer.publish(QoS::AtLeastOnce, "a", "8"), dropped);

    peer.pass(1);
    peer.lose();
    peer.connect(true, &[Property::ReceiveMaximum(5.try_into().unwrap())]);
    // Said twice, and once for an identifier of nobody: that changes no outcome.
    for _ in 0..2 {
        peer.receive_ack(AckType::Puback, 1);
    }
    peer.receive_refusal(AckType::Pubrec, 2, ReasonCode::NoMatchingSubscribers);
    peer.receive_ack(AckType::Pubcomp, 2);
    peer.receive_refusal(AckType::Puback, 3, ReasonCode::QuotaExceeded);
    peer.receive_ack(AckType::Puback, 6);
    peer.receive_ack(AckType::Puback, 999);
    peer.lose();
    peer.connect(false, &[]);
    let outcomes = peer.take_outcomes();
    assert_eq!(outcomes.len(), expected.len(), "{outcomes:?}");
    assert_eq!(outcomes.into_iter().collect::<BTreeMap<_, _>>(), expected);
}

/// "Messages lost or out of order after reconnect", and a burst above the window with them. [MQTT-4.6.0-1] [MQTT-3.3.4-7]
#[test]
fn after_a_reconnect_comes_first_the_replay_then_the_queue_then_what_is_new_within_the_window() {
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
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #1 dup a sent 1", "PUBLISH q1 #2 dup a sent 2"], "a window of two");
    for id in 1..=5 {
        peer.receive_ack(AckType::Puback, id);
    }
    assert_eq!(
        peer.take_sent(),
        [
            "PUBLISH q1 #3 dup a sent 3",
            "PUBLISH q1 #4 a queued 4",
            "PUBLISH q1 #5 a queued 5",
            "PUBLISH q0 a queued 6",
            "PUBLISH q0 a new 7",
        ]
    );
}

/// "My subscriptions are gone."
#[test]
fn subscriptions_come_back_with_a_new_session_before_anything_else_is_sent() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |config| config.session_expiry = SessionExpiry::Never);
        peer.subscribe(&[("b", QoS::AtLeastOnce), ("no", QoS::AtMostOnce), ("a", QoS::ExactlyOnce)]);
        peer.receive_suback(1, &[ReasonCode::GrantedQoS1, ReasonCode::UnspecifiedError, ReasonCode::GrantedQoS2]);
        peer.publish(QoS::ExactlyOnce, "t", "under way");
        peer.lose();
        peer.publish(QoS::AtLeastOnce, "t", "new");
        peer.forget();
        peer.connect(true, &[]);
        assert!(!peer.take_sent().iter().any(|sent| sent.starts_with("SUBSCRIBE")), "the broker has them still");

        peer.reconnect(false);
        assert_eq!(peer.take_sent()[1], "SUBSCRIBE #4 a:2 b:1", "what was granted, {version:?}");
        peer.receive_publish(QoS::AtMostOnce, 0, "a", "x");
        peer.receive_publish(QoS::AtMostOnce, 0, "nobody/asked", "y");
        assert_eq!(peer.take_messages(), ["a x", "nobody/asked y"], "nothing that arrives is thrown away");
    }
}

/// "Collision" wedges, identifiers that are used twice. [MQTT-2.2.1-3]
#[test]
fn one_set_of_identifiers_serves_all_and_a_full_window_is_back_pressure() {
    let two = [Property::ReceiveMaximum(2.try_into().unwrap())];
    for (overflow, taken) in
        [(OverflowPolicy::Reject, "3"), (OverflowPolicy::DropOldest, "4"), (OverflowPolicy::DropNewest, "3")]
    {
        let mut peer = Peer::connected_to(Version::V5_0, &two, |config| {
            config.queue.max_messages = 1;
            config.queue.overflow = overflow;
        });
        peer.publish(QoS::ExactlyOnce, "a", "1");
        peer.subscribe(&[("b", QoS::AtMostOnce)]);
        peer.client.unsubscribe(peer.now, &[filter("c")], EMPTY).unwrap();
        peer.publish(QoS::AtLeastOnce, "a", "2");
        let all = ["PUBLISH q2 #1 a 1", "SUBSCRIBE #2 b:0", "UNSUBSCRIBE #3 c", "PUBLISH q1 #4 a 2"];
        assert_eq!(peer.take_sent(), all);

        peer.publish(QoS::AtLeastOnce, "a", "3");
        let last = peer.client.publish(peer.now, message(QoS::AtLeastOnce, "a", "4"));
        match (overflow, last) {
            (OverflowPolicy::Reject, Err(refused)) => {
                assert_eq!((refused.why, refused.message.payload()), (UsageError::QueueFull, &b"4"[..]));
            }
            (_, last) => drop(last.unwrap()),
        }
        // The identifiers that are free go round; those of exchanges that are not over stay what they are.
        peer.receive_ack(AckType::Puback, 4);
        assert_eq!(peer.take_sent(), [format!("PUBLISH q1 #5 a {taken}")]);
        let has_room = peer.events.iter().any(|event| matches!(event, Event::QueueHasRoom));
        assert_eq!(has_room, overflow == OverflowPolicy::Reject, "who was refused hears when to try again");
    }
}

/// "A slow consumer eats the memory", or trips keep alive.
#[test]
fn slow_consumer_pauses_the_input_and_keep_alive_goes_on() {
    let mut client = Peer::connected(Version::V5_0, |config| {
        config.max_waiting_messages = 3;
        config.keep_alive = 10;
        config.ping_timeout = Duration::from_secs(4);
    });
    let one = *b"\x30\x05\x00\x01a\x00x";
    let bytes = one.repeat(10);
    let intake = client.client.handle_input(client.now, &bytes);
    assert_eq!((intake.consumed, intake.paused), (3 * one.len(), true), "three wait, and the rest stays where it is");
    for _ in 0..5 {
        client.now = client.now.saturating_add(Duration::from_secs(10));
        client.client.handle_timeout(client.now);
        client.flush();
    }
    assert!(client.client.is_connected(), "the answer may be among what we do not read");
    assert_eq!(client.take_sent(), ["PINGREQ"; 5], "still sent");
    client.poll();
    assert_eq!((client.take_messages().len(), client.resumes), (3, 1));
    // We read again and hear nothing: now it counts.
    client.pass(0);
    client.pass(4);
    assert!(client.is_closed);
}

/// "Ack only after I processed it." [MQTT-4.6.0-2] [MQTT-4.6.0-3]
#[test]
fn acknowledgement_leaves_after_the_work_and_in_the_order_of_arrival() {
    for version in BOTH {
        let mut peer = Peer::connected(version, |config| config.acknowledgement = Acknowledgement::Manual);
        for id in [1, 2] {
            peer.receive_publish(QoS::AtLeastOnce, id, "a", "x");
            peer.receive_publish(QoS::ExactlyOnce, id + 10, "a", "x");
        }
        let token = |event: &Event| if let Event::Message(inbound) = event { inbound.ack } else { None };
        let tokens: Vec<_> = peer.events.iter().filter_map(token).collect();
        assert_eq!(tokens.len(), 4);
        for (token, sent) in [
            (tokens[3], &[][..]),
            (tokens[2], &[]),
            (tokens[0], &["PUBACK #1", "PUBACK #2"]),
            (tokens[1], &["PUBREC #11", "PUBREC #12"]),
        ] {
            peer.client.acknowledge(peer.now, token, ReasonCode::Success).unwrap();
            peer.poll();
            assert_eq!(peer.take_sent(), sent, "{version:?}");
        }
        // By default nobody has to.
        let mut peer = Peer::connected(version, |_| ());
        peer.receive_publish(QoS::AtLeastOnce, 1, "a", "x");
        peer.receive_publish(QoS::ExactlyOnce, 2, "a", "x");
        assert_eq!(peer.take_sent(), ["PUBACK #1", "PUBREC #2"]);
    }
}

/// "10 KiB packets surprise everybody", and an oversized message is a reconnect loop. [MQTT-3.2.2-15]
#[test]
fn large_message_needs_no_setting_and_one_that_is_too_large_fails_its_own_ticket() {
    let payload = "x".repeat(1_024 * 1_024);
    for version in BOTH {
        let mut peer = Peer::connected(version, |_| ());
        peer.publish(QoS::AtLeastOnce, "a", &payload);
        assert_eq!(peer.take_sent(), [format!("PUBLISH q1 #1 a {payload}")]);
        peer.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, "b", &payload, EMPTY)));
        assert_eq!(peer.take_messages(), [format!("b {payload}")]);
    }
    let mut peer = Peer::new(Version::V5_0, |_| ());
    let too_large = peer.publish(QoS::AtLeastOnce, "a", &payload);
    let small = peer.publish(QoS::AtLeastOnce, "a", "small");
    peer.connect(false, &[Property::MaximumPacketSize(100.try_into().unwrap())]);
    let outcome = Outcome::Refused(Refusal::ByLimit(UsageError::PacketTooLarge { size: 1_048_586, maximum: 100 }));
    assert_eq!(peer.take_outcomes(), [(too_large, outcome)]);
    assert_eq!(peer.take_sent()[1..], ["PUBLISH q1 #2 a small"]);
    peer.receive_ack(AckType::Puback, 2);
    assert_eq!(peer.take_outcomes(), [(small, acknowledged(ReasonCode::Success))]);
    assert!(peer.client.is_connected());
}

/// "New credentials on each attempt", and where the broker sends us. [MQTT-4.13]
#[test]
fn each_attempt_asks_for_its_parameters_and_knows_where_the_broker_sent_us() {
    let mut peer = Peer::new(Version::V5_0, |_| ());
    for password in ["monday", "tuesday", "wednesday"] {
        assert_eq!(peer.needs.len(), 1, "it is asked for");
        let sent_to = (password != "monday").then_some("b.example");
        assert_eq!(peer.needs[0].server_reference.as_deref(), sent_to);
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
        let elsewhere = properties(&[Property::ServerReference("b.example")]);
        peer.receive(&Packet::Connack(Connack {
            session_present: false,
            reason_code: ReasonCode::UseAnotherServer,
            properties: elsewhere.as_properties(),
        }));
        peer.lose();
    }
}

/// "Reconnect storms."
#[test]
fn reconnects_are_spread_over_waits_that_double_and_the_core_says_when() {
    let waits = |first: Duration| {
        let mut peer = Peer::new(Version::V5_0, |config| config.backoff.first = first);
        let mut waits = Vec::new();
        for _ in 0..12 {
            peer.needs.clear();
            peer.lose();
            waits.push(peer.needs[0].not_before.saturating_since(peer.now));
        }
        waits
    };
    let waited = waits(Duration::from_secs(1));
    for (attempt, wait) in waited.iter().enumerate() {
        let ceiling = Duration::from_secs(60).min(Duration::from_secs(1 << attempt));
        assert!(*wait <= ceiling, "{wait:?} at attempt {attempt}");
    }
    assert!(waited.iter().any(|wait| *wait > Duration::from_secs(8)), "they grow: {waited:?}");
    let low = waited.iter().enumerate().filter(|(attempt, wait)| **wait < Duration::from_secs(1 << attempt) / 2);
    assert!(low.count() > 2, "full jitter: {waited:?}");
    assert_eq!(waited, waits(Duration::from_secs(1)), "the seed decides");
}

/// "Keep alive too early, too late." [MQTT-3.1.2-20] [MQTT-3.2.2-21]
#[test]
fn keep_alive_counts_from_flushed_bytes_and_any_byte_is_life() {
    let mut peer = Peer::connected_to(Version::V5_0, &[Property::ServerKeepAlive(10)], |config| {
        config.keep_alive = 100;
        config.ping_timeout = Duration::from_secs(4);
    });
    peer.pass(9);
    peer.is_flushing = false;
    peer.publish(QoS::AtMostOnce, "a", "x");
    peer.pass(1);
    peer.flush();
    assert_eq!(peer.take_sent(), ["PUBLISH q0 a x", "PINGREQ"], "published is not flushed; the server's word counts");
    peer.is_flushing = true;
    peer.pass(3);
    assert_eq!(peer.receive_bytes(&[0x30]).consumed, 0, "one byte of a packet");
    peer.pass(3);
    assert!(peer.client.is_connected());
    assert_eq!(peer.take_sent(), [""; 0]);
    peer.pass(1);
    peer.pass(4);
    assert!(peer.is_closed, "silence is an end");
    peer.lose();
    assert!(matches!(peer.events.last(), Some(Event::Disconnected(ConnectionEnd::PingTimeout))));
}

/// "Stale messages after a long outage." [MQTT-3.3.2-6]
#[test]
fn stale_message_is_not_sent_and_what_is_sent_says_how_long_it_is_good() {
    for version in BOTH {
        let mut peer = Peer::new(version, |config| config.queue.max_wait = Some(core::time::Duration::from_secs(30)));
        let mut publish = |seconds: u32, payload: &str| {
            let says = [Property::MessageExpiryInterval(seconds)];
            let message = message_with(QoS::AtLeastOnce, "a", payload, &says, peer.now);
            peer.client.publish(peer.now, message).unwrap().get()
        };
        let expired = [publish(10, "short"), publish(1_000, "long")];
        peer.pass(25);
        let kept = message_with(QoS::AtLeastOnce, "a", "kept", &[Property::MessageExpiryInterval(100)], peer.now);
        peer.client.publish(peer.now, kept).unwrap();
        peer.pass(6);
        assert_eq!(peer.take_outcomes(), expired.map(|ticket| (ticket, Outcome::Expired)), "its own, or the queue's");
        peer.connect(false, &[]);
        let left = if version == Version::V5_0 { " expiry 94" } else { "" };
        assert_eq!(peer.take_sent()[1..], [format!("PUBLISH q1 #1 a kept{left}")]);
    }
}

/// "State after a crash."
#[test]
fn ticket_survives_the_process_and_has_its_outcome_in_the_next_one() {
    for version in BOTH {
        let mut peer = Peer::connected(version, durable);
        let [one, two] = ["1", "2"].map(|payload| peer.publish(QoS::ExactlyOnce, "a", payload));
        peer.receive_ack(AckType::Pubrec, 1);
        let mut peer = peer.restart();
        assert_eq!(peer.client.stored_tickets().map(Ticket::get).collect::<Vec<_>>(), [one, two]);
        peer.connect(true, &[]);
        assert_eq!(peer.take_sent()[1..], ["PUBREL #1", "PUBLISH q2 #2 dup a 2"]);
        peer.receive_ack(AckType::Pubcomp, 1);
        assert_eq!(peer.take_outcomes(), [(one, acknowledged(ReasonCode::Success))]);
        let peer = peer.restart();
        assert_eq!(peer.client.stored_tickets().map(Ticket::get).collect::<Vec<_>>(), [two], "once");
    }
}

/// Enhanced authentication is an afterthought. [MQTT-4.12]
#[test]
fn authentication_asks_the_application_for_each_step_also_again_on_an_open_connection() {
    let method = properties(&[Property::AuthenticationMethod("SCRAM")]);
    let step = |reason_code, data: &[u8], peer: &mut Peer| {
        let says = properties(&[Property::AuthenticationMethod("SCRAM"), Property::AuthenticationData(data)]);
        peer.receive(&Packet::Auth(Auth { reason_code, properties: says.as_properties() }));
    };
    let answer = |data: &[u8], peer: &mut Peer| {
        let says = properties(&[Property::AuthenticationData(data)]);
        peer.client.authenticate(says.as_properties()).unwrap();
        peer.poll();
    };
    let mut peer = Peer::new(Version::V5_0, |_| ());
    let mut parameters = ConnectParameters::default();
    parameters.properties = method.clone();
    peer.transport_up_with(&parameters);
    for number in [b"1", b"2"] {
        step(ReasonCode::ContinueAuthentication, number, &mut peer);
        let Some(Event::AuthenticationStep { properties }) = peer.events.pop() else { panic!("it is asked") };
        assert_eq!(properties.as_properties().authentication_data(), Some(&number[..]));
        answer(number, &mut peer);
    }
    let properties = method.as_properties();
    peer.receive(&Packet::Connack(Connack { session_present: false, reason_code: ReasonCode::Success, properties }));
    assert!(peer.client.is_connected());
    peer.client.reauthenticate(EMPTY).unwrap();
    peer.poll();
    step(ReasonCode::ContinueAuthentication, b"3", &mut peer);
    answer(b"3", &mut peer);
    step(ReasonCode::Success, b"", &mut peer);
    assert!(matches!(peer.events.last(), Some(Event::Reauthenticated { .. })));
    let sent = ["AUTH 0x18 SCRAM 1", "AUTH 0x18 SCRAM 2", "AUTH 0x19 SCRAM ", "AUTH 0x18 SCRAM 3"];
    assert_eq!(peer.take_sent()[1..], sent);
}

/// "The server refused it later." [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-15]
#[test]
fn what_the_broker_does_not_allow_fails_the_call_and_nothing_is_sent() {
    let size = Property::MaximumPacketSize(40.try_into().unwrap());
    let no = [
        Property::MaximumQoS(QoS::AtMostOnce),
        Property::RetainAvailable(false),
        size,
        Property::WildcardSubscriptionAvailable(false),
        Property::SharedSubscriptionAvailable(false),
    ];
    let mut peer = Peer::connected_to(Version::V5_0, &no, |_| ());
    let mut retained = publish(QoS::AtMostOnce, 0, false, "a", "x", EMPTY);
    retained.retain = true;
    let topic = damselfly_topic::TopicName::new("a").unwrap();
    let retained = damselfly_session::Message::new(&retained, topic, Timestamp::ZERO);
    for (message, why) in [
        (message(QoS::AtLeastOnce, "a", "x"), UsageError::QoSNotSupported { maximum: QoS::AtMostOnce }),
        (retained, UsageError::RetainNotSupported),
        (message(QoS::AtMostOnce, "a", &"x".repeat(35)), UsageError::PacketTooLarge { size: 41, maximum: 40 }),
    ] {
        let back = message.payload().to_vec();
        let refused = peer.client.publish(peer.now, message).unwrap_err();
        assert_eq!((refused.why, refused.message.payload()), (why, &back[..]));
    }
    for (text, why) in [
        ("a/+", UsageError::WildcardSubscriptionsNotSupported),
        ("$share/g/a", UsageError::SharedSubscriptionsNotSupported),
    ] {
        let asked = [(filter(text), options(QoS::AtMostOnce))];
        assert_eq!(peer.client.subscribe(peer.now, &asked, EMPTY), Err(why));
    }
    // What the version has not: the same.
    let mut old = Peer::connected(Version::V3_1_1, |_| ());
    let never = SubscriptionOptions { retain_handling: RetainHandling::DoNotSend, ..options(QoS::AtMostOnce) };
    assert_eq!(old.client.subscribe(old.now, &[(filter("a"), never)], EMPTY), Err(UsageError::NeedsVersion5));
    for peer in [&mut peer, &mut old] {
        peer.poll();
        assert_eq!(peer.take_sent(), [""; 0]);
        assert!(peer.client.is_connected());
    }
}

/// "Request and response by hand." [MQTT-4.10]
#[test]
fn request_has_its_response_as_outcome_and_a_reply_goes_where_it_was_asked_for() {
    let [mut asker, mut lamp] = [(); 2].map(|()| Peer::connected(Version::V5_0, |_| ()));
    let deadline = asker.now.saturating_add(Duration::from_secs(9));
    let ticket = asker.client.request(asker.now, message(QoS::AtMostOnce, "lamp/get", "?"), deadline).unwrap();
    asker.poll();
    asker.receive_suback(1, &[ReasonCode::GrantedQoS1]);
    assert_eq!(asker.take_sent()[1..], ["PUBLISH q0 lamp/get ? answer to response/heron"]);

    let data = asker.correlation_data[0].clone();
    let reply_to = damselfly_topic::TopicName::new("response/heron").unwrap();
    let says = properties(&[Property::ResponseTopic(reply_to), Property::CorrelationData(&data)]);
    lamp.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, "lamp/get", "?", says.as_properties())));
    let Some(Event::Message(question)) = lamp.events.pop() else { panic!("a question") };
    let answer = question.reply(lamp.now, b"on", EMPTY).unwrap();
    lamp.client.publish(lamp.now, answer).unwrap();
    lamp.poll();
    assert_eq!(lamp.take_sent(), ["PUBLISH q0 response/heron on"]);
    assert_eq!(lamp.correlation_data, asker.correlation_data);

    let says = properties(&[Property::CorrelationData(&data)]);
    asker.receive(&Packet::Publish(publish(QoS::AtMostOnce, 0, false, "response/heron", "on", says.as_properties())));
    let outcomes = asker.take_outcomes();
    let [(of, Outcome::Response(response))] = &outcomes[..] else { panic!("the response, not {outcomes:?}") };
    assert_eq!((*of, response.message.payload()), (ticket.get(), &b"on"[..]));
}
