//! Anthropic's models at Bedrock: calls are signed, frames arrive as Anthropic's own events, and the books are the vendor's.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::{
    client::{Client, Whole},
    vendor::{
        Break, Ending, Script,
        bedrock::{CANONICAL, KEY, Key, chunk, error, exception},
    },
    world::World,
};
use serde_json::{Value, json};

use crate::{events, setup};

const MODEL: &str = "anthropic.claude-test-v1:0";
const MESSAGES: &str = "/v1/messages";

/// A world whose one account is at Bedrock, with this key.
async fn world(key: Key) -> World {
    let mut setup = setup();
    setup.models.push(MODEL.to_owned());
    let world = setup.start().await;
    world.hub.command(&["account", "remove", "main"]).await.succeeded();
    world.vendor.guard(KEY.verifier());
    add(&world, key).await;
    world
}

pub(crate) async fn add(world: &World, key: Key) {
    let file = |name: &str, secret: &str| {
        let file = world.scratch().join(name);
        std::fs::write(&file, secret).unwrap();
        file.display().to_string()
    };
    let (secret, session) = (file("aws-secret", key.secret), file("aws-session", key.session));
    let base = format!("http://{}", world.vendor.addr());
    let words = [
        "account",
        "add",
        "aws",
        "--vendor",
        "bedrock",
        "--credential",
        "aws-key",
    ];
    let of_key = ["--key-id", key.id, "--aws-region", key.region, "--base-url", &base];
    let secrets = ["--secret-file", &secret, "--session-token-file", &session];
    let words = [&words[..], &of_key, &secrets].concat();
    world.hub.command(&words).await.succeeded();
}

/// With a key that the hub has not seen: it looks for it, and sees all that was changed before.
async fn client(world: &World) -> Client {
    let key = world.hub.add_key(&world.tenant).await;
    Client::new(&format!("http://{}", world.hub.http()), &key)
}

fn asking(stream: bool) -> Value {
    json!({
        "model": MODEL, "max_tokens": 50, "stream": stream, "metadata": {"user_id": "u"},
        "messages": [{"role": "user", "content": "Say something."}],
    })
}

async fn send(client: &Client, path: &str, body: impl Into<Bytes>, headers: &[(&str, &str)]) -> Whole {
    let mut request = client
        .request(Method::POST, path)
        .header("content-type", "application/json")
        .header("anthropic-version", "2023-06-01");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    client.send(request).await.unwrap().rest().await
}

async fn post(client: &Client, stream: bool) -> Whole {
    send(client, MESSAGES, asking(stream).to_string(), &[]).await
}

