//! Cases that say what a broker must and must not do, for both versions, against any broker.
//!
//! A [`Case`] is a named script: what clients send over one connection or several, with which time passing, and what has
//! to come back. It names the statements it shows. A [`Run`] performs one, sans-IO: it is driven over sockets (by `mqtt
//! conformance` of the examples) or, as here, against our own core in virtual time:
//!
//! ```
//! use damselfly_broker::Config;
//! use damselfly_codec::Version;
//! use damselfly_sim::conformance::{Outcome, VirtualBroker, cases};
//!
//! let all = cases()?;
//! let case = all.iter().find(|case| case.name() == "connect/twice").ok_or("no such case")?;
//! assert!(case.statements(Version::V5_0).any(|id| id == "MQTT-3.1.0-2"));
//!
//! let mut broker = VirtualBroker::new(Config::default())?;
//! assert!(matches!(broker.run(case, Version::V5_0), Outcome::Passed { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The scripts are in `conformance/` of this crate, and `conformance/README.md` describes their language. Many runs may
//! share one broker at the same time: each has Client Identifiers and topics of its own, and clears up after itself.

mod authentication;
mod bytes;
mod cleanup;
mod connection;
mod expect;
mod names;
mod packet;
mod pattern;
mod property;
mod run;
mod script;
mod seen;
mod token;
mod virtual_broker;

use std::sync::Arc;
use std::time::Duration;

use damselfly_codec::Version;

pub use authentication::Exchange;
pub use names::Features;
pub use run::{Link, Output, Run};
pub use script::ScriptError;
pub use virtual_broker::VirtualBroker;

use script::{Need, Step};

/// The scripts, in the order of the standard.
const SCRIPTS: &[&str] = &[
    include_str!("../../conformance/connect.txt"),
    include_str!("../../conformance/properties.txt"),
    include_str!("../../conformance/text.txt"),
    include_str!("../../conformance/malformed.txt"),
    include_str!("../../conformance/acknowledgements.txt"),
    include_str!("../../conformance/sessions.txt"),
    include_str!("../../conformance/wills.txt"),
    include_str!("../../conformance/publish.txt"),
    include_str!("../../conformance/handshakes.txt"),
    include_str!("../../conformance/flow.txt"),
    include_str!("../../conformance/retained.txt"),
    include_str!("../../conformance/subscribe.txt"),
    include_str!("../../conformance/shared.txt"),
    include_str!("../../conformance/limited.txt"),
    include_str!("../../conformance/authentication.txt"),
];

/// All cases.
///
/// # Errors
///
/// A script is wrong; a test of this crate shows that none is.
pub fn cases() -> Result<Vec<Case>, ScriptError> {
    let all: Result<Vec<_>, _> = SCRIPTS.iter().map(|script| script::parse(script)).collect();
    Ok(all?.concat())
}

/// A case that finds out what a broker says of itself: run it for 5.0 first and give [`Run::features`] to the others.
///
/// # Errors
///
/// As [`cases`].
pub fn probe() -> Result<Case, ScriptError> {
    const PROBE: &str = "case probe\nabout The broker accepts a client.\nshows MQTT-3.1.4-5 MQTT3-3.1.4-4\n\
                         5.0: a connects keep_alive=60 {session_expiry_interval=3600}\n\
                         3.1.1: a connects\na disconnects\n";
    let probe = script::parse(PROBE)?.into_iter().next();
    probe.ok_or_else(|| ScriptError { line: 1, what: "there is no case".to_owned() })
}

/// A named script that shows statements of the standards.
#[derive(Clone, Debug)]
pub struct Case {
    name: &'static str,
    about: &'static str,
    statements: Vec<&'static str>,
    needs: Vec<Need>,
    lacks: Vec<Need>,
    scripts: Vec<(Version, Vec<Step>)>,
}

impl Case {
    const fn new(name: &'static str) -> Self {
        Self { name, about: "", statements: Vec::new(), needs: Vec::new(), lacks: Vec::new(), scripts: Vec::new() }
    }

    /// Unique, as in `publish/packet-id-0`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What has to be true, in one sentence.
    pub const fn about(&self) -> &'static str {
        self.about
    }

    /// The ids of the statements it shows for a version: `MQTT-3.1.0-2` of 5.0, `MQTT3-3.1.0-2` of 3.1.1.
    pub fn statements(&self, version: Version) -> impl Iterator<Item = &'static str> + '_ {
        self.statements.iter().copied().filter(move |id| version_of(id) == version)
    }

    /// The versions it has a script for.
    pub fn versions(&self) -> impl Iterator<Item = Version> + '_ {
        self.scripts.iter().map(|(version, _)| *version)
    }

    fn versions_of_statements(&self) -> Vec<Version> {
        let has = |version: &Version| self.statements(*version).next().is_some();
        [Version::V3_1_1, Version::V5_0].into_iter().filter(has).collect()
    }

    fn steps(&self, version: Version) -> Option<&[Step]> {
        self.scripts.iter().find(|(other, _)| *other == version).map(|(_, steps)| &steps[..])
    }
}

/// The version whose standard numbers a statement like this.
fn version_of(statement: &str) -> Version {
    if statement.starts_with("MQTT3-") { Version::V3_1_1 } else { Version::V5_0 }
}

/// What a run is given.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// Up to 8 letters and digits that no other run against this broker has, in every Client Identifier and topic.
    pub nonce: String,
    /// What the broker says of itself.
    pub features: Features,
    /// For every CONNECT that is not about user names.
    pub user_name: Option<String>,
    /// For every CONNECT that is not about passwords.
    pub password: Option<String>,
    /// How clients authenticate in several steps, where the broker knows such a method. Default none.
    pub authentication: Option<Arc<dyn Exchange>>,
    /// Whether the broker speaks both versions, so that clients of both may meet. Default true.
    pub both_versions: bool,
    /// How long anything may take that has no time of its own. Default 4 s.
    pub patience: Duration,
}

impl Setup {
    /// For a broker about which nothing is known.
    pub fn new(nonce: impl Into<String>) -> Self {
        Self {
            nonce: nonce.into(),
            features: Features::default(),
            user_name: None,
            password: None,
            authentication: None,
            both_versions: true,
            patience: run::PATIENCE,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All came as it has to.
    Passed {
        /// What the standard would rather see, without demanding it.
        remarks: Vec<String>,
    },
    /// Something came that must not, or did not that must.
    Failed(Failure),
    /// The broker does not have what the case needs, or has what it does without.
    Skipped(String),
}

/// What went wrong, and after what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The statements that are broken: those of the case, or the one that holds for every connection.
    pub statements: Vec<&'static str>,
    /// What was sent and what came, with seconds since the case began.
    pub transcript: Vec<String>,
    /// What had to come.
    pub expected: String,
    /// What came instead.
    pub came: String,
}
