//! rumqttc's client for 5.0.

use std::{process, thread, time::Duration};

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, LastWill, Packet, Publish, PublishProperties, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::{Client, Event, MqttOptions};
use serde_json::{Value, json};

use crate::Failure;
use crate::requests::{self, Connect, Message, Request};

const MAX_PACKET_SIZE: u32 = 1 << 20;

pub(crate) fn run(connect: &Connect, requests: impl Iterator<Item = Result<Request, Failure>>) -> Result<(), Failure> {
    let mut options = MqttOptions::new(&connect.client_id, &connect.host, connect.port);
    options.set_clean_start(connect.clean);
    options.set_keep_alive(Duration::from_secs(30));
    options.set_session_expiry_interval(Some(connect.expiry));
    options.set_max_packet_size(Some(MAX_PACKET_SIZE));
    if let Some(will) = &connect.will {
        options.set_last_will(LastWill::new(&will.topic, will.payload.clone(), qos(will.qos)?, will.retain, None));
    }
    let (client, mut connection) = Client::new(options, 100);
    thread::spawn(move || {
        for event in connection.iter() {
            match event {
                Ok(event) => report(event),
                Err(error) => {
                    requests::report_closed(&error.to_string());
                    process::exit(1);
                }
            }
        }
    });
    for request in requests {
        match request? {
            Request::Connect(_) => return Err("connects once".into()),
            Request::Subscribe { filter, qos, flags } => client.subscribe_many([subscription(filter, qos, &flags)?])?,
            Request::Unsubscribe { filter } => client.unsubscribe(filter)?,
            Request::Publish { message, properties } => client.publish_with_properties(
                message.topic,
                qos(message.qos)?,
                message.retain,
                message.payload,
                properties_of(&properties),
            )?,
            Request::Disconnect => client.disconnect()?,
        }
    }
    Ok(())
}

fn report(event: Event) {
    match event {
        Event::Incoming(Packet::ConnAck(connack)) => requests::report_connected(connack.session_present),
        Event::Incoming(Packet::Publish(publish)) => report_message(&publish),
        Event::Incoming(Packet::SubAck(suback)) => suback.return_codes.iter().for_each(|code| {
            requests::report_subscribed(match code {
                SubscribeReasonCode::Success(level) => number(*level),
                _ => 0x80,
            });
        }),
        Event::Incoming(Packet::UnsubAck(_)) => requests::report_unsubscribed(),
        Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) | Event::Outgoing(Outgoing::Publish(0)) => {
            requests::report_published();
        }
        Event::Outgoing(Outgoing::Disconnect) => process::exit(0),
        Event::Incoming(_) | Event::Outgoing(_) => {}
    }
}

fn report_message(publish: &Publish) {
    let message = Message {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload.to_vec(),
        qos: number(publish.qos),
        retain: publish.retain,
    };
    let Some(properties) = &publish.properties else {
        message.report(&json!({}));
        return;
    };
    let correlation_data = properties.correlation_data.as_ref().map(|data| String::from_utf8_lossy(data).into_owned());
    message.report(&json!({
        "content_type": properties.content_type,
        "response_topic": properties.response_topic,
        "correlation_data": correlation_data,
        "expiry": properties.message_expiry_interval,
        "user": properties.user_properties,
    }));
}

fn properties_of(value: &Value) -> PublishProperties {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let pairs = value["user"].as_array().cloned().unwrap_or_default();
    let pair = |pair: Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
    PublishProperties {
        content_type: text("content_type"),
        response_topic: text("response_topic"),
        correlation_data: text("correlation_data").map(Into::into),
        message_expiry_interval: value["expiry"].as_u64().and_then(|seconds| seconds.try_into().ok()),
        user_properties: pairs.into_iter().filter_map(pair).collect(),
        ..PublishProperties::default()
    }
}

fn subscription(filter: String, level: u8, flags: &Value) -> Result<Filter, Failure> {
    let is_set = |name: &str| flags[name].as_bool().unwrap_or_default();
    let mut subscription = Filter::new(filter, qos(level)?);
    subscription.nolocal = is_set("no_local");
    subscription.preserve_retain = is_set("retain_as_published");
    if flags["retain_handling"] == 2 {
        subscription.retain_forward_rule = RetainForwardRule::Never;
    }
    Ok(subscription)
}

fn qos(number: u8) -> Result<QoS, Failure> {
    Ok(rumqttc::v5::mqttbytes::qos(number).ok_or("not a QoS")?)
}

fn number(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}
