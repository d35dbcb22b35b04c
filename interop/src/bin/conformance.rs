//! Writes `docs/conformance.md` from `docs/conformance.tsv` and the tests of the workspace.

use std::{fs, io};

use damselfly_interop::conformance::{MATRIX, matrix, workspace};

fn main() -> io::Result<()> {
    fs::write(workspace().join(MATRIX), matrix()?.to_string())
}
