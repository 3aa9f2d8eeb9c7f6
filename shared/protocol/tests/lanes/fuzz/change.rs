//! Changes of an input that keep most of its form: members, elements and events come, go and change places, and what
//! readers stumble over stands where a value stood. Knows no wire, but the words of all: they stand in the readers' sources.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use super::MOST;
use crate::common::root;

/// Numbers that look like chance and come again from the same start: xorshift64*.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn from(start: u64) -> Self {
        Self(start | 1)
    }

    /// Of an input: FNV-1a of its bytes.
    pub(crate) fn of(input: &[u8]) -> Self {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self::from(input.iter().fold(0xcbf2_9ce4_8422_2325, mix))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::try_from((self.next() >> 16) % u64::try_from(most.max(1)).unwrap()).unwrap()
    }

    fn of_list<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }

    fn range(&mut self, len: usize) -> Range<usize> {
        let from = self.below(len + 1);
        let most = (len - from).min(1 << self.below(9));
        from..from + self.below(most + 1)
    }
}

/// Values that readers stumble over.
const VALUES: &[&str] = &[
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "0",
    "-1",
    "1e999",
    "18446744073709551615",
    "18446744073709551616",
    "1.5",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\u0000\"",
    "\"é\u{1f600}\"",
    "\"data:image/png;base64,aGk=\"",
    "\"data:,\"",
    "{\"type\":\"text\",\"text\":\"a\"}",
    "[[],{},null]",
    "[null,null]",
    "[\"\",\"\"]",
    "\"{\\\"a\\\":1}\"",
];

/// Pieces of framing, and of broken JSON.
const PIECES: &[&str] = &[
    "[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "]",
    "}",
    "\"",
    "\\",
    ",",
    ":",
    "\n\n",
    "\r",
    "\r\n",
    "data: ",
    "data: {}\n\n",
    "event: error\n",
    "data: [DONE]\n\n",
    ": ping\n\n",
    "\u{feff}",
    "é",
    "\u{1f600}",
    "\0",
];

/// Every word that a reader may compare a key or a value with.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut found = BTreeSet::new();
    collect(&root().join("src"), &mut found);
    found.into_iter().collect()
});

fn collect(folder: &Path, words: &mut BTreeSet<String>) {
    let is_word = |text: &str| {
        (2..40).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
    };
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            collect(&entry, words);
        } else {
            let text = fs::read_to_string(&entry).unwrap();
            words.extend(text.split(['"', '\\']).filter(|text| is_word(text)).map(str::to_owned));
        }
    }
}

/// Bytes that are no UTF-8.
const NO_TEXT: &[&[u8]] = &[b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\x80"];

/// Changes an input in a few places. `others` are what parts of it are replaced from.
pub(crate) fn changed(input: &[u8], others: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = input.to_vec();
    for _ in 0..=chance.below(5) {
        match chance.below(18) {
            0..=3 => value(&mut input, chance),
            14..=15 => word(&mut input, chance),
            16..=17 => texts(&mut input, chance),
            4..=6 => borrowed(&mut input, others, chance),
            7..=8 => member(&mut input, chance),
            9..=10 => events(&mut input, chance),
            11 => deep(&mut input, chance),
            _ => bytes(&mut input, others, chance),
        }
        input.truncate(MOST);
    }
    input
}

/// What stands in JSON: one value, or a key.
struct Place {
    at: Range<usize>,
    is_key: bool,
}

/// Every value and key of the JSON in an input, whatever is around it.
fn places(input: &[u8]) -> Vec<Place> {
    let (mut found, mut open, mut at) = (Vec::new(), Vec::new(), 0);
    while at < input.len() {
        let from = at;
        at += 1;
        match input[from] {
            b'"' => {
                while at < input.len() && input[at] != b'"' {
                    at += 1 + usize::from(input[at] == b'\\');
                }
                at = (at + 1).min(input.len());
                let is_key = input.get(at) == Some(&b':');
                found.push(Place { at: from..at, is_key });
            }
            b'{' | b'[' => open.push(from),
            b'}' | b']' => found.extend(open.pop().map(|from| Place {
                at: from..at,
                is_key: false,
            })),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                while input
                    .get(at)
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
                {
                    at += 1;
                }
                found.push(Place {
                    at: from..at,
                    is_key: false,
                });
            }
            _ => {}
        }
    }
    found
}

