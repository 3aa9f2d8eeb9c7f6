//! A client's request.

use super::item;
use crate::loss::{LossKind, Losses};
use crate::members::{Field, Invalid, Members};
use crate::turn::{
    CallName, Choice, Custom, Effort, Foreign, Form, Function, Message, Part, Role, Sampling, Schema, Thought, Tool,
    Turn,
};
use crate::{Tokens, VendorWire};

/// Reads it. The model and whether the answer is streamed are the envelope's.
pub(crate) fn read(body: &[u8], losses: &mut Losses) -> Result<Turn, Invalid> {
    let mut fields = Members::document(body)?;
    fields.ignore(&["model", "stream", "stream_options", "type", "generate"]);
    let (form, verbosity) = text(&mut fields, losses)?;
    let mut turn = Turn {
        messages: messages(&mut fields, losses)?,
        tools: tools(fields.items("tools")?, losses)?,
        choice: choice(&mut fields, losses)?,
        parallel_calls: fields.flag("parallel_tool_calls")?,
        form,
        max_output: fields.count("max_output_tokens")?.map(Tokens::new),
        stop: Vec::new(),
        sampling: Sampling {
            temperature: fields.number("temperature")?,
            top_p: fields.number("top_p")?,
            ..Sampling::default()
        },
        reasoning: thought(&mut fields, losses)?,
        verbosity,
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
    for key in ["previous_response_id", "conversation", "prompt"] {
        fields.lose(key, LossKind::Meaning, losses);
    }
    if fields.flag("background")? == Some(true) {
        losses.meaning("background");
    }
    if fields.count("top_logprobs")?.is_some_and(|most| most > 0) {
        losses.meaning("top_logprobs");
    }
    if fields.flag("store")? == Some(true) {
        losses.hint("store");
    }
    if let Some(field) = fields
        .take("truncation")
        .filter(|field| field.as_str() != "\"disabled\"")
    {
        losses.hint(field.path);
    }
    for field in fields.items("include")? {
        // Reasoning is carried whether it was asked for or not.
        if field.text()? != "reasoning.encrypted_content" {
            losses.hint(field.path);
        }
    }
    Ok(())
}

fn messages(fields: &mut Members<'_>, losses: &mut Losses) -> Result<Vec<Message>, Invalid> {
    let mut messages = Vec::new();
    if let Some(instructions) = fields.take("instructions") {
        let parts = vec![Part::text(instructions.text()?)];
        messages.push(Message {
            role: Role::System,
            parts,
        });
    }
    let Some(input) = fields.take("input") else {
        return Ok(messages);
    };
    if input.is_text() {
        let parts = vec![Part::text(input.text()?)];
        messages.push(Message {
            role: Role::User,
            parts,
        });
        return Ok(messages);
    }
    for field in input.items()? {
        let Some(Message { role, parts }) = item::read(&field, losses)? else {
            continue;
        };
        // One round of the model is several items, and so are the results of its calls.
        match messages.last_mut() {
            Some(before) if before.role == role && joins(before, &parts) => before.parts.extend(parts),
            Some(_) | None => messages.push(Message { role, parts }),
        }
    }
    Ok(messages)
}

fn joins(before: &Message, parts: &[Part]) -> bool {
    let are_results = |parts: &[Part]| parts.iter().all(|part| matches!(part, Part::CallResult(_)));
    before.role == Role::Assistant || (are_results(&before.parts) && are_results(parts))
}

fn tools(list: Vec<Field<'_>>, losses: &mut Losses) -> Result<Vec<Tool>, Invalid> {
    let mut tools = Vec::with_capacity(list.len());
    for field in list {
        let mut tool = field.members()?;
        match tool.need_text("type")?.as_str() {
            "function" => tools.push(Tool::Function(function(tool, None, losses)?)),
            "custom" => {
                tools.push(Tool::Custom(Custom {
                    name: CallName::plain(tool.need_text("name")?),
                    description: tool.text("description")?,
                    format: tool.json("format"),
                }));
                tool.rest(losses);
            }
            "namespace" => {
                let namespace = tool.need_text("name")?;
                for field in tool.items("tools")? {
                    let mut inner = field.members()?;
                    if inner.need_text("type")? == "function" {
                        tools.push(Tool::Function(function(inner, Some(&namespace), losses)?));
                    } else {
                        tools.push(Tool::Foreign(foreign(&field)));
                    }
                }
                tool.rest(losses);
            }
            _ => tools.push(Tool::Foreign(foreign(&field))),
        }
    }
    Ok(tools)
}

fn function(mut tool: Members<'_>, namespace: Option<&str>, losses: &mut Losses) -> Result<Function, Invalid> {
    let function = Function {
        name: CallName {
            namespace: namespace.map(str::to_owned),
            name: tool.need_text("name")?,
        },
        description: tool.text("description")?,
        schema: tool.json("parameters"),
        strict: tool.flag("strict")?,
    };
    tool.rest(losses);
    Ok(function)
}

pub(super) fn foreign(field: &Field<'_>) -> Foreign {
    Foreign {
        wire: VendorWire::Responses,
        json: field.json(),
        path: field.path.clone(),
    }
}

/// Whether an item kept as it came is of this type.
pub(super) fn is_of_type(item: &Foreign, kind: &str) -> bool {
    let members = Field::of(&item.json, "").members();
    members.is_ok_and(|mut members| members.text("type").is_ok_and(|found| found.as_deref() == Some(kind)))
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
    match choice.need_text("type")?.as_str() {
        "function" | "custom" => Ok(Some(Choice::One(named(&mut choice)?))),
        "allowed_tools" => {
            let is_required = choice.text("mode")?.as_deref() == Some("required");
            let mut names = Vec::new();
            for tool in choice.items("tools")? {
                let mut tool = tool.members()?;
                if matches!(tool.need_text("type")?.as_str(), "function" | "custom") {
                    names.push(named(&mut tool)?);
                }
            }
            Ok(Some(Choice::Some { names, is_required }))
        }
        _ => {
            losses.meaning(field.path);
            Ok(None)
        }
    }
}

fn named(tool: &mut Members<'_>) -> Result<CallName, Invalid> {
    Ok(CallName {
        namespace: tool.text("namespace")?,
        name: tool.need_text("name")?,
    })
}

fn text(fields: &mut Members<'_>, losses: &mut Losses) -> Result<(Form, Option<String>), Invalid> {
    let Some(field) = fields.take("text") else {
        return Ok((Form::Text, None));
    };
    let mut text = field.members()?;
    let verbosity = text.text("verbosity")?;
    let form = match text.take("format") {
        Some(format) => form(&mut format.members()?)?,
        None => Form::Text,
    };
    text.rest(losses);
    Ok((form, verbosity))
}

fn form(format: &mut Members<'_>) -> Result<Form, Invalid> {
    match format.need_text("type")?.as_str() {
        "text" => Ok(Form::Text),
        "json_object" => Ok(Form::Json),
        "json_schema" => Ok(Form::Schema(Schema {
            name: format.text("name")?,
            description: format.text("description")?,
            schema: format.need("schema", "a JSON schema")?.json(),
            strict: format.flag("strict")?,
        })),
        _ => Err(format.invalid("type", "`text`, `json_object` or `json_schema`")),
    }
}

fn thought(fields: &mut Members<'_>, losses: &mut Losses) -> Result<Thought, Invalid> {
    let Some(field) = fields.take("reasoning") else {
        return Ok(Thought::default());
    };
    let mut reasoning = field.members()?;
    let mut thought = Thought::default();
    if let Some(effort) = reasoning.take("effort") {
        thought.effort = Effort::parse(&effort.text()?);
        if thought.effort.is_none() {
            losses.hint(effort.path);
        }
    }
    let summary = reasoning.take("summary").or_else(|| reasoning.take("generate_summary"));
    if let Some(summary) = summary {
        thought.is_shown = Some(summary.text()? != "none");
    }
    reasoning.rest(losses);
    Ok(thought)
}

fn user(fields: &mut Members<'_>) -> Result<Option<String>, Invalid> {
    let user = fields.text("user")?;
    let safety = fields.text("safety_identifier")?;
    Ok(safety.or(user))
}
