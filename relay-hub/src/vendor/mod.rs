//! What is known of each vendor: where a call goes, how it is authorised, what an answer's head means. Does no IO.

mod kind;
pub mod probe;
mod trouble;
mod wait;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri};
use relay_protocol::Endpoint;

pub use self::{
    kind::VendorKind,
    trouble::{LONGEST_WINDOW, Trouble, window},
    wait::{add_wait, lacks_wait},
};

/// Where the calls of one account go, worked out once from its base URL.
#[derive(Clone)]
pub struct Target {
    /// Scheme, host and port, to connect to.
    origin: Uri,
    host: HeaderValue,
    /// The path before the endpoint's own, with no slash at its end: `/v1` unless the base URL has a path.
    prefix: String,
    /// The paths of calls without a query, which nearly all are.
    paths: [(Endpoint, Uri); 2],
    /// What proves that the account is ours.
    credential: (HeaderName, HeaderValue),
}

/// What the address of a call depends on.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub endpoint: Endpoint,
    /// As the vendor knows it.
    pub model: &'a str,
    /// The client's, without its leading `?`.
    pub query: Option<&'a str>,
}

/// Why an account's settings make no target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The base URL lacks a scheme or a host, or has another scheme.
    #[error("the base URL must look like https://host/v1")]
    BaseUrl,
    /// The credential has bytes that no header can carry.
    #[error("the account's secret has characters that no header can carry")]
    Secret,
}

impl Target {
    /// Where the calls of an account at this vendor go.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn new(vendor: VendorKind, base: &Uri, secret: &str) -> Result<Self, TargetError> {
        match vendor {
            VendorKind::OpenAi => Self::openai(base, secret),
        }
    }

    /// `{base}/responses`, `Authorization: Bearer`.
    /// Source: <https://platform.openai.com/docs/api-reference> (2026-11).
    fn openai(base: &Uri, secret: &str) -> Result<Self, TargetError> {
        Self::at(base, (header::AUTHORIZATION, &format!("Bearer {secret}")))
    }

    fn at(base: &Uri, (name, value): (HeaderName, &str)) -> Result<Self, TargetError> {
        let scheme = base.scheme().cloned().ok_or(TargetError::BaseUrl)?;
        if scheme != uri::Scheme::HTTPS && scheme != uri::Scheme::HTTP {
            return Err(TargetError::BaseUrl);
        }
        let authority = base.authority().cloned().ok_or(TargetError::BaseUrl)?;
        let prefix = match base.path().trim_end_matches('/') {
            "" => "/v1".to_owned(),
            path => path.to_owned(),
        };
        let mut credential = HeaderValue::from_str(value).map_err(|_| TargetError::Secret)?;
        credential.set_sensitive(true);
        let mut origin = uri::Parts::default();
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| TargetError::BaseUrl)?;
        origin.scheme = Some(scheme);
        origin.authority = Some(authority);
        origin.path_and_query = Some(uri::PathAndQuery::from_static("/"));
        Ok(Self {
            origin: Uri::from_parts(origin).map_err(|_| TargetError::BaseUrl)?,
            host,
            paths: [Endpoint::Responses, Endpoint::ChatCompletions]
                .map(|endpoint| (endpoint, path(&prefix, endpoint, None))),
            prefix,
            credential: (name, credential),
        })
    }

    /// What to connect to.
    pub const fn origin(&self) -> &Uri {
        &self.origin
    }

    /// The path of a call there, with the client's query kept.
    pub fn path(&self, asked: Asked<'_>) -> Uri {
        let Asked {
            endpoint,
            model: _,
            query,
        } = asked;
        let known = self
            .paths
            .iter()
            .find(|(known, _)| *known == endpoint && query.is_none());
        known.map_or_else(|| path(&self.prefix, endpoint, query), |(_, path)| path.clone())
    }

    /// Adds the account's credential and the vendor's host to a head that holds only what may pass.
    pub fn authorise(&self, headers: &mut HeaderMap) {
        let (name, credential) = &self.credential;
        headers.insert(name.clone(), credential.clone());
        headers.insert(header::HOST, self.host.clone());
    }
}

fn path(prefix: &str, endpoint: Endpoint, query: Option<&str>) -> Uri {
    let path = endpoint.path().strip_prefix("/v1").unwrap_or(endpoint.path());
    let mut full = String::with_capacity(prefix.len() + path.len() + query.map_or(0, |query| query.len() + 1));
    full.push_str(prefix);
    full.push_str(path);
    if let Some(query) = query {
        full.push('?');
        full.push_str(query);
    }
    full.try_into().unwrap_or_default()
}

/// What the head of a vendor's answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer itself: metered and charged.
    Answer,
    /// A refusal: passed on as it is, not charged.
    Refused,
}

/// Judges an answer by its status.
pub fn verdict(status: StatusCode) -> Verdict {
    if status.is_success() {
        Verdict::Answer
    } else {
        Verdict::Refused
    }
}

/// Whether a refused upgrade says that this vendor has no WebSocket at all, rather than that it refuses this call.
pub fn has_no_websocket(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::UPGRADE_REQUIRED
            | StatusCode::NOT_IMPLEMENTED
            | StatusCode::OK
    )
}

static REQUEST_IDS: [HeaderName; 3] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-oai-request-id"),
    HeaderName::from_static("request-id"),
];

/// The vendor's own id of a call, for reconciliation.
pub fn request_id(headers: &HeaderMap) -> Option<String> {
    REQUEST_IDS
        .iter()
        .find_map(|name| headers.get(name))
        .and_then(|value| value.to_str().ok())
        .filter(|value| value.len() <= 128)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base: &str, endpoint: Endpoint, query: Option<&str>) -> Uri {
        let target = Target::new(VendorKind::OpenAi, &base.parse().unwrap(), "sk-x").unwrap();
        assert_eq!(target.origin().path(), "/");
        let model = "gpt-5.5";
        target.path(Asked { endpoint, model, query })
    }

    #[test]
    fn a_base_url_with_and_without_path_names_the_same_endpoint() {
        for base in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"] {
            assert_eq!(path(base, Endpoint::Responses, None), "/v1/responses");
            assert_eq!(path(base, Endpoint::Compact, None), "/v1/responses/compact");
        }
        let azure_like = path("https://h/openai/v1", Endpoint::ChatCompletions, Some("api-version=1"));
        assert_eq!(azure_like, "/openai/v1/chat/completions?api-version=1");
    }

    #[test]
    fn a_404_to_an_upgrade_means_no_websocket_and_a_401_does_not() {
        assert!(has_no_websocket(StatusCode::NOT_FOUND));
        assert!(!has_no_websocket(StatusCode::UNAUTHORIZED));
        assert!(!has_no_websocket(StatusCode::TOO_MANY_REQUESTS));
    }
}
