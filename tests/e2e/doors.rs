//! The doors of the relay: paths behind a project or a vendor's name, hosts bound to one vendor's wires, web pages.

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::client::{Client, Whole};
use relay_tests::socket::{Opened, Socket};
use relay_tests::vendor::Script;
use relay_tests::world::World;
use serde_json::{Value, json};

use crate::{MODEL, Setup, ask, ask_chat, setup};

async fn world() -> World {
    let world = setup().start().await;
    world.connect("anthropic").await;
    world.connect("gemini").await;
    world
}

/// Through the agent, and through the public entrance.
fn ways(world: &World) -> [(&'static str, Client); 2] {
    let client = |addr, key| Client::new(&format!("http://{addr}"), key);
    [
        ("agent", client(world.agent.addr(), &world.agent.key)),
        ("hub", client(world.hub.http(), &world.key)),
    ]
}

fn ask_messages() -> String {
    json!({"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": "x"}]}).to_string()
}

fn ask_gemini() -> String {
    json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}], "generationConfig": {"maxOutputTokens": 500}})
        .to_string()
}

/// The name in front, a path behind it, a body for it.
fn calls() -> [(&'static str, &'static str, String); 5] {
    [
        ("openai", "/v1/responses", ask(false)),
        ("openai", "/v1/chat/completions", ask_chat(json!({}))),
        ("claude", "/v1/messages?beta=true", ask_messages()),
        ("gemini", "/v1beta/models/test-model:generateContent", ask_gemini()),
        (
            "gemini",
            "/v1beta/models/test-model:streamGenerateContent?alt=sse",
            ask_gemini(),
        ),
    ]
}

async fn post(client: &Client, path: &str, body: &str) -> Whole {
    client.post(path, body.to_owned()).await.unwrap().rest().await
}

