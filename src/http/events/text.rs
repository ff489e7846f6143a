//! How the items of a stream are written as events.

use super::item::{Gap, Message, Payload, ReadItems, UnwrittenItem};
use crate::broker::Broker;
use crate::http::large::{Evicted, LargeText};
use crate::http::sent::Sent;
use crate::json;
use crate::wire::{GapCause, Refusal};
use bytes::Bytes;
use serde_json::json;
use std::io::Write as _;
use std::sync::Arc;

/// Bytes of text that the connection gets at once. One piece of a payload may come on top.
const CHUNK: usize = 16 << 10;

// A message whose payload is being written.
enum OpenMessage {
    Small(json::Payload),
    Large(LargeText),
}

/// Writes events, and counts how far the stream has come.
pub(super) struct EventWriter {
    broker: Arc<Broker>,
    open: Option<OpenMessage>,
    sent: Sent,
    // Whether the filter is one topic.
    exact: bool,
}

impl EventWriter {
    pub(super) fn new(broker: Arc<Broker>, sent: Sent, exact: bool) -> Self {
        Self { broker, open: None, sent, exact }
    }

    /// Returns whether a message is written only in part.
    pub(super) fn is_inside_message(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn sent(&mut self) -> &mut Sent {
        &mut self.sent
    }

    /// Appends the items that were read, up to a chunk.
    pub(super) async fn write(
        &mut self,
        read: &mut ReadItems,
        out: &mut Vec<u8>,
    ) -> Result<(), Evicted> {
        while out.len() < CHUNK {
            let ended = match &mut self.open {
                Some(OpenMessage::Small(payload)) => Some(payload.write(out)),
                Some(OpenMessage::Large(payload)) => Some(payload.write(out).await?),
                None => None,
            };
            if let Some(ended) = ended {
                if ended {
                    self.open = None;
                    let _ = write!(out, "\nid: {}\n\n", self.sent);
                }
                continue;
            }
            match read.items.pop_front() {
                Some(UnwrittenItem::Message(message)) => self.begin_message(message, out).await,
                Some(UnwrittenItem::Gap(gap)) => self.write_gap(&gap, out),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn begin_message(&mut self, message: Message, out: &mut Vec<u8>) {
        let open = match &message.payload {
            Payload::Small(payload) => {
                out.extend_from_slice(b"event: message\ndata: ");
                OpenMessage::Small(message.head().write(out, payload.clone()))
            }
            Payload::Large(large) => match LargeText::begin(&self.broker, *large).await {
                Ok(text) => {
                    out.extend_from_slice(b"event: message\ndata: ");
                    message.head().begin(out, large.size, text.is_text());
                    OpenMessage::Large(text)
                }
                Err(cause) => return self.write_gap(&message.into_gap(cause), out),
            },
        };
        self.open = Some(open);
        let epoch = self.exact.then_some(message.epoch);
        self.sent.event(message.id, epoch, message.sequence, Some(message.position));
    }

    fn write_gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        let Gap { id, ref topic, epoch, first, last, cause, exact } = *gap;
        // The sequences of an earlier epoch are used again.
        if cause != GapCause::Lost {
            self.sent.event(id, self.exact.then_some(epoch), last, None);
        }
        let data = json!({
            "event": "gap", "topic": &**topic, "first": first, "last": last,
            "cause": json::cause(cause), "epoch": epoch.to_string(), "exact": exact,
        });
        let _ = write!(out, "event: gap\ndata: {data}\n");
        if self.exact {
            self.write_id(out);
        }
        out.push(b'\n');
    }

    /// Appends the id of the stream's current progress.
    pub(super) fn write_id(&self, out: &mut Vec<u8>) {
        let _ = writeln!(out, "id: {}", self.sent);
    }
}

/// Appends the event that says how many of the messages that a client has received last were not
/// kept, at most, because the daemon was killed. Their topics are not known. The event goes on: the id
/// from which the client resumes next has to be a part of it.
pub(super) fn write_lost(most: u64, out: &mut Vec<u8>) {
    let data = json!({ "event": "lost", "most": most });
    let _ = writeln!(out, "event: lost\ndata: {data}");
}

/// Returns the event with which a stream ends.
pub(super) fn ended(reason: &Refusal) -> Bytes {
    let data = json!({
        "event": "ended", "code": reason.code.0, "name": reason.code.name(),
        "reason": reason.reason, "retry": reason.code.retry(),
    });
    format!("event: ended\ndata: {data}\n\n").into()
}
