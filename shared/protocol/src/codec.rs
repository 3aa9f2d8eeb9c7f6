//! How a wire is read and written by the translating lane: what each of them offers, and how a new one is made.
//!
//! # How a codec is written
//!
//! A wire has a module of its own (`chat`, `responses`, `messages`, `gemini`, `converse`) with `request.rs` (both ways),
//! `read.rs` (a vendor's answer) and `write.rs` (an answer for a client). Nothing else knows the wire's field names, and
//! it knows no other wire. It offers, as `pub(crate)`:
//!
//! - `fn read(body: &[u8], losses: &mut Losses) -> Result<Turn, Invalid>`: a client's request. The model and whether the
//!   answer is streamed are not read: the envelope has them. Take what the wire can say out of `Members` field by field,
//!   and end each object with `Members::rest`, which tells what nobody knew. A field that another wire could not say in
//!   principle (several answers, log probabilities, stored conversations) is `losses.meaning(path)`. End with
//!   [`Turn::name_results`] where results have an id alone.
//! - `fn write(turn: &Turn, target: &Target<'_>, losses: &mut Losses) -> Vec<u8>`: a vendor's request. Tools have been
//!   through [`Flat`]: they are plain functions (but for Responses, which has groups and free text of its own). What the
//!   wire cannot say is a loss, named by a word of `loss::said`: `meaning` for tools, pictures, a schema, a forced
//!   choice, texts that end the answer; `hint` for the rest, how the next token is drawn among it, since clients send
//!   their defaults along (a penalty of 0 is no loss at all). A
//!   [`Foreign`](crate::turn::Foreign) part is written when it is of this wire, else its `path` is a hint, or a meaning
//!   where it is a forced or the only tool. An [`Opaque`](crate::turn::Opaque) is written when it is of this wire, else
//!   left out in silence: its text goes along where the wire has a place for thoughts of a turn gone by.
//!   Rules that stand in the middle of a conversation, where a wire has one place for them at the top: those before the
//!   first other message go there, later ones become text of the user within `<system>…</system>`, and their path is a
//!   hint.
//! - `struct Reader` with `ReadAnswer`: a vendor's answer, streamed or whole.
//! - `struct Writer` with `WriteAnswer`: an answer for a client, streamed or whole.
//! - `fn failure(status: u16, body: &[u8]) -> Failure`: the body of a vendor's refusal.
//!
//! Then the wire's arms in `translate.rs` and its cells in [`crate::LANES`] are filled in.
//!
//! Requests are written with `#[derive(Serialize)]` structs, or maps in the order of the client: never with
//! `serde_json::Value`, which sorts keys. Ids that a wire lacks are made of [`Reply::id`] and a count, never by chance.

pub(crate) mod bounded;
pub(crate) mod kept;
pub(crate) mod openai;
mod outbox;

use self::bounded::Events;
pub use self::outbox::Outbox;
use crate::event::{Answer, Event};
use crate::sse::long::frame::Flows;
use crate::tokens::Tokens;
#[cfg(doc)]
use crate::{Flat, Turn};

/// To whom a request is written.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The model as the vendor knows it.
    pub model: &'a str,
    /// The vendor is OpenAI, or Azure: it refuses fields that others of the same wire need.
    pub is_openai: bool,
    /// The answer is to be a stream; its usage is asked for.
    pub is_streamed: bool,
    /// What to allow where the client named no limit and the wire must have one.
    pub max_output: Tokens,
}

/// What an answer says of itself that its vendor does not decide.
#[derive(Clone)]
pub struct Reply {
    /// Of this call: letters and digits. Ids are made of it.
    pub id: String,
    /// The model as the client asked for it.
    pub model: String,
    /// When it began, in seconds since 1970.
    pub created: u64,
    /// Chat: the client asked for a chunk with the usage.
    pub wants_usage: bool,
}

/// Reads a vendor's answer. Never fails: what it does not understand it skips, what makes no sense it tells as
/// [`Event::Fail`]. The events may be out of order, doubled or without an end; a [`crate::Sequence`] mends that.
pub(crate) trait ReadAnswer: Send + Sync {
    /// Where its wire says things of which a long event may be cut: each part is given to [`Self::event`] as one of its own.
    fn flows(&self) -> Flows;

    /// Takes the data of one event, whole and without its framing, and gives its events at once.
    fn event(&mut self, data: &[u8], out: &mut Events);

    /// The body ended cleanly. Only a wire whose end is the end of its body says `End` here.
    fn end(&mut self, out: &mut Events);

    /// Takes a body that is the whole answer, for a reader that has read nothing yet.
    fn whole(&mut self, body: &[u8], out: &mut Events);
}

/// Writes an answer for a client. It gets the events in the order that [`crate::Sequence`] promises, and never `Fail`,
/// which every wire's refusal has words for.
pub(crate) trait WriteAnswer: Send + Sync {
    /// Writes what one event says, at once. Nothing may be held back for later but what the wire says only once a part or
    /// the answer is whole.
    fn write(&mut self, event: Event, out: &mut Outbox);

    /// Writes a whole answer, which has no failure, as one document.
    fn whole(&mut self, answer: &Answer) -> Vec<u8>;
}

/// How events are put on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Events,
    /// Elements of one JSON array: Gemini without `alt=sse`.
    Array,
    /// Messages of a WebSocket.
    Messages,
}
