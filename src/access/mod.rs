//! Who may do what. Its first tenant: whose pages may ask, and under which names of this host.

pub(crate) mod origin;
