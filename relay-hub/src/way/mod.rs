//! A way out as an operator describes it: the address or the proxy through which one account leaves, and where that is.
//! Pure: dials nothing, knows no account.

mod health;
mod node;
mod through;

use std::{fmt, sync::Arc};

use relay_shared::secret::Secret;

use crate::ids::WayId;

pub use health::{Connected, Health};
pub use node::NodeAt;
pub use through::{Family, Proxy, ProxyKind, Through, ThroughError};
pub(crate) use through::{authority, bare};

/// One way out. It belongs to one account for good.
pub struct WayOut {
    /// The id.
    pub id: WayId,
    /// The operator's name for it; it stands on the usage rows.
    pub name: Arc<str>,
    /// By what it leaves.
    pub through: Through,
    /// Where its egress node is, where it leaves by one.
    pub node: Option<NodeAt>,
    /// The password that goes with the user of a proxy.
    pub password: Option<Secret<String>>,
    /// Where its address is, in the operator's words.
    pub region: Option<Region>,
    /// Which addresses of a vendor are tried first.
    pub prefers: Option<Family>,
    /// It may lead to addresses that are not public.
    pub allows_private: bool,
}

/// Where a way out leaves, as an operator calls it: `eu`, `us-east`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region(Arc<str>);

impl Region {
    /// Reads a region's name: at most 32 letters, digits and `-`, whatever their case.
    pub fn parse(text: &str) -> Option<Self> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = (1..=32).contains(&text.len()) && text.bytes().all(is_fit);
        fits.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_one_spelling() {
        assert_eq!(Region::parse("EU-West").unwrap().as_str(), "eu-west");
        for text in ["", "eu west", "eu\n", "é", &"x".repeat(33)] {
            assert!(Region::parse(text).is_none(), "{text:?}");
        }
    }
}
