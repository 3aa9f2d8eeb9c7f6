//! A request to a vendor.

use std::borrow::Cow;

use serde::Serialize;

use crate::codec::Target;
use crate::loss::{Losses, said};
use crate::openai::{self, Drawn, effort};
use crate::turn::{
    Call, CallName, CallResult, Choice, Custom, Effort, Form, Function, Json, Media, MediaKind, MediaSource, Message,
    Part, Reasoning, Role, Text, Tool, Turn,
};
use crate::{Tokens, VendorWire};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Offer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Must<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<TextForm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_identifier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Json>,
    store: bool,
    stream: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item<'a> {
    Message {
        role: &'static str,
        content: Vec<Piece<'a>>,
    },
    FunctionCall {
        call_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
        arguments: &'a str,
    },
    CustomToolCall {
        call_id: &'a str,
        name: &'a str,
        input: &'a str,
    },
    FunctionCallOutput {
        call_id: &'a str,
        output: Output<'a>,
    },
    CustomToolCallOutput {
        call_id: &'a str,
        output: Output<'a>,
    },
    Reasoning {
        summary: Vec<Summary<'a>>,
        encrypted_content: &'a str,
    },
    #[serde(untagged)]
    Foreign(&'a Json),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    InputText {
        text: &'a str,
    },
    OutputText {
        text: &'a str,
    },
    Refusal {
        refusal: &'a str,
    },
    InputImage {
        image_url: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    },
    InputFile {
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_url: Option<&'a str>,
    },
    InputAudio {
        input_audio: Audio<'a>,
    },
    #[serde(untagged)]
    Foreign(&'a Json),
}

