//! Deciding what the entries of a log mean. Every replica of the log decides the same.
//!
//! Nothing here depends on a clock, a cache, or the order of a hash table. Its tables
//! forget by their limits, and by the entries before.

use super::apply::MAX_NUMBER;
use super::entry::{AbortedUpload, Decision, LogChange, LogEntry, LogPlace, LogUpload, Ordered};
use super::state::{LogLimits, OpenUpload, SequencerState, TopicPlace};
use crate::engine::limits::MAX_PAYLOAD;
use crate::engine::publication::PublicationId;
use crate::engine::topic::window::{Verdict, Window};
use crate::wire::{Digest, ProducerId, check_topic};
use foldhash::fast::RandomState;
use lru::LruCache;
use std::collections::BTreeMap;
use std::sync::Arc;

type Table<K, V> = LruCache<K, V, RandomState>;

#[derive(Debug, Clone, Copy)]
struct Place {
    id: u64,
    next: u64,
    last: u64,
}

/// Decides what the entries of one log mean.
#[derive(Debug)]
pub struct Sequencer {
    limits: LogLimits,
    last: u64,
    // In the order of their last publications.
    topics: Table<Arc<str>, Place>,
    // By the topic's id and the producer.
    windows: Table<(u64, ProducerId), Window>,
    // By the topic's id and the key: the sequence and the digest of the first publication.
    keys: Table<(u64, ProducerId), (u64, Digest)>,
    uploads: BTreeMap<LogUpload, OpenUpload>,
    // The same, by the numbers of the entries with which they began; and by topic, producer and number.
    begun: BTreeMap<u64, LogUpload>,
    by_origin: BTreeMap<(u64, PublicationId), LogUpload>,
    // Those that the entry ends that is being ordered.
    aborted: Vec<AbortedUpload>,
}

fn table<K: std::hash::Hash + Eq, V>() -> Table<K, V> {
    LruCache::unbounded_with_hasher(RandomState::default())
}

// Makes room for one more.
fn make_room<K: std::hash::Hash + Eq, V>(table: &mut Table<K, V>, most: usize) {
    while table.len() >= most {
        table.pop_lru();
    }
}

impl Sequencer {
    /// Creates the sequencer of a log that is read from its first entry.
    pub fn new(limits: LogLimits) -> Self {
        Self {
            limits: limits.applied(),
            last: 0,
            topics: table(),
            windows: table(),
            keys: table(),
            uploads: BTreeMap::new(),
            begun: BTreeMap::new(),
            by_origin: BTreeMap::new(),
            aborted: Vec::new(),
        }
    }

    /// Creates the sequencer of a log of which entries up to `last` are not known.
    pub fn after(limits: LogLimits, last: u64) -> Self {
        Self { last, ..Self::new(limits) }
    }

    /// Returns the number of the last entry.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns the large publications that arrive.
    pub fn uploads(&self) -> impl Iterator<Item = &OpenUpload> {
        self.uploads.values()
    }

    /// Decides what the next entry means. One that was applied before means nothing.
    pub fn order(&mut self, entry: &LogEntry) -> Ordered {
        let LogEntry { number, change, .. } = entry;
        if *number <= self.last || *number > MAX_NUMBER {
            return Ordered { aborted: Vec::new(), decision: Decision::Nothing };
        }
        self.last = *number;
        let decision = match change {
            LogChange::Publish { topic, origin, digest, .. } => {
                self.publish(*number, topic, *origin, *digest)
            }
            LogChange::Begin { upload, topic, origin, size, .. } => {
                self.begin(*number, *upload, (topic, *origin, *size))
            }
            LogChange::Chunk { upload, offset, bytes, .. } => {
                self.append(*upload, *offset, bytes.len() as u64)
            }
            LogChange::End { upload, topic, origin, digest } => {
                self.end(*upload, (topic, *origin), *digest)
            }
            LogChange::Abort { upload, .. } => {
                self.abort(*upload, false);
                Decision::Nothing
            }
            LogChange::Nothing => Decision::Nothing,
        };
        Ordered { aborted: std::mem::take(&mut self.aborted), decision }
    }

