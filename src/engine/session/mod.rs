//! One remote peer: its frames in, frames for its control stream and actions out.
//!
//! A [`Refusal`] returned from here ends the session: say goodbye with it. What concerns one
//! request or one publication only is answered with a frame instead, and the session goes on.

pub(crate) mod action;
pub(crate) mod frames;
pub(crate) mod replies;
pub(crate) mod upload;

use super::{Charge, Engine, Publication, PublicationId, SubscriptionId, UploadId, WORK};
use crate::wire::{
    self, ClientFrame, Code, DaemonFrame, Delivery, Filter, MAX_ALIASES, MAX_NAME, NameError,
    ProducerId, Refusal,
};
use action::Action;
use foldhash::fast::RandomState;
use frames::{Channel, Prepared, Publishing, Subscribing};
use replies::{answer, fail, top};
use std::collections::HashMap;
use std::sync::Arc;
use upload::{Beginning, IncomingUpload, receive, reject};

/// What an alias costs beside its name: its place in the table, which doubles, and the name's head.
/// Bytes.
const ALIAS_COST: usize = 96;

/// So much of the budget, one part in so many, is left over by aliases and subscriptions.
const LEFT_OVER: usize = 8;

/// Aliases of a session up to so many bytes are not charged, 16 KiB: about a hundred.
const FREE_ALIASES: usize = 16 << 10;

/// What a subscription costs, bytes: itself and its place among the others; and each segment of its
/// filter, where no other has it.
const SUBSCRIPTION_COST: usize = 768;
const SEGMENT_COST: usize = 256;

/// Subscriptions of a session up to so many bytes are not charged, 16 KiB: a dozen.
const FREE_SUBSCRIPTIONS: usize = 16 << 10;

fn cost_of(filter: &Filter) -> usize {
    SUBSCRIPTION_COST + filter.segments().count() * SEGMENT_COST + 2 * filter.as_str().len()
}

/// The state of one remote peer: its aliases and its subscriptions.
#[derive(Debug)]
pub struct Session {
    id: u64,
    producer: Option<ProducerId>,
    aliases: HashMap<u32, Arc<str>, RandomState>,
    // Bytes of them, and what is charged for those.
    aliased: usize,
    charge: Option<Charge>,
    // Each with what it costs.
    subscriptions: HashMap<u32, (SubscriptionId, usize), RandomState>,
    subscribed: usize,
    // Publications that arrive.
    pub(super) uploads: Vec<UploadId>,
    // The first subscription that has datagrams: theirs say nothing of it.
    bare: Option<u32>,
}

impl Engine {
    /// A session that waits for its hello.
    pub fn open_session(&mut self) -> Session {
        let id = self.next_session;
        self.next_session += 1;
        Session {
            id,
            producer: None,
            aliases: HashMap::default(),
            aliased: 0,
            charge: None,
            subscriptions: HashMap::default(),
            subscribed: 0,
            uploads: Vec::new(),
            bare: None,
        }
    }
}

impl Session {
    /// Names the session in logs.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the hello has come.
    pub fn is_open(&self) -> bool {
        self.producer.is_some()
    }

