//! Keys that sign app tokens, with their secrets sealed. Opens none.

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Store, StoreError};
use crate::ids::{TenantId, TokenKeyId};

/// A key.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TokenKeyRow {
    /// The key's id, which its tokens name.
    pub id: TokenKeyId,
    /// Whose tokens it signs.
    pub tenant: TenantId,
    /// By which its tokens are known.
    #[serde(skip)]
    pub public: Vec<u8>,
    /// Sealed, bound to the id.
    #[serde(skip)]
    pub secret: Vec<u8>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// When it was revoked, milliseconds since 1970.
    pub revoked_ms: Option<i64>,
}

/// Which field of a key its sealed secret is bound to.
pub const SECRET_FIELD: &str = "secret";

/// Adds one: from now on it signs its tenant's tokens.
pub async fn add(store: &Store, key: &TokenKeyRow) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    sqlx::query("INSERT INTO token_key (id, tenant, public, secret, created_ms) VALUES ($1, $2, $3, $4, $5)")
        .bind(key.id.as_str())
        .bind(key.tenant.as_str())
        .bind(&key.public)
        .bind(&key.secret)
        .bind(key.created_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// A tenant's keys, or everybody's, oldest first.
pub async fn list(store: &Store, tenant: Option<&TenantId>) -> Result<Vec<TokenKeyRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM token_key WHERE $1 IS NULL OR tenant = $1 ORDER BY rowid")
        .bind(tenant.map(TenantId::as_str))
        .fetch_all(store.readers())
        .await?;
    rows.iter().map(TokenKeyRow::read).collect()
}

/// The key that signs a tenant's tokens, where it has one.
pub async fn signing(store: &Store, tenant: &TenantId) -> Result<Option<TokenKeyRow>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM token_key WHERE tenant = $1 AND revoked_ms IS NULL ORDER BY rowid DESC LIMIT 1")
            .bind(tenant.as_str())
            .fetch_optional(store.readers())
            .await?;
    row.as_ref().map(TokenKeyRow::read).transpose()
}

/// Revokes a key of a tenant. False where there is no such key that is still good.
pub async fn revoke(store: &Store, tenant: &TenantId, id: &TokenKeyId, now_ms: i64) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query("UPDATE token_key SET revoked_ms = $3 WHERE id = $1 AND tenant = $2 AND revoked_ms IS NULL")
        .bind(id.as_str())
        .bind(tenant.as_str())
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// All of them, on a connection whose transaction makes it one picture with other reads.
pub(crate) async fn read_all(connection: &mut SqliteConnection) -> Result<Vec<TokenKeyRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM token_key").fetch_all(connection).await?;
    rows.iter().map(TokenKeyRow::read).collect()
}

impl TokenKeyRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: TokenKeyId::parse(row.try_get("id")?)?,
            tenant: TenantId::parse(row.try_get("tenant")?)?,
            public: row.try_get("public")?,
            secret: row.try_get("secret")?,
            created_ms: row.try_get("created_ms")?,
            revoked_ms: row.try_get("revoked_ms")?,
        })
    }
}
