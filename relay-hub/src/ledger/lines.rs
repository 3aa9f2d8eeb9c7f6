//! From what the hub knows of a call to the line that the journal gets. Texts from outside are cut here.

use std::borrow::Cow;

use relay_protocol::{Tokens, UsageSource};
use relay_shared::call::CallId;

use super::{
    detail::detail,
    inbox::{Checkpoint, Facts},
    journal::{CallLine, CheckpointLine, ExtendLine, HoldLine, TokenLine},
    row::{Ending, UsageRow},
};
use crate::{ids::AccountId, money::Nanos};

/// The line of a hold that is granted.
pub(super) fn hold(facts: &Facts, epoch: i64) -> HoldLine<'_> {
    let reserve = &facts.reserve;
    HoldLine {
        id: facts.id,
        call: number(reserve.call),
        tenant: reserve.tenant.as_str(),
        caller: reserve.by.as_str(),
        model: cut(&reserve.model),
        amount: facts.first().get(),
        price_version: reserve.price_version,
        epoch,
        at_ms: facts.at_ms,
    }
}

/// The line of a call that ended.
pub(super) fn call(row: &UsageRow, at: i64) -> CallLine<'_> {
    CallLine {
        number: at,
        call: number(row.call),
        tenant: row.tenant.as_str(),
        caller: row.by.as_str(),
        account: row.account.as_ref().map(AccountId::as_str),
        egress: row.egress.as_deref(),
        endpoint: row.endpoint,
        model: cut(&row.model),
        upstream_model: cut(&row.upstream_model),
        tokens: row.usage.as_ref().map(|(usage, source)| TokenLine {
            input: count(usage.input),
            cached: count(usage.cached),
            cache_write: count(usage.cache_write),
            output: count(usage.output),
            reasoning: count(usage.reasoning),
            is_estimated: *source == UsageSource::Estimated,
        }),
        cost: row.cost.get(),
        price_version: row.price_version,
        status: row.status,
        ending: row.ending.name(),
        started_ms: row.started_ms,
        hold_us: row.hold_us.map(whole),
        first_byte_us: row.first_byte_us.map(whole),
        total_us: row.total_us.map(whole),
        vendor_request_id: row.vendor_request_id.as_deref().map(cut),
        response_id: row.response_id.as_deref().map(cut),
        link: row.link.as_str(),
        streamed: row.streamed,
        detail: detail(row).map(Cow::Owned),
        local_address: row.local_address.map(|address| address.to_string().into()),
    }
}

/// The line of a call of which only the hold is known.
pub(super) fn unsettled<'a>(hold: HoldLine<'a>, ending: &Ending) -> CallLine<'a> {
    CallLine {
        number: hold.id,
        call: hold.call,
        tenant: hold.tenant,
        caller: hold.caller,
        account: None,
        egress: None,
        endpoint: "",
        model: hold.model,
        upstream_model: Cow::Borrowed(""),
        tokens: None,
        cost: 0,
        price_version: hold.price_version,
        status: 0,
        ending: ending.name(),
        started_ms: hold.at_ms,
        hold_us: None,
        first_byte_us: None,
        total_us: None,
        vendor_request_id: None,
        response_id: None,
        link: "",
        streamed: false,
        detail: None,
        local_address: None,
    }
}

/// The line of more money for a hold.
pub(super) fn extend(facts: &Facts, amount: Nanos) -> ExtendLine<'_> {
    ExtendLine {
        id: facts.id,
        tenant: facts.reserve.tenant.as_str(),
        amount: amount.get(),
    }
}

/// The line of a checkpoint.
pub(super) fn checkpoint(checkpoint: &Checkpoint) -> CheckpointLine {
    CheckpointLine {
        id: checkpoint.facts.id,
        input: count(checkpoint.input),
        output: count(checkpoint.output),
        cost: checkpoint.cost.get(),
    }
}

fn number(call: CallId) -> u128 {
    u128::from_be_bytes(*call.as_bytes())
}

fn count(tokens: Tokens) -> i64 {
    whole(tokens.get())
}

/// A count; what does not fit is the largest that does.
fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A text from outside, cut to a length that a table can bear.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT && !text.bytes().any(|byte| byte.is_ascii_control()) {
        return Cow::Borrowed(text);
    }
    text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
}

const LONGEST_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_is_cut_and_cleaned() {
        assert_eq!(cut("a\"b\\c\n\u{0}é\u{1F600}"), "a\"b\\cé\u{1F600}");
        assert_eq!(cut(&"é".repeat(1000)).chars().count(), LONGEST_TEXT);
        assert!(matches!(cut("gpt-5"), Cow::Borrowed(_)));
    }
}
