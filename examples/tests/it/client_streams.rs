//! Streams of subscriptions: who gets a message, what a full stream does, and what ends with a stream.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use damselfly_client::{Acknowledgement, Config, Event, Outcome, UsageError};
use damselfly_codec::{Properties, QoS, ReasonCode, SubscriptionOptions};
use damselfly_examples::client::{Client, Drain, Inbox, Options, Overflow, SubscribeError, Subscription};
use damselfly_topic::{IndexError, TopicFilter};

use crate::support::{
    BrokerProcess, Wire, endpoint, message, next_payload, options, payload_of, publish_frame, run, stream, subscribe,
};

async fn next(stream: &mut Subscription) -> String {
    payload_of(&stream.next().await.unwrap())
}

async fn publish(client: &Client, topic: &str, payload: &str) -> Outcome {
    let message = client.message(topic, payload.as_bytes(), QoS::AtLeastOnce, false, Properties::EMPTY).unwrap();
    client.publish(message).unwrap().await
}

#[test]
fn each_stream_has_a_message_once_and_the_events_have_what_no_stream_takes() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, mut events) = Client::connect(options(&broker, "both"));
        let mut one_level = stream(&client, &["a/+"], Inbox::default()).await;
        let mut twice = stream(&client, &["a/#", "a/b"], Inbox::default()).await;
        let mut shared = stream(&client, &["$share/group/c", "c"], Inbox::default()).await;
        subscribe(&client, "d", QoS::AtLeastOnce).await;

        for (topic, payload) in [("a/b", "1"), ("a/b/c", "2"), ("c", "3"), ("d", "4"), ("a/x", "5")] {
            publish(&client, topic, payload).await;
        }

        assert_eq!([next(&mut one_level).await, next(&mut one_level).await], ["1", "5"]);
        assert_eq!([next(&mut twice).await, next(&mut twice).await, next(&mut twice).await], ["1", "2", "5"]);
        assert_eq!(next(&mut shared).await, "3");
        assert_eq!(next_payload(&mut events).await, "4");
    });
    broker.end();
}

#[test]
fn streams_that_come_and_go_are_known_to_the_next_message_of_the_same_topic() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, mut events) = Client::connect(options(&broker, "both"));
        subscribe(&client, "t", QoS::AtLeastOnce).await;
        publish(&client, "t", "1").await;
        assert_eq!(next_payload(&mut events).await, "1");

        let mut first = stream(&client, &["t"], Inbox::default()).await;
        publish(&client, "t", "2").await;
        let mut second = stream(&client, &["t"], Inbox::default()).await;
        publish(&client, "t", "3").await;
        assert_eq!([next(&mut first).await, next(&mut first).await], ["2", "3"]);
        drop(first);
        publish(&client, "t", "4").await;
        assert_eq!([next(&mut second).await, next(&mut second).await], ["3", "4"]);
        second.detach();
        publish(&client, "t", "5").await;
        assert_eq!(next_payload(&mut events).await, "5");

        let _keeps_u = stream(&client, &["t", "u"], Inbox::default()).await;
        publish(&client, "t", "6").await;
        client.unsubscribe(&[TopicFilter::new("t").unwrap()], Properties::EMPTY).unwrap().await;
        subscribe(&client, "t", QoS::AtLeastOnce).await;
        publish(&client, "t", "7").await;
        assert_eq!(next_payload(&mut events).await, "7");
    });
    broker.end();
}

#[test]
fn full_stream_drops_by_its_policy_from_the_first_message_beyond_its_bound_on() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, _events) = Client::connect(options(&broker, "both"));
        let mut oldest = stream(&client, &["t"], Inbox::new(3, Overflow::DropOldest)).await;
        let mut newest = stream(&client, &["t"], Inbox::new(3, Overflow::DropNewest)).await;
        let mut end = stream(&client, &["end"], Inbox::default()).await;
        for payload in ["1", "2", "3"] {
            publish(&client, "t", payload).await;
        }
        publish(&client, "end", "").await;
        next(&mut end).await;
        assert_eq!((oldest.dropped(), newest.dropped()), (0, 0), "three fit");
        publish(&client, "t", "4").await;
        publish(&client, "end", "").await;
        next(&mut end).await;
        assert_eq!((oldest.dropped(), newest.dropped()), (1, 1), "the fourth does not");
        assert_eq!([next(&mut oldest).await, next(&mut oldest).await, next(&mut oldest).await], ["2", "3", "4"]);
        assert_eq!([next(&mut newest).await, next(&mut newest).await, next(&mut newest).await], ["1", "2", "3"]);
    });
    broker.end();
}

