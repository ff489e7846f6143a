//! What a peer's frame asks of the shell.

use crate::engine::SubscriptionId;
use crate::wire::{Code, Delivery, Encoded};
use bytes::Bytes;

/// What the shell is to do.
#[derive(Debug)]
pub enum Action {
    /// Begin to deliver: read the subscription whenever it is named.
    Deliver {
        /// The subscription's name on the wire.
        request: u32,
        /// The subscription.
        subscription: SubscriptionId,
        /// How to carry its messages.
        delivery: Delivery,
        /// Messages older than this are to be passed over, µs; 0 is none.
        deadline: u64,
        /// Whether its datagrams need not say whose they are: it is the session's first with any.
        bare: bool,
        /// Whether its client is to be told how far it has come, from position to position: its
        /// filter matches any number of topics. None if not.
        marks: Option<u64>,
    },
    /// Send again what did not come: see [`Engine::repair`](crate::engine::Engine::repair).
    Repair {
        /// The subscription's name on the wire.
        request: u32,
        /// The topic's id.
        topic: u64,
        /// First and last sequence of each hole.
        holes: Vec<(u64, u64)>,
        /// On the subscription's stream; else in datagrams.
        reliably: bool,
    },
    /// Acknowledge this alias in a datagram before long: see
    /// [`Session::acknowledge`](crate::engine::Session::acknowledge).
    Acknowledge {
        /// As published.
        alias: u32,
    },
    /// Stop delivering: it is no longer a subscription.
    Stop {
        /// The subscription's name on the wire.
        request: u32,
    },
    /// Send this on a uni stream of its own.
    Answer {
        /// The question's name on the wire.
        request: u32,
        /// Frames that come first: whom it is for, and the topic.
        head: [Bytes; 2],
        /// The message.
        message: GetReply,
    },
    /// A publication was answered before its end: if it stands on a stream of its own, stop that,
    /// and read no further.
    Enough {
        /// Why.
        code: Code,
    },
    /// The peer said goodbye.
    Left(Code),
}

/// A message that was asked for.
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
