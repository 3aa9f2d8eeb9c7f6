//! Keeps the certificate of a running agent fresh, also after a sleep that outlasted it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::rand;
use relay_shared::clock::{Clock, SystemClock};
use relay_shared::enrolment::{RENEW_PATH, RenewRequest};
use relay_shared::secret::Secret;
use relay_shared::tunnel::client::{HubTrust, Identity};
use tokio_util::sync::CancellationToken;

use super::device::{self, Device, Life};
use super::{EnrolFailure, ask, request_for, schedule};
use crate::config::dir::DataDir;

/// How renewal stands, for `status`.
#[derive(Clone)]
pub(crate) struct Renewals(Arc<RwLock<Standing>>);

/// The certificate in use, and why the next one is not there yet.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) life: Life,
    pub(crate) last_error: Option<String>,
}

impl Renewals {
    pub(crate) fn new(life: Life) -> Self {
        Self(Arc::new(RwLock::new(Standing { life, last_error: None })))
    }

    pub(crate) fn standing(&self) -> Standing {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Renews at half-life, until `stop`. `renewed` is told of each new identity.
pub(crate) async fn keep_fresh(
    dir: DataDir,
    device: Device,
    key: Secret<String>,
    renewals: Renewals,
    renewed: impl Fn(Identity) + Send,
    stop: CancellationToken,
) {
    let mut failures = 0;
    loop {
        if failures == 0 {
            wait_until_due(renewals.standing().life, &stop).await;
        } else {
            pause(schedule::pause(failures), &stop).await;
        }
        if stop.is_cancelled() {
            return;
        }
        match renew_once(&dir, &device, &key).await {
            Ok((identity, life)) => {
                failures = 0;
                renewals.set(|standing| *standing = Standing { life, last_error: None });
                tracing::info!(device = %device.device, "certificate renewed");
                renewed(identity);
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(device = %device.device, %error, "certificate not renewed");
                renewals.set(|standing| standing.last_error = Some(error.to_string()));
            }
        }
    }
}

async fn renew_once(dir: &DataDir, device: &Device, key: &Secret<String>) -> Result<(Identity, Life), EnrolFailure> {
    let request = RenewRequest {
        device: device.device.clone(),
        csr: request_for(key)?,
    };
    let trust = HubTrust::Ca(device::ca(dir)?);
    let reply = ask(&device.hub, trust, RENEW_PATH, &request).await?;
    device::renew(dir, device, &reply)?;
    Ok((device::identity(dir, key)?, device::life(dir)?))
}

/// Looks at the wall clock again and again: a timer stands still while the machine sleeps.
async fn wait_until_due(life: Life, stop: &CancellationToken) {
    let due = schedule::due(life, chance());
    while !stop.is_cancelled() {
        match due.duration_since(SystemClock.wall()) {
            Ok(left) if !left.is_zero() => pause(left.min(LOOK), stop).await,
            _ => return,
        }
    }
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = stop.cancelled() => {}
    }
}

/// A number from 0 to 1 by chance; the middle when the system has no randomness.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    match rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

const LOOK: Duration = Duration::from_secs(30);
