//! `mqtt pub`, `mqtt sub` and `mqtt rr`: publish, subscribe and ask from the command line, with the flags that users of
//! `mosquitto_pub`, `mosquitto_sub` and `mosquitto_rr` know. `mqtt bench`: load a broker. `mqtt conformance`: hold it
//! against the standards. `mqtt passwd`: write its password file.

mod args;
mod bench;
mod conformance;
mod connect;
mod format;
mod histogram;
mod missing;
mod output;
mod passwd;
mod property;
mod publish;
mod rr;
mod subscribe;
mod tls;
mod url;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return complain(&error),
    };
    let (is_quiet, is_debug) = match &cli.command {
        Command::Pub(args) => (args.connect.quiet, args.connect.debug),
        Command::Sub(args) => (args.connect.quiet, args.connect.debug),
        Command::Rr(args) => (args.connect.quiet, args.connect.debug),
        Command::Bench(args) => (args.connect.quiet, args.connect.debug),
        Command::Conformance(_) | Command::Passwd(_) => (false, false),
    };
    start_log(is_debug);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mqtt: no event loop could be made: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Pub(args) => publish::run(*args).await,
            Command::Sub(args) => subscribe::run(*args).await,
            Command::Rr(args) => rr::run(*args).await,
            Command::Bench(args) => bench::run(*args).await,
            Command::Conformance(args) => conformance::run(*args).await,
            Command::Passwd(args) => passwd::run(&args),
        }
    });
    // Reading stdin blocks a thread that cannot be interrupted: it is left behind.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text().filter(|_| !is_quiet) {
                eprintln!("mqtt: {text}");
            }
            failure.exit_code()
        }
    }
}

const COMMAND_FIRST: &str = "begin with 'mqtt pub', 'mqtt sub' or 'mqtt rr'; --help shows what there is";

fn complain(error: &clap::Error) -> ExitCode {
    let flag = damselfly_examples::unknown_flag(error);
    let advice = flag.and_then(|flag| Some(format!("{flag}: {}", missing::instead_of(flag)?)));
    let has_no_command = flag.is_some_and(|flag| std::env::args().nth(1).is_some_and(|first| first.starts_with(flag)));
    let advice = advice.filter(|_| !has_no_command).or_else(|| has_no_command.then(|| COMMAND_FIRST.to_owned()));
    match advice.or_else(|| damselfly_examples::mistake(error)) {
        Some(text) => {
            eprintln!("mqtt: {text}");
            ExitCode::from(2)
        }
        None => error.exit(),
    }
}

/// Why the program ends otherwise than asked for; the help lists the exit statuses.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection, or it was lost before the work was done.
    Connection(String),
    /// The command line asks for something impossible.
    Usage(String),
    /// The broker refused the connection, a message or a subscription.
    Refused(String),
    /// `--timeout` passed.
    Timeout,
    /// A case of `mqtt conformance` failed, which it has reported.
    Cases,
    /// Nobody reads what is printed: the end of a pipe was closed, which is how `head` says that it has enough.
    BrokenPipe,
}

impl Failure {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Connection(text) | Self::Usage(text) | Self::Refused(text) => Some(text),
            Self::Timeout => Some("the time that --timeout gives is over"),
            Self::BrokenPipe | Self::Cases => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::BrokenPipe => 0,
            Self::Connection(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::Cases => 4,
            Self::Timeout => 27,
        })
    }
}

fn start_log(is_debug: bool) {
    if is_debug {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(std::io::stderr)
            .without_time()
            .with_target(false)
            .init();
    }
}
