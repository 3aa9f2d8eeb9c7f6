//! Writes a vendor's request.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::OWN;
use crate::call;
use crate::codec::Target;
use crate::form::closed;
use crate::loss::{Losses, said};
use crate::messages::Generation;
use crate::turn::{
    CacheMark, CallResult, Choice, Effort, Foreign, Form, Function, Json, Media, MediaKind, MediaSource, Message, Part,
    Reasoning, Schema, Tool, Turn, sides,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Piece<'a>>,
    messages: Vec<Said<'a>>,
    inference_config: Inference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    additional_model_request_fields: Fields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: Vec<Piece<'a>>,
}

/// A block of a message, of the rules, or of a result.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Piece<'a> {
    Text(Cow<'a, str>),
    Image {
        format: &'a str,
        source: Source<'a>,
    },
    Document {
        format: &'static str,
        name: String,
        source: Source<'a>,
    },
    Audio {
        format: &'a str,
        source: Source<'a>,
    },
    Video {
        format: &'a str,
        source: Source<'a>,
    },
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: Cow<'a, str>,
        name: &'a str,
        input: Cow<'a, RawValue>,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Self>,
        status: &'static str,
    },
    ReasoningContent(Thought<'a>),
    CachePoint(CachePoint),
    /// As the client wrote it.
    #[serde(untagged)]
    Foreign(&'a Json),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Source<'a> {
    Bytes(&'a str),
    S3Location {
        uri: &'a str,
    },
    #[serde(untagged)]
    Stored(&'a Json),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Thought<'a> {
    ReasoningText { text: &'a str, signature: &'a str },
    RedactedContent(&'a str),
}

#[derive(Serialize)]
struct CachePoint {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inference<'a> {
    max_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a Json>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    tools: Vec<Offered<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Chosen<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Offered<'a> {
    #[serde(rename_all = "camelCase")]
    ToolSpec {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        input_schema: InputSchema<'a>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        strict: bool,
    },
    CachePoint(CachePoint),
    #[serde(untagged)]
    Foreign(&'a Json),
}

#[derive(Serialize)]
struct InputSchema<'a> {
    json: Cow<'a, RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Chosen<'a> {
    Any {},
    Tool { name: &'a str },
}

/// What one maker's models know and the wire does not: of Anthropic's the depth of thought, of OpenAI's too.
#[derive(Serialize, Default)]
struct Fields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Effortful>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
}

#[derive(Serialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u64>,
}

#[derive(Serialize)]
struct Effortful {
    effort: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputConfig<'a> {
    text_format: TextFormat<'a>,
}

#[derive(Serialize)]
struct TextFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    structure: Structure<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structure<'a> {
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    /// As text.
    schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// How many tokens to draw from, which is not the wire's own word.
    fn draw(&mut self, turn: &'a Turn, can: bool, losses: &mut Losses) {
        if can {
            self.top_k = turn.sampling.top_k.as_ref();
        } else if turn.sampling.top_k.is_some() {
            losses.hint(said::TOP_K);
        }
    }

    const fn is_empty(&self) -> bool {
        self.top_k.is_none()
            && self.thinking.is_none()
            && self.output_config.is_none()
            && self.reasoning_effort.is_none()
    }
}

/// Writes the body of `Converse` and `ConverseStream`. The path names the model, and whether the answer is a stream.
pub(crate) fn write(turn: &Turn, target: &Target<'_>, losses: &mut Losses) -> Vec<u8> {
    let max_tokens = turn.max_output.unwrap_or(target.max_output).get();
    let (system, mut messages) = conversation(&turn.messages, losses);
    let fields = fields(turn, target.model, max_tokens, is_thoughtless(&messages), losses);
    // A model of Anthropic's that thinks draws as it likes, as do its latest.
    let is_claude = is_claude(target.model);
    let is_fixed = is_claude && Generation::of(target.model) == Generation::Fixed;
    let draws = !is_fixed && fields.thinking.is_none();
    let sampling = draws.then_some(&turn.sampling);
    let top_p = sampling.and_then(|sampling| match is_claude {
        true => sampling.nucleus(),
        false => sampling.top_p.as_ref(),
    });
    unsaid(turn, draws, losses);
    if turn.sampling.top_p.is_some() && top_p.is_none() {
        losses.hint(said::TOP_P);
    }
    let tool_config = tool_config(turn, &messages, losses);
    if tool_config.is_none() {
        tell_calls(&mut messages);
    }
    let request = Request {
        tool_config,
        system,
        messages,
        inference_config: Inference {
            max_tokens,
            temperature: sampling.and_then(|sampling| sampling.temperature.as_ref()),
            top_p,
            stop_sequences: &turn.stop,
        },
        additional_model_request_fields: fields,
        output_config: output_config(&turn.form, losses),
    };
    serde_json::to_vec(&request).unwrap_or_default()
}

/// What this wire has no word for.
fn unsaid(turn: &Turn, draws: bool, losses: &mut Losses) {
    let sampling = &turn.sampling;
    let is_given = |number: &Option<Json>| number.as_ref().is_some_and(|number| !number.is_zero());
    for (word, is_lost) in [
        (said::TEMPERATURE, !draws && sampling.temperature.is_some()),
        (said::FREQUENCY_PENALTY, is_given(&sampling.frequency_penalty)),
        (said::PRESENCE_PENALTY, is_given(&sampling.presence_penalty)),
        (said::SEED, sampling.seed.is_some()),
        (said::VERBOSITY, turn.verbosity.is_some()),
        (said::SERVICE_TIER, turn.service_tier.is_some()),
        (said::CACHE_KEY, turn.cache_key.is_some()),
        (said::USER, turn.user.is_some()),
        (said::METADATA, turn.metadata.is_some()),
        (
            said::PARALLEL_CALLS,
            turn.parallel_calls == Some(false) && !turn.tools.is_empty(),
        ),
    ] {
        if is_lost {
            losses.hint(word);
        }
    }
}

/// The rules at the top, and what was said, neighbours of one role in one message.
fn conversation<'a>(messages: &'a [Message], losses: &mut Losses) -> (Vec<Piece<'a>>, Vec<Said<'a>>) {
    let (system, said) = sides(messages, losses, pieces, |text| Piece::Text(text.into()));
    let said = said.into_iter().map(|side| {
        let (role, mut content) = (if side.is_assistant { "assistant" } else { "user" }, side.parts);
        content.sort_by_key(|piece| !matches!(piece, Piece::ToolResult { .. }));
        Said { role, content }
    });
    (system, said.collect())
}

/// Calls and their results in words: the vendor refuses them where no tools are offered, and who goes on without tools
/// offers none. Source: the error `The toolConfig field must be defined when using toolUse and toolResult content blocks`.
fn tell_calls(messages: &mut [Said<'_>]) {
    let text = |words: String| Piece::Text(words.into());
    for message in messages {
        let mut told = Vec::with_capacity(message.content.len());
        for piece in std::mem::take(&mut message.content) {
            match piece {
                Piece::ToolUse {
                    tool_use_id,
                    name,
                    input,
                } => {
                    told.push(text(format!("[Call {tool_use_id} of `{name}` with {}]", input.get())));
                }
                Piece::ToolResult {
                    tool_use_id,
                    content,
                    status,
                } => {
                    let gave = if status == "error" { "failed with" } else { "gave" };
                    let what = if content.is_empty() { " nothing" } else { "" };
                    told.push(text(format!("[Call {tool_use_id} {gave}{what}]")));
                    told.extend(content);
                }
                other => told.push(other),
            }
        }
        message.content = told;
    }
}

fn pieces<'a>(parts: &'a [Part], out: &mut Vec<Piece<'a>>, losses: &mut Losses) {
    for part in parts {
        let piece = match part {
            // An empty text is refused by the vendor.
            Part::Text(text) => (!text.text.is_empty()).then(|| Piece::Text(Cow::Borrowed(&text.text))),
            Part::Refusal(text) => (!text.is_empty()).then(|| Piece::Text(Cow::Borrowed(text))),
            Part::Media(media) => shown(media, losses),
            Part::Reasoning(reasoning) => thought(reasoning),
            Part::Call(call) => Some(Piece::ToolUse {
                tool_use_id: fit(&call.id),
                name: &call.name.name,
                input: call::object(&call.arguments),
            }),
            Part::CallResult(result) => Some(given(result, losses)),
            Part::CacheMark(mark) => (!out.is_empty()).then(|| Piece::CachePoint(mark.into())),
            Part::Foreign(foreign) if foreign.wire == OWN => Some(Piece::Foreign(&foreign.json)),
            Part::Foreign(foreign) => {
                losses.hint(foreign.path.clone());
                None
            }
        };
        out.extend(piece);
    }
}

impl From<&CacheMark> for CachePoint {
    fn from(mark: &CacheMark) -> Self {
        Self {
            kind: "default",
            ttl: mark.ttl.clone(),
        }
    }
}

fn fit(id: &str) -> Cow<'_, str> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    call::fit(id, is_fit, 64)
}

/// A thought that another vendor signed is refused: it is left out.
fn thought(reasoning: &Reasoning) -> Option<Piece<'_>> {
    let sign = reasoning.opaque.as_ref().and_then(|opaque| opaque.of(OWN))?;
    Some(Piece::ReasoningContent(if reasoning.is_redacted {
        Thought::RedactedContent(sign)
    } else {
        Thought::ReasoningText {
            text: &reasoning.text,
            signature: sign,
        }
    }))
}

fn given<'a>(result: &'a CallResult, losses: &mut Losses) -> Piece<'a> {
    let mut content = Vec::new();
    pieces(&result.parts, &mut content, losses);
    // A result takes no mark: it stands after it.
    content.retain(|piece| !matches!(piece, Piece::CachePoint(_)));
    Piece::ToolResult {
        tool_use_id: fit(&result.id),
        content,
        status: if result.is_error { "error" } else { "success" },
    }
}

