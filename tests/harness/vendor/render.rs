//! Writes a turn as OpenAI writes it: Responses events, chat chunks, and both as one JSON body.
//! Pure; knows no sockets.

pub(super) mod converse;
pub(super) mod gemini;
pub(super) mod messages;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::memory::SEALED;
use super::script::{Ending, Extra, Output, Usage};

/// A turn with all that varies from call to call decided.
pub(super) struct Turn<'a> {
    pub(super) id: &'a str,
    pub(super) model: &'a str,
    pub(super) output: &'a [Output],
    pub(super) usage: Option<Usage>,
    pub(super) extra: &'a Extra,
    pub(super) ending: &'a Ending,
}

/// One event: its type and its JSON text.
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) data: String,
}

/// Wraps an event as server-sent event.
pub(super) fn sse(event: &Event) -> String {
    format!("event: {}\ndata: {}\n\n", event.name, event.data)
}

const CREATED_AT: u64 = 1_795_000_000;

/// The Responses events of a turn, in the order OpenAI sends them.
pub(super) fn responses_events(turn: &Turn<'_>) -> Vec<Event> {
    let mut events = Sequence::default();
    let opening = response(turn, "in_progress", &[], None);
    events.push("response.created", json!({"response": opening}));
    events.push("response.in_progress", json!({"response": opening}));
    let mut done = Vec::new();
    for (index, kind) in turn.extra.tools.iter().enumerate() {
        let item = tool_item(turn.id, index, kind);
        events.push(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        );
        done.push(item);
    }
    for (index, output) in turn.output.iter().enumerate() {
        done.push(match output {
            Output::Text(deltas) => message_events(&mut events, turn.id, index, deltas),
            Output::Call { name, arguments } => call_events(&mut events, turn.id, index, name, arguments),
        });
    }
    match turn.ending {
        Ending::Completed => {
            events.push(
                "response.completed",
                json!({"response": response(turn, "completed", &done, turn.usage)}),
            );
        }
        Ending::Incomplete(reason) => {
            let mut closing = response(turn, "incomplete", &done, turn.usage);
            closing["incomplete_details"] = json!({"reason": reason});
            events.push("response.incomplete", json!({"response": closing}));
        }
        Ending::Failed(code, message) => {
            let mut closing = response(turn, "failed", &done, turn.usage);
            closing["error"] = json!({"code": code, "message": message});
            events.push("response.failed", json!({"response": closing}));
        }
        Ending::Missing => {}
    }
    events.0
}

/// The two events that answer a WebSocket warm-up.
pub(super) fn warm_up_events(turn: &Turn<'_>) -> Vec<Event> {
    let mut events = Sequence::default();
    events.push(
        "response.created",
        json!({"response": response(turn, "in_progress", &[], None)}),
    );
    events.push(
        "response.completed",
        json!({"response": response(turn, "completed", &[], turn.usage)}),
    );
    events.0
}

/// The Responses answer as one JSON body.
pub(super) fn responses_body(turn: &Turn<'_>) -> Value {
    let items: Vec<Value> = turn
        .output
        .iter()
        .enumerate()
        .map(|(at, item)| finished_item(turn.id, at, item))
        .chain(
            turn.extra
                .tools
                .iter()
                .enumerate()
                .map(|(at, kind)| tool_item(turn.id, at, kind)),
        )
        .collect();
    match turn.ending {
        Ending::Completed | Ending::Missing => response(turn, "completed", &items, turn.usage),
        Ending::Incomplete(reason) => {
            let mut body = response(turn, "incomplete", &items, turn.usage);
            body["incomplete_details"] = json!({"reason": reason});
            body
        }
        Ending::Failed(code, message) => {
            let mut body = response(turn, "failed", &items, turn.usage);
            body["error"] = json!({"code": code, "message": message});
            body
        }
    }
}

/// The answer of `/v1/responses/compact`.
pub(super) fn compact_body(turn: &Turn<'_>) -> Value {
    json!({
        "id": turn.id, "object": "response.compaction", "created_at": CREATED_AT,
        "output": [{"id": format!("cmp_{}", turn.id), "type": "compaction", "encrypted_content": "Z0FBQUFBQnBjb21wYWN0"}],
        "usage": turn.usage.map(|usage| responses_usage(usage, turn.extra)),
    })
}

