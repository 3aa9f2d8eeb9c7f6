//! Reads a client's request.

use super::changes;
use crate::lane::VendorWire;
use crate::loss::{LossKind, Losses};
use crate::members::{Field, Invalid, Members};
use crate::tokens::Tokens;
use crate::turn::{
    CacheMark, Call, CallName, CallResult, Choice, Citation, Effort, Foreign, Form, Function, Media, MediaKind,
    MediaSource, Message, Opaque, Part, Reasoning, Role, Sampling, Schema, Text, Thought, Tool, Turn,
};

const OWN: VendorWire = VendorWire::Messages;

pub(super) type Read<T> = Result<T, Invalid>;

/// Reads the body of `POST /v1/messages`.
///
/// # Errors
/// When a field is not what the wire says it is.
pub(crate) fn read(body: &[u8], losses: &mut Losses) -> Read<Turn> {
    let mut body = Members::document(body)?;
    body.ignore(&["model", "stream"]);
    let mut turn = Turn::default();
    if let Some(system) = body.take("system") {
        let parts = content(&system, losses)?;
        turn.messages.push(Message {
            role: Role::System,
            parts,
        });
    }
    for item in body.need("messages", "an array of messages")?.items()? {
        turn.messages.push(message(&item, losses)?);
    }
    if let Some(mark) = body.take("cache_control") {
        let mark = cache_mark(&mark)?;
        if let Some(last) = turn.messages.last_mut() {
            last.parts.push(Part::CacheMark(mark));
        }
    }
    for item in body.items("tools")? {
        tool(&item, &mut turn.tools, losses)?;
    }
    changes::make(&mut turn, losses)?;
    if let Some(choice) = body.take("tool_choice") {
        choose(&choice, &mut turn, losses)?;
    }
    turn.max_output = body.count("max_tokens")?.map(Tokens::new);
    for text in body.items("stop_sequences")? {
        turn.stop.push(text.text()?);
    }
    turn.sampling = Sampling {
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        top_k: body.number("top_k")?,
        ..Sampling::default()
    };
    let effort = output_config(&mut body, &mut turn, losses)?;
    turn.reasoning = thought(body.take("thinking"), effort, losses)?;
    if let Some(metadata) = body.take("metadata") {
        let mut metadata = metadata.members()?;
        turn.user = metadata.text("user_id")?;
        metadata.rest(losses);
    }
    for key in ["container", "mcp_servers", "inference_geo"] {
        body.lose(key, LossKind::Meaning, losses);
    }
    body.rest(losses);
    turn.name_results();
    Ok(turn)
}

fn message(item: &Field<'_>, losses: &mut Losses) -> Read<Message> {
    let mut members = item.members()?;
    let role = match members.need_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(members.invalid("role", "`user`, `assistant` or `system`")),
    };
    let parts = content(&members.need("content", "a string or an array of blocks")?, losses)?;
    members.rest(losses);
    Ok(Message { role, parts })
}

/// A text, or an array of blocks.
fn content(field: &Field<'_>, losses: &mut Losses) -> Read<Vec<Part>> {
    blocks(field, false, losses)
}

/// Within a result there is none: what a client nests without end is not followed.
fn blocks(field: &Field<'_>, is_result: bool, losses: &mut Losses) -> Read<Vec<Part>> {
    if field.is_text() {
        return Ok(vec![Part::text(field.text()?)]);
    }
    let items = field.items()?;
    let mut parts = Vec::with_capacity(items.len());
    for item in items {
        block(&item, is_result, &mut parts, losses)?;
    }
    Ok(parts)
}

