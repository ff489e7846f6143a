//! Those who publish: at once, or in parts.

use super::{SIZE, State, TOPICS, World, payloads};
use crate::engine::tests::publish;
use crate::engine::{BeginOutcome, PublicationId, UploadError, UploadId, UploadRequest};
use crate::wire::{Code, ProducerId};
use bytes::Bytes;

/// A publication that arrives.
pub(super) struct Sending {
    upload: UploadId,
    of: (u64, u64),
    payload: usize,
    sent: usize,
    number: Option<u64>,
}

impl World {
    pub(super) fn publish(&mut self, topic: usize, payload: Option<usize>) {
        let small = Bytes::from_static(b"x");
        let bytes = payload.map_or(&small, |n| &payloads()[n].0);
        publish(&mut self.engine, self.now, TOPICS[topic], bytes, None).unwrap();
        self.say(topic, payload, false, State::Complete);
    }

    pub(super) fn begin(&mut self, topic: usize, payload: usize, number: Option<u64>) {
        let producer = ProducerId([1; 16]);
        let origin = number.map(|number| PublicationId { producer, number });
        let opening = UploadRequest { topic: TOPICS[topic], size: SIZE as u64, stamp: 0, origin };
        let BeginOutcome::Arriving(upload) = self.engine.begin(self.now, &opening).unwrap() else {
            return;
        };
        let of = self.say(topic, Some(payload), true, State::Arriving);
        let again =
            |before: &&Sending| number.is_some() && before.number == number && before.of.0 == of.0;
        for before in self.sending.iter().filter(again) {
            self.history.get_mut(&before.of).unwrap().state = State::Aborted;
        }
        self.sending.push(Sending { upload, of, payload, sent: 0, number });
    }

    pub(super) fn append(&mut self, index: usize, size: usize) {
        let sending = &mut self.sending[index];
        let (payload, _) = &payloads()[sending.payload];
        let end = SIZE.min(sending.sent + size);
        if sending.sent == end {
            return;
        }
        let appended = self.engine.append(sending.upload, payload.slice(sending.sent..end));
        sending.sent = end;
        if let Err(failed) = appended {
            let sending = self.sending.swap_remove(index);
            self.failed(&sending, failed);
        }
    }

    pub(super) fn end(&mut self, index: usize) {
        for size in [65_536, SIZE] {
            let before = self.sending.len();
            self.append(index, size);
            if self.sending.len() < before {
                return;
            }
        }
        let sending = self.sending.swap_remove(index);
        match self.engine.end(self.now, sending.upload, payloads()[sending.payload].1) {
            Ok(receipt) => {
                assert!(!receipt.duplicate && receipt.sequence == sending.of.1);
                let said = self.history.get_mut(&sending.of).unwrap();
                (said.state, said.accepted) = (State::Complete, self.now);
            }
            Err(failed) => self.failed(&sending, failed),
        }
    }

    fn failed(&mut self, sending: &Sending, failed: UploadError) {
        let state = &mut self.history.get_mut(&sending.of).unwrap().state;
        match failed {
            UploadError::Superseded => assert_eq!(*state, State::Aborted),
            UploadError::Refused(why) => {
                let aborted = *state == State::Aborted;
                assert!(!self.roomy && (why.code == Code::OVERLOADED || aborted), "{why}");
                *state = State::Aborted;
            }
        }
    }

    pub(super) fn abort(&mut self, index: usize) {
        let sending = self.sending.swap_remove(index);
        self.engine.abort(sending.upload);
        self.history.get_mut(&sending.of).unwrap().state = State::Aborted;
    }
}
