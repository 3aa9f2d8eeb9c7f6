//! A request that is sent twice under one `Idempotency-Key` runs once, whatever happens to the hub; whoever asks again
//! is told what became of it.

use futures_util::future::join_all;
use http::Method;
use http_body_util::Full;
use relay_tests::client::{Client, Live, Whole};
use relay_tests::vendor::{Gate, Script};
use relay_tests::world::World;

use crate::{ask, ask_chat, setup};

async fn begin(client: &Client, path: &str, key: &str, body: String) -> Live {
    let request = client.request(Method::POST, path).header("idempotency-key", key);
    client
        .send(request.body(Full::new(body.into())).unwrap())
        .await
        .unwrap()
}

async fn post(client: &Client, key: &str, body: String) -> Whole {
    begin(client, "/responses", key, body).await.rest().await
}

fn told(answer: &Whole) -> (u16, String) {
    (answer.status.as_u16(), answer.error_code())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn ways(world: &World) -> [(&'static str, Client); 2] {
    [("agent", world.through_agent()), ("hub", world.through_hub())]
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_calls_at_once_with_one_key_exactly_one_runs() {
    let world = setup().start().await;
    for (way, client) in ways(&world) {
        let answers = join_all((0..200).map(|_| post(&client, "once", ask(false)))).await;
        let ran = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(ran, 1, "{way}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            let told = told(answer);
            let is_running = told == is(409, "call_running");
            assert!(is_running || told == is(409, "already_completed"), "{way}: {told:?}");
            assert_eq!(answer.headers.contains_key("retry-after"), is_running, "{way}");
        }
    }
    assert_eq!(world.vendor.posts().len(), 2, "one of the key, one of the device");
    assert!(
        world
            .vendor
            .posts()
            .iter()
            .all(|call| !call.headers.contains_key("idempotency-key"))
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_again_gets_the_receipt() {
    let world = setup().start().await;
    for (way, client) in ways(&world) {
        let first = post(&client, "order 66", ask(true)).await;
        assert_eq!((first.status.as_u16(), &first.cut), (200, &None), "{way}");
        let again = post(&client, "order 66", ask(true)).await;
        assert_eq!(told(&again), is(409, "already_completed"), "{way}: {}", again.text());
        assert_eq!(again.headers["x-should-retry"], "false");
        let receipt = &again.json()["error"]["receipt"];
        let rows = world.hub.json(&["usage"]).await;
        let rows = rows["calls"].as_array().or_else(|| rows.as_array()).unwrap();
        let row = rows.iter().find(|row| row["call"] == receipt["call_id"]).unwrap();
        if let Some(call) = first.headers.get("relay-call-id") {
            assert_eq!(receipt["call_id"], call.to_str().unwrap(), "{way}");
        }
        for (told, booked) in [
            ("ending", "ending"),
            ("status", "status"),
            ("charged", "charged"),
            ("model", "model"),
        ] {
            assert_eq!(receipt[told], row[booked], "{way}: {told}");
        }
        for kind in ["input", "cached", "output", "reasoning"] {
            assert_eq!(receipt["tokens"][kind], row[kind], "{way}: {kind}");
        }
        assert!(receipt["ended_at"].as_str().unwrap().ends_with('Z'), "{receipt}");
        assert_eq!(
            told(&post(&client, "order 66", ask(false)).await),
            is(422, "idempotency_key_reused"),
            "{way}"
        );
        let chat = begin(
            &client,
            "/chat/completions",
            "order 66",
            ask_chat(serde_json::json!({})),
        )
        .await;
        assert_eq!(told(&chat.rest().await), is(422, "idempotency_key_reused"), "{way}");
        assert_eq!(post(&client, "order 67", ask(true)).await.status, 200, "{way}");
    }
    assert_eq!(world.vendor.posts().len(), 4);
    world.assert_billed_truly().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_ran_burns_no_key() {
    let world = setup().start().await;
    let client = world.through_hub();
    for bad in ["", "\u{e9}", &"k".repeat(256)] {
        let answer = post(&client, bad, ask(false)).await;
        assert_eq!(told(&answer), is(400, "invalid_request"), "{}", answer.text());
        assert!(answer.text().contains("Idempotency-Key"), "{}", answer.text());
    }
    let too_much = serde_json::json!({"model": crate::MODEL, "input": "x", "background": true}).to_string();
    assert_eq!(told(&post(&client, "k", too_much).await), is(400, "invalid_request"));
    world
        .vendor
        .next(Script::error(429, "requests", Some("slow_down"), "Not now."));
    assert_eq!(post(&client, "k", ask(false)).await.status, 429);
    let again = post(&client, "k", ask(false)).await;
    assert_eq!(
        again.status,
        200,
        "the vendor refused it, so it may run: {}",
        again.text()
    );
    assert_eq!(
        told(&post(&client, "k", ask(false)).await),
        is(409, "already_completed")
    );
    world.assert_billed_truly().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_which_the_hub_died_is_told_of_and_not_run_again() {
    let mut world = setup().start().await;
    let client = world.through_hub();
    assert_eq!(post(&client, "done", ask(true)).await.status, 200);
    world.vendor.next(Script::deltas(40, 30).gate(&Gate::new(1)));
    let mut running = begin(&client, "/responses", "running", ask(true)).await;
    running.until("response.created").await.unwrap();
    let call = running.headers["relay-call-id"].clone();
    let again = post(&client, "running", ask(true)).await;
    assert_eq!(told(&again), is(409, "call_running"));
    assert_eq!(again.json()["error"]["receipt"]["call_id"], call.to_str().unwrap());
    world.hub.program().kill().await;
    drop(running);
    world.hub.serve().await;
    world.chaos.towards(world.hub.tunnel());
    let client = world.through_hub();
    let again = post(&client, "running", ask(true)).await;
    assert_eq!(told(&again), is(409, "already_completed"), "{}", again.text());
    let receipt = &again.json()["error"]["receipt"];
    assert_eq!(
        (&receipt["call_id"], &receipt["ending"]),
        (&call.to_str().unwrap().into(), &"recovered".into())
    );
    assert_eq!(receipt["charged"], "0.00", "{receipt}");
    let done = post(&client, "done", ask(true)).await;
    assert_eq!(
        done.json()["error"]["receipt"]["ending"],
        "completed",
        "{}",
        done.text()
    );
    assert_eq!(world.vendor.posts().len(), 2);
    world.assert_sound().await;
}
