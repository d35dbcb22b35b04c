//! Live heap of two client cores and a broker core that never rest: after many messages it has to be what it was after
//! few. All levels of QoS in turn; now and then both connections are lost with messages under way.

use std::{alloc::System, error::Error};

use clap::Parser;
use damselfly_benches::load::both::Both;
use damselfly_client::QoS;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Messages that are published before anybody else has a turn.
const WINDOW: usize = 32;

/// Says how much heap is held after the first messages, ten times as many, and so on, and fails if it grew too much.
#[derive(Parser)]
struct Options {
    /// The number of messages after which the heap is what later ones are compared with.
    #[arg(long, default_value_t = 100_000)]
    first: u64,
    /// The number of messages in all.
    #[arg(long, default_value_t = 10_000_000)]
    messages: u64,
    /// Bytes by which the heap may have grown between them.
    #[arg(long, default_value_t = 64 * 1_024)]
    limit: usize,
    /// Connections are lost after so many messages.
    #[arg(long, default_value_t = 10_000)]
    cut_after: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    // Before the heap is looked at: the output has a buffer there.
    println!("two clients and a broker, windows of {WINDOW} at QoS 0, 1 and 2 in turn");
    let before = live();
    let mut both = Both::lasting(WINDOW)?;
    let (mut messages, mut next_cut, mut cuts, mut report_at) = (0, options.cut_after, 0_u64, options.first);
    let (mut first, mut highest) = (0, 0);
    let mut levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().cycle();
    while messages < options.messages {
        let qos = levels.next().unwrap_or(QoS::AtMostOnce);
        both.publish_at(qos);
        let is_cut = messages >= next_cut;
        let finished = if is_cut { both.cut() } else { both.turn() };
        if finished < both.expected() && !(is_cut && qos == QoS::AtMostOnce) {
            return Err(format!("{finished} messages of {} at {qos:?} after {messages}", both.expected()).into());
        }
        messages += both.expected();
        if is_cut {
            next_cut += options.cut_after;
            cuts += 1;
        }
        let held = live().saturating_sub(before);
        highest = highest.max(if first > 0 { held } else { 0 });
        if messages >= report_at || messages >= options.messages {
            println!("{messages} messages, {cuts} times reconnected: {held} bytes live");
            report_at *= 10;
            if first == 0 {
                first = held;
            }
        }
    }
    println!("at most {highest} bytes between the first of these and the last");
    if highest > first.saturating_add(options.limit) {
        return Err(format!("more than {} bytes above {first}", options.limit).into());
    }
    Ok(())
}

/// Bytes allocated and not freed.
fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}
