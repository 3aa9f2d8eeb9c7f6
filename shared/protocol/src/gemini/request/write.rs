//! Writes a vendor's request.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::call;
use crate::codec::Target;
use crate::gemini::{OWN, schema};
use crate::loss::{Losses, said};
use crate::turn::{
    Call, CallResult, Choice, Effort, Foreign, Form, Json, Media, MediaKind, MediaSource, Message, Part, Tool, Turn,
    sides,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Offered<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    generation_config: Config<'a>,
}

#[derive(Serialize)]
struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<Piece<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Piece<'a> {
    Own(Box<Own<'a>>),
    /// As the client wrote it.
    Foreign(&'a Json),
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Own<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<Given<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: &'a str,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum File<'a> {
    #[serde(rename_all = "camelCase")]
    Url {
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<&'a str>,
        file_uri: &'a str,
    },
    Stored(&'a Json),
}

#[derive(Serialize)]
struct Called<'a> {
    id: &'a str,
    name: &'a str,
    args: Cow<'a, RawValue>,
}

#[derive(Serialize)]
struct Given<'a> {
    id: &'a str,
    name: &'a str,
    response: Response,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Piece<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Response {
    Output(String),
    Error(String),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Offered<'a> {
    #[serde(rename_all = "camelCase")]
    Own {
        function_declarations: Vec<Declared<'a>>,
    },
    Foreign(&'a Json),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declared<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a Json>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: Calling<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_function_names: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thinking>,
}

#[derive(Serialize, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
struct Thinking {
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
}

/// Writes the body of `:generateContent` and `:streamGenerateContent`. The path names the model.
pub(crate) fn write(turn: &Turn, target: &Target<'_>, losses: &mut Losses) -> Vec<u8> {
    let is_old = is_of_budgets(target.model);
    let (system_instruction, contents) = conversation(&turn.messages, !is_old, losses);
    unsaid(turn, losses);
    let tools = tools(turn, losses);
    let request = Request {
        system_instruction,
        contents,
        tool_config: tool_config(turn, &tools),
        tools,
        generation_config: config(turn, is_old, losses),
    };
    serde_json::to_vec(&request).unwrap_or_default()
}

/// Up to 2.5 thinking has a budget, later a level, and a call must come back with its signature.
/// Source: <https://ai.google.dev/gemini-api/docs/thinking> (2026-11).
fn is_of_budgets(model: &str) -> bool {
    model.contains("gemini-1") || model.contains("gemini-2")
}

/// What this wire has no word for.
fn unsaid(turn: &Turn, losses: &mut Losses) {
    for (word, is_lost) in [
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

/// The rules at the top, and what was said, neighbours of one role in one content.
fn conversation<'a>(
    messages: &'a [Message],
    must_sign: bool,
    losses: &mut Losses,
) -> (Option<Content<'a>>, Vec<Content<'a>>) {
    let (system, said) = sides(messages, losses, pieces, words);
    let said = said.into_iter().map(|side| Content {
        role: Some(if side.is_assistant { "model" } else { "user" }),
        parts: side.parts,
    });
    let mut said: Vec<_> = said.collect();
    if must_sign {
        said.iter_mut().for_each(sign);
    }
    let system = (!system.is_empty()).then_some(Content {
        role: None,
        parts: system,
    });
    (system, said)
}

/// The first call of each step must be signed. Of one that another model made, or whose signature a client did not keep,
/// the vendor wants to be told so.
/// Source: <https://ai.google.dev/gemini-api/docs/thought-signatures> (2026-11).
fn sign(content: &mut Content<'_>) {
    let first = content.parts.iter_mut().find_map(|piece| match piece {
        Piece::Own(own) if own.function_call.is_some() => Some(own),
        Piece::Own(_) | Piece::Foreign(_) => None,
    });
    if let Some(own) = first {
        own.thought_signature.get_or_insert("skip_thought_signature_validator");
    }
}

fn words<'a>(text: impl Into<Cow<'a, str>>) -> Piece<'a> {
    own(Own {
        text: Some(text.into()),
        ..Own::default()
    })
}

fn own(own: Own<'_>) -> Piece<'_> {
    Piece::Own(Box::new(own))
}

fn pieces<'a>(parts: &'a [Part], out: &mut Vec<Piece<'a>>, losses: &mut Losses) {
    for part in parts {
        let piece = match part {
            Part::Text(text) => (!text.text.is_empty()).then(|| words(&text.text)),
            Part::Refusal(text) => (!text.is_empty()).then(|| words(text)),
            Part::Media(media) => shown(media, losses),
            Part::Reasoning(reasoning) => {
                let sign = reasoning.opaque.as_ref().and_then(|opaque| opaque.of(OWN));
                // What nobody can read is of no use to another model.
                (sign.is_some() || !reasoning.text.is_empty()).then(|| {
                    own(Own {
                        text: Some(Cow::Borrowed(&reasoning.text)),
                        thought: true,
                        thought_signature: sign,
                        ..Own::default()
                    })
                })
            }
            Part::Call(call) => Some(called(call)),
            Part::CallResult(result) => Some(given(result, losses)),
            Part::CacheMark(_) => {
                losses.hint(said::CACHE_MARK);
                None
            }
            Part::Foreign(foreign) if foreign.wire == OWN => Some(Piece::Foreign(&foreign.json)),
            Part::Foreign(foreign) => {
                losses.hint(foreign.path.clone());
                None
            }
        };
        out.extend(piece);
    }
}

fn called(call: &Call) -> Piece<'_> {
    own(Own {
        function_call: Some(Called {
            id: &call.id,
            name: &call.name.name,
            args: call::object(&call.arguments),
        }),
        thought_signature: call.opaque.as_ref().and_then(|opaque| opaque.of(OWN)),
        ..Own::default()
    })
}

fn given<'a>(result: &'a CallResult, losses: &mut Losses) -> Piece<'a> {
    let mut text = String::new();
    let mut parts = Vec::new();
    for part in &result.parts {
        match part {
            Part::Text(more) => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&more.text);
            }
            Part::Media(media) => parts.extend(shown(media, losses)),
            Part::CacheMark(_) => losses.hint(said::CACHE_MARK),
            Part::Foreign(foreign) => losses.hint(foreign.path.clone()),
            Part::Refusal(_) | Part::Reasoning(_) | Part::Call(_) | Part::CallResult(_) => {}
        }
    }
    let response = if result.is_error {
        Response::Error(text)
    } else {
        Response::Output(text)
    };
    own(Own {
        function_response: Some(Given {
            id: &result.id,
            // A result of no call that is known: the vendor says what it thinks of it.
            name: result.name.as_ref().map_or("unknown", |name| name.name.as_str()),
            response,
            parts,
        }),
        ..Own::default()
    })
}