fn block(item: &Field<'_>, is_result: bool, parts: &mut Vec<Part>, losses: &mut Losses) -> Read<()> {
    let mut members = item.members()?;
    let kind = members.need_text("type")?;
    let mark = members.take("cache_control");
    let part = match kind.as_str() {
        "text" => Part::Text(Text {
            text: members.need_text("text")?,
            citations: citations(members.take("citations"))?,
        }),
        "image" => Part::Media(media(MediaKind::Image, &mut members)?),
        "document" if !is_of_blocks(item)? => document(&mut members, losses)?,
        "tool_use" => call(&mut members, losses)?,
        "tool_result" if !is_result => result(&mut members, losses)?,
        "thinking" => Part::Reasoning(Reasoning {
            text: members.need_text("thinking")?,
            opaque: members.text("signature")?.filter(|sign| !sign.is_empty()).map(kept),
            is_redacted: false,
        }),
        "redacted_thinking" => Part::Reasoning(Reasoning {
            text: String::new(),
            opaque: Some(kept(members.need_text("data")?)),
            is_redacted: true,
        }),
        "search_result" => {
            let told = format!("{} ({})", members.need_text("title")?, members.need_text("source")?);
            members.lose("citations", LossKind::Hint, losses);
            Part::text(quoted(&told, &members.need("content", "an array of blocks")?)?)
        }
        "document" => {
            let mut source = members.need("source", "an object")?.members()?;
            let told = members.text("title")?.unwrap_or_default();
            members.lose("citations", LossKind::Hint, losses);
            members.lose("context", LossKind::Meaning, losses);
            Part::text(quoted(
                &told,
                &source.need("content", "a string or an array of blocks")?,
            )?)
        }
        // What a search for tools found; all of them are offered from the beginning elsewhere.
        "tool_reference" => Part::text(format!("`{}` can be called.", members.need_text("tool_name")?)),
        // A file in the vendor's own container is what the rest is about.
        "container_upload" => {
            losses.meaning(item.path.clone());
            return Ok(());
        }
        _ => {
            parts.push(Part::Foreign(foreign(item)));
            return Ok(());
        }
    };
    members.rest(losses);
    parts.push(part);
    if let Some(mark) = mark {
        parts.push(Part::CacheMark(cache_mark(&mark)?));
    }
    Ok(())
}

/// What was found, or a document of blocks: texts under a title, which every wire can say as text.
fn quoted(title: &str, content: &Field<'_>) -> Read<String> {
    if content.is_text() {
        return Ok(format!("{title}\n{}", content.text()?));
    }
    let mut text = title.to_owned();
    for item in content.items()? {
        let mut members = item.members()?;
        if members.need_text("type")? != "text" {
            return Err(item.invalid("a text, as pictures in a document of blocks are not translated"));
        }
        text.push('\n');
        text.push_str(&members.need_text("text")?);
    }
    Ok(text)
}

fn kept(sign: String) -> Opaque {
    Opaque::of_client(OWN, &sign)
}

fn foreign(item: &Field<'_>) -> Foreign {
    Foreign {
        wire: OWN,
        json: item.json(),
        path: item.path.clone(),
    }
}

fn cache_mark(field: &Field<'_>) -> Read<CacheMark> {
    let mut members = field.members()?;
    Ok(CacheMark {
        ttl: members.text("ttl")?,
    })
}

fn citations(field: Option<Field<'_>>) -> Read<Vec<Citation>> {
    let items = field.map_or_else(|| Ok(Vec::new()), |field| field.items())?;
    let cite = |item: &Field<'_>| -> Read<Citation> {
        let mut members = item.members()?;
        let title = members.text("title")?;
        Ok(Citation {
            url: members.text("url")?.or(members.text("source")?),
            title: title.or(members.text("document_title")?),
            quote: members.text("cited_text")?,
            span: None,
        })
    };
    items.iter().map(cite).collect()
}

fn media(kind: MediaKind, members: &mut Members<'_>) -> Read<Media> {
    let field = members.need("source", "an object")?;
    let mut source = field.members()?;
    let of_kind = source.need_text("type")?;
    let source = match of_kind.as_str() {
        "base64" => MediaSource::Data {
            mime: source.need_text("media_type")?,
            base64: source.need_text("data")?,
        },
        "text" => MediaSource::Data {
            mime: source.need_text("media_type")?,
            base64: crate::base64::encode(source.need_text("data")?.as_bytes()),
        },
        "url" => MediaSource::Url {
            url: source.need_text("url")?,
            mime: (kind == MediaKind::File).then(|| "application/pdf".to_owned()),
        },
        _ => MediaSource::Stored(foreign(&field)),
    };
    Ok(Media {
        kind,
        source,
        name: None,
        detail: None,
    })
}

/// A document made of blocks, which no other wire knows.
fn is_of_blocks(item: &Field<'_>) -> Read<bool> {
    let mut source = item.members()?.need("source", "an object")?.members()?;
    Ok(source.need_text("type")? == "content")
}

fn document(members: &mut Members<'_>, losses: &mut Losses) -> Read<Part> {
    let mut media = media(MediaKind::File, members)?;
    media.name = members.text("title")?;
    // What is told of a document is read by the model.
    members.lose("context", LossKind::Meaning, losses);
    if let Some(field) = members.take("citations") {
        let is_wanted = field.members()?.flag("enabled")?.unwrap_or(false);
        if is_wanted {
            losses.hint(field.path);
        }
    }
    Ok(Part::Media(media))
}