fn shown<'a>(media: &'a Media, losses: &mut Losses) -> Option<Piece<'a>> {
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.hint(said::DETAIL);
    }
    let (mime, source) = match &media.source {
        MediaSource::Data { mime, base64 } => (Some(mime.as_str()), Source::Bytes(base64)),
        MediaSource::Url { url, mime } if url.starts_with("s3://") => {
            (mime.as_deref(), Source::S3Location { uri: url })
        }
        MediaSource::Stored(foreign) if foreign.wire == OWN => (None, Source::Stored(&foreign.json)),
        MediaSource::Url { .. } => {
            losses.meaning(said::MEDIA_URL);
            return None;
        }
        MediaSource::Stored(Foreign { path, .. }) => {
            losses.meaning(path.clone());
            return None;
        }
    };
    let subtype = mime.and_then(|mime| mime.split_once('/')).map(|(_, subtype)| subtype);
    let piece = match (media.kind, subtype) {
        (MediaKind::Image, Some(format @ ("png" | "jpeg" | "gif" | "webp"))) => Some(Piece::Image { format, source }),
        (MediaKind::File, _) => mime.and_then(document).map(|format| Piece::Document {
            format,
            name: name(media.name.as_deref()),
            source,
        }),
        (MediaKind::Audio, Some("mpeg" | "mp3")) => Some(Piece::Audio { format: "mp3", source }),
        (MediaKind::Audio, Some(format @ ("wav" | "flac" | "aac" | "ogg" | "opus"))) => {
            Some(Piece::Audio { format, source })
        }
        (MediaKind::Video, Some(format @ ("mp4" | "webm" | "mpeg"))) => Some(Piece::Video { format, source }),
        (MediaKind::Image | MediaKind::Audio | MediaKind::Video, _) => None,
    };
    if piece.is_none() {
        losses.meaning(match media.kind {
            MediaKind::Image => said::IMAGE,
            MediaKind::File => said::FILE,
            MediaKind::Audio => said::AUDIO,
            MediaKind::Video => said::VIDEO,
        });
    }
    piece
}

