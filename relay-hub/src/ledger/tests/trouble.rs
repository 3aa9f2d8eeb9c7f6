//! A database that is locked, fails, or refuses an entry.

use super::*;

#[tokio::test]
async fn a_locked_database_delays_settlements_and_loses_none() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let wish = wish(&tenant, 700);
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    hold.durable().await.unwrap();
    let lock = books.hub.store.write().await.unwrap();
    let settled = hold.settle(Nanos::new(600), row(&wish, Ending::Completed));
    // What is granted meanwhile outlives the hub all the same, until the lock is known: then nothing is granted.
    let promised = books.ledger.reserve(self::wish(&tenant, 1)).await.unwrap();
    assert_eq!(promised.durable().await, Ok(()));
    let refused = async {
        loop {
            match books.ledger.reserve(self::wish(&tenant, 1)).await {
                Ok(granted) => drop(granted),
                Err(refused) => break refused,
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap();
    assert_eq!(refused, HoldError::Unavailable(LedgerDown));
    drop(promised);
    lock.rollback().await.unwrap();
    assert_eq!(settled.await, Ok(Nanos::new(600)));
    books.until(&tenant, (400, 0)).await;
    books.close().await;
}

#[tokio::test]
async fn after_a_failure_nothing_is_granted_until_the_database_takes_writes_again() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let lock = books.hub.store.write().await.unwrap();
    assert_eq!(books.ledger.expire(vec![tenant.clone()], 1).await, Err(LedgerDown));
    let refused = books.ledger.reserve(wish(&tenant, 1)).await.err();
    assert_eq!(refused, Some(HoldError::Unavailable(LedgerDown)));
    lock.rollback().await.unwrap();
    let granted = async { while books.ledger.reserve(wish(&tenant, 1)).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), granted).await.unwrap();
    books.close().await;
}

#[tokio::test]
async fn a_lock_that_nobody_met_yet_refuses_no_call() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let lock = books.hub.store.write().await.unwrap();
    // The hub does not know of it yet, and has to look.
    let hold = books.ledger.reserve(wish(&tenant, 1)).await.unwrap();
    lock.rollback().await.unwrap();
    drop(hold);
    books.close().await;
}

#[tokio::test]
async fn an_entry_that_the_tables_refuse_spoils_no_other_and_is_told() {
    let books = Books::open().await;
    let (gone, stays) = (books.tenant(1_000).await, books.tenant(1_000).await);
    let (lost, kept) = (wish(&gone, 300), wish(&stays, 300));
    let holds = [
        books.ledger.reserve(lost.clone()).await.unwrap(),
        books.ledger.reserve(kept.clone()).await.unwrap(),
    ];
    // Behind the hub's back: what it books for that tenant has no place any more.
    sqlx::query("DELETE FROM account WHERE id = $1")
        .bind(gone.as_str())
        .execute(&mut books.hub.store.connection().await.unwrap())
        .await
        .unwrap();
    let [first, second] = holds;
    // The other's entry is first: what it did is undone and done again when the next one is refused.
    let settled = tokio::join!(
        second.settle(Nanos::new(200), row(&kept, Ending::Completed)),
        first.settle(Nanos::new(200), row(&lost, Ending::Completed)),
    );
    assert_eq!(settled, (Ok(Nanos::new(200)), Ok(Nanos::new(200))));
    assert_eq!(books.balance(&stays).await, (800, 0));
    assert_eq!(books.endings().await, HashMap::from([("completed".into(), 1)]));
    assert_eq!(books.tasks.shutdown(Duration::from_secs(20)).await, 0);
    let problems = verify(&books.hub.store).await.unwrap().problems;
    assert!(
        problems.iter().any(|problem| problem.contains("refused")),
        "{problems:?}"
    );
}

#[tokio::test]
async fn an_absurd_charge_is_settled_and_fills_no_account() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    for _ in 0..12 {
        let wish = wish(&tenant, 0);
        let hold = books.ledger.reserve(wish.clone()).await.unwrap();
        assert!(hold.settle(Nanos::MAX, row(&wish, Ending::Completed)).await.is_ok());
    }
    assert_eq!((books.balance(&tenant).await, books.ledger.open_holds()), ((0, 0), 0));
    books.close().await;
}
