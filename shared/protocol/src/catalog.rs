//! The list of models, in OpenAI's shape and in the one Codex asks for. Knows no price and no tenant.

use bytes::Bytes;

use crate::tokens::Tokens;

/// What a client may learn of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// The name to ask for.
    pub id: String,
    /// When it appeared, in seconds since 1970; 0 when unknown.
    pub created: u64,
    /// Whose it is, as OpenAI's `owned_by`.
    pub owned_by: String,
    /// How much input and output it can hold together.
    pub context: Tokens,
}

/// `{"object":"list","data":[…]}`.
#[must_use]
pub fn openai_list(models: &[ModelCard]) -> Bytes {
    let _ = models;
    Bytes::from_static(b"{\"object\":\"list\",\"data\":[]}")
}

/// `{"models":[…]}`.
#[must_use]
pub fn codex_catalog(models: &[ModelCard]) -> Bytes {
    let _ = models;
    Bytes::from_static(b"{\"models\":[]}")
}

/// A strong entity tag, quotes included.
#[must_use]
pub fn etag(body: &[u8]) -> String {
    format!("\"{}\"", body.len())
}
