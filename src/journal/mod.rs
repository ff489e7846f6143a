//! The journal: what makes an acknowledged publication outlive the process.
//!
//! A publication passes four moments. It is *proposed* when a face hands it to the broker. It is
//! *ordered* when the broker has the engine's lock, and *applied* by the engine under that lock.
//! Subscribers are woken then, and nobody has waited for a disk. The engine makes a
//! [`Record`](crate::engine::Record) of it, which goes to a queue in the same order. It is *kept*
//! when that record was written as the setting `sync` asks; only then its receipt is sent.
//!
//! - [`format`]: the bytes, pure.
//! - [`storage`]: the files, or a test's.
//! - [`log`], [`snapshot_file`], [`recovery`], [`keeper`]: writing and reading. They know no threads
//!   and no clock, and are simulated together with the engine.
//! - [`queue`]: between the engine and the disk. [`threads`] and what they share: the shell.

mod asides;
mod findings;
mod foreign;
pub(crate) mod format;
#[cfg(feature = "jetstream")]
pub(crate) mod jetstream;
pub(crate) mod keeper;
pub(crate) mod log;
pub(crate) mod names;
#[cfg(feature = "daemon")]
pub(crate) mod proposals;
#[cfg(feature = "daemon")]
pub(crate) mod queue;
mod reading;
pub(crate) mod recovery;
mod secret_file;
#[cfg(feature = "daemon")]
pub(crate) mod settings;
#[cfg(feature = "daemon")]
mod shared;
pub(crate) mod snapshot_file;
pub(crate) mod storage;
#[cfg(feature = "daemon")]
pub(crate) mod threads;

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
