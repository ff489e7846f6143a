//! How many frames of a peer are in memory at once.
#![allow(clippy::unwrap_used)]

use super::dispatch::portion;
use super::upload::StreamUpload;
use super::*;
use crate::access::AccessRules;
use crate::access::limits::PeerLimits;
use crate::access::origin::Origins;
use crate::broker::Broker;
use crate::broker::admission::Admission;
use crate::broker::throttle::Budgets;
use crate::engine::{Channel, Engine, Limits};
use crate::net::websocket;
use crate::wire::{self, ClientFrame, FrameReader, ProducerId, VERSION, Which};
use bytes::Bytes;
use futures_util::SinkExt as _;
use std::sync::Arc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The sizes of the batches in which the frames of one message are taken. One read gets all of it.
async fn taken(frames: impl IntoIterator<Item = ClientFrame<'static>>) -> Vec<usize> {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let remote = ([127, 0, 0, 1], 1).into();
    let connection =
        Connection::WebSocket(websocket::served(Box::new(ours), remote, 1 << 20).await);
    let mut peer = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    let mut message = Vec::new();
    frames.into_iter().for_each(|frame| frame.encode(&mut message));
    peer.send(Message::Binary(message.into())).await.unwrap();
    let (_tx, rx) = connection.accept_bi().await.unwrap();
    let mut frames = Frames::new(rx, 1 << 20);
    assert!(frames.read().await.is_ok_and(|more| more));
    let mut taken = Vec::new();
    while frames.take().is_ok_and(|any| any) {
        taken.push(frames.taken().len());
    }
    taken
}

#[tokio::test]
async fn frames_are_taken_256_at_a_time_and_gets_8() {
    let pings = |count| vec![ClientFrame::Ping { request: 1 }; count];
    let gets =
        |count| vec![ClientFrame::Get { request: 1, topic: "a", which: Which::Latest }; count];
    assert_eq!(taken(pings(600)).await, [256, 256, 88]);
    assert_eq!(taken(gets(20)).await, [8, 8, 4]);
    // Seven of eight parts are taken by the `Get` frames, and the rest by the others.
    assert_eq!(taken([gets(7), pings(100)].concat()).await, [7 + 32, 68]);
}

#[test]
fn frames_of_256_kib_are_decoded_at_a_time_or_one() {
    let frames = |sizes: &[usize]| -> Vec<Bytes> {
        sizes.iter().map(|size| vec![0; size << 10].into()).collect()
    };
    assert_eq!(portion(&frames(&[16; 256])), 16);
    assert_eq!(portion(&frames(&[100; 5])), 3);
    assert_eq!(portion(&frames(&[wire::MAX_CONTROL_FRAME >> 10, 1])), 1);
    assert_eq!(portion(&frames(&[1, 4096, 1])), 2);
    assert_eq!(portion(&frames(&[1; 100])), 100);
}

// Each refusal left 144 bytes behind for as long as its stream was open.
#[tokio::test]
async fn refused_publications_leave_nothing_behind_on_their_stream() {
    let engine = Engine::new(Limits::default(), 1_000_000, [7; 32]);
    let broker = Arc::new(Broker::new(engine, None));
    let (session, payload, budget) = broker
        .with(|engine| (engine.open_session(), engine.limits().payload, engine.budget().clone()));
    let admission = Admission::new(
        broker.clone(),
        PeerLimits::default(),
        Origins::default(),
        AccessRules::default(),
    );
    let permit = admission.admit([192, 0, 2, 1].into()).unwrap();
    let Budgets { throttle, replay } = admission.session_budgets(&permit);
    let (ours, _theirs) = tokio::io::duplex(1 << 20);
    let remote = ([127, 0, 0, 1], 1).into();
    let connection = websocket::served(Box::new(ours), remote, 1 << 20).await;
    let connection = Connection::WebSocket(connection);
    let buffers = admission.buffers().clone();
    let windows = Windows::new(buffers, admission.counts().clone(), &connection);
    let context = DeliveryContext::new(broker, connection, replay, windows);
    let (limits, shared) = ((payload, budget, throttle), (admission, Arc::default()));
    let peer = Arc::new(Peer::new(context, session, limits, shared, (0, 0)));
    let mut stream = StreamUpload::new(peer.clone());
    let mut actions = Vec::new();
    let frames = |frames: &[ClientFrame<'_>]| {
        let (mut bytes, mut reader) = (Vec::new(), FrameReader::new(1 << 20));
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        reader.push(bytes.into());
        let all = std::iter::from_fn(|| reader.next_frame().unwrap());
        all.collect::<Vec<Bytes>>()
    };
    let hello = ClientFrame::Hello {
        version: VERSION,
        producer: ProducerId([1; 16]),
        token: None,
        agent: "a test",
    };
    let opening = frames(&[hello, ClientFrame::Topic { alias: 1, name: "a" }]);
    peer.handle(Channel::Control, &opening, &mut stream, &mut actions).await.ok().unwrap();
    // A publication has a number from 1 on.
    let refused = ClientFrame::Publish { alias: 1, number: 0, stamp: 0, payload: b"x" };
    let refused = frames(&vec![refused; 256]);
    peer.handle(Channel::Publish, &refused, &mut stream, &mut actions).await.ok().unwrap();
    assert_eq!(actions.capacity(), 0);
}
