//! Which vendors an egress node may lead to. Everything that is not on the list is refused.

use std::{fmt, net::IpAddr};

use http::uri::Authority;

use crate::way::{authority, bare};

/// The vendors that may be reached.
#[derive(Debug, Clone, Default)]
pub struct AllowList(Vec<Pattern>);

/// One host with its port, or all hosts one label below a name: `*.openai.azure.com:443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    host: String,
    /// Any one label stands before the host.
    is_wild: bool,
    port: u16,
}

/// Why a text names no vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Neither a host nor a host with a port.
    #[error("is not a host with a port")]
    Host,
    /// `*` somewhere else than for the whole first label.
    #[error("has a `*` that is not its whole first label")]
    Wild,
    /// `*.com`.
    #[error("would allow all hosts of a whole domain of the internet")]
    Wide,
}

impl Pattern {
    /// Reads `HOST` or `HOST:PORT`; without a port it is 443.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (is_wild, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            return Err(PatternError::Wild);
        }
        let read: Authority = rest.parse().map_err(|_| PatternError::Host)?;
        let host = spelled(read.host());
        // What is no port is left out by the URL's own reading of it.
        let port = match rest.strip_prefix(read.host()) {
            Some("") => Some(443),
            Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()),
            None => None,
        };
        let port = port.filter(|port| *port > 0).ok_or(PatternError::Host)?;
        let is_address = host.parse::<IpAddr>().is_ok();
        if host.is_empty() || read.as_str().contains('@') || (is_address && is_wild) {
            return Err(PatternError::Host);
        }
        if is_wild && !host.contains('.') {
            return Err(PatternError::Wide);
        }
        Ok(Self { host, is_wild, port })
    }

    fn permits(&self, host: &str, port: u16) -> bool {
        let fits = if self.is_wild {
            host.split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == self.host)
        } else {
            host == self.host
        };
        fits && port == self.port
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.is_wild { "*." } else { "" };
        write!(f, "{star}{}", authority(&self.host, self.port))
    }
}

impl AllowList {
    /// Whether a host, as a URL has it, may be reached at this port.
    pub fn permits(&self, host: &str, port: u16) -> bool {
        let host = spelled(host);
        self.0.iter().any(|pattern| pattern.permits(&host, port))
    }
}

impl FromIterator<Pattern> for AllowList {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}

/// A host's one spelling.
fn spelled(host: &str) -> String {
    let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
    host.parse::<IpAddr>()
        .map_or(host, |address| address.to_canonical().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_is_reached() {
        let patterns = ["api.openai.com", "*.openai.azure.com:443", "10.0.0.1:8080", "[::1]:443"];
        let list: AllowList = patterns.map(|text| Pattern::parse(text).unwrap()).into_iter().collect();
        for (host, port) in [
            ("api.openai.com", 443),
            ("API.OpenAI.com.", 443),
            ("mine.openai.azure.com", 443),
            ("10.0.0.1", 8080),
            ("[::ffff:10.0.0.1]", 8080),
            ("[::1]", 443),
        ] {
            assert!(list.permits(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("api.openai.com", 80),
            ("openai.com", 443),
            ("x.api.openai.com", 443),
            ("api.openai.com.evil.example", 443),
            ("openai.azure.com", 443),
            (".openai.azure.com", 443),
            ("a.b.openai.azure.com", 443),
            ("10.0.0.1", 443),
            ("10.0.0.2", 8080),
            ("", 443),
        ] {
            assert!(!list.permits(host, port), "{host}:{port}");
        }
        assert!(!AllowList::default().permits("api.openai.com", 443));
    }

    #[test]
    fn a_pattern_that_says_more_than_it_seems_is_refused() {
        for (text, error) in [
            ("", PatternError::Host),
            ("https://api.openai.com", PatternError::Host),
            ("api.openai.com:0", PatternError::Host),
            ("api.openai.com:99999", PatternError::Host),
            ("me@api.openai.com", PatternError::Host),
            ("*.10.0.0.1", PatternError::Host),
            ("*", PatternError::Wild),
            ("api.*.com", PatternError::Wild),
            ("*api.openai.com", PatternError::Wild),
            ("*.*.openai.com", PatternError::Wild),
            ("*.com", PatternError::Wide),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        assert_eq!(
            Pattern::parse("*.Example.COM").unwrap().to_string(),
            "*.example.com:443"
        );
    }
}
