//! Where an egress node is. Knows no certificates.

use std::fmt;

use http::uri::Authority;

use super::{authority, bare};

/// Where a hub dials an egress node of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAt {
    /// Its name or address, an IPv6 address without brackets.
    pub host: String,
    /// Its port, on UDP and TCP.
    pub port: u16,
    /// It was revoked: nothing leaves by it any more.
    pub is_revoked: bool,
}

impl NodeAt {
    /// Reads `HOST:PORT`.
    pub fn parse(text: &str) -> Option<Self> {
        let read: Authority = text.parse().ok()?;
        let (host, port) = (bare(read.host()), read.port_u16().filter(|port| *port > 0)?);
        let is_plain = !host.is_empty() && !read.as_str().contains('@');
        is_plain.then(|| Self {
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            port,
            is_revoked: false,
        })
    }
}

impl fmt::Display for NodeAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority(&self.host, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for text in ["node.example:8443", "[2001:db8::1]:443", "10.0.0.1:1"] {
            assert_eq!(NodeAt::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "node.example",
            "node.example:0",
            "me@node.example:1",
            ":1",
            "node.example:1/x",
            "",
        ] {
            assert_eq!(NodeAt::parse(text), None, "{text}");
        }
    }
}
