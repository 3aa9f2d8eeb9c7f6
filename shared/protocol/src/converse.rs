//! Bedrock's Converse, as vendors speak it: its requests, its answers, its failures. No client speaks it. Knows nothing
//! of the binary frames that its streams come in, and no other wire.
//!
//! Source: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>, `API_runtime_ConverseStream`
//! and the service model of Amazon's SDKs (2026-11).

mod read;
mod request;

use serde::Deserialize;

pub(crate) use self::read::Reader;
pub(crate) use self::request::write;
use crate::event::{Cause, Failure};
use crate::lane::VendorWire;

const OWN: VendorWire = VendorWire::Converse;

/// What a failure says, as a body and in a stream; its kind stands beside it.
#[derive(Deserialize, Default)]
struct Told {
    #[serde(alias = "Message", alias = "originalMessage")]
    message: Option<String>,
    #[serde(rename = "__type")]
    kind: Option<String>,
}

/// A failure by its name: `throttlingException`, `ThrottlingException`, `…#ThrottlingException:…`.
fn named(kind: &str, status: Option<u16>, message: String) -> Failure {
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let kind = kind.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let cause = match kind.as_str() {
        "validationexception" if is_too_long(&message) => Cause::TooLong,
        "validationexception" => Cause::Invalid,
        "throttlingexception" | "servicequotaexceededexception" => Cause::RateLimited,
        "serviceunavailableexception" | "modelnotreadyexception" => Cause::Overloaded,
        "modeltimeoutexception" => Cause::Timeout,
        "resourcenotfoundexception" => Cause::NotFound,
        "accessdeniedexception" | "unrecognizedclientexception" | "expiredtokenexception" => Cause::Account,
        "internalserverexception" | "modelstreamerrorexception" | "modelerrorexception" => Cause::Vendor,
        _ => status.map_or(Cause::Vendor, Cause::of_status),
    };
    Failure { cause, message }
}

/// There is no name of its own for it; each maker of models has words of its own.
fn is_too_long(message: &str) -> bool {
    [
        "too long",
        "Too many input tokens",
        "maximum context length",
        "context limit",
        "context window",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// The body of a vendor's refusal.
pub(crate) fn failure(status: u16, body: &[u8]) -> Failure {
    let told = serde_json::from_slice::<Told>(body).unwrap_or_default();
    named(
        &told.kind.unwrap_or_default(),
        Some(status),
        told.message.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendors_refusal_is_understood() {
        for (status, body, cause) in [
            (429, r#"{"message":"Too many requests"}"#, Cause::RateLimited),
            (
                400,
                r#"{"__type":"com.amazon.coral#ValidationException","message":"Input is too long for requested model."}"#,
                Cause::TooLong,
            ),
            (
                400,
                r#"{"__type":"ValidationException:http://x","Message":"m"}"#,
                Cause::Invalid,
            ),
            (403, r#"{"__type":"AccessDeniedException"}"#, Cause::Account),
            (424, r#"{"__type":"ModelErrorException","message":"m"}"#, Cause::Vendor),
            (503, "", Cause::Overloaded),
        ] {
            assert_eq!(failure(status, body.as_bytes()).cause, cause, "{body}");
        }
    }

    #[test]
    fn calls_of_a_conversation_that_offers_no_tools_any_more_are_told_in_words() {
        use crate::{codec::Target, loss::Losses, tokens::Tokens};

        let messages = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"look"},
            {"role":"assistant","content":[{"type":"tool_use","id":"c","name":"f","input":{"a":1}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":"done"},
                {"type":"tool_result","tool_use_id":"d","is_error":true},{"type":"text","text":"sum up"}]}]"#;
        let target = Target {
            model: "amazon.nova-pro-v1:0",
            is_openai: false,
            is_streamed: false,
            max_output: Tokens::new(9),
        };
        let written = |tools: &str| {
            let body = format!("{messages}{tools}}}");
            let turn = crate::messages::read(body.as_bytes(), &mut Losses::default()).unwrap();
            String::from_utf8(write(&turn, &target, &mut Losses::default())).unwrap()
        };
        let told = written("");
        for words in [
            r#"{"text":"[Call c of `f` with {\"a\":1}]"}"#,
            r#"{"text":"[Call c gave]"},{"text":"done"}"#,
            r#"{"text":"[Call d failed with nothing]"}"#,
            r#"{"text":"sum up"}"#,
        ] {
            assert!(told.contains(words), "{words} in {told}");
        }
        assert!(!told.contains("tool"), "{told}");
        let offered = written(r#","tools":[{"name":"f","input_schema":{}}]"#);
        assert!(offered.contains("toolConfig") && offered.contains("toolUse") && offered.contains("toolResult"));
    }
}
