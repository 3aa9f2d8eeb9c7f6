//! A request as no wire spells it: what the translating lane reads a client's request into and writes a vendor's from.
//! Knows no wire but by name, no price and no account.
//!
//! It names what at least two wires can say. What one wire alone knows rides along as [`Foreign`] or [`Opaque`] and is
//! written by that wire alone. What a client said and this cannot hold is a [`crate::Loss`], told where it is read; what
//! this holds and a vendor's wire cannot say is one told where it is written.
//!
//! None of it has a `Debug` or a `Display`: it is what tenants write.

#[cfg(test)]
pub(crate) mod any;
mod flat;
mod json;
mod opaque;
mod sides;

use std::borrow::Cow;

pub use self::flat::{Flat, FlatError};
pub use self::json::Json;
pub use self::opaque::{CallName, Opaque};
pub(crate) use self::sides::sides;
use crate::lane::VendorWire;
use crate::loss::{LossKind, Losses};
use crate::tokens::Tokens;

/// What a client asks for, but for the model and whether the answer is streamed: those the envelope tells.
#[derive(Clone, PartialEq, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct Turn {
    /// The conversation, oldest first. Neighbours may have the same role; a wire that forbids it joins them.
    pub messages: Vec<Message>,
    /// In the client's order, which the vendor's cache hangs on.
    pub tools: Vec<Tool>,
    /// Which of them must be called; `None` leaves it to the vendor, as does [`Choice::Auto`].
    pub choice: Option<Choice>,
    /// Whether several may be called at once.
    pub parallel_calls: Option<bool>,
    /// The form of the answer.
    pub form: Form,
    /// The most tokens of output, reasoning included.
    pub max_output: Option<Tokens>,
    /// Texts that end the answer where they would come.
    pub stop: Vec<String>,
    /// How the next token is drawn.
    pub sampling: Sampling,
    /// How much is thought before the answer.
    pub reasoning: Thought,
    /// How long an answer should be: `low`, `medium`, `high`. Chat and Responses.
    pub verbosity: Option<String>,
    /// The tier asked for, which has its own price. Chat and Responses.
    pub service_tier: Option<String>,
    /// What the calls of one conversation have in common. Chat and Responses: `prompt_cache_key`.
    pub cache_key: Option<String>,
    /// Who asks, as the client names its own users.
    pub user: Option<String>,
    /// The client's own labels: an object of texts.
    pub metadata: Option<Json>,
}

/// Who says it. What a tool gave is said by the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Rules of the application. May stand anywhere.
    System,
    /// The same under its younger name, which ranks below [`Role::System`] where both are known.
    Developer,
    /// The human, and the results of tools.
    User,
    /// The model.
    Assistant,
}

/// One message.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What, in order; may be empty.
    pub parts: Vec<Part>,
}

/// One part of a message.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub enum Part {
    /// Text. Of an assistant it may cite.
    Text(Text),
    /// What the model said instead of an answer.
    Refusal(String),
    /// A picture, a document, a sound or a film.
    Media(Media),
    /// What was thought before what follows.
    Reasoning(Reasoning),
    /// The model calls a tool.
    Call(Call),
    /// What a tool gave.
    CallResult(CallResult),
    /// The vendor may cache all up to here. Stands after what it marks: Messages writes it on the part before.
    CacheMark(CacheMark),
    /// What one wire alone knows.
    Foreign(Foreign),
}

/// Text.
#[derive(Clone, PartialEq, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct Text {
    /// As written.
    pub text: String,
    /// Where it comes from.
    pub citations: Vec<Citation>,
}

/// Where a piece of text comes from.
#[derive(Clone, PartialEq, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct Citation {
    /// Of a page.
    pub url: Option<String>,
    /// Of a page or a document.
    pub title: Option<String>,
    /// What it says there.
    pub quote: Option<String>,
    /// The first character of the text that it belongs to, and the one after its last; `None` for all of the text.
    pub span: Option<(u64, u64)>,
}

/// A picture, a document, a sound or a film.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct Media {
    /// Which of them.
    pub kind: MediaKind,
    /// Where it is.
    pub source: MediaSource,
    /// A file's name.
    pub name: Option<String>,
    /// How closely to look at a picture: `low`, `high`, `auto`. Chat and Responses.
    pub detail: Option<String>,
}

/// What it is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A document: PDF, plain text, a sheet.
    File,
    /// Sound.
    Audio,
    /// A film.
    Video,
}

