//! A remote peer, without a network.

use crate::engine::{Action, Channel, Engine, Hashing, IncomingUpload, Prepared, Session};
use crate::wire::{
    ClientFrame, Code, DaemonFrame, Delivery, FrameReader, Lag, ProducerId, Refusal, Start, VERSION,
};
use bytes::Bytes;

/// A peer that says whatever the test wants.
pub(super) struct Peer {
    pub(super) session: Session,
    pub(super) replies: FrameReader,
    // Of the control stream, and of one other.
    control: (Hashing, IncomingUpload),
    stream: (Hashing, IncomingUpload),
}

impl Peer {
    pub(super) fn new(engine: &mut Engine) -> Self {
        Self {
            session: engine.open_session(),
            replies: FrameReader::new(1 << 24),
            control: Default::default(),
            stream: Default::default(),
        }
    }

    /// One that has said hello.
    pub(super) fn open(engine: &mut Engine, producer: u8) -> Self {
        let mut peer = Self::new(engine);
        peer.say(engine, &hello(producer)).unwrap();
        assert!(matches!(decode(&peer.reply()), DaemonFrame::Welcome { .. }));
        peer
    }

    pub(super) fn say(
        &mut self,
        engine: &mut Engine,
        frame: &ClientFrame<'_>,
    ) -> Result<Option<Action>, Refusal> {
        self.say_on(engine, Channel::Control, frame)
    }

    pub(super) fn say_on(
        &mut self,
        engine: &mut Engine,
        channel: Channel,
        frame: &ClientFrame<'_>,
    ) -> Result<Option<Action>, Refusal> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let mut reader = FrameReader::new(1 << 24);
        reader.push(bytes.into());
        self.take(engine, channel, &reader.next_frame().unwrap().unwrap())
    }

    pub(super) fn take(
        &mut self,
        engine: &mut Engine,
        channel: Channel,
        frame: &Bytes,
    ) -> Result<Option<Action>, Refusal> {
        let mut out = Vec::new();
        let (hashing, intake) = match channel {
            Channel::Control => &mut self.control,
            _ => &mut self.stream,
        };
        let result = Prepared::new(frame, hashing)
            .and_then(|frame| self.session.handle(engine, 77, (channel, intake), frame, &mut out));
        self.replies.push(out.into());
        result
    }

    /// The stream of its publications is at its end.
    pub(super) fn break_off(&mut self, engine: &mut Engine) {
        let (_, mut intake) = std::mem::take(&mut self.stream);
        self.session.upload_reset(engine, &mut intake);
    }

    /// Nothing came for long, on either.
    pub(super) fn stall(&mut self, engine: &mut Engine) -> Option<Action> {
        let mut out = Vec::new();
        let why = Refusal::new(Code::TIMED_OUT, "it stood still");
        let stopped = self.session.refuse_upload(engine, &mut self.stream.1, &why, &mut out);
        let stopped =
            stopped.or(self.session.refuse_upload(engine, &mut self.control.1, &why, &mut out));
        self.replies.push(out.into());
        stopped
    }

    /// The one frame that was answered.
    pub(super) fn reply(&mut self) -> Bytes {
        let reply = self.replies.next_frame().unwrap().expect("an answer");
        assert_eq!(self.replies.next_frame(), Ok(None), "more than one answer");
        reply
    }
}

pub(super) fn decode(frame: &Bytes) -> DaemonFrame<'_> {
    DaemonFrame::decode(frame).unwrap()
}

pub(super) fn hello(producer: u8) -> ClientFrame<'static> {
    ClientFrame::Hello {
        version: VERSION,
        producer: ProducerId([producer; 16]),
        token: None,
        agent: "test",
    }
}

pub(super) fn subscribe<'a>(request: u32, filter: &'a str, start: Start<'a>) -> ClientFrame<'a> {
    ClientFrame::Subscribe {
        request,
        filter,
        start,
        delivery: Delivery::Ordered,
        lag: Lag::Oldest,
        deadline: 0,
    }
}

pub(super) fn said(number: u64, payload: &[u8]) -> ClientFrame<'_> {
    ClientFrame::Publish { alias: 1, number, stamp: 5, payload }
}

pub(super) fn topic(alias: u32, name: &str) -> ClientFrame<'_> {
    ClientFrame::Topic { alias, name }
}

pub(super) fn code(result: Result<Option<Action>, Refusal>) -> Code {
    result.unwrap_err().code
}
