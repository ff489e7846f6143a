//! Frames that the daemon sends. Appending a variant is the only change that keeps the version.

use super::fields::{Limits, TopEntry};
use super::frame::{DecodeError, decode, encode, raw};
use super::gap_cause::GapCause;
use super::{Code, Digest, FRAME_OVERHEAD};
use serde::{Deserialize, Serialize};

/// A frame from the daemon to the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DaemonFrame<'a> {
    /// The answer to the hello, and the first frame on the control stream.
    Welcome {
        /// The protocol version of the session.
        version: u32,
        /// Number of the session in the daemon's logs.
        session: u64,
        /// The run of the daemon that positions belong to.
        run: u64,
        /// The daemon's clock, µs since 1970.
        clock: u64,
        /// Limits of what the daemon accepts.
        limits: Limits,
        /// Name and version of the daemon, for logs.
        agent: &'a str,
    },
    /// The frames that follow belong to this request: a subscription or a get.
    ///
    /// It is the first frame of each of the daemon's unidirectional streams. A channel that carries
    /// several requests, a WebSocket or datagrams, has it whenever the request changes.
    For {
        /// Number of the request.
        request: u32,
    },
    /// Declares that `id` names the topic `name` for the rest of this request. It precedes the
    /// topic's first message or gap, and is sent again when the topic's epoch has changed.
    Topic {
        /// An id that is the same for all sessions, and names one topic for the whole run.
        id: u64,
        /// Epoch of the topic's sequences.
        epoch: u64,
        /// The first sequence for which this subscription receives a message or a gap.
        next: u64,
        /// The topic.
        name: &'a str,
    },
    /// One message. Every subscriber receives the same bytes.
    Message {
        /// Topic id.
        topic: u64,
        /// Sequence in the topic.
        sequence: u64,
        /// How often the payload has been published to the topic, this publication included.
        count: u64,
        /// The publisher's clock, µs since 1970; 0 means none.
        stamp: u64,
        /// The published bytes.
        #[serde(borrow, serialize_with = "raw")]
        payload: &'a [u8],
    },
    /// The head of a message that is relayed while it arrives (cut-through).
    /// [`Chunk`](Self::Chunk)s and an [`End`](Self::End) or [`Abort`](Self::Abort) follow.
    Begin {
        /// Topic id.
        topic: u64,
        /// Sequence in the topic.
        sequence: u64,
        /// As in [`Message`](Self::Message).
        stamp: u64,
        /// Length of the payload, bytes.
        size: u64,
    },
    /// The next bytes of the payload.
    Chunk {
        /// At most 64 KiB.
        #[serde(borrow, serialize_with = "raw")]
        bytes: &'a [u8],
    },
    /// The message is complete.
    End {
        /// As in [`Message`](Self::Message).
        count: u64,
        /// Digest of the whole payload. The client discards a payload with another digest.
        digest: Digest,
    },
    /// The message will not be completed; its sequence is a gap.
    Abort {
        /// Code of the reason.
        code: Code,
    },
    /// Sequences that the subscription will never receive.
    Gap {
        /// Topic id.
        topic: u64,
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
        /// The reason.
        cause: GapCause,
    },
    /// `realtime`: the topic's newest sequence, sent when a burst ends.
    Head {
        /// Topic id.
        topic: u64,
        /// The newest sequence.
        sequence: u64,
    },
    /// A publication was accepted, now or when it arrived earlier.
    Receipt {
        /// As published.
        alias: u32,
        /// As published.
        number: u64,
        /// Sequence of the message.
        sequence: u64,
        /// How often the payload has been published to the topic, that publication included; 0 in
        /// a repeated receipt whose message has left the cache.
        count: u64,
        /// 0 if the count covers the whole epoch. Otherwise the time at which counting restarted,
        /// µs since 1970: earlier publications may be missing from the count.
        since: u64,
        /// Digest of the payload.
        digest: Digest,
        /// Whether the publication had been accepted before, and so was not counted again.
        duplicate: bool,
    },
    /// `realtime`: acknowledges publications. Sent in a datagram.
    Acknowledge {
        /// As published.
        alias: u32,
        /// Every number up to this one was accepted, or has left the producer's window.
        floor: u64,
        /// If bit i is set, number floor + 1 + i was accepted.
        seen: u64,
    },
    /// A publication was rejected; the session continues.
    Rejected {
        /// As published.
        alias: u32,
        /// As published.
        number: u64,
        /// Code of the reason.
        code: Code,
        /// The reason in words.
        reason: &'a str,
    },
    /// The subscription has begun.
    Subscribed {
        /// Number of the subscription.
        request: u32,
        /// The daemon's position when it began; [`Start::Resume`](super::Start::Resume) takes it.
        position: u64,
    },
    /// The subscription has ended; the daemon sends nothing more for it.
    Ended {
        /// Number of the subscription.
        request: u32,
        /// Code of the reason.
        code: Code,
        /// The reason in words.
        reason: &'a str,
    },
    /// The payloads with the highest counts, highest first.
    Top {
        /// Number of the request.
        request: u32,
        /// At most as many as the client requested.
        #[serde(borrow)]
        entries: Vec<TopEntry<'a>>,
    },
    /// The answer to a ping.
    Pong {
        /// Number of the request.
        request: u32,
        /// The daemon's clock, µs since 1970.
        clock: u64,
    },
    /// A request was refused; the session continues.
    Failed {
        /// Number of the request.
        request: u32,
        /// Code of the reason.
        code: Code,
        /// The reason in words.
        reason: &'a str,
    },
    /// The daemon will stop. The session continues until then; the client should connect elsewhere.
    Drain {
        /// How long the daemon still serves this session, ms.
        within: u32,
        /// The reason in words.
        reason: &'a str,
    },
    /// The daemon ends the session. The last frame on the control stream.
    Goodbye {
        /// Code of the reason.
        code: Code,
        /// The reason, and what to do about it, in words.
        reason: &'a str,
        /// Whether the client may reconnect.
        retry: bool,
    },
    /// All messages and gaps of this subscription up to `position` precede this frame on this
    /// stream. A client that resumes therefore need not list topics without a later frame.
    Mark {
        /// As in [`Subscribed`](Self::Subscribed), and above that of every earlier mark.
        position: u64,
    },
    /// The state of the daemon has changed; the session continues. Only for clients that
    /// [know](super::ClientFrame::Knows) it.
    Notice {
        /// Code of the state: [`UNKEPT`](Code::UNKEPT) while publications are accepted and not kept,
        /// [`DONE`](Code::DONE) when the state of the last notice has ended.
        code: Code,
        /// The state in words.
        reason: &'a str,
    },
    /// The identity of the session, after the welcome or after a new token. Only for clients that
    /// [know](super::ClientFrame::Knows) it.
    Authorized {
        /// Number of the request, or 0 after the welcome.
        request: u32,
        /// How long the rights hold, ms; 0 means without end. The session ends then, unless the
        /// client shows a new token before.
        lifetime: u64,
        /// The name of the session's identity; empty if it has none.
        name: &'a str,
    },
}

