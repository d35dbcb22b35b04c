//! The client driver in few words.

use std::{future::Future, net::SocketAddr};

use damselfly_client::{Config, Event, InboundMessage, Message, Outcome};
use damselfly_codec::{Properties, QoS, SubscriptionOptions};
use damselfly_examples::client::{Client, Endpoint, Events, Inbox, Options, Subscription};
use damselfly_topic::TopicFilter;

use super::{BrokerProcess, LIMIT};

/// Runs a test's work on a runtime of its own, for a bounded time.
pub(crate) fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, work).await }).unwrap();
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(address.ip().to_string(), address.port())
}

pub(crate) fn options(broker: &BrokerProcess, client_id: &str) -> Options {
    Options::new(endpoint(broker.address()), Config::new(client_id))
}

/// Subscribes without a stream.
pub(crate) async fn subscribe(client: &Client, filter: &str, qos: QoS) {
    assert_eq!(outcome_of_subscribing(client, filter, qos).await, Outcome::Subscribed(vec![Ok(qos)]));
}

pub(crate) async fn outcome_of_subscribing(client: &Client, filter: &str, qos: QoS) -> Outcome {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    let filter = TopicFilter::new(filter).unwrap();
    client.subscribe_to_events(&[(filter, options)], Properties::EMPTY).unwrap().await
}

/// A stream of these filters, of QoS 1, which the broker has granted.
pub(crate) async fn stream(client: &Client, filters: &[&str], inbox: Inbox) -> Subscription {
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let filters: Vec<_> = filters.iter().map(|filter| (TopicFilter::new(filter).unwrap(), options)).collect();
    let mut stream = client.subscribe(&filters, Properties::EMPTY, inbox).unwrap();
    assert_eq!(stream.granted().await, Outcome::Subscribed(vec![Ok(QoS::AtLeastOnce); filters.len()]));
    stream
}

/// A message to the topic `t`.
pub(crate) fn message(client: &Client, payload: &str, qos: QoS) -> Message {
    client.message("t", payload.as_bytes(), qos, false, Properties::EMPTY).unwrap()
}

pub(crate) fn payload_of(inbound: &InboundMessage) -> String {
    String::from_utf8_lossy(inbound.message.payload()).into_owned()
}

/// The payload of the next message among the events.
pub(crate) async fn next_payload(events: &mut Events) -> String {
    loop {
        match events.next().await {
            Some(Event::Message(inbound)) => return payload_of(&inbound),
            Some(_) => {}
            None => panic!("the client ended"),
        }
    }
}
