//! Large publications whose daemon has gone: their rest will never come, and another daemon says so.

use crate::engine::replica::{LogUpload, OpenUpload};
use std::collections::HashMap;
use std::sync::Arc;

/// Looks, 10 s apart, after which an upload without a new byte is abandoned: a minute. A publisher that
/// is so slow is refused by its own daemon long before.
const LOOKS: u32 = 6;

/// How far the uploads were when they were looked at.
#[derive(Debug, Default)]
pub(super) struct Abandoned {
    seen: HashMap<LogUpload, (u64, u32)>,
}

impl Abandoned {
    /// Looks at all uploads. Returns those that are abandoned.
    pub(super) fn look<'a>(
        &mut self,
        uploads: impl Iterator<Item = &'a OpenUpload>,
    ) -> Vec<(LogUpload, Arc<str>)> {
        let before = std::mem::take(&mut self.seen);
        let mut abandoned = Vec::new();
        for OpenUpload { upload, name, received, .. } in uploads {
            let looks = match before.get(upload) {
                Some((had, looks)) if had == received => looks + 1,
                _ => 0,
            };
            if looks >= LOOKS {
                abandoned.push((*upload, name.clone()));
            }
            self.seen.insert(*upload, (*received, looks));
        }
        abandoned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_for_a_minute_is_abandoned() {
        let upload = |n: u8, received| OpenUpload {
            upload: LogUpload([n; 16]),
            name: "a".into(),
            topic: 1,
            sequence: 1,
            begun: 1,
            before: 0,
            size: 100,
            received,
            origin: None,
        };
        let mut abandoned = Abandoned::default();
        for look in 0..=LOOKS {
            let uploads = [upload(1, 5), upload(2, look.into())];
            let found = abandoned.look(uploads.iter());
            assert_eq!(found.len(), usize::from(look == LOOKS), "{look}");
            assert!(found.iter().all(|(name, _)| *name == LogUpload([1; 16])));
        }
        // One that has ended is forgotten.
        assert!(abandoned.look([].iter()).is_empty() && abandoned.seen.is_empty());
    }
}
