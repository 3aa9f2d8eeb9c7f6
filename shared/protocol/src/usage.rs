//! What a vendor says a call used. Knows no price and no event.

use serde::{Deserialize, Serialize};

use crate::tokens::Tokens;
use crate::wire::Wire;

/// Tokens of one call, in one meaning for every wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens, those read from and written to the vendor's cache included.
    pub input: Tokens,
    /// The part of `input` that was read from the vendor's cache.
    pub cached: Tokens,
    /// The part of `input` that was written to the vendor's cache; never overlaps `cached`.
    pub cache_write: Tokens,
    /// All output tokens, reasoning included.
    pub output: Tokens,
    /// The part of `output` that was reasoning.
    pub reasoning: Tokens,
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The vendor.
    Reported,
    /// We, from the bytes that went by.
    Estimated,
}

impl Usage {
    /// Reads a usage object. `None` when it is missing a count, negative, above [`Tokens::MAX`] or contradicts itself.
    #[must_use]
    pub fn read(wire: Wire, json: &[u8]) -> Option<Self> {
        let usage = match wire {
            Wire::Responses => serde_json::from_slice::<Responses>(json).ok()?.usage(),
            Wire::Chat => serde_json::from_slice::<Chat>(json).ok()?.usage(),
        };
        usage.is_sound().then_some(usage)
    }

    fn is_sound(&self) -> bool {
        let fits = [self.input, self.cached, self.cache_write, self.output, self.reasoning]
            .iter()
            .all(|n| *n <= Tokens::MAX);
        fits && self.cached.saturating_add(self.cache_write) <= self.input && self.reasoning <= self.output
    }
}

#[derive(Deserialize)]
struct Responses {
    input_tokens: u64,
    output_tokens: u64,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct Chat {
    prompt_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
    /// DeepSeek's spelling of `prompt_tokens_details.cached_tokens`.
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

impl Responses {
    fn usage(self) -> Usage {
        let input = self.input_tokens_details.unwrap_or_default();
        let output = self.output_tokens_details.unwrap_or_default();
        Usage {
            input: Tokens::new(self.input_tokens),
            cached: Tokens::new(input.cached_tokens.unwrap_or(0)),
            cache_write: Tokens::new(input.cache_write_tokens.unwrap_or(0)),
            output: Tokens::new(self.output_tokens),
            reasoning: Tokens::new(output.reasoning_tokens.unwrap_or(0)),
        }
    }
}

impl Chat {
    fn usage(self) -> Usage {
        let input = self.prompt_tokens_details.unwrap_or_default();
        let output = self.completion_tokens_details.unwrap_or_default();
        Usage {
            input: Tokens::new(self.prompt_tokens),
            cached: Tokens::new(input.cached_tokens.or(self.prompt_cache_hit_tokens).unwrap_or(0)),
            cache_write: Tokens::new(input.cache_write_tokens.unwrap_or(0)),
            output: Tokens::new(self.completion_tokens),
            reasoning: Tokens::new(output.reasoning_tokens.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responses(json: &str) -> Option<Usage> {
        Usage::read(Wire::Responses, json.as_bytes())
    }

    #[test]
    fn a_responses_usage_is_read_whole() {
        let usage = responses(
            r#"{"total_tokens":130,"output_tokens_details":{"reasoning_tokens":7,"text":1},"output_tokens":30,
                "input_tokens_details":{"cached_tokens":40,"cache_write_tokens":20,"audio_tokens":0},"input_tokens":100}"#,
        )
        .unwrap();
        assert_eq!(usage.input, Tokens::new(100));
        assert_eq!(usage.cached, Tokens::new(40));
        assert_eq!(usage.cache_write, Tokens::new(20));
        assert_eq!(usage.output, Tokens::new(30));
        assert_eq!(usage.reasoning, Tokens::new(7));
    }

    #[test]
    fn a_chat_usage_is_read_whole() {
        let json = br#"{"prompt_tokens":100,"completion_tokens":30,"total_tokens":130,
            "prompt_tokens_details":{"cached_tokens":40,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":7,"accepted_prediction_tokens":0}}"#;
        let usage = Usage::read(Wire::Chat, json).unwrap();
        assert_eq!((usage.input, usage.cached), (Tokens::new(100), Tokens::new(40)));
        assert_eq!((usage.output, usage.reasoning), (Tokens::new(30), Tokens::new(7)));
        let hit =
            br#"{"prompt_tokens":9,"completion_tokens":1,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":5}"#;
        assert_eq!(Usage::read(Wire::Chat, hit).unwrap().cached, Tokens::new(4));
    }

    #[test]
    fn details_may_be_missing_or_null() {
        assert!(responses(r#"{"input_tokens":1,"output_tokens":2}"#).is_some());
        assert!(responses(r#"{"input_tokens":1,"output_tokens":2,"input_tokens_details":null}"#).is_some());
        assert!(
            responses(r#"{"input_tokens":1,"output_tokens":2,"input_tokens_details":{"cached_tokens":null}}"#)
                .is_some()
        );
    }

    #[test]
    fn nonsense_is_no_usage() {
        for json in [
            "null",
            "{}",
            "[]",
            "",
            r#"{"input_tokens":1}"#,
            r#"{"input_tokens":-1,"output_tokens":2}"#,
            r#"{"input_tokens":1.5,"output_tokens":2}"#,
            r#"{"input_tokens":"1","output_tokens":2}"#,
            r#"{"input_tokens":1,"input_tokens":1,"output_tokens":2}"#,
            r#"{"input_tokens":1099511627777,"output_tokens":2}"#,
            r#"{"input_tokens":99999999999999999999999999,"output_tokens":2}"#,
            r#"{"input_tokens":1,"output_tokens":2,"input_tokens_details":{"cached_tokens":2}}"#,
            r#"{"input_tokens":3,"output_tokens":2,"input_tokens_details":{"cached_tokens":2,"cache_write_tokens":2}}"#,
            r#"{"input_tokens":3,"output_tokens":2,"output_tokens_details":{"reasoning_tokens":3}}"#,
            r#"{"prompt_tokens":1,"completion_tokens":2}"#,
            r#"{"input_tokens":1,"output_tokens":2"#,
        ] {
            assert_eq!(responses(json), None, "{json}");
        }
    }
}
