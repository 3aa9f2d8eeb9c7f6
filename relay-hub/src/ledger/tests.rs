use std::{collections::HashMap, time::Duration};

use futures_util::future::{FutureExt as _, join_all};
use relay_protocol::{Tokens, Usage, UsageSource};
use sqlx::Row as _;
use tokio::task::JoinSet;

use super::*;
use crate::{
    ids::KeyId,
    store::{tenants, testing::TestHub},
};

mod crash;
mod extend;
mod grants;
mod handles;
mod model;
mod past;
mod posting;
mod trouble;
mod verify;

/// A hub's books with one writer.
struct Books {
    hub: TestHub,
    tasks: Tasks,
    ledger: Ledger,
}

impl Books {
    async fn open() -> Self {
        Self::over(TestHub::bare().await).await
    }

    async fn over(hub: TestHub) -> Self {
        let tasks = Tasks::new();
        let ledger = Ledger::start(&hub.store, &tasks).await.unwrap();
        Self { hub, tasks, ledger }
    }

    async fn tenant(&self, balance: i64) -> TenantId {
        let tenant = tenants::add(&self.hub.store, &crate::ids::random_name(), 1)
            .await
            .unwrap();
        if balance > 0 {
            let reference = crate::ids::random_name();
            credit(&self.hub.store, &tenant, Nanos::new(balance), &reference, "", 1)
                .await
                .unwrap();
        }
        tenant
    }

    async fn balance(&self, tenant: &TenantId) -> (i64, i64) {
        post(&self.hub.store).await.unwrap();
        let row = tenants::find(&self.hub.store, tenant.as_str()).await.unwrap();
        (row.balance.get(), row.held.get())
    }

