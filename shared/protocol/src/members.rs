//! Reads an object of JSON member by member, in order, and remembers what nobody asked for. Knows no wire.
//!
//! A document is checked once and walked once; from then on it is known where each piece ends, however deep one looks.
//! Nothing of it is copied but the texts.

mod piece;

use std::borrow::Cow;

use thiserror::Error;

use self::piece::Piece;
use crate::loss::{LossKind, Losses};
use crate::refusal::{Code, Refusal};
use crate::turn::Json;

/// A field that is not what its wire says it must be. Quotes nothing of the body but keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{path}` must be {expected}")]
pub struct Invalid {
    /// Where it stands: `messages[2].content`.
    pub path: String,
    /// What would do.
    pub expected: &'static str,
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        let message = format!("Invalid request: {invalid}.");
        Self::new(Code::InvalidRequest, message).param(invalid.path)
    }
}

/// One value and where it stands.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    piece: Piece<'a>,
    pub(crate) path: String,
}

/// The members of one object. Those that were not taken are told by [`Members::rest`].
pub(crate) struct Members<'a> {
    path: String,
    members: Vec<(Cow<'a, str>, Option<Piece<'a>>)>,
}

type Read<T> = Result<T, Invalid>;

impl<'a> Field<'a> {
    /// A whole document.
    pub(crate) fn document(body: &'a [u8]) -> Read<Self> {
        let piece = Piece::document(body).ok_or_else(|| Invalid {
            path: "body".to_owned(),
            expected: "JSON",
        })?;
        Ok(Self {
            piece,
            path: String::new(),
        })
    }

    /// A piece that was kept.
    pub(crate) fn of(json: &'a Json, path: impl Into<String>) -> Self {
        Self {
            piece: Piece::of(json.raw()),
            path: path.into(),
        }
    }

    /// What is wrong with it.
    pub(crate) fn invalid(&self, expected: &'static str) -> Invalid {
        Invalid {
            path: self.path.clone(),
            expected,
        }
    }

    /// Its members, where it is an object.
    pub(crate) fn members(&self) -> Read<Members<'a>> {
        let members = self.piece.members().ok_or_else(|| self.invalid("an object"))?;
        Ok(Members {
            path: self.path.clone(),
            members: members.into_iter().map(|(key, piece)| (key, Some(piece))).collect(),
        })
    }

    /// Its elements, where it is an array.
    pub(crate) fn items(&self) -> Read<Vec<Self>> {
        let items = self.piece.items().ok_or_else(|| self.invalid("an array"))?;
        let numbered = items.into_iter().enumerate();
        Ok(numbered
            .map(|(index, piece)| Self {
                piece,
                path: format!("{}[{index}]", self.path),
            })
            .collect())
    }

    /// A text.
    pub(crate) fn text(&self) -> Read<String> {
        serde_json::from_str(self.as_str()).map_err(|_| self.invalid("a string"))
    }

    /// A truth.
    pub(crate) fn flag(&self) -> Read<bool> {
        serde_json::from_str(self.as_str()).map_err(|_| self.invalid("true or false"))
    }

    /// A whole number that is not negative.
    pub(crate) fn count(&self) -> Read<u64> {
        serde_json::from_str(self.as_str()).map_err(|_| self.invalid("a whole number, not negative"))
    }

    /// A number as written.
    pub(crate) fn number(&self) -> Read<Json> {
        if self.as_str().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            Ok(self.json())
        } else {
            Err(self.invalid("a number"))
        }
    }

    /// As it was written.
    pub(crate) fn json(&self) -> Json {
        self.piece.json()
    }

    /// The same, uncopied.
    pub(crate) const fn as_str(&self) -> &'a str {
        self.piece.text
    }

    pub(crate) fn is_text(&self) -> bool {
        self.as_str().starts_with('"')
    }

    pub(crate) fn is_list(&self) -> bool {
        self.as_str().starts_with('[')
    }

    pub(crate) fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }

    /// It says what leaving it out says: `false`, or nothing between quotes or brackets. Clients send their defaults along.
    pub(crate) fn is_nothing(&self) -> bool {
        let text = self.as_str();
        let inside = text
            .strip_prefix(['{', '[', '"'])
            .and_then(|text| text.strip_suffix(['}', ']', '"']));
        text == "false" || inside.is_some_and(|inside| inside.trim_ascii().is_empty())
    }
}

impl<'a> Members<'a> {
    /// The members of a whole document, which must be an object.
    pub(crate) fn document(body: &'a [u8]) -> Read<Self> {
        Field::document(body)?.members()
    }

    /// Where a member stands.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// What is wrong with a member.
    pub(crate) fn invalid(&self, key: &str, expected: &'static str) -> Invalid {
        Invalid {
            path: self.path(key),
            expected,
        }
    }

