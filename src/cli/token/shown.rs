//! An identity as `--json` prints it.

use crate::access::IdentityLimits;
use crate::wire::Filter;
use serde_json::json;

/// The filters as JSON.
pub(super) fn texts(filters: &[Filter]) -> Vec<&str> {
    filters.iter().map(Filter::as_str).collect()
}

/// The limits as JSON; `null` is none of its own.
pub(super) fn limits_object(limits: &IdentityLimits) -> serde_json::Value {
    json!({
        "sessions": limits.sessions,
        "messages_per_second": limits.messages_per_second,
        "bytes_per_second": limits.bytes_per_second,
        "subscriptions": limits.subscriptions,
    })
}
