//! Reads a vendor's answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{OWN, Told, named};
use crate::codec::ReadAnswer;
use crate::codec::bounded::{Events, Few, some_text, text};
use crate::event::{Cause, Event, Failure, Opened, Stop};
use crate::sse::long::frame::Flows;
use crate::turn::{CallName, Citation, Foreign, Json, Media, MediaKind, MediaSource, Opaque};

/// Reads the events of a stream, each as `{"contentBlockDelta":{…}}`: the name that its frame tells, and its payload. Or
/// one answer. Holds a number.
#[derive(Default)]
pub(crate) struct Reader {
    /// The number of the block that is open, and what it is.
    open: Option<(u64, Kind)>,
}

/// What the open block is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    Call,
    Other,
}

/// The name of an event and its payload.
struct Happening<'a>(Cow<'a, str>, &'a RawValue);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start<'a> {
    #[serde(default)]
    content_block_index: u64,
    #[serde(borrow)]
    start: Started<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started<'a> {
    #[serde(borrow)]
    tool_use: Option<Called<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Called<'a> {
    tool_use_id: String,
    name: String,
    /// A call of a tool that the vendor runs.
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct More {
    #[serde(default)]
    content_block_index: u64,
    delta: Delta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
    tool_use: Option<Input>,
    reasoning_content: Option<Thought>,
    citation: Option<Cited>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(deserialize_with = "some_text")]
    input: String,
}

/// A piece of a thought in a stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thought {
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
    #[serde(default, deserialize_with = "text")]
    signature: Option<String>,
    #[serde(default, deserialize_with = "text")]
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ended {
    #[serde(default)]
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stopped {
    stop_reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow)]
    output: Output<'a>,
    stop_reason: String,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Vec<&'a RawValue>,
}

/// A whole block.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block<'a> {
    text: Option<String>,
    #[serde(borrow)]
    tool_use: Option<Called<'a>>,
    reasoning_content: Option<Reasoned>,
    citations_content: Option<Sourced>,
    image: Option<Picture>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoned {
    reasoning_text: Option<Reasoning>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct Reasoning {
    text: String,
    signature: Option<String>,
}

#[derive(Deserialize)]
struct Sourced {
    #[serde(default)]
    content: Vec<Words>,
    #[serde(default)]
    citations: Vec<Cited>,
}

#[derive(Deserialize)]
struct Words {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cited {
    title: Option<String>,
    source: Option<String>,
    #[serde(default)]
    source_content: Few<Words>,
    location: Option<Place>,
}

#[derive(Deserialize)]
struct Place {
    web: Option<Web>,
}

#[derive(Deserialize)]
struct Web {
    url: Option<String>,
}

#[derive(Deserialize)]
struct Picture {
    format: String,
    source: Bytes,
}

#[derive(Deserialize)]
struct Bytes {
    bytes: Option<String>,
}

/// What an event says bit by bit.
const FLOWS: Flows = Flows {
    texts: &[
        &["contentBlockDelta", "delta", "text"],
        &["contentBlockDelta", "delta", "reasoningContent", "text"],
        &["contentBlockDelta", "delta", "toolUse", "input"],
    ],
    values: &[],
    marks: &["contentBlockIndex"],
    needs: Some("contentBlockIndex"),
};

impl ReadAnswer for Reader {
    fn flows(&self) -> Flows {
        FLOWS
    }

    fn event(&mut self, data: &[u8], out: &mut Events) {
        let happened = serde_json::from_slice::<Happening<'_>>(data);
        let Some(()) = happened
            .ok()
            .and_then(|Happening(name, payload)| self.happened(&name, payload.get(), out))
        else {
            out.push(senseless());
            return;
        };
    }

    /// What an answer used comes after its end, and may be missing.
    fn end(&mut self, _: &mut Events) {}

    fn whole(&mut self, body: &[u8], out: &mut Events) {
        let Ok(answer) = serde_json::from_slice::<Answer<'_>>(body) else {
            out.push(senseless());
            return;
        };
        out.push(Event::Begin);
        for raw in answer.output.message.content {
            match serde_json::from_str::<Block<'_>>(raw.get()) {
                Ok(block) => self::block(block, raw, out),
                Err(_) => out.push(senseless()),
            }
        }
        out.push(stop(&answer.stop_reason));
        out.push(Event::End);
    }
}

impl Reader {
    /// `None` where the payload is not what its name says.
    fn happened(&mut self, name: &str, payload: &str, out: &mut Events) -> Option<()> {
        match name {
            "messageStart" => out.push(Event::Begin),
            "contentBlockStart" => self.start(serde_json::from_str(payload).ok()?, payload, out),
            "contentBlockDelta" => self.delta(serde_json::from_str(payload).ok()?, out),
            "contentBlockStop" => {
                let ended: Ended = serde_json::from_str(payload).ok()?;
                if self.open.is_some_and(|(index, _)| index == ended.content_block_index) {
                    self.open = None;
                    out.push(Event::Close);
                }
            }
            "messageStop" => {
                let stopped: Stopped = serde_json::from_str(payload).ok()?;
                out.push(stop(&stopped.stop_reason));
            }
            "metadata" => out.push(Event::End),
            failure if failure.to_ascii_lowercase().ends_with("exception") => {
                let told = serde_json::from_str::<Told>(payload).unwrap_or_default();
                out.push(Event::Fail(named(failure, None, told.message.unwrap_or_default())));
            }
            // What is to come.
            _ => {}
        }
        Some(())
    }

