//! Embeddings pass byte for byte and cost what the vendor counts of their input.

use relay_tests::client::{Client, Whole};
use relay_tests::vendor::{Script, Usage};
use relay_tests::world::World;
use serde_json::{Value, json};

use crate::{MODEL, setup};

const PATH: &str = "/v1/embeddings";
const SINGLE: &str = "/v1beta/models/test-model:embedContent";
const BATCH: &str = "/v1beta/models/test-model:batchEmbedContents";

async fn world() -> World {
    let world = setup().start().await;
    world.connect("gemini").await;
    world
}

fn ways(world: &World) -> [(&'static str, Client); 2] {
    let client = |addr, key| Client::new(&format!("http://{addr}"), key);
    [
        ("agent", client(world.agent.addr(), &world.agent.key)),
        ("hub", client(world.hub.http(), &world.key)),
    ]
}

async fn post(client: &Client, path: &str, body: &Value) -> Whole {
    client.post(path, body.to_string()).await.unwrap().rest().await
}

fn openai(tokens: u64) -> Script {
    let vector = json!({"object": "embedding", "index": 0, "embedding": [0.0023, -0.009, 1.5e-3]});
    let coded = json!({"object": "embedding", "index": 1, "embedding": "AACAPwAAAEA="});
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Script::json(
        200,
        &json!({"object": "list", "data": [vector, coded], "model": MODEL, "usage": usage}),
    )
}

fn gemini(usage: Option<u64>) -> Script {
    let mut body = json!({"embedding": {"values": [0.1, -0.2]}});
    if let Some(tokens) = usage {
        body["usageMetadata"] = json!({"promptTokenCount": tokens, "totalTokenCount": tokens});
    }
    Script::json(200, &body)
}

fn ask() -> Value {
    json!({"model": MODEL, "input": ["The food was good.", "Was it?"], "encoding_format": "float"})
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_pass_unchanged_and_cost_what_the_vendor_counts() {
    let world = world().await;
    let content = json!({"parts": [{"text": "Say something."}]});
    let single = json!({"model": "models/test-model", "content": content});
    let batch = json!({"requests": [single, single]});
    for (way, client) in ways(&world) {
        for (path, body, script) in [
            (PATH, ask(), openai(8)),
            ("/openai/v1/embeddings", ask(), openai(8)),
            (SINGLE, single.clone(), gemini(Some(8))),
            (BATCH, batch.clone(), gemini(Some(8))),
        ] {
            world.vendor.next(script);
            let answer = post(&client, path, &body).await;
            let call = world.vendor.posts().pop().unwrap();
            assert_eq!(answer.status, 200, "{way} {path}: {}", answer.text());
            assert!(
                answer.body == call.sent.bytes() && call.body == body.to_string().as_bytes(),
                "{way} {path}"
            );
            assert_eq!(call.path, path.trim_start_matches("/openai"), "{way}");
        }
    }
    let rows = world.books().settled(8).await;
    for row in &rows {
        let used = Usage {
            input: 8,
            cached: 0,
            output: 0,
            reasoning: 0,
        };
        assert_eq!(
            (row.usage, row.source.as_deref()),
            (Some(used), Some("reported")),
            "{row:#?}"
        );
        assert_eq!(
            (row.cost, row.charged, row.ending.as_str()),
            (8_000, 8_000, "completed"),
            "{row:#?}"
        );
    }
    let of_kind = |path: &str| rows.iter().filter(|row| row.endpoint == path).count();
    let gemini = ["embedContent", "batchEmbedContents"].map(|method| of_kind(&format!("/v1beta/models/*:{method}")));
    assert_eq!((of_kind(PATH), gemini), (4, [2, 2]));
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_texts_at_once_are_more_than_a_window_and_are_paid_as_reported() {
    let world = world().await;
    let text = "word ".repeat(200_000);
    let inputs: Vec<_> = std::iter::repeat_n(&text, 30).collect();
    world.vendor.next(openai(6_000_000));
    let [_, (_, client)] = ways(&world);
    let answer = post(&client, PATH, &json!({"model": MODEL, "input": inputs})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let rows = world.books().settled(1).await;
    assert_eq!(
        (rows[0].charged, rows[0].source.as_deref()),
        (6_000_000_000, Some("reported")),
        "{rows:#?}"
    );
    assert!(
        rows[0].held.unwrap() >= rows[0].charged && rows[0].detail.is_none(),
        "{rows:#?}"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_counted_by_the_vendor_is_counted_here_and_what_it_refuses_is_free() {
    let world = world().await;
    let [_, (_, client)] = ways(&world);
    world.vendor.next(gemini(None));
    let body = json!({"content": {"parts": [{"text": "Say something. ".repeat(100)}]}});
    assert_eq!(post(&client, SINGLE, &body).await.status, 200);
    world
        .vendor
        .next(Script::error(400, "invalid_request_error", None, "No."));
    assert_eq!(post(&client, PATH, &ask()).await.status, 400);
    let rows = world.books().settled(2).await;
    let estimated = rows.iter().find(|row| row.status == 200).unwrap();
    assert_eq!(estimated.source.as_deref(), Some("estimated"), "{estimated:#?}");
    let used = estimated.usage.unwrap();
    assert!(
        used.input > 100 && used.output == 0 && estimated.charged > 0,
        "{estimated:#?}"
    );
    let refused = rows.iter().find(|row| row.status == 400).unwrap();
    assert_eq!(refused.charged, 0, "{refused:#?}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_refused_as_other_calls_are() {
    let world = world().await;
    let [_, (_, client)] = ways(&world);
    for (path, body, status) in [
        (PATH, json!({"input": "x"}), 400),
        (PATH, json!({"model": 7, "input": "x"}), 400),
        (PATH, json!({"model": "nothing-like-it", "input": "x"}), 404),
        ("/v1beta/models/nothing-like-it:embedContent", json!({}), 404),
    ] {
        let answer = post(&client, path, &body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
    }
    let stranger = Client::new(&format!("http://{}", world.hub.http()), "");
    assert_eq!(post(&stranger, PATH, &ask()).await.status, 401);
    assert_eq!(client.get(PATH).await.unwrap().rest().await.status, 405);
    let limit = ["limit", "set", "--endpoint", PATH, "--requests-per-minute", "1"];
    world.hub.command(&limit).await.succeeded();
    world.look().await;
    world.vendor.next(openai(1));
    assert_eq!(post(&client, PATH, &ask()).await.status, 200);
    let refused = post(&client, PATH, &ask()).await;
    assert_eq!(
        (refused.status.as_u16(), refused.error_code().as_str()),
        (429, "rate_limit_exceeded")
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_embeddings_of_a_fresh_hub_have_their_price() {
    let world = world().await;
    let [_, (_, client)] = ways(&world);
    let body = json!({"model": "text-embedding-3-small", "input": "The food was good."});
    world.vendor.next(openai(1_000));
    assert_eq!(post(&client, PATH, &body).await.status, 200);
    let path = "/v1beta/models/gemini-embedding-001:embedContent";
    let body = json!({"content": {"parts": [{"text": "The food was good."}]}});
    world.vendor.next(gemini(Some(1_000)));
    assert_eq!(post(&client, path, &body).await.status, 200);
    let rows = world.books().settled(2).await;
    let charged: Vec<_> = rows.iter().map(|row| row.charged).collect();
    assert_eq!(charged, [20_000, 150_000], "{rows:#?}");
    world.assert_sound().await;
}