/// Where it is.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub enum MediaSource {
    /// In the request.
    Data {
        /// `image/png`.
        mime: String,
        /// In base64 of the standard alphabet, padded, as it came: never decoded here.
        base64: String,
    },
    /// Elsewhere. The relay never looks.
    Url {
        /// As written.
        url: String,
        /// `image/png`, where it was said.
        mime: Option<String>,
    },
    /// At the vendor, under a name that only its own wire knows.
    Stored(Foreign),
}

/// What was thought.
#[derive(Clone, PartialEq, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct Reasoning {
    /// The thought itself or a summary of it, as far as it is shown. Several summaries are parted by an empty line.
    pub text: String,
    /// What proves or hides the whole of it.
    pub opaque: Option<Opaque>,
    /// All of it is hidden: `redacted_thinking`.
    pub is_redacted: bool,
}

/// A call of a tool.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct Call {
    /// Ties its result to it. Never empty: a wire without ids makes them up when it is read.
    pub id: String,
    /// The tool.
    pub name: CallName,
    /// JSON text of an object for a function; for a free-form tool the text itself. May be broken: a model wrote it.
    pub arguments: String,
    /// What the vendor wants to see again with it.
    pub opaque: Option<Opaque>,
}

/// What a tool gave.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct CallResult {
    /// The call's id.
    pub id: String,
    /// The tool, as its call named it; `None` where no call before has this id.
    pub name: Option<CallName>,
    /// Text, pictures, files.
    pub parts: Vec<Part>,
    /// It failed. `false` where the wire does not tell.
    pub is_error: bool,
}

/// May be cached.
#[derive(Clone, PartialEq, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct CacheMark {
    /// For how long: `5m`, `1h`.
    pub ttl: Option<String>,
}

/// What one wire alone knows, as it came.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct Foreign {
    /// Who knows it.
    pub wire: VendorWire,
    /// The whole object.
    pub json: Json,
    /// Where it stood in the client's request, to be told when it is dropped.
    pub path: String,
}

/// A tool.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub enum Tool {
    /// One that the client runs.
    Function(Function),
    /// One that the client runs, and whose input is free text. Responses and chat.
    Custom(Custom),
    /// One that a vendor runs, such as a search.
    Foreign(Foreign),
    /// All tools up to here may be cached.
    CacheMark(CacheMark),
}

/// A function.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct Function {
    /// What it is called by.
    pub name: CallName,
    /// What it does.
    pub description: Option<String>,
    /// Of its arguments, a JSON schema; `None` for none.
    pub schema: Option<Json>,
    /// The arguments must fit the schema.
    pub strict: Option<bool>,
}

/// A free-form tool.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct Custom {
    /// What it is called by.
    pub name: CallName,
    /// What it does.
    pub description: Option<String>,
    /// A grammar of its input.
    pub format: Option<Json>,
}

/// Which tool must be called.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub enum Choice {
    /// As the model likes.
    Auto,
    /// None.
    None,
    /// Any of them, but one.
    Required,
    /// This one.
    One(CallName),
    /// Only some of them may be called.
    Some {
        /// Which.
        names: Vec<CallName>,
        /// One of them must.
        is_required: bool,
    },
}

/// The form of the answer.
#[derive(Clone, PartialEq, Default)]
#[cfg_attr(test, derive(Debug))]
pub enum Form {
    /// Text.
    #[default]
    Text,
    /// Some JSON object.
    Json,
    /// JSON that fits a schema.
    Schema(Schema),
}

/// What an answer in JSON must fit.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct Schema {
    /// What the client calls it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The JSON schema.
    pub schema: Json,
    /// The vendor must enforce it.
    pub strict: Option<bool>,
}

/// How the next token is drawn. Numbers are kept as written.
#[derive(Clone, PartialEq, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct Sampling {
    /// `temperature`.
    pub temperature: Option<Json>,
    /// `top_p`.
    pub top_p: Option<Json>,
    /// `top_k`. Messages and Gemini.
    pub top_k: Option<Json>,
    /// Chat and Gemini.
    pub frequency_penalty: Option<Json>,
    /// Chat and Gemini.
    pub presence_penalty: Option<Json>,
    /// Chat and Gemini.
    pub seed: Option<Json>,
}

