//! App tokens: accepted wherever an API key is, within what they say, until they end or their key is revoked.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::client::{Client, Whole};
use relay_tests::socket::{Opened, Socket};
use relay_tests::vendor::Script;
use relay_tests::world::World;
use serde_json::{Value, json};

use crate::{MODEL, Setup, ask, ask_chat, setup};

const OTHER: &str = "other-model";

async fn world() -> World {
    let setup = Setup {
        models: vec![MODEL.to_owned(), OTHER.to_owned()],
        ..setup()
    };
    let world = setup.start().await;
    world.connect("anthropic").await;
    world.connect("gemini").await;
    world.vendor.otherwise(Script::message("Hello."));
    world
}

async fn issue(world: &World, words: &[&str]) -> Value {
    let words: Vec<_> = ["token", "issue", "--tenant", "acme"]
        .iter()
        .chain(words)
        .copied()
        .collect();
    world.hub.json(&words).await
}

fn text(issued: &Value) -> &str {
    issued["token"].as_str().unwrap()
}

/// Each wire with a path and a body for it.
fn calls() -> [(&'static str, &'static str, String); 4] {
    let messages = json!({"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "x"}]});
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]});
    [
        ("responses", "/v1/responses", ask(false)),
        ("chat", "/v1/chat/completions", ask_chat(json!({}))),
        ("messages", "/v1/messages", messages.to_string()),
        (
            "gemini",
            "/v1beta/models/test-model:generateContent",
            gemini.to_string(),
        ),
    ]
}

/// A call with this credential in this header, or in the address.
async fn call(world: &World, (name, value): (&str, &str), path: &str, body: &str) -> Whole {
    let client = Client::new(&format!("http://{}", world.hub.http()), "");
    let (path, header) = match name {
        "?key=" => (format!("{path}?key={value}"), None),
        "authorization" => (path.to_owned(), Some(("authorization", format!("Bearer {value}")))),
        name => (path.to_owned(), Some((name, value.to_owned()))),
    };
    let mut request = client
        .request(Method::POST, &path)
        .header("content-type", "application/json");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    client.send(request).await.unwrap().rest().await
}

async fn bearer(world: &World, token: &str, body: &str) -> Whole {
    call(world, ("authorization", token), "/v1/responses", body).await
}

