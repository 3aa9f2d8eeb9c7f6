//! Brings a database to the schema of this version, and refuses a later one.

use sqlx::{Row as _, sqlite::SqliteConnection};

use super::StoreError;

/// Each step takes the schema from its index to the next.
const STEPS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema/usage_detail.sql"),
    include_str!("schema/prices.sql"),
    include_str!("schema/journal.sql"),
    include_str!("schema/limits.sql"),
    include_str!("schema/idempotency.sql"),
    include_str!("schema/on_abort.sql"),
    include_str!("schema/chain_end.sql"),
    include_str!("schema/ways.sql"),
    include_str!("schema/credit.sql"),
    include_str!("schema/codes.sql"),
    include_str!("schema/plans.sql"),
    include_str!("schema/extend.sql"),
    include_str!("schema/seal.sql"),
    include_str!("schema/accounts.sql"),
    include_str!("schema/nodes.sql"),
    include_str!("schema/way_health.sql"),
    include_str!("schema/routing.sql"),
    include_str!("schema/credentials.sql"),
    include_str!("schema/personal.sql"),
    include_str!("schema/models.sql"),
    include_str!("schema/disabled_until.sql"),
    include_str!("schema/app_tokens.sql"),
    include_str!("schema/tenant_home.sql"),
    include_str!("schema/pinned.sql"),
    include_str!("schema/way_owner.sql"),
];

#[cfg(test)]
pub(super) fn steps() -> impl Iterator<Item = &'static str> {
    STEPS.iter().copied()
}

/// Applies what is missing, each step in one transaction.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let found = version(connection).await?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for step in found..known {
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        // Another process may have taken this step meanwhile.
        if version(connection).await? == step {
            let sql = usize::try_from(step)
                .ok()
                .and_then(|at| STEPS.get(at))
                .copied()
                .unwrap_or_default();
            sqlx::raw_sql(sql).execute(&mut *connection).await?;
            let next = format!("PRAGMA user_version = {}", step.saturating_add(1));
            sqlx::raw_sql(sqlx::AssertSqlSafe(next))
                .execute(&mut *connection)
                .await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
    }
    Ok(())
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query("PRAGMA user_version")
        .fetch_one(connection)
        .await?
        .try_get(0)?)
}
