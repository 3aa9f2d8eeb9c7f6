use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::tap::{Shape, Tap, TapOptions};

/// What a vendor hides, so long that its end is not looked at.
fn locked(name: &str, len: usize) -> String {
    format!("gA+/{name}{}=", "x".repeat(len))
}

fn of(text: &str) -> Hidden {
    Hidden::of_vendor(text.as_bytes()).unwrap()
}

/// What is found in an answer, however it is cut.
fn in_answer(wire: VendorWire, shape: Shape, body: &str) -> Vec<Hidden> {
    let found = |size| {
        let mut tap = Tap::new(wire, shape, TapOptions::default()).finding_hidden(true);
        for chunk in body.as_bytes().chunks(size) {
            drop(tap.push(Bytes::copy_from_slice(chunk)));
        }
        drop(tap.end());
        tap.take_hidden()
    };
    let whole = found(usize::MAX);
    for size in [1, 7, 1_000, 40_000] {
        assert!(found(size) == whole, "cut into {size}");
    }
    let mut blind = Tap::new(wire, shape, TapOptions::default());
    drop(blind.push(Bytes::copy_from_slice(body.as_bytes())));
    assert!(blind.take_hidden().is_empty(), "it is looked for where it is asked for");
    whole
}

fn events(data: &[serde_json::Value]) -> String {
    data.iter().map(|data| format!("data: {data}\n\n")).collect()
}

#[test]
fn reasoning_of_responses_is_found_streamed_and_whole() {
    for len in [10, 300, 100_000] {
        let (one, two) = (locked("one", len), locked("two", len));
        let items = json!([
            {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": one},
            {"type": "message", "content": [{"type": "output_text", "text": "\"encrypted_content\":\"no\""}]},
            {"type": "compaction", "encrypted_content": two},
            {"type": "reasoning", "summary": [], "encrypted_content": null},
        ]);
        let mut stream = vec![json!({"type": "response.created", "response": {"id": "resp_1"}})];
        for item in items.as_array().unwrap() {
            // What is begun has no lock yet, or half of one.
            stream.push(json!({"type": "response.output_item.added", "item": {"encrypted_content": "half"}}));
            stream.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
        }
        let stream = events(&stream);
        assert!(
            in_answer(VendorWire::Responses, Shape::Events, &stream) == [of(&one), of(&two)],
            "{len}"
        );
        let whole = json!({"id": "resp_1", "output": items, "status": "completed"}).to_string();
        assert!(
            in_answer(VendorWire::Responses, Shape::Whole, &whole) == [of(&one), of(&two)],
            "{len}"
        );
        let request = json!({"model": "m", "input": items, "include": ["reasoning.encrypted_content"]}).to_string();
        assert!(
            Hidden::sent_back(Wire::Responses, request.as_bytes(), 9) == [of(&two), of(&one)],
            "{len}"
        );
        assert!(
            Hidden::sent_back(Wire::Responses, request.as_bytes(), 1) == [of(&two)],
            "the last one"
        );
    }
}

#[test]
fn signatures_of_messages_are_found_streamed_and_whole() {
    for len in [10, 300, 100_000] {
        let (sign, data) = (locked("sign", len), locked("data", len));
        let stream = events(&[
            json!({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "\"signature\":\"no\""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": sign}}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": data}}),
            json!({"type": "message_stop"}),
        ]);
        // The order in which Anthropic writes them.
        let whole = format!(
            r#"{{"id":"msg_1","type":"message","content":[{{"type":"thinking","thinking":"t","signature":"{sign}"}},{{"type":"redacted_thinking","data":"{data}"}},{{"type":"text","text":"x"}}],"stop_reason":"end_turn"}}"#
        );
        for (shape, body) in [(Shape::Events, &stream), (Shape::Whole, &whole)] {
            let found = in_answer(VendorWire::Messages, shape, body);
            assert!(found == [of(&sign), of(&data)], "{shape:?} {len}");
        }
        // A picture's data is nothing that the vendor hides, and a client may write members in any order.
        let request = format!(
            r#"{{"model":"m","messages":[{{"role":"assistant","content":[{{"signature":"{sign}","type":"thinking"}},
            {{"data" : "{data}","type" : "redacted_thinking"}}]}},
            {{"role":"user","content":[{{"type":"image","source":{{"type":"base64","data":"AAAA"}}}}]}}]}}"#
        );
        let found = Hidden::sent_back(Wire::Messages, request.as_bytes(), 9);
        assert!(found == [of(&data), of(&sign)], "{len}");
    }
}

