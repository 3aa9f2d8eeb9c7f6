//! What hardly any call has, as one text beside its row. Knows no price.

use std::sync::atomic::{AtomicU64, Ordering};

use relay_protocol::{Tokens, ToolCalls, Usage};
use serde::{Deserialize, Serialize};

use super::{choice::Choice, row::UsageRow};
use crate::ids::{AppPlan, Project};

/// Something an operator should know of a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flag {
    /// The vendor reported no usage where it should have.
    Unreported,
    /// The vendor's usage was negative, absurd or contradicted itself: it was counted here.
    Unsound,
    /// More was reported than the call could use: the charge ends at its hold.
    Clamped,
    /// Something was used that the price list has no price for: billed at the dearest known price.
    Unpriced,
    /// The vendor named a service tier that the price list does not know: billed at the dearest known tier.
    UnknownTier,
    /// Counted here by the bytes alone, for the model's tokenizer is not known or could not be used.
    ByBytes,
    /// The vendor's cache served nearly nothing of a conversation of which it had served much a moment before.
    CacheLost,
}

/// A set of [`Flag`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags(u16);

impl Flag {
    /// Every flag.
    pub const ALL: [Self; 7] = [
        Self::Unreported,
        Self::Unsound,
        Self::Clamped,
        Self::Unpriced,
        Self::UnknownTier,
        Self::ByBytes,
        Self::CacheLost,
    ];

    /// Its name in a row.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreported => "unreported",
            Self::Unsound => "unsound",
            Self::Clamped => "clamped",
            Self::Unpriced => "unpriced",
            Self::UnknownTier => "unknown_tier",
            Self::ByBytes => "by_bytes",
            Self::CacheLost => "cache_lost",
        }
    }

    /// Whether somebody should look at the bill: the vendor or the price list is at fault, and not only less is known.
    pub const fn is_odd(self) -> bool {
        match self {
            Self::Unreported | Self::Unsound | Self::Clamped | Self::Unpriced | Self::UnknownTier => true,
            Self::ByBytes | Self::CacheLost => false,
        }
    }

    /// How many bills of this process have it.
    pub fn bills(self) -> u64 {
        BILLS
            .get(self as usize)
            .map_or(0, |bills| bills.load(Ordering::Relaxed))
    }

    const fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

impl Flags {
    /// Adds one.
    pub const fn set(&mut self, flag: Flag) {
        self.0 |= flag.bit();
    }

    /// Whether it is among them.
    pub const fn has(self, flag: Flag) -> bool {
        self.0 & flag.bit() != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL.into_iter().filter(move |flag| self.has(*flag))
    }
}

/// Counts a bill under each of its flags.
pub fn flagged(flags: Flags) {
    for flag in flags.iter() {
        if let Some(bills) = BILLS.get(flag as usize) {
            bills.fetch_add(1, Ordering::Relaxed);
        }
    }
}

static BILLS: [AtomicU64; Flag::ALL.len()] = [const { AtomicU64::new(0) }; Flag::ALL.len()];

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'a str>,
    #[serde(skip_serializing_if = "is_none")]
    cache_write_long: Tokens,
    #[serde(skip_serializing_if = "is_none")]
    input_audio: Tokens,
    #[serde(skip_serializing_if = "is_none")]
    input_image: Tokens,
    #[serde(skip_serializing_if = "is_none")]
    output_audio: Tokens,
    #[serde(skip_serializing_if = "is_none")]
    output_image: Tokens,
    #[serde(flatten)]
    tools: ToolCalls,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<&'static str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(tokens: &Tokens) -> bool {
    *tokens == Tokens::ZERO
}

/// The text of a row's `detail`; `None` for a plain call, which is nearly every one.
pub(super) fn detail(row: &UsageRow) -> Option<String> {
    let usage = row.usage.map(|(usage, _)| usage).unwrap_or_default();
    let has_none = row.tier.is_none() && row.project.is_none() && row.plan.is_none();
    if has_none && row.flags.is_empty() && row.choice == Choice::Only && usage.is_plain() {
        return None;
    }
    let Usage {
        input: _,
        cached: _,
        cache_write: _,
        output: _,
        reasoning: _,
        cache_write_long,
        input_audio,
        input_image,
        output_audio,
        output_image,
        tools,
    } = usage;
    serde_json::to_string(&Detail {
        project: row.project.as_ref().map(Project::as_str),
        plan: row.plan.as_ref().map(AppPlan::as_str),
        tier: row.tier.as_deref(),
        cache_write_long,
        input_audio,
        input_image,
        output_audio,
        output_image,
        tools,
        flags: row.flags.iter().map(Flag::as_str).collect(),
        choice: (row.choice != Choice::Only).then(|| row.choice.as_str()),
    })
    .ok()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;

    #[test]
    fn a_bill_is_counted_under_each_of_its_flags() {
        let (mut flags, before) = (Flags::default(), Flag::ALL.map(Flag::bills));
        flags.set(Flag::Clamped);
        flags.set(Flag::UnknownTier);
        flagged(flags);
        flagged(flags);
        for (flag, before) in Flag::ALL.into_iter().zip(before) {
            let more = if flags.has(flag) { 2 } else { 0 };
            assert_eq!(flag.bills(), before + more, "{flag:?}");
        }
    }

    #[test]
    fn a_coarse_count_and_a_cold_cache_are_no_reason_to_look_at_a_bill() {
        let calm = Flag::ALL.into_iter().filter(|flag| !flag.is_odd());
        assert_eq!(calm.collect::<Vec<_>>(), [Flag::ByBytes, Flag::CacheLost]);
    }

    #[test]
    fn each_flag_has_a_bit_and_a_name_of_its_own() {
        for flag in Flag::ALL {
            let mut flags = Flags::default();
            flags.set(flag);
            assert_eq!(flags.iter().collect::<Vec<_>>(), [flag]);
            let written = serde_json::to_string(&flags).unwrap();
            assert_eq!(serde_json::from_str::<Flags>(&written).unwrap(), flags);
        }
    }
}