/// Puts another value where one stands.
fn value(input: &mut Vec<u8>, chance: &mut Chance) {
    let mut values = places(input);
    values.retain(|place| !place.is_key);
    let Some(place) = chance.of_list(&values) else { return };
    let at = place.at.clone();
    // A number that is off by one, a text that is a little longer or shorter, break other things than nonsense does.
    match (input[at.start], chance.below(4)) {
        (b'0'..=b'9', 0) => {
            let number = std::str::from_utf8(&input[at.clone()])
                .ok()
                .and_then(|text| text.parse::<u64>().ok());
            let number = number.unwrap_or(0);
            let other = [
                number.saturating_add(1),
                number.saturating_sub(1),
                number.saturating_mul(1000),
                1 << chance.below(64),
            ];
            input.splice(at, other[chance.below(4)].to_string().into_bytes());
        }
        (b'"', 0) if at.len() > 2 => {
            let inside = at.start + 1 + chance.below(at.len() - 2);
            let piece = [&b"\xc3\xa9"[..], b"\\\"", b"\\u0041", b" ", b"_", b"\\n"][chance.below(6)];
            input.splice(inside..inside, piece.iter().copied());
        }
        (b'"', 1) if at.len() > 2 => drop(input.drain(at.start + 1 + chance.below(at.len() - 2)..at.end - 1)),
        _ => {
            let value = VALUES[chance.below(VALUES.len())];
            input.splice(at, value.bytes());
        }
    }
}

/// Makes texts longer or shorter, and wide: those that are no words, or nothing of the form would be left.
fn texts(input: &mut Vec<u8>, chance: &mut Chance) {
    let mut texts = places(input);
    texts.retain(|place| !place.is_key && input[place.at.start] == b'"' && place.at.len() > 2);
    let is_word = |at: &Range<usize>| {
        let text = &input[at.start + 1..at.end - 1];
        WORDS.binary_search_by(|word| word.as_bytes().cmp(text)).is_ok()
    };
    texts.retain(|place| !is_word(&place.at));
    for place in texts.into_iter().rev() {
        if chance.below(2) == 0 {
            let wide = ["é", "€", "\u{1f600}", "\\n"][chance.below(4)];
            let (before, most) = (chance.below(4), 1 << chance.below(8));
            let text = format!("{}{}", "a".repeat(before), wide.repeat(chance.below(most)));
            input.splice(place.at.start + 1..place.at.end - 1, text.into_bytes());
        }
    }
}

/// Puts a value, or a key, where one of its kind stands: of this input or of another.
fn borrowed(input: &mut Vec<u8>, others: &[Vec<u8>], chance: &mut Chance) {
    let own = places(input);
    let Some(to) = chance.of_list(&own) else { return };
    let is_own = chance.below(2) == 0;
    let other = if is_own { None } else { chance.of_list(others) };
    let from = other.map_or(&input[..], |other| other);
    let mut there = places(from);
    there.retain(|place| place.is_key == to.is_key);
    let Some(place) = chance.of_list(&there) else { return };
    let with = from[place.at.clone()].to_vec();
    input.splice(to.at.clone(), with);
}