fn call(members: &mut Members<'_>, losses: &mut Losses) -> Read<Part> {
    let (id, opaque) = Opaque::off_call(&members.need_text("id")?);
    let input = members.need("input", "an object")?;
    if !input.is_object() {
        return Err(input.invalid("an object"));
    }
    // Who calls is the model itself, unless its code does, which stands in blocks that only this wire knows.
    members.ignore(&["caller"]);
    members.lose("toolset_name", LossKind::Meaning, losses);
    Ok(Part::Call(Call {
        id,
        name: CallName::plain(members.need_text("name")?),
        arguments: input.as_str().to_owned(),
        opaque,
    }))
}

fn result(members: &mut Members<'_>, losses: &mut Losses) -> Read<Part> {
    let parts = match members.take("content") {
        Some(field) => blocks(&field, true, losses)?,
        None => Vec::new(),
    };
    members.lose("toolset_name", LossKind::Meaning, losses);
    Ok(Part::CallResult(CallResult {
        id: Opaque::off_call(&members.need_text("tool_use_id")?).0,
        name: None,
        parts,
        is_error: members.flag("is_error")?.unwrap_or(false),
    }))
}

pub(super) fn tool(item: &Field<'_>, tools: &mut Vec<Tool>, losses: &mut Losses) -> Read<()> {
    let mut members = item.members()?;
    let kind = members.text("type")?;
    if kind.is_some_and(|kind| kind != "custom") {
        tools.push(Tool::Foreign(foreign(item)));
        return Ok(());
    }
    let mark = members.take("cache_control");
    tools.push(Tool::Function(Function {
        name: CallName::plain(members.need_text("name")?),
        description: members.text("description")?,
        schema: members.json("input_schema"),
        strict: members.flag("strict")?,
    }));
    members.rest(losses);
    if let Some(mark) = mark {
        tools.push(Tool::CacheMark(cache_mark(&mark)?));
    }
    Ok(())
}

fn choose(field: &Field<'_>, turn: &mut Turn, losses: &mut Losses) -> Read<()> {
    let mut members = field.members()?;
    turn.choice = Some(match members.need_text("type")?.as_str() {
        "auto" => Choice::Auto,
        "any" => Choice::Required,
        "none" => Choice::None,
        "tool" => Choice::One(CallName::plain(members.need_text("name")?)),
        _ => return Err(members.invalid("type", "`auto`, `any`, `tool` or `none`")),
    });
    turn.parallel_calls = members
        .flag("disable_parallel_tool_use")?
        .map(|is_disabled| !is_disabled);
    members.rest(losses);
    Ok(())
}

/// The form of the answer, and how hard to think of it.
fn output_config(body: &mut Members<'_>, turn: &mut Turn, losses: &mut Losses) -> Read<Option<Effort>> {
    let Some(config) = body.take("output_config") else {
        return Ok(None);
    };
    let mut config = config.members()?;
    if let Some(format) = config.take("format") {
        let mut format = format.members()?;
        if format.need_text("type")? != "json_schema" {
            return Err(format.invalid("type", "`json_schema`"));
        }
        turn.form = Form::Schema(Schema {
            name: None,
            description: None,
            schema: format.need("schema", "an object")?.json(),
            strict: Some(true),
        });
        format.rest(losses);
    }
    let effort = config.text("effort")?;
    let effort = effort.map(|name| Effort::parse(&name).ok_or_else(|| config.invalid("effort", EFFORTS)));
    config.rest(losses);
    effort.transpose()
}

const EFFORTS: &str = "`low`, `medium`, `high`, `xhigh` or `max`";

fn thought(thinking: Option<Field<'_>>, effort: Option<Effort>, losses: &mut Losses) -> Read<Thought> {
    let mut thought = Thought {
        effort,
        ..Thought::default()
    };
    let Some(thinking) = thinking else {
        return Ok(thought);
    };
    let mut members = thinking.members()?;
    let display = members.text("display")?;
    thought.is_shown = display.map(|display| display != "omitted");
    match members.need_text("type")?.as_str() {
        "disabled" => thought.effort = Some(Effort::None),
        "enabled" => {
            thought.budget = members.count("budget_tokens")?.map(Tokens::new);
            thought.is_shown = thought.is_shown.or(Some(true));
        }
        _ => thought.effort = effort.or(Some(Effort::Medium)),
    }
    members.rest(losses);
    Ok(thought)
}
