//! The command line. Its flags are the settings.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::settings::{Builder, Kind, Setting, TABLE, Value};

const ABOUT: &str = "An MQTT broker for 3.1, 3.1.1 and 5.0 clients over TCP and Unix sockets, TLS and WebSocket. Everything is kept in memory.";

const EXAMPLES: &str = "\
Examples:
  broker                                         clients on this machine, port 1883
  broker --demo                                  the same, with something to see
  broker --listen 127.0.0.1:0 --log-level debug  a free port, told in the first line of output
  broker --listen 127.0.0.1:1883 --listen ws://127.0.0.1:8083
  broker --listen mqtts://127.0.0.1:8883 --certificate chain.pem --key key.pem
  broker --listen 0.0.0.0:1883 --allow-anonymous --max-packet-size 1M
  broker sample > broker.toml                    a file with every setting, its default and what it does
  broker check broker.toml                       what is wrong with a file: status 0 if nothing, else 2
  broker --config broker.toml --log-level debug  settings from a file; flags win over it

Then, in another terminal, with any client; mqtt is built from the same package as this broker:
  mqtt sub -t 'hello/#' -v
  mqtt pub -t hello/world -m 'it works'

SIGINT (Ctrl-C) or SIGTERM ends the broker: clients are told, exit status 0. A second one ends it at once.
Exit status 1: what was asked for could not be done; 2: the command line or the file is wrong.";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Task {
    /// With a file to record to.
    Serve(Box<Builder>, Option<PathBuf>),
    /// Say what is wrong with this file.
    Check(String),
    /// Print a file with every setting.
    Sample,
}

pub(crate) fn parse<I: IntoIterator<Item = T>, T: Into<std::ffi::OsString> + Clone>(
    arguments: I,
) -> Result<Task, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    Ok(match matches.subcommand() {
        Some(("check", matches)) => Task::Check(matches.get_one::<String>("FILE").cloned().unwrap_or_default()),
        Some(_) => Task::Sample,
        None => Task::Serve(Box::new(settings(&matches)), matches.get_one("record").cloned()),
    })
}

/// The file first, then the flags, which win.
fn settings(matches: &ArgMatches) -> Builder {
    let mut builder = Builder::default();
    if let Some(path) = matches.get_one::<String>("config") {
        builder.read(path);
    }
    for setting in TABLE {
        let values = matches.get_many::<Value>(setting.name).into_iter().flatten().cloned();
        if let Some(value) = values.reduce(join) {
            builder.flag(setting, value);
        }
    }
    builder
}

/// A flag that may be given several times makes one list; of others there is one.
fn join(first: Value, second: Value) -> Value {
    match (first, second) {
        (Value::Texts(first), Value::Texts(second)) => Value::Texts([first, second].concat()),
        (Value::Listeners(first), Value::Listeners(second)) => Value::Listeners([first, second].concat()),
        (_, second) => second,
    }
}

fn command() -> Command {
    let config = Arg::new("config").long("config").value_name("FILE");
    let config = config.help("Read settings from this TOML file; flags win over it. An unknown key is an error");
    let record = Arg::new("record").long("record").value_name("FILE").value_parser(value_parser!(PathBuf));
    let record =
        record.help("Record all that the core is told, without passwords, to this file, which can be played again");
    let file = Arg::new("FILE").required(true).help("The TOML file");
    let check = Command::new("check").about("Say everything that is wrong with a settings file").arg(file);
    let sample = Command::new("sample").about("Print a settings file with every key, its default and what it does");
    Command::new("broker")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(EXAMPLES)
        .args_conflicts_with_subcommands(true)
        .subcommands([check, sample])
        .args([config, record])
        .args(TABLE.iter().map(flag))
}

fn flag(setting: &'static Setting) -> Arg {
    let default = setting.kind.show(&setting.default());
    let mut help = setting.doc.to_owned();
    match setting.kind {
        Kind::Choice(words) => help.extend([" [possible values: ", &words.join(", "), "]"]),
        kind if kind.is_list() || kind == Kind::Listeners => help.push_str(". May be given several times"),
        _ => {}
    }
    if !default.is_empty() {
        help.extend([" [default: ", &default, "]"]);
    }
    let parse =
        move |text: &str| setting.parse(text).map_err(|wrong| format!("it must be {}", setting.kind.demand(wrong)));
    let arg = Arg::new(setting.name)
        .long(setting.name.replace('_', "-"))
        .help(help)
        .help_heading(setting.group.heading())
        .value_name(setting.kind.placeholder())
        .value_parser(ValueParser::from(parse));
    match setting.kind {
        // `--demo` is `--demo=true`: what a file switched on can be switched off.
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        kind if kind.is_list() || kind == Kind::Listeners => arg.action(ArgAction::Append),
        _ => arg,
    }
}

/// What to do without a flag that is not known, if it is one of `mosquitto`.
pub(crate) fn instead_of(flag: &str) -> Option<&'static str> {
    Some(match flag {
        "-p" | "--port" => "give the address too: --listen 127.0.0.1:PORT",
        "-c" | "--config-file" => "give --config FILE, a TOML file such as the one that broker sample prints",
        "-d" | "--daemon" => "the broker stays in the foreground: have a service manager start it",
        "-v" | "--verbose" => "give --log-level debug",
        "-q" | "--quiet" => "give --log-level off",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }
}
