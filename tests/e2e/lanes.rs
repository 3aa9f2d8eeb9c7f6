//! A client is served by a vendor that speaks another wire: what it asked arrives, the answer is one of its own wire, and
//! the bill is the vendor's, to the token.

mod documents;

use std::time::Duration;

use http_body_util::Full;
use relay_protocol::{LANES, Lane, VendorWire, Wire};
use relay_tests::{
    client::{Client, Whole},
    vendor::{Break, Ending, Output, Script, Usage, bedrock::KEY},
    world::{Setup, World},
};
use serde_json::{Value, json};

use crate::{MODEL, bedrock, events, setup};

/// A world whose only account is at a vendor that speaks `wire` and no other.
async fn of_wire(wire: &str, setup: Setup) -> (World, Client) {
    let world = setup.start().await;
    let base = world.vendor.base_url();
    let secret = world.scratch().join("secret-of-the-other");
    std::fs::write(&secret, "sk-other").unwrap();
    let secret = secret.display().to_string();
    world.hub.command(&["account", "remove", "main"]).await;
    let add = ["account", "add", "other", "--vendor", "compatible", "--wires", wire];
    let add = [&add[..], &["--base-url", &base, "--secret-file", &secret]].concat();
    world.hub.command(&add).await.succeeded();
    world.look().await;
    let client = world.through_hub();
    (world, client)
}

fn tools(is_chat: bool) -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    if is_chat {
        json!([{"type": "function", "function": {"name": "get_weather", "parameters": schema}}])
    } else {
        json!([{"type": "function", "name": "get_weather", "parameters": schema}])
    }
}

fn ask_responses(stream: bool) -> String {
    json!({"model": MODEL, "instructions": "Be brief.", "input": "Say something.", "stream": stream,
        "max_output_tokens": 500, "tools": tools(false), "store": true})
    .to_string()
}

fn ask_chat(stream: bool) -> String {
    json!({"model": MODEL, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say something."}],
        "stream": stream, "stream_options": {"include_usage": true}, "max_completion_tokens": 500, "tools": tools(true), "seed": 1})
    .to_string()
}

async fn post(client: &Client, path: &str, body: String) -> Whole {
    client.post(path, body).await.unwrap().rest().await
}

/// The whole answer, of a stream what its end tells.
fn response(answer: &Whole, stream: bool) -> Value {
    if !stream {
        return answer.json();
    }
    let all = events(&answer.body);
    let last = all.last().expect("an answer has events");
    assert!(last["type"].as_str().unwrap().starts_with("response."), "{last}");
    last["response"].clone()
}

