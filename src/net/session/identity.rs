//! The identity of a session's peer: from its hello, or from a token that it shows later. The rules are in
//! `access`, and the decisions are made here, before the engine is called.

use super::end::SessionEnd;
use super::peer::Peer;
use super::peer_identity::UNKNOWN;
use crate::access::gate::{Access, Rules};
use crate::access::{Credentials, Identity};
use crate::engine::{Action, Prepared};
use crate::net;
use crate::net::transport::connection::Connection;
use crate::tls::client_authorities::peer_name;
use crate::wire::{ClientFrame, Code, DaemonFrame, Refusal};
use bytes::Bytes;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::sleep;

/// The longest wait for the end of the rights before the clock is looked at again, one minute. The
/// clock of the machine may be set.
const LOOK: Duration = Duration::from_secs(60);

/// The index of [`DaemonFrame::Authorized`].
const AUTHORIZED: u32 = 22;

impl Peer {
    fn access(&self) -> &Access {
        self.admission.access()
    }

    // Returns the identity that a token proves.
    async fn identity_of(&self, token: Option<&str>) -> Result<Arc<Identity>, Refusal> {
        let connection = &self.context.connection;
        let name = match connection {
            Connection::Quic(quic) => peer_name(quic),
            _ => None,
        };
        let credentials =
            Credentials::from_address(connection.remote_address().ip().to_canonical());
        let credentials = credentials.with_token(token).with_certificate(name.as_deref());
        self.admission.identify(credentials, net::now()).await
    }

    // Takes the place of an identity, and its limits.
    fn take_place(&self, identity: &Identity) -> Result<(), Refusal> {
        let most = identity.limits().sessions;
        let admission = &self.admission;
        let place = match identity.name() {
            None => None,
            Some(name) => Some(admission.admit_identity(name, most).ok_or_else(|| {
                let reason = "this identity has as many sessions as it may have: close one";
                Refusal::new(Code::OVERLOADED, reason)
            })?),
        };
        *self.identity.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
        Ok(())
    }

    // Takes the limits of an identity. The frames that came together with its token count against them, or
    // else a peer that reconnects for each batch would have none. Returns whether there is room for it.
    fn take_limits(&self, identity: &Identity, with: &[Bytes]) -> bool {
        let limits = identity.limits();
        let is_other = self.throttle.set_identity(self.admission.intake_of(identity));
        let bytes = with.iter().map(|frame| frame.len() as u64).sum();
        let has_room = !is_other || self.throttle.receive_shown(with.len(), bytes);
        self.session().set_most_subscriptions(limits.subscriptions);
        has_room
    }

    /// Finds out who a peer is, when its hello has arrived, the first of these frames. Returns whether the
    /// identity's rate has room for them.
    pub(super) async fn identify(&self, frames: &[Bytes]) -> Result<bool, SessionEnd> {
        // Another first frame is refused by the engine.
        let Ok(ClientFrame::Hello { token, .. }) = ClientFrame::decode(&frames[0]) else {
            return Ok(true);
        };
        // By which rules it is identified. If there are others meanwhile, it is renewed.
        let rules = self.access().rules().number();
        let identity = self.identity_of(token).await?;
        self.take_place(&identity)?;
        let has_room = self.take_limits(&identity, frames);
        let mut current = self.identity.current.write().await;
        *current = Some(identity);
        self.identity.rules.store(rules, Relaxed);
        drop(current);
        self.identity.changed.notify_one();
        Ok(has_room)
    }

    /// The hello of a peer has arrived, and everybody may do everything by these rules.
    pub(super) fn admit_by(&self, rules: &Rules) {
        self.identity.rules.store(rules.number(), Relaxed);
        // There may be others already, and this peer may have been notified too early.
        if self.is_outdated(&self.access().rules()) {
            self.notify_rules();
        }
    }

    /// Whether the rules of access have changed since the peer got its rights.
    pub(super) fn is_outdated(&self, rules: &Rules) -> bool {
        let known = self.identity.rules.load(Relaxed);
        known != rules.number() && known != UNKNOWN
    }

