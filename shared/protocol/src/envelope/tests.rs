use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::payload::Payload;

fn responses(body: &str) -> Result<Envelope, EnvelopeError> {
    Envelope::read(Endpoint::Responses, body.as_bytes())
}

fn chat(body: &str) -> Result<Envelope, EnvelopeError> {
    Envelope::read(Endpoint::ChatCompletions, body.as_bytes())
}

fn messages(body: &str) -> Result<Envelope, EnvelopeError> {
    Envelope::read(Endpoint::Messages, body.as_bytes())
}

fn gemini(body: &str) -> Result<Envelope, EnvelopeError> {
    let path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";
    Envelope::read_at(Endpoint::StreamGenerate, path, body.as_bytes())
}

#[test]
fn an_answer_of_responses_is_stored_unless_its_call_says_no() {
    for (said, stores) in [
        ("", true),
        (r#","store":null"#, true),
        (r#","store":true"#, true),
        (r#","store":"false""#, true),
        (r#","store":false"#, false),
    ] {
        let body = format!(r#"{{"model":"m"{said}}}"#);
        assert_eq!(responses(&body).unwrap().stores, stores, "{body}");
        assert!(!chat(&body).unwrap().stores && !messages(&body).unwrap().stores);
    }
}

#[test]
fn the_facts_of_a_messages_body_are_read() {
    let body = r#"{"model":"claude-x","max_tokens":1024,"stream":true,"service_tier":"standard_only","speed":"fast",
        "inference_geo":"us","metadata":{"user_id":"user_1_session_2"},
        "system":[{"type":"text","text":"\"ttl\":\"1h\"","cache_control":{"type":"ephemeral"}}],
        "messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x"}},
            {"type":"web_search_tool_result","content":[{"type":"web_search_result"}]}]}]}"#;
    let envelope = messages(body).unwrap();
    assert_eq!(
        (envelope.model.as_str(), envelope.max_output),
        ("claude-x", Some(Tokens::new(1024)))
    );
    assert!(envelope.stream && envelope.generate && !envelope.keeps_cache && !envelope.continues);
    assert_eq!(envelope.service_tier.as_deref(), Some("fast-us"));
    assert_eq!(envelope.session.as_deref(), Some("user_1_session_2"));
    assert_eq!((envelope.carries.pictures, envelope.carries.searches), (1, false));
    assert_eq!(
        edited(&envelope, body, Some("claude-y"), true),
        body.replace("claude-x", "claude-y")
    );

    let more = r#"{"model":"m","mcp_servers":[{"type":"url"}],"tools":[{"type":"web_search_20250305","name":"web_search"}],
        "messages":[{"content":[{"type":"document","cache_control":{"type":"ephemeral","t\u0074l":"1h"}}]}]}"#;
    let envelope = messages(more).unwrap();
    assert!(envelope.keeps_cache && envelope.continues && envelope.carries.searches && envelope.carries.files);
    assert_eq!((envelope.service_tier, envelope.session), (None, None));
    let counting = Envelope::read(Endpoint::CountTokens, br#"{"model":"m","messages":[]}"#).unwrap();
    assert!(!counting.generate && !counting.stream);
}

