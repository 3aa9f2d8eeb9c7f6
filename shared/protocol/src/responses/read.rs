//! A vendor's answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::VendorWire;
use crate::codec::bounded::{Events, Few, text, text_of};
use crate::codec::{ReadAnswer, openai};
use crate::event::{Cause, Event, Failure, Opened, Stop};
use crate::sse::long::frame::Flows;
use crate::turn::{CallName, Citation, Media, MediaKind, MediaSource, Opaque};

/// Reads one answer.
#[derive(Default)]
pub(crate) struct Reader {
    now: Now,
    /// The last item that was begun: they come in order.
    item: Option<u64>,
    /// The open part has said something.
    has_text: bool,
    /// A summary of the open thought is over.
    has_paragraph: bool,
    /// The open call is said in full, though its item may not be over.
    is_said: bool,
    /// Events of other items that came while a call was open: their turn is when it is over.
    waiting: Vec<(Option<u64>, Vec<u8>)>,
}

/// The part that is open.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Now {
    #[default]
    Nothing,
    Text,
    Refusal,
    Reasoning,
    Call,
}

#[derive(Deserialize)]
struct Message<'a> {
    r#type: &'a str,
    output_index: Option<u64>,
    #[serde(default, deserialize_with = "text")]
    delta: Option<String>,
    /// Of a call, once it is said.
    #[serde(default, deserialize_with = "text")]
    arguments: Option<String>,
    #[serde(default, deserialize_with = "text")]
    input: Option<String>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    part: Option<&'a RawValue>,
    #[serde(borrow)]
    annotation: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    output: Few<&'a RawValue>,
    status: Option<String>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    incomplete_details: Option<Incomplete>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Item<'a> {
    #[serde(default)]
    r#type: String,
    #[serde(borrow, default)]
    content: Option<Few<&'a RawValue>>,
    summary: Option<Few<Summary>>,
    #[serde(default, deserialize_with = "text")]
    encrypted_content: Option<String>,
    call_id: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    arguments: Option<String>,
    #[serde(default, deserialize_with = "text")]
    input: Option<String>,
    /// Of a picture that was made: base64.
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    output_format: Option<String>,
}

#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    r#type: String,
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
    #[serde(default, deserialize_with = "text")]
    refusal: Option<String>,
    annotations: Option<Few<Annotation>>,
}

#[derive(Deserialize)]
struct Summary {
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
}

#[derive(Deserialize)]
struct Annotation {
    url: Option<String>,
    title: Option<String>,
    start_index: Option<u64>,
    end_index: Option<u64>,
}

