//! Files of which something is of no use. They get a second name, so that nothing is lost when the
//! journal removes the first one later.

use super::storage::Storage;
use std::collections::HashSet;
use std::io::{self, Read};

/// Maximum number of second names of a file that are compared with it. With more, it gets another one.
const COMPARED: usize = 64;

/// Bytes that are compared at once.
const CHUNK: u64 = 1 << 16;

/// The files that were set aside, and the lines that say so.
pub(super) struct Asides<'a> {
    storage: &'a dyn Storage,
    /// Lines for the operator.
    pub(super) lines: Vec<String>,
    /// Why the last one could not be given its second name.
    pub(super) failed: Option<io::Error>,
    /// Those that could not be given their second names, and these names.
    pub(super) unlinked: Vec<[String; 2]>,
}

impl<'a> Asides<'a> {
    pub(super) fn new(storage: &'a dyn Storage) -> Self {
        Self { storage, lines: Vec::new(), failed: None, unlinked: Vec::new() }
    }

    /// Nothing of a file can be read. It keeps its first name too until a snapshot takes its place,
    /// so that another start finds the same.
    pub(super) fn pass_over(&mut self, name: &str, why: &str) -> io::Result<()> {
        let kept = self.link(name)?;
        self.lines.push(format!("{name} cannot be read: {why}. It {kept}"));
        Ok(())
    }

    /// Gives a file a second name, if some of it is of no use. Returns whether it is so.
    pub(super) fn keep(&mut self, name: &str, why: &[String]) -> io::Result<bool> {
        if why.is_empty() {
            return Ok(false);
        }
        let (kept, why) = (self.link(name)?, why.join("; "));
        let line = format!("a part of {name} cannot be read: {why}. It {kept} too");
        self.lines.push(line);
        Ok(true)
    }

    // Returns what a line says of it.
    fn link(&mut self, name: &str) -> io::Result<String> {
        let (aside, is_there) = self.aside_for(name)?;
        if is_there {
            return Ok(format!("is kept as {aside}"));
        }
        if let Err(error) = self.storage.link(name, &aside) {
            // On a full or read-only disk. The daemon serves all that could be read.
            self.failed = Some(error);
            self.unlinked.push([name.to_owned(), aside.clone()]);
            return Ok(format!("will be kept as {aside}"));
        }
        Ok(format!("is kept as {aside}"))
    }

    // Returns the second name of a file, and whether it has it. A start that was killed may have given
    // it.
    fn aside_for(&self, name: &str) -> io::Result<(String, bool)> {
        let mut names: HashSet<String> = self.storage.names()?.into_iter().collect();
        let files = names.clone();
        names.extend(self.storage.other_names()?);
        let mut compared = 0;
        for n in 1..=names.len() as u64 + 1 {
            let aside = format!("{name}.aside-{n}");
            if !names.contains(&aside) {
                return Ok((aside, false));
            }
            if files.contains(&aside) && compared < COMPARED {
                compared += 1;
                if self.is_same(name, &aside) {
                    return Ok((aside, true));
                }
            }
        }
        Err(io::Error::other("no name is free"))
    }

    // A file system without links has copies. One that cannot be read is another file.
    fn is_same(&self, one: &str, other: &str) -> bool {
        let ids = [one, other].map(|name| self.storage.id(name).ok());
        let open = |name| self.storage.open(name).ok();
        (ids[0].is_some() && ids[0] == ids[1])
            || open(one).zip(open(other)).is_some_and(|files| are_equal(files).unwrap_or(false))
    }
}

fn are_equal((mut one, mut other): (impl Read, impl Read)) -> io::Result<bool> {
    let (mut bytes, mut others) = (Vec::new(), Vec::new());
    loop {
        bytes.clear();
        others.clear();
        (&mut one).take(CHUNK).read_to_end(&mut bytes)?;
        (&mut other).take(CHUNK).read_to_end(&mut others)?;
        if bytes != others || bytes.is_empty() {
            return Ok(bytes == others);
        }
    }
}
