//! Decides which account serves a call. Knows accounts and tenants; knows no sockets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use relay_protocol::{Code, Refusal, Wire};

use crate::{
    admission::Permit,
    directory::{Account, DirectoryHandle},
    ids::{AccountId, TenantId},
    refusal::Refused,
};

/// How long a vendor's word that it has no WebSocket is believed.
const NO_SOCKET_FOR: Duration = Duration::from_secs(600);

/// Chooses accounts.
pub struct Routing {
    directory: DirectoryHandle,
    without_socket: Mutex<HashMap<AccountId, Instant>>,
}

/// The account that serves a call, with the permit that pays for it.
pub struct Lease {
    /// The slot and the hold.
    pub permit: Permit,
    /// Whose credential and way out the call takes.
    pub account: Arc<Account>,
}

impl Routing {
    /// Chooses among the accounts of `directory`.
    pub fn new(directory: DirectoryHandle) -> Self {
        Self {
            directory,
            without_socket: Mutex::default(),
        }
    }

    /// The account of this tenant, for one call in this dialect.
    ///
    /// # Errors
    /// See [`Self::account`].
    pub async fn lease(&self, permit: Permit, tenant: &TenantId, wire: Wire) -> Result<Lease, Refused> {
        let account = self.account(tenant, wire).await?;
        Ok(Lease { permit, account })
    }

    /// The account of this tenant among those whose vendor speaks this dialect. Every tenant keeps to one account:
    /// rendezvous hashing moves only the tenants of an account that is removed.
    ///
    /// # Errors
    /// The hub has no account, or none that speaks it.
    pub async fn account(&self, tenant: &TenantId, wire: Wire) -> Result<Arc<Account>, Refused> {
        if let Some(account) = self.pinned(tenant, wire) {
            return Ok(account);
        }
        let directory = self.directory.refresh().await;
        self.pinned(tenant, wire)
            .ok_or_else(|| unspoken(&directory.accounts, wire).into())
    }

    fn pinned(&self, tenant: &TenantId, wire: Wire) -> Option<Arc<Account>> {
        let directory = self.directory.load();
        match directory.accounts.as_slice() {
            [only] => Some(only).filter(|only| only.vendor.speaks(wire)).cloned(),
            several => several
                .iter()
                .filter(|account| account.vendor.speaks(wire))
                .max_by_key(|account| weight(tenant, &account.id))
                .cloned(),
        }
    }

    /// The account's WebSocket, as far as known.
    ///
    /// # Errors
    /// The vendor has none: the client falls back to HTTP at once.
    pub fn check_socket(&self, account: &Account) -> Result<(), Refused> {
        let mut without = self.without_socket.lock().unwrap_or_else(PoisonError::into_inner);
        without.retain(|_, since| since.elapsed() < NO_SOCKET_FOR);
        if account.websocket && !without.contains_key(&account.id) {
            return Ok(());
        }
        Err(no_socket())
    }

    /// Remembers that the vendor of this account has no WebSocket.
    pub fn has_no_socket(&self, account: &Account) -> Refused {
        self.without_socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(account.id.clone(), Instant::now());
        no_socket()
    }
}

/// No account takes calls in this dialect: which ones those that there are take.
fn unspoken(accounts: &[Arc<Account>], wire: Wire) -> Refusal {
    let mut spoken: Vec<_> = accounts.iter().flat_map(|account| account.vendor.wires()).collect();
    spoken.sort_unstable_by_key(|wire| wire.name());
    spoken.dedup();
    if spoken.is_empty() {
        return Refusal::new(Code::Overloaded, "No upstream account is connected to this relay.")
            .hint("the operator adds one with `relay-hub account add`");
    }
    let spoken: Vec<_> = spoken.into_iter().map(|wire| wire.name()).collect();
    Refusal::new(
        Code::InvalidRequest,
        format!(
            "No upstream account of this relay speaks {}; they speak {}.",
            wire.name(),
            spoken.join(", ")
        ),
    )
    .hint("use one of these APIs, or have the operator connect an account that speaks yours")
}

fn no_socket() -> Refused {
    Refusal::new(
        Code::NoWebSocket,
        "The upstream of this relay has no WebSocket; use HTTP.",
    )
    .into()
}

fn weight(tenant: &TenantId, account: &AccountId) -> u64 {
    // A hash that is the same on every machine and in every release: tenants keep their accounts.
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(tenant.as_str().as_bytes());
    context.update(account.as_str().as_bytes());
    context
        .finish()
        .as_ref()
        .iter()
        .take(8)
        .fold(0, |weight, byte| (weight << 8) | u64::from(*byte))
}
