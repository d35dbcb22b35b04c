//! The command line: flags as users of `mosquitto_pub`, `mosquitto_sub` and `mosquitto_rr` know them.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand};
use damselfly_codec::{QoS, Version};
use damselfly_topic::{TopicFilter, TopicName};

use crate::{
    bench::BenchArgs,
    conformance::{self, ConformanceArgs},
    output::OutputArgs,
    passwd::{self, PasswdArgs},
    property::PropertyArgs,
    rr::RrArgs,
    tls::TlsArgs,
    url::Url,
};

/// Publish and subscribe with MQTT 5.0, 3.1.1 and 3.1.
#[derive(Debug, Parser)]
#[command(
    name = "mqtt",
    version,
    disable_help_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXIT_STATUS
)]
pub(crate) struct Cli {
    /// Print help (after a subcommand, -h is the host, as in mosquitto_pub).
    #[arg(long, global = true, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// Before a subcommand there is no host.
    #[arg(short = 'h', hide = true, action = clap::ArgAction::Help)]
    short_help: Option<bool>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_STATUS: &str = "Exit status:
   0  everything asked for was done
   1  no connection, or it was lost before the work was done
   2  the command line is wrong
   3  the broker refused the connection, a message or a subscription
  27  --timeout passed";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish messages.
    #[command(disable_help_flag = true, after_help = EXIT_STATUS)]
    Pub(Box<PubArgs>),
    /// Subscribe to topics and print what arrives.
    #[command(disable_help_flag = true, after_help = EXIT_STATUS)]
    Sub(Box<SubArgs>),
    /// Publish a request and print its response.
    #[command(disable_help_flag = true, after_help = EXIT_STATUS)]
    Rr(Box<RrArgs>),
    /// Load a broker, and measure rates and latencies.
    #[command(disable_help_flag = true, after_help = EXIT_STATUS)]
    Bench(Box<BenchArgs>),
    /// Hold a broker against the standards, and name the statement of each failed case.
    #[command(disable_help_flag = true, long_about = conformance::ABOUT, after_help = conformance::EXIT_STATUS)]
    Conformance(Box<ConformanceArgs>),
    /// Write a broker's password file.
    #[command(long_about = passwd::ABOUT)]
    Passwd(PasswdArgs),
}

/// Where to connect, as whom, and how.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ConnectArgs {
    /// Host name or address of the broker.
    #[arg(short = 'h', long, value_name = "HOST", default_value = "localhost")]
    pub(crate) host: String,
    /// TCP port of the broker; 1883, or 8883 with TLS.
    #[arg(short = 'p', long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Host, port, user, password and topic in one: `mqtt://[user[:password]@]host[:port]/topic`; over WebSocket with a
    /// path in place of the topic: `ws://[user[:password]@]host[:port][/mqtt]`; with TLS `mqtts://` and `wss://`;
    /// `unix:///path` is a Unix socket.
    #[arg(short = 'L', long, value_name = "URL", conflicts_with_all = ["host", "port"])]
    pub(crate) url: Option<Url>,
    /// Unix socket of the broker, in place of host and port.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port", "url"])]
    pub(crate) unix: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Client identifier; without it, one is made up.
    #[arg(short = 'i', long, value_name = "ID", conflicts_with = "id_prefix")]
    pub(crate) id: Option<String>,
    /// Client identifier made of this prefix and the process id.
    #[arg(short = 'I', long, value_name = "PREFIX")]
    pub(crate) id_prefix: Option<String>,
    /// User name.
    #[arg(short = 'u', long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Password. It shows in the process list: prefer a user whose rights are small.
    #[arg(short = 'P', long, value_name = "PASSWORD", allow_hyphen_values = true)]
    pub(crate) pw: Option<String>,
    /// Keep alive in seconds, 0 to 65535; 0 turns it off.
    #[arg(short = 'k', long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) keepalive: u16,
    /// Keep the session of this client identifier (needs --id); 5.0 without -x: for ever.
    #[arg(short = 'c', long, requires = "id")]
    pub(crate) disable_clean_session: bool,
    /// Protocol version: mqttv5 or 5, mqttv311 or 311, mqttv31 or 31.
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "mqttv5", value_parser = version)]
    pub(crate) protocol_version: Version,
    /// How long the broker keeps the session after the connection, in seconds; 4294967295 is for ever. 5.0 only.
    #[arg(short = 'x', long, value_name = "SECONDS")]
    pub(crate) session_expiry_interval: Option<u32>,
    /// Topic of the will, the message the broker publishes if this client dies.
    #[arg(long, value_name = "TOPIC", value_parser = topic_name)]
    pub(crate) will_topic: Option<String>,
    /// Payload of the will.
    #[arg(long, value_name = "PAYLOAD", requires = "will_topic", allow_hyphen_values = true)]
    pub(crate) will_payload: Option<String>,
    /// QoS of the will: 0, 1 or 2.
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value = "0", value_parser = qos)]
    pub(crate) will_qos: QoS,
    /// The will is retained.
    #[arg(long, requires = "will_topic")]
    pub(crate) will_retain: bool,
    /// A property of a packet, 5.0 only: PACKET NAME VALUE, or PACKET user-property KEY VALUE. Repeatable.
    #[arg(
        short = 'D',
        long = "property",
        num_args = 3..=4,
        action = clap::ArgAction::Append,
        value_names = ["PACKET", "NAME", "VALUE", "VALUE"],
    )]
    pub(crate) properties: Vec<String>,
    /// Record all that the client is told, without passwords, to this file, which can be played again.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Say on stderr what happens.
    #[arg(short = 'd', long)]
    pub(crate) debug: bool,
    /// Say nothing on stderr, not even errors.
    #[arg(long, conflicts_with = "debug")]
    pub(crate) quiet: bool,
}

