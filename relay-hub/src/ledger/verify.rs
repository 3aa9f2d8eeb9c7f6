//! Proves the books from their rows: sums, holds, the chain. Reads only.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::rules::{Head, Transfer};
use crate::{
    money::Nanos,
    store::{Store, StoreError},
};

/// What the books say about themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Accounts looked at.
    pub accounts: u64,
    /// Holds looked at.
    pub holds: u64,
    /// Holds that are open.
    pub open_holds: u64,
    /// Transfers looked at; the chain covers all of them.
    pub transfers: u64,
    /// The last transfer's hash: whoever wrote it down can tell later whether the past was changed.
    pub head: String,
    /// What is wrong, at most a hundred lines.
    pub problems: Vec<String>,
}

/// Posts what is durable, then looks at every row in one transaction.
pub async fn verify(store: &Store) -> Result<Verdict, StoreError> {
    super::post(store).await?;
    let mut tx = store.readers().begin().await?;
    let mut check = Check::default();
    check.transfers(&mut tx).await?;
    check.accounts(&mut tx).await?;
    check.by_statement(&mut tx).await?;
    check.triggers(&mut tx).await?;
    let count: SqliteRow = sqlx::query("SELECT (SELECT count(hold) FROM usage), (SELECT count(*) FROM hold)")
        .fetch_one(&mut *tx)
        .await?;
    check.verdict.open_holds = count.try_get::<i64, _>(1)?.unsigned_abs();
    let resolved = count.try_get::<i64, _>(0)?.unsigned_abs();
    check.verdict.holds = resolved.saturating_add(check.verdict.open_holds);
    tx.commit().await?;
    check.verdict.ok = check.verdict.problems.is_empty();
    Ok(check.verdict)
}

#[derive(Default)]
struct Check {
    verdict: Verdict,
    /// What the transfers make of each account. Wide, so that damaged rows cannot overflow it.
    sums: HashMap<String, i128>,
}

impl Check {
    fn wrong(&mut self, problem: String) {
        if self.verdict.problems.len() < MOST_PROBLEMS {
            self.verdict.problems.push(problem);
        }
    }

    /// The chain (I10), and the sums that accounts must show (I1).
    async fn transfers(&mut self, tx: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut rows = sqlx::query(
            "SELECT seq, kind, hold, idem, debit, credit, amount, at_ms, note, hash FROM transfer ORDER BY seq",
        )
        .fetch(tx);
        let mut head = Head::START;
        while let Some(row) = rows.try_next().await? {
            let seq: i64 = row.try_get(0)?;
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
            let found: &[u8] = row.try_get(9)?;
            match head.next(&transfer) {
                Some(place) if place.seq == seq && place.hash == found => head = place,
                Some(place) => {
                    self.wrong(format!(
                        "transfer {seq} does not fit the chain: it, or a row before it, was changed"
                    ));
                    // The rest is checked from what stands here, so that one change is told once.
                    head = Head {
                        seq,
                        hash: found.try_into().unwrap_or(place.hash),
                    };
                }
                None => self.wrong(format!("transfer {seq} has no place in the chain")),
            }
            let amount = i128::from(transfer.amount.get());
            let debit = self.sums.entry(transfer.debit.to_owned()).or_default();
            *debit = debit.saturating_sub(amount);
            let credit = self.sums.entry(transfer.credit.to_owned()).or_default();
            *credit = credit.saturating_add(amount);
            self.verdict.transfers = self.verdict.transfers.saturating_add(1);
        }
        self.verdict.head = head.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(())
    }

    /// Balances against transfers (I1), held against open holds (I2), floors (I3), the whole (I5).
    async fn accounts(&mut self, tx: &mut SqliteConnection) -> Result<(), StoreError> {
        let rows = sqlx::query(
            "SELECT id, posted, held, floor, \
             (SELECT coalesce(sum(amount), 0) FROM hold WHERE tenant = account.id) FROM account",
        )
        .fetch_all(tx)
        .await?;
        let mut whole: i128 = 0;
        let mut seen = HashSet::new();
        for row in rows {
            let id: String = row.try_get(0)?;
            let money = |column: usize| row.try_get::<i64, _>(column).map(i128::from);
            let (posted, held, floor, open) = (money(1)?, money(2)?, money(3)?, money(4)?);
            let sum = self.sums.get(&id).copied().unwrap_or_default();
            whole = whole.saturating_add(posted);
            if posted != sum {
                self.wrong(format!("{id} has {}, its transfers make {}", shown(posted), shown(sum)));
            }
            if held != open {
                self.wrong(format!(
                    "{id} holds {}, its open holds make {}",
                    shown(held),
                    shown(open)
                ));
            }
            if posted.saturating_sub(held) < floor {
                self.wrong(format!("{id} is below its floor of {}", shown(floor)));
            }
            seen.insert(id);
            self.verdict.accounts = self.verdict.accounts.saturating_add(1);
        }
        if whole != 0 {
            self.wrong(format!("all accounts together have {}, not nothing", shown(whole)));
        }
        let lost: Vec<_> = self.sums.keys().filter(|name| !seen.contains(*name)).cloned().collect();
        for name in lost {
            self.wrong(format!("transfers name {name}, which is no account"));
        }
        Ok(())
    }

    /// Holds against transfers (I4), and the rows of calls against what was charged.
    async fn by_statement(&mut self, tx: &mut SqliteConnection) -> Result<(), StoreError> {
        for (sql, problem) in STATEMENTS {
            for row in sqlx::query(sql).fetch_all(&mut *tx).await? {
                let which: i64 = row.try_get(0)?;
                self.wrong(format!("{problem} {which}"));
            }
        }
        Ok(())
    }

    async fn triggers(&mut self, tx: &mut SqliteConnection) -> Result<(), StoreError> {
        let rows = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            .fetch_all(tx)
            .await?;
        let names: HashSet<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        for name in GUARDS.into_iter().filter(|name| !names.contains(*name)) {
            self.wrong(format!("the guard `{name}` was removed from the database"));
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

/// Each returns the numbers of rows that should not be.
const STATEMENTS: [(&str, &str); 6] = [
    (
        "SELECT hold FROM transfer WHERE kind = 'charge' GROUP BY hold HAVING count(*) > 1 LIMIT 20",
        "more than one charge against hold",
    ),
    (
        "SELECT hold FROM usage WHERE hold IS NOT NULL GROUP BY hold HAVING count(*) > 1 LIMIT 20",
        "more than one usage row for hold",
    ),
    (
        "SELECT u.hold FROM usage u JOIN hold h ON h.id = u.hold LIMIT 20",
        "a call ended and its hold is still open:",
    ),
    (
        "SELECT t.seq FROM transfer t LEFT JOIN usage u ON u.hold = t.hold WHERE t.kind IN ('charge', 'loss') \
         AND (u.seq IS NULL OR (t.kind = 'charge' AND u.tenant <> t.debit)) LIMIT 20",
        "no call of that tenant behind transfer",
    ),
    (
        "SELECT u.seq FROM usage u LEFT JOIN transfer t ON t.hold = u.hold AND t.kind = 'charge' \
         WHERE u.charged <> coalesce(t.amount, 0) LIMIT 20",
        "another amount was charged than says usage row",
    ),
    (
        "SELECT seq FROM unposted LIMIT 20",
        "the tables refused an entry of the journal's page",
    ),
];

const GUARDS: [&str; 6] = [
    "transfer_no_update",
    "transfer_no_delete",
    "usage_no_update",
    "hold_no_update",
    "price_no_update",
    "price_no_delete",
];
const MOST_PROBLEMS: usize = 100;
