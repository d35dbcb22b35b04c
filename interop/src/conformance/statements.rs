//! The rows of `docs/conformance.tsv`.

use std::path::Path;
use std::{fs, io};

/// Whom a statement binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// It is about the bytes of a packet, whoever wrote them.
    Codec,
    /// The Server.
    Server,
    /// Client and Server.
    Both,
    /// The Client.
    Client,
}

impl Side {
    /// Every side, in the order of the totals.
    pub const ALL: [Self; 4] = [Self::Codec, Self::Server, Self::Both, Self::Client];

    /// As it stands in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::Server => "server",
            Self::Both => "both",
            Self::Client => "client",
        }
    }
}

/// One normative statement of a standard, in our words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// `MQTT-3.3.2-2` of 5.0, `MQTT3-3.1.2-24` of 3.1.1.
    pub id: String,
    /// Number and title of its section.
    pub section: String,
    /// Whom it binds.
    pub side: Side,
    /// Where it is decided here: `codec`, `topic`, `session`, `broker`, `client` or `transport`.
    pub area: String,
    /// What it asks for.
    pub wording: String,
    /// Why no test shows it; empty where one does.
    pub reason: String,
}

impl Statement {
    /// Whether it is one of 3.1.1.
    pub fn is_of_3_1_1(&self) -> bool {
        self.id.starts_with("MQTT3-")
    }

    /// Whether its reason says that the test is still to come.
    pub fn is_pending(&self) -> bool {
        self.reason.starts_with("pending")
    }

    /// The directories whose tests can show it. Of each group one test is needed: a rule is shown at the end that it
    /// binds, and at each of them where it binds both, wherever it is decided.
    pub fn homes(&self) -> &'static [&'static [&'static str]] {
        const CODEC: &[&str] = &["crates/codec"];
        const TOPIC: &[&str] = &["crates/topic", "crates/codec"];
        const BROKER: &[&str] = &["crates/broker", "crates/sim", "examples"];
        // What is in `crates/sim/conformance` is about brokers alone.
        const CLIENT: &[&str] = &["crates/client", "crates/sim/tests", "examples"];
        match (self.area.as_str(), self.side) {
            ("transport", _) => &[&["examples"]],
            ("codec", Side::Codec | Side::Both) => &[CODEC],
            (_, Side::Codec) => &[TOPIC],
            (_, Side::Server) => &[BROKER],
            (_, Side::Client) => &[CLIENT],
            (_, Side::Both) => &[BROKER, CLIENT],
        }
    }

    /// Whether a test in a file is worth naming: it shows the statement at an end, or where it is decided.
    pub fn is_at_home(&self, file: &str) -> bool {
        self.homes().iter().any(|home| stands_in(home, file)) || stands_in(&[&format!("crates/{}", self.area)], file)
    }
}

/// Whether a file is below one of some directories.
pub(crate) fn stands_in(directories: &[&str], file: &str) -> bool {
    directories.iter().any(|directory| file.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')))
}

/// Every statement of both standards, in the order of the table.
///
/// # Errors
///
/// The table cannot be read, or a row has other columns than `id`, `section`, `side`, `area`, `wording` and `reason`.
pub fn statements(workspace: &Path) -> io::Result<Vec<Statement>> {
    let text = fs::read_to_string(workspace.join("docs/conformance.tsv"))?;
    text.lines()
        .skip(1)
        .map(|row| statement(row).ok_or_else(|| io::Error::other(format!("not a row: {row}"))))
        .collect()
}

fn statement(row: &str) -> Option<Statement> {
    let columns: Vec<&str> = row.split('\t').collect();
    let [id, section, side, area, wording, reason] = columns[..] else { return None };
    let side = Side::ALL.into_iter().find(|known| known.as_str() == side)?;
    let [id, section, area, wording, reason] = [id, section, area, wording, reason].map(str::to_owned);
    Some(Statement { id, section, side, area, wording, reason })
}
