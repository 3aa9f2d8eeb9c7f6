//! The OpenAPI document of the table.

use relay_protocol::Wire;
use serde_json::{Map, Value, json};

use super::table::{Operation, operations};

/// OpenAPI 3.1.
pub(super) fn made() -> Value {
    let mut paths = Map::new();
    for operation in operations() {
        let methods = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        methods[operation.method.to_lowercase()] = described(&operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "codex-relay",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            "description": ABOUT,
        },
        "servers": [
            {
                "url": "https://{host}",
                "description": "relay-hub's public entrance, with an API key or an app token",
                "variables": {"host": {"default": "relay.example.com:8444"}},
            },
            {
                "url": "https://{host}/api/{project}",
                "description": "The same for a project, whose name stands on each call's row",
                "variables": {
                    "host": {"default": "relay.example.com:8444"},
                    "project": {"default": "web", "description": "1 to 64 of a-z, 0-9 and -"},
                },
            },
            {"url": "http://127.0.0.1:8787", "description": "relay-agent on this machine, with its local key"},
        ],
        "security": [
            {"bearer": []}, {"x-api-key": []}, {"api-key": []}, {"x-goog-api-key": []}, {"key": []},
        ],
        "tags": [
            {"name": "OpenAI", "description": "Also under `/openai`; with `/v1` in front or without."},
            {"name": "Anthropic", "description": "Also under `/claude`."},
            {"name": "Gemini", "description": "Also under `/gemini`, and with `/v1` for `/v1beta`."},
            {"name": "Relay", "description": "The relay's own."},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
                "x-goog-api-key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
                "key": {"type": "apiKey", "in": "query", "name": "key"},
            },
            "headers": {"relay-call-id": {
                "description": "By this id a call is found again: `relay-hub usage show ID`.",
                "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            }},
            "responses": {
                "OpenAiError": refusal("OpenAiError"),
                "AnthropicError": refusal("AnthropicError"),
                "GeminiError": refusal("GeminiError"),
            },
            "schemas": {
                "OpenAiError": object(&[("error", object(&[("message", text()), ("type", text()), ("code", text())]))]),
                "AnthropicError": object(&[
                    ("type", text()),
                    ("error", object(&[("type", text()), ("message", text())])),
                    ("request_id", text()),
                ]),
                "GeminiError": object(&[("error", object(&[
                    ("code", json!({"type": "integer"})), ("message", text()), ("status", text()),
                ]))]),
            },
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": responses(operation),
    });
    let mut parameters = Vec::new();
    if operation.path.contains("{model}") {
        parameters.push(json!({"name": "model", "in": "path", "required": true, "schema": text()}));
    }
    if let Some((name, value)) = operation.query.and_then(|query| query.split_once('=')) {
        parameters.push(json!({"name": name, "in": "query", "schema": {"type": "string", "enum": [value]}}));
        described["x-query"] = json!(operation.query);
    }
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if !operation.bodies.is_empty() {
        let examples = operation.bodies.iter();
        let examples: Map<_, _> = examples
            .map(|(name, body)| ((*name).to_owned(), json!({"value": body})))
            .collect();
        described["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": {"type": "object"}, "examples": examples}},
        });
    }
    if operation.errors.is_none() {
        described["security"] = json!([]);
    }
    if operation.is_of_hub {
        described["x-entrance"] = json!("hub");
    }
    described
}

fn responses(operation: &Operation) -> Value {
    let members = operation.answer.iter();
    let properties: Map<_, _> = members.clone().map(|name| ((*name).to_owned(), json!({}))).collect();
    let required: Vec<_> = members.collect();
    let content: Map<_, _> = operation
        .kinds
        .iter()
        .map(|kind| {
            let schema = match *kind {
                "application/json" => json!({"type": "object", "required": required, "properties": properties}),
                _ => text(),
            };
            ((*kind).to_owned(), json!({"schema": schema}))
        })
        .collect();
    let mut responses = json!({"200": {"description": "The vendor's answer, unchanged", "content": content}});
    if operation.tag == "Relay" || operation.method == "GET" {
        responses["200"]["description"] = "The relay's answer".into();
    }
    let Some(wire) = operation.errors else {
        return responses;
    };
    if operation.tag != "Relay" {
        responses["200"]["headers"] = json!({"relay-call-id": {"$ref": "#/components/headers/relay-call-id"}});
    }
    let named = match wire {
        Wire::Responses | Wire::Chat => "OpenAiError",
        Wire::Messages => "AnthropicError",
        Wire::Gemini => "GeminiError",
    };
    let codes: &[u16] = match (operation.method, wire) {
        ("GET", _) => &[400, 401, 403, 405, 429, 500, 503],
        (_, Wire::Messages) => &[
            400, 401, 402, 403, 404, 405, 409, 413, 422, 429, 431, 500, 502, 503, 504, 529,
        ],
        _ => &[400, 401, 403, 404, 405, 409, 413, 422, 429, 431, 500, 502, 503, 504],
    };
    for code in codes {
        responses[code.to_string()] = json!({"$ref": format!("#/components/responses/{named}")});
    }
    responses
}

fn refusal(schema: &str) -> Value {
    json!({
        "description": "A refusal of the relay's, or the vendor's own error",
        "headers": {"relay-call-id": {"$ref": "#/components/headers/relay-call-id"}},
        "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}},
    })
}

fn object(members: &[(&str, Value)]) -> Value {
    let names: Vec<_> = members.iter().map(|(name, _)| *name).collect();
    let properties: Map<_, _> = members
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({"type": "object", "required": names, "properties": properties})
}

fn text() -> Value {
    json!({"type": "string"})
}

const ABOUT: &str = "The public endpoints of codex-relay. Requests and answers are those of the vendors, passed unchanged: what \
    their bodies may hold stands in the vendors' own references. Errors come in the dialect of the path. Each path is also served \
    behind `/api/{project}`, and behind `/openai`, `/claude` or `/gemini`; docs/wires.md says how.";
