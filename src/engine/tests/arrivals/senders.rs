//! Those who publish: whole, in pieces, once more, and half.

use super::*;

pub(super) struct Sending {
    pub(super) upload: UploadId,
    pub(super) topic: (usize, u64, u64),
    pub(super) origin: (u8, u64),
    pub(super) n: usize,
    pub(super) sent: usize,
}

impl World {
    fn accept(&mut self, topic: usize, of: (u64, u64), n: usize, origin: (u8, u64), count: u64) {
        let expected = self.counts.entry((topic, n)).or_default();
        *expected += 1;
        assert_eq!(count, *expected, "a count is wrong");
        self.history.get_mut(&of).unwrap().state = State::Complete(count);
        assert!(self.accepted.insert((of.0, origin.0, origin.1)), "accepted twice");
    }

    fn number(&mut self) -> (u8, u64) {
        let producer = self.random.below(3);
        // Mostly the next, sometimes one that was used.
        if self.random.below(5) > 0 || self.numbers[producer] == 0 {
            self.numbers[producer] += 1;
            return (producer as u8, self.numbers[producer]);
        }
        let back = self.random.below(self.numbers[producer].min(20) as usize) as u64;
        (producer as u8, self.numbers[producer] - back)
    }

    // A number for a publication to this topic; sometimes one that is under way, and its topic.
    fn origin(&mut self, topic: usize) -> (usize, (u8, u64)) {
        if !self.sending.is_empty() && self.random.below(5) == 0 {
            let again = self.random.below(self.sending.len());
            return (self.sending[again].topic.0, self.sending[again].origin);
        }
        (topic, self.number())
    }

    pub(super) fn publish(&mut self) {
        let (topic, n) = (self.random.below(TOPICS.len()), self.random.below(PAYLOADS));
        let (topic, origin) = self.origin(topic);
        let (payload, digest) = &payloads()[n];
        let publication = Publication {
            topic: TOPICS[topic],
            payload: &crate::engine::Payload::from(payload.clone()),
            digest: *digest,
            stamp: 0,
            origin: Some(PublicationId { producer: ProducerId([origin.0; 16]), number: origin.1 }),
        };
        let receipt = self.engine.publish(self.now, &publication).unwrap();
        let (id, next) = self.topic(topic);
        assert_eq!(receipt.duplicate, self.accepted.contains(&(id, origin.0, origin.1)));
        if !receipt.duplicate {
            let (position, of) = (self.engine.position(), (id, next - 1));
            assert_eq!(receipt.sequence, of.1);
            self.names.insert(id, TOPICS[topic]);
            self.history.insert(of, Said { position, n, state: State::Arriving });
            self.accept(topic, of, n, origin, receipt.count);
        }
    }

    pub(super) fn begin(&mut self) {
        let topic = self.random.below(TOPICS.len());
        let n = [1, 2, 4, 5, 7, 8, 10][self.random.below(7)];
        let (topic, origin) = self.origin(topic);
        let size = payloads()[n].0.len() as u64;
        let (producer, number) = (ProducerId([origin.0; 16]), origin.1);
        let origin_of = Some(PublicationId { producer, number });
        let opening = UploadRequest { topic: TOPICS[topic], size, stamp: 7, origin: origin_of };
        let begun = self.engine.begin(self.now, &opening).unwrap();
        let (id, next) = self.topic(topic);
        let known = self.accepted.contains(&(id, origin.0, origin.1));
        match begun {
            BeginOutcome::Duplicate(receipt) => assert!(known && receipt.duplicate),
            BeginOutcome::Arriving(upload) => {
                assert!(!known);
                let (position, of) = (self.engine.position(), (id, next - 1));
                self.names.insert(id, TOPICS[topic]);
                for before in &self.sending {
                    if before.origin == origin && before.topic.1 == id {
                        let said = self.history.get_mut(&(id, before.topic.2)).unwrap();
                        said.state = State::Aborted;
                    }
                }
                self.history.insert(of, Said { position, n, state: State::Arriving });
                let topic = (topic, id, of.1);
                self.sending.push(Sending { upload, topic, origin, n, sent: 0 });
            }
        }
    }

    // Whether it is still in the log, and arrives.
    fn arrives(&self, sending: &Sending) -> bool {
        let (_, id, sequence) = sending.topic;
        let first = self.firsts().get(&id).copied();
        first.is_some_and(|first| sequence >= first)
            && self.history[&(id, sequence)].state == State::Arriving
    }

    fn failed(&mut self, sending: &Sending, failed: &UploadError) {
        let (_, id, sequence) = sending.topic;
        let said = self.history.get_mut(&(id, sequence)).unwrap();
        match failed {
            UploadError::Superseded => assert_eq!(said.state, State::Aborted),
            UploadError::Refused(refusal) => assert_eq!(refusal.code, Code::OVERLOADED),
        }
        said.state = State::Aborted;
        assert!(!self.arrives(sending));
    }

    pub(super) fn append(&mut self) {
        if self.sending.is_empty() {
            return;
        }
        let index = self.random.below(self.sending.len());
        let mut sending = self.sending.swap_remove(index);
        let arrives = self.arrives(&sending);
        let (payload, digest) = &payloads()[sending.n];
        if sending.sent < payload.len() {
            let most = [1, 300, 20_000, 65_536][self.random.below(4)];
            let size = 1 + self.random.below(most).min(payload.len() - sending.sent - 1);
            let chunk = payload.slice(sending.sent..sending.sent + size);
            match self.engine.append(sending.upload, chunk) {
                Ok(()) => {
                    assert!(arrives);
                    sending.sent += size;
                    self.sending.push(sending);
                }
                Err(failed) => self.failed(&sending, &failed),
            }
            return;
        }
        match self.engine.end(self.now, sending.upload, *digest) {
            Ok(receipt) => {
                assert!(arrives);
                let (topic, id, sequence) = sending.topic;
                let origin = sending.origin;
                assert_eq!(receipt.duplicate, self.accepted.contains(&(id, origin.0, origin.1)));
                if receipt.duplicate {
                    self.history.get_mut(&(id, sequence)).unwrap().state = State::Aborted;
                } else {
                    assert_eq!((receipt.sequence, receipt.digest), (sequence, *digest));
                    self.accept(topic, (id, sequence), sending.n, origin, receipt.count);
                }
            }
            Err(failed) => self.failed(&sending, &failed),
        }
    }

    pub(super) fn abort(&mut self) {
        if self.sending.is_empty() {
            return;
        }
        let index = self.random.below(self.sending.len());
        let sending = self.sending.swap_remove(index);
        self.engine.abort(sending.upload);
        let (_, id, sequence) = sending.topic;
        self.history.get_mut(&(id, sequence)).unwrap().state = State::Aborted;
    }
}
