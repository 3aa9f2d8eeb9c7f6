//! An answer for a client.

use serde::Serialize;

use crate::codec::{Outbox, Reply, WriteAnswer};
use crate::event::{Answer, AnswerPart, Event, Opened, Stop};
use crate::turn::{Citation, Media, Opaque};
use crate::usage::Usage;

/// Writes one answer.
pub(crate) struct Writer {
    reply: Reply,
    id: String,
    now: Now,
    /// How many calls were begun.
    calls: u32,
    usage: Option<Usage>,
}

/// The part that is open, as far as its deltas differ.
#[derive(Clone, Copy)]
enum Now {
    Text,
    Refusal,
    Reasoning,
    Call {
        is_custom: bool,
    },
    /// One that has no deltas.
    Whole,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Used>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall<'a>; 1]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image>,
}

#[derive(Serialize, Default)]
struct ToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom<'a>>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Custom<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    input: &'a str,
}

#[derive(Serialize)]
struct Annotation<'a> {
    r#type: &'static str,
    url_citation: UrlCitation<'a>,
}

#[derive(Serialize)]
struct UrlCitation<'a> {
    url: &'a str,
    title: &'a str,
    start_index: u64,
    end_index: u64,
}

/// As OpenRouter and its kin tell of pictures; OpenAI has no place for them.
#[derive(Serialize)]
struct Image {
    r#type: &'static str,
    image_url: ImageUrl,
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

#[derive(Serialize)]
struct Used {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: UsedInput,
    completion_tokens_details: UsedOutput,
}

#[derive(Serialize)]
struct UsedInput {
    cached_tokens: u64,
    cache_write_tokens: u64,
    audio_tokens: u64,
}

#[derive(Serialize)]
struct UsedOutput {
    reasoning_tokens: u64,
    audio_tokens: u64,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: Option<Used>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    annotations: Vec<Annotation<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image>,
}

impl Writer {
    /// A writer of one answer.
    pub(crate) fn new(reply: Reply) -> Self {
        Self {
            id: format!("chatcmpl-{}", reply.id),
            reply,
            now: Now::Whole,
            calls: 0,
            usage: None,
        }
    }

    fn delta(&self, delta: Delta<'_>, finish_reason: Option<&'static str>, out: &mut Outbox) {
        let choice = ChunkChoice {
            index: 0,
            delta,
            logprobs: None,
            finish_reason,
        };
        self.chunk(&[choice], None, out);
    }

    fn chunk(&self, choices: &[ChunkChoice<'_>], usage: Option<Used>, out: &mut Outbox) {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.reply.created,
            model: &self.reply.model,
            choices,
            usage,
        };
        out.event(None, &chunk);
    }

    fn open(&mut self, opened: &Opened, out: &mut Outbox) {
        self.now = match opened {
            Opened::Text => Now::Text,
            Opened::Refusal => Now::Refusal,
            Opened::Reasoning { .. } => Now::Reasoning,
            Opened::Call { is_custom, .. } => Now::Call { is_custom: *is_custom },
            Opened::Media(_) | Opened::Foreign(_) => Now::Whole,
        };
        match opened {
            Opened::Call {
                id,
                name,
                is_custom,
                opaque,
            } => {
                self.calls += 1;
                let call = ToolCall {
                    index: Some(self.calls - 1),
                    ..ToolCall::new(Opaque::on_call(id, opaque.as_ref()), &name.name, "", *is_custom)
                };
                self.delta(Delta::of_call(call), None, out);
            }
            Opened::Media(media) => {
                let images = image(media).into_iter().collect();
                let delta = Delta {
                    images,
                    ..Delta::default()
                };
                self.delta(delta, None, out);
            }
            Opened::Text | Opened::Refusal | Opened::Reasoning { .. } | Opened::Foreign(_) => {}
        }
    }

