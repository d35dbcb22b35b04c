//! An MQTT broker over TCP: the broker core of Damselfly, the driver of this crate, and a command line.

mod args;
mod demo;
mod listen;
mod log;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use damselfly_broker::{Broker, Config};
use damselfly_examples::broker::{Driver, Host, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use args::Arguments;
use demo::Demo;
use log::Log;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::from(arguments.log_level))
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
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
    Listen(#[from] listen::ListenError),
    #[error("a limit cannot work: {0}")]
    Config(#[from] damselfly_broker::ConfigError),
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    #[error("the broker stopped: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.limits.config();
    config.check()?;
    let descriptors = damselfly_examples::raise_descriptor_limit();
    tracing::debug!(descriptors, "each connection takes one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if arguments.demo {
            serve(arguments, config, Demo::default()).await
        } else {
            serve(arguments, config, Log).await
        }
    })
}

async fn serve(arguments: &Arguments, config: Config, host: impl Host) -> Result<(), Failure> {
    let sockets = listen::bind(&arguments.listen, arguments.allow_anonymous).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let addresses = sockets.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
    let mut driver = Driver::new(Broker::new(config, seed())?, host, Settings::default());
    for socket in sockets {
        driver.listen(socket);
    }
    // Whoever started us may have closed its end: that is no reason to stop.
    let _ = announce(&addresses, arguments.demo);

    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("SIGINT: closing all connections"),
            _ = terminate.recv() => tracing::info!("SIGTERM: closing all connections"),
        }
    };
    // A task of its own: the runtime wakes tasks without a system call, unlike the future it blocks on.
    tokio::spawn(driver.run(stop)).await?;
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
