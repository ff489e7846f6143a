//! The daemon's journal: how it is opened, and what is told about it.

use crate::broker::Broker;
use crate::engine::{Capture, Engine, Part};
use crate::journal::recovery::End;
use crate::journal::settings::JournalOptions;
use crate::journal::threads::{self, Journal, JournalError, OpenJournal};
use std::path::Path;
use std::sync::{Arc, Weak};

/// Opens the journal in a state directory, and reads it into an engine. It blocks.
pub(super) fn open(
    state: &Path,
    options: JournalOptions,
    engine: Engine,
    run: u64,
) -> Result<(OpenJournal, Engine), JournalError> {
    let options = options.for_cache(engine.limits().cache);
    let opened = threads::open(&state.join("journal"), options, engine, run)?;
    report(&opened.0);
    Ok(opened)
}

/// Begins to write a journal.
pub(super) fn start(journal: OpenJournal, broker: &Arc<Broker>) -> Journal {
    let broker = Arc::downgrade(broker);
    journal.start(Box::new(move |capture| take_part(&broker, capture)))
}

// Says what was found in a journal.
fn report(journal: &OpenJournal) {
    let path = journal.path.display();
    for line in &journal.lines {
        tracing::warn!(%path, "journal: {line}");
    }
    match journal.end {
        End::New => tracing::debug!(%path, "a new journal"),
        End::Closed | End::Copied => tracing::debug!(%path, "the journal is read"),
        End::Killed => {
            tracing::warn!(
                %path,
                "the last daemon was killed: everything that it had acknowledged is here"
            );
        }
        End::Lossy => {
            tracing::warn!(
                %path,
                "what was published last may be missing: topics have new epochs, and clients are told"
            );
        }
    }
}

// Takes a part of a snapshot, as long as there is an engine that works.
fn take_part(broker: &Weak<Broker>, capture: &mut Capture) -> Option<Part> {
    let broker = broker.upgrade().filter(|broker| !broker.has_failed())?;
    broker.with(|engine| engine.capture(capture))
}
