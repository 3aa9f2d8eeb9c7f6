//! Plans, and who is on one. Giving what they promise is the business of `credit`.

use std::collections::HashMap;

use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError};
use crate::{ids::TenantId, money::Nanos};

/// A plan. It is never changed: another one has another name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// The operator's name for it.
    pub name: String,
    /// Given each calendar month, UTC; what is left of it goes back at its end.
    pub monthly: Nanos,
    /// Given each day, UTC; what is left of it goes back at its end.
    pub daily: Nanos,
    /// Given once, when a tenant comes to the plan; it does not end.
    pub free: Nanos,
    /// The model that serves when nothing is left; none: calls are refused.
    pub downgrade: Option<String>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

/// A plan as commands show it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PlanRow {
    /// What it promises.
    #[serde(flatten)]
    pub plan: Plan,
    /// How many are on it.
    pub tenants: i64,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It was made.
    Done,
    /// It was so already.
    Already,
    /// There is no plan of that name.
    Unknown,
    /// There is one of that name, or tenants are on it.
    Taken,
}

/// Adds a plan, unless there is one of its name.
pub async fn add(store: &Store, plan: &Plan) -> Result<Changed, StoreError> {
    let mut tx = store.write().await?;
    let added = sqlx::query(
        "INSERT INTO plan (name, monthly, daily, free, downgrade, created_ms) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(&plan.name)
    .bind(plan.monthly.get())
    .bind(plan.daily.get())
    .bind(plan.free.get())
    .bind(&plan.downgrade)
    .bind(plan.created_ms)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(if added.rows_affected() == 1 {
        Changed::Done
    } else {
        Changed::Taken
    })
}

/// All plans by name.
pub async fn list(store: &Store) -> Result<Vec<PlanRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT name, monthly, daily, free, downgrade, created_ms, \
         (SELECT count(*) FROM tenant_plan WHERE plan = name) AS tenants FROM plan ORDER BY name",
    )
    .fetch_all(store.readers())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(PlanRow {
                plan: Plan {
                    name: row.try_get("name")?,
                    monthly: Nanos::new(row.try_get("monthly")?),
                    daily: Nanos::new(row.try_get("daily")?),
                    free: Nanos::new(row.try_get("free")?),
                    downgrade: row.try_get("downgrade")?,
                    created_ms: row.try_get("created_ms")?,
                },
                tenants: row.try_get("tenants")?,
            })
        })
        .collect()
}

/// Removes a plan that nobody is on.
pub async fn remove(store: &Store, name: &str) -> Result<Changed, StoreError> {
    let mut tx = store.write().await?;
    let known = sqlx::query("SELECT (SELECT count(*) FROM tenant_plan WHERE plan = name) FROM plan WHERE name = $1")
        .bind(name)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(known) = known else {
        return Ok(Changed::Unknown);
    };
    if known.try_get::<i64, _>(0)? > 0 {
        return Ok(Changed::Taken);
    }
    sqlx::query("DELETE FROM plan WHERE name = $1")
        .bind(name)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Changed::Done)
}

/// Puts a tenant on a plan, or takes it off its own.
pub async fn assign(store: &Store, tenant: &TenantId, plan: Option<&str>, now_ms: i64) -> Result<Changed, StoreError> {
    let mut tx = store.write().await?;
    let done = match plan {
        None => {
            let gone = sqlx::query("DELETE FROM tenant_plan WHERE tenant = $1").bind(tenant.as_str());
            gone.execute(&mut *tx).await?
        }
        Some(plan) => {
            let known = sqlx::query("SELECT 1 FROM plan WHERE name = $1").bind(plan);
            if known.fetch_optional(&mut *tx).await?.is_none() {
                return Ok(Changed::Unknown);
            }
            sqlx::query(
                "INSERT INTO tenant_plan (tenant, plan, since_ms) VALUES ($1, $2, $3) ON CONFLICT (tenant) DO UPDATE \
                 SET plan = excluded.plan, since_ms = excluded.since_ms, month = '', day = '', free = 0 \
                 WHERE plan <> excluded.plan",
            )
            .bind(tenant.as_str())
            .bind(plan)
            .bind(now_ms)
            .execute(&mut *tx)
            .await?
        }
    };
    tx.commit().await?;
    Ok(if done.rows_affected() == 1 {
        Changed::Done
    } else {
        Changed::Already
    })
}

/// Which model serves which tenant when nothing is left.
pub(crate) async fn downgrades(connection: &mut SqliteConnection) -> Result<HashMap<TenantId, String>, StoreError> {
    let rows = sqlx::query(
        "SELECT t.tenant, p.downgrade FROM tenant_plan t JOIN plan p ON p.name = t.plan WHERE p.downgrade IS NOT NULL",
    );
    let rows = rows.fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok((TenantId::parse(row.try_get(0)?)?, row.try_get(1)?)))
        .collect()
}

/// The revision of all that an operator changes.
pub(crate) async fn revision(store: &Store) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT revision FROM hub")
        .fetch_one(store.readers())
        .await?;
    Ok(row.try_get(0)?)
}
