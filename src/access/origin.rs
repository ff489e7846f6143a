//! The origins whose pages may send requests, and the names to which this host answers.
//!
//! A browser sends the origin of the page in `Origin` (RFC 6454). The daemon allows pages of the
//! requested host, on any port and scheme, and the origins that `http.origins` lists. The names of
//! this machine, such as localhost and 127.0.0.1, count as one host. A request without `Origin` is
//! from a page of the requested host, or not from a page.
//!
//! The daemon therefore has to know its names. Any site can resolve its own name to this machine's
//! address, and its pages would be of the requested host (DNS rebinding). The daemon answers to
//! addresses, to localhost, and to the names in its configuration.

use std::net::{IpAddr, Ipv6Addr};

/// The allowed origins beside the host's own, and the host's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origins {
    any: bool,
    // In the form that browsers send.
    listed: Vec<String>,
    // In lower case, without a trailing dot.
    names: Vec<String>,
}

/// An entry of `http.names` that is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a host name: write it as relay.example, without scheme, port and path; addresses \
     and localhost need no entry"
)]
pub struct HostError(String);

/// An entry of `http.origins` that is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin: write it as browsers do, https://example.org or http://host:3000, \
     without a path; \"*\" for every site, \"null\" for pages without an origin"
)]
pub struct OriginError(String);

/// Why a request is refused before the rest of it is examined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OriginRefusal {
    /// The page is of another site.
    #[error(
        "pages of {0:?} may not send requests to this daemon: to allow them, add it to http.origins \
         in the daemon's configuration"
    )]
    ForeignOrigin(String),
    /// The page is of another site, which the browser does not name. It may not read the answer in
    /// any case.
    #[error(
        "pages of other sites may not load this without CORS: use fetch or EventSource, which name \
         the site, and add it to http.origins in the daemon's configuration"
    )]
    CrossSite,
    /// The requested host is not one of the daemon's names.
    #[error(
        "{0:?} is not one of the daemon's names; so that no site can pass for it, it answers only \
         to addresses, localhost and its names: if this is one, add {0:?} to http.names in its \
         configuration"
    )]
    ForeignHost(String),
    /// `Host` or `:authority` is not a host.
    #[error("{0:?} in the header Host is not a host")]
    BadHost(String),
}

impl Origins {
    /// Parses a list of `scheme://host[:port]`, `"*"` and `"null"`.
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

    /// Adds the names under which clients reach this daemon.
    pub(crate) fn named<T: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = T>,
    ) -> Result<Self, HostError> {
        for name in names {
            let name = name.as_ref();
            let host = without_port(name).filter(|host| !name.contains(':') && !is_address(host));
            self.names.push(host.ok_or_else(|| HostError(name.to_owned()))?);
        }
        Ok(self)
    }

    /// Whether a request may be answered. Any page may read what is `public`.
    pub(crate) fn check(
        &self,
        request: &RequestOrigin<'_>,
        public: bool,
    ) -> Result<(), OriginRefusal> {
        self.check_host(request)?;
        let Some(origin) = request.origin.filter(|_| !public) else {
            let foreign = request.cross_site && !public && !self.any;
            return if foreign { Err(OriginRefusal::CrossSite) } else { Ok(()) };
        };
        let same = host_of(origin).is_some_and(|host| {
            host == request.host || (is_loopback(&host) && is_loopback(&request.host))
        });
        if same || (self.any && origin != "null") || self.lists(origin) {
            return Ok(());
        }
        Err(OriginRefusal::ForeignOrigin(origin.to_owned()))
    }

    fn lists(&self, origin: &str) -> bool {
        let origin = if origin == "null" { Some(origin.to_owned()) } else { canonical(origin) };
        origin.is_some_and(|origin| self.listed.contains(&origin))
    }

    fn check_host(&self, request: &RequestOrigin<'_>) -> Result<(), OriginRefusal> {
        let host = &*request.host;
        let named = || self.names.iter().any(|name| name == host);
        let listed = || self.listed.iter().any(|origin| host_of(origin).as_deref() == Some(host));
        // If every site is allowed, none needs to pass for another.
        if self.any || is_loopback(host) || is_address(host) || named() || listed() {
            return Ok(());
        }
        Err(OriginRefusal::ForeignHost(host.to_owned()))
    }
}

/// The parts of a request that the rules examine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestOrigin<'a> {
    /// `Origin`, if there is one.
    pub(crate) origin: Option<&'a str>,
    // The requested host, without port, in lower case.
    host: String,
    // A browser says that a page of another site requests it, and that nobody follows a link.
    cross_site: bool,
}

impl<'a> RequestOrigin<'a> {
    /// Takes the values of `Origin`, and of `Host` or `:authority`.
    pub(crate) fn new(origin: Option<&'a str>, host: &str) -> Result<Self, OriginRefusal> {
        let host = without_port(host).ok_or_else(|| OriginRefusal::BadHost(host.to_owned()))?;
        Ok(Self { origin, host, cross_site: false })
    }

    /// Takes the values of `Sec-Fetch-Site` and `Sec-Fetch-Mode` (W3C Fetch Metadata). Browsers send
    /// them also where they send no `Origin`, such as for images and scripts. A page of another site
    /// may navigate here only if the request `reads`, with GET or HEAD: a form may not send.
    #[must_use]
    pub(crate) fn with_fetch(
        mut self,
        site: Option<&str>,
        mode: Option<&str>,
        reads: bool,
    ) -> Self {
        let navigates = reads && mode == Some("navigate");
        self.cross_site = site == Some("cross-site") && !navigates;
        self
    }
}

