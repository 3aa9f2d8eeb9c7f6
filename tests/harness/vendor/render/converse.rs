//! Writes a turn as Bedrock's Converse tells it: events under the names of their frames, and the answer as one JSON body.
//! Pure.

use serde_json::{Value, json};

use super::Turn;
use crate::vendor::script::{Ending, Output, Usage};

/// The events of a turn: what each frame is called, and what it carries.
pub(in crate::vendor) fn events(turn: &Turn<'_>) -> Vec<(&'static str, Value)> {
    let mut events = vec![("messageStart", json!({"role": "assistant", "p": "abc"}))];
    for (index, output) in turn.output.iter().enumerate() {
        let mut delta = |delta: Value| {
            events.push((
                "contentBlockDelta",
                json!({"contentBlockIndex": index, "delta": delta, "p": "abcdef"}),
            ));
        };
        match output {
            Output::Text(deltas) => deltas.iter().for_each(|text| delta(json!({"text": text}))),
            Output::Call { name, arguments } => {
                let (first, rest) = arguments.split_at(1);
                let called = json!({"toolUse": {"toolUseId": format!("tooluse_{index}"), "name": name}});
                let start = json!({"contentBlockIndex": index, "start": called});
                for part in [first, rest] {
                    delta(json!({"toolUse": {"input": part}}));
                }
                let at = events.len() - 2;
                events.insert(at, ("contentBlockStart", start));
            }
        }
        events.push(("contentBlockStop", json!({"contentBlockIndex": index})));
    }
    match turn.ending {
        Ending::Missing => {}
        Ending::Failed(code, message) => events.push((*code, json!({"message": message}))),
        Ending::Completed | Ending::Incomplete(_) => {
            events.push(("messageStop", json!({"stopReason": stop_reason(turn)})));
            let told = turn.usage.map(usage);
            events.push(("metadata", json!({"usage": told, "metrics": {"latencyMs": 7}})));
        }
    }
    events
}

/// The answer as one JSON body.
pub(in crate::vendor) fn body(turn: &Turn<'_>) -> Value {
    let blocks = turn.output.iter().enumerate().map(|(index, output)| match output {
        Output::Text(deltas) => json!({"text": deltas.concat()}),
        Output::Call { name, arguments } => {
            let input: Value = serde_json::from_str(arguments).expect("arguments are JSON");
            json!({"toolUse": {"toolUseId": format!("tooluse_{index}"), "name": name, "input": input}})
        }
    });
    let content: Vec<Value> = blocks.collect();
    json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop_reason(turn), "usage": turn.usage.map(usage), "metrics": {"latencyMs": 7},
    })
}

fn stop_reason(turn: &Turn<'_>) -> &'static str {
    match (turn.ending, turn.output.last()) {
        (Ending::Incomplete(reason), _) => reason,
        (_, Some(Output::Call { .. })) => "tool_use",
        _ => "end_turn",
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "inputTokens": usage.input - usage.cached, "outputTokens": usage.output,
        "totalTokens": usage.input + usage.output, "cacheReadInputTokens": usage.cached, "cacheWriteInputTokens": 0,
    })
}
