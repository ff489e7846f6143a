//! The answers to a peer whose publications a log has decided about.

use super::peer::Peer;
use crate::broker::throttle::count_refusal;
use crate::engine::Action;
use crate::journal::proposals::{OfPeer, Outcome, Proposer};
use std::sync::{Arc, Weak};

impl Proposer for Peer {
    fn answer(&self, publication: OfPeer, outcome: Outcome) {
        let (.., datagram) = publication;
        let mut out = Vec::new();
        let action = if datagram {
            let broker = &self.context.broker;
            broker.with(|engine| {
                self.session().answer_proposal(Some(engine), publication, outcome, &mut out)
            })
        } else {
            self.session().answer_proposal(None, publication, outcome, &mut out)
        };
        match action {
            Some(Action::Acknowledge { alias }) => self.datagrams.queue_ack(alias),
            Some(Action::Refused { code }) => count_refusal(self.throttle.counts(), code),
            _ => {}
        }
        if !out.is_empty() {
            self.outbox.push([out.into()]);
        }
    }
}

/// Lets a peer's proposals be answered, until this is dropped.
pub(super) struct Registered<'a>(&'a Peer);

impl<'a> Registered<'a> {
    pub(super) fn new(peer: &'a Arc<Peer>) -> Self {
        if let Some(queue) = peer.context.broker.proposals() {
            let weak: Weak<Peer> = Arc::downgrade(peer);
            let id = peer.session().id();
            queue.register(id, weak);
        }
        Self(peer)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        if let Some(queue) = self.0.context.broker.proposals() {
            let id = self.0.session().id();
            queue.forget(id);
        }
    }
}
