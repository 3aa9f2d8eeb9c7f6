//! What is told now and told again later, as JSON that is written once, and packed. What is told again is told as a [`Span`] of
//! it, which stands in JSON for a value; spans may stand within what is kept. Knows no wire.

use std::cell::RefCell;
use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

/// JSON that was written, and is told again.
#[derive(Default)]
pub(super) struct Kept {
    /// Blocks of `BLOCK` bytes, each for itself.
    packed: Vec<Box<[u8]>>,
    /// What follows them.
    rest: Vec<u8>,
    /// The block that is told just now.
    unpacked: Option<(usize, Vec<u8>)>,
    is_plain: bool,
    held: usize,
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
    /// Packs nothing: what is kept is told at once.
    pub(super) const fn plainly(&mut self) {
        self.is_plain = true;
    }

    /// How many bytes are held, but for those of one block and one that is told.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Keeps a value.
    pub(super) fn keep(&mut self, value: &impl Serialize) -> Span {
        let mut from = self.end();
        if write(&mut *self, value).is_err() {
            // Only maps with keys that are no texts fail, and no codec writes one.
            from = self.end();
            self.add(b"null");
        }
        self.held += AROUND;
        Span { from, to: self.end() }
    }

    /// Keeps more of a text.
    pub(super) fn grow(&mut self, text: &mut Text, more: &str) {
        let from = self.end();
        // It fails no more than `add` does.
        drop(more.serialize(&mut serde_json::Serializer::with_formatter(&mut *self, Inside)));
        let to = self.end();
        match text.spans.last_mut() {
            Some(last) if last.to == from => last.to = to,
            Some(_) | None => {
                text.spans.push(Span { from, to });
                self.held += AROUND;
            }
        }
    }

    /// What stands at the beginning of a span: nothing where it is empty.
    pub(super) fn at(&mut self, span: Span) -> &[u8] {
        let (from, to) = (span.from as usize, span.to as usize);
        let block = from / BLOCK;
        let (plain, begins) = match self.packed.get(block) {
            None => (&self.rest, self.packed.len() * BLOCK),
            Some(packed) => {
                let (at, plain) = self.unpacked.get_or_insert_default();
                if *at != block || plain.is_empty() {
                    unpack(packed, plain);
                    *at = block;
                }
                (&*plain, block * BLOCK)
            }
        };
        let to = to.min(begins + plain.len());
        plain.get(from - begins..to - begins).unwrap_or_default()
    }

    /// Nothing is told for now.
    pub(super) fn fold(&mut self) {
        self.unpacked = None;
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !self.is_plain && self.rest.len() + bytes.len() >= BLOCK {
            let (fits, more) = bytes.split_at(BLOCK - self.rest.len());
            self.rest.extend_from_slice(fits);
            let packed = pack(&self.rest);
            self.held += packed.len();
            self.packed.push(packed);
            self.rest.clear();
            bytes = more;
        }
        self.rest.extend_from_slice(bytes);
    }

    fn end(&self) -> u32 {
        u32::try_from(self.packed.len() * BLOCK + self.rest.len()).unwrap_or(u32::MAX)
    }
}

impl io::Write for Kept {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.add(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// So much is packed at once. English becomes 2.5 times shorter so, and 2.65 times in blocks twice as large, of which more would
/// be held as it is.
pub(super) const BLOCK: usize = 8 << 10;
/// What a span of what is kept takes where it is known.
const AROUND: usize = 2 * size_of::<Span>();

/// What packs is larger than what any stream keeps, so each thread has one.
struct Press {
    compress: Compress,
    decompress: Decompress,
    room: Vec<u8>,
}

thread_local! {
    static PRESS: RefCell<Press> = RefCell::new(Press {
        compress: Compress::new(Compression::default(), false),
        decompress: Decompress::new(false),
        room: Vec::with_capacity(BLOCK),
    });
}

/// A block in fewer bytes; as it is where it has no fewer.
fn pack(block: &[u8]) -> Box<[u8]> {
    PRESS.with_borrow_mut(|press| {
        press.room.clear();
        press.compress.reset();
        let status = press
            .compress
            .compress_vec(block, &mut press.room, FlushCompress::Finish);
        let is_shorter = matches!(status, Ok(Status::StreamEnd)) && press.room.len() < block.len();
        if is_shorter { press.room.as_slice() } else { block }.into()
    })
}

fn unpack(packed: &[u8], plain: &mut Vec<u8>) {
    plain.clear();
    plain.reserve_exact(BLOCK);
    if packed.len() == BLOCK {
        return plain.extend_from_slice(packed);
    }
    let unpacked = PRESS.with_borrow_mut(|press| {
        press.decompress.reset(false);
        press.decompress.decompress_vec(packed, plain, FlushDecompress::Finish)
    });
    debug_assert!(unpacked.is_ok() && plain.len() == BLOCK, "it is what was packed");
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

/// Writes a text without its quotes.
struct Inside;

impl Formatter for Inside {
    fn begin_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }
}
