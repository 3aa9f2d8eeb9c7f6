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
