//! Makes this machine a device of a tenant: a key made here, a certificate from the hub, renewed before it ends.
//! Knows the hub's enrolment protocol and nothing of calls.

use std::path::PathBuf;

use bytes::Bytes;
use http::StatusCode;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use relay_shared::enrolment::{ENROL_PATH, EnrolError, EnrolReply, EnrolRequest, Token, TokenError};
use relay_shared::secret::Secret;
use relay_shared::tunnel::client::{self, HubTrust};
use serde::Serialize;

use crate::config::KeyPlace;
use crate::config::dir::{DataDir, DirError};
use crate::failure::Failure;
use crate::keystore::{self, KeyError, KeyHome, KeyStore};

mod device;
mod renew;
mod schedule;
#[cfg(test)]
mod tests;

pub use device::{Device, DeviceError, Life, ca, identity, life};
pub(crate) use renew::{Renewals, keep_fresh};

/// How to enrol.
pub struct Enrolment {
    /// The data directory, made when it is not there.
    pub data: PathBuf,
    /// The token's text.
    pub token: Secret<String>,
    /// What the hub shall call this device.
    pub name: String,
    /// Replace an enrolment that is there.
    pub force: bool,
    /// Where the key shall be kept.
    pub key_place: KeyPlace,
}

/// A finished enrolment.
#[derive(Debug)]
pub struct Enrolled {
    /// Who this device now is.
    pub device: Device,
    /// Why the key is in a file although a keyring would have been preferred.
    pub no_keyring: Option<String>,
}

/// Why enrolment failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrolFailure {
    /// The text is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// This machine is enrolled already.
    #[error("this machine is enrolled already: device {device} of tenant {tenant} at {hub}")]
    Already {
        /// The device.
        device: String,
        /// Its tenant.
        tenant: String,
        /// The hub.
        hub: String,
    },
    /// The hub cannot be reached, or is not the one the token names.
    #[error("enrolment failed: {reason}")]
    Hub {
        /// Host and port.
        hub: String,
        /// What happened.
        reason: String,
    },
    /// The hub said no.
    #[error("the hub refused: {}", .0.message)]
    Refused(EnrolError),
    /// No key or request could be made.
    #[error("cannot make a key: {0}")]
    Key(String),
    /// The key cannot be kept.
    #[error(transparent)]
    Store(#[from] KeyError),
    /// What is on disk cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
}

impl From<EnrolFailure> for Failure {
    fn from(error: EnrolFailure) -> Self {
        let message = error.to_string();
        match error {
            EnrolFailure::Token(_) => Self::user(
                message,
                "a token begins with `crt1_` and is one line; the operator gets one from: relay-hub device token --tenant T",
            ),
            EnrolFailure::Already { .. } => {
                Self::user(message, "add --force to enrol it anew; the old key is given up")
            }
            EnrolFailure::Hub { hub, .. } => Self::user(
                message,
                format!(
                    "check that the hub runs and that TCP to {hub} is open from here; when the certificate is what is wrong, the token is of another hub or out of date: ask for a fresh one"
                ),
            ),
            EnrolFailure::Refused(refusal) => Self::user(message, hint_for(&refusal)),
            EnrolFailure::Key(_) => Self::program(message),
            EnrolFailure::Store(error) => error.into(),
            EnrolFailure::Device(error) => error.into(),
            EnrolFailure::Dir(error) => error.into(),
        }
    }
}

fn hint_for(refusal: &EnrolError) -> String {
    if !refusal.hint.is_empty() {
        return refusal.hint.clone();
    }
    match refusal.code.as_str() {
        "token_used" | "token_expired" | "unknown_token" => "tokens work once and for ten minutes: ask for a fresh one",
        "device_revoked" => "the operator revoked this device: ask for a fresh token",
        _ => "ask the operator; the hub's log says more",
    }
    .to_owned()
}

