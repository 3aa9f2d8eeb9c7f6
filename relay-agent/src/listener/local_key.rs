//! The key a local program must show. Compares in constant time; never prints it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use relay_shared::secret::Secret;

/// The SHA-256 of the local key: all that the listener needs.
#[derive(Clone)]
pub(crate) struct ExpectedKey([u8; 32]);

impl ExpectedKey {
    pub(crate) fn new(key: &str) -> Self {
        Self(sha256(key.as_bytes()))
    }

    /// Whether one of the headers that clients use carries the key.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let bearer = headers
            .get_all(AUTHORIZATION)
            .iter()
            .filter_map(|value| bearer(value.as_bytes()));
        let plain = KEY_HEADERS
            .iter()
            .flat_map(|name| headers.get_all(name))
            .map(|value| value.as_bytes());
        // Every candidate is compared, so that time tells nothing about which one was right.
        bearer.chain(plain).fold(false, |found, key| self.matches(key) | found)
    }

    /// Whether this is the key.
    pub(crate) fn is(&self, key: &Secret<String>) -> bool {
        self.matches(key.expose().as_bytes())
    }

    fn matches(&self, key: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, &sha256(key)).is_ok()
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| key.trim_ascii())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

const BEARER: &[u8] = b"Bearer ";
/// Where clients of other vendors' dialects put their key.
pub(crate) static KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_key_is_found_in_every_header_clients_use() {
        let key = ExpectedKey::new("rl_abc");
        for (name, value) in [
            ("authorization", "Bearer rl_abc"),
            ("authorization", "bearer rl_abc"),
            ("x-api-key", "rl_abc"),
            ("api-key", "rl_abc"),
            ("x-goog-api-key", "rl_abc"),
        ] {
            assert!(key.is_in(&headers(&[(name, value)])), "{name}");
        }
    }

    #[test]
    fn anything_else_is_not_the_key() {
        let key = ExpectedKey::new("rl_abc");
        for (name, value) in [
            ("authorization", "rl_abc"),
            ("authorization", "Basic rl_abc"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer "),
            ("authorization", "Bearer rl_ab"),
            ("authorization", "Bearer rl_abcd"),
            ("authorization", "Bearer RL_ABC"),
            ("x-api-key", ""),
            ("cookie", "rl_abc"),
        ] {
            assert!(!key.is_in(&headers(&[(name, value)])), "{name}: {value}");
        }
        assert!(!key.is_in(&HeaderMap::new()));
    }
}
