//! What a client needs to know before it starts: where to connect to, as whom, and how much may wait.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    io,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use damselfly_client::{Config, ConnectParameters, NeedTransport};
use damselfly_sim::flight::Tape;
use futures::future::BoxFuture;

use crate::transport::{ClientTls, PATH};

/// The port of MQTT over TCP.
const PORT: u16 = 1883;
/// The port of MQTT over TLS.
const SECURE_PORT: u16 = 8883;
/// The port of WebSocket.
const WEBSOCKET_PORT: u16 = 80;
/// The port of WebSocket over TLS.
const SECURE_WEBSOCKET_PORT: u16 = 443;

/// Where a broker listens.
///
/// ```
/// use damselfly_examples::client::Endpoint;
///
/// assert_eq!("[::1]:1884".parse(), Ok(Endpoint::new("::1", 1884)));
/// assert_eq!("broker.example".parse(), Ok(Endpoint::new("broker.example", 1883)));
/// assert_eq!("mqtts://broker.example".parse(), Ok(Endpoint::new("broker.example", 8883).secure()));
/// assert_eq!("ws://broker.example".parse(), Ok(Endpoint::over_websocket("broker.example", 80)));
/// assert_eq!("wss://broker.example".parse(), Ok(Endpoint::over_websocket("broker.example", 443).secure()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// A TCP port.
    pub port: u16,
    /// Whether TLS is spoken there, as [`Options::tls`] says.
    pub is_secure: bool,
    /// The path at which the broker serves MQTT over WebSocket, with its `/` (section 6); `None` is MQTT over TCP alone.
    pub websocket: Option<String>,
    /// A Unix socket, in place of host and port.
    pub unix: Option<PathBuf>,
}

impl Endpoint {
    /// A host and its port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, is_secure: false, websocket: None, unix: None }
    }

    /// The same over WebSocket, at the path `/mqtt`.
    pub fn over_websocket(host: impl Into<String>, port: u16) -> Self {
        Self { websocket: Some(PATH.to_owned()), ..Self::new(host, port) }
    }

    /// A Unix socket on this machine.
    pub fn over_unix(path: impl Into<PathBuf>) -> Self {
        Self { unix: Some(path.into()), ..Self::new("localhost", 0) }
    }

    /// The same within TLS.
    #[must_use]
    pub fn secure(self) -> Self {
        Self { is_secure: true, ..self }
    }

    /// The endpoints of a [Server Reference](NeedTransport::server_reference), which is a list with blanks between; what
    /// cannot be read is left out. [MQTT-4.13]
    pub fn of_server_reference(text: &str) -> Vec<Self> {
        text.split_whitespace().filter_map(|part| part.parse().ok()).collect()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.unix {
            return write!(f, "unix://{}", path.display());
        }
        f.write_str(match (self.is_secure, &self.websocket) {
            (false, None) => "",
            (true, None) => "mqtts://",
            (false, Some(_)) => "ws://",
            (true, Some(_)) => "wss://",
        })?;
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        f.write_str(self.websocket.as_deref().unwrap_or_default())
    }
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Nobody here speaks that.
    #[error("a URL begins with mqtt://, mqtts://, ws://, wss:// or unix://")]
    Scheme,
    /// A Unix socket has a path.
    #[error("the path of the socket is missing, as in unix:///run/broker.sock")]
    NoPath,
    /// Nothing stands before the port.
    #[error("the host is missing")]
    NoHost,
    /// An address of IP version 6 stands in brackets.
    #[error("'[' without ']' in the host")]
    OpenBracket,
    /// Its colons cannot be told from the one before a port otherwise.
    #[error("an address of IP version 6 needs brackets, as in [::1]")]
    NoBrackets,
    /// Something else than a port follows the brackets.
    #[error("after the address in brackets only :port may follow")]
    AfterBracket,
    /// This is not a port.
    #[error("the port {0:?} is not a number from 1 to 65535")]
    Port(String),
}

