//! Requests and reports as lines of JSON.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::Failure;

#[derive(Debug)]
pub(crate) enum Request {
    Connect(Connect),
    Subscribe { filter: String, qos: u8, flags: Value },
    Unsubscribe { filter: String },
    Publish { message: Message, properties: Value },
    Disconnect,
}

#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) version: String,
    pub(crate) client_id: String,
    pub(crate) clean: bool,
    /// Seconds; 5.0 only.
    pub(crate) expiry: u32,
    pub(crate) will: Option<Message>,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

impl Request {
    pub(crate) fn parse(line: &str) -> Result<Self, Failure> {
        let value: Value = serde_json::from_str(line)?;
        Ok(match value["request"].as_str() {
            Some("connect") => Self::Connect(Connect {
                host: text(&value, "host")?,
                port: u16::try_from(number(&value, "port")?)?,
                version: text(&value, "version")?,
                client_id: text(&value, "client_id")?,
                clean: value["clean"].as_bool().unwrap_or_default(),
                expiry: u32::try_from(number(&value, "expiry")?)?,
                will: if value["will"].is_null() { None } else { Some(Message::parse(&value["will"])?) },
            }),
            Some("subscribe") => Self::Subscribe {
                filter: text(&value, "filter")?,
                qos: u8::try_from(number(&value, "qos")?)?,
                flags: value["flags"].clone(),
            },
            Some("unsubscribe") => Self::Unsubscribe { filter: text(&value, "filter")? },
            Some("publish") => {
                Self::Publish { message: Message::parse(&value)?, properties: value["properties"].clone() }
            }
            Some("disconnect") => Self::Disconnect,
            _ => return Err(format!("not a request: {line}").into()),
        })
    }
}

impl Message {
    fn parse(value: &Value) -> Result<Self, Failure> {
        Ok(Self {
            topic: text(value, "topic")?,
            payload: from_hex(&text(value, "payload")?)?,
            qos: u8::try_from(number(value, "qos")?)?,
            retain: value["retain"].as_bool().unwrap_or_default(),
        })
    }

    pub(crate) fn report(&self, properties: &Value) {
        let payload = to_hex(&self.payload);
        report(&json!({
            "report": "message",
            "topic": self.topic,
            "payload": payload,
            "qos": self.qos,
            "retain": self.retain,
            "properties": properties,
        }));
    }
}

pub(crate) fn report_connected(session_present: bool) {
    report(&json!({ "report": "connected", "session_present": session_present }));
}

/// A granted QoS, or 128.
pub(crate) fn report_subscribed(code: u8) {
    report(&json!({ "report": "subscribed", "code": code }));
}

pub(crate) fn report_unsubscribed() {
    report(&json!({ "report": "unsubscribed" }));
}

pub(crate) fn report_published() {
    report(&json!({ "report": "published" }));
}

pub(crate) fn report_closed(text: &str) {
    report(&json!({ "report": "closed", "text": text }));
}

fn report(value: &Value) {
    let mut out = io::stdout().lock();
    // A reader that is gone ends the run by itself.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

fn text(value: &Value, name: &str) -> Result<String, Failure> {
    Ok(value[name].as_str().ok_or_else(|| format!("{name} is missing"))?.to_owned())
}

fn number(value: &Value, name: &str) -> Result<u64, Failure> {
    Ok(value[name].as_u64().ok_or_else(|| format!("{name} is missing"))?)
}

fn from_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0F)]).collect()
}
