//! What the program tells the page: the topics below `house/`.

use std::collections::{BTreeMap, VecDeque};

use damselfly_codec::{QoS, Version};
use damselfly_session::Timestamp;
use serde_json::{Value, json};

use super::faults::{FaultName, Faults};
use super::house::Device;
use super::rules::Engine;

/// The most messages that one `house/traffic` names.
const MAX_MOVES: usize = 60;
/// The most events that wait to be told; the oldest go.
const MAX_EVENTS: usize = 500;

/// What happened since the page was told.
#[derive(Debug, Default)]
pub(super) struct Feed {
    moves: Vec<Value>,
    up: u64,
    down: u64,
    told_at: Timestamp,
    events: VecDeque<String>,
}

impl Feed {
    /// A message went to the broker or came from it.
    pub(super) fn note_move(&mut self, device: &Device, is_up: bool, qos: QoS, topic: &str) {
        *(if is_up { &mut self.up } else { &mut self.down }) += 1;
        if self.moves.len() < MAX_MOVES {
            let way = if is_up { "up" } else { "down" };
            self.moves.push(json!([device.id, way, u8::from(qos), topic]));
        }
    }

    /// `house/traffic` since the last time; `None` if there was none.
    pub(super) fn take_traffic(&mut self, now: Timestamp) -> Option<String> {
        let seconds = now.saturating_since(self.told_at).as_secs_f64().max(0.001);
        self.told_at = now;
        let count = |count: &mut u64| {
            let count = u32::try_from(std::mem::take(count)).unwrap_or(u32::MAX);
            (f64::from(count) / seconds).round()
        };
        let (up, down) = (count(&mut self.up), count(&mut self.down));
        let moves = std::mem::take(&mut self.moves);
        (!moves.is_empty()).then(|| json!({"moves": moves, "per_second": {"up": up, "down": down}}).to_string())
    }

    /// Something happened.
    pub(super) fn note_event(&mut self, at: u128, kind: &str, client: Option<&str>, text: &str) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        self.events.push_back(json!({"at": at, "kind": kind, "client": client, "text": text}).to_string());
    }

    pub(super) fn take_event(&mut self) -> Option<String> {
        self.events.pop_front()
    }
}

/// `house/clients`.
pub(super) fn clients(devices: &[Device]) -> String {
    let client = |device: &Device| {
        let version = if device.version == Version::V5_0 { "5.0" } else { "3.1.1" };
        let power = if device.is_battery() { "battery" } else { "mains" };
        json!({
            "id": device.id, "room": device.room, "device": device.name, "kind": device.kind.word(), "version": version,
            "power": power,
        })
    };
    json!({"clients": devices.iter().map(client).collect::<Vec<_>>()}).to_string()
}

/// `house/faults`.
pub(super) fn faults(faults: &Faults, now: Timestamp) -> String {
    let counts: BTreeMap<FaultName, u64> = faults.counts().collect();
    let fault = |name: FaultName| {
        let left = faults.active(name).map(|(_, until)| millis(until.saturating_since(now).as_millis()));
        json!({
            "name": name.word(), "title": name.title(), "text": name.text(), "active": left.is_some(), "left_ms": left,
            "count": counts.get(&name),
        })
    };
    json!({"faults": FaultName::ALL.map(fault)}).to_string()
}

/// `house/rules`.
pub(super) fn rules(engine: &Engine, started: Timestamp, file: Option<&str>, error: Option<&str>) -> String {
    let rules: Vec<Value> = engine
        .rules()
        .map(|rule| {
            let at = rule.last.map(|(at, _)| millis(at.saturating_since(started).as_millis()));
            let cause = rule.last.map(|(_, cause)| cause);
            json!({"name": rule.name, "text": rule.text, "fired": rule.fired, "cause": cause, "at": at})
        })
        .collect();
    json!({"file": file, "rules": rules, "error": error}).to_string()
}

fn millis(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
