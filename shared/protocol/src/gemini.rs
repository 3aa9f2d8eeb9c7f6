//! The Gemini wire, both ways: requests, answers, failures. Knows no other wire.
//!
//! Source: <https://ai.google.dev/api/generate-content> and the types of Google's SDKs (2026-11).

mod read;
mod request;
mod schema;
mod write;

use serde::Deserialize;

pub(crate) use self::read::Reader;
pub(crate) use self::request::{read, write};
pub(crate) use self::write::Writer;
use crate::event::{Cause, Failure};
use crate::lane::VendorWire;
use crate::turn::Opaque;

/// What a failure says, in a stream and as a body.
#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Told {
    error: Error,
}

impl Error {
    fn failure(self, status: u16) -> Failure {
        let cause = match self.status.as_str() {
            "INVALID_ARGUMENT" if self.message.contains("API key") => Cause::Account,
            "INVALID_ARGUMENT" if self.message.contains("maximum number of tokens") => Cause::TooLong,
            "INVALID_ARGUMENT" | "OUT_OF_RANGE" => Cause::Invalid,
            "UNAUTHENTICATED" | "PERMISSION_DENIED" | "FAILED_PRECONDITION" => Cause::Account,
            "NOT_FOUND" => Cause::NotFound,
            "RESOURCE_EXHAUSTED" => Cause::RateLimited,
            "UNAVAILABLE" => Cause::Overloaded,
            "DEADLINE_EXCEEDED" => Cause::Timeout,
            "INTERNAL" | "UNKNOWN" => Cause::Vendor,
            _ => Cause::of_status(if self.code == 0 { status } else { self.code }),
        };
        Failure {
            cause,
            message: self.message,
        }
    }
}

/// The body of a vendor's refusal: an object, or of a stream that is an array an array of one.
pub(crate) fn failure(status: u16, body: &[u8]) -> Failure {
    let told = serde_json::from_slice::<Told>(body).or_else(|error| {
        let list = serde_json::from_slice::<Vec<Told>>(body)?;
        list.into_iter().next().ok_or(error)
    });
    match told {
        Ok(told) => told.error.failure(status),
        Err(_) => Failure {
            cause: Cause::of_status(status),
            message: String::new(),
        },
    }
}

const OWN: VendorWire = VendorWire::Gemini;

/// To be kept by a client of this wire as the signature of a thought. The wire says bytes there, so that what another
/// vendor signed is put into the letters of bytes once more.
pub(crate) fn for_client(opaque: &Opaque) -> String {
    let kept = opaque.for_client(OWN);
    if opaque.wire == OWN {
        kept
    } else {
        crate::base64::encode(kept.as_bytes())
    }
}

/// What a client sent as the signature of a thought.
pub(crate) fn of_client(kept: &str) -> Opaque {
    let bytes = crate::base64::decode(kept).and_then(|bytes| String::from_utf8(bytes).ok());
    let carried = bytes
        .map(|text| Opaque::of_client(OWN, &text))
        .filter(|opaque| opaque.wire != OWN);
    carried.unwrap_or_else(|| Opaque {
        wire: OWN,
        data: kept.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_signatures_are_bytes_and_come_back_to_whom_they_belong() {
        for wire in VendorWire::ALL {
            let opaque = Opaque {
                wire,
                data: "EvAB+/==".to_owned(),
            };
            let kept = for_client(&opaque);
            assert!(crate::base64::decode(&kept).is_some() || wire == OWN);
            assert!(of_client(&kept) == opaque);
        }
        assert!(of_client("c2lnbmVk").wire == OWN && of_client("?").data == "?");
    }

    #[test]
    fn a_vendors_refusal_is_understood() {
        for (status, body, cause) in [
            (
                400,
                r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}"#,
                Cause::Account,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8).","status":"INVALID_ARGUMENT"}}"#,
                Cause::TooLong,
            ),
            (
                429,
                r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#,
                Cause::RateLimited,
            ),
            (503, "", Cause::Overloaded),
            (200, r#"{"error":{"code":503}}"#, Cause::Overloaded),
        ] {
            assert_eq!(failure(status, body.as_bytes()).cause, cause, "{body}");
        }
    }
}
