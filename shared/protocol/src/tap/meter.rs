//! Reads the events of an answer, no more of each than is needed. Knows nothing of how they were cut out.

mod chat;
mod converse;
mod gemini;
mod messages;
mod responses;

use self::messages::Told;
use super::observed::{Ending, Observed};
use crate::hidden::{self, Hidden};
use crate::lane::VendorWire;
use crate::sample::Sample;
use crate::scan::{Field, Root, Scan};
use crate::usage::Usage;

/// What an answer says about itself, read one event or message after another.
///
/// A [`super::Tap`] has one; for a WebSocket the caller has one for each response.
pub struct Meter {
    wire: VendorWire,
    observed: Observed,
    sample: Sample,
    remove_usage_chunk: bool,
    /// Looks for the terminal event only.
    is_blind: bool,
    /// Chat: a choice was finished.
    has_finished: bool,
    /// Chat: an error was among the chunks.
    has_failed: bool,
    /// Messages and Converse: what was told of usage and of the end. Boxed: of other wires there is none.
    told: Option<Box<Told>>,
    /// What the vendor hid in it, where that is looked for.
    hidden: Option<Vec<Hidden>>,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Terminal,
    Remove,
    /// May be the last: kept until another comes or the body ends.
    Hold,
}

impl Meter {
    /// A meter for one answer.
    #[must_use]
    pub fn new(wire: impl Into<VendorWire>) -> Self {
        Self {
            wire: wire.into(),
            observed: Observed::default(),
            sample: Sample::default(),
            remove_usage_chunk: false,
            is_blind: false,
            has_finished: false,
            has_failed: false,
            told: None,
            hidden: None,
        }
    }

    pub(super) fn wire(&self) -> VendorWire {
        self.wire
    }

    /// Keeps the beginning of what the model writes, so that its tokens can be counted.
    #[must_use]
    pub fn sampling(mut self, most: usize) -> Self {
        self.sample = Sample::up_to(most);
        self
    }

    /// What was kept of it.
    pub fn take_sample(&mut self) -> Sample {
        std::mem::take(&mut self.sample)
    }

    /// Looks for what the vendor hides: reasoning under its lock, signatures of thoughts.
    #[must_use]
    pub fn finding_hidden(mut self, is_wanted: bool) -> Self {
        self.hidden = is_wanted.then(Vec::new);
        self
    }

