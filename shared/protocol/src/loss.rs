//! What one wire says and another cannot: named by where it stands, never by what it was.

pub(crate) mod said;

use crate::refusal::{Code, Refusal};
use crate::wire::Wire;

/// Whether a call may go on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// The answer would be another one: tools, pictures, a schema, several answers. The call is refused.
    Meaning,
    /// The answer is the same in kind: marks for a cache, metadata, what another wire alone knows. Dropped, and told.
    Hint,
}

/// One field that the vendor will not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Where it stands in the client's request: `messages[2].content[0].cache_control`. Keys and numbers, no values.
    pub path: String,
    /// What becomes of the call.
    pub kind: LossKind,
}

/// All of them, in the order in which they were met, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses {
    known: Vec<Loss>,
    /// Hints above [`MOST`].
    more: usize,
}

impl Losses {
    /// Something the call cannot do without.
    pub fn meaning(&mut self, path: impl Into<String>) {
        self.add(path.into(), LossKind::Meaning);
    }

    /// Something the call can do without.
    pub fn hint(&mut self, path: impl Into<String>) {
        self.add(path.into(), LossKind::Hint);
    }

    /// Adds one. Of a body that is nothing but unknown fields only the first are kept, and how many more there were.
    pub fn add(&mut self, path: String, kind: LossKind) {
        let path = plain(path);
        let of_kind = || self.known.iter().filter(|loss| loss.kind == kind);
        if of_kind().any(|loss| loss.path == path) {
            return;
        }
        if of_kind().count() < MOST {
            self.known.push(Loss { path, kind });
        } else if kind == LossKind::Hint {
            self.more += 1;
        }
    }

    /// The same in the words of the client's wire, where a writer used a word that has one there.
    #[must_use]
    pub fn spelled(self, client: Wire) -> Self {
        let mut spelled = Self {
            known: Vec::new(),
            more: self.more,
        };
        for Loss { path, kind } in self.known {
            spelled.add(said::spelled(&path, client).map_or(path, str::to_owned), kind);
        }
        spelled
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.known.iter()
    }

    /// Nothing was lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Why the call cannot be made, where a meaning would be lost: all of it at once. `target` is the vendor's wire.
    #[must_use]
    pub fn refusal(&self, target: &str) -> Option<Refusal> {
        let lost = self.paths(LossKind::Meaning);
        let names: Vec<String> = lost.map(|path| format!("`{path}`")).collect();
        let first = self.paths(LossKind::Meaning).next()?;
        let refusal = Refusal::new(
            Code::InvalidRequest,
            format!(
                "This model is served by {target}, which cannot say {}.",
                names.join(", ")
            ),
        );
        Some(
            refusal
                .param(first.to_owned())
                .hint("leave it out, or ask for a model whose vendor speaks your own wire"),
        )
    }

    /// What `relay-dropped` tells: the paths of what was dropped, with commas between. `None` when nothing was.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        let mut told = String::new();
        let mut untold = self.more;
        for path in self.paths(LossKind::Hint) {
            if told.len() + path.len() > LONGEST_HEADER {
                untold += 1;
                continue;
            }
            if !told.is_empty() {
                told.push_str(", ");
            }
            told.push_str(path);
        }
        if untold > 0 {
            told.push_str(&format!(", +{untold}"));
        }
        (!told.is_empty()).then_some(told)
    }

    fn paths(&self, kind: LossKind) -> impl Iterator<Item = &str> {
        let of_kind = self.known.iter().filter(move |loss| loss.kind == kind);
        of_kind.map(|loss| loss.path.as_str())
    }
}

/// So many of each kind are remembered.
const MOST: usize = 64;
const LONGEST_HEADER: usize = 1024;
const LONGEST_PATH: usize = 128;

/// A client may have written anything where a key stands; a header and a message take plain characters alone.
fn plain(path: String) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'[' | b']' | b'$' | b':');
    if path.len() <= LONGEST_PATH && path.bytes().all(is_plain) {
        return path;
    }
    let kept = path.chars().take(LONGEST_PATH);
    kept.map(|c| if c.is_ascii() && is_plain(c as u8) { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_meaning_refuses_with_every_field_named() {
        let mut losses = Losses::default();
        losses.hint("metadata");
        assert!(losses.refusal("Gemini").is_none());
        losses.meaning("tools[1]");
        losses.meaning("n");
        losses.meaning("n");
        let refusal = losses.refusal("Gemini").unwrap();
        let body = refusal.render(Wire::Chat, "r").body;
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains("cannot say `tools[1]`, `n`."), "{text}");
        assert!(text.contains(r#""param":"tools[1]""#), "{text}");
    }

    #[test]
    fn hints_are_told_once_in_a_header_that_stays_short() {
        let mut losses = Losses::default();
        assert_eq!(losses.header(), None);
        losses.hint("store");
        losses.hint("store");
        losses.hint("messages[0].name");
        assert_eq!(losses.header().as_deref(), Some("store, messages[0].name"));
        for index in 0..1000 {
            losses.hint(format!("a_rather_long_field_of_some_client[{index}]"));
        }
        let header = losses.header().unwrap();
        assert!(header.len() < 1200 && header.ends_with(", +975"), "{header}");
    }

    #[test]
    fn a_client_is_told_in_its_own_words() {
        let mut losses = Losses::default();
        losses.meaning(said::STOP);
        losses.hint("store");
        let told = losses.spelled(Wire::Messages);
        let paths: Vec<_> = told.iter().map(|loss| loss.path.as_str()).collect();
        assert_eq!(paths, ["stop_sequences", "store"]);
    }

    #[test]
    fn what_a_client_wrote_as_a_key_cannot_break_a_header() {
        let mut losses = Losses::default();
        losses.hint("x\r\nset-cookie: é".to_owned());
        assert_eq!(losses.header().as_deref(), Some("x??set-cookie:??"));
    }
}
