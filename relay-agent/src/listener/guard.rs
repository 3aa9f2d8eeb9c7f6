//! Keeps web pages out: which `Host`, `Origin` and `Sec-Fetch-Site` a local call may carry. Reads heads only.
//!
//! A page on any site can make a browser send requests to a loopback port, and a name the attacker owns can be
//! rebound to 127.0.0.1. So `Host` is compared with the few exact spellings of our own addresses (a parser that is
//! lenient about octal, case, trailing dots or mapped addresses is how others were passed by), and a browser's own
//! marks (`Origin`, `Sec-Fetch-Site`) must name no other site.

use std::net::SocketAddr;

use http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use http::request::Parts;

/// Why a call is refused before its body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// The call was not addressed to this listener by one of its own names.
    Host,
    /// A web page of another origin sent the call.
    Page,
}

/// The spellings of `Host` that mean this listener.
#[derive(Clone, Debug)]
pub(crate) struct OwnNames(Vec<String>);

impl OwnNames {
    /// The names for a listener bound to these addresses.
    pub(crate) fn new(addrs: &[SocketAddr]) -> Self {
        let mut names = Vec::new();
        for addr in addrs {
            for host in [
                "127.0.0.1".to_owned(),
                "[::1]".to_owned(),
                "localhost".to_owned(),
                literal(addr),
            ] {
                let port = addr.port();
                names.push(format!("{host}:{port}"));
                if port == HTTP_PORT {
                    names.push(host);
                }
            }
        }
        names.sort();
        names.dedup();
        Self(names)
    }

    /// Checks a request head.
    pub(crate) fn admit(&self, head: &Parts) -> Result<(), Foreign> {
        let host = only(&head.headers, &HOST).ok_or(Foreign::Host)?;
        if !self.knows(host) || !self.target_is_ours(head) {
            return Err(Foreign::Host);
        }
        self.admit_origin(&head.headers)?;
        admit_site(&head.headers)
    }

    fn knows(&self, host: &[u8]) -> bool {
        self.0.iter().any(|name| name.as_bytes() == host)
    }

    /// A request target in absolute form (`GET http://host/path`) overrides `Host`, so it must be ours as well.
    fn target_is_ours(&self, head: &Parts) -> bool {
        let Some(authority) = head.uri.authority() else {
            return head.uri.scheme().is_none();
        };
        head.uri.scheme() == Some(&http::uri::Scheme::HTTP) && self.knows(authority.as_str().as_bytes())
    }

    fn admit_origin(&self, headers: &HeaderMap) -> Result<(), Foreign> {
        if !headers.contains_key(ORIGIN) {
            return Ok(());
        }
        let origin = only(headers, &ORIGIN).ok_or(Foreign::Page)?;
        match origin.strip_prefix(b"http://") {
            Some(host) if self.knows(host) => Ok(()),
            _ => Err(Foreign::Page),
        }
    }
}

/// A browser's statement of who caused the request: the user, or a page of our own.
fn admit_site(headers: &HeaderMap) -> Result<(), Foreign> {
    if !headers.contains_key(&SEC_FETCH_SITE) {
        return Ok(());
    }
    match only(headers, &SEC_FETCH_SITE) {
        Some(b"none" | b"same-origin") => Ok(()),
        _ => Err(Foreign::Page),
    }
}

/// The value of a header that is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

fn literal(addr: &SocketAddr) -> String {
    match addr {
        SocketAddr::V4(addr) => addr.ip().to_string(),
        SocketAddr::V6(addr) => format!("[{}]", addr.ip()),
    }
}