/// The texts and the calls of an answer on the chat wire.
fn said(answer: &Whole, stream: bool) -> (String, String) {
    let messages: Vec<Value> = if stream {
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
        events(&answer.body)
            .iter()
            .map(|chunk| chunk["choices"][0]["delta"].clone())
            .collect()
    } else {
        vec![answer.json()["choices"][0]["message"].clone()]
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = messages.iter().map(|message| text(&message["content"])).collect();
    let calls = messages
        .iter()
        .map(|message| text(&message["tool_calls"][0]["function"]["arguments"]))
        .collect();
    (texts, calls)
}

const USAGE: Usage = Usage {
    input: 4_321,
    cached: 1_000,
    output: 77,
    reasoning: 5,
};

fn an_answer() -> Script {
    let text = Output::Text(vec!["Grüß ".to_owned(), "\"Gott\" ".to_owned()]);
    let call = Output::Call {
        name: "get_weather".to_owned(),
        arguments: "{\"city\":\"Zürich\"}".to_owned(),
    };
    Script::turn(vec![text, call]).usage(USAGE).write_size(11)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_responses_is_served_by_a_vendor_of_chat() {
    let (world, client) = of_wire("chat", setup()).await;
    world.vendor.otherwise(an_answer());
    let agent = world.through_agent();
    for (client, stream) in [(&client, false), (&client, true), (&agent, false), (&agent, true)] {
        let answer = post(client, "/responses", ask_responses(stream)).await;
        assert_eq!((answer.status.as_u16(), &answer.cut), (200, &None), "{}", answer.text());
        assert_eq!(answer.headers["relay-dropped"], "store");
        let response = response(&answer, stream);
        assert_eq!(
            (&response["status"], &response["model"]),
            (&json!("completed"), &json!(MODEL))
        );
        assert_eq!(response["output"][0]["content"][0]["text"], "Grüß \"Gott\" ");
        assert_eq!(response["output"][1]["arguments"], "{\"city\":\"Zürich\"}");
        assert_eq!(response["usage"]["input_tokens"], USAGE.input);
        assert_eq!(response["usage"]["input_tokens_details"]["cached_tokens"], USAGE.cached);
        assert_eq!(response["usage"]["output_tokens"], USAGE.output);

        let call = world.vendor.posts().pop().unwrap();
        assert_eq!(call.path, "/v1/chat/completions");
        assert_eq!(call.headers["authorization"], "Bearer sk-other");
        let asked: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            asked["messages"],
            json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say something."}])
        );
        assert_eq!((&asked["tools"], &asked["max_tokens"]), (&tools(true), &json!(500)));
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_chat_is_served_by_a_vendor_of_responses() {
    let (world, client) = of_wire("responses", setup()).await;
    world.vendor.otherwise(an_answer());
    for stream in [false, true] {
        let answer = post(&client, "/chat/completions", ask_chat(stream)).await;
        assert_eq!((answer.status.as_u16(), &answer.cut), (200, &None), "{}", answer.text());
        assert_eq!(answer.headers["relay-dropped"], "seed");
        let (text, arguments) = said(&answer, stream);
        assert_eq!(
            (text.as_str(), arguments.as_str()),
            ("Grüß \"Gott\" ", "{\"city\":\"Zürich\"}")
        );
        let told = if stream {
            events(&answer.body).pop().unwrap()
        } else {
            answer.json()
        };
        assert_eq!(
            (&told["usage"]["prompt_tokens"], &told["model"]),
            (&json!(USAGE.input), &json!(MODEL))
        );

        let call = world.vendor.posts().pop().unwrap();
        assert_eq!(call.path, "/v1/responses");
        let asked: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            (&asked["max_output_tokens"], &asked["store"]),
            (&json!(500), &json!(false))
        );
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vendor_cannot_be_told_is_refused_before_it_is_called() {
    let (world, client) = of_wire("responses", setup()).await;
    let body =
        json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}], "n": 2, "stop": ["END"]}).to_string();
    let answer = post(&client, "/chat/completions", body).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("`n`, `stop`"), "{}", answer.text());
    let answer = post(
        &client,
        "/responses/compact",
        json!({"model": MODEL, "input": "x"}).to_string(),
    )
    .await;
    assert_eq!(answer.status, 200, "its own wire has it: {}", answer.text());
    assert_eq!(world.vendor.posts().len(), 1);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_refused_after_its_hold_is_one_call_in_the_books() {
    let (world, client) = of_wire("responses", setup()).await;
    let chat = |more: Value| {
        let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let elsewhere = client
        .request(http::Method::POST, "/chat/completions")
        .header("x-relay-region", "nowhere")
        .body(Full::new(chat(json!({})).into()))
        .unwrap();
    let untold = post(&client, "/chat/completions", chat(json!({"n": 2}))).await;
    let elsewhere = client.send(elsewhere).await.unwrap().rest().await;
    world.hub.command(&["account", "remove", "other"]).await.succeeded();
    world.look().await;
    let nobody = post(&client, "/chat/completions", chat(json!({}))).await;
    assert_eq!(
        [untold.status, elsewhere.status, nobody.status].map(|status| status.as_u16()),
        [400, 400, 503]
    );
    let rows = world.books().settled(3).await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.status, row.ending.as_str(), row.charged, row.held.is_some()))
        .collect();
    assert_eq!(
        told,
        [
            (400, "refused:invalid_request", 0, true),
            (400, "refused:invalid_request", 0, true),
            (503, "refused:server_is_overloaded", 0, true)
        ],
        "{rows:#?}"
    );
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_refusal_is_told_in_the_clients_words() {
    let (world, client) = of_wire("chat", setup()).await;
    let limited = Script::error(429, "requests", Some("rate_limit_exceeded"), "Slow down.").header("retry-after", "7");
    world.vendor.next(limited);
    let answer = post(&client, "/responses", ask_responses(true)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error_code().as_str()),
        (429, "rate_limit_exceeded")
    );
    assert_eq!(answer.headers["retry-after"], "7");
    world.vendor.next(Script::error(
        401,
        "invalid_request_error",
        Some("invalid_api_key"),
        "Incorrect API key: sk-other",
    ));
    let answer = post(&client, "/responses", ask_responses(false)).await;
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("sk-other"), "{}", answer.text());
    let long = "This model's maximum context length is 8192 tokens.";
    world.vendor.next(Script::error(
        400,
        "invalid_request_error",
        Some("context_length_exceeded"),
        long,
    ));
    let answer = post(&client, "/responses", ask_responses(true)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error_code().as_str()),
        (400, "context_length_exceeded")
    );
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_ends_in_the_clients_words() {
    let (world, client) = of_wire("chat", setup()).await;
    for script in [
        Script::deltas(40, 30).cut(2_000, Break::Reset),
        Script::deltas(40, 30).ending(Ending::Missing),
    ] {
        world.vendor.next(script);
        let answer = post(&client, "/responses", ask_responses(true)).await;
        let all = events(&answer.body);
        assert_eq!(
            all.last().map(|event| event["type"].clone()),
            Some(json!("response.failed")),
            "{}",
            answer.text()
        );
        assert_eq!(
            all.iter()
                .filter(|event| event["type"] == "response.output_text.done")
                .count(),
            1
        );
    }
    world
        .vendor
        .next(Script::message("too long ").ending(Ending::Incomplete("length")));
    let answer = post(&client, "/responses", ask_responses(true)).await;
    let last = response(&answer, true);
    assert_eq!(last["incomplete_details"]["reason"], "max_output_tokens", "{last}");
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_translated_stream_arrives_before_the_next_is_sent() {
    let (world, client) = of_wire("chat", setup()).await;
    let gate = relay_tests::vendor::Gate::new(2);
    world.vendor.next(Script::message("one two three ").gate(&gate));
    let mut live = client.post("/responses", ask_responses(true)).await.unwrap();
    for word in ["one ", "two ", "three "] {
        let needle = format!("\"delta\":\"{word}\"");
        let read = live.until(&needle);
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .expect("it is not held back")
            .unwrap();
        gate.release(1);
    }
    gate.release(100);
    let rest = live.rest().await;
    assert!(rest.text().contains("response.completed"), "{}", rest.text());
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_translated_call_goes_on_at_another_account_of_the_same_vendor() {
    let (world, client) = of_wire("chat", setup()).await;
    let base = world.vendor.base_url();
    let secret = world.scratch().join("secret-of-the-other").display().to_string();
    let add = ["account", "add", "third", "--vendor", "compatible", "--wires", "chat"];
    let add = [&add[..], &["--base-url", &base, "--secret-file", &secret]].concat();
    world.hub.command(&add).await.succeeded();
    world.look().await;
    let failing = json!({"error": {"message": "Failing.", "type": "server_error"}});
    for stream in [false, true] {
        // The one that failed rests for a while.
        for name in ["other", "third"] {
            world.hub.command(&["account", "revive", name]).await.succeeded();
        }
        world.look().await;
        world.vendor.next(Script::json(500, &failing));
        world.vendor.next(Script::message("It went on. "));
        let before = world.vendor.posts().len();
        let answer = post(&client, "/responses", ask_responses(stream)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            response(&answer, stream)["output"][0]["content"][0]["text"],
            "It went on. "
        );
        let posts = world.vendor.posts().split_off(before);
        assert_eq!(posts.len(), 2);
        assert!(posts[0].body == posts[1].body, "the same request");
    }
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

/// A call of a tool, as a client keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Called {
    id: String,
    name: String,
    arguments: Value,
}

/// The first question of a tool round on this wire, and the second, which has the call and what it gave.
pub(crate) fn round(client: Wire, stream: bool, called: Option<&Called>) -> (String, Value) {
    let schema = json!({"type": "object", "properties": {"cmd": {"type": "string"}}});
    let path = match client {
        Wire::Responses => "/v1/responses".to_owned(),
        Wire::Chat => "/v1/chat/completions".to_owned(),
        Wire::Messages => "/v1/messages".to_owned(),
        Wire::Gemini if stream => format!("/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"),
        Wire::Gemini => format!("/v1beta/models/{MODEL}:generateContent"),
    };
    let (tool, mut said) = match client {
        Wire::Responses => (
            json!({"type": "function", "name": "exec_command", "parameters": schema}),
            vec![json!({"role": "user", "content": "Do it."})],
        ),
        Wire::Chat => (
            json!({"type": "function", "function": {"name": "exec_command", "parameters": schema}}),
            vec![json!({"role": "user", "content": "Do it."})],
        ),
        Wire::Messages => (
            json!({"name": "exec_command", "input_schema": schema}),
            vec![json!({"role": "user", "content": "Do it."})],
        ),
        Wire::Gemini => (
            json!({"functionDeclarations": [{"name": "exec_command", "parameters": schema}]}),
            vec![json!({"role": "user", "parts": [{"text": "Do it."}]})],
        ),
    };
    if let Some(Called { id, name, arguments }) = called {
        said.extend(match client {
            Wire::Responses => [
                json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments.to_string()}),
                json!({"type": "function_call_output", "call_id": id, "output": "done"}),
            ],
            Wire::Chat => [
                json!({"role": "assistant", "tool_calls": [{"id": id, "type": "function",
                    "function": {"name": name, "arguments": arguments.to_string()}}]}),
                json!({"role": "tool", "tool_call_id": id, "content": "done"}),
            ],
            Wire::Messages => [
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": name, "input": arguments}]}),
                json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "done"}]}),
            ],
            Wire::Gemini => [
                json!({"role": "model", "parts": [{"functionCall": {"name": name, "args": arguments}}]}),
                json!({"role": "user", "parts": [{"functionResponse": {"name": name, "response": {"output": "done"}}}]}),
            ],
        });
    }
    let body = match client {
        Wire::Responses => json!({"model": MODEL, "input": said, "tools": [tool], "stream": stream}),
        Wire::Chat => json!({"model": MODEL, "messages": said, "tools": [tool], "stream": stream}),
        Wire::Messages => {
            json!({"model": MODEL, "max_tokens": 500, "messages": said, "tools": [tool], "stream": stream})
        }
        Wire::Gemini => json!({"contents": said, "tools": [tool]}),
    };
    (path, body)
}

