//! Decides who calls: an API key, an app token or a device certificate becomes a [`Caller`]. Knows no sockets and no money.

mod app;

use std::{fmt, sync::Arc};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use relay_protocol::{Code, Refusal};
use relay_shared::{
    clock::{Clock as _, SystemClock},
    secret::Secret,
    tls::DeviceIdentity,
};

pub use self::app::Granted;
use self::app::Refusable;
use crate::{
    app_token::Shown,
    directory::{Directory, DirectoryHandle, Tenant},
    ids::{DeviceId, KeyId, Project, TenantId, TokenId},
    limit::Scope,
    refusal::Refused,
    store::{keys::KeyText, millis},
};

/// What a client shows of itself.
pub struct Credential {
    /// Who it is.
    pub proof: Proof,
    /// For which of its projects it calls.
    pub project: Option<Project>,
}

impl From<Proof> for Credential {
    fn from(proof: Proof) -> Self {
        Self { proof, project: None }
    }
}

impl From<&Caller> for Credential {
    fn from(caller: &Caller) -> Self {
        Self {
            proof: Proof::Known(caller.by.clone(), caller.granted.clone()),
            project: caller.project.clone(),
        }
    }
}

/// By what it is known.
pub enum Proof {
    /// The text of an API key or of an app token, as it came.
    Key(Secret<String>),
    /// A verified device certificate.
    Device(DeviceIdentity),
    /// It opened the socket on which the call comes.
    Known(By, Option<Arc<Granted>>),
}

/// What a tenant calls with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum By {
    /// An API key.
    Key(KeyId),
    /// An app token.
    Token(TokenId),
    /// A device.
    Device(DeviceId),
}

impl By {
    /// The id's text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Key(id) => id.as_str(),
            Self::Token(id) => id.as_str(),
            Self::Device(id) => id.as_str(),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A verified caller. Made only here.
#[derive(Clone)]
pub struct Caller {
    /// Who pays.
    pub tenant: Arc<Tenant>,
    /// With what.
    pub by: By,
    /// For which of the tenant's projects, in its own words.
    pub project: Option<Project>,
    /// What its app token says besides.
    pub granted: Option<Arc<Granted>>,
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

    /// The caller, or a refusal that does not tell which part was wrong. What is not known is looked for in the
    /// store once, so that a key works as soon as it was made.
    pub async fn authenticate(&self, credential: &Credential) -> Result<Caller, Refused> {
        let now_ms = millis(SystemClock.wall());
        match look_up(&self.directory.load(), credential, now_ms) {
            Err(Stranger::Unknown | Stranger::Token(Refusable::UnknownKey)) => {
                Ok(look_up(&*self.directory.refresh().await, credential, now_ms)?)
            }
            other => Ok(other?),
        }
    }

