//! Files of another journal that somebody has copied into this one. Their records have numbers,
//! epochs and sequences that stand for other payloads here, so nothing of them is restored.

use super::format::block::{BlockKind, BlockReader};
use super::format::header::HEADER;
use super::format::note::Note;
use super::format::part;
use super::names::Name;
use super::storage::Storage;
use crate::engine::{Engine, Part};
use bytes::Bytes;
use std::io::{self, Read};

/// The reason that an operator reads.
pub(super) const WHY: &str = "it belongs to another journal";

/// Returns the name of the journal to which a file belongs, if it has one that can be read.
pub(super) fn journal_of(storage: &dyn Storage, name: Name) -> io::Result<Option<u64>> {
    match name {
        Name::Log(_) => journal_of_log(storage, name),
        Name::Snapshot(_) => journal_of_snapshot(storage, name),
        Name::Partial(_) => Ok(None),
    }
}

// Without a check of the header: the blocks of a log are read although that is damaged.
fn blocks(storage: &dyn Storage, name: Name) -> io::Result<BlockReader<impl Read>> {
    let mut file = storage.open(&name.to_string())?;
    io::copy(&mut (&mut file).take(HEADER as u64), &mut io::sink())?;
    Ok(BlockReader::new(file, HEADER as u64))
}

// Each segment begins with notes. The journal's name is the second.
fn journal_of_log(storage: &dyn Storage, name: Name) -> io::Result<Option<u64>> {
    let mut blocks = blocks(storage, name)?;
    for _ in 0..2 {
        let Some(block) = blocks.next()? else { break };
        if block.kind == BlockKind::Note as u8
            && let Ok(Note::Journal { id }) = Note::decode(block.body)
        {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn journal_of_snapshot(storage: &dyn Storage, name: Name) -> io::Result<Option<u64>> {
    let Some(block) = blocks(storage, name)?.next()?.map(|block| block.body.to_vec()) else {
        return Ok(None);
    };
    Ok(match part::decode(&Bytes::from(block)) {
        Ok(Part::Engine(state)) => Some(Engine::journal_of(&state.secret)),
        _ => None,
    })
}
