//! Anthropic's usage: cumulative, in parts that come at the beginning and at the end of a stream. Its `input_tokens`
//! leave out what is read from a cache and what is written to one.
//! Source: <https://platform.claude.com/docs/en/api/messages> (2026-11).

use serde::Deserialize;

use super::{ToolCalls, Usage};
use crate::tokens::Tokens;

/// What was reported so far, each figure as it was told last.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Report {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<Lifetimes>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
    server_tool_use: Option<ServerTools>,
    service_tier: Option<String>,
    speed: Option<String>,
    inference_geo: Option<String>,
}

/// What was written to a cache, by how long it is kept.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Lifetimes {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct ServerTools {
    web_search_requests: Option<u32>,
}

impl Report {
    /// Reads a usage object. `None` when a figure is no count.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Takes over what is told again. Figures are cumulative: the last one counts, none is added.
    pub(crate) fn update(&mut self, later: Self) {
        let Self {
            input_tokens,
            cache_creation_input_tokens,
            cache_read_input_tokens,
            cache_creation,
            output_tokens,
            output_tokens_details,
            server_tool_use,
            service_tier,
            speed,
            inference_geo,
        } = later;
        newer(&mut self.input_tokens, input_tokens);
        newer(&mut self.cache_creation_input_tokens, cache_creation_input_tokens);
        newer(&mut self.cache_read_input_tokens, cache_read_input_tokens);
        newer(&mut self.cache_creation, cache_creation);
        newer(&mut self.output_tokens, output_tokens);
        newer(&mut self.output_tokens_details, output_tokens_details);
        newer(&mut self.server_tool_use, server_tool_use);
        newer(&mut self.service_tier, service_tier);
        newer(&mut self.speed, speed);
        newer(&mut self.inference_geo, inference_geo);
    }

    /// All of it in the hub's own meaning. `None` where a count is missing, absurd or in contradiction with another.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let reasoning = self.output_tokens_details.and_then(|details| details.thinking_tokens);
        let usage = Usage {
            output: Tokens::new(self.output_tokens?),
            reasoning: Tokens::new(reasoning.unwrap_or(0)),
            ..self.input()?
        };
        usage.is_sound().then_some(usage)
    }

    /// The side of the input alone, which is known before there is any output.
    pub(crate) fn input(&self) -> Option<Usage> {
        let lifetimes = self.cache_creation;
        let long = lifetimes.and_then(|cache| cache.ephemeral_1h_input_tokens).unwrap_or(0);
        let short = lifetimes.and_then(|cache| cache.ephemeral_5m_input_tokens).unwrap_or(0);
        let both = short.saturating_add(long);
        let written = self.cache_creation_input_tokens.unwrap_or(both);
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let usage = Usage {
            input: Tokens::new(self.input_tokens?.saturating_add(written).saturating_add(read)),
            cached: Tokens::new(read),
            cache_write: Tokens::new(written),
            cache_write_long: Tokens::new(long),
            ..Usage::default()
        };
        (both <= written && usage.is_sound()).then_some(usage)
    }

    /// What its own tools did that is paid apart.
    pub(crate) fn tools(&self) -> ToolCalls {
        let searches = self.server_tool_use.and_then(|tools| tools.web_search_requests);
        ToolCalls {
            web_search: searches.unwrap_or(0),
            ..ToolCalls::default()
        }
    }

    /// What decides the price: the service tier, the speed and where it ran, joined by `-`; `None` for the usual ones.
    pub(crate) fn tier(&self) -> Option<String> {
        tier(
            self.service_tier.as_deref(),
            self.speed.as_deref(),
            self.inference_geo.as_deref(),
        )
    }
}

/// One name for all that changes the price of a call, of a request or an answer: `priority`, `fast`, `us`, `fast-us`.
pub(crate) fn tier(service: Option<&str>, speed: Option<&str>, geo: Option<&str>) -> Option<String> {
    let service = service.filter(|tier| !matches!(*tier, "standard" | "standard_only" | "default"));
    let speed = speed.filter(|speed| *speed != "standard");
    let geo = geo.filter(|geo| !matches!(*geo, "global" | "not_available"));
    let parts: Vec<_> = [service, speed, geo].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("-"))
}

fn newer<T>(known: &mut Option<T>, told: Option<T>) {
    if told.is_some() {
        *known = told;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(count: u64) -> Tokens {
        Tokens::new(count)
    }

    const START: &str = r#"{"input_tokens":20,"cache_creation_input_tokens":300,"cache_read_input_tokens":4000,
        "cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":1,
        "service_tier":"standard","inference_geo":"global"}"#;

    #[test]
    fn caches_are_added_to_the_input_and_lifetimes_told_apart() {
        let usage = Report::read(START.as_bytes()).unwrap().usage().unwrap();
        assert_eq!((usage.input, usage.output), (t(4320), t(1)));
        assert_eq!(
            (usage.cached, usage.cache_write, usage.cache_write_long),
            (t(4000), t(300), t(200))
        );
        let bare = Report::read(br#"{"input_tokens":7,"output_tokens":2,"cache_creation_input_tokens":null}"#);
        let bare = bare.unwrap().usage().unwrap();
        assert_eq!((bare.input, bare.cached, bare.cache_write), (t(7), t(0), t(0)));
    }

    #[test]
    fn what_is_told_again_replaces_what_was_told_before() {
        let mut report = Report::read(START.as_bytes()).unwrap();
        for later in [
            r#"{"output_tokens":90}"#,
            r#"{"output_tokens":120,"output_tokens_details":{"thinking_tokens":50},"input_tokens":25,
                "cache_creation_input_tokens":null,"server_tool_use":{"web_search_requests":3}}"#,
        ] {
            report.update(Report::read(later.as_bytes()).unwrap());
        }
        let usage = report.usage().unwrap();
        assert_eq!((usage.input, usage.output, usage.reasoning), (t(4325), t(120), t(50)));
        assert_eq!(report.tools().web_search, 3);
    }

    #[test]
    fn nonsense_is_no_usage() {
        for json in [
            r#"{"output_tokens":2}"#,
            r#"{"input_tokens":1}"#,
            r#"{"input_tokens":1099511627777,"output_tokens":2}"#,
            r#"{"input_tokens":18446744073709551615,"cache_read_input_tokens":5,"output_tokens":2}"#,
            r#"{"input_tokens":1,"output_tokens":2,"output_tokens_details":{"thinking_tokens":3}}"#,
            r#"{"input_tokens":1,"output_tokens":2,"cache_creation_input_tokens":3,"cache_creation":{"ephemeral_1h_input_tokens":4}}"#,
        ] {
            assert_eq!(Report::read(json.as_bytes()).unwrap().usage(), None, "{json}");
        }
        for json in [
            "null,",
            "[]x",
            r#"{"input_tokens":-1}"#,
            r#"{"input_tokens":1.5}"#,
            r#"{"input_tokens":"1"}"#,
        ] {
            assert!(Report::read(json.as_bytes()).is_none(), "{json}");
        }
    }

    #[test]
    fn all_that_changes_the_price_makes_one_name() {
        assert_eq!(tier(Some("standard"), Some("standard"), Some("not_available")), None);
        assert_eq!(tier(Some("standard_only"), None, Some("global")), None);
        assert_eq!(tier(Some("priority"), None, None).as_deref(), Some("priority"));
        assert_eq!(
            tier(Some("standard"), Some("fast"), Some("us")).as_deref(),
            Some("fast-us")
        );
        assert_eq!(tier(Some("auto"), None, None).as_deref(), Some("auto"));
    }
}
