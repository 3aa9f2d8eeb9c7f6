//! An answer for a client.

mod shape;

use std::sync::Arc;

use serde::Serialize;

use self::shape::{
    Annotation, Arguments, Cited, ContentPart, Creation, Delta, Item, ItemEvent, PartEvent, Piece, Response, Status,
    Summary, SummaryEvent, TextEvent, Words,
};
use super::compaction;
use crate::VendorWire;
use crate::codec::kept::{Span, Text};
use crate::codec::{Outbox, Reply, WriteAnswer};
use crate::event::{Answer, AnswerPart, Event, Opened, Stop};
use crate::turn::{Citation, Json, MediaSource, Opaque};
use crate::usage::Usage;

/// Writes one answer. All of it is told again at the end, and kept until then where it was written.
pub(crate) struct Writer {
    reply: Arc<Reply>,
    sequence: u64,
    /// The items that are over, as they will be told at the end.
    output: Vec<Span>,
    /// How many they are.
    index: usize,
    part: Option<Part>,
    /// The parts of the message that is open: texts that follow each other are one message.
    message: Vec<Span>,
    has_message: bool,
    usage: Option<Usage>,
    stop: Stop,
    /// The answer is a summary, which becomes one item however it is made.
    summary: Option<Text>,
}

/// The part that is open.
struct Part {
    /// What it is. What it says so far is kept.
    is: AnswerPart,
    text: Text,
    /// Where the text comes from.
    annotations: Vec<Span>,
}

impl Part {
    fn new(opened: Opened) -> Self {
        Self {
            is: AnswerPart::new(opened),
            text: Text::default(),
            annotations: Vec::new(),
        }
    }
}

impl Writer {
    /// A writer of one answer.
    pub(crate) fn new(reply: Reply) -> Self {
        Self {
            reply: Arc::new(reply),
            sequence: 0,
            output: Vec::new(),
            index: 0,
            part: None,
            message: Vec::new(),
            has_message: false,
            usage: None,
            stop: Stop::Done,
            summary: None,
        }
    }

    /// The answer is to be a compaction of the conversation.
    pub(crate) fn summing_up(mut self, is_summary: bool) -> Self {
        self.summary = is_summary.then(Text::default);
        self
    }

