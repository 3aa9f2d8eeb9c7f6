//! Limits as operators set them: one row for each limit of a scope.

use std::collections::BTreeMap;

use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError};
use crate::limit::{Limit, Rule, Scope};

/// Sets some limits of a scope, takes others away, and leaves the rest. The rule as it is after that.
pub async fn change(
    store: &Store,
    scope: &Scope,
    set: &[(Limit, String)],
    take: &[Limit],
    now_ms: i64,
) -> Result<Rule, StoreError> {
    let mut tx = store.write().await?;
    let written = scope.to_string();
    for (limit, value) in set {
        sqlx::query(
            "INSERT INTO call_limit (scope, name, value, changed_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (scope, name) DO UPDATE SET value = excluded.value, changed_ms = excluded.changed_ms",
        )
        .bind(&written)
        .bind(limit.name())
        .bind(value)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    }
    for limit in take {
        sqlx::query("DELETE FROM call_limit WHERE scope = $1 AND name = $2")
            .bind(&written)
            .bind(limit.name())
            .execute(&mut *tx)
            .await?;
    }
    let rules = read_all(&mut tx).await?;
    tx.commit().await?;
    let rule = rules.into_iter().find(|rule| rule.scope == *scope);
    Ok(rule.unwrap_or_else(|| Rule::new(scope.clone())))
}

/// Every rule, by scope.
pub async fn list(store: &Store) -> Result<Vec<Rule>, StoreError> {
    read_all(&mut *store.readers().acquire().await?).await
}

/// The same on a connection whose transaction makes it one picture with other reads. A limit that cannot be read is
/// an error: nobody may call as if it were not there.
pub(crate) async fn read_all(connection: &mut SqliteConnection) -> Result<Vec<Rule>, StoreError> {
    let rows = sqlx::query("SELECT scope, name, value FROM call_limit ORDER BY scope, name")
        .fetch_all(connection)
        .await?;
    let mut rules = BTreeMap::new();
    for row in &rows {
        let (scope, name, value): (String, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let corrupt = || StoreError::Corrupt(format!("the limit {name} of {scope}"));
        let limit = Limit::parse(name).ok_or_else(corrupt)?;
        let rule = match rules.entry(scope.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(empty) => {
                empty.insert(Rule::new(Scope::parse(&scope).ok_or_else(corrupt)?))
            }
        };
        rule.put(limit, value).map_err(|_| corrupt())?;
    }
    Ok(rules.into_values().collect())
}
