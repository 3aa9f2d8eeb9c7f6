//! Calls on a WebSocket are limited one by one, as those over HTTP.

use relay_tests::socket::{Opened, Socket};
use relay_tests::vendor::{Gate, Script};
use serde_json::{Value, json};

use super::{PATIENCE, first_id, limit, post};
use crate::{MODEL, ask, setup};

fn create(max_output: u64) -> String {
    json!({"type": "response.create", "model": MODEL, "input": "x", "max_output_tokens": max_output}).to_string()
}

/// Sends a call that must be refused; what the client reads.
async fn refused_on(socket: &mut Socket, max_output: u64) -> Value {
    socket.send(&create(max_output)).await.unwrap();
    let answer = socket.answer().await.unwrap();
    let frame: Value = serde_json::from_str(answer.last().unwrap()).unwrap();
    assert_eq!(frame["type"], "error", "{frame}");
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_on_a_socket_is_limited_as_one_over_http() {
    let world = setup().start().await;
    for (at, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
        let mut socket = Socket::responses(at, key).await.unwrap();
        let before = world.vendor.posts().len();
        for (words, status, code) in [
            (["--max-output", "100"], 400, "invalid_request"),
            (["--body-bytes", "50"], 413, "request_too_large"),
            (["--blocked-models", MODEL], 404, "model_not_found"),
            (["--allowed-addresses", "192.0.2.7"], 400, "address_not_allowed"),
            (["--daily-spend", "0.001"], 429, "usage_limit_reached"),
        ] {
            limit(&world, &[&["set", "--tenant", "acme"], &words[..]].concat()).await;
            let frame = refused_on(&mut socket, 500).await;
            assert_eq!(
                (frame["status"].as_u64(), frame["error"]["code"].as_str()),
                (Some(status), Some(code)),
                "{frame}"
            );
            assert_eq!(
                frame["error"]["resets_at"].is_u64(),
                code == "usage_limit_reached",
                "{frame}"
            );
            limit(&world, &["clear", "--tenant", "acme"]).await;
        }
        assert_eq!(world.vendor.posts().len(), before);
        socket.send(&create(500)).await.unwrap();
        assert!(
            socket
                .answer()
                .await
                .unwrap()
                .last()
                .unwrap()
                .contains("response.completed")
        );
    }
    let key = first_id(&world, "key").await;
    let mut socket = Socket::responses(world.hub.http(), &world.key).await.unwrap();
    limit(&world, &["set", "--key", &key, "--requests-per-minute", "1"]).await;
    socket.send(&create(5)).await.unwrap();
    socket.answer().await.unwrap();
    let frame = refused_on(&mut socket, 5).await;
    assert_eq!(
        (&frame["status"], &frame["error"]["code"]),
        (&429.into(), &"rate_limit_exceeded".into())
    );
    assert_eq!(frame["headers"]["x-ratelimit-limit-requests"], "1");
    assert!(
        frame["headers"]["retry-after"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 1,
        "{frame}"
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_socket_takes_no_slot_and_a_revoked_key_ends_its_calls() {
    let hub_toml = "[limits]\nqueue_calls = 0".to_owned();
    let world = crate::Setup { hub_toml, ..setup() }.start().await;
    limit(&world, &["set", "--tenant", "acme", "--concurrent-calls", "1"]).await;
    let mut socket = Socket::responses(world.hub.http(), &world.key).await.unwrap();
    let _idle = Socket::responses(world.agent.addr(), &world.agent.key).await.unwrap();
    assert_eq!(post(&world.through_hub(), ask(false)).await.status, 200);
    let (gate, before) = (Gate::new(0), world.vendor.posts().len());
    world.vendor.next(Script::message("x ").gate(&gate));
    socket.send(&create(5)).await.unwrap();
    world
        .vendor
        .until("the call", PATIENCE, |vendor| vendor.posts().len() > before)
        .await;
    assert_eq!(post(&world.through_agent(), ask(false)).await.status, 429);
    gate.release(1_000);
    socket.answer().await.unwrap();
    assert_eq!(
        post(&world.through_agent(), ask(false)).await.status,
        200,
        "its slot is free as soon as it ended"
    );

    let key = first_id(&world, "key").await;
    world
        .hub
        .command(&["key", "revoke", &key, "--tenant", "acme"])
        .await
        .succeeded();
    limit(&world, &["clear", "--tenant", "acme"]).await;
    let frame = refused_on(&mut socket, 5).await;
    assert_eq!(frame["status"], 401);
    limit(&world, &["set", "--global", "--allowed-addresses", "192.0.2.7"]).await;
    let key = [format!("authorization: Bearer {}", world.agent.key)];
    let opened = Socket::open(world.agent.addr(), "/v1/responses", &key);
    assert!(
        matches!(opened.await.unwrap(), Opened::Refused(400, _)),
        "nor does another open"
    );
}
