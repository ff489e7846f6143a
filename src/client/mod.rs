//! A native peer: publish, subscribe, look up, over raw QUIC, WebTransport or WebSocket.
//!
//! ```
//! # #[cfg(feature = "daemon")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
//! # let server = daemon.local_addr().to_string();
//! # let trust = weir::Trust::Pinned(daemon.certificate_hashes());
//! // `Client::connect("localhost:4433")` if the defaults do.
//! let client = weir::Client::builder(server).trust(trust).connect().await?;
//! let mut news = client.subscribe("demo/*", &weir::SubscribeOptions::default()).await?;
//! let receipt = client.publish("demo/a", "hello").await?;
//! println!("message {}, published {} times", receipt.sequence, receipt.count);
//! while let Some(event) = news.next().await {
//!     println!("{:?}", event?);
//! #     break;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! | file | content |
//! |---|---|
//! | `error` | errors, one type for each operation |
//! | `reassembly`, `message_stream` | large messages from their chunks, frames from a stream |
//! | `datagram_queue`, `delivery_stats` | datagrams that wait for a subscription; counters |
//! | `in_flight` | publications without an answer, through all sessions |
//! | `reconnect` | when to reconnect; the state of a client |
//! | `session_state` | the state that the tasks and the users of one session share |
//! | `shared` | the state of a client that outlives its sessions |
//! | `handle` | `Client`, the handle of a client |
//! | `publish`, `publish_realtime`, `upload` | publishing: on a stream, in datagrams, in chunks |
//! | `request` | requests with one answer: get, top, ping |
//! | `subscribing` | the request of a subscription in one session, and its end |
//! | `progress`, `ordered`, `unordered` | what a subscription has received, and where it resumes |
//! | `subscription` | a subscription through all sessions |
//! | `driver` | the task that reads and writes a session's streams |
//! | `builder`, `dial`, `connect` | settings, one connection, and the choice among several |
//! | `presented` | the certificates of a daemon, for those who look at them |
//! | `supervisor` | the task that opens one session after the other |
//!
//! `in_flight`, `reconnect`, `progress`, `ordered` and `reassembly` decide, and do no I/O.

mod builder;
pub(crate) mod connect;
mod datagram_queue;
mod delivery_stats;
mod dial;
mod driver;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handle;
mod in_flight;
mod message_stream;
mod ordered;
#[cfg(feature = "cli")]
pub(crate) mod presented;
mod progress;
mod publish;
mod publish_realtime;
mod reassembly;
mod reconnect;
mod renew;
mod request;
mod session_state;
mod shared;
mod subscribing;
mod subscription;
mod supervisor;
mod token;
mod unordered;
mod upload;

pub use crate::net::transport::path::PathStats;
pub use builder::Builder;
pub use delivery_stats::DeliveryStats;
pub use error::{ConnectError, PublishError, RequestError, SessionClosed, SubscribeError};
pub use handle::Client;
pub use publish::{PendingReceipt, PublishOptions};
pub use publish_realtime::Accepted;
pub use reconnect::{Reconnect, State};
pub use subscription::Subscription;
