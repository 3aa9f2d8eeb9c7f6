//! Writes a vendor's request.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::call;
use crate::codec::Target;
use crate::form::closed;
use crate::lane::VendorWire;
use crate::loss::{Losses, said};
use crate::messages::Generation;
use crate::turn::{
    CacheMark, CallResult, Choice, Effort, Foreign, Form, Function, Json, Media, MediaKind, MediaSource, Message, Part,
    Reasoning, Sampling, Tool, Turn, sides,
};

const OWN: VendorWire = VendorWire::Messages;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Said<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Offered<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Chosen<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "OutputConfig::is_empty")]
    output_config: OutputConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a Json>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Block<'a> {
    Own(Marked<Body<'a>>),
    /// As the client wrote it.
    Foreign(&'a Json),
}

/// What a cache mark may stand on.
#[derive(Serialize)]
struct Marked<T> {
    #[serde(flatten)]
    body: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body<'a> {
    Text {
        text: Cow<'a, str>,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Cow<'a, RawValue>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 {
        media_type: &'a str,
        data: &'a str,
    },
    Text {
        media_type: &'static str,
        data: String,
    },
    Url {
        url: &'a str,
    },
    #[serde(untagged)]
    Stored(&'a Json),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Offered<'a> {
    Own(Marked<Spec<'a>>),
    Foreign(&'a Json),
}

#[derive(Serialize)]
struct Spec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict: bool,
}

#[derive(Serialize)]
struct Chosen<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

#[derive(Serialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct OutputConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format>,
}

#[derive(Serialize)]
struct Format {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: Json,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

impl OutputConfig {
    const fn is_empty(&self) -> bool {
        self.effort.is_none() && self.format.is_none()
    }
}

/// Writes the body of `POST /v1/messages`.
pub(crate) fn write(turn: &Turn, target: &Target<'_>, losses: &mut Losses) -> Vec<u8> {
    let generation = Generation::of(target.model);
    let max_tokens = turn.max_output.unwrap_or(target.max_output).get();
    let (system, messages) = conversation(&turn.messages, losses);
    let tools = tools(turn, losses);
    let tool_choice = choice(turn, &tools);
    let (thinking, effort) = match thought(turn, generation, max_tokens, is_thoughtless(&messages)) {
        Ok(thought) => thought,
        Err(Unthinkable) => {
            losses.hint(said::REASONING);
            (None, None)
        }
    };
    // A model that thinks draws as it likes.
    let draws = generation != Generation::Fixed && thinking.is_none();
    let sampling = draws.then_some(&turn.sampling);
    unsaid(turn, draws, losses);
    let request = Request {
        model: target.model,
        max_tokens,
        system,
        messages,
        tools,
        tool_choice,
        thinking,
        output_config: OutputConfig {
            effort,
            format: format(&turn.form, losses),
        },
        temperature: sampling.and_then(|sampling| sampling.temperature.as_ref()),
        top_p: sampling.and_then(Sampling::nucleus),
        top_k: sampling.and_then(|sampling| sampling.top_k.as_ref()),
        stop_sequences: &turn.stop,
        metadata: turn.user.as_deref().map(|user_id| Metadata { user_id }),
        stream: target.is_streamed,
    };
    serde_json::to_vec(&request).unwrap_or_default()
}

/// What this wire has no word for.
fn unsaid(turn: &Turn, draws: bool, losses: &mut Losses) {
    let sampling = &turn.sampling;
    let is_given = |number: &Option<Json>| number.as_ref().is_some_and(|number| !number.is_zero());
    for (word, is_lost) in [
        (said::TEMPERATURE, !draws && sampling.temperature.is_some()),
        (
            said::TOP_P,
            sampling.top_p.is_some() && (!draws || sampling.nucleus().is_none()),
        ),
        (said::TOP_K, !draws && sampling.top_k.is_some()),
        (said::FREQUENCY_PENALTY, is_given(&sampling.frequency_penalty)),
        (said::PRESENCE_PENALTY, is_given(&sampling.presence_penalty)),
        (said::SEED, sampling.seed.is_some()),
        (said::VERBOSITY, turn.verbosity.is_some()),
        (said::SERVICE_TIER, turn.service_tier.is_some()),
        (said::CACHE_KEY, turn.cache_key.is_some()),
        (said::METADATA, turn.metadata.is_some()),
    ] {
        if is_lost {
            losses.hint(word);
        }
    }
}

fn format(form: &Form, losses: &mut Losses) -> Option<Format> {
    match form {
        Form::Text => None,
        Form::Json => {
            losses.meaning(said::FORM);
            None
        }
        Form::Schema(schema) => Some(Format {
            kind: "json_schema",
            schema: closed(&schema.schema),
        }),
    }
}

/// The rules at the top, and what was said. Neighbours of one role become one message, as the wire would join them itself.
fn conversation<'a>(messages: &'a [Message], losses: &mut Losses) -> (Vec<Block<'a>>, Vec<Said<'a>>) {
    let words = |text: String| Block::own(Body::Text { text: text.into() });
    let (system, said) = sides(messages, losses, blocks, words);
    let said = said.into_iter().map(|side| {
        let (role, mut content) = (if side.is_assistant { "assistant" } else { "user" }, side.parts);
        // Results come first in a message, or they are not found.
        content.sort_by_key(|block| !block.is_result());
        Said { role, content }
    });
    (system, said.collect())
}

impl<'a> Block<'a> {
    const fn own(body: Body<'a>) -> Self {
        Self::Own(Marked {
            body,
            cache_control: None,
        })
    }

    const fn is_result(&self) -> bool {
        matches!(
            self,
            Self::Own(Marked {
                body: Body::ToolResult { .. },
                ..
            })
        )
    }
}

fn blocks<'a>(parts: &'a [Part], out: &mut Vec<Block<'a>>, losses: &mut Losses) {
    for part in parts {
        let block = match part {
            // An empty text is refused by the vendor.
            Part::Text(text) => (!text.text.is_empty()).then(|| {
                Block::own(Body::Text {
                    text: Cow::Borrowed(&text.text),
                })
            }),
            Part::Refusal(text) => (!text.is_empty()).then(|| Block::own(Body::Text { text: text.into() })),
            Part::Media(media) => shown(media, losses).map(Block::own),
            Part::Reasoning(reasoning) => signed(reasoning).map(Block::own),
            Part::Call(call) => Some(Block::own(Body::ToolUse {
                id: fit(&call.id),
                name: &call.name.name,
                input: call::object(&call.arguments),
            })),
            Part::CallResult(result) => Some(Block::own(given(result, losses))),
            Part::CacheMark(mark) => {
                if let Some(Block::Own(block)) = out.last_mut() {
                    block.cache_control = Some(mark.into());
                }
                None
            }
            Part::Foreign(foreign) if foreign.wire == OWN => Some(Block::Foreign(&foreign.json)),
            Part::Foreign(foreign) => {
                losses.hint(foreign.path.clone());
                None
            }
        };
        out.extend(block);
    }
}

impl From<&CacheMark> for CacheControl {
    fn from(mark: &CacheMark) -> Self {
        Self {
            kind: "ephemeral",
            ttl: mark.ttl.clone(),
        }
    }
}

fn fit(id: &str) -> Cow<'_, str> {
    call::fit(
        id,
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
        usize::MAX,
    )
}

/// A thought that is not signed, or was signed by another vendor, is refused: it is left out.
fn signed(reasoning: &Reasoning) -> Option<Body<'_>> {
    let sign = reasoning.opaque.as_ref().and_then(|opaque| opaque.of(OWN))?;
    Some(if reasoning.is_redacted {
        Body::RedactedThinking { data: sign }
    } else {
        Body::Thinking {
            thinking: &reasoning.text,
            signature: sign,
        }
    })
}

fn given<'a>(result: &'a CallResult, losses: &mut Losses) -> Body<'a> {
    let mut content = Vec::new();
    blocks(&result.parts, &mut content, losses);
    Body::ToolResult {
        tool_use_id: fit(&result.id),
        content,
        is_error: result.is_error,
    }
}

