//! What routing remembers over a restart: pins, tenants' homes, accounts that are out of use, attempts. Written in batches, off the path of
//! calls; knows no choice.

use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError};
use crate::ids::{AccountId, TenantId};

/// The hash under which something is pinned.
pub type Name = [u8; 16];

/// Something that belongs to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRow {
    /// The hash of it.
    pub name: Name,
    /// Whose it is; the account may be gone.
    pub account: AccountId,
    /// When it was used last, milliseconds since 1970.
    pub used_ms: i64,
}

/// A tenant's home: an account that serves what it asks without naming a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeRow {
    /// Whose.
    pub tenant: TenantId,
    /// The account.
    pub account: AccountId,
    /// When it served first, milliseconds since 1970.
    pub since_ms: i64,
    /// Homes of before that the tenant has lost; none where it is read.
    pub lost: Vec<AccountId>,
}

/// An account that is out of use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HealthRow {
    /// Which.
    pub account: AccountId,
    /// `down` or `quarantined`.
    pub state: String,
    /// What it was that failed.
    pub cause: String,
    /// Milliseconds since 1970.
    pub since_ms: i64,
    /// When it is tried again.
    pub until_ms: i64,
}

/// One attempt of a call that had several.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AttemptRow {
    /// Its place, from 1.
    pub n: u32,
    /// When it began, milliseconds since 1970.
    pub at_ms: i64,
    /// The account's id.
    pub account: String,
    /// The way out.
    pub egress: String,
    /// Why this account.
    pub choice: String,
    /// What the vendor answered, if it did.
    pub status: Option<u16>,
    /// What was made of that.
    pub verdict: String,
    /// How long it took.
    pub ms: i64,
    /// The vendor's own id.
    pub vendor_request_id: Option<String>,
}

/// What is written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// New pins, and those that were used again.
    pub pins: Vec<PinRow>,
    /// New homes of tenants.
    pub homes: Vec<HomeRow>,
    /// Accounts that went out of use; `None` for one that is back.
    pub health: Vec<(AccountId, Option<HealthRow>)>,
    /// Attempts, with the call they are of.
    pub attempts: Vec<([u8; 16], AttemptRow)>,
}

impl Batch {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.homes.is_empty() && self.health.is_empty() && self.attempts.is_empty()
    }
}

/// Writes a batch.
pub async fn write(store: &Store, batch: &Batch) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    for pin in &batch.pins {
        sqlx::query(
            "INSERT INTO pin (name, account, used_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET account = excluded.account, used_ms = excluded.used_ms",
        )
        .bind(&pin.name[..])
        .bind(pin.account.as_str())
        .bind(pin.used_ms)
        .execute(&mut *tx)
        .await?;
    }
    for home in &batch.homes {
        write_home(&mut tx, home).await?;
    }
    for (account, note) in &batch.health {
        let written = match note {
            None => sqlx::query("DELETE FROM account_health WHERE account = $1").bind(account.as_str()),
            // The account may have been removed meanwhile.
            Some(note) => sqlx::query(
                "INSERT OR REPLACE INTO account_health (account, state, cause, since_ms, until_ms) \
                 SELECT id, $2, $3, $4, $5 FROM vendor_account WHERE id = $1",
            )
            .bind(account.as_str())
            .bind(&note.state)
            .bind(&note.cause)
            .bind(note.since_ms)
            .bind(note.until_ms),
        };
        written.execute(&mut *tx).await?;
    }
    for (call, attempt) in &batch.attempts {
        sqlx::query(
            "INSERT OR IGNORE INTO attempt (call, n, at_ms, account, egress, choice, status, verdict, ms, vendor_request_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(&call[..])
        .bind(attempt.n)
        .bind(attempt.at_ms)
        .bind(&attempt.account)
        .bind(&attempt.egress)
        .bind(&attempt.choice)
        .bind(attempt.status)
        .bind(&attempt.verdict)
        .bind(attempt.ms)
        .bind(&attempt.vendor_request_id)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn write_home(connection: &mut SqliteConnection, home: &HomeRow) -> Result<(), StoreError> {
    for lost in &home.lost {
        sqlx::query("DELETE FROM tenant_home WHERE tenant = $1 AND account = $2")
            .bind(home.tenant.as_str())
            .bind(lost.as_str())
            .execute(&mut *connection)
            .await?;
    }
    // The account may have been removed meanwhile.
    sqlx::query(
        "INSERT OR IGNORE INTO tenant_home (tenant, account, since_ms) \
         SELECT t.id, a.id, $3 FROM tenant t, vendor_account a WHERE t.id = $1 AND a.id = $2",
    )
    .bind(home.tenant.as_str())
    .bind(home.account.as_str())
    .bind(home.since_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// The homes of all tenants, of each the first one first.
pub async fn homes(store: &Store) -> Result<Vec<HomeRow>, StoreError> {
    let rows = sqlx::query("SELECT tenant, account, since_ms FROM tenant_home ORDER BY tenant, since_ms, account")
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(HomeRow {
                tenant: TenantId::parse(row.try_get("tenant")?)?,
                account: AccountId::parse(row.try_get("account")?)?,
                since_ms: row.try_get("since_ms")?,
                lost: Vec::new(),
            })
        })
        .collect()
}

/// The pins that were used since, the last ones first.
pub async fn pins(store: &Store, since_ms: i64, most: usize) -> Result<Vec<PinRow>, StoreError> {
    let rows = sqlx::query("SELECT name, account, used_ms FROM pin WHERE used_ms > $1 ORDER BY used_ms DESC LIMIT $2")
        .bind(since_ms)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            let name: Vec<u8> = row.try_get("name")?;
            Ok(PinRow {
                name: name
                    .try_into()
                    .map_err(|_| StoreError::Corrupt("the name of a pin".into()))?,
                account: AccountId::parse(row.try_get("account")?)?,
                used_ms: row.try_get("used_ms")?,
            })
        })
        .collect()
}

/// Forgets pins that were not used since; at most so many, so that nobody waits for it.
pub async fn forget(store: &Store, since_ms: i64, most: u32) -> Result<u64, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query(
        "DELETE FROM pin WHERE name IN (SELECT name FROM pin WHERE used_ms <= $1 ORDER BY used_ms LIMIT $2)",
    )
    .bind(since_ms)
    .bind(most)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(done.rows_affected())
}

/// The accounts that are out of use.
pub async fn health(store: &Store) -> Result<Vec<HealthRow>, StoreError> {
    let rows = sqlx::query("SELECT account, state, cause, since_ms, until_ms FROM account_health ORDER BY since_ms")
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(HealthRow {
                account: AccountId::parse(row.try_get("account")?)?,
                state: row.try_get("state")?,
                cause: row.try_get("cause")?,
                since_ms: row.try_get("since_ms")?,
                until_ms: row.try_get("until_ms")?,
            })
        })
        .collect()
}

/// The attempts of a call that had several.
pub async fn attempts(store: &Store, call: [u8; 16]) -> Result<Vec<AttemptRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM attempt WHERE call = $1 ORDER BY n")
        .bind(&call[..])
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(AttemptRow {
                n: row.try_get("n")?,
                at_ms: row.try_get("at_ms")?,
                account: row.try_get("account")?,
                egress: row.try_get("egress")?,
                choice: row.try_get("choice")?,
                status: row.try_get("status")?,
                verdict: row.try_get("verdict")?,
                ms: row.try_get("ms")?,
                vendor_request_id: row.try_get("vendor_request_id")?,
            })
        })
        .collect()
}
