//! Time to decode and to encode, ours beside the rivals', per packet.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use damselfly_benches::case;

fn codecs(criterion: &mut Criterion) {
    for name in case::names().iter().filter(|name| case::CODEC.iter().any(|kind| name.starts_with(kind))) {
        let mut group = criterion.benchmark_group(name);
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(20);
        for contender in case::contenders(name) {
            match case::prepare(name, contender) {
                Ok(mut prepared) => {
                    group.throughput(Throughput::Elements(prepared.operations));
                    group.bench_function(contender, |bencher| bencher.iter(|| (prepared.run)()));
                }
                Err(error) => eprintln!("{name} {contender}: {error}"),
            }
        }
        group.finish();
    }
}

criterion_group!(benches, codecs);
criterion_main!(benches);
