//! By how much a tenant pays more or less than the list says. Knows no tenant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{AmountError, Nanos};

/// A factor in millionths: `1.25`, `0.8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Times(u32);

/// Why a text is no factor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// It is no decimal.
    #[error(transparent)]
    Amount(#[from] AmountError),
    /// Outside 0 to 1000, or finer than a millionth.
    #[error("`{0}` is no factor: from 0 to 1000, with at most six decimals")]
    Range(Nanos),
}

impl Times {
    /// As the list says.
    pub const ONE: Self = Self(1_000_000);

    /// From millionths, if they are within range.
    pub fn from_millionths(millionths: i64) -> Option<Self> {
        u32::try_from(millionths).ok().filter(|m| *m <= MOST).map(Self)
    }

    /// Millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// A price so many times; `None` where that is no whole number of billionths.
    pub fn exactly(self, price: Nanos) -> Option<Nanos> {
        let product = i128::from(price.get()).checked_mul(i128::from(self.0))?;
        let is_even = product.checked_rem(MILLION)? == 0;
        let whole = i64::try_from(product.checked_div(MILLION)?).ok()?;
        is_even.then(|| Nanos::new(whole))
    }

    /// The one rounding of a charge: so many millionths of a billionth, this many times, half up to a billionth.
    pub(super) fn rounded(self, millionths: i128) -> Nanos {
        let product = millionths.saturating_mul(i128::from(self.0));
        let half_up = product.saturating_add(PER / 2).checked_div_euclid(PER).unwrap_or(0);
        Nanos::new(i64::try_from(half_up).unwrap_or(i64::MAX))
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::ONE
    }
}

impl FromStr for Times {
    type Err = TimesError;

    fn from_str(text: &str) -> Result<Self, TimesError> {
        let amount: Nanos = text.parse()?;
        let millionths = amount.get().checked_div(NANOS_PER_MILLIONTH).unwrap_or(0);
        let is_exact = amount.get().checked_rem(NANOS_PER_MILLIONTH) == Some(0);
        let times = Self::from_millionths(millionths).filter(|_| is_exact);
        times.ok_or(TimesError::Range(amount))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Nanos::new(i64::from(self.0).saturating_mul(NANOS_PER_MILLIONTH)).fmt(f)
    }
}

const MOST: u32 = 1_000_000_000;
const MILLION: i128 = 1_000_000;
const PER: i128 = 1_000_000_000_000;
const NANOS_PER_MILLIONTH: i64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_exact_or_refused() {
        for (text, millionths, shown) in [
            ("1", 1_000_000, "1.00"),
            ("0.85", 850_000, "0.85"),
            ("1000", MOST, "1000.00"),
        ] {
            let times: Times = text.parse().unwrap();
            assert_eq!((times.millionths(), times.to_string()), (millionths, shown.to_owned()));
        }
        for text in ["1000.000001", "0.0000001", "-1", "x", "5000000"] {
            assert!(text.parse::<Times>().is_err(), "{text}");
        }
    }
}