fn shown<'a>(media: &'a Media, losses: &mut Losses) -> Option<Piece<'a>> {
    if media.name.is_some() {
        losses.hint(said::FILE_NAME);
    }
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.hint(said::DETAIL);
    }
    let piece = match &media.source {
        MediaSource::Data { mime, base64 } => Own {
            inline_data: Some(Blob {
                mime_type: mime,
                data: base64,
            }),
            ..Own::default()
        },
        MediaSource::Url { url, mime } => Own {
            file_data: Some(File::Url {
                mime_type: mime.as_deref().or_else(|| guessed(url, media.kind)),
                file_uri: url,
            }),
            ..Own::default()
        },
        MediaSource::Stored(foreign) if foreign.wire == OWN => Own {
            file_data: Some(File::Stored(&foreign.json)),
            ..Own::default()
        },
        MediaSource::Stored(Foreign { path, .. }) => {
            losses.meaning(path.clone());
            return None;
        }
    };
    Some(own(piece))
}

/// The vendor wants to know what an address leads to.
fn guessed(url: &str, kind: MediaKind) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let ending = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    Some(match (ending.as_str(), kind) {
        ("png", _) => "image/png",
        ("jpg" | "jpeg", _) => "image/jpeg",
        ("webp", _) => "image/webp",
        ("gif", _) => "image/gif",
        ("pdf", _) | (_, MediaKind::File) => "application/pdf",
        ("mp3", _) => "audio/mp3",
        ("wav", _) => "audio/wav",
        ("mp4", _) => "video/mp4",
        (_, MediaKind::Image) => "image/jpeg",
        (_, MediaKind::Audio | MediaKind::Video) => return None,
    })
}