    /// Waits until the tables say so.
    async fn until(&self, tenant: &TenantId, balance: (i64, i64)) {
        let seen = async {
            while self.balance(tenant).await != balance {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
    }

    async fn endings(&self) -> HashMap<String, i64> {
        post(&self.hub.store).await.unwrap();
        let rows =
            sqlx::query("SELECT ending, count(*) FROM usage GROUP BY ending").fetch_all(self.hub.store.readers());
        rows.await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Ends the writer, then looks at every row.
    async fn close(self) -> TestHub {
        assert_eq!(
            self.tasks.shutdown(Duration::from_secs(20)).await,
            0,
            "the writer ends by itself"
        );
        let verdict = verify(&self.hub.store).await.unwrap();
        assert!(verdict.ok, "{:?}", verdict.problems);
        self.hub
    }
}

pub(super) fn wish(tenant: &TenantId, amount: i64) -> Reserve {
    Reserve {
        call: CallId::random(),
        tenant: tenant.clone(),
        by: By::Key(KeyId::random()),
        model: "gpt-5".into(),
        amount: Nanos::new(amount),
        price_version: 1,
    }
}

pub(super) fn row(wish: &Reserve, ending: Ending) -> UsageRow {
    let t = Tokens::new;
    let usage = Usage {
        input: t(10),
        cached: t(2),
        cache_write: t(0),
        output: t(5),
        reasoning: t(1),
        ..Usage::default()
    };
    UsageRow {
        call: wish.call,
        tenant: wish.tenant.clone(),
        by: wish.by.clone(),
        project: None,
        plan: None,
        account: None,
        choice: Choice::Only,
        egress: Some("direct".into()),
        local_address: None,
        endpoint: "/v1/responses",
        model: wish.model.clone(),
        upstream_model: wish.model.clone(),
        usage: Some((usage, UsageSource::Reported)),
        cost: Nanos::ZERO,
        price_version: wish.price_version,
        status: 200,
        ending,
        started_ms: 1,
        hold_us: Some(1),
        first_byte_us: Some(2),
        total_us: Some(3),
        vendor_request_id: Some("req_\"1\"".into()),
        response_id: None,
        link: Link::Quic,
        streamed: true,
        tier: None,
        flags: Flags::default(),
    }
}

#[tokio::test]
async fn a_call_is_held_and_charged() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let wish = wish(&tenant, 400);
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    hold.durable().await.unwrap();
    books.until(&tenant, (1_000, 400)).await;
    assert_eq!(books.ledger.open_holds(), 1);
    assert_eq!(
        hold.settle(Nanos::new(150), row(&wish, Ending::Completed)).await,
        Ok(Nanos::new(150))
    );
    assert_eq!(books.balance(&tenant).await, (850, 0));
    assert_eq!(books.ledger.open_holds(), 0);
    let sql = "SELECT input, cached, cache_write, output, reasoning, source FROM usage";
    let row = sqlx::query(sql).fetch_one(books.hub.store.readers()).await.unwrap();
    let counts: Vec<i64> = (0..5).map(|at| row.get(at)).collect();
    assert_eq!(
        (&counts[..], row.get::<&str, _>(5)),
        (&[10, 2, 0, 5, 1][..], "reported")
    );
    books.close().await;
}

#[tokio::test]
async fn what_hardly_any_call_has_stands_in_one_text_beside_its_row() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let plain = row(&wish(&tenant, 1), Ending::Completed);
    let mut rich = plain.clone();
    rich.tier = Some("flex".into());
    rich.flags.set(Flag::Unpriced);
    if let Some((usage, _)) = &mut rich.usage {
        usage.input_audio = Tokens::new(3);
        usage.tools.web_search = 2;
    }
    let (mut tier, mut flags, mut usage) = (plain.clone(), plain.clone(), plain.clone());
    tier.tier = Some("priority".into());
    flags.flags.set(Flag::ByBytes);
    if let Some((usage, _)) = &mut usage.usage {
        usage.output_audio = Tokens::new(4);
    }
    for row in [plain, rich, tier, flags, usage] {
        books.ledger.note(row);
    }
    let hub = books.close().await;
    let details: Vec<_> = crate::store::usage::page(&hub.store, &crate::store::usage::Filter::default(), None, 9)
        .await
        .unwrap();
    let details: Vec<_> = details.into_iter().map(|call| call.detail).collect();
    let told = serde_json::json!({"tier": "flex", "input_audio": 3, "web_search": 2, "flags": ["unpriced"]});
    let alone = [
        Some(serde_json::json!({"output_audio": 4})),
        Some(serde_json::json!({"flags": ["by_bytes"]})),
        Some(serde_json::json!({"tier": "priority"})),
    ];
    assert_eq!(details[..3], alone);
    assert_eq!(details[3..], [Some(told), None]);
}

#[tokio::test]
async fn why_an_account_served_stands_beside_the_row_unless_there_was_no_other() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    for choice in Choice::ALL {
        let mut row = row(&wish(&tenant, 1), Ending::Completed);
        row.choice = choice;
        books.ledger.note(row);
    }
    let hub = books.close().await;
    let all = crate::store::usage::Filter::default();
    let calls = crate::store::usage::page(&hub.store, &all, None, 9).await.unwrap();
    let told = calls.into_iter().rev().map(|call| call.detail);
    let told: Vec<_> = told
        .map(|detail| Some(detail?["choice"].as_str().unwrap().to_owned()))
        .collect();
    let names = [
        "tenant",
        "ranked",
        "pinned",
        "bound",
        "reasoning",
        "repinned",
        "detour",
        "failover",
    ];
    let names = names.map(|name| Some(name.to_owned()));
    assert_eq!(told[0], None);
    assert_eq!(told[1..], names);
}

#[tokio::test]
async fn a_call_that_ends_at_once_leaves_no_hold_and_tells_what_was_held() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    for charge in [150, 0] {
        let wish = wish(&tenant, 400);
        let hold = books.ledger.reserve(wish.clone()).await.unwrap();
        let settled = hold.settle(Nanos::new(charge), row(&wish, Ending::Completed)).await;
        assert_eq!(settled, Ok(Nanos::new(charge)));
        post(&books.hub.store).await.unwrap();
        let found = sqlx::query("SELECT held, charged, (SELECT count(*) FROM hold) FROM usage WHERE call = $1")
            .bind(wish.call.as_bytes().to_vec());
        let found = found.fetch_one(books.hub.store.readers()).await.unwrap();
        let found: (i64, i64, i64) = (found.get(0), found.get(1), found.get(2));
        assert_eq!(found, (400, charge, 0));
    }
    assert_eq!(books.balance(&tenant).await, (850, 0));
    books.close().await;
}

