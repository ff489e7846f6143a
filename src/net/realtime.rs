//! `Realtime` delivery of one subscription, and `Unordered` over WebTransport: in datagrams, once
//! more a few milliseconds later, and again when asked for; what does not fit goes by stream.
//! Nothing is kept for a repair: the cache is the retransmission buffer.

use super::apart::{Apart, Far};
use super::asked::{Asked, Hole};
use super::deliver::{Stream, append_encoded, fell_behind, wanted};
use super::link::{Gone, WriteError};
use super::session::Peer;
use super::streamed::Streamed;
use crate::engine::{Item, Large, MessageRef, Repaired, SubscriptionId, encode_item};
use crate::wire::realtime::{Congestion, HEAD_AFTER, Repeats};
use crate::wire::{Code, DaemonFrame, Encoded, Refusal};
use bytes::Bytes;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use tokio::time::{Duration, Instant};

/// Bytes read under one lock, 32 KiB. Whoever has that much to catch up with is not live, and is
/// served by stream, which holds back by itself.
const BATCH: usize = 32 << 10;

/// Bytes a second that may be repeated to one subscription, 64 KiB: three times what a sender of
/// 60 messages of 200 bytes a second needs.
const REPEATED: u64 = 64 << 10;

/// How often the round-trip time is looked at, 20 ms, in µs.
const SAMPLE: u64 = 20_000;

/// Topics whose heads wait to be told. Beyond this they are told early.
const HEADS: usize = 256;

/// How a subscription is to be carried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carriage {
    /// Pass over what is older, µs; 0 is none.
    pub(super) deadline: u64,
    /// Datagrams need not say whose they are.
    pub(super) bare: bool,
}

// What was read, to be sent without the lock.
enum Piece {
    // Announcements and gaps, for the stream.
    Topic(u64, Bytes),
    Gap(Bytes),
    Message(Told),
    // With the announcement of its topic.
    Large(Far, Bytes),
}

struct Told {
    topic: u64,
    sequence: u64,
    message: Encoded,
}

impl Told {
    fn new(message: &MessageRef<'_>) -> Option<Self> {
        Some(Self {
            topic: message.topic_id(),
            sequence: message.sequence(),
            message: message.encoded()?.clone(),
        })
    }
}

struct Delivery {
    peer: Arc<Peer>,
    bare: bool,
    // Says whose the rest is.
    whose: Bytes,
    stream: Stream,
    pieces: Vec<Bytes>,
    apart: Apart,
    repeats: Repeats,
    congestion: Congestion,
    congested: bool,
    begun: Instant,
    rtt: u64,
    sampled: Option<u64>,
    // Announcements that may not have arrived yet, and until when they go along.
    recent: Vec<(u64, Bytes, u64)>,
    // By topic, the newest sequence sent in a datagram and when.
    heads: HashMap<u64, (u64, u64)>,
    heads_due: Option<u64>,
    streamed: Streamed,
}

/// Delivers until the subscription or the session ends.
pub(super) async fn deliver(
    peer: Arc<Peer>,
    request: u32,
    id: SubscriptionId,
    carriage: Carriage,
    asked: Arc<Asked>,
) {
    let whose = DaemonFrame::For { request }.to_bytes();
    let mut delivery = Delivery {
        apart: Apart::new(peer.clone()),
        peer: peer.clone(),
        bare: carriage.bare,
        pieces: vec![whose.clone()],
        whose,
        stream: Stream::default(),
        repeats: Repeats::new(REPEATED, true),
        congestion: Congestion::default(),
        congested: false,
        begun: Instant::now(),
        rtt: 0,
        sampled: None,
        recent: Vec::new(),
        heads: HashMap::new(),
        heads_due: None,
        streamed: Streamed::default(),
    };
    match delivery.run(id, carriage.deadline, &asked).await {
        End::Fell(refusal) => {
            // What was read before it fell behind is still written.
            let _ = delivery.flush().await;
            drop(delivery);
            fell_behind(&peer, request, &refusal);
        }
        End::Write(WriteError::Stopped) => {
            peer.end(request, &Refusal::new(Code::DONE, "the client stopped the stream"));
        }
        // The session sees it too, and ends.
        End::Write(WriteError::Gone(_)) => {}
    }
}

