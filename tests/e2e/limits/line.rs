//! However many calls come at once, no more run, pass or spend than may; who finds no slot waits in a fair line.

use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt as _, join_all, select_all};
use relay_tests::client::{Client, Whole};
use relay_tests::vendor::{Gate, Script, Usage, Vendor};
use relay_tests::world::World;
use serde_json::{Value, json};

use super::{PATIENCE, UNIT, header, limit, post};
use crate::{MODEL, ask, setup};

#[tokio::test(flavor = "multi_thread")]
async fn of_five_hundred_calls_at_once_no_more_run_than_may() {
    let hub_toml = "[limits]\nqueue_calls = 0".to_owned();
    let world = crate::Setup { hub_toml, ..setup() }.start().await;
    for (words, status, code) in [
        (["--tenant", "acme"], 429, "rate_limit_exceeded"),
        (["--model", MODEL], 429, "rate_limit_exceeded"),
        (["--endpoint", "/v1/responses"], 429, "rate_limit_exceeded"),
    ] {
        let (gate, before) = (Gate::new(0), world.vendor.posts().len());
        world.vendor.otherwise(Script::message("x ").gate(&gate));
        limit(&world, &[&["set"], &words[..], &["--concurrent-calls", "7"]].concat()).await;
        let client = world.through_hub();
        let mut calls: Vec<_> = (0..500).map(|_| post(&client, ask(true)).boxed()).collect();
        let mut refused = Vec::new();
        while refused.len() < 493 {
            let (answer, _, rest) = tokio::time::timeout(PATIENCE * 3, select_all(calls))
                .await
                .expect("refused at once");
            assert_eq!(
                (answer.status.as_u16(), answer.error_code().as_str()),
                (status, code),
                "{words:?}"
            );
            assert!(answer.headers.contains_key("retry-after"));
            refused.push(answer);
            calls = rest;
        }
        let all_run = |vendor: &Vendor| vendor.posts().len() == before + 7;
        world.vendor.until("seven calls", PATIENCE, all_run).await;
        gate.release(7_000);
        for answer in join_all(calls).await {
            assert_eq!((answer.status.as_u16(), answer.cut), (200, None));
        }
        assert_eq!(world.vendor.posts().len(), before + 7);
        limit(&world, &[&["clear"], &words[..]].concat()).await;
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_hundred_calls_at_once_no_more_pass_than_the_minute_has() {
    let world = setup().start().await;
    limit(&world, &["set", "--tenant", "acme", "--requests-per-minute", "30"]).await;
    let client = world.through_hub();
    let began = Instant::now();
    let answers = join_all((0..500).map(|_| post(&client, ask(false)))).await;
    // What drained meanwhile may be used again.
    let drained = usize::try_from(began.elapsed().as_secs() / 2).unwrap() + 1;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(
        (30..=30 + drained).contains(&passed),
        "{passed} of 30 in {:?}",
        began.elapsed()
    );
    assert_eq!(world.vendor.posts().len(), passed);
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 200 || answer.status == 429)
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_hundred_calls_at_once_no_more_pass_than_the_budget_covers() {
    let world = setup().start().await;
    // Each may cost about 0.005 and costs 0.004, whose hold counts while it runs.
    limit(&world, &["set", "--tenant", "acme", "--daily-spend", "0.05"]).await;
    world
        .vendor
        .otherwise(Script::message("x ").usage(Usage { input: 4_000, ..UNIT }));
    let client = world.through_hub();
    let answers = join_all((0..500).map(|_| post(&client, ask(false)))).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    let rows = world.books().settled(500).await;
    let charged: i64 = rows.iter().map(|row| row.charged).sum();
    assert!(
        (1..=12).contains(&passed) && charged <= 50_000_000,
        "{passed} passed, {charged} charged"
    );
    assert_eq!(world.vendor.posts().len(), passed);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_line_is_served_when_another_ends() {
    let world = setup().start().await;
    limit(&world, &["set", "--global", "--concurrent-calls", "1"]).await;
    for client in [world.through_agent(), world.through_hub()] {
        let before = world.vendor.posts().len();
        let gate = Gate::new(0);
        world.vendor.next(Script::message("x ").gate(&gate));
        let first = post(&client, ask(true)).boxed();
        let (mut first, second) = (first, post(&client, ask(true)));
        tokio::select! {
            answer = &mut first => panic!("the vendor has not answered: {answer:?}"),
            () = world.vendor.until("the first call", PATIENCE, |vendor| vendor.posts().len() > before) => {}
        }
        let ((), first, second) = tokio::join!(async { gate.release(1_000) }, first, second);
        assert_eq!(
            (first.status.as_u16(), second.status.as_u16()),
            (200, 200),
            "{second:?}"
        );
    }
    world.assert_sound().await;
}

/// A world in which one call runs at a time and one of a tenant may wait for so long.
async fn narrow(wait: &str) -> World {
    let hub_toml = format!("[limits]\nqueue_calls_per_tenant = 1\nqueue_wait = \"{wait}\"");
    let world = crate::Setup { hub_toml, ..setup() }.start().await;
    limit(&world, &["set", "--tenant", "acme", "--concurrent-calls", "1"]).await;
    world
}

/// A call that the vendor has and does not answer before the gate opens.
async fn running<'a>(world: &World, client: &'a Client) -> (Gate, BoxFuture<'a, Whole>) {
    let (gate, before) = (Gate::new(0), world.vendor.posts().len());
    world.vendor.next(Script::message("x ").gate(&gate));
    let mut call = post(client, ask(true)).boxed();
    tokio::select! {
        answer = &mut call => panic!("the vendor has not answered: {answer:?}"),
        () = world.vendor.until("the call", PATIENCE, |vendor| vendor.posts().len() > before) => {}
    }
    (gate, call)
}

/// One call that is in line for certain: of two, one finds the other there and is refused.
async fn in_line(client: &Client) -> BoxFuture<'_, Whole> {
    let (full, _, mut rest) = select_all((0..2).map(|_| post(client, ask(true)).boxed())).await;
    assert_eq!(
        (full.status.as_u16(), full.error_code().as_str()),
        (429, "rate_limit_exceeded")
    );
    assert_eq!(header(&full, "retry-after"), "2");
    rest.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_no_longer_than_it_may() {
    let world = narrow("500ms").await;
    for client in [world.through_agent(), world.through_hub()] {
        let (gate, first) = running(&world, &client).await;
        let late = in_line(&client).await.await;
        assert_eq!(
            (late.status.as_u16(), header(&late, "retry-after").as_str()),
            (429, "1"),
            "{}",
            late.text()
        );
        gate.release(1_000);
        assert_eq!(first.await.status, 200);
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_line_frees_its_place() {
    let world = narrow("10m").await;
    for client in [world.through_agent(), world.through_hub()] {
        let (gate, first) = running(&world, &client).await;
        drop(in_line(&client).await);
        // Refused as long as the hub does not know that the client has gone.
        let left = Instant::now();
        let next = loop {
            let mut next = post(&client, ask(true)).boxed();
            match tokio::time::timeout(Duration::from_secs(1), &mut next).await {
                Ok(refused) => assert_eq!(refused.status, 429, "{}", refused.text()),
                Err(_in_line) => break next,
            }
            assert!(left.elapsed() < PATIENCE, "the place is still taken");
        };
        gate.release(1_000);
        assert_eq!((first.await.status.as_u16(), next.await.status.as_u16()), (200, 200));
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_a_long_line_does_not_keep_up_another() {
    let hub_toml = "[limits]\nqueue_calls = 11\nqueue_calls_per_tenant = 10\nqueue_wait = \"10m\"".to_owned();
    let world = crate::Setup { hub_toml, ..setup() }.start().await;
    let calm = world.hub.add_tenant("calm", "100").await;
    let calm = Client::new(
        &format!("http://{}/v1", world.hub.http()),
        &world.hub.add_key(&calm).await,
    );
    let busy = world.through_hub();
    limit(&world, &["set", "--global", "--concurrent-calls", "1"]).await;
    let from = |name: &str| json!({"model": MODEL, "input": name, "stream": true}).to_string();
    let (gate, first) = running(&world, &busy).await;
    // The eleventh finds ten in line, which are there for certain.
    let line = (0..11).map(|_| post(&busy, from("busy")).boxed());
    let (full, _, mut line) = select_all(line).await;
    assert_eq!(
        (full.status.as_u16(), full.error_code().as_str()),
        (503, "server_is_overloaded")
    );
    // The second of the calm tenant finds the whole line full, and gets the place of the last in the longest.
    line.extend((0..2).map(|_| post(&calm, from("calm")).boxed()));
    let (displaced, at, mut line) = select_all(line).await;
    assert!(displaced.status == 503 && at < 10, "{at}: {}", displaced.text());
    line.push(first);
    gate.release(1_000);
    assert!(join_all(line).await.iter().all(|answer| answer.status == 200));
    let order = world.vendor.posts().into_iter().skip(1).map(|call| {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        body["input"].as_str().unwrap().to_owned()
    });
    let order: Vec<_> = order.collect();
    assert_eq!(
        order[..5],
        ["busy", "calm", "busy", "calm", "busy"],
        "tenants take turns"
    );
    assert_eq!(order.len(), 11);
    world.assert_sound().await;
}
