//! A daemon after another on one disk.

use super::checks::Look;
use super::client::Client;
use super::facts::{Facts, Promise, Said};
use super::life::{Life, Upload};
use crate::engine::tests::seeds::Random;
use crate::engine::{
    BeginOutcome, Engine, Limits, Payload, Publication, PublicationId, UploadRequest,
};
use crate::journal::keeper::{Keeper, Opening, Sizes};
use crate::journal::recovery::End;
use crate::journal::tests::memory::{Faults, Memory};
use crate::wire::{Digest, ProducerId};
use bytes::Bytes;
use std::sync::Arc;

pub(super) const TOPICS: usize = 5;

/// Numbers of payloads: the last few arrive in parts.
const PAYLOADS: usize = 20;
const LARGE: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    Always,
    EachSecond,
    AtExit,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) memory: Memory,
    pub(super) facts: Facts,
    pub(super) life: Option<Life>,
    pub(super) limits: Limits,
    payloads: Vec<(Bytes, Digest)>,
    sync: Sync,
    sizes: Sizes,
    pub(super) goes_on: bool,
    pub(super) client: Option<Client>,
    // Whether the disk ever fails while it has power.
    pub(super) fails: bool,
    // Whether anything may have been evicted or forgotten.
    pub(super) evicts: bool,
    pub(super) now: u64,
    run: u64,
    boot: u64,
    numbers: [u64; TOPICS],
}

