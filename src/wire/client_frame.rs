//! Frames that a client sends. Appending a variant is the only change that keeps the version.

use super::fields::{Delivery, Lag, ProducerId, Start, Which};
use super::frame::{DecodeError, decode, encode, raw};
use super::{Code, Digest};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A frame from the client to the daemon.
///
/// The client chooses `request`, a number above all that it used before in the session; the answer
/// repeats it. A subscription is named by the request that began it.
///
/// ```
/// use weir::wire::ClientFrame;
///
/// let ping = ClientFrame::Ping { request: 1 };
/// let mut bytes = Vec::new();
/// ping.encode(&mut bytes);
/// assert_eq!(bytes, [2, 10, 1], "a length, the kind, the request");
/// assert_eq!(ClientFrame::decode(&bytes[1..])?, ping);
/// # Ok::<(), weir::wire::DecodeError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientFrame<'a> {
    /// The first frame of the control stream. The client may send further frames before the answer
    /// arrives.
    Hello {
        /// [`VERSION`](super::VERSION).
        version: u32,
        /// The producer whose numbers the publications of this session have.
        producer: ProducerId,
        /// Proof of the client's rights, if the daemon requires one.
        token: Option<&'a str>,
        /// Name and version of the client, for logs.
        agent: &'a str,
    },
    /// Declares that `alias` names the topic `name` for the rest of the session. It precedes the
    /// first use on each stream. A second declaration with the same name has no effect.
    Topic {
        /// A number that the client chooses.
        alias: u32,
        /// The topic.
        name: &'a str,
    },
    /// One publication, on a unidirectional stream, or in a datagram (`realtime`).
    Publish {
        /// The topic.
        alias: u32,
        /// Number of the publication, counted from 1 for each producer and topic.
        number: u64,
        /// The publisher's clock, µs since 1970; 0 means none.
        stamp: u64,
        /// The published bytes.
        #[serde(borrow, serialize_with = "raw")]
        payload: &'a [u8],
    },
    /// The head of a publication that is sent while it is produced (cut-through), alone on its
    /// stream. [`Chunk`](Self::Chunk)s and an [`End`](Self::End) follow.
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
        /// Digest of the whole payload. The daemon rejects a payload with another digest.
        digest: Digest,
    },
    /// Subscribes to the messages of every topic that the filter matches.
    Subscribe {
        /// Number of the subscription.
        request: u32,
        /// The filter.
        filter: &'a str,
        /// The first message of each topic.
        #[serde(borrow)]
        start: Start<'a>,
        /// How the daemon carries the messages.
        delivery: Delivery,
        /// The reaction to the eviction of messages that the client has not received.
        lag: Lag,
        /// `realtime` only: maximum age of a message, ms. The daemon drops older ones; 0 means no
        /// limit.
        deadline: u32,
    },
    /// Ends a subscription. The daemon answers with [`Ended`](super::DaemonFrame::Ended).
    Unsubscribe {
        /// Number of the subscription.
        subscription: u32,
    },
    /// Requests one message. The answer is a unidirectional stream that begins with
    /// [`For`](super::DaemonFrame::For), or the frame [`Failed`](super::DaemonFrame::Failed).
    Get {
        /// Number of the request.
        request: u32,
        /// The topic.
        topic: &'a str,
        /// Which message.
        which: Which,
    },
    /// Requests the payloads with the highest counts.
    Top {
        /// Number of the request.
        request: u32,
        /// The topic.
        topic: &'a str,
        /// Maximum number of payloads. The daemon keeps 100 for each topic.
        k: u32,
    },
    /// Requests a [`Pong`](super::DaemonFrame::Pong).
    Ping {
        /// Number of the request.
        request: u32,
    },
    /// `realtime`: requests messages that did not arrive, on the control stream or in a datagram.
    Repair {
        /// Number of the subscription.
        subscription: u32,
        /// Id of the topic.
        topic: u64,
        /// First and last sequence of each range that is missing.
        holes: Vec<(u64, u64)>,
    },
    /// The client ends the session.
    Goodbye {
        /// Code of the reason.
        code: Code,
        /// The reason in words.
        reason: &'a str,
    },
    /// Says which frames the client can decode. The daemon sends it no others. Without this frame it
    /// sends those up to [`Mark`](super::DaemonFrame::Mark).
    Knows {
        /// The client knows every [`DaemonFrame`](super::DaemonFrame) whose index is below this.
        frames: u32,
    },
    /// Shows a new token, before the session's rights end. The answer is
    /// [`Authorized`](super::DaemonFrame::Authorized), or [`Failed`](super::DaemonFrame::Failed); then
    /// the session goes on with the rights that it had.
    Token {
        /// Number of the request.
        request: u32,
        /// As in [`Hello`](Self::Hello).
        token: &'a str,
    },
}

