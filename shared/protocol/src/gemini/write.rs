//! Writes an answer for a client.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::for_client;
use crate::call;
use crate::codec::{Outbox, Reply, WriteAnswer};
use crate::event::{Answer, AnswerPart, Event, Opened, Stop};
use crate::turn::{Citation, Media, MediaSource, Opaque};
use crate::usage::Usage;

/// Writes chunks, or one answer. Holds the arguments of the call under way, which this wire says whole, and the reason of
/// the end until the end.
pub(crate) struct Writer {
    reply: Reply,
    open: Kind,
    stop: Stop,
    usage: Option<Usage>,
}

/// What the open part is.
enum Kind {
    Nothing,
    Text,
    Thought,
    Call {
        id: String,
        name: String,
        arguments: String,
        opaque: Option<Opaque>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    candidates: [Candidate<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_metadata: Option<Used>,
    model_version: &'a str,
    response_id: &'a str,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'static str>,
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    citation_metadata: Option<Citations<'a>>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: Vec<Piece<'a>>,
    role: &'static str,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<String>,
}

#[derive(Serialize)]
struct Called<'a> {
    id: Cow<'a, str>,
    name: &'a str,
    args: Cow<'a, RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: &'a str,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'a str>,
    file_uri: &'a str,
}

#[derive(Serialize)]
struct Citations<'a> {
    citations: Vec<Cited<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cited<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
}

/// Its prompt counts what was cached; its candidates leave out the thoughts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Used {
    prompt_token_count: u64,
    candidates_token_count: u64,
    total_token_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thoughts_token_count: Option<u64>,
}

impl Writer {
    /// For one answer.
    pub(crate) const fn new(reply: Reply) -> Self {
        Self {
            reply,
            open: Kind::Nothing,
            stop: Stop::Done,
            usage: None,
        }
    }

    fn chunk<'a>(&'a self, candidate: Candidate<'a>, usage: Option<Usage>) -> Chunk<'a> {
        Chunk {
            candidates: [candidate],
            usage_metadata: usage.map(Used::of),
            model_version: &self.reply.model,
            response_id: &self.reply.id,
        }
    }

    fn piece(&self, piece: Piece<'_>, out: &mut Outbox) {
        out.event(None, &self.chunk(Candidate::of(vec![piece]), None));
    }

    fn open(&mut self, opened: Opened, out: &mut Outbox) {
        self.open = match opened {
            Opened::Text | Opened::Refusal => Kind::Text,
            Opened::Reasoning { .. } => Kind::Thought,
            Opened::Call { id, name, opaque, .. } => Kind::Call {
                id,
                name: name.name,
                arguments: String::new(),
                opaque,
            },
            Opened::Media(media) => {
                if let Some(piece) = shown(&media) {
                    self.piece(piece, out);
                }
                Kind::Nothing
            }
            Opened::Foreign(_) => Kind::Nothing,
        };
    }

    fn delta(&mut self, text: &str, out: &mut Outbox) {
        match &mut self.open {
            Kind::Text => self.piece(said(text), out),
            Kind::Thought => self.piece(thought(text, None), out),
            Kind::Call { arguments, .. } => arguments.push_str(text),
            Kind::Nothing => {}
        }
    }

    fn sign(&mut self, sign: Opaque, out: &mut Outbox) {
        match &mut self.open {
            Kind::Thought => self.piece(thought("", Some(&sign)), out),
            // What is to come back with a call is told with its beginning.
            Kind::Call { .. } | Kind::Text | Kind::Nothing => {}
        }
    }

    fn close(&mut self, out: &mut Outbox) {
        let open = std::mem::replace(&mut self.open, Kind::Nothing);
        if let Kind::Call {
            id,
            name,
            arguments,
            opaque,
        } = open
        {
            self.piece(called(&id, &name, &arguments, opaque.as_ref()), out);
        }
    }

    fn cite(&self, citation: &Citation, out: &mut Outbox) {
        let candidate = Candidate {
            citation_metadata: Some(Citations {
                citations: vec![Cited::of(citation)],
            }),
            ..Candidate::default()
        };
        out.event(None, &self.chunk(candidate, None));
    }

    fn end(&self, out: &mut Outbox) {
        let candidate = Candidate {
            finish_reason: Some(reason(&self.stop)),
            ..Candidate::of(vec![said("")])
        };
        out.event(None, &self.chunk(candidate, self.usage));
        out.done(None);
    }
}