pub(super) fn name(topic: usize) -> String {
    format!("t/{topic}")
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let payloads = (0..PAYLOADS).map(|n| {
            let size = match n {
                n if n >= PAYLOADS - LARGE => 66_000,
                n => [12, 30, 90, 700, 5000][n % 5],
            };
            let mut bytes = vec![n as u8; size];
            bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
            (Bytes::from(bytes.clone()), Digest::of(&bytes))
        });
        let payloads = payloads.collect();
        let evicts = random.below(3) == 0;
        let mut limits = Limits::default().with_cache(if evicts { 1 << 20 } else { 64 << 20 });
        if evicts {
            limits.topics = 3 + random.below(3);
            limits.cache = (1 << 20) << random.below(2);
        }
        let sync = [Sync::Always, Sync::EachSecond, Sync::AtExit][random.below(3)];
        let sizes = Sizes {
            block: [200, 5000, 256 << 10][random.below(3)],
            segment: [500, 20_000, 16 << 20][random.below(3)],
        };
        let mut world = Self {
            memory: Memory::new(seed ^ 0x5eed),
            facts: Facts::default(),
            life: None,
            limits,
            payloads,
            sync,
            sizes,
            goes_on: random.below(4) == 0,
            client: None,
            fails: random.below(2) == 0,
            evicts,
            now: 1_000_000,
            run: 0,
            boot: 1,
            numbers: [0; TOPICS],
            random,
        };
        world.start();
        world
    }

    /// A daemon lives for a while, and ends: in good order, or not.
    pub(super) fn live(&mut self) {
        if self.random.below(3) > 0 {
            let ends = self.random.below(200);
            self.memory.files().crash_in = Some(ends);
        }
        for _ in 0..self.random.below(300) {
            self.step();
            if self.memory.files().crashed {
                return;
            }
        }
        self.memory.files().crash_in = None;
        if self.random.below(3) == 0 {
            self.memory.files().faults = Faults::default();
            if self.random.below(3) == 0 {
                let ends = self.random.below(8);
                self.memory.files().crash_in = Some(ends);
            }
            let Some(life) = &mut self.life else { return };
            let closed = life.close(self.now, &mut self.facts);
            if closed && !self.memory.files().crashed {
                self.memory.files().crash_in = None;
                self.client = Some(Client::new(life));
                let run = life.engine.run();
                self.life = None;
                let power = self.random.below(2) == 0;
                if power {
                    self.memory.lose_power();
                    self.boot += 1;
                }
                let end = self.open(Promise::Power, power);
                // Records that a sync has lost, and that were written elsewhere, are found as damage.
                if !(self.fails && end == Some(End::Lossy)) {
                    assert_eq!(end, Some(End::Closed), "it was closed in good order");
                    assert_eq!(self.life.as_ref().map(|life| life.engine.run()), Some(run));
                }
            }
        }
    }

    fn step(&mut self) {
        self.now += 1 + self.random.below(1000) as u64;
        let Some(life) = &mut self.life else { return };
        match self.random.below(100) {
            0..40 => self.publish(),
            40..44 => self.begin(),
            44..54 => self.append(),
            54..56 if !life.uploads.is_empty() => {
                let at = self.random.below(life.uploads.len());
                let upload = life.uploads.swap_remove(at);
                life.engine.abort(upload.id);
                life.aborted = true;
            }
            56..74 => drop(life.write(self.now, &mut self.facts)),
            74..80 => life.sync(&mut self.facts),
            80..95 => life.snapshot(&mut self.facts, &mut self.random),
            95..97 => self.publish_again(),
            97 if self.fails => {
                let mut rate = |most| [0, 0, most, 3 * most][self.random.below(4)];
                let (writes, syncs, names) = (rate(200), rate(200), rate(50));
                self.memory.files().faults = Faults { writes, syncs, names, reads: 0 };
            }
            98 => self.memory.files().faults = Faults::default(),
            _ => {}
        }
        if let Some(life) = &mut self.life {
            life.take();
        }
    }

    fn origin(&mut self, topic: usize) -> Option<PublicationId> {
        match self.random.below(4) {
            0 => None,
            1 => {
                let key = (self.random.below(1 << 20) as u32).to_le_bytes();
                Some(self.life.as_ref()?.engine.keys().origin(&key))
            }
            _ => {
                self.numbers[topic] += 1;
                let number = self.numbers[topic];
                Some(PublicationId { producer: ProducerId([topic as u8 + 1; 16]), number })
            }
        }
    }

    fn publish(&mut self) {
        let topic = self.random.below(TOPICS);
        let most = if self.random.below(8) == 0 { PAYLOADS } else { PAYLOADS - LARGE };
        let payload = self.random.below(most);
        let origin = self.origin(topic);
        self.publish_one(topic, payload, origin);
    }

    // A publisher that has no receipt sends its publication again after a start.
    fn publish_again(&mut self) {
        if let Some(said) = self.facts.again.pop() {
            let duplicate = self.publish_one(said.topic, said.payload, said.origin);
            assert_ne!(duplicate, Some(true), "not kept, and not accepted again: {said:?}");
        }
    }

    fn publish_one(
        &mut self,
        topic: usize,
        payload: usize,
        origin: Option<PublicationId>,
    ) -> Option<bool> {
        let life = self.life.as_mut()?;
        let (bytes, digest) = &self.payloads[payload];
        let (name, whole) = (name(topic), Payload::from(bytes.clone()));
        let publication =
            Publication { topic: &name, payload: &whole, digest: *digest, stamp: 0, origin };
        let begun = life.engine.recorded() + 1;
        let receipt = life.engine.publish(self.now, &publication).ok()?;
        if !receipt.duplicate {
            // Some records after it may say what was forgotten.
            let record = life.engine.recorded();
            self.accepted(topic, receipt, payload, origin, (begun, record));
        }
        if let Some(life) = &mut self.life {
            life.take();
        }
        Some(receipt.duplicate)
    }

    fn accepted(
        &mut self,
        topic: usize,
        receipt: crate::engine::Receipt,
        payload: usize,
        origin: Option<PublicationId>,
        (begun, record): (u64, u64),
    ) {
        let Some(life) = &mut self.life else { return };
        let (sequence, digest) = (receipt.sequence, receipt.digest);
        let Some(head) = life.engine.head(&name(topic)) else { return };
        let id = head.epoch - life.engine.run() + 1;
        self.facts.show(head.epoch, sequence, topic, digest);
        let (count, promise) = (receipt.count, Promise::Nothing);
        let said =
            Said { topic, id, sequence, digest, count, origin, payload, begun, record, promise };
        trace!("accepted {topic} {sequence} records {begun} to {record}");
        self.facts.accept(said);
    }

    fn begin(&mut self) {
        let topic = self.random.below(TOPICS);
        let payload = PAYLOADS - 1 - self.random.below(LARGE);
        let origin = self.origin(topic);
        let Some(life) = &mut self.life else { return };
        let size = self.payloads[payload].0.len() as u64;
        let name = name(topic);
        let request = UploadRequest { topic: &name, size, stamp: 0, origin };
        let begun = life.engine.recorded() + 1;
        if let Ok(BeginOutcome::Arriving(id)) = life.engine.begin(self.now, &request) {
            life.uploads.push(Upload { topic, id, payload, sent: 0, begun, origin });
            let digest = self.payloads[payload].1;
            if let Some(head) = life.engine.head(&name) {
                self.facts.show(head.epoch, id.sequence, topic, digest);
            }
        }
    }

    fn append(&mut self) {
        let Some(life) = &mut self.life else { return };
        if life.uploads.is_empty() {
            return;
        }
        let at = self.random.below(life.uploads.len());
        let upload = &mut life.uploads[at];
        let (bytes, digest) = &self.payloads[upload.payload];
        let to = bytes.len().min(upload.sent + 25_000);
        if upload.sent < to {
            let chunk = Bytes::copy_from_slice(&bytes[upload.sent..to]);
            upload.sent = to;
            if life.engine.append(upload.id, chunk).is_err() {
                life.uploads.swap_remove(at);
                life.aborted = true;
            }
            return;
        }
        let upload = life.uploads.swap_remove(at);
        let before = life.engine.recorded();
        let ended = life.engine.end(self.now, upload.id, *digest).ok();
        let ended = ended.filter(|receipt| !receipt.duplicate);
        life.aborted |= ended.is_none();
        if let Some(receipt) = ended {
            let Upload { topic, payload, origin, begun, .. } = upload;
            self.accepted(topic, receipt, payload, origin, (begun, before + 1));
        }
    }

    /// The daemon has ended. Another one starts.
    pub(super) fn start(&mut self) {
        self.client = self.life.take().as_ref().map(Client::new);
        let mut needed = Promise::Kill;
        loop {
            let power = self.random.below(2) == 0;
            if power {
                self.memory.lose_power();
                self.boot += 1;
                needed = Promise::Power;
            } else {
                self.memory.restart();
            }
            trace!("starting, power {power}");
            let ends = match self.random.below(4) {
                0 => Some(self.random.below(15)),
                _ => None,
            };
            let reads = if self.random.below(8) == 0 { 100 } else { 0 };
            {
                let mut files = self.memory.files();
                (files.crash_in, files.faults.reads) = (ends, reads);
            }
            if self.open(needed, needed == Promise::Power).is_some() {
                return;
            }
        }
    }

    // Starts a daemon. None if it could not, as its disk has failed.
    fn open(&mut self, needed: Promise, power: bool) -> Option<End> {
        self.run += 1 << 32;
        let boot = self.boot.to_string();
        let engine = Engine::new(self.limits, self.run, [7; 32]);
        self.run += 1 << 32;
        let (run, always) = (self.run, self.sync == Sync::Always);
        let opening = Opening { run, boot: &boot, always, goes_on: false, sizes: self.sizes };
        let asides = self.asides();
        let opened = Keeper::open(Arc::new(self.memory.clone()), engine, &opening);
        // One that cannot write is killed.
        let opened = opened.and_then(|(keeper, mut opened)| match opened.failed.take() {
            Some(failed) => Err(failed),
            None => Ok((keeper, opened)),
        });
        let (keeper, opened) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let mut files = self.memory.files();
                let explained = files.crashed || files.faults.reads > 0;
                assert!(explained, "it does not start: {error}");
                files.faults = Faults::default();
                return None;
            }
        };
        {
            let mut files = self.memory.files();
            (files.crash_in, files.faults) = (None, Faults::default());
        }
        trace!("opened, power {power}: {:?} {:?} {}", opened.end, opened.lines, keeper.recorded());
        trace!("{:?}", self.memory.files().names.keys());
        let aside = self.asides() > asides;
        assert!(!aside || !opened.lines.is_empty(), "a file was set aside without a line");
        let end = opened.end;
        let mut life = Life::new(keeper, opened.engine, self.sync, self.goes_on);
        if self.memory.is_unknown() {
            // This daemon cannot know that a sync has failed before. A snapshot writes it all anew.
            life.missing.push((0, life.kept));
        }
        self.life = Some(life);
        self.check(&Look { needed, power, end, lines: opened.lines });
        Some(end)
    }

    fn asides(&self) -> usize {
        self.memory.files().names.keys().filter(|name| name.contains("aside")).count()
    }
}
