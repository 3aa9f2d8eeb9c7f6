//! Where an event that has not come as a whole can be cut in two: one that is JSON so far, and the frame in which the rest
//! goes on, so that a reader takes both as two events. Is told the places by the wire, and knows no other of its names.

use memchr::{memchr2, memmem};

/// The places at which a wire says things bit by bit, each by the names that lead there; `*` is any place of a list.
#[derive(Clone, Copy)]
pub(crate) struct Flows {
    /// Texts of which a part makes sense, and of which one event may say more than another.
    pub(crate) texts: &'static [&'static [&'static str]],
    /// Values of which the JSON itself is told on, once a `name` stands before them: a reader finds it as the text [`PIECE`].
    pub(crate) values: &'static [&'static [&'static str]],
    /// What says of which part something is: it is told again with the rest.
    pub(crate) marks: &'static [&'static str],
    /// The mark without which nothing can be told.
    pub(crate) needs: Option<&'static str>,
}

impl Flows {
    /// A wire of which nothing can be cut.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self {
        texts: &[],
        values: &[],
        marks: &[],
        needs: None,
    };
}

/// In the place of a value that was cut: some of its JSON, as a text.
pub(crate) const PIECE: &str = "\u{fdd0}piece";
/// Beside the last of these pieces: true.
pub(crate) const LAST: &str = "\u{fdd0}last";
/// Beside a text that goes on: true.
pub(crate) const GOES_ON: &str = "\u{fdd0}on";

/// Nothing of what is told again is longer.
const SHORT: usize = 64;
/// No way to a text or a value that flows is longer.
const DEEPEST: usize = 16;

/// Where an event is cut.
pub(super) struct Cut {
    pub(super) place: Place,
    /// What closes the event before the cut.
    pub(super) closing: Vec<u8>,
    /// What the rest begins with.
    pub(super) frame: Vec<u8>,
}

pub(super) enum Place {
    /// Within a text, after so many bytes.
    Text(usize),
    /// Between two values, after so many bytes: the last text that flows is over, and what it belongs to.
    After(usize),
    /// Within a value: where its name begins, and where it does.
    Value { name: usize, value: usize },
}

/// Where what is kept of an event can be cut, as late as may be.
pub(super) fn cut(kept: &[u8], flows: Flows) -> Option<Cut> {
    let mut scan = Scan::new(kept, flows);
    match scan.run() {
        Ended::InText(from) => scan.in_text(from),
        Ended::Elsewhere => {
            if let Some((depth, name, value)) = scan.value {
                return Some(scan.in_value(depth, name, value));
            }
            let at = scan.after?;
            let mut scan = Scan::new(kept.get(..at)?, flows);
            scan.run();
            Some(Cut {
                place: Place::After(at),
                closing: scan.closing(scan.open.len()),
                frame: scan.frame,
            })
        }
    }
}

/// Room for what closes an event.
pub(super) const CLOSING: usize = 64;

/// JSON's text of these bytes, without its quotes.
pub(super) fn escape(raw: &[u8], text: &mut Vec<u8>) {
    // At once: what doubles would be there three times while it grows.
    let escapes = memchr::memchr3_iter(b'"', b'\\', b'\n', raw).count();
    text.reserve_exact(raw.len() + escapes + CLOSING);
    for &byte in raw {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', byte]),
            b'\n' => text.extend(b"\\n"),
            0..0x20 => text.push(b' '),
            _ => text.push(byte),
        }
    }
}

/// How much of a text without an end makes sense by itself: no character and no escape is torn.
pub(super) fn whole_characters(text: &[u8]) -> usize {
    /// Two escapes that are one character.
    const LONGEST: usize = 12;
    let most = text.len().saturating_sub(LONGEST);
    let (mut at, mut whole) = (0, 0);
    while at <= most {
        whole = at;
        at += match text.get(at..) {
            Some([b'\\', b'u', first, second, ..]) if is_half(*first, *second) => LONGEST,
            Some([b'\\', b'u', ..]) => 6,
            Some([b'\\', ..]) => 2,
            Some([first, ..]) => length_of_character(*first),
            _ => 1,
        };
    }
    whole
}

