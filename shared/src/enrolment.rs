//! What an agent or an egress node and a hub say to each other before the first has a certificate. Knows no storage and no sockets.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Where the agent asks for its first certificate.
pub const ENROL_PATH: &str = "/relay/enrol";
/// Where the agent asks for the next one.
pub const RENEW_PATH: &str = "/relay/renew";

/// Where an egress node asks for its first certificate.
pub const NODE_ENROL_PATH: &str = "/relay/node/enrol";
/// Where it asks for the next one.
pub const NODE_RENEW_PATH: &str = "/relay/node/renew";

/// What the operator hands to a developer: where the hub is, how to know it, and a one-time secret.
pub struct Token {
    /// Host and port of the hub's tunnel.
    pub hub: String,
    /// SHA-256 of the device CA's certificate (DER).
    pub fingerprint: [u8; 32],
    /// Used once, within ten minutes.
    pub secret: Secret<String>,
}

/// Why a text is no enrolment token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The prefix is missing.
    #[error("this is no enrolment token: it does not start with `{PREFIX}`; `relay-hub device token` prints one")]
    Prefix,
    /// The rest cannot be read.
    #[error("the enrolment token is damaged or incomplete: copy the whole line again")]
    Damaged,
    /// The address inside is useless.
    #[error("the enrolment token names no usable hub address: ask for another one")]
    Hub,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inside {
    h: String,
    f: String,
    s: String,
}

impl Token {
    /// The text form: `crt1_` and base64url.
    #[must_use]
    pub fn encode(&self) -> Secret<String> {
        let inside = Inside {
            h: self.hub.clone(),
            f: URL_SAFE_NO_PAD.encode(self.fingerprint),
            s: self.secret.expose().clone(),
        };
        let json = Secret::new(serde_json::to_vec(&inside).expect("three strings always become JSON"));
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json.expose())))
    }

    /// Reads the text form; white space around it is no fault.
    ///
    /// # Errors
    /// What is wrong with it, without repeating any of it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let json = Secret::new(URL_SAFE_NO_PAD.decode(rest).map_err(|_| TokenError::Damaged)?);
        let inside: Inside = serde_json::from_slice(json.expose()).map_err(|_| TokenError::Damaged)?;
        let secret = Secret::new(inside.s);
        let fingerprint = URL_SAFE_NO_PAD.decode(inside.f).ok().and_then(|f| f.try_into().ok());
        let fingerprint = fingerprint.ok_or(TokenError::Damaged)?;
        let (host, port) = inside.h.rsplit_once(':').ok_or(TokenError::Hub)?;
        if host.is_empty() || port.parse::<u16>().map_or(true, |port| port == 0) {
            return Err(TokenError::Hub);
        }
        if secret.expose().is_empty() {
            return Err(TokenError::Damaged);
        }
        Ok(Self {
            hub: inside.h,
            fingerprint,
            secret,
        })
    }
}

/// First request of a device. Not `Debug`: it holds a secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The token's secret.
    pub secret: String,
    /// Certificate request, PEM, signed by the device's own key.
    pub csr: String,
    /// What the developer calls the device.
    pub name: String,
}

/// Later request of a known device, also after its certificate ran out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The device's id.
    pub device: String,
    /// Certificate request, PEM, signed by the very key the device enrolled with.
    pub csr: String,
}

/// What the hub answers to both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrolReply {
    /// The device's id.
    pub device: String,
    /// Its tenant's id.
    pub tenant: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// The device CA's certificate, PEM.
    pub ca: String,
    /// Host and port of the hub's tunnel.
    pub hub: String,
    /// End of the certificate's life, seconds since 1970.
    pub not_after: u64,
}

/// What the hub answers to an egress node that enrols or renews.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeReply {
    /// The node's id.
    pub node: String,
    /// The operator's name for it.
    pub name: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// The CA's certificate, PEM: it signed this one, and the one that the hub comes with.
    pub ca: String,
    /// Host and port of the hub's tunnel, where the next certificate is asked for.
    pub hub: String,
}

/// Why the hub refuses.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct EnrolError {
    /// `unknown_token` (401), `token_used` (409), `token_expired` (410), `device_revoked` (403), `bad_csr` (400) and so on.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What helps.
    #[serde(default)]
    pub hint: String,
}

impl EnrolError {
    /// An error with its words.
    #[must_use]
    pub fn new(code: &str, message: &str, hint: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        }
    }

    /// The HTTP status that goes with the code; unknown codes are the hub's own fault.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.code.as_str() {
            "bad_csr" | "bad_request" => 400,
            "unknown_token" => 401,
            "device_revoked" | "node_revoked" | "tenant_suspended" => 403,
            "unknown_device" | "unknown_node" => 404,
            "token_used" => 409,
            "token_expired" => 410,
            _ => 500,
        }
    }
}

const PREFIX: &str = "crt1_";

#[cfg(test)]
mod tests {
    use super::{Token, TokenError};
    use crate::secret::Secret;

    fn token(hub: &str) -> String {
        Token {
            hub: hub.into(),
            fingerprint: [7; 32],
            secret: Secret::new("s3cret".into()),
        }
        .encode()
        .expose()
        .clone()
    }

    #[test]
    fn a_token_survives_copy_and_paste() {
        let read = Token::parse(&format!("  {}\n", token("hub.example:8443")))
            .ok()
            .unwrap();
        assert_eq!(read.hub, "hub.example:8443");
        assert_eq!(read.fingerprint, [7; 32]);
        assert_eq!(read.secret.expose(), "s3cret");
    }

    #[test]
    fn a_bad_token_is_refused_with_the_reason() {
        let good = token("h:1");
        let cases = [
            ("rk_abc".to_owned(), TokenError::Prefix),
            (good[..good.len() - 4].to_owned(), TokenError::Damaged),
            ("crt1_!!!".to_owned(), TokenError::Damaged),
            (token("nowhere"), TokenError::Hub),
            (token("nowhere:0"), TokenError::Hub),
        ];
        for (text, expected) in cases {
            assert_eq!(Token::parse(&text).err(), Some(expected), "{text}");
        }
    }
}
