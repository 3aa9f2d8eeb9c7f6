//! A country by its code.

use std::fmt;

/// A country as ISO 3166-1 has it: two letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Country([u8; 2]);

impl Country {
    /// Reads two letters, whatever their case.
    pub fn parse(text: &str) -> Option<Self> {
        let code = <[u8; 2]>::try_from(text.as_bytes()).ok()?;
        let is_code = code.iter().all(u8::is_ascii_alphabetic);
        is_code.then(|| Self(code.map(|letter| letter.to_ascii_uppercase())))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}
