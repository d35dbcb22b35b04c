//! How `mqtt sub` prints a message: the format language of `-F`.

use std::{
    io::{self, Write},
    str::FromStr,
    time::{Duration, UNIX_EPOCH},
};

use damselfly_codec::{Properties, QoS};
use damselfly_examples::civil_from_days;
use damselfly_topic::TopicName;
use serde_json::{Map, Value, json};

/// The long help of `-F`.
pub(crate) const HELP: &str = "How to print a message. Everything is printed as it stands, except:
  %t topic            %p payload           %q QoS              %r RETAIN flag, 0 or 1
  %l payload length   %x payload in hex    %X in upper case    %U Unix time with nanoseconds
  %I date and time    %j JSON, payload as a string              %J JSON, payload as JSON
  %C content type     %R response topic    %D correlation data %E subscription identifiers
  %e message expiry   %F payload format    %P user properties  %% a percent sign
  \\n line end  \\t tab  \\r carriage return  \\0 null  \\a bell  \\e escape  \\\\ backslash
A line end is added at the end, unless -N is given.";

/// What a message offers to a format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: Properties<'a>,
    pub(crate) subscription_ids: &'a [u32],
    pub(crate) message_expiry_interval: Option<u32>,
    /// Time of arrival since the Unix epoch.
    pub(crate) at: Duration,
}

/// A parsed format: literal text and fields in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Topic,
    Payload,
    Qos,
    Retain,
    Length,
    Hex { upper: bool },
    UnixTime,
    DateTime,
    Json { parse_payload: bool },
    ContentType,
    ResponseTopic,
    CorrelationData,
    SubscriptionIds,
    MessageExpiry,
    PayloadFormat,
    UserProperties,
}

impl Field {
    fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            't' => Self::Topic,
            'p' => Self::Payload,
            'q' => Self::Qos,
            'r' => Self::Retain,
            'l' => Self::Length,
            'x' => Self::Hex { upper: false },
            'X' => Self::Hex { upper: true },
            'U' => Self::UnixTime,
            'I' => Self::DateTime,
            'j' => Self::Json { parse_payload: false },
            'J' => Self::Json { parse_payload: true },
            'C' => Self::ContentType,
            'R' => Self::ResponseTopic,
            'D' => Self::CorrelationData,
            'E' => Self::SubscriptionIds,
            'e' => Self::MessageExpiry,
            'F' => Self::PayloadFormat,
            'P' => Self::UserProperties,
            _ => return None,
        })
    }
}

impl Format {
    /// The payload alone: what is printed without `-F`.
    pub(crate) fn payload() -> Self {
        Self(vec![Part::Field(Field::Payload)])
    }

    /// Topic, blank, payload: what `-v` prints.
    pub(crate) fn verbose() -> Self {
        Self(vec![Part::Field(Field::Topic), Part::Literal(b" ".to_vec()), Part::Field(Field::Payload)])
    }

    /// Prints one message.
    pub(crate) fn write(&self, message: &Received<'_>, out: &mut impl Write) -> io::Result<()> {
        for part in &self.0 {
            match part {
                Part::Literal(bytes) => out.write_all(bytes)?,
                Part::Field(field) => write_field(*field, message, out)?,
            }
        }
        Ok(())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '%' => match letters.next() {
                    Some('%') => literal.push('%'),
                    Some(letter) => {
                        let Some(field) = Field::from_letter(letter) else {
                            return Err(format!("%{letter} is no field; --help lists them (a percent sign is %%)"));
                        };
                        flush(&mut literal, &mut parts);
                        parts.push(Part::Field(field));
                    }
                    None => return Err("a single % at the end; a percent sign is %%".into()),
                },
                '\\' => literal.push(escaped(letters.next())?),
                letter => literal.push(letter),
            }
        }
        flush(&mut literal, &mut parts);
        Ok(Self(parts))
    }
}

fn flush(literal: &mut String, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal).into_bytes()));
    }
}

fn escaped(letter: Option<char>) -> Result<char, String> {
    Ok(match letter {
        Some('n') => '\n',
        Some('t') => '\t',
        Some('r') => '\r',
        Some('0') => '\0',
        Some('a') => '\x07',
        Some('e') => '\x1b',
        Some('\\') => '\\',
        Some(other) => return Err(format!("\\{other} is no escape; there are \\n \\t \\r \\0 \\a \\e \\\\")),
        None => return Err("a single \\ at the end; a backslash is \\\\".into()),
    })
}

fn write_field(field: Field, message: &Received<'_>, out: &mut impl Write) -> io::Result<()> {
    let properties = message.properties;
    match field {
        Field::Topic => out.write_all(message.topic.as_bytes()),
        Field::Payload => out.write_all(message.payload),
        Field::Qos => write!(out, "{}", level(message.qos)),
        Field::Retain => write!(out, "{}", u8::from(message.retain)),
        Field::Length => write!(out, "{}", message.payload.len()),
        Field::Hex { upper } => write_hex(message.payload, upper, out),
        Field::UnixTime => write!(out, "{}.{:09}", message.at.as_secs(), message.at.subsec_nanos()),
        Field::DateTime => out.write_all(date_time(message.at).as_bytes()),
        Field::Json { parse_payload } => write!(out, "{}", json_of(message, parse_payload)),
        Field::ContentType => out.write_all(properties.content_type().unwrap_or_default().as_bytes()),
        Field::ResponseTopic => out.write_all(properties.response_topic().map_or("", TopicName::as_str).as_bytes()),
        Field::CorrelationData => out.write_all(properties.correlation_data().unwrap_or_default()),
        Field::SubscriptionIds => {
            let ids: Vec<String> = message.subscription_ids.iter().map(u32::to_string).collect();
            out.write_all(ids.join(" ").as_bytes())
        }
        Field::MessageExpiry => match message.message_expiry_interval {
            Some(seconds) => write!(out, "{seconds}"),
            None => Ok(()),
        },
        Field::PayloadFormat => match properties.payload_format_indicator() {
            Some(indicator) => write!(out, "{}", u8::from(indicator)),
            None => Ok(()),
        },
        Field::UserProperties => {
            let pairs: Vec<String> =
                properties.user_properties().map(|(key, value)| format!("{key}:{value}")).collect();
            out.write_all(pairs.join(" ").as_bytes())
        }
    }
}

