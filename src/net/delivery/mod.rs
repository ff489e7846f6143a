//! Deliveries: one subscription each, from its cursor to its peer, in the mode that it asked for.

pub(crate) mod large;
pub(crate) mod marks;
pub(crate) mod ordered;
pub(crate) mod realtime;
pub(crate) mod unordered;
