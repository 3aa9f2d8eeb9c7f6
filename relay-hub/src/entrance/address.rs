//! Where a request is addressed: what stands in front of the vendor's path is read, checked and taken off, so that the rest
//! of the hub sees the vendor's own path. Knows no caller.

use std::collections::BTreeMap;

use http::{HeaderName, Uri, header, request::Parts, uri::Authority, uri::PathAndQuery};
use relay_protocol::{Code, Endpoint, Family, Prefix, Refusal, Wire};

use crate::ids::Project;

/// What only clients of Anthropic's and of Google's say.
static OF_ANTHROPIC: [HeaderName; 1] = [HeaderName::from_static("anthropic-version")];
static OF_GOOGLE: [HeaderName; 2] = [
    HeaderName::from_static("x-goog-api-client"),
    HeaderName::from_static("x-goog-api-key"),
];

/// An address that was read.
pub(super) struct Address {
    /// The dialect in which to answer.
    pub(super) wire: Wire,
    /// The project it names.
    pub(super) project: Option<Project>,
    /// The endpoint, or why there is none.
    pub(super) endpoint: Result<Endpoint, Refusal>,
}

impl Address {
    /// Reads a request's address, on a host that may be bound to a family, and leaves the vendor's path in it.
    pub(super) fn take(head: &mut Parts, host: Option<Family>) -> Self {
        let path = head.uri.path();
        let (prefix, rest) = Prefix::split(path);
        let Some(prefix) = prefix.on(host) else {
            return Self::missing(host.map_or(Wire::Responses, Family::wire), host);
        };
        let wire = prefix.wire(rest);
        let Some(endpoint) = prefix.endpoint(rest) else {
            let wire = match wire {
                Wire::Responses => spoken(head, prefix.family),
                Wire::Chat | Wire::Messages | Wire::Gemini => wire,
            };
            return Self::missing(wire, prefix.family);
        };
        let project = prefix.project.map(Project::parse);
        let (family, front) = (prefix.family, path.len().saturating_sub(rest.len()));
        if front > 0 {
            cut(&mut head.uri, front);
        }
        Self {
            wire: if endpoint == Endpoint::Models {
                spoken(head, family)
            } else {
                wire
            },
            endpoint: match project {
                Some(None) => Err(no_project()),
                Some(Some(_)) | None => Ok(endpoint),
            },
            project: project.flatten(),
        }
    }

    fn missing(wire: Wire, family: Option<Family>) -> Self {
        let refusal = Refusal::new(Code::NotFound, "The relay has no such path.");
        let only = family.map(|family| format!("only {}'s paths are served here", family.name()));
        Self {
            wire,
            project: None,
            endpoint: Err(match only {
                Some(hint) => refusal.hint(hint),
                None => refusal,
            }),
        }
    }
}

/// What a client speaks whose path does not tell: a list of models has the same one in three dialects, and a path that is none
/// is refused in its client's words.
fn spoken(head: &Parts, family: Option<Family>) -> Wire {
    let says = |names: &[HeaderName]| names.iter().any(|name| head.headers.contains_key(name));
    match family {
        Some(family) => family.wire(),
        None if says(&OF_ANTHROPIC) => Wire::Messages,
        None if says(&OF_GOOGLE) => Wire::Gemini,
        None => Wire::Responses,
    }
}

fn no_project() -> Refusal {
    Refusal::new(Code::InvalidRequest, "What the path names is no project.")
        .hint(format!("write /api/PROJECT/v1/…: {}", Project::NAMES))
}

