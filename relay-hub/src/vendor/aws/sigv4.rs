//! Signature Version 4: a request's head is signed with the account's secret, which itself never leaves. Knows no
//! service and reads no clock.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html> (2026-11).

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use relay_shared::secret::Secret;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// An access key, for one service of one region.
pub struct Signer {
    /// The public part of the key.
    pub key_id: String,
    /// The secret part.
    pub secret: Secret<String>,
    /// Of a key that was lent for some hours.
    pub session_token: Option<Secret<String>>,
    /// As in `eu-central-1`.
    pub region: String,
    /// As in `bedrock`.
    pub service: &'static str,
}

/// A part of the key, or of the request, that no header can carry.
#[derive(Debug, thiserror::Error)]
#[error("the AWS access key has characters that no header can carry")]
pub struct Unsignable;

impl Signer {
    /// Adds date, session token and signature to a head that already names the host. The signature covers the method, the
    /// path, the body and these headers: the host, the content type and Amazon's own. `path` is as it is sent, without a
    /// query, of which there is none.
    ///
    /// # Errors
    /// [`Unsignable`].
    pub fn sign(
        &self,
        method: &Method,
        path: &str,
        headers: &mut HeaderMap,
        body: &[u8],
        now: jiff::Timestamp,
    ) -> Result<(), Unsignable> {
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| Unsignable)?;
            value.set_sensitive(true);
            Ok(value)
        };
        let at = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        headers.insert(DATE, HeaderValue::from_str(&at).map_err(|_| Unsignable)?);
        if let Some(token) = &self.session_token {
            headers.insert(TOKEN, sensitive(token.expose())?);
        }
        let is_signed = |name: &HeaderName| {
            *name == header::HOST || *name == header::CONTENT_TYPE || name.as_str().starts_with("x-amz-")
        };
        let authorization = self.authorization(method, path, headers, is_signed, body, &at);
        headers.insert(header::AUTHORIZATION, sensitive(&authorization)?);
        Ok(())
    }

    fn authorization(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        is_signed: impl Fn(&HeaderName) -> bool,
        body: &[u8],
        at: &str,
    ) -> String {
        let mut names: Vec<_> = headers.keys().filter(|name| is_signed(name)).collect();
        names.sort_by_key(|name| name.as_str());
        let signed: Vec<_> = names.iter().map(|name| name.as_str()).collect();
        let signed = signed.join(";");
        let mut request = format!("{method}\n{}\n\n", encoded(path));
        for name in names {
            let values: Vec<_> = headers.get_all(name).iter().map(trimmed).collect();
            request.push_str(name.as_str());
            request.push(':');
            request.push_str(&values.join(","));
            request.push('\n');
        }
        request.push('\n');
        request.push_str(&signed);
        request.push('\n');
        request.push_str(&hash(body));

        let date = at.get(..8).unwrap_or(at);
        let (region, service) = (self.region.as_str(), self.service);
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let to_sign = format!("{ALGORITHM}\n{at}\n{scope}\n{}", hash(request.as_bytes()));
        let signature = hex(mac(self.key(date).as_ref(), &to_sign).as_ref());
        let id = &self.key_id;
        format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}")
    }

    /// The key of one day, region and service.
    fn key(&self, date: &str) -> hmac::Tag {
        let secret = Secret::new(format!("AWS4{}", self.secret.expose()));
        let of_day = mac(secret.expose().as_bytes(), date);
        let of_region = mac(of_day.as_ref(), &self.region);
        let of_service = mac(of_region.as_ref(), self.service);
        mac(of_service.as_ref(), "aws4_request")
    }
}

/// A path in which everything is escaped that is not plain, escapes that are there already too.
fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap_or_default();
        }
    }
    encoded
}

/// Without spaces around it, and with one where there are several in a row.
fn trimmed(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn signer(session_token: Option<&str>) -> Signer {
        Signer {
            key_id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: session_token.map(|token| Secret::new(token.to_owned())),
            region: "us-east-1".to_owned(),
            service: "service",
        }
    }

    /// The cases of Amazon's own suite that have no query, no path to be shortened and no folded header.
    /// Source: aws-signing-test-suite/v4 of <https://github.com/awslabs/aws-c-auth> (2026-11).
    const SUITE: &str = include_str!("suite.json");

    #[test]
    fn requests_are_signed_as_amazons_suite_has_them() {
        let suite: Vec<Value> = serde_json::from_str(SUITE).unwrap();
        assert_eq!(suite.len(), 23);
        for case in suite {
            let text = |field: &str| case[field].as_str().unwrap();
            let mut headers = HeaderMap::new();
            for header in case["headers"].as_array().unwrap() {
                let name: HeaderName = header[0].as_str().unwrap().parse().unwrap();
                headers.append(name, header[1].as_str().unwrap().parse().unwrap());
            }
            let method = text("method").parse().unwrap();
            let signed = signer(None).authorization(
                &method,
                text("path"),
                &headers,
                |_| true,
                text("body").as_bytes(),
                "20150830T123600Z",
            );
            let wanted = format!(
                "SignedHeaders={}, Signature={}",
                text("signed_headers"),
                text("signature")
            );
            assert!(signed.ends_with(&wanted), "{}: {signed}", text("name"));
        }
    }

    #[test]
    fn a_head_is_signed_with_its_date_and_token_and_shows_neither_in_debug() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("example.amazonaws.com"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static("may be changed on the way"),
        );
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let now = "2015-08-30T12:36:00Z".parse().unwrap();
        signer(Some(token))
            .sign(&Method::GET, "/", &mut headers, b"", now)
            .unwrap();
        let signed = headers[header::AUTHORIZATION].to_str().unwrap();
        assert!(
            signed.ends_with("Signature=07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
            "{signed}"
        );
        let told = format!("{headers:?}");
        assert!(!told.contains(token) && !told.contains("Signature"), "{told}");
    }

    #[test]
    fn a_models_colon_is_escaped_once_on_the_wire_and_twice_in_what_is_signed() {
        assert_eq!(encoded("/model/a.b-v2%3A0/invoke"), "/model/a.b-v2%253A0/invoke");
    }
}
