//! The frames, both ways. Appending a variant is the only change that keeps the version.

use super::fields::{Delivery, GapCause, Lag, Limits, ProducerId, Start, TopEntry, Which};
use super::{Code, Digest, FRAME_OVERHEAD, varint};
use serde::{Deserialize, Serialize, Serializer};

/// Client to daemon. `request` is a number the client chooses, above all it used before in the
/// session; an answer repeats it. A subscription goes by the request that began it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientFrame<'a> {
    /// First frame of the control stream. Further frames may follow before the answer.
    Hello {
        /// [`VERSION`](super::VERSION).
        version: u32,
        /// Who numbers the publications of this session.
        producer: ProducerId,
        /// Proof of what the client may do, where the daemon asks for one.
        token: Option<&'a str>,
        /// Name and version of the client, for logs.
        agent: &'a str,
    },
    /// From here on, in this session, `alias` stands for the topic `name`. Precedes the first use
    /// on each stream; saying it again with the same name changes nothing.
    Topic {
        /// Chosen by the client.
        alias: u32,
        /// The topic.
        name: &'a str,
    },
    /// One publication. On a uni stream of the client's, or (`realtime`) in a datagram.
    Publish {
        /// The topic.
        alias: u32,
        /// 1, 2, 3 … per producer and topic.
        number: u64,
        /// The publisher's clock, µs since 1970; 0 is none.
        stamp: u64,
        /// What is published.
        #[serde(borrow, serialize_with = "raw")]
        payload: &'a [u8],
    },
    /// Head of a publication that is sent while it is being made (cut-through), alone on its
    /// stream; [`Chunk`](Self::Chunk)s and an [`End`](Self::End) follow.
    Begin {
        /// The topic.
        alias: u32,
        /// As in [`Publish`](Self::Publish).
        number: u64,
        /// As in [`Publish`](Self::Publish).
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
    /// The payload is complete.
    End {
        /// Digest of the whole; the daemon refuses a payload that has another.
        digest: Digest,
    },
    /// Asks for the messages of every topic that the filter matches.
    Subscribe {
        /// Names the subscription.
        request: u32,
        /// The filter.
        filter: &'a str,
        /// Where to begin.
        #[serde(borrow)]
        start: Start<'a>,
        /// How to carry them.
        delivery: Delivery,
        /// What to do when the client falls behind the cache.
        lag: Lag,
        /// `realtime` only: give a message up when it is older than this, ms; 0 is never.
        deadline: u32,
    },
    /// Ends a subscription; answered by [`Ended`](DaemonFrame::Ended).
    Unsubscribe {
        /// The subscription's request.
        subscription: u32,
    },
    /// Asks for one message. The answer comes on a uni stream that begins with
    /// [`For`](DaemonFrame::For), or is [`Failed`](DaemonFrame::Failed).
    Get {
        /// Names the answer.
        request: u32,
        /// The topic.
        topic: &'a str,
        /// Which message.
        which: Which,
    },
    /// Asks for the payloads with the highest counts.
    Top {
        /// Names the answer.
        request: u32,
        /// The topic.
        topic: &'a str,
        /// How many; the daemon keeps 100 a topic.
        k: u32,
    },
    /// Asks for a [`Pong`](DaemonFrame::Pong).
    Ping {
        /// Names the answer.
        request: u32,
    },
    /// `realtime`: asks for messages that did not come. On the control stream or in a datagram.
    Repair {
        /// The subscription.
        subscription: u32,
        /// The topic's id.
        topic: u64,
        /// First and last sequence of each hole.
        holes: Vec<(u64, u64)>,
    },
    /// The client leaves.
    Goodbye {
        /// Why.
        code: Code,
        /// Why, in words.
        reason: &'a str,
    },
}

/// What a client's frames begin with, of those that may cost more than others.
pub(super) mod kind {
    pub(in crate::wire) const PUBLISH: u8 = 2;
    pub(in crate::wire) const CHUNK: u8 = 4;
    pub(in crate::wire) const SUBSCRIBE: u8 = 6;
    pub(in crate::wire) const GET: u8 = 8;
}

