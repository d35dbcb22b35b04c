//! The smart home in virtual time.

use std::time::Duration;

use damselfly_examples::home::{FaultName, Report, Settings, simulate};

/// Faults come soon after one another, so that a few minutes have one of each kind.
fn run(seed: u64, seconds: u64) -> Report {
    let mut settings = Settings::new(seed);
    settings.faults_within = Some(Duration::from_secs(15));
    simulate(settings, Duration::from_secs(seconds)).unwrap()
}

#[test]
fn house_loses_nothing_whatever_breaks_and_the_same_seed_is_the_same_house() {
    let report = run(7, 120);
    assert!(report.is_clean(), "{report:?}");
    for (name, count) in &report.faults {
        assert!(*count > 0, "{name:?} did not happen");
    }
    assert_eq!(report.faults.len(), FaultName::ALL.len());
    assert!(report.totals.published.one > 500 && report.totals.published.two > 20, "{report:?}");
    assert!(report.totals.delivered.two > 20 && report.totals.given_up == 0, "{report:?}");
    assert_eq!(run(7, 120), report);
}

#[test]
fn another_seed_is_another_house() {
    let hashes = [1, 2, 3].map(|seed| run(seed, 20).hash);
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
}
