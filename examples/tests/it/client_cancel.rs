//! Every public future of the client driver is dropped after each of its polls, and nothing is lost or doubled.

use std::{
    future::{Future, poll_fn},
    net::TcpListener,
    pin::pin,
    task::Poll,
    time::Duration,
};

use damselfly_client::{Config, ConnectParameters, Event, Outcome};
use damselfly_codec::{Properties, QoS, SubscriptionOptions};
use damselfly_examples::client::{Client, Drain, Inbox, Left, Options};
use damselfly_topic::TopicFilter;

use crate::support::{
    BrokerProcess, endpoint, message, next_payload, options, outcome_of_subscribing, payload_of, run, stream,
};

/// More polls than any of the futures needs when it is polled only when woken.
const MANY: usize = 50;

/// Polls a future so many times at most, in turns with everything else of the runtime, then drops it: `None` if it was
/// not ready by then.
async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Both ends in one client.
async fn connected(broker: &BrokerProcess) -> (Client, damselfly_examples::client::Events) {
    let (client, mut events) = Client::connect(options(broker, "both"));
    while !matches!(events.next().await, Some(Event::Connected(_))) {}
    (client, events)
}

#[test]
fn message_arrives_once_whenever_the_future_of_its_outcome_is_dropped() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, _events) = connected(&broker).await;
        let mut stream = stream(&client, &["t"], Inbox::default()).await;
        for polls in 0..MANY {
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][polls % 3];
            cut(client.publish(message(&client, &polls.to_string(), qos)).unwrap(), polls).await;
            assert_eq!(payload_of(&stream.next().await.unwrap()), polls.to_string());
        }
    });
    broker.end();
}

#[test]
fn messages_come_in_order_whenever_the_future_of_the_next_one_is_dropped() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, mut events) = connected(&broker).await;
        let mut stream = stream(&client, &["t"], Inbox::default()).await;
        crate::support::subscribe(&client, "e", QoS::AtLeastOnce).await;
        for polls in 1..MANY {
            let payload = polls.to_string();
            drop(client.publish(message(&client, &payload, QoS::AtLeastOnce)).unwrap());
            let other = client.message("e", payload.as_bytes(), QoS::AtLeastOnce, false, Properties::EMPTY).unwrap();
            drop(client.publish(other).unwrap());
            let streamed = match cut(stream.next(), polls).await {
                Some(streamed) => streamed,
                None => stream.next().await,
            };
            assert_eq!(payload_of(&streamed.unwrap()), payload);
            let event = match cut(next_payload(&mut events), polls).await {
                Some(event) => event,
                None => next_payload(&mut events).await,
            };
            assert_eq!(event, payload);
        }
    });
    broker.end();
}

#[test]
fn answer_of_the_broker_can_be_asked_for_again_whenever_its_future_is_dropped() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, _events) = connected(&broker).await;
        for polls in 0..MANY {
            let filter = (TopicFilter::new("t").unwrap(), SubscriptionOptions::default());
            let mut stream = client.subscribe(&[filter], Properties::EMPTY, Inbox::default()).unwrap();
            cut(stream.granted(), polls).await;
            assert_eq!(stream.granted().await, Outcome::Subscribed(vec![Ok(QoS::AtMostOnce)]));
            cut(async { outcome_of_subscribing(&client, "t", QoS::AtMostOnce).await }, polls).await;
            client.publish(message(&client, "still there", QoS::AtMostOnce)).unwrap().await;
            assert_eq!(payload_of(&stream.next().await.unwrap()), "still there");
        }
    });
    broker.end();
}

#[test]
fn request_is_answered_once_whenever_the_future_of_its_response_is_dropped() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, mut events) = connected(&broker).await;
        let mut requests = stream(&client, &["t"], Inbox::default()).await;
        for polls in 0..MANY {
            let request = message(&client, &polls.to_string(), QoS::AtLeastOnce);
            let mut response = client.request(request, Duration::from_secs(20)).unwrap();
            let early = cut(&mut response, polls).await;
            assert!(early.is_none(), "nobody has answered");
            let request = requests.next().await.unwrap();
            assert_eq!(payload_of(&request), polls.to_string());
            let answered = client.reply(&request, b"yes", Properties::EMPTY).unwrap();
            assert!(matches!(cut(answered, polls).await, None | Some(Outcome::Acknowledged { .. })));
            assert_eq!(payload_of(&response.await.unwrap()), "yes");
        }
        let end = client.close(Drain::within(Duration::from_secs(5))).await;
        assert_eq!(end, Left::default());
        while let Some(event) = events.next().await {
            assert!(!matches!(event, Event::Message(_)), "the response went to its request");
        }
    });
    broker.end();
}