impl Reader {
    fn message(&mut self, mut message: Message<'_>, out: &mut Events) {
        match message.r#type {
            "response.created" | "response.in_progress" | "response.queued" => out.push(Event::Begin),
            "response.output_item.added" => self.added(&message, out),
            "response.output_item.done" => self.item_done(&message, out),
            "response.content_part.added" => {
                if let Some(part) = message.part.and_then(parse::<Piece>) {
                    match part.r#type.as_str() {
                        "output_text" => self.open(Now::Text, Opened::Text, out),
                        "refusal" => self.open(Now::Refusal, Opened::Refusal, out),
                        _ => {}
                    }
                }
            }
            "response.output_text.delta" => self.delta(Now::Text, &mut message, out),
            "response.refusal.delta" => self.delta(Now::Refusal, &mut message, out),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                if self.has_paragraph && self.now == Now::Reasoning {
                    out.push(Event::Delta("\n\n".to_owned()));
                    self.has_paragraph = false;
                }
                self.delta(Now::Reasoning, &mut message, out);
            }
            "response.reasoning_summary_part.done" => self.has_paragraph = self.has_text,
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta"
                if self.now == Now::Call =>
            {
                self.delta(Now::Call, &mut message, out);
            }
            "response.function_call_arguments.done" | "response.custom_tool_call_input.done"
                if self.now == Now::Call && self.item == message.output_index =>
            {
                if !self.has_text {
                    let text = message.arguments.take().or_else(|| message.input.take());
                    self.has_text = text.is_some();
                    out.extend(text.map(Event::Delta));
                }
                self.is_said = true;
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = message.annotation.and_then(parse::<Annotation>) {
                    out.extend(annotation.event());
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => self.over(&message, out),
            "error" => out.push(Event::Fail(match message.error {
                Some(error) => openai::error_object(None, error.get()),
                None => failed(),
            })),
            _ => {}
        }
    }

    fn added(&mut self, message: &Message<'_>, out: &mut Events) {
        let Some(item) = message.item.and_then(parse::<Item<'_>>) else {
            return;
        };
        match item.r#type.as_str() {
            "reasoning" => self.open(Now::Reasoning, Opened::Reasoning { is_redacted: false }, out),
            "function_call" | "custom_tool_call" => match item.call() {
                Some(call) => self.open(Now::Call, call, out),
                None => return,
            },
            // Its parts open one by one.
            "message" => {}
            _ => return,
        }
        self.item = message.output_index.or(self.item);
    }

    /// What was not said bit by bit is said here.
    fn item_done(&mut self, message: &Message<'_>, out: &mut Events) {
        let Some(item) = message.item.and_then(parse::<Item<'_>>) else {
            return;
        };
        let is_open = self.item.is_some() && self.item == message.output_index;
        match (item.r#type.as_str(), self.now) {
            ("reasoning", Now::Reasoning) if is_open => {
                if !self.has_text {
                    out.extend(item.thought().map(Event::Delta));
                }
                out.extend(item.lock());
            }
            ("function_call" | "custom_tool_call", Now::Call) if is_open => {
                if !self.has_text {
                    out.extend(item.arguments.or(item.input).map(Event::Delta));
                }
            }
            ("message", Now::Text | Now::Refusal) if is_open && self.has_text => {}
            _ if is_open && self.now == Now::Nothing && item.r#type != "message" => return,
            _ => item.burst(out),
        }
        self.item = message.output_index.or(self.item);
        self.close(out);
    }

    fn delta(&mut self, part: Now, message: &mut Message<'_>, out: &mut Events) {
        let Some(text) = message.delta.take().filter(|text| !text.is_empty()) else {
            return;
        };
        if self.now != part {
            let opened = match part {
                Now::Refusal => Opened::Refusal,
                Now::Reasoning => Opened::Reasoning { is_redacted: false },
                Now::Text | Now::Call | Now::Nothing => Opened::Text,
            };
            self.open(part, opened, out);
            self.item = message.output_index.or(self.item);
        }
        self.has_text = true;
        out.push(Event::Delta(text));
    }

    fn open(&mut self, part: Now, opened: Opened, out: &mut Events) {
        self.close(out);
        self.now = part;
        out.push(Event::Open(opened));
    }

    fn close(&mut self, out: &mut Events) {
        if self.now != Now::Nothing {
            out.push(Event::Close);
        }
        self.now = Now::Nothing;
        self.has_text = false;
        self.has_paragraph = false;
        self.is_said = false;
    }

    /// A call is open that more may come of.
    fn is_busy(&self) -> bool {
        self.now == Now::Call && !self.is_said
    }

    /// Whether an event is of another item than the call that is open, or of one whose events wait.
    fn must_wait(&self, index: Option<u64>) -> bool {
        let is_other = index.is_some() && self.item != index;
        self.is_busy() && is_other || index.is_some() && self.waiting.iter().any(|(of, _)| *of == index)
    }

    fn wait(&mut self, index: Option<u64>, data: &[u8], out: &mut Events) {
        let held: usize = self.waiting.iter().map(|(_, data)| data.len() + AROUND).sum();
        if held + data.len() + AROUND > MOST_WAITING {
            out.push(Event::Fail(Failure {
                cause: Cause::Vendor,
                message: "The upstream mixed its calls of tools.".to_owned(),
            }));
            return;
        }
        self.waiting.push((index, data.to_vec()));
    }

    /// Reads what has waited, as far as it need not wait longer.
    fn catch_up(&mut self, out: &mut Events) {
        for (_, data) in std::mem::take(&mut self.waiting) {
            self.read(&data, out);
        }
    }

    fn read(&mut self, data: &[u8], out: &mut Events) {
        let message = match serde_json::from_slice::<Message<'_>>(data) {
            Ok(message) => message,
            // Some end their streams as those of chat end.
            Err(_) if data.trim_ascii() == b"[DONE]" => return,
            Err(_) => return out.push(unreadable()),
        };
        if self.must_wait(message.output_index) {
            return self.wait(message.output_index, data, out);
        }
        if message.r#type == "error" && message.error.is_none() {
            // OpenAI's own is the error itself.
            let error = std::str::from_utf8(data).unwrap_or_default();
            return out.push(Event::Fail(openai::error_object(None, error)));
        }
        self.message(message, out);
    }

    fn over(&mut self, message: &Message<'_>, out: &mut Events) {
        while !self.waiting.is_empty() {
            self.close(out);
            self.catch_up(out);
        }
        match message.response.and_then(parse::<Response<'_>>) {
            Some(response) => self.response(response, out),
            None => out.push(unreadable()),
        }
    }

    fn response(&mut self, response: Response<'_>, out: &mut Events) {
        self.close(out);
        if let Some(error) = response.error.filter(|error| error.get() != "null") {
            return out.push(Event::Fail(openai::error_object(None, error.get())));
        }
        let stop = match response.status.as_deref() {
            Some("failed" | "cancelled") => return out.push(Event::Fail(failed())),
            Some("incomplete") => match response.incomplete_details.and_then(|why| why.reason).as_deref() {
                Some("content_filter") => Stop::Filter,
                Some(_) | None => Stop::Length,
            },
            Some(_) | None => Stop::Done,
        };
        // A vendor that streams nothing but the end, and a whole answer.
        if self.item.is_none() {
            for item in response.output.iter().filter_map(|item| parse::<Item<'_>>(item)) {
                item.burst(out);
            }
        }
        out.push(Event::Stop(stop));
        out.push(Event::End);
    }
}

