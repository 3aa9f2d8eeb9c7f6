//! What proves to a vendor that an account is ours, and what else an operator sets about it. Does no IO.

use http::Uri;
use relay_protocol::Wire;
use relay_shared::secret::Secret;
use serde::{Deserialize, Serialize};

use super::{aws::sigv4::Signer, oauth::Grant};

/// An account's credential, opened.
pub enum Credential {
    /// A key that goes along with each call as it is.
    ApiKey(Secret<String>),
    /// Access tokens are asked for: with a refresh token, or as the client itself.
    Grant(Grant),
    /// Each call is signed.
    AwsKey(Signer),
}

/// The kinds of credentials, by the name commands use and tables keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A key of the vendor's API.
    ApiKey,
    /// OAuth 2: what a person agreed to.
    RefreshToken,
    /// OAuth 2: a client that asks for itself, such as an application of Microsoft Entra.
    ClientCredentials,
    /// An access key of AWS.
    AwsKey,
}

impl CredentialKind {
    /// Every name that commands take.
    pub const NAMES: [&str; 4] = ["api-key", "refresh-token", "client-credentials", "aws-key"];

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "api-key" => Some(Self::ApiKey),
            "refresh-token" => Some(Self::RefreshToken),
            "client-credentials" => Some(Self::ClientCredentials),
            "aws-key" => Some(Self::AwsKey),
            _ => None,
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api-key",
            Self::RefreshToken => "refresh-token",
            Self::ClientCredentials => "client-credentials",
            Self::AwsKey => "aws-key",
        }
    }

    /// What its secret is, in a sentence.
    pub const fn secret(self) -> &'static str {
        match self {
            Self::ApiKey => "the vendor's key",
            Self::RefreshToken => "the refresh token",
            Self::ClientCredentials => "the client's secret",
            Self::AwsKey => "the secret access key",
        }
    }
}

/// What is set about an account and is no secret. Kept as JSON, so names stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Azure: calls name a deployment and this version of the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The wires it speaks, where they are fewer than its vendor's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wires: Option<Vec<String>>,
    /// The IP version that is tried first: 4 or 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefers: Option<u8>,
    /// OAuth 2: where tokens are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// OAuth 2: the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// OAuth 2: what tokens are to be good for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// AWS: the public part of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// AWS: where the models are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// The wires by the names that commands use and tables keep.
const WIRES: [(&str, Wire); 2] = [("responses", Wire::Responses), ("chat", Wire::Chat)];

impl Settings {
    /// The names that `--wires` takes.
    pub const WIRES: [&str; WIRES.len()] = ["responses", "chat"];

    /// What is set, in words.
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let Self {
            api_version,
            wires,
            prefers,
            token_url,
            client_id,
            scope,
            key_id,
            region,
        } = self.clone();
        let all = [
            ("API version", api_version),
            ("wires", wires.map(|wires| wires.join(", "))),
            ("prefers", prefers.map(|version| format!("IPv{version}"))),
            ("token URL", token_url),
            ("client id", client_id),
            ("scope", scope),
            ("key id", key_id),
            ("AWS region", region),
        ];
        all.into_iter()
            .filter_map(|(what, value)| Some((what, value?)))
            .collect()
    }

    /// The wires that are set; none where the vendor's own count.
    pub fn wires(&self) -> Option<Vec<Wire>> {
        let named = self.wires.as_ref()?.iter();
        Some(named.filter_map(|name| wire(name)).collect())
    }
}

fn wire(name: &str) -> Option<Wire> {
    WIRES.iter().find(|(known, _)| *known == name).map(|(_, wire)| *wire)
}

/// A setting without which a credential cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the credential lacks {0}")]
pub struct Incomplete(&'static str);

impl Credential {
    /// Puts a credential together from what the store has of it. `more` is the client's secret that goes with a refresh
    /// token, or the session token of a key that was lent.
    ///
    /// # Errors
    /// Something is missing.
    pub fn open(
        kind: CredentialKind,
        settings: &Settings,
        secret: Secret<String>,
        more: Option<Secret<String>>,
    ) -> Result<Self, Incomplete> {
        match kind {
            CredentialKind::ApiKey => Ok(Self::ApiKey(secret)),
            CredentialKind::RefreshToken => grant(settings, more, Some(secret)).map(Self::Grant),
            CredentialKind::ClientCredentials => grant(settings, Some(secret), None).map(Self::Grant),
            CredentialKind::AwsKey => Ok(Self::AwsKey(Signer {
                key_id: settings.key_id.clone().ok_or(Incomplete("the key's id"))?,
                secret,
                session_token: more,
                region: settings.region.clone().ok_or(Incomplete("a region"))?,
                service: "bedrock",
            })),
        }
    }

    /// Whether a word is the secret, or a part of it: some vendors repeat what they were sent.
    pub fn holds(&self, word: &str) -> bool {
        match self {
            Self::ApiKey(key) => key.expose().contains(word),
            Self::AwsKey(Signer {
                secret, session_token, ..
            }) => {
                secret.expose().contains(word)
                    || session_token
                        .as_ref()
                        .is_some_and(|token| token.expose().contains(word))
            }
            Self::Grant(_) => false,
        }
    }

    /// How access tokens are asked for, where they are.
    pub const fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Grant(grant) => Some(grant),
            Self::ApiKey(_) | Self::AwsKey(_) => None,
        }
    }
}

fn grant(
    settings: &Settings,
    client_secret: Option<Secret<String>>,
    refresh_token: Option<Secret<String>>,
) -> Result<Grant, Incomplete> {
    let url = settings.token_url.as_deref().ok_or(Incomplete("a token URL"))?;
    Ok(Grant {
        token_url: url
            .parse::<Uri>()
            .map_err(|_| Incomplete("a token URL that can be read"))?,
        client_id: settings.client_id.clone().ok_or(Incomplete("a client id"))?,
        client_secret,
        refresh_token,
        scope: settings.scope.clone(),
    })
}
