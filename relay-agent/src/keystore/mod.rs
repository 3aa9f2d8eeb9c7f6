//! Keeps the two secrets of a device: its private key and the local key. Knows files and the OS keyring, no network.

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use relay_shared::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::config::KeyPlace;
use crate::config::dir::{DataDir, DirError};
use crate::failure::Failure;

mod keyring;

use keyring::Keyring;

/// Where a device's key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyHome {
    /// In the OS keyring.
    Keyring,
    /// In `device.key`, mode 0600.
    File,
}

impl fmt::Display for KeyHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyring => "OS keyring",
            Self::File => "file (mode 0600)",
        })
    }
}

/// Why a key cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The keyring refused, or there is none.
    #[error("the OS keyring cannot be used: {0}")]
    Keyring(String),
    /// The file cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// There is no key where the enrolment said it would be.
    #[error("the device key is missing from the data directory")]
    Missing,
    /// The system's randomness failed.
    #[error("no randomness to be had from the system")]
    Randomness,
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Keyring(_) => Self::user(
                error.to_string(),
                "unlock the keyring, or enrol again with the key in a file: relay-agent enroll TOKEN --force, and key_store = \"file\" in agent.toml",
            ),
            KeyError::Dir(error) => error.into(),
            KeyError::Missing => Self::user(
                error.to_string(),
                "enrol this machine again: relay-agent enroll TOKEN --force",
            ),
            KeyError::Randomness => Self::program(error.to_string()),
        }
    }
}

/// A place for a key, proved to work before the key is needed there.
pub struct KeyStore {
    keyring: Option<Keyring>,
    /// Why the keyring is not used, when that was not asked for.
    reason: Option<String>,
}

impl KeyStore {
    /// Finds the place. With [`KeyPlace::Auto`] a keyring that does not work means a file. Blocks for up to 2 s.
    ///
    /// # Errors
    /// When the keyring was asked for by name and does not work.
    pub fn choose(place: KeyPlace) -> Result<Self, KeyError> {
        match place {
            KeyPlace::File => Ok(Self {
                keyring: None,
                reason: None,
            }),
            KeyPlace::Keyring => Ok(Self {
                keyring: Some(Keyring::probe()?),
                reason: None,
            }),
            KeyPlace::Auto => Ok(match Keyring::probe() {
                Ok(keyring) => Self {
                    keyring: Some(keyring),
                    reason: None,
                },
                Err(error) => Self {
                    keyring: None,
                    reason: Some(error.to_string()),
                },
            }),
        }
    }

    /// Why a file is used although a keyring would have been preferred.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Keeps a device's key; says where it went.
    ///
    /// # Errors
    /// When neither place takes it.
    pub fn save(&self, dir: &DataDir, device: &str, key: &Secret<String>) -> Result<KeyHome, KeyError> {
        if let Some(keyring) = &self.keyring {
            keyring.save(&entry_name(device), key.expose())?;
            dir.remove(KEY_FILE)?;
            return Ok(KeyHome::Keyring);
        }
        dir.write(KEY_FILE, key.expose())?;
        Ok(KeyHome::File)
    }
}

/// Reads a device's key from where it was put. Blocks for up to 2 s.
///
/// # Errors
/// When it is not there, or the keyring does not answer.
pub fn load_device_key(dir: &DataDir, home: KeyHome, device: &str) -> Result<Secret<String>, KeyError> {
    match home {
        KeyHome::Keyring => Keyring::load(&entry_name(device)).map(Secret::new),
        KeyHome::File => dir.read(KEY_FILE)?.map(Secret::new).ok_or(KeyError::Missing),
    }
}

/// Gives up a key that is replaced. A keyring that does not answer keeps its entry: it is of no use without the
/// device's certificate, so that is no reason to fail.
pub(crate) fn forget_device_key(dir: &DataDir, home: KeyHome, device: &str) {
    let outcome = match home {
        KeyHome::Keyring => Keyring::remove(&entry_name(device)),
        KeyHome::File => dir.remove(KEY_FILE).map_err(KeyError::from),
    };
    if let Err(error) = outcome {
        tracing::warn!(%error, device, "the old device key could not be removed");
    }
}

/// Where a key in a file is.
pub(crate) fn key_file(dir: &DataDir) -> std::path::PathBuf {
    dir.file(KEY_FILE)
}

/// The key local programs show, when it was made already.
///
/// # Errors
/// When its file cannot be read.
pub fn local_key_if_any(dir: &DataDir) -> Result<Option<Secret<String>>, KeyError> {
    let found = dir.read(LOCAL_KEY_FILE)?.map(zeroize::Zeroizing::new);
    Ok(found
        .filter(|text| !text.trim().is_empty())
        .map(|text| Secret::new(text.trim().to_owned())))
}

/// The key local programs show, made on first use.
///
/// # Errors
/// When its file cannot be read or written.
pub fn local_key(dir: &DataDir) -> Result<Secret<String>, KeyError> {
    if let Some(found) = local_key_if_any(dir)? {
        return Ok(found);
    }
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| KeyError::Randomness)?;
    let key = format!("rl_{}", URL_SAFE_NO_PAD.encode(bytes.as_slice()));
    dir.write(LOCAL_KEY_FILE, &key)?;
    Ok(Secret::new(key))
}

fn entry_name(device: &str) -> String {
    format!("device-key:{device}")
}

const KEY_FILE: &str = "device.key";
const LOCAL_KEY_FILE: &str = "local.key";

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, DataDir) {
        let home = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&home.path().join("data")).unwrap();
        (home, dir)
    }

    #[test]
    fn a_key_kept_in_a_file_is_found_again() {
        let (_home, dir) = dir();
        let store = KeyStore::choose(KeyPlace::File).unwrap();
        let home = store.save(&dir, "dev_1", &Secret::new("pem".to_owned())).unwrap();
        assert_eq!(home, KeyHome::File);
        assert_eq!(load_device_key(&dir, home, "dev_1").unwrap().expose(), "pem");
    }

    #[test]
    fn the_local_key_is_made_once_and_has_256_bits() {
        let (_home, dir) = dir();
        let key = local_key(&dir).unwrap();
        assert_eq!(key.expose().len(), 3 + 43);
        assert_eq!(local_key(&dir).unwrap().expose(), key.expose());
    }
}
