//! The operator's accounts at vendors. Their secrets are sealed before they come here.

use sqlx::{Row as _, SqliteConnection};

use super::{
    Store, StoreError,
    sharing::{self, Change, Users},
    tenants::is_name,
};
use crate::ids::AccountId;

/// A vendor account as the store has it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// The id.
    pub id: AccountId,
    /// The operator's name for it.
    pub name: String,
    /// The vendor's name.
    pub vendor: String,
    /// Where its API begins.
    pub base_url: String,
    /// What its secret is.
    pub credential: String,
    /// The sealed secret of the credential.
    pub secret: Vec<u8>,
    /// A second one, sealed too.
    pub more_secret: Option<Vec<u8>>,
    /// What is set about it and is no secret: JSON.
    pub settings: String,
    /// Whether it offers Responses over WebSocket.
    pub websocket: bool,
    /// Whether the vendor may be at an address that is not public.
    pub allows_private: bool,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Since when no new call is given to it.
    pub disabled_ms: Option<i64>,
    /// Until when, where that ends by itself.
    pub disabled_until_ms: Option<i64>,
}

#[cfg(test)]
impl AccountRow {
    /// An account at OpenAI of this name, with a secret that does not open.
    pub(crate) fn for_tests(id: AccountId, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            vendor: "openai".to_owned(),
            base_url: "https://vendor.example".to_owned(),
            credential: "api-key".to_owned(),
            secret: Vec::new(),
            more_secret: None,
            settings: "{}".to_owned(),
            websocket: true,
            allows_private: false,
            created_ms: 1,
            disabled_ms: None,
            disabled_until_ms: None,
        }
    }
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
    let mut tx = store.write().await?;
    insert(&mut tx, account).await?;
    tx.commit().await?;
    Ok(())
}

/// Adds accounts, each with how it is shared; all of them or none.
pub async fn add_all(store: &Store, accounts: &[(AccountRow, Change)]) -> Result<(), AddAccountError> {
    let mut tx = store.write().await?;
    for (account, change) in accounts {
        insert(&mut tx, account).await?;
        sharing::change(&mut tx, &account.id, change).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, account: &AccountRow) -> Result<(), AddAccountError> {
    if !is_name(&account.name) {
        return Err(AddAccountError::BadName);
    }
    let added = sqlx::query(
        "INSERT INTO vendor_account \
         (id, name, vendor, base_url, secret, websocket, allows_private, created_ms, credential, settings, more_secret) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 \
         WHERE NOT EXISTS (SELECT 1 FROM vendor_account WHERE name = $2)",
    )
    .bind(account.id.as_str())
    .bind(&account.name)
    .bind(&account.vendor)
    .bind(&account.base_url)
    .bind(&account.secret)
    .bind(account.websocket)
    .bind(account.allows_private)
    .bind(account.created_ms)
    .bind(&account.credential)
    .bind(&account.settings)
    .bind(&account.more_secret)
    .execute(connection)
    .await?;
    if added.rows_affected() == 0 {
        return Err(AddAccountError::Taken(account.name.clone()));
    }
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

/// Takes the account of this id out of use since then, for good or until then, or back into it. False where it was so
/// already.
pub async fn disable(
    store: &Store,
    id: &AccountId,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query(
        "UPDATE vendor_account SET disabled_ms = CASE WHEN $1 IS NULL THEN NULL ELSE coalesce(disabled_ms, $1) END, \
         disabled_until_ms = $3 \
         WHERE id = $2 AND ((disabled_ms IS NULL) <> ($1 IS NULL) OR disabled_until_ms IS NOT $3)",
    )
    .bind(since_ms)
    .bind(id.as_str())
    .bind(until_ms)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// Takes accounts back into use that were to be out of it until then.
pub async fn enable_due(store: &Store, now_ms: i64) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    sqlx::query("UPDATE vendor_account SET disabled_ms = NULL, disabled_until_ms = NULL WHERE disabled_until_ms <= $1")
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Changes what is set about an account and is no secret.
pub async fn set_settings(store: &Store, id: &AccountId, settings: &str) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    sqlx::query("UPDATE vendor_account SET settings = $1 WHERE id = $2 AND settings <> $1")
        .bind(settings)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// The sealed secret of an account, and who may use it, as they are at this moment.
pub async fn secret(store: &Store, id: &AccountId) -> Result<(Vec<u8>, Users), StoreError> {
    let mut tx = store.readers().begin().await?;
    let row = sqlx::query("SELECT secret FROM vendor_account WHERE id = $1").bind(id.as_str());
    let secret = row.fetch_one(&mut *tx).await?.try_get(0)?;
    let users = sharing::users(&mut tx, id).await?;
    tx.commit().await?;
    Ok((secret, users))
}

/// Puts another sealed secret in the place of an account's. `seal` seals it for those who may use the account then.
pub async fn rotate<E: From<StoreError>>(
    store: &Store,
    id: &AccountId,
    seal: impl FnOnce(&Users) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let mut tx = store.write().await?;
    let sealed = seal(&sharing::users(&mut tx, id).await?)?;
    sqlx::query("UPDATE vendor_account SET secret = $1 WHERE id = $2")
        .bind(sealed)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::from)?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(())
}

/// Takes the right to renew an account's credential until then. False while somebody else has it.
pub async fn lease_credential(store: &Store, id: &AccountId, now_ms: i64, until_ms: i64) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let taken = sqlx::query(
        "INSERT INTO credential_lease (account, until_ms) VALUES ($1, $3) \
         ON CONFLICT (account) DO UPDATE SET until_ms = excluded.until_ms WHERE until_ms <= $2",
    )
    .bind(id.as_str())
    .bind(now_ms)
    .bind(until_ms)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(taken.rows_affected() > 0)
}

/// Gives the right to renew back.
pub async fn release_credential(store: &Store, id: &AccountId) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    sqlx::query("DELETE FROM credential_lease WHERE account = $1")
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// All accounts in the order they were added.
pub async fn list(store: &Store) -> Result<Vec<AccountRow>, StoreError> {
    read_all(&mut *store.readers().acquire().await?).await
}

/// The same on a connection whose transaction makes it one picture with other reads.
pub(crate) async fn read_all(connection: &mut SqliteConnection) -> Result<Vec<AccountRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, name, vendor, base_url, credential, secret, more_secret, settings, websocket, allows_private, \
         created_ms, disabled_ms, disabled_until_ms FROM vendor_account ORDER BY created_ms, rowid",
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
                credential: row.try_get("credential")?,
                secret: row.try_get("secret")?,
                more_secret: row.try_get("more_secret")?,
                settings: row.try_get("settings")?,
                websocket: row.try_get("websocket")?,
                allows_private: row.try_get("allows_private")?,
                created_ms: row.try_get("created_ms")?,
                disabled_ms: row.try_get("disabled_ms")?,
                disabled_until_ms: row.try_get("disabled_until_ms")?,
            })
        })
        .collect()
}
