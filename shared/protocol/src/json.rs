//! Walks a JSON document that is there as a whole, strictly and without a tree. Knows no field.
//!
//! Strict, so that we and the vendor read the same document or none: what one reader would repair differently from
//! another is refused here.

use std::ops::Range;

/// What is wrong, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

/// How deep arrays and objects may stand in each other. Vendors allow less.
pub(crate) const DEEPEST: usize = 64;

/// One member of an object.
pub(crate) struct Member<'a> {
    /// The key as written, without its quotes.
    pub(crate) key: &'a str,
    /// Where the value stands.
    pub(crate) value: Range<usize>,
}

/// A position in a document.
pub(crate) struct Walk<'a> {
    text: &'a str,
    at: usize,
    /// The last key was one of those that say what a part is, or may be once it is unescaped.
    is_type: bool,
    /// The last string had an escape in it.
    is_escaped: bool,
}

type Walked<T> = Result<T, Fault>;

impl<'a> Walk<'a> {
    /// # Errors
    /// When the bytes are not UTF-8.
    pub(crate) fn new(bytes: &'a [u8]) -> Walked<Self> {
        let text = std::str::from_utf8(bytes).map_err(|error| Fault {
            what: "text that is not UTF-8",
            at: error.valid_up_to(),
        })?;
        Ok(Self {
            text,
            at: 0,
            is_type: false,
            is_escaped: false,
        })
    }

    /// Gives each member of the outermost object to `member`; says where the inside of that object stands. Nothing may
    /// follow it.
    pub(crate) fn members<E: From<Fault>>(
        self,
        member: impl FnMut(Member<'a>) -> Result<(), E>,
    ) -> Result<Range<usize>, E> {
        self.members_and_types(member, |_| {})
    }

    /// The same, and gives each string that says what a part is, on whatever level, to `kind`, as written: it stands under
    /// `type`, `mimeType`, `mime_type`, or `ttl` for how long it is kept.
    pub(crate) fn members_and_types<E: From<Fault>>(
        mut self,
        mut member: impl FnMut(Member<'a>) -> Result<(), E>,
        mut kind: impl FnMut(&'a str),
    ) -> Result<Range<usize>, E> {
        self.blanks();
        if self.peek() != Some(b'{') {
            return Err(self.fault("something other than an object").into());
        }
        self.at += 1;
        let inside = self.at;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                let key = self.key()?;
                let from = self.at;
                self.value(1, &mut kind)?;
                member(Member {
                    key,
                    value: from..self.at,
                })?;
                if !self.next_member(b'}')? {
                    break;
                }
            }
        }
        let end = self.at;
        self.blanks();
        if self.at < self.text.len() {
            return Err(self.fault("something after the end").into());
        }
        Ok(inside..end - 1)
    }

    /// A key with its colon and the blanks around it.
    fn key(&mut self) -> Walked<&'a str> {
        if self.peek() != Some(b'"') {
            return Err(self.fault("a member without a key"));
        }
        let from = self.at + 1;
        self.string()?;
        let key = &self.text[from..self.at - 1];
        self.is_type = says_kind(key) || (self.is_escaped && key.len() <= LONGEST_TYPE);
        self.blanks();
        self.expect(b':', "a key without a colon")?;
        self.blanks();
        Ok(key)
    }

