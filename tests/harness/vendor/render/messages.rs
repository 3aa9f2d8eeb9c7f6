//! Writes a turn as Anthropic writes it: Messages events, and the message as one JSON body. Pure.

use serde_json::{Value, json};

use super::{Event, THOUGHT, Turn, signature};
use crate::vendor::script::{Ending, Extra, Output, Usage};

/// The events of a turn, in the order Anthropic sends them.
pub(in crate::vendor) fn events(turn: &Turn<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut push = |name: &'static str, fields: Value| {
        let fields = fields.to_string();
        let data = format!(r#"{{"type":"{name}",{}"#, fields.get(1..).unwrap_or_default());
        events.push(Event { name, data });
    };
    let mut opening = message(turn, &[], Value::Null);
    if let Some(usage) = turn.usage {
        opening["usage"] = of_input(usage, turn.extra);
        opening["usage"]["output_tokens"] = json!(1);
    }
    push("message_start", json!({"message": opening}));
    push("ping", json!({"more": null}));
    let thoughts = usize::from(turn.extra.thinks());
    if turn.extra.thinks() {
        let [opening, thought, sign] = [
            json!({"index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
            json!({"index": 0, "delta": {"type": "thinking_delta", "thinking": THOUGHT}}),
            json!({"index": 0, "delta": {"type": "signature_delta", "signature": signature(turn.id)}}),
        ];
        push("content_block_start", opening);
        push("content_block_delta", thought);
        push("content_block_delta", sign);
        push("content_block_stop", json!({"index": 0}));
    }
    for (index, output) in turn.output.iter().enumerate() {
        let index = index + thoughts;
        let mut block = block(turn.id, index, output);
        let delta = |delta: Value| json!({"index": index, "delta": delta});
        match output {
            Output::Text(deltas) => {
                block["text"] = json!("");
                push("content_block_start", json!({"index": index, "content_block": block}));
                for text in deltas {
                    push(
                        "content_block_delta",
                        delta(json!({"type": "text_delta", "text": text})),
                    );
                }
            }
            Output::Call { arguments, .. } => {
                block["input"] = json!({});
                push("content_block_start", json!({"index": index, "content_block": block}));
                push(
                    "content_block_delta",
                    delta(json!({"type": "input_json_delta", "partial_json": ""})),
                );
                let part = json!({"type": "input_json_delta", "partial_json": arguments});
                push("content_block_delta", delta(part));
            }
        }
        push("content_block_stop", json!({"index": index}));
    }
    match turn.ending {
        Ending::Missing => {}
        Ending::Failed(code, message) => {
            push(
                "error",
                json!({"error": {"type": code, "message": message}, "request_id": turn.id}),
            );
        }
        Ending::Completed | Ending::Incomplete(_) => {
            let delta = json!({"stop_reason": stop_reason(turn), "stop_sequence": null});
            let mut closing = json!({"delta": delta});
            if let Some(usage) = turn.usage {
                closing["usage"] = of_output(usage, turn.extra);
            }
            push("message_delta", closing);
            events.push(Event {
                name: "message_stop",
                data: r#"{"type":"message_stop"}"#.to_owned(),
            });
        }
    }
    events
}

/// The message as one JSON body.
pub(in crate::vendor) fn body(turn: &Turn<'_>) -> Value {
    let thought = json!({"type": "thinking", "thinking": THOUGHT, "signature": signature(turn.id)});
    let said = turn.output.iter().enumerate();
    let said = said.map(|(index, output)| block(turn.id, index, output));
    let thought = turn.extra.thinks().then_some(thought);
    let blocks: Vec<Value> = thought.into_iter().chain(said).collect();
    let mut body = message(turn, &blocks, json!(stop_reason(turn)));
    if let Some(usage) = turn.usage {
        body["usage"] = of_input(usage, turn.extra);
        let output = of_output(usage, turn.extra);
        for (name, value) in output.as_object().into_iter().flatten() {
            body["usage"][name] = value.clone();
        }
    }
    body
}

fn message(turn: &Turn<'_>, blocks: &[Value], stop_reason: Value) -> Value {
    json!({
        "id": turn.id, "type": "message", "role": "assistant", "model": turn.model, "content": blocks,
        "stop_reason": stop_reason, "stop_sequence": null,
    })
}

fn block(id: &str, index: usize, output: &Output) -> Value {
    match output {
        Output::Text(deltas) => json!({"type": "text", "text": deltas.concat()}),
        Output::Call { name, arguments } => {
            let input: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({"type": "tool_use", "id": format!("toolu_{id}_{index}"), "name": name, "input": input})
        }
    }
}

fn stop_reason(turn: &Turn<'_>) -> &'static str {
    match (turn.ending, turn.output.last()) {
        (Ending::Incomplete(reason), _) => reason,
        (_, Some(Output::Call { .. })) => "tool_use",
        _ => "end_turn",
    }
}

/// The side of the input. What is written to a cache, and for an hour, stands among the details of the input.
fn of_input(usage: Usage, extra: &Extra) -> Value {
    if let Some(nonsense) = &extra.nonsense {
        return nonsense.clone();
    }
    let written = extra.input_details["cache_write_tokens"].as_u64().unwrap_or(0);
    let long = extra.input_details["cache_write_tokens_details"]["ttl_12h_tokens"].as_u64();
    let long = long.unwrap_or(0);
    json!({
        "input_tokens": usage.input - usage.cached - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": written - long, "ephemeral_1h_input_tokens": long},
        "service_tier": if extra.tier == "default" { "standard" } else { extra.tier },
    })
}

fn of_output(usage: Usage, extra: &Extra) -> Value {
    if let Some(nonsense) = &extra.nonsense {
        return nonsense.clone();
    }
    let mut output = json!({
        "output_tokens": usage.output, "output_tokens_details": {"thinking_tokens": usage.reasoning},
    });
    let searches = extra.tools.iter().filter(|kind| **kind == "web_search_call").count();
    if searches > 0 {
        output["server_tool_use"] = json!({"web_search_requests": searches});
    }
    output
}
