//! The cost of the engine's calls: a publication, a delivery, a subscription. See
//! `docs/benchmarks.md`.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use weir::engine::{Engine, Limits, Payload, Publication, PublicationId, SubscriptionId};
use weir::wire::{Digest, Filter, Lag, ProducerId, Start};

// The allocator of the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CURSORS: u64 = 100;

struct Bench {
    engine: Engine,
    next: u64,
    named: Vec<SubscriptionId>,
}

impl Bench {
    fn new(cache: usize) -> Self {
        Self {
            engine: Engine::new(Limits::default().with_cache(cache), 1, [7; 32]),
            next: 0,
            named: Vec::new(),
        }
    }

    /// Creates an engine whose cache is full of payloads of 100 B.
    fn full(cache: usize) -> Self {
        let mut bench = Self::new(cache);
        for _ in 0..cache / 100 {
            bench.publish_distinct(None);
        }
        bench
    }

    fn subscribed(mut self, filter: &str) -> Self {
        for _ in 0..CURSORS {
            let filter = Filter::new(filter).unwrap();
            self.engine.subscribe(filter, &Start::New, Lag::Oldest);
        }
        self
    }

    // Includes the hash of the payload.
    fn publish(&mut self, payload: &Payload, origin: Option<PublicationId>) {
        let publication = Publication {
            topic: "bench/topic",
            payload,
            digest: payload.digest(),
            stamp: 0,
            origin,
        };
        black_box(self.engine.publish(1, &publication)).unwrap();
    }

    fn distinct(&mut self) -> Payload {
        self.next += 1;
        let mut payload = [0; 100];
        payload[..8].copy_from_slice(&self.next.to_le_bytes());
        Bytes::copy_from_slice(&payload).into()
    }

    fn publish_distinct(&mut self, producer: Option<ProducerId>) {
        let payload = self.distinct();
        let number = self.next;
        let origin = producer.map(|producer| PublicationId { producer, number });
        self.publish(&payload, origin);
    }

    // Does the work of the shell: every subscription that was woken reads until it has everything.
    fn deliver(&mut self) {
        while self.engine.has_deferred() {
            self.engine.run_deferred();
        }
        self.engine.take_wakes(&mut self.named);
        for id in self.named.drain(..) {
            while self
                .engine
                .read(id, 64 << 10, &mut |item| {
                    black_box(&item);
                })
                .unwrap()
            {}
        }
    }
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish 100 B");
    group.throughput(Throughput::Elements(1));
    let mut growing = Bench::new(256 << 20);
    group.bench_function("cache not full", |b| {
        b.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..iterations {
                // More messages than 256 MiB hold.
                if growing.next == 300_000 {
                    growing = Bench::new(256 << 20);
                }
                let payload = growing.distinct();
                let start = Instant::now();
                growing.publish(&payload, None);
                elapsed += start.elapsed();
            }
            elapsed
        });
    });
    drop(growing);
    let mut small = Bench::full(16 << 20);
    group.bench_function("cache of 16 MiB full", |b| {
        b.iter(|| small.publish_distinct(None));
    });
    group.bench_function("with a producer", |b| {
        b.iter(|| small.publish_distinct(Some(ProducerId([1; 16]))));
    });
    group.bench_function("the same again", |b| {
        let payload = Payload::from(Bytes::from_static(&[9; 100]));
        b.iter(|| small.publish(&payload, None));
    });
    drop(small);
    let mut large = Bench::full(256 << 20);
    group.bench_function("cache of 256 MiB full", |b| {
        b.iter(|| large.publish_distinct(None));
    });
    group.bench_function("hash alone", |b| {
        let payload = [9; 100];
        b.iter(|| Digest::of(black_box(&payload)));
    });
    group.finish();
}

fn deliver(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish 100 B and deliver to 100 (per delivery)");
    group.throughput(Throughput::Elements(CURSORS));
    for filter in ["bench/topic", "bench/**"] {
        let mut bench = Bench::full(16 << 20).subscribed(filter);
        group.bench_function(filter, |b| {
            b.iter(|| {
                bench.publish_distinct(None);
                bench.deliver();
            });
        });
    }
    group.finish();
}

fn subscribe(c: &mut Criterion) {
    let filter = Filter::new("bench/topic").unwrap();
    let mut bench = Bench::full(16 << 20).subscribed("bench/topic");
    c.bench_function("subscribe and unsubscribe", |b| {
        b.iter_batched(
            || filter.clone(),
            |filter| {
                let id = bench.engine.subscribe(filter, &Start::Latest, Lag::Oldest);
                bench.engine.unsubscribe(black_box(id));
            },
            BatchSize::SmallInput,
        );
    });
}

fn config() -> Criterion {
    let seconds = Duration::from_secs;
    Criterion::default().warm_up_time(seconds(1)).measurement_time(seconds(3)).sample_size(50)
}

criterion_group! { name = benches; config = config(); targets = publish, deliver, subscribe }
criterion_main!(benches);
