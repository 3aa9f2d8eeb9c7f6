//! The cheapest call that shows whether an account works, and what its answer says. Does no IO.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use relay_protocol::Endpoint;
use serde::Deserialize;

use super::{Trouble, VendorKind, bedrock};

/// The list of models, which costs nothing; at Bedrock, where a key may not read it, one token of a model.
pub const fn endpoint(vendor: VendorKind) -> Endpoint {
    match vendor {
        VendorKind::OpenAi | VendorKind::Azure | VendorKind::Compatible | VendorKind::Anthropic => Endpoint::Models,
        VendorKind::Gemini => Endpoint::GeminiModels,
        VendorKind::Bedrock => Endpoint::Messages,
    }
}

/// What the vendor asks of every call beside the credential.
pub fn headers(vendor: VendorKind) -> Option<(HeaderName, HeaderValue)> {
    let version = HeaderName::from_static("anthropic-version");
    match vendor {
        VendorKind::Anthropic => Some((version, HeaderValue::from_static("2023-06-01"))),
        VendorKind::OpenAi | VendorKind::Azure | VendorKind::Compatible | VendorKind::Gemini | VendorKind::Bedrock => {
            None
        }
    }
}

/// What is asked of a model of Bedrock's: one token.
pub fn one_token(model: &str) -> &'static str {
    if bedrock::converses(model) {
        r#"{"inferenceConfig":{"maxTokens":1},"messages":[{"role":"user","content":[{"text":"Hi"}]}]}"#
    } else {
        r#"{"max_tokens":1,"messages":[{"role":"user","content":"Hi"}]}"#
    }
}

/// Why an account does not work, as far as its vendor's answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 401: the credential is not accepted.
    Unauthorized,
    /// 403: the credential is known and may not do this.
    Forbidden,
    /// 404: there is no such path.
    NotFound,
    /// 3xx: the API is elsewhere.
    Redirected,
    /// 429.
    RateLimited,
    /// 5xx.
    Failing,
    /// Another refusal.
    Refused,
    /// A success whose body is not what this vendor answers.
    NotTheVendor,
}

impl Fault {
    /// What a program tells faults apart by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Redirected => "redirected",
            Self::RateLimited => "rate_limited",
            Self::Failing => "vendor_failing",
            Self::Refused => "refused",
            Self::NotTheVendor => "not_the_vendor",
        }
    }

    /// What it means, after "the vendor answered 401: ".
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Unauthorized => "it does not accept the credential",
            Self::Forbidden => "it knows the credential and does not allow this",
            Self::NotFound => "it has no such path",
            Self::Redirected => "it sends us elsewhere, where the credential does not go",
            Self::RateLimited => "the account's rate or its credit is used up",
            Self::Failing => "it fails at the moment",
            Self::Refused => "it refuses the call",
            Self::NotTheVendor => "the answer is not one of this kind of vendor",
        }
    }

    /// What helps.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Unauthorized => "the credential is wrong, revoked or of another region: add the account again",
            Self::Forbidden => {
                "give the credential the right to call models, or see what its vendor says of its region"
            }
            Self::NotFound | Self::Redirected | Self::NotTheVendor => {
                "the base URL is probably wrong: add the account again with the vendor's own"
            }
            Self::RateLimited => "wait a minute; if it stays so, see the account's credit and limits at the vendor",
            Self::Failing => "try again later, or see the vendor's status page",
            Self::Refused => "see what the account is allowed at its vendor",
        }
    }

    /// The fault that a status tells; none for a success.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let trouble = Trouble::of(status, headers);
        match status.as_u16() {
            200..=299 => None,
            300..=399 => Some(Self::Redirected),
            _ if trouble == Some(Trouble::Credential) => Some(Self::Unauthorized),
            _ if trouble == Some(Trouble::Limited) => Some(Self::RateLimited),
            403 => Some(Self::Forbidden),
            404 => Some(Self::NotFound),
            500.. => Some(Self::Failing),
            _ => Some(Self::Refused),
        }
    }
}