/// `host`, `host:port`, `[address]` or `[address]:port`, with `mqtt://` or nothing in front, or `mqtts://` for TLS; with
/// `ws://` or `wss://` in front, over WebSocket, a path may follow; or `unix://` and the path of a Unix socket.
impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(EndpointError::NoPath) } else { Ok(Self::over_unix(path)) };
        }
        let (port, rest, is_secure, is_websocket) = match text.split_once("://") {
            None => (PORT, text, false, false),
            Some(("mqtt", rest)) => (PORT, rest, false, false),
            Some(("mqtts", rest)) => (SECURE_PORT, rest, true, false),
            Some(("ws", rest)) => (WEBSOCKET_PORT, rest, false, true),
            Some(("wss", rest)) => (SECURE_WEBSOCKET_PORT, rest, true, true),
            Some(_) => return Err(EndpointError::Scheme),
        };
        if !is_websocket {
            return Ok(Self { is_secure, ..Self::with_default_port(rest, port)? });
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let endpoint = Self::with_default_port(authority, port)?;
        // No path and `/` are the same to HTTP.
        let path = if path.len() > 1 { path } else { PATH };
        Ok(Self { is_secure, websocket: Some(path.to_owned()), ..endpoint })
    }
}

impl Endpoint {
    fn with_default_port(text: &str, default: u16) -> Result<Self, EndpointError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(EndpointError::OpenBracket)?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(EndpointError::AfterBracket),
            }
        } else {
            match text.split_once(':') {
                Some((_, rest)) if rest.contains(':') => return Err(EndpointError::NoBrackets),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() {
            return Err(EndpointError::NoHost);
        }
        let port = match port {
            None => default,
            Some(text) => match text.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(EndpointError::Port(text.to_owned())),
            },
        };
        Ok(Self::new(host, port))
    }
}

/// What an attempt to connect begins with; an error fails the attempt.
pub type Asked = io::Result<(Endpoint, ConnectParameters)>;

/// Asked at each attempt to connect: where to, and as whom. The answer may take its time, a token may have to be fetched.
pub type Provider = Box<dyn FnMut(NeedTransport) -> BoxFuture<'static, Asked> + Send>;

/// What [`Client::connect`](super::Client::connect) needs to know.
pub struct Options {
    /// Of the core.
    pub config: Config,
    /// Where to connect to and with which parameters, asked anew at each attempt.
    pub provider: Provider,
    /// How TLS is spoken with an endpoint that is [secure](Endpoint::is_secure). Default: the CAs of the system are trusted.
    pub tls: ClientTls,
    /// How many messages may wait among the [`Events`](super::Events) before reading from the socket is paused. Default:
    /// 1,024.
    pub max_waiting_messages: usize,
    /// The seed of the core's jitter and hashing. Default: taken from the process's random hasher keys.
    pub seed: u64,
    /// Where the inputs of the core are recorded. Default: nowhere.
    pub tape: Option<Tape>,
}

impl Options {
    /// One endpoint, anonymous.
    pub fn new(endpoint: Endpoint, config: Config) -> Self {
        Self::with_parameters(endpoint, config, ConnectParameters::default())
    }

    /// One endpoint, the same parameters at each attempt.
    pub fn with_parameters(endpoint: Endpoint, config: Config, parameters: ConnectParameters) -> Self {
        Self::asking(config, move |_| std::future::ready(Ok((endpoint.clone(), parameters.clone()))))
    }

    /// One endpoint after the other, the first again after the last, and where the broker sends us if it does.
    ///
    /// A broker that sends us elsewhere gets our credentials to that place: use [`Options::asking`] to look first.
    pub fn rotating(endpoints: Vec<Endpoint>, config: Config, parameters: ConnectParameters) -> Self {
        let mut next = 0;
        Self::asking(config, move |need| {
            let referred = need.server_reference.as_deref().map(Endpoint::of_server_reference).unwrap_or_default();
            let endpoint = referred.into_iter().next().or_else(|| {
                let endpoint = endpoints.get(next).cloned();
                next = if next + 1 < endpoints.len() { next + 1 } else { 0 };
                endpoint
            });
            let nowhere = || io::Error::new(io::ErrorKind::InvalidInput, "there is no endpoint to connect to");
            std::future::ready(endpoint.ok_or_else(nowhere).map(|endpoint| (endpoint, parameters.clone())))
        })
    }

