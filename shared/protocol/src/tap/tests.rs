mod large;
mod vendors;

use proptest::prelude::*;

use super::*;
use crate::lane::VendorWire;
use crate::sse::{Gate, keepalive};
use crate::tokens::Tokens;
use crate::usage::Usage;
use crate::wire::Wire;

const REMOVE: TapOptions = TapOptions {
    remove_usage_chunk: true,
};
const KEEP: TapOptions = TapOptions {
    remove_usage_chunk: false,
};

const RESPONSES: &str = concat!(
    "event: response.created\n",
    "data: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"tools\":[{\"id\":\"no\"}],\"id\":\"resp_1\",\"usage\":null}}\n\n",
    "event: response.output_text.delta\n",
    "data: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"delta\":\"Grüß \\\"usage\\\": {1}\",\"logprobs\":[]}\n\n",
    ": a comment\n\n",
    "event: response.completed\n",
    "data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"text\":\"\\\"usage\\\":{\\\"input_tokens\\\":9}\"}],",
    "\"usage\":{\"input_tokens\":11,\"input_tokens_details\":{\"cached_tokens\":3},\"output_tokens\":5},",
    "\"id\":\"resp_1\",\"service_tier\":\"default\",\"error\":null,\"status\":\"completed\"}}\n\n",
    "data: [DONE]\n\n",
);

const CHAT: &str = concat!(
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hé\\n\\\"usage\\\":{}\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"total_tokens\":16}}\n\n",
    "data: [DONE]\n\n",
);

struct Seen {
    /// Everything that was passed.
    bytes: Vec<u8>,
    /// What was passed before `Last`, and how long that was.
    last: Option<(usize, usize)>,
    observed: Observed,
    at_boundary: bool,
}

fn run<'a>(
    wire: impl Into<VendorWire>,
    shape: Shape,
    options: TapOptions,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Seen {
    let mut tap = Tap::new(wire, shape, options);
    let (mut bytes, mut last) = (Vec::new(), None);
    let mut take = |piece: Piece| {
        if let Piece::Last(end) = &piece {
            assert_eq!(last, None, "there is one last piece");
            last = Some((bytes.len(), end.len()));
        }
        bytes.extend_from_slice(&piece.into_bytes());
    };
    for chunk in chunks {
        tap.push(Bytes::copy_from_slice(chunk)).for_each(&mut take);
    }
    if let Some(piece) = tap.end() {
        take(piece);
    }
    Seen {
        bytes,
        last,
        observed: tap.observed().clone(),
        at_boundary: tap.is_at_boundary(),
    }
}

fn events(wire: Wire, options: TapOptions, text: &str, size: usize) -> Seen {
    run(wire, Shape::Events, options, text.as_bytes().chunks(size))
}

fn usage(input: u64, cached: u64, output: u64) -> Option<Usage> {
    Some(Usage {
        input: Tokens::new(input),
        cached: Tokens::new(cached),
        output: Tokens::new(output),
        ..Usage::default()
    })
}

/// `text` with other line ends.
fn with_line_ends(text: &str, end: &str) -> String {
    text.replace('\n', end)
}

#[test]
fn a_responses_stream_is_read_and_passed_unchanged_however_it_is_cut() {
    for end in ["\n", "\r\n", "\r"] {
        let text = with_line_ends(RESPONSES, end);
        let whole = events(Wire::Responses, KEEP, &text, usize::MAX);
        assert_eq!(whole.observed.usage, usage(11, 3, 5));
        assert_eq!(whole.observed.ending, Some(Ending::Completed));
        assert_eq!(whole.observed.response_id.as_deref(), Some("resp_1"));
        assert_eq!(whole.observed.service_tier.as_deref(), Some("default"));
        assert_eq!(whole.observed.error_code, None);
        assert_eq!(whole.observed.produced, "Grüß \\\"usage\\\": {1}".len());
        assert_eq!(whole.observed.events, 4);
        let (before, len) = whole.last.unwrap();
        assert!(text[before..].starts_with("event: response.completed"));
        assert!(text[before + len..].starts_with("data: [DONE]"));
        for cut in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            let seen = run(Wire::Responses, Shape::Events, KEEP, [head, tail]);
            assert_eq!(seen.bytes, text.as_bytes(), "cut at {cut}");
            assert_eq!(seen.observed, whole.observed, "cut at {cut}");
            assert_eq!(seen.last.map(|(at, _)| at), Some(before), "cut at {cut}");
            assert!(seen.at_boundary);
        }
        for size in [1, 2, 3, 7, 64] {
            let seen = events(Wire::Responses, KEEP, &text, size);
            assert_eq!(seen.bytes, text.as_bytes());
            assert_eq!(seen.observed, whole.observed);
        }
    }
}

