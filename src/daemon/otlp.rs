//! The address of a collector of traces. It is checked in every build; only one with the feature `otel`
//! exports to it.

use super::fetch::Address;
#[cfg(feature = "otel")]
use crate::tls::TlsError;

/// The path of traces (OTLP, "OTLP/HTTP Request").
const TRACES: &str = "/v1/traces";

/// Traces cannot be exported as the settings say.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(not(feature = "otel"), allow(unreachable_pub, reason = "exported with the feature"))]
#[non_exhaustive]
pub enum OtlpError {
    /// The address of the collector cannot be used.
    #[error(
        "{url:?} is not the address of a collector such as \"http://127.0.0.1:4318\": {reason}"
    )]
    Url {
        /// The address.
        url: String,
        /// The problem.
        reason: &'static str,
    },
    /// The ratio is not one.
    #[cfg(feature = "otel")]
    #[error("{0} is not a number from 0 to 1")]
    Ratio(f64),
    /// TLS to the collector cannot be set up.
    #[cfg(feature = "otel")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The exporter cannot be made: a variable of OpenTelemetry, for example, has a value that is not
    /// allowed.
    #[cfg(feature = "otel")]
    #[error("the exporter of traces cannot be made: {0}")]
    Exporter(String),
}

impl OtlpError {
    pub(super) fn url(url: &str, reason: &'static str) -> Self {
        Self::Url { url: url.to_owned(), reason }
    }
}

/// Returns the parts of a collector's address, and the address to which traces are sent.
pub(super) fn traces_url(url: &str) -> Result<(Address, String), OtlpError> {
    let wrong = |reason| OtlpError::url(url, reason);
    let base = url.trim_end_matches('/');
    let traces = format!("{base}{TRACES}");
    let address = Address::parse_any(url).and_then(|_| Address::parse_any(&traces));
    let address = address.map_err(|reason| match reason {
        "it does not begin with https://" => wrong("it begins with neither http:// nor https://"),
        reason => wrong(reason),
    })?;
    if url.contains('?') {
        return Err(wrong("it has a query"));
    }
    if base.ends_with(TRACES) {
        return Err(wrong("/v1/traces is appended to it"));
    }
    Ok((address, traces))
}

/// Returns why the address of a collector cannot be used, if so.
#[cfg(feature = "cli")]
pub(crate) fn check(url: &str) -> Result<(), OtlpError> {
    traces_url(url).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_is_appended() {
        for (url, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://id.example/otlp", "https://id.example/otlp/v1/traces"),
        ] {
            assert_eq!(traces_url(url).unwrap().1, traces);
        }
        for (url, reason) in [
            ("127.0.0.1:4318", "neither http:// nor"),
            ("grpc://127.0.0.1:4317", "neither http:// nor"),
            ("http://127.0.0.1:4318/v1/traces", "is appended"),
            ("http://127.0.0.1:4318/v1/traces/", "is appended"),
            ("https://a:b@id.example", "user name"),
            ("https://id.example/?x=y", "query"),
            ("https://", "malformed"),
            ("", "malformed"),
        ] {
            let error = traces_url(url).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
