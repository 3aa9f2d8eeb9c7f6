//! The fields of a body that matter, picked out of an object. Knows their types, not their meaning.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::{Carries, EnvelopeError};
use crate::json::{Member, Walk};
use crate::tokens::Tokens;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Model,
    Stream,
    MaxOutput,
    MaxTokens,
    StreamOptions,
    IncludeUsage,
    Background,
    Store,
    ServiceTier,
    N,
    Type,
    Generate,
    PreviousResponse,
    CacheKey,
    Conversation,
    Prompt,
    CacheRetention,
    CacheOptions,
    MaxToolCalls,
    WebSearch,
    Modalities,
    Speed,
    Geo,
    Metadata,
    User,
    McpServers,
    Config,
    Tools,
    CachedContent,
}

/// The names of an object's fields that matter.
pub(super) type Names = &'static [(&'static str, Field)];

pub(super) const RESPONSES: Names = &[
    ("model", Field::Model),
    ("stream", Field::Stream),
    ("max_output_tokens", Field::MaxOutput),
    ("background", Field::Background),
    ("store", Field::Store),
    ("service_tier", Field::ServiceTier),
    ("previous_response_id", Field::PreviousResponse),
    ("conversation", Field::Conversation),
    ("prompt", Field::Prompt),
    ("prompt_cache_key", Field::CacheKey),
    ("prompt_cache_retention", Field::CacheRetention),
    ("prompt_cache_options", Field::CacheOptions),
    ("max_tool_calls", Field::MaxToolCalls),
];

pub(super) const FRAME: Names = &[
    ("type", Field::Type),
    ("generate", Field::Generate),
    ("model", Field::Model),
    ("stream", Field::Stream),
    ("max_output_tokens", Field::MaxOutput),
    ("background", Field::Background),
    ("store", Field::Store),
    ("service_tier", Field::ServiceTier),
    ("previous_response_id", Field::PreviousResponse),
    ("conversation", Field::Conversation),
    ("prompt", Field::Prompt),
    ("prompt_cache_key", Field::CacheKey),
    ("prompt_cache_retention", Field::CacheRetention),
    ("prompt_cache_options", Field::CacheOptions),
    ("max_tool_calls", Field::MaxToolCalls),
];

pub(super) const CHAT: Names = &[
    ("model", Field::Model),
    ("stream", Field::Stream),
    ("stream_options", Field::StreamOptions),
    ("max_completion_tokens", Field::MaxOutput),
    ("max_tokens", Field::MaxTokens),
    ("n", Field::N),
    ("service_tier", Field::ServiceTier),
    ("prompt_cache_key", Field::CacheKey),
    ("prompt_cache_retention", Field::CacheRetention),
    ("prompt_cache_options", Field::CacheOptions),
    ("web_search_options", Field::WebSearch),
    ("modalities", Field::Modalities),
];

pub(super) const EMBEDDINGS: Names = &[("model", Field::Model)];

pub(super) const MESSAGES: Names = &[
    ("model", Field::Model),
    ("stream", Field::Stream),
    ("max_tokens", Field::MaxTokens),
    ("service_tier", Field::ServiceTier),
    ("speed", Field::Speed),
    ("inference_geo", Field::Geo),
    ("metadata", Field::Metadata),
    ("mcp_servers", Field::McpServers),
];

pub(super) const METADATA: Names = &[("user_id", Field::User)];

/// Google reads either spelling.
pub(super) const GEMINI: Names = &[
    ("generationConfig", Field::Config),
    ("generation_config", Field::Config),
    ("tools", Field::Tools),
    ("cachedContent", Field::CachedContent),
    ("cached_content", Field::CachedContent),
    ("serviceTier", Field::ServiceTier),
    ("service_tier", Field::ServiceTier),
];

pub(super) const GENERATION_CONFIG: Names = &[
    ("maxOutputTokens", Field::MaxOutput),
    ("max_output_tokens", Field::MaxOutput),
    ("candidateCount", Field::N),
    ("candidate_count", Field::N),
    ("responseModalities", Field::Modalities),
    ("response_modalities", Field::Modalities),
];

pub(super) const STREAM_OPTIONS: Names = &[("include_usage", Field::IncludeUsage)];

/// An object, read. Values are kept as they stand.
pub(super) struct Fields<'a> {
    body: &'a [u8],
    found: Vec<(Field, &'static str, Range<usize>)>,
    inside: usize,
    is_empty: bool,
    /// Its numbers may stand in quotes.
    quotes_numbers: bool,
    /// What the kinds of its parts say that it carries.
    pub(super) carries: Carries,
}

impl<'a> Fields<'a> {
    pub(super) fn read(names: Names, body: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut found: Vec<(Field, &'static str, Range<usize>)> = Vec::with_capacity(names.len());
        let mut is_empty = true;
        let mut carries = Carries::default();
        let member = |member: Member<'_>| {
            is_empty = false;
            if let Some((field, name)) = known(names, member.key)? {
                if found.iter().any(|(other, ..)| *other == field) {
                    return Err(EnvelopeError::Doubled(name));
                }
                found.push((field, name, member.value));
            }
            Ok(())
        };
        let inside = Walk::new(body)?.members_and_types(member, |kind| carries.see(kind))?;
        Ok(Self {
            body,
            found,
            inside: inside.start,
            is_empty,
            quotes_numbers: false,
            carries,
        })
    }

    /// Google reads its numbers from texts as well, as JSON of protobuf has them.
    /// Source: <https://protobuf.dev/programming-guides/json/> (2026-11).
    pub(super) fn quoting_numbers(mut self) -> Self {
        self.quotes_numbers = true;
        self
    }

