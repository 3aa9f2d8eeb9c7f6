//! What a reader takes of a vendor's JSON, in no more memory than the JSON has itself: texts without a second copy, lists
//! that are no longer than any answer's, events up to a number. Knows no wire.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{Cause, Event, Failure, Opened};
use crate::sse::long::LEFT_OUT;
use crate::turn::Citation;

/// What a reader has read.
pub(crate) struct Events {
    list: VecDeque<Event>,
    most: usize,
    /// How much of the first, a long text, was given.
    given: usize,
}

/// So many events may stand in one of a vendor's. What each of them becomes is many times as long as what it was.
const MOST_AT_ONCE: usize = 256;
/// The elements of a list may take so much room by themselves, without the texts in them.
const MOST_IN_LISTS: usize = 32 << 10;

impl Events {
    /// Room for what one event of a stream says.
    pub(crate) const fn of_one() -> Self {
        Self {
            list: VecDeque::new(),
            most: MOST_AT_ONCE,
            given: 0,
        }
    }

    /// Room for a whole answer.
    pub(crate) const fn of_all() -> Self {
        Self {
            list: VecDeque::new(),
            most: usize::MAX,
            given: 0,
        }
    }

    /// Adds one; in the place of the first that is too many, a failure.
    pub(crate) fn push(&mut self, event: Event) {
        if self.list.len() < self.most {
            self.list.push_back(bounded(event));
        } else if self.list.len() == self.most {
            self.list
                .push_back(failed("The upstream said too much at once to be translated."));
        }
    }

    pub(crate) fn extend(&mut self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.push(event));
    }

    /// The next one; of a long text a piece.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Some(Event::Delta(text)) = self.list.front().filter(|_| self.most != usize::MAX) else {
            return self.list.pop_front();
        };
        let end = text.floor_char_boundary(self.given + PIECE);
        if self.given == 0 && end == text.len() {
            return self.list.pop_front();
        }
        let piece = text.get(self.given..end).unwrap_or_default().to_owned();
        self.given = end;
        if end == text.len() {
            self.list.pop_front();
            self.given = 0;
        }
        Some(Event::Delta(piece))
    }

    /// Why the answer ends is among them.
    pub(crate) fn has_stop(&self) -> bool {
        self.list.iter().any(|event| matches!(event, Event::Stop(_)))
    }

    /// Some strings of the vendor's event were left out. Where one of them was what the answer says, it fails for this
    /// reason; what a vendor hides, or where a text comes from, the client does without.
    /// Whether it does.
    pub(crate) fn forgo_left_out(&mut self, why: &'static str) -> bool {
        let has = |text: &str| text.contains(LEFT_OUT);
        self.list.retain(|event| match event {
            Event::Sign(opaque) => !has(&opaque.data),
            Event::Cite(Citation { url, title, quote, .. }) => {
                ![url, title, quote].into_iter().flatten().any(|text| has(text))
            }
            _ => true,
        });
        let is_lost = |event: &Event| match event {
            Event::Delta(text) => has(text),
            Event::Open(opened) => opened.texts().into_iter().flatten().any(has),
            _ => false,
        };
        let lost = self.list.iter().position(is_lost);
        if let Some(at) = lost {
            self.list.truncate(at);
            self.list.push_back(failed(why));
        }
        lost.is_some()
    }
}

/// An event whose parts are no longer than they make sense. The ids and names of calls are told and kept at several places.
fn bounded(event: Event) -> Event {
    match event {
        Event::Open(Opened::Call { id, name, .. }) if id.len() + name.name.len() > LONGEST_NAME => {
            failed("The upstream called a tool by a name that is too long.")
        }
        Event::Fail(mut failure) => {
            failure
                .message
                .truncate(failure.message.floor_char_boundary(LONGEST_MESSAGE));
            Event::Fail(failure)
        }
        event => event,
    }
}

fn failed(why: &str) -> Event {
    Event::Fail(Failure {
        cause: Cause::Vendor,
        message: why.to_owned(),
    })
}

/// A long text is told in pieces of so many bytes.
const PIECE: usize = 8 << 10;
/// No tool has a longer name, nor a call a longer id.
const LONGEST_NAME: usize = 4 << 10;
/// So much of what a vendor says of a failure is passed on.
const LONGEST_MESSAGE: usize = 4 << 10;

/// A list whose elements take no more room than they may.
pub(crate) struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T> Few<T> {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list that is not too long")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut few = Vec::new();
        while let Some(element) = list.next_element()? {
            if (few.len() + 1) * size_of::<T>() > MOST_IN_LISTS {
                return Err(Error::invalid_length(few.len() + 1, &self));
            }
            few.push(element);
        }
        Ok(Few(few))
    }
}

/// Of several answers the one that was asked for.
pub(crate) trait Numbered {
    /// Which of them it is.
    fn number(&self) -> u32;
}