#[derive(Serialize)]
struct Audio<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Output<'a> {
    Text(&'a str),
    Parts(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Summary<'a> {
    SummaryText { text: &'a str },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Offer<'a> {
    Function {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        parameters: Option<&'a Json>,
        strict: bool,
    },
    Custom {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<&'a Json>,
    },
    #[serde(untagged)]
    Foreign(&'a Json),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Must<'a> {
    Word(&'static str),
    One(Named<'a>),
    Allowed {
        r#type: &'static str,
        mode: &'static str,
        tools: Vec<Named<'a>>,
    },
}

#[derive(Serialize)]
struct Named<'a> {
    r#type: &'static str,
    name: &'a str,
}

#[derive(Serialize)]
struct TextForm<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonObject,
    JsonSchema {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        schema: Json,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

#[derive(Serialize)]
struct Thinking {
    effort: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
}

/// Writes it.
pub(crate) fn write(turn: &Turn, target: &Target<'_>, losses: &mut Losses) -> Vec<u8> {
    turn.lose_tools(VendorWire::Responses, losses);
    lose(turn, losses);
    let effort = effort(turn, target.model, losses);
    let drawn = Drawn::of(turn, target.model, effort, losses);
    let thinking = effort.map(|effort| thinking(turn, effort));
    let tools: Vec<_> = turn.tools.iter().filter_map(|tool| offer(tool, losses)).collect();
    let choice = turn.choice.as_ref().filter(|_| !tools.is_empty());
    let request = Request {
        model: target.model,
        input: input(turn, losses),
        tool_choice: choice.map(|choice| must(choice, turn)),
        parallel_tool_calls: turn.parallel_calls.filter(|_| !tools.is_empty()),
        tools,
        text: text(turn, losses),
        max_output_tokens: turn.max_output,
        temperature: drawn.temperature,
        top_p: drawn.top_p,
        // A model that does not reason refuses to be asked for it.
        include: thinking.as_ref().map(|_| ["reasoning.encrypted_content"]),
        reasoning: thinking,
        service_tier: turn.service_tier.as_deref(),
        prompt_cache_key: turn.cache_key.as_deref(),
        safety_identifier: turn.user.as_deref().filter(|user| fits(user, losses)),
        metadata: turn.metadata.as_ref(),
        store: false,
        stream: target.is_streamed,
    };
    serde_json::to_vec(&request).unwrap_or_default()
}

/// What this wire has no words for.
fn lose(turn: &Turn, losses: &mut Losses) {
    if !turn.stop.is_empty() {
        losses.meaning(said::STOP);
    }
    let sampling = &turn.sampling;
    // Many clients send a penalty of nothing along.
    let penalty = |number: &Option<Json>| number.as_ref().is_some_and(|number| !is_zero(number));
    for (is_said, word) in [
        (sampling.top_k.is_some(), said::TOP_K),
        (sampling.seed.is_some(), said::SEED),
        (penalty(&sampling.frequency_penalty), said::FREQUENCY_PENALTY),
        (penalty(&sampling.presence_penalty), said::PRESENCE_PENALTY),
    ] {
        if is_said {
            losses.hint(word);
        }
    }
}

fn is_zero(number: &Json) -> bool {
    number.as_str().bytes().all(|b| matches!(b, b'0' | b'.' | b'-'))
}

fn fits(user: &str, losses: &mut Losses) -> bool {
    let fits = user.len() <= LONGEST_USER;
    if !fits {
        losses.hint(said::USER);
    }
    fits
}

/// OpenAI takes no longer one.
const LONGEST_USER: usize = 64;

fn thinking(turn: &Turn, effort: Effort) -> Thinking {
    let is_shown = turn.reasoning.is_shown == Some(true) && effort != Effort::None;
    Thinking {
        effort: effort.name(),
        summary: is_shown.then_some("auto"),
    }
}

fn text<'a>(turn: &'a Turn, losses: &mut Losses) -> Option<TextForm<'a>> {
    let format = match &turn.form {
        Form::Text => None,
        Form::Json => Some(Format::JsonObject),
        Form::Schema(wanted) => {
            let (schema, strict) = openai::form(wanted, losses);
            Some(Format::JsonSchema {
                name: wanted.name.as_deref().unwrap_or("answer"),
                description: wanted.description.as_deref(),
                schema,
                strict,
            })
        }
    };
    let verbosity = turn.verbosity.as_deref();
    (format.is_some() || verbosity.is_some()).then_some(TextForm { format, verbosity })
}

fn offer<'a>(tool: &'a Tool, losses: &mut Losses) -> Option<Offer<'a>> {
    match tool {
        Tool::Function(Function {
            name,
            description,
            schema,
            strict,
        }) => Some(Offer::Function {
            name: &name.name,
            description: description.as_deref(),
            parameters: schema.as_ref(),
            // Here it would be the default, which refuses many a schema that other wires take.
            strict: strict.unwrap_or(false),
        }),
        Tool::Custom(Custom {
            name,
            description,
            format,
        }) => Some(Offer::Custom {
            name: &name.name,
            description: description.as_deref(),
            format: format.as_ref(),
        }),
        Tool::Foreign(foreign) => (foreign.wire == VendorWire::Responses).then_some(Offer::Foreign(&foreign.json)),
        Tool::CacheMark(_) => {
            losses.hint(said::CACHE_MARK);
            None
        }
    }
}

fn must<'a>(choice: &'a Choice, turn: &Turn) -> Must<'a> {
    let named = |name: &'a CallName| Named {
        r#type: if is_custom(turn, name) { "custom" } else { "function" },
        name: &name.name,
    };
    match choice {
        Choice::Auto => Must::Word("auto"),
        Choice::None => Must::Word("none"),
        Choice::Required => Must::Word("required"),
        Choice::One(name) => Must::One(named(name)),
        Choice::Some { names, is_required } => Must::Allowed {
            r#type: "allowed_tools",
            mode: if *is_required { "required" } else { "auto" },
            tools: names.iter().map(named).collect(),
        },
    }
}

fn is_custom(turn: &Turn, name: &CallName) -> bool {
    let mut tools = turn.tools.iter();
    tools.any(|tool| matches!(tool, Tool::Custom(custom) if custom.name == *name))
}

fn input<'a>(turn: &'a Turn, losses: &mut Losses) -> Vec<Item<'a>> {
    let mut items = Vec::with_capacity(turn.messages.len());
    for message in &turn.messages {
        match message.role {
            Role::System => said(message, "system", &mut items, turn, losses),
            Role::Developer => said(message, "developer", &mut items, turn, losses),
            Role::User => said(message, "user", &mut items, turn, losses),
            Role::Assistant => said(message, "assistant", &mut items, turn, losses),
        }
    }
    items
}

/// A message, and the items that stand beside messages here.
fn said<'a>(message: &'a Message, role: &'static str, items: &mut Vec<Item<'a>>, turn: &Turn, losses: &mut Losses) {
    let mut content = Vec::new();
    for part in &message.parts {
        let Some(item) = beside(part, turn, losses) else {
            content.extend(piece(part, role, losses));
            continue;
        };
        if !content.is_empty() {
            let content = std::mem::take(&mut content);
            items.push(Item::Message { role, content });
        }
        items.push(item);
    }
    if !content.is_empty() {
        items.push(Item::Message { role, content });
    }
}

