//! Writes the packets of a script, right or wrong: a well-formed packet is one whose words are.

use damselfly_codec::{PacketType, Version};

use super::bytes::{length, put_field, put_variable_integer};
use super::names::Names;
use super::pattern::packet_type;
use super::property::put_properties;
use super::token::Token;

/// A packet for the wire, and what it leaves behind at a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// A Topic Name with a retained message.
    pub(super) retained: Option<String>,
    /// A Client Identifier whose session may outlive its connection.
    pub(super) session: Option<String>,
}

/// The bytes of a packet in the notation of the scripts.
pub(super) fn write(tokens: &[Token], names: &Names<'_>) -> Result<Written, String> {
    let (first, words) = tokens.split_first().ok_or("a packet is missing")?;
    let name = first.word().ok_or("a packet begins with its name")?;
    let packet_type = packet_type(name)?;
    let mut writer = Writer { names, written: Written::default() };
    let (flags, body) = match packet_type {
        PacketType::Connect => (0, writer.connect(words)?),
        PacketType::Publish => writer.publish(words)?,
        PacketType::Subscribe | PacketType::Unsubscribe => {
            (2, writer.filters(words, packet_type == PacketType::Subscribe)?)
        }
        PacketType::Pubrel => (2, writer.with_reason(words)?),
        PacketType::Connack
        | PacketType::Puback
        | PacketType::Pubrec
        | PacketType::Pubcomp
        | PacketType::Suback
        | PacketType::Unsuback
        | PacketType::Pingreq
        | PacketType::Pingresp
        | PacketType::Disconnect
        | PacketType::Auth => (0, writer.with_reason(words)?),
    };
    let mut written = writer.written;
    written.bytes.push(packet_type.number() << 4 | flags);
    put_variable_integer(length(body.len()), &mut written.bytes);
    written.bytes.extend(body);
    Ok(written)
}

struct Writer<'a, 'n> {
    names: &'a Names<'n>,
    written: Written,
}

/// The words of a CONNECT.
struct ConnectWords<'t> {
    clean: bool,
    is_lasting: bool,
    keep_alive: u16,
    client_id: String,
    will: Option<String>,
    will_payload: &'t str,
    will_flags: u8,
    will_properties: &'t [Token],
    user_name: Option<&'t str>,
    password: Option<&'t str>,
    properties: &'t [Token],
}

impl Writer<'_, '_> {
    fn has_properties(&self) -> bool {
        self.names.version == Version::V5_0
    }

    /// Properties where the version has them.
    fn put_properties(&self, tokens: &[Token], out: &mut Vec<u8>) -> Result<(), String> {
        match (self.has_properties(), tokens.is_empty()) {
            (true, _) => put_properties(tokens, self.names, out),
            (false, true) => Ok(()),
            (false, false) => Err("3.1.1 has no properties".to_owned()),
        }
    }

    fn connect(&mut self, tokens: &[Token]) -> Result<Vec<u8>, String> {
        let words = self.connect_words(tokens)?;
        let user_name = words.user_name.or(self.names.user_name);
        let password = words.password.or(self.names.password);
        let mut flags = u8::from(words.clean) << 1;
        if words.will.is_some() {
            flags |= 0x04 | words.will_flags;
        }
        flags |= u8::from(password.is_some()) << 6 | u8::from(user_name.is_some()) << 7;
        let mut body = b"\0\x04MQTT".to_vec();
        body.push(self.names.version.protocol_version());
        body.push(flags);
        body.extend(words.keep_alive.to_be_bytes());
        let lasting = [Token::Assign("session_expiry_interval".to_owned(), Box::new(Token::Word("60".to_owned())))];
        let is_given = words.properties.iter().any(|token| *token == lasting[0] || is_session_expiry(token));
        let more = if words.is_lasting && self.has_properties() && !is_given { &lasting[..] } else { &[] };
        self.put_properties(&[words.properties, more].concat(), &mut body)?;
        put_field(words.client_id.as_bytes(), &mut body)?;
        if let Some(will) = &words.will {
            self.put_properties(words.will_properties, &mut body)?;
            put_field(will.as_bytes(), &mut body)?;
            put_field(words.will_payload.as_bytes(), &mut body)?;
            self.written.retained = (words.will_flags & 0x20 != 0).then(|| will.clone());
        }
        for field in [user_name, password].into_iter().flatten() {
            put_field(field.as_bytes(), &mut body)?;
        }
        let may_last = !words.clean || words.is_lasting || is_given;
        self.written.session = (may_last && !words.client_id.is_empty()).then_some(words.client_id);
        Ok(body)
    }

