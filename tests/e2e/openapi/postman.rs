//! The Postman collection (format 2.1) of an OpenAPI document: a folder for each tag, a request for each example.

use serde_json::{Value, json};

use super::table::{CODE, MODELS};

pub(super) fn made(document: &Value) -> Value {
    let tags = document["tags"].as_array().unwrap();
    let folders: Vec<_> = tags.iter().map(|tag| folder(document, tag)).collect();
    json!({
        "info": {
            "name": document["info"]["title"],
            "description": document["info"]["description"],
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{api_key}}", "type": "string"}]},
        "variable": [
            {"key": "base_url", "value": "http://127.0.0.1:8787"},
            {"key": "api_key", "value": ""},
            {"key": "model", "value": "gpt-5-mini"},
            {"key": "code", "value": ""},
        ],
        "item": folders,
    })
}

fn folder(document: &Value, tag: &Value) -> Value {
    let mut items = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["tags"][0] == tag["name"] {
                items.extend(requests(path, method, operation));
            }
        }
    }
    json!({"name": tag["name"], "description": tag["description"], "item": items})
}

fn requests(path: &str, method: &str, operation: &Value) -> Vec<Value> {
    let path = path.replace("{model}", "{{model}}");
    let query = operation["x-query"]
        .as_str()
        .map_or(String::new(), |query| format!("?{query}"));
    let summary = operation["summary"].as_str().unwrap();
    let request = |name: String, body: Option<&Value>| {
        let mut request = json!({
            "method": method.to_uppercase(),
            "header": [],
            "url": {"raw": format!("{{{{base_url}}}}{path}{query}")},
        });
        if let Some(body) = body {
            request["header"] = json!([{"key": "content-type", "value": "application/json"}]);
            let raw = MODELS
                .iter()
                .fold(format!("{body:#}"), |raw, model| raw.replace(model, "{{model}}"));
            let raw = raw.replace(CODE, "{{code}}");
            request["body"] = json!({"mode": "raw", "raw": raw, "options": {"raw": {"language": "json"}}});
        }
        json!({"name": name, "request": request})
    };
    let examples = operation.pointer("/requestBody/content/application~1json/examples");
    match examples.and_then(Value::as_object) {
        None => vec![request(summary.to_owned(), None)],
        Some(examples) => {
            let each = examples.iter();
            each.map(|(name, example)| request(format!("{summary} ({name})"), Some(&example["value"])))
                .collect()
        }
    }
}
