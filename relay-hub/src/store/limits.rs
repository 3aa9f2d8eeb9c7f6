//! Limits as operators set them: one row for each limit of a scope.

use std::collections::BTreeMap;

use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError};
use crate::{
    ids::TenantId,
    limit::{Limit, Rule, Scope},
    money::Nanos,
};

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

/// What was charged to calls that have all this in common.
#[derive(Debug, Clone)]
pub(crate) struct Charged {
    pub(crate) tenant: TenantId,
    /// The key or the device.
    pub(crate) caller: String,
    pub(crate) endpoint: String,
    pub(crate) model: String,
    pub(crate) upstream_model: String,
    /// The part of the tenant's calls, and the plan of the app token.
    pub(crate) project: Option<String>,
    pub(crate) plan: Option<String>,
    pub(crate) today: Nanos,
    pub(crate) this_month: Nanos,
}

/// The sums of all calls booked since two moments, milliseconds since 1970, of which the month began first.
pub(crate) async fn charged(store: &Store, day_ms: i64, month_ms: i64) -> Result<Vec<Charged>, StoreError> {
    let mut connection = store.readers().acquire().await?;
    let first = first_since(&mut connection, month_ms.saturating_sub(SLACK_MS)).await?;
    let rows = sqlx::query(
        "SELECT tenant, caller, endpoint, model, upstream_model, sum(iif(at_ms >= $1, charged, 0)), sum(charged), \
         json_extract(detail, '$.project') AS project, json_extract(detail, '$.plan') AS plan \
         FROM usage WHERE seq >= $3 AND at_ms >= $2 AND charged > 0 \
         GROUP BY tenant, caller, endpoint, model, upstream_model, project, plan",
    )
    .bind(day_ms)
    .bind(month_ms)
    .bind(first)
    .fetch_all(&mut *connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Charged {
                tenant: TenantId::parse(row.try_get(0)?)?,
                caller: row.try_get(1)?,
                endpoint: row.try_get(2)?,
                model: row.try_get(3)?,
                upstream_model: row.try_get(4)?,
                today: Nanos::new(row.try_get(5)?),
                this_month: Nanos::new(row.try_get(6)?),
                project: row.try_get(7)?,
                plan: row.try_get(8)?,
            })
        })
        .collect()
}

/// The number of about the first row booked at a moment or later. Rows are numbered as their calls began, so that no
/// index is needed, which every call would have to pay for.
async fn first_since(connection: &mut SqliteConnection, at_ms: i64) -> Result<i64, StoreError> {
    let last: i64 = sqlx::query("SELECT coalesce(max(seq), 0) FROM usage")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let (mut low, mut high) = (0, last.saturating_add(1));
    while low < high {
        let middle = low.midpoint(high);
        let row = sqlx::query("SELECT seq, at_ms FROM usage WHERE seq >= $1 ORDER BY seq LIMIT 1")
            .bind(middle)
            .fetch_optional(&mut *connection)
            .await?;
        match row {
            Some(row) if row.try_get::<i64, _>(1)? < at_ms => low = row.try_get::<i64, _>(0)?.saturating_add(1),
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

/// A call that ran for less, or a clock that was set back by less, is not left out.
const SLACK_MS: i64 = 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::KeyId,
        store::{tenants, testing::TestHub},
    };

    #[tokio::test]
    async fn a_rule_is_what_was_set_less_what_was_taken() {
        let hub = TestHub::bare().await;
        let scope = Scope::Tenant(tenants::add(&hub.store, "acme", 1).await.unwrap());
        let set = [(Limit::MaxOutput, "5".to_owned()), (Limit::DailySpend, "2".to_owned())];
        change(&hub.store, &scope, &set, &[], 1).await.unwrap();
        let rule = change(
            &hub.store,
            &scope,
            &[(Limit::DailySpend, "3".into())],
            &[Limit::MaxOutput],
            2,
        )
        .await;
        assert_eq!(rule.unwrap().text(Limit::DailySpend).as_deref(), Some("3.00"));
        let rules = list(&hub.store).await.unwrap();
        assert_eq!((rules.len(), rules[0].max_output), (1, None));
        change(&hub.store, &scope, &[], &Limit::ALL, 3).await.unwrap();
        assert!(list(&hub.store).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_limit_that_cannot_be_read_is_not_passed_over() {
        let hub = TestHub::bare().await;
        for (scope, name, value) in [
            ("global", "speed", "1"),
            ("tenant:x", "max_output", "1"),
            ("global", "max_output", "x"),
        ] {
            let mut tx = hub.store.write().await.unwrap();
            sqlx::query("INSERT INTO call_limit VALUES ($1, $2, $3, 1)")
                .bind(scope)
                .bind(name)
                .bind(value)
                .execute(&mut *tx)
                .await
                .unwrap();
            assert!(
                matches!(read_all(&mut tx).await, Err(StoreError::Corrupt(_))),
                "{scope} {name} {value}"
            );
        }
    }

    #[tokio::test]
    async fn charges_are_summed_from_the_first_row_of_the_month_and_of_the_day() {
        let hub = TestHub::bare().await;
        let (tenant, key) = (TenantId::random(), KeyId::random());
        let mut tx = hub.store.write().await.unwrap();
        // Numbers with gaps, and a clock that went back once.
        for (seq, at, charged) in [
            (3, 10, 1),
            (7, 99, 2),
            (8, 100, 4),
            (20, 150, 8),
            (21, 149, 16),
            (90, 500, 32),
        ] {
            sqlx::query(
                "INSERT INTO usage (seq, at_ms, call, tenant, caller, endpoint, model, upstream_model, cost, charged, \
                 price_version, status, ending, started_ms, link, streamed) \
                 VALUES ($1, $2, x'00', $3, $4, '/v1/responses', 'm', 'm', $5, $5, 1, 200, 'completed', 0, '', 0)",
            )
            .bind(seq)
            .bind(at + SLACK_MS)
            .bind(tenant.as_str())
            .bind(key.as_str())
            .bind(charged)
            .execute(&mut *tx)
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();
        let sums = charged(&hub.store, 150 + SLACK_MS, 100 + SLACK_MS).await.unwrap();
        assert_eq!(sums.len(), 1);
        assert_eq!((sums[0].today, sums[0].this_month), (Nanos::new(40), Nanos::new(60)));
        let mut connection = hub.store.readers().acquire().await.unwrap();
        for (at, first) in [(0, 0), (11, 4), (99, 4), (101, 9), (500, 22), (501, 91)] {
            assert_eq!(
                first_since(&mut connection, at + SLACK_MS).await.unwrap(),
                first,
                "{at}"
            );
        }
    }
}
