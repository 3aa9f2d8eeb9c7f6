//! The arithmetic of money, and nothing else: how a charge is split, how sums are kept, how rows are chained.

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};

use crate::money::Nanos;

/// A charge that can be booked: one call costs at most a million units, or its hold. A vendor's absurd usage must not
/// fill the operator's loss account, since then nothing could be settled any more; the call's row keeps the cost.
pub(super) fn bookable(charge: Nanos, held: Nanos) -> Nanos {
    charge.clamp(Nanos::ZERO, held.max(LARGEST_CHARGE))
}

const LARGEST_CHARGE: Nanos = Nanos::new(1_000_000_000_000_000);

/// A charge against a hold: what the hold covers, and what it does not.
pub(super) fn split(charge: Nanos, held: Nanos) -> (Nanos, Nanos) {
    let covered = charge.clamp(Nanos::ZERO, held);
    (covered, charge.saturating_sub(covered).max(Nanos::ZERO))
}

/// Sums of changes, one line an account, in a fixed order.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    order: Vec<&'a str>,
    sums: HashMap<&'a str, (i64, i64)>,
}

impl<'a> Changes<'a> {
    /// Adds to what an account holds and has. `None` where a sum is out of range; nothing is changed then.
    pub(super) fn add(&mut self, account: &'a str, held: i64, posted: i64) -> Option<()> {
        if let Some(sum) = self.sums.get_mut(account) {
            *sum = (sum.0.checked_add(held)?, sum.1.checked_add(posted)?);
        } else {
            self.sums.insert(account, (held, posted));
            self.order.push(account);
        }
        Some(())
    }

    /// Account, change of held, change of posted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i64, i64)> {
        self.order
            .iter()
            .filter_map(|name| self.sums.get(name).map(|sum| (*name, sum.0, sum.1)))
    }
}

/// One transfer, before it has a place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transfer<'a> {
    pub(super) kind: &'a str,
    pub(super) hold: Option<i64>,
    pub(super) idem: Option<&'a str>,
    pub(super) debit: &'a str,
    pub(super) credit: &'a str,
    pub(super) amount: Nanos,
    pub(super) at_ms: i64,
    pub(super) note: &'a str,
}

/// The last row of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: i64,
    pub(super) hash: [u8; 32],
}

impl Head {
    /// Before the first row.
    pub(super) const START: Self = Self { seq: 0, hash: [0; 32] };

    /// The place of the next row: its number, and SHA-256 over the hash before and every field.
    pub(super) fn next(self, row: &Transfer<'_>) -> Option<Self> {
        let seq = self.seq.checked_add(1)?;
        let mut hash = Context::new(&SHA256);
        hash.update(&self.hash);
        hash.update(&seq.to_le_bytes());
        hash.update(&row.amount.get().to_le_bytes());
        hash.update(&row.at_ms.to_le_bytes());
        hash.update(&row.hold.unwrap_or(NO_HOLD).to_le_bytes());
        hash.update(&[u8::from(row.idem.is_some())]);
        for text in [row.kind, row.idem.unwrap_or_default(), row.debit, row.credit, row.note] {
            // The length first, so that no two rows give the same bytes.
            hash.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(text.as_bytes());
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        Some(Self { seq, hash: bytes })
    }
}

/// No hold has this number.
const NO_HOLD: i64 = i64::MIN;

/// The hub's own accounts.
pub(super) const FUNDING: &str = "funding";
pub(super) const REVENUE: &str = "revenue";
pub(super) const OPERATOR_LOSS: &str = "operator_loss";

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_field_of_a_transfer_is_in_its_hash() {
        let row = Transfer {
            kind: "charge",
            hold: Some(1),
            idem: None,
            debit: "a",
            credit: "bc",
            amount: Nanos::new(5),
            at_ms: 7,
            note: "",
        };
        let same = Head::START.next(&row).unwrap();
        let others = [
            Transfer {
                kind: "loss",
                ..row.clone()
            },
            Transfer {
                hold: None,
                ..row.clone()
            },
            Transfer {
                idem: Some(""),
                ..row.clone()
            },
            Transfer {
                debit: "ab",
                credit: "c",
                ..row.clone()
            },
            Transfer {
                amount: Nanos::new(6),
                ..row.clone()
            },
            Transfer {
                at_ms: 8,
                ..row.clone()
            },
            Transfer {
                note: "x",
                ..row.clone()
            },
        ];
        for other in &others {
            assert_ne!(Head::START.next(other).unwrap().hash, same.hash, "{other:?}");
        }
        assert_ne!(same.next(&row).unwrap().hash, same.hash);
    }

    proptest! {
        #[test]
        fn a_charge_is_split_without_a_rest(charge in 0..=i64::MAX, held in 0..=i64::MAX) {
            let (covered, rest) = split(Nanos::new(charge), Nanos::new(held));
            prop_assert!(covered.get() <= held);
            prop_assert_eq!(covered.checked_add(rest), Some(Nanos::new(charge)));
        }
    }
}
