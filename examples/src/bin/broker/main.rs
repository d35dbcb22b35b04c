//! An MQTT broker over TCP: the broker core of Damselfly, the driver of this crate, and a command line.

mod args;
mod demo;
mod listen;
mod log;
mod sink;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Parser;
use damselfly_broker::{Broker, Config};
use damselfly_examples::broker::{Driver, Host, Settings, Stop};
use tokio::signal::unix::{SignalKind, signal};

use args::Arguments;
use demo::Demo;
use listen::ListenError;
use log::Log;
use sink::Sink;

/// How long the last lines of the log may take when the program ends.
const LAST_LINES: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return complain(&error),
    };
    let log = match Sink::start("log", io::stderr()) {
        Ok(log) => log,
        Err(error) => return fail(&error.into()),
    };
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::from(arguments.log_level))
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .with_target(false)
        // Whoever reads the log may be gone: that must not become a panic in the thread that logs.
        .log_internal_errors(false)
        .init();
    let result = run(&arguments);
    log.finish(LAST_LINES);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Status 2 if the command line is wrong, 1 if what it asks for cannot be done.
fn fail(failure: &Failure) -> ExitCode {
    say(&failure.to_string());
    let is_usage = match failure {
        Failure::Listen(error) => error.is_usage(),
        Failure::Config(_) => true,
        Failure::System(_) => false,
    };
    if is_usage { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn complain(error: &clap::Error) -> ExitCode {
    let flag = damselfly_examples::unknown_flag(error);
    let advice = flag.and_then(|flag| Some(format!("{flag}: {}", args::instead_of(flag)?)));
    match advice.or_else(|| damselfly_examples::mistake(error)) {
        Some(mistake) => {
            say(&mistake);
            ExitCode::from(2)
        }
        None => error.exit(),
    }
}

/// There is nowhere to report that standard error is closed.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "broker: {text}");
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("{}", args::in_flags(.0))]
    Config(#[from] damselfly_broker::ConfigError),
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.limits.config();
    config.check()?;
    let descriptors = damselfly_examples::raise_descriptor_limit();
    tracing::debug!(descriptors, "each connection takes one");
    if arguments.demo {
        serve(arguments, config, Demo::new(Sink::start("console", io::stdout())?))
    } else {
        serve(arguments, config, Log)
    }
}

fn serve(arguments: &Arguments, config: Config, host: impl Host) -> Result<(), Failure> {
    let asked = listen::addresses(&arguments.listen, arguments.allow_anonymous)?;
    let mut driver = Driver::new(Broker::new(config, seed())?, host, Settings::default())?;
    let mut addresses = Vec::with_capacity(asked.len());
    for address in asked {
        addresses.push(driver.listen(address).map_err(|error| ListenError::from_bind(address, error))?);
    }
    stop_at_signals(driver.stop())?;
    // Whoever started us may have closed its end: that is no reason to stop.
    let _ = announce(&addresses, arguments.demo);
    driver.run()?;
    Ok(())
}

/// From here on SIGINT and SIGTERM end the driver instead of the process.
fn stop_at_signals(stop: Stop) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut next = || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => ("SIGINT", 130),
                    _ = terminate.recv() => ("SIGTERM", 143),
                }
            })
        };
        let (signal, _) = next();
        match stop.stop() {
            Ok(()) => tracing::info!(signal, "closing all connections; another signal ends the broker at once"),
            Err(error) => tracing::error!(signal, %error, "the broker cannot be told; another signal ends it"),
        }
        // Whoever asks twice does not want to wait, neither for clients nor for the log.
        let (_, status) = next();
        process::exit(status);
    })?;
    Ok(())
}

/// One line for each listener, for people and programs alike.
fn announce(addresses: &[SocketAddr], is_demo: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for address in addresses {
        writeln!(out, "listening on mqtt://{address}")?;
    }
    if is_demo {
        demo::invite(&mut out, addresses.first().map_or(1883, SocketAddr::port))?;
    }
    out.flush()
}

/// Keys the broker's hash tables: clients must not be able to guess it.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
