//! What the subcommands share: from flags to a connection, and its end in words.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use damselfly_client::{
    CleanStart, Config, ConnectParameters, ConnectionEnd, Event, LostSession, OverflowPolicy, TransportLost, Will,
};
use damselfly_codec::{ReasonCode, Version};
use damselfly_examples::client::{Client, Drain, Endpoint, Events, Options};
use damselfly_session::SessionExpiry;
use damselfly_topic::TopicNameBuf;

use crate::{Failure, args::ConnectArgs, property::PropertyArgs};

/// How long the last packets may take when the program ends.
pub(crate) const DRAIN: Drain = Drain::within(Duration::from_secs(2));

/// A connection being made, and where to.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) events: Events,
    pub(crate) endpoint: Endpoint,
    /// It was given by a URL, not by flags.
    has_url: bool,
    /// A connection was accepted before.
    was_connected: bool,
    /// Connections that come and go are not mentioned.
    is_quiet: bool,
}

impl Link {
    /// Starts to connect as the flags say.
    pub(crate) fn open(args: &ConnectArgs, properties: &PropertyArgs) -> Result<Self, Failure> {
        Self::open_with(args, properties, |_| {})
    }

    /// The same with something more to say about it.
    pub(crate) fn open_with(
        args: &ConnectArgs,
        properties: &PropertyArgs,
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self, Failure> {
        args.check().map_err(Failure::Usage)?;
        let endpoint = match (&args.url, &args.unix) {
            (Some(url), _) => url.endpoint.clone(),
            (None, Some(path)) => Endpoint::over_unix(path.clone()),
            (None, None) => args.tls.endpoint(&args.host, args.port),
        };
        let parameters = parameters(args, properties)?;
        let mut config = config(args, properties);
        adjust(&mut config);
        let mut options = Options::with_parameters(endpoint.clone(), config, parameters);
        options.tls = args.tls.client_tls().map_err(Failure::Usage)?;
        if let Some(path) = &args.record {
            let tape = damselfly_examples::tape(path);
            options.tape = Some(tape.map_err(|error| Failure::Usage(format!("--record {}: {error}", path.display())))?);
        }
        tracing::debug!(%endpoint, version = %args.protocol_version, "connecting");
        let (client, events) = Client::connect(options);
        let has_url = args.url.is_some();
        Ok(Self { client, events, endpoint, has_url, was_connected: false, is_quiet: args.quiet })
    }

    /// The next event. The first attempt to connect has to succeed, a refusal is final; later the client connects again
    /// by itself, unless another client has taken its session: the two would take it from each other for ever.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        let event = self.events.next().await;
        match &event {
            Some(Event::Connected(connected)) => {
                self.was_connected = true;
                tracing::debug!(session = ?connected.session, client_id = %connected.client_id, "connected");
            }
            Some(Event::Disconnected(end)) => {
                tracing::debug!(%end, "disconnected");
                let is_taken_over =
                    matches!(end, ConnectionEnd::ByServer { reason_code: ReasonCode::SessionTakenOver, .. });
                if !self.was_connected || is_taken_over || matches!(end, ConnectionEnd::Refused { .. }) {
                    return Err(self.failure(end));
                }
                if !self.is_quiet {
                    eprintln!("mqtt: {}: {}; connecting again", self.endpoint, self.why(end));
                }
            }
            Some(event) => tracing::debug!(?event, "event"),
            None => {}
        }
        Ok(event)
    }

    /// Waits for the first connection.
    pub(crate) async fn connected(&mut self) -> Result<(), Failure> {
        while !matches!(self.next().await?, Some(Event::Connected(_))) {}
        Ok(())
    }