fn shown<'a>(media: &'a Media, losses: &mut Losses) -> Option<Body<'a>> {
    let source = match (&media.source, media.kind) {
        (MediaSource::Data { mime, base64 }, MediaKind::Image)
            if matches!(mime.as_str(), "image/png" | "image/jpeg" | "image/gif" | "image/webp") =>
        {
            Some(Source::Base64 {
                media_type: mime,
                data: base64,
            })
        }
        (MediaSource::Data { mime, base64 }, MediaKind::File) => file(mime, base64),
        (MediaSource::Url { url, .. }, MediaKind::Image | MediaKind::File) => Some(Source::Url { url }),
        (MediaSource::Stored(foreign), _) if foreign.wire == OWN => Some(Source::Stored(&foreign.json)),
        (MediaSource::Stored(_) | MediaSource::Data { .. } | MediaSource::Url { .. }, _) => None,
    };
    match (source, media.kind) {
        (Some(source), MediaKind::Image) => Some(Body::Image { source }),
        (Some(source), _) => Some(Body::Document {
            source,
            title: media.name.as_deref(),
        }),
        (None, kind) => {
            losses.meaning(unshown(media, kind));
            None
        }
    }
}

/// What cannot be shown, or where it stood.
fn unshown(media: &Media, kind: MediaKind) -> String {
    let word = match (&media.source, kind) {
        (MediaSource::Stored(Foreign { path, .. }), _) => path,
        (_, MediaKind::Image) => said::IMAGE,
        (_, MediaKind::File) => said::FILE,
        (_, MediaKind::Audio) => said::AUDIO,
        (_, MediaKind::Video) => said::VIDEO,
    };
    word.to_owned()
}

