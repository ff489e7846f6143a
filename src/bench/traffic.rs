//! The measured messages: how they are created, recognised and counted.

use super::prng::Random;
use crate::client::PublishError;
use crate::wire::Delivery;
use crate::{Client, Gap};
use bytes::Bytes;
use std::time::Duration;

/// Minimum size of a payload, bytes: the number of the run, the index of the message, and eight bytes
/// that are derived from both.
pub(super) const HEADER: usize = 24;

/// Index of the message that is sent first, to check the path. It is not measured.
pub(super) const PROBE: u64 = u64::MAX;

/// Returns the payload of a message: run, index, and bytes that are derived from both.
pub(super) fn payload(run: u64, index: u64, size: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(size + 7);
    bytes.extend(run.to_le_bytes());
    bytes.extend(index.to_le_bytes());
    let mut random = Random::new(run, &[index]);
    while bytes.len() < size {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

/// Returns the index of a message of this run, or `None` if a byte differs. Does not allocate, because
/// every delivery is checked.
pub(super) fn recognise(run: u64, size: usize, bytes: &[u8]) -> Option<u64> {
    let (head, body) = bytes.split_first_chunk::<16>()?;
    let index = u64::from_le_bytes(*head.last_chunk()?);
    let mut random = Random::new(run, &[index]);
    let mut pieces = body.chunks_exact(8);
    let same = bytes.len() == size
        && run_of(bytes) == Some(run)
        && pieces.all(|piece| random.next().to_le_bytes() == *piece)
        && random.next().to_le_bytes().starts_with(pieces.remainder());
    same.then_some(index)
}

/// Returns the number of the run that a payload carries.
pub(super) fn run_of(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|run| u64::from_le_bytes(*run))
}

/// Returns the number of messages in a schedule of this rate.
#[expect(clippy::cast_sign_loss, reason = "neither is negative")]
pub(super) fn messages(duration: Duration, hz: f64) -> u64 {
    (duration.as_secs_f64() * hz).round() as u64
}

/// Sends a message in the way that matches a delivery mode: in datagrams for `realtime`.
pub(super) async fn publish(
    client: &Client,
    delivery: Delivery,
    topic: &str,
    payload: Bytes,
) -> Result<(), PublishError> {
    if delivery == Delivery::Realtime {
        client.send_realtime(topic, payload).await.map(drop)
    } else {
        client.send(topic, payload).await.map(drop)
    }
}

/// The deliveries of one run, counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    // A bit for each message, up to the last that arrived.
    seen: Vec<u64>,
    messages: u64,
    /// Messages that arrived, each counted once.
    pub(super) delivered: u64,
    /// Further arrivals of the same messages.
    pub(super) duplicates: u64,
    /// Payloads that differ from what was sent.
    pub(super) corrupted: u64,
    /// Messages that were reported as a gap.
    pub(super) gaps: u64,
}

impl Account {
    /// Creates an account for at most this many messages.
    pub(super) fn new(messages: u64) -> Self {
        Self { messages, ..Self::default() }
    }

    /// Counts an arrival. Returns the index of the message if it is the first of it.
    pub(super) fn message(&mut self, recognised: Option<u64>) -> Option<u64> {
        let Some(index) = recognised.filter(|index| *index < self.messages) else {
            self.corrupted += 1;
            return None;
        };
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit > 0 {
            self.duplicates += 1;
            return None;
        }
        self.seen[word] |= bit;
        self.delivered += 1;
        Some(index)
    }

    pub(super) fn gap(&mut self, gap: &Gap) {
        self.gaps += gap.last - gap.first + 1;
    }

    /// The number of messages that neither arrived nor were reported as a gap.
    pub(super) fn missing(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.delivered + self.gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_recognised_to_the_last_byte() {
        for size in [HEADER, 25, 32, 200, 10_000] {
            let bytes = payload(7, 42, size);
            assert_eq!(bytes.len(), size);
            assert_eq!(recognise(7, size, &bytes), Some(42));
            assert_eq!(recognise(8, size, &bytes), None);
            for at in [0, size - 1] {
                let mut wrong = bytes.to_vec();
                wrong[at] ^= 1;
                assert_eq!(recognise(7, size, &wrong), None);
            }
            assert_eq!(recognise(7, size, &bytes.slice(1..)), None);
        }
    }

    #[test]
    fn every_message_is_accounted_for_once() {
        let mut account = Account::new(3);
        assert_eq!(account.message(Some(1)), Some(1));
        assert_eq!(account.message(Some(1)), None);
        assert_eq!(account.message(Some(3)), None);
        assert_eq!(account.message(None), None);
        let Account { delivered, duplicates, corrupted, .. } = account;
        assert_eq!((delivered, duplicates, corrupted), (1, 1, 2));
        assert_eq!(account.missing(3), 2);
    }
}
