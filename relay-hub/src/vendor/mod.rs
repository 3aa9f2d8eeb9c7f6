//! What is known of each vendor: where a call goes, how it is authorised, what an answer's head means. Does no IO.

pub mod aws;
pub mod bedrock;
mod credential;
mod kind;
pub mod oauth;
pub mod probe;
mod trouble;
mod wait;

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri};
use relay_protocol::{Endpoint, EnvelopeError, ModelPath, Payload, VendorWire};

pub use self::{
    credential::{Credential, CredentialKind, Settings},
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
    /// The path before the endpoint's own, with no slash at its end.
    prefix: String,
    /// The paths of calls without a query, which nearly all are.
    paths: [(Endpoint, Uri); 3],
    /// The API version of a vendor whose paths name a deployment.
    deployments: Option<String>,
    /// Its paths and bodies are Bedrock's.
    is_bedrock: bool,
    /// What proves that the account is ours, where it is the same for each call.
    credential: Option<(HeaderName, HeaderValue)>,
}

/// What the address of a call depends on.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub endpoint: Endpoint,
    /// The client's own, without its query.
    pub path: &'a str,
    /// As the vendor knows it.
    pub model: &'a str,
    /// The client's, without its leading `?`.
    pub query: Option<&'a str>,
    /// The answer is to be a stream.
    pub stream: bool,
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
    pub fn new(
        vendor: VendorKind,
        base: &Uri,
        credential: &Credential,
        settings: &Settings,
    ) -> Result<Self, TargetError> {
        let key = match credential {
            Credential::ApiKey(key) => Some(key.expose().as_str()),
            Credential::Grant(_) | Credential::AwsKey(_) => None,
        };
        let target = match vendor {
            VendorKind::OpenAi | VendorKind::Compatible => Self::openai(base, key.unwrap_or_default()),
            VendorKind::Azure => Self::azure(base, key.unwrap_or_default(), settings),
            VendorKind::Anthropic => Self::anthropic(base, key.unwrap_or_default()),
            VendorKind::Gemini => Self::gemini(base, key.unwrap_or_default()),
            VendorKind::Bedrock => Self::bedrock(base),
        }?;
        Ok(Self {
            credential: target.credential.filter(|_| key.is_some()),
            ..target
        })
    }

    /// `{base}/openai/v1/responses`; with an API version `{base}/openai/deployments/{model}/chat/completions`. The key in
    /// a header of its own.
    /// Source: <https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle> (2026-11).
    fn azure(base: &Uri, key: &str, settings: &Settings) -> Result<Self, TargetError> {
        let deployments = settings.api_version.clone();
        let prefix = match (base.path().trim_end_matches('/'), &deployments) {
            ("", None) => "/openai/v1",
            ("", Some(_)) => "/openai",
            (path, _) => path,
        };
        Ok(Self {
            deployments,
            ..Self::at(base, prefix, (AZURE_KEY, key))?
        })
    }

    /// `{base}/responses`, `Authorization: Bearer`.
    /// Source: <https://platform.openai.com/docs/api-reference> (2026-11).
    fn openai(base: &Uri, secret: &str) -> Result<Self, TargetError> {
        let prefix = path_of(base).unwrap_or("/v1");
        Self::at(base, prefix, (header::AUTHORIZATION, &format!("Bearer {secret}")))
    }

    /// `{base}/messages`, `x-api-key`.
    /// Source: <https://platform.claude.com/docs/en/api/overview> (2026-11).
    fn anthropic(base: &Uri, secret: &str) -> Result<Self, TargetError> {
        Self::at(base, path_of(base).unwrap_or("/v1"), (API_KEY, secret))
    }

    /// `{base}/{version}/models/{model}:{method}`, `x-goog-api-key`. The version is the client's: one in the base URL is
    /// left out.
    /// Source: <https://ai.google.dev/api> (2026-11).
    fn gemini(base: &Uri, secret: &str) -> Result<Self, TargetError> {
        let path = path_of(base).unwrap_or_default();
        let prefix = ["/v1beta", "/v1"].iter().find_map(|version| path.strip_suffix(version));
        Self::at(base, prefix.unwrap_or(path), (GOOG_API_KEY, secret))
    }

    /// `{base}/model/{model}/invoke`, signed.
    /// Source: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html> (2026-11).
    fn bedrock(base: &Uri) -> Result<Self, TargetError> {
        Ok(Self {
            is_bedrock: true,
            ..Self::at(base, path_of(base).unwrap_or_default(), (header::AUTHORIZATION, ""))?
        })
    }

    fn at(base: &Uri, prefix: &str, (name, value): (HeaderName, &str)) -> Result<Self, TargetError> {
        let scheme = base.scheme().cloned().ok_or(TargetError::BaseUrl)?;
        if scheme != uri::Scheme::HTTPS && scheme != uri::Scheme::HTTP {
            return Err(TargetError::BaseUrl);
        }
        let authority = base.authority().cloned().ok_or(TargetError::BaseUrl)?;
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
            paths: [Endpoint::Responses, Endpoint::ChatCompletions, Endpoint::Messages]
                .map(|endpoint| (endpoint, path(prefix, of_version(endpoint), None))),
            prefix: prefix.to_owned(),
            deployments: None,
            is_bedrock: false,
            credential: Some((name, credential)),
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
            path: asked,
            model,
            query,
            stream,
        } = asked;
        if self.is_bedrock {
            return bedrock::path(&self.prefix, endpoint, model, stream);
        }
        if let Some(version) = &self.deployments {
            return self.deployment(endpoint, model, version);
        }
        if let Some(asked) = ModelPath::parse(asked) {
            return path(&self.prefix, &asked.with(model), query);
        }
        let known = self
            .paths
            .iter()
            .find(|(known, _)| *known == endpoint && query.is_none());
        known.map_or_else(
            || path(&self.prefix, of_version(endpoint), query),
            |(_, path)| path.clone(),
        )
    }

    /// Whether bodies are edited for the vendor, and so must be plain.
    pub const fn edits_bodies(&self) -> bool {
        self.is_bedrock
    }

    /// The body of a call as its vendor wants it, with the head that fits.
    ///
    /// # Errors
    /// The body cannot be edited.
    pub fn body(&self, asked: &Asked<'_>, headers: &mut HeaderMap, body: Payload) -> Result<Payload, EnvelopeError> {
        if self.is_bedrock {
            return bedrock::body(asked, body, headers);
        }
        Ok(body)
    }

    /// The path of a call to a deployment, which has the model's name. The client's query is left out: the version in it is
    /// the account's.
    fn deployment(&self, endpoint: Endpoint, model: &str, version: &str) -> Uri {
        let path = of_version(endpoint);
        let deployment = match endpoint {
            Endpoint::Models => String::new(),
            _ => format!("/deployments/{}", segment(model)),
        };
        let full = format!("{}{deployment}{path}?api-version={}", self.prefix, segment(version));
        full.try_into().unwrap_or_default()
    }

    /// Adds the vendor's host, and the account's credential where it is the same for each call, to a head that holds only
    /// what may pass.
    pub fn authorise(&self, headers: &mut HeaderMap) {
        if let Some((name, credential)) = &self.credential {
            headers.insert(name.clone(), credential.clone());
        }
        headers.insert(header::HOST, self.host.clone());
    }
}

