//! An MQTT broker over TCP: the broker core of Damselfly, the driver of this crate, and a command line.

mod args;
mod demo;
mod listen;
mod log;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use damselfly_broker::{Broker, Config};
use damselfly_examples::broker::{Driver, Host, Settings, Stop};
use tokio::signal::unix::{SignalKind, signal};

use args::Arguments;
use demo::Demo;
use listen::ListenError;
use log::Log;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::from(arguments.log_level))
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        // Whoever reads the log may be gone: that must not become a panic in the thread that logs.
        .log_internal_errors(false)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere to report that standard error is closed.
            let _ = writeln!(io::stderr(), "broker: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Listen(#[from] ListenError),
    // The flags are named like the fields of the config, which begin the message.
    #[error("--{}", .0.to_string().replace('_', "-"))]
    Config(#[from] damselfly_broker::ConfigError),
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.limits.config();
    config.check()?;
    let descriptors = damselfly_examples::raise_descriptor_limit();
    tracing::debug!(descriptors, "each connection takes one");
    if arguments.demo { serve(arguments, config, Demo::default()) } else { serve(arguments, config, Log) }
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
        let signal = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            }
        });
        // Before anything is logged: a log that nobody reads may hold up this thread.
        let stopped = stop.stop();
        tracing::info!(signal, ?stopped, "closing all connections");
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