    fn connect_words<'t>(&self, tokens: &'t [Token]) -> Result<ConnectWords<'t>, String> {
        let mut words = ConnectWords {
            clean: true,
            is_lasting: false,
            // 3.1.1 cannot be told of a Server Keep Alive, and a longer one may be refused.
            keep_alive: self.names.features.server_keep_alive.filter(|_| !self.has_properties()).unwrap_or(0),
            client_id: self.names.client_id(self.names.connection),
            will: None,
            will_payload: "",
            will_flags: 0,
            will_properties: &[],
            user_name: None,
            password: None,
            properties: &[],
        };
        for token in tokens {
            match token {
                Token::Word(word) if word == "lasting" => (words.clean, words.is_lasting) = (false, true),
                Token::Word(word) if word == "resuming" => words.clean = false,
                Token::Braces(properties) => words.properties = properties,
                Token::Assign(key, value) => match (key.as_str(), value.as_ref()) {
                    ("clean", Token::Word(flag)) => words.clean = flag != "0",
                    ("keep_alive", Token::Word(seconds)) => {
                        words.keep_alive = seconds.parse().map_err(|_| format!("{seconds} is no Keep Alive"))?;
                    }
                    ("id", Token::Text(id)) => words.client_id.clone_from(id),
                    ("id", Token::Word(id)) if id == "@23" => words.client_id = self.names.client_id_of_23(),
                    ("id", Token::Word(id)) => words.client_id = self.names.client_id(id.trim_start_matches('@')),
                    ("will", Token::Word(topic)) => words.will = Some(self.names.topic(topic)),
                    ("will_payload", Token::Text(payload)) => words.will_payload = payload,
                    ("will_qos", Token::Word(qos)) => words.will_flags |= digit(qos)? << 3,
                    ("will_retain", Token::Word(flag)) => words.will_flags |= digit(flag)? << 5,
                    ("will_properties", Token::Braces(properties)) => words.will_properties = properties,
                    ("user", Token::Text(name)) => words.user_name = Some(name),
                    ("password", Token::Text(password)) => words.password = Some(password),
                    _ => return Err(format!("CONNECT has no {token:?}")),
                },
                other => return Err(format!("CONNECT has no {other:?}")),
            }
        }
        Ok(words)
    }

    /// Flags and body.
    fn publish(&mut self, tokens: &[Token]) -> Result<(u8, Vec<u8>), String> {
        let (mut flags, mut id, mut topic) = (0, None, None);
        let (mut payload, mut properties): (&str, &[Token]) = ("", &[]);
        for token in tokens {
            match token {
                Token::Word(word) => match word.as_str() {
                    "q0" | "q1" | "q2" | "q3" => flags |= digit(word.trim_start_matches('q'))? << 1,
                    "dup" => flags |= 8,
                    "retain" => flags |= 1,
                    word if word.starts_with('#') => id = Some(self.names.packet_id(word)?),
                    word if topic.is_none() => topic = Some(self.names.topic(word)),
                    word => return Err(format!("PUBLISH has no {word}")),
                },
                Token::Text(text) => payload = text,
                Token::Braces(list) => properties = list,
                other => return Err(format!("PUBLISH has no {other:?}")),
            }
        }
        let topic = topic.ok_or("PUBLISH has a topic, or -")?;
        let mut body = Vec::new();
        put_field(topic.as_bytes(), &mut body)?;
        if let Some(id) = id {
            body.extend(id.to_be_bytes());
        }
        self.put_properties(properties, &mut body)?;
        body.extend(payload.bytes());
        self.written.retained = (flags & 1 != 0 && !topic.is_empty()).then_some(topic);
        Ok((flags, body))
    }

    /// The body of SUBSCRIBE or UNSUBSCRIBE.
    fn filters(&self, tokens: &[Token], has_options: bool) -> Result<Vec<u8>, String> {
        let (mut id, mut properties): (_, &[Token]) = (None, &[]);
        let mut payload = Vec::new();
        for part in tokens.split(|token| *token == Token::Comma) {
            let (mut filter, mut options) = (None, 0);
            for token in part {
                match token {
                    Token::Word(word) => match word.as_str() {
                        "q0" | "q1" | "q2" | "q3" => options |= digit(word.trim_start_matches('q'))?,
                        "nl" => options |= 0x04,
                        "rap" => options |= 0x08,
                        "rh0" | "rh1" | "rh2" | "rh3" => options |= digit(word.trim_start_matches("rh"))? << 4,
                        "bit6" => options |= 0x40,
                        "bit7" => options |= 0x80,
                        word if word.starts_with('#') && id.is_none() => id = Some(self.names.packet_id(word)?),
                        word if filter.is_none() => filter = Some(self.names.topic(word)),
                        word => return Err(format!("no filter has {word}")),
                    },
                    Token::Braces(list) => properties = list,
                    other => return Err(format!("no filter has {other:?}")),
                }
            }
            if let Some(filter) = filter {
                put_field(filter.as_bytes(), &mut payload)?;
                payload.extend(has_options.then_some(options));
            }
        }
        let mut body = id.ok_or("a Packet Identifier is missing")?.to_be_bytes().to_vec();
        self.put_properties(properties, &mut body)?;
        body.extend(payload);
        Ok(body)
    }

    /// A body of at most a Packet Identifier, a Reason Code and properties, as much of it as is named.
    fn with_reason(&self, tokens: &[Token]) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        let mut has_code = false;
        for token in tokens {
            match token {
                Token::Word(word) if word.starts_with('#') => body.extend(self.names.packet_id(word)?.to_be_bytes()),
                Token::Word(word) => {
                    let code = u8::from_str_radix(word, 16).map_err(|_| format!("{word} is no Reason Code"))?;
                    body.push(code);
                    has_code = true;
                }
                Token::Braces(properties) => {
                    if !has_code {
                        body.push(0);
                    }
                    self.put_properties(properties, &mut body)?;
                }
                other => return Err(format!("unexpected {other:?}")),
            }
        }
        Ok(body)
    }
}