/// Puts a word that readers know where a key or a text stands, or adds a member with it.
fn word(input: &mut Vec<u8>, chance: &mut Chance) {
    let places = places(input);
    let Some(place) = chance.of_list(&places) else { return };
    let Some(word) = chance.of_list(&WORDS) else { return };
    let at = place.at.clone();
    if place.is_key && chance.below(2) == 0 {
        let value = chance
            .of_list(&places)
            .map_or(&b"null"[..], |other| &input[other.at.clone()]);
        let added = [b"\"", word.as_bytes(), b"\":", value, b","].concat();
        input.splice(at.start..at.start, added);
    } else {
        input.splice(at, format!("\"{word}\"").into_bytes());
    }
}

/// Takes a member or an element away, says it twice, or adds one.
fn member(input: &mut Vec<u8>, chance: &mut Chance) {
    let places = places(input);
    let Some(place) = chance.of_list(&places) else { return };
    let begin = place.at.start;
    // A key with its value, else the value alone.
    let end = if place.is_key {
        let value = places.iter().find(|other| other.at.start == place.at.end + 1);
        value.map_or(place.at.end, |value| value.at.end)
    } else {
        place.at.end
    };
    let whole = input[begin..end].to_vec();
    match chance.below(3) {
        0 => {
            let comma = usize::from(input.get(end) == Some(&b','));
            input.drain(begin..end + comma);
        }
        1 => {
            let again = [&whole[..], b","].concat().repeat(1 << chance.below(6));
            input.splice(begin..begin, again);
        }
        _ => {
            let other = chance.of_list(&places).map(|other| input[other.at.clone()].to_vec());
            input.splice(begin..begin, [other.unwrap_or_default(), b",".to_vec()].concat());
        }
    }
}

/// Puts a value deep into lists or objects.
fn deep(input: &mut Vec<u8>, chance: &mut Chance) {
    let mut values = places(input);
    values.retain(|place| !place.is_key);
    let Some(place) = chance.of_list(&values) else { return };
    let depth = 1 << chance.below(9);
    let (open, close) = [
        ("[", "]"),
        ("{\"a\":", "}"),
        ("{\"type\":\"object\",\"properties\":{\"a\":", "}}"),
    ][chance.below(3)];
    let inside = &input[place.at.clone()];
    let whole = [open.repeat(depth).as_bytes(), inside, close.repeat(depth).as_bytes()].concat();
    input.splice(place.at.clone(), whole);
}

/// Drops an event, tells it twice, or tells it at another time.
fn events(input: &mut Vec<u8>, chance: &mut Chance) {
    let mut events: Vec<Vec<u8>> = Vec::new();
    let mut rest = input.as_slice();
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\n\n") {
        let (event, after) = rest.split_at(at + 2);
        events.push(event.to_vec());
        rest = after;
    }
    if events.is_empty() {
        return;
    }
    let rest = rest.to_vec();
    let (one, other) = (chance.below(events.len()), chance.below(events.len()));
    match chance.below(4) {
        0 => drop(events.remove(one)),
        1 => events.insert(other, events[one].clone()),
        2 => events.insert(other, events[one].repeat(1 << chance.below(6))),
        _ => events.swap(one, other),
    }
    *input = [events.concat(), rest].concat();
}

/// Changes bytes, without a thought of what they mean.
fn bytes(input: &mut Vec<u8>, others: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.range(input.len());
    match chance.below(7) {
        0 => {
            if let Some(byte) = input.get_mut(at.start) {
                *byte ^= 1 << chance.below(8);
            }
        }
        1 => drop(input.drain(at)),
        2 => {
            let again = input[at.clone()].to_vec();
            input.splice(at.start..at.start, again);
        }
        3 => {
            let piece = PIECES[chance.below(PIECES.len())];
            input.splice(at.start..at.start, piece.bytes());
        }
        4 => {
            let piece = NO_TEXT[chance.below(NO_TEXT.len())];
            input.splice(at.start..at.start, piece.iter().copied());
        }
        5 => {
            let Some(other) = chance.of_list(others) else { return };
            let from = chance.range(other.len());
            input.splice(at, other[from].iter().copied());
        }
        _ => input.truncate(at.end),
    }
}