    fn event(&mut self, kind: &'static str, body: &impl Serialize, out: &mut Outbox) {
        let event = shape::Numbered {
            r#type: kind,
            sequence_number: self.sequence,
            body,
        };
        self.sequence += 1;
        out.event(Some(kind), &event);
    }

    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.reply.id, self.index)
    }

    fn begin(&mut self, out: &mut Outbox) {
        let reply = Arc::clone(&self.reply);
        for kind in ["response.created", "response.in_progress"] {
            let response = Response::new(&reply, Status::InProgress, &[], None);
            self.event(kind, &Creation { response: &response }, out);
        }
    }

    fn open(&mut self, opened: Opened, out: &mut Outbox) {
        let part = Part::new(opened);
        match &part.is {
            AnswerPart::Text(_) | AnswerPart::Refusal(_) => {
                self.open_message(out);
                let empty = ContentPart::<Span>::of(&part.is, NOTHING, Vec::new());
                self.part_event("response.content_part.added", &empty, out);
            }
            AnswerPart::Reasoning(_) | AnswerPart::Call { .. } => {
                self.close_message(out);
                let item: Item<'_, Span> = self.item(&part.is, None, Status::InProgress);
                self.item_event("response.output_item.added", &item, out);
            }
            AnswerPart::Media(_) | AnswerPart::Foreign(_) => self.close_message(out),
        }
        self.part = Some(part);
    }

    fn open_message(&mut self, out: &mut Outbox) {
        if !self.has_message {
            self.has_message = true;
            let item: Item<'_, Span> = Item::message(self.item_id("msg"), Status::InProgress, &[]);
            self.item_event("response.output_item.added", &item, out);
        }
    }

    fn close_message(&mut self, out: &mut Outbox) {
        if self.has_message {
            self.has_message = false;
            let content = std::mem::take(&mut self.message);
            let item = Item::message(self.item_id("msg"), Status::Completed, &content);
            self.item_done(&item, out);
        }
    }

    fn item_event(&mut self, kind: &'static str, item: &impl Serialize, out: &mut Outbox) {
        let output_index = self.index;
        self.event(kind, &ItemEvent { output_index, item }, out);
    }

    fn item_done(&mut self, item: &Item<'_, Span>, out: &mut Outbox) {
        let item = out.keep(item);
        self.item_event("response.output_item.done", &item, out);
        self.output.push(item);
        self.index += 1;
    }

    fn part_event(&mut self, kind: &'static str, part: &impl Serialize, out: &mut Outbox) {
        let event = PartEvent {
            item_id: &self.item_id("msg"),
            output_index: self.index,
            content_index: self.message.len(),
            part,
        };
        self.event(kind, &event, out);
    }

    fn delta(&mut self, delta: &str, out: &mut Outbox) {
        let Some(mut part) = self.part.take() else {
            return;
        };
        let (kind, prefix) = match &part.is {
            AnswerPart::Text(_) => ("response.output_text.delta", "msg"),
            AnswerPart::Refusal(_) => ("response.refusal.delta", "msg"),
            AnswerPart::Reasoning(_) => {
                if part.text.is_empty() {
                    self.summary_event("response.reasoning_summary_part.added", NOTHING, out);
                }
                ("response.reasoning_summary_text.delta", "rs")
            }
            AnswerPart::Call { is_custom: false, .. } => ("response.function_call_arguments.delta", "fc"),
            AnswerPart::Call { is_custom: true, .. } => ("response.custom_tool_call_input.delta", "ctc"),
            AnswerPart::Media(_) | AnswerPart::Foreign(_) => ("", ""),
        };
        if !kind.is_empty() {
            let event = Delta {
                item_id: &self.item_id(prefix),
                output_index: self.index,
                content_index: (prefix == "msg").then_some(self.message.len()),
                summary_index: (prefix == "rs").then_some(0),
                delta,
            };
            self.event(kind, &event, out);
        }
        out.grow(&mut part.text, delta);
        self.part = Some(part);
    }

    fn cite(&mut self, citation: &Citation, out: &mut Outbox) {
        let Some(annotation) = Annotation::of(citation) else {
            return;
        };
        let part = self.part.as_mut().filter(|part| matches!(part.is, AnswerPart::Text(_)));
        let kept = part.map(|part| {
            part.annotations.push(out.keep(&annotation));
            part.annotations.len() - 1
        });
        let event = Cited {
            item_id: &self.item_id("msg"),
            output_index: self.index,
            content_index: self.message.len(),
            annotation_index: kept.unwrap_or_default(),
            annotation,
        };
        self.event("response.output_text.annotation.added", &event, out);
    }

    fn summary_event(&mut self, kind: &'static str, text: Words<'_>, out: &mut Outbox) {
        let event = SummaryEvent {
            item_id: &self.item_id("rs"),
            output_index: self.index,
            summary_index: 0,
            part: Summary::SummaryText { text },
        };
        self.event(kind, &event, out);
    }

    fn close(&mut self, out: &mut Outbox) {
        let Some(Part { is, text, annotations }) = self.part.take() else {
            return;
        };
        match &is {
            AnswerPart::Text(_) | AnswerPart::Refusal(_) => {
                let text = Words::Kept(out.keep(&text));
                self.text_done(&is, text, out);
                let part = out.keep(&ContentPart::of(&is, text, annotations));
                self.part_event("response.content_part.done", &part, out);
                self.message.push(part);
            }
            AnswerPart::Reasoning(_) if text.is_empty() => {
                let item = self.item(&is, None, Status::Completed);
                self.item_done(&item, out);
            }
            AnswerPart::Reasoning(_) | AnswerPart::Call { .. } => {
                let text = Words::Kept(out.keep(&text));
                self.text_done(&is, text, out);
                if matches!(is, AnswerPart::Reasoning(_)) {
                    self.summary_event("response.reasoning_summary_part.done", text, out);
                }
                let item = self.item(&is, Some(text), Status::Completed);
                self.item_done(&item, out);
            }
            AnswerPart::Media(_) => {
                let item = self.item(&is, None, Status::Completed);
                self.item_event("response.output_item.added", &item, out);
                self.item_done(&item, out);
            }
            AnswerPart::Foreign(_) => {}
        }
    }

    /// The text of a part as a whole, once it is.
    fn text_done(&mut self, part: &AnswerPart, text: Words<'_>, out: &mut Outbox) {
        let output_index = self.index;
        match part {
            AnswerPart::Text(_) => {
                let event = TextEvent::new(self.item_id("msg"), output_index)
                    .at(self.message.len())
                    .text(text);
                self.event("response.output_text.done", &event, out);
            }
            AnswerPart::Refusal(_) => {
                let event = TextEvent::new(self.item_id("msg"), output_index)
                    .at(self.message.len())
                    .refusal(text);
                self.event("response.refusal.done", &event, out);
            }
            AnswerPart::Reasoning(_) => {
                let event = TextEvent::new(self.item_id("rs"), output_index).of_summary().text(text);
                self.event("response.reasoning_summary_text.done", &event, out);
            }
            AnswerPart::Call { call, is_custom } => {
                let (kind, prefix) = match is_custom {
                    false => ("response.function_call_arguments.done", "fc"),
                    true => ("response.custom_tool_call_input.done", "ctc"),
                };
                let event = Arguments {
                    item_id: &self.item_id(prefix),
                    output_index,
                    name: &call.name.name,
                    arguments: (!is_custom).then_some(text),
                    input: is_custom.then_some(text),
                };
                self.event(kind, &event, out);
            }
            AnswerPart::Media(_) | AnswerPart::Foreign(_) => {}
        }
    }

    /// A part that is an item of its own, with what it says, if anything.
    fn item<'a, C>(&self, part: &'a AnswerPart, text: Option<Words<'a>>, status: Status) -> Item<'a, C> {
        match part {
            AnswerPart::Reasoning(reasoning) => Item::Reasoning {
                id: self.item_id("rs"),
                summary: text.map(|text| Summary::SummaryText { text }).into_iter().collect(),
                encrypted_content: reasoning
                    .opaque
                    .as_ref()
                    .map(|lock| lock.for_client(VendorWire::Responses)),
            },
            AnswerPart::Call { call, is_custom } => {
                let call_id = Opaque::on_call(&call.id, call.opaque.as_ref());
                if *is_custom {
                    Item::CustomToolCall {
                        id: self.item_id("ctc"),
                        status,
                        call_id,
                        name: &call.name.name,
                        input: text.unwrap_or(NOTHING),
                    }
                } else {
                    Item::FunctionCall {
                        id: self.item_id("fc"),
                        status,
                        call_id,
                        namespace: call.name.namespace.as_deref(),
                        name: &call.name.name,
                        arguments: text.unwrap_or(NOTHING),
                    }
                }
            }
            AnswerPart::Media(media) => Item::ImageGenerationCall {
                id: self.item_id("ig"),
                status,
                result: match &media.source {
                    MediaSource::Data { base64, .. } => Some(base64),
                    MediaSource::Url { .. } | MediaSource::Stored(_) => None,
                },
            },
            AnswerPart::Text(_) | AnswerPart::Refusal(_) | AnswerPart::Foreign(_) => {
                Item::message(self.item_id("msg"), status, &[])
            }
        }
    }

    /// Of a summary only its text is kept; the other events are passed.
    fn sum_up(&mut self, event: Event, out: &mut Outbox) -> Option<Event> {
        let Some(summary) = &mut self.summary else {
            return Some(event);
        };
        match event {
            Event::Begin => {
                out.grow(summary, compaction::SUMMARY);
                return Some(event);
            }
            Event::Open(opened) => self.part = Some(Part::new(opened)),
            Event::Delta(text) => {
                let is_text = |part: &Part| matches!(part.is, AnswerPart::Text(_));
                if self.part.as_ref().is_some_and(is_text) {
                    out.grow(summary, &text);
                }
            }
            Event::Cite(_) | Event::Sign(_) | Event::Close => {}
            Event::Stop(stop) => {
                let item = Item::Compaction {
                    encrypted_content: Words::Kept(out.keep(summary)),
                    id: self.item_id("cmp"),
                };
                self.item_event("response.output_item.added", &item, out);
                self.item_done(&item, out);
                self.stop = stop;
            }
            Event::Usage(_) | Event::End | Event::Fail(_) => return Some(event),
        }
        None
    }

    /// The items of a whole answer.
    fn items(&mut self, parts: &[AnswerPart]) -> Vec<Json> {
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for part in parts {
            let text = part.said().map(Words::Said);
            let cited = part.citations().iter().filter_map(Annotation::of).collect();
            let said = ContentPart::of(part, text.unwrap_or(NOTHING), cited);
            match (said.and_then(|said| Json::of(&said)), pieces.last_mut()) {
                (Some(said), Some(Piece::Message(message))) => message.push(said),
                (Some(said), _) => pieces.push(Piece::Message(vec![said])),
                (None, _) => pieces.push(Piece::Item(part)),
            }
        }
        let mut output = Vec::new();
        for piece in &pieces {
            let item = match piece {
                Piece::Message(content) => Item::message(self.item_id("msg"), Status::Completed, content),
                Piece::Item(AnswerPart::Foreign(_)) => continue,
                Piece::Item(part) => {
                    let text = part.said().filter(|text| !text.is_empty());
                    self.item(part, text.map(Words::Said), Status::Completed)
                }
            };
            output.extend(Json::of(&item));
            self.index += 1;
        }
        output
    }

    fn over(&mut self, out: &mut Outbox) {
        let status = Status::of(&self.stop);
        let output = std::mem::take(&mut self.output);
        let reply = Arc::clone(&self.reply);
        let usage = self.usage;
        let response = Response::new(&reply, status, &output, usage.as_ref()).stopped(&self.stop);
        let kind = match status {
            Status::Incomplete => "response.incomplete",
            Status::Completed | Status::InProgress => "response.completed",
        };
        self.event(kind, &Creation { response: &response }, out);
    }
}