/// What an answer says on this wire: its text, and its last call.
fn told(client: Wire, answer: &Whole, stream: bool) -> (String, Option<Called>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let called = |id: &Value, name: &Value, arguments: Value| Called {
        id: text(id),
        name: text(name),
        arguments,
    };
    let parsed = |text: &str| serde_json::from_str(text).unwrap_or_default();
    let (mut words, mut call) = (String::new(), None);
    match client {
        Wire::Responses => {
            let response = response(answer, stream);
            for item in response["output"].as_array().into_iter().flatten() {
                words += &text(&item["content"][0]["text"]);
                if item["type"] == "function_call" {
                    call = Some(called(
                        &item["call_id"],
                        &item["name"],
                        parsed(&text(&item["arguments"])),
                    ));
                }
            }
        }
        Wire::Chat => {
            let (said, arguments) = said(answer, stream);
            words = said;
            let all = if stream {
                events(&answer.body)
            } else {
                vec![answer.json()]
            };
            let key = if stream { "delta" } else { "message" };
            let opened = all.iter().map(|chunk| &chunk["choices"][0][key]["tool_calls"][0]);
            if let Some(opened) = opened.into_iter().find(|opened| opened["id"].is_string()) {
                call = Some(called(&opened["id"], &opened["function"]["name"], parsed(&arguments)));
            }
        }
        Wire::Messages if stream => {
            let mut arguments = String::new();
            for event in events(&answer.body) {
                words += &text(&event["delta"]["text"]);
                arguments += &text(&event["delta"]["partial_json"]);
                let block = &event["content_block"];
                if block["type"] == "tool_use" {
                    call = Some(called(&block["id"], &block["name"], Value::Null));
                }
            }
            if let Some(call) = &mut call {
                call.arguments = parsed(&arguments);
            }
        }
        Wire::Messages => {
            for block in answer.json()["content"].as_array().into_iter().flatten() {
                words += &text(&block["text"]);
                if block["type"] == "tool_use" {
                    call = Some(called(&block["id"], &block["name"], block["input"].clone()));
                }
            }
        }
        Wire::Gemini => {
            let chunks = if stream {
                events(&answer.body)
            } else {
                vec![answer.json()]
            };
            for chunk in chunks {
                for part in chunk["candidates"][0]["content"]["parts"]
                    .as_array()
                    .into_iter()
                    .flatten()
                {
                    words += &text(&part["text"]);
                    let function = &part["functionCall"];
                    if function.is_object() {
                        call = Some(called(&function["id"], &function["name"], function["args"].clone()));
                    }
                }
            }
        }
    }
    (words, call)
}