/// Takes the first `front` bytes off the path.
fn cut(uri: &mut Uri, front: usize) {
    let rest = uri.path_and_query().and_then(|all| all.as_str().get(front..));
    let rest = rest.and_then(|rest| PathAndQuery::try_from(rest).ok());
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = rest.or(Some(PathAndQuery::from_static("/")));
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// The family that the request's host is bound to.
pub(super) fn bound(hosts: &BTreeMap<String, Family>, head: &Parts) -> Option<Family> {
    if hosts.is_empty() {
        return None;
    }
    let named = || {
        let value = head.headers.get(header::HOST)?.to_str().ok()?;
        value.parse::<Authority>().ok()
    };
    let authority = head.uri.authority().cloned().or_else(named)?;
    let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
    hosts.get(&name).copied()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_front_is_taken_off_and_the_query_stays() {
        for (uri, project, rest) in [
            ("/v1/responses?a=b", None, "/v1/responses?a=b"),
            ("/api/web/v1/responses?a=b/c", Some("web"), "/v1/responses?a=b/c"),
            ("/openai/v1/chat/completions", None, "/v1/chat/completions"),
            (
                "/api/web/gemini/v1beta/models/m%20x:generateContent?alt=sse",
                Some("web"),
                "/v1beta/models/m%20x:generateContent?alt=sse",
            ),
            (
                "https://hub.example/api/web/v1/messages",
                Some("web"),
                "https://hub.example/v1/messages",
            ),
        ] {
            let mut head = head(uri, &[]);
            let address = Address::take(&mut head, None);
            assert!(address.endpoint.is_ok(), "{uri}");
            assert_eq!(address.project.as_ref().map(Project::as_str), project, "{uri}");
            assert_eq!(head.uri.to_string(), rest, "{uri}");
        }
    }

    #[test]
    fn what_is_no_project_is_refused_in_its_own_dialect_and_told_what_one_is() {
        let address = Address::take(&mut head("/api/Web%20Shop/v1/messages", &[]), None);
        let refusal = address.endpoint.unwrap_err();
        assert_eq!((address.wire, refusal.code), (Wire::Messages, Code::InvalidRequest));
        assert!(refusal.hint.unwrap().contains("1 to 64"));
    }

    #[test]
    fn models_are_listed_in_the_dialect_of_the_door_before_that_of_the_client() {
        let google = [("x-goog-api-key", "k")];
        for (uri, headers, wire) in [
            ("/v1/models", &[][..], Wire::Responses),
            ("/v1/models", &google[..], Wire::Gemini),
            ("/claude/v1/models", &google[..], Wire::Messages),
            ("/api/p/gemini/v1/models", &[][..], Wire::Gemini),
            ("/openai/v1/models", &google[..], Wire::Responses),
        ] {
            assert_eq!(Address::take(&mut head(uri, headers), None).wire, wire, "{uri}");
        }
    }

    #[test]
    fn a_path_of_nobody_s_is_refused_as_its_client_speaks() {
        for (uri, name, wire) in [
            ("/v1/files?limit=1", "anthropic-version", Wire::Messages),
            ("/upload/v1beta/files", "x-goog-api-key", Wire::Gemini),
            ("/openai/v1/files", "anthropic-version", Wire::Responses),
            ("/v1beta/files", "anthropic-version", Wire::Gemini),
            ("/v1/files", "authorization", Wire::Responses),
        ] {
            let address = Address::take(&mut head(uri, &[(name, "x")]), None);
            assert_eq!(address.wire, wire, "{uri}");
            assert_eq!(address.endpoint.unwrap_err().code, Code::NotFound, "{uri}");
        }
    }

    #[test]
    fn a_host_is_known_by_its_name_however_it_is_spelled() {
        let hosts = BTreeMap::from([("claude.example.com".to_owned(), Family::Anthropic)]);
        for (uri, host) in [
            ("/", "claude.example.com"),
            ("/", "Claude.Example.COM:8444"),
            ("/", "claude.example.com."),
            ("https://claude.example.com:8444/", "other.example"),
        ] {
            let head = head(uri, &[("host", host)]);
            assert_eq!(bound(&hosts, &head), Some(Family::Anthropic), "{uri} {host}");
        }
        for host in [
            "",
            "example.com",
            "x.claude.example.com",
            "claude.example.com.evil",
            "a b",
        ] {
            assert_eq!(bound(&hosts, &head("/", &[("host", host)])), None, "{host}");
        }
        assert_eq!(bound(&hosts, &head("/", &[])), None);
    }

    #[test]
    fn a_bound_host_refuses_all_else_in_its_own_dialect() {
        for uri in ["/v1/responses", "/nowhere", "/openai/v1/responses", "/v1beta/models"] {
            let address = Address::take(&mut head(uri, &[]), Some(Family::Anthropic));
            assert_eq!(address.wire, Wire::Messages, "{uri}");
            assert_eq!(address.endpoint.unwrap_err().code, Code::NotFound, "{uri}");
        }
    }
}
