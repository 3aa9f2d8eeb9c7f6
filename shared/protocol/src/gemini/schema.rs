//! Schemas: Gemini's own, a relative of OpenAPI's, becomes the JSON schema that every other wire knows; of a JSON schema
//! it is told what Gemini does not enforce.

use serde_json::value::RawValue;

use crate::form::Ordered;
use crate::members::{Field, Invalid};
use crate::turn::Json;

/// A schema of Gemini's as JSON schema, its keys in their order.
///
/// # Errors
/// When it is not what Gemini says it is, or nests without end.
pub(super) fn of_gemini(field: &Field<'_>) -> Result<Json, Invalid> {
    converted(field, 0)
}

/// A schema where Gemini takes JSON schema, and its own words as well: its clients mix both. What is neither stays as it is.
pub(super) fn of_json(field: &Field<'_>) -> Json {
    converted(field, 0).unwrap_or_else(|_| field.json())
}

fn converted(field: &Field<'_>, depth: usize) -> Result<Json, Invalid> {
    if depth > DEEPEST {
        return Err(field.invalid("a schema that is less deep"));
    }
    let mut members = field.members()?;
    let is_nullable = members.flag("nullable")?.unwrap_or(false);
    let mut out = Vec::new();
    for key in members.keys() {
        let Some(value) = members.take(&key) else { continue };
        let key = camel(&key);
        let value = match key.as_str() {
            // The order of properties has no word in JSON schema; that of `properties` stays.
            "propertyOrdering" => continue,
            "type" => match kind(&value, is_nullable)? {
                Some(kind) => kind,
                None => continue,
            },
            "format" if value.text()? == "enum" => continue,
            "items" | "additionalProperties" if value.is_object() => converted(&value, depth + 1)?,
            "anyOf" => list(value.items()?.iter().map(|item| converted(item, depth + 1)))?,
            "properties" => properties(&value, depth)?,
            "enum" if is_nullable => {
                let values = value.items()?;
                list(values.iter().map(|item| Ok(item.json())).chain([Ok(null())]))?
            }
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => whole(&value)?,
            _ => value.json(),
        };
        out.push((key, value));
    }
    Json::of(&Ordered(out)).ok_or_else(|| field.invalid("a schema"))
}

fn properties(field: &Field<'_>, depth: usize) -> Result<Json, Invalid> {
    let mut members = field.members()?;
    let mut out = Vec::new();
    for key in members.keys() {
        if let Some(value) = members.take(&key) {
            out.push((key, converted(&value, depth + 1)?));
        }
    }
    Json::of(&Ordered(out)).ok_or_else(|| field.invalid("an object"))
}

fn list(items: impl Iterator<Item = Result<Json, Invalid>>) -> Result<Json, Invalid> {
    let items = items.collect::<Result<Vec<_>, _>>()?;
    Ok(Json::of(&items).unwrap_or_else(null))
}

fn null() -> Json {
    Json::from(RawValue::NULL)
}

/// `STRING` is `string`, and one that may be missing is `["string","null"]`.
fn kind(field: &Field<'_>, is_nullable: bool) -> Result<Option<Json>, Invalid> {
    if field.is_list() {
        return Ok(Some(field.json()));
    }
    let kind = field.text()?.to_ascii_lowercase();
    Ok(match (kind.as_str(), is_nullable) {
        ("type_unspecified", _) => None,
        (kind, true) => Json::of(&[kind, "null"]),
        (kind, false) => Json::of(&kind),
    })
}

/// Whole numbers of 64 bits are texts where Google writes them.
fn whole(field: &Field<'_>) -> Result<Json, Invalid> {
    let count = if field.is_text() {
        field.text()?.parse().map_err(|_| field.invalid("a whole number"))?
    } else {
        field.count()?
    };
    Ok(Json::of(&count).unwrap_or_else(null))
}

/// `any_of` is `anyOf`: both spellings are taken.
fn camel(key: &str) -> String {
    if !key.contains('_') || key.starts_with('$') {
        return key.to_owned();
    }
    let mut out = String::with_capacity(key.len());
    let mut is_start = false;
    for c in key.chars() {
        match (c, is_start) {
            ('_', _) => is_start = true,
            (c, true) => {
                out.push(c.to_ascii_uppercase());
                is_start = false;
            }
            (c, false) => out.push(c),
        }
    }
    out
}

