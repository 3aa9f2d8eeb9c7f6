//! What a vendor keeps of each account's calls: prompts, whose beginnings are cheap when they come again, and whose
//! reasoning is whose. Knows no connection.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use http::HeaderMap;
use serde_json::Value;

use super::script::{Output, Script, Usage};

/// Caches are kept in blocks of so many tokens, and not for less than eight of them, as OpenAI documents it (2026-11).
const BLOCK: usize = 128;
const LEAST: usize = 1_024;
/// Bytes of JSON that make a token here.
const TOKEN: usize = 4;

/// By credential, as an account is known by.
#[derive(Default)]
pub(super) struct Memory(Mutex<Option<Kept>>);

#[derive(Default)]
struct Kept {
    prompts: HashMap<String, Vec<Vec<u8>>>,
    /// By the answer's id.
    answers: HashMap<String, Answered>,
}

struct Answered {
    credential: String,
    /// All items up to its own.
    items: Vec<u8>,
}

/// A prompt that has been read.
pub(super) struct Read {
    credential: String,
    items: Vec<u8>,
    usage: Usage,
}

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().expect("no holder panics")
    }

    /// From now on prompts are remembered; what was remembered so far is forgotten.
    pub(super) fn begin(&self) {
        *self.kept() = Some(Kept::default());
    }

    /// The caches are gone, as they go in time.
    pub(super) fn cool(&self) {
        if let Some(kept) = &mut *self.kept() {
            kept.prompts.clear();
        }
    }

    /// Reads the prompt of a call to `/responses` and remembers it.
    ///
    /// # Errors
    /// The refusal of reasoning that is another account's.
    pub(super) fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Option<Read>, Box<Script>> {
        let mut memory = self.kept();
        let (Some(kept), Ok(body)) = (&mut *memory, serde_json::from_slice::<Value>(body)) else {
            return Ok(None);
        };
        let Some(input) = body["input"].as_array() else {
            return Ok(None);
        };
        let credential = headers.get("authorization").and_then(|value| value.to_str().ok());
        let credential = credential.unwrap_or_default().to_owned();
        if input.iter().any(|item| kept.is_sealed_by_another(item, &credential)) {
            return Err(Box::new(Script::error(
                400,
                "invalid_request_error",
                Some("invalid_encrypted_content"),
                "The encrypted content could not be verified.",
            )));
        }
        let before = body["previous_response_id"]
            .as_str()
            .and_then(|id| kept.answers.get(id));
        let mut items = before.map(|answered| answered.items.clone()).unwrap_or_default();
        input
            .iter()
            .for_each(|item| items.extend_from_slice(words(item).as_bytes()));
        let mut prompt = format!("{}{}", body["tools"], body["instructions"]).into_bytes();
        prompt.extend_from_slice(&items);
        let seen = kept.prompts.entry(credential.clone()).or_default();
        let known = seen.iter().map(|earlier| shared(earlier, &prompt)).max();
        let cached = known.unwrap_or_default() / TOKEN / BLOCK * BLOCK;
        let usage = Usage {
            input: (prompt.len() / TOKEN) as u64,
            cached: if cached < LEAST { 0 } else { cached as u64 },
            ..Usage::default()
        };
        seen.push(prompt);
        Ok(Some(Read {
            credential,
            items,
            usage,
        }))
    }

    /// Remembers the answer to it: a call may go on from it, and its reasoning is this account's.
    pub(super) fn answered(&self, id: &str, read: Read, output: &[Output]) {
        let Read {
            credential, mut items, ..
        } = read;
        for item in output {
            match item {
                Output::Text(deltas) => items.extend_from_slice(deltas.concat().as_bytes()),
                Output::Call { arguments, .. } => items.extend_from_slice(arguments.as_bytes()),
            }
        }
        if let Some(kept) = &mut *self.kept() {
            kept.answers.insert(id.to_owned(), Answered { credential, items });
        }
    }
}

impl Read {
    /// The same output, for what this prompt counts.
    pub(super) fn count(&self, script: &mut Script) {
        if let Some(usage) = &mut script.usage {
            (usage.input, usage.cached) = (self.usage.input, self.usage.cached);
        }
    }
}

impl Kept {
    /// `render` seals reasoning with the id of its answer.
    fn is_sealed_by_another(&self, item: &Value, credential: &str) -> bool {
        let sealed = item["encrypted_content"].as_str();
        let id = sealed.and_then(|text| text.strip_prefix(SEALED));
        id.and_then(|id| self.answers.get(id))
            .is_some_and(|answered| answered.credential != credential)
    }
}

/// What the model reads of an item: neither its id, nor what a client notes beside it, such as times.
fn words(item: &Value) -> String {
    let mut item = item.clone();
    if let Some(members) = item.as_object_mut() {
        members.retain(|name, _| name != "id" && !name.starts_with("internal_"));
    }
    item.to_string()
}

/// What encrypted reasoning begins with here; the id of its answer follows.
pub(super) const SEALED: &str = "sealed-for-";

/// How many bytes two prompts begin with alike.
fn shared(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
