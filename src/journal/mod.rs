//! The journal.
pub(crate) mod format;
