//! Client drivers over loopback, side by side: each is a process on a core of its own, and judged by the messages that it
//! sends or receives per second of its own CPU time. The broker, and the client at the other end, have the other core.

#![expect(unreachable_pub, reason = "a program, not a library")]

#[cfg(feature = "rivals")]
mod mqtt5;
mod ours;
#[cfg(feature = "rivals")]
mod rumqttc;
mod work;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use clap::Parser;
use damselfly_benches::process::{Contender, Origin, Outcome, Running, pin};
use damselfly_codec::QoS;
use tokio::{runtime, time::timeout};
use work::{Load, Role, Work};

/// How long one client may take for one run.
const PATIENCE: Duration = Duration::from_secs(20);
const OURS: &str = "damselfly";
#[cfg(not(feature = "rivals"))]
const NAMES: [&str; 1] = [OURS];
#[cfg(feature = "rivals")]
const NAMES: [&str; 3] = [OURS, "rumqttc", "mqtt5"];

/// Measures MQTT clients over loopback, beside each other in one run.
///
/// Each row runs each client in turn, repetition by repetition. The figures are medians of messages per second of the
/// client's CPU time, user and system, and what ours does of a rival's; "-" if not all messages arrived in any of the
/// repetitions. With the feature `rivals` these take part. The broker is to be built before:
///
///   cargo build --release -p damselfly-examples --bin broker
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    load: Load,
    /// The broker to start.
    #[arg(
        long,
        default_value = "target/release/broker --listen 127.0.0.1:{port} --log-level error \
                         --max-queued-messages 1000000 --max-queued-bytes 1G --max-transmit-bytes 1G"
    )]
    broker: String,
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// The core of the broker and of the other end.
    #[arg(long, default_value_t = 1)]
    broker_core: usize,
    /// The core of the client under test.
    #[arg(long, default_value_t = 0)]
    client_core: usize,
    /// Only these clients, comma separated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Be this client.
    #[arg(long, hide = true, requires_all = ["address", "role", "qos"])]
    be: Option<String>,
    #[arg(long, hide = true)]
    address: Option<SocketAddr>,
    #[arg(long, hide = true)]
    role: Option<Role>,
    #[arg(long, hide = true)]
    qos: Option<u8>,
}

fn main() -> Outcome<()> {
    let options = Options::parse();
    let (Some(name), Some(address), Some(role), Some(qos)) = (&options.be, options.address, options.role, options.qos)
    else {
        return compare(&options);
    };
    let work = Work { address, role, qos: level(qos), load: options.load };
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(be(name, &work))
}

const fn level(number: u8) -> QoS {
    if number == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}

async fn be(name: &str, work: &Work) -> Outcome<()> {
    match name {
        OURS => ours::run(work).await,
        #[cfg(feature = "rivals")]
        "rumqttc" => rumqttc::run(work).await,
        #[cfg(feature = "rivals")]
        "mqtt5" => mqtt5::run(work).await,
        _ => Err("no such client".into()),
    }
}

/// Messages per second of CPU time, and per second.
#[derive(Clone, Copy)]
struct Rate {
    per_cpu_second: f64,
    per_second: f64,
}

