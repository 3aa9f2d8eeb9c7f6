//! An item of a client's input.

use super::{compaction, request::foreign};
use crate::VendorWire;
use crate::loss::Losses;
use crate::members::{Field, Invalid, Members};
use crate::turn::{
    CacheMark, Call, CallName, CallResult, Media, MediaKind, MediaSource, Message, Opaque, Part, Reasoning, Role,
};

/// Reads one; `None` for one that is lost.
pub(super) fn read(field: &Field<'_>, losses: &mut Losses) -> Result<Option<Message>, Invalid> {
    let mut item = field.members()?;
    let kind = item.text("type")?;
    item.ignore(&["id", "status"]);
    let (role, part) = match kind.as_deref() {
        None | Some("message") => return message(item, losses).map(Some),
        Some("function_call") => (Role::Assistant, Part::Call(call(&mut item, "arguments")?)),
        Some("custom_tool_call") => (Role::Assistant, Part::Call(call(&mut item, "input")?)),
        Some("function_call_output" | "custom_tool_call_output") => {
            (Role::User, Part::CallResult(result(&mut item, losses)?))
        }
        Some("reasoning") => (Role::Assistant, Part::Reasoning(reasoning(&mut item)?)),
        Some("compaction_trigger") => return Ok(Some(compaction::trigger(field))),
        // As Codex spells it, and as its older releases do.
        Some("compaction" | "compaction_summary") => {
            let made = compaction::made(&mut item)?;
            if made.is_none() {
                losses.meaning(field.path.clone());
            }
            return Ok(made);
        }
        // What the vendor's own tools did is told by the answer they led to.
        Some(
            "web_search_call"
            | "file_search_call"
            | "code_interpreter_call"
            | "image_generation_call"
            | "mcp_call"
            | "mcp_list_tools"
            | "tool_search_call"
            | "tool_search_output",
        ) => {
            let parts = vec![Part::Foreign(foreign(field))];
            return Ok(Some(Message {
                role: Role::Assistant,
                parts,
            }));
        }
        Some(_) => {
            losses.meaning(field.path.clone());
            return Ok(None);
        }
    };
    item.rest(losses);
    let parts = vec![part];
    Ok(Some(Message { role, parts }))
}

fn message(mut item: Members<'_>, losses: &mut Losses) -> Result<Message, Invalid> {
    let role = match item.need_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        "developer" => Role::Developer,
        _ => return Err(item.invalid("role", "`user`, `assistant`, `system` or `developer`")),
    };
    item.ignore(&["phase"]);
    let content = item.need("content", "a string or a list of parts")?;
    let parts = content_parts(&content, losses)?;
    item.rest(losses);
    Ok(Message { role, parts })
}

/// A text, or a list of parts.
fn content_parts(content: &Field<'_>, losses: &mut Losses) -> Result<Vec<Part>, Invalid> {
    if content.is_text() {
        return Ok(vec![Part::text(content.text()?)]);
    }
    let mut parts = Vec::new();
    for field in content.items()? {
        let mut part = field.members()?;
        match part.need_text("type")?.as_str() {
            "input_text" | "output_text" | "text" => {
                parts.push(Part::text(part.need_text("text")?));
                part.ignore(&["annotations", "logprobs"]);
            }
            "refusal" => parts.push(Part::Refusal(part.need_text("refusal")?)),
            "input_image" => parts.push(Part::Media(image(&mut part, &field)?)),
            "input_file" => parts.push(Part::Media(file(&mut part, &field)?)),
            "input_audio" => parts.push(Part::Media(audio(&mut part)?)),
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

fn image(part: &mut Members<'_>, whole: &Field<'_>) -> Result<Media, Invalid> {
    let source = match (part.text("image_url")?, part.take("file_id")) {
        (Some(url), _) => MediaSource::of_url(url, None),
        (None, Some(_)) => MediaSource::Stored(foreign(whole)),
        (None, None) => return Err(part.invalid("image_url", "a string")),
    };
    Ok(Media {
        kind: MediaKind::Image,
        source,
        name: None,
        detail: part.text("detail")?,
    })
}

fn file(part: &mut Members<'_>, whole: &Field<'_>) -> Result<Media, Invalid> {
    let name = part.text("filename")?;
    let (data, url, id) = (part.text("file_data")?, part.text("file_url")?, part.take("file_id"));
    let source = match (data, url, id) {
        (Some(data), _, _) if data.starts_with("data:") => MediaSource::of_url(data, None),
        (Some(base64), _, _) => MediaSource::Data {
            mime: "application/pdf".to_owned(),
            base64,
        },
        (None, Some(url), _) => MediaSource::of_url(url, None),
        (None, None, Some(_)) => MediaSource::Stored(foreign(whole)),
        (None, None, None) => return Err(part.invalid("file_data", "a string")),
    };
    Ok(Media {
        kind: MediaKind::File,
        source,
        name,
        detail: None,
    })
}

fn audio(part: &mut Members<'_>) -> Result<Media, Invalid> {
    let mut audio = part.need("input_audio", "an object with `data`")?.members()?;
    let format = audio.need_text("format")?;
    Ok(Media {
        kind: MediaKind::Audio,
        source: MediaSource::Data {
            mime: format!("audio/{format}"),
            base64: audio.need_text("data")?,
        },
        name: None,
        detail: None,
    })
}

fn call(item: &mut Members<'_>, arguments: &str) -> Result<Call, Invalid> {
    let (id, opaque) = Opaque::off_call(&item.need_text("call_id")?);
    Ok(Call {
        id,
        name: CallName {
            namespace: item.text("namespace")?,
            name: item.need_text("name")?,
        },
        arguments: item.need_text(arguments)?,
        opaque,
    })
}

fn result(item: &mut Members<'_>, losses: &mut Losses) -> Result<CallResult, Invalid> {
    let (id, _) = Opaque::off_call(&item.need_text("call_id")?);
    item.ignore(&["name"]);
    let output = item.need("output", "a string or a list of parts")?;
    let parts = if output.is_object() {
        vec![Part::text(output.as_str())]
    } else {
        content_parts(&output, losses)?
    };
    Ok(CallResult {
        id,
        name: None,
        parts,
        is_error: false,
    })
}

fn reasoning(item: &mut Members<'_>) -> Result<Reasoning, Invalid> {
    let mut texts = Vec::new();
    for list in ["summary", "content"] {
        for part in item.items(list)? {
            texts.extend(part.members()?.text("text")?);
        }
    }
    let locked = item.text("encrypted_content")?;
    let opaque = locked.map(|kept| Opaque::of_client(VendorWire::Responses, &kept));
    Ok(Reasoning {
        text: texts.join("\n\n"),
        is_redacted: opaque.is_some() && texts.is_empty(),
        opaque,
    })
}
