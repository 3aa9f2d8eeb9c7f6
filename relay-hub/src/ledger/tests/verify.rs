//! What the proof of the books proves: each thing that can be wrong with the rows is told, by its name and alone.

use super::*;
use crate::{
    config::DataDir,
    ledger::{Anchor, Invariant, Verdict, verify_past},
};

/// Three settled calls and one that runs, of two tenants; what an earlier proof told as the chain's end.
async fn settled() -> (TestHub, String) {
    let books = Books::open().await;
    let (tenant, other) = (books.tenant(1_000).await, books.tenant(1_000).await);
    let mut earlier = String::new();
    for charge in [100, 250, 0, 70] {
        let wish = wish(&tenant, 300);
        let hold = books.ledger.reserve(wish.clone()).await.unwrap();
        hold.settle(Nanos::new(charge), row(&wish, Ending::Completed))
            .await
            .unwrap();
        if charge == 250 {
            earlier = verify(&books.hub.store).await.unwrap().head;
        }
    }
    let open = books.ledger.reserve(wish(&other, 40)).await.unwrap();
    books.until(&other, (1_000, 40)).await;
    let hub = copy(&books.hub).await;
    drop(open);
    books.close().await;
    (hub, earlier)
}

async fn copy(hub: &TestHub) -> TestHub {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::new(dir.path());
    let sql = format!("VACUUM INTO '{}'", data.database().display());
    let mut connection = hub.store.connection().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    let store = Store::open(&data).await.unwrap();
    let sealer = hub.sealer.clone();
    TestHub {
        dir,
        data,
        store,
        sealer,
    }
}

/// Changes rows with the guards and the checks taken away, and puts the guards back.
async fn tamper(hub: &TestHub, change: &str) {
    let mut connection = hub.store.connection().await.unwrap();
    let guards = sqlx::query("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetch_all(&mut connection);
    let guards: Vec<(String, String)> = guards
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let drops = guards.iter().map(|(name, _)| format!("DROP TRIGGER {name};"));
    let makes = guards.iter().map(|(_, sql)| format!("{sql};"));
    let sql: Vec<String> = ["PRAGMA ignore_check_constraints = ON;".to_owned()]
        .into_iter()
        .chain(drops)
        .chain([format!("{change};")])
        .chain(makes)
        .collect();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.concat()))
        .execute(&mut connection)
        .await
        .unwrap();
}

fn broken(verdict: &Verdict) -> Vec<&'static str> {
    assert_eq!(verdict.ok, verdict.problems.is_empty());
    let broken = verdict.invariants.iter().filter(|finding| !finding.ok);
    broken.map(|finding| finding.invariant).collect()
}

/// A change behind the hub's back, and what it breaks.
const BREAKS: [(&str, &[Invariant]); 20] = [
    (
        "UPDATE account SET posted = posted + 1 WHERE id = (SELECT min(id) FROM tenant); \
         UPDATE account SET posted = posted - 1 WHERE id = (SELECT max(id) FROM tenant)",
        &[Invariant::I1],
    ),
    (
        "UPDATE account SET posted = posted + 1 WHERE id = 'revenue'",
        &[Invariant::I1, Invariant::I5],
    ),
    ("UPDATE account SET held = held + 1 WHERE held > 0", &[Invariant::I2]),
    ("UPDATE hold SET amount = amount - 1", &[Invariant::I2]),
    ("DELETE FROM hold", &[Invariant::I2]),
    (
        "UPDATE account SET floor = posted - held + 1 WHERE held > 0",
        &[Invariant::I3],
    ),
    ("UPDATE usage SET charged = charged + 1 WHERE seq = 1", &[Invariant::I4]),
    (
        "UPDATE usage SET hold = 1, charged = 100 WHERE seq = 3",
        &[Invariant::I4],
    ),
    ("DELETE FROM usage WHERE seq = 2", &[Invariant::I4]),
    ("UPDATE usage SET tenant = 'ten_x' WHERE seq = 2", &[Invariant::I4]),
    (
        "UPDATE usage SET hold = (SELECT id FROM hold) WHERE seq = 3",
        &[Invariant::I4],
    ),
    (
        "INSERT INTO hold SELECT id + 1, call, tenant, caller, model, 0, 1, 1, 1, NULL, NULL, NULL FROM hold",
        &[Invariant::I4],
    ),
    ("DELETE FROM account WHERE id = 'funding'", &[Invariant::I5]),
    ("UPDATE transfer SET at_ms = at_ms + 1 WHERE seq = 1", &[Invariant::I10]),
    ("UPDATE transfer SET note = 'x' WHERE seq = 3", &[Invariant::I10]),
    (
        "UPDATE transfer SET hash = zeroblob(32) WHERE seq = 5",
        &[Invariant::I10],
    ),
    // The sums are put right: of the row at the end nothing is left but the hub's word.
    (
        "UPDATE account SET posted = posted + 70 WHERE id = (SELECT debit FROM transfer WHERE seq = 5); \
         UPDATE account SET posted = posted - 70 WHERE id = 'revenue'; \
         UPDATE usage SET charged = 0 WHERE hold = (SELECT hold FROM transfer WHERE seq = 5); \
         DELETE FROM transfer WHERE seq = 5",
        &[Invariant::I10],
    ),
    (
        "DELETE FROM transfer WHERE seq = 5",
        &[Invariant::I1, Invariant::I4, Invariant::I10],
    ),
    ("UPDATE hub SET head = zeroblob(32)", &[Invariant::I10]),
    ("INSERT INTO unposted VALUES (9, 1, 'why', x'00')", &[Invariant::Posted]),
];

