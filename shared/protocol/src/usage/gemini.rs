//! Gemini's usage: cumulative in each chunk. Its prompt counts what was cached; its candidates leave out the thoughts.
//! Source: <https://ai.google.dev/api/generate-content#UsageMetadata> (2026-11).

use serde::Deserialize;

use super::{Usage, sum};
use crate::tokens::Tokens;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    total_token_count: Option<u64>,
    prompt_tokens_details: Option<Vec<OfKind>>,
    tool_use_prompt_tokens_details: Option<Vec<OfKind>>,
    candidates_tokens_details: Option<Vec<OfKind>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfKind {
    modality: Option<String>,
    token_count: Option<u64>,
}

impl Metadata {
    /// In the hub's own meaning, with the total that the vendor says. `None` where there is no count of the prompt.
    pub(super) fn usage(&self) -> Option<(Usage, Option<u64>)> {
        let tokens = |count: Option<u64>| Tokens::new(count.unwrap_or(0));
        let thoughts = tokens(self.thoughts_token_count);
        let prompt = [&self.prompt_tokens_details, &self.tool_use_prompt_tokens_details];
        let written = [&self.candidates_tokens_details];
        let usage = Usage {
            // Zero counts are left out in this format, so a prompt of a call that made nothing may be missing; a
            // usage without any count says nothing.
            input: Tokens::new(self.prompt_token_count.or(self.total_token_count)?)
                .saturating_add(tokens(self.tool_use_prompt_token_count)),
            cached: tokens(self.cached_content_token_count),
            output: tokens(self.candidates_token_count).saturating_add(thoughts),
            reasoning: thoughts,
            input_audio: of_kind(&prompt, "AUDIO"),
            input_image: of_kind(&prompt, "IMAGE"),
            output_audio: of_kind(&written, "AUDIO"),
            output_image: of_kind(&written, "IMAGE"),
            ..Usage::default()
        };
        Some((usage, self.total_token_count))
    }
}

fn of_kind(details: &[&Option<Vec<OfKind>>], modality: &str) -> Tokens {
    let all = details.iter().filter_map(|list| list.as_ref()).flatten();
    let these = all.filter(|part| part.modality.as_deref() == Some(modality));
    let counts: Vec<_> = these.map(|part| Tokens::new(part.token_count.unwrap_or(0))).collect();
    sum(&counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    fn read(json: &str) -> Option<Usage> {
        Usage::read(Wire::Gemini, json.as_bytes())
    }

    fn t(count: u64) -> Tokens {
        Tokens::new(count)
    }

    #[test]
    fn thoughts_are_output_and_tools_prompts_are_input() {
        let usage = read(
            r#"{"promptTokenCount":100,"cachedContentTokenCount":60,"candidatesTokenCount":20,"thoughtsTokenCount":30,
                "toolUsePromptTokenCount":5,"totalTokenCount":155,"trafficType":"ON_DEMAND",
                "promptTokensDetails":[{"modality":"TEXT","tokenCount":70},{"modality":"AUDIO","tokenCount":20},{"modality":"IMAGE","tokenCount":10}],
                "candidatesTokensDetails":[{"modality":"TEXT","tokenCount":12},{"modality":"IMAGE","tokenCount":8}]}"#,
        )
        .unwrap();
        assert_eq!((usage.input, usage.cached), (t(105), t(60)));
        assert_eq!((usage.output, usage.reasoning), (t(50), t(30)));
        assert_eq!((usage.input_audio, usage.input_image), (t(20), t(10)));
        assert_eq!((usage.output_audio, usage.output_image), (t(0), t(8)));
    }

    #[test]
    fn counts_that_are_zero_may_be_left_out() {
        let blocked = read(r#"{"promptTokenCount":9,"totalTokenCount":9}"#).unwrap();
        assert_eq!((blocked.input, blocked.output), (t(9), t(0)));
        assert!(read(r#"{"promptTokenCount":9,"candidatesTokenCount":1}"#).is_some());
    }

    #[test]
    fn nonsense_is_no_usage() {
        for json in [
            "null",
            "{}",
            r#"{"candidatesTokenCount":3}"#,
            r#"{"promptTokenCount":-1}"#,
            r#"{"promptTokenCount":"1"}"#,
            r#"{"promptTokenCount":1,"candidatesTokenCount":2,"totalTokenCount":4}"#,
            r#"{"promptTokenCount":1,"cachedContentTokenCount":2}"#,
            r#"{"promptTokenCount":1099511627777}"#,
            r#"{"promptTokenCount":1,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":2}]}"#,
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