impl ConnectArgs {
    /// The properties given by `-D`, checked.
    pub(crate) fn property_args(&self) -> Result<PropertyArgs, String> {
        PropertyArgs::parse(&self.properties, self.protocol_version)
    }

    /// The flags that only 5.0 knows need 5.0.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.protocol_version != Version::V5_0 && self.session_expiry_interval.is_some() {
            return Err("--session-expiry-interval needs --protocol-version mqttv5; with 3.1.1 a session is kept for \
                        ever when --disable-clean-session is given"
                .into());
        }
        if self.protocol_version != Version::V5_0 && !self.properties.is_empty() {
            return Err("--property needs --protocol-version mqttv5".into());
        }
        Ok(())
    }
}

/// `mqtt pub`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["message", "file", "stdin_line", "stdin_file", "null_message"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct PubArgs {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Topic to publish to.
    #[arg(short = 't', long, value_name = "TOPIC", value_parser = topic_name, required_unless_present = "url")]
    pub(crate) topic: Option<String>,
    /// Message payload.
    #[arg(short = 'm', long, value_name = "PAYLOAD", allow_hyphen_values = true)]
    pub(crate) message: Option<String>,
    /// Send the content of a file as one message.
    #[arg(short = 'f', long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// Send each line of stdin as one message.
    #[arg(short = 'l', long)]
    pub(crate) stdin_line: bool,
    /// Send all of stdin as one message.
    #[arg(short = 's', long)]
    pub(crate) stdin_file: bool,
    /// Send an empty message; with --retain it deletes the retained message.
    #[arg(short = 'n', long)]
    pub(crate) null_message: bool,
    /// QoS: 0 at most once, 1 at least once, 2 exactly once.
    #[arg(short = 'q', long, value_name = "QOS", default_value = "0", value_parser = qos)]
    pub(crate) qos: QoS,
    /// Ask the broker to retain the message.
    #[arg(short = 'r', long)]
    pub(crate) retain: bool,
    /// Publish the message this many times.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["stdin_line"])]
    pub(crate) repeat: u64,
    /// Wait between repetitions, in seconds: 1 or 0.25.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "repeat")]
    pub(crate) repeat_delay: Option<Duration>,
    /// Give up after this many seconds (exit status 27).
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Say each second on stderr how many messages are sent; done anyway if stderr is a terminal.
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) progress: bool,
}

