//! Where an event ends and where its data stands. Lines end with LF, CR or CRLF, as the WHATWG standard has it.

use std::borrow::Cow;

use memchr::memchr2;

/// One event that lies whole in a slice.
pub(crate) struct Block<'a> {
    /// The first byte after it.
    pub(crate) end: usize,
    /// Its data lines joined by LF; `None` when there is none.
    pub(crate) data: Option<Cow<'a, [u8]>>,
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads one event from the start of `bytes`; `None` when its end is not there. `is_first`: a byte-order mark may precede it.
pub(crate) fn block(bytes: &[u8], is_first: bool) -> Option<Block<'_>> {
    let mut at = if is_first && bytes.starts_with(BOM) {
        BOM.len()
    } else {
        0
    };
    let mut data = None;
    loop {
        let stop = at + memchr2(b'\n', b'\r', bytes.get(at..)?)?;
        let next = if bytes[stop] == b'\r' && bytes.get(stop + 1) == Some(&b'\n') {
            stop + 2
        } else {
            stop + 1
        };
        if stop == at {
            return Some(Block { end: next, data });
        }
        if let Some(line) = data_of(&bytes[at..stop]) {
            data = Some(match data {
                None => Cow::Borrowed(line),
                Some(mut before) => {
                    before.to_mut().extend_from_slice(b"\n");
                    before.to_mut().extend_from_slice(line);
                    before
                }
            });
        }
        at = next;
    }
}

/// The value of a `data` line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        [] => Some(b""),
        _ => None,
    }
}

/// Looks for the end of an event that comes in pieces.
#[derive(Clone, Copy)]
pub(crate) struct EndFinder {
    line_is_empty: bool,
    after_cr: bool,
    /// Where a byte-order mark may stand, of which so many bytes were seen.
    mark: usize,
}

impl EndFinder {
    /// At the start of an event; before the first one of a body a byte-order mark may stand.
    pub(crate) const fn new(is_first: bool) -> Self {
        Self {
            line_is_empty: true,
            after_cr: false,
            mark: if is_first { 0 } else { BOM.len() },
        }
    }

    /// The first byte after the event, when it ends in this piece. Every byte of the event must be given once.
    pub(crate) fn end(&mut self, piece: &[u8]) -> Option<usize> {
        let mut at = self.past_mark(piece);
        if self.after_cr && !piece.is_empty() {
            self.after_cr = false;
            at = usize::from(piece[0] == b'\n');
        }
        while let Some(skip) = memchr2(b'\n', b'\r', &piece[at..]) {
            let stop = at + skip;
            let is_blank = skip == 0 && self.line_is_empty;
            let is_cr = piece[stop] == b'\r';
            at = if is_cr && piece.get(stop + 1) == Some(&b'\n') {
                stop + 2
            } else {
                stop + 1
            };
            if is_blank {
                *self = Self::new(false);
                return Some(at);
            }
            self.line_is_empty = true;
            self.after_cr = is_cr && stop + 1 == piece.len();
        }
        if at < piece.len() {
            self.line_is_empty = false;
        }
        None
    }

    /// How many bytes of the piece belong to the byte-order mark.
    fn past_mark(&mut self, piece: &[u8]) -> usize {
        let mut at = 0;
        while let (Some(expected), Some(byte)) = (BOM.get(self.mark), piece.get(at)) {
            if byte != expected {
                self.line_is_empty = self.mark == 0;
                self.mark = BOM.len();
                break;
            }
            self.mark += 1;
            at += 1;
        }
        at
    }
}

/// Gives the data of an event that comes in pieces to whoever reads it.
pub(crate) struct DataLines(Line);

#[derive(Clone, Copy)]
enum Line {
    /// Where a byte-order mark may stand, of which so many bytes were seen.
    Mark(usize),
    /// So many bytes of `data:` were seen, and nothing else on this line.
    Name(usize),
    /// After `data:`, where one blank is skipped.
    Blank,
    Data,
    Other,
}

const NAME: &[u8] = b"data:";

impl DataLines {
    /// At the start of an event; before the first one of a body a byte-order mark may stand.
    pub(crate) const fn new(is_first: bool) -> Self {
        Self(if is_first { Line::Mark(0) } else { Line::Name(0) })
    }

