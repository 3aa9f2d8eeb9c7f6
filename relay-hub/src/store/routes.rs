//! What routing remembers over a restart: pins, tenants' homes, accounts that are out of use, attempts. Written in batches, off the path of
//! calls; knows no choice.

use std::collections::{BTreeMap, HashSet};

use futures_util::TryStreamExt as _;
use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError};
use crate::ids::{AccountId, TenantId};

/// The hash under which something is pinned.
pub type Name = [u8; 16];

/// Something that belongs to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRow {
    /// The hash of it.
    pub name: Name,
    /// Whose it is; the account may be gone.
    pub account: AccountId,
    /// When it was used last, milliseconds since 1970.
    pub used_ms: i64,
}

/// A tenant's home: an account that serves what it asks without naming a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeRow {
    /// Whose.
    pub tenant: TenantId,
    /// The account.
    pub account: AccountId,
    /// When it served first, milliseconds since 1970.
    pub since_ms: i64,
    /// Homes of before that the tenant has lost; none where it is read.
    pub lost: Vec<AccountId>,
}

/// An account that is out of use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HealthRow {
    /// Which.
    pub account: AccountId,
    /// `down` or `quarantined`.
    pub state: String,
    /// What it was that failed.
    pub cause: String,
    /// Milliseconds since 1970.
    pub since_ms: i64,
    /// When it is tried again.
    pub until_ms: i64,
}

/// One attempt of a call that had several.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AttemptRow {
    /// Its place, from 1.
    pub n: u32,
    /// When it began, milliseconds since 1970.
    pub at_ms: i64,
    /// The account's id.
    pub account: String,
    /// The way out.
    pub egress: String,
    /// Why this account.
    pub choice: String,
    /// What the vendor answered, if it did.
    pub status: Option<u16>,
    /// What was made of that.
    pub verdict: String,
    /// How long it took.
    pub ms: i64,
    /// The vendor's own id.
    pub vendor_request_id: Option<String>,
}

/// What is written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// New pins, and those that were used again.
    pub pins: Vec<PinRow>,
    /// New homes of tenants.
    pub homes: Vec<HomeRow>,
    /// Accounts that went out of use; `None` for one that is back.
    pub health: Vec<(AccountId, Option<HealthRow>)>,
    /// Attempts, with the call they are of.
    pub attempts: Vec<([u8; 16], AttemptRow)>,
}

impl Batch {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.homes.is_empty() && self.health.is_empty() && self.attempts.is_empty()
    }
}