const HTTP_PORT: u16 = 80;
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use http::Request;

    use super::*;

    fn names() -> OwnNames {
        OwnNames::new(&[(Ipv4Addr::LOCALHOST, 8787).into(), (Ipv6Addr::LOCALHOST, 8787).into()])
    }

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// 47 spellings that reach this port through a browser, a rebound name or a lenient parser.
    const FOREIGN_HOSTS: &[&str] = &[
        "",
        " ",
        "127.0.0.1",
        "localhost",
        "[::1]",
        "127.0.0.1:",
        "127.0.0.1:80",
        "127.0.0.1:8788",
        "127.0.0.1:08787",
        "127.0.0.1:+8787",
        "127.0.0.1:8787:8787",
        "127.0.0.1:8787 ",
        "127.0.0.1:8787,evil.example",
        "127.0.0.1:8787/",
        "127.0.0.1.:8787",
        "127.0.0.1.evil.example:8787",
        "127.0.0.1.nip.io:8787",
        "127.1:8787",
        "127.0.1:8787",
        "127.0.0.2:8787",
        "0177.0.0.1:8787",
        "0x7f.0.0.1:8787",
        "0x7f000001:8787",
        "2130706433:8787",
        "127.000.000.001:8787",
        "0.0.0.0:8787",
        "0:8787",
        "LOCALHOST:8787",
        "Localhost:8787",
        "localhost.:8787",
        "localhost.localdomain:8787",
        "localhost.evil.example:8787",
        "evil-localhost:8787",
        "ip6-localhost:8787",
        "sub.localhost:8787",
        "evil.example:8787",
        "evil.example",
        "user@localhost:8787",
        "localhost:8787@evil.example",
        "::1",
        "::1:8787",
        "[::1]:8788",
        "[0:0:0:0:0:0:0:1]:8787",
        "[::ffff:127.0.0.1]:8787",
        "[::ffff:7f00:1]:8787",
        "[::1%25lo]:8787",
        "[::]:8787",
        "192.168.1.10:8787",
    ];

    #[test]
    fn no_other_spelling_of_host_is_admitted() {
        assert!(FOREIGN_HOSTS.len() >= 40);
        for host in FOREIGN_HOSTS {
            assert_eq!(
                names().admit(&head("/v1/responses", &[("host", host)])),
                Err(Foreign::Host),
                "{host:?}"
            );
        }
    }

    #[test]
    fn our_own_names_are_admitted() {
        for host in ["127.0.0.1:8787", "[::1]:8787", "localhost:8787"] {
            assert_eq!(
                names().admit(&head("/v1/responses", &[("host", host)])),
                Ok(()),
                "{host}"
            );
            assert_eq!(
                names().admit(&head(&format!("http://{host}/v1/responses"), &[("host", host)])),
                Ok(()),
                "{host}"
            );
        }
        let on_80 = OwnNames::new(&[(Ipv4Addr::LOCALHOST, 80).into()]);
        assert_eq!(on_80.admit(&head("/", &[("host", "localhost")])), Ok(()));
    }

    #[test]
    fn a_missing_or_doubled_host_is_refused() {
        assert_eq!(names().admit(&head("/", &[])), Err(Foreign::Host));
        let twice = [("host", "localhost:8787"), ("host", "localhost:8787")];
        assert_eq!(names().admit(&head("/", &twice)), Err(Foreign::Host));
    }

    #[test]
    fn an_absolute_target_must_be_ours_too() {
        for uri in [
            "http://evil.example/v1/responses",
            "https://localhost:8787/v1/responses",
            "http://localhost:8788/",
            "http://u@localhost:8787/",
            "localhost:8787",
        ] {
            assert_eq!(
                names().admit(&head(uri, &[("host", "localhost:8787")])),
                Err(Foreign::Host),
                "{uri}"
            );
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://localhost",
            "http://localhost:3000",
            "https://localhost:8787",
            "http://localhost:8787/",
            "http://localhost:8787.evil.example",
            "file://",
            "chrome-extension://abc",
        ] {
            let headers = [("host", "localhost:8787"), ("origin", origin)];
            assert_eq!(names().admit(&head("/", &headers)), Err(Foreign::Page), "{origin:?}");
        }
        let own = [("host", "localhost:8787"), ("origin", "http://localhost:8787")];
        assert_eq!(names().admit(&head("/", &own)), Ok(()));
    }

    #[test]
    fn only_a_request_caused_by_the_user_or_our_own_page_is_admitted() {
        for (site, outcome) in [
            ("none", Ok(())),
            ("same-origin", Ok(())),
            ("same-site", Err(Foreign::Page)),
            ("cross-site", Err(Foreign::Page)),
            ("", Err(Foreign::Page)),
            ("None", Err(Foreign::Page)),
        ] {
            let headers = [("host", "localhost:8787"), ("sec-fetch-site", site)];
            assert_eq!(names().admit(&head("/", &headers)), outcome, "{site}");
        }
        let twice = [
            ("host", "localhost:8787"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(names().admit(&head("/", &twice)), Err(Foreign::Page));
    }
}
