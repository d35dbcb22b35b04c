//! Which pages may connect over WebSocket (RFC 6455, section 10.2): a browser connects in the name of whatever page it shows.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// The origins of pages that a listener over WebSocket serves, besides its own.
///
/// Who sends no `Origin` is no browser and is served. A page is served if its origin is one of these, or if host and port of
/// its origin are those by which the browser reached the listener, as they stand in `Host`; that has to be over `https`, or
/// by an address or `localhost`: whose page it is decides what any other name means, and may have it mean this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    allowed: Arc<[Origin]>,
}

impl Origins {
    /// These besides its own.
    pub fn allowing(origins: impl IntoIterator<Item = Origin>) -> Self {
        Self { allowed: origins.into_iter().collect() }
    }

    /// Whether the page of `origin` may connect to `host`, each as its header says.
    pub(super) fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        let is_own = origin.split_once("://").zip(host).is_some_and(|((scheme, own), host)| {
            // The certificate shows that the name is the listener's; an address can mean nothing else.
            let is_certain = scheme.eq_ignore_ascii_case("https") || is_address(own);
            is_certain && own.eq_ignore_ascii_case(host)
        });
        is_own || self.allowed.iter().any(|allowed| allowed.allows(origin))
    }
}

/// Whether the host in front of the port is an address, or the name of this machine that no DNS is asked for.
fn is_address(authority: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let host = authority.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(authority, |(host, _)| host);
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok()
        || v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

/// The origin of a page, as browsers write it: scheme, host and, unless it is the scheme's own, port. `*` stands for all.
///
/// ```
/// use damselfly_examples::broker::Origin;
///
/// assert!("https://home.example".parse::<Origin>().is_ok());
/// assert!("http://[::1]:8080".parse::<Origin>().is_ok());
/// assert!("*".parse::<Origin>().is_ok());
/// assert!("home.example".parse::<Origin>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(Box<str>);

impl Origin {
    fn allows(&self, origin: &str) -> bool {
        *self.0 == *"*" || self.0.eq_ignore_ascii_case(origin)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is a scheme, a host and a port if it is not the usual one, such as https://home.example or http://127.0.0.1:8080; * allows all"
)]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let is_right = text == "*"
            || text.split_once("://").is_some_and(|(scheme, authority)| {
                let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
                let has_more = authority.contains(['/', '?', '#', '@', '*']);
                !scheme.is_empty() && !authority.is_empty() && !has_more && is_plain(text)
            });
        if is_right { Ok(Self(text.into())) } else { Err(OriginError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_the_same_host_and_port_is_its_own() {
        let origins = Origins::default();
        for (origin, host) in [
            ("http://127.0.0.1:8083", "127.0.0.1:8083"),
            ("https://Home.example", "home.example"),
            ("https://home.example:8443", "home.example:8443"),
            ("http://[::1]:8083", "[::1]:8083"),
            ("http://localhost:8083", "LOCALHOST:8083"),
            ("http://10.0.0.1", "10.0.0.1"),
        ] {
            assert!(origins.allow(origin, Some(host)), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://127.0.0.1:8080", Some("127.0.0.1:8083")),
            ("http://evil.example", Some("home.example")),
            ("http://home.example.evil.example", Some("home.example")),
            ("http://home.example", None),
            // Names that may be made to mean 127.0.0.1.
            ("http://evil.example:8083", Some("evil.example:8083")),
            ("http://localhost.evil.example", Some("localhost.evil.example")),
            ("http://127.0.0.1.evil.example:80", Some("127.0.0.1.evil.example:80")),
            ("null", Some("null")),
            ("", Some("")),
        ] {
            assert!(!origins.allow(origin, host), "{origin} {host:?}");
        }
    }

    #[test]
    fn others_have_to_be_allowed_by_their_whole_origin() {
        let origins = Origins::allowing(["https://home.example".parse().unwrap()]);
        assert!(origins.allow("https://HOME.example", Some("10.0.0.1")));
        for origin in ["http://home.example", "https://home.example:8443", "https://my.home.example", "null"] {
            assert!(!origins.allow(origin, Some("10.0.0.1")), "{origin}");
        }
        let all = Origins::allowing(["*".parse().unwrap()]);
        assert!(all.allow("null", None));
    }

    #[test]
    fn what_no_browser_says_is_no_origin() {
        for text in [
            "",
            "home.example",
            "https://",
            "://a",
            "https://a/",
            "https://a/b",
            "https://*.a",
            "http://u@a",
            "http://a b",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(OriginError), "{text}");
        }
    }
}
