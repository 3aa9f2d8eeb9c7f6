//! What a caller reads of a limit. The codes are those on which Codex stops at once, or waits as it is told.

use std::{net::IpAddr, time::Duration};

use relay_protocol::{Code, Endpoint, Rate, RateUnit, Refusal, Tokens, Wire};

use super::{
    counters::{Short, Unit},
    slots::{Full, Gate},
    spend::Over,
};
use crate::{
    limit::{Country, Rule, Scope},
    money::Nanos,
    refusal::Refused,
};

/// When the line is full, so many come that a second would be too soon.
const WHEN_FULL: Duration = Duration::from_secs(2);
/// After a wait in line.
const WHEN_LATE: Duration = Duration::from_secs(1);
/// Calls that hold the rest of a budget take a while.
const WHEN_HELD: Duration = Duration::from_secs(5);
const ASK: &str = "ask the operator of the relay";

pub(super) fn draining() -> Refused {
    let message = "The relay is restarting; try again in a moment.";
    Refusal::new(Code::Draining, message)
        .retry_after(Duration::from_secs(1))
        .into()
}

pub(super) fn address(rule: &Rule, address: IpAddr) -> Refused {
    let message = format!("Calls of this {} are not taken from {address}", rule.scope.told());
    Refusal::new(Code::AddressNotAllowed, message).hint(ASK).into()
}

pub(super) fn country(rule: &Rule, country: Option<Country>) -> Refused {
    let whose = rule.scope.told();
    let message = match country {
        Some(country) => format!("Calls of this {whose} are not taken from {country}"),
        None => format!("Calls of this {whose} are not taken from an address whose country is not known"),
    };
    Refusal::new(Code::AddressNotAllowed, message).hint(ASK).into()
}

pub(super) fn body(most: usize) -> Refused {
    let message = format!("The request body is over the limit of {most} bytes.");
    Refusal::new(Code::BodyTooLarge, message).into()
}

/// As of a model that is not offered: nothing tells who may use it.
pub(super) fn model(name: &str) -> Refused {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_SHOWN).collect();
    let message = format!("The model `{shown}` does not exist or you may not use it");
    let hint = "GET /v1/models lists the models that you may use";
    Refusal::new(Code::ModelNotFound, message).hint(hint).into()
}

pub(super) fn output(rule: &Rule, endpoint: Endpoint, asked: Tokens, most: Tokens) -> Refused {
    let field = match endpoint.wire() {
        Wire::Responses => "max_output_tokens",
        Wire::Chat => "max_completion_tokens",
        Wire::Messages => "max_tokens",
        Wire::Gemini => "generationConfig.maxOutputTokens",
    };
    let whose = rule.scope.told();
    let message = format!("`{field}` asks for {asked} tokens, but this {whose} may ask for {most} a call at most");
    Refusal::new(Code::InvalidRequest, message)
        .param(field)
        .hint(format!("ask for at most {most}"))
        .into()
}

pub(super) fn rate(short: &Short) -> Refused {
    let Short {
        charge,
        left,
        wait,
        reset,
    } = short;
    let (unit, what) = match charge.unit {
        Unit::Requests => (RateUnit::Requests, "requests"),
        Unit::Tokens => (RateUnit::Tokens, "tokens"),
    };
    let message = format!(
        "This {} may use {} {what} a minute.",
        charge.scope.told(),
        charge.per_minute
    );
    let rate = Rate {
        unit,
        limit: charge.per_minute,
        remaining: *left,
        reset: *reset,
    };
    Refusal::new(Code::RateLimited, message)
        .retry_after(*wait)
        .rate(rate)
        .into()
}

pub(super) fn over(over: &Over, amount: Nanos) -> Refused {
    let Over {
        budget,
        spent,
        resets_at,
        is_held,
    } = over;
    let (whose, span, most) = (budget.scope.told(), budget.span.told(), budget.most);
    if *is_held {
        let message = format!("Running calls may use up what is left of this {whose}'s {span} limit of {most}.");
        return Refusal::new(Code::RateLimited, message).retry_after(WHEN_HELD).into();
    }
    let message = format!(
        "This call may cost up to {amount}, and of this {whose}'s {span} limit of {most}, {spent} is charged already"
    );
    let hint = "ask the operator of the relay, or lower the maximum of output tokens";
    Refusal::new(Code::UsageLimit, message)
        .resets_at(*resets_at)
        .hint(hint)
        .into()
}

pub(super) fn full(full: Full<Scope>) -> Refused {
    let (gate, wait) = match full {
        Full::Line(gate) => (gate, WHEN_FULL),
        Full::Late(gate) => (gate, WHEN_LATE),
        Full::Closed => return draining(),
    };
    busy(&gate).retry_after(wait).into()
}

fn busy((scope, most): &Gate<Scope>) -> Refusal {
    if *scope == Scope::Global {
        return Refusal::new(
            Code::Overloaded,
            "The relay has as many calls running as it may; try again shortly.",
        );
    }
    let message = format!("This {} has {most} calls running, its limit.", scope.told());
    Refusal::new(Code::RateLimited, message)
}

const LONGEST_SHOWN: usize = 80;
