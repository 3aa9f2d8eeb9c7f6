mod dialects;
mod long;
mod page;

use bytes::Bytes;

use super::*;
use crate::codec::Framing;
use crate::codec::bounded::Events;
use crate::event::Answer;
use crate::{Tokens, Usage};

fn target(is_streamed: bool) -> Target<'static> {
    Target {
        model: "m",
        is_openai: false,
        is_streamed,
        max_output: Tokens::new(4096),
    }
}

fn reply() -> Reply {
    Reply {
        id: "7".to_owned(),
        model: "asked".to_owned(),
        created: 1,
        wants_usage: true,
    }
}

fn asked(client: Wire, vendor: VendorWire, body: &str) -> (String, Option<String>) {
    let translated = translate(client, vendor, body.as_bytes(), &target(true)).unwrap_or_else(|refusal| {
        panic!("{}", refusal.message);
    });
    (String::from_utf8(translated.body).unwrap(), translated.dropped)
}

fn refused(client: Wire, vendor: VendorWire, body: &str) -> String {
    match translate(client, vendor, body.as_bytes(), &target(true)) {
        Err(refusal) => String::from_utf8(refusal.render(client, "r").body.to_vec()).unwrap(),
        Ok(_) => panic!("not refused"),
    }
}

fn translator(client: Wire, vendor: VendorWire, flat: Flat) -> Translator {
    Translator::new(client, vendor, Framing::Events, reply(), flat).unwrap()
}

fn streamed(client: Wire, vendor: VendorWire, chunks: &[&[u8]]) -> String {
    let mut translator = translator(client, vendor, Flat::default());
    let mut out = Vec::new();
    for chunk in chunks {
        translator.push(Bytes::copy_from_slice(chunk), usage());
        out.extend(taken(&mut translator));
    }
    translator.end(usage());
    out.extend(taken(&mut translator));
    String::from_utf8(out).unwrap()
}

fn taken(translator: &mut Translator) -> Vec<u8> {
    std::iter::from_fn(|| translator.take()).flatten().collect()
}

fn usage() -> Option<Usage> {
    Some(Usage {
        input: Tokens::new(10),
        cached: Tokens::new(4),
        output: Tokens::new(6),
        reasoning: Tokens::new(2),
        ..Usage::default()
    })
}

/// As Codex asks, shortened.
const CODEX: &str = r#"{"model":"gpt-x","instructions":"Be brief.","input":[
    {"type":"message","role":"developer","content":[{"type":"input_text","text":"No network."}]},
    {"type":"message","role":"user","content":[{"type":"input_text","text":"list files"},{"type":"input_image","image_url":"data:image/png;base64,iVBO"}]},
    {"type":"reasoning","summary":[{"type":"summary_text","text":"Look."}],"content":null,"encrypted_content":null},
    {"type":"function_call","name":"shell","arguments":"{\"cmd\":[\"ls\"]}","call_id":"call_1"},
    {"type":"custom_tool_call","name":"apply_patch","input":"*** Begin","call_id":"call_2"},
    {"type":"function_call","name":"search","namespace":"mcp__docs","arguments":"{}","call_id":"call_3"},
    {"type":"function_call_output","call_id":"call_1","output":"a.txt"},
    {"type":"custom_tool_call_output","call_id":"call_2","output":"done"},
    {"type":"function_call_output","call_id":"call_3","output":[{"type":"input_text","text":"x"},{"type":"input_image","image_url":"https://e/x.png"}]}],
  "tools":[{"type":"function","name":"shell","description":"Runs.","strict":false,"parameters":{"type":"object","properties":{"z":{},"a":{}}}},
    {"type":"custom","name":"apply_patch","description":"Patches.","format":{"type":"grammar","syntax":"lark","definition":"start: x"}},
    {"type":"namespace","name":"mcp__docs","description":"Docs.","tools":[{"type":"function","name":"search","parameters":{}}]},
    {"type":"web_search","external_web_access":false}],
  "tool_choice":"auto","parallel_tool_calls":true,"reasoning":{"effort":"high","summary":"auto"},"store":false,"stream":true,
  "include":["reasoning.encrypted_content"],"prompt_cache_key":"t","text":{"verbosity":"low"},"client_metadata":{"x":"y"}}"#;

