//! rumqttc's asynchronous client: a task that publishes, and the loop that its user has to poll.

use std::time::Duration;

use bytes::Bytes;
use damselfly_benches::process::Outcome;
use damselfly_codec::{QoS, Version};

use crate::work::{Meter, PAYLOAD, Role, TOPIC, Work, say_ready};

pub async fn run(work: &Work) -> Outcome<()> {
    match work.load.version() {
        Version::V5_0 => version_5_0(work).await,
        Version::V3_1 | Version::V3_1_1 => version_3_1_1(work).await,
    }
}

/// Both versions have the same face under other names.
macro_rules! client {
    ($name:ident, $client:path, $options:path, $event:path, $qos:path, $packets:path, $prepare:expr, $tune:expr) => {
        async fn $name(work: &Work) -> Outcome<()> {
            use $client as AsyncClient;
            use $event as Event;
            use $options as MqttOptions;
            use $packets as Packet;
            use $qos as Level;

            let mut options = MqttOptions::new("under-test", work.address.ip().to_string(), work.address.port());
            options.set_keep_alive(Duration::from_secs(60)).set_pending_throttle(Duration::ZERO);
            $prepare(&mut options, work.load.window);
            let (client, mut events) = AsyncClient::new(options, work.load.window.into());
            $tune(&mut events);
            let level = if work.qos == QoS::AtMostOnce { Level::AtMostOnce } else { Level::AtLeastOnce };
            if work.role == Role::Receive {
                client.subscribe(TOPIC, level).await?;
            }
            let mut meter = Meter::new(&work.load);
            let (role, messages) = (work.role, work.load.total());
            let written = role == Role::Publish && work.qos == QoS::AtMostOnce;
            loop {
                let is_one = match events.poll().await? {
                    Event::Incoming(Packet::ConnAck(_)) if role == Role::Publish => {
                        say_ready();
                        let client = client.clone();
                        drop(tokio::spawn(async move {
                            for _ in 0..messages {
                                if client
                                    .publish_bytes(TOPIC, level, false, Bytes::from_static(&PAYLOAD))
                                    .await
                                    .is_err()
                                {
                                    return;
                                }
                            }
                        }));
                        false
                    }
                    Event::Incoming(Packet::SubAck(_)) => {
                        say_ready();
                        false
                    }
                    Event::Incoming(Packet::Publish(_)) => true,
                    Event::Incoming(Packet::PubAck(_)) => true,
                    Event::Outgoing(rumqttc::Outgoing::Publish(_)) => written,
                    _ => false,
                };
                if is_one && meter.note(1)? {
                    return Ok(());
                }
            }
        }
    };
}

client!(
    version_3_1_1,
    rumqttc::AsyncClient,
    rumqttc::MqttOptions,
    rumqttc::Event,
    rumqttc::QoS,
    rumqttc::Packet,
    |options: &mut rumqttc::MqttOptions, window| {
        options.set_inflight(window);
    },
    |events: &mut rumqttc::EventLoop| {
        events.network_options.set_tcp_nodelay(true);
    }
);
client!(
    version_5_0,
    rumqttc::v5::AsyncClient,
    rumqttc::v5::MqttOptions,
    rumqttc::v5::Event,
    rumqttc::v5::mqttbytes::QoS,
    rumqttc::v5::mqttbytes::v5::Packet,
    |options: &mut rumqttc::v5::MqttOptions, window| {
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_outgoing_inflight_upper_limit(window).set_network_options(network);
    },
    |_: &mut rumqttc::v5::EventLoop| {}
);
