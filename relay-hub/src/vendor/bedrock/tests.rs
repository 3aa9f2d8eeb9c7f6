use super::{super::aws::event_stream::testing::frame, *};

fn reader(content_type: &'static str) -> (Reader, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("9"));
    (Reader::of(&mut headers, false), headers)
}

fn asked(endpoint: Endpoint, stream: bool) -> Asked<'static> {
    Asked {
        endpoint,
        path: "",
        model: "anthropic.m",
        query: None,
        stream,
    }
}

fn framed() -> Reader {
    let (reader, headers) = reader("application/vnd.amazon.eventstream");
    assert_eq!(headers[header::CONTENT_TYPE], "text/event-stream; charset=utf-8");
    assert_eq!(headers.len(), 1, "the length is another one");
    reader
}

fn all(bytes: &[u8]) -> Result<Bytes, FrameError> {
    let (events, so_far) = framed().push(Bytes::copy_from_slice(bytes));
    so_far.map(|()| events)
}

fn chunk(json: &str) -> Vec<u8> {
    let payload = format!("{{\"bytes\":\"{}\",\"p\":\"abcdef\"}}", STANDARD.encode(json));
    let headers = [
        (":event-type", "chunk"),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    frame(&headers, payload.as_bytes())
}

fn exception_frame(kind: &str) -> Vec<u8> {
    let headers = [(":exception-type", kind), (":message-type", "exception")];
    frame(&headers, br#"{"message":"Too many tokens"}"#)
}

#[test]
fn a_models_colon_and_slash_stay_in_its_own_part_of_the_path() {
    let at = |model, stream| path("", Endpoint::Messages, model, stream).to_string();
    assert_eq!(
        at("anthropic.claude-v2:0", false),
        "/model/anthropic.claude-v2%3A0/invoke"
    );
    assert_eq!(
        at("arn:aws:bedrock:eu-west-1::inference-profile/eu.anthropic.m", true),
        "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A%3Ainference-profile%2Feu.anthropic.m/invoke-with-response-stream"
    );
    let nova = "amazon.nova-lite-v1:0";
    assert_eq!(at(nova, true), "/model/amazon.nova-lite-v1%3A0/converse-stream");
    assert_eq!(at(nova, false), "/model/amazon.nova-lite-v1%3A0/converse");
    assert_eq!(
        path("/vpc", Endpoint::CountTokens, "m", false),
        "/vpc/model/m/count-tokens"
    );
}

#[test]
fn a_body_loses_what_the_path_says_and_gains_what_the_headers_said() {
    let mut headers = HeaderMap::new();
    headers.append(BETA, HeaderValue::from_static("one, two"));
    headers.append(BETA, HeaderValue::from_static("three"));
    headers.append(VERSION, HeaderValue::from_static("2023-06-01"));
    headers.append(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
    let sent = Payload::new(Bytes::from_static(
        b"{\"model\":\"m\",\"max_tokens\": 5,\"stream\":true,\"messages\":[ ]}",
    ));
    let edited = body(&asked(Endpoint::Messages, true), sent, &mut headers).unwrap();
    let wanted = b"{\"anthropic_version\":\"bedrock-2023-05-31\",\"anthropic_beta\":[\"one\",\"two\",\"three\"],\"max_tokens\": 5,\"messages\":[ ]}";
    assert_eq!(edited.as_slice(), wanted);
    let left: HeaderMap = [(header::CONTENT_TYPE, JSON), (header::ACCEPT, FRAMES)]
        .into_iter()
        .collect();
    assert_eq!(headers, left);
    let own = Payload::new(Bytes::from_static(b"{\"anthropic_beta\":[\"x\"]}"));
    let edited = body(&asked(Endpoint::Messages, false), own, &mut HeaderMap::new()).unwrap();
    assert_eq!(
        edited.as_slice(),
        b"{\"anthropic_version\":\"bedrock-2023-05-31\",\"anthropic_beta\":[\"x\"]}"
    );
}

#[test]
fn tokens_are_counted_of_the_body_of_a_call() {
    let sent = Payload::new(Bytes::from_static(b"{\"model\":\"m\",\"messages\":[]}"));
    let edited = body(&asked(Endpoint::CountTokens, false), sent, &mut HeaderMap::new()).unwrap();
    let asked: serde_json::Value = serde_json::from_slice(edited.as_slice()).unwrap();
    let inner = STANDARD
        .decode(asked["input"]["invokeModel"]["body"].as_str().unwrap())
        .unwrap();
    assert_eq!(
        inner,
        b"{\"anthropic_version\":\"bedrock-2023-05-31\",\"max_tokens\":1,\"messages\":[]}"
    );
    let (reader, headers) = reader("application/json");
    let told = |body: &'static str| reader.whole(StatusCode::OK, &headers, Bytes::from_static(body.as_bytes()));
    assert_eq!(told(r#"{ "inputTokens": 10 }"#), r#"{"input_tokens":10}"#);
    for other in [
        r#"{"inputTokens":10,"content":[]}"#,
        r#"{"content":[],"usage":{}}"#,
        "no",
    ] {
        assert_eq!(told(other), other);
    }
}

#[test]
fn each_chunk_is_one_event_as_soon_as_it_is_whole() {
    let start = "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\"}}";
    let stop = "{\"type\":\n\"message_stop\"}";
    let mut reader = framed();
    let (first, mut last) = (Bytes::from(chunk(start)), Bytes::from(chunk(stop)));
    assert_eq!(reader.push(first).0, format!("event: message_start\ndata: {start}\n\n"));
    let tail = last.split_off(last.len() - 1);
    assert!(reader.push(last).0.is_empty());
    let (told, so_far) = reader.push(tail);
    assert!(so_far.is_ok());
    assert_eq!(
        told,
        "event: message_stop\ndata: {\"type\":\ndata: \"message_stop\"}\n\n"
    );
}

#[test]
fn an_exception_in_the_stream_is_an_error_event_and_tells_of_the_account() {
    let mut reader = framed();
    let (told, so_far) = reader.push(exception_frame("throttlingException").into());
    assert_eq!(
        told,
        "event: error\ndata: {\"error\":{\"message\":\"Too many tokens\",\"type\":\"rate_limit_error\"},\"type\":\"error\"}\n\n"
    );
    assert!(so_far.is_ok());
    assert_eq!(
        (reader.take_trouble(), reader.take_trouble()),
        (Some(Trouble::Limited), None)
    );
    let mut reader = framed();
    reader.push(exception_frame("validationException").into()).1.unwrap();
    assert_eq!(reader.take_trouble(), None);
    let odd = frame(&[(":error-code", "InternalError"), (":message-type", "error")], b"");
    assert!(all(&odd).unwrap().starts_with(b"event: error\n"));
}

#[test]
fn a_refusal_has_anthropics_shape_and_repeats_nothing_that_was_signed() {
    let told = |status: u16, kind: &'static str, body: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(ERROR_TYPE, HeaderValue::from_static(kind));
        let reader = Reader::of(&mut headers, false);
        let status = StatusCode::from_u16(status).unwrap();
        let told = reader.whole(status, &headers, Bytes::from_static(body.as_bytes()));
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        let text = |field: &str| told["error"][field].as_str().unwrap().to_owned();
        assert_eq!(told["type"], "error");
        (text("type"), text("message"), trouble(&headers))
    };
    let slow = told(
        429,
        "ThrottlingException:http://internal.amazon.com/coral/x/",
        r#"{"message":"slow down"}"#,
    );
    assert_eq!(
        slow,
        (
            "rate_limit_error".to_owned(),
            "slow down".to_owned(),
            Some(Trouble::Limited)
        )
    );
    let (code, message, _) = told(400, "ValidationException", r#"{"message":"max_tokens"}"#);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("invalid_request_error", "max_tokens")
    );
    for (kind, wanted) in [
        ("InvalidSignatureException", Some(Trouble::Credential)),
        ("ExpiredTokenException", Some(Trouble::Credential)),
        ("AccessDeniedException", Some(Trouble::Forbidden)),
        ("SomethingNewException", None),
    ] {
        let body = r#"{"message":"The canonical string was … x-amz-security-token:canary"}"#;
        let (_, message, trouble) = told(403, kind, body);
        assert!(!message.contains("canary"), "{kind}");
        assert_eq!(trouble, wanted, "{kind}");
    }
    assert_eq!(told(502, "", "<html>").0, "api_error");
}

#[test]
fn what_is_no_event_of_the_wire_ends_the_stream() {
    for json in ["", "{}", "[1]", "{\"type\":\"a\\nevent: b\"}"] {
        assert_eq!(all(&chunk(json)).err(), Some(FrameError::Malformed), "{json}");
    }
    let mut bad = chunk("{\"type\":\"ping\"}");
    let at = bad.len() - 20;
    bad[at] ^= 4;
    assert_eq!(all(&bad).err(), Some(FrameError::Checksum));
    let mut both = chunk("{\"type\":\"ping\"}");
    both.extend(&bad);
    let (told, so_far) = framed().push(both.into());
    assert_eq!(
        told, "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "what came before is told"
    );
    assert_eq!(so_far, Err(FrameError::Checksum));
    let headers = [(":event-type", "initial-response"), (":message-type", "event")];
    assert!(all(&frame(&headers, b"{}")).unwrap().is_empty());
}

#[test]
fn what_converse_tells_is_told_under_the_name_of_its_frame() {
    let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, FRAMES)]);
    let mut reader = Reader::of(&mut headers, true);
    let event = |kind, payload: &str| frame(&[(":event-type", kind), (":message-type", "event")], payload.as_bytes());
    let bytes = [
        event("messageStart", "{\"role\":\r\n\"assistant\"}"),
        event("contentBlockDelta", r#"{"delta":{"text":"a"}}"#),
    ];
    let (told, so_far) = reader.push(Bytes::from(bytes.concat()));
    assert!(so_far.is_ok() && reader.take_trouble().is_none());
    assert_eq!(
        told,
        "data: {\"messageStart\":{\"role\":\"assistant\"}}\n\ndata: {\"contentBlockDelta\":{\"delta\":{\"text\":\"a\"}}}\n\n"
    );
    let exception = [
        (":exception-type", "throttlingException"),
        (":message-type", "exception"),
    ];
    let (told, _) = reader.push(Bytes::from(frame(&exception, br#"{"message":"m"}"#)));
    assert_eq!(told, "data: {\"throttlingException\":{\"message\":\"m\"}}\n\n");
    assert!(matches!(reader.take_trouble(), Some(Trouble::Limited)));
    for (kind, payload) in [("message\"Start", "{}"), ("", "{}"), ("messageStart", "{")] {
        let mut reader = Reader::of(&mut HeaderMap::from_iter([(header::CONTENT_TYPE, FRAMES)]), true);
        let (told, so_far) = reader.push(Bytes::from(event(kind, payload)));
        assert!(told.is_empty() && so_far.is_err(), "{kind} {payload}");
    }
}
