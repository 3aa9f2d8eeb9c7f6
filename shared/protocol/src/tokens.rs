//! A count of tokens. Knows no price.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of tokens, as vendors count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(u64);

impl Tokens {
    /// None.
    pub const ZERO: Self = Self(0);
    /// Counts above this (2⁴⁰) are nonsense: a year of every model's output is less.
    pub const MAX: Self = Self(1 << 40);

    /// So many tokens.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, unless it overflows.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, unless it is negative.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// The product, unless it overflows.
    #[must_use]
    pub const fn checked_mul(self, times: u64) -> Option<Self> {
        match self.0.checked_mul(times) {
            Some(product) => Some(Self(product)),
            None => None,
        }
    }

    /// The sum, at most `u64::MAX`.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The product, at most `u64::MAX`.
    #[must_use]
    pub const fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl From<u64> for Tokens {
    fn from(count: u64) -> Self {
        Self(count)
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_never_wraps() {
        let most = Tokens::new(u64::MAX);
        assert_eq!(most.checked_add(Tokens::new(1)), None);
        assert_eq!(most.saturating_add(Tokens::new(1)), most);
        assert_eq!(most.checked_mul(2), None);
        assert_eq!(most.saturating_mul(2), most);
        assert_eq!(Tokens::ZERO.checked_sub(Tokens::new(1)), None);
        assert_eq!(Tokens::ZERO.saturating_sub(Tokens::new(1)), Tokens::ZERO);
        assert_eq!(Tokens::new(2).checked_add(Tokens::new(3)), Some(Tokens::new(5)));
    }

    #[test]
    fn it_is_a_plain_number_outside() {
        assert_eq!(serde_json::to_string(&Tokens::new(7)).unwrap(), "7");
        assert_eq!(serde_json::from_str::<Tokens>("7").unwrap(), Tokens::new(7));
        assert_eq!(format!("{:>3}", Tokens::new(7)), "  7");
    }
}
