//! Codes that stand for credit. Redeeming one is the business of `credit`.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError};
use crate::{
    ids::{CodeId, TenantId},
    money::Nanos,
};

/// A code to be made.
#[derive(Debug, Clone)]
pub struct NewCode {
    /// What commands call it.
    pub id: CodeId,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// What it is worth.
    pub amount: Nanos,
    /// When it can be redeemed no longer, milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// How long its credit lasts.
    pub days: Option<i64>,
    /// Kept with it, and with the entry of the books.
    pub note: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

/// A code as commands show it: without its text.
#[derive(Debug, Clone, serde::Serialize)]
pub struct CodeRow {
    /// What commands call it.
    pub id: CodeId,
    /// What it is worth.
    pub amount: Nanos,
    /// When it can be redeemed no longer, milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// How long its credit lasts.
    pub days: Option<i64>,
    /// The operator's words.
    pub note: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
    /// Who redeemed it.
    pub tenant: Option<TenantId>,
    /// When.
    pub redeemed_ms: Option<i64>,
}

/// Makes codes, all or none.
pub async fn add(store: &Store, codes: &[NewCode]) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    for code in codes {
        sqlx::query(
            "INSERT INTO code (id, hash, amount, expires_ms, days, note, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(code.id.as_str())
        .bind(code.hash.to_vec())
        .bind(code.amount.get())
        .bind(code.expires_ms)
        .bind(code.days)
        .bind(&code.note)
        .bind(code.created_ms)
        .execute(&mut *tx)
        .await?;
    }
    Ok(tx.commit().await?)
}

/// All codes, oldest first.
pub async fn list(store: &Store) -> Result<Vec<CodeRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, amount, expires_ms, days, note, created_ms, revoked_ms, tenant, redeemed_ms FROM code \
         ORDER BY created_ms, id",
    );
    rows.fetch_all(store.readers()).await?.iter().map(read).collect()
}

/// Revokes a code that nobody redeemed, by its id or the SHA-256 of its text. Its id, where there was one.
pub async fn revoke(
    store: &Store,
    id: Option<&CodeId>,
    hash: Option<[u8; 32]>,
    now_ms: i64,
) -> Result<Option<CodeId>, StoreError> {
    let mut tx = store.write().await?;
    let revoked = sqlx::query(
        "UPDATE code SET revoked_ms = $3 WHERE (id = $1 OR hash = $2) AND revoked_ms IS NULL AND tenant IS NULL RETURNING id",
    )
    .bind(id.map(CodeId::as_str))
    .bind(hash.map(|hash| hash.to_vec()))
    .bind(now_ms)
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    match revoked {
        Some(row) => Ok(Some(CodeId::parse(row.try_get(0)?)?)),
        None => Ok(None),
    }
}

fn read(row: &SqliteRow) -> Result<CodeRow, StoreError> {
    let tenant: Option<&str> = row.try_get("tenant")?;
    Ok(CodeRow {
        id: CodeId::parse(row.try_get("id")?)?,
        amount: Nanos::new(row.try_get("amount")?),
        expires_ms: row.try_get("expires_ms")?,
        days: row.try_get("days")?,
        note: row.try_get("note")?,
        created_ms: row.try_get("created_ms")?,
        revoked_ms: row.try_get("revoked_ms")?,
        tenant: tenant.map(TenantId::parse).transpose()?,
        redeemed_ms: row.try_get("redeemed_ms")?,
    })
}
