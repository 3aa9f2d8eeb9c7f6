//! Tenants, and the balance the ledger keeps for each.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError};
use crate::{ids::TenantId, money::Nanos, way::Region};

/// A tenant as commands show it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TenantRow {
    /// The id.
    pub id: TenantId,
    /// The operator's name for it.
    pub name: String,
    /// Whether its calls are refused.
    pub suspended: bool,
    /// `cut` or `drain`: what becomes of a call whose client leaves.
    pub on_abort: String,
    /// What it has, holds included.
    pub balance: Nanos,
    /// What running calls hold of it.
    pub held: Nanos,
    /// What it can still spend.
    pub available: Nanos,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

/// Why a tenant cannot be added or found.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// The name is taken.
    #[error("there is already a tenant named `{0}`")]
    Taken(String),
    /// Empty, too long, or with characters that tables and logs should not see.
    #[error("`{0}` cannot be a tenant's name: use 1 to 64 letters, digits, `.`, `_`, `-`, `@`, or spaces between them")]
    BadName(String),
    /// Nobody of that name or id.
    #[error("there is no tenant `{0}`")]
    Unknown(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TenantError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Adds a tenant with an empty balance.
pub async fn add(store: &Store, name: &str, now_ms: i64) -> Result<TenantId, TenantError> {
    if !is_name(name) || TenantId::parse(name).is_ok() {
        return Err(TenantError::BadName(
            name.chars().filter(|c| !c.is_control()).take(80).collect(),
        ));
    }
    let id = TenantId::random();
    let mut tx = store.write().await?;
    let added = sqlx::query(
        "INSERT INTO tenant (id, name, created_ms) SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM tenant WHERE name = $2)",
    )
    .bind(id.as_str())
    .bind(name)
    .bind(now_ms)
    .execute(&mut *tx)
    .await?;
    if added.rows_affected() == 0 {
        return Err(TenantError::Taken(name.to_owned()));
    }
    sqlx::query("INSERT INTO account (id) VALUES ($1)")
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(id)
}

/// The tenant of that name or id.
pub async fn find(store: &Store, name_or_id: &str) -> Result<TenantRow, TenantError> {
    let row = sqlx::query(FIND)
        .bind(name_or_id)
        .fetch_optional(store.readers())
        .await?;
    match row {
        Some(row) => Ok(read(&row)?),
        None => Err(TenantError::Unknown(
            name_or_id.chars().filter(|c| !c.is_control()).take(80).collect(),
        )),
    }
}

/// All tenants by name.
pub async fn list(store: &Store) -> Result<Vec<TenantRow>, StoreError> {
    let rows = sqlx::query(LIST).fetch_all(store.readers()).await?;
    rows.iter().map(read).collect()
}

/// What all accounts together hold.
pub async fn held(store: &Store) -> Result<Nanos, StoreError> {
    let row = sqlx::query("SELECT coalesce(sum(held), 0) FROM account")
        .fetch_one(store.readers())
        .await?;
    Ok(Nanos::new(row.try_get(0)?))
}

/// Refuses a tenant's calls, or admits them again. True where that changed something.
pub async fn suspend(store: &Store, id: &TenantId, since_ms: Option<i64>) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let changed =
        sqlx::query("UPDATE tenant SET suspended_ms = $2 WHERE id = $1 AND (suspended_ms IS NULL) = ($2 IS NOT NULL)")
            .bind(id.as_str())
            .bind(since_ms)
            .execute(&mut *tx)
            .await?;
    tx.commit().await?;
    Ok(changed.rows_affected() > 0)
}

/// Chooses where a tenant's calls leave; none for whichever way works. True where that changed something.
pub async fn set_region(store: &Store, id: &TenantId, region: Option<&Region>) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let changed = sqlx::query("UPDATE tenant SET region = $2 WHERE id = $1 AND region IS NOT $2")
        .bind(id.as_str())
        .bind(region.map(Region::as_str))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(changed.rows_affected() > 0)
}

/// Chooses what becomes of a call whose client leaves. True where that changed something.
pub async fn set_on_abort(store: &Store, id: &TenantId, on_abort: &str) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let changed = sqlx::query("UPDATE tenant SET on_abort = $2 WHERE id = $1 AND on_abort <> $2")
        .bind(id.as_str())
        .bind(on_abort)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(changed.rows_affected() > 0)
}

/// Chooses whether conversations may go on with another account. True where that changed something.
pub async fn set_repin(store: &Store, id: &TenantId, repin: &str) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let changed = sqlx::query("UPDATE tenant SET repin = $2 WHERE id = $1 AND repin <> $2")
        .bind(id.as_str())
        .bind(repin)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(changed.rows_affected() > 0)
}

fn read(row: &SqliteRow) -> Result<TenantRow, StoreError> {
    let id: &str = row.try_get("id")?;
    Ok(TenantRow {
        id: TenantId::parse(id)?,
        name: row.try_get("name")?,
        suspended: row.try_get::<Option<i64>, _>("suspended_ms")?.is_some(),
        on_abort: row.try_get("on_abort")?,
        balance: Nanos::new(row.try_get("posted")?),
        held: Nanos::new(row.try_get("held")?),
        available: Nanos::new(row.try_get("available")?),
        created_ms: row.try_get("created_ms")?,
    })
}

/// Shared by everything an operator names.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = (1..=64).contains(&name.len()) && name.trim() == name;
    fits && name.chars().all(|c| c.is_alphanumeric() || "._-@ ".contains(c))
}

const FIND: &str = "SELECT t.id, t.name, t.suspended_ms, t.on_abort, t.created_ms, a.posted, a.held, a.posted - a.held - a.floor AS available \
     FROM tenant t JOIN account a ON a.id = t.id WHERE t.id = $1 OR t.name = $1";
const LIST: &str = "SELECT t.id, t.name, t.suspended_ms, t.on_abort, t.created_ms, a.posted, a.held, a.posted - a.held - a.floor AS available \
     FROM tenant t JOIN account a ON a.id = t.id ORDER BY t.name";
