//! Each limit of broker and client has a row in the documents, and each row a test.

use std::path::Path;
use std::{fs, io};

fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path))
}

/// The documents on the broker, and those on the client core.
fn docs() -> io::Result<(String, String)> {
    let docs = read("docs/limits.md")?;
    let (broker, client) = docs.split_once("## The client core").unwrap_or((&docs, ""));
    Ok((broker.to_owned(), client.to_owned()))
}

/// The test that a row names, as file and function.
fn test_of(row: &str) -> (&str, &str) {
    let test = row.split('|').rev().nth(1).unwrap_or("").trim().trim_matches('`');
    test.split_once("::").unwrap_or(("limits", test))
}

#[test]
fn a_limit_without_a_row_in_the_docs_fails() -> io::Result<()> {
    let (docs, _) = docs()?;
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
        let (file, name) = row.map_or(("", ""), test_of);
        let tests = read(&format!("crates/broker/tests/it/{file}.rs"))?;
        assert!(tests.contains(&format!("fn {name}()")), "`{field}`: there is no test {file}::{name}");
    }
    let rows = docs.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, fields.len(), "a row of docs/limits.md names no field");
    Ok(())
}

/// Not every field of the client's config is a limit: those are, whose name begins with `max_`.
#[test]
fn a_limit_of_the_client_without_a_row_in_the_docs_fails() -> io::Result<()> {
    let (_, docs) = docs()?;
    let source = read("crates/client/src/config.rs")?;
    let fields: Vec<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let mut rows = Vec::new();
    for row in docs.lines().filter(|line| line.starts_with("| `")) {
        let limit = row.split('`').nth(1).unwrap_or("");
        let field = limit.rsplit('.').next().unwrap_or("");
        assert!(fields.contains(&field), "`{limit}`: there is no field {field}");
        let (file, name) = test_of(row);
        let tests = read(&format!("crates/client/tests/it/{file}.rs"))?;
        assert!(tests.contains(&format!("fn {name}()")), "`{limit}`: there is no test {file}::{name}");
        rows.push(field);
    }
    let mut limits: Vec<_> = fields.into_iter().filter(|field| field.starts_with("max_")).collect();
    rows.retain(|field| field.starts_with("max_"));
    limits.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, limits, "rows of docs/limits.md and limits of the client");
    Ok(())
}
