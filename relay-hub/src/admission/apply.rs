//! What rules ask of one call: its scopes, and the charges, gates and budgets of the rules among them. Decides nothing.

use std::sync::Arc;

use relay_protocol::{Endpoint, Envelope, Tokens};

use super::{
    counters::{Charge, Unit},
    refusals,
    slots::Gate,
    spend::{Budget, Span},
};
use crate::{
    catalogue::Model,
    identity::{By, Caller},
    ids::TenantId,
    limit::{Rule, Scope},
    money::Nanos,
    refusal::Refused,
};

pub(super) fn scopes(caller: &Caller, endpoint: Endpoint) -> impl Iterator<Item = Scope> {
    let by = match &caller.by {
        By::Key(id) => Some(Scope::Key(id.clone())),
        By::Device(id) => Some(Scope::Device(id.clone())),
        // There are as many as anybody likes: none is counted.
        By::Token(_) => None,
    };
    let tenant = Scope::Tenant(caller.tenant_id().clone());
    [Some(Scope::Global), Some(tenant), by, Some(Scope::Endpoint(endpoint))]
        .into_iter()
        .flatten()
}

/// The parts of its tenant's calls that a call is one of.
pub(super) fn parts(caller: &Caller) -> impl Iterator<Item = Scope> {
    let tenant = caller.tenant_id();
    let project = caller.project.as_ref();
    let plan = caller.granted.as_ref().and_then(|granted| granted.plan.as_ref());
    let project = project.map(|project| Scope::Project(tenant.clone(), project.clone()));
    let plan = plan.map(|plan| Scope::Plan(tenant.clone(), plan.clone()));
    project.into_iter().chain(plan)
}

/// Under both its names: an alias gets around no limit of the model that it stands for.
pub(super) fn scopes_of_model(tenant: &TenantId, model: &Model) -> Vec<Scope> {
    let mut names = vec![&model.name];
    if model.upstream != model.name {
        names.push(&model.upstream);
    }
    let scopes = |name: &String| {
        [
            Scope::Model(name.clone()),
            Scope::TenantModel(tenant.clone(), name.clone()),
        ]
    };
    names.into_iter().flat_map(scopes).collect()
}

pub(super) fn charges(rules: &[Arc<Rule>], unit: Unit, cost: impl Fn(u64) -> u64) -> Vec<Charge> {
    let limit = |rule: &Rule| match unit {
        Unit::Requests => rule.requests_per_minute,
        Unit::Tokens => rule.tokens_per_minute,
    };
    let charge = |rule: &Arc<Rule>| {
        let per_minute = limit(rule)?;
        Some(Charge {
            scope: rule.scope.clone(),
            unit,
            per_minute,
            cost: cost(per_minute),
        })
    };
    rules.iter().filter_map(charge).collect()
}

pub(super) fn gates(rules: &[Arc<Rule>]) -> Vec<Gate<Scope>> {
    let gate = |rule: &Arc<Rule>| Some((rule.scope.clone(), rule.concurrent_calls?));
    rules.iter().filter_map(gate).collect()
}

pub(super) fn budgets(rules: &[Arc<Rule>]) -> Vec<Budget> {
    let budget = |rule: &Rule, span, most: Option<Nanos>| {
        let scope = rule.scope.clone();
        most.map(|most| Budget { scope, span, most })
    };
    let both = |rule: &Arc<Rule>| {
        [
            budget(rule, Span::Day, rule.daily_spend),
            budget(rule, Span::Month, rule.monthly_spend),
        ]
    };
    rules.iter().flat_map(both).flatten().collect()
}

/// Checks what the envelope asks for. The most output that one answer may have, where a rule says so.
pub(super) fn check_envelope(rules: &[Arc<Rule>], envelope: &Envelope) -> Result<Option<Tokens>, Refused> {
    let answers = u64::from(envelope.n.max(1));
    let mut least = None;
    for rule in rules {
        if let Some(most) = rule.body_bytes.filter(|most| envelope.bytes > *most) {
            return Err(refusals::body(most));
        }
        let Some(most) = rule.max_output else { continue };
        let asked = envelope.max_output.map(|asked| asked.saturating_mul(answers));
        if let Some(asked) = asked.filter(|asked| *asked > most) {
            return Err(refusals::output(rule, envelope.endpoint, asked, most));
        }
        let each = Tokens::new(most.get().div_ceil(answers));
        least = Some(least.map_or(each, |least: Tokens| least.min(each)));
    }
    Ok(least)
}