/// The chunks of a streamed chat completion; the last is the usage chunk when it was asked for.
pub(super) fn chat_chunks(turn: &Turn<'_>, include_usage: bool) -> Vec<String> {
    let chunk = |choices: Value, usage: Option<Usage>| {
        let usage = match include_usage {
            true => format!(
                r#","usage":{}"#,
                usage.map_or(Value::Null, |usage| chat_usage(usage, turn.extra))
            ),
            false => String::new(),
        };
        format!(
            r#"{{"id":"{}","object":"chat.completion.chunk","created":{CREATED_AT},"model":{},"service_tier":"{}","system_fingerprint":"fp_c0de","choices":{choices}{usage}}}"#,
            turn.id,
            json!(turn.model),
            turn.extra.tier,
        )
    };
    let delta = |delta: Value, finish: Value| {
        chunk(
            json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]),
            None,
        )
    };
    let mut chunks = vec![delta(
        json!({"role": "assistant", "content": "", "refusal": null}),
        Value::Null,
    )];
    for (index, output) in turn.output.iter().enumerate() {
        match output {
            Output::Text(deltas) => {
                chunks.extend(deltas.iter().map(|text| delta(json!({"content": text}), Value::Null)))
            }
            Output::Call { name, arguments } => {
                let call = json!({"index": index, "id": format!("call_{}", turn.id), "type": "function",
                    "function": {"name": name, "arguments": ""}});
                chunks.push(delta(json!({"tool_calls": [call]}), Value::Null));
                let part = json!({"index": index, "function": {"arguments": arguments}});
                chunks.push(delta(json!({"tool_calls": [part]}), Value::Null));
            }
        }
    }
    if !matches!(turn.ending, Ending::Missing) {
        chunks.push(delta(json!({}), json!(finish_reason(turn))));
        if include_usage && turn.usage.is_some() {
            chunks.push(chunk(json!([]), turn.usage));
        }
        chunks.push("[DONE]".to_owned());
    }
    chunks
}

/// The chat completion as one JSON body.
pub(super) fn chat_body(turn: &Turn<'_>) -> Value {
    let mut message = json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
    for output in turn.output {
        match output {
            Output::Text(deltas) => message["content"] = json!(deltas.concat()),
            Output::Call { name, arguments } => {
                message["tool_calls"] = json!([{"id": format!("call_{}", turn.id), "type": "function",
                    "function": {"name": name, "arguments": arguments}}]);
            }
        }
    }
    let mut body = json!({
        "id": turn.id, "object": "chat.completion", "created": CREATED_AT, "model": turn.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(turn)}],
        "service_tier": turn.extra.tier, "system_fingerprint": "fp_c0de",
    });
    if let Some(usage) = turn.usage {
        body["usage"] = chat_usage(usage, turn.extra);
    }
    body
}

fn finish_reason(turn: &Turn<'_>) -> &'static str {
    match (turn.ending, turn.output.last()) {
        (Ending::Incomplete(_), _) => "length",
        (_, Some(Output::Call { .. })) => "tool_calls",
        _ => "stop",
    }
}

#[derive(Default)]
struct Sequence(Vec<Event>);

impl Sequence {
    /// Adds an event of this type with these fields; the sequence number is the vendor's.
    /// `type` comes first, as it does from OpenAI.
    fn push(&mut self, name: &'static str, fields: Value) {
        let number = self.0.len();
        let fields = fields.to_string();
        let data = format!(r#"{{"type":"{name}","sequence_number":{number},{}"#, &fields[1..]);
        self.0.push(Event { name, data });
    }
}

fn message_events(events: &mut Sequence, id: &str, index: usize, deltas: &[String]) -> Value {
    let item_id = format!("msg_{id}_{index}");
    let at = |more: Value| {
        merge(
            json!({"item_id": item_id, "output_index": index, "content_index": 0}),
            more,
        )
    };
    let empty = json!({"type": "output_text", "annotations": [], "logprobs": [], "text": ""});
    let opening =
        json!({"id": item_id, "type": "message", "status": "in_progress", "content": [], "role": "assistant"});
    events.push(
        "response.output_item.added",
        json!({"output_index": index, "item": opening}),
    );
    events.push("response.content_part.added", at(json!({"part": empty})));
    for delta in deltas {
        events.push(
            "response.output_text.delta",
            at(json!({"delta": delta, "logprobs": [], "obfuscation": "aZ3k"})),
        );
    }
    let text = deltas.concat();
    events.push("response.output_text.done", at(json!({"text": text, "logprobs": []})));
    let part = json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text});
    events.push("response.content_part.done", at(json!({"part": part})));
    let item = finished_item(id, index, &Output::Text(vec![text]));
    events.push(
        "response.output_item.done",
        json!({"output_index": index, "item": item}),
    );
    item
}

