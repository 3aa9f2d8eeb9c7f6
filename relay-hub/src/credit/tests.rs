use std::time::Duration;

use futures_util::future::join_all;
use relay_shared::{clock::Clock as _, clock::SystemClock, tasks::Tasks};
use sqlx::Row as _;

use super::{plan::Now, *};
use crate::{
    ids::CodeId,
    ledger::{self, Ledger},
    money::Nanos,
    store::{
        codes, millis,
        plans::{self, Changed, Plan},
        tenants,
        testing::TestHub,
    },
};

async fn tenant(hub: &TestHub, name: &str) -> TenantId {
    tenants::add(&hub.store, name, 1).await.unwrap()
}

async fn balance(hub: &TestHub, tenant: &TenantId) -> i64 {
    tenants::find(&hub.store, tenant.as_str()).await.unwrap().balance.get()
}

async fn sources(hub: &TestHub, kind: &str) -> Vec<String> {
    let rows = sqlx::query("SELECT idem FROM transfer WHERE kind = $1 ORDER BY seq").bind(kind);
    let rows = rows.fetch_all(hub.store.readers()).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn code(hub: &TestHub, amount: i64, expires_ms: Option<i64>, days: Option<i64>) -> (CodeId, String) {
    let terms = Terms {
        amount: Nanos::new(amount),
        expires_ms,
        days,
        note: "spring".to_owned(),
    };
    let mut made = make(&hub.store, &terms, 1, 1).await.unwrap();
    let (id, text) = made.remove(0);
    (id, text.expose().to_owned())
}

fn ms(moment: &str) -> i64 {
    moment.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_that_redeem_a_code_at_once_one_does() {
    let hub = TestHub::bare().await;
    let mut all = Vec::new();
    for at in 0..20 {
        all.push(tenant(&hub, &format!("t{at}")).await);
    }
    let (id, text) = code(&hub, 7, None, None).await;
    let tries = (0..200).map(|at| redeem(&hub.store, &text, &all[at % 20], 5));
    let done = join_all(tries).await;
    let first = done.iter().flatten().filter(|done| done.credited.is_first).count();
    assert_eq!(first, 1);
    assert_eq!(done.iter().flatten().count(), 10, "its own tenant is told again");
    let others = done.iter().filter(|done| matches!(done, Err(RedeemError::Used)));
    assert_eq!(others.count(), 190);
    let mut sum = 0;
    for tenant in &all {
        sum += balance(&hub, tenant).await;
    }
    assert_eq!((sum, sources(&hub, "credit").await), (7, vec![format!("code {id}")]));
    assert!(ledger::verify(&hub.store).await.unwrap().ok);
}

#[tokio::test]
async fn a_code_is_read_however_it_is_typed_and_kept_as_a_hash() {
    let hub = TestHub::bare().await;
    let one = tenant(&hub, "a").await;
    let (_, text) = code(&hub, 7, None, None).await;
    assert_eq!((text.len(), text.matches('-').count()), (19, 3), "{text}");
    let typed = format!(" {} ", text.to_lowercase().replace('-', " "));
    assert!(redeem(&hub.store, &typed, &one, 5).await.unwrap().credited.is_first);
    let kept = std::fs::read(hub.data.database()).unwrap();
    let bare = text.replace('-', "").to_lowercase();
    assert!(!String::from_utf8_lossy(&kept).contains(&bare));
    for wrong in ["", "x", &text[1..], "ABCD-EFGH-JKMN-PQRS", &"A".repeat(10_000)] {
        assert!(
            matches!(redeem(&hub.store, wrong, &one, 5).await, Err(RedeemError::Unknown)),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_code_that_is_over_or_revoked_is_worth_nothing() {
    let hub = TestHub::bare().await;
    let one = tenant(&hub, "a").await;
    let (_, late) = code(&hub, 7, Some(10), None).await;
    assert!(matches!(
        redeem(&hub.store, &late, &one, 10).await,
        Err(RedeemError::Expired)
    ));
    let (id, text) = code(&hub, 7, None, None).await;
    assert_eq!(
        codes::revoke(&hub.store, None, hash(&text), 5).await.unwrap(),
        Some(id.clone())
    );
    assert_eq!(
        codes::revoke(&hub.store, Some(&id), None, 5).await.unwrap(),
        None,
        "it is so already"
    );
    assert!(matches!(
        redeem(&hub.store, &text, &one, 6).await,
        Err(RedeemError::Revoked)
    ));
    assert_eq!(balance(&hub, &one).await, 0);
    assert!(redeem(&hub.store, &late, &one, 9).await.is_ok());
    assert_eq!(
        codes::revoke(&hub.store, None, hash(&late), 9).await.unwrap(),
        None,
        "it was redeemed"
    );
}

#[tokio::test]
async fn a_codes_credit_lasts_as_long_as_the_code_says() {
    let hub = TestHub::bare().await;
    let one = tenant(&hub, "a").await;
    let (id, text) = code(&hub, 7, None, Some(30)).await;
    let at_ms = ms("2026-11-21T12:00:00Z");
    let done = redeem(&hub.store, &text, &one, at_ms).await.unwrap();
    assert_eq!(done.expires_ms, Some(ms("2026-12-21T12:00:00Z")));
    let again = redeem(&hub.store, &text, &one, at_ms + 1).await.unwrap();
    assert_eq!((again.expires_ms, again.credited.is_first), (done.expires_ms, false));
    let left = ledger::expiring(&hub.store, &one).await.unwrap();
    assert_eq!((left.len(), left[0].source.clone()), (1, format!("code {id}")));
}

async fn plan(hub: &TestHub, name: &str, [monthly, daily, free]: [i64; 3]) {
    let plan = Plan {
        name: name.to_owned(),
        monthly: Nanos::new(monthly),
        daily: Nanos::new(daily),
        free: Nanos::new(free),
        downgrade: None,
        created_ms: 1,
    };
    assert_eq!(plans::add(&hub.store, &plan).await.unwrap(), Changed::Done);
}

async fn assign(hub: &TestHub, tenant: &TenantId, plan: Option<&str>) -> Changed {
    plans::assign(&hub.store, tenant, plan, 1).await.unwrap()
}

#[test]
fn a_month_and_a_day_end_at_midnight_utc() {
    let now = Now::at(ms("2026-12-31T23:59:59.999Z")).unwrap();
    assert_eq!((now.month.as_str(), now.day.as_str()), ("2026-12", "2026-12-31"));
    assert_eq!(Now::at(ms("2027-01-01T00:00:00Z")).unwrap().month, "2027-01");
    assert!(Now::at(i64::MAX).is_none());
}

#[tokio::test]
async fn each_period_is_given_once_and_ends_with_it() {
    let hub = TestHub::bare().await;
    let one = tenant(&hub, "a").await;
    plan(&hub, "pro", [100, 10, 5]).await;
    assert_eq!(assign(&hub, &one, Some("pro")).await, Changed::Done);
    let tasks = Tasks::new();
    let ledger = Ledger::start(&hub.store, &tasks).await.unwrap();
    let look = async |moment: &str| {
        let now_ms = ms(moment);
        ledger
            .expire(ledger::expired(&hub.store, now_ms).await.unwrap(), now_ms)
            .await
            .unwrap();
        give(&hub.store, now_ms).await.unwrap();
        balance(&hub, &one).await
    };
    assert_eq!(look("2026-11-30T12:00:00Z").await, 115);
    assert_eq!(look("2026-11-30T23:59:59Z").await, 115, "given once");
    assert_eq!(look("2026-12-01T00:00:00Z").await, 115, "a new day and a new month");
    assert_eq!(
        look("2026-11-30T23:00:00Z").await,
        115,
        "a clock set back gives nothing again"
    );
    assert_eq!(look("2026-12-01T00:00:00Z").await, 115);
    assert_eq!(
        look("2027-05-07T08:00:00Z").await,
        115,
        "off for months, given for this one alone"
    );
    let id = one.as_str();
    assert_eq!(
        sources(&hub, "credit").await,
        [
            format!("plan pro 2026-11 {id}"),
            format!("plan pro 2026-11-30 {id}"),
            format!("plan pro free {id}"),
            format!("plan pro 2026-12 {id}"),
            format!("plan pro 2026-12-01 {id}"),
            format!("plan pro 2027-05 {id}"),
            format!("plan pro 2027-05-07 {id}"),
        ]
    );
    assert_eq!(sources(&hub, "expiry").await.len(), 4);
    drop(ledger);
    tasks.shutdown(Duration::from_secs(20)).await;
    assert!(ledger::verify(&hub.store).await.unwrap().ok);
}

#[tokio::test]
async fn going_to_and_fro_between_plans_gives_each_once() {
    let hub = TestHub::bare().await;
    let one = tenant(&hub, "a").await;
    plan(&hub, "pro", [100, 0, 0]).await;
    plan(&hub, "free", [0, 0, 3]).await;
    let now_ms = ms("2026-11-21T12:00:00Z");
    for name in [Some("pro"), Some("free"), None, Some("pro"), Some("free")] {
        assert_eq!(assign(&hub, &one, name).await, Changed::Done);
        give(&hub.store, now_ms).await.unwrap();
    }
    assert_eq!(assign(&hub, &one, Some("free")).await, Changed::Already);
    assert_eq!(assign(&hub, &one, Some("none such")).await, Changed::Unknown);
    assert_eq!(balance(&hub, &one).await, 103);
    assert_eq!(plans::remove(&hub.store, "free").await.unwrap(), Changed::Taken);
    assert_eq!(plans::remove(&hub.store, "pro").await.unwrap(), Changed::Done);
    assert_eq!(plans::remove(&hub.store, "pro").await.unwrap(), Changed::Unknown);
}

#[tokio::test]
async fn a_tenant_that_can_take_no_more_keeps_nothing_from_others() {
    let hub = TestHub::bare().await;
    let (rich, poor) = (tenant(&hub, "rich").await, tenant(&hub, "poor").await);
    ledger::credit(&hub.store, &rich, Nanos::MAX_TYPED, "r", "", 1)
        .await
        .unwrap();
    plan(&hub, "pro", [100, 0, 0]).await;
    for one in [&rich, &poor] {
        assign(&hub, one, Some("pro")).await;
    }
    give(&hub.store, ms("2026-11-21T12:00:00Z")).await.unwrap();
    assert_eq!(balance(&hub, &poor).await, 100);
    assert_eq!(balance(&hub, &rich).await, Nanos::MAX_TYPED.get());
}

#[tokio::test]
async fn more_tenants_than_fit_one_transaction_are_all_given() {
    let hub = TestHub::bare().await;
    plan(&hub, "pro", [0, 2, 0]).await;
    let mut tx = hub.store.write().await.unwrap();
    for at in 0..450 {
        let id = TenantId::random();
        for sql in [
            "INSERT INTO tenant (id, name, created_ms) VALUES ($1, $2, 1)",
            "INSERT INTO account (id) SELECT $1 WHERE $2 IS NOT NULL",
            "INSERT INTO tenant_plan (tenant, plan, since_ms) SELECT $1, 'pro', 1 WHERE $2 IS NOT NULL",
        ] {
            sqlx::query(sql)
                .bind(id.as_str())
                .bind(format!("t{at}"))
                .execute(&mut *tx)
                .await
                .unwrap();
        }
    }
    tx.commit().await.unwrap();
    give(&hub.store, millis(SystemClock.wall())).await.unwrap();
    let all = tenants::list(&hub.store).await.unwrap();
    assert!(all.len() == 450 && all.iter().all(|one| one.balance.get() == 2));
}
