//! An answer of Gemini's that is one JSON array, its chunks being the elements: which bytes may go on.
//!
//! What is passed always ends with an element, so that one of ours can follow; what stands between two goes with the
//! second. An element that may be the last is kept until another comes or the body ends.

use bytes::{Bytes, BytesMut};

use super::events::MOST_HELD;
use super::meter::{Meter, Verdict};
use super::pieces::{Piece, Pieces};
use crate::json::string_len;
use crate::scan::Scan;

#[derive(Default)]
pub(super) struct Array {
    place: Place,
    /// The element under way.
    element: Option<Scan>,
    /// Not given out: what may be the end, what stands between, and an element under way as far as there is room.
    held: BytesMut,
    /// What is held begins with so many elements that may be the end. The last of several may be.
    kept: u64,
    /// A part of the element under way was given out.
    is_flowing: bool,
    /// What may be the end is out but for its last byte.
    is_torn: bool,
    /// So many elements have ended.
    passed: u64,
}

/// Where in the JSON the last byte stood.
#[derive(Default)]
struct Place {
    /// How many brackets are open.
    depth: u32,
    in_string: bool,
    is_escaped: bool,
}

/// What a byte does to the elements.
enum Step {
    Begins,
    Ends,
}

impl Array {
    pub(super) fn push(&mut self, meter: &mut Meter, chunk: Bytes) -> Pieces {
        let mut pieces = Pieces::default();
        let (mut from, mut read, mut at) = (0, 0, 0);
        while let Some((step, found)) = self.place.next(&chunk, at) {
            at = found + 1;
            match step {
                Step::Begins => {
                    self.element = Some(meter.scan());
                    read = found;
                }
                Step::Ends => {
                    let Some(mut scan) = self.element.take() else { continue };
                    scan.push(&chunk[read..at]);
                    match meter.large_event(&scan) {
                        Verdict::Hold => self.keep_back(&mut pieces, &chunk, from..at),
                        Verdict::Keep | Verdict::Terminal | Verdict::Remove => self.pass(&mut pieces, &chunk, from..at),
                    }
                    from = at;
                    read = at;
                }
            }
        }
        if let Some(scan) = &mut self.element {
            scan.push(&chunk[read..]);
        }
        self.hold(&mut pieces, &chunk, from);
        pieces
    }

    /// An element ended that others follow.
    fn pass(&mut self, pieces: &mut Pieces, chunk: &Bytes, range: std::ops::Range<usize>) {
        pieces.add(Piece::Pass(self.held.split().freeze()));
        pieces.add(Piece::Pass(chunk.slice(range)));
        (self.kept, self.is_flowing, self.is_torn) = (0, false, false);
        self.passed += 1;
    }

    /// An element ended that may be the last. Of one that is out but for its end, its end is kept.
    fn keep_back(&mut self, pieces: &mut Pieces, chunk: &Bytes, range: std::ops::Range<usize>) {
        self.is_torn = self.is_flowing || self.held.len() + range.len() > MOST_HELD;
        if self.is_torn {
            let last = range.end - 1;
            pieces.add(Piece::Pass(self.held.split().freeze()));
            pieces.add(Piece::Pass(chunk.slice(range.start..last)));
            self.held.extend_from_slice(&chunk[last..range.end]);
            self.kept = 1;
        } else {
            self.held.extend_from_slice(&chunk[range]);
            self.kept += 1;
        }
        self.is_flowing = false;
        self.passed += 1;
    }

    /// The rest of a chunk: the beginning of an element, or what stands between two.
    fn hold(&mut self, pieces: &mut Pieces, chunk: &Bytes, from: usize) {
        let rest = &chunk[from..];
        if self.held.len() + rest.len() <= MOST_HELD && !self.is_flowing {
            self.held.extend_from_slice(rest);
            return;
        }
        pieces.add(Piece::Pass(self.held.split().freeze()));
        pieces.add(Piece::Pass(chunk.slice(from..)));
        (self.kept, self.is_flowing) = (0, true);
    }

    pub(super) fn end(&mut self, meter: &mut Meter) -> Option<Piece> {
        if let Some(scan) = self.element.take() {
            meter.large_event(&scan);
        }
        meter.end();
        let rest = self.held.split().freeze();
        (!rest.is_empty()).then_some(Piece::Last(rest))
    }

    pub(super) const fn is_at_boundary(&self) -> bool {
        !self.is_flowing && !self.is_torn
    }

    pub(super) const fn is_ending(&self) -> bool {
        self.kept > 0
    }

    /// How many elements the client has.
    pub(super) fn passed(&self) -> u64 {
        self.passed.saturating_sub(self.kept)
    }
}

impl Place {
    /// Where the next element begins or ends, from `at` on. Elements are the objects in the outermost array.
    fn next(&mut self, chunk: &[u8], mut at: usize) -> Option<(Step, usize)> {
        while let Some(&byte) = chunk.get(at) {
            if self.in_string {
                at = self.string(chunk, at);
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth = self.depth.saturating_add(1);
                    if byte == b'{' && self.is_element() {
                        return Some((Step::Begins, at));
                    }
                }
                b'}' | b']' => {
                    let is_end = byte == b'}' && self.is_element();
                    self.depth = self.depth.saturating_sub(1);
                    if is_end {
                        return Some((Step::Ends, at));
                    }
                }
                _ => {}
            }
            at += 1;
        }
        None
    }

    /// Past the part of a string that stands here.
    fn string(&mut self, chunk: &[u8], from: usize) -> usize {
        let mut at = from + usize::from(std::mem::take(&mut self.is_escaped));
        at += chunk.get(at..).map_or(0, string_len);
        match chunk.get(at) {
            Some(b'"') => self.in_string = false,
            Some(_) => self.is_escaped = true,
            None => return chunk.len(),
        }
        at + 1
    }

    /// The innermost open bracket is the one of an element: the second, for the first is the array's.
    const fn is_element(&self) -> bool {
        self.depth == 2
    }
}
