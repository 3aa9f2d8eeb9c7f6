//! An immutable picture of who exists: tenants, keys, devices, vendor accounts, prices. Rebuilt when the store changes.

mod opened;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use http::Uri;
use relay_protocol::{Lane, Tokens, VendorWire, Wire};
use relay_shared::{
    clock::{Clock as _, SystemClock},
    tasks::Tasks,
};
use sqlx::{Row as _, SqliteConnection};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    app_token::Verifier,
    ids::{AccountId, DeviceId, KeyId, TenantId, TokenKeyId},
    limit::Rules,
    money::Price,
    seal::Sealer,
    store::{
        Store, StoreError,
        accounts::{self, AccountRow},
        limits, plans,
        prices::{
            self, PriceRow,
            tenant::{self, Terms},
        },
        sharing::{self, Share, Users},
        token_keys,
        ways::WayRow,
    },
    vendor::{Credential, Settings, Target, TargetError, VendorKind},
    way::{Family, Region, WayOut},
};

pub(crate) use self::opened::{MORE_SECRET_FIELD, PASSWORD_FIELD, SECRET_FIELD, open_account};

/// Everybody and everything known at one revision of the store.
#[derive(Default)]
pub struct Directory {
    /// The store's revision this is of.
    pub revision: u64,
    /// Tenants by id.
    pub tenants: HashMap<TenantId, Arc<Tenant>>,
    /// API keys by id, revoked ones included.
    pub keys: HashMap<KeyId, Arc<Key>>,
    /// Keys that sign app tokens, by id, revoked ones included.
    pub token_keys: HashMap<TokenKeyId, TokenKey>,
    /// Devices by id, revoked ones included.
    pub devices: HashMap<DeviceId, Arc<Device>>,
    /// Vendor accounts in the order they were added, without those that are disabled.
    pub accounts: Vec<Arc<Account>>,
    /// The rows of which each of them was made.
    sources: HashMap<AccountId, (AccountRow, Vec<WayRow>, Users)>,
    /// When the first of those that are disabled is in use again, in milliseconds since 1970.
    pub returns_ms: Option<i64>,
    /// How accounts are shared, of those that are not simply everybody's.
    pub shares: HashMap<AccountId, Share>,
    /// Prices by the vendor's model name.
    pub prices: HashMap<String, Arc<Listed>>,
    /// What single tenants pay otherwise than by the list.
    pub terms: HashMap<TenantId, Terms>,
    /// What operators allow.
    pub rules: Rules,
    /// The model that serves a tenant when its credit is used up.
    pub downgrades: HashMap<TenantId, String>,
}

/// Who pays.
pub struct Tenant {
    /// The tenant's id.
    pub id: TenantId,
    /// The operator's name for it.
    pub name: String,
    /// Calls are refused while set.
    pub is_suspended: bool,
    /// What becomes of a call whose client leaves.
    pub on_abort: OnAbort,
    /// Where its calls leave, unless their client names another region.
    pub region: Option<Region>,
    /// Its conversations may go on with another account when their own is out of use.
    pub may_repin: bool,
    /// Tells its running calls to end.
    pub stop: Stop,
}

/// What becomes of a call whose client leaves before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnAbort {
    /// The vendor's call is cancelled; what came of the answer is charged by the relay's own count.
    Cut,
    /// The answer is read on to the vendor's own count, within limits.
    Drain,
}

impl OnAbort {
    /// Each of them, by the name commands use.
    pub const NAMES: [&str; 2] = ["cut", "drain"];

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "cut" => Some(Self::Cut),
            "drain" => Some(Self::Drain),
            _ => None,
        }
    }
}

/// Tells running calls to end: those of one tenant, or all.
#[derive(Debug, Clone)]
pub struct Stop {
    of_all: CancellationToken,
    /// A child of `of_all`, so that a call waits for one token.
    of_tenant: CancellationToken,
}

