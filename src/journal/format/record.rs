//! Records in a block. The names of topics stand once in each block.

use super::{Malformed, put};
use crate::engine::{Change, Payload, Place, PublicationId, Record, Total};
use crate::wire::INLINE;
use bytes::Bytes;
use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// An entry, as it is written. Some bytes of a payload may follow it.
#[derive(Debug, Serialize, Deserialize)]
enum Entry<'a> {
    /// The name of a topic, before its first record in the block.
    Topic {
        id: u64,
        name: &'a str,
    },
    /// `size` bytes of the payload follow.
    Published {
        topic: u64,
        sequence: u64,
        place: ShortPlace,
        total: Total,
        size: u64,
    },
    Begun {
        topic: u64,
        sequence: u64,
        place: ShortPlace,
        size: u64,
    },
    /// `size` bytes of the payload follow.
    Chunk {
        topic: u64,
        sequence: u64,
        offset: u64,
        size: u64,
    },
    Ended {
        topic: u64,
        sequence: u64,
        now: i64,
        origin: Option<PublicationId>,
        total: Total,
        size: u64,
    },
    Aborted {
        topic: u64,
        sequence: u64,
    },
    Forgotten {
        topic: u64,
    },
}

/// A place, with times relative to the first one of the block.
#[derive(Debug, Serialize, Deserialize)]
struct ShortPlace {
    position: u64,
    accepted: i64,
    // Relative to `accepted`; none for no stamp.
    stamp: Option<i64>,
    origin: Option<PublicationId>,
}

impl ShortPlace {
    fn new(place: &Place, base: u64) -> Self {
        let Place { position, accepted, stamp, origin } = *place;
        let after = |later: u64, earlier: u64| later.wrapping_sub(earlier).cast_signed();
        let stamp = (stamp != 0).then(|| after(stamp, accepted));
        Self { position, accepted: after(accepted, base), stamp, origin }
    }

    fn place(&self, base: u64) -> Place {
        let accepted = base.wrapping_add_signed(self.accepted);
        let stamp = self.stamp.map_or(0, |stamp| accepted.wrapping_add_signed(stamp));
        Place { position: self.position, accepted, stamp, origin: self.origin }
    }
}

/// Writes records into the body of a block.
#[derive(Debug, Default)]
pub(crate) struct RecordWriter {
    // The topics that were named in this block.
    named: HashSet<u64, RandomState>,
    base: u64,
}

impl RecordWriter {
    /// Begins a body at the end of `out`. Times in it are relative to `base`.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>, base: u64) {
        self.named.clear();
        self.base = base;
        put(out, &base);
    }

    pub(crate) fn push(&mut self, out: &mut Vec<u8>, record: &Record) {
        let Record { topic, name, sequence, change } = record;
        let (topic, sequence, base) = (*topic, *sequence, self.base);
        if self.named.insert(topic) {
            put(out, &Entry::Topic { id: topic, name });
        }
        match change {
            Change::Published { place, total, payload } => {
                let (place, total) = (ShortPlace::new(place, base), *total);
                let size = payload.len() as u64;
                put(out, &Entry::Published { topic, sequence, place, total, size });
                payload.pieces().for_each(|piece| out.extend_from_slice(piece));
            }
            Change::Begun { place, size } => {
                let place = ShortPlace::new(place, base);
                put(out, &Entry::Begun { topic, sequence, place, size: *size });
            }
            Change::Chunk { offset, bytes } => {
                let (offset, size) = (*offset, bytes.len() as u64);
                put(out, &Entry::Chunk { topic, sequence, offset, size });
                out.extend_from_slice(bytes);
            }
            Change::Ended { now, origin, total, size } => {
                let now = now.wrapping_sub(base).cast_signed();
                let (origin, total, size) = (*origin, *total, *size);
                put(out, &Entry::Ended { topic, sequence, now, origin, total, size });
            }
            Change::Aborted => put(out, &Entry::Aborted { topic, sequence }),
            Change::Forgotten => put(out, &Entry::Forgotten { topic }),
        }
    }
}

/// Reads the records of a block's body, each with its number.
#[derive(Debug)]
pub(crate) struct RecordReader<'a> {
    body: &'a Bytes,
    rest: &'a [u8],
    names: HashMap<u64, Arc<str>, RandomState>,
    base: u64,
    number: u64,
}

impl<'a> RecordReader<'a> {
    /// Begins with the record `first`.
    pub(crate) fn new(body: &'a Bytes, first: u64) -> Result<Self, Malformed> {
        let (base, rest) = postcard::take_from_bytes(body)?;
        Ok(Self { body, rest, names: HashMap::default(), base, number: first })
    }

    fn take(&mut self, size: u64) -> Result<&'a [u8], Malformed> {
        let size = usize::try_from(size).map_err(|_| Malformed)?;
        let (bytes, rest) = self.rest.split_at_checked(size).ok_or(Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Returns the next record; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Record)>, Malformed> {
        let (topic, sequence, change) = loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let (entry, rest) = postcard::take_from_bytes::<Entry<'_>>(self.rest)?;
            self.rest = rest;
            match entry {
                Entry::Topic { id, name } => {
                    self.names.insert(id, name.into());
                }
                Entry::Published { topic, sequence, place, total, size } => {
                    let bytes = self.take(size)?;
                    let payload = if bytes.len() <= INLINE {
                        // It will be copied behind the head of its message.
                        Payload::from(self.body.slice_ref(bytes))
                    } else {
                        Payload::from(Bytes::copy_from_slice(bytes))
                    };
                    let place = place.place(self.base);
                    break (topic, sequence, Change::Published { place, total, payload });
                }
                Entry::Begun { topic, sequence, place, size } => {
                    let place = place.place(self.base);
                    break (topic, sequence, Change::Begun { place, size });
                }
                Entry::Chunk { topic, sequence, offset, size } => {
                    let bytes = Bytes::copy_from_slice(self.take(size)?);
                    break (topic, sequence, Change::Chunk { offset, bytes });
                }
                Entry::Ended { topic, sequence, now, origin, total, size } => {
                    let now = self.base.wrapping_add_signed(now);
                    break (topic, sequence, Change::Ended { now, origin, total, size });
                }
                Entry::Aborted { topic, sequence } => break (topic, sequence, Change::Aborted),
                Entry::Forgotten { topic } => break (topic, 0, Change::Forgotten),
            }
        };
        let name = self.names.get(&topic).ok_or(Malformed)?.clone();
        let number = self.number;
        self.number = self.number.checked_add(1).ok_or(Malformed)?;
        Ok(Some((number, Record { topic, name, sequence, change })))
    }
}