#[test]
fn what_codex_asks_becomes_chat() {
    let (body, dropped) = asked(Wire::Responses, VendorWire::Chat, CODEX);
    let wanted = concat!(
        r#"{"model":"m","messages":[{"role":"system","content":"Be brief.\n\nNo network."},"#,
        r#"{"role":"user","content":[{"type":"text","text":"list files"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}}]},"#,
        r#"{"role":"assistant","content":null,"reasoning_content":"Look.","tool_calls":["#,
        r#"{"id":"call_1","type":"function","function":{"name":"shell","arguments":"{\"cmd\":[\"ls\"]}"}},"#,
        r#"{"id":"call_2","type":"function","function":{"name":"apply_patch","arguments":"{\"input\":\"*** Begin\"}"}},"#,
        r#"{"id":"call_3","type":"function","function":{"name":"mcp__docs__search","arguments":"{}"}}]},"#,
        r#"{"role":"tool","content":"a.txt","tool_call_id":"call_1"},{"role":"tool","content":"done","tool_call_id":"call_2"},"#,
        r#"{"role":"tool","content":"x","tool_call_id":"call_3"},"#,
        r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://e/x.png"}}]}],"tools":["#,
        r#"{"type":"function","function":{"name":"shell","description":"Runs.","parameters":{"type":"object","properties":{"z":{},"a":{}}},"strict":false}},"#,
        r#"{"type":"function","function":{"name":"apply_patch","description":"Patches.\n\nThe `input` must be in this format: {\"type\":\"grammar\",\"syntax\":\"lark\",\"definition\":\"start: x\"}","#,
        r#""parameters":{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}}},"#,
        r#"{"type":"function","function":{"name":"mcp__docs__search","parameters":{}}}],"#,
        r#""tool_choice":"auto","parallel_tool_calls":true,"reasoning_effort":"high","stream":true,"stream_options":{"include_usage":true}}"#,
    );
    assert_eq!(body, wanted);
    assert_eq!(
        dropped.as_deref(),
        Some("tools[2].description, client_metadata, tools[3], text.verbosity, prompt_cache_key")
    );
}

const CHAT: &str = r#"{"model":"x","messages":[{"role":"system","content":"S"},{"role":"user","name":"ann","content":[{"type":"text","text":"hi"},
    {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"}}]},
    {"role":"assistant","content":"","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},
    {"role":"tool","tool_call_id":"c1","content":"ok"}],
  "tools":[{"type":"function","function":{"name":"f","parameters":{"b":1,"a":2}}},{"type":"custom","custom":{"name":"g"}}],
  "tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}},{"type":"custom","custom":{"name":"g"}}]}},
  "response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"z":1,"a":[]}}},
  "max_completion_tokens":99,"temperature":0.70,"top_p":1e0,"seed":7,"presence_penalty":0,"frequency_penalty":0.5,"reasoning_effort":"low","stream":true}"#;

#[test]
fn what_a_chat_client_asks_becomes_responses() {
    let (body, dropped) = asked(Wire::Chat, VendorWire::Responses, CHAT);
    let wanted = concat!(
        r#"{"model":"m","input":[{"type":"message","role":"system","content":[{"type":"input_text","text":"S"}]},"#,
        r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"},{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"}]},"#,
        r#"{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":"ok"}],"#,
        r#""tools":[{"type":"function","name":"f","parameters":{"b":1,"a":2},"strict":false},{"type":"custom","name":"g"}],"#,
        r#""tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"},{"type":"custom","name":"g"}]},"#,
        r#""text":{"format":{"type":"json_schema","name":"n","schema":{"z":1,"a":[]},"strict":true}},"max_output_tokens":99,"temperature":0.70,"top_p":1e0,"#,
        r#""reasoning":{"effort":"low"},"include":["reasoning.encrypted_content"],"store":false,"stream":true}"#,
    );
    assert_eq!(body, wanted);
    assert_eq!(dropped.as_deref(), Some("messages[1].name, seed, frequency_penalty"));
}

