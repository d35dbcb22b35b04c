//! What a client of MQTT is most often blamed for, as far as it concerns the driver: one test for each complaint. Those about
//! the core are in `crates/client/tests/it/promises.rs`; `docs/guide/client.md` lists both.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use damselfly_client::{Config, ConnectParameters, Event, Outcome, OverflowPolicy, UsageError};
use damselfly_codec::{Properties, QoS, SubscriptionOptions};
use damselfly_examples::client::{Client, Drain, Inbox, Left, Options, Overflow};
use damselfly_topic::TopicFilter;
use futures::FutureExt;

use crate::support::{
    BrokerProcess, Proxy, endpoint, message, next_payload, options, payload_of, run, stream, subscribe,
};

const WITHIN: Drain = Drain::within(Duration::from_secs(20));

/// "Publishing from the task that polls deadlocks." One task, one thread, and more messages than any channel would hold.
#[test]
fn publishing_from_the_task_that_polls_cannot_deadlock() {
    const MESSAGES: usize = 5_000;
    let broker = BrokerProcess::start(&["--max-queued-messages", "20000"]);
    run(async {
        let (client, mut events) = Client::connect(options(&broker, "both"));
        subscribe(&client, "t", QoS::AtLeastOnce).await;
        let first: Vec<_> = (0..MESSAGES)
            .map(|number| client.publish(message(&client, &number.to_string(), QoS::AtLeastOnce)).unwrap())
            .collect();
        // Each message that arrives is answered with another one, before the next is looked at.
        for number in 0..MESSAGES {
            assert_eq!(next_payload(&mut events).await, number.to_string());
            drop(client.publish(message(&client, "echo", QoS::AtLeastOnce)).unwrap());
        }
        for _ in 0..MESSAGES {
            assert_eq!(next_payload(&mut events).await, "echo");
        }
        for completion in first {
            assert!(matches!(completion.await, Outcome::Acknowledged { .. }));
        }
        assert_eq!(client.close(WITHIN).await, Left::default());
    });
    broker.end();
}

/// "Nothing happens unless I poll": nobody looks at this client's futures or events, and its messages arrive.
#[test]
fn nothing_has_to_be_polled_for_messages_to_leave() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (watcher, mut seen) = Client::connect(options(&broker, "watcher"));
        subscribe(&watcher, "t", QoS::ExactlyOnce).await;
        let (client, _events) = Client::connect(options(&broker, "unwatched"));
        let _kept: Vec<_> = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
            .into_iter()
            .map(|qos| client.publish(message(&client, &qos.to_string(), qos)).unwrap())
            .collect();
        for expected in ["0", "1", "2"] {
            assert_eq!(next_payload(&mut seen).await, expected);
        }
    });
    broker.end();
}

/// "My subscriptions are gone": the session ends with its connection, and the streams go on.
#[test]
fn streams_go_on_in_a_new_session_and_what_no_stream_takes_comes_among_the_events() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let proxy = Proxy::start(broker.address(), 1, 0, 1);
        let (client, mut events) = Client::connect(Options::new(endpoint(proxy.address()), Config::new("forgotten")));
        let mut one = stream(&client, &["one/#"], Inbox::default()).await;
        subscribe(&client, "#", QoS::AtLeastOnce).await;
        for round in ["first", "second"] {
            let (publisher, other) = Client::connect(options(&broker, "publisher"));
            other.detach();
            for topic in ["one/a", "two/a"] {
                let message = publisher.message(topic, round.as_bytes(), QoS::AtLeastOnce, false, Properties::EMPTY);
                let outcome = publisher.publish(message.unwrap()).unwrap().await;
                assert!(matches!(outcome, Outcome::Acknowledged { .. }));
            }
            assert_eq!(payload_of(&one.next().await.unwrap()), round);
            loop {
                if let Event::Message(inbound) = events.next().await.unwrap() {
                    assert_eq!((inbound.message.topic().as_str(), payload_of(&inbound).as_str()), ("two/a", round));
                    break;
                }
            }
            publisher.close(WITHIN).await;
            if round == "first" {
                proxy.cut();
                while !matches!(events.next().await.unwrap(), Event::Connected(_)) {}
                // The broker answers in order: once it has granted this, it has the restored ones.
                subscribe(&client, "last", QoS::AtMostOnce).await;
            }
        }
    });
    broker.end();
}

