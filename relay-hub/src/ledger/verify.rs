//! Proves the books from their rows: sums, holds, the chain. Reads only, in bounded memory.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use sqlx::{Row as _, SqliteConnection};

use super::{
    rules::{Head, Transfer},
    verdict::{Findings, Invariant, Verdict},
};
use crate::{
    money::Nanos,
    store::{Store, StoreError},
};

/// Where the chain ended once, as an earlier [`Verdict::head`] told: kept outside, it shows whether the past was
/// changed since, whatever was done to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor([u8; 32]);

impl Anchor {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high?.checked_mul(16)?.checked_add(low?)?).ok()?;
        }
        Some(Self(hash))
    }
}

/// Posts what is durable, then looks at every row in one transaction.
pub async fn verify(store: &Store) -> Result<Verdict, StoreError> {
    verify_past(store, None).await
}

/// The same; the chain must pass the anchor too.
pub async fn verify_past(store: &Store, anchor: Option<Anchor>) -> Result<Verdict, StoreError> {
    super::post(store).await?;
    let mut tx = store.readers().begin().await?;
    let mut check = Check::new(anchor);
    check.transfers(&mut tx).await?;
    check.end_of_chain(&mut tx).await?;
    check.accounts(&mut tx).await?;
    check.by_statement(&mut tx).await?;
    check.guards(&mut tx).await?;
    let count = sqlx::query("SELECT (SELECT count(hold) FROM usage), (SELECT count(*) FROM hold)")
        .fetch_one(&mut *tx)
        .await?;
    let (resolved, open) = (count.try_get::<i64, _>(0)?, count.try_get::<i64, _>(1)?);
    tx.commit().await?;
    Ok(check.verdict(resolved.unsigned_abs(), open.unsigned_abs()))
}

struct Check {
    findings: Findings,
    /// What the transfers make of each account. Wide, so that damaged rows cannot overflow it.
    sums: HashMap<String, i128>,
    head: Head,
    transfers: u64,
    accounts: u64,
    /// Not found in the chain yet.
    anchor: Option<Anchor>,
}

impl Check {
    fn new(anchor: Option<Anchor>) -> Self {
        Self {
            findings: Findings::new(),
            sums: HashMap::new(),
            head: Head::START,
            transfers: 0,
            accounts: 0,
            anchor: anchor.filter(|anchor| anchor.0 != Head::START.hash),
        }
    }

    fn wrong(&mut self, invariant: Invariant, problem: String) {
        self.findings.wrong(invariant, problem);
    }

    fn verdict(self, resolved: u64, open_holds: u64) -> Verdict {
        let invariants = self.findings.into_vec();
        Verdict {
            ok: invariants.iter().all(|finding| finding.ok),
            accounts: self.accounts,
            holds: resolved.saturating_add(open_holds),
            open_holds,
            transfers: self.transfers,
            head: hex(&self.head.hash),
            problems: invariants.iter().flat_map(|finding| finding.problems.clone()).collect(),
            invariants,
        }
    }

    /// The chain (I10), and the sums that accounts must show (I1).
    async fn transfers(&mut self, tx: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut rows = sqlx::query(
            "SELECT seq, kind, hold, idem, debit, credit, amount, at_ms, note, hash FROM transfer ORDER BY seq",
        )
        .fetch(tx);
        while let Some(row) = rows.try_next().await? {
            let transfer = Transfer {
                kind: row.try_get(1)?,
                hold: row.try_get(2)?,
                idem: row.try_get(3)?,
                debit: row.try_get(4)?,
                credit: row.try_get(5)?,
                amount: Nanos::new(row.try_get(6)?),
                at_ms: row.try_get(7)?,
                note: row.try_get(8)?,
            };
            self.link(row.try_get(0)?, &transfer, row.try_get(9)?);
            let amount = i128::from(transfer.amount.get());
            self.add(transfer.debit, amount.saturating_neg());
            self.add(transfer.credit, amount);
            self.transfers = self.transfers.saturating_add(1);
        }
        Ok(())
    }

    fn add(&mut self, account: &str, amount: i128) {
        if let Some(sum) = self.sums.get_mut(account) {
            *sum = sum.saturating_add(amount);
        } else {
            self.sums.insert(account.to_owned(), amount);
        }
    }

    /// Whether a transfer stands where the one before it puts it.
    fn link(&mut self, seq: i64, transfer: &Transfer<'_>, found: &[u8]) {
        match self.head.next(transfer) {
            Some(place) if place.seq == seq && place.hash == found => {
                self.head = place;
                if self.findings.holds(Invariant::I10) && self.anchor == Some(Anchor(place.hash)) {
                    self.anchor = None;
                }
            }
            Some(place) => {
                let problem = format!("transfer {seq} does not fit the chain: it, or a row before it, was changed");
                self.wrong(Invariant::I10, problem);
                // The rest is checked from what stands here, so that one change is told once.
                self.head = Head {
                    seq,
                    hash: found.try_into().unwrap_or(place.hash),
                };
            }
            None => self.wrong(Invariant::I10, format!("transfer {seq} has no place in the chain")),
        }
    }

    /// Whether the chain ends where the hub last left it, and passes what was kept outside (I10): rows taken away at
    /// its end leave a chain that is whole.
    async fn end_of_chain(&mut self, tx: &mut SqliteConnection) -> Result<(), StoreError> {
        let left = sqlx::query("SELECT transfers, head FROM hub").fetch_one(tx).await?;
        let (seq, hash): (i64, &[u8]) = (left.try_get(0)?, left.try_get(1)?);
        if (seq, hash) != (self.head.seq, &self.head.hash[..]) {
            let problem = format!(
                "the chain ends with transfer {} in {}, the hub left it with {seq} in {}",
                self.head.seq,
                hex(&self.head.hash),
                hex(hash),
            );
            self.wrong(Invariant::I10, problem);
        }
        if let Some(Anchor(hash)) = self.anchor {
            let problem = format!(
                "the chain does not pass {}: what it told then was changed or is gone",
                hex(&hash)
            );
            self.wrong(Invariant::I10, problem);
        }
        Ok(())
    }

