//! Reads a hub's database from the outside, and computes what the books must say from the vendor's truth log and
//! the price list alone. Shares no code with the ledger.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Row as _, SqliteConnection, TypeInfo, ValueRef};

use crate::vendor::{Entry, Usage};

const UNPOSTED: &str = "SELECT count(*) FROM journal WHERE seq > (SELECT posted FROM hub)";
const HOLDS: &str = "SELECT count(*) FROM hold";

/// The open books.
pub struct Books {
    pool: SqlitePool,
}

/// Lets every enrolment token of a hub's data directory expire.
pub async fn expire_tokens(data: &Path) {
    change(data, "UPDATE device_token SET expires_ms = 1 + created_ms").await;
}

/// Every account that is out of use is so for a minute already.
pub async fn age_troubles(data: &Path) {
    change(data, "UPDATE account_health SET since_ms = since_ms - 60000").await;
}

async fn change(data: &Path, sql: &'static str) {
    let options = SqliteConnectOptions::new()
        .filename(data.join("hub.sqlite"))
        .busy_timeout(Duration::from_secs(10));
    let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
    let done = sqlx::query(sql).execute(&pool).await;
    done.expect("a table of the hub's");
    pool.close().await;
}

/// One row of usage.
#[derive(Clone, Debug)]
pub struct Row {
    /// The call's id, as its client was told it.
    pub call: String,
    pub caller: String,
    pub endpoint: String,
    pub model: String,
    pub usage: Option<Usage>,
    pub source: Option<String>,
    pub cost: i64,
    pub charged: i64,
    pub status: i64,
    pub ending: String,
    pub response_id: Option<String>,
    /// The vendor's id of the request.
    pub request_id: Option<String>,
    pub link: String,
    /// The vendor account, the way out, and the address of the hub's machine.
    pub left_by: (String, String, String),
    pub detail: Option<serde_json::Value>,
    /// What was set aside for it.
    pub held: Option<i64>,
}

/// A tenant's money, billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    pub posted: i64,
    pub held: i64,
}

fn text(row: &SqliteRow, column: &str) -> String {
    row.get::<Option<String>, _>(column).unwrap_or_default()
}

