//! The list of models, in the shape of each vendor and in the one Codex asks for. Knows no price and no tenant.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{tokens::Tokens, wire::Wire};

/// What a client may learn of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// The name to ask for.
    pub id: String,
    /// When it appeared, in seconds since 1970; 0 when unknown.
    pub created: u64,
    /// Whose it is.
    pub owned_by: String,
    /// How many tokens of input and output it can hold together.
    pub context: Tokens,
    /// How many tokens of output one answer can have.
    pub max_output: Tokens,
}

impl ModelCard {
    /// It makes vectors and no words: there is no output to speak of.
    const fn embeds(&self) -> bool {
        self.max_output.get() <= 1
    }
}

/// `{"object":"list","data":[…]}`, in the order given.
#[must_use]
pub fn openai_list(models: &[ModelCard]) -> Bytes {
    let data: Vec<Value> = models.iter().map(openai_entry).collect();
    Bytes::from(json!({ "object": "list", "data": data }).to_string())
}

/// `{"data":[…],"has_more":false,…}`, in the order given. All of it is one page. Anthropic has no embeddings.
#[must_use]
pub fn anthropic_list(models: &[ModelCard]) -> Bytes {
    let models: Vec<_> = models.iter().filter(|card| !card.embeds()).collect();
    let data: Vec<Value> = models.iter().copied().map(anthropic_entry).collect();
    let (first, last) = (models.first().map(|card| &card.id), models.last().map(|card| &card.id));
    Bytes::from(json!({ "data": data, "has_more": false, "first_id": first, "last_id": last }).to_string())
}

/// What Anthropic says of a model whose time is not known.
const UNKNOWN_TIME: &str = "1970-01-01T00:00:00Z";

/// `{"models":[…]}` as Google has it, in the order given. All of it is one page.
#[must_use]
pub fn gemini_list(models: &[ModelCard]) -> Bytes {
    let models: Vec<Value> = models.iter().map(gemini_entry).collect();
    Bytes::from(json!({ "models": models }).to_string())
}

/// One model as the list of that wire has it.
#[must_use]
pub fn one(wire: Wire, card: &ModelCard) -> Bytes {
    let entry = match wire {
        Wire::Messages => anthropic_entry(card),
        Wire::Gemini => gemini_entry(card),
        Wire::Responses | Wire::Chat => openai_entry(card),
    };
    Bytes::from(entry.to_string())
}

fn openai_entry(card: &ModelCard) -> Value {
    json!({ "id": card.id, "object": "model", "created": card.created, "owned_by": card.owned_by })
}

fn anthropic_entry(card: &ModelCard) -> Value {
    json!({ "type": "model", "id": card.id, "display_name": card.id, "created_at": UNKNOWN_TIME })
}

fn gemini_entry(card: &ModelCard) -> Value {
    json!({
        "name": format!("models/{}", card.id),
        "displayName": card.id,
        "inputTokenLimit": card.context,
        "outputTokenLimit": card.max_output,
        "supportedGenerationMethods": if card.embeds() { EMBEDS } else { GENERATES },
    })
}

const GENERATES: &[&str] = &["generateContent", "countTokens"];
const EMBEDS: &[&str] = &["embedContent", "countTokens"];

/// `{"models":[…]}` with every field that Codex 0.169 requires, in the order given, which is that of its menu.
///
/// A model that Codex brings itself is left out: an entry would replace Codex's own prompt and tools for it, and
/// without one Codex keeps them (measured with 0.169). So is one that writes no words.
#[must_use]
pub fn codex_catalog(models: &[ModelCard]) -> Bytes {
    let entries: Vec<Value> = models
        .iter()
        .filter(|card| !is_codex_own(&card.id) && !card.embeds())
        .enumerate()
        .map(|(place, card)| codex_entry(place, card))
        .collect();
    Bytes::from(json!({ "models": entries }).to_string())
}

