//! What moved between accounts, for the operator. Reads only: the ledger writes these rows.

use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::{Store, StoreError};
use crate::{ids::TenantId, money::Nanos};

/// One transfer.
#[derive(Debug, Clone, Serialize)]
pub struct TransferRow {
    /// Its number in the chain.
    pub seq: i64,
    /// When it was booked, milliseconds since 1970.
    pub at_ms: i64,
    /// Why, such as `charge`, `loss`, `credit`.
    pub kind: String,
    /// The account it was taken from: a tenant's id, or one of the hub's own.
    pub debit: String,
    /// The account it was given to.
    pub credit: String,
    /// The name of the tenant on either side.
    pub tenant_name: Option<String>,
    /// How much.
    pub amount: Nanos,
    /// The same in billionths.
    pub amount_nanos: i64,
    /// The call's id, of a charge or a loss.
    pub call: Option<String>,
    /// Under which it was booked once.
    pub reference: Option<String>,
    /// The operator's note.
    pub note: String,
    /// Its hash in the chain, hexadecimal.
    pub hash: String,
}

/// Which transfers a question is about; what is not named does not narrow.
#[derive(Debug, Clone, Default)]
pub struct TransferFilter {
    /// On either side.
    pub tenant: Option<TenantId>,
    /// The kind.
    pub kind: Option<String>,
    /// Booked then or later, milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Booked before then.
    pub until_ms: Option<i64>,
}

/// A tenant's account, and the last transfer that is in it.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// What the tenant has.
    pub posted: Nanos,
    /// The number of the last transfer.
    pub last: i64,
}

/// What transfers are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferGroup {
    /// The tenant on either side; where there is none, the account it was taken from.
    Tenant,
    /// Why.
    Kind,
    /// The day, UTC.
    Day,
    /// The month, UTC.
    Month,
}

/// Sums of a group.
#[derive(Debug, Clone)]
pub struct TransferSum {
    /// What its transfers have in common, in the order asked for.
    pub group: Vec<String>,
    /// How many.
    pub transfers: i64,
    /// Given to tenants.
    pub credited: Nanos,
    /// Taken from tenants, or from the hub's own accounts where no tenant is part of it.
    pub debited: Nanos,
}

impl TransferFilter {
    fn push(&self, sql: &mut QueryBuilder<Sqlite>) {
        let Self {
            tenant,
            kind,
            since_ms,
            until_ms,
        } = self;
        if let Some(tenant) = tenant {
            sql.push(" AND (t.debit = ").push_bind(tenant.to_string());
            sql.push(" OR t.credit = ").push_bind(tenant.to_string()).push(")");
        }
        if let Some(kind) = kind {
            sql.push(" AND t.kind = ").push_bind(kind.clone());
        }
        for (condition, at_ms) in [(" AND t.at_ms >= ", since_ms), (" AND t.at_ms < ", until_ms)] {
            if let Some(at_ms) = at_ms {
                sql.push(condition).push_bind(*at_ms);
            }
        }
    }
}

impl TransferGroup {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Tenant, Self::Kind, Self::Day, Self::Month];

    /// As a command line and a column's head name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Kind => "kind",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Tenant => {
                "coalesce((SELECT name FROM tenant WHERE id = \
                 CASE WHEN substr(t.credit, 1, 4) = 'ten_' THEN t.credit ELSE t.debit END), t.debit)"
            }
            Self::Kind => "t.kind",
            Self::Day => "date(t.at_ms / 1000, 'unixepoch')",
            Self::Month => "strftime('%Y-%m', t.at_ms / 1000, 'unixepoch')",
        }
    }
}

/// At most `count` transfers before the one of this number, the last one first. For all of them, ask page by page.
pub async fn page(
    store: &Store,
    filter: &TransferFilter,
    before: i64,
    count: u32,
) -> Result<Vec<TransferRow>, StoreError> {
    let mut sql = QueryBuilder::<Sqlite>::new(TRANSFERS);
    filter.push(&mut sql);
    sql.push(" AND t.seq < ").push_bind(before);
    sql.push(" ORDER BY t.seq DESC LIMIT ").push_bind(count);
    let rows = sql.build().fetch_all(store.readers()).await?;
    rows.iter().map(read).collect()
}

