//! The data of an event that is longer than others: JSON that comes in pieces, of which as much is kept as there is room
//! for. What a wire tells bit by bit is told on before the event is over. What a vendor says twice, once bit by bit and then
//! as a whole, stands in long strings: they give way, the longest first, and it shows where one was. Knows no wire but for
//! two names of what Responses tells again to who asked it.

pub(crate) mod frame;

use memchr::memchr2;

use self::frame::{Cut, Flows, LAST, PIECE, Place, end_of_string, escape, length_of_character};
use super::split::TooLong;

/// So many bytes of one event are kept.
pub(crate) const ROOM: usize = 48 << 10;
/// What stands in the place of a string that was left out: characters that Unicode keeps from being sent.
pub(crate) const LEFT_OUT: &str = "\u{fdd0}left out\u{fdd1}";
/// Of what is kept, what can be told on is told once it is so much.
const ENOUGH: usize = 16 << 10;
/// So much is kept where all flows: what is enough, and what comes until it is asked for.
const FLOWING: usize = ENOUGH + (8 << 10);
/// The same of a value that is told on as text, in which it may become twice as long.
const ENOUGH_OF_A_VALUE: usize = 8 << 10;
/// A string that is no longer than this stays: what an event is stands in such ones.
const SHORT: usize = 64;
/// What was asked is told again with the answer, and may be more than it.
const ECHOES: [&[u8]; 2] = [b"tools", b"instructions"];
/// How deep the members of the answer itself stand in an event.
const OF_THE_ANSWER: u32 = 2;

/// One event, as far as it came.
pub(super) struct Long {
    kept: Vec<u8>,
    /// A string may be so long.
    longest: usize,
    string: Option<InString>,
    depth: u32,
    /// The last string is the name of an echo.
    is_echo: bool,
    /// The value of an echo goes by.
    skips: bool,
    flows: Flows,
    /// A value that was cut, and is told on as text.
    value: Option<InValue>,
    /// The list goes on after a cut: the comma before its next element is none.
    skips_comma: bool,
}

/// JSON that is to be the text of a piece.
struct InValue {
    /// Where what is kept of it begins.
    from: usize,
    /// What closes the event after the text: a quote, and a bracket for each that is open around the value.
    closing: Vec<u8>,
}

#[derive(Clone, Copy)]
struct InString {
    /// Where what is kept of it begins; `None` where it is left out.
    from: Option<usize>,
    is_escaped: bool,
}

impl Long {
    pub(super) fn new(flows: Flows) -> Self {
        Self {
            kept: Vec::with_capacity(FLOWING),
            longest: ROOM,
            string: None,
            depth: 0,
            is_echo: false,
            skips: false,
            flows,
            value: None,
            skips_comma: false,
        }
    }

