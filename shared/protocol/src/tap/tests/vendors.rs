//! The wires whose end or usage is told in other ways: Anthropic Messages and Gemini.

use super::*;
use crate::refusal::{Code, Refusal};
use crate::usage::ToolCalls;

const MESSAGES: &str = concat!(
    "event: message_start\n",
    "data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-x\",\"content\":[],",
    "\"stop_reason\":null,\"usage\":{\"input_tokens\":20,\"cache_creation_input_tokens\":300,\"cache_read_input_tokens\":4000,",
    "\"cache_creation\":{\"ephemeral_5m_input_tokens\":100,\"ephemeral_1h_input_tokens\":200},\"output_tokens\":1,\"service_tier\":\"priority\"}}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_start\n",
    "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\n",
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüß \\\"usage\\\": {1}\"}}\n\n",
    "event: content_block_delta\n",
    "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}}\n\n",
    "event: content_block_delta\n",
    "data: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"Hm.\"}}\n\n",
    "event: content_block_delta\n",
    "data: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"EqQB\"}}\n\n",
    "event: message_delta\n",
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null},",
    "\"usage\":{\"output_tokens\":50,\"server_tool_use\":{\"web_search_requests\":2}}}\n\n",
    "event: message_stop\n",
    "data: {\"type\":\"message_stop\"}\n\n",
);

fn of_messages() -> Usage {
    let t = Tokens::new;
    Usage {
        input: t(4320),
        cached: t(4000),
        cache_write: t(300),
        cache_write_long: t(200),
        output: t(50),
        ..Usage::default()
    }
}

#[test]
fn a_messages_stream_is_read_and_passed_unchanged_however_it_is_cut() {
    for end in ["\n", "\r\n", "\r"] {
        let text = with_line_ends(MESSAGES, end);
        let whole = events(Wire::Messages, KEEP, &text, usize::MAX);
        let seen = &whole.observed;
        assert_eq!(seen.usage, Some(of_messages()));
        assert_eq!(seen.ending, Some(Ending::Incomplete));
        assert_eq!(seen.response_id.as_deref(), Some("msg_1"));
        assert_eq!(seen.service_tier.as_deref(), Some("priority"));
        assert_eq!(
            seen.tools,
            ToolCalls {
                web_search: 2,
                ..ToolCalls::default()
            }
        );
        assert_eq!(
            seen.produced,
            "Grüß \\\"usage\\\": {1}".len() + "{\\\"a\\\":".len() + "Hm.".len()
        );
        let (before, _) = whole.last.unwrap();
        assert!(text[before..].starts_with("event: message_stop"));
        for cut in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            let seen = run(Wire::Messages, Shape::Events, KEEP, [head, tail]);
            assert_eq!(seen.bytes, text.as_bytes(), "cut at {cut}");
            assert_eq!(seen.observed, whole.observed, "cut at {cut}");
            assert_eq!(seen.last.map(|(at, _)| at), Some(before), "cut at {cut}");
        }
        for size in [1, 2, 3, 7, 64] {
            let seen = events(Wire::Messages, KEEP, &text, size);
            assert_eq!(
                (seen.bytes.as_slice(), &seen.observed),
                (text.as_bytes(), &whole.observed)
            );
        }
    }
}

#[test]
fn what_a_message_begins_with_is_its_input_and_no_usage_yet() {
    let begun = &MESSAGES[..MESSAGES.find("event: message_delta").unwrap()];
    let seen = events(Wire::Messages, KEEP, begun, 100).observed;
    assert_eq!((seen.usage, seen.is_unsound, seen.ending), (None, false, None));
    let input = Usage {
        output: Tokens::ZERO,
        ..of_messages()
    };
    assert_eq!(seen.begun, Some(input));
    assert_eq!(&seen.tools, &ToolCalls::default());
}

#[test]
fn an_error_ends_a_message() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let text = [&MESSAGES[..MESSAGES.find("event: message_delta").unwrap()], error].concat();
    let seen = events(Wire::Messages, KEEP, &text, 50);
    assert_eq!(seen.observed.ending, Some(Ending::Failed));
    assert_eq!(seen.observed.error_code.as_deref(), Some("overloaded_error"));
    assert_eq!(seen.observed.usage, None);
    assert!(text[seen.last.unwrap().0..].starts_with("event: error"));
}

