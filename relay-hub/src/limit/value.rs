//! The limits by name, and how their values are written. The same text stands on the command line and in the store.

use std::fmt::Display;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use relay_protocol::Tokens;

use super::{Country, Network, Rule, Scope};
use crate::{config::parse_size, money::Nanos};

/// What is wrong with a value, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In one sentence.
    pub problem: String,
    /// What to write instead.
    pub hint: &'static str,
}

/// One kind of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Calls a minute.
    RequestsPerMinute,
    /// Tokens a minute.
    TokensPerMinute,
    /// Calls at once.
    ConcurrentCalls,
    /// Money a day.
    DailySpend,
    /// Money a month.
    MonthlySpend,
    /// Output tokens of one call.
    MaxOutput,
    /// Size of a request.
    BodyBytes,
    /// The only models.
    AllowedModels,
    /// Models not to be used.
    BlockedModels,
    /// The only clients' addresses.
    AllowedAddresses,
    /// The only countries of clients.
    AllowedCountries,
    /// Countries that clients may not call from.
    BlockedCountries,
    /// The end of it all.
    Expires,
}

impl Limit {
    /// Every kind, in the order of tables.
    pub const ALL: [Self; 13] = [
        Self::RequestsPerMinute,
        Self::TokensPerMinute,
        Self::ConcurrentCalls,
        Self::DailySpend,
        Self::MonthlySpend,
        Self::MaxOutput,
        Self::BodyBytes,
        Self::AllowedModels,
        Self::BlockedModels,
        Self::AllowedAddresses,
        Self::AllowedCountries,
        Self::BlockedCountries,
        Self::Expires,
    ];

    /// Its name in the store, in JSON and, with `-` for `_`, on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::ConcurrentCalls => "concurrent_calls",
            Self::DailySpend => "daily_spend",
            Self::MonthlySpend => "monthly_spend",
            Self::MaxOutput => "max_output",
            Self::BodyBytes => "body_bytes",
            Self::AllowedModels => "allowed_models",
            Self::BlockedModels => "blocked_models",
            Self::AllowedAddresses => "allowed_addresses",
            Self::AllowedCountries => "allowed_countries",
            Self::BlockedCountries => "blocked_countries",
            Self::Expires => "expires",
        }
    }

    /// The kind of that name, in either spelling.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.replace('-', "_");
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// Whether it means something there.
    ///
    /// # Errors
    /// Why not, and where it does.
    pub fn fits(self, scope: &Scope) -> Result<(), Fault> {
        let (fits, hint) = match self {
            Self::AllowedModels
            | Self::BlockedModels
            | Self::AllowedAddresses
            | Self::AllowedCountries
            | Self::BlockedCountries => (
                !scope.is_of_model(),
                "set it for everybody, a tenant, a key, a device or an endpoint",
            ),
            Self::Expires => (scope.is_of_caller(), "set it for a tenant, a key or a device"),
            Self::RequestsPerMinute
            | Self::TokensPerMinute
            | Self::ConcurrentCalls
            | Self::DailySpend
            | Self::MonthlySpend
            | Self::MaxOutput
            | Self::BodyBytes => (true, ""),
        };
        let problem = || format!("does not fit the scope {scope}");
        if fits {
            Ok(())
        } else {
            Err(Fault {
                problem: problem(),
                hint,
            })
        }
    }
}

/// A model's name, or the beginning of several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelName(String);

impl ModelName {
    /// Whether it names this model.
    pub fn covers(&self, model: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => self.0 == model,
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name, or how names begin followed by `*`; `None` where it can be no name.
    pub fn parse(text: &str) -> Option<Self> {
        let is_good = match text.strip_suffix('*') {
            Some(beginning) => is_model(beginning, 0),
            None => is_model(text, 1),
        };
        is_good.then(|| Self(text.to_owned()))
    }
}

/// Whether a text can be a model's name, of at least so many bytes.
pub(crate) fn is_model(name: &str, least: usize) -> bool {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || c == '*' || c == ',';
    (least..=LONGEST_MODEL).contains(&name.len()) && !name.contains(is_odd)
}

impl Rule {
    /// Reads one limit from its text.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn put(&mut self, limit: Limit, text: &str) -> Result<(), Fault> {
        limit.fits(&self.scope)?;
        let text = text.trim();
        match limit {
            Limit::RequestsPerMinute => self.requests_per_minute = Some(count(text, MOST_REQUESTS)?),
            Limit::TokensPerMinute => self.tokens_per_minute = Some(count(text, MOST_TOKENS)?),
            Limit::ConcurrentCalls => self.concurrent_calls = Some(size(count(text, MOST_CALLS)?)),
            Limit::DailySpend => self.daily_spend = Some(amount(text)?),
            Limit::MonthlySpend => self.monthly_spend = Some(amount(text)?),
            Limit::MaxOutput => self.max_output = Some(Tokens::new(count(text, MOST_TOKENS)?)),
            Limit::BodyBytes => self.body_bytes = Some(bytes(text)?),
            Limit::AllowedModels => self.allowed_models = Some(each(text, MODELS, ModelName::parse)?),
            Limit::BlockedModels => self.blocked_models = Some(each(text, MODELS, ModelName::parse)?),
            Limit::AllowedAddresses => self.allowed_addresses = Some(each(text, ADDRESSES, Network::parse)?),
            Limit::AllowedCountries => self.allowed_countries = Some(each(text, COUNTRIES, Country::parse)?),
            Limit::BlockedCountries => self.blocked_countries = Some(each(text, COUNTRIES, Country::parse)?),
            Limit::Expires => self.expires_ms = Some(moment(text)?),
        }
        Ok(())
    }