/// How much is thought before the answer. A wire says it as an effort or as a budget; [`Effort::budget`] is the bridge.
#[derive(Clone, PartialEq, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct Thought {
    /// In words. [`Effort::None`] turns it off.
    pub effort: Option<Effort>,
    /// In tokens.
    pub budget: Option<Tokens>,
    /// Whether thoughts, or a summary, are to be shown.
    pub is_shown: Option<bool>,
}

/// How hard to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// Not at all.
    None,
    /// Hardly.
    Minimal,
    /// Little.
    Low,
    /// As usual.
    Medium,
    /// Much.
    High,
    /// More.
    XHigh,
    /// As much as can be.
    Max,
}

impl Effort {
    /// Each of them.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Minimal,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::XHigh,
        Self::Max,
    ];

    /// As wires spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.name() == name)
    }

    /// About as much in tokens, for a wire that counts them. The least that Messages takes is 1024.
    #[must_use]
    pub const fn budget(self) -> Tokens {
        Tokens::new(match self {
            Self::None => 0,
            Self::Minimal => 1_024,
            Self::Low => 2_048,
            Self::Medium => 8_192,
            Self::High => 16_384,
            Self::XHigh => 24_576,
            Self::Max => 32_768,
        })
    }

    /// The effort that such a budget stands for: the greatest whose budget it covers.
    #[must_use]
    pub fn of_budget(budget: Tokens) -> Self {
        let covered = Self::ALL.into_iter().rev().find(|effort| effort.budget() <= budget);
        covered.unwrap_or(Self::None)
    }
}

impl Sampling {
    /// `top_p` for a model of Anthropic's: from 4.1 on they refuse it beside a temperature, which says it more often.
    pub(crate) const fn nucleus(&self) -> Option<&Json> {
        match self.temperature {
            Some(_) => None,
            None => self.top_p.as_ref(),
        }
    }
}

impl MediaSource {
    /// What an address is: the data itself where it is a `data:` address in base64.
    #[must_use]
    pub fn of_url(url: String, mime: Option<String>) -> Self {
        let data = url.strip_prefix("data:").and_then(|rest| rest.split_once(','));
        let data = data.and_then(|(kind, base64)| Some((kind.strip_suffix(";base64")?, base64)));
        match data {
            Some((kind, base64)) => Self::Data {
                mime: kind.split(';').next().unwrap_or_default().to_owned(),
                base64: base64.to_owned(),
            },
            None => Self::Url { url, mime },
        }
    }

    /// An address of it, which for data is one of `data:`; `None` for what is stored at a vendor.
    #[must_use]
    pub fn url(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Data { mime, base64 } => Some(Cow::Owned(format!("data:{mime};base64,{base64}"))),
            Self::Url { url, .. } => Some(Cow::Borrowed(url)),
            Self::Stored(_) => None,
        }
    }
}

impl Part {
    /// Plain text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Text {
            text: text.into(),
            citations: Vec::new(),
        })
    }
}

impl Message {
    /// Rules that stand where a wire has no place for them, as words of the user. `None` where they say nothing.
    pub(crate) fn as_words(&self) -> Option<String> {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.text.as_str()),
            _ => None,
        });
        let text = texts.collect::<Vec<_>>().join("\n\n");
        (!text.is_empty()).then(|| format!("<system>\n{text}\n</system>"))
    }

    /// It is the application that speaks.
    pub(crate) const fn is_rule(&self) -> bool {
        matches!(self.role, Role::System | Role::Developer)
    }
}

impl Turn {
    /// A function may be called. Not to offer those that may not is the same as to forbid them.
    pub(crate) fn allows(&self, function: &Function) -> bool {
        match &self.choice {
            Some(Choice::Some { names, .. }) => names.contains(&function.name),
            Some(Choice::Auto | Choice::None | Choice::Required | Choice::One(_)) | None => true,
        }
    }

    /// A tool must be called.
    pub(crate) const fn is_forced(&self) -> bool {
        matches!(
            self.choice,
            Some(Choice::Required | Choice::One(_) | Choice::Some { is_required: true, .. })
        )
    }

    /// Tells of the tools that a vendor of another wire runs: an agent offers all it has, and does with one less; a request
    /// that offers nothing else is about them.
    pub(crate) fn lose_tools(&self, own: VendorWire, losses: &mut Losses) {
        let is_ours = |tool: &Tool| matches!(tool, Tool::Function(_) | Tool::Custom(_));
        let kind = if self.tools.iter().any(is_ours) {
            LossKind::Hint
        } else {
            LossKind::Meaning
        };
        for tool in &self.tools {
            if let Tool::Foreign(foreign) = tool
                && foreign.wire != own
            {
                losses.add(foreign.path.clone(), kind);
            }
        }
    }

