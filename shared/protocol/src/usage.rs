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
    /// The part of `cache_write` that outlives the vendor's usual lifetime: an hour, or twelve.
    pub cache_write_long: Tokens,
    /// The part of `input` that was sound.
    pub input_audio: Tokens,
    /// The part of `input` that was pictures.
    pub input_image: Tokens,
    /// The part of `output` that was sound; never overlaps `reasoning`.
    pub output_audio: Tokens,
    /// The part of `output` that was pictures; never overlaps `reasoning`.
    pub output_image: Tokens,
    /// Calls of the vendor's own tools, which are paid apart from tokens.
    pub tools: ToolCalls,
}

/// How often each of the vendor's own tools was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolCalls {
    /// Searches of the web.
    #[serde(skip_serializing_if = "is_none")]
    pub web_search: u32,
    /// Searches of stored files.
    #[serde(skip_serializing_if = "is_none")]
    pub file_search: u32,
    /// Runs of code at the vendor.
    #[serde(skip_serializing_if = "is_none")]
    pub code_interpreter: u32,
    /// Pictures made by a tool.
    #[serde(skip_serializing_if = "is_none")]
    pub image_generation: u32,
    /// Tools of the vendor that we do not know.
    #[serde(skip_serializing_if = "is_none")]
    pub other: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_none(count: &u32) -> bool {
    *count == 0
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

    /// Whether it is of text alone, with no tool called and no long-lived cache written.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let Self {
            input: _,
            cached: _,
            cache_write: _,
            output: _,
            reasoning: _,
            cache_write_long,
            input_audio,
            input_image,
            output_audio,
            output_image,
            tools,
        } = self;
        let counts = [cache_write_long, input_audio, input_image, output_audio, output_image];
        counts.into_iter().all(|count| *count == Tokens::ZERO) && *tools == ToolCalls::default()
    }

    fn is_sound(&self) -> bool {
        let fits = self.input <= Tokens::MAX && self.output <= Tokens::MAX;
        fits && sum(&[self.cached, self.cache_write]) <= self.input
            && self.cache_write_long <= self.cache_write
            && sum(&[self.input_audio, self.input_image]) <= self.input
            && sum(&[self.reasoning, self.output_audio, self.output_image]) <= self.output
    }
}

fn sum(parts: &[Tokens]) -> Tokens {
    parts.iter().fold(Tokens::ZERO, |sum, part| sum.saturating_add(*part))
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
            ..Usage::default()
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
            ..Usage::default()
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
