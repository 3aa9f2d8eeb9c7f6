//! What single tenants pay otherwise than by the list: prices of their own and a factor. Immutable rows as well.

use std::{collections::HashMap, sync::Arc};

use sqlx::{Row as _, SqliteConnection};

use super::{PriceRow, Store, StoreError, last_version, parse, read, written};
use crate::{
    ids::TenantId,
    money::{Offer, Price, Times},
};

/// What a tenant pays otherwise than by the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// How many times the list's price, for models without a price of its own.
    pub times: Times,
    /// Since which version; 0 where it was never set.
    pub times_version: i64,
    /// Prices of its own, by the vendor's model name; `None` for a model that is priced by the list again.
    pub own: HashMap<String, (i64, Option<Arc<Price>>)>,
}

impl Terms {
    /// What the tenant pays for a model that the list has at `listed`.
    pub fn offer(&self, model: &str, listed: &Arc<Price>) -> Offer {
        let own = self.own.get(model);
        if let Some((version, Some(price))) = own {
            return Offer {
                price: price.clone(),
                times: Times::ONE,
                version: *version,
            };
        }
        let since = own.map_or(0, |(version, _)| *version);
        Offer {
            price: listed.clone(),
            times: self.times,
            version: listed.version.max(since).max(self.times_version),
        }
    }
}

/// Gives a tenant a price of its own for a model, or the list's again. Says the version.
pub async fn set_price(
    store: &Store,
    tenant: &TenantId,
    model: &str,
    price: Option<&Price>,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let mut tx = store.write().await?;
    let version = last_version(&mut tx).await?.saturating_add(1);
    sqlx::query("INSERT INTO tenant_price (version, tenant, model, price, at_ms) VALUES ($1, $2, $3, $4, $5)")
        .bind(version)
        .bind(tenant.as_str())
        .bind(model)
        .bind(price.map(written).transpose()?)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(version)
}

/// Says how many times the list's price a tenant pays. Says the version.
pub async fn set_times(store: &Store, tenant: &TenantId, times: Times, now_ms: i64) -> Result<i64, StoreError> {
    let mut tx = store.write().await?;
    let version = last_version(&mut tx).await?.saturating_add(1);
    sqlx::query("INSERT INTO tenant_times (version, tenant, millionths, at_ms) VALUES ($1, $2, $3, $4)")
        .bind(version)
        .bind(tenant.as_str())
        .bind(i64::from(times.millionths()))
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(version)
}

/// A tenant's terms.
pub async fn find(store: &Store, tenant: &TenantId) -> Result<Terms, StoreError> {
    let mut all = read_all(&mut *store.readers().acquire().await?, i64::MAX).await?;
    Ok(all.remove(tenant).unwrap_or_default())
}

/// What a tenant paid for a model (by the vendor's name) at the version that a charge names; `None` where the model
/// had no price then.
pub async fn at(store: &Store, tenant: &TenantId, model: &str, version: i64) -> Result<Option<Offer>, StoreError> {
    let mut tx = store.readers().begin().await?;
    let listed = sqlx::query("SELECT *, max(version) FROM price WHERE model = $1 AND version <= $2 GROUP BY model")
        .bind(model)
        .bind(version)
        .fetch_optional(&mut *tx)
        .await?;
    let terms = read_all(&mut tx, version).await?.remove(tenant).unwrap_or_default();
    tx.commit().await?;
    let Some(row) = listed else { return Ok(None) };
    let PriceRow { price, .. } = read(&row)?;
    Ok(Some(terms.offer(model, &Arc::new(price))))
}

/// Every tenant's terms as they were at a version, on a connection whose transaction makes it one picture.
pub(crate) async fn read_all(
    connection: &mut SqliteConnection,
    version: i64,
) -> Result<HashMap<TenantId, Terms>, StoreError> {
    let mut all: HashMap<TenantId, Terms> = HashMap::new();
    let own = sqlx::query(
        "SELECT max(version) AS version, tenant, model, price FROM tenant_price WHERE version <= $1 \
         GROUP BY tenant, model",
    );
    for row in own.bind(version).fetch_all(&mut *connection).await? {
        let since = row.try_get("version")?;
        let text: Option<&str> = row.try_get("price")?;
        let price = text.map(|text| parse(since, text)).transpose()?.map(Arc::new);
        let terms = all.entry(TenantId::parse(row.try_get("tenant")?)?).or_default();
        terms.own.insert(row.try_get("model")?, (since, price));
    }
    let times = sqlx::query(
        "SELECT max(version) AS version, tenant, millionths FROM tenant_times WHERE version <= $1 GROUP BY tenant",
    );
    for row in times.bind(version).fetch_all(&mut *connection).await? {
        let terms = all.entry(TenantId::parse(row.try_get("tenant")?)?).or_default();
        terms.times_version = row.try_get("version")?;
        let found = Times::from_millionths(row.try_get("millionths")?);
        terms.times = found.ok_or_else(|| StoreError::Corrupt("a tenant's factor".to_owned()))?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
