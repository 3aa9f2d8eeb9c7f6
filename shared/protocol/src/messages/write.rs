//! Writes an answer for a client.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::call;
use crate::codec::{Outbox, Reply, WriteAnswer};
use crate::event::{Answer, AnswerPart, Event, Opened, Stop};
use crate::lane::VendorWire;
use crate::turn::{Citation, Media, MediaSource, Opaque};
use crate::usage::Usage;

const OWN: VendorWire = VendorWire::Messages;

/// Writes the events of one message, or one message. Holds counts, and the reason of the end until the end.
pub(crate) struct Writer {
    reply: Reply,
    /// The number of the next block.
    next: u64,
    open: Kind,
    refused: bool,
    stop: Stop,
    usage: Option<Usage>,
}

/// What the open block is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Text,
    Thinking,
    /// A hidden thought whose block waits for its lock: the wire says it at once.
    Hidden,
    Redacted,
    Call,
    /// A part that this wire has no block for.
    Skipped,
}

#[derive(Serialize)]
struct Message<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: Used,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        citations: Option<Vec<Cited<'a>>>,
    },
    Thinking {
        thinking: &'a str,
        signature: Cow<'a, str>,
    },
    RedactedThinking {
        data: Cow<'a, str>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Cow<'a, RawValue>,
    },
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: Cow<'a, str> },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
    #[serde(rename = "citations_delta")]
    Citations { citation: Cited<'a> },
}

/// A page, or a place in a document of the client's own.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Cited<'a> {
    WebSearchResultLocation {
        cited_text: &'a str,
        url: &'a str,
        title: Option<&'a str>,
        encrypted_index: &'static str,
    },
    CharLocation {
        cited_text: &'a str,
        document_index: u64,
        document_title: Option<&'a str>,
        start_char_index: u64,
        end_char_index: u64,
    },
}