    /// After a value: true before another one, false after the closing bracket.
    fn next_member(&mut self, close: u8) -> Walked<bool> {
        self.blanks();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.blanks();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.fault("a missing comma or bracket")),
        }
    }

    /// One value. `depth` counts the brackets around it, which are kept here, not on the stack.
    fn value(&mut self, depth: usize, kind: &mut impl FnMut(&'a str)) -> Walked<()> {
        let mut open = [0_u8; DEEPEST];
        let mut depth = depth;
        let outer = depth;
        loop {
            match self.peek() {
                Some(byte @ (b'{' | b'[')) => {
                    let close = byte + 2;
                    self.is_type = false;
                    *open
                        .get_mut(depth)
                        .ok_or_else(|| self.fault("nesting that is too deep"))? = close;
                    self.at += 1;
                    self.blanks();
                    if self.peek() != Some(close) {
                        depth += 1;
                        if close == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                    self.at += 1;
                }
                Some(b'"') => {
                    let from = self.at + 1;
                    self.string()?;
                    if self.is_type {
                        kind(&self.text[from..self.at - 1]);
                        self.is_type = false;
                    }
                }
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => return Err(self.fault("a missing value")),
            }
            loop {
                if depth == outer {
                    return Ok(());
                }
                let close = open[depth - 1];
                if self.next_member(close)? {
                    if close == b'}' {
                        self.key()?;
                    }
                    break;
                }
                depth -= 1;
            }
        }
    }

    fn string(&mut self) -> Walked<()> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        self.is_escaped = false;
        loop {
            self.at += plain_len(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.is_escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.fault("a control character in a string")),
                None => return Err(self.fault("a string without an end")),
            }
        }
    }

    fn escape(&mut self) -> Walked<()> {
        let rest = &self.text.as_bytes()[self.at..];
        let len = match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 1,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => 5,
            _ => return Err(self.fault("an unknown escape")),
        };
        self.at += len;
        Ok(())
    }

    fn number(&mut self) -> Walked<()> {
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Walked<()> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if from == self.at {
            Err(self.fault("a number without digits"))
        } else {
            Ok(())
        }
    }

    fn word(&mut self, word: &str) -> Walked<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fault("an unknown word"));
        }
        self.at += word.len();
        Ok(())
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Walked<()> {
        if self.peek() != Some(byte) {
            return Err(self.fault(otherwise));
        }
        self.at += 1;
        Ok(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { what, at: self.at }
    }
}

/// A key under which a part says what it is.
fn says_kind(key: &str) -> bool {
    match key.len() {
        4 => key == "type",
        3 => key == "ttl",
        8 => key == "mimeType",
        9 => key == "mime_type",
        _ => false,
    }
}

/// How many bytes stand before a quote, a backslash, a control character or the end. Eight at a time: escapes are too
/// dense in source code for a call at each of them to pay.
fn plain_len(bytes: &[u8]) -> usize {
    let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    unmarked_len(
        bytes,
        |word| quotes_and_backslashes(word) | (word.wrapping_sub(ONES * 0x20) & !word),
        is_special,
    )
}

/// How many bytes stand before a quote, a backslash or the end.
pub(crate) fn string_len(bytes: &[u8]) -> usize {
    // Most strings are short. Within a long one a call pays.
    let (near, far) = bytes.split_at(bytes.len().min(NEAR));
    let len = unmarked_len(near, quotes_and_backslashes, |byte| matches!(byte, b'"' | b'\\'));
    if len < NEAR || far.is_empty() {
        return len;
    }
    NEAR + memchr::memchr2(b'"', b'\\', far).unwrap_or(far.len())
}

/// How many bytes stand before one that is marked: `marks` sets the high bits of those among eight, but may set wrong
/// ones above the lowest.
fn unmarked_len(bytes: &[u8], marks: impl Fn(u64) -> u64, is_marked: impl Fn(&u8) -> bool) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = marks(u64::from_le_bytes(*word)) & (ONES << 7);
        if found != 0 {
            return at * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    bytes.len() - rest.len() + rest.iter().position(is_marked).unwrap_or(rest.len())
}

fn quotes_and_backslashes(word: u64) -> u64 {
    // The high bit of each byte that is zero. Bytes above a zero one may be marked wrongly, the lowest never is.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')))
}