    /// The first byte inside the object.
    pub(super) fn inside(&self) -> usize {
        self.inside
    }

    /// There is no member at all.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Where the value stands, `null` included.
    pub(super) fn span(&self, field: Field) -> Option<Range<usize>> {
        self.found
            .iter()
            .find(|(found, ..)| *found == field)
            .map(|(.., span)| span.clone())
    }

    /// The field is there and not `null`.
    pub(super) fn is_given(&self, field: Field) -> bool {
        self.value(field).is_some()
    }

    pub(super) fn text(&self, field: Field) -> Result<Option<String>, EnvelopeError> {
        self.typed(field, "a string", |raw| serde_json::from_slice(raw).ok())
    }

    /// The value is `false`.
    pub(super) fn denies(&self, field: Field) -> bool {
        self.value(field).is_some_and(|(_, raw)| raw == b"false")
    }

    /// The text, where it is one.
    pub(super) fn maybe_text(&self, field: Field) -> Option<String> {
        serde_json::from_slice(self.value(field)?.1).ok()
    }

    /// Whether the value as written has these bytes in it.
    pub(super) fn mentions(&self, field: Field, what: &str) -> bool {
        let value = self.value(field).map(|(_, raw)| raw);
        value.is_some_and(|raw| memchr::memmem::find(raw, what.as_bytes()).is_some())
    }

    /// Whether the value may have this word among its texts, in whichever case. What is no list of texts may.
    pub(super) fn may_say(&self, field: Field, word: &str) -> bool {
        self.value(field).is_some_and(|(_, raw)| {
            let words: Option<Vec<String>> = serde_json::from_slice(raw).ok();
            words.is_none_or(|words| words.iter().any(|said| said.eq_ignore_ascii_case(word)))
        })
    }

    /// Whether one of the objects in the value, or the one that it is, has a key that begins so.
    pub(super) fn offers(&self, field: Field, key: &str) -> bool {
        let Some((_, raw)) = self.value(field) else {
            return false;
        };
        memchr::memmem::find(raw, format!("\"{key}").as_bytes()).is_some()
            || (memchr::memmem::find(raw, b"\\u").is_some() && has_key(raw, key))
    }

    /// The fields of an object that stands in this field; none where it is not there.
    pub(super) fn object(&self, field: Field, names: Names) -> Result<Option<Self>, EnvelopeError> {
        let Some((name, raw)) = self.value(field) else {
            return Ok(None);
        };
        if raw.first() != Some(&b'{') {
            return Err(EnvelopeError::Type {
                field: name,
                expected: "an object",
            });
        }
        Self::read(names, raw).map(Some)
    }

    pub(super) fn flag(&self, field: Field) -> Result<Option<bool>, EnvelopeError> {
        self.typed(field, "true or false", |raw| serde_json::from_slice(raw).ok())
    }

    pub(super) fn tokens(&self, field: Field) -> Result<Option<Tokens>, EnvelopeError> {
        self.typed(field, "a whole number that is not negative", |raw| {
            self.number(raw).filter(|tokens| *tokens <= Tokens::MAX)
        })
    }

    pub(super) fn count(&self, field: Field) -> Result<Option<u32>, EnvelopeError> {
        self.typed(field, "a whole number from 1 to 128", |raw| {
            self.number(raw).filter(|count| (1..=128).contains(count))
        })
    }

    fn number<T: DeserializeOwned>(&self, raw: &[u8]) -> Option<T> {
        let bare = match raw {
            [b'"', bare @ .., b'"'] if self.quotes_numbers => bare,
            raw => raw,
        };
        serde_json::from_slice(bare).ok()
    }

    fn typed<T>(
        &self,
        field: Field,
        expected: &'static str,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, EnvelopeError> {
        let Some((name, raw)) = self.value(field) else {
            return Ok(None);
        };
        read(raw).map(Some).ok_or(EnvelopeError::Type { field: name, expected })
    }

    /// The raw value with the field's name; `null` counts as not there.
    fn value(&self, field: Field) -> Option<(&'static str, &'a [u8])> {
        let (_, name, span) = self.found.iter().find(|(found, ..)| *found == field)?;
        let raw = self.body.get(span.clone())?;
        (raw != b"null").then_some((*name, raw))
    }
}

/// The same, however the key is written.
fn has_key(raw: &[u8], key: &str) -> bool {
    type Keys<'a> = BTreeMap<Cow<'a, str>, IgnoredAny>;
    let listed = serde_json::from_slice::<Vec<Keys<'_>>>(raw);
    let objects = listed.or_else(|_| serde_json::from_slice::<Keys<'_>>(raw).map(|one| vec![one]));
    // What is neither is not understood here, and may have it.
    objects.map_or(true, |objects| {
        objects
            .iter()
            .flat_map(BTreeMap::keys)
            .any(|found| found.starts_with(key))
    })
}

/// The field of that key, which is as written in the body.
fn known(names: Names, key: &str) -> Result<Option<(Field, &'static str)>, EnvelopeError> {
    let key = if key.contains('\\') {
        // An escape that is not a character, such as half a surrogate pair, is in no name of ours.
        Cow::Owned(serde_json::from_str(&format!("\"{key}\"")).unwrap_or_default())
    } else {
        Cow::<str>::Borrowed(key)
    };
    match names.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key)) {
        Some((name, field)) if *name == key => Ok(Some((*field, name))),
        Some((name, _)) => Err(EnvelopeError::Spelling(name)),
        None => Ok(None),
    }
}