#[test]
fn a_chat_stream_is_read_and_loses_only_the_usage_chunk_however_it_is_cut() {
    for end in ["\n", "\r\n", "\r"] {
        let text = with_line_ends(CHAT, end);
        let extra = text.find("data: {\"id\":\"chatcmpl-1\",\"choices\":[],").unwrap();
        let done = text.find("data: [DONE]").unwrap();
        let without = format!("{}{}", &text[..extra], &text[done..]);
        for (options, expected) in [(KEEP, &text), (REMOVE, &without)] {
            for cut in 0..=text.len() {
                let (head, tail) = text.as_bytes().split_at(cut);
                let seen = run(Wire::Chat, Shape::Events, options, [head, tail]);
                // The LF of a CRLF that was cut stays behind: an empty line between events says nothing.
                let stray = cut + 1 == done && end == "\r\n" && options == REMOVE;
                let bytes = String::from_utf8(seen.bytes).unwrap();
                assert_eq!(
                    if stray {
                        bytes.replacen("\r\n\r\n\n", "\r\n\r\n", 1)
                    } else {
                        bytes
                    },
                    **expected,
                    "cut at {cut}"
                );
                assert_eq!(seen.observed.usage, usage(11, 0, 5), "cut at {cut}");
                assert_eq!(seen.observed.ending, Some(Ending::Completed));
                assert_eq!(seen.observed.response_id.as_deref(), Some("chatcmpl-1"));
                assert_eq!(seen.observed.produced, "Hé\\n\\\"usage\\\":{}".len());
                assert_eq!(seen.observed.events, 5);
                assert!(seen.last.is_some());
            }
            for size in [1, 7] {
                assert_eq!(events(Wire::Chat, options, &text, size).observed.usage, usage(11, 0, 5));
            }
        }
    }
}

#[test]
fn the_last_chunk_of_many_is_the_very_slice_that_came() {
    let chunk = Bytes::from(RESPONSES);
    let mut tap = Tap::new(Wire::Responses, Shape::Events, KEEP);
    let mut at = chunk.as_ptr() as usize;
    for piece in tap.push(chunk.clone()) {
        let bytes = piece.into_bytes();
        assert_eq!(bytes.as_ptr() as usize, at);
        at += bytes.len();
    }
    assert_eq!(at, chunk.as_ptr() as usize + chunk.len());
}

#[test]
fn a_whole_event_is_never_kept_back_and_a_part_never_passed() {
    for end in ["\n", "\r\n", "\r"] {
        let text = with_line_ends("data: {\"type\":\"x\"}\n\n", end);
        let mut tap = Tap::new(Wire::Responses, Shape::Events, KEEP);
        let mut passed = 0;
        for (at, byte) in text.bytes().enumerate() {
            passed += tap
                .push(Bytes::copy_from_slice(&[byte]))
                .map(|piece| piece.into_bytes().len())
                .sum::<usize>();
            let blank = if end == "\r\n" { 2 } else { 1 };
            // With CRLF the event ends at its last CR.
            let is_ended = at + 1 >= text.len() - (blank - 1);
            assert_eq!(passed, if is_ended { at + 1 } else { 0 }, "{text:?} {at}");
            assert!(tap.is_at_boundary());
        }
    }
}

#[test]
fn incomplete_and_failed_are_terminal_and_bring_their_usage() {
    let incomplete = "data: {\"response\":{\"id\":\"r\",\"usage\":{\"output_tokens\":1,\"input_tokens\":2}},\"type\":\"response.incomplete\"}\n\n";
    let seen = events(Wire::Responses, KEEP, incomplete, 7);
    assert_eq!(
        (seen.observed.ending, seen.observed.usage),
        (Some(Ending::Incomplete), usage(2, 0, 1))
    );
    assert_eq!(seen.last, Some((0, incomplete.len())));
    let failed = "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"no\"},\"usage\":null}}\n\n";
    let seen = events(Wire::Responses, KEEP, failed, 7);
    assert_eq!(
        (seen.observed.ending, seen.observed.usage),
        (Some(Ending::Failed), None)
    );
    assert_eq!(seen.observed.error_code.as_deref(), Some("rate_limit_exceeded"));
}

