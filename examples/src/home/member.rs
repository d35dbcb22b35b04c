//! How the clients of the house are configured.

use std::time::Duration;

use damselfly_client::{Backoff, Config, ConnectParameters, Will};
use damselfly_codec::QoS;
use damselfly_session::SessionExpiry;
use damselfly_topic::{KeyedState, TopicFilter, TopicFilterBuf, TopicNameBuf};

use super::house::{Device, Kind};
use super::value::{Payload, Value};

/// How long the broker keeps the session of a device that is away.
const EXPIRY: u32 = 24 * 60 * 60;
/// The Keep Alive of the others.
const LONG: u16 = 10;

/// What a client of the house is configured with; `keep_alive` is that of lamps and of the phone, in seconds.
pub fn config(device: &Device, keep_alive: u16) -> Config {
    let mut config = Config::new(&device.id);
    config.version = device.version;
    config.session_expiry = SessionExpiry::from_wire(Some(EXPIRY));
    config.keep_alive = if matches!(device.kind, Kind::Lamp | Kind::Phone) { keep_alive } else { LONG };
    config.ping_timeout = match device.kind {
        // It may not read for a while, and stays.
        Kind::Display => Duration::from_secs(60),
        _ => Duration::from_secs(3),
    };
    let mut backoff = Backoff::default();
    (backoff.first, backoff.longest) = (Duration::from_millis(400), Duration::from_secs(3));
    backoff.stable_after = Duration::from_secs(5);
    config.backoff = backoff;
    config
}

/// What it connects with: its name, its password, and its will.
pub fn parameters(device: &Device, secret: u64) -> ConnectParameters {
    let mut parameters = ConnectParameters::default();
    parameters.user_name = Some(device.id.as_str().into());
    parameters.password = Some(password(secret, &device.id).into_bytes().into());
    let has_status = !matches!(device.kind, Kind::Rules | Kind::Feed);
    if let Some(topic) = TopicNameBuf::new(device.status_topic()).ok().filter(|_| has_status) {
        let mut will = Will::new(topic, Payload::write(&Value::text("offline"), None, &device.id).into_bytes());
        (will.qos, will.retain) = (QoS::AtLeastOnce, true);
        parameters.will = Some(will);
    }
    parameters
}

/// The password of a device: the house makes them up when it starts.
pub fn password(secret: u64, client_id: &str) -> String {
    format!("{:016x}", KeyedState::new(secret ^ 0x9A55_3027).hash_bytes(client_id.as_bytes()))
}

/// What it subscribes to.
pub fn subscriptions(device: &Device) -> Vec<(TopicFilterBuf, QoS)> {
    let set = format!("{}/set", device.topic);
    let filters: Vec<(&str, QoS)> = match device.kind {
        Kind::Lamp | Kind::Plug | Kind::Heating => vec![(&set, QoS::AtLeastOnce)],
        Kind::Lock => vec![(&set, QoS::ExactlyOnce)],
        _ if device.is_battery() => vec![(&set, QoS::AtLeastOnce)],
        Kind::Phone => vec![("home/phone/notify", QoS::ExactlyOnce)],
        Kind::Display => vec![("home/#", QoS::AtLeastOnce)],
        Kind::Rules => vec![("home/+/+", QoS::ExactlyOnce), ("home/+/+/status", QoS::AtLeastOnce)],
        Kind::Feed => vec![("home/+/+/status", QoS::AtLeastOnce), ("house/break/+", QoS::AtLeastOnce)],
        _ => Vec::new(),
    };
    let checked = filters.into_iter().filter_map(|(text, qos)| Some((TopicFilter::new(text).ok()?.to_buf(), qos)));
    checked.collect()
}
