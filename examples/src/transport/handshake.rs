//! The handshake of WebSocket (RFC 6455, section 4): one request and one answer of HTTP.

use tungstenite::client::{ClientRequestBuilder, IntoClientRequest};
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::{Response, generate_request};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
use tungstenite::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, UPGRADE};
use tungstenite::http::{StatusCode, Uri};

use super::Origins;

/// The path at which a broker serves MQTT over WebSocket.
pub const PATH: &str = "/mqtt";
/// The subprotocol. [MQTT-6.0.0-3] [MQTT-6.0.0-4]
const SUBPROTOCOL: &str = "mqtt";
/// The most bytes of a request or an answer; the fixed parts take some 300.
const LONGEST: usize = 8 * 1024;
const END: &[u8] = b"\r\n\r\n";

/// Why there is no handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("what came is no handshake of HTTP/1.1")]
    Form,
    #[error("more than 8 KiB of headers")]
    TooLong,
    #[error("the method is not GET")]
    Method,
    #[error("the path is not /mqtt")]
    Path,
    #[error("the version of WebSocket is not 13")]
    Version,
    #[error("a header of the handshake is missing or wrong")]
    Header,
    #[error("the subprotocol mqtt is not offered")]
    NotOffered,
    #[error("a page of {0} may not connect: where it should, name that in allow_origins")]
    Origin(String),
    #[error("the server did not choose the subprotocol mqtt")]
    NotChosen,
    #[error("the server chose an extension, and none was offered")]
    Extension,
    #[error("the server does not serve MQTT over WebSocket there: {0}")]
    Refused(StatusCode),
    #[error("host or path cannot stand in a request")]
    Address,
}

impl HandshakeError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::TooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// An answer that people can read too.
    pub(super) fn answer(&self) -> Vec<u8> {
        let (status, text) = (self.status(), self.to_string());
        let more = match self {
            Self::Method => "Allow: GET\r\n",
            Self::Version => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        };
        let len = text.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{more}Content-Type: text/plain\r\nContent-Length: {len}\r\n\r\n\
             {text}\n"
        )
        .into_bytes()
    }
}

/// A handshake under way: what has arrived of the other side's part.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    bytes: Vec<u8>,
    /// The key that the server's answer has to go with; a server has none.
    key: Option<String>,
    /// Which pages a server serves.
    origins: Origins,
}

/// What has become of a handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shaken {
    /// More has to arrive.
    NotYet,
    /// It is done: what is to be answered, and how many of the bytes were handed in beyond it.
    Done { answer: Vec<u8>, rest: usize },
}

impl Handshake {
    /// The server's side, for pages of these origins.
    pub(super) fn expect(origins: Origins) -> Self {
        Self { origins, ..Self::default() }
    }

    /// What has arrived takes so many bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The client's side, and the request that it sends.
    pub(super) fn request(uri: &str) -> Result<(Self, Vec<u8>), HandshakeError> {
        let uri: Uri = uri.parse().map_err(|_| HandshakeError::Address)?;
        let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL).into_client_request();
        let request = request.and_then(generate_request);
        let (request, key) = request.map_err(|_| HandshakeError::Address)?;
        Ok((Self { key: Some(key), ..Self::default() }, request))
    }

    /// Takes what arrived.
    pub(super) fn handle(&mut self, input: &[u8]) -> Result<Shaken, HandshakeError> {
        let known = self.bytes.len();
        self.bytes.extend_from_slice(input);
        // The end may have begun in what was there before.
        let from = known.saturating_sub(END.len() - 1);
        let recent = self.bytes.get(from..).unwrap_or_default();
        let Some(end) = recent.windows(END.len()).position(|window| window == END) else {
            return match self.bytes.len() {
                _ if !self.may_be_http() => Err(HandshakeError::Form),
                ..=LONGEST => Ok(Shaken::NotYet),
                _ => Err(HandshakeError::TooLong),
            };
        };
        let len = from + end + END.len();
        let Some(head) = self.bytes.get(..len).filter(|head| head.len() <= LONGEST) else {
            return Err(HandshakeError::TooLong);
        };
        let answer = match &self.key {
            None => answer(head, &self.origins)?,
            Some(key) => {
                check_answer(head, key)?;
                Vec::new()
            }
        };
        Ok(Shaken::Done { answer, rest: self.bytes.len() - len })
    }

    /// Whether it begins as a request or an answer does. Who speaks MQTT or TLS never comes to the end that is looked
    /// for: to wait for it would only put off saying what is wrong.
    fn may_be_http(&self) -> bool {
        let known = self.bytes.trim_ascii_start();
        match self.key {
            None => known.first().is_none_or(u8::is_ascii_uppercase),
            Some(_) => known.iter().zip(b"HTTP/").all(|(known, expected)| known == expected),
        }
    }
}

