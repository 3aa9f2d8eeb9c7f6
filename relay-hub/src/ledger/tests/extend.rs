//! Holds that grow, and calls whose hub died after it noted how far they came.

use super::*;

#[tokio::test]
async fn a_hold_grows_from_what_is_left_and_is_settled_as_one() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let wish = wish(&tenant, 300);
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    hold.extend(Nanos::new(200)).await.unwrap();
    hold.extend(Nanos::new(100)).await.unwrap();
    assert_eq!(hold.amount(), Nanos::new(600));
    books.until(&tenant, (1_000, 600)).await;
    let short = hold.extend(Nanos::new(401)).await;
    assert_eq!(
        short,
        Err(HoldError::Insufficient {
            available: Nanos::new(400)
        })
    );
    assert_eq!(
        hold.amount(),
        Nanos::new(600),
        "a refused extension leaves it as it was"
    );
    // Credit from elsewhere counts, though the hub has not heard of it.
    credit(&books.hub.store, &tenant, Nanos::new(50), "more", "", 1)
        .await
        .unwrap();
    hold.extend(Nanos::new(401)).await.unwrap();
    hold.settle(Nanos::new(1_001), row(&wish, Ending::Completed))
        .await
        .unwrap();
    assert_eq!(books.balance(&tenant).await, (49, 0));
    books.close().await;
}

#[tokio::test]
async fn extensions_that_queue_with_the_end_of_their_hold_leave_nothing_held() {
    let books = Books::open().await;
    let tenant = books.tenant(100_000).await;
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let (ledger, wish) = (books.ledger.clone(), wish(&tenant, 100));
        calls.spawn(async move {
            let hold = ledger.reserve(wish.clone()).await.unwrap();
            if number % 3 == 0 {
                hold.durable().await.unwrap();
            }
            for _ in 0..number % 4 {
                hold.extend(Nanos::new(100)).await.unwrap();
                hold.checkpoint(Tokens::new(1), Tokens::new(1), Nanos::new(7));
            }
            if number % 5 == 0 {
                drop(hold);
                return 0;
            }
            let charge = 100 * (number % 4) + 50;
            hold.settle(Nanos::new(charge), row(&wish, Ending::Completed))
                .await
                .unwrap()
                .get()
        });
    }
    let charged: i64 = calls.join_all().await.into_iter().sum();
    books.until(&tenant, (100_000 - charged, 0)).await;
    books.close().await;
}

#[tokio::test]
async fn what_a_hub_that_died_had_noted_is_charged_and_nothing_else() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let (noted, silent) = (wish(&tenant, 300), wish(&tenant, 100));
    let hold = books.ledger.reserve(noted.clone()).await.unwrap();
    let other = books.ledger.reserve(silent).await.unwrap();
    hold.extend(Nanos::new(200)).await.unwrap();
    hold.checkpoint(Tokens::new(10), Tokens::new(20), Nanos::new(40));
    books.until(&tenant, (1_000, 600)).await;
    // The next one is written once the writer has taken the one before.
    let last = async {
        loop {
            hold.checkpoint(Tokens::new(10), Tokens::new(90), Nanos::new(450));
            let sql = "SELECT coalesce(max(cost), 0) FROM hold";
            post(&books.hub.store).await.unwrap();
            let cost: i64 = sqlx::query(sql)
                .fetch_one(books.hub.store.readers())
                .await
                .unwrap()
                .get(0);
            if cost == 450 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), last).await.unwrap();
    std::mem::forget((hold, other));
    let Books { hub, tasks, .. } = books;
    tasks.shutdown(Duration::from_millis(50)).await;
    let books = Books::over(hub).await;
    assert_eq!(books.balance(&tenant).await, (550, 0));
    assert_eq!(books.endings().await, HashMap::from([("recovered".to_owned(), 2)]));
    let sql = "SELECT input, output, source, cost, charged, held FROM usage WHERE charged > 0";
    let row = sqlx::query(sql).fetch_one(books.hub.store.readers()).await.unwrap();
    let told: (i64, i64, String, i64, i64, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5));
    assert_eq!(told, (10, 90, "estimated".to_owned(), 450, 450, 500));
    books.close().await;
}
