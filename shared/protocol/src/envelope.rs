//! The facts of a request that we do not rewrite: what it asks for, and where in the bytes it says so.
//!
//! Money hangs on these facts, so a body that two readers could understand differently is refused: doubled keys that
//! matter, keys spelled in another case, JSON that is not strict. Fields we do not know are none of our business.

mod carries;
mod fields;

use std::ops::Range;

use thiserror::Error;

pub use self::carries::Carries;
use self::fields::{Field, Fields};
use crate::edits::Edits;
use crate::json::Fault;
use crate::refusal::{Code, Refusal};
use crate::tokens::Tokens;
use crate::usage::messages;
use crate::wire::{Endpoint, ModelPath, Wire};

/// What a request body says about itself. No `Debug`: a tenant may have typed anything where a name belongs.
#[derive(Clone)]
pub struct Envelope {
    /// Where it was sent.
    pub endpoint: Endpoint,
    /// `model`, unescaped; never empty.
    pub model: String,
    /// The answer is to be a stream of events. Always true of a WebSocket frame.
    pub stream: bool,
    /// The client's own limit of output tokens, for each of `n` answers. Chat: the larger of its two spellings.
    pub max_output: Option<Tokens>,
    /// Chat: `stream_options.include_usage` is true.
    pub wants_usage: bool,
    /// False for what makes no output: a WebSocket's warm-up, and a call that counts tokens.
    pub generate: bool,
    /// `background` is true: the answer, and what it used, would be fetched later.
    pub background: bool,
    /// The vendor keeps the answer, so that another call can go on from it by its id. Responses: unless `store` is false.
    pub stores: bool,
    /// There is more input than these bytes, behind `previous_response_id`, `conversation`, `prompt`, `mcp_servers` or
    /// `cachedContent`.
    pub continues: bool,
    /// `previous_response_id`, where it is a text.
    pub previous_response: Option<String>,
    /// What the calls of one conversation have in common: `prompt_cache_key`, of Messages `metadata.user_id`, where it is
    /// a text.
    pub session: Option<String>,
    /// `conversation` or `prompt` names more.
    has_more_behind: bool,
    /// What stands behind `previous_response_id`, where the caller of this crate knows it.
    pub behind: Option<Tokens>,
    /// What it carries beside text, and which of the vendor's own tools it offers.
    pub carries: Carries,
    /// Says how long a cache is kept, which may change the price of writing it.
    pub keeps_cache: bool,
    /// `max_tool_calls`.
    pub max_tool_calls: Option<u32>,
    /// `service_tier`, and what else changes the price as one name: Anthropic's `speed` and `inference_geo`.
    pub service_tier: Option<String>,
    /// Chat and Gemini: how many answers are asked for.
    pub n: u32,
    /// The length of the body.
    pub bytes: usize,
    spans: Spans,
}

/// Where the edits go.
#[derive(Clone)]
struct Spans {
    /// `None` where the path says the model.
    model: Option<Range<usize>>,
    /// The first byte inside the outermost object, which is not empty.
    inside: usize,
    stream_options: Option<StreamOptions>,
}

#[derive(Clone)]
enum StreamOptions {
    Null(Range<usize>),
    /// Has an `include_usage`, whose value stands here.
    Said(Range<usize>),
    /// Has none; the inside stands here.
    Unsaid {
        inside: usize,
        is_empty: bool,
    },
}

/// A WebSocket text message of a client.
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it is read")]
pub enum Frame {
    /// `response.create`: a call with a hold of its own.
    Create(Envelope),
    /// Any other type: forwarded.
    Other,
}

