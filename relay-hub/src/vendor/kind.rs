//! Which vendors there are, and which wires each speaks. Knows no address and no credential.

use relay_protocol::Wire;

/// Which vendor an account is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VendorKind {
    /// OpenAI, and what speaks exactly like it.
    OpenAi,
    /// Anthropic, and what speaks exactly like it.
    Anthropic,
    /// Google's Gemini API, and what speaks exactly like it.
    Gemini,
}

/// Every vendor: by the name commands use, with the wires it speaks.
const KINDS: [(VendorKind, &str, &[Wire]); 3] = [
    (VendorKind::OpenAi, "openai", &[Wire::Responses, Wire::Chat]),
    (VendorKind::Anthropic, "anthropic", &[Wire::Messages]),
    (VendorKind::Gemini, "gemini", &[Wire::Gemini]),
];

impl VendorKind {
    /// Every name that commands take.
    pub const NAMES: [&str; KINDS.len()] = names();

    /// The vendor of that name.
    pub fn parse(name: &str) -> Option<Self> {
        KINDS
            .iter()
            .find(|(_, known, _)| *known == name)
            .map(|(kind, ..)| *kind)
    }

    /// Whether a call in this dialect can go there as it is.
    pub fn speaks(self, wire: Wire) -> bool {
        self.wires().contains(&wire)
    }

    /// The dialects that its API takes.
    pub fn wires(self) -> &'static [Wire] {
        let known = KINDS.iter().find(|(kind, ..)| *kind == self);
        known.map_or(&[], |(.., wires)| wires)
    }
}

const fn names() -> [&'static str; KINDS.len()] {
    let (mut names, mut at) = ([""; KINDS.len()], 0);
    while at < KINDS.len() {
        names[at] = KINDS[at].1;
        at += 1;
    }
    names
}