/// Why a call is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The hub can wait no longer.
    Draining,
    /// Its tenant was suspended.
    Suspended,
}

impl Stop {
    /// Below the token that stops everybody's calls.
    pub fn new(of_all: &CancellationToken) -> Self {
        Self {
            of_all: of_all.clone(),
            of_tenant: of_all.child_token(),
        }
    }

    /// Resolves when the call has to end.
    pub async fn asked(&self) -> Stopped {
        self.of_tenant.cancelled().await;
        if self.of_all.is_cancelled() {
            Stopped::Draining
        } else {
            Stopped::Suspended
        }
    }
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

/// A key that signs app tokens, as far as its tokens are known by it.
pub struct TokenKey {
    /// Whose tokens it signs.
    pub tenant: TenantId,
    /// Tells them from others.
    pub verifier: Verifier,
    /// None of them is accepted any longer.
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
    /// What proves to the vendor that it is ours.
    pub credential: Credential,
    /// What else is set about it.
    pub settings: Settings,
    /// The wires it speaks, where they are fewer than its vendor's.
    pub wires: Option<Vec<Wire>>,
    /// Whether it offers Responses over WebSocket.
    pub websocket: bool,
    /// Whether the vendor may be at an address that is not public.
    pub allows_private: bool,
    /// Which addresses of the vendor are tried first, unless a way out says otherwise.
    pub prefers: Option<Family>,
    /// Its own ways out in the order in which they are taken; without any, the system's own address.
    pub ways: Vec<Arc<WayOut>>,
}

impl Account {
    /// Whether a call in this dialect can go there as it is.
    pub fn speaks(&self, wire: Wire) -> bool {
        self.vendor.speaks(wire) && self.wires.as_ref().is_none_or(|wires| wires.contains(&wire))
    }

    /// How a call in this dialect to this model, as its vendor calls it, gets there; `None` where it cannot.
    pub fn lane(&self, client: Wire, model: &str) -> Option<Lane> {
        if let Some(wire) = self.vendor.wire_of(model) {
            return Lane::between(client, wire);
        }
        if self.speaks(client) {
            return Some(Lane::Verbatim);
        }
        let spoken = self.vendor.wires().iter().filter(|wire| self.speaks(**wire));
        let offered: Vec<_> = spoken.map(|wire| VendorWire::from(*wire)).collect();
        Lane::choose(client, &offered)
    }

    /// Where its calls go.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn target(&self) -> Result<Target, TargetError> {
        Target::new(self.vendor, &self.base_url, &self.credential, &self.settings)
    }
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
    /// Ends everybody's running calls.
    stop: CancellationToken,
    store: Store,
    sealer: Arc<Sealer>,
    /// How many looks at the store have begun.
    looks: AtomicU64,
    turn: Mutex<()>,
}

impl Directory {
    /// Loads the picture and keeps it up to date: within 250 ms of a change, at once on [`DirectoryHandle::refresh`].
    pub async fn watch(store: &Store, sealer: Arc<Sealer>, tasks: &Tasks) -> Result<DirectoryHandle, StoreError> {
        let stop = CancellationToken::new();
        let first = load(store, &sealer, &stop, &Self::default()).await?;
        let (changed, _) = watch::channel(first.revision);
        let handle = DirectoryHandle {
            inner: Arc::new(Inner {
                current: ArcSwap::from_pointee(first),
                changed,
                stop,
                store: store.clone(),
                sealer,
                looks: AtomicU64::new(0),
                turn: Mutex::new(()),
            }),
        };
        tasks.spawn("directory", keep_up(handle.clone(), tasks.token()));
        Ok(handle)
    }
}

impl DirectoryHandle {
    /// The picture now.
    pub fn load(&self) -> Arc<Directory> {
        self.inner.current.load_full()
    }

