//! Many sessions at once.

use crate::Transport;
use clap::ValueEnum;
use indicatif::ProgressBar;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Handshakes under way at once: as many as keep two cores busy. Beyond 256 the daemon would let
/// each prove its address first.
const AT_ONCE: u64 = 64;

/// While it is there this process gets no huge pages. Each session's endpoint reserves some
/// megabytes to receive into, of which it uses a few kilobytes: with huge pages the kernel clears
/// all of it, which takes longer than the handshake, and thousands of sessions do not fit. What is
/// started meanwhile would have none either: the daemon is to be started before.
pub(super) struct SmallPages(());

impl SmallPages {
    pub(super) fn only() -> Self {
        // Without it there are just fewer sessions a second, and more memory.
        let _ = nix::sys::prctl::set_thp_disable(true);
        Self(())
    }
}

impl Drop for SmallPages {
    fn drop(&mut self) {
        let _ = nix::sys::prctl::set_thp_disable(false);
    }
}

/// A transport, as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Carrier {
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

/// Opens so many in a runtime, and counts them; gives up with the first that fails.
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
