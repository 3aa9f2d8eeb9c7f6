//! Clients of Anthropic's and of Google's are served as those of OpenAI's are: the vendor's own bytes, billed by the
//! vendor's own count, refused in their own words.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::client::{Client, Live, Whole, contains};
use relay_tests::vendor::{Break, Call, Ending, Extra, Gate, Output, PLAIN, Script, Usage};
use relay_tests::world::{VENDOR_SECRET, World};
use serde_json::{Value, json};

use crate::{MODEL, events, setup};

const MESSAGES: &str = "/v1/messages";
const EVENTS: &str = "/v1beta/models/test-model:streamGenerateContent?alt=sse";
const ARRAY: &str = "/v1beta/models/test-model:streamGenerateContent";

async fn world() -> World {
    let world = setup().start().await;
    world.connect("anthropic").await;
    world.connect("gemini").await;
    world
}

fn client(addr: SocketAddr, key: &str) -> Client {
    Client::new(&format!("http://{addr}"), key)
}

/// Through the agent, and through the public entrance.
fn ways(world: &World) -> [(&'static str, Client); 2] {
    [
        ("agent", client(world.agent.addr(), &world.agent.key)),
        ("hub", client(world.hub.http(), &world.key)),
    ]
}

fn ask_messages(stream: bool) -> String {
    json!({"model": MODEL, "max_tokens": 500, "stream": stream, "metadata": {"user_id": "u_1"},
        "messages": [{"role": "user", "content": "Say something."}]})
    .to_string()
}

fn ask_gemini() -> String {
    json!({"contents": [{"role": "user", "parts": [{"text": "Say something."}]}],
        "generationConfig": {"maxOutputTokens": 500}})
    .to_string()
}

async fn send(client: &Client, path: &str, body: &str, headers: &[(&str, &str)]) -> Live {
    let mut request = client
        .request(Method::POST, path)
        .header("content-type", "application/json")
        .header("anthropic-version", "2023-06-01");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::from(body.to_owned()));
    client.send(request.body(body).unwrap()).await.unwrap()
}

async fn post(client: &Client, path: &str, body: &str) -> Whole {
    send(client, path, body, &[]).await.rest().await
}

fn last(world: &World) -> Call {
    world.vendor.posts().pop().expect("the vendor was called")
}

fn a_call() -> Output {
    Output::Call {
        name: "get_weather".to_owned(),
        arguments: "{\"city\":\"Zürich\"}".to_owned(),
    }
}

