//! `--simulate`: the house in virtual time, and what came of it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use damselfly_examples::home::{ByQos, Report, Settings, simulate};

use crate::args::Args;

/// How far apart faults are at the most.
const FAULTS_WITHIN: Duration = Duration::from_secs(90);

pub(crate) fn run(args: &Args, duration: Duration) -> io::Result<()> {
    let mut settings = Settings::new(args.seed);
    (settings.day, settings.faults_within) = (args.day, Some(FAULTS_WITHIN));
    let started = Instant::now();
    let report = simulate(settings, duration).map_err(io::Error::other)?;
    tell(&report, args.seed, started.elapsed())?;
    if report.is_clean() { Ok(()) } else { Err(io::Error::other("the ledger is not clean")) }
}

fn tell(report: &Report, seed: u64, took: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let totals = &report.totals;
    let seconds = report.lasted.as_secs();
    writeln!(out, "seed {seed}: {} min {} s of the house in {:.1} s", seconds / 60, seconds % 60, took.as_secs_f64())?;
    writeln!(out, "{:14}{:>10}{:>10}", "", "QoS 1", "QoS 2")?;
    let rows: [(&str, ByQos); 4] = [
        ("published", totals.published),
        ("acknowledged", totals.acknowledged),
        ("delivered", totals.delivered),
        ("duplicate", totals.duplicate),
    ];
    for (name, count) in rows {
        writeln!(out, "{name:14}{:>10}{:>10}", count.one, count.two)?;
    }
    writeln!(out, "lost {}, out of order {}, waiting {}", totals.lost, totals.out_of_order, totals.waiting)?;
    let faults: Vec<String> = report.faults.iter().map(|(name, count)| format!("{} {count}", name.word())).collect();
    writeln!(out, "faults: {}", faults.join(", "))?;
    let rules: Vec<String> = report.rules.iter().map(|(name, fired)| format!("{name} {fired}")).collect();
    writeln!(out, "rules: {}", rules.join(", "))?;
    if let Some(violation) = &report.violation {
        writeln!(out, "a packet that should not be: {violation}")?;
    }
    writeln!(out, "hash {:016x}", report.hash)?;
    out.flush()
}
