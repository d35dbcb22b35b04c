//! Finds the ids of statements, such as `MQTT-3.3.2-2` (5.0) and `MQTT3-3.1.2-24` (3.1.1), in the files of the workspace.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directories of the workspace whose files may cite statements.
const ROOTS: [&str; 7] = ["crates", "examples", "fuzz", "benches", "interop", "no_std", "docs"];

/// What may cite: sources, documents, and the tables that tests read.
const EXTENSIONS: [&str; 6] = ["rs", "md", "py", "tsv", "txt", "in"];

/// Where an id stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) line: usize,
    /// Whether a test is found there that shows the statement, and not only code or prose.
    pub(crate) in_test: bool,
}

/// Every id cited in the workspace, with its places.
pub(crate) fn in_workspace(workspace: &Path) -> io::Result<BTreeMap<String, Vec<Place>>> {
    let mut found: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for root in ROOTS {
        for path in files_below(&workspace.join(root))? {
            let relative = path.strip_prefix(workspace).unwrap_or(&path).to_path_buf();
            if is_the_list_itself(&relative) {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let tests_from = first_line_of_tests(&relative, &text);
            // In a table a column says what a row shows; in a source an id without brackets is only a value.
            let is_source = path.extension().is_some_and(|e| e == "rs");
            for (Id { text: id, in_brackets }, line) in ids(&text) {
                let in_test = line >= tests_from && (in_brackets || !is_source);
                let place = Place { path: relative.clone(), line, in_test };
                found.entry(id.to_owned()).or_default().push(place);
            }
        }
    }
    Ok(found)
}

/// The id of a statement where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id<'a> {
    text: &'a str,
    in_brackets: bool,
}

/// Each id in a text with its line, counted from 1.
fn ids(text: &str) -> Vec<(Id<'_>, usize)> {
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

/// The statements' own table and the list of what is pending name ids without citing them.
fn is_the_list_itself(path: &Path) -> bool {
    path.starts_with("docs") && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("conformance"))
        || path.starts_with("interop/tests/it")
}

/// Files in `tests` and `testdata` are tests from their first line; a source file from its own test module on.
fn first_line_of_tests(path: &Path, text: &str) -> usize {
    let is_test = |part: &std::ffi::OsStr| part == "tests" || part == "testdata" || part == "tests.rs";
    if path.iter().any(is_test) || path.starts_with("interop") && path.extension().is_some_and(|e| e == "py") {
        return 0;
    }
    let lines: Vec<&str> = text.lines().collect();
    let module = lines.windows(2).position(|pair| match pair {
        [attribute, module] => attribute.trim() == "#[cfg(test)]" && module.ends_with('{'),
        _ => false,
    });
    module.unwrap_or(usize::MAX)
}

fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        if !directory.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "corpus", "artifacts", "node_modules"].contains(&name.as_str()) && !name.starts_with('.')
                {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[test]
fn an_id_is_a_section_and_a_number() {
    let found = ids("see [MQTT-3.3.2-2] and\n(MQTT3-3.1.2-24), \"MQTT-4.2-1\"");
    let id = |text, in_brackets| Id { text, in_brackets };
    assert_eq!(found, [(id("MQTT-3.3.2-2", true), 1), (id("MQTT3-3.1.2-24", false), 2), (id("MQTT-4.2-1", false), 2)]);
}

#[test]
fn a_section_alone_is_no_id() {
    assert_eq!(ids("[MQTT-4.3], [MQTT-4.3.2-], MQTT-5, XMQTT-3.3.2-2, MQTT 3.1.1-"), []);
}

#[test]
fn a_source_file_cites_for_tests_from_its_test_module_on() {
    let text = "/// [MQTT-1.5.4-1]\nfn a() {}\n#[cfg(test)]\nmod tests {\n";
    assert_eq!(first_line_of_tests(Path::new("crates/x/src/a.rs"), text), 2);
    assert_eq!(first_line_of_tests(Path::new("crates/x/src/a.rs"), "#[cfg(test)]\nmod tests;\n"), usize::MAX);
    assert_eq!(first_line_of_tests(Path::new("crates/x/tests/it/a.rs"), ""), 0);
}
