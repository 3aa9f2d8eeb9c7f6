//! What a vendor says a call used. Knows no price and no event.

pub(crate) mod converse;
mod gemini;
pub(crate) mod messages;

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

impl ToolCalls {
    /// Adds what is counted elsewhere.
    pub const fn add(&mut self, more: Self) {
        let Self {
            web_search,
            file_search,
            code_interpreter,
            image_generation,
            other,
        } = more;
        self.web_search = self.web_search.saturating_add(web_search);
        self.file_search = self.file_search.saturating_add(file_search);
        self.code_interpreter = self.code_interpreter.saturating_add(code_interpreter);
        self.image_generation = self.image_generation.saturating_add(image_generation);
        self.other = self.other.saturating_add(other);
    }

    /// Counts an output item of this `type`, if it is a call of a tool that costs. Of searches only those that search:
    /// `acts_otherwise` says that it opened or looked through a page.
    pub(crate) fn count(&mut self, kind: &[u8], acts_otherwise: bool) {
        let count = match kind {
            b"web_search_call" if acts_otherwise => return,
            b"web_search_call" => &mut self.web_search,
            b"file_search_call" => &mut self.file_search,
            b"code_interpreter_call" => &mut self.code_interpreter,
            b"image_generation_call" => &mut self.image_generation,
            // Carried out by the client, or paid in tokens.
            b"function_call" | b"custom_tool_call" | b"local_shell_call" | b"shell_call" | b"apply_patch_call"
            | b"computer_call" | b"mcp_call" | b"tool_search_call" => return,
            kind if kind.ends_with(b"_call") => &mut self.other,
            _ => return,
        };
        *count = count.saturating_add(1);
    }
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
        let (usage, total) = match wire {
            Wire::Responses => serde_json::from_slice::<Responses>(json).ok()?.usage(),
            Wire::Chat => serde_json::from_slice::<Chat>(json).ok()?.usage()?,
            Wire::Messages => (messages::Report::read(json)?.usage()?, None),
            Wire::Gemini => serde_json::from_slice::<gemini::Metadata>(json).ok()?.usage()?,
        };
        let sum = usage.input.saturating_add(usage.output);
        let adds_up = total.is_none_or(|total| sum == Tokens::new(total));
        (usage.is_sound() && adds_up).then_some(usage)
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
    total_tokens: Option<u64>,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct Chat {
    prompt_tokens: u64,
    /// Embeddings have none: their prompt is the total.
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
    /// DeepSeek's spelling of `prompt_tokens_details.cached_tokens`.
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    cache_write_tokens_details: Option<CacheWrites>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

/// By lifetime. The shorter is the usual one.
#[derive(Deserialize, Default)]
struct CacheWrites {
    ttl_12h_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

/// The parts of both sides, which both wires spell alike.
fn parts(input: InputDetails, output: &OutputDetails) -> Usage {
    let tokens = |count: Option<u64>| Tokens::new(count.unwrap_or(0));
    Usage {
        cached: tokens(input.cached_tokens),
        cache_write: tokens(input.cache_write_tokens),
        cache_write_long: tokens(input.cache_write_tokens_details.unwrap_or_default().ttl_12h_tokens),
        input_audio: tokens(input.audio_tokens),
        input_image: tokens(input.image_tokens),
        reasoning: tokens(output.reasoning_tokens),
        output_audio: tokens(output.audio_tokens),
        output_image: tokens(output.image_tokens),
        ..Usage::default()
    }
}

impl Responses {
    fn usage(self) -> (Usage, Option<u64>) {
        let output = self.output_tokens_details.unwrap_or_default();
        let usage = Usage {
            input: Tokens::new(self.input_tokens),
            output: Tokens::new(self.output_tokens),
            ..parts(self.input_tokens_details.unwrap_or_default(), &output)
        };
        (usage, self.total_tokens)
    }
}

impl Chat {
    fn usage(self) -> Option<(Usage, Option<u64>)> {
        let is_of_input_alone = self.total_tokens == Some(self.prompt_tokens);
        let output = self.completion_tokens.or(is_of_input_alone.then_some(0))?;
        let mut input = self.prompt_tokens_details.unwrap_or_default();
        input.cached_tokens = input.cached_tokens.or(self.prompt_cache_hit_tokens);
        let usage = Usage {
            input: Tokens::new(self.prompt_tokens),
            output: Tokens::new(output),
            ..parts(input, &self.completion_tokens_details.unwrap_or_default())
        };
        Some((usage, self.total_tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responses(json: &str) -> Option<Usage> {
        Usage::read(Wire::Responses, json.as_bytes())
    }

    #[test]
    fn embeddings_have_no_completion_and_nothing_else_may_lack_one() {
        let read = |json: &str| Usage::read(Wire::Chat, json.as_bytes());
        let usage = read(r#"{"prompt_tokens":8,"total_tokens":8}"#).unwrap();
        assert_eq!((usage.input, usage.output), (Tokens::new(8), Tokens::ZERO));
        for odd in [
            r#"{"prompt_tokens":8}"#,
            r#"{"prompt_tokens":8,"total_tokens":9}"#,
            r#"{"total_tokens":8}"#,
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
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
    fn what_is_not_text_is_read_apart() {
        let usage = responses(
            r#"{"input_tokens":100,"output_tokens":50,
                "input_tokens_details":{"cache_write_tokens":20,"cache_write_tokens_details":{"ttl_30m_tokens":15,"ttl_12h_tokens":5},
                    "audio_tokens":30,"image_tokens":40,"text_tokens":30},
                "output_tokens_details":{"reasoning_tokens":7,"audio_tokens":8,"image_tokens":9}}"#,
        )
        .unwrap();
        let t = Tokens::new;
        assert_eq!((usage.cache_write, usage.cache_write_long), (t(20), t(5)));
        assert_eq!((usage.input_audio, usage.input_image), (t(30), t(40)));
        assert_eq!((usage.output_audio, usage.output_image), (t(8), t(9)));
        assert!(!usage.is_plain());
        for contradiction in [
            r#""input_tokens_details":{"audio_tokens":60,"image_tokens":41}"#,
            r#""output_tokens_details":{"reasoning_tokens":42,"audio_tokens":9}"#,
            r#""input_tokens_details":{"cache_write_tokens":1,"cache_write_tokens_details":{"ttl_12h_tokens":2}}"#,
        ] {
            assert_eq!(
                responses(&format!(r#"{{"input_tokens":100,"output_tokens":50,{contradiction}}}"#)),
                None
            );
        }
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
            r#"{"input_tokens":3,"output_tokens":2,"total_tokens":6}"#,
            r#"{"prompt_tokens":1,"completion_tokens":2}"#,
            r#"{"input_tokens":1,"output_tokens":2"#,
        ] {
            assert_eq!(responses(json), None, "{json}");
        }
    }
}
