use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use damselfly_broker::{Config, ConfigError};
use tracing::level_filters::LevelFilter;

const EXAMPLES: &str = "\
Examples:
  broker                                         clients on this machine, port 1883
  broker --demo                                  the same, with something to see
  broker --listen 127.0.0.1:0 --log-level debug  a free port, told in the first line of output
  broker --listen 0.0.0.0:1883 --allow-anonymous --max-packet-size 1M

Then, in another terminal, with any client; mqtt is built from the same package as this broker:
  mqtt sub -t 'hello/#' -v
  mqtt pub -t hello/world -m 'it works'

SIGINT (Ctrl-C) or SIGTERM ends the broker: clients are told, exit status 0. A second one ends it at once.
Exit status 1: what was asked for could not be done; 2: the command line is wrong.";

/// An MQTT broker for 3.1, 3.1.1 and 5.0 clients over TCP. Everything is kept in memory.
#[derive(Debug, Parser)]
#[command(name = "broker", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Where to listen: an address and a port; port 0 takes a free one. May be given several times
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1883")]
    pub(crate) listen: Vec<String>,

    /// Accept clients from beyond this machine although nobody is asked for a password
    #[arg(long)]
    pub(crate) allow_anonymous: bool,

    /// What is logged to standard error
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,

    /// Run a few devices inside the broker and print every message
    #[arg(long)]
    pub(crate) demo: bool,

    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// Sizes take the suffixes K, M and G (powers of 1,024); times are in seconds and may have a fraction.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits (sizes may end in K, M or G; times are in seconds)")]
pub(crate) struct Limits {
    /// Connections at once; one more is refused
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_connections)]
    max_connections: u32,

    /// Sessions at once, those of absent clients too; a client without one is refused
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_sessions)]
    max_sessions: u32,

    /// Time for a connection to send its CONNECT
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds(Config::default().connect_timeout))]
    connect_timeout: Seconds,

    /// Size of a packet from a client; a longer one ends its connection
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().max_packet_size.into()), value_parser = small_size)]
    max_packet_size: Size,

    /// QoS 1 and 2 messages a client may have unacknowledged
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().receive_maximum)]
    receive_maximum: u16,

    /// QoS 1 and 2 messages unacknowledged by a client; more wait in its queue
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_inflight)]
    max_inflight: u16,

    /// QoS 1 and 2 messages waiting for one client
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_queued_messages)]
    max_queued_messages: u32,

    /// Size of all messages waiting for one client
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().max_queued_bytes))]
    max_queued_bytes: Size,

    /// Encoded bytes waiting for one connection to read; QoS 0 messages beyond are dropped for it
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().max_transmit_bytes.into()), value_parser = small_size)]
    max_transmit_bytes: Size,

    /// Subscriptions of one client
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_subscriptions)]
    max_subscriptions: u32,

    /// Size of the topic filters one client is subscribed to
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().max_subscription_bytes.into()), value_parser = small_size)]
    max_subscription_bytes: Size,

    /// Levels of a topic
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_topic_levels)]
    max_topic_levels: u16,

    /// Topic aliases a client may set; 0 is none
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().topic_alias_maximum)]
    topic_alias_maximum: u16,

    /// Retained messages
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_retained_messages)]
    max_retained_messages: u32,

    /// Size of all retained messages
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().max_retained_bytes))]
    max_retained_bytes: Size,

    /// Memory of the whole broker: messages, connections, sessions, subscriptions, unfinished packets
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().max_memory))]
    max_memory: Size,

    /// How long a client waits for memory or room in a queue before it is refused
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds(Config::default().pause_limit))]
    pause_limit: Seconds,

    /// Ceiling of how long a session outlives its connection; without it a client may ask for ever
    #[arg(long, value_name = "SECONDS")]
    max_session_expiry: Option<u32>,

    /// Ceiling of Keep Alive; 0 is none
    #[arg(long, value_name = "SECONDS", default_value_t = Config::default().max_keep_alive)]
    max_keep_alive: u16,
}

