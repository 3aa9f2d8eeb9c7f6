use super::*;

const ALL: [Code; 31] = [
    Code::InvalidRequest,
    Code::InvalidKey,
    Code::TenantSuspended,
    Code::AddressNotAllowed,
    Code::ModelNotFound,
    Code::NotFound,
    Code::MethodNotAllowed,
    Code::BodyTooLarge,
    Code::ContextTooLong,
    Code::HeadTooLarge,
    Code::UnsupportedEncoding,
    Code::CallRunning,
    Code::AlreadyCompleted,
    Code::KeyReused,
    Code::ConversationGone,
    Code::RateLimited,
    Code::Overloaded,
    Code::AccountUnavailable,
    Code::OutOfCredit,
    Code::UsageLimit,
    Code::LinkDown,
    Code::Draining,
    Code::LedgerUnavailable,
    Code::EgressUnavailable,
    Code::UpstreamUnreachable,
    Code::UpstreamTimeout,
    Code::UpstreamBroke,
    Code::NoWebSocket,
    Code::ForeignOrigin,
    Code::ForeignHost,
    Code::Internal,
];

fn refusal(code: Code) -> Refusal {
    Refusal::new(code, "It \"failed\".")
}

fn header<'a>(rendered: &'a Rendered, name: &str) -> Option<&'a str> {
    rendered
        .headers
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, value)| value.as_str())
}

/// One line per code: status, wait, type, code, code in a stream.
fn table() -> String {
    let mut lines = String::new();
    for code in ALL {
        let rendered = refusal(code).render(Wire::Responses, "req_1");
        let wait = header(&rendered, "retry-after").unwrap_or("-");
        let rule = code.rule();
        let kind = if rule.text { "(text)" } else { rule.kind };
        lines += &format!(
            "{code:?} {} {wait} {kind} {} {}\n",
            rendered.status,
            code.name(),
            rule.in_stream
        );
    }
    lines
}

#[test]
fn every_code_is_told_as_codex_needs_it() {
    assert_eq!(
        table(),
        "\
InvalidRequest 400 - invalid_request_error invalid_request invalid_prompt
InvalidKey 401 - invalid_request_error invalid_api_key invalid_prompt
TenantSuspended 400 - invalid_request_error tenant_suspended invalid_prompt
AddressNotAllowed 400 - invalid_request_error address_not_allowed invalid_prompt
ModelNotFound 404 - invalid_request_error model_not_found invalid_prompt
NotFound 404 - invalid_request_error unknown_url invalid_prompt
MethodNotAllowed 405 - invalid_request_error method_not_allowed invalid_prompt
BodyTooLarge 413 - invalid_request_error request_too_large invalid_prompt
ContextTooLong 400 - invalid_request_error context_length_exceeded context_length_exceeded
HeadTooLarge 431 - invalid_request_error request_header_fields_too_large invalid_prompt
UnsupportedEncoding 400 - (text) unsupported_content_encoding invalid_prompt
CallRunning 409 1 invalid_request_error call_running invalid_prompt
AlreadyCompleted 409 - invalid_request_error already_completed invalid_prompt
KeyReused 422 - invalid_request_error idempotency_key_reused invalid_prompt
ConversationGone 409 - invalid_request_error conversation_account_gone invalid_prompt
RateLimited 429 1 requests rate_limit_exceeded rate_limit_exceeded
Overloaded 503 - server_error server_is_overloaded server_is_overloaded
AccountUnavailable 400 60 invalid_request_error account_unavailable invalid_prompt
OutOfCredit 429 - insufficient_quota insufficient_quota insufficient_quota
UsageLimit 429 - usage_limit_reached usage_limit_reached invalid_prompt
LinkDown 503 2 server_error link_down server_error
Draining 503 1 server_error draining server_error
LedgerUnavailable 503 2 server_error ledger_unavailable server_error
EgressUnavailable 503 2 server_error egress_unavailable server_error
UpstreamUnreachable 502 - server_error upstream_unreachable server_error
UpstreamTimeout 504 - server_error upstream_timeout server_error
UpstreamBroke 502 - server_error server_error server_error
NoWebSocket 426 - invalid_request_error websocket_not_available invalid_prompt
ForeignOrigin 403 - invalid_request_error foreign_origin invalid_prompt
ForeignHost 403 - invalid_request_error foreign_host invalid_prompt
Internal 500 - server_error internal_error server_error
"
    );
}

