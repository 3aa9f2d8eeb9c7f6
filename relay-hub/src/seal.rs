//! Seals secrets at rest, each by a key of its own that the master key wraps: AES-256-GCM, bound to the owner's id, the
//! field, and for whom it stands there. Knows no store and no owner.

mod keys;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use relay_shared::secret::Secret;
use zeroize::Zeroizing;

use self::keys::KEY_LENGTH;
pub(crate) use self::keys::{BOUND, fresh_key};
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
    #[error("cannot write {path}")]
    Unwritable {
        /// The key file, or the one that says that every secret is bound.
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

/// What a sealed value is bound to: it opens for nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// The id of the account, the way or the key that it is a secret of.
    pub owner: &'a str,
    /// Which of its fields.
    pub field: &'a str,
    /// For whom it stands there: a tenant, several, or nobody yet.
    pub holder: &'a str,
}

/// What every sealed value begins with.
const MARK: &[u8; 4] = b"rs3\0";
/// The same of hubs that did not bind it to its holder.
const UNHELD: &[u8; 4] = b"rs2\0";
const TAG_LENGTH: usize = 16;
const WRAPPED_LENGTH: usize = NONCE_LEN + KEY_LENGTH + TAG_LENGTH;

/// A sealed value taken apart.
enum Sealed<'a> {
    /// By a key of its own: which master key wraps it, the wrapped key, the value.
    Wrapped(KeyId, &'a [u8], &'a [u8]),
    /// The same, not bound to its holder.
    Unheld(KeyId, &'a [u8], &'a [u8]),
    /// By the master key itself, not bound to its holder.
    Plain(&'a [u8]),
}

impl<'a> Sealed<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let wrapped = |mark: &[u8; 4]| {
            let (id, rest) = bytes.strip_prefix(mark)?.split_first_chunk()?;
            Some((KeyId::new(*id), rest.split_at_checked(WRAPPED_LENGTH)?))
        };
        match (wrapped(MARK), wrapped(UNHELD)) {
            (Some((id, (key, value))), _) => Self::Wrapped(id, key, value),
            (None, Some((id, (key, value)))) => Self::Unheld(id, key, value),
            (None, None) => Self::Plain(bytes),
        }
    }
}

impl Bound<'_> {
    /// No part can hold a newline, so no two of them give the same bytes.
    fn value(&self) -> Vec<u8> {
        format!("rs3\n{}\n{}\n{}", self.owner, self.field, self.holder).into_bytes()
    }

    /// What a wrapped key is bound to: it opens nothing else.
    fn key(&self) -> Vec<u8> {
        [self.value(), b"\nkey".to_vec()].concat()
    }

    /// As hubs before had it.
    fn unheld_value(&self) -> Vec<u8> {
        format!("{}\n{}", self.owner, self.field).into_bytes()
    }

    fn unheld_key(&self) -> Vec<u8> {
        [self.unheld_value(), b"\nkey".to_vec()].concat()
    }
}

impl Sealer {
    /// Seals a secret.
    pub fn seal(&self, bound: Bound<'_>, secret: &str) -> Result<Vec<u8>, SealError> {
        let own = fresh_key();
        let value = encrypt(&key(&own)?, &bound.value(), secret.as_bytes())?;
        self.wrapped(bound, &own, &value)
    }

    /// Opens what [`Sealer::seal`] made for the same. What a hub before sealed, bound to no holder, opens until every
    /// value of the data directory is bound.
    pub fn open_secret(&self, bound: Bound<'_>, sealed: &[u8]) -> Result<Secret<String>, SealError> {
        let sealed = Sealed::read(sealed);
        if !matches!(sealed, Sealed::Wrapped(..)) && !self.takes_unheld() {
            return Err(SealError::Broken);
        }
        let plain = match sealed {
            Sealed::Wrapped(id, own, value) => {
                let own = self.with(id, |master| decrypt(&master.key, &bound.key(), own))?;
                decrypt(&key(&own)?, &bound.value(), value)?
            }
            Sealed::Unheld(id, own, value) => {
                let own = self.with(id, |master| decrypt(&master.key, &bound.unheld_key(), own))?;
                decrypt(&key(&own)?, &bound.unheld_value(), value)?
            }
            Sealed::Plain(value) => self.with_any(|master| decrypt(&master.key, &bound.unheld_value(), value))?,
        };
        let text = std::str::from_utf8(&plain).map_err(|_| SealError::Broken)?;
        Ok(Secret::new(text.to_owned()))
    }

