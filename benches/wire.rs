//! The cost of the codec.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use weir::wire::{ClientFrame, DaemonFrame, Digest, FrameReader, encode_message, encode_publish};

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for size in [100, 4096, 65_536] {
        let payload = Bytes::from(vec![7; size]);
        group.bench_function(format!("message {size} B"), |b| {
            b.iter(|| encode_message(black_box(3), 70_000, 2, 1_700_000_000_000_000, &payload));
        });
    }
    let payload = Bytes::from(vec![7; 100]);
    group.bench_function("publish 100 B", |b| {
        b.iter(|| encode_publish(black_box(3), 70_000, 1_700_000_000_000_000, &payload));
    });
    let mut out = Vec::with_capacity(256);
    group.bench_function("receipt", |b| {
        b.iter(|| {
            out.clear();
            black_box(receipt()).encode(&mut out);
        });
    });
    group.finish();
}

fn receipt() -> DaemonFrame<'static> {
    DaemonFrame::Receipt {
        alias: 3,
        number: 70_000,
        sequence: 70_001,
        count: 2,
        since: 0,
        digest: Digest([7; 32]),
        duplicate: false,
    }
}

/// Returns a frame with a payload of this size, without its length.
fn message(payload: usize) -> Vec<u8> {
    let payload = &vec![7; payload];
    let (topic, sequence, count, stamp) = (3, 70_000, 2, 1_700_000_000_000_000);
    let mut out = Vec::new();
    DaemonFrame::Message { topic, sequence, count, stamp, payload }.encode(&mut out);
    body(&out)
}

fn body(frame: &[u8]) -> Vec<u8> {
    let mut reader = FrameReader::new(1 << 20);
    reader.push(Bytes::copy_from_slice(frame));
    reader.next_frame().unwrap().unwrap().to_vec()
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let small = message(100);
    group.bench_function("daemon frame, message 100 B", |b| {
        b.iter(|| DaemonFrame::decode(black_box(&small)).unwrap());
    });
    let mut out = Vec::new();
    let payload = &[7; 100];
    ClientFrame::Publish { alias: 3, number: 70_000, stamp: 1_700_000_000_000_000, payload }
        .encode(&mut out);
    let publish = body(&out);
    group.bench_function("client frame, publish 100 B", |b| {
        b.iter(|| ClientFrame::decode(black_box(&publish)).unwrap());
    });
    let mut out = Vec::new();
    receipt().encode(&mut out);
    let receipt = body(&out);
    group.bench_function("daemon frame, receipt", |b| {
        b.iter(|| DaemonFrame::decode(black_box(&receipt)).unwrap());
    });

    let mut stream = Vec::new();
    for sequence in 0..100 {
        let payload = Bytes::from(vec![7; 100]);
        stream.extend_from_slice(encode_message(3, sequence, 1, 0, &payload).pieces().0);
    }
    let stream = Bytes::from(stream);
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 frames out of one piece (per frame)", |b| {
        let mut reader = FrameReader::new(1 << 20);
        b.iter(|| {
            reader.push(stream.clone());
            while let Some(frame) = reader.next_frame().unwrap() {
                black_box(&frame);
            }
        });
    });
    group.bench_function("100 frames out of pieces of 1200 B (per frame)", |b| {
        let mut reader = FrameReader::new(1 << 20);
        b.iter(|| {
            let mut rest = stream.clone();
            while !rest.is_empty() {
                reader.push(rest.split_to(rest.len().min(1200)));
                while let Some(frame) = reader.next_frame().unwrap() {
                    black_box(&frame);
                }
            }
        });
    });
    group.finish();
}

fn config() -> Criterion {
    let seconds = std::time::Duration::from_secs;
    Criterion::default().warm_up_time(seconds(1)).measurement_time(seconds(2)).sample_size(50)
}

criterion_group! { name = benches; config = config(); targets = encode, decode }
criterion_main!(benches);
