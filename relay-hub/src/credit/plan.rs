//! Plans: what they give at the beginning of each month and day, each once. Knows no call.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use rusqlite::{Connection, params};
use tracing::warn;

use crate::{
    ids::TenantId,
    ledger::{self, CreditError, Grant, OpenBooks},
    money::Nanos,
    store::{Store, StoreError},
};

/// The month and the day of a moment, UTC, and when each ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) ms: i64,
    /// Such as 2026-11.
    pub(super) month: String,
    month_ends_ms: i64,
    /// Such as 2026-11-21.
    pub(super) day: String,
    day_ends_ms: i64,
}

impl Now {
    /// None outside the calendar.
    pub(super) fn at(ms: i64) -> Option<Self> {
        let day = Timestamp::from_millisecond(ms).ok()?.to_zoned(TimeZone::UTC).date();
        let midnight = |date: Date| Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
        let text = day.to_string();
        Some(Self {
            ms,
            month: text.get(..MONTH)?.to_owned(),
            month_ends_ms: midnight(day.last_of_month().tomorrow().ok()?)?,
            day: text,
            day_ends_ms: midnight(day.tomorrow().ok()?)?,
        })
    }
}

/// A tenant that was not given everything.
struct Due {
    tenant: TenantId,
    plan: String,
    monthly: i64,
    daily: i64,
    free: i64,
}

/// Gives what is due to at most [`AT_ONCE`] tenants; true where there may be more.
pub(super) async fn give(store: &Store, now: Now) -> Result<bool, CreditError> {
    ledger::transaction(store, move |books| {
        let due = due(books.connection(), &now)?;
        for tenant in &due {
            for grant in tenant.grants(&now) {
                book(books, &grant)?;
            }
            books.connection().execute(
                "UPDATE tenant_plan SET month = ?2, day = ?3, free = 1 WHERE tenant = ?1",
                params![tenant.tenant.as_str(), now.month, now.day],
            )?;
        }
        Ok(due.len() == AT_ONCE)
    })
    .await
}

/// One tenant that cannot be given its quota must not keep it from the others.
fn book(books: &OpenBooks<'_>, grant: &Grant) -> Result<(), CreditError> {
    match books.grant(grant) {
        Ok(_) => Ok(()),
        Err(CreditError::Store(store)) => Err(CreditError::Store(store)),
        // Of a plan of that name with other amounts: the period was given.
        Err(CreditError::OtherCredit(_)) => Ok(()),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            warn!(error, tenant = %grant.tenant, source = grant.source, "a plan's quota cannot be given");
            Ok(())
        }
    }
}

impl Due {
    fn grants(&self, now: &Now) -> impl Iterator<Item = Grant> {
        let all = [
            (self.monthly, now.month.as_str(), Some(now.month_ends_ms)),
            (self.daily, now.day.as_str(), Some(now.day_ends_ms)),
            (self.free, "free", None),
        ];
        all.into_iter()
            .filter(|(amount, ..)| *amount > 0)
            .map(|(amount, period, expires_ms)| Grant {
                tenant: self.tenant.clone(),
                amount: Nanos::new(amount),
                source: format!("plan {} {period} {}", self.plan, self.tenant),
                note: String::new(),
                at_ms: now.ms,
                expires_ms,
            })
    }
}

fn due(connection: &Connection, now: &Now) -> Result<Vec<Due>, CreditError> {
    let mut due = connection.prepare_cached(DUE)?;
    let mut rows = due.query(params![now.month, now.day, i64::try_from(AT_ONCE).unwrap_or(i64::MAX)])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let tenant: String = row.get(0)?;
        all.push(Due {
            tenant: TenantId::parse(&tenant).map_err(StoreError::from)?,
            plan: row.get(1)?,
            monthly: row.get(2)?,
            daily: row.get(3)?,
            free: row.get(4)?,
        });
    }
    Ok(all)
}

/// What was given is known by its source: a clock that was set back and on again gives nothing twice.
const DUE: &str = "SELECT t.tenant, p.name, p.monthly, p.daily, p.free FROM tenant_plan t JOIN plan p ON p.name = t.plan \
    WHERE (p.monthly > 0 AND t.month <> ?1) OR (p.daily > 0 AND t.day <> ?2) OR (p.free > 0 AND t.free = 0) LIMIT ?3";
const AT_ONCE: usize = 200;
const MONTH: usize = 7;
