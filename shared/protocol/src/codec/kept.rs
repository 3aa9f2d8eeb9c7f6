//! What is told now and told again later, as JSON that is written once. What is told again is told as a [`Span`] of it, which
//! stands in JSON for a value; spans may stand within what is kept. Knows no wire.

use std::io;

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

/// JSON that was written, and is told again.
#[derive(Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
}

/// Where a part of it stands: a whole value, unless it is within a [`Text`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Span {
    from: u32,
    to: u32,
}

/// A text that grows as it is told.
#[derive(Default)]
pub(crate) struct Text {
    /// Without their quotes; what else is kept meanwhile stands between them.
    spans: Vec<Span>,
}

impl Kept {
    /// Keeps a value.
    pub(super) fn keep(&mut self, value: &impl Serialize) -> Span {
        let from = self.end();
        if write(&mut *self, value).is_err() {
            // Only maps with keys that are no texts fail, and no codec writes one.
            self.bytes.truncate(from as usize);
            self.bytes.extend_from_slice(b"null");
        }
        Span { from, to: self.end() }
    }

    /// Keeps more of a text.
    pub(super) fn grow(&mut self, text: &mut Text, more: &str) {
        let from = self.end();
        let written = serde_json::to_vec(more).unwrap_or_default();
        let inside = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
        self.bytes.extend_from_slice(inside);
        let to = self.end();
        match text.spans.last_mut() {
            Some(last) if last.to == from => last.to = to,
            Some(_) | None => text.spans.push(Span { from, to }),
        }
    }

    /// What stands at the beginning of a span: nothing where it is empty.
    pub(super) fn at(&self, span: Span) -> &[u8] {
        self.bytes.get(span.from as usize..span.to as usize).unwrap_or_default()
    }

    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }
}

impl io::Write for Kept {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Text {
    /// Nothing was said.
    pub(crate) const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

/// Before what stands for a span. No text has this byte, nor any JSON.
pub(super) const MARK: u8 = 0xff;
/// It stands there in so many bytes, of which neither is another mark, nor the end of a line.
pub(super) const MARK_LEN: usize = 11;
/// A place in what is kept, in digits of six bits.
const DIGITS: u32 = 5;

impl Span {
    /// The rest, after so many bytes.
    pub(super) fn advance(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.from = self.from.saturating_add(bytes).min(self.to);
    }

    fn mark(self) -> [u8; MARK_LEN] {
        let mut mark = [MARK; MARK_LEN];
        let digits = [self.from, self.to].into_iter().flat_map(|place| {
            (0..DIGITS).map(move |at| 0x80 | u8::try_from((place >> (6 * at)) & 63).unwrap_or_default())
        });
        mark[1..].iter_mut().zip(digits).for_each(|(byte, digit)| *byte = digit);
        mark
    }

    pub(super) fn of_mark(mark: [u8; MARK_LEN]) -> Self {
        let mut places = mark[1..].chunks(DIGITS as usize).map(|digits| {
            let digits = digits.iter().rev();
            digits.fold(0, |place, digit| place << 6 | u32::from(digit & 63))
        });
        let mut next = || places.next().unwrap_or_default();
        Self {
            from: next(),
            to: next(),
        }
    }
}

/// As bytes, which nothing else is: [`write`] puts them into JSON as they are.
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.mark())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = vec![b'"'];
        json.extend(self.spans.iter().flat_map(|span| span.mark()));
        json.push(b'"');
        serializer.serialize_bytes(&json)
    }
}

/// Writes JSON, with marks in the places of spans.
pub(super) fn write(out: impl io::Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, Marking))
}

struct Marking;

impl Formatter for Marking {
    fn write_byte_array<W: ?Sized + io::Write>(&mut self, writer: &mut W, marks: &[u8]) -> io::Result<()> {
        writer.write_all(marks)
    }
}