#[test]
fn the_facts_of_a_gemini_body_are_read_in_both_spellings() {
    for (config, most, count, modalities, tools) in [
        (
            "generationConfig",
            "maxOutputTokens",
            "candidateCount",
            "responseModalities",
            "googleSearch",
        ),
        (
            "generation_config",
            "max_output_tokens",
            "candidate_count",
            "response_modalities",
            "google_search",
        ),
    ] {
        let body = format!(
            r#"{{"contents":[{{"parts":[{{"inlineData":{{"mimeType":"image/png","data":"AA"}}}},{{"inline_data":{{"mime_type":"audio/wav"}}}},
                {{"text":"\"candidateCount\":9"}}]}}],"{config}":{{"{most}":77,"{count}":2,"{modalities}":["TEXT","IMAGE"]}},
                "tools":[{{"{tools}":{{}}}}],"model":"models/other"}}"#
        );
        let envelope = gemini(&body).unwrap();
        assert_eq!(envelope.model, "gemini-2.5-pro");
        assert!(envelope.stream && !envelope.continues);
        assert_eq!((envelope.max_output, envelope.n), (Some(Tokens::new(77)), 2));
        let carries = envelope.carries;
        assert_eq!((carries.pictures, carries.sound, carries.files), (1, true, false));
        assert!(carries.searches && carries.writes_pictures);
        assert!(
            envelope.edits(Some("alias"), true).is_empty(),
            "the path names the model"
        );
    }
    let cached =
        gemini(r#"{"contents":[{"fileData":{"mimeType":"video/mp4"}}],"cachedContent":"cachedContents/1"}"#).unwrap();
    assert!(cached.continues && cached.carries.files);
    let hidden =
        r#"{"tools":{"google\u0053earch":{}},"generationConfig":{"responseModalities":["IM\u0041GE","audio"]}}"#;
    let carries = gemini(hidden).unwrap().carries;
    assert!(carries.searches && carries.writes_pictures && carries.sound && !carries.searches_files);
    let numbered = gemini(r#"{"generationConfig":{"responseModalities":[1,2]}}"#)
        .unwrap()
        .carries;
    assert!(
        numbered.writes_pictures && numbered.sound,
        "the names of the numbers are Google's"
    );
    let quoted = gemini(r#"{"generation_config":{"max_output_tokens":"77","candidateCount":"2"}}"#).unwrap();
    assert_eq!((quoted.max_output, quoted.n), (Some(Tokens::new(77)), 2));
    let flex = gemini(r#"{"contents":[],"serviceTier":"FLEX"}"#).unwrap();
    assert_eq!(flex.service_tier.as_deref(), Some("flex"));
}

#[test]
fn what_readers_of_the_other_wires_may_understand_differently_is_refused() {
    let told = |result| refused(result);
    assert_eq!(told(messages(r#"{"messages":[]}"#)), "`model` is missing");
    assert_eq!(
        told(messages(r#"{"model":"m","Max_Tokens":1}"#)),
        "`max_tokens` must be spelled like this, in lower case"
    );
    assert_eq!(
        told(messages(r#"{"model":"m","metadata":"u"}"#)),
        "`metadata` must be an object"
    );
    assert_eq!(
        told(gemini(r#"{"generationConfig":{},"generation_config":{}}"#)),
        "`generation_config` stands twice"
    );
    for wrong in ["-1", r#""-1""#, r#""""#, r#""7 7""#, r#""\u0037""#, "[7]", r#""7e1""#] {
        assert_eq!(
            told(gemini(&format!(
                r#"{{"generationConfig":{{"maxOutputTokens":{wrong}}}}}"#
            ))),
            "`maxOutputTokens` must be a whole number that is not negative",
            "{wrong}"
        );
    }
    assert_eq!(
        told(messages(r#"{"model":"m","max_tokens":"7"}"#)),
        "`max_tokens` must be a whole number that is not negative"
    );
    let nameless = Envelope::read_at(Endpoint::Generate, "/v1/models/%ff:generateContent", b"{}");
    assert_eq!(told(nameless), "`model` is missing");
}

#[track_caller]
fn refused(result: Result<Envelope, EnvelopeError>) -> String {
    result.err().expect("refused").to_string()
}

fn edited(envelope: &Envelope, body: &str, rename: Option<&str>, ask_usage: bool) -> String {
    let payload = envelope
        .edits(rename, ask_usage)
        .apply(&Payload::new(Bytes::from(body.to_owned())));
    String::from_utf8(payload.as_slice().to_vec()).unwrap()
}

#[test]
fn the_facts_of_a_responses_body_are_read() {
    let body = r#"{"input":[{"content":"\"model\":\"no\"","model":"inner"}],"stream":true,"max_output_tokens":100,
        "service_tier":"flex","previous_response_id":"resp_1","unknown":{"stream":1},"mod\u0065l":"gpt-\u0035"}"#;
    let envelope = responses(body).unwrap();
    assert_eq!(envelope.model, "gpt-5");
    assert!(envelope.stream && envelope.generate && envelope.continues && !envelope.background);
    assert_eq!(envelope.max_output, Some(Tokens::new(100)));
    assert_eq!(envelope.service_tier.as_deref(), Some("flex"));
    assert_eq!((envelope.n, envelope.bytes), (1, body.len()));
}

#[test]
fn what_is_left_out_or_null_has_its_default() {
    for body in [
        r#"{"model":"m"}"#,
        r#"{"model":"m","stream":null,"max_output_tokens":null,"service_tier":null,"background":null,"prompt":null}"#,
    ] {
        let envelope = responses(body).unwrap();
        assert!(!envelope.stream && envelope.generate && !envelope.continues && !envelope.background);
        assert_eq!((envelope.max_output, envelope.service_tier), (None, None));
    }
}

#[test]
fn the_facts_of_a_chat_body_are_read() {
    let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":5,"max_completion_tokens":3,"n":2}"#;
    let envelope = chat(body).unwrap();
    assert!(envelope.stream && envelope.wants_usage);
    assert_eq!((envelope.max_output, envelope.n), (Some(Tokens::new(5)), 2));
}

#[test]
fn wrong_types_are_named() {
    for (body, message) in [
        ("{}", "`model` is missing"),
        (r#"{"model":null}"#, "`model` is missing"),
        (r#"{"model":5}"#, "`model` must be a string"),
        (r#"{"model":""}"#, "`model` must be a string of 1 to 256 bytes"),
        (r#"{"model":"\ud800"}"#, "`model` must be a string"),
        (r#"{"model":"m","stream":"yes"}"#, "`stream` must be true or false"),
        (
            r#"{"model":"m","max_output_tokens":-1}"#,
            "`max_output_tokens` must be a whole number that is not negative",
        ),
        (
            r#"{"model":"m","max_output_tokens":1.5}"#,
            "`max_output_tokens` must be a whole number that is not negative",
        ),
        (
            r#"{"model":"m","max_output_tokens":1e400}"#,
            "`max_output_tokens` must be a whole number that is not negative",
        ),
        (
            r#"{"model":"m","max_output_tokens":99999999999999999999999}"#,
            "`max_output_tokens` must be a whole number that is not negative",
        ),
        (r#"{"model":"m","background":1}"#, "`background` must be true or false"),
        (r#"{"model":"m","model":"m"}"#, "`model` stands twice"),
        (r#"{"model":"m","\u006dodel":"n"}"#, "`model` stands twice"),
        (r#"{"model":"m","stream":true,"stream":false}"#, "`stream` stands twice"),
        (
            r#"{"model":"m","Model":"n"}"#,
            "`model` must be spelled like this, in lower case",
        ),
        (
            "[]",
            "the body is not a JSON object we can read: something other than an object at byte 0",
        ),
        (
            r#"{"model":"m""#,
            "the body is not a JSON object we can read: a missing comma or bracket at byte 12",
        ),
    ] {
        assert_eq!(refused(responses(body)), message, "{body}");
    }
    for (body, message) in [
        (r#"{"model":"m","n":0}"#, "`n` must be a whole number from 1 to 128"),
        (r#"{"model":"m","n":"1"}"#, "`n` must be a whole number from 1 to 128"),
        (
            r#"{"model":"m","max_tokens":[]}"#,
            "`max_tokens` must be a whole number that is not negative",
        ),
        (
            r#"{"model":"m","stream_options":[]}"#,
            "`stream_options` must be an object",
        ),
        (
            r#"{"model":"m","stream_options":{"include_usage":1}}"#,
            "`include_usage` must be true or false",
        ),
        (
            r#"{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}"#,
            "`include_usage` stands twice",
        ),
        (
            r#"{"model":"m","stream_options":{},"stream_options":{}}"#,
            "`stream_options` stands twice",
        ),
    ] {
        assert_eq!(refused(chat(body)), message, "{body}");
    }
}

#[test]
fn bad_utf8_and_deep_nesting_are_refused() {
    let refusal = refused(Envelope::read(Endpoint::Responses, b"{\"model\":\"\xc3\"}"));
    assert_eq!(
        refusal,
        "the body is not a JSON object we can read: text that is not UTF-8 at byte 10"
    );
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(refused(responses(&deep)).contains("nesting that is too deep"));
}

#[test]
fn an_error_becomes_a_refusal_that_quotes_nothing() {
    let refusal = Refusal::from(responses(r#"{"model":{"secret":1}}"#).err().unwrap());
    assert_eq!(refusal.code, Code::InvalidRequest);
    assert_eq!(&*refusal.message, "Invalid request: `model` must be a string.");
}

#[test]
fn doubled_fields_of_others_are_their_business() {
    assert!(responses(r#"{"model":"m","x":1,"x":2,"n":0,"stream_options":5}"#).is_ok());
    assert!(chat(r#"{"model":"m","background":"x","type":7}"#).is_ok());
}

#[test]
fn frames_are_told_apart() {
    let Frame::Create(envelope) = Frame::read(br#"{"type":"response.create","model":"m","generate":false}"#).unwrap()
    else {
        panic!("a call")
    };
    assert!(!envelope.generate && envelope.stream);
    let Frame::Create(envelope) =
        Frame::read(br#"{"model":"m","previous_response_id":"r","type":"response.\u0063reate"}"#).unwrap()
    else {
        panic!("a call")
    };
    assert!(envelope.generate && envelope.continues);
    assert!(matches!(
        Frame::read(br#"{"type":"response.cancel"}"#),
        Ok(Frame::Other)
    ));
    for (text, message) in [
        ("{}", "`type` is missing"),
        (r#"{"type":1}"#, "`type` must be a string"),
        (r#"{"type":"response.create"}"#, "`model` is missing"),
        (r#"{"type":"x","type":"response.create"}"#, "`type` stands twice"),
    ] {
        assert_eq!(Frame::read(text.as_bytes()).err().unwrap().to_string(), message);
    }
    assert!(Frame::read(b"hello").is_err());
}

#[test]
fn without_an_edit_the_body_is_the_same_allocation() {
    let body = Bytes::from_static(br#"{"model":"m","stream":true}"#);
    let envelope = Envelope::read(Endpoint::ChatCompletions, &body).unwrap();
    for edits in [envelope.edits(None, false), envelope.edits(Some("m"), false)] {
        assert!(edits.is_empty());
        assert_eq!(
            edits.apply(&Payload::new(body.clone())).as_slice().as_ptr(),
            body.as_ptr()
        );
    }
}

#[test]
fn usage_is_asked_for_wherever_that_can_be_said() {
    for (body, expected) in [
        (
            r#"{"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            r#" { "stream":true,"model":"m"}"#,
            r#" {"stream_options":{"include_usage":true}, "stream":true,"model":"m"}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":null}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{ }}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true }}"#,
        ),
        (
            r#"{"stream_options":{"x":1},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true,"x":1},"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"x":1,"include_usage":false },"model":"m","stream":true}"#,
            r#"{"stream_options":{"x":1,"include_usage":true },"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":null},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (r#"{"model":"m","stream":false}"#, r#"{"model":"m","stream":false}"#),
    ] {
        assert_eq!(edited(&chat(body).unwrap(), body, None, true), expected);
        serde_json::from_str::<Value>(expected).unwrap();
    }
    let body = r#"{"model":"m","stream":true}"#;
    assert_eq!(edited(&responses(body).unwrap(), body, None, true), body);
}

#[test]
fn a_rename_and_a_question_for_usage_go_together() {
    let body = r#"{"stream":true,"model" : "a\u0062","stream_options":{"include_usage":false}}"#;
    let expected = r#"{"stream":true,"model" : "x\"y","stream_options":{"include_usage":true}}"#;
    assert_eq!(edited(&chat(body).unwrap(), body, Some("x\"y"), true), expected);
}

fn a_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("12345678901234567890123".to_owned()),
        Just("1e3".to_owned()),
        Just("{ \"model\" : \"inner\", \"a\":[ ] }".to_owned()),
        Just("\"\\u0041\\/\"".to_owned()),
        ".{0,20}".prop_map(|text| Value::from(text).to_string()),
    ]
}

proptest! {
    #[test]
    fn an_edit_moves_nothing_else(
        before in prop::collection::vec(("[a-f]{1,3}", a_value()), 0..4),
        after in prop::collection::vec(("[A-F]{1,3}", a_value()), 0..4),
        blank in "[ \n\t\r]{0,3}",
        model in "[a-z\u{e4}\"\\\\]{1,9}",
        name in "[a-z\u{e4}\"\\\\]{1,9}",
    ) {
        let members = |list: &[(String, String)]| -> String {
            list.iter().map(|(key, value)| format!("\"{key}\"{blank}:{value},{blank}")).collect()
        };
        let head = format!("{blank}{{{blank}{}\"model\":{blank}", members(&before));
        let tail = format!("{blank},{}\"z\":1}}{blank}", members(&after));
        let body = format!("{head}{}{tail}", Value::from(model.as_str()));
        let envelope = responses(&body).unwrap();
        prop_assert_eq!(&envelope.model, &model);
        let expected = format!("{head}{}{tail}", Value::from(name.as_str()));
        prop_assert_eq!(edited(&envelope, &body, Some(&name), true), expected);
    }

    #[test]
    fn any_text_gives_an_envelope_or_an_error(text in "[{}\\[\\]:,\"a-z0-9 \\\\]{0,40}") {
        for result in [responses(&text), chat(&text)] {
            prop_assert!(result.is_err() || text.contains("model"));
        }
        prop_assert!(Frame::read(text.as_bytes()).is_err() || text.contains("type"));
    }
}

#[test]
fn what_a_request_carries_beside_text_is_seen() {
    let read = |body: &str| Envelope::read(Endpoint::Responses, body.as_bytes()).unwrap();
    let plain = read(
        r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"{\"type\":\"input_file\"}"}]}],
            "tools":[{"type":"function","name":"web_search","parameters":{"type":"object","required":["file"],"properties":{"file":{"type":"string"}}}}]}"#,
    );
    assert_eq!(plain.carries, Carries::default());
    let rich = read(
        r#"{"model":"m","input":[{"content":[{"type":"input_image","image_url":"x"},{"type":"input\u005fimage"},{"type":"input_audio"}]},
            {"type":"item_reference","id":"i"}],"tools":[{"type":"web_search_preview"},{"type":"file_search"},{"type":"code_interpreter"}],
            "max_tool_calls":3,"prompt_cache_retention":"24h","previous_response_id":"resp_1"}"#,
    );
    let carries = Carries {
        pictures: 2,
        files: true,
        sound: true,
        searches: true,
        always_searches: false,
        searches_files: true,
        runs_code: true,
        makes_pictures: false,
        keeps_cache: false,
        writes_pictures: false,
    };
    assert_eq!(rich.carries, carries);
    assert_eq!(
        (rich.max_tool_calls, rich.keeps_cache, rich.continues),
        (Some(3), true, true)
    );
    assert_eq!(rich.previous_response.as_deref(), Some("resp_1"));
    let chat = br#"{"model":"m","messages":[],"web_search_options":{},"modalities":["text","audio"]}"#;
    let chat = Envelope::read(Endpoint::ChatCompletions, chat).unwrap();
    assert!(chat.carries.always_searches && chat.carries.sound && chat.carries.offers_tools());
}
