//! Writes a turn as Google's Gemini API writes it: chunks, as events or as one array, and the answer as one body. Pure.

use serde_json::{Value, json};

use super::{THOUGHT, Turn, signature};
use crate::vendor::script::{Ending, Extra, Output, Usage};

/// The chunks of a turn. Each tells the usage so far; the last one the reason why the answer ended.
pub(in crate::vendor) fn chunks(turn: &Turn<'_>) -> Vec<Value> {
    let parts = signed(turn, turn.output.iter().flat_map(parts).collect());
    let so_far = |written: usize| {
        turn.usage.map(|usage| Usage {
            output: usage.output.min(written as u64),
            reasoning: 0,
            ..usage
        })
    };
    let mut chunks: Vec<Value> = parts
        .into_iter()
        .enumerate()
        .map(|(at, part)| chunk(turn, &[part], None, so_far(at)))
        .collect();
    match turn.ending {
        Ending::Completed => chunks.push(chunk(turn, &[json!({"text": ""})], Some("STOP"), turn.usage)),
        Ending::Incomplete(reason) => chunks.push(chunk(turn, &[json!({"text": ""})], Some(reason), turn.usage)),
        Ending::Failed(code, message) => {
            chunks.push(json!({"error": {"code": 503, "message": message, "status": code}}));
        }
        Ending::Missing => {}
    }
    chunks
}

/// The answer as one JSON body.
pub(in crate::vendor) fn body(turn: &Turn<'_>) -> Value {
    let parts = signed(turn, turn.output.iter().map(whole_part).collect());
    let reason = match turn.ending {
        Ending::Incomplete(reason) => reason,
        Ending::Completed | Ending::Failed(..) | Ending::Missing => "STOP",
    };
    chunk(turn, &parts, Some(reason), turn.usage)
}

/// The chunks as the body of a stream: events, or the pieces of one array.
pub(in crate::vendor) fn stream(chunks: &[Value], as_events: bool) -> Vec<String> {
    if as_events {
        return chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
    }
    let piece = |(at, chunk): (usize, &Value)| {
        let before = if at == 0 { "[" } else { ",\r\n" };
        let after = if at + 1 == chunks.len() { "\n]\n" } else { "\n" };
        format!("{before}{chunk:#}{after}")
    };
    chunks.iter().enumerate().map(piece).collect()
}

fn chunk(turn: &Turn<'_>, parts: &[Value], reason: Option<&str>, usage: Option<Usage>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    if let Some(reason) = reason {
        candidate["finishReason"] = json!(reason);
    }
    let mut chunk = json!({"candidates": [candidate], "modelVersion": turn.model, "responseId": turn.id});
    if let Some(usage) = usage {
        chunk["usageMetadata"] = metadata(usage, turn.extra);
    }
    chunk
}

/// The thought before them, if any; what proves it stands on the first of them.
fn signed(turn: &Turn<'_>, mut parts: Vec<Value>) -> Vec<Value> {
    if turn.extra.thinks() {
        if let Some(first) = parts.first_mut() {
            first["thoughtSignature"] = json!(signature(turn.id));
        }
        parts.insert(0, json!({"text": THOUGHT, "thought": true}));
    }
    parts
}

fn parts(output: &Output) -> Vec<Value> {
    match output {
        Output::Text(deltas) => deltas.iter().map(|text| json!({"text": text})).collect(),
        Output::Call { .. } => vec![whole_part(output)],
    }
}

fn whole_part(output: &Output) -> Value {
    match output {
        Output::Text(deltas) => json!({"text": deltas.concat()}),
        Output::Call { name, arguments } => {
            let args: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({"functionCall": {"name": name, "args": args}})
        }
    }
}

fn metadata(usage: Usage, extra: &Extra) -> Value {
    if let Some(nonsense) = &extra.nonsense {
        return nonsense.clone();
    }
    json!({
        "promptTokenCount": usage.input,
        "cachedContentTokenCount": usage.cached,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": usage.input.saturating_add(usage.output),
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
    })
}
