//! One remote peer: its frames in, frames for its control stream and actions out.
//!
//! A [`Refusal`] returned from here ends the session: say goodbye with it. A refusal of one request
//! or one publication is a frame, and the session goes on.

pub(crate) mod action;
mod allowance;
pub(crate) mod frames;
mod hello;
mod publications;
mod replies;
mod subscriptions;
pub(crate) mod upload;

use super::Engine;
use super::budget::Charge;
use super::ids::{SubscriptionId, UploadId};
use super::publication::PublicationId;
use crate::wire::{ClientFrame, Code, DaemonFrame, FIRST_DAEMON_FRAMES, ProducerId, Refusal};
use action::Action;
use foldhash::fast::RandomState;
use frames::{Channel, Prepared};
use replies::{answer, fail, top};
use std::collections::HashMap;
use std::sync::Arc;
use upload::{BeginFields, IncomingUpload};

/// The state of one remote peer: its aliases, its subscriptions and its uploads.
#[derive(Debug)]
pub struct Session {
    id: u64,
    producer: Option<ProducerId>,
    aliases: HashMap<u32, Alias, RandomState>,
    alias_bytes: usize,
    // By request, with the price of each.
    subscriptions: HashMap<u32, (SubscriptionId, usize), RandomState>,
    subscription_bytes: usize,
    // For the bytes of both, above those that are free.
    charge: Option<Charge>,
    uploads: Vec<UploadId>,
    // The first subscription with datagrams, which leave out its number.
    bare: Option<u32>,
    // The number of kinds of frames that the client knows.
    knows: u32,
    // The session's own limit.
    most_subscriptions: u32,
    // Publications that were accepted, and the bytes of their payloads.
    accepted: (u64, u64),
    // Publications that were proposed to a log, and are not answered yet.
    proposed: u32,
}

/// A topic that a client has declared.
#[derive(Debug)]
struct Alias {
    topic: Arc<str>,
    // Why its publications are refused.
    refusal: Option<Arc<Refusal>>,
}

impl Engine {
    /// Opens a session, which waits for its hello.
    pub fn open_session(&mut self) -> Session {
        let id = self.next_session;
        self.next_session += 1;
        Session {
            id,
            producer: None,
            aliases: HashMap::default(),
            alias_bytes: 0,
            subscriptions: HashMap::default(),
            subscription_bytes: 0,
            charge: None,
            uploads: Vec::new(),
            bare: None,
            knows: FIRST_DAEMON_FRAMES,
            most_subscriptions: u32::MAX,
            accepted: (0, 0),
            proposed: 0,
        }
    }
}

impl Session {
    /// Returns the number of the session, for logs.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns how many publications were accepted, and the bytes of their payloads.
    pub fn accepted(&self) -> (u64, u64) {
        self.accepted
    }

    /// Returns whether publications wait for the decision of a log.
    pub fn has_proposed(&self) -> bool {
        self.proposed > 0
    }

    /// Returns whether the hello has arrived.
    pub fn is_open(&self) -> bool {
        self.producer.is_some()
    }

    /// Returns whether the client knows a kind of [`DaemonFrame`], by its index.
    pub fn knows(&self, kind: u32) -> bool {
        kind < self.knows
    }

    /// Handles one frame of the stream that `incoming` belongs to. Frames for the control stream are
    /// appended to `out`.
    pub fn handle(
        &mut self,
        engine: &mut Engine,
        now: u64,
        (channel, incoming): (Channel, &mut IncomingUpload),
        frame: Prepared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        let Some(producer) = self.producer else {
            // A datagram that has overtaken the hello is dropped, as if it were lost.
            if channel == Channel::Datagram {
                return Ok(None);
            }
            return self.hello(engine, now, channel, &frame, out).map(|()| None);
        };
        let of = (channel, producer);
        let (frame, why) = match frame {
            Prepared::Refused(refused) => (refused.0, Some(refused.1)),
            frame => (frame, None),
        };
        let frame = match frame {
            Prepared::Chunk(chunk) if channel != Channel::Datagram => {
                let step = incoming.chunk(engine, chunk)?;
                return self.upload_step((engine, now), of, step, out);
            }
            Prepared::End { claimed, computed } if channel != Channel::Datagram => {
                let step = incoming.end(engine, now, (claimed, computed))?;
                return self.upload_step((engine, now), of, step, out);
            }
            _ if channel == Channel::Publish && incoming.is_open() => {
                return Err(Refusal::new(
                    Code::UNEXPECTED,
                    "between begin and end a stream carries chunks only",
                ));
            }
            Prepared::Publish(publishing) => {
                let from = (channel, producer, why.as_deref());
                return self.publish((engine, now), from, &publishing, out);
            }
            Prepared::Chunk(_) | Prepared::End { .. } => return Err(not_in_datagrams()),
            Prepared::Subscribe(_) if channel == Channel::Datagram => {
                return Err(not_in_datagrams());
            }
            Prepared::Subscribe(_) if channel == Channel::Publish => return Err(not_here()),
            Prepared::Subscribe(subscribing) => {
                return match why {
                    Some(why) => Ok(Some(fail(subscribing.request, &why, out))),
                    None => self.subscribe(engine, subscribing, out),
                };
            }
            Prepared::Other(frame) => frame,
            Prepared::Refused(_) => return Ok(None),
        };
        match frame {
            ClientFrame::Topic { alias, name } => {
                self.declare(engine, alias, name, why).map(|()| None)
            }
            ClientFrame::Begin { alias, number, stamp, size } if channel != Channel::Datagram => {
                let fields = BeginFields { alias, number, stamp, size };
                let origin = PublicationId { producer, number };
                incoming.may_begin()?;
                let Alias { topic, refusal } = self.alias(alias)?;
                let step = match why.as_ref().or(refusal.as_ref()) {
                    Some(why) => incoming.begin_refused(fields, why),
                    None => incoming.begin(engine, now, topic, origin, fields),
                };
                self.upload_step((engine, now), of, step, out)
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
                Ok(Some(self.end(engine, subscription, &Refusal::new(Code::DONE, ""), out)))
            }
            ClientFrame::Get { request, .. } | ClientFrame::Top { request, .. }
                if why.is_some() =>
            {
                Ok(why.map(|why| fail(request, &why, out)))
            }
            ClientFrame::Get { request, topic, which } => {
                Ok(Some(answer(engine, request, topic, which, out)))
            }
            ClientFrame::Top { request, topic, k } => Ok(top(engine, request, topic, k, out)),
            ClientFrame::Ping { request } => {
                DaemonFrame::Pong { request, clock: now }.encode(out);
                Ok(None)
            }
            ClientFrame::Goodbye { code, .. } => Ok(Some(Action::PeerLeft { code })),
            ClientFrame::Knows { frames } => {
                self.knows = frames;
                Ok(Some(Action::Knows))
            }
            // A daemon that verifies tokens has answered this one already.
            ClientFrame::Token { request, .. } => Ok(Some(fail(request, &no_tokens(), out))),
        }
    }
}

fn no_tokens() -> Refusal {
    Refusal::new(Code::UNSUPPORTED, "this daemon verifies no tokens, and needs none")
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
