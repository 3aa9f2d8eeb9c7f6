//! What the events and objects of an answer look like. Knows nothing of their order.

use serde::Serialize;

use crate::codec::Reply;
use crate::codec::kept::Span;
use crate::event::{AnswerPart, Stop};
use crate::turn::{Citation, Json};
use crate::usage::Usage;

/// One event: its kind and number, and what it says.
#[derive(Serialize)]
pub(super) struct Numbered<'a, T> {
    pub(super) r#type: &'static str,
    pub(super) sequence_number: u64,
    #[serde(flatten)]
    pub(super) body: &'a T,
}

/// A text as it is, or where it is kept.
#[derive(Serialize, Clone, Copy)]
#[serde(untagged)]
pub(super) enum Words<'a> {
    Said(&'a str),
    Kept(Span),
}

#[derive(Serialize)]
pub(super) struct Creation<'a> {
    pub(super) response: &'a Response<'a, Span>,
}

#[derive(Serialize)]
pub(super) struct ItemEvent<'a, I> {
    pub(super) output_index: usize,
    pub(super) item: &'a I,
}

#[derive(Serialize)]
pub(super) struct PartEvent<'a, P> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) content_index: usize,
    pub(super) part: &'a P,
}

#[derive(Serialize)]
pub(super) struct Delta<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary_index: Option<usize>,
    pub(super) delta: &'a str,
}

#[derive(Serialize)]
pub(super) struct TextEvent<'a> {
    item_id: String,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Words<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Words<'a>>,
}

impl<'a> TextEvent<'a> {
    pub(super) const fn new(item_id: String, output_index: usize) -> Self {
        Self {
            item_id,
            output_index,
            content_index: None,
            summary_index: None,
            text: None,
            refusal: None,
        }
    }

    pub(super) const fn at(mut self, content_index: usize) -> Self {
        self.content_index = Some(content_index);
        self
    }

    pub(super) const fn of_summary(mut self) -> Self {
        self.summary_index = Some(0);
        self
    }

    pub(super) const fn text(mut self, text: Words<'a>) -> Self {
        self.text = Some(text);
        self
    }

    pub(super) const fn refusal(mut self, refusal: Words<'a>) -> Self {
        self.refusal = Some(refusal);
        self
    }
}

#[derive(Serialize)]
pub(super) struct SummaryEvent<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) summary_index: usize,
    pub(super) part: Summary<'a>,
}

#[derive(Serialize)]
pub(super) struct Arguments<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arguments: Option<Words<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<Words<'a>>,
}

#[derive(Serialize)]
pub(super) struct Cited<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) content_index: usize,
    pub(super) annotation_index: usize,
    pub(super) annotation: Annotation<'a>,
}

/// An item of the output; the parts of a message are of type `C`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item<'a, C> {
    Message {
        id: String,
        status: Status,
        role: &'static str,
        content: &'a [C],
    },
    Reasoning {
        id: String,
        summary: Vec<Summary<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    FunctionCall {
        id: String,
        status: Status,
        call_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
        arguments: Words<'a>,
    },
    CustomToolCall {
        id: String,
        status: Status,
        call_id: String,
        name: &'a str,
        input: Words<'a>,
    },
    Compaction {
        id: String,
        encrypted_content: Words<'a>,
    },
    ImageGenerationCall {
        id: String,
        status: Status,
        result: Option<&'a str>,
    },
}

impl<'a, C> Item<'a, C> {
    pub(super) const fn message(id: String, status: Status, content: &'a [C]) -> Self {
        Self::Message {
            id,
            status,
            role: "assistant",
            content,
        }
    }
}

/// The parts of an answer as they become items.
pub(super) enum Piece<'a> {
    /// Texts that follow each other.
    Message(Vec<Json>),
    Item(&'a AnswerPart),
}

/// A part of a message; where its text comes from is told by values of type `A`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ContentPart<'a, A> {
    OutputText {
        text: Words<'a>,
        annotations: Vec<A>,
        logprobs: [(); 0],
    },
    Refusal {
        refusal: Words<'a>,
    },
}