fn document(mime: &str) -> Option<&'static str> {
    Some(match mime {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/markdown" => "md",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        mime if mime.starts_with("text/") || mime == "application/json" => "txt",
        _ => return None,
    })
}

/// The letters that the vendor takes, without the ending.
fn name(given: Option<&str>) -> String {
    let given = given.unwrap_or("document");
    let stem = given.rsplit_once('.').map_or(given, |(stem, _)| stem);
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '(' | ')' | '[' | ']');
    let name: String = stem
        .chars()
        .take(200)
        .map(|c| if is_fit(c) { c } else { '-' })
        .collect();
    if name.trim().is_empty() {
        "document".to_owned()
    } else {
        name
    }
}

fn tool_config<'a>(turn: &'a Turn, messages: &[Said<'_>], losses: &mut Losses) -> Option<ToolConfig<'a>> {
    let has_calls = messages
        .iter()
        .flat_map(|message| &message.content)
        .any(|piece| matches!(piece, Piece::ToolUse { .. } | Piece::ToolResult { .. }));
    let tools = tools(turn, losses);
    let tool_choice = match &turn.choice {
        // The wire has no word for it: tools that are not offered are not called. Once they were, they must be.
        Some(Choice::None) if has_calls && !tools.is_empty() => {
            losses.meaning(said::CHOICE);
            None
        }
        Some(Choice::None) => return None,
        None | Some(Choice::Auto | Choice::Some { is_required: false, .. }) => None,
        Some(Choice::Required | Choice::Some { is_required: true, .. }) => Some(Chosen::Any {}),
        Some(Choice::One(name)) => Some(Chosen::Tool { name: &name.name }),
    };
    (!tools.is_empty()).then_some(ToolConfig { tools, tool_choice })
}

fn tools<'a>(turn: &'a Turn, losses: &mut Losses) -> Vec<Offered<'a>> {
    let mut out = Vec::with_capacity(turn.tools.len());
    turn.lose_tools(OWN, losses);
    for (index, tool) in turn.tools.iter().enumerate() {
        match tool {
            Tool::Function(function) if turn.allows(function) => out.push(Offered::ToolSpec {
                name: &function.name.name,
                description: function.description.as_deref().filter(|words| !words.is_empty()),
                input_schema: InputSchema { json: schema(function) },
                strict: function.strict == Some(true),
            }),
            Tool::Function(_) => {}
            Tool::Custom(_) => losses.meaning(format!("tools[{index}]")),
            Tool::Foreign(foreign) if foreign.wire == OWN => out.push(Offered::Foreign(&foreign.json)),
            Tool::Foreign(_) => {}
            Tool::CacheMark(mark) if !out.is_empty() => out.push(Offered::CachePoint(mark.into())),
            Tool::CacheMark(_) => {}
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

/// What is said to a model of one maker in its own words. Of other makers' models nothing is known.
fn fields<'a>(turn: &'a Turn, model: &str, max_tokens: u64, is_thoughtless: bool, losses: &mut Losses) -> Fields<'a> {
    let mut fields = Fields::default();
    let is_claude = is_claude(model);
    let generation = Generation::of(model);
    let asked = &turn.reasoning;
    let effort = match asked.effort.or_else(|| asked.budget.map(Effort::of_budget)) {
        None | Some(Effort::None) => {
            fields.draw(turn, is_claude && generation != Generation::Fixed, losses);
            return fields;
        }
        Some(effort) => effort,
    };
    let budget = asked
        .budget
        .unwrap_or(effort.budget())
        .get()
        .min(max_tokens.saturating_sub(1));
    if is_claude && !turn.is_forced() && generation != Generation::Budget {
        fields.thinking = Some(Thinking {
            kind: "adaptive",
            budget_tokens: None,
        });
        fields.output_config = Some(Effortful { effort: named(effort) });
    } else if is_claude && !turn.is_forced() && budget >= LEAST_BUDGET && !is_thoughtless {
        fields.thinking = Some(Thinking {
            kind: "enabled",
            budget_tokens: Some(budget),
        });
    } else if model.contains("openai") {
        fields.reasoning_effort = Some(named(effort));
    } else {
        losses.hint(said::REASONING);
    }
    fields.draw(
        turn,
        is_claude && generation != Generation::Fixed && fields.thinking.is_none(),
        losses,
    );
    fields
}

