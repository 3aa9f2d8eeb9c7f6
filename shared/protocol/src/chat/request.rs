//! A client's request.

use crate::loss::{LossKind, Losses};
use crate::members::{Field, Invalid, Members};
use crate::turn::{
    CacheMark, Call, CallName, CallResult, Choice, Custom, Effort, Foreign, Form, Function, Media, MediaKind,
    MediaSource, Message, Opaque, Part, Reasoning, Role, Sampling, Schema, Text, Thought, Tool, Turn,
};
use crate::{Tokens, VendorWire};

/// Reads it. The model and whether the answer is streamed are the envelope's.
pub(crate) fn read(body: &[u8], losses: &mut Losses) -> Result<Turn, Invalid> {
    let mut fields = Members::document(body)?;
    fields.ignore(&["model", "stream", "stream_options"]);
    let mut turn = Turn {
        messages: messages(&mut fields, losses)?,
        tools: tools(&mut fields, losses)?,
        choice: choice(&mut fields, losses)?,
        parallel_calls: fields.flag("parallel_tool_calls")?,
        form: form(&mut fields)?,
        max_output: limit(&mut fields)?,
        stop: stop(&mut fields)?,
        sampling: sampling(&mut fields)?,
        reasoning: thought(&mut fields, losses)?,
        verbosity: fields.text("verbosity")?,
        service_tier: fields.text("service_tier")?,
        cache_key: fields.text("prompt_cache_key")?,
        user: user(&mut fields)?,
        metadata: fields.take_said("metadata").map(|field| field.json()),
    };
    refuse(&mut fields, losses)?;
    fields.rest(losses);
    turn.name_results();
    Ok(turn)
}

/// What no other wire says, and an answer hangs on.
fn refuse(fields: &mut Members<'_>, losses: &mut Losses) -> Result<(), Invalid> {
    if let Some(n) = fields.take("n").filter(|n| n.count().is_ok_and(|n| n != 1)) {
        losses.meaning(n.path);
    }
    if fields.flag("logprobs")?.unwrap_or(false) {
        losses.meaning("logprobs");
    }
    fields.ignore(&["top_logprobs"]);
    if fields.flag("store")? == Some(true) {
        losses.hint("store");
    }
    for key in ["functions", "function_call", "audio", "logit_bias"] {
        fields.lose(key, LossKind::Meaning, losses);
    }
    for modality in fields.items("modalities")? {
        if modality.text()? != "text" {
            losses.meaning(modality.path);
        }
    }
    Ok(())
}

fn messages(fields: &mut Members<'_>, losses: &mut Losses) -> Result<Vec<Message>, Invalid> {
    let list = fields.need("messages", "a list of messages")?.items()?;
    let mut messages = Vec::with_capacity(list.len());
    for field in list {
        let mut message = field.members()?;
        let role = message.need_text("role")?;
        message.lose("name", LossKind::Hint, losses);
        let said = match role.as_str() {
            "system" => plain(Role::System, &mut message, losses)?,
            "developer" => plain(Role::Developer, &mut message, losses)?,
            "user" => plain(Role::User, &mut message, losses)?,
            "assistant" => assistant(&mut message, losses)?,
            "tool" => result(&mut message, losses)?,
            _ => {
                losses.meaning(message.path("role"));
                continue;
            }
        };
        message.rest(losses);
        messages.push(said);
    }
    Ok(messages)
}

fn plain(role: Role, message: &mut Members<'_>, losses: &mut Losses) -> Result<Message, Invalid> {
    let content = message.need("content", "a string or a list of parts")?;
    let parts = content_parts(&content, losses)?;
    Ok(Message { role, parts })
}

fn content_parts(content: &Field<'_>, losses: &mut Losses) -> Result<Vec<Part>, Invalid> {
    if content.is_text() {
        return Ok(vec![Part::text(content.text()?)]);
    }
    let mut parts = Vec::new();
    for field in content.items()? {
        let mut part = field.members()?;
        let kind = part.need_text("type")?;
        match kind.as_str() {
            "text" => parts.push(Part::text(part.need_text("text")?)),
            "refusal" => parts.push(Part::Refusal(part.need_text("refusal")?)),
            "image_url" => parts.push(Part::Media(image(&mut part, losses)?)),
            "input_audio" => parts.push(Part::Media(audio(&mut part, losses)?)),
            "file" => parts.push(Part::Media(file(&mut part, &field, losses)?)),
            _ => {
                losses.meaning(field.path);
                continue;
            }
        }
        if let Some(mark) = part.take("cache_control") {
            let ttl = mark.members()?.text("ttl")?;
            parts.push(Part::CacheMark(CacheMark { ttl }));
        }
        part.rest(losses);
    }
    Ok(parts)
}