/// `mqtt sub`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct SubArgs {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Topic filter to subscribe to; repeatable. Wildcards: + one level, # the rest.
    #[arg(short = 't', long, value_name = "FILTER", value_parser = topic_filter, required_unless_present_any = ["url", "unsubscribe"])]
    pub(crate) topic: Vec<String>,
    /// Highest QoS to receive with: 0, 1 or 2.
    #[arg(short = 'q', long, value_name = "QOS", default_value = "0", value_parser = qos)]
    pub(crate) qos: QoS,
    /// Exit after this many messages.
    #[arg(short = 'C', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Exit after this many seconds (exit status 27).
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Do not print retained messages that were there before (the RETAIN flag is set).
    #[arg(short = 'R', long, conflicts_with = "retained_only")]
    pub(crate) no_retained: bool,
    /// Print only retained messages, and exit at the first that is not.
    #[arg(long)]
    pub(crate) retained_only: bool,
    /// Delete each retained message that arrives; its topic is printed as usual.
    #[arg(long)]
    pub(crate) remove_retained: bool,
    /// Do not print messages whose topic matches this filter; repeatable.
    #[arg(short = 'T', long, value_name = "FILTER", value_parser = topic_filter)]
    pub(crate) filter_out: Vec<String>,
    /// Topic filter to unsubscribe from after connecting (with --disable-clean-session); repeatable.
    #[arg(short = 'U', long, value_name = "FILTER", value_parser = topic_filter)]
    pub(crate) unsubscribe: Vec<String>,
    /// Exit once the subscriptions are acknowledged.
    #[arg(short = 'E')]
    pub(crate) exit_after_subscribed: bool,
}

fn version(text: &str) -> Result<Version, String> {
    match text.to_ascii_lowercase().as_str() {
        "mqttv5" | "5" | "5.0" => Ok(Version::V5_0),
        "mqttv311" | "311" | "3.1.1" => Ok(Version::V3_1_1),
        "mqttv31" | "31" | "3.1" => Ok(Version::V3_1),
        _ => Err("the versions are mqttv5 (or 5), mqttv311 (or 311) and mqttv31 (or 31)".into()),
    }
}

pub(crate) fn qos(text: &str) -> Result<QoS, String> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("the QoS is 0 (at most once), 1 (at least once) or 2 (exactly once)".into()),
    }
}

/// A length of time of at most a century, so that a deadline always exists.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    const CENTURY: f64 = 100.0 * 365.0 * 86_400.0;
    let Ok(value) = f64::from_str(text) else { return Err("a number of seconds is needed, such as 5 or 0.5".into()) };
    if !(0.0..=CENTURY).contains(&value) {
        return Err("the seconds must be between 0 and a century".into());
    }
    Duration::try_from_secs_f64(value).map_err(|error| error.to_string())
}