    /// Takes one frame, of the stream that has this intake. Frames for the control stream are
    /// appended to `out`.
    pub fn handle(
        &mut self,
        engine: &mut Engine,
        now: u64,
        (channel, intake): (Channel, &mut IncomingUpload),
        frame: Prepared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        let Some(producer) = self.producer else {
            // It has overtaken the control stream, and is as good as lost.
            if channel == Channel::Datagram {
                return Ok(None);
            }
            return self.hello(engine, now, channel, &frame, out).map(|()| None);
        };
        let frame = match frame {
            Prepared::Chunk(chunk) if channel != Channel::Datagram => {
                return self.take_chunk(engine, intake, chunk, out);
            }
            Prepared::End { claimed, found } if channel != Channel::Datagram => {
                let of = (channel, intake, producer);
                return self.end_publication(engine, now, of, (claimed, found), out);
            }
            _ if channel == Channel::Publish && intake.is_open() => {
                return Err(Refusal::new(
                    Code::UNEXPECTED,
                    "between begin and end a stream carries chunks only",
                ));
            }
            Prepared::Publish(publishing) => {
                return self.publish(engine, now, producer, channel, &publishing, out);
            }
            Prepared::Chunk(_) | Prepared::End { .. } => return Err(not_in_datagrams()),
            Prepared::Subscribe(_) if channel == Channel::Datagram => {
                return Err(not_in_datagrams());
            }
            Prepared::Subscribe(_) if channel == Channel::Publish => return Err(not_here()),
            Prepared::Subscribe(subscribing) => return self.subscribe(engine, subscribing, out),
            Prepared::Other(frame) => frame,
        };
        match frame {
            ClientFrame::Topic { alias, name } => self.declare(engine, alias, name).map(|()| None),
            ClientFrame::Begin { alias, number, stamp, size } if channel != Channel::Datagram => {
                let beginning = Beginning { alias, number, stamp, size };
                self.begin_publication(engine, now, (intake, producer), &beginning, out)
            }
            ClientFrame::Repair { subscription, topic, holes } if channel != Channel::Publish => {
                self.repair(channel, subscription, topic, holes)
            }
            _ if channel == Channel::Datagram => Err(not_in_datagrams()),
            _ if channel == Channel::Publish => Err(not_here()),
            ClientFrame::Hello { .. }
            | ClientFrame::Publish { .. }
            | ClientFrame::Begin { .. }
            | ClientFrame::Chunk { .. }
            | ClientFrame::End { .. }
            | ClientFrame::Subscribe { .. }
            | ClientFrame::Repair { .. } => Err(Refusal::new(Code::UNEXPECTED, "a second hello")),
            ClientFrame::Unsubscribe { subscription } => {
                Ok(self.end(engine, subscription, &Refusal::new(Code::DONE, ""), out))
            }
            ClientFrame::Get { request, topic, which } => {
                Ok(answer(engine, request, topic, which, out))
            }
            ClientFrame::Top { request, topic, k } => {
                top(engine, request, topic, k, out);
                Ok(None)
            }
            ClientFrame::Ping { request } => {
                DaemonFrame::Pong { request, clock: now }.encode(out);
                Ok(None)
            }
            ClientFrame::Goodbye { code, .. } => Ok(Some(Action::Left(code))),
        }
    }

    fn hello(
        &mut self,
        engine: &Engine,
        now: u64,
        channel: Channel,
        frame: &Prepared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let (Channel::Control, Prepared::Other(ClientFrame::Hello { version, producer, .. })) =
            (channel, frame)
        else {
            return Err(Refusal::new(
                Code::UNEXPECTED,
                "the first frame is the hello, on the control stream",
            ));
        };
        if *version != wire::VERSION {
            return Err(Refusal::new(
                Code::VERSION,
                format!(
                    "this daemon speaks version {}, the client version {version}: update the older",
                    wire::VERSION
                ),
            ));
        }
        self.producer = Some(*producer);
        let limits = engine.limits();
        DaemonFrame::Welcome {
            version: wire::VERSION,
            session: self.id,
            run: engine.run(),
            clock: now,
            limits: wire::Limits {
                payload: limits.payload as u64,
                subscriptions: limits.subscriptions,
                window: limits.window,
            },
            agent: concat!("weir/", env!("CARGO_PKG_VERSION")),
        }
        .encode(out);
        Ok(())
    }

    fn declare(&mut self, engine: &Engine, alias: u32, name: &str) -> Result<(), Refusal> {
        match self.aliases.get(&alias) {
            Some(known) if **known == *name => Ok(()),
            Some(known) => Err(Refusal::new(
                Code::BAD_ALIAS,
                format!("topic alias {alias} already stands for {known}: choose another number"),
            )),
            None if self.aliases.len() >= MAX_ALIASES || name.len() > MAX_NAME => {
                Err(Refusal::new(
                    Code::BAD_ALIAS,
                    format!(
                        "a session has at most {MAX_ALIASES} topic aliases, of {MAX_NAME} bytes each"
                    ),
                ))
            }
            None => {
                let aliased = self.aliased + ALIAS_COST + name.len();
                if !self.charge_all(engine, aliased, self.subscribed) {
                    return Err(Refusal::new(
                        Code::OVERLOADED,
                        "there is no room for more topic aliases: connect again later, or publish \
                         to fewer topics in one session",
                    ));
                }
                self.aliased = aliased;
                self.aliases.insert(alias, name.into());
                Ok(())
            }
        }
    }

