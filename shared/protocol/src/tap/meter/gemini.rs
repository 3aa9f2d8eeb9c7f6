//! Chunks of the Gemini wire, and its whole answers, which are one chunk.
//!
//! Nothing says that a chunk is the last: one that ends a candidate may be followed by others, or by one with the usage.

use super::{Meter, Verdict, label};
use crate::scan::{Field, Scan};
use crate::tap::observed::Ending;
use crate::usage::Usage;
use crate::wire::Wire;

impl Meter {
    pub(super) fn gemini_event(&mut self, data: &[u8]) -> Verdict {
        if self.is_blind {
            return Verdict::Keep;
        }
        let mut scan = self.scan();
        scan.push(data);
        self.keep_hidden(&scan);
        self.gemini_found(&scan)
    }

    /// A chunk read to its end.
    pub(super) fn gemini_found(&mut self, scan: &Scan) -> Verdict {
        if self.is_blind {
            return Verdict::Keep;
        }
        self.observed.produced += scan.text();
        self.gemini_answer(scan);
        let ended = ending(scan);
        self.observed.ending = match (self.observed.ending, ended) {
            (Some(Ending::Failed), _) | (_, Some(Ending::Failed)) => Some(Ending::Failed),
            (Some(Ending::Incomplete), _) | (_, Some(Ending::Incomplete)) => Some(Ending::Incomplete),
            (before, now) => before.or(now),
        };
        let says_no_more = self.observed.ending.is_some() && scan.text() == 0;
        if ended.is_some() || says_no_more {
            Verdict::Hold
        } else {
            Verdict::Keep
        }
    }

    /// A document that is the whole answer.
    pub(super) fn gemini_whole(&mut self, scan: &Scan) {
        self.observed.produced = scan.text();
        self.gemini_answer(scan);
        if scan.is_closed() {
            self.observed.ending = Some(ending(scan).unwrap_or(Ending::Completed));
        }
    }

    fn gemini_answer(&mut self, scan: &Scan) {
        if let Some(usage) = scan.found(Field::Usage).filter(|raw| *raw != b"null") {
            self.observed.usage = Usage::read(Wire::Gemini, usage);
            self.observed.is_unsound = self.observed.usage.is_none();
        }
        if let Some(id) = scan.found(Field::Id) {
            self.response_id(id);
        }
        if let Some(error) = scan.found(Field::Error).filter(|error| *error != b"null") {
            self.observed.error_code = Some(error_name(error));
        }
        self.observed.tools.web_search = self.observed.tools.web_search.max(searches(scan));
    }
}

/// Searches of the web. Up to Gemini 2.5 a prompt that was searched for is paid once, later each search.
/// Source: <https://ai.google.dev/gemini-api/docs/google-search> (2026-11).
fn searches(scan: &Scan) -> u32 {
    let version = scan.found_text(Field::Version).unwrap_or_default();
    if version.starts_with("gemini-1") || version.starts_with("gemini-2") {
        scan.searched().min(1)
    } else {
        scan.searched()
    }
}

/// How a chunk says that the answer ended.
fn ending(scan: &Scan) -> Option<Ending> {
    let is_given = |field| scan.found(field).is_some_and(|raw| raw != b"null");
    if is_given(Field::Error) {
        Some(Ending::Failed)
    } else if scan.finished() {
        Some(match scan.reason() {
            b"STOP" => Ending::Completed,
            _ => Ending::Incomplete,
        })
    } else if scan.found(Field::Feedback).is_some_and(is_block) {
        Some(Ending::Incomplete)
    } else {
        None
    }
}

/// A prompt that is not answered.
fn is_block(feedback: &[u8]) -> bool {
    memchr::memmem::find(feedback, b"\"blockReason\"").is_some()
}

/// The name of an error's status, or its number.
fn error_name(raw: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Error {
        code: Option<i64>,
        status: Option<String>,
    }
    let error = serde_json::from_slice::<Error>(raw).ok();
    let name = error.and_then(|error| {
        let name = error.status.as_deref().and_then(label);
        name.or_else(|| error.code.map(|code| code.to_string()))
    });
    name.unwrap_or_else(|| "error".to_owned())
}
