//! Events on their way to a client, framed. What was kept of those before is told again piece by piece: an event that tells all
//! of an answer is never there as a whole. Knows no wire.

use serde::Serialize;

use super::Framing;
use super::kept::{self, Kept, MARK, MARK_LEN, Span, Text};

/// Events on their way to a client.
pub struct Outbox {
    framing: Framing,
    /// What was written, with marks in the places of what is told again.
    bytes: Vec<u8>,
    /// Where messages end in `bytes`.
    ends: Vec<usize>,
    elements: u64,
    kept: Kept,
    /// There are marks in `bytes`.
    tells_again: bool,
    /// So many of `bytes` were told of those with marks.
    told: usize,
    /// What is told again just now: spans of what is kept, each within the one before it.
    telling: Vec<Span>,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            bytes: Vec::new(),
            ends: Vec::new(),
            elements: 0,
            kept: Kept::default(),
            tells_again: false,
            told: 0,
            telling: Vec::new(),
        }
    }

    /// How much is held of what is kept, packed.
    pub(crate) const fn kept(&self) -> usize {
        self.kept.held()
    }

    /// Keeps what comes as it is, for what is told again at once.
    pub(crate) const fn keep_plainly(&mut self) {
        self.kept.plainly();
    }

    /// Keeps a value, to be told as a part of events that come later.
    pub(crate) fn keep(&mut self, value: &impl Serialize) -> Span {
        self.kept.keep(value)
    }

    /// Keeps more of a text.
    pub(crate) fn grow(&mut self, text: &mut Text, more: &str) {
        self.kept.grow(text, more);
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

    /// There is enough to be taken before more is written.
    pub(crate) const fn is_full(&self) -> bool {
        self.tells_again || self.bytes.len() >= ENOUGH
    }

    /// Events written so far.
    pub(crate) const fn elements(&self) -> u64 {
        self.elements
    }

    /// Some of what was written since it was last taken, of a socket one message after another; nothing once all of it was.
    pub fn take(&mut self) -> Vec<u8> {
        self.ends.clear();
        if self.tells_again {
            self.tell(ENOUGH_AGAIN)
        } else {
            std::mem::take(&mut self.bytes)
        }
    }

    /// All that was written since it was last taken.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        self.ends.clear();
        self.tell(usize::MAX)
    }

    /// The messages of a socket, each as a whole.
    pub fn take_messages(&mut self) -> Vec<Vec<u8>> {
        let bytes = std::mem::take(&mut self.bytes);
        let mut from = 0;
        let ends = std::mem::take(&mut self.ends);
        let message = |end: usize| {
            self.bytes = bytes.get(from..end).unwrap_or_default().to_vec();
            from = end;
            self.tell(usize::MAX)
        };
        ends.into_iter().map(message).collect()
    }

    /// Up to so many bytes, with what is kept in the places of its marks.
    fn tell(&mut self, most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            while self.ahead().is_empty() && self.telling.pop().is_some() {}
            let room = most - out.len();
            let plain = self.ahead();
            if plain.is_empty() {
                self.bytes = Vec::new();
                (self.told, self.tells_again) = (0, false);
                self.kept.fold();
                return out;
            }
            let plain = plain.get(..room).unwrap_or(plain);
            match memchr::memchr(MARK, plain) {
                _ if plain.is_empty() => return out,
                Some(0) => {
                    let mut mark = [0; MARK_LEN];
                    mark.iter_mut().for_each(|byte| *byte = self.next_byte());
                    self.telling.push(Span::of_mark(mark));
                }
                mark => {
                    let plain = plain.get(..mark.unwrap_or(plain.len())).unwrap_or_default();
                    let told = plain.len();
                    out.extend_from_slice(plain);
                    self.advance(told);
                }
            }
        }
    }

    /// What comes next where it is told just now, as much of it as lies together.
    fn ahead(&mut self) -> &[u8] {
        match self.telling.last() {
            Some(span) => self.kept.at(*span),
            None => self.bytes.get(self.told..).unwrap_or_default(),
        }
    }

    fn advance(&mut self, bytes: usize) {
        match self.telling.last_mut() {
            Some(span) => span.advance(bytes),
            None => self.told += bytes,
        }
    }

    fn next_byte(&mut self) -> u8 {
        let byte = self.ahead().first().copied();
        self.advance(1);
        byte.unwrap_or_default()
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn json(&mut self, data: &impl Serialize) {
        let from = self.bytes.len();
        if kept::write(Gently(&mut self.bytes), data).is_err() {
            // Only maps with keys that are no texts fail, and no codec writes one.
            self.bytes.truncate(from);
            self.text("null");
        }
        // What a model wrote as arguments may be laid out in lines, and an event's data is one line. Outside strings, which
        // have no line ends in them, each blank is like another.
        let mut written = self.bytes.get_mut(from..).unwrap_or_default();
        self.tells_again |= memchr::memchr(MARK, written).is_some();
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

/// So many bytes are worth being passed on; no more are gathered.
const ENOUGH: usize = 8 << 10;
/// The same of what is told again: all of it is there to be told at once, and what a slow client has not read is counted in
/// pieces on its connection.
const ENOUGH_AGAIN: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::super::kept::BLOCK;
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
    fn what_is_told_again_may_lie_across_what_is_packed_at_once() {
        for before in BLOCK - 60..BLOCK + 2 {
            let mut outbox = Outbox::new(Framing::Messages);
            outbox.keep(&"x".repeat(before));
            let mut text = Text::default();
            outbox.grow(&mut text, "é\"😀");
            let between = outbox.keep(&1);
            outbox.grow(&mut text, "\n");
            let text = outbox.keep(&text);
            let list = outbox.keep(&[text, between, text]);
            outbox.keep(&"y".repeat(BLOCK));
            outbox.event(None, &[list]);
            let told = outbox.take_messages().concat();
            assert_eq!(String::from_utf8(told).unwrap(), r#"[["é\"😀\n",1,"é\"😀\n"]]"#);
        }
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
