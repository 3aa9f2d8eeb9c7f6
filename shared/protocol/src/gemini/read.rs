//! Reads a vendor's answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Error, OWN};
use crate::codec::ReadAnswer;
use crate::codec::bounded::{Events, Few, Numbered, first, some_text, text};
use crate::event::{Cause, Event, Failure, Opened, Stop};
use crate::sse::long::frame::Flows;
use crate::turn::{CallName, Citation, Foreign, Json, Media, MediaKind, MediaSource, Opaque};

/// Reads chunks of a stream, or one answer, which is one chunk. Holds counts alone.
pub(crate) struct Reader {
    /// Of this call: ids of calls are made of it where the vendor gives none.
    id: String,
    open: Kind,
    /// Calls so far: some come without an id.
    calls: u32,
    is_over: bool,
}

/// What the open part is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Text,
    Thought,
    /// A call whose arguments come in pieces.
    Call,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "first")]
    candidates: Option<Candidate<'a>>,
    prompt_feedback: Option<Feedback>,
    error: Option<Error>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow)]
    content: Option<Content<'a>>,
    finish_reason: Option<String>,
    finish_message: Option<String>,
    citation_metadata: Option<Citations>,
    grounding_metadata: Option<Grounding>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Few<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
    #[serde(default)]
    thought: bool,
    #[serde(default, deserialize_with = "text")]
    thought_signature: Option<String>,
    /// It is the rest of a text that was cut.
    #[serde(default, rename = "\u{fdd0}on")]
    goes_on: bool,
    #[serde(borrow)]
    function_call: Option<Called<'a>>,
    inline_data: Option<Blob>,
    file_data: Option<File>,
}

#[derive(Deserialize)]
struct Called<'a> {
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    /// In their place some of them, where they are too long for one event.
    #[serde(default, rename = "\u{fdd0}piece", deserialize_with = "text")]
    piece: Option<String>,
    #[serde(default, rename = "\u{fdd0}last")]
    is_last: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    mime_type: String,
    #[serde(deserialize_with = "some_text")]
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    mime_type: Option<String>,
    file_uri: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<String>,
    block_reason_message: Option<String>,
}

#[derive(Deserialize)]
struct Citations {
    #[serde(default)]
    citations: Few<Cited>,
}

