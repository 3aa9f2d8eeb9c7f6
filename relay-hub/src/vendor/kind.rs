//! Which vendors there are, and which wires each speaks. Knows no address and no credential.

use relay_protocol::Wire;

use super::CredentialKind;

/// Which vendor an account is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VendorKind {
    /// OpenAI, and what speaks exactly like it.
    OpenAi,
    /// Anthropic, and what speaks exactly like it.
    Anthropic,
    /// Google's Gemini API, and what speaks exactly like it.
    Gemini,
    /// OpenAI's models at Azure.
    Azure,
    /// Anthropic's models at Amazon Bedrock.
    Bedrock,
    /// Who speaks some of OpenAI's wires: DashScope, DeepSeek, another relay-hub.
    Compatible,
}

/// Every vendor: by the name commands use, with the wires it speaks.
const KINDS: [(VendorKind, &str, &[Wire]); 6] = [
    (VendorKind::OpenAi, "openai", &[Wire::Responses, Wire::Chat]),
    (VendorKind::Anthropic, "anthropic", &[Wire::Messages]),
    (VendorKind::Gemini, "gemini", &[Wire::Gemini]),
    (VendorKind::Azure, "azure", &[Wire::Responses, Wire::Chat]),
    (VendorKind::Bedrock, "bedrock", &[Wire::Messages]),
    (VendorKind::Compatible, "compatible", &[Wire::Responses, Wire::Chat]),
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

    /// Its name.
    pub fn as_str(self) -> &'static str {
        let known = KINDS.iter().find(|(kind, ..)| *kind == self);
        known.map_or("", |(_, name, _)| name)
    }

    /// The credentials that it takes, the usual one first.
    pub const fn credentials(self) -> &'static [CredentialKind] {
        match self {
            Self::OpenAi | Self::Compatible => &[
                CredentialKind::ApiKey,
                CredentialKind::RefreshToken,
                CredentialKind::ClientCredentials,
            ],
            Self::Azure => &[CredentialKind::ApiKey, CredentialKind::ClientCredentials],
            Self::Bedrock => &[CredentialKind::AwsKey],
            Self::Anthropic | Self::Gemini => &[CredentialKind::ApiKey],
        }
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