    /// Looks whether the store changed, and rebuilds if so. Many at once share one look. A store that cannot be
    /// read leaves the picture as it is.
    pub fn refresh(&self) -> impl Future<Output = Arc<Directory>> + Send + '_ {
        // Boxed: hardly any call comes here, and every call would keep room for it.
        Box::pin(self.refreshed())
    }

    async fn refreshed(&self) -> Arc<Directory> {
        let inner = &self.inner;
        let asked = inner.looks.load(Ordering::Acquire);
        let _turn = inner.turn.lock().await;
        // A look that began after we asked has seen what we ask for.
        if inner.looks.load(Ordering::Acquire) == asked {
            inner.looks.fetch_add(1, Ordering::AcqRel);
            if let Err(error) = self.look().await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot look who exists: the picture may be old"
                );
            }
        }
        self.load()
    }

    /// Takes back into use what was to be out of it until now.
    async fn enable_due(&self) {
        let now_ms = SystemClock
            .wall()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let is_due = self.load().returns_ms.is_some_and(|returns_ms| returns_ms <= now_ms);
        if is_due && let Err(error) = accounts::enable_due(&self.inner.store, now_ms).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "an account whose time out of use is over is not back yet"
            );
        }
    }

    /// Ends the running calls of every tenant, once it is cancelled.
    pub fn stop(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// Tells the revision of each new picture.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    async fn look(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        let row = sqlx::query("SELECT revision FROM hub")
            .fetch_one(inner.store.readers())
            .await?;
        let before = inner.current.load_full();
        if row.try_get::<i64, _>(0)?.unsigned_abs() != before.revision {
            let next = Arc::new(load(&inner.store, &inner.sealer, &inner.stop, &before).await?);
            inner.current.store(next.clone());
            stop_suspended(&before, &next);
            inner.changed.send_replace(next.revision);
        }
        Ok(())
    }
}

async fn keep_up(handle: DirectoryHandle, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        handle.enable_due().await;
        handle.refresh().await;
    }
}

/// Who called by the picture before is told to end; who comes by the new one is refused.
fn stop_suspended(before: &Directory, now: &Directory) {
    for (id, tenant) in &before.tenants {
        if now.tenants.get(id).is_none_or(|tenant| tenant.is_suspended) {
            tenant.stop.of_tenant.cancel();
        }
    }
}

/// Reads everything in one transaction, so that it is one picture. A tenant keeps what stops its calls while it is not
/// suspended.
async fn load(
    store: &Store,
    sealer: &Sealer,
    stop: &CancellationToken,
    before: &Directory,
) -> Result<Directory, StoreError> {
    let mut tx = store.readers().begin().await?;
    let revision: i64 = sqlx::query("SELECT revision FROM hub")
        .fetch_one(&mut *tx)
        .await?
        .try_get(0)?;
    let mut directory = Directory {
        revision: revision.unsigned_abs(),
        ..Directory::default()
    };
    directory.tenants = read_tenants(&mut tx, stop, before).await?;
    directory.keys = read_keys(&mut tx).await?;
    directory.token_keys = read_token_keys(&mut tx).await?;
    directory.devices = read_devices(&mut tx).await?;
    directory.shares = sharing::read_all(&mut tx).await?;
    opened::read(&mut tx, sealer, before, &mut directory).await?;
    directory.prices = read_prices(&mut tx).await?;
    directory.terms = tenant::read_all(&mut tx, i64::MAX).await?;
    directory.rules = limits::read_all(&mut tx).await?.into_iter().collect();
    directory.downgrades = plans::downgrades(&mut tx).await?;
    tx.commit().await?;
    Ok(directory)
}

