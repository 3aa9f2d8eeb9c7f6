//! Counts the tokens of a text as the model's own tokenizer does. Knows no wire and no price.
//!
//! A vocabulary is loaded when it is needed first: it takes a tenth of a second and some 30 MB. Together with the
//! counting that is no work for a thread that serves calls.

use std::panic::catch_unwind;

use tiktoken_rs::{
    CoreBPE, cl100k_base_singleton, o200k_base_singleton,
    tokenizer::{Tokenizer, get_tokenizer},
};

/// How many tokens a text has for a model; `None` where the model's tokenizer is not known.
pub(crate) fn count(model: &str, text: &str) -> Option<u64> {
    let tokenizer = get_tokenizer(model)?;
    // It stands in for a report that makes no sense: whatever is wrong with it must not cost the settlement.
    catch_unwind(|| Some(vocabulary(tokenizer)?.encode_ordinary(text).len() as u64)).ok()?
}

fn vocabulary(tokenizer: Tokenizer) -> Option<&'static CoreBPE> {
    match tokenizer {
        Tokenizer::O200kBase | Tokenizer::O200kHarmony => Some(o200k_base_singleton()),
        Tokenizer::Cl100kBase => Some(cl100k_base_singleton()),
        Tokenizer::R50kBase | Tokenizer::P50kBase | Tokenizer::P50kEdit | Tokenizer::Gpt2 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_have_their_known_counts() {
        assert_eq!(count("gpt-5.1-codex", "hello world"), Some(2));
        assert_eq!(count("gpt-4o", "tiktoken is great!"), Some(6));
        assert_eq!(count("gpt-4", "tiktoken is great!"), Some(6));
        assert_eq!(count("gpt-5", ""), Some(0));
        assert_eq!(count("some-other-model", "hello"), None);
        assert!(count("gpt-5", &"a".repeat(4_096)).is_some_and(|tokens| tokens > 100));
    }
}
