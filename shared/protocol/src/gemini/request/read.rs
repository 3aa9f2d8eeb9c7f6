//! Reads a client's request. Both spellings of a key are taken, as Google does.

use crate::gemini::{OWN, of_client, schema};
use crate::loss::{LossKind, Losses};
use crate::members::{Field, Invalid, Members};
use crate::tokens::Tokens;
use crate::turn::{
    Call, CallName, CallResult, Choice, Effort, Foreign, Form, Function, Json, Media, MediaKind, MediaSource, Message,
    Part, Reasoning, Role, Sampling, Schema, Thought, Tool, Turn,
};

type Read<T> = Result<T, Invalid>;

/// Reads the body of `:generateContent` and `:streamGenerateContent`.
///
/// # Errors
/// When a field is not what the wire says it is.
pub(crate) fn read(body: &[u8], losses: &mut Losses) -> Read<Turn> {
    let mut body = Either(Members::document(body)?);
    body.0.ignore(&["model"]);
    let mut turn = Turn::default();
    let mut calls = Calls::default();
    if let Some(field) = body.take("systemInstruction") {
        let said = content(&field, 0, &mut calls, losses)?;
        turn.messages.push(Message {
            role: Role::System,
            parts: said.parts,
        });
    }
    let contents = body.need("contents", "an array of contents")?;
    for (index, item) in one_or_all(&contents)?.iter().enumerate() {
        turn.messages.push(content(item, index, &mut calls, losses)?);
    }
    for item in body.items("tools")? {
        tools(&item, &mut turn.tools, losses)?;
    }
    if let Some(field) = body.take("toolConfig") {
        let mut config = Either(field.members()?);
        turn.choice = choice(config.take("functionCallingConfig"), losses)?;
        config.0.rest(losses);
    }
    if let Some(field) = body.take("generationConfig") {
        generation(Either(field.members()?), &mut turn, losses)?;
    }
    if let Some(field) = body.take("cachedContent") {
        losses.meaning(field.path);
    }
    body.0.rest(losses);
    Ok(turn)
}

/// Google takes one object where it wants an array of them; examples of its own are written so.
fn one_or_all<'a>(field: &Field<'a>) -> Read<Vec<Field<'a>>> {
    if field.is_object() {
        return Ok(vec![field.clone()]);
    }
    field.items()
}

/// An object whose keys may be spelled in either way.
struct Either<'a>(Members<'a>);

impl<'a> Either<'a> {
    fn take(&mut self, key: &str) -> Option<Field<'a>> {
        self.0.take(key).or_else(|| self.0.take(&snake(key)))
    }

    fn need(&mut self, key: &str, expected: &'static str) -> Read<Field<'a>> {
        self.take(key).ok_or_else(|| self.0.invalid(key, expected))
    }

    fn items(&mut self, key: &str) -> Read<Vec<Field<'a>>> {
        self.take(key)
            .map_or_else(|| Ok(Vec::new()), |field| one_or_all(&field))
    }

    fn text(&mut self, key: &str) -> Read<Option<String>> {
        self.take(key).map(|field| field.text()).transpose()
    }

    fn need_text(&mut self, key: &str) -> Read<String> {
        self.need(key, "a string")?.text()
    }

    fn number(&mut self, key: &str) -> Read<Option<Json>> {
        self.take(key).map(|field| number(&field)).transpose()
    }

    fn count(&mut self, key: &str) -> Read<Option<u64>> {
        self.take(key).map(|field| count(&field)).transpose()
    }

    fn lose(&mut self, key: &str, kind: LossKind, losses: &mut Losses) {
        if let Some(field) = self.take(key).filter(|field| !field.is_nothing()) {
            losses.add(field.path, kind);
        }
    }
}

/// A number, which may stand in quotes, as JSON of protobuf has it.
fn number(field: &Field<'_>) -> Read<Json> {
    if !field.is_text() {
        return field.number();
    }
    let bare = Json::parse(&field.text()?).ok_or_else(|| field.invalid("a number"))?;
    Field::of(&bare, field.path.clone()).number()
}