/// Writes a batch.
pub async fn write(store: &Store, batch: &Batch) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    write_pins(&mut tx, &batch.pins).await?;
    for home in &batch.homes {
        write_home(&mut tx, home).await?;
    }
    for (account, note) in &batch.health {
        let written = match note {
            None => sqlx::query("DELETE FROM account_health WHERE account = $1").bind(account.as_str()),
            // The account may have been removed meanwhile.
            Some(note) => sqlx::query(
                "INSERT OR REPLACE INTO account_health (account, state, cause, since_ms, until_ms) \
                 SELECT id, $2, $3, $4, $5 FROM vendor_account WHERE id = $1",
            )
            .bind(account.as_str())
            .bind(&note.state)
            .bind(&note.cause)
            .bind(note.since_ms)
            .bind(note.until_ms),
        };
        written.execute(&mut *tx).await?;
    }
    for (call, attempt) in &batch.attempts {
        sqlx::query(
            "INSERT OR IGNORE INTO attempt (call, n, at_ms, account, egress, choice, status, verdict, ms, vendor_request_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(&call[..])
        .bind(attempt.n)
        .bind(attempt.at_ms)
        .bind(&attempt.account)
        .bind(&attempt.egress)
        .bind(&attempt.choice)
        .bind(attempt.status)
        .bind(&attempt.verdict)
        .bind(attempt.ms)
        .bind(&attempt.vendor_request_id)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// One row an account. Of a name that is there twice the later pin counts.
async fn write_pins(connection: &mut SqliteConnection, pins: &[PinRow]) -> Result<(), StoreError> {
    let mut seen = HashSet::with_capacity(pins.len());
    let mut rows = BTreeMap::<&str, (i64, Vec<u8>)>::new();
    for pin in pins.iter().rev().filter(|pin| seen.insert(pin.name)) {
        let (used_ms, names) = rows.entry(pin.account.as_str()).or_default();
        *used_ms = pin.used_ms.max(*used_ms);
        names.extend_from_slice(&pin.name);
    }
    for (account, (used_ms, names)) in rows {
        sqlx::query("INSERT INTO pinned (used_ms, account, names) VALUES ($1, $2, $3)")
            .bind(used_ms)
            .bind(account)
            .bind(names)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn write_home(connection: &mut SqliteConnection, home: &HomeRow) -> Result<(), StoreError> {
    for lost in &home.lost {
        sqlx::query("DELETE FROM tenant_home WHERE tenant = $1 AND account = $2")
            .bind(home.tenant.as_str())
            .bind(lost.as_str())
            .execute(&mut *connection)
            .await?;
    }
    // The account may have been removed meanwhile.
    sqlx::query(
        "INSERT OR IGNORE INTO tenant_home (tenant, account, since_ms) \
         SELECT t.id, a.id, $3 FROM tenant t, vendor_account a WHERE t.id = $1 AND a.id = $2",
    )
    .bind(home.tenant.as_str())
    .bind(home.account.as_str())
    .bind(home.since_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// The homes of all tenants, of each the first one first.
pub async fn homes(store: &Store) -> Result<Vec<HomeRow>, StoreError> {
    let rows = sqlx::query("SELECT tenant, account, since_ms FROM tenant_home ORDER BY tenant, since_ms, account")
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(HomeRow {
                tenant: TenantId::parse(row.try_get("tenant")?)?,
                account: AccountId::parse(row.try_get("account")?)?,
                since_ms: row.try_get("since_ms")?,
                lost: Vec::new(),
            })
        })
        .collect()
}

/// The pins that were used since, the last ones first, no fewer than `most` of them where there are as many. Of a name
/// that is there again the first one counts.
pub async fn pins(store: &Store, since_ms: i64, most: usize) -> Result<Vec<PinRow>, StoreError> {
    let mut rows = sqlx::query("SELECT used_ms, account, names FROM pinned WHERE used_ms > $1 ORDER BY seq DESC")
        .bind(since_ms)
        .fetch(store.readers());
    let mut pins = Vec::new();
    while pins.len() < most
        && let Some(row) = rows.try_next().await?
    {
        let (used_ms, account) = (row.try_get("used_ms")?, AccountId::parse(row.try_get("account")?)?);
        let (names, rest) = row.try_get::<&[u8], _>("names")?.as_chunks();
        if !rest.is_empty() {
            return Err(StoreError::Corrupt("the names of pins".into()));
        }
        pins.extend(names.iter().map(|name| PinRow {
            name: *name,
            account: account.clone(),
            used_ms,
        }));
    }
    Ok(pins)
}

/// Forgets pins that were not used since; at most so many rows of them, so that nobody waits for it.
pub async fn forget(store: &Store, since_ms: i64, most: u32) -> Result<(), StoreError> {
    const OLD: &str = "SELECT seq FROM pinned WHERE used_ms <= $1 ORDER BY used_ms LIMIT $2";
    // The books wait for whoever writes: seldom is anything to be forgotten.
    let old = sqlx::query(OLD).bind(since_ms).bind(1).fetch_optional(store.readers());
    if old.await?.is_none() {
        return Ok(());
    }
    let mut tx = store.write().await?;
    sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM pinned WHERE seq IN ({OLD})")))
        .bind(since_ms)
        .bind(most)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// The accounts that are out of use.
pub async fn health(store: &Store) -> Result<Vec<HealthRow>, StoreError> {
    let rows = sqlx::query("SELECT account, state, cause, since_ms, until_ms FROM account_health ORDER BY since_ms")
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(HealthRow {
                account: AccountId::parse(row.try_get("account")?)?,
                state: row.try_get("state")?,
                cause: row.try_get("cause")?,
                since_ms: row.try_get("since_ms")?,
                until_ms: row.try_get("until_ms")?,
            })
        })
        .collect()
}

/// The attempts of a call that had several.
pub async fn attempts(store: &Store, call: [u8; 16]) -> Result<Vec<AttemptRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM attempt WHERE call = $1 ORDER BY n")
        .bind(&call[..])
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(AttemptRow {
                n: row.try_get("n")?,
                at_ms: row.try_get("at_ms")?,
                account: row.try_get("account")?,
                egress: row.try_get("egress")?,
                choice: row.try_get("choice")?,
                status: row.try_get("status")?,
                verdict: row.try_get("verdict")?,
                ms: row.try_get("ms")?,
                vendor_request_id: row.try_get("vendor_request_id")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{schema::steps, testing::TestHub};

    fn pin(name: u8, account: &AccountId, used_ms: i64) -> PinRow {
        PinRow {
            name: [name; 16],
            account: account.clone(),
            used_ms,
        }
    }

    async fn write_pins(store: &Store, pins: Vec<PinRow>) {
        let batch = Batch {
            pins,
            ..Batch::default()
        };
        write(store, &batch).await.unwrap();
    }

    /// What a hub that starts now would remember.
    async fn recalled(store: &Store, since_ms: i64) -> BTreeMap<u8, AccountId> {
        let rows = pins(store, since_ms, 100).await.unwrap().into_iter().rev();
        rows.map(|row| (row.name[0], row.account)).collect()
    }

    #[tokio::test]
    async fn the_later_pin_of_a_name_counts_whichever_transaction_has_it() {
        let hub = TestHub::bare().await;
        let (one, two) = (AccountId::random(), AccountId::random());
        let first = vec![pin(1, &one, 1_000), pin(2, &one, 1_000), pin(1, &two, 1_001)];
        write_pins(&hub.store, first).await;
        write_pins(&hub.store, vec![pin(3, &two, 2_000), pin(2, &two, 2_000)]).await;
        let last = [(1, two.clone()), (2, two.clone()), (3, two.clone())];
        assert_eq!(recalled(&hub.store, 0).await, last.into());
        write_pins(&hub.store, vec![pin(2, &one, 3_000)]).await;
        assert_eq!(recalled(&hub.store, 0).await[&2], one);
        assert_eq!(recalled(&hub.store, 1_999).await.len(), 2, "1 was not used since");
        assert_eq!(
            pins(&hub.store, 0, 1).await.unwrap(),
            [pin(2, &one, 3_000)],
            "the last ones"
        );
    }

    #[tokio::test]
    async fn what_was_not_used_since_is_forgotten_a_few_at_a_time() {
        let hub = TestHub::bare().await;
        let account = AccountId::random();
        for at in 1..=5 {
            write_pins(&hub.store, vec![pin(at, &account, i64::from(at))]).await;
        }
        for (since_ms, left) in [(0, 5), (3, 3), (3, 2), (3, 2)] {
            forget(&hub.store, since_ms, 2).await.unwrap();
            assert_eq!(recalled(&hub.store, 0).await.len(), left, "not used since {since_ms}");
        }
    }

    #[tokio::test]
    async fn pins_of_the_schema_before_are_remembered() {
        const PINNED: &str = include_str!("schema/pinned.sql");
        let before: Vec<_> = steps().take_while(|step| *step != PINNED).collect();
        let (one, two) = (AccountId::random(), AccountId::random());
        let rows = [(1, &two, 20), (2, &one, 10)].map(|(name, account, used_ms)| {
            let name = format!("{name:02x}").repeat(16);
            format!("INSERT INTO pin VALUES (x'{name}', '{account}', {used_ms});")
        });
        let version = format!("PRAGMA user_version = {};", before.len());
        let hub = TestHub::over(
            &[&before.concat(), &rows.concat(), &version]
                .map(String::as_str)
                .concat(),
        )
        .await;
        let read = pins(&hub.store, 0, 100).await.unwrap();
        assert_eq!(read, [pin(1, &two, 20), pin(2, &one, 10)]);
    }
}
