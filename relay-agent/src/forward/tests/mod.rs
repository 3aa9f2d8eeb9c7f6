//! What forwarding promises, seen from a client's socket and from the hub.

use std::time::Duration;

use http_body_util::BodyExt;

mod refusals;
mod sockets;
mod streams;
mod world;

use crate::tunnel::LinkDown;
use world::{Client, World, unchunked};

const SSE: &[(&str, &str)] = &[("content-type", "text/event-stream")];
const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n";
const COMPLETED: &str =
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\"}}\n\n";

#[tokio::test]
async fn a_call_reaches_the_hub_with_the_clients_own_words() {
    let mut world = World::new().await;
    for (sent, canonical) in [
        ("/v1/responses", "/v1/responses"),
        ("/responses", "/v1/responses"),
        (
            "/v1/responses/?api-version=1&x=%20",
            "/v1/responses?api-version=1&x=%20",
        ),
        ("/chat/completions/", "/v1/chat/completions"),
        ("/v1/responses/compact", "/v1/responses/compact"),
    ] {
        let mut client = world.client().await;
        let more = format!(
            "authorization: Bearer {}\r\nuser-agent: codex_exec/0.169.0\r\ncookie: a=b\r\ncontent-length: 5\r\n",
            world::KEY
        );
        client.write(client.head("POST", sent, &more) + "hello").await;
        let mut call = world.arrived().await;
        assert_eq!(call.request.uri().path_and_query().unwrap(), canonical);
        assert_eq!(call.request.headers()["user-agent"], "codex_exec/0.169.0");
        for local in ["authorization", "cookie", "host"] {
            assert!(!call.request.headers().contains_key(local), "{local}");
        }
        assert_eq!(call.request.headers()["relay-call-id"].len(), 32);
        assert_eq!(call.request.body_mut().collect().await.unwrap().to_bytes(), "hello");
        let answer = call.answer(200, &[("content-type", "application/json"), ("x-request-id", "req_1")]);
        answer.send("{}").await;
        answer.end();
        let text = client.until("{}").await;
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("x-request-id: req_1"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn the_vendors_statuses_and_headers_come_through() {
    let mut world = World::new().await;
    for status in [400, 401, 404, 429, 500, 503] {
        let mut client = world.client().await;
        client.post("/v1/responses", "{}").await;
        let call = world.arrived().await;
        let answer = call.answer(
            status,
            &[
                ("retry-after", "7"),
                ("set-cookie", "a=b"),
                ("content-type", "text/plain"),
            ],
        );
        answer.send("as it was").await;
        answer.end();
        let text = client.until("as it was").await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(
            text.contains("retry-after: 7") && !text.contains("set-cookie"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_large_body_is_taken_as_fast_as_the_hub_reads_it() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    let size = 8 << 20;
    let head = client.head(
        "POST",
        "/v1/responses",
        &format!("x-api-key: {}\r\ncontent-length: {size}\r\n", world::KEY),
    );
    client.write(head).await;
    let sending = async {
        client.write(vec![b'x'; size]).await;
        client
    };
    let receiving = async {
        let mut call = world.arrived().await;
        let body = call.request.body_mut().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), size);
        call.answer(200, &[]).end();
    };
    let (mut client, ()) = tokio::join!(sending, receiving);
    client.until("HTTP/1.1 200").await;
}

#[tokio::test]
async fn a_client_that_leaves_while_sending_never_looks_complete_to_the_hub() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    let head = client.head(
        "POST",
        "/v1/responses",
        &format!("api-key: {}\r\ncontent-length: 10\r\n", world::KEY),
    );
    client.write(head + "half").await;
    let mut call = world.arrived().await;
    drop(client);
    assert!(call.request.body_mut().collect().await.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_cancels_its_call() {
    let mut world = World::new().await;
    let (client, call) = world.streaming("/v1/responses").await;
    drop(client);
    call.given_up().await;
}

#[tokio::test]
async fn a_link_that_is_down_is_a_503_with_a_time_to_come_back() {
    let mut world = World::new().await;
    for is_sent in [false, true] {
        let mut client = world.client().await;
        client.post("/v1/chat/completions", "{}").await;
        world.arrived().await.refuse(is_sent);
        let text = client.until("\"error\"").await;
        assert!(
            text.starts_with("HTTP/1.1 503 ") && text.contains("retry-after: 2\r\n"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_link_that_is_full_is_a_429_in_the_dialect_of_the_client() {
    let mut world = World::new().await;
    for path in ["/v1/responses", "/v1/chat/completions"] {
        let mut client = world.client().await;
        client.post(path, "{}").await;
        let full = LinkDown {
            reason: "full".into(),
            retry_after: Duration::from_secs(1),
            is_sent: false,
            is_full: true,
        };
        world.arrived().await.fail(full);
        let text = client.until("\"error\"").await;
        assert!(
            text.starts_with("HTTP/1.1 429 ") && text.contains("retry-after: 1\r\n"),
            "{text}"
        );
        let text = client.until("limits.calls_per_connection").await;
        assert!(text.contains("rate_limit_exceeded"), "{text}");
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    let size = 4 << 20;
    let head = client.head(
        "POST",
        "/v1/responses",
        &format!("authorization: Bearer wrong\r\ncontent-length: {size}\r\n"),
    );
    client.write(head).await;
    client.write(vec![b'x'; size]).await;
    let text = client.until("\"error\"").await;
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    world.assert_nothing_arrived();
}

#[tokio::test]
async fn running_calls_are_counted_until_their_answer_ends() {
    let mut world = World::new().await;
    let (mut client, call) = world.streaming("/v1/responses").await;
    assert_eq!((world.calls.running(), world.calls.begun()), (1, 1));
    let answer = call.answer(200, SSE);
    answer.send(COMPLETED).await;
    client.until("\r\n0\r\n\r\n").await;
    drop(client);
    until(|| world.calls.running() == 0).await;
}

/// Waits until `is_so`; the test's own limit of patience ends it.
async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("it becomes so");
}

async fn closed(mut client: Client) -> String {
    client.rest().await
}
