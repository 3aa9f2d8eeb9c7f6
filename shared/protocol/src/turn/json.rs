//! A piece of JSON that is carried as it was written: a schema, a number, labels.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Valid JSON. Its keys, their order, its blanks and its numbers are those of whoever wrote it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(test, derive(Debug))]
pub struct Json(Box<RawValue>);

impl Json {
    /// Reads a text; `None` where it is not JSON.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        RawValue::from_string(text.to_owned()).ok().map(Self)
    }

    /// What a value is in JSON. `None` for what has no JSON, such as a map whose keys are no texts.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Option<Self> {
        serde_json::value::to_raw_value(value).ok().map(Self)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// A number that is nothing: `0`, `-0.0`. Clients send it where it is what they would get anyway.
    pub(crate) fn is_zero(&self) -> bool {
        let digits = self.as_str().split(['e', 'E']).next().unwrap_or_default();
        digits.starts_with(|c: char| c == '-' || c.is_ascii_digit())
            && !digits.bytes().any(|b| matches!(b, b'1'..=b'9'))
    }

    /// To be read further.
    #[must_use]
    pub(crate) fn raw(&self) -> &RawValue {
        &self.0
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self(raw.to_owned())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_moves() {
        let text = r#"{"b" : 1e3, "a":12345678901234567890123, "é":"\u00e9"}"#;
        let json = Json::parse(text).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
        assert!(Json::parse("{").is_none());
    }
}
