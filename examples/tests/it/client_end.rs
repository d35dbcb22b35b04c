//! Where a client connects to, what it asks, how it ends, and what is said about what it leaves.

use std::{future::Future, net::TcpListener, pin::pin, task::Context, thread, time::Duration};

use damselfly_client::{
    Config, ConnectParameters, DropReason, Event, IndeterminateReason, Outcome, UnansweredReason, UsageError,
};
use damselfly_codec::{Properties, QoS};
use damselfly_examples::client::{Client, Drain, Inbox, Left, Options};
use futures::task::noop_waker_ref;

use crate::support::{
    BrokerProcess, LIMIT, Wire, endpoint, message, next_payload, options, payload_of, run, stream, subscribe,
};

#[test]
fn closing_tells_how_many_messages_were_not_sent_and_how_many_may_have_arrived() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let (seen, has_seen) = tokio::sync::oneshot::channel();
        scope.spawn(|| {
            // A Receive Maximum of 2.
            let mut broker = Wire::accept_with(&listener, b"\0\0\x03\x21\0\x02");
            assert_eq!([broker.receive().0, broker.receive().0], [0x32, 0x32], "two PUBLISH of QoS 1");
            seen.send(()).unwrap();
            assert_eq!(broker.receive().0, 0xE0, "DISCONNECT");
        });
        run(async {
            let (client, _events) = Client::connect(Options::new(endpoint(address), Config::new("unheard")));
            let sent: Vec<_> =
                (0..5).map(|_| client.publish(message(&client, "x", QoS::AtLeastOnce)).unwrap()).collect();
            has_seen.await.unwrap();
            assert_eq!(client.close(Drain::at_once()).await, Left { unsent: 3, indeterminate: 2 });
            let mut outcomes = Vec::new();
            for completion in sent {
                outcomes.push(completion.await);
            }
            let indeterminate = Outcome::Indeterminate(IndeterminateReason::Closed);
            let unsent = Outcome::Dropped(DropReason::Closed);
            assert_eq!(outcomes[..2], [indeterminate.clone(), indeterminate]);
            assert_eq!(outcomes[2..], [unsent.clone(), unsent.clone(), unsent]);
        });
    });
}

#[test]
fn closing_waits_for_what_is_under_way_and_ends_the_streams() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, events) = Client::connect(options(&broker, "both"));
        events.detach();
        let mut stream = stream(&client, &["t"], Inbox::default()).await;
        drop(client.publish(message(&client, "x", QoS::ExactlyOnce)).unwrap());
        let left = client.close(Drain::within(LIMIT)).await;
        assert!(left.is_nothing());
        if let Some(inbound) = stream.next().await {
            assert_eq!(payload_of(&inbound), "x");
            assert!(stream.next().await.is_none());
        }
        assert_eq!(client.close(Drain::at_once()).await, left, "it may be asked again");
    });
    broker.end();
}

#[test]
fn detached_client_runs_until_its_last_handle_is_dropped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let (published, may_drop) = tokio::sync::oneshot::channel();
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        scope.spawn(|| {
            let mut broker = Wire::accept(&listener);
            broker.grant(1);
            let (id, payload) = broker.expect_publish_with_id("t");
            assert_eq!(payload, b"by a clone");
            broker.acknowledge(0x40, id);
            published.send(()).unwrap();
            assert_eq!(broker.receive().0, 0xE0, "DISCONNECT");
            broker.expect_end();
            ended.send(()).unwrap();
        });
        run(async {
            let (client, events) = Client::connect(Options::new(endpoint(address), Config::new("detached")));
            events.detach();
            let stream = stream(&client, &["u"], Inbox::default()).await;
            let clone = client.clone();
            drop(client);
            let outcome = clone.publish(message(&clone, "by a clone", QoS::AtLeastOnce)).unwrap().await;
            assert!(matches!(outcome, Outcome::Acknowledged { .. }));
            drop(clone);
            may_drop.await.unwrap();
            stream.detach();
            // The client ends by itself as long as the runtime lives.
            has_ended.await.unwrap();
        });
    });
}