const fn level(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

fn write_hex(bytes: &[u8], upper: bool, out: &mut impl Write) -> io::Result<()> {
    bytes.iter().try_for_each(|byte| if upper { write!(out, "{byte:02X}") } else { write!(out, "{byte:02x}") })
}

/// One object per message. A payload that is not UTF-8 is shown with replacement characters; one that is not JSON
/// stays a string.
fn json_of(message: &Received<'_>, parse_payload: bool) -> Value {
    let text = || Value::from(String::from_utf8_lossy(message.payload));
    let payload =
        if parse_payload { serde_json::from_slice(message.payload).unwrap_or_else(|_| text()) } else { text() };
    let mut object = json!({
        "tst": date_time(message.at),
        "topic": message.topic,
        "qos": level(message.qos),
        "retain": u8::from(message.retain),
        "payloadlen": message.payload.len(),
        "payload": payload,
    });
    let properties = json_properties(message);
    if !properties.is_empty() {
        object["properties"] = Value::Object(properties);
    }
    object
}

fn json_properties(message: &Received<'_>) -> Map<String, Value> {
    let properties = message.properties;
    let mut object = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    };
    put("payload-format-indicator", properties.payload_format_indicator().map(|flag| u8::from(flag).into()));
    put("message-expiry-interval", message.message_expiry_interval.map(Value::from));
    put("content-type", properties.content_type().map(Value::from));
    put("response-topic", properties.response_topic().map(|topic| topic.as_str().into()));
    put("correlation-data", properties.correlation_data().map(|data| String::from_utf8_lossy(data).into()));
    let ids: Vec<Value> = message.subscription_ids.iter().map(|id| Value::from(*id)).collect();
    put("subscription-identifier", (!ids.is_empty()).then_some(Value::Array(ids)));
    let users: Vec<Value> = properties.user_properties().map(|(key, value)| json!({ key: value })).collect();
    put("user-properties", (!users.is_empty()).then_some(Value::Array(users)));
    object
}

/// ISO 8601 in UTC with microseconds.
fn date_time(at: Duration) -> String {
    let seconds = at.as_secs();
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", at.subsec_micros())
}

/// The time of day of this computer since the Unix epoch.
pub(crate) fn now() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use damselfly_codec::{PropertiesBuf, Property};

    use super::*;

    fn print(format: &str, message: &Received<'_>) -> String {
        let mut out = Vec::new();
        format.parse::<Format>().unwrap().write(message, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn received<'a>(payload: &'a [u8], properties: Properties<'a>) -> Received<'a> {
        Received {
            topic: "a/b",
            payload,
            qos: QoS::AtLeastOnce,
            retain: true,
            properties,
            subscription_ids: &[3, 5],
            message_expiry_interval: Some(9),
            at: Duration::new(1_700_000_000, 250_000_000),
        }
    }

    #[test]
    fn each_field_prints_its_part() {
        let mut properties = PropertiesBuf::new();
        for property in [
            Property::ContentType("text/plain"),
            Property::ResponseTopic(TopicName::new("re/ply").unwrap()),
            Property::CorrelationData(b"42"),
            Property::PayloadFormatIndicator(true),
            Property::UserProperty("k", "v"),
            Property::UserProperty("k", "w"),
        ] {
            properties.push(property).unwrap();
        }
        let message = received(b"x\xFF", properties.as_properties());
        for (format, text) in [
            ("%t %q %r %l", "a/b 1 1 2"),
            ("%x|%X", "78ff|78FF"),
            ("%U", "1700000000.250000000"),
            ("%I", "2023-11-14T22:13:20.250000Z"),
            ("%C %R %D", "text/plain re/ply 42"),
            ("%E %e %F %P", "3 5 9 1 k:v k:w"),
            ("100%% \\t\\n\\\\", "100% \t\n\\"),
        ] {
            assert_eq!(print(format, &message), text, "{format}");
        }
    }

    #[test]
    fn json_has_the_payload_as_text_or_as_json() {
        let message = received(b"{\"on\":true}", Properties::EMPTY);
        let text: Value = serde_json::from_str(&print("%j", &message)).unwrap();
        assert_eq!((&text["topic"], &text["payload"]), (&json!("a/b"), &json!("{\"on\":true}")));
        assert_eq!(text["properties"]["subscription-identifier"], json!([3, 5]));
        let parsed: Value = serde_json::from_str(&print("%J", &message)).unwrap();
        assert_eq!(parsed["payload"]["on"], json!(true));
        let not_json: Value = serde_json::from_str(&print("%J", &received(b"on", Properties::EMPTY))).unwrap();
        assert_eq!(not_json["payload"], json!("on"));
    }

    #[test]
    fn wrong_format_says_what_would_be_right() {
        for (format, hint) in [("%z", "%z is no field"), ("50%", "%%"), ("\\q", "escape"), ("a\\", "backslash")] {
            assert!(format.parse::<Format>().unwrap_err().contains(hint), "{format}");
        }
    }
}