/// A part that is an item of its own.
fn beside<'a>(part: &'a Part, turn: &Turn, losses: &mut Losses) -> Option<Item<'a>> {
    match part {
        Part::Call(call) => Some(called(call, turn)),
        Part::CallResult(result) => Some(result_item(result, turn, losses)),
        // Without its lock the vendor has no use for it.
        Part::Reasoning(Reasoning { text, opaque, .. }) => {
            let encrypted_content = opaque.as_ref()?.of(VendorWire::Responses)?;
            let summary = (!text.is_empty()).then_some(Summary::SummaryText { text });
            Some(Item::Reasoning {
                summary: summary.into_iter().collect(),
                encrypted_content,
            })
        }
        Part::Foreign(foreign) if foreign.wire == VendorWire::Responses => Some(Item::Foreign(&foreign.json)),
        Part::Foreign(_) | Part::Text(_) | Part::Refusal(_) | Part::Media(_) | Part::CacheMark(_) => None,
    }
}

fn called<'a>(call: &'a Call, turn: &Turn) -> Item<'a> {
    if is_custom(turn, &call.name) {
        return Item::CustomToolCall {
            call_id: &call.id,
            name: &call.name.name,
            input: &call.arguments,
        };
    }
    Item::FunctionCall {
        call_id: &call.id,
        namespace: call.name.namespace.as_deref(),
        name: &call.name.name,
        arguments: if call.arguments.is_empty() {
            "{}"
        } else {
            &call.arguments
        },
    }
}

fn result_item<'a>(result: &'a CallResult, turn: &Turn, losses: &mut Losses) -> Item<'a> {
    if result.is_error {
        losses.hint(said::IS_ERROR);
    }
    let mut pieces: Vec<_> = result
        .parts
        .iter()
        .filter_map(|part| piece(part, "user", losses))
        .collect();
    let output = match pieces.as_mut_slice() {
        [] => Output::Text(""),
        [Piece::InputText { text }] => Output::Text(text),
        _ => Output::Parts(pieces),
    };
    let call_id = &result.id;
    if result.name.as_ref().is_some_and(|name| is_custom(turn, name)) {
        Item::CustomToolCallOutput { call_id, output }
    } else {
        Item::FunctionCallOutput { call_id, output }
    }
}

/// A part within a message.
fn piece<'a>(part: &'a Part, role: &str, losses: &mut Losses) -> Option<Piece<'a>> {
    match part {
        Part::Text(Text { text, citations: _ }) if role == "assistant" => Some(Piece::OutputText { text }),
        Part::Text(Text { text, citations: _ }) => Some(Piece::InputText { text }),
        Part::Refusal(refusal) => Some(Piece::Refusal { refusal }),
        Part::Media(_) if role == "assistant" => {
            losses.hint(said::IMAGE);
            None
        }
        Part::Media(media) => media_piece(media, losses),
        Part::CacheMark(_) => {
            losses.hint(said::CACHE_MARK);
            None
        }
        Part::Foreign(foreign) => {
            losses.hint(foreign.path.clone());
            None
        }
        // A thought without its lock; the others are items of their own.
        Part::Reasoning(_) | Part::Call(_) | Part::CallResult(_) => None,
    }
}

fn media_piece<'a>(media: &'a Media, losses: &mut Losses) -> Option<Piece<'a>> {
    let (word, source) = match (media.kind, &media.source) {
        (_, MediaSource::Stored(foreign)) if foreign.wire == VendorWire::Responses => {
            return Some(Piece::Foreign(&foreign.json));
        }
        (_, MediaSource::Stored(foreign)) => {
            losses.meaning(foreign.path.clone());
            return None;
        }
        (MediaKind::Image, source) => {
            return Some(Piece::InputImage {
                image_url: source.url()?,
                detail: media.detail.as_deref(),
            });
        }
        (MediaKind::File, source) => {
            return Some(Piece::InputFile {
                filename: media.name.as_deref().or(match source {
                    MediaSource::Data { .. } => Some("file"),
                    MediaSource::Url { .. } | MediaSource::Stored(_) => None,
                }),
                file_data: source.url().filter(|_| matches!(source, MediaSource::Data { .. })),
                file_url: match source {
                    MediaSource::Url { url, .. } => Some(url),
                    MediaSource::Data { .. } | MediaSource::Stored(_) => None,
                },
            });
        }
        (MediaKind::Audio, source) => (said::AUDIO, source),
        (MediaKind::Video, _) => {
            losses.meaning(said::VIDEO);
            return None;
        }
    };
    let MediaSource::Data { mime, base64 } = source else {
        losses.meaning(word);
        return None;
    };
    let format = match mime.strip_prefix("audio/").unwrap_or(mime) {
        "mpeg" => "mp3",
        "x-wav" | "wave" => "wav",
        format => format,
    };
    Some(Piece::InputAudio {
        input_audio: Audio { data: base64, format },
    })
}