fn compare(options: &Options) -> Outcome<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let is_wanted = |name: &&str| options.only.is_empty() || options.only.iter().any(|wanted| wanted == name);
    let names: Vec<&str> = NAMES.into_iter().filter(is_wanted).collect();
    println!("| {} | {} |", if options.load.v5 { "5.0" } else { "3.1.1" }, names.join(" | "));
    println!("|---|{}", "---:|".repeat(names.len()));
    for role in [Role::Publish, Role::Receive] {
        for qos in [0, 1] {
            let mut rates = vec![Vec::new(); names.len()];
            for _ in 0..options.repetitions {
                for (name, rates) in names.iter().zip(&mut rates) {
                    match runtime.block_on(measure(options, name, role, qos)) {
                        Ok(Rate { per_cpu_second, per_second }) => {
                            eprintln!(
                                "{name}, {role:?}, QoS {qos}: {per_cpu_second:.0} per CPU second, {per_second:.0} per second"
                            );
                            rates.push(per_cpu_second);
                        }
                        Err(error) if *name == OURS => return Err(error),
                        Err(error) => eprintln!("{name}, {role:?}, QoS {qos}: {error}"),
                    }
                }
            }
            let medians: Vec<Option<f64>> = rates.into_iter().map(median).collect();
            let first = medians.first().copied().flatten().unwrap_or(f64::NAN);
            let cell = |rate: &Option<f64>| match rate {
                Some(rate) => format!("{:.0}k ({:.1}x)", rate / 1_000.0, first / rate),
                None => "-".to_owned(),
            };
            let cells: Vec<String> = medians.iter().map(cell).collect();
            println!("| {role:?}, QoS {qos} | {} |", cells.join(" | "));
        }
    }
    Ok(())
}

fn median(mut rates: Vec<f64>) -> Option<f64> {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}

/// One run of one client, with a broker of its own.
async fn measure(options: &Options, name: &str, role: Role, qos: u8) -> Outcome<Rate> {
    let contender = Contender {
        name: "broker".to_owned(),
        origin: Origin::Command(options.broker.split_whitespace().map(str::to_owned).collect()),
        is_relay: false,
    };
    let running = Running::start(&contender, Some(options.broker_core), Some(options.broker_core))?;
    let other = ours::connect(running.address, options.load.version(), "other-end");
    let messages = match role {
        Role::Publish => Some(ours::subscribe(&other, level(qos)).await?),
        Role::Receive => None,
    };
    let client = Process::start(options, name, role, qos, running.address)?;
    client.expect("ready")?;
    let exchange = async {
        match messages {
            Some(mut messages) => {
                for _ in 0..options.load.total() {
                    messages.next().await.ok_or("the other end was closed")?;
                }
                Ok(())
            }
            None => ours::publish(&other, options.load.total(), level(qos), options.load.window.into()).await,
        }
    };
    timeout(PATIENCE, exchange).await.map_err(|_| "messages are missing")??;
    client.result(options.load.messages)
}

/// A client under test; ended when dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(options: &Options, name: &str, role: Role, qos: u8, address: SocketAddr) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--be", name, "--address", &address.to_string(), "--qos", &qos.to_string()]);
        command.args(["--role", if role == Role::Publish { "publish" } else { "receive" }]);
        let load = &options.load;
        command.args(["--messages", &load.messages.to_string(), "--warm-up", &load.warm_up.to_string()]);
        command.args(["--window", &load.window.to_string()]).args(load.v5.then_some("--v5"));
        // A child inherits the core, and so does each thread it starts.
        pin(Some(options.client_core))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        pin(Some(options.broker_core))?;
        let mut child = child?;
        let output = child.stdout.take().ok_or("no output")?;
        let (sender, lines) = channel();
        // Ends with the client.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn line(&self) -> Outcome<String> {
        Ok(self.lines.recv_timeout(PATIENCE).map_err(|_| "the client ended, or not all messages came")?)
    }

    fn expect(&self, word: &str) -> Outcome<()> {
        let line = self.line()?;
        if line == word { Ok(()) } else { Err(format!("{line:?} instead of {word:?}").into()) }
    }

    fn result(&self, messages: u64) -> Outcome<Rate> {
        let line = self.line()?;
        let (cpu, wall) = line.split_once(' ').ok_or("no result")?;
        Ok(Rate { per_cpu_second: rate(messages, cpu.parse()?), per_second: rate(messages, wall.parse()?) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "far below 2^53")]
fn rate(messages: u64, nanoseconds: u64) -> f64 {
    messages as f64 * 1e9 / nanoseconds as f64
}