/// A world whose only account is at a vendor that speaks this wire, where all of the tests' models are.
pub(crate) async fn at(vendor: VendorWire, setup: Setup) -> World {
    let kind = match vendor {
        VendorWire::Responses => return of_wire("responses", setup).await.0,
        VendorWire::Chat => return of_wire("chat", setup).await.0,
        VendorWire::Messages => "anthropic",
        VendorWire::Gemini => "gemini",
        VendorWire::Converse => "bedrock",
    };
    let world = setup.start().await;
    world.hub.command(&["account", "remove", "main"]).await.succeeded();
    if kind == "bedrock" {
        world.vendor.guard(KEY.verifier());
        bedrock::add(&world, KEY).await;
        world.look().await;
    } else {
        world.connect(kind).await;
    }
    world
}

/// Every cell of the table that is translated: a tool round, whole and streamed, with the same outcome for each client, and
/// the vendor's own bill.
#[tokio::test(flavor = "multi_thread")]
async fn every_lane_carries_a_tool_round_and_is_billed_as_its_vendor_bills() {
    for (vendor, cells) in &LANES {
        let clients: Vec<_> = cells
            .iter()
            .filter(|(_, lane)| matches!(lane, Some(Lane::Translate(_))))
            .collect();
        if clients.is_empty() {
            continue;
        }
        let world = at(*vendor, setup()).await;
        let client = Client::new(&format!("http://{}", world.hub.http()), &world.key);
        world.vendor.otherwise(Script::tool_round("ls", "It is done. "));
        for (wire, _) in clients {
            for stream in [false, true] {
                let pair = format!("{wire:?} to {vendor:?}, streamed: {stream}");
                let (path, body) = round(*wire, stream, None);
                let first = post(&client, &path, body.to_string()).await;
                assert_eq!(
                    (first.status.as_u16(), &first.cut),
                    (200, &None),
                    "{pair}: {}",
                    first.text()
                );
                let (_, call) = told(*wire, &first, stream);
                let call = call.unwrap_or_else(|| panic!("{pair}: {}", first.text()));
                assert_eq!(
                    (call.name.as_str(), &call.arguments["cmd"]),
                    ("exec_command", &json!("ls")),
                    "{pair}"
                );
                let (path, body) = round(*wire, stream, Some(&call));
                let second = post(&client, &path, body.to_string()).await;
                let (text, call) = told(*wire, &second, stream);
                assert_eq!(
                    (text.as_str(), call),
                    ("It is done. ", None),
                    "{pair}: {}",
                    second.text()
                );
            }
        }
        world.assert_billed_truly().await;
        world.assert_sound().await;
    }
}

