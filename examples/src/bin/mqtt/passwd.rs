//! `mqtt passwd`: who may connect to a broker, with the flags that users of `mosquitto_passwd` know.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;

use clap::Args;
use damselfly_examples::guard::{EditError, MAX_PASSWORD, check_name, edit};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::Failure;

/// `mqtt passwd`
#[derive(Debug, Args)]
pub(crate) struct PasswdArgs {
    /// Begin a new file: one that is there is replaced, with everybody in it.
    #[arg(short = 'c', conflicts_with = "delete")]
    create: bool,
    /// Take the password from the command line, where the process list shows it.
    #[arg(short = 'b', requires = "password", conflicts_with = "delete")]
    batch: bool,
    /// Remove the user.
    #[arg(short = 'D', conflicts_with = "password")]
    delete: bool,
    /// The password file; made if it is not there.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The user: added, or given another password.
    #[arg(value_name = "USER")]
    user: String,
    /// The password, with -b.
    #[arg(value_name = "PASSWORD", requires = "batch")]
    password: Option<String>,
}

pub(crate) const ABOUT: &str = "\
Write a password file: add a user, give one another password, or remove one (-D).

The password is asked for twice at the terminal, without being shown; where standard input is no terminal it is its first
line. What is written is a hash (argon2id), all other lines of the file stay as they are. The file is replaced as a whole and
can be read by its owner only. A broker that is running takes it over at SIGHUP.";

pub(crate) fn run(args: &PasswdArgs) -> Result<(), Failure> {
    // Before anybody types a password for nothing.
    check_name(&args.user).map_err(|error| Failure::Usage(error.to_string()))?;
    let password = match (&args.password, args.delete) {
        (_, true) => None,
        (Some(password), false) => Some(password.clone().into_bytes()),
        (None, false) => Some(ask().map_err(Failure::Usage)?),
    };
    match &password {
        Some(password) if password.is_empty() => return Err(Failure::Usage("the password must not be empty".into())),
        Some(password) if password.len() > MAX_PASSWORD => {
            return Err(Failure::Usage(format!("the password must not have more than {MAX_PASSWORD} bytes")));
        }
        _ => {}
    }
    edit(&args.file, &args.user, password.as_deref(), args.create).map_err(|error| match error {
        EditError::Name(_) | EditError::NoUser(..) => Failure::Usage(error.to_string()),
        other => Failure::Connection(other.to_string()),
    })
}

/// The password, typed twice where there is a terminal.
fn ask() -> Result<Vec<u8>, String> {
    if !io::stdin().is_terminal() {
        return line(&mut io::stdin().lock()).map_err(|error| format!("no password on standard input: {error}"));
    }
    let asked = || -> io::Result<[Vec<u8>; 2]> {
        let mut terminal = Terminal::open()?;
        Ok([terminal.ask("Password: ")?, terminal.ask("The same again: ")?])
    };
    let [password, again] = asked().map_err(|error| format!("no password was typed: {error}"))?;
    if password != again {
        return Err("the two passwords differ; nothing was changed".into());
    }
    Ok(password)
}

/// One line without its end.
fn line(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    // One more than a password may have, and the end of the line.
    let limit = u64::try_from(MAX_PASSWORD).unwrap_or(u64::MAX).saturating_add(3);
    if input.take(limit).read_until(b'\n', &mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    Ok(line)
}

/// The terminal, which does not show what is typed until this is dropped.
struct Terminal {
    input: BufReader<File>,
    output: File,
    before: Termios,
}

impl Terminal {
    fn open() -> io::Result<Self> {
        let output = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&output)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        let input = BufReader::new(output.try_clone()?);
        // From here on every way out shows again what is typed.
        let terminal = Self { input, output, before };
        tcsetattr(&terminal.output, OptionalActions::Flush, &silent)?;
        Ok(terminal)
    }

    fn ask(&mut self, prompt: &str) -> io::Result<Vec<u8>> {
        self.output.write_all(prompt.as_bytes())?;
        let line = line(&mut self.input);
        self.output.write_all(b"\n")?;
        let line = line?;
        // Ctrl-C ends nothing while nothing is shown, or the terminal would stay as it is.
        if line.contains(&3) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(line) }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = tcsetattr(&self.output, OptionalActions::Flush, &self.before);
    }
}
