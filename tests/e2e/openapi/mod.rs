//! The OpenAPI document and the Postman collection: made from the table of endpoints, and true of a running hub. With
//! `RELAY_WRITE_DOCS` set the files are written; without, they must be as they would be.

mod document;
mod postman;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use relay_tests::client::{Client, Whole};
use relay_tests::vendor::Script;
use relay_tests::world::World;
use serde_json::{Value, json};

use crate::{MODEL, setup};

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// The file is what is made now, or becomes it.
fn assert_written(name: &str, made: &Value) {
    let text = format!("{made:#}\n");
    if std::env::var_os("RELAY_WRITE_DOCS").is_some() {
        std::fs::write(docs(name), &text).unwrap();
    }
    let kept = std::fs::read_to_string(docs(name)).unwrap_or_default();
    assert!(
        kept == text,
        "docs/{name} is not what is made: run the test with RELAY_WRITE_DOCS=1"
    );
}

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(docs(name)).unwrap()).unwrap()
}

#[test]
fn the_files_are_what_is_made_from_the_table_of_endpoints() {
    let document = document::made();
    assert_written("openapi.json", &document);
    assert_written("postman.json", &postman::made(&document));
}

/// A hub with an account of each vendor, and a code that may be redeemed.
async fn world() -> (World, String) {
    let world = setup().start().await;
    world.connect("anthropic").await;
    world.connect("gemini").await;
    let code = world.hub.json(&["code", "create", "--amount", "1"]).await;
    let code = code[0]["code"].as_str().unwrap().to_owned();
    (world, code)
}

/// An example as it can be sent here: with this hub's model, and a code that is good.
fn filled(text: &str, code: &str) -> String {
    let text = table::MODELS
        .iter()
        .fold(text.to_owned(), |text, model| text.replace(model, MODEL));
    text.replace(table::CODE, code)
}

/// Has the vendor answer the next call to this path, where it does not know how to by itself.
fn prepare(world: &World, path: &str) {
    let usage = json!({"prompt_tokens": 3, "total_tokens": 3});
    let vector = json!({"object": "embedding", "index": 0, "embedding": [0.5]});
    world.vendor.otherwise(match path {
        path if path.ends_with("/embeddings") => Script::json(
            200,
            &json!({"object": "list", "data": [vector], "model": MODEL, "usage": usage}),
        ),
        path if path.ends_with(":embedContent") => Script::json(200, &json!({"embedding": {"values": [0.5]}})),
        path if path.ends_with(":batchEmbedContents") => Script::json(200, &json!({"embeddings": [{"values": [0.5]}]})),
        _ => Script::message("Hello."),
    });
}

async fn send(client: &Client, method: &str, path: &str, headers: &[(String, String)], body: &str) -> Whole {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let mut request = client.request(method, path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    client.send(request).await.unwrap().rest().await
}

/// One operation of the document, as a client would read it.
struct Documented {
    method: String,
    path: String,
    operation: Value,
}

fn operations(document: &Value) -> Vec<Documented> {
    let paths = document["paths"].as_object().unwrap();
    let each = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().clone();
        let path = path.clone();
        methods.into_iter().map(move |(method, operation)| Documented {
            method,
            path: path.clone(),
            operation,
        })
    };
    paths.iter().flat_map(each).collect()
}

/// The members that the document promises of an answer in JSON are there.
fn assert_has(document: &Value, schema: &Value, answer: &Value, what: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        assert!(!answer[name].is_null(), "{what}: no {name} in {answer}");
        assert_has(document, &schema["properties"][name], &answer[name], what);
    }
}