#[test]
fn every_code_is_well_formed_in_every_dialect() {
    for code in ALL {
        for wire in [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini] {
            let refusal = refusal(code).hint("Try so.\r\nX: y");
            let rendered = refusal.render(wire, "req_1\r\nx: y");
            assert_eq!(rendered.status, code.status_in(wire));
            for (name, value) in &rendered.headers {
                assert_eq!(*name, name.to_ascii_lowercase());
                assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)), "{code:?}: {name}");
            }
            if matches!(wire, Wire::Messages | Wire::Gemini) {
                let body: Value = serde_json::from_slice(&rendered.body).unwrap();
                assert_eq!(body["error"]["message"], "It \"failed\". Try so.\r\nX: y");
            } else if !code.rule().text {
                let body: Value = serde_json::from_slice(&rendered.body).unwrap();
                assert_eq!(body["error"]["code"], code.name());
                assert_eq!(body["error"]["param"], Value::Null);
            }
            let event = refusal.stream_event(wire, "req_1");
            let event = std::str::from_utf8(&event).unwrap();
            assert!(event.ends_with("\n\n"), "{code:?}");
            assert_eq!(event.matches("\n\n").count(), 1, "{code:?}");
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            serde_json::from_str::<Value>(data).unwrap();
        }
    }
}

/// One line per code: what Anthropic's clients and Google's are told.
fn table_of_others() -> String {
    let line = |code: &Code| {
        let (anthropic, google) = (messages::rule(*code), google::rule(*code));
        format!("{code:?} {} {} {} {}\n", anthropic.0, anthropic.1, google.0, google.1)
    };
    ALL.iter().map(line).collect()
}

#[test]
fn every_code_is_told_as_anthropic_and_google_tell_theirs() {
    assert_eq!(
        table_of_others(),
        "\
InvalidRequest 400 invalid_request_error 400 INVALID_ARGUMENT
InvalidKey 401 authentication_error 401 UNAUTHENTICATED
TenantSuspended 403 permission_error 403 PERMISSION_DENIED
AddressNotAllowed 403 permission_error 403 PERMISSION_DENIED
ModelNotFound 404 not_found_error 404 NOT_FOUND
NotFound 404 not_found_error 404 NOT_FOUND
MethodNotAllowed 405 invalid_request_error 405 INVALID_ARGUMENT
BodyTooLarge 413 request_too_large 413 INVALID_ARGUMENT
ContextTooLong 400 invalid_request_error 400 INVALID_ARGUMENT
HeadTooLarge 431 invalid_request_error 431 INVALID_ARGUMENT
UnsupportedEncoding 400 invalid_request_error 400 INVALID_ARGUMENT
CallRunning 409 invalid_request_error 409 ABORTED
AlreadyCompleted 409 invalid_request_error 409 ALREADY_EXISTS
KeyReused 422 invalid_request_error 422 FAILED_PRECONDITION
ConversationGone 409 invalid_request_error 409 FAILED_PRECONDITION
RateLimited 429 rate_limit_error 429 RESOURCE_EXHAUSTED
Overloaded 529 overloaded_error 503 UNAVAILABLE
AccountUnavailable 529 overloaded_error 503 UNAVAILABLE
OutOfCredit 402 billing_error 429 RESOURCE_EXHAUSTED
UsageLimit 429 rate_limit_error 429 RESOURCE_EXHAUSTED
LinkDown 503 api_error 503 UNAVAILABLE
Draining 503 api_error 503 UNAVAILABLE
LedgerUnavailable 503 api_error 503 UNAVAILABLE
EgressUnavailable 503 api_error 503 UNAVAILABLE
UpstreamUnreachable 502 api_error 502 UNAVAILABLE
UpstreamTimeout 504 timeout_error 504 DEADLINE_EXCEEDED
UpstreamBroke 502 api_error 502 UNAVAILABLE
NoWebSocket 426 invalid_request_error 426 INVALID_ARGUMENT
ForeignOrigin 403 permission_error 403 PERMISSION_DENIED
ForeignHost 403 permission_error 403 PERMISSION_DENIED
Internal 500 api_error 500 INTERNAL
"
    );
}

