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
pub(crate) mod openai;

use serde::Serialize;

use self::bounded::Events;
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

/// Events on their way to a client.
pub struct Outbox {
    framing: Framing,
    bytes: Vec<u8>,
    /// Where messages end in `bytes`.
    ends: Vec<usize>,
    elements: u64,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        Self {
            framing,
            bytes: Vec::new(),
            ends: Vec::new(),
            elements: 0,
        }
    }

    /// Writes one event. `name` is what stands in its `event` line, where the wire has one.
    pub(crate) fn event(&mut self, name: Option<&str>, data: &impl Serialize) {
        match self.framing {
            Framing::Events => {
                if let Some(name) = name {
                    self.text("event: ");
                    self.text(name);
                    self.text("\n");
                }
                self.text("data: ");
                self.json(data);
                self.text("\n\n");
            }
            Framing::Array => {
                self.text(if self.elements == 0 { "[" } else { ",\r\n" });
                self.json(data);
            }
            Framing::Messages => {
                self.json(data);
                self.ends.push(self.bytes.len());
            }
        }
        self.elements += 1;
    }

    /// Writes the mark after the last event, where the wire has one: chat's `[DONE]`, the bracket of an array.
    pub(crate) fn done(&mut self, mark: Option<&str>) {
        match (self.framing, mark) {
            (Framing::Events, Some(mark)) => {
                self.text("data: ");
                self.text(mark);
                self.text("\n\n");
            }
            (Framing::Array, _) => self.text(if self.elements == 0 { "[]" } else { "]" }),
            (Framing::Events | Framing::Messages, _) => {}
        }
    }

    /// Adds what is framed already.
    pub(crate) fn raw(&mut self, framed: &[u8]) {
        self.bytes.extend_from_slice(framed);
        if self.framing == Framing::Messages {
            self.ends.push(self.bytes.len());
        }
        self.elements += 1;
    }

    /// How they are framed.
    pub(crate) const fn framing(&self) -> Framing {
        self.framing
    }

    /// Bytes that were not taken yet.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Events written so far.
    pub(crate) const fn elements(&self) -> u64 {
        self.elements
    }

    /// What was written since it was last taken: of a socket one message after another, else all of it.
    pub fn take(&mut self) -> Vec<u8> {
        self.ends.clear();
        std::mem::take(&mut self.bytes)
    }

    /// The messages of a socket.
    pub fn take_messages(&mut self) -> Vec<Vec<u8>> {
        let bytes = std::mem::take(&mut self.bytes);
        let mut from = 0;
        let ends = std::mem::take(&mut self.ends);
        let message = |end: usize| {
            let message = bytes.get(from..end).unwrap_or_default().to_vec();
            from = end;
            message
        };
        ends.into_iter().map(message).collect()
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn json(&mut self, data: &impl Serialize) {
        let from = self.bytes.len();
        if serde_json::to_writer(Gently(&mut self.bytes), data).is_err() {
            // Only maps with keys that are no texts fail, and no codec writes one.
            self.bytes.truncate(from);
            self.text("null");
        }
        // What a model wrote as arguments may be laid out in lines, and an event's data is one line. Outside strings, which
        // have no line ends in them, each blank is like another.
        let mut written = self.bytes.get_mut(from..).unwrap_or_default();
        while let Some(at) = memchr::memchr2(b'\n', b'\r', written) {
            written[at] = b' ';
            written = &mut written[at..];
        }
    }
}

/// Grows in small steps up to what is passed on at once: what doubles would be there three times while it grows.
struct Gently<'a>(&'a mut Vec<u8>);

impl std::io::Write for Gently<'_> {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        const STEP: usize = 4 << 10;
        const SMALL: usize = 128 << 10;
        let bytes = &mut *self.0;
        if bytes.capacity() - bytes.len() < part.len() && bytes.len() < SMALL {
            bytes.reserve_exact(part.len() + STEP);
        }
        bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(framing: Framing) -> Outbox {
        let mut outbox = Outbox::new(framing);
        outbox.event(Some("a"), &1);
        outbox.event(None, &"x\n");
        outbox.done(Some("[DONE]"));
        outbox
    }

    #[test]
    fn json_that_is_laid_out_in_lines_becomes_one_line() {
        let mut outbox = Outbox::new(Framing::Events);
        let lines = "{\r\n  \"a\": \"x\\n\",\r \"b\":\n[]}";
        outbox.event(None, &crate::turn::Json::parse(lines).unwrap());
        let text = String::from_utf8(outbox.take()).unwrap();
        assert_eq!(text, "data: {    \"a\": \"x\\n\",  \"b\": []}\n\n");
    }

    #[test]
    fn events_are_framed_as_the_client_reads_them() {
        let text = |framing| String::from_utf8(written(framing).take()).unwrap();
        assert_eq!(
            text(Framing::Events),
            "event: a\ndata: 1\n\ndata: \"x\\n\"\n\ndata: [DONE]\n\n"
        );
        assert_eq!(text(Framing::Array), "[1,\r\n\"x\\n\"]");
        assert_eq!(
            written(Framing::Messages).take_messages(),
            [b"1".to_vec(), b"\"x\\n\"".to_vec()]
        );
        let mut empty = Outbox::new(Framing::Array);
        empty.done(None);
        assert_eq!(empty.take(), b"[]");
    }
}