/// What the events of a stream wrote; each is named by its type.
fn written(streamed: &Whole) -> String {
    let told = events(&streamed.body);
    for event in &told {
        let name = event["type"].as_str().unwrap();
        assert!(streamed.text().contains(&format!("event: {name}\ndata: ")), "{event}");
    }
    assert_eq!(streamed.text().matches("event: ").count(), told.len());
    let texts = told.iter().filter_map(|event| event["delta"]["text"].as_str());
    texts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_arrive_as_anthropics_events_and_are_billed_as_the_vendor_bills() {
    let world = world(KEY).await;
    let client = client(&world).await;
    let beta = [("anthropic-beta", "one,two"), ("accept", "text/event-stream")];
    world.vendor.otherwise(Script::message("Grüße aus \"Frankfurt\"\n. "));
    let whole = send(&client, MESSAGES, asking(false).to_string(), &beta).await;
    assert_eq!(whole.status, 200, "{}", whole.text());
    assert_eq!(whole.json()["content"][0]["text"], "Grüße aus \"Frankfurt\"\n. ");

    // Whole frames, pieces of frames, and some more than fit into one read.
    for script in [
        Script::message("Grüße aus \"Frankfurt\"\n. "),
        Script::message("Grüße aus \"Frankfurt\"\n. ").write_size(7),
        Script::deltas(400, 300),
    ] {
        world.vendor.next(script);
        let streamed = send(&client, "/v1/messages?beta=true", asking(true).to_string(), &beta).await;
        assert_eq!(streamed.headers["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(streamed.cut, None);
        let told = events(&streamed.body);
        assert_eq!(told.last().unwrap()["type"], "message_stop", "{}", streamed.text());
        let written = written(&streamed);
        assert!(written.starts_with("Grüße aus \"Frankfurt\"\n. ") || written.len() == 400 * 300);
    }
    let calls = world.vendor.posts();
    let paths: Vec<_> = calls.iter().map(|call| call.path.as_str()).collect();
    let model = "/model/anthropic.claude-test-v1%3A0";
    let stream = format!("{model}/invoke-with-response-stream");
    assert_eq!(paths, [&format!("{model}/invoke"), &stream, &stream, &stream]);
    assert!(calls.iter().all(|call| call.query.is_none()));
    let kept = json!({
        "anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["one", "two"], "max_tokens": 50,
        "metadata": {"user_id": "u"}, "messages": [{"role": "user", "content": "Say something."}],
    });
    for call in &calls {
        assert_eq!(serde_json::from_slice::<Value>(&call.body).unwrap(), kept);
    }
    let rows = world.books().settled(calls.len()).await;
    assert!(rows.iter().all(|row| row.ending == "completed"), "{rows:#?}");
    world.assert_billed_truly().await;
    let tested = world.hub.json(&["account", "test", "aws", "--model", MODEL]).await;
    assert_eq!(
        (&tested["works"], &tested["asked"]),
        (&true.into(), &format!("POST {model}/invoke").into())
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_arrives_plain_however_it_was_packed_and_tokens_are_counted() {
    let world = world(KEY).await;
    let client = client(&world).await;
    let packed = zstd::encode_all(asking(true).to_string().as_bytes(), 3).unwrap();
    let answer = send(&client, MESSAGES, packed, &[("content-encoding", "zstd")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(events(&answer.body).last().unwrap()["type"], "message_stop");
    let call = world.vendor.posts().pop().unwrap();
    assert!(!call.headers.contains_key("content-encoding"));
    let counted = json!({"model": MODEL, "messages": [{"role": "user", "content": "Count this."}]});
    let counted = send(&client, "/v1/messages/count_tokens", counted.to_string(), &[]).await;
    assert_eq!(
        (counted.status.as_u16(), counted.json()),
        (200, json!({"input_tokens": 2095}))
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

/// Frames of an answer up to its first words, and one that is changed by `damage`.
fn damaged(damage: impl Fn(&mut Vec<u8>)) -> Script {
    let start = json!({"type": "message_start", "message": {
        "id": "msg_damaged", "type": "message", "role": "assistant", "content": [],
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }});
    let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}});
    let stop = json!({"type": "message_stop"});
    let [start, delta, stop] = [start, delta, stop].map(|event| chunk(&event.to_string()));
    let mut bad = delta.to_vec();
    damage(&mut bad);
    Script::chunks("application/vnd.amazon.eventstream", vec![start, bad.into(), stop])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_damaged_or_cut_ends_as_broken_off_and_costs_nothing() {
    let world = world(KEY).await;
    let client = client(&world).await;
    let flip = |at: usize| damaged(move |frame| frame[at] ^= 1);
    let scripts = [
        // The length, its checksum, a header, the payload, the last checksum.
        flip(1),
        flip(9),
        flip(20),
        damaged(|frame| {
            let middle = frame.len() - 30;
            frame[middle] ^= 1;
        }),
        damaged(|frame| *frame.last_mut().unwrap() ^= 1),
        // A frame without its end, whose place another one takes.
        damaged(|frame| frame.truncate(frame.len() - 9)),
        Script::deltas(40, 200).cut(3_000, Break::Fin),
        Script::deltas(40, 200).cut(3_000, Break::Reset),
        Script::message("never ended ").ending(Ending::Missing),
    ];
    let count = scripts.len();
    for (at, script) in scripts.into_iter().enumerate() {
        world.vendor.next(script);
        let told = post(&client, true).await.text();
        assert!(told.contains("event: message_start\n"), "{at}: {told}");
        assert!(
            told.contains("event: error") && !told.contains("message_stop"),
            "{at}: {told}"
        );
        assert!(
            at > 5 || !told.contains("Hello"),
            "{at}: nothing of a frame that is damaged: {told}"
        );
        world.hub.command(&["account", "revive", "aws"]).await.succeeded();
    }
    let rows = world.books().settled(count).await;
    for row in &rows {
        assert_eq!((row.ending.as_str(), row.charged), ("vendor_cut", 0), "{row:#?}");
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_in_the_stream_is_told_in_anthropics_words() {
    let world = world(KEY).await;
    let client = client(&world).await;
    let begun =
        chunk(r#"{"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":3,"output_tokens":1}}}"#);
    let failed = exception("throttlingException", "Too many tokens, please wait");
    let script = Script::chunks("application/vnd.amazon.eventstream", vec![begun, failed]);
    world.vendor.next(script);
    let streamed = post(&client, true).await;
    let last = events(&streamed.body).pop().unwrap();
    let wanted = json!({"type": "rate_limit_error", "message": "Too many tokens, please wait"});
    assert_eq!((&last["type"], &last["error"]), (&"error".into(), &wanted));
    let rows = world.books().settled(1).await;
    assert_eq!((rows[0].ending.as_str(), rows[0].charged), ("failed", 0));
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_by_another_key_is_refused_and_nothing_that_was_signed_is_told() {
    let bad = Key {
        secret: "another-secret",
        ..KEY
    };
    let world = world(bad).await;
    let client = client(&world).await;
    for stream in [false, true] {
        let refused = post(&client, stream).await;
        assert_eq!(
            refused.json()["error"]["type"],
            "authentication_error",
            "{}",
            refused.text()
        );
        assert_eq!(refused.status, 403);
        let said = format!("{:?} {}", refused.headers, refused.text());
        assert!(!said.contains(CANONICAL) && !said.contains(KEY.session), "{said}");
        world.hub.command(&["account", "revive", "aws"]).await.succeeded();
        world.look().await;
    }
    let test = ["account", "test", "aws", "--json"];
    let asked = [&test[..], &["--model", MODEL]].concat();
    let told = world.hub.command(&asked).await.failed().stderr;
    assert!(
        told.contains("\"unauthorized\"") && told.contains("InvalidSignatureException"),
        "{told}"
    );
    assert!(
        !told.contains("another-secret") && !told.contains(KEY.session),
        "{told}"
    );
    let without = world.hub.command(&test).await;
    assert!(
        without.exit_code == Some(2) && without.stderr.contains("--model"),
        "{}",
        without.stderr
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_at_anthropic_where_bedrock_throttles_and_the_other_way_round() {
    let world = world(KEY).await;
    world.vendor.guard(|_, _, _, _| true);
    world.connect("anthropic").await;
    // By its name alone it is Amazon's.
    let named = ["account", "set", "anthropic", "--models", MODEL];
    world.hub.command(&named).await.succeeded();
    let client = client(&world).await;
    let (mut began_at, mut tries) = (Vec::new(), 0);
    while !(began_at.contains(&true) && began_at.contains(&false)) {
        tries += 1;
        assert!(tries < 60, "one account takes every conversation");
        // Another conversation each time, so that either account comes first at times.
        let mut body = asking(true);
        body["metadata"]["user_id"] = json!(format!("conversation-{tries}"));
        let before = world.vendor.posts().len();
        world
            .vendor
            .next(error(429, "ThrottlingException", "Too many requests").header("retry-after-ms", "1"));
        let answer = send(&client, MESSAGES, body.to_string(), &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(events(&answer.body).last().unwrap()["type"], "message_stop");
        let paths: Vec<_> = world.vendor.posts().drain(before..).map(|call| call.path).collect();
        let is_bedrock = |path: &String| path.starts_with("/model/");
        assert_eq!(paths.len(), 2);
        assert_ne!(is_bedrock(&paths[0]), is_bedrock(&paths[1]), "{paths:?}");
        began_at.push(is_bedrock(&paths[0]));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}
