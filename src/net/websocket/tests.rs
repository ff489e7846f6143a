//! A channel, and a peer at the other end of a pipe. The clock is the test's.

use super::socket::BATCH;
use super::*;
use crate::wire::{DaemonFrame, encode_publish};
use futures_util::SinkExt as _;
use std::pin::pin;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

type Peer = WebSocketStream<DuplexStream>;

/// A channel in the given role, and the raw other end of its pipe.
async fn channel(role: Role, buffer: usize) -> (WebSocket, DuplexStream) {
    let (ours, theirs) = duplex(buffer);
    let ours: Box<dyn Io> = Box::new(ours);
    let remote = ([127, 0, 0, 1], 1).into();
    if role == Role::Server {
        return (WebSocket::served(ours, remote, 1 << 20).await, theirs);
    }
    let socket = WebSocketStream::from_raw_socket(ours, role, Some(dialled_config())).await;
    let (sink, stream) = socket.split();
    let activity = ActivityMonitor::new();
    let reader = Reader::new(stream, &activity);
    let channel = Channel::new(sink, (reader, activity), remote, DIALLED_PING, None);
    (WebSocket(Arc::new(channel)), theirs)
}

/// A daemon's channel, and a client at its other end.
async fn pair(buffer: usize) -> (WebSocket, Peer) {
    let (channel, theirs) = channel(Role::Server, buffer).await;
    (channel, WebSocketStream::from_raw_socket(theirs, Role::Client, None).await)
}

async fn binary(peer: &mut Peer) -> Bytes {
    match peer.next().await {
        Some(Ok(Message::Binary(bytes))) => bytes,
        other => panic!("{other:?}"),
    }
}

fn frame(size: usize) -> Bytes {
    let frame = encode_publish(1, 1, 0, &vec![7; size].into());
    let (head, body) = frame.pieces();
    [head.clone(), body.clone()].concat().into()
}

#[tokio::test]
async fn a_write_that_is_given_up_tears_no_message() {
    let (channel, mut peer) = pair(64).await;
    let frames = [frame(1000), frame(2000), frame(3000), frame(4000)];
    // The first write is cancelled half-way, the others while they wait for it.
    for frame in &frames[..3] {
        let (mut pieces, moment) = ([frame.clone()], Duration::ZERO);
        assert!(timeout(moment, channel.write(&mut pieces, false)).await.is_err(), "no room");
    }
    let (writing, last) = (channel.clone(), frames[3].clone());
    let write = tokio::spawn(async move { writing.write(&mut [last], false).await });
    // Writes that had not begun are missing. All others are whole.
    for number in [0, 3] {
        assert!(binary(&mut peer).await == frames[number], "frame {number} is not the same");
    }
    write.await.unwrap().unwrap();
}

#[tokio::test]
async fn for_whom_a_message_is_stands_there_when_that_changes() {
    let (channel, mut peer) = pair(1 << 16).await;
    let for_frame = |request| DaemonFrame::For { request }.to_bytes();
    let mut sent = Vec::new();
    for (request, written) in
        [(Some(1), true), (Some(1), false), (None, false), (Some(1), false), (Some(2), true)]
    {
        let mut pieces: Vec<_> = request.map(for_frame).into_iter().collect();
        pieces.extend([frame(10), frame(20)]);
        sent.push(pieces[usize::from(request.is_some() && !written)..].concat());
        channel.write(&mut pieces, request.is_some()).await.unwrap();
    }
    for message in sent {
        assert_eq!(binary(&mut peer).await, message);
    }
}

/// More than the largest message that the daemon makes.
const LARGEST: usize = 500_000;

#[tokio::test]
async fn a_single_frame_goes_out_as_it_is() {
    let (channel, mut peer) = pair(1 << 22).await;
    let large = frame(LARGEST);
    channel.write(&mut [large.slice(..9), large.slice(9..)], false).await.unwrap();
    assert!(binary(&mut peer).await == large);
}

