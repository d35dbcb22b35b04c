//! Plays the scenarios of many seeds on all cores, and tells how many of them it plays in a second:
//!
//! ```sh
//! cargo run --release -p damselfly-sim --example seeds -- --seeds 10000 --from 0
//! ```
//!
//! At the first one that does not hold it stops, and prints the seed and a test of as few steps as fail too; with
//! `--shrink 0` the seed alone.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the worlds own no clock; who plays many of them may"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
use std::thread;
use std::time::Instant;

use damselfly_sim::{Failure, Fault, Scenario};

fn main() -> ExitCode {
    let Some([from, seeds, shrinks]) = arguments() else {
        eprintln!("usage: seeds [--seeds N] [--from S] [--shrink 0]");
        return ExitCode::from(2);
    };
    let started = Instant::now();
    let next = AtomicU64::new(from);
    let until = from.saturating_add(seeds);
    let failed: Mutex<BTreeMap<u64, Failure>> = Mutex::default();
    let faults: Mutex<BTreeMap<Fault, u64>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| play(&next, until, &failed, &faults));
        }
    });
    let faults = faults.into_inner().unwrap_or_default();
    if let Some((seed, failure)) = failed.into_inner().unwrap_or_default().pop_first() {
        println!("seed {seed}: {failure}\n");
        if shrinks == 0 {
            return ExitCode::FAILURE;
        }
        println!("#[test]\nfn seed_{seed}() {{\n    let script = \"{}\";", Scenario::from_seed(seed).shrink());
        println!("    script.parse::<damselfly_sim::Scenario>().unwrap().run().unwrap();\n}}");
        return ExitCode::FAILURE;
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = u32::try_from(seeds).map_or(f64::INFINITY, f64::from) / seconds;
    println!("{seeds} seeds from {from} hold, in {seconds:.1} s: {rate:.0} a second");
    for (fault, count) in &faults {
        println!("{count:>10} {fault:?}");
    }
    let missing: Vec<_> = Fault::ALL.into_iter().filter(|fault| !faults.contains_key(fault)).collect();
    if !missing.is_empty() {
        println!("never happened: {missing:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Plays seed after seed until one fails.
fn play(next: &AtomicU64, until: u64, failed: &Mutex<BTreeMap<u64, Failure>>, faults: &Mutex<BTreeMap<Fault, u64>>) {
    let mut counts: BTreeMap<Fault, u64> = BTreeMap::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= until {
            break;
        }
        match Scenario::from_seed(seed).run() {
            Ok(report) => {
                for (fault, count) in report.faults {
                    *counts.entry(fault).or_default() += count;
                }
            }
            Err(failure) => {
                next.store(until, Ordering::Relaxed);
                if let Ok(mut failed) = failed.lock() {
                    failed.insert(seed, failure);
                }
            }
        }
    }
    if let Ok(mut faults) = faults.lock() {
        for (fault, count) in counts {
            *faults.entry(fault).or_default() += count;
        }
    }
}

/// `--from`, `--seeds` and `--shrink`.
fn arguments() -> Option<[u64; 3]> {
    let [mut from, mut seeds, mut shrinks] = [0, 1_000, 1];
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.parse().ok()?;
        match &name[..] {
            "--from" => from = value,
            "--seeds" => seeds = value,
            "--shrink" => shrinks = value,
            _ => return None,
        }
    }
    Some([from, seeds, shrinks])
}
