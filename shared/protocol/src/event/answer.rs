//! A whole answer: what its events add up to. Knows no wire.

use super::{Event, Failure, Opened, Stop};
use crate::turn::{Call, Citation, Foreign, Media, Opaque, Reasoning, Text};
use crate::usage::Usage;

/// What an answer's events add up to.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct Answer {
    /// In order.
    pub parts: Vec<AnswerPart>,
    /// What it used, where the vendor told.
    pub usage: Option<Usage>,
    /// Why it ended.
    pub stop: Stop,
    /// The vendor failed; what came before that is of no use.
    pub failure: Option<Failure>,
}

/// One part of it.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub enum AnswerPart {
    /// Text.
    Text(Text),
    /// What the model said instead.
    Refusal(String),
    /// A thought.
    Reasoning(Reasoning),
    /// A call of a tool.
    Call {
        /// The call.
        call: Call,
        /// Its input is free text, not JSON.
        is_custom: bool,
    },
    /// A picture or a sound.
    Media(Media),
    /// What one wire alone knows.
    Foreign(Foreign),
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            usage: None,
            stop: Stop::Done,
            failure: None,
        }
    }
}

impl Answer {
    /// Adds one event of a [`super::Sequence`].
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Begin | Event::Close | Event::End => {}
            Event::Open(opened) => self.parts.push(AnswerPart::new(opened)),
            Event::Delta(text) => {
                if let Some(part) = self.parts.last_mut() {
                    part.grow(&text);
                }
            }
            Event::Cite(citation) => {
                if let Some(part) = self.parts.last_mut() {
                    part.cite(citation);
                }
            }
            Event::Sign(opaque) => {
                if let Some(part) = self.parts.last_mut() {
                    part.sign(opaque);
                }
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => self.stop = stop,
            Event::Fail(failure) => self.failure = Some(failure),
        }
    }
}

impl AnswerPart {
    /// One that has just begun.
    #[must_use]
    pub fn new(opened: Opened) -> Self {
        match opened {
            Opened::Text => Self::Text(Text::default()),
            Opened::Refusal => Self::Refusal(String::new()),
            Opened::Reasoning { is_redacted } => Self::Reasoning(Reasoning {
                is_redacted,
                ..Reasoning::default()
            }),
            Opened::Call {
                id,
                name,
                is_custom,
                opaque,
            } => Self::Call {
                call: Call {
                    id,
                    name,
                    arguments: String::new(),
                    opaque,
                },
                is_custom,
            },
            Opened::Media(media) => Self::Media(media),
            Opened::Foreign(foreign) => Self::Foreign(foreign),
        }
    }

    /// What it says: its text, or the arguments of a call.
    pub(crate) fn said(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(&text.text),
            Self::Refusal(text) => Some(text),
            Self::Reasoning(reasoning) => Some(&reasoning.text),
            Self::Call { call, .. } => Some(&call.arguments),
            Self::Media(_) | Self::Foreign(_) => None,
        }
    }

    /// Where its text comes from.
    pub(crate) fn citations(&self) -> &[Citation] {
        match self {
            Self::Text(text) => &text.citations,
            Self::Refusal(_) | Self::Reasoning(_) | Self::Call { .. } | Self::Media(_) | Self::Foreign(_) => &[],
        }
    }

    pub(crate) fn grow(&mut self, more: &str) {
        match self {
            Self::Text(text) => text.text.push_str(more),
            Self::Refusal(text) => text.push_str(more),
            Self::Reasoning(reasoning) => reasoning.text.push_str(more),
            Self::Call { call, .. } => call.arguments.push_str(more),
            Self::Media(_) | Self::Foreign(_) => {}
        }
    }

    pub(crate) fn cite(&mut self, citation: Citation) {
        if let Self::Text(text) = self {
            text.citations.push(citation);
        }
    }

    pub(crate) fn sign(&mut self, opaque: Opaque) {
        match self {
            Self::Reasoning(reasoning) => reasoning.opaque = Some(opaque),
            Self::Call { call, .. } => call.opaque = Some(opaque),
            Self::Text(_) | Self::Refusal(_) | Self::Media(_) | Self::Foreign(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::VendorWire;
    use crate::turn::CallName;

    #[test]
    fn events_add_up() {
        let lock = Opaque {
            wire: VendorWire::Messages,
            data: "s".to_owned(),
        };
        let mut answer = Answer::default();
        let delta = |text: &str| Event::Delta(text.to_owned());
        for event in [
            Event::Begin,
            Event::Open(Opened::Reasoning { is_redacted: false }),
            delta("hm"),
            delta("m"),
            Event::Sign(lock.clone()),
            Event::Close,
            Event::Open(Opened::Call {
                id: "c".to_owned(),
                name: CallName::plain("f"),
                is_custom: false,
                opaque: None,
            }),
            delta("{}"),
            Event::Close,
            Event::Stop(Stop::Calls),
            Event::End,
        ] {
            answer.add(event);
        }
        let thought = AnswerPart::Reasoning(Reasoning {
            text: "hmm".to_owned(),
            opaque: Some(lock),
            is_redacted: false,
        });
        assert_eq!(
            (answer.parts.len(), &answer.parts[0], answer.stop),
            (2, &thought, Stop::Calls)
        );
        assert!(matches!(&answer.parts[1], AnswerPart::Call { call, .. } if call.arguments == "{}"));
    }
}
