//! A disk that fails, or is slow, under the threads of a journal.

use super::memory::{Faults, Memory};
use super::{OPENING, open as reopen, shown};
use crate::engine::{Capture, Engine, Limits, Payload, Publication};
use crate::journal::queue::JournalQueue;
use crate::journal::settings::{JournalOptions, JournalSync, OnFailure};
use crate::journal::snapshot_file::SnapshotFile;
use crate::journal::threads::{Journal, open_on};
use crate::wire::{Code, Digest, Filter, Lag, Start};
use bytes::Bytes;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Daemon {
    memory: Memory,
    engine: Arc<Mutex<Engine>>,
    queue: Arc<JournalQueue>,
    journal: Option<Journal>,
}

impl Daemon {
    fn new(sync: JournalSync, on_failure: OnFailure) -> Self {
        Self::on(Memory::default(), sync, on_failure, 2_000_000)
    }

    // As the next one after another, with the storage that it has left.
    fn on(memory: Memory, sync: JournalSync, on_failure: OnFailure, run: u64) -> Self {
        let options = JournalOptions { sync, bytes: 1 << 30, on_failure };
        let engine = Engine::new(Limits::default(), 1_000_000, [7; 32]);
        let storage = Arc::new(memory.clone());
        let (open, engine) =
            open_on(storage, None, Path::new("memory"), options, engine, run).unwrap();
        let (engine, queue) = (Arc::new(Mutex::new(engine)), open.queue.clone());
        let (of_part, to) = (engine.clone(), queue.clone());
        let journal = open.start(Box::new(move |capture| {
            let mut engine = of_part.lock().unwrap();
            let part = engine.capture(capture);
            to.push(&mut engine);
            part
        }));
        Self { memory, engine, queue, journal: Some(journal) }
    }

    // Publishes as the broker does. Returns the code of a refusal.
    fn publish(&self, n: u32, size: usize) -> Result<u64, Code> {
        let mut engine = self.engine.lock().unwrap();
        engine.refuse_publications(self.queue.refusal());
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        let payload = Bytes::from(bytes);
        let digest = Digest::of(&payload);
        let payload = Payload::from(payload);
        let publication =
            Publication { topic: "a", payload: &payload, digest, stamp: 0, origin: None };
        let result = engine.publish(1, &publication);
        self.queue.push(&mut engine);
        self.queue.notify();
        result.map(|_| engine.recorded()).map_err(|refusal| refusal.code)
    }

    fn fail(&self, faults: Faults) {
        self.memory.files().faults = faults;
    }