#[test]
fn golden_messages() {
    let limited = Refusal::new(Code::RateLimited, "This key may use 60 requests a minute.")
        .retry_after(Duration::from_secs(3))
        .rate(Rate {
            unit: RateUnit::Requests,
            limit: 60,
            remaining: 0,
            reset: Duration::from_secs(9),
        });
    let rendered = limited.render(Wire::Messages, "req_1");
    assert_eq!(rendered.status, 429);
    assert_eq!(
        std::str::from_utf8(&rendered.body).unwrap(),
        r#"{"error":{"message":"This key may use 60 requests a minute.","type":"rate_limit_error"},"request_id":"req_1","type":"error"}"#
    );
    for (name, value) in [
        ("request-id", "req_1"),
        ("retry-after", "3"),
        ("anthropic-ratelimit-requests-limit", "60"),
        ("anthropic-ratelimit-requests-remaining", "0"),
    ] {
        assert_eq!(header(&rendered, name), Some(value));
    }
    assert_eq!(header(&rendered, "x-ratelimit-limit-requests"), None);
    assert_eq!(
        Refusal::new(Code::Overloaded, "Too much.").stream_event(Wire::Messages, "req_1"),
        "event: error\ndata: {\"error\":{\"message\":\"Too much.\",\"type\":\"overloaded_error\"},\"request_id\":\"req_1\",\"type\":\"error\"}\n\n"
    );
}

#[test]
fn golden_gemini() {
    let refusal = Refusal::new(Code::InvalidRequest, "`candidateCount` is wrong.").param("candidateCount");
    let rendered = refusal.render(Wire::Gemini, "req_1");
    assert_eq!(rendered.status, 400);
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(
        body,
        json!({"error": {"code": 400, "message": "`candidateCount` is wrong.", "status": "INVALID_ARGUMENT", "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "INVALID_REQUEST", "domain": "codex-relay"},
            {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "req_1"},
            {"@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "candidateCount", "description": "`candidateCount` is wrong."}]},
        ]}})
    );
    let waiting = Refusal::new(Code::Draining, "Restarting.").stream_event(Wire::Gemini, "req_1");
    assert!(waiting.starts_with(b"data: {\"error\":{\"code\":503") && waiting.ends_with(b"}\n\n"));
    let element = Refusal::new(Code::UpstreamBroke, "Broke.").array_end("req_1", 0);
    let array: Vec<Value> = serde_json::from_slice(&element).unwrap();
    assert_eq!(array[0]["error"]["code"], 502);
}

#[test]
fn a_socket_frame_has_exactly_one_status() {
    for code in ALL {
        let frame = refusal(code)
            .retry_after(Duration::from_millis(1500))
            .socket_frame("req_1");
        let text = std::str::from_utf8(&frame).unwrap();
        assert_eq!(text.matches("\"status").count(), 1, "{text}");
        let frame: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(frame["type"], "error");
        assert_eq!(frame["status"], code.status());
        assert_eq!(frame["headers"]["retry-after"], "2");
    }
}

#[test]
fn golden_http() {
    let rendered = Refusal::new(Code::ModelNotFound, "The model `x` does not exist.").render(Wire::Chat, "req_1");
    assert_eq!(
        std::str::from_utf8(&rendered.body).unwrap(),
        r#"{"error":{"code":"model_not_found","message":"The model `x` does not exist.","param":null,"request_id":"req_1","type":"invalid_request_error"}}"#
    );
    assert_eq!(header(&rendered, "content-type"), Some("application/json"));
    assert_eq!(header(&rendered, "x-request-id"), Some("req_1"));
}

#[test]
fn golden_stream() {
    let broke = Refusal::new(Code::UpstreamBroke, "The vendor broke off.");
    assert_eq!(
        broke.stream_event(Wire::Responses, "req_1"),
        "event: response.failed\ndata: {\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"The vendor broke off.\"},\
         \"id\":\"req_1\",\"object\":\"response\",\"status\":\"failed\"},\"type\":\"response.failed\"}\n\n"
    );
    assert_eq!(
        broke.stream_event(Wire::Chat, "req_1"),
        "data: {\"error\":{\"code\":\"server_error\",\"message\":\"The vendor broke off.\",\"param\":null,\"request_id\":\"req_1\",\
         \"type\":\"server_error\"}}\n\n"
    );
}