#[test]
fn a_whole_message_is_read() {
    for (reason, ending) in [
        ("\"end_turn\"", Ending::Completed),
        ("\"tool_use\"", Ending::Completed),
        ("\"pause_turn\"", Ending::Completed),
        ("\"max_tokens\"", Ending::Incomplete),
        ("\"refusal\"", Ending::Incomplete),
        ("null", Ending::Completed),
    ] {
        let text = format!(
            r#"{{"id":"msg_1","type":"message","role":"assistant","content":[{{"type":"text","text":"\"usage\":{{}} Hi"}},
                {{"type":"tool_use","id":"toolu_1","input":{{"usage":{{"input_tokens":9}},"id":"x"}}}}],"stop_reason":{reason},
                "usage":{{"input_tokens":20,"cache_creation_input_tokens":300,"cache_read_input_tokens":4000,
                "cache_creation":{{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200}},"output_tokens":50,"speed":"fast"}}}}"#
        );
        for cut in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            let seen = run(Wire::Messages, Shape::Whole, KEEP, [head, tail]);
            assert_eq!(seen.bytes, text.as_bytes());
            assert_eq!(seen.observed.usage, Some(of_messages()), "{reason}, cut at {cut}");
            assert_eq!(seen.observed.ending, Some(ending), "{reason}, cut at {cut}");
            assert_eq!(seen.observed.response_id.as_deref(), Some("msg_1"));
            assert_eq!(seen.observed.service_tier.as_deref(), Some("fast"));
        }
    }
}

/// What Gemini sends for an answer, a chunk at a time.
const CHUNKS: [&str; 4] = [
    r#"{"candidates": [{"content": {"parts": [{"text": "Grüß \"finishReason\": [{"}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 100,"totalTokenCount": 100},"modelVersion": "gemini-2.5-flash","responseId": "r-1"}"#,
    r#"{"candidates": [{"content": {"parts": [{"text": " and\n"}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 100,"candidatesTokenCount": 7,"totalTokenCount": 107},"modelVersion": "gemini-2.5-flash","responseId": "r-1"}"#,
    r#"{"candidates": [{"content": {"parts": [{"text": "}]"}],"role": "model"},"finishReason": "STOP","index": 0,"groundingMetadata": {"webSearchQueries": ["a", "", "b"]}}],"usageMetadata": {"promptTokenCount": 100,"candidatesTokenCount": 9,"totalTokenCount": 109},"modelVersion": "gemini-2.5-flash","responseId": "r-1"}"#,
    r#"{"usageMetadata": {"promptTokenCount": 100,"cachedContentTokenCount": 60,"candidatesTokenCount": 9,"thoughtsTokenCount": 30,"totalTokenCount": 139},"modelVersion": "gemini-2.5-flash","responseId": "r-1"}"#,
];

fn sse(chunks: &[&str]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect()
}

fn array(chunks: &[&str]) -> String {
    format!("[{}\n]\n", chunks.join("\n,\r\n"))
}

fn of_gemini() -> Usage {
    Usage {
        reasoning: Tokens::new(30),
        ..usage(100, 60, 39).unwrap()
    }
}

#[test]
fn gemini_streams_are_read_and_passed_unchanged_however_they_are_cut() {
    for (shape, text) in [(Shape::Events, sse(&CHUNKS)), (Shape::Array, array(&CHUNKS))] {
        let whole = run(Wire::Gemini, shape, KEEP, [text.as_bytes()]);
        let seen = &whole.observed;
        assert_eq!(seen.usage, Some(of_gemini()));
        assert_eq!(seen.ending, Some(Ending::Completed));
        assert_eq!(seen.response_id.as_deref(), Some("r-1"));
        assert_eq!(seen.tools.web_search, 1, "a grounded prompt of Gemini 2.5 is paid once");
        let parts = [r#"Grüß \"finishReason\": [{"#, r" and\n", "}]"];
        assert_eq!(seen.produced, parts.concat().len());
        // What may be the end waits: the chunk with the reason, and all behind it.
        let (before, len) = whole.last.unwrap();
        assert_eq!(before + len, text.len());
        assert!(text[before..].contains("}]\"}],\"role\"") && !text[before..].contains(" and"));
        for cut in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            let seen = run(Wire::Gemini, shape, KEEP, [head, tail]);
            assert_eq!(seen.bytes, text.as_bytes(), "{shape:?} cut at {cut}");
            assert_eq!(seen.observed, whole.observed, "{shape:?} cut at {cut}");
            let (at, _) = seen.last.unwrap();
            assert!(
                text[..at].matches("finishReason\": \"").count() == 0,
                "{shape:?} cut at {cut}"
            );
        }
        for size in [1, 2, 3, 7, 64] {
            let seen = run(Wire::Gemini, shape, KEEP, text.as_bytes().chunks(size));
            assert_eq!(
                (seen.bytes.as_slice(), &seen.observed),
                (text.as_bytes(), &whole.observed)
            );
        }
    }
}