async fn read_tenants(
    connection: &mut SqliteConnection,
    stop: &CancellationToken,
    before: &Directory,
) -> Result<HashMap<TenantId, Arc<Tenant>>, StoreError> {
    let mut all = HashMap::new();
    for row in sqlx::query("SELECT id, name, suspended_ms, on_abort, region, repin FROM tenant")
        .fetch_all(&mut *connection)
        .await?
    {
        let id = TenantId::parse(row.try_get("id")?)?;
        let is_suspended = row.try_get::<Option<i64>, _>("suspended_ms")?.is_some();
        let on_abort = OnAbort::parse(row.try_get("on_abort")?);
        let region = row.try_get::<Option<&str>, _>("region")?;
        let region = region.map(|text| Region::parse(text).ok_or(()));
        let known = before.tenants.get(&id).filter(|_| !is_suspended);
        let tenant = Tenant {
            id: id.clone(),
            name: row.try_get("name")?,
            is_suspended,
            on_abort: on_abort.ok_or_else(|| StoreError::Corrupt(format!("on_abort of {id}")))?,
            region: region
                .transpose()
                .map_err(|()| StoreError::Corrupt(format!("the region of {id}")))?,
            may_repin: row.try_get::<&str, _>("repin")? == "allow",
            stop: known.map_or_else(|| Stop::new(stop), |known| known.stop.clone()),
        };
        all.insert(id, Arc::new(tenant));
    }
    Ok(all)
}

async fn read_keys(connection: &mut SqliteConnection) -> Result<HashMap<KeyId, Arc<Key>>, StoreError> {
    let mut all = HashMap::new();
    for row in sqlx::query("SELECT id, tenant, hash, revoked_ms FROM api_key")
        .fetch_all(&mut *connection)
        .await?
    {
        let id = KeyId::parse(row.try_get("id")?)?;
        let hash: Vec<u8> = row.try_get("hash")?;
        let hash = hash
            .try_into()
            .map_err(|_| StoreError::Corrupt(format!("the hash of {id}")))?;
        let is_revoked = row.try_get::<Option<i64>, _>("revoked_ms")?.is_some();
        let key = Key {
            id: id.clone(),
            tenant: TenantId::parse(row.try_get("tenant")?)?,
            hash,
            is_revoked,
        };
        all.insert(id, Arc::new(key));
    }
    Ok(all)
}

async fn read_token_keys(connection: &mut SqliteConnection) -> Result<HashMap<TokenKeyId, TokenKey>, StoreError> {
    let mut all = HashMap::new();
    for row in token_keys::read_all(connection).await? {
        let verifier = Verifier::new(&row.public);
        let key = TokenKey {
            tenant: row.tenant,
            verifier: verifier.ok_or_else(|| StoreError::Corrupt(format!("the public key {}", row.id)))?,
            is_revoked: row.revoked_ms.is_some(),
        };
        all.insert(row.id, key);
    }
    Ok(all)
}

async fn read_devices(connection: &mut SqliteConnection) -> Result<HashMap<DeviceId, Arc<Device>>, StoreError> {
    let mut all = HashMap::new();
    for row in sqlx::query("SELECT id, tenant, name, revoked_ms FROM device")
        .fetch_all(&mut *connection)
        .await?
    {
        let id = DeviceId::parse(row.try_get("id")?)?;
        let tenant = TenantId::parse(row.try_get("tenant")?)?;
        let is_revoked = row.try_get::<Option<i64>, _>("revoked_ms")?.is_some();
        let device = Device {
            id: id.clone(),
            tenant,
            name: row.try_get("name")?,
            is_revoked,
        };
        all.insert(id, Arc::new(device));
    }
    Ok(all)
}

async fn read_prices(connection: &mut SqliteConnection) -> Result<HashMap<String, Arc<Listed>>, StoreError> {
    let mut all = HashMap::new();
    for row in prices::read_all(connection).await? {
        let PriceRow {
            model,
            price,
            context,
            max_output,
            source: _,
            at_ms: _,
        } = row;
        let listed = Listed {
            model: model.clone(),
            price: Arc::new(price),
            context,
            max_output,
        };
        all.insert(model, Arc::new(listed));
    }
    Ok(all)
}

const LOOK_EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
