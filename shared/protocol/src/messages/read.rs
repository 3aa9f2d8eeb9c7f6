//! Reads a vendor's answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Error, Told};
use crate::codec::ReadAnswer;
use crate::codec::bounded::{Events, Few, text};
use crate::event::{Cause, Event, Failure, Opened, Stop};
use crate::lane::VendorWire;
use crate::sse::long::frame::Flows;
use crate::turn::{CallName, Citation, Foreign, Json, Opaque};

const OWN: VendorWire = VendorWire::Messages;

/// Reads a stream of `message_start` … `message_stop`, or one message. Holds the reason of the end and the input of one
/// call, as far as it came at once.
#[derive(Default)]
pub(crate) struct Reader {
    /// The number of the block that is open.
    open: Option<u64>,
    /// The input of a call that came whole with its beginning, until it is known that no more of it comes.
    input: Option<String>,
    stop: Option<Stop>,
    /// Why the vendor will not go on, in its words.
    explanation: Option<String>,
}

#[derive(Deserialize)]
struct Happening<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    delta: Option<Delta>,
    error: Option<Error>,
}

/// More of a block, or the end of the message.
#[derive(Deserialize)]
struct Delta {
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
    #[serde(default, deserialize_with = "text")]
    partial_json: Option<String>,
    #[serde(default, deserialize_with = "text")]
    thinking: Option<String>,
    #[serde(default, deserialize_with = "text")]
    signature: Option<String>,
    citation: Option<Cited>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    stop_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    explanation: Option<String>,
}

/// A block as it begins, or whole.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
    citations: Option<Few<Cited>>,
    #[serde(default, deserialize_with = "text")]
    thinking: Option<String>,
    #[serde(default, deserialize_with = "text")]
    signature: Option<String>,
    #[serde(default, deserialize_with = "text")]
    data: Option<String>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Cited {
    url: Option<String>,
    source: Option<String>,
    title: Option<String>,
    document_title: Option<String>,
    cited_text: Option<String>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Vec<&'a RawValue>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    stop_details: Option<Details>,
}

/// What an event says bit by bit.
const FLOWS: Flows = Flows {
    texts: &[&["delta", "text"], &["delta", "partial_json"], &["delta", "thinking"]],
    values: &[],
    marks: &["type", "index"],
    needs: Some("type"),
};

impl ReadAnswer for Reader {
    fn flows(&self) -> Flows {
        FLOWS
    }

    fn event(&mut self, data: &[u8], out: &mut Events) {
        let Ok(happening) = serde_json::from_slice::<Happening<'_>>(data) else {
            out.push(senseless("The upstream sent an event that makes no sense."));
            return;
        };
        match happening.kind.as_ref() {
            "message_start" => out.push(Event::Begin),
            "content_block_start" => {
                self.close(out);
                self.open = Some(happening.index);
                if let Some(block) = happening.content_block {
                    self.block(block, out);
                }
            }
            "content_block_delta" if self.open == Some(happening.index) => {
                if let Some(delta) = happening.delta {
                    self.delta(delta, out);
                }
            }
            // What belongs to another part than the open one would be said of the wrong one.
            "content_block_delta" => out.push(senseless("The upstream's events are out of order.")),
            "content_block_stop" if self.open == Some(happening.index) => self.close(out),
            "message_delta" => {
                if let Some(delta) = happening.delta {
                    self.ending(delta.stop_reason, delta.stop_sequence, delta.stop_details);
                }
            }
            "message_stop" => self.stop(out),
            "error" => out.push(Event::Fail(told(happening.error))),
            // Pings, and events that are to come.
            _ => {}
        }
    }

    fn end(&mut self, _: &mut Events) {}

    fn whole(&mut self, body: &[u8], out: &mut Events) {
        if let Ok(Told { error: Some(error) }) = serde_json::from_slice(body) {
            out.push(Event::Fail(error.failure()));
            return;
        }
        let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else {
            out.push(senseless("The upstream sent an answer that makes no sense."));
            return;
        };
        out.push(Event::Begin);
        for block in message.content {
            self.block(block, out);
            self.close(out);
        }
        self.ending(message.stop_reason, message.stop_sequence, message.stop_details);
        self.stop(out);
    }
}

