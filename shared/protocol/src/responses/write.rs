//! An answer for a client.

mod shape;

use std::sync::Arc;

use self::shape::{
    Arguments, Cited, ContentPart, Creation, Delta, Item, ItemEvent, PartEvent, Piece, Response, Status, Summary,
    SummaryEvent, TextEvent,
};
use super::compaction;
use crate::VendorWire;
use crate::codec::{Outbox, Reply, WriteAnswer};
use crate::event::{Answer, AnswerPart, Event, Opened, Stop};
use crate::turn::{Json, MediaSource, Opaque};
use crate::usage::Usage;

/// Writes one answer. All of it is kept until the end, which tells it again as a whole.
pub(crate) struct Writer {
    reply: Arc<Reply>,
    sequence: u64,
    /// The items that are over, as they will be told at the end.
    output: Vec<Json>,
    /// The part that is open, as far as it came.
    part: Option<AnswerPart>,
    /// The parts of the message that is open: texts that follow each other are one message.
    message: Vec<Json>,
    has_message: bool,
    usage: Option<Usage>,
    stop: Stop,
    /// The answer is a summary, which becomes one item however it is made.
    summary: Option<String>,
}

impl Writer {
    /// A writer of one answer.
    pub(crate) fn new(reply: Reply) -> Self {
        Self {
            reply: Arc::new(reply),
            sequence: 0,
            output: Vec::new(),
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
        self.summary = is_summary.then(String::new);
        self
    }

    fn event(&mut self, kind: &'static str, body: &impl serde::Serialize, out: &mut Outbox) {
        let event = shape::Numbered {
            r#type: kind,
            sequence_number: self.sequence,
            body,
        };
        self.sequence += 1;
        out.event(Some(kind), &event);
    }

    fn index(&self) -> usize {
        self.output.len()
    }

    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.reply.id, self.output.len())
    }

    fn begin(&mut self, out: &mut Outbox) {
        let reply = Arc::clone(&self.reply);
        for kind in ["response.created", "response.in_progress"] {
            let response = Response::new(&reply, Status::InProgress, &[], None);
            self.event(kind, &Creation { response: &response }, out);
        }
    }

    fn open(&mut self, opened: Opened, out: &mut Outbox) {
        match &opened {
            Opened::Text | Opened::Refusal => {
                self.open_message(out);
                let empty = AnswerPart::new(opened.clone());
                self.part_event("response.content_part.added", &ContentPart::of(&empty), out);
            }
            Opened::Reasoning { .. } | Opened::Call { .. } => {
                self.close_message(out);
                let part = AnswerPart::new(opened.clone());
                let item = self.item(&part, Status::InProgress);
                self.item_event("response.output_item.added", &item, out);
            }
            Opened::Media(_) | Opened::Foreign(_) => self.close_message(out),
        }
        self.part = Some(AnswerPart::new(opened));
    }

    fn open_message(&mut self, out: &mut Outbox) {
        if !self.has_message {
            self.has_message = true;
            let item = Item::message(self.item_id("msg"), Status::InProgress, &[]);
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

    fn item_event(&mut self, kind: &'static str, item: &Item<'_>, out: &mut Outbox) {
        let output_index = self.index();
        self.event(kind, &ItemEvent { output_index, item }, out);
    }

    fn item_done(&mut self, item: &Item<'_>, out: &mut Outbox) {
        self.item_event("response.output_item.done", item, out);
        self.output.extend(Json::of(item));
    }

    fn part_event(&mut self, kind: &'static str, part: &ContentPart<'_>, out: &mut Outbox) {
        let event = PartEvent {
            item_id: &self.item_id("msg"),
            output_index: self.index(),
            content_index: self.message.len(),
            part,
        };
        self.event(kind, &event, out);
    }

    fn delta(&mut self, delta: &str, out: &mut Outbox) {
        let Some(mut part) = self.part.take() else {
            return;
        };
        let (kind, prefix) = match &part {
            AnswerPart::Text(_) => ("response.output_text.delta", "msg"),
            AnswerPart::Refusal(_) => ("response.refusal.delta", "msg"),
            AnswerPart::Reasoning(reasoning) => {
                if reasoning.text.is_empty() {
                    self.summary_event("response.reasoning_summary_part.added", "", out);
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
                output_index: self.index(),
                content_index: (prefix == "msg").then_some(self.message.len()),
                summary_index: (prefix == "rs").then_some(0),
                delta,
            };
            self.event(kind, &event, out);
        }
        part.grow(delta);
        self.part = Some(part);
    }

    fn summary_event(&mut self, kind: &'static str, text: &str, out: &mut Outbox) {
        let event = SummaryEvent {
            item_id: &self.item_id("rs"),
            output_index: self.index(),
            summary_index: 0,
            part: Summary::SummaryText { text },
        };
        self.event(kind, &event, out);
    }

    fn close(&mut self, out: &mut Outbox) {
        let Some(part) = self.part.take() else {
            return;
        };
        match &part {
            AnswerPart::Text(_) | AnswerPart::Refusal(_) => {
                self.text_done(&part, out);
                let content = ContentPart::of(&part);
                self.part_event("response.content_part.done", &content, out);
                self.message.extend(Json::of(&content));
            }
            AnswerPart::Reasoning(reasoning) => {
                if !reasoning.text.is_empty() {
                    self.text_done(&part, out);
                    self.summary_event("response.reasoning_summary_part.done", &reasoning.text, out);
                }
                let item = self.item(&part, Status::Completed);
                self.item_done(&item, out);
            }
            AnswerPart::Call { .. } => {
                self.text_done(&part, out);
                let item = self.item(&part, Status::Completed);
                self.item_done(&item, out);
            }
            AnswerPart::Media(_) => {
                let item = self.item(&part, Status::Completed);
                self.item_event("response.output_item.added", &item, out);
                self.item_done(&item, out);
            }
            AnswerPart::Foreign(_) => {}
        }
    }

    /// The text of a part as a whole, once it is.
    fn text_done(&mut self, part: &AnswerPart, out: &mut Outbox) {
        let output_index = self.index();
        match part {
            AnswerPart::Text(text) => {
                let event = TextEvent::new(self.item_id("msg"), output_index)
                    .at(self.message.len())
                    .text(&text.text);
                self.event("response.output_text.done", &event, out);
            }
            AnswerPart::Refusal(refusal) => {
                let event = TextEvent::new(self.item_id("msg"), output_index)
                    .at(self.message.len())
                    .refusal(refusal);
                self.event("response.refusal.done", &event, out);
            }
            AnswerPart::Reasoning(reasoning) => {
                let event = TextEvent::new(self.item_id("rs"), output_index)
                    .of_summary()
                    .text(&reasoning.text);
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
                    arguments: (!is_custom).then_some(call.arguments.as_str()),
                    input: is_custom.then_some(call.arguments.as_str()),
                };
                self.event(kind, &event, out);
            }
            AnswerPart::Media(_) | AnswerPart::Foreign(_) => {}
        }
    }

    /// A part that is an item of its own.
    fn item<'a>(&self, part: &'a AnswerPart, status: Status) -> Item<'a> {
        match part {
            AnswerPart::Reasoning(reasoning) => Item::Reasoning {
                id: self.item_id("rs"),
                summary: (!reasoning.text.is_empty())
                    .then_some(Summary::SummaryText { text: &reasoning.text })
                    .into_iter()
                    .collect(),
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
                        input: &call.arguments,
                    }
                } else {
                    Item::FunctionCall {
                        id: self.item_id("fc"),
                        status,
                        call_id,
                        namespace: call.name.namespace.as_deref(),
                        name: &call.name.name,
                        arguments: &call.arguments,
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
            Event::Open(opened) => self.part = Some(AnswerPart::new(opened)),
            Event::Delta(text) => {
                if matches!(self.part, Some(AnswerPart::Text(_))) {
                    summary.push_str(&text);
                }
            }
            Event::Cite(_) | Event::Sign(_) | Event::Close => {}
            Event::Stop(stop) => {
                let encrypted_content = compaction::kept(summary);
                let item = Item::Compaction {
                    id: self.item_id("cmp"),
                    encrypted_content,
                };
                self.item_event("response.output_item.added", &item, out);
                self.item_done(&item, out);
                self.stop = stop;
            }
            Event::Begin | Event::Usage(_) | Event::End | Event::Fail(_) => return Some(event),
        }
        None
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
            Event::Cite(citation) => {
                if let Some(annotation) = shape::Annotation::of(&citation) {
                    let event = Cited {
                        item_id: &self.item_id("msg"),
                        output_index: self.index(),
                        content_index: self.message.len(),
                        annotation_index: match &self.part {
                            Some(AnswerPart::Text(text)) => text.citations.len(),
                            Some(_) | None => 0,
                        },
                        annotation,
                    };
                    self.event("response.output_text.annotation.added", &event, out);
                    if let Some(part) = &mut self.part {
                        part.cite(citation);
                    }
                }
            }
            Event::Sign(opaque) => {
                if let Some(part) = &mut self.part {
                    part.sign(opaque);
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
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        if self.summary.is_some() {
            let texts = answer.parts.iter().filter_map(|part| match part {
                AnswerPart::Text(text) => Some(text.text.as_str()),
                _ => None,
            });
            let item = Item::Compaction {
                id: self.item_id("cmp"),
                encrypted_content: compaction::kept(&texts.collect::<String>()),
            };
            self.output.extend(Json::of(&item));
        }
        let parts = answer.parts.iter().filter(|_| self.summary.is_none());
        for part in parts {
            if let Some(content) = Json::of(&ContentPart::of(part)).filter(|_| part.is_said()) {
                match pieces.last_mut() {
                    Some(Piece::Message(message)) => message.push(content),
                    Some(Piece::Item(_)) | None => pieces.push(Piece::Message(vec![content])),
                }
                continue;
            }
            pieces.push(Piece::Item(part));
        }
        for piece in &pieces {
            let item = match piece {
                Piece::Message(content) => Item::message(self.item_id("msg"), Status::Completed, content),
                Piece::Item(AnswerPart::Foreign(_)) => continue,
                Piece::Item(part) => self.item(part, Status::Completed),
            };
            let json = Json::of(&item);
            self.output.extend(json);
        }
        let status = Status::of(&answer.stop);
        let response = Response::new(&self.reply, status, &self.output, answer.usage.as_ref()).stopped(&answer.stop);
        serde_json::to_vec(&response).unwrap_or_default()
    }
}
