use futures_util::future::join_all;
use http::HeaderValue;
use relay_protocol::{Code, Endpoint};
use sqlx::Row as _;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    directory::{OnAbort, Stop, Tenant},
    identity::By,
    ids::{KeyId, TenantId},
    store::testing::TestHub,
};

struct Desk {
    hub: TestHub,
    tasks: Tasks,
    ledger: Ledger,
    calls: Idempotency,
}

impl Desk {
    async fn open() -> Self {
        Self::over(TestHub::bare().await).await
    }

    async fn over(hub: TestHub) -> Self {
        let tasks = Tasks::new();
        let ledger = Ledger::start(&hub.store, &tasks).await.unwrap();
        let calls = Idempotency::start(hub.store.clone(), &ledger, &tasks);
        Self {
            hub,
            tasks,
            ledger,
            calls,
        }
    }

    async fn restart(self) -> Self {
        drop((self.calls, self.ledger));
        self.tasks.shutdown(Duration::from_secs(20)).await;
        Self::over(self.hub).await
    }

    async fn ask(&self, caller: &Caller, key: &str, body: &str) -> Result<Box<Claim>, Refused> {
        let headers = HeaderMap::from_iter([(KEY, HeaderValue::from_str(key).unwrap())]);
        let claim = self
            .calls
            .claim(
                caller,
                &headers,
                Endpoint::Responses.path(),
                body.as_bytes(),
                CallId::random(),
            )
            .await?;
        Ok(claim.expect("there is a key"))
    }

    async fn rows(&self) -> i64 {
        let count = sqlx::query("SELECT count(*) FROM idempotency");
        count.fetch_one(self.hub.store.readers()).await.unwrap().get(0)
    }
}

fn caller() -> Caller {
    let id = TenantId::random();
    let tenant = Arc::new(Tenant {
        id,
        name: "a".to_owned(),
        is_suspended: false,
        on_abort: OnAbort::Cut,
        region: None,
        may_repin: false,
        stop: Stop::new(&CancellationToken::new()),
    });
    Caller {
        tenant,
        by: By::Key(KeyId::random()),
        project: None,
        granted: None,
    }
}

fn code(answer: Result<Box<Claim>, Refused>) -> Option<Code> {
    answer.err().map(|refused| refused.public.code)
}

#[tokio::test]
async fn a_call_without_a_key_claims_nothing() {
    let desk = Desk::open().await;
    let (one, none) = (caller(), HeaderMap::new());
    let none = desk
        .calls
        .claim(&one, &none, Endpoint::Responses.path(), b"{}", CallId::random());
    assert!(none.await.unwrap().is_none());
    assert_eq!(desk.rows().await, 0);
}