fn is_codex_own(model: &str) -> bool {
    CODEX_OWN.iter().any(|own| {
        model
            .strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

/// The families that Codex 0.169 has entries of its own for.
const CODEX_OWN: [&str; 6] = [
    "codex-auto-review",
    "gpt-5.5",
    "gpt-5.6",
    "gpt-6",
    "gpt-6.1",
    "gpt-daybreak",
];

fn codex_entry(place: usize, card: &ModelCard) -> Value {
    let level = |(effort, description): &(&str, &str)| json!({ "effort": effort, "description": description });
    let levels: Vec<Value> = EFFORTS.iter().map(level).collect();
    json!({
        "slug": card.id,
        "display_name": card.id,
        "description": format!("{} through codex-relay", card.id),
        "supported_reasoning_levels": levels,
        "default_reasoning_level": "medium",
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": true,
        "priority": place,
        "base_instructions": INSTRUCTIONS,
        "supports_reasoning_summaries": true,
        "support_verbosity": true,
        "default_verbosity": "low",
        "apply_patch_tool_type": "freeform",
        "truncation_policy": { "mode": "tokens", "limit": 10_000 },
        "supports_parallel_tool_calls": true,
        "context_window": card.context,
        "experimental_supported_tools": [],
        "availability_nux": null,
        "upgrade": null,
    })
}

const EFFORTS: [(&str, &str); 4] = [
    ("low", "Answers fast with little reasoning"),
    ("medium", "Balances speed and depth of reasoning"),
    ("high", "Reasons longer for hard problems"),
    ("xhigh", "Reasons longest for the hardest problems"),
];

/// Codex 0.169 gives these words to a model that the catalogue names, in place of its own; and it reads no catalogue that
/// has an entry without them. A model that Codex ships with is therefore served better by not being named, as long as
/// the provider has no `model_catalog_url`, which makes it forget what it ships with.
const INSTRUCTIONS: &str = include_str!("catalog/instructions.md");

/// A strong entity tag, quotes included: FNV-1a of 64 bits, which only needs to change when the list does.
#[must_use]
pub fn etag(body: &[u8]) -> String {
    let hash = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards() -> Vec<ModelCard> {
        ["gpt-5", "gpt-\"x\""]
            .map(|id| ModelCard {
                id: id.to_owned(),
                created: 5,
                owned_by: "openai".to_owned(),
                max_output: Tokens::new(64_000),
                context: Tokens::new(400_000),
            })
            .to_vec()
    }

    #[test]
    fn the_openai_list_is_what_sdks_expect() {
        assert_eq!(
            openai_list(&cards()),
            r#"{"data":[{"created":5,"id":"gpt-5","object":"model","owned_by":"openai"},{"created":5,"id":"gpt-\"x\"","object":"model","owned_by":"openai"}],"object":"list"}"#
        );
        assert_eq!(openai_list(&[]), r#"{"data":[],"object":"list"}"#);
    }

    #[test]
    fn anthropic_s_and_google_s_lists_are_what_their_sdks_expect() {
        let list: Value = serde_json::from_slice(&anthropic_list(&cards())).unwrap();
        assert_eq!(
            list["data"][0],
            json!({"type": "model", "id": "gpt-5", "display_name": "gpt-5", "created_at": "1970-01-01T00:00:00Z"})
        );
        assert_eq!(
            (&list["has_more"], &list["last_id"]),
            (&json!(false), &json!("gpt-\"x\""))
        );
        let list: Value = serde_json::from_slice(&gemini_list(&cards())).unwrap();
        assert_eq!(list["models"][0]["name"], "models/gpt-5");
        assert_eq!(list["models"][0]["inputTokenLimit"], 400_000);
        assert_eq!(list["models"][0]["outputTokenLimit"], 64_000);
    }

    #[test]
    fn the_codex_catalogue_has_every_field_codex_requires() {
        let catalogue: Value = serde_json::from_slice(&codex_catalog(&cards())).unwrap();
        let entry = &catalogue["models"][1];
        assert_eq!(
            (&entry["slug"], &entry["context_window"], &entry["priority"]),
            (&json!("gpt-\"x\""), &json!(400_000), &json!(1))
        );
        for field in "slug display_name description supported_reasoning_levels default_reasoning_level shell_type visibility \
                      supported_in_api priority base_instructions supports_reasoning_summaries support_verbosity \
                      default_verbosity apply_patch_tool_type truncation_policy supports_parallel_tool_calls context_window \
                      experimental_supported_tools availability_nux upgrade"
            .split_whitespace()
        {
            assert!(entry.get(field).is_some(), "{field}");
        }
        assert!(!entry["base_instructions"].as_str().unwrap().is_empty());
    }

    #[test]
    fn codex_keeps_its_own_prompt_for_the_models_it_brings() {
        let named = |id: &str| ModelCard {
            id: id.to_owned(),
            ..cards().remove(0)
        };
        let catalogue = codex_catalog(&[named("gpt-5.5"), named("gpt-6-sol"), named("gpt-5.2-codex")]);
        let catalogue: Value = serde_json::from_slice(&catalogue).unwrap();
        assert_eq!(catalogue["models"].as_array().unwrap().len(), 1);
        assert_eq!(catalogue["models"][0]["slug"], "gpt-5.2-codex");
    }

    #[test]
    fn a_model_that_makes_vectors_is_told_to_those_who_can_ask_it() {
        let mut cards = cards();
        cards[0].max_output = Tokens::new(1);
        let read = |list: Bytes| serde_json::from_slice::<Value>(&list).unwrap();
        let names = |list: &Value, key: &str| -> Vec<String> {
            let of = |model: &Value| model[key].as_str().unwrap().to_owned();
            let models = list.get("data").unwrap_or(&list["models"]).as_array().unwrap();
            models.iter().map(of).collect()
        };
        let x = "gpt-\"x\"";
        assert_eq!(names(&read(openai_list(&cards)), "id"), ["gpt-5", x]);
        let anthropic = read(anthropic_list(&cards));
        assert_eq!(
            (names(&anthropic, "id"), &anthropic["first_id"]),
            (vec![x.to_owned()], &json!(x))
        );
        assert_eq!(names(&read(codex_catalog(&cards)), "slug"), [x]);
        let gemini = read(gemini_list(&cards));
        let methods = |at: usize| gemini["models"][at]["supportedGenerationMethods"][0].clone();
        assert_eq!(
            (methods(0), methods(1)),
            (json!("embedContent"), json!("generateContent"))
        );
    }

    #[test]
    fn the_tag_changes_with_the_list() {
        assert_eq!(etag(b""), "\"cbf29ce484222325\"");
        assert_ne!(etag(&openai_list(&cards())), etag(&openai_list(&cards()[..1])));
    }
}