/// What an event says bit by bit.
const FLOWS: Flows = Flows {
    texts: &[&["delta"]],
    values: &[],
    marks: &["type", "output_index"],
    needs: Some("type"),
};

impl ReadAnswer for Reader {
    fn flows(&self) -> Flows {
        FLOWS
    }

    fn event(&mut self, data: &[u8], out: &mut Events) {
        self.read(data, out);
        // One that waited may open a call for which others wait.
        while !self.waiting.is_empty() && !self.is_busy() {
            self.catch_up(out);
        }
    }

    fn end(&mut self, _out: &mut Events) {}

    fn whole(&mut self, body: &[u8], out: &mut Events) {
        match serde_json::from_slice::<Response<'_>>(body) {
            Ok(response) => self.response(response, out),
            Err(_) => out.push(unreadable()),
        }
    }
}

impl Item<'_> {
    /// All of it at once.
    fn burst(self, out: &mut Events) {
        match self.r#type.as_str() {
            "message" => {
                let pieces = self.content.into_iter().flatten();
                pieces.filter_map(parse::<Piece>).for_each(|piece| piece.burst(out));
            }
            "reasoning" => {
                let text = self.thought();
                out.push(Event::Open(Opened::Reasoning {
                    is_redacted: text.is_none(),
                }));
                out.extend(text.map(Event::Delta));
                out.extend(self.lock());
                out.push(Event::Close);
            }
            "function_call" | "custom_tool_call" => {
                if let Some(call) = self.call() {
                    out.push(Event::Open(call));
                    out.extend(self.arguments.or(self.input).map(Event::Delta));
                    out.push(Event::Close);
                }
            }
            "image_generation_call" => {
                if let Some(media) = self.picture() {
                    out.push(Event::Open(Opened::Media(media)));
                    out.push(Event::Close);
                }
            }
            _ => {}
        }
    }

    fn call(&self) -> Option<Opened> {
        Some(Opened::Call {
            id: self.call_id.clone().filter(|id| !id.is_empty())?,
            name: CallName {
                namespace: self.namespace.clone(),
                name: self.name.clone()?,
            },
            is_custom: self.r#type == "custom_tool_call",
            opaque: None,
        })
    }

    /// What is shown of it: summaries, else the thought itself.
    fn thought(&self) -> Option<String> {
        let summaries = self
            .summary
            .iter()
            .flat_map(Few::iter)
            .filter_map(|piece| piece.text.clone());
        let mut texts: Vec<_> = summaries.collect();
        if texts.is_empty() {
            let content = self.content.iter().flat_map(Few::iter).copied();
            texts.extend(content.filter_map(parse::<Piece>).filter_map(|piece| piece.text));
        }
        let text = texts.join("\n\n");
        (!text.is_empty()).then_some(text)
    }

    fn lock(&self) -> Option<Event> {
        let data = self.encrypted_content.clone()?;
        let wire = VendorWire::Responses;
        Some(Event::Sign(Opaque { wire, data }))
    }

    fn picture(&self) -> Option<Media> {
        let base64 = text_of(self.result?)?;
        let format = self.output_format.as_deref().unwrap_or("png");
        Some(Media {
            kind: MediaKind::Image,
            source: MediaSource::Data {
                mime: format!("image/{format}"),
                base64,
            },
            name: None,
            detail: None,
        })
    }
}

impl Piece {
    fn burst(self, out: &mut Events) {
        let (opened, text) = match (self.text, self.refusal) {
            (Some(text), _) => (Opened::Text, text),
            (None, Some(refusal)) => (Opened::Refusal, refusal),
            (None, None) => return,
        };
        out.push(Event::Open(opened));
        out.push(Event::Delta(text));
        let annotations = self.annotations.into_iter().flatten();
        out.extend(annotations.filter_map(Annotation::event));
        out.push(Event::Close);
    }
}

impl Annotation {
    /// Those of files have no address that anybody else could follow.
    fn event(self) -> Option<Event> {
        Some(Event::Cite(Citation {
            url: Some(self.url?),
            title: self.title,
            quote: None,
            span: self.start_index.zip(self.end_index),
        }))
    }
}

/// So much is kept of items that are told within a call.
const MOST_WAITING: usize = 32 << 10;
/// What one of them takes beside its bytes, roughly.
const AROUND: usize = 64;

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn unreadable() -> Event {
    Event::Fail(Failure {
        cause: Cause::Vendor,
        message: "The upstream sent an event that cannot be read.".to_owned(),
    })
}

fn failed() -> Failure {
    Failure {
        cause: Cause::Vendor,
        message: "The upstream failed.".to_owned(),
    }
}
