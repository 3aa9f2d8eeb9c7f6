//! The data of an event that is longer than others: JSON that comes in pieces, of which as much is kept as there is room
//! for. What a vendor says twice, once bit by bit and then as a whole, stands in long strings: they give way, the longest
//! first, and it shows where one was. Knows no wire but for two names of what Responses tells again to who asked it.

use memchr::memchr2;

use super::split::TooLong;

/// So many bytes of one event are kept.
pub(crate) const ROOM: usize = 48 << 10;
/// What stands in the place of a string that was left out: characters that Unicode keeps from being sent.
pub(crate) const LEFT_OUT: &str = "\u{fdd0}left out\u{fdd1}";
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
}

#[derive(Clone, Copy)]
struct InString {
    /// Where what is kept of it begins; `None` where it is left out.
    from: Option<usize>,
    is_escaped: bool,
}

impl Long {
    pub(super) fn new() -> Self {
        Self {
            // At once: a buffer that grows is there twice while it does.
            kept: Vec::with_capacity(ROOM + SHORT),
            longest: ROOM,
            string: None,
            depth: 0,
            is_echo: false,
            skips: false,
        }
    }

    /// Takes the next piece. What is kept depends on the event alone, not on how it was cut.
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

    /// Up to a byte that means something, or that byte.
    fn outside(&mut self, piece: &[u8]) -> Result<usize, TooLong> {
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
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
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
            let end = self.end_of_string(from);
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

    /// Where the closing quote stands; the end of what is kept where there is none.
    fn end_of_string(&self, from: usize) -> usize {
        let mut at = from;
        while let Some(skip) = self.kept.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
            at += skip;
            if self.kept[at] == b'"' {
                return at;
            }
            at += 2;
        }
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pieces: &[&[u8]]) -> Result<String, TooLong> {
        let mut long = Long::new();
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
