//! A smart home in one program: a broker, more than 120 devices, rules, a ledger of every message, and a page.

mod args;
mod simulate;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use clap::Parser;
use damselfly_examples::broker::{AllowAll, Origin};
use damselfly_examples::home::{HouseBroker, Listen, RulesFile, Running, Settings};

use args::Args;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return complain(&error),
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &clap::Error) -> ExitCode {
    match damselfly_examples::mistake(error) {
        Some(mistake) => {
            say(&mistake);
            ExitCode::from(2)
        }
        None => error.exit(),
    }
}

/// There is nowhere to report that standard error is closed.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "smart-home: {text}");
}

fn run(args: &Args) -> io::Result<()> {
    if let Some(duration) = args.simulate {
        return simulate::run(args, duration);
    }
    damselfly_examples::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(live(args))
}

/// The house in real time, until Ctrl-C.
async fn live(args: &Args) -> io::Result<()> {
    let page = if args.no_page { None } else { Some(bind(args.port)?) };
    let address = page.as_ref().map(TcpListener::local_addr).transpose()?;
    let origin = address.and_then(|address| format!("http://{address}").parse::<Origin>().ok());
    let listen = Listen { tcp: args.listen, page_origin: origin };
    let broker = HouseBroker::start(args.seed, listen, AllowAll)?;
    let mut settings = Settings::new(args.seed);
    settings.day = args.day;
    let mut house = Running::start(settings, broker.devices, args.rules.clone().map(RulesFile::new)).await?;
    announce(address, broker.pages)?;
    house.run(tokio::signal::ctrl_c()).await?;
    house.stop().await;
    broker.stop()
}

fn bind(port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("the page cannot be served at {address}: {error}; try --port 0"))
    })
}

/// One line, for people and programs alike.
fn announce(page: Option<SocketAddr>, broker: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match page {
        Some(page) => writeln!(out, "the house is at http://{page}/")?,
        None => writeln!(out, "the house is at ws://{broker}/mqtt")?,
    }
    out.flush()
}