#[test]
fn requests_have_their_outcome_when_the_runtime_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, _events) =
        runtime.block_on(async { Client::connect(Options::new(endpoint(address), Config::new("orphan"))) });
    let completion = client.publish(message(&client, "x", QoS::AtLeastOnce)).unwrap();
    let closing = client.close(Drain::within(LIMIT));

    drop(runtime);

    let mut both = pin!(futures::future::join(completion, closing));
    let polled = both.as_mut().poll(&mut Context::from_waker(noop_waker_ref()));
    let left = Left { unsent: 1, indeterminate: 0 };
    assert_eq!(polled, std::task::Poll::Ready((Outcome::Dropped(DropReason::Closed), left)));
}

#[test]
fn provider_may_take_its_time_and_one_that_fails_is_asked_again() {
    let broker = BrokerProcess::start(&[]);
    let address = broker.address();
    run(async {
        let mut options = Options::asking(Config::new("patient"), move |need| async move {
            tokio::task::yield_now().await;
            if need.attempt == 1 {
                return Err(std::io::Error::other("no token to be had"));
            }
            Ok((endpoint(address), ConnectParameters::default()))
        });
        options.config.backoff.first = Duration::from_millis(5);
        let (client, mut events) = Client::connect(options);
        assert!(matches!(events.next().await, Some(Event::Disconnected(_))));
        assert_eq!(client.last_transport_error().as_deref(), Some("no token to be had"));
        assert!(matches!(events.next().await, Some(Event::Connected(_))));
    });
    broker.end();
}

#[test]
fn client_closes_while_its_provider_has_not_answered() {
    run(async {
        let (client, events) = Client::connect(Options::asking(Config::new("waiting"), |_| std::future::pending()));
        tokio::task::yield_now().await;
        drop(client.close(Drain::at_once()));
        events.join().await;
    });
}

#[test]
fn client_goes_round_its_endpoints_and_where_the_broker_sends_it() {
    let broker = BrokerProcess::start(&[]);
    // A port that was free a moment ago, so that nobody listens.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let moved = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoints = vec![endpoint(dead), endpoint(moved.local_addr().unwrap())];
    let reference = endpoint(broker.address()).to_string();
    thread::scope(|scope| {
        scope.spawn(|| {
            // Use another server, with a Server Reference.
            let length = u8::try_from(reference.len()).unwrap();
            let head = [0, 0x9C, length + 3, 0x1C, 0, length];
            Wire::accept_with(&moved, &[&head, reference.as_bytes()].concat()).expect_end();
        });
        run(async {
            let mut options = Options::rotating(endpoints, Config::new("nomad"), ConnectParameters::default());
            options.config.backoff.first = Duration::from_millis(5);
            let (client, mut events) = Client::connect(options);
            subscribe(&client, "t", QoS::AtLeastOnce).await;
            drop(client.publish(message(&client, "here", QoS::AtLeastOnce)).unwrap());
            assert_eq!(next_payload(&mut events).await, "here");
        });
    });
    broker.end();
}

#[test]
fn request_that_nobody_answers_ends_at_its_deadline() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, _events) = Client::connect(options(&broker, "asking"));
        let _silent = stream(&client, &["t"], Inbox::default()).await;
        let asked = client.request(message(&client, "?", QoS::AtLeastOnce), Duration::from_millis(50)).unwrap();
        assert_eq!(asked.await, Err(Outcome::Unanswered(UnansweredReason::Deadline)));
    });
    broker.end();
}

#[test]
fn reply_to_what_is_no_request_is_refused() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, _events) = Client::connect(options(&broker, "both"));
        let mut messages = stream(&client, &["t"], Inbox::default()).await;
        drop(client.publish(message(&client, "no question", QoS::AtLeastOnce)).unwrap());
        let inbound = messages.next().await.unwrap();
        let refused = client.reply(&inbound, b"what?", Properties::EMPTY).map(drop);
        assert_eq!(refused, Err(UsageError::NoResponseTopic));
    });
    broker.end();
}
