//! A call that names no most begins with a little money and gets more as its answer goes on; where there is no more,
//! it ends in its own dialect, and nobody's balance falls below its floor. What had come when a hub died is charged.

use std::time::Duration;

use relay_tests::client::Client;
use relay_tests::socket::{Message, Socket};
use relay_tests::vendor::{Ended, Script, Vendor};
use relay_tests::world::World;
use serde_json::{Value, json};

use crate::{MODEL, ask_chat, events, setup};

const PATIENCE: Duration = Duration::from_secs(10);

/// A hub that holds for 200 tokens of output at first: 2 thousandths of a unit.
async fn world() -> World {
    let hub_toml = "[limits]\ndefault_hold_output = 200\n".to_owned();
    crate::Setup { hub_toml, ..setup() }.start().await
}

/// A tenant with so much, and its key.
async fn tenant(world: &World, name: &str, credit: &str) -> (String, String) {
    let tenant = world.hub.add_tenant(name, credit).await;
    let key = world.hub.add_key(&tenant).await;
    (tenant, key)
}

fn client(world: &World, key: &str) -> Client {
    Client::new(&format!("http://{}/v1", world.hub.http()), key)
}

fn ask() -> Value {
    json!({"model": MODEL, "input": "Go on.", "stream": true})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_paid_for_step_by_step() {
    let world = world().await;
    for client in [world.through_agent(), world.through_hub()] {
        world.vendor.next(Script::deltas(500, 40));
        let answer = client.post("/responses", ask().to_string()).await.unwrap().rest().await;
        assert_eq!(events(&answer.body).last().unwrap()["type"], "response.completed");
    }
    let rows = world.books().settled(2).await;
    // 20,000 bytes are 5,000 tokens by their size, of which at least that much is held when they have come.
    assert!(rows.iter().all(|row| row.held.unwrap() >= 50_000_000), "{rows:#?}");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_credit_does_not_cover_ends_in_its_dialect() {
    let world = world().await;
    for (number, (path, body)) in [
        ("/responses", ask().to_string()),
        ("/chat/completions", ask_chat(json!({"stream": true}))),
    ]
    .into_iter()
    .enumerate()
    {
        // Enough for four steps, not for five.
        let (id, key) = tenant(&world, &format!("poor-{number}"), "0.01").await;
        world
            .vendor
            .next(Script::deltas(2_000, 40).interval(Duration::from_millis(1)));
        let answer = client(&world, &key).post(path, body).await.unwrap().rest().await;
        let last = events(&answer.body).pop().unwrap();
        assert_eq!(answer.cut, None, "{last}");
        let code = if number == 0 {
            assert_eq!(last["type"], "response.failed");
            &last["response"]["error"]["code"]
        } else {
            &last["error"]["code"]
        };
        assert_eq!(code, "insufficient_quota", "{last}");
        let is_gone = |vendor: &Vendor| vendor.truth().entries().last().unwrap().ended == Ended::ClientGone;
        world.vendor.until("the cancel", PATIENCE, is_gone).await;
        let rows = world.books().settled(number + 1).await;
        let row = rows.last().unwrap();
        assert_eq!(
            (row.ending.as_str(), row.source.as_deref()),
            ("out_of_credit", Some("estimated")),
            "{row:#?}"
        );
        let output = row.usage.unwrap().output;
        assert!(
            (600..800).contains(&output) && row.charged <= row.held.unwrap(),
            "{row:#?}"
        );
        let balance = world.books().balance(&id).await;
        assert_eq!((balance.held, balance.posted), (0, 10_000_000 - row.charged));
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_goes_on_stays_within_a_day_s_limit() {
    let world = world().await;
    let careful = world.hub.add_tenant("careful", "10").await;
    // Enough for four steps, not for five.
    let words = ["limit", "set", "--tenant", &careful, "--daily-spend", "0.01"];
    world.hub.command(&words).await.succeeded();
    // A new key makes the hub look into its store.
    let client = client(&world, &world.hub.add_key(&careful).await);
    world
        .vendor
        .next(Script::deltas(2_000, 40).interval(Duration::from_millis(1)));
    let answer = client.post("/responses", ask().to_string()).await.unwrap().rest().await;
    let last = events(&answer.body).pop().unwrap();
    assert_eq!(last["type"], "response.failed", "{last}");
    assert_eq!(
        last["response"]["error"]["code"], "invalid_prompt",
        "Codex stops on it: {last}"
    );
    assert!(last.to_string().contains("daily or monthly limit"), "{last}");
    let row = world.books().settled(1).await.pop().unwrap();
    assert_eq!(row.ending, "over_limit", "{row:#?}");
    assert!(
        row.charged > 0 && row.charged <= row.held.unwrap() && row.held.unwrap() <= 10_000_000,
        "{row:#?}"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_socket_too_the_answer_fails_where_the_credit_ends() {
    let world = world().await;
    let (_, key) = tenant(&world, "poor", "0.01").await;
    world
        .vendor
        .next(Script::deltas(2_000, 40).interval(Duration::from_millis(1)));
    let mut socket = Socket::responses(world.hub.http(), &key).await.unwrap();
    let create = json!({"type": "response.create", "model": MODEL, "input": "Go on."});
    socket.send(&create.to_string()).await.unwrap();
    let messages = socket.answer().await.unwrap();
    let last: Value = serde_json::from_str(messages.last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["error"]["code"]),
        (&json!("response.failed"), &json!("insufficient_quota")),
        "{last}"
    );
    assert_eq!(socket.next().await.unwrap(), Message::Close(Some(1008)));
    let row = world.books().settled(1).await.pop().unwrap();
    assert_eq!(row.ending, "out_of_credit", "{row:#?}");
    assert!(row.charged > 0 && row.charged <= row.held.unwrap(), "{row:#?}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_less_than_a_first_step_begins_with_less() {
    let world = world().await;
    // A quarter of a step is 50 tokens: half a thousandth.
    let (_, key) = tenant(&world, "poor", "0.0007").await;
    world.vendor.next(Script::message("short and good "));
    let answer = client(&world, &key)
        .post("/responses", ask().to_string())
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    answer.rest().await;
    let (_, broke) = tenant(&world, "broke", "0.0001").await;
    let refused = client(&world, &broke)
        .post("/responses", ask().to_string())
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(
        (refused.status.as_u16(), refused.error_code().as_str()),
        (429, "insufficient_quota")
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_come_a_second_before_a_hub_died_is_charged() {
    let mut world = world().await;
    world
        .vendor
        .next(Script::deltas(2_000, 40).interval(Duration::from_millis(20)));
    let mut answer = world.through_hub().post("/responses", ask().to_string()).await.unwrap();
    // Four seconds: the last checkpoint is not older than a little more than one.
    let read = answer.until("199 xxx").await.unwrap();
    world.hub.program().kill().await;
    world.hub.serve().await;
    let row = world.books().settled(1).await.pop().unwrap();
    assert_eq!(
        (row.ending.as_str(), row.source.as_deref()),
        ("recovered", Some("estimated")),
        "{row:#?}"
    );
    let came = read.len() as u64;
    let output = row.usage.unwrap().output;
    assert!((500..=2_000).contains(&output), "{output} of {came} bytes: {row:#?}");
    assert_eq!(row.charged, world.books().cost(MODEL, row.usage.unwrap()).await);
    world.hub.command(&["ledger", "verify"]).await.succeeded();
}
