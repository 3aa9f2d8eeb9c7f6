//! Credit: an entry of the books like any other, applied once. Knows no reason for one.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    BooksError, PATIENCE, grants, post,
    rules::{FUNDING, Transfer},
    sql,
};
use crate::{
    ids::TenantId,
    money::Nanos,
    store::{Store, StoreError},
};

/// A credit that is asked for.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whose it is.
    pub tenant: TenantId,
    /// How much.
    pub amount: Nanos,
    /// Where it is from, such as a code or an invoice: the same source is booked once.
    pub source: String,
    /// Kept with the entry.
    pub note: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// When what is left of it goes back, milliseconds since 1970; none: never.
    pub expires_ms: Option<i64>,
}

/// What a credit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credited {
    /// The tenant's balance after it.
    pub balance: Nanos,
    /// False where the same credit was booked before.
    pub is_first: bool,
}

/// Why a credit is not booked.
#[derive(Debug, thiserror::Error)]
pub enum CreditError {
    /// Nothing to book.
    #[error("a credit must be more than 0")]
    Nothing,
    /// It would be gone at once.
    #[error("the credit would end before it begins")]
    Over,
    /// More than the books can hold.
    #[error("the balance would be more than 1,000,000,000: that is taken for a mistake")]
    TooMuch,
    /// More than the books can hold for all tenants together.
    #[error("all credits together would be more than 9,000,000,000: the books cannot hold that")]
    Full,
    /// Nobody of that id.
    #[error("there is no tenant {0}")]
    Unknown(TenantId),
    /// The reference was used for another credit.
    #[error("the reference `{0}` was used for a credit to another tenant or of another amount")]
    OtherCredit(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BooksError> for CreditError {
    fn from(error: BooksError) -> Self {
        Self::Store(StoreError::Books(error.into()))
    }
}

impl From<rusqlite::Error> for CreditError {
    fn from(error: rusqlite::Error) -> Self {
        BooksError::from(error).into()
    }
}

/// Books a credit in one transaction. The same `reference` books it once, however often it is asked for.
pub async fn credit(
    store: &Store,
    tenant: &TenantId,
    amount: Nanos,
    reference: &str,
    note: &str,
    at_ms: i64,
) -> Result<Credited, CreditError> {
    let asked = Grant {
        tenant: tenant.clone(),
        amount,
        source: reference.to_owned(),
        note: note.to_owned(),
        at_ms,
        expires_ms: None,
    };
    grant(store, asked).await
}

/// The same for a credit that may end.
pub async fn grant(store: &Store, grant: Grant) -> Result<Credited, CreditError> {
    transaction(store, move |books| books.grant(&grant)).await
}

/// The books within one transaction: all that is durable is in the tables, and nobody else writes.
pub struct OpenBooks<'a>(&'a Connection);

/// Does all of `work` or, where that fails, nothing of it.
pub(crate) async fn transaction<T, E>(
    store: &Store,
    work: impl FnOnce(&OpenBooks<'_>) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<CreditError> + Send + 'static,
{
    let database = store.data().database();
    let done = tokio::task::spawn_blocking(move || {
        let failed = |error: BooksError| E::from(error.into());
        let connection = sql::open(&database, PATIENCE).map_err(|error| failed(error.into()))?;
        sql::begin(&connection).map_err(|error| failed(error.into()))?;
        post::within(&connection).map_err(failed)?;
        let done = work(&OpenBooks(&connection))?;
        sql::commit(&connection).map_err(|error| failed(error.into()))?;
        Ok(done)
    });
    done.await
        .unwrap_or_else(|gone| Err(E::from(StoreError::Books(gone.into()).into())))
}

impl OpenBooks<'_> {
    /// For what else must be true together with a credit. Rows of the ledger are not written through it.
    pub(crate) fn connection(&self) -> &Connection {
        self.0
    }

    /// Books a credit.
    ///
    /// # Errors
    /// It cannot be booked; nothing of the transaction may be kept then.
    pub(crate) fn grant(&self, grant: &Grant) -> Result<Credited, CreditError> {
        if grant.amount <= Nanos::ZERO {
            return Err(CreditError::Nothing);
        }
        if let Some(balance) = self.known(grant)? {
            return Ok(Credited {
                balance,
                is_first: false,
            });
        }
        if grant.expires_ms.is_some_and(|at_ms| at_ms <= grant.at_ms) {
            return Err(CreditError::Over);
        }
        grants::tell_apart(self.0, grant.tenant.as_str())?;
        let balance = self.fund(&grant.tenant, grant.amount)?;
        let seq = append(
            self.0,
            &Transfer {
                kind: "credit",
                hold: None,
                idem: Some(&grant.source),
                debit: FUNDING,
                credit: grant.tenant.as_str(),
                amount: grant.amount,
                at_ms: grant.at_ms,
                note: &grant.note,
            },
        )?;
        if let Some(expires_ms) = grant.expires_ms {
            grants::add(self.0, grant, seq, expires_ms, balance)?;
        }
        grants::mark(self.0, grant.tenant.as_str(), balance)?;
        Ok(Credited {
            balance,
            is_first: true,
        })
    }

    /// The tenant's balance, where this very credit was booked before.
    fn known(&self, grant: &Grant) -> Result<Option<Nanos>, CreditError> {
        let known = self
            .0
            .prepare_cached("SELECT credit, amount FROM transfer WHERE idem = ?1")?
            .query_row([&grant.source], |row| {
                let tenant = row.get_ref(0)?.as_str()? == grant.tenant.as_str();
                Ok(tenant && row.get::<_, i64>(1)? == grant.amount.get())
            })
            .optional()?;
        match known {
            None => Ok(None),
            Some(false) => Err(CreditError::OtherCredit(grant.source.clone())),
            Some(true) => self.balance(&grant.tenant),
        }
    }

    fn balance(&self, tenant: &TenantId) -> Result<Option<Nanos>, CreditError> {
        let mut posted = self.0.prepare_cached("SELECT posted FROM account WHERE id = ?1")?;
        let posted = posted.query_row([tenant.as_str()], |row| row.get(0).map(Nanos::new));
        Ok(posted.optional()?)
    }

    /// Moves the amount from where all credit is from; the balance after it.
    fn fund(&self, tenant: &TenantId, amount: Nanos) -> Result<Nanos, CreditError> {
        let moved = self
            .0
            .prepare_cached(
                "UPDATE account SET posted = posted + ?2 WHERE id = ?1 AND posted <= ?3 - ?2 RETURNING posted",
            )?
            .query_row(params![tenant.as_str(), amount.get(), Nanos::MAX_TYPED.get()], |row| {
                row.get(0).map(Nanos::new)
            })
            .optional()?;
        let Some(balance) = moved else {
            return Err(match self.balance(tenant)? {
                Some(_) => CreditError::TooMuch,
                None => CreditError::Unknown(tenant.clone()),
            });
        };
        let funded = self
            .0
            .prepare_cached("UPDATE account SET posted = posted - ?2 WHERE id = ?1 AND posted - ?2 >= floor")?
            .execute(params![FUNDING, amount.get()])?;
        if funded == 0 {
            return Err(CreditError::Full);
        }
        Ok(balance)
    }
}

/// Writes a transfer at the end of the chain; its number.
pub(super) fn append(connection: &Connection, row: &Transfer<'_>) -> Result<i64, BooksError> {
    let head = sql::head(connection)?.ok_or(BooksError::Books("a hash is not 32 bytes long"))?;
    let place = head.next(row).ok_or(BooksError::Books("the chain is full"))?;
    connection
        .prepare_cached(
            "INSERT INTO transfer (seq, kind, idem, debit, credit, amount, at_ms, note, hash) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            place.seq,
            row.kind,
            row.idem,
            row.debit,
            row.credit,
            row.amount.get(),
            row.at_ms,
            row.note,
            &place.hash[..],
        ])?;
    sql::set_head(connection, &place)?;
    Ok(place.seq)
}