/// The id of an answer where its client's library looks for it: by it the call is found again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_its_id_where_its_client_looks_for_it_and_no_other_wire_s() {
    for vendor in [VendorWire::Chat, VendorWire::Messages] {
        let world = at(vendor, setup()).await;
        let ways = [
            Client::new(&format!("http://{}", world.hub.http()), &world.key),
            Client::new(&format!("http://{}", world.agent.addr()), &world.agent.key),
        ];
        let mut ids = Vec::new();
        let wires = [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini];
        for (client, wire) in ways.iter().flat_map(|client| wires.map(|wire| (client, wire))) {
            let (place, elsewhere) = match wire {
                Wire::Messages => ("request-id", "x-request-id"),
                Wire::Responses | Wire::Chat | Wire::Gemini => ("x-request-id", "request-id"),
            };
            for stream in [false, true] {
                let (path, body) = round(wire, stream, None);
                let limited = Script::error(429, "requests", Some("rate_limit_exceeded"), "Slow down.");
                for mut script in [Script::message("Hello. "), limited] {
                    if vendor == VendorWire::Messages {
                        script = script.header("request-id", &format!("req_{}", ids.len()));
                    }
                    world.vendor.next(script);
                    let answer = post(client, &path, body.to_string()).await;
                    let told = |name: &str| answer.headers.get(name).map(|id| id.to_str().unwrap().to_owned());
                    let (id, call) = (told(place).unwrap(), told("relay-call-id").unwrap());
                    let pair = format!("{wire:?} of {vendor:?}: {}", answer.status);
                    if vendor.of_clients() == Some(wire) {
                        assert!(id.starts_with("req_"), "the vendor's own: {pair}");
                    } else {
                        assert_eq!(id, call, "{pair}");
                        assert!(told(elsewhere).is_none_or(|id| id == call), "{pair}");
                    }
                    ids.push((call, id));
                }
            }
        }
        world.books().settled(ids.len()).await;
        for (call, id) in &ids {
            let shown = world.hub.json(&["usage", "show", id]).await;
            let found: Vec<_> = shown.as_array().unwrap().iter().map(|found| &found["call"]).collect();
            assert_eq!(found, [&json!(call)], "{id}");
        }
    }
}