/// The number of kinds of [`DaemonFrame`]s.
pub const DAEMON_FRAMES: u32 = 23;

/// The kinds that a client knows that has not said which it [knows](super::ClientFrame::Knows).
pub const FIRST_DAEMON_FRAMES: u32 = 21;

/// Kind of [`DaemonFrame::Receipt`].
#[cfg(feature = "daemon")]
const RECEIPT: u8 = 10;

/// Moves the receipts among encoded frames to a buffer of their own. Both keep their order.
#[cfg(feature = "daemon")]
pub(crate) fn take_receipts(frames: &mut Vec<u8>) -> Vec<u8> {
    let (mut receipts, mut others) = (Vec::new(), Vec::new());
    let mut rest = &frames[..];
    while let Ok(Some(span)) = super::frame_span(rest)
        && let Some((frame, after)) = rest.split_at_checked(span)
    {
        let kind = frame.iter().skip_while(|byte| **byte & 0x80 != 0).nth(1);
        if kind == Some(&RECEIPT) { &mut receipts } else { &mut others }.extend_from_slice(frame);
        rest = after;
    }
    *frames = others;
    receipts
}

impl<'a> DaemonFrame<'a> {
    /// Appends the frame, preceded by its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
    }

    /// Returns the frame, preceded by its length.
    pub fn to_bytes(&self) -> bytes::Bytes {
        let mut out = Vec::with_capacity(FRAME_OVERHEAD);
        self.encode(&mut out);
        out.into()
    }

    /// Decodes a frame from exactly its bytes, without the length.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }

    /// Returns whether the frame belongs to the request that the last [`For`](Self::For) named.
    /// A `For` itself, and the frames of the control stream, do not.
    pub fn is_for_request(&self) -> bool {
        matches!(
            self,
            Self::Topic { .. }
                | Self::Message { .. }
                | Self::Begin { .. }
                | Self::Chunk { .. }
                | Self::End { .. }
                | Self::Abort { .. }
                | Self::Gap { .. }
                | Self::Head { .. }
                | Self::Mark { .. }
        )
    }
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_told_from_other_frames() {
        let digest = Digest([7; 32]);
        let receipt = |number| DaemonFrame::Receipt {
            alias: 1,
            number,
            sequence: 300,
            count: 1,
            since: 0,
            digest,
            duplicate: false,
        };
        let reason = "x".repeat(300);
        let failed = DaemonFrame::Failed { request: 10, code: Code::OVERLOADED, reason: &reason };
        let pong = DaemonFrame::Pong { request: 10, clock: 10 };
        let encode = |frames: &[&DaemonFrame<'_>]| {
            let mut out = Vec::new();
            frames.iter().for_each(|frame| frame.encode(&mut out));
            out
        };
        let (one, two) = (receipt(1), receipt(1 << 40));
        let mut out = encode(&[&one, &failed, &two, &pong]);
        assert_eq!(take_receipts(&mut out), encode(&[&one, &two]));
        assert_eq!(out, encode(&[&failed, &pong]));
    }
}
