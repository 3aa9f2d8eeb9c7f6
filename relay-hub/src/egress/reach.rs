//! Which addresses a way may lead to, and in which order they are tried. Names are resolved once for a connection, and
//! what was judged is what is connected to.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::way::{Family, bare};

/// What a name may resolve to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reach {
    /// Only these: an address to leave by reaches its own family.
    pub(crate) only: Option<Family>,
    /// These first.
    pub(crate) first: Option<Family>,
    /// Addresses that are not public too.
    pub(crate) allows_private: bool,
}

impl Reach {
    /// Where a name leads. An address stands for itself: whoever writes it means it.
    ///
    /// # Errors
    /// `PermissionDenied` where it leads nowhere that may be reached; what the resolver says.
    pub(crate) async fn resolve(self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = bare(host).parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = tokio::net::lookup_host((host, port)).await?;
        self.judge(host, found)
    }

    fn judge(self, name: &str, found: impl Iterator<Item = SocketAddr>) -> io::Result<Vec<SocketAddr>> {
        // Whoever writes this name means it.
        let allows_private = self.allows_private || name.eq_ignore_ascii_case("localhost");
        let mut allowed: Vec<_> = found
            .filter(|found| self.only.is_none_or(|only| Family::of(found.ip()) == only))
            .filter(|found| allows_private || is_public(found.ip()))
            .collect();
        // Stable: within a family the resolver's order stays.
        allowed.sort_by_key(|found| self.first.is_some_and(|first| Family::of(found.ip()) != first));
        if allowed.is_empty() {
            let words = "the name leads to no address that this way out may reach";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
        }
        Ok(allowed)
    }
}

impl Service<Name> for Reach {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(reach.judge(name.as_str(), found)?.into_iter())
        })
    }
}

/// Whether a host may be connected to as it is written. A name is judged where it is resolved; an address of this machine is
/// meant by whoever writes it, another one that is not public must be allowed.
pub(crate) fn may_be_written(host: &str, allows_private: bool) -> bool {
    let address = host.parse::<IpAddr>();
    address.map_or(true, |ip| allows_private || ip.is_loopback() || is_public(ip))
}

/// Whether an address is one of the public internet.
/// Source: IANA's registries of special-purpose addresses, RFC 6890 (2026-11).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let is_special = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_documentation()
        || matches!(
            (a, b, c),
            (0 | 240.., _, _) | (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _)
        );
    !is_special
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let [a, b, c, d, _, _, g, h] = v6.segments();
    let within = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // An IPv4 address behind a translator (RFC 6052), or by 6to4 (RFC 3056).
        (0x64, 0xff9b) => c == 0 && d == 0 && within(g, h),
        (0x2002, high) => within(high, c),
        // Documentation, and what is set aside for protocols.
        (0x2001, 0x0db8 | 0x0000..=0x01ff) | (0x3fff, _) => false,
        // All that was given out so far (RFC 4291, 2.4).
        (0x2000..=0x3fff, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public_are_known() {
        for text in [
            "8.8.8.8",
            "104.18.6.192",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "192.0.1.1",
            "2606:4700::6810:1",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.9",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::808:808",
            "2002:7f00:1::1",
            "2001::1",
            "100::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_name_leads_only_where_it_may() {
        let found = || {
            ["10.0.0.1:0", "[2606:4700::1]:0", "8.8.8.8:0"]
                .map(|text| text.parse().unwrap())
                .into_iter()
        };
        let judged = |reach: Reach| {
            let allowed = reach.judge("vendor.example", found());
            allowed.map(|all| all.iter().map(|one| one.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(judged(Reach::default()).unwrap(), ["2606:4700::1", "8.8.8.8"]);
        let first = Some(Family::V4);
        assert_eq!(
            judged(Reach {
                first,
                ..Reach::default()
            })
            .unwrap(),
            ["8.8.8.8", "2606:4700::1"]
        );
        let only = Some(Family::V6);
        assert_eq!(
            judged(Reach {
                only,
                ..Reach::default()
            })
            .unwrap(),
            ["2606:4700::1"]
        );
        let inside = Reach {
            allows_private: true,
            ..Reach::default()
        };
        assert_eq!(judged(inside).unwrap().len(), 3);
        let here = || ["127.0.0.1:0".parse().unwrap()].into_iter();
        assert!(Reach::default().judge("vendor.example", here()).is_err());
        assert!(Reach::default().judge("localhost", here()).is_ok());
    }
}
