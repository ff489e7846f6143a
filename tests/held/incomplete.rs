//! Frames and messages that peers do not complete.

use crate::common::{daemon, within};
use crate::raw::{Raw, encoded};
use crate::{Socket, bound_kib, goes_on, honest, rejected, served, writes};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir::wire::{self, ClientFrame, Code, DaemonFrame, FrameReader};

/// Payload of the incomplete publications, bytes: 1 MiB below the limit.
const PAYLOAD: usize = 7 << 20;

/// Returns a publication without its last byte.
fn unended(number: u64, payload: usize) -> Vec<u8> {
    let payload = vec![number as u8; payload];
    let publish = ClientFrame::Publish { alias: 0, number, stamp: 0, payload: &payload };
    let mut bytes = encoded(&[ClientFrame::Topic { alias: 0, name: "greedy" }, publish]);
    bytes.pop();
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publications_over_quic_that_do_not_end() {
    const STREAMS: u64 = 20;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    goes_on(&client).await;
    let before = served.kib("VmRSS");
    let mut raw = Raw::to(server).await.greet().await;
    let mut streams = Vec::new();
    for number in 1..=STREAMS {
        let mut stream = within(raw.connection.open_uni()).await.unwrap();
        assert!(writes(&mut stream, &unended(number, PAYLOAD)).await, "the daemon reads on");
        streams.push(stream);
    }
    raw.send(&[ClientFrame::Ping { request: 1 }]).await;
    goes_on(&client).await;
    let (peak, now) = (served.kib("VmHWM"), served.kib("VmRSS"));
    println!("RSS {before} KiB before, {now} KiB with {STREAMS} × {PAYLOAD} bytes, peak {peak}");
    assert!(peak < bound_kib(2, 0), "{peak} KiB, and the bound is {}", bound_kib(2, 0));
    // Publications beyond the budget are refused at once.
    let mut refused = Vec::new();
    loop {
        let frame = raw.frame().await;
        if let Ok(DaemonFrame::Pong { .. }) = DaemonFrame::decode(&frame) {
            break;
        }
        let (number, code, reason) = rejected(&frame);
        assert!(code == Code::OVERLOADED && reason.contains("again"), "{code} {reason}");
        refused.push(number);
    }
    assert!(refused.len() >= STREAMS as usize - 2, "{refused:?}");
    // Their streams go on: the rest of a refused publication is skipped.
    let stream = &mut streams[refused[0] as usize - 1];
    let mut rest = vec![0];
    rest.extend(encoded(&[ClientFrame::Publish {
        alias: 0,
        number: 100,
        stamp: 0,
        payload: b"small",
    }]));
    stream.write_all(&rest).await.unwrap();
    let frame = raw.frame().await;
    assert!(matches!(
        DaemonFrame::decode(&frame),
        Ok(DaemonFrame::Receipt { number: 100, sequence: 1, .. })
    ));
    // Dropping the session frees its memory, so that the largest publication is accepted.
    drop((raw, streams));
    let mut raw = Raw::to(server).await.greet().await;
    for number in 1.. {
        let mut whole = unended(number, PAYLOAD);
        whole.push(number as u8);
        let mut stream = within(raw.connection.open_uni()).await.unwrap();
        within(stream.write_all(&whole)).await.unwrap();
        stream.finish().unwrap();
        let frame = raw.frame().await;
        match DaemonFrame::decode(&frame) {
            Ok(DaemonFrame::Receipt { sequence: 2, .. }) => break,
            _ => assert_eq!(rejected(&frame).1, Code::OVERLOADED),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_over_websocket_that_do_not_end() {
    const SESSIONS: u64 = 16;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    goes_on(&client).await;
    let before = served.kib("VmRSS");
    let mut sockets = Vec::new();
    for _ in 0..SESSIONS {
        let mut socket = Socket::to(server).await;
        let bytes = unended(1, PAYLOAD);
        socket.head(bytes.len() + 1).await;
        assert!(writes(&mut socket.tls, &bytes).await, "the daemon reads on");
        sockets.push(socket);
    }
    goes_on(&client).await;
    let (peak, now) = (served.kib("VmHWM"), served.kib("VmRSS"));
    println!("RSS {before} KiB before, {now} KiB with {SESSIONS} × {PAYLOAD} bytes, peak {peak}");
    let bound = bound_kib(1, SESSIONS);
    assert!(peak < bound, "{peak} KiB, and the bound is {bound}");
    // The last publication is refused. The next frame in its session is not.
    let last = sockets.last_mut().unwrap();
    let (number, code, reason) = rejected(&last.frame().await);
    assert!(number == 1 && code == Code::OVERLOADED && reason.contains("again"), "{code} {reason}");
    last.tls.write_all(&[0]).await.unwrap();
    last.message(&encoded(&[ClientFrame::Ping { request: 3 }])).await;
    let frame = last.frame().await;
    assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Pong { request: 3, .. })));
}

// Fast at first, and then one byte now and then: the pace is measured over the last seconds.
#[tokio::test]
async fn a_publication_that_almost_stalls_is_aborted_on_every_transport() {
    let daemon = daemon().await;
    let bytes = unended(1, 1 << 20);
    let mut raw = Raw::greeted(&daemon).await;
    let mut stream = raw.connection.open_uni().await.unwrap();
    let mut socket = Socket::to(daemon.local_addr()).await;
    let mut control = Raw::greeted(&daemon).await;
    let half = bytes.len() / 2;
    stream.write_all(&bytes[..half]).await.unwrap();
    socket.head(bytes.len() + 1).await;
    socket.tls.write_all(&bytes[..half]).await.unwrap();
    control.tx.write_all(&bytes[..half]).await.unwrap();
    let (mut tls, mut tx) = (tokio::io::split(socket.tls), control.tx);
    tokio::spawn(async move {
        for at in half.. {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let byte = &bytes[at..=at];
            let _ = stream.write_all(byte).await;
            let _ = tls.1.write_all(byte).await;
            let _ = tls.1.flush().await;
            let _ = tx.write_all(byte).await;
        }
    });
    let of_stream = rejected(&raw.frame().await);
    let mut reader = FrameReader::new(1 << 20);
    let of_control = loop {
        if let Some(frame) = reader.next_frame().unwrap() {
            break rejected(&frame);
        }
        reader.push(within(control.rx.read_chunk(1 << 16, true)).await.unwrap().unwrap().bytes);
    };
    let of_socket = within(async {
        loop {
            let mut head = [0; 2];
            tls.0.read_exact(&mut head).await.unwrap();
            let length = match head[1] {
                126 => usize::from(tls.0.read_u16().await.unwrap()),
                length => usize::from(length),
            };
            let mut message = vec![0; length];
            tls.0.read_exact(&mut message).await.unwrap();
            if head[0] == 0x82 {
                let mut reader = FrameReader::new(1 << 20);
                reader.push(message.into());
                break rejected(&reader.next_frame().unwrap().unwrap());
            }
        }
    })
    .await;
    for (number, code, reason) in [of_stream, of_control, of_socket] {
        assert_eq!((number, code), (1, Code::TIMED_OUT), "{reason}");
    }
}

// Other kinds of frames have a deadline too.
#[tokio::test]
async fn a_frame_that_stalls_ends_its_session() {
    let daemon = daemon().await;
    let bytes =
        encoded(&[ClientFrame::Get { request: 1, topic: "a/b/c", which: wire::Which::Latest }]);
    let part = &bytes[..bytes.len() - 3];
    let mut control = Raw::greeted(&daemon).await;
    control.tx.write_all(part).await.unwrap();
    let mut publishing = Raw::greeted(&daemon).await;
    let mut stream = publishing.connection.open_uni().await.unwrap();
    stream.write_all(&encoded(&[ClientFrame::Topic { alias: 1, name: "a" }])[..2]).await.unwrap();
    let mut socket = Socket::to(daemon.local_addr()).await;
    socket.head(bytes.len()).await;
    socket.tls.write_all(part).await.unwrap();
    for raw in [&mut control, &mut publishing] {
        let (code, reason) = raw.goodbye().await;
        assert_eq!(code, Code::TIMED_OUT, "{reason}");
    }
    let frame = socket.frame().await;
    let Ok(DaemonFrame::Goodbye { code, retry: true, .. }) = DaemonFrame::decode(&frame) else {
        panic!("no goodbye");
    };
    assert_eq!(code, Code::TIMED_OUT);
}

// The daemon decides by the length and the first byte, before it keeps any of the frame.
#[tokio::test]
async fn nothing_but_a_publication_is_large() {
    let daemon = daemon().await;
    let length = [0x80, 0x80, 0x80, 0x01];
    for kind in [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 99] {
        let bytes = [&length[..], &[kind]].concat();
        let mut raw = Raw::greeted(&daemon).await;
        raw.tx.write_all(&bytes).await.unwrap();
        let (code, reason) = raw.goodbye().await;
        assert_eq!(code, Code::FRAME_TOO_LARGE, "kind {kind}: {reason}");
        let mut socket = Socket::to(daemon.local_addr()).await;
        socket.head((2 << 20) + 4).await;
        socket.tls.write_all(&bytes).await.unwrap();
        let frame = socket.frame().await;
        let Ok(DaemonFrame::Goodbye { code, .. }) = DaemonFrame::decode(&frame) else {
            panic!("no goodbye");
        };
        assert_eq!(code, Code::FRAME_TOO_LARGE, "kind {kind}");
    }
}
