//! A range of addresses, as in `10.0.0.0/8`, or one address.

use std::{fmt, net::IpAddr};

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().ok()?;
        let prefix = prefix.unwrap_or_else(|| width(base));
        let network = Self { base, prefix };
        (prefix <= width(base) && network.contains_exactly(base)).then_some(network)
    }

    /// Whether an address is one of these. An IPv4 address in IPv6 clothes is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.base) && bits(address, self.prefix) == bits(self.base, self.prefix)
    }

    /// No bit is set beyond the prefix: `10.1.2.3/8` is more likely a slip than a network.
    fn contains_exactly(&self, base: IpAddr) -> bool {
        let all = width(base);
        bits(base, self.prefix)
            .checked_shl(u32::from(all - self.prefix))
            .unwrap_or(0)
            == bits(base, all)
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first `prefix` bits as a number.
fn bits(address: IpAddr, prefix: u8) -> u128 {
    let whole = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let rest = width(address).saturating_sub(prefix);
    whole.checked_shr(u32::from(rest)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.base) {
            write!(f, "{}", self.base)
        } else {
            write!(f, "{}/{}", self.base, self.prefix)
        }
    }
}