/// The words of a refusal, in whichever dialect.
fn message(answer: &Whole) -> String {
    answer.json()["error"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_accepted_wherever_a_key_is_and_its_rows_name_it() {
    let world = world().await;
    let issued = issue(&world, &["--project", "web", "--plan", "free", "--for", "10m"]).await;
    let token = text(&issued);
    let places = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "?key="];
    for (wire, path, body) in calls() {
        for place in places {
            let answer = call(&world, (place, token), path, &body).await;
            assert_eq!(answer.status, 200, "{wire} {place}: {}", answer.text());
        }
    }
    let rows = world.books().settled(20).await;
    assert!(
        rows.iter().all(|row| row.caller == issued["id"].as_str().unwrap()),
        "{rows:#?}"
    );
    let detail = rows[0].detail.as_ref().unwrap();
    assert_eq!((&detail["project"], &detail["plan"]), (&json!("web"), &json!("free")));
    let by = ["usage", "--by", "token,project,plan"];
    let sums = world.hub.json(&by).await;
    let charged: i64 = rows.iter().map(|row| row.charged).sum();
    assert_eq!(sums.as_array().unwrap().len(), 1);
    assert_eq!(
        [&sums[0]["token"], &sums[0]["project"], &sums[0]["plan"]],
        [&issued["id"], &json!("web"), &json!("free")]
    );
    let told: f64 = sums[0]["charged"].as_str().unwrap().parse().unwrap();
    assert_eq!((&sums[0]["calls"], (told * 1e9).round() as i64), (&json!(20), charged));
    let csv = world.hub.command(&[&by[..], &["--csv"]].concat()).await;
    let begin = format!("{},web,free,20,", issued["id"].as_str().unwrap());
    let csv = csv.succeeded().stdout;
    assert!(csv.contains(&begin), "{csv}");
    let sent = world.vendor.posts();
    assert!(
        !sent
            .iter()
            .any(|call| format!("{:?}{:?}", call.headers, call.query).contains(token))
    );
    let log = std::fs::read_to_string(world.hub.log_file()).unwrap();
    assert!(!log.contains(token) && !log.contains(token.rsplit('.').next().unwrap()));
    let headers = [format!("authorization: Bearer {token}")];
    let opened = Socket::open(world.hub.http(), "/v1/responses", &headers).await.unwrap();
    assert!(matches!(opened, Opened::Socket(_)));
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_tokens_are_refused_in_each_dialect_and_reach_nobody() {
    let world = world().await;
    let issued = issue(&world, &[]).await;
    let parts: Vec<_> = text(&issued).split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("three parts")
    };
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let kid = issued["key"].as_str().unwrap();
    let none = part(json!({"alg": "none", "typ": "JWT", "kid": kid}));
    let hs256 = part(json!({"alg": "HS256", "typ": "JWT", "kid": kid}));
    let foreign = part(json!({"alg": "EdDSA", "typ": "JWT", "kid": "tk_0123456789abcdef"}));
    let mut richer = issued["claims"].clone();
    richer["tenant"] = "ten_0123456789abcdef".into();
    let (richer, huge) = (part(richer), "A".repeat(50_000));
    for (what, token) in [
        ("no algorithm", format!("{none}.{claims}.")),
        ("no algorithm, signed", format!("{none}.{claims}.{signature}")),
        ("a shared secret", format!("{hs256}.{claims}.{signature}")),
        ("an unknown key", format!("{foreign}.{claims}.{signature}")),
        ("other claims", format!("{header}.{richer}.{signature}")),
        ("no signature", format!("{header}.{claims}")),
        ("padding", format!("{header}.{claims}.{signature}=")),
        (
            "no base64",
            format!(
                "{header}.{claims}.{}",
                signature.replace(|c: char| c.is_ascii_digit(), "!")
            ),
        ),
        ("more parts", format!("{header}.{claims}.{signature}.{signature}")),
        ("huge", format!("{header}.{claims}{huge}.{signature}")),
        ("only a beginning", "eyJ".to_owned()),
    ] {
        for (wire, path, body) in calls() {
            let answer = call(&world, ("authorization", &token), path, &body).await;
            assert_eq!(answer.status, 401, "{what} {wire}: {}", answer.text());
            assert!(
                message(&answer).starts_with("The app token is not valid here"),
                "{what} {wire}"
            );
            let kind = answer.json();
            let told = match wire {
                "messages" => &kind["error"]["type"],
                "gemini" => &kind["error"]["status"],
                _ => &kind["error"]["code"],
            };
            let expected = match wire {
                "messages" => "authentication_error",
                "gemini" => "UNAUTHENTICATED",
                _ => "invalid_api_key",
            };
            assert_eq!(told, expected, "{what} {wire}");
        }
    }
    assert!(world.vendor.posts().is_empty());
    assert!(
        world.hub.json(&["usage"]).await.as_array().unwrap().is_empty(),
        "nobody pays"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_within_its_models_its_project_and_its_plan_s_limits() {
    let world = world().await;
    let of_models = issue(&world, &["--models", "test-*", "--project", "web"]).await;
    let token = text(&of_models);
    assert_eq!(bearer(&world, token, &ask(false)).await.status, 200);
    let refused = bearer(&world, token, &ask(false).replace(MODEL, OTHER)).await;
    assert_eq!(
        (refused.status.as_u16(), refused.error_code().as_str()),
        (404, "model_not_found")
    );
    let client = Client::new(&format!("http://{}/v1", world.hub.http()), token);
    let listed = client.get("/models").await.unwrap().rest().await.json();
    let listed: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(listed, [MODEL]);
    let elsewhere = call(&world, ("x-api-key", token), "/api/shop/v1/responses", &ask(false)).await;
    assert_eq!(elsewhere.status, 401);
    assert!(message(&elsewhere).contains("another project"), "{}", elsewhere.text());

    let of_plan = issue(&world, &["--plan", "free"]).await;
    let limit = ["limit", "set", "--tenant", "acme", "--requests-per-minute", "1"];
    world.hub.json(&[&limit[..], &["--plan", "free"]].concat()).await;
    world.hub.json(&[&limit[..], &["--project", "shop"]].concat()).await;
    world.look().await;
    assert_eq!(bearer(&world, text(&of_plan), &ask(false)).await.status, 200);
    let second = bearer(&world, text(&of_plan), &ask(false)).await;
    assert_eq!(
        (second.status.as_u16(), second.error_code().as_str()),
        (429, "rate_limit_exceeded")
    );
    for (way, expected) in [("shop", [200, 429]), ("web", [200, 200])] {
        for status in expected {
            let path = format!("/api/{way}/v1/responses");
            let answer = call(&world, ("x-api-key", &world.key), &path, &ask(false)).await;
            assert_eq!(answer.status, status, "{way}");
        }
    }
    let told = world
        .hub
        .command(&["limit", "list", "--tenant", "acme"])
        .await
        .succeeded()
        .stdout;
    assert!(told.contains("/plan:free") && told.contains("/project:shop"), "{told}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time_and_with_its_key_and_outlives_a_change_of_keys() {
    let world = world().await;
    let first = issue(&world, &["--for", "1h"]).await;
    let rotated = world.hub.json(&["token", "rotate", "--tenant", "acme"]).await;
    let second = issue(&world, &["--for", "1h"]).await;
    assert_eq!((&second["key"], first["key"] == second["key"]), (&rotated["id"], false));
    for token in [&first, &second] {
        assert_eq!(bearer(&world, text(token), &ask(false)).await.status, 200);
    }
    world.hub.command(&["seal", "rotate"]).await.succeeded();
    let third = issue(&world, &["--for", "1s"]).await;
    let ended = async {
        loop {
            let answer = bearer(&world, text(&third), &ask(false)).await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    assert_eq!(ended.status, 401);
    assert!(
        message(&ended).starts_with("The app token has expired"),
        "{}",
        ended.text()
    );

    let headers = [format!("authorization: Bearer {}", text(&first))];
    let Opened::Socket(mut socket) = Socket::open(world.hub.http(), "/v1/responses", &headers).await.unwrap() else {
        panic!("refused")
    };
    let key = first["key"].as_str().unwrap();
    let told = world.hub.json(&["token", "revoke", key, "--tenant", "acme"]).await;
    assert_eq!(told["revoked"], true);
    world.look().await;
    let revoked = bearer(&world, text(&first), &ask(false)).await;
    assert_eq!(revoked.status, 401);
    assert!(message(&revoked).contains("revoked"), "{}", revoked.text());
    let create = json!({"type": "response.create", "model": MODEL, "input": "x", "max_output_tokens": 50});
    socket.send(&create.to_string()).await.unwrap();
    let answer = socket.answer().await.unwrap();
    assert!(answer.last().unwrap().contains("revoked"), "{answer:?}");
    assert_eq!(bearer(&world, text(&second), &ask(false)).await.status, 200);
    let keys = world.hub.json(&["token", "keys", "--tenant", "acme"]).await;
    assert_eq!(keys.as_array().unwrap().len(), 2);
    assert!(!keys.to_string().contains("secret"));
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_issued_is_told_with_all_its_problems() {
    let world = world().await;
    let words = ["--project", "Web", "--plan", "a b", "--models", "a b", "--for", "0s"];
    let words: Vec<_> = ["token", "issue", "--tenant", "acme"]
        .iter()
        .chain(&words)
        .copied()
        .collect();
    let told = world.hub.command(&words).await.stderr;
    for flag in ["--project", "--plan", "--models", "--for"] {
        assert!(told.contains(flag), "{flag}: {told}");
    }
    let unknown = world
        .hub
        .command(&["token", "revoke", "tk_0123456789abcdef", "--tenant", "acme"])
        .await;
    assert!(unknown.stderr.contains("token keys"), "{unknown:#?}");
}