#[test]
fn full_stream_that_pauses_leaves_the_socket_unread_while_keep_alive_goes_on() {
    // More than all buffers of a socket hold.
    const MESSAGES: usize = 512;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let is_written = AtomicBool::new(false);
    thread::scope(|scope| {
        let (listener, is_written) = (&listener, &is_written);
        let (drain, may_drain) = tokio::sync::oneshot::channel();
        scope.spawn(move || {
            let mut broker = Wire::accept(listener);
            broker.grant(1);
            let mut writer = broker.again();
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let payload = format!("{number} {}", "x".repeat(64 * 1024));
                    writer.send(&publish_frame(5, "t", payload.as_bytes()));
                }
                is_written.store(true, Ordering::SeqCst);
                writer.send(&[0xD0, 0]);
            });
            // Neither is answered, and the second comes on the same connection, long after the wait for the first.
            for _ in 0..2 {
                assert_eq!(broker.receive(), (0xC0, Vec::new()), "PINGREQ");
            }
            assert!(!is_written.load(Ordering::SeqCst), "the client went on reading");
            drain.send(()).unwrap();
            // The application takes them all, then closes.
            while broker.receive().0 != 0xE0 {}
        });
        run(async {
            let mut config = Config::new("slow");
            config.keep_alive = 1;
            config.ping_timeout = Duration::from_millis(500);
            let (client, mut events) = Client::connect(Options::new(endpoint(address), config));
            let mut slow = stream(&client, &["t"], Inbox::new(3, Overflow::Pause)).await;
            may_drain.await.unwrap();
            for number in 0..MESSAGES {
                let payload = next(&mut slow).await;
                assert_eq!(payload.split_once(' ').unwrap().0, number.to_string());
            }
            client.close(Drain::at_once()).await;
            assert!(matches!(events.next().await, Some(Event::Connected(_))));
            assert!(matches!(events.next().await, Some(Event::Closed)), "one connection from beginning to end");
        });
    });
}

#[test]
fn dropping_a_stream_unsubscribes_from_what_nobody_else_wants() {
    let broker = BrokerProcess::start(&[]);
    let unheard = Outcome::Acknowledged { reason_code: ReasonCode::NoMatchingSubscribers };
    run(async {
        let (client, mut events) = Client::connect(options(&broker, "both"));
        let first = stream(&client, &["t", "u"], Inbox::default()).await;
        let mut second = stream(&client, &["t"], Inbox::default()).await;
        subscribe(&client, "u", QoS::AtLeastOnce).await;

        drop(first);
        publish(&client, "t", "1").await;
        publish(&client, "u", "2").await;
        assert_eq!(next(&mut second).await, "1");
        assert_eq!(next_payload(&mut events).await, "2");

        drop(second);
        assert_eq!(publish(&client, "t", "3").await, unheard);
    });
    broker.end();
}

#[test]
fn detached_stream_stays_subscribed_and_its_messages_come_among_the_events() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, mut events) = Client::connect(options(&broker, "both"));
        let left = stream(&client, &["t"], Inbox::default()).await;
        let mut end = stream(&client, &["end"], Inbox::default()).await;
        publish(&client, "t", "1").await;
        publish(&client, "end", "").await;
        next(&mut end).await;

        left.detach();
        publish(&client, "t", "2").await;

        assert_eq!([next_payload(&mut events).await, next_payload(&mut events).await], ["1", "2"]);
    });
    broker.end();
}

