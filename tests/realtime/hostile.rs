//! Peers that misuse datagrams. At most their own session ends, and no other is affected.

use crate::common::{client, daemon, daemon_with, within};
use crate::raw::{Raw, encoded, hello};
use crate::tally::{Tally, options, publish, pump};
use bytes::Bytes;
use weir::engine::Limits;
use weir::wire::{self, ClientFrame, DaemonFrame, Delivery, FrameReader, GapCause};
use weir::{Daemon, Transport};

fn realtime(request: u32, filter: &str) -> ClientFrame<'_> {
    ClientFrame::Subscribe {
        request,
        filter,
        start: wire::Start::New,
        delivery: Delivery::Realtime,
        lag: wire::Lag::Oldest,
        deadline: 0,
    }
}

fn repair(holes: &[(u64, u64)]) -> ClientFrame<'static> {
    ClientFrame::Repair { subscription: 1, topic: 1, holes: holes.to_vec() }
}

// Opens a session with a subscription that the daemon has confirmed.
async fn subscribed(daemon: &Daemon, filter: &str) -> Raw {
    let mut raw = Raw::greeted(daemon).await;
    raw.send(&[realtime(1, filter)]).await;
    let frame = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Subscribed { .. })));
    raw
}

// Reads a stream until `find` returns a value for a frame.
async fn read_until<T>(
    stream: &mut quinn::RecvStream,
    reader: &mut FrameReader,
    mut wanted: impl FnMut(DaemonFrame<'_>) -> Option<T>,
) -> T {
    loop {
        while let Some(frame) = reader.next_frame().unwrap() {
            if let Some(found) = wanted(DaemonFrame::decode(&frame).unwrap()) {
                return found;
            }
        }
        reader.push(within(stream.read_chunk(1 << 16, true)).await.unwrap().unwrap().bytes);
    }
}

#[tokio::test]
async fn a_datagram_before_the_hello_counts_as_lost() {
    let daemon = daemon().await;
    let mut raw = Raw::connect(&daemon).await;
    let early = [
        ClientFrame::Topic { alias: 1, name: "a" },
        ClientFrame::Publish { alias: 1, number: 1, stamp: 0, payload: b"early" },
    ];
    raw.connection.send_datagram(encoded(&early).into()).unwrap();
    raw.send(&[hello(wire::VERSION), ClientFrame::Ping { request: 1 }]).await;
    let welcome = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&welcome), Ok(DaemonFrame::Welcome { .. })));
    let pong = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&pong), Ok(DaemonFrame::Pong { .. })));
    // A datagram with an undeclared alias is ignored. Then the same publication is sent properly.
    // It counts once, even if the daemon reads the first datagram after the hello.
    raw.connection.send_datagram(encoded(&early[1..]).into()).unwrap();
    raw.connection.send_datagram(encoded(&early).into()).unwrap();
    let acknowledged = within(raw.connection.read_datagram()).await.unwrap();
    let expected = DaemonFrame::Acknowledge { alias: 1, floor: 1, seen: 0 };
    assert_eq!(acknowledged, expected.to_bytes());
    let client = client(&daemon, Transport::Quic).await;
    assert_eq!(within(client.publish("a", "early")).await.unwrap().count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_repairs_do_not_affect_the_others() {
    const REPAIRS: usize = 1_000_000;
    let daemon = daemon().await;
    let bystander = client(&daemon, Transport::Quic).await;
    let mut news = bystander.subscribe("a", &options(Delivery::Realtime)).await.unwrap();
    let mut tally = Tally::default();
    let mut raw = subscribed(&daemon, "a").await;
    pump(&mut tally, &mut news, 1000, 50, |n| publish(&daemon, "a", n, 500)).await;
    let everything = encoded(&[repair(&[(1, 3), (5, 900), (950, u64::MAX)])]);
    let connection = raw.connection.clone();
    // The peer reads no repairs.
    let datagram: Bytes = everything.repeat(1000 / everything.len()).into();
    let asking = tokio::spawn(async move {
        for _ in 0..10_000 {
            connection.send_datagram_wait(datagram.clone()).await.unwrap();
        }
    });
    let asked = async {
        for _ in 0..REPAIRS / 1000 {
            raw.tx.write_all(&everything.repeat(1000)).await.unwrap();
        }
        raw.send(&[ClientFrame::Ping { request: 9 }]).await;
        let pong = raw.frame().await;
        assert!(matches!(DaemonFrame::decode(&pong), Ok(DaemonFrame::Pong { request: 9, .. })));
    };
    let served = async {
        let mut n = 1000;
        loop {
            n += 1;
            publish(&daemon, "a", n, 50);
            tally.until(&mut news, n).await;
        }
    };
    let begun = std::time::Instant::now();
    tokio::select! {
        () = asked => {}
        () = served => {}
    }
    println!("{} delivered meanwhile, in {:?}", tally.messages - 1000, begun.elapsed());
    assert!(tally.messages > 1010 && tally.missed == 0);
    asking.abort();
}

#[tokio::test]
async fn a_request_for_a_forgotten_message_gets_a_gap() {
    let mut limits = Limits::default();
    limits.topics = 1;
    let daemon = daemon_with(limits).await;
    let mut raw = subscribed(&daemon, "a").await;
    daemon.publish("a", "x").unwrap();
    let mut stream = within(raw.connection.accept_uni()).await.unwrap();
    // The message was sent, so it may be forgotten now.
    within(raw.connection.read_datagram()).await.unwrap();
    daemon.publish("b", "x").unwrap();
    let mut reader = FrameReader::new(1 << 20);
    for (reliably, holes) in [(false, [(1, 1), (3, 4)]), (true, [(1, 1), (3, 5)])] {
        let bytes = encoded(&[repair(&holes)]);
        if reliably {
            raw.tx.write_all(&bytes).await.unwrap();
        } else {
            raw.connection.send_datagram(bytes.into()).unwrap();
        }
        for hole in holes {
            let gap = read_until(&mut stream, &mut reader, |frame| match frame {
                DaemonFrame::Gap { topic: 1, first, last, cause } => Some((first, last, cause)),
                DaemonFrame::Gap { .. } => panic!("{frame:?}"),
                _ => None,
            })
            .await;
            assert_eq!(gap, (hole.0, hole.1, GapCause::Evicted));
        }
    }
}

// The daemon sends the head that covers the end of a burst even though it repairs older messages
// after it.
#[tokio::test]
async fn a_repair_does_not_hide_the_head() {
    let daemon = daemon().await;
    let raw = subscribed(&daemon, "a").await;
    for n in 1..=5 {
        publish(&daemon, "a", n, 20);
        within(raw.connection.read_datagram()).await.unwrap();
    }
    raw.connection.send_datagram(encoded(&[repair(&[(2, 2)])]).into()).unwrap();
    within(raw.connection.read_datagram()).await.unwrap();
    let mut stream = within(raw.connection.accept_uni()).await.unwrap();
    let mut reader = FrameReader::new(1 << 20);
    let head = read_until(&mut stream, &mut reader, |frame| match frame {
        DaemonFrame::Head { sequence, .. } => Some(sequence),
        _ => None,
    });
    assert_eq!(head.await, 5);
}

// A head costs a packet, and most messages are not lost. It is sent early only if the message
// stands alone and is not acknowledged in time, which can happen on a busy machine.
#[tokio::test]
async fn the_head_of_a_message_that_arrived_is_sent_late() {
    const LATE: std::time::Duration = std::time::Duration::from_secs(1);
    let daemon = daemon().await;
    let raw = subscribed(&daemon, "a").await;
    publish(&daemon, "a", 1, 20);
    within(raw.connection.read_datagram()).await.unwrap();
    let mut stream = within(raw.connection.accept_uni()).await.unwrap();
    let mut reader = FrameReader::new(1 << 20);
    for n in 2..100 {
        let begun = std::time::Instant::now();
        publish(&daemon, "a", n, 20);
        within(raw.connection.read_datagram()).await.unwrap();
        let head = read_until(&mut stream, &mut reader, |frame| match frame {
            DaemonFrame::Head { sequence, .. } => Some(sequence).filter(|head| *head == n),
            _ => None,
        });
        assert_eq!(head.await, n);
        if begun.elapsed() > LATE {
            return;
        }
    }
    panic!("the head was always sent at once");
}