#[test]
fn an_error_event_is_noted_but_ends_nothing_in_a_stream() {
    for text in [
        "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\",\"param\":null}\n\n",
        "data: {\"error\":{\"type\":\"y\",\"code\":\"server_error\"},\"type\":\"error\"}\n\n",
    ] {
        let seen = events(Wire::Responses, KEEP, text, 5);
        assert_eq!(seen.observed.ending, None);
        assert_eq!(seen.last, None);
        assert_eq!(seen.observed.error_code.as_deref(), Some("server_error"));
    }
}

#[test]
fn on_a_socket_an_error_ends_the_response() {
    let mut meter = Meter::new(Wire::Responses);
    assert!(!meter.message(br#"{"type":"response.created","response":{"id":"resp_1"}}"#));
    assert!(!meter.message(br#"{"type":"response.output_text.delta","delta":"abc"}"#));
    assert!(meter.message(br#"{"type":"error","status":429,"error":{"code":"rate_limit_exceeded"}}"#));
    assert_eq!(meter.observed().ending, Some(Ending::Failed));
    assert_eq!(meter.observed().error_code.as_deref(), Some("rate_limit_exceeded"));
    let mut meter = Meter::new(Wire::Responses);
    assert!(
        meter.message(br#"{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":1}}}"#)
    );
    assert_eq!(meter.observed().usage, usage(1, 0, 1));
}

#[test]
fn the_type_is_found_wherever_it_stands() {
    for data in [
        r#"{"type":"response.completed"}"#,
        r#" { "type" : "response.completed" } "#,
        r#"{"sequence_number":1e400,"x":{"type":"response.failed"},"type":"response.completed"}"#,
        r#"{"type":"response.\u0063ompleted"}"#,
        r#"{"ty\u0070e":"response.completed"}"#,
        "{\"type\":\ndata: \"response.completed\"}",
    ] {
        let seen = events(Wire::Responses, KEEP, &format!("event: y\ndata: {data}\n\n"), 11);
        assert_eq!(seen.observed.ending, Some(Ending::Completed), "{data}");
    }
    for data in [
        r#"{"x":"response.completed"}"#,
        r#"{"type":["response.completed"]}"#,
        "response.completed",
        r#"["type","response.completed"]"#,
    ] {
        let seen = events(
            Wire::Responses,
            KEEP,
            &format!("event: response.completed\ndata: {data}\n\n"),
            11,
        );
        assert_eq!(seen.observed.ending, None, "{data}");
    }
}

#[test]
fn a_chat_stream_without_done_is_complete_when_it_was_finished() {
    let cut = CHAT.find("data: [DONE]").unwrap();
    assert_eq!(
        events(Wire::Chat, KEEP, &CHAT[..cut], 50).observed.ending,
        Some(Ending::Completed)
    );
    let empty =
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"\"}]}\n\n";
    assert_eq!(events(Wire::Chat, KEEP, empty, 50).observed.ending, None);
    let unfinished = CHAT.find("\"delta\":{},").unwrap() - 60;
    let seen = events(Wire::Chat, KEEP, &CHAT[..unfinished], 50);
    assert_eq!(seen.observed.ending, None);
    assert_eq!(seen.bytes, &CHAT.as_bytes()[..unfinished]);
}

#[test]
fn an_error_in_a_chat_stream_is_a_failure() {
    let text = "data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\",\"code\":null}}\n\ndata: [DONE]\n\n";
    let seen = events(Wire::Chat, REMOVE, text, 9);
    assert_eq!(seen.observed.ending, Some(Ending::Failed));
    assert_eq!(seen.observed.error_code.as_deref(), Some("server_error"));
    assert_eq!(seen.bytes, text.as_bytes());
    let number = "data: {\"error\":{\"code\":502}}\n\n";
    assert_eq!(
        events(Wire::Chat, KEEP, number, 9).observed.error_code.as_deref(),
        Some("502")
    );
}

#[test]
fn chat_usage_is_taken_from_where_the_vendor_puts_it_and_the_last_counts() {
    let text = "data: {\"usage\" : {\"prompt_tokens\":1,\"completion_tokens\":1},\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n\
                data: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n\
                data: [DONE]\n\n";
    let seen = events(Wire::Chat, REMOVE, text, 100);
    assert_eq!(seen.observed.usage, usage(1, 0, 2));
    assert_eq!(seen.bytes, text.as_bytes(), "a chunk with choices stays");
    let filter = "data: {\"choices\":[],\"prompt_filter_results\":[],\"usage\":null}\n\n";
    assert_eq!(events(Wire::Chat, REMOVE, filter, 100).bytes, filter.as_bytes());
}

#[test]
fn all_that_a_model_writes_in_chat_is_counted() {
    let text = "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"reasoning_content\":\"1234\",\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\
                \"type\":\"function\",\"function\":{\"name\":\"fn\",\"arguments\":\"{\\\"a\\\"\"}}]}},{\"delta\":{\"content\":\"xyz\"}}]}\n\n";
    assert_eq!(events(Wire::Chat, KEEP, text, 30).observed.produced, 4 + 2 + 6 + 3);
}

#[test]
fn a_delta_within_a_delta_is_counted_once() {
    let deep = format!("{}\"x\"{}", "{\"delta\":".repeat(50), "}".repeat(50));
    let text = format!("data: {{\"choices\":[{deep}]}}\n\ndata: {{\"delta\":{{\"content\":\"ab\"}}}}\n\n");
    assert_eq!(events(Wire::Chat, KEEP, &text, 30).observed.produced, 1 + 2);
}

#[test]
fn all_that_a_model_writes_in_responses_is_counted_once() {
    let mut text = String::new();
    for (kind, delta) in [
        ("response.output_text.delta", "\"1234\""),
        ("response.function_call_arguments.delta", "\"{\\\"a\\\"\""),
        ("response.custom_tool_call_input.delta", "\"12\""),
        ("response.reasoning_summary_text.delta", "\"123\""),
        ("response.refusal.delta", "\"1\""),
        ("response.output_audio.delta", "\"AAAAAAAA\""),
        ("response.output_audio_transcript.delta", "\"12\""),
        ("response.x.delta", "{\"a\":1}"),
    ] {
        text +=
            &format!("data: {{\"type\":\"{kind}\",\"item_id\":\"i\",\"delta\": {delta},\"obfuscation\":\"zzz\"}}\n\n");
    }
    text += "data: {\"type\":\"response.output_text.done\",\"text\":\"1234\"}\n\n";
    assert_eq!(
        events(Wire::Responses, KEEP, &text, 33).observed.produced,
        4 + 6 + 2 + 3 + 1 + 2
    );
}

#[test]
fn calls_of_the_vendors_own_tools_are_counted_once() {
    let items = [
        r#"{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"_call\""}}"#,
        r#"{"action":{"type":"open_page","url":"x"},"type":"web_search_call"}"#,
        r#"{"type":"web_search_call","id":"ws_3"}"#,
        r#"{"type":"file_search_call","results":[{"type":"web_search_call"}]}"#,
        r#"{"type":"function_call","arguments":"{\"type\":\"web_search_call\"}"}"#,
        r#"{"type":"message","content":[{"type":"output_text","text":"web_search_call"}]}"#,
        r#"{"type":"image_generation_call","result":"LARGE"}"#,
        r#"{"type":"moon_walk_call"}"#,
    ]
    .map(|item| item.replace("LARGE", &"A".repeat(100_000)));
    let mut text = String::new();
    for item in &items {
        text += &format!("data: {{\"type\":\"response.output_item.added\",\"item\":{item}}}\n\n");
        text += &format!("data: {{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{item}}}\n\n");
    }
    let output = items.join(",");
    text += &format!("data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[{output}]}}}}\n\n");
    let expected = crate::usage::ToolCalls {
        web_search: 2,
        file_search: 1,
        code_interpreter: 0,
        image_generation: 1,
        other: 1,
    };
    for size in [13, 1000, usize::MAX] {
        assert_eq!(
            events(Wire::Responses, KEEP, &text, size).observed.tools,
            expected,
            "{size}"
        );
        let whole =
            format!("{{\"tools\":[{{\"type\":\"web_search_call\"}}],\"output\":[{output}],\"status\":\"completed\"}}");
        let seen = run(Wire::Responses, Shape::Whole, KEEP, whole.as_bytes().chunks(size));
        assert_eq!(seen.observed.tools, expected, "{size}");
    }
}

#[test]
fn a_usage_without_sense_is_told_from_none() {
    for (usage, is_unsound) in [
        ("null", false),
        ("{\"input_tokens\":-1,\"output_tokens\":1}", true),
        ("[]", true),
    ] {
        let text = format!("data: {{\"type\":\"response.completed\",\"response\":{{\"usage\":{usage}}}}}\n\n");
        let seen = events(Wire::Responses, KEEP, &text, 100).observed;
        assert_eq!((seen.usage, seen.is_unsound), (None, is_unsound), "{usage}");
    }
}

#[test]
fn an_event_of_very_many_data_lines_is_no_burden() {
    let text = format!(
        "{}data:{{\"type\":\"response.completed\"}}\n\n",
        "data:\n".repeat(400_000)
    );
    for size in [1000, usize::MAX] {
        let seen = events(Wire::Responses, KEEP, &text, size);
        assert!(seen.bytes == text.as_bytes());
        assert_eq!(seen.observed.ending, Some(Ending::Completed));
    }
}

#[test]
fn a_torn_event_at_the_end_is_passed_and_read() {
    let text =
        "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}";
    let seen = events(Wire::Responses, KEEP, text, 10);
    assert_eq!(seen.last, Some((0, text.len())));
    assert_eq!(seen.observed.usage, usage(1, 0, 1));
    let seen = events(Wire::Responses, KEEP, "data: {\"type\":\"resp", 10);
    assert_eq!(seen.bytes, b"data: {\"type\":\"resp");
    assert!(!seen.at_boundary, "an event of ours would be read as part of it");
}

#[test]
fn a_whole_answer_is_read_and_its_end_waits() {
    let responses = r#"{"id":"resp_1","object":"response","status":"incomplete","error":null,"output":[{"type":"message","content":[
        {"type":"output_text","text":"abc \"usage\":{} d"}]}],"tools":[{"parameters":{"properties":{"usage":{"type":"number"}}}}],
        "usage":{"input_tokens":11,"output_tokens":5,"input_tokens_details":{"cached_tokens":3}},"service_tier":"flex"}"#;
    for size in [1, 7, 50, 10_000] {
        let seen = run(Wire::Responses, Shape::Whole, KEEP, responses.as_bytes().chunks(size));
        assert_eq!(seen.bytes, responses.as_bytes());
        let (before, len) = seen.last.unwrap();
        assert!(len >= 1 && before + len == responses.len());
        assert_eq!(seen.observed.usage, usage(11, 3, 5));
        assert_eq!(seen.observed.ending, Some(Ending::Incomplete));
        assert_eq!(seen.observed.response_id.as_deref(), Some("resp_1"));
        assert_eq!(seen.observed.service_tier.as_deref(), Some("flex"));
        assert_eq!(seen.observed.produced, r#"abc \"usage\":{} d"#.len());
    }
    let chat = br#"{"id":"c","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let seen = run(Wire::Chat, Shape::Whole, REMOVE, [&chat[..]]);
    assert_eq!(
        (seen.observed.usage, seen.observed.ending),
        (usage(1, 0, 2), Some(Ending::Completed))
    );
    let failed = br#"{"id":"r","status":"failed","error":{"code":"server_error","message":"x"},"usage":null}"#;
    let seen = run(Wire::Responses, Shape::Whole, KEEP, [&failed[..]]);
    assert_eq!(
        (seen.observed.usage, seen.observed.ending),
        (None, Some(Ending::Failed))
    );
    assert_eq!(seen.observed.error_code.as_deref(), Some("server_error"));
    let cut = run(Wire::Responses, Shape::Whole, KEEP, [&responses.as_bytes()[..300]]);
    assert_eq!(cut.observed.ending, None);
    let empty = run(Wire::Responses, Shape::Whole, KEEP, [&b""[..]]);
    assert_eq!((empty.last, empty.observed.ending), (None, None));
}

#[test]
fn nonsensical_numbers_deep_nesting_and_doubled_keys_only_cost_the_usage() {
    for (body, expected) in [
        (r#""usage":{"input_tokens":1e99,"output_tokens":1}"#.to_owned(), None),
        (
            r#""usage":{"input_tokens":99999999999999999999999999999999,"output_tokens":1}"#.to_owned(),
            None,
        ),
        (
            r#""usage":{"input_tokens":1,"input_tokens":2,"output_tokens":1}"#.to_owned(),
            None,
        ),
        (
            r#""usage":{"input_tokens":1,"output_tokens":1},"usage":{"input_tokens":2,"output_tokens":1}"#.to_owned(),
            usage(2, 0, 1),
        ),
        (
            format!(
                r#""x":{}1{},"usage":{{"input_tokens":1,"output_tokens":1}}"#,
                "[".repeat(9000),
                "]".repeat(9000)
            ),
            usage(1, 0, 1),
        ),
        (r#""usage":"none""#.to_owned(), None),
        (r#""usage":[]"#.to_owned(), None),
    ] {
        let text = format!("data: {{\"type\":\"response.completed\",\"response\":{{{body}}}}}\n\n");
        let seen = events(Wire::Responses, KEEP, &text, 4000);
        assert_eq!(seen.observed.usage, expected);
        assert_eq!(seen.observed.ending, Some(Ending::Completed));
        assert_eq!(seen.bytes, text.as_bytes());
    }
}

#[test]
fn a_gate_sees_the_same_boundaries_and_reads_nothing() {
    for (wire, text) in [(Wire::Responses, RESPONSES), (Wire::Chat, CHAT)] {
        let mut gate = Gate::new(wire);
        let mut bytes = Vec::new();
        let mut lasts = 0;
        for chunk in text.as_bytes().chunks(7) {
            for piece in gate.push(Bytes::copy_from_slice(chunk)) {
                lasts += u32::from(matches!(piece, Piece::Last(_)));
                bytes.extend_from_slice(&piece.into_bytes());
            }
            assert!(gate.is_at_boundary());
        }
        assert_eq!(bytes, text.as_bytes());
        assert_eq!(lasts, 1);
        assert!(gate.saw_terminal());
        assert!(gate.end().is_none());
    }
}

#[test]
fn our_own_keepalive_is_an_event_of_no_consequence() {
    assert_eq!(keepalive(Wire::Gemini), None);
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages] {
        let text = std::str::from_utf8(keepalive(wire).unwrap()).unwrap();
        let seen = events(wire, KEEP, text, 3);
        assert_eq!(seen.bytes, text.as_bytes());
        assert_eq!(seen.observed.ending, None);
    }
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("\n"), Just("\r\n"), Just("\r")]
}

/// Large events are named, so that a failing case can be read.
fn spelled_out(event: &str) -> String {
    event
        .strip_prefix("LARGE ")
        .map_or_else(|| event.to_owned(), |kind| large::large(kind, 66 << 10))
}

fn an_event() -> impl Strategy<Value = String> {
    prop_oneof![
        (".{0,40}", line_end()).prop_map(|(text, end)| {
            let text = serde_json::to_string(&text).unwrap();
            format!("event: d{end}data: {{\"type\":\"response.output_text.delta\",\"delta\":{text}}}{end}{end}")
        }),
        (".{0,40}", line_end()).prop_map(|(text, end)| format!("data: {}{end}{end}", text.replace(['\r', '\n'], ""))),
        line_end().prop_map(|end| format!(": comment{end}{end}")),
        line_end().prop_map(str::to_owned),
        (0_u64..1000, line_end()).prop_map(|(n, end)| {
            format!("data: {{\"response\":{{\"usage\":{{\"input_tokens\":{n},\"output_tokens\":1}}}},\"type\":\"response.completed\"}}{end}{end}")
        }),
        Just("LARGE response.output_item.done".to_owned()),
        Just("LARGE response.completed".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_a_stream_is_cut_the_bytes_and_what_is_observed_are_the_same(
        parts in prop::collection::vec(an_event(), 0..12),
        sizes in prop::collection::vec(1_usize..40_000, 1..8),
        small in any::<bool>(),
    ) {
        let text: String = parts.iter().map(|part| spelled_out(part)).collect();
        let whole = events(Wire::Responses, KEEP, &text, usize::MAX);
        prop_assert!(whole.bytes == text.as_bytes());
        let mut chunks = Vec::new();
        let mut rest = text.as_bytes();
        for size in sizes.iter().map(|size| if small { size % 64 + 1 } else { *size }).cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        let cut = run(Wire::Responses, Shape::Events, KEEP, chunks);
        prop_assert!(cut.bytes == text.as_bytes());
        prop_assert_eq!(cut.last.is_some(), whole.last.is_some());
        // An LF cut from its CR counts as an empty event, which has no data and is not counted.
        prop_assert_eq!(cut.observed, whole.observed);
    }

    #[test]
    fn any_bytes_go_by_unchanged(
        chunks in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'"'), Just(b'{'), Just(b':'), any::<u8>()], 0..50), 0..20),
        chat in any::<bool>(),
        whole in any::<bool>(),
    ) {
        let wire = if chat { Wire::Chat } else { Wire::Responses };
        let shape = if whole { Shape::Whole } else { Shape::Events };
        let seen = run(wire, shape, KEEP, chunks.iter().map(Vec::as_slice));
        prop_assert_eq!(seen.bytes, chunks.concat());
    }
}
