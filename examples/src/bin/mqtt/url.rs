//! `mqtt://` addresses.

use std::str::FromStr;

use damselfly_examples::client::{Endpoint, EndpointError};

/// The parts of `mqtt://[user[:password]@]host[:port][/topic]`; percent-encoding is decoded in each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) topic: Option<String>,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SHAPE: &str = "a URL looks like mqtt://user:password@host:1883/topic";
        let Some((scheme, rest)) = text.split_once("://") else { return Err(SHAPE.into()) };
        match scheme {
            "mqtt" => {}
            "mqtts" | "ws" | "wss" => return Err(format!("{scheme} is not supported: use mqtt:// (plain TCP)")),
            _ => return Err(SHAPE.into()),
        }
        let (authority, topic) = match rest.split_once('/') {
            Some((authority, topic)) => (authority, Some(topic)),
            None => (rest, None),
        };
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user_info, host_port)) => (Some(user_info), host_port),
            None => (None, authority),
        };
        let Endpoint { host, port } = host_port.parse().map_err(|error: EndpointError| error.to_string())?;
        let (username, password) = match user_info.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            None => (None, None),
            Some((user, "")) => (Some(decode(user)?), None),
            Some((user, password)) => (Some(decode(user)?), Some(decode(password)?)),
        };
        let topic = topic.filter(|topic| !topic.is_empty()).map(decode).transpose()?;
        Ok(Self { host, port, username, password, topic })
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = rest.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let value = digits.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let Some(value) = value else { return Err("'%' must be followed by two hexadecimal digits".into()) };
        bytes.push(value);
        rest = rest.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| "the decoded text is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_taken_apart() {
        let url: Url = "mqtt://al%40ice:s%3Aecret@broker.example:11883/home/+/temperature".parse().unwrap();
        assert_eq!(url.host, "broker.example");
        assert_eq!(url.port, 11_883);
        assert_eq!(url.username.as_deref(), Some("al@ice"));
        assert_eq!(url.password.as_deref(), Some("s:ecret"));
        assert_eq!(url.topic.as_deref(), Some("home/+/temperature"));
    }

    #[test]
    fn what_is_left_out_has_the_defaults() {
        let url: Url = "mqtt://[::1]".parse().unwrap();
        assert_eq!(url, Url { host: "::1".into(), port: 1883, username: None, password: None, topic: None });
    }

    #[test]
    fn a_wrong_url_says_what_would_be_right() {
        for (text, hint) in [
            ("localhost", "mqtt://"),
            ("http://localhost", "mqtt://"),
            ("mqtts://localhost", "plain TCP"),
            ("mqtt://:1883/t", "host is missing"),
            ("mqtt://host:port/t", "number"),
            ("mqtt://host:65536/t", "65535"),
            ("mqtt://[::1/t", "']'"),
            ("mqtt://host/%4", "two hexadecimal digits"),
            ("mqtt://host/%zz", "two hexadecimal digits"),
            ("mqtt://host/%ff", "UTF-8"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
