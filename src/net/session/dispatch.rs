//! Frames of a peer, handed to its session in the engine.

use super::end::SessionEnd;
use super::frame_reader::Frames;
use super::peer::Peer;
use super::upload::Incoming;
use crate::engine::{Action, Channel, Prepared};
use crate::net;
use crate::wire::{ClientFrame, Code, DaemonFrame, Refusal};
use bytes::Bytes;

/// Bytes of answers after which a peer's further frames wait for room: a frame of ten bytes may ask
/// for a hundred KiB. 64 KiB.
const ANSWERED: usize = 64 << 10;

/// Frames that are decoded at once are of so many bytes, 256 KiB, or one frame: a decoded list takes
/// several times its bytes.
const PORTION: usize = 256 << 10;

// How many of these are decoded at once.
pub(super) fn portion(frames: &[Bytes]) -> usize {
    let mut bytes = 0;
    let more = frames.iter().take_while(|frame| {
        let more = bytes < PORTION;
        bytes += frame.len();
        more
    });
    more.count()
}

impl Peer {
    // Hands frames to the session under one lock, or under several if there is much to say to
    // them; what is to be done after it goes to `actions`.
    pub(super) async fn handle(
        &self,
        channel: Channel,
        frames: &[Bytes],
        incoming: &mut Incoming,
        actions: &mut Vec<Action>,
    ) -> Result<(), SessionEnd> {
        let Incoming { hashing, intake, .. } = incoming;
        let mut rest = frames;
        while !rest.is_empty() {
            // A peer that does not read its receipts is not read either, and nothing of it waits
            // decoded.
            self.room().await?;
            let (next, after) = rest.split_at(portion(rest));
            rest = after;
            // Decoded and hashed before the lock is taken.
            let prepared = next.iter().map(|frame| Prepared::new(frame, hashing));
            let mut prepared = prepared.collect::<Vec<_>>().into_iter();
            loop {
                let now = net::now();
                let mut out = Vec::new();
                let result = self.context.broker.with(|engine| {
                    let mut session = self.state();
                    while out.len() < ANSWERED
                        && !engine.is_work_spent()
                        && let Some(frame) = prepared.next()
                    {
                        let of = (channel, &mut *intake);
                        actions.extend(session.handle(engine, now, of, frame?, &mut out)?);
                    }
                    Ok(session.is_open())
                });
                if !out.is_empty() {
                    self.outbox.push([out.into()]);
                }
                match result {
                    Ok(true) => self.opened_now(),
                    Ok(false) => {}
                    Err(refusal) => return Err(SessionEnd::Refused(refusal)),
                }
                if prepared.len() == 0 {
                    break;
                }
                self.room().await?;
            }
        }
        Ok(())
    }

    // Gives up what has begun to come and is not complete, and tells the peer: a publication, or
    // else the session. What still comes of it is passed over.
    pub(super) async fn give_up(
        &self,
        incoming: &mut Incoming,
        frames: &mut Frames,
        why: &Refusal,
    ) -> Result<Option<Action>, SessionEnd> {
        let mut out = Vec::new();
        let intake = &mut incoming.intake;
        let mut action = None;
        if intake.progress().is_some() {
            action = self
                .context
                .broker
                .with(|engine| self.state().refuse_upload(engine, intake, why, &mut out));
        } else if let Some((alias, number)) = ClientFrame::publication(frames.begun()) {
            let Refusal { code, reason } = why;
            DaemonFrame::Rejected { alias, number, code: *code, reason }.encode(&mut out);
        } else {
            let reason = match why.code {
                Code::TIMED_OUT => "a frame stood still, or came too slowly: send it whole",
                _ => "there is no room for a frame that is not complete: connect again later",
            };
            return Err(Refusal::new(why.code, reason).into());
        }
        frames.skip();
        self.room().await?;
        self.outbox.push([out.into()]);
        Ok(action)
    }
}

/// What is said to a publication that does not go on.
pub(super) fn stalled() -> Refusal {
    Refusal::new(
        Code::TIMED_OUT,
        "the payload stood still, or came too slowly: publish it again, over a better link or in \
         smaller parts",
    )
}