async fn get(client: &Client, path: &str, headers: &[(&str, &str)]) -> Whole {
    let mut request = client.request(Method::GET, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    client.send(request).await.unwrap().rest().await
}

async fn usage(world: &World, words: &[&str]) -> Vec<Value> {
    let words: Vec<_> = ["usage"].into_iter().chain(words.iter().copied()).collect();
    world.hub.json(&words).await.as_array().unwrap().clone()
}

/// Which dialect an error body is in.
fn dialect(answer: &Whole) -> &'static str {
    let body = answer.json();
    if body["type"] == "error" {
        "anthropic"
    } else if body["error"]["status"].is_string() {
        "gemini"
    } else if body["error"]["code"].is_string() {
        "openai"
    } else {
        "none"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_served_behind_its_vendor_s_name_and_a_project_s_and_the_row_names_the_project() {
    let world = world().await;
    for (way, client) in ways(&world) {
        for (family, path, body) in calls() {
            for front in [
                format!("/{family}"),
                "/api/web-1".to_owned(),
                format!("/api/web-1/{family}"),
            ] {
                world.vendor.next(Script::message("Hello."));
                let answer = post(&client, &format!("{front}{path}"), &body).await;
                assert_eq!(answer.status, 200, "{way} {front}{path}: {}", answer.text());
                let call = world.vendor.posts().pop().unwrap();
                let asked = match &call.query {
                    Some(query) => format!("{}?{query}", call.path),
                    None => call.path.clone(),
                };
                assert_eq!(asked, path, "{way} {front}");
                assert!(
                    call.body == body.as_bytes() && answer.body == call.sent.bytes(),
                    "{way} {front}{path}"
                );
            }
        }
    }
    world.books().settled(2 * 5 * 3).await;
    let of_project = usage(&world, &["--project", "web-1"]).await;
    assert_eq!(of_project.len(), 2 * 5 * 2);
    assert!(
        of_project.iter().all(|row| row["project"] == "web-1"),
        "{of_project:#?}"
    );
    let sums = usage(&world, &["--by", "project"]).await;
    let sums: Vec<_> = sums
        .iter()
        .map(|row| (row["project"].clone(), row["calls"].clone()))
        .collect();
    assert_eq!(sums, [(Value::Null, json!(10)), (json!("web-1"), json!(20))]);
    let csv = world.hub.command(&["usage", "--project", "web-1", "--csv"]).await;
    assert!(
        csv.succeeded()
            .stdout
            .lines()
            .skip(1)
            .all(|line| line.ends_with(",web-1"))
    );
    assert!(usage(&world, &["--project", "web-2"]).await.is_empty());
    let wrong = world.hub.command(&["usage", "--project", "Web 1"]).await;
    assert!(
        wrong.stderr.contains("--project") && wrong.stderr.contains("1 to 64"),
        "{wrong:#?}"
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_opens_behind_a_project_and_each_of_its_calls_belongs_to_it() {
    let world = world().await;
    for (addr, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
        let headers = [format!("authorization: Bearer {key}")];
        let opened = Socket::open(addr, "/api/live/openai/v1/responses", &headers)
            .await
            .unwrap();
        let Opened::Socket(mut socket) = opened else {
            panic!("refused")
        };
        for _ in 0..2 {
            world.vendor.next(Script::message("Hello."));
            let create = json!({"type": "response.create", "model": MODEL, "input": "x", "max_output_tokens": 500});
            socket.send(&create.to_string()).await.unwrap();
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
    }
    world.books().settled(4).await;
    let sums = usage(&world, &["--by", "project,endpoint"]).await;
    assert_eq!(
        (&sums[0]["project"], &sums[0]["calls"]),
        (&json!("live"), &json!(4)),
        "{sums:#?}"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_behind_a_name_are_refused_in_that_vendor_s_words() {
    let world = world().await;
    for (way, client) in ways(&world) {
        for (path, status, expected) in [
            ("/claude/v1/responses", 404, "anthropic"),
            ("/claude/nowhere", 404, "anthropic"),
            ("/gemini/v1/chat/completions", 404, "gemini"),
            ("/gemini/v1beta/files", 404, "gemini"),
            ("/openai/v1/messages", 404, "openai"),
            ("/openai/v1beta/models/m:generateContent", 404, "openai"),
            ("/api/p/claude/v1/chat/completions", 404, "anthropic"),
            ("/api/Bad_Name/v1/messages", 400, "anthropic"),
            ("/api/p/nowhere", 404, "openai"),
        ] {
            let answer = post(&client, path, "{}").await;
            assert_eq!(
                (answer.status.as_u16(), dialect(&answer)),
                (status, expected),
                "{way} {path}"
            );
        }
        let messages = get(&client, "/claude/v1/models", &[]).await.json();
        assert!(messages["has_more"].is_boolean(), "{way}: {messages}");
        let gemini = get(&client, "/api/p/gemini/v1/models", &[]).await.json();
        assert!(gemini["models"].is_array(), "{way}: {gemini}");
        let openai = get(&client, "/openai/v1/models", &[("anthropic-version", "2023-06-01")])
            .await
            .json();
        assert_eq!(openai["object"], "list", "{way}: {openai}");
    }
    assert!(world.vendor.posts().is_empty());
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_host_serves_one_vendor_s_wires_and_refuses_in_its_words() {
    let setup = Setup {
        hub_toml: "[hosts]\n\"claude.example.com\" = \"anthropic\"\n\"gemini.example.com\" = \"gemini\"".to_owned(),
        ..setup()
    };
    let world = setup.start().await;
    world.connect("anthropic").await;
    let client = Client::new(&format!("http://{}", world.hub.http()), &world.key);
    let at = |host: &'static str, path: &'static str, body: String| {
        let request = client.request(Method::POST, path).header("host", host);
        let request = request.header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let client = &client;
        async move { client.send(request).await.unwrap().rest().await }
    };
    world.vendor.next(Script::message("Hello."));
    let answer = at("Claude.Example.com:443", "/v1/messages", ask_messages()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (host, path, expected) in [
        ("claude.example.com", "/v1/responses", "anthropic"),
        ("claude.example.com", "/", "anthropic"),
        ("gemini.example.com", "/v1/messages", "gemini"),
        ("gemini.example.com", "/claude/v1/messages", "gemini"),
        ("other.example.com", "/nowhere", "openai"),
    ] {
        let answer = at(host, path, ask(false)).await;
        assert_eq!(
            (answer.status.as_u16(), dialect(&answer)),
            (404, expected),
            "{host} {path}"
        );
    }
    let models = get(&client, "/v1/models", &[("host", "gemini.example.com")])
        .await
        .json();
    assert!(models["models"].is_array(), "{models}");
    world.vendor.next(Script::message("Hello."));
    let open = at("other.example.com", "/v1/responses", ask(false)).await;
    assert_eq!(open.status, 200, "{}", open.text());
    let health = get(&client, "/healthz", &[("host", "claude.example.com")]).await;
    assert_eq!(health.status, 200);
    world.assert_sound().await;
}

const PAGE: &str = "https://app.example.com";

fn cors(hub_toml: &str) -> Setup {
    Setup {
        hub_toml: hub_toml.to_owned(),
        ..setup()
    }
}

async fn send(client: &Client, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Whole {
    let mut request = client.request(method, path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    client.send(request).await.unwrap().rest().await
}

/// What a browser reads of an answer's head.
fn allowed(answer: &Whole) -> Option<&str> {
    let origin = answer.headers.get("access-control-allow-origin");
    origin.map(|origin| origin.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_named_origin_may_call_and_read_and_needs_no_key_to_ask() {
    let world = cors("[public]\ncors_origins = [\"https://app.example.com\"]")
        .start()
        .await;
    let base = format!("http://{}", world.hub.http());
    let (client, stranger) = (Client::new(&base, &world.key), Client::new(&base, ""));
    let asks = [
        ("origin", PAGE),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type,x-stainless-lang",
        ),
    ];
    let tls = Client::tls(world.hub.https(), "", &world.hub.certificate_authority(), true);
    for (client, path) in [
        (&stranger, "/v1/responses"),
        (&stranger, "/api/p/claude/v1/messages"),
        (&tls, "/responses"),
    ] {
        let answer = send(client, Method::OPTIONS, path, &asks, "").await;
        assert_eq!((answer.status.as_u16(), allowed(&answer)), (204, Some(PAGE)), "{path}");
        assert!(
            answer.headers["access-control-allow-methods"]
                .to_str()
                .unwrap()
                .contains("POST")
        );
        assert_eq!(answer.headers["access-control-allow-headers"], asks[2].1);
        assert!(answer.headers.get("access-control-allow-credentials").is_none());
        assert!(answer.body.is_empty());
    }
    world.vendor.next(Script::message("Hello."));
    let answer = send(&client, Method::POST, "/v1/responses", &[("origin", PAGE)], &ask(true)).await;
    assert_eq!((answer.status.as_u16(), allowed(&answer)), (200, Some(PAGE)));
    assert_eq!(answer.headers["access-control-expose-headers"], "*");
    assert_eq!(answer.headers["vary"], "origin");
    assert!(world.vendor.posts()[0].headers.get("origin").is_none());
    let refused = send(&stranger, Method::POST, "/v1/messages", &[("origin", PAGE)], "{}").await;
    assert_eq!((refused.status.as_u16(), allowed(&refused)), (401, Some(PAGE)));
    for foreign in ["https://evil.example", "null", "https://app.example.com.evil.example"] {
        let asks = [("origin", foreign), ("access-control-request-method", "POST")];
        let answer = send(&stranger, Method::OPTIONS, "/v1/responses", &asks, "").await;
        assert_eq!((answer.status.as_u16(), allowed(&answer)), (405, None), "{foreign}");
        let answer = send(&client, Method::GET, "/v1/models", &[("origin", foreign)], "").await;
        assert_eq!(
            (allowed(&answer), &answer.headers["vary"]),
            (None, &"origin".parse().unwrap()),
            "{foreign}"
        );
    }
    let agent = Client::new(&format!("http://{}", world.agent.addr()), &world.agent.key);
    for (method, body) in [(Method::OPTIONS, ""), (Method::POST, "{}")] {
        let answer = send(&agent, method, "/v1/responses", &asks, body).await;
        assert_eq!(
            (answer.status.as_u16(), allowed(&answer)),
            (403, None),
            "never on the agent"
        );
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_no_page_may_read_anything() {
    let world = cors("").start().await;
    let client = Client::new(&format!("http://{}", world.hub.http()), &world.key);
    let asks = [("origin", PAGE), ("access-control-request-method", "GET")];
    for method in [Method::OPTIONS, Method::GET] {
        let answer = send(&client, method.clone(), "/v1/models", &asks, "").await;
        let names: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
        assert!(
            !names
                .iter()
                .any(|name| name.starts_with("access-control") || *name == "vary"),
            "{method}: {names:?}"
        );
    }
    world.assert_sound().await;
}
