//! Our driver, as the client under test and as its counterpart.

use std::{collections::VecDeque, net::SocketAddr};

use damselfly_benches::process::Outcome;
use damselfly_client::{Config, Outcome as Became, SubscriptionOptions, TopicFilter};
use damselfly_codec::{Properties, QoS, Version};
use damselfly_examples::client::{Client, Completion, Endpoint, Inbox, Options, Overflow, Subscription};

use crate::work::{Meter, PAYLOAD, Role, TOPIC, Work, say_ready};

/// A stream with room for so many messages.
const INBOX: usize = 10_000;

pub async fn run(work: &Work) -> Outcome<()> {
    let client = connect(work.address, work.load.version(), "under-test");
    let mut meter = Meter::new(&work.load);
    match work.role {
        Role::Publish => {
            say_ready();
            for part in [work.load.warm_up, work.load.messages] {
                publish(&client, part, work.qos, work.load.window.into()).await?;
                meter.note(part)?;
            }
        }
        Role::Receive => {
            let mut messages = subscribe(&client, work.qos).await?;
            say_ready();
            while messages.next().await.is_some() {
                if meter.note(1)? {
                    break;
                }
            }
        }
    }
    Ok(())
}

pub fn connect(address: SocketAddr, version: Version, client_id: &str) -> Client {
    let mut config = Config::new(client_id);
    config.version = version;
    let endpoint = Endpoint::new(address.ip().to_string(), address.port());
    let (client, events) = Client::connect(Options::new(endpoint, config));
    events.detach();
    client
}

pub async fn subscribe(client: &Client, qos: QoS) -> Outcome<Subscription> {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    let filters = [(TopicFilter::new(TOPIC)?, options)];
    let mut stream = client.subscribe(&filters, Properties::EMPTY, Inbox::new(INBOX, Overflow::Pause))?;
    match stream.granted().await {
        Became::Subscribed(results) if results.iter().all(Result::is_ok) => Ok(stream),
        other => Err(other.to_string().into()),
    }
}

/// Returns when the last message is written, or acknowledged.
pub async fn publish(client: &Client, messages: u64, qos: QoS, window: usize) -> Outcome<()> {
    let mut under_way = VecDeque::new();
    // Bytes leave in order, so the last one of QoS 0 speaks for those before it.
    let window = if qos == QoS::AtMostOnce { 1 } else { window };
    for _ in 0..messages {
        let message = client.message(TOPIC, &PAYLOAD, qos, false, Properties::EMPTY)?;
        let completion = client.publish_when_room(message).await?;
        if under_way.len() == window {
            let oldest = under_way.pop_front();
            if qos != QoS::AtMostOnce {
                finish(oldest).await?;
            }
        }
        under_way.push_back(completion);
    }
    for completion in under_way {
        finish(Some(completion)).await?;
    }
    Ok(())
}

async fn finish(completion: Option<Completion>) -> Outcome<()> {
    let Some(completion) = completion else { return Ok(()) };
    match completion.await {
        Became::Transmitted | Became::Acknowledged { .. } => Ok(()),
        other => Err(other.to_string().into()),
    }
}
