//! Codes: made once and shown once, redeemed once. Sixteen letters and digits (80 bits); their SHA-256 is kept.

use aws_lc_rs::digest::{SHA256, digest};
use relay_shared::secret::Secret;
use rusqlite::{OptionalExtension as _, params};

use super::RedeemError;
use crate::{
    ids::{CodeId, TenantId, is_name, random_name},
    ledger::{self, CreditError, Credited, Grant},
    money::Nanos,
    store::{
        Store, StoreError,
        codes::{self, NewCode},
    },
};

/// What new codes have in common.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What each is worth.
    pub amount: Nanos,
    /// When they can be redeemed no longer, milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// How long their credit lasts, from when they are redeemed.
    pub days: Option<i64>,
    /// Kept with them, and with the entries of the books.
    pub note: String,
}

/// What a redeemed code did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redeemed {
    /// Which code.
    pub id: CodeId,
    /// What it was worth.
    pub amount: Nanos,
    /// The balance after it; whether this time did it.
    pub credited: Credited,
    /// When the credit ends, milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

impl Redeemed {
    /// Where the entry of the books says that the credit is from.
    pub fn source(&self) -> String {
        source(&self.id)
    }
}

/// Makes codes. Their texts are returned here and nowhere else, ever.
pub async fn make(
    store: &Store,
    terms: &Terms,
    count: usize,
    now_ms: i64,
) -> Result<Vec<(CodeId, Secret<String>)>, StoreError> {
    let (mut texts, mut rows) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let (id, name) = (CodeId::random(), random_name());
        rows.push(NewCode {
            id: id.clone(),
            hash: hash_of(&name),
            amount: terms.amount,
            expires_ms: terms.expires_ms,
            days: terms.days,
            note: terms.note.clone(),
            created_ms: now_ms,
        });
        texts.push((id, Secret::new(written(&name))));
    }
    codes::add(store, &rows).await?;
    Ok(texts)
}

/// Books what a code is worth, once; asked for again by the same tenant, it is told again.
pub async fn redeem(store: &Store, text: &str, tenant: &TenantId, now_ms: i64) -> Result<Redeemed, RedeemError> {
    let hash = hash(text).ok_or(RedeemError::Unknown)?;
    let tenant = tenant.clone();
    ledger::transaction(store, move |books| {
        let found = find(books.connection(), &hash)?.ok_or(RedeemError::Unknown)?;
        let since_ms = found.usable_by(&tenant, now_ms)?;
        if since_ms.is_none() {
            books.connection().execute(
                "UPDATE code SET tenant = ?2, redeemed_ms = ?3 WHERE id = ?1",
                params![found.id, tenant.as_str(), now_ms],
            )?;
        }
        let id = CodeId::parse(&found.id).map_err(|error| CreditError::Store(error.into()))?;
        let at_ms = since_ms.unwrap_or(now_ms);
        let expires_ms = found.days.map(|days| at_ms.saturating_add(days.saturating_mul(DAY_MS)));
        let credited = books.grant(&Grant {
            tenant,
            amount: Nanos::new(found.amount),
            source: source(&id),
            note: found.note,
            at_ms,
            expires_ms,
        })?;
        Ok(Redeemed {
            id,
            amount: Nanos::new(found.amount),
            credited,
            expires_ms,
        })
    })
    .await
}

/// A row of a code.
struct Found {
    id: String,
    amount: i64,
    note: String,
    days: Option<i64>,
    expires_ms: Option<i64>,
    revoked_ms: Option<i64>,
    /// Who redeemed it, and when.
    redeemed: Option<(String, i64)>,
}

impl Found {
    /// When this very tenant redeemed it; none where it may do so now.
    fn usable_by(&self, tenant: &TenantId, now_ms: i64) -> Result<Option<i64>, RedeemError> {
        match &self.redeemed {
            Some((by, at_ms)) if by == tenant.as_str() => Ok(Some(*at_ms)),
            Some(_) => Err(RedeemError::Used),
            None if self.revoked_ms.is_some() => Err(RedeemError::Revoked),
            None if self.expires_ms.is_some_and(|at_ms| at_ms <= now_ms) => Err(RedeemError::Expired),
            None => Ok(None),
        }
    }
}

fn find(connection: &rusqlite::Connection, hash: &[u8; 32]) -> rusqlite::Result<Option<Found>> {
    let sql = "SELECT id, amount, note, days, expires_ms, revoked_ms, tenant, redeemed_ms FROM code WHERE hash = ?1";
    connection
        .query_row(sql, [&hash[..]], |row| {
            let by: Option<String> = row.get(6)?;
            let at_ms: Option<i64> = row.get(7)?;
            Ok(Found {
                id: row.get(0)?,
                amount: row.get(1)?,
                note: row.get(2)?,
                days: row.get(3)?,
                expires_ms: row.get(4)?,
                revoked_ms: row.get(5)?,
                redeemed: by.zip(at_ms),
            })
        })
        .optional()
}

/// The hash of a code, however it was typed; none where the text can be no code.
pub fn hash(text: &str) -> Option<[u8; 32]> {
    let kept = |c: &char| !c.is_whitespace() && *c != '-';
    let name: String = text.chars().filter(kept).take(LONGEST).collect();
    let name = name.to_ascii_lowercase();
    is_name(&name).then(|| hash_of(&name))
}

fn hash_of(name: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, name.as_bytes()).as_ref());
    hash
}

/// As it is shown: `ABCD-EFGH-JKMN-PQRS`.
fn written(name: &str) -> String {
    let mut text = String::with_capacity(LONGEST);
    for (at, c) in name.chars().enumerate() {
        if at > 0 && at % 4 == 0 {
            text.push('-');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

fn source(id: &CodeId) -> String {
    format!("code {id}")
}

const LONGEST: usize = 20;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
