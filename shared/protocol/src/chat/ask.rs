//! A request to a vendor.

use std::borrow::Cow;

use serde::Serialize;

use crate::codec::Target;
use crate::loss::{Losses, said};
use crate::openai::{self, Drawn, effort};
use crate::turn::{
    Call, CallName, CallResult, Choice, Effort, Form, Function, Json, Media, MediaKind, MediaSource, Message, Part,
    Role, Text, Tool, Turn,
};
use crate::{Tokens, VendorWire};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<Said<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Offer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Must<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Json>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// One message.
#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: Image<'a> },
    InputAudio { input_audio: Audio<'a> },
    File { file: File<'a> },
}

#[derive(Serialize)]
struct Image<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct Audio<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
struct File<'a> {
    filename: &'a str,
    file_data: Cow<'a, str>,
}

#[derive(Serialize)]
struct Called<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Offer<'a> {
    r#type: &'static str,
    function: Offered<'a>,
}

#[derive(Serialize)]
struct Offered<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Must<'a> {
    Word(&'static str),
    One { r#type: &'static str, function: Name<'a> },
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonObject,
    JsonSchema { json_schema: NamedSchema<'a> },
}

#[derive(Serialize)]
struct NamedSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// Writes it.
pub(crate) fn write(turn: &Turn, target: &Target<'_>, losses: &mut Losses) -> Vec<u8> {
    turn.lose_tools(VendorWire::Chat, losses);
    let effort = effort(turn, target.model, losses);
    let drawn = Drawn::of(turn, target.model, effort, losses);
    if turn.sampling.top_k.is_some() {
        losses.hint(said::TOP_K);
    }
    // Others than OpenAI refuse its younger field.
    let (max_completion_tokens, max_tokens) = match target.is_openai {
        true => (turn.max_output, None),
        false => (None, turn.max_output),
    };
    let tools = tools(turn, losses);
    let choice = turn.choice.as_ref().filter(|_| !tools.is_empty());
    let request = Request {
        model: target.model,
        messages: messages(turn, target, losses),
        tool_choice: choice.and_then(|choice| must(choice, losses)),
        parallel_tool_calls: turn.parallel_calls.filter(|_| !tools.is_empty()),
        tools,
        response_format: format(&turn.form, losses),
        max_completion_tokens,
        max_tokens,
        stop: &turn.stop,
        temperature: drawn.temperature,
        top_p: drawn.top_p,
        frequency_penalty: drawn.frequency_penalty,
        presence_penalty: drawn.presence_penalty,
        seed: turn.sampling.seed.as_ref(),
        reasoning_effort: effort.map(Effort::name),
        verbosity: openais(turn.verbosity.as_deref(), said::VERBOSITY, target, losses),
        service_tier: openais(turn.service_tier.as_deref(), said::SERVICE_TIER, target, losses),
        prompt_cache_key: openais(turn.cache_key.as_deref(), said::CACHE_KEY, target, losses),
        user: turn.user.as_deref().filter(|user| fits(user, losses)),
        metadata: openais(turn.metadata.as_ref(), said::METADATA, target, losses),
        stream: target.is_streamed,
        stream_options: target.is_streamed.then_some(StreamOptions { include_usage: true }),
    };
    serde_json::to_vec(&request).unwrap_or_default()
}

/// What OpenAI alone is sure to understand.
fn openais<T>(said: Option<T>, word: &'static str, target: &Target<'_>, losses: &mut Losses) -> Option<T> {
    if said.is_some() && !target.is_openai {
        losses.hint(word);
    }
    said.filter(|_| target.is_openai)
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

fn tools<'a>(turn: &'a Turn, losses: &mut Losses) -> Vec<Offer<'a>> {
    let mut tools = Vec::new();
    for tool in &turn.tools {
        match tool {
            Tool::Function(function) => tools.push(offer(function)),
            Tool::CacheMark(_) => losses.hint(said::CACHE_MARK),
            // Free-form tools were made functions before; those of vendors are told of above.
            Tool::Custom(_) | Tool::Foreign(_) => {}
        }
    }
    tools
}

fn offer(function: &Function) -> Offer<'_> {
    Offer {
        r#type: "function",
        function: Offered {
            name: &function.name.name,
            description: function.description.as_deref(),
            parameters: function.schema.as_ref(),
            strict: function.strict,
        },
    }
}

