//! Which vendors there are, and which wires each speaks. Knows no address and no credential.

use relay_protocol::{VendorWire, Wire};

use super::{CredentialKind, bedrock};

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

    /// Whether it serves a model, as far as the name tells who makes it; `None` where it tells nothing.
    pub fn serves(self, model: &str) -> Option<bool> {
        let maker = Maker::of(model)?;
        let own = match self {
            Self::OpenAi | Self::Azure => Maker::OpenAi,
            Self::Anthropic => Maker::Anthropic,
            Self::Bedrock => return Some(matches!(maker, Maker::AnthropicAtBedrock | Maker::AtBedrock)),
            Self::Gemini => Maker::Google,
            Self::Compatible => return None,
        };
        Some(maker == own)
    }

    /// Whether a call in this dialect can go there as it is.
    pub fn speaks(self, wire: Wire) -> bool {
        self.wires().contains(&wire)
    }

    /// The one dialect in which this model is asked there, where that depends on the model.
    pub fn wire_of(self, model: &str) -> Option<VendorWire> {
        (self == Self::Bedrock && bedrock::converses(model)).then_some(VendorWire::Converse)
    }

    /// The dialects that its API takes.
    pub fn wires(self) -> &'static [Wire] {
        let known = KINDS.iter().find(|(kind, ..)| *kind == self);
        known.map_or(&[], |(.., wires)| wires)
    }
}

/// Who makes a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    OpenAi,
    Anthropic,
    /// Amazon has names of its own for the same models.
    AnthropicAtBedrock,
    /// Who else is at Amazon alone.
    AtBedrock,
    Google,
}

/// How the names of each begin.
const BEGINNINGS: [(Maker, &[&str]); 3] = [
    (
        Maker::OpenAi,
        &[
            "gpt-",
            "chatgpt-",
            "codex-",
            "o1",
            "o3",
            "o4",
            "text-embedding-3",
            "text-embedding-ada",
        ],
    ),
    (Maker::Anthropic, &["claude-"]),
    (Maker::Google, &["gemini-", "gemma-"]),
];

impl Maker {
    fn of(model: &str) -> Option<Self> {
        if model.contains("anthropic.claude") {
            return Some(Self::AnthropicAtBedrock);
        }
        if model.contains("amazon.nova") || model.contains("amazon.titan") {
            return Some(Self::AtBedrock);
        }
        let begins = |(_, names): &&(Self, &[&str])| names.iter().any(|name| model.starts_with(name));
        BEGINNINGS.iter().find(begins).map(|(maker, _)| *maker)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_says_who_makes_a_model_says_who_serves_it() {
        let said = |model| KINDS.map(|(kind, ..)| kind.serves(model));
        let [openai, anthropic, gemini, azure, bedrock, compatible] = said("gpt-6-sol");
        assert_eq!((openai, azure), (Some(true), Some(true)));
        assert_eq!(
            (anthropic, gemini, bedrock, compatible),
            (Some(false), Some(false), Some(false), None)
        );
        let [.., bedrock, _] = said("eu.anthropic.claude-sonnet-4-5-20250929-v1:0");
        assert_eq!((bedrock, said("claude-sonnet-4-5")[4]), (Some(true), Some(false)));
        assert_eq!(
            (said("claude-sonnet-4-5")[1], said("gemini-2.5-pro")[2]),
            (Some(true), Some(true))
        );
        assert!(said("deepseek-chat").iter().all(Option::is_none));
    }
}
