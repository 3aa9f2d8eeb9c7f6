//! A hub killed under load: clients learn of it at once, nobody pays for what was not delivered, and the hub is
//! back with its books in order.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use relay_tests::vendor::{Ended, Entry, Gate, Script, Vendor};
use relay_tests::world::World;
use relay_tests::{
    client::{Client, Live, Whole},
    within::within,
};

use crate::{ask, events, setup};

const LIMIT: Duration = Duration::from_secs(3);

/// Kills the hub under sixteen streams and eight calls that wait for their head; returns the streams' fates.
async fn kill_under_load(world: &mut World) -> Vec<Whole> {
    // One event each, so that every answer has begun; then all wait.
    (0..16).for_each(|_| world.vendor.next(Script::deltas(40, 30).gate(&Gate::new(1))));
    let client = world.through_agent();
    let stream = || async {
        let mut answer: Live = client.post("/responses", ask(true)).await.unwrap();
        answer.until("response.created").await.unwrap();
        answer
    };
    let streams = join_all((0..16).map(|_| stream())).await;
    for _ in 0..8 {
        world.vendor.next(Script::hang());
    }
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::task::JoinSet::from_iter([async move {
                client.post("/responses", ask(true)).await.unwrap().rest().await
            }])
        })
        .collect();
    let is_running = |entry: &&Entry| entry.ended == Ended::Running;
    let all_run = |vendor: &Vendor| vendor.truth().entries().iter().filter(is_running).count() == 24;
    world
        .vendor
        .until("24 running calls", Duration::from_secs(10), all_run)
        .await;
    world.hub.program().kill().await;
    let killed = Instant::now();
    let ended = async |answer: Live| (answer.rest().await, killed.elapsed());
    let mut fates = join_all(streams.into_iter().map(ended)).await;
    for mut waiting in waiting {
        fates.push((waiting.join_next().await.unwrap().unwrap(), killed.elapsed()));
    }
    let times: Vec<_> = fates.iter().map(|(fate, took)| (fate.status.as_u16(), *took)).collect();
    eprintln!("told after {times:?}");
    assert!(
        times.iter().all(|(_, took)| *took < within(LIMIT)),
        "clients were told late: {times:?}"
    );
    fates.into_iter().map(|(fate, _)| fate).collect()
}

async fn survives(link: &'static str) {
    let mut world = crate::Setup { link, ..setup() }.start().await;
    let paid = world
        .through_agent()
        .post("/responses", ask(true))
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!((paid.status.as_u16(), paid.cut), (200, None));
    world.books().settled(1).await;
    let balance = world.books().balance(&world.tenant).await;

    for fate in kill_under_load(&mut world).await {
        assert_eq!(fate.cut, None, "a well-formed end: {fate:?}");
        match fate.status.as_u16() {
            200 => {
                let events = events(&fate.body);
                let last = events.last().unwrap();
                assert_eq!(last["type"], "response.failed", "{fate:?}");
                assert_eq!(last["response"]["error"]["code"], "server_error", "{fate:?}");
            }
            502..=504 => assert!(!fate.error_code().is_empty(), "{fate:?}"),
            other => panic!("{other}: {fate:?}"),
        }
    }

    world.vendor.otherwise(Script::message("Back again. "));
    let restarted = Instant::now();
    world.hub.serve().await;
    world.chaos.towards(world.hub.tunnel());
    let client = world.through_agent();
    let first = client.post("/responses", ask(true)).await.unwrap().rest().await;
    let took = restarted.elapsed();
    eprintln!("first call {took:?} after the restart");
    assert_eq!((first.status.as_u16(), &first.cut), (200, &None), "{first:?}");
    assert!(took < within(LIMIT), "the first call worked {took:?} after the restart");

    let rows = world.books().settled(2).await;
    let undelivered: i64 = rows
        .iter()
        .filter(|row| row.ending != "completed")
        .map(|row| row.charged)
        .sum();
    assert_eq!(undelivered, 0, "nobody pays for what was not delivered: {rows:#?}");
    let completed: i64 = rows
        .iter()
        .filter(|row| row.ending == "completed")
        .map(|row| row.charged)
        .sum();
    let now = world.books().balance(&world.tenant).await;
    assert_eq!(now.held, 0);
    assert_eq!(balance.posted - now.posted, completed - rows[0].charged, "{rows:#?}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_killed_under_streams_is_back_with_its_books_over_quic() {
    survives("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_killed_under_streams_is_back_with_its_books_over_http2() {
    survives("h2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_told_to_stop_lets_running_answers_finish() {
    let mut world = setup().start().await;
    let gate = Gate::new(4);
    world.vendor.next(Script::deltas(30, 20).gate(&gate));
    let mut answer = world.through_agent().post("/responses", ask(true)).await.unwrap();
    answer.until("response.created").await.unwrap();
    let stopping = world.hub.program().terminate();
    let finishing = async {
        gate.release(1_000);
        answer.rest().await
    };
    let (code, rest) = tokio::join!(stopping, finishing);
    assert_eq!(rest.cut, None);
    assert_eq!(events(&rest.body).last().unwrap()["type"], "response.completed");
    assert_eq!(code, Some(0));
    world.assert_billed_truly().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_told_twice_to_stop_ends_at_once_and_says_that_calls_were_cut() {
    let mut world = setup().start().await;
    let gate = Gate::new(4);
    world.vendor.next(Script::deltas(30, 20).gate(&gate));
    let mut answer = world.through_agent().post("/responses", ask(true)).await.unwrap();
    answer.until("response.created").await.unwrap();
    world.hub.program().ask_to_end().await;
    // It drains once a new call is refused, which its health tells.
    let health = Client::new(&format!("http://{}", world.hub.http()), "");
    while health.get("/healthz").await.is_ok_and(|answer| answer.status == 200) {}
    assert!(world.hub.program().is_running(), "one call runs");
    let told = Instant::now();
    assert_eq!(world.hub.program().terminate().await, Some(1));
    assert!(told.elapsed() < within(Duration::from_secs(1)), "{:?}", told.elapsed());
    assert!(world.hub.program().log().contains("running calls were cut"));
    assert!(answer.rest().await.cut.is_none(), "the agent says what happened");
    world.hub.command(&["ledger", "verify"]).await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_hub_on_the_same_data_refuses_at_once() {
    let mut world = setup().start().await;
    let pid = world.hub.program().pid().to_string();
    let began = Instant::now();
    let second = world.hub.command(&["serve", "--http", "127.0.0.1:0"]).await;
    assert!(
        began.elapsed() < within(Duration::from_secs(2)),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(second.exit_code, Some(1), "{second:#?}");
    assert!(second.stderr.contains(&pid), "it names the holder {pid}: {second:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_hub_is_told_to_come_again() {
    let mut world = setup().start().await;
    world.hub.program().kill().await;
    let began = Instant::now();
    for path in ["/responses", "/chat/completions"] {
        let answer = world.through_agent().post(path, ask(true)).await.unwrap().rest().await;
        assert_eq!((answer.status.as_u16(), &answer.cut), (503, &None), "{answer:?}");
        let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=5).contains(&seconds), "{seconds}");
        assert!(!answer.error_code().is_empty(), "{answer:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}