/// Enrols this machine.
///
/// # Errors
/// When the token, the hub or the data directory is not as it should be. Nothing is changed then.
pub async fn enrol(enrolment: Enrolment) -> Result<Enrolled, EnrolFailure> {
    let token = Token::parse(enrolment.token.expose())?;
    let dir = DataDir::create(&enrolment.data)?;
    let before = previous(&dir, enrolment.force)?;
    let place = enrolment.key_place;
    let store = on_thread(move || KeyStore::choose(place)).await?;
    let key = new_key()?;
    let request = EnrolRequest {
        secret: token.secret.expose().clone(),
        csr: request_for(&key)?,
        name: enrolment.name,
    };
    let reply: EnrolReply = ask(
        &token.hub,
        HubTrust::Fingerprint(token.fingerprint),
        ENROL_PATH,
        &request,
    )
    .await?;
    let no_keyring = store.reason().map(str::to_owned);
    let device = settle(dir, store, key, reply, &token.hub, before).await?;
    Ok(Enrolled { device, no_keyring })
}

fn previous(dir: &DataDir, force: bool) -> Result<Option<Device>, EnrolFailure> {
    match Device::load(dir) {
        Ok(device) if !force => Err(EnrolFailure::Already {
            device: device.device,
            tenant: device.tenant,
            hub: device.hub,
        }),
        Ok(device) => Ok(Some(device)),
        Err(DeviceError::NotEnrolled) => Ok(None),
        // What is damaged is what --force is for.
        Err(DeviceError::Damaged(_)) if force => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn settle(
    dir: DataDir,
    store: KeyStore,
    key: Secret<String>,
    reply: EnrolReply,
    hub: &str,
    before: Option<Device>,
) -> Result<Device, EnrolFailure> {
    // The token's address is the one that worked from here; the hub's own idea of it is only used when it has one.
    let hub = if reply.hub.is_empty() {
        hub.to_owned()
    } else {
        reply.hub.clone()
    };
    on_thread(move || {
        Device::forget(&dir)?;
        if let Some(before) = before {
            keystore::forget_device_key(&dir, before.key_store, &before.device);
        }
        let key_store = store.save(&dir, &reply.device, &key)?;
        let device = Device {
            device: reply.device.clone(),
            tenant: reply.tenant.clone(),
            hub,
            key_store,
        };
        device.save(&dir, &reply)?;
        keystore::local_key(&dir)?;
        Ok::<_, EnrolFailure>(device)
    })
    .await
}

/// Files and keyrings block, and a keyring may take seconds.
async fn on_thread<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, EnrolFailure>
where
    T: Send + 'static,
    E: Into<EnrolFailure> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(error) => Err(EnrolFailure::Key(error.to_string())),
    }
}

fn new_key() -> Result<Secret<String>, EnrolFailure> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| EnrolFailure::Key(error.to_string()))?;
    Ok(Secret::new(pair.serialize_pem()))
}

/// A certificate request, signed with the key. It names nobody: who the device is, the hub decides.
fn request_for(key: &Secret<String>) -> Result<String, EnrolFailure> {
    let make = || {
        let pair = KeyPair::from_pem(key.expose())?;
        CertificateParams::default().serialize_request(&pair)?.pem()
    };
    make().map_err(|error: rcgen::Error| EnrolFailure::Key(error.to_string()))
}

/// One question of the enrolment protocol.
async fn ask(
    hub: &str,
    trust: HubTrust,
    path: &str,
    request: &(impl Serialize + Sync),
) -> Result<EnrolReply, EnrolFailure> {
    let failed = |reason: String| EnrolFailure::Hub {
        hub: hub.to_owned(),
        reason,
    };
    let json = serde_json::to_vec(request).map_err(|error| failed(error.to_string()))?;
    let (status, answer) = client::enrol(hub, trust, path, Bytes::from(json))
        .await
        .map_err(failed)?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&answer).map_err(|error| failed(format!("its answer makes no sense: {error}")));
    }
    match serde_json::from_slice::<EnrolError>(&answer) {
        Ok(refusal) => Err(EnrolFailure::Refused(refusal)),
        Err(_) => Err(failed(format!("it answered {status}"))),
    }
}

/// What the key's place is called, for people.
#[must_use]
pub fn describe(home: KeyHome, dir: &DataDir) -> String {
    match home {
        KeyHome::Keyring => home.to_string(),
        KeyHome::File => format!("{home}: {}", keystore::key_file(dir).display()),
    }
}
