//! What an operator allows: one rule for each scope, from everybody down to one key. Pure: counts nothing, knows no call.

mod country;
mod network;
mod scope;
mod value;

use std::{collections::HashMap, sync::Arc};

use relay_protocol::Tokens;

use crate::money::Nanos;

pub use country::Country;
pub use network::Network;
pub use scope::Scope;
pub(crate) use value::is_model;
pub use value::{Fault, Limit, ModelName, moment};

/// What is allowed within one scope. Every rule that a call falls under must let it pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whose calls.
    pub scope: Scope,
    /// Calls a minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, input and output together.
    pub tokens_per_minute: Option<u64>,
    /// Calls that run at once.
    pub concurrent_calls: Option<usize>,
    /// What may be charged on one day, UTC.
    pub daily_spend: Option<Nanos>,
    /// What may be charged in one month, UTC.
    pub monthly_spend: Option<Nanos>,
    /// The most output that one call may ask for.
    pub max_output: Option<Tokens>,
    /// The largest request body, as it came and decoded.
    pub body_bytes: Option<usize>,
    /// No other model may be used.
    pub allowed_models: Option<Vec<ModelName>>,
    /// These may not.
    pub blocked_models: Option<Vec<ModelName>>,
    /// Clients must call from one of these.
    pub allowed_addresses: Option<Vec<Network>>,
    /// Clients must call from one of these.
    pub allowed_countries: Option<Vec<Country>>,
    /// Clients must not call from one of these.
    pub blocked_countries: Option<Vec<Country>>,
    /// Milliseconds since 1970 from which on every call is refused.
    pub expires_ms: Option<i64>,
}

impl Rule {
    /// A rule that allows everything.
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            requests_per_minute: None,
            tokens_per_minute: None,
            concurrent_calls: None,
            daily_spend: None,
            monthly_spend: None,
            max_output: None,
            body_bytes: None,
            allowed_models: None,
            blocked_models: None,
            allowed_addresses: None,
            allowed_countries: None,
            blocked_countries: None,
            expires_ms: None,
        }
    }

    /// Whether the model may be used: neither what the client calls it nor what the vendor calls it may be blocked,
    /// and one of both must be among the allowed ones, where those are named.
    pub fn allows_model(&self, name: &str, upstream: &str) -> bool {
        let is_in = |list: &Vec<ModelName>| list.iter().any(|known| known.covers(name) || known.covers(upstream));
        self.allowed_models.as_ref().is_none_or(is_in) && !self.blocked_models.as_ref().is_some_and(is_in)
    }

    /// Whether a client may call from this address.
    pub fn allows_address(&self, address: std::net::IpAddr) -> bool {
        let is_in = |networks: &Vec<Network>| networks.iter().any(|network| network.contains(address));
        self.allowed_addresses.as_ref().is_none_or(is_in)
    }

    /// Whether it matters from which country a client calls.
    pub const fn names_countries(&self) -> bool {
        self.allowed_countries.is_some() || self.blocked_countries.is_some()
    }

    /// Whether a client may call from this country. One that is not known is none of those that are named.
    pub fn allows_country(&self, country: Option<Country>) -> bool {
        let is_in = |list: &Vec<Country>| country.is_some_and(|country| list.contains(&country));
        self.allowed_countries.as_ref().is_none_or(is_in) && !self.blocked_countries.as_ref().is_some_and(is_in)
    }

    /// Whether the time of this scope is over.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|end| now_ms >= end)
    }
}

/// Every rule there is, by scope.
#[derive(Debug, Default)]
pub struct Rules(HashMap<Scope, Arc<Rule>>);

impl Rules {
    /// The rule of this very scope.
    pub fn of(&self, scope: &Scope) -> Option<&Arc<Rule>> {
        self.0.get(scope)
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the time of this scope is over.
    pub fn is_expired(&self, scope: &Scope, now_ms: i64) -> bool {
        self.of(scope).is_some_and(|rule| rule.is_expired(now_ms))
    }
}

impl FromIterator<Rule> for Rules {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Self {
        let pairs = rules.into_iter().map(|rule| (rule.scope.clone(), Arc::new(rule)));
        Self(pairs.collect())
    }
}

#[cfg(test)]
mod tests;
