//! What may stand in front of a vendor's path: a project of the tenant's, and whose dialects are spoken behind it. Knows no
//! project: any word may stand there.

use crate::wire::{Endpoint, Wire};

/// The dialects of one vendor, by which a path or a whole host can be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Responses and chat completions.
    OpenAi,
    /// Messages.
    Anthropic,
    /// Gemini.
    Gemini,
}

/// The front of a path: `/api/{project}`, then `/openai`, `/claude` or `/gemini`; each may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prefix<'a> {
    /// As it is written.
    pub project: Option<&'a str>,
    /// No other path is served behind it.
    pub family: Option<Family>,
}

impl Family {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Gemini];

    /// As settings name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// The dialect of a list of models, and of refusals of what is no path of its own.
    #[must_use]
    pub const fn wire(self) -> Wire {
        match self {
            Self::OpenAi => Wire::Responses,
            Self::Anthropic => Wire::Messages,
            Self::Gemini => Wire::Gemini,
        }
    }

    const fn speaks(self, wire: Wire) -> bool {
        match self {
            Self::OpenAi => matches!(wire, Wire::Responses | Wire::Chat),
            Self::Anthropic => matches!(wire, Wire::Messages),
            Self::Gemini => matches!(wire, Wire::Gemini),
        }
    }
}

impl<'a> Prefix<'a> {
    /// Takes the front off a path without its query.
    #[must_use]
    pub fn split(path: &'a str) -> (Self, &'a str) {
        let (project, rest) = match path.strip_prefix("/api/").and_then(word) {
            Some((project, rest)) => (Some(project), rest),
            None => (None, path),
        };
        let (family, rest) = match rest.strip_prefix('/').and_then(word) {
            Some(("openai", rest)) => (Some(Family::OpenAi), rest),
            Some(("claude", rest)) => (Some(Family::Anthropic), rest),
            Some(("gemini", rest)) => (Some(Family::Gemini), rest),
            Some(_) | None => (None, rest),
        };
        (Self { project, family }, rest)
    }

    /// Whether nothing stands in front.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.project.is_none() && self.family.is_none()
    }

    /// The same on a host that is bound to a family; `None` where it names another.
    #[must_use]
    pub fn on(self, host: Option<Family>) -> Option<Self> {
        if host.is_some() && self.family.is_some() && self.family != host {
            return None;
        }
        let family = self.family.or(host);
        Some(Self { family, ..self })
    }

    /// The endpoint of the rest of the path, if it is served here.
    #[must_use]
    pub fn endpoint(&self, rest: &str) -> Option<Endpoint> {
        let endpoint = Endpoint::parse(rest)?;
        let is_served = |family: Family| endpoint == Endpoint::Models || family.speaks(endpoint.wire());
        self.family.is_none_or(is_served).then_some(endpoint)
    }

    /// The dialect in which to refuse a call to the rest of the path, known or not.
    #[must_use]
    pub fn wire(&self, rest: &str) -> Wire {
        let wire = Wire::of_path(rest);
        match self.family {
            Some(family) if !family.speaks(wire) => family.wire(),
            Some(_) | None => wire,
        }
    }
}

/// The first word of a path without its first slash, and the rest with one.
fn word(path: &str) -> Option<(&str, &str)> {
    let end = path.find('/')?;
    let (word, rest) = path.split_at(end);
    (!word.is_empty()).then_some((word, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> (Option<&str>, Option<Family>, Option<Endpoint>, Wire) {
        let (prefix, rest) = Prefix::split(path);
        (prefix.project, prefix.family, prefix.endpoint(rest), prefix.wire(rest))
    }

    #[test]
    fn every_endpoint_is_served_behind_a_project_and_behind_its_own_family_alone() {
        for endpoint in Endpoint::ALL {
            let (path, wire) = (endpoint.path(), endpoint.wire());
            assert_eq!(read(path), (None, None, Some(endpoint), wire));
            let at = read(&format!("/api/p-1{path}")).2;
            assert_eq!(at, Some(endpoint), "{path}");
            for (name, family) in [
                ("openai", Family::OpenAi),
                ("claude", Family::Anthropic),
                ("gemini", Family::Gemini),
            ] {
                let spelled = format!("/{name}{path}");
                let served = endpoint == Endpoint::Models || family.speaks(wire);
                let expected = served.then_some(endpoint);
                assert_eq!(read(&spelled).2, expected, "{spelled}");
                let both = format!("/api/p-1{spelled}");
                assert_eq!(read(&both).0, Some("p-1"));
                assert_eq!(read(&both).2, expected, "{both}");
                assert!(family.speaks(read(&spelled).3), "{spelled}: refused as it speaks");
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_front_is_none() {
        for path in [
            "/api",
            "/api/",
            "/api/p",
            "/api//v1/responses",
            "/openai",
            "/openai/",
            "/openaix/v1/responses",
            "/OpenAI/v1/responses",
            "/claude/api/p/v1/messages",
            "/api/p/api/q/v1/responses",
            "/openai/openai/v1/responses",
            "//openai/v1/responses",
            "/openai//v1/responses",
        ] {
            assert_eq!(read(path).2, None, "{path}");
        }
        assert_eq!(read("/openai/v1beta").3, Wire::Responses);
        assert_eq!(read("/claude/nowhere").3, Wire::Messages);
        assert_eq!(read("/gemini/nowhere").3, Wire::Gemini);
    }

    #[test]
    fn a_bound_host_serves_its_family_whatever_stands_in_front() {
        let on = |path: &'static str, host| {
            let (prefix, rest) = Prefix::split(path);
            prefix.on(Some(host)).and_then(|prefix| prefix.endpoint(rest))
        };
        assert_eq!(on("/v1/messages", Family::Anthropic), Some(Endpoint::Messages));
        assert_eq!(on("/claude/v1/messages", Family::Anthropic), Some(Endpoint::Messages));
        assert_eq!(on("/v1/responses", Family::Anthropic), None);
        assert_eq!(on("/openai/v1/responses", Family::Anthropic), None);
        assert_eq!(on("/api/p/v1/models", Family::Gemini), Some(Endpoint::Models));
    }
}