impl WriteAnswer for Writer {
    fn write(&mut self, event: Event, out: &mut Outbox) {
        let Some(event) = self.sum_up(event, out) else {
            return;
        };
        match event {
            Event::Begin => self.begin(out),
            Event::Open(opened) => self.open(opened, out),
            Event::Delta(text) => self.delta(&text, out),
            Event::Cite(citation) => self.cite(&citation, out),
            Event::Sign(opaque) => {
                if let Some(part) = &mut self.part {
                    part.is.sign(opaque);
                }
            }
            Event::Close => self.close(out),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => {
                self.close_message(out);
                self.stop = stop;
            }
            Event::End => self.over(out),
            // What failed is told by others.
            Event::Fail(_) => {}
        }
    }

    fn whole(&mut self, answer: &Answer) -> Vec<u8> {
        let output = if self.summary.is_some() {
            let texts = answer.parts.iter().filter_map(|part| match part {
                AnswerPart::Text(text) => Some(text.text.as_str()),
                _ => None,
            });
            let summary: String = std::iter::once(compaction::SUMMARY).chain(texts).collect();
            let item: Item<'_, Json> = Item::Compaction {
                id: self.item_id("cmp"),
                encrypted_content: Words::Said(&summary),
            };
            Json::of(&item).into_iter().collect()
        } else {
            self.items(&answer.parts)
        };
        let status = Status::of(&answer.stop);
        let response = Response::new(&self.reply, status, &output, answer.usage.as_ref()).stopped(&answer.stop);
        serde_json::to_vec(&response).unwrap_or_default()
    }
}

/// What a part says that has said nothing.
const NOTHING: Words<'_> = Words::Said("");

#[cfg(test)]
mod tests;