#[derive(Deserialize)]
struct Cited {
    uri: Option<String>,
    title: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding {
    #[serde(default)]
    grounding_chunks: Few<Ground>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ground {
    web: Option<Cited>,
    retrieved_context: Option<Cited>,
}

/// What a chunk says bit by bit.
const FLOWS: Flows = Flows {
    texts: &[&["candidates", "*", "content", "parts", "*", "text"]],
    values: &[&["candidates", "*", "content", "parts", "*", "functionCall", "args"]],
    marks: &["thought"],
    needs: None,
};

impl ReadAnswer for Reader {
    fn flows(&self) -> Flows {
        FLOWS
    }

    fn event(&mut self, data: &[u8], out: &mut Events) {
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
            out.push(failed("The upstream sent a chunk that makes no sense."));
            return;
        };
        if let Some(error) = chunk.error {
            out.push(Event::Fail(error.failure(500)));
            return;
        }
        // Of several answers the first is the one that was asked for.
        if let Some(candidate) = chunk.candidates {
            self.candidate(candidate, out);
        }
        if let Some(reason) = chunk.prompt_feedback.filter(|feedback| feedback.block_reason.is_some()) {
            if let Some(words) = reason.block_reason_message {
                out.extend([Event::Open(Opened::Refusal), Event::Delta(words), Event::Close]);
            }
            self.is_over = true;
            out.push(Event::Stop(Stop::Filter));
        }
    }

    /// Nothing but the end of the body says that a chunk was the last.
    fn end(&mut self, out: &mut Events) {
        if self.is_over {
            out.push(Event::End);
        }
    }

    fn whole(&mut self, body: &[u8], out: &mut Events) {
        match serde_json::from_slice::<Vec<&RawValue>>(body) {
            Ok(chunks) => chunks.iter().for_each(|chunk| self.event(chunk.get().as_bytes(), out)),
            Err(_) => self.event(body, out),
        }
        self.end(out);
    }
}

impl Reader {
    /// For one answer.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            open: Kind::Nothing,
            calls: 0,
            is_over: false,
        }
    }

    fn candidate(&mut self, candidate: Candidate<'_>, out: &mut Events) {
        for raw in candidate.content.into_iter().flat_map(|content| content.parts) {
            match serde_json::from_str::<Part<'_>>(raw.get()) {
                Ok(part) => self.part(part, raw, out),
                Err(_) => out.push(failed("The upstream sent a part that makes no sense.")),
            }
        }
        let cited = candidate
            .citation_metadata
            .into_iter()
            .flat_map(|cited| cited.citations);
        let grounds = candidate
            .grounding_metadata
            .into_iter()
            .flat_map(|ground| ground.grounding_chunks);
        let grounds = grounds.filter_map(|ground| ground.web.or(ground.retrieved_context));
        out.extend(cited.chain(grounds).map(|cited| Event::Cite(cited.into())));
        if let Some(reason) = candidate.finish_reason {
            self.is_over = true;
            out.push(finished(&reason, candidate.finish_message));
        }
    }

    fn part(&mut self, part: Part<'_>, raw: &RawValue, out: &mut Events) {
        let sign = part.thought_signature.filter(|sign| !sign.is_empty());
        if part.goes_on && part.thought != (self.open == Kind::Thought) {
            // What was told of it as a text is none: it stands after a long one that it is a thought.
            out.push(failed(
                "The upstream sent more of a thought at once than can be told in a stream.",
            ));
            return;
        }
        if let Some(text) = part.text {
            self.text(text, part.thought, out);
            if part.thought {
                out.extend(sign.map(|data| Event::Sign(Opaque { wire: OWN, data })));
            }
            return;
        }
        let opened = if let Some(called) = part.function_call {
            self.call(called, sign, out);
            return;
        } else if let Some(blob) = part.inline_data {
            let source = MediaSource::Data {
                mime: blob.mime_type,
                base64: blob.data,
            };
            Opened::Media(media(source))
        } else if let Some(file) = part.file_data {
            let source = MediaSource::Url {
                url: file.file_uri,
                mime: file.mime_type,
            };
            Opened::Media(media(source))
        } else {
            Opened::Foreign(Foreign {
                wire: OWN,
                json: Json::from(raw),
                path: String::new(),
            })
        };
        out.push(Event::Open(opened));
        self.close(out);
    }

    fn call(&mut self, called: Called<'_>, sign: Option<String>, out: &mut Events) {
        let goes_on = called.piece.is_some() && self.open == Kind::Call;
        if !goes_on {
            self.calls += 1;
            let Some(name) = called.name.filter(|name| !name.is_empty()) else {
                out.push(failed("The upstream called a tool without a name."));
                return;
            };
            let id = called.id.filter(|id| !id.is_empty());
            let id = id.unwrap_or_else(|| format!("call_{}_{}", self.id, self.calls));
            out.push(Event::Open(Opened::Call {
                id,
                name: CallName::plain(name),
                is_custom: false,
                opaque: sign.map(|data| Opaque { wire: OWN, data }),
            }));
        }
        let is_cut = called.piece.is_some() && !called.is_last;
        let whole = called.args.map(|args| args.get().to_owned());
        out.extend(called.piece.or(whole).map(Event::Delta));
        if is_cut {
            self.open = Kind::Call;
        } else {
            self.close(out);
        }
    }

    /// Pieces of one text come in many parts.
    fn text(&mut self, text: String, is_thought: bool, out: &mut Events) {
        let kind = if is_thought { Kind::Thought } else { Kind::Text };
        // The last chunk has an empty text where there is nothing more to say.
        if text.is_empty() && (self.open != kind && !is_thought) {
            return;
        }
        if self.open != kind {
            self.open = kind;
            out.push(Event::Open(match kind {
                Kind::Thought => Opened::Reasoning { is_redacted: false },
                Kind::Text | Kind::Call | Kind::Nothing => Opened::Text,
            }));
        }
        if !text.is_empty() {
            out.push(Event::Delta(text));
        }
    }

    fn close(&mut self, out: &mut Events) {
        self.open = Kind::Nothing;
        out.push(Event::Close);
    }
}

fn media(source: MediaSource) -> Media {
    let mime = match &source {
        MediaSource::Data { mime, .. } => Some(mime.as_str()),
        MediaSource::Url { mime, .. } => mime.as_deref(),
        MediaSource::Stored(_) => None,
    };
    let kind = match mime.and_then(|mime| mime.split('/').next()) {
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        Some("application" | "text") => MediaKind::File,
        Some(_) | None => MediaKind::Image,
    };
    Media {
        kind,
        source,
        name: None,
        detail: None,
    }
}

/// Why a candidate ended. A call that the vendor itself could not read is no answer.
fn finished(reason: &str, message: Option<String>) -> Event {
    Event::Stop(match reason {
        "MAX_TOKENS" => Stop::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Stop::Filter,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
            return failed(
                message
                    .as_deref()
                    .unwrap_or("The upstream's model made a call that cannot be read."),
            );
        }
        _ => Stop::Done,
    })
}

impl Numbered for Candidate<'_> {
    fn number(&self) -> u32 {
        self.index
    }
}

impl From<Cited> for Citation {
    fn from(cited: Cited) -> Self {
        Self {
            url: cited.uri,
            title: cited.title,
            ..Self::default()
        }
    }
}

fn failed(message: &str) -> Event {
    Event::Fail(Failure {
        cause: Cause::Vendor,
        message: message.to_owned(),
    })
}