fn is_claude(model: &str) -> bool {
    model.contains("anthropic")
}

/// The model last called tools without a thought of its own, from which one that thinks within a budget does not go on.
fn is_thoughtless(messages: &[Said<'_>]) -> bool {
    let last = messages.iter().rev().find(|message| message.role == "assistant");
    let pieces = last.map(|message| message.content.as_slice()).unwrap_or_default();
    let has_called = pieces.iter().any(|piece| matches!(piece, Piece::ToolUse { .. }));
    has_called && !matches!(pieces.first(), Some(Piece::ReasoningContent(_)))
}

/// The least that Anthropic's models take.
const LEAST_BUDGET: u64 = 1024;

const fn named(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::XHigh | Effort::Max => "high",
    }
}

fn output_config<'a>(form: &'a Form, losses: &mut Losses) -> Option<OutputConfig<'a>> {
    let Schema {
        name,
        description,
        schema,
        ..
    } = match form {
        Form::Text => return None,
        Form::Json => {
            losses.meaning(said::FORM);
            return None;
        }
        Form::Schema(schema) => schema,
    };
    Some(OutputConfig {
        text_format: TextFormat {
            kind: "json_schema",
            structure: Structure {
                json_schema: JsonSchema {
                    schema: closed(schema).as_str().to_owned(),
                    name: name.as_deref(),
                    description: description.as_deref(),
                },
            },
        },
    })
}
