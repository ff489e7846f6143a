//! Whose pages may ask, and under which names this host may be asked.
//!
//! A browser says with `Origin` (RFC 6454) whose page a request is from. Allowed are pages of the
//! host that is asked, on any port and scheme, and those that `http.origins` lists. The names of
//! this machine, such as localhost and 127.0.0.1, are one host. A request without `Origin` is no
//! other site's to read.
//!
//! A peer on this machine, moreover, must ask for a name that can only mean this machine: else any
//! site could have its own name resolved to 127.0.0.1, and its pages would be of the host asked
//! (DNS rebinding).

use super::Problem;
use crate::wire::Code;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, Request, StatusCode, header};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What an allowed preflight is answered.
pub(super) const PREFLIGHT: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, OPTIONS"),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "content-type, idempotency-key, last-event-id, weir-stamp, if-none-match",
    ),
    (header::ACCESS_CONTROL_MAX_AGE, "7200"),
];

/// Headers that pages may read.
pub(super) const EXPOSED: &str = "ETag, Weir-Sequence, Weir-Count, Weir-Epoch, Weir-Stamp";

/// The origins whose pages may ask, beside those of the host itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origins {
    any: bool,
    // As browsers write them.
    listed: Vec<String>,
}

/// An entry of `http.origins` that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no origin: write it as browsers do, https://example.org or http://host:3000, without \
     a path; \"*\" for every site, \"null\" for pages without an origin"
)]
pub struct OriginError(String);

impl Origins {
    /// Takes a list of `scheme://host[:port]`, `"*"` and `"null"`.
    pub(crate) fn parse<T: AsRef<str>>(
        list: impl IntoIterator<Item = T>,
    ) -> Result<Self, OriginError> {
        let mut origins = Self::default();
        for entry in list {
            let entry = entry.as_ref();
            match entry {
                "*" => origins.any = true,
                "null" => origins.listed.push(entry.to_owned()),
                _ => {
                    let origin = canonical(entry).ok_or_else(|| OriginError(entry.to_owned()))?;
                    origins.listed.push(origin);
                }
            }
        }
        Ok(origins)
    }

    /// Whether a request may be answered; `public` is what any page may read.
    pub(crate) fn check(&self, asked: &Asked<'_>, public: bool) -> Result<(), Problem> {
        self.check_host(asked)?;
        let Some(origin) = asked.origin.filter(|_| !public) else {
            return Ok(());
        };
        let same = host_of(origin).is_some_and(|host| {
            host == asked.host || (is_loopback(&host) && is_loopback(&asked.host))
        });
        if same || (self.any && origin != "null") || self.lists(origin) {
            return Ok(());
        }
        Err(Problem::of(
            Code::FORBIDDEN,
            format!(
                "pages of {origin:?} may not ask here: to let them, add that to http.origins in \
                 the daemon's configuration"
            ),
        ))
    }

    fn lists(&self, origin: &str) -> bool {
        let origin = if origin == "null" { Some(origin.to_owned()) } else { canonical(origin) };
        origin.is_some_and(|origin| self.listed.contains(&origin))
    }

    fn check_host(&self, asked: &Asked<'_>) -> Result<(), Problem> {
        let host = &*asked.host;
        let ours = is_loopback(host) || is_address(host);
        let listed = || self.listed.iter().any(|origin| host_of(origin).as_deref() == Some(host));
        if !asked.local || ours || self.any || listed() {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            Code::FORBIDDEN,
            format!(
                "on this machine the daemon is asked as localhost or by address, not as {host:?}: \
                 if that is its name, as behind a proxy, add \"https://{host}\" to http.origins"
            ),
        ))
    }
}

/// What of a request the rules look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// `Origin`, if there is one.
    pub(crate) origin: Option<&'a str>,
    // Without port, in lower case.
    host: String,
    // Whether the peer is on this machine.
    local: bool,
}

impl<'a> Asked<'a> {
    /// From an HTTP request. One whose peer is not known is taken for one of this machine.
    pub(crate) fn of<B>(request: &'a Request<B>) -> Result<Self, Problem> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let headers = request.headers();
        let host = match request.uri().authority() {
            Some(authority) => authority.as_str(),
            None => one(headers, &header::HOST)?.unwrap_or_default(),
        };
        let origin = one(headers, &header::ORIGIN)?;
        Self::new(origin, host, peer.map(|peer| peer.0.ip()))
    }

