//! What calls used, for the operator: call by call, or in sums. Reads only: the ledger writes these rows.

mod filter;
mod sums;

use relay_shared::call::CallId;
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

pub use self::{
    filter::Filter,
    sums::{Figures, Group, SumRow, Sums, sums},
};
use super::{Store, StoreError};
use crate::money::Nanos;

/// One call.
#[derive(Debug, Clone, serde::Serialize)]
pub struct CallRow {
    /// The number of its row.
    #[serde(skip)]
    pub number: i64,
    /// The number of its hold, where it had one.
    #[serde(skip)]
    pub hold: Option<i64>,
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
    /// The tenant's project it was for.
    pub project: Option<String>,
    /// The vendor account's id.
    pub account: Option<String>,
    /// Its name.
    pub account_name: Option<String>,
    /// The way out.
    pub egress: Option<String>,
    /// The address of this machine that it left by.
    pub local_address: Option<String>,
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

/// How many calls there are rows of.
pub async fn count(store: &Store) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT count(*) FROM usage")
        .fetch_one(store.readers())
        .await?;
    Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
}

/// Where a page of calls begins: after this row.
#[derive(Debug, Clone, Copy)]
pub struct After {
    at_ms: i64,
    number: i64,
}

impl CallRow {
    /// The place of this row in a list.
    pub const fn place(&self) -> After {
        After {
            at_ms: self.at_ms,
            number: self.number,
        }
    }
}

/// At most `count` calls, the last one first. Whoever wants all of them asks page by page, so that a reader who pauses
/// keeps nothing in memory and holds up no checkpoint of the database.
pub async fn page(
    store: &Store,
    filter: &Filter,
    after: Option<After>,
    count: u32,
) -> Result<Vec<CallRow>, StoreError> {
    let mut sql = QueryBuilder::<Sqlite>::new(CALLS);
    filter.push(&mut sql);
    match (&filter.tenant, after) {
        // The order of the index by tenant; without a tenant, of the table itself: neither sorts.
        (Some(_), after) => {
            if let Some(After { at_ms, number }) = after {
                sql.push(" AND (u.at_ms, u.seq) < (").push_bind(at_ms);
                sql.push(", ").push_bind(number).push(")");
            }
            sql.push(" ORDER BY u.at_ms DESC, u.seq DESC");
        }
        (None, after) => {
            if let Some(After { number, .. }) = after {
                sql.push(" AND u.seq < ").push_bind(number);
            }
            sql.push(" ORDER BY u.seq DESC");
        }
    }
    sql.push(" LIMIT ").push_bind(count);
    let rows = sql.build().fetch_all(store.readers()).await?;
    rows.iter().map(CallRow::read).collect()
}

/// The calls that have this id: their own, the vendor's or the answer's; at most ten. Looks through the whole table,
/// since an index of random ids would cost every call more than it saves here.
pub async fn find(store: &Store, id: &str) -> Result<Vec<CallRow>, StoreError> {
    let mut sql = QueryBuilder::<Sqlite>::new(CALLS);
    match CallId::parse(id) {
        Some(call) => {
            sql.push(" AND u.call = ").push_bind(call.as_bytes().to_vec());
        }
        None => {
            sql.push(" AND (u.vendor_request_id = ").push_bind(id.to_owned());
            sql.push(" OR u.response_id = ").push_bind(id.to_owned()).push(")");
        }
    }
    sql.push(" ORDER BY u.seq LIMIT 10");
    let rows = sql.build().fetch_all(store.readers()).await?;
    rows.iter().map(CallRow::read).collect()
}

/// What is held for a call that runs.
pub async fn held(store: &Store, call: CallId) -> Result<Option<Nanos>, StoreError> {
    let row = sqlx::query("SELECT amount FROM hold WHERE call = $1")
        .bind(call.as_bytes().to_vec())
        .fetch_optional(store.readers())
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.map(Nanos::new))
}

const CALLS: &str = "SELECT u.*, lower(hex(u.call)) AS call_hex, json_extract(u.detail, '$.project') AS project, \
    t.name AS tenant_name, a.name AS account_name \
    FROM usage u LEFT JOIN tenant t ON t.id = u.tenant LEFT JOIN vendor_account a ON a.id = u.account WHERE true";

/// A row's detail but for the project, which has a place of its own.
fn rare(text: &str) -> Option<serde_json::Value> {
    let mut detail: serde_json::Map<_, _> = serde_json::from_str(text).ok()?;
    detail.remove("project");
    (!detail.is_empty()).then_some(detail.into())
}

impl CallRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            number: row.try_get("seq")?,
            hold: row.try_get("hold")?,
            account_name: row.try_get("account_name")?,
            call: row.try_get("call_hex")?,
            at_ms: row.try_get("at_ms")?,
            tenant: row.try_get("tenant")?,
            tenant_name: row.try_get("tenant_name")?,
            by: row.try_get("caller")?,
            project: row.try_get("project")?,
            account: row.try_get("account")?,
            egress: row.try_get("egress")?,
            local_address: row.try_get("local_address")?,
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
            detail: row.try_get::<Option<String>, _>("detail")?.and_then(|text| rare(&text)),
        })
    }
}

#[cfg(test)]
mod tests;