/// PDF as it is, text as text; other files are not taken.
fn file<'a>(mime: &'a str, base64: &'a str) -> Option<Source<'a>> {
    if mime == "application/pdf" {
        return Some(Source::Base64 {
            media_type: mime,
            data: base64,
        });
    }
    if !mime.starts_with("text/") && mime != "application/json" {
        return None;
    }
    let text = crate::base64::decode(base64)?;
    Some(Source::Text {
        media_type: "text/plain",
        data: String::from_utf8(text).ok()?,
    })
}

fn tools<'a>(turn: &'a Turn, losses: &mut Losses) -> Vec<Offered<'a>> {
    let mut out = Vec::with_capacity(turn.tools.len());
    turn.lose_tools(OWN, losses);
    for (index, tool) in turn.tools.iter().enumerate() {
        match tool {
            Tool::Function(function) if turn.allows(function) => {
                out.push(Offered::Own(Marked {
                    body: Spec {
                        name: &function.name.name,
                        description: function.description.as_deref(),
                        input_schema: schema(function),
                        strict: function.strict == Some(true),
                    },
                    cache_control: None,
                }));
            }
            Tool::Function(_) => {}
            Tool::Custom(_) => losses.meaning(format!("tools[{index}]")),
            Tool::Foreign(foreign) if foreign.wire == OWN => out.push(Offered::Foreign(&foreign.json)),
            Tool::Foreign(_) => {}
            Tool::CacheMark(mark) => {
                if let Some(Offered::Own(tool)) = out.last_mut() {
                    tool.cache_control = Some(mark.into());
                }
            }
        }
    }
    out
}

fn schema(function: &Function) -> Cow<'_, RawValue> {
    match &function.schema {
        Some(schema) => Cow::Borrowed(schema.raw()),
        None => call::object(r#"{"type":"object","properties":{}}"#),
    }
}

fn choice<'a>(turn: &'a Turn, tools: &[Offered<'_>]) -> Option<Chosen<'a>> {
    if tools.is_empty() {
        return None;
    }
    let is_single = turn.parallel_calls == Some(false);
    let (kind, name) = match &turn.choice {
        None if !is_single => return None,
        None | Some(Choice::Auto | Choice::Some { is_required: false, .. }) => ("auto", None),
        Some(Choice::None) => ("none", None),
        Some(Choice::Required | Choice::Some { is_required: true, .. }) => ("any", None),
        Some(Choice::One(name)) => ("tool", Some(name.name.as_str())),
    };
    Some(Chosen {
        kind,
        name,
        disable_parallel_tool_use: is_single && kind != "none",
    })
}

/// No thought can be asked for, though one was.
struct Unthinkable;

/// How to think, and how hard to try. A model that is made to call a tool may not think; nor may one that thinks within a
/// budget, where tools were called without a thought before.
fn thought(
    turn: &Turn,
    generation: Generation,
    max_tokens: u64,
    is_thoughtless: bool,
) -> Result<(Option<Thinking>, Option<&'static str>), Unthinkable> {
    let asked = &turn.reasoning;
    let effort = match asked.effort.or_else(|| asked.budget.map(Effort::of_budget)) {
        None | Some(Effort::None) => return Ok((None, None)),
        Some(effort) => effort,
    };
    if turn.is_forced() {
        return Err(Unthinkable);
    }
    if generation != Generation::Budget {
        let display = |is_shown| if is_shown { "summarized" } else { "omitted" };
        let thinking = Thinking {
            kind: "adaptive",
            budget_tokens: None,
            display: asked.is_shown.map(display),
        };
        return Ok((Some(thinking), Some(named(effort, generation))));
    }
    let budget = asked.budget.unwrap_or(effort.budget()).get();
    let budget = budget.min(max_tokens.saturating_sub(1));
    if budget < LEAST_BUDGET || is_thoughtless {
        return Err(Unthinkable);
    }
    let thinking = Thinking {
        kind: "enabled",
        budget_tokens: Some(budget),
        display: None,
    };
    Ok((Some(thinking), None))
}

/// The least that the wire takes.
const LEAST_BUDGET: u64 = 1024;

const fn named(effort: Effort, generation: Generation) -> &'static str {
    match (effort, generation) {
        (Effort::None | Effort::Minimal | Effort::Low, _) => "low",
        (Effort::Medium, _) => "medium",
        (Effort::High, _) => "high",
        (Effort::XHigh, Generation::Fixed) => "xhigh",
        (Effort::XHigh | Effort::Max, _) => "max",
    }
}

/// The model last called tools without a thought of its own: the thought was another vendor's, or the client has no place
/// for it.
fn is_thoughtless(messages: &[Said<'_>]) -> bool {
    let last = messages.iter().rev().find(|message| message.role == "assistant");
    let mut bodies = last
        .iter()
        .flat_map(|message| &message.content)
        .filter_map(|block| match block {
            Block::Own(Marked { body, .. }) => Some(body),
            Block::Foreign(_) => None,
        });
    let is_thought = |body: &Body<'_>| matches!(body, Body::Thinking { .. } | Body::RedactedThinking { .. });
    bodies.clone().any(|body| matches!(body, Body::ToolUse { .. })) && !bodies.next().is_some_and(is_thought)
}