    /// Wraps a sealed value's own key with the first master key; `None` where that is how it is. The value itself is not
    /// opened, but for those that are not bound to their holder: they are sealed anew.
    pub fn rewrapped(&self, bound: Bound<'_>, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        match Sealed::read(sealed) {
            Sealed::Wrapped(id, ..) if id == self.first() => Ok(None),
            Sealed::Wrapped(id, own, value) => {
                let own = self.with(id, |master| decrypt(&master.key, &bound.key(), own))?;
                self.wrapped(bound, &own, value).map(Some)
            }
            Sealed::Unheld(..) | Sealed::Plain(_) => self.held_by(bound, bound, sealed).map(Some),
        }
    }

    /// Seals a value anew for another holder.
    pub fn held_by(&self, before: Bound<'_>, now: Bound<'_>, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal(now, self.open_secret(before, sealed)?.expose())
    }

    fn wrapped(&self, bound: Bound<'_>, own: &[u8], value: &[u8]) -> Result<Vec<u8>, SealError> {
        self.with_first(|master| {
            let own = encrypt(&master.key, &bound.key(), own)?;
            Ok([MARK, master.id.bytes(), own.as_slice(), value].concat())
        })
    }
}

/// Whether a value is bound to its holder.
pub fn is_held(sealed: &[u8]) -> bool {
    matches!(Sealed::read(sealed), Sealed::Wrapped(..))
}

