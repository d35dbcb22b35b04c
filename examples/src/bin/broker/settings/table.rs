//! Every setting, once: the flags, the keys of the file, the sample and what an unknown key may have meant come from here.

use damselfly_broker::WhenFull;
use tracing::level_filters::LevelFilter;

use super::Setup;
use super::value::{Field, Kind, Named, Value, Wrong};

/// One setting: a key of the file, and the flag of the same name with `-` for `_`.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// In the order of the groups.
    pub(crate) group: Group,
    pub(crate) doc: &'static str,
    /// What a client is told; empty if it is told nothing.
    pub(crate) answer: &'static str,
    pub(crate) get: fn(&Setup) -> Value,
    pub(crate) set: fn(&mut Setup, Value) -> Result<(), Wrong>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    General,
    Tls,
    Limits,
    Features,
    Access,
    Logins,
}

impl Group {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::General => "The program",
            Self::Tls => "TLS, of listeners with mqtts:// or wss:// (files are read again at SIGHUP)",
            Self::Limits => {
                "Limits (sizes take K, M and G, in powers of 1,024; times are in seconds, or take ms, s, m, h, d)"
            }
            Self::Features => "What clients may use",
            Self::Access => "Who may connect, and what for",
            Self::Logins => "What logins may cost",
        }
    }
}

impl Setting {
    /// The setting of this name, as a key or as a flag without its dashes.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.name == name)
    }

    /// The name that is most like `name`.
    pub(crate) fn nearest(name: &str) -> &'static str {
        let name = name.to_lowercase().replace('-', "_");
        let distance = |setting: &&Self| strsim::damerau_levenshtein(&name, setting.name);
        TABLE.iter().min_by_key(distance).map_or("", |setting| setting.name)
    }

    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// The value without any file or flag, as it is written.
    pub(crate) fn default(&self) -> Value {
        (self.get)(&Setup::default())
    }

    /// Reads one value; it can be set.
    pub(crate) fn parse(&self, text: &str) -> Result<Value, Wrong> {
        self.check(self.kind.parse(text)?)
    }

    /// The value, if it can be set.
    pub(crate) fn check(&self, value: Value) -> Result<Value, Wrong> {
        (self.set)(&mut Setup::default(), value.clone())?;
        Ok(value)
    }
}

macro_rules! setting {
    ($group:ident, $name:expr, $kind:expr, $($field:ident).+, $doc:literal, $answer:literal) => {
        Setting {
            name: $name,
            kind: $kind,
            group: Group::$group,
            doc: $doc,
            answer: $answer,
            get: |setup| setup.$($field).+.get(),
            set: |setup, value| setup.$($field).+.set(value),
        }
    };
}

/// The setting of the field of [`Config`](damselfly_broker::Config) with its name.
macro_rules! core {
    ($group:ident, $field:ident, $kind:expr, $doc:literal, $answer:literal) => {
        setting!($group, stringify!($field), $kind, config.$field, $doc, $answer)
    };
}

