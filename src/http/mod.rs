//! The TCP side: page, API, events, WebSocket.

pub(crate) mod listen;
