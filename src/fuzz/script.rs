//! Bytes as a script: a target takes its decisions from them, one after the other.

/// The rest of the input. At its end everything is zero and empty, so that each input is a
/// script.
#[derive(Debug, Clone)]
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Returns a number below `bound`, which is at most 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    pub(crate) fn chance(&mut self, of: usize) -> bool {
        self.below(of) == of - 1
    }

    pub(crate) fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Returns a number: mostly a small one, and otherwise one of those at which code breaks.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=0xbf => u64::from(small),
            0xc0..=0xdf => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            high @ 0xe0..=0xef => u64::MAX - u64::from(high & 15),
            0xf0..=0xf3 => u64::from(u32::MAX) - 1 + self.below(4) as u64,
            0xf4..=0xf7 => (1 << self.below(64)) - 1,
            _ => self.take(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        }
    }

    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Returns the next bytes, after a byte or three with their number.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            short @ 0..=0xfd => usize::from(short),
            _ => usize::from(self.byte()) << 8 | usize::from(self.byte()),
        };
        self.take(length)
    }

    /// Returns everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Returns the next bytes as text, without those that are none.
    #[cfg_attr(not(feature = "daemon"), allow(dead_code, reason = "for targets of the daemon"))]
    pub(crate) fn text(&mut self) -> &'a str {
        let bytes = self.bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}
