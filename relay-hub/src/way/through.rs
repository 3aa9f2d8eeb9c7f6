//! By what a way leaves, and its one spelling: two ways are the same where these are, so that none has two owners.

use std::{fmt, net::IpAddr};

use http::Uri;

use crate::ids::NodeId;

/// By what a way leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Through {
    /// An address of this machine, bound before it connects.
    Source(IpAddr),
    /// A proxy.
    Proxy(Proxy),
    /// An egress node of the operator's own.
    Node(NodeId),
}

/// A proxy that leaves in our place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// How it is spoken to.
    pub kind: ProxyKind,
    /// Its name or address, an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// As whom. Providers give each address of theirs a user of its own.
    pub user: Option<String>,
}

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT (RFC 9110, 9.3.6).
    Connect,
    /// The same within TLS.
    TlsConnect,
    /// SOCKS version 5 (RFC 1928), names resolved by the proxy.
    Socks5,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Reads `4` or `6`.
    pub fn parse(number: i64) -> Option<Self> {
        match number {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }

    /// `4` or `6`.
    pub const fn number(self) -> i64 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
}

/// Why a text names no way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ThroughError {
    /// Not an address.
    #[error("is not an IP address")]
    Address,
    /// An address that no machine leaves by.
    #[error("is not an address that a machine can leave by")]
    NoSource,
    /// Not an egress node's id.
    #[error("is not an egress node's id")]
    Node,
    /// Not a URL of a proxy.
    #[error("is not a proxy's URL")]
    Url,
    /// A scheme that is not spoken.
    #[error("has a scheme other than http, https and socks5")]
    Scheme,
    /// A path, which a proxy has none of.
    #[error("has a path")]
    Path,
    /// A password, which would stand in the shell's history.
    #[error("holds a password")]
    Password,
    /// Not the one spelling.
    #[error("is spelled otherwise than a way out is")]
    Spelling,
    /// A user that cannot be sent.
    #[error("has a user of other than 1 to 255 letters, digits and `._-+=`")]
    User,
}

impl Through {
    /// Reads an address to leave by.
    pub fn source(text: &str) -> Result<Self, ThroughError> {
        let address: IpAddr = text.parse().map_err(|_| ThroughError::Address)?;
        let address = address.to_canonical();
        let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || is_broadcast {
            return Err(ThroughError::NoSource);
        }
        Ok(Self::Source(address))
    }

    /// Reads a proxy's URL: `socks5://user@host:1080`.
    pub fn proxy(text: &str) -> Result<Self, ThroughError> {
        let uri: Uri = text.parse().map_err(|_| ThroughError::Url)?;
        let kind = match uri.scheme_str() {
            Some("http") => ProxyKind::Connect,
            Some("https") => ProxyKind::TlsConnect,
            Some("socks5" | "socks5h") => ProxyKind::Socks5,
            Some(_) => return Err(ThroughError::Scheme),
            None => return Err(ThroughError::Url),
        };
        let authority = uri.authority().ok_or(ThroughError::Url)?.as_str();
        let user = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(ThroughError::Password),
            Some((user, _)) if !is_user(user) => return Err(ThroughError::User),
            Some((user, _)) => Some(user.to_owned()),
            None => None,
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(ThroughError::Path);
        }
        let host = bare(uri.host().unwrap_or_default());
        if host.is_empty() || uri.port_u16() == Some(0) {
            return Err(ThroughError::Url);
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        Ok(Self::Proxy(Proxy {
            kind,
            host: host.parse::<IpAddr>().map_or(host, |ip| ip.to_canonical().to_string()),
            port: uri.port_u16().unwrap_or(kind.port()),
            user,
        }))
    }

    /// Reads its one spelling back, and no other: that could have another owner.
    pub fn parse(text: &str) -> Result<Self, ThroughError> {
        let read = match text.split_once(' ') {
            Some(("source", address)) => Self::source(address),
            Some(("node", id)) => Ok(Self::Node(NodeId::parse(id).map_err(|_| ThroughError::Node)?)),
            Some(_) | None => Self::proxy(text),
        }?;
        (read.to_string() == text).then_some(read).ok_or(ThroughError::Spelling)
    }

    /// Who leaves as whom at a proxy; none where no proxy wants to know.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Source(_) | Self::Node(_) => None,
            Self::Proxy(proxy) => proxy.user.as_deref(),
        }
    }
}

impl ProxyKind {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Connect => "http",
            Self::TlsConnect => "https",
            Self::Socks5 => "socks5",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Connect => 80,
            Self::TlsConnect => 443,
            Self::Socks5 => 1080,
        }
    }
}

fn is_user(text: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+=".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(is_fit)
}

/// A host of a URL without the brackets of an IPv6 address.
pub(crate) fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

impl fmt::Display for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(address) => write!(f, "source {address}"),
            Self::Proxy(proxy) => proxy.fmt(f),
            Self::Node(id) => write!(f, "node {id}"),
        }
    }
}

impl Proxy {
    /// Host and port, as a URL has them.
    pub(crate) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// Host and port, as a URL has them.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.kind.scheme())?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_has_one_spelling_that_reads_back() {
        for (text, spelled) in [
            ("http://Proxy.Example", "http://proxy.example:80"),
            ("https://proxy.example.:8443/", "https://proxy.example:8443"),
            ("socks5h://me_1@10.0.0.1", "socks5://me_1@10.0.0.1:1080"),
            ("socks5://[::ffff:10.0.0.1]:1", "socks5://10.0.0.1:1"),
            ("http://[2001:DB8::0:1]:3128", "http://[2001:db8::1]:3128"),
        ] {
            let through = Through::proxy(text).unwrap();
            assert_eq!(through.to_string(), spelled);
            assert_eq!(Through::parse(spelled), Ok(through));
        }
        let source = Through::source("::ffff:192.0.2.1").unwrap();
        assert_eq!(source.to_string(), "source 192.0.2.1");
        assert_eq!(Through::parse("source 192.0.2.1"), Ok(source));
        let node = Through::Node(NodeId::random());
        assert_eq!(Through::parse(&node.to_string()), Ok(node));
        assert_eq!(Through::parse("node ohio"), Err(ThroughError::Node));
        for text in [
            "source ::ffff:192.0.2.1",
            "HTTP://proxy.example:80",
            "http://proxy.example",
            "socks5h://p:1",
        ] {
            assert_eq!(Through::parse(text), Err(ThroughError::Spelling), "{text}");
        }
    }

    #[test]
    fn what_names_no_way_is_told() {
        for (text, error) in [
            ("proxy.example", ThroughError::Url),
            ("ftp://proxy.example", ThroughError::Scheme),
            ("http://proxy.example/x", ThroughError::Path),
            ("http://me:secret@proxy.example", ThroughError::Password),
            ("http://me:secret@proxy.example/x", ThroughError::Password),
            ("http://m%65@proxy.example", ThroughError::User),
            ("http://proxy.example:0", ThroughError::Url),
        ] {
            assert_eq!(Through::proxy(text), Err(error), "{text}");
        }
        for text in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(Through::source(text), Err(ThroughError::NoSource), "{text}");
        }
        assert_eq!(Through::source("localhost"), Err(ThroughError::Address));
    }
}