fn tools<'a>(turn: &'a Turn, losses: &mut Losses) -> Vec<Offered<'a>> {
    let mut declared = Vec::new();
    let mut foreigns = Vec::new();
    turn.lose_tools(OWN, losses);
    for (index, tool) in turn.tools.iter().enumerate() {
        match tool {
            Tool::Function(function) => {
                if function.strict == Some(true) {
                    losses.hint(said::STRICT);
                }
                if function.schema.as_ref().is_some_and(schema::has_unenforced) {
                    losses.hint(said::SCHEMA);
                }
                declared.push(Declared {
                    name: &function.name.name,
                    description: function.description.as_deref(),
                    parameters_json_schema: function.schema.as_ref(),
                });
            }
            Tool::Custom(_) => losses.meaning(format!("tools[{index}]")),
            Tool::Foreign(foreign) if foreign.wire == OWN => foreigns.push(Offered::Foreign(&foreign.json)),
            Tool::Foreign(_) => {}
            Tool::CacheMark(_) => losses.hint(said::CACHE_MARK),
        }
    }
    let own = (!declared.is_empty()).then_some(Offered::Own {
        function_declarations: declared,
    });
    own.into_iter().chain(foreigns).collect()
}

fn tool_config<'a>(turn: &'a Turn, tools: &[Offered<'_>]) -> Option<ToolConfig<'a>> {
    if !tools.iter().any(|tool| matches!(tool, Offered::Own { .. })) {
        return None;
    }
    let (mode, allowed_function_names) = match turn.choice.as_ref()? {
        Choice::Auto => ("AUTO", Vec::new()),
        Choice::None => ("NONE", Vec::new()),
        Choice::Required => ("ANY", Vec::new()),
        Choice::One(name) => ("ANY", vec![name.name.as_str()]),
        Choice::Some { names, is_required } => {
            let names = names.iter().map(|name| name.name.as_str()).collect();
            (if *is_required { "ANY" } else { "VALIDATED" }, names)
        }
    };
    Some(ToolConfig {
        function_calling_config: Calling {
            mode,
            allowed_function_names,
        },
    })
}

fn config<'a>(turn: &'a Turn, is_old: bool, losses: &mut Losses) -> Config<'a> {
    let schema = match &turn.form {
        Form::Schema(schema) => Some(&schema.schema),
        Form::Text | Form::Json => None,
    };
    if schema.is_some_and(schema::has_unenforced) {
        losses.hint(said::FORM);
    }
    let sampling = &turn.sampling;
    let thinking = thinking(turn, is_old);
    Config {
        temperature: sampling.temperature.as_ref(),
        top_p: sampling.top_p.as_ref(),
        top_k: sampling.top_k.as_ref(),
        frequency_penalty: sampling.frequency_penalty.as_ref(),
        presence_penalty: sampling.presence_penalty.as_ref(),
        seed: sampling.seed.as_ref(),
        max_output_tokens: turn.max_output.map(crate::Tokens::get),
        stop_sequences: &turn.stop,
        response_mime_type: (turn.form != Form::Text).then_some("application/json"),
        response_json_schema: schema,
        thinking_config: (thinking != Thinking::default()).then_some(thinking),
    }
}

fn thinking(turn: &Turn, is_old: bool) -> Thinking {
    let asked = &turn.reasoning;
    let effort = asked.effort.or_else(|| asked.budget.map(Effort::of_budget));
    let budget = asked.budget.or_else(|| asked.effort.map(Effort::budget));
    let level = |effort| match effort {
        Effort::None | Effort::Minimal => "MINIMAL",
        Effort::Low => "LOW",
        Effort::Medium => "MEDIUM",
        Effort::High | Effort::XHigh | Effort::Max => "HIGH",
    };
    let is_off = asked.effort == Some(Effort::None);
    Thinking {
        include_thoughts: asked.is_shown.filter(|_| !is_off),
        thinking_budget: budget
            .filter(|_| is_old)
            .map(|budget| if is_off { 0 } else { budget.get().min(MOST_BUDGET) }),
        thinking_level: effort.filter(|_| !is_old).map(level),
    }
}

/// The most that 2.5 Flash takes; 2.5 Pro takes more.
const MOST_BUDGET: u64 = 24_576;
