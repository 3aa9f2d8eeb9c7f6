//! What the handles of the ledger and of a hold tell.

use super::*;

#[tokio::test]
async fn a_hold_tells_its_amount_and_number_and_each_life_has_a_later_epoch() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    assert_eq!(books.ledger.epoch(), 1);
    let first = books.ledger.reserve(wish(&tenant, 300)).await.unwrap();
    let second = books.ledger.reserve(wish(&tenant, 400)).await.unwrap();
    assert_eq!((first.amount().get(), first.number()), (300, 1));
    assert_eq!((second.amount().get(), second.number()), (400, 2));
    drop((first, second));
    let books = Books::over(books.close().await).await;
    assert_eq!(books.ledger.epoch(), 2);
    books.close().await;
}

#[tokio::test]
async fn a_hold_that_is_hastened_outlives_the_hub_before_anybody_waits_for_it() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let hold = books.ledger.reserve(wish(&tenant, 300)).await.unwrap();
    hold.hasten();
    let left = flight::left(&books.hub.data.flight()).unwrap();
    let flying: Vec<_> = flight::holds(&left)
        .map(|line| (line.id, line.amount, line.epoch))
        .collect();
    assert_eq!(flying, [(hold.number(), 300, 1)]);
    drop(hold);
    books.close().await;
}

#[tokio::test]
async fn who_cannot_keep_a_hold_waits_for_it_only_where_it_found_no_place() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let plain = books.ledger.reserve(wish(&tenant, 300)).await.unwrap();
    assert!(plain.not_yet_durable().is_none(), "it outlives the hub already");
    // Its line is longer than a slot of the file of the last moments.
    let mut long = wish(&tenant, 200);
    long.model = "é".repeat(200);
    let hold = books.ledger.reserve(long).await.unwrap();
    let durable = hold.not_yet_durable().unwrap();
    assert_eq!(durable.await, Ok(()));
    post(&books.hub.store).await.unwrap();
    let sql = "SELECT count(*) FROM hold WHERE amount = 200";
    let row = sqlx::query(sql).fetch_one(books.hub.store.readers()).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 1);
    drop((plain, hold));
    books.close().await;
}

#[tokio::test]
async fn whoever_waits_for_a_hold_is_told_that_the_database_is_locked() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let mut long = wish(&tenant, 200);
    long.model = "é".repeat(200);
    let lock = books.hub.store.write().await.unwrap();
    let hold = books.ledger.reserve(long).await.unwrap();
    let durable = tokio::time::timeout(Duration::from_secs(30), hold.durable()).await;
    assert_eq!(durable, Ok(Err(LedgerDown)));
    lock.rollback().await.unwrap();
    drop(hold);
    books.close().await;
}

#[tokio::test]
async fn what_the_books_count_is_told_by_name() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let (charged, open) = (wish(&tenant, 400), wish(&tenant, 100));
    let hold = books.ledger.reserve(charged.clone()).await.unwrap();
    let open = books.ledger.reserve(open).await.unwrap();
    let mut estimated = row(&charged, Ending::Completed);
    estimated.endpoint = "/v1/chat/completions";
    estimated.usage = estimated.usage.map(|(usage, _)| (usage, UsageSource::Estimated));
    assert_eq!(hold.settle(Nanos::new(1_200), estimated).await, Ok(Nanos::new(900)));
    let mut free = row(&wish(&tenant, 0), Ending::Refused(Code::RateLimited));
    free.usage = None;
    books.ledger.note(free.clone());
    free.ending = Ending::VendorError;
    for status in [429, 404, 499, 502, 500, 599, 302] {
        free.status = status;
        books.ledger.note(free.clone());
    }
    let page = || {
        let mut page = Page::new(crate::metrics::Format::Prometheus);
        books.ledger.tell(&mut page);
        page.end()
    };
    while !page().contains("relay_ledger_queue 0\n") {
        tokio::task::yield_now().await;
    }
    let page = page();
    for line in [
        "relay_calls_total{ending=\"completed\",wire=\"chat\"} 1",
        "relay_calls_total{ending=\"completed\",wire=\"responses\"} 0",
        "relay_calls_total{ending=\"vendor_error\",wire=\"responses\"} 7",
        "relay_refusals_total{code=\"rate_limit_exceeded\"} 1",
        "relay_vendor_errors_total{status=\"429\"} 1",
        "relay_vendor_errors_total{status=\"4xx\"} 2",
        "relay_vendor_errors_total{status=\"502\"} 1",
        "relay_vendor_errors_total{status=\"5xx\"} 2",
        "relay_vendor_errors_total{status=\"other\"} 1",
        "relay_tokens_total{kind=\"input\"} 10",
        "relay_tokens_total{kind=\"cached\"} 2",
        "relay_tokens_total{kind=\"cache_write\"} 0",
        "relay_tokens_total{kind=\"output\"} 5",
        "relay_tokens_total{kind=\"reasoning\"} 1",
        "relay_estimated_calls_total 1",
        "relay_charged_nanos_total 900",
        "relay_lost_nanos_total 300",
        "relay_ledger_notes_dropped_total 0",
        "relay_open_holds 1",
    ] {
        assert!(page.contains(&format!("{line}\n")), "{line}: {page}");
    }
    drop(open);
    books.close().await;
}

#[tokio::test]
async fn notes_that_find_no_place_are_counted_and_all_others_are_booked() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let lock = books.hub.store.write().await.unwrap();
    let note = row(&wish(&tenant, 0), Ending::Refused(Code::RateLimited));
    let told = 70_000;
    for _ in 0..told {
        books.ledger.note(note.clone());
    }
    let dropped = books.ledger.notes_dropped();
    assert!((1_000..10_000).contains(&dropped), "{dropped}");
    lock.rollback().await.unwrap();
    assert_eq!(books.tasks.shutdown(Duration::from_secs(60)).await, 0);
    let booked = books.endings().await["refused:rate_limit_exceeded"];
    assert_eq!(u64::try_from(booked).unwrap() + dropped, told);
    books.close().await;
}
