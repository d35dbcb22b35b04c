//! Plays a recording to a fresh core.

use core::fmt;

use damselfly_broker::Broker;
use damselfly_client::Client;
use damselfly_session::Timestamp;

use super::player::Player;
use super::recording::{Core, Ending, ReadError, Recording, What};
use super::tape::QUIET;

/// So many differences are kept: what follows the first follows from it.
const MAX_DIFFERENCES: usize = 100;

/// What came of playing a recording.
#[derive(Debug)]
pub struct Replay {
    /// Where this core answered or said something else than the one that was recorded: the first 100. None if it behaves as
    /// that did; a bug that is mended makes some.
    pub differences: Vec<Difference>,
    /// How the recording ends.
    pub ending: Ending,
    core: Core,
}

/// One line of a recording, and what this core said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Of the recording.
    pub line: usize,
    /// What the recording says.
    pub recorded: String,
    /// What this core says.
    pub replayed: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, recorded, replayed } = self;
        write!(f, "line {line}: the recording says \"{recorded}\", this core \"{replayed}\"")
    }
}

/// One line while it is played.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step<'a> {
    /// Its number.
    pub line: usize,
    /// The time the core was told.
    pub at: Timestamp,
    /// The line itself.
    pub recorded: &'a str,
    /// What this core answered or said to it, for people; empty if there is nothing to say.
    pub replayed: String,
}

impl Replay {
    /// The broker as it is at the end, if the recording is of one.
    pub fn broker(&self) -> Option<&Broker> {
        match &self.core {
            Core::Broker(broker) => Some(broker),
            Core::Client(_) => None,
        }
    }

    /// The client as it is at the end, if the recording is of one.
    pub fn client(&self) -> Option<&Client> {
        match &self.core {
            Core::Client(client) => Some(client),
            Core::Broker(_) => None,
        }
    }
}

impl Recording {
    /// Plays all of it to a fresh core.
    ///
    /// # Errors
    ///
    /// That the core cannot be made: its config or what was stored before is impossible.
    pub fn replay(&self) -> Result<Replay, ReadError> {
        self.replay_with(|_| {})
    }

    /// The same with somebody who looks at every line.
    ///
    /// # Errors
    ///
    /// As [`replay`](Self::replay).
    pub fn replay_with(&self, mut look: impl FnMut(&Step<'_>)) -> Result<Replay, ReadError> {
        let mut player = Player::new(self.core()?);
        let mut differences = Vec::new();
        for entry in &self.entries {
            let mut note = |replayed: String, recorded: &str, is_same: bool| {
                if !is_same && differences.len() < MAX_DIFFERENCES {
                    let (line, recorded) = (entry.line, recorded.to_owned());
                    differences.push(Difference { line, recorded, replayed: replayed.clone() });
                }
                look(&Step { line: entry.line, at: entry.at, recorded: &entry.text, replayed });
            };
            match &entry.what {
                What::Said(recorded) => match player.poll() {
                    Some(said) => {
                        let is_same = said.line() == *recorded;
                        note(said.text, recorded, is_same);
                    }
                    None => note(QUIET.to_owned(), recorded, false),
                },
                What::Quiet => {
                    while let Some(said) = player.poll() {
                        note(said.text, QUIET, false);
                    }
                }
                What::Broker(call, answer) => {
                    let replayed = player.play_broker(entry.at, call);
                    let is_same = answer.is_none() || replayed.is_none() || replayed == *answer;
                    note(replayed.unwrap_or_default(), answer.as_deref().unwrap_or_default(), is_same);
                }
                What::Client(call, answer) => {
                    let replayed = player.play_client(entry.at, call);
                    let is_same = answer.is_none() || replayed.is_none() || replayed == *answer;
                    note(replayed.unwrap_or_default(), answer.as_deref().unwrap_or_default(), is_same);
                }
            }
        }
        Ok(Replay { differences, ending: self.ending().clone(), core: player.into_core() })
    }
}
