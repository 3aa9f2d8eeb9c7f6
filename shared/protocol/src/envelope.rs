//! The facts of a request that we do not rewrite: what it asks for and where in the bytes it says so.

use std::ops::Range;

use thiserror::Error;

use crate::edits::Edits;
use crate::tokens::Tokens;
use crate::wire::Endpoint;

/// What a request body says about itself. No `Debug`: a model name may be anything a tenant typed.
#[derive(Clone)]
pub struct Envelope {
    /// Where it was sent.
    pub endpoint: Endpoint,
    /// `model`, unescaped.
    pub model: String,
    /// The answer is to be a stream of events. True for WebSocket frames.
    pub stream: bool,
    /// The client's own limit of output tokens.
    pub max_output: Option<Tokens>,
    /// Chat: `stream_options.include_usage` is true.
    pub wants_usage: bool,
    /// False only for a WebSocket warm-up frame, which makes no output.
    pub generate: bool,
    /// `background` is true: the answer is fetched later, by id.
    pub background: bool,
    /// More input than these bytes stands behind `previous_response_id`, `conversation` or `prompt`.
    pub continues: bool,
    /// `service_tier`, which may change the price.
    pub service_tier: Option<String>,
    /// Chat: how many answers are asked for.
    pub n: u32,
    /// The length of the body.
    pub bytes: usize,
    spans: Spans,
}

#[derive(Clone, Default)]
struct Spans {
    model: Range<usize>,
}

/// A WebSocket frame of a client.
pub enum Frame {
    /// `response.create`: a call with a hold of its own.
    Create(Envelope),
    /// Any other frame: forwarded.
    Other,
}

/// Why a body cannot be served. The message names the field and is fit for the client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// Not JSON.
    #[error("the body is not valid JSON: {what} at byte {at}")]
    Syntax {
        /// What was wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

impl Envelope {
    /// Reads the body of a POST to `endpoint`.
    ///
    /// # Errors
    /// When the body is not JSON or a field that matters is missing, doubled or of a wrong type.
    pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(Self {
            endpoint,
            model: String::new(),
            stream: false,
            max_output: None,
            wants_usage: false,
            generate: true,
            background: false,
            continues: false,
            service_tier: None,
            n: 1,
            bytes: body.len(),
            spans: Spans::default(),
        })
    }

    /// The edits that rename the model and, for a chat stream that does not ask for its usage, ask for it.
    #[must_use]
    pub fn edits(&self, rename: Option<&str>, ask_usage: bool) -> Edits {
        let _ = (rename, ask_usage, &self.spans.model);
        Edits::default()
    }
}

impl Frame {
    /// Reads a text message of a client.
    ///
    /// # Errors
    /// As [`Envelope::read`], and when `type` is missing.
    pub fn read(text: &[u8]) -> Result<Self, EnvelopeError> {
        Envelope::read(Endpoint::Responses, text).map(Self::Create)
    }
}
