//! Metadata only: what is planted in bodies, keys and headers is in no log, no table, no metric and no error text.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::client::{Client, contains};
use relay_tests::socket::{Opened, Socket};
use relay_tests::vendor::{Break, Ending, Script};
use relay_tests::world::{VENDOR_SECRET, World};
use serde_json::json;

use crate::{MODEL, setup};

/// In the request's body.
const ASKED: &str = "canary-asked-5d1c";
/// In the answer's body.
const ANSWERED: &str = "canary-answered-77e0";
/// In headers that say what a developer works on.
const HEADER: &str = "canary-header-a90b";
/// In a key that is refused.
const WRONG_KEY: &str = "rk_canarywrongkey00_canary-wrong-key-3f21-0123456789abcdefghijkl";

/// Asks for everything, libraries by name as well: they would log headers and frames.
const LOUDEST: &str = "trace,h2=trace,h3=trace,hyper=trace,hyper_util=trace,quinn=trace,rustls=trace,sqlx=trace";

/// Each call has a key of its own.
static CALLS: AtomicU64 = AtomicU64::new(0);

async fn post(client: &Client, path: &str, body: String) -> Bytes {
    let metadata = json!({"workspaces": {"/home/dev/canary-header-a90b": {"associated_remote_urls": HEADER}}});
    let request = client
        .request(Method::POST, path)
        .header("content-type", "application/json")
        .header("x-codex-turn-metadata", metadata.to_string())
        .header("cookie", format!("session={HEADER}"))
        .header("thread-id", HEADER)
        .header("idempotency-key", format!("{HEADER} {}", CALLS.fetch_add(1, Relaxed)))
        .header("x-made-up", HEADER);
    let request = request.body(Full::new(body.into())).unwrap();
    client.send(request).await.unwrap().rest().await.body
}

fn ask(mut more: serde_json::Value) -> String {
    let mut body = json!({"model": MODEL, "input": ASKED, "prompt_cache_key": ASKED, "metadata": {"m": ASKED},
        "client_metadata": {"x-codex-turn-metadata": ASKED}});
    body.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
    body.to_string()
}

/// Everything that can happen to a call; returns what clients were told by the relay itself.
async fn exercise(world: &World) -> Vec<Bytes> {
    let mut refusals = Vec::new();
    for client in [world.through_agent(), world.through_hub()] {
        let answer = || Script::message(&format!("{ANSWERED} {ANSWERED} "));
        for script in [
            answer(),
            answer().ending(Ending::Incomplete("max_output_tokens")),
            answer().no_usage(),
        ] {
            world.vendor.next(script);
            post(&client, "/responses", ask(json!({"stream": true}))).await;
        }
        world.vendor.next(Script::failed("server_error", ANSWERED));
        post(&client, "/responses", ask(json!({"stream": true}))).await;
        world
            .vendor
            .next(Script::error(400, "invalid_request_error", Some(ANSWERED), ANSWERED));
        post(&client, "/responses", ask(json!({}))).await;
        world.vendor.next(Script::error(500, "server_error", None, ANSWERED));
        post(&client, "/responses", ask(json!({}))).await;
        world.vendor.next(answer());
        let chat = json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": ASKED}]});
        post(&client, "/chat/completions", chat.to_string()).await;

        world.vendor.next(answer().cut(1_500, Break::Reset));
        let cut = post(&client, "/responses", ask(json!({"stream": true}))).await;
        refusals.push(Bytes::copy_from_slice(&cut[cut.len().saturating_sub(400)..]));
        world.vendor.next(Script::hang_up(Break::Fin));
        refusals.push(post(&client, "/responses", ask(json!({}))).await);
        world
            .vendor
            .next(Script::garbage(b"canary-answered-77e0 is not HTTP\r\n\r\n"));
        refusals.push(post(&client, "/responses", ask(json!({}))).await);
        refusals.push(
            post(
                &client,
                "/responses",
                format!("{{\"model\":\"{MODEL}\",\"{ASKED}\":{ASKED}}}"),
            )
            .await,
        );
        refusals.push(post(&client, "/responses", ask(json!({"model": {"x": ASKED}}))).await);
        refusals.push(post(&client, "/responses", ask(json!({"stream": ASKED}))).await);
        refusals.push(post(&client, "/responses", ask(json!({"max_output_tokens": ASKED}))).await);
    }
    let wrong = Client::new(&format!("http://{}/v1", world.hub.http()), WRONG_KEY);
    refusals.push(post(&wrong, "/responses", ask(json!({}))).await);
    let wrong = Client::new(&world.agent.base_url(), WRONG_KEY);
    refusals.push(post(&wrong, "/responses", ask(json!({}))).await);
    for (addr, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
        let lines = [
            format!("authorization: Bearer {key}"),
            format!("x-codex-turn-metadata: {HEADER}"),
        ];
        let Opened::Socket(mut socket) = Socket::open(addr, "/v1/responses", &lines).await.unwrap() else {
            panic!("no socket")
        };
        world.vendor.next(Script::message(&format!("{ANSWERED} ")));
        socket.send(&ask(json!({"type": "response.create"}))).await.unwrap();
        socket.answer().await.unwrap();
        socket
            .send(&format!("{{\"type\":\"response.create\",\"{ASKED}\":{ASKED}}}"))
            .await
            .unwrap();
        if let Ok(relay_tests::socket::Message::Text(text)) = socket.next().await {
            refusals.push(text.into());
        }
    }
    refusals
}