enum End {
    Fell(Refusal),
    Write(WriteError),
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<Gone> for End {
    fn from(gone: Gone) -> Self {
        Self::Write(WriteError::Gone(gone))
    }
}

impl Delivery {
    async fn run(&mut self, id: SubscriptionId, deadline: u64, asked: &Asked) -> End {
        loop {
            if let Err(end) = self.step(id, deadline, asked).await {
                return end;
            }
        }
    }

    async fn step(&mut self, id: SubscriptionId, deadline: u64, asked: &Asked) -> Result<(), End> {
        let peer = self.peer.clone();
        let mut batch = Vec::new();
        let mut taken = 0;
        let due = self.due();
        let next = poll_fn(|context| {
            let wanted = wanted(BATCH, deadline, Large::Apart);
            peer.core.poll_read(id, context, wanted, &mut |item| match &item {
                Item::Message(message) => {
                    let told = Told::new(message);
                    taken += told.as_ref().map_or(0, |told| told.message.wire_len());
                    batch.extend(told.map(Piece::Message));
                }
                // Large ones do not say that the peer is behind.
                Item::Large(message) => {
                    let name = frame_of(&message.announcement());
                    batch.push(Piece::Large(Far::new(message), name));
                }
                Item::Topic { id, .. } => batch.push(Piece::Topic(*id, frame_of(&item))),
                _ => batch.push(Piece::Gap(frame_of(&item))),
            })
        });
        // Not biased: who always has something to read is to be repaired too.
        tokio::select! {
            read = next => {
                self.send(batch, taken >= BATCH).await?;
                read.map_err(End::Fell)
            }
            () = until(self.begun, due) => Ok(self.tick().await?),
            hole = asked.next() => Ok(self.repair(id, hole, asked).await?),
            () = self.apart.sent() => Ok(self.flush().await?),
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    fn due(&self) -> Option<u64> {
        [self.repeats.due(), self.heads_due].into_iter().flatten().min()
    }

    // How long a round trip takes just now, and whether the path has queues.
    fn sample(&mut self, now: u64) {
        if self.sampled.is_none_or(|at| now >= at + SAMPLE) {
            self.sampled = Some(now);
            self.rtt = self.peer.link.rtt().map_or(0, |rtt| rtt.as_micros() as u64);
            self.congested = self.congestion.sample(now, self.rtt);
        }
    }

    async fn send(&mut self, batch: Vec<Piece>, behind: bool) -> Result<(), End> {
        let now = self.now();
        self.sample(now);
        self.recent.retain(|(_, _, until)| *until > now);
        let size = self.peer.link.datagram_size().filter(|_| !behind).unwrap_or(0);
        for piece in batch {
            match piece {
                Piece::Topic(topic, frame) => {
                    self.pieces.push(frame.clone());
                    // The stream has been lost three times over before this is not enough.
                    let until = now + (3 * self.rtt).max(100_000);
                    self.recent.push((topic, frame, until));
                }
                Piece::Gap(frame) => self.pieces.push(frame),
                Piece::Message(told) => self.message(now, size, told).await?,
                Piece::Large(far, name) => self.send_apart(far, &name).await,
            }
        }
        Ok(self.flush().await?)
    }

    async fn message(&mut self, now: u64, size: usize, told: Told) -> Result<(), Gone> {
        let Told { topic, sequence, message } = told;
        let name = self.recent.iter().find(|(id, _, _)| *id == topic).map(|(_, frame, _)| frame);
        let head = if self.bare { 0 } else { self.whose.len() } + name.map_or(0, Bytes::len);
        if head + message.wire_len() > size {
            self.stream_message(now, topic, sequence, &message);
            return Ok(());
        }
        let (frame, _) = message.pieces();
        let mut pieces = [Bytes::new(), Bytes::new(), Bytes::new()];
        let mut count = 0;
        let whose = (!self.bare).then_some(&self.whose);
        for piece in whose.into_iter().chain(name).chain([frame]) {
            pieces[count] = piece.clone();
            count += 1;
        }
        self.peer.link.send_datagram(&pieces[..count]).await?;
        self.repeats.push(now, self.rtt, topic, frame.clone());
        let newest = self.heads.entry(topic).or_insert((sequence, now));
        // A repair is of an older one.
        if sequence >= newest.0 {
            *newest = (sequence, now);
        }
        self.heads_due.get_or_insert(now + HEAD_AFTER);
        if self.heads.len() > HEADS {
            self.heads_due = Some(now);
        }
        Ok(())
    }

    fn stream_message(&mut self, now: u64, topic: u64, sequence: u64, message: &Encoded) {
        append_encoded(message, &mut self.pieces);
        self.streamed.push(now, topic, sequence);
    }

    // A large payload gets a stream of its own.
    async fn send_apart(&mut self, far: Far, name: &Bytes) {
        self.apart.room().await;
        self.apart.relay(far, self.whose.clone(), name.clone());
    }

    // Writes what has been gathered for the stream, and which large ones will not come.
    async fn flush(&mut self) -> Result<(), WriteError> {
        self.pieces.extend(self.apart.gaps().map(|gap| gap.frame()));
        if self.pieces.len() > 1 {
            self.stream.write(&self.peer, &mut self.pieces).await?;
            self.pieces.clear();
            self.pieces.push(self.whose.clone());
        }
        Ok(())
    }

    // Repeats and heads that are due.
    async fn tick(&mut self) -> Result<(), End> {
        let now = self.now();
        self.sample(now);
        if self.repeats.due().is_some_and(|due| due <= now) {
            if self.congested || self.peer.link.is_backed_up() {
                self.repeats.skip_due(now);
            } else {
                self.repeat(now).await?;
            }
        }
        if self.heads_due.is_some_and(|due| due <= now) {
            let everybody = self.heads.len() > HEADS;
            let pieces = &mut self.pieces;
            self.heads.retain(|topic, (sequence, sent)| {
                let wait = *sent + HEAD_AFTER > now && !everybody;
                if !wait {
                    let head = DaemonFrame::Head { topic: *topic, sequence: *sequence };
                    pieces.push(head.to_bytes());
                }
                wait
            });
            self.heads_due = self.heads.values().map(|(_, sent)| sent + HEAD_AFTER).min();
            self.flush().await?;
        }
        Ok(())
    }

    async fn repeat(&mut self, now: u64) -> Result<(), Gone> {
        let size = self.peer.link.datagram_size().unwrap_or(0);
        let head = if self.bare { 0 } else { self.whose.len() };
        let names: usize = self.recent.iter().map(|(_, frame, _)| frame.len()).sum();
        let mut pieces = Vec::new();
        if !self.bare {
            pieces.push(self.whose.clone());
        }
        // Topics that are new are told again, if that leaves room.
        let head = if head + names < size / 2 {
            pieces.extend(self.recent.iter().map(|(_, frame, _)| frame.clone()));
            head + names
        } else {
            head
        };
        let room = size.saturating_sub(head);
        if self.repeats.pop(now, room, &mut pieces) {
            self.peer.link.send_datagram(&pieces).await?;
        }
        Ok(())
    }

    async fn repair(&mut self, id: SubscriptionId, hole: Hole, asked: &Asked) -> Result<(), End> {
        let Hole { topic, first, last, reliably } = hole;
        let (mut found, mut large, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let next = self.peer.core.with(|engine| {
            engine.repair(id, topic, (first, last), BATCH, &mut |item| match item {
                Repaired::Message(message) => found.extend(Told::new(&message)),
                Repaired::Large(message) => {
                    large.push((Far::new(&message), frame_of(&message.announcement())));
                }
                Repaired::Gone { first, last, cause } => {
                    gone.push(DaemonFrame::Gap { topic, first, last, cause }.to_bytes());
                }
            })
        });
        self.pieces.append(&mut gone);
        let now = self.now();
        self.sample(now);
        let size = self.peer.link.datagram_size().unwrap_or(0);
        for (far, name) in large {
            // In datagrams there is no answer to that.
            if reliably && !self.apart.has(far) {
                self.send_apart(far, &name).await;
            }
        }
        for told in found {
            let Told { topic, sequence, ref message } = told;
            if reliably {
                if !self.streamed.is_under_way(now, topic, sequence) {
                    self.stream_message(now, topic, sequence, message);
                }
            } else if !self.streamed.has(topic, sequence) && message.wire_len() <= size {
                self.message(now, size, told).await?;
            }
        }
        self.flush().await?;
        if let Some(next) = next {
            asked.put_back(Hole { first: next, ..hole });
        }
        Ok(())
    }
}

fn frame_of(item: &Item<'_>) -> Bytes {
    let mut frame = Vec::with_capacity(64);
    encode_item(item, &mut frame);
    frame.into()
}

async fn until(begun: Instant, due: Option<u64>) {
    match due {
        Some(due) => tokio::time::sleep_until(begun + Duration::from_micros(due)).await,
        None => std::future::pending().await,
    }
}
