//! What a model costs in one version of the price list, by the size of the call and the tier that served it.

use relay_protocol::{Tokens, Usage};
use serde::{Deserialize, Serialize};

use super::{
    Nanos, Times,
    rates::{Kinds, Rates, Sum, ToolPrices},
};

/// The prices of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Which version of the price list this is from; every charge names one.
    #[serde(default, skip)]
    pub version: i64,
    /// Prices of the default service tier.
    #[serde(flatten)]
    pub standard: Tariff,
    /// Prices of the other service tiers, by the vendor's names for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<Service>,
    /// Prices of the vendor's own tools, whatever the tier.
    #[serde(default)]
    pub tools: ToolPrices,
}

/// The prices of one service tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tariff {
    /// For a call whose input is below every threshold.
    #[serde(flatten)]
    pub base: Rates,
    /// For calls with more input, by rising threshold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub long: Vec<Long>,
}

/// Prices of the whole of a call whose input passes a threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Long {
    /// More input than this.
    pub above: Tokens,
    /// Prices of every token of the call.
    #[serde(flatten)]
    pub rates: Rates,
}

/// A service tier with its prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// As the vendor calls it: `flex`, `priority`.
    pub tier: String,
    /// Its prices.
    #[serde(flatten)]
    pub tariff: Tariff,
}

/// What a call comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// The amount.
    pub amount: Nanos,
    /// Something was used that has no price: it is charged at the dearest known one.
    pub is_unpriced: bool,
    /// The vendor named a tier that has no prices: the dearest known tier is charged.
    pub is_unknown_tier: bool,
}

/// The most that a call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Most {
    /// Input tokens.
    pub input: Tokens,
    /// Output tokens, of all answers together.
    pub output: Tokens,
    /// Calls of the vendor's own tools.
    pub tools: u32,
    /// What may be among the tokens.
    pub kinds: Kinds,
}

impl Price {
    /// Prices of text in one tier.
    pub const fn plain(version: i64, base: Rates) -> Self {
        Self {
            version,
            standard: Tariff { base, long: Vec::new() },
            service: Vec::new(),
            tools: ToolPrices {
                web_search: None,
                file_search: None,
                code_interpreter: None,
                image_generation: None,
            },
        }
    }

    /// What this usage costs when the vendor says that `tier` served, rounded half up to one billionth;
    /// [`Nanos::MAX`] where it is out of range.
    pub fn cost(&self, usage: &Usage, tier: Option<&str>, times: Times) -> Cost {
        let tools = self.tools.sum(&usage.tools);
        let tariff = self.tariff(tier);
        let tokens = match tariff {
            Some(tariff) => tariff.sum(usage),
            None => self.dearest(usage),
        };
        Cost {
            amount: times.rounded(tokens.millionths.saturating_add(tools.millionths)),
            is_unpriced: tokens.is_unpriced || tools.is_unpriced,
            is_unknown_tier: tariff.is_none(),
        }
    }

    /// The most that a call can cost which asks for `tier`: the vendor may serve it in the default tier instead.
    pub fn bound(&self, most: &Most, tier: Option<&str>, times: Times) -> Nanos {
        let chosen = self.tariff(tier).filter(|_| tier != Some(AUTO));
        let tokens = match chosen {
            Some(tariff) => tariff.most(most).max(self.standard.most(most)),
            None => self.tariffs().map(|tariff| tariff.most(most)).fold(0, i128::max),
        };
        times.rounded(tokens.saturating_add(self.tools.most(most.tools)))
    }

    /// The prices of a tier; `None` where it has none.
    pub fn tariff(&self, tier: Option<&str>) -> Option<&Tariff> {
        match tier {
            None | Some("default" | "standard" | AUTO) => Some(&self.standard),
            Some(tier) => {
                let found = self.service.iter().find(|service| service.tier == tier);
                found.map(|service| &service.tariff)
            }
        }
    }

    /// The default tier first.
    fn tariffs(&self) -> impl Iterator<Item = &Tariff> {
        let others = self.service.iter().map(|service| &service.tariff);
        std::iter::once(&self.standard).chain(others)
    }

    fn dearest(&self, usage: &Usage) -> Sum {
        let sums = self.tariffs().map(|tariff| tariff.sum(usage));
        sums.max_by_key(|sum| sum.millionths).unwrap_or_default()
    }
}

impl Tariff {
    /// The prices for a call with so much input.
    pub fn rates(&self, input: Tokens) -> &Rates {
        let reached = self.long.iter().rev().find(|long| input > long.above);
        reached.map_or(&self.base, |long| &long.rates)
    }

    fn sum(&self, usage: &Usage) -> Sum {
        self.rates(usage.input).sum(usage)
    }

    /// A shorter call may be the dearer one: every threshold within reach counts.
    fn most(&self, most: &Most) -> i128 {
        let reached = self.long.iter().filter(|long| most.input > long.above);
        let all = reached.map(|long| &long.rates).chain([&self.base]);
        all.map(|rates| rates.most(most.input, most.output, most.kinds))
            .fold(0, i128::max)
    }
}

/// Lets the vendor choose.
const AUTO: &str = "auto";

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