    /// The same caller as it is by now: for each call on a socket that was opened long ago.
    ///
    /// # Errors
    /// It was revoked or suspended meanwhile, or its time is over.
    pub fn again(&self, caller: &Caller) -> Result<Caller, Refused> {
        let credential = Credential::from(caller);
        Ok(look_up(
            &self.directory.load(),
            &credential,
            millis(SystemClock.wall()),
        )?)
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Stranger {
    #[error("not shaped like a key")]
    Malformed,
    #[error("unknown key or device, or a wrong secret")]
    Unknown,
    #[error("revoked")]
    Revoked,
    #[error("the time of the key or the device is over")]
    Expired,
    #[error("the tenant is suspended")]
    Suspended,
    #[error("the tenant's time is over")]
    TenantExpired,
    #[error(transparent)]
    Token(#[from] Refusable),
}

impl From<Stranger> for Refused {
    fn from(stranger: Stranger) -> Self {
        let public = match stranger {
            Stranger::Malformed | Stranger::Unknown | Stranger::Revoked => {
                Refusal::new(Code::InvalidKey, "The API key or device is not valid here")
                    .hint("check the key, or ask the operator of the relay for another one")
            }
            Stranger::Token(why) => Refusal::from(why),
            Stranger::Expired => Refusal::new(Code::InvalidKey, "The API key or device has expired")
                .hint("ask the operator of the relay for another one"),
            Stranger::TenantExpired => Refusal::new(Code::TenantSuspended, "This tenant's access has expired")
                .hint("ask the operator of the relay"),
            Stranger::Suspended => {
                Refusal::new(Code::TenantSuspended, "This tenant is suspended").hint("ask the operator of the relay")
            }
        };
        Self::from(public).caused_by(stranger)
    }
}

/// Somebody whose proof is good.
struct Known<'a> {
    tenant: &'a TenantId,
    by: By,
    project: Option<Project>,
    granted: Option<Arc<Granted>>,
}

fn look_up(directory: &Directory, credential: &Credential, now_ms: i64) -> Result<Caller, Stranger> {
    let known = match &credential.proof {
        Proof::Key(text) if Shown::is_one(text.expose()) => {
            let asked = credential.project.as_ref();
            app::look_up(directory, text.expose(), asked, now_ms)?
        }
        Proof::Key(text) => {
            let shown = KeyText::read(text.expose()).ok_or(Stranger::Malformed)?;
            let known = directory.keys.get(&shown.id);
            // An unknown id is compared too, so that the time tells nothing.
            let hash = known.map_or(&[0; 32], |key| &key.hash);
            let is_equal = verify_slices_are_equal(hash, &shown.hash).is_ok();
            let key = known.filter(|_| is_equal).ok_or(Stranger::Unknown)?;
            if key.is_revoked {
                return Err(Stranger::Revoked);
            }
            Known::of(&key.tenant, By::Key(key.id.clone()), credential)
        }
        Proof::Device(identity) => {
            let id = DeviceId::parse(&identity.device).map_err(|_| Stranger::Malformed)?;
            let device = directory.devices.get(&id).ok_or(Stranger::Unknown)?;
            if device.tenant.as_str() != identity.tenant {
                return Err(Stranger::Unknown);
            }
            if device.is_revoked {
                return Err(Stranger::Revoked);
            }
            Known::of(&device.tenant, By::Device(device.id.clone()), credential)
        }
        Proof::Known(by, granted) => Known {
            granted: granted.clone(),
            ..Known::of(still_known(directory, by, granted.as_deref())?, by.clone(), credential)
        },
    };
    admitted(directory, known, now_ms)
}

/// Whose somebody is who was known before.
fn still_known<'a>(directory: &'a Directory, by: &By, granted: Option<&Granted>) -> Result<&'a TenantId, Stranger> {
    let tenant = match by {
        By::Key(id) => directory
            .keys
            .get(id)
            .filter(|key| !key.is_revoked)
            .map(|key| &key.tenant),
        By::Token(_) => match granted {
            Some(granted) => Some(&app::key(directory, &granted.key)?.tenant),
            None => None,
        },
        By::Device(id) => directory
            .devices
            .get(id)
            .filter(|device| !device.is_revoked)
            .map(|device| &device.tenant),
    };
    tenant.ok_or(Stranger::Revoked)
}

impl<'a> Known<'a> {
    fn of(tenant: &'a TenantId, by: By, credential: &Credential) -> Self {
        Self {
            tenant,
            by,
            project: credential.project.clone(),
            granted: None,
        }
    }
}

fn admitted(directory: &Directory, known: Known<'_>, now_ms: i64) -> Result<Caller, Stranger> {
    let tenant = directory.tenants.get(known.tenant).ok_or(Stranger::Unknown)?;
    if tenant.is_suspended {
        return Err(Stranger::Suspended);
    }
    let scope = match &known.by {
        By::Key(id) => Some(Scope::Key(id.clone())),
        By::Device(id) => Some(Scope::Device(id.clone())),
        By::Token(_) => None,
    };
    if scope.is_some_and(|scope| directory.rules.is_expired(&scope, now_ms)) {
        return Err(Stranger::Expired);
    }
    if let Some(granted) = &known.granted {
        app::check_end(granted, now_ms)?;
    }
    if directory.rules.is_expired(&Scope::Tenant(tenant.id.clone()), now_ms) {
        return Err(Stranger::TenantExpired);
    }
    Ok(Caller {
        tenant: tenant.clone(),
        by: known.by,
        project: known.project,
        granted: known.granted,
    })
}

#[cfg(test)]
mod tests;
