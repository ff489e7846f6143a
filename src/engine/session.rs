//! One remote peer: its frames in, frames for its control stream and actions out.
//!
//! A [`Refusal`] returned from here ends the session: say goodbye with it. What concerns one
//! request or one publication only is answered with a frame instead, and the session goes on.

use super::frames::{Channel, Prepared, Publishing, encode_item};
use super::{Engine, Item, Origin, Publication, SubscriptionId};
use crate::wire::{
    self, ClientFrame, Code, DaemonFrame, Delivery, Encoded, Filter, MAX_ALIASES, MAX_NAME,
    ProducerId, Refusal, TopEntry, Which,
};
use bytes::Bytes;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// What the shell is to do.
#[derive(Debug)]
pub enum Action {
    /// Begin to deliver: read the subscription whenever it is named.
    Deliver {
        /// The subscription's name on the wire.
        request: u32,
        /// The subscription.
        subscription: SubscriptionId,
    },
    /// Stop delivering: it is no longer a subscription.
    Stop {
        /// The subscription's name on the wire.
        request: u32,
        /// What it was.
        subscription: SubscriptionId,
    },
    /// Send this on a uni stream of its own.
    Answer {
        /// Frames that come first.
        head: Bytes,
        /// The message.
        message: Encoded,
    },
    /// The peer said goodbye.
    Left(Code),
}

/// The state of one remote peer: its aliases and its subscriptions.
#[derive(Debug)]
pub struct Session {
    id: u64,
    producer: Option<ProducerId>,
    aliases: HashMap<u32, Arc<str>, RandomState>,
    subscriptions: HashMap<u32, SubscriptionId, RandomState>,
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
            subscriptions: HashMap::default(),
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

    /// Takes one frame. Frames for the control stream are appended to `out`.
    pub fn handle(
        &mut self,
        engine: &mut Engine,
        now: u64,
        channel: Channel,
        frame: Prepared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        let Some(producer) = self.producer else {
            return self.hello(engine, now, channel, &frame, out).map(|()| None);
        };
        let frame = match frame {
            Prepared::Publish(publishing) => {
                self.publish(engine, now, producer, &publishing, out)?;
                return Ok(None);
            }
            Prepared::Other(frame) => frame,
        };
        match frame {
            ClientFrame::Topic { alias, name } => self.declare(alias, name).map(|()| None),
            ClientFrame::Begin { .. } | ClientFrame::Chunk { .. } | ClientFrame::End { .. } => {
                Err(unsupported("publications that are relayed while they arrive"))
            }
            _ if channel == Channel::Publish => Err(Refusal::new(
                Code::UNEXPECTED,
                "a uni stream carries publications only; everything else goes on the control stream",
            )),
            ClientFrame::Hello { .. } | ClientFrame::Publish { .. } => {
                Err(Refusal::new(Code::UNEXPECTED, "a second hello"))
            }
            ClientFrame::Subscribe { request, filter, start, delivery, lag, deadline: _ } => {
                if delivery != Delivery::Ordered {
                    fail(out, request, &unsupported("unordered and realtime delivery"));
                    return Ok(None);
                }
                match self.subscribe(engine, request, filter, &start, lag)? {
                    Ok(subscription) => {
                        let position = engine.position();
                        DaemonFrame::Subscribed { request, position }.encode(out);
                        Ok(Some(Action::Deliver { request, subscription }))
                    }
                    Err(refusal) => {
                        fail(out, request, &refusal);
                        Ok(None)
                    }
                }
            }
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
            ClientFrame::Repair { .. } => Err(unsupported("repair")),
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

    fn declare(&mut self, alias: u32, name: &str) -> Result<(), Refusal> {
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
                self.aliases.insert(alias, name.into());
                Ok(())
            }
        }
    }