    fn more(&self, text: &str, out: &mut Outbox) {
        let said = Some(text);
        let delta = match self.now {
            Now::Text => Delta {
                content: said,
                ..Delta::default()
            },
            Now::Refusal => Delta {
                refusal: said,
                ..Delta::default()
            },
            Now::Reasoning => Delta {
                reasoning_content: said,
                ..Delta::default()
            },
            Now::Call { is_custom } => Delta::of_call(ToolCall {
                index: Some(self.calls.saturating_sub(1)),
                function: (!is_custom).then_some(Function {
                    name: None,
                    arguments: text,
                }),
                custom: is_custom.then_some(Custom {
                    name: None,
                    input: text,
                }),
                ..ToolCall::default()
            }),
            Now::Whole => return,
        };
        self.delta(delta, None, out);
    }
}

impl WriteAnswer for Writer {
    fn write(&mut self, event: Event, out: &mut Outbox) {
        match event {
            Event::Begin => {
                let delta = Delta {
                    role: Some("assistant"),
                    content: Some(""),
                    ..Delta::default()
                };
                self.delta(delta, None, out);
            }
            Event::Open(opened) => self.open(&opened, out),
            Event::Delta(text) => self.more(&text, out),
            Event::Cite(citation) => {
                let delta = Delta {
                    annotations: annotation(&citation).into_iter().collect(),
                    ..Delta::default()
                };
                self.delta(delta, None, out);
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => self.delta(Delta::default(), Some(reason(&stop)), out),
            Event::End => {
                if self.reply.wants_usage {
                    self.chunk(&[], self.usage.as_ref().map(used), out);
                }
                out.done(Some("[DONE]"));
            }
            // A signature has no place here; what failed is told by others.
            Event::Sign(_) | Event::Close | Event::Fail(_) => {}
        }
    }

    fn whole(&mut self, answer: &Answer) -> Vec<u8> {
        let completion = Completion {
            id: &self.id,
            object: "chat.completion",
            created: self.reply.created,
            model: &self.reply.model,
            choices: [Choice {
                index: 0,
                message: Message::of(answer),
                logprobs: None,
                finish_reason: reason(&answer.stop),
            }],
            usage: answer.usage.as_ref().map(used),
        };
        serde_json::to_vec(&completion).unwrap_or_default()
    }
}

impl<'a> Message<'a> {
    fn of(answer: &'a Answer) -> Self {
        let mut message = Self {
            role: "assistant",
            content: None,
            refusal: None,
            reasoning_content: String::new(),
            annotations: Vec::new(),
            tool_calls: Vec::new(),
            images: Vec::new(),
        };
        for part in &answer.parts {
            match part {
                AnswerPart::Text(text) => {
                    message.content.get_or_insert_default().push_str(&text.text);
                    message.annotations.extend(text.citations.iter().filter_map(annotation));
                }
                AnswerPart::Refusal(text) => message.refusal.get_or_insert_default().push_str(text),
                AnswerPart::Reasoning(reasoning) => message.reasoning_content.push_str(&reasoning.text),
                AnswerPart::Call { call, is_custom } => message.tool_calls.push(ToolCall::new(
                    Opaque::on_call(&call.id, call.opaque.as_ref()),
                    &call.name.name,
                    &call.arguments,
                    *is_custom,
                )),
                AnswerPart::Media(media) => message.images.extend(image(media)),
                AnswerPart::Foreign(_) => {}
            }
        }
        message
    }
}

impl<'a> Delta<'a> {
    fn of_call(call: ToolCall<'a>) -> Self {
        Self {
            tool_calls: Some([call]),
            ..Self::default()
        }
    }
}

impl<'a> ToolCall<'a> {
    fn new(id: String, name: &'a str, arguments: &'a str, is_custom: bool) -> Self {
        Self {
            index: None,
            id: Some(id),
            r#type: Some(if is_custom { "custom" } else { "function" }),
            function: (!is_custom).then_some(Function {
                name: Some(name),
                arguments,
            }),
            custom: is_custom.then_some(Custom {
                name: Some(name),
                input: arguments,
            }),
        }
    }
}

fn annotation(citation: &Citation) -> Option<Annotation<'_>> {
    let (start_index, end_index) = citation.span.unwrap_or_default();
    Some(Annotation {
        r#type: "url_citation",
        url_citation: UrlCitation {
            url: citation.url.as_deref()?,
            title: citation.title.as_deref().unwrap_or_default(),
            start_index,
            end_index,
        },
    })
}

fn image(media: &Media) -> Option<Image> {
    Some(Image {
        r#type: "image_url",
        image_url: ImageUrl {
            url: media.source.url()?.into_owned(),
        },
    })
}

fn reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::Done | Stop::Sequence(_) => "stop",
        Stop::Calls => "tool_calls",
        Stop::Length => "length",
        Stop::Filter => "content_filter",
    }
}

fn used(usage: &Usage) -> Used {
    Used {
        prompt_tokens: usage.input.get(),
        completion_tokens: usage.output.get(),
        total_tokens: usage.input.saturating_add(usage.output).get(),
        prompt_tokens_details: UsedInput {
            cached_tokens: usage.cached.get(),
            cache_write_tokens: usage.cache_write.get(),
            audio_tokens: usage.input_audio.get(),
        },
        completion_tokens_details: UsedOutput {
            reasoning_tokens: usage.reasoning.get(),
            audio_tokens: usage.output_audio.get(),
        },
    }
}