fn count(field: &Field<'_>) -> Read<u64> {
    Field::of(&number(field)?, field.path.clone()).count()
}

fn snake(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The calls so far that have no result: this wire ties a result to its call by an id, or by the name and the order.
#[derive(Default)]
struct Calls(Vec<(String, String)>);

impl Calls {
    fn made(&mut self, id: &str, name: &str) {
        self.0.push((id.to_owned(), name.to_owned()));
    }

    /// The id of the call that a result belongs to.
    fn answered(&mut self, id: Option<String>, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(of, named)| match &id {
            Some(id) => of == id,
            None => named == name,
        });
        match at {
            Some(at) => Some(self.0.remove(at).0),
            None => id,
        }
    }
}

fn content(field: &Field<'_>, index: usize, calls: &mut Calls, losses: &mut Losses) -> Read<Message> {
    let mut members = Either(field.members()?);
    let role = members.text("role")?.map(|role| role.to_ascii_lowercase());
    let role = match role.as_deref() {
        None | Some("user" | "function" | "tool" | "") => Role::User,
        Some("model") => Role::Assistant,
        Some("system") => Role::System,
        Some(_) => return Err(members.0.invalid("role", "`user` or `model`")),
    };
    let mut parts = Vec::new();
    for (number, item) in members.items("parts")?.iter().enumerate() {
        parts.push(part(item, format_args!("call_{index}_{number}"), calls, losses)?);
    }
    members.0.rest(losses);
    Ok(Message { role, parts })
}

fn part(item: &Field<'_>, made_up: std::fmt::Arguments<'_>, calls: &mut Calls, losses: &mut Losses) -> Read<Part> {
    let mut members = Either(item.members()?);
    let opaque = members.text("thoughtSignature")?.filter(|sign| !sign.is_empty());
    let opaque = opaque.map(|sign| of_client(&sign));
    let is_thought = members.take("thought").map(|field| field.flag()).transpose()? == Some(true);
    let part = if let Some(text) = members.text("text")? {
        if is_thought {
            Part::Reasoning(Reasoning {
                is_redacted: text.is_empty() && opaque.as_ref().is_some_and(|opaque| opaque.wire != OWN),
                text,
                opaque,
            })
        } else {
            Part::text(text)
        }
    } else if let Some(field) = members.take("functionCall") {
        let mut called = Either(field.members()?);
        let name = called.need_text("name")?;
        let id = called
            .text("id")?
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| made_up.to_string());
        let arguments = called.take("args").map_or("{}", |args| args.as_str());
        calls.made(&id, &name);
        called.0.rest(losses);
        Part::Call(Call {
            id,
            name: CallName::plain(name),
            arguments: arguments.to_owned(),
            opaque,
        })
    } else if let Some(field) = members.take("functionResponse") {
        result(&field, made_up, calls, losses)?
    } else if let Some(part) = blob(&mut members)? {
        part
    } else {
        return Ok(Part::Foreign(foreign(item)));
    };
    members.0.rest(losses);
    Ok(part)
}

/// Data in the request, or elsewhere.
fn blob(members: &mut Either<'_>) -> Read<Option<Part>> {
    if let Some(field) = members.take("inlineData") {
        let mut blob = Either(field.members()?);
        let mime = blob.need_text("mimeType")?;
        let source = MediaSource::Data {
            base64: standard(blob.need_text("data")?),
            mime: mime.clone(),
        };
        return media(Some(&mime), source, &mut blob).map(Some);
    }
    let Some(field) = members.take("fileData") else {
        return Ok(None);
    };
    stored(&field, &mut Either(field.members()?)).map(Some)
}

fn foreign(item: &Field<'_>) -> Foreign {
    Foreign {
        wire: OWN,
        json: item.json(),
        path: item.path.clone(),
    }
}