    /// A member, which counts as read; `null` is none.
    pub(crate) fn take(&mut self, key: &str) -> Option<Field<'a>> {
        let member = self.members.iter_mut().find(|(name, _)| name == key)?;
        let piece = member.1.take().filter(|piece| piece.text != "null")?;
        Some(Field {
            piece,
            path: self.path(key),
        })
    }

    /// A member that must be there.
    pub(crate) fn need(&mut self, key: &str, expected: &'static str) -> Read<Field<'a>> {
        self.take(key).ok_or_else(|| self.invalid(key, expected))
    }

    /// A member's text.
    pub(crate) fn text(&mut self, key: &str) -> Read<Option<String>> {
        self.take(key).map(|field| field.text()).transpose()
    }

    /// A text that must be there.
    pub(crate) fn need_text(&mut self, key: &str) -> Read<String> {
        self.need(key, "a string")?.text()
    }

    /// A member's truth.
    pub(crate) fn flag(&mut self, key: &str) -> Read<Option<bool>> {
        self.take(key).map(|field| field.flag()).transpose()
    }

    /// A member's whole number.
    pub(crate) fn count(&mut self, key: &str) -> Read<Option<u64>> {
        self.take(key).map(|field| field.count()).transpose()
    }

    /// A member's number as written.
    pub(crate) fn number(&mut self, key: &str) -> Read<Option<Json>> {
        self.take(key).map(|field| field.number()).transpose()
    }

    /// A member as written.
    pub(crate) fn json(&mut self, key: &str) -> Option<Json> {
        self.take(key).map(|field| field.json())
    }

    /// A member's elements; none where it is not there.
    pub(crate) fn items(&mut self, key: &str) -> Read<Vec<Field<'a>>> {
        self.take(key).map_or_else(|| Ok(Vec::new()), |field| field.items())
    }

    /// The keys of what was not read yet, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        let unread = self.members.iter().filter(|(_, value)| value.is_some());
        unread.map(|(key, _)| key.clone().into_owned()).collect()
    }

    /// Leaves members unread that mean nothing to any other wire.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            drop(self.take(key));
        }
    }

    /// Takes a member out, and gives it if it says anything.
    pub(crate) fn take_said(&mut self, key: &str) -> Option<Field<'a>> {
        self.take(key).filter(|field| !field.is_nothing())
    }

    /// Takes a member out and tells that it is lost, if it says anything.
    pub(crate) fn lose(&mut self, key: &str, kind: LossKind, losses: &mut Losses) {
        if let Some(field) = self.take_said(key) {
            losses.add(field.path, kind);
        }
    }

    /// Tells of what was not read, as hints: of a field that nobody here knows nobody can say what it means.
    pub(crate) fn rest(mut self, losses: &mut Losses) {
        let unread = std::mem::take(&mut self.members);
        for (key, value) in unread {
            if value.is_some_and(|piece| piece.text != "null") {
                losses.hint(self.path(&key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_no_loss() {
        let body = br#"{"a":{ },"b":[],"c":"","d":false,"e":null,"f":0,"g":[0],"h":"x","i":{"j":null},"k":true}"#;
        let (mut losses, mut members) = (Losses::default(), Members::document(body).unwrap());
        for key in members.keys() {
            members.lose(&key, LossKind::Meaning, &mut losses);
        }
        let lost: Vec<_> = losses.iter().map(|loss| loss.path.as_str()).collect();
        assert_eq!(lost, ["f", "g", "h", "i", "k"]);
    }

    #[test]
    fn what_nobody_asked_for_is_told_by_its_place() {
        let body = br#"{"a":1,"list":[{"x":"t","y":null,"z":[2]}],"b\u0063":true,"n":null}"#;
        let mut losses = Losses::default();
        let mut members = Members::document(body).unwrap();
        assert_eq!(members.count("a").unwrap(), Some(1));
        assert!(members.flag("bc").unwrap().unwrap());
        for item in members.items("list").unwrap() {
            let mut item = item.members().unwrap();
            assert_eq!(item.need_text("x").unwrap(), "t");
            item.rest(&mut losses);
        }
        members.rest(&mut losses);
        let told: Vec<_> = losses.iter().map(|loss| loss.path.as_str()).collect();
        assert_eq!(told, ["list[0].z"]);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place() {
        let mut members = Members::document(br#"{"a":{"b":[1,"x"]},"t":1e3}"#).unwrap();
        let mut inner = members.take("a").unwrap().members().unwrap();
        let items = inner.items("b").unwrap();
        let invalid = items[1].count().unwrap_err();
        assert_eq!(invalid.to_string(), "`a.b[1]` must be a whole number, not negative");
        assert_eq!(inner.need_text("c").unwrap_err().path, "a.c");
        assert_eq!(members.number("t").unwrap().unwrap().as_str(), "1e3");
        assert!(Members::document(b"[1]").is_err() && Members::document(b"{").is_err());
    }
}