/// The answer is one of those that the document has for this operation.
fn assert_documented(document: &Value, documented: &Documented, answer: &Whole) {
    let what = format!("{} {} {}", documented.method, documented.path, answer.status);
    let status = answer.status.as_u16().to_string();
    let response = &documented.operation["responses"][&status];
    let response = match response["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).unwrap(),
        None => response,
    };
    assert!(response.is_object(), "{what}: {}", answer.text());
    let kind = answer.headers["content-type"].to_str().unwrap();
    let kind = kind.split(';').next().unwrap();
    let content = &response["content"][kind];
    assert!(content.is_object(), "{what}: {kind}");
    if kind == "application/json" {
        assert_has(document, &content["schema"], &answer.json(), &what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_call_is_answered_as_the_document_says() {
    let document = read("openapi.json");
    let (world, code) = world().await;
    let hub = format!("http://{}", world.hub.http());
    let agent = format!("http://{}", world.agent.addr());
    let mut seen = BTreeMap::new();
    for (base, key) in [(&hub, &world.key), (&agent, &world.agent.key)] {
        let client = Client::new(base, key);
        let stranger = Client::new(base, "");
        for documented in operations(&document) {
            let operation = &documented.operation;
            if *base == agent && operation["x-entrance"] == "hub" {
                continue;
            }
            let path = documented.path.replace("{model}", MODEL);
            let query = operation["x-query"]
                .as_str()
                .map_or(String::new(), |query| format!("?{query}"));
            let sent = operation.pointer("/requestBody/content/application~1json/examples");
            let sent: Vec<_> = sent.and_then(Value::as_object).into_iter().flatten().collect();
            let bodies: Vec<String> = match sent.as_slice() {
                [] => vec![String::new()],
                examples => examples
                    .iter()
                    .map(|(_, example)| example["value"].to_string())
                    .collect(),
            };
            let json = [("content-type".to_owned(), "application/json".to_owned())];
            let target = format!("{path}{query}");
            for body in bodies {
                prepare(&world, &path);
                let answer = send(&client, &documented.method, &target, &json, &filled(&body, &code)).await;
                assert_eq!(answer.status, 200, "{} {target}: {}", documented.method, answer.text());
                assert_documented(&document, &documented, &answer);
                *seen.entry(documented.path.clone()).or_insert(0) += 1;
                if operation["security"] == json!([]) {
                    continue;
                }
                let names_call = operation["responses"]["200"]["headers"]["relay-call-id"].is_object();
                assert_eq!(answer.headers.contains_key("relay-call-id"), names_call, "{target}");
                let refused = send(&stranger, &documented.method, &target, &json, &body).await;
                assert_eq!(refused.status, 401, "{target}: {}", refused.text());
                assert_documented(&document, &documented, &refused);
            }
            if documented.method == "post" {
                let refused = send(&client, "post", &target, &json, "{").await;
                assert_eq!(refused.status, 400, "{target}: {}", refused.text());
                assert_documented(&document, &documented, &refused);
                let unknown = target.replace(MODEL, "nothing-like-it");
                let body = r#"{"model":"nothing-like-it"}"#;
                let refused = send(&client, "post", &unknown, &json, body).await;
                assert_documented(&document, &documented, &refused);
            }
        }
    }
    assert_eq!(seen.len(), document["paths"].as_object().unwrap().len());
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_collection_is_answered() {
    let collection = read("postman.json");
    let (world, code) = world().await;
    let base = format!("http://{}", world.hub.http());
    let client = Client::new(&base, "");
    let value = |text: &str| {
        let text = text.replace("{{base_url}}", "").replace("{{api_key}}", &world.key);
        text.replace("{{model}}", MODEL).replace("{{code}}", &code)
    };
    assert_eq!(collection["auth"]["type"], "bearer");
    let bearer = value(collection["auth"]["bearer"][0]["value"].as_str().unwrap());
    let folders = collection["item"].as_array().unwrap();
    let requests: Vec<_> = folders
        .iter()
        .flat_map(|folder| folder["item"].as_array().unwrap())
        .collect();
    assert!(requests.len() >= table::operations().len());
    for item in requests {
        let request = &item["request"];
        let target = value(request["url"]["raw"].as_str().unwrap());
        let named = request["header"].as_array().unwrap().iter();
        let text = |part: &Value| value(part.as_str().unwrap());
        let mut headers: Vec<_> = named
            .map(|header| (text(&header["key"]), text(&header["value"])))
            .collect();
        headers.push(("authorization".to_owned(), format!("Bearer {bearer}")));
        prepare(&world, target.split('?').next().unwrap());
        let body = value(request["body"]["raw"].as_str().unwrap_or_default());
        let answer = send(&client, request["method"].as_str().unwrap(), &target, &headers, &body).await;
        assert_eq!(answer.status, 200, "{}: {}", item["name"], answer.text());
    }
    world.assert_sound().await;
}
