//! One direction of a path that loses, delays, reorders and doubles datagrams, and delays streams.

use crate::engine::tests::seeds::Random;

pub(super) const MS: u64 = 1000;

/// Maximum size of a datagram, bytes.
pub(super) const ROOM: usize = 1200;

/// A packet that an end sends.
#[derive(Debug, Clone)]
pub(super) enum Out {
    Datagram(Vec<u8>),
    /// On the one stream of that direction that matters.
    Stream(Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Quality {
    pub(super) one_way: u64,
    /// Most that a datagram is late, so that others overtake it.
    pub(super) jitter: u64,
    /// In thousandths.
    pub(super) loss: usize,
    /// Datagrams lost in a row, on average.
    pub(super) burst: usize,
    /// In thousandths.
    pub(super) doubled: usize,
}

#[derive(Debug)]
pub(super) struct Way {
    pub(super) quality: Quality,
    losing: bool,
    stream_free: u64,
    pub(super) sent: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
}

impl Way {
    pub(super) fn new(quality: Quality) -> Self {
        Self { quality, losing: false, stream_free: 0, sent: 0, bytes: 0, lost: 0 }
    }

    /// When it arrives, as often as it does.
    pub(super) fn carry(&mut self, random: &mut Random, now: u64, out: &Out) -> Vec<u64> {
        let Quality { one_way, jitter, loss, burst, doubled } = self.quality;
        let late = |random: &mut Random| random.below(jitter as usize + 1) as u64;
        match out {
            Out::Datagram(bytes) => {
                assert!(!bytes.is_empty() && bytes.len() <= ROOM, "{} bytes", bytes.len());
                self.sent += 1;
                self.bytes += bytes.len() as u64;
                // Each by itself, or (Gilbert) as many in a row as there are on average.
                self.losing = match burst {
                    1 => random.below(1000) < loss,
                    _ if self.losing => random.below(burst) > 0,
                    _ => random.below((1000 - loss) * burst) < loss,
                };
                if self.losing {
                    self.lost += 1;
                    return Vec::new();
                }
                let copies = if random.below(1000) < doubled { 2 } else { 1 };
                (0..copies).map(|_| now + one_way + late(random)).collect()
            }
            Out::Stream(_) => {
                // A lost packet arrives a round trip later, and so does everything after it.
                let mut at = now + one_way + late(random);
                while random.below(1000) < loss {
                    at += 2 * one_way + 10 * MS;
                }
                self.stream_free = self.stream_free.max(at);
                vec![self.stream_free]
            }
        }
    }
}
