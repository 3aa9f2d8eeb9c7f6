//! The Messages wire of Anthropic, both ways: requests, answers, failures. Knows no other wire.
//!
//! Source: <https://platform.claude.com/docs/en/api/messages> and the types of Anthropic's SDKs (2026-11).

mod read;
mod request;
mod write;

use serde::Deserialize;

pub(crate) use self::read::Reader;
pub(crate) use self::request::{read, write};
pub(crate) use self::write::Writer;
use crate::event::{Cause, Failure};

/// What an `error` event and the body of a refusal have in common.
#[derive(Deserialize)]
struct Told {
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Error {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

impl Error {
    fn failure(self) -> Failure {
        let cause = match self.kind.as_str() {
            "invalid_request_error" if is_too_long(&self.message) => Cause::TooLong,
            "invalid_request_error" => Cause::Invalid,
            "authentication_error" | "permission_error" | "billing_error" => Cause::Account,
            "not_found_error" => Cause::NotFound,
            "request_too_large" => Cause::TooLarge,
            "rate_limit_error" => Cause::RateLimited,
            "overloaded_error" => Cause::Overloaded,
            "timeout_error" => Cause::Timeout,
            _ => Cause::Vendor,
        };
        Failure {
            cause,
            message: self.message,
        }
    }
}

/// Anthropic has no code of its own for it.
fn is_too_long(message: &str) -> bool {
    message.starts_with("prompt is too long") || message.contains("exceed context limit")
}

/// The body of a vendor's refusal.
pub(crate) fn failure(status: u16, body: &[u8]) -> Failure {
    let told = serde_json::from_slice::<Told>(body).ok();
    match told.and_then(|told| told.error) {
        Some(error) if !error.kind.is_empty() => error.failure(),
        Some(_) | None => Failure {
            cause: Cause::of_status(status),
            message: String::new(),
        },
    }
}

/// What Anthropic sells of a model, which decides what a request for it may say. Of a name without a number the newest is
/// assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Generation {
    /// Up to 4.5: thinks within a budget.
    Budget,
    /// 4.6: decides for itself how much to think.
    Adaptive,
    /// From 4.7 on: takes no temperature either.
    Fixed,
}

impl Generation {
    /// `claude-opus-4-8`, `claude-3-7-sonnet-20250219`, `anthropic.claude-sonnet-4-20250514-v1:0`.
    pub(crate) fn of(model: &str) -> Self {
        let name = model.split_once("claude").map_or(model, |(_, name)| name);
        let words = name.split(['-', '.', '@', ':']);
        let mut numbers = words.filter_map(|word| (word.len() <= 2).then(|| word.parse::<u8>().ok()).flatten());
        let version = (numbers.next().unwrap_or(u8::MAX), numbers.next().unwrap_or(0));
        if version < (4, 6) {
            Self::Budget
        } else if version < (4, 7) {
            Self::Adaptive
        } else {
            Self::Fixed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_tells_what_it_takes() {
        for (model, generation) in [
            ("claude-3-7-sonnet-20250219", Generation::Budget),
            ("claude-3-haiku-20240307", Generation::Budget),
            ("claude-sonnet-4-20250514", Generation::Budget),
            ("claude-haiku-4-5-20251001", Generation::Budget),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Generation::Budget),
            ("claude-opus-4-6", Generation::Adaptive),
            ("anthropic/claude-4.6-opus", Generation::Adaptive),
            ("claude-opus-4-8", Generation::Fixed),
            ("claude-sonnet-5", Generation::Fixed),
            ("claude-fable-5-1", Generation::Fixed),
            ("my-own-name", Generation::Fixed),
        ] {
            assert_eq!(Generation::of(model), generation, "{model}");
        }
    }

    #[test]
    fn a_vendors_refusal_is_understood() {
        for (status, body, cause) in [
            (
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#,
                Cause::RateLimited,
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}"#,
                Cause::TooLong,
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","message":"m"}}"#,
                Cause::Invalid,
            ),
            (529, "<html>", Cause::Overloaded),
            (500, r#"{"error":"x"}"#, Cause::Vendor),
        ] {
            assert_eq!(failure(status, body.as_bytes()).cause, cause, "{body}");
        }
    }
}