/// What a server answers to a request.
fn answer(head: &[u8], origins: &Origins) -> Result<Vec<u8>, HandshakeError> {
    let request = match Request::try_parse(head) {
        Ok(Some((_, request))) => request,
        Ok(None) => return Err(HandshakeError::Form),
        Err(error) => return Err(reason(&error)),
    };
    if request.uri().path() != PATH {
        return Err(HandshakeError::Path);
    }
    let mut response = create_response(&request).map_err(|error| reason(&error))?;
    if !has_token(request.headers(), &SEC_WEBSOCKET_PROTOCOL, |token| token == SUBPROTOCOL) {
        return Err(HandshakeError::NotOffered);
    }
    check_origin(request.headers(), origins)?;
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let mut answer = Vec::new();
    write_response(&mut answer, &response).map_err(|_| HandshakeError::Form)?;
    Ok(answer)
}

/// Whether the page that a browser shows may connect; who is no browser names none.
fn check_origin(headers: &HeaderMap, origins: &Origins) -> Result<(), HandshakeError> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_allowed = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| origins.allow(origin, host));
    match headers.get_all(ORIGIN).iter().find(|origin| !is_allowed(origin)) {
        None => Ok(()),
        Some(origin) => Err(HandshakeError::Origin(shown(origin))),
    }
}

/// The beginning of a header, in which only visible characters stand.
fn shown(value: &HeaderValue) -> String {
    const LONGEST: usize = 100;
    let text = value.to_str().unwrap_or("an origin that is no text");
    text.chars().take(LONGEST).collect()
}

fn reason(error: &tungstenite::Error) -> HandshakeError {
    use tungstenite::Error;
    match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => HandshakeError::Method,
        Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => HandshakeError::Version,
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketKey
            | ProtocolError::InvalidSecWebSocketKey,
        ) => HandshakeError::Header,
        _ => HandshakeError::Form,
    }
}

/// Whether a server's answer goes with the key of the request, and speaks MQTT.
fn check_answer(head: &[u8], key: &str) -> Result<(), HandshakeError> {
    let Ok(Some((_, response))) = Response::try_parse(head) else { return Err(HandshakeError::Form) };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(HandshakeError::Refused(response.status()));
    }
    let headers = response.headers();
    let accept = derive_accept_key(key.as_bytes());
    let is_upgraded = has_token(headers, &UPGRADE, |token| token.eq_ignore_ascii_case("websocket"))
        && has_token(headers, &CONNECTION, |token| token.eq_ignore_ascii_case("upgrade"))
        && headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|value| value.as_bytes() == accept.as_bytes());
    if !is_upgraded {
        return Err(HandshakeError::Header);
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(HandshakeError::Extension);
    }
    let chosen: Vec<_> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::as_bytes).collect();
    if chosen == [SUBPROTOCOL.as_bytes()] { Ok(()) } else { Err(HandshakeError::NotChosen) }
}

/// Whether one of the items of a header is this, which may stand there several times and is a list each time.
fn has_token(headers: &HeaderMap, name: &HeaderName, is_it: impl Fn(&str) -> bool) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| is_it(token.trim()))
}
