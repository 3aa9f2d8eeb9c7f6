//! Seals secrets at rest, each by a key of its own that the master key wraps: AES-256-GCM, bound to the owner's id and
//! the field. Knows no store and no owner.

mod keys;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use relay_shared::secret::Secret;
use zeroize::Zeroizing;

use self::keys::KEY_LENGTH;
pub(crate) use self::keys::fresh_key;
pub use self::keys::{KeyId, Sealer};

/// Why a secret cannot be sealed or opened, or a key not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read.
    #[error("cannot read the sealing key {path}")]
    Unreadable {
        /// The key file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The key file cannot be written.
    #[error("cannot write the sealing key {path}")]
    Unwritable {
        /// The key file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The key file does not hold keys of 32 bytes.
    #[error("the sealing key {0} is not 32 bytes long, or two or three times that: restore it from a backup")]
    BadKey(String),
    /// Another key, another account or damaged bytes.
    #[error("a sealed secret does not open: it was sealed with another seal.key, or is damaged; add the account again")]
    Broken,
}

/// What every sealed value begins with, but those of hubs that wrapped no keys.
const MARK: &[u8; 4] = b"rs2\0";
const TAG_LENGTH: usize = 16;
const WRAPPED_LENGTH: usize = NONCE_LEN + KEY_LENGTH + TAG_LENGTH;

/// A sealed value taken apart.
enum Sealed<'a> {
    /// By a key of its own: which master key wraps it, the wrapped key, the value.
    Wrapped(KeyId, &'a [u8], &'a [u8]),
    /// By the master key itself.
    Plain(&'a [u8]),
}

impl<'a> Sealed<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let wrapped = bytes
            .strip_prefix(MARK)
            .and_then(|rest| rest.split_first_chunk())
            .and_then(|(id, rest)| Some((id, rest.split_at_checked(WRAPPED_LENGTH)?)));
        match wrapped {
            Some((id, (key, value))) => Self::Wrapped(KeyId::new(*id), key, value),
            None => Self::Plain(bytes),
        }
    }
}

impl Sealer {
    /// Seals a secret of a field of the account or way with this id.
    pub fn seal(&self, owner: &str, field: &str, secret: &str) -> Result<Vec<u8>, SealError> {
        let own = fresh_key();
        let value = encrypt(&key(&own)?, &bound_to(owner, field), secret.as_bytes())?;
        self.wrapped(owner, field, &own, &value)
    }

    /// Opens what [`Sealer::seal`] made for the same owner and field.
    pub fn open_secret(&self, owner: &str, field: &str, sealed: &[u8]) -> Result<Secret<String>, SealError> {
        let bound = bound_to(owner, field);
        let plain = match Sealed::read(sealed) {
            Sealed::Wrapped(id, own, value) => {
                let own = self.unwrap(id, owner, field, own)?;
                decrypt(&key(&own)?, &bound, value)?
            }
            Sealed::Plain(value) => self.with_any(|master| decrypt(&master.key, &bound, value))?,
        };
        let text = std::str::from_utf8(&plain).map_err(|_| SealError::Broken)?;
        Ok(Secret::new(text.to_owned()))
    }

    /// Wraps a sealed value's own key with the first master key; `None` where that is how it is. The value itself is not
    /// opened, but for those of hubs that wrapped no keys.
    pub fn rewrapped(&self, owner: &str, field: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        match Sealed::read(sealed) {
            Sealed::Wrapped(id, ..) if id == self.first() => Ok(None),
            Sealed::Wrapped(id, own, value) => {
                let own = self.unwrap(id, owner, field, own)?;
                self.wrapped(owner, field, &own, value).map(Some)
            }
            Sealed::Plain(_) => {
                let secret = self.open_secret(owner, field, sealed)?;
                self.seal(owner, field, secret.expose()).map(Some)
            }
        }
    }

    fn wrapped(&self, owner: &str, field: &str, own: &[u8], value: &[u8]) -> Result<Vec<u8>, SealError> {
        self.with_first(|master| {
            let own = encrypt(&master.key, &wrapped_for(owner, field), own)?;
            Ok([MARK, master.id.bytes(), own.as_slice(), value].concat())
        })
    }

    fn unwrap(&self, id: KeyId, owner: &str, field: &str, own: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.with(id, |master| decrypt(&master.key, &wrapped_for(owner, field), own))
    }
}

/// Which master key a value is sealed under; `None` where it was sealed by a hub that wrapped no keys.
pub fn sealed_under(sealed: &[u8]) -> Option<KeyId> {
    match Sealed::read(sealed) {
        Sealed::Wrapped(id, ..) => Some(id),
        Sealed::Plain(_) => None,
    }
}

fn key(bytes: &[u8]) -> Result<RandomizedNonceKey, SealError> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| SealError::Broken)
}

/// The nonce, the ciphertext and the tag.
fn encrypt(key: &RandomizedNonceKey, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut bytes = plain.to_vec();
    let nonce = key
        .seal_in_place_append_tag(Aad::from(bound), &mut bytes)
        .map_err(|_| SealError::Broken)?;
    Ok([nonce.as_ref().as_slice(), &bytes].concat())
}