#[tokio::test]
async fn a_hold_that_nobody_waits_for_is_written_soon() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let hold = books.ledger.reserve(wish(&tenant, 400)).await.unwrap();
    books.until(&tenant, (1_000, 400)).await;
    drop(hold);
    books.close().await;
}

#[tokio::test]
async fn a_charge_above_the_hold_takes_what_is_there_and_the_operator_bears_the_rest() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let (first, other) = (wish(&tenant, 400), wish(&tenant, 500));
    let hold = books.ledger.reserve(first.clone()).await.unwrap();
    let kept = books.ledger.reserve(other.clone()).await.unwrap();
    kept.durable().await.unwrap();
    assert_eq!(
        hold.settle(Nanos::new(5_000), row(&first, Ending::Completed)).await,
        Ok(Nanos::new(500))
    );
    books.until(&tenant, (500, 500)).await;
    assert_eq!(
        kept.settle(Nanos::new(500), row(&other, Ending::Completed)).await,
        Ok(Nanos::new(500))
    );
    assert_eq!(books.balance(&tenant).await, (0, 0));
    let hub = books.close().await;
    let lost = sqlx::query("SELECT posted FROM account WHERE id = 'operator_loss'").fetch_one(hub.store.readers());
    assert_eq!(lost.await.unwrap().get::<i64, _>(0), -4_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_thousand_parallel_calls_on_a_balance_for_ten_ten_are_held() {
    let books = Books::open().await;
    for _ in 0..200 {
        let tenant = books.tenant(10 * 100 + 99).await;
        let mut asking = JoinSet::new();
        for _ in 0..2_000 {
            let (ledger, wish) = (books.ledger.clone(), wish(&tenant, 100));
            asking.spawn(async move { ledger.reserve(wish).await });
        }
        let (held, refused): (Vec<_>, Vec<_>) = asking.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((held.len(), refused.len()), (10, 1_990));
        let short = HoldError::Insufficient {
            available: Nanos::new(99),
        };
        assert!(refused.into_iter().all(|refused| refused.err() == Some(short.clone())));
        drop(held);
    }
    let hub = books.close().await;
    let tenants = tenants::list(&hub.store).await.unwrap();
    assert!(tenants.iter().all(|tenant| tenant.available.get() == 1_099));
}

#[tokio::test]
async fn a_refused_hold_fails_nobody_else_in_its_batch() {
    let books = Books::open().await;
    let (rich, poor) = (books.tenant(1_000).await, books.tenant(5).await);
    let wishes = [
        wish(&rich, 100),
        wish(&poor, 10),
        wish(&poor, 5),
        wish(&rich, i64::MAX),
        wish(&rich, i64::MAX),
        wish(&rich, 900),
    ];
    let got = join_all(wishes.into_iter().map(|wish| books.ledger.reserve(wish))).await;
    let granted: Vec<_> = got.iter().map(Result::is_ok).collect();
    assert_eq!(granted, [true, false, true, false, false, true]);
    drop(got);
    books.close().await;
}

#[tokio::test]
async fn a_stranger_has_nothing_and_a_running_call_is_not_held_twice() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let nobody = books.ledger.reserve(wish(&TenantId::random(), 1)).await;
    assert_eq!(nobody.err(), Some(HoldError::Insufficient { available: Nanos::ZERO }));
    let wish = wish(&tenant, 1);
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    assert_eq!(
        books.ledger.reserve(wish.clone()).await.err(),
        Some(HoldError::Duplicate)
    );
    hold.settle(Nanos::ZERO, row(&wish, Ending::ClientGone)).await.unwrap();
    assert!(books.ledger.reserve(wish).await.is_ok());
    books.close().await;
}

#[tokio::test]
async fn a_hold_that_is_dropped_is_released_and_has_its_row() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    drop(books.ledger.reserve(wish(&tenant, 700)).await.unwrap());
    // The next wish is decided after the release.
    drop(books.ledger.reserve(wish(&tenant, 1_000)).await.unwrap());
    books
        .ledger
        .note(row(&wish(&tenant, 0), Ending::Refused(Code::RateLimited)));
    assert_eq!(books.tasks.shutdown(Duration::from_secs(20)).await, 0);
    assert_eq!(
        books.endings().await,
        HashMap::from([("abandoned".into(), 2), ("refused:rate_limit_exceeded".into(), 1)])
    );
    books.close().await;
}

