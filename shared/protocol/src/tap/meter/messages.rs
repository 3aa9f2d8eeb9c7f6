//! Events of the Messages wire, and its whole answers.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::chat::values;
use super::responses::kind;
use super::{Meter, Verdict, label, string_len};
use crate::scan::{Field, Scan};
use crate::tap::observed::Ending;
use crate::usage::messages::Report;

static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"delta\""));
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"text\""));
static THINKING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"thinking\""));
static INPUT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"partial_json\""));

/// What a stream told so far of its usage and its end.
#[derive(Default)]
pub(super) struct Told {
    report: Report,
    /// A figure was no count.
    is_unsound: bool,
    /// The output is counted to its end.
    is_counted: bool,
    ending: Option<Ending>,
}

impl Told {
    /// How it ends, should nothing else be told.
    pub(super) const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    pub(super) const fn ends(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }
}

impl Meter {
    pub(super) fn messages_event(&mut self, data: &[u8]) -> Verdict {
        match &*kind(data) {
            b"content_block_delta" if !self.is_blind => {
                if let Some(text) = delta(data) {
                    self.observed.produced += text.len();
                    self.sample.add(text);
                } else {
                    self.look_for_hidden(data, &[b"\"signature\""]);
                }
                Verdict::Keep
            }
            b"content_block_start" => {
                self.look_for_hidden(data, &[b"\"signature\"", b"\"redacted_thinking\""]);
                Verdict::Keep
            }
            b"message_start" | b"message_delta" if !self.is_blind => self.scanned(data),
            b"message_stop" | b"error" => self.scanned(data),
            _ => Verdict::Keep,
        }
    }

    fn scanned(&mut self, data: &[u8]) -> Verdict {
        let mut scan = self.scan();
        scan.push(data);
        self.messages_found(&scan)
    }

    /// An event read to its end.
    pub(super) fn messages_found(&mut self, scan: &Scan) -> Verdict {
        match scan.found_text(Field::Type).as_deref() {
            Some("content_block_delta") => self.observed.produced += scan.text(),
            Some("message_start") if !self.is_blind => {
                if let Some(id) = scan.found(Field::Id) {
                    self.response_id(id);
                }
                self.report(scan, false);
            }
            Some("message_delta") if !self.is_blind => self.report(scan, true),
            Some("message_stop") => {
                let told = self.told.take().unwrap_or_default();
                self.observed.ending = Some(told.ending.unwrap_or(Ending::Completed));
                return Verdict::Terminal;
            }
            Some("error") => {
                self.error(scan.found(Field::Error).unwrap_or(b"\"error\""));
                self.observed.ending = Some(Ending::Failed);
                return Verdict::Terminal;
            }
            Some(_) | None => {}
        }
        Verdict::Keep
    }

    /// A document that is the whole answer.
    pub(super) fn messages_whole(&mut self, scan: &Scan) {
        if let Some(id) = scan.found(Field::Id) {
            self.response_id(id);
        }
        self.report(scan, true);
        self.observed.produced = scan.text();
        if !scan.is_closed() {
            return;
        }
        let told = self.told.take().unwrap_or_default();
        self.observed.ending = match scan.found(Field::Error) {
            Some(error) if error != b"null" => {
                self.error(error);
                Some(Ending::Failed)
            }
            Some(_) | None => Some(told.ending.unwrap_or(Ending::Completed)),
        };
    }

    /// Takes over usage and the reason of the end. Only an answer that is counted to its end has a usage: its beginning
    /// tells of the input, and of the first token.
    fn report(&mut self, scan: &Scan, is_counted: bool) {
        let told = self.told.get_or_insert_default();
        if let Some(reason) = scan.found_text(Field::Stop) {
            told.ending = Some(ending(&reason));
        }
        let Some(raw) = scan.found(Field::Usage).filter(|raw| *raw != b"null") else {
            return;
        };
        match Report::read(raw) {
            Some(report) => told.report.update(report),
            None => told.is_unsound = true,
        }
        told.is_counted |= is_counted;
        self.observed.begun = told.report.input().filter(|_| !told.is_unsound);
        self.observed.tools = told.report.tools();
        self.observed.service_tier = told.report.tier().as_deref().and_then(label);
        if told.is_counted {
            self.observed.usage = told.report.usage().filter(|_| !told.is_unsound);
            self.observed.is_unsound = self.observed.usage.is_none();
        }
    }
}

/// Why a message ended. A pause and a call of a tool are whole answers.
fn ending(reason: &str) -> Ending {
    match reason {
        "max_tokens" | "refusal" | "model_context_window_exceeded" => Ending::Incomplete,
        _ => Ending::Completed,
    }
}

/// What a delta says that the model wrote: text, thoughts or the input of a tool. Signatures and citations are not.
fn delta(data: &[u8]) -> Option<&[u8]> {
    let at = DELTA.find(data)?;
    let rest = data.get(at..)?;
    let keys = [(&*TEXT, 6), (&*INPUT, 14), (&*THINKING, 10)];
    let value = keys.into_iter().find_map(|(key, len)| values(key, len, rest).next())?;
    let text = value.strip_prefix(b"\"")?;
    text.get(..string_len(text))
}