#[test]
fn a_candidate_that_ends_before_another_holds_nothing_back() {
    let ended = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"MAX_TOKENS","index":0}]}"#;
    let other = r#"{"candidates":[{"content":{"parts":[{"text":"b"}]},"index":1}]}"#;
    let last = r#"{"candidates":[{"content":{"parts":[{"text":"c"}]},"finishReason":"STOP","index":1}]}"#;
    for (shape, head, tail) in [
        (Shape::Events, sse(&[ended]), sse(&[other])),
        (Shape::Array, format!("[{ended}"), format!(",\n{other}")),
    ] {
        let mut tap = Tap::new(Wire::Gemini, shape, KEEP);
        assert_eq!(tap.push(Bytes::from(head.clone())).count(), 0, "{shape:?}");
        assert!(tap.is_ending());
        let passed: Vec<u8> = tap
            .push(Bytes::from(tail.clone()))
            .flat_map(|piece| piece.into_bytes().to_vec())
            .collect();
        assert_eq!(passed, [head, tail].concat().into_bytes(), "{shape:?}");
        assert!(!tap.is_ending());
        drop(tap.push(Bytes::from(format!(",{last}]"))));
        drop(tap.end());
        assert_eq!(
            tap.observed().ending,
            Some(Ending::Incomplete),
            "the worse of two reasons"
        );
    }
}

#[test]
fn what_is_called_a_document_and_is_a_stream_is_read_as_one() {
    let mut tap = Tap::new(Wire::Messages, Shape::Whole, KEEP);
    let mut passed: Vec<u8> = Vec::new();
    for chunk in MESSAGES.as_bytes().chunks(7) {
        for piece in tap.push(Bytes::copy_from_slice(chunk)) {
            passed.extend_from_slice(&piece.into_bytes());
        }
    }
    passed.extend(tap.end().map(Piece::into_bytes).unwrap_or_default());
    assert_eq!(passed, MESSAGES.as_bytes());
    let told = events(Wire::Messages, KEEP, MESSAGES, 7).observed;
    assert!(told.usage.is_some());
    assert_eq!((tap.observed().usage, tap.observed().ending), (told.usage, told.ending));
}

#[test]
fn gemini_tells_of_blocks_and_errors() {
    for (chunk, ending, code) in [
        (
            r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4}}"#,
            Ending::Incomplete,
            None,
        ),
        (
            r#"{"candidates":[{"finishReason":"SAFETY"}]}"#,
            Ending::Incomplete,
            None,
        ),
        (
            r#"{"error":{"code":503,"message":"no","status":"UNAVAILABLE"}}"#,
            Ending::Failed,
            Some("UNAVAILABLE"),
        ),
        (r#"{"error":{"code":503,"message":"no"}}"#, Ending::Failed, Some("503")),
    ] {
        for (shape, text) in [
            (Shape::Events, sse(&[chunk])),
            (Shape::Array, array(&[chunk])),
            (Shape::Whole, chunk.to_owned()),
        ] {
            let seen = run(Wire::Gemini, shape, KEEP, text.as_bytes().chunks(5));
            assert_eq!(seen.observed.ending, Some(ending), "{shape:?} {chunk}");
            assert_eq!(seen.observed.error_code.as_deref(), code, "{shape:?} {chunk}");
        }
    }
}

#[test]
fn a_gemini_stream_without_a_reason_has_not_ended() {
    for (shape, text) in [(Shape::Events, sse(&CHUNKS[..2])), (Shape::Array, array(&CHUNKS[..2]))] {
        let seen = run(Wire::Gemini, shape, KEEP, [text.as_bytes()]);
        assert_eq!(seen.observed.ending, None);
        assert_eq!(seen.observed.usage, usage(100, 0, 7), "what was told so far stands");
    }
}

#[test]
fn an_array_that_breaks_off_ends_with_an_element_of_ours() {
    let refusal = Refusal::new(Code::UpstreamBroke, "The upstream broke off.");
    let text = array(&CHUNKS);
    for cut in 0..text.len() {
        let mut tap = Tap::new(Wire::Gemini, Shape::Array, KEEP);
        let mut got: Vec<u8> = tap
            .push(Bytes::copy_from_slice(&text.as_bytes()[..cut]))
            .flat_map(|piece| piece.into_bytes().to_vec())
            .collect();
        got.extend_from_slice(&tap.last_words(&refusal, "req_1").unwrap());
        let all: Vec<serde_json::Value> = serde_json::from_slice(&got).unwrap();
        let (last, before) = all.split_last().unwrap();
        assert_eq!(last["error"]["status"], "UNAVAILABLE", "cut at {cut}");
        for (element, chunk) in before.iter().zip(CHUNKS) {
            assert_eq!(*element, serde_json::from_str::<serde_json::Value>(chunk).unwrap());
        }
    }
}