    /// Gives the peer the rights that it has by the rules of now. Subscriptions that they do not allow
    /// end; the task of the control stream ends their deliveries.
    pub(super) async fn renew(&self) {
        // Frames on other streams wait here.
        let mut current = self.identity.current.write().await;
        let rules = self.access().rules();
        if !self.is_outdated(&rules) {
            return;
        }
        let before = current.as_ref().unwrap_or_else(|| rules.anonymous());
        let identity = rules.renew(before);
        let mut ends = Vec::new();
        self.review(&identity, &mut ends);
        self.ends().extend(ends);
        *current = Some(identity);
        self.identity.rules.store(rules.number(), Relaxed);
        drop(current);
        self.identity.changed.notify_one();
    }

    fn ends(&self) -> MutexGuard<'_, Vec<Action>> {
        self.identity.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the ends of subscriptions that other rules do not allow.
    pub(super) fn take_ends(&self) -> Vec<Action> {
        std::mem::take(&mut *self.ends())
    }

    /// Waits until the rules of access, or the rights of the peer, may have changed.
    pub(super) async fn rights_changed(&self) {
        self.identity.changed.notified().await;
    }

    /// Has the session look whether the rules of access have changed.
    pub(super) fn notify_rules(&self) {
        self.identity.changed.notify_one();
    }

    /// Handles a token that a peer shows after its hello, and with it other frames. Its rights may be others.
    /// Returns whether the identity's rate has room for the frames.
    pub(super) async fn show_token(
        &self,
        (request, token): (u32, &str),
        with: &[Bytes],
        actions: &mut Vec<Action>,
    ) -> bool {
        let rules = self.access().rules().number();
        let identity = match self.identity_of(Some(token)).await {
            Ok(identity) => identity,
            Err(why) => {
                self.refuse_token(request, &why);
                return true;
            }
        };
        // Frames on other streams wait here.
        let mut current = self.identity.current.write().await;
        let name = current.as_ref().and_then(|current| current.name().map(str::to_owned));
        if name.is_some() && name.as_deref() != identity.name() {
            let reason = "the token is of another identity: open another session for it";
            self.refuse_token(request, &Refusal::new(Code::FORBIDDEN, reason));
            return true;
        }
        if name.is_none()
            && let Err(why) = self.take_place(&identity)
        {
            self.refuse_token(request, &why);
            return true;
        }
        let has_room = self.take_limits(&identity, with);
        self.review(&identity, actions);
        *current = Some(identity.clone());
        self.identity.rules.store(rules, Relaxed);
        drop(current);
        self.identity.changed.notify_one();
        self.authorized(request, &identity);
        has_room
    }

    fn refuse_token(&self, request: u32, why: &Refusal) {
        let Refusal { code, reason } = why;
        self.outbox.push([DaemonFrame::Failed { request, code: *code, reason }.to_bytes()]);
    }

    // Applies other rights to what the session has: its aliases and its subscriptions. The decisions
    // take a while, and are made without the engine's lock.
    fn review(&self, identity: &Arc<Identity>, actions: &mut Vec<Action>) {
        let access = self.access();
        let aliases = self.session().aliases();
        let refusals = aliases
            .into_iter()
            .map(|(alias, topic)| (alias, access.publish(identity, &topic).err().cloned()));
        let refusals = refusals.collect();
        self.session().set_refusals(refusals);
        let subscriptions: Vec<_> = self.session().subscriptions().collect();
        let broker = &self.context.broker;
        for (request, id) in subscriptions {
            let Some(filter) = broker.with(|engine| engine.filter(id).cloned()) else { continue };
            if let Err(why) = access.subscribe(identity, &filter) {
                let mut out = Vec::new();
                actions
                    .push(broker.with(|engine| self.session().end(engine, request, why, &mut out)));
                self.outbox.push([out.into()]);
            }
        }
    }

    /// Tells a peer who it is, if there is something to tell and it knows the frame.
    pub(super) fn tell_identity(&self) {
        // The task that calls this is the only one that writes it.
        if let Ok(current) = self.identity.current.try_read()
            && let Some(identity) = &*current
            && (identity.name().is_some() || identity.expires().is_some())
        {
            self.authorized(0, identity);
        }
    }

    fn authorized(&self, request: u32, identity: &Identity) {
        // Shown again, a token of a client that does not know the answer is answered too.
        if request == 0 && !self.session().knows(AUTHORIZED) {
            return;
        }
        let lifetime =
            identity.expires().map_or(0, |at| (at.saturating_sub(net::now()) / 1000).max(1));
        let name = identity.name().unwrap_or_default();
        self.outbox.push([DaemonFrame::Authorized { request, lifetime, name }.to_bytes()]);
    }