    /// What was found of it, the last ones.
    pub fn take_hidden(&mut self) -> Vec<Hidden> {
        self.hidden.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn removing_usage(mut self, remove: bool) -> Self {
        self.remove_usage_chunk = remove;
        self
    }

    pub(super) fn blind(mut self) -> Self {
        self.is_blind = true;
        self
    }

    /// Reads a WebSocket text message of the vendor. True when it ends the answer: a terminal event, or an `error`,
    /// which ends a response on a socket though not in a stream.
    pub fn message(&mut self, json: &[u8]) -> bool {
        self.event(json) == Verdict::Terminal || self.socket_error(json)
    }

    /// What was seen so far.
    #[must_use]
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Reads the data of one event.
    pub(super) fn event(&mut self, data: &[u8]) -> Verdict {
        self.observed.events += 1;
        if self.has_ended() {
            return Verdict::Keep;
        }
        match self.wire {
            VendorWire::Responses => self.responses_event(data),
            VendorWire::Chat => self.chat_event(data),
            VendorWire::Messages => self.messages_event(data),
            VendorWire::Gemini => self.gemini_event(data),
            VendorWire::Converse => self.converse_event(data),
        }
    }

    /// A scan fit for an event of this wire that is too large to be held.
    pub(super) fn scan(&self) -> Scan {
        let mut scan = Scan::new(match self.wire {
            VendorWire::Responses => Root::Event,
            VendorWire::Messages => Root::Message,
            VendorWire::Chat | VendorWire::Gemini | VendorWire::Converse => Root::Bare,
        });
        if self.hidden.is_some() {
            scan.find_hidden();
        }
        scan
    }

    /// Keeps what a scan found of what the vendor hides.
    fn keep_hidden(&mut self, scan: &Scan) {
        if let Some(kept) = &mut self.hidden {
            kept.extend_from_slice(scan.hidden());
            let over = kept.len().saturating_sub(hidden::MOST);
            kept.drain(..over);
        }
    }

    /// Looks for it in an event that is not scanned otherwise.
    fn look_for_hidden(&mut self, data: &[u8], needles: &[&[u8]]) {
        if self.hidden.is_some()
            && needles
                .iter()
                .any(|needle| memchr::memmem::find(data, needle).is_some())
        {
            let mut scan = self.scan();
            scan.push(data);
            self.keep_hidden(&scan);
        }
    }

    /// Nothing that follows is read. More may follow what looks like the end of Gemini's.
    fn has_ended(&self) -> bool {
        self.observed.ending.is_some() && self.wire != VendorWire::Gemini
    }

    /// Reads what was found in a large event.
    pub(super) fn large_event(&mut self, scan: &Scan) -> Verdict {
        self.observed.events += 1;
        if self.has_ended() {
            return Verdict::Keep;
        }
        self.keep_hidden(scan);
        match self.wire {
            VendorWire::Responses => self.responses_found(scan),
            VendorWire::Chat => {
                self.chat_found(scan);
                Verdict::Keep
            }
            VendorWire::Messages => self.messages_found(scan),
            VendorWire::Gemini => self.gemini_found(scan),
            // One so large is no delta, and what it used is told in a small one.
            VendorWire::Converse => Verdict::Keep,
        }
    }

    /// Reads a document that is the answer, as far as it came: its client may take all but its end.
    pub(super) fn part(&mut self, scan: &Scan) {
        self.observed.produced = scan.text();
    }

    /// Reads a document that is the whole answer.
    pub(super) fn whole(&mut self, scan: &Scan) {
        self.keep_hidden(scan);
        match self.wire {
            VendorWire::Responses | VendorWire::Chat => {}
            VendorWire::Messages => return self.messages_whole(scan),
            VendorWire::Gemini => return self.gemini_whole(scan),
            VendorWire::Converse => return self.converse_whole(scan),
        }
        self.answer(scan);
        self.observed.produced = scan.text();
        self.observed.tools = scan.tools();
        if !scan.is_closed() {
            return;
        }
        let failed = scan.found(Field::Error).is_some_and(|error| error != b"null");
        self.observed.ending = match scan.found_text(Field::Status).as_deref() {
            _ if failed => Some(Ending::Failed),
            None | Some("completed") => Some(Ending::Completed),
            Some("incomplete") => Some(Ending::Incomplete),
            Some("failed" | "cancelled") => Some(Ending::Failed),
            // `queued` and `in_progress` are answers that are still to come.
            Some(_) => None,
        };
    }

    /// All of a chat answer came but its last word.
    pub(super) const fn has_finished(&self) -> bool {
        matches!(self.wire, VendorWire::Chat) && (self.has_finished || self.has_failed)
    }

    /// The stream ended cleanly.
    pub(super) fn end(&mut self) {
        if self.observed.ending.is_none() && self.has_finished() {
            self.observed.ending = Some(self.chat_ending());
        }
    }

    /// Takes over what an answer object says of itself.
    fn answer(&mut self, scan: &Scan) {
        if self.is_blind {
            return;
        }
        if let Some(usage) = scan.found(Field::Usage).filter(|raw| *raw != b"null") {
            self.observed.usage = self.wire.of_clients().and_then(|wire| Usage::read(wire, usage));
            self.observed.is_unsound = self.observed.usage.is_none();
        }
        if let Some(id) = scan.found(Field::Id) {
            self.response_id(id);
        }
        if let Some(tier) = scan.found_text(Field::Tier) {
            self.observed.service_tier = label(&tier);
        }
        if let Some(error) = scan.found(Field::Error) {
            self.error(error);
        }
    }

    fn response_id(&mut self, raw: &[u8]) {
        if let Some(id) = serde_json::from_slice::<String>(raw).ok().as_deref().and_then(label) {
            self.observed.response_id = Some(id);
        }
    }

    /// Reads an error object, or a bare code.
    fn error(&mut self, raw: &[u8]) {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Said {
            Object { code: Option<Code>, r#type: Option<String> },
            Code(Code),
        }
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Code {
            Name(String),
            Number(i64),
        }
        let code = match serde_json::from_slice::<Option<Said>>(raw) {
            Ok(None) => return,
            Ok(Some(Said::Code(code) | Said::Object { code: Some(code), .. })) => match code {
                Code::Name(name) => label(&name),
                Code::Number(number) => Some(number.to_string()),
            },
            Ok(Some(Said::Object { code: None, r#type })) => r#type.as_deref().and_then(label),
            Err(_) => None,
        };
        self.observed.error_code = code
            .or_else(|| self.observed.error_code.take())
            .or_else(|| Some("error".to_owned()));
    }
}

/// An identifier of a vendor, if it looks like one: these go into logs and rows, where nothing a model wrote may go.
fn label(text: &str) -> Option<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'/');
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(is_plain);
    fits.then(|| text.to_owned())
}

/// The length of a JSON string up to its closing quote, or to the end of `text`.
fn string_len(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(skip) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if text[at + skip] == b'"' {
            return at + skip;
        }
        at += skip + 2;
    }
    text.len()
}