// The host of `host[:port]`, in lower case and without a trailing dot.
fn without_port(authority: &str) -> Option<String> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => {
            port.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)?
        }
        _ => authority,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let valid = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    valid.then(|| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

// Whether the name always means this machine (RFC 6761, section 6.3).
fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a `Host` always means this machine.
pub(crate) fn is_loopback_authority(authority: &str) -> bool {
    without_port(authority).is_some_and(|host| is_loopback(&host))
}

fn is_address(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

fn host_of(origin: &str) -> Option<String> {
    without_port(origin.split_once("://")?.1)
}

// An origin in the form that browsers send: lower case, and without the scheme's default port.
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

    const NAMES: [&str; 2] = ["edge.example", "Relay.Example."];

    fn status(origins: &[&str], origin: Option<&str>, host: &str) -> u16 {
        let origins = Origins::parse(origins).unwrap().named(NAMES).unwrap();
        match RequestOrigin::new(origin, host).and_then(|request| origins.check(&request, false)) {
            Ok(()) => 200,
            Err(OriginRefusal::ForeignOrigin(_) | OriginRefusal::CrossSite) => 403,
            Err(OriginRefusal::ForeignHost(_)) => 421,
            Err(OriginRefusal::BadHost(_)) => 400,
        }
    }

    const NONE: &[&str] = &[];
    const LISTED: &[&str] = &["https://App.example", "http://dev.example:3000"];

    #[test]
    fn origins() {
        let table = [
            // Not a browser, or a page of this host.
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
            // Pages of other sites.
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
            let found = status(origins, origin, host);
            assert_eq!(found, expected, "{origins:?} {origin:?} {host}");
        }
    }

    // Requests without an origin.
    #[test]
    fn hosts() {
        let table = [
            (NONE, "localhost:8080", 200),
            (NONE, "LOCALHOST.", 200),
            (NONE, "weir.localhost", 200),
            (NONE, "127.0.0.1:8080", 200),
            (NONE, "[::1]:8080", 200),
            (NONE, "192.0.2.1", 200),
            (NONE, "[2001:db8::1]:4433", 200),
            (NONE, "edge.example", 200),
            (NONE, "EDGE.example.:4433", 200),
            (NONE, "relay.example", 200),
            (NONE, "evil.example:8080", 421),
            (NONE, "sub.edge.example", 421),
            (NONE, "localhost.evil.example", 421),
            (NONE, "127.0.0.1.evil.example", 421),
            (LISTED, "app.example", 200),
            (LISTED, "dev.example:1", 200),
            (LISTED, "other.example", 421),
            (&["*"], "other.example", 200),
            (NONE, "", 400),
            (NONE, "a b", 400),
            (NONE, "a:x", 400),
            (NONE, "[::1", 400),
            (NONE, "user@host", 400),
        ];
        for (origins, host, expected) in table {
            assert_eq!(status(origins, None, host), expected, "{origins:?} {host}");
        }
    }

    // An image or a script of another site's page has no origin.
    #[test]
    fn what_another_site_loads_without_an_origin_is_refused() {
        let page = |site, mode, origins: &[&str], public| {
            let origins = Origins::parse(origins).unwrap();
            let request = RequestOrigin::new(None, "localhost").unwrap();
            origins.check(&request.with_fetch(Some(site), Some(mode), true), public)
        };
        assert_eq!(page("cross-site", "no-cors", NONE, false), Err(OriginRefusal::CrossSite));
        assert_eq!(page("cross-site", "websocket", LISTED, false), Err(OriginRefusal::CrossSite));
        assert_eq!(page("cross-site", "no-cors", NONE, true), Ok(()));
        assert_eq!(page("cross-site", "no-cors", &["*"], false), Ok(()));
        // A link to a payload, and the daemon's own page.
        assert_eq!(page("cross-site", "navigate", NONE, false), Ok(()));
        // A form.
        let form = RequestOrigin::new(None, "localhost").unwrap();
        let form = form.with_fetch(Some("cross-site"), Some("navigate"), false);
        assert_eq!(Origins::default().check(&form, false), Err(OriginRefusal::CrossSite));
        for site in ["same-origin", "same-site", "none"] {
            assert_eq!(page(site, "no-cors", NONE, false), Ok(()));
        }
    }

    #[test]
    fn a_page_of_a_rebound_name_is_refused_though_it_is_of_the_host_asked() {
        assert_eq!(status(NONE, Some("http://evil.example:8080"), "evil.example:8080"), 421);
        // A browser sends no origin with requests to the page's own host.
        assert_eq!(status(NONE, None, "evil.example:8080"), 421);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "https://a.example", "a.example:443", "a/b", "192.0.2.1", "[::1]", "*"] {
            let named = Origins::default().named([bad]);
            assert_eq!(named, Err(HostError(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in ["example.org", "https://a/", "https://a/b", "https://", "https://a:x", "://a"] {
            assert_eq!(Origins::parse([bad]), Err(OriginError(bad.to_owned())));
        }
        assert!(Origins::parse(["https://*.example"]).is_err(), "no patterns");
    }
}
