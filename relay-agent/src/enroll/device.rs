//! What enrolment left behind: who this device is, and its certificate. Reads and writes files only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relay_shared::enrolment::EnrolReply;
use relay_shared::secret::Secret;
use relay_shared::tls::{self, DeviceIdentity};
use relay_shared::tunnel::client::Identity;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::FromDer;

use crate::config::dir::{DataDir, DirError};
use crate::failure::Failure;
use crate::keystore::{KeyError, KeyHome, load_device_key};

/// Who this device is. The certificate is a file of its own, because it changes every day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The device's id.
    pub device: String,
    /// Its tenant's id.
    pub tenant: String,
    /// Host and port of the hub's tunnel.
    pub hub: String,
    /// Where the key is.
    pub key_store: KeyHome,
}

/// The life of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it begins.
    pub begins: SystemTime,
    /// When it ends.
    pub ends: SystemTime,
}

/// Why the enrolment on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// This machine is not enrolled.
    #[error("this machine is not enrolled")]
    NotEnrolled,
    /// A file of the enrolment is missing or damaged.
    #[error("the enrolment in the data directory is damaged: {0}")]
    Damaged(String),
    /// The directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::NotEnrolled => Self::user(
                error.to_string(),
                "ask the operator for a token (`relay-hub device token --tenant T`) and run: relay-agent enroll TOKEN",
            ),
            DeviceError::Damaged(_) => Self::user(
                error.to_string(),
                "enrol again with a fresh token: relay-agent enroll TOKEN --force",
            ),
            DeviceError::Dir(error) => error.into(),
            DeviceError::Key(error) => error.into(),
        }
    }
}

impl Device {
    /// Reads who this device is.
    ///
    /// # Errors
    /// When it is not enrolled, or the files are damaged.
    pub fn load(dir: &DataDir) -> Result<Self, DeviceError> {
        let text = dir.read(DEVICE_FILE)?.ok_or(DeviceError::NotEnrolled)?;
        serde_json::from_str(&text).map_err(|error| DeviceError::Damaged(format!("{DEVICE_FILE}: {error}")))
    }

    /// Keeps what the hub answered. `device.json` comes last: without it the machine counts as not enrolled.
    pub(super) fn save(&self, dir: &DataDir, reply: &EnrolReply) -> Result<(), DirError> {
        dir.write(CERTIFICATE_FILE, &reply.certificate)?;
        dir.write(CA_FILE, &reply.ca)?;
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        dir.write(DEVICE_FILE, &text)
    }

    /// Makes the machine count as not enrolled.
    pub(super) fn forget(dir: &DataDir) -> Result<(), DirError> {
        dir.remove(DEVICE_FILE)
    }

    /// The device's private key (PEM). Blocks for up to 2 s when a keyring has it.
    ///
    /// # Errors
    /// When it is not to be had.
    pub fn key(&self, dir: &DataDir) -> Result<Secret<String>, DeviceError> {
        Ok(load_device_key(dir, self.key_store, &self.device)?)
    }
}

/// The hub's device CA, kept from enrolment.
///
/// # Errors
/// When the file is missing or damaged.
pub fn ca(dir: &DataDir) -> Result<CertificateDer<'static>, DeviceError> {
    chain_in(dir, CA_FILE)?
        .into_iter()
        .next()
        .ok_or_else(|| DeviceError::Damaged(format!("{CA_FILE} is empty")))
}

/// What the tunnel shows to the hub.
///
/// # Errors
/// When the certificate is missing or damaged, or the key cannot be read.
pub fn identity(dir: &DataDir, key: &Secret<String>) -> Result<Identity, DeviceError> {
    let chain = chain_in(dir, CERTIFICATE_FILE)?;
    let key = tls::private_key(key.expose().as_bytes()).map_err(|error| DeviceError::Damaged(error.to_string()))?;
    Ok(Identity { chain, key })
}

/// From when to when the device's certificate is good.
///
/// # Errors
/// When the certificate is missing or damaged.
pub fn life(dir: &DataDir) -> Result<Life, DeviceError> {
    let chain = chain_in(dir, CERTIFICATE_FILE)?;
    let leaf = chain
        .first()
        .ok_or_else(|| DeviceError::Damaged(format!("{CERTIFICATE_FILE} is empty")))?;
    life_of(leaf)
}

/// Checks a certificate from the hub before it replaces the one there is, and keeps it.
pub(super) fn renew(dir: &DataDir, device: &Device, reply: &EnrolReply) -> Result<(), DeviceError> {
    let chain =
        tls::certificates(reply.certificate.as_bytes()).map_err(|error| DeviceError::Damaged(error.to_string()))?;
    let named = chain.first().map(|leaf| DeviceIdentity::read(leaf));
    match named {
        Some(Ok(identity)) if identity.device == device.device && identity.tenant == device.tenant => {
            Ok(dir.write(CERTIFICATE_FILE, &reply.certificate)?)
        }
        _ => Err(DeviceError::Damaged(
            "the hub sent a certificate that does not name this device".to_owned(),
        )),
    }
}

fn chain_in(dir: &DataDir, name: &str) -> Result<Vec<CertificateDer<'static>>, DeviceError> {
    let text = dir
        .read(name)?
        .ok_or_else(|| DeviceError::Damaged(format!("{name} is missing")))?;
    tls::certificates(text.as_bytes()).map_err(|error| DeviceError::Damaged(format!("{name}: {error}")))
}

fn life_of(leaf: &CertificateDer<'_>) -> Result<Life, DeviceError> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(leaf)
        .map_err(|error| DeviceError::Damaged(format!("{CERTIFICATE_FILE}: {error}")))?;
    let validity = parsed.validity();
    let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Ok(Life {
        begins: at(validity.not_before.timestamp()),
        ends: at(validity.not_after.timestamp()),
    })
}

const DEVICE_FILE: &str = "device.json";
const CERTIFICATE_FILE: &str = "device.crt";
const CA_FILE: &str = "ca.crt";
