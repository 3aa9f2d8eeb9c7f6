//! Seals secrets at rest: AES-256-GCM, bound to the owner's id and the field. Knows no store and no owner.

use std::{fs, io};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use relay_shared::secret::Secret;
use zeroize::Zeroizing;

use crate::config::DataDir;

/// Holds the sealing key of one data directory.
pub struct Sealer {
    key: RandomizedNonceKey,
}

/// Why a secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read.
    #[error("cannot read the sealing key {path}")]
    Unreadable {
        /// The key file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The key file does not hold 32 bytes.
    #[error("the sealing key {0} is not 32 bytes long: restore it from a backup")]
    BadKey(String),
    /// Another key, another account or damaged bytes.
    #[error("a sealed secret does not open: it was sealed with another seal.key, or is damaged; add the account again")]
    Broken,
}

const KEY_LENGTH: usize = 32;

impl Sealer {
    /// Reads the sealing key of a data directory.
    pub fn open(data: &DataDir) -> Result<Self, SealError> {
        let path = data.seal_key();
        let shown = || path.display().to_string();
        let bytes = fs::read(&path).map_err(|source| SealError::Unreadable { path: shown(), source })?;
        Self::from_bytes(&Zeroizing::new(bytes)).ok_or_else(|| SealError::BadKey(shown()))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != KEY_LENGTH {
            return None;
        }
        RandomizedNonceKey::new(&AES_256_GCM, bytes)
            .ok()
            .map(|key| Self { key })
    }

    /// Seals a secret of a field of the account or way with this id. The result is the nonce, the ciphertext and the tag.
    pub fn seal(&self, owner: &str, field: &str, secret: &str) -> Result<Vec<u8>, SealError> {
        let mut bytes = secret.as_bytes().to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(bound_to(owner, field)), &mut bytes)
            .map_err(|_| SealError::Broken)?;
        Ok([nonce.as_ref().as_slice(), &bytes].concat())
    }

    /// Opens what [`Sealer::seal`] made for the same owner and field.
    pub fn open_secret(&self, owner: &str, field: &str, sealed: &[u8]) -> Result<Secret<String>, SealError> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Broken)?;
        let mut bytes = Zeroizing::new(rest.to_vec());
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(bound_to(owner, field)), &mut bytes)
            .map_err(|_| SealError::Broken)?;
        let text = std::str::from_utf8(plain).map_err(|_| SealError::Broken)?;
        Ok(Secret::new(text.to_owned()))
    }
}

/// A fresh key for [`DataDir::seal_key`].
pub(crate) fn fresh_key() -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; KEY_LENGTH]);
    rand::fill(&mut key).expect("the system's random source answers");
    key
}

/// Neither part can hold a newline, so no two pairs give the same bytes.
fn bound_to(owner: &str, field: &str) -> Vec<u8> {
    format!("{owner}\n{field}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_for_its_own_account_and_field_only() {
        let sealer = Sealer::from_bytes(&fresh_key()).unwrap();
        let (mine, other) = ("acc_1", "acc_2");
        let sealed = sealer.seal(mine, "secret", "sk-canary").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"canary"));
        assert_eq!(
            sealer.open_secret(mine, "secret", &sealed).unwrap().expose(),
            "sk-canary"
        );
        assert!(sealer.open_secret(other, "secret", &sealed).is_err());
        assert!(sealer.open_secret(mine, "secret2", &sealed).is_err());
        assert!(
            Sealer::from_bytes(&fresh_key())
                .unwrap()
                .open_secret(mine, "secret", &sealed)
                .is_err()
        );
        assert!(sealer.open_secret(mine, "secret", &sealed[..5]).is_err());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealer = Sealer::from_bytes(&fresh_key()).unwrap();
        let account = "acc_1";
        let sealed = sealer.seal(account, "secret", "sk").unwrap();
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(sealer.open_secret(account, "secret", &bad).is_err());
        }
    }
}
