//! What a case expects of a packet, and whether one that came is it.

use damselfly_codec::{PacketType, PropertyId, Version};

use super::bytes::bytes;
use super::names::Names;
use super::property::{METHOD, Value, by_name};
use super::seen::Seen;
use super::token::Token;

/// What may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// A packet.
    Packet(Box<PacketPattern>),
    /// The end of the connection, with these Reason Codes in a DISCONNECT before it, if there is one.
    Closed(Vec<u8>),
}

/// What a packet has to look like. What is not said of a PUBLISH is not there: QoS, DUP, RETAIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PacketPattern {
    pub(super) packet_type: PacketType,
    /// The broker may say so, and then the case is not about it.
    pub(super) ends_case: bool,
    packet_id: Option<String>,
    qos: u8,
    dup: Flag,
    retain: Flag,
    session_present: Flag,
    topic: Option<String>,
    payload: Option<String>,
    codes: Vec<Codes>,
    properties: Vec<PropertyPattern>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    Set,
    Unset,
    Either,
}

impl Flag {
    fn allows(self, is_set: bool) -> bool {
        match self {
            Self::Set => is_set,
            Self::Unset => !is_set,
            Self::Either => true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Codes {
    /// One of these.
    OneOf(Vec<u8>),
    /// Any refusal; one of these is meant by the standard.
    Failure(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PropertyPattern {
    Is(PropertyId, Token),
    Absent(PropertyId),
    /// No other properties than those named.
    Only,
}

/// How a packet compares with a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It is another kind of packet, or answers another request.
    Other,
    /// It is the one, apart from this.
    Differs(String),
    /// It is the one. A remark says what the standard would rather see.
    Fits { remark: Option<String> },
}

impl Pattern {
    /// What the tokens between two `|` describe.
    pub(super) fn parse(tokens: &[Token], version: Version) -> Result<Self, String> {
        let (ends_case, tokens) = match tokens {
            [Token::Word(word), rest @ ..] if word == "may" => (true, rest),
            _ => (false, tokens),
        };
        let (first, rest) = tokens.split_first().ok_or("what is expected is missing")?;
        if first.word() == Some("closed") {
            return Ok(Self::Closed(close_codes(rest)?));
        }
        let name = first.word().unwrap_or_default();
        let packet_type = packet_type(name)?;
        let mut pattern = PacketPattern {
            packet_type,
            ends_case,
            packet_id: None,
            qos: 0,
            dup: Flag::Unset,
            retain: Flag::Unset,
            session_present: Flag::Unset,
            topic: None,
            payload: None,
            codes: Vec::new(),
            properties: Vec::new(),
        };
        for token in rest {
            pattern.take(token, version)?;
        }
        Ok(Self::Packet(Box::new(pattern)))
    }
}

/// The type of this name.
pub(super) fn packet_type(name: &str) -> Result<PacketType, String> {
    let found = PacketType::ALL.into_iter().find(|packet_type| packet_type.name() == name);
    found.ok_or_else(|| format!("there is no packet {name}"))
}

/// Codes with `/` between them.
pub(super) fn close_codes(tokens: &[Token]) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    for token in tokens {
        let word = token.word().ok_or_else(|| format!("{token:?} is no Reason Code"))?;
        all.extend(codes(word)?);
    }
    Ok(all)
}

fn codes(text: &str) -> Result<Vec<u8>, String> {
    let code = |code: &str| u8::from_str_radix(code, 16).map_err(|_| format!("{code} is no Reason Code"));
    text.split('/').map(code).collect()
}

impl PacketPattern {
    fn take(&mut self, token: &Token, version: Version) -> Result<(), String> {
        match token {
            Token::Word(word) => match word.as_str() {
                "q0" | "q1" | "q2" => self.qos = word.trim_start_matches('q').parse().unwrap_or_default(),
                "dup" => self.dup = Flag::Set,
                "dup?" => self.dup = Flag::Either,
                "retain" => self.retain = Flag::Set,
                "retain?" => self.retain = Flag::Either,
                "present" => self.session_present = Flag::Set,
                "present?" => self.session_present = Flag::Either,
                "fail" => self.codes.push(Codes::Failure(Vec::new())),
                word if word.starts_with('#') => self.packet_id = Some(word.to_owned()),
                word if word.starts_with("fail:") => {
                    self.codes.push(Codes::Failure(codes(word.trim_start_matches("fail:"))?));
                }
                word if self.packet_type == PacketType::Publish && self.topic.is_none() => {
                    self.topic = Some(word.to_owned());
                }
                word => self.codes.push(Codes::OneOf(codes(word)?)),
            },
            Token::Text(text) if self.packet_type == PacketType::Publish => self.payload = Some(text.clone()),
            Token::Braces(list) if version == Version::V5_0 => {
                for token in list {
                    self.properties.push(property_pattern(token)?);
                }
            }
            other => return Err(format!("{} has no {other:?}", self.packet_type)),
        }
        Ok(())
    }

    /// The name this pattern gives to the Packet Identifier that came, if it is new.
    pub(super) fn binding(&self, names: &Names<'_>) -> Option<&str> {
        let name = self.packet_id.as_deref()?;
        names.packet_id(name).is_err().then(|| name.trim_start_matches('#'))
    }

    /// Whether a packet that came is the one, with what is meant by its names.
    pub(super) fn compare(&self, seen: &Seen, names: &Names<'_>) -> Comparison {
        if seen.packet_type != self.packet_type {
            return Comparison::Other;
        }
        let id = self.packet_id.as_deref().and_then(|name| names.packet_id(name).ok());
        let is_other_id = id.is_some() && id != seen.packet_id;
        if is_other_id && self.packet_type != PacketType::Publish {
            return Comparison::Other;
        }
        let differs = |what: &str| Comparison::Differs(what.to_owned());
        if is_other_id {
            return differs("the Packet Identifier");
        }
        if self.packet_type == PacketType::Publish {
            if self.topic.as_ref().is_some_and(|topic| topic != "*" && names.topic(topic) != seen.topic) {
                return differs("the Topic Name");
            }
            if self.payload.as_ref().is_some_and(|payload| payload.as_bytes() != seen.payload) {
                return differs("the payload");
            }
            if seen.qos != self.qos {
                return differs("the QoS");
            }
        }
        let flags = [
            (self.dup, seen.dup, "the DUP flag"),
            (self.retain, seen.retain, "the RETAIN flag"),
            (self.session_present, seen.session_present, "Session Present"),
        ];
        if let Some((_, _, what)) = flags.iter().find(|(flag, is_set, _)| !flag.allows(*is_set)) {
            return differs(what);
        }
        if let Some(what) = self.properties_differ(seen, names) {
            return Comparison::Differs(what);
        }
        self.compare_codes(seen, names.version)
    }

    fn compare_codes(&self, seen: &Seen, version: Version) -> Comparison {
        let is_unsuback_of_3 = self.packet_type == PacketType::Unsuback && version != Version::V5_0;
        if is_unsuback_of_3 {
            return Comparison::Fits { remark: None };
        }
        let is_ack = matches!(
            self.packet_type,
            PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp
        );
        let success = [Codes::OneOf(vec![0x00, 0x10])];
        let wanted = if is_ack && self.codes.is_empty() { &success[..] } else { &self.codes[..] };
        if wanted.len() != seen.codes.len() {
            return Comparison::Differs("how many Reason Codes there are".to_owned());
        }
        // Return codes of a CONNACK of 3.1.1 count from 1.
        let lowest_failure = if self.packet_type == PacketType::Connack && version != Version::V5_0 { 1 } else { 0x80 };
        let mut remark = None;
        for (wanted, came) in wanted.iter().zip(&seen.codes) {
            match wanted {
                Codes::OneOf(codes) if codes.contains(came) => {}
                Codes::Failure(_) if *came >= lowest_failure => remark = remark.or(meant(wanted, *came, version)),
                Codes::OneOf(_) | Codes::Failure(_) => return Comparison::Differs("the Reason Code".to_owned()),
            }
        }
        Comparison::Fits { remark }
    }

    fn properties_differ(&self, seen: &Seen, names: &Names<'_>) -> Option<String> {
        let mut rest: Vec<_> = seen.properties.iter().collect();
        for pattern in &self.properties {
            match pattern {
                PropertyPattern::Is(id, wanted) => {
                    // Of repeated ones the first that is left: their order counts. Subscription Identifiers have none.
                    let is_one = |(other, value): &&(PropertyId, Value)| {
                        other == id && (*id != PropertyId::SubscriptionIdentifier || fits(wanted, value, names))
                    };
                    let found = rest.iter().position(is_one).map(|index| rest.remove(index));
                    if !found.is_some_and(|(_, value)| fits(wanted, value, names)) {
                        return Some(super::property::name(*id));
                    }
                }
                PropertyPattern::Absent(id) if rest.iter().any(|(other, _)| other == id) => {
                    return Some(format!("{}, which should not be there,", super::property::name(*id)));
                }
                PropertyPattern::Absent(_) | PropertyPattern::Only => {}
            }
        }
        let is_only = self.properties.contains(&PropertyPattern::Only);
        rest.first()
            .filter(|_| is_only)
            .map(|(id, _)| format!("{}, which nobody asked for,", super::property::name(*id)))
    }
}

fn meant(wanted: &Codes, came: u8, version: Version) -> Option<String> {
    let (Codes::Failure(codes) | Codes::OneOf(codes)) = wanted;
    if codes.is_empty() || codes.contains(&came) || version != Version::V5_0 {
        return None;
    }
    Some(format!("the Reason Code is {came:02X}, {} is meant", list(codes)))
}

/// `81 or 82`
pub(super) fn list(codes: &[u8]) -> String {
    codes.iter().map(|code| format!("{code:02X}")).collect::<Vec<_>>().join(" or ")
}

fn property_pattern(token: &Token) -> Result<PropertyPattern, String> {
    match token {
        Token::Word(word) if word == "only" => Ok(PropertyPattern::Only),
        Token::Word(word) => {
            let name = word.strip_prefix('!').ok_or_else(|| format!("{word} is no property with its value"))?;
            Ok(PropertyPattern::Absent(by_name(name)?))
        }
        Token::Assign(key, value) => Ok(PropertyPattern::Is(by_name(key)?, value.as_ref().clone())),
        other => Err(format!("{other:?} is no property")),
    }
}

/// Whether a value is the one wanted: `7`, `7..9`, `"text"`, `"name":"value"`, a topic, hex, or `*`.
fn fits(wanted: &Token, value: &Value, names: &Names<'_>) -> bool {
    match (wanted, value) {
        (Token::Word(word), _) if word == "*" => true,
        (Token::Word(word), Value::Number(came)) => match word.split_once("..") {
            Some((low, high)) => {
                let bounds = (names.number(low), names.number(high));
                matches!(bounds, (Ok(low), Ok(high)) if (low..=high).contains(came))
            }
            None => names.number(word) == Ok(*came),
        },
        (Token::Word(word), Value::Text(came)) if word == METHOD => names.method == came,
        (Token::Word(topic), Value::Text(came)) => names.topic(topic) == *came,
        (Token::Word(hex), Value::Binary(came)) => bytes(hex, names).as_ref() == Ok(came),
        (Token::Text(text), Value::Text(came)) => text == came,
        (Token::Text(text), Value::Binary(came)) => text.as_bytes() == came,
        (Token::Pair(name, value), Value::Pair(came, with)) => name == came && value == with,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use damselfly_codec::Packet;

    use super::super::names::test_names;
    use super::super::token::tokens;
    use super::*;

    fn compare(version: Version, pattern: &str, frame: &[u8]) -> Comparison {
        let Ok(Pattern::Packet(pattern)) = Pattern::parse(&tokens(pattern).unwrap(), version) else {
            panic!("{pattern} is no packet")
        };
        let seen = Seen::of(version, &Packet::decode(version, frame).unwrap(), frame.len());
        pattern.compare(&seen, &test_names(version))
    }

    const FITS: Comparison = Comparison::Fits { remark: None };

    fn differs(what: &str) -> Comparison {
        Comparison::Differs(what.to_owned())
    }

    #[test]
    fn what_is_not_said_of_a_publish_is_not_there() {
        let frame = b"\x3B\x0D\0\x03p/t\0\x07\x02\x01\x01ab\x00";
        let compare = |pattern| compare(Version::V5_0, pattern, frame);
        assert_eq!(compare("PUBLISH q1 #7 dup retain ~/t \"ab\0\" {payload_format_indicator=1 only}"), FITS);
        assert_eq!(compare("PUBLISH q1 #new dup? retain? * {!content_type}"), FITS);
        assert_eq!(compare("PUBLISH q1 dup ~/t"), differs("the RETAIN flag"));
        assert_eq!(compare("PUBLISH q1 retain ~/t"), differs("the DUP flag"));
        assert_eq!(compare("PUBLISH q2 dup retain ~/t"), differs("the QoS"));
        assert_eq!(compare("PUBLISH q1 dup retain ~/u"), differs("the Topic Name"));
        assert_eq!(compare("PUBLISH q1 dup retain ~/t \"a\""), differs("the payload"));
        assert_eq!(compare("PUBLISH q1 #8 dup retain ~/t"), differs("the Packet Identifier"));
        let only = compare("PUBLISH q1 dup retain ~/t {only}");
        assert_eq!(only, differs("payload_format_indicator, which nobody asked for,"));
        assert_eq!(compare("PUBACK #7"), Comparison::Other);
    }

    #[test]
    fn a_refusal_with_another_code_is_remarked() {
        let suback = b"\x90\x05\0\x01\0\x00\x83";
        assert_eq!(compare(Version::V5_0, "SUBACK #1 00 fail", suback), FITS);
        assert_eq!(compare(Version::V5_0, "SUBACK #1 00 fail:83/8F", suback), FITS);
        let remark = Some("the Reason Code is 83, 8F is meant".to_owned());
        assert_eq!(compare(Version::V5_0, "SUBACK #1 00 fail:8F", suback), Comparison::Fits { remark });
        assert_eq!(compare(Version::V5_0, "SUBACK #1 00 01", suback), differs("the Reason Code"));
        assert_eq!(compare(Version::V5_0, "SUBACK #1 00", suback), differs("how many Reason Codes there are"));
        assert_eq!(compare(Version::V5_0, "SUBACK #2 00", suback), Comparison::Other);
        assert_eq!(compare(Version::V3_1_1, "CONNACK fail", b"\x20\x02\0\x02"), FITS);
        assert_eq!(compare(Version::V3_1_1, "UNSUBACK #1 00", b"\xB0\x02\0\x01"), FITS);
    }

    #[test]
    fn user_properties_keep_their_order_and_subscription_ids_have_none() {
        let frame = b"\x30\x1B\0\x01t\x17\x26\0\x01a\0\x01x\x26\0\x01a\0\x01y\x02\0\0\0\x05\x0B\x02\x0B\x01";
        let compare = |pattern: &str| compare(Version::V5_0, &format!("PUBLISH t {{{pattern}}}"), frame);
        assert_eq!(compare(r#"user_property="a":"x" user_property="a":"y" message_expiry_interval=4..5"#), FITS);
        assert_eq!(compare("subscription_identifier=1 subscription_identifier=2"), FITS);
        assert_eq!(compare(r#"user_property="a":"y" user_property="a":"x""#), differs("user_property"));
        assert_eq!(compare("message_expiry_interval=1..4"), differs("message_expiry_interval"));
        assert_eq!(compare("subscription_identifier=3"), differs("subscription_identifier"));
    }
}
