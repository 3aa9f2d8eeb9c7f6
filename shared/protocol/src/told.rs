//! Where an event tells which model answered: the vendor's own header, repeated in the event's `headers`. Codex reads
//! both places and takes a name that it did not ask for as a re-routing. Knows no aliases.

use std::ops::Range;

use crate::edits::Edits;
use crate::json::{Fault, Walk};

/// The edits that make an event of a socket name `model` wherever its `headers`, or those of its `response`, name one.
/// None when it names none, or is not JSON.
#[must_use]
pub fn tell_model(event: &[u8], model: &str) -> Edits {
    let mut edits = Edits::default();
    if memchr::memmem::find(event, b"\"headers\"").is_none() {
        return edits;
    }
    let told = serde_json::Value::from(model).to_string();
    let all = 0..event.len();
    let responses = named(event, &all, |key| key == "response");
    for object in responses.iter().chain([&all]) {
        for headers in named(event, object, |key| key == "headers") {
            for value in named(event, &headers, is_model) {
                // A header that came several times is an array.
                let with = match event.get(value.start) {
                    Some(b'[') => format!("[{told}]"),
                    Some(b'"') => told.clone(),
                    Some(_) | None => continue,
                };
                edits.replace(value, with);
            }
        }
    }
    edits
}

fn is_model(header: &str) -> bool {
    ["openai-model", "x-openai-model"]
        .iter()
        .any(|name| header.eq_ignore_ascii_case(name))
}

/// Where the values of the members with such a key stand, when what stands at `object` is one.
fn named(event: &[u8], object: &Range<usize>, is_meant: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let inside = event.get(object.clone()).unwrap_or_default();
    let walked = Walk::new(inside).and_then(|walk| {
        walk.members(|member| {
            if is_meant(member.key) {
                found.push(object.start + member.value.start..object.start + member.value.end);
            }
            Ok::<_, Fault>(())
        })
    });
    // Half a document would be edited by halves.
    walked.map_or_else(|_| Vec::new(), |_| found)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::payload::Payload;

    fn told(event: &'static str) -> String {
        let edited =
            tell_model(event.as_bytes(), "my \"own\"").apply(&Payload::new(Bytes::from_static(event.as_bytes())));
        String::from_utf8(edited.as_slice().to_vec()).unwrap()
    }

    #[test]
    fn both_places_name_the_model_and_no_other_byte_moves() {
        for (event, wanted) in [
            (
                r#"{"type":"response.metadata", "headers" : {"OpenAI-Model":"gpt-x","x":"gpt-x"},"model":"gpt-x"}"#,
                r#"{"type":"response.metadata", "headers" : {"OpenAI-Model":"my \"own\"","x":"gpt-x"},"model":"gpt-x"}"#,
            ),
            (
                r#"{"response":{"id":"r","headers":{"x-openai-model":["gpt-x","gpt-y"]},"model":"gpt-x"},"headers":{"openai-model":"gpt-x"}}"#,
                r#"{"response":{"id":"r","headers":{"x-openai-model":["my \"own\""]},"model":"gpt-x"},"headers":{"openai-model":"my \"own\""}}"#,
            ),
        ] {
            assert_eq!(told(event), wanted);
        }
    }

    #[test]
    fn what_names_no_model_is_left_alone() {
        for event in [
            r#"{"type":"response.output_text.delta","delta":"the \"headers\" say {\"openai-model\":\"gpt-x\"}"}"#,
            r#"{"item":{"headers":{"openai-model":"gpt-x"}}}"#,
            r#"{"headers":{"openai-model":null},"response":{"headers":"openai-model"}}"#,
            r#"{"headers":{"openai-model":"gpt-x"}"#,
            r#"["headers",{"openai-model":"gpt-x"}]"#,
        ] {
            assert_eq!(told(event), event);
        }
    }
}