fn must<'a>(choice: &'a Choice, losses: &mut Losses) -> Option<Must<'a>> {
    let one = |name: &'a CallName| Must::One {
        r#type: "function",
        function: Name { name: &name.name },
    };
    match choice {
        Choice::Auto => Some(Must::Word("auto")),
        Choice::None => Some(Must::Word("none")),
        Choice::Required => Some(Must::Word("required")),
        Choice::One(name) => Some(one(name)),
        Choice::Some { names, is_required } => match (names.as_slice(), is_required) {
            ([name], true) => Some(one(name)),
            _ => {
                losses.meaning(said::CHOICE);
                None
            }
        },
    }
}

fn format<'a>(form: &'a Form, losses: &mut Losses) -> Option<Format<'a>> {
    match form {
        Form::Text => None,
        Form::Json => Some(Format::JsonObject),
        Form::Schema(wanted) => {
            let (schema, strict) = openai::form(wanted, losses);
            Some(Format::JsonSchema {
                json_schema: NamedSchema {
                    name: wanted.name.as_deref().unwrap_or("answer"),
                    description: wanted.description.as_deref(),
                    schema,
                    strict,
                },
            })
        }
    }
}

fn messages<'a>(turn: &'a Turn, target: &Target<'_>, losses: &mut Losses) -> Vec<Said<'a>> {
    let mut said: Vec<Said<'a>> = Vec::with_capacity(turn.messages.len());
    for message in &turn.messages {
        match message.role {
            // The younger name is OpenAI's alone, and means the same there.
            Role::System | Role::Developer => rules(message, &mut said, losses),
            Role::User => user(message, &mut said, losses),
            Role::Assistant => assistant(message, &mut said, target, losses),
        }
    }
    said.retain_mut(Said::is_worth_saying);
    said
}

/// Rules at the beginning are one text: the templates of many models have room for one.
fn rules<'a>(message: &'a Message, said: &mut Vec<Said<'a>>, losses: &mut Losses) {
    let text = texts_of(&pieces(message.parts.iter(), losses)).join("\n\n");
    match said.as_mut_slice() {
        [first] if first.role == "system" => {
            if let Some(Content::Text(before)) = &mut first.content {
                let before = before.to_mut();
                before.push_str("\n\n");
                before.push_str(&text);
            }
        }
        _ => said.push(Said::new("system", Content::Text(Cow::Owned(text)))),
    }
}

impl<'a> Said<'a> {
    fn new(role: &'static str, content: Content<'a>) -> Self {
        Self {
            role,
            content: Some(content),
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// DeepSeek wants to see a thought again beside the calls it led to, and refuses or ignores others. A message that was
    /// nothing but a thought is none.
    fn is_worth_saying(&mut self) -> bool {
        if self.tool_calls.is_empty() {
            self.reasoning_content = None;
        }
        self.content.is_some() || !self.tool_calls.is_empty()
    }
}

/// Results come right after their calls, each as a message of its own; pictures within them follow as the user's.
fn user<'a>(message: &'a Message, said: &mut Vec<Said<'a>>, losses: &mut Losses) {
    let mut pictures = Vec::new();
    for part in &message.parts {
        if let Part::CallResult(result) = part {
            said.push(tool_result(result, &mut pictures, losses));
        }
    }
    let others = message.parts.iter().filter(|part| !matches!(part, Part::CallResult(_)));
    let mut pieces = pieces(others, losses);
    pieces.splice(0..0, pictures);
    if !pieces.is_empty() {
        said.push(Said::new("user", joined(pieces)));
    } else if message.parts.is_empty() {
        said.push(Said::new("user", Content::Text(Cow::Borrowed(""))));
    }
}

fn tool_result<'a>(result: &'a CallResult, pictures: &mut Vec<Piece<'a>>, losses: &mut Losses) -> Said<'a> {
    if result.is_error {
        losses.hint(said::IS_ERROR);
    }
    let (texts, others): (Vec<_>, Vec<_>) = pieces(result.parts.iter(), losses)
        .into_iter()
        .partition(|piece| matches!(piece, Piece::Text { .. }));
    pictures.extend(others);
    let text = match joined(texts) {
        Content::Text(text) => Content::Text(text),
        // Not every server takes a list here.
        Content::Parts(parts) => Content::Text(Cow::Owned(texts_of(&parts).join("\n"))),
    };
    Said {
        tool_call_id: Some(&result.id),
        ..Said::new("tool", text)
    }
}

fn texts_of<'a>(pieces: &'a [Piece<'_>]) -> Vec<&'a str> {
    let texts = pieces.iter().filter_map(|piece| match piece {
        Piece::Text { text } => Some(text.as_ref()),
        Piece::ImageUrl { .. } | Piece::InputAudio { .. } | Piece::File { .. } => None,
    });
    texts.collect()
}

/// One text alone is written as such.
fn joined(mut pieces: Vec<Piece<'_>>) -> Content<'_> {
    match pieces.as_mut_slice() {
        [] => Content::Text(Cow::Borrowed("")),
        [Piece::Text { text }] => Content::Text(std::mem::take(text)),
        _ => Content::Parts(pieces),
    }
}

fn pieces<'a>(parts: impl Iterator<Item = &'a Part>, losses: &mut Losses) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    for part in parts {
        match part {
            Part::Text(Text { text, .. }) | Part::Refusal(text) => pieces.push(Piece::Text {
                text: Cow::Borrowed(text),
            }),
            Part::Media(media) => pieces.extend(piece(media, losses)),
            Part::CacheMark(_) => losses.hint(said::CACHE_MARK),
            Part::Foreign(foreign) => losses.hint(foreign.path.clone()),
            Part::Reasoning(_) | Part::Call(_) | Part::CallResult(_) => {}
        }
    }
    pieces
}

fn piece<'a>(media: &'a Media, losses: &mut Losses) -> Option<Piece<'a>> {
    let Some(url) = media.source.url() else {
        if let MediaSource::Stored(foreign) = &media.source {
            losses.meaning(foreign.path.clone());
        }
        return None;
    };
    match (media.kind, &media.source) {
        (MediaKind::Image, _) => Some(Piece::ImageUrl {
            image_url: Image {
                url,
                detail: media.detail.as_deref(),
            },
        }),
        (MediaKind::Audio, MediaSource::Data { mime, base64 }) => Some(Piece::InputAudio {
            input_audio: Audio {
                data: base64,
                format: match mime.strip_prefix("audio/").unwrap_or(mime) {
                    "mpeg" => "mp3",
                    "x-wav" | "wave" => "wav",
                    format => format,
                },
            },
        }),
        (MediaKind::File, MediaSource::Data { .. }) => Some(Piece::File {
            file: File {
                filename: media.name.as_deref().unwrap_or("file"),
                file_data: url,
            },
        }),
        (MediaKind::Audio | MediaKind::File, _) => {
            losses.meaning(said::MEDIA_URL);
            None
        }
        (MediaKind::Video, _) => {
            losses.meaning(said::VIDEO);
            None
        }
    }
}

