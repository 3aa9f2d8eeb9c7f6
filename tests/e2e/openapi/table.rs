//! What is said of each endpoint. A new endpoint does not compile before something is said of it here.

use relay_protocol::{Endpoint, Wire};
use serde_json::{Value, json};

/// What stands for a model in the document, by vendor.
pub(super) const MODELS: [&str; 3] = [GPT, CLAUDE, GEMINI];
/// And for a code that is redeemed.
pub(super) const CODE: &str = "the-code-you-were-given";
const GPT: &str = "gpt-5-mini";
const CLAUDE: &str = "claude-sonnet-5-5";
const GEMINI: &str = "gemini-3.8-flash";

/// One call that the hub answers.
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) method: &'static str,
    /// With `{model}` where it has one.
    pub(super) path: String,
    pub(super) query: Option<&'static str>,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    /// Bodies, each by a name.
    pub(super) bodies: Vec<(&'static str, Value)>,
    /// Members that an answer in JSON always has.
    pub(super) answer: &'static [&'static str],
    /// The media types of an answer.
    pub(super) kinds: &'static [&'static str],
    /// The dialect of refusals; none where nothing is refused.
    pub(super) errors: Option<Wire>,
    /// It is answered by the hub alone, not by an agent.
    pub(super) is_of_hub: bool,
}

const WHOLE: &[&str] = &["application/json"];
const EVENTS: &[&str] = &["text/event-stream"];
const BOTH: &[&str] = &["application/json", "text/event-stream"];

pub(super) fn operations() -> Vec<Operation> {
    let mut all: Vec<_> = Endpoint::ALL.into_iter().map(of).collect();
    all.push(Operation {
        id: "unifiedChatCompletions",
        path: "/v1/unified/chat/completions".to_owned(),
        summary: "A chat with any model, whoever makes it: another spelling of /v1/chat/completions",
        ..of(Endpoint::ChatCompletions)
    });
    all.push(Operation {
        id: "model",
        path: "/v1/models/{model}".to_owned(),
        summary: "One model that the caller may use, in the form of the client's own vendor",
        answer: &["id"],
        ..of(Endpoint::Models)
    });
    all.push(Operation {
        id: "geminiModel",
        path: "/v1beta/models/{model}".to_owned(),
        summary: "Gemini: one model that the caller may use",
        answer: &["name"],
        ..of(Endpoint::GeminiModels)
    });
    all.push(Operation {
        id: "redeem",
        path: "/relay/redeem".to_owned(),
        tag: "Relay",
        summary: "Redeem a code for credit",
        bodies: vec![("a code", json!({"code": CODE}))],
        answer: &["credited", "balance"],
        errors: Some(Wire::Responses),
        is_of_hub: true,
        ..plain("POST")
    });
    all.push(Operation {
        id: "health",
        path: "/healthz".to_owned(),
        tag: "Relay",
        summary: "Whether the hub takes calls; needs no key",
        answer: &["status"],
        is_of_hub: true,
        ..plain("GET")
    });
    all
}

fn plain(method: &'static str) -> Operation {
    Operation {
        id: "",
        method,
        path: String::new(),
        query: None,
        tag: "",
        summary: "",
        bodies: Vec::new(),
        answer: &[],
        kinds: WHOLE,
        errors: None,
        is_of_hub: false,
    }
}

