//! Credit that ends: what is spent first, what goes back, and that nothing goes back twice or below what is held.

use proptest::prelude::*;

use super::*;

async fn give(books: &Books, tenant: &TenantId, amount: i64, source: &str, expires_ms: Option<i64>) {
    let asked = Grant {
        tenant: tenant.clone(),
        amount: Nanos::new(amount),
        source: source.to_owned(),
        note: String::new(),
        at_ms: 1,
        expires_ms,
    };
    grant(&books.hub.store, asked).await.unwrap();
}

async fn spend(books: &Books, tenant: &TenantId, amount: i64) {
    let wish = wish(tenant, amount);
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    hold.settle(Nanos::new(amount), row(&wish, Ending::Completed))
        .await
        .unwrap();
}

async fn expire(books: &Books, tenant: &TenantId, now_ms: i64) -> i64 {
    books.ledger.expire(vec![tenant.clone()], now_ms).await.unwrap().get()
}

async fn left(books: &Books, tenant: &TenantId) -> Vec<(String, i64)> {
    let all = expiring(&books.hub.store, tenant).await.unwrap();
    all.into_iter().map(|one| (one.source, one.remaining.get())).collect()
}

#[tokio::test]
async fn what_ends_first_is_spent_first() {
    let books = Books::open().await;
    let tenant = books.tenant(100).await;
    give(&books, &tenant, 30, "late", Some(2_000)).await;
    give(&books, &tenant, 20, "soon", Some(1_000)).await;
    spend(&books, &tenant, 25).await;
    assert_eq!(left(&books, &tenant).await, [("late".to_owned(), 25)]);
    assert_eq!(expire(&books, &tenant, 1_000).await, 0, "it is all spent");
    spend(&books, &tenant, 10).await;
    assert_eq!(expire(&books, &tenant, 2_000).await, 15);
    assert_eq!(books.balance(&tenant).await, (100, 0), "what never ends is untouched");
    assert_eq!(expire(&books, &tenant, 9_000).await, 0, "nothing goes back twice");
    books.close().await;
}

#[tokio::test]
async fn what_a_call_holds_goes_back_when_it_is_free() {
    let books = Books::open().await;
    let tenant = books.tenant(0).await;
    give(&books, &tenant, 100, "g", Some(1_000)).await;
    let wish = wish(&tenant, 30);
    // Promised in memory alone: the tables do not know of it.
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    assert_eq!(expire(&books, &tenant, 1_000).await, 70);
    assert_eq!(
        expired(&books.hub.store, 1_000).await.unwrap(),
        std::slice::from_ref(&tenant)
    );
    assert_eq!(expire(&books, &tenant, 1_000).await, 0, "all that is left is promised");
    books.until(&tenant, (30, 30)).await;
    assert_eq!(expire(&books, &tenant, 1_000).await, 0, "all that is left is held");
    hold.settle(Nanos::new(12), row(&wish, Ending::Completed))
        .await
        .unwrap();
    assert_eq!(expire(&books, &tenant, 1_000).await, 18);
    assert_eq!(books.balance(&tenant).await, (0, 0));
    assert!(expired(&books.hub.store, i64::MAX).await.unwrap().is_empty());
    let sources = sqlx::query("SELECT idem FROM transfer WHERE kind = 'expiry' ORDER BY seq");
    let sources = sources.fetch_all(books.hub.store.readers()).await.unwrap();
    let sources: Vec<String> = sources.iter().map(|row| row.get(0)).collect();
    assert_eq!(sources, ["expiry 1 of g", "expiry 2 of g"]);
    books.close().await;
}

#[tokio::test]
async fn what_a_call_holds_may_be_spent_from_credit_that_is_over_though_there_is_other() {
    let books = Books::open().await;
    let tenant = books.tenant(100).await;
    give(&books, &tenant, 30, "g", Some(1_000)).await;
    let wish = wish(&tenant, 20);
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    books.until(&tenant, (130, 20)).await;
    assert_eq!(expire(&books, &tenant, 1_000).await, 10);
    hold.settle(Nanos::new(12), row(&wish, Ending::Completed))
        .await
        .unwrap();
    assert_eq!(expire(&books, &tenant, 1_000).await, 8);
    assert_eq!(books.balance(&tenant).await, (100, 0));
    books.close().await;
}

#[tokio::test]
async fn a_hold_is_refused_as_soon_as_its_credit_is_over() {
    let books = Books::open().await;
    let tenant = books.tenant(5).await;
    give(&books, &tenant, 100, "g", Some(1_000)).await;
    spend(&books, &tenant, 1).await;
    assert_eq!(expire(&books, &tenant, 1_000).await, 99);
    let short = books.ledger.reserve(wish(&tenant, 6)).await.err();
    let available = Nanos::new(5);
    assert_eq!(short, Some(HoldError::Insufficient { available }));
    books.close().await;
}

