//! One chat endpoint takes any model of any vendor.

use relay_tests::client::{Client, Whole};
use relay_tests::vendor::Script;
use serde_json::json;

use crate::{Setup, events, setup};

const PATHS: [&str; 3] = [
    "/v1/unified/chat/completions",
    "/api/web/v1/unified/chat/completions",
    "/openai/unified/chat/completions",
];
/// A model of each vendor, and where its calls end up.
const MODELS: [(&str, &str); 3] = [
    ("gpt-unified", "/v1/chat/completions"),
    ("claude-unified", "/v1/messages"),
    ("gemini-unified", "/v1beta/models/gemini-unified:"),
];

async fn ask(client: &Client, path: &str, model: &str, stream: bool) -> Whole {
    let body = json!({"model": model, "max_tokens": 50, "stream": stream,
        "messages": [{"role": "user", "content": "Say something."}]});
    client.post(path, body.to_string()).await.unwrap().rest().await
}

/// What a chat's answer says, whole or in chunks.
fn said(answer: &Whole, stream: bool) -> String {
    if !stream {
        return answer.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    }
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    let chunks = events(&answer.body);
    let text = |chunk: &serde_json::Value| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
    chunks.iter().filter_map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_goes_to_whoever_has_its_model_and_is_answered_as_a_chat() {
    let setup = Setup {
        models: MODELS.map(|(model, _)| model.to_owned()).to_vec(),
        ..setup()
    };
    let world = setup.start().await;
    world.connect("anthropic").await;
    world.connect("gemini").await;
    let client = |addr, key| Client::new(&format!("http://{addr}"), key);
    let ways = [
        client(world.agent.addr(), &world.agent.key),
        client(world.hub.http(), &world.key),
    ];
    for client in &ways {
        for path in PATHS {
            for (model, vendor) in MODELS {
                for stream in [false, true] {
                    world.vendor.next(Script::message("Grüezi mitenand."));
                    let answer = ask(client, path, model, stream).await;
                    assert_eq!(answer.status, 200, "{path} {model}: {}", answer.text());
                    assert_eq!(said(&answer, stream), "Grüezi mitenand.", "{path} {model} {stream}");
                    let called = world.vendor.posts().pop().unwrap().path;
                    assert!(called.starts_with(vendor), "{path} {model}: {called}");
                }
            }
        }
    }
    let unknown = ask(&ways[1], PATHS[0], "nothing-like-it", false).await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.error_code().as_str()),
        (404, "model_not_found")
    );
    let listed = ways[1].get("/v1/models").await.unwrap().rest().await.text();
    assert!(MODELS.iter().all(|(model, _)| listed.contains(model)), "{listed}");
    world.assert_billed_truly().await;
    world.assert_sound().await;
}
