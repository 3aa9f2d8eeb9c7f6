//! Events that say more than is held of one: what they say arrives all the same, wherever the body is cut.

use proptest::prelude::*;

use super::super::*;
use crate::codec::bounded::Events;
use crate::codec::{Framing, Reply};
use crate::event::{Answer, AnswerPart, Sequence, Stop};
use crate::sse::split::Split;

/// A stream of events through the vendor's reader, as the body is cut.
fn read(vendor: VendorWire, events: &[String], size: usize) -> Answer {
    let body: String = events.iter().map(|data| format!("data: {data}\n\n")).collect();
    let mut reader = reader(vendor, "7");
    let mut split = Split::abridging(reader.flows());
    let (mut sequence, mut answer) = (Sequence::default(), Answer::default());
    for chunk in body.as_bytes().chunks(size) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (taken, found) = split.next(rest).unwrap_or_else(|_| panic!("it is too long"));
            let (event, after) = rest.split_at(taken);
            rest = after;
            let Some(found) = found else { continue };
            let mut read = Events::of_one();
            if let Some(data) = found.data(event) {
                reader.event(&data, &mut read);
            }
            assert!(
                !found.is_long() || !read.forgo_left_out("left out"),
                "something was left out"
            );
            while let Some(event) = read.next() {
                sequence.push(event, &mut |event| answer.add(event));
            }
        }
    }
    let mut read = Events::of_one();
    reader.end(&mut read);
    while let Some(event) = read.next() {
        sequence.push(event, &mut |event| answer.add(event));
    }
    sequence.end(&mut |event| answer.add(event));
    answer
}

/// What was said: thoughts, texts, and calls with their names.
fn said(answer: &Answer) -> Vec<(&'static str, String, String)> {
    assert_eq!(answer.failure, None);
    let parts = answer.parts.iter().map(|part| match part {
        AnswerPart::Text(said) => ("text", String::new(), said.text.clone()),
        AnswerPart::Call { call, .. } => ("call", call.name.name.clone(), call.arguments.clone()),
        AnswerPart::Reasoning(thought) => ("thought", String::new(), thought.text.clone()),
        _ => ("other", String::new(), String::new()),
    });
    parts.collect()
}