/// Google takes both alphabets, other vendors the standard one with its padding.
fn standard(mut base64: String) -> String {
    if base64.contains(['-', '_']) {
        base64 = base64.replace('-', "+").replace('_', "/");
    }
    while !base64.len().is_multiple_of(4) {
        base64.push('=');
    }
    base64
}

fn media(mime: Option<&str>, source: MediaSource, members: &mut Either<'_>) -> Read<Part> {
    let kind = match mime.and_then(|mime| mime.split('/').next()) {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        Some(_) | None => MediaKind::File,
    };
    Ok(Part::Media(Media {
        kind,
        source,
        name: members.text("displayName")?,
        detail: None,
    }))
}

/// An address of the web is one to every vendor; one of Google's own stores is one to Google alone.
fn stored(field: &Field<'_>, members: &mut Either<'_>) -> Read<Part> {
    let url = members.need_text("fileUri")?;
    let mime = members.text("mimeType")?;
    let is_googles = url.starts_with("gs://") || url.contains("generativelanguage.googleapis.com/");
    let source = if is_googles {
        MediaSource::Stored(foreign(field))
    } else {
        MediaSource::Url {
            url,
            mime: mime.clone(),
        }
    };
    media(mime.as_deref(), source, members)
}

/// What a tool gave: under `output` or `result`, under `error`, or all of it.
fn result(field: &Field<'_>, made_up: std::fmt::Arguments<'_>, calls: &mut Calls, losses: &mut Losses) -> Read<Part> {
    let mut given = Either(field.members()?);
    let name = given.need_text("name")?;
    let id = given.text("id")?.filter(|id| !id.is_empty());
    let response = given.need("response", "an object")?;
    let mut members = response.members()?;
    let keys = members.keys();
    let (key, is_error) = match keys.as_slice() {
        [key] if key == "output" || key == "result" => (Some(key.as_str()), false),
        [key] if key == "error" => (Some(key.as_str()), true),
        _ => (None, false),
    };
    let value = key.and_then(|key| members.take(key)).unwrap_or(response);
    let text = if value.is_text() {
        value.text()?
    } else {
        value.as_str().to_owned()
    };
    let mut parts = vec![Part::text(text)];
    for item in given.items("parts")? {
        let mut members = Either(item.members()?);
        parts.push(blob(&mut members)?.unwrap_or_else(|| Part::Foreign(foreign(&item))));
        members.0.rest(losses);
    }
    given.0.rest(losses);
    Ok(Part::CallResult(CallResult {
        id: calls.answered(id, &name).unwrap_or_else(|| made_up.to_string()),
        name: Some(CallName::plain(name)),
        parts,
        is_error,
    }))
}

/// One entry of `tools`: functions, and Google's own tools beside them.
fn tools(item: &Field<'_>, out: &mut Vec<Tool>, losses: &mut Losses) -> Read<()> {
    let mut members = Either(item.members()?);
    for declared in members.items("functionDeclarations")? {
        let mut function = Either(declared.members()?);
        let own = function
            .take("parameters")
            .map(|field| schema::of_gemini(&field))
            .transpose()?;
        let schema = function
            .take("parametersJsonSchema")
            .map(|field| schema::of_json(&field))
            .or(own);
        for key in ["response", "responseJsonSchema", "behavior"] {
            function.lose(key, LossKind::Hint, losses);
        }
        out.push(Tool::Function(Function {
            name: CallName::plain(function.need_text("name")?),
            description: function.text("description")?,
            schema,
            strict: None,
        }));
        function.0.rest(losses);
    }
    if !members.0.keys().is_empty() {
        out.push(Tool::Foreign(foreign(item)));
    }
    Ok(())
}