fn image(part: &mut Members<'_>, losses: &mut Losses) -> Result<Media, Invalid> {
    let mut image = part.need("image_url", "an object with a `url`")?.members()?;
    let media = Media {
        kind: MediaKind::Image,
        source: MediaSource::of_url(image.need_text("url")?, None),
        name: None,
        detail: image.text("detail")?,
    };
    image.rest(losses);
    Ok(media)
}

fn audio(part: &mut Members<'_>, losses: &mut Losses) -> Result<Media, Invalid> {
    let mut audio = part.need("input_audio", "an object with `data`")?.members()?;
    let format = audio.need_text("format")?;
    let media = Media {
        kind: MediaKind::Audio,
        source: MediaSource::Data {
            mime: format!("audio/{format}"),
            base64: audio.need_text("data")?,
        },
        name: None,
        detail: None,
    };
    audio.rest(losses);
    Ok(media)
}

fn file(part: &mut Members<'_>, whole: &Field<'_>, losses: &mut Losses) -> Result<Media, Invalid> {
    let mut file = part.need("file", "an object with `file_data`")?.members()?;
    let name = file.text("filename")?;
    let source = match (file.text("file_data")?, file.take("file_id")) {
        (Some(data), _) if data.starts_with("data:") => MediaSource::of_url(data, None),
        (Some(base64), _) => MediaSource::Data {
            mime: "application/pdf".to_owned(),
            base64,
        },
        (None, Some(_)) => MediaSource::Stored(foreign(whole)),
        (None, None) => return Err(file.invalid("file_data", "a string")),
    };
    file.rest(losses);
    Ok(Media {
        kind: MediaKind::File,
        source,
        name,
        detail: None,
    })
}

fn foreign(field: &Field<'_>) -> Foreign {
    Foreign {
        wire: VendorWire::Chat,
        json: field.json(),
        path: field.path.clone(),
    }
}

fn assistant(message: &mut Members<'_>, losses: &mut Losses) -> Result<Message, Invalid> {
    let mut parts = Vec::new();
    for key in ["reasoning_content", "reasoning"] {
        if let Some(text) = message.take(key).filter(Field::is_text) {
            parts.push(Part::Reasoning(Reasoning {
                text: text.text()?,
                ..Reasoning::default()
            }));
            break;
        }
    }
    message.ignore(&["reasoning_content", "reasoning", "annotations"]);
    for key in ["audio", "function_call"] {
        message.lose(key, LossKind::Meaning, losses);
    }
    if let Some(content) = message.take("content") {
        parts.extend(content_parts(&content, losses)?.into_iter().filter(says_something));
    }
    if let Some(refusal) = message.text("refusal")? {
        parts.push(Part::Refusal(refusal));
    }
    for call in message.items("tool_calls")? {
        parts.push(Part::Call(tool_call(&call, losses)?));
    }
    Ok(Message {
        role: Role::Assistant,
        parts,
    })
}

/// Beside its calls an assistant's text is often empty, which other wires refuse.
fn says_something(part: &Part) -> bool {
    !matches!(part, Part::Text(Text { text, .. }) if text.is_empty())
}

fn tool_call(field: &Field<'_>, losses: &mut Losses) -> Result<Call, Invalid> {
    let mut call = field.members()?;
    call.ignore(&["type", "index"]);
    let (id, opaque) = Opaque::off_call(&call.need_text("id")?);
    let (name, arguments) = if let Some(custom) = call.take("custom") {
        let mut custom = custom.members()?;
        (custom.need_text("name")?, custom.need_text("input")?)
    } else {
        let mut function = call.need("function", "an object with a `name`")?.members()?;
        let named = (
            function.need_text("name")?,
            function.text("arguments")?.unwrap_or_default(),
        );
        function.rest(losses);
        named
    };
    call.rest(losses);
    Ok(Call {
        id,
        name: CallName::plain(name),
        arguments,
        opaque,
    })
}

fn result(message: &mut Members<'_>, losses: &mut Losses) -> Result<Message, Invalid> {
    let (id, _) = Opaque::off_call(&message.need_text("tool_call_id")?);
    let content = message.need("content", "a string or a list of parts")?;
    let parts = content_parts(&content, losses)?;
    let result = CallResult {
        id,
        name: None,
        parts,
        is_error: false,
    };
    Ok(Message {
        role: Role::User,
        parts: vec![Part::CallResult(result)],
    })
}