/// Which master key a value is sealed under; `None` where a hub before sealed it, bound to no holder.
pub fn sealed_under(sealed: &[u8]) -> Option<KeyId> {
    match Sealed::read(sealed) {
        Sealed::Wrapped(id, ..) => Some(id),
        Sealed::Unheld(..) | Sealed::Plain(_) => None,
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

#[cfg(test)]
impl Sealer {
    /// As hubs before sealed.
    pub(crate) fn seal_unheld(&self, bound: Bound<'_>, secret: &str) -> Vec<u8> {
        let own = fresh_key();
        let value = encrypt(&key(&own).unwrap(), &bound.unheld_value(), secret.as_bytes()).unwrap();
        self.with_first(|master| {
            let own = encrypt(&master.key, &bound.unheld_key(), &own)?;
            Ok([UNHELD, master.id.bytes(), own.as_slice(), value.as_slice()].concat())
        })
        .unwrap()
    }
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

    const fn of<'a>(owner: &'a str, field: &'a str) -> Bound<'a> {
        Bound {
            owner,
            field,
            holder: "shared",
        }
    }

    #[test]
    fn a_secret_opens_for_its_own_account_field_and_holder_only() {
        let place = Place::with(&[&fresh_key()]);
        let sealer = place.sealer();
        let (mine, other) = ("acc_1", "acc_2");
        let sealed = sealer.seal(of(mine, "secret"), "sk-canary").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"canary"));
        assert_eq!(
            sealer.open_secret(of(mine, "secret"), &sealed).unwrap().expose(),
            "sk-canary"
        );
        assert!(sealer.open_secret(of(other, "secret"), &sealed).is_err());
        assert!(sealer.open_secret(of(mine, "secret2"), &sealed).is_err());
        for holder in ["ten_1", "nobody", "", "shared\nkey"] {
            let bound = Bound {
                holder,
                ..of(mine, "secret")
            };
            assert!(sealer.open_secret(bound, &sealed).is_err(), "{holder}");
        }
        let stranger = Place::with(&[&fresh_key()]).sealer();
        assert!(stranger.open_secret(of(mine, "secret"), &sealed).is_err());
        for length in 0..sealed.len() {
            assert!(sealer.open_secret(of(mine, "secret"), &sealed[..length]).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let place = Place::with(&[&fresh_key()]);
        let sealer = place.sealer();
        let account = "acc_1";
        let sealed = sealer.seal(of(account, "secret"), "sk").unwrap();
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(sealer.open_secret(of(account, "secret"), &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn parts_of_two_sealed_values_make_no_third() {
        let sealer = Place::with(&[&fresh_key()]).sealer();
        let one = sealer.seal(of("acc_1", "secret"), "sk-one").unwrap();
        let two = sealer.seal(of("acc_2", "secret"), "sk-two").unwrap();
        let cut = MARK.len() + 4 + WRAPPED_LENGTH;
        for owner in ["acc_1", "acc_2"] {
            let mixed = [&one[..cut], &two[cut..]].concat();
            assert!(sealer.open_secret(of(owner, "secret"), &mixed).is_err());
            let mixed = [&two[..cut], &one[cut..]].concat();
            assert!(sealer.open_secret(of(owner, "secret"), &mixed).is_err());
        }
    }

    #[test]
    fn a_new_master_key_takes_over_and_a_running_hub_follows() {
        let (old, new) = (fresh_key(), fresh_key());
        let place = Place::with(&[&old]);
        let running = place.sealer();
        let before = running.seal(of("acc_1", "secret"), "sk").unwrap();
        place.put(&[&new, &old]);
        let rotating = place.sealer();
        let after = rotating.rewrapped(of("acc_1", "secret"), &before).unwrap().unwrap();
        assert_eq!(rotating.rewrapped(of("acc_1", "secret"), &after).unwrap(), None);
        assert!(rotating.rewrapped(of("acc_2", "secret"), &before).is_err());
        assert_eq!(sealed_under(&after), Some(rotating.first()));
        for sealed in [&before, &after] {
            assert_eq!(
                running.open_secret(of("acc_1", "secret"), sealed).unwrap().expose(),
                "sk"
            );
        }
        place.put(&[&new]);
        let later = place.sealer();
        assert_eq!(later.open_secret(of("acc_1", "secret"), &after).unwrap().expose(), "sk");
        assert!(later.open_secret(of("acc_1", "secret"), &before).is_err());
    }

    #[test]
    fn what_hubs_before_sealed_opens_until_all_is_bound() {
        let bytes = fresh_key();
        let place = Place::with(&[&bytes]);
        let old = encrypt(&key(&bytes).unwrap(), b"acc_1\nsecret", b"sk").unwrap();
        let sealer = place.sealer();
        assert_eq!(sealer.open_secret(of("acc_1", "secret"), &old).unwrap().expose(), "sk");
        assert!(sealer.open_secret(of("acc_2", "secret"), &old).is_err());
        assert_eq!(sealed_under(&old), None);
        let new = sealer.rewrapped(of("acc_1", "secret"), &old).unwrap().unwrap();
        assert_eq!(sealer.open_secret(of("acc_1", "secret"), &new).unwrap().expose(), "sk");
        let unheld = sealer.seal_unheld(of("acc_1", "secret"), "sk");
        let bound = sealer.rewrapped(of("acc_1", "secret"), &unheld).unwrap().unwrap();
        assert!(is_held(&bound) && is_held(&new) && !is_held(&unheld) && !is_held(&old));
        for sealed in [&old, &unheld] {
            assert!(sealer.open_secret(of("acc_2", "secret"), sealed).is_err());
            assert!(sealer.rewrapped(of("acc_2", "secret"), sealed).is_err());
        }
        // Whoever runs, and whoever comes later.
        sealer.refuse_unheld().unwrap();
        for sealer in [&sealer, &place.sealer()] {
            for sealed in [&old, &unheld] {
                assert!(sealer.open_secret(of("acc_1", "secret"), sealed).is_err());
                assert!(sealer.rewrapped(of("acc_1", "secret"), sealed).is_err());
            }
            assert_eq!(
                sealer.open_secret(of("acc_1", "secret"), &bound).unwrap().expose(),
                "sk"
            );
        }
    }
}