    fn start(&mut self, start: Start<'_>, payload: &str, out: &mut Events) {
        let (kind, opened) = match start.start.tool_use {
            Some(called) if called.kind.is_none() => match call(called) {
                Some((opened, _)) => (Kind::Call, opened),
                None => return out.push(senseless()),
            },
            Some(_) | None => (Kind::Other, foreign(payload)),
        };
        self.open = Some((start.content_block_index, kind));
        out.push(Event::Open(opened));
    }

    /// A block of text or of a thought begins with its first piece.
    fn delta(&mut self, more: More, out: &mut Events) {
        let delta = more.delta;
        let kind = match &delta {
            Delta { tool_use: Some(_), .. } => Kind::Call,
            Delta {
                reasoning_content: Some(_),
                ..
            } => Kind::Reasoning,
            Delta {
                text: None,
                citation: None,
                ..
            } => return,
            Delta { .. } => Kind::Text,
        };
        match self.open {
            Some((index, open)) if index == more.content_block_index && (open == kind || open == Kind::Other) => {}
            // Arguments of a call that is not open would be those of another.
            _ if kind == Kind::Call => return out.push(senseless()),
            _ => {
                self.open = Some((more.content_block_index, kind));
                let is_redacted = delta
                    .reasoning_content
                    .as_ref()
                    .is_some_and(|thought| thought.redacted_content.is_some());
                out.push(Event::Open(match kind {
                    Kind::Reasoning => Opened::Reasoning { is_redacted },
                    Kind::Text | Kind::Call | Kind::Other => Opened::Text,
                }));
            }
        }
        let text = delta.text.or(delta.tool_use.map(|tool| tool.input));
        out.extend(text.map(Event::Delta));
        if let Some(thought) = delta.reasoning_content {
            out.extend(thought.text.map(Event::Delta));
            out.extend(thought.signature.or(thought.redacted_content).map(sign));
        }
        out.extend(delta.citation.map(|cited| Event::Cite(cited.into())));
    }
}

fn call(called: Called<'_>) -> Option<(Opened, Option<Event>)> {
    if called.tool_use_id.is_empty() {
        return None;
    }
    let opened = Opened::Call {
        id: called.tool_use_id,
        name: CallName::plain(called.name),
        is_custom: false,
        opaque: None,
    };
    Some((opened, called.input.map(|input| Event::Delta(input.get().to_owned()))))
}

fn foreign(payload: &str) -> Opened {
    Opened::Foreign(Foreign {
        wire: OWN,
        json: Json::parse(payload).unwrap_or_else(|| Json::from(RawValue::NULL)),
        path: String::new(),
    })
}

fn sign(data: String) -> Event {
    Event::Sign(Opaque { wire: OWN, data })
}

/// A whole block, with its beginning and its end.
fn block(block: Block<'_>, raw: &RawValue, out: &mut Events) {
    if let Some(text) = block.text {
        out.extend([Event::Open(Opened::Text), Event::Delta(text)]);
    } else if let Some(called) = block.tool_use.filter(|called| called.kind.is_none()) {
        match call(called) {
            Some((opened, input)) => {
                out.push(Event::Open(opened));
                out.extend(input);
            }
            None => out.push(senseless()),
        }
    } else if let Some(reasoned) = block.reasoning_content {
        let is_redacted = reasoned.reasoning_text.is_none();
        out.push(Event::Open(Opened::Reasoning { is_redacted }));
        let (text, signature) = reasoned
            .reasoning_text
            .map_or((None, None), |it| (Some(it.text), it.signature));
        out.extend(text.map(Event::Delta));
        out.extend(signature.or(reasoned.redacted_content).map(sign));
    } else if let Some(sourced) = block.citations_content {
        out.push(Event::Open(Opened::Text));
        out.extend(
            sourced
                .content
                .into_iter()
                .filter_map(|words| words.text)
                .map(Event::Delta),
        );
        out.extend(sourced.citations.into_iter().map(|cited| Event::Cite(cited.into())));
    } else if let Some((format, base64)) = block.image.and_then(|it| Some((it.format, it.source.bytes?))) {
        out.push(Event::Open(Opened::Media(Media {
            kind: MediaKind::Image,
            source: MediaSource::Data {
                mime: format!("image/{format}"),
                base64,
            },
            name: None,
            detail: None,
        })));
    } else {
        out.push(Event::Open(foreign(raw.get())));
    }
    out.push(Event::Close);
}

fn stop(reason: &str) -> Event {
    Event::Stop(match reason {
        "tool_use" => Stop::Calls,
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "stop_sequence" => Stop::Sequence(None),
        "guardrail_intervened" | "content_filtered" => Stop::Filter,
        "malformed_model_output" | "malformed_tool_use" => return senseless(),
        _ => Stop::Done,
    })
}

impl From<Cited> for Citation {
    fn from(cited: Cited) -> Self {
        let quote: Vec<String> = cited
            .source_content
            .into_iter()
            .filter_map(|words| words.text)
            .collect();
        let web = cited.location.and_then(|place| place.web).and_then(|web| web.url);
        let is_url = |source: &String| source.starts_with("http");
        Self {
            url: web.or(cited.source.filter(is_url)),
            title: cited.title,
            quote: (!quote.is_empty()).then(|| quote.concat()),
            span: None,
        }
    }
}

fn senseless() -> Event {
    Event::Fail(Failure {
        cause: Cause::Vendor,
        message: "The upstream sent something that makes no sense.".to_owned(),
    })
}

impl<'de> Deserialize<'de> for Happening<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Named)
    }
}

struct Named;

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Named {
    type Value = Happening<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("one event under its name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((Name(name), payload)) = map.next_entry()? else {
            return Err(serde::de::Error::invalid_length(0, &self));
        };
        Ok(Happening(name, payload))
    }
}
