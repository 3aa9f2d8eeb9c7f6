//! Which dialect a path speaks. Knows paths and nothing of what stands in a body.

use std::borrow::Cow;

/// A dialect: the shape of requests, answers, streams and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wire {
    /// OpenAI Responses: typed events, terminal `response.completed`, `.incomplete` or `.failed`.
    Responses,
    /// OpenAI chat completions: chunks, terminal `data: [DONE]`.
    Chat,
    /// Anthropic Messages: typed events, terminal `message_stop` or `error`.
    Messages,
    /// Gemini: chunks as events or as one JSON array; the end of the body ends them.
    Gemini,
}

/// One of the endpoints served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/responses`, by POST and, as a WebSocket, by GET.
    Responses,
    /// `/v1/responses/compact`, which older Codex clients call.
    Compact,
    /// `/v1/chat/completions`, also as `/v1/unified/chat/completions`: any model, whoever makes it.
    ChatCompletions,
    /// `/v1/embeddings`, in the words of chat: vectors of an input, and no output.
    Embeddings,
    /// `/v1/models`, and `/v1/models/M` for one of them.
    Models,
    /// `/v1/messages`.
    Messages,
    /// `/v1/messages/count_tokens`, which costs nothing.
    CountTokens,
    /// `/v1beta/models/*:generateContent`, also under `/v1`.
    Generate,
    /// `/v1beta/models/*:streamGenerateContent`, also under `/v1`.
    StreamGenerate,
    /// `/v1beta/models/*:countTokens`, also under `/v1`; costs nothing.
    CountGeminiTokens,
    /// `/v1beta/models/*:embedContent`, also under `/v1`.
    EmbedContent,
    /// `/v1beta/models/*:batchEmbedContents`, also under `/v1`.
    BatchEmbedContents,
    /// `/v1beta/models`, and `/v1beta/models/M` for one of them.
    GeminiModels,
}

impl Wire {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Responses => "OpenAI Responses",
            Self::Chat => "OpenAI Chat Completions",
            Self::Messages => "Anthropic Messages",
            Self::Gemini => "Gemini",
        }
    }

    /// The header in which its clients look for the id of a call. Google's look nowhere.
    #[must_use]
    pub const fn request_id(self) -> &'static str {
        match self {
            Self::Responses | Self::Chat | Self::Gemini => "x-request-id",
            Self::Messages => "request-id",
        }
    }

    /// The dialect that `endpoint` speaks.
    #[must_use]
    pub const fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Responses | Endpoint::Compact | Endpoint::Models => Self::Responses,
            Endpoint::ChatCompletions | Endpoint::Embeddings => Self::Chat,
            Endpoint::Messages | Endpoint::CountTokens => Self::Messages,
            Endpoint::Generate
            | Endpoint::StreamGenerate
            | Endpoint::CountGeminiTokens
            | Endpoint::EmbedContent
            | Endpoint::BatchEmbedContents
            | Endpoint::GeminiModels => Self::Gemini,
        }
    }

    /// The dialect in which to refuse a call to `path`, known or not.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        if let Some(endpoint) = Endpoint::parse(path) {
            return Self::of(endpoint);
        }
        let begins = |with: &str| {
            path.strip_prefix(with)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if begins("/v1beta") || (begins("/v1/models") && path.contains(':')) {
            Self::Gemini
        } else if begins("/v1/messages") || begins("/messages") {
            Self::Messages
        } else {
            Self::Responses
        }
    }
}

impl Endpoint {
    /// Each of them.
    pub const ALL: [Self; 13] = [
        Self::Responses,
        Self::Compact,
        Self::ChatCompletions,
        Self::Embeddings,
        Self::Models,
        Self::Messages,
        Self::CountTokens,
        Self::Generate,
        Self::StreamGenerate,
        Self::CountGeminiTokens,
        Self::EmbedContent,
        Self::BatchEmbedContents,
        Self::GeminiModels,
    ];

    /// Reads a path without its query: with one trailing slash or without, those of OpenAI and Anthropic with `/v1` or
    /// without.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let rest = match path.strip_prefix("/v1") {
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) | None => path,
        };
        match rest.strip_suffix('/').unwrap_or(rest) {
            "/responses" => Some(Self::Responses),
            "/responses/compact" => Some(Self::Compact),
            "/chat/completions" | "/unified/chat/completions" => Some(Self::ChatCompletions),
            "/embeddings" => Some(Self::Embeddings),
            "/models" => Some(Self::Models),
            "/messages" => Some(Self::Messages),
            "/messages/count_tokens" => Some(Self::CountTokens),
            "/v1beta/models" if rest.len() == path.len() => Some(Self::GeminiModels),
            _ => match ModelPath::parse(path) {
                Some(path) => Some(path.endpoint),
                None => one_model(path).map(|(endpoint, _)| endpoint),
            },
        }
    }

    /// The path as vendors spell it. Where it has a model in it, that is `*`.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Responses => "/v1/responses",
            Self::Compact => "/v1/responses/compact",
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Models => "/v1/models",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::Generate => "/v1beta/models/*:generateContent",
            Self::StreamGenerate => "/v1beta/models/*:streamGenerateContent",
            Self::CountGeminiTokens => "/v1beta/models/*:countTokens",
            Self::EmbedContent => "/v1beta/models/*:embedContent",
            Self::BatchEmbedContents => "/v1beta/models/*:batchEmbedContents",
            Self::GeminiModels => "/v1beta/models",
        }
    }

    /// The dialect spoken here.
    #[must_use]
    pub const fn wire(self) -> Wire {
        Wire::of(self)
    }

    /// A list of models, or one of them: asked for by GET, and answered by the relay.
    #[must_use]
    pub const fn lists_models(self) -> bool {
        matches!(self, Self::Models | Self::GeminiModels)
    }

    /// A call whose answer is made of its input alone: no token of output is ever paid.
    #[must_use]
    pub const fn embeds(self) -> bool {
        matches!(self, Self::Embeddings | Self::EmbedContent | Self::BatchEmbedContents)
    }

    /// A call whose answer has no output and no price.
    #[must_use]
    pub const fn is_free(self) -> bool {
        matches!(self, Self::CountTokens | Self::CountGeminiTokens)
    }
}

