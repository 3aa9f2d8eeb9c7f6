//! WebSockets.

use std::sync::atomic::Ordering;

use relay_protocol::ws;
use tokio::io::AsyncWriteExt;

use super::world::{Answer, Arrived};
use super::*;
use crate::config::LocalKey;

const MASK: Option<[u8; 4]> = Some([7, 7, 7, 7]);
const CREATE: &[u8] = b"{\"type\":\"response.create\",\"model\":\"m\"}";

async fn asking(world: &mut World) -> Client {
    let mut client = world.client().await;
    let more = format!(
        "authorization: Bearer {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: permessage-deflate\r\n\
         openai-beta: responses_websockets=2026-02-06\r\n",
        world::KEY
    );
    client.write(client.head("GET", "/v1/responses?x=1", &more)).await;
    client
}

async fn open(
    world: &mut World,
) -> (
    Client,
    http_body_util::BodyStream<relay_shared::tunnel::body::OutBody>,
    Answer,
) {
    let mut client = asking(world).await;
    let call: Arrived = world.arrived().await;
    assert_eq!(call.request.method(), "POST");
    assert_eq!(call.request.uri().path_and_query().unwrap(), "/v1/responses?x=1");
    assert_eq!(call.request.headers()["relay-socket"], "websocket");
    assert_eq!(call.request.headers()["openai-beta"], "responses_websockets=2026-02-06");
    assert!(!call.request.headers().contains_key("sec-websocket-key"));
    let (call, body) = call.take_body();
    let answer = call.answer(200, &[("x-codex-turn-state", "t")]);
    let text = client.until("\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    let lower = text.to_lowercase();
    assert!(
        lower.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{text}"
    );
    assert!(
        lower.contains("x-codex-turn-state: t") && !lower.contains("sec-websocket-extensions"),
        "{text}"
    );
    client.read.clear();
    (client, http_body_util::BodyStream::new(body), answer)
}

async fn next(upload: &mut http_body_util::BodyStream<relay_shared::tunnel::body::OutBody>) -> Option<Vec<u8>> {
    let frame = tokio::time::timeout(Duration::from_secs(10), futures_util::StreamExt::next(upload))
        .await
        .unwrap();
    frame.map(|frame| frame.expect("whole").into_data().unwrap().to_vec())
}

#[tokio::test]
async fn bytes_pass_both_ways() {
    let mut world = World::new().await;
    let (mut client, mut upload, answer) = open(&mut world).await;
    let sent = ws::encode_text(CREATE, MASK);
    client.write(&sent).await;
    let mut got = Vec::new();
    while got.len() < sent.len() {
        got.extend(next(&mut upload).await.unwrap());
    }
    assert_eq!(got, sent);
    let back = ws::encode_text(b"{\"type\":\"response.created\"}", None);
    for part in back.chunks(5) {
        answer.send(part.to_vec()).await;
    }
    while client.read.len() < back.len() {
        assert!(client.more().await > 0);
    }
    assert_eq!(client.read, back);
}

#[tokio::test]
async fn a_refused_upgrade_keeps_its_status_and_body() {
    let mut world = World::new().await;
    for status in [426, 429, 400] {
        let mut client = asking(&mut world).await;
        let answer = world
            .arrived()
            .await
            .answer(status, &[("retry-after", "3"), ("content-type", "text/plain")]);
        answer.send("why not").await;
        answer.end();
        let text = client.until("why not").await;
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("retry-after: 3"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_upgrade_never_hangs() {
    let mut world = World::new().await;
    let mut client = asking(&mut world).await;
    let call = world.arrived().await;
    let text = client.until("\"error\"").await;
    assert!(text.starts_with("HTTP/1.1 426 "), "{text}");
    call.given_up().await;

    world.link_is_up.store(false, Ordering::Relaxed);
    let mut client = asking(&mut world).await;
    let text = client.until("\"error\"").await;
    assert!(
        text.starts_with("HTTP/1.1 503 ") && text.contains("retry-after: 1\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_client_that_vanishes_cancels_both_directions() {
    let mut world = World::new().await;
    let (mut client, mut upload, answer) = open(&mut world).await;
    client.write(ws::encode_text(CREATE, MASK)).await;
    assert!(next(&mut upload).await.is_some());
    client.stream.shutdown().await.unwrap();
    answer.cancelled().await;
    let end = futures_util::StreamExt::next(&mut upload).await;
    assert!(
        end.is_some_and(|end| end.is_err()),
        "the hub must not take it for an end"
    );
}

#[tokio::test]
async fn a_closing_handshake_is_an_end() {
    let mut world = World::new().await;
    let (mut client, mut upload, answer) = open(&mut world).await;
    let bye = ws::encode_close(1000, "", MASK);
    client.write(&bye).await;
    assert_eq!(next(&mut upload).await.unwrap(), bye);
    client.stream.shutdown().await.unwrap();
    assert_eq!(next(&mut upload).await, None);
    let bye = ws::encode_close(1000, "", None);
    answer.send(bye.clone()).await;
    answer.end();
    client.rest().await;
    assert_eq!(client.read, bye);
}

#[tokio::test]
async fn a_break_is_told_between_messages_with_one_status_and_a_close() {
    let mut world = World::new().await;
    let (mut client, mut upload, answer) = open(&mut world).await;
    client.write(ws::encode_text(CREATE, MASK)).await;
    assert!(next(&mut upload).await.is_some());
    let whole = ws::encode_text(b"{\"type\":\"response.created\"}", None);
    answer.send(whole.clone()).await;
    answer.send(whole.slice(..10)).await;
    answer.cut().await;
    client.rest().await;
    let mut messages = ws::Messages::new(1 << 20);
    let items = messages.push(client.read.clone().into()).unwrap();
    assert_eq!(items.len(), 3, "the message that was whole, the error, the close");
    assert!(matches!(&items[0], ws::Item::Text { raw, .. } if *raw == whole));
    let ws::Item::Text { text, .. } = &items[1] else {
        panic!("an error message")
    };
    let text = String::from_utf8_lossy(text.as_slice()).into_owned();
    assert!(
        text.contains("\"type\":\"error\"") && text.matches("\"status\"").count() == 1,
        "{text}"
    );
    assert!(matches!(items[2], ws::Item::Close { code: Some(1011), .. }));
}

#[tokio::test]
async fn a_break_between_responses_is_only_a_close() {
    let mut world = World::new().await;
    let (mut client, mut upload, answer) = open(&mut world).await;
    client.write(ws::encode_text(CREATE, MASK)).await;
    assert!(next(&mut upload).await.is_some());
    let done = ws::encode_text(b"{\"type\":\"response.completed\",\"response\":{\"id\":\"r\"}}", None);
    answer.send(done.clone()).await;
    answer.cut().await;
    client.rest().await;
    assert_eq!(client.read[..done.len()], done);
    let mut messages = ws::Messages::new(1 << 20);
    let items = messages.push(client.read[done.len()..].to_vec().into()).unwrap();
    assert!(matches!(items[..], [ws::Item::Close { code: Some(1011), .. }]));
}

#[tokio::test]
async fn silence_is_filled_only_while_a_response_is_awaited() {
    let mut world = World::with(Duration::from_millis(30), LocalKey::Required).await;
    let (mut client, mut upload, answer) = open(&mut world).await;
    // Nothing is asked yet: several silences pass without a word.
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.write(ws::encode_text(CREATE, MASK)).await;
    assert!(next(&mut upload).await.is_some());
    let life = ws::encode_text(b"{\"type\":\"keepalive\"}", None);
    while client.read.len() < life.len() {
        assert!(client.more().await > 0);
    }
    let done = ws::encode_text(b"{\"type\":\"response.completed\",\"response\":{\"id\":\"r\"}}", None);
    answer.send(done.clone()).await;
    answer.end();
    client.rest().await;
    let lives = client.read.strip_suffix(&done[..]).expect("the message at the end");
    assert!(
        lives.chunks(life.len()).all(|one| one == life),
        "nothing but signs of life before it"
    );
}
