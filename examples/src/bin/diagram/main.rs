//! Pictures of brokers and of what is said to them, as SVG or Mermaid.
//!
//! ```text
//! cargo run --bin diagram -- exchange qos2 > qos2.svg
//! cargo run --bin diagram -- topology --broker 127.0.0.1:1883 > house.svg
//! ```

mod ask;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args, Parser, Subcommand};
use damselfly_examples::client::Endpoint;
use damselfly_examples::diagram::{DiagramError, Exchange, Format, Shown, Topology};

/// Pictures of brokers and of what is said to them: SVG, or Mermaid, on standard output.
#[derive(Debug, Parser)]
#[command(name = "diagram", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  diagram exchange qos2 > qos2.svg                        what a QoS 2 message takes
  diagram exchange takeover --format mermaid              the same for a page of documentation
  diagram topology --broker ws://127.0.0.1:8083 > house.svg   of a smart-home that runs, by the URL its page shows
  diagram topology --recording broker.flight > then.svg   of what broker --record broker.flight has written
  diagram docs docs/pictures                              the pictures of this project's documentation";

#[derive(Debug, Subcommand)]
enum What {
    /// Packets between a broker and its clients, as the real cores say them.
    Exchange {
        /// One of: qos1, qos2, takeover, will.
        #[arg(value_parser = exchange)]
        name: Exchange,
        #[command(flatten)]
        form: Form,
    },
    /// Clients, their subscriptions and the tree of topics.
    Topology(TopologyArguments),
    /// Write the pictures of the documentation to a folder.
    Docs {
        /// The folder, which has to be there.
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Form {
    /// What the picture is written in: svg or mermaid.
    #[arg(long, value_name = "FORMAT", default_value = "svg", value_parser = format)]
    format: Format,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["broker", "recording", "json"]))]
struct TopologyArguments {
    /// A broker that says who is there, as smart-home's does: HOST:PORT or ws://HOST:PORT.
    #[arg(long, value_name = "ENDPOINT")]
    broker: Option<Endpoint>,
    /// The topic at which it answers.
    #[arg(long, value_name = "TOPIC", default_value = "house/topology")]
    ask: String,
    /// User name for the broker.
    #[arg(short = 'u', long, requires = "broker")]
    username: Option<String>,
    /// Password for the broker. Everybody on this machine can see it while the program runs.
    #[arg(short = 'P', long, requires = "username")]
    password: Option<String>,
    /// A file that broker --record has written.
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// A file with what a broker said of itself; - is standard input.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The most clients in the picture.
    #[arg(long, value_name = "NUMBER", default_value_t = Shown::default().max_clients)]
    clients: usize,
    /// The most topics and levels of topics in the picture.
    #[arg(long, value_name = "NUMBER", default_value_t = Shown::default().max_topics)]
    topics: usize,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Diagram(#[from] DiagramError),
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("standard output: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Ask(#[from] ask::AskError),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return complain(&error),
    };
    match run(arguments.what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.to_string());
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
    let _ = writeln!(io::stderr(), "diagram: {text}");
}

fn run(what: What) -> Result<(), Failure> {
    let picture = match what {
        What::Exchange { name, form } => name.play()?.draw(form.format),
        What::Topology(arguments) => topology(&arguments)?,
        What::Docs { folder } => return docs(&folder),
    };
    io::stdout().write_all(picture.as_bytes()).map_err(Failure::Output)
}

fn topology(arguments: &TopologyArguments) -> Result<String, Failure> {
    let topology = match (&arguments.broker, &arguments.recording, &arguments.json) {
        (Some(endpoint), ..) => {
            let (user_name, password) = (arguments.username.as_deref(), arguments.password.as_deref());
            Topology::from_json(&ask::ask(endpoint, user_name.zip(password.or(Some(""))), &arguments.ask)?)?
        }
        (_, Some(path), _) => Topology::of_recording(&read(path)?)?,
        (.., Some(path)) => Topology::from_json(&read(path)?)?,
        // The command line does not allow it.
        (None, None, None) => Topology::default(),
    };
    let shown = Shown { max_clients: arguments.clients, max_topics: arguments.topics };
    Ok(topology.draw(arguments.form.format, shown))
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = if path == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
    text.map_err(|error| Failure::File(path.to_owned(), error))
}

fn docs(folder: &Path) -> Result<(), Failure> {
    for (name, text) in damselfly_examples::diagram::documentation()? {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| Failure::File(path, error))?;
    }
    Ok(())
}

fn exchange(text: &str) -> Result<Exchange, String> {
    let known = Exchange::ALL.iter().find(|(name, _)| *name == text);
    known.map(|(_, exchange)| *exchange).ok_or_else(|| {
        let names: Vec<_> = Exchange::ALL.iter().map(|(name, _)| *name).collect();
        format!("it must be one of {}", names.join(", "))
    })
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "svg" => Ok(Format::Svg),
        "mermaid" => Ok(Format::Mermaid),
        _ => Err("it must be svg or mermaid".to_owned()),
    }
}
