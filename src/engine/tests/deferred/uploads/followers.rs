//! Those who follow one message.

use super::readers::grow;
use super::{History, SIZE, State};
use crate::engine::topic::body::Body;
use crate::engine::{Engine, Item, SubscriptionId};
use crate::wire::Code;

/// One that has only one message to read, a large one.
pub(super) struct Follower {
    pub(super) id: SubscriptionId,
    pub(super) of: (u64, u64),
    // None before its beginning.
    pub(super) bytes: Option<usize>,
    pub(super) over: bool,
}

impl Follower {
    pub(super) fn has_something(&self, engine: &Engine) -> bool {
        let topic = engine.by_id.get(&self.of.0).and_then(|slot| engine.topic(*slot));
        match topic.and_then(|topic| topic.entry(self.of.1)).map(|entry| &entry.body) {
            Some(Body::Arriving(arriving)) => self.bytes != Some(arriving.rope.len()),
            _ => true,
        }
    }

    /// As [`Reader::read`]; none after its end.
    pub(super) fn read(
        &mut self,
        engine: &mut Engine,
        history: &History,
        budget: usize,
    ) -> Option<(bool, bool)> {
        let (mut any, was_over) = (false, self.over);
        let read = engine.read(self.id, budget, &mut |item| {
            any = true;
            assert!(!self.over, "{item:?} after the end");
            match &item {
                Item::Begin(message) => {
                    assert_eq!((message.topic_id(), message.sequence()), self.of);
                    assert_eq!(self.bytes.replace(0), None);
                }
                Item::Chunk(chunk) => {
                    grow(self.bytes.as_mut().unwrap(), history[&self.of].payload, chunk);
                }
                Item::End { .. } => {
                    assert_eq!(self.bytes, Some(SIZE));
                    assert_eq!(history[&self.of].state, State::Complete);
                    self.over = true;
                }
                Item::Abort { .. } => self.over = true,
                other => panic!("{other:?}"),
            }
        });
        match read {
            Ok(again) => Some((again, any)),
            Err(why) => {
                assert!(was_over && why.code == Code::DONE, "{why}");
                None
            }
        }
    }
}