/// A JSON schema says something that Gemini takes and does not enforce.
/// Source: <https://ai.google.dev/api/generate-content#FIELDS.response_json_schema> (2026-11).
pub(super) fn has_unenforced(schema: &Json) -> bool {
    is_unenforced(&Field::of(schema, ""), 0)
}

fn is_unenforced(field: &Field<'_>, depth: usize) -> bool {
    let Ok(mut members) = field.members() else { return false };
    if depth > DEEPEST {
        return true;
    }
    members.keys().iter().any(|key| {
        let Some(value) = members.take(key) else { return false };
        match key.as_str() {
            "properties" | "$defs" => value.members().is_ok_and(|mut inner| {
                let keys = inner.keys();
                keys.iter()
                    .any(|key| inner.take(key).is_some_and(|value| is_unenforced(&value, depth + 1)))
            }),
            "items" | "additionalProperties" => is_unenforced(&value, depth + 1),
            "anyOf" | "oneOf" | "prefixItems" => value
                .items()
                .is_ok_and(|items| items.iter().any(|item| is_unenforced(item, depth + 1))),
            key => UNENFORCED.contains(&key),
        }
    })
}

const UNENFORCED: [&str; 16] = [
    "pattern",
    "minLength",
    "maxLength",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "const",
    "allOf",
    "not",
    "if",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
];

/// Vendors allow less.
const DEEPEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(text: &str) -> String {
        let json = Json::parse(text).unwrap();
        of_gemini(&Field::of(&json, "s")).unwrap().as_str().to_owned()
    }

    #[test]
    fn a_schema_keeps_its_order_and_speaks_json_schema() {
        assert_eq!(
            convert(
                r#"{"type":"OBJECT","properties":{"z":{"type":"STRING","nullable":true,"enum":["a"]},"a":{"type":"ARRAY",
                "max_items":"5","items":{"any_of":[{"type":"NUMBER"},{"format":"enum","type":"STRING"}]}}},
                "propertyOrdering":["z","a"],"required":["z"]}"#
            ),
            concat!(
                r#"{"type":"object","properties":{"z":{"type":["string","null"],"enum":["a",null]},"a":{"type":"array","#,
                r#""maxItems":5,"items":{"anyOf":[{"type":"number"},{"type":"string"}]}}},"required":["z"]}"#
            )
        );
    }

    #[test]
    fn its_words_are_understood_in_json_schema_too() {
        for (said, wanted) in [
            (
                r#"{"type":"OBJECT","properties":{"a":{"type":"INTEGER"}},"$defs":{"b":{"const":1}}}"#,
                r#"{"type":"object","properties":{"a":{"type":"integer"}},"$defs":{"b":{"const":1}}}"#,
            ),
            (r#"{"type":["string","null"]}"#, r#"{"type":["string","null"]}"#),
            (r#"{"type":7}"#, r#"{"type":7}"#),
            ("true", "true"),
        ] {
            let json = Json::parse(said).unwrap();
            assert_eq!(of_json(&Field::of(&json, "s")).as_str(), wanted);
        }
    }

    #[test]
    fn what_nests_without_end_is_refused() {
        let deep = format!("{}{{}}{}", r#"{"items":"#.repeat(100), "}".repeat(100));
        let json = Json::parse(&deep).unwrap();
        assert!(of_gemini(&Field::of(&json, "s")).is_err());
    }

    #[test]
    fn keywords_that_gemini_does_not_enforce_are_noticed_as_keys_alone() {
        let has = |text: &str| has_unenforced(&Json::parse(text).unwrap());
        assert!(has(r#"{"type":"string","pattern" : "^a"}"#));
        assert!(has(r#"{"items":{"anyOf":[{"not":{}}]}}"#));
        assert!(!has(
            r#"{"type":"object","properties":{"pattern":{"enum":["const"]}},"description":"not"}"#
        ));
    }
}
