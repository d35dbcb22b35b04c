//! Plays a recording to a fresh core, and says what differs and how it ends:
//!
//! ```sh
//! cargo run -p damselfly-sim --example replay -- bug.flight --all
//! ```
//!
//! With `--all` every line is printed with what the core says to it. Exit status 0: no difference; 1: some; 2: the file is no
//! recording.

use std::io::{self, Write};
use std::process::ExitCode;

use damselfly_sim::flight::{ReadError, Recording};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), is_all) = (arguments.next(), arguments.next().is_some_and(|word| word == "--all")) else {
        eprintln!("usage: replay FILE [--all]");
        return ExitCode::from(2);
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    match play(&text, is_all) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is as it was.
fn play(text: &str, is_all: bool) -> Result<bool, ReadError> {
    let recording: Recording = text.parse()?;
    let mut out = io::stdout().lock();
    let replay = recording.replay_with(|step| {
        if is_all {
            // Whoever reads it may have had enough.
            let _ = writeln!(out, "{} {}\n    {}", step.at, step.recorded, step.replayed);
        }
    })?;
    for difference in &replay.differences {
        let _ = writeln!(out, "{difference}");
    }
    let _ = writeln!(out, "{} lines, {} differ; {}", recording.len(), replay.differences.len(), replay.ending);
    Ok(replay.differences.is_empty())
}