/// What a path says that has a model in it: `/v1beta/models/M:generateContent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPath<'a> {
    /// `v1beta` or `v1`.
    pub version: &'a str,
    /// What it asks for.
    pub endpoint: Endpoint,
    /// The model as written, with its percent signs.
    model: &'a str,
}

impl<'a> ModelPath<'a> {
    /// Reads a path without its query.
    #[must_use]
    pub fn parse(path: &'a str) -> Option<Self> {
        let (version, rest) = path.strip_prefix('/')?.split_once("/models/")?;
        let (model, endpoint) = METHODS.iter().find_map(|(name, endpoint)| {
            let front = rest.strip_suffix(name)?;
            let model = COLONS.iter().find_map(|colon| front.strip_suffix(colon))?;
            Some((model, *endpoint))
        })?;
        let is_known = matches!(version, "v1beta" | "v1") && !model.is_empty() && !model.contains('/');
        is_known.then_some(Self {
            version,
            endpoint,
            model,
        })
    }

    /// The model's name; `None` where the percent signs make no text.
    #[must_use]
    pub fn model(&self) -> Option<Cow<'a, str>> {
        plain(self.model)
    }

    /// The path with another model in it.
    #[must_use]
    pub fn with(&self, model: &str) -> String {
        let method = METHODS.iter().find(|(_, endpoint)| *endpoint == self.endpoint);
        let mut path = format!("/{}/models/", self.version);
        for byte in model.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
        path.push(':');
        path.push_str(method.map_or("", |(name, _)| name));
        path
    }
}

/// The one model that a client asks about, as written: `/v1/models/M`, `/models/M`, `/v1beta/models/M`. A name with a colon
/// is written with percent signs, for Google's methods stand behind one.
fn one_model(path: &str) -> Option<(Endpoint, &str)> {
    let (version, model) = path.split_once("/models/")?;
    let endpoint = match version {
        "" | "/v1" => Endpoint::Models,
        "/v1beta" => Endpoint::GeminiModels,
        _ => return None,
    };
    let is_name = !model.is_empty() && !model.contains(['/', ':', '?']);
    is_name.then_some((endpoint, model))
}

/// The name of the one model that a client asks about; `None` where it asks for the list. Percent signs that make no text
/// stay: no model is called so.
#[must_use]
pub fn asked_model(path: &str) -> Option<Cow<'_, str>> {
    let (_, model) = one_model(path)?;
    Some(plain(model).unwrap_or(Cow::Borrowed(model)))
}