impl WriteAnswer for Writer {
    fn write(&mut self, event: Event, out: &mut Outbox) {
        match event {
            Event::Begin | Event::Fail(_) => {}
            Event::Open(opened) => self.open(opened, out),
            Event::Delta(text) => self.delta(&text, out),
            Event::Cite(citation) => self.cite(&citation, out),
            Event::Sign(opaque) => self.sign(opaque, out),
            Event::Close => self.close(out),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => self.stop = stop,
            Event::End => self.end(out),
        }
    }

    fn whole(&mut self, answer: &Answer) -> Vec<u8> {
        let mut citations = Vec::new();
        let mut pieces = Vec::new();
        for part in &answer.parts {
            if let AnswerPart::Text(text) = part {
                citations.extend(text.citations.iter().map(Cited::of));
            }
            pieces.extend(piece(part));
        }
        let candidate = Candidate {
            finish_reason: Some(reason(&answer.stop)),
            citation_metadata: (!citations.is_empty()).then_some(Citations { citations }),
            ..Candidate::of(pieces)
        };
        serde_json::to_vec(&self.chunk(candidate, answer.usage)).unwrap_or_default()
    }
}

fn piece(part: &AnswerPart) -> Option<Piece<'_>> {
    match part {
        AnswerPart::Text(text) => Some(said(&text.text)),
        AnswerPart::Refusal(words) => Some(said(words)),
        AnswerPart::Reasoning(reasoning) => Some(thought(&reasoning.text, reasoning.opaque.as_ref())),
        AnswerPart::Call { call, .. } => Some(called(&call.id, &call.name.name, &call.arguments, call.opaque.as_ref())),
        AnswerPart::Media(media) => shown(media),
        AnswerPart::Foreign(_) => None,
    }
}

fn said(text: &str) -> Piece<'_> {
    Piece {
        text: Some(text),
        ..Piece::default()
    }
}

fn thought<'a>(text: &'a str, sign: Option<&Opaque>) -> Piece<'a> {
    Piece {
        thought: true,
        thought_signature: sign.map(for_client),
        ..said(text)
    }
}

fn called<'a>(id: &'a str, name: &'a str, arguments: &'a str, opaque: Option<&Opaque>) -> Piece<'a> {
    Piece {
        function_call: Some(Called {
            id: Cow::Borrowed(id),
            name,
            args: call::object(arguments),
        }),
        thought_signature: opaque.map(for_client),
        ..Piece::default()
    }
}

fn shown(media: &Media) -> Option<Piece<'_>> {
    match &media.source {
        MediaSource::Data { mime, base64 } => Some(Piece {
            inline_data: Some(Blob {
                mime_type: mime,
                data: base64,
            }),
            ..Piece::default()
        }),
        MediaSource::Url { url, mime } => Some(Piece {
            file_data: Some(File {
                mime_type: mime.as_deref(),
                file_uri: url,
            }),
            ..Piece::default()
        }),
        MediaSource::Stored(_) => None,
    }
}

const fn reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::Done | Stop::Calls | Stop::Sequence(_) => "STOP",
        Stop::Length => "MAX_TOKENS",
        Stop::Filter => "SAFETY",
    }
}

impl<'a> Candidate<'a> {
    fn of(parts: Vec<Piece<'a>>) -> Self {
        Self {
            content: Some(Content { parts, role: "model" }),
            ..Self::default()
        }
    }
}

impl<'a> Cited<'a> {
    fn of(citation: &'a Citation) -> Self {
        Self {
            start_index: citation.span.map(|(start, _)| start),
            end_index: citation.span.map(|(_, end)| end),
            uri: citation.url.as_deref(),
            title: citation.title.as_deref(),
        }
    }
}

impl Used {
    fn of(usage: Usage) -> Self {
        let told = |count: crate::Tokens| Some(count.get()).filter(|count| *count > 0);
        Self {
            prompt_token_count: usage.input.get(),
            candidates_token_count: usage.output.saturating_sub(usage.reasoning).get(),
            total_token_count: usage.input.saturating_add(usage.output).get(),
            cached_content_token_count: told(usage.cached),
            thoughts_token_count: told(usage.reasoning),
        }
    }
}
