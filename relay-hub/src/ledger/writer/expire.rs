//! Takes back what is over, where no call holds it: what was promised in memory only the writer knows of.

use rusqlite::Connection;

use super::{
    super::{
        grants,
        inbox::Inbox,
        post::{self, BooksError},
        sql,
    },
    Writer,
};
use crate::{ids::TenantId, money::Nanos};

/// What is taken from a tenant is promised from before the transaction to after it.
struct Taken {
    tenant: TenantId,
    amount: Nanos,
    /// What the tenant can spend after it.
    available: Nanos,
}

impl Writer {
    /// Debits what is left of these tenants' credit that is over by `now_ms`; how much that was together. What running
    /// calls hold may be spent from it yet: that much is left for the next time.
    pub(super) fn expire(&mut self, tenants: &[TenantId], now_ms: i64) -> Result<Nanos, BooksError> {
        self.post()?;
        let mut taken = Vec::with_capacity(tenants.len());
        let done = self.expire_within(tenants, now_ms, &mut taken);
        self.inbox.book(|book| {
            for one in &taken {
                book.kept(&one.tenant, one.amount);
                if done.is_ok() {
                    book.learn(one.tenant.clone(), one.available);
                }
            }
        });
        match done {
            Ok(()) => Ok(taken
                .iter()
                .fold(Nanos::ZERO, |sum, one| sum.saturating_add(one.amount))),
            Err(cause) => {
                self.shaken(&cause);
                Err(cause)
            }
        }
    }

    fn expire_within(&mut self, tenants: &[TenantId], now_ms: i64, taken: &mut Vec<Taken>) -> Result<(), BooksError> {
        let (epoch, inbox) = (self.epoch, self.inbox.clone());
        let connection = self.connected()?;
        sql::begin(connection)?;
        post::within(connection)?;
        if sql::standing(connection)?.epoch != epoch {
            return Err(BooksError::Books("a later hub has taken over"));
        }
        for tenant in tenants {
            expire_one(connection, &inbox, tenant, now_ms, taken)?;
        }
        sql::commit(connection)?;
        Ok(())
    }
}

fn expire_one(
    connection: &Connection,
    inbox: &Inbox,
    tenant: &TenantId,
    now_ms: i64,
    taken: &mut Vec<Taken>,
) -> Result<(), BooksError> {
    let name = tenant.as_str();
    grants::tell_apart(connection, name)?;
    let over = grants::over(connection, name, now_ms)?;
    let missing = BooksError::Books("an account is missing");
    let available = sql::available(connection, name)?.ok_or(missing)?;
    let held = sql::held(connection, name)?;
    let amount = inbox.book(|book| {
        book.learn(tenant.clone(), available);
        book.take_unheld(tenant, grants::sum(&over), held)
    });
    taken.push(Taken {
        tenant: tenant.clone(),
        amount,
        available: available.saturating_sub(amount),
    });
    grants::debit(connection, name, &over, amount, now_ms)?;
    Ok(grants::mark(connection, name, sql::posted(connection, name)?)?)
}