/// A text without its percent signs; `None` where they make no text.
fn plain(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

const METHODS: [(&str, Endpoint); 5] = [
    ("generateContent", Endpoint::Generate),
    ("streamGenerateContent", Endpoint::StreamGenerate),
    ("countTokens", Endpoint::CountGeminiTokens),
    ("embedContent", Endpoint::EmbedContent),
    ("batchEmbedContents", Endpoint::BatchEmbedContents),
];

/// As clients write it, and as proxies and careful libraries do.
const COLONS: [&str; 3] = [":", "%3A", "%3a"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_endpoint_is_understood() {
        for endpoint in Endpoint::ALL {
            let path = endpoint.path();
            assert_eq!(Endpoint::parse(path), Some(endpoint), "{path}");
            if endpoint.wire() == Wire::Gemini {
                continue;
            }
            let bare = &path["/v1".len()..];
            for spelling in [format!("{path}/"), bare.to_owned(), format!("{bare}/")] {
                assert_eq!(Endpoint::parse(&spelling), Some(endpoint), "{spelling}");
            }
        }
    }

    #[test]
    fn a_chat_with_any_model_has_a_path_of_its_own_too() {
        for path in ["/v1/unified/chat/completions", "/unified/chat/completions/"] {
            assert_eq!(Endpoint::parse(path), Some(Endpoint::ChatCompletions), "{path}");
        }
        assert_eq!(Endpoint::parse("/v1/unified/responses"), None);
    }

    #[test]
    fn other_paths_are_no_endpoint() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v1responses",
            "/v1//responses",
            "/v1/v1/responses",
            "/v2/responses",
            "/responses//",
            "responses",
            "/Responses",
            "/v1/responses/resp_1",
            "/v1/responses?x=1",
            "/v1/chat",
            "/v1/messages/batches",
            "/v1/v1beta/models",
            "/v2/models/m",
            "/v1/models/a/b",
            "/v1beta/models/:generateContent",
            "/v1beta/models/a/b:generateContent",
            "/v1beta/models/m:predict",
            "/v1beta/embeddings",
            "/v1alpha/models/m:generateContent",
            "/models/m:generateContent",
            "/v1beta/messages",
        ] {
            assert_eq!(Endpoint::parse(path), None, "{path}");
        }
    }

    #[test]
    fn an_unknown_path_is_refused_in_the_dialect_it_looks_like() {
        for (path, wire) in [
            ("/nowhere", Wire::Responses),
            ("/chat/completions", Wire::Chat),
            ("/v1/messages/batches", Wire::Messages),
            ("/v1beta/files", Wire::Gemini),
            ("/v1beta", Wire::Gemini),
            ("/v1/models/m:predict", Wire::Gemini),
            ("/v1/models/gpt-5.5", Wire::Responses),
            ("/v1betamax", Wire::Responses),
        ] {
            assert_eq!(Wire::of_path(path), wire, "{path}");
        }
    }

    #[test]
    fn one_model_is_asked_about_by_its_name() {
        for (path, endpoint, model) in [
            ("/v1/models/gpt-5.5", Endpoint::Models, "gpt-5.5"),
            ("/models/my%20own", Endpoint::Models, "my own"),
            ("/v1/models/ft%3Agpt%2Fx", Endpoint::Models, "ft:gpt/x"),
            (
                "/v1beta/models/gemini-2.5-pro",
                Endpoint::GeminiModels,
                "gemini-2.5-pro",
            ),
            ("/v1/models/%ff", Endpoint::Models, "%ff"),
        ] {
            assert_eq!(Endpoint::parse(path), Some(endpoint), "{path}");
            assert_eq!(asked_model(path).as_deref(), Some(model), "{path}");
        }
        for path in [
            "/v1/models",
            "/v1/models/",
            "/v1beta/models",
            "/v1beta/models/m:countTokens",
        ] {
            assert_eq!(asked_model(path), None, "{path}");
        }
    }

    #[test]
    fn a_model_s_name_leads_to_no_other_path_however_it_is_escaped() {
        for (path, model) in [
            ("/v1beta/models/%2e%2e%2ffiles%3agenerateContent", "../files"),
            ("/v1beta/models/..%2F..%2Fx:generateContent", "../../x"),
            ("/v1beta/models/%252e%252e%252fx:generateContent", "%2e%2e%2fx"),
            ("/v1beta/models/m%3Fkey=x%23:generateContent", "m?key=x#"),
            (
                "/v1beta/models/m%3AgenerateContent%3AgenerateContent",
                "m:generateContent",
            ),
            ("/v1beta/models/m%0d%0ax:generateContent", "m\r\nx"),
        ] {
            let read = ModelPath::parse(path).unwrap();
            assert_eq!(read.model().as_deref(), Some(model), "{path}");
            let written = read.with(model);
            let name = written.strip_prefix("/v1beta/models/").unwrap();
            let name = name.strip_suffix(":generateContent").unwrap();
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
            assert!(name.bytes().all(is_plain), "{written}");
        }
        for path in [
            "/v1beta/models/../files:generateContent",
            "/v1beta/models/m%253AgenerateContent",
            "/v1beta%2Fmodels%2Fm:generateContent",
            "/v1beta/models/m%3AgenerateContent/x",
        ] {
            assert_eq!(ModelPath::parse(path), None, "{path}");
        }
    }

    #[test]
    fn the_model_of_a_path_is_read_and_written() {
        for (path, version, model) in [
            (
                "/v1beta/models/gemini-2.5-flash:generateContent",
                "v1beta",
                "gemini-2.5-flash",
            ),
            ("/v1/models/my%20own%3Amodel:generateContent", "v1", "my own:model"),
            ("/v1/models/%C3%A9:generateContent", "v1", "é"),
        ] {
            let read = ModelPath::parse(path).unwrap();
            assert_eq!((read.version, read.endpoint), (version, Endpoint::Generate));
            assert_eq!(read.model().as_deref(), Some(model));
            assert_eq!(read.with(model), path);
            for colon in ["%3A", "%3a"] {
                let escaped = path.replace(':', colon);
                let same = ModelPath::parse(&escaped).unwrap();
                assert_eq!(
                    (same.endpoint, same.model()),
                    (read.endpoint, read.model()),
                    "{escaped}"
                );
                assert_eq!(same.with(model), path);
            }
        }
        for path in [
            "/v1/models/%:countTokens",
            "/v1/models/%zz:countTokens",
            "/v1/models/%ff:countTokens",
        ] {
            assert_eq!(ModelPath::parse(path).unwrap().model(), None, "{path}");
        }
    }
}
