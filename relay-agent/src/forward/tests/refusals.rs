//! What is answered without the hub.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::config::LocalKey;

#[tokio::test]
async fn a_probe_is_answered_at_once() {
    let mut world = World::new().await;
    for path in ["/v1/responses", "/responses/", "/v1/models?x=1"] {
        let mut client = world.client().await;
        client.write(client.head("HEAD", path, "")).await;
        let text = client.until("\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    }
    let mut client = world.client().await;
    client.get("/v1/responses").await;
    let text = client.until("\"error\"").await;
    assert!(
        text.starts_with("HTTP/1.1 405 ") && text.contains("allow: POST"),
        "{text}"
    );
    world.assert_nothing_arrived();
}

#[tokio::test]
async fn the_local_key_is_needed_unless_switched_off() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    client
        .write(client.head("POST", "/v1/responses", "content-length: 0\r\n"))
        .await;
    let text = client.until("relay-agent token").await;
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    world.assert_nothing_arrived();

    let mut open = World::with(Duration::from_secs(60), LocalKey::Off).await;
    let mut client = open.client().await;
    client
        .write(client.head("POST", "/v1/responses", "content-length: 0\r\n"))
        .await;
    open.arrived().await.answer(200, &[]).end();
    client.until("HTTP/1.1 200 ").await;
    // The control paths tell about the machine, so they need it all the same.
    let mut client = open.client().await;
    client.write(client.head("GET", "/relay/status", "")).await;
    client.until("HTTP/1.1 401 ").await;
}

#[tokio::test]
async fn pages_and_foreign_names_are_turned_away_before_the_body_is_read() {
    let mut world = World::with(Duration::from_secs(60), LocalKey::Off).await;
    let port = world.addr.port();
    let own = format!("host: 127.0.0.1:{port}\r\n");
    for head in [
        format!("POST /v1/responses HTTP/1.1\r\nhost: evil.example:{port}\r\n"),
        format!("POST /v1/responses HTTP/1.1\r\n{own}{own}"),
        "POST /v1/responses HTTP/1.0\r\n".to_owned(),
        format!("POST http://evil.example/v1/responses HTTP/1.1\r\n{own}"),
        format!("POST /v1/responses HTTP/1.1\r\n{own}origin: http://localhost:1\r\n"),
        format!("POST /v1/responses HTTP/1.1\r\n{own}origin: null\r\n"),
        format!("POST /v1/responses HTTP/1.1\r\n{own}sec-fetch-site: cross-site\r\n"),
        format!(
            "OPTIONS /v1/responses HTTP/1.1\r\n{own}origin: http://evil.example\r\naccess-control-request-method: POST\r\n"
        ),
        format!(
            "GET /v1/responses HTTP/1.1\r\n{own}origin: http://evil.example\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        ),
    ] {
        let mut client = world.client().await;
        // A body is announced and never sent: the answer does not wait for it.
        client.write(format!("{head}content-length: 1000000\r\n\r\n")).await;
        let text = client.rest().await;
        assert!(
            text.starts_with("HTTP/1.1 403 ") || text.starts_with("HTTP/1.0 403 "),
            "{head}: {text}"
        );
        assert!(!text.to_lowercase().contains("access-control-"), "{text}");
    }
    world.assert_nothing_arrived();
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_here() {
    let mut world = World::new().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("POST", "/v1/files", 404),
        ("GET", "/relay/nothing", 404),
        ("POST", "/relay/status", 405),
        ("DELETE", "/v1/responses", 405),
        ("OPTIONS", "/v1/responses", 405),
        ("POST", "/v1/models", 405),
    ] {
        let mut client = world.client().await;
        client
            .write(client.head(method, path, &format!("x-api-key: {}\r\n", world::KEY)))
            .await;
        let text = client.until("\"error\"").await;
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{method} {path}: {text}"
        );
    }
    world.assert_nothing_arrived();
}

#[tokio::test]
async fn heads_are_bounded_in_size_and_time() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    let head = client.head(
        "POST",
        "/v1/responses",
        &format!("x-codex-turn-metadata: {}\r\n", "m".repeat(40 << 10)),
    );
    client.write(&head[..head.len() - 2]).await;
    client
        .write(format!("x-api-key: {}\r\ncontent-length: 0\r\n\r\n", world::KEY))
        .await;
    world.arrived().await.answer(200, &[]).end();
    client.until("HTTP/1.1 200 ").await;

    let mut client = world.client().await;
    let head = client.head(
        "POST",
        "/v1/responses",
        &format!("x-big: {}\r\n", "m".repeat(512 << 10)),
    );
    // It is refused while still being sent, so sending may fail.
    client.stream.write_all(head.as_bytes()).await.ok();
    let text = client.rest().await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431 "), "{text}");

    let mut client = world.client().await;
    client.write("POST /v1/responses HTTP/1.1\r\nhost:").await;
    assert!(
        !client.rest().await.contains("200"),
        "an unfinished head is given up on"
    );
    world.assert_nothing_arrived();
}
