//! How OpenAI, and who speaks like it, tells of a failure and of usage: the same on both of its wires.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{Cause, Failure};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    message: Option<String>,
    detail: Option<String>,
}

#[derive(Deserialize, Default)]
struct Told<'a> {
    message: Option<String>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    r#type: Option<String>,
}

/// What a body says, `{"error":{…}}` or one of the forms of others; `status` is that of a refusal.
pub(crate) fn failure(status: Option<u16>, body: &[u8]) -> Failure {
    let Ok(read) = serde_json::from_slice::<Body<'_>>(body) else {
        return told(status, "", String::new());
    };
    match read.error {
        Some(error) => error_object(status, error.get()),
        None => told(status, "", read.message.or(read.detail).unwrap_or_default()),
    }
}

/// What an error object says, or a bare text in its place.
pub(crate) fn error_object(status: Option<u16>, error: &str) -> Failure {
    if let Ok(text) = serde_json::from_str::<String>(error) {
        return told(status, "", text);
    }
    let error: Told<'_> = serde_json::from_str(error).unwrap_or_default();
    let code = error.code.map(|code| code.get().trim_matches('"').to_owned());
    let name = code.filter(|code| code != "null").or(error.r#type).unwrap_or_default();
    told(status, &name, error.message.unwrap_or_default())
}

fn told(status: Option<u16>, name: &str, message: String) -> Failure {
    let by_name = match name {
        "context_length_exceeded" => Some(Cause::TooLong),
        "model_not_found" => Some(Cause::NotFound),
        "insufficient_quota" | "invalid_api_key" | "authentication_error" | "permission_denied" => Some(Cause::Account),
        "rate_limit_exceeded" | "rate_limit_error" => Some(Cause::RateLimited),
        "server_is_overloaded" | "overloaded_error" => Some(Cause::Overloaded),
        "invalid_prompt" | "invalid_request_error" if status.is_none() => Some(Cause::Invalid),
        // A chunk has the status as its code where there is no other place for it.
        number => number.parse().ok().filter(|_| status.is_none()).map(Cause::of_status),
    };
    let too_long = status.is_none_or(|status| status == 400) && says_too_long(&message);
    let cause = by_name
        .or_else(|| too_long.then_some(Cause::TooLong))
        .or_else(|| status.map(Cause::of_status));
    Failure {
        cause: cause.unwrap_or(Cause::Vendor),
        message,
    }
}

/// As OpenAI and those who run open models say it.
fn says_too_long(message: &str) -> bool {
    ["maximum context length", "context length exceeded", "context window"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_understood_in_every_form_it_comes_in() {
        for (status, body, cause, message) in [
            (
                400,
                r#"{"error":{"message":"m","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                Cause::TooLong,
                "m",
            ),
            (
                400,
                r#"{"error":{"message":"m","type":"invalid_request_error","code":null}}"#,
                Cause::Invalid,
                "m",
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 8192 tokens.","code":400}"#,
                Cause::TooLong,
                "This model's maximum context length is 8192 tokens.",
            ),
            (
                429,
                r#"{"error":{"message":"m","code":"insufficient_quota"}}"#,
                Cause::Account,
                "m",
            ),
            (429, r#"{"error":"slow down"}"#, Cause::RateLimited, "slow down"),
            (401, r#"{"detail":"no"}"#, Cause::Account, "no"),
            (
                404,
                r#"{"error":{"message":"m","code":"model_not_found"}}"#,
                Cause::NotFound,
                "m",
            ),
            (503, "<html>", Cause::Overloaded, ""),
            (500, "", Cause::Vendor, ""),
        ] {
            let failure = failure(Some(status), body.as_bytes());
            assert_eq!((failure.cause, failure.message.as_str()), (cause, message), "{body}");
        }
        let in_stream = |error: &str| error_object(None, error).cause;
        assert_eq!(in_stream(r#"{"message":"m","code":502}"#), Cause::Vendor);
        assert_eq!(in_stream(r#"{"message":"m","code":429}"#), Cause::RateLimited);
        assert_eq!(
            in_stream(r#"{"message":"m","code":"rate_limit_exceeded"}"#),
            Cause::RateLimited
        );
        assert_eq!(in_stream(r#"{"message":"m"}"#), Cause::Vendor);
    }
}
