//! A vendor's answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::codec::bounded::{self, Events, Few, Numbered, first, text};
use crate::codec::{ReadAnswer, openai};
use crate::event::{Cause, Event, Failure, Opened, Stop};
use crate::sse::long::frame::Flows;
use crate::turn::{CallName, Citation};

/// Reads one answer. Of several choices the first is read: no other wire asks for more.
pub(crate) struct Reader {
    /// For calls that have no id.
    id: String,
    now: Now,
    /// How many calls were begun.
    calls: u32,
}

/// The part that is open.
#[derive(PartialEq, Eq)]
enum Now {
    Nothing,
    Text,
    Refusal,
    Reasoning,
    /// A call, and its index where the vendor numbers them.
    Call(Option<u32>, String),
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "first")]
    choices: Option<Choice<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    message: Option<Delta<'a>>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "text")]
    refusal: Option<String>,
    #[serde(default, deserialize_with = "text")]
    reasoning_content: Option<String>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Few<ToolCall<'a>>>,
    annotations: Option<Few<Annotation>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    index: Option<u32>,
    id: Option<String>,
    #[serde(borrow)]
    function: Option<Called<'a>>,
    #[serde(borrow)]
    custom: Option<Called<'a>>,
}

#[derive(Deserialize)]
struct Called<'a> {
    name: Option<String>,
    /// A text; of some vendors the object itself.
    #[serde(alias = "input", borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Annotation {
    url_citation: Option<UrlCitation>,
}

#[derive(Deserialize)]
struct UrlCitation {
    url: Option<String>,
    title: Option<String>,
    start_index: Option<u64>,
    end_index: Option<u64>,
}

/// A part of content that is a list: Mistral's.
#[derive(Deserialize)]
struct Piece {
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
}

impl Reader {
    /// A reader of the answer to the call `id`.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            now: Now::Nothing,
            calls: 0,
        }
    }

    fn chunk(&mut self, data: &[u8], out: &mut Events) {
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
            return out.push(unreadable());
        };
        if let Some(error) = chunk.error.filter(|error| error.get() != "null") {
            return out.push(Event::Fail(openai::error_object(None, error.get())));
        }
        out.push(Event::Begin);
        if let Some(choice) = chunk.choices {
            if let Some(delta) = choice.delta.or(choice.message) {
                self.delta(delta, out);
            }
            // Some vendors say an empty one until there is a reason.
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.close(out);
                out.push(Event::Stop(stop(&reason)));
            }
        }
    }

    fn delta(&mut self, delta: Delta<'_>, out: &mut Events) {
        let thought = delta.reasoning_content.or_else(|| text_of(delta.reasoning?));
        if let Some(text) = thought {
            self.text(Now::Reasoning, text, out);
        }
        if let Some(text) = delta.content.and_then(text_of) {
            self.text(Now::Text, text, out);
        }
        for annotation in delta.annotations.into_iter().flatten() {
            if let Some(cited) = annotation.url_citation {
                out.push(Event::Cite(cited.citation()));
            }
        }
        if let Some(text) = delta.refusal {
            self.text(Now::Refusal, text, out);
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(call, out);
        }
    }

    fn text(&mut self, part: Now, text: String, out: &mut Events) {
        if text.is_empty() {
            return;
        }
        if self.now != part {
            self.close(out);
            out.push(Event::Open(match part {
                Now::Refusal => Opened::Refusal,
                Now::Reasoning => Opened::Reasoning { is_redacted: false },
                Now::Text | Now::Call(..) | Now::Nothing => Opened::Text,
            }));
            self.now = part;
        }
        out.push(Event::Delta(text));
    }

    fn call(&mut self, call: ToolCall<'_>, out: &mut Events) {
        let is_custom = call.custom.is_some();
        let Some(called) = call.function.or(call.custom) else {
            return;
        };
        let id = call.id.filter(|id| !id.is_empty());
        let name = called.name.filter(|name| !name.is_empty());
        if !self.goes_on(call.index, id.as_deref(), name.is_some()) {
            let Some(name) = name else {
                // More of a call that was closed: there is no way to put it where it belongs.
                return out.push(interleaved());
            };
            self.close(out);
            self.calls += 1;
            let id = id.unwrap_or_else(|| format!("call_{}_{}", self.id, self.calls));
            self.now = Now::Call(call.index, id.clone());
            out.push(Event::Open(Opened::Call {
                id,
                name: CallName::plain(name),
                is_custom,
                opaque: None,
            }));
        }
        if let Some(arguments) = called.arguments {
            let text = bounded::text_of(arguments);
            out.push(Event::Delta(text.unwrap_or_else(|| arguments.get().to_owned())));
        }
    }

    /// Whether a piece belongs to the call that is open. Some vendors number all calls 0, some do not number them, some give
    /// each piece another id: one with a name and another id begins a call, as does one with a name and nothing else.
    fn goes_on(&self, index: Option<u32>, id: Option<&str>, is_named: bool) -> bool {
        let Now::Call(open_index, open) = &self.now else {
            return false;
        };
        let is_other = is_named && id.is_some_and(|id| id != open);
        match (open_index, index) {
            (Some(open), Some(index)) => *open == index && !is_other,
            _ => id.map_or(!is_named, |id| id == open),
        }
    }

    fn close(&mut self, out: &mut Events) {
        if self.now != Now::Nothing {
            self.now = Now::Nothing;
            out.push(Event::Close);
        }
    }
}

