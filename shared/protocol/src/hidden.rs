//! What a vendor hides in its answers and wants to see again: reasoning under its lock, signatures of thoughts. Tells one
//! such text from another by its beginning; reads none and changes none.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::gemini;
use crate::json::string_len;
use crate::lane::VendorWire;
use crate::sample::unescaped;
use crate::turn::Opaque;
use crate::wire::Wire;

/// The beginning of a hidden text, by which it is told from every other: what it is locked with stands there, and that is
/// used once. No `Debug`: a client may have sent anything in its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Box<[u8]>);

impl Hidden {
    /// The bytes to be told apart by.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What a request of a client sends back of it, the last one first, at most so many. Those of other wires are told by
    /// what their vendor wrote.
    #[must_use]
    pub fn sent_back(wire: Wire, body: &[u8], most: usize) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut end = body.len();
        while end > 0 && found.len() < most {
            let start = end.saturating_sub(WINDOW);
            for (at, place) in places(wire, body, start, end) {
                let hidden = place.read(wire, body, at);
                // A call and its result have one id.
                found.extend(hidden.filter(|hidden| found.last() != Some(hidden)));
                if found.len() == most {
                    break;
                }
            }
            end = start;
        }
        found
    }

    /// As a vendor wrote it: JSON text without its quotes, or no less than [`ROOM`] bytes of it.
    pub(crate) fn of_vendor(json: &[u8]) -> Option<Self> {
        Self::beginning(&unescaped(json.get(..ROOM).unwrap_or(json)))
    }

    fn beginning(text: &str) -> Option<Self> {
        // In the id of a call it stands without its padding.
        let text = text.as_bytes().get(..TOLD_BY).unwrap_or(text.as_bytes());
        let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
        let text = text.get(..text.len().saturating_sub(padding))?;
        (!text.is_empty()).then(|| Self(text.into()))
    }
}

/// Whether a key has a hidden text as its value, in the answers of any vendor.
pub(crate) fn is_key(key: &[u8]) -> bool {
    matches!(
        key,
        b"encrypted_content" | b"signature" | b"thoughtSignature" | b"thought_signature" | b"redactedContent"
    )
}

/// The `type` of a thought that is hidden as a whole: under `data`.
pub(crate) const REDACTED: &[u8] = b"redacted_thinking";
/// So much of an answer's JSON text is enough, with each byte escaped.
pub(crate) const ROOM: usize = 6 * TOLD_BY;
/// So many are kept of one answer, the last ones.
pub(crate) const MOST: usize = 32;
const TOLD_BY: usize = 256;
/// A request is searched from its end, so much at a time.
const WINDOW: usize = 64 << 10;
/// The longest id of a call that is looked at.
const LONGEST_ID: usize = 16 << 10;

/// What is looked for on a wire, made once: a request may be as short as that takes.
type Places = LazyLock<Vec<(Place, Finder<'static>)>>;

/// Where a request may have one.
#[derive(Clone, Copy)]
enum Place {
    /// As the value of this key.
    Key(&'static str),
    /// As the data of a thought that is hidden as a whole.
    Redacted,
    /// Within the id of a call.
    Id,
}

impl Place {
    /// Where a request may have them on a wire, each with what finds its needle.
    fn all(wire: Wire) -> &'static [(Self, Finder<'static>)] {
        static RESPONSES: Places = LazyLock::new(|| Place::found(&[Place::Key("\"encrypted_content\""), Place::Id]));
        static CHAT: Places = LazyLock::new(|| Place::found(&[Place::Id]));
        static MESSAGES: Places =
            LazyLock::new(|| Place::found(&[Place::Key("\"signature\""), Place::Redacted, Place::Id]));
        static GEMINI: Places =
            LazyLock::new(|| Place::found(&[Place::Key("\"thoughtSignature\""), Place::Key("\"thought_signature\"")]));
        match wire {
            Wire::Responses => &RESPONSES,
            Wire::Chat => &CHAT,
            Wire::Messages => &MESSAGES,
            Wire::Gemini => &GEMINI,
        }
    }

    fn found(places: &[Self]) -> Vec<(Self, Finder<'static>)> {
        let finder = |place: Self| Finder::new(place.needle());
        places.iter().map(|place| (*place, finder(*place))).collect()
    }

    const fn needle(self) -> &'static str {
        match self {
            Self::Key(key) => key,
            Self::Redacted => "\"redacted_thinking\"",
            Self::Id => Opaque::WITH_CALL,
        }
    }

    /// The text of which the needle stands at `at`.
    fn read(self, wire: Wire, body: &[u8], at: usize) -> Option<Hidden> {
        let (before, rest) = body.split_at_checked(at)?;
        let rest = rest.get(self.needle().len()..)?;
        match self {
            Self::Key(_) => of_client(wire, value(rest)?),
            Self::Redacted => {
                let open = memchr::memrchr(b'{', before)?;
                let object = body.get(open..)?;
                let object = object.get(..memchr::memchr(b'}', object)?)?;
                let data = memchr::memmem::find_iter(object, b"\"data\"").find_map(|at| value(object.get(at + 6..)?));
                of_client(wire, data?)
            }
            Self::Id => {
                let near = before.get(before.len().saturating_sub(LONGEST_ID)..)?;
                let open = memchr::memrchr(b'"', near)? + 1;
                let rest = rest.get(..LONGEST_ID.min(rest.len()))?;
                let end = memchr::memchr(b'"', rest)?;
                let id = [near.get(open..)?, self.needle().as_bytes(), rest.get(..end)?].concat();
                let (_, opaque) = Opaque::off_call(std::str::from_utf8(&id).ok()?);
                Hidden::beginning(&opaque?.data)
            }
        }
    }
}

/// Where hidden texts may stand whose needles begin from `start` on and before `end`, the last one first.
fn places(wire: Wire, body: &[u8], start: usize, end: usize) -> Vec<(usize, Place)> {
    let mut found = Vec::new();
    for (place, finder) in Place::all(wire) {
        let until = body.len().min(end.saturating_add(finder.needle().len() - 1));
        let window = body.get(start..until).unwrap_or_default();
        found.extend(finder.find_iter(window).map(|at| (start + at, *place)));
    }
    found.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
    found
}

/// The JSON text of a string that is the value of the key before `rest`.
fn value(rest: &[u8]) -> Option<&[u8]> {
    let text = rest.trim_ascii_start().strip_prefix(b":")?;
    let text = text.trim_ascii_start().strip_prefix(b"\"")?;
    let mut end = 0;
    loop {
        end += string_len(text.get(end..)?);
        match text.get(end)? {
            b'"' => return text.get(..end),
            _ => end += 2,
        }
    }
}

/// As a client sent it, which may be another wire's.
fn of_client(wire: Wire, json: &[u8]) -> Option<Hidden> {
    let text = unescaped(json.get(..2 * ROOM).unwrap_or(json));
    // Of four letters each, for what stands in them as bytes.
    let text = text.get(..4 * TOLD_BY).unwrap_or(&text);
    let opaque = match wire {
        Wire::Gemini => gemini::of_client(text),
        Wire::Responses | Wire::Chat | Wire::Messages => Opaque::of_client(VendorWire::from(wire), text),
    };
    Hidden::beginning(&opaque.data)
}

#[cfg(test)]
mod tests;