impl Reader {
    /// A block begins, with what it has already.
    fn block(&mut self, raw: &RawValue, out: &mut Events) {
        let Ok(block) = serde_json::from_str::<Block<'_>>(raw.get()) else {
            out.push(senseless("The upstream sent a block that makes no sense."));
            return;
        };
        let opened = match block.kind.as_ref() {
            "text" => Opened::Text,
            "thinking" => Opened::Reasoning { is_redacted: false },
            "redacted_thinking" => Opened::Reasoning { is_redacted: true },
            "tool_use" => match (block.id, block.name) {
                (Some(id), Some(name)) if !id.is_empty() => Opened::Call {
                    id,
                    name: CallName::plain(name),
                    is_custom: false,
                    opaque: None,
                },
                (Some(_) | None, _) => {
                    out.push(senseless("The upstream called a tool without a name."));
                    return;
                }
            },
            _ => Opened::Foreign(Foreign {
                wire: OWN,
                json: Json::from(raw),
                path: String::new(),
            }),
        };
        out.push(Event::Open(opened));
        out.extend(
            block
                .text
                .or(block.thinking)
                .filter(|text| !text.is_empty())
                .map(Event::Delta),
        );
        let signs = block.signature.or(block.data).filter(|sign| !sign.is_empty());
        out.extend(signs.map(|sign| Event::Sign(own(sign))));
        out.extend(
            block
                .citations
                .into_iter()
                .flatten()
                .map(|cited| Event::Cite(cited.into())),
        );
        self.input = block
            .input
            .map(|input| input.get().to_owned())
            .filter(|input| input != "{}");
    }

    fn delta(&mut self, delta: Delta, out: &mut Events) {
        if let Some(json) = delta.partial_json.filter(|json| !json.is_empty()) {
            self.input = None;
            out.push(Event::Delta(json));
        }
        out.extend(delta.text.or(delta.thinking).map(Event::Delta));
        out.extend(delta.signature.map(|sign| Event::Sign(own(sign))));
        out.extend(delta.citation.map(|cited| Event::Cite(cited.into())));
    }

    fn close(&mut self, out: &mut Events) {
        out.extend(self.input.take().map(Event::Delta));
        self.open = None;
        out.push(Event::Close);
    }

    fn ending(&mut self, reason: Option<String>, sequence: Option<String>, details: Option<Details>) {
        let is_short = |words: &String| words.len() <= LONGEST_WORDS;
        self.explanation = details.and_then(|details| details.explanation).filter(is_short);
        let stop = match reason.as_deref() {
            None => return,
            Some("tool_use") => Stop::Calls,
            Some("max_tokens" | "model_context_window_exceeded") => Stop::Length,
            Some("stop_sequence") => Stop::Sequence(sequence.filter(is_short)),
            Some("refusal") => Stop::Filter,
            Some(_) => Stop::Done,
        };
        self.stop = Some(stop);
    }

    /// The message is whole. Until then a reason to end is none: the body may be cut after it.
    fn stop(&mut self, out: &mut Events) {
        if self.open.is_some() {
            self.close(out);
        }
        if let Some(words) = self.explanation.take().filter(|words| !words.is_empty()) {
            out.extend([Event::Open(Opened::Refusal), Event::Delta(words), Event::Close]);
        }
        out.push(Event::Stop(self.stop.take().unwrap_or(Stop::Done)));
        out.push(Event::End);
    }
}

/// Of what stands at the end and is kept until it: nobody explains more, nor names a longer text to end with.
const LONGEST_WORDS: usize = 16 << 10;

fn own(data: String) -> Opaque {
    Opaque { wire: OWN, data }
}

impl From<Cited> for Citation {
    fn from(cited: Cited) -> Self {
        Self {
            url: cited.url.or(cited.source),
            title: cited.title.or(cited.document_title),
            quote: cited.cited_text,
            span: None,
        }
    }
}

fn told(error: Option<Error>) -> Failure {
    error.map_or_else(
        || Failure {
            cause: Cause::Vendor,
            message: String::new(),
        },
        Error::failure,
    )
}

fn senseless(message: &str) -> Event {
    Event::Fail(Failure {
        cause: Cause::Vendor,
        message: message.to_owned(),
    })
}
