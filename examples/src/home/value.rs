//! What devices say: one value, as JSON.

use std::fmt;

use serde_json::json;

/// The value of a state or a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// On or off, yes or no.
    Bool(bool),
    /// A measure.
    Number(f64),
    /// A word, or a text for people.
    Text(String),
}

impl Value {
    /// A word.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// With one digit after the point, which is what sensors of a home know.
    pub(super) fn rounded(number: f64) -> Self {
        Self::Number((number * 10.0).round() / 10.0)
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(value) => json!(value),
            Self::Number(value) => json!(value),
            Self::Text(value) => json!(value),
        }
    }

    /// Is it the same as before, or a number that hardly differs?
    pub(super) fn is_near(&self, other: &Self, step: f64) -> bool {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => (one - other).abs() < step,
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// A payload as it stands in docs/guide/smart-home.md.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// What is said.
    pub value: Value,
    /// The number of the message among those of QoS 1 and 2 of its publisher, from 1.
    pub number: Option<u64>,
    /// Who says it.
    pub from: Option<String>,
}

impl Payload {
    /// The JSON text.
    pub fn write(value: &Value, number: Option<u64>, from: &str) -> String {
        let mut object = serde_json::Map::new();
        object.insert("value".to_owned(), value.to_json());
        if let Some(number) = number {
            object.insert("n".to_owned(), json!(number));
        }
        object.insert("from".to_owned(), json!(from));
        serde_json::Value::Object(object).to_string()
    }

    /// `None` if it is something else.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let object: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let value = match object.get("value")? {
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(value) => Value::Number(value.as_f64()?),
            serde_json::Value::String(value) => Value::Text(value.clone()),
            _ => return None,
        };
        let number = object.get("n").and_then(serde_json::Value::as_u64);
        let from = object.get("from").and_then(serde_json::Value::as_str).map(str::to_owned);
        Some(Self { value, number, from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_reads_as_it_is_written() {
        for value in [Value::Bool(true), Value::Number(21.4), Value::text("open \"x\"")] {
            for number in [None, Some(17)] {
                let text = Payload::write(&value, number, "living-lamp");
                let read = Payload::read(text.as_bytes()).unwrap();
                assert_eq!(read, Payload { value: value.clone(), number, from: Some("living-lamp".to_owned()) });
            }
        }
        for text in ["", "{}", "true", "{\"value\":[1]}", "{\"value\":null}", "\u{0}"] {
            assert_eq!(Payload::read(text.as_bytes()), None, "{text}");
        }
    }
}