    /// Does something while the connection is looked after.
    pub(crate) async fn until<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                output = &mut work => return Ok(output),
                event = self.next() => { event?; }
            }
        }
    }

    /// Says DISCONNECT, waiting for what is under way, and ends when all is said.
    pub(crate) async fn close(self) {
        self.client.close(DRAIN);
        self.events.join().await;
    }

    /// The end of a connection with what the system says about it.
    fn why(&self, end: &ConnectionEnd) -> String {
        let error = match end {
            ConnectionEnd::Transport(TransportLost::NotOpened | TransportLost::Failed) => {
                self.client.last_transport_error()
            }
            _ => None,
        };
        error.map_or_else(|| end.to_string(), |error| format!("{end}: {error}"))
    }

    fn failure(&self, end: &ConnectionEnd) -> Failure {
        let endpoint = &self.endpoint;
        match end {
            ConnectionEnd::Transport(TransportLost::NotOpened) => {
                let error = self.client.last_transport_error().unwrap_or_default();
                if endpoint.is_secure {
                    return Failure::Connection(format!("no connection to {endpoint}: {error}. {SECURE}"));
                }
                let check = match (&endpoint.websocket, self.has_url) {
                    _ if endpoint.unix.is_some() => "listens there, and that this user may write to the socket",
                    (Some(_), _) => "serves MQTT over WebSocket there, and that the URL names its port and path",
                    (None, true) => "runs there, and that the URL names it",
                    (None, false) => "runs there, and that --host and --port name it",
                };
                Failure::Connection(format!("no connection to {endpoint}: {error}. Check that a broker {check}."))
            }
            ConnectionEnd::Refused { reason_code, reason_string, server_reference } => {
                let mut text = format!("{endpoint} refused the connection: {reason_code}");
                for detail in [reason_string.as_deref(), server_reference.as_deref()].into_iter().flatten() {
                    text.extend([" (", detail, ")"]);
                }
                if let Some(hint) = hint(*reason_code) {
                    text.extend([". ", hint]);
                }
                Failure::Refused(text)
            }
            ConnectionEnd::Transport(TransportLost::Closed) => Failure::Connection(format!(
                "{endpoint} closed the connection without an answer. \
                 Is it an MQTT broker, {tls} TLS, and does it speak this version? Try --protocol-version mqttv311.",
                tls = if endpoint.is_secure { "with" } else { "without" }
            )),
            end => Failure::Connection(format!("the connection to {endpoint} failed: {}", self.why(end))),
        }
    }
}

/// What may be done where a connection in TLS does not come about.
const SECURE: &str = "Check that a broker speaks TLS there, that --cafile names the CA of its certificate, that the host is a \
                      name in the certificate (--tls-name checks another, --insecure none), and that --cert and --key are \
                      given if it wants a certificate";

fn hint(reason_code: ReasonCode) -> Option<&'static str> {
    Some(match reason_code {
        ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => "Check --username and --pw.",
        ReasonCode::UnsupportedProtocolVersion => "Try --protocol-version mqttv311.",
        ReasonCode::ClientIdentifierNotValid => "Choose another --id.",
        _ => return None,
    })
}

fn config(args: &ConnectArgs, properties: &PropertyArgs) -> Config {
    let mut config = Config::new(&client_id(args));
    config.version = args.protocol_version;
    config.keep_alive = args.keepalive;
    config.session_expiry = match args.session_expiry_interval.or(properties.session_expiry_interval) {
        Some(seconds) => SessionExpiry::from_wire(Some(seconds)),
        None if args.disable_clean_session => SessionExpiry::Never,
        None => SessionExpiry::OnClose,
    };
    if args.disable_clean_session {
        config.clean_start = CleanStart::Never;
        // An earlier run of this program left it, and left nothing in flight that could be known now.
        config.adopt_session = true;
    }
    config.lost_session = LostSession::RepublishAtLeastOnce;
    config.queue.overflow = OverflowPolicy::Reject;
    if let Some(receive_maximum) = properties.receive_maximum {
        config.receive_maximum = receive_maximum;
    }
    if let Some(size) = properties.maximum_packet_size {
        config.maximum_packet_size = size.min(config.maximum_packet_size);
    }
    config.topic_alias_maximum = properties.topic_alias_maximum.unwrap_or(config.topic_alias_maximum);
    // One topic, mostly published once: an alias would only make the packets longer.
    config.outbound_topic_aliases = 0;
    config
}

/// The given identifier, or one that no other process on this machine has. It stays within the 23 characters that
/// every broker takes.
fn client_id(args: &ConnectArgs) -> String {
    match (&args.id, &args.id_prefix) {
        (Some(id), _) => id.clone(),
        (None, Some(prefix)) => format!("{prefix}{}", std::process::id()),
        (None, None) => {
            let time = crate::format::now().subsec_nanos();
            format!("mqtt{:x}{time:x}", std::process::id())
        }
    }
}

fn parameters(args: &ConnectArgs, properties: &PropertyArgs) -> Result<ConnectParameters, Failure> {
    let url = args.url.as_ref();
    let user_name = args.username.clone().or_else(|| url.and_then(|url| url.username.clone()));
    let password = args.pw.clone().or_else(|| url.and_then(|url| url.password.clone()));
    if password.is_some() && user_name.is_none() && args.protocol_version != Version::V5_0 {
        return Err(Failure::Usage("before MQTT 5.0 a password needs a user name: give --username".into()));
    }
    let mut parameters = ConnectParameters::default();
    parameters.user_name = user_name.map(Into::into);
    parameters.password = password.map(Bytes::from);
    parameters.properties = properties.connect.clone();
    if let Some(topic) = &args.will_topic {
        let topic = TopicNameBuf::new(topic.as_str()).map_err(|error| Failure::Usage(error.to_string()))?;
        let mut will = Will::new(topic, args.will_payload.clone().unwrap_or_default());
        will.qos = args.will_qos;
        will.retain = args.will_retain;
        will.properties = properties.will.clone();
        parameters.will = Some(will);
    }
    Ok(parameters)
}