#[tokio::test]
async fn each_broken_invariant_is_told_and_no_other() {
    let (hub, _) = settled().await;
    assert_eq!(broken(&verify(&hub.store).await.unwrap()), [""; 0]);
    for (change, wanted) in BREAKS {
        let other = copy(&hub).await;
        tamper(&other, change).await;
        let wanted: Vec<_> = wanted.iter().map(|invariant| invariant.name()).collect();
        let verdict = verify(&other.store).await.unwrap();
        assert_eq!(broken(&verdict), wanted, "{change}: {:?}", verdict.problems);
    }
}

#[tokio::test]
async fn a_broken_sum_is_told_with_both_amounts() {
    let (hub, _) = settled().await;
    tamper(&hub, "UPDATE account SET posted = posted + 1 WHERE id = 'revenue'").await;
    let problems = verify(&hub.store).await.unwrap().problems;
    let [has, makes, one] = [421, 420, 1].map(Nanos::new);
    assert_eq!(
        problems,
        [
            format!("revenue has {has}, its transfers make {makes}"),
            format!("all accounts together have {one}, not nothing"),
        ]
    );
}

#[tokio::test]
async fn a_guard_that_is_gone_is_told() {
    let (hub, _) = settled().await;
    let mut connection = hub.store.connection().await.unwrap();
    sqlx::raw_sql("DROP TRIGGER transfer_no_delete")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(broken(&verify(&hub.store).await.unwrap()), ["I10"]);
}

#[tokio::test]
async fn what_was_kept_outside_tells_a_past_that_was_made_anew() {
    let (hub, earlier) = settled().await;
    let anchor = |text: &str| Some(Anchor::parse(text).unwrap());
    let start = "0".repeat(64);
    for good in [earlier.as_str(), &verify(&hub.store).await.unwrap().head, &start] {
        assert!(verify_past(&hub.store, anchor(good)).await.unwrap().ok, "{good}");
    }
    // Everything from the second charge on is gone, and all that could tell it was put right.
    let change = "UPDATE account SET posted = posted + 320 WHERE id = (SELECT debit FROM transfer WHERE seq = 5); \
         UPDATE account SET posted = posted - 320 WHERE id = 'revenue'; UPDATE usage SET charged = 0 WHERE seq > 1; \
         DELETE FROM transfer WHERE seq > 3; \
         UPDATE hub SET transfers = 3, head = (SELECT hash FROM transfer WHERE seq = 3)";
    tamper(&hub, change).await;
    let verdict = verify(&hub.store).await.unwrap();
    assert!(verdict.ok, "nothing inside tells it: {:?}", verdict.problems);
    let verdict = verify_past(&hub.store, anchor(&earlier)).await.unwrap();
    assert_eq!(broken(&verdict), ["I10"]);
    for no in [
        "",
        "00",
        &"g".repeat(64),
        &"0".repeat(65),
        &format!("{}é", "0".repeat(62)),
    ] {
        assert_eq!(Anchor::parse(no), None, "{no}");
    }
}
