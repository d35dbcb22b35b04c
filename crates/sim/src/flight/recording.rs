//! Reads a recording.

use core::{fmt, str::FromStr};

use damselfly_broker::{Broker, Config as BrokerConfig, ConfigError};
use damselfly_client::{Client, Config as ClientConfig, Operation, RestoreError};
use damselfly_session::Timestamp;

use super::broker_call::Call as BrokerCall;
use super::client::STORED;
use super::client_call::Call as ClientCall;
use super::said::{self, SAID};
use super::tape::{END, FORM, LIMIT, LOST, QUIET, STOP, TITLE};
use super::text::Words;

/// What a core was told, and what it said.
///
/// ```
/// use damselfly_sim::flight::{Ending, Recording};
///
/// let recording: Recording = "damselfly flight recording 1
/// core broker
/// config {}
/// seed 7
/// 1000000 connection 127.0.0.1:50000 = 1
/// 20000000 timeout
/// said Event.Disconnected 0000000000000000
/// "
/// .parse()?;
/// assert_eq!(recording.ending(), &Ending::Cut { line: 7 });
/// let replay = recording.replay()?;
/// assert!(replay.differences[0].to_string().starts_with("line 7: the recording says \"said Event.Disconnected 00"));
/// # Ok::<(), damselfly_sim::flight::ReadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Recording {
    pub(super) start: Start,
    pub(super) entries: Vec<Entry>,
    ending: Ending,
}

/// How the core was made.
#[derive(Clone, Debug)]
pub(super) enum Start {
    Broker { config: BrokerConfig, seed: u64 },
    Client { config: ClientConfig, seed: u64, image: Option<Vec<Operation>> },
}

/// A line.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) at: Timestamp,
    pub(super) text: String,
    pub(super) what: What,
}

/// A call stands with what the core answered, which may be nothing; `None` if it did not come back.
#[derive(Clone, Debug)]
pub(super) enum What {
    Broker(BrokerCall, Option<String>),
    Client(ClientCall, Option<String>),
    /// As [`Said::line`](super::said::Said::line) says it.
    Said(String),
    Quiet,
}

/// How a recording ends. All that is before it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The core's owner let it go.
    Complete,
    /// It was as long as it may be; the core went on unrecorded.
    Limit,
    /// The core did not come back from the last call: it panicked.
    Panic,
    /// Something was done that cannot be written; the core went on unrecorded.
    Stopped {
        /// What.
        why: String,
    },
    /// In the middle: the program was killed or is still running, or part of the file is lost.
    Cut {
        /// The last whole line.
        line: usize,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("the recording is complete"),
            Self::Limit => f.write_str("the recording ends where it reached its limit"),
            Self::Panic => f.write_str("the core did not come back from the last call"),
            Self::Stopped { why } => write!(f, "the recording ends early: {why}"),
            Self::Cut { line } => write!(f, "the recording is cut off behind line {line}"),
        }
    }
}

/// Why a text is no recording that can be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The first line is another.
    #[error("this is no flight recording: it does not begin with \"{TITLE}\"")]
    NotARecording,
    /// A newer release wrote it.
    #[error("the recording has form {0}, and this release reads form {FORM} only: use the release that wrote it")]
    UnknownForm(u32),
    /// It ends before it says how the core was made.
    #[error("the recording ends in line {0}, before anything was recorded")]
    Short(usize),
    /// This line says nothing that a recording says.
    #[error("line {0} is not one of a recording of this core")]
    Line(usize),
    /// The configuration is none.
    #[error("line 3, the config: {0}")]
    Config(String),
    /// What was stored before cannot have been.
    #[error("the stored operations: {0}")]
    Image(#[from] RestoreError),
}

impl FromStr for Recording {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let mut lines = Lines::new(text);
        let title = lines.next().unwrap_or_else(|| text.trim_end().to_owned());
        let form = title.strip_prefix(TITLE).and_then(|form| form.trim().parse().ok());
        match form.ok_or(ReadError::NotARecording)? {
            FORM => {}
            form => return Err(ReadError::UnknownForm(form)),
        }
        let mut start = read_start(&mut lines)?;
        let mut entries = Vec::new();
        let mut ending = None;
        let mut at = Timestamp::ZERO;
        while let Some(line) = lines.next() {
            if ending.is_some() {
                return Err(ReadError::Line(lines.number));
            }
            if let (Start::Client { image, .. }, true, true) =
                (&mut start, entries.is_empty(), line.starts_with(STORED))
            {
                image.get_or_insert_default().push(read_stored(&line).ok_or(ReadError::Line(lines.number))?);
                continue;
            }
            ending = read_ending(&line);
            if ending.is_none() {
                entries.push(read_entry(&start, &line, &mut at, lines.number).ok_or(ReadError::Line(lines.number))?);
                ending = line.ends_with(LOST).then_some(Ending::Panic);
            }
        }
        let ending = ending.unwrap_or(Ending::Cut { line: lines.number });
        Ok(Self { start, entries, ending })
    }
}

