//! What commands about credit read: amounts, moments, counts. Notes every problem, and goes on.

use relay_shared::config::Problems;

use crate::{
    limit,
    money::{AmountError, Nanos},
};

/// An amount above zero.
pub(super) fn amount(problems: &mut Problems, key: &str, text: &str) -> Option<Nanos> {
    let amount = some_amount(problems, key, text)?;
    if amount.is_zero() {
        problems.push(key, "a credit must be more than 0", AMOUNT);
        return None;
    }
    Some(amount)
}

/// An amount that may be zero.
pub(super) fn some_amount(problems: &mut Problems, key: &str, text: &str) -> Option<Nanos> {
    let read: Result<Nanos, AmountError> = text.parse();
    read.map_err(|error| problems.push(key, error.to_string(), AMOUNT)).ok()
}

/// A day or a moment, milliseconds since 1970, that is still to come.
pub(super) fn moment(problems: &mut Problems, key: &str, text: &str, now_ms: i64) -> Option<i64> {
    match limit::moment(text.trim()) {
        Ok(ms) if ms > now_ms => Some(ms),
        Ok(_) => {
            problems.push(key, "is over already", "name a day that is still to come");
            None
        }
        Err(fault) => {
            problems.push(key, fault.problem, fault.hint);
            None
        }
    }
}

/// A whole number from 1 to `most`.
pub(super) fn count(problems: &mut Problems, key: &str, text: &str, most: i64) -> Option<i64> {
    let read = text.trim().parse().ok().filter(|count| (1..=most).contains(count));
    if read.is_none() {
        let told = super::typed(text);
        problems.push(
            key,
            format!("`{told}` cannot be used"),
            format!("write a whole number from 1 to {most}"),
        );
    }
    read
}

/// A short text that is kept with an entry.
pub(super) fn note(problems: &mut Problems, key: &str, text: String) -> String {
    if text.len() > LONGEST || text.chars().any(char::is_control) {
        problems.push(key, "is too long or has control characters", "write at most 200 bytes");
    }
    text
}

const AMOUNT: &str = "write an amount such as 10 or 10.50";
const LONGEST: usize = 200;
