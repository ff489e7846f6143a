//! Many sessions at once.

use crate::Transport;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Maximum number of handshakes at once: as many as keep two cores busy. Above 256 the daemon would
/// make each client prove its address first.
const AT_ONCE: u64 = 64;

/// Denies this process huge pages until it is dropped. Each session's endpoint reserves some
/// megabytes to receive into, and uses a few kilobytes of them. With huge pages the kernel clears
/// all of it: that takes longer than the handshake, and thousands of sessions do not fit. Child
/// processes inherit the setting, so the daemon must be started before.
pub(super) struct SmallPages(());

impl SmallPages {
    pub(super) fn only() -> Self {
        // If this fails, opening sessions is slower and takes more memory.
        let _ = nix::sys::prctl::set_thp_disable(true);
        Self(())
    }
}

impl Drop for SmallPages {
    fn drop(&mut self) {
        let _ = nix::sys::prctl::set_thp_disable(false);
    }
}

/// The transports that a benchmark measures.
#[derive(Debug, Clone, Args)]
pub(super) struct Carriers {
    /// How to connect; one after the other.
    #[arg(
        long,
        value_enum,
        value_name = "TRANSPORTS",
        value_delimiter = ',',
        default_value = "quic"
    )]
    transport: Vec<Carrier>,
}

impl Carriers {
    pub(super) fn transports(&self) -> impl Iterator<Item = Transport> {
        self.transport.iter().copied().map(Transport::from)
    }
}

/// A transport, as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Carrier {
    /// Raw QUIC.
    Quic,
    /// WebTransport, as browsers use it.
    #[value(name = "webtransport")]
    WebTransport,
    /// WebSocket over TLS.
    #[value(name = "websocket")]
    WebSocket,
}

impl From<Carrier> for Transport {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Quic => Self::Quic,
            Carrier::WebTransport => Self::WebTransport,
            Carrier::WebSocket => Self::WebSocket,
        }
    }
}

/// Opens sessions in a runtime, and counts them on the bar. Fails with the first that fails.
pub(super) async fn open<T, F>(
    runtime: &Handle,
    sessions: u64,
    bar: &ProgressBar,
    one: impl Fn(u64) -> F,
) -> anyhow::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let (mut opening, mut opened) = (JoinSet::new(), Vec::new());
    for number in 0..sessions {
        if opening.len() as u64 >= AT_ONCE
            && let Some(session) = opening.join_next().await
        {
            opened.push(session??);
            bar.inc(1);
        }
        opening.spawn_on(one(number), runtime);
    }
    while let Some(session) = opening.join_next().await {
        opened.push(session??);
    }
    Ok(opened)
}