/// What was moved for the hold of one call.
pub async fn of_hold(store: &Store, hold: i64) -> Result<Vec<TransferRow>, StoreError> {
    let mut sql = QueryBuilder::<Sqlite>::new(TRANSFERS);
    sql.push(" AND t.hold = ").push_bind(hold).push(" ORDER BY t.seq");
    let rows = sql.build().fetch_all(store.readers()).await?;
    rows.iter().map(read).collect()
}

/// What a tenant has, and by which transfers.
pub async fn standing(store: &Store, tenant: &TenantId) -> Result<Standing, StoreError> {
    let row = sqlx::query("SELECT posted, coalesce((SELECT max(seq) FROM transfer), 0) FROM account WHERE id = $1")
        .bind(tenant.as_str())
        .fetch_one(store.readers())
        .await?;
    Ok(Standing {
        posted: Nanos::new(row.try_get(0)?),
        last: row.try_get(1)?,
    })
}

/// Gives `each` the sums of the transfers that match, group by group in order; ends with the first error.
pub async fn sums<E: From<StoreError>>(
    store: &Store,
    filter: &TransferFilter,
    by: &[TransferGroup],
    mut each: impl FnMut(TransferSum) -> Result<(), E>,
) -> Result<(), E> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT ");
    for group in by {
        sql.push(group.sql()).push(", ");
    }
    sql.push(
        "count(*), coalesce(sum(t.amount) FILTER (WHERE substr(t.credit, 1, 4) = 'ten_'), 0), \
         coalesce(sum(t.amount) FILTER (WHERE substr(t.credit, 1, 4) <> 'ten_'), 0) FROM transfer t WHERE true",
    );
    filter.push(&mut sql);
    for (at, group) in by.iter().enumerate() {
        sql.push(if at == 0 { " GROUP BY " } else { ", " }).push(group.sql());
    }
    for at in 1..=by.len() {
        sql.push(if at == 1 { " ORDER BY " } else { ", " }).push(at);
    }
    let mut rows = sql.build().fetch(store.readers());
    while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
        each(read_sum(&row, by.len()).map_err(StoreError::from)?)?;
    }
    Ok(())
}

fn read_sum(row: &SqliteRow, groups: usize) -> Result<TransferSum, sqlx::Error> {
    Ok(TransferSum {
        group: (0..groups)
            .map(|column| row.try_get(column))
            .collect::<Result<_, _>>()?,
        transfers: row.try_get(groups)?,
        credited: Nanos::new(row.try_get(groups + 1)?),
        debited: Nanos::new(row.try_get(groups + 2)?),
    })
}

fn read(row: &SqliteRow) -> Result<TransferRow, StoreError> {
    Ok(TransferRow {
        seq: row.try_get("seq")?,
        at_ms: row.try_get("at_ms")?,
        kind: row.try_get("kind")?,
        debit: row.try_get("debit")?,
        credit: row.try_get("credit")?,
        tenant_name: row.try_get("tenant_name")?,
        amount: Nanos::new(row.try_get("amount")?),
        amount_nanos: row.try_get("amount")?,
        call: row.try_get("call_hex")?,
        reference: row.try_get("idem")?,
        note: row.try_get("note")?,
        hash: row.try_get("hash_hex")?,
    })
}

const TRANSFERS: &str = "SELECT t.*, lower(hex(u.call)) AS call_hex, lower(hex(t.hash)) AS hash_hex, \
    coalesce(c.name, d.name) AS tenant_name FROM transfer t LEFT JOIN usage u ON u.seq = t.hold AND u.hold = t.hold \
    LEFT JOIN tenant c ON c.id = t.credit LEFT JOIN tenant d ON d.id = t.debit WHERE true";