pub(crate) static TABLE: &[Setting] = &[
    setting!(
        General,
        "listen",
        Kind::Listeners,
        listen,
        "Where to listen: an address and a port, with ws:// in front for WebSocket, whose path is /mqtt, and mqtts:// or \
         wss:// for TLS; port 0 takes a free one; or unix:///PATH",
        ""
    ),
    setting!(
        General,
        "max_listener_connections",
        Kind::Count("connections"),
        max_listener_connections,
        "Connections of each listener at once; none leaves it to max_connections",
        "the next 16 CONNACK 0x97 (3.1.1: 0x03), those beyond closed unread"
    ),
    setting!(
        General,
        "allow_origins",
        Kind::Origins,
        allow_origins,
        "Origins of the pages that may connect over WebSocket, besides those that come from the listener's own host and \
         port, over https or by an address; * allows all",
        "HTTP status 403"
    ),
    setting!(General, "log_level", Kind::Choice(LevelFilter::NAMES), log_level, "What is logged to standard error", ""),
    setting!(General, "demo", Kind::Switch, demo, "Run a few devices inside the broker and print every message", ""),
    setting!(
        Tls,
        "certificate",
        Kind::Files,
        tls.certificate,
        "PEM files with the certificates of listeners over TLS, each with those that lead to its CA behind it. Clients that \
         name a host get the one that is valid for it, others the first",
        ""
    ),
    setting!(Tls, "key", Kind::Files, tls.key, "PEM files with the keys of these certificates, in the same order", ""),
    setting!(
        Tls,
        "client_ca",
        Kind::Files,
        tls.client_ca,
        "PEM files with the certificates of the CAs of clients; with them clients have to show a certificate",
        "alert of TLS"
    ),
    setting!(
        Tls,
        "crl",
        Kind::Files,
        tls.crl,
        "PEM files with the revocation lists of these CAs; with any, each CA that clients come with needs one",
        "alert of TLS"
    ),
    setting!(
        Tls,
        "require_client_certificate",
        Kind::Switch,
        tls.require_client_certificate,
        "Whether clients may not come without a certificate where client_ca is given",
        "alert of TLS"
    ),
    setting!(
        Tls,
        "certificate_as_user_name",
        Kind::Switch,
        tls.certificate_as_user_name,
        "Take the name in a client's certificate (Common Name, else the first DNS name) for its user name; no password is \
         asked for then",
        ""
    ),
    core!(Limits, max_connections, Kind::Count("connections"), "Connections at once", "socket closed"),
    core!(
        Limits,
        max_sessions,
        Kind::Count("sessions"),
        "Sessions at once, those of absent clients too",
        "a client without one: CONNACK 0x97 (3.1.1: 0x03)"
    ),
    core!(
        Limits,
        connect_timeout,
        Kind::Time,
        "Time for a connection to send its CONNECT, and for each next AUTH",
        "socket closed; without the AUTH CONNACK or DISCONNECT 0x87"
    ),
    core!(
        Limits,
        max_connect_packet_size,
        Kind::Size,
        "Size of a CONNECT; where it is not given, max_packet_size bounds it too",
        "socket closed"
    ),
    core!(
        Limits,
        max_packet_size,
        Kind::Size,
        "Size of a packet from a client",
        "told in CONNACK; DISCONNECT 0x95 (3.1.1: socket closed)"
    ),
    core!(
        Limits,
        max_other_packet_size,
        Kind::Size,
        "Size of any packet but CONNECT and PUBLISH",
        "DISCONNECT 0x97 (3.1.1: socket closed)"
    ),
    core!(
        Limits,
        max_payload_size,
        Kind::Size,
        "Size of the payload of a message or will",
        "PUBACK, PUBREC or, of a will, CONNACK 0x97 (3.1.1: acknowledged, dropped, counted; of a will CONNACK 0x03)"
    ),
    core!(
        Limits,
        max_property_bytes,
        Kind::Size,
        "Size of the properties of a message or will",
        "DISCONNECT or CONNACK 0x97"
    ),
    core!(
        Limits,
        receive_maximum,
        Kind::Count("messages"),
        "QoS 1 and 2 messages a client may have unacknowledged",
        "told in CONNACK; DISCONNECT 0x93 (3.1.1: not told, not held to it)"
    ),
    core!(
        Limits,
        max_inflight,
        Kind::Count("messages"),
        "QoS 1 and 2 messages unacknowledged by a client; more wait in its queue",
        ""
    ),
    Setting {
        name: "max_inflight_bytes",
        kind: Kind::Size,
        group: Group::Limits,
        doc: "Size of the QoS 1 and 2 messages not yet taken over by a client; more wait in its queue",
        answer: "",
        get: |setup| match setup.config.max_inflight_bytes {
            u64::MAX => Value::Nothing,
            bytes => bytes.get(),
        },
        set: |setup, value| match value {
            Value::Nothing => setup.config.max_inflight_bytes.set(Value::Number(u64::MAX)),
            value => setup.config.max_inflight_bytes.set(value),
        },
    },
    core!(
        Limits,
        topic_alias_maximum,
        Kind::Count("aliases"),
        "Topic aliases a client may set; 0 is none",
        "told in CONNACK; DISCONNECT 0x94"
    ),
    core!(
        Limits,
        max_outbound_topic_aliases,
        Kind::Count("aliases"),
        "Topic aliases set towards one client; 0 is none",
        ""
    ),
    core!(
        Limits,
        max_alias_bytes,
        Kind::Size,
        "Size of the topics behind the aliases of one connection, each way",
        "DISCONNECT 0x97"
    ),
    core!(
        Limits,
        max_queued_messages,
        Kind::Count("messages"),
        "QoS 1 and 2 messages waiting for one client",
        "see when_full"
    ),
    core!(Limits, max_queued_bytes, Kind::Size, "Size of all messages waiting for one client", "see when_full"),
    core!(
        Limits,
        max_transmit_bytes,
        Kind::Size,
        "Encoded bytes waiting for one connection to read; QoS 0 messages beyond are dropped for it",
        ""
    ),
    core!(
        Limits,
        when_full,
        Kind::Choice(WhenFull::NAMES),
        "What happens to a message for a client whose queue is full",
        "drop-newest: the publisher is told 0x97 (3.1.1: acknowledged, dropped, counted); close-legacy-publisher: a 3.1.1 publisher is disconnected instead"
    ),
    core!(
        Limits,
        max_subscriptions,
        Kind::Count("subscriptions"),
        "Subscriptions of one client",
        "SUBACK 0x97 (3.1.1: 0x80)"
    ),
    core!(
        Limits,
        max_subscription_bytes,
        Kind::Size,
        "Size of the topic filters one client is subscribed to",
        "SUBACK 0x97 (3.1.1: 0x80)"
    ),
    core!(
        Limits,
        max_topic_levels,
        Kind::Count("levels"),
        "Levels of a topic, at most 128",
        "SUBACK 0x8F (3.1.1: 0x80); PUBACK or PUBREC 0x90 (3.1.1: acknowledged, dropped, counted)"
    ),
    core!(
        Limits,
        max_retained_messages,
        Kind::Count("messages"),
        "Retained messages; one more is delivered and not retained",
        "PUBACK or PUBREC 0x97 (3.1.1: counted)"
    ),
    core!(Limits, max_retained_bytes, Kind::Size, "Size of all retained messages; as max_retained_messages", ""),
    core!(
        Limits,
        max_memory,
        Kind::Size,
        "Memory of the whole broker: messages, connections, sessions, subscriptions, unfinished packets",
        "acknowledgements wait for pause_limit, then 0x97 (3.1.1: acknowledged, dropped, counted); CONNACK 0x97 (3.1.1: 0x03), SUBACK 0x97 (3.1.1: 0x80); an unfinished packet DISCONNECT 0x97 (3.1.1: socket closed)"
    ),
    core!(
        Limits,
        pause_limit,
        Kind::Time,
        "How long a client waits for memory or room in a queue before it is refused",
        "see max_memory"
    ),
    core!(
        Limits,
        question_timeout,
        Kind::Time,
        "How long a question to the program may stay unanswered",
        "as an answer of no: 0x87 (3.1.1: return code 5, SUBACK 0x80)"
    ),
    core!(
        Limits,
        max_session_expiry,
        Kind::Seconds,
        "Ceiling of how long a session outlives its connection; with none a client may ask for ever",
        "told in CONNACK"
    ),
    core!(
        Limits,
        max_keep_alive,
        Kind::Seconds,
        "Ceiling of Keep Alive; 0 is no ceiling",
        "Server Keep Alive (3.1.1: CONNACK 0x02)"
    ),
    core!(
        Limits,
        route_cache_entries,
        Kind::Count("topics"),
        "Topics with their receivers that one publishing connection remembers; 0 is none",
        ""
    ),
    core!(
        Limits,
        route_cache_receivers,
        Kind::Count("receivers"),
        "Receivers in one remembered route; a wider one is looked up each time",
        ""
    ),
    core!(
        Limits,
        steps_per_call,
        Kind::Count("steps"),
        "Index nodes, receivers and entries looked at before others have their turn",
        ""
    ),
    core!(
        Features,
        maximum_qos,
        Kind::Count("QoS"),
        "Highest QoS of PUBLISH and wills; subscriptions are granted at most this",
        "told in CONNACK; DISCONNECT 0x9B (3.1.1: socket closed)"
    ),
    core!(
        Features,
        retain_available,
        Kind::Switch,
        "Whether messages are retained",
        "told in CONNACK; DISCONNECT 0x9A (3.1.1: socket closed)"
    ),
    core!(
        Features,
        wildcard_subscription_available,
        Kind::Switch,
        "Whether filters may have wildcards",
        "told in CONNACK; SUBACK 0xA2 (3.1.1: 0x80)"
    ),
    core!(
        Features,
        shared_subscription_available,
        Kind::Switch,
        "Whether subscriptions may be shared",
        "told in CONNACK; SUBACK 0x9E (3.1.1: 0x80)"
    ),
    core!(
        Features,
        subscription_ids_available,
        Kind::Switch,
        "Whether subscriptions may carry Subscription Identifiers",
        "told in CONNACK; SUBACK 0xA1"
    ),
    core!(
        Features,
        allow_empty_client_id,
        Kind::Switch,
        "Whether a client may leave the choice of its identifier to the broker",
        "CONNACK 0x85 (3.1.1: 0x02)"
    ),
    core!(
        Features,
        check_payload_format,
        Kind::Switch,
        "Whether a payload that is said to be UTF-8 is checked to be",
        "PUBACK, PUBREC or, of a will, CONNACK 0x99"
    ),
    core!(
        Features,
        reason_strings,
        Kind::Switch,
        "Whether 5.0 clients are told in words which rule they broke",
        "in DISCONNECT and CONNACK"
    ),
    setting!(
        Access,
        "password_file",
        Kind::File,
        password_file,
        "The users and the hashes of their passwords, as mqtt passwd and mosquitto_passwd write them; read again at SIGHUP. \
         With none nobody is asked for a password",
        "CONNACK 0x86 (3.1.1: 0x04)"
    ),
    setting!(
        Access,
        "allow_anonymous",
        Kind::Switch,
        allow_anonymous,
        "Whether clients without user name and password may connect; with none they may if they come from this machine, and \
         neither password_file nor certificate_as_user_name says who clients are",
        "CONNACK 0x87 (3.1.1: 0x05)"
    ),
    setting!(
        Access,
        "access_file",
        Kind::File,
        access_file,
        "What each user and anonymous clients may publish and subscribe, as in an acl_file of mosquitto; read again at \
         SIGHUP. With one everything is denied that it does not permit, with none nothing is",
        "PUBACK or PUBREC 0x87 (3.1.1: acknowledged, dropped, counted), SUBACK 0x87 (3.1.1: 0x80)"
    ),
    setting!(
        Access,
        "refused_topics",
        Kind::Filters,
        refused_topics,
        "Filters of the topics to which no client may publish",
        "PUBACK or PUBREC 0x87 (3.1.1: acknowledged, dropped, counted)"
    ),
    setting!(
        Access,
        "refused_filters",
        Kind::Filters,
        refused_filters,
        "Filters of the topics that no client gets: a filter that can match one of them is refused",
        "SUBACK 0x87 (3.1.1: 0x80)"
    ),
    setting!(
        Logins,
        "login_threads",
        Kind::Count("threads"),
        logins.login_threads,
        "Threads that verify passwords, each with 19M of memory for the hashes of mqtt passwd",
        ""
    ),
    setting!(
        Logins,
        "max_queued_logins",
        Kind::Count("logins"),
        logins.max_queued_logins,
        "Logins that wait for such a thread",
        "CONNACK 0x89 (3.1.1: 0x03)"
    ),
    setting!(
        Logins,
        "max_logins_per_address",
        Kind::Count("logins"),
        logins.max_logins_per_address,
        "Logins of one address (IPv6: of one /64) under way, those that failed and wait to be told among them",
        "CONNACK 0x89 (3.1.1: 0x03)"
    ),
    setting!(
        Logins,
        "max_logins_after_failure",
        Kind::Count("logins"),
        logins.max_logins_after_failure,
        "The same for an address with a failed login in the last five minutes",
        "CONNACK 0x89 (3.1.1: 0x03)"
    ),
    setting!(
        Logins,
        "failed_login_delay",
        Kind::Time,
        logins.failed_login_delay,
        "How long the first failed login of an address waits for its answer; each further one waits twice as long",
        ""
    ),
    setting!(
        Logins,
        "max_failed_login_delay",
        Kind::Time,
        logins.max_failed_login_delay,
        "The most it waits, which must be less than question_timeout",
        ""
    ),
    setting!(
        Logins,
        "max_failing_addresses",
        Kind::Count("addresses"),
        logins.max_failing_addresses,
        "Addresses whose failed logins are remembered; the one that failed longest ago makes room",
        ""
    ),
];
