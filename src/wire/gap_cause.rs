//! Why sequences are missing. Causes may be appended at any time, so that a cause that is not known
//! decodes as well.

use serde::de::{EnumAccess, VariantAccess as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Why a subscription will never receive some sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCause {
    /// They have left the cache.
    Evicted,
    /// They were skipped because of [`Lag::Newest`](super::Lag::Newest), or because the subscription
    /// waits for too many messages that are still arriving.
    Skipped,
    /// The publisher left before its payload was complete.
    Aborted,
    /// They were older than the subscription's deadline.
    Late,
    /// They are sequences of the epoch that the client knew before. The daemon had relayed them, and
    /// had not kept them when it ended: they were never accepted. The topic's epoch of now uses
    /// these sequences again, so that this gap advances nothing.
    Lost,
    /// The client has received them: it has shown them when it resumed. They are not missing, and an
    /// application learns nothing of such a gap.
    Had,
    /// Their time has passed: the daemon has a rule for the topic that says for how long messages are
    /// kept.
    Expired,
    /// A cause that only a newer daemon knows, with its index.
    Unknown(u32),
}

const NAMES: &[&str] = &["Evicted", "Skipped", "Aborted", "Late", "Lost", "Had", "Expired"];
const KNOWN: [GapCause; NAMES.len()] = [
    GapCause::Evicted,
    GapCause::Skipped,
    GapCause::Aborted,
    GapCause::Late,
    GapCause::Lost,
    GapCause::Had,
    GapCause::Expired,
];

impl GapCause {
    fn index(self) -> u32 {
        match self {
            Self::Evicted => 0,
            Self::Skipped => 1,
            Self::Aborted => 2,
            Self::Late => 3,
            Self::Lost => 4,
            Self::Had => 5,
            Self::Expired => 6,
            Self::Unknown(index) => index,
        }
    }
}

impl Serialize for GapCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = self.index();
        let name = NAMES.get(index as usize).unwrap_or(&"Unknown");
        serializer.serialize_unit_variant("GapCause", index, name)
    }
}

impl<'de> Deserialize<'de> for GapCause {
    fn deserialize<D: Deserializer<'de>>(bytes: D) -> Result<Self, D::Error> {
        struct Cause;

        impl<'de> Visitor<'de> for Cause {
            type Value = GapCause;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the cause of a gap")
            }

            fn visit_enum<A: EnumAccess<'de>>(self, bytes: A) -> Result<GapCause, A::Error> {
                let (index, variant) = bytes.variant::<u32>()?;
                variant.unit_variant()?;
                let known = KNOWN.get(index as usize).copied();
                Ok(known.unwrap_or(GapCause::Unknown(index)))
            }
        }

        bytes.deserialize_enum("GapCause", NAMES, Cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_a_cause_and_keeps_its_bytes() {
        for index in (0..20).chain([u32::MAX]) {
            let bytes = postcard::to_allocvec(&index).unwrap();
            let cause: GapCause = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(matches!(cause, GapCause::Unknown(_)), index >= KNOWN.len() as u32);
            assert_eq!(postcard::to_allocvec(&cause).unwrap(), bytes);
        }
    }
}
