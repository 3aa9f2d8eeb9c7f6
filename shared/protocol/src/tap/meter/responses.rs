//! Events of the Responses wire.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{Meter, Verdict};
use crate::scan::{Field, Root, Scan};
use crate::tap::observed::Ending;

static CALL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("_call\""));
static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"delta\":"));

impl Meter {
    pub(super) fn responses_event(&mut self, data: &[u8]) -> Verdict {
        let kind = kind(data);
        if kind.ends_with(b".delta") {
            if !self.is_blind && !is_sound(&kind) {
                let text = delta(data);
                self.observed.produced += text.len();
                self.sample.add(text);
            }
            return Verdict::Keep;
        }
        if let Some(ending) = ending(&kind) {
            return self.responses_end(ending, data);
        }
        match &kind[..] {
            _ if self.is_blind => {}
            b"error" => {
                let mut scan = Scan::new(Root::Event);
                scan.push(data);
                self.stream_error(&scan);
            }
            b"response.output_item.done" => {
                if CALL.find(data).is_some() {
                    let mut scan = Scan::new(Root::Event);
                    scan.push(data);
                    self.observed.tools.add(scan.tools());
                }
                self.look_for_hidden(data, &[b"\"encrypted_content\""]);
            }
            kind if self.observed.response_id.is_none() && begins(kind) => {
                if let Some(id) = Scan::first(Root::Event, Field::Id, data) {
                    self.response_id(&id);
                }
            }
            _ => {}
        }
        Verdict::Keep
    }

    fn responses_end(&mut self, ending: Ending, data: &[u8]) -> Verdict {
        if !self.is_blind {
            let mut scan = Scan::new(Root::Event);
            scan.push(data);
            self.answer(&scan);
        }
        self.observed.ending = Some(ending);
        Verdict::Terminal
    }

    /// An event too large to be held, read to its end.
    pub(super) fn responses_found(&mut self, scan: &Scan) -> Verdict {
        let kind = scan.found_text(Field::Type).unwrap_or_default();
        if kind.ends_with(".delta") {
            self.observed.produced += if is_sound(kind.as_bytes()) { 0 } else { scan.text() };
            return Verdict::Keep;
        }
        let ending = ending(kind.as_bytes());
        if ending.is_some() {
            self.answer(scan);
        } else if kind == "response.output_item.done" {
            self.observed.tools.add(scan.tools());
        } else if kind == "error" {
            self.stream_error(scan);
        } else if let (true, Some(id)) = (begins(kind.as_bytes()), scan.found(Field::Id)) {
            self.response_id(id);
        }
        self.observed.ending = ending;
        ending.map_or(Verdict::Keep, |_| Verdict::Terminal)
    }

    /// `{"type":"error","code":…}` or `{"type":"error","error":{"code":…}}`.
    fn stream_error(&mut self, scan: &Scan) {
        if let Some(raw) = scan.found(Field::Error).or(scan.found(Field::Code)) {
            self.error(raw);
        }
        if self.observed.error_code.is_none() {
            self.observed.error_code = Some("error".to_owned());
        }
    }

    /// On a socket `{"type":"error","status":N,…}` ends the response.
    pub(super) fn socket_error(&mut self, json: &[u8]) -> bool {
        let is_end = self.observed.ending.is_none() && *kind(json) == *b"error";
        if is_end {
            self.observed.ending = Some(Ending::Failed);
        }
        is_end
    }
}

/// A delta of base64 sound, whose bytes say nothing of its tokens; the transcript that goes with it counts.
fn is_sound(kind: &[u8]) -> bool {
    kind.ends_with(b"audio.delta")
}

/// Events that carry the answer's id before there is anything in it.
fn begins(kind: &[u8]) -> bool {
    matches!(kind, b"response.created" | b"response.in_progress" | b"response.queued")
}

fn ending(kind: &[u8]) -> Option<Ending> {
    match kind {
        b"response.completed" => Some(Ending::Completed),
        b"response.incomplete" => Some(Ending::Incomplete),
        b"response.failed" => Some(Ending::Failed),
        _ => None,
    }
}

/// The value of the outermost `type`. It comes first in all that OpenAI sends, so that mostly nothing is searched.
pub(super) fn kind(data: &[u8]) -> Cow<'_, [u8]> {
    if let Some(rest) = data.strip_prefix(b"{\"type\":\"")
        && let Some(end) = memchr::memchr2(b'"', b'\\', &rest[..rest.len().min(128)])
        && rest[end] == b'"'
    {
        return Cow::Borrowed(&rest[..end]);
    }
    let raw = Scan::first(Root::Event, Field::Type, data).unwrap_or_default();
    Cow::Owned(serde_json::from_slice::<String>(&raw).unwrap_or_default().into_bytes())
}

/// The string that stands under `delta`. Within strings quotes are escaped, so the first hit is a key.
fn delta(data: &[u8]) -> &[u8] {
    let Some(at) = DELTA.find(data) else { return &[] };
    let value = data[at + 8..].trim_ascii_start();
    match value.strip_prefix(b"\"") {
        Some(text) => &text[..super::string_len(text)],
        None => &[],
    }
}
