//! Moves packets between two TUN devices as a [`Model`] decides. Each direction has two threads: one
//! reads and decides, the other waits and writes.

use super::model::{Model, Spec, Verdict};
use crate::bench::prng::Random;
use anyhow::Context as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tun_rs::{InterruptEvent, SyncDevice};

/// Longest packet; the devices' MTU is 1500.
const PACKET: usize = 2048;

/// Delay after which a packet that leaves counts as late: the machine was busy.
const LATE: Duration = Duration::from_millis(1);

/// Packets and bytes that entered the link, packets that it dropped, and packets that left it
/// late. Both directions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Carried {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) overflowed: u64,
    pub(super) late: u64,
}

impl Carried {
    /// Returns the counts since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            bytes: self.bytes - earlier.bytes,
            lost: self.lost - earlier.lost,
            overflowed: self.overflowed - earlier.overflowed,
            late: self.late - earlier.late,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    overflowed: AtomicU64,
    late: AtomicU64,
}

struct Direction {
    model: Mutex<Model>,
    counters: Counters,
}

/// A running link. It ends when dropped.
pub(super) struct Link {
    opened: Instant,
    directions: [Arc<Direction>; 2],
    stop: Arc<InterruptEvent>,
    threads: Vec<JoinHandle<()>>,
}

struct Packet {
    due: Duration,
    bytes: Box<[u8]>,
}

impl Link {
    /// Joins the two devices. The seed decides which packets are lost, with separate random numbers
    /// for each direction.
    pub(super) fn join(
        near: &Arc<SyncDevice>,
        far: &Arc<SyncDevice>,
        spec: &Spec,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let opened = Instant::now();
        let stop = Arc::new(InterruptEvent::new().context("an event to stop the link")?);
        let direction = |number| {
            let model = Mutex::new(Model::new(spec.clone(), Random::new(seed, &[number])));
            Arc::new(Direction { model, counters: Counters::default() })
        };
        let directions = [direction(0), direction(1)];
        let mut link = Self { opened, directions, stop, threads: Vec::new() };
        let ways = [(near, far), (far, near)];
        for (direction, (from, to)) in link.directions.clone().into_iter().zip(ways) {
            let (sender, receiver) = mpsc::channel();
            let (from, to, stop) = (from.clone(), to.clone(), link.stop.clone());
            let threads = &mut link.threads;
            let named = |name: &str| std::thread::Builder::new().name(name.into());
            let same = direction.clone();
            let reading = move || read(&from, opened, &direction, &stop, &sender);
            let writing = move || write(&to, opened, &same.counters, &receiver);
            threads
                .push(named("link in").spawn(reading).context("starting a thread for the link")?);
            threads
                .push(named("link out").spawn(writing).context("starting a thread for the link")?);
        }
        Ok(link)
    }

    /// Starts to lose packets.
    pub(super) fn begin(&self) {
        for direction in &self.directions {
            let mut model = direction.model.lock().unwrap_or_else(PoisonError::into_inner);
            model.begin(self.opened.elapsed());
        }
    }

    pub(super) fn carried(&self) -> Carried {
        let mut sum = Carried::default();
        for direction in &self.directions {
            let counters = &direction.counters;
            sum.packets += counters.packets.load(Ordering::Relaxed);
            sum.bytes += counters.bytes.load(Ordering::Relaxed);
            sum.lost += counters.lost.load(Ordering::Relaxed);
            sum.overflowed += counters.overflowed.load(Ordering::Relaxed);
            sum.late += counters.late.load(Ordering::Relaxed);
        }
        sum
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Ends the readers; their channels close, and so the writers end.
        let _ = self.stop.trigger();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn read(
    from: &SyncDevice,
    opened: Instant,
    direction: &Direction,
    stop: &InterruptEvent,
    sender: &Sender<Packet>,
) {
    let mut buffer = [0; PACKET];
    // Fails when the event is triggered.
    while let Ok(length) = from.recv_intr(&mut buffer, stop) {
        let now = opened.elapsed();
        let packet = &buffer[..length];
        // Packets of IPv6 are from the kernel, and not of the benchmark.
        if packet.first().is_none_or(|byte| byte >> 4 != 4) {
            continue;
        }
        let counters = &direction.counters;
        counters.packets.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(length as u64, Ordering::Relaxed);
        let mut model = direction.model.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = model.admit(now, length);
        drop(model);
        let due = match verdict {
            Verdict::Due(due) => due,
            Verdict::Lost => {
                counters.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Verdict::Overflow => {
                counters.overflowed.fetch_add(1, Ordering::Relaxed);
                continue;
            }
        };
        if sender.send(Packet { due, bytes: packet.into() }).is_err() {
            return;
        }
    }
}

fn write(to: &SyncDevice, opened: Instant, counters: &Counters, receiver: &Receiver<Packet>) {
    // By default the kernel may wake a thread 50 µs late to save power.
    let _ = nix::sys::prctl::set_timerslack(1);
    while let Ok(Packet { due, bytes }) = receiver.recv() {
        std::thread::sleep(due.saturating_sub(opened.elapsed()));
        if opened.elapsed() > due + LATE {
            counters.late.fetch_add(1, Ordering::Relaxed);
        }
        // Fails if the other end has been dropped.
        let _ = to.send(&bytes);
    }
}
