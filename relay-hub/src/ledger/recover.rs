//! Taking over the books at start: a new epoch fences what an earlier hub left, and its open holds are released.

use sqlx::{Connection as _, Row as _};

use crate::store::{Store, StoreError, millis};

/// What the start found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recovered {
    /// The epoch of this start.
    pub(super) epoch: i64,
    /// How many open holds were released.
    pub(super) holds: u64,
    /// The number of the last hold.
    pub(super) last_hold: i64,
}

/// One transaction. Nobody saw the end of these answers, so nobody is charged for them.
pub(super) async fn take_over(store: &Store) -> Result<Recovered, StoreError> {
    let now_ms = millis(std::time::SystemTime::now());
    let mut connection = store.connection().await?;
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let epoch = sqlx::query("UPDATE hub SET epoch = epoch + 1 RETURNING epoch")
        .fetch_one(&mut *tx)
        .await?
        .try_get(0)?;
    sqlx::query(RELEASE_ROWS).bind(now_ms).execute(&mut *tx).await?;
    sqlx::query(RELEASE_HELD).execute(&mut *tx).await?;
    let released = sqlx::query("UPDATE hold SET state = 2 WHERE state = 0")
        .execute(&mut *tx)
        .await?;
    let last_hold = sqlx::query("SELECT coalesce(max(id), 0) FROM hold")
        .fetch_one(&mut *tx)
        .await?
        .try_get(0)?;
    tx.commit().await?;
    connection.close().await?;
    Ok(Recovered {
        epoch,
        holds: released.rows_affected(),
        last_hold,
    })
}

const RELEASE_ROWS: &str = "INSERT INTO usage (at_ms, call, hold, tenant, caller, endpoint, model, upstream_model, cost, \
    charged, price_version, status, ending, started_ms, link, streamed) \
    SELECT $1, call, id, tenant, caller, '', model, '', 0, 0, price_version, 0, 'recovered', at_ms, '', 0 \
    FROM hold WHERE state = 0";
const RELEASE_HELD: &str = "UPDATE account SET held = held - open.sum \
    FROM (SELECT tenant, sum(amount) AS sum FROM hold WHERE state = 0 GROUP BY tenant) AS open \
    WHERE account.id = open.tenant";
