//! What the hub tells those who watch it: figures that are true, on a listener of their own.

use std::collections::HashMap;

use relay_tests::client::Client;
use relay_tests::vendor::{Script, Usage};
use relay_tests::world::World;
use serde_json::json;

use crate::{Setup, ask, ask_chat, setup};

async fn world() -> World {
    let hub_toml = "[metrics]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    Setup { hub_toml, ..setup() }.start().await
}

async fn scrape(world: &World) -> String {
    let client = Client::new(&format!("http://{}", world.hub.metrics().unwrap()), "");
    let answer = client.get("/metrics").await.unwrap().rest().await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    answer.text()
}

/// Samples by name with labels; each name once.
fn samples(text: &str) -> HashMap<String, i64> {
    let mut samples = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let before = samples.insert(name.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "{name} is there twice");
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_tokens_money_and_refusals_are_counted_once() {
    let world = world().await;
    let usage = Usage {
        input: 1_000,
        cached: 400,
        output: 50,
        reasoning: 20,
    };
    world.vendor.otherwise(Script::message("x ").usage(usage));
    for client in [world.through_agent(), world.through_hub()] {
        client.post("/responses", ask(true)).await.unwrap().rest().await;
        client
            .post("/chat/completions", ask_chat(json!({})))
            .await
            .unwrap()
            .rest()
            .await;
    }
    let client = world.through_hub();
    world.vendor.next(Script::failed("server_error", "x"));
    client.post("/responses", ask(true)).await.unwrap().rest().await;
    world
        .vendor
        .next(Script::error(429, "rate_limit_exceeded", None, "slow"));
    client.post("/responses", ask(false)).await.unwrap().rest().await;
    world.vendor.next(Script::deltas(4, 20).no_usage());
    client.post("/responses", ask(true)).await.unwrap().rest().await;
    let unknown = json!({"model": "gpt-unheard-of", "input": "x"}).to_string();
    client.post("/responses", unknown).await.unwrap().rest().await;
    let rows = world.books().settled(8).await;

    let told = samples(&scrape(&world).await);
    let sum = |of: fn(&Usage) -> u64| -> i64 {
        let counts = rows.iter().filter_map(|row| row.usage.as_ref());
        i64::try_from(counts.map(of).sum::<u64>()).unwrap()
    };
    for (name, wanted) in [
        ("relay_calls_total{ending=\"completed\",wire=\"responses\"}", 3),
        ("relay_calls_total{ending=\"completed\",wire=\"chat\"}", 2),
        ("relay_calls_total{ending=\"failed\",wire=\"responses\"}", 1),
        ("relay_calls_total{ending=\"vendor_error\",wire=\"responses\"}", 1),
        ("relay_calls_total{ending=\"refused\",wire=\"responses\"}", 1),
        ("relay_refusals_total{code=\"model_not_found\"}", 1),
        ("relay_vendor_errors_total{status=\"429\"}", 1),
        ("relay_tokens_total{kind=\"input\"}", sum(|usage| usage.input)),
        ("relay_tokens_total{kind=\"cached\"}", 1_600),
        ("relay_tokens_total{kind=\"output\"}", sum(|usage| usage.output)),
        ("relay_tokens_total{kind=\"reasoning\"}", 80),
        ("relay_estimated_calls_total", 1),
        ("relay_flagged_bills_total{flag=\"unreported\"}", 1),
        ("relay_charged_nanos_total", rows.iter().map(|row| row.charged).sum()),
        ("relay_lost_nanos_total", 0),
        ("relay_open_holds", 0),
        ("relay_held_nanos", 0),
        ("relay_ledger_queue", 0),
        ("relay_ledger_failures_total", 0),
        ("relay_tunnel_connections", 1),
    ] {
        assert_eq!(told.get(name), Some(&wanted), "{name}: {told:#?}");
    }
    assert!(
        told["relay_ledger_batches_total"] > 0 && told["relay_ledger_entries_total"] >= 8,
        "{told:#?}"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_metrics_is_spoken_to_who_asks_for_it() {
    let world = world().await;
    let client = Client::new(&format!("http://{}", world.hub.metrics().unwrap()), "");
    let request = client.request(http::Method::GET, "/metrics");
    let request = request.header("accept", "application/openmetrics-text; version=1.0.0");
    let answer = client
        .send(request.body(http_body_util::Full::default()).unwrap())
        .await
        .unwrap()
        .rest()
        .await;
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let text = answer.text();
    assert!(
        text.contains("# TYPE relay_calls counter\n") && text.ends_with("# EOF\n"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_on_no_other_entrance_and_nothing_else_is_on_theirs() {
    let world = world().await;
    for client in [
        world.through_hub(),
        Client::new(&format!("http://{}", world.hub.http()), &world.key),
    ] {
        let answer = client.get("/metrics").await.unwrap().rest().await;
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
    let client = Client::new(&format!("http://{}", world.hub.metrics().unwrap()), &world.key);
    for (path, status) in [("/v1/models", 404), ("/healthz", 404), ("/metrics/", 404)] {
        assert_eq!(client.get(path).await.unwrap().status, status, "{path}");
    }
    assert_eq!(client.post("/metrics", "{}").await.unwrap().status, 405);
    let closed = setup().start().await;
    assert_eq!(closed.hub.metrics(), None, "off unless it is asked for");
    closed
        .hub
        .configure("127.0.0.1:1".parse().unwrap(), "[metrics]\nlisten = \"0.0.0.0:9464\"");
    let refused = closed.hub.command(&["check-config"]).await;
    assert!(
        refused.exit_code == Some(1) && refused.stderr.contains("metrics.listen"),
        "{refused:#?}"
    );
}
