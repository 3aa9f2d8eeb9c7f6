//! Rows as JSON arrays: what `json_each` reads, so that one statement writes a whole batch.

use std::fmt::Write as _;

use super::{
    inbox::Facts,
    row::UsageRow,
    rules::{Head, Transfer},
};
use crate::money::Nanos;

/// A JSON array of rows, each an array of plain values.
pub(super) struct Rows(String);

impl Rows {
    pub(super) fn new() -> Self {
        Self(String::from("["))
    }

    /// Begins a row.
    pub(super) fn row(&mut self) -> RowText<'_> {
        self.0.push_str(if self.0.len() > 1 { ",[" } else { "[" });
        RowText {
            text: &mut self.0,
            is_first: true,
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push(']');
        self.0
    }
}

/// One row being written; ended by its drop.
pub(super) struct RowText<'a> {
    text: &'a mut String,
    is_first: bool,
}

impl RowText<'_> {
    fn comma(&mut self) {
        if !self.is_first {
            self.text.push(',');
        }
        self.is_first = false;
    }

    pub(super) fn int(mut self, value: i64) -> Self {
        self.comma();
        write!(self.text, "{value}").expect("a String takes all text");
        self
    }

    pub(super) fn maybe_int(mut self, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.int(value),
            None => {
                self.comma();
                self.text.push_str("null");
                self
            }
        }
    }

    /// A count; what does not fit is the largest that does.
    pub(super) fn maybe_count(self, value: Option<u64>) -> Self {
        self.maybe_int(value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)))
    }

    /// A text of ours: an id or a name without anything to escape.
    pub(super) fn plain(mut self, value: &str) -> Self {
        self.comma();
        debug_assert!(value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\'));
        self.text.push('"');
        self.text.push_str(value);
        self.text.push('"');
        self
    }

    /// A text from outside, cut to a length that a table can bear.
    pub(super) fn text(mut self, value: &str) -> Self {
        self.comma();
        self.text.push('"');
        for c in value.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT) {
            if matches!(c, '"' | '\\') {
                self.text.push('\\');
            }
            self.text.push(c);
        }
        self.text.push('"');
        self
    }

    pub(super) fn maybe_text(mut self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(value),
            None => {
                self.comma();
                self.text.push_str("null");
                self
            }
        }
    }

    pub(super) fn hex(mut self, bytes: &[u8]) -> Self {
        self.comma();
        self.text.push('"');
        for byte in bytes {
            write!(self.text, "{byte:02x}").expect("a String takes all text");
        }
        self.text.push('"');
        self
    }
}

impl Drop for RowText<'_> {
    fn drop(&mut self) {
        self.text.push(']');
    }
}

/// A new hold, as [`super::writer::sql::FINISH`] reads it.
pub(super) fn hold(rows: &mut Rows, facts: &Facts, epoch: i64) {
    let by = facts.by.to_string();
    rows.row()
        .int(facts.id)
        .hex(facts.call.as_bytes())
        .plain(facts.tenant.as_str())
        .plain(&by)
        .text(&facts.model)
        .int(facts.amount.get())
        .int(facts.price_version)
        .int(epoch)
        .int(facts.at_ms);
}

/// A transfer at its place in the chain.
pub(super) fn transfer(rows: &mut Rows, row: &Transfer<'_>, at: &Head) {
    rows.row()
        .int(at.seq)
        .plain(row.kind)
        .maybe_int(row.hold)
        .plain(row.debit)
        .plain(row.credit)
        .int(row.amount.get())
        .int(row.at_ms)
        .hex(&at.hash);
}

/// The row of a call.
pub(super) fn usage(rows: &mut Rows, row: &UsageRow, hold: Option<i64>, charged: Nanos, at_ms: i64) {
    let (tokens, source) = row
        .usage
        .map_or((None, None), |(usage, source)| (Some(usage), Some(source)));
    let count = |pick: fn(&relay_protocol::Usage) -> relay_protocol::Tokens| tokens.as_ref().map(|t| pick(t).get());
    let source = source.map(|source| match source {
        relay_protocol::UsageSource::Reported => "reported",
        relay_protocol::UsageSource::Estimated => "estimated",
    });
    rows.row()
        .int(at_ms)
        .hex(row.call.as_bytes())
        .maybe_int(hold)
        .plain(row.tenant.as_str())
        .plain(&row.by.to_string())
        .maybe_text(row.account.as_ref().map(crate::ids::AccountId::as_str))
        .maybe_text(row.egress.as_deref())
        .text(row.endpoint)
        .text(&row.model)
        .text(&row.upstream_model)
        .maybe_count(count(|usage| usage.input))
        .maybe_count(count(|usage| usage.cached))
        .maybe_count(count(|usage| usage.cache_write))
        .maybe_count(count(|usage| usage.output))
        .maybe_count(count(|usage| usage.reasoning))
        .maybe_text(source)
        .int(row.cost.get())
        .int(charged.get())
        .int(row.price_version)
        .int(i64::from(row.status))
        .text(&row.ending.to_string())
        .int(row.started_ms)
        .maybe_count(row.hold_us)
        .maybe_count(row.first_byte_us)
        .maybe_count(row.total_us)
        .maybe_text(row.vendor_request_id.as_deref())
        .maybe_text(row.response_id.as_deref())
        .text(&row.link.to_string())
        .int(i64::from(row.streamed));
}

/// The row of a call whose hold was dropped without a word.
pub(super) fn abandoned(rows: &mut Rows, facts: &Facts, at_ms: i64) {
    let by = facts.by.to_string();
    rows.row()
        .int(at_ms)
        .hex(facts.call.as_bytes())
        .int(facts.id)
        .plain(facts.tenant.as_str())
        .plain(&by)
        .maybe_text(None)
        .maybe_text(None)
        .text("")
        .text(&facts.model)
        .text("")
        .maybe_int(None)
        .maybe_int(None)
        .maybe_int(None)
        .maybe_int(None)
        .maybe_int(None)
        .maybe_text(None)
        .int(0)
        .int(0)
        .int(facts.price_version)
        .int(0)
        .text("abandoned")
        .int(facts.at_ms)
        .maybe_int(None)
        .maybe_int(None)
        .maybe_int(None)
        .maybe_text(None)
        .maybe_text(None)
        .text("")
        .int(0);
}

const LONGEST_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_one_json_string() {
        let mut rows = Rows::new();
        rows.row()
            .int(-1)
            .text("a\"b\\c\n\u{0}é\u{1F600}")
            .maybe_int(None)
            .plain("x");
        rows.row().text(&"y".repeat(1000)).hex(&[0, 255]);
        let read: serde_json::Value = serde_json::from_str(&rows.finish()).unwrap();
        assert_eq!(read[0], serde_json::json!([-1, "a\"b\\cé\u{1F600}", null, "x"]));
        assert_eq!(read[1][0].as_str().unwrap().len(), LONGEST_TEXT);
        assert_eq!(read[1][1], "00ff");
    }
}
