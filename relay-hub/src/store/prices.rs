//! The price list: immutable rows, one version for each change.

pub mod tenant;

use relay_protocol::Tokens;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Store, StoreError};
use crate::money::{Nanos, Price, Rates};

/// One model's line in the price list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceRow {
    /// The vendor's model name.
    pub model: String,
    /// Unit prices. The version is given by the store when it is added.
    pub price: Price,
    /// Context window.
    pub context: Tokens,
    /// Most output of one call.
    pub max_output: Tokens,
    /// Where the figures are from.
    pub source: String,
    /// When it was added, milliseconds since 1970.
    pub at_ms: i64,
}

impl PriceRow {
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let unversioned = |row: &Self| Price {
            version: 0,
            ..row.price.clone()
        };
        unversioned(self) == unversioned(other) && self.context == other.context && self.max_output == other.max_output
    }
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The version the changed lines got; the one before where nothing changed.
    pub version: i64,
    /// Models that were not in the list.
    pub added: Vec<String>,
    /// Models whose line differed.
    pub changed: Vec<String>,
    /// How many lines said what the list said already.
    pub unchanged: usize,
}

/// Puts lines into the list: one version for all of them. A line that says the same adds nothing.
pub async fn import(store: &Store, rows: &[PriceRow], now_ms: i64) -> Result<Imported, StoreError> {
    let mut tx = store.write().await?;
    let current = read_all(&mut tx).await?;
    let last = last_version(&mut tx).await?;
    let version = last.saturating_add(1);
    let mut done = Imported {
        version: last,
        added: Vec::new(),
        changed: Vec::new(),
        unchanged: 0,
    };
    for row in rows {
        match current.iter().find(|known| known.model == row.model) {
            Some(known) if known.says_the_same(row) => {
                done.unchanged += 1;
                continue;
            }
            Some(_) => done.changed.push(row.model.clone()),
            None => done.added.push(row.model.clone()),
        }
        done.version = version;
        insert(&mut tx, row, version, now_ms).await?;
    }
    tx.commit().await?;
    Ok(done)
}

/// The list as it is, by model.
pub async fn list(store: &Store) -> Result<Vec<PriceRow>, StoreError> {
    read_all(&mut *store.readers().acquire().await?).await
}

async fn insert(
    connection: &mut SqliteConnection,
    row: &PriceRow,
    version: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let base = &row.price.standard.base;
    let is_plain = row.price == Price::plain(row.price.version, plain(base));
    let count = |tokens: Tokens| i64::try_from(tokens.get()).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO price (version, model, input, cached, cache_write, output, context, max_output, source, at_ms, \
         detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(version)
    .bind(&row.model)
    .bind(base.input.get())
    .bind(base.cached.get())
    .bind(base.cache_write.get())
    .bind(base.output.get())
    .bind(count(row.context))
    .bind(count(row.max_output))
    .bind(&row.source)
    .bind(now_ms)
    .bind((!is_plain).then(|| written(&row.price)).transpose()?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Every line a model ever had, the oldest first.
pub async fn history(store: &Store, model: &str) -> Result<Vec<PriceRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM price WHERE model = $1 ORDER BY version")
        .bind(model)
        .fetch_all(store.readers())
        .await?;
    rows.iter().map(read).collect()
}

/// The same as [`list`] on a connection whose transaction makes it one picture with other reads.
pub(crate) async fn read_all(connection: &mut SqliteConnection) -> Result<Vec<PriceRow>, StoreError> {
    let rows = sqlx::query("SELECT *, max(version) FROM price GROUP BY model ORDER BY model")
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<PriceRow, StoreError> {
    let money = |column: &str| row.try_get(column).map(Nanos::new);
    let tokens = |column: &str| row.try_get::<i64, _>(column).map(|n| Tokens::new(n.unsigned_abs()));
    let version = row.try_get("version")?;
    let price = match row.try_get::<Option<&str>, _>("detail")? {
        Some(text) => parse(version, text)?,
        None => {
            let (input, cached) = (money("input")?, money("cached")?);
            let base = Rates::plain(input, cached, money("cache_write")?, money("output")?);
            Price::plain(version, base)
        }
    };
    Ok(PriceRow {
        model: row.try_get("model")?,
        price,
        context: tokens("context")?,
        max_output: tokens("max_output")?,
        source: row.try_get("source")?,
        at_ms: row.try_get("at_ms")?,
    })
}

/// The last change of any price: the list's and the tenants' share one count.
async fn last_version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "SELECT max(coalesce((SELECT max(version) FROM price), 0), \
         coalesce((SELECT max(version) FROM tenant_price), 0), \
         coalesce((SELECT max(version) FROM tenant_times), 0))",
    );
    Ok(row.fetch_one(connection).await?.try_get(0)?)
}

fn plain(base: &Rates) -> Rates {
    Rates::plain(base.input, base.cached, base.cache_write, base.output)
}

fn written(price: &Price) -> Result<String, StoreError> {
    serde_json::to_string(price).map_err(|error| StoreError::Corrupt(format!("a price: {error}")))
}

fn parse(version: i64, text: &str) -> Result<Price, StoreError> {
    let price: Price = serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt(format!("the price of version {version}: {error}")))?;
    Ok(Price { version, ..price })
}
