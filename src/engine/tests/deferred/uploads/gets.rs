//! Those who ask for one message: they get it, or are told why not.

use super::steps::Asked;
use super::{State, TOPICS, World, payloads};
use crate::wire::{Code, Digest, Which};

impl World {
    pub(super) fn get(&mut self, topic: usize, asked: Asked) {
        let name = TOPICS[topic];
        let found = self.engine.slot(name).and_then(|slot| self.engine.topic(slot));
        let Some((id, first, next)) =
            found.map(|topic| (topic.id(), topic.first_sequence(), topic.next_sequence()))
        else {
            let refused = self.engine.get(name, Which::Latest).map(|_| ()).unwrap_err();
            return assert_eq!(refused.code, Code::NOT_FOUND);
        };
        let digest = |payload: Option<usize>| match payload {
            Some(n) => payloads()[n].1,
            None => Digest::of(b"x"),
        };
        let is_there = |sequence: u64| {
            self.history[&(id, sequence)].state == State::Complete
                && !super::readers::is_gone(&self.engine, (id, sequence))
        };
        // The expected message; or the code, if that is certain.
        let (which, due) = match asked {
            Asked::Latest => {
                let newest = (first..next).rev().find(|sequence| is_there(*sequence));
                let code = if first > 1 { Code::EVICTED } else { Code::NOT_FOUND };
                (Which::Latest, newest.ok_or(Some(code)))
            }
            Asked::Sequence(sequence) => {
                let code = if !(1..next).contains(&sequence) {
                    Code::NOT_FOUND
                } else if super::readers::is_gone(&self.engine, (id, sequence)) {
                    Code::EVICTED
                } else {
                    Code::NOT_FOUND
                };
                let there = (first..next).contains(&sequence) && is_there(sequence);
                (Which::Sequence(sequence), if there { Ok(sequence) } else { Err(Some(code)) })
            }
            Asked::Payload(payload) => {
                let has = |sequence: &u64| {
                    let said = &self.history[&(id, *sequence)];
                    said.payload == payload && said.state == State::Complete
                };
                let newest = (1..next).rev().find(has);
                let due = match newest {
                    Some(newest) if newest >= first && is_there(newest) => Ok(newest),
                    // It may have outlived its message, as it was asked for.
                    Some(_) => Err(None),
                    None => Err(Some(Code::NOT_FOUND)),
                };
                (Which::Digest(digest(payload)), due)
            }
        };
        match (self.engine.get(name, which), due) {
            (Ok(message), Ok(due)) => {
                let said = &self.history[&(id, due)];
                assert_eq!((message.sequence(), message.position()), (due, said.position));
                assert_eq!(message.digest(), digest(said.payload));
                let bytes = said.payload.map_or(&b"x"[..], |n| &payloads()[n].0);
                assert!(message.is_complete() && message.payload() == bytes);
            }
            (Ok(message), Err(None)) => {
                assert_eq!(Which::Digest(message.digest()), which);
                assert_eq!(self.history[&(id, message.sequence())].state, State::Complete);
            }
            (Err(why), Err(None)) => {
                assert!([Code::EVICTED, Code::NOT_FOUND].contains(&why.code), "{why}");
            }
            (Err(why), Err(Some(code))) => assert_eq!(why.code, code, "{why}"),
            (Err(why), Ok(due)) => panic!("{due} is there: {why}"),
            (Ok(message), Err(Some(code))) => panic!("{} for {code:?}", message.sequence()),
        }
    }
}
