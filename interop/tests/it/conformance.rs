//! Holds the citations in the workspace against `docs/conformance.tsv`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::citations;

/// Statements per standard: Appendix B of 3.1.1, and of 5.0 together with its text.
const STATEMENTS: [(&str, usize); 2] = [("MQTT3-", 141), ("MQTT-", 251)];

/// Statements of these areas are shown by a test; the others follow with the broker and the client.
const SHOWN_AREAS: [&str; 3] = ["codec", "topic", "session"];

struct Statement {
    id: String,
    /// Who is bound: `codec` for rules about bytes, else `client`, `server` or `both`.
    side: String,
    /// Where it is decided here.
    area: String,
    wording: String,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn statements() -> io::Result<Vec<Statement>> {
    let text = fs::read_to_string(workspace().join("docs/conformance.tsv"))?;
    let rows = text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    let statement = |row: Vec<&str>| match row[..] {
        [id, _section, side, area, wording] => Ok(Statement {
            id: id.to_owned(),
            side: side.to_owned(),
            area: area.to_owned(),
            wording: wording.to_owned(),
        }),
        _ => Err(io::Error::other(format!("not five columns: {row:?}"))),
    };
    rows.map(statement).collect()
}

#[test]
fn both_standards_are_listed_completely_and_once() -> io::Result<()> {
    let statements = statements()?;
    let by_id: BTreeMap<&str, &str> = statements.iter().map(|s| (s.id.as_str(), s.wording.as_str())).collect();

    assert_eq!(by_id.len(), statements.len(), "an id stands twice");
    for (prefix, count) in STATEMENTS {
        assert_eq!(by_id.keys().filter(|id| id.starts_with(prefix)).count(), count, "{prefix}");
    }
    assert!(by_id.values().all(|wording| !wording.is_empty()), "a statement has no wording");
    Ok(())
}

#[test]
fn every_cited_id_exists() -> io::Result<()> {
    let known: Vec<String> = statements()?.into_iter().map(|s| s.id).collect();
    let mut unknown = String::new();
    for (id, places) in citations::in_workspace(&workspace())? {
        if known.contains(&id) {
            continue;
        }
        for place in places {
            let _ = writeln!(unknown, "  {id} in {}:{}", place.path.display(), place.line);
        }
    }

    assert!(unknown.is_empty(), "cited, but in neither standard:\n{unknown}");
    Ok(())
}

#[test]
fn statements_about_codec_topics_and_sessions_are_cited_by_tests() -> io::Result<()> {
    let cited = citations::in_workspace(&workspace())?;
    let is_shown = |id: &str| cited.get(id).is_some_and(|places| places.iter().any(|place| place.in_test));
    let mut missing = String::new();
    for statement in statements()? {
        let must_be_shown = statement.side == "codec" || SHOWN_AREAS.contains(&statement.area.as_str());
        if must_be_shown && !is_shown(&statement.id) {
            let _ = writeln!(missing, "  {} ({}): {}", statement.id, statement.area, statement.wording);
        }
    }

    assert!(missing.is_empty(), "no test cites:\n{missing}");
    Ok(())
}
