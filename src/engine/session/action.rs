//! The actions that follow from a peer's frame.

use crate::engine::ids::SubscriptionId;
use crate::wire::{Code, Delivery, Encoded};
use bytes::Bytes;

/// An action for the daemon. Each one that ends or refuses something says why, with a code.
#[derive(Debug)]
pub enum Action {
    /// Begin to deliver: read the subscription whenever it is woken.
    Deliver {
        /// The subscription's number on the wire.
        request: u32,
        /// The subscription.
        subscription: SubscriptionId,
        /// How its messages are carried.
        delivery: Delivery,
        /// Messages older than this are skipped, µs; 0 is none.
        deadline: u64,
        /// Whether its datagrams leave out its number: it is the session's first with datagrams.
        bare: bool,
        /// The engine's position when the subscription began.
        position: u64,
        /// The position from which its client is sent marks, because its filter matches any number
        /// of topics.
        marks: Option<u64>,
    },
    /// Send lost messages again: see [`Engine::repair`](crate::engine::Engine::repair).
    Repair {
        /// The subscription's number on the wire.
        request: u32,
        /// The topic's id.
        topic: u64,
        /// First and last sequence of each hole.
        holes: Vec<(u64, u64)>,
        /// Whether to send them on the subscription's stream, and not in datagrams.
        reliably: bool,
    },
    /// Acknowledge this alias in a datagram soon: see
    /// [`Session::acknowledge`](crate::engine::Session::acknowledge).
    Acknowledge {
        /// As published.
        alias: u32,
    },
    /// Stop delivering: the subscription has ended.
    Stop {
        /// The subscription's number on the wire.
        request: u32,
        /// Why it has ended.
        code: Code,
    },
    /// Send this message on a unidirectional stream of its own.
    Answer {
        /// The request's number on the wire.
        request: u32,
        /// Frames that come first: the number, and the topic.
        head: [Bytes; 2],
        /// The message.
        message: GetReply,
    },
    /// A publication in chunks was answered before its end. If it has a stream of its own, stop that
    /// stream and read no more of it.
    StopReading {
        /// Why: [`Code::DONE`] if the publication was accepted before, or is sent again.
        code: Code,
    },
    /// A publication or a request was refused. The peer has been told.
    Refused {
        /// Why.
        code: Code,
    },
    /// The peer has said which frames it knows: see
    /// [`Session::knows`](crate::engine::Session::knows).
    Knows,
    /// The peer said goodbye.
    PeerLeft {
        /// Why.
        code: Code,
    },
}

/// A message that a peer has requested.
#[derive(Debug)]
pub enum GetReply {
    /// Its bytes.
    Small(Encoded),
    /// It is large: [`Engine::follow`](crate::engine::Engine::follow) it.
    Large {
        /// The topic's id.
        topic: u64,
        /// Sequence in the topic.
        sequence: u64,
    },
}
