//! Changes to a password file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::mistake::{WrongFile, read};
use super::password::PasswordHash;
use super::users::{NameError, check_name, edited};
use crate::Excerpt;

/// Why a password file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The name cannot stand in the file.
    #[error("{0}")]
    Name(#[from] NameError),
    /// There is no user to remove.
    #[error("{file}: there is no user {user}", file = Excerpt(&.0.to_string_lossy()), user = Excerpt(.1))]
    NoUser(PathBuf, String),
    /// The file that is there cannot be read.
    #[error("{0}")]
    Read(WrongFile),
    /// The new one cannot be written.
    #[error("{file}: the file cannot be written: {1}", file = Excerpt(&.0.to_string_lossy()))]
    Write(PathBuf, io::Error),
}

/// Gives a user of a password file another password, or makes the user; `None` removes the user. Everything else in the
/// file stays. A file that is not there is made, and with `anew` one that is there is replaced.
///
/// The file is written beside the old one with the mode 0600 and put into its place when it is whole, so that a broker
/// that reads it never sees half of it. It keeps its owner where the system permits it.
pub fn edit(path: &Path, name: &str, password: Option<&[u8]>, anew: bool) -> Result<(), EditError> {
    check_name(name)?;
    let unwritable = |error| EditError::Write(path.to_owned(), error);
    // A link stays one.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let text = if anew || !target.exists() {
        String::new()
    } else {
        read(&target).map_err(|mistake| EditError::Read(WrongFile { file: path.to_owned(), mistake }))?
    };
    let hash = password.map(PasswordHash::new).transpose().map_err(unwritable)?;
    let Some(text) = edited(&text, name, hash.as_ref()) else {
        return Err(EditError::NoUser(path.to_owned(), name.to_owned()));
    };
    replace(&target, text.as_bytes()).map_err(unwritable)
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    let beside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = write_new(&beside, path, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // It may not be there.
        let _ = fs::remove_file(&beside);
        return written;
    }
    // So that the new name outlives a power cut too; not every file system can say so.
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
    Ok(())
}

fn write_new(beside: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    file.write_all(text)?;
    if let Ok(old) = fs::metadata(path) {
        // Whoever may not give it away owns it, as with any other file he makes. By the open file: a name could be
        // another's by now.
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
    }
    file.sync_all()
}
