//! Time to match a topic, and to subscribe and unsubscribe, ours beside the rivals'.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use damselfly_benches::case;

const LOADS: [&str; 5] = ["fleet-10k", "fleet-100k", "fleet-1m", "plus-8", "hash-heavy"];
/// Topics looked up in one sample.
const TOPICS: usize = 100;

fn matching(criterion: &mut Criterion) {
    for name in LOADS {
        let (filters, topics) = case::load(name).unwrap_or_default();
        let mut group = criterion.benchmark_group(format!("match/{name}"));
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
        group.throughput(Throughput::Elements(TOPICS.try_into().unwrap_or(1)));
        for contender in case::contenders(&format!("match/{name}")) {
            let Ok(mut matcher) = case::matcher(contender, &filters) else { continue };
            let (mut found, mut next) = (Vec::new(), topics.iter().cycle());
            group.bench_function(contender, |bencher| {
                bencher.iter_batched(
                    || next.by_ref().take(TOPICS).collect::<Vec<_>>(),
                    |topics| {
                        for topic in topics {
                            found.clear();
                            matcher.matches(black_box(topic), &mut found);
                            black_box(&found);
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

/// 10,000 subscriptions made, and removed one by one in the order in which they came.
fn subscribing(criterion: &mut Criterion) {
    let (filters, _) = case::load("fleet-10k").unwrap_or_default();
    let mut group = criterion.benchmark_group("subscribe-and-unsubscribe/fleet-10k");
    group.sample_size(10).throughput(Throughput::Elements(filters.len().try_into().unwrap_or(1)));
    for contender in case::contenders("match/fleet-10k").into_iter().filter(|&name| name != "linear scan") {
        group.bench_function(contender, |bencher| {
            bencher.iter(|| {
                let mut matcher = case::matcher(contender, black_box(&filters));
                if let Ok(matcher) = &mut matcher {
                    for (subscriber, filter) in (0..).zip(&filters) {
                        matcher.remove(filter, subscriber);
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, matching, subscribing);
criterion_main!(benches);
