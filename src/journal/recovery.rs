//! Reading a journal: the newest snapshot, and the log after it.
//!
//! All that can be read is read. A file with damage keeps a second name, and a line says what is
//! missing.

use super::asides::Asides;
use super::foreign::{self, journal_of};
use super::log::Segment;
use super::names::Name;
use super::reading::{Closed, Reading};
use super::secret_file::{self, Secret};
use super::storage::Storage;
use crate::engine::Engine;
use std::io;

/// How the log before this start has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// There was none.
    New,
    /// In good order: everything that was accepted is there.
    Closed,
    /// In good order; and more sequences may have been assigned since.
    Copied,
    /// The process has ended, and the machine has not: everything that was acknowledged is there.
    Killed,
    /// The machine has stopped, or something is damaged: acknowledged publications may be missing.
    Lossy,
}

/// The result of reading a journal.
pub(crate) struct Recovered {
    pub(crate) engine: Engine,
    /// The number of the last record that was read. Restoring may have made more.
    pub(crate) recorded: u64,
    pub(crate) segments: Vec<Segment>,
    /// The number of the snapshot that was read.
    pub(crate) snapshot: Option<u64>,
    /// Its length, bytes.
    pub(crate) snapshot_bytes: u64,
    /// The number that the next file has at least.
    pub(crate) next: u64,
    pub(crate) end: End,
    /// Lines for the operator: what could not be read, and where it is.
    pub(crate) lines: Vec<String>,
    /// Why its files cannot be changed or synced at the moment.
    pub(crate) failed: Option<io::Error>,
    /// Damaged files that could not be given their second names, and these names. They need them
    /// before a snapshot takes their place.
    pub(crate) unlinked: Vec<[String; 2]>,
    pub(super) secret: Secret,
    /// The [`state`](Storage::state) of the file with the secret.
    pub(super) state: Option<u64>,
}

const COPIED: &str = "its files are a copy of those that a daemon has left, or some of them are missing: more may have \
                      been published since, so topics have new epochs, and clients are told";

/// Reads a journal into an engine, which has to be new. `boot` names the time since the machine was
/// started.
pub(crate) fn recover(storage: &dyn Storage, engine: Engine, boot: &str) -> io::Result<Recovered> {
    let mut reading = Reading::new(storage, engine);
    let parse = |names: Vec<String>| -> Vec<Name> {
        names.iter().filter_map(|name| Name::parse(name)).collect()
    };
    let (files, directories) = (storage.names()?, storage.other_names()?);
    let has_secret = files.iter().any(|name| name == secret_file::NAME);
    for name in &directories {
        if Name::parse(name).is_some() || name == secret_file::NAME {
            reading.asides.lines.push(format!("{name} is not a file, and is passed over"));
        }
    }
    let (mut names, others) = (parse(files), parse(directories));
    names.sort_unstable();
    let all = names.iter().chain(&others);
    let next = all.map(|name| name.number() + 1).max().unwrap_or(1);
    let mut failed = None;
    let mut remove =
        |name: &Name| failed = storage.remove(&name.to_string()).err().or(failed.take());
    names.iter().filter(|name| matches!(name, Name::Partial(_))).for_each(&mut remove);
    if has_secret {
        reading.state = Some(storage.state(secret_file::NAME)?);
        reading.take_secret()?;
    }
    let kept = reading.secret;
    let snapshot = reading.snapshots(&names, &mut remove)?;
    let segments = reading.log(&names)?;
    if let Some(secret) = reading.secret.filter(|_| kept.is_none())
        && !reading.asides.unlinked.iter().any(|[name, _]| name == secret_file::NAME)
    {
        // If it cannot be written now, the next start tries again.
        let _ = secret_file::write(storage, &secret);
    }
    reading.end();
    let snapshot_bytes = reading.snapshot_bytes;
    let Reading { mut engine, missing, closed, any, boot: before, asides, secret, state, .. } =
        reading;
    let secret = secret.unwrap_or(Secret { secret: engine.secret(), former: None });
    let Asides { mut lines, failed: unlinked_for, unlinked, .. } = asides;
    failed = failed.or(unlinked_for);
    let same_boot =
        before.is_some_and(|(before, always)| always || (!boot.is_empty() && before == boot));
    let end = match (any || missing || snapshot.is_some(), missing) {
        (false, _) => End::New,
        (true, false) if closed == Closed::Elsewhere => {
            lines.push(COPIED.into());
            End::Copied
        }
        (true, false) if closed == Closed::Here => End::Closed,
        (true, false) if same_boot => End::Killed,
        (true, _) => End::Lossy,
    };
    // The files may be in the system's memory only, and the new run builds on them.
    for name in parse(storage.names()?) {
        failed = failed.or(storage.sync(&name.to_string()).err());
    }
    let recorded = engine.recorded();
    engine.make_records();
    engine.end_restoring();
    Ok(Recovered {
        engine,
        recorded,
        segments,
        snapshot,
        snapshot_bytes,
        next,
        end,
        lines,
        failed,
        unlinked,
        secret,
        state,
    })
}