fn call_events(events: &mut Sequence, id: &str, index: usize, name: &str, arguments: &str) -> Value {
    let item = finished_item(
        id,
        index,
        &Output::Call {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        },
    );
    let mut opening = item.clone();
    opening["status"] = json!("in_progress");
    opening["arguments"] = json!("");
    let at = |more: Value| merge(json!({"item_id": item["id"], "output_index": index}), more);
    events.push(
        "response.output_item.added",
        json!({"output_index": index, "item": opening}),
    );
    events.push(
        "response.function_call_arguments.delta",
        at(json!({"delta": arguments, "obfuscation": "q9"})),
    );
    events.push(
        "response.function_call_arguments.done",
        at(json!({"arguments": arguments})),
    );
    events.push(
        "response.output_item.done",
        json!({"output_index": index, "item": item}),
    );
    item
}

fn finished_item(id: &str, index: usize, output: &Output) -> Value {
    match output {
        Output::Text(deltas) => json!({
            "id": format!("msg_{id}_{index}"), "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": deltas.concat()}],
        }),
        Output::Call { name, arguments } => json!({
            "id": format!("fc_{id}_{index}"), "type": "function_call", "status": "completed",
            "call_id": format!("call_{id}_{index}"), "name": name, "arguments": arguments,
        }),
    }
}

fn response(turn: &Turn<'_>, status: &str, output: &[Value], usage: Option<Usage>) -> Value {
    json!({
        "id": turn.id, "object": "response", "created_at": CREATED_AT, "status": status, "background": false,
        "error": null, "incomplete_details": null, "instructions": null, "max_output_tokens": null,
        "model": turn.model, "output": output, "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null}, "service_tier": turn.extra.tier, "store": false,
        "temperature": 1.0, "text": {"format": {"type": "text"}, "verbosity": "medium"}, "tool_choice": "auto",
        "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": usage.map(|usage| responses_usage(usage, turn.extra)), "user": null,
        "metadata": {},
    })
}

fn responses_usage(usage: Usage, extra: &Extra) -> Value {
    if let Some(nonsense) = &extra.nonsense {
        return nonsense.clone();
    }
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": merge(json!({"cached_tokens": usage.cached}), extra.input_details.clone()),
        "output_tokens": usage.output,
        "output_tokens_details": merge(json!({"reasoning_tokens": usage.reasoning}), extra.output_details.clone()),
        "total_tokens": usage.input.saturating_add(usage.output),
    })
}

fn chat_usage(usage: Usage, extra: &Extra) -> Value {
    if let Some(nonsense) = &extra.nonsense {
        return nonsense.clone();
    }
    let input = json!({"cached_tokens": usage.cached, "audio_tokens": 0});
    let output = json!({"reasoning_tokens": usage.reasoning, "audio_tokens": 0,
        "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0});
    json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output,
        "total_tokens": usage.input.saturating_add(usage.output),
        "prompt_tokens_details": merge(input, extra.input_details.clone()),
        "completion_tokens_details": merge(output, extra.output_details.clone()),
    })
}

/// What is shown of a thought.
const THOUGHT: &str = "The tool will tell.";

/// What proves the thought of the answer with this id, to the vendor that gave it.
pub fn signature(id: &str) -> String {
    STANDARD.encode(format!("{SEALED}{id}"))
}

/// An output item of one of the vendor's own tools, or its reasoning, which only it can read.
fn tool_item(id: &str, index: usize, kind: &str) -> Value {
    if kind == "reasoning" {
        return json!({"id": format!("rs_{id}_{index}"), "type": kind, "summary": [],
            "encrypted_content": format!("{SEALED}{id}")});
    }
    json!({"id": format!("tool_{id}_{index}"), "type": kind, "status": "completed", "action": {"type": "search"}})
}

fn merge(mut base: Value, mut more: Value) -> Value {
    if let (Some(base), Some(more)) = (base.as_object_mut(), more.as_object_mut()) {
        base.append(more);
    }
    base
}