    /// The application says at each attempt where to connect to, and as whom.
    pub fn asking<F>(config: Config, mut ask: impl FnMut(NeedTransport) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Asked> + Send + 'static,
    {
        Self {
            config,
            provider: Box::new(move |need| Box::pin(ask(need))),
            tls: ClientTls::default(),
            max_waiting_messages: 1_024,
            seed: RandomState::new().hash_one(0_u8),
            tape: None,
        }
    }
}

/// How [`Client::close`](super::Client::close) goes about what is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// How long to wait for it, counted from the call. Default: not at all.
    pub deadline: Duration,
}

impl Drain {
    /// Waits this long at most.
    pub const fn within(deadline: Duration) -> Self {
        Self { deadline }
    }

    /// Waits for nothing.
    pub const fn at_once() -> Self {
        Self::within(Duration::ZERO)
    }
}

/// How many messages may wait in a [`Subscription`](super::Subscription), and what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbox {
    /// How many, at least one. Default: 1,024.
    pub max_messages: usize,
    /// What happens to the next one. Default: [`Overflow::Pause`].
    pub overflow: Overflow,
}

impl Inbox {
    /// So many, and then this.
    pub const fn new(max_messages: usize, overflow: Overflow) -> Self {
        Self { max_messages, overflow }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new(1_024, Overflow::Pause)
    }
}

/// What happens to a message that meets a full [`Inbox`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Reading from the socket pauses until half of the messages are taken, for all streams of the client; PINGREQ is
    /// still sent. What was read before still comes in, so that a few more than
    /// [`max_messages`](Inbox::max_messages) may wait: 64 KiB of packets, or one larger packet.
    #[default]
    Pause,
    /// The oldest one is dropped.
    DropOldest,
    /// It is dropped itself.
    DropNewest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_reads_as_it_is_written() {
        let elsewhere = Endpoint { websocket: Some("/a/b?c=d".to_owned()), ..Endpoint::new("::1", 8080) };
        for endpoint in [
            Endpoint::new("localhost", 1),
            Endpoint::new("::1", 65_535),
            Endpoint::new("10.0.0.1", 1883),
            Endpoint::new("10.0.0.1", 8883).secure(),
            Endpoint::over_websocket("10.0.0.1", 8083),
            Endpoint::over_websocket("10.0.0.1", 8443).secure(),
            elsewhere,
            Endpoint::over_unix("/run/broker.sock"),
        ] {
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
        }
        assert_eq!("[::1]".parse(), Ok(Endpoint::new("::1", 1883)));
        for text in ["ws://[::1]", "ws://[::1]/", "ws://[::1]:80/mqtt"] {
            assert_eq!(text.parse(), Ok(Endpoint::over_websocket("::1", 80)), "{text}");
        }
        for (text, error) in [
            (":1883", EndpointError::NoHost),
            ("fe80::1", EndpointError::NoBrackets),
            ("[::1", EndpointError::OpenBracket),
            ("[::1]1883", EndpointError::AfterBracket),
            ("http://host", EndpointError::Scheme),
            ("unix://", EndpointError::NoPath),
            ("host:0", EndpointError::Port("0".to_owned())),
            ("host:65536", EndpointError::Port("65536".to_owned())),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }

    #[test]
    fn server_reference_names_one_endpoint_after_the_other() {
        let endpoints = Endpoint::of_server_reference("a.example:1884 [::1] :1 b.example");
        assert_eq!(
            endpoints,
            [Endpoint::new("a.example", 1884), Endpoint::new("::1", 1883), Endpoint::new("b.example", 1883)]
        );
    }
}
