//! Streams as vendors really send them, where they differ from what their wire's first vendor says.

use super::super::*;
use crate::codec::bounded::Events;
use crate::event::{Answer, AnswerPart, Cause, Sequence, Stop};

/// What a stream adds up to: its texts, and the calls with their arguments.
struct Told {
    text: String,
    calls: Vec<(String, String, String)>,
    answer: Answer,
}

fn told(vendor: VendorWire, events: &[&str]) -> Told {
    let (mut reader, mut sequence, mut answer) = (reader(vendor, "7"), Sequence::default(), Answer::default());
    let mut read = Events::of_all();
    for event in events {
        reader.event(event.as_bytes(), &mut read);
    }
    reader.end(&mut read);
    while let Some(event) = read.next() {
        sequence.push(event, &mut |event| answer.add(event));
    }
    sequence.end(&mut |event| answer.add(event));
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in &answer.parts {
        match part {
            AnswerPart::Text(said) => text.push_str(&said.text),
            AnswerPart::Call { call, .. } => {
                calls.push((call.id.clone(), call.name.name.clone(), call.arguments.clone()));
            }
            _ => {}
        }
    }
    Told { text, calls, answer }
}

fn calls(vendor: VendorWire, events: &[&str]) -> Vec<(String, String, String)> {
    let told = told(vendor, events);
    assert_eq!(told.answer.failure, None);
    assert_eq!(told.answer.stop, Stop::Calls);
    told.calls
}

fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
    (id.to_owned(), name.to_owned(), arguments.to_owned())
}

fn chunk(delta: &str, finish: &str) -> String {
    format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#)
}

fn chat(deltas: &[&str]) -> Vec<(String, String, String)> {
    let mut events: Vec<_> = deltas.iter().map(|delta| chunk(delta, "null")).collect();
    events.push(chunk("{}", r#""tool_calls""#));
    events.push("[DONE]".to_owned());
    calls(VendorWire::Chat, &events.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn an_empty_reason_to_end_is_none() {
    let chunks = [
        chunk(r#"{"role":"assistant","content":""}"#, r#""""#),
        chunk(r#"{"content":"Hel"}"#, r#""""#),
        chunk(r#"{"content":"lo"}"#, r#""""#),
        chunk("{}", r#""length""#),
    ];
    let events: Vec<_> = chunks.iter().map(String::as_str).collect();
    let whole = told(VendorWire::Chat, &events);
    assert_eq!((whole.text.as_str(), whole.answer.stop), ("Hello", Stop::Length));
    let cut = told(VendorWire::Chat, &events[..3]);
    assert!(cut.answer.failure.is_some(), "it had not ended");
}

#[test]
fn calls_of_chat_are_told_apart_however_they_are_numbered() {
    let both = [call("a", "f", r#"{"x":1}"#), call("b", "g", "{}")];
    let zero = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]}"#;
    let other = r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}]}"#;
    assert_eq!(chat(&[zero, other]), both, "all of them are number 0");
    let whole = r#"{"tool_calls":[{"function":{"name":"f","arguments":"{\"x\":1}"}},{"function":{"name":"g","arguments":"{}"}}]}"#;
    let nameless = [call("call_7_1", "f", r#"{"x":1}"#), call("call_7_2", "g", "{}")];
    assert_eq!(chat(&[whole]), nameless, "neither number nor id");
    let begun = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}]}"#;
    for more in [
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"","function":{"name":"","arguments":"1}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"1}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"z","function":{"name":null,"arguments":"1}"}}]}"#,
        r#"{"tool_calls":[{"function":{"arguments":"1}"}}]}"#,
    ] {
        assert_eq!(chat(&[begun, more]), both[..1], "{more}");
    }
    let object = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":{"x":1}}}]}"#;
    assert_eq!(chat(&[object]), both[..1]);
}

#[test]
fn items_of_responses_that_are_told_within_each_other_are_put_in_order() {
    let added = |index: u8, call: &str, name: &str| {
        format!(
            r#"{{"type":"response.output_item.added","output_index":{index},"item":{{"type":"function_call","call_id":"{call}","name":"{name}","arguments":""}}}}"#
        )
    };
    let delta = |index: u8, text: &str| {
        let text = text.replace('"', "\\\"");
        format!(r#"{{"type":"response.function_call_arguments.delta","output_index":{index},"delta":"{text}"}}"#)
    };
    let done = |index: u8, text: &str| {
        let text = text.replace('"', "\\\"");
        format!(r#"{{"type":"response.function_call_arguments.done","output_index":{index},"arguments":"{text}"}}"#)
    };
    let end = r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#.to_owned();
    let (first, second, third) = (
        call("a", "f", r#"{"x":1}"#),
        call("b", "g", r#"{"y":2}"#),
        call("c", "h", "{}"),
    );
    let begun = [
        added(0, "a", "f"),
        added(1, "b", "g"),
        delta(1, r#"{"y""#),
        delta(0, r#"{"x":"#),
    ];
    let rest = [added(2, "c", "h"), delta(1, ":2}"), delta(0, "1}")];
    for ends in [
        vec![done(0, r#"{"x":1}"#), done(1, r#"{"y":2}"#), done(2, "{}"), end.clone()],
        vec![done(1, r#"{"y":2}"#), done(0, r#"{"x":1}"#), end.clone()],
        vec![end],
    ] {
        let events: Vec<_> = begun.iter().chain(&rest).chain(&ends).map(String::as_str).collect();
        let wanted = [first.clone(), second.clone(), third.clone()];
        assert_eq!(calls(VendorWire::Responses, &events), wanted, "{ends:?}");
    }
    // Those that are told one after the other go out at once.
    let mut reader = reader(VendorWire::Responses, "7");
    for event in [
        added(0, "a", "f"),
        delta(0, "{}"),
        done(0, "{}"),
        added(1, "b", "g"),
        delta(1, "{"),
    ] {
        let mut read = Events::of_all();
        reader.event(event.as_bytes(), &mut read);
        assert_eq!(read.next().is_none(), event.contains(".done"), "{event}");
    }
    let long = delta(3, &"x".repeat(10_000));
    let events: Vec<_> = std::iter::once(added(0, "a", "f"))
        .chain((0..9).map(|_| long.clone()))
        .collect();
    let flood = told(
        VendorWire::Responses,
        &events.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert!(flood.answer.failure.is_some(), "no more of it is kept");
}

#[test]
fn an_error_of_responses_is_told_in_either_of_its_forms() {
    for event in [
        r#"{"type":"error","code":"rate_limit_exceeded","message":"slow down","param":null,"sequence_number":1}"#,
        r#"{"type":"error","error":{"code":"rate_limit_exceeded","message":"slow down"}}"#,
    ] {
        let failure = told(VendorWire::Responses, &[event]).answer.failure.unwrap();
        assert_eq!(
            (failure.cause, failure.message.as_str()),
            (Cause::RateLimited, "slow down")
        );
    }
}