    // The topic that an alias stands for.
    pub(super) fn alias(&self, alias: u32) -> Result<&str, Refusal> {
        self.aliases.get(&alias).map(|topic| &**topic).ok_or_else(|| {
            Refusal::new(
                Code::BAD_ALIAS,
                format!("topic alias {alias} was not declared before its use on this stream"),
            )
        })
    }

    pub(super) fn publish(
        &self,
        engine: &mut Engine,
        now: u64,
        producer: ProducerId,
        channel: Channel,
        publishing: &Publishing,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        let Publishing { alias, number, stamp, payload, digest } = publishing;
        let (alias, number) = (*alias, *number);
        let topic = match self.alias(alias) {
            // The declaration is still on its way: this is not acknowledged, and comes again.
            Err(_) if channel == Channel::Datagram => return Ok(None),
            topic => topic?,
        };
        let publication = Publication {
            topic,
            payload,
            digest: *digest,
            stamp: *stamp,
            origin: Some(PublicationId { producer, number }),
        };
        // To the engine, number 0 is a key; a peer has none.
        let receipt =
            if number == 0 { Err(unnumbered()) } else { engine.publish(now, &publication) };
        match receipt {
            // An acknowledgement reaches no further than its bits.
            Ok(_)
                if channel == Channel::Datagram
                    && engine
                        .accepted(topic, producer)
                        .is_some_and(|(floor, _)| number <= floor.saturating_add(64)) =>
            {
                return Ok(Some(Action::Acknowledge { alias }));
            }
            Ok(receipt) => receive(alias, number, &receipt, out),
            Err(refusal) => reject(alias, number, &refusal, out),
        }
        Ok(None)
    }

    /// Appends what is known of an alias' publications, for a datagram.
    pub fn acknowledge(&self, engine: &Engine, alias: u32, out: &mut Vec<u8>) {
        let accepted = self.producer.zip(self.aliases.get(&alias));
        let accepted = accepted.and_then(|(producer, topic)| engine.accepted(topic, producer));
        if let Some((floor, seen)) = accepted {
            DaemonFrame::Acknowledge { alias, floor, seen }.encode(out);
        }
    }

    fn repair(
        &self,
        channel: Channel,
        request: u32,
        topic: u64,
        holes: Vec<(u64, u64)>,
    ) -> Result<Option<Action>, Refusal> {
        let ordered = holes.iter().all(|(first, last)| first <= last)
            && holes.windows(2).all(|pair| pair[0].1 < pair[1].0);
        if !ordered || holes.len() > wire::realtime::HOLES {
            return Err(Refusal::new(
                Code::MALFORMED,
                format!(
                    "a repair names at most {} holes, in order and not overlapping",
                    wire::realtime::HOLES
                ),
            ));
        }
        // It may have ended meanwhile.
        let known = self.subscriptions.contains_key(&request);
        let reliably = channel == Channel::Control;
        Ok(known.then_some(Action::Repair { request, topic, holes, reliably }))
    }

    fn subscribe(
        &mut self,
        engine: &mut Engine,
        subscribing: Subscribing,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        let Subscribing { request, filter, start, delivery, lag, deadline } = subscribing;
        if self.subscriptions.contains_key(&request) {
            return Err(Refusal::new(
                Code::BAD_REQUEST,
                format!("request {request} is already a subscription: choose another number"),
            ));
        }
        let filter = filter.map_err(NameError::of_filter);
        let filter = filter.and_then(|filter| self.admit(engine, &filter).map(|()| filter));
        let filter = match filter {
            Ok(filter) => filter,
            Err(refusal) => {
                fail(out, request, &refusal);
                return Ok(None);
            }
        };
        let cost = cost_of(&filter);
        let marks = (!filter.is_exact()).then_some(engine.position());
        let subscription = engine.subscribe(filter, start, lag);
        self.subscriptions.insert(request, (subscription, cost));
        let position = engine.position();
        DaemonFrame::Subscribed { request, position }.encode(out);
        let bare = delivery != Delivery::Ordered && *self.bare.get_or_insert(request) == request;
        let deadline = match delivery {
            Delivery::Realtime => u64::from(deadline) * 1000,
            _ => 0,
        };
        Ok(Some(Action::Deliver { request, subscription, delivery, deadline, bare, marks }))
    }

