//! Access control: the origins whose pages may use the daemon, and the names of its host.

pub(crate) mod origin;
