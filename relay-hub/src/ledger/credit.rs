//! Credit from the operator: an entry of the books like any other, applied once.

use sqlx::Row as _;

use super::rules::{FUNDING, Head, Transfer};
use crate::{
    ids::TenantId,
    money::Nanos,
    store::{Store, StoreError},
};

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

impl From<sqlx::Error> for CreditError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
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
    if amount <= Nanos::ZERO {
        return Err(CreditError::Nothing);
    }
    let mut tx = store.write().await?;
    let known = sqlx::query("SELECT credit, amount FROM transfer WHERE idem = $1").bind(reference);
    if let Some(known) = known.fetch_optional(&mut *tx).await? {
        let is_same = known.try_get::<&str, _>(0)? == tenant.as_str() && known.try_get::<i64, _>(1)? == amount.get();
        if !is_same {
            return Err(CreditError::OtherCredit(reference.to_owned()));
        }
        let row = sqlx::query("SELECT posted FROM account WHERE id = $1")
            .bind(tenant.as_str())
            .fetch_one(&mut *tx)
            .await?;
        return Ok(Credited {
            balance: Nanos::new(row.try_get(0)?),
            is_first: false,
        });
    }
    let moved =
        sqlx::query("UPDATE account SET posted = posted + $2 WHERE id = $1 AND posted <= $3 - $2 RETURNING posted")
            .bind(tenant.as_str())
            .bind(amount.get())
            .bind(Nanos::MAX_TYPED.get())
            .fetch_optional(&mut *tx)
            .await?;
    let Some(moved) = moved else {
        let known = sqlx::query("SELECT 1 FROM account WHERE id = $1").bind(tenant.as_str());
        let is_known = known.fetch_optional(&mut *tx).await?.is_some();
        return Err(if is_known {
            CreditError::TooMuch
        } else {
            CreditError::Unknown(tenant.clone())
        });
    };
    let funded = sqlx::query("UPDATE account SET posted = posted - $2 WHERE id = $1 AND posted - $2 >= floor")
        .bind(FUNDING)
        .bind(amount.get())
        .execute(&mut *tx)
        .await?;
    if funded.rows_affected() == 0 {
        return Err(CreditError::Full);
    }
    append(&mut tx, tenant, amount, reference, note, at_ms).await?;
    tx.commit().await?;
    Ok(Credited {
        balance: Nanos::new(moved.try_get(0)?),
        is_first: true,
    })
}

async fn append(
    tx: &mut sqlx::SqliteConnection,
    tenant: &TenantId,
    amount: Nanos,
    reference: &str,
    note: &str,
    at_ms: i64,
) -> Result<(), StoreError> {
    let last = sqlx::query("SELECT seq, hash FROM transfer ORDER BY seq DESC LIMIT 1")
        .fetch_optional(&mut *tx)
        .await?;
    let corrupt = |what: &str| StoreError::Corrupt(what.to_owned());
    let head = match last {
        Some(row) => Head {
            seq: row.try_get(0)?,
            hash: row
                .try_get::<&[u8], _>(1)?
                .try_into()
                .map_err(|_| corrupt("a hash is not 32 bytes long"))?,
        },
        None => Head::START,
    };
    let (debit, credit) = (FUNDING, tenant.as_str());
    let row = Transfer {
        kind: "credit",
        hold: None,
        idem: Some(reference),
        debit,
        credit,
        amount,
        at_ms,
        note,
    };
    let place = head.next(&row).ok_or_else(|| corrupt("the chain is full"))?;
    sqlx::query(
        "INSERT INTO transfer (seq, kind, idem, debit, credit, amount, at_ms, note, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(place.seq)
    .bind(row.kind)
    .bind(reference)
    .bind(debit)
    .bind(credit)
    .bind(amount.get())
    .bind(at_ms)
    .bind(note)
    .bind(place.hash.to_vec())
    .execute(&mut *tx)
    .await?;
    sqlx::query("UPDATE hub SET transfers = $1, head = $2")
        .bind(place.seq)
        .bind(place.hash.to_vec())
        .execute(tx)
        .await?;
    Ok(())
}
