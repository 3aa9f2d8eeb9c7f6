//! An answer as no wire spells it, event by event. A unary answer is the same events in one burst. Knows no wire.
//!
//! Parts come one after another: what is said of "the part" is said of the one that is open. [`Sequence`] stands between
//! a reader and a writer and sees to that, so that a reader may be careless and a writer need not be careful.

mod answer;
mod failure;
mod sequence;

pub use self::answer::{Answer, AnswerPart};
pub use self::failure::{Cause, Failure};
pub use self::sequence::Sequence;
use crate::turn::{CallName, Citation, Foreign, Media, MediaSource, Opaque};
use crate::usage::Usage;

/// What happens in an answer. No `Debug`: it is what a model wrote.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub enum Event {
    /// The vendor has begun. Comes first, once.
    Begin,
    /// A part begins; the one before is over.
    Open(Opened),
    /// More of the part: of its text, of a thought, of the arguments of a call.
    Delta(String),
    /// Where the text so far, or a span of it, comes from.
    Cite(Citation),
    /// What the vendor wants to see again with the part, or the locked whole of it.
    Sign(Opaque),
    /// The part is over.
    Close,
    /// What the call used so far; the last counts. Made of what the tap read, never by a reader.
    Usage(Usage),
    /// Why the answer ends. No part follows.
    Stop(Stop),
    /// The end of an answer that is whole. Nothing follows.
    End,
    /// The vendor failed. Nothing follows.
    Fail(Failure),
}

/// What kind of part begins.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub enum Opened {
    /// Text.
    Text,
    /// What the model says instead of an answer.
    Refusal,
    /// A thought, or a summary of it.
    Reasoning {
        /// It is hidden, and what follows is its lock alone.
        is_redacted: bool,
    },
    /// A call of a tool.
    Call {
        /// What its result is tied to. Never empty.
        id: String,
        /// The tool.
        name: CallName,
        /// Its input is free text, not JSON.
        is_custom: bool,
        /// What the vendor wants to see again with it, where it says so at once: clients whose wire has no place for it
        /// carry it in the id.
        opaque: Option<Opaque>,
    },
    /// A picture or a sound, whole: no delta follows.
    Media(Media),
    /// What one wire alone knows, whole: no delta follows.
    Foreign(Foreign),
}

impl Opened {
    /// The texts that it has, but for those of one wire alone.
    pub(crate) fn texts(&self) -> [Option<&str>; 4] {
        match self {
            Self::Text | Self::Refusal | Self::Reasoning { .. } | Self::Foreign(_) => [None; 4],
            Self::Call { id, name, opaque, .. } => [
                Some(id),
                name.namespace.as_deref(),
                Some(&name.name),
                opaque.as_ref().map(|opaque| opaque.data.as_str()),
            ],
            Self::Media(media) => match &media.source {
                MediaSource::Data { mime, base64 } => [Some(mime), Some(base64), None, None],
                MediaSource::Url { url, mime } => [Some(url), mime.as_deref(), None, None],
                MediaSource::Stored(_) => [None; 4],
            },
        }
    }

    /// How many bytes they have.
    pub(crate) fn len(&self) -> usize {
        self.texts().into_iter().flatten().map(str::len).sum()
    }
}

/// Why an answer ends.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Stop {
    /// The model is done, or its vendor has a reason that no other wire knows.
    Done,
    /// It waits for what tools give.
    Calls,
    /// The most tokens that were allowed, or that the model has.
    Length,
    /// One of the texts that the client named; which, where the vendor says so.
    Sequence(Option<String>),
    /// The model or its vendor will not go on: a refusal, a filter.
    Filter,
}
