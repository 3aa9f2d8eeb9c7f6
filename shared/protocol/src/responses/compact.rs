//! `/v1/responses/compact` in the words of `/v1/responses`: what asks for a conversation to be shortened is a call whose
//! last item is that wish, and its answer is what is left of the conversation. Knows no other wire.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{elements, join};
use crate::envelope::EnvelopeError;
use crate::splice::with_members;

/// A conversation that is to be shortened.
pub struct Compact {
    /// What its user said: elements of a list, as they came.
    kept: String,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// As much of an item as tells whether it stays.
#[derive(Deserialize)]
struct Said {
    role: Option<String>,
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    created_at: &'a RawValue,
    #[serde(borrow)]
    output: &'a RawValue,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Compaction<'a> {
    id: &'a RawValue,
    object: &'static str,
    created_at: &'a RawValue,
    output: &'a RawValue,
    usage: Option<&'a RawValue>,
}

impl Compact {
    /// Reads the body of such a call, and writes that of the other one.
    ///
    /// # Errors
    /// It is not what the wire says.
    pub fn read(body: &[u8]) -> Result<(Self, Vec<u8>), EnvelopeError> {
        let wrong = |_| EnvelopeError::Type {
            field: "input",
            expected: "a text or a list of items",
        };
        let asked: Asked<'_> = serde_json::from_slice(body).map_err(wrong)?;
        let mut input = elements(asked.input).into_owned();
        let list = format!("[{input}]");
        let items: Vec<&RawValue> = serde_json::from_str(&list).map_err(wrong)?;
        let mut kept = String::new();
        for item in items {
            if is_of_user(item) {
                join(&mut kept, item.get());
            }
        }
        join(&mut input, r#"{"type":"compaction_trigger"}"#);
        let input = format!("[{input}]");
        let without = ["input", "stream"];
        Ok((Self { kept }, with_members(body, &without, &[("input", &input)])?))
    }

    /// What the answer to the other call is for this one: what the user said, and what stands for the rest. `None` where it
    /// is no answer.
    #[must_use]
    pub fn whole(&self, response: &[u8]) -> Option<Vec<u8>> {
        let response: Answered<'_> = serde_json::from_slice(response).ok()?;
        let mut output = self.kept.clone();
        join(&mut output, &elements(Some(response.output)));
        let output = RawValue::from_string(format!("[{output}]")).ok()?;
        serde_json::to_vec(&Compaction {
            id: response.id,
            object: "response.compaction",
            created_at: response.created_at,
            output: &output,
            usage: response.usage,
        })
        .ok()
    }
}

fn is_of_user(item: &RawValue) -> bool {
    let said = serde_json::from_str::<Said>(item.get());
    said.is_ok_and(|said| said.role.as_deref() == Some("user"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_the_user_said_stays_and_the_rest_is_asked_to_be_shortened() {
        let user = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]});
        let body = json!({"model": "m", "instructions": "Be brief.", "stream": false, "input": [
            {"type": "message", "role": "developer", "content": []}, user,
            {"type": "message", "role": "assistant", "content": []}, {"type": "function_call", "name": "f"}, user,
        ]});
        let (compact, asked) = Compact::read(body.to_string().as_bytes()).unwrap();
        let asked: Value = serde_json::from_slice(&asked).unwrap();
        let input = asked["input"].as_array().unwrap();
        assert_eq!((input.len(), &input[5]), (6, &json!({"type": "compaction_trigger"})));
        assert_eq!((&asked["model"], asked.get("stream")), (&json!("m"), None));

        let item = json!({"type": "compaction", "id": "cmp_1", "encrypted_content": "x"});
        let response = json!({"id": "r", "object": "response", "created_at": 7, "status": "completed", "output": [item],
            "usage": {"input_tokens": 1}});
        let told: Value = serde_json::from_slice(&compact.whole(response.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(
            told,
            json!({"id": "r", "object": "response.compaction", "created_at": 7, "output": [user, user, item],
                "usage": {"input_tokens": 1}})
        );
        assert!(compact.whole(br#"{"error":{}}"#).is_none());
    }

    #[test]
    fn a_text_is_what_the_user_said_and_anything_else_is_refused() {
        let (compact, asked) = Compact::read(br#"{"model":"m","input":"hi"}"#).unwrap();
        let asked: Value = serde_json::from_slice(&asked).unwrap();
        assert_eq!(asked["input"][0], json!({"role": "user", "content": "hi"}));
        assert_eq!(compact.kept, r#"{"role":"user","content":"hi"}"#);
        assert!(Compact::read(br#"{"model":"m","input":[}"#).is_err());
    }
}
