//! Rows as the arguments of a batch's script: plain values, one after the other. Knows columns; knows no rule of money.

use std::fmt::Write as _;

use relay_protocol::{Tokens, Usage, UsageSource};
use sqlx::{Arguments as _, sqlite::SqliteArguments};

use super::{
    inbox::Facts,
    row::UsageRow,
    rules::{Changes, Head, Transfer},
};
use crate::{ids::AccountId, money::Nanos};

/// The arguments of a script, in the order of its question marks.
#[derive(Default)]
pub(super) struct Values(SqliteArguments);

impl Values {
    pub(super) fn finish(self) -> SqliteArguments {
        self.0
    }

    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        self.maybe_int(Some(value))
    }

    pub(super) fn maybe_int(&mut self, value: Option<i64>) -> &mut Self {
        self.0.add(value).expect("SQLite takes integers");
        self
    }

    /// A count; what does not fit is the largest that does.
    pub(super) fn maybe_count(&mut self, value: Option<u64>) -> &mut Self {
        self.maybe_int(value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)))
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.add(value).expect("SQLite takes bytes");
        self
    }

    /// A text, cut to a length that a table can bear.
    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        let is_plain = value.len() <= LONGEST_TEXT && value.bytes().all(|byte| !byte.is_ascii_control());
        let value = if is_plain {
            value.to_owned()
        } else {
            value.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
        };
        self.0.add(value).expect("SQLite takes text");
        self
    }

    /// A text of ours.
    pub(super) fn owned(&mut self, value: String) -> &mut Self {
        self.0.add(value).expect("SQLite takes text");
        self
    }

    pub(super) fn count(&mut self, value: usize) -> &mut Self {
        self.int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(super) fn maybe_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.nothing(1),
        }
    }

    /// So many arguments that are nothing.
    pub(super) fn nothing(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            self.maybe_int(None);
        }
        self
    }
}

/// A hold in its state.
pub(super) fn hold(values: &mut Values, facts: &Facts, epoch: i64, state: i64) {
    let reserve = &facts.reserve;
    values
        .int(facts.id)
        .bytes(reserve.call.as_bytes())
        .text(reserve.tenant.as_str())
        .text(reserve.by.as_str())
        .text(&reserve.model)
        .int(reserve.amount.get())
        .int(reserve.price_version)
        .int(epoch)
        .int(state)
        .int(facts.at_ms);
}

/// A transfer at its place in the chain.
pub(super) fn transfer(values: &mut Values, row: &Transfer<'_>, at: &Head) {
    values
        .int(at.seq)
        .text(row.kind)
        .maybe_int(row.hold)
        .text(row.debit)
        .text(row.credit)
        .int(row.amount.get())
        .int(row.at_ms)
        .bytes(&at.hash);
}

/// The row of a call.
pub(super) fn usage(values: &mut Values, row: &UsageRow, hold: Option<i64>, charged: Nanos, at_ms: i64) {
    values
        .int(at_ms)
        .bytes(row.call.as_bytes())
        .maybe_int(hold)
        .text(row.tenant.as_str())
        .text(row.by.as_str())
        .maybe_text(row.account.as_ref().map(AccountId::as_str))
        .maybe_text(row.egress.as_deref())
        .text(row.endpoint)
        .text(&row.model)
        .text(&row.upstream_model);
    tokens(values, row.usage.as_ref());
    values
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
        .text(row.link.as_str())
        .int(i64::from(row.streamed));
}

fn tokens(values: &mut Values, usage: Option<&(Usage, UsageSource)>) {
    let Some((usage, source)) = usage else {
        values.nothing(6);
        return;
    };
    for count in [
        usage.input,
        usage.cached,
        usage.cache_write,
        usage.output,
        usage.reasoning,
    ] {
        values.maybe_count(Some(Tokens::get(count)));
    }
    values.text(match source {
        UsageSource::Reported => "reported",
        UsageSource::Estimated => "estimated",
    });
}

/// The row of a call whose hold was dropped without a word.
pub(super) fn abandoned(values: &mut Values, facts: &Facts, at_ms: i64) {
    let reserve = &facts.reserve;
    values
        .int(at_ms)
        .bytes(reserve.call.as_bytes())
        .int(facts.id)
        .text(reserve.tenant.as_str())
        .text(reserve.by.as_str())
        .nothing(2)
        .text("")
        .text(&reserve.model)
        .text("")
        .nothing(6)
        .int(0)
        .int(0)
        .int(reserve.price_version)
        .int(0)
        .text("abandoned")
        .int(facts.at_ms)
        .nothing(5)
        .text("")
        .int(0);
}

/// Pairs of hold and state, for `json_each`.
pub(super) fn states(states: impl Iterator<Item = (i64, i64)>) -> String {
    list(states, |out, (hold, state)| write!(out, "[{hold},{state}]"))
}

/// Account, held, posted, for `json_each`. An account's id needs no escape.
pub(super) fn changes(changes: &Changes) -> String {
    list(changes.iter(), |out, (account, held, posted)| {
        debug_assert!(account.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        write!(out, "[\"{account}\",{held},{posted}]")
    })
}

fn list<T>(items: impl Iterator<Item = T>, one: impl Fn(&mut String, T) -> std::fmt::Result) -> String {
    let mut out = String::from("[");
    for item in items {
        if out.len() > 1 {
            out.push(',');
        }
        one(&mut out, item).expect("a String takes all text");
    }
    out.push(']');
    out
}

const LONGEST_TEXT: usize = 200;
