//! Names of things that live in the store: `ten_…`, `key_…`, `dev_…`, `acc_…`, `way_…`, `node_…`, `code_…`, `tok_…`, `tk_…`. Knows
//! nothing of what they name.

use std::{fmt, sync::Arc};

use aws_lc_rs::rand;

/// Why a text is not an id.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not an id of a {what}: expected `{prefix}` and 16 letters or digits")]
pub struct IdError {
    text: String,
    what: &'static str,
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A fresh random id (80 bits).
            pub fn random() -> Self {
                Self(format!(concat!($prefix, "{}"), random_name()).into())
            }

            /// Reads an id back from its text.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                match text.strip_prefix($prefix) {
                    Some(rest) if is_name(rest) => Ok(Self(text.into())),
                    _ => Err(IdError { text: shown(text), what: $what, prefix: $prefix }),
                }
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }
    };
}

id!(
    /// Who pays.
    TenantId, "ten_", "tenant"
);
id!(
    /// An API key of a tenant. The id is public, the secret is not in it.
    KeyId, "key_", "API key"
);
id!(
    /// An enrolled device of a tenant.
    DeviceId, "dev_", "device"
);
id!(
    /// The operator's account at a vendor.
    AccountId, "acc_", "vendor account"
);

id!(
    /// A way out of a vendor account.
    WayId, "way_", "way out"
);

id!(
    /// An egress node.
    NodeId, "node_", "egress node"
);

impl NodeId {
    /// The name in the node's certificate, by which its hub knows it whatever address it dialled.
    pub fn server_name(&self) -> String {
        format!("{self}.relay-node")
    }
}

id!(
    /// A code that stands for credit. What is redeemed is not in it.
    CodeId, "code_", "code"
);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What one may be called.
            pub const NAMES: &str = "it is 1 to 64 of a-z, 0-9 and -";

            /// `None` where the text is no such name.
            pub fn parse(text: &str) -> Option<Self> {
                is_plain(text).then(|| Self(text.into()))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A part of a tenant's calls, in the tenant's own words: a product, a team, a customer. It need not be made first.
    Project
);

name!(
    /// What an app token says of whom it was issued to, in the tenant's own words: under which of its limits.
    AppPlan
);

id!(
    /// An app token.
    TokenId, "tok_", "app token"
);

id!(
    /// A key that signs app tokens. The id is public.
    TokenKeyId, "tk_", "key that signs app tokens"
);

fn is_plain(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST_PLAIN).contains(&text.len()) && text.bytes().all(is_good)
}

const LONGEST_PLAIN: usize = 64;
const NAME_LENGTH: usize = 16;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const IN_ALPHABET: [bool; 256] = {
    let (mut table, mut at) = ([false; 256], 0);
    while at < ALPHABET.len() {
        table[ALPHABET[at] as usize] = true;
        at += 1;
    }
    table
};

/// Sixteen random characters without look-alikes (80 bits).
pub(crate) fn random_name() -> String {
    let mut bytes = [0u8; NAME_LENGTH];
    rand::fill(&mut bytes).expect("the system's random source answers");
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]))
        .collect()
}

pub(crate) fn is_name(text: &str) -> bool {
    text.len() == NAME_LENGTH && text.bytes().all(|byte| IN_ALPHABET[usize::from(byte)])
}

/// At most 40 characters of a text that goes into an error.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back() {
        let id = TenantId::random();
        assert_eq!(TenantId::parse(id.as_str()), Ok(id));
    }

    #[test]
    fn a_project_is_a_short_plain_word() {
        for good in ["a", "0", "web-shop-2", &"p".repeat(64)] {
            assert_eq!(Project::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "a b", "a_b", "a/b", "a%2fb", "ä", "a.b", &"p".repeat(65)] {
            assert!(Project::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn another_kinds_id_is_refused() {
        assert!(KeyId::parse(TenantId::random().as_str()).is_err());
        assert!(TenantId::parse("ten_").is_err());
        assert!(TenantId::parse("ten_0123456789abcdeU").is_err());
    }
}