/// What a chunk says bit by bit. Some vendors say all at once, and in place of the delta a message.
const FLOWS: Flows = Flows {
    texts: &[
        &["choices", "*", "delta", "content"],
        &["choices", "*", "delta", "content", "*", "text"],
        &["choices", "*", "delta", "refusal"],
        &["choices", "*", "delta", "reasoning_content"],
        &["choices", "*", "delta", "reasoning"],
        &["choices", "*", "delta", "tool_calls", "*", "function", "arguments"],
        &["choices", "*", "delta", "tool_calls", "*", "custom", "input"],
        &["choices", "*", "message", "content"],
        &["choices", "*", "message", "reasoning_content"],
        &["choices", "*", "message", "tool_calls", "*", "function", "arguments"],
    ],
    values: &[],
    marks: &["index"],
    needs: None,
};

impl ReadAnswer for Reader {
    fn flows(&self) -> Flows {
        FLOWS
    }

    fn event(&mut self, data: &[u8], out: &mut Events) {
        if data.trim_ascii() == b"[DONE]" {
            out.push(Event::End);
        } else {
            self.chunk(data, out);
        }
    }

    fn end(&mut self, _out: &mut Events) {}

    fn whole(&mut self, body: &[u8], out: &mut Events) {
        self.chunk(body, out);
        out.push(Event::End);
    }
}

impl Numbered for Choice<'_> {
    fn number(&self) -> u32 {
        self.index
    }
}

impl UrlCitation {
    fn citation(self) -> Citation {
        Citation {
            url: self.url,
            title: self.title,
            quote: None,
            span: self.start_index.zip(self.end_index),
        }
    }
}

/// A text, or the texts of a list.
fn text_of(raw: &RawValue) -> Option<String> {
    let content = raw.get();
    if content.starts_with('"') {
        return bounded::text_of(raw);
    }
    let pieces: Few<Piece> = serde_json::from_str(content).ok()?;
    Some(pieces.into_iter().filter_map(|piece| piece.text).collect())
}

fn stop(reason: &str) -> Stop {
    match reason {
        "length" => Stop::Length,
        "tool_calls" | "function_call" => Stop::Calls,
        "content_filter" => Stop::Filter,
        _ => Stop::Done,
    }
}

fn unreadable() -> Event {
    Event::Fail(Failure {
        cause: Cause::Vendor,
        message: "The upstream sent an event that cannot be read.".to_owned(),
    })
}

fn interleaved() -> Event {
    Event::Fail(Failure {
        cause: Cause::Vendor,
        message: "The upstream went on with a tool call after it had begun another.".to_owned(),
    })
}