// Once, answers to pings took the room of the next message, which ended the session.
#[tokio::test]
async fn a_message_has_room_behind_answers_to_pings() {
    let (channel, theirs) = channel(Role::Server, 1 << 10).await;
    let (mut rx, mut tx) = tokio::io::split(theirs);
    let reading = channel.clone();
    tokio::spawn(async move { reading.read(&mut [Bytes::new()]).await.map(drop) });
    // Causes more answers than may wait to be sent, and reads none of them.
    let ping = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    tx.write_all(&ping.repeat(10_000)).await.unwrap();
    let large = frame(LARGEST);
    let (writing, message) = (channel.clone(), large.clone());
    let write = tokio::spawn(async move { writing.write(&mut [message], false).await });
    let mut read = Vec::new();
    while !read.ends_with(&large) {
        let before = read.len();
        read.reserve(1 << 16);
        let more = timeout(Duration::from_secs(10), rx.read_buf(&mut read)).await;
        assert!(matches!(more, Ok(Ok(1..))), "{more:?} after {before} bytes");
    }
    write.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_asked_and_then_gone() {
    let (channel, mut theirs) = channel(Role::Server, 1 << 16).await;
    let start = tokio::time::Instant::now();
    let lost = channel.watch().await;
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(lost.reason.contains("30 s"), "{}", lost.reason);
    let mut pings = [0; 8];
    let read = theirs.read(&mut pings).await.unwrap();
    assert_eq!(&pings[..read], [0x89, 0, 0x89, 0], "two empty pings");
    // All other tasks get the same reason.
    assert!(matches!(channel.read(&mut [Bytes::new()]).await, Err(ReadError::ConnectionLost(_))));
    assert_eq!(channel.closed().await.reason, lost.reason);
}

#[tokio::test(start_paused = true)]
async fn who_answers_pings_stays() {
    let (channel, mut peer) = pair(1 << 16).await;
    let reading = channel.clone();
    tokio::spawn(async move { reading.read(&mut [Bytes::new()]).await.map(drop) });
    tokio::spawn(async move { while let Some(Ok(_)) = peer.next().await {} });
    assert!(timeout(Duration::from_secs(300), channel.watch()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_its_time_is_a_sign_of_life() {
    let (channel, mut theirs) = channel(Role::Client, 1 << 16).await;
    let reading = channel.clone();
    let read = tokio::spawn(async move {
        let mut pieces = [Bytes::new()];
        reading.read(&mut pieces).await.unwrap();
        pieces[0].clone()
    });
    let sent = tokio::spawn(async move {
        theirs.write_all(&[0x82, 20]).await.unwrap();
        for n in 0..20 {
            sleep(Duration::from_secs(5)).await;
            theirs.write_all(&[n]).await.unwrap();
        }
        theirs
    });
    let mut watch = pin!(channel.watch());
    tokio::select! {
        read = read => assert_eq!(read.unwrap(), (0..20).collect::<Vec<u8>>()),
        lost = &mut watch => panic!("{}", lost.reason),
    }
    // Then the peer is silent.
    let start = tokio::time::Instant::now();
    watch.await;
    assert_eq!(start.elapsed().as_secs(), 30);
    drop(sent);
}

#[tokio::test]
async fn leaving_says_why_and_waits_for_the_peer() {
    let (channel, mut peer) = pair(1 << 16).await;
    let left = tokio::spawn(async move { channel.leave(Code::SHUTTING_DOWN, "tea").await });
    match peer.next().await {
        Some(Ok(Message::Close(Some(close)))) => {
            assert_eq!((u16::from(close.code), close.reason.as_str()), (4001, "tea"));
        }
        other => panic!("{other:?}"),
    }
    assert!(!left.is_finished(), "the peer has not answered yet");
    assert!(peer.next().await.is_none());
    left.await.unwrap();
}

#[tokio::test]
async fn the_peers_close_is_answered_and_says_why() {
    let (channel, mut peer) = pair(1 << 16).await;
    peer.send(Message::Binary(frame(10))).await.unwrap();
    let close = close_frame(Code::MALFORMED, "what?");
    peer.send(Message::Close(Some(close))).await.unwrap();
    let mut pieces = [const { Bytes::new() }; 4];
    // The message, and its end.
    assert_eq!(channel.read(&mut pieces).await.unwrap(), Some(2));
    assert_eq!(pieces[..2], [frame(10), Bytes::new()]);
    let Err(ReadError::ConnectionLost(lost)) = channel.read(&mut pieces).await else {
        panic!("not lost");
    };
    assert_eq!((lost.code, &*lost.reason), (Some(Code::MALFORMED), "what?"));
    assert_eq!(channel.closed().await.reason, "what?");
    let ((), answer) = tokio::join!(channel.leave(Code::DONE, ""), peer.next());
    assert!(matches!(answer, Some(Ok(Message::Close(_)))), "{answer:?}");
}

#[tokio::test]
async fn text_is_refused_after_what_came_before_it() {
    let (channel, mut peer) = pair(1 << 16).await;
    peer.send(Message::Binary(frame(10))).await.unwrap();
    peer.send(Message::Text("hello".into())).await.unwrap();
    let mut pieces = [const { Bytes::new() }; 4];
    assert_eq!(channel.read(&mut pieces).await.unwrap(), Some(2));
    match channel.read(&mut pieces).await {
        Err(ReadError::Broken(refusal)) => {
            assert_eq!(refusal.code, Code::MALFORMED);
            assert!(refusal.reason.contains("binary"), "{refusal}");
        }
        other => panic!("{other:?}"),
    }
}

// Also if there is more, and with pings in between.
#[tokio::test]
async fn a_batch_is_read_at_once_and_no_more() {
    let (channel, mut peer) = pair(8 << 20).await;
    for _ in 0..60 {
        peer.send(Message::Binary(frame(60_000))).await.unwrap();
        peer.send(Message::Ping(Bytes::new())).await.unwrap();
    }
    let (mut all, mut most) = (0, 0);
    while all < 60 * 60_000 {
        let mut pieces = vec![Bytes::new(); 2000];
        let read = channel.read(&mut pieces).await.unwrap().unwrap();
        let size = pieces[..read].iter().map(Bytes::len).sum::<usize>();
        (all, most) = (all + size, most.max(size));
    }
    assert!(most < 3 * BATCH, "{most} bytes at once");
}

#[tokio::test]
async fn closing_from_here_wakes_who_reads() {
    let (channel, _peer) = pair(1 << 16).await;
    let reading = channel.clone();
    let read = tokio::spawn(async move { reading.read(&mut [Bytes::new()]).await });
    tokio::task::yield_now().await;
    channel.close(Code::DONE, "");
    assert!(matches!(
        read.await.unwrap(),
        Err(ReadError::ConnectionLost(ConnectionLost { code: None, .. }))
    ));
}
