//! Credit that ends: how much of it is left, and what goes back. Spending uses first what ends first.
//!
//! Between two changes of a tenant's credit it does not matter which call was charged when, only how much was spent: the
//! difference of two balances. So each change tells apart what was spent since the one before (the mark), and no charge is
//! looked at again.

use rusqlite::{Connection, OptionalExtension as _, params};
use sqlx::Row as _;

use super::{
    credit::{CreditError, Grant, transaction},
    post::{self, BooksError},
    rules::{FUNDING, Transfer},
};
use crate::{
    ids::TenantId,
    money::Nanos,
    store::{Store, StoreError},
};

/// Credit that is over, and not all spent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    transfer: i64,
    source: String,
    remaining: i64,
    debits: i64,
}

/// A tenant's credit that ends, as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Expiring {
    /// Where it is from.
    pub source: String,
    /// What was given.
    pub amount: Nanos,
    /// What is left of it.
    pub remaining: Nanos,
    /// Milliseconds since 1970.
    pub expires_ms: i64,
}

/// Takes what the tenant spent since the mark from its expiring credit, what ends first first; the mark is moved.
pub(super) fn tell_apart(connection: &Connection, tenant: &str) -> rusqlite::Result<()> {
    let since = connection
        .prepare_cached(
            "SELECT m.posted - a.posted, a.posted FROM credit_mark m JOIN account a ON a.id = m.tenant WHERE m.tenant = ?1",
        )?
        .query_row([tenant], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((mut spent, posted)) = since else {
        return Ok(());
    };
    let mut open = connection.prepare_cached(OPEN)?;
    let rows = open.query_map([tenant], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows.collect::<rusqlite::Result<Vec<_>>>()? {
        let (transfer, remaining) = row;
        let used = remaining.min(spent).max(0);
        connection
            .prepare_cached("UPDATE expiring_credit SET remaining = remaining - ?2 WHERE transfer = ?1")?
            .execute([transfer, used])?;
        spent = spent.saturating_sub(used);
    }
    mark(connection, tenant, Nanos::new(posted))
}

/// Marks the balance from which on spending is to be told apart, where the tenant has credit that ends.
pub(super) fn mark(connection: &Connection, tenant: &str, posted: Nanos) -> rusqlite::Result<()> {
    let is_open = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM expiring_credit WHERE tenant = ?1 AND remaining > 0)")?
        .query_row([tenant], |row| row.get(0))?;
    if is_open {
        connection
            .prepare_cached("REPLACE INTO credit_mark (tenant, posted) VALUES (?, ?)")?
            .execute(params![tenant, posted.get()])?;
    } else {
        connection
            .prepare_cached("DELETE FROM credit_mark WHERE tenant = ?1")?
            .execute([tenant])?;
    }
    Ok(())
}

/// Notes that a credit ends. What the tenant owed was paid from it first.
pub(super) fn add(
    connection: &Connection,
    grant: &Grant,
    transfer: i64,
    expires_ms: i64,
    balance: Nanos,
) -> rusqlite::Result<()> {
    let remaining = grant.amount.min(balance.max(Nanos::ZERO));
    connection
        .prepare_cached(
            "INSERT INTO expiring_credit (transfer, tenant, source, remaining, expires_ms) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![
            transfer,
            grant.tenant.as_str(),
            grant.source,
            remaining.get(),
            expires_ms
        ])
        .map(drop)
}

/// What of the tenant's credit is over.
pub(super) fn over(connection: &Connection, tenant: &str, now_ms: i64) -> rusqlite::Result<Vec<Over>> {
    let mut over = connection.prepare_cached(
        "SELECT transfer, source, remaining, debits FROM expiring_credit \
         WHERE tenant = ?1 AND remaining > 0 AND expires_ms <= ?2 ORDER BY expires_ms, transfer",
    )?;
    let rows = over.query_map(params![tenant, now_ms], |row| {
        Ok(Over {
            transfer: row.get(0)?,
            source: row.get(1)?,
            remaining: row.get(2)?,
            debits: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// What is over, together.
pub(super) fn sum(over: &[Over]) -> Nanos {
    over.iter()
        .fold(Nanos::ZERO, |sum, one| sum.saturating_add(Nanos::new(one.remaining)))
}

/// Takes `amount` back from what is over: an entry for each credit, named after it.
pub(super) fn debit(
    connection: &Connection,
    tenant: &str,
    over: &[Over],
    amount: Nanos,
    now_ms: i64,
) -> Result<(), BooksError> {
    let mut left = amount.get();
    for one in over {
        let part = one.remaining.min(left);
        if part <= 0 {
            break;
        }
        left = left.saturating_sub(part);
        let nth = one.debits.saturating_add(1);
        super::credit::append(
            connection,
            &Transfer {
                kind: "expiry",
                hold: None,
                idem: Some(&format!("expiry {nth} of {}", one.source)),
                debit: tenant,
                credit: FUNDING,
                amount: Nanos::new(part),
                at_ms: now_ms,
                note: "",
            },
        )?;
        connection
            .prepare_cached("UPDATE expiring_credit SET remaining = remaining - ?2, debits = ?3 WHERE transfer = ?1")?
            .execute([one.transfer, part, nth])?;
    }
    let taken = amount.get().saturating_sub(left);
    let back = taken.checked_neg().ok_or(BooksError::Books("a sum is out of range"))?;
    post::change(connection, tenant, 0, back)?;
    post::change(connection, FUNDING, 0, taken)
}

/// Tenants with credit that is over by now.
pub async fn expired(store: &Store, now_ms: i64) -> Result<Vec<TenantId>, StoreError> {
    let rows = sqlx::query("SELECT DISTINCT tenant FROM expiring_credit WHERE remaining > 0 AND expires_ms <= $1")
        .bind(now_ms)
        .fetch_all(store.readers())
        .await?;
    rows.iter().map(|row| Ok(TenantId::parse(row.try_get(0)?)?)).collect()
}

/// A tenant's credit that ends and is not used up, what ends first first.
pub async fn expiring(store: &Store, tenant: &TenantId) -> Result<Vec<Expiring>, CreditError> {
    let tenant = tenant.clone();
    transaction(store, move |books| {
        tell_apart(books.connection(), tenant.as_str())?;
        let mut open = books.connection().prepare_cached(
            "SELECT e.source, t.amount, e.remaining, e.expires_ms FROM expiring_credit e \
             JOIN transfer t ON t.seq = e.transfer WHERE e.tenant = ?1 AND e.remaining > 0 ORDER BY e.expires_ms, e.transfer",
        )?;
        let rows = open.query_map([tenant.as_str()], |row| {
            Ok(Expiring {
                source: row.get(0)?,
                amount: Nanos::new(row.get(1)?),
                remaining: Nanos::new(row.get(2)?),
                expires_ms: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    })
    .await
}

const OPEN: &str = "SELECT transfer, remaining FROM expiring_credit WHERE tenant = ?1 AND remaining > 0 \
    ORDER BY expires_ms, transfer";