fn choice(field: Option<Field<'_>>, losses: &mut Losses) -> Read<Option<Choice>> {
    let Some(field) = field else { return Ok(None) };
    let mut config = Either(field.members()?);
    let mode = config.text("mode")?.map(|mode| mode.to_ascii_uppercase());
    let names = config.items("allowedFunctionNames")?;
    let names = names
        .iter()
        .map(|name| name.text().map(CallName::plain))
        .collect::<Read<Vec<_>>>()?;
    config.0.rest(losses);
    let is_required = mode.as_deref() == Some("ANY");
    Ok(match (mode.as_deref(), names.as_slice()) {
        (Some("NONE"), _) => Some(Choice::None),
        (Some("ANY"), []) => Some(Choice::Required),
        (Some("ANY"), [one]) => Some(Choice::One(one.clone())),
        (Some("ANY" | "VALIDATED"), _) if !names.is_empty() => Some(Choice::Some { names, is_required }),
        (Some("AUTO" | "VALIDATED"), _) => Some(Choice::Auto),
        _ => None,
    })
}

fn generation(mut config: Either<'_>, turn: &mut Turn, losses: &mut Losses) -> Read<()> {
    turn.sampling = Sampling {
        temperature: config.number("temperature")?,
        top_p: config.number("topP")?,
        top_k: config.number("topK")?,
        frequency_penalty: config.number("frequencyPenalty")?,
        presence_penalty: config.number("presencePenalty")?,
        seed: config.number("seed")?,
    };
    turn.max_output = config.count("maxOutputTokens")?.map(Tokens::new);
    for text in config.items("stopSequences")? {
        turn.stop.push(text.text()?);
    }
    if let Some(field) = config.take("candidateCount")
        && count(&field)? > 1
    {
        losses.meaning(field.path);
    }
    if let Some(field) = config.take("responseModalities") {
        let kinds = field.items()?;
        let kinds = kinds.iter().map(Field::text).collect::<Read<Vec<_>>>()?;
        if kinds.iter().any(|kind| !kind.eq_ignore_ascii_case("TEXT")) {
            losses.meaning(field.path);
        }
    }
    for key in ["speechConfig", "responseLogprobs", "logprobs", "responseFormat"] {
        config.lose(key, LossKind::Meaning, losses);
    }
    turn.form = form(&mut config, losses)?;
    turn.reasoning = thought(config.take("thinkingConfig"), losses)?;
    config.0.rest(losses);
    Ok(())
}

fn form(config: &mut Either<'_>, losses: &mut Losses) -> Read<Form> {
    let mime = config.take("responseMimeType");
    let own = config
        .take("responseSchema")
        .map(|field| schema::of_gemini(&field))
        .transpose()?;
    let schema = config
        .take("responseJsonSchema")
        .map(|field| schema::of_json(&field))
        .or(own);
    let kind = mime.as_ref().map(Field::text).transpose()?;
    Ok(match (kind.as_deref(), schema) {
        (Some("application/json"), Some(schema)) | (None, Some(schema)) => Form::Schema(Schema {
            name: None,
            description: None,
            schema,
            strict: Some(true),
        }),
        (Some("application/json"), None) => Form::Json,
        (None | Some("text/plain" | ""), _) => Form::Text,
        (Some(_), _) => {
            if let Some(mime) = mime {
                losses.meaning(mime.path);
            }
            Form::Text
        }
    })
}

fn thought(field: Option<Field<'_>>, losses: &mut Losses) -> Read<Thought> {
    let Some(field) = field else {
        return Ok(Thought::default());
    };
    let path = format!("{}.thinkingBudget", field.path);
    let mut config = Either(field.members()?);
    let is_shown = config.take("includeThoughts").map(|field| field.flag()).transpose()?;
    let budget = config.number("thinkingBudget")?;
    let level = config.text("thinkingLevel")?.map(|level| level.to_ascii_lowercase());
    config.0.rest(losses);
    let effort = level.as_deref().and_then(Effort::parse);
    // -1 leaves it to the model.
    let budget = budget
        .filter(|budget| budget.as_str() != "-1")
        .map(|budget| Field::of(&budget, path).count())
        .transpose()?;
    Ok(Thought {
        effort: if budget == Some(0) { Some(Effort::None) } else { effort },
        budget: budget.filter(|budget| *budget > 0).map(Tokens::new),
        is_shown,
    })
}
