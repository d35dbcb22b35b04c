//! Which test shows which statement of the two standards.
//!
//! The statements are rows of `docs/conformance.tsv`, in our words. A test shows a statement by citing its id, and the
//! matrix of both is `docs/conformance.md`:
//!
//! ```sh
//! cargo run -p damselfly-interop --bin conformance
//! ```

mod citations;
mod matrix;
mod source;
mod statements;

use std::io;
use std::path::{Path, PathBuf};

pub use citations::{Citation, Citations, Id, Shows, ids};
pub use matrix::{Matrix, Standing};
pub use source::test_spans;
pub use statements::{Side, Statement, statements};

/// Where the matrix stands in the repository.
pub const MATRIX: &str = "docs/conformance.md";

/// The root of the repository.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The matrix of this repository as its sources are.
///
/// # Errors
///
/// A file cannot be read, or a row of the table is not one.
pub fn matrix() -> io::Result<Matrix> {
    Ok(Matrix::new(statements(&workspace())?, Citations::in_workspace(&workspace())?))
}
