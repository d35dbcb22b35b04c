//! Each limit of the broker has a row in the documents, and each row a test.

use std::path::Path;
use std::{fs, io};

fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path))
}

#[test]
fn a_limit_without_a_row_in_the_docs_fails() -> io::Result<()> {
    let docs = read("docs/limits.md")?;
    let source = read("crates/broker/src/config.rs")?;
    let body = source.split_once("pub struct Config {").and_then(|(_, rest)| rest.split_once("\n}\n"));
    let fields: Vec<_> = body
        .map_or("", |(body, _)| body)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    assert!(fields.len() > 25, "{fields:?}");
    for field in &fields {
        let row = docs.lines().find(|line| line.starts_with(&format!("| `{field}` |")));
        assert!(row.is_some(), "docs/limits.md has no row for `{field}`");
        let test = row.and_then(|row| row.split('|').rev().nth(1)).unwrap_or("").trim().trim_matches('`');
        let (file, name) = test.split_once("::").unwrap_or(("limits", test));
        let tests = read(&format!("crates/broker/tests/it/{file}.rs"))?;
        assert!(tests.contains(&format!("fn {name}()")), "`{field}`: there is no test {test}");
    }
    let rows = docs.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, fields.len(), "a row of docs/limits.md names no field");
    Ok(())
}
