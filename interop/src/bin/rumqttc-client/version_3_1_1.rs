//! rumqttc's client for 3.1.1.

use std::{process, thread, time::Duration};

use rumqttc::{Client, Event, LastWill, MqttOptions, Outgoing, Packet, Publish, QoS, SubscribeReasonCode};
use serde_json::Value;

use crate::Failure;
use crate::requests::{self, Connect, Message, Request};

const MAX_PACKET_SIZE: usize = 1 << 20;

pub(crate) fn run(connect: &Connect, requests: impl Iterator<Item = Result<Request, Failure>>) -> Result<(), Failure> {
    let mut options = MqttOptions::new(&connect.client_id, &connect.host, connect.port);
    options.set_clean_session(connect.clean);
    options.set_keep_alive(Duration::from_secs(30));
    options.set_max_packet_size(MAX_PACKET_SIZE, MAX_PACKET_SIZE);
    if let Some(will) = &connect.will {
        options.set_last_will(LastWill::new(&will.topic, will.payload.clone(), qos(will.qos)?, will.retain));
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
            Request::Subscribe { filter, qos: level, .. } => client.subscribe(filter, qos(level)?)?,
            Request::Unsubscribe { filter } => client.unsubscribe(filter)?,
            Request::Publish { message, .. } => {
                client.publish(message.topic, qos(message.qos)?, message.retain, message.payload)?;
            }
            Request::Disconnect => client.disconnect()?,
        }
    }
    Ok(())
}

fn report(event: Event) {
    match event {
        Event::Incoming(Packet::ConnAck(connack)) => requests::report_connected(connack.session_present),
        Event::Incoming(Packet::Publish(publish)) => report_message(publish),
        Event::Incoming(Packet::SubAck(suback)) => suback.return_codes.iter().for_each(|code| {
            requests::report_subscribed(match code {
                SubscribeReasonCode::Success(level) => number(*level),
                SubscribeReasonCode::Failure => 0x80,
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

fn report_message(publish: Publish) {
    let message = Message {
        topic: publish.topic,
        payload: publish.payload.to_vec(),
        qos: number(publish.qos),
        retain: publish.retain,
    };
    message.report(&Value::Null);
}

fn qos(number: u8) -> Result<QoS, Failure> {
    Ok(rumqttc::qos(number)?)
}

fn number(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}
