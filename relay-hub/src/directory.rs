//! An immutable picture of who exists: tenants, keys, devices, vendor accounts, prices. Rebuilt when the store changes.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use http::Uri;
use relay_protocol::Tokens;
use relay_shared::{secret::Secret, tasks::Tasks};
use tokio::sync::watch;

use crate::{
    ids::{AccountId, DeviceId, KeyId, TenantId},
    money::Price,
    seal::Sealer,
    store::{Store, StoreError},
};

/// Everybody and everything known at one revision of the store.
#[derive(Default)]
pub struct Directory {
    /// The store's revision this is of.
    pub revision: u64,
    /// Tenants by id.
    pub tenants: HashMap<TenantId, Arc<Tenant>>,
    /// API keys by id, revoked ones included.
    pub keys: HashMap<KeyId, Arc<Key>>,
    /// Devices by id, revoked ones included.
    pub devices: HashMap<DeviceId, Arc<Device>>,
    /// Vendor accounts in the order they were added.
    pub accounts: Vec<Arc<Account>>,
    /// Prices by the vendor's model name.
    pub prices: HashMap<String, Arc<Listed>>,
}

/// Who pays.
pub struct Tenant {
    /// The tenant's id.
    pub id: TenantId,
    /// The operator's name for it.
    pub name: String,
    /// Calls are refused while set.
    pub is_suspended: bool,
}

/// An API key.
pub struct Key {
    /// The public id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// SHA-256 of the secret part.
    pub hash: [u8; 32],
    /// No longer accepted.
    pub is_revoked: bool,
}

/// An enrolled device.
pub struct Device {
    /// The device's id.
    pub id: DeviceId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The name it enrolled with.
    pub name: String,
    /// No longer accepted.
    pub is_revoked: bool,
}

/// Which vendor an account is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VendorKind {
    /// OpenAI, and what speaks exactly like it.
    OpenAi,
}

/// The operator's account at a vendor, with its secret opened.
pub struct Account {
    /// The account's id.
    pub id: AccountId,
    /// The operator's name for it.
    pub name: String,
    /// Which vendor.
    pub vendor: VendorKind,
    /// Where its API begins, without a trailing slash.
    pub base_url: Uri,
    /// The vendor's credential.
    pub secret: Secret<String>,
    /// Whether it offers Responses over WebSocket.
    pub websocket: bool,
}

/// A model of the price list.
pub struct Listed {
    /// The vendor's model name.
    pub model: String,
    /// What it costs.
    pub price: Arc<Price>,
    /// Context window.
    pub context: Tokens,
    /// Most output of one call.
    pub max_output: Tokens,
}

/// The picture as it is, kept up to date in the background. Cheap to clone.
#[derive(Clone)]
pub struct DirectoryHandle {
    inner: Arc<Inner>,
}

struct Inner {
    current: ArcSwap<Directory>,
    changed: watch::Sender<u64>,
}

impl Directory {
    /// Loads the picture and keeps it up to date: within 250 ms of a change, at once on [`DirectoryHandle::refresh`].
    #[allow(clippy::unused_async, reason = "first landing: signature only")]
    pub async fn watch(_store: &Store, _sealer: Arc<Sealer>, _tasks: &Tasks) -> Result<DirectoryHandle, StoreError> {
        let (changed, _) = watch::channel(0);
        Ok(DirectoryHandle {
            inner: Arc::new(Inner {
                current: ArcSwap::from_pointee(Self::default()),
                changed,
            }),
        })
    }
}

impl DirectoryHandle {
    /// The picture now.
    pub fn load(&self) -> Arc<Directory> {
        self.inner.current.load_full()
    }

    /// Looks whether the store changed, and rebuilds if so. Many at once share one look.
    #[allow(clippy::unused_async, reason = "first landing: signature only")]
    pub async fn refresh(&self) -> Arc<Directory> {
        self.load()
    }

    /// Tells the revision of each new picture.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }
}