    /// Gives each result the name of the call it belongs to: some wires tell it only there. For the reader of a wire whose
    /// results have an id alone.
    pub fn name_results(&mut self) {
        let mut named: Vec<(String, CallName)> = Vec::new();
        for part in self.messages.iter_mut().flat_map(|message| &mut message.parts) {
            match part {
                Part::Call(call) => named.push((call.id.clone(), call.name.clone())),
                Part::CallResult(result) if result.name.is_none() => {
                    let call = named.iter().rev().find(|(id, _)| *id == result.id);
                    result.name = call.map(|(_, name)| name.clone());
                }
                Part::CallResult(_)
                | Part::Text(_)
                | Part::Refusal(_)
                | Part::Media(_)
                | Part::Reasoning(_)
                | Part::CacheMark(_)
                | Part::Foreign(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effort_and_its_budget_are_the_same() {
        for effort in Effort::ALL {
            assert_eq!(Effort::of_budget(effort.budget()), effort);
            assert_eq!(Effort::parse(effort.name()), Some(effort));
        }
        assert_eq!(Effort::of_budget(Tokens::new(10_000)), Effort::Medium);
        assert_eq!(Effort::of_budget(Tokens::new(1)), Effort::None);
        assert_eq!(Effort::parse("maximal"), None);
    }

    #[test]
    fn an_address_of_data_is_data() {
        for url in ["data:image/png;base64,iVBO", "https://x/y.png", "data:text/plain,hi"] {
            let source = MediaSource::of_url(url.to_owned(), None);
            assert_eq!(matches!(source, MediaSource::Data { .. }), url.contains("base64"));
            assert_eq!(source.url().as_deref(), Some(url));
        }
        let charset = MediaSource::of_url("data:text/plain;charset=utf-8;base64,aGk=".to_owned(), None);
        assert!(matches!(charset, MediaSource::Data { mime, .. } if mime == "text/plain"));
    }

    #[test]
    fn a_vendors_tool_can_be_spared_beside_tools_of_the_client() {
        let search = || {
            Tool::Foreign(Foreign {
                wire: VendorWire::Responses,
                json: Json::parse("{}").unwrap(),
                path: "tools[0]".to_owned(),
            })
        };
        let function = Tool::Function(Function {
            name: CallName::plain("f"),
            description: None,
            schema: None,
            strict: None,
        });
        for (tools, own, lost) in [
            (vec![search()], VendorWire::Responses, None),
            (vec![search()], VendorWire::Chat, Some(LossKind::Meaning)),
            (vec![search(), function], VendorWire::Chat, Some(LossKind::Hint)),
        ] {
            let turn = Turn {
                tools,
                ..Turn::default()
            };
            let mut losses = Losses::default();
            turn.lose_tools(own, &mut losses);
            assert_eq!(losses.iter().next().map(|loss| loss.kind), lost);
        }
    }

    #[test]
    fn a_result_is_named_by_the_latest_call_of_its_id() {
        let call = |name: &str| {
            Part::Call(Call {
                id: "call_1".to_owned(),
                name: CallName::plain(name),
                arguments: "{}".to_owned(),
                opaque: None,
            })
        };
        let result = |id: &str| {
            Part::CallResult(CallResult {
                id: id.to_owned(),
                name: None,
                parts: vec![Part::text("x")],
                is_error: false,
            })
        };
        let say = |role, parts| Message { role, parts };
        let mut turn = Turn {
            messages: vec![
                say(Role::Assistant, vec![call("first")]),
                say(Role::User, vec![result("call_1"), result("call_2")]),
                say(Role::Assistant, vec![call("second")]),
                say(Role::User, vec![result("call_1")]),
            ],
            ..Turn::default()
        };
        turn.name_results();
        let names: Vec<_> = turn
            .messages
            .iter()
            .flat_map(|message| &message.parts)
            .filter_map(|part| match part {
                Part::CallResult(result) => Some(result.name.clone().map(|name| name.name)),
                _ => None,
            })
            .collect();
        assert_eq!(names, [Some("first".to_owned()), None, Some("second".to_owned())]);
    }
}
