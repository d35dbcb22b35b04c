//! Whole brokers over loopback, side by side: each is started on one core, loaded from another, and judged by what it
//! delivers per second of its own CPU time.

#![expect(unreachable_pub, reason = "a program, not a library")]

mod check;
mod client;
mod fill;
mod frame;
mod link;
mod number;
mod relay;
mod report;
mod scenario;
mod traffic;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use damselfly_benches::process::{self, Contender, Origin, Running};
use damselfly_codec::Version;
use frame::Outcome;
use report::Report;
use scenario::{Scale, Scenario};

/// Measures MQTT brokers over loopback, beside each other in one run.
///
/// Each scenario starts each broker anew, repetition by repetition and broker by broker, checks every message (lost,
/// twice, out of order) and prints medians and their ratio to the first broker named. The fastest way to a comparison:
///
///   loopback --mosquitto --broker 'ours=target/release/broker --listen 127.0.0.1:{port}'
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Options {
    /// A broker to start, as NAME=COMMAND; {port}, {dir} (a temporary directory) and {mosquitto.conf} are replaced.
    #[arg(long = "broker", value_name = "NAME=COMMAND")]
    brokers: Vec<String>,
    /// A broker that already listens on loopback, as NAME=127.0.0.1:PORT or NAME=127.0.0.1:PORT/PID.
    #[arg(long = "at", value_name = "NAME=ADDRESS[/PID]")]
    addresses: Vec<String>,
    /// Puts mosquitto first, as the broker that the ratios are against.
    #[arg(long)]
    mosquitto: bool,
    /// Adds a relay that forwards frames unchanged: what a broker could reach at most with epoll and write.
    #[arg(long)]
    relay: bool,
    /// Only scenarios whose name contains one of these, comma separated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Seconds measured per repetition of a traffic scenario.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Speak MQTT 5.0 instead of 3.1.1.
    #[arg(long)]
    v5: bool,
    /// Connections of `storm` and `memory-connection`.
    #[arg(long, default_value_t = 5_000)]
    connections: usize,
    /// Filters of `memory-subscription`.
    #[arg(long, default_value_t = 1_000_000)]
    subscriptions: usize,
    /// Messages of `memory-retained`.
    #[arg(long, default_value_t = 100_000)]
    retained: usize,
    /// Messages of `memory-queued`.
    #[arg(long, default_value_t = 100_000)]
    queued: usize,
    /// The core of the broker.
    #[arg(long, default_value_t = 1)]
    broker_core: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// Leaves the scheduler to place broker and load.
    #[arg(long)]
    no_pinning: bool,
    /// Writes all runs as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the table that is also printed.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Names the scenarios and ends.
    #[arg(long)]
    list: bool,
    /// Be the relay, on this port.
    #[arg(long, hide = true)]
    be_relay: Option<u16>,
}

impl Options {
    fn contenders(&self) -> Outcome<Vec<Contender>> {
        let mut list = Vec::new();
        let command = |name: &str, parts: &[&str]| Contender {
            name: name.to_owned(),
            is_relay: false,
            origin: Origin::Command(parts.iter().map(|&part| part.to_owned()).collect()),
        };
        if self.mosquitto {
            list.push(command("mosquitto", &["mosquitto", "-c", "{mosquitto.conf}"]));
        }
        for text in &self.brokers {
            let (name, line) = text.split_once('=').ok_or("--broker takes NAME=COMMAND")?;
            list.push(command(name, &line.split_whitespace().collect::<Vec<_>>()));
        }
        for text in &self.addresses {
            let (name, place) = text.split_once('=').ok_or("--at takes NAME=ADDRESS")?;
            let (address, pid) = place.split_once('/').map_or((place, None), |(address, pid)| (address, Some(pid)));
            let address: SocketAddr = address.parse()?;
            if !address.ip().is_loopback() {
                return Err("only brokers on loopback are loaded".into());
            }
            let pid = pid.map(str::parse).transpose()?;
            let origin = Origin::Address(address, pid);
            list.push(Contender { name: name.to_owned(), origin, is_relay: false });
        }
        if self.relay {
            let program = std::env::current_exe()?;
            let relay = command("relay", &[&program.to_string_lossy(), "--be-relay", "{port}"]);
            list.push(Contender { is_relay: true, ..relay });
        }
        if list.is_empty() { Err("no broker named; see --help".into()) } else { Ok(list) }
    }

    fn scenarios(&self) -> Vec<Scenario> {
        let scale = Scale {
            connections: self.connections,
            subscriptions: self.subscriptions,
            retained: self.retained,
            queued: self.queued,
        };
        let wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()));
        scenario::all(&scale).into_iter().filter(|scenario| wanted(&scenario.name)).collect()
    }
}

fn main() -> Outcome<()> {
    let options = Options::parse();
    if let Some(port) = options.be_relay {
        return relay::run(port);
    }
    let scenarios = options.scenarios();
    if options.list {
        for scenario in &scenarios {
            println!("{}", scenario.name);
        }
        return Ok(());
    }
    compare(&options, &scenarios)
}

fn compare(options: &Options, scenarios: &[Scenario]) -> Outcome<()> {
    let contenders = options.contenders()?;
    process::raise_descriptor_limit()?;
    let span = Duration::try_from_secs_f64(options.seconds)?;
    let version = if options.v5 { Version::V5_0 } else { Version::V3_1_1 };
    let cores = (!options.no_pinning).then_some((options.broker_core, options.load_core));
    let names = contenders.iter().map(|contender| contender.name.clone()).collect();
    let mut report = Report::new(names, scenarios.iter().map(|scenario| scenario.name.clone()).collect());
    for (index, scenario) in scenarios.iter().enumerate() {
        for _ in 0..options.repetitions {
            for (broker, contender) in contenders.iter().enumerate() {
                if contender.is_relay && !scenario.suits_relay() {
                    continue;
                }
                let outcome = Running::start(contender, cores.map(|cores| cores.0), cores.map(|cores| cores.1))
                    .and_then(|running| {
                        scenario.run(&running, version, span).map_err(|error| with_log(&error.to_string(), &running))
                    });
                report.add(index, broker, outcome);
            }
        }
        eprintln!("{}", report.progress(index));
    }
    let table = report.markdown();
    print!("{table}");
    if let Some(path) = &options.markdown {
        std::fs::write(path, table)?;
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.json())?)?;
    }
    Ok(())
}

fn with_log(error: &str, running: &Running) -> Box<dyn std::error::Error> {
    format!("{error}; its log: {}", running.log()).into()
}
