//! One session over any transport, and its streams.

pub(crate) mod connection;
pub(crate) mod outbox;
pub(crate) mod stream;
