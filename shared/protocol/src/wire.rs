//! Which dialect a path speaks. Knows paths and nothing of what stands in a body.

/// A dialect: the shape of requests, answers, streams and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wire {
    /// OpenAI Responses: typed events, terminal `response.completed`, `.incomplete` or `.failed`.
    Responses,
    /// OpenAI chat completions: chunks, terminal `data: [DONE]`.
    Chat,
}

/// One of the endpoints served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/responses`, by POST and, as a WebSocket, by GET.
    Responses,
    /// `/v1/responses/compact`, which older Codex clients call.
    Compact,
    /// `/v1/chat/completions`.
    ChatCompletions,
    /// `/v1/models`.
    Models,
}

impl Wire {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Responses => "OpenAI Responses",
            Self::Chat => "OpenAI Chat Completions",
        }
    }

    /// The dialect that `endpoint` speaks.
    #[must_use]
    pub const fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Responses | Endpoint::Compact | Endpoint::Models => Self::Responses,
            Endpoint::ChatCompletions => Self::Chat,
        }
    }

    /// The dialect in which to refuse a call to `path`, known or not.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        Endpoint::parse(path).map_or(Self::Responses, Self::of)
    }
}

impl Endpoint {
    /// Reads a path without its query: with or without `/v1`, with or without one trailing slash.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let rest = match path.strip_prefix("/v1") {
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) | None => path,
        };
        match rest.strip_suffix('/').unwrap_or(rest) {
            "/responses" => Some(Self::Responses),
            "/responses/compact" => Some(Self::Compact),
            "/chat/completions" => Some(Self::ChatCompletions),
            "/models" => Some(Self::Models),
            _ => None,
        }
    }

    /// The path as vendors spell it.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Responses => "/v1/responses",
            Self::Compact => "/v1/responses/compact",
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Models => "/v1/models",
        }
    }

    /// The dialect spoken here.
    #[must_use]
    pub const fn wire(self) -> Wire {
        Wire::of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Endpoint; 4] = [
        Endpoint::Responses,
        Endpoint::Compact,
        Endpoint::ChatCompletions,
        Endpoint::Models,
    ];

    #[test]
    fn every_spelling_of_an_endpoint_is_understood() {
        for endpoint in ALL {
            let path = endpoint.path();
            let bare = &path["/v1".len()..];
            for spelling in [path.to_owned(), format!("{path}/"), bare.to_owned(), format!("{bare}/")] {
                assert_eq!(Endpoint::parse(&spelling), Some(endpoint), "{spelling}");
            }
        }
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
        ] {
            assert_eq!(Endpoint::parse(path), None, "{path}");
        }
    }

    #[test]
    fn an_unknown_path_is_refused_in_the_responses_dialect() {
        assert_eq!(Wire::of_path("/nowhere"), Wire::Responses);
        assert_eq!(Wire::of_path("/chat/completions"), Wire::Chat);
    }
}
