//! The missing sequences of one topic: those below the highest known sequence.

/// A range of missing sequences that are requested together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hole {
    pub(super) first: u64,
    pub(super) last: u64,
    // When the hole was found, when it is requested next, and how often it was requested.
    pub(super) since: u64,
    pub(super) ask: u64,
    pub(super) asked: u32,
}

/// The holes of one topic. A sequence below `end` outside all holes has been received, or is final:
/// a gap was reported for it. So only missing sequences take memory.
#[derive(Debug)]
pub(super) struct Holes {
    // One above the highest known sequence. Sequences are below 2^64 - 1, so that it fits.
    end: u64,
    // In order, not empty, not overlapping, all below `end`. Neighbours may be adjacent.
    list: Vec<Hole>,
}

impl Holes {
    pub(super) fn new(next: u64) -> Self {
        Self { end: next, list: Vec::new() }
    }

    /// Returns one above the highest known sequence.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Hole> {
        self.list.iter_mut()
    }

    /// Returns the lowest sequence that is neither received nor final.
    pub(super) fn next(&self) -> u64 {
        self.list.first().map_or(self.end, |hole| hole.first)
    }

    /// Returns the ranges above [`next`](Self::next) that are received or final.
    pub(super) fn received(&self) -> Vec<(u64, u64)> {
        let starts = self.list.iter().map(|hole| hole.last + 1);
        let ends = self.list.iter().skip(1).map(|hole| hole.first).chain([self.end]);
        let between = starts.zip(ends).filter(|(start, end)| start < end);
        between.map(|(start, end)| (start, end - 1)).collect()
    }

    /// Records that sequence `end` was received.
    pub(super) fn advance(&mut self) {
        self.end += 1;
    }

    /// Records that all sequences below `end` exist. The new ones are missing, except those from
    /// `received` on.
    ///
    /// Returns false without `room` for one more hole. Then those from `received` on are
    /// missing too, in a hole that extends to the end. A topic has at most one such hole, and there
    /// is always room for it.
    pub(super) fn extend(&mut self, received: u64, end: u64, room: bool, hole: &Hole) -> bool {
        let (first, received) = (self.end, received.max(self.end));
        self.end = end;
        let trailing = self.list.last_mut().filter(|hole| hole.last + 1 == first);
        if room || (received == first && trailing.is_none()) {
            if received > first {
                self.list.push(Hole { first, last: received - 1, ..*hole });
            }
            return true;
        }
        match trailing {
            Some(trailing) => trailing.last = end - 1,
            None => self.list.push(Hole { first, last: end - 1, ..*hole }),
        }
        false
    }

    /// Removes a range from the holes. Calls `part` for each removed part, with the hole that
    /// contained it.
    ///
    /// Returns false without `room` for one more hole, if a hole would have to be split, or
    /// to be detached from the end.
    pub(super) fn fill(
        &mut self,
        first: u64,
        last: u64,
        room: bool,
        part: &mut impl FnMut(u64, u64, &Hole),
    ) -> bool {
        let mut at = self.list.partition_point(|hole| hole.last < first);
        let mut whole = at..at;
        while let Some(hole) = self.list.get_mut(at)
            && hole.first <= last
        {
            let old = *hole;
            let (from, to) = (old.first.max(first), old.last.min(last));
            match (old.first < from, to < old.last) {
                // Such a hole is the first one of the range, so that nothing was removed yet.
                (true, true) if !room => return false,
                (true, false) if !room && to + 1 == self.end => return false,
                (true, true) => {
                    hole.last = from - 1;
                    self.list.insert(at + 1, Hole { first: to + 1, ..old });
                }
                (true, false) => {
                    hole.last = from - 1;
                    whole = at + 1..at + 1;
                }
                (false, true) => hole.first = to + 1,
                (false, false) => whole.end = at + 1,
            }
            part(from, to, &old);
            at += 1;
            if to == last {
                break;
            }
        }
        self.list.drain(whole);
        self.release();
        true
    }

    /// Removes the holes that were found at `since` or earlier. Calls `part` for each.
    pub(super) fn expire(&mut self, since: u64, part: &mut impl FnMut(u64, u64)) {
        self.list.retain(|hole| {
            let keep = hole.since > since;
            if !keep {
                part(hole.first, hole.last);
            }
            keep
        });
        self.release();
    }

    // A topic without holes takes no memory for them.
    fn release(&mut self) {
        if self.list.is_empty() {
            self.list = Vec::new();
        }
    }
}

#[cfg(any(test, fuzzing))]
impl Holes {
    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        self.list.iter().map(|hole| (hole.first, hole.last)).collect()
    }

    pub(super) fn earliest(&self) -> Option<u64> {
        self.list.iter().map(|hole| hole.ask).min()
    }

    pub(super) fn audit(&self) {
        assert!(self.list.iter().all(|hole| hole.first <= hole.last && hole.last < self.end));
        assert!(self.list.windows(2).all(|pair| pair[0].last < pair[1].first));
        assert!(!self.list.is_empty() || self.list.capacity() == 0);
    }
}
