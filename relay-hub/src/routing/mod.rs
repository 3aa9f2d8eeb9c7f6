//! Decides which account serves a call. Knows accounts and tenants; knows no sockets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use relay_protocol::{Code, Refusal};

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

    /// The account of this tenant, for one call.
    ///
    /// # Errors
    /// The hub has no account.
    pub async fn lease(&self, permit: Permit, tenant: &TenantId) -> Result<Lease, Refused> {
        let account = self.account(tenant).await?;
        Ok(Lease { permit, account })
    }

    /// The account of this tenant. Every tenant keeps to one account: rendezvous hashing moves only the tenants of
    /// an account that is removed.
    ///
    /// # Errors
    /// The hub has no account.
    pub async fn account(&self, tenant: &TenantId) -> Result<Arc<Account>, Refused> {
        if let Some(account) = self.pinned(tenant) {
            return Ok(account);
        }
        self.directory.refresh().await;
        self.pinned(tenant).ok_or_else(|| {
            Refusal::new(Code::Overloaded, "No upstream account is connected to this relay.")
                .hint("the operator adds one with `relay-hub account add`")
                .into()
        })
    }

    fn pinned(&self, tenant: &TenantId) -> Option<Arc<Account>> {
        let directory = self.directory.load();
        match directory.accounts.as_slice() {
            [only] => Some(only.clone()),
            several => several
                .iter()
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