impl Recording {
    /// How it ends.
    pub const fn ending(&self) -> &Ending {
        &self.ending
    }

    /// How many lines there are of what the core was told and said.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing happened to the core.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The core as it was at the beginning.
    pub(super) fn core(&self) -> Result<Core, ReadError> {
        Ok(match &self.start {
            Start::Broker { config, seed } => {
                let broker = Broker::new(config.clone(), *seed);
                Core::Broker(Box::new(broker.map_err(|error: ConfigError| ReadError::Config(error.to_string()))?))
            }
            Start::Client { config, seed, image: None } => Core::Client(Box::new(Client::new(config.clone(), *seed))),
            Start::Client { config, seed, image: Some(image) } => {
                Core::Client(Box::new(Client::restore(config.clone(), *seed, image.iter().cloned())?))
            }
        })
    }
}

/// A core of either kind.
#[derive(Debug)]
pub(super) enum Core {
    Broker(Box<Broker>),
    Client(Box<Client>),
}

/// Whole lines: what is behind the last line feed is none.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    const fn new(text: &'a str) -> Self {
        Self { rest: text, number: 0 }
    }

    fn next(&mut self) -> Option<String> {
        let (line, rest) = self.rest.split_once('\n')?;
        self.rest = rest;
        self.number += 1;
        // What was sent by mail may have other line ends.
        Some(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }

    /// What follows a word at the beginning of the next line.
    fn expect(&mut self, word: &str) -> Result<String, ReadError> {
        let line = self.next().ok_or(ReadError::Short(self.number))?;
        let value = line.strip_prefix(word).and_then(|rest| rest.strip_prefix(' '));
        value.map(str::to_owned).ok_or(ReadError::Line(self.number))
    }
}

fn read_start(lines: &mut Lines<'_>) -> Result<Start, ReadError> {
    let core = lines.expect("core")?;
    if !matches!(core.as_str(), "broker" | "client") {
        return Err(ReadError::Line(lines.number));
    }
    let config = lines.expect("config")?;
    let wrong = |error: serde_json::Error| ReadError::Config(error.to_string());
    let seed = lines.expect("seed")?;
    let seed = seed.parse().map_err(|_| ReadError::Line(lines.number))?;
    Ok(if core == "broker" {
        Start::Broker { config: serde_json::from_str(&config).map_err(wrong)?, seed }
    } else {
        Start::Client { config: serde_json::from_str(&config).map_err(wrong)?, seed, image: None }
    })
}

fn read_stored(line: &str) -> Option<Operation> {
    let mut words = Words::of(line);
    words.word();
    let operation = Operation::decode(&words.bytes()?).ok()?;
    words.end()?;
    Some(operation)
}

fn read_ending(line: &str) -> Option<Ending> {
    match line {
        END => Some(Ending::Complete),
        LIMIT => Some(Ending::Limit),
        line => {
            let why = line.strip_prefix(STOP)?.strip_prefix(' ')?.to_owned();
            Some(Ending::Stopped { why })
        }
    }
}

fn read_entry(start: &Start, text: &str, at: &mut Timestamp, line: usize) -> Option<Entry> {
    let mut words = Words::of(text);
    let first = words.word()?;
    let what = match first {
        SAID => What::Said(said::read(&mut words)?),
        QUIET => {
            words.end()?;
            What::Quiet
        }
        delta => {
            *at = match delta.strip_prefix('-') {
                Some(earlier) => Timestamp::from_micros(at.as_micros().checked_sub(earlier.parse().ok()?)?),
                None => Timestamp::from_micros(at.as_micros().checked_add(delta.parse().ok()?)?),
            };
            let call = text.strip_prefix(delta)?.strip_prefix(' ')?;
            let (call, answer) = match (call.strip_suffix(LOST), call.split_once(" = ")) {
                (Some(call), _) => (call, None),
                (None, Some((call, answer))) => (call, Some(answer.to_owned())),
                (None, None) => (call, Some(String::new())),
            };
            let mut words = Words::of(call);
            match start {
                Start::Broker { .. } => What::Broker(BrokerCall::read(&mut words)?, answer),
                Start::Client { .. } => What::Client(ClientCall::read(&mut words)?, answer),
            }
        }
    };
    Some(Entry { line, at: *at, text: text.to_owned(), what })
}