/// What tells an answer in the vendor's wire, where it comes in another form. The head becomes one of that wire.
pub fn reader(vendor: VendorKind, wire: VendorWire, headers: &mut HeaderMap) -> Option<Box<bedrock::Reader>> {
    let is_formed_otherwise = vendor == VendorKind::Bedrock;
    is_formed_otherwise.then(|| Box::new(bedrock::Reader::of(headers, wire == VendorWire::Converse)))
}

/// The path of a base URL that has one.
fn path_of(base: &Uri) -> Option<&str> {
    Some(base.path().trim_end_matches('/')).filter(|path| !path.is_empty())
}

/// An endpoint's path after its version, which the prefix has.
fn of_version(endpoint: Endpoint) -> &'static str {
    let path = endpoint.path();
    path.strip_prefix("/v1")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path)
}

/// A name as one part of a path, or of a query: what is not plain is escaped.
fn segment(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").unwrap_or_default();
        }
    }
    escaped
}

fn path(prefix: &str, path: &str, query: Option<&str>) -> Uri {
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

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
const AZURE_KEY: HeaderName = HeaderName::from_static("api-key");

/// Anthropic's first: what stands before it may add one of the name that is everybody's.
static REQUEST_IDS: [HeaderName; 5] = [
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-oai-request-id"),
    HeaderName::from_static("apim-request-id"),
    HeaderName::from_static("x-amzn-requestid"),
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
    use relay_shared::secret::Secret;

    use super::*;

    fn path(base: &str, endpoint: Endpoint, query: Option<&str>) -> Uri {
        at(VendorKind::OpenAi, base, &Settings::default()).path(Asked {
            endpoint,
            path: endpoint.path(),
            model: "gpt-5.5",
            query,
            stream: false,
        })
    }

    fn at(vendor: VendorKind, base: &str, settings: &Settings) -> Target {
        let key = Credential::ApiKey(Secret::new("sk-x".to_owned()));
        let target = Target::new(vendor, &base.parse().unwrap(), &key, settings).unwrap();
        assert_eq!(target.origin().path(), "/");
        target
    }

    fn other(vendor: VendorKind, base: &str, asked: &str, query: Option<&str>) -> (String, HeaderMap) {
        let target = at(vendor, base, &Settings::default());
        let mut headers = HeaderMap::new();
        target.authorise(&mut headers);
        let path = target.path(Asked {
            endpoint: Endpoint::parse(asked).unwrap(),
            path: asked,
            model: "own/model",
            query,
            stream: false,
        });
        (path.to_string(), headers)
    }

    #[test]
    fn anthropic_gets_its_key_in_its_own_header() {
        for (base, prefix) in [("https://h", ""), ("https://h/v1/", ""), ("https://h/proxy", "/proxy")] {
            let (path, headers) = other(VendorKind::Anthropic, base, "/messages", Some("beta=true"));
            let version = if prefix.is_empty() { "/v1" } else { "" };
            assert_eq!(path, format!("{prefix}{version}/messages?beta=true"), "{base}");
            assert_eq!(headers["x-api-key"], "sk-x");
            assert!(!headers.contains_key("authorization") && headers["x-api-key"].is_sensitive());
        }
        let (path, _) = other(VendorKind::Anthropic, "https://h", "/v1/messages/count_tokens", None);
        assert_eq!(path, "/v1/messages/count_tokens");
    }

    #[test]
    fn gemini_is_asked_by_the_version_of_the_client_and_the_model_of_the_vendor() {
        for base in ["https://h", "https://h/", "https://h/v1beta", "https://h/v1/"] {
            let asked = "/v1beta/models/alias:streamGenerateContent";
            let (path, headers) = other(VendorKind::Gemini, base, asked, Some("alt=sse"));
            assert_eq!(
                path, "/v1beta/models/own%2Fmodel:streamGenerateContent?alt=sse",
                "{base}"
            );
            assert_eq!(headers["x-goog-api-key"], "sk-x");
            let (path, _) = other(VendorKind::Gemini, base, "/v1/models/alias:countTokens", None);
            assert_eq!(path, "/v1/models/own%2Fmodel:countTokens");
        }
        let (path, _) = other(
            VendorKind::Gemini,
            "https://h/g/v1beta",
            "/v1/models/a:generateContent",
            None,
        );
        assert_eq!(path, "/g/v1/models/own%2Fmodel:generateContent");
    }

    #[test]
    fn azure_has_two_shapes_of_paths_and_a_header_of_its_own() {
        let asked = |endpoint: Endpoint, query| Asked {
            endpoint,
            path: endpoint.path(),
            model: "my gpt/5",
            query,
            stream: false,
        };
        for base in ["https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/"] {
            let v1 = at(VendorKind::Azure, base, &Settings::default());
            assert_eq!(v1.path(asked(Endpoint::Responses, None)), "/openai/v1/responses");
            assert_eq!(v1.path(asked(Endpoint::Models, None)), "/openai/v1/models");
        }
        let settings = Settings {
            api_version: Some("2024-10-21".to_owned()),
            ..Settings::default()
        };
        let old = at(VendorKind::Azure, "https://r.openai.azure.com", &settings);
        assert_eq!(
            old.path(asked(Endpoint::ChatCompletions, Some("api-version=mine"))),
            "/openai/deployments/my%20gpt%2F5/chat/completions?api-version=2024-10-21"
        );
        assert_eq!(
            old.path(asked(Endpoint::Models, None)),
            "/openai/models?api-version=2024-10-21"
        );
        let mut headers = HeaderMap::new();
        old.authorise(&mut headers);
        assert_eq!(
            (&headers["api-key"], headers.contains_key("authorization")),
            (&HeaderValue::from_static("sk-x"), false)
        );
        assert!(headers["api-key"].is_sensitive());
    }

    #[test]
    fn a_credential_that_differs_from_call_to_call_is_not_in_the_target() {
        let grant = oauth::Grant {
            token_url: Uri::from_static("https://login.example/token"),
            client_id: "me".to_owned(),
            client_secret: None,
            refresh_token: None,
            scope: None,
        };
        let base = "https://r.openai.azure.com".parse().unwrap();
        let target = Target::new(
            VendorKind::Azure,
            &base,
            &Credential::Grant(grant),
            &Settings::default(),
        );
        let mut headers = HeaderMap::new();
        target.unwrap().authorise(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [header::HOST]);
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