#[tokio::test]
async fn a_clock_that_jumps_takes_nothing_twice() {
    let books = Books::open().await;
    let tenant = books.tenant(0).await;
    give(&books, &tenant, 10, "a", Some(1_000)).await;
    give(&books, &tenant, 10, "b", Some(5_000)).await;
    for (now_ms, taken) in [(2_000, 10), (500, 0), (2_000, 0), (5_000, 10), (1, 0), (9_000, 0)] {
        assert_eq!(expire(&books, &tenant, now_ms).await, taken, "at {now_ms}");
    }
    books.close().await;
}

#[tokio::test]
async fn credit_that_is_over_before_it_begins_is_not_booked() {
    let books = Books::open().await;
    let tenant = books.tenant(0).await;
    let asked = Grant {
        tenant: tenant.clone(),
        amount: Nanos::new(1),
        source: "late".to_owned(),
        note: String::new(),
        at_ms: 10,
        expires_ms: Some(10),
    };
    assert!(matches!(grant(&books.hub.store, asked).await, Err(CreditError::Over)));
    assert_eq!(books.balance(&tenant).await, (0, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Grant(i64, Option<i64>),
    Spend(i64),
    /// Time goes on, and what is over goes back.
    Expire(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1i64..100, prop::option::weighted(0.7, 1i64..60)).prop_map(|(amount, ends)| Step::Grant(amount, ends)),
        4 => (1i64..80).prop_map(Step::Spend),
        3 => (1i64..20).prop_map(Step::Expire),
        1 => Just(Step::Restart),
    ]
}

/// Each grant with what is left of it, kept unit by unit.
async fn run(steps: Vec<Step>) {
    let mut books = Books::open().await;
    let tenant = books.tenant(0).await;
    let (mut lots, mut now): (Vec<(i64, i64)>, i64) = (Vec::new(), 2);
    for (at, step) in steps.into_iter().enumerate() {
        match step {
            Step::Grant(amount, ends) => {
                let ends = ends.map(|ends| now + ends);
                give(&books, &tenant, amount, &format!("g{at}"), ends).await;
                lots.push((ends.unwrap_or(i64::MAX), amount));
                // Stable: of two that end together the earlier one is spent first.
                lots.sort_by_key(|lot| lot.0);
            }
            Step::Spend(amount) => {
                let mut rest = amount.min(lots.iter().map(|lot| lot.1).sum());
                if rest == 0 {
                    continue;
                }
                spend(&books, &tenant, rest).await;
                for lot in &mut lots {
                    let used = lot.1.min(rest);
                    (lot.1, rest) = (lot.1 - used, rest - used);
                }
            }
            Step::Expire(time) => {
                now += time;
                let over: i64 = lots.iter().filter(|lot| lot.0 <= now).map(|lot| lot.1).sum();
                lots.retain(|lot| lot.0 > now);
                assert_eq!(expire(&books, &tenant, now).await, over);
            }
            Step::Restart => books = Books::over(books.close().await).await,
        }
        let whole: i64 = lots.iter().map(|lot| lot.1).sum();
        assert_eq!(books.balance(&tenant).await, (whole, 0));
    }
    books.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_grant_ends_with_what_nobody_spent_of_it(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }

    /// Calls and expiries at once: never below what is held, and the books add up.
    #[test]
    fn expiry_under_load_keeps_every_hold(calls in prop::collection::vec((0i64..60, 0i64..60), 1..80)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let books = Books::open().await;
            let tenant = books.tenant(500).await;
            for at in 0..5 {
                give(&books, &tenant, 300, &format!("g{at}"), Some(10 + at)).await;
            }
            let calls = calls.into_iter().map(|(amount, charge)| {
                let (ledger, wish) = (books.ledger.clone(), wish(&tenant, amount));
                async move {
                    let Ok(hold) = ledger.reserve(wish.clone()).await else { return 0 };
                    hold.durable().await.unwrap();
                    hold.settle(Nanos::new(charge), row(&wish, Ending::Completed)).await.unwrap().get()
                }
            });
            let expiries = async {
                let mut taken = 0;
                for now_ms in 10..20 {
                    taken += expire(&books, &tenant, now_ms).await;
                }
                taken
            };
            let (charged, mut taken) = tokio::join!(join_all(calls), expiries);
            // What was held then is free by now.
            taken += expire(&books, &tenant, 20).await;
            let charged: i64 = charged.into_iter().sum();
            prop_assert_eq!(books.balance(&tenant).await, (2_000 - charged - taken, 0));
            prop_assert!(left(&books, &tenant).await.is_empty());
            books.close().await;
            Ok(())
        })?;
    }
}
