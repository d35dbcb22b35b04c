//! The programs of this crate run.

use std::process::Command;

/// The relay stands in for a broker, so that the load and its checks are exercised without one.
#[test]
fn loopback_measures_a_relay_and_finds_no_fault_with_it() -> std::io::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_loopback"))
        .args(["--relay", "--no-pinning", "--repetitions", "1", "--seconds", "0.1", "--connections", "200"])
        .args(["--only", "pairs-100-q0,fan-in-100-q1,fan-out-100-q1,latency-q0,storm"])
        .output()?;

    let table = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);

    assert!(output.status.success(), "{log}");
    for scenario in ["pairs-100-q0", "fan-in-100-q1", "fan-out-100-q1", "latency-q0", "storm"] {
        assert!(table.contains(scenario), "{table}");
    }
    assert!(!table.contains('!') && !table.contains("failed"), "{table}{log}");
    Ok(())
}

#[test]
fn heap_of_both_cores_is_after_many_messages_and_lost_connections_what_it_was_after_few() -> std::io::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_heap"))
        .args(["--first", "3000", "--messages", "12000", "--cut-after", "500"])
        .output()?;

    let report = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);

    assert!(output.status.success(), "{report}{log}");
    assert!(report.contains("23 times reconnected"), "{report}");
    Ok(())
}
