//! Finds the ids of statements, such as `MQTT-3.3.2-2` (5.0) and `MQTT3-3.1.2-24` (3.1.1), in the files of the workspace.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use super::source::test_spans;

/// The directories of the workspace whose files may cite statements.
const ROOTS: [&str; 7] = ["crates", "examples", "fuzz", "benches", "interop", "no_std", "docs"];

/// What may cite: sources, documents, and the tables that tests read.
const EXTENSIONS: [&str; 6] = ["rs", "md", "py", "tsv", "txt", "in"];

/// Tables that a test goes through row by row: a row shows what it cites.
const VECTORS: &str = "crates/codec/testdata/";

/// Scripts that a test runs case by case: a case shows what its line `shows` names.
const CASES: &str = "crates/sim/conformance/";

/// These name ids without citing them: the table of statements with its matrix, and the tests of this very code.
const NO_CITATIONS: [&str; 3] = ["docs/conformance", "interop/src/conformance/", "interop/tests/it/"];

/// What a citation stands in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shows {
    /// A test function of this name.
    Test(String),
    /// A row of this name in a table of wire vectors, or a conformance case.
    Row(String),
    /// Other code, or prose: it explains and shows nothing.
    Nothing,
}

/// Where an id stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Citation {
    /// The file, from the root of the repository on, with `/` between its parts.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Whether it is a test that cites.
    pub shows: Shows,
}

/// Every id that is cited in the workspace, with its places in the order of files and lines.
#[derive(Debug, Default)]
pub struct Citations {
    by_id: BTreeMap<String, Vec<Citation>>,
}

impl Citations {
    /// Reads the files of a repository.
    ///
    /// # Errors
    ///
    /// A file or directory cannot be read.
    pub fn in_workspace(workspace: &Path) -> io::Result<Self> {
        let mut citations = Self::default();
        for root in ROOTS {
            for file in files_below(workspace, root)? {
                if !NO_CITATIONS.iter().any(|prefix| file.starts_with(prefix)) {
                    citations.add(&file, &fs::read_to_string(workspace.join(&file))?);
                }
            }
        }
        Ok(citations)
    }

    /// Adds what one file cites.
    pub fn add(&mut self, file: &str, text: &str) {
        let is_source = extension(file) == Some("rs");
        let spans = if is_source { test_spans(text) } else { Vec::new() };
        for (Id { text: id, in_brackets }, line) in ids(text) {
            let span = spans.iter().find(|(_, lines)| lines.contains(&line));
            let shows = match span {
                // In a source an id without brackets is only a value.
                Some((name, _)) if in_brackets => Shows::Test((*name).to_owned()),
                _ if file.starts_with(VECTORS) => row_name(text, line).map_or(Shows::Nothing, Shows::Row),
                _ if file.starts_with(CASES) => case_name(text, line).map_or(Shows::Nothing, Shows::Row),
                _ => Shows::Nothing,
            };
            let citation = Citation { file: file.to_owned(), line, shows };
            self.by_id.entry(id.to_owned()).or_default().push(citation);
        }
    }

    /// Each id with its places.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Citation])> {
        self.by_id.iter().map(|(id, citations)| (id.as_str(), citations.as_slice()))
    }

    /// The places of one id.
    pub fn of(&self, id: &str) -> &[Citation] {
        self.by_id.get(id).map_or(&[], Vec::as_slice)
    }
}

fn extension(file: &str) -> Option<&str> {
    file.rsplit_once('.').map(|(_, extension)| extension)
}

/// The first column of a row of a table. Comments are no rows.
fn row_name(text: &str, line: usize) -> Option<String> {
    let row = text.lines().nth(line.checked_sub(1)?)?;
    let (name, _) = row.split_once('\t')?;
    (!name.starts_with('#')).then(|| name.to_owned())
}

/// The name of the case whose line `shows` this is.
fn case_name(text: &str, line: usize) -> Option<String> {
    let lines: Vec<_> = text.lines().take(line).collect();
    let (last, before) = lines.split_last()?;
    last.strip_prefix("shows ")?;
    before.iter().rev().find_map(|line| line.strip_prefix("case ")).map(str::to_owned)
}

/// The id of a statement where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id<'a> {
    /// The id, without brackets.
    pub text: &'a str,
    /// Whether it follows `[`, as a citation does.
    pub in_brackets: bool,
}

/// Each id in a text with its line, counted from 1.
pub fn ids(text: &str) -> Vec<(Id<'_>, usize)> {
    text.lines().zip(1..).flat_map(|(line, number)| ids_in_line(line).into_iter().map(move |id| (id, number))).collect()
}

fn ids_in_line(line: &str) -> Vec<Id<'_>> {
    let mut found = Vec::new();
    for (start, _) in line.match_indices("MQTT") {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        if before.is_some_and(char::is_alphanumeric) {
            continue;
        }
        let Some(rest) = line.get(start..) else { continue };
        found.extend(id_at_front(rest).map(|text| Id { text, in_brackets: before == Some('[') }));
    }
    found
}

/// `MQTT-`, a section with at least one dot, and `-N`. A section alone is a reference to the text, not to a statement.
fn id_at_front(text: &str) -> Option<&str> {
    let tail = text.strip_prefix("MQTT")?;
    let tail = tail.strip_prefix('3').unwrap_or(tail).strip_prefix('-')?;
    let section = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (section, tail) = tail.split_at(section);
    let tail = tail.strip_prefix('-')?;
    let digits = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits == 0 || !section.contains('.') {
        return None;
    }
    text.get(..text.len() - tail.len() + digits)
}

/// The files below a directory that may cite, from the root of the repository on and sorted.
fn files_below(workspace: &Path, root: &str) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        if !workspace.join(&directory).is_dir() {
            continue;
        }
        for entry in fs::read_dir(workspace.join(&directory))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{directory}/{name}");
            if entry.path().is_dir() {
                let is_made = ["target", "corpus", "artifacts", "node_modules"].contains(&name.as_str());
                open.extend((!is_made && !name.starts_with('.')).then_some(path));
            } else if extension(&name).is_some_and(|extension| EXTENSIONS.contains(&extension)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
