//! The client driver against our broker: its futures may be dropped, its bounds hold, its attempts ask anew.

use std::{future::Future, pin::pin, task::Context, time::Duration};

use damselfly_client::{Config, ConnectParameters, Event, Outcome, UsageError};
use damselfly_codec::QoS;
use damselfly_examples::client::{Client, Drain, Options};
use futures::task::noop_waker_ref;

use crate::support::{BrokerProcess, endpoint, message, next_payload, options, run, subscribe};

#[test]
fn outcome_is_awaited_and_dropping_its_future_changes_nothing() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, mut events) = Client::connect(options(&broker, "both"));
        subscribe(&client, "t", QoS::ExactlyOnce).await;
        for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
            drop(client.publish(message(&client, &format!("dropped {number}"), qos)).unwrap());
            // Polled once, then dropped.
            let mut polled = pin!(client.publish(message(&client, &format!("polled {number}"), qos)).unwrap());
            let _ = polled.as_mut().poll(&mut Context::from_waker(noop_waker_ref()));
            let outcome = client.publish(message(&client, &format!("awaited {number}"), qos)).unwrap().await;
            match qos {
                QoS::AtMostOnce => assert_eq!(outcome, Outcome::Transmitted),
                _ => assert!(matches!(outcome, Outcome::Acknowledged { .. })),
            }
            for kind in ["dropped", "polled", "awaited"] {
                assert_eq!(next_payload(&mut events).await, format!("{kind} {number}"));
            }
        }
        client.close(Drain::within(Duration::from_secs(5)));
        events.join().await;
    });
    broker.end();
}

#[test]
fn application_that_does_not_take_its_messages_pauses_reading_and_loses_nothing() {
    // [MQTT-4.2-1] [MQTT3-7.1.2-1]
    let broker = BrokerProcess::start(&[]);
    run(async {
        let mut slow = options(&broker, "slow");
        slow.max_waiting_messages = 3;
        slow.config.receive_maximum = 5.try_into().unwrap();
        let (subscriber, mut events) = Client::connect(slow);
        subscribe(&subscriber, "t", QoS::AtLeastOnce).await;
        let (publisher, _publisher_events) = Client::connect(options(&broker, "fast"));
        let mut completions = Vec::new();
        for number in 0..200 {
            completions.push(publisher.publish(message(&publisher, &number.to_string(), QoS::AtLeastOnce)).unwrap());
        }
        for completion in completions {
            assert!(matches!(completion.await, Outcome::Acknowledged { .. }), "nobody else waits");
        }
        for number in 0..200 {
            assert_eq!(next_payload(&mut events).await, number.to_string());
        }
    });
    broker.end();
}

#[test]
fn messages_taken_before_there_is_a_connection_leave_before_the_client_closes() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (watcher, mut seen) = Client::connect(options(&broker, "watcher"));
        subscribe(&watcher, "t", QoS::AtLeastOnce).await;
        let (client, events) = Client::connect(options(&broker, "hasty"));
        for number in 0..1_000 {
            drop(client.publish(message(&client, &number.to_string(), QoS::AtLeastOnce)).unwrap());
        }
        client.close(Drain::within(Duration::from_secs(20)));
        let refused = client.publish(message(&client, "late", QoS::AtMostOnce)).err().unwrap();
        assert_eq!(refused.why, UsageError::Closed);
        events.join().await;
        for number in 0..1_000 {
            assert_eq!(next_payload(&mut seen).await, number.to_string());
        }
    });
    broker.end();
}

#[test]
fn each_attempt_asks_where_to_connect_and_as_whom() {
    let broker = BrokerProcess::start(&[]);
    // A port that was free a moment ago, so that nobody listens.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let alive = broker.address();
    run(async {
        let mut options = Options::asking(Config::new("nomad"), move |need| {
            let address = if need.attempt < 3 { dead } else { alive };
            std::future::ready(Ok((endpoint(address), ConnectParameters::default())))
        });
        options.config.backoff.first = Duration::from_millis(5);
        let (client, mut events) = Client::connect(options);
        let mut failures = 0;
        loop {
            match events.next().await {
                Some(Event::Disconnected(_)) => failures += 1,
                Some(Event::Connected(_)) => break,
                Some(_) => {}
                None => panic!("the client ended"),
            }
        }
        assert_eq!(failures, 2);
        assert!(client.last_transport_error().is_some());
    });
    broker.end();
}

#[test]
fn client_ends_when_its_events_are_dropped() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, events) = Client::connect(options(&broker, "brief"));
        subscribe(&client, "t", QoS::AtMostOnce).await;
        drop(events);
        let refused = client.publish(message(&client, "late", QoS::AtMostOnce)).err().unwrap();
        assert_eq!(refused.why, UsageError::Closed);
    });
    broker.end();
}