    /// Takes the next piece. What is kept depends on the event alone, not on how it was cut, but for the parts that were told
    /// in between.
    ///
    /// # Errors
    /// There is no room even without all that may give way.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), TooLong> {
        while !piece.is_empty() {
            let read = match self.string {
                None => self.outside(piece)?,
                Some(InString {
                    from: Some(from),
                    is_escaped,
                }) => self.kept_string(from, is_escaped, piece)?,
                Some(InString { from: None, is_escaped }) => self.other_string(is_escaped, piece),
            };
            piece = piece.get(read..).unwrap_or_default();
        }
        Ok(())
    }

    pub(super) fn into_kept(self) -> Vec<u8> {
        self.kept
    }

    /// What can be told before the event is over, as an event of its own. Asked after each piece.
    pub(super) fn part(&mut self) -> Option<Vec<u8>> {
        if self.value.is_some() {
            return self.piece();
        }
        if self.kept.len() < ENOUGH || self.skips {
            return None;
        }
        let Cut { place, closing, frame } = frame::cut(&self.kept, self.flows)?;
        let end = match place {
            Place::Text(end) | Place::After(end) => end,
            Place::Value { value, .. } => value + whole_utf8(self.kept.get(value..)?),
        };
        if matches!(place, Place::After(_)) && matches!(frame.last(), Some(b'[' | b'{')) {
            self.drop_comma(end);
        }
        let mut part = match place {
            Place::Text(_) | Place::After(_) => {
                let mut part = Vec::with_capacity(end + closing.len());
                part.extend_from_slice(self.kept.get(..end)?);
                part
            }
            Place::Value { name, value } => {
                let mut part = [self.kept.get(..name)?, b"\"", PIECE.as_bytes(), b"\":\""].concat();
                escape(self.kept.get(value..end)?, &mut part);
                self.value = Some(InValue {
                    from: frame.len(),
                    closing: closing.clone(),
                });
                part
            }
        };
        self.go_on_in(&frame, end);
        part.extend_from_slice(&closing);
        Some(part)
    }

    /// More of a value that was cut before.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let InValue { from, closing } = self.value.as_ref()?;
        let (from, closing) = (*from, closing.clone());
        if self.kept.len() < from + ENOUGH_OF_A_VALUE {
            return None;
        }
        let end = from + whole_utf8(self.kept.get(from..)?);
        let frame = self.kept.get(..from)?.to_vec();
        let mut part = frame.clone();
        escape(self.kept.get(from..end)?, &mut part);
        self.go_on_in(&frame, end);
        part.extend_from_slice(&closing);
        Some(part)
    }

    /// Keeps what comes after `end`, in this frame.
    fn go_on_in(&mut self, frame: &[u8], end: usize) {
        let end = end.min(self.kept.len());
        if let Some(InString { from: Some(from), .. }) = &mut self.string {
            *from = (*from).max(end) - end + frame.len();
        }
        self.kept.splice(..end, frame.iter().copied());
    }

    /// An element of a list was told, and the list goes on without it.
    fn drop_comma(&mut self, end: usize) {
        let rest = self.kept.get(end..).unwrap_or_default();
        match rest.iter().position(|byte| !byte.is_ascii_whitespace()) {
            None => self.skips_comma = true,
            Some(at) if rest.get(at) == Some(&b',') => {
                if let Some(comma) = self.kept.get_mut(end + at) {
                    *comma = b' ';
                }
            }
            Some(_) => {}
        }
    }

    /// A value that was cut is over.
    fn end_value(&mut self) {
        let is_over = |value: &InValue| value.closing.len() == self.depth as usize + 1;
        if let Some(value) = self.value.take_if(|value| is_over(value)) {
            escape_from(value.from, &mut self.kept);
            self.kept.extend([b"\",\"", LAST.as_bytes(), b"\":true"].concat());
        }
    }

    /// Up to a byte that means something, or that byte.
    fn outside(&mut self, piece: &[u8]) -> Result<usize, TooLong> {
        if self.skips_comma {
            let blank = piece.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.skips_comma = blank == piece.len();
            return Ok(blank + usize::from(piece.get(blank) == Some(&b',')));
        }
        let plain = piece.iter().position(|byte| b"\":,{}[]".contains(byte));
        let byte = match plain {
            Some(0) => piece[0],
            plain if self.skips => return Ok(plain.unwrap_or(piece.len())),
            plain => return self.keep(&piece[..plain.unwrap_or(piece.len())]),
        };
        let is_over = self.depth == OF_THE_ANSWER && matches!(byte, b',' | b'}');
        self.skips &= !is_over;
        if !self.skips && self.keep(&piece[..1])? == 0 {
            return Ok(0);
        }
        match byte {
            b'"' => {
                self.string = Some(InString {
                    from: (!self.skips).then_some(self.kept.len()),
                    is_escaped: false,
                });
            }
            b':' if self.is_echo => {
                self.kept.extend_from_slice(b"null");
                self.skips = true;
            }
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.end_value();
            }
            _ => {}
        }
        self.is_echo = false;
        Ok(1)
    }

    fn kept_string(&mut self, from: usize, is_escaped: bool, piece: &[u8]) -> Result<usize, TooLong> {
        let run = if is_escaped {
            1
        } else {
            memchr2(b'"', b'\\', piece).unwrap_or(piece.len())
        };
        if run == 0 && piece[0] == b'"' {
            self.is_echo = self.depth == OF_THE_ANSWER && ECHOES.contains(&&self.kept[from..]);
            self.kept.push(b'"');
            self.string = None;
            return Ok(1);
        }
        let left = (from + self.longest).saturating_sub(self.kept.len());
        if left == 0 {
            self.kept.truncate(from);
            self.kept.extend_from_slice(LEFT_OUT.as_bytes());
            self.string = Some(InString { from: None, is_escaped });
            return Ok(0);
        }
        let read = self.keep(&piece[..run.clamp(1, left)])?;
        if let (Some(string), true) = (&mut self.string, read > 0) {
            string.is_escaped = run == 0;
        }
        Ok(read)
    }

    fn other_string(&mut self, is_escaped: bool, piece: &[u8]) -> usize {
        let run = if is_escaped {
            1
        } else {
            memchr2(b'"', b'\\', piece).unwrap_or(piece.len())
        };
        if run == 0 && piece[0] == b'"' {
            self.string = None;
            if !self.skips {
                self.kept.push(b'"');
            }
            return 1;
        }
        self.string = Some(InString {
            from: None,
            is_escaped: run == 0,
        });
        run.max(1)
    }

    /// Keeps as much as there is room for: how much. None, once room was made.
    fn keep(&mut self, part: &[u8]) -> Result<usize, TooLong> {
        let room = ROOM.saturating_sub(self.kept.len());
        if room == 0 {
            self.make_room()?;
            return Ok(0);
        }
        let part = &part[..part.len().min(room)];
        if self.kept.len() + part.len() + SHORT > self.kept.capacity() {
            // At once: a buffer that grows bit by bit is there twice each time.
            self.kept.reserve_exact(ROOM + SHORT - self.kept.len());
        }
        self.kept.extend_from_slice(part);
        Ok(part.len())
    }

    fn make_room(&mut self) -> Result<(), TooLong> {
        while self.kept.len() >= ROOM {
            if self.longest <= SHORT {
                return Err(TooLong);
            }
            self.longest /= 2;
            self.leave_out();
        }
        Ok(())
    }

    /// Leaves out the strings that are longer than they may be now.
    fn leave_out(&mut self) {
        let (mut read, mut written) = (0, 0);
        while let Some(quote) = self.kept.get(read..).and_then(|rest| memchr::memchr(b'"', rest)) {
            let from = read + quote + 1;
            self.kept.copy_within(read..from, written);
            written += from - read;
            let end = end_of_string(&self.kept, from).unwrap_or(self.kept.len());
            let start = written;
            let is_long = end - from > self.longest;
            if is_long {
                self.kept[written..written + LEFT_OUT.len()].copy_from_slice(LEFT_OUT.as_bytes());
                written += LEFT_OUT.len();
            } else {
                self.kept.copy_within(from..end, written);
                written += end - from;
            }
            if end == self.kept.len() {
                // The one that is being read.
                if let Some(InString { from: at @ Some(_), .. }) = &mut self.string {
                    *at = (!is_long).then_some(start);
                }
                read = end;
                break;
            }
            self.kept[written] = b'"';
            written += 1;
            read = end + 1;
        }
        let len = self.kept.len();
        self.kept.copy_within(read.min(len)..len, written);
        self.kept.truncate(written + len.saturating_sub(read));
    }
}

