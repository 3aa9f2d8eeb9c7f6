//! What a crash leaves, and what the next start makes of it.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use super::*;
use crate::{config::DataDir, store::Store};

/// Not a test of its own: what the next test starts and kills.
#[test]
#[ignore = "started by the test of kill -9"]
fn child_that_books_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(&DataDir::new(dir)).await.unwrap();
        let tasks = Tasks::new();
        let ledger = Ledger::start(&store, &tasks).await.unwrap();
        let tenant = tenants::list(&store).await.unwrap().remove(0).id;
        for _ in 0..LEFT_OPEN {
            let hold = ledger.reserve(wish(&tenant, 1_000)).await.unwrap();
            hold.durable().await.unwrap();
            std::mem::forget(hold);
        }
        let callers = (0..32).map(|at: i64| {
            let (ledger, tenant) = (ledger.clone(), tenant.clone());
            async move {
                for round in 0.. {
                    let wish = wish(&tenant, 1_000);
                    let hold = ledger.reserve(wish.clone()).await.unwrap();
                    if at % 2 == 0 {
                        hold.durable().await.unwrap();
                    }
                    let charged = hold
                        .settle(Nanos::new((at + round) % 1_200), row(&wish, Ending::Completed))
                        .await
                        .unwrap();
                    writeln!(std::io::stdout(), "booked {} {}", wish.call, charged.get()).unwrap();
                }
            }
        });
        join_all(callers).await;
    });
}

#[tokio::test]
async fn nothing_that_was_acknowledged_is_lost_by_kill_9() {
    let hub = TestHub::bare().await;
    let tenant = tenants::add(&hub.store, "acme", 1).await.unwrap();
    credit(&hub.store, &tenant, Nanos::MAX_TYPED, "start", "", 1)
        .await
        .unwrap();
    let mut booked: HashMap<String, i64> = HashMap::new();
    for round in 0..4 {
        let args: [OsString; 4] = [
            "--exact",
            "ledger::tests::crash::child_that_books_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ]
        .map(Into::into);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(args)
            .env(CHILD, hub.dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut seen = 0;
        for line in lines {
            let Some(rest) = line.find("booked ").map(|at| line[at..].to_owned()) else {
                continue;
            };
            let mut words = rest.split(' ').skip(1);
            let (Some(call), Some(Ok(charged))) = (words.next(), words.next().map(str::parse)) else {
                continue;
            };
            booked.insert(call.to_owned(), charged);
            seen += 1;
            if seen == 200 + 37 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= 200, "the child booked {seen}");
    }
    let books = Books::over(hub).await;
    assert_eq!(books.balance(&tenant).await.1, 0);
    let recovered = books.endings().await.get("recovered").copied().unwrap_or_default();
    assert!(recovered >= 4 * LEFT_OPEN, "{recovered} holds were closed");
    post(&books.hub.store).await.unwrap();
    let rows = sqlx::query("SELECT lower(hex(call)), charged FROM usage")
        .fetch_all(books.hub.store.readers())
        .await
        .unwrap();
    let written: HashMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (call, charged) in &booked {
        assert_eq!(written.get(call), Some(charged), "{call}");
    }
    books.close().await;
}

#[tokio::test]
async fn every_open_hold_is_released_at_the_next_start() {
    let open = told("RELAY_OPEN_HOLDS").unwrap_or(20_000);
    let books = Books::open().await;
    let tenant = books.tenant(open * 2).await;
    for _ in 0..open {
        let hold = books.ledger.reserve(wish(&tenant, 1)).await.unwrap();
        hold.hasten();
        // As a crash leaves it.
        std::mem::forget(hold);
    }
    books.until(&tenant, (open * 2, open)).await;
    let database = books.hub.store.data().database();
    let began = std::time::Instant::now();
    let recovered = recover::take_over(&database, &books.hub.data.flight(), PATIENCE, 1).unwrap();
    let took = began.elapsed();
    assert_eq!(i64::try_from(recovered.holds), Ok(open));
    eprintln!("{open} open holds released within {took:?}");
    if let Some(most) = told("RELAY_RELEASED_WITHIN_MS") {
        assert!(took.as_millis() <= u128::try_from(most).unwrap(), "{took:?}");
    }
    assert_eq!(books.balance(&tenant).await, (open * 2, 0));
    assert_eq!(books.endings().await, HashMap::from([("recovered".into(), open)]));
    assert!(verify(&books.hub.store).await.unwrap().ok);
}

/// What `cargo xtask prove recovery` asks for.
fn told(variable: &str) -> Option<i64> {
    std::env::var_os(variable)?.into_string().ok()?.parse().ok()
}

/// Holds that a child leaves open, besides those it is killed over.
const LEFT_OPEN: i64 = 25;
const CHILD: &str = "RELAY_LEDGER_CHILD";