fn is_session_expiry(token: &Token) -> bool {
    matches!(token, Token::Assign(key, _) if key == "session_expiry_interval")
}

fn digit(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|digit| *digit <= 3).ok_or_else(|| format!("{text} is no digit up to 3"))
}

#[cfg(test)]
mod tests {
    use super::super::names::test_names;
    use super::super::token::tokens;
    use super::*;

    fn written(version: Version, text: &str) -> Result<Written, String> {
        write(&tokens(text).unwrap(), &test_names(version))
    }

    fn bytes(version: Version, text: &str) -> Vec<u8> {
        written(version, text).unwrap().bytes
    }

    #[test]
    fn connect_is_written_for_both_versions() {
        assert_eq!(bytes(Version::V3_1_1, "CONNECT"), b"\x10\x0E\0\x04MQTT\x04\x02\0\0\0\x02ca");
        assert_eq!(bytes(Version::V5_0, "CONNECT"), b"\x10\x0F\0\x04MQTT\x05\x02\0\0\0\0\x02ca");
        let will = r#"CONNECT lasting keep_alive=5 id=@b will=~/w will_qos=1 will_retain=1 will_payload="x" user="u""#;
        let will = written(Version::V5_0, will).unwrap();
        assert_eq!(will.bytes, b"\x10\x20\0\x04MQTT\x05\xAC\0\x05\x05\x11\0\0\0\x3C\0\x02cb\0\0\x03p/w\0\x01x\0\x01u");
        assert_eq!((will.retained.as_deref(), will.session.as_deref()), (Some("p/w"), Some("cb")));
    }

    #[test]
    fn a_client_of_3_1_1_keeps_to_the_server_keep_alive_unless_a_case_says_otherwise() {
        for (version, text, keep_alive) in [
            (Version::V3_1_1, "CONNECT", 40),
            (Version::V3_1_1, "CONNECT keep_alive=0", 0),
            (Version::V5_0, "CONNECT", 0),
        ] {
            let mut names = test_names(version);
            names.features.server_keep_alive = Some(40);
            let bytes = write(&tokens(text).unwrap(), &names).unwrap().bytes;
            assert_eq!(bytes[10..12], [0, keep_alive], "{text}");
        }
    }

    #[test]
    fn credentials_of_the_run_are_in_every_connect_without_its_own() {
        let mut names = test_names(Version::V3_1_1);
        (names.user_name, names.password) = (Some("u"), Some("p"));
        let written = |text: &str| write(&tokens(text).unwrap(), &names).unwrap().bytes;
        assert_eq!(written("CONNECT"), b"\x10\x14\0\x04MQTT\x04\xC2\0\0\0\x02ca\0\x01u\0\x01p");
        assert_eq!(written(r#"CONNECT user="v" password="""#), b"\x10\x13\0\x04MQTT\x04\xC2\0\0\0\x02ca\0\x01v\0\0");
    }

    #[test]
    fn other_packets_are_written_as_they_are_named_right_or_wrong() {
        assert_eq!(bytes(Version::V3_1_1, r#"PUBLISH q3 dup retain #7 ~/t "x""#), b"\x3F\x08\0\x03p/t\0\x07x");
        assert_eq!(bytes(Version::V5_0, "PUBLISH - {topic_alias=2}"), b"\x30\x06\0\0\x03\x23\0\x02");
        assert_eq!(
            bytes(Version::V5_0, "SUBSCRIBE #1 a q3 nl rap rh3 bit6, b"),
            b"\x82\x0B\0\x01\0\0\x01a\x7F\0\x01b\0"
        );
        assert_eq!(bytes(Version::V3_1_1, "UNSUBSCRIBE #2 a, b"), b"\xA2\x08\0\x02\0\x01a\0\x01b");
        assert_eq!(bytes(Version::V5_0, "PUBACK #1"), b"\x40\x02\0\x01");
        assert_eq!(bytes(Version::V5_0, "PUBREL #1 92"), b"\x62\x03\0\x01\x92");
        assert_eq!(bytes(Version::V5_0, "PUBCOMP #1 {}"), b"\x70\x04\0\x01\0\0");
        assert_eq!(bytes(Version::V5_0, "DISCONNECT"), b"\xE0\0");
        assert!(written(Version::V3_1_1, "PUBLISH a {topic_alias=2}").is_err());
    }
}
