//! A vendor's list of requests beside the hub's own calls: kept in a table of one connection, on disk where it is long,
//! and gone with it.

use futures_util::TryStreamExt as _;
use sqlx::{Connection as _, Row as _, Sqlite, pool::PoolConnection, sqlite::SqliteRow};

use super::{Store, StoreError};

/// A request as the vendor lists it. What the list does not say is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// The line of the file.
    pub line: u64,
    /// The vendor's id of the request or of the answer.
    pub id: String,
    /// Input tokens, cached ones included.
    pub input: Option<i64>,
    /// Of these, read from the cache.
    pub cached: Option<i64>,
    /// Output tokens.
    pub output: Option<i64>,
    /// In billionths.
    pub cost: Option<i64>,
}

/// The same of one call of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The call's id, hexadecimal.
    pub call: String,
    /// When it was booked, milliseconds since 1970.
    pub at_ms: i64,
    /// `reported` or `estimated`.
    pub source: Option<String>,
    /// What was counted.
    pub figures: Listed,
}

/// What belongs together, or what has no counterpart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// On the vendor's list and in the books.
    Both(Own, Listed),
    /// Only on the vendor's list.
    There(Listed),
    /// Only in the books.
    Here(Own),
    /// On the vendor's list more than once.
    Twice(Listed),
}

/// A vendor's list.
pub struct VendorBill {
    connection: PoolConnection<Sqlite>,
}

impl VendorBill {
    /// An empty list.
    pub async fn new(store: &Store) -> Result<Self, StoreError> {
        let mut connection = store.readers().acquire().await?;
        sqlx::raw_sql(TABLES).execute(&mut *connection).await?;
        Ok(Self { connection })
    }

    /// Adds requests.
    pub async fn add(&mut self, requests: &[Listed]) -> Result<(), StoreError> {
        let mut tx = self.connection.begin().await?;
        for request in requests {
            sqlx::query("INSERT INTO temp.listed VALUES ($1, $2, $3, $4, $5, $6)")
                .bind(i64::try_from(request.line).unwrap_or(i64::MAX))
                .bind(&request.id)
                .bind(request.input)
                .bind(request.cached)
                .bind(request.output)
                .bind(request.cost)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Gives `each` every pair, and every request and every call that has no counterpart. Calls that the vendor counts
    /// are those with usage, booked within the window; without one, between the first and the last that is on the list.
    pub async fn compare<E: From<StoreError>>(
        &mut self,
        window: (Option<i64>, Option<i64>),
        mut each: impl FnMut(Match) -> Result<(), E>,
    ) -> Result<(), E> {
        let connection = &mut *self.connection;
        sqlx::raw_sql(PAIR)
            .execute(&mut *connection)
            .await
            .map_err(StoreError::from)?;
        let (since, until) = window;
        for (sql, read) in MATCHES {
            let query = sqlx::query(sql).bind(since).bind(until);
            let mut rows = query.fetch(&mut *connection);
            while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
                each(read(&row).map_err(StoreError::from)?)?;
            }
        }
        Ok(())
    }
}

const TABLES: &str = "DROP TABLE IF EXISTS temp.listed; DROP TABLE IF EXISTS temp.pair; \
    CREATE TEMP TABLE listed (line INTEGER PRIMARY KEY, id TEXT, input INTEGER, cached INTEGER, output INTEGER, \
    cost INTEGER); CREATE INDEX temp.listed_id ON listed (id); \
    CREATE TEMP TABLE pair (line INTEGER PRIMARY KEY, seq INTEGER); CREATE INDEX temp.pair_seq ON pair (seq);";

/// The calls are gone through once, each looked up on the list: they have no index by the vendor's ids.
const PAIR: &str = "INSERT OR IGNORE INTO temp.pair SELECT l.line, u.seq FROM main.usage u CROSS JOIN temp.listed l \
    ON l.id = u.vendor_request_id WHERE u.input IS NOT NULL; \
    INSERT OR IGNORE INTO temp.pair SELECT l.line, u.seq FROM main.usage u CROSS JOIN temp.listed l \
    ON l.id = u.response_id WHERE u.input IS NOT NULL;";

type Read = fn(&SqliteRow) -> Result<Match, sqlx::Error>;

const MATCHES: [(&str, Read); 4] = [
    (
        "SELECT l.*, lower(hex(u.call)), u.at_ms, u.source, coalesce(u.vendor_request_id, u.response_id, ''), u.input, \
         u.cached, u.output, u.cost FROM temp.pair p JOIN temp.listed l ON l.line = p.line \
         JOIN main.usage u ON u.seq = p.seq WHERE ($1 IS NULL OR u.at_ms >= $1) AND ($2 IS NULL OR u.at_ms < $2) \
         ORDER BY l.line",
        |row| Ok(Match::Both(own(row, 6)?, listed(row)?)),
    ),
    (
        "SELECT l.* FROM temp.listed l WHERE NOT EXISTS (SELECT 1 FROM temp.pair p WHERE p.line = l.line) ORDER BY l.line",
        |row| Ok(Match::There(listed(row)?)),
    ),
    (
        "SELECT lower(hex(u.call)), u.at_ms, u.source, coalesce(u.vendor_request_id, u.response_id, ''), u.input, \
         u.cached, u.output, u.cost FROM main.usage u, \
         (SELECT min(at_ms) AS first, max(at_ms) AS last FROM temp.pair p JOIN main.usage ON usage.seq = p.seq) \
         WHERE u.input IS NOT NULL AND u.ending <> 'warmup' AND u.at_ms >= coalesce($1, first) \
         AND CASE WHEN $2 IS NULL THEN u.at_ms <= last ELSE u.at_ms < $2 END \
         AND NOT EXISTS (SELECT 1 FROM temp.pair p WHERE p.seq = u.seq) ORDER BY u.seq",
        |row| Ok(Match::Here(own(row, 0)?)),
    ),
    (
        "SELECT l.* FROM temp.listed l WHERE EXISTS (SELECT 1 FROM temp.listed e WHERE e.id = l.id AND e.line < l.line) \
         ORDER BY l.line",
        |row| Ok(Match::Twice(listed(row)?)),
    ),
];

fn listed(row: &SqliteRow) -> Result<Listed, sqlx::Error> {
    Ok(Listed {
        line: row.try_get::<i64, _>(0)?.unsigned_abs(),
        id: row.try_get(1)?,
        input: row.try_get(2)?,
        cached: row.try_get(3)?,
        output: row.try_get(4)?,
        cost: row.try_get(5)?,
    })
}

fn own(row: &SqliteRow, first: usize) -> Result<Own, sqlx::Error> {
    Ok(Own {
        call: row.try_get(first)?,
        at_ms: row.try_get(first + 1)?,
        source: row.try_get(first + 2)?,
        figures: Listed {
            line: 0,
            id: row.try_get(first + 3)?,
            input: row.try_get(first + 4)?,
            cached: row.try_get(first + 5)?,
            output: row.try_get(first + 6)?,
            cost: row.try_get(first + 7)?,
        },
    })
}
