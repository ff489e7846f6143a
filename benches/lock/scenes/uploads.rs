//! The scenes of publications that arrive in chunks.

use super::{READ, SUBSCRIPTIONS, distinct, name};
use crate::Shell;
use bytes::Bytes;
use weir::engine::{
    BeginOutcome, LargePayloads, PublicationId, ReadOptions, UploadId, UploadRequest,
};
use weir::wire::{Digest, ProducerId, Start};

fn origin(n: usize) -> PublicationId {
    let mut producer = [0; 16];
    producer[..8].copy_from_slice(&((n / 100) as u64).to_le_bytes());
    PublicationId { producer: ProducerId(producer), number: n as u64 % 100 + 1 }
}

impl Shell {
    fn begin(
        &mut self,
        call: &str,
        topic: &str,
        size: u64,
        origin: Option<PublicationId>,
    ) -> UploadId {
        let opening = UploadRequest { topic, size, stamp: 0, origin };
        match self.with(call, |engine| engine.begin(1, &opening)).unwrap() {
            BeginOutcome::Arriving(upload) => upload,
            BeginOutcome::Duplicate(_) => panic!("it is new"),
        }
    }
}

// 10,000 publications arrive, in one topic and in as many topics.
pub(super) fn uploads(shell: &mut Shell) {
    let size = 100_000;
    for many in [false, true] {
        for n in 0..3000 {
            shell.publish("-", &name(n), &distinct(n as u32));
        }
        shell.forget_setup();
        let topic = |n: usize| if many { name(n) } else { "a".to_owned() };
        let all: Vec<_> =
            (0..10_000).map(|n| shell.begin("begin", &topic(n), size, Some(origin(n)))).collect();
        let chunk = Bytes::from(vec![1; 1000]);
        for upload in &all {
            shell.with("append", |engine| engine.append(*upload, chunk.clone())).unwrap();
        }
        for n in 0..1000 {
            shell.publish("publish beside them", &topic(n), &distinct(n as u32));
        }
        for large in
            [LargePayloads::WhenComplete, LargePayloads::InChunks, LargePayloads::AnnounceOnly]
        {
            let wanted = ReadOptions { large, ..READ };
            for filter in ["a", "**"] {
                let id = shell.subscribe("subscribe, All", filter, &Start::All);
                let _ = shell.read("read beside them", id, wanted);
                shell.with("unsubscribe", |engine| engine.unsubscribe(id));
            }
        }
        for n in 0..100 {
            shell.begin("begin again, by the same producer", &topic(n), size, Some(origin(n)));
        }
        let rest = Bytes::from(vec![1; 99_000]);
        let mut whole = vec![1; 1000];
        whole.extend_from_slice(&rest);
        let digest = Digest::of(&whole);
        for upload in all.iter().skip(100).step_by(50) {
            let append = shell.with("append", |engine| engine.append(*upload, rest.clone()));
            if append.is_ok() {
                let _ = shell.with("end", |engine| engine.end(1, *upload, digest));
            }
        }
        for upload in &all {
            shell.with("abort", |engine| engine.abort(*upload));
        }
    }
    for _ in 0..12 {
        shell.publish("publish of 16 MiB", "z", &vec![2; 16 << 20].into());
    }
}

// 10,000 subscriptions have received everything that has arrived of one upload.
pub(super) fn waiting(shell: &mut Shell) {
    for large in [LargePayloads::InChunks, LargePayloads::WhenComplete] {
        let wanted = ReadOptions { large, ..READ };
        let all: Vec<_> = (0..SUBSCRIPTIONS)
            .map(|_| shell.subscribe("subscribe, New", "**", &Start::New))
            .collect();
        for ends in [true, false] {
            let upload = shell.begin("begin", "a", 100_000, None);
            shell.deliver("read", wanted);
            let chunk = Bytes::from(vec![u8::from(ends); 25_000]);
            for _ in 0..4 {
                shell.with("append", |engine| engine.append(upload, chunk.clone())).unwrap();
                shell.deliver("read", wanted);
            }
            // Messages of other topics overtake it.
            shell.publish("publish beside it", "b", &vec![3; 70_000].into());
            shell.deliver("read", wanted);
            if ends {
                let digest = Digest::of(&vec![1; 100_000]);
                shell.with("end", |engine| engine.end(1, upload, digest)).unwrap();
            } else {
                shell.with("abort", |engine| engine.abort(upload));
            }
            shell.deliver("read", wanted);
        }
        for id in all {
            shell.with("unsubscribe", |engine| engine.unsubscribe(id));
        }
    }
}
