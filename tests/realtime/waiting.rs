//! Subscribers with small windows, or without acknowledgements for a while: the number of messages
//! in flight to them.

use crate::common::{daemon, within};
use crate::lossy::{CLEAN, DEAD, Lossy};
use crate::raw::Raw;
use crate::tally::publish;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use weir::wire::{self, ClientFrame, DaemonFrame, Delivery, FrameReader};

/// Without a bound, more would arrive within milliseconds.
const LONG: Duration = Duration::from_millis(500);

async fn subscribed(
    server: SocketAddr,
    transport: quinn::TransportConfig,
    delivery: Delivery,
) -> Raw {
    let mut raw = Raw::with(server, transport).await.greet().await;
    let (filter, start, lag) = ("a", wire::Start::New, wire::Lag::Oldest);
    raw.send(&[ClientFrame::Subscribe { request: 1, filter, start, delivery, lag, deadline: 0 }])
        .await;
    let frame = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Subscribed { .. })));
    raw
}

/// Streams that have arrived, of which only the first 64 bytes are read.
#[derive(Default)]
struct Streams {
    small: Vec<quinn::RecvStream>,
    large: Vec<quinn::RecvStream>,
}

impl Streams {
    /// Takes a stream that has arrived.
    async fn take(&mut self, mut stream: quinn::RecvStream) {
        let (mut reader, mut left, mut large) = (FrameReader::new(1 << 20), 64, false);
        while left > 0 {
            let chunk = within(stream.read_chunk(left, true)).await.unwrap().unwrap();
            left -= chunk.bytes.len();
            reader.push(chunk.bytes);
            while let Some(frame) = reader.next_frame().unwrap() {
                large |= matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Begin { .. }));
            }
        }
        if large { self.large.push(stream) } else { self.small.push(stream) }
    }

    async fn until(&mut self, raw: &Raw, count: usize) {
        while self.small.len() + self.large.len() < count {
            self.take(within(raw.connection.accept_uni()).await.unwrap()).await;
        }
        let more = tokio::time::timeout(LONG, raw.connection.accept_uni()).await;
        assert!(more.is_err(), "more than {count} streams");
    }
}

#[tokio::test]
async fn an_unordered_subscription_has_at_most_256_open_streams_and_4_large_ones() {
    let daemon = daemon().await;
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_uni_streams(2000_u32.into()).stream_receive_window(64_u32.into());
    let raw = subscribed(daemon.local_addr(), transport, Delivery::Unordered).await;
    (1..=10).for_each(|n| publish(&daemon, "a", n, 100_000));
    (11..=600).for_each(|n| publish(&daemon, "a", n, 1000));
    let mut streams = Streams::default();
    streams.until(&raw, 256).await;
    assert_eq!((streams.small.len(), streams.large.len()), (252, 4));
    // When the subscriber stops one of them, the next of its kind arrives.
    for large in [true, false, true, false] {
        let Streams { small, large: larges } = &mut streams;
        let of = if large { larges } else { small };
        of.pop().unwrap().stop(0_u32.into()).unwrap();
        streams.until(&raw, 256).await;
        assert_eq!((streams.small.len(), streams.large.len()), (252, 4));
    }
}

/// Takes the messages from a reader. Returns the highest sequence in a message or a head.
fn take(reader: &mut FrameReader, sequences: &mut BTreeSet<u64>) -> u64 {
    let mut last = sequences.last().copied().unwrap_or_default();
    while let Some(frame) = reader.next_frame().unwrap() {
        match DaemonFrame::decode(&frame).unwrap() {
            DaemonFrame::Message { sequence, .. } => {
                sequences.insert(sequence);
                last = last.max(sequence);
            }
            DaemonFrame::Head { sequence, .. } => last = last.max(sequence),
            _ => {}
        }
    }
    last
}

// On a path that is blocked, queued datagrams would only grow old.
#[tokio::test]
async fn datagrams_of_32_kib_wait_to_be_sent_and_then_the_cursor_does() {
    const SIZE: usize = 500;
    const MESSAGES: u64 = 2000;
    let daemon = daemon().await;
    let network = Lossy::start(daemon.local_addr(), CLEAN);
    let transport = quinn::TransportConfig::default();
    let raw = subscribed(network.address, transport, Delivery::Realtime).await;
    network.set(DEAD);
    for n in 1..=MESSAGES {
        publish(&daemon, "a", n, SIZE);
        // One by one, so that each would fit a datagram.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
    network.set(CLEAN);
    let (mut datagrams, mut streamed) = (BTreeSet::new(), BTreeSet::new());
    let mut reader = FrameReader::new(1 << 20);
    let mut stream: Option<quinn::RecvStream> = None;
    // The stream reports the last of them too, if that went in a datagram.
    while take(&mut reader, &mut streamed) < MESSAGES {
        tokio::select! {
            datagram = within(raw.connection.read_datagram()) => {
                let mut reader = FrameReader::new(1 << 20);
                reader.push(datagram.unwrap());
                take(&mut reader, &mut datagrams);
            }
            accepted = raw.connection.accept_uni() => stream = Some(accepted.unwrap()),
            chunk = async { stream.as_mut().unwrap().read_chunk(1 << 16, true).await },
                if stream.is_some() => reader.push(chunk.unwrap().unwrap().bytes),
        }
    }
    let bytes = datagrams.len() * SIZE;
    println!("{bytes} bytes by datagram, {} messages by stream", streamed.len());
    // The queued datagrams, and the rest of one read of up to 32 KiB at either end.
    assert!((24 << 10..3 * (32 << 10)).contains(&bytes), "{bytes} bytes in datagrams");
    assert!(streamed.len() as u64 > MESSAGES / 2);
}
