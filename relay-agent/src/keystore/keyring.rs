//! The OS keyring, asked with a time limit: a locked or half-installed one may never answer.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keyring_core::CredentialStore;

use super::KeyError;

/// The keyring of this user on this machine.
#[derive(Clone)]
pub(super) struct Keyring {
    store: Arc<CredentialStore>,
    service: &'static str,
}

impl Keyring {
    /// Opens the keyring and proves that what is put in can be read back.
    pub(super) fn probe() -> Result<Self, KeyError> {
        Self::probe_with(open_store)
    }

    fn probe_with(
        open: impl FnOnce() -> Result<Arc<CredentialStore>, KeyError> + Send + 'static,
    ) -> Result<Self, KeyError> {
        bounded(move || {
            let keyring = Self {
                store: open()?,
                service: SERVICE,
            };
            let name = format!("probe-{}", std::process::id());
            keyring.put(&name, PROBE)?;
            let found = keyring.take(&name);
            keyring.forget(&name)?;
            if found? == PROBE {
                Ok(keyring)
            } else {
                Err(KeyError::Keyring("it gave back something else".into()))
            }
        })
    }

    /// Stores a secret and reads it back.
    pub(super) fn save(&self, name: &str, secret: &str) -> Result<(), KeyError> {
        let (keyring, name, secret) = (
            self.clone(),
            name.to_owned(),
            zeroize::Zeroizing::new(secret.to_owned()),
        );
        bounded(move || {
            keyring.put(&name, &secret)?;
            let found = zeroize::Zeroizing::new(keyring.take(&name)?);
            if *found == *secret {
                Ok(())
            } else {
                Err(KeyError::Keyring("it gave back something else".into()))
            }
        })
    }

    /// Reads a secret.
    pub(super) fn load(name: &str) -> Result<String, KeyError> {
        let name = name.to_owned();
        bounded(move || {
            Self {
                store: open_store()?,
                service: SERVICE,
            }
            .take(&name)
        })
    }

    /// Removes a secret.
    pub(super) fn remove(name: &str) -> Result<(), KeyError> {
        let name = name.to_owned();
        bounded(move || {
            Self {
                store: open_store()?,
                service: SERVICE,
            }
            .forget(&name)
        })
    }

    fn put(&self, name: &str, secret: &str) -> Result<(), KeyError> {
        self.entry(name)?.set_password(secret).map_err(refused)
    }

    fn take(&self, name: &str) -> Result<String, KeyError> {
        self.entry(name)?.get_password().map_err(refused)
    }

    fn forget(&self, name: &str) -> Result<(), KeyError> {
        self.entry(name)?.delete_credential().map_err(refused)
    }

    fn entry(&self, name: &str) -> Result<keyring_core::Entry, KeyError> {
        self.store.build(self.service, name, None).map_err(refused)
    }
}

/// Runs `ask` on its own thread and waits a bounded time. The store's calls block, and one that hangs cannot be
/// stopped: its thread is left behind.
fn bounded<T: Send + 'static>(ask: impl FnOnce() -> Result<T, KeyError> + Send + 'static) -> Result<T, KeyError> {
    let (answer, answered) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("keyring".into())
        .spawn(move || answer.send(ask()))
        .map_err(|error| KeyError::Keyring(error.to_string()))?;
    match answered.recv_timeout(LIMIT) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(KeyError::Keyring("it did not answer within 2 s".into())),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(KeyError::Keyring("asking it failed".into())),
    }
}

// The store's error text names the entry and the platform's reason, never the secret; the two variants that carry
// bytes of the secret are worded here.
fn refused(error: keyring_core::Error) -> KeyError {
    match error {
        keyring_core::Error::BadEncoding(_) | keyring_core::Error::BadDataFormat(..) => {
            KeyError::Keyring("the entry is damaged".into())
        }
        keyring_core::Error::NoEntry => KeyError::Keyring("the entry is not there".into()),
        other => KeyError::Keyring(other.to_string()),
    }
}

#[cfg(target_os = "linux")]
fn open_store() -> Result<Arc<CredentialStore>, KeyError> {
    if !crate::config::env::has_session_bus() {
        return Err(KeyError::Keyring("there is no D-Bus session".into()));
    }
    Ok(zbus_secret_service_keyring_store::Store::new().map_err(refused)?)
}

#[cfg(target_os = "macos")]
fn open_store() -> Result<Arc<CredentialStore>, KeyError> {
    Ok(apple_native_keyring_store::keychain::Store::new().map_err(refused)?)
}

#[cfg(windows)]
fn open_store() -> Result<Arc<CredentialStore>, KeyError> {
    Ok(windows_native_keyring_store::Store::new().map_err(refused)?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn open_store() -> Result<Arc<CredentialStore>, KeyError> {
    Err(KeyError::Keyring("there is none on this system".into()))
}

const SERVICE: &str = "relay-agent";
const PROBE: &str = "probe";
const LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_keyring_gives_back_what_was_put_in() {
        let store: Arc<CredentialStore> = keyring_core::mock::Store::new().unwrap();
        let keyring = Keyring::probe_with(move || Ok(store)).unwrap();
        keyring.save("device", "key").unwrap();
        assert_eq!(keyring.take("device").unwrap(), "key");
    }

    #[test]
    fn a_keyring_that_never_answers_is_given_up_on() {
        let (_keep, never) = mpsc::channel::<()>();
        let begun = std::time::Instant::now();
        let outcome = Keyring::probe_with(move || Err(KeyError::Keyring(format!("late: {:?}", never.recv()))));
        let Err(error) = outcome else {
            panic!("no answer is no keyring")
        };
        assert!(error.to_string().contains("did not answer"), "{error}");
        assert!(begun.elapsed() < LIMIT * 3);
    }
}