/// The fourth policy of a full window, `Wait`, is a future.
#[test]
fn full_queue_can_be_waited_for_and_a_refused_message_comes_back() {
    let broker = BrokerProcess::start(&["--receive-maximum", "2"]);
    run(async {
        let mut narrow = options(&broker, "narrow");
        narrow.config.queue.max_messages = 2;
        narrow.config.queue.overflow = OverflowPolicy::Reject;
        let (client, events) = Client::connect(narrow);
        events.detach();
        // Nothing was awaited, so nothing was sent: two wait, and the third has to.
        for payload in ["0", "1"] {
            drop(client.publish(message(&client, payload, QoS::AtLeastOnce)).unwrap());
        }
        let refused = client.publish(message(&client, "2", QoS::AtLeastOnce)).err().unwrap();
        assert_eq!((refused.why, refused.message.payload()), (UsageError::QueueFull, &b"2"[..]));
        assert!(client.publish_when_room(message(&client, "dropped", QoS::AtLeastOnce)).now_or_never().is_none());
        for number in 2..500 {
            let taken = client.publish_when_room(message(&client, &number.to_string(), QoS::AtLeastOnce)).await;
            drop(taken.unwrap());
        }
        assert_eq!(client.close(WITHIN).await, Left::default());
    });
    broker.end();
}

/// "A slow consumer eats the memory": each stream has a bound and says what happens there, and one that drops does not
/// slow the other down.
#[test]
fn slow_stream_drops_by_its_policy_and_another_one_has_everything() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, events) = Client::connect(options(&broker, "reader"));
        events.detach();
        let mut oldest = stream(&client, &["t"], Inbox::new(10, Overflow::DropOldest)).await;
        let mut newest = stream(&client, &["t"], Inbox::new(10, Overflow::DropNewest)).await;
        let mut all = stream(&client, &["t"], Inbox::new(1_000, Overflow::Pause)).await;
        for number in 0..1_000 {
            drop(client.publish(message(&client, &number.to_string(), QoS::AtLeastOnce)).unwrap());
        }
        for number in 0..1_000 {
            assert_eq!(payload_of(&all.next().await.unwrap()), number.to_string());
        }
        assert_eq!((oldest.dropped(), newest.dropped()), (990, 990));
        assert_eq!(payload_of(&oldest.next().await.unwrap()), "990");
        assert_eq!(payload_of(&newest.next().await.unwrap()), "0");
    });
    broker.end();
}

/// "New credentials on each attempt", and another endpoint with them.
#[test]
fn each_attempt_asks_for_endpoint_and_credentials() {
    // Two brokers that refuse whoever comes, after they read with which password.
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let servers = [0, 1].map(|index| {
        let (listener, seen) = (listeners[index].try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            for _ in 0..2 {
                let mut peer = listener.accept().unwrap().0;
                let mut connect = [0; 2];
                peer.read_exact(&mut connect).unwrap();
                let mut rest = vec![0; connect[1].into()];
                peer.read_exact(&mut rest).unwrap();
                let password = String::from_utf8_lossy(&rest[rest.len() - 7..]).into_owned();
                seen.lock().unwrap().push((index, password));
                // Not authorized.
                peer.write_all(b"\x20\x03\x00\x87\x00").unwrap();
            }
        })
    });
    run(async {
        let mut options = Options::asking(Config::new("rotating"), move |need| {
            let mut parameters = ConnectParameters::default();
            parameters.user_name = Some("heron".into());
            parameters.password = Some(format!("token-{}", need.attempt).into_bytes().into());
            let turn = usize::from(need.attempt % 2 == 0);
            // As if the token had to be fetched first.
            async move {
                tokio::task::yield_now().await;
                Ok((endpoint(addresses[turn]), parameters))
            }
        });
        options.config.backoff.first = Duration::from_millis(1);
        let (client, mut events) = Client::connect(options);
        for _ in 0..4 {
            while !matches!(events.next().await.unwrap(), Event::Disconnected(_)) {}
        }
        client.close(Drain::at_once()).await;
    });
    for server in servers {
        server.join().unwrap();
    }
    let seen = seen.lock().unwrap();
    let expected = [(0, "token-1"), (1, "token-2"), (0, "token-3"), (1, "token-4")];
    assert_eq!(*seen, expected.map(|(index, token)| (index, token.to_owned())));
}

/// "Request and response by hand."
#[test]
fn request_is_one_call_on_each_side() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (lamp, events) = Client::connect(options(&broker, "lamp"));
        events.detach();
        let filter = (TopicFilter::new("t").unwrap(), SubscriptionOptions::default());
        let mut questions = lamp.subscribe(&[filter], Properties::EMPTY, Inbox::default()).unwrap();
        questions.granted().await;
        let (asker, events) = Client::connect(options(&broker, "asker"));
        events.detach();
        let response = asker.request(message(&asker, "?", QoS::AtMostOnce), Duration::from_secs(20)).unwrap();
        let answer = async {
            let question = questions.next().await.unwrap();
            drop(lamp.reply(&question, b"on", Properties::EMPTY).unwrap());
        };
        let (outcome, ()) = tokio::join!(response, answer);
        assert_eq!(payload_of(&outcome.unwrap()), "on");
    });
    broker.end();
}