/// Daemon to client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DaemonFrame<'a> {
    /// Answer to the hello; first frame on the control stream.
    Welcome {
        /// The version spoken from here on.
        version: u32,
        /// Names the session in the daemon's logs.
        session: u64,
        /// Names the run that positions belong to.
        run: u64,
        /// The daemon's clock, µs since 1970.
        clock: u64,
        /// What the daemon accepts.
        limits: Limits,
        /// Name and version of the daemon, for logs.
        agent: &'a str,
    },
    /// What follows on this stream belongs to the request: a subscription or a get. First frame
    /// of each of the daemon's uni streams; where one channel carries all (WebSocket, datagrams),
    /// whenever it changes.
    For {
        /// The request.
        request: u32,
    },
    /// From here on, for this request, `id` stands for the topic `name`. Said before the first
    /// message or gap of the topic, and again when its epoch has changed.
    Topic {
        /// Daemon-wide; never used for another topic in the same run.
        id: u64,
        /// Names the run of sequences.
        epoch: u64,
        /// The first sequence that this subscription will be sent, or told a gap for.
        next: u64,
        /// The topic.
        name: &'a str,
    },
    /// One message. The same bytes for every subscriber.
    Message {
        /// Topic id.
        topic: u64,
        /// Sequence in the topic.
        sequence: u64,
        /// Times the payload was published to the topic, this time included.
        count: u64,
        /// The publisher's clock, µs since 1970; 0 is none.
        stamp: u64,
        /// What was published.
        #[serde(borrow, serialize_with = "raw")]
        payload: &'a [u8],
    },
    /// Head of a message that is relayed while it arrives (cut-through);
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
        /// Digest of the whole; what does not have it is not to be used.
        digest: Digest,
    },
    /// The message will not be completed: its sequence is a gap.
    Abort {
        /// Why.
        code: Code,
    },
    /// The subscription will never be sent these.
    Gap {
        /// Topic id.
        topic: u64,
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
        /// Why.
        cause: GapCause,
    },
    /// `realtime`: the topic's newest sequence, told when a burst ends.
    Head {
        /// Topic id.
        topic: u64,
        /// The newest sequence.
        sequence: u64,
    },
    /// A publication was accepted, now or when it came before.
    Receipt {
        /// As published.
        alias: u32,
        /// As published.
        number: u64,
        /// The sequence it has.
        sequence: u64,
        /// Times the payload was published to the topic, that time included; 0 in a repeated
        /// receipt whose message has left the cache.
        count: u64,
        /// 0: the count covers the whole epoch. Else µs since 1970: publications before then may
        /// have been forgotten.
        since: u64,
        /// Digest of the payload.
        digest: Digest,
        /// Whether it had been accepted before, and so was not counted again.
        duplicate: bool,
    },
    /// `realtime`: publications that were accepted, in a datagram.
    Acknowledge {
        /// As published.
        alias: u32,
        /// Every number up to this was accepted or given up.
        floor: u64,
        /// Bit i: number floor + 1 + i was accepted.
        seen: u64,
    },
    /// A publication was refused; the session goes on.
    Rejected {
        /// As published.
        alias: u32,
        /// As published.
        number: u64,
        /// Why.
        code: Code,
        /// Why, in words.
        reason: &'a str,
    },
    /// The subscription stands.
    Subscribed {
        /// The subscription.
        request: u32,
        /// The daemon's position when it began; shown to [`Start::Resume`].
        position: u64,
    },
    /// The subscription has ended; nothing more is sent for it.
    Ended {
        /// The subscription.
        request: u32,
        /// Why.
        code: Code,
        /// Why, in words.
        reason: &'a str,
    },
    /// The payloads with the highest counts, highest first.
    Top {
        /// The request.
        request: u32,
        /// At most as many as asked for.
        #[serde(borrow)]
        entries: Vec<TopEntry<'a>>,
    },
    /// Answer to a ping.
    Pong {
        /// The request.
        request: u32,
        /// The daemon's clock, µs since 1970.
        clock: u64,
    },
    /// A request was refused; the session goes on.
    Failed {
        /// The request.
        request: u32,
        /// Why.
        code: Code,
        /// Why, in words.
        reason: &'a str,
    },
    /// The daemon will stop: go on, but connect elsewhere.
    Drain {
        /// How long this session is still served, ms.
        within: u32,
        /// Why, in words.
        reason: &'a str,
    },
    /// The daemon closes the session; the last frame on the control stream.
    Goodbye {
        /// Why.
        code: Code,
        /// What was wrong, and what to do.
        reason: &'a str,
        /// Whether to reconnect.
        retry: bool,
    },
    /// Everything that this subscription gets of messages up to `position`, and is told of them,
    /// stands before this on this stream. So a client that resumes need not list the topics of
    /// which nothing came after it.
    Mark {
        /// As in [`Subscribed`](Self::Subscribed), and above that of every mark before.
        position: u64,
    },
}