impl Limits {
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.max_connections = self.max_connections;
        config.max_sessions = self.max_sessions;
        config.connect_timeout = self.connect_timeout.0;
        config.max_packet_size = self.max_packet_size.saturating_u32();
        config.max_connect_packet_size = config.max_connect_packet_size.min(config.max_packet_size);
        config.receive_maximum = self.receive_maximum;
        config.max_inflight = self.max_inflight;
        config.max_queued_messages = self.max_queued_messages;
        config.max_queued_bytes = self.max_queued_bytes.0;
        config.max_transmit_bytes = self.max_transmit_bytes.saturating_u32();
        config.max_subscriptions = self.max_subscriptions;
        config.max_subscription_bytes = self.max_subscription_bytes.saturating_u32();
        config.max_topic_levels = self.max_topic_levels;
        config.topic_alias_maximum = self.topic_alias_maximum;
        config.pause_limit = self.pause_limit.0;
        config.max_retained_messages = self.max_retained_messages;
        config.max_retained_bytes = self.max_retained_bytes.0;
        config.max_memory = self.max_memory.0;
        config.max_session_expiry = self.max_session_expiry;
        config.max_keep_alive = self.max_keep_alive;
        config
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Bytes: `4096`, `64K`, `16M`, `2G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(u64);

impl Size {
    fn saturating_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// A size of less than 4 GiB.
fn small_size(text: &str) -> Result<Size, &'static str> {
    let size: Size = text.parse()?;
    if u32::try_from(size.0).is_ok() { Ok(size) } else { Err("it must be less than 4G") }
}

/// What to do without a flag that is not known, if it is one of `mosquitto`.
pub(crate) fn instead_of(flag: &str) -> Option<&'static str> {
    Some(match flag {
        "-p" | "--port" => "give the address too: --listen 127.0.0.1:PORT",
        "-c" | "--config-file" => "there is no configuration file: give the flags that --help shows",
        "-d" | "--daemon" => "the broker stays in the foreground: have a service manager start it",
        "-v" | "--verbose" => "give --log-level debug",
        "-q" | "--quiet" => "give --log-level off",
        _ => return None,
    })
}

/// An error about the config in the words of the command line: its flags are named like the fields, and sizes are given
/// with their unit.
pub(crate) fn in_flags(error: &ConfigError) -> String {
    let flag = |name: &str| format!("--{}", name.replace('_', "-"));
    let number = |name: &str, limit: u64| {
        if name.ends_with("_size") || name.ends_with("_bytes") { Size(limit).to_string() } else { limit.to_string() }
    };
    match *error {
        ConfigError::Zero(name) => format!("{} must not be 0", flag(name)),
        ConfigError::TooSmall { name, limit } => format!("{} must be at least {}", flag(name), number(name, limit)),
        ConfigError::TooLarge { name, limit } => format!("{} must be at most {}", flag(name), number(name, limit)),
        ref error => error.to_string(),
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut units = UNITS.into_iter();
        let short = text.strip_suffix("iB").unwrap_or(text);
        let (number, unit) = units
            .find_map(|(suffix, unit)| Some((short.strip_suffix([suffix, suffix.to_ascii_lowercase()])?, unit)))
            .unwrap_or((text, 1));
        let number =
            number.parse::<u64>().map_err(|_| "a size is a whole number of bytes, or of K, M or G: 4096, 64K")?;
        Ok(Self(number.saturating_mul(unit)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.into_iter().find(|(_, unit)| self.0 >= *unit && self.0 % unit == 0) {
            Some((suffix, unit)) => write!(f, "{}{suffix}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Seconds with a fraction: `20`, `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "a time is a number of seconds, such as 20 or 0.5".to_owned();
        let seconds = text.parse::<f64>().map_err(|_| wrong())?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_limits_the_config_is_the_default() {
        let arguments = Arguments::try_parse_from(["broker"]).unwrap();
        assert_eq!(arguments.limits.config(), Config::default());
        assert_eq!(arguments.listen, ["127.0.0.1:1883"]);
    }

    #[test]
    fn sizes_take_suffixes_and_print_them() {
        assert_eq!("64K".parse(), Ok(Size(65_536)));
        assert_eq!("1m".parse(), Ok(Size(1_048_576)));
        assert_eq!("2G".parse(), Ok(Size(2_147_483_648)));
        assert_eq!("16MiB".parse(), Ok(Size(16_777_216)));
        assert!("16iB".parse::<Size>().is_err());
        assert_eq!(small_size("4095M"), Ok(Size(4_293_918_720)));
        assert!(small_size("4G").is_err());
        assert_eq!("1000".parse(), Ok(Size(1_000)));
        assert!("12Q".parse::<Size>().is_err());
        assert!("1.5M".parse::<Size>().is_err());
        assert!("K".parse::<Size>().is_err());
        assert!("-1".parse::<Size>().is_err());
        assert_eq!(Size(65_536).to_string(), "64K");
        assert_eq!(Size(65_537).to_string(), "65537");
        assert_eq!(Size(0).to_string(), "0");
    }

    #[test]
    fn times_take_fractions_and_refuse_what_is_no_time() {
        assert_eq!("0.25".parse(), Ok(Seconds(Duration::from_millis(250))));
        assert!("-1".parse::<Seconds>().is_err());
        assert!("NaN".parse::<Seconds>().is_err());
        assert!("soon".parse::<Seconds>().is_err());
    }
}
