//! The states of sequencers, kept beside the stream in an object store. The stream forgets its oldest
//! messages, and a daemon that comes later needs to know their sequences.
//!
//! Each object is the state after one entry, and any daemon writes it: they all have the same. Those
//! whose next entry the stream still has are kept, and the last one before. A daemon that comes takes
//! the oldest of them, so that it replays, and caches, as much as the stream has.

use super::identity::Identity;
use super::settings::StreamStorage;
use crate::engine::replica::SequencerState;
use async_nats::jetstream::Context;
use async_nats::jetstream::object_store::{Config, ObjectInfo, ObjectStore};
use async_nats::jetstream::stream::StorageType;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// Version of the format.
const VERSION: u8 = 1;

/// Entries after which another state is worth its bytes, although the last one is young.
const MANY: u64 = 100_000;

/// Age from which the last state is replaced, if there are new entries.
const OLD: Duration = Duration::from_secs(60);

/// Maximum length of a state, 64 MiB: twice what the tables take.
const MOST: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Stored<S> {
    version: u8,
    // As in `Snapshots::run`.
    begun: u64,
    state: S,
}

/// A state, and the entry with which the daemons began to follow the stream.
pub(super) struct Restored {
    pub(super) begun: u64,
    pub(super) state: SequencerState,
}

/// The states of one stream.
pub(super) struct Snapshots {
    store: ObjectStore,
    // The beginning of the names of its objects.
    prefix: String,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Snapshots {
    /// Opens the store of a stream, or makes it.
    pub(super) async fn open(
        context: &Context,
        stream: &str,
        identity: Identity,
        (replicas, storage): (usize, StreamStorage),
    ) -> Result<Self, String> {
        let bucket = format!("{stream}-order");
        let store = match context.get_object_store(&bucket).await {
            Ok(store) => store,
            Err(_) => {
                let config = Config {
                    bucket,
                    description: Some("what the Weir daemons know of the order".into()),
                    num_replicas: replicas,
                    storage: match storage {
                        StreamStorage::File => StorageType::File,
                        StreamStorage::Memory => StorageType::Memory,
                    },
                    ..Config::default()
                };
                context.create_object_store(config).await.map_err(text)?
            }
        };
        Ok(Self { store, prefix: format!("{:016x}-", identity.hash()) })
    }

    // Returns the numbers of the states, in order, each with its object.
    async fn list(&self) -> Result<Vec<(u64, ObjectInfo)>, String> {
        let mut objects = self.store.list().await.map_err(text)?;
        let mut found = Vec::new();
        while let Some(object) = objects.next().await {
            let object = object.map_err(text)?;
            let number = object.name.strip_prefix(&self.prefix).and_then(|name| name.parse().ok());
            if let Some(number) = number {
                found.push((number, object));
            }
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        Ok(found)
    }

    /// Reads the oldest state after which the stream has everything. `first` is the number of the first
    /// entry that the stream has.
    pub(super) async fn load(&self, first: u64) -> Result<Option<Restored>, String> {
        for (number, object) in self.list().await? {
            if number + 1 < first || object.size > MOST {
                continue;
            }
            let mut bytes = Vec::new();
            let mut reader = self.store.get(&object.name).await.map_err(text)?;
            // It checks the digest too.
            reader.read_to_end(&mut bytes).await.map_err(text)?;
            let stored: Stored<SequencerState> = match postcard::from_bytes(&bytes) {
                Ok(stored) => stored,
                Err(error) => {
                    tracing::warn!(object = object.name, %error, "a damaged state of the order is passed over");
                    continue;
                }
            };
            if stored.version == VERSION && stored.state.last == number {
                return Ok(Some(Restored { begun: stored.begun, state: stored.state }));
            }
        }
        Ok(None)
    }

    /// Writes a state, if the newest one is old or far behind, and removes those that are of no use.
    /// `first` is as of [`load`](Self::load).
    pub(super) async fn save(
        &self,
        begun: u64,
        state: &SequencerState,
        first: u64,
    ) -> Result<(), String> {
        let known = self.list().await?;
        if let Some((number, object)) = known.last() {
            let age = object.modified.map(time::OffsetDateTime::unix_timestamp);
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let now = now.map_or(0, |now| now.as_secs());
            let is_old =
                age.is_none_or(|at| now.saturating_sub(at.max(0).cast_unsigned()) >= OLD.as_secs());
            let is_needed = number + 1 < first;
            if state.last <= *number || !(is_old || is_needed || state.last - number >= MANY) {
                return Ok(());
            }
        }
        let stored = Stored { version: VERSION, begun, state };
        let bytes = postcard::to_allocvec(&stored).map_err(text)?;
        let name = format!("{}{}", self.prefix, state.last);
        self.store.put(&*name, &mut &bytes[..]).await.map_err(text)?;
        let useless = known.iter().filter(|(number, _)| number + 1 < first);
        for (_, object) in useless {
            self.store.delete(&object.name).await.map_err(text)?;
        }
        Ok(())
    }
}