impl<'a, A> ContentPart<'a, A> {
    /// What a part is in a message, if it is said there.
    pub(super) fn of(part: &AnswerPart, text: Words<'a>, annotations: Vec<A>) -> Option<Self> {
        match part {
            AnswerPart::Refusal(_) => Some(Self::Refusal { refusal: text }),
            AnswerPart::Text(_) => Some(Self::OutputText {
                text,
                annotations,
                logprobs: [],
            }),
            AnswerPart::Reasoning(_) | AnswerPart::Call { .. } | AnswerPart::Media(_) | AnswerPart::Foreign(_) => None,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Summary<'a> {
    SummaryText { text: Words<'a> },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Annotation<'a> {
    UrlCitation {
        url: &'a str,
        title: &'a str,
        start_index: u64,
        end_index: u64,
    },
}

impl<'a> Annotation<'a> {
    pub(super) fn of(citation: &'a Citation) -> Option<Self> {
        let (start_index, end_index) = citation.span.unwrap_or_default();
        Some(Self::UrlCitation {
            url: citation.url.as_deref()?,
            title: citation.title.as_deref().unwrap_or_default(),
            start_index,
            end_index,
        })
    }
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
}

impl Status {
    pub(super) const fn of(stop: &Stop) -> Self {
        match stop {
            Stop::Done | Stop::Calls | Stop::Sequence(_) => Self::Completed,
            Stop::Length | Stop::Filter => Self::Incomplete,
        }
    }
}

/// The whole answer; its items are of type `I`.
#[derive(Serialize)]
pub(super) struct Response<'a, I> {
    id: String,
    object: &'static str,
    created_at: u64,
    status: Status,
    error: Option<()>,
    incomplete_details: Option<Incomplete>,
    instructions: Option<()>,
    metadata: Empty,
    model: &'a str,
    output: &'a [I],
    parallel_tool_calls: bool,
    previous_response_id: Option<()>,
    store: bool,
    temperature: Option<()>,
    tool_choice: &'static str,
    tools: [(); 0],
    top_p: Option<()>,
    truncation: &'static str,
    usage: Option<Used>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

impl<'a, I> Response<'a, I> {
    pub(super) fn new(reply: &'a Reply, status: Status, output: &'a [I], usage: Option<&Usage>) -> Self {
        Self {
            id: format!("resp_{}", reply.id),
            object: "response",
            created_at: reply.created,
            status,
            error: None,
            incomplete_details: None,
            instructions: None,
            metadata: Empty {},
            model: &reply.model,
            output,
            parallel_tool_calls: true,
            previous_response_id: None,
            store: false,
            temperature: None,
            tool_choice: "auto",
            tools: [],
            top_p: None,
            truncation: "disabled",
            usage: usage.map(Used::of),
        }
    }

    pub(super) fn stopped(mut self, stop: &Stop) -> Self {
        self.incomplete_details = match stop {
            Stop::Length => Some("max_output_tokens"),
            Stop::Filter => Some("content_filter"),
            Stop::Done | Stop::Calls | Stop::Sequence(_) => None,
        }
        .map(|reason| Incomplete { reason });
        self
    }
}

#[derive(Serialize)]
struct Used {
    input_tokens: u64,
    input_tokens_details: UsedInput,
    output_tokens: u64,
    output_tokens_details: UsedOutput,
    total_tokens: u64,
}

#[derive(Serialize)]
struct UsedInput {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct UsedOutput {
    reasoning_tokens: u64,
}

impl Used {
    fn of(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.input.get(),
            input_tokens_details: UsedInput {
                cached_tokens: usage.cached.get(),
                cache_write_tokens: usage.cache_write.get(),
            },
            output_tokens: usage.output.get(),
            output_tokens_details: UsedOutput {
                reasoning_tokens: usage.reasoning.get(),
            },
            total_tokens: usage.input.saturating_add(usage.output).get(),
        }
    }
}