#[test]
fn signatures_of_gemini_are_found_in_all_its_shapes() {
    for len in [10, 300, 100_000] {
        let sign = locked("sign", len);
        let chunk = json!({"candidates": [{"content": {"parts": [
            {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": sign}, {"text": "x"}]}}]});
        // As Google's writers do.
        let escaped = chunk.to_string().replace('=', "\\u003d");
        for (shape, body) in [
            (
                Shape::Events,
                format!("data: {escaped}\n\ndata: {{\"usageMetadata\":{{}}}}\n\n"),
            ),
            (Shape::Array, format!("[{escaped},\n{{\"usageMetadata\":{{}}}}]")),
            (Shape::Whole, escaped.clone()),
        ] {
            assert!(
                in_answer(VendorWire::Gemini, shape, &body) == [of(&sign)],
                "{shape:?} {len}"
            );
        }
        for key in ["thoughtSignature", "thought_signature"] {
            let request = json!({"contents": [{"parts": [{"text": "x", key: sign}]}, {"parts": [{"text": "then"}]}]});
            let found = Hidden::sent_back(Wire::Gemini, request.to_string().as_bytes(), 9);
            assert!(found == [of(&sign)], "{key} {len}");
        }
    }
}

#[test]
fn what_bedrock_hides_is_found() {
    let stream = concat!(
        "data: {\"contentBlockDelta\":{\"delta\":{\"reasoningContent\":{\"text\":\"t\"}}}}\n\n",
        "data: {\"contentBlockDelta\":{\"delta\":{\"reasoningContent\":{\"signature\":\"sign+/1\"}}}}\n\n",
        "data: {\"contentBlockDelta\":{\"delta\":{\"reasoningContent\":{\"redactedContent\":\"bytes==\"}}}}\n\n",
    );
    let found = in_answer(VendorWire::Converse, Shape::Events, stream);
    assert!(found == [of("sign+/1"), of("bytes")]);
}

#[test]
fn what_is_another_wires_is_told_by_what_its_vendor_wrote() {
    let opaque = Opaque {
        wire: VendorWire::Gemini,
        data: locked("other", 400),
    };
    let kept = opaque.for_client(VendorWire::Responses);
    let id = Opaque::on_call("call_1", Some(&opaque));
    for (wire, request) in [
        (
            Wire::Responses,
            json!({"input": [{"type": "reasoning", "encrypted_content": kept}]}),
        ),
        (
            Wire::Responses,
            json!({"input": [{"call_id": id}, {"call_id": id, "output": "x"}]}),
        ),
        (
            Wire::Chat,
            json!({"messages": [{"tool_calls": [{"id": id}]}, {"tool_call_id": id, "content": "x"}]}),
        ),
        (
            Wire::Messages,
            json!({"messages": [{"content": [{"type": "thinking", "signature": kept}]}]}),
        ),
        (
            Wire::Messages,
            json!({"messages": [{"content": [{"type": "tool_use", "id": id}]}]}),
        ),
    ] {
        let found = Hidden::sent_back(wire, request.to_string().as_bytes(), 9);
        assert!(found == [of(&opaque.data)], "{wire:?}: {request}");
    }
    let opaque = Opaque {
        wire: VendorWire::Messages,
        ..opaque
    };
    let request = json!({"contents": [{"parts": [{"thoughtSignature": gemini::for_client(&opaque)}]}]});
    assert!(Hidden::sent_back(Wire::Gemini, request.to_string().as_bytes(), 9) == [of(&opaque.data)]);
}

#[test]
fn the_last_are_found_wherever_they_stand_and_nonsense_finds_nothing() {
    let item = |at: usize| format!(r#"{{"encrypted_content":"locked-{at}"}}"#);
    // Around the places at which the search goes on with what stands before.
    for filler in (WINDOW - 60..WINDOW + 60).chain([0, 3 * WINDOW]) {
        let body = format!("[{},{},\"{}\"]", item(1), item(2), "y".repeat(filler));
        let found = Hidden::sent_back(Wire::Responses, body.as_bytes(), 8);
        assert!(found == [of("locked-2"), of("locked-1")], "{filler}");
    }
    let many: String = (0..100).map(item).collect();
    let found = Hidden::sent_back(Wire::Responses, many.as_bytes(), 3);
    assert!(found == [of("locked-99"), of("locked-98"), of("locked-97")]);
    for body in [
        "",
        "\"encrypted_content\"",
        "\"encrypted_content\":",
        "\"encrypted_content\":\"",
        "\"encrypted_content\":\"cut",
        "\"encrypted_content\":\"cut\\",
        "\"encrypted_content\":\"\"",
        "\"encrypted_content\":7",
        "__sig",
        "\"call__sig\"",
        "\"call__sigz_x\"",
    ] {
        assert!(
            Hidden::sent_back(Wire::Responses, body.as_bytes(), 8).is_empty(),
            "{body}"
        );
    }
    for body in [
        "\"redacted_thinking\"",
        "{\"redacted_thinking\"}",
        "{\"redacted_thinking\",\"data\":1}",
    ] {
        assert!(
            Hidden::sent_back(Wire::Messages, body.as_bytes(), 8).is_empty(),
            "{body}"
        );
    }
}

#[test]
fn of_one_answer_the_last_ones_are_kept() {
    let item =
        |at: usize| json!({"type": "response.output_item.done", "item": {"encrypted_content": format!("l-{at}")}});
    let stream = events(&(0..MOST + 5).map(item).collect::<Vec<_>>());
    let found = in_answer(VendorWire::Responses, Shape::Events, &stream);
    assert!(found.len() == MOST && found.last() == Some(&of(&format!("l-{}", MOST + 4))));
}
