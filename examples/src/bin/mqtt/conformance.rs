//! `mqtt conformance`: the cases of both standards against a broker, with a report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::Args;
use damselfly_codec::Version;
use damselfly_examples::conformance::{Conformance, ProbeError};
use damselfly_examples::scram::{ClientExchange, METHOD};
use damselfly_sim::conformance::{Case, Exchange, Outcome, Setup, cases};
use serde_json::{Value, json};

use crate::Failure;

pub(crate) const ABOUT: &str = "Hold a broker against the standards, and name the statement of each failed case.\n\nEach case is a script of what clients send over one connection or several and of what has \
to come back. It shows statements of MQTT 3.1.1 or 5.0 and is reported with them. Cases run at the same time, with Client \
Identifiers and topics of their own (conformance/...), rely on nothing that is in the broker, and clear up after \
themselves: a broker in use is not disturbed, but connections are opened by the hundred.\n\n\
What the standard demands fails a case. What it only recommends, such as the Reason Code before a connection is closed, is \
remarked. Cases about what the broker announces not to have are skipped, and so are those about brokers that lack what \
it has: run it against one without retained messages to see how it refuses them. Cases of enhanced authentication need a \
user: see --scram.";

pub(crate) const EXIT_STATUS: &str = "Exit status:
  0  every case passed or was skipped
  1  no connection
  2  the command line is wrong
  3  the broker refuses a well-behaved client
  4  a case failed";

/// `mqtt conformance`
#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    /// Address of the broker.
    #[arg(short = 'a', long, value_name = "HOST:PORT", default_value = "localhost:1883")]
    pub(crate) address: String,
    /// Only cases with this text in their name or the id of a statement: will/, 3.1.2-22.
    #[arg(short = 'o', long, value_name = "TEXT", default_value = "")]
    pub(crate) only: String,
    /// Only one version of the protocol: 3.1.1 or 5.0.
    #[arg(short = 'V', long, visible_alias = "protocol-version", value_name = "VERSION", value_parser = version)]
    pub(crate) version: Option<Version>,
    /// Write every outcome with its transcript to a file.
    #[arg(short = 'j', long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// User name.
    #[arg(short = 'u', long, alias = "username", value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Password. It shows in the process list: prefer a user whose rights are small.
    #[arg(short = 'P', long, alias = "pw", value_name = "PASSWORD", allow_hyphen_values = true, requires = "user")]
    pub(crate) password: Option<String>,
    /// Run the cases of enhanced authentication too: the broker knows the user by SCRAM-SHA-256, and lets in who names no method.
    #[arg(long, requires = "password")]
    pub(crate) scram: bool,
    /// How long anything may take that has no time of its own, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "4", value_parser = crate::args::seconds)]
    pub(crate) patience: Duration,
    /// Print the cases with what they show, and run none.
    #[arg(short = 'l', long)]
    pub(crate) list: bool,
    /// Say nothing of what passed or was skipped, remarks included.
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "3.1.1" | "311" | "mqttv311" => Ok(Version::V3_1_1),
        "5.0" | "5" | "mqttv5" => Ok(Version::V5_0),
        _ => Err("3.1.1 or 5.0".to_owned()),
    }
}

pub(crate) async fn run(args: ConformanceArgs) -> Result<(), Failure> {
    let cases = cases().map_err(|error| Failure::Usage(error.to_string()))?;
    let runs = chosen(&cases, &args);
    if runs.is_empty() {
        return Err(Failure::Usage(format!("no case has {:?} in its name or statements", args.only)));
    }
    if args.list {
        return print(&list(&runs));
    }
    let started = Instant::now();
    let runner = probe(&args).await?;
    let outcomes = runner.run_all(&runs).await;
    let report = report(&runs, &outcomes, started.elapsed(), args.quiet);
    if let Some(file) = &args.json {
        let text = format!("{:#}\n", json_of(&args.address, &runs, &outcomes));
        std::fs::write(file, text).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
    }
    print(&report)?;
    let has_failed = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_)));
    if has_failed { Err(Failure::Cases) } else { Ok(()) }
}

fn chosen<'a>(cases: &'a [Case], args: &ConformanceArgs) -> Vec<(&'a Case, Version)> {
    let has_text = |case: &Case, version| {
        case.name().contains(&args.only) || case.statements(version).any(|id| id.contains(&args.only))
    };
    let of_case = |case: &'a Case| case.versions().map(move |version| (case, version));
    let is_version = |version| args.version.is_none_or(|only| only == version);
    cases.iter().flat_map(of_case).filter(|(case, version)| is_version(*version) && has_text(case, *version)).collect()
}

async fn probe(args: &ConformanceArgs) -> Result<Conformance, Failure> {
    let no_connection = |what: String| Failure::Connection(format!("{}: {what}", args.address));
    let mut addresses =
        tokio::net::lookup_host(&args.address).await.map_err(|error| no_connection(error.to_string()))?;
    let mut setup = Setup::new(nonce());
    setup.user_name.clone_from(&args.user);
    setup.password.clone_from(&args.password);
    if let (true, Some(user), Some(password)) = (args.scram, &args.user, &args.password) {
        setup.authentication = Some(Arc::new(Scram { user: user.clone(), password: password.clone() }));
    }
    setup.patience = args.patience;
    setup.both_versions = args.version.is_none();
    let version = args.version.unwrap_or(Version::V5_0);
    let mut last = no_connection("no address".to_owned());
    for address in &mut addresses {
        match Conformance::probe(address, setup.clone(), version).await {
            Ok(runner) => return Ok(runner),
            Err(ProbeError::Connect(error)) => last = no_connection(error.to_string()),
            Err(error) => {
                let advice = if args.version.is_none() { "; --version 3.1.1 leaves the cases of 5.0 out" } else { "" };
                return Err(Failure::Refused(format!("{}: {error}{advice}", args.address)));
            }
        }
    }
    Err(last)
}