#[tokio::test]
async fn a_settlement_is_booked_even_if_nobody_waits_for_it() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let wish = wish(&tenant, 700);
    let hold = books.ledger.reserve(wish.clone()).await.unwrap();
    drop(hold.settle(Nanos::new(600), row(&wish, Ending::Completed)));
    let hub = books.close().await;
    assert_eq!(tenants::list(&hub.store).await.unwrap()[0].balance.get(), 400);
}

#[tokio::test]
async fn credit_arrives_while_the_hub_writes() {
    let books = Books::open().await;
    let tenant = books.tenant(0).await;
    let others = books.tenant(1_000_000).await;
    let calls = join_all((0..500).map(|at| {
        let (ledger, wish) = (books.ledger.clone(), wish(&others, 100));
        async move {
            let hold = ledger.reserve(wish.clone()).await.unwrap();
            hold.settle(Nanos::new(at % 100), row(&wish, Ending::Completed))
                .await
                .unwrap();
        }
    }));
    let credits = async {
        for at in 0..20 {
            let reference = format!("r{}", at % 10);
            let done = credit(&books.hub.store, &tenant, Nanos::new(7), &reference, "", 1)
                .await
                .unwrap();
            assert_eq!(done.is_first, at < 10);
        }
    };
    tokio::join!(calls, credits);
    assert_eq!(books.balance(&tenant).await, (70, 0));
    books.close().await;
}

#[tokio::test]
async fn no_first_call_of_a_tenant_waits_for_the_writer_after_a_start() {
    let books = Books::open().await;
    let tenant = books.tenant(1_000).await;
    let books = Books::over(books.close().await).await;
    let hold = books.ledger.reserve(wish(&tenant, 1_000)).now_or_never();
    assert!(matches!(hold, Some(Ok(_))), "it is granted at once");
    drop(hold);
    books.close().await;
}

#[tokio::test]
async fn a_credit_that_is_asked_for_again_tells_the_balance_and_another_is_refused() {
    let books = Books::open().await;
    let tenant = books.tenant(0).await;
    let ask = async |tenant: &TenantId, amount, source| credit(&books.hub.store, tenant, amount, source, "", 1).await;
    for is_first in [true, false] {
        let balance = Nanos::new(7);
        let done = ask(&tenant, Nanos::new(7), "a").await.unwrap();
        assert_eq!(done, Credited { balance, is_first });
    }
    let other = books.tenant(0).await;
    for (tenant, amount) in [(&tenant, 8), (&other, 7), (&other, 8)] {
        let refused = ask(tenant, Nanos::new(amount), "a").await;
        assert!(matches!(refused, Err(CreditError::OtherCredit(_))), "{refused:?}");
    }
    let nothing = ask(&tenant, Nanos::ZERO, "b").await;
    assert!(matches!(nothing, Err(CreditError::Nothing)), "{nothing:?}");
    let nobody = ask(&TenantId::random(), Nanos::new(1), "c").await;
    assert!(matches!(nobody, Err(CreditError::Unknown(_))), "{nobody:?}");
    let much = ask(&tenant, Nanos::MAX_TYPED, "d").await;
    assert!(matches!(much, Err(CreditError::TooMuch)), "{much:?}");
    assert_eq!(books.balance(&tenant).await, (7, 0));
    books.close().await;
}

#[tokio::test]
async fn credits_stop_at_what_the_books_can_hold() {
    let books = Books::open().await;
    for at in 0..10 {
        let tenant = books.tenant(0).await;
        let done = credit(&books.hub.store, &tenant, Nanos::MAX_TYPED, &format!("c{at}"), "", 1).await;
        assert_eq!(done.is_ok(), at < 9, "{done:?}");
        assert!(at < 9 || matches!(done, Err(CreditError::Full)));
        assert_eq!(books.balance(&tenant).await.0 > 0, at < 9);
    }
    books.close().await;
}
