//! Frames of a peer, handed to its session in the engine.

use super::end::SessionEnd;
use super::frame_reader::Frames;
use super::peer::Peer;
use super::upload::StreamUpload;
use crate::engine::{Action, Channel, Prepared};
use crate::net;
use crate::wire::{ClientFrame, Code, DaemonFrame, Refusal, take_receipts};
use bytes::Bytes;

/// Bytes of answers after which a peer's further frames wait for room in the outbox, 64 KiB. A
/// frame of ten bytes may cause an answer of a hundred KiB.
const ANSWERED: usize = 64 << 10;

/// Bytes of frames that are decoded at once, 256 KiB, or one frame. A decoded list takes several
/// times its bytes.
const PORTION: usize = 256 << 10;

// The number of frames that are decoded at once.
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
    // Hands frames to the session under one lock, or under several if there are many answers. The
    // caller carries out the `actions`.
    pub(super) async fn handle(
        &self,
        channel: Channel,
        frames: &[Bytes],
        stream: &mut StreamUpload,
        actions: &mut Vec<Action>,
    ) -> Result<(), SessionEnd> {
        let StreamUpload { hashing, upload, .. } = stream;
        let mut rest = frames;
        while !rest.is_empty() {
            // Frames of a peer that does not read its receipts wait, and are not decoded meanwhile.
            self.wait_for_room().await?;
            let (next, after) = rest.split_at(portion(rest));
            rest = after;
            // Frames are decoded and hashed before the lock is taken.
            let prepared = next.iter().map(|frame| Prepared::new(frame, hashing));
            let mut prepared = prepared.collect::<Vec<_>>().into_iter();
            let is_publication = |frame: &Result<Prepared<'_>, _>| {
                frame.as_ref().is_ok_and(Prepared::is_publication)
            };
            if prepared.as_slice().iter().any(is_publication) {
                self.context.broker.room_to_publish().await;
            }
            loop {
                let now = net::now();
                let mut out = Vec::new();
                let result = self.context.broker.with(|engine| {
                    let mut session = self.session();
                    while out.len() < ANSWERED
                        && !engine.is_work_spent()
                        && let Some(frame) = prepared.next()
                    {
                        let of = (channel, &mut *upload);
                        let action = session.handle(engine, now, of, frame?, &mut out)?;
                        // The peer has been told of a refusal. Nothing else follows from it, and a
                        // peer could have any number of them kept on each of its streams.
                        actions.extend(action.filter(|a| !matches!(a, Action::Refused { .. })));
                    }
                    Ok(session.is_open())
                });
                self.reply(out);
                match result {
                    Ok(true) => self.set_open(),
                    Ok(false) => {}
                    Err(refusal) => return Err(SessionEnd::Refused(refusal)),
                }
                if prepared.len() == 0 {
                    break;
                }
                self.wait_for_room().await?;
            }
        }
        Ok(())
    }

    // Sends frames to the peer. Receipts wait until their publications are kept.
    fn reply(&self, mut out: Vec<u8>) {
        if let Some(journal) = self.context.broker.journal() {
            let receipts = take_receipts(&mut out);
            if !receipts.is_empty() {
                self.outbox.hold(journal.pushed(), receipts.into());
            }
        }
        if !out.is_empty() {
            self.outbox.push([out.into()]);
        }
    }

    // Rejects the publication that is incomplete on a stream, and skips the rest of it. If another
    // frame is incomplete, the session ends.
    pub(super) async fn reject_incomplete(
        &self,
        stream: &mut StreamUpload,
        frames: &mut Frames,
        why: &Refusal,
    ) -> Result<Option<Action>, SessionEnd> {
        let mut out = Vec::new();
        let upload = &mut stream.upload;
        let mut action = None;
        if upload.progress().is_some() {
            action = self
                .context
                .broker
                .with(|engine| self.session().refuse_upload(engine, upload, why, &mut out));
        } else if let Some((alias, number)) = ClientFrame::publication(frames.incomplete_bytes()) {
            let Refusal { code, reason } = why;
            DaemonFrame::Rejected { alias, number, code: *code, reason }.encode(&mut out);
        } else {
            let reason = match why.code {
                Code::TIMED_OUT => "the rest of a frame did not arrive in time: send frames whole",
                _ => "the daemon has no room for an incomplete frame: connect again later",
            };
            return Err(Refusal::new(why.code, reason).into());
        }
        frames.skip();
        self.wait_for_room().await?;
        self.outbox.push([out.into()]);
        Ok(action)
    }
}

/// The refusal of a publication that stops, or arrives too slowly.
pub(super) fn too_slow() -> Refusal {
    Refusal::new(
        Code::TIMED_OUT,
        "the payload stopped, or arrived too slowly: publish it again over a better link, or in \
         smaller parts",
    )
}
