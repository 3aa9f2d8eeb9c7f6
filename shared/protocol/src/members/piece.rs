//! A value within a document of JSON that was checked as a whole: where it ends, and what is in it. Knows no field's
//! meaning.

use std::borrow::Cow;
use std::rc::Rc;

use memchr::memchr;
use serde_json::value::RawValue;

use crate::turn::Json;

/// A value as it was written, without the blanks around it.
#[derive(Clone)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Where it begins in its document.
    at: usize,
    ends: Rc<Ends>,
}

/// Where each array, each object and each long text of a document begins and ends, in the order of their beginnings.
struct Ends(Vec<(u32, u32)>);

/// A text that is longer is found by its entry, a shorter one by looking at it.
const LONG: usize = 64;

impl<'a> Piece<'a> {
    /// A whole document; `None` where it is no JSON, or longer than 4 GiB.
    pub(super) fn document(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice::<&RawValue>(body).ok().map(Self::of)
    }

    /// A document that was checked before.
    pub(super) fn of(raw: &'a RawValue) -> Self {
        let text = raw.get();
        let ends = Rc::new(Ends::of(text.as_bytes()));
        Self { text, at: 0, ends }
    }

    /// The members of an object, in their order; `None` where it is none, or a key of it is no text.
    pub(super) fn members(&self) -> Option<Vec<(Cow<'a, str>, Self)>> {
        let (mut walk, mut members) = (self.within(b'{')?, Vec::new());
        while walk.goes_on(b'}')? {
            let key = key(walk.value()?.text)?;
            walk.step(b':')?;
            members.push((key, walk.value()?));
        }
        Some(members)
    }

    /// The elements of an array; `None` where it is none.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let (mut walk, mut items) = (self.within(b'[')?, Vec::new());
        while walk.goes_on(b']')? {
            items.push(walk.value()?);
        }
        Some(items)
    }

    /// A copy.
    pub(super) fn json(&self) -> Json {
        Json::parse(self.text).unwrap_or_else(|| Json::from(RawValue::NULL))
    }

    fn within(&self, open: u8) -> Option<Walk<'_, 'a>> {
        (self.text.as_bytes().first() == Some(&open)).then_some(Walk { piece: self, next: 1 })
    }
}

/// A key's text; most have no escape.
fn key(written: &str) -> Option<Cow<'_, str>> {
    let inner = written.strip_prefix('"')?.strip_suffix('"')?;
    if memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(written).ok().map(Cow::Owned)
}

/// A place between the values of an array or an object.
struct Walk<'p, 'a> {
    piece: &'p Piece<'a>,
    next: usize,
}

impl<'a> Walk<'_, 'a> {
    /// Whether another value follows, and not the end.
    fn goes_on(&mut self, close: u8) -> Option<bool> {
        match self.peek()? {
            byte if byte == close => return Some(false),
            b',' => self.next += 1,
            _ => {}
        }
        Some(true)
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.piece.text.as_bytes().get(self.next..)?;
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        self.next += blanks;
        rest.get(blanks).copied()
    }

    fn step(&mut self, over: u8) -> Option<()> {
        (self.peek()? == over).then(|| self.next += 1)
    }

    fn value(&mut self) -> Option<Piece<'a>> {
        let first = self.peek()?;
        let (piece, from) = (self.piece, self.next);
        let at = piece.at + from;
        let rest = piece.text.as_bytes().get(from..)?;
        let length = match first {
            b'{' | b'[' => piece.ends.of_value(at)? - at,
            b'"' => match text_end(rest.get(..LONG).unwrap_or(rest)) {
                Some(end) => end,
                None => piece.ends.of_value(at)? - at,
            },
            _ => rest
                .iter()
                .position(|byte| is_blank(*byte) || matches!(byte, b',' | b']' | b'}'))?,
        };
        self.next = from + length;
        Some(Piece {
            text: piece.text.get(from..self.next)?,
            at,
            ends: piece.ends.clone(),
        })
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// How long the text is that these bytes begin with, its quotes included; `None` where it does not end in them.
fn text_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 1;
    loop {
        let quote = from + memchr(b'"', bytes.get(from..)?)?;
        let escapes = bytes
            .get(1..quote)?
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count();
        from = quote + 1;
        if escapes % 2 == 0 {
            return Some(from);
        }
    }
}

impl Ends {
    fn of(document: &[u8]) -> Self {
        let (mut ends, mut open, mut at) = (Vec::new(), Vec::new(), 0);
        let short = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        while let Some(byte) = document.get(at) {
            let from = at;
            at += 1;
            match byte {
                b'"' => {
                    at = from + document.get(from..).and_then(text_end).unwrap_or(1);
                    if at - from > LONG {
                        ends.push((short(from), short(at)));
                    }
                }
                b'{' | b'[' => {
                    open.push(ends.len());
                    ends.push((short(from), 0));
                }
                b'}' | b']' => {
                    if let Some(entry) = open.pop().and_then(|entry: usize| ends.get_mut(entry)) {
                        entry.1 = short(at);
                    }
                }
                _ => {}
            }
        }
        Self(ends)
    }

    /// Where what begins here ends.
    fn of_value(&self, at: usize) -> Option<usize> {
        let at = u32::try_from(at).ok()?;
        let found = self.0.binary_search_by_key(&at, |(from, _)| *from).ok()?;
        usize::try_from(self.0.get(found)?.1).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The same, as serde_json reads it.
    fn is_like(piece: &Piece<'_>, value: &Value) {
        match value {
            Value::Object(map) => {
                let members = piece.members().unwrap();
                assert_eq!(members.len(), map.len());
                assert!(piece.items().is_none());
                for (key, piece) in &members {
                    is_like(piece, &map[&**key]);
                }
            }
            Value::Array(list) => {
                let items = piece.items().unwrap();
                assert_eq!(items.len(), list.len());
                assert!(piece.members().is_none());
                items.iter().zip(list).for_each(|(piece, value)| is_like(piece, value));
            }
            other => {
                assert_eq!(serde_json::from_str::<Value>(piece.text).unwrap(), *other);
                assert!(piece.members().is_none() && piece.items().is_none());
            }
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[ -~\u{e9}\n\u{1f600}]{0,9}", "[\\\\\"a]{0,200}", ".{50,90}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_is_found_whole_wherever_it_stands(value in json()) {
            for written in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                let spaced = format!(" {written}\n");
                is_like(&Piece::document(spaced.as_bytes()).unwrap(), &value);
            }
        }
    }

    #[test]
    fn what_is_no_json_is_no_document() {
        for body in ["", "{", "[1,]", "{\"a\" 1}", "\"\n\"", "[1] 2", "\"\\x\""] {
            assert!(Piece::document(body.as_bytes()).is_none(), "{body}");
        }
        assert!(Piece::document(b"\"\xff\"").is_none());
        let unreadable = Piece::document(br#"{"\ud800":1}"#).unwrap();
        assert!(unreadable.members().is_none(), "a key that is half a character");
    }
}
