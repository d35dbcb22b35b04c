//! Holds the tests of the workspace against both standards, and `docs/conformance.md` against both.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::{fs, io};

use damselfly_interop::conformance::{MATRIX, Matrix, Side, Standing, matrix, workspace};

/// Statements per standard: Appendix B of 3.1.1, and of 5.0 together with its text.
const STATEMENTS: [(&str, usize); 2] = [("MQTT3-", 141), ("MQTT-", 251)];

/// Of the statements that bind a server or are about bytes, this part is shown by a test.
const SHOWN_PERCENT: usize = 95;

/// The ids of statements that are not as they should be, one a line.
fn ids_where(matrix: &Matrix, is_wrong: impl Fn(Standing, bool) -> bool) -> String {
    let mut wrong = String::new();
    for statement in matrix.statements() {
        if is_wrong(matrix.standing(statement), statement.reason.is_empty()) {
            let _ = writeln!(wrong, "  {} ({}): {}", statement.id, statement.area, statement.wording);
        }
    }
    wrong
}

#[test]
fn both_standards_are_listed_completely_and_once() -> io::Result<()> {
    let matrix = matrix()?;
    let ids: BTreeSet<&str> = matrix.statements().iter().map(|s| s.id.as_str()).collect();

    assert_eq!(ids.len(), matrix.statements().len(), "an id stands twice");
    for (prefix, count) in STATEMENTS {
        assert_eq!(ids.iter().filter(|id| id.starts_with(prefix)).count(), count, "{prefix}");
    }
    assert!(matrix.statements().iter().all(|s| !s.wording.is_empty()), "a statement has no wording");
    Ok(())
}

#[test]
fn every_cited_id_exists() -> io::Result<()> {
    let matrix = matrix()?;
    let known: BTreeSet<&str> = matrix.statements().iter().map(|s| s.id.as_str()).collect();
    let mut unknown = String::new();
    for (id, citations) in matrix.citations().iter().filter(|(id, _)| !known.contains(id)) {
        for citation in citations {
            let _ = writeln!(unknown, "  {id} in {}:{}", citation.file, citation.line);
        }
    }

    assert!(unknown.is_empty(), "cited, but in neither standard:\n{unknown}");
    Ok(())
}

#[test]
fn every_statement_has_a_test_where_it_is_decided_or_a_reason() -> io::Result<()> {
    let open = ids_where(&matrix()?, |standing, _| standing == Standing::Open);

    assert!(open.is_empty(), "no test shows, and no reason in docs/conformance.tsv says why:\n{open}");
    Ok(())
}

#[test]
fn no_reason_outlives_its_test() -> io::Result<()> {
    let stale = ids_where(&matrix()?, |standing, without| standing == Standing::Shown && !without);

    assert!(stale.is_empty(), "shown by a test, so the reason in docs/conformance.tsv goes:\n{stale}");
    Ok(())
}

#[test]
fn what_binds_servers_and_bytes_is_shown() -> io::Result<()> {
    let matrix = matrix()?;
    let (mut shown, mut all) = (0, 0);
    for statement in matrix.statements().iter().filter(|s| s.side != Side::Client) {
        all += 1;
        shown += usize::from(matrix.standing(statement) == Standing::Shown);
    }

    assert!(shown * 100 >= all * SHOWN_PERCENT, "{shown} of {all}");
    Ok(())
}

#[test]
fn the_matrix_is_up_to_date() -> io::Result<()> {
    let written = fs::read_to_string(workspace().join(MATRIX))?;

    assert!(written == matrix()?.to_string(), "cargo run -p damselfly-interop --bin conformance");
    Ok(())
}
