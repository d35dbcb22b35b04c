use std::{
    fs::File,
    io::{self, BufWriter},
    path::Path,
};

use damselfly_sim::flight::Tape;

/// A recording in a file, which is made anew.
pub fn tape(path: &Path) -> io::Result<Tape> {
    Ok(Tape::new(BufWriter::new(File::create(path)?)))
}