/// Cumulative, and without what was cached: the wire counts that apart.
#[derive(Serialize, Default)]
struct Used {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Serialize)]
struct OutputDetails {
    thinking_tokens: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Happening<'a> {
    MessageStart { message: Message<'a> },
    ContentBlockStart { index: u64, content_block: Block<'a> },
    ContentBlockDelta { index: u64, delta: Delta<'a> },
    ContentBlockStop { index: u64 },
    MessageDelta { delta: Ending<'a>, usage: Used },
    MessageStop,
}

#[derive(Serialize)]
struct Ending<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

impl Happening<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }

    fn put(&self, out: &mut Outbox) {
        out.event(Some(self.name()), self);
    }
}

impl Writer {
    /// For one answer.
    pub(crate) const fn new(reply: Reply) -> Self {
        Self {
            reply,
            next: 0,
            open: Kind::Nothing,
            refused: false,
            stop: Stop::Done,
            usage: None,
        }
    }

    fn message<'a>(&'a self, content: Vec<Block<'a>>) -> Message<'a> {
        Message {
            id: format!("msg_{}", self.reply.id),
            kind: "message",
            role: "assistant",
            model: &self.reply.model,
            content,
            stop_reason: None,
            stop_sequence: None,
            usage: Used::default(),
        }
    }

    /// The number of the open block.
    const fn index(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    fn begin(&mut self, kind: Kind, block: Block<'_>, out: &mut Outbox) {
        self.open = kind;
        Happening::ContentBlockStart {
            index: self.next,
            content_block: block,
        }
        .put(out);
        self.next += 1;
    }

    fn open(&mut self, opened: &Opened, out: &mut Outbox) {
        match opened {
            Opened::Text | Opened::Refusal => {
                self.refused |= *opened == Opened::Refusal;
                self.begin(Kind::Text, text(""), out);
            }
            Opened::Reasoning { is_redacted: true } => self.open = Kind::Hidden,
            Opened::Reasoning { is_redacted: false } => {
                let block = Block::Thinking {
                    thinking: "",
                    signature: Cow::Borrowed(""),
                };
                self.begin(Kind::Thinking, block, out);
            }
            Opened::Call { id, name, opaque, .. } => {
                let block = Block::ToolUse {
                    id: Opaque::on_call(id, opaque.as_ref()).into(),
                    name: &name.name,
                    input: call::object(""),
                };
                self.begin(Kind::Call, block, out);
            }
            Opened::Media(media) => match shown(media) {
                Some(words) => {
                    self.begin(Kind::Text, text(""), out);
                    self.delta(Delta::Text { text: &words }, out);
                }
                None => self.open = Kind::Skipped,
            },
            Opened::Foreign(_) => self.open = Kind::Skipped,
        }
    }

    fn delta(&self, delta: Delta<'_>, out: &mut Outbox) {
        Happening::ContentBlockDelta {
            index: self.index(),
            delta,
        }
        .put(out);
    }

    fn sign(&mut self, opaque: &Opaque, out: &mut Outbox) {
        let sign = Cow::Owned(opaque.for_client(OWN));
        match self.open {
            Kind::Thinking => self.delta(Delta::Signature { signature: sign }, out),
            Kind::Hidden => self.begin(Kind::Redacted, Block::RedactedThinking { data: sign }, out),
            Kind::Nothing | Kind::Text | Kind::Redacted | Kind::Call | Kind::Skipped => {}
        }
    }

    fn close(&mut self, out: &mut Outbox) {
        match self.open {
            Kind::Nothing | Kind::Hidden | Kind::Skipped => {}
            Kind::Text | Kind::Thinking | Kind::Redacted | Kind::Call => {
                Happening::ContentBlockStop { index: self.index() }.put(out);
            }
        }
        self.open = Kind::Nothing;
    }

    fn end(&self, out: &mut Outbox) {
        let (stop_reason, stop_sequence) = reason(&self.stop, self.refused);
        Happening::MessageDelta {
            delta: Ending {
                stop_reason,
                stop_sequence,
            },
            usage: Used::of(self.usage),
        }
        .put(out);
        Happening::MessageStop.put(out);
    }
}

impl WriteAnswer for Writer {
    fn write(&mut self, event: Event, out: &mut Outbox) {
        match event {
            Event::Begin => {
                let message = self.message(Vec::new());
                Happening::MessageStart { message }.put(out);
            }
            Event::Open(opened) => self.open(&opened, out),
            Event::Delta(piece) => match self.open {
                Kind::Text => self.delta(Delta::Text { text: &piece }, out),
                Kind::Thinking => self.delta(Delta::Thinking { thinking: &piece }, out),
                Kind::Call => self.delta(Delta::InputJson { partial_json: &piece }, out),
                Kind::Hidden | Kind::Redacted | Kind::Nothing | Kind::Skipped => {}
            },
            Event::Cite(citation) if self.open == Kind::Text => {
                let citation = Cited::of(&citation);
                self.delta(Delta::Citations { citation }, out);
            }
            Event::Cite(_) => {}
            Event::Sign(opaque) => self.sign(&opaque, out),
            Event::Close => self.close(out),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => self.stop = stop,
            Event::End => self.end(out),
            Event::Fail(_) => {}
        }
    }

    fn whole(&mut self, answer: &Answer) -> Vec<u8> {
        let refused = answer.parts.iter().any(|part| matches!(part, AnswerPart::Refusal(_)));
        let (stop_reason, stop_sequence) = reason(&answer.stop, refused);
        let message = Message {
            stop_reason: Some(stop_reason),
            stop_sequence,
            usage: Used::of(answer.usage),
            ..self.message(answer.parts.iter().filter_map(block).collect())
        };
        serde_json::to_vec(&message).unwrap_or_default()
    }
}

fn block(part: &AnswerPart) -> Option<Block<'_>> {
    let kept = |opaque: &Option<Opaque>| opaque.as_ref().map(|opaque| opaque.for_client(OWN));
    match part {
        AnswerPart::Text(said) => Some(Block::Text {
            text: Cow::Borrowed(&said.text),
            citations: (!said.citations.is_empty()).then(|| said.citations.iter().map(Cited::of).collect()),
        }),
        AnswerPart::Refusal(words) => Some(text(words)),
        AnswerPart::Reasoning(reasoning) if reasoning.is_redacted => {
            kept(&reasoning.opaque).map(|data| Block::RedactedThinking { data: data.into() })
        }
        AnswerPart::Reasoning(reasoning) => Some(Block::Thinking {
            thinking: &reasoning.text,
            signature: kept(&reasoning.opaque).unwrap_or_default().into(),
        }),
        AnswerPart::Call { call, .. } => Some(Block::ToolUse {
            id: Opaque::on_call(&call.id, call.opaque.as_ref()).into(),
            name: &call.name.name,
            input: call::object(&call.arguments),
        }),
        AnswerPart::Media(media) => shown(media).map(|words| Block::Text {
            text: words.into(),
            citations: None,
        }),
        AnswerPart::Foreign(_) => None,
    }
}

const fn text(words: &str) -> Block<'_> {
    Block::Text {
        text: Cow::Borrowed(words),
        citations: None,
    }
}

/// A picture in the words of Markdown, as this wire has none in an answer.
fn shown(media: &Media) -> Option<String> {
    match &media.source {
        MediaSource::Data { mime, base64 } => Some(["![](data:", mime, ";base64,", base64, ")"].concat()),
        MediaSource::Url { url, .. } => Some(format!("![]({url})")),
        MediaSource::Stored(_) => None,
    }
}

fn reason(stop: &Stop, refused: bool) -> (&'static str, Option<&str>) {
    match stop {
        Stop::Done if refused => ("refusal", None),
        Stop::Done => ("end_turn", None),
        Stop::Calls => ("tool_use", None),
        Stop::Length => ("max_tokens", None),
        Stop::Sequence(sequence) => ("stop_sequence", sequence.as_deref()),
        Stop::Filter => ("refusal", None),
    }
}

impl<'a> Cited<'a> {
    fn of(citation: &'a Citation) -> Self {
        let cited_text = citation.quote.as_deref().unwrap_or_default();
        let title = citation.title.as_deref();
        match &citation.url {
            Some(url) => Self::WebSearchResultLocation {
                cited_text,
                url,
                title,
                encrypted_index: "",
            },
            None => Self::CharLocation {
                cited_text,
                document_index: 0,
                document_title: title,
                start_char_index: 0,
                end_char_index: 0,
            },
        }
    }
}

impl Used {
    fn of(usage: Option<Usage>) -> Self {
        let Some(usage) = usage else {
            return Self::default();
        };
        let plain = usage
            .input
            .saturating_sub(usage.cached)
            .saturating_sub(usage.cache_write);
        Self {
            input_tokens: plain.get(),
            cache_creation_input_tokens: usage.cache_write.get(),
            cache_read_input_tokens: usage.cached.get(),
            output_tokens: usage.output.get(),
            output_tokens_details: (usage.reasoning.get() > 0).then_some(OutputDetails {
                thinking_tokens: usage.reasoning.get(),
            }),
        }
    }
}
