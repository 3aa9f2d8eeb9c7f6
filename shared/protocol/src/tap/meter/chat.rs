//! Chunks of the chat wire.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{Meter, Verdict, string_len};
use crate::sample::Sample;
use crate::scan::{Field, Root, Scan};
use crate::tap::observed::Ending;

static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"delta\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"finish_reason\""));

impl Meter {
    pub(super) fn chat_event(&mut self, data: &[u8]) -> Verdict {
        if data.trim_ascii() == b"[DONE]" {
            self.observed.ending = Some(self.chat_ending());
            return Verdict::Terminal;
        }
        if self.is_blind {
            return Verdict::Keep;
        }
        let deltas = delta_len(data, &mut self.sample);
        let has_usage = values(&USAGE, 7, data).any(|value| value.starts_with(b"{"));
        let is_plain = deltas.is_some() && !has_usage && self.observed.response_id.is_some();
        self.observed.produced += deltas.unwrap_or(0);
        self.has_finished |=
            values(&FINISH, 15, data).any(|value| value.starts_with(b"\"") && !value.starts_with(b"\"\""));
        if is_plain {
            return Verdict::Keep;
        }
        let mut scan = Scan::new(Root::Bare);
        scan.push(data);
        self.chat_answer(&scan);
        let is_usage_chunk = is_empty_array(scan.found(Field::Choices))
            && scan.found(Field::Usage).is_some_and(|usage| usage.starts_with(b"{"));
        if self.remove_usage_chunk && is_usage_chunk {
            Verdict::Remove
        } else {
            Verdict::Keep
        }
    }

    /// A chunk too large to be held, read to its end.
    pub(super) fn chat_found(&mut self, scan: &Scan) {
        self.observed.produced += scan.text();
        self.has_finished |= scan.finished();
        self.chat_answer(scan);
    }

    fn chat_answer(&mut self, scan: &Scan) {
        self.has_failed |= scan.found(Field::Error).is_some_and(|error| error != b"null");
        self.answer(scan);
    }

    pub(super) fn chat_ending(&self) -> Ending {
        if self.has_failed {
            Ending::Failed
        } else {
            Ending::Completed
        }
    }
}

fn is_empty_array(raw: Option<&[u8]>) -> bool {
    raw.and_then(|raw| raw.strip_prefix(b"[")?.strip_suffix(b"]"))
        .is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// The text after each place where `key`, of `len` bytes with its quotes, is a key. An occurrence within a string has
/// its quotes escaped, and a string that is a value has no colon after it.
pub(super) fn values<'a>(key: &'a Finder<'static>, len: usize, data: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    key.find_iter(data).filter_map(move |at| {
        let rest = data[at + len..].trim_ascii_start().strip_prefix(b":")?;
        Some(rest.trim_ascii_start())
    })
}

/// The length of all text under every `delta`; `None` when there is no such key.
fn delta_len(data: &[u8], sample: &mut Sample) -> Option<usize> {
    let (mut sum, mut rest) = (None, data);
    while let Some(value) = values(&DELTA, 7, rest).next() {
        let (len, end) = texts_len(value, sample);
        sum = Some(sum.unwrap_or(0) + len);
        // A `delta` within this one is counted with it.
        rest = value.get(end..).unwrap_or_default();
    }
    sum
}

/// The length of the strings in an object that stand under keys other than those which name things, and where it ends.
fn texts_len(object: &[u8], sample: &mut Sample) -> (usize, usize) {
    let (mut sum, mut depth, mut at) = (0, 0_u32, 0);
    let mut counts = false;
    while let Some(&byte) = object.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => break,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let len = string_len(&object[at..]);
                let text = &object[at..at + len];
                at += len + 1;
                let rest = object.get(at..).unwrap_or_default();
                if rest.first() == Some(&b':') || rest.trim_ascii_start().starts_with(b":") {
                    counts = !matches!(text, b"role" | b"id" | b"type");
                } else if counts {
                    sum += len;
                    sample.add(text);
                }
            }
            _ if depth == 0 => break,
            _ => {}
        }
    }
    (sum, at)
}
