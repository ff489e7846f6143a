//! Proposals, and the large publications that are being proposed.

use super::entry::{LogChange, LogUpload};
use crate::engine::publication::PublicationId;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// Maximum number of large publications that arrive at one daemon at the same time, 16,384: 2.5 MiB.
const MOST_UPLOADS: usize = 16_384;

/// The one who is told the outcome of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyTo {
    /// A session, for a publication of its peer.
    Session {
        /// Its [id](crate::engine::Session::id).
        session: u64,
        /// The alias of the topic.
        alias: u32,
        /// The number of the publication.
        number: u64,
        /// Length of the payload, bytes.
        size: u64,
        /// Whether it came in a datagram, and is acknowledged in one.
        datagram: bool,
    },
    /// A caller within the process, by a number of its own.
    Caller(u64),
    /// Nobody: it is a part of a publication.
    Nobody,
}

/// A change that is proposed to the log.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Its number among those of this engine, from 1 on.
    pub id: u64,
    /// The one who waits for it.
    pub reply_to: ReplyTo,
    /// The change.
    pub change: LogChange,
}

/// The proposals that were not taken yet.
#[derive(Debug, Default)]
pub(in crate::engine) struct Proposals {
    list: Vec<Proposal>,
    made: u64,
    // Large publications that arrive here, by the numbers in their ids.
    uploads: HashMap<u64, ProposedUpload, RandomState>,
    last_upload: u64,
    by_origin: HashMap<(Arc<str>, PublicationId), u64, RandomState>,
}

/// A large publication that arrives here, and is proposed.
#[derive(Debug)]
pub(in crate::engine) struct ProposedUpload {
    pub(super) name: LogUpload,
    pub(super) topic: Arc<str>,
    pub(super) origin: Option<PublicationId>,
    pub(super) size: u64,
    pub(super) received: u64,
}

impl Proposals {
    pub(super) fn push(&mut self, reply_to: ReplyTo, change: LogChange) {
        self.made += 1;
        self.list.push(Proposal { id: self.made, reply_to, change });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn take(&mut self, out: &mut Vec<Proposal>) {
        out.append(&mut self.list);
    }

    /// Returns a number for another upload, if there may be one more.
    pub(super) fn next_upload(&mut self) -> Option<u64> {
        if self.uploads.len() >= MOST_UPLOADS {
            return None;
        }
        self.last_upload += 1;
        Some(self.last_upload)
    }

    pub(super) fn begin(&mut self, number: u64, upload: ProposedUpload) {
        if let Some(origin) = upload.origin.filter(|origin| !origin.is_key())
            && let Some(before) = self.by_origin.insert((upload.topic.clone(), origin), number)
        {
            // The producer has given its first attempt up. The log ends that one too.
            self.uploads.remove(&before);
        }
        self.uploads.insert(number, upload);
    }

    pub(super) fn upload(&mut self, number: u64) -> Option<&mut ProposedUpload> {
        self.uploads.get_mut(&number)
    }

    pub(super) fn take_upload(&mut self, number: u64) -> Option<ProposedUpload> {
        let open = self.uploads.remove(&number)?;
        if let Some(origin) = open.origin {
            let key = (open.topic.clone(), origin);
            if self.by_origin.get(&key) == Some(&number) {
                self.by_origin.remove(&key);
            }
        }
        Some(open)
    }
}