/// Bytes that are not a frame of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a frame of weir/1: see docs/protocol.md")]
pub struct DecodeError;

// Bytes in one go: serde's own serializer for `&[u8]` goes element by element.
fn raw<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn encode<T: Serialize>(frame: &T, out: &mut Vec<u8>) {
    // The length in front takes 1 to 5 bytes: write the frame first, then move it up by the rest.
    let start = out.len();
    out.push(0);
    let taken = std::mem::take(out);
    // Extending a Vec cannot fail, and no frame holds a value that postcard refuses.
    *out = postcard::to_extend(frame, taken).unwrap_or_default();
    let body = out.len() - start - 1;
    let width = varint::len(body as u64);
    if width > 1 {
        out.resize(out.len() + width - 1, 0);
        out.copy_within(start + 1..start + 1 + body, start + width);
    }
    varint::write(&mut out[start..start + width], body as u64);
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((frame, [])) => Ok(frame),
        _ => Err(DecodeError),
    }
}

impl<'a> ClientFrame<'a> {
    /// Appends the frame with its length in front.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
    }

    /// Reads a frame from exactly its bytes, without the length.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }

    /// Whether this may be a [`Get`](Self::Get), whose answer may be large. Every kind has an index of one
    /// byte; a longer form of it may be any.
    pub fn may_get(frame: &[u8]) -> bool {
        frame.first().is_some_and(|kind| *kind == kind::GET || kind & 0x80 != 0)
    }

    /// Of which publication, by its alias and number, these are the first bytes; none if they are
    /// too few, or those of another frame.
    pub fn publication(begun: &[u8]) -> Option<(u32, u64)> {
        let head = postcard::take_from_bytes::<(u8, u32, u64)>(begun);
        let ((kind, alias, number), _) = head.ok()?;
        (kind == kind::PUBLISH).then_some((alias, number))
    }
}

impl<'a> DaemonFrame<'a> {
    /// Appends the frame with its length in front.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
    }

    /// The frame with its length in front.
    pub fn to_bytes(&self) -> bytes::Bytes {
        let mut out = Vec::with_capacity(FRAME_OVERHEAD);
        self.encode(&mut out);
        out.into()
    }

    /// Reads a frame from exactly its bytes, without the length.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_is_the_kind_and_the_next_say_which_publication() {
        let encoded = |frame: &ClientFrame<'_>| {
            let mut out = Vec::new();
            frame.encode(&mut out);
            out.split_off(1)
        };
        let publish = ClientFrame::Publish { alias: 300, number: 1 << 40, stamp: 7, payload: b"x" };
        let publish = encoded(&publish);
        assert_eq!(publish[0], kind::PUBLISH);
        assert_eq!(encoded(&ClientFrame::Chunk { bytes: b"x" })[0], kind::CHUNK);
        let subscribe = ClientFrame::Subscribe {
            request: 1,
            filter: "a",
            start: Start::New,
            delivery: Delivery::Ordered,
            lag: Lag::Oldest,
            deadline: 0,
        };
        assert_eq!(encoded(&subscribe)[0], kind::SUBSCRIBE);
        let get = encoded(&ClientFrame::Get { request: 1, topic: "a", which: Which::Latest });
        assert!(get[0] == kind::GET && ClientFrame::may_get(&get));
        let padded = [&[get[0] | 0x80, 0], &get[1..]].concat();
        assert_eq!(ClientFrame::decode(&padded), ClientFrame::decode(&get));
        assert!(ClientFrame::may_get(&padded) && !ClientFrame::may_get(&publish));
        for length in 0..publish.len() {
            let known = ClientFrame::publication(&publish[..length]);
            assert_eq!(known, (length >= 9).then_some((300, 1 << 40)), "{length}");
        }
        assert_eq!(ClientFrame::publication(&encoded(&subscribe)), None);
    }
}