/// Makes JSON's text of what stands from there on.
fn escape_from(from: usize, kept: &mut Vec<u8>) {
    let raw = kept.split_off(from.min(kept.len()));
    escape(&raw, kept);
}

/// How much of it there is without a character that is torn.
fn whole_utf8(text: &[u8]) -> usize {
    let torn = (1..=3).find(|back| text.len().checked_sub(*back).is_some_and(|at| text[at] >= 0xc0));
    match torn {
        Some(back) if back < length_of_character(text[text.len() - back]) => text.len() - back,
        _ => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pieces: &[&[u8]]) -> Result<String, TooLong> {
        let mut long = Long::new(Flows::NONE);
        for piece in pieces {
            long.push(piece)?;
            assert!(long.kept.len() <= ROOM + SHORT);
        }
        Ok(String::from_utf8(long.into_kept()).unwrap())
    }

    fn long(bytes: usize) -> String {
        r#"a\"é\\"#.repeat(bytes / 7 + 1)
    }

    #[test]
    fn what_there_is_room_for_is_kept_as_it_came() {
        let event = format!(r#"{{"type":"x","delta":"{}","n":[1, 2,{{}}]}}"#, long(45_000));
        assert_eq!(kept(&[event.as_bytes()]).unwrap(), event);
    }

    #[test]
    fn the_longest_strings_give_way_first() {
        let (long, longer) = (long(14_000), long(90_000));
        let event = format!(r#"{{"type":"x","item":{{"a":"{long}","b":"{longer}","c":["{long}","short"]}},"last":1}}"#);
        let wanted = event.replace(&longer, LEFT_OUT);
        assert_eq!(kept(&[event.as_bytes()]).unwrap(), wanted);
        // Three of the shorter ones are too many.
        let event = event.replace("\"short\"", &format!("\"{long}\",\"{long}\",\"short\""));
        let wanted = event.replace(&longer, LEFT_OUT).replace(&long, LEFT_OUT);
        assert_eq!(kept(&[event.as_bytes()]).unwrap(), wanted);
    }

    #[test]
    fn what_is_kept_is_the_same_however_the_event_is_cut() {
        let texts: Vec<_> = (1..60)
            .map(|at| format!(r#"{{"text":"{}","n":{at}}}"#, long(at * 97)))
            .collect();
        let event = format!(
            r#"{{"type":"x","response":{{"tools":[{{"a":"]}}"}}],"output":[{}]}}}}"#,
            texts.join(",")
        );
        let whole = kept(&[event.as_bytes()]).unwrap();
        assert!(whole.contains(LEFT_OUT) && serde_json::from_str::<serde::de::IgnoredAny>(&whole).is_ok());
        for size in [1, 7, 1_000, 16_384, 65_537] {
            let pieces: Vec<_> = event.as_bytes().chunks(size).collect();
            assert!(kept(&pieces).unwrap() == whole, "in pieces of {size}");
        }
    }

    #[test]
    fn what_was_asked_is_not_kept() {
        let tool = format!(
            r#"{{"name":"{{,","parameters":{{"tools":[1]}},"description":"{}"}}"#,
            long(50)
        );
        let tools = vec![tool; 2_000].join(",");
        let event = format!(
            r#"{{"type":"x","response":{{"instructions":"{}","id":"tools","tools" : [{tools}],"output":[{{"tools":[1]}}],"status":"ok"}}}}"#,
            long(100_000)
        );
        let wanted = r#"{"type":"x","response":{"instructions":null,"id":"tools","tools" :null,"output":[{"tools":[1]}],"status":"ok"}}"#;
        assert_eq!(kept(&[event.as_bytes()]).unwrap(), wanted);
    }

    #[test]
    fn what_cannot_give_way_is_too_long() {
        for endless in ["[", "{\"a\":", "1", " ", "\"a\",", "\"\\"] {
            let event = endless.repeat(ROOM + 100);
            let is_string = endless == "\"\\";
            assert_eq!(kept(&[event.as_bytes()]).is_err(), !is_string, "{endless}");
        }
    }
}
