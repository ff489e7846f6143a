//! Publications of a client in chunks.

use crate::common::within;
use crate::staged::Stage;
use crate::{CHUNK, LIMIT, payload, session};
use bytes::Bytes;
use weir::wire::{ClientFrame, Code, DaemonFrame, Digest, FrameReader};

/// A stream of the client's, and what the daemon read from it.
struct Published {
    stream: quinn::RecvStream,
    reader: FrameReader,
}

impl Published {
    async fn accept(stage: &Stage) -> Self {
        let stream = within(stage.connection.accept_uni()).await.unwrap();
        Self { stream, reader: FrameReader::new(1 << 20) }
    }

    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                return Some(frame);
            }
            let chunk = within(self.stream.read_chunk(1 << 16, true)).await.unwrap();
            self.reader.push(chunk?.bytes);
        }
    }

    /// Reads the topic and the beginning. Returns alias, number and size.
    async fn begun(&mut self) -> (u32, u64, u64) {
        let frame = self.frame().await.unwrap();
        let Ok(ClientFrame::Topic { alias: declared, name: "demo/a" }) =
            ClientFrame::decode(&frame)
        else {
            panic!("no topic first");
        };
        let frame = self.frame().await.unwrap();
        let Ok(ClientFrame::Begin { alias, number, stamp, size }) = ClientFrame::decode(&frame)
        else {
            panic!("no beginning after it");
        };
        assert!(alias == declared && stamp > 0);
        (alias, number, size)
    }
}

fn receipt(alias: u32, number: u64, duplicate: bool) -> DaemonFrame<'static> {
    let digest = Digest([0; 32]);
    DaemonFrame::Receipt { alias, number, sequence: 5, count: 1, since: 0, digest, duplicate }
}

#[tokio::test]
async fn a_large_payload_goes_in_chunks_on_a_stream_of_its_own() {
    let (client, mut stage) = session().await;
    for (number, size) in [(1, CHUNK + 1), (2, 200_000), (3, LIMIT as usize)] {
        let large = payload(size);
        let sent = client.send("demo/a", large.clone()).await.unwrap();
        let mut stream = Published::accept(&stage).await;
        let (alias, begun, declared) = stream.begun().await;
        assert_eq!((begun, declared), (number, size as u64));
        let mut got = Vec::new();
        loop {
            let frame = stream.frame().await.unwrap();
            match ClientFrame::decode(&frame).unwrap() {
                ClientFrame::Chunk { bytes } => {
                    assert!((1..=CHUNK).contains(&bytes.len()));
                    got.extend_from_slice(bytes);
                }
                ClientFrame::End { digest } => {
                    assert_eq!(digest, Digest::of(&large));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(got == large);
        assert_eq!(stream.frame().await, None, "it ends there");
        stage.send(&receipt(alias, number, false)).await;
        assert_eq!(within(sent).await.unwrap().sequence, 5);
    }
}

// A client whose stream is stopped waits for the answer on the control stream, which may arrive
// before or after the stop.
#[tokio::test]
async fn a_client_that_is_stopped_waits_for_its_answer() {
    let (client, mut stage) = session().await;
    let large = payload(LIMIT as usize);
    // More publications than may be in flight at once: a stopped one must free its place.
    for number in 1..=40 {
        let sent = client.send("demo/a", large.clone()).await.unwrap();
        let mut stream = Published::accept(&stage).await;
        let (alias, begun, _) = stream.begun().await;
        assert_eq!(begun, number);
        let answer_first = number % 2 == 0;
        if answer_first {
            stage.send(&receipt(alias, number, true)).await;
        }
        stream.stream.stop(Code::DONE.0.into()).unwrap();
        if !answer_first {
            let (code, reason) = (Code::STALE, "too old");
            stage.send(&DaemonFrame::Rejected { alias, number, code, reason }).await;
        }
        match within(sent).await {
            Ok(receipt) => assert!(answer_first && receipt.duplicate),
            Err(error) => assert!(!answer_first && error.to_string().contains("too old")),
        }
    }
}

// Each publication has its own stream, so that large ones do not wait for one another, nor small
// ones for them.
#[tokio::test]
async fn several_large_payloads_are_in_flight_beside_small_ones() {
    let (client, stage) = session().await;
    let large = payload(LIMIT as usize);
    let mut streams = Vec::new();
    for number in 1..=4 {
        drop(client.send("demo/a", large.clone()).await.unwrap());
        let mut stream = Published::accept(&stage).await;
        assert_eq!(stream.begun().await.1, number);
        streams.push(stream);
    }
    drop(client.send("demo/a", "small").await.unwrap());
    let mut stream = Published::accept(&stage).await;
    let frame = stream.frame().await.unwrap();
    assert!(matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Topic { .. })));
    let frame = stream.frame().await.unwrap();
    assert!(matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Publish { number: 5, .. })));
    drop(streams);
}