#[test]
fn stream_ends_when_none_of_its_filters_is_left() {
    let broker = BrokerProcess::start(&["--refused-filters", "secret/#"]);
    run(async {
        let (client, _events) = Client::connect(options(&broker, "both"));
        let qos = SubscriptionOptions { qos: QoS::AtMostOnce, ..SubscriptionOptions::default() };
        let [secret, open] = ["secret/#", "open"].map(|filter| (TopicFilter::new(filter).unwrap(), qos));

        let mut refused = client.subscribe(&[secret], Properties::EMPTY, Inbox::default()).unwrap();
        assert_eq!(refused.granted().await, Outcome::Subscribed(vec![Err(ReasonCode::NotAuthorized)]));
        assert_eq!(refused.granted().await, Outcome::Subscribed(vec![Err(ReasonCode::NotAuthorized)]), "asked again");
        assert!(refused.next().await.is_none());

        let mut half = client.subscribe(&[secret, open], Properties::EMPTY, Inbox::default()).unwrap();
        publish(&client, "open", "1").await;
        assert_eq!(next(&mut half).await, "1");
        drop(client.unsubscribe(&[open.0], Properties::EMPTY).unwrap());
        assert!(half.next().await.is_none());
    });
    broker.end();
}

#[test]
fn filters_by_which_messages_can_be_told_have_at_most_128_levels() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, _events) = Client::connect(options(&broker, "deep"));
        let subscribe = |levels: usize| {
            let text = vec!["x"; levels].join("/");
            let filter = (TopicFilter::new(&text).unwrap(), SubscriptionOptions::default());
            client.subscribe(&[filter], Properties::EMPTY, Inbox::default()).map(drop)
        };
        assert_eq!(subscribe(128), Ok(()));
        assert_eq!(subscribe(129), Err(SubscribeError::Filter(IndexError::TooManyLevels)));
        let nothing = client.subscribe(&[], Properties::EMPTY, Inbox::default()).map(drop);
        assert_eq!(nothing, Err(SubscribeError::Usage(UsageError::NoFilters)));
    });
    broker.end();
}

#[test]
fn message_that_every_stream_dropped_is_refused_if_the_application_acknowledges() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut broker = Wire::accept(&listener);
            broker.grant(1);
            broker.grant(1);
            for id in 1..=3 {
                broker.publish_at(1, id, "t", b"");
            }
            assert_eq!(broker.expect_acknowledged(0x40, 1), 0);
            assert_eq!(broker.expect_acknowledged(0x40, 2), 0x97, "no stream had room");
            assert_eq!(broker.expect_acknowledged(0x40, 3), 0x97, "it waited in a stream that was dropped");
            // The streams are gone, and so are their subscriptions.
            assert_eq!(broker.receive().0, 0xA2, "UNSUBSCRIBE");
        });
        run(async {
            let mut config = Config::new("careful");
            config.acknowledgement = Acknowledgement::Manual;
            let (client, _events) = Client::connect(Options::new(endpoint(address), config));
            let mut newest = stream(&client, &["t"], Inbox::new(1, Overflow::DropNewest)).await;
            let oldest = stream(&client, &["t"], Inbox::new(1, Overflow::DropOldest)).await;
            while oldest.dropped() < 2 {
                tokio::task::yield_now().await;
            }
            let first = newest.next().await.unwrap();
            client.acknowledge(first.ack.unwrap(), ReasonCode::Success).unwrap();
            drop((newest, oldest));
            client.close(Drain::at_once()).await;
        });
    });
}

#[test]
fn message_that_one_of_two_streams_dropped_waits_for_the_application() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let mut careful = options(&broker, "careful");
        careful.config.acknowledgement = Acknowledgement::Manual;
        let (client, _events) = Client::connect(careful);
        let mut wide = stream(&client, &["t"], Inbox::default()).await;
        let mut narrow = stream(&client, &["t"], Inbox::new(1, Overflow::DropNewest)).await;
        for payload in ["1", "2"] {
            client.publish(message(&client, payload, QoS::AtLeastOnce)).unwrap().await;
        }
        for _ in 0..2 {
            let inbound = wide.next().await.unwrap();
            client.acknowledge(inbound.ack.unwrap(), ReasonCode::Success).unwrap();
        }
        assert_eq!((next(&mut narrow).await, narrow.dropped()), ("1".to_owned(), 1));
    });
    broker.end();
}