    fn wait_until(&self, what: impl Fn(&JournalQueue) -> bool) {
        while !what(&self.queue) {
            // The others need the processor.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    // It is killed. Returns how many messages the next daemon has.
    fn kill(mut self) -> usize {
        self.journal = None;
        self.memory.restart();
        let (_, mut opened) = reopen(&self.memory, &OPENING);
        shown(&mut opened.engine).len()
    }

    // It ends in good order. Returns the last sequence that the next daemon has.
    fn close(mut self) -> usize {
        self.journal.take().unwrap().close();
        let (_, opened) = reopen(&self.memory, &OPENING);
        assert_eq!(opened.end, crate::journal::recovery::End::Closed);
        // The older ones have left its smaller cache.
        opened.engine.head("a").unwrap().next as usize - 1
    }
}

const FULL: Faults = Faults { writes: 1000, syncs: 0, names: 0, reads: 0 };
const UNSYNCED: Faults = Faults { writes: 0, syncs: 1000, names: 0, reads: 0 };
const READ_ONLY: Faults = Faults { writes: 1000, syncs: 1000, names: 1000, reads: 0 };

#[test]
fn publications_are_refused_while_the_disk_is_full_and_accepted_when_it_is_not() {
    for (sync, faults) in [
        (JournalSync::Always, FULL),
        (JournalSync::EachSecond, READ_ONLY),
        (JournalSync::AtExit, FULL),
        (JournalSync::Always, UNSYNCED),
        (JournalSync::EachSecond, UNSYNCED),
    ] {
        let daemon = Daemon::new(sync, OnFailure::Refuse);
        let kept = daemon.publish(1, 100).unwrap();
        daemon.wait_until(|queue| queue.kept() >= kept);
        daemon.fail(faults);
        // It is shown, and its receipt waits.
        let waits = daemon.publish(2, 100).unwrap();
        daemon.wait_until(JournalQueue::refuses);
        assert_eq!(daemon.publish(3, 100), Err(Code::UNAVAILABLE));
        let receipts = sync == JournalSync::EachSecond && faults.writes == 0;
        assert_eq!(daemon.queue.kept() >= waits, receipts, "{sync:?} {faults:?}");
        // Subscribers go on.
        assert_eq!(shown(&mut daemon.engine.lock().unwrap()).len(), 2);
        daemon.fail(Faults::default());
        daemon.wait_until(|queue| !queue.refuses() && queue.kept() >= waits);
        let kept = daemon.publish(4, 100).unwrap();
        daemon.wait_until(|queue| queue.kept() >= kept);
        assert_eq!(daemon.kill(), 3, "{sync:?} {faults:?}");
    }
}

#[test]
fn a_daemon_may_go_on_without_its_disk() {
    let daemon = Daemon::new(JournalSync::EachSecond, OnFailure::Continue);
    daemon.fail(READ_ONLY);
    for n in 0..10 {
        let kept = daemon.publish(n, 100).unwrap();
        daemon.wait_until(|queue| queue.kept() >= kept);
        assert!(!daemon.queue.refuses());
    }
    daemon.fail(Faults::default());
    // A snapshot has them.
    daemon.wait_until(|_| !daemon.journal.as_ref().is_some_and(Journal::is_unknown));
    assert_eq!(daemon.close(), 10);
}

// The disk is full, or read-only, when the daemon starts.
#[test]
fn a_daemon_that_starts_on_a_full_disk_serves_what_it_has_and_refuses_publications() {
    for (faults, closed) in [(FULL, true), (FULL, false), (READ_ONLY, true), (UNSYNCED, false)] {
        let daemon = Daemon::new(JournalSync::EachSecond, OnFailure::Refuse);
        for n in 0..10 {
            let kept = daemon.publish(n, 100).unwrap();
            daemon.wait_until(|queue| queue.kept() >= kept);
        }
        let memory = daemon.memory.clone();
        assert_eq!(if closed { daemon.close() } else { daemon.kill() }, 10);
        memory.files().faults = faults;
        let daemon = Daemon::on(memory, JournalSync::EachSecond, OnFailure::Refuse, 3_000_000);
        assert_eq!(shown(&mut daemon.engine.lock().unwrap()).len(), 10, "{faults:?}");
        assert_eq!(daemon.publish(10, 100), Err(Code::UNAVAILABLE), "{faults:?}");
        daemon.fail(Faults::default());
        daemon.wait_until(|queue| !queue.refuses());
        let kept = daemon.publish(11, 100).unwrap();
        daemon.wait_until(|queue| queue.kept() >= kept);
        assert_eq!(daemon.kill(), 11, "{faults:?}");
    }
}

// Its publications are shown, and are lost. So the next daemon must not give their sequences to others.
#[test]
fn a_daemon_that_starts_without_its_disk_and_goes_on_has_another_epoch() {
    let daemon = Daemon::new(JournalSync::EachSecond, OnFailure::Continue);
    daemon.publish(1, 100).unwrap();
    let memory = daemon.memory.clone();
    let epoch = |daemon: &Daemon| daemon.engine.lock().unwrap().head("a").unwrap().epoch;
    let mut epochs = vec![epoch(&daemon)];
    daemon.close();
    for run in [3_000_000, 4_000_000] {
        memory.files().faults = FULL;
        let daemon = Daemon::on(memory.clone(), JournalSync::EachSecond, OnFailure::Continue, run);
        let lost = daemon.publish(2, 100).unwrap();
        daemon.wait_until(|queue| queue.kept() >= lost);
        epochs.push(epoch(&daemon));
        daemon.kill();
    }
    let distinct: std::collections::BTreeSet<_> = epochs.iter().collect();
    assert_eq!(distinct.len(), 3, "{epochs:?}");
}

#[test]
fn publications_wait_for_a_slow_disk_and_are_refused_if_they_do_not() {
    let daemon = Daemon::new(JournalSync::AtExit, OnFailure::Refuse);
    let id = {
        let mut engine = daemon.engine.lock().unwrap();
        engine.subscribe(Filter::new("a").unwrap(), &Start::New, Lag::Oldest)
    };
    let slow = daemon.memory.files().slow.clone();
    let slow = slow.lock();
    let mut number = 0;
    while daemon.queue.has_room() {
        number += 1;
        daemon.publish(number, 60_000).unwrap();
    }
    let waited = number;
    while daemon.publish(number + 1, 60_000).is_ok() {
        number += 1;
    }
    assert!(waited > 100 && number > 3 * waited, "{waited} {number}");
    assert_eq!(daemon.publish(0, 10), Err(Code::UNAVAILABLE));
    // Its subscriber does not wait.
    let mut received = 0;
    while daemon.engine.lock().unwrap().read(id, 1 << 20, &mut |_| received += 1).unwrap() {}
    assert!(received >= number as usize);
    drop(slow);
    daemon.wait_until(|queue| !queue.refuses() && queue.has_room());
    daemon.publish(0, 10).unwrap();
    assert_eq!(daemon.close(), number as usize + 1);
}

// The disk has room for a snapshot's bytes, and says only at the sync that it has none, as some do.
#[test]
fn a_snapshot_that_cannot_be_completed_is_removed() {
    let memory = Memory::default();
    let mut engine = Engine::new(Limits::default(), 1_000_000, [7; 32]);
    for number in 1..4 {
        let (mut capture, mut file) =
            (Capture::new(), SnapshotFile::create(&memory, number).unwrap());
        while let Some(part) = engine.capture(&mut capture) {
            file.push(part).unwrap();
        }
        memory.files().faults = UNSYNCED;
        file.finish(&memory).unwrap_err();
        memory.files().faults = Faults::default();
        assert!(memory.files().names.is_empty(), "{:?}", memory.files().names);
    }
}