/// How many models a list names; one where a model itself answered.
///
/// # Errors
/// What the status tells, or that the body is no such list.
pub fn models(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<usize, Fault> {
    // Google's list has other names, and a message is of a model.
    #[derive(Deserialize)]
    struct List {
        data: Option<Vec<Model>>,
        models: Option<Vec<Model>>,
        role: Option<String>,
        usage: Option<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: Option<String>,
        name: Option<String>,
    }
    if let Some(fault) = Fault::of(status, headers) {
        return Err(fault);
    }
    let list: List = serde_json::from_slice(body).map_err(|_| Fault::NotTheVendor)?;
    if list.role.as_deref() == Some("assistant") && list.usage.is_some() {
        return Ok(1);
    }
    let models = list.data.or(list.models).ok_or(Fault::NotTheVendor)?;
    let is_named = |model: &Model| model.id.is_some() || model.name.is_some();
    if models.iter().all(is_named) {
        Ok(models.len())
    } else {
        Err(Fault::NotTheVendor)
    }
}

/// The code that a vendor's refusal names, such as `invalid_api_key`: a word, never the vendor's sentence, which may
/// repeat parts of a credential.
pub fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        error: Error,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Error {
        Named { code: Option<Word>, r#type: Option<String> },
        Word(String),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Word {
        Text(String),
        Number(u64),
    }
    let said = match serde_json::from_slice::<Body>(body).ok()?.error {
        Error::Named {
            code: Some(Word::Text(code)),
            ..
        } => code,
        Error::Named { r#type: Some(kind), .. } => kind,
        Error::Named {
            code: Some(Word::Number(number)),
            ..
        } => number.to_string(),
        Error::Named { .. } => return None,
        Error::Word(word) => word,
    };
    is_word(&said).then_some(said)
}

/// The same, of vendors that name their refusals in the head.
pub fn name(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let named = bedrock::error_type(headers).filter(|kind| is_word(kind));
    named.map(str::to_owned).or_else(|| code(body))
}

fn is_word(text: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(status: StatusCode, body: &[u8]) -> Result<usize, Fault> {
        super::models(status, &HeaderMap::new(), body)
    }

    #[test]
    fn a_page_of_somebody_else_is_no_list_of_models() {
        assert_eq!(
            models(StatusCode::OK, br#"{"object":"list","data":[{"id":"m"}]}"#),
            Ok(1)
        );
        let google = br#"{"models":[{"name":"models/a","displayName":"A"},{"name":"models/b"}]}"#;
        assert_eq!(models(StatusCode::OK, google), Ok(2));
        let message = br#"{"role":"assistant","content":[],"usage":{"output_tokens":1}}"#;
        assert_eq!(models(StatusCode::OK, message), Ok(1));
        for body in [&b"<html>"[..], b"", b"{}", br#"{"data":[1]}"#] {
            assert_eq!(models(StatusCode::OK, body), Err(Fault::NotTheVendor));
        }
        assert_eq!(models(StatusCode::FOUND, b""), Err(Fault::Redirected));
        assert_eq!(models(StatusCode::BAD_GATEWAY, b"<html>"), Err(Fault::Failing));
    }

    #[test]
    fn a_vendors_sentence_is_never_repeated() {
        let told = |body: &str| code(body.as_bytes());
        assert_eq!(
            told(r#"{"error":{"code":"invalid_api_key","message":"sk-canary"}}"#).as_deref(),
            Some("invalid_api_key")
        );
        assert_eq!(
            told(r#"{"error":{"code":null,"type":"authentication_error"}}"#).as_deref(),
            Some("authentication_error")
        );
        assert_eq!(told(r#"{"error":{"code":401}}"#).as_deref(), Some("401"));
        assert_eq!(told(r#"{"error":"invalid_client"}"#).as_deref(), Some("invalid_client"));
        for body in [
            r#"{"error":{"code":"the key sk-canary is wrong"}}"#,
            r#"{"error":{"message":"sk-canary"}}"#,
            "<html>",
        ] {
            assert_eq!(told(body), None, "{body}");
        }
    }
}
