//! What the journal has comes into the tables once, whoever brings it there.

use super::*;

#[tokio::test]
async fn a_hold_of_the_last_moment_has_its_row_after_a_crash_and_has_it_once() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let flight = books.hub.data.flight();
    let (ends, stays) = (wish(&tenant, 100), wish(&tenant, 300));
    let ended = books.ledger.reserve(ends.clone()).await.unwrap();
    let open = books.ledger.reserve(stays.clone()).await.unwrap();
    open.durable().await.unwrap();
    ended.durable().await.unwrap();
    ended
        .settle(Nanos::new(50), row(&ends, Ending::Completed))
        .await
        .unwrap();
    // As after a crash, twice.
    let database = books.hub.store.data().database();
    let again = || recover::take_over(&database, &flight, PATIENCE, 1).unwrap().holds;
    assert_eq!((again(), again()), (1, 0));
    let seen = HashMap::from([("completed".into(), 1), ("recovered".into(), 1)]);
    assert_eq!(books.endings().await, seen);
    assert_eq!(books.balance(&tenant).await, (950, 0));
    drop(open);
    books.close().await;
}

#[tokio::test]
async fn whoever_posts_the_tables_have_every_call_once() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000_000).await;
    let is_over = CancellationToken::new();
    // Another process, such as a command, that posts all the time.
    let others = async {
        while !is_over.is_cancelled() {
            post(&books.hub.store).await.unwrap();
        }
    };
    let calls = async {
        for round in 0..20 {
            join_all((0..40).map(|at| {
                let (ledger, wish) = (books.ledger.clone(), wish(&tenant, 100));
                async move {
                    let hold = ledger.reserve(wish.clone()).await.unwrap();
                    if at % 2 == 0 {
                        hold.durable().await.unwrap();
                    }
                    let settled = hold.settle(Nanos::new(round), row(&wish, Ending::Completed)).await;
                    assert_eq!(settled, Ok(Nanos::new(round)));
                }
            }))
            .await;
        }
        is_over.cancel();
    };
    tokio::join!(others, calls);
    assert_eq!(books.balance(&tenant).await, (1_000_000 - 40 * (0..20).sum::<i64>(), 0));
    assert_eq!(books.endings().await, HashMap::from([("completed".into(), 800)]));
    books.close().await;
}

#[tokio::test]
async fn a_long_journal_leaves_nothing_behind_that_is_posted_again() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000_000).await;
    for calls in [2_100, 3, 40, 1] {
        join_all((0..calls).map(|_| {
            let (ledger, wish) = (books.ledger.clone(), wish(&tenant, 100));
            async move {
                let hold = ledger.reserve(wish.clone()).await.unwrap();
                hold.settle(Nanos::new(1), row(&wish, Ending::Completed)).await.unwrap();
            }
        }))
        .await;
    }
    let slots = sqlx::query("SELECT count(*), max(seq) > count(*) FROM journal").fetch_one(books.hub.store.readers());
    let slots = slots.await.unwrap();
    assert!(
        slots.get::<i64, _>(0) > 10 && slots.get::<bool, _>(1),
        "slots are used again"
    );
    assert_eq!(books.endings().await, HashMap::from([("completed".into(), 2_144)]));
    let books = Books::over(books.close().await).await;
    assert_eq!(books.balance(&tenant).await, (1_000_000 - 2_144, 0));
    books.close().await;
}

#[tokio::test]
async fn a_zombie_whose_books_were_taken_over_settles_nothing() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let wish = wish(&tenant, 300);
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    hold.durable().await.unwrap();
    // What a hub on another machine does, where the lock of the directory does not reach.
    let database = books.hub.store.data().database();
    let taken = recover::take_over(&database, &books.hub.data.flight(), PATIENCE, 1).unwrap();
    assert_eq!(taken.holds, 1);
    let settled = hold.settle(Nanos::new(200), row(&wish, Ending::Completed)).await;
    assert_eq!(settled, Err(LedgerDown));
    let refused = books.ledger.reserve(self::wish(&tenant, 1)).await.err();
    assert_eq!(
        refused,
        Some(HoldError::Unavailable(LedgerDown)),
        "it serves nobody any more"
    );
    assert_eq!(books.balance(&tenant).await, (1_000, 0));
    assert_eq!(books.endings().await, HashMap::from([("recovered".into(), 1)]));
    books.close().await;
}