#[test]
fn lost_meaning_refuses_the_call_and_names_every_field() {
    let ask = |more: &str| format!(r#"{{"model":"x","messages":[{{"role":"user","content":"hi"}}],{more}}}"#);
    for (more, named) in [
        (r#""n":2"#, "`n`"),
        (r#""stop":["END"]"#, "`stop`"),
        (
            r#""logprobs":true,"functions":[{"name":"f"}]"#,
            "`logprobs`, `functions`",
        ),
        (r#""modalities":["text","audio"]"#, "`modalities[1]`"),
        (r#""web_search_options":{}"#, "`web_search_options`"),
    ] {
        let text = refused(Wire::Chat, VendorWire::Responses, &ask(more));
        assert!(
            text.contains(named) && text.contains("OpenAI Responses, which cannot say"),
            "{text}"
        );
    }
    for (body, named) in [
        (r#"{"input":"hi","previous_response_id":"r"}"#, "`previous_response_id`"),
        (r#"{"input":[{"type":"item_reference","id":"x"}]}"#, "`input[0]`"),
        (
            r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]}"#,
            "`input[0].content[0]`",
        ),
        (r#"{"input":"hi","tools":[{"type":"web_search"}]}"#, "`tools[0]`"),
        (r#"{"input":"hi","tool_choice":{"type":"web_search"}}"#, "`tool_choice`"),
    ] {
        let text = refused(Wire::Responses, VendorWire::Chat, body);
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (client, body, named) in [
        (
            Wire::Chat,
            r#"{"messages":[{"role":"user","content":7}]}"#,
            "`messages[0].content` must be an array",
        ),
        (
            Wire::Chat,
            r#"{"messages":[{"role":"user"}]}"#,
            "`messages[0].content` must be a string or a list of parts",
        ),
        (Wire::Chat, r#"{"model":"x"}"#, "`messages` must be a list of messages"),
        (
            Wire::Responses,
            r#"{"input":[{"type":"function_call","name":"f","call_id":"c"}]}"#,
            "`input[0].arguments` must be a string",
        ),
        (
            Wire::Responses,
            r#"{"input":[{"role":"robot","content":""}]}"#,
            "`input[0].role` must be",
        ),
    ] {
        let vendor = match client {
            Wire::Chat => VendorWire::Responses,
            _ => VendorWire::Chat,
        };
        let text = refused(client, vendor, body);
        assert!(text.contains(named), "{text}");
    }
}

/// Every kind of part, as a chat vendor streams it.
const CHAT_STREAM: &str = concat!(
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
    ": keep-alive\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"Hm\"}}]}\r\n\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Héllo\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" \\\"you\\\"\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"x\\\":\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":6,\"total_tokens\":16}}\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn a_chat_stream_becomes_one_of_responses() {
    let text = streamed(Wire::Responses, VendorWire::Chat, &[CHAT_STREAM.as_bytes()]);
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("event: response."))
        .collect();
    assert_eq!(
        names,
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ]
    );
    let last = text.rsplit("data: ").next().unwrap().trim_end();
    let wanted = concat!(
        r#"{"type":"response.completed","sequence_number":24,"response":{"id":"resp_7","object":"response","created_at":1,"status":"completed","#,
        r#""error":null,"incomplete_details":null,"instructions":null,"metadata":{},"model":"asked","output":["#,
        r#"{"type":"reasoning","id":"rs_7_0","summary":[{"type":"summary_text","text":"Hm"}]},"#,
        r#"{"type":"message","id":"msg_7_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Héllo \"you\"","annotations":[],"logprobs":[]}]},"#,
        r#"{"type":"function_call","id":"fc_7_2","status":"completed","call_id":"a","name":"f","arguments":"{\"x\":1}"},"#,
        r#"{"type":"function_call","id":"fc_7_3","status":"completed","call_id":"b","name":"g","arguments":"{}"}],"#,
        r#""parallel_tool_calls":true,"previous_response_id":null,"store":false,"temperature":null,"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","#,
        r#""usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":0},"output_tokens":6,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":16}}}"#,
    );
    assert_eq!(last, wanted);
}

/// What the codec of one wire writes, the codec of the other reads: the parts come back as they were.
#[test]
fn a_stream_that_crosses_and_comes_back_is_the_same() {
    let responses = streamed(Wire::Responses, VendorWire::Chat, &[CHAT_STREAM.as_bytes()]);
    let chat = streamed(Wire::Chat, VendorWire::Responses, &[responses.as_bytes()]);
    let again = streamed(Wire::Responses, VendorWire::Chat, &[chat.as_bytes()]);
    assert_eq!(again, responses);
    assert!(chat.ends_with("data: [DONE]\n\n"));
    assert!(chat.contains(r#""finish_reason":"tool_calls""#), "{chat}");
    let used = r#""choices":[],"usage":{"prompt_tokens":10,"completion_tokens":6,"total_tokens":16,"#;
    assert!(chat.contains(used), "{chat}");
}

#[test]
fn wherever_a_stream_is_cut_its_events_are_the_same() {
    let responses = streamed(Wire::Responses, VendorWire::Chat, &[CHAT_STREAM.as_bytes()]);
    for (client, vendor, text, step) in [
        (Wire::Responses, VendorWire::Chat, CHAT_STREAM.as_bytes(), 1),
        (Wire::Chat, VendorWire::Responses, responses.as_bytes(), 7),
    ] {
        let whole = streamed(client, vendor, &[text]);
        for cut in (0..text.len()).step_by(step) {
            let (before, after) = text.split_at(cut);
            assert_eq!(streamed(client, vendor, &[before, after]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(streamed(client, vendor, &bytes), whole);
    }
}

#[test]
fn each_event_goes_out_at_once() {
    let mut translator = translator(Wire::Responses, VendorWire::Chat, Flat::default());
    for event in CHAT_STREAM
        .split_inclusive("\n\n")
        .filter(|event| event.contains("\"delta\":{\""))
    {
        translator.push(Bytes::copy_from_slice(event.as_bytes()), None);
        assert!(!taken(&mut translator).is_empty(), "{event}");
    }
}

/// Whole answers: of each wire, and what the other wire's client gets.
#[test]
fn whole_answers_cross_both_ways() {
    let chat = concat!(
        r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"See.","refusal":null,"annotations":[{"type":"url_citation","#,
        r#""url_citation":{"url":"https://e","title":"E","start_index":0,"end_index":3}}],"tool_calls":[{"id":"a","type":"function","#,
        r#""function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{}}"#
    );
    let whole = |client, vendor, body: &str| {
        let answer = translator(client, vendor, Flat::default()).whole(body.as_bytes(), usage());
        String::from_utf8(answer.ok().unwrap()).unwrap()
    };
    let responses = whole(Wire::Responses, VendorWire::Chat, chat);
    let output = concat!(
        r#""output":[{"type":"message","id":"msg_7_0","status":"completed","role":"assistant","content":[{"type":"output_text","text":"See.","#,
        r#""annotations":[{"type":"url_citation","url":"https://e","title":"E","start_index":0,"end_index":3}],"logprobs":[]}]},"#,
        r#"{"type":"function_call","id":"fc_7_1","status":"completed","call_id":"a","name":"f","arguments":"{}"}]"#
    );
    assert!(responses.contains(output), "{responses}");
    let back = whole(Wire::Chat, VendorWire::Responses, &responses);
    let wanted = concat!(
        r#"{"id":"chatcmpl-7","object":"chat.completion","created":1,"model":"asked","choices":[{"index":0,"message":{"role":"assistant","content":"See.","refusal":null,"#,
        r#""annotations":[{"type":"url_citation","url_citation":{"url":"https://e","title":"E","start_index":0,"end_index":3}}],"#,
        r#""tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"#,
        r#""usage":{"prompt_tokens":10,"completion_tokens":6,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":0,"audio_tokens":0},"#,
        r#""completion_tokens_details":{"reasoning_tokens":2,"audio_tokens":0}}}"#
    );
    assert_eq!(back, wanted);
}

#[test]
fn every_reason_to_end_is_told() {
    for (reason, status, why) in [
        ("stop", "completed", "null"),
        ("length", "incomplete", r#"{"reason":"max_output_tokens"}"#),
        ("content_filter", "incomplete", r#"{"reason":"content_filter"}"#),
        ("something_else", "completed", "null"),
    ] {
        let chat = format!(r#"{{"choices":[{{"message":{{"content":"x"}},"finish_reason":"{reason}"}}]}}"#);
        let told = translator(Wire::Responses, VendorWire::Chat, Flat::default()).whole(chat.as_bytes(), None);
        let told = String::from_utf8(told.ok().unwrap()).unwrap();
        assert!(
            told.contains(&format!(
                r#""status":"{status}","error":null,"incomplete_details":{why}"#
            )),
            "{told}"
        );
        let back = translator(Wire::Chat, VendorWire::Responses, Flat::default()).whole(told.as_bytes(), None);
        let back = String::from_utf8(back.ok().unwrap()).unwrap();
        let wanted = reason.replace("something_else", "stop");
        assert!(back.contains(&format!(r#""finish_reason":"{wanted}""#)), "{back}");
    }
}

#[test]
fn a_free_form_tool_gets_its_text_and_a_group_its_name() {
    let translated = translate(Wire::Responses, VendorWire::Chat, CODEX.as_bytes(), &target(true));
    let mut translator = translator(Wire::Responses, VendorWire::Chat, translated.ok().unwrap().flat);
    let mut told = Vec::new();
    for event in [
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"apply_patch","arguments":"{\"input\":\"*** "}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"Begin\\n\"}"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"mcp__docs__search","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#,
    ] {
        translator.push(format!("data: {event}\n\n").into(), None);
        told.extend(taken(&mut translator));
    }
    translator.push(Bytes::from_static(b"data: [DONE]\n\n"), None);
    told.extend(taken(&mut translator));
    let text = String::from_utf8(told).unwrap();
    let patch = r#"{"type":"custom_tool_call","id":"ctc_7_0","status":"completed","call_id":"a","name":"apply_patch","input":"*** Begin\n"}"#;
    let search = r#""call_id":"b","namespace":"mcp__docs","name":"search","arguments":"{}"}"#;
    assert!(text.contains(patch) && text.contains(search), "{text}");
}

/// No vendor can make a panic, an endless buffer or an answer without an end.
#[test]
fn whatever_a_vendor_sends_the_client_gets_an_end() {
    let failed = "event: response.failed\n";
    for (stream, is_failed) in [
        ("", true),
        ("data: {\n\n", true),
        ("data: \u{fffd}\n\n", true),
        ("data: {\"choices\":7}\n\n", true),
        ("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n", true),
        ("data: {\"error\":{\"message\":\"no room\",\"code\":503}}\n\n", true),
        ("data: [DONE]\n\n", false),
        ("data: [DONE]\n\ndata: [DONE]\n\n", false),
        ("data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", false),
        (
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"x\"}}]}}]}\n\n",
            true,
        ),
    ] {
        let text = streamed(Wire::Responses, VendorWire::Chat, &[stream.as_bytes()]);
        assert_eq!(text.contains(failed), is_failed, "{stream}: {text}");
        assert_eq!(
            text.matches("event: response.completed\n").count(),
            usize::from(!is_failed),
            "{stream}"
        );
    }
    let failure = streamed(
        Wire::Responses,
        VendorWire::Chat,
        &[b"data: {\"error\":{\"message\":\"no room\",\"code\":503}}\n\n"],
    );
    assert!(
        failure.contains("server_is_overloaded") && failure.contains("no room"),
        "{failure}"
    );

    for (start, more) in [
        ("data: ", "["),
        ("data: \"", "a"),
        (": ", "a"),
        ("data: 1\n", "data: 1\n"),
    ] {
        let mut endless = translator(Wire::Chat, VendorWire::Responses, Flat::default());
        endless.push(Bytes::from_static(start.as_bytes()), None);
        assert!(endless.take().is_none());
        let more = Bytes::from(more.repeat((1 << 20) / more.len()));
        let mut told = Vec::new();
        for _ in 0..33 {
            endless.push(more.clone(), None);
            told.extend(taken(&mut endless));
        }
        assert!(endless.has_ended());
        assert!(
            String::from_utf8(told)
                .unwrap()
                .contains("cannot be told piece by piece"),
            "{start}"
        );
    }
}

#[test]
fn what_broke_off_for_our_own_reasons_is_told_once() {
    let mut translator = translator(Wire::Chat, VendorWire::Responses, Flat::default());
    translator.push(
        Bytes::from_static(b"data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n"),
        None,
    );
    let mut told = taken(&mut translator);
    let refusal = Refusal::new(Code::OutOfCredit, "No credit is left.");
    translator.break_off(&refusal);
    translator.break_off(&refusal);
    translator.end(None);
    told.extend(taken(&mut translator));
    let text = String::from_utf8(told).unwrap();
    assert_eq!(
        text.matches("insufficient_quota").count(),
        2,
        "type and code of one error: {text}"
    );
}

#[test]
fn a_vendors_lock_on_its_reasoning_comes_back_to_it() {
    let stream = concat!(
        "data: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"reasoning\",\"summary\":[]}}\n\n",
        "data: {\"type\":\"response.reasoning_summary_text.delta\",\"output_index\":0,\"delta\":\"A\"}\n\n",
        "data: {\"type\":\"response.reasoning_summary_part.done\",\"output_index\":0}\n\n",
        "data: {\"type\":\"response.reasoning_summary_text.delta\",\"output_index\":0,\"delta\":\"B\"}\n\n",
        "data: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":\"gAAA\"}}\n\n",
    );
    let mut reader = responses::Reader::default();
    let mut out = Events::of_all();
    for event in stream.split("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
        reader.event(event.as_bytes(), &mut out);
    }
    let mut answer = Answer::default();
    std::iter::from_fn(|| out.next()).for_each(|event| answer.add(event));
    let Some(crate::AnswerPart::Reasoning(thought)) = answer.parts.first() else {
        panic!("no thought");
    };
    assert_eq!(thought.text, "A\n\nB");
    assert_eq!(
        thought.opaque.as_ref().and_then(|lock| lock.of(VendorWire::Responses)),
        Some("gAAA")
    );
}

/// As Codex asks for it under the name of OpenAI: the summary is one item, and what it holds is told later.
#[test]
fn a_compaction_is_asked_for_in_words_and_understood_again() {
    let ask = r#"{"input":[{"role":"user","content":"x"},{"type":"compaction_trigger"}],"tools":[{"type":"function","name":"f"}]}"#;
    let translated = translate(Wire::Responses, VendorWire::Chat, ask.as_bytes(), &target(true))
        .ok()
        .unwrap();
    let body = String::from_utf8(translated.body).unwrap();
    assert!(
        body.contains("Summarise this conversation") && body.contains(r#""tool_choice":"none""#),
        "{body}"
    );
    assert_eq!(translated.dropped, None);
    let mut stream = translator(Wire::Responses, VendorWire::Chat, translated.flat.clone());
    stream.push(Bytes::from_static(CHAT_STREAM.as_bytes()), usage());
    let streamed = String::from_utf8(taken(&mut stream)).unwrap();
    let item = r#"{"type":"compaction","id":"cmp_7_0","encrypted_content":"relay.summary.Héllo \"you\""}"#;
    assert_eq!(streamed.matches(item).count(), 3, "{streamed}");
    assert_eq!(
        streamed.matches("output_item.done").count(),
        2,
        "its name and its type: {streamed}"
    );
    let answer = r#"{"choices":[{"message":{"content":"Short."},"finish_reason":"stop"}]}"#;
    let whole = translator(Wire::Responses, VendorWire::Chat, translated.flat).whole(answer.as_bytes(), None);
    let whole = String::from_utf8(whole.ok().unwrap()).unwrap();
    assert!(
        whole.contains(r#""output":[{"type":"compaction","id":"cmp_7_0","encrypted_content":"relay.summary.Short."}]"#),
        "{whole}"
    );

    let again =
        r#"{"input":[{"type":"compaction","encrypted_content":"relay.summary.Short."},{"role":"user","content":"y"}]}"#;
    let (body, _) = asked(Wire::Responses, VendorWire::Chat, again);
    assert!(body.contains(r"summary of it:\n\nShort."), "{body}");
    let locked = r#"{"input":[{"type":"compaction","encrypted_content":"gAAA"}]}"#;
    assert!(refused(Wire::Responses, VendorWire::Chat, locked).contains("`input[0]`"));
}