/// Every address of both wires, with a body for it.
fn addresses() -> Vec<(&'static str, String)> {
    vec![
        (MESSAGES, ask_messages(false)),
        (MESSAGES, ask_messages(true)),
        ("/v1/messages?beta=true", ask_messages(true)),
        ("/v1beta/models/test-model:generateContent", ask_gemini()),
        ("/v1/models/test-model:generateContent", ask_gemini()),
        (EVENTS, ask_gemini()),
        (ARRAY, ask_gemini()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn both_wires_pass_byte_for_byte_and_are_billed_as_the_vendor_bills() {
    let world = world().await;
    let scripts = || {
        [
            Script::message("Grüß Gott, \"finishReason\" }] \n and so on. "),
            Script::turn(vec![Output::Text(vec!["First. ".to_owned()]), a_call()]),
            Script::deltas(40, 30).write_size(7),
            Script::message("half a sentence ").ending(Ending::Incomplete("max_tokens")),
        ]
    };
    for (way, client) in ways(&world) {
        for (path, body) in addresses() {
            for script in scripts() {
                world.vendor.next(script);
                let answer = post(&client, path, &body).await;
                let call = last(&world);
                assert_eq!(
                    (answer.status.as_u16(), &answer.cut),
                    (200, &None),
                    "{way} {path}: {}",
                    answer.text()
                );
                assert!(answer.body == call.sent.bytes(), "{way} {path}: {}", answer.text());
                assert!(call.body == body.as_bytes(), "{way} {path}");
                let asked = match &call.query {
                    Some(query) => format!("{}?{query}", call.path),
                    None => call.path.clone(),
                };
                assert_eq!(asked, path, "{way}");
                let key = if path.contains("/models/") {
                    "x-goog-api-key"
                } else {
                    "x-api-key"
                };
                assert_eq!(call.headers[key], VENDOR_SECRET, "{way} {path}");
                assert!(call.headers.get("authorization").is_none(), "{way} {path}");
                assert_eq!(call.headers["anthropic-version"], "2023-06-01");
                let id = answer.headers["relay-call-id"].to_str().unwrap().to_owned();
                assert_eq!(id.len(), 32, "{way} {path}");
            }
        }
    }
    let rows = world.books().settled(addresses().len() * 8).await;
    let endings = |ending: &str| rows.iter().filter(|row| row.ending == ending).count();
    assert_eq!(endings("completed"), addresses().len() * 6);
    assert_eq!(endings("incomplete"), addresses().len() * 2);
    assert!(
        rows.iter().all(|row| row.source.as_deref() == Some("reported")),
        "{rows:#?}"
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_renames_the_model_where_the_wire_has_it() {
    let setup = crate::Setup {
        hub_toml: "[aliases]\n\"my own\" = \"test-model\"".to_owned(),
        ..setup()
    };
    let world = setup.start().await;
    world.connect("anthropic").await;
    world.connect("gemini").await;
    let client = client(world.hub.http(), &world.key);
    let answer = post(&client, "/v1beta/models/my%20own:generateContent", &ask_gemini()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(last(&world).path, "/v1beta/models/test-model:generateContent");
    assert!(last(&world).body == ask_gemini().as_bytes());
    let body = ask_messages(false).replace(MODEL, "my own");
    assert_eq!(post(&client, MESSAGES, &body).await.status, 200);
    assert!(last(&world).body == ask_messages(false).as_bytes());
    let told = ["openai-model", "x-openai-model"];
    let script = told
        .iter()
        .fold(Script::message("hi"), |script, name| script.header(name, MODEL));
    world.vendor.next(script);
    let body = json!({"model": "my own", "messages": [{"role": "user", "content": "hi"}]});
    let answer = post(&client, "/v1/chat/completions", &body.to_string()).await;
    for name in told {
        assert_eq!(answer.headers[name], "my own", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_a_gemini_call_may_be_escaped_and_leads_nowhere_else() {
    let world = world().await;
    for (way, client) in ways(&world) {
        for escaped in [
            "/v1beta/models/test-model%3AgenerateContent",
            "/v1beta/models/test-model%3agenerateContent",
            "/v1beta/models/test%2Dmodel:generateContent",
            "/gemini/v1beta/models/test-model%3AgenerateContent",
        ] {
            let answer = post(&client, escaped, &ask_gemini()).await;
            assert_eq!(answer.status, 200, "{way} {escaped}: {}", answer.text());
            assert_eq!(last(&world).path, "/v1beta/models/test-model:generateContent");
        }
        let served = world.vendor.posts().len();
        for hostile in [
            "/v1beta/models/test-model%2f..%2f..%2fv1%2ffiles:generateContent",
            "/v1beta/models/%2e%2e%2ftest-model:generateContent",
            "/v1beta/models/%252e%252e%252ftest-model%3AgenerateContent",
            "/v1beta/models/..%2Fmodels%2Ftest-model:generateContent",
            "/v1beta/models/test-model%3FgenerateContent",
            "/v1beta/models/test-model%00:generateContent",
            "/v1beta/models/../models/test-model:generateContent",
            "/v1beta/../v1beta/models/test-model:generateContent",
            "/v1beta/models/test-model%253AgenerateContent",
        ] {
            let answer = post(&client, hostile, &ask_gemini()).await;
            assert!(
                matches!(answer.status.as_u16(), 404 | 405),
                "{way} {hostile}: {} {}",
                answer.status,
                answer.text()
            );
        }
        assert_eq!(world.vendor.posts().len(), served, "the vendor sees none of them");
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_output_holds_however_google_lets_it_be_spelled() {
    let world = world().await;
    let client = client(world.hub.http(), &world.key);
    let mut held = Vec::new();
    for config in [
        r#""generationConfig":{"maxOutputTokens":500}"#,
        r#""generationConfig":{"maxOutputTokens":"500"}"#,
        r#""generation_config":{"max_output_tokens":"500"}"#,
        r#""generation_config":{"max_output_tokens":500,"candidate_count":"1"}"#,
    ] {
        let body = format!(r#"{{"contents":[{{"parts":[{{"text":"x"}}]}}],{config}}}"#);
        let answer = post(&client, "/v1beta/models/test-model:generateContent", &body).await;
        assert_eq!(answer.status, 200, "{config}: {}", answer.text());
        assert!(last(&world).body == body.as_bytes(), "byte for byte: {config}");
        held.push(world.books().settled(held.len() + 1).await.pop().unwrap().held.unwrap());
    }
    // 500 tokens of output at 10 per million, and a few of input.
    assert!(
        held.iter().all(|held| (5_000_000..5_200_000).contains(held)),
        "{held:?}"
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_tokens_reaches_the_vendor_and_costs_nothing() {
    let world = world().await;
    let poor = world.hub.add_tenant("poor", "0.000000001").await;
    let poor = world.hub.add_key(&poor).await;
    for client in [
        client(world.hub.http(), &poor),
        client(world.agent.addr(), &world.agent.key),
    ] {
        for (path, name) in [
            ("/v1/messages/count_tokens", "input_tokens"),
            ("/v1beta/models/test-model:countTokens", "totalTokens"),
        ] {
            let body = if name == "totalTokens" {
                ask_gemini()
            } else {
                ask_messages(false)
            };
            let answer = post(&client, path, &body).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json()[name], 2_095);
            assert_eq!(last(&world).path, path);
        }
    }
    let rows = world.books().settled(4).await;
    for row in rows {
        assert_eq!((row.charged, row.ending.as_str(), row.usage), (0, "completed", None));
    }
    world.assert_sound().await;
}

/// Of 2,000 tokens of input 300 were read, 600 written for five minutes and 400 for an hour; two searches.
#[tokio::test(flavor = "multi_thread")]
async fn lifetimes_of_caches_searches_and_tiers_are_charged_by_their_own_prices() {
    let world = world().await;
    let list = "version = \"t\"\nsource = \"the tests\"\n[[model]]\nname = \"claude-t\"\ninput = \"3\"\ncached = \"0.3\"\n\
                cache_write = \"3.75\"\ncache_write_long = \"6\"\noutput = \"15\"\ncontext = 200000\nmax_output = 64000\n\
                [model.tools]\nweb_search = \"0.01\"\n[[model.service]]\ntier = \"priority\"\ntimes = \"2\"\n";
    let file = world.scratch().join("claude.toml");
    fs::write(&file, list).unwrap();
    let file = file.display().to_string();
    world
        .hub
        .command(&["price", "import", "--yes", &file])
        .await
        .succeeded();
    let usage = Usage {
        input: 2_000,
        cached: 300,
        output: 100,
        reasoning: 40,
    };
    let extra = |tier: &'static str| Extra {
        tier,
        tools: vec!["web_search_call"; 2],
        input_details: json!({"cache_write_tokens": 1_000, "cache_write_tokens_details": {"ttl_12h_tokens": 400}}),
        ..PLAIN.clone()
    };
    // 700 plain, 300 read, 600 and 400 written, 100 out, in billionths; the searches whatever the tier.
    let tokens = 700 * 3_000 + 300 * 300 + 600 * 3_750 + 400 * 6_000 + 100 * 15_000;
    let client = client(world.hub.http(), &world.key);
    for (tier, stream, cost) in [
        ("default", true, tokens + 20_000_000),
        ("default", false, tokens + 20_000_000),
        ("priority", true, 2 * tokens + 20_000_000),
    ] {
        let mut script = Script::message("Found it. ");
        script.usage = Some(usage);
        script.extra = extra(tier);
        world.vendor.next(script);
        let body = json!({"model": "claude-t", "max_tokens": 200, "stream": stream, "messages": [{"role": "user", "content": [
            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}],
            "tools": [{"type": "web_search_20250305", "name": "web_search"}]});
        let answer = post(&client, MESSAGES, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let rows = world.books().settled(world.vendor.posts().len()).await;
        let row = rows.last().unwrap();
        assert_eq!((row.usage, row.charged), (Some(usage), cost), "{tier}: {row:#?}");
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_taken_where_each_library_puts_them() {
    let world = world().await;
    for (addr, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
        let nobody = client(addr, "");
        for name in ["x-api-key", "x-goog-api-key"] {
            let answer = send(&nobody, MESSAGES, &ask_messages(false), &[(name, key)]).await;
            assert_eq!(answer.status, 200, "{name}");
        }
        let path = format!("{EVENTS}&key={key}&x=1");
        let answer = post(&nobody, &path, &ask_gemini()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let call = last(&world);
        assert_eq!(call.query.as_deref(), Some("alt=sse&x=1"));
        assert_eq!(call.headers["x-goog-api-key"], VENDOR_SECRET);
        assert_eq!(post(&nobody, EVENTS, &ask_gemini()).await.status, 401);
    }
    world.assert_billed_truly().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_an_address_is_in_no_log_no_table_and_no_error() {
    let setup = crate::Setup {
        log: "trace,h2=trace,hyper=trace,quinn=trace,rustls=trace,sqlx=trace",
        ..setup()
    };
    let world = setup.start().await;
    world.connect("gemini").await;
    let wrong = "rk_canarywrongkey00_canary-in-the-address-0123456789abcdefghijkl";
    let mut told = Vec::new();
    for (addr, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
        for key in [key.as_str(), wrong] {
            for path in [
                EVENTS,
                "/v1beta/models?pageSize=5",
                "/v1beta/nowhere?x=1",
                "/v1/messages?x=1",
            ] {
                told.push(
                    post(&client(addr, ""), &format!("{path}&key={key}"), &ask_gemini())
                        .await
                        .body,
                );
            }
        }
    }
    world.books().settled(2).await;
    let dump = world.books().dump().await;
    let logs = ["hub.log", "agent.log"].map(|name| fs::read(world.scratch().join(name)).unwrap());
    for canary in ["canary-in-the-address", &world.key, &world.agent.key] {
        assert!(!dump.contains(canary), "{canary} is in a table");
        for log in &logs {
            assert!(
                !log.is_empty() && !contains(log, canary.as_bytes()),
                "{canary} is in a log"
            );
        }
        assert!(
            told.iter().all(|body| !contains(body, canary.as_bytes())),
            "{canary} is in an answer"
        );
    }
    for call in world.vendor.calls() {
        assert!(!call.query.unwrap_or_default().contains("key="), "a vendor got it");
    }
}

/// What a refusal says: its kind, and its words.
fn said(wire: &str, answer: &Whole) -> (String, String) {
    let body = answer.json();
    let body = if body.is_array() { body[0].clone() } else { body };
    let kind = match wire {
        "messages" => &body["error"]["type"],
        _ => &body["error"]["status"],
    };
    if wire == "messages" {
        assert_eq!(body["type"], "error", "{body}");
        assert!(body["request_id"].is_string(), "{body}");
    } else {
        assert_eq!(body["error"]["code"], answer.status.as_u16(), "{body}");
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(kind), text(&body["error"]["message"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_in_the_client_s_own_words() {
    let world = world().await;
    let cases = [
        (MESSAGES, "{", 400, "messages", "invalid_request_error"),
        (
            MESSAGES,
            r#"{"model":"nothing-like-it"}"#,
            404,
            "messages",
            "not_found_error",
        ),
        (
            MESSAGES,
            r#"{"max_tokens":1}"#,
            400,
            "messages",
            "invalid_request_error",
        ),
        ("/v1/messages/batches", "{}", 404, "messages", "not_found_error"),
        (EVENTS, "[]", 400, "gemini", "INVALID_ARGUMENT"),
        (
            EVENTS,
            r#"{"generationConfig":{"candidateCount":0}}"#,
            400,
            "gemini",
            "INVALID_ARGUMENT",
        ),
        (
            "/v1beta/models/nothing-like-it:generateContent",
            "{}",
            404,
            "gemini",
            "NOT_FOUND",
        ),
        ("/v1beta/models/test-model:predict", "{}", 404, "gemini", "NOT_FOUND"),
        ("/v1beta/models", "{}", 405, "gemini", "INVALID_ARGUMENT"),
    ];
    for (way, client) in ways(&world) {
        for (path, body, status, wire, kind) in cases {
            let answer = post(&client, path, body).await;
            let (told, words) = said(wire, &answer);
            assert_eq!(
                (answer.status.as_u16(), told.as_str()),
                (status, kind),
                "{way} {path} {body}: {words}"
            );
            assert_eq!(answer.headers["relay-call-id"].len(), 32, "{way} {path}");
        }
    }
    let stranger = client(world.hub.http(), &format!("rk_0000000000000000_{}", "A".repeat(43)));
    for (path, wire, kind) in [
        (MESSAGES, "messages", "authentication_error"),
        (ARRAY, "gemini", "UNAUTHENTICATED"),
    ] {
        let answer = post(&stranger, path, "{}").await;
        assert_eq!((answer.status.as_u16(), said(wire, &answer).0.as_str()), (401, kind));
    }
    assert!(world.vendor.posts().is_empty(), "the vendor saw nothing of it");
    assert!(world.books().rows().await.iter().all(|row| row.charged == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_s_own_refusals_pass_as_they_are() {
    let world = world().await;
    let overloaded =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_v"});
    let exhausted = json!({"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}]}});
    for (way, client) in ways(&world) {
        let refused = Script::json(529, &overloaded).header("anthropic-ratelimit-requests-remaining", "0");
        world.vendor.next(refused);
        let answer = post(&client, MESSAGES, &ask_messages(true)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (529, overloaded.clone()),
            "{way}"
        );
        assert_eq!(answer.headers["anthropic-ratelimit-requests-remaining"], "0", "{way}");
        world.vendor.next(Script::json(429, &exhausted));
        let answer = post(&client, EVENTS, &ask_gemini()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (429, exhausted.clone()),
            "{way}"
        );
        assert_eq!(answer.headers["retry-after"], "37", "{way}");
    }
    assert!(world.books().settled(4).await.iter().all(|row| row.charged == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_vendor_breaks_off_ends_with_an_error_of_its_wire() {
    let world = world().await;
    let client = client(world.hub.http(), &world.key);
    let broken = || Script::deltas(20, 40).cut(1_500, Break::Fin);
    world.vendor.next(broken());
    let answer = post(&client, MESSAGES, &ask_messages(true)).await;
    let told = events(&answer.body).pop().unwrap();
    assert_eq!(
        (&told["type"], &told["error"]["type"]),
        (&json!("error"), &json!("api_error")),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("event: error\ndata: ") && answer.cut.is_none());

    world.vendor.next(broken());
    let answer = post(&client, EVENTS, &ask_gemini()).await;
    let told = events(&answer.body).pop().unwrap();
    assert_eq!(told["error"]["status"], "UNAVAILABLE", "{}", answer.text());

    world.vendor.next(broken());
    let answer = post(&client, ARRAY, &ask_gemini()).await;
    let elements: Vec<Value> = serde_json::from_slice(&answer.body).expect("one whole array");
    assert!(elements.len() > 1);
    assert_eq!(elements.last().unwrap()["error"]["status"], "UNAVAILABLE");

    let rows = world.books().settled(3).await;
    let charged = |row: usize| (rows[row].ending.as_str(), rows[row].charged > 0);
    assert_eq!(
        charged(0),
        ("vendor_cut", false),
        "Anthropic tells the usage at the end"
    );
    // Google tells it in every chunk.
    assert_eq!((charged(1), charged(2)), (("vendor_cut", true), ("vendor_cut", true)));
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_pays_for_the_input_as_told_and_the_output_that_came() {
    let world = world().await;
    let client = client(world.hub.http(), &world.key);
    for (path, body) in [
        (MESSAGES, ask_messages(true)),
        (EVENTS, ask_gemini()),
        (ARRAY, ask_gemini()),
    ] {
        let gate = Gate::new(9);
        world.vendor.next(Script::deltas(20, 40).gate(&gate));
        let mut answer = send(&client, path, &body, &[]).await;
        answer.until("3 xxx").await.unwrap();
        drop(answer);
        let rows = world.books().settled(world.vendor.posts().len()).await;
        let row = rows.last().unwrap();
        assert_eq!(row.ending, "client_gone", "{path}");
        let usage = row.usage.unwrap();
        assert_eq!(
            (usage.input, usage.cached),
            (1_200, 256),
            "{path}: the vendor's own count"
        );
        assert!(usage.output >= 3 && row.charged > 0, "{path}: {row:#?}");
        gate.release(100);
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_gemini_stream_waits_for_the_vendor_s_usage() {
    let world = world().await;
    let usage = r#"{"promptTokenCount":50,"candidatesTokenCount":8,"totalTokenCount":58}"#;
    let chunks = [
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"index":0}],"responseId":"g"}"#.to_owned(),
        r#"{"candidates":[{"content":{"parts":[{"text":"!"}]},"finishReason":"STOP","index":0}],"responseId":"g"}"#
            .to_owned(),
        format!(r#"{{"usageMetadata":{usage},"responseId":"g"}}"#),
    ];
    for (kind, path, written) in [
        (
            "text/event-stream",
            EVENTS,
            chunks.clone().map(|chunk| format!("data: {chunk}\r\n\r\n")),
        ),
        (
            "application/json",
            ARRAY,
            [
                format!("[{}", chunks[0]),
                format!(",\n{}", chunks[1]),
                format!(",\n{}]", chunks[2]),
            ],
        ),
    ] {
        let gate = Gate::new(2);
        let written = written.map(Bytes::from);
        world.vendor.next(
            Script::chunks(kind, written.to_vec())
                .gate(&gate)
                .linger(Duration::from_secs(30)),
        );
        let mut answer = send(&client(world.hub.http(), &world.key), path, &ask_gemini(), &[]).await;
        assert!(!contains(&answer.until("Hi").await.unwrap(), b"STOP"), "{path}");
        gate.release(1);
        // The vendor lingers: the end is not waited for long.
        answer.until("usageMetadata").await.unwrap();
        drop(answer);
        let rows = world.books().settled(world.vendor.posts().len()).await;
        let row = rows.last().unwrap();
        assert_eq!(
            (row.ending.as_str(), row.usage.map(|usage| usage.output)),
            ("completed", Some(8)),
            "{path}"
        );
    }
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_both_vendors_are_tested_by_a_call_that_costs_nothing() {
    let world = world().await;
    for (account, path, key) in [
        ("anthropic", "/v1/models", "x-api-key"),
        ("gemini", "/v1beta/models", "x-goog-api-key"),
    ] {
        let told = world.hub.json(&["account", "test", account]).await;
        assert_eq!(told["works"], true, "{told}");
        let call = world.vendor.calls().pop().unwrap();
        assert_eq!(
            (call.path.as_str(), call.headers[key].to_str().unwrap()),
            (path, VENDOR_SECRET)
        );
        assert_eq!(call.headers.contains_key("anthropic-version"), account == "anthropic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_in_the_client_s_own_shape() {
    let world = world().await;
    for (way, client) in ways(&world) {
        let request = client
            .request(Method::GET, "/v1/models")
            .header("anthropic-version", "2023-06-01");
        let answer = client
            .send(request.body(Full::default()).unwrap())
            .await
            .unwrap()
            .rest()
            .await;
        let list = answer.json();
        let data = list["data"].as_array().unwrap();
        assert!(
            data.iter()
                .any(|model| model["id"] == MODEL && model["type"] == "model"),
            "{way}: {list}"
        );
        assert_eq!(list["has_more"], false);
        let request = client
            .request(Method::GET, "/v1/models")
            .header("x-goog-api-client", "google-genai-sdk/3.4.0");
        let answer = client
            .send(request.body(Full::default()).unwrap())
            .await
            .unwrap()
            .rest()
            .await;
        assert!(answer.json()["models"].is_array(), "{way}: {}", answer.text());
        let list = client.get("/v1beta/models").await.unwrap().rest().await.json();
        let name = format!("models/{MODEL}");
        assert!(
            list["models"]
                .as_array()
                .unwrap()
                .iter()
                .any(|model| model["name"] == name),
            "{way}: {list}"
        );
        let list = client.get("/v1/models").await.unwrap().rest().await.json();
        assert_eq!(list["object"], "list", "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_model_is_told_as_the_list_has_it() {
    let world = world().await;
    let own = format!("/v1/models/{MODEL}");
    let google = format!("/v1beta/models/{MODEL}");
    let doors = [
        (&own, None, "id", MODEL.to_owned()),
        (
            &own,
            Some(("anthropic-version", "2023-06-01")),
            "display_name",
            MODEL.to_owned(),
        ),
        (&google, None, "name", format!("models/{MODEL}")),
    ];
    for (way, client) in ways(&world) {
        for (path, header, key, value) in &doors {
            let mut request = client.request(Method::GET, path);
            if let Some((name, value)) = header {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::default()).unwrap();
            let answer = client.send(request).await.unwrap().rest().await;
            assert_eq!(answer.status, 200, "{way} {path}: {}", answer.text());
            assert_eq!(answer.json()[key], *value, "{way} {path}: {}", answer.text());
        }
        let answer = client.get("/v1/models/nothing-like-it").await.unwrap().rest().await;
        assert_eq!(answer.status, 404, "{way}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "model_not_found", "{way}");
    }
    assert_eq!(world.vendor.posts().len(), 0, "the hub answers by itself");
    world.assert_sound().await;
}