const ONES: u64 = u64::MAX / 255;
const NEAR: usize = 32;
/// The length of the longest such key when each of its letters is escaped.
const LONGEST_TYPE: usize = 54;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(text: &str) -> bool {
        Walk::new(text.as_bytes())
            .and_then(|walk| walk.members(|_| Ok::<_, Fault>(())))
            .is_ok()
    }

    /// serde_json's strict reader, which checks everything and keeps nothing.
    fn serde_accepts(text: &str) -> bool {
        text.trim_ascii_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }

    #[test]
    fn members_are_found_where_they_stand() {
        let text = " { \"a\" : [1, {\"b\": \"}\"}] ,\"c\":-1.5e+3 }\n";
        let mut seen = Vec::new();
        let inside = Walk::new(text.as_bytes())
            .unwrap()
            .members(|member| {
                seen.push((member.key, &text[member.value]));
                Ok::<_, Fault>(())
            })
            .unwrap();
        assert_eq!(seen, [("a", "[1, {\"b\": \"}\"}]"), ("c", "-1.5e+3")]);
        assert_eq!(&text[inside], " \"a\" : [1, {\"b\": \"}\"}] ,\"c\":-1.5e+3 ");
    }

    #[test]
    fn strings_under_type_are_told_on_every_level() {
        let text = r#"{"type":"a","x":[{"type":"b","y":"c"},{"ty\u0070e":"d"},"type"],"type ":"e","type":["f"],"z":{"type":1}}"#;
        let mut seen = Vec::new();
        let walk = Walk::new(text.as_bytes()).unwrap();
        walk.members_and_types(|_| Ok::<_, Fault>(()), |kind| seen.push(kind))
            .unwrap();
        assert_eq!(seen, ["a", "b", "d"]);
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(accepts(&nested(DEEPEST)));
        assert!(!accepts(&nested(DEEPEST + 1)));
        assert!(!accepts(&nested(1_000_000)));
        assert!(!accepts(&"{\"a\":".repeat(1_000_000)));
    }

    #[test]
    fn faults_are_named_and_placed() {
        for (text, what, at) in [
            ("", "something other than an object", 0),
            ("[]", "something other than an object", 0),
            ("{\"a\":1}x", "something after the end", 7),
            ("{\"a\":1,}", "a member without a key", 7),
            ("{\"a\" 1}", "a key without a colon", 5),
            ("{\"a\":}", "a missing value", 5),
            ("{\"a\":\"\n\"}", "a control character in a string", 6),
            ("{\"a\":\"\\x\"}", "an unknown escape", 7),
            ("{\"a\":[1 2]}", "a missing comma or bracket", 8),
            ("{\"a\":\"b", "a string without an end", 7),
        ] {
            let fault = Walk::new(text.as_bytes())
                .unwrap()
                .members(|_| Ok::<_, Fault>(()))
                .unwrap_err();
            assert_eq!((fault.what, fault.at), (what, at), "{text}");
        }
        assert_eq!(
            Walk::new(b"{\"a\":\"\xff\"}").err(),
            Some(Fault {
                what: "text that is not UTF-8",
                at: 6
            })
        );
    }

    const WORDS: [&str; 24] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"a\"",
        "\"\\u00e4\\n\"",
        "1",
        "-",
        "0",
        ".",
        "e",
        "+",
        "true",
        "false",
        "null",
        " ",
        "\n",
        "\"",
        "\\",
        "ü",
        "\u{1}",
        "{\"k\":",
    ];

    proptest! {
        #[test]
        fn the_first_special_byte_is_found(bytes in prop::collection::vec(prop_oneof![Just(b'a'), Just(0x7f), any::<u8>()], 0..40)) {
            let first = bytes.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')).unwrap_or(bytes.len());
            prop_assert_eq!(plain_len(&bytes), first);
        }

        #[test]
        fn it_accepts_what_a_strict_reader_accepts(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..12)) {
            let text = format!("{{\"k\":{}}}", words.concat());
            prop_assert_eq!(accepts(&text), serde_accepts(&text), "{}", text);
            let text = words.concat();
            prop_assert_eq!(accepts(&text), serde_accepts(&text), "{}", text);
        }
    }
}