    fn publish(
        &self,
        engine: &mut Engine,
        now: u64,
        producer: ProducerId,
        publishing: &Publishing,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let Publishing { alias, number, stamp, payload, digest } = publishing;
        let (alias, number) = (*alias, *number);
        let topic = self.aliases.get(&alias).ok_or_else(|| {
            Refusal::new(
                Code::BAD_ALIAS,
                format!("topic alias {alias} was not declared before its use on this stream"),
            )
        })?;
        let publication = Publication {
            topic,
            payload,
            digest: *digest,
            stamp: *stamp,
            origin: Some(Origin { producer, number }),
        };
        // To the engine, number 0 is a key; a peer has none.
        let receipt = if number == 0 {
            Err(Refusal::new(Code::STALE, "publications are numbered from 1"))
        } else {
            engine.publish(now, &publication)
        };
        match receipt {
            Ok(receipt) => DaemonFrame::Receipt {
                alias,
                number,
                sequence: receipt.sequence,
                count: receipt.count,
                since: receipt.since,
                digest: receipt.digest,
                duplicate: receipt.duplicate,
            }
            .encode(out),
            Err(Refusal { code, reason }) => {
                DaemonFrame::Rejected { alias, number, code, reason: &reason }.encode(out);
            }
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        engine: &mut Engine,
        request: u32,
        filter: &str,
        start: &wire::Start<'_>,
        lag: wire::Lag,
    ) -> Result<Result<SubscriptionId, Refusal>, Refusal> {
        if self.subscriptions.contains_key(&request) {
            return Err(Refusal::new(
                Code::BAD_REQUEST,
                format!("request {request} is already a subscription: choose another number"),
            ));
        }
        let most = engine.limits().subscriptions;
        if self.subscriptions.len() >= most as usize {
            return Ok(Err(Refusal::new(
                Code::TOO_MANY_SUBSCRIPTIONS,
                format!("a session has at most {most} subscriptions: end one, or use a wildcard"),
            )));
        }
        Ok(Filter::new(filter).map_err(wire::NameError::of_filter).map(|filter| {
            let id = engine.subscribe(filter, start, lag);
            self.subscriptions.insert(request, id);
            id
        }))
    }

    /// Ends a subscription, for the reason given, and tells the peer.
    pub fn end(
        &mut self,
        engine: &mut Engine,
        request: u32,
        why: &Refusal,
        out: &mut Vec<u8>,
    ) -> Option<Action> {
        let Some(subscription) = self.subscriptions.remove(&request) else {
            // It may have ended by itself while the request was under way.
            let reason = "there is no such subscription";
            DaemonFrame::Failed { request, code: Code::BAD_REQUEST, reason }.encode(out);
            return None;
        };
        engine.unsubscribe(subscription);
        DaemonFrame::Ended { request, code: why.code, reason: &why.reason }.encode(out);
        Some(Action::Stop { request, subscription })
    }

    /// Ends everything that the session has in the engine.
    pub fn close(&mut self, engine: &mut Engine) -> impl Iterator<Item = SubscriptionId> {
        let ended: Vec<_> = self.subscriptions.drain().map(|(_, id)| id).collect();
        for id in &ended {
            engine.unsubscribe(*id);
        }
        ended.into_iter()
    }
}

fn unsupported(what: &str) -> Refusal {
    Refusal::new(Code::UNSUPPORTED, format!("{what}: not offered by this daemon"))
}

fn fail(out: &mut Vec<u8>, request: u32, refusal: &Refusal) {
    DaemonFrame::Failed { request, code: refusal.code, reason: &refusal.reason }.encode(out);
}

fn answer(
    engine: &mut Engine,
    request: u32,
    topic: &str,
    which: Which,
    out: &mut Vec<u8>,
) -> Option<Action> {
    match engine.get(topic, which) {
        Ok(found) => {
            let mut head = Vec::with_capacity(wire::FRAME_OVERHEAD);
            DaemonFrame::For { request }.encode(&mut head);
            encode_item(&Item::topic_of(&found), &mut head);
            Some(Action::Answer { head: head.into(), message: found.encoded().clone() })
        }
        Err(refusal) => {
            fail(out, request, &refusal);
            None
        }
    }
}

fn top(engine: &Engine, request: u32, topic: &str, k: u32, out: &mut Vec<u8>) {
    match engine.top(topic, k as usize) {
        Ok(ranking) => {
            let entries = ranking
                .iter()
                .map(|ranked| TopEntry {
                    digest: ranked.digest,
                    count: ranked.count,
                    since: ranked.since,
                    sequence: ranked.sequence,
                    size: ranked.size,
                    payload: ranked.payload.as_deref(),
                })
                .collect();
            DaemonFrame::Top { request, entries }.encode(out);
        }
        Err(refusal) => fail(out, request, &refusal),
    }
}
