//! Which call an `Idempotency-Key` stands for. Knows rows, not what they mean for a caller.

use relay_shared::call::CallId;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError};
use crate::money::Nanos;

/// Whose key it is, and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// A key's or a device's id.
    pub caller: String,
    /// Of the key's text.
    pub hash: [u8; 32],
}

/// What is written of a call before it leaves.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Under which it can be found.
    pub name: Name,
    /// SHA-256 of path and body.
    pub request: [u8; 32],
    /// The call.
    pub call: CallId,
    /// The number of its hold.
    pub number: i64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// A call that was found again.
#[derive(Debug, Clone)]
pub struct Known {
    /// SHA-256 of path and body.
    pub request: [u8; 32],
    /// The call.
    pub call: CallId,
    /// The start of the hub that ran it.
    pub epoch: i64,
    /// When it was booked; none while the tables do not have its end.
    pub end: Option<End>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The ending's name.
    pub ending: String,
    /// The status the client saw.
    pub status: i64,
    /// The model asked for.
    pub model: String,
    /// Input, cached, output, reasoning; none where nothing was counted.
    pub tokens: Option<[i64; 4]>,
    /// What the tenant paid.
    pub charged: Nanos,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Whether the vendor answered at all.
    pub is_answered: bool,
}

/// A change of the table.
#[derive(Debug, Clone)]
pub enum Change {
    /// The key stands for this call from now on.
    Take(Entry),
    /// The call never left: its key stands for nothing.
    Free(Name, CallId),
}

/// The call of that name, if it is not older than `since_ms`.
pub async fn find(store: &Store, name: &Name, since_ms: i64) -> Result<Option<Known>, StoreError> {
    let row = sqlx::query(FIND)
        .bind(&name.caller)
        .bind(name.hash.to_vec())
        .bind(since_ms)
        .fetch_optional(store.readers())
        .await?;
    row.as_ref().map(read).transpose()
}

/// Makes these changes in one transaction, unless a later hub than that of `epoch` has taken over; true where done.
pub async fn write(store: &Store, epoch: i64, changes: &[Change]) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let row = sqlx::query("SELECT epoch FROM hub").fetch_one(&mut *tx).await?;
    if row.try_get::<i64, _>(0)? != epoch {
        return Ok(false);
    }
    for change in changes {
        match change {
            Change::Take(entry) => sqlx::query(TAKE)
                .bind(&entry.name.caller)
                .bind(entry.name.hash.to_vec())
                .bind(entry.request.to_vec())
                .bind(entry.call.as_bytes().to_vec())
                .bind(entry.number)
                .bind(epoch)
                .bind(entry.at_ms),
            Change::Free(name, call) => {
                sqlx::query("DELETE FROM idempotency WHERE caller = $1 AND name = $2 AND call = $3")
                    .bind(&name.caller)
                    .bind(name.hash.to_vec())
                    .bind(call.as_bytes().to_vec())
            }
        }
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Forgets what is older than `since_ms`, some at a time; true where there may be more.
pub async fn sweep(store: &Store, since_ms: i64) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let gone = sqlx::query(SWEEP)
        .bind(since_ms)
        .bind(AT_ONCE)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(gone.rows_affected() == u64::from(AT_ONCE))
}

fn read(row: &SqliteRow) -> Result<Known, StoreError> {
    let corrupt = || StoreError::Corrupt("an idempotency row".to_owned());
    let tokens = |input: i64| -> Result<[i64; 4], sqlx::Error> {
        Ok([
            input,
            row.try_get("cached")?,
            row.try_get("output")?,
            row.try_get("reasoning")?,
        ])
    };
    let end = match row.try_get::<Option<String>, _>("ending")? {
        None => None,
        Some(ending) => Some(End {
            ending,
            status: row.try_get("status")?,
            model: row.try_get("model")?,
            tokens: row.try_get::<Option<i64>, _>("input")?.map(tokens).transpose()?,
            charged: Nanos::new(row.try_get("charged")?),
            at_ms: row.try_get("ended_ms")?,
            is_answered: row.try_get::<Option<i64>, _>("first_byte_us")?.is_some(),
        }),
    };
    let request: &[u8] = row.try_get("request")?;
    let call: &[u8] = row.try_get("call")?;
    Ok(Known {
        request: request.try_into().map_err(|_| corrupt())?,
        call: CallId::from_bytes(call.try_into().map_err(|_| corrupt())?),
        epoch: row.try_get("epoch")?,
        end,
    })
}

/// A number may be given twice where a machine died; a call is booked under its own.
const FIND: &str = "SELECT i.request, i.call, i.epoch, u.ending, u.status, u.model, u.input, u.cached, u.output, \
    u.reasoning, u.charged, u.at_ms AS ended_ms, u.first_byte_us \
    FROM idempotency i LEFT JOIN usage u ON u.seq = i.number AND u.call = i.call \
    WHERE i.caller = $1 AND i.name = $2 AND i.at_ms >= $3";
const TAKE: &str = "REPLACE INTO idempotency (caller, name, request, call, number, epoch, at_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const SWEEP: &str = "DELETE FROM idempotency WHERE (caller, name) IN \
    (SELECT caller, name FROM idempotency WHERE at_ms < $1 LIMIT $2)";
const AT_ONCE: u32 = 1000;
