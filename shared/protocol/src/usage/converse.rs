//! Usage as Bedrock's Converse tells it, at the end of an answer. Its `inputTokens` leave out what is read from a cache and
//! what is written to one.
//! Source: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html> (2026-11).

use serde::Deserialize;

use super::Usage;
use crate::tokens::Tokens;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    #[serde(borrow, default)]
    cache_details: Vec<Written<'a>>,
}

/// What was written to a cache, by how long it is kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    input_tokens: u64,
    ttl: &'a str,
}

/// Reads a usage object; `None` where a count is missing, absurd or in contradiction with another.
pub(crate) fn read(json: &[u8]) -> Option<Usage> {
    let report: Report<'_> = serde_json::from_slice(json).ok()?;
    let read = report.cache_read_input_tokens.unwrap_or(0);
    let written = report.cache_write_input_tokens.unwrap_or(0);
    let long = report.cache_details.iter().filter(|written| written.ttl != "5m");
    let long = long.fold(0, |sum: u64, written| sum.saturating_add(written.input_tokens));
    let usage = Usage {
        input: Tokens::new(report.input_tokens.saturating_add(read).saturating_add(written)),
        cached: Tokens::new(read),
        cache_write: Tokens::new(written),
        cache_write_long: Tokens::new(long),
        output: Tokens::new(report.output_tokens),
        ..Usage::default()
    };
    (long <= written && usage.is_sound()).then_some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_added_to_the_input_and_nonsense_is_no_usage() {
        let t = Tokens::new;
        let told = br#"{"inputTokens":20,"outputTokens":7,"totalTokens":4327,"cacheReadInputTokens":4000,
            "cacheWriteInputTokens":300,"cacheDetails":[{"ttl":"5m","inputTokens":100},{"ttl":"1h","inputTokens":200}]}"#;
        let usage = read(told).unwrap();
        assert_eq!((usage.input, usage.output, usage.cached), (t(4320), t(7), t(4000)));
        assert_eq!((usage.cache_write, usage.cache_write_long), (t(300), t(200)));
        assert_eq!(read(br#"{"inputTokens":3,"outputTokens":1}"#).unwrap().input, t(3));
        for json in [
            r#"{"inputTokens":1}"#,
            r#"{"inputTokens":-1,"outputTokens":1}"#,
            r#"{"inputTokens":1.5,"outputTokens":1}"#,
            r#"{"inputTokens":18446744073709551615,"outputTokens":1,"cacheReadInputTokens":5}"#,
            r#"{"inputTokens":1,"outputTokens":1,"cacheDetails":[{"ttl":"1h","inputTokens":2}]}"#,
            "null",
        ] {
            assert_eq!(read(json.as_bytes()), None, "{json}");
        }
    }
}
