//! OAuth 2 from the client's side: what is sent for an access token and what comes back. Does no IO, reads no clock.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use relay_shared::secret::Secret;
use serde::Deserialize;
use zeroize::Zeroize;

use super::probe;

/// What Azure's models ask for. Source: <https://learn.microsoft.com/azure/ai-services/authentication> (2026-11).
pub const AZURE_SCOPE: &str = "https://cognitiveservices.azure.com/.default";

/// How an account gets its access tokens.
pub struct Grant {
    /// Where they are asked for.
    pub token_url: Uri,
    /// The client, as its vendor knows it.
    pub client_id: String,
    /// The client's own secret, of clients that have one.
    pub client_secret: Option<Secret<String>>,
    /// What a person agreed to; without it the client asks for itself.
    pub refresh_token: Option<Secret<String>>,
    /// What the token is to be good for.
    pub scope: Option<String>,
}

/// An access token, as it was answered.
pub struct Issued {
    /// Ready for the head of a call.
    pub authorization: HeaderValue,
    /// For so long after it was asked for.
    pub good_for: Duration,
    /// What takes the place of the refresh token from now on.
    pub rotated: Option<Secret<String>>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token endpoint says no, and will go on doing so: the word it says.
    #[error("the token endpoint does not accept the credential: `{0}`")]
    Refused(String),
    /// It says no for now.
    #[error("the token endpoint answered {0}")]
    Failing(StatusCode),
    /// A success without a token that can be used.
    #[error("the token endpoint's answer is not one of OAuth 2")]
    NotOAuth,
}

/// Where no length is told.
const DEFAULT_LIFE: Duration = Duration::from_secs(300);
/// No answer of a token endpoint is longer.
pub const MOST: usize = 64 << 10;

/// The endpoint of a tenant of Microsoft Entra.
///
/// # Errors
/// What is named cannot be a tenant: letters, digits, `.` and `-`.
pub fn entra_url(tenant: &str) -> Result<Uri, http::Error> {
    let path = format!("/{tenant}/oauth2/v2.0/token");
    let uri = Uri::builder()
        .scheme("https")
        .authority("login.microsoftonline.com")
        .path_and_query(path);
    uri.build()
}

/// Whether this can be a tenant of Microsoft Entra.
pub fn is_entra_tenant(tenant: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=64).contains(&tenant.len()) && tenant.bytes().all(is_plain)
}

impl Grant {
    /// The same with another refresh token.
    pub fn with_refresh_token(&self, token: Secret<String>) -> Self {
        Self {
            token_url: self.token_url.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.as_ref().map(Secret::duplicate),
            refresh_token: Some(token),
            scope: self.scope.clone(),
        }
    }