#[tokio::test]
async fn what_is_no_key_is_refused_in_words() {
    let (desk, one) = (Desk::open().await, caller());
    let long = "k".repeat(256);
    for (values, told) in [
        (&[""][..], "empty"),
        (&[&long], "255"),
        (&["\u{e9}"], "printable"),
        (&["a\tb"], "printable"),
        (&["a", "a"], "more than once"),
    ] {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(KEY, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let asked = desk
            .calls
            .claim(&one, &headers, Endpoint::Responses.path(), b"", CallId::random());
        let refused = asked.await.err().unwrap().public;
        assert_eq!(refused.code, Code::InvalidRequest);
        assert!(refused.message.contains(told), "{}", refused.message);
    }
    let longest = "k".repeat(255);
    assert!(desk.ask(&caller(), &longest, "").await.is_ok());
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_caller() {
    let desk = Desk::open().await;
    let (one, other) = (caller(), caller());
    let running = desk.ask(&one, "k", "a").await.unwrap();
    assert_eq!(code(desk.ask(&one, "k", "a").await), Some(Code::CallRunning));
    assert_eq!(code(desk.ask(&one, "k", "b").await), Some(Code::KeyReused));
    assert!(desk.ask(&one, "l", "a").await.is_ok(), "another key");
    assert!(desk.ask(&other, "k", "b").await.is_ok(), "another caller");
    let running = running.leaves(1).await.unwrap();
    assert_eq!(code(desk.ask(&one, "k", "a").await), Some(Code::CallRunning));
    assert_eq!(code(desk.ask(&one, "k", "b").await), Some(Code::KeyReused));
    drop(running);
    assert_eq!(
        code(desk.ask(&one, "k", "a").await),
        Some(Code::CallRunning),
        "it is not booked yet"
    );
    assert_eq!(code(desk.ask(&one, "k", "b").await), Some(Code::KeyReused));
}

#[tokio::test]
async fn a_call_that_never_left_burns_no_key() {
    let desk = Desk::open().await;
    let one = caller();
    drop(desk.ask(&one, "k", "a").await.unwrap());
    let again = desk.ask(&one, "k", "another body").await.unwrap();
    // A client that leaves while its call is being written.
    {
        let mut leaves = Box::pin(again.leaves(1));
        assert!(futures_util::poll!(leaves.as_mut()).is_pending());
    }
    let free = async {
        while desk.ask(&one, "k", "a third body").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.unwrap();
    assert_eq!(desk.rows().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_goes() {
    let desk = Desk::open().await;
    for round in 0..20 {
        let (one, key) = (caller(), format!("k{round}"));
        let asks = join_all((0..50).map(|_| async {
            let claim = desk.ask(&one, &key, "a").await?;
            claim.leaves(1).await
        }));
        let gone = asks.await.into_iter().filter(Result::is_ok).count();
        assert_eq!(gone, 1);
    }
    assert_eq!(desk.rows().await, 20);
}

#[tokio::test]
async fn a_call_of_a_hub_that_died_is_told_of_and_not_run_again() {
    let desk = Desk::open().await;
    let one = caller();
    let left = desk.ask(&one, "k", "a").await.unwrap().leaves(7).await.unwrap();
    let call = left.running.call.to_string();
    // A dead hub frees nothing.
    std::mem::forget(left);
    let desk = desk.restart().await;
    let refused = desk.ask(&one, "k", "a").await.err().unwrap().public;
    assert_eq!(refused.code, Code::AlreadyCompleted);
    let receipt = refused.receipt.unwrap();
    assert_eq!(
        (&receipt["call_id"], &receipt["ending"]),
        (&call.into(), &"recovered".into())
    );
    assert_eq!(code(desk.ask(&one, "k", "b").await), Some(Code::KeyReused));
}

#[tokio::test]
async fn a_paused_hub_lets_no_call_leave_under_a_later_one() {
    let desk = Desk::open().await;
    let mut tx = desk.hub.store.write().await.unwrap();
    sqlx::query("UPDATE hub SET epoch = epoch + 1")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let claim = desk.ask(&caller(), "k", "a").await.unwrap();
    assert_eq!(code(claim.leaves(1).await), Some(Code::LedgerUnavailable));
    assert_eq!(desk.rows().await, 0);
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let desk = Desk::open().await;
    let one = caller();
    let now = millis(SystemClock.wall());
    let entry = |key: &str, at_ms| {
        Change::Take(Entry {
            name: Name {
                caller: one.by.as_str().to_owned(),
                hash: fingerprint(&[key.as_bytes()]),
            },
            request: [0; 32],
            call: CallId::random(),
            number: 1,
            at_ms,
        })
    };
    let rows = [entry("old", now - KEPT_MS - 1), entry("new", now - KEPT_MS + 60_000)];
    table::write(&desk.hub.store, desk.ledger.epoch(), &rows).await.unwrap();
    assert!(desk.ask(&one, "old", "a").await.is_ok());
    assert_eq!(code(desk.ask(&one, "new", "a").await), Some(Code::KeyReused));
    assert!(!table::sweep(&desk.hub.store, now - KEPT_MS).await.unwrap());
    assert_eq!(desk.rows().await, 1);
}