fn tools(fields: &mut Members<'_>, losses: &mut Losses) -> Result<Vec<Tool>, Invalid> {
    let mut tools = Vec::new();
    for field in fields.items("tools")? {
        let mut tool = field.members()?;
        match tool.need_text("type")?.as_str() {
            "function" => {
                let mut function = tool.need("function", "an object with a `name`")?.members()?;
                tools.push(Tool::Function(Function {
                    name: CallName::plain(function.need_text("name")?),
                    description: function.text("description")?,
                    schema: function.json("parameters"),
                    strict: function.flag("strict")?,
                }));
                function.rest(losses);
            }
            "custom" => {
                let mut custom = tool.need("custom", "an object with a `name`")?.members()?;
                tools.push(Tool::Custom(Custom {
                    name: CallName::plain(custom.need_text("name")?),
                    description: custom.text("description")?,
                    format: custom.json("format"),
                }));
                custom.rest(losses);
            }
            _ => {
                tools.push(Tool::Foreign(foreign(&field)));
                continue;
            }
        }
        if let Some(mark) = tool.take("cache_control") {
            let ttl = mark.members()?.text("ttl")?;
            tools.push(Tool::CacheMark(CacheMark { ttl }));
        }
        tool.rest(losses);
    }
    if let Some(search) = fields.take("web_search_options") {
        tools.push(Tool::Foreign(foreign(&search)));
    }
    Ok(tools)
}

fn choice(fields: &mut Members<'_>, losses: &mut Losses) -> Result<Option<Choice>, Invalid> {
    let Some(field) = fields.take("tool_choice") else {
        return Ok(None);
    };
    if field.is_text() {
        return match field.text()?.as_str() {
            "auto" => Ok(Some(Choice::Auto)),
            "none" => Ok(Some(Choice::None)),
            "required" => Ok(Some(Choice::Required)),
            _ => Err(field.invalid("`auto`, `none`, `required` or an object")),
        };
    }
    let mut choice = field.members()?;
    let kind = choice.need_text("type")?;
    match kind.as_str() {
        "function" | "custom" => {
            let mut named = choice.need(&kind, "an object with a `name`")?.members()?;
            Ok(Some(Choice::One(CallName::plain(named.need_text("name")?))))
        }
        "allowed_tools" => {
            let mut allowed = choice.need("allowed_tools", "an object with `tools`")?.members()?;
            let is_required = allowed.text("mode")?.as_deref() == Some("required");
            let mut names = Vec::new();
            for tool in allowed.items("tools")? {
                let mut tool = tool.members()?;
                let kind = tool.need_text("type")?;
                let mut named = tool.need(&kind, "an object with a `name`")?.members()?;
                names.push(CallName::plain(named.need_text("name")?));
            }
            Ok(Some(Choice::Some { names, is_required }))
        }
        _ => {
            losses.meaning(field.path);
            Ok(None)
        }
    }
}

fn form(fields: &mut Members<'_>) -> Result<Form, Invalid> {
    let Some(field) = fields.take("response_format") else {
        return Ok(Form::Text);
    };
    let mut format = field.members()?;
    match format.need_text("type")?.as_str() {
        "text" => Ok(Form::Text),
        "json_object" => Ok(Form::Json),
        "json_schema" => {
            let mut schema = format.need("json_schema", "an object with a `schema`")?.members()?;
            Ok(Form::Schema(Schema {
                name: schema.text("name")?,
                description: schema.text("description")?,
                schema: schema.need("schema", "a JSON schema")?.json(),
                strict: schema.flag("strict")?,
            }))
        }
        _ => Err(format.invalid("type", "`text`, `json_object` or `json_schema`")),
    }
}

/// Its two spellings; the larger counts, as it does for the hold.
fn limit(fields: &mut Members<'_>) -> Result<Option<Tokens>, Invalid> {
    let limit = fields.count("max_completion_tokens")?.max(fields.count("max_tokens")?);
    Ok(limit.map(Tokens::new))
}

fn stop(fields: &mut Members<'_>) -> Result<Vec<String>, Invalid> {
    match fields.take_said("stop") {
        None => Ok(Vec::new()),
        Some(one) if one.is_text() => Ok(vec![one.text()?]),
        Some(list) => list.items()?.iter().map(Field::text).collect(),
    }
}

fn sampling(fields: &mut Members<'_>) -> Result<Sampling, Invalid> {
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.number("top_k")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        seed: fields.number("seed")?,
    })
}

fn thought(fields: &mut Members<'_>, losses: &mut Losses) -> Result<Thought, Invalid> {
    let Some(field) = fields.take("reasoning_effort") else {
        return Ok(Thought::default());
    };
    let effort = Effort::parse(&field.text()?);
    if effort.is_none() {
        losses.hint(field.path);
    }
    Ok(Thought {
        effort,
        ..Thought::default()
    })
}

fn user(fields: &mut Members<'_>) -> Result<Option<String>, Invalid> {
    let user = fields.text("user")?;
    let safety = fields.text("safety_identifier")?;
    Ok(safety.or(user))
}
