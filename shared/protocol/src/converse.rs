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
}
