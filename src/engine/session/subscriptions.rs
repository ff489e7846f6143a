//! A session's subscriptions: how they begin, are repaired, and end.

use super::Session;
use super::action::Action;
use super::allowance::cost_of;
use super::frames::{Channel, Subscribing};
use super::replies::fail;
use crate::engine::ids::SubscriptionId;
use crate::engine::{Engine, WORK};
use crate::wire::{Code, DaemonFrame, Delivery, NameError, Refusal, realtime};

impl Session {
    pub(super) fn subscribe(
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
            Err(refusal) => return Ok(Some(fail(request, &refusal, out))),
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
        Ok(Some(Action::Deliver {
            request,
            subscription,
            delivery,
            deadline,
            bare,
            position,
            marks,
        }))
    }

    pub(super) fn repair(
        &self,
        channel: Channel,
        request: u32,
        topic: u64,
        holes: Vec<(u64, u64)>,
    ) -> Result<Option<Action>, Refusal> {
        let ordered = holes.iter().all(|(first, last)| first <= last)
            && holes.windows(2).all(|pair| pair[0].1 < pair[1].0);
        if !ordered || holes.len() > realtime::HOLES {
            return Err(Refusal::new(
                Code::MALFORMED,
                format!(
                    "a repair names at most {} holes, in order and not overlapping",
                    realtime::HOLES
                ),
            ));
        }
        // The subscription may have ended meanwhile.
        let is_ours = self.subscriptions.contains_key(&request);
        let reliably = channel == Channel::Control;
        Ok(is_ours.then_some(Action::Repair { request, topic, holes, reliably }))
    }

    /// Ends a subscription for a reason, and tells the peer.
    pub fn end(
        &mut self,
        engine: &mut Engine,
        request: u32,
        why: &Refusal,
        out: &mut Vec<u8>,
    ) -> Action {
        let Some((subscription, cost)) = self.subscriptions.remove(&request) else {
            // It may have ended by itself before the request arrived.
            let refusal = Refusal::new(Code::BAD_REQUEST, "there is no such subscription");
            return fail(request, &refusal, out);
        };
        engine.unsubscribe(subscription);
        self.discharge(engine, cost);
        DaemonFrame::Ended { request, code: why.code, reason: &why.reason }.encode(out);
        Action::Stop { request, code: why.code }
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
            && matches!(self.end(engine, request, why, out), Action::Stop { .. })
    }

    /// Returns the subscriptions, each with the number that the peer has given to it.
    pub fn subscriptions(&self) -> impl Iterator<Item = (u32, SubscriptionId)> {
        self.subscriptions.iter().map(|(request, (id, _))| (*request, *id))
    }

    /// Returns whether a subscription has not been read completely.
    pub fn has_unread(&self, engine: &Engine) -> bool {
        self.subscriptions().any(|(_, id)| !engine.has_read_all(id))
    }

    /// Ends what the session has in the engine, and returns the number of its subscriptions. Many
    /// other subscriptions may wait for its uploads. So uploads may be left for the next call.
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

    /// Returns whether the session has nothing in the engine.
    pub fn is_closed(&self) -> bool {
        self.subscriptions.is_empty() && self.uploads.is_empty()
    }
}
