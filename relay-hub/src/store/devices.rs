//! Enrolled devices and the single-use tokens they enrol with.

use relay_shared::secret::Secret;
use sqlx::Row as _;

use super::{
    Store, StoreError,
    keys::{fresh_secret, hash},
};
use crate::ids::{DeviceId, TenantId};

/// A device as commands show it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DeviceRow {
    /// The id.
    pub id: DeviceId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The name it enrolled with.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// When its certificate was made last, milliseconds since 1970.
    pub renewed_ms: i64,
    /// End of its certificate's life, milliseconds since 1970.
    pub not_after_ms: i64,
    /// When it was revoked, milliseconds since 1970.
    pub revoked_ms: Option<i64>,
}

/// What became of a token that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// It was good, and is used up now.
    Good(TenantId),
    /// Nobody made it.
    Unknown,
    /// It was used before.
    Used,
    /// Its ten minutes are over.
    Expired,
    /// Its tenant's calls are refused.
    Suspended,
}

/// How long a token can be used.
pub const TOKEN_LIFE_MS: i64 = 10 * 60 * 1000;

/// Makes a token. Its secret is returned here and nowhere else.
pub async fn add_token(store: &Store, tenant: &TenantId, now_ms: i64) -> Result<Secret<String>, StoreError> {
    let secret = fresh_secret();
    let mut tx = store.write().await?;
    // Old tokens are of no use to anybody; a day keeps "expired" tellable from "unknown".
    sqlx::query("DELETE FROM device_token WHERE expires_ms < $1")
        .bind(now_ms - KEPT_MS)
        .execute(&mut *tx)
        .await?;
    sqlx::query("INSERT INTO device_token (hash, tenant, created_ms, expires_ms) VALUES ($1, $2, $3, $4)")
        .bind(hash(secret.expose()).to_vec())
        .bind(tenant.as_str())
        .bind(now_ms)
        .bind(now_ms + TOKEN_LIFE_MS)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(secret)
}

/// A device about to be known.
pub(crate) struct NewDevice<'a> {
    pub(crate) id: &'a DeviceId,
    pub(crate) name: &'a str,
    pub(crate) key_hash: [u8; 32],
    pub(crate) now_ms: i64,
    pub(crate) not_after_ms: i64,
}

/// Uses a token up and makes its device known, both or neither.
pub(crate) async fn redeem(store: &Store, secret: &str, device: NewDevice<'_>) -> Result<Redeemed, StoreError> {
    let hash = hash(secret).to_vec();
    let mut tx = store.write().await?;
    let used = sqlx::query(
        "UPDATE device_token SET used_ms = $2 WHERE hash = $1 AND used_ms IS NULL AND expires_ms > $2 \
         AND EXISTS (SELECT 1 FROM tenant WHERE id = device_token.tenant AND suspended_ms IS NULL) RETURNING tenant",
    )
    .bind(&hash)
    .bind(device.now_ms)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(used) = used else {
        let row = sqlx::query("SELECT used_ms, expires_ms FROM device_token WHERE hash = $1").bind(&hash);
        let Some(row) = row.fetch_optional(&mut *tx).await? else {
            return Ok(Redeemed::Unknown);
        };
        return Ok(match row.try_get::<Option<i64>, _>("used_ms")? {
            Some(_) => Redeemed::Used,
            None if row.try_get::<i64, _>("expires_ms")? <= device.now_ms => Redeemed::Expired,
            None => Redeemed::Suspended,
        });
    };
    let tenant = TenantId::parse(used.try_get("tenant")?)?;
    sqlx::query(
        "INSERT INTO device (id, tenant, name, public_key, created_ms, renewed_ms, not_after_ms) \
         VALUES ($1, $2, $3, $4, $5, $5, $6)",
    )
    .bind(device.id.as_str())
    .bind(tenant.as_str())
    .bind(device.name)
    .bind(device.key_hash.to_vec())
    .bind(device.now_ms)
    .bind(device.not_after_ms)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Redeemed::Good(tenant))
}

/// Where a device stands that wants another certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renewal {
    Good(TenantId),
    Unknown,
    Revoked,
    Suspended,
}

/// Whether the device with that key may have another certificate. A wrong key is an unknown device.
pub(crate) async fn may_renew(store: &Store, id: &DeviceId, key_hash: [u8; 32]) -> Result<Renewal, StoreError> {
    let row = sqlx::query(
        "SELECT d.tenant, d.revoked_ms, t.suspended_ms FROM device d JOIN tenant t ON t.id = d.tenant \
         WHERE d.id = $1 AND d.public_key = $2",
    )
    .bind(id.as_str())
    .bind(key_hash.to_vec())
    .fetch_optional(store.readers())
    .await?;
    let Some(row) = row else { return Ok(Renewal::Unknown) };
    if row.try_get::<Option<i64>, _>("revoked_ms")?.is_some() {
        return Ok(Renewal::Revoked);
    }
    if row.try_get::<Option<i64>, _>("suspended_ms")?.is_some() {
        return Ok(Renewal::Suspended);
    }
    Ok(Renewal::Good(TenantId::parse(row.try_get("tenant")?)?))
}

/// Notes that a device got another certificate. False where it was revoked meanwhile.
pub(crate) async fn renewed(store: &Store, id: &DeviceId, now_ms: i64, not_after_ms: i64) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query("UPDATE device SET renewed_ms = $2, not_after_ms = $3 WHERE id = $1 AND revoked_ms IS NULL")
        .bind(id.as_str())
        .bind(now_ms)
        .bind(not_after_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// A tenant's devices, or everybody's, oldest first.
pub async fn list(store: &Store, tenant: Option<&TenantId>) -> Result<Vec<DeviceRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, tenant, name, created_ms, renewed_ms, not_after_ms, revoked_ms FROM device \
         WHERE $1 IS NULL OR tenant = $1 ORDER BY created_ms, id",
    )
    .bind(tenant.map(TenantId::as_str))
    .fetch_all(store.readers())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(DeviceRow {
                id: DeviceId::parse(row.try_get("id")?)?,
                tenant: TenantId::parse(row.try_get("tenant")?)?,
                name: row.try_get("name")?,
                created_ms: row.try_get("created_ms")?,
                renewed_ms: row.try_get("renewed_ms")?,
                not_after_ms: row.try_get("not_after_ms")?,
                revoked_ms: row.try_get("revoked_ms")?,
            })
        })
        .collect()
}

/// Revokes a device of a tenant. False where there is no such device that is still good.
pub async fn revoke(store: &Store, tenant: &TenantId, id: &DeviceId, now_ms: i64) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let done = sqlx::query("UPDATE device SET revoked_ms = $3 WHERE id = $1 AND tenant = $2 AND revoked_ms IS NULL")
        .bind(id.as_str())
        .bind(tenant.as_str())
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