/// About so many bytes, with characters and escapes of every kind.
fn long(bytes: usize) -> String {
    "a\"\\\n\u{1}é€😀 {[,:]} ".repeat(bytes / 24)
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// One wire's events in which these are said at once: a text, a thought, and two calls.
fn at_once(vendor: VendorWire, text: &str, thought: &str, arguments: &str) -> Vec<String> {
    let (words, thinks, escaped) = (json(text), json(thought), json(arguments));
    match vendor {
        VendorWire::Chat => vec![
            format!(
                r#"{{"id":"c","choices":[{{"index":0,"delta":{{"role":"assistant","reasoning_content":{thinks},"content":{words},"tool_calls":[{{"index":0,"id":"one","type":"function","function":{{"name":"f","arguments":{escaped}}}}},{{"index":1,"id":"two","type":"function","function":{{"name":"g","arguments":{escaped}}}}}]}},"finish_reason":"tool_calls"}}],"usage":{{"prompt_tokens":1}}}}"#
            ),
            "[DONE]".to_owned(),
        ],
        VendorWire::Responses => vec![
            r#"{"type":"response.created","response":{"id":"r"}}"#.to_owned(),
            format!(r#"{{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":{thinks}}}"#),
            r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"message"}}"#.to_owned(),
            format!(r#"{{"type":"response.output_text.delta","sequence_number":4,"output_index":1,"delta":{words},"logprobs":[]}}"#),
            format!(r#"{{"type":"response.output_text.done","output_index":1,"text":{words}}}"#),
            r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","call_id":"one","name":"f"}}"#.to_owned(),
            format!(r#"{{"output_index":2,"type":"response.function_call_arguments.delta","delta":{escaped}}}"#),
            format!(r#"{{"type":"response.output_item.done","output_index":2,"item":{{"type":"function_call","call_id":"one","name":"f","arguments":{escaped}}}}}"#),
            r#"{"type":"response.output_item.added","output_index":3,"item":{"type":"function_call","call_id":"two","name":"g"}}"#.to_owned(),
            format!(r#"{{"output_index":3,"type":"response.function_call_arguments.delta","delta":{escaped}}}"#),
            format!(r#"{{"type":"response.output_item.done","output_index":3,"item":{{"type":"function_call","call_id":"two","name":"g","arguments":{escaped}}}}}"#),
            format!(r#"{{"type":"response.completed","response":{{"status":"completed","output":[{{"type":"message","content":[{{"type":"output_text","text":{words}}}]}}]}}}}"#),
        ],
        VendorWire::Messages => {
            let block = |at: u8, block: &str, delta: String| {
                [
                    format!(r#"{{"type":"content_block_start","index":{at},"content_block":{block}}}"#),
                    format!(r#"{{"type":"content_block_delta","index":{at},"delta":{delta}}}"#),
                    format!(r#"{{"type":"content_block_stop","index":{at}}}"#),
                ]
            };
            let mut events = vec![r#"{"type":"message_start","message":{"id":"m","content":[]}}"#.to_owned()];
            events.extend(block(0, r#"{"type":"thinking","thinking":""}"#, format!(r#"{{"type":"thinking_delta","thinking":{thinks}}}"#)));
            events.extend(block(1, r#"{"type":"text","text":""}"#, format!(r#"{{"type":"text_delta","text":{words}}}"#)));
            events.extend(block(2, r#"{"type":"tool_use","id":"one","name":"f","input":{}}"#, format!(r#"{{"type":"input_json_delta","partial_json":{escaped}}}"#)));
            events.extend(block(3, r#"{"type":"tool_use","id":"two","name":"g","input":{}}"#, format!(r#"{{"type":"input_json_delta","partial_json":{escaped}}}"#)));
            events.push(r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#.to_owned());
            events.push(r#"{"type":"message_stop"}"#.to_owned());
            events
        }
        VendorWire::Gemini => vec![format!(
            r#"{{"candidates":[{{"content":{{"role":"model","parts":[{{"thought":true,"text":{thinks}}},{{"text":{words}}},{{"functionCall":{{"name":"f","args":{arguments}}},"thoughtSignature":"s"}}, {{"functionCall":{{"id":"two","name":"g","args":{arguments}}}}}]}},"finishReason":"STOP","index":0}}],"usageMetadata":{{"promptTokenCount":1}}}}"#
        )],
        VendorWire::Converse => vec![
            r#"{"messageStart":{"role":"assistant"}}"#.to_owned(),
            format!(r#"{{"contentBlockDelta":{{"contentBlockIndex":0,"delta":{{"reasoningContent":{{"text":{thinks}}}}}}}}}"#),
            r#"{"contentBlockStop":{"contentBlockIndex":0}}"#.to_owned(),
            format!(r#"{{"contentBlockDelta":{{"contentBlockIndex":1,"delta":{{"text":{words}}}}}}}"#),
            r#"{"contentBlockStop":{"contentBlockIndex":1}}"#.to_owned(),
            r#"{"contentBlockStart":{"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"one","name":"f"}}}}"#.to_owned(),
            format!(r#"{{"contentBlockDelta":{{"contentBlockIndex":2,"delta":{{"toolUse":{{"input":{escaped}}}}}}}}}"#),
            r#"{"contentBlockStop":{"contentBlockIndex":2}}"#.to_owned(),
            r#"{"contentBlockStart":{"contentBlockIndex":3,"start":{"toolUse":{"toolUseId":"two","name":"g"}}}}"#.to_owned(),
            format!(r#"{{"contentBlockDelta":{{"contentBlockIndex":3,"delta":{{"toolUse":{{"input":{escaped}}}}}}}}}"#),
            r#"{"contentBlockStop":{"contentBlockIndex":3}}"#.to_owned(),
            r#"{"messageStop":{"stopReason":"tool_use"}}"#.to_owned(),
            r#"{"metadata":{"usage":{"inputTokens":1,"outputTokens":1}}}"#.to_owned(),
        ],
    }
}

const VENDORS: [VendorWire; 5] = [
    VendorWire::Responses,
    VendorWire::Chat,
    VendorWire::Messages,
    VendorWire::Gemini,
    VendorWire::Converse,
];

/// What arrives is what was said, all of it, in order and once.
fn arrives(vendor: VendorWire, [text, thought, arguments]: [usize; 3], size: usize) {
    let (text, thought) = (format!("so {}", long(text)), format!("hm {}", long(thought)));
    let arguments = format!(
        r#"{{"path":"a","list":[1,{{"x":[true]}}],"patch":{}}}"#,
        json(&long(arguments))
    );
    let answer = read(vendor, &at_once(vendor, &text, &thought, &arguments), size);
    let wanted = [
        ("thought", String::new(), thought),
        ("text", String::new(), text),
        ("call", "f".to_owned(), arguments.clone()),
        ("call", "g".to_owned(), arguments),
    ];
    assert!(said(&answer) == wanted, "{vendor:?} in pieces of {size}");
    assert_eq!(answer.stop, Stop::Calls, "{vendor:?} in pieces of {size}");
}

#[test]
fn what_is_said_at_once_and_is_long_arrives() {
    for vendor in VENDORS {
        for sizes in [
            [300_000, 10, 10],
            [10, 300_000, 10],
            [10, 10, 300_000],
            [100_000, 100_000, 100_000],
            [20_000; 3],
        ] {
            for size in [1_000, 4_099, 16_384, 70_001, 10_000_000] {
                arrives(vendor, sizes, size);
            }
        }
    }
}

#[test]
fn a_thought_that_is_known_for_one_too_late_is_no_text() {
    let event = format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"text":{},"thought":true}}]}}}}]}}"#,
        json(&long(100_000))
    );
    let answer = read(VendorWire::Gemini, &[event], 16_384);
    assert!(answer.failure.is_some());
}

#[test]
fn an_end_that_is_told_before_what_it_ends_is_no_end() {
    let event = format!(
        r#"{{"choices":[{{"finish_reason":"stop","delta":{{"content":{}}}}}]}}"#,
        json(&long(100_000))
    );
    let reply = Reply {
        id: "7".to_owned(),
        model: "m".to_owned(),
        created: 0,
        wants_usage: false,
    };
    let translator = Translator::new(
        Wire::Messages,
        VendorWire::Chat,
        Framing::Events,
        reply,
        Flat::default(),
    );
    let mut translator = translator.unwrap();
    translator.push(format!("data: {event}\n\ndata: [DONE]\n\n").into(), None);
    let mut told = Vec::new();
    while let Some(more) = translator.take() {
        told.extend(more);
    }
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.contains("event: error") && !told.contains("message_stop"),
        "{told}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_is_long_arrives_however_long_it_is_and_wherever_it_is_cut(
        vendor in prop::sample::select(&VENDORS[..]),
        sizes in [0..60_000_usize, 0..60_000, 0..60_000],
        size in 1..40_000_usize,
    ) {
        arrives(vendor, sizes, size);
    }
}

/// Bits of what vendors say, and of what they had better not.
const BITS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud83d",
    "é",
    "\n",
    "{\"choices\":[{\"delta\":{\"content\":\"",
    "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"",
    "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"",
    "},{\"functionCall\":{\"name\":\"f\",\"args\":{\"a\":[",
    "{\"functionCall\":{\"name\":\"f\",\"\u{fdd0}piece\":\"",
    "\"\u{fdd0}last\":true,",
    "\"\u{fdd0}on\":true,",
    "{\"type\":\"response.output_text.delta\",\"delta\":\"",
    "{\"type\":\"content_block_delta\",\"delta\":{\"partial_json\":\"",
    "{\"contentBlockDelta\":{\"contentBlockIndex\":0,\"delta\":{\"text\":\"",
    "\"finishReason\":\"STOP\"",
    "null",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_long_event_that_makes_no_sense_ends_well(
        vendor in prop::sample::select(&VENDORS[..]),
        client in prop::sample::select(&[Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini][..]),
        bits in prop::collection::vec((0..BITS.len(), prop_oneof![4 => Just(1_usize), 1 => 1..9_000_usize]), 1..60),
        size in 100..40_000_usize,
    ) {
        let reply = Reply { id: "7".to_owned(), model: "m".to_owned(), created: 0, wants_usage: false };
        let translator = Translator::new(client, vendor, Framing::Events, reply, Flat::default());
        let Some(mut translator) = translator else { return Ok(()) };
        let data: String = bits.iter().map(|(bit, times)| BITS[*bit].repeat((*times).min(60_000 / BITS[*bit].len()))).collect();
        let mut told = Vec::new();
        for chunk in format!("data: {}", data.replace('\n', "\ndata: ")).as_bytes().chunks(size) {
            translator.push(chunk.to_vec().into(), None);
            while let Some(more) = translator.take() {
                told.extend(more);
            }
        }
        translator.end(None);
        while let Some(more) = translator.take() {
            told.extend(more);
        }
        prop_assert!(translator.has_ended());
        prop_assert!(String::from_utf8(told).is_ok_and(|told| told.ends_with("\n\n")));
    }
}

/// Nobody can pack it: 1 KiB of it in each of so many events of chat.
fn noise(events: usize) -> Vec<String> {
    let mut state = 7_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let texts = std::iter::repeat_with(|| {
        let bytes: Vec<_> = (0..768).map(|_| byte()).collect();
        crate::base64::encode(&bytes)
    });
    let said = texts.map(|text| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"));
    said.take(events).collect()
}

#[test]
fn an_answer_that_is_too_long_to_be_told_again_ends_with_a_failure() {
    for (client, fits) in [(Wire::Responses, false), (Wire::Messages, true)] {
        let mut translator = super::translator(client, VendorWire::Chat, Flat::default());
        let (mut told, mut pushed) = (Vec::new(), 0);
        for event in noise(400) {
            if !translator.has_ended() {
                translator.push(event.into(), None);
                told.extend(super::taken(&mut translator));
                pushed += 1;
            }
        }
        assert_eq!((translator.has_ended(), translator.is_too_long()), (!fits, !fits));
        assert_eq!(fits, pushed == 400);
        assert!(pushed > 120, "{pushed} KiB");
        let last = String::from_utf8_lossy(&told);
        let last = last.trim_end().rsplit("\n\n").next().unwrap();
        assert_eq!(last.starts_with("event: response.failed\n"), !fits, "{last:.300}");
        assert_eq!(
            last.contains("too long to be told again at its end"),
            !fits,
            "{last:.300}"
        );
    }
}
