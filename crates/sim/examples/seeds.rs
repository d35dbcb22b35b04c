//! Plays the scenarios of many seeds on all cores, and tells how many of them it plays in a second:
//!
//! ```sh
//! cargo run --release -p damselfly-sim --example seeds -- --seeds 10000 --from 0
//! cargo run --release -p damselfly-sim --example seeds -- --seeds 1000000 --go-on 1 --every 10000
//! ```
//!
//! At the first one that does not hold it stops, and prints the seed and a test of as few steps as fail too; with
//! `--shrink 0` the seed alone. With `--go-on 1` it prints the same of each that does not hold, a panic of a core among
//! them, and goes on to the end. With `--every N` it says on the standard error how far it is, each N seeds.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the worlds own no clock; who plays many of them may"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use damselfly_sim::{Failure, Fault, Feature, Scenario};

fn main() -> ExitCode {
    let Some(wish) = Wish::read() else {
        eprintln!("usage: seeds [--seeds N] [--from S] [--shrink 0] [--go-on 1] [--every N]");
        return ExitCode::from(2);
    };
    let (started, played) = (Instant::now(), Mutex::new(Played::default()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| while play_next(&wish, started, &played) {});
        }
    });
    let played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (fault, count) in &played.faults {
        println!("{count:>12} {fault:?}");
    }
    for (feature, count) in &played.features {
        println!("{count:>12} {feature:?}");
    }
    let is_all_there =
        is_each_there("fault", &Fault::ALL, &played.faults) & is_each_there("feature", &Feature::ALL, &played.features);
    let (seeds, seconds) = (played.begun, started.elapsed().as_secs_f64());
    println!(
        "{seeds} seeds from {}: {} failures, {seconds:.1} s, {:.0} a second; {} of {} kinds of faults, {} of {} features",
        wish.from,
        played.failures,
        rate(seeds, seconds),
        played.faults.len(),
        Fault::ALL.len(),
        played.features.len(),
        Feature::ALL.len(),
    );
    if played.failures == 0 && is_all_there { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was asked for.
struct Wish {
    from: u64,
    seeds: u64,
    shrinks: bool,
    goes_on: bool,
    /// 0 is never.
    every: u64,
}

impl Wish {
    fn read() -> Option<Self> {
        let mut wish = Self { from: 0, seeds: 1_000, shrinks: true, goes_on: false, every: 0 };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value: u64 = arguments.next()?.parse().ok()?;
            match &name[..] {
                "--from" => wish.from = value,
                "--seeds" => wish.seeds = value,
                "--shrink" => wish.shrinks = value > 0,
                "--go-on" => wish.goes_on = value > 0,
                "--every" => wish.every = value,
                _ => return None,
            }
        }
        Some(wish)
    }
}

#[derive(Default)]
struct Played {
    begun: u64,
    failures: u64,
    is_over: bool,
    faults: BTreeMap<Fault, u64>,
    features: BTreeMap<Feature, u64>,
}

/// Plays one seed: false if there is none left.
fn play_next(wish: &Wish, started: Instant, played: &Mutex<Played>) -> bool {
    let seed = {
        let mut played = played.lock().unwrap_or_else(PoisonError::into_inner);
        if played.is_over || played.begun >= wish.seeds {
            return false;
        }
        let seed = wish.from.saturating_add(played.begun);
        played.begun += 1;
        if wish.every > 0 && played.begun % wish.every == 0 {
            let (begun, seconds) = (played.begun, started.elapsed().as_secs_f64());
            let (failures, rate) = (played.failures, rate(begun, seconds));
            eprintln!("{begun} of {} seeds, {failures} failures, {seconds:.0} s, {rate:.0} a second", wish.seeds);
        }
        seed
    };
    let scenario = Scenario::from_seed(seed);
    let failure = match if wish.goes_on { run_guarded(&scenario) } else { scenario.run().map_err(text) } {
        Ok(report) => {
            let mut played = played.lock().unwrap_or_else(PoisonError::into_inner);
            for (fault, count) in report.faults {
                *played.faults.entry(fault).or_default() += count;
            }
            for (feature, count) in report.features {
                *played.features.entry(feature).or_default() += count;
            }
            return true;
        }
        Err(failure) => failure,
    };
    {
        let mut played = played.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = !played.is_over;
        played.failures += u64::from(is_first);
        played.is_over = !wish.goes_on;
        if !is_first {
            return false;
        }
    }
    let script = wish.shrinks.then(|| scenario.shrink_while(|shorter| run_guarded(shorter).is_err()));
    // One failure is printed whole.
    let _played = played.lock();
    println!("seed {seed}: {failure}\n");
    if let Some(script) = script {
        println!("#[test]\nfn seed_{seed}() {{\n    let script = \"{script}\";");
        println!("    script.parse::<damselfly_sim::Scenario>().unwrap().run().unwrap();\n}}\n");
    }
    wish.goes_on
}

/// A panic of a core is a failure like others.
fn run_guarded(scenario: &Scenario) -> Result<damselfly_sim::Report, String> {
    match catch_unwind(|| scenario.run()) {
        Ok(result) => result.map_err(text),
        Err(_) => Err("a core panicked".to_owned()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "handed to `map_err`")]
fn text(failure: Failure) -> String {
    failure.to_string()
}

fn rate(seeds: u64, seconds: f64) -> f64 {
    u32::try_from(seeds).map_or(f64::INFINITY, f64::from) / seconds
}

fn is_each_there<T: Copy + Ord + Debug>(what: &str, all: &[T], counts: &BTreeMap<T, u64>) -> bool {
    let missing: Vec<_> = all.iter().filter(|kind| !counts.contains_key(kind)).collect();
    if !missing.is_empty() {
        println!("{what} that never occurred: {missing:?}");
    }
    missing.is_empty()
}
