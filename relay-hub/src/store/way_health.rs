//! How ways out did lately: written by the hub that runs, read by commands beside it.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, millis};
use crate::{
    ids::WayId,
    way::{Connected, Health},
};

/// Notes how these ways do. Those that were removed meanwhile are left out.
pub async fn note(store: &Store, all: &[(WayId, Health)]) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    for (way, health) in all {
        let (failed, connected) = (health.failed.as_ref(), health.connected);
        sqlx::query(
            "INSERT OR REPLACE INTO way_health (way, is_down, failed_ms, failure, connected_ms, connect_us, tls_us) \
             SELECT id, $2, $3, $4, $5, $6, $7 FROM way_out WHERE id = $1",
        )
        .bind(way.as_str())
        .bind(health.is_down)
        .bind(failed.map(|(at, _)| millis(*at)))
        .bind(failed.map(|(_, reason)| reason))
        .bind(connected.map(|connected| millis(connected.at)))
        .bind(connected.map(|connected| micros(connected.connect)))
        .bind(connected.and_then(|connected| connected.tls).map(micros))
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// How each way did that was ever used.
pub async fn all(store: &Store) -> Result<HashMap<WayId, Health>, StoreError> {
    let rows = sqlx::query("SELECT way, is_down, failed_ms, failure, connected_ms, connect_us, tls_us FROM way_health")
        .fetch_all(store.readers())
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<(WayId, Health), StoreError> {
    let (failed_ms, failure): (Option<i64>, Option<String>) = (row.try_get("failed_ms")?, row.try_get("failure")?);
    let (connected_ms, connect): (Option<i64>, Option<i64>) =
        (row.try_get("connected_ms")?, row.try_get("connect_us")?);
    let tls: Option<i64> = row.try_get("tls_us")?;
    let health = Health {
        is_down: row.try_get("is_down")?,
        failed: failed_ms.map(moment).zip(failure),
        connected: connected_ms.map(moment).zip(connect).map(|(at, connect)| Connected {
            at,
            connect: span(connect),
            tls: tls.map(span),
        }),
    };
    Ok((WayId::parse(row.try_get("way")?)?, health))
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

fn moment(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}