#[test]
fn an_unsupported_encoding_is_said_in_plain_text() {
    let rendered = Refusal::new(Code::UnsupportedEncoding, "`lzma` is not understood.")
        .hint("Use zstd.")
        .render(Wire::Responses, "r");
    assert_eq!(rendered.body, "`lzma` is not understood. Use zstd.\n");
    assert_eq!(header(&rendered, "content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn waits_are_whole_seconds_and_at_least_one() {
    for (wait, said) in [
        (Duration::ZERO, "1"),
        (Duration::from_nanos(1), "1"),
        (Duration::from_millis(1001), "2"),
        (Duration::MAX, "18446744073709551615"),
    ] {
        let wait = wait.min(Duration::from_secs(u64::MAX));
        let rendered = refusal(Code::RateLimited).retry_after(wait).render(Wire::Chat, "r");
        assert_eq!(header(&rendered, "retry-after"), Some(said));
    }
    let event = refusal(Code::RateLimited)
        .retry_after(Duration::from_secs(3))
        .stream_event(Wire::Responses, "r");
    assert!(std::str::from_utf8(&event).unwrap().contains("Please try again in 3s."));
}

#[test]
fn a_usage_limit_says_when_it_ends_and_what_helps() {
    let refusal = refusal(Code::UsageLimit)
        .resets_at(1_700_000_000)
        .hint("Top up at the desk.");
    let rendered = refusal.render(Wire::Responses, "r");
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(body["error"]["type"], "usage_limit_reached");
    assert_eq!(body["error"]["resets_at"], 1_700_000_000);
    assert_eq!(header(&rendered, "x-codex-promo-message"), Some("Top up at the desk."));
}

#[test]
fn a_used_up_rate_is_told_in_headers_and_in_a_frame() {
    let rate = |unit, reset| Rate {
        unit,
        limit: 60,
        remaining: 0,
        reset: Duration::from_millis(reset),
    };
    let refused = refusal(Code::RateLimited).retry_after(Duration::from_secs(7));
    let rendered = refused
        .clone()
        .rate(rate(RateUnit::Requests, 59_001))
        .render(Wire::Responses, "r");
    assert_eq!(header(&rendered, "retry-after"), Some("7"));
    assert_eq!(header(&rendered, "x-ratelimit-limit-requests"), Some("60"));
    assert_eq!(header(&rendered, "x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(header(&rendered, "x-ratelimit-reset-requests"), Some("1m0s"));
    let tokens = refused.rate(rate(RateUnit::Tokens, 20));
    let rendered = tokens.render(Wire::Chat, "r");
    assert_eq!(header(&rendered, "x-ratelimit-reset-tokens"), Some("20ms"));
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(
        (&body["error"]["type"], &body["error"]["code"]),
        (&"tokens".into(), &"rate_limit_exceeded".into())
    );
    let frame: Value = serde_json::from_slice(&tokens.socket_frame("r")).unwrap();
    assert_eq!(frame["headers"]["retry-after"], "7");
    assert_eq!(frame["headers"]["x-ratelimit-limit-tokens"], "60");
}

#[test]
fn a_span_is_written_as_openai_writes_it() {
    for (millis, text) in [
        (0, "0ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (1_001, "2s"),
        (59_999, "1m0s"),
        (360_000, "6m0s"),
    ] {
        assert_eq!(span(Duration::from_millis(millis)), text);
    }
}

#[test]
fn a_field_at_fault_is_named() {
    let rendered = refusal(Code::InvalidRequest)
        .param("max_output_tokens")
        .render(Wire::Chat, "r");
    let body: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(body["error"]["param"], "max_output_tokens");
}

#[test]
fn a_receipt_stands_in_the_error_of_every_dialect() {
    let refusal = refusal(Code::AlreadyCompleted).receipt(json!({"ending": "completed"}));
    for wire in [Wire::Responses, Wire::Chat] {
        let rendered = refusal.render(wire, "req_1");
        let body: Value = serde_json::from_slice(&rendered.body).unwrap();
        assert_eq!(body["error"]["receipt"]["ending"], "completed");
        assert_eq!(header(&rendered, "x-should-retry"), Some("false"));
    }
}