impl fmt::Debug for ClientFrame<'_> {
    // Without the token, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        macro_rules! shown {
            ($($name:ident { $($field:ident),+ })+) => {
                match self {
                    Self::Hello { version, producer, token, agent } => f
                        .debug_struct("Hello")
                        .field("version", version)
                        .field("producer", producer)
                        .field("token", &token.map(|_| "…"))
                        .field("agent", agent)
                        .finish(),
                    Self::Token { request, token: _ } => {
                        f.debug_struct("Token").field("request", request).finish_non_exhaustive()
                    }
                    $(Self::$name { $($field),+ } => {
                        f.debug_struct(stringify!($name))
                            $(.field(stringify!($field), $field))+
                            .finish()
                    })+
                }
            };
        }
        shown! {
            Topic { alias, name }
            Publish { alias, number, stamp, payload }
            Begin { alias, number, stamp, size }
            Chunk { bytes }
            End { digest }
            Subscribe { request, filter, start, delivery, lag, deadline }
            Unsubscribe { subscription }
            Get { request, topic, which }
            Top { request, topic, k }
            Ping { request }
            Repair { subscription, topic, holes }
            Goodbye { code, reason }
            Knows { frames }
        }
    }
}

/// The first byte of those client frames that may be large, or whose answer may be.
pub(super) mod kind {
    pub(in crate::wire) const PUBLISH: u8 = 2;
    pub(in crate::wire) const CHUNK: u8 = 4;
    pub(in crate::wire) const SUBSCRIBE: u8 = 6;
    pub(in crate::wire) const GET: u8 = 8;
    pub(in crate::wire) const TOKEN: u8 = 14;
}

impl<'a> ClientFrame<'a> {
    /// Appends the frame, preceded by its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
    }

    /// Decodes a frame from exactly its bytes, without the length.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }

    /// Returns whether this may be a [`Get`](Self::Get), whose answer may be large. Every kind has
    /// an index of one byte; a padded form of the index may be any kind.
    pub fn may_get(frame: &[u8]) -> bool {
        frame.first().is_some_and(|kind| *kind == kind::GET || kind & 0x80 != 0)
    }

    /// Returns whether this may be a [`Token`](Self::Token), as [`may_get`](Self::may_get).
    pub fn may_show_token(frame: &[u8]) -> bool {
        frame.first().is_some_and(|kind| *kind == kind::TOKEN || kind & 0x80 != 0)
    }

    /// Returns the alias and the number of the publication that begins with these bytes. Returns
    /// `None` if they are too few, or belong to another kind of frame.
    pub fn publication(start: &[u8]) -> Option<(u32, u64)> {
        let head = postcard::take_from_bytes::<(u8, u32, u64)>(start);
        let ((kind, alias, number), _) = head.ok()?;
        (kind == kind::PUBLISH).then_some((alias, number))
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
        let token = encoded(&ClientFrame::Token { request: 1, token: "t" });
        assert!(token[0] == kind::TOKEN && ClientFrame::may_show_token(&token));
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