    /// One limit as its text; nothing where there is none.
    pub fn text(&self, limit: Limit) -> Option<String> {
        match limit {
            Limit::RequestsPerMinute => shown(self.requests_per_minute),
            Limit::TokensPerMinute => shown(self.tokens_per_minute),
            Limit::ConcurrentCalls => shown(self.concurrent_calls),
            Limit::DailySpend => shown(self.daily_spend),
            Limit::MonthlySpend => shown(self.monthly_spend),
            Limit::MaxOutput => shown(self.max_output),
            Limit::BodyBytes => shown(self.body_bytes),
            Limit::AllowedModels => self
                .allowed_models
                .as_ref()
                .map(|list| joined(list, |name| name.0.clone())),
            Limit::BlockedModels => self
                .blocked_models
                .as_ref()
                .map(|list| joined(list, |name| name.0.clone())),
            Limit::AllowedAddresses => self
                .allowed_addresses
                .as_ref()
                .map(|list| joined(list, Network::to_string)),
            Limit::AllowedCountries => self
                .allowed_countries
                .as_ref()
                .map(|list| joined(list, Country::to_string)),
            Limit::BlockedCountries => self
                .blocked_countries
                .as_ref()
                .map(|list| joined(list, Country::to_string)),
            Limit::Expires => self
                .expires_ms
                .map(|ms| Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |moment| moment.to_string())),
        }
    }
}

fn shown<T: Display>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn joined<T>(list: &[T], text: fn(&T) -> String) -> String {
    list.iter().map(text).collect::<Vec<_>>().join(",")
}

fn fault(text: &str, hint: &'static str) -> Fault {
    let told: String = text.chars().filter(|c| !c.is_control()).take(LONGEST_TOLD).collect();
    Fault {
        problem: format!("`{told}` cannot be used"),
        hint,
    }
}

fn count(text: &str, most: u64) -> Result<u64, Fault> {
    let read = text.parse().ok().filter(|count| (1..=most).contains(count));
    read.ok_or_else(|| fault(text, "write a whole number of at least 1 and at most a billion"))
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn amount(text: &str) -> Result<Nanos, Fault> {
    let read = text.parse().ok().filter(|amount: &Nanos| !amount.is_zero());
    read.ok_or_else(|| fault(text, "write an amount above zero such as 10 or 10.50"))
}

fn bytes(text: &str) -> Result<usize, Fault> {
    let read = parse_size(text).filter(|bytes| *bytes > 0);
    read.ok_or_else(|| fault(text, "write a size in bytes as 1048576, or \"64KiB\", \"1MiB\""))
}

fn each<T>(text: &str, hint: &'static str, read: fn(&str) -> Option<T>) -> Result<Vec<T>, Fault> {
    let words = text.split(',').map(str::trim);
    let read = |word: &str| read(word).ok_or_else(|| fault(word, hint));
    words.map(read).collect()
}

/// Milliseconds since 1970. A day begins at midnight, UTC.
///
/// # Errors
/// It is neither a day nor a moment.
pub fn moment(text: &str) -> Result<i64, Fault> {
    let at_midnight = || {
        let day: Date = text.parse().ok()?;
        day.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    };
    let read = text.parse::<Timestamp>().ok().or_else(at_midnight);
    read.map(Timestamp::as_millisecond)
        .ok_or_else(|| fault(text, "write a day as 2030-12-31, or a moment as 2030-12-31T18:00:00Z"))
}

const MODELS: &str = "write names with commas between them; one that ends with * stands for all that begin so";
const ADDRESSES: &str = "write networks as 10.0.0.0/8 or 2001:db8::/32, or addresses, with commas between them";
const COUNTRIES: &str = "write countries by their two letters with commas between them, as DE,FR";
const MOST_REQUESTS: u64 = 1_000_000_000;
const MOST_TOKENS: u64 = 1_000_000_000;
const MOST_CALLS: u64 = 1_000_000;
const LONGEST_MODEL: usize = 256;
const LONGEST_TOLD: usize = 80;