impl Reading<'_> {
    // Takes the journal's secret from its file, if that is intact.
    fn take_secret(&mut self) -> io::Result<()> {
        match secret_file::read(self.storage)? {
            Ok(secret) => {
                self.engine.adopt_secret(secret.secret);
                self.secret = Some(secret);
                Ok(())
            }
            // A snapshot has it too.
            Err(error) => self.asides.pass_over(secret_file::NAME, &error.to_string()),
        }
    }

    fn is_foreign(&mut self, name: Name) -> io::Result<bool> {
        let Some(secret) = self.secret else { return Ok(false) };
        let foreign = secret.is_foreign(journal_of(self.storage, name)?);
        if foreign {
            self.asides.pass_over(&name.to_string(), foreign::WHY)?;
        }
        Ok(foreign)
    }

    // Reads the newest snapshot that can be read. It says whose journal this is, if nothing else
    // does. Removes older ones of this journal.
    fn snapshots(
        &mut self,
        names: &[Name],
        remove: &mut dyn FnMut(&Name),
    ) -> io::Result<Option<u64>> {
        let (mut snapshot, mut replaced) = (None, Vec::new());
        for name in names.iter().rev() {
            let Name::Snapshot(number) = name else { continue };
            // The next snapshot takes the place of those of others.
            if self.is_foreign(*name)? {
                continue;
            }
            if snapshot.is_some() {
                replaced.push(*name);
            } else if self.snapshot(*name)? {
                snapshot = Some(*number);
                let secret = self.engine.secret();
                self.secret = self.secret.or(Some(Secret { secret, former: None }));
            }
        }
        // Nothing is removed before all of them were read.
        replaced.iter().for_each(remove);
        Ok(snapshot)
    }

    // Reads the log.
    fn log(&mut self, names: &[Name]) -> io::Result<Vec<Segment>> {
        let logs = names.iter().filter(|name| matches!(name, Name::Log(_))).copied();
        let logs: Vec<Name> = logs.collect();
        if self.secret.is_none() {
            // The secret is lost. The log keeps the name that its oldest segment has.
            let mut former = None;
            for name in &logs {
                former = former.or(journal_of(self.storage, *name)?);
            }
            self.secret = Some(Secret { secret: self.engine.secret(), former });
        }
        let mut foreign = Vec::new();
        for name in &logs {
            if self.is_foreign(*name)? {
                foreign.push(*name);
            }
        }
        self.later = logs.iter().filter(|name| !foreign.contains(name)).copied().collect();
        let mut segments = Vec::new();
        for name in logs {
            let (bytes, last) = if foreign.contains(&name) {
                (0, self.expected - 1)
            } else {
                self.later.pop_front();
                self.segment(name)?
            };
            segments.push(Segment { number: name.number(), bytes, last });
        }
        Ok(segments)
    }
}
