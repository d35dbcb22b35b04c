//! Statements and citations side by side, and as a document.

use std::collections::BTreeSet;
use std::fmt;

use super::citations::{Citations, Shows};
use super::statements::{Side, Statement, stands_in};

/// So many rows of one table of vectors are named, and the others counted.
const ROWS_NAMED: usize = 3;

/// The statements of both standards with what shows them.
#[derive(Debug)]
pub struct Matrix {
    statements: Vec<Statement>,
    citations: Citations,
}

/// How a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A test shows it, for each end that it binds.
    Shown,
    /// The table says why no test can.
    Reasoned,
    /// The table says that its test is still to come.
    Pending,
    /// Neither test nor reason.
    Open,
}

impl Matrix {
    /// Puts statements and citations together.
    pub fn new(statements: Vec<Statement>, citations: Citations) -> Self {
        Self { statements, citations }
    }

    /// The statements, in the order of the table.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// What the workspace cites.
    pub fn citations(&self) -> &Citations {
        &self.citations
    }

    /// Whether tests show a statement. One about bytes has a row of vectors too, which decoders of others can use.
    pub fn is_shown(&self, statement: &Statement) -> bool {
        let needs_row = statement.side == Side::Codec;
        statement.homes().iter().all(|home| self.tests_of(statement).any(|(file, _)| stands_in(home, file)))
            && (!needs_row || self.tests_of(statement).any(|(_, shows)| matches!(shows, Shows::Row(_))))
    }

    /// How a statement stands.
    pub fn standing(&self, statement: &Statement) -> Standing {
        match (self.is_shown(statement), statement.reason.is_empty()) {
            (true, _) => Standing::Shown,
            (false, true) => Standing::Open,
            (false, false) if statement.is_pending() => Standing::Pending,
            (false, false) => Standing::Reasoned,
        }
    }

    /// How many statements of a standard and a side stand like this.
    pub fn count(&self, of_3_1_1: bool, side: Side, standing: Standing) -> usize {
        let is_one = |s: &&Statement| s.is_of_3_1_1() == of_3_1_1 && s.side == side && self.standing(s) == standing;
        self.statements.iter().filter(is_one).count()
    }

    /// The tests and rows that cite a statement, and stand where it is decided.
    fn tests_of<'a>(&'a self, statement: &'a Statement) -> impl Iterator<Item = (&'a str, &'a Shows)> {
        let citations = self.citations.of(&statement.id).iter();
        let tests = citations.filter(|citation| citation.shows != Shows::Nothing);
        let at_home = tests.filter(|citation| statement.is_at_home(&citation.file));
        at_home.map(|citation| (citation.file.as_str(), &citation.shows))
    }

    fn write_totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| version | side | statements | shown | reasoned | pending |\n|---|---|--:|--:|--:|--:|")?;
        let mut all = [0; 4];
        for (version, of_3_1_1) in [("3.1.1", true), ("5.0", false)] {
            for side in Side::ALL {
                let count = |standing| self.count(of_3_1_1, side, standing);
                let [shown, reasoned, pending] = [Standing::Shown, Standing::Reasoned, Standing::Pending].map(count);
                let statements = shown + reasoned + pending + count(Standing::Open);
                let row = [statements, shown, reasoned, pending];
                all.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
                writeln!(f, "| {version} | {} | {} |", side.as_str(), row.map(|n| n.to_string()).join(" | "))?;
            }
        }
        writeln!(f, "| both | all | {} |", all.map(|n| n.to_string()).join(" | "))
    }

    /// One table for each section of a standard.
    fn write_sections(&self, f: &mut fmt::Formatter<'_>, of_3_1_1: bool) -> fmt::Result {
        let mut section = "";
        for statement in self.statements.iter().filter(|s| s.is_of_3_1_1() == of_3_1_1) {
            if statement.section != section {
                section = &statement.section;
                writeln!(f, "\n### {section}\n\n| id | side | what it asks for | shown by |\n|---|---|---|---|")?;
            }
            let shown = match self.standing(statement) {
                Standing::Shown => self.links(statement),
                _ => format!("*{}*", statement.reason),
            };
            let (id, side, wording) = (&statement.id, statement.side.as_str(), escaped(&statement.wording));
            writeln!(f, "| {id} | {side} | {wording} | {shown} |")?;
        }
        Ok(())
    }

    /// Functions first, then rows of vectors, each with a link to its file.
    fn links(&self, statement: &Statement) -> String {
        let tests: BTreeSet<_> = self.tests_of(statement).collect();
        let mut links = Vec::new();
        for (file, shows) in &tests {
            if let Shows::Test(name) = shows {
                links.push(format!("[{}:{name}](../{file})", short(file)));
            }
        }
        let is_row = |shows: &Shows| matches!(shows, Shows::Row(_));
        let tables: BTreeSet<_> = tests.iter().filter(|(_, shows)| is_row(shows)).map(|(file, _)| *file).collect();
        for file in tables {
            let rows = self.rows_of(statement, file);
            let named = rows.iter().take(ROWS_NAMED).copied().collect::<Vec<_>>().join(", ");
            let others = match rows.len().saturating_sub(ROWS_NAMED) {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            links.push(format!("[{}:{}{others}](../{file})", short(file), escaped(&named)));
        }
        links.join("<br>")
    }

    /// The rows of one table that cite a statement, in the order of the table.
    fn rows_of<'a>(&'a self, statement: &'a Statement, table: &str) -> Vec<&'a str> {
        let mut rows: Vec<&str> = Vec::new();
        for (file, shows) in self.tests_of(statement) {
            match shows {
                Shows::Row(row) if file == table && !rows.contains(&row.as_str()) => rows.push(row),
                _ => {}
            }
        }
        rows
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.write_totals(f)?;
        writeln!(f, "\n## MQTT 3.1.1")?;
        self.write_sections(f, true)?;
        writeln!(f, "\n## MQTT 5.0")?;
        self.write_sections(f, false)
    }
}

const HEAD: &str = "\
# Conformance

<!-- Written by `cargo run -p damselfly-interop --bin conformance`: edit conformance.tsv and the tests. -->

Every normative statement of MQTT 3.1.1 and 5.0, in our words, and what shows that it is kept: a test function that would
fail without it, a row of wire vectors that the tests of the codec go through, or a case that `mqtt conformance` runs against
any broker and a test against ours. Ids of 3.1.1 begin with `MQTT3`. A
statement that binds both ends is shown for each. Where no test can show a statement, the
reason stands in italics.

";

/// A file without what all of them have in common.
fn short(file: &str) -> String {
    file.trim_start_matches("crates/").replace("/tests/it/", "/")
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}
