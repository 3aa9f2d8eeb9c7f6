//! A failure of the vendor's, told in its own wire: before an answer, as the body of a refusal, or in a stream.

use std::time::Duration;

use crate::refusal::{Code, Refusal};

/// Why a vendor failed, in its own words.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Failure {
    /// What kind of failure.
    pub cause: Cause,
    /// The vendor's message: for the client alone, as it may quote what the client sent.
    pub message: String,
}

/// What kind of failure, as far as clients act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The request is at fault.
    Invalid,
    /// The conversation is longer than the model can take.
    TooLong,
    /// The body is larger than the vendor takes.
    TooLarge,
    /// There is no such model there.
    NotFound,
    /// The operator's account may not do this: its key, its rights, its money.
    Account,
    /// Too often, too much.
    RateLimited,
    /// The vendor has no room.
    Overloaded,
    /// It took too long.
    Timeout,
    /// Anything else.
    Vendor,
}

impl Cause {
    /// What a status of HTTP says, for want of anything better.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            401..=403 => Self::Account,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            503 | 529 => Self::Overloaded,
            400..=499 => Self::Invalid,
            _ => Self::Vendor,
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidRequest,
            Self::TooLong => Code::ContextTooLong,
            Self::TooLarge => Code::BodyTooLarge,
            Self::NotFound => Code::ModelNotFound,
            Self::RateLimited => Code::RateLimited,
            Self::Overloaded => Code::Overloaded,
            Self::Timeout => Code::UpstreamTimeout,
            Self::Account | Self::Vendor => Code::UpstreamBroke,
        }
    }
}

impl Failure {
    /// The same as a refusal, which every client's wire has words for. What concerns the operator's account is not told.
    #[must_use]
    pub fn refusal(&self, retry_after: Option<Duration>) -> Refusal {
        let message = match self.cause {
            Cause::Account => "The upstream refused the relay's own account.",
            _ if self.message.is_empty() => "The upstream failed.",
            _ => self.message.as_str(),
        };
        let refusal = Refusal::new(self.cause.code(), message.to_owned());
        match retry_after {
            Some(wait) => refusal.retry_after(wait),
            None => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    #[test]
    fn what_concerns_the_operators_account_is_not_told() {
        let failure = Failure {
            cause: Cause::of_status(401),
            message: "Incorrect API key provided: sk-secret".to_owned(),
        };
        let body = failure.refusal(None).render(Wire::Messages, "r").body;
        assert!(!String::from_utf8_lossy(&body).contains("sk-secret"));
    }

    #[test]
    fn a_conversation_that_is_too_long_is_told_so_that_clients_shorten_it() {
        let failure = Failure {
            cause: Cause::TooLong,
            message: "prompt is too long: 210000 tokens > 200000 maximum".to_owned(),
        };
        let refusal = failure.refusal(None);
        let event = refusal.stream_event(Wire::Responses, "r");
        assert!(String::from_utf8_lossy(&event).contains(r#""code":"context_length_exceeded""#));
        assert_eq!(refusal.render(Wire::Chat, "r").status, 400);
    }
}
