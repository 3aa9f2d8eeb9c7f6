//! Amounts of money as integers. Knows no currency, no account and no float.
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

mod offer;
mod price;
mod rates;
mod times;

use std::{fmt, str::FromStr};

pub use offer::Offer;
pub use price::{Cost, Long, Most, Price, Service, Tariff};
pub use rates::{Kinds, Rates, ToolPrices};
pub use times::{Times, TimesError};

/// An amount in billionths of the hub's currency unit. May be negative where a balance may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(i64);

const UNIT: i64 = 1_000_000_000;
const DECIMALS: usize = 9;

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not digits with at most one point.
    #[error("`{0}` is not an amount: write it like 10 or 10.50")]
    Malformed(String),
    /// Below zero.
    #[error("`{0}` is negative: an amount is zero or more")]
    Negative(String),
    /// More than nine decimals.
    #[error("`{0}` has more than {DECIMALS} decimals")]
    TooFine(String),
    /// More than a billion units.
    #[error("`{0}` is more than 1,000,000,000: that is taken for a mistake")]
    TooLarge(String),
}

impl Nanos {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount a person may type: a billion units.
    pub const MAX_TYPED: Self = Self(1_000_000_000_000_000_000);
    /// The largest amount at all; stands for "more than anybody has".
    pub const MAX: Self = Self(i64::MAX);

    /// From billionths of a unit.
    pub const fn new(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Billionths of a unit.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whether there is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, unless it is out of range.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference (negative where `other` is more), unless it is out of range.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The sum, kept within range.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, kept within range.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl FromStr for Nanos {
    type Err = AmountError;

    /// Reads a decimal such as `10`, `10.50` or `0.000000001`; exact or refused.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let trimmed = text.trim();
        let told = || trimmed.chars().filter(|c| !c.is_control()).take(40).collect::<String>();
        if let Some(rest) = trimmed.strip_prefix('-') {
            let is_number = rest.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            return Err(if is_number {
                AmountError::Negative(told())
            } else {
                AmountError::Malformed(told())
            });
        }
        let (whole, fraction) = trimmed.split_once('.').unwrap_or((trimmed, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(AmountError::Malformed(told()));
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > DECIMALS {
            return Err(AmountError::TooFine(told()));
        }
        let too_large = || AmountError::TooLarge(told());
        let units: i64 = whole.parse().map_err(|_| too_large())?;
        let below: i64 = format!("{fraction:0<DECIMALS$}").parse().map_err(|_| too_large())?;
        let nanos = units
            .checked_mul(UNIT)
            .and_then(|n| n.checked_add(below))
            .ok_or_else(too_large)?;
        if Self(nanos) > Self::MAX_TYPED {
            return Err(too_large());
        }
        Ok(Self(nanos))
    }
}

impl fmt::Display for Nanos {
    /// The exact decimal, with at least two decimals: `10.50`, `-0.000000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let size = self.0.unsigned_abs();
        let unit = UNIT.unsigned_abs();
        let whole = size.checked_div(unit).unwrap_or(0);
        let below = format!("{:09}", size.checked_rem(unit).unwrap_or(0));
        let below = below.trim_end_matches('0');
        f.pad(&format!("{sign}{whole}.{below:0<2}"))
    }
}

impl serde::Serialize for Nanos {
    /// A decimal string, so that no reader turns it into a float.
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Nanos {
    /// From its decimal, and nothing else.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, nanos, shown) in [
            ("10", 10_000_000_000, "10.00"),
            ("10.50", 10_500_000_000, "10.50"),
            ("0.000000001", 1, "0.000000001"),
            ("007.1", 7_100_000_000, "7.10"),
            ("1000000000", 1_000_000_000_000_000_000, "1000000000.00"),
            (" 3.000000000000 ", 3_000_000_000, "3.00"),
        ] {
            let amount: Nanos = text.parse().unwrap();
            assert_eq!((amount.get(), amount.to_string()), (nanos, shown.to_owned()));
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", ".", "1.", ".5", "1,5", "1e3", "+1", "0x1", "1_000", "NaN", "١", "--1", "-x", "$5",
        ] {
            assert!(
                matches!(text.parse::<Nanos>(), Err(AmountError::Malformed(_))),
                "{text}"
            );
        }
        assert!(matches!("-1".parse::<Nanos>(), Err(AmountError::Negative(_))));
        assert!(matches!("0.0000000001".parse::<Nanos>(), Err(AmountError::TooFine(_))));
        for text in ["1000000001", "1000000000.000000001", "99999999999999999999999999"] {
            assert!(matches!(text.parse::<Nanos>(), Err(AmountError::TooLarge(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(nanos in 0..=Nanos::MAX_TYPED.get()) {
            prop_assert_eq!(Nanos::new(nanos).to_string().parse::<Nanos>(), Ok(Nanos::new(nanos)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            prop_assert!(text.parse::<Nanos>().map_err(|e| e.to_string()) != Err(String::new()));
        }
    }
}
