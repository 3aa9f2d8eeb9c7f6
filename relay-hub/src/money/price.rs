//! What a model costs: integer prices per million tokens, one division at the end.

use relay_protocol::{Tokens, Usage};

use super::Nanos;

/// Unit prices of one model in one version of the price list, each per 1,000,000 tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Which version of the price list this is from; every charge names it.
    pub version: i64,
    /// Input that was not cached.
    pub input: Nanos,
    /// Input read from the vendor's cache.
    pub cached: Nanos,
    /// Input written to the vendor's cache.
    pub cache_write: Nanos,
    /// Output, reasoning included.
    pub output: Nanos,
}

const PER: i128 = 1_000_000;

impl Price {
    /// What this usage costs, rounded half up to one billionth; [`Nanos::MAX`] where it is out of range.
    pub fn cost(&self, usage: &Usage) -> Nanos {
        let read = usage.cached.get();
        let written = usage.cache_write.get().min(usage.input.get().saturating_sub(read));
        let plain = usage.input.get().saturating_sub(read).saturating_sub(written);
        rounded(
            [
                (plain, self.input),
                (read, self.cached),
                (written, self.cache_write),
                (usage.output.get(), self.output),
            ]
            .into_iter()
            .fold(0, |sum, (tokens, price)| sum.saturating_add(product(tokens, price))),
        )
    }

    /// The most that a call with at most `input` and `output` tokens can cost.
    pub fn bound(&self, input: Tokens, output: Tokens) -> Nanos {
        let dearest = self.input.max(self.cached).max(self.cache_write);
        rounded(product(input.get(), dearest).saturating_add(product(output.get(), self.output)))
    }
}

/// Both factors are below 2^64, so the product is below 2^127 for any price that is not negative.
fn product(tokens: u64, price: Nanos) -> i128 {
    i128::from(tokens).saturating_mul(i128::from(price.get()))
}

fn rounded(millionths: i128) -> Nanos {
    let half_up = millionths.saturating_add(PER / 2).checked_div_euclid(PER).unwrap_or(0);
    Nanos::new(i64::try_from(half_up).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price() -> Price {
        let unit = |text: &str| text.parse().unwrap();
        Price {
            version: 1,
            input: unit("1.25"),
            cached: unit("0.125"),
            cache_write: unit("1.25"),
            output: unit("10"),
        }
    }

    fn usage(input: u64, cached: u64, output: u64) -> Usage {
        let t = Tokens::new;
        Usage {
            input: t(input),
            cached: t(cached),
            cache_write: t(0),
            output: t(output),
            ..Usage::default()
        }
    }

    #[test]
    fn cached_input_is_part_of_the_input() {
        // 800 × 1.25 + 200 × 0.125 + 100 × 10, per million.
        assert_eq!(price().cost(&usage(1_000, 200, 100)).to_string(), "0.002025");
    }

    #[test]
    fn half_a_billionth_is_rounded_up() {
        let price = Price {
            input: Nanos::new(500_000),
            ..price()
        };
        assert_eq!(price.cost(&usage(1, 0, 0)), Nanos::new(1));
        let price = Price {
            input: Nanos::new(499_999),
            ..price
        };
        assert_eq!(price.cost(&usage(1, 0, 0)), Nanos::ZERO);
    }

    #[test]
    fn what_nobody_can_pay_is_the_maximum() {
        assert_eq!(price().bound(Tokens::new(u64::MAX), Tokens::new(u64::MAX)), Nanos::MAX);
    }

    proptest! {
        #[test]
        fn the_bound_covers_the_cost(input in 0u64..1 << 40, cached in 0u64..1 << 40, output in 0u64..1 << 40) {
            let used = usage(input, cached.min(input), output);
            prop_assert!(price().cost(&used) <= price().bound(used.input, used.output));
        }
    }
}