/// The same words in the wires that have a count of tokens, and what the answer calls it.
fn counts(model: &str) -> [(String, Value, &'static str); 2] {
    let said = "tiktoken is great!";
    let tool = json!({"type": "object"});
    [
        (
            "/v1/messages/count_tokens".to_owned(),
            json!({"model": model, "messages": [{"role": "user", "content": said}],
                "tools": [{"name": "f", "input_schema": tool}]}),
            "input_tokens",
        ),
        (
            format!("/v1beta/models/{model}:countTokens"),
            json!({"contents": [{"role": "user", "parts": [{"text": said}]}],
                "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": tool}]}]}),
            "totalTokens",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_for_a_client_of_any_wire_whoever_its_vendor_is() {
    for vendor in VendorWire::ALL {
        let setup = Setup {
            models: vec![MODEL.to_owned(), "gpt-4o".to_owned()],
            ..setup()
        };
        let world = at(vendor, setup).await;
        let poor = world.hub.add_tenant("poor", "0.000000001").await;
        let poor = world.hub.add_key(&poor).await;
        let direct = Client::new(&format!("http://{}", world.hub.http()), &poor);
        let agent = Client::new(&format!("http://{}", world.agent.addr()), &world.agent.key);
        world.look().await;
        let mut counted = 0;
        for model in [MODEL, "gpt-4o"] {
            for (path, body, name) in counts(model) {
                let own = match name {
                    "input_tokens" => VendorWire::Messages,
                    _ => VendorWire::Gemini,
                };
                if vendor == own {
                    continue;
                }
                for client in [&direct, &agent] {
                    let answer = post(client, &path, body.to_string()).await;
                    assert_eq!(answer.status, 200, "{vendor:?} {path}: {}", answer.text());
                    assert_eq!(answer.headers["relay-estimated"], name, "{vendor:?}");
                    assert_eq!(answer.headers["content-type"], "application/json");
                    // 18 + 1 bytes of text, 1 + 1 of a name, 17 + 1 of a schema: a token for four bytes, or as GPT-4o
                    // reads them, six of them the text alone; and a message's four.
                    let words = if model == MODEL { 10 } else { 13 };
                    assert_eq!(answer.json(), json!({name: words + 4}), "{vendor:?} {model}");
                    counted += 1;
                }
            }
        }
        let (path, _, _) = &counts(MODEL)[usize::from(vendor == VendorWire::Messages)];
        let answer = post(
            &direct,
            path,
            json!({"model": MODEL, "messages": 7, "contents": 7}).to_string(),
        )
        .await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(world.vendor.posts().is_empty(), "the vendor is not asked");
        let mut rows = world.books().settled(counted + 1).await;
        let refused = rows.pop().unwrap();
        assert_eq!(
            (refused.charged, refused.ending.as_str()),
            (0, "refused:invalid_request")
        );
        for row in rows {
            assert_eq!((row.charged, row.ending.as_str(), row.usage), (0, "completed", None));
            assert_eq!(row.status, 200);
        }
        world.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_shortened_for_codex_whoever_its_vendor_is() {
    for vendor in VendorWire::ALL
        .into_iter()
        .filter(|vendor| *vendor != VendorWire::Responses)
    {
        let world = at(vendor, setup()).await;
        let direct = Client::new(&format!("http://{}/v1", world.hub.http()), &world.key);
        for client in [&direct, &world.through_agent()] {
            let user = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Find the marmalade."}]});
            let input = json!([user,
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look in the pantry."}]},
                {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "Two jars."}]);
            let tools = json!([{"type": "function", "name": "look", "parameters": {"type": "object"}}]);
            let body = json!({"model": MODEL, "instructions": "Be brief.", "input": input, "tools": tools, "parallel_tool_calls": true});
            world.vendor.next(Script::message("Two jars were found. ").usage(USAGE));
            let answer = post(client, "/responses/compact", body.to_string()).await;
            assert_eq!(answer.status, 200, "{vendor:?}: {}", answer.text());
            let compacted = answer.json();
            assert_eq!(compacted["object"], "response.compaction", "{vendor:?}");
            let output = compacted["output"].as_array().unwrap();
            assert_eq!(
                (output.len(), &output[0], &output[1]["type"]),
                (2, &user, &json!("compaction"))
            );
            assert_eq!(compacted["usage"]["output_tokens"], USAGE.output);
            let asked = String::from_utf8(world.vendor.posts().pop().unwrap().body.to_vec()).unwrap();
            assert!(
                asked.contains("Summarise this conversation") && asked.contains("Two jars."),
                "{asked}"
            );

            let mut next = compacted["output"].clone();
            next[1]["type"] = json!("compaction_summary");
            world.vendor.next(Script::message("They are on the shelf. "));
            let answer = post(client, "/responses", json!({"model": MODEL, "input": next}).to_string()).await;
            assert_eq!(answer.status, 200, "{vendor:?}: {}", answer.text());
            let asked = String::from_utf8(world.vendor.posts().pop().unwrap().body.to_vec()).unwrap();
            assert!(
                asked.contains("Find the marmalade.") && asked.contains("Two jars were found."),
                "{asked}"
            );
            assert!(!asked.contains("in the pantry"), "{asked}");
        }
        let rows = world.books().settled(4).await;
        assert!(
            rows.iter()
                .any(|row| row.endpoint == "/v1/responses/compact" && row.charged > 0)
        );
        world.assert_billed_truly().await;
        world.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_gemini_that_asks_for_no_events_is_served_an_array() {
    let (world, _) = of_wire("chat", setup()).await;
    world.vendor.otherwise(Script::message("Grüezi mitenand."));
    let client = Client::new(&format!("http://{}", world.hub.http()), &world.key);
    let path = format!("/v1beta/models/{MODEL}:streamGenerateContent");
    let body = json!({"contents": [{"parts": [{"text": "hi"}]}]}).to_string();
    let answer = client.post(&path, body.clone()).await.unwrap().rest().await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let chunks = answer.json();
    let texts = chunks.as_array().unwrap().iter();
    let text: String = texts
        .filter_map(|chunk| chunk["candidates"][0]["content"]["parts"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "Grüezi mitenand.");
    let answer = client
        .post(&format!("{path}?alt=sse"), body)
        .await
        .unwrap()
        .rest()
        .await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
}