    fn publish(
        &mut self,
        number: u64,
        name: &Arc<str>,
        origin: Option<PublicationId>,
        digest: Digest,
    ) -> Decision {
        if check_topic(name).is_err() {
            return Decision::Nothing;
        }
        if let Some(known) = self.known(name, origin) {
            return known;
        }
        let place = self.next(number, name);
        self.remember(&place, origin, digest);
        Decision::Accept(place)
    }

    // Returns the decision on a publication that was accepted before, or may have been.
    fn known(&mut self, name: &Arc<str>, origin: Option<PublicationId>) -> Option<Decision> {
        let origin = origin?;
        let topic = self.topics.peek(name)?.id;
        if origin.is_key() {
            let (sequence, digest) = *self.keys.get(&(topic, origin.producer))?;
            return Some(Decision::Duplicate { topic, sequence, digest: Some(digest) });
        }
        match self.windows.get(&(topic, origin.producer))?.judge(origin.number) {
            Verdict::Fresh => None,
            Verdict::Duplicate => Some(Decision::Duplicate { topic, sequence: 0, digest: None }),
            Verdict::Stale => Some(Decision::Stale),
        }
    }

    // Gives the next sequence of a topic, which is created if it is new.
    fn next(&mut self, number: u64, name: &Arc<str>) -> LogPlace {
        let place = match self.topics.get_mut(name) {
            Some(place) => place,
            None => {
                make_room(&mut self.topics, self.limits.topics);
                self.topics.get_or_insert_mut(name.clone(), || Place {
                    id: number,
                    next: 1,
                    last: 0,
                })
            }
        };
        let at = place.next_message(name);
        (place.next, place.last) = (place.next + 1, number);
        at
    }

    fn remember(&mut self, place: &LogPlace, origin: Option<PublicationId>, digest: Digest) {
        let Some(PublicationId { producer, number }) = origin else { return };
        let key = (place.topic, producer);
        if number == 0 {
            make_room(&mut self.keys, self.limits.keys);
            self.keys.put(key, (place.sequence, digest));
            return;
        }
        let width = self.limits.window.into();
        if let Some(window) = self.windows.get_mut(&key) {
            window.take(number, width);
            return;
        }
        make_room(&mut self.windows, self.limits.producers);
        let mut window = Window::default();
        window.take(number, width);
        self.windows.put(key, window);
    }

    fn begin(
        &mut self,
        number: u64,
        upload: LogUpload,
        (name, origin, size): (&Arc<str>, Option<PublicationId>, u64),
    ) -> Decision {
        // A copy of an entry: its bytes are those of the first. Or it is more than any daemon takes.
        let is_known = self.uploads.contains_key(&upload);
        if check_topic(name).is_err() || is_known || size > MAX_PAYLOAD as u64 {
            return Decision::Nothing;
        }
        if let Some(known) = self.known(name, origin) {
            return known;
        }
        let numbered = origin.filter(|origin| !origin.is_key());
        let of_topic = numbered.zip(self.topics.peek(name).map(|place| place.id));
        if let Some((origin, topic)) = of_topic
            && let Some(before) = self.by_origin.get(&(topic, origin)).copied()
        {
            // The producer has given its first attempt up.
            self.abort(before, true);
        }
        let place = self.next(number, name);
        let LogPlace { topic, sequence, before, .. } = place;
        if let Some(origin) = numbered {
            self.by_origin.insert((topic, origin), upload);
        }
        let (name, received, begun) = (name.clone(), 0, number);
        let open =
            OpenUpload { upload, name, topic, sequence, begun, before, size, received, origin };
        self.uploads.insert(upload, open);
        self.begun.insert(number, upload);
        if self.begun.len() > self.limits.uploads
            && let Some((_, first)) = self.begun.first_key_value()
        {
            self.abort(*first, false);
        }
        Decision::Begin(place)
    }