/// Why a body cannot be served. The message is fit for the client and quotes nothing of the body.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// Not JSON as RFC 8259 has it, not UTF-8, not an object or too deep.
    #[error("the body is not a JSON object we can read: {what} at byte {at}")]
    Syntax {
        /// What stands there.
        what: &'static str,
        /// Where, counted from 0.
        at: usize,
    },
    /// A field we cannot do without.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field with a value of a wrong type or out of range.
    #[error("`{field}` must be {expected}")]
    Type {
        /// Its name.
        field: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// A field that stands twice, so that readers may differ.
    #[error("`{0}` stands twice")]
    Doubled(&'static str),
    /// A key that differs from one we know in upper and lower case only, so that readers may differ.
    #[error("`{0}` must be spelled like this, in lower case")]
    Spelling(&'static str),
}

impl From<Fault> for EnvelopeError {
    fn from(Fault { what, at }: Fault) -> Self {
        Self::Syntax { what, at }
    }
}

impl From<EnvelopeError> for Refusal {
    fn from(error: EnvelopeError) -> Self {
        Self::new(Code::InvalidRequest, format!("Invalid request: {error}."))
    }
}

impl Envelope {
    /// Reads the body of a POST to `endpoint`, for an endpoint whose path has no model in it.
    ///
    /// # Errors
    /// When the body is not strict JSON or a field that matters is missing, doubled or of a wrong type.
    pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, EnvelopeError> {
        Self::read_at(endpoint, endpoint.path(), body)
    }

    /// Reads the body of a POST to `path`, which is one of `endpoint`.
    ///
    /// # Errors
    /// As [`Self::read`], and when the path names no model.
    pub fn read_at(endpoint: Endpoint, path: &str, body: &[u8]) -> Result<Self, EnvelopeError> {
        match endpoint.wire() {
            Wire::Chat if endpoint.embeds() => Self::from_embeddings(endpoint, body),
            Wire::Responses => Self::from_fields(endpoint, body, &Fields::read(fields::RESPONSES, body)?),
            Wire::Chat => Self::from_fields(endpoint, body, &Fields::read(fields::CHAT, body)?),
            Wire::Messages => Self::from_messages(endpoint, body, &Fields::read(fields::MESSAGES, body)?),
            Wire::Gemini => Self::from_gemini(endpoint, path, body, &Fields::read(fields::GEMINI, body)?),
        }
    }

    /// What every wire has, with nothing else said.
    fn plain(endpoint: Endpoint, model: String, body: &[u8], fields: &Fields<'_>) -> Result<Self, EnvelopeError> {
        if model.is_empty() || model.len() > LONGEST_MODEL {
            return Err(EnvelopeError::Type {
                field: "model",
                expected: "a string of 1 to 256 bytes",
            });
        }
        Ok(Self {
            endpoint,
            model,
            stream: false,
            max_output: endpoint.embeds().then_some(Tokens::ZERO),
            wants_usage: false,
            generate: !endpoint.is_free(),
            background: false,
            stores: false,
            continues: false,
            has_more_behind: false,
            previous_response: None,
            behind: None,
            carries: fields.carries,
            keeps_cache: false,
            max_tool_calls: None,
            service_tier: None,
            n: 1,
            session: None,
            bytes: body.len(),
            spans: Spans {
                model: fields.span(Field::Model),
                inside: fields.inside(),
                stream_options: None,
            },
        })
    }

    fn from_fields(endpoint: Endpoint, body: &[u8], fields: &Fields<'_>) -> Result<Self, EnvelopeError> {
        let model = fields.text(Field::Model)?.ok_or(EnvelopeError::Missing("model"))?;
        let mut envelope = Self::plain(endpoint, model, body, fields)?;
        envelope.carries.sound |= fields.mentions(Field::Modalities, "\"audio\"");
        envelope.carries.searches |= fields.is_given(Field::WebSearch);
        envelope.carries.always_searches = fields.is_given(Field::WebSearch);
        let (wants_usage, stream_options) = stream_options(fields, body)?;
        let has_more_behind = fields.is_given(Field::Conversation) || fields.is_given(Field::Prompt);
        envelope.spans.stream_options = stream_options;
        Ok(Self {
            stream: fields.flag(Field::Stream)?.unwrap_or(false),
            max_output: fields.tokens(Field::MaxOutput)?.max(fields.tokens(Field::MaxTokens)?),
            wants_usage,
            background: fields.flag(Field::Background)?.unwrap_or(false),
            stores: endpoint.wire() == Wire::Responses && !fields.denies(Field::Store),
            continues: has_more_behind || fields.is_given(Field::PreviousResponse),
            has_more_behind,
            session: fields.maybe_text(Field::CacheKey),
            previous_response: fields.maybe_text(Field::PreviousResponse),
            keeps_cache: fields.is_given(Field::CacheRetention) || fields.is_given(Field::CacheOptions),
            max_tool_calls: fields
                .tokens(Field::MaxToolCalls)?
                .map(|n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            service_tier: fields.text(Field::ServiceTier)?,
            n: fields.count(Field::N)?.unwrap_or(1),
            ..envelope
        })
    }

    fn from_embeddings(endpoint: Endpoint, body: &[u8]) -> Result<Self, EnvelopeError> {
        let fields = Fields::read(fields::EMBEDDINGS, body)?;
        let model = fields.text(Field::Model)?.ok_or(EnvelopeError::Missing("model"))?;
        Self::plain(endpoint, model, body, &fields)
    }

    fn from_messages(endpoint: Endpoint, body: &[u8], fields: &Fields<'_>) -> Result<Self, EnvelopeError> {
        let model = fields.text(Field::Model)?.ok_or(EnvelopeError::Missing("model"))?;
        let envelope = Self::plain(endpoint, model, body, fields)?;
        let said = |field| fields.text(field);
        let (service, speed, geo) = (said(Field::ServiceTier)?, said(Field::Speed)?, said(Field::Geo)?);
        let metadata = fields.object(Field::Metadata, fields::METADATA)?;
        let has_more_behind = fields.is_given(Field::McpServers);
        Ok(Self {
            stream: fields.flag(Field::Stream)?.unwrap_or(false),
            max_output: fields.tokens(Field::MaxTokens)?,
            continues: has_more_behind,
            has_more_behind,
            keeps_cache: envelope.carries.keeps_cache,
            service_tier: messages::tier(service.as_deref(), speed.as_deref(), geo.as_deref()),
            session: metadata.and_then(|metadata| metadata.maybe_text(Field::User)),
            ..envelope
        })
    }

    fn from_gemini(endpoint: Endpoint, path: &str, body: &[u8], fields: &Fields<'_>) -> Result<Self, EnvelopeError> {
        let model = ModelPath::parse(path).and_then(|path| path.model());
        let model = model.ok_or(EnvelopeError::Missing("model"))?;
        let mut envelope = Self::plain(endpoint, model.into_owned(), body, fields)?;
        let config = fields.object(Field::Config, fields::GENERATION_CONFIG)?;
        let config = config.map(Fields::quoting_numbers);
        if let Some(config) = &config {
            envelope.max_output = config.tokens(Field::MaxOutput)?;
            envelope.n = config.count(Field::N)?.unwrap_or(1);
            envelope.carries.writes_pictures = config.may_say(Field::Modalities, "IMAGE");
            envelope.carries.sound |= config.may_say(Field::Modalities, "AUDIO");
        }
        let offers = |names: [&str; 2]| names.iter().any(|name| fields.offers(Field::Tools, name));
        // `googleSearch` and `googleSearchRetrieval`, in either spelling.
        envelope.carries.searches |= offers(["googleSearch", "google_search"]);
        envelope.carries.searches_files |= offers(["fileSearch", "file_search"]);
        envelope.carries.files |= offers(["urlContext", "url_context"]);
        let has_more_behind = fields.is_given(Field::CachedContent);
        let tier = fields.text(Field::ServiceTier)?.map(|tier| tier.to_ascii_lowercase());
        Ok(Self {
            stream: endpoint == Endpoint::StreamGenerate,
            continues: has_more_behind,
            has_more_behind,
            service_tier: tier.filter(|tier| !matches!(tier.as_str(), "standard" | "unspecified")),
            ..envelope
        })
    }

    /// All that stands behind it is the answer of this id.
    #[must_use]
    pub fn goes_on_only_from(&self, id: &str) -> bool {
        self.previous_response.as_deref() == Some(id) && !self.has_more_behind
    }

    /// The edits that rename the model, where the body names it, and, for a chat stream which does not ask for its usage,
    /// ask for it.
    ///
    /// They are for the very bytes that were read here, decoded if they were encoded.
    #[must_use]
    pub fn edits(&self, rename: Option<&str>, ask_usage: bool) -> Edits {
        let mut edits = Edits::default();
        if let (Some(name), Some(place)) = (rename.filter(|name| *name != self.model), &self.spans.model) {
            edits.replace(place.clone(), serde_json::Value::from(name).to_string());
        }
        let is_chat = self.endpoint.wire() == Wire::Chat;
        if ask_usage && is_chat && self.stream && !self.wants_usage {
            self.ask_usage(&mut edits);
        }
        edits
    }

    fn ask_usage(&self, edits: &mut Edits) {
        match &self.spans.stream_options {
            None => {
                let at = self.spans.inside;
                edits.replace(at..at, &b"\"stream_options\":{\"include_usage\":true},"[..]);
            }
            Some(StreamOptions::Null(span)) => edits.replace(span.clone(), &b"{\"include_usage\":true}"[..]),
            Some(StreamOptions::Said(span)) => edits.replace(span.clone(), &b"true"[..]),
            Some(StreamOptions::Unsaid { inside, is_empty }) => {
                let member = if *is_empty {
                    &b"\"include_usage\":true"[..]
                } else {
                    &b"\"include_usage\":true,"[..]
                };
                edits.replace(*inside..*inside, member);
            }
        }
    }
}

/// Whether usage is asked for, and where to say so.
fn stream_options(fields: &Fields<'_>, body: &[u8]) -> Result<(bool, Option<StreamOptions>), EnvelopeError> {
    let Some(span) = fields.span(Field::StreamOptions) else {
        return Ok((false, None));
    };
    match body.get(span.clone()).and_then(<[u8]>::first) {
        Some(b'{') => {}
        Some(b'n') => return Ok((false, Some(StreamOptions::Null(span)))),
        _ => {
            return Err(EnvelopeError::Type {
                field: "stream_options",
                expected: "an object",
            });
        }
    }
    let options = Fields::read(fields::STREAM_OPTIONS, body.get(span.clone()).unwrap_or_default())?;
    let wants = options.flag(Field::IncludeUsage)?.unwrap_or(false);
    let place = match options.span(Field::IncludeUsage) {
        Some(said) => StreamOptions::Said(span.start + said.start..span.start + said.end),
        None => StreamOptions::Unsaid {
            inside: span.start + options.inside(),
            is_empty: options.is_empty(),
        },
    };
    Ok((wants, Some(place)))
}

impl Frame {
    /// Reads a text message of a client: `{"type":"response.create",…}` is a call to [`Endpoint::Responses`].
    ///
    /// # Errors
    /// As [`Envelope::read`], and when `type` is missing.
    pub fn read(text: &[u8]) -> Result<Self, EnvelopeError> {
        let fields = Fields::read(fields::FRAME, text)?;
        let kind = fields.text(Field::Type)?.ok_or(EnvelopeError::Missing("type"))?;
        if kind != "response.create" {
            return Ok(Self::Other);
        }
        let mut envelope = Envelope::from_fields(Endpoint::Responses, text, &fields)?;
        envelope.stream = true;
        envelope.generate = fields.flag(Field::Generate)?.unwrap_or(true);
        Ok(Self::Create(envelope))
    }
}

const LONGEST_MODEL: usize = 256;

#[cfg(test)]
mod tests;