    /// From the values themselves: `Origin`, `Host` or `:authority`, and the peer's address.
    pub(crate) fn new(
        origin: Option<&'a str>,
        host: &str,
        peer: Option<IpAddr>,
    ) -> Result<Self, Problem> {
        let host = without_port(host).ok_or_else(|| {
            Problem::bad_request(format!("{host:?} in the header Host is no host"))
        })?;
        let local = peer.is_none_or(|peer| peer.to_canonical().is_loopback());
        Ok(Self { origin, host, local })
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut all = headers.get_all(name).iter();
    let bad = || Problem::bad_request(format!("the header {name} stands once, in ASCII"));
    let value = all.next().map(|value| value.to_str().map_err(|_| bad())).transpose()?;
    if all.next().is_some() { Err(bad()) } else { Ok(value) }
}

// The host of `host[:port]`, in lower case and without a last dot.
fn without_port(authority: &str) -> Option<String> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => {
            port.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)?
        }
        _ => authority,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let good = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    good.then(|| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

// Whether the name can only be one of this machine (RFC 6761, section 6.3).
fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn is_address(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

fn host_of(origin: &str) -> Option<String> {
    without_port(origin.split_once("://")?.1)
}

// An origin as browsers write it: lower case, and without the scheme's own port.
fn canonical(origin: &str) -> Option<String> {
    let (scheme, authority) = origin.split_once("://")?;
    let mut letters = scheme.bytes();
    let first = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let more = letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let host = without_port(authority)?;
    let port = authority.rsplit_once(':').filter(|_| !authority.ends_with(']'));
    let port = port.map(|(_, port)| port.parse::<u16>()).transpose().ok()?;
    let scheme = scheme.to_ascii_lowercase();
    let port = port.filter(|port| !matches!((&*scheme, port), ("http", 80) | ("https", 443)));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    (first && more).then(|| format!("{scheme}://{host}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(origins: &[&str], origin: Option<&str>, host: &str, peer: &str) -> u16 {
        let origins = Origins::parse(origins).unwrap();
        let asked = Asked::new(origin, host, Some(peer.parse().unwrap()));
        match asked.and_then(|asked| origins.check(&asked, false)) {
            Ok(()) => 200,
            Err(problem) => problem.status().as_u16(),
        }
    }

    const NONE: &[&str] = &[];
    const LISTED: &[&str] = &["https://App.example", "http://dev.example:3000"];
    const FAR: &str = "192.0.2.7";

    #[test]
    fn origins() {
        let table = [
            // No browser, or a page of ours.
            (NONE, None, "edge.example:4433", 200),
            (NONE, Some("https://edge.example:4433"), "edge.example:4433", 200),
            (NONE, Some("https://edge.example"), "Edge.Example.:4433", 200),
            (NONE, Some("http://edge.example:3000"), "edge.example", 200),
            (NONE, Some("http://192.0.2.1:8000"), "192.0.2.1:4433", 200),
            (NONE, Some("http://[2001:db8::1]"), "[2001:db8::1]:4433", 200),
            (NONE, Some("http://localhost:8080"), "127.0.0.1:4433", 200),
            (NONE, Some("http://127.0.0.1:8080"), "[::1]:4433", 200),
            (NONE, Some("http://localhost:8080"), "192.0.2.1:4433", 403),
            (NONE, Some("http://192.0.2.1"), "localhost:4433", 403),
            // Somebody else's.
            (NONE, Some("https://evil.example"), "edge.example", 403),
            (NONE, Some("https://edge.example.evil.example"), "edge.example", 403),
            (NONE, Some("https://sub.edge.example"), "edge.example", 403),
            (NONE, Some("null"), "edge.example", 403),
            (NONE, Some("edge.example"), "edge.example", 403),
            (NONE, Some(""), "edge.example", 403),
            (NONE, Some("https://user@edge.example"), "edge.example", 403),
            // Listed: exactly.
            (LISTED, Some("https://app.example"), "edge.example", 200),
            (LISTED, Some("https://app.example:443"), "edge.example", 200),
            (LISTED, Some("http://app.example"), "edge.example", 403),
            (LISTED, Some("https://app.example:8443"), "edge.example", 403),
            (LISTED, Some("http://dev.example:3000"), "edge.example", 200),
            (LISTED, Some("http://dev.example"), "edge.example", 403),
            (&["*"], Some("https://any.example"), "edge.example", 200),
            (&["*"], Some("null"), "edge.example", 403),
            (&["null"], Some("null"), "edge.example", 200),
        ];
        for (origins, origin, host, expected) in table {
            let found = status(origins, origin, host, FAR);
            assert_eq!(found, expected, "{origins:?} {origin:?} {host}");
        }
    }

    #[test]
    fn hosts() {
        let table = [
            (NONE, "localhost:8080", "127.0.0.1", 200),
            (NONE, "LOCALHOST.", "::1", 200),
            (NONE, "weir.localhost", "127.9.9.9", 200),
            (NONE, "127.0.0.1:8080", "127.0.0.1", 200),
            (NONE, "[::1]:8080", "::1", 200),
            (NONE, "192.0.2.1", "::ffff:127.0.0.1", 200),
            (NONE, "evil.example:8080", "127.0.0.1", 421),
            (NONE, "evil.example", "::ffff:127.0.0.1", 421),
            (NONE, "localhost.evil.example", "127.0.0.1", 421),
            (NONE, "127.0.0.1.evil.example", "127.0.0.1", 421),
            (NONE, "evil.example", FAR, 200),
            (LISTED, "app.example", "127.0.0.1", 200),
            (LISTED, "dev.example:1", "127.0.0.1", 200),
            (LISTED, "other.example", "127.0.0.1", 421),
            (&["*"], "other.example", "127.0.0.1", 200),
            (NONE, "", FAR, 400),
            (NONE, "a b", FAR, 400),
            (NONE, "a:x", FAR, 400),
            (NONE, "[::1", FAR, 400),
            (NONE, "user@host", FAR, 400),
        ];
        for (origins, host, peer, expected) in table {
            assert_eq!(status(origins, None, host, peer), expected, "{origins:?} {host} {peer}");
        }
    }

    #[test]
    fn a_page_of_a_rebound_name_is_refused_though_it_is_of_the_host_asked() {
        let origin = Some("http://evil.example:8080");
        assert_eq!(status(NONE, origin, "evil.example:8080", "127.0.0.1"), 421);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in ["example.org", "https://a/", "https://a/b", "https://", "https://a:x", "://a"] {
            assert_eq!(Origins::parse([bad]), Err(OriginError(bad.to_owned())));
        }
        assert!(Origins::parse(["https://*.example"]).is_err(), "no patterns");
    }
}