    /// Balances against transfers (I1), held against open holds (I2), floors (I3), the whole (I5).
    async fn accounts(&mut self, tx: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut rows = sqlx::query(
            "SELECT id, posted, held, floor, coalesce(open.sum, 0) FROM account LEFT JOIN \
             (SELECT tenant, sum(amount) AS sum FROM hold GROUP BY tenant) AS open ON open.tenant = account.id",
        )
        .fetch(&mut *tx);
        let mut whole: i128 = 0;
        while let Some(row) = rows.try_next().await? {
            let id: &str = row.try_get(0)?;
            let money = |column: usize| row.try_get::<i64, _>(column).map(i128::from);
            let (posted, held, floor, open) = (money(1)?, money(2)?, money(3)?, money(4)?);
            let sum = self.sums.remove(id).unwrap_or_default();
            whole = whole.saturating_add(posted);
            if posted != sum {
                let problem = format!("{id} has {}, its transfers make {}", shown(posted), shown(sum));
                self.wrong(Invariant::I1, problem);
            }
            if held != open {
                let problem = format!("{id} holds {}, its open holds make {}", shown(held), shown(open));
                self.wrong(Invariant::I2, problem);
            }
            if posted.saturating_sub(held) < floor {
                self.wrong(Invariant::I3, format!("{id} is below its floor of {}", shown(floor)));
            }
            self.accounts = self.accounts.saturating_add(1);
        }
        if whole != 0 {
            let problem = format!("all accounts together have {}, not nothing", shown(whole));
            self.wrong(Invariant::I5, problem);
        }
        let lost: Vec<String> = self.sums.drain().map(|(name, _)| name).collect();
        for name in lost {
            self.wrong(Invariant::I5, format!("transfers name {name}, which is no account"));
        }
        Ok(())
    }

    async fn by_statement(&mut self, tx: &mut SqliteConnection) -> Result<(), StoreError> {
        for (invariant, sql, problem) in STATEMENTS {
            let mut rows = sqlx::query(sql).fetch(&mut *tx);
            while let Some(row) = rows.try_next().await? {
                self.wrong(invariant, format!("{problem} {}", row.try_get::<i64, _>(0)?));
            }
        }
        Ok(())
    }

    async fn guards(&mut self, tx: &mut SqliteConnection) -> Result<(), StoreError> {
        let rows = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            .fetch_all(tx)
            .await?;
        let names: HashSet<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        for name in GUARDS.into_iter().filter(|name| !names.contains(*name)) {
            let problem = format!("the guard `{name}` was removed from the database");
            self.wrong(Invariant::I10, problem);
        }
        Ok(())
    }
}

fn shown(amount: i128) -> String {
    i64::try_from(amount).map_or_else(
        |_| "an impossible amount".to_owned(),
        |amount| Nanos::new(amount).to_string(),
    )
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each returns the numbers of rows that should not be.
const STATEMENTS: [(Invariant, &str, &str); 9] = [
    (
        Invariant::I4,
        "SELECT min(id) FROM hold GROUP BY call HAVING count(*) > 1",
        "a call has another open hold beside hold",
    ),
    (
        Invariant::I4,
        "SELECT hold FROM transfer WHERE hold IS NOT NULL GROUP BY hold, kind HAVING count(*) > 1",
        "more than one transfer of a kind for hold",
    ),
    (
        Invariant::I4,
        "SELECT hold FROM usage WHERE hold IS NOT NULL GROUP BY hold HAVING count(*) > 1",
        "more than one usage row for hold",
    ),
    (
        Invariant::I4,
        "SELECT u.hold FROM usage u JOIN hold h ON h.id = u.hold",
        "a call ended and its hold is still open:",
    ),
    (
        Invariant::I4,
        "SELECT t.seq FROM transfer t LEFT JOIN usage u ON u.hold = t.hold WHERE t.kind IN ('charge', 'loss') \
         AND (u.seq IS NULL OR (t.kind = 'charge' AND u.tenant <> t.debit))",
        "no call of that tenant behind transfer",
    ),
    (
        Invariant::I4,
        "SELECT u.seq FROM usage u LEFT JOIN transfer t ON t.hold = u.hold AND t.kind = 'charge' \
         WHERE u.charged <> coalesce(t.amount, 0)",
        "another amount was charged than says usage row",
    ),
    (
        Invariant::I5,
        "SELECT seq FROM transfer WHERE debit = credit OR amount <= 0",
        "nothing moves from one account to another by transfer",
    ),
    (
        Invariant::I1,
        "SELECT e.transfer FROM expiring_credit e LEFT JOIN transfer t ON t.seq = e.transfer AND t.kind = 'credit' \
         AND t.credit = e.tenant AND t.idem = e.source WHERE t.seq IS NULL OR e.remaining > t.amount",
        "what is left of credit that ends does not fit transfer",
    ),
    (
        Invariant::Posted,
        "SELECT seq FROM unposted",
        "the tables refused an entry of the journal's page",
    ),
];

const GUARDS: [&str; 7] = [
    "transfer_no_update",
    "transfer_no_delete",
    "usage_no_update",
    "hold_no_update",
    "hold_only_grows",
    "price_no_update",
    "price_no_delete",
];
