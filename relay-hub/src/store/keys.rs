//! API keys: `rk_<public id>_<secret>`. Only the secret's SHA-256 is kept.

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use relay_shared::secret::Secret;
use sqlx::Row as _;

use super::{Store, StoreError};
use crate::ids::{KeyId, TenantId};

/// A key as commands show it: without its secret.
#[derive(Debug, Clone, serde::Serialize)]
pub struct KeyRow {
    /// The public id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The operator's name for it.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// When it was revoked, milliseconds since 1970.
    pub revoked_ms: Option<i64>,
}

/// A key's text taken apart.
pub(crate) struct KeyText {
    pub(crate) id: KeyId,
    pub(crate) hash: [u8; 32],
}

impl KeyText {
    /// `None` where the text is not shaped like a key.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix("rk_")?.split_once('_')?;
        if secret.len() != SECRET_TEXT {
            return None;
        }
        Some(Self {
            id: KeyId::parse(&["key_", id].concat()).ok()?,
            hash: hash(secret),
        })
    }
}

/// Makes a key. Its text is returned here and nowhere else, ever.
pub async fn add(
    store: &Store,
    tenant: &TenantId,
    name: &str,
    now_ms: i64,
) -> Result<(KeyId, Secret<String>), StoreError> {
    let id = KeyId::random();
    let secret = fresh_secret();
    let mut tx = store.write().await?;
    sqlx::query("INSERT INTO api_key (id, tenant, name, hash, created_ms) VALUES ($1, $2, $3, $4, $5)")
        .bind(id.as_str())
        .bind(tenant.as_str())
        .bind(name)
        .bind(hash(secret.expose()).to_vec())
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    let public = id.as_str().trim_start_matches("key_");
    let text = Secret::new(format!("rk_{public}_{}", secret.expose()));
    Ok((id, text))
}

/// A tenant's keys, or everybody's, oldest first.
pub async fn list(store: &Store, tenant: Option<&TenantId>) -> Result<Vec<KeyRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, tenant, name, created_ms, revoked_ms FROM api_key WHERE $1 IS NULL OR tenant = $1 ORDER BY created_ms, id",
    )
    .bind(tenant.map(TenantId::as_str))
    .fetch_all(store.readers())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(KeyRow {
                id: KeyId::parse(row.try_get("id")?)?,
                tenant: TenantId::parse(row.try_get("tenant")?)?,
                name: row.try_get("name")?,
                created_ms: row.try_get("created_ms")?,
                revoked_ms: row.try_get("revoked_ms")?,
            })
        })
        .collect()
}

/// Revokes a key of a tenant. False where there is no such key that is still good.
pub async fn revoke(store: &Store, tenant: &TenantId, id: &KeyId, now_ms: i64) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query("UPDATE api_key SET revoked_ms = $3 WHERE id = $1 AND tenant = $2 AND revoked_ms IS NULL")
        .bind(id.as_str())
        .bind(tenant.as_str())
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// 256 random bits as 43 characters.
pub(crate) fn fresh_secret() -> Secret<String> {
    let mut bytes = [0u8; 32];
    rand::fill(&mut bytes).expect("the system's random source answers");
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

pub(crate) fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    hash
}

const SECRET_TEXT: usize = 43;