impl Books {
    /// Opens the database in a hub's data directory; the hub may run.
    pub fn open(data: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(data.join("hub.sqlite"))
            .read_only(true)
            .busy_timeout(Duration::from_secs(10));
        Self {
            pool: SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options),
        }
    }

    /// Every usage row in the order in which the calls began.
    pub async fn rows(&self) -> Vec<Row> {
        self.posted().await;
        let rows = sqlx::query("SELECT * FROM usage ORDER BY seq")
            .fetch_all(&self.pool)
            .await;
        let count = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
        rows.expect("the usage table")
            .iter()
            .map(|row| Row {
                call: hex(row.get("call")),
                caller: row.get("caller"),
                endpoint: row.get("endpoint"),
                model: row.get("model"),
                usage: row.get::<Option<i64>, _>("input").map(|input| Usage {
                    input: count(Some(input)),
                    cached: count(row.get("cached")),
                    output: count(row.get("output")),
                    reasoning: count(row.get("reasoning")),
                }),
                source: row.get("source"),
                cost: row.get("cost"),
                charged: row.get("charged"),
                status: row.get("status"),
                ending: row.get("ending"),
                response_id: row.get("response_id"),
                request_id: row.get("vendor_request_id"),
                link: row.get("link"),
                left_by: (text(row, "account"), text(row, "egress"), text(row, "local_address")),
                detail: row
                    .get::<Option<&str>, _>("detail")
                    .and_then(|text| serde_json::from_str(text).ok()),
                held: row.get("held"),
            })
            .collect()
    }

    /// Every usage row once there are at least `count` and no hold is open.
    pub async fn settled(&self, count: usize) -> Vec<Row> {
        for _ in 0..400 {
            let rows = self.rows().await;
            if rows.len() >= count && self.open_holds().await == 0 {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let (rows, open) = (self.rows().await, self.open_holds().await);
        assert!(
            rows.len() >= count && open == 0,
            "{count} rows and no open hold wanted; {open} open: {rows:#?}"
        );
        rows
    }

    pub async fn open_holds(&self) -> i64 {
        self.posted().await;
        self.number(HOLDS).await
    }

    /// The pages that are not in the tables, and the open holds, at this instant.
    pub async fn left_over(&self) -> (i64, i64) {
        (self.number(UNPOSTED).await, self.number(HOLDS).await)
    }

    /// Waits until the tables have all that the hub made durable; a hub that is gone posts no more, and its next start
    /// or command does.
    async fn posted(&self) {
        for _ in 0..80 {
            if self.number(UNPOSTED).await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub async fn balance(&self, tenant: &str) -> Balance {
        self.posted().await;
        let row = sqlx::query("SELECT posted, held FROM account WHERE id = $1")
            .bind(tenant)
            .fetch_one(&self.pool)
            .await;
        let row = row.expect("the tenant's account");
        Balance {
            posted: row.get("posted"),
            held: row.get("held"),
        }
    }

    /// What `usage` of `model` costs by the newest price, in billionths, half up.
    pub async fn cost(&self, model: &str, usage: Usage) -> i64 {
        let sql = "SELECT input, cached, output FROM price WHERE model = $1 ORDER BY version DESC LIMIT 1";
        let row = sqlx::query(sql)
            .bind(model)
            .fetch_optional(&self.pool)
            .await
            .expect("the price table");
        let row = row.unwrap_or_else(|| no_price(model));
        let tokens = [usage.input - usage.cached, usage.cached, usage.output];
        let prices: [i64; 3] = [row.get("input"), row.get("cached"), row.get("output")];
        let millionths: i128 = tokens
            .iter()
            .zip(prices)
            .map(|(count, price)| i128::from(*count) * i128::from(price))
            .sum();
        i64::try_from((millionths + 500_000) / 1_000_000).expect("a call costs less than nine billion")
    }

    /// The ledger says what the truth log says, to the unit: each billed call once, with its tokens and its cost;
    /// nothing else is charged; the tenant's balance is what is left of `credit` (billionths).
    pub async fn assert_true(&self, truth: &[Entry], tenant: &str, credit: i64) {
        let billed: Vec<&Entry> = truth.iter().filter(|entry| entry.billed().is_some()).collect();
        let rows = self.settled(billed.len()).await;
        let mut by_id: HashMap<&str, Vec<&Row>> = HashMap::new();
        for row in &rows {
            by_id
                .entry(
                    row.response_id
                        .as_deref()
                        .or(row.request_id.as_deref())
                        .unwrap_or_default(),
                )
                .or_default()
                .push(row);
        }
        let mut sum = 0;
        for entry in billed {
            let usage = entry.billed().unwrap_or_default();
            let found = by_id
                .get(entry.response_id.as_str())
                .map(Vec::as_slice)
                .unwrap_or_default();
            assert_eq!(found.len(), 1, "one row for {entry:#?} in {rows:#?}");
            let cost = self.cost(&entry.model, usage).await;
            assert_eq!(
                (found[0].usage, found[0].charged),
                (Some(usage), cost),
                "{entry:#?}\n{found:#?}"
            );
            sum += cost;
        }
        let charged: i64 = rows.iter().map(|row| row.charged).sum();
        assert_eq!(charged, sum, "nothing else is charged: {rows:#?}");
        assert_eq!(
            self.balance(tenant).await,
            Balance {
                posted: credit - sum,
                held: 0
            }
        );
    }

    /// Every value of every table as text, for a search.
    pub async fn dump(&self) -> String {
        let mut connection = self.pool.acquire().await.expect("the database");
        let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table'")
            .fetch_all(&mut *connection)
            .await;
        let mut text = String::new();
        for table in tables.expect("the schema") {
            let name: String = table.get(0);
            dump_table(&mut connection, &name, &mut text).await;
        }
        text
    }

    async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.expect("a number")
    }
}

async fn dump_table(connection: &mut SqliteConnection, table: &str, text: &mut String) {
    let sql = AssertSqlSafe(format!("SELECT * FROM \"{table}\""));
    for row in sqlx::query(sql)
        .fetch_all(connection)
        .await
        .expect("a table of the schema")
    {
        for column in row.columns() {
            let raw = row.try_get_raw(column.ordinal()).expect("the column is there");
            let value = match raw.type_info().name() {
                "TEXT" => row.get::<String, _>(column.ordinal()),
                "BLOB" => String::from_utf8_lossy(&row.get::<Vec<u8>, _>(column.ordinal())).into_owned(),
                _ => continue,
            };
            text.push_str(&format!("{table}.{}: {value}\n", column.name()));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[allow(clippy::panic, reason = "a test without a price is wrong")]
fn no_price(model: &str) -> SqliteRow {
    panic!("no price for {model}")
}