/// What a model said in one round is one message, however many its own wire made of it.
fn assistant<'a>(message: &'a Message, said: &mut Vec<Said<'a>>, target: &Target<'_>, losses: &mut Losses) {
    let mut pieces = pieces(message.parts.iter(), losses);
    let all = pieces.len();
    pieces.retain(|piece| matches!(piece, Piece::Text { .. }));
    if pieces.len() < all {
        // A model's pictures have no place among its words here.
        losses.hint(said::IMAGE);
    }
    let mut now = Said::new("assistant", Content::Text(Cow::Borrowed("")));
    now.content = (!pieces.is_empty()).then(|| joined(pieces));
    for part in &message.parts {
        match part {
            Part::Call(call) => now.tool_calls.push(called(call)),
            Part::Reasoning(reasoning) if !target.is_openai && !reasoning.text.is_empty() => {
                now.reasoning_content.get_or_insert_default().push_str(&reasoning.text);
            }
            Part::Reasoning(_)
            | Part::Text(_)
            | Part::Refusal(_)
            | Part::Media(_)
            | Part::CallResult(_)
            | Part::CacheMark(_)
            | Part::Foreign(_) => {}
        }
    }
    match said.last_mut() {
        Some(before) if before.role == "assistant" => before.go_on(now),
        Some(_) | None => said.push(now),
    }
}

impl<'a> Said<'a> {
    fn go_on(&mut self, more: Self) {
        self.content = match (self.content.take(), more.content) {
            (None, content) | (content, None) => content,
            (Some(before), Some(after)) => {
                let mut pieces = before.into_pieces();
                pieces.extend(after.into_pieces());
                Some(Content::Parts(pieces))
            }
        };
        match (&mut self.reasoning_content, more.reasoning_content) {
            (Some(before), Some(after)) => before.push_str(&after),
            (before, after) => *before = before.take().or(after),
        }
        self.tool_calls.extend(more.tool_calls);
    }
}

impl<'a> Content<'a> {
    fn into_pieces(self) -> Vec<Piece<'a>> {
        match self {
            Self::Text(text) => vec![Piece::Text { text }],
            Self::Parts(pieces) => pieces,
        }
    }
}

fn called(call: &Call) -> Called<'_> {
    Called {
        id: &call.id,
        r#type: "function",
        function: CalledFunction {
            name: &call.name.name,
            arguments: if call.arguments.is_empty() {
                "{}"
            } else {
                &call.arguments
            },
        },
    }
}