/// The first of several answers; of the others nothing is kept.
pub(crate) fn first<'de, D: Deserializer<'de>, T: Deserialize<'de> + Numbered>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(First(PhantomData))
}

struct First<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Numbered> Visitor<'de> for First<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of answers")
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(answer) = list.next_element::<T>()? {
            if answer.number() == 0 && found.is_none() {
                found = Some(answer);
            }
        }
        Ok(found)
    }
}

/// A text that may be missing. Where it has escapes, serde's own reader holds it twice.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let raw = Option::<&RawValue>::deserialize(deserializer)?;
    raw.filter(|raw| raw.get() != "null").map(of_raw).transpose()
}

/// The same of a text that must be there.
pub(crate) fn some_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    of_raw(<&RawValue>::deserialize(deserializer)?)
}

/// The text that a value is, if it is one.
pub(crate) fn text_of(raw: &RawValue) -> Option<String> {
    of_raw::<serde_json::Error>(raw).ok()
}

fn of_raw<E: Error>(raw: &RawValue) -> Result<String, E> {
    let inside = raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let inside = inside.ok_or_else(|| E::custom("no text"))?;
    // A backslash says one character, of which each but one more of it is longer than what it says.
    let escapes = memchr::memchr_iter(b'\\', inside.as_bytes()).count();
    let mut text = String::with_capacity(inside.len() - escapes / 2);
    let mut rest = inside;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        rest = unescape(escaped, &mut text).ok_or_else(|| E::custom("an escape that makes no sense"))?;
    }
    text.push_str(rest);
    Ok(text)
}

/// Adds what an escape, after its backslash, stands for; the rest.
fn unescape<'a>(rest: &'a str, text: &mut String) -> Option<&'a str> {
    let unit = |at: usize| u16::from_str_radix(rest.get(at..at + 4)?, 16).ok();
    let (c, used) = match rest.as_bytes().first()? {
        b'n' => ('\n', 1),
        b't' => ('\t', 1),
        b'r' => ('\r', 1),
        b'b' => ('\u{8}', 1),
        b'f' => ('\u{c}', 1),
        b'u' => {
            let first = unit(1)?;
            let second = if rest.get(5..7) == Some("\\u") { unit(7) } else { None };
            match (char::from_u32(u32::from(first)), second) {
                (Some(c), _) => (c, 5),
                (None, second) => (char::decode_utf16([first, second?]).next()?.ok()?, 11),
            }
        }
        other => (char::from(*other), 1),
    };
    text.push(c);
    rest.get(used..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Said {
        #[serde(default, deserialize_with = "text")]
        text: Option<String>,
    }

    fn read(json: &str) -> Option<Option<String>> {
        serde_json::from_str::<Said>(json).ok().map(|said| said.text)
    }

    #[test]
    fn a_text_may_be_missing_and_is_nothing_else() {
        assert_eq!(read(r#"{"text":null}"#), Some(None));
        assert_eq!(read("{}"), Some(None));
        assert_eq!(read(r#"{"text":1}"#), None);
        assert_eq!(read(r#"{"text":["a"]}"#), None);
    }

    #[test]
    fn a_list_is_no_longer_than_it_may_be() {
        let few = |count: usize| serde_json::from_str::<Few<u64>>(&format!("[{}0]", "0,".repeat(count - 1)));
        assert_eq!(few(4096).unwrap().iter().count(), 4096);
        assert!(few(4097).is_err());
    }

    #[test]
    fn what_is_too_much_at_once_is_a_failure() {
        let mut events = Events::of_one();
        events.extend(std::iter::repeat_n(Event::Close, 10_000));
        assert!(matches!(events.list.back(), Some(Event::Fail(_))));
        assert_eq!(events.list.len(), MOST_AT_ONCE + 1);
        assert!(
            events.list.capacity() * size_of::<Event>() < 100 << 10,
            "{}",
            size_of::<Event>()
        );
    }

    proptest! {
        #[test]
        fn a_text_is_what_everybody_else_reads(
            words in prop::collection::vec(prop_oneof![
                Just("\\u00e9"), Just("\\ud83d\\ude00"), Just("\\ud83d"), Just("\\ude00"), Just("\\n"), Just("\\\""), Just("\\\\"),
                Just("\\/"), Just("\\b\\f\\r\\t"), Just("é"), Just("a b"), Just("\\u00"), Just("\\x"), Just("\\u+0ff"),
            ], 0..8),
        ) {
            let json = format!(r#"{{"text":"{}"}}"#, words.concat());
            let wanted: Option<String> = serde_json::from_str::<serde_json::Value>(&json).ok().and_then(|value| {
                Some(value.get("text")?.as_str()?.to_owned())
            });
            prop_assert_eq!(read(&json).flatten(), wanted);
        }
    }
}
