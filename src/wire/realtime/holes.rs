//! The sequences of one topic that have not come, though higher ones have or are known of.

/// A run of missing sequences, asked for together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hole {
    pub(super) first: u64,
    pub(super) last: u64,
    // When it was seen, and when it is asked for next.
    pub(super) since: u64,
    pub(super) ask: u64,
    pub(super) asked: u32,
}

/// Every sequence below `end` that is in no hole was had or is final. So what is missing costs
/// memory, and not what has come.
#[derive(Debug)]
pub(super) struct Holes {
    // Below 2^64 - 1 are all sequences there are, so that this is one above them.
    end: u64,
    // In order, none empty, none overlapping, all below `end`. Neighbours may touch.
    list: Vec<Hole>,
}

impl Holes {
    pub(super) fn new(next: u64) -> Self {
        Self { end: next, list: Vec::new() }
    }

    /// One above the highest sequence known of.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Hole> {
        self.list.iter_mut()
    }

    /// The lowest sequence that is neither had nor final.
    pub(super) fn next(&self) -> u64 {
        self.list.first().map_or(self.end, |hole| hole.first)
    }

    /// What is had or final above that.
    pub(super) fn had(&self) -> Vec<(u64, u64)> {
        let starts = self.list.iter().map(|hole| hole.last + 1);
        let ends = self.list.iter().skip(1).map(|hole| hole.first).chain([self.end]);
        let between = starts.zip(ends).filter(|(start, end)| start < end);
        between.map(|(start, end)| (start, end - 1)).collect()
    }

    /// The one that comes next has come.
    pub(super) fn advance(&mut self) {
        self.end += 1;
    }

    /// Everything up to `end`, exclusive, is known of: what is new of it is missing, except from
    /// `had` on. Says whether it could be so: without `room` for one more hole, `had` is missing
    /// too, and is part of a hole that reaches to the end and keeps doing so. Of these a topic
    /// has one at most, and for that one there is always room.
    pub(super) fn extend(&mut self, had: u64, end: u64, room: bool, hole: &Hole) -> bool {
        let (first, had) = (self.end, had.max(self.end));
        self.end = end;
        let trailing = self.list.last_mut().filter(|hole| hole.last + 1 == first);
        if room || (had == first && trailing.is_none()) {
            if had > first {
                self.list.push(Hole { first, last: had - 1, ..*hole });
            }
            return true;
        }
        match trailing {
            Some(trailing) => trailing.last = end - 1,
            None => self.list.push(Hole { first, last: end - 1, ..*hole }),
        }
        false
    }

    /// Takes what is missing of a range out, telling each part and the hole it was part of. Says
    /// whether it could: without `room` for one more hole none is split, nor cut off from the end.
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
                // These are the first and the last of the range: nothing was taken out yet.
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

    /// Takes out the holes seen at `since` or earlier, telling each.
    pub(super) fn give_up(&mut self, since: u64, part: &mut impl FnMut(u64, u64)) {
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

#[cfg(test)]
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