/// How many bytes a character of UTF-8 has that begins with this one.
pub(super) const fn length_of_character(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// The first half of a pair: d800 to dbff.
fn is_half(first: u8, second: u8) -> bool {
    first.eq_ignore_ascii_case(&b'd') && matches!(second, b'8' | b'9' | b'a' | b'b' | b'A' | b'B')
}

/// A list or an object that is open.
struct Open<'a> {
    is_object: bool,
    /// What it is called where it stands.
    name: &'a [u8],
    /// Where the frame had come before it.
    before: usize,
    has_flow: bool,
    has_name: bool,
}

enum Ended {
    /// Within a text that flows, which begins here.
    InText(usize),
    Elsewhere,
}

struct Scan<'a> {
    kept: &'a [u8],
    flows: Flows,
    at: usize,
    open: Vec<Open<'a>>,
    /// So many more are open, too deep to be of interest.
    deeper: usize,
    frame: Vec<u8>,
    /// The name that was read last, and where it begins; its value is ahead.
    name: Option<(&'a [u8], usize)>,
    /// The value that flows and is open: how deep it stands, where its name begins, and where it does.
    value: Option<(usize, usize, usize)>,
    /// Where the last object with a text that flows was over.
    after: Option<usize>,
}

impl<'a> Scan<'a> {
    fn new(kept: &'a [u8], flows: Flows) -> Self {
        Self {
            kept,
            flows,
            at: 0,
            open: Vec::new(),
            deeper: 0,
            frame: Vec::new(),
            name: None,
            value: None,
            after: None,
        }
    }

    fn run(&mut self) -> Ended {
        while let Some(&byte) = self.kept.get(self.at) {
            match byte {
                b'"' => {
                    let from = self.at + 1;
                    let Some(end) = end_of_string(self.kept, from) else {
                        let flows = !self.is_name() && self.is_at(self.flows.texts);
                        return if flows { Ended::InText(from) } else { Ended::Elsewhere };
                    };
                    self.string(from, end);
                    self.at = end + 1;
                }
                b'{' | b'[' => self.begin(byte),
                b'}' | b']' => self.end(),
                b',' => {
                    self.name = None;
                    self.at += 1;
                }
                b':' | b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                _ => {
                    let rest = self.kept.get(self.at..).unwrap_or_default();
                    let Some(length) = rest.iter().position(|byte| b",}] \t\r\n".contains(byte)) else {
                        return Ended::Elsewhere;
                    };
                    self.scalar(self.at, self.at + length);
                    self.at += length;
                }
            }
        }
        Ended::Elsewhere
    }

    /// A string here is the name of a member.
    fn is_name(&self) -> bool {
        self.deeper == 0 && self.name.is_none() && self.open.last().is_some_and(|open| open.is_object)
    }

    fn string(&mut self, from: usize, end: usize) {
        if self.deeper > 0 {
            return;
        }
        if self.is_name() {
            self.name = self.kept.get(from..end).map(|name| (name, from - 1));
        } else if self.is_at(self.flows.texts) {
            if let Some(open) = self.open.last_mut() {
                open.has_flow = true;
            }
        } else {
            self.scalar(from - 1, end + 1);
        }
    }

    /// A value that has no others: it stays in the frame where it says of which part the rest is.
    fn scalar(&mut self, from: usize, end: usize) {
        let Some((name, _)) = self.name.filter(|_| self.deeper == 0) else {
            return;
        };
        if let Some(open) = self.open.last_mut() {
            open.has_name |= name == b"name";
        }
        let is_mark = self.flows.marks.iter().any(|mark| mark.as_bytes() == name);
        if end - from <= SHORT && (is_mark || name == GOES_ON.as_bytes()) {
            self.member(name);
            self.frame
                .extend_from_slice(self.kept.get(from..end).unwrap_or_default());
        }
    }

