//! `mqtt://` and `ws://` addresses.

use std::str::FromStr;

use damselfly_examples::client::{Endpoint, EndpointError};

/// The parts of `mqtt://[user[:password]@]host[:port][/topic]` or `ws://[user[:password]@]host[:port][/path]`;
/// percent-encoding is decoded in each but the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) endpoint: Endpoint,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) topic: Option<String>,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SHAPE: &str = "a URL looks like mqtt://user:password@host:1883/topic or ws://user:password@host:80/mqtt, and \
                             with TLS like mqtts://host:8883/topic or wss://host:443/mqtt, or unix:///path/of/socket";
        if text.starts_with("unix:") {
            let endpoint = text.parse().map_err(|error: EndpointError| error.to_string())?;
            return Ok(Self { endpoint, username: None, password: None, topic: None });
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Err(SHAPE.into()) };
        let is_websocket = match scheme {
            "mqtt" | "mqtts" => false,
            "ws" | "wss" => true,
            _ => return Err(SHAPE.into()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user_info, host_port)) => (Some(user_info), host_port),
            None => (None, authority),
        };
        let address = format!("{scheme}://{host_port}{}", if is_websocket { path } else { "" });
        let endpoint = address.parse().map_err(|error: EndpointError| error.to_string())?;
        let (username, password) = match user_info.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            None => (None, None),
            Some((user, "")) => (Some(decode(user)?), None),
            Some((user, password)) => (Some(decode(user)?), Some(decode(password)?)),
        };
        let topic = path.strip_prefix('/').filter(|topic| !is_websocket && !topic.is_empty());
        Ok(Self { endpoint, username, password, topic: topic.map(decode).transpose()? })
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
        assert_eq!(url.endpoint, Endpoint::new("broker.example", 11_883));
        assert_eq!(url.username.as_deref(), Some("al@ice"));
        assert_eq!(url.password.as_deref(), Some("s:ecret"));
        assert_eq!(url.topic.as_deref(), Some("home/+/temperature"));
    }

    #[test]
    fn what_is_left_out_has_the_defaults() {
        let url: Url = "mqtt://[::1]".parse().unwrap();
        let endpoint = Endpoint::new("::1", 1883);
        assert_eq!(url, Url { endpoint, username: None, password: None, topic: None });
        let url: Url = "ws://[::1]".parse().unwrap();
        let endpoint = Endpoint::over_websocket("::1", 80);
        assert_eq!(url, Url { endpoint, username: None, password: None, topic: None });
    }

    #[test]
    fn behind_a_websocket_comes_its_path_and_no_topic() {
        let url: Url = "ws://al%40ice:s%3Aecret@broker.example:8083/a/b".parse().unwrap();
        let endpoint = Endpoint { websocket: Some("/a/b".into()), ..Endpoint::new("broker.example", 8083) };
        let [username, password] = ["al@ice", "s:ecret"].map(|text| Some(text.to_owned()));
        assert_eq!(url, Url { endpoint, username, password, topic: None });
    }

    #[test]
    fn tls_has_ports_of_its_own() {
        for (text, endpoint) in [
            ("mqtts://broker", Endpoint::new("broker", 8883).secure()),
            ("mqtts://broker:1/t", Endpoint::new("broker", 1).secure()),
            ("wss://broker", Endpoint::over_websocket("broker", 443).secure()),
            ("unix:///run/broker.sock", Endpoint::over_unix("/run/broker.sock")),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().endpoint, endpoint, "{text}");
        }
    }

    #[test]
    fn a_wrong_url_says_what_would_be_right() {
        for (text, hint) in [
            ("localhost", "mqtt://"),
            ("http://localhost", "mqtt://"),
            ("mqtts://:8883", "host is missing"),
            ("unix://", "path of the socket"),
            ("ws://:80/mqtt", "host is missing"),
            ("mqtt://:1883/t", "host is missing"),
            ("mqtt://host:port/t", "number"),
            ("mqtt://host:65536/t", "65535"),
            ("mqtt://[::1/t", "']'"),
            ("mqtt://::1/t", "brackets, as in [::1]"),
            ("ws://::1:8083/mqtt", "brackets, as in [::1]"),
            ("mqtt://host/%4", "two hexadecimal digits"),
            ("mqtt://host/%zz", "two hexadecimal digits"),
            ("mqtt://host/%ff", "UTF-8"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