#[test]
fn chunks_too_large_to_be_held_pass_as_they_come() {
    let large = |finish: &str| {
        let text = "x".repeat(70 << 10);
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}}{finish}}}],"usageMetadata":{{"promptTokenCount":1,"candidatesTokenCount":2}}}}"#
        )
    };
    let (first, last) = (large(""), large(r#","finishReason":"STOP""#));
    for (shape, text) in [
        (Shape::Events, sse(&[&first, &last])),
        (Shape::Array, array(&[&first, &last])),
    ] {
        for size in [1000, 4096, 65_536, usize::MAX] {
            let seen = run(Wire::Gemini, shape, KEEP, text.as_bytes().chunks(size.min(text.len())));
            assert_eq!(seen.bytes, text.as_bytes(), "{shape:?} {size}");
            assert_eq!(seen.observed.ending, Some(Ending::Completed), "{shape:?} {size}");
            assert_eq!(seen.observed.usage, usage(1, 0, 2), "{shape:?} {size}");
            assert!(seen.last.is_some(), "{shape:?} {size}: the end waits");
        }
    }
}

#[test]
fn bytes_that_are_no_answer_pass_all_the_same() {
    for text in [
        "",
        "[",
        "[]",
        "{\"a\":1}",
        "[[{}],{\"a\":\"\\",
        "]}]}",
        "[{\"a\":1}}]",
        "nonsense \"",
        "[1,2,{},null]",
    ] {
        for size in [1, 3, usize::MAX] {
            let chunks = text.as_bytes().chunks(size.min(text.len().max(1)));
            let seen = run(Wire::Gemini, Shape::Array, KEEP, chunks);
            assert_eq!(seen.bytes, text.as_bytes(), "{text}");
            assert_eq!(seen.observed.ending, None, "{text}");
        }
    }
}

proptest! {
    #[test]
    fn any_chunks_of_an_array_come_out_whole(cuts in prop::collection::vec(1_usize..40, 0..60)) {
        let text = array(&CHUNKS);
        let (mut rest, mut chunks) = (text.as_bytes(), Vec::new());
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            chunks.push(head);
            rest = tail;
        }
        chunks.push(rest);
        let seen = run(Wire::Gemini, Shape::Array, KEEP, chunks);
        prop_assert_eq!(seen.bytes, text.as_bytes());
        prop_assert_eq!(seen.observed.usage, Some(of_gemini()));
    }
}

#[test]
fn converse_tells_its_usage_after_its_end() {
    let text = concat!(
        "data: {\"messageStart\":{\"role\":\"assistant\"}}\n\n",
        "data: {\"contentBlockDelta\":{\"contentBlockIndex\":0,\"delta\":{\"text\":\"Hé\\n\"}}}\n\n",
        "data: {\"contentBlockDelta\":{\"contentBlockIndex\":1,\"delta\":{\"toolUse\":{\"input\":\"{}\"}}}}\n\n",
        "data: {\"messageStop\":{\"stopReason\":\"max_tokens\"}}\n\n",
        "data: {\"metadata\":{\"usage\":{\"inputTokens\":8,\"outputTokens\":5,\"cacheReadInputTokens\":3},\"metrics\":{}}}\n\n",
    );
    for size in [1, 7, 1_000] {
        let seen = run(VendorWire::Converse, Shape::Events, KEEP, text.as_bytes().chunks(size));
        assert_eq!(seen.observed.usage, usage(11, 3, 5), "{size}");
        assert_eq!(
            (seen.observed.ending, seen.observed.produced),
            (Some(Ending::Incomplete), 7)
        );
        assert_eq!(seen.bytes, text.as_bytes());
    }
    let cut = run(
        VendorWire::Converse,
        Shape::Events,
        KEEP,
        [&text.as_bytes()[..text.len() - 150]],
    );
    assert_eq!((cut.observed.usage, cut.observed.ending), (None, None));
    let failed = "data: {\"modelStreamErrorException\":{\"message\":\"m\"}}\n\n";
    let failed = run(VendorWire::Converse, Shape::Events, KEEP, [failed.as_bytes()]);
    assert_eq!(failed.observed.ending, Some(Ending::Failed));
    assert_eq!(failed.observed.error_code.as_deref(), Some("modelStreamErrorException"));
    let whole = r#"{"output":{"message":{"content":[{"text":"Well."}]}},"stopReason":"end_turn","usage":{"inputTokens":8,"outputTokens":5}}"#;
    let whole = run(VendorWire::Converse, Shape::Whole, KEEP, [whole.as_bytes()]);
    assert_eq!(
        (whole.observed.usage, whole.observed.ending),
        (usage(8, 0, 5), Some(Ending::Completed))
    );
}