    /// Passes the data in `piece` on. Lines are joined by LF, which between the tokens of JSON means nothing.
    pub(crate) fn read(&mut self, piece: &[u8], mut sink: impl FnMut(&[u8])) {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            self.0 = match (self.0, byte) {
                (Line::Mark(seen), _) if BOM.get(seen) == Some(&byte) => {
                    at += 1;
                    if seen + 1 == BOM.len() {
                        Line::Name(0)
                    } else {
                        Line::Mark(seen + 1)
                    }
                }
                (Line::Mark(0), _) => Line::Name(0),
                (Line::Mark(_), _) => Line::Other,
                (Line::Data | Line::Blank, b'\n' | b'\r') => {
                    sink(b"\n");
                    at += 1;
                    Line::Name(0)
                }
                (Line::Name(_) | Line::Other, b'\n' | b'\r') => {
                    at += 1;
                    Line::Name(0)
                }
                (Line::Name(seen), _) if NAME.get(seen) == Some(&byte) => {
                    at += 1;
                    if seen + 1 == NAME.len() {
                        Line::Blank
                    } else {
                        Line::Name(seen + 1)
                    }
                }
                (Line::Name(_), _) => Line::Other,
                (Line::Blank, _) => {
                    at += usize::from(byte == b' ');
                    Line::Data
                }
                (line @ (Line::Data | Line::Other), _) => {
                    let stop = memchr2(b'\n', b'\r', &piece[at..]).map_or(piece.len(), |skip| at + skip);
                    if matches!(line, Line::Data) {
                        sink(&piece[at..stop]);
                    }
                    at = stop;
                    line
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn one(text: &str, end: usize, data: Option<&str>) {
        let block = block(text.as_bytes(), true).unwrap();
        assert_eq!(block.end, end);
        assert_eq!(block.data.as_deref(), data.map(str::as_bytes));
        let lines = |cut: usize| {
            let mut out = Vec::new();
            let mut lines = DataLines::new(true);
            lines.read(&text.as_bytes()[..cut], |part| out.extend_from_slice(part));
            lines.read(&text.as_bytes()[cut..block.end], |part| out.extend_from_slice(part));
            out
        };
        for cut in 0..=block.end {
            assert_eq!(
                lines(cut).trim_ascii_end(),
                data.unwrap_or_default().as_bytes(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn every_way_to_end_a_line_is_known() {
        one("data: a\n\nrest", 9, Some("a"));
        one("data: a\r\n\r\nrest", 11, Some("a"));
        one("data: a\r\rrest", 9, Some("a"));
        one("data: a\r\n\nrest", 10, Some("a"));
        one("data: a\n\r\nrest", 10, Some("a"));
        one("data:a\n\r", 8, Some("a"));
        one("\ndata: a\n\n", 1, None);
    }

    #[test]
    fn data_lines_are_joined_and_others_skipped() {
        one("event: x\ndata: {\n: comment\ndata:}\nid: 1\n\n", 41, Some("{\n}"));
        one(": comment\n\n", 11, None);
        one("database: a\ndat: b\n data: c\n\n", 29, None);
        one("data:  two\n\n", 12, Some(" two"));
    }

    #[test]
    fn a_byte_order_mark_is_skipped_only_at_the_start() {
        let text = "\u{feff}data: a\n\n".as_bytes();
        assert_eq!(block(text, true).unwrap().data.as_deref(), Some(&b"a"[..]));
        assert!(block(text, false).unwrap().data.is_none());
    }

    #[test]
    fn the_end_is_the_same_however_it_is_cut() {
        for text in [
            "data: a\n\n",
            "data: a\r\n\r\n",
            "data: a\r\r",
            "event: b\r\ndata: a\n\r\n",
            "\n",
            "\r\n",
            ":\n:\r:\r\n\n",
            "\u{feff}\n",
            "\u{feff}data: a\r\n\r\n",
        ] {
            let bytes = text.as_bytes();
            let whole = block(bytes, true).unwrap().end;
            let mut finder = EndFinder::new(true);
            assert_eq!(finder.end(bytes), Some(whole), "{text:?}");
            for cut in 0..bytes.len() {
                let mut finder = EndFinder::new(true);
                let end = finder
                    .end(&bytes[..cut])
                    .or_else(|| finder.end(&bytes[cut..]).map(|end| cut + end));
                // A cut inside the last CRLF ends the event at its CR.
                let expected = if cut + 1 == whole && text.ends_with("\r\n") {
                    cut
                } else {
                    whole
                };
                assert_eq!(end, Some(expected), "{text:?} cut at {cut}");
            }
        }
    }
}