    /// The request for a token: a path alone, and the host in its head. Its body is secret.
    ///
    /// # Errors
    /// The URL names no host.
    pub fn request(&self) -> Result<Request<Secret<String>>, TokenError> {
        let host = self.token_url.authority().ok_or(TokenError::NotOAuth)?.as_str();
        let path = self.token_url.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = HeaderMap::new();
        headers.insert(
            header::HOST,
            HeaderValue::from_str(host).map_err(|_| TokenError::NotOAuth)?,
        );
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let mut request = Request::new(self.form());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().map_err(|_| TokenError::NotOAuth)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn form(&self) -> Secret<String> {
        let mut form = String::with_capacity(4096);
        let mut add = |name: &str, value: &str| {
            if !form.is_empty() {
                form.push('&');
            }
            form.push_str(name);
            form.push('=');
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                    form.push(char::from(byte));
                } else {
                    const DIGITS: [char; 16] = [
                        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
                    ];
                    form.push('%');
                    form.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
                }
            }
        };
        match &self.refresh_token {
            Some(token) => {
                add("grant_type", "refresh_token");
                add("refresh_token", token.expose());
            }
            None => add("grant_type", "client_credentials"),
        }
        add("client_id", &self.client_id);
        if let Some(secret) = &self.client_secret {
            add("client_secret", secret.expose());
        }
        if let Some(scope) = &self.scope {
            add("scope", scope);
        }
        Secret::new(form)
    }

    /// Reads the answer of the token endpoint.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(&self, status: StatusCode, body: &[u8]) -> Result<Issued, TokenError> {
        if !status.is_success() {
            return Err(match (status, probe::code(body)) {
                // RFC 6749, 5.2: what is wrong with the request or the credential.
                (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(word)) => {
                    TokenError::Refused(word)
                }
                _ => TokenError::Failing(status),
            });
        }
        let mut answer: Answer = serde_json::from_slice(body).map_err(|_| TokenError::NotOAuth)?;
        let is_bearer = answer
            .token_type
            .as_deref()
            .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        let header = Secret::new(format!("Bearer {}", answer.access_token));
        answer.access_token.zeroize();
        if !is_bearer || header.expose().len() <= "Bearer ".len() {
            return Err(TokenError::NotOAuth);
        }
        let mut authorization = HeaderValue::from_str(header.expose()).map_err(|_| TokenError::NotOAuth)?;
        authorization.set_sensitive(true);
        let is_new = |token: &String| {
            !token.is_empty() && self.refresh_token.as_ref().is_some_and(|known| known.expose() != token)
        };
        Ok(Issued {
            authorization,
            good_for: answer
                .expires_in
                .map_or(DEFAULT_LIFE, |life| Duration::from_secs(life.seconds())),
            rotated: answer.refresh_token.filter(is_new).map(Secret::new),
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Life>,
    refresh_token: Option<String>,
}

/// Some endpoints write the number as text, or with a point.
#[derive(Deserialize)]
#[serde(untagged)]
enum Life {
    Number(u64),
    Part(f64),
    Text(String),
}

impl Life {
    fn seconds(&self) -> u64 {
        match self {
            Self::Number(seconds) => *seconds,
            Self::Part(seconds) => {
                Duration::try_from_secs_f64(*seconds).map_or(DEFAULT_LIFE.as_secs(), |life| life.as_secs())
            }
            Self::Text(text) => text.trim().parse().unwrap_or(DEFAULT_LIFE.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(refresh_token: Option<&str>) -> Grant {
        Grant {
            token_url: entra_url("contoso.example").unwrap(),
            client_id: "client id".to_owned(),
            client_secret: Some(Secret::new("s&=+/~é".to_owned())),
            refresh_token: refresh_token.map(|token| Secret::new(token.to_owned())),
            scope: Some(AZURE_SCOPE.to_owned()),
        }
    }

    #[test]
    fn a_form_holds_each_word_so_that_no_byte_is_taken_for_another() {
        let request = grant(None).request().unwrap();
        assert_eq!(request.uri(), "/contoso.example/oauth2/v2.0/token");
        assert_eq!(request.headers()[header::HOST], "login.microsoftonline.com");
        assert_eq!(
            request.body().expose(),
            "grant_type=client_credentials&client_id=client%20id&client_secret=s%26%3D%2B%2F~%C3%A9&\
             scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default"
        );
        let refresh = grant(Some("r")).request().unwrap();
        assert!(
            refresh
                .body()
                .expose()
                .starts_with("grant_type=refresh_token&refresh_token=r&client_id=")
        );
    }

    #[test]
    fn an_answer_gives_a_token_and_what_takes_the_old_ones_place() {
        let read = |body: &str| grant(Some("old")).read(StatusCode::OK, body.as_bytes());
        let issued =
            read(r#"{"access_token":"t","token_type":"Bearer","expires_in":3599,"refresh_token":"new"}"#).unwrap();
        assert_eq!(issued.authorization, "Bearer t");
        assert!(issued.authorization.is_sensitive());
        assert_eq!(issued.good_for, Duration::from_secs(3599));
        assert_eq!(issued.rotated.unwrap().expose(), "new");
        let same = read(r#"{"access_token":"t","expires_in":"60","refresh_token":"old"}"#).unwrap();
        assert_eq!((same.good_for, same.rotated.is_none()), (Duration::from_secs(60), true));
        assert_eq!(read(r#"{"access_token":"t"}"#).unwrap().good_for, DEFAULT_LIFE);
        for (told, seconds) in [("3599.5", 3599), ("-1", 300), ("null", 300), ("1e300", 300)] {
            let body = format!(r#"{{"access_token":"t","expires_in":{told}}}"#);
            assert_eq!(read(&body).unwrap().good_for, Duration::from_secs(seconds), "{told}");
        }
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"access_token":"a\nb"}"#,
        ] {
            assert_eq!(read(body).err(), Some(TokenError::NotOAuth), "{body}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_word_and_never_by_its_sentence() {
        let read = |status, body: &str| {
            grant(None)
                .read(StatusCode::from_u16(status).unwrap(), body.as_bytes())
                .err()
        };
        let refused = read(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: canary"}"#,
        );
        assert_eq!(refused, Some(TokenError::Refused("invalid_client".to_owned())));
        assert_eq!(read(400, "<html>"), Some(TokenError::Failing(StatusCode::BAD_REQUEST)));
        assert_eq!(
            read(429, r#"{"error":"slow_down"}"#),
            Some(TokenError::Failing(StatusCode::TOO_MANY_REQUESTS))
        );
        assert_eq!(read(302, ""), Some(TokenError::Failing(StatusCode::FOUND)));
    }

    #[test]
    fn a_tenant_of_entra_leads_nowhere_else() {
        assert!(is_entra_tenant("72f988bf-86f1-41af-91ab-2d7cd011db47") && is_entra_tenant("contoso.onmicrosoft.com"));
        for tenant in ["", "a/b", "a?b", "a#b", "a b", "é"] {
            assert!(!is_entra_tenant(tenant), "{tenant}");
        }
    }
}