    /// Begins a member of the frame.
    fn member(&mut self, name: &[u8]) {
        if !matches!(self.frame.last(), None | Some(b'{' | b'[')) {
            self.frame.push(b',');
        }
        self.frame.push(b'"');
        self.frame.extend_from_slice(name);
        self.frame.extend_from_slice(b"\":");
    }

    fn begin(&mut self, bracket: u8) {
        if self.open.len() == DEEPEST || self.deeper > 0 {
            self.deeper += 1;
            self.at += 1;
            return;
        }
        let is_named = self.open.last().is_some_and(|open| open.has_name);
        if is_named && self.value.is_none() && self.is_at(self.flows.values) {
            self.value = self.name.map(|(_, at)| (self.open.len(), at, self.at));
        }
        let before = self.frame.len();
        let name = self.name.take().map(|(name, _)| name);
        if let Some(name) = name {
            self.member(name);
        }
        self.frame.push(bracket);
        self.open.push(Open {
            is_object: bracket == b'{',
            name: name.unwrap_or(b"*"),
            before,
            has_flow: false,
            has_name: false,
        });
        self.at += 1;
    }

    fn end(&mut self) {
        self.at += 1;
        if self.deeper > 0 {
            self.deeper -= 1;
            return;
        }
        let Some(open) = self.open.pop() else { return };
        self.frame.truncate(open.before);
        self.name = None;
        if self.value.is_some_and(|(depth, ..)| depth == self.open.len()) {
            self.value = None;
        }
        // Where there is no list, what is left makes no sense by itself.
        if open.has_flow && self.open.iter().any(|open| !open.is_object) {
            self.after = Some(self.at);
        }
    }

    /// Whether what begins here stands at one of these places.
    fn is_at(&self, places: &[&[&str]]) -> bool {
        let names = self.open.iter().skip(1).map(|open| open.name);
        let own = self.name.map_or(&b"*"[..], |(name, _)| name);
        self.deeper == 0
            && places.iter().any(|place| {
                let names = names.clone().chain([own]);
                !self.open.is_empty() && place.iter().map(|name| name.as_bytes()).eq(names)
            })
    }

    /// What closes as many as are open.
    fn closing(&self, depth: usize) -> Vec<u8> {
        let open = self.open.iter().take(depth).rev();
        open.map(|open| if open.is_object { b'}' } else { b']' }).collect()
    }

    fn in_text(mut self, from: usize) -> Option<Cut> {
        let whole = whole_characters(self.kept.get(from..)?);
        let (name, _) = self.name.filter(|_| whole > 0)?;
        if self.flows.needs.is_some_and(|mark| !self.has(mark)) {
            return None;
        }
        if !self.has(GOES_ON) {
            self.member(GOES_ON.as_bytes());
            self.frame.extend_from_slice(b"true");
        }
        self.member(name);
        self.frame.push(b'"');
        let mut closing = vec![b'"'];
        closing.extend(self.closing(self.open.len()));
        Some(Cut {
            place: Place::Text(from + whole),
            closing,
            frame: self.frame,
        })
    }

    /// Whether the frame has a member of this name.
    fn has(&self, name: &str) -> bool {
        let name = [b"\"", name.as_bytes(), b"\":"].concat();
        memmem::find(&self.frame, &name).is_some()
    }

    fn in_value(mut self, depth: usize, name: usize, value: usize) -> Cut {
        if let Some(open) = self.open.get(depth) {
            self.frame.truncate(open.before);
        }
        self.member(PIECE.as_bytes());
        self.frame.push(b'"');
        let mut closing = vec![b'"'];
        closing.extend(self.closing(depth));
        Cut {
            place: Place::Value { name, value },
            closing,
            frame: self.frame,
        }
    }
}

/// Where the closing quote stands of a string that begins here, if there is one.
pub(super) fn end_of_string(kept: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(skip) = kept.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += skip;
        if kept.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
    None
}
