//! An MQTT broker over TCP and Unix sockets, TLS and WebSocket: the broker core of Damselfly, the driver of this crate, and a command line.

mod args;
mod demo;
mod listen;
mod log;
mod settings;
mod sink;

use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use damselfly_broker::Broker;
use damselfly_examples::Excerpt;
use damselfly_examples::broker::{self as driver, Driver, Host, ListenAddress, ServerTls, Stop};
use damselfly_examples::guard::{Guard, Policy, Reloader};
use damselfly_sim::flight::RecordedBroker;
use tokio::signal::unix::{SignalKind, signal};

use args::Task;
use demo::Demo;
use log::Log;
use settings::{Builder, Listener, Mistake, Setup};
use sink::Sink;

/// How long the last lines of the log may take when the program ends.
const LAST_LINES: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let (builder, record) = match args::parse(env::args_os()) {
        Ok(Task::Serve(builder, record)) => (builder, record),
        Ok(Task::Check(path)) => return check(&path),
        Ok(Task::Sample) => return print(&settings::sample()),
        Err(error) => return complain(&error),
    };
    let (setup, listeners, policy) = match builder.build_with_policy() {
        Ok(built) => built,
        Err(mistakes) => return explain(&mistakes),
    };
    let log = match Sink::start("log", io::stderr()) {
        Ok(log) => log,
        Err(error) => return fail(&error.into()),
    };
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(setup.log_level)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .with_target(false)
        // Whoever reads the log may be gone: that must not become a panic in the thread that logs.
        .log_internal_errors(false)
        .init();
    let result = run(setup, &listeners, policy, record.as_deref());
    log.finish(LAST_LINES);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Says all that is wrong with a file, and what it changes if nothing is.
fn check(path: &str) -> ExitCode {
    let mut builder = Builder::default();
    builder.read(path);
    match builder.build_with_policy() {
        Ok((setup, ..)) => {
            let differences = setup.differences();
            let names = if differences.is_empty() { "none".to_owned() } else { differences.join(", ") };
            print(&format!("{}: no mistakes. Other than the defaults: {names}\n", Excerpt(path)))
        }
        Err(mistakes) => explain(&mistakes),
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// One line for each mistake in the file and the flags.
fn explain(mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        say(&mistake.to_string());
    }
    ExitCode::from(2)
}

/// What was asked for is well said and cannot be done.
fn fail(failure: &Failure) -> ExitCode {
    say(&failure.to_string());
    match failure {
        Failure::Config(_) => ExitCode::from(2),
        Failure::Listen(_) | Failure::Record(..) | Failure::System(_) => ExitCode::FAILURE,
    }
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
    #[error("{0}")]
    Listen(Mistake),
    #[error(transparent)]
    Config(#[from] damselfly_broker::ConfigError),
    #[error("--record {path}: {1}", path = Excerpt(&.0.to_string_lossy()))]
    Record(PathBuf, io::Error),
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

fn run(setup: Setup, listeners: &[Listener], policy: Policy, record: Option<&Path>) -> Result<(), Failure> {
    let descriptors = damselfly_examples::raise_descriptor_limit();
    tracing::debug!(descriptors, "each connection takes one");
    let mut guard = Guard::new(policy, setup.logins())?;
    guard.allow_anonymous(setup.lets_in_anonymous());
    for (number, listener) in (0..).zip(listeners) {
        guard.allow_anonymous_at(number, listener.allows_anonymous);
        if listener.takes_names_of_certificates {
            guard.take_names_of_certificates_at(number);
        }
    }
    let sources = setup.sources();
    let has_files = sources.password_file.is_some() || sources.access_file.is_some();
    let reloader = has_files.then(|| guard.reloader(sources));
    if setup.demo {
        serve(setup, listeners, record, reloader, Demo::new(Sink::start("console", io::stdout())?, guard))
    } else {
        serve(setup, listeners, record, reloader, Log::new(guard))
    }
}

fn serve(
    setup: Setup,
    listeners: &[Listener],
    record: Option<&Path>,
    reloader: Option<Reloader>,
    host: impl Host,
) -> Result<(), Failure> {
    let broker = match record {
        Some(path) => {
            let tape = damselfly_examples::tape(path).map_err(|error| Failure::Record(path.into(), error))?;
            RecordedBroker::new(setup.config, seed(), tape)?
        }
        None => Broker::new(setup.config, seed())?.into(),
    };
    let mut driver = Driver::new(broker, host, driver::Settings::default())?;
    let mut addresses = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let asked = &listener.listening;
        let why = |error| listener.mistake(&listen::explain(&asked.address, &error));
        let address = driver.listen_as(asked).map_err(|error| Failure::Listen(why(error)))?;
        addresses.push((listen::url(asked, &address), address));
    }
    let certificates = listeners.iter().filter_map(|listener| listener.listening.tls.clone()).collect();
    obey_signals(driver.stop(), Files { reloader, certificates })?;
    // Whoever started us may have closed its end: that is no reason to stop.
    let _ = announce(&addresses, setup.demo);
    driver.run()?;
    Ok(())
}

/// From here on SIGINT and SIGTERM end the driver instead of the process, and SIGHUP has files read anew.
fn obey_signals(stop: Stop, files: Files) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(guard);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut next = || loop {
            let next = runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => Some(("SIGINT", 130)),
                    _ = terminate.recv() => Some(("SIGTERM", 143)),
                    _ = hangup.recv() => None,
                }
            });
            match next {
                Some(next) => return next,
                None => files.reload(),
            }
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

/// What is read anew at SIGHUP.
struct Files {
    /// Users and rules.
    reloader: Option<Reloader>,
    certificates: Vec<ServerTls>,
}

impl Files {
    fn reload(&self) {
        if self.reloader.is_none() && self.certificates.is_empty() {
            tracing::info!("SIGHUP: there are no users, rules or certificates to read anew");
        }
        self.reloader.iter().for_each(reload);
        for tls in &self.certificates {
            let certificate =
                tls.files().certificates.first().map(|(certificate, _)| tracing::field::display(certificate.display()));
            match tls.reload() {
                Ok(()) => tracing::info!(certificate, "SIGHUP: certificates were read"),
                Err(error) => tracing::error!("SIGHUP: {error}; the old certificates go on"),
            }
        }
    }
}

/// Files with a mistake change nothing.
fn reload(reloader: &Reloader) {
    match reloader.reload() {
        Ok(()) => tracing::info!("SIGHUP: users and rules were read"),
        Err(mistakes) => {
            for mistake in &mistakes {
                tracing::error!("{mistake}");
            }
            tracing::error!(
                mistakes = mistakes.len(),
                "SIGHUP: nothing was changed, and the old users and rules go on"
            );
        }
    }
}

/// One line for each listener, for people and programs alike.
fn announce(addresses: &[(String, ListenAddress)], is_demo: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (url, _) in addresses {
        writeln!(out, "listening on {url}")?;
    }
    if is_demo {
        let flag = match addresses.first() {
            Some((url, ListenAddress::Tcp(address))) if url.starts_with("mqtt:") => format!("-p {}", address.port()),
            Some((url, _)) => format!("-L {url}"),
            None => String::new(),
        };
        demo::invite(&mut out, &flag)?;
    }
    out.flush()
}

/// Keys the broker's hash tables: clients must not be able to guess it.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