fn of(endpoint: Endpoint) -> Operation {
    let wire = endpoint.wire();
    let method = if endpoint.lists_models() { "GET" } else { "POST" };
    let said = match endpoint {
        Endpoint::Responses => Operation {
            id: "responses",
            summary: "OpenAI Responses: whole, as events, or as a WebSocket (GET with an upgrade)",
            bodies: vec![
                (
                    "whole",
                    json!({"model": GPT, "input": "Say hello.", "max_output_tokens": 100}),
                ),
                (
                    "as events",
                    json!({"model": GPT, "input": "Say hello.", "max_output_tokens": 100, "stream": true}),
                ),
            ],
            answer: &["id", "object", "output", "usage"],
            kinds: BOTH,
            ..plain(method)
        },
        Endpoint::Compact => Operation {
            id: "compact",
            summary: "A shorter history, for Codex",
            bodies: vec![(
                "a history",
                json!({"model": GPT, "input": [{"role": "user", "content": "Say hello."}]}),
            )],
            answer: &["output"],
            ..plain(method)
        },
        Endpoint::ChatCompletions => Operation {
            id: "chatCompletions",
            summary: "OpenAI Chat Completions: whole or as events",
            bodies: vec![("whole", chat(json!({}))), ("as events", chat(json!({"stream": true})))],
            answer: &["id", "object", "choices", "usage"],
            kinds: BOTH,
            ..plain(method)
        },
        Endpoint::Embeddings => Operation {
            id: "embeddings",
            summary: "Vectors of texts",
            bodies: vec![(
                "two texts",
                json!({"model": GPT, "input": ["The food was good.", "Was it?"]}),
            )],
            answer: &["object", "data", "usage"],
            ..plain(method)
        },
        Endpoint::Models => Operation {
            id: "models",
            summary: "The models that the caller may use, in the form of the client's own vendor",
            answer: &["object", "data"],
            ..plain(method)
        },
        Endpoint::Messages => Operation {
            id: "messages",
            summary: "Anthropic Messages: whole or as events",
            bodies: vec![
                ("whole", messages(json!({"max_tokens": 100}))),
                ("as events", messages(json!({"max_tokens": 100, "stream": true}))),
            ],
            answer: &["id", "type", "content", "usage"],
            kinds: BOTH,
            ..plain(method)
        },
        Endpoint::CountTokens => Operation {
            id: "countTokens",
            summary: "How many tokens the input of a message has; costs nothing",
            bodies: vec![("a message", messages(json!({})))],
            answer: &["input_tokens"],
            ..plain(method)
        },
        Endpoint::Generate => Operation {
            id: "generateContent",
            summary: "Gemini: a whole answer",
            bodies: vec![("a text", gemini())],
            answer: &["candidates", "usageMetadata"],
            ..plain(method)
        },
        Endpoint::StreamGenerate => Operation {
            id: "streamGenerateContent",
            summary: "Gemini: an answer as events; without `alt=sse` as one JSON array",
            query: Some("alt=sse"),
            bodies: vec![("a text", gemini())],
            kinds: EVENTS,
            ..plain(method)
        },
        Endpoint::CountGeminiTokens => Operation {
            id: "countGeminiTokens",
            summary: "Gemini: how many tokens an input has; costs nothing",
            bodies: vec![("a text", gemini())],
            answer: &["totalTokens"],
            ..plain(method)
        },
        Endpoint::EmbedContent => Operation {
            id: "embedContent",
            summary: "Gemini: the vector of a text",
            bodies: vec![(
                "a text",
                json!({"content": {"parts": [{"text": "The food was good."}]}}),
            )],
            answer: &["embedding"],
            ..plain(method)
        },
        Endpoint::BatchEmbedContents => Operation {
            id: "batchEmbedContents",
            summary: "Gemini: vectors of texts",
            bodies: vec![("a text", batch())],
            answer: &["embeddings"],
            ..plain(method)
        },
        Endpoint::GeminiModels => Operation {
            id: "geminiModels",
            summary: "Gemini: the models that the caller may use",
            answer: &["models"],
            ..plain(method)
        },
    };
    Operation {
        path: endpoint.path().replace('*', "{model}"),
        tag: match wire {
            Wire::Responses | Wire::Chat => "OpenAI",
            Wire::Messages => "Anthropic",
            Wire::Gemini => "Gemini",
        },
        errors: Some(wire),
        ..said
    }
}

fn chat(more: Value) -> Value {
    with(
        json!({"model": GPT, "messages": [{"role": "user", "content": "Say hello."}]}),
        more,
    )
}

fn messages(more: Value) -> Value {
    with(
        json!({"model": CLAUDE, "messages": [{"role": "user", "content": "Say hello."}]}),
        more,
    )
}

fn gemini() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]})
}

fn batch() -> Value {
    let content = json!({"parts": [{"text": "The food was good."}]});
    json!({"requests": [{"model": format!("models/{GEMINI}"), "content": content}]})
}

fn with(mut body: Value, mut more: Value) -> Value {
    body.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
    body
}
