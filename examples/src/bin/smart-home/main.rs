//! A smart home in one program: a broker, more than 120 devices, rules, a ledger of every message, and a page.

mod args;
mod page;
mod simulate;

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use clap::Parser;
use damselfly_examples::broker::{AllowAll, Origin, WEBSOCKET_PATH};
use damselfly_examples::home::{HouseBroker, Listen, RulesFile, Running, Settings};
use damselfly_examples::inspect::Inspector;
use damselfly_examples::web::{Limits, Server, Site};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

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
    let page_origins = address.map(origins).unwrap_or_default();
    let listen = Listen { tcp: args.listen, page_origins };
    // The passwords of the devices must be nobody's to guess; the house itself may be.
    let secret = RandomState::new().hash_one(0_u8);
    let broker = HouseBroker::start(secret, listen, Inspector::new(AllowAll, "house"))?;
    let served = page.map(|listener| serve(listener, broker.pages)).transpose()?;
    let mut settings = Settings::new(args.seed);
    settings.secret = secret;
    settings.day = args.day;
    let mut house = Running::start(settings, &broker, args.rules.clone().map(RulesFile::new)).await?;
    // Before anybody knows that we are here.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    announce(address, broker.pages)?;
    let asked = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    house.run(asked).await;
    if let Some(served) = served {
        served.abort();
    }
    house.stop().await;
    broker.stop()
}

fn bind(port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("the page cannot be served at {address}: {error}; try --port 0"))
    })
}

/// The page by both of its names: the address, and the name that people write.
fn origins(page: SocketAddr) -> Vec<Origin> {
    let names = [page.to_string(), format!("localhost:{}", page.port())];
    names.iter().filter_map(|name| format!("http://{name}").parse().ok()).collect()
}

/// Serves the page, which finds the broker at `broker`, until the task is aborted.
fn serve(listener: TcpListener, broker: SocketAddr) -> io::Result<JoinHandle<()>> {
    let server = Server::new(listener, Limits::default())?;
    let site = Site::new(page::FILES, &format!("ws://{broker}{WEBSOCKET_PATH}"))
        .ok_or_else(|| io::Error::other("the broker's address cannot stand in a header"))?;
    Ok(tokio::spawn(server.serve(site)))
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
