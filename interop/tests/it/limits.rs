//! Each limit of broker and client has a row in the documents, and each row a test.

use std::path::Path;
use std::{fs, io};

fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path))
}

/// The documents on the broker core, on logins, and on the client core.
fn docs() -> io::Result<[String; 3]> {
    let docs = read("docs/limits.md")?;
    let (broker, rest) = docs.split_once("\n## Logins").unwrap_or((&docs, ""));
    let (logins, client) = rest.split_once("\n## The client core").unwrap_or((rest, ""));
    Ok([broker, logins, client].map(str::to_owned))
}

/// The fields of a struct.
fn fields(source: &str, of: &str) -> Vec<String> {
    let body = source.split_once(&format!("pub struct {of} {{")).and_then(|(_, rest)| rest.split_once("\n}\n"));
    let lines = body.map_or("", |(body, _)| body).lines();
    let fields = lines.filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
    fields.map(|(name, _)| name.to_owned()).collect()
}

/// The test that a row names, as file and function.
fn test_of(row: &str) -> (&str, &str) {
    let test = row.split('|').rev().nth(1).unwrap_or("").trim().trim_matches('`');
    test.split_once("::").unwrap_or(("limits", test))
}

#[test]
fn a_limit_without_a_row_in_the_docs_fails() -> io::Result<()> {
    let [docs, ..] = docs()?;
    let fields = fields(&read("crates/broker/src/config.rs")?, "Config");
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

#[test]
fn a_limit_of_logins_without_a_row_in_the_docs_fails() -> io::Result<()> {
    let [_, docs, _] = docs()?;
    let fields = fields(&read("examples/src/guard/mod.rs")?, "Limits");
    let rows: Vec<_> = docs.lines().filter(|line| line.starts_with("| `")).collect();
    let names: Vec<_> = rows.iter().filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(names, fields, "rows of docs/limits.md and limits of the guard");
    for row in rows {
        let (file, name) = test_of(row);
        let tests = match file {
            "guard" => read("examples/src/guard/attempts.rs")?,
            file => read(&format!("examples/tests/it/{file}.rs"))?,
        };
        let name = name.rsplit("::").next().unwrap_or_default();
        assert!(tests.contains(&format!("fn {name}()")), "{row}: there is no such test");
    }
    Ok(())
}

/// Not every field of the client's config is a limit: those are, whose name begins with `max_`.
#[test]
fn a_limit_of_the_client_without_a_row_in_the_docs_fails() -> io::Result<()> {
    let [.., docs] = docs()?;
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