    // Whether there is room for one more subscription.
    fn admit(&mut self, engine: &Engine, filter: &Filter) -> Result<(), Refusal> {
        let most = engine.limits().subscriptions;
        if self.subscriptions.len() >= most as usize {
            return Err(Refusal::new(
                Code::TOO_MANY_SUBSCRIPTIONS,
                format!("a session has at most {most} subscriptions: end one, or use a wildcard"),
            ));
        }
        let subscribed = self.subscribed + cost_of(filter);
        if !self.charge_all(engine, self.aliased, subscribed) {
            return Err(Refusal::new(
                Code::OVERLOADED,
                "there is no room for more subscriptions: try again later, or use a wildcard",
            ));
        }
        self.subscribed = subscribed;
        Ok(())
    }

    // Charges what the session has beyond what is free. Says whether there was room.
    fn charge_all(&mut self, engine: &Engine, aliased: usize, subscribed: usize) -> bool {
        let beyond = |bytes: usize, free| if bytes > free { bytes } else { 0 };
        let bytes = beyond(aliased, FREE_ALIASES) + beyond(subscribed, FREE_SUBSCRIPTIONS);
        // What stays for as long as the session does leaves room for what comes and goes: else
        // those who came first would keep out whoever asks for something.
        let (budget, before) = (engine.budget(), self.charge.as_ref().map_or(0, Charge::bytes));
        let room = budget.most() - budget.most() / LEFT_OVER;
        if bytes > before && budget.held() + (bytes - before) > room {
            return false;
        }
        match &mut self.charge {
            None if bytes == 0 => true,
            None => {
                self.charge = budget.take(bytes);
                self.charge.is_some()
            }
            Some(charge) => charge.resize(bytes),
        }
    }

    /// Ends a subscription, for the reason given, and tells the peer.
    pub fn end(
        &mut self,
        engine: &mut Engine,
        request: u32,
        why: &Refusal,
        out: &mut Vec<u8>,
    ) -> Option<Action> {
        let Some((subscription, cost)) = self.subscriptions.remove(&request) else {
            // It may have ended by itself while the request was under way.
            let reason = "there is no such subscription";
            DaemonFrame::Failed { request, code: Code::BAD_REQUEST, reason }.encode(out);
            return None;
        };
        engine.unsubscribe(subscription);
        self.subscribed -= cost;
        // Less always fits.
        self.charge_all(engine, self.aliased, self.subscribed);
        DaemonFrame::Ended { request, code: why.code, reason: &why.reason }.encode(out);
        Some(Action::Stop { request })
    }

    /// Ends a subscription because its delivery has ended. Returns whether it did: the peer may have
    /// ended it meanwhile, and may have begun another one with the same request.
    pub fn delivery_ended(
        &mut self,
        engine: &mut Engine,
        (request, subscription): (u32, SubscriptionId),
        why: &Refusal,
        out: &mut Vec<u8>,
    ) -> bool {
        let is_it = |(id, _): &(SubscriptionId, usize)| *id == subscription;
        self.subscriptions.get(&request).is_some_and(is_it)
            && self.end(engine, request, why, out).is_some()
    }

    /// Ends what the session has in the engine, and says how many subscriptions that were. Many may
    /// wait for each of its uploads: what is left of these is for the next call.
    pub fn close(&mut self, engine: &mut Engine) -> usize {
        let before = engine.work;
        let ended = self.subscriptions.drain().map(|(_, (id, _))| engine.unsubscribe(id)).count();
        while engine.work - before < WORK / 2
            && let Some(upload) = self.uploads.pop()
        {
            engine.abort(upload);
        }
        ended
    }

    /// Whether it has nothing in the engine.
    pub fn is_closed(&self) -> bool {
        self.subscriptions.is_empty() && self.uploads.is_empty()
    }
}

fn not_here() -> Refusal {
    Refusal::new(
        Code::UNEXPECTED,
        "a uni stream carries publications only; everything else goes on the control stream",
    )
}

fn not_in_datagrams() -> Refusal {
    Refusal::new(
        Code::UNEXPECTED,
        "a datagram carries publications and repairs only; everything else goes on the control stream",
    )
}

pub(super) fn unnumbered() -> Refusal {
    Refusal::new(Code::STALE, "publications are numbered from 1")
}
