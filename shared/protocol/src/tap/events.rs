//! An answer that is a stream of events: which bytes may go on.

use bytes::{Bytes, BytesMut};

use super::meter::{Meter, Verdict};
use super::pieces::{Piece, Pieces};
use crate::scan::Scan;
use crate::sse::blocks::{DataLines, EndFinder, block};

/// A partial event larger than this is passed on as it comes.
pub(super) const MOST_HELD: usize = 32 << 10;

/// Room that is kept for what comes later.
const SMALL: usize = 4 << 10;

pub(super) struct Events {
    /// The start of an event whose end has not come. Copied: it would pin the chunk it came in.
    held: BytesMut,
    /// Whole events before it that may be the last.
    kept: BytesMut,
    /// How far the end of the held or flowing event was searched for.
    finder: EndFinder,
    /// An event that is too large to be held, while it goes by.
    flowing: Option<Flow>,
    /// The last event ended with a CR at the end of a chunk: an LF would be part of that line end.
    after_cr: bool,
    /// Nothing was read yet.
    is_fresh: bool,
    /// A partial event was passed on: at the end of the body, or one that may be the last and whose end is kept.
    is_torn: bool,
}

struct Flow {
    lines: DataLines,
    scan: Scan,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            held: BytesMut::new(),
            kept: BytesMut::new(),
            finder: EndFinder::new(true),
            flowing: None,
            after_cr: false,
            is_fresh: true,
            is_torn: false,
        }
    }
}

impl Events {
    pub(super) fn push(&mut self, meter: &mut Meter, chunk: Bytes) -> Pieces {
        let mut out = Out {
            chunk,
            from: 0,
            pieces: Pieces::default(),
        };
        let mut at = 0;
        if self.flowing.is_some() || !self.held.is_empty() {
            let Some(end) = self.finder.end(&out.chunk) else {
                self.keep(meter, &mut out, 0);
                return out.pieces;
            };
            self.finish(meter, &mut out, end);
            at = end;
        } else if self.after_cr {
            self.after_cr = out.chunk.is_empty();
            at = usize::from(out.chunk.first() == Some(&b'\n'));
            if at == 1 && !self.kept.is_empty() {
                self.kept.extend_from_slice(b"\n");
                out.from = at;
            }
        }
        self.pass_whole_events(meter, &mut out, at);
        out.pieces
    }

    /// Reads the events that lie whole in the chunk, and keeps the start of one that does not.
    fn pass_whole_events(&mut self, meter: &mut Meter, out: &mut Out, mut at: usize) {
        while let Some(found) = block(&out.chunk[at..], self.is_fresh) {
            let end = at + found.end;
            self.is_fresh = false;
            let data = found.data;
            let verdict = self.verdict(meter, data.as_deref());
            drop(data);
            match verdict {
                Verdict::Keep => self.release(&mut out.pieces),
                Verdict::Terminal => out.last(at, end),
                Verdict::Remove => out.remove(at, end),
                Verdict::Hold => {
                    out.pass(at);
                    self.keep_back(&mut out.pieces, &out.chunk[at..end]);
                    out.from = end;
                }
            }
            at = end;
        }
        if at < out.chunk.len() {
            out.pass(at);
            self.finder = EndFinder::new(self.is_fresh);
            let end = self.finder.end(&out.chunk[at..]);
            debug_assert!(end.is_none(), "the tail holds no whole event");
            self.keep(meter, out, at);
        } else {
            out.pass(at);
            self.after_cr |= out.chunk.last() == Some(&b'\r');
        }
    }

    /// What becomes of an event with this data. One without any goes with the one before it.
    fn verdict(&self, meter: &mut Meter, data: Option<&[u8]>) -> Verdict {
        match data {
            Some(data) => meter.event(data),
            None if self.kept.is_empty() => Verdict::Keep,
            None => Verdict::Hold,
        }
    }

    /// Keeps an event that may be the last, as far as there is room.
    fn keep_back(&mut self, pieces: &mut Pieces, event: &[u8]) {
        if self.kept.len() + event.len() > MOST_HELD {
            self.release(pieces);
        }
        self.kept.extend_from_slice(event);
    }

    /// What was kept was not the last.
    fn release(&mut self, pieces: &mut Pieces) {
        if !self.kept.is_empty() {
            pieces.add(Piece::Pass(taken(&mut self.kept)));
            self.is_torn = false;
        }
    }

    /// The rest of the chunk belongs to an event that has not ended.
    fn keep(&mut self, meter: &mut Meter, out: &mut Out, at: usize) {
        let rest = &out.chunk[at..];
        if self.flowing.is_none() && self.held.len() + rest.len() <= MOST_HELD {
            hold(&mut self.held, rest);
            out.from = out.chunk.len();
            return;
        }
        self.flow(meter, out, out.chunk.len());
        out.pass(out.chunk.len());
    }

