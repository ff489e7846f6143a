//! Frames of a peer, handed to its session in the engine.

use super::end::SessionEnd;
use super::frame_reader::Frames;
use super::identity::{permit, shown};
use super::peer::Peer;
use super::upload::{Refuses, StreamUpload};
use crate::broker::throttle::count_refusal;
use crate::engine::{Action, Channel, Prepared};
use crate::net;
use crate::wire::{ClientFrame, Code, DaemonFrame, Refusal, take_receipts};
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::sleep;

/// Bytes of answers after which a peer's further frames wait for room in the outbox, 64 KiB. A
/// frame of ten bytes may cause an answer of a hundred KiB.
const ANSWERED: usize = 64 << 10;

/// Bytes of frames that are decoded at once, 256 KiB, or one frame. A decoded list takes several
/// times its bytes.
const PORTION: usize = 256 << 10;

// The number of frames that are decoded at once.
pub(super) fn portion(frames: &[Bytes]) -> usize {
    let mut bytes = 0;
    let more = frames.iter().enumerate().take_while(|(at, frame)| {
        // The frames after a token are judged by it.
        let more = bytes < PORTION && (*at == 0 || !ClientFrame::may_show_token(frame));
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
        let StreamUpload { hashing, upload, refuses, .. } = stream;
        let access = self.admission.access();
        let mut rest = frames;
        while !rest.is_empty() {
            // Frames of a peer that does not read its receipts wait, and are not decoded meanwhile.
            self.wait_for_room().await?;
            let mut identity = None;
            let rules = access.rules();
            if self.is_outdated(&rules) {
                // Boxed, because it is rare.
                Box::pin(self.renew()).await;
            }
            if rules.is_open() {
                if channel == Channel::Control && !self.is_open() {
                    self.admit_by(&rules);
                }
            } else {
                if channel == Channel::Control {
                    let opens = !self.is_open();
                    // Boxed, because it happens once.
                    if opens && !Box::pin(self.identify(rest)).await? {
                        *refuses = Refuses::All { told: false };
                    }
                    if !opens && let Some(token) = shown(&rest[0]) {
                        rest = &rest[1..];
                        if !Box::pin(self.show_token(token, rest, actions)).await {
                            *refuses = Refuses::All { told: false };
                        }
                        continue;
                    }
                }
                identity = Some(self.identity.current.read().await);
            }
            let identity = identity.as_ref().and_then(|identity| identity.as_ref());
            let (next, after) = rest.split_at(portion(rest));
            rest = after;
            // Frames are decoded and hashed before the lock is taken.
            let prepared = next.iter().map(|frame| {
                let prepared = self.hold_back(Prepared::new(frame, hashing)?, refuses);
                Ok(match identity {
                    Some(identity) => permit(access, identity, prepared),
                    None => prepared,
                })
            });
            let mut prepared = prepared.collect::<Vec<_>>().into_iter();
            let is_publication = |frame: &Result<Prepared<'_>, _>| {
                frame.as_ref().is_ok_and(Prepared::is_publication)
            };
            if prepared.as_slice().iter().any(is_publication) {
                self.context.broker.room_to_publish().await;
            }
            let is_top = |frame: &Result<Prepared<'_>, _>| {
                matches!(frame, Ok(Prepared::Other(ClientFrame::Top { .. })))
            };
            // Answers that are written here, and not by a task.
            let answers = channel == Channel::Control && prepared.as_slice().iter().any(is_top);
            loop {
                if answers && let Some(wait) = self.context.replay.wait() {
                    // Boxed, because few sessions have rankings.
                    Box::pin(sleep(wait)).await;
                }
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
                        match action {
                            Some(Action::Refused { code }) => {
                                count_refusal(self.throttle.counts(), code);
                            }
                            action => actions.extend(action),
                        }
                    }
                    Ok(session.is_open())
                });
                if answers {
                    self.context.replay.spend_answer(out.len());
                }
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

    // Refuses a publication if its peer is too fast.
    fn hold_back<'a>(&self, frame: Prepared<'a>, refuses: &mut Refuses) -> Prepared<'a> {
        // The usual case costs a comparison.
        if *refuses == Refuses::None || !frame.begins_publication() {
            return frame;
        }
        *refuses = match refuses {
            Refuses::All { .. } => Refuses::All { told: true },
            _ => Refuses::None,
        };
        frame.refuse(Arc::new(self.throttle.refuse()))
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
        count_refusal(self.throttle.counts(), why.code);
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
