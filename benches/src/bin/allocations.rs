//! Allocations of one case: `allocations CASE CONTENDER ROUNDS` prints their number and their bytes; with `heap` in
//! place of the rounds, the bytes that a matcher with its filters holds.

use std::{alloc::System, error::Error};

use damselfly_benches::case;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, contender, rounds] = arguments.as_slice() else {
        return Err("allocations CASE CONTENDER ROUNDS".into());
    };
    if rounds == "heap" {
        return heap(case, contender);
    }
    let mut prepared = case::prepare(case, contender)?;
    let region = Region::new(ALLOCATOR);
    for _ in 0..rounds.parse::<u64>()? {
        (prepared.run)();
    }
    let change = region.change();
    println!("{} {}", change.allocations + change.reallocations, change.bytes_allocated);
    Ok(())
}

fn heap(case: &str, contender: &str) -> Result<(), Box<dyn Error>> {
    let load = case.strip_prefix("match/").ok_or("only matchers hold something")?;
    let (filters, _) = case::load(load)?;
    let region = Region::new(ALLOCATOR);
    let matcher = case::matcher(contender, &filters)?;
    let change = region.change();
    let held = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
    println!("{held} {} {:.1}", filters.len(), ratio(held, filters.len()));
    drop(matcher);
    Ok(())
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "far below 2^53")]
fn ratio(bytes: usize, filters: usize) -> f64 {
    bytes as f64 / filters as f64
}