pub(crate) fn topic_name(text: &str) -> Result<String, String> {
    TopicName::new(text).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

fn topic_filter(text: &str) -> Result<String, String> {
    TopicFilter::new(text).map(|filter| filter.as_str().to_owned()).map_err(|error| error.to_string())
}

impl SubArgs {
    /// Nothing is subscribed to: only [`SubArgs::unsubscribe`] is wanted.
    pub(crate) fn topic_is_missing(&self) -> bool {
        let of_url = self.connect.url.as_ref().and_then(|url| url.topic.as_ref());
        self.topic.is_empty() && of_url.is_none()
    }
}

#[cfg(test)]
mod tests {
    use damselfly_examples::client::Endpoint;

    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let words = std::iter::once("mqtt").chain(line.split(' '));
        Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    fn parse_pub(line: &str) -> Box<PubArgs> {
        match parse(&format!("pub {line}")) {
            Ok(Command::Pub(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn parse_sub(line: &str) -> Box<SubArgs> {
        match parse(&format!("sub {line}")) {
            Ok(Command::Sub(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_mosquitto_pub_are_understood() {
        let args = parse_pub(
            "-h broker -p 1884 -t a/b -m -5 -q 2 -r -i me -u alice -P -secret -k 5 -c -V 311 \
             --will-topic w --will-payload bye --will-qos 1 --will-retain --repeat 3 --repeat-delay 0.5 -d",
        );
        assert_eq!((args.connect.host.as_str(), args.connect.port), ("broker", Some(1884)));
        assert_eq!((args.topic.as_deref(), args.message.as_deref()), (Some("a/b"), Some("-5")));
        assert_eq!((args.qos, args.retain), (QoS::ExactlyOnce, true));
        assert_eq!((args.connect.id.as_deref(), args.connect.username.as_deref()), (Some("me"), Some("alice")));
        assert_eq!((args.connect.pw.as_deref(), args.connect.keepalive), (Some("-secret"), 5));
        assert_eq!((args.connect.disable_clean_session, args.connect.protocol_version), (true, Version::V3_1_1));
        assert_eq!((args.connect.will_qos, args.connect.will_retain), (QoS::AtLeastOnce, true));
        assert_eq!((args.repeat, args.repeat_delay), (3, Some(Duration::from_millis(500))));
    }

    #[test]
    fn flags_of_mosquitto_sub_are_understood() {
        let args = parse_sub("-t a/+ -t b/# -q 1 -C 5 -W 3 -v -R -T a/x -U c -E -N -I pre --remove-retained");
        assert_eq!(args.topic, ["a/+", "b/#"]);
        assert_eq!((args.count, args.timeout), (Some(5), Some(Duration::from_secs(3))));
        assert!(args.output.verbose && args.no_retained && args.exit_after_subscribed && args.output.no_line_end);
        assert!(args.remove_retained);
        assert_eq!((args.filter_out, args.unsubscribe), (vec!["a/x".to_owned()], vec!["c".to_owned()]));
        assert_eq!(args.connect.id_prefix.as_deref(), Some("pre"));
    }

    #[test]
    fn flags_of_mosquitto_rr_are_understood() {
        let line = "rr -t ask -e answer -m ? -q 1 -W 3 -R -v -N -V 5 -D publish content-type a -h broker";
        let Ok(Command::Rr(args)) = parse(line) else { panic!("{line}") };
        assert_eq!((args.topic.as_deref(), args.response_topic.as_deref()), (Some("ask"), Some("answer")));
        assert_eq!((args.qos, args.timeout), (QoS::AtLeastOnce, Some(Duration::from_secs(3))));
        assert!(args.no_retained && args.output.verbose && args.output.no_line_end);
    }

    #[test]
    fn properties_end_where_the_next_flag_begins() {
        let args = parse_pub("-t a -D publish user-property k v -D publish content-type text/plain -m x");
        assert_eq!(args.connect.properties.len(), 7);
        let properties = args.connect.property_args().unwrap();
        assert_eq!(properties.publish.as_properties().content_type(), Some("text/plain"));
    }

    #[test]
    fn url_stands_for_host_port_and_topic() {
        let args = parse_pub("-L mqtt://al:pw@broker:1884/a/b -m x");
        let url = args.connect.url.unwrap();
        assert_eq!((url.endpoint, url.topic.as_deref()), (Endpoint::new("broker", 1884), Some("a/b")));
    }

    #[test]
    fn wrong_command_line_says_what_would_be_right() {
        for (line, hint) in [
            ("pub -t a", "--message"),
            ("pub -t a -m x -n", "cannot be used with"),
            ("pub -m x", "--topic"),
            ("pub -t a/# -m x", "wildcard"),
            ("pub -t a -m x -q 3", "0 (at most once)"),
            ("pub -t a -m x -V 4", "mqttv311"),
            ("pub -t a -m x -k 65536", "65535"),
            ("pub -t a -m x -c", "--id"),
            ("pub -t a -m x -p 0x", "invalid digit"),
            ("pub -t a -m x --repeat 0", "0 is not in"),
            ("pub -t a -m x --repeat 2 --repeat-delay soon", "number of seconds"),
            ("pub -t a -m x --timeout=-1", "between 0"),
            ("pub -t a -m x --will-payload bye", "--will-topic"),
            ("pub -t a -m x -L broker/a", "mqtt://"),
            ("sub", "--topic"),
            ("sub -t a#", "'#'"),
            ("sub -t $share/g", "filter"),
            ("sub -t a -C 0", "0 is not in"),
            ("sub -t a -v -F %p", "cannot be used with"),
            ("sub -t a -F %z", "%z is no field"),
            ("sub -t a --retained-onyl", "--retained-only"),
            ("rr -t a -e b", "--message"),
            ("rr -m x -e b", "--topic"),
            ("rr -t a -m x -e b/#", "wildcard"),
            ("bench --size 7", "8"),
            ("bench --publishers 0", "0 is not in"),
            ("bench --count 5 --duration 5", "cannot be used with"),
            ("bulb", "unrecognized subcommand"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(hint), "{line}: {error}");
        }
    }

    #[test]
    fn flags_of_5_0_need_5_0() {
        for line in ["-t a -m x -V 311 -x 5", "-t a -m x -V 311 -D publish content-type a"] {
            assert!(parse_pub(line).connect.check().unwrap_err().contains("mqttv5"));
        }
        assert_eq!(parse_pub("-t a -m x -x 5").connect.check(), Ok(()));
    }
}