    fn append(&mut self, upload: LogUpload, offset: u64, length: u64) -> Decision {
        let Some(open) = self.uploads.get_mut(&upload) else {
            return Decision::Nothing;
        };
        // A copy of an entry.
        if length > 0 && offset.saturating_add(length) <= open.received {
            return Decision::Nothing;
        }
        if length == 0 || offset != open.received || length > open.size - open.received {
            self.abort(upload, false);
            return Decision::Nothing;
        }
        open.received += length;
        Decision::Append { topic: open.topic, sequence: open.sequence }
    }

    fn abort(&mut self, upload: LogUpload, superseded: bool) {
        if let Some(open) = self.close(upload) {
            let (topic, sequence) = (open.topic, open.sequence);
            self.aborted.push(AbortedUpload { topic, sequence, superseded });
        }
    }

    fn end(
        &mut self,
        upload: LogUpload,
        (name, origin): (&Arc<str>, Option<PublicationId>),
        digest: Digest,
    ) -> Decision {
        let Some(open) = self.uploads.get(&upload) else {
            // It was accepted before, or its beginning was not taken because of that.
            return self.known(name, origin).unwrap_or(Decision::Nothing);
        };
        let (name, origin, place) = (open.name.clone(), open.origin, open.place());
        let is_complete = open.received == open.size;
        let topic = self.topics.peek(&name).filter(|topic| topic.id == place.topic);
        let Some(head) = topic.filter(|_| is_complete).map(|topic| topic.next_message(&name))
        else {
            self.abort(upload, false);
            return Decision::Nothing;
        };
        if let Some(known) = self.known(&name, origin) {
            self.abort(upload, false);
            return known;
        }
        self.close(upload);
        self.remember(&place, origin, digest);
        Decision::End { at: place, head }
    }

    fn close(&mut self, upload: LogUpload) -> Option<OpenUpload> {
        let open = self.uploads.remove(&upload)?;
        self.begun.remove(&open.begun);
        if let Some(origin) = open.origin {
            let key = (open.topic, origin);
            if self.by_origin.get(&key) == Some(&upload) {
                self.by_origin.remove(&key);
            }
        }
        Some(open)
    }

    /// Returns everything that it knows. It takes as long as there is to copy.
    pub fn save(&self) -> SequencerState {
        let topics = self.topics.iter().rev();
        let windows = self.windows.iter().rev();
        let keys = self.keys.iter().rev();
        SequencerState {
            limits: self.limits,
            last: self.last,
            topics: topics
                .map(|(name, place)| {
                    let (name, Place { id, next, last }) = (name.clone(), *place);
                    TopicPlace { name, id, next, last }
                })
                .collect(),
            windows: windows
                .map(|((topic, producer), window)| (*topic, window.save(*producer)))
                .collect(),
            keys: keys
                .map(|((topic, key), (sequence, digest))| (*topic, *key, *sequence, *digest))
                .collect(),
            uploads: self.uploads.values().cloned().collect(),
        }
    }

    /// Creates a sequencer that knows what another one knew.
    pub fn restore(state: &SequencerState) -> Self {
        let mut restored = Self::new(state.limits);
        restored.last = state.last;
        let width = restored.limits.window.into();
        for TopicPlace { name, id, next, last } in &state.topics {
            restored.topics.put(name.clone(), Place { id: *id, next: *next, last: *last });
        }
        for (topic, saved) in &state.windows {
            restored.windows.put((*topic, saved.producer), Window::restore(saved, width));
        }
        for (topic, key, sequence, digest) in &state.keys {
            restored.keys.put((*topic, *key), (*sequence, *digest));
        }
        for open in &state.uploads {
            restored.begun.insert(open.begun, open.upload);
            if let Some(origin) = open.origin.filter(|origin| !origin.is_key()) {
                restored.by_origin.insert((open.topic, origin), open.upload);
            }
            restored.uploads.insert(open.upload, open.clone());
        }
        restored
    }
}

impl Place {
    fn next_message(&self, name: &Arc<str>) -> LogPlace {
        let Self { id, next, last } = *self;
        LogPlace { name: name.clone(), topic: id, sequence: next, before: last }
    }
}

impl OpenUpload {
    fn place(&self) -> LogPlace {
        let Self { topic, sequence, before, .. } = *self;
        LogPlace { name: self.name.clone(), topic, sequence, before }
    }
}