fn decrypt(key: &RandomizedNonceKey, bound: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Broken)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Broken)?;
    let mut bytes = Zeroizing::new(rest.to_vec());
    let length = key
        .open_in_place(nonce, Aad::from(bound), &mut bytes)
        .map_err(|_| SealError::Broken)?
        .len();
    bytes.truncate(length);
    Ok(bytes)
}

/// Neither part can hold a newline, so no two pairs give the same bytes.
fn bound_to(owner: &str, field: &str) -> Vec<u8> {
    format!("{owner}\n{field}").into_bytes()
}

/// What a wrapped key is bound to: it opens nothing else.
fn wrapped_for(owner: &str, field: &str) -> Vec<u8> {
    format!("{owner}\n{field}\nkey").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataDir;

    struct Place(tempfile::TempDir);

    impl Place {
        /// A data directory with these keys.
        fn with(keys: &[&[u8]]) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            place.put(keys);
            place
        }

        fn put(&self, keys: &[&[u8]]) {
            std::fs::write(self.data().seal_key(), keys.concat()).unwrap();
        }

        fn data(&self) -> DataDir {
            DataDir::new(self.0.path())
        }

        fn sealer(&self) -> Sealer {
            Sealer::open(&self.data()).unwrap()
        }
    }

    #[test]
    fn a_secret_opens_for_its_own_account_and_field_only() {
        let place = Place::with(&[&fresh_key()]);
        let sealer = place.sealer();
        let (mine, other) = ("acc_1", "acc_2");
        let sealed = sealer.seal(mine, "secret", "sk-canary").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"canary"));
        assert_eq!(
            sealer.open_secret(mine, "secret", &sealed).unwrap().expose(),
            "sk-canary"
        );
        assert!(sealer.open_secret(other, "secret", &sealed).is_err());
        assert!(sealer.open_secret(mine, "secret2", &sealed).is_err());
        let stranger = Place::with(&[&fresh_key()]).sealer();
        assert!(stranger.open_secret(mine, "secret", &sealed).is_err());
        for length in 0..sealed.len() {
            assert!(sealer.open_secret(mine, "secret", &sealed[..length]).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let place = Place::with(&[&fresh_key()]);
        let sealer = place.sealer();
        let account = "acc_1";
        let sealed = sealer.seal(account, "secret", "sk").unwrap();
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(sealer.open_secret(account, "secret", &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn parts_of_two_sealed_values_make_no_third() {
        let sealer = Place::with(&[&fresh_key()]).sealer();
        let one = sealer.seal("acc_1", "secret", "sk-one").unwrap();
        let two = sealer.seal("acc_2", "secret", "sk-two").unwrap();
        let cut = MARK.len() + 4 + WRAPPED_LENGTH;
        for owner in ["acc_1", "acc_2"] {
            let mixed = [&one[..cut], &two[cut..]].concat();
            assert!(sealer.open_secret(owner, "secret", &mixed).is_err());
            let mixed = [&two[..cut], &one[cut..]].concat();
            assert!(sealer.open_secret(owner, "secret", &mixed).is_err());
        }
    }

    #[test]
    fn a_new_master_key_takes_over_and_a_running_hub_follows() {
        let (old, new) = (fresh_key(), fresh_key());
        let place = Place::with(&[&old]);
        let running = place.sealer();
        let before = running.seal("acc_1", "secret", "sk").unwrap();
        place.put(&[&new, &old]);
        let rotating = place.sealer();
        let after = rotating.rewrapped("acc_1", "secret", &before).unwrap().unwrap();
        assert_eq!(rotating.rewrapped("acc_1", "secret", &after).unwrap(), None);
        assert!(rotating.rewrapped("acc_2", "secret", &before).is_err());
        assert_eq!(sealed_under(&after), Some(rotating.first()));
        for sealed in [&before, &after] {
            assert_eq!(running.open_secret("acc_1", "secret", sealed).unwrap().expose(), "sk");
        }
        place.put(&[&new]);
        let later = place.sealer();
        assert_eq!(later.open_secret("acc_1", "secret", &after).unwrap().expose(), "sk");
        assert!(later.open_secret("acc_1", "secret", &before).is_err());
    }

    #[test]
    fn what_a_hub_without_wrapped_keys_sealed_still_opens() {
        let bytes = fresh_key();
        let place = Place::with(&[&bytes]);
        let old = encrypt(&key(&bytes).unwrap(), b"acc_1\nsecret", b"sk").unwrap();
        let sealer = place.sealer();
        assert_eq!(sealer.open_secret("acc_1", "secret", &old).unwrap().expose(), "sk");
        assert!(sealer.open_secret("acc_2", "secret", &old).is_err());
        assert_eq!(sealed_under(&old), None);
        let new = sealer.rewrapped("acc_1", "secret", &old).unwrap().unwrap();
        assert_eq!(sealer.open_secret("acc_1", "secret", &new).unwrap().expose(), "sk");
    }
}
