//! What a call asks for, read from its address and its body. Knows no connection and no answer.

use std::io::Read;

use http::{HeaderMap, header};
use serde_json::Value;

use super::script::{Answer, Output, Script, Usage};
use super::shell::Shell;
use super::truth::{Ended, Entry};
use super::{Shared, bedrock};

/// What the vendor needs to know of a request's body.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) generate: bool,
    pub(super) has_tool_output: bool,
    pub(super) shell: Shell,
    /// Gemini's stream is one of events.
    pub(super) as_events: bool,
}

impl Asked {
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        match headers
            .get(header::CONTENT_ENCODING)
            .and_then(|value| value.to_str().ok())
        {
            None => Self::parse(body),
            Some(coding) => Self::parse(&decode(coding, body)),
        }
    }

    pub(super) fn parse(body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Head<'a> {
            #[serde(default, borrow)]
            model: std::borrow::Cow<'a, str>,
            #[serde(default)]
            stream: bool,
            generate: Option<bool>,
            stream_options: Option<StreamOptions>,
        }
        #[derive(serde::Deserialize)]
        struct StreamOptions {
            #[serde(default)]
            include_usage: bool,
        }
        let Ok(head) = serde_json::from_slice::<Head<'_>>(body) else {
            return Self::default();
        };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        Self {
            model: head.model.into_owned(),
            stream: head.stream,
            include_usage: head.stream_options.is_some_and(|options| options.include_usage),
            generate: head.generate.unwrap_or(true),
            has_tool_output: has_tool_output(&body),
            shell: Shell::offered(&body),
            as_events: false,
        }
    }

    /// What an address says on the wire whose address names the model.
    pub(super) fn at(mut self, path: &str, query: Option<&str>) -> Self {
        if let Some((model, method)) = path.rsplit_once("/models/").and_then(|(_, rest)| rest.rsplit_once(':')) {
            self.model = model.to_owned();
            self.stream = method == "streamGenerateContent";
            self.as_events = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        }
        if let Some((model, stream)) = bedrock::asked(path) {
            (self.model, self.stream) = (model, stream);
        }
        self
    }

    pub(super) fn entry(&self, shared: &Shared, path: &str, script: &Script, socket: bool) -> Entry {
        let prefix = match Kind::of(path) {
            Kind::Chat => "chatcmpl-",
            Kind::Messages | Kind::Bedrock | Kind::Converse => "msg_",
            Kind::Gemini => "g-",
            Kind::Responses | Kind::Compact | Kind::Count(_) => "resp_",
        };
        let warm_up = socket && !self.generate;
        Entry {
            response_id: format!("{prefix}{:024x}", shared.serial()),
            model: self.model.clone(),
            endpoint: path.to_owned(),
            socket,
            status: script.status,
            usage: self.usage(script).and_then(|usage| billed(usage, path)),
            extra: script.extra.clone(),
            reported: false,
            warm_up,
            events_sent: 0,
            bytes_sent: 0,
            ended: Ended::Running,
            started_ms: 0,
            ended_ms: None,
        }
    }

    /// A tool round bills its two calls differently, so that a mix-up shows.
    fn usage(&self, script: &Script) -> Option<Usage> {
        match &script.answer {
            Answer::ToolRound { .. } if self.has_tool_output => Some(Usage {
                input: 9_731,
                cached: 9_216,
                output: 37,
                reasoning: 0,
            }),
            Answer::ToolRound { .. } => Some(Usage {
                input: 9_402,
                cached: 1_024,
                output: 83,
                reasoning: 41,
            }),
            Answer::Turn(_) => script.usage,
            Answer::Body(_) | Answer::Chunks(_) => None,
        }
    }

    /// The output items of a script for this request.
    pub(super) fn output(&self, script: &Script) -> Vec<Output> {
        match &script.answer {
            Answer::Turn(output) => output.clone(),
            Answer::ToolRound { text, .. } if self.has_tool_output => {
                vec![Output::Text(text.split_inclusive(' ').map(str::to_owned).collect())]
            }
            Answer::ToolRound { command, .. } => vec![self.shell.call(command)],
            Answer::Body(_) | Answer::Chunks(_) => Vec::new(),
        }
    }
}

/// What is billed of it at this address: Converse does not tell thoughts from other output.
fn billed(usage: Usage, path: &str) -> Option<Usage> {
    match Kind::of(path) {
        Kind::Count(_) => None,
        Kind::Converse => Some(Usage { reasoning: 0, ..usage }),
        _ => Some(usage),
    }
}

fn has_tool_output(body: &Value) -> bool {
    let of_type = |list: &str, key: &str, kind: &str| {
        body[list]
            .as_array()
            .is_some_and(|items| items.iter().any(|item| item[key] == kind))
    };
    let holds = |list: &str, parts: &str, is_result: fn(&Value) -> bool| {
        let items = body[list].as_array().into_iter().flatten();
        let mut parts = items.filter_map(|item| item[parts].as_array()).flatten();
        parts.any(is_result)
    };
    of_type("input", "type", "function_call_output")
        || of_type("messages", "role", "tool")
        || holds("messages", "content", |part| part["type"] == "tool_result")
        || holds("messages", "content", |part| part["toolResult"].is_object())
        || holds("contents", "parts", |part| part["functionResponse"].is_object())
}

/// What an address asks for.
pub(super) enum Kind {
    Responses,
    Compact,
    Chat,
    Messages,
    /// The same in frames.
    Bedrock,
    /// Other models of Bedrock's.
    Converse,
    Gemini,
    /// How many tokens an input has, under this name.
    Count(&'static str),
}

impl Kind {
    pub(super) fn of(path: &str) -> Self {
        match path {
            path if path.ends_with("/chat/completions") => Self::Chat,
            path if path.ends_with("/compact") => Self::Compact,
            path if path.ends_with("/messages") => Self::Messages,
            path if path.ends_with("/invoke") || path.ends_with("/invoke-with-response-stream") => Self::Bedrock,
            path if path.ends_with("/converse") || path.ends_with("/converse-stream") => Self::Converse,
            path if path.ends_with("/count-tokens") => Self::Count("inputTokens"),
            path if path.ends_with("/count_tokens") => Self::Count("input_tokens"),
            path if path.ends_with(":countTokens") => Self::Count("totalTokens"),
            path if path.ends_with("enerateContent") => Self::Gemini,
            _ => Self::Responses,
        }
    }
}

fn decode(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain),
        "zstd" => zstd::stream::copy_decode(body, &mut plain).map(|()| 0),
        _ => Ok(0),
    };
    if read.is_err() {
        plain.clear();
    }
    plain
}
