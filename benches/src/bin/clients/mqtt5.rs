//! The client of the crate mqtt5: each publish is awaited, messages come to a callback.

use std::sync::{Arc, Mutex, PoisonError};

use damselfly_benches::process::Outcome;
use damselfly_codec::{QoS, Version};
use futures::{StreamExt, stream::FuturesUnordered};
use mqtt5::{ConnectOptions, MqttClient, ProtocolVersion, SubscribeOptions};
use tokio::sync::Notify;

use crate::work::{Meter, PAYLOAD, Role, TOPIC, Work, say_ready};

pub async fn run(work: &Work) -> Outcome<()> {
    let version = match work.load.version() {
        Version::V5_0 => ProtocolVersion::V5,
        Version::V3_1 | Version::V3_1_1 => ProtocolVersion::V311,
    };
    let options = ConnectOptions::new("under-test").with_clean_start(true).with_protocol_version(version);
    let client = MqttClient::with_options(options);
    client.connect(&format!("mqtt://{}", work.address)).await?;
    let meter = Meter::new(&work.load);
    match work.role {
        Role::Publish => {
            say_ready();
            publish(&client, work, meter).await
        }
        Role::Receive => receive(&client, work, meter).await,
    }
}

async fn publish(client: &MqttClient, work: &Work, mut meter: Meter) -> Outcome<()> {
    if work.qos == QoS::AtMostOnce {
        for _ in 0..work.load.total() {
            let _ = client.publish_qos0(TOPIC, PAYLOAD).await?;
            meter.note(1)?;
        }
        return Ok(());
    }
    let mut under_way = FuturesUnordered::new();
    for _ in 0..work.load.total() {
        if under_way.len() >= work.load.window.into() {
            let _ = under_way.next().await.transpose()?;
            meter.note(1)?;
        }
        under_way.push(client.publish_qos1(TOPIC, PAYLOAD));
    }
    while let Some(published) = under_way.next().await {
        let _ = published?;
        meter.note(1)?;
    }
    Ok(())
}

async fn receive(client: &MqttClient, work: &Work, meter: Meter) -> Outcome<()> {
    let done = Arc::new(Notify::new());
    let (meter, told) = (Mutex::new(meter), Arc::clone(&done));
    let qos = if work.qos == QoS::AtMostOnce { mqtt5::QoS::AtMostOnce } else { mqtt5::QoS::AtLeastOnce };
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    let _ = client
        .subscribe_with_options(TOPIC, options, move |_| {
            let is_last = meter.lock().unwrap_or_else(PoisonError::into_inner).note(1);
            if is_last.unwrap_or(true) {
                told.notify_one();
            }
        })
        .await?;
    say_ready();
    done.notified().await;
    Ok(())
}
