use std::time::Duration;

use serde_json::json;

use super::*;
use crate::client::Client;
use crate::socket::{Message, Opened, Socket};

fn ask(stream: bool) -> String {
    json!({"model": "m", "input": "x", "stream": stream}).to_string()
}

async fn start() -> (Vendor, Client) {
    let vendor = Vendor::start().await;
    let client = Client::new(&vendor.base_url(), "");
    (vendor, client)
}

#[tokio::test]
async fn what_was_sent_is_what_arrives_and_a_cut_shows() {
    let (vendor, client) = start().await;
    for (script, length, is_cut) in [
        (Script::deltas(9, 20), usize::MAX, false),
        (Script::deltas(9, 20).write_size(7), usize::MAX, false),
        (Script::deltas(9, 20).cut(700, Break::Fin), 700, true),
        (Script::deltas(9, 20).cut(700, Break::Fin).declares_length(), 700, true),
        (Script::deltas(9, 20).ending(Ending::Missing), usize::MAX, false),
    ] {
        vendor.next(script);
        let answer = client.post("/responses", ask(true)).await.unwrap().rest().await;
        let sent = vendor.calls().pop().unwrap().sent.bytes();
        assert_eq!(answer.body, sent);
        assert!(length == usize::MAX || sent.len() == length, "{}", sent.len());
        assert_eq!(answer.cut.is_some(), is_cut, "{answer:?}");
    }
    vendor.next(Script::deltas(9, 20).cut(700, Break::Reset));
    let answer = client.post("/responses", ask(true)).await.unwrap().rest().await;
    assert!(answer.cut.is_some(), "{answer:?}");
}

#[tokio::test]
async fn a_vendor_that_hangs_up_gives_no_answer() {
    let (vendor, client) = start().await;
    for script in [
        Script::hang_up(Break::Fin),
        Script::hang_up(Break::Reset),
        Script::garbage(b"nonsense\r\n\r\n"),
    ] {
        vendor.next(script);
        assert!(client.post("/responses", ask(true)).await.is_err());
    }
}

#[tokio::test]
async fn the_truth_log_tells_who_left_and_what_is_billed() {
    let (vendor, client) = start().await;
    let gate = Gate::new(3);
    vendor.next(Script::deltas(9, 20).gate(&gate));
    let mut answer = client.post("/responses", ask(true)).await.unwrap();
    answer.until("response.created").await.unwrap();
    drop(answer);
    vendor
        .until("the client left", Duration::from_secs(5), |vendor| {
            vendor.truth().entries()[0].ended == Ended::ClientGone
        })
        .await;
    assert_eq!(vendor.truth().entries()[0].billed(), None);
    client.post("/responses", ask(false)).await.unwrap().rest().await;
    let billed = vendor.truth().entries()[1].billed().unwrap();
    let totals = vendor.truth().totals();
    assert_eq!((totals.calls, totals.billed_calls, totals.input), (2, 1, billed.input));
}

#[tokio::test]
async fn benchmark_models_are_answered_fast_and_kept_as_sums() {
    let (vendor, client) = start().await;
    for (model, count) in [
        ("bench-unary", 0),
        ("bench-sse-1ms-x5", 5),
        ("bench-sse-flat-x1000", 1000),
    ] {
        let body = json!({"model": model, "input": "x", "stream": count > 0}).to_string();
        let answer = client.post("/responses", body).await.unwrap().rest().await;
        assert_eq!(answer.cut, None);
        assert_eq!(
            answer.text().matches("event: response.output_text.delta").count(),
            count + usize::from(count > 0)
        );
    }
    assert_eq!(vendor.calls().len(), 0);
    assert_eq!(vendor.truth().totals().billed_calls, 3);
}

#[tokio::test]
async fn a_socket_answers_each_create_and_keeps_raw_bytes() {
    let vendor = Vendor::start().await;
    let mut socket = Socket::responses(vendor.addr(), "k").await.unwrap();
    let mut sent = socket
        .send(&json!({"type": "response.create", "model": "m", "generate": false}).to_string())
        .await
        .unwrap();
    assert_eq!(socket.answer().await.unwrap().len(), 2);
    sent.extend(
        socket
            .send_in_two(&json!({"type": "response.create", "model": "m"}).to_string())
            .await
            .unwrap(),
    );
    assert!(socket.answer().await.unwrap().len() > 5);
    assert_eq!(vendor.sockets()[0].received.bytes(), sent);
    vendor.next(Script::deltas(3, 3).cut(900, Break::Fin));
    socket
        .send(&json!({"type": "response.create", "model": "m"}).to_string())
        .await
        .unwrap();
    while let Message::Text(_) = socket.next().await.unwrap() {}
    vendor.next_upgrade(Upgrade::Refuse(Box::new(Script::error(
        426,
        "invalid_request_error",
        None,
        "no",
    ))));
    let Opened::Refused(426, _) = Socket::open(vendor.addr(), "/v1/responses", &[]).await.unwrap() else {
        panic!("not refused")
    };
}

#[tokio::test]
async fn a_vendor_that_remembers_knows_each_key_s_prompts_and_reasoning_apart() {
    let (vendor, client) = start().await;
    let other = Client::new(&vendor.base_url(), "other");
    let tools = vec!["reasoning"];
    vendor.otherwise(Script::message("Yes. ").extra(Extra { tools, ..PLAIN.clone() }));
    vendor.remembers();
    let long = json!({"type": "message", "role": "user", "content": "so ".repeat(3_000)});
    let reasoning = |id: &str| json!({"type": "reasoning", "encrypted_content": format!("sealed-for-{id}")});
    let ask = |input: serde_json::Value| json!({"model": "m", "input": input}).to_string();
    let mut cached = Vec::new();
    for client in [&client, &client, &other] {
        let answer = client
            .post("/responses", ask(json!([long])))
            .await
            .unwrap()
            .rest()
            .await;
        assert_eq!(answer.status, 200);
        cached.push(vendor.truth().entries().pop().unwrap().usage.unwrap().cached);
    }
    assert_eq!(cached, [0, 2_176, 0]);
    let first = vendor.truth().entries()[0].response_id.clone();
    for (client, status) in [(&client, 200), (&other, 400)] {
        let body = ask(json!([long, reasoning(&first)]));
        let answer = client.post("/responses", body).await.unwrap().rest().await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    vendor.cools();
    client
        .post("/responses", ask(json!([long])))
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(vendor.truth().entries().pop().unwrap().usage.unwrap().cached, 0);
}
