//! Time of the broker core without sockets, per delivery.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use damselfly_benches::case;

fn routing(criterion: &mut Criterion) {
    for name in case::names().iter().filter(|name| name.starts_with("broker/") || name.starts_with("both/")) {
        let mut group = criterion.benchmark_group(name);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(20);
        match case::prepare(name, "damselfly") {
            Ok(mut prepared) => {
                group.throughput(Throughput::Elements(prepared.operations));
                group.bench_function("damselfly", |bencher| bencher.iter(|| (prepared.run)()));
            }
            Err(error) => eprintln!("{name}: {error}"),
        }
        group.finish();
    }
}

criterion_group!(benches, routing);
criterion_main!(benches);