/// Every file below `folder` but those that may hold what is searched for.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| !path.ends_with("vendor-secret") && !path.ends_with("local.key"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_are_in_no_log_no_table_no_metric_and_no_error() {
    let world = crate::Setup {
        log: LOUDEST,
        hub_toml: "[metrics]\nlisten = \"127.0.0.1:0\"\n".to_owned(),
        ..setup()
    }
    .start()
    .await;
    let refusals = exercise(&world).await;
    world.books().settled(20).await;
    world.assert_sound().await;
    let metrics = Client::new(&format!("http://{}", world.hub.metrics().unwrap()), "")
        .get("/metrics")
        .await
        .unwrap()
        .rest()
        .await;
    assert!(metrics.text().contains("relay_calls_total"), "{}", metrics.text());
    let dump = world.books().dump().await;
    let status = world.agent.status().await.to_string();

    let canaries = [
        ASKED,
        ANSWERED,
        HEADER,
        "canarywrongkey",
        "canary-wrong-key",
        VENDOR_SECRET,
        &world.key,
        &world.agent.key,
    ];
    for canary in canaries {
        for refusal in &refusals {
            let told = String::from_utf8_lossy(refusal);
            assert!(!told.contains(canary), "{canary} is in an error: {told}");
        }
        assert!(!dump.contains(canary), "{canary} is in a table");
        assert!(!metrics.text().contains(canary), "{canary} is in the metrics");
        assert!(!status.contains(canary), "{canary} is in the status");
        for path in files(world.scratch()) {
            let bytes = fs::read(&path).unwrap_or_default();
            let found = contains(&bytes, canary.as_bytes());
            assert!(!found, "{canary} is in {}: {}", path.display(), around(&bytes, canary));
        }
    }
    let (hub, agent) = (world.scratch().join("hub.log"), world.scratch().join("agent.log"));
    for log in [hub, agent] {
        let text = fs::read_to_string(&log).unwrap();
        assert!(!text.is_empty(), "{} is empty", log.display());
    }
}

fn around(bytes: &[u8], canary: &str) -> String {
    let at = bytes
        .windows(canary.len())
        .position(|window| window == canary.as_bytes())
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes[at.saturating_sub(300)..bytes.len().min(at + 200)]).into_owned()
}