    /// The event that began in earlier chunks ends at `end` of this one.
    fn finish(&mut self, meter: &mut Meter, out: &mut Out, end: usize) {
        if self.flowing.is_none() && self.held.len() + end <= MOST_HELD {
            hold(&mut self.held, &out.chunk[..end]);
            out.from = end;
            let event = taken(&mut self.held);
            let data = block(&event, self.is_fresh).and_then(|found| found.data);
            self.is_fresh = false;
            let verdict = self.verdict(meter, data.as_deref());
            drop(data);
            match verdict {
                Verdict::Keep => {
                    self.release(&mut out.pieces);
                    out.pieces.add(Piece::Pass(event));
                }
                Verdict::Terminal => out.pieces.add(Piece::Last(event)),
                Verdict::Remove => {}
                Verdict::Hold => self.keep_back(&mut out.pieces, &event),
            }
            return;
        }
        self.flow(meter, out, end);
        let verdict = self
            .flowing
            .take()
            .map_or(Verdict::Keep, |flow| meter.large_event(&flow.scan));
        self.is_fresh = false;
        // Only the blank line makes the client act on the event.
        let blank = end - if out.chunk[..end].ends_with(b"\r\n") { 2 } else { 1 };
        match verdict {
            Verdict::Terminal => out.last(blank, end),
            Verdict::Hold => {
                out.pass(blank);
                self.keep_back(&mut out.pieces, &out.chunk[blank..end]);
                self.is_torn = true;
                out.from = end;
            }
            Verdict::Keep | Verdict::Remove => out.pass(end),
        }
    }

    /// Lets what is held and the chunk up to `end` go by as part of a large event.
    fn flow(&mut self, meter: &Meter, out: &mut Out, end: usize) {
        self.release(&mut out.pieces);
        let held = taken(&mut self.held);
        let flow = self.flowing.get_or_insert_with(|| Flow {
            lines: DataLines::new(self.is_fresh),
            scan: meter.scan(),
        });
        for part in [&held[..], &out.chunk[out.from..end]] {
            flow.lines.read(part, |data| flow.scan.push(data));
        }
        out.pieces.add(Piece::Pass(held));
    }

    pub(super) fn end(&mut self, meter: &mut Meter) -> Option<Piece> {
        let piece = if let Some(flow) = self.flowing.take() {
            self.is_torn = true;
            meter.large_event(&flow.scan);
            None
        } else {
            self.torn_event(meter)
        };
        meter.end();
        if self.kept.is_empty() {
            return piece;
        }
        let mut last = self.kept.split();
        last.extend_from_slice(&piece.map(Piece::into_bytes).unwrap_or_default());
        Some(Piece::Last(last.freeze()))
    }

    /// An event without its blank line. The standard has clients drop it; some do not, so it is read and passed.
    fn torn_event(&mut self, meter: &mut Meter) -> Option<Piece> {
        if self.held.is_empty() {
            return None;
        }
        self.is_torn = true;
        let event = self.held.split().freeze();
        let ended = [&event, &b"\n\n"[..]].concat();
        let data = block(&ended, self.is_fresh).and_then(|found| found.data);
        match data.map_or(Verdict::Keep, |data| meter.event(&data)) {
            Verdict::Keep => Some(Piece::Pass(event)),
            Verdict::Terminal | Verdict::Hold => Some(Piece::Last(event)),
            Verdict::Remove => None,
        }
    }

    pub(super) fn is_at_boundary(&self) -> bool {
        self.flowing.is_none() && !self.is_torn
    }

    pub(super) fn is_ending(&self) -> bool {
        !self.kept.is_empty()
    }
}

/// Adds to what is held, in room of few sizes: an allocator keeps what was freed of each size for that size.
fn hold(held: &mut BytesMut, part: &[u8]) {
    let length = held.len() + part.len();
    if length > held.capacity().max(SMALL) {
        let mut room = BytesMut::with_capacity(length.next_power_of_two());
        room.extend_from_slice(held);
        *held = room;
    }
    held.extend_from_slice(part);
}

/// What was gathered. Its room is used again where it is small; more is not held for later.
fn taken(gathered: &mut BytesMut) -> Bytes {
    if gathered.len() > SMALL {
        std::mem::take(gathered).freeze()
    } else {
        gathered.split().freeze()
    }
}

/// A chunk on its way out. `from` is the first byte that was not given out.
struct Out {
    chunk: Bytes,
    from: usize,
    pieces: Pieces,
}

impl Out {
    /// Everything up to `end` may go.
    fn pass(&mut self, end: usize) {
        let piece = self.take(end);
        self.pieces.add(Piece::Pass(piece));
    }

    fn last(&mut self, start: usize, end: usize) {
        self.pass(start);
        let piece = self.take(end);
        self.pieces.add(Piece::Last(piece));
    }

    fn remove(&mut self, start: usize, end: usize) {
        self.pass(start);
        self.from = end;
    }

    fn take(&mut self, end: usize) -> Bytes {
        let start = std::mem::replace(&mut self.from, end);
        if start == 0 && end == self.chunk.len() {
            self.chunk.clone()
        } else {
            self.chunk.slice(start..end)
        }
    }
}