    /// Waits until the rights of the peer end.
    pub(super) async fn rights_end(&self) -> SessionEnd {
        loop {
            let changed = self.identity.changed.notified();
            if self.is_outdated(&self.access().rules()) {
                // Boxed, because it is rare.
                Box::pin(self.renew()).await;
                // The control stream may have been polled before.
                yield_now().await;
            }
            let expires = self.identity.current.read().await.as_ref().and_then(|now| now.expires());
            let Some(at) = expires else {
                changed.await;
                continue;
            };
            let left = Duration::from_micros(at.saturating_sub(net::now()));
            if left.is_zero() {
                return Refusal::new(
                    Code::TOKEN_EXPIRED,
                    "the time of the token has passed: connect again with a new one, or show one \
                     before the end",
                )
                .into();
            }
            tokio::select! {
                () = changed => {}
                () = sleep(left.min(LOOK)) => {}
            }
        }
    }
}

/// Decides whether a peer may send a frame. The engine answers one that it may not.
pub(super) fn permit<'a>(
    access: &Access,
    identity: &Arc<Identity>,
    frame: Prepared<'a>,
) -> Prepared<'a> {
    let refused = match &frame {
        Prepared::Other(ClientFrame::Topic { name, .. }) => access.publish(identity, name).err(),
        Prepared::Other(ClientFrame::Get { topic, .. } | ClientFrame::Top { topic, .. }) => {
            access.read(identity, topic).err()
        }
        // The engine refuses what is not a filter.
        Prepared::Subscribe(subscribing) => match subscribing.filter() {
            Some(filter) => access.subscribe(identity, filter).err(),
            None => None,
        },
        _ => None,
    };
    match refused {
        Some(why) => frame.refuse(why.clone()),
        None => frame,
    }
}

/// Returns the request and the token, if a frame shows one.
pub(super) fn shown(frame: &Bytes) -> Option<(u32, &str)> {
    if !ClientFrame::may_show_token(frame) {
        return None;
    }
    match ClientFrame::decode(frame) {
        Ok(ClientFrame::Token { request, token }) => Some((request, token)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{AccessRules, Rights};
    use crate::engine::{Hashing, Prepared};
    use crate::wire::Filter;
    use std::hint::black_box;
    use std::time::Instant;

    // A publication is not looked at: its topic was, when it was declared. That is the figure of
    // docs/access.md, "What it costs".
    #[test]
    #[ignore = "prints what rights cost: cargo test --release what_rights_cost -- --ignored --nocapture"]
    fn what_rights_cost() {
        const TIMES: u32 = 2_000_000;
        let access = Access::new(AccessRules::default().public(Rights::nothing()));
        let frame = |frame: &ClientFrame<'_>| {
            let mut out = Vec::new();
            frame.encode(&mut out);
            Bytes::from(out.split_off(1))
        };
        let publish = frame(&ClientFrame::Publish { alias: 1, number: 1, stamp: 0, payload: b"x" });
        let topic = frame(&ClientFrame::Topic { alias: 1, name: "demo/room/63/chat" });
        for filters in [1, 8, 64] {
            let list = (0..filters).map(|n| Filter::new(&format!("demo/room/{n}/*")).unwrap());
            let list: Vec<_> = list.collect();
            let rights = Rights::new(list.clone(), list).unwrap();
            let identity = Arc::new(Identity::anonymous(rights));
            for (what, frame) in [("publication", &publish), ("declaration", &topic)] {
                let mut hashing = Hashing::default();
                let mut each = |permits: bool| {
                    let begun = Instant::now();
                    for _ in 0..TIMES {
                        let prepared = Prepared::new(black_box(frame), &mut hashing).unwrap();
                        if permits {
                            black_box(permit(&access, &identity, prepared));
                        } else {
                            black_box(prepared);
                        }
                    }
                    begun.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
                };
                let mut times: Vec<_> = (0..7).map(|_| (each(false), each(true))).collect();
                times.sort_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
                let (without, with) = times[3];
                println!("{filters:2} filters, {what}: {without:.0} ns without, {with:.0} ns with");
            }
        }
    }
}
