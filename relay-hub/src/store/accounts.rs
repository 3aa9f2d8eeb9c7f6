//! The operator's accounts at vendors. Their secrets are sealed before they come here.

use sqlx::Row as _;

use super::{Store, StoreError, tenants::is_name};
use crate::ids::AccountId;

/// A vendor account as the store has it.
#[derive(Clone)]
pub struct AccountRow {
    /// The id.
    pub id: AccountId,
    /// The operator's name for it.
    pub name: String,
    /// The vendor's name.
    pub vendor: String,
    /// Where its API begins.
    pub base_url: String,
    /// The sealed credential.
    pub secret: Vec<u8>,
    /// Whether it offers Responses over WebSocket.
    pub websocket: bool,
    /// Whether the vendor may be at an address that is not public.
    pub allows_private: bool,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Since when no new call is given to it.
    pub disabled_ms: Option<i64>,
}

/// Why an account cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AddAccountError {
    /// The name is taken.
    #[error("there is already an account named `{0}`")]
    Taken(String),
    /// Empty, too long, or with characters that tables and logs should not see.
    #[error(
        "this cannot be an account's name: use 1 to 64 letters, digits, `.`, `_`, `-`, `@`, or spaces between them"
    )]
    BadName,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for AddAccountError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Adds an account.
pub async fn add(store: &Store, account: &AccountRow) -> Result<(), AddAccountError> {
    if !is_name(&account.name) {
        return Err(AddAccountError::BadName);
    }
    let mut tx = store.write().await?;
    let added = sqlx::query(
        "INSERT INTO vendor_account (id, name, vendor, base_url, secret, websocket, allows_private, created_ms) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE NOT EXISTS (SELECT 1 FROM vendor_account WHERE name = $2)",
    )
    .bind(account.id.as_str())
    .bind(&account.name)
    .bind(&account.vendor)
    .bind(&account.base_url)
    .bind(&account.secret)
    .bind(account.websocket)
    .bind(account.allows_private)
    .bind(account.created_ms)
    .execute(&mut *tx)
    .await?;
    if added.rows_affected() == 0 {
        return Err(AddAccountError::Taken(account.name.clone()));
    }
    tx.commit().await?;
    Ok(())
}

/// Removes the account of that name or id. False where there is none.
pub async fn remove(store: &Store, name_or_id: &str) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query("DELETE FROM vendor_account WHERE name = $1 OR id = $1")
        .bind(name_or_id)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// Takes the account of this id out of use since then, or back into it. False where it was so already.
pub async fn disable(store: &Store, id: &AccountId, since_ms: Option<i64>) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query(
        "UPDATE vendor_account SET disabled_ms = $1 WHERE id = $2 AND (disabled_ms IS NULL) <> ($1 IS NULL)",
    )
    .bind(since_ms)
    .bind(id.as_str())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// All accounts in the order they were added.
pub async fn list(store: &Store) -> Result<Vec<AccountRow>, StoreError> {
    read_all(&mut *store.readers().acquire().await?).await
}

/// The same on a connection whose transaction makes it one picture with other reads.
pub(crate) async fn read_all(connection: &mut sqlx::SqliteConnection) -> Result<Vec<AccountRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, name, vendor, base_url, secret, websocket, allows_private, created_ms, disabled_ms \
         FROM vendor_account ORDER BY created_ms, rowid",
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(AccountRow {
                id: AccountId::parse(row.try_get("id")?)?,
                name: row.try_get("name")?,
                vendor: row.try_get("vendor")?,
                base_url: row.try_get("base_url")?,
                secret: row.try_get("secret")?,
                websocket: row.try_get("websocket")?,
                allows_private: row.try_get("allows_private")?,
                created_ms: row.try_get("created_ms")?,
                disabled_ms: row.try_get("disabled_ms")?,
            })
        })
        .collect()
}