#[test]
fn message_that_waits_for_room_is_sent_once_or_not_at_all_whenever_its_future_is_dropped() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (watcher, _events) = connected(&broker).await;
        let mut seen = stream(&watcher, &["t"], Inbox::default()).await;
        for polls in 0..MANY {
            // Until the gate opens, the queue of one message is full.
            let (open, gate) = tokio::sync::oneshot::channel::<()>();
            let mut gate = Some(gate);
            let address = broker.address();
            let mut options = Options::asking(Config::new("writer"), move |_| {
                let gate = gate.take();
                async move {
                    if let Some(gate) = gate {
                        gate.await.unwrap();
                    }
                    Ok((endpoint(address), ConnectParameters::default()))
                }
            });
            options.config.queue.max_messages = 1;
            let (client, events) = Client::connect(options);
            drop(client.publish(message(&client, "first", QoS::AtLeastOnce)).unwrap());
            let early = cut(client.publish_when_room(message(&client, "dropped", QoS::AtLeastOnce)), polls).await;
            assert!(early.is_none(), "there is no room");
            let mut waits = pin!(client.publish_when_room(message(&client, "second", QoS::AtLeastOnce)));
            assert!(cut(&mut waits, 1).await.is_none());
            open.send(()).unwrap();
            let taken = waits.await.unwrap();
            assert!(matches!(taken.await, Outcome::Acknowledged { .. }));
            for payload in ["first", "second"] {
                assert_eq!(payload_of(&seen.next().await.unwrap()), payload);
            }
            drop(client.close(Drain::within(Duration::from_secs(5))));
            events.join().await;
        }
    });
    broker.end();
}

#[test]
fn client_closes_whenever_the_future_of_its_end_is_dropped() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (watcher, _events) = connected(&broker).await;
        let mut seen = stream(&watcher, &["t"], Inbox::default()).await;
        for polls in 0..MANY {
            let (client, events) = Client::connect(options(&broker, "brief"));
            drop(client.publish(message(&client, "last words", QoS::AtLeastOnce)).unwrap());
            let drain = Drain::within(Duration::from_secs(5));
            let early = cut(client.close(drain), polls).await;
            assert!(early.is_none_or(Left::is_nothing));
            cut(async { client.close(drain).await }, polls).await;
            if polls % 2 == 0 {
                // Joining is dropped too, and ends the client at once where it had not ended.
                assert_eq!(client.close(drain).await, Left::default());
                cut(events.join(), polls).await;
            } else {
                events.join().await;
            }
            assert_eq!(payload_of(&seen.next().await.unwrap()), "last words");
        }
    });
    broker.end();
}

#[test]
fn futures_that_are_dropped_leave_nothing_to_be_woken() {
    // A port at which nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    run(async {
        let mut options = Options::new(endpoint(address), Config::new("waiting"));
        options.config.queue.max_messages = 1;
        let (client, _events) = Client::connect(options);
        let first = client.publish(message(&client, "first", QoS::AtLeastOnce)).unwrap();
        let (waker, count) = counted_waker();
        let mut context = std::task::Context::from_waker(&waker);
        {
            let mut completion = pin!(first);
            let mut enqueue = pin!(client.publish_when_room(message(&client, "second", QoS::AtLeastOnce)));
            assert!(completion.as_mut().poll(&mut context).is_pending());
            assert!(enqueue.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(std::sync::Arc::strong_count(&count), 2, "one here and one in the waker of this test");
    });
}

/// A waker whose clones can be counted.
fn counted_waker() -> (std::task::Waker, std::sync::Arc<Silent>) {
    let silent = std::sync::Arc::new(Silent);
    (std::task::Waker::from(std::sync::Arc::clone(&silent)), silent)
}

struct Silent;

impl std::task::Wake for Silent {
    fn wake(self: std::sync::Arc<Self>) {}
}
