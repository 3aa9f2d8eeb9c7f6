//! The schema of an answer, as far as vendors want it more exact than clients say it. Knows no wire.
//!
//! Source: <https://platform.openai.com/docs/guides/structured-outputs#supported-schemas> and
//! <https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations> (2026-11).

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::members::{Field, Invalid};
use crate::turn::Json;

/// An object whose members keep their order.
pub(crate) struct Ordered(pub(crate) Vec<(String, Json)>);

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The same schema, in which every object that says nothing of other properties has none: OpenAI and Anthropic want that
/// said. A schema that cannot be read stays as it is.
pub(crate) fn closed(schema: &Json) -> Json {
    close(&Field::of(schema, ""), 0).unwrap_or_else(|_| schema.clone())
}

fn close(field: &Field<'_>, depth: usize) -> Result<Json, Invalid> {
    if depth > DEEPEST || !field.is_object() {
        return Ok(field.json());
    }
    let mut members = field.members()?;
    let (mut out, mut is_object, mut says) = (Vec::new(), false, false);
    for key in members.keys() {
        let Some(value) = members.take(&key) else { continue };
        is_object |= key == "properties" || (key == "type" && value.as_str() == r#""object""#);
        says |= key == "additionalProperties";
        let value = match Inner::of(&key) {
            Inner::One => close(&value, depth + 1)?,
            Inner::Named if value.is_object() => {
                let mut inner = value.members()?;
                let mut named = Vec::new();
                for name in inner.keys() {
                    if let Some(value) = inner.take(&name) {
                        named.push((name, close(&value, depth + 1)?));
                    }
                }
                written(&Ordered(named), field)?
            }
            Inner::Listed if value.is_list() => {
                let items = value.items()?;
                let items = items.iter().map(|item| close(item, depth + 1));
                written(&items.collect::<Result<Vec<_>, _>>()?, field)?
            }
            Inner::Named | Inner::Listed | Inner::None => value.json(),
        };
        out.push((key, value));
    }
    if is_object && !says {
        out.push(("additionalProperties".to_owned(), Json::from(RawValue::FALSE)));
    }
    written(&Ordered(out), field)
}

fn written(value: &impl Serialize, field: &Field<'_>) -> Result<Json, Invalid> {
    Json::of(value).ok_or_else(|| field.invalid("a schema"))
}

/// Each object has all its properties and no other: OpenAI enforces no other schema.
pub(crate) fn is_total(schema: &Json) -> bool {
    total(&Field::of(schema, ""), 0).unwrap_or(false)
}

fn total(field: &Field<'_>, depth: usize) -> Result<bool, Invalid> {
    if depth > DEEPEST || !field.is_object() {
        return Ok(field.as_str() == "false");
    }
    let mut members = field.members()?;
    let mut required = Vec::new();
    for name in members.items("required")? {
        required.push(name.text()?);
    }
    for key in members.keys() {
        let Some(value) = members.take(&key) else { continue };
        if key == "additionalProperties" && value.as_str() != "false" {
            return Ok(false);
        }
        let is_total = match Inner::of(&key) {
            Inner::One => total(&value, depth + 1)?,
            Inner::Named => {
                let mut inner = value.members()?;
                let mut are_total = true;
                for name in inner.keys() {
                    let is_there = key != "properties" || required.contains(&name);
                    let Some(value) = inner.take(&name) else { continue };
                    are_total &= is_there && total(&value, depth + 1)?;
                }
                are_total
            }
            Inner::Listed => {
                let mut are_total = true;
                for item in value.items()? {
                    are_total &= total(&item, depth + 1)?;
                }
                are_total
            }
            Inner::None => true,
        };
        if !is_total {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What schemas stand under a keyword.
enum Inner {
    One,
    Named,
    Listed,
    None,
}

impl Inner {
    fn of(keyword: &str) -> Self {
        match keyword {
            "items" | "additionalProperties" | "not" => Self::One,
            "properties" | "$defs" | "definitions" => Self::Named,
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => Self::Listed,
            _ => Self::None,
        }
    }
}

/// Vendors allow less.
const DEEPEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    #[test]
    fn an_object_that_says_nothing_of_other_properties_has_none() {
        for (open, wanted) in [
            (
                r#"{"type":"object","properties":{"z":{"type":"array","items":{"properties":{}}},"a":{"anyOf":[{"type":"object"},{"type":"null"}]}},"required":["z"]}"#,
                r#"{"type":"object","properties":{"z":{"type":"array","items":{"properties":{},"additionalProperties":false}},"a":{"anyOf":[{"type":"object","additionalProperties":false},{"type":"null"}]}},"required":["z"],"additionalProperties":false}"#,
            ),
            (r#"{"$ref":"x","type":"string"}"#, r#"{"$ref":"x","type":"string"}"#),
            (
                r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
                r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
            ),
            ("true", "true"),
        ] {
            assert_eq!(closed(&json(open)).as_str(), wanted);
        }
    }

    #[test]
    fn a_schema_is_total_where_nothing_may_be_left_out() {
        for (schema, wanted) in [
            (
                r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}"#,
                true,
            ),
            (r#"{"type":"object","properties":{"a":{"type":"string"}}}"#, false),
            (r#"{"type":"object","additionalProperties":true}"#, false),
            (r#"{"items":{"anyOf":[{"properties":{"a":{}}}]}}"#, false),
            (
                r#"{"type":"object","properties":{"required":{"enum":["a"]}},"required":["required"],"additionalProperties":false}"#,
                true,
            ),
            (r#"{"type":"object","required":1}"#, false),
        ] {
            assert_eq!(is_total(&json(schema)), wanted, "{schema}");
        }
    }

    #[test]
    fn what_nests_without_end_ends() {
        let deep = json(&format!("{}{{}}{}", r#"{"items":"#.repeat(100), "}".repeat(100)));
        assert_eq!(closed(&deep), deep);
        assert!(!is_total(&deep));
    }
}
