//! What calls used, for the operator. Reads only: the ledger writes these rows.

use sqlx::Row as _;

use super::{Store, StoreError};
use crate::{ids::TenantId, money::Nanos};

/// One call.
#[derive(Debug, Clone, serde::Serialize)]
pub struct CallRow {
    /// The call's id, hexadecimal.
    pub call: String,
    /// When it was booked, milliseconds since 1970.
    pub at_ms: i64,
    /// Who pays: the tenant's id.
    pub tenant: String,
    /// Its name.
    pub tenant_name: Option<String>,
    /// The key or device it came with.
    pub by: String,
    /// The vendor account's id.
    pub account: Option<String>,
    /// The way out.
    pub egress: Option<String>,
    /// Canonical path.
    pub endpoint: String,
    /// The model asked for.
    pub model: String,
    /// The model at the vendor.
    pub upstream_model: String,
    /// Input tokens, cached ones included.
    pub input: Option<i64>,
    /// Input tokens from the vendor's cache.
    pub cached: Option<i64>,
    /// Input tokens written to the vendor's cache.
    pub cache_write: Option<i64>,
    /// Output tokens, reasoning included.
    pub output: Option<i64>,
    /// Reasoning tokens.
    pub reasoning: Option<i64>,
    /// `reported` by the vendor or `estimated` by us.
    pub usage_source: Option<String>,
    /// What was set aside, where anything was.
    pub held: Option<Nanos>,
    /// By the price list.
    pub cost: Nanos,
    /// The same in billionths.
    pub cost_nanos: i64,
    /// What the tenant paid.
    pub charged: Nanos,
    /// The same in billionths.
    pub charged_nanos: i64,
    /// Of the price list.
    pub price_version: i64,
    /// What the client saw.
    pub status: i64,
    /// How it ended.
    pub ending: String,
    /// When it came, milliseconds since 1970.
    pub started_ms: i64,
    /// Until the hold was granted, microseconds.
    pub hold_us: Option<i64>,
    /// Until the vendor's first byte, microseconds.
    pub first_byte_us: Option<i64>,
    /// Until its end, microseconds.
    pub total_us: Option<i64>,
    /// The vendor's own id.
    pub vendor_request_id: Option<String>,
    /// The answer's id.
    pub response_id: Option<String>,
    /// How the client came.
    pub link: String,
    /// Whether the answer was a stream.
    pub streamed: bool,
    /// What hardly any call has: counts by modality, tool calls, the service tier, flags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

/// Sums of a tenant and a model.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TotalRow {
    /// The tenant's name.
    pub tenant: String,
    /// The model asked for.
    pub model: String,
    /// How many calls.
    pub calls: i64,
    /// Input tokens.
    pub input: i64,
    /// Input tokens from the vendor's cache.
    pub cached: i64,
    /// Output tokens.
    pub output: i64,
    /// By the price list.
    pub cost: Nanos,
    /// What the tenant paid.
    pub charged: Nanos,
    /// How many bills an operator should look at: usage that was missing or nonsense, or used what has no price.
    pub flagged: i64,
}

/// How many calls there are rows of.
pub async fn count(store: &Store) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT count(*) FROM usage")
        .fetch_one(store.readers())
        .await?;
    Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
}

/// The last calls, the one that began last first.
pub async fn last(store: &Store, tenant: Option<&TenantId>, count: u32) -> Result<Vec<CallRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT u.*, lower(hex(u.call)) AS call_hex, t.name AS tenant_name \
         FROM usage u LEFT JOIN tenant t ON t.id = u.tenant WHERE $1 IS NULL OR u.tenant = $1 \
         ORDER BY u.seq DESC LIMIT $2",
    )
    .bind(tenant.map(TenantId::as_str))
    .bind(count)
    .fetch_all(store.readers())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(CallRow {
                call: row.try_get("call_hex")?,
                at_ms: row.try_get("at_ms")?,
                tenant: row.try_get("tenant")?,
                tenant_name: row.try_get("tenant_name")?,
                by: row.try_get("caller")?,
                account: row.try_get("account")?,
                egress: row.try_get("egress")?,
                endpoint: row.try_get("endpoint")?,
                model: row.try_get("model")?,
                upstream_model: row.try_get("upstream_model")?,
                input: row.try_get("input")?,
                cached: row.try_get("cached")?,
                cache_write: row.try_get("cache_write")?,
                output: row.try_get("output")?,
                reasoning: row.try_get("reasoning")?,
                usage_source: row.try_get("source")?,
                held: row.try_get::<Option<i64>, _>("held")?.map(Nanos::new),
                cost: Nanos::new(row.try_get("cost")?),
                cost_nanos: row.try_get("cost")?,
                charged: Nanos::new(row.try_get("charged")?),
                charged_nanos: row.try_get("charged")?,
                price_version: row.try_get("price_version")?,
                status: row.try_get("status")?,
                ending: row.try_get("ending")?,
                started_ms: row.try_get("started_ms")?,
                hold_us: row.try_get("hold_us")?,
                first_byte_us: row.try_get("first_byte_us")?,
                total_us: row.try_get("total_us")?,
                vendor_request_id: row.try_get("vendor_request_id")?,
                response_id: row.try_get("response_id")?,
                link: row.try_get("link")?,
                streamed: row.try_get("streamed")?,
                detail: row
                    .try_get::<Option<String>, _>("detail")?
                    .and_then(|text| serde_json::from_str(&text).ok()),
            })
        })
        .collect()
}

/// Sums by tenant and model.
pub async fn totals(store: &Store, tenant: Option<&TenantId>) -> Result<Vec<TotalRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT coalesce(t.name, u.tenant) AS name, u.model, count(*), coalesce(sum(u.input), 0), \
         coalesce(sum(u.cached), 0), coalesce(sum(u.output), 0), sum(u.cost), sum(u.charged), \
         count(json_extract(u.detail, '$.flags')) \
         FROM usage u LEFT JOIN tenant t ON t.id = u.tenant WHERE $1 IS NULL OR u.tenant = $1 \
         GROUP BY u.tenant, u.model ORDER BY name, u.model",
    )
    .bind(tenant.map(TenantId::as_str))
    .fetch_all(store.readers())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(TotalRow {
                tenant: row.try_get(0)?,
                model: row.try_get(1)?,
                calls: row.try_get(2)?,
                input: row.try_get(3)?,
                cached: row.try_get(4)?,
                output: row.try_get(5)?,
                cost: Nanos::new(row.try_get(6)?),
                charged: Nanos::new(row.try_get(7)?),
                flagged: row.try_get(8)?,
            })
        })
        .collect()
}
