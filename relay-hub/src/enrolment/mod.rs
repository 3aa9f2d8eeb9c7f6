//! Enrols devices and egress nodes: a single-use token becomes a certificate; a certificate is renewed while its device
//! or node is not revoked. Knows no sockets.

mod nodes;

use std::sync::Arc;

use relay_shared::{
    clock::Clock,
    enrolment::{EnrolError, EnrolReply, EnrolRequest, RenewRequest},
};
use tracing::{error, info};

use crate::{
    ca::{Authority, Request, SignError},
    ids::DeviceId,
    store::{
        Store, StoreError,
        devices::{self, NewDevice, Redeemed, Renewal},
        millis,
    },
};

/// Answers `/relay/enrol` and `/relay/renew`.
pub struct Enrolment {
    store: Store,
    authority: Authority,
    /// `host:port` that devices are told to dial.
    hub: String,
    clock: Arc<dyn Clock>,
}

impl Enrolment {
    /// Over a hub's store and authority. `hub` is the tunnel's `host:port` as devices reach it.
    pub fn new(store: Store, authority: Authority, hub: String, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            authority,
            hub,
            clock,
        }
    }

    /// Uses a token up and gives its device a certificate, both or neither.
    pub async fn enrol(&self, request: EnrolRequest) -> Result<EnrolReply, EnrolError> {
        let asked = Request::parse(&request.csr).map_err(refused_request)?;
        let name = device_name(&request.name)?;
        let (device, now) = (DeviceId::random(), self.clock.wall());
        let now_ms = millis(now);
        let new = NewDevice {
            id: &device,
            name,
            key_hash: asked.key_hash(),
            now_ms,
            not_after_ms: now_ms.saturating_add(CERTIFICATE_LIFE_MS),
        };
        let tenant = match devices::redeem(&self.store, &request.secret, new)
            .await
            .map_err(failed)?
        {
            Redeemed::Good(tenant) => tenant,
            Redeemed::Unknown => return Err(unknown_token()),
            Redeemed::Used => return Err(used_token()),
            Redeemed::Expired => return Err(expired_token()),
            Redeemed::Suspended => return Err(suspended()),
        };
        info!(%tenant, %device, "device enrolled");
        let issued = self
            .authority
            .sign_device(&asked, &tenant, &device, now)
            .map_err(refused_request)?;
        Ok(self.reply(device.as_str(), tenant.as_str(), &issued))
    }

    /// Gives a known device another certificate, also after the last one ran out. The request's signature proves
    /// that it comes from the key the device enrolled with.
    pub async fn renew(&self, request: RenewRequest) -> Result<EnrolReply, EnrolError> {
        let asked = Request::parse(&request.csr).map_err(refused_request)?;
        let Ok(device) = DeviceId::parse(&request.device) else {
            return Err(unknown_device());
        };
        let tenant = match devices::may_renew(&self.store, &device, asked.key_hash())
            .await
            .map_err(failed)?
        {
            Renewal::Good(tenant) => tenant,
            Renewal::Unknown => return Err(unknown_device()),
            Renewal::Revoked => return Err(revoked()),
            Renewal::Suspended => return Err(suspended()),
        };
        let now = self.clock.wall();
        let issued = self
            .authority
            .sign_device(&asked, &tenant, &device, now)
            .map_err(refused_request)?;
        let noted = devices::renewed(&self.store, &device, millis(now), millis(issued.not_after))
            .await
            .map_err(failed)?;
        if !noted {
            return Err(revoked());
        }
        info!(%tenant, %device, "device certificate renewed");
        Ok(self.reply(device.as_str(), tenant.as_str(), &issued))
    }

    fn reply(&self, device: &str, tenant: &str, issued: &crate::ca::Issued) -> EnrolReply {
        EnrolReply {
            device: device.to_owned(),
            tenant: tenant.to_owned(),
            certificate: issued.pem.clone(),
            ca: self.authority.pem().to_owned(),
            hub: self.hub.clone(),
            not_after: u64::try_from(millis(issued.not_after) / 1000).unwrap_or(0),
        }
    }
}

fn device_name(name: &str) -> Result<&str, EnrolError> {
    let name = name.trim();
    let fits = !name.is_empty() && name.len() <= 128 && !name.chars().any(char::is_control);
    let hint = "use 1 to 128 bytes without control characters";
    fits.then_some(name)
        .ok_or_else(|| EnrolError::new("bad_request", "The device's name cannot be used", hint))
}

fn refused_request(error: SignError) -> EnrolError {
    match error {
        SignError::Request(_) => EnrolError::new(
            "bad_csr",
            "The certificate request cannot be used",
            "it must be PEM, signed by its own key: ECDSA P-256, P-384 or Ed25519",
        ),
        SignError::Sign(cause) => {
            error!(%cause, "cannot sign a device certificate");
            EnrolError::new(
                "internal",
                "The hub cannot sign certificates",
                "tell the operator to look at the hub's log",
            )
        }
    }
}

fn failed(error: StoreError) -> EnrolError {
    error!(
        cause = &error as &dyn std::error::Error,
        "enrolment cannot use the store"
    );
    EnrolError::new("internal", "The hub cannot reach its store", "try again in a moment")
}

fn unknown_token() -> EnrolError {
    EnrolError::new("unknown_token", "The hub does not know this token", ASK_AGAIN)
}

fn used_token() -> EnrolError {
    EnrolError::new("token_used", "This token was used before", ASK_AGAIN)
}

fn expired_token() -> EnrolError {
    let message = "This token has expired: it is good for ten minutes";
    EnrolError::new("token_expired", message, ASK_AGAIN)
}

fn unknown_device() -> EnrolError {
    EnrolError::new("unknown_device", "The hub does not know this device and key", ASK_AGAIN)
}

fn revoked() -> EnrolError {
    EnrolError::new("device_revoked", "This device was revoked", ASK_AGAIN)
}

fn suspended() -> EnrolError {
    EnrolError::new(
        "tenant_suspended",
        "The tenant is suspended",
        "ask the operator of the hub",
    )
}

const ASK_AGAIN: &str = "ask the operator for a token and enrol again";
const CERTIFICATE_LIFE_MS: i64 = 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests;