/// A user who shows by SCRAM-SHA-256 who it is.
struct Scram {
    user: String,
    password: String,
}

impl std::fmt::Debug for Scram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scram").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Scram {
    fn begin(&self, nonce: &str) -> Result<(ClientExchange, String), String> {
        ClientExchange::new(&self.user, nonce).map_err(|error| error.to_string())
    }
}

impl Exchange for Scram {
    fn method(&self) -> &str {
        METHOD
    }

    fn first(&self, nonce: &str) -> Result<Vec<u8>, String> {
        Ok(self.begin(nonce)?.1.into_bytes())
    }

    fn answer(&self, nonce: &str, challenge: &[u8], right: bool) -> Result<Vec<u8>, String> {
        let (exchange, _) = self.begin(nonce)?;
        let password = if right { self.password.clone() } else { format!("not {}", self.password) };
        let (_, last) = exchange.respond(&password, challenge).map_err(|error| error.to_string())?;
        Ok(last.into_bytes())
    }
}

/// Letters and digits that no other run has: microseconds of the clock and the process.
fn nonce() -> String {
    let micros = UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
    let mut rest = micros.wrapping_mul(4_194_304).wrapping_add(u128::from(std::process::id()));
    let mut out = String::new();
    for _ in 0..8 {
        let digit = u32::try_from(rest % 36).unwrap_or_default();
        rest /= 36;
        out.extend(char::from_digit(digit, 36));
    }
    out
}

fn list(runs: &[(&Case, Version)]) -> String {
    let mut out = String::new();
    for (case, version) in runs {
        let statements: Vec<_> = case.statements(*version).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{} ({version}) [{}]\n     {}", case.name(), statements.join(" "), case.about());
    }
    out
}

fn count(outcomes: &[Outcome], is_it: impl Fn(&Outcome) -> bool) -> usize {
    outcomes.iter().filter(|outcome| is_it(outcome)).count()
}

fn report(runs: &[(&Case, Version)], outcomes: &[Outcome], took: Duration, is_quiet: bool) -> String {
    let mut out = String::new();
    for ((case, version), outcome) in runs.iter().zip(outcomes) {
        let name = format!("{} ({version})", case.name());
        // Writing to a string cannot fail.
        let _ = match outcome {
            Outcome::Failed(failure) => writeln!(
                out,
                "FAILED {name} [{}]\n  {}\n    {}\n  expected: {}\n  came: {}\n",
                failure.statements.join(" "),
                case.about(),
                failure.transcript.join("\n    "),
                failure.expected,
                failure.came
            ),
            Outcome::Passed { remarks } if !is_quiet && !remarks.is_empty() => {
                writeln!(out, "remark {name}: {}", remarks.join("; "))
            }
            Outcome::Skipped(why) if !is_quiet => writeln!(out, "skipped {name}: {why}"),
            Outcome::Passed { .. } | Outcome::Skipped(_) => Ok(()),
        };
    }
    let failed = count(outcomes, |outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(outcomes, |outcome| matches!(outcome, Outcome::Skipped(_)));
    let remarked = count(outcomes, |outcome| matches!(outcome, Outcome::Passed { remarks } if !remarks.is_empty()));
    let _ = writeln!(
        out,
        "{} cases in {:.1} s: {} passed, {remarked} of them with a remark, {failed} failed, {skipped} skipped",
        outcomes.len(),
        took.as_secs_f64(),
        outcomes.len() - failed - skipped,
    );
    let mut reasons = BTreeMap::<_, usize>::new();
    for outcome in outcomes {
        if let Outcome::Skipped(why) = outcome {
            *reasons.entry(why).or_default() += 1;
        }
    }
    for (why, count) in reasons {
        let _ = writeln!(out, "  {count} skipped: {why}");
    }
    out
}

fn json_of(address: &str, runs: &[(&Case, Version)], outcomes: &[Outcome]) -> Value {
    let runs = runs.iter().zip(outcomes).map(|((case, version), outcome)| {
        let mut entry = json!({
            "case": case.name(),
            "version": version.to_string(),
            "about": case.about(),
            "statements": case.statements(*version).collect::<Vec<_>>(),
        });
        let more = match outcome {
            Outcome::Passed { remarks } => json!({ "outcome": "passed", "remarks": remarks }),
            Outcome::Skipped(why) => json!({ "outcome": "skipped", "why": why }),
            Outcome::Failed(failure) => json!({
                "outcome": "failed",
                "broken": failure.statements,
                "transcript": failure.transcript,
                "expected": failure.expected,
                "came": failure.came,
            }),
        };
        if let (Value::Object(entry), Value::Object(more)) = (&mut entry, more) {
            entry.extend(more);
        }
        entry
    });
    json!({ "address": address, "runs": runs.collect::<Vec<_>>() })
}

fn print(text: &str) -> Result<(), Failure> {
    // A pipe that nobody reads any more is no failure.
    std::io::stdout().write_all(text.as_bytes()).map_err(|_| Failure::BrokenPipe)
}
